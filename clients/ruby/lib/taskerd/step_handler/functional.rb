# frozen_string_literal: true

module Taskerd
  module StepHandler
    # Handlers made of blocks:
    #
    #     include Taskerd::StepHandler::Functional
    #
    #     LoadCart = step_handler("shop.load_cart", inputs: [:cart_id]) do |cart_id:, context:|
    #       { prices: [3, 4] }
    #     end
    #
    # Each method returns a handler class. A block takes what it names: `context`, the `inputs` and the `depends_on` of its
    # definition; a batch worker's `batch_context`, an API handler's `api`. Leave it early with `next`.
    module Functional
      # What a decision handler returns: `Decision.route(["a"], why: 1)` or `Decision.skip("reason")`.
      class Decision
        attr_reader :type, :steps, :reason, :routing_context

        # Create these steps; the rest joins the result as `routing_context`.
        def self.route(*steps, **routing_context)
          new(:create_steps, steps.flatten, nil, routing_context)
        end

        # Create none.
        def self.skip(reason = nil, **routing_context)
          new(:no_branches, [], reason, routing_context)
        end

        def initialize(type, steps, reason, routing_context)
          @type = type
          @steps = steps
          @reason = reason
          @routing_context = routing_context
        end
      end

      # What a batch analyzer returns.
      class BatchConfig
        attr_reader :total_items, :batch_size, :metadata

        def initialize(total_items:, batch_size:, metadata: {})
          @total_items = total_items
          @batch_size = batch_size
          @metadata = metadata
        end
      end

      # A handler named `name`.
      # @param depends_on [Hash] parameter => name of an earlier step, or `[name, Model]`
      # @param inputs [Array<Symbol>, Class] values of the task's context, or a model of them as `inputs:`
      def step_handler(name, depends_on: {}, inputs: [], version: "1.0.0", &block)
        FunctionalHandler.define(FunctionalHandler, name, depends_on, inputs, version, block)
      end

      # A handler that returns a {Decision}.
      def decision_handler(name, depends_on: {}, inputs: [], version: "1.0.0", &block)
        FunctionalHandler.define(FunctionalDecision, name, depends_on, inputs, version, block)
      end

      # A handler that returns a {BatchConfig}.
      # @param worker_template [String] the template's step of `type: batch_worker`
      def batch_analyzer(name, worker_template:, depends_on: {}, inputs: [], version: "1.0.0", &block)
        FunctionalHandler.define(FunctionalAnalyzer, name, depends_on, inputs, version, block, worker_template: worker_template)
      end

      # A handler of a part of a batch; its block takes `batch_context:`.
      def batch_worker(name, depends_on: {}, inputs: [], version: "1.0.0", **_ignored, &block)
        FunctionalHandler.define(FunctionalWorker, name, depends_on, inputs, version, block)
      end

      # A handler that calls an HTTP service; its block takes `api:`, which has `get`, `post` and so on.
      def api_handler(name, base_url:, depends_on: {}, inputs: [], version: "1.0.0", timeout: nil, open_timeout: nil, headers: {}, &block)
        settings = { url: base_url, timeout: timeout, open_timeout: open_timeout, headers: headers }.compact
        FunctionalHandler.define(FunctionalApi, name, depends_on, inputs, version, block, api: settings)
      end

      # Included into a class or module, also its own methods. At the top level every object gets them.
      def self.included(base)
        super
        base.extend(self) unless base == Object
      end

      # Extended, the names `Decision` and `BatchConfig` can be used bare too.
      def self.extended(base)
        super
        return unless base.is_a?(Module)

        base.const_set(:Decision, Decision) unless base.const_defined?(:Decision, false)
        base.const_set(:BatchConfig, BatchConfig) unless base.const_defined?(:BatchConfig, false)
      end

      extend self
    end

    # A handler made of a block.
    # @api private
    class FunctionalHandler < Base
      Definition = Struct.new(:name, :version, :binding, :settings)

      class << self
        # @return [Definition]
        attr_reader :definition

        def define(kind, name, depends_on, inputs, version, block, **settings)
          raise ArgumentError, "a handler needs a name" unless name.is_a?(String) && !name.empty?
          raise ArgumentError, "handler #{name} needs a block" if block.nil?

          made = Class.new(kind)
          made.instance_variable_set(:@definition, Definition.new(name, version, Binding.new(block, depends_on, inputs), settings))
          made.const_set(:VERSION, version)
          made
        end

        def functional?
          !@definition.nil?
        end

        # @return [String] the name that templates use
        def handler_name
          @definition&.name
        end
      end

      def initialize(config: {}, logger: nil)
        @given = config
        @logger = logger
      end

      def config
        @config ||= Taskerd.indifferent(@given || {})
      end

      def handler_name
        self.class.handler_name
      end

      def call(context)
        definition = self.class.definition
        wrap(definition.binding.call(context, extras(context)))
      end

      private

      # Further arguments of the block.
      def extras(_context)
        nil
      end

      # What the block returned, as a result.
      def wrap(value)
        case value
        when Hash then Types::StepHandlerCallResult::Success.new(result: value)
        when Types::StepHandlerCallResult::Success, Types::StepHandlerCallResult::Error, Types::StepHandlerCallResult::CheckpointYield then value
        when nil then Types::StepHandlerCallResult::Success.new(result: {})
        else Types::StepHandlerCallResult::Success.new(result: plain(value))
        end
      end

      # Models become maps; what is no map stands under `result`.
      def plain(value)
        return value.to_h if value.respond_to?(:to_h) && !value.is_a?(Array) && !(value.is_a?(Enumerable) && !value.is_a?(Struct))

        { result: value }
      end
    end

    # @api private
    class FunctionalDecision < FunctionalHandler
      include Mixins::Decision

      private

      def wrap(value)
        return super unless value.is_a?(Functional::Decision)

        data = {}
        data[:routing_context] = value.routing_context unless value.routing_context.empty?
        return decision_success(steps: value.steps, result_data: data) if value.type == :create_steps

        data[:reason] = value.reason unless value.reason.nil?
        decision_no_branches(result_data: data)
      end
    end

    # @api private
    class FunctionalAnalyzer < FunctionalHandler
      include Mixins::Batchable

      private

      def wrap(value)
        return super unless value.is_a?(Functional::BatchConfig)

        total = value.total_items
        size = value.batch_size
        raise ArgumentError, "batch_size must be positive" unless size.is_a?(Integer) && size.positive?
        return no_batches_outcome(reason: "empty_dataset", metadata: value.metadata) unless total.positive?

        create_batches_outcome(worker_template_name: self.class.definition.settings[:worker_template], total_items: total,
                               cursor_configs: create_cursor_configs(total, (total + size - 1) / size), metadata: value.metadata)
      end
    end

    # @api private
    class FunctionalWorker < FunctionalHandler
      include Mixins::Batchable

      private

      def extras(context)
        { batch_context: get_batch_context(context) }
      end
    end

    autoload :FunctionalApi, File.expand_path("functional_api", __dir__)

    # The arguments of a block.
    # @api private
    class Binding
      def initialize(block, depends_on, inputs)
        @block = block
        @depends = depends_on.map { |name, spec| [name.to_sym, *dependency(spec)] }
        @model = inputs.is_a?(Module) ? inputs : nil
        @inputs = @model ? [] : Array(inputs).map(&:to_sym)
        look_at(block.parameters)
      end

      # @return [Array(String, Integer)] file and line of the block
      def source_location
        @block.source_location
      end

      # Call the block. A `return` in it is taken for `next`.
      def call(context, extras)
        return @block.call(context) if @positional
        return @block.call if @takes_none

        @block.call(**arguments(context, extras))
      rescue LocalJumpError => e
        raise unless e.reason == :return

        e.exit_value
      end

      private

      def look_at(parameters)
        named = parameters.select { |kind, _| %i[key keyreq].include?(kind) }.map(&:last)
        @all = parameters.any? { |kind, _| kind == :keyrest }
        @names = named.to_h { |name| [name, true] }
        @takes_none = !@all && named.empty?
        @positional = @takes_none && parameters.any? { |kind, _| %i[req opt].include?(kind) }
      end

      def dependency(spec)
        step, model = spec.is_a?(Array) ? spec : [spec, nil]
        raise ArgumentError, "depends_on takes the name of a step, or [name, Model]" unless step.is_a?(String) || step.is_a?(Symbol)

        [step.to_s, model]
      end

      def arguments(context, extras)
        found = {}
        @depends.each { |name, step, model| give(found, name) { built(model, context.get_dependency_result(step)) } }
        @inputs.each { |name| give(found, name) { context.get_input(name) } }
        give(found, :inputs) { typed_inputs(context) } if @model
        extras&.each { |name, value| give(found, name) { value } }
        give(found, :context) { context }
        found
      end

      def give(found, name)
        found[name] = yield if @all || @names.key?(name)
      end

      # A Hash as a model; anything else as it is.
      def built(model, value)
        return value unless model && value.is_a?(Hash)

        make(model, attributes(model, value))
      end

      # A Struct may take its values by position.
      def make(model, values)
        by_position = model < Struct && !model.keyword_init?
        by_position ? model.new(*model.members.map { |name| values[name] }) : model.new(**values)
      end

      def typed_inputs(context)
        made = make(@model, attributes(@model, context.context).compact)
        made.validate! if made.respond_to?(:validate!)
        made
      end

      # The values of a model's attributes, as keywords.
      def attributes(model, hash)
        given = hash.to_h.transform_keys(&:to_sym)
        names = attribute_names(model)
        names ? given.slice(*names) : given
      end

      def attribute_names(model)
        found = %i[attribute_names members].find { |name| model.respond_to?(name) }
        return model.public_send(found).map(&:to_sym) if found

        parameters = model.instance_method(:initialize).parameters
        return nil if parameters.any? { |kind, _| kind == :keyrest }

        parameters.select { |kind, _| %i[key keyreq].include?(kind) }.map(&:last)
      end
    end
  end
end

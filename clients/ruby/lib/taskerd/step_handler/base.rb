# frozen_string_literal: true

module Taskerd
  module StepHandler
    # Base of handlers: implement {#call}. Each attempt gets an instance of its own.
    class Base
      # Version of the handler; a subclass may define its own.
      VERSION = "1.0.0"

      # @return [Hash] the template's `initialization`
      attr_reader :config

      class << self
        # Handler classes in the order of their definition.
        # @api private
        def known
          Base.instance_variable_get(:@known)
        end

        def inherited(subclass)
          super
          Base.known << subclass
        end

        # @return [Boolean] true for a handler made of a block
        def functional?
          false
        end

        # The names under which a template may know the class, the most telling first.
        def callables
          names = [name]
          names << Handlers.own_name(self)
          names.compact.uniq
        end
      end
      @known = []

      def initialize(config: {}, logger: nil)
        @config = Taskerd.indifferent(config || {})
        @logger = logger
      end

      # Run the step. What it returns is the step's result: a Hash, or one of {#success}, {#failure}.
      # @param context [Types::StepContext]
      def call(_context)
        raise NotImplementedError, "#{self.class} has no method call"
      end

      def logger
        @logger ||= Taskerd::Logger.instance
      end

      # @return [String] the class's name in snake case
      def handler_name
        Handlers.snake_case(self.class.name.to_s.split("::").last.to_s)
      end

      def version
        self.class::VERSION
      end

      def capabilities
        ["process"]
      end

      def config_schema
        { type: "object", properties: {}, additionalProperties: true }
      end

      def metadata
        { handler_name: handler_name, handler_class: self.class.name, version: version, capabilities: capabilities, language: "ruby" }
      end

      # @return [Boolean] true if the configuration is usable
      def validate_config(config = @config)
        config.is_a?(Hash)
      end

      # The step is done.
      # @param result what later steps see; `result_data` is the same
      def success(result: nil, result_data: nil, metadata: {})
        value = result.nil? ? result_data : result
        raise ArgumentError, "success needs result:" if value.nil?

        Types::StepHandlerCallResult.success(result: value, metadata: metadata)
      end

      # The attempt failed. Note that `retryable` is false unless it is given.
      # @param retry_after [Numeric, nil] seconds before the next attempt
      def failure(message:, error_type: Types::ErrorTypes::UNEXPECTED_ERROR, error_code: nil, retryable: false, metadata: {}, retry_after: nil)
        Types::StepHandlerCallResult.error(error_type: error_type, message: message, error_code: error_code, retryable: retryable,
                                           metadata: metadata, retry_after: retry_after)
      end
    end
  end

  # Names of handler classes, and making instances of them.
  module Handlers
    module_function

    # `ValidateOrderHandler` as `validate_order_handler`.
    def snake_case(name)
      name.gsub(/([A-Z\d]+)([A-Z][a-z])/, '\1_\2').gsub(/([a-z\d])([A-Z])/, '\1_\2').tr("-", "_").downcase
    end

    # The `handler_name` that a class has of its own, nil if it has the default.
    def own_name(klass)
      return klass.handler_name.to_s if klass.respond_to?(:handler_name)
      return nil if klass.instance_method(:handler_name).owner == StepHandler::Base

      name = klass.allocate.handler_name
      name.is_a?(String) && !name.empty? ? name : nil
    rescue StandardError # a name that needs an instance that is set up
      begin
        build(klass, {}).handler_name
      rescue StandardError
        nil
      end
    end

    # A new instance. Constructors of handlers take `config:`, one argument, or none.
    def build(klass, config)
      return klass.new(config: config) if klass.respond_to?(:functional?) && klass.functional?

      how = (@constructors ||= {}.compare_by_identity)[klass] ||= constructor(klass)
      given = Taskerd.indifferent(config || {})
      case how
      when :config then klass.new(config: given)
      when :positional then klass.new(given)
      else klass.new.tap { |made| made.instance_variable_set(:@config, given) unless made.instance_variable_get(:@config) }
      end
    end

    def constructor(klass)
      parameters = klass.instance_method(:initialize).parameters
      return :config if parameters.any? { |kind, name| kind == :keyrest || (%i[key keyreq].include?(kind) && name == :config) }
      return :positional if parameters.any? { |kind, _| %i[req opt].include?(kind) }
      return :config if parameters == [[:rest]] || parameters == [[:rest, :*], [:block, :&]]

      :none
    end

    # Call a handler's method with as much of the step as it takes: the context, or `task, sequence, step`.
    def invoke(handler, name, context)
      method = handler.method(name)
      return method.call(context) unless method.arity == 3

      method.call(context.task, context.dependency_results, context.workflow_step)
    end
  end
end

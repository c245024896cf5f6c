# frozen_string_literal: true

module Taskerd
  module Registry
    # A handler definition leads to no handler.
    class ResolutionError < Errors::ConfigurationError; end
    # A template names a resolver that does not exist.
    class ResolverNotFoundError < ResolutionError; end
    # No resolver knows a definition.
    class NoResolverMatchError < ResolutionError; end
    # A handler lacks the method that a template names.
    class MethodDispatchError < ResolutionError; end

    # A handler whose `call` runs another of its methods.
    class MethodDispatchWrapper
      attr_reader :handler, :target_method

      def initialize(handler, target_method)
        @handler = handler
        @target_method = target_method.to_sym
        return if handler.respond_to?(@target_method)

        raise MethodDispatchError, "#{handler.class} has no method #{target_method}"
      end

      def call(context)
        Handlers.invoke(@handler, @target_method, context)
      end

      # @return [StepHandler::Base] the wrapped handler
      def unwrap
        @handler
      end

      def respond_to_missing?(name, all = false)
        @handler.respond_to?(name, all)
      end

      def method_missing(name, ...)
        @handler.respond_to?(name) ? @handler.public_send(name, ...) : super
      end
    end

    # Ways to find handlers.
    module Resolvers
      MethodDispatchWrapper = Registry::MethodDispatchWrapper
      ResolutionError = Registry::ResolutionError
      ResolverNotFoundError = Registry::ResolverNotFoundError

      # One way to find handlers. Lower priority is asked first.
      class BaseResolver
        # @return [String] what templates call the resolver in `handler.resolver`
        def name
          raise NotImplementedError, "#{self.class} has no method name"
        end

        # @return [Integer] place in the chain
        def priority
          100
        end

        # @return [Boolean] true if {#resolve} would find a handler
        def can_resolve?(_definition, _config = {})
          raise NotImplementedError, "#{self.class} has no method can_resolve?"
        end

        # @return [StepHandler::Base, Class, nil] the handler of a definition, or its class
        def resolve(_definition, _config = {})
          raise NotImplementedError, "#{self.class} has no method resolve"
        end

        # @return [Array<String>] names that the resolver knows beforehand
        def registered_callables
          []
        end
      end

      # Names registered by hand or by discovery. An entry is a class, an instance, or something with `call` that makes one.
      class ExplicitMappingResolver < BaseResolver
        def initialize(_name = nil)
          super()
          @entries = {}
        end

        def name
          "explicit_mapping"
        end

        def priority
          10
        end

        # Add or replace an entry.
        def register(key, handler)
          @entries[key.to_s] = handler
        end

        # Remove an entry; false if there was none.
        def unregister(key)
          !@entries.delete(key.to_s).nil?
        end

        # What is registered under a name.
        def entry(key)
          @entries[key]
        end

        def registered?(key)
          @entries.key?(key.to_s)
        end

        def clear
          @entries.clear
        end

        def registered_callables
          @entries.keys
        end

        def can_resolve?(definition, _config = {})
          @entries.key?(definition.callable)
        end

        def resolve(definition, _config = {})
          entry = @entries[definition.callable]
          entry && Registry.instance_of(entry, definition)
        end
      end

      # Names of classes: `Shop::ShipHandler`, or the end of one if only one class ends so.
      class ClassConstantResolver < BaseResolver
        NAME = /\A[A-Z]\w*(::[A-Z]\w*)*\z/.freeze

        def name
          "class_constant"
        end

        def priority
          100
        end

        # @return [Class, nil] the handler class of a name
        def find(callable)
          return nil unless NAME.match?(callable)

          found = constant(callable)
          return found if handler?(found)

          ending = StepHandler::Base.known.select { |k| k.name&.end_with?("::#{callable}") }.uniq
          ending.size == 1 ? ending.first : nil
        end

        def can_resolve?(definition, _config = {})
          !find(definition.callable).nil?
        end

        def resolve(definition, _config = {})
          found = find(definition.callable)
          found && Registry.instance_of(found, definition)
        end

        private

        # Each part in the one before: a name such as Shop::String does not mean ::String.
        def constant(callable)
          callable.split("::").inject(Object) do |inside, part|
            return nil unless inside.is_a?(Module) && inside.const_defined?(part, inside == Object)

            inside.const_get(part, inside == Object)
          end
        rescue LoadError, NameError
          nil
        end

        def handler?(found)
          found.is_a?(Class) && (found <= StepHandler::Base || found.method_defined?(:call))
        end
      end

      # Base for resolvers of one's own:
      #
      #     class Payments < Taskerd::Registry::Resolvers::RegistryResolver
      #       resolver_name "payments"
      #       handles_prefix "payments:"
      #       register_handler "payments:stripe", StripeHandler
      #     end
      #
      # Those that have no handler registered for a name implement `resolve_handler(definition, config)`.
      class RegistryResolver < BaseResolver
        class << self
          attr_reader :pattern, :prefix

          def inherited(subclass)
            super
            subclass.instance_variable_set(:@entries, {})
          end

          # Callables that match are this resolver's.
          def handles_pattern(pattern)
            @pattern = pattern
          end

          # Callables that begin so are this resolver's.
          def handles_prefix(prefix)
            @prefix = prefix
          end

          # The handler of one callable.
          def register_handler(key, handler)
            entries[key.to_s] = handler
          end

          # Set the place in the chain; without a number, get it.
          def priority_value(number = nil)
            @priority = number unless number.nil?
            @priority || (superclass.respond_to?(:priority_value) ? superclass.priority_value : 50)
          end

          # Set the name; without one, get it.
          def resolver_name(name = nil)
            @resolver_name = name.to_s unless name.nil?
            @resolver_name || Handlers.snake_case(self.name.to_s.split("::").last.to_s)
          end

          # @return [Hash] registered handlers by callable
          def entries
            @entries ||= {}
          end
        end

        def name
          self.class.resolver_name
        end

        def priority
          self.class.priority_value || 50
        end

        def can_resolve?(definition, _config = {})
          called = definition.callable
          return true if self.class.entries.key?(called)
          return true if self.class.prefix && called.start_with?(self.class.prefix)

          !self.class.pattern.nil? && self.class.pattern.match?(called)
        end

        def resolve(definition, config = {})
          entry = self.class.entries[definition.callable]
          entry ? Registry.instance_of(entry, definition) : resolve_handler(definition, config)
        end

        # @return [StepHandler::Base, Class, nil] for callables that no handler is registered for
        def resolve_handler(_definition, _config = {})
          nil
        end

        def registered_callables
          self.class.entries.keys
        end
      end
    end

    # A handler to run one attempt with: a new instance of a class, what a factory makes, or the registered instance.
    def self.instance_of(entry, definition)
      case entry
      when nil then nil
      when Class then Handlers.build(entry, definition.initialization)
      when Proc, Method then made_by(entry, definition)
      else
        return entry if entry.respond_to?(:call) || entry.respond_to?(definition.effective_method)

        raise ResolutionError, "#{entry.inspect} is no handler"
      end
    end

    def self.made_by(factory, definition)
      made = factory.arity.zero? ? factory.call : factory.call(definition.initialization)
      raise ResolutionError, "the factory of #{definition.callable} made no handler" if made.nil? || made.is_a?(Proc)

      instance_of(made, definition)
    end
    private_class_method :made_by
  end
end

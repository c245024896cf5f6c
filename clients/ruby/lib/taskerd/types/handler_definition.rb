# frozen_string_literal: true

module Taskerd
  module Types
    # The `handler` entry of a template's step.
    class HandlerDefinition
      attr_reader :callable, :handler_method, :resolver, :initialization

      class << self
        # A definition with nothing but the name.
        def from_callable(name)
          new(callable: name)
        end

        # From the template's map, where the method stands under `method`.
        def from_hash(hash)
          found = hash.transform_keys(&:to_s)
          new(callable: found["callable"].to_s, handler_method: found["handler_method"] || found["method"], resolver: found["resolver"],
              initialization: found["initialization"] || {})
        end

        # From a name, a map, a definition or a HandlerWrapper.
        def of(spec)
          case spec
          when HandlerDefinition then spec
          when String, Symbol then from_callable(spec.to_s)
          when Hash then from_hash(spec)
          else
            new(callable: spec.callable.to_s, handler_method: spec.handler_method, resolver: spec.resolver,
                initialization: spec.initialization || {})
          end
        end
      end

      def initialize(callable:, handler_method: nil, resolver: nil, initialization: {}, method: nil)
        @callable = callable
        @handler_method = Types.presence(handler_method || method)
        @resolver = Types.presence(resolver)
        @initialization = initialization || {}
      end

      # @return [String] the method that runs the step
      def effective_method
        handler_method || "call"
      end

      # @return [Boolean] true if another method than `call` runs the step
      def uses_method_dispatch?
        effective_method != "call"
      end

      # @return [Boolean] true if the template names a resolver
      def has_resolver_hint?
        !resolver.nil?
      end

      def to_h
        { callable: callable, handler_method: handler_method, resolver: resolver, initialization: initialization }
      end
    end

    # @return [String, nil] nil for an empty text
    def self.presence(text)
      text.nil? || text.to_s.empty? ? nil : text.to_s
    end
  end
end

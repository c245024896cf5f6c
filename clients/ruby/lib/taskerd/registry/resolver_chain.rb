# frozen_string_literal: true

module Taskerd
  module Registry
    # Resolvers by priority; the first that knows a definition wins.
    class ResolverChain
      ResolverNotFoundError = Registry::ResolverNotFoundError
      ResolutionError = Registry::ResolutionError

      # @return [Resolvers::ExplicitMappingResolver, nil] the explicit mapping while no other resolver comes before it; the short
      #   way for most steps
      attr_reader :first_mapping

      # @return [ResolverChain] of explicit mapping and class constants
      def self.default
        new.add_resolver(Resolvers::ExplicitMappingResolver.new).add_resolver(Resolvers::ClassConstantResolver.new)
      end

      def initialize
        @resolvers = []
        @first_mapping = nil
      end

      # Add a resolver; one of the same name is replaced.
      def add_resolver(resolver)
        resolver = resolver.new if resolver.is_a?(Class)
        set([*@resolvers.reject { |r| r.name == resolver.name }, resolver].sort_by.with_index { |r, i| [r.priority, i] })
        self
      end

      # Remove a resolver; false if there was none.
      def remove_resolver(name)
        kept = @resolvers.reject { |r| r.name == name.to_s }
        removed = kept.size < @resolvers.size
        set(kept)
        removed
      end

      def get_resolver(name)
        @resolvers.find { |r| r.name == name.to_s }
      end
      alias resolver get_resolver

      # @return [Array<String>] names, in the order they are asked
      def list_resolvers
        @resolvers.map(&:name)
      end

      attr_reader :resolvers

      # @return [Array<Hash>] name, priority and known callables of each resolver
      def chain_info
        @resolvers.map { |r| { name: r.name, priority: r.priority, callables: Array(known_by(r)) } }
      end

      # Register a handler with the explicit mapping.
      def register(name, handler)
        explicit.register(name, handler)
      end

      def explicit
        get_resolver("explicit_mapping") || raise(ResolutionError, "the chain has no explicit mapping")
      end

      # @return [Array<String>] every name known beforehand
      def registered_callables
        @resolvers.flat_map { |r| Array(known_by(r)) }.uniq.sort
      end

      # @return [Boolean] true if {#resolve} would find a handler (its method aside)
      def can_resolve?(definition, config = {})
        definition = Types::HandlerDefinition.of(definition)
        candidates(definition).any? { |r| r.can_resolve?(definition, config) }
      rescue ResolverNotFoundError
        false
      end
      alias can_resolve can_resolve?

      # A handler for one attempt, nil if no resolver knows the definition. ResolverNotFoundError if it names an unknown
      # resolver, MethodDispatchError if the handler lacks the method.
      def resolve(definition, config = {})
        definition = Types::HandlerDefinition.of(definition)
        candidates(definition).each do |resolver|
          next unless resolver.can_resolve?(definition, config)

          handler = Registry.instance_of(resolver.resolve(definition, config), definition)
          return wrap(handler, definition) if handler
        end
        nil
      end

      # The handler with the template's method as its `call`.
      def wrap(handler, definition)
        return handler if !definition.uses_method_dispatch? || handler.is_a?(MethodDispatchWrapper)

        MethodDispatchWrapper.new(handler, definition.effective_method)
      end
      alias wrap_for_method_dispatch wrap

      private

      def known_by(resolver)
        resolver.respond_to?(:registered_callables) ? resolver.registered_callables : []
      end

      def candidates(definition)
        return @resolvers unless definition.has_resolver_hint?

        [get_resolver(definition.resolver) || raise(ResolverNotFoundError, "no resolver #{definition.resolver}")]
      end

      def set(resolvers)
        @resolvers = resolvers
        first = resolvers.first
        @first_mapping = first.instance_of?(Resolvers::ExplicitMappingResolver) ? first : nil
      end
    end
  end
end

# frozen_string_literal: true

module Taskerd
  module Registry
    # The handlers that this process offers. {.instance} is the one that workers use unless they are given another.
    class HandlerRegistry
      @lock = Mutex.new

      class << self
        # @return [HandlerRegistry] the registry of the process
        def instance
          @lock.synchronize { @instance ||= new }
        end

        # Forget the registry of the process.
        def reset_instance!
          @lock.synchronize { @instance = nil }
        end
      end

      # @return [ResolverChain]
      attr_reader :resolver_chain
      # @return [Array<Loading::Failure>] files of handlers that could not be loaded
      attr_reader :load_failures
      # @return [Hash] `template_path` and `files` of the templates that were looked at
      attr_accessor :template_discovery_info
      # @return [Proc, nil] called when a handler was registered; a worker that runs offers it then
      # @api private
      attr_accessor :on_change

      def initialize
        @resolver_chain = ResolverChain.default
        @load_failures = []
        @template_discovery_info = { template_path: nil, files: [] }
      end

      # Offer a handler under a name; another one of that name is replaced.
      # @param handler [Class, StepHandler::Base, Proc] a class, an instance, or what makes one
      def register(name, handler)
        usable = handler.is_a?(Class) ? handler.method_defined?(:call) || handler <= StepHandler::Base : handler.respond_to?(:call)
        raise ArgumentError, "#{handler.inspect} is no handler" unless usable

        @resolver_chain.register(name, handler)
        @on_change&.call
        true
      end
      alias register_handler register

      # Offer a class under every name that templates may know it by.
      def register_class(klass)
        klass.callables.each do |name|
          first = @resolver_chain.explicit.entry(name)
          note_second(name, first, klass) if first.is_a?(Class) && first != klass
          register(name, klass)
        end
      end

      # Stop offering a name; false if it was not offered.
      def unregister(name)
        @resolver_chain.explicit.unregister(name)
      end

      # What is registered under a name, if that decides alone (no resolver comes before it).
      # @api private
      def entry(name)
        @resolver_chain.first_mapping&.entry(name)
      end

      # A handler for a name, a HandlerDefinition, a HandlerWrapper or a template's map; nil if there is none.
      def resolve(spec)
        @resolver_chain.resolve(Types::HandlerDefinition.of(spec))
      rescue ResolutionError => e
        Taskerd::Logger.instance.error("handler #{spec.inspect} cannot be resolved: #{e.message}")
        nil
      end
      alias resolve_handler resolve

      # @return [Boolean] true if a handler is found under the name
      def is_registered(name)
        @resolver_chain.can_resolve?(Types::HandlerDefinition.of(name))
      end
      alias handler_available? is_registered
      alias registered? is_registered

      # @return [Class, nil] the class behind a name
      def get_handler_class(name)
        found = @resolver_chain.explicit.entry(name.to_s)
        found.is_a?(Class) ? found : resolve(name)&.class
      end

      # @return [Array<String>] the registered names
      def list_handlers
        @resolver_chain.explicit.registered_callables.sort
      end
      alias registered_handlers list_handlers

      # @return [Hash] what is registered, by name
      def handlers
        list_handlers.to_h { |name| [name, @resolver_chain.explicit.entry(name)] }
      end

      def handler_count
        list_handlers.size
      end

      def clear
        @resolver_chain.explicit.clear
      end
      alias clear! clear

      def add_resolver(resolver)
        @resolver_chain.add_resolver(resolver)
      end

      # Every name that a worker announces: the registered ones, those that resolvers know, and those of `callables` (from
      # templates) that some resolver can serve, whichever the template asks for: one that there is not is an error of the step.
      # @param callables [Array<String, Hash>] names, or handler entries of templates
      def offered(callables = [])
        served = callables.map { |spec| Types::HandlerDefinition.of(spec).callable }.uniq.select { |name| is_registered(name) }
        (@resolver_chain.registered_callables | served).sort
      end

      # @return [Boolean] true if a resolver may know names that it does not list
      def open_ended?
        @resolver_chain.resolvers.any? { |r| !r.is_a?(Resolvers::ExplicitMappingResolver) && !r.is_a?(Resolvers::ClassConstantResolver) }
      end

      # Load a file, a directory or a feature and register the handlers found in it. Returns how many. A file that cannot be
      # loaded is logged and kept in {#load_failures}, the others go on; only one that does not exist is an error.
      def discover_handlers(place)
        found = Loading.load(place, @load_failures)
        found.each { |klass| register_class(klass) }
        found.size
      end

      # Load the handlers that template files name and that are not there yet, from the places where applications keep them.
      # @return [Integer] how many were found
      def bootstrap_handlers(directory = TemplateDiscovery::TemplatePath.find_template_config_directory)
        files = directory ? TemplateDiscovery::TemplatePath.files(directory) : []
        @template_discovery_info = { template_path: directory && directory.to_s, files: files }
        files.flat_map { |file| TemplateDiscovery::TemplateParser.extract_handler_callables(file) }.uniq.count { |name| find(name) }
      end

      # Register the handler of a callable wherever it is; false if it is nowhere.
      def find(callable)
        return true if is_registered(callable)

        file = Loading.file_of(callable)
        return false if file.nil?

        Loading.load(file, @load_failures).each { |klass| register_class(klass) }
        is_registered(callable)
      end

      private

      def note_second(name, *classes)
        places = classes.map { |klass| [klass.name || klass.inspect, klass.name && Object.const_source_location(klass.name)&.join(":")].compact.join(" at ") }
        Taskerd::Logger.instance.warn("two handlers are called #{name}: #{places.join(" and ")}; the second is used")
      end
    end
  end
end

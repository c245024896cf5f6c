# frozen_string_literal: true

module Taskerd
  module Worker
    # The worker of a process that is nothing but a worker, set up by the environment: handlers from `RUBY_HANDLER_PATH` and from
    # where applications keep them, templates from `TASKER_TEMPLATE_PATH`, the namespace from `TASKER_NAMESPACE`.
    class Bootstrap
      @lock = Monitor.new # files that are loaded on the way may ask for the instance

      class << self
        # Start the worker in the background. SIGINT and SIGTERM drain it. A second start returns the running one.
        # @param options see {Service#initialize}; `handlers` are files or directories to load
        # @return [Bootstrap]
        def start!(_config = nil, **options)
          @lock.synchronize do
            return @instance if @instance&.running?

            @instance = new(**options).succeed(@instance)
            @instance.start
          end
        end

        # @return [Bootstrap] the one that was started, or one that tells that none was, and keeps what `on_shutdown` gets for the one that will be
        def instance
          @instance || @lock.synchronize { @instance ||= new }
        end

        # @return [Boolean]
        def running?
          @instance&.running? || false
        end

        # Stop and forget the worker of this process.
        def reset!
          found = @lock.synchronize { @instance.tap { @instance = nil } }
          found&.shutdown!
        end
      end

      # @return [Service]
      attr_reader :service

      def initialize(handlers: nil, registry: nil, traps: true, worker_id: nil, namespace: nil, **options)
        @places = Array(handlers || ENV.fetch("RUBY_HANDLER_PATH", "").split(":")).reject(&:empty?)
        @traps = traps
        @at_shutdown = []
        named = namespace || Types.presence(ENV["TASKER_NAMESPACE"])
        options[:namespaces] ||= [named] if named && !%w[default *].include?(named)
        options[:name] ||= worker_id if worker_id
        options[:connect_timeout] = 30.0 unless options.key?(:connect_timeout)
        @service = Service.new(registry, **options.slice(*Service.instance_method(:initialize).parameters.map(&:last)))
      end

      # @api private
      def succeed(former)
        @at_shutdown.concat(former.at_shutdown) if former
        self
      end

      # @api private
      def start
        registry = @service.registry
        @places.each { |place| registry.discover_handlers(place) }
        register_known(registry)
        registry.bootstrap_handlers
        install_traps if @traps
        @service.grow
        @service.launch
        DomainEvents.start(@service.socket, @service.namespaces) unless Taskerd.autoload?(:DomainEvents)
        self
      end

      def running?
        @service.running?
      end

      # @return [Hash] where the worker stands
      def status
        { **@service.status, worker_core_status: @service.state, ruby: { handlers: @service.registry.list_handlers } }
      end

      # @return [Hash] `healthy`, `status` and more
      def health_check
        status = @service.status
        healthy = status[:running] && status[:connected]
        { healthy: healthy, status: healthy ? "healthy" : "unhealthy", rust: { connected: status[:connected], worker_core_status: status[:worker_core_status] },
          ruby: { running: status[:running], handlers: status[:handlers].size, error: status[:error] } }
      end

      # Have a block called when the worker has stopped.
      def on_shutdown(&block)
        @at_shutdown << block
      end

      # Let running steps finish, and end. Waits for it.
      def shutdown!(timeout = nil)
        done = @service.stop(timeout)
        DomainEvents::SubscriberRegistry.instance.stop_all! if Taskerd.autoload?(:DomainEvents).nil?
        callbacks, @at_shutdown = @at_shutdown, []
        callbacks.each(&:call)
        done
      end

      # Wait until the worker has ended.
      def wait(timeout = nil)
        @service.wait(timeout)
      end

      protected

      attr_reader :at_shutdown

      private

      # Handlers that the program has loaded itself.
      def register_known(registry)
        Loading.handlers_in(StepHandler::Base.known).each do |klass|
          klass.callables.each { |name| registry.register(name, klass) unless registry.resolver_chain.explicit.registered?(name) }
        end
      end

      # A thread for what a signal handler may not do.
      def install_traps
        %w[INT TERM].each do |signal|
          trap(signal) do
            @service.drain
            Thread.new { shutdown! }
          end
        end
      end
    end
  end
end

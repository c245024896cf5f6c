# frozen_string_literal: true

require "socket"
require_relative "runtime"
require_relative "signals"

module Taskerd
  module Worker
    # A worker: offers this process's handlers to the daemon and runs the steps it sends.
    #
    # {Worker.start} runs one in the background of an application; {#run} takes over the main thread until a signal ends it.
    class Service
      DEFAULT_THREADS = 10

      # @return [Registry::HandlerRegistry]
      attr_reader :registry
      attr_reader :socket, :threads, :prefetch, :name, :namespaces
      # Called once, when the first connection stands.
      attr_accessor :on_connected
      # @return [Boolean, nil] true in one of several processes: another looks after it
      attr_accessor :supervised

      # @param registry [Registry::HandlerRegistry] the handlers; default: those of the process
      # @param socket [String] the daemon's socket; see {Taskerd.socket_path} for where it is looked for
      # @param threads [Integer] handlers that run at a time
      # @param prefetch [Integer] steps held ready beyond those, default as many as threads. More raises the throughput of short
      #   handlers; a step that waits here behind a long handler cannot run elsewhere meanwhile, and its `timeout_seconds` runs.
      # @param name [String] what people see in lists of workers; default is host and process id
      # @param namespaces [Array<String>] namespaces to serve; default all
      # @param templates [String] directory (or file) whose templates are registered at the start; default is what
      #   TASKER_TEMPLATE_PATH says, if set
      # @param connect_timeout [Numeric] seconds to wait for the daemon at the start; nil: for ever
      # @param ack_timeout [Numeric] seconds to wait, while stopping without a connection, for a chance to deliver results
      # @param abandon_after [Numeric] seconds that a handler has to return after its step was cancelled (it timed out, say). Then
      #   its thread is ended and another one takes its place, so that a handler that hangs costs only its own attempt. nil: for ever
      # @param log_level [String] lines that handlers log from this level on go to the daemon's log too: `trace`, `debug`, `info`,
      #   `warn`, `error`, nil for none
      def initialize(registry = nil, socket: nil, threads: DEFAULT_THREADS, prefetch: nil, name: nil, namespaces: nil, templates: nil,
                     connect_timeout: nil, ack_timeout: 10.0, abandon_after: 30.0, log_level: "info")
        raise ArgumentError, "threads must be at least 1" if threads < 1
        raise ArgumentError, "prefetch must not be negative" if prefetch&.negative?
        raise ArgumentError, "log_level must be one of #{LogBridge::LEVELS.join(", ")}" unless log_level.nil? || LogBridge::LEVELS.include?(log_level)

        @registry = registry || Registry::HandlerRegistry.instance
        @socket = Taskerd.socket_path(socket)
        @threads = threads
        @prefetch = prefetch || threads
        @name = name || Worker.default_name
        @namespaces = namespaces.nil? || namespaces.empty? ? ["*"] : namespaces.to_a
        @templates = templates || Types.presence(ENV["TASKER_TEMPLATE_PATH"])
        @connect_timeout = connect_timeout
        @ack_timeout = ack_timeout
        @abandon_after = abandon_after
        @log_level = log_level
        @handlers = []
        @signalled = 0
      end

      # -- life ------------------------------------------------------------------------------------

      # Offer a handler. Only before the start: the daemon learns the names in the handshake.
      def register(name, handler)
        raise Errors::ConfigurationError, "handlers are announced at the start; register them before" if @runtime

        @registry.register(name, handler)
      end

      # Start without handlers too, and offer those that are registered while it runs.
      # @api private
      def grow
        @grows = true
        @registry.on_change = -> { offer_registered }
      end

      # Register templates, connect, and begin to run steps in the background. Raises the daemon's error if it refuses the session
      # or a template, ConfigurationError if there is no handler, ConnectionLostError after `connect_timeout`.
      def launch
        raise Errors::ConfigurationError, "this worker was launched before" if @runtime

        deadline = @connect_timeout && (Transport.now + @connect_timeout)
        @handlers = @registry.offered(template_handlers(deadline))
        raise Errors::ConfigurationError, "no handlers: #{no_handlers}" if @handlers.empty? && !(@grows && @registry.load_failures.empty?)

        LazyConstants.preload
        @runtime = make_runtime
        LogBridge.level = @log_level
        follow_templates if @registry.open_ended?
        @runtime.start
        await_connection(deadline)
        @on_connected&.call
        @registry.load_failures.each { |failure| @runtime.send_log(nil, "error", failure.to_s, { "worker" => @name }) }
        self
      end

      # Launch, and run until SIGTERM or SIGINT. For the main thread.
      #
      # The first signal drains: running steps finish, their results are acknowledged, steps not begun go back to the daemon. A
      # second signal ends the process at once. SIGUSR1 logs the status.
      # @return [Integer] the exit status: 0 if everything was delivered
      def run
        Signals.take { |signal| on_signal(signal) }
        launch
        @runtime.drain if @signalled.positive?
        @runtime.join
        if @runtime.failure
          Logger.instance.error("the worker ended: #{@runtime.failure.message}")
          return 1
        end
        Logger.instance.info("the worker has ended; #{@runtime.counters}")
        0
      rescue Interrupted
        0
      ensure
        Signals.release
      end

      # Begin to stop; {#wait} tells when it is done. Safe in a signal handler.
      def drain
        @runtime&.drain
      end

      # Wait until the worker has ended. False if it has not within `timeout` seconds.
      def wait(timeout = nil)
        @runtime.nil? || @runtime.join(timeout)
      end

      # Drain and wait. After `timeout` seconds the connection is closed whatever runs.
      # @return [Boolean] true if everything was delivered
      def stop(timeout = nil)
        return true if @runtime.nil?

        @runtime.drain
        return @runtime.failure.nil? if @runtime.join(timeout)

        @runtime.abort
        @runtime.join(@ack_timeout)
        false
      end

      # -- looking at it ---------------------------------------------------------------------------

      # @return [String, nil] the name under which the daemon's history shows this session
      def worker_id
        @runtime&.welcome&.worker_uuid
      end

      # @return [Boolean] true from the launch until the worker has ended
      def running?
        !@runtime.nil? && !@runtime.ended?
      end

      # @return [Exception, nil] why the worker has ended
      def failure
        @runtime&.failure
      end

      # @return [String] `created`, `running`, `draining` or `stopped`
      def state
        return "created" if @runtime.nil?
        return "stopped" if @runtime.ended?

        @runtime.draining? ? "draining" : "running"
      end

      # @return [Hash] where the worker stands
      def status
        {
          running: running?, environment: ENV["TASKER_ENV"] || ENV["RAILS_ENV"] || "development", worker_core_status: state,
          worker_id: worker_id, connected: @runtime&.connected? || false, supported_namespaces: @namespaces, handlers: @handlers,
          broken_handlers: @registry.load_failures.map(&:to_s), threads: @threads, max_concurrency: @threads + @prefetch,
          open_steps: @runtime&.open_steps || 0, unacknowledged: @runtime&.unacknowledged || 0, counters: @runtime ? @runtime.counters.dup : {},
          web_api_enabled: false, error: failure&.message
        }
      end

      # A signal came before there was anything to drain.
      class Interrupted < Exception; end # rubocop:disable Lint/InheritException -- nothing is to take it for an error

      private

      def template_handlers(deadline)
        @templates || @registry.open_ended? ? Templates.new(self, @templates).callables(deadline) : []
      end

      # Offer what resolvers can serve of templates that come later, or came while there was no connection.
      def follow_templates
        due = Thread::Queue.new
        @runtime.at_templates = -> { due << true unless due.closed? }
        @runtime.at_end = -> { due.close }
        Thread.new { look_at_templates while due.pop }.name = "taskerd-templates"
      end

      def offer_registered
        return if @runtime.nil? || @runtime.draining? || @runtime.ended?

        offered = @handlers | @registry.offered
        return if offered.size == @handlers.size

        @handlers = offered
        @runtime.offer(offered)
      end

      def look_at_templates
        handlers = @handlers | @registry.offered(Templates.new(self, nil).known_now)
        return if handlers.size == @handlers.size || @runtime.draining?

        Logger.instance.info("templates have brought handlers: #{(handlers - @handlers).join(", ")}")
        @handlers = handlers.sort
        @runtime.offer(@handlers)
      rescue Errors::Error, SystemCallError
        nil # the next connection looks again
      end

      def no_handlers
        broken = @registry.load_failures.map(&:to_s)
        broken.empty? ? "name the files that define them" : broken.join("; ")
      end

      def make_runtime
        broken = @registry.load_failures.first(64).map(&:to_wire)
        worker = { "name" => @name, "namespaces" => @namespaces, "handlers" => @handlers, "max_concurrency" => @threads + @prefetch }
        worker["broken"] = broken unless broken.empty?
        worker["open_ended"] = true if @registry.open_ended?
        Runtime.new(path: @socket, worker: worker, runner: Runner.new(@registry), threads: @threads, ack_timeout: @ack_timeout,
                    abandon_after: @abandon_after)
      end

      def await_connection(deadline)
        unless @runtime.await_connection(deadline && (deadline - Transport.now))
          @runtime.abort
          raise Client::ConnectionLostError, "taskerd does not answer at #{@socket}"
        end
        raise @runtime.failure if @runtime.finished? && @runtime.failure
      end

      # No lock may be taken here.
      def on_signal(signal)
        if signal == "USR1"
          Thread.new { Logger.instance.info("status: #{status}") }
          return
        end
        @signalled += 1
        # One of several processes: who has started it passes on what a service manager tells it directly, and kills it if that is meant.
        return if @signalled > 1 && supervised

        exit!(128 + Signal.list[signal]) if @signalled > 1
        raise Interrupted if @runtime.nil?

        @runtime.drain
      end
    end
  end
end

# frozen_string_literal: true

require "tmpdir"
require "fileutils"

module Taskerd
  module Testing
    # A workflow did not end well. `task` is what became of it.
    class TaskFailed < StandardError
      # @return [Types::ClientTaskResponse]
      attr_reader :task

      def initialize(task)
        bad = task.steps.select(&:error).map { |step| "  #{step.name}: #{step.error["message"]}" }
        super(["task #{task.name} is #{task.status}", *bad].join("\n"))
        @task = task
      end
    end

    # Starts `taskerd --embedded` in a directory, which is removed at the end if none was given.
    #
    # The program is the argument, `$TASKERD_PROGRAM`, or the one on the PATH:
    #
    #     Taskerd::Testing::EmbeddedTaskerd.start do |daemon|
    #       task = daemon.run(TEMPLATE, { cart_id: 7 }, handlers: [LoadCart, Ship])
    #       task.step("ship").results # => { "shipped" => true }
    #     end
    class EmbeddedTaskerd
      # Names the program if it is not on the PATH.
      PROGRAM = "TASKERD_PROGRAM"

      @lock = Mutex.new

      class << self
        # @yield [daemon] with a block it is stopped when the block ends
        # @return [EmbeddedTaskerd]
        def start(...)
          daemon = new(...).start
          return daemon unless block_given?

          begin
            yield daemon
          ensure
            daemon.stop
          end
        end

        # @return [EmbeddedTaskerd] one for all tests of the process; it ends with the process
        def shared
          @lock.synchronize { @shared ||= new.start }
        end
      end

      attr_reader :program, :socket, :directory, :pid

      def initialize(directory = nil, program: nil, options: [], start_timeout: 120.0)
        @program = program || Types.presence(ENV[PROGRAM]) || on_path ||
                   raise(Errors::ConfigurationError, "there is no taskerd on the PATH; set #{PROGRAM}")
        @given = directory
        @options = options
        @start_timeout = start_timeout
      end

      # Start the daemon and wait until it has its database.
      def start
        @directory = @given ? @given.to_s : Dir.mktmpdir("taskerd-")
        FileUtils.mkdir_p(@directory)
        File.chmod(0o711, @directory) unless @given # a database that root starts runs as another user
        @socket = File.join(@directory, "taskerd.sock")
        launch
        owner = ::Process.pid
        at_exit { stop if ::Process.pid == owner }
        await_database(Transport.now + @start_timeout)
        self
      rescue StandardError
        stop
        raise
      end

      # Start it again after {#kill}.
      def launch
        command = [@program, "--embedded=#{File.join(@directory, "database")}", "--socket=#{@socket}", *@options]
        @pid = ::Process.spawn(*command, in: File::NULL, %i[out err] => [log_path, "a"])
      end

      # End the daemon and its database.
      def stop
        @client&.close
        @client = nil
        end_process("TERM", 60)
        FileUtils.rm_rf(@directory) if @given.nil? && @directory
      end

      # End the daemon without a word.
      def kill
        end_process("KILL", 10)
      end

      # The daemon's log.
      def log_path
        File.join(@directory, "taskerd.log")
      end

      # The end of the daemon's log.
      def log_text(lines = 40)
        File.readlines(log_path, encoding: "UTF-8").last(lines).join
      rescue SystemCallError
        ""
      end

      # -- using it --------------------------------------------------------------------------------

      # @return [Client::Connection]
      def client
        @client ||= Client.new(socket: @socket, timeout: 60.0)
      end

      # Register a template: YAML or JSON text, a Hash, or the path of a file.
      def apply(template)
        return client.apply_template(JSON.generate(template)) if template.is_a?(Hash)

        text = template.to_s
        return client.apply_template(text) if text.include?("\n") || text.include?("{")

        client.apply_template(File.read(text, encoding: "UTF-8"), filename: text)
      end

      # A worker in this process: handler classes, and paths of files of them. It is stopped when the block ends.
      # @param options see {Worker::Service#initialize}
      def worker(handlers, registry: Registry::HandlerRegistry.new, **options)
        handlers.each { |handler| handler.is_a?(Class) ? registry.register_class(handler) : registry.discover_handlers(handler) }
        service = Worker.new(registry, socket: @socket, connect_timeout: 30.0, **options)
        service.launch
        begin
          yield service
        ensure
          service.stop(30.0)
        end
      end

      # Register a template and run one task of it with these handlers. TaskFailed if it is not complete, unless `check` is
      # false.
      # @param create [Hash] further arguments of {Client::Connection#create_task}
      # @return [Types::ClientTaskResponse] with its steps
      def run(template, context = {}, handlers: [], timeout: 60.0, check: true, **create)
        made = apply(template)
        done = with_worker(handlers) do
          task = client.create_task(name: made["name"], namespace: made["namespace"], version: made["version"], context: context, **create)
          client.wait_for_task(task.task_uuid, timeout: timeout)
        end
        raise TaskFailed, done if check && !done.complete?

        done
      end

      private

      def with_worker(handlers, &block)
        handlers.empty? ? yield : worker(handlers, &block)
      end

      def on_path
        ENV.fetch("PATH", "").split(":").map { |dir| File.join(dir, "taskerd") }.find { |file| File.executable?(file) && File.file?(file) }
      end

      def await_database(deadline)
        while Transport.now < deadline
          raise "taskerd ended:\n#{log_text}" if @pid.nil? || ::Process.wait(@pid, ::Process::WNOHANG)

          begin
            return if client.health_check.healthy?
          rescue DaemonError
            nil
          end
          sleep 0.02
        end
        raise "taskerd does not get ready:\n#{log_text}"
      end

      def end_process(signal, patience)
        pid, @pid = @pid, nil
        return if pid.nil?

        ::Process.kill(signal, pid)
        deadline = Transport.now + patience
        until ::Process.wait(pid, ::Process::WNOHANG)
          if Transport.now > deadline
            ::Process.kill("KILL", pid)
            ::Process.wait(pid)
            break
          end
          sleep 0.01
        end
      rescue Errno::ESRCH, Errno::ECHILD
        nil
      end
    end
  end
end

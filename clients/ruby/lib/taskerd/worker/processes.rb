# frozen_string_literal: true

module Taskerd
  module Worker
    # The child's side of the pair of sockets between a worker process and its parent.
    class Lifeline
      # Names the child's end.
      VARIABLE = "TASKERD_WORKER_LIFELINE"

      # @return [Lifeline, nil] the lifeline of this process, nil if it was started by hand
      def self.from_environment
        named = ENV.delete(VARIABLE)
        named && new(Integer(named))
      end

      def initialize(descriptor)
        @socket = UNIXSocket.for_fd(descriptor)
        @socket.close_on_exec = true
      end

      # Tell the parent that this process could start.
      def ready
        @socket.write_nonblock("r", exception: false)
      rescue SystemCallError
        nil
      end

      # Call a block when the parent has ended, or wants this process to end.
      def watch
        Thread.new do
          begin
            nil while @socket.readpartial(64)
          rescue SystemCallError, EOFError
            nil
          end
          yield
        end
      end
    end

    # Runs several copies of a worker until a signal ends them. Each has a session of its own, so that one that crashes costs only
    # the attempts it had. It is started again, slower each time it dies young. Children end with their parent.
    class Supervisor
      # A child that lived this long is started again at once.
      GOOD_SECONDS = 30.0

      # A place for a worker process, and the process that is in it.
      class Child
        attr_reader :number, :backoff, :pid, :born
        attr_accessor :due

        def initialize(number, command)
          @number = number
          @command = command
          @due = 0.0
          @backoff = Transport::Backoff.new(0.1, 10.0)
        end

        def start
          @started = false
          @ours, theirs = UNIXSocket.pair
          # A group of its own: what a terminal sends reaches it by the parent, once.
          @pid = ::Process.spawn({ Lifeline::VARIABLE => theirs.fileno.to_s }, *@command, in: File::NULL, theirs.fileno => theirs.fileno, pgroup: true)
          @born = Transport.now
        ensure
          theirs&.close
        end

        # @return [Boolean] true if the process has once said that it could start
        def started?
          @started ||= @ours.read_nonblock(1, exception: false) == "r"
        rescue SystemCallError, IOError
          false
        end

        # Have the process drain. By its lifeline: a signal is lost if it comes while Ruby itself starts, for what it raises is
        # rescued there.
        def drain
          @ours.shutdown(:WR)
        rescue SystemCallError, IOError
          nil
        end

        def signal(name)
          ::Process.kill(name, @pid) if @pid
        rescue Errno::ESRCH
          nil
        end

        # @return [::Process::Status, nil] how it has ended
        def ended
          found = @pid && ::Process.wait2(@pid, ::Process::WNOHANG)
          return nil if found.nil?

          @pid = nil
          found[1]
        end

        def close
          @ours&.close
        end
      end

      # @param command [Array<String>] of a child; `--name` is added
      def initialize(command, count, name)
        @children = (1..count).map { |n| Child.new(n, [*command, "--name", "#{name}.#{n}"]) }
        @signals = []
        @stopping = 0
        @status = 0
      end

      # Start the children and look after them.
      # @return [Integer] the exit status: 0 if the last of each delivered everything
      def run
        @wake_in, @wake_out = IO.pipe
        previous = %w[TERM INT USR1 CHLD].to_h { |signal| [signal, trap(signal) { on_signal(signal) }] }
        look_after
        @status
      ensure
        previous&.each { |signal, handler| trap(signal, handler || "DEFAULT") }
        @children.each(&:close)
        @wake_in&.close
        @wake_out&.close
      end

      private

      # Only notes it: a signal may come while a child is being started, or has just ended.
      def on_signal(signal)
        @signals << signal
        @wake_out.write_nonblock("w", exception: false)
      end

      def look_after
        while alive?
          due = @stopping.zero? ? @children.reject(&:pid).map(&:due).min : nil
          @wake_in.wait_readable(due && [due - Transport.now, 0.0].max)
          @wake_in.read_nonblock(4096, exception: false)
        end
      end

      # What the signals that came are to do.
      def obey
        while (signal = @signals.shift)
          case signal
          when "USR1" then @children.each { |child| child.signal(signal) if child.pid && child.started? }
          when "TERM", "INT"
            @stopping += 1
            next if @stopping == 1

            @children.each { |child| child.signal("KILL") }
            @status = 128 + Signal.list[signal]
          end
        end
      end

      # Take leave of who has ended, start who is due. False when nobody is left and nobody will come.
      def alive?
        obey
        @children.each do |child|
          status = child.ended
          leave(child, status) if status
        end
        @children.each do |child|
          if @stopping.positive? then child.drain if child.pid
          elsif child.pid.nil? && child.due <= Transport.now then child.start
          end
        end
        @children.any?(&:pid) || @stopping.zero?
      end

      def leave(child, status)
        started = child.started?
        lived = Transport.now - child.born
        child.close
        return stopped(started, status) if @stopping.positive?
        return refuse(child, status) if !started && status.exitstatus&.positive?

        child.backoff.reset if lived >= GOOD_SECONDS
        delay = child.backoff.next
        child.due = Transport.now + delay
        how = status.signaled? ? "by signal #{status.termsig}" : "with status #{status.exitstatus}"
        Taskerd::Logger.instance.error("worker process #{child.number} ended #{how}; another one starts in #{delay.round(1)} s")
      end

      # One that was to end before it had started had nothing to deliver.
      def stopped(started, status)
        @status = [@status, 1].max unless status.success? || (!started && status.termsig == Signal.list["TERM"])
      end

      # It said why; another one would say the same.
      def refuse(child, status)
        Taskerd::Logger.instance.error("worker process #{child.number} could not start")
        @status = status.exitstatus
        @stopping = 1
      end
    end
  end
end

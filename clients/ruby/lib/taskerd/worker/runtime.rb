# frozen_string_literal: true

require_relative "link"
require_relative "pool"
require_relative "runner"
require_relative "sending"
require_relative "receiving"

module Taskerd
  module Worker
    # The worker's session with the daemon: the open steps, the results not yet acknowledged, and a thread that reads.
    #
    # One lock guards the state. The session's thread reads and looks after time; results are written by whoever has one
    # when nothing else is ready to run, so that a lone step needs no switch between threads, and results that become ready
    # together leave in one frame.
    #
    # The session survives every loss of the connection: it reconnects, resumes what handlers still run, and sends again
    # what was not acknowledged.
    class Runtime
      include Sending
      include Receiving

      # Refusals of the handshake that waiting will not change.
      FATAL_CODES = %w[unsupported_version permission_denied bad_request invalid_value too_large unknown_method].freeze
      RESUME_TIMEOUT = 30.0
      # A connection that lived this long, or on which a result was acknowledged, was good: the next reconnect starts from the
      # shortest wait. One that is closed again and again at once backs off.
      GOOD_SECONDS = 5.0
      COUNTERS = %i[received recorded duplicate stale rejected not_claimed released reconnects abandoned].freeze

      # @return [Transport::Welcome, nil]
      attr_reader :welcome
      # @return [Exception, nil] why the worker has ended
      attr_reader :failure
      # @return [Hash] how many of what
      attr_reader :counters
      # Called when the daemon may have templates that this worker has not seen; with the session's lock.
      attr_accessor :at_templates
      # Called once when the worker has ended.
      attr_accessor :at_end

      def initialize(path:, worker:, runner:, threads:, ack_timeout: 10.0, abandon_after: 30.0)
        @path = path
        @worker = worker
        @runner = runner
        @threads = threads
        @ack_timeout = ack_timeout
        @abandon_after = abandon_after
        @lock = Mutex.new
        @changed = ConditionVariable.new
        @counters = COUNTERS.to_h { |name| [name, 0] }
        @open = {}
        @unacked = {}
        @earlier = {}
        @cancelled = []
        @requests = {}
        @waiting = []
        @next_id = 1
        @connected = @finished = @abort = @drain_wanted = @draining = false
        init_sending
      end

      # -- any thread ------------------------------------------------------------------------------

      # Start the session's thread and the handlers' threads.
      def start
        @pool = Pool.new(@threads) { |context| run_step(context) }
        @thread = Thread.new { main }
        @thread.name = "taskerd-io"
        @thread.report_on_exception = false
      end

      # Begin no further step, finish those that run, wait for their acknowledgements, then end. Safe in a signal handler.
      def drain
        @drain_wanted = true
        poke
      end

      # End now; the daemon sees the connection close with steps open.
      def abort
        @abort = true
        poke
      end

      # Offer other handlers. The daemon learns of them in a handshake: the connection is made anew, with all that is held.
      def offer(handlers)
        @lock.synchronize { @worker = { **@worker, "handlers" => handlers } }
        poke
      end

      # Wait for the end. False if it did not come in time.
      def join(timeout = nil)
        wait_for(timeout) { @finished }
      end

      # Wait for the first connection, or the end.
      def await_connection(timeout)
        wait_for(timeout) { @connected || @finished }
      end

      def connected?
        @connected
      end

      def finished?
        @finished
      end

      def draining?
        @drain_wanted
      end

      # @return [Boolean] true if nothing is sent any more
      def ended?
        @abort || @finished
      end

      # @return [Integer] steps held and not yet finished
      def open_steps
        @open.size
      end

      # @return [Integer] results that the daemon has not confirmed
      def unacknowledged
        @unacked.size
      end

      private

      def wait_for(timeout)
        deadline = timeout && (Transport.now + timeout)
        @lock.synchronize do
          until yield
            left = deadline && (deadline - Transport.now)
            return false if left && left <= 0

            @changed.wait(@lock, left)
          end
        end
        true
      end

      # Handlers' threads: one attempt. True if this thread has been given up meanwhile.
      def run_step(context)
        context.stage = Thread.current
        packed = @runner.run(context)
        @lock.synchronize do
          return true if context.stage == :abandoned

          context.stage = :finished
          deliver(context, packed)
        end
        false
      end

      # -- the session's thread --------------------------------------------------------------------

      def main
        sessions
      rescue Exception => e # rubocop:disable Lint/RescueException -- whatever ends this thread ends the worker
        @failure = e
        Logger.instance.error("the worker stops: #{e.message}")
      ensure
        finish
      end

      # One connection after the other, until the work is done.
      def sessions
        backoff = Transport::Backoff.new
        complaints = Transport::Complaints.new
        until @abort
          link = connect(backoff, complaints)
          return if link.nil?

          done = serve_one(link)
          return if done

          backoff.reset if @progress || Transport.now - link.born >= GOOD_SECONDS
          pause(backoff.next) unless give_up?
        end
      end

      # @return [Link, nil] nil if there is nothing left to connect for
      def connect(backoff, complaints)
        until @abort
          begin
            link = open_link
            complaints.over
            return link
          rescue Client::ConnectionLostError => e
            why = "#{e.message}; trying on"
          rescue DaemonError => e
            raise if FATAL_CODES.include?(e.code)

            why = "taskerd refuses the session: #{e.message}; trying on"
          end
          return nil if give_up?

          delay = backoff.next(e.retry_after)
          Logger.instance.warn(why) if complaints.due?
          pause(delay)
        end
      end

      # True if the worker has drained.
      def serve_one(link)
        serve(link)
        true
      rescue Client::ConnectionLostError, Client::ProtocolError, SystemCallError, IOError => e
        Logger.instance.public_send(link.offered.equal?(@worker) ? :warn : :info, "connection to taskerd lost: #{e.message}")
        false
      ensure
        @lock.synchronize do
          @connected = false
          @link = nil
        end
        link.close
      end

      def open_link
        @progress = false
        resume = @lock.synchronize do
          @earlier.clear
          @welcome && { "session" => @welcome.session, "held" => @open.size + @unacked.size }
        end
        offered = @worker
        opened = Transport.open(@path, worker: offered, resume: resume)
        link = Link.new(opened)
        link.offered = offered
        @lock.synchronize { begin_session(link, opened) }
        Logger.instance.info("connected to #{@welcome.server} (#{@path}) as #{@welcome.worker_uuid}" \
                             "#{", session resumed" if @welcome.resumed}")
        link
      rescue StandardError
        @lock.synchronize { @link = nil }
        link&.close
        raise
      end

      def begin_session(link, opened)
        @counters[:reconnects] += 1 if @welcome
        @welcome = opened.welcome
        @runner.room = Codec.split_limits(@welcome.limits)
        @link = link
        resume(link)
        opened.rest.each { |envelope| dispatch(link, envelope) }
        raise link.broken if link.broken

        @connected = true
        @changed.broadcast
        @at_templates&.call
      end

      # Returns when the worker has drained; raises when the connection is lost.
      def serve(link)
        beat = [0.05, @welcome.heartbeat_ms / 3000.0].max
        until @abort
          wait = @lock.synchronize do
            raise link.broken if link.broken
            raise Client::ConnectionLostError, "reconnecting to offer other handlers" unless link.offered.equal?(@worker)
            return if link.ready && @drain_wanted && drained?(link)

            look_after(link, beat)
          end
          read(link) if idle(link, wait)
        end
      end

      # With the lock: everything that is due. Returns the seconds until something else is.
      def look_after(link, beat)
        link.flush
        if link.ready then flush(link)
        elsif Transport.now - link.born > RESUME_TIMEOUT then raise Client::ConnectionLostError, "taskerd did not answer session.resume"
        end
        patience = @cancelled.empty? ? beat : abandon
        wait = link.sent_at + beat - Transport.now
        if wait <= 0.0
          send_message(link, "heartbeat", {})
          wait = beat
        end
        @idle = true # from here on who leaves something to be sent pokes
        [wait, patience].min
      end

      def read(link)
        got = link.reader.fill(link.socket)
        return if got == :wait_readable
        raise Client::ConnectionLostError, "taskerd closed the connection" if got.nil?

        @lock.synchronize { link.reader.each { |envelope| dispatch(link, envelope) } }
      end

      # -- ending ----------------------------------------------------------------------------------

      # With the lock: one look at the way to the end. True once goodbye is sent.
      def drained?(link)
        unless @draining
          begin_drain
          send_message(link, "worker.update", { "draining" => true })
        end
        flush(link)
        return false unless @open.empty? && @unacked.empty?

        send_message(link, "goodbye", {})
        begin
          link.flush_blocking(@ack_timeout)
        rescue SystemCallError, IOError, Client::ConnectionLostError => e
          Logger.instance.warn("goodbye was not sent: #{e.message}")
        end
        true
      end

      # With the lock. Steps that no thread has begun stay with the daemon: goodbye gives them to others at no cost.
      def begin_drain
        @draining = true
        release(@pool.take_back)
        Logger.instance.info("draining: #{@open.size} steps run, #{@unacked.size} results to be acknowledged")
      end

      def release(batch)
        batch.each { |context| @counters[:released] += 1 if @open.delete(context.key) }
      end

      # Without a connection: true if nothing is left to deliver; raises if delivering has become hopeless.
      def give_up?
        return @abort unless @drain_wanted

        @lock.synchronize do
          begin_drain unless @draining
          unless @open.empty?
            @drain_limit = nil
            return @abort
          end
          return true if @unacked.empty?

          @drain_limit ||= Transport.now + @ack_timeout
          raise Client::ConnectionLostError, "#{@unacked.size} results were never acknowledged" if Transport.now >= @drain_limit
        end
        @abort
      end

      # Wait before the next attempt to connect; a drain or abort ends the wait.
      def pause(seconds)
        deadline = Transport.now + seconds
        draining = @drain_wanted
        while !@abort && @drain_wanted == draining && (left = deadline - Transport.now).positive?
          clear_pokes if @wake_in.wait_readable(left)
        end
      end

      def finish
        @lock.synchronize do
          @pool.take_back
          @pool.stop
          lost = Client::ConnectionLostError.new("the worker has ended")
          [*@requests.values, *@waiting].each { |request| request.settle(lost, nil) }
          @link = nil
          @finished = true
          @changed.broadcast
        end
        @at_end&.call
        close_pipe
      end
    end
  end
end

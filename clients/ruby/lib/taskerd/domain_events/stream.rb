# frozen_string_literal: true

module Taskerd
  module DomainEvents
    # Fast events that fit some patterns, on a connection of their own. It outlives the daemon.
    class Stream
      include Enumerable

      # Events kept for a reader that is slow; the oldest go first.
      BUFFER = 65_536
      REQUEST_TIMEOUT = 30.0

      attr_reader :patterns
      # @return [Integer] events that were dropped because they were not read in time
      attr_reader :lost

      def initialize(patterns = ["*"], namespaces: nil, socket: nil)
        @socket = Taskerd.socket_path(socket)
        @patterns = Array(patterns).uniq
        @namespaces = namespaces || ["*"]
        @lost = 0
        @events = []
        @lock = Mutex.new
        @ready = ConditionVariable.new
        @closed = false
      end

      # Connect and subscribe now rather than with the first event.
      def connect
        return if @closed || (@channel && !@channel.closed?)

        channel = Client::Channel.new(@socket) { |method, params| told(method, params) }
        begin
          ask(channel, @patterns)
        rescue StandardError
          channel.close
          raise
        end
        @channel = channel
        channel.close if @closed
      end

      # Have more patterns.
      def subscribe(patterns)
        new = patterns - @patterns
        @patterns |= new
        ask(@channel, new) if new.any? && @channel && !@channel.closed?
      rescue Client::ConnectionLostError # with the next connection
        nil
      end

      # The next event; nil if there is none within `timeout` seconds or the stream was closed.
      # @return [Event, nil]
      def next(timeout = nil)
        deadline = timeout && (Transport.now + timeout)
        backoff = Transport::Backoff.new
        until @closed
          event = @lock.synchronize { @events.shift }
          return Event.new(event) if event

          left = deadline && (deadline - Transport.now)
          return nil if left && left <= 0

          begin
            connect
          rescue DaemonError => e
            raise unless e.retryable?

            doze([backoff.next(e.retry_after), left].compact.min)
            next
          end
          await(left)
        end
        nil
      end

      def each
        while (event = self.next)
          yield event
        end
        self
      end

      # End the stream; who waits for an event gets nil.
      def close
        @lock.synchronize do
          @closed = true
          @ready.broadcast
        end
        @channel&.close
      end

      private

      def ask(channel, patterns)
        patterns.each_slice(64) do |part|
          channel.send("event.subscribe", { "patterns" => part, "namespaces" => @namespaces }).wait(REQUEST_TIMEOUT)
        end
      end

      def told(method, params)
        @lock.synchronize do
          if method == "event.message"
            @events.concat(params["events"] || [])
            dropped = [@events.size - BUFFER, 0].max
            @events.shift(dropped)
            @lost += dropped + (params["lost"] || 0)
          end
          @ready.broadcast
        end
      end

      def await(left)
        @lock.synchronize { @ready.wait(@lock, left) if @events.empty? && !@closed && !@channel.closed? }
      end

      def doze(seconds)
        @lock.synchronize { @ready.wait(@lock, seconds) unless @closed }
      end
    end

    # A thread that reads events and calls listeners, one after the other. Nothing is polled: the daemon pushes. Listeners may
    # come and go while it runs.
    class Poller
      @lock = Mutex.new

      class << self
        # @return [Poller] a poller shared by the process, started
        def instance(socket: nil, namespaces: nil)
          found = @lock.synchronize { @instance ||= new(socket: socket, namespaces: namespaces) }
          found.start
          found
        end

        # Stop and forget the shared poller.
        def reset_instance!
          found = @lock.synchronize { @instance.tap { @instance = nil } }
          found&.stop
        end
      end

      attr_reader :events_processed, :errors

      def initialize(socket: nil, namespaces: nil, **_ignored)
        @socket = socket
        @namespaces = namespaces
        @listeners = []
        @lock = Mutex.new
        @events_processed = @errors = 0
      end

      # Have a block called with each event that fits some patterns.
      # @param owner what {#remove_listener} is to be given
      def add_listener(owner, patterns = ["*"], &block)
        @lock.synchronize do
          @listeners += [[owner, patterns, block]]
          @stream&.subscribe(patterns)
        end
      end

      # Have a block called with each event.
      def on_event(patterns = ["*"], &block)
        add_listener(block, patterns, &block)
      end

      def remove_listener(owner)
        @lock.synchronize { @listeners = @listeners.reject { |found, _, _| found.equal?(owner) } }
      end

      # Begin to read events. With `connect_timeout` (seconds) wait until the subscription stands.
      def start(connect_timeout: nil)
        @lock.synchronize do
          return self if @thread

          @stream = Stream.new(@listeners.flat_map { |_, patterns, _| patterns }, namespaces: @namespaces, socket: @socket)
          reach(@stream, Transport.now + connect_timeout) if connect_timeout
          @thread = Thread.new(@stream) { |stream| main(stream) }
          @thread.name = "taskerd-events"
        end
        self
      end

      # Read no more events and wait for the thread.
      def stop
        thread, stream = @lock.synchronize do
          found = [@thread, @stream]
          @thread = @stream = nil
          found
        end
        stream&.close
        thread.join(5) if thread && thread != Thread.current
      end

      def running?
        @thread&.alive? || false
      end

      # @return [Integer] events that were dropped because they were not read in time
      def lost
        @stream&.lost || 0
      end

      # Call the listeners with an event; for tests of subscribers also without a daemon.
      def dispatch(event)
        event = Event.new(event) unless event.is_a?(Event)
        @listeners.each do |_, patterns, block|
          next unless patterns.any? { |pattern| Pattern.match?(pattern, event.event_name.to_s) }

          begin
            block.call(event)
          rescue StandardError => e
            @errors += 1
            Taskerd::Logger.instance.error("a listener of event #{event.event_name} has failed: #{e.message} (#{e.class})")
          end
        end
        @events_processed += 1
      end

      private

      def main(stream)
        stream.each { |event| dispatch(event) }
      rescue DaemonError => e
        Taskerd::Logger.instance.error("no more events: #{e.message}")
      end

      def reach(stream, deadline)
        backoff = Transport::Backoff.new
        begin
          stream.connect
        rescue DaemonError => e
          delay = backoff.next(e.retry_after)
          raise if !e.retryable? || Transport.now + delay >= deadline

          sleep(delay)
          retry
        end
      end
    end
  end

  module Worker
    # Another name of {DomainEvents::Poller}.
    InProcessDomainEventPoller = DomainEvents::Poller
  end
end

# frozen_string_literal: true

module Taskerd
  module Client
    # One connection: connected from its creation until it is closed, never again. A lock for sending, a thread that reads.
    # @api private
    class Channel
      SEND_TIMEOUT = 30

      # A request under way.
      class Pending
        attr_reader :id

        def initialize(id)
          @id = id
          @lock = Mutex.new
          @ready = ConditionVariable.new
          @done = false
        end

        def settle(error, result)
          @lock.synchronize do
            @error = error
            @result = result
            @done = true
            @ready.broadcast
          end
        end

        def wait(timeout)
          deadline = Transport.now + timeout
          @lock.synchronize do
            until @done
              left = deadline - Transport.now
              raise RequestTimeoutError, "no answer within #{timeout.round(1)} s" if left <= 0

              @ready.wait(@lock, left)
            end
          end
          raise @error if @error

          @result
        end
      end

      attr_reader :welcome, :pid

      # @yield [method, params] what the daemon notifies of; `nil, nil` when the connection has ended
      def initialize(path, &told)
        opened = Transport.open(path)
        @socket = opened.socket
        # A daemon that does not read must not hold a sender for ever; receiving has no limit.
        @socket.setsockopt(::Socket::SOL_SOCKET, ::Socket::SO_SNDTIMEO, [SEND_TIMEOUT, 0].pack("l!l!"))
        @reader = opened.reader
        @welcome = opened.welcome
        @told = told
        @pid = ::Process.pid
        @closed = false
        @lock = Mutex.new
        @pending = {}
        @next_id = 1
        @thread = Thread.new(opened.rest) { |rest| main(rest) }
        @thread.name = "taskerd-client"
        @thread.report_on_exception = false
      end

      def closed?
        @closed
      end

      def limits
        @welcome.limits
      end

      # Send a request. ConnectionLostError with `sent?` false if nothing left this process.
      # @return [Pending]
      def send(method, params)
        value = Calls.value(params)
        @lock.synchronize do
          pending = add
          begin
            payload = Codec.pack([Codec::REQUEST, pending.id, method, value])
            Calls.check_size(payload, value, limits)
          rescue StandardError
            @pending.delete(pending.id)
            raise
          end
          write(pending, Codec.frame(payload))
        end
      end

      # Send the request `task.create_many` of packed tasks.
      # @return [Pending]
      def send_bulk(items)
        @lock.synchronize do
          pending = add
          head = "\x94".b << Codec.pack(Codec::REQUEST) << Codec.pack(pending.id) << Codec.pack("task.create_many") << "\x81".b << Codec.pack("tasks")
          write(pending, Codec.frame(items.inject(head << Codec.array_header(items.size), :<<)))
        end
      end

      # Nobody waits for the answer any more.
      def forget(pending)
        @lock.synchronize { @pending.delete(pending.id) }
      end

      # Say goodbye and close.
      def close
        @lock.synchronize do
          unless @closed
            @closed = true
            begin
              @socket.write_nonblock(Codec.frame(Codec.pack([Codec::NOTIFICATION, "goodbye", {}])), exception: false)
              @socket.shutdown
            rescue SystemCallError, IOError
              nil
            end
          end
        end
        @thread.join(5) unless @thread == Thread.current
      end

      private

      def add
        raise ConnectionLostError, "the connection to taskerd is closed" if @closed

        @next_id = (@next_id % 0xffffffff) + 1 while @pending.key?(@next_id)
        pending = @pending[@next_id] = Pending.new(@next_id)
        @next_id = (@next_id % 0xffffffff) + 1
        pending
      end

      def write(pending, data)
        deadline = Transport.now + SEND_TIMEOUT
        until data.empty?
          sent = @socket.write_nonblock(data, exception: false)
          if sent == :wait_writable
            raise Errno::ETIMEDOUT, "taskerd does not read" unless @socket.wait_writable([deadline - Transport.now, 0].max)
          else
            data = data.byteslice(sent, data.bytesize - sent)
          end
        end
        pending
      rescue SystemCallError, IOError => e
        @pending.delete(pending.id)
        @closed = true
        begin
          @socket.shutdown # ends the reading thread
        rescue SystemCallError, IOError
          nil
        end
        # An incomplete frame is never acted on, so nothing counts as sent.
        raise ConnectionLostError, "the connection to taskerd broke: #{e.message}"
      end

      def main(rest)
        rest.each { |envelope| handle(envelope) }
        loop do
          @socket.wait_readable
          got = @reader.fill(@socket)
          break if got.nil?

          @reader.each { |envelope| handle(envelope) } unless got == :wait_readable
        end
      rescue SystemCallError, IOError
        nil
      rescue DaemonError => e
        @reason = e
      ensure
        finish
      end

      def handle(envelope)
        if envelope[0] == Codec::RESPONSE then answered(envelope)
        elsif envelope[1] == "error" then @reason = DaemonError.from_wire(envelope[2])
        else @told&.call(envelope[1], envelope[2])
        end
      end

      def answered(envelope)
        pending = @lock.synchronize { @pending.delete(envelope[1]) }
        pending&.settle(envelope[2] && DaemonError.from_wire(envelope[2]), envelope[3])
      end

      def finish
        waiting = @lock.synchronize do
          @closed = true
          @socket.close
          found = @pending.values
          @pending = {}
          found
        end
        waiting.each { |pending| pending.settle(end_of(@reason), nil) }
        @told&.call(nil, nil)
      end

      def end_of(reason)
        return reason if reason.is_a?(ProtocolError)

        ConnectionLostError.new("the connection to taskerd broke before the answer#{": #{reason.message}" if reason}", sent: true)
      end
    end
  end
end

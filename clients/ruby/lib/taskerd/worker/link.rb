# frozen_string_literal: true

module Taskerd
  module Worker
    # One live connection. Whoever sends holds the session's lock; only its own thread reads.
    # @api private
    class Link
      attr_reader :socket, :reader, :born, :broken
      # When something was last sent.
      attr_reader :sent_at
      # True once results may be sent.
      attr_accessor :ready
      # What was said of the worker in `hello`.
      attr_accessor :offered
      # Id of the request `session.resume` under way.
      attr_accessor :resume_id

      def initialize(opened)
        @socket = opened.socket
        @reader = opened.reader
        @backlog = String.new(encoding: Encoding::BINARY)
        @born = @sent_at = Transport.now
        @ready = false
      end

      def backlog_size
        @backlog.bytesize
      end

      # @return [Boolean] true if output waits for the daemon to read
      def blocked?
        !@backlog.empty?
      end

      # Send, or keep for {#flush}. What goes wrong is kept in {#broken}: the sender is often a handler's thread.
      def send(data)
        @sent_at = Transport.now
        if @backlog.empty?
          sent = write(data)
          @backlog << (sent.zero? ? data : data.byteslice(sent, data.bytesize - sent)) if sent < data.bytesize
        else
          @backlog << data
        end
      end

      def flush
        return if @backlog.empty?

        sent = write(@backlog)
        @backlog = @backlog.byteslice(sent, @backlog.bytesize - sent) if sent.positive?
      end

      # Send all that is kept, however long the daemon takes.
      def flush_blocking(timeout)
        deadline = Transport.now + timeout
        until @backlog.empty? || @broken
          left = deadline - Transport.now
          raise Client::ConnectionLostError, "taskerd does not read" if left <= 0

          @socket.wait_writable(left)
          flush
        end
        raise @broken if @broken
      end

      def close
        @socket.close
      rescue IOError
        nil
      end

      private

      def write(data)
        sent = @socket.write_nonblock(data, exception: false)
        sent == :wait_writable ? 0 : sent
      rescue SystemCallError, IOError => e
        @broken ||= e
        data.bytesize
      end
    end
  end
end

# frozen_string_literal: true

require_relative "../daemon_error"

module Taskerd
  module Codec
    # Cuts a byte stream into decoded envelopes. Owned by one thread.
    class FrameReader
      CHUNK = 1 << 16

      # @return [Integer] bytes that a payload may have
      attr_accessor :max_payload

      def initialize(max_payload = HELLO_MAX_FRAME)
        @max_payload = max_payload
        @buffer = String.new(capacity: CHUNK, encoding: Encoding::BINARY)
        @chunk = String.new(capacity: CHUNK, encoding: Encoding::BINARY)
        @unpacker = FACTORY.unpacker
      end

      # Read once. The number of bytes, `:wait_readable` if there are none, nil at the end of the stream.
      def fill(io)
        got = io.read_nonblock(CHUNK, @chunk, exception: false)
        return got if got.nil? || got == :wait_readable

        @buffer << @chunk
        got.bytesize
      end

      # Add received bytes.
      def feed(data)
        @buffer << data
      end

      # Bytes that are no whole frame yet.
      def left
        @buffer.bytesize
      end

      # Yield every envelope that is complete, oldest first; what comes before a broken one counts.
      def each
        each_value { |value| yield Envelope.check(value) }
      end

      # @return [Array] the same at once
      def take
        found = []
        each { |envelope| found << envelope }
        found
      end

      # Yield every value whose frame is complete.
      def each_value
        at = 0
        last = @buffer.bytesize
        while last - at >= 4
          size = @buffer.unpack1("N", offset: at)
          refuse("frame of #{size} bytes, allowed are 1 to #{@max_payload}") if size.zero? || size > @max_payload
          stop = at + 4 + size
          break if stop > last

          payload = @buffer.byteslice(at + 4, size)
          at = stop
          yield decode(payload)
        end
      ensure
        forget(at)
      end

      # The value of one payload; ProtocolError if it is not exactly one value with string keys and UTF-8 text.
      def decode(payload)
        @unpacker.reset
        @unpacker.feed(payload)
        value = @unpacker.full_unpack
        value.is_a?(Array) && value[1] == "step.execute" && steps_of(value[2]) ? check_steps(steps_of(value[2])) : check(value)
        value
      rescue Client::ProtocolError
        raise
      # A header may claim more than any memory holds.
      rescue StandardError, NoMemoryError, SystemStackError => e
        @unpacker = FACTORY.unpacker
        refuse("payload is not one well-formed MessagePack value: #{e.message} (#{e.class})")
      end

      private

      def forget(count)
        if count == @buffer.bytesize
          @buffer.clear
        elsif count.positive?
          @buffer = @buffer.byteslice(count, @buffer.bytesize - count)
        end
      end

      def steps_of(params)
        params.is_a?(Hash) && params.size == 1 && params["steps"].is_a?(Array) ? params["steps"] : nil
      end

      # Steps come by the thousands. What the daemon itself says of them is its own affair, what users have put there is looked at.
      def check_steps(steps)
        steps.each { |step| step.is_a?(Hash) ? step.each_value { |item| check(item) if item.is_a?(Hash) || item.is_a?(Array) } : check(step) }
      end

      def check(value)
        if value.is_a?(Hash) then value.each_pair { |key, item| check_key(key) && check_item(item) }
        elsif value.is_a?(Array) then value.each { |item| check_item(item) }
        else check_item(value)
        end
      end

      def check_item(item)
        kind = item.class
        if kind == String then item.valid_encoding? || refuse("text is not UTF-8")
        elsif kind == Hash || kind == Array then item.empty? || check(item)
        end
      end

      def check_key(key)
        key.instance_of?(String) && key.encoding == Encoding::UTF_8 && key.valid_encoding? ? true : refuse("map key is no UTF-8 string")
      end

      def refuse(message)
        raise Client::ProtocolError, message
      end
    end

    # The array around a message.
    module Envelope
      module_function

      # `value` if it is a response or a notification; ProtocolError otherwise.
      def check(value)
        return value if value.is_a?(Array) && (notification?(value) || response?(value))

        raise Client::ProtocolError, "envelope is neither a response nor a notification"
      end

      def notification?(value)
        value.size == 3 && value[0] == NOTIFICATION && value[1].is_a?(String) && value[2].is_a?(Hash)
      end

      def response?(value)
        value.size == 4 && value[0] == RESPONSE && value[1].is_a?(Integer) && value[1].between?(0, 0xffffffff) &&
          value[2].nil? != value[3].nil? && (value[2].nil? || value[2].is_a?(Hash))
      end
    end
  end
end

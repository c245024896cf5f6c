# frozen_string_literal: true

require "msgpack"
require_relative "errors"

module Taskerd
  # Frames and values: the byte level of the protocol.
  #
  # A frame is a big-endian u32 length and one MessagePack value. Values that come from user code are brought into the
  # JSON data model here, because a frame outside it would cost the whole connection.
  module Codec
    REQUEST = 0
    RESPONSE = 1
    NOTIFICATION = 2

    # Limits before the daemon has told its own in the welcome.
    HELLO_MAX_FRAME = 1 << 20
    HELLO_MAX_ITEMS = 16_384
    DEFAULT_LIMITS = { "max_frame" => 4 << 20, "max_items" => 262_144, "max_depth" => 30, "max_bulk" => 1000 }.freeze

    # Containers that a user's value may nest.
    MAX_VALUE_DEPTH = 24
    # The same for the params around such values.
    MAX_PARAMS_DEPTH = 27

    # Of our own, so that types which an application registers elsewhere do not show up in frames.
    FACTORY = MessagePack::Factory.new

    module_function

    # @return [String] one packed value
    def pack(value)
      packer = (Thread.current[:taskerd_packer] ||= FACTORY.packer)
      packer.clear # something may have failed half way
      packer.write(value)
      packer.to_s
    end

    # @return [String] the frame that carries a packed payload
    def frame(payload)
      [payload.bytesize].pack("N") << payload
    end

    # @return [String] the MessagePack header of an array of `n` items
    def array_header(n)
      if n < 16 then (0x90 | n).chr
      elsif n < 65_536 then [0xdc, n].pack("Cn")
      else [0xdd, n].pack("CN")
      end
    end

    # The bytes of `[2, method, {field: ` for a notification whose params are one array.
    def list_prefix(method, field)
      (+"\x93".b) << pack(NOTIFICATION) << pack(method) << "\x81".b << pack(field)
    end

    # @return [Integer] MessagePack items of a value, as the daemon's limit counts them
    def count_items(value)
      case value
      when Hash then value.sum(1 + value.size) { |_, item| count_items(item) }
      when Array then value.sum(1) { |item| count_items(item) }
      else 1
      end
    end

    # True if a packed value respects both limits. Counts only where the size alone does not tell.
    def fits?(packed, value, max_bytes, max_items)
      return false if packed.bytesize > max_bytes

      packed.bytesize <= max_items || count_items(value) <= max_items
    end

    # `[bytes, items]` that one item of a list may have, leaving room for what surrounds it in the frame.
    def split_limits(limits)
      [Integer(limits["max_frame"]) - 64, Integer(limits["max_items"]) - 16]
    end

    # Pack a value that came from user code; ConversionError if that is impossible.
    def pack_checked(value, path = "", depth = MAX_PARAMS_DEPTH)
      pack(Plain.of(value, path, depth))
    end
  end
end

require_relative "codec/plain"
require_relative "codec/frame_reader"

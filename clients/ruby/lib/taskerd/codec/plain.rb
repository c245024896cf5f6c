# frozen_string_literal: true

module Taskerd
  module Codec
    # Values of user code in the JSON data model.
    #
    # Symbols become strings; times and dates RFC 3339 strings; decimals, URIs, paths, ranges and classes strings;
    # structs, models and anything else with `to_h` maps; sets arrays; keys that are numbers, booleans or nil the
    # strings that JSON would use.
    module Plain
      UTF8 = Encoding::UTF_8
      INTEGERS = (-(1 << 63)..((1 << 63) - 1)).freeze

      module_function

      # `value` itself if it can be packed as it stands, else its JSON form; ConversionError if it has none.
      def of(value, path = "", depth = MAX_VALUE_DEPTH)
        plain?(value, depth) ? value : convert(value, path, depth)
      end

      # True if a value can be packed as it stands. This is the hot path: no path, no message.
      def plain?(value, depth = MAX_VALUE_DEPTH)
        kind = value.class
        if kind == Hash then plain_hash?(value, depth)
        elsif kind == String then plain_text?(value)
        elsif kind == Integer then value.bit_length < 64
        elsif kind == Float then value.finite?
        elsif kind == Array then depth.positive? && value.all? { |item| plain?(item, depth - 1) }
        elsif kind == Symbol then plain_text?(value.name)
        else value.nil? || value == true || value == false
        end
      end

      # Keys of both kinds in one map may be the same key twice, which takes a closer look.
      def plain_hash?(hash, depth)
        return false if depth.zero?

        keys = nil
        hash.each do |key, value|
          kind = key.class
          return false unless kind == (keys ||= kind) && plain?(value, depth - 1)

          if kind == Symbol then return false unless plain_text?(key.name)
          elsif kind != String || !plain_text?(key) then return false
          end
        end
        true
      end

      def plain_text?(text)
        (text.encoding == UTF8 || text.encoding == Encoding::US_ASCII) && text.valid_encoding? && !text.include?("\0")
      end

      def convert(value, path, depth)
        case value
        when nil, true, false then value
        when String then text(value, path)
        when Symbol then text(value.name, path)
        when Integer then integer(value, path)
        when Float, Rational then real(value.to_f, path)
        when Hash then map(value, path, depth)
        when Array then list(value, path, depth)
        else convert_other(value, path, depth)
        end
      end

      def convert_other(value, path, depth)
        return text(value.strftime("%Y-%m-%dT%H:%M:%S.%6N%:z"), path) if value.is_a?(Time)
        return text(value.iso8601, path) if value.respond_to?(:iso8601) # Date, DateTime, ActiveSupport's times and durations
        return real(value.to_f, path) if value.is_a?(Numeric) && value.real? && !decimal?(value)
        return text(decimal_text(value), path) if decimal?(value)
        return text(value.to_s, path) if value.is_a?(Range) || value.is_a?(Module) || texts?(value)
        return list(value.to_a, path, depth) if value.class.name == "Set" || (defined?(::Set) && value.is_a?(::Set))

        hash = hash_of(value)
        raise Errors::ConversionError.new("a value of class #{value.class} cannot be stored", path: path) if hash.nil?

        map(hash, path, depth)
      end

      # Structs, models and parameters as a Hash, nil for anything else. Enumerables have a to_h that is not meant here.
      def hash_of(value)
        return value.to_unsafe_h if value.respond_to?(:to_unsafe_h)
        return nil if value.is_a?(Enumerable) && !value.is_a?(Struct)
        return nil unless value.respond_to?(:to_h)

        found = value.to_h
        found.is_a?(Hash) ? found : nil
      end

      def texts?(value)
        %w[Pathname URI::Generic URI::HTTP URI::HTTPS IPAddr].include?(value.class.name) ||
          (defined?(::URI::Generic) && value.is_a?(::URI::Generic))
      end

      def decimal?(value)
        defined?(::BigDecimal) && value.is_a?(::BigDecimal)
      end

      def decimal_text(value)
        value.finite? ? value.to_s("F") : value.to_s
      end

      def text(value, path)
        text = String.new(value)
        text.force_encoding(UTF8) if text.encoding == Encoding::BINARY
        text = text.encode(UTF8) unless text.encoding == UTF8
        raise Errors::ConversionError.new("text is not UTF-8", path: path) unless text.valid_encoding?
        raise Errors::ConversionError.new("U+0000 cannot be stored", path: path) if text.include?("\0")

        text
      rescue EncodingError => e
        raise Errors::ConversionError.new(e.message, path: path)
      end

      def integer(value, path)
        return value if INTEGERS.cover?(value)

        raise Errors::ConversionError.new("integer does not fit 64 bits", path: path)
      end

      def real(value, path)
        return value if value.finite?

        raise Errors::ConversionError.new("NaN and infinity are not allowed", path: path)
      end

      def deeper(path, depth)
        raise Errors::ConversionError.new("nested too deeply, or a value contains itself", path: path) if depth.zero?

        depth - 1
      end

      def list(value, path, depth)
        below = deeper(path, depth)
        value.each_with_index.map { |item, i| convert(item, "#{path}[#{i}]", below) }
      end

      def map(value, path, depth)
        inside = deeper(path, depth)
        value.each_with_object({}) do |(key, item), out|
          name = key_text(key, path)
          raise Errors::ConversionError.new("key #{name.inspect} occurs twice", path: path) if out.key?(name)

          out[name] = convert(item, below(path, name), inside)
        end
      end

      def below(path, name)
        return "#{path}[#{name.inspect}]" unless /\A[A-Za-z_]\w*\z/.match?(name)

        path.empty? ? name : "#{path}.#{name}"
      end

      def key_text(key, path)
        case key
        when String, Symbol then text(key.to_s, path)
        when nil then "null"
        when true, false, Integer, Float then key.to_s
        else raise Errors::ConversionError.new("map key of class #{key.class} is no string", path: path)
        end
      end
    end
  end
end

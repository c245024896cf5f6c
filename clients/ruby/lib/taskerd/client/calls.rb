# frozen_string_literal: true

module Taskerd
  module Client
    # Requests as data.
    # @api private
    module Calls
      # Requests that may be sent again if the connection broke before the answer.
      REPEATABLE = %w[
        doctor event.list node.list ping queue.list server.info task.get task.history task.list task.unwatch task.wait task.watch
        template.apply template.get template.list template.validate worker.list step.get dlq.list dlq.get dlq.stats dlq.queue dlq.staleness
        namespace.list
      ].freeze
      # Longest time that one `task.wait` asks for; longer waits are made of several.
      WAIT_SLICE = 60.0

      module_function

      # True if sending the request twice has the effect of sending it once.
      def repeatable?(method, params)
        return !params["idempotency_key"].nil? if method == "task.create"

        REPEATABLE.include?(method)
      end

      # The params as they are sent; InvalidValueError if a value cannot be.
      def value(params)
        Codec::Plain.of(params, "", Codec::MAX_PARAMS_DEPTH)
      rescue Errors::ConversionError => e
        raise InvalidValueError.new(e.message, path: e.path.empty? ? nil : e.path)
      end

      # TooLargeError for what the daemon would answer by closing the connection.
      def check_size(payload, value, limits)
        size = payload.bytesize
        if size > limits["max_frame"]
          raise TooLargeError.new("the request takes #{size} bytes", details: { "limit" => "max_frame", "max" => limits["max_frame"], "size" => size })
        end
        return unless size > limits["max_items"] && Codec.count_items(value) + 8 > limits["max_items"]

        raise TooLargeError.new("the request has too many items", details: { "limit" => "max_items", "max" => limits["max_items"] })
      end

      # Absent and nil mean the same; absent is shorter. Keys become strings.
      def params(hash)
        hash.each_with_object({}) { |(key, value), out| out[key.to_s] = value unless value.nil? }
      end

      # A context, which may be the parameters of a web request.
      def context(value)
        return {} if value.nil?
        return value.to_unsafe_h if value.respond_to?(:to_unsafe_h)

        value.respond_to?(:to_h) && !value.is_a?(Hash) ? value.to_h : value
      end

      # `timeout_ms` of the next `task.wait`.
      def wait_ms(left)
        (1000 * (left.nil? ? WAIT_SLICE : left.clamp(0.0, WAIT_SLICE))).to_i
      end
    end
  end
end

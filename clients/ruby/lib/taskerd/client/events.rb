# frozen_string_literal: true

module Taskerd
  module Client
    # Requests about domain events.
    module Events
      # Seconds that an answer may come later than the wait that was asked for.
      GRACE = 30.0

      # Publish an event. `more` are params of `event.publish`: `namespace`, `delivery_mode` (`durable`, `fast`, `broadcast`),
      # `metadata`, `correlation_id`, ...
      # @return [Hash] `event_id`, and `msg_id` if it is durable
      def publish_event(name, payload = nil, **more)
        request("event.publish", { name: name, payload: payload, **more })
      end

      # Take durable events from a namespace's queue. What is not acknowledged within `visibility` seconds comes again. `wait`
      # (seconds) is how long to wait for a first one.
      # @return [Array<Hash>] with `msg_id`, `read_count` and `event`
      def consume_events(namespace = nil, limit: 1, visibility: 30.0, wait: 0.0, patterns: nil)
        params = { namespace: namespace, max: limit, visibility_ms: (visibility * 1000).to_i, wait_ms: (wait * 1000).to_i, patterns: patterns }
        request("event.consume", params, timeout: wait + GRACE)["messages"] || []
      end

      # Remove events (or ids) that {#consume_events} gave.
      def ack_events(messages, namespace = nil)
        request("event.ack", named(messages, namespace))
      end

      # Keep events for `visibility` more seconds; 0 gives them back.
      def extend_events(messages, visibility, namespace = nil)
        request("event.extend", { **named(messages, namespace), visibility_ms: (visibility * 1000).to_i })
      end

      def list_event_queues
        request("event.list")["queues"] || []
      end

      # Fast events, on a connection of their own.
      # @yield [event] each {DomainEvents::Event}, for ever
      # @return [DomainEvents::Stream] without a block; it is subscribed
      def subscribe_events(*patterns, namespaces: nil, &block)
        stream = DomainEvents::Stream.new(patterns.empty? ? ["*"] : patterns, namespaces: namespaces, socket: socket)
        stream.connect
        return stream unless block

        begin
          stream.each(&block)
        ensure
          stream.close
        end
      end

      private

      # Params that name messages: as {#consume_events} gave them, or their ids alone.
      def named(messages, namespace)
        ids = messages.map { |m| m.is_a?(Hash) ? m["msg_id"] : m }
        counts = messages.map { |m| m.is_a?(Hash) ? m["read_count"] : nil }
        { namespace: namespace, ids: ids, read_counts: counts.include?(nil) ? nil : counts }
      end
    end
  end
end

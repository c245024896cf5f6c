# frozen_string_literal: true

module Taskerd
  module DomainEvents
    # An event as it comes from the daemon.
    class Event
      # @return [Hash] everything; its keys may be strings or symbols
      attr_reader :data

      def initialize(data)
        @data = Taskerd.indifferent(data)
      end

      def event_id
        data[:event_id]
      end

      def event_name
        data[:event_name]
      end

      # @return [Hash] `task_sequence_step`, `execution_result` and `payload`
      def payload
        data[:payload] || {}
      end

      def metadata
        data[:metadata] || {}
      end

      # @return [Object] what the event is about
      def business_payload
        payload.is_a?(Hash) ? payload[:payload] : nil
      end

      # @return [Hash, nil] how the attempt ended that fired the event
      def execution_result
        payload.is_a?(Hash) ? payload[:execution_result] : nil
      end

      # The Hash that {BaseSubscriber#handle} gets. What it is about stands under `business_payload`, and its keys also in
      # `payload`.
      def envelope
        about = business_payload
        whole = about.is_a?(Hash) ? Taskerd.indifferent(about.to_h.merge(payload.to_h)) : payload
        step = payload.is_a?(Hash) ? payload[:task_sequence_step] : nil
        Taskerd.indifferent(
          "event_id" => event_id, "event_name" => event_name, "event_version" => data[:event_version] || "1.0", "payload" => whole,
          "business_payload" => about, "metadata" => metadata, "execution_result" => execution_result, "context" => step || {}
        )
      end
    end

    # Names of events.
    module Pattern
      module_function

      # True if a name fits a pattern, in which `*` stands for any characters.
      def match?(pattern, name)
        pattern == "*" || pattern == name || File.fnmatch(pattern, name)
      end

      # A pattern, or what stands for one.
      def of(pattern)
        pattern.to_s
      end
    end
  end
end

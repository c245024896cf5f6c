# frozen_string_literal: true

module Taskerd
  module DomainEvents
    # Base of subscribers: name the events with `subscribes_to`, implement {#handle}.
    #
    # Events that are `fast` or `broadcast` arrive, on a thread of their own, one after the other. What goes wrong in a subscriber
    # is logged and harms nothing else.
    class BaseSubscriber
      class << self
        # Set the patterns of event names, such as `payment.*`; without arguments, get them.
        def subscribes_to(*patterns)
          @patterns = patterns.flatten.map(&:to_s) unless patterns.empty?
          self.patterns
        end

        def patterns
          @patterns || (superclass.respond_to?(:patterns) ? superclass.patterns : ["*"])
        end
        alias subscribed_patterns patterns

        # Subclasses in the order of their definition.
        # @api private
        def known
          BaseSubscriber.instance_variable_get(:@known)
        end

        def inherited(subclass)
          super
          BaseSubscriber.known << subclass
        end
      end
      @known = []

      # Called for each event.
      # @param event [Hash] `event_id`, `event_name`, `payload`, `business_payload`, `metadata`, `execution_result`; keys may be strings
      #   or symbols
      def handle(_event)
        raise NotImplementedError, "#{self.class} has no method handle"
      end

      # -- hooks -----------------------------------------------------------------------------------

      # False: {#handle} is not called.
      def before_handle(_event)
        true
      end

      # {#handle} has returned.
      def after_handle(_event); end

      # {#handle} or another hook has failed.
      def on_handle_error(event, error)
        logger.error("subscriber #{self.class}: event #{event[:event_name]}: #{error.message} (#{error.class})")
      end

      # -- life ------------------------------------------------------------------------------------

      def logger
        @logger ||= Taskerd::Logger.instance
      end

      def subscriptions
        self.class.patterns
      end

      def active?
        @active ? true : false
      end

      def matches?(event_name)
        subscriptions.any? { |pattern| Pattern.match?(pattern, event_name) }
      end

      # Get events.
      # @param poller [Poller, nil] default: the one of the process
      def start!(poller = Poller.instance)
        return if active?

        @active = true
        @poller = poller
        poller.add_listener(self, subscriptions) { |event| receive(event) }
      end

      # Get no more events.
      def stop!
        @active = false
        @poller&.remove_listener(self)
        @poller = nil
      end

      # One event.
      # @param event [Event, Hash]
      def receive(event)
        found = event.is_a?(Event) ? event.envelope : Taskerd.indifferent(event)
        return unless matches?(found[:event_name].to_s)

        handle_one(found)
      end
      alias handle_event_safely receive

      private

      def handle_one(event)
        return if before_handle(event) == false

        handle(event)
        after_handle(event)
      rescue StandardError => e
        begin
          on_handle_error(event, e)
        rescue StandardError => again
          Taskerd::Logger.instance.error("subscriber #{self.class}: on_handle_error has failed itself: #{again.message}")
        end
      end
    end
  end
end

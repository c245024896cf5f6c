# frozen_string_literal: true

module Taskerd
  module DomainEvents
    # Base of publishers: they say what an event carries, and whether it is published at all.
    #
    # Handlers never publish. The template declares events and may name a publisher for each; the worker runs that publisher's hooks
    # when an attempt has ended, and the daemon publishes what came out together with the attempt's result.
    #
    # The hooks get hashes whose keys may be strings or symbols: `step_result` (`success`, `result`, `metadata`), `event_declaration`
    # (`name`, `condition`, `delivery_mode`, ...) and `step_context` (`task_uuid`, `step_uuid`, `step_name`, `namespace`,
    # `correlation_id`, `context`).
    class BasePublisher
      class << self
        # Subclasses in the order of their definition.
        # @api private
        def known
          BasePublisher.instance_variable_get(:@known)
        end

        def inherited(subclass)
          super
          BasePublisher.known << subclass
        end
      end
      @known = []

      # What templates call the publisher.
      def name
        raise NotImplementedError, "#{self.class} has no method name"
      end

      def logger
        @logger ||= Taskerd::Logger.instance
      end

      # -- hooks -----------------------------------------------------------------------------------

      # False: the event is not published.
      def should_publish?(_step_result, _event_declaration, _step_context = nil)
        true
      end

      # What the event is about; by default the step's result.
      def transform_payload(step_result, _event_declaration, _step_context = nil)
        step_result[:result] || {}
      end

      # Joins the event's metadata.
      def additional_metadata(_step_result, _event_declaration, _step_context = nil)
        {}
      end

      # A last look.
      def before_publish(_event_name, _payload, _metadata)
        true
      end

      # The event is on its way.
      def after_publish(_event_name, _payload, _metadata); end

      # A hook has failed; the step is not affected.
      def on_publish_error(event_name, error, _payload)
        logger.error("publisher #{name}: event #{event_name}: #{error.message} (#{error.class})")
      end

      # -- running them ----------------------------------------------------------------------------

      # Run the hooks for an event. The worker calls this when an attempt has ended, and sends what came out with the result; called
      # by anyone else it only runs the hooks, as tests want it.
      # @return [Boolean] false if a hook stopped it or failed
      def publish(context = nil, **more)
        told = Taskerd.indifferent({ **(context || {}).to_h.transform_keys(&:to_sym), **more })
        declaration = told[:event_declaration] || Taskerd.indifferent({})
        event_name = told[:event_name] || declaration[:name] || name
        payload = nil
        begin
          hooks = [told[:step_result], declaration, told[:step_context]]
          return false unless call_hook(:should_publish?, hooks)

          payload = call_hook(:transform_payload, hooks)
          metadata = base_metadata(told[:step_context]).merge(call_hook(:additional_metadata, hooks).to_h)
          before_publish(event_name, payload, metadata)
          Collect.put(event_name, payload, metadata)
          after_publish(event_name, payload, metadata)
          true
        rescue StandardError => e
          failed(event_name, e, payload)
          false
        end
      end

      # @api private
      def failed(event_name, error, payload)
        Collect.failed(error)
        on_publish_error(event_name, error, payload)
      rescue StandardError => e
        Taskerd::Logger.instance.error("publisher #{self.class}: on_publish_error has failed itself: #{e.message}")
      end

      private

      # A hook of one's own may leave out the last arguments.
      def call_hook(hook, arguments)
        arity = method(hook).arity
        public_send(hook, *(arity.negative? ? arguments : arguments.first(arity)))
      end

      def base_metadata(step_context)
        context = step_context || {}
        {
          "publisher" => name, "published_at" => Time.now.utc.strftime("%Y-%m-%dT%H:%M:%S.%6NZ"), "task_uuid" => context[:task_uuid],
          "step_uuid" => context[:step_uuid], "step_name" => context[:step_name], "namespace" => context[:namespace]
        }
      end
    end

    # The step's result as it is.
    class DefaultPublisher < BasePublisher
      def name
        "default"
      end
    end

    # What the publishers of this process make of the events that a step declares.
    # @api private
    module Collect
      MAX_EVENTS = 64
      # Containers that a payload may nest, so that it fits into the messages around it.
      DEPTH = 20

      class << self
        # The `events` of a result: one entry for each event that fires and has a publisher here. Events without one are left to
        # the daemon. Never raises.
        def step_events(declared, context, result)
          registry = PublisherRegistry.current
          return nil if registry.nil? || result.checkpoint?

          final = !(result.failure? && result.retryable && context.retryable? && !context.is_last_retry?)
          found = declared.filter_map do |declaration|
            publisher = registry.get(declaration["publisher"])
            entry(publisher, declaration, context, result) if publisher && fires?(declaration["condition"], result.success?, final)
          end
          found.empty? ? nil : found.first(MAX_EVENTS)
        rescue StandardError => e # an event's trouble is never the step's
          Taskerd::Logger.instance.error("the events of step #{context.step_uuid} have failed: #{e.message} (#{e.class})")
          nil
        end

        # True if an attempt that ended in this way meets the condition; `final`: no other will be made.
        def fires?(condition, success, final)
          case condition
          when "always" then true
          when nil, "success" then success
          when "failure" then !success
          when "permanent_failure" then !success && final
          when "retryable_failure" then !success && !final
          end
        end

        # What `publish` lets through.
        def put(name, payload, metadata)
          collector = Thread.current.thread_variable_get(:taskerd_event)
          collector[:found] = { "name" => name, "payload" => Codec::Plain.of(payload, "payload", DEPTH),
                                "metadata" => Codec::Plain.of(metadata, "metadata", DEPTH) } if collector
        end

        def failed(error)
          collector = Thread.current.thread_variable_get(:taskerd_event)
          collector[:failed] = LogBridge.text(error.message)[0, 300] if collector
        end

        private

        # The entry for a declared event. One whose hooks failed is not published: its default payload may be what they were there to change.
        def entry(publisher, declaration, context, result)
          collector = {}
          Thread.current.thread_variable_set(:taskerd_event, collector)
          begin
            publisher.publish({ event_name: declaration["name"], step_result: seen(result), event_declaration: declaration,
                                step_context: whose(context) })
          rescue StandardError => e # only a publish of the subclass's own raises
            publisher.failed(declaration["name"], e, nil)
          end
          return { **collector[:found], "name" => declaration["name"] } if collector[:found]

          { "name" => declaration["name"], **(collector[:failed] ? { "failed" => collector[:failed] } : { "skip" => true }) }
        ensure
          Thread.current.thread_variable_set(:taskerd_event, nil)
        end

        def seen(result)
          value = result.failure? ? { message: result.message, error_type: result.error_type, retryable: result.retryable } : result.result
          { success: result.success?, result: value, metadata: result.metadata }
        end

        def whose(context)
          { task_uuid: context.task_uuid, step_uuid: context.step_uuid, step_name: context.step_name, namespace: context.namespace_name,
            correlation_id: context.correlation_id, context: context.context }
        end
      end
    end
  end
end

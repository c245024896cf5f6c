# frozen_string_literal: true

module Taskerd
  module Worker
    # One attempt: find the handler, run it, turn what comes out into the bytes of a result. One per worker, used by all its
    # threads.
    class Runner
      # @return [Array(Integer, Integer)] bytes and items that one result may have; set after each handshake
      attr_accessor :room
      # @return [Registry::HandlerRegistry]
      attr_reader :registry

      def initialize(registry)
        @registry = registry
        @room = Codec.split_limits(Codec::DEFAULT_LIMITS)
        @tracing = OpenTelemetryBridge.load
      end

      # Run the handler; never raises.
      # @return [Types::StepHandlerCallResult::Success, Types::StepHandlerCallResult::Error, Types::StepHandlerCallResult::CheckpointYield]
      def attempt(context)
        CurrentStep.set(context)
        around = Worker.around_step
        around ? around.call(context) { traced(context) } : traced(context)
      rescue Exception => e # rubocop:disable Lint/RescueException -- a handler's exit ends its step, not this thread
        Types::Outcome.of_exception(e)
      ensure
        CurrentStep.set(nil)
      end

      # Run one attempt.
      # @return [String] the packed item of `step.result`
      def run(context)
        started = Process.clock_gettime(Process::CLOCK_MONOTONIC, :float_millisecond)
        result = attempt(context)
        elapsed = Process.clock_gettime(Process::CLOCK_MONOTONIC, :float_millisecond) - started
        log_failure(context, result) if result.failure?
        declared = context.step["publishes_events"]
        events = declared ? DomainEvents::Collect.step_events(declared, context, result) : nil
        encode(context, result, elapsed, events)
      end

      # The packed item for a result; a failure that says why if the result cannot be sent.
      def encode(context, result, elapsed_ms, events = nil)
        item = Item.build(context.step, result, elapsed_ms)
        item["events"] = events if events
        packed = Codec.pack(item)
        max_bytes, max_items = @room
        return packed if Codec.fits?(packed, item, max_bytes, max_items)
        return without_events(context, result, elapsed_ms, events) if events

        unsendable(context, result, elapsed_ms, "result_too_large", "#{packed.bytesize} bytes, the daemon takes #{max_bytes}")
      rescue StandardError, SystemStackError, NoMemoryError => e # values of the application may fail in any way
        unsendable(context, result, elapsed_ms, "serialization_error", e.message)
      end

      private

      def traced(context)
        @tracing ? @tracing.run(context) { outcome(context) } : outcome(context)
      end

      def outcome(context)
        if context.cancelled?
          return Types::StepHandlerCallResult.error(error_type: "cancelled", message: "cancelled before it began: #{context.cancel_reason}",
                                                    retryable: true)
        end
        spec = context.step["handler"]
        entry = spec["resolver"] ? nil : @registry.entry(spec["callable"])
        value = entry.is_a?(Class) && !spec["method"] ? call_class(entry, spec, context) : call_resolved(spec, context)
        case value
        when Types::StepHandlerCallResult::Success, Types::StepHandlerCallResult::Error then value
        else Types::StepHandlerCallResult.from_handler_output(value)
        end
      end

      # The short way for most steps.
      def call_class(klass, spec, context)
        handler = Handlers.build(klass, spec["initialization"] || {})
        klass.functional? ? handler.call(context) : Handlers.invoke(handler, :call, context)
      end

      def call_resolved(spec, context)
        definition = Types::HandlerDefinition.from_hash(spec)
        handler = begin
          @registry.resolver_chain.resolve(definition)
        rescue Registry::ResolutionError => e
          return unresolved(spec, e.message)
        end
        return unresolved(spec, "no resolver knows it") if handler.nil?

        handler.is_a?(Registry::MethodDispatchWrapper) ? handler.call(context) : Handlers.invoke(handler, :call, context)
      end

      def unresolved(spec, why)
        Types::StepHandlerCallResult.error(error_type: "handler_not_found", retryable: false,
                                           message: "handler #{spec["callable"].inspect} cannot be resolved: #{why}")
      end

      def without_events(context, result, elapsed_ms, events)
        Logger.instance.error("step #{context.step_uuid}: its events are too large to be sent with the result")
        left_out = events.map { |e| e.key?("payload") ? { "name" => e["name"], "failed" => "too large to be sent with the result" } : e }
        encode(context, result, elapsed_ms, left_out == events ? nil : left_out)
      end

      # What is sent instead: a success that cannot be stored is a permanent failure, a failure goes without the extras
      # that were in its way.
      def unsendable(context, result, elapsed_ms, kind, why)
        Logger.instance.error("step #{context.step_uuid} of handler #{context.handler_name}: the result cannot be sent: #{why}")
        plain = if result.failure?
                  Types::StepHandlerCallResult.error(error_type: result.error_type, message: result.message, error_code: result.error_code,
                                                     retryable: result.retryable, retry_after: result.retry_after)
                else
                  Types::StepHandlerCallResult.error(error_type: kind, message: "the handler's result cannot be sent: #{why}", retryable: false)
                end
        Codec.pack(Item.build(context.step, plain, elapsed_ms))
      end

      def log_failure(context, result)
        trace = context.cancelled? ? nil : result.backtrace
        kind = result.retryable ? "retryable" : "permanent"
        unexpected = trace && result.error_type == Types::ErrorTypes::UNEXPECTED_ERROR
        Logger.instance.public_send(unexpected ? :warn : :info,
                                    "step #{context.step_uuid} (handler #{context.handler_name}, attempt #{context.attempt}) failed, " \
                                    "#{kind}: #{result.message}#{"\n#{trace.first(20).join("\n")}" if unexpected}")
      end
    end

    # The item of `step.result`.
    # @api private
    module Item
      MAX_MESSAGE = 16_384
      MAX_BACKTRACE = 64

      class << self
        def build(step, result, elapsed_ms)
          failed = result.failure?
          item = { "step_uuid" => step["step_uuid"], "attempt" => step["attempt"], "claim" => step["claim"], "success" => !failed,
                   "execution_ms" => elapsed_ms.round(3) }
          failed ? add_error(item, result) : add_result(item, result)
        end

        private

        def add_result(item, result)
          item["result"] = Codec::Plain.of(result.result, "result")
          metadata = result.metadata
          item["metadata"] = Codec::Plain.of(metadata, "metadata") unless metadata.empty?
          item
        end

        def add_error(item, result)
          metadata = result.metadata.is_a?(Hash) ? result.metadata.transform_keys(&:to_s) : {}
          message = Types.presence(text(result.message, MAX_MESSAGE)) || "the step failed"
          error = { "message" => message, "error_type" => text(result.error_type, 128), "retryable" => result.retryable }
          code = result.error_code || metadata["error_code"]
          error["error_code"] = text(code, 128) unless code.nil?
          trace = result.backtrace || metadata["backtrace"]
          error["backtrace"] = trace.first(MAX_BACKTRACE).map { |line| text(line, 1024) } if trace.is_a?(Array) && trace.any?
          status = metadata["status_code"] || inner(metadata, "status_code")
          error["status_code"] = status if status.is_a?(Integer)
          error["context"] = lenient(metadata["context"], "error.context") if metadata["context"].is_a?(Hash) && metadata["context"].any?
          item["error"] = error
          item["metadata"] = lenient(metadata, "metadata") unless metadata.empty?
          wait = retry_after_ms(result, metadata)
          item["retry_after_ms"] = wait if wait
          item
        end

        # A failure's extras never hide the failure itself: what cannot be stored is shown as text.
        def lenient(hash, path)
          hash.each_with_object({}) do |(key, value), out|
            name = text(key, 256)
            out[name] = Codec::Plain.of(value, "#{path}.#{name}", Codec::MAX_VALUE_DEPTH - 1)
          rescue StandardError, SystemStackError
            out[name] = described(value)
          end
        end

        def described(value)
          text(value.inspect, 1024)
        rescue StandardError, SystemStackError
          "(#{value.class})"
        end

        # The wished delay in ms: the result's own, or the metadata key under which handlers put it.
        def retry_after_ms(result, metadata)
          return nil unless result.retryable

          wishes = [result.retry_after, metadata["retry_after"], metadata["retry_after_seconds"], inner(metadata, "retry_after")]
          found = wishes.map { |wish| seconds(wish) }.compact.first
          found && (found * 1000).to_i
        end

        def inner(metadata, key)
          context = metadata["context"]
          context.is_a?(Hash) ? context[key] || context[key.to_sym] : nil
        end

        # Seconds of a number, a duration, or digits.
        def seconds(wish)
          number = case wish
                   when nil, true, false then nil
                   when Numeric then wish
                   when /\A\d+(\.\d+)?\z/ then wish.to_f
                   else wish.respond_to?(:to_f) && !wish.is_a?(String) ? wish.to_f : nil
                   end
          number && number.respond_to?(:between?) && number.between?(0, 1_000_000_000) ? number : nil
        end

        # Any text in a form that can be sent and stored.
        def text(value, limit)
          text = value.to_s
          text = text.dup.force_encoding(Encoding::UTF_8) if text.encoding == Encoding::BINARY
          text = text.encode(Encoding::UTF_8, invalid: :replace, undef: :replace) unless text.encoding == Encoding::UTF_8
          text.scrub("?")[0, limit].tr("\0", "?")
        end
      end
    end
  end
end

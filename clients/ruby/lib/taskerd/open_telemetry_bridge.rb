# frozen_string_literal: true

module Taskerd
  # A step's handler runs in a span that continues the task's trace. Only where OpenTelemetry is loaded.
  # @api private
  class OpenTelemetryBridge
    # @return [OpenTelemetryBridge, nil] nil if the application does not use OpenTelemetry
    def self.load
      defined?(::OpenTelemetry) && ::OpenTelemetry.respond_to?(:tracer_provider) ? new : nil
    end

    def run(context)
      step = context.step
      parent = step["traceparent"] ? ::OpenTelemetry.propagation.extract(step.slice("traceparent", "tracestate").compact) : ::OpenTelemetry::Context.current
      ::OpenTelemetry::Context.with_current(parent) do
        tracer = ::OpenTelemetry.tracer_provider.tracer("taskerd", VERSION)
        tracer.in_span(step["handler"]["callable"], attributes: attributes(step), kind: :consumer) do |span|
          result = yield
          span.status = ::OpenTelemetry::Trace::Status.error(result.message) if result.failure?
          result
        end
      end
    end

    private

    def attributes(step)
      {
        "taskerd.task_uuid" => step["task_uuid"].to_s, "taskerd.step_uuid" => step["step_uuid"].to_s, "taskerd.step" => step["step"].to_s,
        "taskerd.namespace" => step["namespace"].to_s, "taskerd.template" => step["template"].to_s, "taskerd.attempt" => step["attempt"]
      }
    end
  end
end

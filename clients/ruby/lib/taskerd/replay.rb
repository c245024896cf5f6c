# frozen_string_literal: true

require "json"

module Taskerd
  # Run a recorded step again in the foreground, recording nothing.
  module Replay
    # What a handler asks of the worker, answered here.
    class Host
      def initialize(out, client)
        @out = out
        @client = client
      end

      # Results that were left out for their size.
      def fetch_dependencies(step_uuid, names)
        pages = []
        params = { step_uuid: step_uuid, names: names }
        loop do
          pages << @client.request("step.dependencies", params)
          return pages unless (params[:cursor] = pages.last["next_cursor"])
        end
      end

      # Shown; nothing is recorded.
      def store_checkpoint(params)
        @out.puts("checkpoint: #{params.reject { |key, _| %w[step_uuid attempt claim].include?(key) }}")
        "recorded"
      end

      def send_progress(_step_uuid, _attempt, progress)
        @out.puts("progress: #{progress.inspect}")
      end

      def send_log(_step_uuid, level, message, fields)
        @out.puts("#{level}: #{message}#{fields.map { |k, v| " #{k}=#{v}" }.join}")
      end
    end

    # A step as the daemon has it: `step` as `step.execute` would bring it, `recorded` what became of it.
    class Recording
      attr_reader :step, :recorded

      # By the step's uuid, or its task's uuid and its name.
      def self.fetch(client, uuid, name = nil)
        new(client.request("step.replay", name.nil? ? { step_uuid: uuid } : { task_uuid: uuid, step: name }))
      end

      # @param answer [Hash] of the request `step.replay`
      def initialize(answer)
        @step = answer.fetch("step")
        @recorded = answer.fetch("recorded").compact
      end
    end

    class << self
      # Run the handler and print its result beside the recorded one.
      # @return [Integer] 0 if there was a handler to run
      def run(recording, registry, client, debug: false, out: $stdout)
        context = Types::StepContext.from_step(recording.step, Host.new($stderr, client), Transport.now)
        start_debugger(registry, recording) if debug
        result = Worker::Runner.new(registry).attempt(context)
        warn result.backtrace.join("\n") if result.failure? && result.backtrace
        replayed = sendable(described(result))
        out.puts(JSON.pretty_generate(shown(recording, result, replayed)))
        result.failure? && result.error_type == "handler_not_found" ? 1 : 0
      end

      private

      # A breakpoint at the handler's method.
      def start_debugger(registry, recording)
        require "debug"
        spec = recording.step["handler"]
        handler = registry.resolve(spec)
        handler = handler.unwrap if handler.is_a?(Registry::MethodDispatchWrapper)
        return if handler.nil?

        file, line = place_of(handler, spec["method"] || "call")
        DEBUGGER__.add_line_breakpoint(file, line + 1)
      end

      # File and line of the application's code.
      def place_of(handler, method)
        made_of_block = handler.class.respond_to?(:functional?) && handler.class.functional?
        made_of_block ? handler.class.definition.binding.source_location : handler.method(method).source_location
      end

      def shown(recording, result, replayed)
        recorded = recording.recorded
        { "step" => recording.step["step"], "handler" => recording.step.dig("handler", "callable"), "recorded" => recorded, "replayed" => replayed,
          "same" => result.success? && recorded["state"] == "complete" && replayed["result"] == recorded["result"] }
      end

      def described(result)
        found = if result.failure?
                  { success: false, error: { message: result.message, error_type: result.error_type, error_code: result.error_code,
                                             retryable: result.retryable } }
                else
                  { success: true, result: result.result }
                end
        found[:metadata] = result.metadata unless result.metadata.empty?
        found
      end

      def sendable(value)
        Codec::Plain.convert(value, "", Codec::MAX_PARAMS_DEPTH)
      rescue StandardError, SystemStackError => e # values of the handler's own may fail in any way
        warn "the result could not be sent: #{e.message}"
        { "result" => "(#{e.message})" }
      end
    end
  end
end

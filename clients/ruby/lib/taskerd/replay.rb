# frozen_string_literal: true

module Taskerd
  # Run a recorded step again in the foreground, recording nothing.
  module Replay
    # What a handler asks of the worker, answered here.
    class Host
      def initialize(out)
        @out = out
      end

      # Nothing was left out.
      def fetch_dependencies(_step_uuid, _names)
        {}
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

    # A step as the daemon has it.
    class Recording
      attr_reader :row

      # By the step's uuid, or its task's uuid and its name.
      def self.fetch(client, uuid, name = nil)
        # A step's uuid is its task's with the step's number in the last six digits.
        task_uuid = name.nil? && !uuid.end_with?("000000") ? "#{uuid[0...-6]}000000" : uuid
        task = client.request("task.get", { task_uuid: task_uuid, steps: true })
        wanted = name.nil? ? [uuid] : [name]
        row = (task["steps"] || []).find { |r| wanted.include?(r["step_uuid"]) || wanted.include?(r["name"]) }
        raise Client::NotFoundError, "task #{task_uuid} has no step #{name || uuid}" if row.nil?

        new(task, row, client.get_template(task["name"], namespace: task["namespace"], version: task["version"]))
      end

      def initialize(task, row, template)
        @task = task
        @row = row
        @steps = (template["steps"] || []).to_h { |step| [step["name"], step] }
      end

      # The step of the template that the recorded one is an instance of.
      def template_step
        @steps.fetch(template_name(@row))
      end

      # The step as `step.execute` brings it.
      def step
        definition = template_step
        {
          **whose, **@row.slice("inputs", "checkpoint").compact,
          "attempt" => [@row["attempts"].to_i, 1].max, "max_attempts" => @row["max_attempts"] || definition["max_attempts"] || 3,
          "retryable" => definition.fetch("retryable", true), "step" => @row["name"], "template_step" => definition["name"],
          "handler" => (definition["handler"] || {}).to_h, "context" => @task["context"] || {}, "dependencies" => results
        }
      end

      # @return [Hash] what became of the step
      def recorded
        @row.slice("state", "attempts", "result", "error").compact
      end

      private

      def whose
        {
          "step_uuid" => @row["step_uuid"], "task_uuid" => @task["task_uuid"], "namespace" => @task["namespace"], "template" => @task["name"],
          "version" => @task["version"], "priority" => @task["priority"] || 0, "correlation_id" => @task["correlation_id"],
          "parent_correlation_id" => @task["parent_correlation_id"]
        }
      end

      def results
        ancestors = ancestors_of(template_step)
        done = @task["steps"].select { |r| %w[complete resolved_manually].include?(r["state"]) && ancestors.include?(template_name(r)) }
        done.to_h { |r| [r["name"], r["result"]] }
      end

      def ancestors_of(definition)
        found = []
        todo = (definition["depends_on"] || []).dup
        while (name = todo.pop)
          next if found.include?(name)

          found << name
          todo.concat(@steps.dig(name, "depends_on") || [])
        end
        found
      end

      def template_name(row)
        name = row["name"]
        return name if @steps.key?(name)
        return row["template_step"] if @steps.key?(row["template_step"])

        @steps.keys.select { |n| name.start_with?("#{n}_") }.max_by(&:size) || raise(Client::NotFoundError, "the template has no step #{name}")
      end
    end

    class << self
      # Run the handler and print its result beside the recorded one.
      # @return [Integer] 0 if there was a handler to run
      def run(recording, registry, debug: false, out: $stdout)
        context = Types::StepContext.from_step(recording.step, Host.new($stderr), Transport.now)
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

        file, line = handler.method(spec["method"] || "call").source_location
        DEBUGGER__.add_line_breakpoint(file, line + 1)
      end

      def shown(recording, result, replayed)
        recorded = recording.recorded
        same = result.success? && replayed.is_a?(Hash) && replayed["result"] == recorded["result"]
        { "step" => recording.row["name"], "handler" => recording.template_step.dig("handler", "callable"), "recorded" => recorded,
          "replayed" => replayed, "same" => same }
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

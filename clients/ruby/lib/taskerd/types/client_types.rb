# frozen_string_literal: true

module Taskerd
  module Types
    # Task states that nothing leaves.
    FINISHED_STATES = %w[complete error cancelled resolved_manually].freeze

    # @param keys the names of the members that a class has
    # @api private
    module FromWire
      # An instance from the keys that the class has; the rest stays reachable by `[]` on {#raw}.
      def from_wire(hash)
        made = new(**hash.each_with_object({}) { |(k, v), out| out[k.to_sym] = v if members.include?(k.to_sym) })
        made.raw = hash
        made
      end
      alias from_h from_wire
    end

    # @api private
    module Raw
      # @return [Hash] everything that the daemon has said
      attr_accessor :raw
    end

    # One step of a task.
    ClientStepResponse = Struct.new(
      :step_uuid, :name, :task_uuid, :state, :attempts, :max_attempts, :depends_on, :handler, :created_at, :updated_at, :ready_at, :started_at,
      :finished_at, :retry_at, :result, :error, :template_step, :inputs, :checkpoint, :dependencies_satisfied, :total_parents,
      :completed_parents, keyword_init: true
    ) do
      extend FromWire
      include Raw

      # @return [Object] what the step returned
      def results
        result
      end

      def current_state
        state
      end

      def status
        state
      end

      def next_retry_at
        retry_at
      end

      def last_attempted_at
        started_at
      end

      def last_failure_at
        error ? finished_at : nil
      end

      # @return [Boolean] true if attempts are left
      def retry_eligible
        attempts.to_i < max_attempts.to_i
      end

      # @return [Boolean] true if nothing but a worker is missing
      def ready_for_execution
        state == "enqueued" || (state == "pending" && dependencies_satisfied)
      end
    end

    # One task. Right after `create_task` only what the daemon answers is known.
    ClientTaskResponse = Struct.new(
      :task_uuid, :name, :namespace, :version, :state, :created, :created_at, :updated_at, :finished_at, :context, :initiator, :source_system,
      :reason, :priority, :tags, :paused, :run_at, :correlation_id, :parent_correlation_id, :total_steps, :pending_steps, :in_progress_steps,
      :completed_steps, :failed_steps, :ready_steps, :completion_percentage, :execution_status, :recommended_action, :health_status,
      :missing_handlers, :steps, keyword_init: true
    ) do
      extend FromWire
      include Raw

      # @api private
      def self.from_wire(hash)
        task = super
        rows = hash["steps"] || []
        done = rows.select { |row| %w[complete resolved_manually].include?(row["state"]) }.to_h { |row| [row["name"], true] }
        task.steps = rows.map do |row|
          step = ClientStepResponse.from_wire({ "task_uuid" => task.task_uuid, **row })
          parents = row["depends_on"] || []
          step.created_at = task.created_at
          step.updated_at = [task.created_at, step.ready_at, step.started_at, step.finished_at].compact.max
          step.total_parents = parents.size
          step.completed_parents = parents.count { |name| done[name] }
          step.dependencies_satisfied = step.total_parents == step.completed_parents
          step
        end
        task
      end

      def status
        state
      end

      def completed_at
        finished_at
      end

      # @return [Boolean] true if the task will not change any more
      def finished?
        FINISHED_STATES.include?(state)
      end

      # @return [Boolean] true if all of it is done
      def complete?
        state == "complete"
      end

      # @return [ClientStepResponse] the step of a name; KeyError if there is none
      def step(name)
        steps.find { |step| step.name == name.to_s } || raise(KeyError, "task #{task_uuid} has no step #{name}")
      end
    end

    # A page of tasks, newest first, without steps. `pagination` is a Hash; `next_cursor` leads on. The daemon does not count lists: the totals
    # are known on the last page (unless a cursor has led there), and nil on others.
    ClientTaskListResponse = Struct.new(:tasks, :pagination, keyword_init: true) do
      # @api private
      def self.from_wire(answer, limit, offset, whole)
        cursor = answer["next_cursor"]
        tasks = (answer["tasks"] || []).map { |row| ClientTaskResponse.from_wire(row) }
        total = offset + tasks.size if whole && cursor.nil? && (tasks.any? || offset.zero?)
        pagination = { page: (offset / limit) + 1, per_page: limit, total_count: total, total_pages: total && (total.to_f / limit).ceil, has_next: !cursor.nil?,
                       has_previous: offset.positive?, next_cursor: cursor }
        new(tasks: tasks, pagination: Taskerd.indifferent(pagination))
      end

      def next_cursor
        pagination[:next_cursor]
      end
    end

    # How one attempt of a step went.
    ClientStepAuditResponse = Struct.new(
      :workflow_step_uuid, :task_uuid, :step_name, :attempt, :outcome, :success, :worker_uuid, :recorded_at, :execution_time_ms, :result, :error,
      :audit_uuid, :transition_uuid, :correlation_id, :from_state, keyword_init: true
    ) do
      # @return [String, nil] the state that the attempt left the step in, where its outcome alone tells
      def to_state
        { "success" => "complete", "permanent_error" => "error", "invalid_result" => "error", "cancelled" => "cancelled" }[outcome]
      end

      # The attempts of one step (by name or uuid) out of `task.history`.
      # @api private
      def self.of(task_uuid, step, history)
        rows = (history["attempts"] || []).select { |row| [row["step_uuid"], row["step"]].include?(step) }
        rows.map do |row|
          new(workflow_step_uuid: row["step_uuid"], task_uuid: task_uuid, step_name: row["step"], attempt: row["attempt"], outcome: row["outcome"],
              success: row["outcome"] == "success", worker_uuid: row["worker_uuid"], recorded_at: row["recorded_at"],
              execution_time_ms: row["execution_ms"], result: row["result"], error: row["error"], audit_uuid: row["audit_uuid"],
              from_state: "in_progress")
        end
      end
    end

    # Whether the daemon can do its work.
    ClientHealthResponse = Struct.new(:healthy, :info, keyword_init: true) do
      alias_method :healthy?, :healthy

      # @api private
      def self.from_wire(info)
        database = info["database"]
        new(healthy: database.is_a?(Hash) && %w[up ready].include?(database["state"]), info: info)
      end
    end

    # What `wait` saw. `settled`: nothing moves without an operator; `finished`: the task is over.
    ClientWaitResult = Struct.new(:task_uuid, :state, :settled, :finished, keyword_init: true) do
      extend FromWire
      include Raw
      alias_method :settled?, :settled
      alias_method :finished?, :finished
    end

    # What became of one task of `create_tasks`: `task_uuid`, or `error`.
    ClientCreateOutcome = Struct.new(:task_uuid, :created, :state, :error, keyword_init: true) do
      # @return [Boolean] true if the task exists
      def ok?
        error.nil?
      end

      # @api private
      def self.from_wire(result)
        return new(error: DaemonError.from_wire(result["error"])) if result["error"].is_a?(Hash)

        new(task_uuid: result["task_uuid"], created: result["created"], state: result["state"])
      end
    end

    # The params of a task that is to be created.
    TaskRequest = Struct.new(
      :name, :namespace, :version, :context, :initiator, :source_system, :reason, :tags, :priority, :correlation_id, :parent_correlation_id,
      :idempotency_key, :run_at, :traceparent, :tracestate, :requested_at, :options, keyword_init: true
    ) do
      # @return [Hash] the params, without those that are nil
      def to_params
        to_h.reject { |key, value| value.nil? || %i[requested_at options].include?(key) }
      end
    end
  end
end

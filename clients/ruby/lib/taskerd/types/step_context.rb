# frozen_string_literal: true

require_relative "../models"

module Taskerd
  module Types
    # What a handler sees of its step.
    class StepContext
      # Where an attempt is; belongs to the worker.
      # @api private
      attr_accessor :stage
      # @api private
      attr_reader :step, :host, :key, :received

      # @param data [Hash, Models::TaskSequenceStepWrapper] with `task`, `workflow_step`, `dependency_results`, `step_definition`
      # @param handler_name [String, nil] default: the callable of the step's definition
      def initialize(data, handler_name: nil)
        sequence = data.respond_to?(:workflow_step) ? data : Models::TaskSequenceStepWrapper.new(data)
        @task = sequence.task
        @workflow_step = sequence.workflow_step
        @dependency_results = sequence.dependency_results
        @step_definition = sequence.step_definition
        @handler_name = handler_name
        @step = nil
        @checkpoint = nil
      end

      # Wrap a step of `step.execute`.
      # @api private
      def self.from_step(step, host, received)
        context = allocate
        context.send(:wrap, step, host, received)
        context
      end

      # -- whose step it is ------------------------------------------------------------------------

      # @return [Models::TaskWrapper]
      def task
        @task ||= Models::TaskWrapper.new(WireStep.task(@step))
      end

      # @return [Models::WorkflowStepWrapper]
      def workflow_step
        @workflow_step ||= Models::WorkflowStepWrapper.new(WireStep.workflow_step(@step))
      end

      # @return [Models::StepDefinitionWrapper]
      def step_definition
        @step_definition ||= Models::StepDefinitionWrapper.new(WireStep.definition(@step))
      end

      # @return [Models::DependencyResultsWrapper] results of all steps before this one, in envelopes
      def dependency_results
        @dependency_results ||= Models::DependencyResultsWrapper.of_pages(@step["task_uuid"], @step, partial_loader)
      end

      def task_uuid
        @step ? @step["task_uuid"] : task.task_uuid
      end

      def step_uuid
        @step ? @step["step_uuid"] : workflow_step.workflow_step_uuid
      end

      def step_name
        @step ? @step["step"] : workflow_step.name
      end

      def namespace_name
        @step ? @step["namespace"] : task.namespace_name
      end

      def correlation_id
        (@step ? @step["correlation_id"] : task.correlation_id) || task_uuid
      end

      def parent_correlation_id
        @step ? @step["parent_correlation_id"] : task.parent_correlation_id
      end

      # @return [String, nil] the template's callable
      def handler_name
        @handler_name || step_definition.handler.callable
      end

      # -- the task's input ------------------------------------------------------------------------

      # @return [Hash] what the task was created with
      def context
        task.context
      end

      # A value of the task's context, nil if absent.
      def get_input(key)
        context[key.to_s]
      end
      alias get_task_field get_input

      # A value of the task's context; `default` if it is absent or nil.
      def get_input_or(key, default = nil)
        value = get_input(key)
        value.nil? ? default : value
      end

      # @return [Hash] the template's `initialization`
      def step_config
        @step_config ||= @step ? Taskerd.indifferent(@step["handler"]["initialization"] || {}) : step_definition.handler.initialization
      end

      # A value of the template's `initialization`, nil if absent.
      def get_config(key)
        step_config[key.to_s]
      end

      # @return [Hash] inputs of this step; of a batch worker its part of the batch
      def step_inputs
        @step_inputs ||= @step ? Taskerd.indifferent(@step["inputs"] || @step["handler"]["initialization"] || {}) : workflow_step.inputs
      end
      alias input_data step_inputs

      # -- results of earlier steps ----------------------------------------------------------------

      # What an earlier step returned (any that this one depends on, however far), nil if it did not run.
      def get_dependency_result(step_name)
        dependency_results.get_results(step_name)
      end

      # A value inside an earlier step's result; nil as soon as the path leaves it.
      def get_dependency_field(step_name, *path)
        path.flatten.reduce(get_dependency_result(step_name)) do |value, part|
          case value
          when Hash then value[part.to_s]
          when Array then /\A-?\d+\z/.match?(part.to_s) ? value[part.to_s.to_i] : nil
          end
        end
      end

      # @return [Array<String>] names of the earlier steps that have results
      def get_dependency_result_keys
        dependency_results.keys
      end

      # @return [Array] results, nil left out, of all earlier steps whose name begins with `prefix`
      def get_all_dependency_results(prefix = "")
        dependency_results.keys.select { |name| name.start_with?(prefix.to_s) }.filter_map { |name| get_dependency_result(name) }
      end

      # -- attempts --------------------------------------------------------------------------------

      # @return [Integer] attempts made before this one
      def retry_count
        @step ? @step["attempt"] - 1 : workflow_step.attempts.to_i
      end

      # @return [Integer] attempts allowed in all
      def max_retries
        @step ? @step["max_attempts"] || 3 : workflow_step.max_attempts.to_i
      end

      # @return [Integer] this attempt, counted from 1
      def attempt
        retry_count + 1
      end

      def is_retry?
        retry_count.positive?
      end
      alias retry? is_retry?

      # @return [Boolean] true if no attempt is left after this one
      def is_last_retry?
        retry_count >= max_retries - 1
      end
      alias last_retry? is_last_retry?

      def retryable?
        @step ? @step.fetch("retryable", true) != false : workflow_step.retryable?
      end

      # -- checkpoint ------------------------------------------------------------------------------

      # @return [Hash, nil] what the last checkpoint stored
      def checkpoint
        return @checkpoint if @checkpoint

        found = @step ? @step["checkpoint"] : workflow_step.checkpoint
        @checkpoint = found.nil? ? nil : Taskerd.indifferent(found)
      end

      def checkpoint_cursor
        checkpoint && checkpoint[:cursor]
      end

      def checkpoint_items_processed
        (checkpoint && checkpoint[:items_processed]) || 0
      end

      def accumulated_results
        checkpoint && checkpoint[:accumulated_results]
      end

      # @return [Boolean] true if a checkpoint with a cursor exists
      def has_checkpoint?
        !checkpoint_cursor.nil?
      end
      alias checkpoint? has_checkpoint?

      # Store how far the step is and go on. It is durable when this returns: another attempt, should one be needed, finds
      # it as {#checkpoint}. StepCancelledError if the attempt no longer counts, PermanentError if it cannot be stored.
      def save_checkpoint(cursor, items_processed: nil, accumulated_results: nil)
        made = { "cursor" => cursor, "items_processed" => items_processed, "accumulated_results" => accumulated_results }.compact
        if @host
          status = @host.store_checkpoint({ **@step.slice("step_uuid", "attempt", "claim"), **Codec::Plain.of(made, "checkpoint") })
          raise Errors::PermanentError, "the checkpoint cannot be stored: it is too large, or holds a bad value" if status == "rejected"
          raise Errors::StepCancelledError, "the checkpoint does not count: #{status}" if status != "recorded"
        end
        @checkpoint = Taskerd.indifferent(made)
        nil
      end

      # -- cancelling and time ---------------------------------------------------------------------

      # @return [Boolean] true once the daemon has taken the attempt back; whatever the handler returns is void
      def cancelled?
        !@cancel_reason.nil?
      end

      # @return [String, nil] `timeout`, `task_cancelled`, `batch_failed`, `stale` or `shutdown`
      def cancel_reason
        @cancel_reason
      end

      # Leave the handler if the attempt was cancelled.
      def raise_if_cancelled!
        raise Errors::StepCancelledError, "step cancelled: #{@cancel_reason}" if @cancel_reason
      end
      alias raise_if_cancelled raise_if_cancelled!

      # Sleep, but no longer than the attempt counts.
      # @return [Boolean] true if the whole time has passed
      def sleep(seconds)
        waiter = (@waiter ||= Waiter.new)
        waiter.wait(seconds) unless cancelled?
        !cancelled?
      end

      # @return [Float, nil] seconds until the daemon ends the attempt; nil if the template sets no timeout
      def remaining_seconds
        limit = @step && @step["timeout_ms"]
        limit && [0.0, (limit / 1000.0) - (Transport.now - @received)].max
      end

      # @api private
      def cancel!(reason)
        @cancel_reason = reason
        @waiter&.wake
      end

      # -- telling people --------------------------------------------------------------------------

      # Show progress to whoever looks at the step. Changes nothing else.
      def heartbeat(progress = nil)
        @host&.send_progress(@step["step_uuid"], @step["attempt"], progress)
        nil
      end

      # Write a line with the step's ids to the daemon's log.
      # @param level [String, Symbol] `trace`, `debug`, `info`, `warn` or `error`
      def log(level, message, **fields)
        @host&.send_log(@step["step_uuid"], level.to_s, message, fields)
        nil
      end

      def inspect
        "#<#{self.class} step=#{step_uuid} attempt=#{attempt}>"
      end

      # Sleeps that end early.
      # @api private
      class Waiter
        def initialize
          @lock = Mutex.new
          @cond = ConditionVariable.new
          @over = false
        end

        def wait(seconds)
          deadline = Transport.now + seconds
          @lock.synchronize do
            while !@over && (left = deadline - Transport.now).positive?
              @cond.wait(@lock, left)
            end
          end
        end

        def wake
          @lock.synchronize do
            @over = true
            @cond.broadcast
          end
        end
      end

      private

      def wrap(step, host, received)
        @step = step
        @host = host
        @received = received
        @key = "#{step.fetch("step_uuid")}/#{step.fetch("attempt")}"
        @stage = :waiting
        @cancel_reason = @waiter = nil
        raise TypeError, "attempt is no integer" unless step["attempt"].is_a?(Integer)

        step.fetch("handler").fetch("callable")
      end

      def partial_loader
        return unless @step["dependencies_partial"] && @host

        -> { @host.fetch_dependencies(@step["step_uuid"], nil) }
      end
    end

    # A step of `step.execute` in the shape of {Models}.
    # @api private
    module WireStep
      ABSENT = %w[named_step_uuid processed_at last_attempted_at backoff_request_seconds results created_at updated_at].to_h { |k| [k, nil] }.freeze

      module_function

      def task(step)
        {
          "task" => {
            "task_uuid" => step["task_uuid"], "context" => step["context"] || {}, "correlation_id" => step["correlation_id"] || step["task_uuid"],
            "parent_correlation_id" => step["parent_correlation_id"], "priority" => step["priority"] || 0
          },
          "task_name" => step["template"], "task_version" => step["version"], "namespace_name" => step["namespace"]
        }
      end

      def workflow_step(step)
        {
          **ABSENT,
          "workflow_step_uuid" => step["step_uuid"], "task_uuid" => step["task_uuid"], "name" => step["step"],
          "template_step_name" => step["template_step"] || step["step"], "retryable" => step.fetch("retryable", true) != false,
          "max_attempts" => step["max_attempts"] || 3, "attempts" => step["attempt"] - 1, "in_process" => true, "processed" => false,
          "inputs" => step["inputs"] || step["handler"]["initialization"] || {}, "checkpoint" => step["checkpoint"]
        }
      end

      def definition(step)
        {
          "name" => step["template_step"] || step["step"], "description" => nil, "dependencies" => [],
          "handler" => { "initialization" => {}, **step["handler"] },
          "retry" => { "retryable" => step.fetch("retryable", true) != false, "max_attempts" => step["max_attempts"] || 3 },
          "timeout_seconds" => step["timeout_ms"] && (step["timeout_ms"] / 1000.0), "publishes_events" => step["publishes_events"] || []
        }
      end
    end
  end
end

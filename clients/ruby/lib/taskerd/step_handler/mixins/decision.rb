# frozen_string_literal: true

module Taskerd
  module StepHandler
    module Mixins
      # For a step of `type: decision`: says which of the steps behind it are created.
      module Decision
        def capabilities
          super | %w[decision decision_point routing dynamic_workflow]
        end

        # Create these steps.
        # @param steps [String, Array<String>]
        # @param routing_context [Hash] why, for the steps behind; joins the result
        def decision_success(steps:, result_data: {}, metadata: {}, routing_context: nil)
          if steps.is_a?(Types::DecisionPointOutcome::NoBranches) || steps.is_a?(Types::DecisionPointOutcome::CreateSteps)
            return decision_with_custom_outcome(outcome: steps, result_data: result_data, metadata: metadata)
          end

          data = routing_context.nil? || routing_context.empty? ? result_data : { **result_data, routing_context: routing_context }
          decision_result(Types::DecisionPointOutcome.create_steps(decision_step_names(steps)), data, metadata)
        end
        alias route_to_steps decision_success

        # Create none of them.
        def decision_no_branches(reason = nil, result_data: {}, metadata: {}, **more)
          data = reason.nil? ? result_data : { reason: reason, **result_data }
          decision_result(Types::DecisionPointOutcome.no_branches, { **data, **more }, metadata)
        end
        alias skip_branches decision_no_branches

        # What an outcome says that was made by hand.
        def decision_with_custom_outcome(outcome:, result_data: {}, metadata: {})
          decision_result(validate_decision_outcome!(outcome), result_data, metadata)
        end

        # The decision cannot be made.
        def decision_failure(message:, error_type: "DecisionError", retryable: false, metadata: {}, **more)
          failure(message: message, error_type: error_type, retryable: retryable, metadata: metadata, **more)
        end

        # @return [Types::DecisionPointOutcome::CreateSteps, Types::DecisionPointOutcome::NoBranches] raises PermanentError if it is neither
        def validate_decision_outcome!(outcome)
          found = outcome.is_a?(Hash) ? Types::DecisionPointOutcome.from_hash(outcome) : outcome
          kinds = [Types::DecisionPointOutcome::CreateSteps, Types::DecisionPointOutcome::NoBranches]
          return found if kinds.any? { |kind| found.is_a?(kind) }

          invalid_decision("#{outcome.inspect} is no outcome of a decision")
        end

        private

        def decision_step_names(steps)
          names = Array(steps).map { |name| name.is_a?(Symbol) ? name.name : name }
          invalid_decision("a decision needs at least one step; decision_no_branches is for none") if names.empty?
          bad = names.find { |name| !name.is_a?(String) || name.empty? }
          invalid_decision("#{bad.inspect} is no name of a step") unless bad.nil?
          names
        end

        def invalid_decision(message)
          raise Errors::PermanentError.new(message, error_code: "INVALID_DECISION_OUTCOME", context: { handler: handler_name })
        end

        def decision_result(outcome, result_data, metadata)
          told = {
            decision_point: true, outcome_type: outcome.type, branches_created: outcome.step_names.size,
            processed_at: Time.now.utc.strftime("%Y-%m-%dT%H:%M:%S.%6NZ"), processed_by: handler_name
          }
          result = Taskerd.indifferent({ **result_data.to_h.transform_keys(&:to_sym), decision_point_outcome: outcome.to_h })
          Types::StepHandlerCallResult.success(result: result, metadata: { **told, **metadata })
        end
      end
    end
  end
end

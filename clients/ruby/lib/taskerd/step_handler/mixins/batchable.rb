# frozen_string_literal: true

module Taskerd
  module StepHandler
    module Mixins
      # For the handlers of batches: dividing the work, doing a part, adding up.
      module Batchable
        def capabilities
          super | %w[batchable batch_processing parallel_execution cursor_based]
        end

        # -- dividing the work -----------------------------------------------------------------------

        # At most `worker_count` parts of equal size, the last one perhaps smaller. A block may change each.
        # @return [Array<Hash>] with the keys `batch_id`, `start_cursor`, `end_cursor` (exclusive) and `batch_size`
        def create_cursor_configs(total_items, worker_count)
          raise ArgumentError, "worker_count must be positive" unless worker_count.positive?
          return [] unless total_items.positive?

          size = (total_items + worker_count - 1) / worker_count
          (0...total_items).step(size).each_with_index.map do |first, i|
            last = [first + size, total_items].min
            config = { "batch_id" => format("%03d", i + 1), "start_cursor" => first, "end_cursor" => last, "batch_size" => last - first }
            yield config, i if block_given?
            config
          end
        end

        # The analyzer is done: a worker for each part. `metadata` joins the result.
        def create_batches_outcome(worker_template_name:, cursor_configs:, total_items:, metadata: {})
          outcome = Types::BatchProcessingOutcome.create_batches(worker_template_name: worker_template_name, cursor_configs: cursor_configs,
                                                                 total_items: total_items)
          batch_result({ batch_processing_outcome: outcome.to_h, worker_count: outcome.worker_count, total_items: total_items }, metadata,
                       { batch_analyzer: true })
        end

        # There is nothing to do. `metadata` joins the result.
        def no_batches_outcome(reason:, metadata: {})
          batch_result({ batch_processing_outcome: Types::BatchProcessingOutcome.no_batches.to_h, reason: reason }, metadata,
                       { batch_analyzer: true })
        end

        # -- doing a part ----------------------------------------------------------------------------

        # @return [BatchProcessing::BatchWorkerContext] the part of a worker's step; ArgumentError if there is none
        def get_batch_context(context)
          BatchProcessing::BatchWorkerContext.from_step_data(context)
        end

        # The finished result if this is the placeholder of a batch without work, else nil.
        # @param batch [BatchProcessing::BatchWorkerContext, Types::StepContext]
        def handle_no_op_worker(batch)
          batch = get_batch_context(batch) if batch.is_a?(Types::StepContext)
          return nil unless batch.no_op?

          Types::StepHandlerCallResult.success(result: Taskerd.indifferent({ batch_id: batch.batch_id, no_op: true, processed_count: 0 }),
                                               metadata: { no_op: true })
        end

        # A worker is done. `metadata` joins the result.
        def batch_worker_success(items_processed:, items_succeeded: items_processed, items_failed: 0, items_skipped: 0, last_cursor: nil,
                                 results: nil, errors: nil, metadata: {})
          told = { items_processed: items_processed, items_succeeded: items_succeeded, items_failed: items_failed, items_skipped: items_skipped }
          told[:last_cursor] = last_cursor unless last_cursor.nil?
          told[:results] = results unless results.nil?
          told[:errors] = errors unless errors.nil?
          batch_result(told, metadata, { batch_worker: true })
        end

        # Store how far the step is and have it called again, with `context.checkpoint` set. Uses no attempt.
        def checkpoint_yield(cursor:, items_processed: 0, accumulated_results: nil)
          Types::StepHandlerCallResult.checkpoint_yield(cursor: cursor, items_processed: items_processed, accumulated_results: accumulated_results)
        end

        # -- adding up -------------------------------------------------------------------------------

        # What the analyzer and the workers before this step have left.
        # @return [BatchProcessing::BatchAggregationScenario]
        def detect_aggregation_scenario(dependency_results, batchable_step_name, batch_worker_prefix)
          BatchProcessing::BatchAggregationScenario.detect(dependency_results, batchable_step_name, batch_worker_prefix)
        end

        # The result of an aggregation over nothing.
        def no_batches_aggregation_result(metadata: {})
          batch_result({ worker_count: 0, scenario: "no_batches" }, metadata, {})
        end

        # The result of an aggregation: what the block makes of the workers' results by step name.
        def aggregate_batch_worker_results(scenario, zero_metrics: {})
          return no_batches_aggregation_result(metadata: zero_metrics) if scenario.no_batches?

          made = block_given? ? yield(scenario.batch_results) : { batch_results: scenario.batch_results }
          batch_result(made.to_h, { worker_count: scenario.worker_count, scenario: "with_batches" }, {})
        end

        private

        def batch_result(result, more, metadata)
          merged = result.to_h.transform_keys(&:to_s).merge(more.to_h.transform_keys(&:to_s))
          Types::StepHandlerCallResult.success(result: Taskerd.indifferent(merged), metadata: metadata)
        end
      end
    end
  end
end

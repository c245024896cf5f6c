# frozen_string_literal: true

module Taskerd
  module BatchProcessing
    module StepHandlers
      class CountRows < StepHandler::Batchable
        def call(context)
          rows = context.get_input("rows").to_i
          return no_batches_outcome(reason: "no_rows", metadata: { rows: rows }) if rows.zero?

          configs = create_cursor_configs(rows, 2) { |cfg, i| cfg["label"] = "part #{i}" }
          create_batches_outcome(worker_template_name: "work", cursor_configs: configs, total_items: rows, metadata: { source: "test" })
        end
      end

      class WorkRows < StepHandler::Batchable
        def call(context)
          batch_ctx = get_batch_context(context)
          no_op_result = handle_no_op_worker(batch_ctx)
          return no_op_result if no_op_result

          at = batch_ctx.checkpoint_cursor || batch_ctx.start_cursor
          upto = [at + 2, batch_ctx.end_cursor].min
          done = context.checkpoint_items_processed + upto - at
          if upto < batch_ctx.end_cursor
            return checkpoint_yield(cursor: upto, items_processed: done, accumulated_results: { "seen" => done })
          end

          batch_worker_success(items_processed: done, items_succeeded: done, last_cursor: upto, metadata: { batch_id: batch_ctx.batch_id })
        end
      end

      class SumRows < StepHandler::Batchable
        def call(context)
          scenario = detect_aggregation_scenario(context.dependency_results, "count", "work_")
          return no_batches_aggregation_result(metadata: { total: 0 }) if scenario.no_batches?

          aggregate_batch_worker_results(scenario, zero_metrics: { total: 0 }) do |batch_results|
            { total: batch_results.values.sum { |r| r["items_processed"] || r[:items_processed] } }
          end
        end
      end
    end
  end
end

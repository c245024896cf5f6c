"""A batch of rows: analyzer, worker with checkpoints, aggregator; as classes and as functions."""
from tasker_core import StepHandler, StepHandlerResult
from tasker_core.batch_processing import Batchable, BatchAggregationScenario
from tasker_core.step_handler.functional import BatchConfig, batch_analyzer, batch_worker, inputs


class CsvAnalyzer(StepHandler, Batchable):
    handler_name = "csv.CsvAnalyzer"

    def call(self, context):
        rows = context.get_input("rows")
        if rows == 0:
            return self.no_batches_outcome(reason="empty_file", metadata={"file": "none.csv"})
        outcome = self.create_batch_outcome(total_items=rows, batch_size=context.step_config["batch_size"], batch_metadata={"file": "data.csv"})
        return self.batch_analyzer_success(outcome, worker_template_name="csv_worker")


class CsvWorker(StepHandler, Batchable):
    handler_name = "csv.CsvWorker"

    def call(self, context):
        no_op = self.handle_no_op_worker(context)
        if no_op:
            return no_op
        batch = self.get_batch_context(context)
        raw = self.get_batch_worker_inputs(context)
        assert raw.cursor.batch_id == batch.batch_id and not raw.is_no_op
        at = batch.checkpoint_cursor if batch.has_checkpoint() else batch.start_cursor
        total = (context.accumulated_results or {}).get("sum", 0)
        upto = min(at + 3, batch.end_cursor)
        total += sum(range(at, upto))
        if context.retry_count == 0 and context.get_input("flaky") == batch.batch_id and at > batch.start_cursor:
            raise OSError("the disk was busy")
        if upto < batch.end_cursor:
            return self.checkpoint_yield(cursor=upto, items_processed=upto - batch.start_cursor, accumulated_results={"sum": total})
        done = batch.end_cursor - batch.start_cursor
        return self.batch_worker_success(items_processed=done, items_succeeded=done, results=[{"sum": total}], last_cursor=upto, batch_metadata={"batch": batch.batch_id})


class CsvAggregator(StepHandler, Batchable):
    handler_name = "csv.CsvAggregator"

    def call(self, context):
        scenario = BatchAggregationScenario.detect(context.dependency_results, "csv_analyzer", "csv_worker_")
        if scenario.is_no_batches:
            return self.no_batches_aggregation_result({"total": 0})
        return self.aggregate_batch_worker_results(
            scenario,
            zero_metrics={"total": 0},
            aggregation_fn=lambda results: {"total": sum(r["results"][0]["sum"] for r in results.values()), "processed": sum(r["items_processed"] for r in results.values())},
        )


@batch_analyzer("csv_analyze_dsl", worker_template="csv_worker")
@inputs("rows")
def analyze(rows):
    return BatchConfig(total_items=rows, batch_size=4, metadata={"dsl": True})


@batch_worker("csv_work_dsl")
def work(batch_context, context):
    if batch_context is None:
        return {"items_processed": 0, "results": [{"sum": 0}]}
    found = sum(range(batch_context.start_cursor, batch_context.end_cursor))
    return StepHandlerResult.success({"items_processed": batch_context.end_cursor - batch_context.start_cursor, "results": [{"sum": found}]})

"""Batches as handler files write them: dividing, working, yielding, adding up."""

import unittest

import support  # noqa: F401 - puts the package on the path

from taskerd import (
    Batchable,
    BatchAggregationScenario,
    BatchAnalyzerOutcome,
    BatchWorkerConfig,
    BatchWorkerContext,
    BatchWorkerOutcome,
    CursorConfig,
    StepContext,
    StepHandler,
)
from taskerd.step_handler.functional import (
    BatchConfig,
    batch_analyzer,
    batch_worker,
    depends_on,
    inputs,
)
from taskerd.types import (
    BatchAggregationResult,
    BatchMetadata,
    FailureStrategy,
    RustBatchWorkerInputs,
    RustCursorConfig,
    aggregate_batch_results,
    create_batches,
    no_batches,
)


class Handler(StepHandler, Batchable):
    handler_name = "h"

    def call(self, context):
        return self.success()


class OtherOrder(Batchable, StepHandler):
    handler_name = "o"

    def call(self, context):
        return self.success()


H = Handler()


def worker_context(no_op=False, **more):
    inputs_of_step = {
        "unit": "kg",
        "cursor": {"batch_id": "002", "start_cursor": 10, "end_cursor": 20, "batch_size": 10},
        "batch_metadata": {"cursor_field": "row", "failure_strategy": "fail_fast"},
        "is_no_op": no_op,
        "__template_step_name": "work",
    }
    return StepContext(step_inputs=inputs_of_step, step_config={"unit": "kg"}, **more)


def ids(result):
    return [c["batch_id"] for c in result.result["batch_processing_outcome"]["cursor_configs"]]


class Analyzer(unittest.TestCase):
    def test_ranges(self):
        ranges = H.create_cursor_ranges(25, 10)
        self.assertEqual([(r.start_cursor, r.end_cursor) for r in ranges], [(0, 10), (10, 20), (20, 25)])
        self.assertEqual(H.create_cursor_ranges(0, 10), [])
        self.assertEqual([r.end_cursor for r in H.create_cursor_ranges(100, 10, max_batches=3)], [34, 68, 100])
        with self.assertRaises(ValueError):
            H.create_cursor_ranges(5, 0)
        one = H.create_cursor_config(3, 9, step_size=2, metadata={"k": 1})
        self.assertEqual((one.start_cursor, one.end_cursor, one.step_size, one.metadata), (3, 9, 2, {"k": 1}))

    def test_shares(self):
        shares = H.create_cursor_configs(10, 3)
        self.assertEqual([(s.batch_id, s.cursor_start, s.cursor_end, s.row_count) for s in shares],
                         [("001", 0, 4, 4), ("002", 4, 8, 4), ("003", 8, 10, 2)])  # fmt: skip
        self.assertEqual([(s.worker_index, s.total_workers) for s in shares], [(0, 3), (1, 3), (2, 3)])
        self.assertEqual(H.create_cursor_configs(0, 3), [])
        with self.assertRaises(ValueError):
            H.create_cursor_configs(1, 0)

    def test_success_from_an_outcome(self):
        outcome = H.create_batch_outcome(20, 10, batch_metadata={"file": "f"})
        result = H.batch_analyzer_success(outcome, worker_template_name="work")
        self.assertEqual(result.result, {
            "batch_processing_outcome": {
                "type": "create_batches", "worker_template_name": "work", "worker_count": 2, "total_items": 20,
                "cursor_configs": [
                    {"batch_id": "001", "start_cursor": 0, "end_cursor": 10, "batch_size": 10},
                    {"batch_id": "002", "start_cursor": 10, "end_cursor": 20, "batch_size": 10},
                ],
            },
            "worker_count": 2, "total_items": 20, "batch_metadata": {"file": "f"},
        })  # fmt: skip
        self.assertEqual(result.metadata, {"batch_analyzer": True})

    def test_success_from_configs_of_every_kind(self):
        for configs in (
            H.create_cursor_ranges(20, 10),
            H.create_cursor_configs(20, 2),
            [RustCursorConfig("001", 0, 10, 10), RustCursorConfig("002", 10, 20, 10)],
            [{"start_cursor": 0, "end_cursor": 10}, {"batch_id": "002", "start_cursor": 10, "end_cursor": 20}],
        ):
            result = H.batch_analyzer_success(cursor_configs=configs, total_items=20, worker_template_name="w")
            self.assertEqual(ids(result), ["001", "002"])
            self.assertNotIn("batch_metadata", result.result)
        letters = H.batch_analyzer_success(cursor_configs=[CursorConfig("a", "m"), CursorConfig("m", "z")])
        self.assertEqual(letters.result["batch_processing_outcome"]["worker_template_name"], "batch_worker")
        self.assertEqual(letters.result["batch_processing_outcome"]["cursor_configs"][0]["start_cursor"], "a")
        with self.assertRaises(ValueError):
            H.batch_analyzer_success()

    def test_nothing_to_do(self):
        result = H.batch_analyzer_success(cursor_configs=[], total_items=0, batch_metadata={"why": "x"})
        self.assertEqual(result.result, {"batch_processing_outcome": {"type": "no_batches"}, "why": "x"})
        result = H.no_batches_outcome("empty", {"rows": 0})
        self.assertEqual(result.result, {"batch_processing_outcome": {"type": "no_batches"}, "reason": "empty", "rows": 0})

    def test_outcomes_as_types(self):
        self.assertEqual(no_batches().to_dict(), {"type": "no_batches"})
        made = create_batches("w", 1, [RustCursorConfig("001", 0, 5, 5)], 5)
        self.assertEqual(made.model_dump()["cursor_configs"][0]["end_cursor"], 5)
        ranges = BatchAnalyzerOutcome.from_ranges([(0, 5), (5, 9)])
        self.assertEqual(ranges.total_items, 9)
        self.assertEqual(H.create_batch_outcome_from_ranges([(0, 5)]).cursor_configs, [CursorConfig(0, 5)])
        of_this = H.create_batch_outcome_from_ranges(H.create_cursor_ranges(25, 10, step_size=5))
        self.assertEqual((of_this.total_items, of_this.cursor_configs[2]), (25, CursorConfig(20, 25, 5)))
        self.assertIs(BatchMetadata("id", "isolate").failure_strategy, FailureStrategy.ISOLATE)
        again = BatchAnalyzerOutcome.model_validate(ranges.model_dump())
        self.assertEqual(again, ranges)


class WorkerSide(unittest.TestCase):
    def test_context(self):
        batch = OtherOrder().get_batch_context(worker_context(checkpoint={"cursor": 15, "items_processed": 5}))
        self.assertEqual((batch.batch_id, batch.start_cursor, batch.end_cursor), ("002", 10, 20))
        self.assertEqual((batch.step_size, batch.batch_size, batch.batch_index), (10, 10, 1))
        self.assertEqual(batch.batch_metadata["cursor_field"], "row")
        self.assertTrue(batch.has_checkpoint())
        self.assertEqual((batch.checkpoint_cursor, batch.checkpoint_items_processed), (15, 5))
        self.assertIsNone(batch.accumulated_results)
        self.assertIsNone(H.get_batch_context(StepContext(step_inputs={"unit": "kg"})))

    def test_context_given_by_hand(self):
        given = {"batch_id": "b", "cursor_config": {"start_cursor": 1, "end_cursor": 3}, "batch_index": 4}
        batch = H.get_batch_context(StepContext(input_data={"batch_context": given}))
        self.assertEqual((batch.batch_id, batch.start_cursor, batch.end_cursor, batch.batch_index), ("b", 1, 3, 4))
        made = H.create_batch_context("001", 0, 10)
        self.assertIsInstance(made, BatchWorkerContext)
        self.assertFalse(made.has_checkpoint())

    def test_inputs(self):
        found = H.get_batch_worker_inputs(worker_context())
        self.assertEqual(found.cursor, RustCursorConfig("002", 10, 20, 10))
        self.assertIs(found.batch_metadata.failure_strategy, FailureStrategy.FAIL_FAST)
        self.assertFalse(found.is_no_op)
        self.assertIsNone(H.get_batch_worker_inputs(StepContext()))
        self.assertIsInstance(found, RustBatchWorkerInputs)

    def test_no_op(self):
        self.assertIsNone(H.handle_no_op_worker(worker_context()))
        result = H.handle_no_op_worker(worker_context(no_op=True))
        self.assertTrue(result.is_success)
        self.assertEqual([result.result[k] for k in ("batch_id", "no_op", "processed_count")], ["002", True, 0])

    def test_success(self):
        result = H.batch_worker_success(items_processed=10, items_failed=1, results=[{"sum": 4}], last_cursor=20)
        self.assertEqual(result.result, {
            "items_processed": 10, "items_succeeded": 10, "items_failed": 1, "items_skipped": 0,
            "last_cursor": 20, "batch_metadata": {}, "results": [{"sum": 4}],
        })  # fmt: skip
        self.assertEqual(result.metadata, {"batch_worker": True})
        outcome = H.create_worker_outcome(5, errors=["bad row"], batch_metadata={"k": 1})
        self.assertEqual(outcome.items_succeeded, 5)
        result = H.batch_worker_success(outcome, {"m": 1})
        self.assertEqual((result.result["errors"], result.metadata["m"]), (["bad row"], 1))
        with self.assertRaises(ValueError):
            H.batch_worker_success()
        part = H.batch_worker_partial_failure(BatchWorkerOutcome(10, 8, 2))
        self.assertEqual((part.is_success, part.result["message"]), (True, "2 of 10 items failed"))

    def test_yield(self):
        result = H.checkpoint_yield(15, 5, {"sum": 3})
        self.assertEqual(result.result,
                         {"type": "checkpoint_yield", "cursor": 15, "items_processed": 5, "accumulated_results": {"sum": 3}})  # fmt: skip
        self.assertEqual(result.metadata, {"checkpoint_yield": True, "batch_worker": True})
        self.assertNotIn("accumulated_results", H.checkpoint_yield("k", 1).result)


def envelope(result):
    return {"success": True, "result": result}


ANALYZED = envelope({"batch_processing_outcome": {"type": "create_batches"}, "worker_count": 2})
NOTHING = envelope({"batch_processing_outcome": {"type": "no_batches"}})
WORKED = {
    "work_001": envelope({"items_processed": 10, "items_succeeded": 9, "items_failed": 1, "errors": ["e"]}),
    "work_002": envelope({"items_processed": 10, "items_succeeded": 10}),
}


class Aggregation(unittest.TestCase):
    def test_with_batches(self):
        results = {"analyze": ANALYZED, **WORKED}
        for source in (results, StepContext(dependency_results=results)):
            scenario = H.detect_aggregation_scenario(source, "analyze", "work_")
            self.assertFalse(scenario.is_no_batches or scenario.no_batches())
            self.assertEqual((scenario.worker_count, sorted(scenario.batch_results)), (2, ["work_001", "work_002"]))
            self.assertEqual(scenario.batchable_result["worker_count"], 2)
        made = H.aggregate_batch_worker_results(
            scenario, {"total": 0}, lambda found: {"total": sum(r["items_processed"] for r in found.values())}
        )
        self.assertEqual(made.result, {"total": 20, "worker_count": 2, "scenario": "with_batches"})
        plain = H.aggregate_batch_worker_results(scenario)
        self.assertEqual(plain.result["batch_results"]["work_002"]["items_processed"], 10)

    def test_no_batches(self):
        scenario = H.detect_aggregation_scenario({"analyze": NOTHING, **WORKED}, "analyze", "work_")
        self.assertTrue(scenario.is_no_batches)
        made = H.aggregate_batch_worker_results(scenario, {"total": 0}, lambda found: {})
        self.assertEqual(made.result, {"total": 0, "worker_count": 0, "scenario": "no_batches"})

    def test_what_is_missing_is_told(self):
        with self.assertRaises(ValueError):
            BatchAggregationScenario.detect(WORKED, "analyze", "work_")
        with self.assertRaises(ValueError):
            BatchAggregationScenario.detect({"analyze": ANALYZED}, "analyze", "work_")

    def test_totals(self):
        totals = Handler.aggregate_worker_results([unwrapped["result"] for unwrapped in WORKED.values()] + [None])
        self.assertEqual(totals, {
            "total_processed": 20, "total_succeeded": 19, "total_failed": 1, "total_skipped": 0, "batch_count": 2,
            "success_rate": 0.95, "errors": ["e"], "error_count": 1,
        })  # fmt: skip
        self.assertIsInstance(aggregate_batch_results([]), BatchAggregationResult)


class Functions(unittest.TestCase):
    def test_an_analyzer_that_returns_an_outcome(self):
        @batch_analyzer("rows.outcome", worker_template="work")
        def analyze():
            return BatchAnalyzerOutcome.from_ranges([(0, 3), (3, 7)])

        found = analyze._handler_class().call(StepContext()).result["batch_processing_outcome"]
        self.assertEqual((found["worker_template_name"], found["worker_count"], found["total_items"]), ("work", 2, 7))

    def test_analyzer(self):
        @batch_analyzer("rows.analyze", worker_template="work")
        @inputs("rows")
        def analyze(rows):
            return BatchConfig(total_items=rows, batch_size=10, metadata={"file": "f"})

        call = analyze._handler_class().call
        result = call(StepContext(input_data={"rows": 25}))
        self.assertEqual(ids(result), ["001", "002", "003"])
        self.assertEqual(result.result["batch_processing_outcome"]["worker_template_name"], "work")
        self.assertEqual(result.result["batch_metadata"], {"file": "f"})
        nothing = call(StepContext(input_data={"rows": 0}))
        self.assertEqual(nothing.result["batch_processing_outcome"], {"type": "no_batches"})
        self.assertEqual(nothing.result["reason"], "empty_dataset")
        self.assertFalse(call(StepContext()).is_success)

    def test_worker(self):
        @batch_worker("rows.work", analyzer_step="analyze")
        @depends_on(plan="analyze")
        def work(batch_context, plan, context):
            return {"n": batch_context.end_cursor - batch_context.start_cursor, "unit": context.get_config("unit")}

        @batch_worker("rows.plain")
        async def plain(context):
            return {"id": context.step_inputs["cursor"]["batch_id"]}

        self.assertEqual(work._handler_class().call(worker_context()).result, {"n": 10, "unit": "kg"})
        from asyncio import run

        self.assertEqual(run(plain._handler_class().call(worker_context())).result, {"id": "002"})
        self.assertIsInstance(H.create_cursor_configs(4, 2)[0], BatchWorkerConfig)


if __name__ == "__main__":
    unittest.main()

"""A batch whose worker yields at checkpoints.

The task's context may hold ``total_items`` (100), ``items_per_checkpoint`` (25), and to see retries
``fail_after_items`` and ``permanent_failure``.
"""

from __future__ import annotations

from typing import Any, Dict

from ..batch_processing import Batchable
from ..context import StepContext
from ..errors import PermanentError, RetryableError
from ..results import StepHandlerResult
from ..step_handler.base import StepHandler

__all__ = [
    "CheckpointYieldAggregatorHandler",
    "CheckpointYieldAnalyzerHandler",
    "CheckpointYieldWorkerHandler",
]


class CheckpointYieldAnalyzerHandler(StepHandler, Batchable):
    """Puts everything into one batch."""

    handler_name = "checkpoint_yield_analyzer"

    def call(self, context: StepContext) -> StepHandlerResult:
        """One range over all items, or none."""
        total = int(context.get_input_or("total_items", 100))
        if total <= 0:
            return self.no_batches_outcome("no items")
        return self.batch_analyzer_success(
            cursor_configs=[self.create_cursor_config(0, total)],
            total_items=total,
            worker_template_name=context.step_config.get("worker_template_name", "checkpoint_yield_batch"),
        )


class CheckpointYieldWorkerHandler(StepHandler, Batchable):
    """Adds up the numbers of its range, a few between two checkpoints."""

    handler_name = "checkpoint_yield_worker"

    def call(self, context: StepContext) -> StepHandlerResult:
        """Go on where the last checkpoint stands."""
        nothing = self.handle_no_op_worker(context)
        if nothing is not None:
            return nothing
        batch = self.get_batch_context(context)
        if batch is None:
            raise PermanentError("the step is no batch worker")
        seen: Dict[str, Any] = dict(context.accumulated_results or {"running_total": 0, "items": []})
        at = batch.checkpoint_cursor if batch.has_checkpoint() else batch.start_cursor
        done = batch.checkpoint_items_processed
        upto = min(batch.end_cursor, at + int(context.get_input_or("items_per_checkpoint", 25)))
        for item in range(at, upto):
            self._fail_if_told(context, item)
            seen["running_total"] += item
            done += 1
        if upto < batch.end_cursor:
            return self.checkpoint_yield(cursor=upto, items_processed=done, accumulated_results=seen)
        return self.success(
            {
                "batch_id": batch.batch_id,
                "items_processed": done,
                "items_succeeded": done,
                "running_total": seen["running_total"],
                "final_cursor": upto,
            }
        )

    def _fail_if_told(self, context: StepContext, item: int) -> None:
        if item != context.get_input("fail_after_items") or context.is_retry():
            return
        kind = PermanentError if context.get_input("permanent_failure") else RetryableError
        raise kind(f"told to fail at item {item}")


class CheckpointYieldAggregatorHandler(StepHandler, Batchable):
    """Adds up what the workers found."""

    handler_name = "checkpoint_yield_aggregator"

    def call(self, context: StepContext) -> StepHandlerResult:
        """Totals over all batches."""
        results = context.get_all_dependency_results(context.step_config.get("worker_prefix", "checkpoint_yield_batch"))
        found = [r for r in results if isinstance(r, dict) and not r.get("no_op")]
        return self.success(
            {
                "total_processed": sum(r.get("items_processed", 0) for r in found),
                "running_total": sum(r.get("running_total", 0) for r in found),
                "worker_count": len(found),
                "scenario": "with_batches" if found else "no_batches",
            }
        )

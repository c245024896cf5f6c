"""Batchable: what the handlers of a batch add to StepHandler."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

from .._model import Model
from ..context import StepContext
from ..models import unwrap_result
from ..results import StepHandlerResult
from .models import (
    BatchAnalyzerOutcome,
    BatchWorkerConfig,
    BatchWorkerContext,
    BatchWorkerOutcome,
    CursorConfig,
    RustBatchWorkerInputs,
    RustCursorConfig,
    aggregate_batch_results,
    cursor_map,
)

__all__ = ["BatchAggregationScenario", "Batchable"]

Data = Dict[str, Any]


@dataclass
class BatchAggregationScenario(Model):
    """What the steps before an aggregation have left: nothing to do, or the workers' results."""

    is_no_batches: bool
    batchable_result: Any = None
    #: Worker step name -> its result.
    batch_results: Dict[str, Any] = field(default_factory=dict)
    worker_count: int = 0

    def no_batches(self) -> bool:
        """True if the analyzer found nothing to do."""
        return self.is_no_batches

    def with_batches(self) -> bool:
        """True if there are workers' results."""
        return not self.is_no_batches

    @classmethod
    def detect(
        cls, dependency_results: Any, batchable_step: str, worker_prefix: str
    ) -> "BatchAggregationScenario":
        """Look at the results of the steps before.

        ``dependency_results`` is the context, or its ``dependency_results``. ValueError if the analyzer
        has no result, or wanted workers and none of the names begins with ``worker_prefix``.
        """
        results = _results(dependency_results)
        if batchable_step not in results:
            raise ValueError(f"no result of the batchable step {batchable_step!r}")
        analyzed = results[batchable_step]
        outcome = analyzed.get("batch_processing_outcome") if isinstance(analyzed, Mapping) else None
        if isinstance(outcome, Mapping) and outcome.get("type") == "no_batches":
            return cls(True, analyzed)
        found = {
            name: value
            for name, value in results.items()
            if name.startswith(worker_prefix) and name != batchable_step
        }
        if not found:
            raise ValueError(f"no result of a batch worker whose name begins with {worker_prefix!r}")
        return cls(False, analyzed, found, len(found))


def _results(source: Any) -> Dict[str, Any]:
    """Outputs by step name from a context, a wrapper or a map of envelopes."""
    if isinstance(source, StepContext):
        return {name: source.get_dependency_result(name) for name in source.get_dependency_result_keys()}
    return {str(name): unwrap_result(source[name]) for name in source}


class Batchable:
    """Mixin for the handlers of batches: ``class Work(StepHandler, Batchable)``, in either order."""

    # -- dividing the work -----------------------------------------------------------------------

    def create_cursor_config(
        self, start: Any, end: Any, step_size: int = 1, metadata: Optional[Data] = None
    ) -> CursorConfig:
        """One range, from ``start`` up to but not including ``end``."""
        return CursorConfig(start, end, step_size, dict(metadata or {}))

    def create_cursor_ranges(
        self, total_items: int, batch_size: int, step_size: int = 1, max_batches: Optional[int] = None
    ) -> List[CursorConfig]:
        """Ranges of ``batch_size`` items, made larger if there would be more than ``max_batches``."""
        if batch_size <= 0:
            raise ValueError("batch_size must be positive")
        if total_items <= 0:
            return []
        if max_batches is not None and max_batches > 0:
            batch_size = max(batch_size, -(-total_items // max_batches))
        return [
            CursorConfig(start, min(start + batch_size, total_items), step_size)
            for start in range(0, total_items, batch_size)
        ]

    def create_cursor_configs(self, total_items: int, worker_count: int) -> List[BatchWorkerConfig]:
        """At most ``worker_count`` shares of equal size, the last one perhaps smaller."""
        if worker_count <= 0:
            raise ValueError("worker_count must be positive")
        if total_items <= 0:
            return []
        size = -(-total_items // worker_count)
        starts = range(0, total_items, size)
        return [
            BatchWorkerConfig(
                batch_id=f"{i + 1:03d}",
                cursor_start=start,
                cursor_end=min(start + size, total_items),
                row_count=min(size, total_items - start),
                worker_index=i,
                total_workers=len(starts),
            )
            for i, start in enumerate(starts)
        ]

    def create_batch_outcome(
        self, total_items: int, batch_size: int, step_size: int = 1, batch_metadata: Optional[Data] = None
    ) -> BatchAnalyzerOutcome:
        """Ranges of ``batch_size`` items as an outcome."""
        ranges = self.create_cursor_ranges(total_items, batch_size, step_size)
        return BatchAnalyzerOutcome(list(ranges), total_items, dict(batch_metadata or {}))

    def create_batch_outcome_from_ranges(
        self,
        ranges: Iterable[Union[Tuple[Any, Any], CursorConfig]],
        step_size: int = 1,
        total_items: Optional[int] = None,
        batch_metadata: Optional[Data] = None,
    ) -> BatchAnalyzerOutcome:
        """An outcome from pairs of start and end, or from what ``create_cursor_ranges`` returns."""
        return BatchAnalyzerOutcome.from_ranges(ranges, step_size, total_items, batch_metadata)

    def batch_analyzer_success(
        self,
        outcome: Optional[Union[BatchAnalyzerOutcome, Mapping[str, Any]]] = None,
        metadata: Optional[Data] = None,
        worker_template_name: str = "batch_worker",
        cursor_configs: Optional[Sequence[Any]] = None,
        total_items: Optional[int] = None,
        batch_metadata: Optional[Data] = None,
    ) -> StepHandlerResult:
        """The analyzer is done: a worker for each range, or none if there is no range."""
        if outcome is None:
            if cursor_configs is None:
                raise ValueError("batch_analyzer_success needs an outcome or cursor_configs")
            outcome = BatchAnalyzerOutcome(list(cursor_configs), total_items, dict(batch_metadata or {}))
        outcome = BatchAnalyzerOutcome.model_validate(outcome)
        shared = {**outcome.batch_metadata, **(batch_metadata or {})}
        marked = {"batch_analyzer": True, **(metadata or {})}
        if not outcome.cursor_configs:
            return StepHandlerResult.success({"batch_processing_outcome": {"type": "no_batches"}, **shared}, marked)
        cursors = [cursor_map(config, i + 1) for i, config in enumerate(outcome.cursor_configs)]
        total = outcome.total_items if total_items is None else total_items
        if total is None:
            sizes = [c["batch_size"] for c in cursors]
            total = sum(sizes) if all(isinstance(s, int) for s in sizes) else len(cursors)
        result: Data = {
            "batch_processing_outcome": {
                "type": "create_batches",
                "worker_template_name": worker_template_name,
                "worker_count": len(cursors),
                "cursor_configs": cursors,
                "total_items": total,
            },
            "worker_count": len(cursors),
            "total_items": total,
        }
        if shared:
            result["batch_metadata"] = shared
        return StepHandlerResult.success(result, marked)

    def no_batches_outcome(self, reason: str, metadata: Optional[Data] = None) -> StepHandlerResult:
        """There is nothing to do; ``metadata`` becomes part of the result."""
        return StepHandlerResult.success(
            {"batch_processing_outcome": {"type": "no_batches"}, "reason": reason, **(metadata or {})},
            {"batch_analyzer": True},
        )

    # -- doing a part ----------------------------------------------------------------------------

    def get_batch_context(self, context: StepContext) -> Optional[BatchWorkerContext]:
        """The batch of a worker's step; None if the step is no batch worker."""
        return BatchWorkerContext.from_step_context(context)

    def get_batch_worker_inputs(self, context: StepContext) -> Optional[RustBatchWorkerInputs]:
        """The inputs of a worker's step as the daemon made them; None if the step is no batch worker."""
        inputs = context.step_inputs or {}
        cursor = inputs.get("cursor")
        if not isinstance(cursor, Mapping) or "batch_id" not in cursor:
            return None
        found = RustBatchWorkerInputs.from_dict({**inputs, "batch_metadata": inputs.get("batch_metadata") or {}})
        found.cursor = RustCursorConfig.from_dict(cursor_map(cursor, 1))
        found.cursor.batch_size = cursor.get("batch_size") or 0
        found.is_no_op = bool(found.is_no_op)
        return found

    def create_batch_context(
        self,
        batch_id: str,
        start_cursor: Any = 0,
        end_cursor: Any = 0,
        batch_index: int = 0,
        total_batches: int = 1,
        step_size: int = 1,
        batch_metadata: Optional[Data] = None,
        checkpoint: Optional[Data] = None,
    ) -> BatchWorkerContext:
        """A batch made by hand, for tests."""
        size = end_cursor - start_cursor if isinstance(start_cursor, int) and isinstance(end_cursor, int) else 0
        return BatchWorkerContext(
            batch_id,
            CursorConfig(start_cursor, end_cursor, step_size),
            batch_index,
            total_batches,
            dict(batch_metadata or {}),
            dict(checkpoint or {}),
            batch_size=size,
        )

    def handle_no_op_worker(self, context: StepContext) -> Optional[StepHandlerResult]:
        """The finished result if this is the placeholder of a batch without work, else None."""
        inputs = context.step_inputs or {}
        if not inputs.get("is_no_op"):
            return None
        return StepHandlerResult.success(
            {
                "batch_id": (inputs.get("cursor") or {}).get("batch_id", "000"),
                "no_op": True,
                "processed_count": 0,
                "message": "there was no work for this batch",
                "processed_at": datetime.datetime.now(datetime.timezone.utc).isoformat(),
            },
            {"no_op": True},
        )

    def create_worker_outcome(
        self,
        items_processed: int,
        items_succeeded: int = 0,
        items_failed: int = 0,
        items_skipped: int = 0,
        results: Optional[List[Any]] = None,
        errors: Optional[List[Any]] = None,
        last_cursor: Any = None,
        batch_metadata: Optional[Data] = None,
    ) -> BatchWorkerOutcome:
        """What a worker has done. Without ``items_succeeded`` every item succeeded."""
        return BatchWorkerOutcome(
            items_processed,
            items_succeeded or items_processed,
            items_failed,
            items_skipped,
            results or [],
            errors or [],
            last_cursor,
            batch_metadata or {},
        )

    def batch_worker_success(
        self,
        outcome: Optional[Union[BatchWorkerOutcome, Mapping[str, Any]]] = None,
        metadata: Optional[Data] = None,
        items_processed: Optional[int] = None,
        items_succeeded: Optional[int] = None,
        items_failed: int = 0,
        items_skipped: int = 0,
        results: Optional[Any] = None,
        errors: Optional[List[Any]] = None,
        last_cursor: Any = None,
        batch_metadata: Optional[Data] = None,
    ) -> StepHandlerResult:
        """A worker is done: an outcome, or its parts as keyword arguments."""
        if outcome is None:
            if items_processed is None:
                raise ValueError("batch_worker_success needs an outcome or items_processed")
            outcome = BatchWorkerOutcome(
                items_processed,
                items_processed if items_succeeded is None else items_succeeded,
                items_failed,
                items_skipped,
                results or [],
                errors or [],
                last_cursor,
                batch_metadata or {},
            )
        return StepHandlerResult.success(
            _flat(BatchWorkerOutcome.model_validate(outcome)), {"batch_worker": True, **(metadata or {})}
        )

    def batch_worker_partial_failure(
        self,
        outcome: Union[BatchWorkerOutcome, Mapping[str, Any]],
        message: Optional[str] = None,
        metadata: Optional[Data] = None,
    ) -> StepHandlerResult:
        """A worker is done, though some items failed: they are in its result, and no attempt is repeated."""
        found = BatchWorkerOutcome.model_validate(outcome)
        said = message or f"{found.items_failed} of {found.items_processed} items failed"
        return StepHandlerResult.success(
            {**_flat(found), "partial_failure": True, "message": said},
            {"batch_worker": True, "partial_failure": True, **(metadata or {})},
        )

    def checkpoint_yield(
        self, cursor: Any, items_processed: int, accumulated_results: Optional[Any] = None
    ) -> StepHandlerResult:
        """Store how far the step is and have it called again, with ``context.checkpoint`` set. Uses no attempt."""
        return StepHandlerResult.checkpoint_yield(cursor, items_processed, accumulated_results)

    # -- adding up -------------------------------------------------------------------------------

    def detect_aggregation_scenario(
        self, dependency_results: Any, batchable_step: str, worker_prefix: str
    ) -> BatchAggregationScenario:
        """What the analyzer and the workers before this step have left."""
        return BatchAggregationScenario.detect(dependency_results, batchable_step, worker_prefix)

    def no_batches_aggregation_result(self, zero_metrics: Optional[Data] = None) -> StepHandlerResult:
        """The result of an aggregation over nothing."""
        return StepHandlerResult.success({"worker_count": 0, "scenario": "no_batches", **(zero_metrics or {})})

    def aggregate_batch_worker_results(
        self,
        scenario: BatchAggregationScenario,
        zero_metrics: Optional[Data] = None,
        aggregation_fn: Optional[Callable[[Dict[str, Any]], Mapping[str, Any]]] = None,
    ) -> StepHandlerResult:
        """The result of an aggregation: what ``aggregation_fn`` makes of the workers' results by step name;
        without a function the results themselves."""
        if scenario.is_no_batches:
            return self.no_batches_aggregation_result(zero_metrics)
        if aggregation_fn is None:
            made: Data = {"batch_results": scenario.batch_results}
        else:
            made = dict(aggregation_fn(scenario.batch_results))
        return StepHandlerResult.success(
            {**made, "worker_count": scenario.worker_count, "scenario": "with_batches"}
        )

    @staticmethod
    def aggregate_worker_results(worker_results: Iterable[Any], max_errors: int = 100) -> Data:
        """Totals over the results of workers: ``total_processed``, ``success_rate``, ``errors``, ..."""
        return aggregate_batch_results(worker_results, max_errors).model_dump()


def _flat(outcome: BatchWorkerOutcome) -> Data:
    found: Data = {
        "items_processed": outcome.items_processed,
        "items_succeeded": outcome.items_succeeded,
        "items_failed": outcome.items_failed,
        "items_skipped": outcome.items_skipped,
        "last_cursor": outcome.last_cursor,
        "batch_metadata": outcome.batch_metadata,
    }
    if outcome.results:
        found["results"] = outcome.results
    if outcome.errors:
        found["errors"] = outcome.errors
    return found

"""Batches: a step that divides the work, workers that do a part each, a step that adds up.

::

    class Analyze(StepHandler, Batchable):
        handler_name = "rows.analyze"

        def call(self, context):
            ranges = self.create_cursor_ranges(total_items=10_000, batch_size=500)
            return self.batch_analyzer_success(
                cursor_configs=ranges, total_items=10_000, worker_template_name="work")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import directory, names_of

if TYPE_CHECKING:
    from .batchable import Batchable, BatchAggregationScenario
    from .models import (
        BatchAggregationResult,
        BatchAnalyzerOutcome,
        BatchMetadata,
        BatchWorkerConfig,
        BatchWorkerContext,
        BatchWorkerOutcome,
        CreateBatchesOutcome,
        CursorConfig,
        FailureStrategy,
        NoBatchesOutcome,
        RustBatchWorkerInputs,
        RustCursorConfig,
        aggregate_batch_results,
        create_batches,
        no_batches,
    )

__all__ = [
    "BatchAggregationResult",
    "BatchAggregationScenario",
    "BatchAnalyzerOutcome",
    "BatchMetadata",
    "BatchWorkerConfig",
    "BatchWorkerContext",
    "BatchWorkerOutcome",
    "Batchable",
    "CreateBatchesOutcome",
    "CursorConfig",
    "FailureStrategy",
    "NoBatchesOutcome",
    "RustBatchWorkerInputs",
    "RustCursorConfig",
    "aggregate_batch_results",
    "create_batches",
    "no_batches",
]

__getattr__ = names_of(
    __name__,
    {
        ".batchable": "Batchable BatchAggregationScenario",
        ".models": (
            "BatchAggregationResult BatchAnalyzerOutcome BatchMetadata BatchWorkerConfig BatchWorkerContext "
            "BatchWorkerOutcome CreateBatchesOutcome CursorConfig FailureStrategy NoBatchesOutcome "
            "RustBatchWorkerInputs RustCursorConfig aggregate_batch_results create_batches no_batches"
        ),
    },
    "batchable models",
)
__dir__ = directory(__name__, __all__)

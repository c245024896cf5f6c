"""The types that handlers name."""

from __future__ import annotations

from .batch_processing.models import (
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
from .context import StepContext
from .models import (
    DependencyResultsWrapper,
    HandlerWrapper,
    StepDefinitionWrapper,
    StepEvent,
    TaskSequenceStepWrapper,
    TaskWrapper,
    WorkflowStepWrapper,
)
from .registry import HandlerDefinition
from .results import ErrorType, StepError, StepHandlerResult
from .step_handler.mixins.decision import DecisionPointOutcome, DecisionType
from .worker import BootstrapConfig, BootstrapResult, WorkerState, WorkerStatus

__all__ = [
    "BatchAggregationResult",
    "BatchAnalyzerOutcome",
    "BatchMetadata",
    "BatchWorkerConfig",
    "BatchWorkerContext",
    "BatchWorkerOutcome",
    "BootstrapConfig",
    "BootstrapResult",
    "CreateBatchesOutcome",
    "CursorConfig",
    "DecisionPointOutcome",
    "DecisionType",
    "DependencyResultsWrapper",
    "ErrorType",
    "FailureStrategy",
    "HandlerDefinition",
    "HandlerWrapper",
    "NoBatchesOutcome",
    "RustBatchWorkerInputs",
    "RustCursorConfig",
    "StepContext",
    "StepDefinitionWrapper",
    "StepError",
    "StepEvent",
    "StepHandlerResult",
    "TaskSequenceStepWrapper",
    "TaskWrapper",
    "WorkerState",
    "WorkerStatus",
    "WorkflowStepWrapper",
    "aggregate_batch_results",
    "create_batches",
    "no_batches",
]

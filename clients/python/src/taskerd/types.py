"""The types that handlers name. Other public names of the package are found here as well."""

from __future__ import annotations

from typing import Any

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
from .domain_events.models import (
    DomainEventMetadata,
    EventDeclaration,
    ExecutionResult,
    InProcessDomainEvent,
    PublishContext,
    StepEventContext,
    StepResult,
)
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
    "DomainEventMetadata",
    "ErrorType",
    "EventDeclaration",
    "ExecutionResult",
    "FailureStrategy",
    "HandlerDefinition",
    "HandlerWrapper",
    "InProcessDomainEvent",
    "NoBatchesOutcome",
    "PublishContext",
    "RustBatchWorkerInputs",
    "RustCursorConfig",
    "StepContext",
    "StepDefinitionWrapper",
    "StepError",
    "StepEvent",
    "StepEventContext",
    "StepHandlerResult",
    "StepResult",
    "TaskSequenceStepWrapper",
    "TaskWrapper",
    "WorkerState",
    "WorkerStatus",
    "WorkflowStepWrapper",
    "aggregate_batch_results",
    "create_batches",
    "no_batches",
]


def __getattr__(name: str) -> Any:
    import taskerd

    if name.startswith("_") or name not in taskerd.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(taskerd, name)

"""The types that handlers name."""

from __future__ import annotations

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
from .results import ErrorType, StepHandlerResult

__all__ = [
    "DependencyResultsWrapper",
    "ErrorType",
    "HandlerDefinition",
    "HandlerWrapper",
    "StepContext",
    "StepDefinitionWrapper",
    "StepEvent",
    "StepHandlerResult",
    "TaskSequenceStepWrapper",
    "TaskWrapper",
    "WorkflowStepWrapper",
]

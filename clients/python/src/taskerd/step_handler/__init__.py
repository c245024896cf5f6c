"""Handlers: the base classes, mixins, and functions with decorators."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, Callable

from .._lazy import directory, names_of

if TYPE_CHECKING:
    from . import mixins
    from .api import ApiHandler, ApiResponse
    from .base import StepHandler
    from .decision import DecisionHandler
    from .functional import (
        BatchConfig,
        Decision,
        FunctionalHandler,
        HandlerDecorator,
        api_handler,
        batch_analyzer,
        batch_worker,
        decision_handler,
        depends_on,
        inputs,
        step_handler,
    )

__all__ = [
    "ApiHandler",
    "ApiResponse",
    "BatchConfig",
    "Decision",
    "DecisionHandler",
    "FunctionalHandler",
    "HandlerDecorator",
    "StepHandler",
    "api_handler",
    "batch_analyzer",
    "batch_worker",
    "decision_handler",
    "depends_on",
    "inputs",
    "mixins",
    "step_handler",
]

__getattr__ = names_of(
    __name__,
    {
        ".api": "ApiHandler ApiResponse",
        ".base": "StepHandler",
        ".decision": "DecisionHandler",
        ".functional": (
            "BatchConfig Decision FunctionalHandler HandlerDecorator api_handler batch_analyzer batch_worker "
            "decision_handler depends_on inputs step_handler"
        ),
    },
    "api base decision functional mixins",
)
__dir__ = directory(__name__, __all__)


class _Package(ModuleType):
    """This package is in ``taskerd`` under the name that the decorator has in it, so it is one too: whoever writes
    ``from taskerd import step_handler`` means that."""

    def __call__(self, name: str, version: str = "1.0.0") -> Callable[[Any], Any]:
        from .functional import step_handler as decorator

        return decorator(name, version)


sys.modules[__name__].__class__ = _Package

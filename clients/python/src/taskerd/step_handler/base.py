"""The base class of handlers."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, Dict, List, Mapping, Optional, Type, Union

from ..context import StepContext
from ..results import ErrorType, StepHandlerResult, result_from_value

__all__ = ["StepHandler"]


class StepHandler(abc.ABC):
    """A handler written as a class: set ``handler_name`` and implement ``call``.

    A fresh instance is made for each attempt, without arguments; if that raises TypeError, with
    ``config=`` and the template's ``initialization``. ``call`` may be ``async``.
    """

    #: The ``handler.callable`` of templates; empty means the class's name.
    handler_name: ClassVar[str] = ""
    handler_version: ClassVar[str] = "1.0.0"

    @abc.abstractmethod
    def call(self, context: StepContext) -> Any:
        """Run one attempt. Returns a StepHandlerResult, a dict, or any other value to store."""

    @property
    def name(self) -> str:
        """The handler's name."""
        return self.handler_name or type(self).__name__

    @property
    def version(self) -> str:
        """The handler's version."""
        return self.handler_version

    @property
    def capabilities(self) -> List[str]:
        """What the handler can do."""
        return ["process"]

    def config_schema(self) -> Optional[Dict[str, Any]]:
        """JSON Schema of the template's ``initialization``, if the handler has one."""
        return None

    def success(
        self, result: Optional[Any] = None, metadata: Optional[Mapping[str, Any]] = None
    ) -> StepHandlerResult:
        """The step is done. ``result`` is a dict or a model."""
        if result is not None and not isinstance(result, dict):
            made = result_from_value(result)
            if isinstance(result, StepHandlerResult) or callable(getattr(result, "model_dump", None)):
                return StepHandlerResult.success(made.result, {**made.metadata, **(metadata or {})})
        return StepHandlerResult.success(result, metadata)

    def failure(
        self,
        message: str,
        error_type: Union[str, ErrorType] = "handler_error",
        retryable: bool = True,
        metadata: Optional[Mapping[str, Any]] = None,
        error_code: Optional[str] = None,
        retry_after: Optional[float] = None,
    ) -> StepHandlerResult:
        """The attempt failed."""
        return StepHandlerResult.failure(message, error_type, retryable, metadata, error_code, retry_after)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} version {self.version}>"


def handler_class_of(thing: Any) -> Optional[Type[StepHandler]]:
    """The handler class behind a decorated function or a handler class; None for anything else."""
    made = getattr(thing, "_handler_class", None)
    candidate = made if made is not None and not isinstance(thing, type) else thing
    if isinstance(candidate, type) and issubclass(candidate, StepHandler):
        return candidate
    return None

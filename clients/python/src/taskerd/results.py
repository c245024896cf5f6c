"""What a handler returns, and how exceptions become results."""

from __future__ import annotations

import dataclasses
import enum
import traceback
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Union

from ._codec import to_json_value
from ._model import Model, PydanticMethods, chosen
from .errors import PermanentError, RetryableError, TaskerError
from .exceptions import TaskerdError

__all__ = ["ErrorType", "StepError", "StepHandlerResult", "failure_from_exception", "result_from_value"]


class ErrorType(str, enum.Enum):
    """The standard error types. Any other string may be used as well."""

    PERMANENT_ERROR = "permanent_error"
    RETRYABLE_ERROR = "retryable_error"
    VALIDATION_ERROR = "validation_error"
    TIMEOUT = "timeout"
    HANDLER_ERROR = "handler_error"

    def __str__(self) -> str:
        return self.value

    @classmethod
    def is_standard(cls, error_type: str) -> bool:
        """True for one of the five types above."""
        return str(error_type) in {member.value for member in cls}

    @classmethod
    def is_typically_retryable(cls, error_type: str) -> bool:
        """True for the types that usually ask for another attempt."""
        return str(error_type) in (cls.RETRYABLE_ERROR.value, cls.TIMEOUT.value)


@dataclass
class StepError(Model):
    """What went wrong in a step, as data."""

    error_type: str
    message: str
    retryable: bool = True
    error_code: Optional[str] = None
    stack_trace: Optional[str] = None
    metadata: Dict[str, Any] = field(default_factory=dict)


class StepHandlerResult(PydanticMethods):
    """Success or failure of one attempt. Made by ``success()`` and ``failure()``.

    ``retryable`` alone decides whether another attempt is made; ``error_type`` is for people.
    ``retry_after`` (seconds) replaces the template's backoff.
    """

    __slots__ = (
        "error_code",
        "error_context",
        "error_message",
        "error_type",
        "is_success",
        "metadata",
        "result",
        "retry_after",
        "retryable",
    )

    is_success: bool
    result: Optional[Dict[str, Any]]
    error_message: Optional[str]
    error_type: Optional[str]
    error_code: Optional[str]
    retryable: bool
    metadata: Dict[str, Any]
    retry_after: Optional[float]
    error_context: Optional[Dict[str, Any]]

    def __init__(
        self,
        is_success: Optional[bool] = None,
        result: Optional[Dict[str, Any]] = None,
        error_message: Optional[str] = None,
        error_type: Optional[Union[str, ErrorType]] = None,
        error_code: Optional[str] = None,
        retryable: bool = True,
        metadata: Optional[Mapping[str, Any]] = None,
        retry_after: Optional[float] = None,
        success: Optional[bool] = None,
    ) -> None:
        outcome = is_success if is_success is not None else success
        if outcome is None:
            raise TypeError("is_success is required")
        if result is not None and not isinstance(result, dict):
            raise ValueError(f"result must be a dict, not {type(result).__name__}")
        self.is_success = bool(outcome)
        self.result = result
        self.error_message = error_message
        self.error_type = error_type.value if isinstance(error_type, ErrorType) else error_type
        self.error_code = error_code
        self.retryable = retryable
        self.metadata = dict(metadata) if metadata else {}
        self.retry_after = retry_after
        self.error_context = None

    @staticmethod
    def success(
        result: Optional[Dict[str, Any]] = None, metadata: Optional[Mapping[str, Any]] = None
    ) -> "StepHandlerResult":
        """The step is done; ``result`` is what later steps see."""
        return StepHandlerResult(True, {} if result is None else result, metadata=metadata)

    @staticmethod
    def failure(
        message: str,
        error_type: Union[str, ErrorType] = ErrorType.HANDLER_ERROR,
        retryable: bool = True,
        metadata: Optional[Mapping[str, Any]] = None,
        error_code: Optional[str] = None,
        retry_after: Optional[float] = None,
    ) -> "StepHandlerResult":
        """The attempt failed; another one is made if ``retryable`` and attempts are left."""
        return StepHandlerResult(
            False,
            error_message=message,
            error_type=error_type,
            error_code=error_code,
            retryable=retryable,
            metadata=metadata,
            retry_after=retry_after,
        )

    @staticmethod
    def checkpoint_yield(
        cursor: Any, items_processed: int, accumulated_results: Optional[Any] = None
    ) -> "StepHandlerResult":
        """The step is not done: store how far it is and run it again at once, as the same attempt."""
        result = {"type": "checkpoint_yield", "cursor": cursor, "items_processed": items_processed}
        if accumulated_results is not None:
            result["accumulated_results"] = accumulated_results
        return StepHandlerResult(True, result, metadata={"checkpoint_yield": True, "batch_worker": True})

    def is_success_result(self) -> bool:
        """True if the step is done."""
        return self.is_success

    def is_failure_result(self) -> bool:
        """True if the attempt failed."""
        return not self.is_success

    def to_dict(self) -> Dict[str, Any]:
        """The result as plain data, the outcome under the key ``success``."""
        return {
            "success": self.is_success,
            "result": self.result,
            "error_message": self.error_message,
            "error_type": self.error_type,
            "error_code": self.error_code,
            "retryable": self.retryable,
            "metadata": dict(self.metadata),
        }

    def model_dump(
        self, *, include: Any = None, exclude: Any = None, exclude_none: bool = False, mode: str = "python", **options: Any
    ) -> Dict[str, Any]:
        """The same as ``to_dict``, for code that takes the result for a model."""
        data = chosen(self.to_dict(), include, exclude, exclude_none)
        return {k: to_json_value(v) for k, v in data.items()} if mode == "json" else data

    @classmethod
    def model_validate(cls, data: Any) -> "StepHandlerResult":
        """``data`` itself if it is a result, else one from what ``model_dump`` gives."""
        if isinstance(data, cls):
            return data
        known = ("is_success", "success", "result", "error_message", "error_type", "error_code", "retryable", "metadata")
        return cls(**{k: v for k, v in data.items() if k in known})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StepHandlerResult):
            return NotImplemented
        return self.to_dict() == other.to_dict() and self.retry_after == other.retry_after

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        if self.is_success:
            return f"StepHandlerResult.success({self.result!r})"
        return (
            f"StepHandlerResult.failure({self.error_message!r}, error_type={self.error_type!r}, "
            f"retryable={self.retryable!r})"
        )


def result_from_value(value: Any) -> StepHandlerResult:
    """What a handler function returned, as a result: dicts, models and dataclasses as they are, None as ``{}``,
    anything else as ``{"result": value}``."""
    if isinstance(value, dict):
        return StepHandlerResult(True, value)
    if isinstance(value, StepHandlerResult):
        return value
    if value is None:
        return StepHandlerResult(True, {})
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return StepHandlerResult(True, dump(mode="json"))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return StepHandlerResult(True, {f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    return StepHandlerResult(True, {"result": value})


#: What an error of the library has if nobody has set it.
_UNSET: Dict[str, Any] = {"retryable": True, "metadata": {}, "error_code": None, "retry_after": None, "context": {}}


def failure_from_exception(error: BaseException) -> StepHandlerResult:
    """What an uncaught exception means for the step.

    A PermanentError is final, a RetryableError asks for another attempt (after its
    ``retry_after``), other errors of the library follow their ``retryable``, everything else is
    retryable. An ``asyncio.TaskGroup`` wraps what its tasks raise: the only error of a group counts as itself.
    """
    while type(error).__name__ in ("ExceptionGroup", "BaseExceptionGroup") and len(getattr(error, "exceptions", ())) == 1:
        error = error.exceptions[0]  # type: ignore[attr-defined]
    try:
        return _failure_from(error)
    except Exception as exc:  # an error's own methods and attributes may be anything
        why = f"{type(error).__name__}, which cannot be told: {text_of(exc)}"
        return StepHandlerResult.failure(why, ErrorType.HANDLER_ERROR, not isinstance(error, PermanentError))


def text_of(error: BaseException) -> str:
    """An error's text, or its class if that has none or raises."""
    try:
        if isinstance(error, SystemExit):
            return f"sys.exit({error.code!r}) was called"
        return str(error) or type(error).__name__
    except Exception:
        return f"{type(error).__name__} (its text cannot be had)"


def _failure_from(error: BaseException) -> StepHandlerResult:
    message = text_of(error)
    if isinstance(error, TaskerError):
        own = {k: getattr(error, k, v) for k, v in _UNSET.items()}  # a class of one's own may not call our constructor
        kind, retryable = ErrorType.HANDLER_ERROR, own["retryable"]
        if isinstance(error, PermanentError):
            kind, retryable = ErrorType.PERMANENT_ERROR, False
        elif isinstance(error, RetryableError):
            kind, retryable = ErrorType.RETRYABLE_ERROR, True
        result = StepHandlerResult.failure(message, kind, retryable, own["metadata"], own["error_code"], own["retry_after"])
        result.error_context = {"exception_type": type(error).__name__, **own["context"]}
        return result
    metadata = {
        "exception_type": type(error).__name__,
        "traceback": "".join(traceback.format_exception(type(error), error, error.__traceback__)),
    }
    if isinstance(error, TaskerdError):
        return StepHandlerResult.failure(
            message,
            ErrorType.HANDLER_ERROR,
            error.retryable,
            metadata,
            error.code,
            error.retry_after,
        )
    return StepHandlerResult.failure(message, ErrorType.HANDLER_ERROR, True, metadata)

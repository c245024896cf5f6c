"""Errors that a handler raises to say how its step failed.

``PermanentError`` and its subclasses end the step; ``RetryableError`` and its subclasses ask for
another attempt, after ``retry_after`` seconds if that is given. Any other exception counts as
retryable.
"""

from __future__ import annotations

from typing import Any, ClassVar, Dict, Mapping, Optional

__all__ = [
    "AuthenticationError",
    "AuthorizationError",
    "BusinessLogicError",
    "ConfigurationError",
    "ErrorClassifier",
    "FFIError",
    "NetworkError",
    "NotFoundError",
    "PermanentError",
    "RateLimitError",
    "ResourceContentionError",
    "RetryableError",
    "ServiceUnavailableError",
    "StepCancelledError",
    "TaskerError",
    "TimeoutError",
    "ValidationError",
    "get_classifier",
    "is_permanent",
    "is_retryable",
]


class TaskerError(Exception):
    """Base of the errors a handler raises.

    Args:
        message: What happened, for people.
        retryable: Whether another attempt makes sense; the default depends on the class.
        metadata: Stored with the attempt.
        error_code: A code of the application's own.
        retry_after: Seconds to wait before the next attempt; replaces the template's backoff.
        context: More about the failure; merged into ``metadata`` and shown with the error.
    """

    default_retryable: ClassVar[bool] = True

    def __init__(
        self,
        message: str = "",
        *,
        retryable: Optional[bool] = None,
        metadata: Optional[Mapping[str, Any]] = None,
        error_code: Optional[str] = None,
        retry_after: Optional[float] = None,
        context: Optional[Mapping[str, Any]] = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retryable = self.default_retryable if retryable is None else retryable
        self.error_code = error_code
        self.retry_after = retry_after
        self.context: Dict[str, Any] = dict(context or {})
        self.metadata: Dict[str, Any] = dict(metadata or {})
        self.metadata.update(self.context)
        if error_code is not None:
            self.metadata["error_code"] = error_code
        if retry_after is not None:
            self.metadata["retry_after"] = retry_after

    def to_dict(self) -> Dict[str, Any]:
        """The error as plain data."""
        return {
            "error_type": type(self).__name__,
            "message": self.message,
            "retryable": self.retryable,
            "metadata": dict(self.metadata),
        }


class RetryableError(TaskerError):
    """The step failed, another attempt may succeed."""


class TimeoutError(RetryableError):  # noqa: A001 - the name handlers use
    """Something the step waited for did not come in time."""


class NetworkError(RetryableError):
    """A connection could not be made or broke."""


class RateLimitError(RetryableError):
    """A service asks to be called less often."""


class ServiceUnavailableError(RetryableError):
    """A service the step needs is down."""


class ResourceContentionError(RetryableError):
    """Something the step needs is taken at the moment."""


class StepCancelledError(RetryableError):
    """Raised by ``StepContext.raise_if_cancelled`` when the daemon has taken the attempt back."""


class PermanentError(TaskerError):
    """The step failed for good; no further attempt is made."""

    default_retryable = False


class ValidationError(PermanentError):
    """The step's input is not acceptable."""


class NotFoundError(PermanentError):
    """Something the step needs does not exist."""


class AuthenticationError(PermanentError):
    """Credentials were refused."""


class AuthorizationError(PermanentError):
    """The credentials do not allow what the step wants."""


class ConfigurationError(PermanentError):
    """The handler is set up wrongly."""


class BusinessLogicError(PermanentError):
    """A rule of the application forbids going on."""


class FFIError(TaskerError):
    """Kept for handler code that names it; this library has no native part."""


from .error_classifier import (  # noqa: E402 - needs the classes above
    ErrorClassifier,
    get_classifier,
    is_permanent,
    is_retryable,
)

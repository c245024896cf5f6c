"""What goes wrong around handlers: in the worker, in the client, in the daemon's answers.

Errors that a *handler* raises to steer its own step are in :mod:`taskerd.errors`.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Type

__all__ = [
    "BadRequestError",
    "ConflictError",
    "ConnectionLostError",
    "ConversionError",
    "DatabaseUnavailableError",
    "FFIError",
    "InternalError",
    "InvalidContextError",
    "InvalidTemplateError",
    "InvalidValueError",
    "NotFoundError",
    "OverloadedError",
    "PermissionDeniedError",
    "ProtocolError",
    "RequestTimeoutError",
    "ShuttingDownError",
    "TaskerError",
    "TaskerdError",
    "TemplateNotFoundError",
    "TooLargeError",
    "UnknownMethodError",
    "UnsupportedVersionError",
    "WorkerAlreadyRunningError",
    "WorkerBootstrapError",
    "WorkerNotInitializedError",
]


class TaskerError(Exception):
    """Base of everything the library itself raises."""


class WorkerNotInitializedError(TaskerError):
    """A worker was asked for before one was started."""


class WorkerBootstrapError(TaskerError):
    """The worker could not be started."""


class WorkerAlreadyRunningError(TaskerError):
    """A worker is running in this process already."""


class FFIError(TaskerError):
    """Kept for handler code that catches it; this library has no native part that could raise it."""


class ConversionError(TaskerError):
    """A value cannot be expressed in the JSON data model. ``path`` says where in the value."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


class TaskerdError(TaskerError):
    """The daemon refused a request, or could not be reached.

    ``code`` is the protocol's error code, ``retryable`` tells whether the same request may
    succeed later, ``retry_after`` (seconds) how long the daemon asks to wait before that.
    """

    default_code = "internal"
    retryable = False

    def __init__(
        self,
        message: str,
        *,
        code: Optional[str] = None,
        retry_after: Optional[float] = None,
        path: Optional[str] = None,
        details: Any = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.retry_after = retry_after
        self.path = path
        self.details = details

    def __str__(self) -> str:
        where = f" (at {self.path})" if self.path else ""
        return f"{self.message}{where} [{self.code}]"

    @staticmethod
    def from_wire(error: Mapping[str, Any]) -> "TaskerdError":
        """The exception for an ``error`` map of the protocol; unknown codes give the base class."""
        code = str(error.get("code") or "internal")
        wait = error.get("retry_after_ms")
        return _BY_CODE.get(code, TaskerdError)(
            str(error.get("message") or code),
            code=code,
            retry_after=wait / 1000.0 if isinstance(wait, (int, float)) else None,
            path=error.get("path"),
            details=error.get("details"),
        )


class ProtocolError(TaskerdError):
    """One side sent bytes the other does not accept; the connection is closed."""

    default_code = "protocol_error"


class UnsupportedVersionError(TaskerdError):
    """Daemon and library speak different major versions; ``details`` holds both."""

    default_code = "unsupported_version"


class UnknownMethodError(TaskerdError):
    """The daemon does not know the request (it is older than this library)."""

    default_code = "unknown_method"


class BadRequestError(TaskerdError):
    """A parameter is missing or has the wrong type; ``path`` says which."""

    default_code = "bad_request"


class InvalidValueError(TaskerdError):
    """A value lies outside the JSON data model; ``path`` says which."""

    default_code = "invalid_value"


class TooLargeError(TaskerdError):
    """Over one of the daemon's limits; ``details`` names it."""

    default_code = "too_large"


class NotFoundError(TaskerdError):
    """No such task, step or template."""

    default_code = "not_found"


class TemplateNotFoundError(NotFoundError):
    """The template is not registered."""

    default_code = "template_not_found"


class InvalidContextError(TaskerdError):
    """The context does not fit the template's ``input_schema``. ``violations`` lists where and why."""

    default_code = "invalid_context"

    @property
    def violations(self) -> List[Dict[str, Any]]:
        """What does not fit: ``instance`` and ``keyword`` (JSON pointers into the context and the schema), ``message``."""
        found = self.details.get("violations") if isinstance(self.details, dict) else None
        return list(found) if found else []

    def __str__(self) -> str:
        lines = [super().__str__()]
        lines += [f"  {v.get('instance') or '(the context)'}: {v.get('message', '')}" for v in self.violations]
        return "\n".join(lines)


class InvalidTemplateError(TaskerdError):
    """The template was refused. ``findings`` lists every complaint with file and line."""

    default_code = "invalid_template"

    @property
    def findings(self) -> List[Dict[str, Any]]:
        """The daemon's findings: ``severity``, ``file``, ``line``, ``column``, ``key``, ``message``."""
        found = self.details.get("findings") if isinstance(self.details, dict) else None
        return list(found) if found else []

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *(f"  {finding_line(f)}" for f in self.findings)])


def finding_line(finding: Dict[str, Any]) -> str:
    """A finding as compilers write theirs: ``FILE:LINE:COLUMN: SEVERITY: KEY: MESSAGE``."""
    place = ":".join(str(finding[k]) for k in ("file", "line", "column") if finding.get(k) is not None)
    what = f"{finding['key']}: {finding.get('message', '')}" if finding.get("key") else finding.get("message", "")
    return f"{place}: {finding.get('severity', 'error')}: {what}"


class ConflictError(TaskerdError):
    """An identity or version is taken, or the state forbids the change."""

    default_code = "conflict"


class PermissionDeniedError(TaskerdError):
    """This process's user lacks the role for the request."""

    default_code = "permission_denied"


class OverloadedError(TaskerdError):
    """The daemon reached a bound; try again after ``retry_after``."""

    default_code = "overloaded"
    retryable = True


class DatabaseUnavailableError(TaskerdError):
    """The daemon has no database at the moment; try again after ``retry_after``."""

    default_code = "database_unavailable"
    retryable = True


class ShuttingDownError(TaskerdError):
    """The daemon is stopping; try again on a new connection."""

    default_code = "shutting_down"
    retryable = True


class InternalError(TaskerdError):
    """A defect in the daemon; its log has more."""

    default_code = "internal"


class ConnectionLostError(TaskerdError):
    """The daemon cannot be reached, or the connection broke before the answer came.

    In the second case (``sent`` is true) the daemon may have done what was asked.
    """

    default_code = "connection_lost"
    retryable = True

    def __init__(self, message: str, *, sent: bool = False) -> None:
        super().__init__(message)
        self.sent = sent


class RequestTimeoutError(TaskerdError):
    """No answer within the time allowed; the daemon may still do what was asked."""

    default_code = "timeout"
    retryable = True


_BY_CODE: Dict[str, Type[TaskerdError]] = {
    cls.default_code: cls
    for cls in (
        ProtocolError,
        UnsupportedVersionError,
        UnknownMethodError,
        BadRequestError,
        InvalidValueError,
        TooLargeError,
        NotFoundError,
        TemplateNotFoundError,
        InvalidContextError,
        InvalidTemplateError,
        ConflictError,
        PermissionDeniedError,
        OverloadedError,
        DatabaseUnavailableError,
        ShuttingDownError,
        InternalError,
    )
}

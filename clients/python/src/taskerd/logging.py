"""Structured lines for the standard ``logging``.

The functions write to the logger ``taskerd.app``; fields follow the message as ``key=value`` and are
attached to the record as ``record.fields``.
"""

from __future__ import annotations

import logging as _logging
from dataclasses import dataclass, fields as _fields
from typing import Any, Dict, Mapping, Optional, Union

__all__ = ["LogContext", "log_debug", "log_error", "log_info", "log_trace", "log_warn"]

TRACE = 5
_logging.addLevelName(TRACE, "TRACE")
_log = _logging.getLogger("taskerd.app")


@dataclass(frozen=True)
class LogContext:
    """The usual fields of a line."""

    correlation_id: Any = None
    task_uuid: Any = None
    step_uuid: Any = None
    namespace: Any = None
    operation: Any = None

    def to_dict(self) -> Dict[str, str]:
        """The fields that are set, as strings."""
        named = ((f.name, getattr(self, f.name)) for f in _fields(self))
        return {name: str(value) for name, value in named if value is not None}


Fields = Optional[Union[Mapping[str, Any], LogContext]]


def _write(level: int, message: str, fields: Fields) -> None:
    if not _log.isEnabledFor(level):
        return
    if isinstance(fields, LogContext):
        plain = fields.to_dict()
    else:
        plain = {str(k): str(v) for k, v in (fields or {}).items()}
    tail = "".join(f" {k}={v}" for k, v in plain.items())
    _log.log(level, "%s%s", message, tail, extra={"fields": plain}, stacklevel=3)


def log_error(message: str, fields: Fields = None) -> None:
    """Write a line of level ERROR."""
    _write(_logging.ERROR, message, fields)


def log_warn(message: str, fields: Fields = None) -> None:
    """Write a line of level WARNING."""
    _write(_logging.WARNING, message, fields)


def log_info(message: str, fields: Fields = None) -> None:
    """Write a line of level INFO."""
    _write(_logging.INFO, message, fields)


def log_debug(message: str, fields: Fields = None) -> None:
    """Write a line of level DEBUG."""
    _write(_logging.DEBUG, message, fields)


def log_trace(message: str, fields: Fields = None) -> None:
    """Write a line of level TRACE, below DEBUG."""
    _write(TRACE, message, fields)

"""Lines that handlers log also go to the daemon's log, with the ids of the step that wrote them."""

from __future__ import annotations

import contextvars
import logging
from typing import Any, Dict, Optional

from ._codec import safe_text
from .context import StepContext

__all__ = ["LEVELS", "LogBridge", "current_step"]

#: The step that the calling thread or coroutine runs.
current_step: "contextvars.ContextVar[Optional[StepContext]]" = contextvars.ContextVar("taskerd_step", default=None)

TRACE = 5

#: Names of levels, as the daemon and the command line use them.
LEVELS: Dict[str, int] = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}

MAX_MESSAGE = 8192


def _level_name(level: int) -> str:
    for name in ("error", "warn", "info", "debug"):
        if level >= LEVELS[name]:
            return name
    return "trace"


class LogBridge(logging.Handler):
    """A handler of ``logging`` for the root logger. Lines written outside of steps, and those of this library
    itself, stay here."""

    def emit(self, record: logging.LogRecord) -> None:
        """Send one line on."""
        context = current_step.get()
        if context is None:
            return
        if record.name.startswith("taskerd.") and record.name != "taskerd.app":
            return
        try:
            fields = getattr(record, "fields", None)
            named = {safe_text(k, 256): safe_text(v, MAX_MESSAGE) for k, v in fields.items()} if isinstance(fields, dict) else {}
            message = record.getMessage() if not named else _without_tail(record)
            if record.exc_info and record.exc_info[1] is not None:
                named["exception"] = safe_text(logging.Formatter().formatException(record.exc_info), MAX_MESSAGE)
            named.setdefault("logger", record.name)
            context._log(_level_name(record.levelno), safe_text(message, MAX_MESSAGE), named)
        except Exception:
            self.handleError(record)


def _without_tail(record: logging.LogRecord) -> str:
    """The message of ``log_info`` and its like, whose fields need not stand in the text as well."""
    args = record.args
    return str(args[0]) if isinstance(args, tuple) and len(args) == 2 else record.getMessage()


def install(level: str) -> LogBridge:
    """Put a bridge on the root logger."""
    bridge = LogBridge(LEVELS[level])
    logging.getLogger().addHandler(bridge)
    return bridge


def remove(bridge: Optional[LogBridge]) -> None:
    """Take it away again."""
    if bridge is not None:
        logging.getLogger().removeHandler(bridge)

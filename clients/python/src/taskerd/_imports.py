"""Importing modules of handlers, and telling well what is wrong with one that cannot be imported."""

from __future__ import annotations

import importlib
import logging
import os
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Dict, Iterator, List, Optional, Tuple

from .results import text_of

__all__ = ["ImportFailure", "import_module", "import_tree", "log_failure"]

_log = logging.getLogger("taskerd.handler")

#: What ends an import, but not the worker: modules written as scripts call sys.exit().
IMPORT_ERRORS = (Exception, SystemExit)


@dataclass(frozen=True)
class ImportFailure:
    """A module that could not be imported, and where in it that went wrong."""

    module: str
    file: Optional[str]
    line: Optional[int]
    error: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.file else ""
        return f"module {self.module!r} cannot be imported: {where}{self.error}"

    def to_wire(self) -> Dict[str, Any]:
        """As the handshake tells it."""
        return {
            "name": _shortened(self.module),
            "file": _shortened(self.file or ""),
            "line": self.line or 0,
            "message": _shortened(self.error),
        }

    @classmethod
    def of(cls, module: str, error: BaseException) -> "ImportFailure":
        """From what the import raised."""
        file, line = _place(module, error)
        text = error.msg if isinstance(error, SyntaxError) else text_of(error)
        return cls(module, file, line, f"{type(error).__name__}: {text}")


def _shortened(text: str) -> str:
    """Well-formed, without U+0000, and short enough that all failures fit into the handshake."""
    return text.encode("utf-8", "replace").decode().replace("\0", "?")[:300]


def _place(module: str, error: BaseException) -> Tuple[Optional[str], Optional[int]]:
    """File and line: of a syntax error itself, else the innermost line of the module, else of anything."""
    if isinstance(error, SyntaxError) and error.filename:
        return error.filename, error.lineno
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    frames = [f for f in frames if f.filename != __file__]
    own = module.replace(".", os.sep)
    for frame in reversed(frames):
        if frame.filename.endswith((own + ".py", os.path.join(own, "__init__.py"))):
            return frame.filename, frame.lineno
    return (frames[-1].filename, frames[-1].lineno) if frames else (None, None)


def log_failure(failure: ImportFailure) -> None:
    """Say it where the worker's own log is read."""
    _log.error("%s", failure)


def is_absent(name: str, error: BaseException) -> bool:
    """True if a module is not there at all, rather than broken."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return False
    return name == error.name or name.startswith(error.name + ".")


def _loggers() -> List[logging.Logger]:
    known = list(logging.Logger.manager.loggerDict.items())
    return [logger for name, logger in known if isinstance(logger, logging.Logger) and name.startswith("taskerd.")]


@contextmanager
def _loggers_kept() -> Iterator[None]:
    """``logging.config`` disables every logger that is there already, unless told otherwise; a handler file that
    sets up its own logging must not silence the worker's."""
    meant = [logger for logger in _loggers() if logger.disabled]
    try:
        yield
    finally:
        for logger in _loggers():
            logger.disabled = logger in meant


def import_module(name: str) -> ModuleType:
    """A module of the user's."""
    with _loggers_kept():
        return importlib.import_module(name)


def import_tree(name: str, failures: Optional[List[ImportFailure]] = None) -> Iterator[ModuleType]:
    """A module and everything below it. What cannot be imported is added to ``failures`` and left out;
    a module that does not exist at all, and without a list every failure, is raised."""
    try:
        module = import_module(name)
    except IMPORT_ERRORS as exc:
        if failures is None or is_absent(name, exc):
            raise
        failures.append(ImportFailure.of(name, exc))
        return
    yield module
    places = list(getattr(module, "__path__", ()))
    if not places:
        return
    import pkgutil  # most handlers are in a single file

    below = {info.name for info in pkgutil.iter_modules(places)}
    for place in places:  # directories without __init__.py are packages too, but are not listed
        if os.path.isdir(place):
            below.update(e.name for e in os.scandir(place) if e.is_dir() and e.name.isidentifier())
    for child in sorted(below - {"__main__", "__pycache__"}):
        yield from import_tree(f"{name}.{child}", failures)

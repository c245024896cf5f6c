"""Importing modules of handlers, and telling well what is wrong with one that cannot be imported."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import logging
import os
import sys
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Dict, Iterator, List, Optional, Tuple

from .results import text_of

__all__ = ["ImportFailure", "import_module", "import_tree", "log_failure", "module_at"]

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


class _Renamed:
    """Finds the files and directories that cannot have their own name, because another module has it."""

    places: Dict[str, str] = {}

    @classmethod
    def find_spec(cls, name: str, _path: Any = None, _target: Any = None) -> Optional[importlib.machinery.ModuleSpec]:
        place = cls.places.get(name)
        if place is None:
            return None
        if os.path.isfile(place):
            return importlib.util.spec_from_file_location(name, place)
        init = os.path.join(place, "__init__.py")
        if os.path.isfile(init):
            return importlib.util.spec_from_file_location(name, init, submodule_search_locations=[place])
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [place]
        return spec

    @classmethod
    def name_for(cls, stem: str, place: str) -> str:
        known = next((name for name, its in cls.places.items() if its == place), None)
        if known is not None:
            return known
        number = 2
        while f"{stem}_{number}" in sys.modules or f"{stem}_{number}" in cls.places:
            number += 1
        if cls not in sys.meta_path:
            sys.meta_path.insert(0, cls)
        cls.places[f"{stem}_{number}"] = place
        return f"{stem}_{number}"


def _is_elsewhere(module: ModuleType, path: str) -> bool:
    """True if a module is not that of a file or directory. Directories without ``__init__.py`` are one package
    together, as always, if none hides what is in another."""
    places = [os.path.realpath(place) for place in getattr(module, "__path__", ())]
    file = getattr(module, "__file__", None)
    if path in (places or [os.path.realpath(file or "")])[:1]:
        return False
    if file or not places or not os.path.isdir(path):
        return True
    taken = {name for place in places if place != path and os.path.isdir(place) for name in os.listdir(place)}
    return not ({"__init__.py", *taken} - {"__pycache__"}).isdisjoint(os.listdir(path))


def module_at(path: str) -> str:
    """The name under which a file or directory can be imported: its own, unless another module has that. Its
    directory is put on the path."""
    parent, name = os.path.split(path)
    if os.path.isfile(path):
        name = os.path.splitext(name)[0]
    known = sys.modules.get(name)
    taken = known is not None and _is_elsewhere(known, path)
    if parent not in sys.path:
        sys.path.insert(len(sys.path) if taken else 0, parent)
    importlib.invalidate_caches()
    return _Renamed.name_for(name, path) if taken else name


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

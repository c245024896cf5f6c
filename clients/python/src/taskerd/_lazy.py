"""Packages whose names are imported when they are first asked for: a worker needs few of them, and is to start quickly."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, Callable, Dict, Iterable, Mapping


def names_of(package: str, homes: Mapping[str, str], modules: str = "") -> Callable[[str], Any]:
    """A ``__getattr__`` for a package. ``homes`` says which names are in which of its modules (``name=other`` where it is
    called otherwise there), ``modules`` which modules can be had as attributes without having been imported."""
    where: Dict[str, str] = {}
    for home, names in homes.items():
        where.update((name, home) for name in names.split())
    known = {entry.partition("=")[0]: (home, entry.rpartition("=")[2]) for entry, home in where.items()}

    def get(name: str) -> Any:
        if name in known:
            home, own = known[name]
            found = getattr(import_module(home, package), own)
        elif name in modules.split():
            found = import_module("." + name, package)
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, found)
        return found

    return get


def directory(package: str, names: Iterable[str]) -> Callable[[], Iterable[str]]:
    """A ``__dir__`` that shows them all the same."""
    return lambda: sorted({*vars(sys.modules[package]), *names})

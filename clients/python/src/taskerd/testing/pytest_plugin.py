"""Fixtures for pytest; known to it as soon as taskerd is installed."""

from __future__ import annotations

from typing import Any, Callable, Iterator

import pytest

from . import EmbeddedTaskerd, run_handler

__all__ = ["run_step", "taskerd_daemon"]


@pytest.fixture(scope="session")
def taskerd_daemon() -> Iterator[EmbeddedTaskerd]:
    """A taskerd with a database of its own, for all tests of the session; skips where there is no taskerd."""
    try:
        daemon = EmbeddedTaskerd()
    except FileNotFoundError as exc:
        pytest.skip(str(exc))
    with daemon:
        yield daemon


@pytest.fixture
def run_step() -> Callable[..., Any]:
    """``taskerd.testing.run_handler``."""
    return run_handler

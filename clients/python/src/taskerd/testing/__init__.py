"""Helpers for tests of handlers and of whole workflows.

::

    from taskerd.testing import run_handler

    def test_total():
        result = run_handler(total, {"currency": "EUR"}, dependencies={"load_cart": {"prices": [3, 4]}})
        assert result.result == {"total": 7, "currency": "EUR"}

``EmbeddedTaskerd`` runs a daemon with a database of its own; with pytest the fixture ``taskerd_daemon`` is one.
"""

from __future__ import annotations

from .embedded import EmbeddedTaskerd, TaskFailed
from .handlers import make_context, run_handler

__all__ = ["EmbeddedTaskerd", "TaskFailed", "make_context", "run_handler"]

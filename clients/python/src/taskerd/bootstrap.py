"""The worker of this process by functions."""

from __future__ import annotations

import os
from typing import Any, Optional

from .exceptions import TaskerError
from .worker import BootstrapConfig, BootstrapResult, Worker, WorkerStatus

__all__ = [
    "bootstrap_worker",
    "get_worker_status",
    "is_worker_running",
    "stop_worker",
    "transition_to_graceful_shutdown",
]


def bootstrap_worker(config: Optional[BootstrapConfig] = None, **options: Any) -> BootstrapResult:
    """Start the worker of this process with the handlers registered so far.

    A failure is told in the result, not raised.
    """
    running = Worker._instance
    if running is not None and running.is_running:
        ident = running.worker_id or ""
        return BootstrapResult(True, ident, ident, "already_running", "the worker runs already")
    try:
        worker = Worker.start(config=config, **options)
    except TaskerError as exc:
        return BootstrapResult(False, "", "", "failed", "the worker did not start", str(exc))
    assert worker.bootstrap_result is not None
    return worker.bootstrap_result


def stop_worker(timeout: Optional[float] = None) -> str:
    """Drain and stop the worker of this process. Returns ``stopped`` or ``not_running``."""
    worker = Worker._instance
    if worker is None or not worker.is_running:
        return "not_running"
    worker.stop(timeout)
    return "stopped"


def transition_to_graceful_shutdown() -> str:
    """Begin to drain the worker of this process and return at once."""
    worker = Worker._instance
    if worker is None or not worker.is_running:
        return "not_running"
    worker.drain()
    return "draining"


def get_worker_status() -> WorkerStatus:
    """Where the worker of this process stands."""
    worker = Worker._instance
    if worker is None:
        return WorkerStatus(False, os.environ.get("TASKER_ENV", "development"), "not_initialized")
    return worker.status()


def is_worker_running() -> bool:
    """True if the worker of this process runs."""
    worker = Worker._instance
    return worker is not None and worker.is_running

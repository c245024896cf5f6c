"""A look at the worker of this process, for health endpoints."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Dict, List, Optional

from ._model import Model
from .worker import Worker

__all__ = [
    "HealthCheck",
    "WorkerConfig",
    "WorkerMetrics",
    "get_health_check",
    "get_metrics",
    "get_worker_config",
]


@dataclass
class HealthCheck(Model):
    """``status`` is ``healthy`` (connected), ``degraded`` (it runs, without a connection) or ``unhealthy``."""

    status: str
    healthy: bool
    worker_id: Optional[str] = None
    connected: bool = False
    state: str = "not_initialized"
    error: Optional[str] = None
    timestamp: float = field(default_factory=time.time)


@dataclass
class WorkerMetrics(Model):
    """Counts since the start of the worker."""

    received: int = 0
    recorded: int = 0
    duplicate: int = 0
    stale: int = 0
    rejected: int = 0
    not_claimed: int = 0
    released: int = 0
    reconnects: int = 0
    abandoned: int = 0
    open_steps: int = 0
    unacknowledged: int = 0


@dataclass
class WorkerConfig(Model):
    """The settings that the worker runs with."""

    worker_name: Optional[str] = None
    environment: str = "development"
    socket: Optional[str] = None
    namespaces: List[str] = field(default_factory=list)
    handlers: List[str] = field(default_factory=list)
    threads: int = 0
    prefetch: int = 0


def get_health_check() -> HealthCheck:
    """How the worker of this process is."""
    worker = Worker._instance
    if worker is None:
        return HealthCheck("unhealthy", False, error="no worker was started in this process")
    status = worker.status()
    word = "unhealthy"
    if status.running:
        word = "healthy" if status.connected else "degraded"
    return HealthCheck(
        word, word == "healthy", status.worker_id, status.connected, status.worker_core_status, status.error
    )


def get_metrics() -> WorkerMetrics:
    """What the worker of this process has done."""
    worker = Worker._instance
    if worker is None:
        return WorkerMetrics()
    status = worker.status()
    counters: Dict[str, int] = dict(status.counters)
    counters.update(open_steps=status.open_steps, unacknowledged=status.unacknowledged)
    return WorkerMetrics.from_dict(counters)


def get_worker_config() -> WorkerConfig:
    """How the worker of this process is set up."""
    environment = os.environ.get("TASKER_ENV", "development")
    worker = Worker._instance
    if worker is None:
        return WorkerConfig(environment=environment)
    return WorkerConfig(
        worker.name,
        environment,
        worker.socket,
        list(worker.namespaces),
        worker.status().handlers,
        worker.threads,
        worker.prefetch,
    )

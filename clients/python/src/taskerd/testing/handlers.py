"""Running one handler without a daemon."""

from __future__ import annotations

import time
import uuid
from typing import Any, Dict, List, Mapping, Optional, Tuple

from .._codec import decode
from .._dependencies import Dependencies, step_uuid_of
from .._runner import StepRunner
from ..context import StepContext
from ..handler import HandlerRegistry
from ..registry import HandlerEntry
from ..results import StepHandlerResult
from ..step_handler.base import handler_class_of

__all__ = ["RecordingHost", "make_context", "run_handler"]

Data = Dict[str, Any]


class RecordingHost:
    """Stands for the worker: keeps what the handler tells it."""

    def __init__(self) -> None:
        self.progress: List[Any] = []
        self.checkpoints: List[Data] = []
        self.logs: List[Tuple[str, str, Data]] = []

    def fetch_dependencies(self, step_uuid: str, names: Optional[List[str]]) -> Dependencies:
        """All results are there from the beginning."""
        return Dependencies({}, {})

    def store_checkpoint(self, params: Mapping[str, Any]) -> str:
        """Keep it."""
        self.checkpoints.append({k: v for k, v in params.items() if k not in ("step_uuid", "attempt", "claim")})
        return "recorded"

    def send_progress(self, step_uuid: str, attempt: int, progress: Any) -> None:
        """Keep it."""
        self.progress.append(progress)

    def send_log(self, step_uuid: Optional[str], level: str, message: str, fields: Mapping[str, Any]) -> None:
        """Keep it."""
        self.logs.append((level, message, dict(fields)))


def make_context(
    input_data: Optional[Mapping[str, Any]] = None,
    *,
    dependencies: Optional[Mapping[str, Any]] = None,
    step_config: Optional[Mapping[str, Any]] = None,
    step_inputs: Optional[Mapping[str, Any]] = None,
    checkpoint: Optional[Mapping[str, Any]] = None,
    handler: str = "handler",
    method: Optional[str] = None,
    attempt: int = 1,
    max_attempts: int = 3,
    host: Optional[RecordingHost] = None,
    **more: Any,
) -> StepContext:
    """A context as the worker makes it.

    ``input_data`` is what the task was created with, ``dependencies`` the results of earlier steps by name (not
    their envelopes), ``step_config`` the template's ``initialization``, ``step_inputs`` the inputs of a batch
    worker. ``more`` are further fields of ``step.execute``: ``namespace``, ``step``, ``correlation_id``, ...
    """
    task = f"{str(uuid.uuid4())[:30]}000000"
    definition: Data = {"callable": handler}
    if step_config is not None:
        definition["initialization"] = dict(step_config)
    if method is not None:
        definition["method"] = method
    results = dict(dependencies or {})
    step: Data = {
        "step_uuid": step_uuid_of(task, len(results)),
        "task_uuid": task,
        "attempt": attempt,
        "max_attempts": max_attempts,
        "claim": b"\0" * 16,
        "namespace": "default",
        "template": "test",
        "version": "1.0.0",
        "step": "step",
        "handler": definition,
        "context": dict(input_data or {}),
        "dependencies": results,
        "dependency_steps": list(range(len(results))),
        "correlation_id": task,
        **more,
    }
    if step_inputs is not None:
        step["inputs"] = dict(step_inputs)
    if checkpoint is not None:
        step["checkpoint"] = dict(checkpoint)
    return StepContext._from_step(step, host or RecordingHost(), time.monotonic())


def run_handler(
    handler: Any,
    input_data: Optional[Mapping[str, Any]] = None,
    *,
    to_the_end: bool = False,
    **context: Any,
) -> StepHandlerResult:
    """One attempt of a handler: a decorated function, a handler class, or an instance.

    Goes the whole way of the worker: exceptions become failures, coroutines are awaited, and a result that
    could not be sent is the failure that the daemon would get. The other arguments are those of
    ``make_context``. ``to_the_end``: a handler that yields at a checkpoint is called again until it is done.
    """
    entry: HandlerEntry = handler_class_of(handler) or handler
    registry = HandlerRegistry()
    registry.resolver_chain.register("handler", entry)
    runner = StepRunner(registry)
    try:
        while True:
            made = make_context(input_data, **context)
            result = _sent(runner, made, runner.attempt(made))
            if not to_the_end or not (result.is_success and result.metadata.get("checkpoint_yield")):
                return result
            context["checkpoint"] = {k: v for k, v in (result.result or {}).items() if k != "type"}
    finally:
        runner.close_thread()


def _sent(runner: StepRunner, context: StepContext, result: StepHandlerResult) -> StepHandlerResult:
    """The result itself, or the failure that is sent in its place."""
    item = decode(runner.encode(context, result, 0.0))
    if item["success"] or not result.is_success:
        return result
    error = item["error"]
    return StepHandlerResult.failure(error["message"], error["error_type"], error["retryable"])

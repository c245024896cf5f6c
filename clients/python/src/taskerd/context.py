"""StepContext: everything a handler can see of its step.

A context costs next to nothing until it is read: the worker wraps the step as it came from the
daemon, and each field is worked out on first use.
"""

from __future__ import annotations

import threading
from time import monotonic  # our own: tests replace that of the module
from typing import Any, Callable, Dict, List, Mapping, Optional, Protocol, Tuple, Union
from uuid import UUID

from ._codec import plain
from ._dependencies import Dependencies, step_numbers, step_uuid_of
from .errors import PermanentError, StepCancelledError
from .models import StepEvent, TaskSequenceStepWrapper, unwrap_result

__all__ = ["StepContext"]

#: How far the worker is with a step. One that is abandoned has not come back from its handler.
WAITING, RUNNING, FINISHED, ABANDONED = range(4)


class StepHost(Protocol):
    """What a context asks of the worker that runs it."""

    def fetch_dependencies(self, step_uuid: str, names: Optional[List[str]]) -> Dependencies:
        """Results that were left out of the step for size; blocks."""

    def send_progress(self, step_uuid: str, attempt: int, progress: Any) -> None:
        """Tell the daemon how far the step is."""

    def store_checkpoint(self, params: Mapping[str, Any]) -> str:
        """``step.checkpoint``; blocks until the checkpoint is durable. The status of the answer."""

    def send_log(self, step_uuid: Optional[str], level: str, message: str, fields: Mapping[str, Any]) -> None:
        """Write a line to the daemon's log."""


def _uuid(value: Any) -> Any:
    try:
        return UUID(value)
    except (ValueError, TypeError, AttributeError):
        return value


class StepContext:
    """One attempt of one step.

    In tests a context can be made by keyword: ``StepContext(input_data={"id": 7},
    dependency_results={"earlier": {"result": {...}}})``.
    """

    __slots__ = (
        "_cancel_event",
        "_cancel_hook",
        "_cancel_reason",
        "_checkpoint",
        "_complete",
        "_host",
        "_key",
        "_numbers",
        "_published",
        "_received",
        "_results",
        "_stage",
        "_step",
        "correlation_id",
        "dependency_results",
        "event",
        "handler_name",
        "input_data",
        "max_retries",
        "retry_count",
        "step_config",
        "step_inputs",
        "step_uuid",
        "task_sequence_step",
        "task_uuid",
    )

    _key: Tuple[str, int]
    _received: float
    _numbers: Dict[str, int]

    #: The daemon's data of the attempt and its raw form.
    event: StepEvent
    task_sequence_step: TaskSequenceStepWrapper
    #: Ids. ``correlation_id`` is a plain string if the task was created with one that is no UUID.
    task_uuid: UUID
    step_uuid: UUID
    correlation_id: Union[UUID, str]
    #: Name of the handler that runs the step.
    handler_name: str
    #: What the task was created with.
    input_data: Dict[str, Any]
    #: Envelopes ``{step_uuid, success, result, ...}`` by step name; see ``get_dependency_result``.
    dependency_results: Dict[str, Any]
    #: The template's ``handler.initialization``.
    step_config: Dict[str, Any]
    #: Inputs of this step instance; for an ordinary step the same as ``step_config``.
    step_inputs: Dict[str, Any]
    #: Attempts made before this one, and attempts allowed in all.
    retry_count: int
    max_retries: int

    def __init__(
        self,
        *,
        event: Optional[Any] = None,
        task_uuid: Any = None,
        step_uuid: Any = None,
        correlation_id: Any = None,
        handler_name: str = "",
        input_data: Optional[Dict[str, Any]] = None,
        dependency_results: Optional[Dict[str, Any]] = None,
        step_config: Optional[Dict[str, Any]] = None,
        step_inputs: Optional[Dict[str, Any]] = None,
        retry_count: int = 0,
        max_retries: int = 3,
        checkpoint: Optional[Dict[str, Any]] = None,
    ) -> None:
        self._step: Optional[Dict[str, Any]] = None
        self._stage = WAITING
        self._host: Optional[StepHost] = None
        self._cancel_reason: Optional[str] = None
        self._cancel_event: Optional[threading.Event] = None
        self._cancel_hook: Optional[Callable[[], None]] = None
        self._published: Optional[Dict[str, Any]] = None  # payloads of declared events
        self._complete = True
        if event is not None:
            self.event = event
        self.task_uuid = _uuid(task_uuid)
        self.step_uuid = _uuid(step_uuid)
        self.correlation_id = _uuid(correlation_id)
        self.handler_name = handler_name
        self.input_data = input_data if input_data is not None else {}
        self.dependency_results = dependency_results if dependency_results is not None else {}
        self._results: Dict[str, Any] = {k: unwrap_result(v) for k, v in self.dependency_results.items()}
        self.step_config = step_config if step_config is not None else {}
        self.step_inputs = step_inputs if step_inputs is not None else {}
        self.retry_count = retry_count
        self.max_retries = max_retries
        if checkpoint is None and event is not None:
            sequence = getattr(event, "task_sequence_step", None) or {}
            checkpoint = (sequence.get("workflow_step") or {}).get("checkpoint")
        self._checkpoint = checkpoint

    @classmethod
    def from_ffi_event(cls, event: Any, handler_name: str) -> "StepContext":
        """A context from a StepEvent (or an object with its attributes)."""
        sequence: Mapping[str, Any] = event.task_sequence_step or {}
        task = (sequence.get("task") or {}).get("task") or {}
        step = sequence.get("workflow_step") or {}
        handler = (sequence.get("step_definition") or {}).get("handler") or {}
        return cls(
            event=event,
            task_uuid=event.task_uuid,
            step_uuid=event.step_uuid,
            correlation_id=event.correlation_id,
            handler_name=handler_name,
            input_data=dict(task.get("context") or {}),
            dependency_results=dict(sequence.get("dependency_results") or {}),
            step_config=dict(handler.get("initialization") or {}),
            step_inputs=dict(step.get("inputs") or {}),
            retry_count=int(step.get("attempts") or 0),
            max_retries=int(step.get("max_attempts") or 3),
        )

    @classmethod
    def _from_step(cls, step: Dict[str, Any], host: StepHost, received: float) -> "StepContext":
        """Wrap a step of ``step.execute``."""
        self = cls.__new__(cls)
        self._step = step
        self._host = host
        self._key = (step["step_uuid"], step["attempt"])
        self._received = received
        self._cancel_reason = None
        self._cancel_event = None
        self._cancel_hook = None
        self._published = None
        self._stage = WAITING
        self._results = step.get("dependencies") or {}
        self._complete = not step.get("dependencies_partial")
        self._checkpoint = step.get("checkpoint")
        return self

    def __getattr__(self, name: str) -> Any:
        # Reached only while a slot is empty: fill it from the step.
        make = _LAZY.get(name)
        if make is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        value = make(self)
        setattr(self, name, value)
        return value

    # -- the task's input ------------------------------------------------------------------------

    def get_input(self, key: str) -> Any:
        """A value of the task's context, None if absent."""
        return self.input_data.get(key)

    def get_input_or(self, key: str, default: Any = None) -> Any:
        """A value of the task's context; ``default`` if it is absent or None."""
        value = self.input_data.get(key)
        return default if value is None else value

    def get_config(self, key: str) -> Any:
        """A value of the template's ``initialization``, None if absent."""
        return self.step_config.get(key)

    # -- results of earlier steps ----------------------------------------------------------------

    def get_dependency_result(self, step_name: str) -> Any:
        """The output of an earlier step (any ancestor that has completed), None if there is none."""
        results = self._results
        if step_name in results:
            return results[step_name]
        if self._complete:
            return None
        self._fetch([step_name])
        return self._results.get(step_name)

    def get_dependency_field(self, step_name: str, *path: str) -> Any:
        """A value inside an earlier step's output; None as soon as the path leaves a dict."""
        value = self.get_dependency_result(step_name)
        for part in path:
            if not isinstance(value, dict):
                return None
            value = value.get(part)
        return value

    def get_dependency_result_keys(self) -> List[str]:
        """Names of the earlier steps that have results."""
        self._fetch_all()
        return list(self._results)

    def get_all_dependency_results(self, prefix: str) -> List[Any]:
        """Outputs, None left out, of all earlier steps whose name begins with ``prefix``."""
        self._fetch_all()
        return [v for k, v in self._results.items() if v is not None and k.startswith(prefix)]

    def _fetch_all(self) -> None:
        if not self._complete:
            self._fetch(None)
            self._complete = True

    def _fetch(self, names: Optional[List[str]]) -> None:
        assert self._host is not None and self._step is not None
        got = self._host.fetch_dependencies(self._step["step_uuid"], names)
        self._numbers = {**self._numbers, **got.numbers}
        merged = {**self._results, **got.results}
        for name in names or ():
            merged.setdefault(name, None)
        self._results = merged

    # -- attempts --------------------------------------------------------------------------------

    @property
    def attempt(self) -> int:
        """This attempt, counted from 1."""
        return self.retry_count + 1

    def is_retry(self) -> bool:
        """True if an attempt was made before this one."""
        return self.retry_count > 0

    def is_last_retry(self) -> bool:
        """True if no attempt is left after this one."""
        return self.retry_count >= self.max_retries - 1

    # -- checkpoint ------------------------------------------------------------------------------

    @property
    def checkpoint(self) -> Optional[Dict[str, Any]]:
        """What the last checkpoint stored, None if there is none."""
        return self._checkpoint

    @property
    def checkpoint_cursor(self) -> Any:
        """Where the last checkpoint stands."""
        return (self._checkpoint or {}).get("cursor")

    @property
    def checkpoint_items_processed(self) -> int:
        """Items done up to the last checkpoint."""
        return int((self._checkpoint or {}).get("items_processed") or 0)

    @property
    def accumulated_results(self) -> Any:
        """What earlier parts of the step have collected."""
        return (self._checkpoint or {}).get("accumulated_results")

    def has_checkpoint(self) -> bool:
        """True if a checkpoint with a cursor exists."""
        return self.checkpoint_cursor is not None

    def save_checkpoint(
        self, cursor: Any, items_processed: Optional[int] = None, accumulated_results: Any = None
    ) -> None:
        """Store how far the step is and go on. It is durable when this returns: another attempt, should one be
        needed, finds it as ``checkpoint``.

        Raises StepCancelledError if the attempt no longer counts, and PermanentError if the daemon cannot
        store the checkpoint.
        """
        told = {"cursor": cursor, "items_processed": items_processed, "accumulated_results": accumulated_results}
        made = {k: v for k, v in told.items() if v is not None}
        if self._host is not None and self._step is not None:
            attempt = {k: self._step.get(k) for k in ("step_uuid", "attempt", "claim")}
            status = self._host.store_checkpoint({**attempt, **plain(made, "checkpoint")})
            if status == "rejected":
                raise PermanentError("the checkpoint cannot be stored: it is too large, or holds a bad value")
            if status != "recorded":
                raise StepCancelledError(f"the checkpoint does not count: {status}")
        self._checkpoint = made

    # -- cancelling and time ---------------------------------------------------------------------

    @property
    def cancelled(self) -> bool:
        """True once the daemon has taken the attempt back; whatever the handler returns is void."""
        return self._cancel_reason is not None

    @property
    def cancel_reason(self) -> Optional[str]:
        """``timeout``, ``task_cancelled``, ``stale`` or ``shutdown``; None while the attempt counts."""
        return self._cancel_reason

    @property
    def cancel_event(self) -> threading.Event:
        """Set when the attempt is cancelled: ``context.cancel_event.wait(5)`` is a sleep that ends early."""
        event = self._cancel_event
        if event is None:
            event = self._cancel_event = threading.Event()
            if self._cancel_reason is not None:
                event.set()
        return event

    def raise_if_cancelled(self) -> None:
        """Leave the handler if the attempt was cancelled."""
        if self._cancel_reason is not None:
            raise StepCancelledError(f"step cancelled: {self._cancel_reason}")

    @property
    def remaining_seconds(self) -> Optional[float]:
        """Time until the daemon ends the attempt; None if the template sets no timeout."""
        limit = self._step.get("timeout_ms") if self._step else None
        if limit is None:
            return None
        return max(0.0, float(limit) / 1000.0 - (monotonic() - self._received))

    def _cancel(self, reason: str) -> None:
        """Called by the worker's I/O thread."""
        self._cancel_reason = reason
        event, hook = self._cancel_event, self._cancel_hook
        if event is not None:
            event.set()
        if hook is not None:
            hook()

    # -- telling people --------------------------------------------------------------------------

    def heartbeat(self, progress: Any = None) -> None:
        """Show progress to whoever looks at the step. Changes nothing else."""
        if self._host is not None:
            self._host.send_progress(self._key[0], self._key[1], progress)

    def log(self, level: str, message: str, **fields: Any) -> None:
        """Write a line with the step's ids to the daemon's log.

        ``level`` is ``trace``, ``debug``, ``info``, ``warn`` or ``error``.
        """
        self._log(level, message, fields)

    def _log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        if self._host is not None:
            self._host.send_log(self._key[0], level, message, fields)

    def __repr__(self) -> str:
        return f"<StepContext {self.handler_name!r} step={self.step_uuid} attempt={self.attempt}>"


def _wire(context: StepContext) -> Dict[str, Any]:
    return object.__getattribute__(context, "_step") or {}


def _envelopes(context: StepContext) -> Dict[str, Any]:
    context._fetch_all()
    task_uuid, numbers = str(context.task_uuid), context._numbers
    return {
        name: {
            "step_uuid": step_uuid_of(task_uuid, numbers[name]) if name in numbers else None,
            "success": True,
            "result": result,
            "metadata": {},
            "status": "completed",
            "error": None,
            "orchestration_metadata": None,
        }
        for name, result in context._results.items()
    }


def _event(context: StepContext) -> StepEvent:
    step = _wire(context)
    trace = str(step.get("traceparent") or "").split("-")
    step_uuid = str(step.get("step_uuid") or context.step_uuid)
    task_uuid = str(step.get("task_uuid") or context.task_uuid)
    correlation = str(step.get("correlation_id") or task_uuid)
    return StepEvent(
        event_id=f"{step_uuid}:{step.get('attempt', context.attempt)}",
        task_uuid=task_uuid,
        step_uuid=step_uuid,
        correlation_id=correlation,
        task_correlation_id=correlation,
        parent_correlation_id=step.get("parent_correlation_id"),
        trace_id=trace[1] if len(trace) == 4 else None,
        span_id=trace[2] if len(trace) == 4 else None,
        task_sequence_step=_sequence(context, step, task_uuid, step_uuid, correlation),
    )


_ABSENT = (
    "named_step_uuid",
    "processed_at",
    "last_attempted_at",
    "backoff_request_seconds",
    "results",
    "created_at",
    "updated_at",
)


def _sequence(
    context: StepContext, step: Mapping[str, Any], task_uuid: str, step_uuid: str, correlation: str
) -> Dict[str, Any]:
    name = step.get("step")
    template_step = step.get("template_step") or name
    timeout = step.get("timeout_ms")
    return {
        "task": {
            "task": {
                "task_uuid": task_uuid,
                "context": context.input_data,
                "correlation_id": correlation,
                "parent_correlation_id": step.get("parent_correlation_id"),
                "priority": step.get("priority") or 0,
            },
            "task_name": step.get("template"),
            "task_version": step.get("version"),
            "namespace_name": step.get("namespace"),
        },
        "workflow_step": {
            "workflow_step_uuid": step_uuid,
            "task_uuid": task_uuid,
            "name": name,
            "template_step_name": template_step,
            "retryable": step.get("retryable", True),
            "max_attempts": context.max_retries,
            "attempts": context.retry_count,
            "in_process": True,
            "processed": False,
            "inputs": context.step_inputs,
            "checkpoint": context.checkpoint,
            # What the daemon does not send with a step; the keys are there for code that names them.
            **dict.fromkeys(_ABSENT),
        },
        "dependency_results": context.dependency_results,
        "step_definition": {
            "name": template_step,
            "handler": {
                "callable": (step.get("handler") or {}).get("callable") or context.handler_name,
                "method": (step.get("handler") or {}).get("method"),
                "resolver": (step.get("handler") or {}).get("resolver"),
                "initialization": context.step_config,
            },
            "description": None,
            "dependencies": [],
            "retry": {"retryable": step.get("retryable", True), "max_attempts": context.max_retries},
            "timeout_seconds": None if timeout is None else timeout / 1000.0,
            "publishes_events": step.get("publishes_events") or [],
        },
    }


def _step_inputs(context: StepContext) -> Dict[str, Any]:
    inputs: Optional[Dict[str, Any]] = _wire(context).get("inputs")
    return inputs if inputs is not None else context.step_config


_LAZY: Dict[str, Callable[[StepContext], Any]] = {
    "_numbers": lambda c: step_numbers(_wire(c)),
    "event": _event,
    "task_sequence_step": lambda c: TaskSequenceStepWrapper(c.event.task_sequence_step),
    "task_uuid": lambda c: _uuid(_wire(c).get("task_uuid")),
    "step_uuid": lambda c: _uuid(_wire(c).get("step_uuid")),
    "correlation_id": lambda c: _uuid(_wire(c).get("correlation_id") or _wire(c).get("task_uuid")),
    "handler_name": lambda c: (_wire(c).get("handler") or {}).get("callable") or "",
    "input_data": lambda c: _wire(c).get("context") or {},
    "dependency_results": _envelopes,
    "step_config": lambda c: (_wire(c).get("handler") or {}).get("initialization") or {},
    "step_inputs": _step_inputs,
    "retry_count": lambda c: int(_wire(c).get("attempt") or 1) - 1,
    "max_retries": lambda c: int(_wire(c).get("max_attempts") or 3),
    "_key": lambda c: (str(c.step_uuid), c.attempt),
    "_received": lambda c: monotonic(),
}

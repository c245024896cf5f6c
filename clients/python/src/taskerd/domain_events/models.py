"""Domain events as data."""

from __future__ import annotations

import fnmatch
import re
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Dict, Iterable, Mapping, Optional

from .._model import Model

if TYPE_CHECKING:
    from ..context import StepContext
    from ..results import StepHandlerResult

__all__ = [
    "DomainEventMetadata",
    "EventDeclaration",
    "EventPayload",
    "ExecutionResult",
    "InProcessDomainEvent",
    "PublishContext",
    "StepEventContext",
    "StepResult",
    "matches_pattern",
]


def matches_pattern(pattern: str, name: str) -> bool:
    """True if an event's name fits a pattern, in which ``*`` stands for any characters."""
    if pattern in ("*", name):
        return True
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), name, re.S) is not None


def matches_any(patterns: Iterable[str], name: str) -> bool:
    """True if one of the patterns fits; ``?`` and ``[...]`` are understood here as well."""
    return any(matches_pattern(p, name) or fnmatch.fnmatchcase(name, p) for p in patterns)


def _uuid(value: Any) -> Any:
    try:
        return uuid.UUID(value)
    except (ValueError, TypeError, AttributeError):
        return value


@dataclass
class EventDeclaration(Model):
    """An entry of the template's ``publishes_events``."""

    name: str
    condition: str = "success"
    delivery_mode: str = "durable"
    publisher: Optional[str] = None
    schema: Optional[Dict[str, Any]] = None

    def fires(self, success: bool, final: bool) -> bool:
        """True if an attempt that ended in this way meets the condition; ``final``: no other will be made."""
        if self.condition == "always":
            return True
        if success or self.condition == "success":
            return success and self.condition == "success"
        return self.condition == "failure" or self.condition == (
            "permanent_failure" if final else "retryable_failure"
        )


@dataclass
class StepResult(Model):
    """How an attempt ended, as publishers see it."""

    success: bool
    result: Any = None
    metadata: Dict[str, Any] = field(default_factory=dict)


@dataclass
class StepEventContext(Model):
    """What a publisher's hooks get: whose event it is, and what the step returned."""

    task_uuid: str
    step_uuid: str
    step_name: str
    namespace: str = "default"
    correlation_id: Optional[str] = None
    #: What the handler returned; after a failure its error as a map.
    result: Any = None
    metadata: Dict[str, Any] = field(default_factory=dict)
    success: bool = True
    event_name: Optional[str] = None
    context: Dict[str, Any] = field(default_factory=dict)

    @property
    def step_result(self) -> StepResult:
        """Outcome, result and metadata in one."""
        return StepResult(self.success, self.result, self.metadata)

    @classmethod
    def from_attempt(cls, context: "StepContext", result: "StepHandlerResult") -> "StepEventContext":
        """Of an attempt that this process has run."""
        step = context._step or {}
        value: Any = result.result
        if not result.is_success:
            value = {"message": result.error_message, "error_type": result.error_type, "retryable": result.retryable}
        return cls(
            task_uuid=str(context.task_uuid),
            step_uuid=str(context.step_uuid),
            step_name=str(step.get("step") or ""),
            namespace=str(step.get("namespace") or "default"),
            correlation_id=str(context.correlation_id),
            result=value,
            metadata=dict(result.metadata),
            success=result.is_success,
            context=context.input_data,
        )


@dataclass
class PublishContext(Model):
    """One event about to be published."""

    event_name: str
    step_result: StepResult
    event_declaration: Optional[EventDeclaration] = None
    step_context: Optional[StepEventContext] = None


@dataclass
class DomainEventMetadata(Model):
    """Whose event it is. Ids are UUID objects."""

    task_uuid: Any = None
    step_uuid: Any = None
    step_name: Optional[str] = None
    namespace: str = "default"
    correlation_id: Any = None
    fired_at: Optional[str] = None
    fired_by: Optional[str] = None
    #: What the publisher added.
    extra: Dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "DomainEventMetadata":
        """From an event's ``metadata``."""
        made = cls.from_dict({k: v for k, v in data.items() if k != "extra"})
        made.extra = {k: v for k, v in data.items() if not hasattr(made, k)}
        for name in ("task_uuid", "step_uuid", "correlation_id"):
            setattr(made, name, _uuid(getattr(made, name)))
        return made


@dataclass
class ExecutionResult(Model):
    """How the attempt ended that fired the event."""

    success: bool = True
    status: str = ""
    step_uuid: Optional[str] = None
    attempt: Optional[int] = None
    execution_ms: Optional[float] = None
    worker_uuid: Optional[str] = None
    error: Optional[Dict[str, Any]] = None


class EventPayload(Dict[str, Any]):
    """The whole payload ``{task_sequence_step, execution_result, payload}``. A key that it lacks is looked
    up in the inner ``payload``, which is what the event is about."""

    def _inner(self) -> Mapping[str, Any]:
        inner = dict.get(self, "payload")
        return inner if isinstance(inner, Mapping) else {}

    def __missing__(self, key: str) -> Any:
        inner = self._inner()
        if key in inner:
            return inner[key]
        raise KeyError(key)

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, here or in the inner ``payload``."""
        return self[key] if key in self else self._inner().get(key, default)


@dataclass
class InProcessDomainEvent(Model):
    """An event as subscribers in this process get it."""

    event_id: Any
    event_name: str
    event_version: str = "1.0"
    payload: Dict[str, Any] = field(default_factory=dict)
    metadata: DomainEventMetadata = field(default_factory=DomainEventMetadata)
    execution_result: Optional[ExecutionResult] = None
    _nested: ClassVar[Dict[str, Any]] = {}

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> "InProcessDomainEvent":
        """From the daemon's map."""
        payload = EventPayload(data.get("payload") or {})
        ended = dict.get(payload, "execution_result")
        return cls(
            event_id=_uuid(data.get("event_id")),
            event_name=str(data.get("event_name") or ""),
            event_version=str(data.get("event_version") or "1.0"),
            payload=payload,
            metadata=DomainEventMetadata.of(data.get("metadata") or {}),
            execution_result=ExecutionResult.from_dict(ended) if isinstance(ended, Mapping) else None,
        )

    @property
    def business_payload(self) -> Any:
        """What the event is about."""
        return dict.get(self.payload, "payload")

    def envelope(self) -> Dict[str, Any]:
        """The event as the map that ``BaseSubscriber.handle`` gets."""
        meta = self.metadata
        named = {f: getattr(meta, f) for f in meta.__dataclass_fields__ if f != "extra"}
        return {
            "event_id": self.event_id,
            "event_name": self.event_name,
            "event_version": self.event_version,
            "payload": self.payload,
            "business_payload": self.business_payload,
            "metadata": {**meta.extra, **named},
            "execution_result": None if self.execution_result is None else self.execution_result.to_dict(),
        }

"""What the publishers of this process make of the events that a step declares."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from .models import EventDeclaration, StepEventContext
from .registry import PublisherRegistry

if TYPE_CHECKING:
    from ..context import StepContext
    from ..results import StepHandlerResult

__all__ = ["step_events"]

_log = logging.getLogger("taskerd.events")

MAX_EVENTS = 64


def step_events(context: "StepContext", result: "StepHandlerResult") -> Optional[List[Dict[str, Any]]]:
    """The ``events`` of a result: one entry for each event that fires and has a publisher or a payload here. Other
    events are left to the daemon. Never raises."""
    declared = (context._step or {}).get("publishes_events")
    registry = PublisherRegistry._instance
    if not declared or (registry is None and not context._published) or (result.is_success and result.metadata.get("checkpoint_yield")):
        return None
    try:
        return _events(declared, registry, context, result)
    except Exception:  # an event's trouble is never the step's
        _log.exception("the events of step %s have failed", context.step_uuid)
        return None


def _events(
    declared: Any, registry: Optional[PublisherRegistry], context: "StepContext", result: "StepHandlerResult"
) -> Optional[List[Dict[str, Any]]]:
    step = context._step or {}
    final = not (
        result.retryable and step.get("retryable", True) and context.attempt < context.max_retries
    )
    seen: Optional[StepEventContext] = None
    found: List[Dict[str, Any]] = []
    for entry in declared:
        declaration = EventDeclaration.from_dict(entry)
        if not declaration.fires(result.is_success, final):
            continue
        if declaration.name in (context._published or {}):
            found.append({"name": declaration.name, "payload": (context._published or {})[declaration.name]})
            continue
        publisher = registry.get(declaration.publisher) if registry is not None else None
        if publisher is None:
            continue
        seen = seen or StepEventContext.from_attempt(context, result)
        found.append(publisher.collect(seen, declaration))
    return found[:MAX_EVENTS] or None

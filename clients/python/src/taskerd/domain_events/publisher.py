"""Publishers: classes that say what an event carries, and whether it is published at all.

Handlers never publish. The template declares events and may name a publisher for each; the worker runs
that publisher's hooks when an attempt has ended, and the daemon publishes what came out together with
the attempt's result.
"""

from __future__ import annotations

import abc
import contextvars
import datetime
import logging
from typing import Any, Dict, Optional

from .._codec import safe_text, to_json_value
from ..results import text_of
from .models import EventDeclaration, StepEventContext

__all__ = ["BasePublisher", "DefaultPublisher"]

_log = logging.getLogger("taskerd.events")

Data = Dict[str, Any]

#: Containers that a payload may nest, so that it fits into the messages around it.
DEPTH = 20


class _Collector:
    """Takes what ``publish`` lets through while the worker runs the hooks of one event."""

    def __init__(self) -> None:
        self.found: Optional[Data] = None
        self.failed: Optional[str] = None


_collector: "contextvars.ContextVar[Optional[_Collector]]" = contextvars.ContextVar("taskerd_event", default=None)


class BasePublisher(abc.ABC):
    """Base of publishers: implement ``publisher_name``, override the hooks that matter."""

    @property
    @abc.abstractmethod
    def publisher_name(self) -> str:
        """What templates call the publisher."""

    @property
    def logger(self) -> logging.Logger:
        """A logger for the hooks."""
        return _log

    # -- hooks -----------------------------------------------------------------------------------

    def should_publish(self, ctx: StepEventContext) -> bool:
        """False: the event is not published."""
        return True

    def transform_payload(self, ctx: StepEventContext) -> Any:
        """What the event is about; by default the step's result."""
        return ctx.result if ctx.result is not None else {}

    def additional_metadata(self, ctx: StepEventContext) -> Data:
        """Joins the event's metadata."""
        return {}

    def before_publish(self, event_name: str, payload: Any, metadata: Data) -> bool:
        """A last look; anything falsy stops the event."""
        return True

    def after_publish(self, event_name: str, payload: Any, metadata: Data) -> None:
        """The event is on its way."""

    def on_publish_error(self, event_name: str, error: Exception, payload: Any) -> None:
        """A hook has failed; the step is not affected."""
        _log.error("publisher %s: event %s: %s", self.publisher_name, event_name, error)

    # -- running them ----------------------------------------------------------------------------

    def base_metadata(self, ctx: StepEventContext) -> Data:
        """What every event's metadata holds."""
        return {
            "publisher": self.publisher_name,
            "published_at": datetime.datetime.now(datetime.timezone.utc).isoformat(),
            "task_uuid": ctx.task_uuid,
            "step_uuid": ctx.step_uuid,
            "step_name": ctx.step_name,
            "namespace": ctx.namespace,
            "correlation_id": ctx.correlation_id,
        }

    def publish(self, ctx: StepEventContext, event_name: Optional[str] = None) -> bool:
        """Run the hooks for an event. False if one of them stopped it or failed.

        The worker calls this when an attempt has ended, and sends what came out with the result;
        called by anyone else it only runs the hooks, as tests want it.
        """
        name = event_name or ctx.event_name or self.publisher_name
        payload: Any = None
        try:
            if not self.should_publish(ctx):
                return False
            payload = self.transform_payload(ctx)
            metadata = {**self.base_metadata(ctx), **(self.additional_metadata(ctx) or {})}
            if not self.before_publish(name, payload, metadata):
                return False
            collector = _collector.get()
            if collector is not None:
                collector.found = {
                    "name": name,
                    "payload": to_json_value(payload, "payload", DEPTH),
                    "metadata": to_json_value(metadata, "metadata", DEPTH),
                }
            self.after_publish(name, payload, metadata)
            return True
        except Exception as exc:
            self._failed(name, exc, payload)
            return False

    def _failed(self, name: str, error: Exception, payload: Any) -> None:
        collector = _collector.get()
        if collector is not None:
            collector.failed = safe_text(text_of(error), 300)
        try:
            self.on_publish_error(name, error, payload)
        except Exception:
            _log.exception("publisher %s: on_publish_error has failed itself", self.publisher_name)

    def collect(self, ctx: StepEventContext, declaration: EventDeclaration) -> Data:
        """The entry of ``step.result`` for a declared event. One whose hooks failed is not published: its
        default payload may be what they were there to change."""
        collector = _Collector()
        token = _collector.set(collector)
        ctx.event_name = declaration.name
        try:
            self.publish(ctx, declaration.name)
        except Exception as exc:  # only a publish() of the subclass's own raises
            self._failed(declaration.name, exc, None)
        finally:
            _collector.reset(token)
        if collector.found is not None:
            return {**collector.found, "name": declaration.name}
        if collector.failed is not None:
            return {"name": declaration.name, "failed": collector.failed}
        return {"name": declaration.name, "skip": True}


class DefaultPublisher(BasePublisher):
    """The step's result as it is."""

    @property
    def publisher_name(self) -> str:
        """``default``."""
        return "default"

"""Subscribers: classes that are called for events."""

from __future__ import annotations

import abc
import logging
from typing import Any, Dict, List, Optional

from .models import InProcessDomainEvent, matches_any

__all__ = ["BaseSubscriber"]

_log = logging.getLogger("taskerd.events")


class BaseSubscriber(abc.ABC):
    """Base of subscribers: implement ``subscribes_to`` and ``handle``.

    Events that are ``fast`` or ``broadcast`` arrive, on the thread of the poller, one after the other.
    What goes wrong in a subscriber is logged and harms nothing else.
    """

    def __init__(self) -> None:
        self._poller: Optional[Any] = None

    @classmethod
    @abc.abstractmethod
    def subscribes_to(cls) -> List[str]:
        """Patterns of event names, such as ``payment.*``."""

    @abc.abstractmethod
    def handle(self, event: Dict[str, Any]) -> None:
        """Called for each event."""

    # -- hooks -----------------------------------------------------------------------------------

    def before_handle(self, event: Dict[str, Any]) -> bool:
        """False: ``handle`` is not called."""
        return True

    def after_handle(self, event: Dict[str, Any]) -> None:
        """``handle`` has returned."""

    def on_handle_error(self, event: Dict[str, Any], error: Exception) -> None:
        """``handle`` or another hook has failed."""
        _log.error("subscriber %s: event %s: %s", type(self).__name__, event.get("event_name"), error, exc_info=error)

    # -- life ------------------------------------------------------------------------------------

    @property
    def logger(self) -> logging.Logger:
        """A logger for handlers."""
        return _log

    @property
    def subscriptions(self) -> List[str]:
        """The patterns."""
        found: Any = self.subscribes_to()
        return [found] if isinstance(found, str) else list(found)

    @property
    def active(self) -> bool:
        """True between ``start`` and ``stop``."""
        return getattr(self, "_poller", None) is not None

    def matches(self, event_name: str) -> bool:
        """True if an event's name fits one of the patterns."""
        return matches_any(self.subscriptions, event_name)

    def start(self, poller: Any) -> None:
        """Get events from a poller."""
        if self.active:
            return
        self._poller = poller
        listen = getattr(poller, "add_listener", None)
        if listen is not None:
            listen(self.receive, self.subscriptions)
        else:
            poller.on_event(self.receive)

    def stop(self) -> None:
        """Get no more events."""
        poller, self._poller = getattr(self, "_poller", None), None
        forget = getattr(poller, "remove_listener", None)
        if forget is not None:
            forget(self.receive)

    def receive(self, event: Any) -> None:
        """One event of the poller, as an InProcessDomainEvent or a map."""
        if not self.active:
            return
        data: Dict[str, Any] = event.envelope() if isinstance(event, InProcessDomainEvent) else dict(event)
        if not self.matches(str(data.get("event_name"))):
            return
        try:
            if self.before_handle(data) is False:
                return
            self.handle(data)
            self.after_handle(data)
        except Exception as exc:
            try:
                self.on_handle_error(data, exc)
            except Exception:
                _log.exception("subscriber %s: on_handle_error has failed itself", type(self).__name__)

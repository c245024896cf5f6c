"""The publishers and subscribers of this process."""

from __future__ import annotations

import threading
from typing import Any, Dict, Iterable, List, Optional, Type, Union

from ..exceptions import TaskerError
from .publisher import BasePublisher, DefaultPublisher
from .subscriber import BaseSubscriber

__all__ = [
    "DuplicatePublisherError",
    "PublisherNotFoundError",
    "PublisherRegistry",
    "RegistryFrozenError",
    "SubscriberRegistry",
    "ValidationError",
]


class PublisherNotFoundError(TaskerError):
    """No publisher of the name is registered."""


class RegistryFrozenError(TaskerError):
    """The registry takes no more publishers."""


class DuplicatePublisherError(TaskerError):
    """Another publisher has the name."""


class ValidationError(TaskerError):
    """Publishers that templates name are missing."""


class PublisherRegistry:
    """Publishers by name. ``instance()`` is the one that the worker asks."""

    _instance: Optional["PublisherRegistry"] = None
    _lock = threading.Lock()

    def __init__(self) -> None:
        self._publishers: Dict[str, BasePublisher] = {}
        self._default = DefaultPublisher()
        self._frozen = False

    @classmethod
    def instance(cls) -> "PublisherRegistry":
        """The registry of the process."""
        with cls._lock:
            if cls._instance is None:
                cls._instance = cls()
            return cls._instance

    @classmethod
    def reset_instance(cls) -> None:
        """Forget the registry of the process."""
        with cls._lock:
            cls._instance = None

    def register(self, publisher: Union[BasePublisher, Type[BasePublisher]]) -> BasePublisher:
        """Add a publisher, or an instance of a publisher class; one of the same name is replaced."""
        if self._frozen:
            raise RegistryFrozenError("the publisher registry is frozen")
        made = publisher() if isinstance(publisher, type) else publisher
        self._publishers[made.publisher_name] = made
        return made

    def unregister(self, name: str) -> bool:
        """Remove a publisher; False if there was none."""
        if self._frozen:
            raise RegistryFrozenError("the publisher registry is frozen")
        return self._publishers.pop(name, None) is not None

    def get(self, name: Optional[str]) -> Optional[BasePublisher]:
        """The publisher of a name, None if there is none."""
        return self._publishers.get(name or "")

    def get_or_default(self, name: Optional[str] = None) -> BasePublisher:
        """The publisher of a name, else the default one."""
        return self._publishers.get(name or "") or self._default

    def get_strict(self, name: str) -> BasePublisher:
        """The publisher of a name; PublisherNotFoundError if there is none."""
        found = self.get(name)
        if found is None:
            raise PublisherNotFoundError(f"no publisher {name!r}")
        return found

    def is_registered(self, name: str) -> bool:
        """True if a publisher has the name."""
        return name in self._publishers

    def list_publishers(self) -> List[str]:
        """The names, sorted."""
        return sorted(self._publishers)

    def count(self) -> int:
        """How many publishers there are."""
        return len(self._publishers)

    def validate_required(self, names: Iterable[str]) -> List[str]:
        """The names for which there is no publisher."""
        return [n for n in names if n not in self._publishers and n != "default"]

    def freeze(self) -> None:
        """Take no more publishers."""
        self._frozen = True

    @property
    def frozen(self) -> bool:
        """True after ``freeze``."""
        return self._frozen

    def clear(self) -> None:
        """Forget all publishers."""
        self._publishers.clear()

    def reset(self) -> None:
        """Forget all publishers and thaw."""
        self._frozen = False
        self._publishers.clear()


class SubscriberRegistry:
    """Subscriber classes and instances of the process."""

    _instance: Optional["SubscriberRegistry"] = None
    _lock = threading.Lock()

    def __init__(self) -> None:
        self._classes: List[Type[BaseSubscriber]] = []
        self._subscribers: List[BaseSubscriber] = []

    @classmethod
    def instance(cls) -> "SubscriberRegistry":
        """The registry of the process."""
        with cls._lock:
            if cls._instance is None:
                cls._instance = cls()
            return cls._instance

    @classmethod
    def reset_instance(cls) -> None:
        """Stop the subscribers of the process and forget them."""
        with cls._lock:
            found, cls._instance = cls._instance, None
        if found is not None:
            found.stop_all()

    def register(self, subscriber: Type[BaseSubscriber]) -> None:
        """Add a class; ``start_all`` makes the instance."""
        if subscriber not in self._classes:
            self._classes.append(subscriber)

    def register_instance(self, subscriber: BaseSubscriber) -> None:
        """Add an instance."""
        if subscriber not in self._subscribers:
            self._subscribers.append(subscriber)

    def start_all(self, poller: Any = None) -> List[BaseSubscriber]:
        """Start every subscriber on a poller; without one on a poller of their own."""
        if poller is None:
            from .poller import InProcessDomainEventPoller

            poller = InProcessDomainEventPoller.instance()
        made = [cls() for cls in self._classes if not any(type(s) is cls for s in self._subscribers)]
        self._subscribers.extend(made)
        for subscriber in self._subscribers:
            if not subscriber.active:
                subscriber.start(poller)
        return list(self._subscribers)

    def stop_all(self) -> None:
        """Stop every subscriber."""
        for subscriber in self._subscribers:
            subscriber.stop()

    @property
    def subscribers(self) -> List[BaseSubscriber]:
        """The instances."""
        return list(self._subscribers)

    def count(self) -> int:
        """How many classes and instances are registered."""
        return len(self._subscribers) + sum(
            1 for cls in self._classes if not any(type(s) is cls for s in self._subscribers)
        )

    def stats(self) -> Dict[str, Any]:
        """How many subscribers there are and run, and their patterns."""
        return {
            "total_subscribers": self.count(),
            "active_subscribers": sum(1 for s in self._subscribers if s.active),
            "subscriptions": {type(s).__name__: list(s.subscriptions) for s in self._subscribers},
            "subscribers": [
                {"name": type(s).__name__, "active": s.active, "patterns": list(s.subscriptions)}
                for s in self._subscribers
            ],
        }

    def reset(self) -> None:
        """Stop and forget all."""
        self.stop_all()
        self._classes.clear()
        self._subscribers.clear()

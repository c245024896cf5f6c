"""Requests about domain events, for the blocking and the asyncio client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ._calls import without_none

if TYPE_CHECKING:
    from .domain_events.poller import EventStream

__all__ = ["AsyncEventCalls", "EventCalls"]

Call = Tuple[str, Dict[str, Any]]

#: Seconds that an answer may come later than the wait that was asked for.
GRACE = 30.0


def _publish(name: str, payload: Any, options: Mapping[str, Any]) -> Dict[str, Any]:
    return without_none({"name": name, "payload": payload, **options})


def _consume(
    namespace: Optional[str], limit: int, visibility: float, wait: float, patterns: Optional[Sequence[str]]
) -> Dict[str, Any]:
    return without_none(
        {
            "namespace": namespace,
            "max": limit,
            "visibility_ms": int(visibility * 1000),
            "wait_ms": int(wait * 1000),
            "patterns": None if patterns is None else list(patterns),
        }
    )


def _ids(namespace: Optional[str], messages: Sequence[Any]) -> Dict[str, Any]:
    """Params that name messages: as ``consume_events`` gave them, or their ids alone."""
    ids = [m["msg_id"] if isinstance(m, Mapping) else m for m in messages]
    counts = [m.get("read_count") for m in messages if isinstance(m, Mapping)]
    whole = len(counts) == len(ids) and None not in counts
    return without_none({"namespace": namespace, "ids": ids, "read_counts": counts if whole else None})


class EventCalls:
    """Mixin of TaskerClient."""

    socket: str

    def request(
        self, method: str, params: Optional[Mapping[str, Any]] = None, *, timeout: Optional[float] = None
    ) -> Any:
        """Given by the client."""
        raise NotImplementedError

    def publish_event(self, name: str, payload: Any = None, **options: Any) -> Dict[str, Any]:
        """Publish an event; ``{event_id, msg_id}``. ``options`` are params of ``event.publish``: ``namespace``,
        ``delivery_mode`` (``durable``, ``fast``, ``broadcast``), ``metadata``, ``correlation_id``, ..."""
        return dict(self.request("event.publish", _publish(name, payload, options)))

    def consume_events(
        self,
        namespace: Optional[str] = None,
        *,
        limit: int = 1,
        visibility: float = 30.0,
        wait: float = 0.0,
        patterns: Optional[Sequence[str]] = None,
    ) -> List[Dict[str, Any]]:
        """Take durable events from a namespace's queue: ``[{msg_id, read_count, event, ...}]``.

        What is not acknowledged within ``visibility`` seconds comes again. ``wait`` (seconds) is how
        long to wait for a first one.
        """
        params = _consume(namespace, limit, visibility, wait, patterns)
        return list(self.request("event.consume", params, timeout=wait + GRACE).get("messages") or ())

    def ack_events(self, messages: Sequence[Any], namespace: Optional[str] = None) -> Dict[str, Any]:
        """Remove events (or ids) that ``consume_events`` gave."""
        return dict(self.request("event.ack", _ids(namespace, messages)))

    def extend_events(
        self, messages: Sequence[Any], visibility: float, namespace: Optional[str] = None
    ) -> Dict[str, Any]:
        """Keep events for ``visibility`` more seconds; 0 gives them back."""
        params = {**_ids(namespace, messages), "visibility_ms": int(visibility * 1000)}
        return dict(self.request("event.extend", params))

    def list_event_queues(self) -> List[Dict[str, Any]]:
        """The queues of durable events."""
        return list(self.request("event.list").get("queues") or ())

    def subscribe_events(
        self, *patterns: str, namespaces: Optional[Sequence[str]] = None
    ) -> "EventStream":
        """An iterator over fast events, on a connection of its own; it is subscribed when this returns."""
        from .domain_events.poller import EventStream

        stream = EventStream(patterns or ("*",), namespaces=namespaces, socket=self.socket)
        stream.connect()
        return stream


class AsyncEventCalls:
    """Mixin of AsyncTaskerClient."""

    async def request(
        self, method: str, params: Optional[Mapping[str, Any]] = None, *, timeout: Optional[float] = None
    ) -> Any:
        """Given by the client."""
        raise NotImplementedError

    async def publish_event(self, name: str, payload: Any = None, **options: Any) -> Dict[str, Any]:
        """Publish an event; ``{event_id, msg_id}``. See ``TaskerClient.publish_event``."""
        return dict(await self.request("event.publish", _publish(name, payload, options)))

    async def consume_events(
        self,
        namespace: Optional[str] = None,
        *,
        limit: int = 1,
        visibility: float = 30.0,
        wait: float = 0.0,
        patterns: Optional[Sequence[str]] = None,
    ) -> List[Dict[str, Any]]:
        """Take durable events from a namespace's queue. See ``TaskerClient.consume_events``."""
        params = _consume(namespace, limit, visibility, wait, patterns)
        answer = await self.request("event.consume", params, timeout=wait + GRACE)
        return list(answer.get("messages") or ())

    async def ack_events(self, messages: Sequence[Any], namespace: Optional[str] = None) -> Dict[str, Any]:
        """Remove events (or ids) that ``consume_events`` gave."""
        return dict(await self.request("event.ack", _ids(namespace, messages)))

    async def extend_events(
        self, messages: Sequence[Any], visibility: float, namespace: Optional[str] = None
    ) -> Dict[str, Any]:
        """Keep events for ``visibility`` more seconds; 0 gives them back."""
        params = {**_ids(namespace, messages), "visibility_ms": int(visibility * 1000)}
        return dict(await self.request("event.extend", params))

    async def list_event_queues(self) -> List[Dict[str, Any]]:
        """The queues of durable events."""
        return list((await self.request("event.list")).get("queues") or ())

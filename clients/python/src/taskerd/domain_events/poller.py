"""Events from the daemon: a stream on a connection of its own, and a thread that calls listeners."""

from __future__ import annotations

import collections
import logging
import threading
import time
from typing import Any, Callable, Deque, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

from .._channel import Channel
from .._transport import Backoff, socket_path
from ..exceptions import ConnectionLostError, TaskerdError
from .models import InProcessDomainEvent, matches_any

__all__ = ["EventStream", "InProcessDomainEventPoller"]

_log = logging.getLogger("taskerd.events")

Listener = Callable[[Any], Any]

REQUEST_TIMEOUT = 30.0
#: Events kept for a reader that is slow; the oldest go first.
BUFFER = 65536


class EventStream:
    """An iterator over the fast events that fit some patterns; it outlives the daemon.

    ``lost`` counts events that the daemon or this stream had to drop because they were not read in time.
    """

    def __init__(
        self,
        patterns: Iterable[str] = ("*",),
        *,
        namespaces: Optional[Sequence[str]] = None,
        socket: Optional[str] = None,
    ) -> None:
        self.socket = socket_path(socket)
        self.patterns = list(patterns)
        self.namespaces = list(namespaces) if namespaces else ["*"]
        self.lost = 0
        self._events: Deque[Dict[str, Any]] = collections.deque(maxlen=BUFFER)
        self._ready = threading.Condition()
        self._channel: Optional[Channel] = None
        self._closed = False

    def connect(self) -> None:
        """Connect and subscribe, if that has not been done. Raises what the daemon refuses."""
        channel = self._channel
        if channel is not None and not channel.closed:
            return
        channel = Channel(self.socket, self._on_notification, self._on_lost)
        try:
            self._subscribe(channel, self.patterns)
        except BaseException:
            channel.close()
            raise
        self._channel = channel
        if self._closed:
            channel.close()

    def subscribe(self, patterns: Sequence[str]) -> None:
        """Have more patterns."""
        new = [p for p in patterns if p not in self.patterns]
        self.patterns.extend(new)
        channel = self._channel
        if new and channel is not None and not channel.closed:
            try:
                self._subscribe(channel, new)
            except ConnectionLostError:
                pass  # with the next connection

    def _subscribe(self, channel: Channel, patterns: Sequence[str]) -> None:
        for first in range(0, len(patterns), 64):
            part = {"patterns": list(patterns[first : first + 64]), "namespaces": self.namespaces}
            channel.send("event.subscribe", part).wait(REQUEST_TIMEOUT)

    def _on_notification(self, method: str, params: Dict[str, Any]) -> None:
        if method != "event.message":
            return
        events = params.get("events") or ()
        with self._ready:
            self.lost += int(params.get("lost") or 0) + max(0, len(self._events) + len(events) - BUFFER)
            self._events.extend(events)
            self._ready.notify_all()

    def _on_lost(self) -> None:
        with self._ready:
            self._ready.notify_all()

    def next(self, timeout: Optional[float] = None) -> Optional[InProcessDomainEvent]:
        """The next event, None if there is none within ``timeout`` seconds or the stream was closed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        backoff = Backoff()
        while not self._closed:
            if self._events:
                return InProcessDomainEvent.from_wire(self._events.popleft())
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return None
            try:
                self.connect()
            except TaskerdError as exc:
                if not exc.retryable:
                    raise
                self._wait(backoff.next(exc.retry_after or 0.0), deadline)
                continue
            self._await_event(left)
        return None

    def _await_event(self, left: Optional[float]) -> None:
        with self._ready:
            channel = self._channel
            if not self._events and not self._closed and channel is not None and not channel.closed:
                self._ready.wait(left)

    def _wait(self, delay: float, deadline: Optional[float]) -> None:
        left = delay if deadline is None else min(delay, max(0.0, deadline - time.monotonic()))
        with self._ready:
            if not self._closed:
                self._ready.wait(left)

    def __iter__(self) -> Iterator[InProcessDomainEvent]:
        while True:
            event = self.next()
            if event is None:
                return
            yield event

    def close(self) -> None:
        """End the stream; who waits for an event gets None."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()
        channel = self._channel
        if channel is not None:
            channel.close()

    def __enter__(self) -> "EventStream":
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()


class InProcessDomainEventPoller:
    """A thread that reads events and calls listeners, one after the other.

    Nothing is polled, whatever the name says: the daemon pushes. Listeners may come and go while it runs.
    """

    _instance: Optional["InProcessDomainEventPoller"] = None
    _instance_lock = threading.Lock()

    def __init__(
        self,
        poll_interval_ms: int = 10,
        max_events_per_poll: int = 100,
        *,
        socket: Optional[str] = None,
        namespaces: Optional[Sequence[str]] = None,
        **unused: Any,
    ) -> None:
        self.poll_interval_ms = poll_interval_ms
        self.max_events_per_poll = max_events_per_poll
        self.events_processed = 0
        self.errors = 0
        self._socket = socket
        self._namespaces = namespaces
        self._listeners: List[Tuple[Listener, List[str]]] = []
        self._error_listeners: List[Callable[[Exception], Any]] = []
        self._lock = threading.Lock()
        self._stream: Optional[EventStream] = None
        self._thread: Optional[threading.Thread] = None

    @classmethod
    def instance(
        cls, socket: Optional[str] = None, namespaces: Optional[Sequence[str]] = None
    ) -> "InProcessDomainEventPoller":
        """A poller shared by the process, started."""
        with cls._instance_lock:
            if cls._instance is None:
                cls._instance = cls(socket=socket, namespaces=namespaces)
            cls._instance.start()
            return cls._instance

    @classmethod
    def reset_instance(cls) -> None:
        """Stop and forget the shared poller."""
        with cls._instance_lock:
            found, cls._instance = cls._instance, None
        if found is not None:
            found.stop()

    def on_event(self, listener: Listener, patterns: Sequence[str] = ("*",)) -> None:
        """Have a function called with each event, an InProcessDomainEvent."""
        self.add_listener(listener, patterns)

    def on_error(self, listener: Callable[[Exception], Any]) -> None:
        """Have a function called with what listeners raise."""
        self._error_listeners.append(listener)

    def add_listener(self, listener: Listener, patterns: Sequence[str]) -> None:
        """Have a function called with the events that fit some patterns."""
        with self._lock:
            self._listeners.append((listener, list(patterns)))
            stream = self._stream
        if stream is not None:
            stream.subscribe(list(patterns))

    def remove_listener(self, listener: Listener) -> None:
        """Call a function no more."""
        with self._lock:
            self._listeners = [(f, p) for f, p in self._listeners if f != listener]

    def start(self, connect_timeout: Optional[float] = None) -> None:
        """Begin to read events. With ``connect_timeout`` (seconds) wait until the subscription stands."""
        with self._lock:
            if self._thread is not None:
                return
            patterns = [p for _, found in self._listeners for p in found]
            self._stream = EventStream(dict.fromkeys(patterns), namespaces=self._namespaces, socket=self._socket)
            if connect_timeout is not None:
                self._connect(self._stream, time.monotonic() + connect_timeout)
            self._thread = threading.Thread(target=self._main, args=(self._stream,), name="taskerd-events", daemon=True)
            self._thread.start()

    @staticmethod
    def _connect(stream: EventStream, deadline: float) -> None:
        backoff = Backoff()
        while True:
            try:
                return stream.connect()
            except TaskerdError as exc:
                delay = backoff.next(exc.retry_after or 0.0)
                if not exc.retryable or time.monotonic() + delay >= deadline:
                    raise
                time.sleep(delay)

    def stop(self) -> None:
        """Read no more events and wait for the thread."""
        with self._lock:
            thread, self._thread = self._thread, None
            stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
        if thread is not None and thread is not threading.current_thread():
            thread.join(5.0)

    @property
    def is_running(self) -> bool:
        """True between ``start`` and ``stop``."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def lost(self) -> int:
        """Events that were dropped because they were not read in time."""
        return self._stream.lost if self._stream is not None else 0

    def stats(self) -> Dict[str, Any]:
        """How much went through."""
        return {
            "running": self.is_running,
            "events_processed": self.events_processed,
            "errors": self.errors,
            "lost": self.lost,
        }

    def _main(self, stream: EventStream) -> None:
        try:
            for event in stream:
                self.dispatch(event)
        except TaskerdError as exc:
            _log.error("no more events: %s", exc)

    def dispatch(self, event: InProcessDomainEvent) -> None:
        """Call the listeners with an event; for tests of subscribers also without a daemon."""
        with self._lock:
            found = [f for f, patterns in self._listeners if matches_any(patterns, event.event_name)]
        for listener in found:
            try:
                listener(event)
            except Exception as exc:
                self.errors += 1
                if not self._error_listeners:
                    _log.exception("a listener of event %s has failed", event.event_name)
                for told in self._error_listeners:
                    told(exc)
        self.events_processed += 1

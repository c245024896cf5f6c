"""The worker's session with the daemon: one I/O thread, the open steps, the results not yet acknowledged.

The I/O thread alone touches the socket, ``_open`` and ``_unacked``. Handler threads only append to
``_out`` (results) and ``_control`` (other messages), which are deques, and write one byte to the wake
socket if the I/O thread is about to sleep. While the I/O thread is busy they need not even do that,
so results that become ready together leave in one frame.

The thread survives every loss of the connection: it reconnects, resumes what handlers still run, and
sends again what was not acknowledged.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import selectors
import socket
import threading
from time import monotonic  # our own: tests replace that of the module
from typing import Any, Callable, Deque, Dict, List, Mapping, Optional, Tuple, Union

from ._codec import (
    NOTIFICATION,
    REQUEST,
    RESPONSE,
    FrameReader,
    array_header,
    frame,
    list_frame_prefix,
    new_packer,
    pack_message,
    plain,
    safe_text,
    split_limits,
)
from ._dependencies import Dependencies, fetch_all
from ._pool import HandlerPool
from ._runner import StepRunner
from ._transport import Backoff, Complaints, Welcome, open_session
from .context import ABANDONED, FINISHED, RUNNING, WAITING, StepContext
from .exceptions import (
    ConnectionLostError,
    ProtocolError,
    RequestTimeoutError,
    TaskerdError,
    UnsupportedVersionError,
)
from .results import StepHandlerResult

_log = logging.getLogger("taskerd.worker")

Key = Tuple[str, int]

#: Refusals of the handshake that waiting will not change.
FATAL_CODES = frozenset(
    ("unsupported_version", "permission_denied", "bad_request", "invalid_value", "too_large", "unknown_method")
)
RESUME_TIMEOUT = 30.0
DEPENDENCY_TIMEOUT = 60.0
#: Characters of a line of the log.
MAX_LOG = 8192
#: Progress and log lines are dropped while more than this waits to be sent.
MAX_BACKLOG = 1 << 20
#: A connection that lived this long, or on which a result was acknowledged, was good: the next reconnect
#: starts from the shortest wait. One that is closed again and again at once backs off.
GOOD_SECONDS = 5.0


class _Request:
    """A request of a handler thread, kept until it is answered, over reconnects."""

    __slots__ = ("done", "error", "method", "params", "result")

    def __init__(self, method: str, params: Mapping[str, Any]) -> None:
        self.method = method
        self.params = params
        self.done = threading.Event()
        self.error: Optional[TaskerdError] = None
        self.result: Any = None


class _Link:
    """One live connection."""

    def __init__(self, sock: socket.socket, reader: FrameReader, selector: selectors.BaseSelector) -> None:
        self.sock = sock
        self.reader = reader
        self.backlog = bytearray()
        self.born = self.sent_at = monotonic()
        self.ready = False
        self.resume_id: Optional[int] = None
        self.offered: Optional[Mapping[str, Any]] = None
        self._selector = selector
        self._writing = False
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ, self)

    def send(self, data: bytes) -> None:
        self.sent_at = monotonic()
        if self.backlog:
            self.backlog += data
            return
        try:
            n = self.sock.send(data)
        except (BlockingIOError, InterruptedError):
            n = 0
        if n < len(data):
            self.backlog += data[n:]
            self._watch(True)

    def flush(self) -> None:
        if self.backlog:
            try:
                n = self.sock.send(self.backlog)
            except (BlockingIOError, InterruptedError):
                return
            del self.backlog[:n]
        if not self.backlog:
            self._watch(False)

    def flush_blocking(self, timeout: float) -> None:
        self.sock.settimeout(timeout)
        self.sock.sendall(self.backlog)
        self.backlog.clear()

    def close(self) -> None:
        self._selector.unregister(self.sock)
        self.sock.close()

    def _watch(self, writing: bool) -> None:
        if writing != self._writing:
            self._writing = writing
            mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
            self._selector.modify(self.sock, mask, self)


class WorkerRuntime:
    """Runs a worker until it has drained or failed for good."""

    def __init__(
        self,
        *,
        path: str,
        worker: Mapping[str, Any],
        runner: StepRunner,
        threads: int,
        ack_timeout: float = 10.0,
        abandon_after: Optional[float] = 30.0,
    ) -> None:
        self.path = path
        self.welcome: Optional[Welcome] = None
        self.failure: Optional[BaseException] = None
        #: Called once when the worker has ended.
        self.at_end: Optional[Callable[[], None]] = None
        #: Called when the daemon may have templates that this worker has not seen.
        self.at_templates: Callable[[], None] = lambda: None
        self.connected = threading.Event()
        self.finished = threading.Event()
        self.counters: Dict[str, int] = dict.fromkeys(
            (
                *("received", "recorded", "duplicate", "stale", "rejected", "not_claimed", "released"),
                *("reconnects", "abandoned"),
            ),
            0,
        )
        self._worker = dict(worker)
        self._runner = runner
        self._threads = threads
        self._ack_timeout = ack_timeout
        self._abandon_after = abandon_after
        #: Cancelled steps whose handlers have not returned, and when to wait for them no longer.
        self._cancelled: List[Tuple[float, StepContext]] = []
        self._pack = new_packer()
        self._prefix = list_frame_prefix(self._pack, NOTIFICATION, "step.result", "results")
        self._open: Dict[Key, StepContext] = {}
        self._unacked: Dict[Key, Tuple[StepContext, bytes]] = {}
        #: Acknowledgements still to come for results of earlier deliveries of an attempt: a step that
        #: yielded at a checkpoint comes again as the same attempt, perhaps before its yield is acknowledged.
        self._earlier: Dict[Key, int] = {}
        self._out: Deque[Tuple[StepContext, bytes]] = collections.deque()
        self._control: Deque[Union[bytes, _Request]] = collections.deque()
        self._requests: Dict[int, _Request] = {}
        self._next_id = 1
        self._idle = False
        self._progress = False
        self._drain_wanted = False
        self._draining = False
        self._drain_limit: Optional[float] = None
        self._abort = False
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_in, selectors.EVENT_READ, None)
        self._pool: Optional[HandlerPool] = None
        self._thread = threading.Thread(target=self._main, name="taskerd-io", daemon=True)
        self._notified: Dict[str, Callable[[Dict[str, Any]], None]] = {
            "step.execute": self._on_execute,
            "result.ack": self._on_ack,
            "step.cancel": self._on_cancel,
            "server.draining": self._on_server_draining,
            "worker.finish": self._on_finish,
            "templates.changed": lambda params: self.at_templates(),
            "error": self._on_error,
        }

    # -- any thread ------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the I/O thread and the handler threads."""
        self._pool = HandlerPool(self._threads, self._run_step, self._runner.close_thread)
        self._thread.start()

    def drain(self) -> None:
        """Begin no further step, finish those that run, wait for their acknowledgements, then end."""
        self._drain_wanted = True
        self._wake()

    def abort(self) -> None:
        """End now; the daemon sees the connection close with steps open."""
        self._abort = True
        self._wake()

    def join(self, timeout: Optional[float] = None) -> bool:
        """Wait for the end. False if it did not come in time."""
        return self.finished.wait(timeout)

    @property
    def draining(self) -> bool:
        """True once the end was asked for."""
        return self._drain_wanted

    @property
    def ended(self) -> bool:
        """True if nothing is sent any more."""
        return self._abort or self.finished.is_set()

    def open_steps(self) -> int:
        """Steps held and not yet finished."""
        return len(self._open)

    def unacknowledged(self) -> int:
        """Results the daemon has not confirmed."""
        return len(self._unacked) + len(self._out)

    def fetch_dependencies(self, step_uuid: str, names: Optional[List[str]]) -> Dependencies:
        """Results of earlier steps; blocks the calling handler thread."""
        return fetch_all(self._request, step_uuid, names)

    def store_checkpoint(self, params: Mapping[str, Any]) -> str:
        """``step.checkpoint``; blocks the calling handler thread until it is durable."""
        return str(self._request("step.checkpoint", params).get("status") or "")

    def send_progress(self, step_uuid: str, attempt: int, progress: Any) -> None:
        """``step.heartbeat``; dropped while there is no connection."""
        params: Dict[str, Any] = {"step_uuid": step_uuid, "attempt": attempt}
        if progress is not None:
            params["progress"] = plain(progress, "progress")
        self._notify("step.heartbeat", params)

    def offer(self, **changes: Any) -> None:
        """Offer other handlers. The daemon learns of them in a handshake: the connection is made anew, with all that is held."""
        self._worker = {**self._worker, **changes}
        self._wake()

    def send_log(self, step_uuid: Optional[str], level: str, message: str, fields: Mapping[str, Any]) -> None:
        """``step.log``; dropped while there is no connection."""
        params: Dict[str, Any] = {"level": level, "message": safe_text(message, MAX_LOG)}
        if step_uuid is not None:
            params["step_uuid"] = step_uuid
        if fields:
            params["fields"] = {safe_text(k, MAX_LOG): safe_text(v, MAX_LOG) for k, v in fields.items()}
        self._notify("step.log", params)

    def _notify(self, method: str, params: Mapping[str, Any]) -> None:
        data = frame(pack_message(self._runner.packer(), (NOTIFICATION, method), params))
        if not self.connected.is_set():
            return
        self._control.append(data)
        self._wake_if_idle()

    def _request(self, method: str, params: Mapping[str, Any]) -> Dict[str, Any]:
        request = _Request(method, params)
        self._control.append(request)
        self._wake_if_idle()
        if not request.done.wait(DEPENDENCY_TIMEOUT):
            raise RequestTimeoutError(f"no answer to {method} within {DEPENDENCY_TIMEOUT:.0f} s")
        if request.error is not None:
            raise request.error
        return request.result if isinstance(request.result, dict) else {}

    def _run_step(self, context: StepContext) -> bool:
        """Handler threads: one attempt. True if the I/O thread has given this thread up meanwhile."""
        context._stage = RUNNING
        self._out.append((context, self._runner.run(context)))
        if self._idle:
            self._idle = False
            self._wake()
        if context._stage == ABANDONED:
            return True
        context._stage = FINISHED
        return False

    def _wake_if_idle(self) -> None:
        if self._idle:
            self._idle = False
            self._wake()

    def _wake(self) -> None:
        try:
            self._wake_out.send(b"w")
        except OSError:  # full, then a wake-up is pending anyway; or closed at the end
            pass

    # -- the I/O thread --------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            self._sessions()
        except BaseException as exc:
            self.failure = exc
            _log.error("the worker stops: %s", exc)
        finally:
            self._end()

    def _sessions(self) -> None:
        """One connection after the other, until the work is done."""
        backoff, complaints = Backoff(), Complaints()
        while not self._abort:
            try:
                link = self._connect()
                complaints.over()
            except ConnectionLostError as exc:
                if self._give_up():
                    return
                delay = backoff.next()
                if complaints.due():
                    _log.warning("%s; trying on", exc)
                self._pause(delay)
                continue
            except TaskerdError as exc:
                if exc.code in FATAL_CODES or isinstance(exc, UnsupportedVersionError):
                    raise
                if self._give_up():
                    return
                delay = backoff.next(exc.retry_after or 0.0)
                if complaints.due():
                    _log.warning("taskerd refuses the session: %s; trying on", exc)
                self._pause(delay)
                continue
            try:
                self._serve(link)
                return
            except (ConnectionLostError, ProtocolError, OSError) as exc:
                level = logging.WARNING if link.offered is self._worker else logging.INFO
                _log.log(level, "connection to taskerd lost: %s", exc)
            finally:
                self.connected.clear()
                link.close()
            if link.offered is not self._worker:
                continue
            if self._progress or monotonic() - link.born >= GOOD_SECONDS:
                backoff.reset()
            if not self._give_up():
                self._pause(backoff.next())

    def _connect(self) -> _Link:
        self._collect()
        self._progress = False
        self._earlier.clear()
        resume = None
        if self.welcome is not None:
            resume = {"session": self.welcome.session, "held": len(self._open) + len(self._unacked)}
        offered = self._worker
        sock, reader, welcome, rest = open_session(self.path, offered, resume)
        if self.welcome is not None:
            self.counters["reconnects"] += 1
        self.welcome = welcome
        self._runner.room = split_limits(welcome.limits)
        link = _Link(sock, reader, self._selector)
        link.offered = offered
        try:
            self._resume(link)
            self.connected.set()  # before what came with the welcome: what its handlers say is said to somebody
            for envelope in rest:
                self._dispatch(link, envelope)
        except BaseException:
            self.connected.clear()
            link.close()
            raise
        self.at_templates()
        _log.info(
            "connected to %s (%s) as %s%s",
            welcome.server,
            self.path,
            welcome.worker_uuid,
            ", session resumed" if welcome.resumed else "",
        )
        return link

    def _resume(self, link: _Link) -> None:
        """First thing on a connection: which attempts this process still has. Those whose results are
        about to be sent again count too, lest the daemon gives them to others before the results arrive."""
        held = [*self._open.values(), *(context for context, _ in self._unacked.values())]
        if not held:
            self._become_ready(link)
            return
        steps = [
            {"step_uuid": c._key[0], "attempt": c._key[1], "claim": (c._step or {}).get("claim")} for c in held
        ]
        link.resume_id = self._send_request(link, "session.resume", {"steps": steps})

    def _become_ready(self, link: _Link) -> None:
        """Then the results that were not acknowledged, and the requests that were not answered."""
        link.ready = True
        if self._unacked:
            _log.info("sending %d unacknowledged results again", len(self._unacked))
            limit, _ = self._runner.room
            items: List[bytes] = []
            for key, (context, data) in list(self._unacked.items()):
                if len(data) > limit:
                    data = self._too_large(context, len(data), limit)
                    self._unacked[key] = (context, data)
                items.append(data)
            self._send_results(link, items)
        pending, self._requests = list(self._requests.values()), {}
        for request in pending:
            self._requests[self._send_request(link, request.method, request.params)] = request
        if self._draining:
            self._send(link, "worker.update", {"draining": True})

    def _too_large(self, context: StepContext, size: int, limit: int) -> bytes:
        """For a daemon that came back with smaller limits."""
        failure = StepHandlerResult.failure(
            f"the handler's result cannot be sent: {size} bytes, the daemon takes {limit}",
            "result_too_large",
            retryable=False,
        )
        return self._runner.encode(context, failure, 0.0)

    def _serve(self, link: _Link) -> None:
        """Returns when the worker has drained; raises when the connection is lost."""
        assert self.welcome is not None
        beat = max(0.05, self.welcome.heartbeat_ms / 3000.0)
        while True:
            if link.ready:
                self._flush(link)
                if self._drain_wanted and self._drain_step(link):
                    return
            elif monotonic() - link.born > RESUME_TIMEOUT:
                raise ConnectionLostError("taskerd did not answer session.resume")
            if self._abort:
                return
            if link.offered is not self._worker:
                raise ConnectionLostError("other handlers are offered now")
            patience = self._abandon() if self._cancelled else beat
            wait = link.sent_at + beat - monotonic()
            if wait <= 0.0:
                self._send(link, "heartbeat", {})
                wait = beat
            self._idle = True
            if (link.ready and (self._out or self._control)) or self._abort:
                self._idle = False
                continue
            ready = self._selector.select(min(wait, patience))
            self._idle = False
            for key, mask in ready:
                if key.data is None:
                    self._clear_wake()
                    continue
                if mask & selectors.EVENT_WRITE:
                    link.flush()
                if mask & selectors.EVENT_READ:
                    self._read(link)

    def _read(self, link: _Link) -> None:
        try:
            n = link.reader.fill(link.sock)
        except (BlockingIOError, InterruptedError):
            return
        if n == 0:
            raise ConnectionLostError("taskerd closed the connection")
        for envelope in link.reader.take():
            self._dispatch(link, envelope)

    def _dispatch(self, link: _Link, envelope: List[Any]) -> None:
        if envelope[0] == RESPONSE:
            self._on_response(link, envelope[1], envelope[2], envelope[3])
            return
        handle = self._notified.get(envelope[1])
        if handle is None:
            return
        try:
            handle(envelope[2])
        except (KeyError, TypeError, AttributeError) as exc:
            raise ProtocolError(f"{envelope[1]} lacks a field or has one of the wrong type: {exc!r}") from exc

    # -- messages from the daemon ----------------------------------------------------------------

    def _on_execute(self, params: Dict[str, Any]) -> None:
        now = monotonic()
        batch: List[StepContext] = []
        for step in params["steps"]:
            context = StepContext._from_step(step, self, now)
            key = context._key
            if (key in self._open or key in self._unacked) and self._sent_twice(key, step):
                continue
            self._open[key] = context
            batch.append(context)
        self.counters["received"] += len(batch)
        if not self._draining:
            assert self._pool is not None
            self._pool.submit(batch)
        else:
            self._release(batch)

    def _sent_twice(self, key: Key, step: Mapping[str, Any]) -> bool:
        """True if the attempt is here already. With another claim it is a new delivery (the first was
        given back without using an attempt), and what this process still does for the first is void."""
        old = self._open.get(key) or self._unacked[key][0]
        if (old._step or {}).get("claim") == step.get("claim"):
            return True
        self._cancel(old, "stale")
        if self._unacked.pop(key, None) is not None:
            self._earlier[key] = self._earlier.get(key, 0) + 1
        return False

    def _on_ack(self, params: Dict[str, Any]) -> None:
        counters = self.counters
        self._progress = True
        for ack in params["acks"]:
            key = (ack["step_uuid"], ack["attempt"])
            if not (self._earlier and self._was_earlier(key)):
                self._unacked.pop(key, None)
            status = ack["status"]
            counters[status] = counters.get(status, 0) + 1
            if status != "recorded" and status != "duplicate":
                level = logging.INFO if status == "stale" else logging.ERROR
                _log.log(
                    level,
                    "result of step %s, attempt %s: %s %s",
                    ack["step_uuid"],
                    ack["attempt"],
                    status,
                    ack.get("message") or "",
                )

    def _was_earlier(self, key: Key) -> bool:
        """True if an acknowledgement is for an earlier delivery of an attempt than the one held."""
        count = self._earlier.pop(key, 0)
        if count > 1:
            self._earlier[key] = count - 1
        return count > 0

    def _on_cancel(self, params: Dict[str, Any]) -> None:
        context = self._open.get((params["step_uuid"], params["attempt"]))
        if context is not None:
            self._cancel(context, str(params.get("reason") or "stale"))

    def _cancel(self, context: StepContext, reason: str) -> None:
        if context._cancel_reason is None and self._abandon_after is not None:
            self._cancelled.append((monotonic() + self._abandon_after, context))
        context._cancel(reason)

    def _abandon(self) -> float:
        """Wait no longer for cancelled handlers whose time is up: a new thread takes the place of each, and
        the daemon gets its place back. Returns the seconds until the next one's time is up."""
        now = monotonic()
        late = [context for due, context in self._cancelled if due <= now]
        self._cancelled = [entry for entry in self._cancelled if entry[0] > now]
        for context in late:
            if context._stage == RUNNING:
                self._abandon_one(context)
            elif context._stage == WAITING and self._open.get(context._key) is context:
                self._cancelled.append((now + 1.0, context))  # behind others that do not come back
        return min((due - now for due, _ in self._cancelled), default=3600.0)

    def _abandon_one(self, context: StepContext) -> None:
        assert self._pool is not None
        context._stage = ABANDONED
        self._pool.add_thread()
        self.counters["abandoned"] += 1
        _log.error(
            "step %s of handler %r was cancelled (%s) and does not return; its thread is given up",
            context._key[0],
            context.handler_name,
            context._cancel_reason,
        )
        if self._open.get(context._key) is context:
            message = f"cancelled ({context._cancel_reason}), and the handler did not return"
            failure = StepHandlerResult.failure(message, "cancelled")
            self._out.append((context, self._runner.encode(context, failure, 0.0)))

    def _on_server_draining(self, params: Dict[str, Any]) -> None:
        _log.info("taskerd is stopping; running steps go on, their results follow after the reconnect")

    def _on_finish(self, params: Dict[str, Any]) -> None:
        _log.info("an operator sends this worker home; it finishes what it runs, and ends")
        self.drain()

    def _on_error(self, params: Dict[str, Any]) -> None:
        _log.error("taskerd complains: %s", TaskerdError.from_wire(params))

    def _on_response(self, link: _Link, ident: int, error: Optional[Dict[str, Any]], result: Any) -> None:
        if ident == link.resume_id:
            link.resume_id = None
            if error is not None:
                raise ConnectionLostError(f"session.resume failed: {TaskerdError.from_wire(error)}")
            self._on_resumed(result)
            self._become_ready(link)
            return
        request = self._requests.pop(ident, None)
        if request is not None:
            request.error = TaskerdError.from_wire(error) if error is not None else None
            request.result = result
            request.done.set()

    def _on_resumed(self, result: Any) -> None:
        """Attempts that went to others are dropped; their handlers are told. A result is sent again
        whatever this says, for it may have been recorded before the connection broke."""
        for step in (result or {}).get("steps") or ():
            if step.get("status") == "held":
                continue
            context = self._open.pop((step["step_uuid"], step["attempt"]), None)
            if context is not None:
                self._cancel(context, "stale")
                self.counters["stale"] += 1

    # -- messages to the daemon ------------------------------------------------------------------

    def _send(self, link: _Link, method: str, params: Mapping[str, Any]) -> None:
        link.send(frame(self._pack([NOTIFICATION, method, params])))

    def _send_request(self, link: _Link, method: str, params: Mapping[str, Any]) -> int:
        ident = self._next_id
        self._next_id = ident + 1 if ident < 0xFFFFFFFF else 1
        link.send(frame(self._pack([REQUEST, ident, method, params])))
        return ident

    def _flush(self, link: _Link) -> None:
        """Send what handler threads have left."""
        control = self._control
        for _ in range(len(control)):
            message = control.popleft()
            if isinstance(message, _Request):
                self._requests[self._send_request(link, message.method, message.params)] = message
            elif len(link.backlog) < MAX_BACKLOG:
                link.send(message)
        items = self._collect()
        if items:
            self._send_results(link, items)

    def _collect(self) -> List[bytes]:
        """Move finished steps from the open to the unacknowledged."""
        out = self._out
        items: List[bytes] = []
        for _ in range(len(out)):
            entry = out.popleft()
            key = entry[0]._key
            if self._open.get(key) is entry[0]:
                del self._open[key]
                self._unacked[key] = entry
                items.append(entry[1])
        return items

    def _send_results(self, link: _Link, items: List[bytes]) -> None:
        """As few ``step.result`` frames as the limits allow. An item has at least one byte, so a frame
        below ``max_items`` bytes needs no counting; a larger item was counted alone and goes alone."""
        cap = min(self._runner.room)
        first, size = 0, 0
        for i, item in enumerate(items):
            if size and size + len(item) > cap:
                self._send_frame(link, items[first:i])
                first, size = i, 0
            size += len(item)
        self._send_frame(link, items[first:])

    def _send_frame(self, link: _Link, items: List[bytes]) -> None:
        link.send(frame(b"".join((self._prefix, array_header(len(items)), *items))))

    # -- ending ----------------------------------------------------------------------------------

    def _drain_step(self, link: _Link) -> bool:
        """One look at the way to the end. True once goodbye is sent."""
        if not self._draining:
            self._begin_drain()
            self._send(link, "worker.update", {"draining": True})
        if self._open or self._unacked or self._out:
            return False
        self._send(link, "goodbye", {})
        try:
            link.flush_blocking(self._ack_timeout)
        except OSError as exc:
            _log.warning("goodbye was not sent: %s", exc)
        return True

    def _begin_drain(self) -> None:
        """Steps that no thread has begun stay with the daemon: goodbye gives them to others at no cost."""
        self._draining = True
        assert self._pool is not None
        self._release(self._pool.take_back())
        _log.info("draining: %d steps run, %d results to be acknowledged", len(self._open), len(self._unacked))

    def _release(self, batch: List[StepContext]) -> None:
        for context in batch:
            if self._open.pop(context._key, None) is not None:
                self.counters["released"] += 1

    def _give_up(self) -> bool:
        """Without a connection: true if nothing is left to deliver, or delivering has become hopeless."""
        if not self._drain_wanted:
            return self._abort
        if not self._draining:
            self._begin_drain()
        self._collect()
        if self._open:
            self._drain_limit = None
            return self._abort
        if not self._unacked:
            return True
        now = monotonic()
        if self._drain_limit is None:
            self._drain_limit = now + self._ack_timeout
        if now >= self._drain_limit:
            raise ConnectionLostError(f"{len(self._unacked)} results were never acknowledged")
        return self._abort

    def _pause(self, seconds: float) -> None:
        """Wait before the next attempt to connect; a drain or abort ends the wait."""
        end = monotonic() + seconds
        draining = self._drain_wanted
        while not self._abort and self._drain_wanted == draining:
            left = end - monotonic()
            if left <= 0:
                return
            if self._selector.select(left):
                self._clear_wake()

    def _clear_wake(self) -> None:
        try:
            self._wake_in.recv(4096)
        except (BlockingIOError, InterruptedError):
            pass

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.take_back()
            self._pool.stop()
        lost = ConnectionLostError("the worker has ended")
        for request in [*self._requests.values(), *(c for c in self._control if isinstance(c, _Request))]:
            request.error = lost
            request.done.set()
        for resource in (self._selector, self._wake_in, self._wake_out):
            with contextlib.suppress(OSError):  # a handler may have closed what is not its own
                resource.close()
        if self.at_end is not None:
            self.at_end()
        self.finished.set()

"""TaskerClient: create tasks, follow them, look around. Blocking; for asyncio see ``taskerd.aio``."""

from __future__ import annotations

import collections
import os
import threading
import time
from types import TracebackType
from typing import Any, Deque, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple, Type

from ._calls import (
    BULK_WINDOW,
    DEFAULT_TIMEOUT,
    STEPS_PAGE,
    Bulk,
    Chunk,
    Uuid,
    audit,
    ends_watch,
    first_event,
    health,
    list_params,
    repeatable,
    task_params,
    template_params,
    wait_ms,
    without_none,
)
from ._channel import Channel, Pending
from ._codec import new_packer
from ._event_calls import EventCalls
from ._transport import Backoff, Welcome, socket_path
from .client_models import (
    CreateOutcome,
    HealthResponse,
    PaginationInfo,
    StepAuditResponse,
    StepResponse,
    TaskListResponse,
    TaskResponse,
    WaitResult,
)
from .exceptions import ConnectionLostError, NotFoundError, RequestTimeoutError, ShuttingDownError, TaskerdError

__all__ = [
    "CreateOutcome",
    "HealthResponse",
    "PaginationInfo",
    "StepAuditResponse",
    "StepResponse",
    "TaskListResponse",
    "TaskResponse",
    "TaskWatch",
    "TaskerClient",
    "WaitResult",
]

#: Events kept for a watcher that reads slowly; the oldest go first.
WATCH_BUFFER = 65536


class TaskerClient(EventCalls):
    """A connection to the daemon, made on first use and made again when it breaks.

    Safe for use by several threads, and after a fork: the child gets a connection of its own.

    A request whose connection breaks is repeated if that is harmless (reading, or creating with an
    ``idempotency_key``); otherwise it raises ConnectionLostError, whose ``sent`` tells whether the
    daemon may have done it.

    Args:
        initiator, source_system: Stored with every task created here.
        socket: The daemon's socket; see ``taskerd.socket_path`` for where it is looked for.
        timeout: Seconds a request may take unless it says otherwise, reconnecting included.
        connect_timeout: Seconds to try connecting within one request; default is the request's
            timeout. 0 tries once.
    """

    def __init__(
        self,
        initiator: str = "taskerd-python",
        source_system: str = "taskerd",
        *,
        socket: Optional[str] = None,
        timeout: float = DEFAULT_TIMEOUT,
        connect_timeout: Optional[float] = None,
    ) -> None:
        self.socket = socket_path(socket)
        self.timeout = timeout
        self._connect_timeout = connect_timeout
        self._defaults = {"initiator": initiator, "source_system": source_system}
        self._lock = threading.Lock()
        self._channel: Optional[Channel] = None
        self._closed = False
        self._pid = os.getpid()
        self._watches: Dict[str, List["TaskWatch"]] = {}
        self._watch_lock = threading.Lock()

    # -- connection ------------------------------------------------------------------------------

    def connect(self, timeout: Optional[float] = None) -> Welcome:
        """Connect now rather than with the first request."""
        return self._open(time.monotonic() + (self.timeout if timeout is None else timeout)).welcome

    def close(self) -> None:
        """Close the connection. The client cannot be used afterwards."""
        with self._lock:
            self._closed = True
            channel, self._channel = self._channel, None
        if channel is not None and channel.pid == os.getpid():
            channel.close()

    def __enter__(self) -> "TaskerClient":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def request(
        self, method: str, params: Optional[Mapping[str, Any]] = None, *, timeout: Optional[float] = None
    ) -> Any:
        """Send any request of the protocol and return its result.

        Raises the exception of the daemon's error code, RequestTimeoutError, or ConnectionLostError.
        """
        params = params or {}
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        backoff = Backoff()
        while True:
            channel = self._open(deadline)
            try:
                pending = channel.send(method, params)
                try:
                    return pending.wait(deadline - time.monotonic())
                except RequestTimeoutError:
                    channel.forget(pending)
                    raise RequestTimeoutError(f"no answer to {method} in time") from None
            except ConnectionLostError as exc:
                if exc.sent and not repeatable(method, params):
                    raise
                if time.monotonic() >= deadline:
                    raise
            except ShuttingDownError:
                self._set_aside(channel)
                delay = backoff.next()
                if time.monotonic() + delay >= deadline:
                    raise
                time.sleep(delay)

    def _open(self, deadline: float) -> Channel:
        if os.getpid() != self._pid:
            self._after_fork()
        with self._lock:
            if self._closed:
                raise ConnectionLostError("the client is closed")
            channel = self._channel
            if channel is not None and not channel.closed:
                return channel
            if self._connect_timeout is not None:
                deadline = min(deadline, time.monotonic() + self._connect_timeout)
            self._channel = self._connect(deadline)
            return self._channel

    def _connect(self, deadline: float) -> Channel:
        backoff = Backoff()
        while True:
            try:
                return Channel(self.socket, self._on_notification, self._on_lost)
            except TaskerdError as exc:
                delay = backoff.next(exc.retry_after or 0.0)
                if not exc.retryable or time.monotonic() + delay >= deadline:
                    raise
            time.sleep(delay)

    def _after_fork(self) -> None:
        """The connection, the locks and the watches of the parent are of no use in a child."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._watch_lock = threading.Lock()
        self._watches = {}
        self._channel = None

    def _set_aside(self, channel: Channel) -> None:
        """The daemon is stopping: the next request gets a new connection, those under way their answers."""
        with self._lock:
            if self._channel is channel:
                self._channel = None

    def _on_notification(self, method: str, params: Dict[str, Any]) -> None:
        if method == "task.event":
            with self._watch_lock:
                watches = list(self._watches.get(str(params.get("task_uuid")), ()))
            for watch in watches:
                watch._put(params.get("events") or [])

    def _on_lost(self) -> None:
        with self._watch_lock:
            watches = [w for ws in self._watches.values() for w in ws]
        for watch in watches:
            watch._put_lost()

    # -- creating --------------------------------------------------------------------------------

    def create_task(
        self,
        name: str,
        *,
        namespace: str = "default",
        context: Optional[Mapping[str, Any]] = None,
        version: Optional[str] = None,
        reason: Optional[str] = "Task requested",
        timeout: Optional[float] = None,
        **extra: Any,
    ) -> TaskResponse:
        """Create a task. The answer comes when it is durable.

        ``version`` defaults to the newest. ``extra`` are further params of ``task.create``:
        ``tags``, ``priority``, ``correlation_id``, ``parent_correlation_id``, ``traceparent``,
        ``tracestate``, ``idempotency_key``, ``initiator``, ``source_system``.
        """
        params = task_params(name, namespace, context, version, reason, self._defaults, extra)
        answer = self.request("task.create", params, timeout=timeout)
        return TaskResponse.from_dict({**params, **answer})

    def create_tasks(
        self, tasks: Iterable[Mapping[str, Any]], *, timeout: Optional[float] = None
    ) -> List[CreateOutcome]:
        """Create many tasks; each is a dict of ``create_task``'s arguments. Returns their outcomes in order.

        The list may be long: it is sent in requests that respect the daemon's limits, a few at a
        time. Each task stands alone; nothing is raised for what befalls a single one. ``timeout``
        is for each request.
        """
        limit = self.timeout if timeout is None else timeout
        bulk = Bulk(new_packer(), self._open(time.monotonic() + limit).limits, self._defaults)
        under_way: Deque[Tuple[Chunk, Channel, Pending]] = collections.deque()
        for chunk in bulk.chunks(tasks):
            if len(under_way) >= BULK_WINDOW:
                self._finish_chunk(bulk, *under_way.popleft(), limit)
            try:
                channel = self._open(time.monotonic() + limit)
                under_way.append((chunk, channel, channel.send_bulk(chunk)))
            except TaskerdError:
                self._repeat_chunk(bulk, chunk, limit)
        while under_way:
            self._finish_chunk(bulk, *under_way.popleft(), limit)
        return bulk.finished()

    def _finish_chunk(self, bulk: Bulk, chunk: Chunk, channel: Channel, pending: Pending, limit: float) -> None:
        try:
            bulk.settle(chunk, pending.wait(limit))
        except (ConnectionLostError, ShuttingDownError) as exc:
            if isinstance(exc, ShuttingDownError):
                self._set_aside(channel)
            if isinstance(exc, ConnectionLostError) and exc.sent and not chunk.repeatable:
                bulk.settle_error(chunk, exc)
            else:
                self._repeat_chunk(bulk, chunk, limit)
        except TaskerdError as exc:
            channel.forget(pending)
            bulk.settle_error(chunk, exc)

    def _repeat_chunk(self, bulk: Bulk, chunk: Chunk, limit: float) -> None:
        """Send a chunk (again), alone, until its time is up."""
        deadline = time.monotonic() + limit
        backoff = Backoff()
        while True:
            channel: Optional[Channel] = None
            try:
                channel = self._open(deadline)
                bulk.settle(chunk, channel.send_bulk(chunk).wait(deadline - time.monotonic()))
                return
            except (ConnectionLostError, ShuttingDownError) as exc:
                unsure = isinstance(exc, ConnectionLostError) and exc.sent and not chunk.repeatable
                if unsure or time.monotonic() >= deadline or self._connect_timeout == 0:
                    bulk.settle_error(chunk, exc)
                    return
                if channel is not None and isinstance(exc, ShuttingDownError):
                    self._set_aside(channel)
                time.sleep(min(backoff.next(), max(0.0, deadline - time.monotonic())))
            except TaskerdError as exc:
                bulk.settle_error(chunk, exc)
                return

    # -- reading ---------------------------------------------------------------------------------

    def get_task(self, task_uuid: Uuid, *, steps: bool = True, timeout: Optional[float] = None) -> TaskResponse:
        """A task, with its steps (all of them, however many pages) unless ``steps`` is false."""
        params = {"task_uuid": str(task_uuid), "steps": steps, "limit": STEPS_PAGE}
        whole = dict(self.request("task.get", params, timeout=timeout))
        cursor = whole.pop("next_cursor", None)
        while cursor is not None:
            page = self.request("task.get", {**params, "cursor": cursor}, timeout=timeout)
            whole["steps"] = [*whole["steps"], *page["steps"]]
            cursor = page.get("next_cursor")
        return TaskResponse.from_dict(whole)

    def list_tasks(
        self,
        *,
        limit: int = 50,
        offset: int = 0,
        namespace: Optional[str] = None,
        status: Optional[str] = None,
        name: Optional[str] = None,
        cursor: Optional[str] = None,
    ) -> TaskListResponse:
        """Tasks, newest first. For the next page pass ``pagination.next_cursor`` as ``cursor``; ``offset``
        works too but reads what it skips."""
        skip, whole = offset, cursor is None
        while skip > 0:
            params = list_params(min(skip, 1000), namespace, status, name, cursor)
            page = self.request("task.list", params)
            skip -= len(page.get("tasks") or ())
            cursor = page.get("next_cursor")
            if cursor is None:
                return TaskListResponse.from_dict({}, limit=limit, offset=offset, whole=whole)
        answer = self.request("task.list", list_params(limit, namespace, status, name, cursor))
        return TaskListResponse.from_dict(answer, limit=limit, offset=offset, whole=whole)

    def iter_tasks(
        self, *, namespace: Optional[str] = None, status: Optional[str] = None, name: Optional[str] = None
    ) -> Iterator[TaskResponse]:
        """All tasks, newest first, read page by page."""
        cursor: Optional[str] = None
        while True:
            page = self.list_tasks(limit=1000, namespace=namespace, status=status, name=name, cursor=cursor)
            yield from page.tasks
            cursor = page.pagination.next_cursor
            if cursor is None:
                return

    def list_task_steps(self, task_uuid: Uuid) -> List[StepResponse]:
        """The steps of a task."""
        return self.get_task(task_uuid).steps

    def get_step(self, task_uuid: Uuid, step: Uuid) -> StepResponse:
        """A step of a task, by uuid or name; NotFoundError if the task has none such."""
        for row in self.list_task_steps(task_uuid):
            if str(step) in (row.step_uuid, row.name):
                return row
        raise NotFoundError(f"task {task_uuid} has no step {step}")

    def get_task_history(self, task_uuid: Uuid) -> Dict[str, Any]:
        """``{transitions, attempts, actions}`` of a task, as the daemon keeps them; all of it, however many pages."""
        params = {"task_uuid": str(task_uuid)}
        whole = dict(self.request("task.history", params))
        while cursor := whole.pop("next_cursor", None):
            page = self.request("task.history", {**params, "cursor": cursor})
            for key, rows in page.items():
                whole[key] = [*whole.get(key, []), *rows] if isinstance(rows, list) else rows
        return whole

    def get_step_audit_history(self, task_uuid: Uuid, step: Uuid) -> List[StepAuditResponse]:
        """Every attempt of a step (by uuid or name), oldest first."""
        return audit(str(task_uuid), str(step), self.get_task_history(task_uuid))

    # -- following -------------------------------------------------------------------------------

    def wait(self, task_uuid: Uuid, timeout: Optional[float] = None) -> WaitResult:
        """Wait until nothing moves without an operator (``settled``), or ``timeout`` seconds. Does not poll."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            ms = wait_ms(left)
            params = {"task_uuid": str(task_uuid), "timeout_ms": ms}
            answer = self.request("task.wait", params, timeout=ms / 1000.0 + self.timeout)
            result = WaitResult.from_dict(answer)
            if result.settled or (deadline is not None and time.monotonic() >= deadline):
                return result

    def wait_for_task(
        self, task_uuid: Uuid, timeout: Optional[float] = None, *, steps: bool = True
    ) -> TaskResponse:
        """Wait as ``wait`` does and return the task; RequestTimeoutError if it is not settled.

        With ``steps`` false the answer stays small whatever the steps returned.
        """
        result = self.wait(task_uuid, timeout)
        if not result.settled:
            raise RequestTimeoutError(f"task {task_uuid} is {result.state} after {timeout} s")
        return self.get_task(task_uuid, steps=steps)

    def watch(self, task_uuid: Uuid) -> "TaskWatch":
        """Follow a task: an iterator of events that ends with the task.

        The first event tells the state at the beginning. After a lost connection the watch goes on
        with the state found then.
        """
        return TaskWatch(self, str(task_uuid))

    def _attach(self, watch: "TaskWatch") -> None:
        with self._watch_lock:
            self._watches.setdefault(watch.task_uuid, []).append(watch)

    def _detach(self, watch: "TaskWatch") -> None:
        with self._watch_lock:
            watches = self._watches.get(watch.task_uuid, [])
            if watch in watches:
                watches.remove(watch)
            last = not watches
            if last:
                self._watches.pop(watch.task_uuid, None)
        channel = self._channel
        if last and watch.task is not None and not watch.finished and channel is not None and not channel.closed:
            try:
                channel.forget(channel.send("task.unwatch", {"task_uuid": watch.task_uuid}))
            except TaskerdError:
                pass

    # -- steering --------------------------------------------------------------------------------

    def cancel_task(self, task_uuid: Uuid, reason: Optional[str] = None) -> Dict[str, Any]:
        """Cancel a task; running handlers are told. ConflictError if it is finished."""
        answer = self.request("task.cancel", without_none({"task_uuid": str(task_uuid), "reason": reason}))
        return {**answer, "cancelled": True}

    # -- templates -------------------------------------------------------------------------------

    def apply_template(
        self, source: str, *, filename: Optional[str] = None, strict: bool = False, replace_unused: bool = False
    ) -> Dict[str, Any]:
        """Register a template (YAML or JSON text). InvalidTemplateError lists what is wrong. A version that is there
        with other content is a ConflictError; with ``replace_unused`` it is replaced if no task was made from it."""
        return dict(self.request("template.apply", template_params(source, filename, strict, replace_unused)))

    def validate_template(
        self, source: str, *, filename: Optional[str] = None, strict: bool = False
    ) -> Dict[str, Any]:
        """``{ok, findings}`` for a template, without registering it."""
        return dict(self.request("template.validate", template_params(source, filename, strict)))

    def list_templates(self, namespace: Optional[str] = None) -> List[Dict[str, Any]]:
        """The registered templates."""
        answer = self.request("template.list", without_none({"namespace": namespace}))
        return list(answer.get("templates") or ())

    def get_template(
        self, name: str, *, namespace: str = "default", version: Optional[str] = None
    ) -> Dict[str, Any]:
        """A template with its definition; the newest version unless one is named."""
        params = without_none({"namespace": namespace, "name": name, "version": version})
        return dict(self.request("template.get", params))

    # -- looking around --------------------------------------------------------------------------

    def health_check(self) -> HealthResponse:
        """Whether the daemon has its database; ConnectionLostError if there is no daemon."""
        return health(self.request("server.info"))

    def server_info(self) -> Dict[str, Any]:
        """Version, node, database and counters of the daemon."""
        return dict(self.request("server.info"))

    def list_workers(self) -> List[Dict[str, Any]]:
        """The connected workers."""
        return list(self.request("worker.list").get("workers") or ())

    def list_nodes(self) -> List[Dict[str, Any]]:
        """The daemons on this database."""
        return list(self.request("node.list").get("nodes") or ())

    def list_queues(self) -> List[Dict[str, Any]]:
        """Steps that wait, by namespace and handler."""
        return list(self.request("queue.list").get("queues") or ())

    def doctor(self) -> Dict[str, Any]:
        """The daemon's check of its own data."""
        return dict(self.request("doctor"))

    def ping(self) -> float:
        """Seconds for a round trip."""
        start = time.perf_counter()
        self.request("ping")
        return time.perf_counter() - start


class TaskWatch:
    """An iterator of a task's events. Also a context manager; closing it ends the watch."""

    def __init__(self, client: TaskerClient, task_uuid: str) -> None:
        self.task_uuid = task_uuid
        #: The task as it was when the watch began (or began again after a lost connection).
        self.task: Optional[TaskResponse] = None
        #: True once the task is over.
        self.finished = False
        self._client = client
        self._events: Deque[Dict[str, Any]] = collections.deque(maxlen=WATCH_BUFFER)
        self._ready = threading.Condition()
        self._lost = True
        self._closed = False
        client._attach(self)
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        with self._ready:
            self._lost = False
        found = self._client.request("task.watch", {"task_uuid": self.task_uuid})
        self.task = TaskResponse.from_dict(found)
        with self._ready:
            # Nothing was left unread before, so what has arrived is newer than the answer.
            self._events.appendleft(first_event(found))

    def _put(self, events: List[Dict[str, Any]]) -> None:
        with self._ready:
            self._events.extend(events)
            self._ready.notify()

    def _put_lost(self) -> None:
        with self._ready:
            self._lost = True
            self._ready.notify()

    def __iter__(self) -> Iterator[Dict[str, Any]]:
        return self

    def __next__(self) -> Dict[str, Any]:
        event = self.next()
        assert event is not None
        return event

    def next(self, timeout: Optional[float] = None) -> Optional[Dict[str, Any]]:
        """The next event, None if none comes within ``timeout`` seconds; StopIteration at the end."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if self.finished or self._closed:
                self.close()
                raise StopIteration
            with self._ready:
                if not self._events and not self._lost:
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        return None
                    self._ready.wait(left)
                if self._events:
                    event = self._events.popleft()
                    self.finished = ends_watch(event)
                    return event
                lost = self._lost
            if lost:
                self._begin()

    def close(self) -> None:
        """End the watch."""
        if not self._closed:
            self._closed = True
            self._client._detach(self)

    def __enter__(self) -> "TaskWatch":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

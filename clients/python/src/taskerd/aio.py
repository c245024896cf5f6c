"""AsyncTaskerClient: the client for asyncio. The same calls as TaskerClient, to be awaited."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, AsyncIterator, Dict, Iterable, List, Mapping, Optional, Set, Tuple, Type

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
    request_frame,
    task_params,
    template_params,
    wait_ms,
    without_none,
)
from ._codec import NOTIFICATION, RESPONSE, FrameReader, frame, new_packer
from ._event_calls import AsyncEventCalls
from ._transport import CONNECT_TIMEOUT, HELLO_TIMEOUT, Backoff, Welcome, hello_frame, socket_path, welcome_of, why_not
from .client_models import (
    CreateOutcome,
    HealthResponse,
    StepAuditResponse,
    StepResponse,
    TaskListResponse,
    TaskResponse,
    WaitResult,
)
from .exceptions import (
    ConnectionLostError,
    NotFoundError,
    ProtocolError,
    RequestTimeoutError,
    ShuttingDownError,
    TaskerdError,
)

__all__ = ["AsyncTaskWatch", "AsyncTaskerClient"]

_CHUNK = 1 << 16
WATCH_BUFFER = 65536


class _AsyncChannel:
    """One connection; never reconnects."""

    def __init__(self, client: "AsyncTaskerClient") -> None:
        self.closed = False
        self.welcome: Welcome
        self._client = client
        self._pack = new_packer()
        self._pending: Dict[int, "asyncio.Future[Any]"] = {}
        self._next_id = 1
        self._reason: Optional[TaskerdError] = None

    async def open(self, path: str) -> None:
        try:
            self._stream, self._writer = await asyncio.wait_for(
                asyncio.open_unix_connection(path), CONNECT_TIMEOUT
            )
            self._writer.write(hello_frame())
            self._frames = FrameReader(1 << 26)
            rest = await asyncio.wait_for(self._handshake(), HELLO_TIMEOUT)
        except (OSError, asyncio.TimeoutError) as exc:
            self._abandon()
            raise ConnectionLostError(f"cannot reach taskerd at {path}: {why_not(path, exc)}") from exc
        except BaseException:
            self._abandon()
            raise
        self._frames.max_payload = self.welcome.limits["max_frame"]
        self._task = asyncio.ensure_future(self._read(rest))

    def _abandon(self) -> None:
        self.closed = True
        if hasattr(self, "_writer"):
            self._writer.close()

    async def _handshake(self) -> List[List[Any]]:
        while True:
            data = await self._stream.read(_CHUNK)
            if not data:
                raise ConnectionLostError("taskerd closed the connection during the handshake")
            self._frames.feed(data)
            envelopes = self._frames.take()
            for i, envelope in enumerate(envelopes):
                welcome = welcome_of(envelope)
                if welcome is not None:
                    self.welcome = welcome
                    return envelopes[i + 1 :]

    async def call(self, method: str, params: Mapping[str, Any], timeout: float) -> Any:
        ident, future = self._new()
        try:
            await self._write(request_frame(self._pack, ident, method, params, self.welcome.limits))
            return await asyncio.wait_for(future, max(0.0, timeout))
        except asyncio.TimeoutError:
            raise RequestTimeoutError(f"no answer to {method} in time") from None
        finally:
            self._pending.pop(ident, None)

    async def call_bulk(self, chunk: Chunk, timeout: float) -> Any:
        ident, future = self._new()
        try:
            await self._write(frame(chunk.payload(self._pack, ident)))
            return await asyncio.wait_for(future, max(0.0, timeout))
        except asyncio.TimeoutError:
            raise RequestTimeoutError("no answer to task.create_many in time") from None
        finally:
            self._pending.pop(ident, None)

    def _new(self) -> Tuple[int, "asyncio.Future[Any]"]:
        if self.closed:
            raise ConnectionLostError("the connection to taskerd is closed")
        while self._next_id in self._pending:
            self._next_id = self._next_id % 0xFFFFFFFF + 1
        ident = self._next_id
        self._next_id = ident % 0xFFFFFFFF + 1
        future: "asyncio.Future[Any]" = asyncio.get_running_loop().create_future()
        self._pending[ident] = future
        return ident, future

    async def _write(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as exc:
            self.closed = True
            # The transport may have sent the whole frame before it noticed.
            raise ConnectionLostError(f"the connection to taskerd broke: {exc}", sent=True) from exc

    async def _read(self, envelopes: List[List[Any]]) -> None:
        try:
            while True:
                for envelope in envelopes:
                    self._handle(envelope)
                data = await self._stream.read(_CHUNK)
                if not data:
                    break
                self._frames.feed(data)
                envelopes = self._frames.take()
        except OSError:
            pass
        except TaskerdError as exc:
            self._reason = exc
        finally:
            self._end()

    def _handle(self, envelope: List[Any]) -> None:
        if envelope[0] == RESPONSE:
            future = self._pending.get(envelope[1])
            if future is not None and not future.done():
                if envelope[2] is not None:
                    future.set_exception(TaskerdError.from_wire(envelope[2]))
                else:
                    future.set_result(envelope[3])
        elif envelope[1] == "error":
            self._reason = TaskerdError.from_wire(envelope[2])
        else:
            self._client._on_notification(envelope[1], envelope[2])

    def _end(self) -> None:
        self.closed = True
        self._writer.close()
        why = f": {self._reason}" if self._reason is not None else ""
        for future in self._pending.values():
            if future.done():
                continue
            if isinstance(self._reason, ProtocolError):
                future.set_exception(self._reason)
            else:
                message = "the connection to taskerd broke before the answer" + why
                future.set_exception(ConnectionLostError(message, sent=True))
        self._client._on_lost()

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            try:
                self._writer.write(frame(self._pack([NOTIFICATION, "goodbye", {}])))
                await self._writer.drain()
            except OSError:
                pass
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class AsyncTaskerClient(AsyncEventCalls):
    """A connection to the daemon for one event loop, made on first use and made again when it breaks.

    Arguments and behaviour are those of TaskerClient. Use it as ``async with AsyncTaskerClient() as client``.
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
        self._lock: Optional[asyncio.Lock] = None
        self._channel: Optional[_AsyncChannel] = None
        self._set_aside: Set[_AsyncChannel] = set()
        self._closed = False
        self._watches: Dict[str, List["AsyncTaskWatch"]] = {}

    # -- connection ------------------------------------------------------------------------------

    async def connect(self, timeout: Optional[float] = None) -> Welcome:
        """Connect now rather than with the first request."""
        channel = await self._open(time.monotonic() + (self.timeout if timeout is None else timeout))
        return channel.welcome

    async def close(self) -> None:
        """Close the connection. The client cannot be used afterwards."""
        self._closed = True
        channel, self._channel = self._channel, None
        for open_channel in [channel, *self._set_aside]:
            if open_channel is not None:
                await open_channel.close()
        self._set_aside.clear()

    async def __aenter__(self) -> "AsyncTaskerClient":
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        await self.close()

    async def request(
        self, method: str, params: Optional[Mapping[str, Any]] = None, *, timeout: Optional[float] = None
    ) -> Any:
        """Send any request of the protocol and return its result."""
        params = params or {}
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        backoff = Backoff()
        while True:
            channel = await self._open(deadline)
            try:
                return await channel.call(method, params, deadline - time.monotonic())
            except ConnectionLostError as exc:
                if (exc.sent and not repeatable(method, params)) or time.monotonic() >= deadline:
                    raise
            except ShuttingDownError:
                self._leave(channel)
                delay = backoff.next()
                if time.monotonic() + delay >= deadline:
                    raise
                await asyncio.sleep(delay)

    async def _open(self, deadline: float) -> _AsyncChannel:
        if self._lock is None:  # made here, so that it belongs to the running loop
            self._lock = asyncio.Lock()
        async with self._lock:
            if self._closed:
                raise ConnectionLostError("the client is closed")
            if self._channel is None or self._channel.closed:
                if self._connect_timeout is not None:
                    deadline = min(deadline, time.monotonic() + self._connect_timeout)
                self._channel = await self._connect(deadline)
            return self._channel

    async def _connect(self, deadline: float) -> _AsyncChannel:
        backoff = Backoff()
        while True:
            channel = _AsyncChannel(self)
            try:
                await channel.open(self.socket)
                return channel
            except TaskerdError as exc:
                delay = backoff.next(exc.retry_after or 0.0)
                if not exc.retryable or time.monotonic() + delay >= deadline:
                    raise
            await asyncio.sleep(delay)

    def _leave(self, channel: _AsyncChannel) -> None:
        """The daemon is stopping: requests under way get their answers, the next goes elsewhere."""
        if self._channel is channel:
            self._channel = None
            self._set_aside = {c for c in self._set_aside if not c.closed} | {channel}

    def _on_notification(self, method: str, params: Dict[str, Any]) -> None:
        if method == "task.event":
            for watch in self._watches.get(str(params.get("task_uuid")), ()):
                watch._put(params.get("events") or [])

    def _on_lost(self) -> None:
        for watches in self._watches.values():
            for watch in watches:
                watch._put_lost()

    # -- creating --------------------------------------------------------------------------------

    async def create_task(
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
        """Create a task. The answer comes when it is durable."""
        params = task_params(name, namespace, context, version, reason, self._defaults, extra)
        answer = await self.request("task.create", params, timeout=timeout)
        return TaskResponse.from_dict({**params, **answer})

    async def create_tasks(
        self, tasks: Iterable[Mapping[str, Any]], *, timeout: Optional[float] = None
    ) -> List[CreateOutcome]:
        """Create many tasks; returns their outcomes in order. See ``TaskerClient.create_tasks``."""
        limit = self.timeout if timeout is None else timeout
        channel = await self._open(time.monotonic() + limit)
        bulk = Bulk(new_packer(), channel.welcome.limits, self._defaults)
        under_way: Set["asyncio.Future[None]"] = set()
        try:
            for chunk in bulk.chunks(tasks):
                if len(under_way) >= BULK_WINDOW:
                    done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                    for future in done:
                        future.result()
                under_way.add(asyncio.ensure_future(self._send_chunk(bulk, chunk, limit)))
            await asyncio.gather(*under_way)
        finally:
            for future in under_way:
                future.cancel()
        return bulk.finished()

    async def _send_chunk(self, bulk: Bulk, chunk: Chunk, limit: float) -> None:
        deadline = time.monotonic() + limit
        backoff = Backoff()
        while True:
            channel: Optional[_AsyncChannel] = None
            try:
                channel = await self._open(deadline)
                bulk.settle(chunk, await channel.call_bulk(chunk, deadline - time.monotonic()))
                return
            except (ConnectionLostError, ShuttingDownError) as exc:
                unsure = isinstance(exc, ConnectionLostError) and exc.sent and not chunk.repeatable
                if unsure or time.monotonic() >= deadline or self._connect_timeout == 0:
                    bulk.settle_error(chunk, exc)
                    return
                if channel is not None and isinstance(exc, ShuttingDownError):
                    self._leave(channel)
                await asyncio.sleep(min(backoff.next(), max(0.0, deadline - time.monotonic())))
            except TaskerdError as exc:
                bulk.settle_error(chunk, exc)
                return

    # -- reading ---------------------------------------------------------------------------------

    async def get_task(self, task_uuid: Uuid, *, steps: bool = True, timeout: Optional[float] = None) -> TaskResponse:
        """A task, with its steps (all of them, however many pages) unless ``steps`` is false."""
        params = {"task_uuid": str(task_uuid), "steps": steps, "limit": STEPS_PAGE}
        whole = dict(await self.request("task.get", params, timeout=timeout))
        cursor = whole.pop("next_cursor", None)
        while cursor is not None:
            page = await self.request("task.get", {**params, "cursor": cursor}, timeout=timeout)
            whole["steps"] = [*whole["steps"], *page["steps"]]
            cursor = page.get("next_cursor")
        return TaskResponse.from_dict(whole)

    async def list_tasks(
        self,
        *,
        limit: int = 50,
        offset: int = 0,
        namespace: Optional[str] = None,
        status: Optional[str] = None,
        name: Optional[str] = None,
        cursor: Optional[str] = None,
    ) -> TaskListResponse:
        """Tasks, newest first. For the next page pass ``pagination.next_cursor`` as ``cursor``."""
        skip, whole = offset, cursor is None
        while skip > 0:
            params = list_params(min(skip, 1000), namespace, status, name, cursor)
            page = await self.request("task.list", params)
            skip -= len(page.get("tasks") or ())
            cursor = page.get("next_cursor")
            if cursor is None:
                return TaskListResponse.from_dict({}, limit=limit, offset=offset, whole=whole)
        answer = await self.request("task.list", list_params(limit, namespace, status, name, cursor))
        return TaskListResponse.from_dict(answer, limit=limit, offset=offset, whole=whole)

    async def iter_tasks(
        self, *, namespace: Optional[str] = None, status: Optional[str] = None, name: Optional[str] = None
    ) -> AsyncIterator[TaskResponse]:
        """All tasks, newest first, read page by page."""
        cursor: Optional[str] = None
        while True:
            page = await self.list_tasks(
                limit=1000, namespace=namespace, status=status, name=name, cursor=cursor
            )
            for task in page.tasks:
                yield task
            cursor = page.pagination.next_cursor
            if cursor is None:
                return

    async def list_task_steps(self, task_uuid: Uuid) -> List[StepResponse]:
        """The steps of a task."""
        return (await self.get_task(task_uuid)).steps

    async def get_step(self, task_uuid: Uuid, step: Uuid) -> StepResponse:
        """A step of a task, by uuid or name; NotFoundError if the task has none such."""
        for row in await self.list_task_steps(task_uuid):
            if str(step) in (row.step_uuid, row.name):
                return row
        raise NotFoundError(f"task {task_uuid} has no step {step}")

    async def get_task_history(self, task_uuid: Uuid) -> Dict[str, Any]:
        """``{transitions, attempts, actions}`` of a task, as the daemon keeps them; all of it, however many pages."""
        params = {"task_uuid": str(task_uuid)}
        whole = dict(await self.request("task.history", params))
        while cursor := whole.pop("next_cursor", None):
            page = await self.request("task.history", {**params, "cursor": cursor})
            for key, rows in page.items():
                whole[key] = [*whole.get(key, []), *rows] if isinstance(rows, list) else rows
        return whole

    async def get_step_audit_history(self, task_uuid: Uuid, step: Uuid) -> List[StepAuditResponse]:
        """Every attempt of a step (by uuid or name), oldest first."""
        return audit(str(task_uuid), str(step), await self.get_task_history(task_uuid))

    # -- following -------------------------------------------------------------------------------

    async def wait(self, task_uuid: Uuid, timeout: Optional[float] = None) -> WaitResult:
        """Wait until nothing moves without an operator (``settled``), or ``timeout`` seconds. Does not poll."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            ms = wait_ms(left)
            params = {"task_uuid": str(task_uuid), "timeout_ms": ms}
            answer = await self.request("task.wait", params, timeout=ms / 1000.0 + self.timeout)
            result = WaitResult.from_dict(answer)
            if result.settled or (deadline is not None and time.monotonic() >= deadline):
                return result

    async def wait_for_task(
        self, task_uuid: Uuid, timeout: Optional[float] = None, *, steps: bool = True
    ) -> TaskResponse:
        """Wait as ``wait`` does and return the task; RequestTimeoutError if it is not settled.

        With ``steps`` false the answer stays small whatever the steps returned.
        """
        result = await self.wait(task_uuid, timeout)
        if not result.settled:
            raise RequestTimeoutError(f"task {task_uuid} is {result.state} after {timeout} s")
        return await self.get_task(task_uuid, steps=steps)

    def watch(self, task_uuid: Uuid) -> "AsyncTaskWatch":
        """Follow a task: ``async for event in client.watch(uuid)``; ends with the task."""
        return AsyncTaskWatch(self, str(task_uuid))

    # -- steering --------------------------------------------------------------------------------

    async def cancel_task(self, task_uuid: Uuid, reason: Optional[str] = None) -> Dict[str, Any]:
        """Cancel a task; running handlers are told. ConflictError if it is finished."""
        params = without_none({"task_uuid": str(task_uuid), "reason": reason})
        return {**await self.request("task.cancel", params), "cancelled": True}

    # -- templates -------------------------------------------------------------------------------

    async def apply_template(
        self, source: str, *, filename: Optional[str] = None, strict: bool = False, replace_unused: bool = False
    ) -> Dict[str, Any]:
        """Register a template (YAML or JSON text). InvalidTemplateError lists what is wrong. A version that is there
        with other content is a ConflictError; with ``replace_unused`` it is replaced if no task was made from it."""
        return dict(await self.request("template.apply", template_params(source, filename, strict, replace_unused)))

    async def validate_template(
        self, source: str, *, filename: Optional[str] = None, strict: bool = False
    ) -> Dict[str, Any]:
        """``{ok, findings}`` for a template, without registering it."""
        return dict(await self.request("template.validate", template_params(source, filename, strict)))

    async def list_templates(self, namespace: Optional[str] = None) -> List[Dict[str, Any]]:
        """The registered templates."""
        answer = await self.request("template.list", without_none({"namespace": namespace}))
        return list(answer.get("templates") or ())

    async def get_template(
        self, name: str, *, namespace: str = "default", version: Optional[str] = None
    ) -> Dict[str, Any]:
        """A template with its definition; the newest version unless one is named."""
        params = without_none({"namespace": namespace, "name": name, "version": version})
        return dict(await self.request("template.get", params))

    # -- looking around --------------------------------------------------------------------------

    async def health_check(self) -> HealthResponse:
        """Whether the daemon has its database; ConnectionLostError if there is no daemon."""
        return health(await self.request("server.info"))

    async def server_info(self) -> Dict[str, Any]:
        """Version, node, database and counters of the daemon."""
        return dict(await self.request("server.info"))

    async def list_workers(self) -> List[Dict[str, Any]]:
        """The connected workers."""
        return list((await self.request("worker.list")).get("workers") or ())

    async def list_nodes(self) -> List[Dict[str, Any]]:
        """The daemons on this database."""
        return list((await self.request("node.list")).get("nodes") or ())

    async def list_queues(self) -> List[Dict[str, Any]]:
        """Steps that wait, by namespace and handler."""
        return list((await self.request("queue.list")).get("queues") or ())

    async def doctor(self) -> Dict[str, Any]:
        """The daemon's check of its own data."""
        return dict(await self.request("doctor"))

    async def ping(self) -> float:
        """Seconds for a round trip."""
        start = time.perf_counter()
        await self.request("ping")
        return time.perf_counter() - start


class AsyncTaskWatch:
    """An asynchronous iterator of a task's events; also an asynchronous context manager."""

    def __init__(self, client: AsyncTaskerClient, task_uuid: str) -> None:
        self.task_uuid = task_uuid
        #: The task as it was when the watch began; None before the first event was asked for.
        self.task: Optional[TaskResponse] = None
        #: True once the task is over.
        self.finished = False
        self._client = client
        self._events: List[Dict[str, Any]] = []
        self._ready: Optional[asyncio.Event] = None
        self._lost = True
        self._closed = False

    async def _begin(self) -> None:
        if self._ready is None:
            self._ready = asyncio.Event()
            self._client._watches.setdefault(self.task_uuid, []).append(self)
        self._lost = False
        try:
            found = await self._client.request("task.watch", {"task_uuid": self.task_uuid})
        except BaseException:
            await self.close()
            raise
        self.task = TaskResponse.from_dict(found)
        # Nothing was left unread before, so what has arrived is newer than the answer.
        self._events.insert(0, first_event(found))

    def _put(self, events: List[Dict[str, Any]]) -> None:
        self._events.extend(events)
        del self._events[:-WATCH_BUFFER]
        if self._ready is not None:
            self._ready.set()

    def _put_lost(self) -> None:
        self._lost = True
        if self._ready is not None:
            self._ready.set()

    def __aiter__(self) -> "AsyncTaskWatch":
        return self

    async def __anext__(self) -> Dict[str, Any]:
        while not (self.finished or self._closed):
            if self._events:
                event = self._events.pop(0)
                self.finished = ends_watch(event)
                return event
            if self._lost:
                await self._begin()
                continue
            assert self._ready is not None
            self._ready.clear()
            await self._ready.wait()
        await self.close()
        raise StopAsyncIteration

    async def close(self) -> None:
        """End the watch."""
        if self._closed:
            return
        self._closed = True
        watches = self._client._watches.get(self.task_uuid, [])
        if self in watches:
            watches.remove(self)
        if watches:
            return
        self._client._watches.pop(self.task_uuid, None)
        channel = self._client._channel
        if self.task is not None and not self.finished and channel is not None and not channel.closed:
            try:
                await channel.call("task.unwatch", {"task_uuid": self.task_uuid}, self._client.timeout)
            except TaskerdError:
                pass

    async def __aenter__(self) -> "AsyncTaskWatch":
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        await self.close()

"""One connection of the blocking client: a lock for sending, a thread that reads."""

from __future__ import annotations

import os
import socket
import struct
import threading
from typing import Any, Callable, Dict, List, Mapping, Optional

from ._calls import Chunk, request_frame
from ._codec import NOTIFICATION, RESPONSE, frame, new_packer
from ._transport import open_session
from .exceptions import ConnectionLostError, ProtocolError, RequestTimeoutError, TaskerdError

#: Seconds.
SEND_TIMEOUT = 30

Notify = Callable[[str, Dict[str, Any]], None]


class Pending:
    """A request under way."""

    __slots__ = ("_done", "error", "ident", "result")

    def __init__(self, ident: int) -> None:
        self.ident = ident
        self.error: Optional[TaskerdError] = None
        self.result: Any = None
        self._done = threading.Lock()
        self._done.acquire()

    def settle(self, error: Optional[TaskerdError], result: Any) -> None:
        self.error, self.result = error, result
        self._done.release()

    def wait(self, timeout: float) -> Any:
        if not self._done.acquire(timeout=max(0.0, timeout)):
            raise RequestTimeoutError(f"no answer within {timeout:.1f} s")
        if self.error is not None:
            raise self.error
        return self.result


class Channel:
    """Connected from its creation until ``closed``; never reconnects."""

    def __init__(self, path: str, notify: Notify, lost: Callable[[], None]) -> None:
        self._sock, self._reader, self.welcome, rest = open_session(path)
        # A daemon that does not read must not hold a sender for ever; receiving has no limit.
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", SEND_TIMEOUT, 0))
        self.pid = os.getpid()
        self.closed = False
        self._notify = notify
        self._lost = lost
        self._lock = threading.Lock()
        self._pack = new_packer()
        self._pending: Dict[int, Pending] = {}
        self._next_id = 1
        self._reason: Optional[TaskerdError] = None
        self._thread = threading.Thread(target=self._main, args=(rest,), name="taskerd-client", daemon=True)
        self._thread.start()

    @property
    def limits(self) -> Mapping[str, int]:
        """The daemon's limits."""
        return self.welcome.limits

    def send(self, method: str, params: Mapping[str, Any]) -> Pending:
        """Send a request. ConnectionLostError with ``sent`` false if nothing left this process."""
        with self._lock:
            pending = self._new()
            try:
                data = request_frame(self._pack, pending.ident, method, params, self.limits)
            except BaseException:
                del self._pending[pending.ident]
                raise
            self._write(pending, data)
        return pending

    def send_bulk(self, chunk: Chunk) -> Pending:
        """Send a ``task.create_many``."""
        with self._lock:
            pending = self._new()
            self._write(pending, frame(chunk.payload(self._pack, pending.ident)))
        return pending

    def forget(self, pending: Pending) -> None:
        """Nobody waits for the answer any more."""
        self._pending.pop(pending.ident, None)

    def close(self) -> None:
        """Say goodbye and close."""
        with self._lock:
            if not self.closed:
                self.closed = True
                try:
                    self._sock.settimeout(1.0)
                    self._sock.sendall(frame(self._pack([NOTIFICATION, "goodbye", {}])))
                    self._sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        if self._thread is not threading.current_thread():
            self._thread.join(5.0)

    def _new(self) -> Pending:
        if self.closed:
            raise ConnectionLostError("the connection to taskerd is closed")
        while self._next_id in self._pending:
            self._next_id = self._next_id % 0xFFFFFFFF + 1
        pending = self._pending[self._next_id] = Pending(self._next_id)
        self._next_id = self._next_id % 0xFFFFFFFF + 1
        return pending

    def _write(self, pending: Pending, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except OSError as exc:
            self._pending.pop(pending.ident, None)
            self.closed = True
            try:
                self._sock.shutdown(socket.SHUT_RDWR)  # ends the reading thread
            except OSError:
                pass
            # An incomplete frame is never acted on, so nothing counts as sent.
            raise ConnectionLostError(f"the connection to taskerd broke: {exc}") from exc

    def _main(self, rest: List[List[Any]]) -> None:
        try:
            self._handle(rest)
            while True:
                if self._reader.fill(self._sock) == 0:
                    break
                self._handle(self._reader.take())
        except OSError:
            pass
        except TaskerdError as exc:
            self._reason = exc
        finally:
            self._end()

    def _handle(self, envelopes: List[List[Any]]) -> None:
        for envelope in envelopes:
            if envelope[0] == RESPONSE:
                pending = self._pending.pop(envelope[1], None)
                if pending is not None:
                    error = TaskerdError.from_wire(envelope[2]) if envelope[2] is not None else None
                    pending.settle(error, envelope[3])
            elif envelope[1] == "error":
                self._reason = TaskerdError.from_wire(envelope[2])
            else:
                self._notify(envelope[1], envelope[2])

    def _end(self) -> None:
        with self._lock:
            self.closed = True
            self._sock.close()
            waiting, self._pending = list(self._pending.values()), {}
        why = f": {self._reason}" if self._reason is not None else ""
        for pending in waiting:
            if isinstance(self._reason, ProtocolError):
                pending.settle(self._reason, None)
            else:
                message = "the connection to taskerd broke before the answer" + why
                pending.settle(ConnectionLostError(message, sent=True), None)
        self._lost()

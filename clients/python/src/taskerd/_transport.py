"""Finding the daemon, connecting, and the handshake."""

from __future__ import annotations

import os
import socket
import weakref
from dataclasses import dataclass
from time import monotonic  # our own: tests replace that of the module
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from ._codec import (
    DEFAULT_LIMITS,
    HELLO_MAX_FRAME,
    HELLO_MAX_ITEMS,
    REQUEST,
    RESPONSE,
    FrameReader,
    count_items,
    frame,
    new_packer,
)
from ._version import CLIENT_NAME, PROTOCOL_VERSION
from .exceptions import ConnectionLostError, ProtocolError, TaskerdError, TooLargeError, UnsupportedVersionError

SYSTEM_SOCKET = "/run/taskerd/taskerd.sock"
CONNECT_TIMEOUT = 5.0
HELLO_TIMEOUT = 10.0


def socket_path(explicit: Optional[str] = None) -> str:
    """Where the daemon listens: the argument, $TASKERD_SOCKET, the user's runtime directory, the system's."""
    if explicit:
        return os.fspath(explicit)
    named = os.environ.get("TASKERD_SOCKET")
    if named:
        return named
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        own = os.path.join(runtime, "taskerd", "taskerd.sock")
        if os.path.exists(own):
            return own
    return SYSTEM_SOCKET


class Backoff:
    """Waits between attempts to connect: full jitter below a bound that doubles from 0.1 s to ``cap``. A restarted daemon keeps steps for its workers for
    ten seconds, which they must not sleep away."""

    def __init__(self, base: float = 0.1, cap: float = 2.0) -> None:
        self._base = base
        self._cap = cap
        self._bound = base

    def next(self, at_least: float = 0.0) -> float:
        """Seconds to wait now."""
        import random  # few ever wait

        delay = random.uniform(0.0, self._bound)
        self._bound = min(self._cap, self._bound * 2)
        return max(delay, at_least)

    def reset(self) -> None:
        """Start again from the base, after a connection that was good."""
        self._bound = self._base


@dataclass(frozen=True)
class Welcome:
    """The daemon's answer to ``hello``."""

    session: str
    resumed: bool
    server: str
    node: str
    worker_uuid: str
    heartbeat_ms: int
    limits: Mapping[str, int]
    features: Tuple[str, ...]

    @staticmethod
    def from_wire(result: Mapping[str, Any]) -> "Welcome":
        """Read the answer; UnsupportedVersionError if it is in another major version."""
        version = result.get("protocol")
        if not isinstance(version, (list, tuple)) or not version or version[0] != PROTOCOL_VERSION[0]:
            raise UnsupportedVersionError(
                f"the daemon speaks protocol {version!r}, this library {list(PROTOCOL_VERSION)}",
                details={"client": list(PROTOCOL_VERSION), "server": version},
            )
        given = result.get("limits") or {}
        limits = {k: int(given.get(k) or d) for k, d in DEFAULT_LIMITS.items()}
        return Welcome(
            session=str(result.get("session") or ""),
            resumed=bool(result.get("resumed")),
            server=str(result.get("server") or ""),
            node=str(result.get("node") or ""),
            worker_uuid=str(result.get("worker_uuid") or ""),
            heartbeat_ms=int(result.get("heartbeat_ms") or 10000),
            limits=limits,
            features=tuple(result.get("features") or ()),
        )


def hello_frame(
    worker: Optional[Mapping[str, Any]] = None, resume: Optional[Mapping[str, Any]] = None
) -> bytes:
    """The ``hello`` request (always id 0); TooLargeError if it breaks the limits before the handshake."""
    params: Dict[str, Any] = {
        "protocol": list(PROTOCOL_VERSION),
        "client": CLIENT_NAME,
        "language": "python",
        "pid": os.getpid(),
    }
    if worker is not None:
        params["worker"] = dict(worker)
    if resume is not None:
        params["resume"] = dict(resume)
    message = [REQUEST, 0, "hello", params]
    payload = new_packer()(message)
    if len(payload) > HELLO_MAX_FRAME or count_items(message) > HELLO_MAX_ITEMS:
        raise TooLargeError(
            f"the handshake takes {len(payload)} bytes and {count_items(message)} values, {HELLO_MAX_FRAME} and "
            f"{HELLO_MAX_ITEMS} are allowed: offer fewer handlers in one process"
        )
    return frame(payload)


def welcome_of(envelope: List[Any]) -> Optional[Welcome]:
    """The welcome in an envelope, None for a message that is not the answer; raises what was refused."""
    if envelope[0] != RESPONSE:
        if envelope[1] == "error":
            raise TaskerdError.from_wire(envelope[2])
        return None
    if envelope[1] != 0:
        raise ProtocolError("answer to a request that was not sent")
    if envelope[2] is not None:
        raise TaskerdError.from_wire(envelope[2])
    if not isinstance(envelope[3], dict):
        raise ProtocolError("the answer to hello is not a map")
    return Welcome.from_wire(envelope[3])


def open_session(
    path: str,
    worker: Optional[Mapping[str, Any]] = None,
    resume: Optional[Mapping[str, Any]] = None,
) -> Tuple[socket.socket, FrameReader, Welcome, List[List[Any]]]:
    """Connect and shake hands, blocking.

    Returns the socket (blocking), the reader with the daemon's limit set, the welcome, and the
    envelopes that came right behind it. Raises ConnectionLostError if the daemon cannot be
    reached or hangs up, and the daemon's own error if it refuses.
    """
    hello = hello_frame(worker, resume)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(CONNECT_TIMEOUT)
        sock.connect(path)
        _keep_out_of_children(sock)
        sock.sendall(hello)
        reader = FrameReader(1 << 26)
        welcome, rest = _await_welcome(sock, reader)
        reader.max_payload = welcome.limits["max_frame"]
        sock.settimeout(None)
    except OSError as exc:
        sock.close()
        raise ConnectionLostError(f"cannot reach taskerd at {path}: {why_not(path, exc)}") from exc
    except BaseException:
        sock.close()
        raise
    return sock, reader, welcome, rest


def why_not(path: str, error: BaseException) -> str:
    """What to tell people about a failed connect; where the socket may not be used, who may."""
    if isinstance(error, FileNotFoundError):
        return "no socket is there: taskerd is not running, or listens elsewhere"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens any more: taskerd has stopped"
    if not isinstance(error, PermissionError):
        return str(error)
    import grp
    import pwd

    while True:
        try:
            found = os.stat(path)
            break
        except PermissionError:  # a directory above it is closed
            path = os.path.dirname(path)
        except OSError:
            return str(error)

    def name(find: Callable[[int], Any], number: int) -> str:
        try:
            return str(find(number)[0])
        except KeyError:
            return str(number)

    return (
        f"permission denied: {path} is for user {name(pwd.getpwuid, found.st_uid)} and group "
        f"{name(grp.getgrgid, found.st_gid)}, this process is user {name(pwd.getpwuid, os.geteuid())}"
    )


class Complaints:
    """Says at once that something is wrong, and while it stays so once a minute."""

    def __init__(self, every: float = 60.0) -> None:
        self._every = every
        self._last: Optional[float] = None

    def due(self) -> bool:
        """True if it is time to say it (again)."""
        now = monotonic()
        if self._last is not None and now - self._last < self._every:
            return False
        self._last = now
        return True

    def over(self) -> None:
        """It is no longer wrong."""
        self._last = None


def _await_welcome(sock: socket.socket, reader: FrameReader) -> Tuple[Welcome, List[List[Any]]]:
    deadline = monotonic() + HELLO_TIMEOUT
    while True:
        left = deadline - monotonic()
        if left <= 0:
            raise ConnectionLostError("taskerd did not answer the handshake")
        sock.settimeout(left)
        if reader.fill(sock) == 0:
            raise ConnectionLostError("taskerd closed the connection during the handshake")
        envelopes = reader.take()
        for i, envelope in enumerate(envelopes):
            welcome = welcome_of(envelope)
            if welcome is not None:
                return welcome, envelopes[i + 1 :]


# A child made by fork() holds a copy of the descriptor; with it open the kernel would not tell the
# daemon that this process died.
_open_sockets: "weakref.WeakSet[socket.socket]" = weakref.WeakSet()


def _keep_out_of_children(sock: socket.socket) -> None:
    _open_sockets.add(sock)


def _close_in_child() -> None:
    for sock in list(_open_sockets):
        try:
            os.close(sock.detach())
        except OSError:
            pass


os.register_at_fork(after_in_child=_close_in_child)

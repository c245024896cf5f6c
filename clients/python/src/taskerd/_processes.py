"""``--processes N``: several worker processes of one command line, and a parent that looks after them.

Each child is a worker with a session of its own, so that a child that crashes costs only the attempts it
had. The parent starts it again, slower each time it dies young. Each child holds one end of a socket
pair, and drains when the other end closes: because the parent says so, or because it has died.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from types import FrameType
from typing import Callable, Dict, List, Optional, Sequence

from ._environment import LIFELINE
from ._transport import Backoff

__all__ = ["LIFELINE", "Lifeline", "Supervisor"]

_log = logging.getLogger("taskerd.worker")

#: A child that lived this long is started again at once.
GOOD_SECONDS = 30.0


class Lifeline:
    """The child's side."""

    def __init__(self, descriptor: int) -> None:
        self._sock = socket.socket(fileno=descriptor)
        self._sock.set_inheritable(False)

    @classmethod
    def from_environment(cls) -> Optional["Lifeline"]:
        """The lifeline of this process, None if it was started by hand."""
        named = os.environ.pop(LIFELINE, None)
        return cls(int(named)) if named else None

    def ready(self) -> None:
        """Tell the parent that this process could start."""
        try:
            self._sock.send(b"r")
        except OSError:
            pass

    def watch(self, gone: Callable[[], None]) -> None:
        """Call a function when the parent has ended, or wants this process to end."""
        threading.Thread(target=self._wait, args=(gone,), name="taskerd-lifeline", daemon=True).start()

    def _wait(self, gone: Callable[[], None]) -> None:
        try:
            while self._sock.recv(64):
                pass
        except OSError:
            pass
        gone()


class _Child:
    """A place for a worker process, and the process that is in it."""

    def __init__(self, number: int, command: Sequence[str]) -> None:
        self.number = number
        self.command = list(command)
        self.process: Optional["subprocess.Popen[bytes]"] = None
        self.born = 0.0
        self.due = 0.0
        self.backoff = Backoff(cap=10.0)
        self._started = False
        self._sock: Optional[socket.socket] = None

    def start(self) -> None:
        self._started = False
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        env = {**os.environ, LIFELINE: str(theirs.fileno())}
        try:
            self.process = subprocess.Popen(
                self.command,
                env=env,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # what a terminal sends reaches it by the parent, once
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._sock = ours
        self.born = time.monotonic()

    def has_started(self) -> bool:
        """True if the process has once said that it could start."""
        try:
            self._started = self._started or (self._sock is not None and self._sock.recv(1) == b"r")
        except OSError:
            pass
        return self._started

    def drain(self) -> None:
        """Have the process drain. By its lifeline, which unlike a signal may be cut at any time and any number of times."""
        try:
            if self._sock is not None:
                self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def signal(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()


class Supervisor:
    """Runs ``count`` copies of a command until a signal ends them."""

    def __init__(self, command: Sequence[str], count: int, name: str) -> None:
        self._children = [_Child(i + 1, [*command, "--name", f"{name}.{i + 1}"]) for i in range(count)]
        self._signals: List[int] = []
        self._stopping = 0
        self._status = 0

    def run(self) -> int:
        """Start the children and look after them. Returns the exit status: 0 if the last of each delivered everything."""
        wake_in, wake_out = os.pipe()
        for descriptor in (wake_in, wake_out):
            os.set_blocking(descriptor, False)
        previous: Dict[int, object] = {
            n: signal.signal(n, self._on_signal)
            for n in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGCHLD)
        }
        before = signal.set_wakeup_fd(wake_out, warn_on_full_buffer=False)
        try:
            self._look_after(wake_in)
            return self._status
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in previous.items():
                signal.signal(number, handler)  # type: ignore[arg-type]
            for child in self._children:
                child.close()
            os.close(wake_in)
            os.close(wake_out)

    def _on_signal(self, number: int, frame: Optional[FrameType]) -> None:
        """Only notes it: a signal may come while a child is being started, or has just ended."""
        self._signals.append(number)

    def _obey(self) -> None:
        """Do what the signals that came ask for."""
        while self._signals:
            number = self._signals.pop(0)
            if number == signal.SIGUSR1:
                for child in self._children:
                    if child.has_started():
                        child.signal(number)
            elif number != signal.SIGCHLD:
                self._stopping += 1
                if self._stopping > 1:
                    for child in self._children:
                        child.signal(signal.SIGKILL)
                    self._status = 128 + number

    def _look_after(self, wake: int) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(wake, selectors.EVENT_READ)
            while self._alive():
                due = [c.due for c in self._children if c.process is None and not self._stopping]
                selector.select(max(0.0, min(due) - time.monotonic()) if due else None)
                try:
                    os.read(wake, 4096)
                except BlockingIOError:
                    pass

    def _alive(self) -> bool:
        """Take leave of who has ended, start who is due. False when nobody is left and nobody will come."""
        self._obey()
        for child in self._children:
            if child.process is not None and child.process.poll() is not None:
                self._ended(child, child.process.returncode)
        for child in self._children:
            if child.process is not None:
                if self._stopping:
                    child.drain()
            elif not self._stopping and child.due <= time.monotonic():
                child.start()
        return any(c.process is not None for c in self._children) or not self._stopping

    def _ended(self, child: _Child, status: int) -> None:
        child.process = None
        started, lived = child.has_started(), time.monotonic() - child.born
        child.close()
        if self._stopping:
            untouched = not started and status == -signal.SIGTERM  # it had nothing to deliver
            if status and not untouched and not self._status:
                self._status = 1
            return
        if not started and status > 0:  # it said why; another one would say the same
            _log.error("worker process %d could not start", child.number)
            self._status = status
            self._stopping = 1
            return
        if lived >= GOOD_SECONDS:
            child.backoff.reset()
        delay = child.backoff.next()
        child.due = time.monotonic() + delay
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        _log.error("worker process %d ended %s; another one starts in %.1f s", child.number, how, delay)


def worker_command(arguments: Sequence[str]) -> List[str]:
    """The command line of a child, from the arguments of its parent but for ``--processes`` and ``--name``."""
    kept: List[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in ("--processes", "--name"):
            skip = True
        elif not argument.startswith(("--processes=", "--name=")):
            kept.append(argument)
    return [sys.executable, "-m", "taskerd", *kept]

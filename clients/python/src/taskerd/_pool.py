"""The threads that run handlers.

Steps arrive in batches from the I/O thread. Waking a thread costs more than running a small handler,
so a batch wakes one thread, and a thread that takes a step while more are left wakes the next: idle
threads join in only as long as there is work that the woken ones have not reached. At most one
wake-up is under way at a time.
"""

from __future__ import annotations

import collections
import logging
import threading
from typing import Callable, Deque, List

from .context import StepContext

_log = logging.getLogger("taskerd.worker")

#: Runs a step; true if another thread has taken this one's place meanwhile.
Run = Callable[[StepContext], bool]


class HandlerPool:
    """A fixed number of threads with one queue. ``submit`` belongs to one thread, the rest to any."""

    def __init__(self, threads: int, run: Run, at_exit: Callable[[], None]) -> None:
        self._items: Deque[StepContext] = collections.deque()
        self._idle: List[threading.Lock] = []
        self._waking = False
        self._stopping = False
        self._run = run
        self._at_exit = at_exit
        self._threads: List[threading.Thread] = []
        for _ in range(threads):
            self.add_thread()

    def add_thread(self) -> None:
        """One more thread; in place of one that does not come back."""
        name = f"taskerd-handler-{len(self._threads) + 1}"
        thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def submit(self, batch: List[StepContext]) -> None:
        """Queue steps."""
        self._items.extend(batch)
        if not self._waking:
            self._wake()

    def take_back(self) -> List[StepContext]:
        """Remove and return every step that no thread has begun."""
        taken: List[StepContext] = []
        while True:
            try:
                taken.append(self._items.popleft())
            except IndexError:
                return taken

    def stop(self) -> None:
        """Let the threads end once they are idle. Does not wait for them."""
        self._stopping = True
        for _ in self._threads:
            self._wake()

    def join(self, timeout: float) -> None:
        """Wait for the threads to end, each at most ``timeout`` seconds."""
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout)

    def _wake(self) -> None:
        try:
            lock = self._idle.pop()
        except IndexError:
            return
        self._waking = True
        lock.release()

    def _main(self) -> None:
        run = self._run
        items, idle = self._items, self._idle
        lock = threading.Lock()
        lock.acquire()
        while True:
            try:
                context = items.popleft()
            except IndexError:
                if self._stopping:
                    self._wake()
                    self._at_exit()
                    return
                idle.append(lock)
                # Whoever queued after the look above may have missed this thread: look again.
                if items or self._stopping:
                    try:
                        idle.remove(lock)
                        continue
                    except ValueError:
                        pass  # chosen by a waker, whose release is coming
                lock.acquire()
                self._waking = False
                continue
            if items and not self._waking:
                self._wake()
            try:
                replaced = run(context)
            except BaseException:
                replaced = False
                _log.critical("a handler thread met an error that should not be possible", exc_info=True)
            if replaced is True:
                self._at_exit()
                return

"""A taskerd of one's own, with an embedded database, for tests of whole workflows."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Type, Union

from ..client import TaskerClient
from ..client_models import TaskResponse
from ..exceptions import TaskerdError
from ..handler import HandlerRegistry
from ..step_handler.base import handler_class_of
from ..worker import Worker

__all__ = ["EmbeddedTaskerd", "TaskFailed"]

#: Names the program if it is not on the PATH.
PROGRAM = "TASKERD_PROGRAM"

Template = Union[str, Mapping[str, Any], "os.PathLike[str]"]


class TaskFailed(AssertionError):
    """A workflow did not end well. ``task`` is what became of it."""

    def __init__(self, task: TaskResponse) -> None:
        bad = [f"  {s.name}: {(s.error or {}).get('message')}" for s in task.steps if s.error]
        super().__init__("\n".join([f"task {task.name} is {task.status}", *bad]))
        self.task = task


class EmbeddedTaskerd:
    """Starts ``taskerd --embedded`` in a directory, which is removed at the end if none was given.

    The program is the argument, ``$TASKERD_PROGRAM``, or the one on the PATH::

        with EmbeddedTaskerd() as daemon:
            task = daemon.run(TEMPLATE, {"cart_id": 7}, handlers=[load_cart, Ship])
            assert task.step("ship").results == {"shipped": True}
    """

    def __init__(
        self,
        directory: Optional[Union[str, "os.PathLike[str]"]] = None,
        *,
        program: Optional[str] = None,
        options: Sequence[str] = (),
        start_timeout: float = 120.0,
    ) -> None:
        found = program or os.environ.get(PROGRAM) or shutil.which("taskerd")
        if not found:
            raise FileNotFoundError(f"there is no taskerd on the PATH; set {PROGRAM}")
        self.program = found
        self._given = directory
        self._options = list(options)
        self._start_timeout = start_timeout
        self._process: Optional["subprocess.Popen[bytes]"] = None
        self._client: Optional[TaskerClient] = None
        self.directory = Path(os.fspath(directory)) if directory is not None else Path()
        self.socket = ""

    # -- life ------------------------------------------------------------------------------------

    def start(self) -> "EmbeddedTaskerd":
        """Start the daemon and wait until it has its database."""
        if self._given is None:
            self.directory = Path(tempfile.mkdtemp(prefix="taskerd-"))
            os.chmod(self.directory, 0o711)  # a database that root starts runs as another user
        self.directory.mkdir(parents=True, exist_ok=True)
        self.socket = str(self.directory / "taskerd.sock")
        command = [self.program, f"--embedded={self.directory / 'database'}", f"--socket={self.socket}"]
        with open(self.log_path, "ab") as log:
            self._process = subprocess.Popen(
                [*command, *self._options], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        atexit.register(self.stop)
        try:
            self._await_database(time.monotonic() + self._start_timeout)
        except BaseException:
            self.stop()
            raise
        return self

    def _await_database(self, deadline: float) -> None:
        assert self._process is not None
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"taskerd ended with {self._process.returncode}:\n{self.log_text()}")
            try:
                if self.client.health_check().healthy:
                    return
            except TaskerdError:
                pass
            time.sleep(0.02)
        raise RuntimeError(f"taskerd does not get ready:\n{self.log_text()}")

    def stop(self) -> None:
        """End the daemon and its database."""
        atexit.unregister(self.stop)
        if self._client is not None:
            self._client.close()
            self._client = None
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._given is None and self.socket:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> "EmbeddedTaskerd":
        return self if self._process is not None else self.start()

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if kind is not None and self._process is not None:
            print(self.log_text(), file=sys.stderr)
        self.stop()

    @property
    def log_path(self) -> Path:
        """The daemon's log."""
        return self.directory / "taskerd.log"

    def log_text(self, lines: int = 40) -> str:
        """The end of the daemon's log."""
        try:
            text = self.log_path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    # -- using it --------------------------------------------------------------------------------

    @property
    def client(self) -> TaskerClient:
        """A client of the daemon."""
        if self._client is None:
            self._client = TaskerClient(socket=self.socket, timeout=60.0)
        return self._client

    def apply(self, template: Template) -> Dict[str, Any]:
        """Register a template: YAML or JSON text, a map, or the path of a file."""
        if isinstance(template, Mapping):
            return self.client.apply_template(json.dumps(template))
        if isinstance(template, os.PathLike) or ("\n" not in template and "{" not in template):
            path = os.fspath(template)
            return self.client.apply_template(Path(path).read_text(encoding="utf-8"), filename=path)
        return self.client.apply_template(template)

    @contextlib.contextmanager
    def worker(self, handlers: Iterable[Any], **options: Any) -> Iterator[Worker]:
        """A worker in this process: decorated functions, handler classes, and names of modules of them.

        ``options`` are those of Worker.
        """
        registry = options.pop("registry", None) or HandlerRegistry()
        for handler in handlers:
            if isinstance(handler, str) or not callable(handler):
                registry.discover_handlers(handler)
                continue
            cls = handler_class_of(handler)
            if cls is None:
                raise TypeError(f"{handler!r} is no handler")
            registry.register(cls.handler_name or cls.__name__, cls)
        options.setdefault("connect_timeout", 30.0)
        worker = Worker(registry, socket=self.socket, **options)
        worker.launch()
        try:
            yield worker
        finally:
            worker.stop(timeout=30.0)

    def run(
        self,
        template: Template,
        context: Optional[Mapping[str, Any]] = None,
        *,
        handlers: Iterable[Any] = (),
        timeout: float = 60.0,
        check: bool = True,
        **create: Any,
    ) -> TaskResponse:
        """Register a template, run one task of it with these handlers and return it with its steps.

        TaskFailed if it is not complete, unless ``check`` is false. ``create`` are further arguments of
        ``TaskerClient.create_task``.
        """
        made = self.apply(template)
        given: List[Any] = list(handlers)
        with self.worker(given) if given else contextlib.nullcontext():
            task = self.client.create_task(
                str(made["name"]),
                namespace=str(made["namespace"]),
                version=str(made["version"]),
                context=context,
                **create,
            )
            done = self.client.wait_for_task(task.task_uuid, timeout)
        if check and done.status != "complete":
            raise TaskFailed(done)
        return done

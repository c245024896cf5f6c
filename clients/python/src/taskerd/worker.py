"""Worker: offers this process's handlers to the daemon and runs the steps it sends."""

from __future__ import annotations

import logging
import os
import signal
import socket as _socket
import threading
from dataclasses import dataclass, field
from time import monotonic  # our own: tests replace that of the module
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Type, Union

from . import _bridge
from ._runner import StepRunner
from ._runtime import WorkerRuntime
from ._transport import Complaints, socket_path
from .exceptions import (
    ConflictError,
    PermissionDeniedError,
    TaskerdError,
    TaskerError,
    WorkerAlreadyRunningError,
    WorkerBootstrapError,
    WorkerNotInitializedError,
    finding_line,
)
from .handler import HandlerRegistry
from .step_handler.base import StepHandler

if TYPE_CHECKING:
    from .client import TaskerClient

__all__ = [
    "BootstrapConfig",
    "BootstrapResult",
    "Worker",
    "WorkerState",
    "WorkerStatus",
]

_log = logging.getLogger("taskerd.worker")

DEFAULT_THREADS = 10
#: Modules that could not be imported, told in the handshake.
MAX_BROKEN = 32
_LEVELS = ("trace", "debug", "info", "warn", "error")


@dataclass(frozen=True)
class BootstrapConfig:
    """Settings of ``Worker.start``.

    ``namespace`` limits the worker to one namespace; ``"default"``, the default, and ``"*"`` take
    every namespace, so that a worker with no settings serves all templates. ``config_path`` is
    accepted for handler code that passes it; the daemon has the configuration.
    """

    worker_id: Optional[str] = None
    namespace: str = "default"
    config_path: Optional[str] = None
    log_level: str = "info"

    def __post_init__(self) -> None:
        if self.log_level not in _LEVELS:
            raise ValueError(f"log_level must be one of {', '.join(_LEVELS)}")


@dataclass(frozen=True)
class BootstrapResult:
    """How a start went. ``status`` is ``started`` or ``already_running``."""

    success: bool
    handle_id: str
    worker_id: str
    status: str
    message: str
    error_message: Optional[str] = None


class WorkerState:
    """States a worker passes through."""

    CREATED = "created"
    RUNNING = "running"
    DRAINING = "draining"
    STOPPED = "stopped"


@dataclass(frozen=True)
class WorkerStatus:
    """A look at a worker."""

    running: bool
    environment: str
    worker_core_status: str
    worker_id: Optional[str] = None
    connected: bool = False
    supported_namespaces: List[str] = field(default_factory=list)
    handlers: List[str] = field(default_factory=list)
    threads: int = 0
    max_concurrency: int = 0
    open_steps: int = 0
    unacknowledged: int = 0
    counters: Dict[str, int] = field(default_factory=dict)
    web_api_enabled: bool = False
    error: Optional[str] = None


class Worker:
    """Runs steps in a pool of threads.

    ``Worker.start([...])`` runs one in the background of an application;
    ``Worker(...).run()`` takes over the main thread until a signal ends it.

    Args:
        registry: The handlers; default is the process's registry.
        socket: The daemon's socket; see ``taskerd.socket_path`` for where it is looked for.
        threads: Handlers that run at a time.
        prefetch: Steps held ready beyond those, default as many as threads. More raises the
            throughput of short handlers; a step that waits here behind a long handler cannot run
            elsewhere meanwhile, and its ``timeout_seconds`` runs. 0 suits long handlers.
        name: What people see in lists of workers; default is host and process id.
        namespaces: Namespaces to serve; default all.
        templates: Directory (or file) whose templates are registered at the start; default
            is what TASKER_TEMPLATE_PATH says, if set.
        connect_timeout: Seconds to wait for the daemon at the start; None waits for ever.
        ack_timeout: Seconds to wait, while stopping without a connection, for a chance to deliver results.
        abandon_after: Seconds that a handler has to return after its step was cancelled (it timed out, say).
            Then its thread is given up and another one takes its place, so that a handler that hangs
            costs only its own attempt. None: for ever.
        log_level: Lines of ``logging`` from this level on that handlers write go to the daemon's log too, with
            the ids of their step: ``trace``, ``debug``, ``info``, ``warn``, ``error``, or None for none.
    """

    _instance: Optional["Worker"] = None
    _instance_lock = threading.Lock()

    def __init__(
        self,
        registry: Optional[HandlerRegistry] = None,
        *,
        socket: Optional[str] = None,
        threads: int = DEFAULT_THREADS,
        prefetch: Optional[int] = None,
        name: Optional[str] = None,
        namespaces: Optional[Sequence[str]] = None,
        templates: Optional[Union[str, "os.PathLike[str]"]] = None,
        connect_timeout: Optional[float] = None,
        ack_timeout: float = 10.0,
        abandon_after: Optional[float] = 30.0,
        log_level: Optional[str] = "info",
    ) -> None:
        if threads < 1:
            raise ValueError("threads must be at least 1")
        if prefetch is not None and prefetch < 0:
            raise ValueError("prefetch must not be negative")
        if log_level is not None and log_level not in _bridge.LEVELS:
            raise ValueError(f"log_level must be one of {', '.join(_LEVELS)}")
        self.registry = registry if registry is not None else HandlerRegistry.instance()
        self.socket = socket_path(socket)
        self.threads = threads
        self.prefetch = threads if prefetch is None else prefetch
        self.name = name or os.environ.get("HOSTNAME") or f"{_socket.gethostname()}-{os.getpid()}"
        self.namespaces = list(namespaces) if namespaces else ["*"]
        self.templates = templates or os.environ.get("TASKER_TEMPLATE_PATH")
        self.connect_timeout = connect_timeout
        self.ack_timeout = ack_timeout
        self.abandon_after = abandon_after
        self.log_level = log_level
        self.bootstrap_result: Optional[BootstrapResult] = None
        self._runtime: Optional[WorkerRuntime] = None
        self._handlers: List[str] = []
        self._callables: List[str] = []  # of templates
        self._grows = False  # handlers may be registered while it runs
        self._signalled = 0
        #: One of several processes: who has started it passes on what a service manager tells it directly.
        self.supervised = False
        #: Called once, when the first connection stands.
        self.on_connected: Optional[Callable[[], None]] = None

    # -- one worker of the process ---------------------------------------------------------------

    @classmethod
    def start(
        cls,
        handler_packages: Optional[Union[str, Iterable[str]]] = None,
        config: Optional[BootstrapConfig] = None,
        **options: Any,
    ) -> "Worker":
        """Start the worker of this process in the background and return it.

        Imports ``handler_packages`` and registers the handlers found in them. What is registered later is
        offered from then on. ``options`` are those of
        the constructor. A second start returns the running worker. Raises WorkerBootstrapError if
        the daemon is not there within ``connect_timeout`` (30 s unless given) or refuses.
        """
        with cls._instance_lock:
            running = cls._instance
            if running is not None and running.is_running:
                return running
            config = config or BootstrapConfig()
            options.setdefault("connect_timeout", 30.0)
            options.setdefault("log_level", config.log_level)
            if config.worker_id:
                options.setdefault("name", config.worker_id)
            if config.namespace not in ("default", "*"):
                options.setdefault("namespaces", [config.namespace])
            try:
                worker = cls(**options)
                packages = [handler_packages] if isinstance(handler_packages, str) else handler_packages
                for package in packages or ():
                    worker.registry.discover_handlers(package)
                worker._grows = True
                worker.launch()
            except (TaskerError, OSError) as exc:
                raise WorkerBootstrapError(str(exc)) from exc
            cls._instance = worker
            return worker

    @classmethod
    def instance(cls) -> "Worker":
        """The worker of this process; WorkerNotInitializedError if none was started."""
        if cls._instance is None:
            raise WorkerNotInitializedError("no worker was started in this process")
        return cls._instance

    @classmethod
    def reset_instance(cls) -> None:
        """Stop and forget the worker of this process."""
        with cls._instance_lock:
            worker, cls._instance = cls._instance, None
        if worker is not None:
            worker.stop()

    # -- life ------------------------------------------------------------------------------------

    def register(self, name: str, handler_class: Type[StepHandler]) -> None:
        """Offer a handler class. Only before the start: the daemon learns the names in the handshake."""
        if self._runtime is not None:
            raise WorkerAlreadyRunningError("handlers are announced at the start; register them before")
        self.registry.register(name, handler_class)

    def offer(self, handlers: Sequence[str], broken: Sequence[Mapping[str, Any]] = ()) -> None:
        """Offer these handlers from now on, while the worker runs; ``broken`` is what people see of those that cannot be loaded."""
        self._handlers = list(handlers)
        if self._runtime is not None:
            self._runtime.offer(handlers=self._handlers, broken=list(broken))

    def launch(self) -> None:
        """Register templates, connect, and begin to run steps in the background.

        Raises the daemon's error if it refuses the session or a template, WorkerBootstrapError if
        there is no handler, and ConnectionLostError after ``connect_timeout``.
        """
        if self._runtime is not None:
            raise WorkerAlreadyRunningError("this worker was launched before")
        deadline = None if self.connect_timeout is None else monotonic() + self.connect_timeout
        self._callables = self._apply_templates(deadline)
        self._handlers = self.registry.offered(self._callables)
        failures = self.registry.import_failures
        broken = [str(f) for f in failures]
        if not self._handlers and (broken or not self._grows):
            why = "; ".join(broken) or "name the modules that define them"
            raise WorkerBootstrapError(f"no handlers: {why}")
        if not self._handlers:
            _log.warning("no handlers yet; steps come when some are registered")
        runtime = WorkerRuntime(
            path=self.socket,
            worker={
                "name": self.name,
                "namespaces": self.namespaces,
                "handlers": self._handlers,
                "max_concurrency": self.threads + self.prefetch,
                **({"open_ended": True} if self.registry.resolver_chain.open_ended else {}),
                **({"broken": [f.to_wire() for f in failures[:MAX_BROKEN]]} if failures else {}),
            },
            runner=StepRunner(self.registry),
            threads=self.threads,
            ack_timeout=self.ack_timeout,
            abandon_after=self.abandon_after,
        )
        self._runtime = runtime
        if self._grows:
            self.registry.on_change = self._offer_registered
        if self.log_level is not None:
            bridge = _bridge.install(self.log_level)
            runtime.at_end = lambda: _bridge.remove(bridge)
        if self.registry.resolver_chain.open_ended:
            self._follow_templates(runtime)
        runtime.start()
        self._await_connection(runtime, deadline)
        if self.on_connected is not None:
            self.on_connected()
        for failure in broken:
            runtime.send_log(None, "error", failure, {"worker": self.name})
        self.bootstrap_result = BootstrapResult(
            True, self.worker_id or "", self.worker_id or "", "started", f"{len(self._handlers)} handlers"
        )

    def _offer_registered(self) -> None:
        runtime = self._runtime
        handlers = self.registry.offered(self._callables)
        if runtime is None or runtime.draining or runtime.finished.is_set() or handlers == self._handlers:
            return
        self.offer(handlers, [f.to_wire() for f in self.registry.import_failures[:MAX_BROKEN]])

    def _await_connection(self, runtime: WorkerRuntime, deadline: Optional[float]) -> None:
        while not runtime.connected.wait(0.1 if deadline is None else 0.02):
            if runtime.finished.is_set():
                if runtime.failure is not None:
                    raise runtime.failure
                return  # asked to end before there was a connection
            if deadline is not None and monotonic() > deadline:
                runtime.abort()
                raise WorkerBootstrapError(f"taskerd does not answer at {self.socket}")

    def run(self) -> int:
        """Launch, and run until SIGTERM or SIGINT. For the main thread.

        The first signal drains: running steps finish, their results are acknowledged, steps not begun
        go back to the daemon. A second signal ends the process at once. SIGUSR1 logs the status.
        Returns the exit status: 0 if everything was delivered.
        """
        previous = {
            signum: signal.signal(signum, self._on_signal)
            for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
        }
        try:
            self.launch()
            runtime = self._runtime
            assert runtime is not None
            if self._signalled:
                runtime.drain()
            runtime.join()
            if runtime.failure is not None:
                _log.error("the worker ended: %s", runtime.failure)
                return 1
            _log.info("the worker has ended; %s", runtime.counters)
            return 0
        except _Interrupted:
            return 0
        finally:
            for signum, handler in previous.items():
                signal.signal(signum, handler)

    def _on_signal(self, signum: int, frame: Optional[FrameType]) -> None:
        if signum == signal.SIGUSR1:
            _log.info("status: %s", self.status())
            return
        self._signalled += 1
        if self._signalled > 1 and self.supervised:
            return  # its parent kills it if it is meant
        if self._signalled > 1:
            os._exit(128 + signum)
        if self._runtime is None:
            raise _Interrupted
        self._runtime.drain()

    def drain(self) -> None:
        """Begin to stop; ``wait`` tells when it is done."""
        if self._runtime is not None:
            self._runtime.drain()

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Wait until the worker has ended. False if it has not within ``timeout`` seconds."""
        return True if self._runtime is None else self._runtime.join(timeout)

    def stop(self, timeout: Optional[float] = None) -> bool:
        """Drain and wait. After ``timeout`` seconds the connection is closed whatever runs.

        Returns True if everything was delivered.
        """
        runtime = self._runtime
        if runtime is None:
            return True
        runtime.drain()
        if not runtime.join(timeout):
            runtime.abort()
            runtime.join(self.ack_timeout)
            return False
        return runtime.failure is None

    def __enter__(self) -> "Worker":
        if self._runtime is None:
            self.launch()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.stop()

    # -- looking at it ---------------------------------------------------------------------------

    @property
    def worker_id(self) -> Optional[str]:
        """The name under which the daemon's history shows this session; None before the first connection."""
        welcome = self._runtime.welcome if self._runtime is not None else None
        return welcome.worker_uuid if welcome is not None else None

    @property
    def is_running(self) -> bool:
        """True from the launch until the worker has ended."""
        return self._runtime is not None and not self._runtime.ended

    @property
    def state(self) -> str:
        """One of WorkerState."""
        runtime = self._runtime
        if runtime is None:
            return WorkerState.CREATED
        if runtime.ended:
            return WorkerState.STOPPED
        return WorkerState.DRAINING if runtime.draining else WorkerState.RUNNING

    def status(self) -> WorkerStatus:
        """Where the worker stands."""
        runtime = self._runtime
        failure = runtime.failure if runtime is not None else None
        return WorkerStatus(
            running=self.is_running,
            environment=os.environ.get("TASKER_ENV", "development"),
            worker_core_status=self.state,
            worker_id=self.worker_id,
            connected=runtime is not None and runtime.connected.is_set(),
            supported_namespaces=list(self.namespaces),
            handlers=list(self._handlers),
            threads=self.threads,
            max_concurrency=self.threads + self.prefetch,
            open_steps=runtime.open_steps() if runtime is not None else 0,
            unacknowledged=runtime.unacknowledged() if runtime is not None else 0,
            counters=dict(runtime.counters) if runtime is not None else {},
            error=str(failure) if failure is not None else None,
        )

    # -- templates -------------------------------------------------------------------------------

    def _apply_templates(self, deadline: Optional[float]) -> List[str]:
        """Register the templates shipped with the worker. Returns the callables that those name, and those of the
        daemon's other templates if there are resolvers that cannot list what they serve."""
        where = self.templates
        open_ended = self.registry.resolver_chain.open_ended
        callables: List[str] = []
        if not where and not open_ended:
            return callables
        from .client import TaskerClient  # what few workers need
        from .template_discovery import TemplatePath

        files = TemplatePath.files(where) if where else []
        if where:
            self.registry.template_discovery_info = {
                "template_path": str(where),
                "files": [str(f) for f in files],
            }
        with TaskerClient(socket=self.socket) as client:
            self._await_daemon(client, deadline)
            for path in files:
                with open(path, encoding="utf-8") as stream:
                    source = stream.read()
                callables.extend(_apply(client, source, str(path)))
            if open_ended:
                callables.extend(_known(client))
        return callables

    def _follow_templates(self, runtime: WorkerRuntime) -> None:
        """Offer what resolvers can serve of templates that come later, or came while there was no connection."""
        due = threading.Event()
        runtime.at_templates = due.set

        def follow() -> None:
            while not runtime.finished.is_set():
                if due.wait(1.0):
                    due.clear()
                    self._look_at_templates(runtime)

        threading.Thread(target=follow, name="taskerd-templates", daemon=True).start()

    def _look_at_templates(self, runtime: WorkerRuntime) -> None:
        from .client import TaskerClient

        try:
            with TaskerClient(socket=self.socket) as client:
                self._callables = sorted({*self._callables, *_known(client)})
                handlers = sorted({*self._handlers, *self.registry.offered(self._callables)})
        except (TaskerError, OSError):
            return  # the next connection looks again
        if handlers != sorted(self._handlers) and not runtime.draining:
            _log.info("templates have brought handlers: %s", ", ".join(sorted(set(handlers) - set(self._handlers))))
            self._handlers = handlers
            runtime.offer(handlers=handlers)

    def _await_daemon(self, client: TaskerClient, deadline: Optional[float]) -> None:
        complaints = Complaints()
        while True:
            left = 5.0 if deadline is None else min(5.0, deadline - monotonic())
            try:
                client.connect(max(0.0, left))
                return
            except TaskerdError as exc:
                if not exc.retryable or (deadline is not None and monotonic() >= deadline - 0.1):
                    raise
                if complaints.due():
                    _log.warning("waiting for taskerd: %s", exc)


class _Interrupted(BaseException):
    """A signal came before there was anything to drain."""


def _apply(client: TaskerClient, source: str, filename: str) -> List[str]:
    """Register one template. An invalid one ends the start; one that is taken, or that this user may
    not register, is an operator's business: the worker serves what the daemon has."""
    try:
        done = client.apply_template(source, filename=filename)
    except (ConflictError, PermissionDeniedError) as exc:
        _log.error("template %s was not registered: %s", filename, exc)
        return []
    for finding in done.get("findings") or ():
        _log.warning("template %s", finding_line(finding))
    _log.info(
        "template %s/%s %s %s",
        done.get("namespace"),
        done.get("name"),
        done.get("version"),
        "registered" if done.get("created") else "is registered already",
    )
    return _callables_of(client, done)


def _known(client: TaskerClient) -> List[str]:
    """Every callable that the daemon's templates name."""
    try:
        return [c for template in client.list_templates() for c in _callables_of(client, template)]
    except TaskerdError as exc:
        _log.warning("the daemon's templates cannot be listed: %s", exc)
        return []


def _callables_of(client: TaskerClient, found: Mapping[str, Any]) -> List[str]:
    name, namespace, version = (str(found[key]) for key in ("name", "namespace", "version"))
    try:
        return template_callables(client.get_template(name, namespace=namespace, version=version))
    except TaskerdError as exc:
        _log.warning("template %s/%s cannot be read: %s", namespace, name, exc)
        return []


def template_callables(template: Mapping[str, Any]) -> List[str]:
    """Every ``handler.callable`` of a template as ``template.get`` shows it."""
    handlers = (step.get("handler") or {} for step in template.get("steps") or ())
    return [str(handler["callable"]) for handler in handlers if handler.get("callable")]

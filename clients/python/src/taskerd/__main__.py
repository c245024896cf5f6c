"""``python -m taskerd``: run a worker from the command line, or a recorded step under a debugger."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, List, Optional, Sequence

from ._bridge import LEVELS
from ._environment import LIFELINE
from ._version import __version__
from .exceptions import TaskerError
from .handler import HandlerRegistry
from .worker import DEFAULT_THREADS, Worker

if TYPE_CHECKING:
    from ._processes import Lifeline


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m taskerd", description="Python client of taskerd.")
    parser.add_argument("--version", action="version", version=f"taskerd-python {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_replay(commands)
    _add_wasm(commands)
    worker = commands.add_parser(
        "worker",
        allow_abbrev=False,
        help="run the handlers of some modules",
        description="Import modules, offer the handlers in them to taskerd, and run its steps until "
        "SIGTERM or SIGINT. The first signal lets running steps finish, a second ends at once.",
    )
    worker.add_argument(
        "modules",
        nargs="*",
        metavar="MODULE",
        help="dotted module name, .py file or directory; everything below it is imported "
        "(default: $PYTHON_HANDLER_PATH)",
    )
    worker.add_argument("--socket", metavar="PATH", help="the daemon's socket (default: $TASKERD_SOCKET, ...)")
    worker.add_argument(
        "--threads", type=int, default=DEFAULT_THREADS, metavar="N", help="handlers that run at a time (%(default)s)"
    )
    worker.add_argument(
        "--prefetch", type=int, metavar="N", help="steps held ready beyond those (as many as threads)"
    )
    worker.add_argument(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="worker processes, for handlers that compute; one that crashes costs only its own attempts (%(default)s)",
    )
    worker.add_argument(
        "--abandon-after",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="give up the thread of a handler that does not return so long after its step was cancelled (%(default)s)",
    )
    worker.add_argument("--name", help="name shown in lists of workers (host and process id)")
    worker.add_argument(
        "--namespace",
        action="append",
        dest="namespaces",
        metavar="NAME",
        help="serve this namespace; may be repeated (default: $TASKER_NAMESPACE, or all)",
    )
    worker.add_argument(
        "--templates",
        metavar="DIR",
        help="register the templates below this directory at the start (default: $TASKER_TEMPLATE_PATH)",
    )
    worker.add_argument("--log-level", choices=list(LEVELS), default="info", help="(%(default)s)")
    worker.add_argument(
        "--daemon-log-level",
        choices=[*LEVELS, "off"],
        default="info",
        help="what handlers log goes to the daemon's log from this level on (%(default)s)",
    )
    return parser


def _add_replay(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    replay = commands.add_parser(
        "replay",
        help="run a recorded step again in the foreground",
        description="Run the handler of a recorded step with the context, results and checkpoint that the daemon "
        "has, in the foreground, and print its result beside the recorded one. Nothing is recorded.",
    )
    replay.add_argument("uuid", metavar="STEP", help="uuid of a step, or of a task if --step names the step")
    replay.add_argument(
        "modules", nargs="*", metavar="MODULE", help="modules with the handler (default: $PYTHON_HANDLER_PATH)"
    )
    replay.add_argument("--step", metavar="NAME", help="name of the step in the task")
    replay.add_argument("--pdb", action="store_true", help="start in the Python debugger")
    replay.add_argument("--socket", metavar="PATH", help="the daemon's socket (default: $TASKERD_SOCKET, ...)")
    replay.add_argument("--log-level", choices=list(LEVELS), default="info", help="(%(default)s)")


def _add_wasm(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    from .wasm.options import add_parser  # needs no wasmtime

    add_parser(commands, list(LEVELS))


def _wasm(args: argparse.Namespace) -> int:
    try:
        from .wasm.command import run
    except ImportError as exc:
        print(f"WASM handlers need wasmtime: pip install taskerd[wasm] ({exc})", file=sys.stderr)
        return 1
    return run(args)


def _replay(args: argparse.Namespace, modules: List[str]) -> int:
    from ._replay import Recording, replay
    from ._transport import socket_path
    from .client import TaskerClient

    registry = HandlerRegistry.instance()
    daemon = socket_path(args.socket)  # before handler files may change the environment
    try:
        for module in modules:
            registry.discover_handlers(module)
        with TaskerClient(socket=daemon, connect_timeout=5.0) as client:
            return replay(Recording.fetch(client, args.uuid, args.step), registry, debug=args.pdb)
    except (TaskerError, ImportError, OSError) as exc:
        print(f"cannot replay: {exc}", file=sys.stderr)
        return 1


def main(argv: Optional[List[str]] = None) -> int:
    """The command line. Returns the exit status."""
    parser = _parser()
    arguments = sys.argv[1:] if argv is None else argv
    args, rest = parser.parse_known_args(arguments)
    if rest and (args.command != "replay" or any(a.startswith("-") for a in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:  # modules after an option, which argparse does not see as such
        args.modules.extend(rest)
    if args.command is None:
        parser.print_help()
        return 2
    logging.basicConfig(
        level=LEVELS[args.log_level],
        format="%(asctime)s %(levelname)s %(threadName)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    if args.command == "wasm":
        return _wasm(args)
    modules = args.modules or [p for p in (os.environ.get("PYTHON_HANDLER_PATH"),) if p]
    if args.command == "replay":
        return _replay(args, modules)
    if not modules:
        parser.error("name at least one MODULE, or set PYTHON_HANDLER_PATH")
    if args.threads < 1 or args.processes < 1 or (args.prefetch is not None and args.prefetch < 0):
        parser.error("--threads and --processes must be at least 1, --prefetch at least 0")
    if args.processes > 1 and LIFELINE not in os.environ:
        return _supervise(args, arguments)
    return _worker(args, modules)


def _supervise(args: argparse.Namespace, arguments: Sequence[str]) -> int:
    name = args.name or os.environ.get("HOSTNAME") or f"{socket.gethostname()}-{os.getpid()}"
    from . import _processes

    return _processes.Supervisor(_processes.worker_command(arguments), args.processes, name).run()


def _lifeline() -> "Optional[Lifeline]":
    """To the process that has started this one as one of several."""
    if LIFELINE not in os.environ:
        return None
    from ._processes import Lifeline

    return Lifeline.from_environment()


def _worker(args: argparse.Namespace, modules: List[str]) -> int:
    log = logging.getLogger("taskerd.worker")
    namespace = os.environ.get("TASKER_NAMESPACE")
    lifeline = _lifeline()
    if lifeline is not None:
        lifeline.watch(lambda: os.kill(os.getpid(), signal.SIGTERM))
    registry = HandlerRegistry.instance()
    try:
        # What the environment says is read before handler files may change it.
        worker = Worker(
            registry,
            socket=args.socket,
            threads=args.threads,
            prefetch=args.prefetch,
            name=args.name,
            namespaces=args.namespaces or ([namespace] if namespace else None),
            templates=args.templates,
            abandon_after=args.abandon_after,
            log_level=None if args.daemon_log_level == "off" else args.daemon_log_level,
        )
        for module in modules:
            count = registry.discover_handlers(module)
            log.info("%s: %d handlers", module, count)
        if "taskerd.domain_events.registry" in sys.modules:
            _start_subscribers(worker)
        if lifeline is not None:
            worker.on_connected = lifeline.ready
            worker.supervised = True
        return worker.run()
    except (TaskerError, ImportError, OSError) as exc:
        log.error("cannot start: %s", exc)
        return 1


def _start_subscribers(worker: Worker) -> None:
    from .domain_events import InProcessDomainEventPoller, SubscriberRegistry

    if SubscriberRegistry.instance().count():
        SubscriberRegistry.instance().start_all(InProcessDomainEventPoller.instance(worker.socket, worker.namespaces))


if __name__ == "__main__":
    sys.exit(main())

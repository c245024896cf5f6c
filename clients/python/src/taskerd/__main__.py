"""``python -m taskerd``: run a worker from the command line."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import List, Optional

from ._version import __version__
from .exceptions import TaskerError
from .handler import HandlerRegistry
from .logging import TRACE
from .worker import DEFAULT_THREADS, Worker

_LEVELS = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m taskerd", description="Python client of taskerd.")
    parser.add_argument("--version", action="version", version=f"taskerd-python {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    worker = commands.add_parser(
        "worker",
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
    worker.add_argument("--log-level", choices=list(_LEVELS), default="info", help="(%(default)s)")
    return parser


def main(argv: Optional[List[str]] = None) -> int:
    """The command line. Returns the exit status."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 2
    logging.basicConfig(
        level=_LEVELS[args.log_level],
        format="%(asctime)s %(levelname)s %(threadName)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    return _worker(parser, args)


def _worker(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    log = logging.getLogger("taskerd.worker")
    modules = args.modules or [p for p in (os.environ.get("PYTHON_HANDLER_PATH"),) if p]
    if not modules:
        parser.error("name at least one MODULE, or set PYTHON_HANDLER_PATH")
    if args.threads < 1 or (args.prefetch is not None and args.prefetch < 0):
        parser.error("--threads must be at least 1, --prefetch at least 0")
    namespace = os.environ.get("TASKER_NAMESPACE")
    registry = HandlerRegistry.instance()
    try:
        for module in modules:
            count = registry.discover_handlers(module)
            log.info("%s: %d handlers", module, count)
        worker = Worker(
            registry,
            socket=args.socket,
            threads=args.threads,
            prefetch=args.prefetch,
            name=args.name,
            namespaces=args.namespaces or ([namespace] if namespace else None),
            templates=args.templates,
        )
        return worker.run()
    except (TaskerError, ImportError, OSError) as exc:
        log.error("cannot start: %s", exc)
        return 1


if __name__ == "__main__":
    sys.exit(main())

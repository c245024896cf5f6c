"""``python -m taskerd wasm``: a worker whose handlers are the modules of a directory."""

from __future__ import annotations

import argparse
import logging
import threading
from typing import Any, Dict, List

from .._imports import ImportFailure
from ..exceptions import TaskerError
from ..handler import HandlerRegistry
from ..worker import Worker
from .modules import Modules, register
from .sandbox import Limits

_log = logging.getLogger("taskerd.wasm")

MEGABYTE = 1 << 20


def _watch(modules: Modules, registry: HandlerRegistry, worker: Worker, every: float) -> None:
    """Look for changes. A handler that is new or gone is told to the daemon."""
    waited, shown = threading.Event(), _broken(modules)
    while not waited.wait(every):
        try:
            names = modules.scan()
        except OSError as exc:
            _log.error("%s cannot be read: %s", modules.directory, exc)
            continue
        broken = _broken(modules)
        if names or broken != shown:
            shown = broken
            register(modules, registry, names)
            worker.offer(modules.names(), broken)


def _broken(modules: Modules) -> List[Dict[str, Any]]:
    """As the handshake tells it."""
    return [ImportFailure(p, None, None, why).to_wire() for p, why in sorted(modules.broken.items())[:64]]


def _replay(args: argparse.Namespace, registry: HandlerRegistry) -> int:
    from .._replay import Recording, replay
    from ..client import TaskerClient

    with TaskerClient(socket=args.socket, connect_timeout=5.0) as client:
        return replay(Recording.fetch(client, args.replay), registry)


def run(args: argparse.Namespace) -> int:
    """The command. Returns the exit status."""
    registry = HandlerRegistry()
    modules = Modules(args.dir, Limits(memory=args.memory * MEGABYTE, seconds=args.timeout))
    if not modules.directory.is_dir():
        _log.error("%s is no directory", args.dir)
        return 2
    register(modules, registry, modules.scan())
    if args.replay:
        return _replay(args, registry)
    registry._failures.extend(ImportFailure(p, None, None, why) for p, why in sorted(modules.broken.items()))
    worker = Worker(registry, socket=args.socket, threads=args.threads, prefetch=args.prefetch, name=args.name, namespaces=args.namespaces)
    if args.reload > 0:
        threading.Thread(target=_watch, args=(modules, registry, worker, args.reload), name="taskerd-wasm-reload", daemon=True).start()
    try:
        return worker.run()
    except TaskerError as exc:
        _log.error("cannot start: %s", exc)
        return 1

"""The options of ``python -m taskerd wasm``, which need no wasmtime to be shown."""

from __future__ import annotations

import argparse
from typing import List

__all__ = ["add_parser"]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", levels: List[str]) -> None:
    """The command's options."""
    parser = commands.add_parser(
        "wasm",
        help="run WebAssembly modules as handlers",
        description="Offer the modules below a directory as handlers: shop/charge.wasm is the handler shop.charge. Each step runs in a fresh sandbox with "
        "nothing but its input. Files that are added, changed or removed are noticed. Needs taskerd[wasm].",
    )
    parser.add_argument("--dir", required=True, metavar="DIR", help="where the modules are")
    parser.add_argument("--socket", metavar="PATH", help="the daemon's socket (default: $TASKERD_SOCKET, ...)")
    parser.add_argument("--threads", type=int, default=4, metavar="N", help="handlers that run at a time (%(default)s)")
    parser.add_argument("--prefetch", type=int, metavar="N", help="steps held ready beyond those (as many as threads)")
    parser.add_argument("--memory", type=int, default=64, metavar="MB", help="memory of one call (%(default)s)")
    parser.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="time of one call, unless its step has less (%(default)s)")
    parser.add_argument("--reload", type=float, default=0.5, metavar="SECONDS", help="look for changes so often; 0: never (%(default)s)")
    parser.add_argument("--name", help="name shown in lists of workers (host and process id)")
    parser.add_argument("--namespace", action="append", dest="namespaces", metavar="NAME", help="serve this namespace; may be repeated (default: all)")
    parser.add_argument("--replay", metavar="STEP", help="run the handler of a recorded step again, print its result beside the recorded one, record nothing")
    parser.add_argument("--log-level", choices=levels, default="info", help="(%(default)s)")

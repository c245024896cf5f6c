"""Workers whose handlers do nothing, one for each client in the tree: how each is made ready, and its command line."""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable, Optional

from .proc import Failure

ROOT = Path(__file__).resolve().parent.parent.parent.parent
BENCH = ROOT / "tests" / "bench"
WORKERS = BENCH / "workers"
OUT = ROOT / "build-test"
PYTHON = "/usr/bin/python3"
HELD = 200  # steps that a worker of any kind holds at a time
HELD_IN_BULK = 800  # the same where rates are measured: what the worker in C does in some 50 ms
THREADS = 4  # few, because handlers that do nothing are all interpreter lock


def hold(held):
    return "--threads", THREADS, "--prefetch", held - THREADS, "--log-level", "warn"


@dataclasses.dataclass(frozen=True)
class Language:
    argv: Callable  # (build directory, socket, steps held) -> command line
    goal: Optional[int] = None  # steps/s in bulk
    prepare: Callable = lambda: None  # Failure: it cannot be run here
    env: dict = dataclasses.field(default_factory=dict)  # None: the variable is left out
    bare: Callable = lambda: None  # -> a command that only starts and ends the language's runtime, if there is one
    usual: bool = True  # False: only if asked for, since another one stands for it


def need(args, what):
    if subprocess.run([str(a) for a in args], check=False, stdin=subprocess.DEVNULL, capture_output=True).returncode != 0:
        raise Failure(what)


def typescript():
    """The package, built as its tests want it."""
    package = OUT / "typescript"
    newest = max(f.stat().st_mtime for f in (ROOT / "clients/typescript/src").rglob("*.ts"))
    if not (package / "dist/cli.js").exists() or (package / "dist/cli.js").stat().st_mtime < newest:
        sys.path.insert(0, str(ROOT / "tests"))
        import suites  # pylint: disable=import-outside-toplevel
        (OUT / "logs").mkdir(parents=True, exist_ok=True)
        if not suites.typescript_package(OUT / "logs/bench-typescript.log"):
            raise Failure("its package cannot be built: see build-test/logs/bench-typescript.log")


def javascript(runtime, *words, usual=True):
    """One thread runs everything, so handlers that do nothing are run as they come. The package brings runtimes that the machine has not, or has too old."""
    def argv(_, socket, held):
        return [own(runtime), *words, OUT / "typescript/dist/cli.js", "worker", WORKERS / "noop.mjs", "--socket", socket, "--threads", held, "--prefetch", 0, "--log-level", "warn"]

    def own(name):
        brought = OUT / "typescript/node_modules/.bin" / name
        return brought if brought.exists() else name

    def prepare():
        typescript()
        need([own(runtime), "--version"], f"{runtime} is not there")

    def bare():
        return (own(runtime), *(("eval", "0") if runtime == "deno" else ("-e", "0")))
    # Where a machine sets the variable, Node 20 reads all of its certificates at every start (50 ms); a worker needs none.
    return Language(argv, 8000, prepare, {"NODE_EXTRA_CA_CERTS": None}, bare, usual)


def rust():
    crate = ROOT / "clients/rust"
    cargo = shutil.which("cargo") or os.path.expanduser("~/.cargo/bin/cargo")
    if not os.path.exists(cargo):
        raise Failure("cargo is not there")
    need([cargo, "build", "--quiet", "--release", "--all-features", "--manifest-path", crate / "Cargo.toml", "--target-dir", OUT / "rust-target", "--examples"], "its examples cannot be built")


LANGUAGES = {
    "c": Language(lambda build, socket, held: [build / "tests/bench/bench_worker", "--socket", socket, "--concurrency", held], 15000),
    "python": Language(lambda _, socket, held: [PYTHON, "-m", "taskerd", "worker", WORKERS / "noop.py", "--socket", socket, *hold(held)], 6000,
                       env={"PYTHONPATH": str(ROOT / "clients/python/src"), "PYTHONPYCACHEPREFIX": str(OUT / "pycache"), "PYTHONDONTWRITEBYTECODE": ""}, bare=lambda: (PYTHON, "-c", "0")),
    "ruby": Language(lambda _, socket, held: [ROOT / "clients/ruby/exe/taskerd", "worker", WORKERS / "noop.rb", "--socket", socket, *hold(held)], 6000,
                     lambda: need(["ruby", "-rmsgpack", "-e", ""], "ruby with msgpack is not there"), {"TASKERD_ACTIVE_SUPPORT": "off"},
                     lambda: ("ruby", "-e", "0")),
    "node": javascript("node"),
    "bun": javascript("bun"),
    "deno": javascript("deno", "run", "-A", usual=False),
    "rust": Language(lambda _, socket, held: [OUT / "rust-target/release/examples/bench_worker", "--socket", socket, "--threads", 2, "--max-concurrency", held, "--quiet",
                                        "--", "bench.noop"], 15000, rust),
}


def languages(wanted=None):
    """(names of those that can be run here, name -> why another cannot)"""
    ready, missing = [], {}
    for name in wanted or [n for n, language in LANGUAGES.items() if language.usual]:
        try:
            LANGUAGES[name].prepare()
            ready.append(name)
        except (Failure, OSError, ValueError) as e:
            missing[name] = str(e) if isinstance(e, Failure) else "its client is not there"
    return ready, missing

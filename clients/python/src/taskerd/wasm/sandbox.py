"""Running a module: one instance for each call, with nothing in it but its input.

A sandbox is an engine for one thread: interrupting it ends what runs there and nothing else. Modules are compiled once in the process and opened in each sandbox
from what the compiler made.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Tuple

import wasmtime

from ..context import StepContext
from . import calls, wasi

__all__ = ["Limits", "Outcome", "Sandbox", "WasmError", "WasmModule"]


@dataclass(frozen=True)
class Limits:
    """What one call may use."""

    #: Bytes of memory.
    memory: int = 64 << 20
    #: Seconds; less if the step has less.
    seconds: float = 30.0
    #: Bytes of output, and of what is written to stderr.
    output: int = 4 << 20
    stderr: int = 64 << 10
    #: Bytes of stack.
    stack: int = 1 << 20


class WasmError(Exception):
    """A module that cannot be loaded."""


@dataclass
class Outcome:
    """What a call has left."""

    #: ``ok``, ``exit`` (with a status), ``trap``, ``timeout``, ``cancelled``, ``output`` (too much of it), ``limit`` (it does not fit into its memory)
    kind: str
    output: bytes
    stderr: bytes
    status: int = 0
    message: str = ""


def _config(limits: Limits) -> wasmtime.Config:
    config = wasmtime.Config()
    config.epoch_interruption = True
    config.max_wasm_stack = limits.stack
    config.cranelift_opt_level = "speed"
    config.wasm_threads = False
    return config


class WasmModule:
    """A compiled module, for any number of sandboxes."""

    def __init__(self, code: bytes, limits: Limits, digest: bytes = b"") -> None:
        self.digest = digest
        if not code.startswith(b"\0asm"):  # the compiler would take text as well
            raise WasmError("no WebAssembly module")
        try:
            engine = wasmtime.Engine(_config(limits))
            module = wasmtime.Module(engine, code)
        except wasmtime.WasmtimeError as exc:
            raise WasmError(f"no valid module: {_first_line(exc)}") from None
        exports = {e.name: _shape(e.type) for e in module.exports}
        self.is_command = "_start" in exports
        if not self.is_command and not {"memory", "tasker_alloc", "tasker_handle"} <= set(exports):
            raise WasmError("exports neither _start (a WASI command) nor memory, tasker_alloc and tasker_handle")
        for name, wanted in _EXPORTS.items():
            if exports.get(name, wanted) != wanted:
                raise WasmError(f"exports {name} as {exports[name]}: it must be {wanted}")
        self._check_imports(module)
        self.serialized = bytes(module.serialize())


    @staticmethod
    def _check_imports(module: wasmtime.Module) -> None:
        unknown = []
        for wish in module.imports:
            name = wish.name or ""
            there = wasi.signature(wish.module, name) or calls.signature(wish.module, name)
            if there is None:
                unknown.append(f"{wish.module}.{name}")
            elif _shape(wish.type) != _shape(there):
                raise WasmError(f"imports {wish.module}.{name} as {_shape(wish.type)}: it is {_shape(there)}")
        if unknown:
            raise WasmError(f"imports {', '.join(sorted(unknown)[:5])}: a handler gets WASI's input and output, and what `taskerd` has")


_EXPORTS = {"_start": "function()", "_initialize": "function()", "memory": "memory", "tasker_alloc": "function(i32) -> i32", "tasker_handle": "function(i32, i32) -> i64"}


def _shape(kind: Any) -> str:
    """The type of an import or export, as people write it."""
    if isinstance(kind, wasmtime.FuncType):
        results = ", ".join(map(str, kind.results))
        return f"function({', '.join(map(str, kind.params))})" + (f" -> {results}" if results else "")
    return type(kind).__name__.removesuffix("Type").lower()


def _first_line(exc: BaseException) -> str:
    return " ".join(str(exc).split())[:300]


class _Run:
    """What runs in a sandbox at the moment."""

    def __init__(self) -> None:
        self.why: Optional[str] = None


class Sandbox:
    """Runs modules on the thread it belongs to; ``interrupt`` may be called from any."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._engine = wasmtime.Engine(_config(limits))
        self._linker = wasmtime.Linker(self._engine)
        self._io = wasi.IO(b"", limits.output, limits.stderr)
        wasi.define(self._linker, lambda: self._io)
        self._context: Optional[StepContext] = None
        calls.define(self._linker, lambda: self._context)
        self._opened: Dict[int, Tuple[WasmModule, wasmtime.InstancePre]] = {}
        self._lock = threading.Lock()
        self._run: Optional[_Run] = None

    def _open(self, module: WasmModule) -> wasmtime.InstancePre:
        found = self._opened.get(id(module))
        if found is None:
            if len(self._opened) > 256:  # of versions that were replaced
                self._opened.clear()
            opened = wasmtime.Module.deserialize(self._engine, module.serialized)
            found = self._opened[id(module)] = (module, self._linker.instantiate_pre(opened))
        return found[1]

    def interrupt(self, why: str) -> None:
        """End what runs, if something does."""
        with self._lock:
            if self._run is not None and self._run.why is None:
                self._run.why = why
                self._engine.increment_epoch()

    def call(
        self,
        module: WasmModule,
        data: bytes,
        seconds: Optional[float] = None,
        watch: Optional[Callable[["Sandbox"], None]] = None,
        context: Optional[StepContext] = None,
    ) -> Outcome:
        """One call in a fresh instance, for a step if one is given. ``watch`` is told when it may be interrupted."""
        pre = self._open(module)
        io = self._io = wasi.IO(data, self.limits.output, self.limits.stderr)
        store = wasmtime.Store(self._engine)
        store.set_limits(memory_size=self.limits.memory, instances=1, memories=1, tables=8, table_elements=1 << 16)
        run, self._context = _Run(), context
        with self._lock:
            self._run = run
            store.set_epoch_deadline(1)
        timer = _TIMERS.add(self, min(seconds or self.limits.seconds, self.limits.seconds))
        try:
            if watch is not None:
                watch(self)
            output = _command(pre, store, io) if module.is_command else _function(pre, store, data, self.limits.output)
            if io.overflow:
                raise _TooMuch
            return Outcome("ok", output, io.stderr())
        except BaseException as exc:
            return self._failed(exc, run, io)
        finally:
            with self._lock:
                self._run = None
            _TIMERS.remove(timer)
            store.close()

    def _failed(self, exc: BaseException, run: _Run, io: wasi.IO) -> Outcome:
        def outcome(kind: str, message: str, status: int = 0) -> Outcome:
            return Outcome(kind, io.output(), io.stderr(), status, message)

        if io.exit_status is not None and not io.overflow:
            return outcome("ok" if io.exit_status == 0 else "exit", "", io.exit_status)
        if run.why is not None:
            return outcome(run.why, "")
        if io.overflow or isinstance(exc, _TooMuch):
            return outcome("output", f"more than {self.limits.output} bytes of output")
        if isinstance(exc, wasmtime.Trap):
            return outcome("trap", _trap_text(exc))
        if isinstance(exc, (wasi.Exit, _BadResult)):
            return outcome("trap", str(exc))
        text = _first_line(exc)
        return outcome("limit" if "memory" in text or "table" in text else "trap", text)


class _TooMuch(Exception):
    pass


class _BadResult(Exception):
    pass


def _trap_text(trap: wasmtime.Trap) -> str:
    lines = [line.strip() for line in str(trap).splitlines()]
    said = next((line for line in reversed(lines) if "trap" in line or "unreachable" in line), lines[-1] if lines else "trap")
    return re.sub(r"^\d+: ", "", said)[:300]  # the number is that of a cause among others


def _command(pre: wasmtime.InstancePre, store: wasmtime.Store, io: wasi.IO) -> bytes:
    start = pre.instantiate(store).exports(store)["_start"]
    start(store)
    return io.output()


def _function(pre: wasmtime.InstancePre, store: wasmtime.Store, data: bytes, limit: int) -> bytes:
    """tasker_alloc(size) gives a place for the input; tasker_handle(place, size) gives place and size of the output in one 64-bit number."""
    exports = pre.instantiate(store).exports(store)
    initialize = exports.get("_initialize")
    if initialize is not None:
        initialize(store)
    memory = exports["memory"]
    at = exports["tasker_alloc"](store, len(data)) & 0xFFFFFFFF
    memory.write(store, data, at)
    packed = exports["tasker_handle"](store, at, len(data))
    if not isinstance(packed, int):
        raise _BadResult("tasker_handle does not return a 64-bit number")
    place, size = (packed >> 32) & 0xFFFFFFFF, packed & 0xFFFFFFFF
    if size > limit:
        raise _TooMuch
    if place + size > memory.data_len(store):
        raise _BadResult("tasker_handle returned a place outside of its memory")
    return bytes(memory.read(store, place, place + size))


class _Timers:
    """One thread that interrupts what takes too long."""

    def __init__(self) -> None:
        self._due: Dict[int, Tuple[float, Sandbox]] = {}
        self._changed = threading.Condition()
        self._next = 0
        self._thread: Optional[threading.Thread] = None

    def add(self, sandbox: Sandbox, seconds: float) -> int:
        import time

        due = time.monotonic() + seconds
        with self._changed:
            if self._thread is None or not self._thread.is_alive():  # also after a fork
                self._thread = threading.Thread(target=self._main, name="taskerd-wasm-timer", daemon=True)
                self._thread.start()
            self._next += 1
            earliest = not self._due or due < min(d for d, _ in self._due.values())
            self._due[self._next] = (due, sandbox)
            if earliest:
                self._changed.notify()
            return self._next

    def remove(self, ident: int) -> None:
        with self._changed:
            self._due.pop(ident, None)

    def _main(self) -> None:
        import time

        with self._changed:
            while True:
                now = time.monotonic()
                late: List[int] = [k for k, (due, _) in self._due.items() if due <= now]
                for ident in late:
                    self._due.pop(ident)[1].interrupt("timeout")
                left = min((due for due, _ in self._due.values()), default=now + 3600.0) - now
                self._changed.wait(max(left, 0.001))


_TIMERS = _Timers()


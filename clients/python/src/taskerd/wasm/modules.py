"""A directory of modules as handlers, looked at again and again: what changed is loaded anew, as a whole; what runs finishes with what it began with."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from pathlib import Path
from typing import Any, Dict, List, Optional, Set, Tuple, Type

from ..context import StepContext
from ..handler import HandlerRegistry
from ..results import StepHandlerResult
from ..step_handler import StepHandler
from .json_text import decode
from .sandbox import Limits, Outcome, Sandbox, WasmError, WasmModule

__all__ = ["Modules", "register", "result_of"]

_log = logging.getLogger("taskerd.wasm")

#: Exit statuses that mean: do not try again. All others do.
PERMANENT_STATUS = 2
Stamp = Tuple[int, int, int]


def handler_name(directory: Path, path: Path) -> str:
    """`shop/charge.wasm` is `shop.charge`."""
    return ".".join(path.relative_to(directory).with_suffix("").parts)


def _code(path: Path) -> bytes:
    if not path.is_file():  # a pipe would never end
        raise WasmError("no file")
    return path.read_bytes()


class Modules:
    """The modules below a directory, by handler name."""

    def __init__(self, directory: "str | os.PathLike[str]", limits: Optional[Limits] = None) -> None:
        self.directory = Path(directory)
        self.limits = limits or Limits()
        #: What is wrong, by file.
        self.broken: Dict[str, str] = {}
        self._modules: Dict[str, WasmModule] = {}
        self._stamps: Dict[Path, Stamp] = {}
        self._local = threading.local()

    def names(self) -> List[str]:
        """The handlers there are."""
        return sorted(self._modules)

    def scan(self) -> Set[str]:
        """Load what is new or changed, forget what is gone; the names that came or went. A file that is broken is named, and what it replaces stays."""
        before = set(self._modules)
        seen: Dict[Path, Stamp] = {}
        present = sorted(self.directory.rglob("*.wasm"))
        for path in present:
            try:
                stat = path.stat()
            except OSError:
                continue  # gone meanwhile
            other = next((p for p in seen if handler_name(self.directory, p) == handler_name(self.directory, path)), None)
            if other is not None:
                self._doubled(path, other)
                continue
            seen[path] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if self._stamps.get(path) != seen[path]:
                self._load(path)
        for name in set(self.broken) - {str(p) for p in present}:
            del self.broken[name]
        for path in set(self._stamps) - set(seen):
            if not any(handler_name(self.directory, p) == handler_name(self.directory, path) for p in seen):
                self._modules.pop(handler_name(self.directory, path), None)
            _log.info("%s is gone", path)
        self._stamps = seen
        return before ^ set(self._modules)

    def _doubled(self, path: Path, other: Path) -> None:
        why = f"{other} is the handler {handler_name(self.directory, path)} already"
        if self.broken.get(str(path)) != why:
            self.broken[str(path)] = why
            _log.error("%s is left out: %s", path, why)

    def _load(self, path: Path) -> None:
        name = handler_name(self.directory, path)
        try:
            module = self._compiled(_code(path))
        except (WasmError, OSError) as exc:
            self.broken[str(path)] = (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
            _log.error("%s is broken: %s%s", path, self.broken[str(path)], "; the version before it goes on" if name in self._modules else "")
            return
        self.broken.pop(str(path), None)
        _log.info("%s as handler %s", "loaded" if name not in self._modules else "loaded anew", name)
        self._modules[name] = module

    def _compiled(self, code: bytes) -> WasmModule:
        """The same bytes under many names are compiled once."""
        digest = hashlib.sha256(code).digest()
        found = next((m for m in self._modules.values() if m.digest == digest), None)
        return found or WasmModule(code, self.limits, digest)

    # -- running --

    def sandbox(self) -> Sandbox:
        """The calling thread's own."""
        found: Optional[Sandbox] = getattr(self._local, "sandbox", None)
        if found is None:
            found = self._local.sandbox = Sandbox(self.limits)
        return found

    def run(self, name: str, context: StepContext) -> StepHandlerResult:
        """One step in a fresh instance."""
        module = self._modules.get(name)
        if module is None:
            return StepHandlerResult.failure(f"the module of handler {name!r} is gone", "handler_not_found")

        def watch(sandbox: Sandbox) -> None:
            context._cancel_hook = lambda: sandbox.interrupt("cancelled")
            if context.cancelled:
                sandbox.interrupt("cancelled")

        try:
            outcome = self.sandbox().call(module, _input(context), _seconds(context), watch, context)
        finally:
            context._cancel_hook = None
        for line in outcome.stderr.decode("utf-8", "replace").splitlines()[:100]:
            if line.strip():
                context.log("info", line.replace("\0", "\\0"))
        return result_of(outcome, is_command=module.is_command)

    def handler(self, name: str) -> Type[StepHandler]:
        """A handler class for a module, whichever version of it there is."""
        modules = self

        class WasmHandler(StepHandler):
            handler_name = name

            def call(self, context: StepContext) -> StepHandlerResult:
                return modules.run(name, context)

        return WasmHandler


def _seconds(context: StepContext) -> Optional[float]:
    timeout = (context._step or {}).get("timeout_ms")
    return timeout / 1000.0 if isinstance(timeout, int) and timeout > 0 else None


def _input(context: StepContext) -> bytes:
    step = context._step or {}
    shown: Dict[str, Any] = {
        "step_uuid": str(context.step_uuid),
        "task_uuid": str(context.task_uuid),
        "name": step.get("step"),
        "handler": context.handler_name,
        "attempt": step.get("attempt"),
        "max_attempts": step.get("max_attempts"),
        "context": context.input_data,
        "config": context.step_config,
        "inputs": context.step_inputs,
        "dependencies": {k: context.get_dependency_result(k) for k in context.get_dependency_result_keys()},
        "dependency_uuids": {k: v["step_uuid"] for k, v in context.dependency_results.items()},
        "checkpoint": step.get("checkpoint"),
        "correlation_id": step.get("correlation_id"),
        "publishes_events": step.get("publishes_events") or [],
    }
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":"), default=str).encode("utf-8")


# -- what comes out --

_WORDS = {
    "timeout": ("timeout", True, "the handler took too long"),
    "cancelled": ("cancelled", True, "cancelled"),
    "trap": ("wasm_trap", True, "the handler was stopped"),
    "limit": ("wasm_limit", False, "the module does not fit into its limits"),
    "output": ("result_too_large", False, "the handler wrote too much"),
}


def result_of(outcome: Outcome, is_command: bool = True) -> StepHandlerResult:
    """The result that an outcome of a call stands for."""
    if outcome.kind in _WORDS:
        kind, retryable, words = _WORDS[outcome.kind]
        return StepHandlerResult.failure(f"{words}: {outcome.message}" if outcome.message else words, kind, retryable)
    if outcome.kind == "exit":
        return _exited(outcome)
    try:
        value = decode(outcome.output) if outcome.output.strip() else {}
    except (ValueError, RecursionError) as exc:
        return StepHandlerResult.failure(f"the output is not JSON: {exc}", "invalid_output", retryable=False)
    if not is_command:
        if not isinstance(value, dict) or not ("result" in value or "error" in value):
            return StepHandlerResult.failure('the output is neither {"result": ...} nor {"error": {...}}', "invalid_output", retryable=False)
        if value.get("error") is not None:
            return _failure(value["error"], True)
        value = value.get("result")
    return _success(value)


def _success(value: Any) -> StepHandlerResult:
    if value is None:
        value = {}
    if not isinstance(value, dict):
        value = {"result": value}
    if value.get("type") == "checkpoint_yield" and "cursor" in value:
        items = value.get("items_processed") or 0
        if type(items) is not int or items < 0:
            return StepHandlerResult.failure(f"items_processed of a checkpoint_yield is no number of items: {items!r}", "invalid_output", retryable=False)
        return StepHandlerResult.checkpoint_yield(value["cursor"], items, value.get("accumulated_results"))
    return StepHandlerResult.success(value)


def _exited(outcome: Outcome) -> StepHandlerResult:
    """What it wrote says more, if it is the fields of an error; otherwise the last line on stderr is the message."""
    retryable = outcome.status != PERMANENT_STATUS
    try:
        fields = decode(outcome.output)
    except (ValueError, RecursionError):
        fields = None
    if isinstance(fields, dict) and isinstance(fields.get("message"), str):
        return _failure(fields, retryable)
    lines = [line for line in outcome.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    message = lines[-1] if lines else f"the handler ended with status {outcome.status}"
    return _failure({"message": message}, retryable)


def _failure(fields: Any, retryable: bool) -> StepHandlerResult:
    if not isinstance(fields, dict):
        fields = {"message": str(fields)}
    wish, code = fields.get("retry_after"), fields.get("error_code")
    context = fields.get("context")
    result = StepHandlerResult.failure(
        str(fields.get("message") or "the handler failed"),
        str(fields.get("error_type") or "handler_error"),
        bool(fields.get("retryable", retryable)),
        error_code=None if code is None else str(code),
        retry_after=float(wish) if isinstance(wish, (int, float)) and not isinstance(wish, bool) else None,
    )
    result.error_context = context if isinstance(context, dict) else None
    return result


def register(modules: Modules, registry: HandlerRegistry, names: Set[str]) -> None:
    """Bring a registry up to date with what a scan has found."""
    for name in names:
        if name in modules.names():
            registry.register(name, modules.handler(name))

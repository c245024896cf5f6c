"""One attempt: find the handler, run it, turn what comes out into the bytes of a result."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Awaitable, Dict, List, Mapping, Optional, Tuple

from . import _otel
from ._bridge import current_step
from ._codec import DEFAULT_LIMITS, Pack, fits, new_packer, plain, safe_text, split_limits, to_json_value
from .context import StepContext
from .exceptions import ConversionError
from .handler import HandlerRegistry
from .registry import HandlerDefinition, ResolutionError, new_handler
from .results import StepHandlerResult, failure_from_exception, result_from_value, text_of

if TYPE_CHECKING:
    import asyncio  # at run time only where a handler needs it: it takes long to import

_log = logging.getLogger("taskerd.worker")

MAX_MESSAGE = 16384
MAX_BACKTRACE = 64


class StepRunner:
    """Runs attempts on the calling thread; one per worker, used by all its threads."""

    def __init__(self, registry: HandlerRegistry) -> None:
        self.registry = registry
        #: Bytes and items one result may have; replaced by the I/O thread after each handshake.
        self.room: Tuple[int, int] = split_limits(DEFAULT_LIMITS)
        self._local = threading.local()
        self._tracing = _otel.load()

    def attempt(self, context: StepContext) -> StepHandlerResult:
        """Run the handler; never raises."""
        current_step.set(context)
        try:
            tracing = self._tracing
            return self._outcome(context) if tracing is None else tracing.run(context, self._outcome)
        except BaseException as exc:  # a handler's sys.exit() ends its step, not this thread
            return failure_from_exception(exc)
        finally:
            current_step.set(None)

    def run(self, context: StepContext) -> bytes:
        """Run one attempt. Returns the packed item of ``step.result``; never raises."""
        start = time.perf_counter()
        pid = os.getpid()
        if self._tracing is not None:
            result = self.attempt(context)
        else:  # the same, without the call
            current_step.set(context)
            try:
                result = self._outcome(context)
            except BaseException as exc:
                result = failure_from_exception(exc)
            current_step.set(None)
        if os.getpid() != pid:
            _end_child(result)
        elapsed = (time.perf_counter() - start) * 1000.0
        if not result.is_success:
            _log_failure(context, result)
        events = _step_events(context, result) if "publishes_events" in (context._step or ()) else None
        return self.encode(context, result, elapsed, events)

    def encode(
        self,
        context: StepContext,
        result: StepHandlerResult,
        elapsed_ms: float,
        events: Optional[List[Dict[str, Any]]] = None,
    ) -> bytes:
        """The packed item for a result; a failure that says why if the result cannot be sent."""
        pack = self.packer()
        try:
            item = _item(context, result, elapsed_ms)
            if events:
                item["events"] = events
            packed = pack(item)
            max_bytes, max_items = self.room
            if fits(packed, item, max_bytes, max_items):
                return packed
            if events:  # the result counts, and is sent without them
                _log.error("step %s: its events are too large to be sent with the result", context._key[0])
                return self.encode(context, result, elapsed_ms, _left_out(events, "too large to be sent with the result"))
            size = f"{len(packed)} bytes, the daemon takes {max_bytes}"
            kind, why = "result_too_large", size if len(packed) > max_bytes else f"more than {max_items} values, keys and containers"
        except Exception as exc:  # user values may fail in any way while they are converted
            if events:
                _log.error("step %s: its events cannot be sent: %s", context._key[0], text_of(exc))
                return self.encode(context, result, elapsed_ms, _left_out(events, safe_text(text_of(exc), 300)))
            kind, why = "serialization_error", _why(result, exc)
        _log.error(
            "step %s of handler %r: the result cannot be sent: %s", context._key[0], context.handler_name, why
        )
        return pack(_item(context, _without_extras(result, kind, why), elapsed_ms))

    def close_thread(self) -> None:
        """Give back what the calling thread holds."""
        loop: Optional[asyncio.AbstractEventLoop] = getattr(self._local, "loop", None)
        if loop is not None:
            loop.close()

    def _outcome(self, context: StepContext) -> StepHandlerResult:
        if context._cancel_reason is not None:
            return StepHandlerResult.failure(
                f"cancelled before it began: {context._cancel_reason}", "cancelled"
            )
        assert context._step is not None
        spec: Dict[str, Any] = context._step["handler"]
        name: str = spec["callable"]
        method: str = spec.get("method") or "call"
        entry = self.registry.entry(name) if not spec.get("resolver") else None
        if entry is not None:
            handler = new_handler(entry, spec.get("initialization"))
        else:
            try:
                found = self.registry.resolver_chain.resolve(HandlerDefinition.from_dict(spec))
            except ResolutionError as exc:
                return _unresolved(name, str(exc))
            if found is None:
                return _unresolved(name, "no resolver knows it")
            handler, method = found, "call"
        call = getattr(handler, method, None)
        if not callable(call):
            return _unresolved(name, f"{type(handler).__name__} has no method {method!r}")
        context.handler_name = handler.handler_name or name
        value = call(context)
        if type(value) is StepHandlerResult:
            return value
        if hasattr(value, "__await__"):
            value = self._await(value, context)
        return result_from_value(value)

    def _await(self, value: Awaitable[Any], context: StepContext) -> Any:
        """Run a coroutine on this thread's event loop. Cancelling the step cancels it."""
        import asyncio

        loop: Optional[asyncio.AbstractEventLoop] = getattr(self._local, "loop", None)
        if loop is None:
            loop = self._local.loop = asyncio.new_event_loop()
        return loop.run_until_complete(_guarded(loop, value, context))

    def packer(self) -> Pack:
        """The calling thread's own packer."""
        pack: Optional[Pack] = getattr(self._local, "pack", None)
        if pack is None:
            pack = self._local.pack = new_packer()
        return pack


async def _guarded(loop: asyncio.AbstractEventLoop, value: Awaitable[Any], context: StepContext) -> Any:
    """Await a handler; afterwards nothing of it is left running."""
    import asyncio

    main = asyncio.ensure_future(value)

    def cancel() -> None:
        """Called by the I/O thread."""
        try:
            loop.call_soon_threadsafe(main.cancel)
        except RuntimeError:  # the thread has ended and closed its loop
            pass

    context._cancel_hook = cancel
    if context._cancel_reason is not None:
        main.cancel()
    try:
        return await main
    finally:
        context._cancel_hook = None
        left = [t for t in asyncio.all_tasks(loop) if t is not asyncio.current_task(loop)]
        for task in left:
            task.cancel()
        if left:
            await asyncio.gather(*left, return_exceptions=True)


def _without_extras(result: StepHandlerResult, kind: str, why: str) -> StepHandlerResult:
    """What is sent instead: a success that cannot be stored is a permanent failure, a failure goes
    without the extras that were in its way."""
    if result.is_success:
        return StepHandlerResult.failure(f"the handler's result cannot be sent: {why}", kind, retryable=False)
    return StepHandlerResult.failure(
        result.error_message or "",
        result.error_type or "handler_error",
        result.retryable,
        error_code=result.error_code,
        retry_after=result.retry_after,
    )


def _why(result: StepHandlerResult, error: Exception) -> str:
    """What cannot be sent of a result, with its place, which the packer does not know."""
    if isinstance(error, UnicodeEncodeError):
        try:
            to_json_value(result.result, "result")
            to_json_value(result.metadata, "metadata")
        except ConversionError as exc:
            return str(exc)
    return text_of(error)


def _unresolved(name: str, why: str) -> StepHandlerResult:
    return StepHandlerResult.failure(
        f"handler {name!r} cannot be resolved: {why}", "handler_not_found", retryable=False
    )


def _item(context: StepContext, result: StepHandlerResult, elapsed_ms: float) -> Dict[str, Any]:
    step = context._step
    assert step is not None
    item: Dict[str, Any] = {
        "step_uuid": step["step_uuid"],
        "attempt": step["attempt"],
        "claim": step.get("claim"),
        "success": result.is_success,
        "execution_ms": round(elapsed_ms, 3),
    }
    if result.is_success:
        item["result"] = plain(result.result, "result")
        if result.metadata:
            item["metadata"] = plain(result.metadata, "metadata")
        return item
    metadata, backtrace = _split_backtrace(result.metadata)
    error: Dict[str, Any] = {
        "message": safe_text(result.error_message or "the step failed", MAX_MESSAGE),
        "error_type": safe_text(result.error_type or "handler_error", 128),
        "retryable": bool(result.retryable),
    }
    code = result.error_code or metadata.get("error_code")
    if code is not None:
        error["error_code"] = safe_text(code, 128)
    if backtrace:
        error["backtrace"] = backtrace
    if type(metadata.get("status_code")) is int:
        error["status_code"] = metadata["status_code"]
    if result.error_context:
        error["context"] = _lenient(result.error_context, "error.context")
    item["error"] = error
    if metadata:
        item["metadata"] = _lenient(metadata, "metadata")
    wait = _retry_after(result, metadata)
    if wait is not None:
        item["retry_after_ms"] = wait
    return item


def _lenient(value: Mapping[str, Any], path: str) -> Dict[str, Any]:
    """A failure's extras never hide the failure itself: what cannot be stored is shown as text."""
    out: Dict[str, Any] = {}
    for key, item in value.items():
        try:
            out[safe_text(key, 256)] = to_json_value(item, f"{path}.{key}")
        except ConversionError:
            out[safe_text(key, 256)] = safe_text(repr(item), 1024)
    return out


def _split_backtrace(metadata: Mapping[str, Any]) -> Tuple[Mapping[str, Any], List[str]]:
    """The traceback travels in its own field."""
    text = metadata.get("traceback")
    if not isinstance(text, str):
        return metadata, []
    rest = {k: v for k, v in metadata.items() if k != "traceback"}
    return rest, [safe_text(line, 1024) for line in text.splitlines()[-MAX_BACKTRACE:]]


def _retry_after(result: StepHandlerResult, metadata: Mapping[str, Any]) -> Optional[int]:
    """The wished delay in ms: the result's own, or the metadata key under which handlers put it."""
    if not result.retryable:
        return None
    for wish in (result.retry_after, metadata.get("retry_after"), metadata.get("retry_after_seconds")):
        if isinstance(wish, (int, float)) and not isinstance(wish, bool) and 0 <= wish < 1e9:
            return int(wish * 1000)
    return None


def _log_failure(context: StepContext, result: StepHandlerResult) -> None:
    text = result.metadata.get("traceback") if context._cancel_reason is None else None
    _log.log(
        logging.WARNING if text else logging.INFO,
        "step %s (handler %r, attempt %s) failed, %s: %s%s",
        context._key[0],
        context.handler_name,
        context._key[1],
        "retryable" if result.retryable else "permanent",
        result.error_message,
        "\n" + text if isinstance(text, str) else "",
    )


def _end_child(result: StepHandlerResult) -> None:
    """The handler has forked, and the child came here too, by returning or by ``sys.exit``: it is no worker, and would stay for ever."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(0 if result.is_success else 1)


def _left_out(events: List[Dict[str, Any]], why: str) -> Optional[List[Dict[str, Any]]]:
    """Of these events none is published; None if that is so already."""
    if all("payload" not in e for e in events):
        return None
    return [{"name": e["name"], "failed": why} if "payload" in e else e for e in events]


def _step_events(context: StepContext, result: StepHandlerResult) -> Optional[List[Dict[str, Any]]]:
    from .domain_events.collect import step_events  # most workers publish nothing

    return step_events(context, result)

"""What a module may ask of its worker while it runs, imported from ``taskerd``: storing a checkpoint, publishing an event, showing progress. Each takes the place and
the size of a JSON text in the module's memory and returns a number.
"""

from __future__ import annotations

from typing import Any, Callable, Optional

import wasmtime

from ..context import StepContext
from ..errors import PermanentError, StepCancelledError
from .json_text import decode
from .wasi import Guest

__all__ = ["define", "signature"]

MODULE = "taskerd"
#: Done; the attempt no longer counts, so that the module may end; the text is none that can be taken.
DONE, VOID, REFUSED = 0, 1, 2


def _checkpoint(context: StepContext, value: Any) -> int:
    """``{"cursor", "items_processed", "accumulated_results"}``. It is durable when this returns."""
    items = value.get("items_processed")
    if value.get("cursor") is None or not (items is None or type(items) is int):
        return REFUSED
    try:
        context.save_checkpoint(value["cursor"], items, value.get("accumulated_results"))
    except StepCancelledError:
        return VOID
    except PermanentError:
        return REFUSED
    return DONE


def _publish(context: StepContext, value: Any) -> int:
    """``{"name", "payload"}`` of an event that the step declares: its payload, if it is published when the attempt has ended."""
    declared = [e.get("name") for e in (context._step or {}).get("publishes_events") or ()]
    if "payload" not in value or value.get("name") not in declared:
        return REFUSED
    if context._published is None:
        context._published = {}
    context._published[value["name"]] = value["payload"]
    return DONE


def _progress(context: StepContext, value: Any) -> int:
    """Any object, for whoever looks at the step."""
    context.heartbeat(value)
    return VOID if context.cancelled else DONE


_TABLE = {"checkpoint": _checkpoint, "publish": _publish, "progress": _progress}


def _type() -> wasmtime.FuncType:
    return wasmtime.FuncType([wasmtime.ValType.i32(), wasmtime.ValType.i32()], [wasmtime.ValType.i32()])


def signature(module: str, name: str) -> Optional[wasmtime.FuncType]:
    """Of what a module may import; None if it may not."""
    return _type() if module == MODULE and name in _TABLE else None


def define(linker: wasmtime.Linker, current: Callable[[], Optional[StepContext]]) -> None:
    """Put everything into a linker; ``current`` gives the step that runs."""
    def wrapped(function: Callable[[StepContext, Any], int]) -> Callable[..., int]:
        def call(caller: Any, place: int, size: int) -> int:
            context, text = current(), Guest(caller).read(place, size)
            try:
                value = decode(text)
            except (ValueError, RecursionError):
                return REFUSED
            return REFUSED if context is None or not isinstance(value, dict) else function(context, value)

        return call

    for name, function in _TABLE.items():
        linker.define_func(MODULE, name, _type(), wrapped(function), access_caller=True)

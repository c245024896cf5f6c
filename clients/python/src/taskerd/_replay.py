"""Replay: run a recorded step again in the foreground, recording nothing."""

from __future__ import annotations

import json
import pdb
import sys
import time
from typing import Any, Dict, List, Mapping, Optional, TextIO

from ._codec import to_json_value
from ._dependencies import Dependencies, fetch_all
from ._runner import StepRunner
from .client import TaskerClient
from .context import StepContext
from .handler import HandlerRegistry
from .results import StepHandlerResult

__all__ = ["Recording", "replay"]

Data = Dict[str, Any]


class ReplayHost:
    """What a handler asks of the worker, answered here."""

    def __init__(self, out: TextIO, client: Optional[TaskerClient] = None) -> None:
        self._out = out
        self._client = client

    def fetch_dependencies(self, step_uuid: str, names: Optional[List[str]]) -> Dependencies:
        """Results that were left out for their size."""
        if self._client is None:
            return Dependencies({}, {})
        return fetch_all(self._client.request, step_uuid, names)

    def store_checkpoint(self, params: Mapping[str, Any]) -> str:
        """Show it; nothing is recorded."""
        shown = {k: v for k, v in params.items() if k not in ("step_uuid", "attempt", "claim")}
        print(f"checkpoint: {shown!r}", file=self._out)
        return "recorded"

    def send_progress(self, step_uuid: str, attempt: int, progress: Any) -> None:
        """Show it."""
        print(f"progress: {progress!r}", file=self._out)

    def send_log(self, step_uuid: Optional[str], level: str, message: str, fields: Mapping[str, Any]) -> None:
        """Show it."""
        tail = "".join(f" {k}={v}" for k, v in fields.items())
        print(f"{level}: {message}{tail}", file=self._out)


class Recording:
    """A step as the daemon has it: ``step`` as ``step.execute`` would bring it, ``recorded`` what became of it."""

    def __init__(self, step: Data, recorded: Data, client: Optional[TaskerClient] = None) -> None:
        self.step = step
        self.recorded = {k: v for k, v in recorded.items() if v is not None}
        self.client = client

    @classmethod
    def fetch(cls, client: TaskerClient, uuid: str, step: Optional[str] = None) -> "Recording":
        """By the step's uuid, or its task's uuid and its name."""
        params = {"step_uuid": uuid} if step is None else {"task_uuid": uuid, "step": step}
        answer = client.request("step.replay", params)
        return cls(answer["step"], answer["recorded"], client)


def _described(result: StepHandlerResult) -> Data:
    if result.is_success:
        shown: Data = {"success": True, "result": result.result}
    else:
        shown = {
            "success": False,
            "error": {
                "message": result.error_message,
                "error_type": result.error_type,
                "error_code": result.error_code,
                "retryable": result.retryable,
            },
        }
    rest = {k: v for k, v in result.metadata.items() if k != "traceback"}
    if rest:
        shown["metadata"] = rest
    return shown


def replay(recording: Recording, registry: HandlerRegistry, *, debug: bool = False) -> int:
    """Run the handler and print its result beside the recorded one. 0 if there was a handler to run."""
    context = StepContext._from_step(recording.step, ReplayHost(sys.stderr, recording.client), time.monotonic())
    runner = StepRunner(registry)
    result = pdb.runcall(runner.attempt, context) if debug else runner.attempt(context)
    if result is None:  # left in the debugger
        return 1
    trace = result.metadata.get("traceback")
    if isinstance(trace, str):
        print(trace, file=sys.stderr)
    replayed = _described(result)
    try:
        replayed = to_json_value(replayed)
    except Exception as exc:  # values of the handler's own may fail in any way
        print(f"the result could not be sent: {exc}", file=sys.stderr)
    shown = {
        "step": recording.step["step"],
        "handler": (recording.step.get("handler") or {}).get("callable"),
        "recorded": recording.recorded,
        "replayed": replayed,
        "same": result.is_success and replayed.get("result") == recording.recorded.get("result"),
    }
    print(json.dumps(shown, indent=2, ensure_ascii=False, default=repr))
    return 1 if result.error_type == "handler_not_found" else 0

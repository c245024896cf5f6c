"""Replay: run a recorded step again in the foreground, recording nothing."""

from __future__ import annotations

import json
import pdb
import sys
import time
from typing import Any, Dict, List, Mapping, Optional, Set, TextIO

from ._codec import to_json_value
from ._runner import StepRunner
from .client import TaskerClient
from .context import StepContext
from .exceptions import NotFoundError
from .handler import HandlerRegistry
from .results import StepHandlerResult

__all__ = ["Recording", "replay"]

Data = Dict[str, Any]


class ReplayHost:
    """What a handler asks of the worker, answered here."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def fetch_dependencies(self, step_uuid: str, names: Optional[List[str]]) -> Data:
        """Nothing was left out."""
        return {}

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
    """A step as the daemon has it."""

    def __init__(self, task: Data, row: Data, template: Data) -> None:
        self.task = task
        self.row = row
        self._steps: Dict[str, Data] = {s["name"]: s for s in template.get("steps") or ()}
        self._rows: List[Data] = list(task.get("steps") or ())

    @classmethod
    def fetch(cls, client: TaskerClient, uuid: str, step: Optional[str] = None) -> "Recording":
        """By the step's uuid, or its task's uuid and its name."""
        task = _task(client, uuid, step)
        rows = task.get("steps") or ()
        wanted = (uuid, step) if step is None else (step,)
        row = next((r for r in rows if r["step_uuid"] in wanted or r["name"] in wanted), None)
        if row is None:
            raise NotFoundError(f"task {task['task_uuid']} has no step {step or uuid}")
        template = client.get_template(
            str(task["name"]), namespace=str(task["namespace"]), version=str(task["version"])
        )
        return cls(task, row, template)

    @property
    def template_step(self) -> Data:
        """The step of the template that the recorded one is an instance of."""
        return self._steps[self._template_name(self.row)]

    def _template_name(self, row: Mapping[str, Any]) -> str:
        name = str(row["name"])
        if name in self._steps:
            return name
        named = row.get("template_step")
        if named in self._steps:
            return str(named)
        fits = [n for n in self._steps if name.startswith(n + "_")]
        if not fits:
            raise NotFoundError(f"the template has no step {name}")
        return max(fits, key=len)

    def _ancestors(self) -> Set[str]:
        found: Set[str] = set()
        todo = list(self.template_step.get("depends_on") or ())
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo.extend(self._steps.get(name, {}).get("depends_on") or ())
        return found

    def step(self) -> Data:
        """The step as ``step.execute`` brings it."""
        task, row, definition = self.task, self.row, self.template_step
        ancestors = self._ancestors()
        done: Data = {
            r["name"]: r.get("result")
            for r in self._rows
            if r["state"] in ("complete", "resolved_manually") and self._template_name(r) in ancestors
        }
        attempts = int(row.get("attempts") or 0)
        step: Data = {
            "step_uuid": row["step_uuid"],
            "task_uuid": task["task_uuid"],
            "attempt": max(attempts, 1),
            "max_attempts": row.get("max_attempts") or definition.get("max_attempts") or 3,
            "retryable": definition.get("retryable", True),
            "namespace": task["namespace"],
            "template": task["name"],
            "version": task["version"],
            "step": row["name"],
            "template_step": definition["name"],
            "handler": dict(definition.get("handler") or {}),
            "context": task.get("context") or {},
            "dependencies": done,
            "dependencies_partial": False,
            "priority": task.get("priority") or 0,
            "correlation_id": task.get("correlation_id"),
            "parent_correlation_id": task.get("parent_correlation_id"),
        }
        for name in ("inputs", "checkpoint"):
            if row.get(name) is not None:
                step[name] = row[name]
        return step

    def recorded(self) -> Data:
        """What became of the step."""
        keys = ("state", "attempts", "result", "error")
        return {k: self.row.get(k) for k in keys if self.row.get(k) is not None}


def _task(client: TaskerClient, uuid: str, step: Optional[str]) -> Data:
    """A step's uuid is its task's with the step's number in the last six digits."""
    if step is None and not uuid.endswith("000000"):
        uuid = uuid[:-6] + "000000"
    return dict(client.request("task.get", {"task_uuid": uuid, "steps": True}))


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
    context = StepContext._from_step(recording.step(), ReplayHost(sys.stderr), time.monotonic())
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
    recorded = recording.recorded()
    shown = {
        "step": recording.row["name"],
        "handler": (recording.template_step.get("handler") or {}).get("callable"),
        "recorded": recorded,
        "replayed": replayed,
        "same": result.is_success and replayed.get("result") == recorded.get("result"),
    }
    print(json.dumps(shown, indent=2, ensure_ascii=False, default=repr))
    return 1 if result.error_type == "handler_not_found" else 0

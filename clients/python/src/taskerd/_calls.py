"""Requests as data, shared by the blocking and the asyncio client."""

from __future__ import annotations

import uuid
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Tuple, Union

from ._codec import (
    REQUEST,
    Pack,
    array_header,
    count_items,
    frame,
    pack_checked,
    pack_message,
    plain,
    split_limits,
)
from .client_models import FINISHED_STATES, CreateOutcome, HealthResponse, StepAuditResponse
from .exceptions import ConversionError, InvalidValueError, ProtocolError, TooLargeError

#: Steps of a task that are asked for at a time, so that a large one keeps nobody waiting.
STEPS_PAGE = 1000

#: Requests that may be sent again if the connection broke before the answer.
REPEATABLE = frozenset(
    (
        "doctor",
        "event.list",
        "node.list",
        "ping",
        "queue.list",
        "server.info",
        "task.get",
        "task.history",
        "task.list",
        "task.unwatch",
        "task.wait",
        "task.watch",
        "template.apply",
        "template.get",
        "template.list",
        "template.validate",
        "worker.list",
    )
)

Uuid = Union[str, uuid.UUID]

DEFAULT_TIMEOUT = 30.0
#: Longest time one ``task.wait`` request asks for; longer waits are made of several.
WAIT_SLICE = 60.0
#: ``task.create_many`` requests under way at a time.
BULK_WINDOW = 4


def repeatable(method: str, params: Mapping[str, Any]) -> bool:
    """True if sending the request twice has the effect of sending it once."""
    if method == "task.create":
        return bool(params.get("idempotency_key"))
    return method in REPEATABLE


def without_none(params: Mapping[str, Any]) -> Dict[str, Any]:
    """Absent and nil mean the same; absent is shorter."""
    return {k: v for k, v in params.items() if v is not None}


def request_payload(pack: Pack, ident: int, method: str, params: Mapping[str, Any]) -> bytes:
    """The packed request; InvalidValueError if a value cannot be sent."""
    try:
        return pack_message(pack, (REQUEST, ident, method), params)
    except ConversionError as exc:
        raise InvalidValueError(str(exc), path=exc.path or None) from exc


def check_size(payload: bytes, value: Any, limits: Mapping[str, int]) -> None:
    """Raise TooLargeError for what the daemon would answer by closing the connection."""
    if len(payload) > limits["max_frame"]:
        details = {"limit": "max_frame", "max": limits["max_frame"], "size": len(payload)}
        raise TooLargeError(f"the request takes {len(payload)} bytes", details=details)
    if len(payload) > limits["max_items"] and count_items(value) + 8 > limits["max_items"]:
        details = {"limit": "max_items", "max": limits["max_items"]}
        raise TooLargeError("the request has too many items", details=details)


def task_params(
    name: str,
    namespace: Optional[str],
    context: Optional[Mapping[str, Any]],
    version: Optional[str],
    reason: Optional[str],
    defaults: Mapping[str, Any],
    extra: Mapping[str, Any],
) -> Dict[str, Any]:
    """Params of ``task.create``."""
    params: Dict[str, Any] = {**defaults, **extra}
    params.update(name=name, namespace=namespace, context=context, version=version, reason=reason)
    return without_none(params)


def list_params(
    limit: int, namespace: Optional[str], status: Optional[str], name: Optional[str], cursor: Optional[str]
) -> Dict[str, Any]:
    """Params of ``task.list``."""
    return without_none(
        {"limit": limit, "namespace": namespace, "state": status, "name": name, "cursor": cursor}
    )


class Chunk(NamedTuple):
    """One ``task.create_many``: places of its tasks in the caller's list, and its packed tasks."""

    places: List[int]
    items: List[bytes]
    repeatable: bool

    def payload(self, pack: Pack, ident: int) -> bytes:
        """The packed request."""
        head = b"\x94" + pack(REQUEST) + pack(ident) + pack("task.create_many") + b"\x81" + pack("tasks")
        return b"".join((head, array_header(len(self.items)), *self.items))


class Bulk:
    """Cuts tasks into requests that respect the daemon's limits. What cannot be sent gets its outcome
    here; ``outcomes`` is in the order of the tasks."""

    def __init__(self, pack: Pack, limits: Mapping[str, int], defaults: Mapping[str, Any]) -> None:
        self.outcomes: List[Optional[CreateOutcome]] = []
        self._pack = pack
        self._defaults = defaults
        self._limits = limits
        self._max_bytes, self._max_items = split_limits(limits)

    def chunks(self, tasks: Iterable[Mapping[str, Any]]) -> Iterator[Chunk]:
        """The requests, made as they are asked for."""
        # A frame of fewer bytes than max_items needs no counting of items.
        cap = min(self._max_bytes, self._max_items)
        chunk, size = Chunk([], [], True), 0
        for task in tasks:
            place = len(self.outcomes)
            self.outcomes.append(None)
            try:
                item, keyed = self._item(task)
            except (InvalidValueError, TooLargeError) as exc:
                self.outcomes[place] = CreateOutcome(error=exc)
                continue
            if chunk.items and (size + len(item) > cap or len(chunk.items) >= self._limits["max_bulk"]):
                yield chunk
                chunk, size = Chunk([], [], True), 0
            chunk.places.append(place)
            chunk.items.append(item)
            chunk = chunk._replace(repeatable=chunk.repeatable and keyed)
            size += len(item)
        if chunk.items:
            yield chunk

    def _item(self, task: Mapping[str, Any]) -> Tuple[bytes, bool]:
        params = without_none({**self._defaults, **task})
        try:
            value = plain(params, "")
            item = pack_checked(self._pack, value)
        except ConversionError as exc:
            raise InvalidValueError(str(exc), path=exc.path or None) from exc
        check_size(item, value, {"max_frame": self._max_bytes, "max_items": self._max_items})
        return item, bool(params.get("idempotency_key"))

    def settle(self, chunk: Chunk, answer: Any) -> None:
        """Put the daemon's answer to a chunk in place."""
        results = answer.get("results") if isinstance(answer, dict) else None
        if not isinstance(results, list) or len(results) != len(chunk.places):
            raise ProtocolError("task.create_many was not answered with one result per task")
        for place, result in zip(chunk.places, results):
            self.outcomes[place] = CreateOutcome.from_dict(result)

    def settle_error(self, chunk: Chunk, error: Any) -> None:
        """All tasks of a chunk met the same error."""
        for place in chunk.places:
            self.outcomes[place] = CreateOutcome(error=error)

    def finished(self) -> List[CreateOutcome]:
        """Every outcome, in order."""
        return [o for o in self.outcomes if o is not None]


def wait_ms(left: Optional[float]) -> int:
    """``timeout_ms`` of the next ``task.wait``."""
    return int(1000 * (WAIT_SLICE if left is None else max(0.0, min(left, WAIT_SLICE))))


def first_event(task: Mapping[str, Any]) -> Dict[str, Any]:
    """The event that a watcher gets first: the state the task is in."""
    return {"kind": "task", "state": task.get("state"), "at": task.get("updated_at")}


def ends_watch(event: Mapping[str, Any]) -> bool:
    """True for the last event of a task."""
    return event.get("kind") == "task" and event.get("state") in FINISHED_STATES


def health(info: Mapping[str, Any]) -> HealthResponse:
    """From ``server.info``."""
    database = info.get("database")
    state = database.get("state") if isinstance(database, dict) else None
    return HealthResponse(state in ("up", "ready"), dict(info))


def audit(task_uuid: str, step: str, history: Mapping[str, Any]) -> List[StepAuditResponse]:
    """The attempts of one step (by name or uuid) out of ``task.history``."""
    found = []
    for row in history.get("attempts") or ():
        if step not in (row.get("step_uuid"), row.get("step")):
            continue
        found.append(
            StepAuditResponse(
                workflow_step_uuid=str(row.get("step_uuid") or ""),
                task_uuid=task_uuid,
                step_name=str(row.get("step") or ""),
                attempt=int(row.get("attempt") or 0),
                outcome=str(row.get("outcome") or ""),
                success=row.get("outcome") == "success",
                worker_uuid=row.get("worker_uuid"),
                recorded_at=row.get("recorded_at"),
                execution_time_ms=row.get("execution_ms"),
                result=row.get("result"),
                error=row.get("error"),
                audit_uuid=row.get("audit_uuid"),
            )
        )
    return found


def template_params(
    source: str, filename: Optional[str], strict: bool, replace_unused: bool = False
) -> Dict[str, Any]:
    """Params of ``template.apply`` and ``template.validate``."""
    return without_none(
        {"source": source, "filename": filename, "strict": strict or None, "replace_unused": replace_unused or None}
    )


def request_frame(
    pack: Pack, ident: int, method: str, params: Mapping[str, Any], limits: Mapping[str, int]
) -> bytes:
    """The frame of a request, checked against the daemon's limits."""
    payload = request_payload(pack, ident, method, params)
    check_size(payload, params, limits)
    return frame(payload)



"""What the client returns: frozen dataclasses, made with ``from_dict``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Type, TypeVar

from .exceptions import TaskerdError

__all__ = [
    "FINISHED_STATES",
    "CreateOutcome",
    "HealthResponse",
    "PaginationInfo",
    "StepAuditResponse",
    "StepResponse",
    "TaskListResponse",
    "TaskResponse",
    "WaitResult",
]

#: Task states that nothing leaves.
FINISHED_STATES = frozenset(("complete", "error", "cancelled", "resolved_manually"))

T = TypeVar("T")


def _known(cls: Type[T], data: Mapping[str, Any]) -> T:
    """An instance from the keys that the class has; nil counts as absent."""
    names = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    return cls(**{k: v for k, v in data.items() if k in names and v is not None})


@dataclass(frozen=True)
class StepResponse:
    """One step of a task."""

    step_uuid: str
    name: str = ""
    task_uuid: Optional[str] = None
    state: str = ""
    attempts: int = 0
    max_attempts: int = 0
    depends_on: List[str] = field(default_factory=list)
    handler: Any = None
    created_at: Optional[str] = None
    updated_at: Optional[str] = None
    ready_at: Optional[str] = None
    started_at: Optional[str] = None
    finished_at: Optional[str] = None
    retry_at: Optional[str] = None
    result: Any = None
    error: Optional[Dict[str, Any]] = None
    template_step: Optional[str] = None
    inputs: Optional[Dict[str, Any]] = None
    checkpoint: Optional[Dict[str, Any]] = None
    dependencies_satisfied: bool = False
    total_parents: int = 0
    completed_parents: int = 0

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "StepResponse":
        """From the daemon's map."""
        return _known(cls, data)

    @property
    def current_state(self) -> str:
        """The step's state."""
        return self.state

    @property
    def results(self) -> Any:
        """What the step returned."""
        return self.result

    @property
    def next_retry_at(self) -> Optional[str]:
        """When the next attempt is due, if one waits."""
        return self.retry_at

    @property
    def last_attempted_at(self) -> Optional[str]:
        """When the latest attempt began."""
        return self.started_at

    @property
    def last_failure_at(self) -> Optional[str]:
        """When the latest attempt failed, if it did."""
        return self.finished_at if self.error else None

    @property
    def retry_eligible(self) -> bool:
        """True if attempts are left."""
        return self.attempts < self.max_attempts

    @property
    def ready_for_execution(self) -> bool:
        """True if nothing but a worker is missing."""
        return self.state == "enqueued" or (self.state == "pending" and self.dependencies_satisfied)


@dataclass(frozen=True)
class TaskResponse:
    """One task. Right after ``create_task`` only what the daemon answers is known."""

    task_uuid: str
    name: str = ""
    namespace: str = ""
    version: str = ""
    state: str = ""
    created: Optional[bool] = None
    created_at: Optional[str] = None
    updated_at: Optional[str] = None
    finished_at: Optional[str] = None
    context: Dict[str, Any] = field(default_factory=dict)
    initiator: Optional[str] = None
    source_system: Optional[str] = None
    reason: Optional[str] = None
    priority: int = 0
    tags: List[str] = field(default_factory=list)
    correlation_id: Optional[str] = None
    parent_correlation_id: Optional[str] = None
    total_steps: int = 0
    pending_steps: int = 0
    in_progress_steps: int = 0
    completed_steps: int = 0
    failed_steps: int = 0
    ready_steps: int = 0
    completion_percentage: float = 0.0
    execution_status: str = ""
    recommended_action: Optional[str] = None
    health_status: Optional[str] = None
    missing_handlers: List[str] = field(default_factory=list)
    steps: List[StepResponse] = field(default_factory=list)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "TaskResponse":
        """From the daemon's task object."""
        task = _known(cls, {k: v for k, v in data.items() if k != "steps"})
        rows = data.get("steps") or ()
        steps = [StepResponse.from_dict({"task_uuid": task.task_uuid, **row}) for row in rows]
        return dataclasses.replace(task, steps=_in_task(task, steps))

    @property
    def status(self) -> str:
        """The task's state."""
        return self.state

    @property
    def completed_at(self) -> Optional[str]:
        """When the task finished."""
        return self.finished_at

    @property
    def finished(self) -> bool:
        """True if the task will not change any more."""
        return self.state in FINISHED_STATES

    def step(self, name: str) -> StepResponse:
        """The step of a name; KeyError if there is none."""
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(name)


def _in_task(task: TaskResponse, steps: List[StepResponse]) -> List[StepResponse]:
    """Steps with what follows from their task and the others."""
    done = {s.name for s in steps if s.state in ("complete", "resolved_manually")}
    return [
        dataclasses.replace(
            s,
            created_at=task.created_at,
            updated_at=max(filter(None, (task.created_at, s.ready_at, s.started_at, s.finished_at)), default=None),
            total_parents=len(s.depends_on),
            completed_parents=sum(1 for name in s.depends_on if name in done),
            dependencies_satisfied=all(name in done for name in s.depends_on),
        )
        for s in steps
    ]


@dataclass(frozen=True)
class PaginationInfo:
    """Place of a page in a list. The daemon does not count lists: the totals are known on the last page
    (unless a cursor has led there), and None on others."""

    page: int = 1
    per_page: int = 50
    total_count: Optional[int] = None
    total_pages: Optional[int] = None
    has_next: bool = False
    has_previous: bool = False
    next_cursor: Optional[str] = None


@dataclass(frozen=True)
class TaskListResponse:
    """A page of tasks, newest first, without steps."""

    tasks: List[TaskResponse]
    pagination: PaginationInfo

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], *, limit: int = 50, offset: int = 0, whole: bool = False
    ) -> "TaskListResponse":
        """From the daemon's answer. ``whole``: the list was read from its beginning, not from a cursor."""
        cursor = data.get("next_cursor")
        tasks = [TaskResponse.from_dict(row) for row in data.get("tasks") or ()]
        last = whole and cursor is None and (bool(tasks) or offset == 0)
        total = offset + len(tasks) if last else None
        return cls(
            tasks,
            PaginationInfo(
                page=offset // limit + 1,
                per_page=limit,
                total_count=total,
                total_pages=None if total is None else -(-total // limit),
                has_next=cursor is not None,
                has_previous=offset > 0,
                next_cursor=cursor,
            ),
        )


@dataclass(frozen=True)
class StepAuditResponse:
    """How one attempt of a step went."""

    workflow_step_uuid: str
    task_uuid: str
    step_name: str = ""
    attempt: int = 0
    outcome: str = ""
    success: bool = False
    worker_uuid: Optional[str] = None
    recorded_at: Optional[str] = None
    execution_time_ms: Optional[float] = None
    result: Any = None
    error: Optional[Dict[str, Any]] = None
    audit_uuid: Optional[str] = None
    transition_uuid: Optional[str] = None
    correlation_id: Optional[str] = None
    from_state: str = "in_progress"

    @property
    def to_state(self) -> Optional[str]:
        """The state that the attempt left the step in, where its outcome alone tells."""
        ends = {"success": "complete", "permanent_error": "error", "invalid_result": "error", "cancelled": "cancelled"}
        return ends.get(self.outcome)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "StepAuditResponse":
        """From a map of the fields."""
        return _known(cls, data)


@dataclass(frozen=True)
class HealthResponse:
    """Whether the daemon can do its work."""

    healthy: bool
    info: Dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WaitResult:
    """What ``wait`` saw. ``settled``: nothing moves without an operator; ``finished``: the task is over."""

    task_uuid: str
    state: str
    settled: bool = False
    finished: bool = False

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "WaitResult":
        """From the daemon's answer."""
        return _known(cls, data)


@dataclass(frozen=True)
class CreateOutcome:
    """What became of one task of ``create_tasks``: ``task_uuid``, or ``error``."""

    task_uuid: Optional[str] = None
    created: bool = False
    state: str = ""
    error: Optional[TaskerdError] = None

    @property
    def ok(self) -> bool:
        """True if the task exists."""
        return self.error is None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "CreateOutcome":
        """From one item of the daemon's answer."""
        error = data.get("error")
        if error is not None:
            return cls(error=TaskerdError.from_wire(error))
        return cls(str(data["task_uuid"]), bool(data.get("created")), str(data.get("state") or ""))

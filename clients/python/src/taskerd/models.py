"""The raw data behind a step, as attributes.

Handlers rarely need these; ``StepContext`` has shorter ways to the same values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Optional

__all__ = [
    "DependencyResultsWrapper",
    "HandlerWrapper",
    "StepDefinitionWrapper",
    "StepEvent",
    "TaskSequenceStepWrapper",
    "TaskWrapper",
    "WorkflowStepWrapper",
    "unwrap_result",
]


def unwrap_result(entry: Any) -> Any:
    """The output inside a dependency's envelope; an entry that is no envelope is returned whole."""
    if isinstance(entry, Mapping) and "result" in entry:
        return entry["result"]
    return entry


@dataclass(frozen=True)
class StepEvent:
    """One attempt as it was handed to the worker, in plain data."""

    event_id: str
    task_uuid: str
    step_uuid: str
    correlation_id: str
    task_sequence_step: Dict[str, Any] = field(default_factory=dict)
    task_correlation_id: Optional[str] = None
    parent_correlation_id: Optional[str] = None
    trace_id: Optional[str] = None
    span_id: Optional[str] = None


class _Wrapper:
    """Attribute access to a dict; a missing key reads as None."""

    __slots__ = ("_data",)

    def __init__(self, data: Optional[Mapping[str, Any]] = None) -> None:
        self._data: Mapping[str, Any] = data or {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._data.get(name)

    def get(self, key: str, default: Any = None) -> Any:
        """The raw value of a key."""
        return self._data.get(key, default)

    def to_dict(self) -> Dict[str, Any]:
        """The raw data."""
        return dict(self._data)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self._data)!r})"


class TaskWrapper(_Wrapper):
    """The task: ``task_uuid``, ``context``, ``correlation_id``, ``task_name``, ``namespace_name``, ..."""

    __slots__ = ()

    @property
    def context(self) -> Dict[str, Any]:
        """What the task was created with."""
        return dict(self._data.get("context") or {})

    def get_task_field(self, key: str) -> Any:
        """One value of the task's context."""
        return (self._data.get("context") or {}).get(key)


class WorkflowStepWrapper(_Wrapper):
    """The step: ``name``, ``attempts``, ``max_attempts``, ``inputs``, ``checkpoint``, ..."""

    __slots__ = ()


class HandlerWrapper(_Wrapper):
    """The template's handler: ``callable``, ``handler_method``, ``resolver``, ``initialization``."""

    __slots__ = ()

    @property
    def callable(self) -> str:
        """The handler's name in the template."""
        return str(self._data.get("callable") or "")

    @property
    def handler_method(self) -> Optional[str]:
        """The method to call instead of ``call``, if the template names one."""
        method = self._data.get("method")
        return str(method) if method else None

    @property
    def initialization(self) -> Dict[str, Any]:
        """The template's settings for the handler."""
        return dict(self._data.get("initialization") or {})


class StepDefinitionWrapper(_Wrapper):
    """The step as the template defines it; ``handler`` is a HandlerWrapper."""

    __slots__ = ()

    @property
    def handler(self) -> HandlerWrapper:
        """The template's handler entry."""
        return HandlerWrapper(self._data.get("handler"))


class DependencyResultsWrapper:
    """Results of the steps before this one, by step name."""

    __slots__ = ("_results",)

    def __init__(self, results: Optional[Mapping[str, Any]] = None) -> None:
        self._results: Mapping[str, Any] = results or {}

    def get_result(self, name: str) -> Any:
        """The envelope of a step, None if there is none."""
        return self._results.get(name)

    def get_results(self, name: str) -> Any:
        """The output of a step, None if there is none."""
        return unwrap_result(self._results.get(name))

    def keys(self) -> List[str]:
        """The step names."""
        return list(self._results)

    def __getitem__(self, name: str) -> Any:
        return self._results[name]

    def __contains__(self, name: object) -> bool:
        return name in self._results

    def __iter__(self) -> Iterator[str]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)


class TaskSequenceStepWrapper:
    """Task, step, definition and dependency results of one attempt."""

    __slots__ = ("dependency_results", "step_definition", "task", "workflow_step")

    def __init__(self, data: Mapping[str, Any]) -> None:
        outer = dict(data.get("task") or {})
        inner = outer.pop("task", None) or {}
        self.task = TaskWrapper({**inner, **outer})
        self.workflow_step = WorkflowStepWrapper(data.get("workflow_step"))
        self.step_definition = StepDefinitionWrapper(data.get("step_definition"))
        self.dependency_results = DependencyResultsWrapper(data.get("dependency_results"))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "TaskSequenceStepWrapper":
        """From the plain data of a StepEvent."""
        return cls(data)

    def get_task_field(self, key: str) -> Any:
        """One value of the task's context."""
        return self.task.get_task_field(key)

    def get_dependency_result(self, name: str) -> Any:
        """The output of an earlier step, None if there is none."""
        return self.dependency_results.get_results(name)

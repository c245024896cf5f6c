"""Results of earlier steps as the daemon sends them, and the uuids of those steps."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional

__all__ = ["Dependencies", "fetch_all", "step_numbers", "step_uuid_of"]


class Dependencies(NamedTuple):
    """Results, and the steps' numbers in their task, by the steps' names."""

    results: Dict[str, Any]
    numbers: Dict[str, int]


def step_numbers(page: Mapping[str, Any]) -> Dict[str, int]:
    """``dependency_steps`` are in the order of the names' bytes, which is that of their code points."""
    names, numbers = page.get("dependencies") or {}, page.get("dependency_steps") or []
    return dict(zip(sorted(names), numbers)) if len(names) == len(numbers) else {}


def step_uuid_of(task_uuid: str, number: int) -> str:
    """The uuid of a task's step."""
    return f"{task_uuid[:30]}{number + 1:06x}"


def fetch_all(request: Callable[[str, Dict[str, Any]], Any], step_uuid: str, names: Optional[List[str]]) -> Dependencies:
    """Ask for results, page after page; ``names`` None means all."""
    got = Dependencies({}, {})
    params: Dict[str, Any] = {"step_uuid": step_uuid, **({} if names is None else {"names": names})}
    while True:
        page = request("step.dependencies", params)
        got.results.update(page.get("dependencies") or {})
        got.numbers.update(step_numbers(page))
        if page.get("next_cursor") is None:
            return got
        params = {**params, "cursor": page["next_cursor"]}

"""What the environment says of a process, told without what takes long to import: every worker looks at its start."""

from __future__ import annotations

import os
from typing import Iterator, Optional

#: Names the descriptor by which a process follows the one that has started it as one of several.
LIFELINE = "TASKERD_WORKER_LIFELINE"
_WORKSPACE_MARKERS = ("pyproject.toml", "setup.py", ".git")


def template_place() -> Optional[str]:
    """See ``TemplatePath.find``."""
    named = os.environ.get("TASKER_TEMPLATE_PATH")
    if named:
        if not os.path.exists(named):
            raise FileNotFoundError(f"TASKER_TEMPLATE_PATH: no such directory: {named}")
        return named
    for base in _bases():
        place = os.path.join(base, "config", "tasks")
        if os.path.isdir(place):
            return place
    return None


def _bases() -> Iterator[str]:
    workspace = os.environ.get("WORKSPACE_PATH")
    if workspace:
        yield workspace
    here = os.getcwd()
    yield from _enclosing_workspace(here)
    yield here


def _enclosing_workspace(place: str) -> Iterator[str]:
    while not any(os.path.exists(os.path.join(place, marker)) for marker in _WORKSPACE_MARKERS):
        above = os.path.dirname(place)
        if above == place:
            return
        place = above
    yield place

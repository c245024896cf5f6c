"""Finding template files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import List, Optional

__all__ = ["TemplatePath"]

_SUFFIXES = (".yaml", ".yml", ".json")
_WORKSPACE_MARKERS = ("pyproject.toml", "setup.py", ".git")


class TemplatePath:
    """Where templates lie: ``TASKER_TEMPLATE_PATH``, ``WORKSPACE_PATH/config/tasks``, the same below the
    workspace that encloses the current directory, ``./config/tasks``."""

    @staticmethod
    def find() -> Optional[Path]:
        """The first of these directories that exists. A TASKER_TEMPLATE_PATH that does not is an error."""
        named = os.environ.get("TASKER_TEMPLATE_PATH")
        if named:
            if not Path(named).exists():
                raise FileNotFoundError(f"TASKER_TEMPLATE_PATH: no such directory: {named}")
            return Path(named)
        places = []
        workspace = os.environ.get("WORKSPACE_PATH")
        if workspace:
            places.append(Path(workspace))
        here = Path.cwd()
        enclosing = (d for d in (here, *here.parents) if any((d / m).exists() for m in _WORKSPACE_MARKERS))
        places.extend(list(enclosing)[:1])
        places.append(here)
        return next((p / "config" / "tasks" for p in places if (p / "config" / "tasks").is_dir()), None)

    @staticmethod
    def files(directory: "os.PathLike[str] | str") -> List[Path]:
        """The template files below a directory, sorted; a file stands for itself."""
        root = Path(directory)
        if root.is_file():
            return [root]
        if not root.is_dir():
            raise FileNotFoundError(f"no such directory: {root}")
        return sorted(p for p in root.rglob("*") if p.suffix in _SUFFIXES and p.is_file())

"""Finding template files, and the handlers they name."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Set, Union

from ._environment import template_place
from ._lazy import names_of

__all__ = ["TemplateParser", "TemplatePath"]

# Programs look for it here too.
__getattr__ = names_of(__name__, {"taskerd.handler": "HandlerDiscovery"})

_SUFFIXES = (".yaml", ".yml", ".json")

PathLike = Union[str, "os.PathLike[str]"]


class TemplatePath:
    """Where templates lie: ``TASKER_TEMPLATE_PATH``, ``WORKSPACE_PATH/config/tasks``, the same below the
    workspace that encloses the current directory, ``./config/tasks``."""

    @staticmethod
    def find() -> Optional[Path]:
        """The first of these directories that exists. A TASKER_TEMPLATE_PATH that does not is an error."""
        place = template_place()
        return Path(place) if place is not None else None

    @staticmethod
    def find_template_config_directory() -> Optional[Path]:
        """The same as ``find``; None also for a TASKER_TEMPLATE_PATH that does not exist."""
        try:
            return TemplatePath.find()
        except FileNotFoundError:
            return None

    @staticmethod
    def files(directory: PathLike) -> List[Path]:
        """The template files below a directory, sorted; a file stands for itself."""
        root = Path(directory)
        if root.is_file():
            return [root]
        if not root.is_dir():
            raise FileNotFoundError(f"no such directory: {root}")
        return sorted(p for p in root.rglob("*") if p.suffix in _SUFFIXES and p.is_file())

    @staticmethod
    def discover_template_files(directory: Optional[PathLike] = None) -> List[Path]:
        """The template files below a directory, by default the one that ``find`` finds."""
        where = directory if directory is not None else TemplatePath.find_template_config_directory()
        return TemplatePath.files(where) if where is not None and Path(where).exists() else []


class TemplateParser:
    """Looks into template files without a daemon. Only what concerns handlers is read; whether a template
    is right is for the daemon to say."""

    @staticmethod
    def parse(path: PathLike) -> Dict[str, Any]:
        """A template as a map, with PyYAML if that is installed; without it only files in JSON can be read
        whole, and of YAML no more than ``steps`` with their ``handler.callable`` is in the map."""
        text = Path(path).read_text(encoding="utf-8")
        if Path(path).suffix == ".json":
            loaded = json.loads(text)
        else:
            try:
                import yaml
            except ImportError:
                loaded = _without_yaml(text)
            else:
                loaded = yaml.safe_load(text)
        return loaded if isinstance(loaded, dict) else {}

    @staticmethod
    def callables(template: Mapping[str, Any]) -> List[str]:
        """Every ``handler.callable`` of a template, also those that only some environments have; each once."""
        found: List[str] = []
        _collect(template, found, set())
        return found

    @staticmethod
    def extract_handler_callables(path: PathLike) -> List[str]:
        """The callables of a template file; none if it cannot be read."""
        try:
            return TemplateParser.callables(TemplateParser.parse(path))
        except (OSError, ValueError):
            return []
        except Exception:  # what YAML's own errors are called depends on the library
            return []

    @staticmethod
    def extract_template_metadata(path: PathLike) -> Dict[str, Any]:
        """``name``, ``namespace_name``, ``version``, ``description`` and the callables of a template file."""
        template = TemplateParser.parse(path)
        keys = ("name", "namespace_name", "version", "description")
        return {
            **{k: template.get(k) for k in keys},
            "file_path": str(path),
            "handlers": TemplateParser.callables(template),
        }


def _collect(value: Any, found: List[str], seen: Set[str]) -> None:
    if isinstance(value, Mapping):
        handler = value.get("handler")
        name = handler.get("callable") if isinstance(handler, Mapping) else None
        if isinstance(name, str) and name not in seen:
            seen.add(name)
            found.append(name)
        for item in value.values():
            _collect(item, found, seen)
    elif isinstance(value, list):
        for item in value:
            _collect(item, found, seen)


def _without_yaml(text: str) -> Dict[str, Any]:
    lines = re.findall(r"""^[\s\-{]*(?:handler:\s*\{\s*)?callable:\s*["']?([\w.:]+)""", text, re.M)
    return {"steps": [{"handler": {"callable": name}} for name in lines]}

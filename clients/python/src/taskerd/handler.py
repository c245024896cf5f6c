"""HandlerRegistry: the handlers this process offers, and finding them in modules."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import threading
from types import ModuleType
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Set, Type, Union

from ._imports import ImportFailure, import_tree, log_failure, module_at
from ._environment import template_place
from .registry import (
    ClassLookupResolver,
    ExplicitMappingResolver,
    HandlerDefinition,
    HandlerEntry,
    ResolutionError,
    ResolverChain,
    import_path,
    new_handler,
)
from .step_handler.base import StepHandler, handler_class_of

__all__ = ["HandlerDiscovery", "HandlerRegistry", "StepHandler"]

_log = logging.getLogger("taskerd.handler")


def _note_second(first: Optional[Type[StepHandler]], second: Type[StepHandler]) -> None:
    if first is not None and first is not second:
        _log.warning(
            "two handlers are called %r: in %s and %s; the second is used",
            second.handler_name, first.__module__, second.__module__,
        )  # fmt: skip


class HandlerDiscovery:
    """Finds handlers in modules."""

    @staticmethod
    def load(name: str, failures: Optional[List[ImportFailure]] = None) -> List[ModuleType]:
        """Import a module and everything below it.

        ``name`` is a dotted module name, or the path of a ``.py`` file or of a directory, whose name
        then becomes the top package so that relative imports work; a second of the same name gets another. With ``failures`` modules that
        cannot be imported are put there, and only one that does not exist is an error.
        """
        if os.sep in name or name.endswith(".py") or (os.path.isdir(name) and not _is_importable(name)):
            path = os.path.realpath(name)
            if not os.path.exists(path):
                raise ModuleNotFoundError(f"no such file or directory: {name}", name=name)
            name = module_at(path)
        return list(import_tree(name, failures))

    @staticmethod
    def handlers_in(module: ModuleType, base_class: Optional[type] = None) -> Iterator[Type[StepHandler]]:
        """The handler classes of a module: concrete subclasses of StepHandler, decorated functions."""
        for thing in list(vars(module).values()):
            try:
                found = handler_class_of(thing)
            except Exception:  # a lazy proxy that cannot be looked at yet is no handler
                continue
            if found is None or getattr(found, "__abstractmethods__", None):
                continue
            if base_class is None or issubclass(found, base_class):
                yield found


def _is_importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


class HandlerRegistry:
    """Handlers by name. ``instance()`` is the one that ``Worker.start`` uses."""

    _instance: Optional["HandlerRegistry"] = None
    _instance_lock = threading.Lock()

    def __init__(self) -> None:
        self.resolver_chain = ResolverChain.default()
        self.template_discovery_info: Dict[str, Any] = {"template_path": None, "files": []}
        self._paths: Set[str] = set()
        self._failures: List[ImportFailure] = []
        #: Called after handlers were registered or taken away; a worker that runs offers the others then.
        self.on_change: Optional[Callable[[], None]] = None

    @classmethod
    def instance(cls, skip_bootstrap: bool = False) -> "HandlerRegistry":
        """The registry of the process. On first use modules that are imported already are scanned if
        TASKER_ENV is ``test``, unless ``skip_bootstrap`` is given."""
        with cls._instance_lock:
            if cls._instance is None:
                cls._instance = cls()
                if not skip_bootstrap:
                    cls._instance.bootstrap_handlers()
            return cls._instance

    @classmethod
    def reset_instance(cls) -> None:
        """Forget the registry of the process."""
        with cls._instance_lock:
            cls._instance = None

    @property
    def _explicit(self) -> ExplicitMappingResolver:
        found = self.resolver_chain.get_resolver("explicit_mapping")
        if not isinstance(found, ExplicitMappingResolver):
            raise ResolutionError("the chain has no explicit mapping")
        return found

    def register(self, name: str, handler_class: Type[StepHandler]) -> None:
        """Offer a handler class under a name; another class of that name is replaced."""
        if not (isinstance(handler_class, type) and issubclass(handler_class, StepHandler)):
            raise ValueError(f"{handler_class!r} is not a StepHandler subclass")
        old = self._explicit.entry(name)
        if old is not None and old is not handler_class:
            _log.warning("handler %r: %r replaces %r", name, handler_class, old)
        self._explicit.register(name, handler_class)
        self._changed()

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()

    def unregister(self, name: str) -> bool:
        """Stop offering a name; False if it was not offered."""
        known = self._explicit.unregister(name)
        self._changed()
        return known

    def entry(self, name: str) -> Optional[HandlerEntry]:
        """What is registered under a name, if that decides alone (no resolver comes before it)."""
        first = self.resolver_chain.first_mapping
        return first.entry(name) if first is not None else None

    def resolve(self, spec: Any) -> Optional[StepHandler]:
        """A handler for a name, a HandlerDefinition, a HandlerWrapper or a template's map; None if there is none."""
        try:
            return self.resolver_chain.resolve(HandlerDefinition.of(spec))
        except ResolutionError as exc:
            _log.error("handler %r cannot be resolved: %s", spec, exc)
            return None

    def get_handler_class(self, name: str) -> Optional[Type[StepHandler]]:
        """The class behind a name, None if there is none."""
        entry = self._explicit.entry(name)
        if isinstance(entry, type):
            return entry
        handler = new_handler(entry) if entry is not None else self.resolve(name)
        return None if handler is None else type(handler)

    def is_registered(self, name: str) -> bool:
        """True if a handler is found under the name."""
        return self.resolver_chain.can_resolve(HandlerDefinition(name))

    def list_handlers(self) -> List[str]:
        """The registered names, sorted."""
        return sorted(self._explicit.registered_callables())

    def handler_count(self) -> int:
        """How many names are registered."""
        return len(self._explicit.registered_callables())

    def clear(self) -> None:
        """Forget all registered names."""
        self._explicit.clear()
        self._paths.clear()

    def offered(self, callables: Iterable[str] = ()) -> List[str]:
        """Every name a worker announces: the registered ones, the import paths of their classes and of
        discovered ones, what resolvers know, and those of ``callables`` (from templates) that some
        resolver can serve."""
        names = set(self.resolver_chain.registered_callables()) | self._paths
        for name in self._explicit.registered_callables():
            entry = self._explicit.entry(name)
            path = import_path(entry) if isinstance(entry, type) else None
            if path:
                names.add(path)
        names.update(c for c in callables if self.is_registered(c))
        return sorted(names)

    def discover_handlers(
        self, package: Union[str, ModuleType], base_class: Optional[type] = None
    ) -> int:
        """Import a module with everything below it and register the handlers found. Returns how many.

        A class without ``handler_name`` has no name to register; templates reach it by its import path.
        A module that cannot be imported is logged and kept in ``import_failures``, the others go on;
        only a package that does not exist is an error.
        """
        failures: List[ImportFailure] = []
        if isinstance(package, ModuleType):
            whole = hasattr(package, "__path__")
            modules = list(import_tree(package.__name__, failures)) if whole else [package]
        else:
            modules = HandlerDiscovery.load(package, failures)
        for failure in failures:
            log_failure(failure)
        self._failures.extend(failures)
        found: Dict[str, Type[StepHandler]] = {}
        for module in modules:
            for cls in HandlerDiscovery.handlers_in(module, base_class):
                path = import_path(cls) if not cls.handler_name else None
                if path:
                    self._paths.add(path)
                elif cls.handler_name:
                    _note_second(found.get(cls.handler_name), cls)
                    found[cls.handler_name] = cls
        changed, self.on_change = self.on_change, None  # once for all of them
        try:
            for name, cls in found.items():
                self.register(name, cls)
        finally:
            self.on_change = changed
        self._changed()
        return len(found)

    def _register_path(self, callable_name: str) -> int:
        """Register the class at an import path under its ``handler_name``; 1 if that is new."""
        lookup = self.resolver_chain.get_resolver("class_lookup")
        found = lookup.find(callable_name) if isinstance(lookup, ClassLookupResolver) else None
        if found is None:
            return 0
        self._paths.add(callable_name)
        if not found.handler_name or self._explicit.entry(found.handler_name) is not None:
            return 0
        self.register(found.handler_name, found)
        return 1

    @property
    def import_failures(self) -> List[ImportFailure]:
        """Modules with handlers that could not be imported, be it for discovery or for a template."""
        lookup = self.resolver_chain.get_resolver("class_lookup")
        found = list(lookup.failures.values()) if isinstance(lookup, ClassLookupResolver) else []
        named = {f.module for f in self._failures}
        return [*self._failures, *(f for f in found if f.module not in named)]

    def _bootstrap_templates(self, path: str) -> int:
        from .template_discovery import TemplateParser, TemplatePath

        files = [str(p) for p in TemplatePath.files(path)]
        self.template_discovery_info = {"template_path": path, "files": files}
        return sum(self._register_path(c) for f in files for c in TemplateParser.extract_handler_callables(f))

    def bootstrap_handlers(self) -> int:
        """Look for template files, and in test environments scan the modules imported so far.

        Handlers that the templates name by import path are imported, and registered under their
        ``handler_name`` too. Returns how many handlers were registered.
        """
        try:
            path = template_place()
            count = self._bootstrap_templates(path) if path is not None else 0
        except OSError as exc:
            count = 0
            _log.warning("templates cannot be listed: %s", exc)
        if os.environ.get("TASKER_ENV") != "test":
            return count
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] == __name__.partition(".")[0] or not isinstance(module, ModuleType):
                continue
            for cls in HandlerDiscovery.handlers_in(module):
                if cls.handler_name:
                    self.register(cls.handler_name, cls)
                    count += 1
        return count

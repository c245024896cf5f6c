"""From a template's ``handler`` entry to a handler: definitions, resolvers, the chain."""

from __future__ import annotations

import abc
import re
import sys
from dataclasses import dataclass, field
from typing import Any, Callable, ClassVar, Dict, List, Mapping, Optional, Pattern, Sequence, Type, Union

from ._imports import IMPORT_ERRORS, ImportFailure, import_module, is_absent, log_failure
from ._lazy import names_of
from .context import StepContext
from .exceptions import TaskerError
from .step_handler.base import StepHandler, handler_class_of

__all__ = [
    "BaseResolver",
    "ClassLookupResolver",
    "ExplicitMappingResolver",
    "HandlerDefinition",
    "MethodDispatchWrapper",
    "RegistryResolver",
    "ResolutionError",
    "ResolverChain",
    "ResolverNotFoundError",
    "new_handler",
]

# Programs look for them here too, and their home imports this module.
__getattr__ = names_of(__name__, {"taskerd.handler": "HandlerDiscovery HandlerRegistry"})

#: What may be registered under a name: a class, an instance, or a function that makes a handler.
HandlerEntry = Union[Type[StepHandler], StepHandler, Callable[[], StepHandler]]


class ResolutionError(TaskerError):
    """A handler definition leads to no handler."""


class ResolverNotFoundError(ResolutionError):
    """A template names a resolver that does not exist."""


@dataclass(frozen=True)
class HandlerDefinition:
    """The ``handler`` entry of a template step."""

    callable: str
    handler_method: Optional[str] = None
    resolver: Optional[str] = None
    initialization: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_callable(cls, name: str) -> "HandlerDefinition":
        """A definition with nothing but the name."""
        return cls(name)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "HandlerDefinition":
        """From the template's map, where the method stands under ``method``."""
        return cls(
            callable=str(data.get("callable") or ""),
            handler_method=data.get("method") or None,
            resolver=data.get("resolver") or None,
            initialization=data.get("initialization") or {},
        )

    @classmethod
    def of(cls, spec: Any) -> "HandlerDefinition":
        """From a name, a map, a definition or a HandlerWrapper."""
        if isinstance(spec, HandlerDefinition):
            return spec
        if isinstance(spec, str):
            return cls(spec)
        if isinstance(spec, Mapping):
            return cls.from_dict(spec)
        return cls(spec.callable, spec.handler_method, spec.resolver, spec.initialization or {})

    def effective_method(self) -> str:
        """The method that runs the step."""
        return self.handler_method or "call"

    def uses_method_dispatch(self) -> bool:
        """True if another method than ``call`` runs the step."""
        return self.effective_method() != "call"

    def has_resolver_hint(self) -> bool:
        """True if the template names a resolver."""
        return bool(self.resolver)


class MethodDispatchWrapper(StepHandler):
    """A handler whose ``call`` runs another of its methods."""

    def __init__(self, handler: StepHandler, target_method: str) -> None:
        method = getattr(handler, target_method, None)
        if not callable(method):
            raise ResolutionError(f"{type(handler).__name__} has no method {target_method!r}")
        self.handler = handler
        self.target_method = target_method
        self._method: Callable[[StepContext], Any] = method

    @property
    def name(self) -> str:
        """The wrapped handler's name."""
        return self.handler.name

    @property
    def version(self) -> str:
        """The wrapped handler's version."""
        return self.handler.version

    def call(self, context: StepContext) -> Any:
        """Run the method."""
        return self._method(context)

    def unwrap(self) -> StepHandler:
        """The wrapped handler."""
        return self.handler


def new_handler(entry: HandlerEntry, config: Optional[Mapping[str, Any]] = None) -> StepHandler:
    """A handler to run one attempt with: a new instance of a class, what a factory makes, or the
    registered instance itself."""
    if isinstance(entry, type):
        make: Callable[..., StepHandler] = entry
        try:
            return make()
        except TypeError:
            return make(config=dict(config or {}))
    if isinstance(entry, StepHandler):
        return entry
    made = _made_by(entry, config)
    if not isinstance(made, StepHandler):
        raise ResolutionError(f"{entry!r} made no StepHandler")
    return made


def _made_by(factory: Callable[..., Any], config: Optional[Mapping[str, Any]]) -> Any:
    """A factory takes nothing, or the initialization."""
    try:
        return factory()
    except TypeError:
        return factory(dict(config or {}))


class BaseResolver(abc.ABC):
    """One way to find handlers. Lower ``priority`` is asked first."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """What templates call the resolver in ``handler.resolver``."""

    @property
    @abc.abstractmethod
    def priority(self) -> int:
        """Place in the chain."""

    @abc.abstractmethod
    def can_resolve(self, definition: HandlerDefinition, config: Optional[Mapping[str, Any]] = None) -> bool:
        """True if ``resolve`` would find a handler."""

    @abc.abstractmethod
    def resolve(
        self, definition: HandlerDefinition, config: Optional[Mapping[str, Any]] = None
    ) -> Optional[StepHandler]:
        """The handler for a definition, None if there is none."""

    def registered_callables(self) -> List[str]:
        """Names the resolver knows beforehand."""
        return []


class ExplicitMappingResolver(BaseResolver):
    """Names registered by hand or by discovery."""

    def __init__(self) -> None:
        self._entries: Dict[str, HandlerEntry] = {}

    @property
    def name(self) -> str:
        """``explicit_mapping``."""
        return "explicit_mapping"

    @property
    def priority(self) -> int:
        """10: before all others."""
        return 10

    def register(self, name: str, entry: HandlerEntry) -> None:
        """Add or replace an entry."""
        self._entries[name] = entry

    def unregister(self, name: str) -> bool:
        """Remove an entry; False if there was none."""
        return self._entries.pop(name, None) is not None

    def entry(self, name: str) -> Optional[HandlerEntry]:
        """What is registered under a name."""
        return self._entries.get(name)

    def clear(self) -> None:
        """Remove all entries."""
        self._entries.clear()

    def registered_callables(self) -> List[str]:
        """All names."""
        return list(self._entries)

    def can_resolve(self, definition: HandlerDefinition, config: Optional[Mapping[str, Any]] = None) -> bool:
        """True if the name is registered."""
        return definition.callable in self._entries

    def resolve(
        self, definition: HandlerDefinition, config: Optional[Mapping[str, Any]] = None
    ) -> Optional[StepHandler]:
        """A handler from the entry."""
        entry = self._entries.get(definition.callable)
        return None if entry is None else new_handler(entry, definition.initialization)


class ClassLookupResolver(BaseResolver):
    """Import paths: ``package.module.ClassName``."""

    _PATH = re.compile(r"(?:[A-Za-z_]\w*\.)+[A-Z]\w*\Z")

    def __init__(self) -> None:
        #: Modules that exist and could not be imported, by name.
        self.failures: Dict[str, ImportFailure] = {}

    @property
    def name(self) -> str:
        """``class_lookup``."""
        return "class_lookup"

    @property
    def priority(self) -> int:
        """100: after all others."""
        return 100

    def find(self, path: str) -> Optional[Type[StepHandler]]:
        """The handler class at an import path, None if there is none."""
        if not self._PATH.match(path):
            return None
        module_name, _, class_name = path.rpartition(".")
        module = sys.modules.get(module_name)
        if module is None and module_name not in self.failures:
            try:
                module = import_module(module_name)
            except IMPORT_ERRORS as exc:
                self._failed(module_name, exc)
        if module is None:
            return None
        found = getattr(module, class_name, None)
        return found if isinstance(found, type) and issubclass(found, StepHandler) else None

    def _failed(self, module: str, error: BaseException) -> None:
        """Most names with dots are no import paths at all; a module that exists and is broken is told, once."""
        if not is_absent(module, error):
            self.failures[module] = ImportFailure.of(module, error)
            log_failure(self.failures[module])

    def can_resolve(self, definition: HandlerDefinition, config: Optional[Mapping[str, Any]] = None) -> bool:
        """True if the path leads to a handler class."""
        return self.find(definition.callable) is not None

    def resolve(
        self, definition: HandlerDefinition, config: Optional[Mapping[str, Any]] = None
    ) -> Optional[StepHandler]:
        """A new instance of the class."""
        found = self.find(definition.callable)
        return None if found is None else new_handler(found, definition.initialization)


class RegistryResolver(BaseResolver):
    """Base for resolvers of one's own: set ``prefix`` or ``pattern``, implement ``resolve_handler``."""

    _name: ClassVar[str] = ""
    _priority: ClassVar[int] = 50
    pattern: ClassVar[Optional[Union[str, Pattern[str]]]] = None
    prefix: ClassVar[Optional[str]] = None

    @property
    def name(self) -> str:
        """``_name``, or the class's name."""
        return self._name or type(self).__name__

    @property
    def priority(self) -> int:
        """``_priority``."""
        return self._priority

    def can_resolve(self, definition: HandlerDefinition, config: Optional[Mapping[str, Any]] = None) -> bool:
        """True if the callable has the prefix or matches the pattern."""
        if self.prefix is not None and definition.callable.startswith(self.prefix):
            return True
        return self.pattern is not None and re.search(self.pattern, definition.callable) is not None

    def resolve(
        self, definition: HandlerDefinition, config: Optional[Mapping[str, Any]] = None
    ) -> Optional[StepHandler]:
        """What ``resolve_handler`` finds."""
        return self.resolve_handler(definition, config)

    @abc.abstractmethod
    def resolve_handler(
        self, definition: HandlerDefinition, config: Optional[Mapping[str, Any]] = None
    ) -> Optional[StepHandler]:
        """The handler for a definition that fits."""


class ResolverChain:
    """Resolvers by priority; the first that knows a definition wins."""

    def __init__(self) -> None:
        self._resolvers: List[BaseResolver] = []
        #: The explicit mapping while no other resolver comes before it; the short way for most steps.
        self.first_mapping: Optional[ExplicitMappingResolver] = None

    @classmethod
    def default(cls) -> "ResolverChain":
        """A chain of explicit mapping and class lookup."""
        chain = cls()
        chain.add_resolver(ExplicitMappingResolver())
        chain.add_resolver(ClassLookupResolver())
        return chain

    def add_resolver(self, resolver: BaseResolver) -> None:
        """Add a resolver; one of the same name is replaced."""
        others = [r for r in self._resolvers if r.name != resolver.name]
        self._set(sorted([*others, resolver], key=lambda r: r.priority))

    def remove_resolver(self, name: str) -> bool:
        """Remove a resolver; False if there was none."""
        kept = [r for r in self._resolvers if r.name != name]
        removed = len(kept) < len(self._resolvers)
        self._set(kept)
        return removed

    def _set(self, resolvers: List[BaseResolver]) -> None:
        self._resolvers = resolvers
        first = resolvers[0] if resolvers else None
        self.first_mapping = first if isinstance(first, ExplicitMappingResolver) else None

    def get_resolver(self, name: str) -> Optional[BaseResolver]:
        """The resolver of a name."""
        return next((r for r in self._resolvers if r.name == name), None)

    def list_resolvers(self) -> List[str]:
        """Names, in the order they are asked."""
        return [r.name for r in self._resolvers]

    def chain_info(self) -> List[Dict[str, Any]]:
        """Name, priority and known callables of each resolver."""
        return [
            {"name": r.name, "priority": r.priority, "callables": _known_to(r)}
            for r in self._resolvers
        ]

    @property
    def open_ended(self) -> bool:
        """True if some resolver may know names that it does not list."""
        return any(not isinstance(r, (ExplicitMappingResolver, ClassLookupResolver)) for r in self._resolvers)

    def register(self, name: str, entry: HandlerEntry) -> None:
        """Register a handler with the explicit mapping."""
        explicit = self.get_resolver("explicit_mapping")
        if not isinstance(explicit, ExplicitMappingResolver):
            raise ResolutionError("the chain has no explicit mapping")
        explicit.register(name, entry)

    def registered_callables(self) -> List[str]:
        """Every name known beforehand."""
        return sorted({name for r in self._resolvers for name in _known_to(r)})

    def can_resolve(self, definition: HandlerDefinition, config: Optional[Mapping[str, Any]] = None) -> bool:
        """True if ``resolve`` would find a handler (its method aside)."""
        settings = {} if config is None else config
        try:
            return any(r.can_resolve(definition, settings) for r in self._candidates(definition))
        except ResolverNotFoundError:
            return False

    def resolve(
        self, definition: HandlerDefinition, config: Optional[Mapping[str, Any]] = None
    ) -> Optional[StepHandler]:
        """A handler for one attempt, None if no resolver knows the definition.

        Raises ResolverNotFoundError if the definition names an unknown resolver, ResolutionError if
        the handler lacks the method.
        """
        settings = {} if config is None else config
        for resolver in self._candidates(definition):
            if not resolver.can_resolve(definition, settings):
                continue
            handler = _instance(resolver.resolve(definition, settings), definition)
            if handler is None:
                continue
            if definition.uses_method_dispatch():
                return MethodDispatchWrapper(handler, definition.effective_method())
            return handler
        return None

    def _candidates(self, definition: HandlerDefinition) -> List[BaseResolver]:
        if not definition.resolver:
            return self._resolvers
        named = self.get_resolver(definition.resolver)
        if named is None:
            raise ResolverNotFoundError(f"no resolver {definition.resolver!r}")
        return [named]


def _known_to(resolver: Any) -> Sequence[str]:
    """What a resolver knows beforehand. One that is no BaseResolver need not have a method for it."""
    known: Optional[Callable[[], Sequence[str]]] = getattr(resolver, "registered_callables", None)
    return known() if known else ()


def _instance(found: Any, definition: HandlerDefinition) -> Optional[StepHandler]:
    """A resolver of one's own may give a handler class or a decorated function instead of a handler."""
    if found is None or isinstance(found, StepHandler):
        return found
    cls = handler_class_of(found)
    if cls is None:
        raise ResolutionError(f"{found!r} is no StepHandler")
    return new_handler(cls, definition.initialization)


def import_path(cls: type) -> Optional[str]:
    """The path under which ClassLookupResolver finds a class, None if it would not."""
    if hasattr(cls, "_binding") or cls.__qualname__ != cls.__name__:
        return None
    if cls.__module__ == "taskerd" or cls.__module__.startswith("taskerd."):
        return None
    path = f"{cls.__module__}.{cls.__name__}"
    return path if ClassLookupResolver().find(path) is cls else None

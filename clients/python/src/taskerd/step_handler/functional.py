"""Handlers written as functions.

::

    @step_handler("orders.total")
    @depends_on(cart="load_cart")
    @inputs("currency")
    def total(cart, currency, context):
        return {"total": sum(cart["prices"]), "currency": currency}

``step_handler`` must be the outermost decorator; ``depends_on`` and ``inputs`` may be repeated. The
function stays callable as written; the handler class is its attribute ``_handler_class``.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, Callable, ClassVar, Dict, List, Mapping, Optional, Tuple, Type, TypeVar, Union

from ..context import StepContext
from ..results import StepHandlerResult, failure_from_exception, result_from_value
from .base import StepHandler

__all__ = ["FunctionalHandler", "HandlerDecorator", "depends_on", "inputs", "step_handler"]

F = TypeVar("F", bound=Callable[..., Any])

#: What ``step_handler(...)`` returns.
HandlerDecorator = Callable[[F], F]

_DEPENDS = "_taskerd_depends_on"
_INPUTS = "_taskerd_inputs"


class _Binding:
    """Which arguments a function gets, settled when it is decorated."""

    __slots__ = ("context_name", "dependencies", "function", "keys", "model")

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        names = inspect.signature(function).parameters
        self.context_name = next((n for n in ("context", "_context") if n in names), None)
        self.dependencies: List[Tuple[str, str, Any]] = list(getattr(function, _DEPENDS, ()))
        declared: List[Any] = list(getattr(function, _INPUTS, ()))
        self.keys: List[str] = [d for d in declared if isinstance(d, str)]
        self.model: Any = next((d for d in declared if not isinstance(d, str)), None)

    def arguments(self, context: StepContext) -> Dict[str, Any]:
        """The keyword arguments for one attempt."""
        out: Dict[str, Any] = {}
        for param, step, model in self.dependencies:
            value = context.get_dependency_result(step)
            if model is not None and isinstance(value, dict):
                value = _build(model, value)
            out[param] = value
        if self.keys:
            data = context.input_data
            for key in self.keys:
                out[key] = data.get(key)
        if self.model is not None:
            out["inputs"] = _build(self.model, _model_input(self.model, context.input_data))
        if self.context_name is not None:
            out[self.context_name] = context
        return out


class FunctionalHandler(StepHandler):
    """Base of the classes that the decorators make."""

    _binding: ClassVar[_Binding]

    def call(self, context: StepContext) -> Any:
        """Run the function; exceptions come back as failures."""
        binding = self._binding
        try:
            return result_from_value(binding.function(**binding.arguments(context)))
        except Exception as exc:
            return failure_from_exception(exc)


class _AsyncFunctionalHandler(FunctionalHandler):
    async def call(self, context: StepContext) -> StepHandlerResult:
        binding = self._binding
        try:
            return result_from_value(await binding.function(**binding.arguments(context)))
        except Exception as exc:
            return failure_from_exception(exc)


def step_handler(name: str, version: str = "1.0.0") -> Callable[[F], F]:
    """Make a function the handler ``name``."""
    if not isinstance(name, str) or not name:
        raise TypeError('step_handler needs the handler\'s name: @step_handler("my_handler")')

    def decorate(function: F) -> F:
        base = _AsyncFunctionalHandler if inspect.iscoroutinefunction(function) else FunctionalHandler
        title = "".join(part.capitalize() for part in function.__name__.split("_")) or "Function"
        members = {
            "handler_name": name,
            "handler_version": version,
            "_binding": _Binding(function),
            "__module__": function.__module__,
            "__doc__": function.__doc__,
        }
        function._handler_class = type(f"{title}Handler", (base,), members)  # type: ignore[attr-defined]
        return function

    return decorate


def depends_on(**steps: Union[str, Tuple[str, Any]]) -> Callable[[F], F]:
    """Pass results of earlier steps as arguments: ``depends_on(cart="load_cart")``.

    With a pair of name and model a dict result is made into the model.
    """
    found: List[Tuple[str, str, Any]] = []
    for param, spec in steps.items():
        if isinstance(spec, str):
            found.append((param, spec, None))
        elif isinstance(spec, tuple) and len(spec) == 2 and isinstance(spec[0], str):
            found.append((param, spec[0], spec[1]))
        else:
            raise TypeError(f"depends_on({param}=...) takes a step name or (step name, model)")

    def decorate(function: F) -> F:
        setattr(function, _DEPENDS, found + list(getattr(function, _DEPENDS, ())))
        return function

    return decorate


def inputs(*names: Any) -> Callable[[F], F]:
    """Pass values of the task's context as arguments: names, or one model as the argument ``inputs``.

    A model's fields that the context lacks get their default; those without one get None.
    """
    for name in names:
        if not isinstance(name, str) and not _is_model(name):
            raise TypeError("inputs() takes names, or one Pydantic model or dataclass")

    def decorate(function: F) -> F:
        setattr(function, _INPUTS, list(names) + list(getattr(function, _INPUTS, ())))
        return function

    return decorate


def _is_model(model: Any) -> bool:
    return isinstance(model, type) and (
        callable(getattr(model, "model_validate", None)) or dataclasses.is_dataclass(model)
    )


def _build(model: Any, value: Mapping[str, Any]) -> Any:
    """An instance of a Pydantic model or dataclass; a dataclass takes the fields it knows."""
    validate = getattr(model, "model_validate", None)
    if callable(validate):
        return validate(value)
    known = {f.name for f in dataclasses.fields(model) if f.init}
    return model(**{k: v for k, v in value.items() if k in known})


def _model_input(model: Any, data: Mapping[str, Any]) -> Dict[str, Any]:
    out: Dict[str, Any] = {}
    for name, key, required in _model_fields(model):
        if key in data:
            out[key] = data[key]
        elif name in data:
            out[name] = data[name]
        elif required:
            out[key] = None
    return out


def _model_fields(model: Any) -> List[Tuple[str, str, bool]]:
    """(name, key in the data, whether it has no default) of each field."""
    fields: Optional[Mapping[str, Any]] = getattr(model, "model_fields", None)
    if fields is not None:
        return [
            (n, f.alias if isinstance(getattr(f, "alias", None), str) else n, bool(f.is_required()))
            for n, f in fields.items()
        ]
    missing = dataclasses.MISSING
    return [
        (f.name, f.name, f.default is missing and f.default_factory is missing)
        for f in dataclasses.fields(model)
        if f.init
    ]


def handler_class_of(thing: Any) -> Optional[Type[StepHandler]]:
    """The handler class behind a decorated function or a handler class; None for anything else."""
    made = getattr(thing, "_handler_class", None)
    candidate = made if made is not None and not isinstance(thing, type) else thing
    if isinstance(candidate, type) and issubclass(candidate, StepHandler):
        return candidate
    return None

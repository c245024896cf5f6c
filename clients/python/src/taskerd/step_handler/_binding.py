"""Which arguments a handler function gets."""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import inspect
import typing
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from ..context import StepContext

DEPENDS = "_taskerd_depends_on"
INPUTS = "_taskerd_inputs"


class Binding:
    """Which arguments a function gets, settled when it is decorated."""

    __slots__ = ("context_name", "dependencies", "function", "keys", "model", "names")

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.names = frozenset(inspect.signature(function).parameters)
        self.context_name = next((n for n in ("context", "_context") if n in self.names), None)
        self.dependencies: List[Tuple[str, str, Any]] = list(getattr(function, DEPENDS, ()))
        declared: List[Any] = list(getattr(function, INPUTS, ()))
        self.keys: List[str] = [d for d in declared if isinstance(d, str)]
        self.model: Any = next((d for d in declared if not isinstance(d, str)), None)

    def takes(self, name: str) -> bool:
        """True if the function has a parameter of the name."""
        return name in self.names

    def misfit(self, arguments: Mapping[str, Any]) -> Optional[str]:
        """What is wrong if the function does not take these."""
        try:
            inspect.signature(self.function).bind(**arguments)
        except TypeError as exc:
            code = getattr(inspect.unwrap(self.function), "__code__", None)
            where = f" ({code.co_filename}:{code.co_firstlineno})" if code else ""
            hint = "; a model of @inputs comes as the argument 'inputs'" if self.model is not None and "inputs" not in self.names else ""
            called = getattr(self.function, "__name__", "the function")
            return f"{called}{where}: {exc}. Its decorators give it: {', '.join(arguments) or 'nothing'}{hint}"
        return None

    def missing(self, context: StepContext) -> List[str]:
        """The steps of ``depends_on`` of which there is no result."""
        return [step for _, step, _ in self.dependencies if context.get_dependency_result(step) is None]

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


def is_model(model: Any) -> bool:
    """True for a Pydantic model's class and a dataclass."""
    return isinstance(model, type) and (
        callable(getattr(model, "model_validate", None)) or dataclasses.is_dataclass(model)
    )


def _build(model: Any, value: Mapping[str, Any]) -> Any:
    """An instance of a Pydantic model or dataclass; a dataclass takes the fields it knows."""
    validate = getattr(model, "model_validate", None)
    if callable(validate):
        return validate(value)
    known = {f.name for f in dataclasses.fields(model) if f.init}
    hints = _hints(model)
    return model(**{k: _nested(hints.get(k), v) for k, v in value.items() if k in known})


@functools.lru_cache(maxsize=None)
def _hints(model: Any) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(model)
    except Exception:  # names that exist only for type checkers
        return {}


def _nested(hint: Any, value: Any) -> Any:
    """A value of a dataclass's field: maps become the models that the type names, also inside of Optional,
    lists and maps. Nothing else is converted."""
    if not isinstance(value, (dict, list)):
        return value
    if isinstance(value, dict) and is_model(hint):
        return _build(hint, value)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (list, collections.abc.Sequence) and isinstance(value, list):
        return [_nested(arguments[0], v) for v in value]
    if origin in (dict, collections.abc.Mapping) and isinstance(value, dict):
        return {k: _nested(arguments[1], v) for k, v in value.items()}
    for argument in arguments if origin is not list and origin is not dict else ():
        made = _nested(argument, value)
        if made is not value:
            return made
    return value


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

"""Dataclasses that handlers may use like models: from and to plain maps."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, Callable, ClassVar, Dict, Mapping, Optional, Type, TypeVar

from ._codec import to_json_value

M = TypeVar("M", bound="Model")
P = TypeVar("P", bound="PydanticMethods")


class PydanticMethods:
    """The methods of Pydantic's models that follow from ``model_dump`` and ``model_validate``."""

    __slots__ = ()

    model_dump: Callable[..., Dict[str, Any]]
    model_validate: Callable[..., Any]

    def model_dump_json(self, *, indent: Optional[int] = None, **options: Any) -> str:
        """``model_dump`` as JSON."""
        import json

        options["mode"] = "json"
        return json.dumps(self.model_dump(**options), indent=indent, separators=None if indent else (",", ":"), ensure_ascii=False)

    @classmethod
    def model_validate_json(cls: Type[P], data: Any) -> P:
        """An instance from JSON."""
        import json

        made: P = cls.model_validate(json.loads(data))
        return made

    def model_copy(self: P, *, update: Optional[Mapping[str, Any]] = None, deep: bool = False) -> P:
        """A copy with some fields changed."""
        made = copy.deepcopy(self) if deep else copy.copy(self)
        for name, value in (update or {}).items():
            setattr(made, name, value)
        return made


def chosen(data: Dict[str, Any], include: Any = None, exclude: Any = None, exclude_none: bool = False) -> Dict[str, Any]:
    """The fields that options of ``model_dump`` leave."""
    return {
        k: v
        for k, v in data.items()
        if (include is None or k in include) and (exclude is None or k not in exclude) and not (exclude_none and v is None)
    }


class Model(PydanticMethods):
    """Base of dataclasses. Unknown keys of a map are ignored; nested models are made where ``_nested`` says so."""

    #: Field name -> (class, whether the field is a list of it).
    _nested: ClassVar[Dict[str, Any]] = {}

    @classmethod
    def from_dict(cls: Type[M], data: Mapping[str, Any]) -> M:
        """An instance from a map; TypeError if a required field is missing."""
        known = {f.name for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
        values = {k: v for k, v in data.items() if k in known}
        for name, (kind, many) in cls._nested.items():
            if many and isinstance(values.get(name), (list, tuple)):
                values[name] = [kind.from_dict(v) if isinstance(v, Mapping) else v for v in values[name]]
            elif not many and isinstance(values.get(name), Mapping):
                values[name] = kind.from_dict(values[name])
        return cls(**values)

    @classmethod
    def model_validate(cls: Type[M], data: Any) -> M:
        """``data`` itself if it is an instance, else ``from_dict``."""
        return data if isinstance(data, cls) else cls.from_dict(data)

    def to_dict(self) -> Dict[str, Any]:
        """The fields as plain data."""
        return self.model_dump()

    def model_dump(
        self, *, include: Any = None, exclude: Any = None, exclude_none: bool = False, **options: Any
    ) -> Dict[str, Any]:
        """The fields as plain data; other options of Pydantic's method are accepted and change nothing."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        return chosen({k: _plain(v) for k, v in fields.items()}, include, exclude, exclude_none)


def _plain(value: Any) -> Any:
    if isinstance(value, Model):
        return value.model_dump()
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return to_json_value(value)

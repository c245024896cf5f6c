"""Dataclasses that handlers may use like models: from and to plain maps."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Dict, Mapping, Type, TypeVar

from ._codec import to_json_value

M = TypeVar("M", bound="Model")


class Model:
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

    def model_dump(self, *, exclude_none: bool = False, **options: Any) -> Dict[str, Any]:
        """The fields as plain data; other options of Pydantic's method are accepted and change nothing."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        plain: Dict[str, Any] = {k: _plain(v) for k, v in fields.items()}
        return {k: v for k, v in plain.items() if v is not None} if exclude_none else plain


def _plain(value: Any) -> Any:
    if isinstance(value, Model):
        return value.model_dump()
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return to_json_value(value)

"""Mixins for handler classes; each goes with StepHandler in either order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._lazy import directory, names_of

if TYPE_CHECKING:
    from .api import APIMixin, ApiResponse
    from .decision import DecisionMixin

__all__ = ["APIMixin", "ApiResponse", "DecisionMixin"]

__getattr__ = names_of(
    __name__,
    {
        ".api": "APIMixin ApiResponse",
        ".decision": "DecisionMixin",
    },
    "api decision",
)
__dir__ = directory(__name__, __all__)

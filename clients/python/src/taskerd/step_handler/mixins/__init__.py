"""Mixins for handler classes; each goes with StepHandler in either order."""

from __future__ import annotations

from .api import APIMixin, ApiResponse
from .decision import DecisionMixin

__all__ = ["APIMixin", "ApiResponse", "DecisionMixin"]

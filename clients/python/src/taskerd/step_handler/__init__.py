"""Handlers: the base class, and functions with decorators."""

from __future__ import annotations

from .base import StepHandler
from .functional import FunctionalHandler, HandlerDecorator, depends_on, inputs, step_handler

__all__ = [
    "FunctionalHandler",
    "HandlerDecorator",
    "StepHandler",
    "depends_on",
    "inputs",
    "step_handler",
]

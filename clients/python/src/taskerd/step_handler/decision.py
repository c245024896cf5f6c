"""DecisionHandler: StepHandler with DecisionMixin."""

from __future__ import annotations

from typing import List

from .base import StepHandler
from .mixins.decision import DecisionMixin

__all__ = ["DecisionHandler"]


class DecisionHandler(DecisionMixin, StepHandler):
    """Base of handlers that decide which steps run."""

    @property
    def capabilities(self) -> List[str]:
        """What the handler can do."""
        return ["process", "decision", "routing"]

"""ApiHandler: StepHandler with APIMixin."""

from __future__ import annotations

from typing import List

from .base import StepHandler
from .mixins.api import APIMixin, ApiResponse

__all__ = ["ApiHandler", "ApiResponse"]


class ApiHandler(APIMixin, StepHandler):
    """Base of handlers that call an HTTP service: set ``base_url``."""

    @property
    def capabilities(self) -> List[str]:
        """What the handler can do."""
        return ["process", "http", "api"]

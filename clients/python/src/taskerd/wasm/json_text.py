"""JSON as a module writes it."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["decode"]


def decode(data: bytes) -> Any:
    """Raises ValueError for what is none, NaN and infinities included."""

    def refuse(text: str) -> Any:
        raise ValueError(f"{text} is not JSON")

    return json.loads(data.decode("utf-8"), parse_constant=refuse)

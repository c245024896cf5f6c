"""Tells retryable exceptions from permanent ones."""

from __future__ import annotations

from typing import Any, Dict, Tuple, Type

__all__ = ["ErrorClassifier", "get_classifier", "is_permanent", "is_retryable"]


class ErrorClassifier:
    """Classifies exceptions: an explicit ``retryable`` attribute wins, then the type decides.

    Programming and value errors are permanent, errors of the operating system and the network are
    retryable, and so is everything unknown.
    """

    PERMANENT: Tuple[Type[BaseException], ...] = (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        NameError,
        NotImplementedError,
        AssertionError,
        ArithmeticError,
        ImportError,
        SyntaxError,
    )
    RETRYABLE: Tuple[Type[BaseException], ...] = (OSError, EOFError, MemoryError)

    def is_retryable(self, error: BaseException) -> bool:
        """True if another attempt may succeed."""
        explicit = getattr(error, "retryable", None)
        if isinstance(explicit, bool):
            return explicit
        if isinstance(error, self.RETRYABLE):
            return True
        return not isinstance(error, self.PERMANENT)

    def is_permanent(self, error: BaseException) -> bool:
        """True if another attempt would fail as well."""
        return not self.is_retryable(error)

    def classify(self, error: BaseException) -> Dict[str, Any]:
        """``{error_type, retryable, classification}`` of an exception."""
        retryable = self.is_retryable(error)
        return {
            "error_type": type(error).__name__,
            "retryable": retryable,
            "classification": "retryable" if retryable else "permanent",
        }


_classifier = ErrorClassifier()


def get_classifier() -> ErrorClassifier:
    """The classifier shared by the process."""
    return _classifier


def is_retryable(error: BaseException) -> bool:
    """True if another attempt may succeed."""
    return _classifier.is_retryable(error)


def is_permanent(error: BaseException) -> bool:
    """True if another attempt would fail as well."""
    return _classifier.is_permanent(error)

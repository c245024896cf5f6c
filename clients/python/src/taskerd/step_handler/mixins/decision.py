"""DecisionMixin: which steps a task gets is decided while it runs."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Mapping, Optional, Union

from ..._model import Model
from ...results import ErrorType, StepHandlerResult

__all__ = ["DecisionMixin", "DecisionPointOutcome", "DecisionType", "decision_result"]

Data = Dict[str, Any]
Names = Union[str, Iterable[str]]


class DecisionType(str, enum.Enum):
    """The two kinds of outcome."""

    CREATE_STEPS = "create_steps"
    NO_BRANCHES = "no_branches"

    def __str__(self) -> str:
        return self.value


@dataclass
class DecisionPointOutcome(Model):
    """What a decision has decided. Made by ``create_steps`` and ``no_branches``."""

    decision_type: Union[DecisionType, str]
    next_step_names: List[str] = field(default_factory=list)
    dynamic_steps: Optional[List[Data]] = None
    reason: Optional[str] = None
    routing_context: Data = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.decision_type = DecisionType(self.decision_type)

    @classmethod
    def create_steps(
        cls,
        step_names: Names,
        dynamic_steps: Optional[List[Data]] = None,
        routing_context: Optional[Data] = None,
    ) -> "DecisionPointOutcome":
        """These steps shall run. They must depend on the decision in the template."""
        return cls(DecisionType.CREATE_STEPS, _names(step_names), dynamic_steps, None, dict(routing_context or {}))

    @classmethod
    def no_branches(cls, reason: str = "", routing_context: Optional[Data] = None) -> "DecisionPointOutcome":
        """No step behind the decision shall run."""
        return cls(DecisionType.NO_BRANCHES, [], None, reason, dict(routing_context or {}))

    def model_dump(self, **options: Any) -> Data:
        """The fields, and the daemon's names for them: a handler may put this into its result itself."""
        return {**super().model_dump(**options), **self.wire()}

    def wire(self) -> Data:
        """The part of the step's result that the daemon reads."""
        if self.decision_type == DecisionType.NO_BRANCHES:
            return {"type": "no_branches"}
        return {"type": "create_steps", "step_names": list(self.next_step_names)}


def _names(names: Names) -> List[str]:
    return [names] if isinstance(names, str) else list(names)


def decision_result(outcome: DecisionPointOutcome, metadata: Data) -> StepHandlerResult:
    """The result of a decision."""
    result: Data = {"decision_point_outcome": outcome.wire()}
    if outcome.dynamic_steps:
        result["dynamic_steps"] = outcome.dynamic_steps
    if outcome.decision_type == DecisionType.NO_BRANCHES:
        result["reason"] = outcome.reason or ""
    if outcome.routing_context:
        result["routing_context"] = outcome.routing_context
    return StepHandlerResult.success(result, metadata)


class DecisionMixin:
    """Mixin for handlers of ``type: decision`` steps."""

    def _decided(self, outcome: DecisionPointOutcome, metadata: Optional[Mapping[str, Any]]) -> StepHandlerResult:
        name = getattr(self, "name", None) or type(self).__name__
        marks = {"decision_handler": name, "decision_version": getattr(self, "version", "1.0.0")}
        return decision_result(outcome, {**marks, **(metadata or {})})

    def decision_success(
        self,
        steps: Union[Names, DecisionPointOutcome],
        routing_context: Optional[Data] = None,
        metadata: Optional[Data] = None,
    ) -> StepHandlerResult:
        """Have one or several steps created. A ready outcome is taken as well."""
        if isinstance(steps, DecisionPointOutcome):
            return self._decided(steps, metadata)
        return self._decided(DecisionPointOutcome.create_steps(steps, None, routing_context), metadata)

    def route_to_steps(
        self,
        step_names: Names,
        routing_context: Optional[Data] = None,
        metadata: Optional[Data] = None,
    ) -> StepHandlerResult:
        """The same as ``decision_success``."""
        return self.decision_success(step_names, routing_context, metadata)

    def decision_success_with_outcome(
        self, outcome: DecisionPointOutcome, metadata: Optional[Data] = None
    ) -> StepHandlerResult:
        """Have an outcome carried out."""
        return self._decided(outcome, metadata)

    def skip_branches(
        self, reason: str = "", routing_context: Optional[Data] = None, metadata: Optional[Data] = None
    ) -> StepHandlerResult:
        """No step behind the decision shall run."""
        return self._decided(DecisionPointOutcome.no_branches(reason, routing_context), metadata)

    def decision_no_branches(
        self, outcome: Union[DecisionPointOutcome, str] = "", metadata: Optional[Data] = None
    ) -> StepHandlerResult:
        """The same, from an outcome or a reason."""
        if isinstance(outcome, str):
            outcome = DecisionPointOutcome.no_branches(outcome)
        return self._decided(outcome, metadata)

    def decision_failure(
        self,
        message: str,
        error_type: Union[str, ErrorType] = "decision_error",
        retryable: bool = False,
        metadata: Optional[Data] = None,
    ) -> StepHandlerResult:
        """Nothing could be decided."""
        name = getattr(self, "name", None) or type(self).__name__
        marks = {"decision_handler": name, "decision_version": getattr(self, "version", "1.0.0")}
        return StepHandlerResult.failure(message, error_type, retryable, {**marks, **(metadata or {})})

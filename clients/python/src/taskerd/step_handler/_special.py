"""What the decorators of decisions, batches and API handlers make. Most modules of handlers do without, and a worker is to start quickly."""

from __future__ import annotations

from typing import Any, ClassVar, Dict

from ..batch_processing.batchable import Batchable
from ..batch_processing.models import BatchAnalyzerOutcome
from ..context import StepContext
from ..results import StepHandlerResult, result_from_value
from .functional import BatchConfig, Decision, FunctionalHandler
from .mixins.api import APIMixin
from .mixins.decision import DecisionMixin, DecisionPointOutcome


class DecisionFunction(DecisionMixin, FunctionalHandler):
    """A function that decides which steps come into being."""

    def _finish(self, value: Any) -> StepHandlerResult:
        if isinstance(value, Decision):
            return self.decision_success_with_outcome(value.outcome)
        if isinstance(value, DecisionPointOutcome):
            return self.decision_success_with_outcome(value)
        return result_from_value(value)


class AnalyzerFunction(Batchable, FunctionalHandler):
    """A function that divides the work among batch workers."""

    _worker_template: ClassVar[str]

    def _finish(self, value: Any) -> StepHandlerResult:
        if isinstance(value, BatchAnalyzerOutcome):
            return self.batch_analyzer_success(value, worker_template_name=self._worker_template)
        if not isinstance(value, BatchConfig):
            return result_from_value(value)
        ranges = self.create_cursor_ranges(value.total_items, value.batch_size)
        if not ranges:
            return self.no_batches_outcome("empty_dataset", value.metadata)
        return self.batch_analyzer_success(
            worker_template_name=self._worker_template,
            cursor_configs=ranges,
            total_items=value.total_items,
            batch_metadata=value.metadata,
        )


class WorkerFunction(Batchable, FunctionalHandler):
    """A function that does one batch."""

    def _arguments(self, context: StepContext) -> Dict[str, Any]:
        arguments = self._binding.arguments(context)
        if self._binding.takes("batch_context"):
            arguments["batch_context"] = self.get_batch_context(context)
        return arguments


class ApiFunction(APIMixin, FunctionalHandler):
    """A function that is given a client for HTTP."""

    def _arguments(self, context: StepContext) -> Dict[str, Any]:
        arguments = self._binding.arguments(context)
        if self._binding.takes("api"):
            arguments["api"] = self
        return arguments

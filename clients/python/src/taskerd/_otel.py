"""OpenTelemetry: a step's handler runs in a span that continues the task's trace. Only where it is installed."""

from __future__ import annotations

import importlib.util
from typing import Any, Callable, Optional

from .context import StepContext
from .results import StepHandlerResult

__all__ = ["Tracing", "load"]

Run = Callable[[StepContext], StepHandlerResult]


def load() -> Optional["Tracing"]:
    """The tracing of this process; None if OpenTelemetry is not installed."""
    try:
        if importlib.util.find_spec("opentelemetry.trace") is None:
            return None
        return Tracing()
    except ImportError:
        return None


class Tracing:
    """Makes spans with the application's tracer provider."""

    def __init__(self) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._trace: Any = trace
        self._extract: Any = TraceContextTextMapPropagator().extract

    def run(self, context: StepContext, call: Run) -> StepHandlerResult:
        """Run an attempt in its span."""
        step = context._step or {}
        carrier = {key: step[key] for key in ("traceparent", "tracestate") if step.get(key)}
        parent = self._extract(carrier) if carrier else None
        tracer = self._trace.get_tracer("taskerd")
        name = str((step.get("handler") or {}).get("callable") or "step")
        attributes = {
            "taskerd.task_uuid": str(step.get("task_uuid")),
            "taskerd.step_uuid": str(step.get("step_uuid")),
            "taskerd.step": str(step.get("step")),
            "taskerd.namespace": str(step.get("namespace")),
            "taskerd.template": str(step.get("template")),
            "taskerd.attempt": int(step.get("attempt") or 1),
        }
        kind = self._trace.SpanKind.CONSUMER
        with tracer.start_as_current_span(name, context=parent, kind=kind, attributes=attributes) as span:
            result = call(context)
            if not result.is_success:
                status = self._trace.Status(self._trace.StatusCode.ERROR, str(result.error_message))
                span.set_status(status)
            return result

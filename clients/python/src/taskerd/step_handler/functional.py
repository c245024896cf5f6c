"""Handlers written as functions.

::

    @step_handler("orders.total")
    @depends_on(cart="load_cart")
    @inputs("currency")
    def total(cart, currency, context):
        return {"total": sum(cart["prices"]), "currency": currency}

The decorator that names the handler (``step_handler``, ``decision_handler``, ``batch_analyzer``,
``batch_worker``, ``api_handler``) must be the outermost; ``depends_on`` and ``inputs`` may be repeated.
The function stays callable as written; the handler class is its attribute ``_handler_class``.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import (
    TYPE_CHECKING,
    Any,
    Awaitable,
    Callable,
    ClassVar,
    Dict,
    List,
    Mapping,
    Optional,
    Tuple,
    Type,
    TypeVar,
    Union,
)

from ..context import StepContext
from ..results import StepHandlerResult, failure_from_exception, result_from_value
from ._binding import DEPENDS, INPUTS, Binding, is_model
from .base import StepHandler

if TYPE_CHECKING:
    from .mixins.decision import DecisionPointOutcome

__all__ = [
    "BatchConfig",
    "Decision",
    "FunctionalHandler",
    "HandlerDecorator",
    "api_handler",
    "batch_analyzer",
    "batch_worker",
    "decision_handler",
    "depends_on",
    "inputs",
    "step_handler",
]

F = TypeVar("F", bound=Callable[..., Any])

#: What ``step_handler(...)`` and its like return.
HandlerDecorator = Callable[[F], F]


class Decision:
    """What a ``decision_handler`` function returns: ``Decision.route(...)`` or ``Decision.skip(...)``."""

    __slots__ = ("outcome",)

    def __init__(self, outcome: DecisionPointOutcome) -> None:
        self.outcome = outcome

    @classmethod
    def route(cls, steps: Union[str, List[str]], **routing_context: Any) -> "Decision":
        """Have these steps created."""
        from .mixins.decision import DecisionPointOutcome

        return cls(DecisionPointOutcome.create_steps(steps, None, routing_context))

    @classmethod
    def skip(cls, reason: str = "", **routing_context: Any) -> "Decision":
        """Create no step."""
        from .mixins.decision import DecisionPointOutcome

        return cls(DecisionPointOutcome.no_branches(reason, routing_context))

    @property
    def type(self) -> str:
        """``create_steps`` or ``no_branches``."""
        return str(self.outcome.decision_type)

    @property
    def steps(self) -> List[str]:
        """The steps to create."""
        return self.outcome.next_step_names

    @property
    def reason(self) -> Optional[str]:
        """Why no step is created."""
        return self.outcome.reason

    @property
    def routing_context(self) -> Dict[str, Any]:
        """What else was said."""
        return self.outcome.routing_context

    def __repr__(self) -> str:
        return f"<Decision {self.type} {self.steps or self.reason}>"


@dataclass
class BatchConfig:
    """What a ``batch_analyzer`` function returns: how much there is to do, and how much at a time."""

    total_items: int
    batch_size: int
    metadata: Dict[str, Any] = field(default_factory=dict)


class FunctionalHandler(StepHandler):
    """Base of the classes that the decorators make."""

    _binding: ClassVar[Binding]

    def call(self, context: StepContext) -> Any:
        """Run the function; exceptions come back as failures."""
        binding = self._binding
        try:
            value = self._run(binding, self._arguments(context))
            if type(value) is dict:  # the short way
                return StepHandlerResult(True, value)
            if inspect.isawaitable(value):
                return self._later(value, context)
            return self._finish(value)
        except Exception as exc:
            return self._failure(exc, context)

    async def _later(self, value: Awaitable[Any], context: StepContext) -> StepHandlerResult:
        try:
            return self._finish(await value)
        except Exception as exc:
            return self._failure(exc, context)

    def _failure(self, error: Exception, context: StepContext) -> StepHandlerResult:
        """With the results that were not there, if the error is about a None: it was given in their place."""
        failure = failure_from_exception(error)
        if isinstance(error, (AttributeError, TypeError)) and "NoneType" in str(failure.error_message):
            missing = self._binding.missing(context)
            if missing:
                failure.error_message = f"{failure.error_message} (no result of {', '.join(missing)} was there)"
        return failure

    @staticmethod
    def _run(binding: Binding, arguments: Dict[str, Any]) -> Any:
        try:
            return binding.function(**arguments)
        except TypeError:
            wrong = binding.misfit(arguments)
            if wrong is None:
                raise
        raise TypeError(wrong)

    def _arguments(self, context: StepContext) -> Dict[str, Any]:
        return self._binding.arguments(context)

    def _finish(self, value: Any) -> StepHandlerResult:
        return result_from_value(value)


def _handler(
    kind: Type[FunctionalHandler], decorator: str, name: str, version: str, **members: Any
) -> Callable[[F], F]:
    if not isinstance(name, str) or not name:
        raise TypeError(f'{decorator} needs the handler\'s name: @{decorator}("my_handler")')

    def decorate(function: F) -> F:
        called = getattr(function, "__name__", "function")
        title = "".join(part.capitalize() for part in called.split("_")) or "Function"
        body = {
            "handler_name": name,
            "handler_version": version,
            "_binding": Binding(function),
            "__module__": function.__module__,
            "__doc__": function.__doc__,
            **members,
        }
        function._handler_class = type(f"{title}Handler", (kind,), body)  # type: ignore[attr-defined]
        return function

    return decorate


def step_handler(name: str, version: str = "1.0.0") -> Callable[[F], F]:
    """Make a function the handler ``name``."""
    return _handler(FunctionalHandler, "step_handler", name, version)


def decision_handler(name: str, version: str = "1.0.0") -> Callable[[F], F]:
    """Make a function the handler of a decision; it returns a ``Decision``."""
    from ._special import DecisionFunction

    return _handler(DecisionFunction, "decision_handler", name, version)


def batch_analyzer(
    name: str, worker_template: str = "batch_worker", version: str = "1.0.0"
) -> Callable[[F], F]:
    """Make a function the handler of a batchable step; it returns a ``BatchConfig``.

    ``worker_template`` is the template's step that does the work.
    """
    from ._special import AnalyzerFunction

    return _handler(AnalyzerFunction, "batch_analyzer", name, version, _worker_template=worker_template)


def batch_worker(name: str, version: str = "1.0.0", analyzer_step: Optional[str] = None) -> Callable[[F], F]:
    """Make a function the handler of a batch worker; its argument ``batch_context`` is a BatchWorkerContext.

    ``analyzer_step`` is for readers; the template says which step makes the batches.
    """
    from ._special import WorkerFunction

    return _handler(WorkerFunction, "batch_worker", name, version)


def api_handler(
    name: str,
    base_url: str = "",
    version: str = "1.0.0",
    timeout: float = 30.0,
    default_headers: Optional[Mapping[str, str]] = None,
) -> Callable[[F], F]:
    """Make a function a handler that calls an HTTP service; its argument ``api`` has ``get``, ``post``,
    ``api_success``, ``api_failure`` and so on."""
    from ._special import ApiFunction

    return _handler(
        ApiFunction,
        "api_handler",
        name,
        version,
        base_url=base_url,
        default_timeout=timeout,
        default_headers=dict(default_headers or {}),
    )


def depends_on(**steps: Any) -> Callable[[F], F]:
    """Pass results of earlier steps as arguments: ``depends_on(cart="load_cart")``.

    With a pair of name and model a dict result is made into the model; with a model alone the step
    has the argument's name.
    """
    found: List[Tuple[str, str, Any]] = []
    for param, spec in steps.items():
        if isinstance(spec, str):
            found.append((param, spec, None))
        elif isinstance(spec, (tuple, list)) and len(spec) == 2 and isinstance(spec[0], str):
            found.append((param, spec[0], spec[1]))
        elif is_model(spec):
            found.append((param, param, spec))
        else:
            raise TypeError(f"depends_on({param}=...) takes a step name or (step name, model)")

    def decorate(function: F) -> F:
        setattr(function, DEPENDS, found + list(getattr(function, DEPENDS, ())))
        return function

    return decorate


def inputs(*names: Any) -> Callable[[F], F]:
    """Pass values of the task's context as arguments: names, or one model as the argument ``inputs``.

    A model's fields that the context lacks get their default; those without one get None.
    """
    for name in names:
        if not isinstance(name, str) and not is_model(name):
            raise TypeError("inputs() takes names, or one Pydantic model or dataclass")

    def decorate(function: F) -> F:
        setattr(function, INPUTS, list(names) + list(getattr(function, INPUTS, ())))
        return function

    return decorate

"""Python client of taskerd.

Handlers::

    from taskerd.step_handler.functional import step_handler, inputs

    @step_handler("greet")
    @inputs("name")
    def greet(name):
        return {"greeting": f"Hello {name}"}

Run them with ``python -m taskerd worker my_handlers``; create tasks with ``TaskerClient``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._lazy import directory, names_of
from ._version import __version__

if TYPE_CHECKING:
    from . import step_handler
    from ._transport import socket_path
    from .batch_processing import (
        Batchable,
        BatchAggregationScenario,
        BatchAnalyzerOutcome,
        BatchWorkerConfig,
        BatchWorkerContext,
        BatchWorkerOutcome,
        CursorConfig,
    )
    from .bootstrap import (
        bootstrap_worker,
        get_worker_status,
        is_worker_running,
        stop_worker,
        transition_to_graceful_shutdown,
    )
    from .client import TaskerClient
    from .client_models import CreateOutcome
    from .client_models import HealthResponse as ClientHealthResponse
    from .client_models import PaginationInfo as ClientPaginationInfo
    from .client_models import StepAuditResponse as ClientStepAuditResponse
    from .client_models import StepResponse as ClientStepResponse
    from .client_models import TaskListResponse as ClientTaskListResponse
    from .client_models import TaskResponse as ClientTaskResponse
    from .client_models import WaitResult
    from .context import StepContext
    from .domain_events import (
        BasePublisher,
        BaseSubscriber,
        DefaultPublisher,
        DomainEventMetadata,
        EventDeclaration,
        ExecutionResult,
        InProcessDomainEvent,
        InProcessDomainEventPoller,
        PublishContext,
        PublisherRegistry,
        StepEventContext,
        StepResult,
        SubscriberRegistry,
    )
    from .errors import (
        AuthenticationError,
        AuthorizationError,
        BusinessLogicError,
        ConfigurationError,
        ErrorClassifier,
        NetworkError,
        NotFoundError,
        PermanentError,
        RateLimitError,
        ResourceContentionError,
        RetryableError,
        ServiceUnavailableError,
        StepCancelledError,
        get_classifier,
        is_permanent,
        is_retryable,
    )
    from .errors import TimeoutError as StepTimeoutError
    from .errors import ValidationError as StepValidationError
    from .exceptions import (
        ConflictError,
        ConnectionLostError,
        ConversionError,
        DatabaseUnavailableError,
        FFIError,
        InvalidContextError,
        InvalidTemplateError,
        OverloadedError,
        PermissionDeniedError,
        RequestTimeoutError,
        TaskerdError,
        TaskerError,
        TemplateNotFoundError,
        WorkerAlreadyRunningError,
        WorkerBootstrapError,
        WorkerNotInitializedError,
    )
    from .exceptions import NotFoundError as ClientNotFoundError
    from .handler import HandlerDiscovery, HandlerRegistry
    from .logging import LogContext, log_debug, log_error, log_info, log_trace, log_warn
    from .models import (
        DependencyResultsWrapper,
        HandlerWrapper,
        StepDefinitionWrapper,
        TaskSequenceStepWrapper,
        TaskWrapper,
        WorkflowStepWrapper,
    )
    from .observability import (
        HealthCheck,
        WorkerConfig,
        WorkerMetrics,
        get_health_check,
        get_metrics,
        get_worker_config,
    )
    from .registry import (
        BaseResolver,
        ClassLookupResolver,
        ExplicitMappingResolver,
        HandlerDefinition,
        MethodDispatchWrapper,
        RegistryResolver,
        ResolutionError,
        ResolverChain,
        ResolverNotFoundError,
    )
    from .results import ErrorType, StepHandlerResult
    from .step_handler.api import ApiHandler, ApiResponse
    from .step_handler.base import StepHandler
    from .step_handler.decision import DecisionHandler
    from .step_handler.functional import (
        BatchConfig,
        Decision,
        api_handler,
        batch_analyzer,
        batch_worker,
        decision_handler,
        depends_on,
        inputs,
    )
    from .step_handler.mixins.decision import DecisionPointOutcome, DecisionType
    from .template_discovery import TemplateParser, TemplatePath
    from .worker import BootstrapConfig, BootstrapResult, Worker, WorkerState, WorkerStatus
    from .aio import AsyncTaskerClient

class _Version(str):
    """Text that may be called: both ``taskerd.version`` and ``taskerd.version()`` are the version."""

    def __call__(self) -> str:
        return str(self)


#: The version of this library.
version = _Version(__version__)


def get_version() -> str:
    """The version of this library."""
    return __version__


__all__ = [
    "ApiHandler",
    "ApiResponse",
    "AsyncTaskerClient",
    "AuthenticationError",
    "AuthorizationError",
    "BasePublisher",
    "BaseResolver",
    "BaseSubscriber",
    "BatchAggregationScenario",
    "BatchAnalyzerOutcome",
    "BatchConfig",
    "BatchWorkerConfig",
    "BatchWorkerContext",
    "BatchWorkerOutcome",
    "Batchable",
    "BootstrapConfig",
    "BootstrapResult",
    "BusinessLogicError",
    "ClassLookupResolver",
    "ClientHealthResponse",
    "ClientNotFoundError",
    "ClientPaginationInfo",
    "ClientStepAuditResponse",
    "ClientStepResponse",
    "ClientTaskListResponse",
    "ClientTaskResponse",
    "ConfigurationError",
    "ConflictError",
    "ConnectionLostError",
    "ConversionError",
    "CreateOutcome",
    "CursorConfig",
    "DatabaseUnavailableError",
    "Decision",
    "DecisionHandler",
    "DecisionPointOutcome",
    "DecisionType",
    "DefaultPublisher",
    "DependencyResultsWrapper",
    "DomainEventMetadata",
    "ErrorClassifier",
    "ErrorType",
    "EventDeclaration",
    "ExecutionResult",
    "ExplicitMappingResolver",
    "FFIError",
    "HandlerDefinition",
    "HandlerDiscovery",
    "HandlerRegistry",
    "HandlerWrapper",
    "HealthCheck",
    "InProcessDomainEvent",
    "InProcessDomainEventPoller",
    "InvalidContextError",
    "InvalidTemplateError",
    "LogContext",
    "MethodDispatchWrapper",
    "NetworkError",
    "NotFoundError",
    "OverloadedError",
    "PermanentError",
    "PermissionDeniedError",
    "PublishContext",
    "PublisherRegistry",
    "RateLimitError",
    "RegistryResolver",
    "RequestTimeoutError",
    "ResolutionError",
    "ResolverChain",
    "ResolverNotFoundError",
    "ResourceContentionError",
    "RetryableError",
    "ServiceUnavailableError",
    "StepCancelledError",
    "StepContext",
    "StepDefinitionWrapper",
    "StepEventContext",
    "StepHandler",
    "StepHandlerResult",
    "StepResult",
    "StepTimeoutError",
    "StepValidationError",
    "SubscriberRegistry",
    "TaskSequenceStepWrapper",
    "TaskWrapper",
    "TaskerClient",
    "TaskerError",
    "TaskerdError",
    "TemplateNotFoundError",
    "TemplateParser",
    "TemplatePath",
    "WaitResult",
    "Worker",
    "WorkerAlreadyRunningError",
    "WorkerBootstrapError",
    "WorkerConfig",
    "WorkerMetrics",
    "WorkerNotInitializedError",
    "WorkerState",
    "WorkerStatus",
    "WorkflowStepWrapper",
    "__version__",
    "api_handler",
    "batch_analyzer",
    "batch_worker",
    "bootstrap_worker",
    "decision_handler",
    "depends_on",
    "get_classifier",
    "get_health_check",
    "get_metrics",
    "get_version",
    "get_worker_config",
    "get_worker_status",
    "inputs",
    "is_permanent",
    "is_retryable",
    "is_worker_running",
    "log_debug",
    "log_error",
    "log_info",
    "log_trace",
    "log_warn",
    "socket_path",
    "step_handler",
    "stop_worker",
    "transition_to_graceful_shutdown",
    "version",
]

__getattr__ = names_of(
    __name__,
    {
        ".aio": "AsyncTaskerClient",
        "._transport": "socket_path",
        ".batch_processing": (
            "Batchable BatchAggregationScenario BatchAnalyzerOutcome BatchWorkerConfig BatchWorkerContext "
            "BatchWorkerOutcome CursorConfig"
        ),
        ".bootstrap": (
            "bootstrap_worker get_worker_status is_worker_running stop_worker "
            "transition_to_graceful_shutdown"
        ),
        ".client": "TaskerClient",
        ".client_models": (
            "CreateOutcome ClientHealthResponse=HealthResponse ClientPaginationInfo=PaginationInfo "
            "ClientStepAuditResponse=StepAuditResponse ClientStepResponse=StepResponse "
            "ClientTaskListResponse=TaskListResponse ClientTaskResponse=TaskResponse WaitResult"
        ),
        ".context": "StepContext",
        ".domain_events": (
            "BasePublisher BaseSubscriber DefaultPublisher DomainEventMetadata EventDeclaration "
            "ExecutionResult InProcessDomainEvent InProcessDomainEventPoller PublishContext "
            "PublisherRegistry StepEventContext StepResult SubscriberRegistry"
        ),
        ".errors": (
            "AuthenticationError AuthorizationError BusinessLogicError ConfigurationError ErrorClassifier "
            "NetworkError NotFoundError PermanentError RateLimitError ResourceContentionError RetryableError "
            "ServiceUnavailableError StepCancelledError get_classifier is_permanent is_retryable "
            "StepTimeoutError=TimeoutError StepValidationError=ValidationError"
        ),
        ".exceptions": (
            "ConflictError ConnectionLostError ConversionError DatabaseUnavailableError FFIError "
            "InvalidContextError InvalidTemplateError OverloadedError PermissionDeniedError "
            "RequestTimeoutError TaskerdError TaskerError TemplateNotFoundError WorkerAlreadyRunningError "
            "WorkerBootstrapError WorkerNotInitializedError ClientNotFoundError=NotFoundError"
        ),
        ".handler": "HandlerDiscovery HandlerRegistry",
        ".logging": "LogContext log_debug log_error log_info log_trace log_warn",
        ".models": (
            "DependencyResultsWrapper HandlerWrapper StepDefinitionWrapper TaskSequenceStepWrapper "
            "TaskWrapper WorkflowStepWrapper"
        ),
        ".observability": (
            "HealthCheck WorkerConfig WorkerMetrics get_health_check get_metrics get_worker_config"
        ),
        ".registry": (
            "BaseResolver ClassLookupResolver ExplicitMappingResolver HandlerDefinition "
            "MethodDispatchWrapper RegistryResolver ResolutionError ResolverChain ResolverNotFoundError"
        ),
        ".results": "ErrorType StepHandlerResult",
        ".step_handler.api": "ApiHandler ApiResponse",
        ".step_handler.base": "StepHandler",
        ".step_handler.decision": "DecisionHandler",
        ".step_handler.functional": (
            "BatchConfig Decision api_handler batch_analyzer batch_worker decision_handler depends_on inputs"
        ),
        ".step_handler.mixins.decision": "DecisionPointOutcome DecisionType",
        ".template_discovery": "TemplateParser TemplatePath",
        ".worker": "BootstrapConfig BootstrapResult Worker WorkerState WorkerStatus",
    },
    "aio batch_processing bootstrap client client_models context domain_events errors exceptions "
    "handler logging models observability registry results step_handler template_discovery types "
    "worker",
)
__dir__ = directory(__name__, __all__)

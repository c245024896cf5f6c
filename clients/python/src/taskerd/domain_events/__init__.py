"""Domain events: publishers, which run in the worker, and subscribers.

::

    class Charged(BasePublisher):
        publisher_name = "shop.charged"

        def transform_payload(self, ctx):
            return {"amount": ctx.result["amount"]}

    PublisherRegistry.instance().register(Charged())


    class Mail(BaseSubscriber):
        @classmethod
        def subscribes_to(cls):
            return ["payment.*"]

        def handle(self, event):
            print(event["event_name"], event["business_payload"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import directory, names_of

if TYPE_CHECKING:
    from .models import (
        DomainEventMetadata,
        EventDeclaration,
        ExecutionResult,
        InProcessDomainEvent,
        PublishContext,
        StepEventContext,
        StepResult,
    )
    from .poller import EventStream, InProcessDomainEventPoller
    from .publisher import BasePublisher, DefaultPublisher
    from .registry import (
        DuplicatePublisherError,
        PublisherNotFoundError,
        PublisherRegistry,
        RegistryFrozenError,
        SubscriberRegistry,
        ValidationError,
    )
    from .subscriber import BaseSubscriber

__all__ = [
    "BasePublisher",
    "BaseSubscriber",
    "DefaultPublisher",
    "DomainEventMetadata",
    "DuplicatePublisherError",
    "EventDeclaration",
    "EventStream",
    "ExecutionResult",
    "InProcessDomainEvent",
    "InProcessDomainEventPoller",
    "PublishContext",
    "PublisherNotFoundError",
    "PublisherRegistry",
    "RegistryFrozenError",
    "StepEventContext",
    "StepResult",
    "SubscriberRegistry",
    "ValidationError",
]

__getattr__ = names_of(
    __name__,
    {
        ".models": (
            "DomainEventMetadata EventDeclaration ExecutionResult InProcessDomainEvent PublishContext "
            "StepEventContext StepResult"
        ),
        ".poller": "EventStream InProcessDomainEventPoller",
        ".publisher": "BasePublisher DefaultPublisher",
        ".registry": (
            "DuplicatePublisherError PublisherNotFoundError PublisherRegistry RegistryFrozenError "
            "SubscriberRegistry ValidationError"
        ),
        ".subscriber": "BaseSubscriber",
    },
    "collect models poller publisher registry subscriber",
)
__dir__ = directory(__name__, __all__)

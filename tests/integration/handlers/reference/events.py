"""Domain events: a publisher with all hooks, the default one, a subscriber."""
import json
import os

from tasker_core import BasePublisher, BaseSubscriber, StepHandler, StepEventContext
from tasker_core.domain_events import PublisherRegistry, SubscriberRegistry


class Pay(StepHandler):
    handler_name = "events.Pay"

    def call(self, context):
        if context.get_input("fail"):
            return self.failure("declined", error_type="declined", retryable=False)
        return self.success({"amount": context.get_input("amount"), "secret": "card number"}, {"gateway": "g"})


class PaymentPublisher(BasePublisher):
    @property
    def publisher_name(self):
        return "reference.PaymentPublisher"

    def should_publish(self, ctx: StepEventContext) -> bool:
        return (ctx.result or {}).get("amount", 0) > 0

    def transform_payload(self, ctx: StepEventContext):
        return {"amount": ctx.result["amount"], "step": ctx.step_name}

    def additional_metadata(self, ctx: StepEventContext):
        return {"source": "reference", "gateway": (ctx.metadata or {}).get("gateway")}

    def before_publish(self, event_name, payload, metadata):
        return event_name != "payment.vetoed"


class Recorder(BaseSubscriber):
    @classmethod
    def subscribes_to(cls):
        return ["payment.*"]

    def handle(self, event):
        line = json.dumps({"name": event["event_name"], "payload": event["payload"].get("payload"), "step": event["metadata"]["step_name"]}) + "\n"
        with open(os.environ["REFERENCE_EVENTS"], "a", encoding="utf-8") as f:
            f.write(line)


PublisherRegistry.instance().register(PaymentPublisher())
SubscriberRegistry.instance().register(Recorder)

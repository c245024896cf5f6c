"""Handlers that only resolvers of their own find, and a subscriber. What is asked for here is written for the reference: a resolver need not have a base class."""
import os

from taskerd import BaseSubscriber, HandlerRegistry, RegistryResolver, StepHandler
from taskerd.domain_events import SubscriberRegistry


class Payments(StepHandler):
	handler_name = "own.payments"

	def call(self, context):
		return self.success({"did": "call"})

	def refund(self, context):
		return self.success({"did": "refund"})


class Prefixed(RegistryResolver):
	_name = "prefixed"
	prefix = "pay:"

	def resolve_handler(self, definition, config=None):
		return Payments()


class Plain:
	name = "plain"
	priority = 20

	def can_resolve(self, definition, config=None):
		return definition.callable.startswith("own/")

	def resolve(self, definition, config=None):
		return Payments


class Watcher(BaseSubscriber):
	@classmethod
	def subscribes_to(cls):
		return ["stock.*"]

	def handle(self, event):
		with open(os.path.join(os.environ["TASKERD_TEST_GATES"], "stock"), "a", encoding="utf-8") as f:
			f.write(event["metadata"]["namespace"] + "\n")


chain = HandlerRegistry.instance().resolver_chain
chain.add_resolver(Prefixed())
chain.add_resolver(Plain())
chain.register("made", lambda config: Payments() if config == {"a": 1} else None)
SubscriberRegistry.instance().register(Watcher)

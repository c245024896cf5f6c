"""Handlers and publishers for the tests of domain events."""
from taskerd import BasePublisher
from taskerd.domain_events import PublisherRegistry
from taskerd.step_handler.functional import step_handler

from flows import begin


@step_handler("publishers.pay")
def pay(context):
	begin(context)
	return {"amount": 5}


class Doubled(BasePublisher):
	publisher_name = "shop.doubled"

	def transform_payload(self, ctx):
		return {"twice": ctx.result["amount"] * 2}

	def additional_metadata(self, ctx):
		return {"extra": 1}


class Silent(BasePublisher):
	publisher_name = "shop.silent"

	def should_publish(self, ctx):
		return False


class Broken(BasePublisher):
	publisher_name = "shop.broken"

	def transform_payload(self, ctx):
		raise RuntimeError("this publisher is broken")


for made in Doubled, Silent, Broken:
	PublisherRegistry.instance().register(made())

"""Several methods of one class, a resolver of one's own, a constructor with configuration, names by import path."""
from tasker_core import HandlerRegistry, RegistryResolver, StepHandler


class PaymentHandler(StepHandler):
    handler_name = "payments"

    def call(self, context):
        return self.success({"did": "call"})

    def refund(self, context):
        return self.success({"did": "refund", "config": context.step_config})

    async def capture(self, context):
        return self.success({"did": "capture"})


class Configured(StepHandler):
    handler_name = "configured"

    def __init__(self, config=None):
        self.config = config

    def call(self, context):
        return {"unit": (self.config or context.step_config).get("unit")}


class ByPath(StepHandler):
    def call(self, context):
        return self.success({"path": True})


class Prefixed(StepHandler):
    handler_name = "prefixed.base"

    def call(self, context):
        return self.success({"resolved": True})


class PrefixResolver(RegistryResolver):
    _name = "prefix_resolver"
    _priority = 20
    prefix = "prefixed:"

    def resolve_handler(self, definition, config=None):
        return Prefixed()


HandlerRegistry.instance().resolver_chain.add_resolver(PrefixResolver())

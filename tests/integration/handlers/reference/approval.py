"""Decisions: a class with the mixin, a ready-made class, a function, an outcome by hand."""
from tasker_core import DecisionHandler, DecisionPointOutcome, StepHandler, StepHandlerResult
from tasker_core.step_handler.functional import Decision, decision_handler, depends_on, inputs, step_handler
from tasker_core.step_handler.mixins import DecisionMixin


class RouteHandler(DecisionHandler):
    handler_name = "approval.RouteHandler"

    def call(self, context):
        amount = context.get_input("amount")
        if amount is None:
            return self.decision_failure("no amount")
        if amount < 100:
            return self.decision_success(["auto_approve"], routing_context={"tier": "small"})
        return self.decision_success(steps=["manager_approval", "finance_review"], routing_context={"tier": "large"}, metadata={"rule": 2})


class MixedRoute(StepHandler, DecisionMixin):
    handler_name = "approval.MixedRoute"

    def call(self, context):
        if context.get_input("amount") < 100:
            return self.decision_success_with_outcome(DecisionPointOutcome.create_steps(["auto_approve"]))
        return self.skip_branches("nobody is asked", routing_context={"by": "mixin"})


@decision_handler("approval_dsl")
@inputs("amount")
def route(amount):
    return Decision.route(["auto_approve"], tier="dsl") if amount < 100 else Decision.skip("too much", amount=amount)


@step_handler("approval_by_hand")
def by_hand():
    return StepHandlerResult.success({"decision_point_outcome": {"type": "create_steps", "step_names": ["auto_approve"]}})


@step_handler("approval_done")
def done(context):
    return {"by": context.task_sequence_step.workflow_step.name}


@step_handler("approval_finish")
@depends_on(auto="auto_approve", manager="manager_approval", finance="finance_review")
def finish(auto, manager, finance):
    return {"approved_by": [r["by"] for r in (auto, manager, finance) if r]}

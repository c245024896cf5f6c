"""Decisions as handler files write them."""

import asyncio
import unittest

import support  # noqa: F401 - puts the package on the path

from taskerd import DecisionHandler, DecisionPointOutcome, DecisionType, StepContext, StepHandler
from taskerd.errors import PermanentError
from taskerd.step_handler import mixins
from taskerd.step_handler.functional import Decision, decision_handler, inputs


class Route(DecisionHandler):
    handler_name = "route"
    handler_version = "2.0.0"

    def call(self, context):
        return self.decision_success("a")


class Mixed(StepHandler, mixins.DecisionMixin):
    handler_name = "mixed"

    def call(self, context):
        return self.skip_branches("none")


CREATE = {"type": "create_steps", "step_names": ["a"]}
NONE = {"type": "no_branches"}


class Mixin(unittest.TestCase):
    def test_success(self):
        r = Route().call(StepContext())
        self.assertEqual(r.result, {"decision_point_outcome": CREATE})
        self.assertEqual(r.metadata, {"decision_handler": "route", "decision_version": "2.0.0"})
        r = Route().decision_success(["a"], {"amount": 5}, {"m": 1})
        self.assertEqual(r.result, {"decision_point_outcome": CREATE, "routing_context": {"amount": 5}})
        self.assertEqual(r.metadata["m"], 1)
        self.assertEqual(Route().route_to_steps(["a"]).result, {"decision_point_outcome": CREATE})
        self.assertIn("decision", Route().capabilities)

    def test_outcomes(self):
        made = DecisionPointOutcome.create_steps(["a"], dynamic_steps=[{"name": "a"}], routing_context={"k": 1})
        for r in (Mixed().decision_success_with_outcome(made), Mixed().decision_success(made)):
            self.assertEqual(r.result, {
                "decision_point_outcome": CREATE, "dynamic_steps": [{"name": "a"}], "routing_context": {"k": 1},
            })  # fmt: skip
        self.assertEqual((made.decision_type, made.next_step_names), (DecisionType.CREATE_STEPS, ["a"]))
        none = DecisionPointOutcome.no_branches("why")
        self.assertEqual((none.decision_type, none.reason), ("no_branches", "why"))
        for r in (Mixed().decision_no_branches(none), Mixed().decision_no_branches("why"), Mixed().skip_branches("why")):
            self.assertEqual(r.result, {"decision_point_outcome": NONE, "reason": "why"})

    def test_failure(self):
        r = Mixed().decision_failure("cannot")
        self.assertEqual((r.is_success, r.error_type, r.retryable), (False, "decision_error", False))


class Functions(unittest.TestCase):
    def test_route_and_skip(self):
        @decision_handler("pick")
        @inputs("amount")
        def pick(amount):
            if amount is None:
                raise PermanentError("no amount")
            if amount == 0:
                return Decision.skip("nothing to pay", amount=0)
            return Decision.route(["a"], amount=amount)

        call = pick._handler_class().call
        r = call(StepContext(input_data={"amount": 7}))
        self.assertEqual(r.result, {"decision_point_outcome": CREATE, "routing_context": {"amount": 7}})
        self.assertEqual(r.metadata["decision_handler"], "pick")
        r = call(StepContext(input_data={"amount": 0}))
        self.assertEqual(r.result["decision_point_outcome"], NONE)
        self.assertEqual(r.result["reason"], "nothing to pay")
        self.assertEqual(call(StepContext()).error_type, "permanent_error")
        self.assertEqual(pick(5).steps, ["a"])

    def test_async_and_other_values(self):
        @decision_handler("later")
        async def later():
            return Decision.route("a")

        @decision_handler("plain")
        def plain():
            return {"decision_point_outcome": NONE}

        self.assertEqual(asyncio.run(later._handler_class().call(StepContext())).result, {"decision_point_outcome": CREATE})
        self.assertEqual(plain._handler_class().call(StepContext()).result, {"decision_point_outcome": NONE})


if __name__ == "__main__":
    unittest.main()

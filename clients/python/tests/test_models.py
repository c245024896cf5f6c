"""Typed inputs and results with Pydantic, where it is installed."""

import unittest
from typing import List, Optional

import support  # noqa: F401 - puts the package on the path

from taskerd.step_handler.functional import depends_on, inputs, step_handler
from taskerd.testing import run_handler

try:
    import pydantic
except ImportError:
    raise unittest.SkipTest("pydantic is not installed") from None


class Order(pydantic.BaseModel):
    order_id: int
    note: Optional[str] = None
    currency: str = "EUR"
    tags: List[str] = pydantic.Field(default_factory=list, alias="labels")


class Cart(pydantic.BaseModel):
    prices: List[int]


class Total(pydantic.BaseModel):
    total: int
    when: Optional[str] = None


@step_handler("total")
@inputs(Order)
@depends_on(cart=("load_cart", Cart))
def total(inputs: Order, cart: Optional[Cart]):
    assert isinstance(inputs, Order)
    return Total(total=sum(cart.prices) if cart else 0, when=f"{inputs.order_id} {inputs.currency} {inputs.note} {inputs.tags}")


class Models(unittest.TestCase):
    def test_inputs_dependencies_and_results(self):
        result = run_handler(total, {"order_id": 7, "labels": ["a"], "more": 1}, dependencies={"load_cart": {"prices": [3, 4]}})
        self.assertEqual(result.result, {"total": 7, "when": "7 EUR None ['a']"})
        self.assertEqual(run_handler(total, {"order_id": "8"}).result["total"], 0)

    def test_what_does_not_fit_is_a_failure_that_names_the_field(self):
        result = run_handler(total, {})
        self.assertFalse(result.is_success)
        self.assertIn("order_id", result.error_message)
        result = run_handler(total, {"order_id": 1}, dependencies={"load_cart": {"prices": "x"}})
        self.assertIn("prices", result.error_message)


if __name__ == "__main__":
    unittest.main()

"""Small things that handler files rely on, and messages that people read."""

import dataclasses
import os
import socket
import stat
import sys
import tempfile
import textwrap
import unittest
from typing import Dict, List, Optional
from unittest import mock

import support  # noqa: F401 - puts the package on the path

from taskerd import DecisionPointOutcome, HandlerRegistry, StepHandler, TemplateParser, TemplatePath
from taskerd._transport import Complaints, why_not
from taskerd.errors import PermanentError
from taskerd.examples.checkpoint_yield import CheckpointYieldAggregatorHandler, CheckpointYieldWorkerHandler
from taskerd.step_handler.functional import inputs, step_handler
from taskerd.testing import make_context, run_handler

YAML = """
name: order
namespace_name: shop
version: 1.2.0
steps:
  - name: a
    handler:
      callable: bootlib.orders.Charge
      initialization: {unit: EUR}
  - name: b
    handler: {callable: "shop.dsl"}
    type: standard
environments:
  production:
    steps:
      - name: a
        handler:
          callable: 'bootlib.orders.Live'
"""


@dataclasses.dataclass
class Line:
    sku: str
    count: int = 1


@dataclasses.dataclass
class Order:
    first: Line
    lines: List[Line] = dataclasses.field(default_factory=list)
    by_name: Optional[Dict[str, Line]] = None
    free: Optional[dict] = None


class Names(unittest.TestCase):
    def test_where_programs_look_for_them(self):
        import taskerd.registry
        import taskerd.template_discovery

        self.assertIs(taskerd.registry.HandlerRegistry, HandlerRegistry)
        self.assertIs(taskerd.template_discovery.HandlerDiscovery, taskerd.HandlerDiscovery)
        self.assertEqual([taskerd.version, taskerd.version()], [taskerd.__version__] * 2)


class Reasons(unittest.TestCase):
    def test_a_module_that_spoils_packages_does_not_reach_the_worker(self):
        with mock.patch.multiple("msgpack", Packer=None, packb=None, Unpacker=None, unpackb=None), mock.patch.multiple("json", dumps=None, loads=None):
            self.assertEqual(run_handler(step_handler("spoilt")(lambda: {"n": 1})).result, {"n": 1})

    def test_a_handler_that_exits(self):
        result = run_handler(step_handler("exits")(lambda: sys.exit(3)))
        self.assertEqual((result.error_message, result.retryable), ("sys.exit(3) was called", True))


class Functions(unittest.TestCase):
    def test_a_function_that_returns_a_coroutine(self):
        async def later(n):
            if n is None:
                raise PermanentError("no n")
            return {"n": n}

        handler = step_handler("wrapped")(inputs("n")(lambda n: later(n)))
        self.assertEqual(run_handler(handler, {"n": 1}).result, {"n": 1})
        self.assertEqual(run_handler(handler).error_type, "permanent_error")

    def test_nested_dataclasses(self):
        seen = []

        @step_handler("order")
        @inputs(Order)
        def order(inputs):
            seen.append(inputs)
            return inputs

        line = {"sku": "x", "count": 2, "more": 1}
        result = run_handler(order, {"first": line, "lines": [line], "by_name": {"l": line}, "free": {"sku": 1}})
        self.assertEqual(seen, [Order(Line("x", 2), [Line("x", 2)], {"l": Line("x", 2)}, {"sku": 1})])
        self.assertEqual(result.result["lines"][0].count, 2)


class Templates(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.place = place.name
        self.write("config/tasks/order.yaml", YAML)
        self.write("bootlib/__init__.py", "")
        self.write("bootlib/orders.py", """
            from taskerd import StepHandler

            class Charge(StepHandler):
                handler_name = "orders.charge"
                def call(self, context):
                    return self.success({})

            class Live(Charge):
                handler_name = "orders.live"
        """)  # fmt: skip

    def write(self, name, text):
        path = os.path.join(self.place, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(textwrap.dedent(text))

    def test_parser(self):
        path = os.path.join(self.place, "config/tasks/order.yaml")
        wanted = ["bootlib.orders.Charge", "shop.dsl", "bootlib.orders.Live"]
        self.assertEqual(TemplateParser.extract_handler_callables(path), wanted)
        with mock.patch.dict("sys.modules", yaml=None):
            self.assertEqual(TemplateParser.extract_handler_callables(path), wanted)
        self.write("broken.yaml", "a: [")
        self.assertEqual(TemplateParser.extract_handler_callables(os.path.join(self.place, "broken.yaml")), [])
        with mock.patch.dict(os.environ, TASKER_TEMPLATE_PATH=self.place):
            self.assertEqual(len(TemplatePath.discover_template_files()), 2)
        with mock.patch.dict(os.environ, TASKER_TEMPLATE_PATH=self.place + "/nowhere"):
            self.assertIsNone(TemplatePath.find_template_config_directory())

    def test_handlers_that_templates_name_by_import_path_are_found(self):
        self.addCleanup(HandlerRegistry.reset_instance)
        HandlerRegistry.reset_instance()
        env = {"WORKSPACE_PATH": self.place, "TASKER_ENV": "x"}
        with mock.patch.dict(os.environ, env), mock.patch("sys.path", [self.place, *__import__("sys").path]):
            os.environ.pop("TASKER_TEMPLATE_PATH", None)
            registry = HandlerRegistry.instance()
            self.assertEqual(registry.list_handlers(), ["orders.charge", "orders.live"])
            self.assertIn("bootlib.orders.Live", registry.offered())
            self.assertEqual(len(registry.template_discovery_info["files"]), 1)
            self.assertIsInstance(registry.resolve("bootlib.orders.Charge"), StepHandler)


class Names(unittest.TestCase):
    def test_types_has_every_public_name(self):
        from taskerd.types import BatchWorkerConfig, ClientTaskResponse, LogContext

        self.assertEqual((BatchWorkerConfig.__name__, ClientTaskResponse.__name__, LogContext.__name__),
                         ("BatchWorkerConfig", "TaskResponse", "LogContext"))  # fmt: skip
        with self.assertRaises(ImportError):
            from taskerd.types import nothing_such  # noqa: F401

    def test_an_outcome_in_a_result_made_by_hand(self):
        made = DecisionPointOutcome.create_steps(["a"]).model_dump()
        self.assertEqual((made["type"], made["step_names"], made["decision_type"]), ("create_steps", ["a"], "create_steps"))
        self.assertEqual(DecisionPointOutcome.no_branches("r").to_dict()["type"], "no_branches")

    def test_raw_data_has_all_keys(self):
        sequence = make_context(timeout_ms=5000).event.task_sequence_step
        self.assertEqual(sequence["step_definition"]["timeout_seconds"], 5.0)
        self.assertIsNone(sequence["workflow_step"]["results"])


class Words(unittest.TestCase):
    def test_who_may_use_the_socket(self):
        with tempfile.TemporaryDirectory() as place, socket.socket(socket.AF_UNIX) as listener:
            path = os.path.join(place, "s")
            listener.bind(path)
            os.chmod(path, stat.S_IRUSR)
            said = why_not(path, PermissionError(13, "Permission denied"))
        self.assertRegex(said, r"^permission denied: \S+ is for user \w+ and group \w+, this process is user \w+$")
        self.assertEqual(why_not("/nowhere/s", FileNotFoundError(2, "none")), "no socket is there: taskerd is not running, or listens elsewhere")
        self.assertEqual(why_not("/nowhere/s", ConnectionRefusedError(111, "refused")), "nobody listens any more: taskerd has stopped")
        self.assertEqual(why_not("/nowhere/s", OSError(5, "none")), "[Errno 5] none")

    def test_complaints_are_not_repeated_all_the_time(self):
        complaints = Complaints(3600)
        self.assertEqual([complaints.due(), complaints.due()], [True, False])
        complaints.over()
        self.assertTrue(complaints.due())


class Examples(unittest.TestCase):
    def test_checkpoint_yield(self):
        step_inputs = {"cursor": {"batch_id": "001", "start_cursor": 0, "end_cursor": 100, "batch_size": 100}}
        done = run_handler(CheckpointYieldWorkerHandler, step_inputs=step_inputs, to_the_end=True)
        self.assertEqual((done.result["items_processed"], done.result["running_total"]), (100, sum(range(100))))
        total = run_handler(CheckpointYieldAggregatorHandler, dependencies={"checkpoint_yield_batch_001": done.result})
        self.assertEqual(total.result["running_total"], sum(range(100)))
        failed = run_handler(CheckpointYieldWorkerHandler, {"fail_after_items": 3}, step_inputs=step_inputs)
        self.assertTrue(failed.retryable and not failed.is_success)


if __name__ == "__main__":
    unittest.main()

"""Names are imported when they are asked for: all are there, and a worker's start does without the rest."""

import importlib
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import support

PACKAGES = ("taskerd", "taskerd.step_handler", "taskerd.step_handler.mixins", "taskerd.batch_processing", "taskerd.domain_events")

WORKER = """
import sys
import taskerd.__main__
from taskerd import StepContext, StepHandler, StepHandlerResult
print(*sys.modules)
"""


def fresh(code):
    return subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": support.SRC}, stdout=subprocess.PIPE, text=True, check=True).stdout


class Names(unittest.TestCase):
    def test_every_name_is_there(self):
        for package in map(importlib.import_module, PACKAGES):
            for name in package.__all__:
                self.assertTrue(hasattr(package, name), f"{package.__name__}.{name}")
                self.assertIn(name, dir(package))
            with self.assertRaisesRegex(AttributeError, f"module '{package.__name__}' has no attribute 'nonsense'"):
                package.nonsense  # pylint: disable=pointless-statement

    def test_modules_are_attributes(self):
        code = "import taskerd; print(taskerd.errors.PermanentError.__name__, taskerd.domain_events.BasePublisher.__name__, taskerd.step_handler('x').__name__)"
        self.assertEqual(fresh(code).split()[:2], ["PermanentError", "BasePublisher"])

    def test_the_name_of_the_decorator_is_the_package(self):
        code = "from taskerd import step_handler; print(step_handler('x')(lambda: 1)._handler_class.handler_name)"
        self.assertEqual(fresh(code), "x\n")

    def test_a_worker_does_without_what_it_does_not_need(self):
        loaded = set(fresh(WORKER).split())
        self.assertIn("taskerd.worker", loaded)
        spared = {"asyncio", "ssl", "taskerd.client", "taskerd.client_models", "taskerd.domain_events.models", "taskerd.batch_processing.models", "taskerd.step_handler.functional"}
        self.assertEqual(spared & loaded, set())

    def test_a_module_that_sets_up_logging_does_not_silence_the_worker(self):
        with tempfile.TemporaryDirectory() as place:
            Path(place, "loud.py").write_text("import logging.config\nfrom taskerd import log_info\nlogging.config.dictConfig({'version': 1})\n", "utf-8")
            code = f"""
import logging, sys
sys.path.insert(0, {place!r})
logging.getLogger("taskerd.off").disabled = True
from taskerd import HandlerRegistry
HandlerRegistry.instance().discover_handlers("loud")
print(*(logging.getLogger("taskerd." + name).disabled for name in ("handler", "app", "off")))
"""
            self.assertEqual(fresh(code).split(), ["False", "False", "True"])


if __name__ == "__main__":
    unittest.main()

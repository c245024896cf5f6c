"""The package as a whole: its wheel, its types, what its page says."""

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import types
import unittest
import unittest.mock
import zipfile

import support

from taskerd.domain_events import PublisherRegistry, SubscriberRegistry
from taskerd.step_handler.base import handler_class_of
from taskerd.testing import run_handler

PROJECT = os.path.dirname(support.SRC)
ROOT = os.path.dirname(os.path.dirname(PROJECT))
TOOLS = os.path.join(ROOT, "build-test", "python-tools")
#: mypy is fixed, so that a new release of it does not fail old sources; the rest are the optional dependencies.
REQUIREMENTS = ("pip", "mypy==1.11.2", "types-PyYAML", "setuptools", "wheel", "pytest", "msgpack", "pydantic", "httpx", "opentelemetry-api")


def run(*command, cwd=PROJECT, **env):
    return subprocess.run(
        command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **env},
    )  # fmt: skip


@functools.lru_cache(maxsize=None)
def tools():
    """A Python with everything that is optional, kept between runs; skips where pip cannot get it."""
    python = os.path.join(TOOLS, "bin", "python")
    stamp = os.path.join(TOOLS, "complete")
    wanted = "\n".join(REQUIREMENTS)
    if os.path.exists(stamp):
        with open(stamp, encoding="utf-8") as stream:
            if stream.read() == wanted:
                return python
    shutil.rmtree(TOOLS, ignore_errors=True)
    #: The pip of whoever runs this: to make one there first takes as long as all that it installs.
    made = run(sys.executable, "-m", "venv", "--without-pip", TOOLS)
    if made.returncode == 0:
        made = run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile", "--disable-pip-version-check", "--retries", "1", "--timeout", "20", *REQUIREMENTS)
    if made.returncode != 0:
        raise unittest.SkipTest("pip cannot get mypy and the optional dependencies: " + made.stdout[-300:])
    with open(stamp, "w", encoding="utf-8") as stream:
        stream.write(wanted)
    return python


def snippets():
    """(line, text) of each block of Python on the page."""
    with open(os.path.join(PROJECT, "README.md"), encoding="utf-8") as stream:
        text = stream.read()
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.M | re.S)
    return [(text.count("\n", 0, m.start()) + 2, m.group(1)) for m in found]


def needs_a_daemon(text):
    return "TaskerClient(" in text or "Worker.start(" in text or "taskerd_daemon" in text


class Wheel(unittest.TestCase):
    def test_it_builds_and_holds_everything(self):
        python = tools()
        place = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, place)
        source = os.path.join(place, "source")
        shutil.copytree(PROJECT, source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build", ".mypy_cache"))
        made = run(python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
                   "--disable-pip-version-check", "-w", place, source, cwd=place)  # fmt: skip
        self.assertEqual(made.returncode, 0, made.stdout)
        (name,) = [n for n in os.listdir(place) if n.endswith(".whl")]
        self.assertRegex(name, r"^taskerd-[\d.]+-py3-none-any\.whl$")
        with zipfile.ZipFile(os.path.join(place, name)) as wheel:
            held = {n for n in wheel.namelist() if n.startswith("taskerd/")}
            wheel.extractall(os.path.join(place, "installed"))
            entry = next(n for n in wheel.namelist() if n.endswith("entry_points.txt"))
            self.assertIn("pytest_plugin", wheel.read(entry).decode())
        wanted = {
            os.path.relpath(os.path.join(path, f), support.SRC)
            for path, _, files in os.walk(os.path.join(support.SRC, "taskerd"))
            for f in files
            if f.endswith((".py", "py.typed"))
        }
        self.assertEqual(held, wanted)
        code = "import taskerd, taskerd.testing; print(taskerd.__file__)"
        done = run(sys.executable, "-c", code, cwd=place, PYTHONPATH=os.path.join(place, "installed"))
        self.assertIn(place, done.stdout)


class Optional(unittest.TestCase):
    """The tests that need what is not installed everywhere, run where it is."""

    def test_httpx_pydantic_and_opentelemetry(self):
        done = run(tools(), "-W", "error::ResourceWarning", "-m", "unittest", "test_api", "test_models", "test_testing",
                   cwd=os.path.dirname(os.path.abspath(__file__)), PYTHONPATH=support.SRC)  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertNotIn("skipped", done.stdout.splitlines()[-1])

    def test_pytest(self):
        place = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, place)
        with open(os.path.join(place, "test_one.py"), "w", encoding="utf-8") as stream:
            stream.write(PYTEST)
        done = run(tools(), "-m", "pytest", "-q", "-p", "taskerd.testing.pytest_plugin", "-p", "no:cacheprovider", place, cwd=place,
                   PYTHONPATH=support.SRC, PATH="/nonexistent")  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("1 passed, 1 skipped", done.stdout)


PYTEST = """
from taskerd.step_handler.functional import step_handler

@step_handler("a")
def a():
    return {"n": 1}

def test_handler(run_step):
    assert run_step(a).result == {"n": 1}

def test_workflow(taskerd_daemon):
    assert False, "there is no taskerd here"
"""


#: What mypy does not ask of a page's snippets.
SNIPPETS = """
[[tool.mypy.overrides]]
module = MODULES
disable_error_code = ["import-not-found", "import-untyped", "misc", "union-attr", "index"]
implicit_reexport = true
""" + "".join(
    "%s = false\n" % flag for flag in (
        "disallow_any_generics", "disallow_subclassing_any", "disallow_untyped_calls", "disallow_untyped_defs", "disallow_incomplete_defs",
        "disallow_untyped_decorators", "warn_return_any", "warn_unused_ignores", "strict_equality", "extra_checks")
)  # fmt: skip


class Types(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        #: Python's own modules take most of the time: both read them with the same options, so the second has them from the first.
        cls.cache = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.cache)

    def test_the_library_is_strict(self):
        done = run(tools(), "-m", "mypy", "--cache-dir", self.cache)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_the_page_s_snippets_fit_the_library(self):
        python = tools()
        place = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, place)
        for line, text in snippets():
            with open(os.path.join(place, "line_%d.py" % line), "w", encoding="utf-8") as stream:
                stream.write(text)
        config = os.path.join(place, "pyproject.toml")
        shutil.copy(os.path.join(PROJECT, "pyproject.toml"), config)
        with open(config, "a", encoding="utf-8") as stream:
            stream.write(SNIPPETS.replace("MODULES", str(["line_%d" % line for line, _ in snippets()])))
        done = run(python, "-m", "mypy", "--cache-dir", self.cache, "--config-file", config, ".", cwd=place, MYPYPATH=support.SRC)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_every_public_thing_says_what_it_is(self):
        bare = []
        for path, _, files in os.walk(os.path.join(support.SRC, "taskerd")):
            for name in files:
                if name.endswith(".py"):
                    with open(os.path.join(path, name), encoding="utf-8") as stream:
                        bare += undocumented(os.path.relpath(os.path.join(path, name), support.SRC), stream.read())
        self.assertEqual(bare, [])


def undocumented(path, text):
    """Modules and public classes without a docstring."""
    import ast

    tree = ast.parse(text)
    found = [] if ast.get_docstring(tree) or not text.strip() else [path]
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node):
            found.append("%s: %s" % (path, node.name))
    return found


class Page(unittest.TestCase):
    """The blocks run one after the other as one module, ``shop``, but for those that talk to a daemon."""

    @classmethod
    def setUpClass(cls):
        cls.addClassCleanup(PublisherRegistry.reset_instance)
        cls.addClassCleanup(SubscriberRegistry.reset_instance)
        cls.shop = types.ModuleType("shop")
        patched = unittest.mock.patch.dict(sys.modules, shop=cls.shop)
        patched.start()
        cls.addClassCleanup(patched.stop)
        for line, text in snippets():
            code = compile(text, "README.md:%d" % line, "exec")
            if not needs_a_daemon(text):
                exec(code, vars(cls.shop))

    def test_its_tests_pass(self):
        tests = [f for n, f in vars(self.shop).items() if n.startswith("test_")]
        self.assertTrue(tests)
        for test in tests:
            test()

    def test_its_handlers_work(self):
        shop = self.shop
        self.assertEqual(run_handler(shop.load_cart, {"cart_id": 7}).result, {"prices": [3, 4]})
        self.assertTrue(run_handler(shop.charge, dependencies={"load_cart": {}}).retryable)
        self.assertEqual(run_handler(shop.Ship, dependencies={"charge": {"total": 7}}).result, {"shipped": True, "total": 7})
        routed = run_handler(shop.approval, {"amount": 500}).result
        self.assertEqual(routed["decision_point_outcome"]["step_names"], ["manager_approval"])
        self.assertEqual(run_handler(shop.analyze, {"rows": 2500}).result["worker_count"], 3)
        inputs = {"cursor": {"batch_id": "001", "start_cursor": 0, "end_cursor": 250, "batch_size": 250}}
        self.assertEqual(run_handler(shop.Work, step_inputs=inputs, to_the_end=True).result["items_processed"], 250)
        self.assertEqual(run_handler(shop.work_simple, step_inputs=inputs).result, {"items_processed": 250})
        handlers = [h for h in vars(shop).values() if handler_class_of(h) and handler_class_of(h).__module__ == "shop"]
        self.assertGreater(len(handlers), 8)


if __name__ == "__main__":
    unittest.main()

"""`python -m taskerd wasm` against a daemon: modules as handlers, loaded anew while it runs."""
import json
import os
import re
import shutil
import subprocess
import sys
import unittest

import harness
from harness import step, template, wait_for
from taskerd import HandlerRegistry, StepContext
from taskerd.wasm.modules import Modules, register
from test_sandbox import command, writes


def says(text):
    body, data = writes(text)
    return bytes(command(body, data=data))


LOOP = bytes(command("(loop $l (br $l))"))


class Wasm(harness.Case):
    def begin(self, name):
        super().begin(name)
        self.db = self.database()
        self.node = self.daemon(self.db)
        self.dir = os.path.join(self.place, "modules")
        os.makedirs(os.path.join(self.dir, "shop"))

    def put(self, name, code):
        """As a careful program would: the whole file at once."""
        path = os.path.join(self.dir, name + ".wasm")
        with open(path + ".new", "wb") as f:
            f.write(code)
        os.rename(path + ".new", path)

    def argv(self, *options):
        return [sys.executable, "-m", "taskerd", "wasm", "--dir", self.dir, "--socket", self.node.socket, "--reload", "0.02", *options]

    def start(self, *options):
        env = {"PYTHONPATH": harness.PYTHON_CLIENT}
        worker = self.track(harness.Worker("wasm", self.argv(*options), os.path.join(self.place, "wasm.log"), env))
        worker.wait_listed(self.node)
        return worker

    def run_one(self, steps, context=None, name=None):
        name = name or self._name
        self.apply(self.node, template(name, steps))
        return self.finished(self.node, self.create(self.node, name, context))

    def offered(self, worker):
        return (worker.row(self.node) or {}).get("handlers")

    def broken(self, worker):
        return [b["name"] for b in (worker.row(self.node) or {}).get("broken") or ()]

    def asks(self, name, said, then=""):
        """A module that calls a function of taskerd with a text and writes what it returned."""
        text = json.dumps(said)
        data = '(data (i32.const 64) "%s") (data (i32.const 0) "\\d8\\03\\00\\00\\01\\00\\00\\00")' % "".join("\\%02x" % b for b in text.encode())
        body = f"(i32.store8 (i32.const 984) (i32.add (i32.const 48) (call $ask (i32.const 64) (i32.const {len(text)})))) (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32))) {then}"
        return bytes(command(body, f'(import "taskerd" "{name}" (func $ask (param i32 i32) (result i32)))', data=data))

    def test_a_checkpoint_outlives_the_attempt(self):
        """The first attempt stores one and ends with a failure; the next has it."""
        self.put("part", self.asks("checkpoint", {"cursor": 7, "items_processed": 7}, "(call $exit (i32.const 1))"))
        self.start()
        self.apply(self.node, template("part", [step("a", "part", attempts=2)]))
        task = self.create(self.node, "part")
        self.finished(self.node, task)
        shown = self.node.client.request("task.get", {"task_uuid": task, "steps": True})["steps"][0]
        found = self.node.client.request("step.get", {"step_uuid": shown["step_uuid"]})
        self.assertEqual((shown["state"], found["checkpoint"]["cursor"]), ("error", 7))

    def test_what_is_refused_and_taken(self):
        for name, call, said, answer in (("a", "checkpoint", {"items_processed": 1}, 2), ("b", "checkpoint", [1], 2), ("c", "publish", {"name": "shop.other", "payload": 1}, 2),
                                         ("d", "publish", {"name": "shop.paid", "payload": {"sum": 5}}, 0), ("e", "progress", {"percent": 50}, 0)):  # fmt: skip
            self.put("shop/" + name, self.asks(call, said))
            with self.subTest(name):
                self.assertEqual(self.answer("shop." + name, said), answer)

    def answer(self, handler, said):
        registry = HandlerRegistry()
        found = Modules(self.dir)
        found.scan()
        self.assertEqual(found.broken, {})
        register(found, registry, set(found.names()))
        context = StepContext()
        context._step = {"publishes_events": [{"name": "shop.paid"}]}
        result = found.run(handler, context)
        if handler == "shop.d":
            self.assertEqual(context._published, {"shop.paid": {"sum": 5}})
        return result.result["result"]

    def test_an_event_with_the_modules_payload(self):
        self.put("pays", self.asks("publish", {"name": "shop.paid", "payload": {"sum": 5}}))
        self.start()
        event = {"name": "shop.paid", "condition": "success", "delivery_mode": "durable", "schema": True}
        self.apply(self.node, template("pays", [{**step("a", "pays"), "publishes_events": [event]}]))
        self.finished(self.node, self.create(self.node, "pays"))
        messages = self.db.sql("SELECT message FROM pgmq.q_t_domain_events")
        self.assertEqual([json.loads(m[0])["payload"]["payload"] for m in messages], [{"sum": 5}])

    def test_handlers_by_file_name(self):
        self.put("one", says('{"n":1}'))
        self.put("shop/two", says('{"n":2}'))
        worker = self.start()
        task = self.run_one([step("a", "one"), step("b", "shop.two", after=["a"])])
        self.assertEqual([task.step(s).results for s in "ab"], [{"n": 1}, {"n": 2}])
        self.assertEqual(worker.stop(), 0, worker.last_words())

    def test_a_bad_one_harms_only_itself(self):
        self.put("good", says('{"n":1}'))
        self.put("loops", LOOP)
        self.put("traps", bytes(command("unreachable")))
        self.put("hog", bytes(command("(loop $l (drop (memory.grow (i32.const 16))) (br $l))")))
        self.put("garbage", says("no json"))
        self.put("exits", bytes(command("(call $exit (i32.const 2))")))
        self.start("--timeout", "0.3", "--memory", "8", "--threads", "2")
        bad = {"loops": "timeout", "traps": "wasm_trap", "hog": "timeout", "garbage": "invalid_output", "exits": "handler_error"}
        task = self.run_one([*(step(n, n, attempts=2, base_ms=1) for n in bad), *(step("good%d" % i, "good") for i in range(10))])
        self.assertEqual({s.name: s.error["error_type"] for s in task.steps if s.name in bad}, bad)
        self.assertEqual({s.name: s.attempts for s in task.steps if s.name in bad}, {"loops": 2, "traps": 2, "hog": 2, "garbage": 1, "exits": 1})
        self.assertEqual({s.state for s in task.steps if s.name not in bad}, {"complete"})

    def test_loaded_anew(self):
        self.put("one", says('{"n":1}'))
        worker = self.start()
        self.assertEqual(self.run_one([step("a", "one")]).step("a").results, {"n": 1})
        self.put("one", says('{"n":2}'))
        wait_for(lambda: "loaded anew as handler one" in worker.log_text(), "the new version")
        self.assertEqual(self.finished(self.node, self.create(self.node, self._name)).step("a").results, {"n": 2})
        self.put("late", says('{"n":3}'))
        wait_for(lambda: self.offered(worker) == ["late", "one"], "the new handler to be offered")
        self.assertEqual(self.run_one([step("a", "late")], name="late").step("a").results, {"n": 3})
        os.unlink(os.path.join(self.dir, "one.wasm"))
        wait_for(lambda: self.offered(worker) == ["late"], "the old handler to be gone")

    def test_a_broken_module_is_named_and_the_others_go_on(self):
        self.put("one", says('{"n":1}'))
        self.put("broken", b"\0asm nonsense")
        worker = self.start()
        wait_for(lambda: self.broken(worker), "the daemon to know")
        self.assertIn("broken.wasm", self.broken(worker)[0])
        self.assertEqual(self.run_one([step("a", "one")]).step("a").results, {"n": 1})
        self.put("one", b"broken as well")
        wait_for(lambda: len(self.broken(worker)) == 2, "the daemon to know of both")
        self.assertEqual(self.finished(self.node, self.create(self.node, self._name)).step("a").results, {"n": 1}, "the version before goes on")
        self.put("broken", says('{"n":4}'))
        wait_for(lambda: "broken" in (self.offered(worker) or ()), "the mended one to be offered")

    def test_what_runs_finishes_with_what_it_began_with(self):
        """It loops until its step is cancelled, long after the file was replaced."""
        self.put("one", LOOP)
        worker = self.start("--timeout", "60")
        self.apply(self.node, template(self._name, [step("a", "one")]))
        task = self.create(self.node, self._name)
        self.wait_step(self.node, task, "a", "in_progress")
        self.put("one", says('{"n":2}'))
        wait_for(lambda: "loaded anew" in worker.log_text(), "the new version")
        self.assertEqual(self.step_state(self.node, task, "a"), "in_progress")
        self.assertEqual(self.finished(self.node, self.create(self.node, self._name)).step("a").results, {"n": 2})
        self.node.client.cancel_task(task)
        wait_for(lambda: worker.row(self.node)["open"] == 0, "the loop to be interrupted")

    def test_replay_and_logs(self):
        body, data = writes("told by the module\n", fd=2)
        self.put("one", bytes(command(body, data=data)))
        worker = self.start()
        task = self.run_one([step("a", "one")])
        wait_for(lambda: "told by the module" in self.node.log_text(), "the line in the daemon's log")
        self.assertEqual(worker.stop(), 0)
        env = {**os.environ, "PYTHONPATH": harness.PYTHON_CLIENT}
        done = subprocess.run(self.argv("--replay", str(task.step("a").step_uuid)), stdout=subprocess.PIPE, text=True, env=env, timeout=harness.PATIENCE, check=True)
        self.assertTrue(json.loads(done.stdout)["same"])

    def test_the_page_names_options_that_there_are(self):
        with open(os.path.join(harness.ROOT, "clients", "wasm", "README.md"), encoding="utf-8") as f:
            named = set(re.findall(r"(?<![\w-])--(?:dir|[a-z]+(?= [A-Z]))", f.read()))
        env = {**os.environ, "PYTHONPATH": harness.PYTHON_CLIENT}
        helped = subprocess.run([sys.executable, "-m", "taskerd", "wasm", "--help"], stdout=subprocess.PIPE, text=True, env=env, timeout=harness.PATIENCE, check=True).stdout
        self.assertGreaterEqual(named, {"--dir", "--memory", "--timeout", "--replay"})
        self.assertEqual({n for n in named if n not in helped}, set())

    def test_bad_command_lines(self):
        env = {**os.environ, "PYTHONPATH": harness.PYTHON_CLIENT}
        shutil.rmtree(self.dir)
        done = subprocess.run(self.argv(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, timeout=harness.PATIENCE, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("is no directory", done.stderr)


if __name__ == "__main__":
    unittest.main()

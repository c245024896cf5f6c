"""The crate's examples against a daemon: a worker and a client, async handlers, processes that are replaced. What all clients do is in protocol/conformance."""
import json
import os
import signal
import subprocess

import behaviour
import harness
from harness import step, template, wait_for

EXAMPLES = os.path.join(harness.ROOT, "build-test", "rust-target", "release", "examples")


def example(name):
    path = os.path.join(EXAMPLES, name)
    if not os.access(path, os.X_OK):
        raise harness.unittest.SkipTest("%s is not built: tests/suites.py rust does" % path)
    return path


class Examples(behaviour.Base):
    program = "greeter"

    def argv(self):
        return [example(self.program)]

    def test_greeter(self):
        worker = self.start()
        self.apply(self.node, template("greeter", [step("greet", "hello.greet")], namespace="hello"))
        env = {**os.environ, "TASKERD_SOCKET": self.node.socket}
        out = subprocess.run([*self.argv(), "submit", "World"], env=env, stdout=subprocess.PIPE, text=True, timeout=harness.PATIENCE, check=True).stdout
        self.assertEqual(out, '"complete": {"greeting":"Hello, World"}\n')
        bad = self.finished(self.node, self.create(self.node, "greeter", {}, namespace="hello"))
        self.assertEqual((bad.status, bad.step("greet").error["error_type"]), ("blocked_by_failures", "permanent_error"))
        self.assertIn("greeter.rs", bad.step("greet").error["backtrace"][0])
        self.assertEqual(worker.stop(), 0, worker.last_words())

    def test_async_handlers(self):
        """Many wait at a time on few threads, and one that is cancelled is dropped."""
        self.program = "async_worker"
        worker = self.start()
        task = self.run_one([step("s%d" % i, "async.nap", ms=100) for i in range(100)])
        self.assertEqual((task.status, task.step("s7").results), ("complete", {"slept": 100}))
        self.apply(self.node, template("long", [step("s", "async.nap", ms=harness.HOUR_MS)]))
        long = self.create(self.node, "long")
        self.wait_step(self.node, long, "s", "in_progress")
        self.node.client.cancel_task(long)
        wait_for(lambda: worker.row(self.node)["open"] == 0, "the handler to be dropped")
        self.assertEqual(worker.stop(), 0, worker.last_words())

    def test_processes(self):
        parent = self.start("--processes", "2", wait=False)
        wait_for(lambda: len(self.node.client.list_workers()) == 2, "two workers")
        victim = self.node.client.list_workers()[0]["pid"]
        os.kill(victim, 9)
        wait_for(lambda: victim not in [w["pid"] for w in self.node.client.list_workers()] and len(self.node.client.list_workers()) == 2, "another one in its place")
        self.assertIn("it is replaced", parent.log_text())
        self.apply(self.node, template("p", [step("greet", "hello.greet")]))
        self.assertEqual(self.finished(self.node, self.create(self.node, "p", {"name": "x"})).status, "complete")
        self.assertEqual(parent.stop(), 0, parent.last_words())

    def test_command_line(self):
        for args, status in ((["--help"], 0), (["--threads", "many"], 2), (["--nonsense"], 2)):
            done = subprocess.run([*self.argv(), *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=harness.PATIENCE, check=False)
            self.assertEqual((done.returncode, "--max-concurrency N" in done.stdout + done.stderr), (status, True), json.dumps(args))

    def test_what_cannot_be_replayed(self):
        self.node = self.daemon(self.database())
        for step in ("nonsense", "00000000-0000-7000-8000-000000000001"):
            args = [*self.argv(), "--socket", self.node.socket, "--replay", step]
            done = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=harness.PATIENCE, check=False)
            self.assertEqual((done.returncode, done.stdout, done.stderr[:15]), (1, "", "cannot replay: "))

    def test_told_to_stop_by_its_parent_and_by_the_service_manager(self):
        """Which tells all processes of a service: that is once, and what runs is finished. One whose parent has died finishes, too, and ends."""
        self.program = "async_worker"
        parent = self.start("--processes", "2", "--threads", "1", wait=False)
        wait_for(lambda: len(self.node.client.list_workers()) == 2, "two workers")
        self.apply(self.node, template("waits", [step("s", "async.nap", ms=harness.HOUR_MS)]))
        task = self.create(self.node, "waits")
        self.wait_step(self.node, task, "s", "in_progress")
        busy = next(w["pid"] for w in self.node.client.list_workers() if w["open"])
        os.kill(busy, signal.SIGTERM)
        wait_for(lambda: [w["draining"] for w in self.node.client.list_workers() if w["pid"] == busy] == [True], "it to drain")
        parent.signal(signal.SIGTERM)
        wait_for(lambda: [w["pid"] for w in self.node.client.list_workers()] == [busy], "the idle one to have ended")
        self.node.client.cancel_task(task)
        self.assertEqual(parent.wait(), 0, parent.last_words())

    def test_the_parent_is_killed(self):
        parent = self.start("--processes", "2", wait=False)
        wait_for(lambda: len(self.node.client.list_workers()) == 2, "two workers")
        parent.kill()
        wait_for(lambda: not self.node.client.list_workers(), "its processes to end")


if __name__ == "__main__":
    harness.unittest.main()

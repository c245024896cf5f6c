"""examples/perl: a client written from PROTOCOL.md alone."""
import os
import subprocess
import unittest

import harness
from harness import step, template, wait_for

EXAMPLE = os.path.join(harness.ROOT, "examples", "perl")
MODULES = ["-MIO::Select", "-MIO::Socket::UNIX", "-MJSON::PP", "-MTime::HiRes", "-MEncode"]


def perl():
	try:
		return subprocess.run(["perl", *MODULES, "-e", "1"], stderr=subprocess.DEVNULL, check=False).returncode == 0
	except FileNotFoundError:
		return False


@unittest.skipUnless(perl(), "there is no perl with its standard modules")
class Perl(harness.Case):
	def start(self, node):
		argv = ["perl", os.path.join(EXAMPLE, "worker.pl"), os.path.join(EXAMPLE, "handlers.pl"), "--socket", node.socket, "--namespace", "t"]
		worker = self.track(harness.Worker("perl", argv, os.path.join(self.place, "perl.log")))
		worker.wait_listed(node)
		return worker

	def test_it(self):
		db = self.database()
		node = self.daemon(db)
		self.apply(node, template("perl", [step("hello", "perl.hello"), step("one", "perl.count"), step("two", "perl.count"), step("sum", "perl.sum", after=["one", "two"]),
		                                   step("flaky", "perl.flaky"), step("no", "perl.no")]))
		worker = self.start(node)
		task = self.finished(node, self.create(node, "perl", {"name": "Größe 🚀", "to": 35}))
		results = {s.name: (s.state, s.attempts, s.result) for s in task.steps}
		self.assertEqual(results, {
			"hello": ("complete", 1, {"text": "Hello, Größe 🚀!"}), "one": ("complete", 1, {"counted": 40}), "two": ("complete", 1, {"counted": 40}),
			"sum": ("complete", 1, {"sum": 80}), "flaky": ("complete", 2, {"attempt": 2}), "no": ("error", 1, None)})
		self.assertEqual(node.client.get_step(task.task_uuid, "no").error["error_type"], "Never")

		# The daemon dies while a handler runs: the worker comes back, says what it holds, and no attempt is used.
		self.apply(node, template("long", [step("count", "perl.count")]))
		task = self.create(node, "long", {"to": 6000})
		wait_for(lambda: (node.client.get_step(task, "count").checkpoint or {}).get("cursor", 0) > 20, "the handler to be on its way")
		node.kill()
		node.start()
		made = self.finished(node, task)
		self.assertEqual([(s.state, s.attempts, s.result) for s in made.steps], [("complete", 1, {"counted": 6000})])
		self.assertEqual(db.value("SELECT count(*) FROM tasker.step_attempts WHERE outcome = 'worker_lost'"), "0")
		self.assertEqual(worker.stop(), 0, worker.last_words())
		self.doctor(node)


if __name__ == "__main__":
	unittest.main()

"""The shortest way through everything: a daemon, a worker, some tasks. Also what is run under the slower sanitizers."""
import unittest

import harness
from harness import step, template

DIAMOND = [step("start"), step("left", after=["start"]), step("right", after=["start"]), step("end", after=["left", "right"])]


class Smoke(harness.Case):
	def test_embedded(self):
		daemon = harness.Daemon(self, "smoke", embedded=self.embedded_dir()).start()
		self.apply(daemon, template("diamond", DIAMOND))
		self.python_worker(daemon)
		task = self.create(daemon, "diamond", {"n": 7})
		done = self.finished(daemon, task)
		self.assertEqual(done.state, "complete")
		self.assertEqual(done.step("end").result["from"], {"start": "start", "left": "left", "right": "right"})
		self.doctor(daemon)
		self.assertEqual(daemon.stop(), 0)

	def test_some_tasks_with_both_workers(self):
		db = self.database()
		daemon = self.daemon(db)
		self.apply(daemon, template("diamond", DIAMOND))
		self.apply(daemon, template("quick", [step("a", "bench.noop"), step("b", "bench.noop", after=["a"])], namespace="c"))
		python = self.python_worker(daemon)
		self.c_worker(daemon)
		self.create_many(daemon, "diamond", 20)
		self.create_many(daemon, "quick", 50, namespace="c")
		db.wait_settled()
		self.assertEqual(db.sql("SELECT DISTINCT state FROM tasker.tasks"), [["complete"]])
		self.assertEqual(len(self.ledger), 80)
		self.doctor(daemon)
		self.assertEqual(python.stop(), 0)
		self.assertEqual(daemon.stop(), 0)


if __name__ == "__main__":
	unittest.main()

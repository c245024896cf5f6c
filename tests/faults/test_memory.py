"""One allocation of the daemon fails, another one each time. It may refuse a request, drop a connection, or end and be started again; what it has taken on is done as if nothing had been."""
import os
import signal
import unittest

from fault import FaultCase, LONG, harness, step
from harness import wait_for
from inject import Injector

TRIES = 600 if LONG else 40
SPAN = 300  # allocations: somewhat more than a task of two steps takes


class Injected(FaultCase):
	"""A daemon into which something is put while one task after the other is made and run."""

	def setUp(self):
		super().setUp()
		self.injector = Injector(os.path.join(self.place, "inject"))
		self.node = harness.Daemon(self, "node-a", database=self.db.uri, poll_interval_ms=300, resume_grace_ms=500)
		self.node.environment = self.injector.environment
		self.node.start()
		self.deaths = 0

	def may_end(self, status, words):
		"""For subclasses: AssertionError, if the daemon must not have ended so."""
		raise NotImplementedError

	def tend(self):
		"""True: it is there."""
		if self.node.process.alive():
			return True
		self.may_end(self.node.process.wait(), self.node.process.last_words())
		self.deaths += 1
		self.injector.heal()
		self.node.start()
		return False

	def make(self, n):
		"""A task, by as many requests as it takes."""
		refused = []

		def made():
			try:
				with harness.TaskerClient(socket=self.node.socket, connect_timeout=1, timeout=5) as client:
					return client.create_task("pair", namespace="t", context={"n": n}, idempotency_key="k-%d" % n).task_uuid
			except harness.TaskerdError as e:
				self.assertTrue(e.retryable or e.code in ("connection_lost", "internal", "timeout", "unreachable"), e)
				refused[:] = [e]
				self.tend()
				return None
		return wait_for(made, lambda: "task %d to be made: %s" % (n, refused))

	def settle(self, task):
		state = "SELECT state FROM tasker.tasks WHERE task_uuid = '%s'" % task
		wait_for(lambda: self.tend() and self.db.value(state) in harness.SETTLED, lambda: "task %s to settle" % task)

	def run_all(self, tries, strike):
		"""As many tasks, before each of which strike(n) puts something into the daemon."""
		schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
		steps = [step("a", attempts=4), {**step("b", "t.flaky", fails=1, after=["a"], attempts=4), "result_schema": {"type": "object"}}]
		self.apply(self.node, harness.template("pair", steps, input_schema=schema))
		worker = self.python_worker(self.node, threads=2)
		for n in range(tries):
			strike(n)
			self.settle(self.make(n))
			self.injector.heal()
			self.tend()
		self.assertEqual(self.db.attempts("permanent_error", "invalid_result"), [])
		self.assertEqual(self.db.sql("SELECT state, count(*) FROM tasker.tasks GROUP BY 1"), [["complete", str(tries)]])
		self.assertTrue(worker.alive())
		self.verify(self.db, self.node)


class Memory(Injected):
	def may_end(self, status, words):
		self.assertEqual(status, -signal.SIGABRT, words)
		self.assertIn("out of memory", words)

	def test_any_one(self):
		self.run_all(TRIES, lambda n: self.injector.fail_allocations(self.random.randrange(SPAN)))
		self.assertGreater(self.injector.failed, TRIES // 8, "hardly any allocation failed")


if __name__ == "__main__":
	unittest.main()

"""What the fault tests share: a stage with its own PostgreSQL and a batch of tasks in flight, a seed, and the judgement at the end.

TASKERD_SEED repeats a run: it decides how much is done before a fault strikes, and whom it strikes. TASKERD_LONG=1 strikes more often.
"""
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "integration"))
import harness  # noqa: E402
import pg  # noqa: E402
from harness import step, template  # noqa: E402

SEED = os.environ.get("TASKERD_SEED") or str(random.SystemRandom().randrange(10 ** 6))
LONG = os.environ.get("TASKERD_LONG", "") not in ("", "0", "no")
ROUNDS = 12 if LONG else 2  # faults in one batch

DIAMOND = [step("a", attempts=20), step("b", after=["a"], attempts=20), step("c", after=["a"], attempts=20), step("d", after=["b", "c"], attempts=20)]
CHAIN = [step("s%d" % i, after=["s%d" % (i - 1)] if i else [], attempts=20) for i in range(5)]
FAILS_ONCE = [step("x", attempts=20), step("y", "t.flaky", fails=1, after=["x"], attempts=20, backoff="linear", base_ms=50), step("z", after=["y"], attempts=20)]
TEMPLATES = {"diamond": DIAMOND, "chain": CHAIN, "fails_once": FAILS_ONCE}


class FaultCase(harness.Case):
	"""A test that strikes while a batch is under way."""

	settings = {}

	def setUp(self):
		super().setUp()
		self.random = random.Random("%s %s" % (SEED, self.id()))
		self.cluster = self.make_cluster()
		self.db = self.database(self.cluster)

	def make_cluster(self):
		return harness.shared_cluster()

	def run(self, result=None):
		with_seed = lambda: print("    | TASKERD_SEED=%s repeats %s" % (SEED, self.id()), file=sys.stderr)  # noqa: E731
		before = len(result.failures) + len(result.errors) if result is not None else 0
		outcome = super().run(result)
		if result is not None and len(result.failures) + len(result.errors) > before:
			with_seed()
		return outcome

	def begin_batch(self, node, n):
		"""Register the templates and create n tasks of each; the number of steps."""
		for name, steps in TEMPLATES.items():
			self.apply(node, template(name, steps))
		for name in TEMPLATES:
			self.create_many(node, name, n)
		self.total = n * sum(len(s) for s in TEMPLATES.values())
		return self.total

	def wait_part(self, round_no, rounds):
		"""Until a share of the batch, chosen at random, has begun: somewhere in the round's part of it."""
		low, high = self.total * round_no // (rounds + 1), self.total * (round_no + 1) // (rounds + 1)
		self.ledger.wait_lines(self.random.randrange(low, high) + 1)

	def end_batch(self, node, complete=True):
		"""Everything settles, nothing is stranded, everything is recorded once."""
		self.db.wait_settled()
		if complete:
			self.assertEqual(self.db.sql("SELECT DISTINCT state FROM tasker.tasks"), [["complete"]])
		self.assertEqual(self.db.number("SELECT count(*) FROM tasker.step_attempts WHERE outcome = 'success'"),
		                 self.db.number("SELECT count(*) FROM tasker.steps WHERE state = 'complete'"))
		self.verify(self.db, node)

	def lost(self):
		"""(task, step, attempt) of the attempts that ended as worker_lost."""
		return [(t, s, n) for t, s, n, _, _, _ in self.db.attempts("worker_lost")]

	def executions(self):
		"""How often each (task, step, attempt) was begun."""
		counts = {}
		for e in self.ledger.lines():
			key = (e.task, e.step, e.attempt)
			counts[key] = counts.get(key, 0) + 1
		return counts

	def backends(self, who="taskerd"):
		"""Pids of the server processes that serve the daemons on this test's database."""
		return [int(r[0]) for r in self.db.sql("SELECT pid FROM pg_stat_activity WHERE datname = '%s' AND application_name = '%s'" % (self.db.name, who))]


__all__ = ["CHAIN", "DIAMOND", "FaultCase", "LONG", "ROUNDS", "SEED", "harness", "pg", "step", "template"]

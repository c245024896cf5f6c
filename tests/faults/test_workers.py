"""Workers that are killed, stopped, or killed by what they run."""
import os
import signal
import unittest

from fault import FaultCase, LONG, ROUNDS, harness, step, template
from harness import wait_for


class Killed(FaultCase):
	def test_in_the_middle_of_a_batch(self):
		"""kill -9 of one worker of three, again and again. What it ran is counted as worker_lost and redelivered at once: the database has no time to wait for,
		since the poll comes once an hour."""
		node = self.daemon(self.db)
		workers = [self.python_worker(node, name="w%d" % i, threads=3) for i in range(3)]
		self.begin_batch(node, 60)
		dead = []
		for i in range(ROUNDS):
			self.wait_part(i, ROUNDS)
			victim = workers.pop(self.random.randrange(len(workers)))
			victim.kill()
			dead.append(victim.pid)
			workers.append(self.python_worker(node, name="x%d" % i, threads=3))
		self.end_batch(node)
		# Only what a dead worker held was lost.
		outlived = {(e.task, e.step, e.attempt) for e in self.ledger.lines() if e.pid not in dead}
		self.assertEqual([k for k in self.lost() if k in outlived], [])
		self.assertEqual(node.info()["counters"]["workers_lost_steps"], len(self.lost()))

	def test_the_attempt_counts_and_the_step_goes_to_the_other(self):
		node = self.daemon(self.db)
		self.apply(node, template("held", [step("a", "t.gate", attempts=3, backoff="linear", base_ms=harness.HOUR_MS, max_ms=harness.HOUR_MS)]))
		one = self.python_worker(node, name="one", threads=5, prefetch=0)
		tasks = self.create_many(node, "held", 5)
		self.ledger.wait_lines(5)
		two = self.python_worker(node, name="two", threads=5, prefetch=0)
		one.kill()
		self.ledger.wait_lines(10)  # in spite of the hour's backoff: that is for failures
		self.ledger.open_gate("gate")
		for task in tasks:
			self.assertEqual(self.finished(node, task).step("a").result, {"step": "a", "attempt": 2, "who": "two"})
		self.assertEqual(sorted(self.lost()), sorted((t, "a", 1) for t in tasks))
		self.assertEqual({e.pid for e in self.ledger.lines() if e.attempt == 2}, {two.pid})
		self.end_batch(node)

	def test_a_child_that_keeps_the_socket_open(self):
		"""A process forked by a handler inherits the connection. The worker's death is noticed all the same."""
		node = self.daemon(self.db)
		self.apply(node, template("forks", [step("a", "fork.a", attempts=2)]))
		one = self.python_worker(node, name="one", module="forks.py", threads=1, prefetch=0)
		task = self.create(node, "forks")
		wait_for(lambda: self.ledger.notes("child"), "the child")
		child = self.ledger.notes("child")[0]["child"]
		self.at_end(end_process, child)
		one.kill()
		self.python_worker(node, name="two", module="forks.py", threads=1, prefetch=0)
		self.assertEqual(self.finished(node, task).step("a").attempts, 2)
		self.end_batch(node)

	def test_all_of_them(self):
		"""No worker is left: the steps wait, and go on when one comes."""
		node = self.daemon(self.db)
		workers = [self.python_worker(node, name="w%d" % i, threads=3) for i in range(2)]
		self.begin_batch(node, 30)
		self.wait_part(0, 1)
		for worker in workers:
			worker.kill()
		self.python_worker(node, name="late", threads=4)
		self.end_batch(node)

	def test_a_worker_in_c(self):
		node = self.daemon(self.db)
		self.apply(node, template("c", [step("a", "bench.noop", attempts=50), step("b", "bench.noop", after=["a"], attempts=50), step("c", "bench.noop", after=["b"], attempts=50)]))
		workers = [self.c_worker(node, name="c%d" % i) for i in range(2)]
		self.create_many(node, "c", 3000 if LONG else 1000)
		for i in range(ROUNDS):
			done = self.db.number("SELECT count(*) FROM tasker.step_attempts")
			wait_for(lambda: self.db.number("SELECT count(*) FROM tasker.step_attempts") > done + 100 or self.db.unsettled() == 0, "some progress")
			workers.pop(0).kill()
			workers.append(self.c_worker(node, name="d%d" % i))
		self.end_batch(node)


class Poison(FaultCase):
	def test_a_step_that_kills_its_worker(self):
		"""It ends in error after max_attempts, and what was beside it in the same worker is done in the end."""
		node = self.daemon(self.db)
		self.apply(node, template("poison", [step("bad", "t.poison", attempts=3), step("after", after=["bad"])]))
		self.begin_batch(node, 20)
		poisoned = self.create(node, "poison")
		keeper = Keeper(self, node, 2)
		wait_for(lambda: keeper.keep() and self.db.unsettled() == 0, "everything to settle")
		done = node.client.get_task(poisoned)
		self.assertEqual((done.state, done.step("bad").state, done.step("bad").attempts, done.step("after").state), ("blocked_by_failures", "error", 3, "pending"))
		self.assertEqual(len(self.ledger.lines("bad")), 3)
		self.assertEqual([n for _, s, n in self.lost() if s == "bad"], [1, 2, 3])
		self.assertEqual(self.db.sql("SELECT state, count(*) FROM tasker.tasks GROUP BY 1 ORDER BY 1"), [["blocked_by_failures", "1"], ["complete", "60"]])
		self.end_batch(node, complete=False)

	def test_poison_that_wears_off(self):
		node = self.daemon(self.db)
		self.apply(node, template("wears", [step("bad", "t.poison", attempts=4, deaths=2), step("after", after=["bad"])]))
		tasks = self.create_many(node, "wears", 3)
		keeper = Keeper(self, node, 1, threads=1, prefetch=0)
		wait_for(lambda: keeper.keep() and self.db.unsettled() == 0, "everything to settle")
		for task in tasks:
			done = node.client.get_task(task)
			self.assertEqual((done.state, done.step("bad").attempts), ("complete", 3))
		self.end_batch(node)


class Stopped(FaultCase):
	def test_timeouts_take_the_steps_back(self):
		"""SIGSTOP: the process lives, but says nothing. Its steps time out and go to the other; when it wakes up its results are stale."""
		node = self.daemon(self.db)
		self.apply(node, template("limited", [step("a", "t.gate", timeout=5, attempts=3), step("b", after=["a"])]))
		one = self.python_worker(node, name="one", threads=4, prefetch=0)
		self.create_many(node, "limited", 4)
		self.ledger.wait_lines(4)
		one.freeze()
		self.python_worker(node, name="two", threads=4)
		self.ledger.open_gate("gate")
		self.db.wait_settled()
		self.assertEqual(len(self.db.attempts("timeout")), 4)
		one.thaw()
		wait_for(lambda: one.row(node) and one.row(node)["open"] == 0, "the stopped worker to be free again")
		self.assertEqual(one.stop(), 0)
		self.end_batch(node)

	def test_silence_ends_the_session(self):
		"""Without timeouts, six missed heartbeats do."""
		node = self.daemon(self.db, heartbeat_ms=1000)
		self.apply(node, template("endless", [step("a", "t.gate", attempts=3)]))
		one = self.python_worker(node, name="one", threads=2, prefetch=0)
		self.create_many(node, "endless", 2)
		self.ledger.wait_lines(2)
		one.freeze()
		self.python_worker(node, name="two", threads=2)
		self.ledger.open_gate("gate")
		self.db.wait_settled()
		self.assertEqual(len(self.lost()), 2)
		one.thaw()
		one.wait_listed(node)
		self.assertEqual(one.stop(), 0)
		self.assertEqual(self.db.sql("SELECT DISTINCT state FROM tasker.tasks"), [["complete"]])
		self.end_batch(node)


class Keeper:
	"""Keeps n workers alive, as a service manager would."""

	def __init__(self, case, node, n, **options):
		self.case, self.node, self.options, self.made = case, node, {"threads": 2, **options}, 0
		self.workers = [self.make() for _ in range(n)]

	def make(self):
		self.made += 1
		return self.case.python_worker(self.node, name="k%d" % self.made, wait=False, **self.options)

	def keep(self):
		self.workers = [w if w.alive() else self.make() for w in self.workers]
		return True


def end_process(pid):
	try:
		os.kill(pid, signal.SIGKILL)
	except ProcessLookupError:
		pass


if __name__ == "__main__":
	unittest.main()

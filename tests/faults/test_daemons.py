"""Daemons that are killed or stopped, alone and one of two."""
import unittest

from fault import FaultCase, ROUNDS, harness, step, template
from harness import wait_for


class Killed(FaultCase):
	def test_in_the_middle_of_a_batch(self):
		"""kill -9 and a new start, again and again. The workers survive, and so does every attempt: none is lost, none is repeated."""
		node = self.daemon(self.db, resume_grace_ms=20000)  # the workers look for their daemon every two seconds, on a machine that may be slow
		workers = [self.python_worker(node, name="w%d" % i, threads=3) for i in range(2)]
		self.begin_batch(node, 60)
		for i in range(ROUNDS):
			self.wait_part(i, ROUNDS)
			node.kill()
			node.start()
		self.end_batch(node)
		self.assertEqual(self.lost(), [])
		self.assertEqual({k: n for k, n in self.executions().items() if n != 1}, {})
		self.assertTrue(all(w.alive() for w in workers))

	def test_with_some_workers(self):
		"""The daemon and one of two workers die together."""
		node = self.daemon(self.db, resume_grace_ms=500)
		workers = [self.python_worker(node, name="w%d" % i, threads=3) for i in range(2)]
		self.begin_batch(node, 40)
		dead = []
		for i in range(ROUNDS):
			self.wait_part(i, ROUNDS)
			node.kill()
			victim = workers.pop(self.random.randrange(2))
			victim.kill()
			dead.append(victim.pid)
			node.start()
			workers.append(self.python_worker(node, name="x%d" % i, threads=3))
		self.end_batch(node)
		outlived = {(e.task, e.step, e.attempt) for e in self.ledger.lines() if e.pid not in dead}
		self.assertEqual([k for k in self.lost() if k in outlived], [])

	def test_while_tasks_are_created(self):
		"""A client that creates with idempotency keys goes on over the kills; every key is one task."""
		node = self.daemon(self.db)
		self.python_worker(node, threads=4)
		self.apply(node, template("made", [step("a", attempts=20)]))
		made = []
		n = 400
		for i in range(n):
			if i in {n * (k + 1) // (ROUNDS + 1) for k in range(ROUNDS)}:
				node.kill()
				node.start()
			made.append(self.create(node, "made", {"n": i}, idempotency_key="key-%d" % i))
		self.end_batch(node)
		self.assertEqual(len(set(made)), n)
		self.assertEqual(self.db.number("SELECT count(*) FROM tasker.tasks"), n)

	def test_a_commit_that_outlives_the_daemon(self):
		"""The daemon dies while its batch waits in the server for a lock. The batch is committed after the next daemon has looked at what was held;
		the steps that it claimed are not forgotten."""
		node = self.daemon(self.db, resume_grace_ms=500)
		self.apply(node, template("outlives", [step("a", "t.gate"), step("b", after=["a"]), step("c", after=["b"])]))
		self.python_worker(node)
		task = self.create(node, "outlives")
		self.ledger.wait_lines(1)
		with self.cluster.session(self.db.name) as lock:
			lock.run("BEGIN; SELECT 1 FROM tasker.tasks FOR UPDATE")
			self.ledger.open_gate("gate")
			self.wait_blocked(1)
			node.kill()
			node.launch()
			# With the lock held the new daemon looks at what is held, or waits for the old batch; either is right.
			wait_for(lambda: "1 steps were running here before" in node.log_text() or self.blocked() > 1, "the next daemon to get as far as it can")
			lock.run("COMMIT")
			node.wait_up()
			self.assertEqual(self.finished(node, task).state, "complete")
		self.end_batch(node)

	def blocked(self):
		return self.db.number("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")

	def wait_blocked(self, n):
		wait_for(lambda: self.blocked() >= n, "%d statements to wait for a lock" % n)

	def test_embedded(self):
		"""The daemon dies, its PostgreSQL with it; both come back."""
		node = harness.Daemon(self, "embedded", embedded=self.embedded_dir(), poll_interval_ms=harness.HOUR_MS, resume_grace_ms=1500).start()
		self.apply(node, template("five", [step("s%d" % i, after=["s%d" % (i - 1)] if i else [], attempts=20) for i in range(5)]))
		self.python_worker(node, threads=4)
		tasks = self.create_many(node, "five", 60)
		self.total = 300
		for i in range(ROUNDS):
			self.wait_part(i, ROUNDS)
			node.kill()
			if i % 2:
				harness.pg._kill_all_in(node.embedded + "/data")
			node.start()
		for task in tasks:
			self.assertEqual(self.finished(node, task).state, "complete")
		self.doctor(node)
		self.assertEqual(node.stop(), 0)


class OneOfTwo(FaultCase):
	def two(self, **options):
		return [self.daemon(self.db, name=name, lease_ttl_ms=3000, poll_interval_ms=1000, **options) for name in ("one", "two")]

	def test_killed_for_good(self):
		"""One of two hosts is lost: daemon and workers. The other takes its steps when the lease is over."""
		one, two = self.two()
		mine = self.python_worker(one, name="w1", threads=3)
		self.python_worker(two, name="w2", threads=3)
		self.begin_batch(one, 50)
		self.wait_part(0, 1)
		one.kill()
		mine.kill()
		self.end_batch(two)

	def test_stopped(self):
		"""SIGSTOP of one daemon: its lease expires and the other takes over. It comes back, finds that its claims are void, and does no harm."""
		one, two = self.two()
		self.python_worker(one, name="w1", threads=3)
		self.python_worker(two, name="w2", threads=3)
		self.begin_batch(one, 50)
		for i in range(1 if ROUNDS == 2 else ROUNDS // 2):
			self.wait_part(i, 2 if ROUNDS == 2 else ROUNDS)
			one.process.freeze()
			wait_for(lambda: self.db.value("SELECT state FROM tasker.nodes WHERE node_name = 'one'") == "down" or self.db.unsettled() == 0,
			         lambda: "the lease to be taken:\n" + two.process.last_words())
			one.process.thaw()
			one.wait_up()
		self.end_batch(two)
		wait_for(lambda: {n["state"] for n in two.client.list_nodes()} == {"up"}, "both nodes to be up")
		self.doctor(one)
		# Both still work.
		for node in (one, two):
			self.assertEqual(self.finished(node, self.create(node, "diamond")).state, "complete")

	def test_stopped_while_it_holds_running_steps(self):
		"""The steps of a stopped daemon run twice: here and there. Recorded is the second, the first is answered stale."""
		one, two = self.two()
		self.apply(one, template("held", [step("a", "t.gate"), step("b", after=["a"])]))
		worker = self.python_worker(one, name="w1", threads=4, prefetch=0)
		self.create_many(one, "held", 4)
		self.ledger.wait_lines(4)
		one.process.freeze()
		self.python_worker(two, name="w2", threads=4, prefetch=0)
		self.ledger.wait_lines(8)
		one.process.thaw()
		self.ledger.open_gate("gate")
		self.db.wait_settled()
		wait_for(lambda: worker.row(one) and worker.row(one)["open"] == 0, "the first worker's results to be answered")
		self.assertEqual(len(self.lost()), 4)
		self.assertEqual({node for _, s, _, o, node, _ in self.db.attempts("success") if s == "a"}, {"two"})
		self.end_batch(two)
		self.assertEqual(worker.stop(), 0)
		self.assertEqual(worker.counters().get("stale"), 4)


if __name__ == "__main__":
	unittest.main()

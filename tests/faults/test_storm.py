"""Everything at once: two daemons on one database, workers that are replaced when they die, tasks created, cancelled and failing, and a random order of faults."""
import os
import unittest

if not os.environ.get("TASKERD_LONG"):
	raise unittest.SkipTest("takes minutes and a machine of its own: TASKERD_LONG=1 runs it")

import os
import signal
import unittest

from fault import CHAIN, DIAMOND, FaultCase, LONG, harness, step, template
from harness import wait_for
from taskerd.exceptions import TaskerdError

EVENTS = 60 if LONG else 8
TEMPLATES = {
	"diamond": DIAMOND,
	"chain": CHAIN,
	"fails": [step("x", attempts=20), step("y", "t.flaky", fails=1, after=["x"], attempts=20, backoff="linear", base_ms=50), step("z", after=["y"], attempts=20)],
	"hopeless": [step("x", attempts=20), step("bad", "t.flaky", fails=1, kind="permanent", after=["x"]), step("below", after=["bad"]), step("beside", after=["x"], attempts=20)],
	"poison": [step("p", "t.poison", attempts=20, deaths=1), step("q", after=["p"], attempts=20)],
}


class Storm(FaultCase):
	def make_cluster(self):
		made = harness.new_cluster(restart_after_crash="on")
		self.at_end(made.close)
		return made

	def setUp(self):
		super().setUp()
		self.made, self.n_workers = 0, 0
		self.nodes = [self.daemon(self.db, name=name, lease_ttl_ms=1500, poll_interval_ms=1000, resume_grace_ms=1000, heartbeat_ms=1000) for name in ("one", "two")]
		for name, steps in TEMPLATES.items():
			self.apply(self.nodes[0], template(name, steps))
		self.workers = [(node, self.worker(node)) for node in self.nodes for _ in range(2)]

	def worker(self, node):
		self.n_workers += 1
		return self.python_worker(node, name="w%d" % self.n_workers, threads=3, wait=False)

	def tend(self):
		"""Replace what has died; true, to be used in conditions."""
		for node in self.nodes:
			if not node.process.alive():
				node.start()
		self.workers = [(n, w if w.alive() else self.worker(n)) for n, w in self.workers]
		return True

	def up(self):
		return [n for n in self.nodes if n.process.alive() and n.database_state() == "up"]

	def more(self):
		"""Some more tasks, by whichever daemon can take them."""
		n = self.random.randrange(5, 25)
		names = [self.random.choice(sorted(TEMPLATES)) for _ in range(n)]
		items = [{"name": name, "namespace": "t", "context": {"n": self.made + i}, "idempotency_key": "storm-%d" % (self.made + i)} for i, name in enumerate(names)]

		def made():
			self.tend()
			nodes = self.up()
			try:
				return nodes and all(o.ok for o in self.random.choice(nodes).client.create_tasks(items, timeout=10))
			except TaskerdError:
				return False
		wait_for(made, "tasks to be made")
		self.made += n

	# -- faults ------------------------------------------------------------------------------------

	def kill_worker(self):
		self.random.choice(self.workers)[1].kill()

	def stop_worker(self):
		self.random.choice(self.workers)[1].signal(signal.SIGTERM)

	def kill_daemon(self):
		self.random.choice(self.nodes).kill()

	def stop_daemon(self):
		node = self.random.choice(self.nodes)
		if node.process.alive():
			node.process.signal(signal.SIGTERM)
			node.process.wait()

	def freeze_daemon(self):
		"""Until its lease is over."""
		node = self.random.choice([n for n in self.nodes if n.process.alive()] or [None])
		if node is None:
			return
		if not node.process.freeze():
			return
		wait_for(lambda: self.tend_others(node) and self.lease_over(node), "the lease of %s to be over" % node.name)
		node.process.thaw()

	def tend_others(self, frozen):
		for node in self.nodes:
			if node is not frozen and not node.process.alive():
				node.start()
		return True

	def lease_over(self, node):
		try:
			return self.db.value("SELECT state = 'down' OR lease_until < now() FROM tasker.nodes WHERE node_name = '%s'" % node.name) == "t"
		except (harness.pg.PgError, AssertionError):
			return False

	def freeze_worker(self):
		"""Until its session is ended for silence, or its daemon is gone."""
		node, worker = self.random.choice(self.workers)
		if not worker.alive() or not worker.freeze():
			return
		wait_for(lambda: self.tend() and not worker.row(node), "the silent worker to be given up")
		worker.thaw()

	def end_connections(self):
		self.quietly("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'taskerd'")

	def end_a_connection(self):
		self.quietly("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'taskerd' ORDER BY random() LIMIT 1")

	def kill_backend(self):
		try:
			pids = self.backends()
		except harness.pg.PgError:
			return
		if pids:
			try:
				os.kill(self.random.choice(pids), signal.SIGKILL)
			except ProcessLookupError:
				pass

	def restart_postgres(self):
		self.db.close()
		self.cluster.restart("immediate")

	def kill_postgres(self):
		self.db.close()
		self.cluster.kill()
		self.cluster.start()

	def cancel_some(self):
		node = self.random.choice(self.nodes)
		try:
			for task in node.client.list_tasks(limit=10, status="steps_in_process").tasks[:3]:
				node.client.cancel_task(task.task_uuid, "storm")
		except TaskerdError:
			pass

	def quietly(self, statement):
		try:
			self.db.sql(statement)
		except harness.pg.PgError:
			pass

	FAULTS = ("kill_worker", "stop_worker", "kill_daemon", "stop_daemon", "freeze_daemon", "freeze_worker", "end_connections", "end_a_connection", "kill_backend",
	          "restart_postgres", "kill_postgres", "cancel_some")

	def test_storm(self):
		faults = list(self.FAULTS)
		self.random.shuffle(faults)
		done = []
		for i in range(EVENTS):
			self.more()
			goal = len(self.ledger) + self.random.randrange(1, 30)
			wait_for(lambda: self.tend() and (len(self.ledger) >= goal or self.db.unsettled() == 0), lambda: "progress after %s" % done)
			name = faults[i % len(faults)]
			done.append(name)
			getattr(self, name)()
			self.tend()
		wait_for(lambda: self.tend() and self.db.unsettled() == 0, lambda: "all tasks to settle after %s; open: %s" % (done, self.db.sql(
			"SELECT t.task_uuid, t.state, s.step_no, s.state, s.node_no, s.fence FROM tasker.tasks t JOIN tasker.steps s USING (task_id) "
			"WHERE t.state NOT IN ('%s') AND s.state <> 'complete'" % "', '".join(harness.SETTLED))))
		wait_for(lambda: len(self.up()) == 2, "both daemons to be up")
		self.assertEqual(self.db.number("SELECT count(*) FROM tasker.tasks"), self.made, "each key is one task")
		states = dict(self.db.sql("SELECT state, count(*) FROM tasker.tasks GROUP BY 1"))
		self.assertLessEqual(set(states), {"complete", "blocked_by_failures", "cancelled"})
		blocked = self.db.sql("SELECT DISTINCT tp.name FROM tasker.tasks t JOIN tasker.templates tp USING (template_id) WHERE t.state = 'blocked_by_failures'")
		self.assertLessEqual({r[0] for r in blocked}, {"hopeless"}, "only what is made to fail has failed")
		self.end_batch(self.nodes[0], complete=False)
		self.doctor(self.nodes[1])


if __name__ == "__main__":
	unittest.main()

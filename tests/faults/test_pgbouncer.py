"""The store's connections go through PgBouncer in transaction mode: nothing relies on a session, and what the pooler does to connections loses nothing."""
import os
import unittest

from bouncer import Bouncer
from fault import FaultCase, ROUNDS, harness, step, template


class Pooled(FaultCase):
	def setUp(self):
		super().setUp()
		self.bouncer = Bouncer(self, self.cluster, os.path.join(self.place, "pool")).start()

	def pooled(self, name="node-a", **options):
		return harness.Daemon(self, name, database=self.bouncer.conninfo(self.db.name), session_database=self.db.uri,
		                      **{"poll_interval_ms": harness.HOUR_MS, **options}).start()

	def check(self, node, workers):
		self.end_batch(node)
		self.assertEqual(self.lost(), [])
		self.assertEqual({k: n for k, n in self.executions().items() if n != 1}, {})
		self.assertTrue(all(w.alive() for w in workers))

	def test_two_daemons_share_two_connections(self):
		"""More threads than server connections: each transaction is on another one."""
		nodes = [self.pooled(name, store_threads=3, lease_ttl_ms=120000, poll_interval_ms=1000) for name in ("one", "two")]
		workers = [self.python_worker(node, name="w-" + node.name, threads=3) for node in nodes]
		self.begin_batch(nodes[0], 20)
		self.check(nodes[1], workers)
		self.assertEqual(self.db.sql("SELECT application_name, count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'taskerd' "
		                             "AND backend_type = 'client backend' AND query !~ 'LISTEN|node_heartbeat|reclaim' GROUP BY 1 HAVING count(*) > 6"), [])
		# Nothing is left behind for whoever has the server's connection next.
		for name, usual in ("search_path", '"$user", public'), ("enable_seqscan", "on"), ("statement_timeout", "0"), ("tasker.max_branches", None):
			shown = harness.subprocess.run(["psql", "-XAtq", self.bouncer.conninfo(self.db.name), "-c", "SELECT current_setting('%s', true)" % name], stdout=harness.subprocess.PIPE, text=True)
			self.assertEqual(shown.stdout.strip(), usual or "", name)

	def test_bounds_hold(self):
		"""The settings that the engine is given for a session are there in each transaction."""
		node = self.pooled(max_branches=2)
		many = ["b%d" % i for i in range(3)]
		steps = [step("start"), {**step("choose", "d.say", after=["start"], attempts=1, result={"decision_point_outcome": {"type": "create_steps", "step_names": many}}), "type": "decision"}] + [step(b, after=["choose"]) for b in many]
		self.apply(node, template("chooses", steps))
		self.python_worker(node, module="dynamic.py")
		task = self.create(node, "chooses")
		self.assertIn("2", self.finished(node, task).step("choose").error["message"])

	def test_its_connections_are_cut(self):
		node = self.pooled()
		workers = [self.python_worker(node, name="w%d" % i, threads=3) for i in range(2)]
		self.begin_batch(node, 20)
		for i in range(ROUNDS):
			self.wait_part(i, ROUNDS)
			self.db.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
			node.wait_up()
		self.check(node, workers)

	def test_it_is_killed(self):
		node = self.pooled()
		workers = [self.python_worker(node, name="w%d" % i, threads=3) for i in range(2)]
		self.begin_batch(node, 20)
		for i in range(ROUNDS):
			self.wait_part(i, ROUNDS)
			self.bouncer.kill()
			self.bouncer.restart()
		self.check(node, workers)


if __name__ == "__main__":
	unittest.main()

"""Wall clocks jump. The daemon's own is only what people read times from; leases, delays and limits go by the database's."""
import datetime
import os
import unittest

from fault import FaultCase, harness, step, template
from harness import wait_for
from inject import Injector

HOUR_S = 3600


class Daemon(FaultCase):
	def test_hours_to_and_fro(self):
		"""Timeouts, backoffs, heartbeats, late starts and the lease go on as if nothing were."""
		injector = Injector(os.path.join(self.place, "inject"))
		node = harness.Daemon(self, "node-a", database=self.db.uri, poll_interval_ms=harness.HOUR_MS, lease_ttl_ms=120000)
		node.environment = injector.environment
		node.start()
		self.apply(node, template("times", [step("a", "t.flaky", fails=2, attempts=5, backoff="linear", base_ms=200), step("hangs", "t.gate", after=["a"], timeout=1, attempts=1)]))
		worker = self.python_worker(node, threads=4)
		for hours in (-30, 30):
			task = self.create(node, "times")
			later = self.create(node, "times", run_at=(datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(milliseconds=300)).isoformat())
			injector.shift_clock(hours * HOUR_S)
			for t in (task, later):
				done = self.finished(node, t)
				self.assertEqual((done.state, done.step("a").attempts), ("blocked_by_failures", 3))
		self.assertEqual(len(self.db.attempts("timeout")), 2 * 2)
		self.assertTrue(worker.alive())
		self.assertEqual(self.lost(), [])
		self.assertNotIn("lease had run out", node.log_text())
		self.doctor(node)


class Server(FaultCase):
	def make_cluster(self):
		self.injector = Injector(os.path.join(self.place, "inject"))
		made = harness.new_cluster(lambda settings: harness.pg.PgCluster(settings, environment=self.injector.environment))
		self.at_end(made.close)
		return made

	def test_ahead_and_back(self):
		"""Ahead: every lease has run out and every delay is over, so steps of nodes that live may be run again by others, but nothing is lost and recorded twice. Back: what was
		given a time stays until then."""
		nodes = [self.daemon(self.db, name=name, lease_ttl_ms=2000, poll_interval_ms=500) for name in ("one", "two")]
		for node in nodes:
			self.python_worker(node, name="w-" + node.name, threads=3)
		self.begin_batch(nodes[0], 20)
		for i, hours in enumerate((2, 50)):
			self.wait_part(i, 2)
			self.injector.shift_clock(hours * HOUR_S)
			for node in nodes:
				node.wait_up()
		self.injector.shift_clock(50 * HOUR_S - 2)
		self.end_batch(nodes[0])
		wait_for(lambda: {n["state"] for n in nodes[1].client.list_nodes()} == {"up"}, "both nodes to be up")

	def test_a_delay_ends_when_the_clock_gets_there(self):
		node = self.daemon(self.db, poll_interval_ms=300)
		self.apply(node, template("one", [step("a")]))
		self.python_worker(node)
		task = self.db.value("SELECT tasker.create_task('one', namespace => 't', context => '{\"n\": 1}', run_at => now() + interval '1 hour')")
		self.assertEqual(node.client.get_task(task).state, "pending")
		self.injector.shift_clock(HOUR_S)
		self.assertEqual(self.finished(node, task).state, "complete")
		self.doctor(node)


if __name__ == "__main__":
	unittest.main()

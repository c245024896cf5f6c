"""Orderly stops: of the daemon, with steps running, and of workers. Nothing is lost and nothing costs an attempt."""
import signal
import unittest

import harness
from harness import step, template, wait_for
from taskerd.exceptions import TaskerdError


class StopDaemon(harness.Case):
	def setUp(self):
		super().setUp()
		self.db = self.database()
		self.node = self.daemon(self.db)

	def test_idle(self):
		self.python_worker(self.node)
		self.assertEqual(self.node.stop(), 0)
		self.assertEqual(self.db.sql("SELECT state FROM tasker.nodes"), [["down"]])
		self.assertEqual(self.db.value("SELECT count(*) FROM tasker.workers WHERE disconnected_at IS NULL"), "0")

	def test_interrupt_counts_too(self):
		self.node.process.signal(signal.SIGINT)
		self.assertEqual(self.node.process.wait(), 0)

	def test_a_running_step_finishes_and_is_recorded(self):
		self.apply(self.node, template("runs", [step("a", "t.gate"), step("b", after=["a"])]))
		worker = self.python_worker(self.node)
		task = self.create(self.node, "runs")
		self.ledger.wait_lines(1)
		self.node.process.signal(signal.SIGTERM)
		wait_for(lambda: "taskerd is stopping" in worker.log_text(), "the worker to be told")
		self.assertTrue(self.node.process.alive())
		self.ledger.open_gate("gate")
		self.assertEqual(self.node.process.wait(), 0)
		self.assertEqual(self.db.attempts("success"), [(task, "a", 1, "success", "node-a", None)])
		self.assertEqual(self.db.sql("SELECT state, count(*) FROM tasker.steps GROUP BY 1 ORDER BY 1"), [["enqueued", "1"], ["complete", "1"]])
		# The next daemon goes on where this one stopped, with the same worker.
		self.node.start()
		self.assertEqual(self.finished(self.node, task).state, "complete")
		self.assertEqual(len(self.ledger), 2)
		self.verify(self.db, self.node)

	def test_a_busy_daemon(self):
		"""Stopped and started three times while tasks pour through: no attempt is lost, none runs twice for it."""
		self.apply(self.node, template("busy", [step("a"), step("b", after=["a"]), step("c", after=["a"]), step("d", after=["b", "c"])]))
		worker = self.python_worker(self.node, threads=4)
		self.create_many(self.node, "busy", 300)
		for n in (100, 400, 800):
			self.ledger.wait_lines(n)
			self.assertEqual(self.node.stop(), 0)
			self.assertEqual(self.db.sql("SELECT count(*) FROM tasker.steps WHERE state = 'in_progress'"), [["0"]])
			self.node.start()
		self.db.wait_settled()
		self.assertEqual(self.db.sql("SELECT DISTINCT state FROM tasker.tasks"), [["complete"]])
		self.assertEqual(self.db.attempts("worker_lost", "timeout", "handler_error"), [])
		self.assertEqual(len(self.ledger), 1200)
		self.assertTrue(worker.alive())
		self.verify(self.db, self.node)

	def test_what_does_not_finish_in_time_goes_back_at_no_cost(self):
		self.node.stop()
		self.node = self.daemon(self.db, name="short", drain_timeout_ms=200)
		self.apply(self.node, template("slow", [step("a", "t.gate", attempts=1)]))
		worker = self.python_worker(self.node)
		task = self.create(self.node, "slow")
		self.ledger.wait_lines(1)
		self.assertEqual(self.node.stop(), 0)
		self.assertEqual([(o, n) for _, _, n, o, _, _ in self.db.attempts()], [("released", 1)])
		self.ledger.open_gate("gate")
		self.node.start()
		self.assertEqual(self.finished(self.node, task).step("a").attempts, 1)
		self.assertTrue(worker.alive())
		self.doctor(self.node)

	def test_a_second_signal_ends_at_once(self):
		self.apply(self.node, template("slow", [step("a", "t.gate", attempts=1)]))
		self.python_worker(self.node)
		task = self.create(self.node, "slow")
		self.ledger.wait_lines(1)
		self.node.process.signal(signal.SIGTERM)
		wait_for(lambda: "stopping: 1 steps are running" in self.node.log_text(), "the first signal to be seen")
		self.node.process.signal(signal.SIGTERM)
		self.assertEqual(self.node.process.wait(), 0)
		self.ledger.open_gate("gate")
		self.node.start()
		self.assertEqual(self.finished(self.node, task).step("a").attempts, 1)

	def test_requests_while_it_stops(self):
		self.apply(self.node, template("slow", [step("a", "t.gate")]))
		self.python_worker(self.node)
		client = self.node.new_client(connect_timeout=0, timeout=1)
		task = self.create(self.node, "slow")
		client.connect()
		self.ledger.wait_lines(1)
		self.node.process.signal(signal.SIGTERM)
		wait_for(lambda: "stopping:" in self.node.log_text(), "the signal to be seen")
		with self.assertRaises(TaskerdError):
			client.create_task("slow", namespace="t", context={})
		self.ledger.open_gate("gate")
		self.assertEqual(self.node.process.wait(), 0)
		self.assertEqual(self.db.sql("SELECT task_uuid, state FROM tasker.tasks"), [[task, "complete"]])

	def test_without_its_database(self):
		"""Asked to stop while the database is away: it ends, and what was not recorded is sent again later."""
		cluster = harness.new_cluster()
		self.at_end(cluster.close)
		db = self.database(cluster)
		node = self.daemon(db, name="away", drain_timeout_ms=500)
		self.apply(node, template("away", [step("a", "t.gate")]))
		worker = self.python_worker(node)
		task = self.create(node, "away")
		self.ledger.wait_lines(1)
		cluster.stop("immediate")
		wait_for(lambda: node.database_state() == "lost", "the loss to be seen")
		self.ledger.open_gate("gate")
		self.assertIn(node.stop(), (0, 1))
		cluster.start()
		node.start()
		done = self.finished(node, task)
		self.assertEqual((done.state, done.step("a").attempts), ("complete", 1))
		self.assertTrue(worker.alive())
		self.assertEqual(len(self.ledger), 1)
		self.verify(db, node)


class StopWorker(harness.Case):
	def setUp(self):
		super().setUp()
		self.db = self.database()
		self.node = self.daemon(self.db)

	def test_it_finishes_what_it_runs(self):
		"""SIGTERM: the step that runs is recorded, those that had not begun go to another worker at no cost."""
		self.apply(self.node, template("gates", [step("a", "t.gate", attempts=1)]))
		worker = self.python_worker(self.node, name="first", threads=1, prefetch=4)
		self.create_many(self.node, "gates", 5)
		self.ledger.wait_lines(1)
		wait_for(lambda: worker.row(self.node)["open"] == 5, "all to be sent")
		worker.signal(signal.SIGTERM)
		wait_for(lambda: "draining: 1 steps run" in worker.log_text(), "the worker to drain")
		self.ledger.open_gate("gate")
		self.assertEqual(worker.wait(), 0)
		other = self.python_worker(self.node, name="second", threads=2)
		self.db.wait_settled()
		self.assertEqual(self.db.sql("SELECT DISTINCT state FROM tasker.tasks"), [["complete"]])
		self.assertEqual(len(self.ledger), 5)
		self.assertEqual(len(self.db.attempts("released")), 4)
		self.assertEqual({n for _, _, n, _, _, _ in self.db.attempts()}, {1})
		self.assertEqual(other.stop(), 0)
		self.verify(self.db, self.node)

	def test_workers_come_and_go(self):
		"""While tasks pour through, workers are replaced one by one: nothing is lost, no attempt is spent."""
		self.apply(self.node, template("flow", [step("a"), step("b", after=["a"]), step("c", after=["b"])]))
		workers = [self.python_worker(self.node, name="w0", threads=2), self.python_worker(self.node, name="w1", threads=2)]
		self.create_many(self.node, "flow", 300)
		for i, n in enumerate((100, 300, 500)):
			self.ledger.wait_lines(n)
			workers.append(self.python_worker(self.node, name="w%d" % (i + 2), threads=2))
			self.assertEqual(workers.pop(0).stop(), 0)
		self.db.wait_settled()
		self.assertEqual(self.db.sql("SELECT DISTINCT state FROM tasker.tasks"), [["complete"]])
		self.assertEqual(len(self.ledger), 900)
		self.assertEqual(self.db.attempts("worker_lost", "timeout", "handler_error"), [])
		self.verify(self.db, self.node)

	def test_the_c_worker(self):
		self.apply(self.node, template("c", [step("a", "bench.noop"), step("b", "bench.noop", after=["a"])]))
		one, two = self.c_worker(self.node, name="c1"), self.c_worker(self.node, name="c2")
		self.create_many(self.node, "c", 500)
		self.assertEqual(one.stop(), 0)
		self.db.wait_settled()
		self.assertEqual(two.stop(), 0)
		self.assertEqual(self.db.sql("SELECT DISTINCT state FROM tasker.tasks"), [["complete"]])
		self.assertEqual(self.db.value("SELECT count(*) FROM tasker.step_attempts WHERE outcome NOT IN ('success', 'released')"), "0")
		self.doctor(self.node)


if __name__ == "__main__":
	unittest.main()

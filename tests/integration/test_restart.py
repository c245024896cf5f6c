"""A daemon that is started again: what was there is there, clients and workers come back by themselves, running steps go on."""
import unittest

import harness
from harness import Waiting, step, template, wait_for


class Restart(harness.Case):
	def setUp(self):
		super().setUp()
		self.db = self.database()
		self.node = self.daemon(self.db)

	def test_running_steps_are_resumed(self):
		"""The daemon is killed; the handler runs on, and its result is taken by the next daemon, in the same attempt."""
		self.apply(self.node, template("resumes", [step("a", "t.gate", attempts=1), step("b", after=["a"])]))
		worker = self.python_worker(self.node, threads=3)
		tasks = self.create_many(self.node, "resumes", 3)
		self.ledger.wait_lines(3)
		self.node.kill()
		self.node.start()
		worker.wait_listed(self.node)
		self.ledger.open_gate("gate")
		for task in tasks:
			done = self.finished(self.node, task)
			self.assertEqual((done.state, done.step("a").attempts), ("complete", 1))
		self.assertEqual(len(self.ledger), 6)
		self.verify(self.db, self.node)

	def test_a_result_that_came_while_no_daemon_was_there(self):
		self.apply(self.node, template("between", [step("a", "t.gate", attempts=1)]))
		worker = self.python_worker(self.node)
		task = self.create(self.node, "between")
		self.ledger.wait_lines(1)
		self.node.kill()
		self.ledger.open_gate("gate")
		wait_for(lambda: "connection to taskerd lost" in worker.log_text(), "the worker to see it")
		self.node.start()
		self.assertEqual(self.finished(self.node, task).step("a").attempts, 1)
		self.assertEqual(len(self.ledger), 1)
		self.verify(self.db, self.node)

	def test_a_worker_that_died_with_the_daemon(self):
		"""What nobody resumes within the grace goes to others."""
		self.node.stop()
		self.node = self.daemon(self.db, name="grace", resume_grace_ms=300)
		self.apply(self.node, template("both", [step("a", "t.gate")]))
		worker = self.python_worker(self.node, name="dies")
		task = self.create(self.node, "both")
		self.ledger.wait_lines(1)
		self.node.kill()
		worker.kill()
		self.node.start()
		self.ledger.open_gate("gate")
		self.python_worker(self.node, name="lives")
		self.assertEqual(self.finished(self.node, task).step("a").result["who"], "lives")
		self.assertEqual(len(self.ledger), 2)
		self.doctor(self.node)

	def test_retries_that_wait(self):
		self.apply(self.node, template("waits", [step("a", "t.flaky", fails=1, backoff="linear", base_ms=harness.HOUR_MS, max_ms=harness.HOUR_MS)]))
		self.python_worker(self.node)
		task = self.create(self.node, "waits")
		self.wait_step(self.node, task, "a", "waiting_for_retry")
		self.node.kill()
		self.db.sql("UPDATE tasker.steps SET retry_at = now() + interval '1 second'")
		self.db.sql("UPDATE pgmq.q_%s SET vt = now() + interval '1 second'" % self.db.value("SELECT queue_name FROM tasker.handlers"))
		self.node.start()
		self.assertEqual(self.finished(self.node, task).state, "complete")
		self.verify(self.db, self.node)

	def test_clients_come_back(self):
		self.apply(self.node, template("comes", [step("a", "t.gate")]))
		self.python_worker(self.node)
		task = self.create(self.node, "comes", idempotency_key="k")
		waiter = Waiting(self.node, task)
		with self.node.new_client().watch(task) as watch:
			self.ledger.wait_lines(1)
			self.node.kill()
			self.node.start()
			self.assertEqual(self.create(self.node, "comes", idempotency_key="k"), task)
			self.ledger.open_gate("gate")
			self.assertEqual(list(watch)[-1]["state"], "complete")
		self.assertEqual(waiter.result().state, "complete")

	def test_templates_and_history_stay(self):
		self.apply(self.node, template("stays", [step("a")]))
		worker = self.python_worker(self.node)
		task = self.create(self.node, "stays")
		before = self.finished(self.node, task)
		history = self.node.client.get_task_history(task)
		self.node.stop()
		self.node.start()
		self.assertEqual(self.node.client.get_task(task), before)
		self.assertEqual(self.node.client.get_task_history(task), history)
		self.assertTrue(worker.alive())
		self.assertEqual(self.finished(self.node, self.create(self.node, "stays")).state, "complete")

	def test_the_c_worker_comes_back(self):
		self.apply(self.node, template("c", [step("a", "bench.noop"), step("b", "bench.noop", after=["a"])]))
		worker = self.c_worker(self.node)
		self.node.kill()
		self.node.start()
		worker.wait_listed(self.node)
		self.assertEqual(self.finished(self.node, self.create(self.node, "c")).state, "complete")
		self.doctor(self.node)

	def test_the_socket_of_a_killed_daemon_does_not_stand_in_the_way(self):
		self.node.kill()
		self.node.start()
		second = harness.Daemon(self, "second", database=self.db.uri, socket=self.node.socket)
		process = second.launch()
		self.assertNotEqual(process.wait(), 0)
		self.assertIn("another process serves", process.log_text())
		self.assertEqual(self.node.database_state(), "up")


class Embedded(harness.Case):
	def test_a_second_daemon_on_one_directory_is_refused(self):
		directory = self.embedded_dir()
		first = harness.Daemon(self, "first", embedded=directory).start()
		second = harness.Daemon(self, "second", embedded=directory)
		process = second.launch()
		self.assertEqual(process.wait(), 1)
		self.assertRegex(process.log_text(), "another|already|in use")
		self.assertEqual(first.database_state(), "up")
		self.assertEqual(first.stop(), 0)

	def test_data_survives_a_stop_and_a_kill(self):
		node = harness.Daemon(self, "node", embedded=self.embedded_dir()).start()
		self.apply(node, template("kept", [step("a", "t.gate", attempts=1)]))
		self.python_worker(node)
		task = self.create(node, "kept")
		self.ledger.wait_lines(1)
		node.kill()
		node.start()
		self.ledger.open_gate("gate")
		self.assertEqual(self.finished(node, task).step("a").attempts, 1)
		self.assertEqual(node.stop(), 0)
		node.start()
		self.assertEqual(node.client.get_task(task).state, "complete")
		self.doctor(node)
		self.assertEqual(node.stop(), 0)


if __name__ == "__main__":
	unittest.main()

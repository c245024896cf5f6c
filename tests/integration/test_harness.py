"""The judgement of the harness itself: what it must notice, it notices."""
import os
import unittest

import harness
from harness import step, template


class Verify(harness.Case):
	def setUp(self):
		super().setUp()
		self.db = self.database()
		self.node = self.daemon(self.db)
		self.apply(self.node, template("two", [step("a"), step("b", after=["a"])]))
		self.python_worker(self.node)
		self.task = self.create(self.node, "two")
		self.finished(self.node, self.task)
		self.verify(self.db, self.node)

	def append(self, line):
		with open(self.ledger.path, "a", encoding="ascii") as f:
			f.write(line)

	def assertNoticed(self, what):
		with self.assertRaises(AssertionError) as caught:
			self.verify(self.db, self.node)
		self.assertIn(what, str(caught.exception))

	def test_an_execution_too_many(self):
		self.append("%s a 1 %d\n" % (self.task, os.getpid()))
		self.assertNoticed("executed more often than claimed")

	def test_a_success_that_nobody_executed(self):
		lines = [e for e in self.ledger.lines() if e.step != "b"]
		open(self.ledger.path, "wb").close()
		for e in lines:
			self.append("%s %s %d %d\n" % e)
		self.assertNoticed("never executed")

	def test_a_success_recorded_twice(self):
		self.db.sql("INSERT INTO tasker.step_attempts SELECT * FROM tasker.step_attempts WHERE step_no = 1")
		self.assertNoticed("recorded_exactly_once")

	def test_a_step_without_its_success(self):
		self.db.sql("DELETE FROM tasker.step_attempts WHERE step_no = 1")
		self.assertNoticed("recorded_exactly_once")

	def test_a_stranded_step(self):
		self.db.sql("UPDATE tasker.tasks SET state = 'steps_in_process', open_sinks = 1; UPDATE tasker.steps SET state = 'enqueued' WHERE step_no = 1; "
		            "DELETE FROM tasker.step_attempts WHERE step_no = 1")
		self.assertNoticed("queued_steps_have_messages")

	def test_a_message_that_is_missing_in_one_of_many_queues(self):
		"""And doctor needs no more of the server for many queues than for few: one query over all of them took as many levels of its stack, and far longer to be planned than to be run."""
		self.apply(self.node, template("many", [step("s%d" % i, "t.q%d" % i) for i in range(400)]))
		task = self.create(self.node, "many")
		harness.wait_for(lambda: self.db.number("SELECT count(*) FROM tasker.steps WHERE state = 'enqueued'") == 400, "all steps to be queued")
		found = "SET max_stack_depth = '100kB'; SELECT x ->> 'found', x -> 'sample' -> 0 ->> 'step_no' FROM jsonb_array_elements(tasker.api_doctor('{}') -> 'checks') x WHERE x ->> 'name' = 'queued_steps_have_messages'"
		self.assertEqual(self.db.sql(found)[-1][0], "0")
		queue = self.db.value("SELECT queue_name FROM tasker.handlers WHERE callable = 't.q7'")
		self.db.sql("DELETE FROM pgmq.q_%s" % queue)
		self.assertEqual(self.db.sql(found)[-1], ["1", self.db.value("SELECT s.step_no FROM tasker.template_steps s JOIN tasker.handlers h USING (handler_id) WHERE h.callable = 't.q7'")])
		self.node.client.cancel_task(task)
		self.verify(self.db, self.node)


class Processes(harness.Case):
	def test_a_dead_daemon_is_not_waited_for(self):
		db = self.database(migrated=False)
		with self.assertRaises(AssertionError) as caught:
			self.daemon(db)
		self.assertIn("taskerd --migrate", str(caught.exception))

	def test_nothing_is_left(self):
		stage = harness.Stage()
		stage.begin("left")
		db = stage.database()
		node = stage.daemon(db)
		worker = stage.python_worker(node)
		worker.freeze()
		pids = [node.pid, worker.pid]
		stage.end()
		self.assertEqual([p for p in pids if os.path.exists("/proc/%d" % p)], [])
		self.assertFalse(os.path.exists(stage.place))


if __name__ == "__main__":
	unittest.main()

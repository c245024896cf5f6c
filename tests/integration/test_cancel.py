"""Cancelling: running handlers are told, what waited never runs, nothing is left behind."""
import unittest

import harness
from harness import Waiting, step, template, wait_for
from taskerd.exceptions import ConflictError


class Cancel(harness.SharedCase):
	def test_a_running_handler_is_told(self):
		self.apply(self.node, template("told", [step("a", "t.gate", gate="never"), step("b", after=["a"])]))
		task = self.create(self.node, "told")
		wait_for(lambda: any(e.task == task for e in self.ledger.lines("a")), "the handler to run")
		answer = self.node.client.cancel_task(task, "no longer wanted")
		self.assertEqual(answer["state"], "cancelled")
		self.assertEqual({s["name"]: s["state"] for s in answer["steps"]}, {"a": "cancelled", "b": "cancelled"})
		wait_for(lambda: [n for n in self.ledger.notes("cancelled") if n["task"] == task], "the handler to be told")
		self.assertEqual([n["reason"] for n in self.ledger.notes("cancelled") if n["task"] == task], ["task_cancelled"])
		wait_for(lambda: self.shared.worker.row(self.node)["open"] == 0, "its place to be free again")
		self.assertEqual([o for t, s, _, o, _, _ in self.db.attempts() if t == task], ["cancelled"])
		row = self.db.sql("SELECT h.from_state, h.to_state, h.cause ->> 'reason', h.cause ->> 'operator' FROM tasker.task_history h JOIN tasker.tasks t USING (task_id) "
		                  "WHERE t.task_uuid = '%s' AND h.to_state = 'cancelled'" % task)
		self.assertEqual(row[0][:3], ["steps_in_process", "cancelled", "no longer wanted"])
		self.assertTrue(row[0][3].startswith("uid:"))
		self.assertEqual(self.finished(self.node, task).state, "cancelled")

	def test_a_late_result_changes_nothing(self):
		self.apply(self.node, template("ignores", [step("a", "t.late", gate="ignores"), step("b", after=["a"])]))
		task = self.create(self.node, "ignores")
		wait_for(lambda: any(e.task == task for e in self.ledger.lines("a")), "the handler to run")
		self.node.client.cancel_task(task)
		wait_for(lambda: [n for n in self.ledger.notes("cancelled") if n["task"] == task], "the handler to be told")
		stale = self.shared.worker.log_text().count(": stale")
		self.ledger.open_gate("ignores")
		wait_for(lambda: self.shared.worker.log_text().count(": stale") > stale, "the result to be answered")
		done = self.node.client.get_task(task)
		self.assertEqual((done.state, done.step("a").state, done.step("a").result), ("cancelled", "cancelled", None))

	def test_what_waits_in_a_queue_never_runs(self):
		self.apply(self.node, template("queued", [step("a", "rank.a")]))
		gone, kept = self.create(self.node, "queued"), self.create(self.node, "queued")
		self.node.client.cancel_task(gone)
		worker = self.shared.python_worker(self.node, name="rank", module="rank.py")
		self.assertEqual(self.finished(self.node, kept).state, "complete")
		self.assertEqual([e.task for e in self.ledger.lines() if e.task in (gone, kept)], [kept])
		worker.stop()
		self.doctor(self.node)

	def test_a_retry_that_waits(self):
		self.apply(self.node, template("backoff", [step("a", "t.flaky", fails=9, base_ms=harness.HOUR_MS, max_ms=harness.HOUR_MS, backoff="linear")]))
		task = self.create(self.node, "backoff")
		self.wait_step(self.node, task, "a", "waiting_for_retry")
		self.node.client.cancel_task(task)
		done = self.node.client.get_task(task)
		self.assertEqual((done.state, done.step("a").state), ("cancelled", "cancelled"))
		self.doctor(self.node)

	def test_a_blocked_task(self):
		self.apply(self.node, template("blocked", [step("a", "t.flaky", fails=1, kind="permanent"), step("b", after=["a"])]))
		task = self.create(self.node, "blocked")
		self.assertEqual(self.finished(self.node, task).state, "blocked_by_failures")
		self.assertEqual(self.node.client.cancel_task(task)["state"], "cancelled")

	def test_what_is_finished_stays(self):
		self.apply(self.node, template("done", [step("a")]))
		task = self.create(self.node, "done")
		self.finished(self.node, task)
		with self.assertRaises(ConflictError):
			self.node.client.cancel_task(task)
		self.assertEqual(self.node.client.get_task(task).state, "complete")
		self.apply(self.node, template("twice", [step("a", "nobody.at_all")]))
		task = self.create(self.node, "twice")
		self.node.client.cancel_task(task)
		with self.assertRaises(ConflictError):
			self.node.client.cancel_task(task)

	def test_many_cancelled_while_they_run(self):
		"""Cancels race with results: every task ends one way or the other, and the doctor finds nothing."""
		self.apply(self.node, template("race", [step("a"), step("b", after=["a"]), step("c", after=["a"]), step("d", after=["b", "c"])]))
		tasks = self.create_many(self.node, "race", 60)
		for task in tasks[::2]:
			try:
				self.node.client.cancel_task(task)
			except ConflictError:
				pass
		self.db.wait_settled()
		states = {t: self.node.client.get_task(t).state for t in tasks}
		self.assertLessEqual(set(states.values()), {"complete", "cancelled"})
		self.assertEqual({states[t] for t in tasks[1::2]}, {"complete"})
		wait_for(lambda: self.shared.worker.row(self.node)["open"] == 0, "all places to be free")
		self.doctor(self.node)


class OnAnotherNode(harness.Case):
	def test_who_watches_on_the_other_node_sees_it(self):
		db = self.database()
		one = self.daemon(db, name="one", lease_ttl_ms=5000)
		two = self.daemon(db, name="two", lease_ttl_ms=5000)
		self.apply(one, template("far", [step("a", "nobody.has")]))
		task = self.create(one, "far")
		with two.client.watch(task) as watch:
			one.client.cancel_task(task)
			self.assertEqual(list(watch)[-1]["state"], "cancelled")

	def test_the_handler_runs_on_the_other_node(self):
		db = self.database()
		one = self.daemon(db, name="one", lease_ttl_ms=5000)
		two = self.daemon(db, name="two", lease_ttl_ms=5000)
		self.apply(one, template("far", [step("a", "t.gate", gate="never")]))
		worker = self.python_worker(two)
		task = self.create(two, "far")
		self.ledger.wait_lines(1)
		one.client.cancel_task(task)
		wait_for(lambda: self.ledger.notes("cancelled"), "the handler to be told")
		wait_for(lambda: worker.row(two)["open"] == 0, "its place to be free")
		self.doctor(two)

	def test_who_waits_on_the_other_node_is_told(self):
		db = self.database()
		one = self.daemon(db, name="one", lease_ttl_ms=5000)
		two = self.daemon(db, name="two", lease_ttl_ms=5000)
		self.apply(one, template("far", [step("a", "nobody.has")]))
		task = self.create(one, "far")
		waiter = Waiting(two, task)
		one.client.cancel_task(task)
		self.assertEqual(waiter.result().state, "cancelled")


if __name__ == "__main__":
	unittest.main()

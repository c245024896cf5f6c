"""Attempts: retries and backoff, permanent errors, timeouts, isolation of failures."""
import json
import unittest

import harness
import wire
from harness import step, template, wait_for


class Retry(harness.SharedCase):
	def run_one(self, name, steps, **context):
		self.apply(self.node, template(name, steps))
		return self.finished(self.node, self.create(self.node, name, context))

	def outcomes(self, task, name=None):
		return [(s, n, o) for t, s, n, o, _, _ in self.db.attempts() if t == task.task_uuid and name in (None, s)]

	def test_a_second_attempt(self):
		task = self.run_one("second", [step("a", "t.flaky", fails=1), step("b", after=["a"])])
		self.assertEqual(task.state, "complete")
		self.assertEqual(task.step("a").attempts, 2)
		self.assertIsNone(task.step("a").error)
		self.assertEqual(self.outcomes(task), [("a", 1, "handler_error"), ("a", 2, "success"), ("b", 1, "success")])
		notes = [(n["retry_count"], n["last"]) for n in self.ledger.notes("flaky") if n["task"] == task.task_uuid]
		self.assertEqual(notes, [(0, False), (1, False)])

	def test_all_attempts_fail(self):
		task = self.run_one("hopeless", [step("a", "t.flaky", fails=9, attempts=4), step("b", after=["a"])])
		self.assertEqual(task.state, "blocked_by_failures")
		a = task.step("a")
		self.assertEqual((a.state, a.attempts, a.max_attempts), ("error", 4, 4))
		self.assertEqual(a.error["message"], "asked to fail")
		self.assertEqual(task.step("b").state, "pending")
		self.assertEqual([o for _, _, o in self.outcomes(task)], ["handler_error"] * 4)
		last = [n for n in self.ledger.notes("flaky") if n["task"] == task.task_uuid]
		self.assertEqual([n["last"] for n in last], [False, False, False, True])

	def test_one_attempt_only(self):
		for name, kw in (("max1", {"attempts": 1}), ("never", {"retryable": False})):
			task = self.run_one(name, [step("a", "t.flaky", fails=1, **kw)])
			self.assertEqual((task.state, task.step("a").attempts), ("blocked_by_failures", 1))

	def test_permanent(self):
		task = self.run_one("permanent", [step("a", "t.flaky", fails=1, kind="permanent", attempts=5)])
		self.assertEqual((task.state, task.step("a").state, task.step("a").attempts), ("blocked_by_failures", "error", 1))
		self.assertEqual(task.step("a").error["error_code"], "ASKED")
		self.assertEqual(self.outcomes(task), [("a", 1, "permanent_error")])

	def test_an_exception_is_retried_and_kept(self):
		task = self.run_one("exception", [step("a", "t.flaky", fails=9, kind="exception", attempts=2)])
		self.assertEqual(task.step("a").attempts, 2)
		self.assertIn("asked for something", task.step("a").error["message"])
		self.assertTrue(task.step("a").error["backtrace"])

	def test_a_handler_that_no_code_has(self):
		"""The worker offers the callable, but the method named in the template does not exist."""
		task = self.run_one("method", [step("a", method="nothing", attempts=5)])
		self.assertEqual((task.step("a").state, task.step("a").attempts), ("error", 1))
		self.assertIn("nothing", task.step("a").error["message"])

	def test_backoff_puts_the_next_attempt_off(self):
		"""With an hour's backoff the task waits, and says until when."""
		self.apply(self.node, template("hour", [step("a", "t.flaky", fails=1, base_ms=harness.HOUR_MS, max_ms=harness.HOUR_MS, backoff="linear")]))
		task = self.create(self.node, "hour")
		self.wait_step(self.node, task, "a", "waiting_for_retry")
		seen = self.node.client.get_task(task)
		self.assertEqual(seen.state, "waiting_for_retry")
		minutes = self.minutes(task)
		self.assertTrue(50 <= minutes <= 70, minutes)
		self.assertFalse(self.node.client.wait(task, 0.05).settled)
		queue = {q["handler"]: q for q in self.node.client.list_queues()}["t.flaky"]
		self.assertGreaterEqual(queue["delayed"], 1)
		self.node.client.cancel_task(task)

	def minutes(self, task):
		return float(self.db.value("SELECT extract(epoch FROM s.retry_at - now()) / 60 FROM tasker.steps s JOIN tasker.tasks t USING (task_id) WHERE t.task_uuid = '%s'" % task))

	def test_retry_after_wins_over_the_backoff(self):
		self.apply(self.node, template("after", [step("a", "t.flaky", fails=1, retry_after=1800, base_ms=10), step("b", "t.flaky", fails=1, retry_after=0, base_ms=harness.HOUR_MS,
		                                                                                                        max_ms=harness.HOUR_MS, backoff="linear")]))
		task = self.create(self.node, "after")
		self.wait_step(self.node, task, "a", "waiting_for_retry")
		self.assertTrue(29 <= float(self.db.value("SELECT extract(epoch FROM max(s.retry_at) - now()) / 60 FROM tasker.steps s JOIN tasker.tasks t USING (task_id) "
		                                          "WHERE t.task_uuid = '%s'" % task)) <= 31)
		self.wait_step(self.node, task, "b", "complete")
		self.node.client.cancel_task(task)

	def test_the_longest_wish_is_capped(self):
		self.apply(self.node, template("longest", [step("a", "t.wishes")]))
		worker = wire.Worker(self.node.socket, ["t.wishes"])
		self.addCleanup(worker.close)
		task = self.create(self.node, "longest")
		given = worker.take()
		worker.fail(given, retry_after_ms=2 ** 63 - 1)
		self.assertEqual(worker.acked(given), "recorded")
		retry_at = self.node.client.get_step(task, "a").retry_at
		self.assertGreater(float(self.db.value("SELECT extract(epoch FROM '%s'::timestamptz - now()) / 60" % retry_at)), 30)
		self.node.client.cancel_task(task)

	def test_backoffs_as_written(self):
		"""Delays of the attempts, from the database's clock: linear 40, 80, 120 ms; exponential 40, 80, 160; fibonacci 40, 40, 80; with 15 % jitter, and capped."""
		want = {"linear": (40, 80, 120), "exponential": (40, 80, 100), "fibonacci": (40, 40, 80), "none": (0, 0, 0)}
		steps = [step(kind, "t.flaky", fails=3, attempts=4, backoff=kind, base_ms=40, max_ms=100) for kind in want]
		task = self.run_one("backoffs", steps)
		self.assertEqual(task.state, "complete")
		for kind, delays in want.items():
			rows = self.db.sql("SELECT extract(epoch FROM lead(a.ready_at) OVER (ORDER BY a.attempt) - a.recorded_at) * 1000 FROM tasker.step_attempts a JOIN tasker.tasks t USING (task_id) "
			                   "JOIN tasker.template_steps ts ON ts.template_id = t.template_id AND ts.step_no = a.step_no WHERE t.task_uuid = '%s' AND ts.name = '%s' ORDER BY a.attempt"
			                   % (task.task_uuid, kind))
			for delay, (got,) in zip(delays, rows):
				cap = min(delay, 100)
				self.assertTrue(cap * 0.84 <= float(got) <= cap * 1.16 + 1, (kind, delays, rows))

	def test_a_failure_stops_only_what_depends_on_it(self):
		steps = [step("root"), step("bad", "t.flaky", fails=1, kind="permanent", after=["root"]), step("below", after=["bad"]), step("deeper", after=["below", "good"]),
		         step("good", after=["root"]), step("fine", after=["good"]), step("alone")]
		task = self.run_one("isolated", steps)
		self.assertEqual(task.state, "blocked_by_failures")
		self.assertEqual({s.name: s.state for s in task.steps}, {"root": "complete", "bad": "error", "below": "pending", "deeper": "pending", "good": "complete",
		                                                         "fine": "complete", "alone": "complete"})
		self.assertEqual((task.failed_steps, task.completed_steps, task.pending_steps), (1, 4, 2))

	def test_a_slow_branch_runs_on_after_a_failure(self):
		"""The task is not blocked while something still runs."""
		self.apply(self.node, template("slow", [step("bad", "t.flaky", fails=1, kind="permanent"), step("slow", "t.gate", gate="slow"), step("next", after=["slow"])]))
		task = self.create(self.node, "slow")
		self.wait_step(self.node, task, "bad", "error")
		self.assertEqual(self.node.client.get_task(task).state, "steps_in_process")
		self.ledger.open_gate("slow")
		done = self.finished(self.node, task)
		self.assertEqual((done.state, done.step("next").state), ("blocked_by_failures", "complete"))

	def test_many_failures_at_once(self):
		steps = [step("s%02d" % i, "t.flaky", fails=i % 4, attempts=3) for i in range(40)]
		task = self.run_one("mixed", steps)
		self.assertEqual(task.state, "blocked_by_failures")
		self.assertEqual((task.failed_steps, task.completed_steps), (10, 30))

	def test_timeout(self):
		"""The attempt ends as timeout, the handler is told, the next attempt runs; the late result changes nothing."""
		self.apply(self.node, template("times", [step("a", "t.late", gate="times", timeout=3), step("b", after=["a"])]))
		task = self.create(self.node, "times")
		done = self.finished(self.node, task)
		self.assertEqual(done.state, "complete")
		self.assertEqual(done.step("a").result, {"step": "a", "attempt": 2})
		self.assertEqual(self.outcomes(done), [("a", 1, "timeout"), ("a", 2, "success"), ("b", 1, "success")])
		notes = [n for n in self.ledger.notes("cancelled") if n["task"] == task]
		self.assertEqual([(n["attempt"], n["reason"]) for n in notes], [(1, "timeout")])
		before = self.node.info()["counters"]["frames"]
		self.ledger.open_gate("times")  # now the first attempt returns
		wait_for(lambda: self.shared.worker.log_text().count("attempt 1: stale") >= 1, "the late result to be answered")
		self.assertGreater(self.node.info()["counters"]["frames"], before)
		again = self.node.client.get_task(task)
		self.assertEqual(again.step("a").result, {"step": "a", "attempt": 2})
		self.assertEqual(len(self.outcomes(done)), 3)

	def test_timeouts_use_up_the_attempts(self):
		task = self.run_one("timesout", [step("a", "t.gate", gate="never", timeout=1, attempts=2)])
		self.assertEqual(task.state, "blocked_by_failures")
		self.assertEqual((task.step("a").state, task.step("a").attempts), ("error", 2))
		self.assertEqual(self.outcomes(task), [("a", 1, "timeout"), ("a", 2, "timeout")])
		self.assertIn("timeout", json.dumps(task.step("a").error))

	def test_a_place_taken_by_a_late_handler_is_given_back(self):
		"""A timed-out step keeps its place until its worker speaks; then the worker has all its places again."""
		self.apply(self.node, template("place", [step("a", "t.gate", gate="never", timeout=1, attempts=1)]))
		for task in self.create_many(self.node, "place", 8):
			self.assertEqual(self.finished(self.node, task).state, "blocked_by_failures")
		wait_for(lambda: self.shared.worker.row(self.node)["open"] == 0, "all places to be free")

	def test_the_poison_step(self):
		"""A step that kills its worker each time ends in error. Its own worker and stage: this one is not shared."""
		stage = harness.Stage()
		stage.begin("poison")
		self.addCleanup(stage.end)
		db = stage.database()
		node = stage.daemon(db)
		stage.apply(node, template("poison", [step("a", "t.poison", attempts=3), step("b")]))
		task = stage.create(node, "poison")
		for i in range(4):
			stage.python_worker(node, name="w%d" % i, threads=1, prefetch=0, wait=False)
		done = stage.finished(node, task)
		self.assertEqual((done.state, done.step("a").state, done.step("b").state), ("blocked_by_failures", "error", "complete"))
		lost = [(n, o) for _, s, n, o, _, _ in db.attempts() if s == "a"]
		self.assertEqual(lost, [(1, "worker_lost"), (2, "worker_lost"), (3, "worker_lost")])
		self.assertEqual(len(stage.ledger.lines("a")), 3)
		stage.doctor(node)


if __name__ == "__main__":
	unittest.main()

"""Limits of templates: what each key of `lifecycle` measures and does, in every state a task can rest in. Time is moved, not waited for: a task's past is made older in the
database, whose clock is the one that counts."""
import unittest

import harness
from harness import step, template, wait_for

SHIFTED = {"tasks": ("created_at", "finished_at"), "steps": ("ready_at", "claimed_at", "finished_at"), "step_attempts": ("ready_at", "claimed_at", "finished_at", "recorded_at"),
           "task_transitions": ("at",), "operator_actions": ("at",), "task_deadlines": ("due_at",)}


def age(db, minutes, *tasks):
	"""Make all that has happened to tasks so much older, in one transaction."""
	ids = ", ".join("'%s'" % t for t in tasks)
	db.sql("BEGIN; %s COMMIT" % " ".join(
		"UPDATE tasker.%s SET %s WHERE task_id IN (SELECT task_id FROM tasker.tasks WHERE task_uuid IN (%s));" % (
			table, ", ".join("%s = %s - interval '%d minutes'" % (c, c, minutes) for c in columns), ids) for table, columns in SHIFTED.items()))


class Stage(harness.SharedCase):
	@classmethod
	def prepare(cls, stage):
		stage.db = stage.database()
		stage.node = stage.daemon(stage.db, sweep_interval_ms=100)
		stage.worker = stage.python_worker(stage.node)

	def ask(self, method, **params):
		return self.node.client.request(method, params)

	def start(self, name, steps, **lifecycle):
		self.apply(self.node, template(name, steps, lifecycle=lifecycle))
		return str(self.create(self.node, name))

	def entries(self, task):
		return self.db.sql("SELECT d.reason, d.detail, d.status, d.original_state FROM tasker.dlq d JOIN tasker.tasks t USING (task_id) WHERE t.task_uuid = '%s' ORDER BY d.dlq_id" % task)

	def wait_entry(self, task):
		wait_for(lambda: self.entries(task), "an entry for %s" % task)
		return self.entries(task)[-1]

	def wait_looked_at(self, *tasks):
		"""Until the daemon has looked at tasks that are due."""
		ids = ", ".join("'%s'" % t for t in tasks)
		wait_for(lambda: self.db.number("SELECT count(*) FROM tasker.task_deadlines JOIN tasker.tasks USING (task_id) WHERE due_at <= now() AND task_uuid IN (%s)" % ids) == 0, "a look at the tasks")

	def state(self, task):
		return self.node.client.get_task(task).state


class Limits(Stage):
	"""Each limit where it holds."""

	def stale(self, task, limit, state, reason="staleness_timeout"):
		self.assertEqual(self.wait_entry(task), [reason, limit, "pending", state])
		self.assertEqual(self.state(task), state)

	def test_duration_while_steps_run(self):
		task = self.start("d_run", [step("a", "t.gate", gate="d_run")], max_duration_minutes=60)
		self.wait_step(self.node, task, "a", "in_progress")
		age(self.db, 61, task)
		self.stale(task, "max_duration_minutes", "steps_in_process")
		self.ledger.open_gate("d_run")
		self.assertEqual(self.finished(self.node, task).state, "complete")

	def test_duration_while_it_waits_for_a_retry(self):
		task = self.start("d_retry", [step("a", "t.flaky", fails=1, backoff="linear", base_ms=3600000, max_ms=3600000)], max_duration_minutes=60)
		self.wait_step(self.node, task, "a", "waiting_for_retry")
		age(self.db, 61, task)
		self.stale(task, "max_duration_minutes", "waiting_for_retry")

	def test_duration_while_it_is_blocked(self):
		task = self.start("d_blocked", [step("a", "t.flaky", fails=9, kind="permanent")], max_duration_minutes=60)
		self.finished(self.node, task)
		age(self.db, 61, task)
		wait_for(lambda: self.entries(task)[-1][0] == "staleness_timeout", "the newer reason")
		self.assertEqual(self.entries(task), [["staleness_timeout", "max_duration_minutes", "pending", "blocked_by_failures"]])

	def test_waiting_for_a_retry(self):
		task = self.start("retry", [step("a", "t.flaky", fails=1, backoff="linear", base_ms=3600000, max_ms=3600000)], max_waiting_for_retry_minutes=20)
		self.wait_step(self.node, task, "a", "waiting_for_retry")
		age(self.db, 21, task)
		self.stale(task, "max_waiting_for_retry_minutes", "waiting_for_retry")

	def test_steps_in_process(self):
		task = self.start("process", [step("a", "t.gate", gate="process")], max_steps_in_process_minutes=30)
		self.wait_step(self.node, task, "a", "in_progress")
		age(self.db, 31, task)
		self.stale(task, "max_steps_in_process_minutes", "steps_in_process")
		self.ledger.open_gate("process")
		self.finished(self.node, task)

	def test_progress_begins_it_anew(self):
		task = self.start("moves", [step("a", "t.gate", gate="moves-a"), step("b", "t.gate", gate="moves-b")], max_steps_in_process_minutes=30)
		for name in "ab":
			self.wait_step(self.node, task, name, "in_progress")
		age(self.db, 29, task)
		self.ledger.open_gate("moves-a")
		self.wait_step(self.node, task, "a", "complete")
		age(self.db, 2, task)
		self.wait_looked_at(task)
		self.assertEqual(self.entries(task), [])
		age(self.db, 29, task)
		self.stale(task, "max_steps_in_process_minutes", "steps_in_process")
		self.ledger.open_gate("moves-b")
		self.finished(self.node, task)

	def test_a_checkpoint_is_progress(self):
		self.apply(self.node, template("counts", [step("a", "t.gate", gate="counts")], lifecycle={"max_steps_in_process_minutes": 30}))
		fresh, old = (str(self.create(self.node, "counts")) for _ in range(2))
		for task, minutes in ((fresh, 0), (old, 31)):
			self.wait_step(self.node, task, "a", "in_progress")
			self.db.sql("UPDATE tasker.steps SET checkpoint = jsonb_build_object('cursor', 5, 'timestamp', tasker.rfc3339(now() - interval '%d minutes')) "
			            "WHERE task_id = (SELECT task_id FROM tasker.tasks WHERE task_uuid = '%s')" % (minutes, task))
		age(self.db, 31, fresh, old)
		self.stale(old, "max_steps_in_process_minutes", "steps_in_process")
		self.wait_looked_at(fresh)
		self.assertEqual(self.entries(fresh), [])
		self.ledger.open_gate("counts")
		self.finished(self.node, fresh)
		self.finished(self.node, old)

	def test_no_worker_for_what_is_ready(self):
		task = self.start("nobody", [step("a", "t.nobody")], max_waiting_for_dependencies_minutes=45)
		self.wait_step(self.node, task, "a", "enqueued")
		age(self.db, 46, task)
		self.stale(task, "max_waiting_for_dependencies_minutes", "steps_in_process", "worker_unavailable")

	def test_nobody_comes_to_a_blocked_task(self):
		task = self.start("left", [step("a", "t.flaky", fails=9, kind="permanent"), step("b", after=["a"])], max_waiting_for_dependencies_minutes=45, auto_fail_on_timeout=True)
		self.assertEqual(self.finished(self.node, task).state, "blocked_by_failures")
		age(self.db, 46, task)
		wait_for(lambda: self.state(task) == "error", "the task to be given up")
		self.assertEqual({s.name: s.state for s in self.node.client.get_task(task).steps}, {"a": "error", "b": "cancelled"})
		self.assertEqual(self.entries(task), [["staleness_timeout", "max_waiting_for_dependencies_minutes", "pending", "blocked_by_failures"]])

	def test_a_paused_task_waits_for_a_resume(self):
		task = self.start("rests", [step("a", "t.nobody")], max_waiting_for_dependencies_minutes=45)
		self.wait_step(self.node, task, "a", "enqueued")
		self.ask("task.action", task_uuid=task, action="pause", reason="wait")
		age(self.db, 46, task)
		self.stale(task, "max_waiting_for_dependencies_minutes", "steps_in_process")

	def test_a_task_that_is_to_begin_later_has_its_time_from_then_on(self):
		self.apply(self.node, template("later", [step("a", "t.nobody")], lifecycle={"max_duration_minutes": 60, "max_waiting_for_dependencies_minutes": 45}))
		task = str(self.ask("task.create", namespace="t", name="later", run_at="2999-01-01T00:00:00Z")["task_uuid"])
		self.assertEqual(self.state(task), "pending")
		age(self.db, 100, task)
		self.wait_looked_at(task)
		self.assertEqual(self.entries(task), [])
		self.db.sql("UPDATE tasker.tasks SET run_at = now() - interval '61 minutes' WHERE task_uuid = '%s'" % task)
		self.db.sql("UPDATE tasker.task_deadlines SET due_at = now()")
		self.stale(task, "max_waiting_for_dependencies_minutes", "pending")
		self.ask("task.action", task_uuid=task, action="cancel", reason="enough")

	def test_a_retry_by_hand_begins_the_time_anew(self):
		task = self.start("anew", [step("a", "t.nobody")], max_duration_minutes=60, auto_fail_on_timeout=True)
		self.wait_step(self.node, task, "a", "enqueued")
		age(self.db, 61, task)
		wait_for(lambda: self.state(task) == "error", "the task to be failed")
		answer = self.ask("dlq.redrive", task_uuid=task, reason="a worker comes")
		self.assertEqual((answer["entry"]["status"], answer["task"]["state"]), ("manually_resolved", "steps_in_process"))
		age(self.db, 59, task)
		self.wait_looked_at(task)
		self.assertEqual(self.state(task), "steps_in_process")
		age(self.db, 2, task)
		wait_for(lambda: self.state(task) == "error", "the task to be failed again")
		self.assertEqual([e[2] for e in self.entries(task)], ["manually_resolved", "pending"])

	def test_nothing_happens_before_the_time(self):
		task = self.start("early", [step("a", "t.gate", gate="early")], max_duration_minutes=60, max_steps_in_process_minutes=50, max_waiting_for_retry_minutes=5)
		self.wait_step(self.node, task, "a", "in_progress")
		age(self.db, 49, task)
		self.wait_looked_at(task)
		self.assertEqual((self.entries(task), self.state(task)), ([], "steps_in_process"))
		row, = [t for t in self.ask("dlq.staleness", health="warning")["tasks"] if t["task_uuid"] == task]
		self.assertEqual((row["limit"], row["minutes"], row["action"], row["in_dlq"]), ("max_steps_in_process_minutes", 50, "dlq", False))
		self.assertGreaterEqual(row["percent"], 98)
		self.ledger.open_gate("early")
		self.finished(self.node, task)

	def test_templates_without_limits_have_no_timers(self):
		tasks = [self.start("plain", [step("a")]), self.start("word_only", [step("a")], staleness_action="error")]
		for task in tasks:
			self.finished(self.node, task)
			self.assertEqual(self.db.number("SELECT count(*) FROM tasker.task_deadlines JOIN tasker.tasks USING (task_id) WHERE task_uuid = '%s'" % task), 0)

	def test_many_made_at_once_have_their_timers(self):
		self.apply(self.node, template("bulk", [step("a", "t.nobody")], lifecycle={"max_duration_minutes": 60, "auto_dlq_on_timeout": False, "auto_fail_on_timeout": True}))
		tasks = self.create_many(self.node, "bulk", 450)
		self.assertEqual(self.db.number("SELECT count(*) FROM tasker.task_deadlines JOIN tasker.tasks USING (task_id) JOIN tasker.templates USING (template_id) WHERE name = 'bulk'"), 450)
		age(self.db, 61, *tasks)
		wait_for(lambda: self.db.number("SELECT count(*) FROM tasker.tasks JOIN tasker.templates USING (template_id) WHERE name = 'bulk' AND state = 'error'") == 450, "all to be failed")


class Actions(Stage):
	"""What is done about it."""

	def over(self, name, **lifecycle):
		"""A task with a running step that passes its limit: (task, what became of it)."""
		task = self.start(name, [step("a", "t.gate", gate=name), step("b", after=["a"])], max_duration_minutes=60, **lifecycle)
		self.wait_step(self.node, task, "a", "in_progress")
		age(self.db, 61, task)
		return task

	def finish(self, task, name):
		self.ledger.open_gate(name)
		self.assertEqual(self.finished(self.node, task).state, "complete")

	def fired(self, task):
		wait_for(lambda: self.db.number("SELECT count(*) FROM tasker.task_deadlines JOIN tasker.tasks USING (task_id) WHERE task_uuid = '%s' AND fired <> '{}'" % task), "the limit to act")

	def test_dlq_files_it_and_lets_it_go_on(self):
		task = self.over("act_dlq", staleness_action="dlq")
		self.assertEqual(self.wait_entry(task)[0], "staleness_timeout")
		self.finish(task, "act_dlq")
		age(self.db, 2000, task)  # its timer, too
		wait_for(lambda: self.entries(task)[0][2] == "manually_resolved", "the entry of a task that went well to be closed")

	def test_error_fails_it_without_an_entry(self):
		self.apply(self.node, template("act_error", [step("a", "t.gate", gate="act_error"), step("b", after=["a"])], lifecycle={"max_duration_minutes": 60, "staleness_action": "error"}))
		task = str(self.create(self.node, "act_error"))
		self.wait_step(self.node, task, "a", "in_progress")
		waiting = harness.Waiting(self.node, task)
		age(self.db, 61, task)
		self.assertEqual(waiting.result().state, "error")
		wait_for(lambda: [n for n in self.ledger.notes("cancelled") if n["task"] == task], "the handler to be told")
		got = self.node.client.get_task(task)
		self.assertEqual({s.name: s.state for s in got.steps}, {"a": "cancelled", "b": "cancelled"})
		self.assertEqual(self.entries(task), [])
		self.assertEqual(self.db.sql("SELECT outcome, error ->> 'error_type' FROM tasker.step_attempts JOIN tasker.tasks USING (task_id) WHERE task_uuid = '%s'" % task), [["cancelled", "lifecycle_timeout"]])
		last = self.ask("task.history", task_uuid=task)["transitions"][-1]
		self.assertEqual((last["from"], last["to"], last["node"], last["cause"]["event"], last["cause"]["limit"]), ("steps_in_process", "error", "node-a", "timeout", "max_duration_minutes"))

	def test_none_does_nothing(self):
		task = self.over("act_none", staleness_action="none")
		self.fired(task)
		self.assertEqual((self.entries(task), self.state(task)), ([], "steps_in_process"))
		row, = [t for t in self.ask("dlq.staleness", health="stale")["tasks"] if t["task_uuid"] == task]
		self.assertEqual(row["action"], "none")
		self.finish(task, "act_none")

	def test_the_switches_have_the_last_word(self):
		task = self.over("act_both", staleness_action="none", auto_fail_on_timeout=True, auto_dlq_on_timeout=True)
		self.assertEqual(self.finished(self.node, task).state, "error")
		self.assertEqual(self.entries(task), [["staleness_timeout", "max_duration_minutes", "pending", "steps_in_process"]])
		task = self.over("act_off", staleness_action="dlq", auto_dlq_on_timeout=False)
		self.fired(task)
		self.assertEqual((self.entries(task), self.state(task)), ([], "steps_in_process"))
		self.finish(task, "act_off")
		task = self.over("act_keep", staleness_action="error", auto_fail_on_timeout=False, auto_dlq_on_timeout=True)
		self.assertEqual(self.wait_entry(task)[2], "pending")
		self.assertEqual(self.state(task), "steps_in_process")
		self.finish(task, "act_keep")

	def test_a_limit_acts_once_for_each_stay(self):
		task = self.over("act_once")
		self.wait_entry(task)
		self.ask("dlq.update", task_uuid=task, status="manually_resolved")
		self.db.sql("UPDATE tasker.task_deadlines d SET due_at = now() FROM tasker.tasks t WHERE t.task_id = d.task_id AND t.task_uuid = '%s'" % task)
		self.wait_looked_at(task)
		self.assertEqual(len(self.entries(task)), 1)
		self.finish(task, "act_once")

	def test_a_failed_task_waits_for_no_result(self):
		self.apply(self.node, template("late", [step("a", "t.late", gate="late")], lifecycle={"max_duration_minutes": 60, "staleness_action": "error"}))
		task = str(self.create(self.node, "late"))
		self.wait_step(self.node, task, "a", "in_progress")
		age(self.db, 61, task)
		self.assertEqual(self.finished(self.node, task).state, "error")
		wait_for(lambda: [n for n in self.ledger.notes("cancelled") if n["task"] == task], "the handler to be told")
		self.ledger.open_gate("late")
		wait_for(lambda: self.shared.worker.row(self.node)["open"] == 0, "the late result to be taken")
		self.assertEqual((self.state(task), self.node.client.get_step(task, "a").state), ("error", "cancelled"))


class Nodes(harness.Case):
	def test_a_handler_on_another_node_is_told(self):
		db = self.database()
		one = self.daemon(db, name="one", sweep_interval_ms=100)
		two = self.daemon(db, name="two", sweep_interval_ms=harness.HOUR_MS)
		self.apply(one, template("far", [step("a", "t.gate", gate="never")], lifecycle={"max_duration_minutes": 60, "staleness_action": "error"}))
		worker = self.python_worker(two)
		task = self.create(two, "far")
		self.ledger.wait_lines(1)
		waiting = harness.Waiting(two, task)
		age(db, 61, task)
		self.assertEqual(waiting.result().state, "error")
		wait_for(lambda: self.ledger.notes("cancelled"), "the handler to be told")
		wait_for(lambda: worker.row(two)["open"] == 0, "its place to be free")
		self.doctor(one)

	def test_killed_in_the_middle_of_sweeps(self):
		"""A thousand tasks to be failed and filed, two nodes that do it, one killed again and again: each task is failed once, and nothing is left over."""
		db = self.database()
		one, two = (self.daemon(db, name=n, sweep_interval_ms=100, lease_ttl_ms=3000) for n in ("one", "two"))
		self.apply(one, template("doomed", [step("a", "t.nobody"), step("b", after=["a"])], lifecycle={"max_duration_minutes": 60, "auto_fail_on_timeout": True, "auto_dlq_on_timeout": True}))
		tasks = self.create_many(one, "doomed", 1000)
		count = lambda: db.number("SELECT count(*) FROM tasker.tasks WHERE state = 'error'")  # noqa: E731
		step_size, killed = 250, 0
		for n in range(0, 1000, step_size):
			age(db, 61, *tasks[n:n + step_size])
			wait_for(lambda n=n: count() > n, "the sweep to go on")
			one.kill()
			killed += 1
			one.start()
		wait_for(lambda: count() == 1000, lambda: "all to be failed; %d are" % count())
		self.assertEqual(db.number("SELECT count(*) FROM tasker.task_transitions WHERE to_state = 'error'"), 1000)
		self.assertEqual(db.number("SELECT count(*) FROM tasker.dlq WHERE status = 'pending' AND reason = 'worker_unavailable'"), 1000)
		self.assertEqual(db.number("SELECT count(*) FROM tasker.steps WHERE state <> 'cancelled'"), 0)
		self.doctor(two)


if __name__ == "__main__":
	unittest.main()

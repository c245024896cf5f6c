"""What has happened to tasks and steps: over the socket, from the command line, and in the views that have the reference's names."""
import json
import os
import subprocess
import unittest

import harness
import pg
from harness import step, template
from taskerd.exceptions import TaskerdError


class History(harness.SharedCase):
	@classmethod
	def prepare(cls, stage):
		super().prepare(stage)
		stage.apply(stage.node, template("tried", [step("a", "t.flaky", fails=1, backoff="linear", base_ms=20), step("b", after=["a"])]))
		stage.apply(stage.node, template("broken", [step("a", "t.flaky", fails=9, kind="permanent"), step("b", after=["a"])]))
		stage.tried = str(stage.create(stage.node, "tried"))
		stage.finished(stage.node, stage.tried)

	def setUp(self):
		super().setUp()
		self.tried = self.shared.tried

	def ask(self, method, **params):
		return self.node.client.request(method, params)

	def ctl(self, *args):
		p = subprocess.run([harness.program("clients", "taskerctl", "taskerctl"), "--socket", self.node.socket, *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=harness.PATIENCE)
		self.assertEqual(p.returncode, 0, p.stdout)
		return p.stdout

	def events(self, task, name):
		return [(e["event"], e["state"], e.get("attempt")) for e in self.ask("task.history", task_uuid=task, step=name)["events"]]

	def test_a_task_tells_where_it_rested(self):
		history = self.ask("task.history", task_uuid=self.tried)
		self.assertEqual([(h.get("from"), h["to"], h["cause"]["event"]) for h in history["transitions"]], [
			(None, "steps_in_process", "created"), ("steps_in_process", "waiting_for_retry", "results"), ("waiting_for_retry", "steps_in_process", "retry_ready"),
			("steps_in_process", "complete", "all_steps_successful")])
		self.assertEqual({h["node"] for h in history["transitions"]}, {"node-a"})
		self.assertEqual([(a["step"], a["attempt"], a["outcome"]) for a in history["attempts"]], [("a", 1, "handler_error"), ("a", 2, "success"), ("b", 1, "success")])
		self.assertEqual([h["at"] for h in history["transitions"]], sorted(h["at"] for h in history["transitions"]))

	def test_a_step_tells_of_every_attempt(self):
		self.assertEqual(self.events(self.tried, "a"), [
			("ready", "enqueued", 1), ("started", "in_progress", 1), ("finished", "enqueued_as_error_for_orchestration", 1), ("recorded", "waiting_for_retry", 1),
			("retry_ready", "enqueued", 2), ("started", "in_progress", 2), ("finished", "enqueued_for_orchestration", 2), ("recorded", "complete", 2)])
		self.assertEqual(self.events(self.tried, "b"), [
			("created", "pending", None), ("ready", "enqueued", 1), ("started", "in_progress", 1), ("finished", "enqueued_for_orchestration", 1), ("recorded", "complete", 1)])
		first = self.ask("task.history", task_uuid=self.tried, step="a")["events"]
		self.assertEqual((first[3]["outcome"], first[3]["error"]["message"], first[1]["node"]), ("handler_error", "asked to fail", "node-a"))
		worker = self.ask("worker.list")["workers"][0]["worker_uuid"]
		self.assertEqual((first[2]["worker_uuid"], first[7]["worker_uuid"]), (worker, worker))

	def test_a_step_under_way_tells_what_it_can(self):
		self.apply(self.node, template("gated", [step("a", "t.gate", gate="history")]))
		task = str(self.create(self.node, "gated"))
		self.wait_step(self.node, task, "a", "in_progress")
		self.assertEqual(self.events(task, "a"), [("ready", "enqueued", 1), ("started", "in_progress", 1)])
		self.ledger.open_gate("history")
		self.finished(self.node, task)

	def test_a_step_by_its_uuid_and_none(self):
		uuid = self.node.client.get_step(self.tried, "b").step_uuid
		self.assertEqual(self.events(self.tried, uuid), self.events(self.tried, "b"))
		with self.assertRaises(TaskerdError) as caught:
			self.ask("task.history", task_uuid=self.tried, step="c")
		self.assertEqual(caught.exception.code, "not_found")

	def test_what_was_done_by_hand(self):
		task = str(self.create(self.node, "broken"))
		self.finished(self.node, task)
		self.ask("step.action", task_uuid=task, step="a", action="reset_for_retry", reason="once more", operator="ann")
		self.assertEqual(self.finished(self.node, task).state, "blocked_by_failures")
		self.ask("step.action", task_uuid=task, step="a", action="complete_manually", result={"by": "hand"}, reason="did it", operator="bob")
		self.assertEqual(self.finished(self.node, task).state, "complete")
		self.assertEqual(self.events(task, "a"), [
			("ready", "enqueued", 1), ("started", "in_progress", 1), ("finished", "enqueued_as_error_for_orchestration", 1), ("recorded", "error", 1), ("step.reset_for_retry", "enqueued", None),
			("ready", "enqueued", 1), ("started", "in_progress", 1), ("finished", "enqueued_as_error_for_orchestration", 1), ("recorded", "error", 1), ("step.complete_manually", "complete", None)])
		last = self.ask("task.history", task_uuid=task, step="a")["events"][-1]
		self.assertEqual((last["operator"], last["reason"], last["from"]), ("bob", "did it", "error"))
		history = self.ask("task.history", task_uuid=task)
		self.assertEqual([(a["action"], a["step"], a["operator"], a["reason"]) for a in history["actions"]], [("step.reset_for_retry", "a", "ann", "once more"), ("step.complete_manually", "a", "bob", "did it")])
		self.assertEqual([(h["to"], h["cause"].get("operator")) for h in history["transitions"]], [
			("steps_in_process", None), ("blocked_by_failures", None), ("steps_in_process", "ann"), ("blocked_by_failures", None), ("steps_in_process", "bob"), ("complete", None)])
		self.assertIn("ann", self.ctl("task", "history", task))
		self.assertIn("did it", self.ctl("step", "history", task, "a"))

	def test_pages(self):
		whole = self.ask("task.history", task_uuid=self.tried)
		self.assertIsNone(whole.pop("next_cursor"))
		pages, cursor = [], None
		while True:
			page = self.ask("task.history", task_uuid=self.tried, limit=2, **({"cursor": cursor} if cursor else {}))
			self.assertLessEqual(sum(len(v) for v in page.values() if isinstance(v, list)), 2)
			pages.append(page)
			cursor = page["next_cursor"]
			if cursor is None:
				break
		self.assertEqual(len(pages), 4)
		self.assertEqual({k: [x for page in pages for x in page[k]] for k in whole}, whole)
		steps = [self.ask("task.history", task_uuid=self.tried, step="a", limit=5, cursor=c)["events"] for c in ("0", "5")]
		self.assertEqual([len(s) for s in steps], [5, 3])
		with self.assertRaises(TaskerdError) as caught:
			self.ask("task.history", task_uuid=self.tried, cursor="x")
		self.assertEqual(caught.exception.code, "bad_request")

	def test_pages_are_bounded_in_bytes(self):
		task = str(self.create(self.node, "tried"))
		self.finished(self.node, task)
		self.db.sql("UPDATE tasker.step_attempts SET metadata = to_jsonb(repeat('x', 700000)) WHERE task_id = (SELECT task_id FROM tasker.tasks WHERE task_uuid = '%s')" % task)
		self.assertEqual(len(self.ask("task.history", task_uuid=task)["attempts"]), 1)
		self.assertEqual(len(self.node.client.get_task_history(task)["attempts"]), 3)

	def test_the_command_line(self):
		whole = json.loads(self.ctl("task", "history", self.tried, "--json"))
		self.assertEqual(len(whole["transitions"]), 4)
		text = self.ctl("task", "history", self.tried)
		for word in ("waiting_for_retry", "retry_ready", "handler_error", "asked to fail", "node-a"):
			self.assertIn(word, text)
		text = self.ctl("step", "history", self.tried, "a")
		for word in ("ready", "started", "finished", "recorded", "retry_ready", "enqueued_as_error_for_orchestration", "handler_error"):
			self.assertIn(word, text)
		self.assertEqual(len(json.loads(self.ctl("step", "history", self.tried, "a", "--json"))["events"]), 8)

	# -- the reference's tables ------------------------------------------------------------------------

	def view(self, columns, name, where="", order=""):
		return self.db.sql("SELECT %s FROM tasker_views.%s WHERE %s %s" % (columns, name, where or "task_uuid = '%s'" % self.tried, order))

	def test_every_view_answers(self):
		names = [r[0] for r in self.db.sql("SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'tasker_views' ORDER BY 1")]
		self.assertEqual(names, ["named_steps", "named_tasks", "named_tasks_named_steps", "task_namespaces", "task_transitions", "tasks", "tasks_dlq", "workflow_step_edges",
		                         "workflow_step_result_audit", "workflow_step_transitions", "workflow_steps"])
		for name in names:
			with self.subTest(name):
				self.db.sql("SELECT * FROM tasker_views.%s" % name)

	def test_tasks_and_templates(self):
		row, = self.db.sql("SELECT s.name, n.name, t.version, x.complete, x.priority, x.completed_at >= x.requested_at FROM tasker_views.tasks x JOIN tasker_views.named_tasks t USING (named_task_uuid) "
		                   "JOIN tasker_views.task_namespaces s USING (task_namespace_uuid) JOIN tasker_views.named_tasks n USING (named_task_uuid) WHERE task_uuid = '%s'" % self.tried)
		self.assertEqual(row, ["t", "tried", "1.0.0", "t", "0", "t"])
		rows = self.db.sql("SELECT s.name, d.default_max_attempts FROM tasker_views.named_tasks_named_steps d JOIN tasker_views.named_tasks t USING (named_task_uuid) "
		                   "JOIN tasker_views.named_steps s USING (named_step_uuid) WHERE t.name = 'tried' ORDER BY 1")
		self.assertEqual(rows, [["a", "3"], ["b", "3"]])

	def test_steps_edges_and_transitions(self):
		steps = self.view("name, state, attempts, processed, in_process", "workflow_steps", order="ORDER BY name")
		self.assertEqual(steps, [["a", "complete", "2", "t", "f"], ["b", "complete", "1", "t", "f"]])
		edges = self.db.sql("SELECT f.name, t.name, e.name FROM tasker_views.workflow_step_edges e JOIN tasker_views.workflow_steps f ON f.workflow_step_uuid = e.from_step_uuid "
		                    "JOIN tasker_views.workflow_steps t ON t.workflow_step_uuid = e.to_step_uuid WHERE e.task_uuid = '%s'" % self.tried)
		self.assertEqual(edges, [["a", "b", "provides"]])
		self.assertEqual(self.view("sort_key, from_state, to_state, most_recent", "task_transitions", order="ORDER BY sort_key"), [
			["1", None, "steps_in_process", "f"], ["2", "steps_in_process", "waiting_for_retry", "f"], ["3", "waiting_for_retry", "steps_in_process", "f"], ["4", "steps_in_process", "complete", "t"]])
		rows = self.db.sql("SELECT x.sort_key, x.from_state, x.to_state, x.most_recent FROM tasker_views.workflow_step_transitions x JOIN tasker_views.workflow_steps s USING (workflow_step_uuid) "
		                   "WHERE x.task_uuid = '%s' AND s.name = 'b' ORDER BY 1" % self.tried)
		self.assertEqual(rows, [["1", None, "pending", "f"], ["2", "pending", "enqueued", "f"], ["3", "enqueued", "in_progress", "f"], ["4", "in_progress", "enqueued_for_orchestration", "f"],
		                        ["5", "enqueued_for_orchestration", "complete", "t"]])
		self.assertEqual(self.view("attempt, success, outcome", "workflow_step_result_audit", order="ORDER BY recorded_at"), [["1", "f", "handler_error"], ["2", "t", "success"], ["1", "t", "success"]])

	def test_dead_letters(self):
		task = str(self.create(self.node, "broken"))
		self.finished(self.node, task)
		self.assertEqual(self.view("original_state, dlq_reason, resolution_status", "tasks_dlq", "task_uuid = '%s'" % task), [["blocked_by_failures", "max_retries_exceeded", "pending"]])
		self.assertEqual(self.events(task, "a")[-1], ("recorded", "error", 1))
		self.assertEqual(self.events(task, "b"), [("created", "pending", None)])

	def test_a_reader_needs_no_more_than_the_page_says(self):
		with open(os.path.join(harness.ROOT, "docs", "engine.md"), encoding="utf-8") as f:
			grants = [line.strip() for line in f if line.startswith("GRANT ") and "reader" in line]
		self.assertEqual(len(grants), 3)
		role = "reader_%d" % os.getpid()
		self.db.sql("CREATE ROLE %s" % role)
		try:
			for grant in grants:
				self.db.sql(grant.replace("reader", role))
			self.db.sql("SET ROLE %s" % role)
			for name, in self.db.sql("SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'tasker_views'"):
				with self.subTest(name):
					self.db.sql("SELECT * FROM tasker_views.%s" % name)
			for statement in ("SELECT * FROM tasker.tasks", "SELECT tasker.api_task_list('{}')", "DELETE FROM tasker_views.named_steps"):
				with self.subTest(statement), self.assertRaises(pg.PgError):
					self.db.sql(statement)
		finally:
			self.db.sql("RESET ROLE")
			self.db.sql("DROP OWNED BY %s" % role)
			self.db.sql("DROP ROLE %s" % role)

	def test_one_task_is_found_without_reading_all(self):
		"""The views take a task's uuid down to the indexes, also where they number rows."""
		for name in ("task_transitions", "workflow_step_transitions", "workflow_steps", "workflow_step_edges", "workflow_step_result_audit", "tasks_dlq"):
			plan = "\n".join(r[0] for r in self.db.sql("EXPLAIN SELECT * FROM tasker_views.%s WHERE task_uuid = '%s'" % (name, self.tried)))
			with self.subTest(name):
				self.assertIn("tasks_task_uuid_key", plan)


if __name__ == "__main__":
	unittest.main()

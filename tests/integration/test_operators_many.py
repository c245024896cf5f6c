"""What operators do by hand to many tasks at once, to namespaces, to steps that came to be at run time, and while things break."""
import collections
import threading
import unittest

import harness
from dynflow import batches, choose
from harness import step, template, wait_for
from operators import NOBODY, WHY, OperatorCase
from taskerd.exceptions import BadRequestError, ConflictError, NotFoundError, TaskerdError


class Bulk(OperatorCase):
	def bulk(self, kind, action, filter, **more):  # noqa: A002
		return self.ask(kind + ".bulk_action", action=action, filter=filter, **more)

	def many_blocked(self, name, n, **more):
		self.apply(self.node, template(name, [step("a", "t.mended", gate=name, error_type="Strange_" + name), step("b", "t.mended", gate=name), step("c", after=["a", "b"])]))
		tasks = self.create_many(self.node, name, n, **more)
		for task in tasks:
			self.assertEqual(self.finished(self.node, task).state, "blocked_by_failures")
		return tasks

	def test_steps_by_error_type_in_pages(self):
		tasks = self.many_blocked("paged", 7)
		wanted = {"error_type": "Strange_paged"}
		dry = self.bulk("step", "reset_for_retry", wanted, dry_run=True)
		self.assertEqual((dry["done"], dry["refused"], len(dry["items"])), (0, 0, 7))
		self.assertEqual([i["outcome"] for i in dry["items"]], ["would_be_done"] * 7)
		self.assertEqual({i["state"] for i in dry["items"]}, {"error"})
		self.assertEqual({self.get(t).state for t in tasks}, {"blocked_by_failures"})
		self.ledger.open_gate("paged")
		seen, cursor, pages = [], None, 0
		while True:
			page = self.bulk("step", "reset_for_retry", wanted, limit=3, cursor=cursor)
			seen += [(i["task_uuid"], i["step"]) for i in page["items"]]
			cursor, pages = page.get("next_cursor"), pages + 1
			if not cursor:
				break
		self.assertEqual(sorted(seen), sorted((t, "a") for t in tasks))
		self.assertEqual(pages, 3)
		for task in tasks:
			wait_for(lambda: self.states(task) == {"a": "complete", "b": "error", "c": "pending"}, "a to be complete")
		answer = self.bulk("task", "retry", {"name": "paged"})
		self.assertEqual((answer["done"], answer["refused"], answer["next_cursor"]), (7, 0, None))
		for task in tasks:
			self.completed(task)
		self.doctor(self.node)

	def test_tasks_by_every_condition(self):
		a = self.many_blocked("picked", 3, tags=["red"], correlation_id="corr-1")
		b = self.many_blocked("spared", 2)
		middle = self.db.value("SELECT to_char(min(created_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM tasker.tasks WHERE task_uuid = '%s'" % b[0])
		for condition in ({"name": "picked"}, {"tag": "red"}, {"correlation_id": "corr-1"}, {"error_type": "Strange_picked"}, {"task_uuids": a},
		                  {"name": "picked", "state": "blocked_by_failures", "namespace": "t", "version": "1.0.0"}, {"step": "b", "step_state": "error", "tag": "red"},
		                  {"created_before": middle, "name": "picked"}):
			got = self.bulk("task", "pause", condition, dry_run=True)
			self.assertEqual([i["task_uuid"] for i in got["items"]], a, condition)
		self.assertEqual([i["task_uuid"] for i in self.bulk("task", "pause", {"created_after": middle, "name": "spared"}, dry_run=True)["items"]], b)
		for condition in ({"name": "nothing"}, {"tag": "blue"}, {"version": "9.9.9"}, {"name": "picked", "state": "complete"}, {"task_uuids": [NOBODY]}, {"step": "zz"}):
			self.assertEqual(self.bulk("task", "pause", condition)["items"], [], condition)
		answer = self.bulk("task", "cancel", {"tag": "red"})
		self.assertEqual([(i["outcome"], i["state"]) for i in answer["items"]], [("done", "cancelled")] * 3)
		again = self.bulk("task", "cancel", {"tag": "red"})
		self.assertEqual((again["done"], again["refused"]), (0, 3))
		self.assertEqual({i["message"] for i in again["items"]}, {"the task is finished: cancelled"})
		self.assertEqual({self.get(t).state for t in b}, {"blocked_by_failures"})
		self.bulk("task", "cancel", {"task_uuids": b})
		self.doctor(self.node)

	def test_bad_filters(self):
		for condition, path in (({}, "filter"), ({"colour": "red"}, "filter.colour"), ({"state": "sleeping"}, "filter.state"), ({"step_state": "x"}, "filter.step_state"),
		                        ({"created_after": "soon"}, "filter.created_after"), ({"task_uuids": ["x"]}, "filter.task_uuids"), ({"task_uuids": []}, "filter.task_uuids"),
		                        ({"task_uuids": [NOBODY] * 1001}, "filter.task_uuids"), ({"name": 5}, "filter.name"), ({"name": ""}, "filter.name"), ({"all": 1}, "filter.all"), ({"tag": None}, "filter")):
			error = self.refused(BadRequestError, "filter", self.bulk, "task", "pause", condition)
			self.assertEqual(error.path, path, condition)
		self.assertEqual(self.refused(BadRequestError, "filter", self.bulk, "task", "pause", []).path, "filter")
		self.assertEqual(self.refused(BadRequestError, "limit", self.bulk, "task", "pause", {"all": True}, limit=0).path, "limit")
		for kind, cursor in ("task", "x"), ("task", "1/2"), ("step", "5"), ("step", "-1/2"):
			self.assertEqual(self.refused(BadRequestError, "cursor", self.bulk, kind, "cancel" if kind == "task" else "skip", {"all": True}, cursor=cursor).path, "cursor")

	def test_steps_whose_state_is_named(self):
		"""With a condition on their state, those that cannot be acted on are listed as refused."""
		tasks = self.many_blocked("named", 2)
		answer = self.bulk("step", "reset_for_retry", {"name": "named", "step_state": "pending"})
		self.assertEqual([(i["step"], i["outcome"]) for i in answer["items"]], [("c", "refused")] * 2)
		self.assertIn("the step is pending", answer["items"][0]["message"])
		answer = self.bulk("step", "complete_manually", {"name": "named", "step": "a"}, result={"n": 1})
		self.assertEqual([(i["step"], i["outcome"], i["state"]) for i in answer["items"]], [("a", "done", "complete")] * 2)
		self.assertEqual([self.get(t).step("a").result for t in tasks], [{"n": 1}] * 2)
		self.bulk("step", "skip", {"name": "named"})
		for task in tasks:
			self.completed(task)
		self.doctor(self.node)


class Namespaces(harness.Case):
	def rows(self, daemon):
		return {n["namespace"]: n for n in daemon.client.request("namespace.list")["namespaces"]}

	def test_pause_and_resume_on_two_nodes(self):
		db = self.database()
		one, two = self.daemon(db, name="one", lease_ttl_ms=5000), self.daemon(db, name="two", lease_ttl_ms=5000)
		self.apply(one, template("quiet", [step("a", "t.gate", gate="quiet"), step("b", after=["a"])]))
		self.apply(one, template("loud", [step("a")], namespace="other"))
		self.python_worker(one, name="w1")
		self.python_worker(two, name="w2")
		running = self.create(one, "quiet")
		self.ledger.wait_lines(1)
		answer = one.client.request("namespace.pause", {"namespace": "t", "reason": WHY, "operator": "me"})
		self.assertEqual((answer["namespace"], answer["paused"], answer["reason"], answer["operator"]), ("t", True, WHY, "me"))
		self.assertTrue(self.rows(two)["t"]["paused"])
		self.assertFalse(self.rows(two)["other"]["paused"])
		for node in one, two:
			wait_for(lambda: self.free_of(node), "the node to know")
		self.ledger.open_gate("quiet")
		wait_for(lambda: self.step_state(one, running, "a") == "complete", "what runs to be recorded")
		waiting = self.create(two, "quiet")
		heard = self.create(two, "loud", namespace="other")
		self.assertEqual(self.finished(two, heard).state, "complete")
		self.assertEqual((self.step_state(one, running, "b"), self.step_state(one, waiting, "a")), ("enqueued", "enqueued"))
		self.doctor(one)
		with self.assertRaises(ConflictError):
			two.client.request("namespace.pause", {"namespace": "t", "reason": WHY})
		two.client.request("namespace.resume", {"namespace": "t", "reason": WHY})
		for task in running, waiting:
			self.assertEqual(self.finished(one, task).state, "complete")
		with self.assertRaises(ConflictError):
			two.client.request("namespace.resume", {"namespace": "t", "reason": WHY})
		with self.assertRaises(NotFoundError):
			two.client.request("namespace.pause", {"namespace": "nowhere", "reason": WHY})
		self.assertEqual([r[0] for r in db.sql("SELECT action FROM tasker.operator_actions WHERE action LIKE 'namespace.%' ORDER BY action_id")], ["namespace.pause", "namespace.resume"])
		self.verify(db, one)

	@staticmethod
	def free_of(daemon):
		return daemon.client.request("queue.list")["queues"] and all(q["paused"] == (q["namespace"] == "t") for q in daemon.client.request("queue.list")["queues"])

	def test_it_lasts_over_a_restart(self):
		db = self.database()
		daemon = self.daemon(db)
		self.apply(daemon, template("quiet", [step("a")]))
		daemon.client.request("namespace.pause", {"namespace": "t", "reason": WHY})
		daemon.kill()
		daemon.start()
		self.python_worker(daemon)
		task = self.create(daemon, "quiet")
		self.apply(daemon, template("loud", [step("a")], namespace="other"))
		self.assertEqual(self.finished(daemon, self.create(daemon, "loud", namespace="other")).state, "complete")
		self.assertEqual(self.step_state(daemon, task, "a"), "enqueued")
		daemon.client.request("namespace.resume", {"namespace": "t", "reason": WHY})
		self.assertEqual(self.finished(daemon, task).state, "complete")


class DynamicWorkflows(OperatorCase):
	"""What is done by hand to decisions, batchables and their workers."""

	@classmethod
	def prepare(cls, stage):
		stage.db = stage.database()
		stage.node = stage.daemon(stage.db)
		stage.worker = stage.python_worker(stage.node, module="dynamic.py")

	ROUTE = [step("begin"), {**step("route", "t.mended", gate="route", after=["begin"]), "type": "decision"}, step("air", after=["route"]), step("sea", after=["route"]),
	         {**step("meet", "d.saw", after=["air", "sea"]), "type": "deferred_convergence"}, step("end", after=["meet"])]

	def test_a_decision_resolved_takes_no_branch(self):
		for action in "resolve_manually", "skip":
			task = self.blocked("route_" + action, self.ROUTE)
			self.act(task, "route", action)
			self.completed(task)
			self.assertEqual(self.states(task), {"begin": "complete", "route": "resolved_manually"})
			self.doctor(self.node)

	def test_a_decision_made_by_hand(self):
		task = self.blocked("by_hand", self.ROUTE)
		for result, text in (({}, "needs a decision_point_outcome"), (choose("rail"), "names 'rail'"), (choose("end"), "end")):
			error = self.refused(BadRequestError, text, self.act, task, "route", "complete_manually", result=result)
			self.assertEqual((error.path, self.states(task)), ("result", {"begin": "complete", "route": "error"}))
		self.act(task, "route", "complete_manually", result=choose("sea"))
		self.completed(task)
		self.assertEqual(self.states(task), dict.fromkeys(["begin", "route", "sea", "meet", "end"], "complete"))
		self.assertEqual(set(self.get(task).step("meet").result["saw"]), {"begin", "route", "sea"})
		self.doctor(self.node)

	def test_a_decision_that_is_paused(self):
		self.apply(self.node, template("halt", [step("begin"), {**step("route", "d.say", after=["begin"], gate="halt", result=choose("air")), "type": "decision"}, step("air", after=["route"]), step("end", after=["air"])]))
		task = self.create(self.node, "halt")
		self.wait_step(self.node, task, "route", "in_progress")
		self.act_task(task, "pause")
		self.ledger.open_gate("halt")
		self.wait_step(self.node, task, "route", "complete")
		self.assertEqual(self.states(task), {"begin": "complete", "route": "complete", "air": "pending", "end": "pending"})
		self.doctor(self.node)
		self.act_task(task, "resume")
		self.completed(task)
		self.doctor(self.node)

	def batch(self, name, n=6, **config):
		return [{**step("split", "d.say", result=batches(n)), "type": "batchable"},
		        {**step("weigh", "t.mended", after=["split"], gate=name), "type": "batch_worker", "batch_config": config},
		        {**step("sum", "d.saw", after=["weigh"]), "type": "deferred_convergence"}]

	def test_a_batchable_resolved_has_one_idle_worker(self):
		steps = self.batch("idle")
		steps[0] = {**step("split", "t.mended", gate="never"), "type": "batchable"}
		steps[1] = {**step("weigh", "d.work", after=["split"]), "type": "batch_worker"}
		task = self.blocked("idle", steps)
		self.act(task, "split", "skip")
		self.completed(task)
		self.assertEqual(self.states(task), {"split": "resolved_manually", "weigh_000": "complete", "sum": "complete"})
		self.assertIs(self.get(task).step("weigh_000").result["no_op"], True)
		self.doctor(self.node)

	def test_batches_made_by_hand(self):
		steps = self.batch("handmade")
		steps[0] = {**step("split", "t.mended", gate="never"), "type": "batchable"}
		steps[1] = {**step("weigh", "d.work", after=["split"]), "type": "batch_worker"}
		task = self.blocked("handmade", steps)
		self.refused(BadRequestError, "batch_processing_outcome", self.act, task, "split", "complete_manually", result={"n": 1})
		self.act(task, "split", "complete_manually", result=batches(3))
		self.completed(task)
		self.assertEqual(self.states(task), {"split": "complete", "sum": "complete", **{"weigh_%03d" % (i + 1): "complete" for i in range(3)}})
		self.doctor(self.node)

	def test_workers_behind_a_gate_come_back(self):
		"""Parallelism 2: all six fail, are reset, and never more than two are let through."""
		task = self.blocked("gated", self.batch("gated", parallelism=2))
		self.assertEqual(collections.Counter(self.states(task).values()), {"complete": 1, "error": 6, "pending": 1})
		self.doctor(self.node)
		self.act_task(task, "pause")
		self.act_task(task, "retry")
		self.assertEqual(collections.Counter(self.states(task).values()), {"complete": 1, "pending": 7})
		self.doctor(self.node)
		self.ledger.open_gate("gated")
		self.act_task(task, "resume")
		self.completed(task)
		self.assertEqual(collections.Counter(self.states(task).values()), {"complete": 8})
		self.doctor(self.node)

	def test_those_that_came_back_go_with_their_task(self):
		"""A task that is cancelled while workers of its batch wait for their second turn, and removed (in a transaction that is rolled back: the ledger is held against it)."""
		task = self.blocked("left", self.batch("left", parallelism=2))
		no = self.db.number("SELECT task_id FROM tasker.tasks WHERE task_uuid = '%s'" % task)
		left = "SELECT count(*) FROM tasker.batch_returns WHERE task_id = %d" % no
		self.act_task(task, "pause")
		self.act_task(task, "retry")
		self.assertEqual(self.db.number(left), 4)  # two have their turn
		self.act_task(task, "cancel")
		self.doctor(self.node)
		self.db.sql("BEGIN")
		self.db.sql("SELECT tasker.archive_tasks('{%d}'), tasker.remove_tasks('{%d}')" % (no, no))
		found = self.db.number(left)
		self.db.sql("ROLLBACK")
		self.assertEqual(found, 0)

	def test_workers_one_by_one(self):
		task = self.blocked("single", self.batch("single", parallelism=2))
		self.act(task, "weigh_001", "skip")
		self.act(task, "weigh_002", "complete_manually", result={"step": "by hand"})
		self.doctor(self.node)
		self.ledger.open_gate("single")
		for i in 3, 4, 5:
			self.act(task, "weigh_%03d" % i, "reset_for_retry")
		wait_for(lambda: collections.Counter(self.states(task).values()) == {"complete": 5, "error": 1, "pending": 1, "resolved_manually": 1}, lambda: "all but one; %s" % self.states(task))
		self.assertEqual(self.get(task).state, "blocked_by_failures")
		self.ask("step.bulk_action", action="reset_for_retry", filter={"task_uuids": [task], "step": "weigh"})
		self.completed(task)
		self.assertEqual(self.get(task).step("sum").result["saw"]["weigh_002"], {"step": "by hand"})
		self.doctor(self.node)

	def test_a_failure_that_its_batch_tolerates(self):
		self.apply(self.node, template("tolerant", self.batch("tolerant", 2, failure_strategy="continue_on_failure")))
		task = self.create(self.node, "tolerant")
		self.completed(task)
		self.apply(self.node, template("tolerant2", [*self.batch("tolerant", 2, failure_strategy="continue_on_failure"), step("late", "t.gate", gate="late", after=["sum"])]))
		task = self.create(self.node, "tolerant2")
		self.wait_step(self.node, task, "late", "in_progress")
		for action in "reset_for_retry", "skip":
			self.assertIn("its batch has gone on without it", self.unchanged(task, self.act, task, "weigh_001", action))
		self.assertIn("no step has failed", self.unchanged(task, self.act_task, task, "retry"))
		self.ledger.open_gate("late")
		self.completed(task)
		self.doctor(self.node)

	def test_a_batch_that_failed_fast_is_retried_whole(self):
		task = self.blocked("fast", self.batch("fast", 5, failure_strategy="fail_fast", parallelism=1))
		self.assertEqual(collections.Counter(self.states(task).values()), {"complete": 1, "error": 1, "cancelled": 4, "pending": 1})
		self.ledger.open_gate("fast")
		self.act_task(task, "retry")
		self.completed(task)
		self.assertEqual(set(self.states(task).values()), {"complete"})
		self.doctor(self.node)

	def test_a_batch_in_a_task_that_was_given_up(self):
		task = self.blocked("given_up", self.batch("given_up", 5, parallelism=2))
		self.db.sql("SELECT count(*) FROM tasker.end_tasks(NULL, ARRAY[(SELECT task_id FROM tasker.tasks WHERE task_uuid = '%s')], 'error', '{\"event\": \"test\"}', 'time is up')" % task)
		self.doctor(self.node)
		self.ledger.open_gate("given_up")
		self.act_task(task, "retry")
		self.completed(task)
		self.doctor(self.node)


class Faults(harness.Case):
	def test_the_running_handler_is_on_the_other_node(self):
		db = self.database()
		one, two = self.daemon(db, name="one", lease_ttl_ms=5000), self.daemon(db, name="two", lease_ttl_ms=5000)
		self.apply(one, template("far", [step("a", "t.late", gate="far"), step("b", after=["a"])]))
		self.python_worker(two)
		task = self.create(two, "far")
		self.ledger.wait_lines(1)
		one.client.request("step.action", {"task_uuid": task, "step": "a", "action": "skip", "reason": WHY})
		wait_for(lambda: self.ledger.notes("cancelled"), "the handler to be told")
		self.ledger.open_gate("far")
		self.assertEqual(self.finished(one, task).state, "complete")
		self.verify(db, one)

	def test_answers_lost_between_the_database_and_the_daemon(self):
		"""Backends are terminated while operators act: what had committed is not refused as a conflict with itself."""
		db = self.database()
		daemon = self.daemon(db)
		self.apply(daemon, template("torn", [step("a", "t.mended", gate="never"), step("b", "t.mended", gate="never")]))
		self.python_worker(daemon)
		tasks = self.create_many(daemon, "torn", 25)
		db.wait_settled()
		done, answered, hits = threading.Event(), [], []

		def terminate():
			seen = -1
			while not done.is_set():
				if len(answered) != seen and db.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'taskerd' "
				                                    "AND (query LIKE '%action%' OR state = 'idle in transaction' OR query = 'COMMIT') AND pid <> pg_backend_pid()"):
					seen = len(answered)
					hits.append(seen)
		killer = threading.Thread(target=terminate)
		killer.start()
		try:
			for task in tasks:
				answered.append(daemon.client.request("step.action", {"task_uuid": task, "step": "a", "action": "skip", "reason": WHY})["state"])
				answered.append(daemon.client.request("task.bulk_action", {"action": "resolve_manually", "filter": {"task_uuids": [task]}, "reason": WHY})["done"])
		finally:
			done.set()
			killer.join()
		self.assertEqual(answered, ["resolved_manually", 1] * 25)
		self.assertGreater(len(hits), 5)
		self.assertEqual(db.sql("SELECT action, count(*) FROM tasker.operator_actions WHERE action <> 'template.apply' GROUP BY 1 ORDER BY 1"), [["step.skip", "25"], ["task.resolve_manually", "25"]])
		wait_for(lambda: daemon.database_state() == "up", "the database to be back")
		self.verify(db, daemon)

	def test_the_daemon_is_killed_while_operators_act(self):
		"""Whatever had committed is there once, nothing is half done."""
		db = self.database()
		daemon = self.daemon(db, resume_grace_ms=100)
		self.apply(daemon, template("torn", [step("a", "t.mended", gate="torn"), step("b", "t.mended", gate="torn"), step("c", after=["a", "b"])]))
		self.python_worker(daemon)
		tasks = self.create_many(daemon, "torn", 30)
		db.wait_settled()
		self.ledger.open_gate("torn")
		answered = []

		def act():
			client = daemon.new_client(timeout=30)
			for task in tasks:
				for name in "a", "b":
					try:
						client.request("step.action", {"task_uuid": task, "step": name, "action": "skip" if name == "a" else "reset_for_retry", "reason": WHY})
						answered.append((task, name))
					except TaskerdError:
						return
		thread = threading.Thread(target=act)
		thread.start()
		wait_for(lambda: len(answered) > 10, "some actions")
		daemon.kill()
		thread.join()
		daemon.start()
		noted = {tuple(r) for r in db.sql("SELECT t.task_uuid, ts.name FROM tasker.operator_actions o JOIN tasker.tasks t USING (task_id) "
		                                  "JOIN tasker.template_steps ts ON ts.template_id = t.template_id AND ts.step_no = o.step_no")}
		self.assertLessEqual(set(answered), noted)
		self.assertLessEqual(len(noted), len(answered) + 1)
		self.doctor(daemon)
		for action in "retry", "resume":
			daemon.client.request("task.bulk_action", {"action": action, "filter": {"all": True}, "reason": WHY})
		wait_for(lambda: {daemon.client.get_task(t).state for t in tasks} == {"complete"}, "all tasks to complete")
		self.verify(db, daemon)


if __name__ == "__main__":
	unittest.main()

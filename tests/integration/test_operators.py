"""What operators do by hand: every action resumes its task in the same transaction, is noted with who and why, and of two at once one wins."""
import collections
import json
import subprocess
import threading
import unittest

import harness
from dynflow import batches, choose
from harness import HOUR_MS, Waiting, step, template, wait_for
from taskerd.exceptions import BadRequestError, ConflictError, InvalidValueError, NotFoundError, TaskerdError, TooLargeError

WHY = "seen in the morning"
NOBODY = "01890a5d-ac96-774b-bcce-b302000000ff"


class OperatorCase(harness.SharedCase):
	"""Asking in short."""

	def ask(self, method, **params):
		params.setdefault("reason", WHY)
		return self.node.client.request(method, params)

	def act(self, task, name, action, **more):
		return self.ask("step.action", task_uuid=task, step=name, action=action, **more)

	def act_task(self, task, action, **more):
		return self.ask("task.action", task_uuid=task, action=action, **more)

	def get(self, task):
		return self.node.client.get_task(task)

	def states(self, task):
		return {s.name: s.state for s in self.get(task).steps}

	def blocked(self, name, steps, **more):
		"""A new task of a new template, once it is blocked."""
		self.apply(self.node, template(name, steps))
		task = self.create(self.node, name, **more)
		self.assertEqual(self.finished(self.node, task).state, "blocked_by_failures")
		return task

	def completed(self, task):
		wait_for(lambda: self.get(task).state == "complete", lambda: "task to be complete; it is %s %s" % (self.get(task).state, self.states(task)))

	def transitions(self, task):
		return [(r[0], r[1], r[2]) for r in self.db.sql(
			"SELECT h.from_state, h.to_state, h.cause ->> 'event' FROM tasker.task_history h JOIN tasker.tasks t USING (task_id) WHERE t.task_uuid = '%s' ORDER BY h.at" % task)]

	def refused(self, error, text, call, *args, **more):
		with self.assertRaises(error) as caught:
			call(*args, **more)
		self.assertIn(text, str(caught.exception))
		return caught.exception

	def unchanged(self, task, call, *args, **more):
		"""The call is refused with ConflictError and leaves everything as it was; the exception."""
		look = lambda: self.db.sql("SELECT t.state, t.paused, t.n_active, t.n_failed, s.step_no, s.state, s.fence, s.attempts, (SELECT count(*) FROM tasker.operator_actions) "  # noqa: E731
		                           "FROM tasker.tasks t LEFT JOIN tasker.steps s USING (task_id) WHERE t.task_uuid = '%s' ORDER BY s.step_no" % task)
		before = look()
		with self.assertRaises(ConflictError) as caught:
			call(*args, **more)
		self.assertEqual(look(), before)
		return str(caught.exception)


class Steps(OperatorCase):
	def test_reset_of_a_failed_step(self):
		task = self.blocked("reset", [step("a", "t.mended", gate="reset", attempts=2), step("b", after=["a"])])
		self.ledger.open_gate("reset")
		answer = self.act(task, "a", "reset_for_retry", operator="night shift")
		self.assertEqual((answer["name"], answer["task_state"], answer["attempts"]), ("a", "steps_in_process", 0))
		self.completed(task)
		done = self.get(task)
		self.assertEqual((done.step("a").attempts, done.step("b").state), (1, "complete"))
		self.assertEqual(self.transitions(task), [(None, "steps_in_process", "created"), ("steps_in_process", "blocked_by_failures", "results"),
		                                          ("blocked_by_failures", "steps_in_process", "step.reset_for_retry"), ("steps_in_process", "complete", "all_steps_successful")])
		history = self.node.client.request("task.history", {"task_uuid": task})
		note = history["actions"][0]
		self.assertEqual({k: note[k] for k in ("action", "step", "from", "to", "reason", "operator")},
		                 {"action": "step.reset_for_retry", "step": "a", "from": "error", "to": "enqueued", "reason": WHY, "operator": "night shift"})
		self.assertEqual(note["uid"], __import__("os").geteuid())
		cause = [t["cause"] for t in history["transitions"] if t["cause"]["event"] == "step.reset_for_retry"][0]
		self.assertEqual((cause["reason"], cause["operator"]), (WHY, "night shift"))
		self.doctor(self.node)

	def test_reset_gives_all_attempts_back(self):
		task = self.blocked("again", [step("a", "t.mended", kind="retryable", attempts=3, gate="again")])
		for _ in range(2):
			self.act(task, "a", "reset_for_retry")
			self.assertEqual(self.finished(self.node, task).state, "blocked_by_failures")
		self.assertEqual([r[2] for r in self.db.attempts() if r[0] == task], [1, 2, 3] * 3)
		self.assertEqual(self.get(task).step("a").attempts, 3)
		self.doctor(self.node)
		self.ledger.open_gate("again")
		self.act(task, "a", "reset_for_retry")
		self.completed(task)

	def test_reset_of_a_step_that_waits(self):
		"""It runs now, and the message of its backoff does nothing when it comes."""
		self.apply(self.node, template("backoff", [step("a", "t.mended", kind="retryable", gate="backoff", backoff="linear", base_ms=HOUR_MS, max_ms=HOUR_MS)]))
		task = self.create(self.node, "backoff")
		self.wait_step(self.node, task, "a", "waiting_for_retry")
		self.assertEqual(self.get(task).state, "waiting_for_retry")
		self.ledger.open_gate("backoff")
		self.act(task, "a", "reset_for_retry")
		self.completed(task)
		self.db.sql("UPDATE pgmq.q_%s SET vt = now() WHERE vt > now()" % self.db.value(
			"SELECT queue_name FROM tasker.handlers WHERE callable = 't.mended'"))
		self.doctor(self.node)

	def test_reset_waits_for_parents(self):
		"""A failed step whose parent is not satisfied cannot be; but one beside it that fails leaves the others alone."""
		task = self.blocked("two", [step("a", "t.mended", gate="two-a"), step("b", "t.mended", gate="two-b"), step("c", after=["a", "b"])])
		self.ledger.open_gate("two-a")
		self.act(task, "a", "reset_for_retry")
		wait_for(lambda: self.get(task).state == "blocked_by_failures" and self.states(task)["a"] == "complete", "a to be complete, the task to be blocked by b")
		self.assertEqual(self.states(task), {"a": "complete", "b": "error", "c": "pending"})
		self.doctor(self.node)
		self.ledger.open_gate("two-b")
		self.act(task, "b", "reset_for_retry")
		self.completed(task)

	def test_resolve_and_skip(self):
		for action in "resolve_manually", "skip":
			task = self.blocked(action, [step("a", "t.flaky", fails=9, kind="permanent"), step("b", after=["a"]), step("c", "t.echo", after=["b"])])
			answer = self.act(task, "a", action)
			self.assertEqual((answer["state"], answer["result"]), ("resolved_manually", None))
			self.assertEqual(answer["error"]["message"], "asked to fail for good")
			self.completed(task)
			self.assertEqual(self.states(task), {"a": "resolved_manually", "b": "complete", "c": "complete"})
			self.assertEqual(self.get(task).step("b").result["from"], {"a": None})
			self.assertEqual(self.db.value("SELECT o.action FROM tasker.operator_actions o JOIN tasker.tasks t USING (task_id) WHERE t.task_uuid = '%s'" % task), "step." + action)
			self.doctor(self.node)

	def test_resolve_the_last_step(self):
		"""Nothing is left to do: the task is complete in the same transaction, and who waits is told."""
		task = self.blocked("last", [step("a"), step("b", "t.flaky", fails=9, kind="permanent", after=["a"])])
		answer = self.act(task, "b", "resolve_manually")
		self.assertEqual(answer["task_state"], "complete")
		self.assertEqual(self.transitions(task)[-1][:2], ("blocked_by_failures", "complete"))

	def test_complete_with_a_result(self):
		task = self.blocked("given", [step("a", "t.flaky", fails=9, kind="permanent"), step("b", "t.mended", gate="given", after=["a"])])
		self.ledger.open_gate("given")
		answer = self.act(task, "a", "complete_manually", result={"price": 12.5, "of": ["hand"]})
		self.assertEqual((answer["state"], answer["result"], answer["error"]), ("complete", {"price": 12.5, "of": ["hand"]}, None))
		self.completed(task)
		self.assertEqual(self.get(task).step("b").result["from"], {"a": {"price": 12.5, "of": ["hand"]}})
		self.doctor(self.node)

	def test_what_waits_for_others(self):
		"""Ended ahead of its parents, a step could complete the task while they run: those come first."""
		task = self.blocked("ahead", [step("a", "t.mended", gate="ahead"), step("b", after=["a"]), step("c", after=["b"])])
		for action in "resolve_manually", "skip", "reset_for_retry":
			self.assertIn("the step is pending", self.unchanged(task, self.act, task, "b", action))
		self.act(task, "a", "skip")
		self.completed(task)
		self.doctor(self.node)

	def test_a_running_attempt_is_told(self):
		self.apply(self.node, template("running", [step("a", "t.late", gate="running"), step("b", after=["a"])]))
		task = self.create(self.node, "running")
		wait_for(lambda: any(e.task == task for e in self.ledger.lines("a")), "a to run")
		answer = self.act(task, "a", "complete_manually", result={"step": "by hand"})
		self.assertEqual(answer["state"], "complete")
		wait_for(lambda: [n for n in self.ledger.notes("cancelled") if n["task"] == task], "the handler to be told")
		self.completed(task)
		stale = self.shared.worker.log_text().count(": stale")
		self.ledger.open_gate("running")
		wait_for(lambda: self.shared.worker.log_text().count(": stale") > stale, "the late result to be answered")
		done = self.get(task)
		self.assertEqual((done.step("a").result, done.step("b").result["from"]), ({"step": "by hand"}, {"a": "by hand"}))
		self.assertEqual([r[3] for r in self.db.attempts() if r[0] == task and r[1] == "a"], ["cancelled"])
		self.doctor(self.node)

	def test_what_waits_in_a_queue(self):
		self.apply(self.node, template("nobody", [step("a", "rank.a"), step("b", after=["a"])]))
		task = self.create(self.node, "nobody")
		self.act(task, "a", "skip")
		self.completed(task)
		self.assertEqual([e for e in self.ledger.lines("a") if e.task == task], [])
		self.doctor(self.node)

	def test_by_uuid_and_history(self):
		task = self.blocked("uuid", [step("a", "t.mended", gate="uuid", kind="retryable", attempts=2)])
		uuid = self.get(task).step("a").step_uuid
		self.ledger.open_gate("uuid")
		self.ask("step.action", step_uuid=uuid, action="reset_for_retry")
		self.completed(task)
		got = self.node.client.request("step.get", {"step_uuid": uuid, "history": True})
		self.assertEqual((got["task_uuid"], got["name"], got["state"], got["handler"], got["pending_parents"]), (task, "a", "complete", "t.mended", 0))
		self.assertEqual([(h["attempt"], h["outcome"]) for h in got["history"]], [(1, "handler_error"), (2, "handler_error"), (1, "success")])
		self.assertEqual([(o["action"], o["from"], o["to"]) for o in got["actions"]], [("step.reset_for_retry", "error", "enqueued")])
		self.assertNotIn("history", self.node.client.request("step.get", {"task_uuid": task, "step": "a"}))

	def test_states_that_forbid(self):
		"""Each a precise error; nothing is changed."""
		self.apply(self.node, template("forbid", [step("a"), step("b", "t.gate", gate="forbid", after=["a"])]))
		task = self.create(self.node, "forbid")
		self.wait_step(self.node, task, "b", "in_progress")
		for action in "reset_for_retry", "resolve_manually", "skip":
			self.assertIn("complete", self.unchanged(task, self.act, task, "a", action))
		self.assertIn("in_progress", self.unchanged(task, self.act, task, "b", "reset_for_retry"))
		self.ledger.open_gate("forbid")
		self.completed(task)
		for action in "reset_for_retry", "resolve_manually", "skip":
			self.assertIn("the task is finished: complete", self.unchanged(task, self.act, task, "b", action))
		gone = self.blocked("gone", [step("a", "t.flaky", fails=9, kind="permanent")])
		self.node.client.cancel_task(gone)
		for action in "reset_for_retry", "resolve_manually", "skip":
			self.assertIn("the task is finished: cancelled", self.unchanged(gone, self.act, gone, "a", action))
		self.assertIn("finished: cancelled", self.unchanged(gone, self.act, gone, "a", "complete_manually", result={}))

	def test_bad_requests(self):
		task = self.blocked("bad", [step("a", "t.flaky", fails=9, kind="permanent")])
		self.refused(BadRequestError, "unknown action 'explode': one of reset_for_retry,", self.act, task, "a", "explode")
		self.refused(BadRequestError, "needs the result", self.act, task, "a", "complete_manually")
		self.refused(BadRequestError, "for complete_manually only", self.act, task, "a", "skip", result={})
		self.refused(NotFoundError, "has no step 'zz'", self.act, task, "zz", "skip")
		self.refused(NotFoundError, "no task", self.act, NOBODY, "a", "skip")
		self.refused(NotFoundError, "no step", self.ask, "step.action", step_uuid=NOBODY, action="skip")
		self.refused(BadRequestError, "which step?", self.ask, "step.action", action="skip")
		self.assertEqual(self.refused(BadRequestError, "reason", self.ask, "step.action", task_uuid=task, step="a", action="skip", reason=None).path, "reason")
		self.assertEqual(self.refused(BadRequestError, "reason", self.ask, "step.action", task_uuid=task, step="a", action="skip", reason="").path, "reason")
		self.assertEqual(self.refused(InvalidValueError, "result.a[0]", self.act, task, "a", "complete_manually", result={"a": [b"bytes"]}).path, "result.a[0]")
		self.refused(TooLargeError, "result", self.act, task, "a", "complete_manually", result={"a": "x" * (1 << 20)})
		self.assertEqual(self.states(task), {"a": "error"})

	def test_many_operators_at_once(self):
		"""Eight act on the same step: one wins, the others are told what it has become."""
		for action, state in ("resolve_manually", "resolved_manually"), ("reset_for_retry", None):
			task = self.blocked("race_" + action, [step("a", "t.mended", gate="race-" + action), step("b", after=["a"])])
			self.ledger.open_gate("race-" + action)
			outcomes = self.at_once(8, lambda client: client.request("step.action", {"task_uuid": task, "step": "a", "action": action, "reason": WHY}))
			lost = [o for o in outcomes if isinstance(o, ConflictError)]
			self.assertEqual(len(lost), 7, outcomes)
			for e in lost:
				self.assertRegex(str(e), "finished: (%s|complete)" % state if state else "the step is (enqueued|in_progress|complete)|the task is finished: complete")
			self.assertEqual(self.db.number("SELECT count(*) FROM tasker.operator_actions o JOIN tasker.tasks t USING (task_id) WHERE t.task_uuid = '%s'" % task), 1)
			self.completed(task)
		self.doctor(self.node)

	def at_once(self, n, call):
		outcomes, start = [], threading.Barrier(n)
		clients = [self.node.new_client() for _ in range(n)]

		def one(client):
			client.connect()
			start.wait()
			try:
				outcomes.append(call(client))
			except TaskerdError as e:
				outcomes.append(e)
		threads = [threading.Thread(target=one, args=(c,)) for c in clients]
		for thread in threads:
			thread.start()
		for thread in threads:
			thread.join()
		return outcomes

	def test_actions_race_with_results(self):
		"""Steps are resolved while workers run them: each ends one way, and every task completes."""
		self.apply(self.node, template("mixed", [step("a"), step("b", after=["a"]), step("c", after=["a"]), step("d", after=["b", "c"])]))
		tasks = self.create_many(self.node, "mixed", 40)
		won = collections.Counter()
		for task in tasks:
			for name in "a", "b", "d":
				try:
					self.act(task, name, "skip")
					won[name] += 1
				except ConflictError:
					won["lost"] += 1
		self.db.wait_settled()
		self.assertEqual({self.get(t).state for t in tasks}, {"complete"})
		wait_for(lambda: self.shared.worker.row(self.node)["open"] == 0, "all places to be free")
		self.doctor(self.node)


class Tasks(OperatorCase):
	def test_retry_of_all_failed_steps(self):
		task = self.blocked("all", [step("a", "t.mended", gate="all"), step("b", "t.mended", gate="all"), step("c", after=["a"]), step("d", after=["a", "b"])])
		self.ledger.open_gate("all")
		answer = self.act_task(task, "retry")
		self.assertEqual((answer["state"], answer["failed_steps"]), ("steps_in_process", 0))
		self.completed(task)
		actions = [(o["action"], o["step"]) for o in self.node.client.request("task.history", {"task_uuid": task})["actions"]]
		self.assertEqual(actions, [("step.reset_for_retry", "a"), ("step.reset_for_retry", "b"), ("task.retry", None)])
		self.doctor(self.node)

	def test_retry_beside_what_runs(self):
		self.apply(self.node, template("beside", [step("a", "t.mended", gate="beside-a"), step("b", "t.gate", gate="beside-b"), step("c", after=["a", "b"])]))
		task = self.create(self.node, "beside")
		self.wait_step(self.node, task, "a", "error")
		self.wait_step(self.node, task, "b", "in_progress")
		self.ledger.open_gate("beside-a")
		self.act_task(task, "retry")
		self.wait_step(self.node, task, "a", "complete")
		self.ledger.open_gate("beside-b")
		self.completed(task)
		self.doctor(self.node)

	def test_resolve(self):
		task = self.blocked("resolved", [step("a", "t.flaky", fails=9, kind="permanent"), step("b", after=["a"]), step("c")])
		waiter = Waiting(self.node, task, ask=lambda client, limit: client.wait(task, limit))
		waiter.result()
		answer = self.act_task(task, "resolve_manually")
		self.assertEqual((answer["state"], {s["name"]: s["state"] for s in answer["steps"]}), ("resolved_manually", {"a": "error", "b": "cancelled", "c": "complete"}))
		self.assertEqual(self.transitions(task)[-1], ("blocked_by_failures", "resolved_manually", "task.resolve_manually"))
		self.doctor(self.node)

	def test_cancel(self):
		self.apply(self.node, template("cancel", [step("a", "t.gate", gate="never"), step("b", after=["a"])]))
		task = self.create(self.node, "cancel")
		wait_for(lambda: any(e.task == task for e in self.ledger.lines("a")), "a to run")
		waiter = Waiting(self.node, task)
		self.assertEqual(self.act_task(task, "cancel")["state"], "cancelled")
		self.assertEqual(waiter.result().state, "cancelled")
		wait_for(lambda: [n for n in self.ledger.notes("cancelled") if n["task"] == task], "the handler to be told")
		wait_for(lambda: self.shared.worker.row(self.node)["open"] == 0, "its place to be free again")
		self.assertEqual(self.transitions(task)[-1], ("steps_in_process", "cancelled", "task.cancel"))
		self.doctor(self.node)

	def test_a_task_in_error_is_reset(self):
		"""What ends a task in error (a limit of its life cycle) is undone by retry: what had failed and what was cancelled begins anew."""
		task = self.blocked("reopen", [step("a"), step("b", "t.mended", gate="reopen", after=["a"]), step("c", "t.mended", gate="reopen", after=["a"]), step("d", after=["b", "c"])])
		self.db.sql("SELECT count(*) FROM tasker.end_tasks(NULL, ARRAY[(SELECT task_id FROM tasker.tasks WHERE task_uuid = '%s')], 'error', '{\"event\": \"test\"}', 'time is up')" % task)
		self.assertEqual((self.get(task).state, self.states(task)), ("error", {"a": "complete", "b": "error", "c": "error", "d": "cancelled"}))
		self.doctor(self.node)
		self.assertIn("the task is finished: error; task retry", self.unchanged(task, self.act, task, "b", "reset_for_retry"))
		self.ledger.open_gate("reopen")
		answer = self.act_task(task, "retry")
		self.assertEqual((answer["state"], answer["finished_at"]), ("steps_in_process", None))
		self.completed(task)
		self.assertEqual([t[:2] for t in self.transitions(task)][2:], [("blocked_by_failures", "error"), ("error", "steps_in_process"), ("steps_in_process", "complete")])
		self.doctor(self.node)

	def test_states_that_forbid(self):
		self.apply(self.node, template("fine", [step("a", "t.gate", gate="fine")]))
		task = self.create(self.node, "fine")
		self.wait_step(self.node, task, "a", "in_progress")
		self.assertIn("steps_in_process: no step has failed", self.unchanged(task, self.act_task, task, "retry"))
		self.assertIn("steps_in_process: only one that is blocked_by_failures", self.unchanged(task, self.act_task, task, "resolve_manually"))
		self.assertIn("not paused", self.unchanged(task, self.act_task, task, "resume"))
		self.ledger.open_gate("fine")
		self.completed(task)
		for action in "cancel", "retry", "resolve_manually", "pause", "resume":
			self.assertIn("the task is finished: complete", self.unchanged(task, self.act_task, task, action))
		self.refused(NotFoundError, "no task", self.act_task, NOBODY, "pause")
		self.refused(BadRequestError, "unknown action 'sing': one of cancel,", self.act_task, task, "sing")


class Pause(OperatorCase):
	def test_pause_and_resume(self):
		"""What runs goes on and is recorded, what becomes ready waits; resumed, all of it runs."""
		self.apply(self.node, template("pause", [step("a", "t.gate", gate="pause"), step("b", after=["a"]), step("c", after=["b"])]))
		task = self.create(self.node, "pause")
		self.wait_step(self.node, task, "a", "in_progress")
		answer = self.act_task(task, "pause")
		self.assertEqual((answer["state"], answer["paused"]), ("steps_in_process", True))
		self.ledger.open_gate("pause")
		self.wait_step(self.node, task, "a", "complete")
		self.assertEqual(self.states(task), {"a": "complete", "b": "pending", "c": "pending"})
		self.assertEqual(self.get(task).state, "steps_in_process")
		self.doctor(self.node)
		self.assertIn("paused already", self.unchanged(task, self.act_task, task, "pause"))
		answer = self.act_task(task, "resume")
		self.assertEqual((answer["state"], answer["paused"]), ("steps_in_process", False))
		self.completed(task)
		self.assertEqual([e.step for e in self.ledger.lines() if e.task == task], ["a", "b", "c"])
		self.doctor(self.node)

	def test_what_was_queued(self):
		self.apply(self.node, template("queued", [step("a", "rank.a"), step("b", after=["a"])]))
		task, other = self.create(self.node, "queued"), self.create(self.node, "queued")
		self.act_task(task, "pause")
		self.assertEqual(self.states(task), {"a": "pending", "b": "pending"})
		worker = self.shared.python_worker(self.node, name="rank", module="rank.py")
		self.completed(other)
		self.assertEqual(self.states(task), {"a": "pending", "b": "pending"})
		self.doctor(self.node)
		self.act_task(task, "resume")
		self.completed(task)
		self.assertEqual(len([e for e in self.ledger.lines("a") if e.task == task]), 1)
		worker.stop()

	def test_a_backoff_is_kept(self):
		"""Waiting for a retry, paused, resumed: it waits on until its time."""
		self.apply(self.node, template("kept", [step("a", "t.mended", kind="retryable", gate="kept", backoff="linear", base_ms=HOUR_MS, max_ms=HOUR_MS)]))
		task = self.create(self.node, "kept")
		self.wait_step(self.node, task, "a", "waiting_for_retry")
		due = self.get(task).step("a").retry_at
		self.act_task(task, "pause")
		self.assertEqual((self.states(task), self.get(task).state), ({"a": "pending"}, "waiting_for_retry"))
		self.doctor(self.node)
		self.act_task(task, "resume")
		self.assertEqual((self.states(task), self.get(task).state, self.get(task).step("a").retry_at), ({"a": "waiting_for_retry"}, "waiting_for_retry", due))
		self.doctor(self.node)
		self.act_task(task, "pause")
		self.db.sql("UPDATE tasker.steps s SET retry_at = now() FROM tasker.tasks t WHERE t.task_id = s.task_id AND t.task_uuid = '%s'" % task)
		self.ledger.open_gate("kept")
		self.act_task(task, "resume")
		self.completed(task)
		self.doctor(self.node)

	def test_a_failure_while_paused(self):
		for kind, state in ("retryable", "pending"), ("permanent", "error"):
			self.apply(self.node, template("fails_" + kind, [step("a", "t.gated_failure", gate="fails-" + kind, mended="mended-" + kind, kind=kind), step("b", after=["a"])]))
			task = self.create(self.node, "fails_" + kind)
			wait_for(lambda: any(e.task == task for e in self.ledger.lines("a")), "a to run")
			self.act_task(task, "pause")
			self.ledger.open_gate("fails-" + kind)
			self.wait_step(self.node, task, "a", state)
			self.assertEqual(self.get(task).state, "steps_in_process")
			self.doctor(self.node)
			self.ledger.open_gate("mended-" + kind)
			answer = self.act_task(task, "resume")
			if kind == "permanent":
				self.assertEqual(answer["state"], "blocked_by_failures")
				self.act(task, "a", "reset_for_retry")
			self.completed(task)
			self.doctor(self.node)

	def test_actions_on_a_paused_task(self):
		"""A reset step stays pending until the task is resumed; a resolved one counts, its children stay pending; cancel ends it."""
		task = self.blocked("fixed", [step("a", "t.mended", gate="fixed"), step("b", "t.mended", gate="fixed"), step("c", after=["b"])])
		self.act_task(task, "pause")
		self.ledger.open_gate("fixed")
		self.act(task, "a", "reset_for_retry")
		self.act(task, "b", "skip")
		self.assertEqual(self.states(task), {"a": "pending", "b": "resolved_manually", "c": "pending"})
		self.doctor(self.node)
		self.act_task(task, "resume")
		self.completed(task)
		gone = self.blocked("ended", [step("a", "t.mended", gate="never")])
		self.act_task(gone, "pause")
		answer = self.act_task(gone, "cancel")
		self.assertEqual((answer["state"], answer["paused"]), ("cancelled", False))
		self.doctor(self.node)

	def test_the_last_step_completes_a_paused_task(self):
		self.apply(self.node, template("ends", [step("a", "t.gate", gate="ends")]))
		task = self.create(self.node, "ends")
		self.wait_step(self.node, task, "a", "in_progress")
		self.act_task(task, "pause")
		self.ledger.open_gate("ends")
		self.completed(task)
		self.assertIn("finished", self.unchanged(task, self.act_task, task, "resume"))
		self.doctor(self.node)


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
		one, two = self.daemon(db, name="one", lease_ttl_ms=1000), self.daemon(db, name="two", lease_ttl_ms=1000)
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


class CommandLine(OperatorCase):
	"""The same by taskerctl."""

	def ctl(self, *args, code=0):
		done = subprocess.run([harness.program("clients", "taskerctl", "taskerctl"), "--socket", self.node.socket, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=harness.PATIENCE)
		self.assertEqual(done.returncode, code, done.stdout + done.stderr)
		self.err = done.stderr
		return done.stdout

	def test_a_morning(self):
		"""Several tasks have failed: look, try out, mend, reset; pass over what cannot be mended."""
		self.apply(self.node, template("morning", [step("a", "t.mended", gate="morning", error_type="Weather"), step("b", after=["a"])]))
		tasks = self.create_many(self.node, "morning", 3)
		for task in tasks:
			self.finished(self.node, task)
		self.assertIn("3 would be done", self.ctl("step", "reset", "--error-type", "Weather", "--dry-run") + self.err)
		self.assertEqual({self.get(t).state for t in tasks}, {"blocked_by_failures"})
		self.assertEqual(self.ctl("step", "complete", tasks[0], "a", "--result", '{"step": "by hand"}', "-r", WHY).split()[1:], ["a", "complete"])
		self.ctl("step", "complete", tasks[0], "a", "--result", "{}", "-r", WHY, code=5)
		self.completed(tasks[0])
		self.ctl("task", "retry", tasks[0], "-r", WHY, code=5)
		self.assertIn("the task is finished", self.err)
		self.assertIn("step.complete_manually", self.ctl("step", "history", tasks[0], "a"))
		self.ctl("task", "pause", tasks[1], "-r", WHY)
		self.assertRegex(self.ctl("task", "list", "--name", "morning"), tasks[1] + r" .* blocked_by_failures, paused ")
		self.ledger.open_gate("morning")
		got = json.loads(self.ctl("step", "reset", "--error-type", "Weather", "-r", WHY, "--json"))
		self.assertEqual((got["done"], got["refused"]), (2, 0))
		self.completed(tasks[2])
		self.assertEqual(self.states(tasks[1]), {"a": "pending", "b": "pending"})
		self.assertEqual(self.ctl("task", "resume", tasks[1], "-r", WHY), tasks[1] + " steps_in_process\n")
		self.completed(tasks[1])
		self.ctl("step", "reset", "--error-type", "Weather", "-r", WHY, code=4)
		later = self.ctl("task", "create", "t/morning", "--run-at", "+1h").strip()
		self.assertEqual(self.ctl("task", "cancel", later), later + " cancelled\n")
		self.ctl("namespace", "pause", "t", "-r", WHY)
		self.assertRegex(self.ctl("namespace", "list"), r"(?m)^t +paused .*" + WHY)
		self.assertRegex(self.ctl("queue", "list"), r"(?m)^t +t\.mended .* paused$")
		self.ctl("namespace", "resume", "t", "-r", WHY)
		self.assertNotIn("paused", self.ctl("queue", "list") + self.ctl("namespace", "list"))
		self.ctl("doctor")


class Faults(harness.Case):
	def test_the_running_handler_is_on_the_other_node(self):
		db = self.database()
		one, two = self.daemon(db, name="one", lease_ttl_ms=1000), self.daemon(db, name="two", lease_ttl_ms=1000)
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
			client = daemon.new_client(timeout=5)
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

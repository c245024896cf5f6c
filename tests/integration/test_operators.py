"""What operators do by hand: every action resumes its task in the same transaction, is noted with who and why, and of two at once one wins."""
import collections
import json
import subprocess
import threading
import unittest

import harness
from harness import HOUR_MS, Waiting, step, template, wait_for
from operators import NOBODY, WHY, OperatorCase
from taskerd.exceptions import BadRequestError, ConflictError, InvalidValueError, NotFoundError, TaskerdError, TooLargeError


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


if __name__ == "__main__":
	unittest.main()

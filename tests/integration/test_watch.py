"""Following a task: what a watcher is told and in which order; waiting with and without a limit."""
import unittest

import harness
from harness import Waiting, step, template, wait_for


class Watch(harness.SharedCase):
	def watched(self, name, steps, context=None):
		"""The events of a task from before it moves to its end: a gate holds it back."""
		steps = [step("hold", "t.gate", gate=name)] + [{**s, "dependencies": s["dependencies"] or ["hold"]} for s in steps]
		self.apply(self.node, template(name, steps))
		task = self.create(self.node, name, context)
		with self.node.client.watch(task) as watch:
			self.ledger.open_gate(name)
			return task, list(watch)

	def of_step(self, events, name):
		return [(e["state"], e.get("attempt"), e.get("outcome")) for e in events if e["kind"] == "step" and e.get("step") == name]

	def test_failures_and_retries(self):
		task, events = self.watched("w_retry", [step("a", "t.flaky", fails=2, attempts=3, backoff="linear", base_ms=30)])
		self.assertEqual(self.of_step(events, "a"), [
			("enqueued", 1, None), ("in_progress", 1, None), ("waiting_for_retry", 1, "handler_error"),
			("enqueued", 2, None), ("in_progress", 2, None), ("waiting_for_retry", 2, "handler_error"),
			("enqueued", 3, None), ("in_progress", 3, None), ("complete", 3, "success")])
		self.assertEqual([e["error"]["message"] for e in events if e.get("outcome") == "handler_error"], ["asked to fail"] * 2)
		states = [e["state"] for e in events if e["kind"] == "task"]
		self.assertEqual(states[-1], "complete")
		self.assertIn("waiting_for_retry", states)

	def test_a_task_that_blocks_and_is_cancelled(self):
		self.apply(self.node, template("w_block", [step("a", "t.gate", gate="w_block"), step("b", "t.flaky", fails=1, kind="permanent", after=["a"])]))
		task = self.create(self.node, "w_block")
		with self.node.client.watch(task) as watch:
			self.ledger.open_gate("w_block")
			seen = []
			while not seen or seen[-1]["state"] != "blocked_by_failures":
				seen.append(watch.next(harness.PATIENCE))
			self.assertEqual(self.of_step(seen, "b")[-1], ("error", 1, "permanent_error"))
			self.node.client.cancel_task(task)
			self.assertEqual([e["state"] for e in watch if e["kind"] == "task"][-1], "cancelled")

	def test_steps_that_no_attempt_has_ended(self):
		"""What people end, and what is cancelled with the rest, is told once, whether it ran, waited or was not ready yet."""
		self.apply(self.node, template("w_hand", [step(n, "t.gate", gate="w_hand") for n in ("skipped", "resolved", "done", "left")] + [step("idle", "t.nobody"), step("after", after=["left"])]))
		task = self.create(self.node, "w_hand")
		for name in "skipped", "resolved", "done", "left":
			self.wait_step(self.node, task, name, "in_progress")
		with self.node.client.watch(task) as watch:
			seen = []
			for name, action, more in ("skipped", "skip", {}), ("resolved", "resolve_manually", {}), ("done", "complete_manually", {"result": {"n": 1}}), ("idle", "skip", {}):
				self.node.client.request("step.action", {"task_uuid": task, "step": name, "action": action, "reason": "r", **more})
				while not seen or seen[-1].get("step") != name or seen[-1]["state"] not in ("resolved_manually", "complete"):
					seen.append(watch.next(harness.PATIENCE))
			self.node.client.cancel_task(task)
			seen += list(watch)
		for name, end in ("skipped", "resolved_manually"), ("resolved", "resolved_manually"), ("done", "complete"):
			self.assertEqual(self.of_step(seen, name), [("enqueued", 1, None), ("in_progress", 1, None), ("cancelled", 1, "cancelled"), (end, None, None)])
		self.assertEqual(self.of_step(seen, "idle"), [("enqueued", 1, None), ("resolved_manually", None, None)])
		self.assertEqual(self.of_step(seen, "left"), [("enqueued", 1, None), ("in_progress", 1, None), ("cancelled", 1, "cancelled")])
		self.assertEqual(self.of_step(seen, "after"), [("cancelled", None, None)])
		self.assertEqual((seen[-1]["kind"], seen[-1]["state"]), ("task", "cancelled"))
		self.ledger.open_gate("w_hand")

	def test_a_finished_task(self):
		self.apply(self.node, template("w_done", [step("a")]))
		task = self.create(self.node, "w_done")
		self.finished(self.node, task)
		with self.node.client.watch(task) as watch:
			self.assertEqual(watch.task.state, "complete")
			self.assertEqual([e["state"] for e in watch][-1], "complete")

	def test_many_watchers(self):
		self.apply(self.node, template("w_many", [step("a", "t.gate", gate="w_many"), step("b", after=["a"])]))
		task = self.create(self.node, "w_many")
		watches = [self.shared.node.new_client().watch(task) for _ in range(10)]
		self.ledger.open_gate("w_many")
		streams = [[(e["kind"], e["state"], e.get("step")) for e in w][1:] for w in watches]
		self.assertEqual(streams[0][-1], ("task", "complete", None))
		for stream in streams:
			self.assertEqual([e for e in stream if e[0] == "step" and e[2] == "b"], [e for e in streams[0] if e[0] == "step" and e[2] == "b"])

	def test_a_wide_task(self):
		task, events = self.watched("w_wide", [step("s%03d" % i) for i in range(150)])
		for i in range(150):
			self.assertEqual([s for s, _, _ in self.of_step(events, "s%03d" % i)], ["enqueued", "in_progress", "complete"])

	def test_unwatch(self):
		self.apply(self.node, template("w_un", [step("a", "t.gate", gate="w_un")]))
		task = self.create(self.node, "w_un")
		client = self.shared.node.new_client()
		with client.watch(task):
			pass
		with client.watch(task) as again:  # not "watched already"
			self.ledger.open_gate("w_un")
			self.assertEqual(list(again)[-1]["state"], "complete")

	def test_every_step_is_seen_from_enqueued_to_its_end(self):
		task, events = self.watched("w_diamond", [step("a"), step("b", after=["a"]), step("c", after=["a"]), step("d", after=["b", "c"])])
		for name in ("hold", "a", "b", "c", "d"):
			self.assertEqual(self.of_step(events, name), [("enqueued", 1, None), ("in_progress", 1, None), ("complete", 1, "success")])
		self.assertEqual((events[-1]["kind"], events[-1]["state"]), ("task", "complete"))
		done = {e["step"]: i for i, e in enumerate(events) if e["kind"] == "step" and e["state"] == "complete"}
		began = {e["step"]: i for i, e in enumerate(events) if e["kind"] == "step" and e["state"] == "in_progress"}
		for parent, child in (("hold", "a"), ("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")):
			self.assertLess(done[parent], began[child])
		workers = {e["worker_uuid"] for e in events if e.get("outcome") == "success"}
		self.assertEqual(workers, {self.shared.worker.row(self.node)["worker_uuid"]})


class Wait(harness.SharedCase):
	def test_the_limit(self):
		self.apply(self.node, template("limit", [step("a", "t.gate", gate="limit")]))
		task = self.create(self.node, "limit")
		answer = self.node.client.request("task.wait", {"task_uuid": task, "timeout_ms": 1})
		self.assertEqual(answer, {"task_uuid": task, "state": "steps_in_process", "settled": False, "finished": False})
		self.assertEqual(self.node.client.request("task.wait", {"task_uuid": task, "timeout_ms": 0})["settled"], False)
		self.ledger.open_gate("limit")
		self.assertEqual(self.node.client.request("task.wait", {"task_uuid": task}), {"task_uuid": task, "state": "complete", "settled": True, "finished": True})
		# What is settled is answered at once, whatever the limit.
		self.assertTrue(self.node.client.request("task.wait", {"task_uuid": task, "timeout_ms": 0})["settled"])

	def test_blocked_is_settled_but_not_finished(self):
		self.apply(self.node, template("blocked", [step("a", "t.flaky", fails=1, kind="permanent")]))
		task = self.create(self.node, "blocked")
		self.assertEqual(self.node.client.request("task.wait", {"task_uuid": task}), {"task_uuid": task, "state": "blocked_by_failures", "settled": True, "finished": False})

	def test_many_waiters(self):
		self.apply(self.node, template("queue", [step("a", "t.gate", gate="queue")]))
		task = self.create(self.node, "queue")
		waiters = [Waiting(self.node, task) for _ in range(10)]
		self.ledger.open_gate("queue")
		self.assertEqual({w.result().state for w in waiters}, {"complete"})

	def test_a_waiter_that_goes_away(self):
		self.apply(self.node, template("leaves", [step("a", "t.gate", gate="leaves")]))
		task = self.create(self.node, "leaves")
		sessions = self.node.info()["sessions"]
		gone, stays = Waiting(self.node, task), Waiting(self.node, task)
		gone.leave()
		wait_for(lambda: self.node.info()["sessions"] == sessions + 1, "the session to be gone")
		self.ledger.open_gate("leaves")
		self.assertEqual(stays.result().state, "complete")

	def test_the_state_at_the_limit_is_the_present_one(self):
		for limit in 3, 30, 300:  # whatever the machine does, the state changes within one of them
			name = "present%d" % limit
			self.apply(self.node, template(name, [step("a", "t.gate", gate=name), step("b", "t.flaky", fails=1, after=["a"], backoff="linear", base_ms=harness.HOUR_MS, max_ms=harness.HOUR_MS)]))
			task = self.create(self.node, name)
			waiter = Waiting(self.node, task, limit, ask=lambda c, limit, task=task: c.request("task.wait", {"task_uuid": task, "timeout_ms": limit * 1000}))
			self.ledger.open_gate(name)
			self.wait_step(self.node, task, "b", "waiting_for_retry")
			early = waiter.answered()
			self.assertEqual({**waiter.result(), "state": "any"}, {"task_uuid": task, "state": "any", "settled": False, "finished": False})
			self.node.client.cancel_task(task)
			if not early:
				break
		self.assertEqual(waiter.result()["state"], "waiting_for_retry")


if __name__ == "__main__":
	unittest.main()

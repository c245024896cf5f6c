"""What people do to a task with very many steps is done in stretches, each a transaction: others have their turn in between, and whoever dies half way leaves a task that another node
goes on with. After every stretch doctor has nothing to say."""
import json
import os
import sys
import unittest
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import harness  # noqa: E402
import pg  # noqa: E402
import wire  # noqa: E402
from dynflow import Flow, S, batches  # noqa: E402
from harness import step, template, wait_for  # noqa: E402
from taskerd.exceptions import ConflictError  # noqa: E402

N = 2500  # large begins at 2000; a stretch is of 1000 steps, of a retry 300


class Action:
	"""One request, asked again and again as a store thread does."""

	def __init__(self, flow, action, task=1):
		self.flow, self.answer, self.calls = flow, None, 0
		self.params = {"task_uuid": flow.e.value("SELECT task_uuid FROM tasker.tasks WHERE task_id = %d" % task), "action": action, "reason": "r", "by": {"request": str(uuid.uuid4())}}

	def once(self):
		"""Whether it is done now."""
		self.answer = json.loads(self.flow.e.value("SELECT tasker.api_task_action(%s)" % pg.lit(json.dumps(self.params))))
		self.calls += 1
		self.flow.doctor()
		return self.answer != "again"

	def rest(self):
		while not self.once():
			pass
		return self


class Stretches(unittest.TestCase):
	def fan(self):
		flow = Flow(self, [S("begin"), *(S("p%d" % i, "standard", ["begin"]) for i in range(N)), S("end", "standard", ["p%d" % i for i in range(N)])])
		flow.create()
		flow.record([(c, {}) for c in list(flow.open.values())], credits=0)
		flow.claim(20)
		return flow

	def some(self, flow, n=1):
		return sorted(flow.open.values())[:n]

	def count(self, flow, state):
		return int(flow.e.value("SELECT count(*) FROM tasker.steps WHERE state = '%s'" % state))

	def largest(self, flow, condition):
		"""How many of these steps one transaction has changed at most."""
		return int(flow.e.value("SELECT max(n) FROM (SELECT count(*) AS n FROM tasker.steps WHERE %s GROUP BY xmin::text) x" % condition))

	def test_pause_resume_cancel(self):
		flow = self.fan()
		pause = Action(flow, "pause")
		self.assertFalse(pause.once())
		self.assertFalse(pause.once())
		self.assertEqual((len(flow.open), self.count(flow, "enqueued")), (20, N - 20 - 1000))
		flow.record([(c, {}) for c in self.some(flow, 3)], credits=5)  # nothing is handed over; what is queued still may be begun
		flow.claim(5)
		self.refused(flow, "resume")
		self.refused(flow, "cancel")
		self.assertEqual((pause.rest().answer["paused"], pause.calls), (True, 4))
		self.assertEqual((self.count(flow, "enqueued"), self.count(flow, "in_progress"), self.count(flow, "pending")), (0, len(flow.open), N - 3 - len(flow.open) + 1))
		self.assertLessEqual(self.largest(flow, "state = 'pending'"), 1000)
		resume = Action(flow, "resume")
		self.assertFalse(resume.once() or resume.once())
		flow.claim(5)
		flow.record([(c, {}) for c in self.some(flow, 3)], credits=5)
		self.assertEqual((resume.rest().answer["paused"], self.count(flow, "enqueued")), (False, N - 6 - len(flow.open)))
		self.assertLessEqual(self.largest(flow, "state = 'enqueued'"), 1000)
		cancel = Action(flow, "cancel")
		self.assertFalse(cancel.once() or cancel.once())
		self.assertEqual(flow.state(1), "steps_in_process")
		flow.record([(c, {}) for c in sorted(flow.open.values())[-2:]], credits=5)  # those of the first stretch are stale
		self.assertEqual((cancel.rest().answer["state"], cancel.answer["paused"]), ("cancelled", False))
		self.assertLessEqual(self.largest(flow, "state = 'cancelled'"), 1000)
		self.assertEqual(flow.e.run("SELECT action, from_state, to_state FROM tasker.operator_actions WHERE step_no IS NULL ORDER BY action_id"),
		                 [["task.pause", "steps_in_process", "steps_in_process"], ["task.resume", "steps_in_process", "steps_in_process"], ["task.cancel", "steps_in_process", "cancelled"]])
		self.assertEqual((cancel.once(), cancel.answer["state"]), (True, "cancelled"))  # the answer was lost

	def refused(self, flow, action):
		for function, params in ("api_task_action", {}), ("api_step_action", {"step": "p5"}):
			with self.assertRaises(pg.PgError) as caught:
				flow.e.run("SELECT tasker.%s(%s)" % (function, pg.lit(json.dumps({**Action(flow, action).params, **params, **({"action": "skip"} if params else {})}))))
			self.assertEqual(caught.exception.sqlstate, "TK409")
			self.assertIn("an action on it is under way: pause", str(caught.exception))

	def test_retry_and_resolve(self):
		flow = self.fan()
		flow.claim()
		flow.record([(c, ValueError("x")) for c in list(flow.open.values())], credits=0)
		self.assertEqual(flow.state(1), "blocked_by_failures")
		retry = Action(flow, "retry")
		self.assertFalse(retry.once() or retry.once())
		self.assertEqual((flow.state(1), self.count(flow, "error"), self.count(flow, "enqueued")), ("steps_in_process", N - 300, 300))
		flow.claim(10)
		flow.record([(c, ValueError("y")) for c in list(flow.open.values())], credits=0)  # what fails again behind the stretches is reset with the last one
		self.assertEqual((retry.rest().answer["state"], self.count(flow, "enqueued")), ("steps_in_process", N))
		flow.claim()
		flow.record([(c, ValueError("z")) for c in list(flow.open.values())], credits=0)
		self.assertEqual(Action(flow, "resolve_manually").rest().answer["state"], "resolved_manually")
		self.assertEqual((self.count(flow, "error"), self.count(flow, "cancelled")), (N, 1))

	def test_a_batch_behind_a_gate(self):
		flow = Flow(self, [S("split", "batchable"), S("weigh", "batch_worker", ["split"], batch={"parallelism": 30}), S("sum", "deferred_convergence", ["weigh"])])
		flow.create()
		flow.record([(c, batches(N)) for c in list(flow.open.values())], credits=30)
		for action, state in ("pause", "steps_in_process"), ("resume", "steps_in_process"), ("cancel", "cancelled"):
			act = Action(flow, action)
			self.assertFalse(act.once())
			flow.record([(c, {}) for c in self.some(flow, 2)], credits=30)
			flow.doctor()
			self.assertEqual(act.rest().answer["state"], state)

	def call(self, flow, function, params):
		return json.loads(flow.e.value("SELECT tasker.%s(%s)" % (function, pg.lit(json.dumps(params)))))

	def until_done(self, flow, function, params):
		"""The answer, and how many calls it took: each is a transaction."""
		n = 1
		while (answer := self.call(flow, function, params)) == "again":
			n += 1
		return answer, n

	def by(self, **params):
		return {"reason": "mended", "by": {"request": str(uuid.uuid4())}, **params}

	def test_redrive(self):
		flow = self.fan()
		flow.claim()
		flow.record([(c, ValueError("x")) for c in list(flow.open.values())], credits=0)
		params = self.by(task_uuid=flow.e.value("SELECT task_uuid FROM tasker.tasks"))
		self.assertEqual(self.call(flow, "api_dlq_redrive", params), "again")
		self.assertEqual(flow.e.run("SELECT status, notes, metadata ? 'redriven_at' FROM tasker.dlq"), [["manually_resolved", "mended", "t"]])
		answer, calls = self.until_done(flow, "api_dlq_redrive", params)
		self.assertEqual((answer["task"]["state"], answer["entry"]["status"], self.count(flow, "enqueued")), ("steps_in_process", "manually_resolved", N))
		self.assertGreater(calls, N // 300)
		self.assertLessEqual(self.largest(flow, "state = 'enqueued'"), 300)
		self.assertEqual(self.call(flow, "api_dlq_redrive", params)["task"]["state"], "steps_in_process")  # the answer was lost
		self.assertEqual(flow.e.value("SELECT count(*) FROM tasker.operator_actions WHERE action = 'task.retry'"), "1")
		flow.doctor()

	def test_purge(self):
		flow = self.fan()
		flow.record([(c, {}) for c in list(flow.open.values())], credits=0)
		queue = flow.e.run("SELECT n.name, h.callable FROM tasker.handlers h JOIN tasker.namespaces n USING (namespace_id)")[0]
		params = self.by(namespace=queue[0], handler=queue[1])
		answer, calls = self.until_done(flow, "api_queue_purge", params)
		self.assertEqual((flow.state(1), answer["tasks"], answer["more"]), ("cancelled", 1, True))
		self.assertGreater(calls, 2)
		self.assertLessEqual(self.largest(flow, "state = 'cancelled'"), 1000)
		again = self.call(flow, "api_queue_purge", params)  # the answer was lost
		self.assertEqual((again["messages"], again["tasks"], again["more"]), (0, 0, True))
		gone = 0
		while answer["more"]:
			answer = self.call(flow, "api_queue_purge", self.by(namespace=queue[0], handler=queue[1]))
			gone += answer["messages"]
		self.assertEqual((gone, answer["left"]), (N - 20, 0))
		flow.doctor()

	def test_many_tasks_at_a_time(self):
		"""A page is of no more tasks than have some 5000 steps, and what its answer said can be had again."""
		flow = Flow(self, [S("begin"), *(S("p%d" % i, "standard", ["begin"]) for i in range(1499))])
		tasks = [flow.create() for _ in range(5)]
		self.assertEqual(flow.e.value("SELECT tasker.as_many('{1,2,3,4,5}')"), "{1,2,3}")
		flow.claim()
		flow.record([(c, ValueError("x")) for c in list(flow.open.values())], credits=0)
		self.assertEqual({flow.state(t) for t in tasks}, {"blocked_by_failures"})
		causes = self.call(flow, "api_dlq_stats", {"causes": True})["causes"]
		self.assertEqual([(c["tasks"], c["step"], c["name"], c["reason"]) for c in causes], [(5, "begin", "t", "max_retries_exceeded")])
		done, cursor = [], None
		for n in 3, 2:
			params = self.by(action="retry", filter={"dlq": "max_retries_exceeded", "step": "begin"}, cursor=cursor)
			answer = self.call(flow, "api_task_bulk_action", params)
			self.assertEqual((answer["done"], answer["refused"]), (n, 0))
			again = self.call(flow, "api_task_bulk_action", params)
			self.assertEqual((again["items"], again["done"]), (answer["items"], n))
			cursor = again["next_cursor"]
			done += [i["task_uuid"] for i in answer["items"]]
		self.assertEqual(len(set(done)), 5)
		self.assertEqual(self.call(flow, "api_task_bulk_action", self.by(action="retry", filter={"dlq": "any"}, cursor=cursor))["items"], [])
		self.assertEqual(flow.e.run("SELECT status, count(*) FROM tasker.dlq GROUP BY 1"), [["manually_resolved", "5"]])
		flow.doctor()

	def test_a_history_in_pages(self):
		"""Each page begins behind the last item of the one before, whatever is written meanwhile."""
		flow = self.fan()
		task = flow.e.value("SELECT task_uuid FROM tasker.tasks")
		whole = self.call(flow, "api_task_history", {"task_uuid": task, "limit": 1000})
		seen, cursor = {"transitions": [], "attempts": [], "actions": []}, None
		for _ in range(1000):
			page = self.call(flow, "api_task_history", {"task_uuid": task, "limit": 1, "cursor": cursor})
			for key, items in seen.items():
				items += page[key]
			cursor = page["next_cursor"]
			if cursor is None:
				break
			flow.e.run("INSERT INTO tasker.operator_actions (request_id, action, task_id, reason, at) VALUES (gen_random_uuid(), 'task.pause', 1, 'r', '2020-01-01')")
		self.assertEqual((seen["transitions"], seen["attempts"]), (whole["transitions"], whole["attempts"]))
		self.assertEqual(seen["actions"], [])
		for wrong in "x", "1.2", "1.2.3.x", "99999999999999999.1.1.1":
			with self.assertRaises(pg.PgError) as caught:
				self.call(flow, "api_task_history", {"task_uuid": task, "cursor": wrong})
			self.assertEqual(caught.exception.sqlstate, "TK400")

	def test_the_task_ends_by_itself_meanwhile(self):
		flow = self.fan()
		cancel = Action(flow, "cancel")
		self.assertFalse(cancel.once())
		flow.e.run("UPDATE tasker.steps SET state = 'complete', pending_parents = 0; UPDATE tasker.tasks SET state = 'complete', open_sinks = 0, n_active = 0, paused = false, finished_at = now()")
		self.assertEqual(flow.e.value("SELECT tasker.go_on(1)"), "t")
		self.assertEqual((flow.state(1), int(flow.e.value("SELECT count(*) FROM tasker.long_actions"))), ("complete", 0))


class Daemons(harness.Case):
	def setUp(self):
		super().setUp()
		self.db = self.database()
		self.node = self.daemon(self.db, sweep_interval_ms=100)
		self.apply(self.node, template("batch", [dict(step("split", "w.split"), type="batchable"), dict(step("w", "w.work", after=["split"]), type="batch_worker"),
		                                         dict(step("sum", "w.sum", after=["w"]), type="deferred_convergence")]))
		worker = wire.Worker(self.node.socket, ["w.split"])
		worker.patience = 5 * harness.PATIENCE
		self.task = str(self.create(self.node, "batch"))
		worker.finish(worker.take(), {"batch_processing_outcome": {"type": "create_batches", "total_items": N, "batch_size": 1}})
		wait_for(lambda: self.steps("enqueued") == N, "the batch to be made")
		worker.close()

	def steps(self, state):
		return self.db.number("SELECT count(*) FROM tasker.steps WHERE state = '%s'" % state)

	def ask(self, method, **params):
		return self.node.client.request(method, {"task_uuid": self.task, **params}, timeout=5 * harness.PATIENCE)

	def test_one_answer(self):
		said = self.ask("task.action", action="pause", reason="r")
		self.assertEqual((said["paused"], said["total_steps"], "steps" in said), (True, N + 2, False))
		self.assertEqual((self.steps("enqueued"), self.db.number("SELECT count(*) FROM tasker.long_actions")), (0, 0))
		small = str(self.create(self.node, "batch"))
		self.ask("task.action", action="pause", reason="r", task_uuid=small)
		done = self.node.client.request("task.bulk_action", {"action": "resume", "reason": "r", "filter": {"name": "batch"}}, timeout=5 * harness.PATIENCE)
		self.assertEqual([(i["task_uuid"], i["outcome"], i["state"]) for i in done["items"]], [(t, "done", "steps_in_process") for t in (self.task, small)])
		self.assertEqual((self.steps("enqueued"), self.db.number("SELECT count(*) FROM tasker.tasks WHERE paused"), self.db.number("SELECT count(*) FROM tasker.long_answers")), (N + 1, 0, 0))
		said = self.ask("task.cancel", reason="no more")
		self.assertEqual((said["state"], "steps" in said), ("cancelled", False))
		names, cursor = [], {}
		while cursor is not None:
			page = self.ask("task.get", limit=1000, readiness=True, **cursor)
			names += [s["name"] for s in page["steps"]]
			cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else None
		self.assertEqual((len(names), len(set(names)), page["steps"][-1]["total_parents"]), (N + 2, N + 2, 1))
		self.assertEqual(self.db.sql("SELECT uid, reason FROM tasker.operator_actions WHERE action = 'task.cancel'"), [[str(os.getuid()), "no more"]])
		with self.assertRaises(ConflictError):
			self.ask("task.cancel")
		self.doctor(self.node)

	def half_way(self, action):
		"""Ask for it, and have it stand still before its second stretch, which needs a step that somebody holds."""
		held = self.db.cluster.session(self.db.name)
		self.at_end(held.close)
		held.run("BEGIN; SELECT 1 FROM tasker.steps s WHERE s.step_no = (SELECT x.step_no FROM tasker.steps x WHERE x.step_no > 5 ORDER BY 1 OFFSET 1500 LIMIT 1) FOR UPDATE")
		asker = wire.Wire(self.node.socket)
		self.at_end(asker.close)
		asker.hello()
		asker.ask("task.action", {"task_uuid": self.task, "action": action, "reason": "r"})
		wait_for(lambda: self.db.number("SELECT count(*) FROM tasker.long_actions WHERE at_step > 0") == 1 and self.waits(), "the second stretch to wait")
		return held

	def waits(self):
		return self.db.number("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()") > 0

	def test_the_daemon_is_killed_half_way(self):
		for action, state in ("pause", "pending"), ("resume", "enqueued"), ("cancel", "cancelled"):
			held = self.half_way(action)
			self.node.kill()
			held.run("COMMIT")
			wait_for(lambda: not self.waits(), "the dead daemon's backend to be gone")
			report = json.loads(self.db.value("SELECT tasker.api_doctor('{}')"))
			self.assertEqual([c for c in report["checks"] if not c["ok"]], [])
			self.node.start()
			wait_for(lambda: self.db.number("SELECT count(*) FROM tasker.long_actions") == 0, "somebody to go on")
			self.assertEqual(self.steps(state), N + (state != "enqueued"))  # the last step has not been ready
			self.doctor(self.node)
		self.assertEqual(self.db.value("SELECT state FROM tasker.tasks"), "cancelled")


if __name__ == "__main__":
	unittest.main()

"""Tasks that begin later: they rest in pending behind a message in the database, and any node starts them when their time has come."""
import datetime
import json
import unittest

import engine
import harness
from harness import step, template, wait_for
from pg import lit
from taskerd.exceptions import BadRequestError, ConflictError, TaskerdError

WHY = "a test"


def at(seconds):
	"""So long from now, as RFC 3339."""
	return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


LATER, BEFORE = at(3600), at(-5)
QUEUE = "pgmq.q_orchestration_task_requests"


class RunAt(harness.SharedCase):
	@classmethod
	def prepare(cls, stage):
		super().prepare(stage)
		stage.apply(stage.node, template("later", [step("a"), step("b", after=["a"])]))

	def make(self, when, name="later", **more):
		return self.node.client.request("task.create", {"name": name, "namespace": "t", "run_at": when, **more})

	def get(self, task):
		return self.node.client.request("task.get", {"task_uuid": task})

	def hasten(self, *tasks):
		"""Their time has come, and the nodes are told."""
		self.db.sql("UPDATE %s q SET vt = now() FROM tasker.tasks t WHERE (q.message ->> 't')::bigint = t.task_id AND t.task_uuid IN (%s)" % (QUEUE, ", ".join(map(lit, tasks))))
		self.db.sql("SELECT tasker.notify('tasker_ready', '0')")

	def test_it_rests_until_its_time(self):
		made = self.make(LATER)
		self.assertEqual((made["created"], made["state"]), (True, "pending"))
		task = made["task_uuid"]
		got = self.get(task)
		self.assertEqual((got["state"], got["total_steps"], got["pending_steps"], got["steps"], got["run_at"][:19]), ("pending", 2, 2, [], LATER[:19]))
		self.assertEqual(self.db.value("SELECT count(*) FROM tasker.steps s JOIN tasker.tasks t USING (task_id) WHERE t.task_uuid = '%s'" % task), "0")
		self.doctor(self.node)
		self.hasten(task)
		self.assertEqual(self.finished(self.node, task).state, "complete")
		history = [(t["from"], t["to"], t["cause"]["event"]) for t in self.node.client.request("task.history", {"task_uuid": task})["transitions"]]
		self.assertEqual(history, [(None, "pending", "created"), ("pending", "steps_in_process", "started"), ("steps_in_process", "complete", "all_steps_successful")])
		self.doctor(self.node)

	def test_soon(self):
		"""Nothing but the clock brings it about."""
		made = wait_for(lambda: next((m for m in [self.make(at(0.3))] if m["state"] == "pending"), None), "one to be made before its time")
		task = made["task_uuid"]
		self.assertEqual(self.finished(self.node, task).state, "complete")
		started = self.db.value("SELECT min(s.ready_at) >= t.run_at FROM tasker.steps s JOIN tasker.tasks t USING (task_id) WHERE t.task_uuid = '%s' GROUP BY t.run_at" % task)
		self.assertEqual(started, "t")

	def test_a_time_that_has_passed_is_now(self):
		made = self.make(BEFORE)
		self.assertEqual(made["state"], "steps_in_process")
		self.assertIsNone(self.get(made["task_uuid"])["run_at"])
		self.finished(self.node, made["task_uuid"])

	def test_cancel_pause_and_resume(self):
		gone, rests = self.make(LATER)["task_uuid"], self.make(LATER)["task_uuid"]
		self.assertEqual(self.node.client.cancel_task(gone)["state"], "cancelled")
		self.assertEqual(self.node.client.request("task.action", {"task_uuid": rests, "action": "pause", "reason": WHY})["paused"], True)
		self.hasten(gone, rests)
		wait_for(lambda: self.db.number("SELECT count(*) FROM %s q JOIN tasker.tasks t ON t.task_id = (q.message ->> 't')::bigint WHERE t.task_uuid IN ('%s', '%s')" % (QUEUE, gone, rests)) == 0,
		         "the messages to be read")
		self.assertEqual((self.get(gone)["state"], self.get(rests)["state"]), ("cancelled", "pending"))
		self.doctor(self.node)
		with self.assertRaises(ConflictError):
			self.node.client.cancel_task(gone)
		self.db.sql("UPDATE tasker.tasks SET run_at = now() WHERE task_uuid = '%s'" % rests)
		self.node.client.request("task.action", {"task_uuid": rests, "action": "resume", "reason": WHY})
		self.assertEqual(self.finished(self.node, rests).state, "complete")
		self.doctor(self.node)

	def test_actions_on_what_has_not_begun(self):
		task = self.make(LATER)["task_uuid"]
		for action in "retry", "resolve_manually", "resume":
			with self.assertRaises(ConflictError):
				self.node.client.request("task.action", {"task_uuid": task, "action": action, "reason": WHY})
		self.assertEqual(self.node.client.request("task.bulk_action", {"action": "cancel", "filter": {"task_uuids": [task], "state": "pending"}, "reason": WHY})["done"], 1)

	def test_repeats(self):
		first, again = [self.make(LATER, idempotency_key="later-1") for _ in range(2)]
		self.assertEqual((again["created"], again["state"], again["task_uuid"]), (False, "pending", first["task_uuid"]))
		self.node.client.cancel_task(first["task_uuid"])

	def test_bulk_with_bad_times_among_good(self):
		item = {"name": "later", "namespace": "t"}
		got = self.node.client.request("task.create_many", {"tasks": [{**item, "run_at": LATER}, {**item, "run_at": "2030-02-30T00:00:00Z"}, item, {**item, "run_at": LATER}, {**item, "run_at": 7}]})["results"]
		self.assertEqual([r["error"]["path"] if "error" in r else r["state"] for r in got], ["pending", "tasks[1].run_at", "steps_in_process", "pending", "tasks[4].run_at"])
		self.hasten(got[3]["task_uuid"])
		for i in 2, 3:
			self.assertEqual(self.finished(self.node, got[i]["task_uuid"]).state, "complete")
		self.node.client.cancel_task(got[0]["task_uuid"])
		with self.assertRaises(BadRequestError):
			self.make("in an hour")

	def test_one_task_of_many_steps_and_an_empty_step_list_begin_alike(self):
		self.apply(self.node, template("wide", [step("s%d" % i) for i in range(30)] + [step("end", after=["s%d" % i for i in range(30)])]))
		task = self.make(at(0.1), name="wide")["task_uuid"]
		self.assertEqual(self.finished(self.node, task).state, "complete")

	def test_a_schema_is_checked_at_the_request(self):
		self.apply(self.node, template("checked", [step("a")], input_schema={"type": "object", "required": ["n"]}))
		with self.assertRaises(TaskerdError) as caught:
			self.make(LATER, name="checked")
		self.assertEqual(caught.exception.code, "invalid_context")
		task = self.make(at(0.2), name="checked", context={"n": 1})["task_uuid"]
		self.assertEqual(self.finished(self.node, task).state, "complete")

	def test_limits_count_from_the_start(self):
		self.apply(self.node, template("limited", [step("a", "t.gate", gate="limited")], lifecycle={"max_duration_minutes": 60}))
		task = self.make(LATER, name="limited")["task_uuid"]
		self.db.sql("UPDATE tasker.tasks SET created_at = now() - interval '2 hours' WHERE task_uuid = '%s'" % task)
		self.doctor(self.node)
		self.hasten(task)
		wait_for(lambda: self.get(task)["state"] == "steps_in_process", "it to begin") # there are no steps before
		self.wait_step(self.node, task, "a", "in_progress")
		deadline = self.db.value("SELECT d.due_at > now() + interval '50 minutes' FROM tasker.task_deadlines d JOIN tasker.tasks t USING (task_id) WHERE t.task_uuid = '%s'" % task)
		self.assertEqual(deadline, "t")
		self.doctor(self.node)
		self.ledger.open_gate("limited")
		self.assertEqual(self.finished(self.node, task).state, "complete")

	def test_priority_is_kept(self):
		self.apply(self.node, template("ranked", [step("a", "rank.a")]))
		tasks = {p: self.make(LATER, name="ranked", priority=p)["task_uuid"] for p in (0, 50, -50, 100, -100, 1)}
		self.hasten(*tasks.values())
		for task in tasks.values():
			wait_for(lambda: self.get(task)["state"] == "steps_in_process", "all to be started")
		worker = self.shared.python_worker(self.node, name="rank", threads=1, prefetch=0, module="rank.py")
		done = {p: self.finished(self.node, uuid).step("a").started_at for p, uuid in tasks.items()}
		self.assertEqual(sorted(done, key=done.get), [100, 50, 1, 0, -50, -100])
		# Those with a worker waiting are handed over at the start itself, in the same order.
		tasks = {p: self.make(LATER, name="ranked", priority=p)["task_uuid"] for p in (0, 50, -50, 100)}
		self.hasten(*tasks.values())
		done = {p: self.finished(self.node, uuid).step("a").started_at for p, uuid in tasks.items()}
		self.assertEqual(sorted(done, key=done.get), [100, 50, 0, -50])
		worker.stop()


class OverRestarts(harness.Case):
	def test_it_survives_its_daemon(self):
		db = self.database()
		daemon = self.daemon(db)
		self.apply(daemon, template("later", [step("a")]))
		task = daemon.client.request("task.create", {"name": "later", "namespace": "t", "run_at": at(0.5)})["task_uuid"]
		daemon.kill()
		daemon.start()
		self.python_worker(daemon)
		self.assertEqual(self.finished(daemon, task).state, "complete")
		self.verify(db, daemon)

	def test_another_node_starts_it(self):
		db = self.database()
		one, two = self.daemon(db, name="one", lease_ttl_ms=5000), self.daemon(db, name="two", lease_ttl_ms=5000)
		self.apply(one, template("later", [step("a")]))
		self.python_worker(two)
		task = one.client.request("task.create", {"name": "later", "namespace": "t", "run_at": at(0.5)})["task_uuid"]
		one.kill()
		self.assertEqual(self.finished(two, task).state, "complete")
		self.verify(db, two)

	def test_killed_while_many_begin(self):
		db = self.database()
		daemon = self.daemon(db, resume_grace_ms=100)
		self.apply(daemon, template("later", [step("a"), step("b", after=["a"])]))
		self.python_worker(daemon)
		items = [{"name": "later", "namespace": "t", "run_at": LATER, "idempotency_key": "k%d" % i} for i in range(600)]
		made = daemon.client.request("task.create_many", {"tasks": items})["results"]
		self.assertEqual({r["state"] for r in made}, {"pending"})
		db.sql("UPDATE %s SET vt = now()" % QUEUE)
		db.sql("SELECT tasker.notify('tasker_ready', '0')")
		wait_for(lambda: db.number("SELECT count(*) FROM tasker.tasks WHERE state <> 'pending'") > 0, "some to begin")
		daemon.kill()
		daemon.start()
		db.wait_settled()
		self.assertEqual(db.sql("SELECT state, count(*) FROM tasker.tasks GROUP BY 1"), [["complete", "600"]])
		self.verify(db, daemon)


class Scale(unittest.TestCase):
	"""What is far in the future is not touched: the plan of starts, by the pages it reads."""

	def test_a_hundred_thousand_wait(self):
		name = engine.new_database("starts")
		self.addCleanup(engine.cluster().dropdb, name)
		e = engine.Engine(name)
		self.addCleanup(e.close)
		e.run("SELECT tasker.register_template(%s)" % lit(engine.template_json("t", [{"no": 0, "callable": "c", "parents": [], "retryable": True, "max_attempts": 1}], "always_unique")))
		node = engine.Node("n", *e.register("n"))
		e.run("""INSERT INTO tasker.tasks (task_uuid, template_id, state, open_sinks, context, created_by_node, run_at)
			SELECT tasker.new_task_uuid(), 1, 'pending', 1, '{}', 1, now() + interval '1 day' FROM generate_series(1, 100000)""")
		e.run("INSERT INTO %s (vt, message) SELECT run_at, jsonb_build_object('t', task_id) FROM tasker.tasks" % QUEUE)
		self.pages(e, "start_tasks(%s, false, '{}', '{}', 0, 200)" % e.node_args(node))  # catalogs and plans
		self.assertLess(self.pages(e, "start_tasks(%s, false, '{}', '{}', 0, 200)" % e.node_args(node)), 100)
		for n in 50, 51:
			e.run("UPDATE %s SET vt = now() WHERE msg_id <= %d" % (QUEUE, n))
			pages = self.pages(e, "start_tasks(%s, false, '{}', '{}', 0, 200)" % e.node_args(node))
			self.assertEqual(e.value("SELECT count(*) FROM tasker.tasks WHERE state = 'steps_in_process'"), str(n))
		self.assertLess(pages, 300)  # for the last one alone; tasks and messages fill thousands
		self.assertTrue(e.doctor()["ok"])

	@staticmethod
	def pages(e, call):
		plan = json.loads(e.value("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM tasker." + call))[0]["Plan"]
		return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


if __name__ == "__main__":
	unittest.main()

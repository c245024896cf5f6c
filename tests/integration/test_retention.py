"""What becomes of finished tasks: archived or deleted when their time is over, by state and by namespace, a few at a time; and that with it nothing grows. Time is moved, not
waited for."""
import unittest

import harness
from harness import step, template, wait_for
from taskerd.exceptions import TaskerdError, TooLargeError
from test_lifecycle import age

TABLES = ("tasks", "steps", "step_attempts", "task_transitions", "node_claims", "dlq", "task_deadlines", "workers")


class Retention(harness.SharedCase):
	options = {"retention_complete_minutes": 10, "retention_error_minutes": 60}

	@classmethod
	def prepare(cls, stage):
		stage.db = stage.database()
		stage.node = stage.daemon(stage.db, sweep_interval_ms=100, **cls.options)
		stage.worker = stage.python_worker(stage.node, module="dynamic.py")
		for name, fields in (("one", {}), ("pair", {}), ("keyed", {"identity_strategy": "caller_provided"})):
			stage.apply(stage.node, template(name, [step("a"), step("b", after=["a"])], **fields))
		stage.apply(stage.node, template("broken", [step("a", "t.flaky", fails=9, kind="permanent")], lifecycle={"max_duration_minutes": 5, "staleness_action": "error"}))

	@classmethod
	def tearDownClass(cls):
		cls.shared.doctor(cls.shared.node)  # what was recorded is gone: it cannot be held against what was executed
		unittest.TestCase.tearDownClass()

	def ask(self, method, **params):
		return self.node.client.request(method, params)

	def walk(self):
		"""Have a walk begin at once, and wait for its end."""
		self.db.sql("UPDATE tasker.retention_walk SET at_id = 0, next_at = '-infinity', asked = asked + 1")
		wait_for(lambda: self.db.number("SELECT count(*) FROM tasker.retention_walk WHERE next_at > '-infinity' AND at_id = 0") == 1, "the walk to end")

	def rows(self, task):
		return self.db.number("SELECT count(*) FROM tasker.tasks WHERE task_uuid = '%s'" % task)

	def done(self, name="one", **more):
		task = str(self.create(self.node, name, **more))
		self.assertEqual(self.finished(self.node, task).state, "complete")
		return task


class Archive(Retention):
	def test_archived_tasks_are_found_by_their_uuid(self):
		task = self.done("pair", context={"n": 7})
		age(self.db, 9, task)
		self.walk()
		self.assertEqual(self.rows(task), 1)
		age(self.db, 2, task)
		before, history = self.ask("task.get", task_uuid=task), self.ask("task.history", task_uuid=task)
		self.walk()
		self.assertEqual(self.rows(task), 0)
		after = self.ask("task.get", task_uuid=task)
		self.assertIsNotNone(after.pop("archived_at"))
		self.assertEqual(after, before)
		self.assertNotIn("steps", self.ask("task.get", task_uuid=task, steps=False))
		self.assertEqual(self.ask("task.history", task_uuid=task), history)
		self.assertEqual(self.finished(self.node, task).state, "complete")
		self.assertEqual([e["state"] for e in self.watched(task)], ["complete"])
		self.assertNotIn(task, [t["task_uuid"] for t in self.ask("task.list", limit=1000)["tasks"]])
		with self.assertRaises(TaskerdError) as caught:
			self.node.client.cancel_task(task)
		self.assertIn(caught.exception.code, ("not_found", "conflict"))
		for table in ("steps", "step_attempts", "task_transitions"):
			self.assertEqual(self.db.number("SELECT count(*) FROM tasker.%s x WHERE NOT EXISTS (SELECT 1 FROM tasker.tasks t WHERE t.task_id = x.task_id)" % table), 0)

	def test_all_that_happened_is_told_as_before(self):
		"""Failures, what was done by hand, states that it rested in."""
		task = str(self.create(self.node, "broken"))
		self.assertEqual(self.finished(self.node, task).state, "blocked_by_failures")
		self.ask("step.action", task_uuid=task, step="a", action="reset_for_retry", reason="again")
		self.assertEqual(self.finished(self.node, task).state, "blocked_by_failures")
		self.ask("step.action", task_uuid=task, step="a", action="complete_manually", result={"by": "hand"}, reason="it is done")
		age(self.db, 11, task)
		before, history = self.ask("task.get", task_uuid=task), self.ask("task.history", task_uuid=task)
		self.assertEqual((before["state"], len(history["attempts"]), len(history["actions"])), ("complete", 2, 2))
		self.walk()
		self.assertEqual(self.rows(task), 0)
		after = self.ask("task.get", task_uuid=task)
		self.assertIsNotNone(after.pop("archived_at"))
		self.assertEqual((after, self.ask("task.history", task_uuid=task)), (before, history))
		self.assertEqual(len(self.ask("task.history", task_uuid=task, limit=3)["attempts"]), 1)
		self.assertEqual([e["outcome"] for e in self.ask("task.history", task_uuid=task, step="a")["events"] if e["kind"] == "attempt"], ["permanent_error"] * 2)

	def watched(self, task):
		with self.node.new_client() as client:
			return [{"state": getattr(e, "state", None) or e["state"]} for e in client.watch(task)][-1:]

	def test_what_is_larger_than_a_value_may_be(self):
		"""It is archived without its steps, and does not keep others from it."""
		tasks = [self.done("pair") for _ in range(2)]
		self.db.sql("UPDATE tasker.steps s SET result_bytes = 140000000 FROM tasker.tasks t WHERE t.task_id = s.task_id AND t.task_uuid = '%s'" % tasks[0])
		for task in tasks:
			age(self.db, 11, task)
		self.walk()
		self.assertEqual([self.rows(t) for t in tasks], [0, 0])
		self.assertEqual(self.ask("task.get", task_uuid=tasks[0], steps=False)["total_steps"], 2)
		with self.assertRaises(TooLargeError):
			self.ask("task.get", task_uuid=tasks[0])
		history = self.ask("task.history", task_uuid=tasks[0])
		self.assertEqual((history["transitions"][-1]["to"], history["attempts"]), ("complete", []))
		self.assertEqual(len(self.ask("task.get", task_uuid=tasks[1])["steps"]), 2)

	def test_a_state_without_a_time_is_kept(self):
		task = str(self.create(self.node, "pair", namespace="t"))
		self.finished(self.node, task)
		self.db.sql("UPDATE tasker.tasks SET state = 'resolved_manually' WHERE task_uuid = '%s'" % task)
		age(self.db, 100000, task)
		self.walk()
		self.assertEqual(self.rows(task), 1)

	def test_an_open_entry_keeps_its_task(self):
		task = self.done()
		self.ask("dlq.add", task_uuid=task)
		age(self.db, 11, task)
		self.walk()
		self.assertEqual(self.rows(task), 1)
		self.ask("dlq.update", task_uuid=task, status="manually_resolved")
		self.walk()
		self.assertEqual(self.rows(task), 0)
		self.assertEqual(self.db.value("SELECT dlq -> 0 ->> 'status' FROM tasker.archived_tasks WHERE task_uuid = '%s'" % task), "manually_resolved")

	def test_a_key_is_known_as_long_as_its_task(self):
		task = self.done("keyed", idempotency_key="order 1")
		age(self.db, 9, task)
		self.walk()
		self.assertEqual(str(self.create(self.node, "keyed", idempotency_key="order 1")), task)
		age(self.db, 2, task)
		self.walk()
		self.assertNotEqual(str(self.create(self.node, "keyed", idempotency_key="order 1")), task)

	def test_nothing_is_left_of_a_batch(self):
		cursors = [{"batch_id": "b%d" % i, "start_cursor": i, "end_cursor": i + 1} for i in range(3)]
		outcome = {"batch_processing_outcome": {"type": "create_batches", "worker_template_name": "work", "worker_count": 3, "cursor_configs": cursors}}
		self.apply(self.node, template("batched", [{**step("cut", "d.say", result=outcome), "type": "batchable"}, {**step("work", after=["cut"]), "type": "batch_worker"},
		                                           {**step("sum", after=["work"]), "type": "deferred_convergence"}]))
		task = self.done("batched")
		age(self.db, 11, task)
		self.walk()
		self.assertEqual([self.db.number("SELECT count(*) FROM tasker.%s" % t) for t in ("batches",)], [0])
		self.assertEqual({s["name"] for s in self.ask("task.get", task_uuid=task)["steps"]}, {"cut", "work_b0", "work_b1", "work_b2", "sum"})
		self.assertEqual([e["outcome"] for e in self.ask("task.history", task_uuid=task, step="work_b1")["events"]], ["success"])

	def test_unfinished_tasks_stay(self):
		self.apply(self.node, template("open", [step("a", "t.nobody")]))
		task = str(self.create(self.node, "open"))
		age(self.db, 100000, task)
		self.walk()
		self.assertEqual(self.rows(task), 1)
		self.node.client.cancel_task(task)

	def test_old_sessions_of_workers_go(self):
		self.db.sql("INSERT INTO tasker.workers (worker_uuid, node_no, disconnected_at) SELECT gen_random_uuid(), 1, now() - g * interval '1 hour' FROM generate_series(1, 48) g")
		self.walk()
		self.assertEqual(self.db.number("SELECT count(*) FROM tasker.workers WHERE disconnected_at < now() - interval '1 day'"), 0)
		self.assertGreaterEqual(self.db.number("SELECT count(*) FROM tasker.workers WHERE disconnected_at IS NOT NULL"), 23)
		self.assertEqual(len(self.ask("worker.list")["workers"]), 1)


class Namespaces(Retention):
	options = {"retention_complete_minutes": 10, "retention_archived_minutes": 30}

	def rules(self, **params):
		return {r["state"]: (r["keep_minutes"], r["action"], r["own"]) for r in self.ask("namespace.retention", **params)["rules"]}

	def test_a_namespace_has_rules_of_its_own(self):
		for namespace in ("short", "eternal"):
			self.apply(self.node, template("one", [step("a")], namespace=namespace))
		self.walk()
		self.assertEqual(self.rules(namespace="short"), {"complete": (10, "archive", False), "error": (None, "archive", False), "cancelled": (None, "archive", False), "resolved_manually": (None, "archive", False)})
		self.assertEqual(self.rules(namespace="short", keep_minutes=1, action="delete", state="complete")["complete"], (1, "delete", True))
		self.assertEqual(set(self.rules(namespace="eternal", forever=True).values()), {(None, "archive", True)})
		short, eternal, usual = (self.done(namespace=n) for n in ("short", "eternal", "t"))
		age(self.db, 2, short, eternal, usual)
		self.walk()
		self.assertEqual([self.rows(t) for t in (short, eternal, usual)], [0, 1, 1])
		with self.assertRaises(TaskerdError) as caught:
			self.ask("task.get", task_uuid=short)
		self.assertEqual(caught.exception.code, "not_found")
		age(self.db, 1000, eternal, usual)
		self.walk()
		self.assertEqual([self.rows(t) for t in (eternal, usual)], [1, 0])
		self.assertEqual(self.rules(namespace="eternal", inherit=True)["complete"], (10, "archive", False))
		self.walk()
		self.assertEqual(self.rows(eternal), 0)

	def test_rules_that_change_during_a_walk(self):
		"""The walk was past them; another one begins at once, whatever time this one sets for the next."""
		self.apply(self.node, template("one", [step("a")], namespace="changed"))
		task = self.done(namespace="changed")
		self.db.sql("INSERT INTO tasker.workers (worker_uuid, node_no, disconnected_at) VALUES (gen_random_uuid(), 1, now() - interval '2 days')")
		with self.db.cluster.session(self.db.name) as held:
			held.run("BEGIN; SELECT 1 FROM tasker.workers WHERE disconnected_at < now() - interval '1 day' FOR UPDATE")
			self.db.sql("UPDATE tasker.retention_walk SET at_id = 0, next_at = '-infinity', asked = asked + 1")
			wait_for(lambda: self.db.number("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%tasker.retain(%' AND datname = current_database()") == 1,
			         "the walk to wait at its end")
			self.rules(namespace="changed", keep_minutes=0, action="delete")
			held.run("COMMIT")
		wait_for(lambda: self.rows(task) == 0, "the new rule to be followed")

	def test_what_is_archived_has_an_end_too(self):
		task = self.done()
		age(self.db, 11, task)
		self.walk()
		self.ask("task.get", task_uuid=task)
		queue = self.db.value("SELECT queue_name FROM tasker.handlers JOIN tasker.namespaces n USING (namespace_id) WHERE callable = 't.ok' AND n.name = 't'")
		self.db.sql("SELECT pgmq.archive('%s', m) FROM pgmq.send('%s', '{}'::jsonb, 3600) m" % (queue, queue))
		self.db.sql("UPDATE tasker.archived_tasks SET archived_at = archived_at - interval '31 minutes' WHERE task_uuid = '%s'" % task)
		self.db.sql("UPDATE pgmq.a_%s SET archived_at = archived_at - interval '31 minutes'" % queue)
		self.walk()
		with self.assertRaises(TaskerdError) as caught:
			self.ask("task.get", task_uuid=task)
		self.assertEqual(caught.exception.code, "not_found")
		self.assertEqual(self.db.number("SELECT count(*) FROM pgmq.a_%s" % queue), 0)

	def test_what_cannot_be_asked(self):
		for params, path in (({"state": "pending"}, "state"), ({"action": "burn", "forever": True}, "action"), ({"action": "delete"}, "keep_minutes"), ({"keep_minutes": 1, "forever": True}, "keep_minutes"),
		                     ({"keep_minutes": -1}, "keep_minutes")):
			with self.subTest(params), self.assertRaises(TaskerdError) as caught:
				self.ask("namespace.retention", namespace="t", **params)
			self.assertEqual(caught.exception.code, "bad_request")
		with self.assertRaises(TaskerdError) as caught:
			self.ask("namespace.retention", namespace="nowhere")
		self.assertEqual(caught.exception.code, "not_found")


class Growth(harness.Case):
	def test_nothing_grows_under_a_steady_load(self):
		"""The same load again and again, all of it removed: after a third of the rounds no table and no index grows any more, but for the few pages by which rounds differ. VACUUM is said
		by the test, so that it does not depend on when autovacuum comes."""
		db = self.database()
		node = self.daemon(db, sweep_interval_ms=100)
		self.c_worker(node)
		self.apply(node, template("load", [step("a", "bench.noop"), step("b", "bench.noop", after=["a"]), step("c", "bench.flaky", after=["a"], attempts=3)], lifecycle={"max_duration_minutes": 60}))
		node.client.request("namespace.retention", {"namespace": "t", "keep_minutes": 0, "action": "delete"})
		sizes = []
		for _ in range(12):
			self.create_many(node, "load", 300)
			wait_for(lambda: db.number("SELECT count(*) FROM tasker.tasks") == 0, "all to be done and removed")
			for table in ["tasker." + t for t in TABLES] + [r[0] for r in db.sql("SELECT 'pgmq.q_' || queue_name FROM pgmq.meta")]:
				db.sql("VACUUM %s" % table)
			sizes.append(self.sizes(db))
		early = {name: max(s[name] for s in sizes[:4]) for name in sizes[0]}  # a third of the load
		self.assertEqual([(name, early[name], size) for name, size in sizes[-1].items() if size > early[name] * 5 // 4 + 32768], [], "what grows: (name, early, in the end)")
		self.assertEqual(db.number("SELECT count(*) FROM tasker.step_attempts") + db.number("SELECT count(*) FROM tasker.steps"), 0)
		self.doctor(node)

	def sizes(self, db):
		rows = db.sql("SELECT c.relname, pg_relation_size(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname IN ('tasker', 'pgmq') AND c.relkind IN ('r', 'i', 't')")
		return {name: int(size) for name, size in rows}

	def test_nothing_is_read_whole(self):
		"""Right after a bulk load, of which the planner knows nothing yet, neither walks nor sweeps scan a table from end to end."""
		db = self.database()
		if db.number("SELECT current_setting('server_version_num')") < 150000:
			self.skipTest("statistics come when they like before PostgreSQL 15")
		node = self.daemon(db)
		self.c_worker(node)
		self.apply(node, template("done", [step("a", "bench.noop"), step("b", "bench.fail", after=["a"], retryable=False)], lifecycle={"max_duration_minutes": 60, "staleness_action": "error"}))
		for _ in range(2):
			self.create_many(node, "done", 1000)
		db.wait_settled()
		node.kill()
		age(db, 61, *[r[0] for r in db.sql("SELECT task_uuid FROM tasker.tasks")])
		db.sql("UPDATE tasker.dlq SET status = 'cancelled'")
		tables = "'tasks', 'steps', 'step_attempts', 'task_transitions', 'dlq', 'task_deadlines', 'operator_actions', 'batches', 'batch_returns'"
		scans = lambda: dict(map(tuple, db.sql("SELECT pg_stat_force_next_flush(); SELECT relname, seq_scan FROM pg_stat_user_tables WHERE relname IN (%s)" % tables)[1:]))  # noqa: E731
		before = scans()
		while db.sql("SELECT looked FROM tasker.sweep_deadlines(1, 200)") != [["0"]]:
			pass
		self.assertEqual(db.number("SELECT count(*) FROM tasker.tasks WHERE state = 'error' AND task_id > 0"), 2000)
		after_sweeps = scans()
		db.sql("UPDATE tasker.tasks SET finished_at = finished_at - interval '1 hour'; UPDATE tasker.retention_walk SET next_at = '-infinity', asked = asked + 1")
		middle = scans()
		while db.value("SELECT more FROM tasker.retain(1, '{\"error\": 1}')") == "t":
			pass
		after = scans()
		self.assertEqual(db.number("SELECT count(*) FROM tasker.archived_tasks"), 2000)
		# The test's own count reads the index or the table; what it asked for in between is left out.
		self.assertEqual({k: int(after[k]) - int(middle[k]) for k in after}, dict.fromkeys(after, 0))
		self.assertLessEqual({k: int(after_sweeps[k]) - int(before[k]) for k in before}["steps"], 0)

	def test_killed_in_the_middle_of_a_walk(self):
		"""Two nodes, one killed again and again, over thousands of finished tasks: each is archived once and whole, and nothing is left behind."""
		db = self.database()
		one, two = (self.daemon(db, name=n, sweep_interval_ms=100, lease_ttl_ms=1000) for n in ("one", "two"))
		self.c_worker(one)
		self.apply(one, template("many", [step("a", "bench.noop"), step("b", "bench.noop", after=["a"])]))
		for _ in range(3):
			self.create_many(one, "many", 1000)
		db.wait_settled()
		one.client.request("namespace.retention", {"namespace": "t", "keep_minutes": 0, "action": "archive"})
		archived = lambda: db.number("SELECT count(*) FROM tasker.archived_tasks")  # noqa: E731
		for n in (1, 500, 1500):
			wait_for(lambda n=n: archived() >= n, "the walk to go on")
			one.kill()
			one.start()
		wait_for(lambda: archived() == 3000, lambda: "all to be archived; %d are" % archived())
		self.assertEqual(db.number("SELECT count(*) FROM tasker.tasks"), 0)
		self.assertEqual(db.number("SELECT count(*) FROM tasker.archived_tasks WHERE cardinality(steps) = 2 AND cardinality(attempts) = 2 AND whole"), 3000)
		self.doctor(two)

	def test_the_server_dies_in_the_middle_of_a_walk(self):
		cluster = harness.new_cluster()
		self.at_end(cluster.close)
		db = self.database(cluster)
		node = self.daemon(db, sweep_interval_ms=100, lease_ttl_ms=2000)
		self.c_worker(node)
		self.apply(node, template("many", [step("a", "bench.noop"), step("b", "bench.noop", after=["a"])], lifecycle={"max_duration_minutes": 60}))
		for _ in range(3):
			self.create_many(node, "many", 1000)
		db.wait_settled()
		node.client.request("namespace.retention", {"namespace": "t", "keep_minutes": 0, "action": "archive"})
		wait_for(lambda: db.number("SELECT count(*) FROM tasker.archived_tasks") > 0, "the walk to begin")
		db.close()
		cluster.kill()
		cluster.start()
		wait_for(lambda: node.database_state() == "up", "the daemon to come back")
		wait_for(lambda: db.number("SELECT count(*) FROM tasker.archived_tasks") == 3000, "all to be archived")
		self.assertEqual(db.number("SELECT count(*) FROM tasker.tasks"), 0)
		self.doctor(node)


del Retention

if __name__ == "__main__":
	unittest.main()

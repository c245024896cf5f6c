"""input_schema and result_schema: enforced, all violations at once, against the version that is meant, and never half."""
import json
import threading
import unittest

import harness
import pg
from harness import step, template
from taskerd.exceptions import InvalidContextError, InvalidTemplateError

ORDER = {"type": "object", "required": ["id", "lines"], "additionalProperties": False,
         "properties": {"id": {"type": "string", "pattern": "^o-\\d+$"}, "lines": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/line"}},
                        "express": {"type": "boolean", "default": False}},
         "$defs": {"line": {"type": "object", "required": ["sku"], "properties": {"sku": {"type": "string"}, "n": {"type": "integer", "minimum": 1}}}}}
GOOD = {"id": "o-1", "lines": [{"sku": "a", "n": 2}]}
BAD = {"id": "7", "lines": [{"sku": "a"}, {"n": 0}], "colour": "red"}


class Contexts(harness.SharedCase):
	@classmethod
	def prepare(cls, stage):
		super().prepare(stage)
		stage.apply(stage.node, template("order", [step("a", "t.echo")], input_schema=ORDER))
		stage.apply(stage.node, template("plain", [step("a")]))

	def make(self, context, name="order", **more):
		return self.node.client.create_task(name, namespace="t", context=context, **more)

	def tasks(self):
		return int(self.db.value("SELECT count(*) FROM tasker.tasks"))

	def test_a_context_that_fits(self):
		for _ in range(3):
			made = self.make(GOOD)
			self.assertTrue(made.created)
			task = self.finished(self.node, made.task_uuid)
			self.assertEqual(task.state, "complete")
		self.assertNotIn("express", self.node.client.get_task(made.task_uuid).context, "a default is a note: nothing is filled in")

	def test_all_violations_at_once(self):
		for _ in range(2):  # the first time the name is new
			before = self.tasks()
			with self.assertRaises(InvalidContextError) as caught:
				self.make(BAD)
			self.assertEqual(self.tasks(), before)
			got = {(v["instance"], v["keyword"]) for v in caught.exception.violations}
			self.assertEqual(got, {("/id", "/properties/id/pattern"), ("/lines/1", "/$defs/line/required"), ("/lines/1/n", "/$defs/line/properties/n/minimum"),
			                       ("/colour", "/additionalProperties")})
			self.assertEqual(caught.exception.details["total"], 4)
			self.assertIn("3 more", str(caught.exception))
			self.assertIn('lacks the property "sku"', str(caught.exception))

	def test_an_absent_context_is_an_empty_one(self):
		with self.assertRaises(InvalidContextError) as caught:
			self.make({})
		self.assertEqual([v["message"] for v in caught.exception.violations], ['lacks the property "id"', 'lacks the property "lines"'])

	def test_in_bulk_each_by_itself(self):
		items = [{"name": "order" if i % 2 else "plain", "namespace": "t", "context": BAD if i % 3 == 0 else {**GOOD, "id": "o-%d" % i}} for i in range(300)]
		outcomes = self.node.client.create_tasks(items)
		for i, o in enumerate(outcomes):
			self.assertEqual(o.ok, not (i % 2 and i % 3 == 0), i)
			if not o.ok:
				self.assertIsInstance(o.error, InvalidContextError)
				self.assertEqual(len(o.error.violations), 4)
		for o in outcomes:
			if o.ok:
				self.finished(self.node, o.task_uuid)

	def test_details_that_do_not_fit_are_left_out(self):
		"""The message says how many there are even so."""
		items = [{"name": "order", "namespace": "t", "context": {"id": "o-1", "lines": [{"n": 0, "sku": k} for k in range(200)], "x" * 500: 1}} for _ in range(400)]
		outcomes = self.node.client.create_tasks(items)
		self.assertTrue(all(not o.ok and o.error.code == "invalid_context" for o in outcomes))
		self.assertEqual(len(outcomes[0].error.violations), 100)
		self.assertIn("400 more", str(outcomes[-1].error))

	def test_a_repeat_with_a_key(self):
		first = self.make(GOOD, idempotency_key="s-1")
		again = self.make(GOOD, idempotency_key="s-1")
		self.assertEqual((first.task_uuid, again.created), (again.task_uuid, False))
		with self.assertRaises(InvalidContextError):
			self.make(BAD, idempotency_key="s-1")

	def test_the_version_that_is_meant_counts(self):
		"""The newest, as soon as it is registered; another by its number."""
		name = "moving"
		self.apply(self.node, template(name, [step("a")], version="1.0.0", input_schema={"required": ["one"]}))
		self.assertTrue(self.make({"one": 1}, name).created)
		self.apply(self.node, template(name, [step("a")], version="2.0.0", input_schema={"required": ["two"]}))
		with self.assertRaises(InvalidContextError):
			self.make({"one": 1}, name)
		self.assertTrue(self.make({"two": 1}, name).created)
		self.assertTrue(self.make({"one": 1}, name, version="1.0.0").created)
		self.apply(self.node, template(name, [step("a")], version="3.0.0"))
		self.assertTrue(self.make({}, name).created)
		with self.assertRaises(InvalidContextError):
			self.make({}, name, version="2.0.0")

	def test_versions_while_tasks_are_made(self):
		"""A task is only ever made from a version whose schema its context fits."""
		name, stop, outcomes = "racing", threading.Event(), []
		self.apply(self.node, template(name, [step("a")], version="0.0.0", input_schema={"properties": {"v": {"const": 0}}}))

		def create():
			while not stop.is_set():
				outcomes.extend(self.node.client.create_tasks({"name": name, "namespace": "t", "context": {"v": v}} for v in range(8)))

		maker = threading.Thread(target=create)
		maker.start()
		try:
			for v in range(1, 8):
				self.apply(self.node, template(name, [step("a")], version="%d.0.0" % v, input_schema={"properties": {"v": {"const": v}}}))
				harness.wait_for(lambda n=len(outcomes): len(outcomes) >= n + 16, lambda: "creations to go on")
		finally:
			stop.set()
			maker.join()
		self.assertTrue(all(o.ok or o.error.code == "invalid_context" for o in outcomes))
		wrong = self.db.sql("SELECT t.task_uuid FROM tasker.tasks t JOIN tasker.templates p USING (template_id) WHERE p.name = 'racing' AND t.context ->> 'v' || '.0.0' <> p.version")
		self.assertEqual(wrong, [])
		self.assertGreater(sum(o.ok for o in outcomes), 0)

	def test_a_value_that_takes_too_much_work_is_refused(self):
		levels = {"d%d" % i: {"allOf": [{"$ref": "#/$defs/d%d" % (i + 1)}] * 2} for i in range(26)}
		self.apply(self.node, template("hard", [step("a")], input_schema={"$ref": "#/$defs/d0", "$defs": {**levels, "d26": {"type": "object"}}}))
		with self.assertRaises(InvalidContextError) as caught:
			self.make({}, "hard")
		self.assertIn("too much work", str(caught.exception))
		self.assertTrue(self.make(GOOD).created, "the daemon goes on")

	def test_a_schema_that_cannot_be_used(self):
		with self.assertRaises(InvalidTemplateError) as caught:
			self.apply(self.node, template("broken", [step("a")], input_schema={"type": "objekt", "properties": {"a": {"$dynamicRef": "#x"}, "b": {"pattern": "(a)\\1"}}}))
		self.assertEqual([f["key"] for f in caught.exception.findings if f["severity"] == "error"], ["input_schema.type", 'input_schema.properties.a["$dynamicRef"]', "input_schema.properties.b.pattern"])


class Results(harness.SharedCase):
	def run_task(self, result, schema, attempts=3):
		name = "r%d" % id(schema)
		self.apply(self.node, template(name, [{**step("a", "t.echo", attempts=attempts), "result_schema": schema}, step("b", "t.ok", after=["a"])]))
		task = self.create(self.node, name, result)
		return task, self.finished(self.node, task)

	def test_a_result_that_fits(self):
		_, task = self.run_task({"n": 1}, {"type": "object"})
		self.assertEqual(task.state, "complete")

	def test_a_result_that_does_not(self):
		uuid, task = self.run_task({}, {"required": ["total"], "properties": {"from": {"type": "string"}}})
		self.assertEqual(task.state, "blocked_by_failures")
		a = self.node.client.get_step(uuid, "a")
		self.assertEqual((a.state, a.attempts, a.result), ("error", 1, None), "permanent: it is not tried again")
		self.assertEqual(a.error["error_type"], "SchemaViolation")
		self.assertIn('lacks the property "total"', a.error["message"])
		self.assertEqual([v["keyword"] for v in a.error["context"]["violations"]], ["/required"])
		self.assertEqual(self.node.client.get_step(uuid, "b").state, "pending")
		self.assertEqual([a[3] for a in self.db.attempts() if a[0] == uuid], ["invalid_result"])
		self.doctor(self.node)

	def test_many_at_once(self):
		"""Good and bad ones in the same batches."""
		self.apply(self.node, template("mixed", [{**step("a"), "result_schema": {"properties": {"n": {"multipleOf": 2}}}}]))
		tasks = self.create_many(self.node, "mixed", 200)
		states = [self.finished(self.node, t).state for t in tasks]
		self.assertEqual(states, ["complete" if i % 2 == 0 else "blocked_by_failures" for i in range(200)])
		self.doctor(self.node)


class SqlCallers(harness.SharedCase):
	"""A task that SQL makes rests in pending until a daemon has checked its context."""
	@classmethod
	def prepare(cls, stage):
		super().prepare(stage)
		stage.apply(stage.node, template("order", [step("a", "t.echo")], input_schema=ORDER))

	def make(self, context, more=""):
		return self.db.value("SELECT tasker.create_task('order', 't', context => %s::jsonb%s)" % (pg.lit(json.dumps(context)), more))

	def test_a_context_that_fits(self):
		task = self.finished(self.node, self.make(GOOD))
		self.assertEqual(task.state, "complete")
		self.assertEqual([t["to"] for t in self.node.client.request("task.history", {"task_uuid": task.task_uuid})["transitions"]][:2], ["pending", "steps_in_process"])

	def test_a_context_that_does_not(self):
		uuid = self.make(BAD)
		task = self.finished(self.node, uuid)
		self.assertEqual((task.state, len(task.steps)), ("error", 0))
		cause = json.loads(self.db.value("SELECT h.cause FROM tasker.task_transitions h JOIN tasker.tasks t USING (task_id) WHERE t.task_uuid = '%s' AND h.to_state = 'error'" % uuid))
		self.assertEqual(cause["event"], "invalid_context")
		self.assertIn("(and 3 more)", cause["message"])
		self.assertEqual({v["instance"] for v in cause["details"]["violations"]}, {"/id", "/lines/1", "/lines/1/n", "/colour"})
		self.doctor(self.node)

	def test_many(self):
		self.db.sql("SELECT tasker.create_task('order', 't', context => CASE WHEN i %% 3 = 0 THEN '{}' ELSE %s::jsonb END, reason => 'many') FROM generate_series(0, 299) i" % pg.lit(json.dumps(GOOD)))
		harness.wait_for(lambda: self.db.value("SELECT count(*) FROM tasker.tasks WHERE reason = 'many' AND state IN ('complete', 'error')") == "300", lambda: "all tasks to end")
		self.assertEqual(self.db.value("SELECT count(*) FROM tasker.tasks WHERE reason = 'many' AND (state = 'error') <> (context = '{}')"), "0")

	def test_later(self):
		"""With run_at the context is checked when its time comes; one that was made over the socket was checked then."""
		uuid = self.make(BAD, ", run_at => now() + interval '1 hour'")
		self.assertEqual(self.node.client.get_task(uuid).state, "pending")
		self.db.sql("UPDATE pgmq.q_orchestration_task_requests SET vt = now() WHERE (message ->> 't')::bigint = (SELECT task_id FROM tasker.tasks WHERE task_uuid = '%s')" % uuid)
		self.db.sql("SELECT tasker.notify('tasker_ready', '0')")
		self.assertEqual(self.finished(self.node, uuid).state, "error")

	def test_a_version_that_is_replaced_later_does_not_matter(self):
		"""The task keeps the version it was made from."""
		self.apply(self.node, template("kept", [step("a")], input_schema={"required": ["n"]}))
		uuid = self.db.value("SELECT tasker.create_task('kept', 't', context => '{\"n\": 1}', run_at => now() + interval '1 second')")
		self.apply(self.node, template("kept", [step("a")], version="2.0.0", input_schema={"required": ["m"]}))
		task = self.finished(self.node, uuid)
		self.assertEqual((task.state, task.version), ("complete", "1.0.0"))


class LostChecker(harness.Case):
	def test_a_daemon_that_dies_before_it_says_what_it_has_found(self):
		db = self.database()
		node = self.daemon(db)
		self.apply(node, template("order", [step("a", "bench.noop")], input_schema=ORDER))
		node.stop()
		good, bad = (db.value("SELECT tasker.create_task('order', 't', context => %s::jsonb)" % pg.lit(json.dumps(c))) for c in (GOOD, BAD))
		no, incarnation = db.sql("SELECT node_no, incarnation FROM tasker.node_register('gone', 'h', 1, '0', 60000)")[0]
		rows = db.sql("SELECT kind, task_uuid FROM tasker.start_tasks(%s, %s, 0, 1, false, '{}', '{}', 0, 10) WHERE kind = 'k'" % (no, incarnation))
		self.assertEqual({r[1] for r in rows}, {good, bad})
		self.assertEqual(db.value("SELECT count(*) FROM tasker.tasks WHERE state = 'pending'"), "2")
		db.sql("UPDATE pgmq.q_orchestration_task_requests SET vt = now()")  # half a minute later
		node = self.daemon(db, name="other")
		self.doctor(node)
		worker = self.c_worker(node, handlers=["bench.noop"])
		self.assertEqual([self.finished(node, t).state for t in (good, bad)], ["complete", "error"])
		self.doctor(node)
		self.assertEqual(worker.stop(), 0)


if __name__ == "__main__":
	unittest.main()

"""tasker.create_task and tasker.submit_task: tasks made in the application's own transaction, by a role that may do nothing else."""
import json
import threading
import unittest

import harness
import pg
from harness import step, template, wait_for
from pg import lit
from taskerd.exceptions import ConflictError

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
FUNCTIONS = {"create_task", "submit_task"}


class SqlCreate(harness.SharedCase):
	@classmethod
	def prepare(cls, stage):
		super().prepare(stage)
		stage.apply(stage.node, template("plain", [step("a"), step("b", after=["a"])]))
		stage.apply(stage.node, template("strict", [step("a")], identity_strategy="strict"))
		stage.apply(stage.node, template("keyed", [step("a")], identity_strategy="caller_provided"))
		stage.apply(stage.node, template("checked", [step("a")], input_schema=SCHEMA))
		stage.role = "app_%d" % stage.node.pid
		stage.db.sql("CREATE ROLE %s" % stage.role)
		stage.at_end(cls.drop_role, stage)
		stage.db.sql("GRANT USAGE ON SCHEMA tasker TO %s" % stage.role)
		for name, args in stage.db.sql("SELECT proname, pg_get_function_identity_arguments(oid) FROM pg_proc WHERE pronamespace = 'tasker'::regnamespace AND proname IN ('create_task', 'submit_task')"):
			types = stage.db.value("SELECT string_agg(format_type(t, NULL), ', ' ORDER BY o) FROM pg_proc p, unnest(p.proargtypes) WITH ORDINALITY AS x(t, o) "
			                       "WHERE p.pronamespace = 'tasker'::regnamespace AND p.proname = '%s'" % name)
			stage.db.sql("GRANT EXECUTE ON FUNCTION tasker.%s(%s) TO %s" % (name, types, stage.role))

	@staticmethod
	def drop_role(stage):
		stage.db.sql("DROP OWNED BY %s" % stage.role)
		stage.db.sql("DROP ROLE %s" % stage.role)

	def app(self):
		"""A session of the role."""
		session = self.db.cluster.session(self.db.name)
		self.addCleanup(session.close)
		session.run("SET ROLE %s" % self.shared.role)
		return session

	def refused(self, app, call, sqlstate, text):
		with self.assertRaises(pg.PgError) as caught:
			app.run("SELECT " + call)
		self.assertEqual(caught.exception.sqlstate, sqlstate, caught.exception)
		self.assertIn(text, str(caught.exception))

	# -- in and out of transactions -----------------------------------------------------------------

	def test_committed_it_runs(self):
		"""The daemon hears of it at once: it polls only once an hour."""
		app = self.app()
		task = app.run("SELECT tasker.create_task('plain', namespace => 't', context => '{\"n\": 1}')")[0][0]
		done = self.finished(self.node, task)
		self.assertEqual((done.state, done.step("a").result["n"]), ("complete", 1))
		self.doctor(self.node)

	def test_rolled_back_it_never_was(self):
		app = self.app()
		before = self.db.sql("SELECT count(*), (SELECT count(*) FROM tasker.steps), (SELECT count(*) FROM pgmq.q_orchestration_task_requests) FROM tasker.tasks")
		app.run("BEGIN")
		task = app.run("SELECT tasker.create_task('plain', namespace => 't', idempotency_key => 'undone')")[0][0]
		later = app.run("SELECT tasker.create_task('plain', namespace => 't', run_at => now() + interval '1 hour')")[0][0]
		app.run("ROLLBACK")
		self.assertEqual(self.db.value("SELECT count(*) FROM tasker.tasks WHERE task_uuid IN (%s, %s)" % (lit(task), lit(later))), "0")
		self.assertEqual(self.db.sql("SELECT count(*), (SELECT count(*) FROM tasker.steps), (SELECT count(*) FROM pgmq.q_orchestration_task_requests) FROM tasker.tasks"), before)
		self.assertEqual(app.run("SELECT created FROM tasker.submit_task('plain', 't', idempotency_key => 'undone')"), [["t"]])

	def test_with_the_change_it_belongs_to(self):
		"""Not before the application commits, and then both are there."""
		self.db.sql("CREATE TABLE IF NOT EXISTS public.orders (id int PRIMARY KEY, task uuid)")
		self.db.sql("GRANT ALL ON public.orders TO %s" % self.shared.role)
		app = self.app()
		app.run("BEGIN")
		task = app.run("INSERT INTO public.orders SELECT 1, tasker.create_task('plain', namespace => 't') RETURNING task")[0][0]
		self.assertEqual(self.db.value("SELECT count(*) FROM tasker.tasks WHERE task_uuid = %s" % lit(task)), "0")
		app.run("COMMIT")
		self.assertEqual(self.finished(self.node, task).state, "complete")
		self.db.sql("DROP TABLE public.orders")

	def test_many_in_one_statement(self):
		app = self.app()
		rows = app.run("SELECT s.task_uuid, s.created, s.state FROM generate_series(1, 300) AS i, tasker.submit_task('plain', 't', context => jsonb_build_object('n', i)) s")
		self.assertEqual(len({r[0] for r in rows}), 300)
		self.assertEqual({tuple(r[1:]) for r in rows}, {("t", "steps_in_process")})
		self.db.wait_settled()
		self.doctor(self.node)

	def test_savepoints(self):
		app = self.app()
		app.run("BEGIN")
		kept = app.run("SELECT tasker.create_task('plain', 't')")[0][0]
		app.run("SAVEPOINT s")
		undone = app.run("SELECT tasker.create_task('plain', 't')")[0][0]
		app.run("ROLLBACK TO SAVEPOINT s")
		app.run("COMMIT")
		self.assertEqual(self.finished(self.node, kept).state, "complete")
		self.assertEqual(self.db.value("SELECT count(*) FROM tasker.tasks WHERE task_uuid = %s" % lit(undone)), "0")

	# -- what is given and kept -----------------------------------------------------------------------

	def test_everything_is_stored(self):
		app = self.app()
		task, created, state = app.run("""SELECT * FROM tasker.submit_task(name => 'plain', namespace => 't', version => '1.0.0', context => '{"n": 5}', idempotency_key => 'all-of-it', priority => -7,
			tags => ARRAY['x', 'ä'], run_at => '2090-01-01T00:00:00Z', initiator => 'i', source_system => 's', reason => 'r', correlation_id => 'c', parent_correlation_id => 'p',
			traceparent => '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01')""")[0]
		self.assertEqual((created, state), ("t", "pending"))
		got = self.node.client.request("task.get", {"task_uuid": task})
		want = {"namespace": "t", "name": "plain", "version": "1.0.0", "context": {"n": 5}, "priority": -7, "tags": ["x", "ä"], "run_at": "2090-01-01T00:00:00.000000Z", "initiator": "i",
		        "source_system": "s", "reason": "r", "correlation_id": "c", "parent_correlation_id": "p"}
		self.assertEqual({k: got[k] for k in want}, want)
		self.doctor(self.node)
		self.node.client.cancel_task(task)

	def test_a_repeat(self):
		app = self.app()
		first = app.run("SELECT * FROM tasker.submit_task('plain', 't', context => '{\"n\": 1.0, \"m\": 2}', idempotency_key => 'again')")[0]
		again = app.run("SELECT * FROM tasker.submit_task('plain', 't', context => '{\"m\": 2, \"n\": 1}', idempotency_key => 'again')")[0]
		self.assertEqual((first[1], again[:2]), ("t", [first[0], "f"]))
		over_the_socket = self.node.client.create_task("plain", namespace="t", context={"n": 1, "m": 2}, idempotency_key="again")
		self.assertEqual((over_the_socket.task_uuid, over_the_socket.created), (first[0], False))
		strict = [app.run("SELECT * FROM tasker.submit_task('strict', 't', context => '{\"s\": 1}')")[0] for _ in range(2)]
		self.assertEqual((strict[0][0], strict[1][1]), (strict[1][0], "f"))

	def test_a_repeat_by_an_application_that_writes_strings_in_the_old_way(self):
		made = self.create(self.node, "strict", {"price": 2.5, "text": "1.50\\"})
		app = self.app()
		app.run("SET standard_conforming_strings = off")
		again = app.run("SELECT task_uuid, created FROM tasker.submit_task('strict', namespace => 't', context => E'{\"text\": \"1.50\\\\\\\\\", \"price\": 2.50}')")
		self.assertEqual(again, [[made, "f"]])

	def test_two_sessions_with_one_key(self):
		"""The second waits for what becomes of the first."""
		for end, created in ("ROLLBACK", "t"), ("COMMIT", "f"):
			one, two = self.app(), self.app()
			one.run("BEGIN")
			first = one.run("SELECT tasker.create_task('plain', 't', idempotency_key => 'both-%s')" % end)[0][0]
			answers = []
			thread = threading.Thread(target=lambda: answers.append(two.run("SELECT * FROM tasker.submit_task('plain', 't', idempotency_key => 'both-%s')" % end)[0]))
			thread.start()
			wait_for(lambda: self.db.number("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'") > 0, "the second to wait")
			one.run(end)
			thread.join()
			self.assertEqual(answers[0][1], created)
			self.assertEqual(answers[0][0] == first, created == "f")

	def test_a_long_transaction_holds_up_nobody_else(self):
		"""A daemon's create with the same key waits a moment and is told to try again; the others of its batch are made."""
		app = self.app()
		app.run("BEGIN")
		held = app.run("SELECT tasker.create_task('plain', 't', idempotency_key => 'held')")[0][0]
		item = {"name": "plain", "namespace": "t"}
		got = self.node.client.request("task.create_many", {"tasks": [item, {**item, "idempotency_key": "held"}] + [{**item, "idempotency_key": "free-%d" % i} for i in range(6)]})["results"]
		self.assertEqual([r["error"]["code"] if "error" in r else r["created"] for r in got], [True, "overloaded"] + [True] * 6)
		app.run("COMMIT")
		again = self.node.client.create_task("plain", namespace="t", context={}, idempotency_key="held")
		self.assertEqual((again.task_uuid, again.created), (held, False))

	def test_a_template_that_it_uses_is_not_replaced(self):
		"""Neither before the commit nor after; who asks is told at once."""
		first, second = template("draft", [step("a")]), template("draft", [step("a"), step("b")])
		self.apply(self.node, first)
		app = self.app()
		for end in ("ROLLBACK", "COMMIT"):
			app.run("BEGIN")
			task = app.run("SELECT tasker.create_task('draft', namespace => 't')")[0][0]
			with self.assertRaises(ConflictError):
				self.node.client.apply_template(second, replace_unused=True)
			app.run(end)
			if end == "ROLLBACK":
				self.assertTrue(self.node.client.apply_template(second, replace_unused=True)["created"])
				self.assertTrue(self.node.client.apply_template(first, replace_unused=True)["created"])
		with self.assertRaises(ConflictError):
			self.node.client.apply_template(second, replace_unused=True)
		self.assertEqual(len(self.finished(self.node, task).steps), 1)

	# -- errors ---------------------------------------------------------------------------------------

	def test_errors(self):
		app = self.app()
		deep = json.dumps(json.loads("[" * 24 + "]" * 24))
		for call, state, text in (
			("tasker.create_task('nothing', 't')", "TK404", "no template t/nothing"), ("tasker.create_task('plain', 't', '9.9.9')", "TK404", "no template t/plain version 9.9.9"),
			("tasker.create_task('plain')", "TK404", "no template default/plain"), ("tasker.create_task('keyed', 't')", "TK400", "needs an idempotency_key"),
			("tasker.create_task(NULL)", "TK400", "name must be of 1 to 255 bytes"), ("tasker.create_task('plain', NULL)", "TK400", "namespace must be"),
			("tasker.create_task('plain', 't', idempotency_key => '')", "TK400", "idempotency_key must be of 1 to 256"), ("tasker.create_task('plain', 't', idempotency_key => repeat('x', 257))", "TK400", "idempotency_key"),
			("tasker.create_task('plain', 't', initiator => repeat('x', 129))", "TK400", "initiator must be of 0 to 128"), ("tasker.create_task('plain', 't', context => '[]')", "TK400", "context must be an object, it is an array"),
			("tasker.create_task('plain', 't', context => '7')", "TK400", "it is a number"), ("tasker.create_task('plain', 't', priority => 101)", "TK400", "priority must be from -100 to 100"),
			("tasker.create_task('plain', 't', context => jsonb_build_object('x', repeat('y', 1048576)))", "TK400", "at most 1048576"),
			("tasker.create_task('plain', 't', context => jsonb_build_object('x', %s::jsonb))" % lit(deep), "TK400", "nested more than 24"),
			("tasker.create_task('plain', 't', tags => ARRAY['a', NULL])", "TK400", "tags must be"), ("tasker.create_task('plain', 't', tags => array_fill('t'::text, ARRAY[101]))", "TK400", "tags must be"),
			("tasker.create_task('plain', 't', tags => ARRAY[repeat('x', 257)])", "TK400", "at most 100 texts of at most 256 bytes"),
			("tasker.create_task('plain', 't', run_at => 'infinity')", "TK400", "run_at must be finite"),
			("tasker.create_task('plain', 't', run_at => '10000-01-01')", "TK400", "before the year 10000")):
			with self.subTest(call=call[:80]):
				self.refused(app, call, state, text)
		app.run("SELECT tasker.create_task('plain', 't', context => '{\"n\": 1}', idempotency_key => 'taken')")
		self.refused(app, "tasker.create_task('plain', 't', context => '{\"n\": 2}', idempotency_key => 'taken')", "TK409", "exists with another template or context")
		hints = self.db.cluster.psql("\\set VERBOSITY verbose\nDO $$ DECLARE h text; BEGIN PERFORM tasker.create_task('nothing', 't'); EXCEPTION WHEN OTHERS THEN "
		                             "GET STACKED DIAGNOSTICS h = PG_EXCEPTION_HINT; PERFORM set_config('probe.hint', h, false); END $$;\nSELECT current_setting('probe.hint')", db=self.db.name)
		self.assertIn("taskerctl template apply", str(hints))

	def test_the_deepest_context_that_is_allowed(self):
		app = self.app()
		task = app.run("SELECT tasker.create_task('plain', 't', context => jsonb_build_object('x', %s::jsonb))" % lit("[" * 23 + "]" * 23))[0][0]
		self.assertEqual(self.finished(self.node, task).state, "complete")

	# -- templates with an input_schema ---------------------------------------------------------------

	def test_a_schema_is_enforced_by_the_daemon(self):
		app = self.app()
		good, bad = [app.run("SELECT task_uuid, state FROM tasker.submit_task('checked', 't', context => %s)" % lit(json.dumps(c)))[0] for c in ({"n": 1}, {"n": "one"})]
		self.assertEqual((good[1], bad[1]), ("pending", "pending"))
		self.assertEqual(self.finished(self.node, good[0]).state, "complete")
		self.assertEqual(self.finished(self.node, bad[0]).state, "error")
		last = self.node.client.request("task.history", {"task_uuid": bad[0]})["transitions"][-1]
		self.assertEqual((last["from"], last["to"], last["cause"]["event"]), ("pending", "error", "invalid_context"))
		self.assertIn("/n", json.dumps(last["cause"]))
		self.doctor(self.node)
		# It can be tried again, and is checked again.
		self.node.client.request("task.action", {"task_uuid": bad[0], "action": "retry", "reason": "a test"})
		wait_for(lambda: len(self.node.client.request("task.history", {"task_uuid": bad[0]})["transitions"]) == 4, "the second check")
		self.assertEqual(self.node.client.get_task(bad[0]).state, "error")
		self.doctor(self.node)

	def test_many_with_a_schema(self):
		app = self.app()
		rows = app.run("SELECT s.task_uuid FROM generate_series(1, 90) AS i, tasker.submit_task('checked', 't', context => CASE WHEN i % 3 = 0 THEN '{}' ELSE jsonb_build_object('n', i) END) s")
		self.db.wait_settled()
		states = self.db.sql("SELECT state, count(*) FROM tasker.tasks WHERE task_uuid IN (%s) GROUP BY 1 ORDER BY 1::text" % ", ".join(lit(r[0]) for r in rows))
		self.assertEqual(states, [["complete", "60"], ["error", "30"]])
		self.doctor(self.node)

	# -- what the role cannot do ----------------------------------------------------------------------

	def test_the_role_can_do_nothing_else(self):
		role = self.shared.role
		self.assertEqual(self.db.sql("SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace IN ('tasker'::regnamespace, 'pgmq'::regnamespace) "
		                             "AND has_function_privilege('%s', p.oid, 'EXECUTE') AND has_schema_privilege('%s', p.pronamespace, 'USAGE') AND proname <> ALL (ARRAY['create_task', 'submit_task'])" % (role, role)), [])
		self.assertEqual(self.db.sql("SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace IN ('tasker'::regnamespace, 'pgmq'::regnamespace) AND c.relkind IN ('r', 'v', 'm', 'p') "
		                             "AND (has_table_privilege('%s', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') OR has_any_column_privilege('%s', c.oid, 'SELECT, INSERT, UPDATE, REFERENCES'))" % (role, role)), [])
		self.assertEqual(self.db.value("SELECT has_schema_privilege('%s', 'tasker', 'CREATE') OR has_schema_privilege('%s', 'pgmq', 'USAGE, CREATE')" % (role, role)), "f")
		app = self.app()
		for statement in ("SELECT * FROM tasker.tasks", "DELETE FROM tasker.tasks", "SELECT tasker.api_task_list('{}')", "SELECT * FROM tasker.task_history", "SELECT * FROM pgmq.q_orchestration_task_requests",
		                  "SELECT tasker.end_tasks(1, '{}', 'error', '{}', '')", "SELECT pgmq.send('orchestration_task_requests', '{}')", "CREATE TABLE tasker.mine (i int)"):
			with self.assertRaises(pg.PgError) as caught:
				app.run(statement)
			self.assertEqual(caught.exception.sqlstate, "42501", statement)

	def test_its_own_names_do_not_come_into_it(self):
		"""Functions and operators in a schema of the caller's own, first in its search path, are not called with the owner's rights."""
		self.db.sql("CREATE SCHEMA trap AUTHORIZATION %s" % self.shared.role)
		app = self.app()
		app.run("CREATE TABLE trap.caught (who name)")
		for name, args in ("octet_length", "text"), ("jsonb_strip_nulls", "jsonb"), ("cardinality", "text[]"), ("sha256", "bytea"), ("array_position", "text[], text"):
			returns = {"jsonb_strip_nulls": "jsonb", "sha256": "bytea"}.get(name, "int")
			app.run("CREATE FUNCTION trap.%s(%s) RETURNS %s LANGUAGE sql AS $$ INSERT INTO trap.caught VALUES (current_user); SELECT NULL::%s $$" % (name, args, returns, returns))
		app.run("CREATE FUNCTION trap.eq(text, text) RETURNS boolean LANGUAGE sql AS $$ INSERT INTO trap.caught VALUES (current_user); SELECT true $$")
		app.run("CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.eq)")
		app.run("SET search_path = trap, pg_catalog, pg_temp")
		task = app.run("SELECT tasker.create_task('plain', 't', idempotency_key => 'trap')")[0][0]
		self.assertEqual(self.db.sql("SELECT * FROM trap.caught"), [])
		self.assertEqual(self.finished(self.node, task).state, "complete")
		self.db.sql("DROP SCHEMA trap CASCADE")


class WithoutADaemon(harness.Case):
	def test_it_waits_for_one(self):
		db = self.database()
		daemon = self.daemon(db)
		self.apply(daemon, template("plain", [step("a")]))
		self.apply(daemon, template("checked", [step("a")], input_schema=SCHEMA))
		daemon.stop()
		tasks = [db.value("SELECT tasker.create_task('plain', 't')"), db.value("SELECT tasker.create_task('checked', 't', context => '{\"n\": 1}')")]
		daemon.start()
		self.python_worker(daemon)
		for task in tasks:
			self.assertEqual(self.finished(daemon, task).state, "complete")
		self.verify(db, daemon)

	def test_killed_while_it_checks(self):
		db = self.database()
		daemon = self.daemon(db, resume_grace_ms=100)
		self.apply(daemon, template("checked", [step("a")], input_schema=SCHEMA))
		self.python_worker(daemon)
		db.sql("SELECT count(tasker.create_task('checked', 't', context => jsonb_build_object('n', i))) FROM generate_series(1, 300) AS i")
		wait_for(lambda: db.number("SELECT count(*) FROM tasker.tasks WHERE state <> 'pending'") > 0, "some to begin")
		daemon.kill()
		daemon.start()
		db.wait_settled()
		self.assertEqual(db.sql("SELECT state, count(*) FROM tasker.tasks GROUP BY 1"), [["complete", "300"]])
		self.verify(db, daemon)


if __name__ == "__main__":
	unittest.main()

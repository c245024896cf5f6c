"""Roles of the database: an owner that is no superuser migrates, a role that owns nothing runs the daemon, one makes tasks by SQL, one reads views; what each may not is refused. And whoever may make
objects in the database gains nothing by names that hide those of PostgreSQL."""
import os
import unittest

import harness
import pg
from harness import step, template


class RoleCase(harness.SharedCase):
	@classmethod
	def prepare(cls, stage):
		stage.db = stage.database(migrated=False)
		stage.roles = {kind: "%s_%d" % (kind, os.getpid()) for kind in ("owner", "daemon", "submitter", "reader", "neighbour")}
		for role in stage.roles.values():
			stage.db.sql("CREATE ROLE %s LOGIN" % role)
		stage.at_end(cls.drop_roles, stage)
		stage.db.sql("GRANT CREATE ON DATABASE %s TO %s" % (stage.db.name, stage.roles["owner"]))
		cls.hostile(stage)
		done = harness.migrate(cls.uri(stage, "owner"))
		if done.returncode != 0:
			raise AssertionError("--migrate as the owner: " + done.stdout)
		owner = cls.session_of(stage, "owner")
		for kind in "daemon", "submitter", "reader":
			owner.run("SELECT tasker.grant_role('%s', '%s')" % (kind, stage.roles[kind]))
		owner.close()
		role, uri = stage.roles["daemon"], stage.db.uri
		stage.db.uri = cls.uri(stage, "daemon")
		stage.node = stage.daemon(stage.db)
		stage.db.uri = uri
		stage.worker = stage.python_worker(stage.node)
		assert role in stage.db.value("SELECT string_agg(DISTINCT usename, ' ') FROM pg_stat_activity WHERE datname = '%s' AND application_name LIKE 'taskerd%%'" % stage.db.name)

	@classmethod
	def hostile(cls, stage):
		"""For subclasses: what is there before anything else."""

	@classmethod
	def drop_roles(cls, stage):
		for kind in "neighbour", "reader", "submitter", "daemon", "owner":
			stage.db.sql("DROP OWNED BY %s CASCADE" % stage.roles[kind])
			stage.db.sql("DROP ROLE %s" % stage.roles[kind])

	@staticmethod
	def uri(stage, kind):
		return stage.db.cluster.conninfo(stage.db.name, stage.roles[kind])

	@staticmethod
	def session_of(stage, kind):
		return stage.db.cluster.session(stage.db.name, stage.roles[kind])

	def session(self, kind):
		session = self.session_of(self.shared, kind)
		self.addCleanup(session.close)
		return session

	def denied(self, session, *statements):
		for statement in statements:
			with self.subTest(statement), self.assertRaises(pg.PgError) as caught:
				session.run("BEGIN; " + statement)
			self.assertEqual(caught.exception.sqlstate, "42501", "%s: %s" % (statement, caught.exception))
			session.run("ROLLBACK")

	def work(self, name):
		"""Templates, tasks, retries, events, operators, dead letters, history: what a daemon does all day."""
		self.apply(self.node, template(name, [step("a"), step("b", after=["a"])]))
		done = self.finished(self.node, self.create(self.node, name))
		self.assertEqual(done.state, "complete")
		self.apply(self.node, template(name + "_fails", [step("a", "t.flaky", attempts=1, fails=5)]))
		task = self.create(self.node, name + "_fails")
		self.assertEqual(self.finished(self.node, task).state, "blocked_by_failures")
		client = self.node.client
		client.request("dlq.update", {"task_uuid": task, "notes": "seen"})
		client.request("step.action", {"task_uuid": task, "step": "a", "action": "skip", "reason": "a test"})
		self.assertEqual(self.finished(self.node, task).state, "complete")
		client.request("event.publish", {"name": "made", "namespace": "t"})
		self.assertEqual(len(client.request("event.consume", {"namespace": "t"})["messages"]), 1)
		client.request("namespace.retention", {"namespace": "t", "keep_minutes": 100000})
		client.request("task.history", {"task_uuid": task})
		for method in "task.list", "queue.list", "worker.list", "node.list", "event.list", "template.list", "namespace.list", "dlq.stats":
			client.request(method, {})
		self.doctor(self.node)


class Roles(RoleCase):
	def test_the_daemon_works(self):
		self.work("daemon")

	def test_it_owns_nothing(self):
		owners = self.db.sql("SELECT DISTINCT relowner::regrole FROM pg_class WHERE relnamespace::regnamespace::text IN ('tasker', 'pgmq', 'tasker_views') UNION SELECT proowner::regrole FROM pg_proc "
		                     "WHERE pronamespace::regnamespace::text IN ('tasker', 'pgmq', 'tasker_views') UNION SELECT nspowner::regrole FROM pg_namespace WHERE nspname IN ('tasker', 'pgmq', 'tasker_views')")
		self.assertEqual(owners, [[self.shared.roles["owner"]]])

	def test_what_the_daemon_may_not(self):
		self.apply(self.node, template("queue", [step("a")]))
		self.denied(self.session("daemon"), "DROP TABLE tasker.tasks", "ALTER TABLE tasker.tasks ADD x int", "TRUNCATE tasker.tasks", "CREATE TABLE tasker.mine (i int)", "CREATE TABLE pgmq.mine (i int)",
		            "CREATE FUNCTION pgmq.send(text, jsonb) RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE FUNCTION tasker.rfc3339(text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
		            "CREATE OR REPLACE FUNCTION tasker.rfc3339(p timestamptz) RETURNS text LANGUAGE sql AS 'SELECT NULL::text'", "CREATE TRIGGER t BEFORE INSERT ON tasker.tasks FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
		            "UPDATE tasker.operator_actions SET reason = 'x'", "UPDATE tasker.step_attempts SET outcome = 'success'", "UPDATE tasker.task_transitions SET task_id = 1", "DELETE FROM tasker.schema_migrations", "INSERT INTO tasker.schema_migrations VALUES (999, 'x')", "SELECT tasker.grant_role('daemon', 'other')",
		            "CREATE ROLE other", "CREATE SCHEMA other", "DROP FUNCTION tasker.create_task", "ALTER SCHEMA tasker OWNER TO CURRENT_USER", "SELECT pg_read_file('/etc/passwd')", "DROP TABLE pgmq.q_orchestration_task_requests")

	def test_what_the_submitter_may(self):
		self.apply(self.node, template("by_sql", [step("a")]))
		task = self.session("submitter").run("SELECT tasker.create_task('by_sql', 't')")[0][0]
		self.assertEqual(self.finished(self.node, task).state, "complete")
		self.session("submitter").run("SELECT * FROM tasker.submit_task('by_sql', 't')")

	def test_what_the_submitter_may_not(self):
		session = self.session("submitter")
		functions = [f for f, in self.db.sql("SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace IN ('tasker'::regnamespace, 'pgmq'::regnamespace) AND has_function_privilege('%s', p.oid, 'EXECUTE') "
		                                     "AND has_schema_privilege('%s', p.pronamespace, 'USAGE')" % ((self.shared.roles["submitter"],) * 2))]
		self.assertEqual({f.split("(")[0] for f in functions}, {"tasker.create_task", "tasker.submit_task"})
		self.denied(session, "SELECT * FROM tasker.tasks", "INSERT INTO tasker.tasks (task_uuid) VALUES (gen_random_uuid())", "DELETE FROM tasker.steps", "SELECT tasker.api_task_list('{}')", "SELECT * FROM tasker_views.tasks",
		            "SELECT * FROM pgmq.q_orchestration_task_requests", "SELECT pgmq.send('x', '{}')", "CREATE TABLE tasker.mine (i int)", "SELECT tasker.grant_role('daemon', current_user)", "SELECT tasker.make_queue('x')",
		            "SELECT secret FROM tasker.nodes")

	def test_what_the_reader_may(self):
		session = self.session("reader")
		for view, in self.db.sql("SELECT c.oid::regclass FROM pg_class c WHERE c.relkind = 'v' AND c.relnamespace IN ('tasker_views'::regnamespace, 'tasker'::regnamespace)"):
			with self.subTest(view):
				session.run("SELECT * FROM %s LIMIT 1" % view)

	def test_what_the_reader_may_not(self):
		self.denied(self.session("reader"), "SELECT * FROM tasker.tasks", "SELECT secret FROM tasker.nodes", "DELETE FROM tasker_views.task_namespaces", "SELECT tasker.create_task('by_sql', 't')",
		            "SELECT tasker.api_task_list('{}')", "SELECT * FROM pgmq.q_orchestration_task_requests", "CREATE TABLE tasker_views.mine (i int)")

	def test_a_neighbour_may_nothing(self):
		self.denied(self.session("neighbour"), "SELECT * FROM tasker.tasks", "SELECT * FROM tasker_views.tasks", "SELECT tasker.create_task('by_sql', 't')", "SELECT pgmq.send('x', '{}')", "SELECT tasker.make_queue('x')")

	def test_nobody_else_hears_or_says_anything(self):
		"""LISTEN and NOTIFY need no rights. A neighbour that knows the source hears nothing by the names that stand there, and nothing happens that it says."""
		hears, says = self.session("neighbour"), self.session("neighbour")
		for name in "ready", "settled", "templates", "cancel", "nodes", "drain", "events", "tokens":
			hears.run("LISTEN tasker_%s" % name)
		self.denied(says, "SELECT secret FROM tasker.channels", "SELECT tasker.notify('tasker_cancel', '')", "UPDATE tasker.channels SET secret = ''")
		self.denied(self.session("reader"), "SELECT secret FROM tasker.channels")
		self.denied(self.session("daemon"), "UPDATE tasker.channels SET secret = ''")
		other = self.shared.daemon(self.db, name="node-b")
		self.apply(self.node, template("told", [step("a", "t.gate", gate="told", attempts=1)]))
		task, began = self.create(self.node, "told"), len(self.ledger)
		self.ledger.wait_lines(began + 1)
		uuid, worker = self.node.client.get_step(task, "a").step_uuid, self.node.client.list_workers()[0]["worker_uuid"]
		forged = 'e 99 i 1 1 {"event_id": "i", "event_name": "forged", "event_version": "1.0", "payload": {}, "metadata": {"namespace": "t", "correlation_id": "c", "fired_at": "t", "fired_by": "f"}}'
		with self.node.client.subscribe_events("*") as events:
			for name, text in ("cancel", uuid), ("drain", worker), ("settled", task), ("events", forged):
				says.run("NOTIFY tasker_%s, %s" % (name, pg.lit(text)))
			other.client.request("event.publish", {"name": "true", "namespace": "t", "delivery_mode": "fast", "payload": {"words": "of ours"}})
			self.assertEqual(next(iter(events)).event_name, "true", "what was said before has been heard before")
		self.assertFalse(self.node.client.list_workers()[0]["draining"])
		self.ledger.open_gate("told")
		self.assertEqual((self.finished(other, task).state, self.ledger.notes("cancelled")), ("complete", []))
		heard = str(hears.run("SELECT 1"))
		self.assertIn("forged", heard, "it does hear what it says itself")
		self.assertNotIn("of ours", heard)
		self.assertEqual(other.stop(), 0)

	def test_only_the_owner_grants(self):
		self.denied(self.session("daemon"), "SELECT tasker.grant_role('reader', current_user)")
		with self.assertRaises(pg.PgError) as caught:
			self.session("owner").run("SELECT tasker.grant_role('king', 'x')")
		self.assertEqual(caught.exception.sqlstate, "TK400")

	def test_definers_have_a_path_of_their_own(self):
		"""Every function that runs with its owner's rights names its search path, and pg_temp last."""
		rows = self.db.sql("SELECT p.oid::regprocedure, p.proconfig FROM pg_proc p WHERE p.prosecdef AND p.pronamespace IN ('tasker'::regnamespace, 'pgmq'::regnamespace, 'tasker_views'::regnamespace)")
		self.assertGreater(len(rows), 2)
		for name, config in rows:
			self.assertIn("search_path=pg_catalog, pg_temp", str(config), name)


class Hostile(RoleCase):
	"""Every function and operator of PostgreSQL that the schema might mean has a namesake in a schema that is first in everybody's path, and that tells who has called it."""

	@classmethod
	def hostile(cls, stage):
		db, roles = stage.db, stage.roles
		db.sql("CREATE SCHEMA trap AUTHORIZATION %s" % roles["neighbour"])
		db.sql("GRANT USAGE ON SCHEMA trap TO PUBLIC")
		session = cls.session_of(stage, "neighbour")
		session.run("SET search_path = trap, pg_catalog")
		session.run("CREATE TABLE trap.caught (who name, what text)")
		session.run("GRANT INSERT ON trap.caught TO PUBLIC")
		session.run("""CREATE FUNCTION trap.note(p text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO trap.caught VALUES (pg_catalog.current_user(), p); EXCEPTION WHEN OTHERS THEN NULL; END $$""")
		for name, args, kinds in db.sql("""SELECT p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid), p.prorettype::regtype FROM pg_proc p
				WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND NOT p.proretset AND p.provariadic = 0
				AND p.prorettype::regtype::text NOT IN ('internal', 'trigger', 'void', 'cstring', 'anyelement', 'anyarray', 'record', 'event_trigger', 'language_handler', 'fdw_handler', 'index_am_handler', 'tsm_handler', 'table_am_handler')
				AND p.proargtypes::text !~ '2281|2275|2283|2277|2276|3500|3831|5077|5078|5079|5080|4537|4538' AND p.proname IN (SELECT unnest(ARRAY['now', 'clock_timestamp', 'pg_notify', 'set_config', 'jsonb_build_object',
				'octet_length', 'to_char', 'lower', 'left', 'encode', 'sha256', 'convert_to', 'split_part', 'pg_advisory_lock', 'pg_try_advisory_lock', 'gen_random_uuid', 'md5', 'substr', 'length', 'lpad', 'round',
				'jsonb_typeof', 'jsonb_array_length', 'jsonb_strip_nulls', 'jsonb_path_exists', 'pg_current_xact_id', 'isfinite', 'extract', 'to_regclass', 'pg_try_advisory_xact_lock', 'pg_advisory_xact_lock', 'concat', 'replace',
				'quote_literal', 'random', 'pg_is_in_recovery', 'age', 'ceil', 'floor', 'version', 'string_to_array', 'array_to_string', 'date_part', 'pg_advisory_unlock']))"""):
			try:
				session.run("CREATE FUNCTION trap.%s(%s) RETURNS %s LANGUAGE plpgsql AS $$ BEGIN PERFORM trap.note('%s'); RETURN NULL; END $$" % (name, args, kinds, name))
			except pg.PgError:
				pass
		for left, right in ("text", "text"), ("int4", "int4"), ("int8", "int8"), ("uuid", "uuid"), ("name", "name"), ("timestamptz", "timestamptz"), ("boolean", "boolean"), ("jsonb", "jsonb"), ("int4", "int8"), ("int8", "int4"):
			for symbol, word in ("=", "eq"), ("<", "lt"), (">", "gt"), ("<>", "ne"), ("<=", "le"), (">=", "ge"):
				session.run("CREATE FUNCTION trap.op_%s(%s, %s) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM trap.note('operator %s'); RETURN NULL; END $$" % (word, left, right, symbol))
				session.run("CREATE OPERATOR trap.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = trap.op_%s)" % (symbol, left, right, word))
		session.run("CREATE FUNCTION trap.op_get(jsonb, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM trap.note('operator ->>'); RETURN NULL; END $$")
		session.run("CREATE OPERATOR trap.->> (LEFTARG = jsonb, RIGHTARG = text, FUNCTION = trap.op_get)")
		for kind in "text", "uuid", "int8", "jsonb":
			session.run("CREATE DOMAIN trap.%s AS pg_catalog.%s CHECK (false)" % (kind, kind))
		for table in "tasks", "pg_class", "pg_namespace", "pg_roles", "pg_proc", "pg_available_extensions":
			session.run("CREATE TABLE trap.%s (i pg_catalog.int4)" % table)
		session.close()
		for role in roles.values():
			db.sql("ALTER ROLE %s IN DATABASE %s SET search_path = trap, pg_catalog, public" % (role, db.name))

	def trapped(self):
		return self.db.sql("SELECT who, what, pg_catalog.count(*) FROM trap.caught GROUP BY who, what")

	def test_the_trap_works(self):
		"""Whoever is careless is caught: the test can fail."""
		owner = self.session("owner")
		owner.run("SELECT now(), 'a'::pg_catalog.text = 'b'::pg_catalog.text")
		self.assertIn([self.shared.roles["owner"], "now", "1"], self.trapped())
		self.assertIn([self.shared.roles["owner"], "operator =", "1"], self.trapped())
		self.db.sql("DELETE FROM trap.caught")

	def test_the_owner_was_not_caught(self):
		"""Migrating, and granting: with the path of a role that has not thought of it."""
		self.session("owner").run("SELECT tasker.grant_role('reader', '%s')" % self.shared.roles["reader"])
		self.assertEqual(self.trapped(), [])

	def test_the_daemon_is_not_caught(self):
		self.work("hostile")
		self.assertEqual(self.trapped(), [])

	def test_who_makes_tasks_by_sql_is_not_caught_with_the_owners_rights(self):
		self.apply(self.node, template("by_sql", [step("a")]))
		session = self.session("submitter")
		task = session.run("SELECT tasker.create_task('by_sql', 't', context => '{\"n\": 1}', idempotency_key => 'k', tags => ARRAY['x'])")[0][0]
		session.run("SELECT * FROM tasker.submit_task('by_sql', 't')")
		session.run("CREATE TEMP TABLE tasks (i pg_catalog.int4)")
		session.run("SELECT tasker.create_task('by_sql', 't')")
		self.assertEqual(self.finished(self.node, task).state, "complete")
		self.assertEqual(self.trapped(), [])

	def test_readers_see_what_is_there(self):
		for view, in self.db.sql("SELECT c.oid::pg_catalog.regclass FROM pg_catalog.pg_class c WHERE c.relkind OPERATOR(pg_catalog.=) 'v' AND c.relnamespace::pg_catalog.regnamespace::pg_catalog.text OPERATOR(pg_catalog.=) 'tasker_views'"):
			self.session("reader").run("SELECT * FROM %s LIMIT 5" % view)
		self.assertEqual([r for r in self.trapped() if r[0] != self.shared.roles["reader"]], [])


if __name__ == "__main__":
	unittest.main()

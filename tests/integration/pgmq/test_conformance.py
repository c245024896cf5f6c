"""One suite of the documented PGMQ behaviour (pgmq_behaviour.py), run against taskerd's own pgmq.sql and against PGMQ's SQL.

PGMQ's SQL is that of the crate `pgmq` on this machine's cargo, fetched into the build directory (TASKERD_BUILD, else the working directory if
it is one, else a temporary one), or the file named by TASKERD_TEST_PGMQ_SQL. Without either, that half is skipped and says why.
"""
import os
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import pgmq_database as database  # noqa: E402
from pgmq_behaviour import Behaviour  # noqa: E402
from pgmq_database import DatabaseCase  # noqa: E402
from pg import PgError  # noqa: E402
from pgmq_sources import OURS_SQL, read_file, real_sql  # noqa: E402


def setUpModule():
	database.start()


def tearDownModule():
	database.stop()


class Ours(Behaviour, DatabaseCase):
	"""taskerd's own pgmq.sql."""

	@staticmethod
	def install_sql():
		return read_file(OURS_SQL)

	def assert_no_more(self, fields):
		self.assertEqual(fields, [])

	def test_batches_are_read_in_order(self):
		queue = self.new_queue()
		self.sql("SELECT count(*) FROM pgmq.send_batch(%s, array_fill('{}'::jsonb, ARRAY[200]))", queue)
		self.sql("UPDATE pgmq.q_%s SET read_ct = 0 WHERE msg_id %% 3 = 0" % queue)
		self.assertEqual(self.read(queue, 150), [str(i) for i in range(1, 151)])

	def test_reading_walks_the_queue_once_at_most_whatever_the_statistics_say(self):
		touched = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = %s"  # in the session, not only the transaction
		for seen, call, most in (("nothing", "read(%s, 60, 50)", 100), ("nothing", "pop(%s)", 2), ("emptied table", "read(%s, 60, 50)", 5050),
		                         ("emptied table", "read_with_poll(%s, 60, 50)", 5050), ("emptied table", "pop(%s)", 2)):
			with self.subTest(seen=seen, call=call):
				queue = self.misleading_statistics(5000, seen)
				self.sql("BEGIN")
				before = int(self.value(touched, "q_" + queue))
				self.sql("SELECT count(*) FROM pgmq." + call, queue)
				after = int(self.value(touched, "q_" + queue))
				self.sql("ROLLBACK")
				self.assertLessEqual(after - before, most)

	def test_it_is_told_apart_by_its_marker(self):
		self.assertEqual(self.value("SELECT pgmq.taskerd_implementation()"), "1")
		self.assertIn("taskerd", self.value("SELECT obj_description('pgmq'::regnamespace, 'pg_namespace')"))

	def test_nothing_depends_on_the_search_path(self):
		s = self.session()
		s.run("SET search_path = ''")
		s.run("SELECT pgmq.create('pathless')")
		for call, result in (("pgmq.send('pathless', '1')", "1"), ("pgmq.send_batch('pathless', '{2}'::pg_catalog.jsonb[], 0)", "2"),
		                     ("msg_id FROM pgmq.read('pathless', 0, 1)", "1"), ("msg_id FROM pgmq.read_with_poll('pathless', 0, 1, 0)", "1"),
		                     ("pgmq.archive('pathless', 1::bigint)", "t"), ("msg_id FROM pgmq.set_vt('pathless', 2::bigint, 0)", "2"),
		                     ("queue_length FROM pgmq.metrics('pathless')", "1"), ("queue_length FROM pgmq.metrics_all() WHERE queue_name = 'pathless'", "1"),
		                     ("msg_id FROM pgmq.pop('pathless')", "2"), ("pgmq.purge_queue('pathless')", "0"), ("pgmq.drop_queue('pathless')", "t")):
			self.assertEqual(s.run("SELECT " + call), [[result]], call)

	def test_names_that_differ_in_case_are_one_queue(self):
		self.sql("SELECT pgmq.create('OneQueue')")
		self.sql("SELECT pgmq.create('onequeue')")
		self.assertEqual(self.column("SELECT queue_name FROM pgmq.list_queues() WHERE lower(queue_name) = 'onequeue'"), ["OneQueue"])
		self.assertEqual(self.value("SELECT pgmq.drop_queue('ONEQUEUE')"), "t")
		self.assertEqual(self.column("SELECT queue_name FROM pgmq.list_queues() WHERE lower(queue_name) = 'onequeue'"), [])

	def test_names_are_limited_in_bytes_and_characters(self):
		self.refused("SELECT pgmq.create(%s)", "\u00e9" * 24, state="42602")
		for queue in ("", 'a"b', "a\\b", "a\nb", "a\tb"):
			self.refused("SELECT pgmq.validate_queue_name(%s)", queue, state="42602")

	def test_queue_tables_are_vacuumed_often_and_never_truncated(self):
		queue = self.new_queue()
		options = self.value("SELECT reloptions FROM pg_class WHERE oid = %s::regclass", "pgmq.q_" + queue)
		for option in ("autovacuum_vacuum_scale_factor=0", "autovacuum_vacuum_cost_delay=0", "vacuum_truncate=off"):
			self.assertIn(option, options)

	def test_a_lost_table_does_not_break_the_other_metrics(self):
		queue = self.new_queue()
		self.sql("SELECT pgmq.create('half_lost')")
		self.sql("DROP TABLE pgmq.a_half_lost")
		self.assertIn(queue, self.column("SELECT queue_name FROM pgmq.metrics_all()"))
		self.sql("SELECT pgmq.create('Half_Lost')")
		self.assertIn("a_half_lost", self.tables())
		self.assertEqual(self.column("SELECT queue_name FROM pgmq.meta WHERE lower(queue_name) = 'half_lost'"), ["half_lost"])


class Real(Behaviour, DatabaseCase):
	"""PGMQ's own SQL, which may be newer than what is documented here: more columns are no fault."""
	install_sql = staticmethod(real_sql)

	def assert_no_more(self, fields):
		pass


class Installing(DatabaseCase):
	"""pgmq.sql meets a database in every state."""

	def setUp(self):
		self.sql("DROP SCHEMA IF EXISTS pgmq CASCADE")
		self.sql("DROP SCHEMA IF EXISTS pgmq_before CASCADE")

	def install(self, text=None, user="app"):
		return database.cluster.psql(text or read_file(OURS_SQL), db=self.db, user=user, transaction=True)

	def test_again_changes_nothing(self):
		self.install()
		self.sql("SELECT pgmq.create('kept')")
		self.sql("SELECT pgmq.send('kept', '1')")
		self.install()
		self.assertEqual(self.column("SELECT message FROM pgmq.read('kept', 0, 1)"), ["1"])

	def test_a_newer_one_is_refused(self):
		self.install()
		self.sql("CREATE OR REPLACE FUNCTION pgmq.taskerd_implementation() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 99'")
		with self.assertRaises(PgError) as caught:
			self.install()
		self.assertEqual(caught.exception.sqlstate, "55000")
		self.assertIn("version 99", caught.exception.message)
		self.assertEqual(self.value("SELECT pgmq.taskerd_implementation()"), "99")

	def test_a_foreign_schema_is_left_alone(self):
		for thing in ("TABLE pgmq.meta (queue_name text)", "FUNCTION pgmq.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "TYPE pgmq.t AS ENUM ()", "SEQUENCE pgmq.s"):
			with self.subTest(thing):
				self.sql("DROP SCHEMA IF EXISTS pgmq CASCADE")
				self.sql("CREATE SCHEMA pgmq")
				self.sql("CREATE " + thing)
				with self.assertRaises(PgError) as caught:
					self.install()
				self.assertEqual(caught.exception.sqlstate, "42P06")
				self.assertIsNone(self.value("SELECT to_regprocedure('pgmq.taskerd_implementation()')"))
				self.assertIsNone(self.value("SELECT obj_description('pgmq'::regnamespace, 'pg_namespace')"))

	def test_an_empty_schema_made_by_an_administrator_is_used(self):
		database.cluster.psql("CREATE SCHEMA pgmq; GRANT USAGE, CREATE ON SCHEMA pgmq TO app", db=self.db)
		self.addCleanup(database.cluster.psql, "DROP SCHEMA pgmq CASCADE", db=self.db)
		self.install()
		self.sql("SELECT pgmq.create('q')")
		self.assertEqual(self.value("SELECT pgmq.send('q', '1')"), "1")

	def test_by_two_at_once(self):
		a, b = self.session(), self.session()
		a.run("BEGIN")
		a.run(read_file(OURS_SQL))
		b.start(read_file(OURS_SQL))
		self.wait_until(b, "wait_event = 'advisory'", "the second installation to wait")
		a.run("COMMIT")
		b.finish()
		self.assertEqual(self.value("SELECT pgmq.taskerd_implementation()"), "1")

	def test_a_dump_and_its_restore(self):
		pg_dump = os.path.join(database.cluster.bindir, "pg_dump")
		if not os.access(pg_dump, os.X_OK):
			self.skipTest("no pg_dump beside initdb")
		self.install()
		self.sql("SELECT pgmq.create('dumped')")
		self.sql("SELECT pgmq.send_batch('dumped', '{1,2}'::jsonb[])")
		dump = subprocess.run([pg_dump, "--dbname", database.cluster.conninfo(self.db)], stdout=subprocess.PIPE, check=True, text=True).stdout
		database.cluster.createdb("restored", owner="app")
		self.addCleanup(database.cluster.dropdb, "restored")
		database.cluster.psql(dump, db="restored")
		self.assertEqual(database.cluster.value("SELECT pgmq.taskerd_implementation()", db="restored", user="app"), "1")
		self.assertEqual(database.cluster.psql("SELECT message FROM pgmq.read('dumped', 1, 9)", db="restored", user="app"), [["1"], ["2"]])
		self.assertEqual(database.cluster.value("SELECT pgmq.send('dumped', '3')", db="restored", user="app"), "3")

	def test_over_the_real_one_is_refused(self):
		self.install(real_sql())
		with self.assertRaises(PgError) as caught:
			self.install()
		self.assertEqual(caught.exception.sqlstate, "42P06")
		self.sql("SELECT pgmq.create('q')")
		self.assertEqual(self.value("SELECT pgmq.send('q', '1')"), "1")

	def test_moving_to_the_real_one_keeps_the_messages(self):
		text = real_sql()
		self.install()
		self.sql("SELECT pgmq.create('Moved One')")
		self.sql("SELECT pgmq.create('empty')")
		self.sql("SELECT pgmq.send_batch('moved one', '{1,2,3,4}'::jsonb[], '{10,20,30,40}'::jsonb[])")
		self.sql("SELECT pgmq.read('moved one', 3600, 1)")
		self.sql("SELECT pgmq.archive('moved one', 2::bigint)")
		self.sql("SELECT pgmq.delete('moved one', 4::bigint)")
		columns = "msg_id, read_ct, enqueued_at, vt, message, headers"
		queue_rows = self.sql('SELECT %s FROM pgmq."q_moved one" ORDER BY msg_id' % columns)
		archive_rows = self.sql('SELECT %s, archived_at FROM pgmq."a_moved one"' % columns)
		self.install("ALTER SCHEMA pgmq RENAME TO pgmq_before;\n" + text + "\n" + read_file(os.path.join(HERE, "move_to_extension.sql")))
		self.assertEqual(self.column("SELECT queue_name FROM pgmq.list_queues() ORDER BY queue_name COLLATE \"C\""), ["Moved One", "empty"])
		self.assertEqual(self.sql('SELECT %s FROM pgmq."q_moved one" ORDER BY msg_id' % columns), queue_rows)
		self.assertEqual(self.sql('SELECT %s, archived_at FROM pgmq."a_moved one"' % columns), archive_rows)
		self.assertEqual(self.column("SELECT msg_id FROM pgmq.read('Moved One', 3600, 9)"), ["3"])
		self.assertEqual([self.value("SELECT pgmq.send('%s', '5')" % q) for q in ("moved one", "empty")], ["5", "1"])
		self.assertEqual(self.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'pgmq_before'"), "0")
		self.assertIsNone(self.value("SELECT to_regprocedure('pgmq.taskerd_implementation()')"))


if __name__ == "__main__":
	unittest.main()

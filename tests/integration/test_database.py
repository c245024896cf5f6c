"""The daemon and its database: schemas that do not fit, a database that is away, an embedded one that dies."""
import os
import signal
import unittest

import harness
import pg
from harness import step, template, wait_for
from taskerd.exceptions import DatabaseUnavailableError, TaskerdError


class Schema(harness.Case):
	def refused(self, db):
		"""Start a daemon that ends at once; its log."""
		daemon = self.daemon(db, start=False)
		self.assertEqual(daemon.launch().wait(), 1)
		return daemon.log_text()

	def test_none(self):
		db = self.database(migrated=False)
		self.assertIn("taskerd --migrate", self.refused(db))
		self.assertEqual(db.sql("SELECT nspname FROM pg_namespace WHERE nspname IN ('tasker', 'pgmq')"), [], "nothing is made unasked")

	def test_migrate(self):
		db = self.database(migrated=False)
		done = harness.migrate(db.uri)
		self.assertEqual(done.returncode, 0, done.stdout)
		self.assertIn("schema brought from version 0", done.stdout)
		again = harness.migrate(db.uri)
		self.assertEqual(again.returncode, 0)
		self.assertIn("up to date", again.stdout)
		self.daemon(db)

	def test_migrations_side_by_side(self):
		db = self.database(migrated=False)
		argv = [harness.taskerd_program(), "--database=" + db.uri, "--migrate"]
		both = [self.track(harness.Process("migrate-%d" % i, argv, os.path.join(self.place, "m%d" % i))) for i in range(4)]
		self.assertEqual([p.wait() for p in both], [0] * 4)
		self.assertEqual(sorted("brought from version 0" in p.log_text() for p in both), [False, False, False, True])

	def test_a_newer_one(self):
		db = self.database()
		db.sql("INSERT INTO tasker.schema_migrations (version, name) VALUES (9999, 'from the future')")
		text = self.refused(db)
		self.assertIn("9999", text)
		self.assertIn("newer taskerd", text)
		done = harness.migrate(db.uri)
		self.assertNotEqual(done.returncode, 0)
		self.assertIn("newer taskerd", done.stdout)

	def test_an_older_one(self):
		db = self.database()
		db.sql("DELETE FROM tasker.schema_migrations WHERE version = (SELECT max(version) FROM tasker.schema_migrations)")
		self.assertIn("taskerd --migrate", self.refused(db))

	def test_a_database_that_does_not_exist(self):
		"""It may be made later: the daemon waits for it, and says so."""
		db = self.database()
		daemon = harness.Daemon(self, "early", database=db.uri.replace(db.name, db.name + "_later"))
		daemon.launch()
		wait_for(lambda: "does not exist" in ((daemon.info() or {}).get("database", {}).get("error") or ""), "the daemon to say what it waits for")
		self.assertEqual(daemon.database_state(), "waiting")
		db.close()
		db.cluster.createdb(db.name + "_later", template=db.name)
		self.at_end(db.cluster.dropdb, db.name + "_later")
		daemon.wait_up()

	def test_an_unprivileged_owner(self):
		"""Nothing needs a superuser."""
		cluster = harness.shared_cluster()
		try:
			cluster.psql("CREATE ROLE plain LOGIN")
		except pg.PgError as e:
			self.assertEqual(e.sqlstate, "42710")
		name = "plain_%d" % os.getpid()
		cluster.createdb(name, owner="plain")
		self.at_end(cluster.dropdb, name)
		uri = cluster.conninfo(name, "plain")
		done = harness.migrate(uri)
		self.assertEqual(done.returncode, 0, done.stdout)
		daemon = harness.Daemon(self, "plain", database=uri).start()
		self.apply(daemon, template("plain", [step("a")]))
		self.python_worker(daemon)
		self.assertEqual(self.finished(daemon, self.create(daemon, "plain")).state, "complete")
		self.doctor(daemon)


class Away(harness.Case):
	"""A server that is not there, or goes."""

	def setUp(self):
		super().setUp()
		self.cluster = harness.new_cluster()
		self.at_end(self.cluster.close)
		self.db = self.database(self.cluster)

	def test_down_at_the_start(self):
		self.cluster.stop("fast")
		node = self.daemon(self.db, start=False)
		node.launch()
		wait_for(lambda: "database cannot be reached" in node.log_text(), "the daemon to say that it waits")
		self.assertEqual(node.database_state(), "waiting")
		self.assertTrue(node.info()["database"]["error"])
		worker = self.python_worker(node, wait=False)
		with self.assertRaises(DatabaseUnavailableError):
			self.apply(node, template("later", [step("a")]))
		with self.assertRaises(DatabaseUnavailableError):
			self.create(node, "later")
		self.cluster.start()
		node.wait_up()
		worker.wait_listed(node)
		self.apply(node, template("later", [step("a")]))
		self.assertEqual(self.finished(node, self.create(node, "later")).state, "complete")
		self.doctor(node)

	def test_it_goes_and_comes_back(self):
		"""Steps that run meanwhile are recorded afterwards, in the same attempt; clients are told while it is away."""
		node = self.daemon(self.db)
		self.apply(node, template("goes", [step("a", "t.gate", attempts=1), step("b", after=["a"])]))
		worker = self.python_worker(node)
		tasks = self.create_many(node, "goes", 4)
		self.ledger.wait_lines(4)
		self.cluster.stop("immediate")
		wait_for(lambda: node.database_state() == "lost", "the loss to be seen")
		with self.assertRaises(DatabaseUnavailableError):
			node.client.get_task(tasks[0])
		with self.assertRaises(TaskerdError):
			self.create(node, "goes")
		self.ledger.open_gate("gate")
		wait_for(lambda: node.info()["counters"]["results"] == 4, "the results to arrive")
		self.cluster.start()
		node.wait_up()
		for task in tasks:
			done = self.finished(node, task)
			self.assertEqual((done.state, done.step("a").attempts), ("complete", 1))
		self.assertEqual(len(self.ledger), 8)
		self.assertTrue(worker.alive())
		self.verify(self.db, node)

	def test_a_timeout_while_it_is_away(self):
		node = self.daemon(self.db)
		self.apply(node, template("times", [step("a", "t.late", timeout=3)]))
		self.python_worker(node)
		task = self.create(node, "times")
		self.ledger.wait_lines(1)
		self.cluster.stop("immediate")
		wait_for(lambda: self.ledger.notes("cancelled"), "the handler to be told of its timeout")
		self.cluster.start()
		node.wait_up()
		done = self.finished(node, task)
		self.assertEqual((done.state, done.step("a").attempts), ("complete", 2))
		self.assertEqual([o for _, _, _, o, _, _ in self.db.attempts()], ["timeout", "success"])
		self.ledger.open_gate("gate")
		self.verify(self.db, node)

	def test_server_info_names_schema_and_queues(self):
		node = self.daemon(self.db)
		about = node.info()["database"]
		self.assertEqual(about["state"], "up")
		self.assertEqual(about["version"] // 10000, int(self.db.value("SHOW server_version_num")) // 10000)
		self.assertEqual(str(about["schema"]), self.db.value("SELECT max(version) FROM tasker.schema_migrations"))
		self.assertTrue(about["pgmq"])


class Settings(harness.Case):
	"""What a database has set for everybody changes nothing."""

	SETTINGS = {
		"TimeZone": "'Asia/Kolkata'", "DateStyle": "'SQL, DMY'", "IntervalStyle": "sql_standard", "default_transaction_isolation": "serializable",
		"default_transaction_deferrable": "on", "extra_float_digits": "-15", "bytea_output": "escape", "standard_conforming_strings": "off", "search_path": "nowhere",
		"transform_null_equals": "on", "array_nulls": "off", "client_encoding": "latin1", "client_min_messages": "debug1", "statement_timeout": "'5s'",
		"idle_in_transaction_session_timeout": "'100ms'", "idle_session_timeout": "'100ms'", "transaction_timeout": "'5s'"}

	def test_it(self):
		db = self.database()
		known = {r[0] for r in db.cluster.psql("SELECT lower(name) FROM pg_settings")}
		for name, value in self.SETTINGS.items():
			if name.lower() in known:
				db.cluster.psql("ALTER DATABASE %s SET %s = %s" % (db.name, name, value))
		node = self.daemon(db)
		self.apply(node, template("pair", [step("ж", "t.flaky", backoff="linear", fails=1), step("b", after=["ж"])]))
		self.python_worker(node)
		soon = db.cluster.value("SELECT to_char((now() + interval '1 second') AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')")
		context = {"é": [0.1, 1e308, 2 ** 53 + 1], "t": "1.50"}
		task = self.create(node, "pair", context, run_at=soon)
		made = self.finished(node, task)
		self.assertEqual((made.state, made.context, [s.name for s in made.steps]), ("complete", context, ["ж", "b"]))
		self.doctor(node)
		self.assertEqual(node.log_text().count("database up"), 1, "no connection was lost")


class Embedded(harness.Case):
	def server_pid(self, directory):
		with open(os.path.join(directory, "data", "postmaster.pid"), encoding="ascii") as f:
			return int(f.readline())

	def test_the_server_is_killed(self):
		"""It comes back by itself, and work goes on."""
		directory = self.embedded_dir()
		node = harness.Daemon(self, "node", embedded=directory).start()
		self.apply(node, template("goes", [step("a", "t.gate", attempts=1), step("b", after=["a"])]))
		self.python_worker(node)
		task = self.create(node, "goes")
		self.ledger.wait_lines(1)
		before = self.server_pid(directory)
		os.kill(before, signal.SIGKILL)
		wait_for(lambda: "the embedded PostgreSQL is running again" in node.log_text(), lambda: "the server to come back:\n" + node.process.last_words())
		self.assertNotEqual(self.server_pid(directory), before)
		self.ledger.open_gate("gate")
		done = self.finished(node, task)
		self.assertEqual((done.state, done.step("a").attempts), ("complete", 1))
		self.doctor(node)
		after = self.server_pid(directory)
		self.assertEqual(node.stop(), 0)
		wait_for(lambda: not os.path.exists("/proc/%d" % after), "the server to end with the daemon")

	def test_another_user_may_not_read_it(self):
		directory = self.embedded_dir()
		harness.Daemon(self, "node", embedded=directory).start()
		self.assertEqual(os.stat(os.path.join(directory, "data")).st_mode & 0o077, 0)


if __name__ == "__main__":
	unittest.main()

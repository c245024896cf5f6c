"""The password of the database is never told: not in logs, not in errors, not to clients, not in what prints the configuration."""
import os
import subprocess
import unittest

import harness
from harness import wait_for

SECRET = "hunter2-XyZ"


class Secrets(harness.Case):
	def uris(self, db, host=None):
		host = host or db.cluster.host
		yield "keywords", "host='%s' port=5432 dbname='%s' user='postgres' password='%s' sslpassword=%s" % (host, db.name, SECRET, SECRET)
		yield "uri", "postgresql://postgres:%s@/%s?host=%s&port=5432" % (SECRET, db.name, host.replace("/", "%2F"))
		yield "query", "postgresql:///%s?host=%s&user=postgres&password=%s&port=5432" % (db.name, host.replace("/", "%2F"), SECRET)

	def config(self, name, uri, mode=0o600):
		path = os.path.join(self.place, name + ".yaml")
		with open(path, "w", encoding="utf-8") as f:
			f.write("database: \"%s\"\n" % uri)
		os.chmod(path, mode)
		return path

	def run_daemon(self, *args, env=None):
		done = subprocess.run([harness.taskerd_program(), *args], capture_output=True, text=True, timeout=harness.PATIENCE, env={**os.environ, **(env or {})})
		return done.stdout + done.stderr

	def start(self, name, argv, env=None):
		log = os.path.join(self.place, name + ".log")
		sock = os.path.join(self.place, name + ".sock")
		node = harness.Daemon(self, name, embedded=None, database="", socket=sock, log_level="debug")
		node.argv = [a for a in node.argv if not a.startswith("--database")] + argv
		node.process = self.track(harness.Process(name, node.argv, log, env))
		return node

	def test_a_daemon_that_works(self):
		db = self.database()
		for kind, uri in self.uris(db):
			with self.subTest(kind):
				node = self.start("works-" + kind, ["--config=" + self.config(kind, uri)])
				node.wait_up()
				self.assertNotIn(SECRET, str(node.info()))
				node.stop()
				self.assertNotIn(SECRET, node.log_text())

	def test_one_that_cannot_connect(self):
		"""What libpq says of a failure is passed on."""
		db = self.database()
		for kind, uri in self.uris(db, host=self.place):
			with self.subTest(kind):
				node = self.start("fails-" + kind, ["--config=" + self.config(kind, uri)])
				wait_for(lambda: node.info() and node.info()["database"].get("error"), "the daemon to say why")
				said = str(node.info()) + node.log_text()
				node.process.kill()
				self.assertIn("cannot be reached", said)
				self.assertNotIn(SECRET, said)
				self.assertNotIn(SECRET, self.run_daemon("--migrate", "--config=" + self.config(kind, uri)))

	def test_the_configuration_printed(self):
		db = self.database()
		check = ["--check-config", "--verbose"]
		for kind, uri in self.uris(db):
			with self.subTest(kind):
				for said in (self.run_daemon(*check, "--config=" + self.config(kind, uri)), self.run_daemon(*check, "--config=/dev/null", env={"TASKERD_DATABASE": uri}),
				             self.run_daemon(*check, "--config=/dev/null", env={"DATABASE_URL": uri})):
					self.assertIn("configuration ok", said)
					self.assertIn("***", said)
					self.assertNotIn(SECRET, said)

	def test_wrong_values(self):
		"""Errors do not repeat what may be a password."""
		for text in ("postgres:/x:%s@h" % SECRET, "://%s" % SECRET, SECRET):
			for said in (self.run_daemon("--database=" + text), self.run_daemon("--check-config", "--config=" + self.config("wrong", text)), self.run_daemon("postgresql://u:%s@h/d" % SECRET)):
				self.assertNotIn(SECRET, said)

	def test_where_others_can_read_it(self):
		uri = "postgresql://u:%s@h/d" % SECRET
		said = self.run_daemon("--check-config", "--database=" + uri)
		self.assertIn("everyone on this host can list the command line", said)
		self.assertNotIn(SECRET, said)
		said = self.run_daemon("--check-config", "--config=" + self.config("open", uri, 0o644))
		self.assertIn("chmod o-r", said)
		self.assertNotIn(SECRET, said)
		self.assertNotIn("warning", self.run_daemon("--check-config", "--database=postgresql://u@h/d"))


if __name__ == "__main__":
	unittest.main()

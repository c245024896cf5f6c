"""The cluster helper keeps its promises: what a commit says survives a crash, and nothing is left behind."""
import os
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
import pg  # noqa: E402


class Cluster(unittest.TestCase):
	@classmethod
	def setUpClass(cls):
		cls.cluster = pg.PgCluster({"max_connections": 7})
		cls.addClassCleanup(cls.cluster.close)

	def test_rows(self):
		self.assertEqual(self.cluster.psql("SELECT 1, NULL, ''; SELECT E'a\\nb,\"c\"'"), [["1", None, ""], ['a\nb,"c"']])
		self.assertEqual(self.cluster.value("SELECT %s" % pg.lit("it's \\ fine")), "it's \\ fine")
		self.assertEqual(self.cluster.value("SELECT %s" % pg.lit([1, None, 3])), "{1,NULL,3}")
		self.assertEqual(self.cluster.value("SELECT ''"), "")
		self.assertEqual(self.cluster.value("SHOW max_connections"), "7")

	def test_errors_carry_their_state(self):
		with self.assertRaises(pg.PgError) as caught:
			self.cluster.psql("SELECT 1;\nSELECT 1/0")
		self.assertEqual((caught.exception.sqlstate, caught.exception.message), ("22012", "division by zero"))
		with self.cluster.session() as s:
			with self.assertRaises(pg.PgError) as caught:
				s.run("SELECT 1/0; SELECT 2")
			self.assertEqual((caught.exception.sqlstate, caught.exception.message), ("22012", "division by zero"))
			self.assertEqual(s.run("SELECT 3"), [["3"]])
		with self.assertRaises(pg.PgError):
			self.cluster.session("no_such_database")

	def test_a_failed_transaction_leaves_nothing(self):
		with self.assertRaises(pg.PgError):
			self.cluster.psql("CREATE TABLE half (); SELECT 1/0", transaction=True)
		self.assertIsNone(self.cluster.value("SELECT to_regclass('half')"))

	def test_a_commit_survives_a_kill_and_an_open_transaction_does_not(self):
		self.cluster.psql("CREATE TABLE survivors (i int)")
		with self.cluster.session() as s:
			s.run("BEGIN")
			s.run("INSERT INTO survivors VALUES (1)")
			self.cluster.psql("INSERT INTO survivors VALUES (2)")
			self.cluster.kill()
			with self.assertRaises(pg.PgError) as caught:
				s.run("COMMIT")
			self.assertEqual(caught.exception.sqlstate[:2], "08")
		self.cluster.start()
		self.assertEqual(self.cluster.psql("SELECT i FROM survivors"), [["2"]])

	def test_restart_in_each_mode(self):
		for mode in ("smart", "fast", "immediate"):
			self.cluster.restart(mode)
			self.assertEqual(self.cluster.value("SELECT 1"), "1")

	def test_plans(self):
		self.cluster.psql("CREATE TABLE planned AS SELECT i FROM generate_series(1, 10) i")
		plan = self.cluster.explain("DELETE FROM planned WHERE i > 4 RETURNING i", analyze=True)
		self.assertEqual([(n["Node Type"], n["Actual Rows"]) for n in pg.plan_nodes(plan)], [("ModifyTable", 6), ("Seq Scan", 6)])
		self.assertEqual(self.cluster.value("SELECT count(*) FROM planned"), "10")

	def test_no_network(self):
		self.assertEqual(self.cluster.value("SHOW listen_addresses"), "")


def working_directory(pid):
	try:
		return os.readlink("/proc/%s/cwd" % pid)
	except OSError:
		return ""


class CleaningUp(unittest.TestCase):
	def run_child(self, last_words):
		code = "import os, signal, sys, pg; c = pg.PgCluster(); print(c.top, flush=True); " + last_words
		child = subprocess.run([sys.executable, "-c", code], cwd=os.path.dirname(HERE), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
		return child.stdout.strip()

	def test_nothing_is_left_however_the_test_ends(self):
		for last_words in ("c.close()", "sys.exit(3)", "raise RuntimeError", "c.kill()", "c.kill(); c.start(); os._exit(1)",
		                   "os.kill(os.getpid(), signal.SIGTERM)", "os.kill(os.getpid(), signal.SIGKILL)"):
			with self.subTest(last_words):
				top = self.run_child(last_words)
				pg.wait_for(lambda: not os.path.exists(top), "the directory to go")
				self.assertEqual([d for d in map(working_directory, filter(str.isdigit, os.listdir("/proc"))) if d.startswith(top)], [])

	def test_no_shared_memory_is_left_after_a_kill(self):
		def segments():
			with open("/proc/sysvipc/shm", encoding="ascii") as f:
				return {line.split()[1] for line in f}
		c = pg.PgCluster()
		self.addCleanup(c.close)
		with open(os.path.join(c.data, "postmaster.pid"), encoding="ascii") as f:
			mine = f.read().splitlines()[6].split()[1]
		self.assertIn(mine, segments())
		c.kill()
		c.close()
		self.assertNotIn(mine, segments())


if __name__ == "__main__":
	unittest.main()

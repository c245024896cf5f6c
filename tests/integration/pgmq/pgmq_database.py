"""A server for the tests of the queues, and a database of its own for each class."""
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import pg  # noqa: E402
from pg import PgError, lit, wait_for  # noqa: E402

cluster = None


def start():
	global cluster
	cluster = pg.PgCluster({"max_connections": 30, "lock_timeout": "20s"})
	cluster.psql("CREATE ROLE app LOGIN; CREATE ROLE stranger LOGIN")


def stop():
	if cluster is not None:
		cluster.close()


class DatabaseCase(unittest.TestCase):
	"""A database of its own for each class, owned by the plain role app, and a session in it."""
	install_sql = None
	queues_made = 0

	@classmethod
	def setUpClass(cls):
		text = cls.install_sql() if cls.install_sql else None
		cls.db = cls.__name__.lower()
		cluster.createdb(cls.db, owner="app")
		cls.addClassCleanup(cluster.dropdb, cls.db)
		if text:
			cluster.psql(text, db=cls.db, user="app", transaction=True)
		cls.own_session = cluster.session(cls.db, "app")
		cls.addClassCleanup(cls.own_session.close)

	def sql(self, text, *args):
		"""Rows of one statement; %s in it are replaced by literals."""
		return self.own_session.run(text % tuple(lit(a) for a in args) if args else text)

	def column(self, text, *args):
		return [row[0] for row in self.sql(text, *args)]

	def value(self, text, *args):
		rows = self.sql(text, *args)
		self.assertEqual(len(rows), 1, text)
		return rows[0][0]

	def session(self, user="app"):
		s = cluster.session(self.db, user)
		self.addCleanup(s.close)
		return s

	def refused(self, text, *args, state=None):
		with self.assertRaises(PgError, msg=text) as caught:
			self.sql(text, *args)
		if state:
			self.assertEqual(caught.exception.sqlstate, state, caught.exception)
		return caught.exception

	def wait_until(self, session, event, what):
		wait_for(lambda: cluster.psql("SELECT 1 FROM pg_stat_activity WHERE pid = %d AND %s" % (session.pid, event)), what)

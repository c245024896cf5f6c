"""PgBouncer between daemons and their database, in transaction mode. Debian's package of that name."""
import os
import shutil
import subprocess
import unittest

from fault import harness
from harness import pg, wait_for

PORT = 6432


class Bouncer:
	"""Listens in `directory` and passes on to the cluster's databases. Few server connections, so that clients do share them."""

	def __init__(self, stage, cluster, directory, pool_size=2, mode="transaction"):
		program = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
		if not program:
			raise unittest.SkipTest("no pgbouncer")
		self.stage, self.directory, self.program, self.process = stage, directory, program, None
		self.pool_size, self.mode = pool_size, mode
		as_user, uid, gid = pg._server_user()
		os.makedirs(directory)
		os.chown(directory, uid, gid)
		self.argv = ["setpriv", "--reuid=%d" % uid, "--regid=%d" % gid, "--clear-groups"] if as_user else []
		self.config = os.path.join(directory, "pgbouncer.ini")
		self.lead_to(cluster)
		stage.at_end(self.stop)

	def lead_to(self, cluster):
		"""Which server it connects to, from now on."""
		with open(self.config, "w", encoding="utf-8") as f:
			f.write("[databases]\n* = host=%s port=5432 user=postgres\n[pgbouncer]\nunix_socket_dir = %s\nlisten_port = %d\nauth_type = any\nadmin_users = postgres\n"
			        "pool_mode = %s\ndefault_pool_size = %d\nmax_client_conn = 200\nserver_login_retry = 0.2\nlogfile = %s\n"
			        % (cluster.host, self.directory, PORT, self.mode, self.pool_size, os.path.join(self.directory, "log")))
		os.chmod(self.config, 0o644)
		if self.process:
			self.process.signal(1)  # SIGHUP: read it again
			self.ask("RECONNECT")

	def start(self):
		self.process = self.stage.track(harness.Process("pgbouncer", self.argv + [self.program, "-q", self.config], os.path.join(self.stage.place, "pgbouncer.out")))
		wait_for(lambda: os.path.exists(os.path.join(self.directory, ".s.PGSQL.%d" % PORT)), lambda: "pgbouncer:\n" + self.process.last_words())
		return self

	def kill(self):
		if self.process:
			self.process.kill()

	def restart(self):
		path = os.path.join(self.directory, ".s.PGSQL.%d" % PORT)
		if os.path.exists(path):
			os.unlink(path)
		return self.start()

	def stop(self):
		self.kill()
		self.process = None

	def ask(self, command):
		"""A command for its console."""
		return subprocess.run(["psql", "-XqAt", "-h", self.directory, "-p", str(PORT), "-U", "postgres", "pgbouncer", "-c", command],
		                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30).stdout

	def conninfo(self, db):
		return "host='%s' port=%d dbname='%s' user='postgres'" % (self.directory, PORT, db)

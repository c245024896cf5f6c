"""A primary and its standby, which change places."""
import os
import subprocess

from fault import harness
from harness import pg, wait_for


class Standby(pg.PgCluster):
	"""A copy of a running cluster that follows it."""

	def __init__(self, primary, **options):
		self.primary = primary
		super().__init__(**options)

	def _initdb(self, settings, durable):
		argv = [os.path.join(self.bindir, "pg_basebackup"), "-d", self.primary.conninfo(), "-D", self.data, "--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
		made = subprocess.run(argv, env=pg._clean_env(), cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **self._as_user)
		if made.returncode != 0:
			raise RuntimeError("pg_basebackup failed:\n" + made.stdout)
		with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as f:
			f.write("unix_socket_directories = '%s'\n" % self.host)


class Pair:
	"""Two servers behind two names that stay: whoever connects names both. `wait`: a commit is answered when the standby has it as well."""

	def __init__(self, stage, primary, wait=True, make=Standby, standby=True):
		self.make = make
		self.stage, self.primary, self.wait, self.standby = stage, primary, wait, None
		self.names = [os.path.join(stage.place, n) for n in ("a", "b")]
		self.free = [self.names[1]]
		self.taken = {}
		self._name(primary, self.names[0])
		if standby:
			self.rebuild()
		else:
			del self.names[1]

	def _name(self, cluster, name):
		"""Let the name lead to the cluster's socket."""
		if os.path.islink(name):
			os.unlink(name)
		os.symlink(cluster.host, name)
		self.taken[cluster] = name

	def conninfo(self, db, hosts=None):
		hosts = hosts or self.names
		return "host='%s' port=5432 dbname='%s' user='postgres' target_session_attrs=read-write" % (",".join(hosts), db)

	def rebuild(self):
		"""A new standby of the primary."""
		self.standby = self.make(self.primary)
		self.stage.at_end(self.standby.close)
		self._name(self.standby, self.free.pop())
		if self.wait:
			self.primary.psql("ALTER SYSTEM SET synchronous_standby_names = '*'")
			self.primary.psql("SELECT pg_reload_conf()")
			self.stage.at_end(self._wait_no_more, self.primary)
		wait_for(lambda: self.primary.psql("SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'") == [["sync" if self.wait else "async"]], "the standby to follow")

	@staticmethod
	def _wait_no_more(primary):
		"""Or what is done at the end would wait for a standby that is gone."""
		try:
			primary.psql("ALTER SYSTEM RESET synchronous_standby_names")
			primary.psql("SELECT pg_reload_conf()")
		except pg.PgError:
			pass  # it is gone itself

	def fail_over(self):
		"""kill -9 of the primary; its standby becomes the primary."""
		self.primary.kill()
		self.standby.psql("SELECT pg_promote()")
		self.free.append(self.taken.pop(self.primary))
		dead, self.primary, self.standby = self.primary, self.standby, None
		return dead


__all__ = ["Pair", "Standby", "harness"]

"""Private PostgreSQL clusters for the integration tests. Standard library only; rows come through the psql binary.

	with pg.PgCluster(settings={"max_connections": 50}) as cluster:
		cluster.createdb("t")
		cluster.psql("SELECT 1, NULL", db="t")              # [["1", None]]
		with cluster.session("t") as a:                     # a connection that stays open
			a.run("BEGIN"); a.run("LOCK TABLE x")
			cluster.kill()                              # crash: every process of the cluster gets SIGKILL
		cluster.start()                                     # crash recovery

A cluster lives in a directory of its own, listens on a Unix socket in it and nowhere else, and is gone at the end: by close(), at
interpreter exit, or, when the test process itself is killed, by a guard process that waits for its end. Other servers are never
looked at: processes are found by being children of ours or by having our data directory as working directory.

As root the server runs as user "postgres" (TASKERD_TEST_PG_USER names another). The binaries are those of TASKERD_TEST_PG_BINDIR,
else of the newest version found. A data directory that initdb has made is kept as TASKERD_TEST_INITDB, if that is set, and copied from there
the next time; so is one with something in it, beside that (keep_as). What cannot run here raises Unavailable, which a test turns into a skip.
"""
import atexit
import csv
import ctypes
import glob
import io
import json
import os
import pwd
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

PATIENCE = float(os.environ.get("TASKERD_TEST_PATIENCE", "300"))  # seconds
NULL = "\x01"          # how psql is told to print NULL, so that it differs from ''
SOCKET_PATH_MAX = 107  # sun_path, less its NUL


class Unavailable(unittest.SkipTest):
	"""PostgreSQL cannot be run here; the message says why."""


class PgError(Exception):
	"""A statement failed: .sqlstate and the server's .message."""

	def __init__(self, sqlstate, message):
		super().__init__("%s: %s" % (sqlstate, message))
		self.sqlstate = sqlstate
		self.message = message


def wait_for(condition, what, timeout=PATIENCE):
	"""Call `condition` until it returns something true, and return that; AssertionError naming `what` after `timeout` seconds."""
	deadline = time.monotonic() + timeout
	pause = 0.01
	while True:
		value = condition()
		if value:
			return value
		if time.monotonic() > deadline:
			raise AssertionError("waited %d s for %s" % (timeout, what))
		time.sleep(pause)
		pause = min(pause * 1.2, 0.03)


def lit(value):
	"""`value` as an SQL literal: None, bool, numbers, strings; lists become ARRAY[...]; dicts become jsonb."""
	if value is None:
		return "NULL"
	if isinstance(value, bool):
		return "true" if value else "false"
	if isinstance(value, (int, float)):
		return str(value)
	if isinstance(value, (list, tuple)):
		return "ARRAY[%s]" % ", ".join(lit(v) for v in value)
	if isinstance(value, dict):
		return lit(json.dumps(value)) + "::jsonb"
	return "'%s'" % value.replace("'", "''")


def find_bindir():
	"""The directory of initdb and postgres. Raises Unavailable."""
	candidates = [os.environ.get("TASKERD_TEST_PG_BINDIR")]
	if not candidates[0]:
		versioned = glob.glob("/usr/lib/postgresql/*/bin") + glob.glob("/usr/pgsql-*/bin")
		candidates = sorted(versioned, key=lambda d: [int(n) for n in re.findall(r"\d+", d)], reverse=True)
		candidates += os.environ.get("PATH", "").split(os.pathsep)
	for d in candidates:
		if all(os.access(os.path.join(d, program), os.X_OK) for program in ("initdb", "postgres")):
			return d
	raise Unavailable("no initdb and postgres in %s" % os.pathsep.join(candidates))


def _server_user():
	"""(keyword arguments for Popen, uid, gid) that make a child run as an unprivileged user. Raises Unavailable."""
	if os.geteuid() != 0:
		return {}, os.geteuid(), os.getegid()
	name = os.environ.get("TASKERD_TEST_PG_USER", "postgres")
	try:
		entry = pwd.getpwnam(name)
	except KeyError:
		raise Unavailable("PostgreSQL does not run as root, and there is no user %s" % name) from None
	return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}, entry.pw_uid, entry.pw_gid


def _clean_env():
	"""The environment without PG* variables (a PGDATABASE or PGHOST would lead elsewhere), with untranslated messages."""
	env = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
	env.update(LC_ALL="C.UTF-8", PGCONNECT_TIMEOUT="60")
	return env


def _pids_in(directory):
	"""The live processes whose working directory is `directory`: every process of a server has its data directory there."""
	found = []
	for pid in filter(str.isdigit, os.listdir("/proc")):
		try:
			if os.readlink("/proc/%s/cwd" % pid) == directory:
				found.append(int(pid))
		except OSError:  # ended meanwhile (a zombie has no working directory), or not ours
			pass
	return found


def _signal(pid, number):
	try:
		os.kill(pid, number)
	except ProcessLookupError:
		pass


def _kill_all_in(directory):
	while True:
		pids = _pids_in(directory)
		if not pids:
			return
		for pid in pids:
			_signal(pid, signal.SIGKILL)
		time.sleep(0.005)


def _remove(top):
	"""Remove a cluster, running, crashed or half made."""
	data = os.path.join(top, "data")
	_kill_all_in(data)
	try:
		with open(os.path.join(data, "postmaster.pid"), encoding="ascii") as f:
			shmid = int(f.read().splitlines()[6].split()[1])
		ctypes.CDLL(None).shmctl(shmid, 0, None)  # the one thing that a killed server leaves outside its directory; 0 = IPC_RMID
	except (OSError, IndexError, ValueError):
		pass
	if os.path.ismount(data):
		subprocess.run(["umount", "--lazy", data], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
	shutil.rmtree(top, ignore_errors=True)


def _guard_main(top):
	"""The guard: outlives the test process by as long as it takes to remove what that left behind."""
	sys.stdin.buffer.read()
	if os.path.exists(top):
		_remove(top)


def _kept(name=None):
	"""Where a data directory is kept; None if nothing is."""
	initdb = os.environ.get("TASKERD_TEST_INITDB")
	return initdb and initdb + ("-" + name if name else "")


class Session:
	"""One connection held open by a psql coprocess. run() waits for the end of what it sends; start() and finish() let a statement block meanwhile."""

	def __init__(self, argv, env):
		self._marks = 0
		self._buffer = b""
		self._psql = subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
		try:
			self.pid = int(self.run("SELECT pg_backend_pid()")[0][0])
		except BaseException:
			self.close()
			raise

	def __enter__(self):
		return self

	def __exit__(self, *_):
		self.close()

	def start(self, sql):
		"""Send statements without waiting for their end."""
		self._marks += 1
		text = "%s\n;\n\\echo <%d :ERROR :LAST_ERROR_SQLSTATE :LAST_ERROR_MESSAGE >%d\n" % (sql.rstrip().rstrip(";"), self._marks, self._marks)
		text = "\\set LAST_ERROR_SQLSTATE 00000\n\\set LAST_ERROR_MESSAGE ''\n" + text
		try:
			self._psql.stdin.write(text.encode())
			self._psql.stdin.flush()
		except BrokenPipeError:
			raise PgError("08006", "the connection is gone") from None

	def finish(self, timeout=PATIENCE):
		"""The rows of what start() sent. Raises PgError if a statement failed, AssertionError if it does not end."""
		pattern = re.compile(rb"^<%d (\w+) (\w*) (.*?) >%d\n" % (self._marks, self._marks), re.S | re.M)
		deadline = time.monotonic() + timeout
		while True:
			end = pattern.search(self._buffer)
			if end:
				break
			if not select.select([self._psql.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
				raise AssertionError("no end of the statement within %d s" % timeout)
			data = os.read(self._psql.stdout.fileno(), 65536)
			if not data:
				raise PgError("08006", "the connection is gone")
			self._buffer += data
		text, self._buffer = self._buffer[:end.start()].decode(), self._buffer[end.end():]
		if end.group(2) != b"00000":
			raise PgError(end.group(2).decode() or "08006", end.group(3).decode() or "the connection is gone")
		return _rows(text)

	def run(self, sql, timeout=PATIENCE):
		"""start() and finish()."""
		self.start(sql)
		return self.finish(timeout)

	def close(self):
		"""End the connection: an open transaction is rolled back."""
		self._psql.kill()
		self._psql.wait()
		try:
			self._psql.stdin.close()
		except BrokenPipeError:
			pass
		self._psql.stdout.close()


def _rows(text):
	return [[None if v == NULL else v for v in row or [""]] for row in csv.reader(io.StringIO(text))]


class PgCluster:
	"""A running cluster: see the module's text. `settings` go to postgresql.conf; `durable` puts it on disk with fsync (default: in memory
	if possible, without); `start=False` only makes it; `environment` is added to the server's; `kept_as` names what keep_as() may have left, and
	`was_kept` is whether it had."""

	def __init__(self, settings=None, durable=False, start=True, bindir=None, environment=None, kept_as=None):
		self.environment = environment or {}
		self.bindir = bindir or find_bindir()
		self._as_user, uid, gid = _server_user()
		self.postmaster = None
		self._closed = False
		self._maker = os.getpid()
		base = tempfile.gettempdir()
		if not durable and os.access("/dev/shm", os.W_OK):
			base = "/dev/shm"
		self.top = tempfile.mkdtemp(prefix="tpg-" + os.environ.get("TASKERD_TEST_RUN", ""), dir=base)
		self._guard = subprocess.Popen(
			[sys.executable, "-E", "-S", os.path.abspath(__file__), "--guard", self.top], stdin=subprocess.PIPE,
			stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd="/")
		atexit.register(self.close)
		self.data = os.path.join(self.top, "data")
		self.host = os.path.join(self.top, "s")
		self.log = os.path.join(self.top, "log")
		try:
			os.mkdir(self.host)
			for d in (self.top, self.host):
				os.chown(d, uid, gid)
			if len(os.path.join(self.host, ".s.PGSQL.5432.lock")) > SOCKET_PATH_MAX:
				raise Unavailable("the path %s is too long for a Unix socket" % self.host)
			self.was_kept = kept_as is not None and self._copy(_kept(kept_as))
			self._initdb(settings or {}, durable)
			if start:
				self.start()
		except BaseException:
			self.close()
			raise

	def __enter__(self):
		return self

	def __exit__(self, *_):
		self.close()

	def _initdb(self, settings, durable):
		if not self.was_kept and not self._copy(_kept()):
			self._run_initdb()
			self._keep(_kept())
		conf = {"listen_addresses": "", "unix_socket_directories": self.host, "port": 5432, "jit": "off",
		        "dynamic_shared_memory_type": "mmap"}  # in the data directory: nothing is left in /dev/shm by a kill
		if not durable:
			conf.update(fsync="off", full_page_writes="off")  # a commit still outlives kill(): the kernel has it
		conf.update(settings)
		with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as f:
			for key, value in conf.items():
				f.write("%s = %s\n" % (key, lit(str(value))))

	def _run_initdb(self):
		argv = [os.path.join(self.bindir, "initdb"), "--no-sync", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]
		made = subprocess.run(argv, env=_clean_env(), cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **self._as_user)
		if made.returncode != 0:
			raise RuntimeError("initdb failed:\n" + made.stdout)

	def _copy(self, kept):
		"""Take over a data directory that was kept; whether there is one."""
		if not kept or not os.path.isdir(kept):
			return False
		subprocess.run(["cp", "-a", kept, self.data], check=True)
		return True

	def keep_as(self, name):
		"""Keep the data directory of a server that was shut down for clusters like this one."""
		self._keep(_kept(name))

	def _keep(self, kept):
		"""A copy of the data directory, whole or not there."""
		if not kept:
			return
		own = "%s.%d" % (kept, os.getpid())
		subprocess.run(["cp", "-a", self.data, own], check=True)
		try:
			os.rename(own, kept)
		except OSError:
			shutil.rmtree(own)  # another was faster

	def start(self, timeout=PATIENCE):
		"""Start the server (after a kill: with crash recovery) and wait until it takes connections."""
		with open(self.log, "ab") as log:
			self.postmaster = subprocess.Popen(
				[os.path.join(self.bindir, "postgres"), "-D", self.data], env={**_clean_env(), **self.environment}, cwd="/", stdin=subprocess.DEVNULL,
				stdout=log, stderr=log, start_new_session=True, **self._as_user)
		wait_for(self._is_ready, "the server to start", timeout)

	def _is_ready(self):
		if self.postmaster.poll() is not None:
			raise RuntimeError("the server did not start:\n" + self.log_text())
		try:
			with open(os.path.join(self.data, "postmaster.pid"), encoding="utf-8") as f:
				lines = f.read().splitlines()
		except FileNotFoundError:
			return False
		return len(lines) >= 8 and lines[0] == str(self.postmaster.pid) and lines[7].strip() == "ready"

	def stop(self, mode="fast", timeout=PATIENCE):
		"""Shut down: "smart" waits for clients, "fast" ends their connections, "immediate" leaves recovery to the next start."""
		signals = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
		if self.postmaster is None:
			return
		self.postmaster.send_signal(signals[mode])
		self.postmaster.wait(timeout)
		self.postmaster = None

	def freeze(self, everything=True):
		"""SIGSTOP to all processes of the server, or to the postmaster alone. Connections stay open, and the kernel takes new ones; nothing answers."""
		for pid in _pids_in(self.data) if everything else [self.postmaster.pid]:
			_signal(pid, signal.SIGSTOP)

	def thaw(self):
		for pid in _pids_in(self.data):
			_signal(pid, signal.SIGCONT)

	def kill(self):
		"""SIGKILL to the postmaster, then to all it leaves behind, so that start() can follow at once."""
		if self.postmaster is not None:
			self.postmaster.kill()
			self.postmaster.wait()
			self.postmaster = None
		_kill_all_in(self.data)

	def restart(self, mode="fast"):
		"""stop(mode) and start()."""
		self.stop(mode)
		self.start()

	def close(self):
		"""End the server, in whatever state, and remove the directory. May be called twice; does nothing in a forked child."""
		if self._closed or os.getpid() != self._maker:
			return
		self._closed = True
		try:
			self.kill()
		finally:
			_remove(self.top)
			self._guard.stdin.close()
			self._guard.wait()
			atexit.unregister(self.close)

	def log_text(self):
		"""The server's log so far."""
		with open(self.log, encoding="utf-8", errors="replace") as f:
			return f.read()

	def conninfo(self, db="postgres", user="postgres"):
		"""A libpq connection string."""
		return "host='%s' port=5432 dbname='%s' user='%s'" % (self.host, db, user)

	def _psql_argv(self, db, user):
		psql = os.path.join(self.bindir, "psql")
		if not os.access(psql, os.X_OK):
			psql = shutil.which("psql")
		if psql is None:
			raise Unavailable("no psql")
		return [psql, "-XqAt", "--csv", "-P", "null=" + NULL, "-v", "VERBOSITY=verbose", "-d", self.conninfo(db, user)]

	def psql(self, sql, db="postgres", user="postgres", transaction=False, timeout=120):
		"""Run statements; the rows of all of them, as lists of strings and None. `transaction`: all in one. Raises PgError at the first that fails."""
		argv = self._psql_argv(db, user) + ["-v", "ON_ERROR_STOP=1", "-f", "-"] + (["-1"] if transaction else [])
		done = subprocess.run(argv, env=_clean_env(), input=sql, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout)
		if done.returncode != 0:
			error = re.search(r"(?:ERROR|FATAL|PANIC):  (\w{5}): (.*)", done.stderr)
			raise PgError(*error.groups()) if error else PgError("08000", done.stderr.strip())
		return _rows(done.stdout)

	def value(self, sql, **kw):
		"""The first column of the only row of psql(sql)."""
		rows = self.psql(sql, **kw)
		if len(rows) != 1:
			raise AssertionError("%d rows, not one: %s" % (len(rows), sql))
		return rows[0][0]

	def session(self, db="postgres", user="postgres"):
		"""A Session."""
		return Session(self._psql_argv(db, user), _clean_env())

	def createdb(self, name, template="template0", owner="postgres"):
		"""Make a database; a template other than template0 must have no open connections."""
		copied = " STRATEGY FILE_COPY" if self._version() >= 15 else ""  # half the work of the default where nothing goes to a disk
		self.psql('CREATE DATABASE "%s" TEMPLATE "%s" OWNER "%s"%s' % (name, template, owner, copied))

	def _version(self):
		with open(os.path.join(self.data, "PG_VERSION"), encoding="ascii") as f:
			return int(f.read())

	def dropdb(self, name):
		"""Drop a database, ending its connections."""
		self.psql('DROP DATABASE IF EXISTS "%s" WITH (FORCE)' % name)

	def explain(self, sql, db="postgres", setup="", analyze=False):
		"""The root node of the plan of `sql`, as EXPLAIN's JSON gives it. `setup`: statements run before it on the same connection. The work of an
		analyzed statement is rolled back."""
		options = "FORMAT JSON, ANALYZE, BUFFERS" if analyze else "FORMAT JSON"
		rows = self.psql("BEGIN; %s; EXPLAIN (%s) %s; ROLLBACK" % (setup, options, sql), db=db)
		return json.loads(rows[-1][0])[0]["Plan"]


def plan_nodes(plan):
	"""Every node of a plan, the root first."""
	yield plan
	for child in plan.get("Plans", []):
		yield from plan_nodes(child)


if __name__ == "__main__" and sys.argv[1:2] == ["--guard"]:
	_guard_main(sys.argv[2])

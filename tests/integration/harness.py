"""Daemons, workers and databases for the integration and the fault tests. Standard library only, with the Python client of this tree.

	class Something(harness.Case):
		def test_it(self):
			db = self.database()                         # migrated, empty, of this test alone
			daemon = self.daemon(db)                     # running, its database up
			self.apply(daemon, template("pair", [step("a"), step("b", after=["a"])]))
			self.python_worker(daemon)                   # runs handlers/flows.py
			task = self.create(daemon, "pair")
			self.assertEqual(self.finished(daemon, task).state, "complete")
			self.verify(db)                              # doctor, and the ledger against what was recorded

Everything made through a Case is ended when its test ends, each process by its pid; children also end with the test process, however that ends. The
last lines of every log are shown when a test fails. Nothing sleeps: wait_for() asks for a condition until it holds.

The build directory is TASKERD_BUILD; without it the tests are skipped. TASKERD_RUN_PREFIX is put before the daemon's command line, TASKERD_TEST_PATIENCE
(seconds, 300) bounds how long a broken test hangs.
"""
import collections
import contextlib
import functools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PYTHON_CLIENT = os.path.join(ROOT, "clients", "python", "src")
for _path in (HERE, PYTHON_CLIENT):
	if _path not in sys.path:
		sys.path.insert(0, _path)

import pg  # noqa: E402
from taskerd import TaskerClient  # noqa: E402
from taskerd.exceptions import TaskerdError  # noqa: E402

PYTHON = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
HANDLERS = os.path.join(HERE, "handlers")
PATIENCE = float(os.environ.get("TASKERD_TEST_PATIENCE", "300"))
SETTLED = ("complete", "error", "cancelled", "resolved_manually", "blocked_by_failures")
HOUR_MS = 3600 * 1000  # an interval that no test waits for
LOG_LINES = 40  # shown of each log when a test fails


def wait_for(condition, what, timeout=None):
	"""Ask `condition` until it is true, and return its value; AssertionError naming `what` (a string, or a function that makes one) when patience ends."""
	try:
		return pg.wait_for(condition, what if isinstance(what, str) else "", PATIENCE if timeout is None else timeout)
	except AssertionError:
		if isinstance(what, str):
			raise
		raise AssertionError("waited in vain: " + what()) from None


def ask_doctor(client):
	"""What doctor says, when no call to the database takes longer than the short lease of a test: one that hangs for good is a failure."""
	answer = client.doctor()
	free = lambda: all(c["ok"] for c in answer["checks"] if c["name"] == "database_calls")  # noqa: E731
	wait_for(lambda: free() or answer.update(client.doctor()), lambda: "no call to hang: %s" % answer["checks"])
	return answer


def program(*path):
	"""A program of the build; skips the test if there is none."""
	build = os.environ.get("TASKERD_BUILD")
	if not build:
		raise unittest.SkipTest("TASKERD_BUILD does not name a build directory")
	found = os.path.join(os.path.abspath(build), *path)
	if not os.access(found, os.X_OK):
		raise unittest.SkipTest("%s is not there" % found)
	return found


def taskerd_program():
	return program("daemon", "taskerd")


# Templates --------------------------------------------------------------------------------------------------------------


def step(name, handler="t.ok", after=(), attempts=3, backoff="none", base_ms=10, max_ms=1000, retryable=True, timeout=None, method=None, **config):
	"""A step of a template. Further arguments are the handler's initialization."""
	made = {"name": name, "handler": {"callable": handler, "initialization": config}, "dependencies": list(after),
	        "retry": {"retryable": retryable, "max_attempts": attempts, "backoff": backoff, "backoff_base_ms": base_ms, "max_backoff_ms": max_ms}}
	if method:
		made["handler"]["method"] = method
	if timeout is not None:
		made["timeout_seconds"] = timeout
	return made


def template(name, steps, namespace="t", version="1.0.0", **fields):
	"""The source of a template."""
	return json.dumps({"name": name, "namespace_name": namespace, "version": version, "steps": steps, **fields})


@functools.lru_cache(maxsize=None)
def _format():
	"""What holds a template against contrib/schema; None without python3-jsonschema."""
	try:
		import jsonschema  # pylint: disable=import-outside-toplevel
	except ImportError:
		return None
	with open(os.path.join(ROOT, "contrib", "schema", "taskerd-template.schema.json"), encoding="utf-8") as f:
		return jsonschema.Draft202012Validator(json.load(f))


def _check_definitions(db):
	"""What is registered fits the JSON Schema of the template format."""
	if _format():
		for name, definition in db.sql("SELECT name, definition FROM tasker.templates WHERE n_steps < 100 ORDER BY template_id LIMIT 40"):
			_check.assertEqual([e.message for e in _format().iter_errors(json.loads(definition))], [], name)


# Processes --------------------------------------------------------------------------------------------------------------


class Process:
	"""A child in the background with its output in a file. It is killed when the test process ends."""

	def __init__(self, name, argv, log, env=None):
		self.name, self.log = name, log
		self.status = None
		guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
		clean = {k: v for k, v in os.environ.items() if not k.startswith(("TASKERD_", "TASKER_", "PG")) and k != "DATABASE_URL"}
		with open(log, "ab") as out:
			self._child = subprocess.Popen(guard + [str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/",
			                               start_new_session=True, env={**clean, **(env or {})})

	@property
	def pid(self):
		return self._child.pid

	def alive(self):
		return self._child.poll() is None

	def signal(self, number):
		self._child.send_signal(number)

	def freeze(self):
		"""SIGSTOP, seen to have had its effect; false if the process was about to end and has."""
		self.signal(signal.SIGSTOP)
		wait_for(lambda: not self.alive() or self._stat() == "T", "%s to stand still" % self.name)
		return self.alive()

	def thaw(self):
		self.signal(signal.SIGCONT)

	def _stat(self):
		with open("/proc/%d/stat" % self.pid, encoding="utf-8", errors="replace") as f:
			return f.read().rpartition(")")[2].split()[0]

	def kill(self):
		"""SIGKILL, and wait for the end."""
		self._child.kill()
		self._child.wait()

	def wait(self, timeout=None):
		"""Wait for the end by itself; the exit status (negative: the signal)."""
		try:
			return self._child.wait(PATIENCE if timeout is None else timeout)
		except subprocess.TimeoutExpired:
			raise AssertionError("%s does not end:\n%s" % (self.name, self.last_words())) from None

	def stop(self, timeout=None):
		"""SIGTERM, and wait for the end; the exit status."""
		self.signal(signal.SIGTERM)
		return self.wait(timeout)

	def log_text(self):
		with open(self.log, encoding="utf-8", errors="replace") as f:
			return f.read()

	def last_words(self):
		return "\n".join(self.log_text().splitlines()[-LOG_LINES:])


class Daemon:
	"""A taskerd, to be started, stopped, killed and started again. Options are keyword arguments: lease_ttl_ms=2000."""

	def __init__(self, stage, name, database=None, embedded=None, socket=None, **options):
		self.stage, self.name, self.embedded = stage, name, embedded
		self.socket = socket or os.path.join(stage.place, name + ".sock")
		self.log = os.path.join(stage.place, name + ".log")
		self.process = None
		self._client = None
		where = "--embedded=" + embedded if embedded else "--database=" + database
		self.argv = shlex.split(os.environ.get("TASKERD_RUN_PREFIX", "")) + [
			taskerd_program(), where, "--socket=" + self.socket, "--node-name=" + name]
		self.argv += ["--%s=%s" % (k.replace("_", "-"), v) for k, v in options.items()]

	@property
	def pid(self):
		return self.process.pid

	environment = {}  # of the process, besides ours

	def launch(self):
		"""Start the process without waiting for anything."""
		self.process = self.stage.track(Process(self.name, self.argv, self.log, self.environment))
		return self.process

	def start(self):
		"""Start, and wait until it has its database."""
		self.launch()
		self.wait_up()
		return self

	def wait_up(self):
		wait_for(self._up, lambda: "%s to have its database; its log:\n%s" % (self.name, self.process.last_words()))

	def _up(self):
		if not self.process.alive():
			raise AssertionError("%s ended with %s:\n%s" % (self.name, self.process.wait(), self.process.last_words()))
		return self.database_state() == "up"

	def info(self):
		"""server.info, or None if the daemon does not answer."""
		try:
			with TaskerClient(socket=self.socket, connect_timeout=0, timeout=30) as client:
				return client.server_info()
		except TaskerdError:
			return None

	def database_state(self):
		info = self.info()
		return info and info["database"]["state"]

	@property
	def client(self):
		"""A client of this daemon, kept; it reconnects by itself."""
		if self._client is None:
			self._client = self.new_client()
		return self._client

	def new_client(self, **options):
		options.setdefault("timeout", PATIENCE)
		client = TaskerClient(socket=self.socket, **options)
		self.stage.at_end(client.close)
		return client

	def kill(self):
		self.process.kill()

	def stop(self):
		"""SIGTERM; the exit status."""
		return self.process.stop()

	def log_text(self):
		return self.process.log_text()


class Worker(Process):
	"""A worker process of either language."""

	def wait_listed(self, daemon):
		"""Until the daemon has taken it on."""
		wait_for(lambda: self._listed(daemon), lambda: "%s to be connected; its log:\n%s" % (self.name, self.last_words()))

	def _listed(self, daemon):
		if not self.alive():
			raise AssertionError("%s ended with %s:\n%s" % (self.name, self.wait(), self.last_words()))
		return self.row(daemon)

	def row(self, daemon):
		"""Its row of worker.list, or None."""
		try:
			rows = daemon.client.list_workers()
		except TaskerdError:
			return None
		found = [r for r in rows if r["pid"] == self.pid and "open" in r]
		return found[-1] if found else None

	def counters(self):
		"""What a Python worker that has ended says it did."""
		for line in reversed(self.log_text().splitlines()):
			before, mark, after = line.partition("the worker has ended; ")
			if mark:
				return json.loads(after.replace("'", '"'))
		raise AssertionError("no last word in\n" + self.last_words())


class Waiting:
	"""A client that waits for a task in a thread of its own; made when the daemon has its question. `ask` puts it in another way."""

	def __init__(self, daemon, task, timeout=None, ask=None):
		self._client, self._results = daemon.new_client(), []
		self._timeout = PATIENCE if timeout is None else timeout
		self._ask = ask or (lambda client, limit: client.wait(task, limit))
		before = daemon.info()["counters"]["queries"]
		self._thread = threading.Thread(target=self._wait, daemon=True)
		self._thread.start()
		wait_for(lambda: daemon.info()["counters"]["queries"] > before, "the question to arrive")

	def _wait(self):
		try:
			self._results.append(self._ask(self._client, self._timeout))
		except TaskerdError:
			pass  # closed meanwhile

	def result(self, timeout=PATIENCE):
		self._thread.join(timeout)
		if not self._results:
			raise AssertionError("who waits for the task was not told that it is settled")
		return self._results[0]

	def answered(self):
		return bool(self._results)

	def leave(self):
		self._client.close()


# What handlers leave behind -----------------------------------------------------------------------------------------------

Execution = collections.namedtuple("Execution", "task step attempt pid")


class Ledger:
	"""One line for each execution of a handler, appended when it begins: task, step, attempt, process. Notes are what handlers saw besides."""

	def __init__(self, directory):
		self.path = os.path.join(directory, "ledger")
		self.notes_path = os.path.join(directory, "notes")
		self.gates = os.path.join(directory, "gates")
		os.mkdir(self.gates)
		for path in (self.path, self.notes_path):
			open(path, "wb").close()

	def env(self):
		return {"TASKERD_TEST_LEDGER": self.path, "TASKERD_TEST_NOTES": self.notes_path, "TASKERD_TEST_GATES": self.gates}

	def lines(self, step=None):
		with open(self.path, encoding="ascii") as f:
			rows = [line.split() for line in f.read().splitlines()]
		return [Execution(t, s, int(a), int(p)) for t, s, a, p in rows if step in (None, s)]

	def __len__(self):
		with open(self.path, "rb") as f:
			return f.read().count(b"\n")

	def notes(self, event=None):
		with open(self.notes_path, encoding="utf-8") as f:
			rows = [json.loads(line) for line in f]
		return [r for r in rows if event in (None, r["event"])]

	def open_gate(self, name):
		"""Let handlers go on that wait at this gate, now and later."""
		open(os.path.join(self.gates, name), "wb").close()

	def wait_lines(self, n, step=None):
		"""Until n executions (of a step) have begun."""
		wait_for(lambda: len(self.lines(step)) >= n, lambda: "%d executions; there are %d" % (n, len(self.lines(step))))


# Databases --------------------------------------------------------------------------------------------------------------

TEMPLATE_DB = "tasker_template"


def migrate(database):
	"""taskerd --migrate; the finished process."""
	prefix = shlex.split(os.environ.get("TASKERD_RUN_PREFIX", ""))
	return subprocess.run(prefix + [taskerd_program(), "--database=" + database, "--migrate"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
	                      text=True, timeout=PATIENCE)


def new_cluster(make=pg.PgCluster, **settings):
	"""A cluster with a migrated database to copy from."""
	made = make(settings={"max_connections": 200, **settings})
	try:
		_put_template(made)
	except BaseException:
		made.close()
		raise
	return made


def _put_template(cluster):
	cluster.createdb(TEMPLATE_DB)
	done = migrate(cluster.conninfo(TEMPLATE_DB))
	if done.returncode != 0:
		raise AssertionError("--migrate: " + done.stdout)


@functools.lru_cache(maxsize=None)
def _shared_cluster():
	made = pg.PgCluster(settings={"max_connections": 200}, kept_as="migrated")
	try:
		if not made.was_kept:
			_put_template(made)
			made.stop()
			made.keep_as("migrated")
			made.start()
	except BaseException:
		made.close()
		raise
	return made


def shared_cluster():
	"""The cluster of this test process, running."""
	made = _shared_cluster()
	if made.postmaster is None or made.postmaster.poll() is not None:
		made.kill()
		made.start()
	return made


class Database:
	"""A database on a cluster, and questions to it."""

	def __init__(self, cluster, name):
		self.cluster, self.name = cluster, name
		self.uri = cluster.conninfo(name)
		self._session = None

	def sql(self, statement):
		"""Rows as lists of strings and None. Raises pg.PgError, also while the server is away."""
		if self._session is None:
			self._session = self.cluster.session(self.name)
		try:
			return self._session.run(statement)
		except (pg.PgError, AssertionError) as e:
			if not isinstance(e, pg.PgError) or e.sqlstate[:2] in ("", "00", "08", "57"):
				self.close()
			raise

	def value(self, statement):
		rows = self.sql(statement)
		if len(rows) != 1:
			raise AssertionError("%d rows, not one: %s" % (len(rows), statement))
		return rows[0][0]

	def number(self, statement):
		return int(self.value(statement))

	def unsettled(self):
		"""How many tasks may still move by themselves; None if the server does not answer."""
		try:
			return self.number("SELECT count(*) FROM tasker.tasks WHERE state NOT IN ('%s')" % "', '".join(SETTLED))
		except pg.PgError:
			return None

	def unsettled_of(self, namespace):
		"""The same of one namespace."""
		try:
			return self.number("SELECT count(*) FROM tasker.tasks t JOIN tasker.templates USING (template_id) JOIN tasker.namespaces n USING (namespace_id) WHERE n.name = '%s' "
			                   "AND t.state NOT IN ('%s')" % (namespace, "', '".join(SETTLED)))
		except pg.PgError:
			return None

	def wait_settled(self, timeout=None):
		"""Until no task can move by itself."""
		wait_for(lambda: self.unsettled() == 0, lambda: "all tasks to settle; open: %s" % self.sql(
			"SELECT t.state, s.state, count(*) FROM tasker.tasks t JOIN tasker.steps s USING (task_id) "
			"WHERE t.state NOT IN ('%s') GROUP BY 1, 2" % "', '".join(SETTLED)), timeout)

	def attempts(self, *outcomes):
		"""(task, step, attempt, outcome, node, error message) of the attempts recorded, of these outcomes if any are named. What the C worker's own
		handlers did is left out: they keep no ledger."""
		where = "WHERE ts.handler ->> 'callable' NOT LIKE 'bench.%%' %s" % ("AND a.outcome IN ('%s')" % "', '".join(outcomes) if outcomes else "")
		rows = self.sql("SELECT t.task_uuid, tasker.step_name(ts.name, s.step_no, s.template_no, s.inputs), a.attempt, a.outcome, n.node_name, a.error ->> 'message' FROM tasker.step_attempts a "
		                "JOIN tasker.tasks t USING (task_id) JOIN tasker.steps s USING (task_id, step_no) "
		                "JOIN tasker.template_steps ts ON ts.template_id = t.template_id AND ts.step_no = s.template_no "
		                "LEFT JOIN tasker.nodes n ON n.node_no = a.node_no %s ORDER BY a.recorded_at, a.task_id, a.step_no, a.fence" % where)
		return [(t, s, int(n), o, node, why) for t, s, n, o, node, why in rows]

	def close(self):
		if self._session is not None:
			self._session.close()
			self._session = None


def _shut_down(data):
	"""Have the server of a data directory, if one runs, end by itself: killed it would leave shared memory behind."""
	try:
		with open(os.path.join(data, "postmaster.pid"), encoding="ascii") as f:
			pid = int(f.readline())
		if os.readlink("/proc/%d/cwd" % pid) != data:
			return
		os.kill(pid, signal.SIGQUIT)
		wait_for(lambda: not os.path.exists("/proc/%d/cwd" % pid) or not os.path.exists(os.path.join(data, "postmaster.pid")), "the embedded server to end", 10)
	except (OSError, ValueError, AssertionError):
		pass  # there is none, or the guard ends it


# Test cases -------------------------------------------------------------------------------------------------------------


class Stage:
	"""A directory with databases, daemons and workers in it, between begin() and end()."""

	def begin(self, name):
		self._name, self._databases = re.sub(r"\W", "_", name)[:40].lower(), 0
		self._tracked, self._logs = [], {}
		self._closing = contextlib.ExitStack()
		self.place = tempfile.mkdtemp(prefix="tsk-" + os.environ.get("TASKERD_TEST_RUN", ""), dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
		os.chmod(self.place, 0o711)  # a PostgreSQL run by root is another user, and has to pass
		self._closing.callback(shutil.rmtree, self.place, True)
		self._closing.callback(self._end_processes)
		self.ledger = Ledger(self.place)

	def end(self):
		"""End and remove everything, newest first."""
		self._closing.close()

	def at_end(self, function, *args):
		self._closing.callback(function, *args)

	def track(self, process):
		self._tracked.append(process)
		return process

	def _end_processes(self):
		self._logs = self.last_words()
		for process in reversed(self._tracked):
			if process.alive():
				process.kill()

	def last_words(self):
		"""The end of every log, by name."""
		return self._logs or {p.name: p.last_words() for p in self._tracked}

	# -- databases and daemons ---------------------------------------------------------------------

	def database(self, cluster=None, migrated=True):
		"""A new database."""
		cluster = cluster or shared_cluster()
		self._databases += 1
		name = "%s_%d_%d" % (self._name, os.getpid(), self._databases)
		cluster.createdb(name, template=TEMPLATE_DB if migrated else "template0")
		made = Database(cluster, name)
		self.at_end(self._drop, made)
		return made

	@staticmethod
	def _drop(database):
		database.close()
		try:
			database.cluster.dropdb(database.name)
		except pg.PgError:
			pass  # it goes with its cluster

	def daemon(self, database, name="node-a", start=True, **options):
		"""A daemon on a Database. It polls for what notifications have not brought only once an hour, so that a lost hint is seen."""
		options.setdefault("poll_interval_ms", HOUR_MS)
		made = Daemon(self, name, database=database.uri, **options)
		return made.start() if start else made

	def embedded_dir(self, name="embedded"):
		"""A directory for --embedded, whose server ends with the test."""
		path = os.path.join(self.place, name)
		guard = subprocess.Popen([sys.executable, "-E", "-S", os.path.abspath(pg.__file__), "--guard", path], stdin=subprocess.PIPE,
		                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd="/")

		def end():
			self._end_processes()  # a daemon would start its server again
			_shut_down(os.path.join(path, "data"))
			guard.stdin.close()
			guard.wait()
		self.at_end(end)
		return path

	# -- workers -----------------------------------------------------------------------------------

	def python_worker(self, daemon, name="py", threads=4, prefetch=None, namespaces=(), module="flows.py", env=None, wait=True, socket=None):
		"""A worker in Python with the handlers of handlers/`module`."""
		argv = [PYTHON, "-m", "taskerd", "worker", os.path.join(HANDLERS, module), "--socket", socket or daemon.socket, "--threads", threads, "--name", name]
		if prefetch is not None:
			argv += ["--prefetch", prefetch]
		for namespace in namespaces:
			argv += ["--namespace", namespace]
		worker = self.track(Worker(name, argv, os.path.join(self.place, name + ".log"),
		                           {"PYTHONPATH": PYTHON_CLIENT, "TASKERD_TEST_WHO": name, **self.ledger.env(), **(env or {})}))
		if wait and socket is None:
			worker.wait_listed(daemon)
		return worker

	def c_worker(self, daemon, name="c", handlers=(), namespaces=(), concurrency=50, wait=True):
		"""A worker in C: bench.noop, bench.echo, bench.fail, bench.flaky, and `handlers`, which do nothing."""
		argv = [program("tests", "bench", "bench_worker"), "--socket", daemon.socket, "--name", name, "--concurrency", concurrency]
		for namespace in namespaces:
			argv += ["--namespace", namespace]
		for handler in handlers:
			argv += ["--handler", handler]
		worker = self.track(Worker(name, argv, os.path.join(self.place, name + ".log")))
		if wait:
			worker.wait_listed(daemon)
		return worker

	# -- tasks -------------------------------------------------------------------------------------

	def apply(self, daemon, source):
		return daemon.client.apply_template(source)

	def create(self, daemon, name, context=None, namespace="t", **more):
		"""Create a task; its uuid."""
		return daemon.client.create_task(name, namespace=namespace, context=context or {}, **more).task_uuid

	def create_many(self, daemon, name, n, namespace="t", **more):
		"""Create n tasks with contexts {"n": 0} to {"n": n - 1}; their uuids."""
		outcomes = daemon.client.create_tasks({"name": name, "namespace": namespace, "context": {"n": i}, **more} for i in range(n))
		bad = [o.error for o in outcomes if not o.ok]
		_check.assertEqual(bad, [])
		return [o.task_uuid for o in outcomes]

	def finished(self, daemon, task, timeout=None):
		"""The task with its steps, once it is settled."""
		return daemon.client.wait_for_task(task, PATIENCE if timeout is None else timeout)

	def step_state(self, daemon, task, name):
		return daemon.client.get_step(task, name).state

	def wait_step(self, daemon, task, name, state):
		wait_for(lambda: self.step_state(daemon, task, name) == state, lambda: "step %s to be %s; it is %s" % (name, state, self.step_state(daemon, task, name)))

	# -- judgement ---------------------------------------------------------------------------------

	def doctor(self, daemon):
		"""The daemon's own proof that nothing is stranded."""
		answer = ask_doctor(daemon.client)
		_check.assertTrue(answer["ok"], [c for c in answer["checks"] if not c["ok"]])

	def verify(self, db, daemon=None):
		"""Hold what was recorded against what was executed:

		every complete step has one success, which was executed; a step was executed at most as often as it was claimed; so what no fault touched ran once.
		"""
		if daemon:
			self.doctor(daemon)
		_check_definitions(db)
		ran = collections.Counter((e.task, e.step) for e in self.ledger.lines())
		ran_attempt = {(e.task, e.step, e.attempt) for e in self.ledger.lines()}
		claims, successes = collections.Counter(), collections.Counter()
		for task, name, attempt, outcome, _, _ in db.attempts():
			claims[task, name] += 1
			if outcome == "success":
				successes[task, name] += 1
				_check.assertIn((task, name, attempt), ran_attempt, "recorded, but never executed")
		complete = {tuple(r) for r in db.sql(
			"SELECT t.task_uuid, tasker.step_name(ts.name, s.step_no, s.template_no, s.inputs) FROM tasker.steps s JOIN tasker.tasks t USING (task_id) JOIN tasker.template_steps ts "
			"ON ts.template_id = t.template_id AND ts.step_no = s.template_no WHERE s.state = 'complete' AND NOT EXISTS (SELECT 1 FROM tasker.operator_actions o "
			"WHERE o.task_id = s.task_id AND o.step_no = s.step_no AND o.action = 'step.complete_manually') AND ts.handler ->> 'callable' NOT LIKE 'bench.%'")}
		_check.assertEqual(set(successes), complete, "complete steps are those with a recorded success")
		_check.assertEqual({k: n for k, n in successes.items() if n != 1}, {}, "recorded more than once")
		_check.assertEqual({k: (n, claims[k]) for k, n in ran.items() if n > claims[k]}, {}, "executed more often than claimed: (times, claims)")


_check = unittest.TestCase()


class Case(Stage, unittest.TestCase):
	"""A test on a stage of its own."""

	longMessage = True
	shared = None  # the stage of the class, if it has one

	def setUp(self):
		super().setUp()
		self.begin(self._testMethodName)
		self.addCleanup(self.end)

	def run(self, result=None):
		self._tracked, self._logs = [], {}
		bad = lambda: len(result.failures) + len(result.errors) if result is not None else 0  # noqa: E731
		before = bad()
		outcome = super().run(result)
		if bad() > before:
			_show(self)
			_show(self.shared)
		return outcome


class SharedCase(Case):
	"""Tests that get on with each other on one stage, `shared`, with a daemon, its database and a Python worker; prepare() may put on it what it likes.
	In the end all that was executed on it is verified."""

	@classmethod
	def setUpClass(cls):
		super().setUpClass()
		cls.shared = Stage()
		cls.shared.begin(cls.__name__)
		cls.addClassCleanup(cls.shared.end)
		try:
			cls.prepare(cls.shared)
		except BaseException:
			_show(cls.shared)
			raise

	@classmethod
	def prepare(cls, stage):
		stage.db = stage.database()
		stage.node = stage.daemon(stage.db)
		stage.worker = stage.python_worker(stage.node)

	@classmethod
	def tearDownClass(cls):
		try:
			cls.shared.verify(cls.shared.db, cls.shared.node)
		finally:
			super().tearDownClass()

	def setUp(self):
		unittest.TestCase.setUp(self)
		self.node, self.db, self.ledger = self.shared.node, self.shared.db, self.shared.ledger


def _show(stage):
	for name, text in stage.last_words().items() if stage else ():
		print("    | --- %s, the end of its log\n%s" % (name, "\n".join("    | " + line for line in text.splitlines())), file=sys.stderr)

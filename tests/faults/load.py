"""What goes on while faults strike: workers in every language, and tasks that are made, paused and cancelled, each until it has been acknowledged."""
import collections
import json
import os
import queue
import random
import shutil
import subprocess
import threading

from fault import harness
from harness import pg
from taskerd.exceptions import ConflictError, NotFoundError, TaskerdError
from workflows import Workflow


def _python(stage, name, socket):
	return stage.python_worker(None, name=name, threads=3, module="play.py", wait=False, socket=socket)


def _c(stage, name, socket):
	argv = [harness.program("tests", "faults", "play_worker"), socket, name, "4"]
	return stage.track(harness.Worker(name, argv, os.path.join(stage.place, name + ".log"), stage.ledger.env()))


def _ruby(stage, name, socket):
	argv = [shutil.which("ruby"), os.path.join(harness.ROOT, "clients", "ruby", "exe", "taskerd-ruby-worker"), os.path.join(harness.HANDLERS, "play.rb"),
	        "--socket", socket, "--name", name, "--threads", "3", "--namespace", "t"]
	return stage.track(harness.Worker(name, argv, os.path.join(stage.place, name + ".log"), stage.ledger.env()))


TYPESCRIPT = os.environ.get("TASKERD_TYPESCRIPT") or os.path.join(harness.ROOT, "build-test", "typescript")  # the client, built


def _typescript(stage, name, socket):
	"""Node, with the package and the handler in one directory, so that the handler finds it by its name."""
	place = os.path.join(stage.place, "node")
	if not os.path.exists(place):
		os.makedirs(os.path.join(place, "node_modules"))
		os.symlink(TYPESCRIPT, os.path.join(place, "node_modules", "taskerd"))
		shutil.copy(os.path.join(harness.HANDLERS, "play.ts"), place)
	argv = [shutil.which("node"), os.path.join(TYPESCRIPT, "dist", "cli.js"), "worker", os.path.join(place, "play.ts"), "--socket", socket, "--name", name, "--threads", "3", "--namespace", "t"]
	return stage.track(harness.Worker(name, argv, os.path.join(stage.place, name + ".log"), stage.ledger.env()))


RUST = os.path.join(os.environ.get("TASKERD_RUST") or os.path.join(harness.ROOT, "build-test", "rust-target", "release"), "examples", "play")  # built by cargo


def _rust(stage, name, socket):
	argv = [RUST, "--socket", socket, "--name", name, "--threads", "3", "--namespace", "t"]
	return stage.track(harness.Worker(name, argv, os.path.join(stage.place, name + ".log"), stage.ledger.env()))


WASM_PYTHON = os.environ.get("TASKERD_WASM_PYTHON") or os.path.join(harness.ROOT, "build-test", "wasm-venv", "bin", "python")  # made by the suite of WASM handlers


def _wasm(stage, name, socket):
	argv = [WASM_PYTHON, os.path.join(os.path.dirname(os.path.abspath(__file__)), "play_wasm.py"), harness.program("tests", "faults", "play.wasm"),
	        "--socket", socket, "--name", name, "--threads", "3", "--namespace", "t"]
	return stage.track(harness.Worker(name, argv, os.path.join(stage.place, name + ".log"), {"PYTHONPATH": harness.PYTHON_CLIENT, **stage.ledger.env()}))


def _has_wasm():
	return os.path.exists(WASM_PYTHON) and os.path.exists(os.path.join(os.environ.get("TASKERD_BUILD", ""), "tests", "faults", "play.wasm"))


def _has_ruby():
	return bool(shutil.which("ruby")) and subprocess.run(["ruby", "-e", "require 'msgpack'"], stderr=subprocess.DEVNULL, check=False).returncode == 0


def _has_typescript():
	return bool(shutil.which("node")) and os.path.exists(os.path.join(TYPESCRIPT, "dist", "cli.js"))


# A language is a row here: how a worker is started that has t.play (as integration/handlers/play.py), and whether it can be.
ALL_LANGUAGES = {"python": (_python, lambda: True), "c": (_c, lambda: True), "ruby": (_ruby, _has_ruby), "typescript": (_typescript, _has_typescript),
                 "rust": (_rust, lambda: os.path.exists(RUST)), "wasm": (_wasm, _has_wasm)}


def languages():
	"""Those that can be run here."""
	return [name for name, (_, there) in ALL_LANGUAGES.items() if there()]


RETRIED_S = 10  # of one request: then another node is asked


class Work:
	"""One task to be made."""

	def __init__(self, number, workflow, way):
		self.key, self.workflow, self.way = "campaign-%d" % number, workflow, way
		self.task = None  # once acknowledged

	def source(self):
		"""The workflow's template; every third workflow has steps that publish an event at each end of an attempt."""
		source = json.loads(self.workflow.source())
		for step in source["steps"][::2] if self.workflow.seed % 3 == 0 else ():
			step["publishes_events"] = [{"name": "campaign.ended", "condition": "always", "delivery_mode": "durable", "schema": True}]
		return json.dumps(source)


class Feeder(threading.Thread):
	"""Makes tasks and does what operators do to some, in a thread of its own, since each request is repeated until it is answered."""

	def __init__(self, stage, seed):
		super().__init__(daemon=True)
		self.stage, self.random, self.seed = stage, random.Random("feeder %s" % seed), seed
		self.made, self.jobs, self.error, self.ended = [], queue.Queue(), None, False
		self.cancelled, self.paused = set(), set()
		self.repeats = 0  # of requests that were not answered
		self.job, self.refusals = None, collections.Counter()  # what is being done, and what its repeats were told
		self._session = None

	def ask(self, n):
		"""n tasks more, and now and then an operator."""
		for _ in range(n):
			number = len(self.made)
			way = self.random.choice(("socket",) * 7 + ("sql", "later", "bulk"))
			work = Work(number, Workflow(int("%s%05d" % (self.seed, number)), dynamic=self.random.randrange(3) > 0, faults=True), way)
			self.made.append(work)
			self.jobs.put((self.make, work))
		if self.random.randrange(2):
			self.jobs.put((self.random.choice((self.pause, self.cancel)), self.random.choice(self.made)))

	@property
	def idle(self):
		return self.jobs.unfinished_tasks == 0

	def run(self):
		while not self.ended:
			job, work = self.jobs.get()
			self.job, self.refusals = "%s of %s" % (job.__name__, work and work.key), collections.Counter()
			try:
				job(work)
			except BaseException as e:  # noqa: B902: told in the main thread
				self.error = e
				return
			finally:
				self.jobs.task_done()

	def until_answered(self, ask):
		"""ask(client) by one node after the other until it is answered."""
		while not self.ended:
			node = self.random.choice(self.stage.nodes)
			try:
				with harness.TaskerClient(socket=node.socket, connect_timeout=1, timeout=RETRIED_S) as client:
					return ask(client)
			except (ConflictError, NotFoundError):
				raise
			except (TaskerdError, OSError) as e:
				if not self.may_repeat(e):
					raise
				self.repeat_after(e, node.name)

	def repeat_after(self, error, who):
		self.repeats += 1
		self.refusals["%s: %s: %s" % (who, type(error).__name__, str(error)[:200])] += 1
		self.stage.breathe()

	def testimony(self):
		return "the feeder is at %s, and has been told so far:\n%s" % (self.job, "\n".join("%6d %s" % (n, said) for said, n in self.refusals.most_common(20)))

	@staticmethod
	def may_repeat(error):
		return not isinstance(error, TaskerdError) or error.retryable or error.code in ("connection_lost", "timeout", "unreachable", "database_unavailable", "overloaded", "shutting_down", "internal")

	def make(self, work):
		self.until_answered(lambda client: client.apply_template(work.source()))
		item = {"name": work.workflow.name, "namespace": "t", "context": work.workflow.context(), "idempotency_key": work.key}
		if work.way in ("sql", "later"):
			work.task = self.by_sql(item, work.way == "later")
		elif work.way == "bulk":
			work.task = self.until_answered(lambda client: self.only(client.create_tasks([item])))
		else:
			work.task = self.until_answered(lambda client: client.create_task(**item)).task_uuid

	@staticmethod
	def only(outcomes):
		if outcomes[0].ok:
			return outcomes[0].task_uuid
		raise outcomes[0].error

	def by_sql(self, item, later):
		"""As an application does, in its own transaction; a commit whose answer is lost is repeated with the same key."""
		run_at = ", run_at => now() + interval '500 ms'" if later else ""
		statement = "SELECT tasker.create_task(%s, namespace => 't', context => %s, idempotency_key => %s%s)" % (
			pg.lit(item["name"]), pg.lit(item["context"]), pg.lit(item["idempotency_key"]), run_at)
		while not self.ended:
			try:
				if self._session is None:
					self._session = self.stage.pair.primary.session(self.stage.db.name)
				return self._session.run(statement, 30)[0][0]
			except (pg.PgError, AssertionError, OSError) as e:
				if isinstance(e, pg.PgError) and e.sqlstate[:2] in ("22", "42", "TK"):
					raise
				self.forget_session()
				self.repeat_after(e, "PostgreSQL")

	def forget_session(self):
		if self._session is not None:
			self._session.close()
			self._session = None

	def act(self, work, action):
		params = {"action": action, "reason": "campaign", "task_uuid": work.task}
		try:
			self.until_answered(lambda client: client.request("task.action", params))
			return True
		except (ConflictError, NotFoundError):
			return False  # it has gone on meanwhile

	def cancel(self, work):
		if work.task:
			self.cancelled.add(work.task)
			self.act(work, "cancel")

	def pause(self, work):
		if work.task and work.task not in self.cancelled:
			self.paused.add(work.task)
			self.act(work, "pause")
			self.jobs.put((self.resume, work))

	def resume(self, work):
		self.act(work, "resume")

	def end(self):
		self.ended = True
		self.jobs.put((lambda _: None, None))
		self.join(60)
		self.forget_session()


class Crew:
	"""Workers of a node, each kept alive as a service manager would."""

	def __init__(self, stage, node, languages):
		self.stage, self.node, self.languages, self.hired, self.workers = stage, node, languages, 0, []
		for i, language in enumerate(languages):
			self.workers.append(self.hire(language, i % 2 == 1))

	def hire(self, language, through_proxy):
		self.hired += 1
		worker = ALL_LANGUAGES[language][0](self.stage, "%s-%s%d" % (self.node.name, language, self.hired), self.node.relay.path if through_proxy else self.node.socket)
		worker.language, worker.through_proxy = language, through_proxy
		return worker

	def tend(self):
		self.workers = [w if w.alive() else self.hire(w.language, w.through_proxy) for w in self.workers]

	def dismiss(self):
		"""All end as they should."""
		for w in self.workers:
			if w.alive():
				w.stop()
		self.workers = []


__all__ = ["Crew", "Feeder", "languages"]

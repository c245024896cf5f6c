"""Scenarios with a real taskerd."""
import collections
import json
import os
import re
import signal

from harness import wait_for
from taskerd.exceptions import TooLargeError

from . import stage as st
from .patterns import misfit
from .tap import Tap

SHARED = "conf_shared"
STEP_KEYS = {"config", "method", "handler", "after", "attempts", "base_ms", "timeout", "resolver"}


def template_source(name, namespace, scenario):
	"""The template of a scenario: short forms of a step made long, all else as it stands."""
	made = {"name": name, "namespace_name": namespace, "version": "1.0.0", **scenario.get("template", {})}
	made["steps"] = [_step(s) for s in scenario["steps"]]
	return json.dumps(made)


def _step(short):
	handler = {"callable": short["handler"], "initialization": short.get("config", {})}
	handler.update({k: short[k] for k in ("method", "resolver") if k in short})
	made = {"name": short["name"], "handler": handler, "dependencies": short.get("after", []),
	        "retry": {"retryable": True, "max_attempts": short.get("attempts", 3), "backoff": "none", "backoff_base_ms": short.get("base_ms", 10), "max_backoff_ms": 1000}}
	if "timeout" in short:
		made["timeout_seconds"] = short["timeout"]
	return {**made, **{k: v for k, v in short.items() if k not in STEP_KEYS}}


class Ground:
	"""What the scenarios of one client share: a daemon and a worker on it, and a second daemon that may be killed."""

	def __init__(self, adapter):
		self.stage = st.Stage(adapter)
		self.stage.begin("conf-" + adapter.name)
		self._own = None
		try:
			self.daemon = self._daemon("node-a", resume_grace_ms=60000)  # a worker whose connection was cut may be slow to come back
			self.worker = self.stage.worker(self.daemon.socket, "shared", 8, [SHARED])
		except BaseException:
			self.stage.end()
			raise

	def _daemon(self, name, **options):
		return self.stage.daemon(self.stage.database(), name, poll_interval_ms=1000, log_level="debug", **options)

	@property
	def mortal(self):
		"""The daemon that may be killed, running."""
		if self._own is None:
			self._own = self._daemon("node-b")
		elif not self._own.process.alive():
			self._own.start()
		return self._own

	def end(self):
		self.stage.end()


class Play:
	"""One scenario."""

	def __init__(self, ground, scenario):
		self.ground, self.scenario = ground, scenario
		self.kept, self.task, self.answer = {}, None, None
		self.shared = "worker" not in scenario and not scenario.get("faults")
		self.namespace = SHARED if self.shared else scenario["name"][:29]
		self.deadly = any(f["do"] == "kill" for f in scenario.get("faults", ())) or any("kill_daemon" in _words(a) for a in scenario.get("do", ()))
		self.daemon = ground.mortal if self.deadly else ground.daemon
		self.stage, self.tap, self.worker = ground.stage, None, ground.worker
		self.log_at = os.path.getsize(self.daemon.log)

	def run(self):
		if not self.shared:
			self.stage = st.Stage(self.ground.stage.adapter)
			self.stage.begin(self.scenario["name"])
		try:
			self._run()
		except BaseException:
			self._tell()
			raise
		finally:
			if self.tap:
				self.tap.close()
			if not self.shared:
				self.stage.end()

	def _tell(self):
		"""What people want to see of a scenario that failed."""
		words = "\n".join(self.worker.last_words().splitlines()[-30:]) if self.worker else ""
		self.scenario["words"] = "worker: " + words.replace("\n", "\nworker: ")

	def _run(self):
		self.daemon.client.apply_template(template_source(self.scenario["name"], self.namespace, self.scenario))
		if not self.shared:
			self._start_worker()
		for action in self.scenario.get("do") or ["create", *["fault"] * len(self.scenario.get("faults", ())), "settle"]:
			word, value = next(iter(action.items())) if isinstance(action, dict) else (action, None)
			getattr(self, "do_" + word)(value)
		self._judge(self.scenario.get("expect", {}))
		if self.tap and self.tap.breaches:
			raise st.Failed("; ".join(self.tap.breaches[:3]))

	def _start_worker(self):
		given = dict(self.scenario.get("worker") or {})
		self._restart = given.pop("restart", False)
		if given.pop("direct", False) or self._restart:
			socket = self.daemon.socket
		else:
			socket = os.path.join(self.stage.place, "tap.sock")
			self.tap = Tap(socket, self.daemon.socket, self.scenario.get("faults", ()), self.daemon.kill)
		self._worker_args = (socket, given)
		self.worker = self.stage.worker(socket, namespaces=[self.namespace], **given)
		st.listed(self.daemon, self.worker)

	# -- what happens ------------------------------------------------------------------------------

	def do_create(self, context):
		context = self.scenario.get("context", {}) if context is None else context
		self.task = self.daemon.client.create_task(self.scenario["name"], namespace=self.namespace, context=context).task_uuid

	def do_fault(self, _):
		"""Wait until the next fault has come to pass; a daemon that it killed is started again."""
		wait_for(lambda: not self.tap.fired.empty(), "the fault")
		if self.tap.fired.get()["do"] == "kill":
			self.daemon.start()

	def do_settle(self, _):
		wait_for(self._settled, lambda: "the task to settle; it is %s" % {n: (s["state"], s.get("attempts")) for n, s in self._steps().items()})

	def _settled(self):
		if getattr(self, "_restart", False) and not self.worker.alive():
			socket, given = self._worker_args
			self.worker = self.stage.worker(socket, namespaces=[self.namespace], **given)
		return self.daemon.client.wait(self.task, 0.5).settled

	def do_begun(self, n):
		wait_for(lambda: len(self._begun()) >= n, lambda: "%s handlers to begin; %s have" % (n, dict(collections.Counter(self._begun()))))

	def do_gate(self, name):
		self.stage.notes.open_gate(name)

	def do_signal(self, name):
		self.worker.signal(getattr(signal, "SIG" + name))

	def do_exit(self, status):
		st.ended(self.worker, status)

	def do_kill_daemon(self, _):
		self.daemon.kill()

	def do_start_daemon(self, _):
		self.daemon.start()

	def do_cancel(self, reason):
		self.daemon.client.request("task.cancel", {"task_uuid": self.task, "reason": reason or "conformance"})

	def do_ledger(self, pattern):
		"""Until the ledger has a line that fits."""
		wait_for(lambda: any(misfit(pattern, line, self.kept) is None for line in self.stage.notes.lines()),
		         lambda: "a line %r in the ledger; there are %r" % (pattern, self.stage.notes.lines()))

	def do_reached(self, steps):
		wait_for(lambda: misfit(steps, self._steps(), self.kept) is None, lambda: "the steps to be %r; %s" % (steps, misfit(steps, self._steps(), self.kept)))

	def do_listed(self, pattern):
		"""Until the daemon's row about the worker fits."""
		wait_for(lambda: misfit(pattern, st.listed(self.daemon, self.worker), self.kept) is None,
		         lambda: "worker.list: %s" % misfit(pattern, st.listed(self.daemon, self.worker), self.kept))

	def do_consumed(self, given):
		"""The durable events of the namespace that fit the patterns are these."""
		answer = self.daemon.client.request("event.consume", {"namespace": self.namespace, "max": 100, "wait_ms": 10000, "patterns": given["patterns"]})
		self._fits("events", given["events"], [m["event"] for m in answer["messages"]])

	def do_subscribed(self, pattern):
		"""Until the worker's subscription stands: events published for the purpose arrive."""
		name = pattern.replace("*", "test")

		def heard():
			self.daemon.client.request("event.publish", {"name": name, "payload": {}, "namespace": self.namespace, "delivery_mode": "fast"})
			return any(line.get("name") == name for line in self.stage.notes.lines("event"))
		wait_for(heard, "the subscription")

	def do_client(self, lines):
		"""Calls through the client's API, each with what is to be answered."""
		calls = [{k: self._put(v) for k, v in line.items() if k != "answer"} for line in lines]
		done = self.stage.command("client", "--socket", self.daemon.socket, stdin="".join(json.dumps(c) + "\n" for c in calls))
		answers = [json.loads(line) for line in done.stdout.splitlines() if line.strip()]
		if len(answers) != len(lines):
			raise st.Failed("%d answers to %d calls; %s" % (len(answers), len(lines), done.stderr[-500:]))
		for line, answer in zip(lines, answers):
			self._fits("the answer to " + line["call"], self._put(line["answer"]), answer)

	def _put(self, value):
		"""{task} in arguments is the task of the scenario, {place} its directory."""
		if isinstance(value, str):
			return value.replace("{task}", self.task or "").replace("{place}", self.stage.place).replace("{namespace}", self.namespace)
		if isinstance(value, dict):
			return {k: self._put(v) for k, v in value.items()}
		return [self._put(v) for v in value] if isinstance(value, list) else value

	def do_replay(self, given):
		"""Replay a step; what is recorded stays what it is."""
		step = self._steps()[given["step"]]
		before = self._history()
		done = self.stage.command("replay", "--socket", self.daemon.socket, step["step_uuid"])
		try:
			shown = json.loads(done.stdout)
		except ValueError:
			raise st.Failed("replay printed %r; %s" % (done.stdout[:300], done.stderr[-500:])) from None
		self._fits("replay", given["shows"], shown)
		self._fits("the history", before, self._history())
		self._fits("the step", step, self._steps()[given["step"]])

	def _history(self):
		return self.daemon.client.request("task.history", {"task_uuid": self.task})["attempts"]

	# -- judgement ---------------------------------------------------------------------------------

	def _task(self):
		try:
			return self.daemon.client.request("task.get", {"task_uuid": self.task})
		except TooLargeError:  # then its steps one by one
			task = self.daemon.client.request("task.get", {"task_uuid": self.task, "steps": False})
			return {**task, "steps": [self.daemon.client.request("step.get", {"task_uuid": self.task, "step": s["name"]}) for s in self.scenario["steps"]]}

	def _steps(self):
		return {s["name"]: s for s in self._task()["steps"]} if self.task else {}

	def _begun(self):
		"""Names of the steps of this task whose handlers have begun, once for each time."""
		names = {s["step_uuid"]: n for n, s in self._steps().items()}
		return [names[line["step_uuid"]] for line in self.stage.notes.lines("begin") if line["step_uuid"] in names]

	def _fits(self, what, pattern, value):
		why = misfit(pattern, value, self.kept)
		if why:
			raise st.Failed("%s: %s" % (what, why))

	def _judge(self, expect):
		if self.task:
			task = self._task()
			steps = {s["name"]: s for s in task["steps"]}
			self._fits("the task", expect.get("task", {}), task)
			if "state" in expect and task["state"] != expect["state"]:
				raise st.Failed("the task is %s, not %s: %s" % (task["state"], expect["state"], {n: s.get("error") or s["state"] for n, s in steps.items()}))
			self._fits("steps", expect.get("steps", {}), steps)
		if "attempts" in expect:
			found = sorted([a["step"], a["attempt"], a["outcome"]] for a in self._history() if a["outcome"] != "released")
			self._fits("attempts", sorted(expect["attempts"]), found)
		if "began" in expect:
			self._fits("began", expect["began"], dict(collections.Counter(self._begun())))
		for regex in expect.get("log", ()):
			self._logged(regex)

	def _logged(self, regex):
		uuids = [s["step_uuid"] for s in self._steps().values()]

		def find():
			with open(self.daemon.log, encoding="utf-8", errors="replace") as f:
				f.seek(self.log_at)
				return any(re.search(regex, line) and self.task in line and any(u in line for u in uuids) for line in f)
		wait_for(find, "a line with %s and the ids of task and step in the daemon's log" % regex)


def _words(action):
	return list(action) if isinstance(action, dict) else [action]

"""What a scenario happens on: a directory, a ledger, gates, and the adapter's processes."""
import json
import os
import re
import shutil
import subprocess

import harness
from harness import wait_for

from . import ROOT

PATIENCE = harness.PATIENCE


class Failed(AssertionError):
	"""The scenario was not fulfilled."""


class Adapter:
	"""An entry of the table."""

	def __init__(self, name, entry, build):
		put = lambda text: text.replace("{root}", ROOT).replace("{build}", build)  # noqa: E731
		self.name = name
		self.command = [put(a) for a in entry["command"]]
		self.env = {k: put(v) for k, v in entry.get("env", {}).items()}
		self.present = [put(p) for p in entry.get("present", ())]
		self.lacks = entry.get("lacks", {})

	def missing(self):
		"""What is not there of this client, or None."""
		if not shutil.which(self.command[0]):
			return self.command[0]
		return next((p for p in self.present if not os.path.exists(p)), None)


class Ledger:
	"""What the handlers leave behind, and the gates they wait at."""

	def __init__(self, place):
		self.path, self.gates, self.tmp = (os.path.join(place, name) for name in ("conf-ledger", "conf-gates", "tmp"))
		for path in self.gates, self.tmp:
			os.mkdir(path)
			os.chmod(path, 0o777)
		open(self.path, "wb").close()
		os.chmod(self.path, 0o666)

	def env(self):
		return {"CONFORMANCE_LEDGER": self.path, "CONFORMANCE_GATES": self.gates, "TMPDIR": self.tmp}  # an adapter that is killed leaves what it had there

	def lines(self, event=None):
		with open(self.path, encoding="utf-8") as f:
			found = [json.loads(line) for line in f.read().splitlines()]
		return [x for x in found if event in (None, x["event"])]

	def open_gate(self, name):
		open(os.path.join(self.gates, name), "wb").close()


class Stage(harness.Stage):
	"""A stage with adapters on it."""

	def __init__(self, adapter):
		self.adapter = adapter
		self._workers = 0

	def begin(self, name):
		super().begin(name)
		self.notes = Ledger(self.place)

	def worker(self, socket, name=None, concurrency=4, namespaces=(), events=None, broken=False, user=None):
		"""Start the adapter as a worker."""
		self._workers += 1
		name = name or "%s-%d" % (self._name, self._workers)
		argv = ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups"] if user is not None else []
		argv += [*self.adapter.command, "worker", "--socket", socket, "--name", name, "--concurrency", str(concurrency)]
		for namespace in namespaces:
			argv += ["--namespace", namespace]
		argv += ["--events", events] if events else []
		argv += ["--broken"] if broken else []
		return self.track(harness.Worker(name, argv, os.path.join(self.place, name + ".log"), {**self.adapter.env, **self.notes.env()}))

	def command(self, *arguments, stdin="", timeout=PATIENCE):
		"""Run the adapter to its end; the finished process."""
		env = {k: v for k, v in os.environ.items() if not k.startswith(("TASKERD_", "TASKER_"))}
		return subprocess.run([*self.adapter.command, *arguments], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout,
		                      cwd="/", env={**env, **self.adapter.env, **self.notes.env()}, check=False)


def listed(daemon, worker):
	"""The daemon's row about a worker, once it has taken it on."""
	def find():
		if not worker.alive():
			raise Failed("the worker ended with %s" % worker.wait())
		rows = daemon.client.list_workers()
		return next((r for r in rows if r["name"] == worker.name and "open" in r), None)
	return wait_for(find, "worker %s to be connected" % worker.name)


def said(worker, regex):
	"""The lines of the worker's output in which the expression is found."""
	return [line for line in worker.log_text().splitlines() if re.search(regex, line)]


def ended(worker, status):
	"""Wait for the end of a worker, and hold its exit status to `status` (a number or "failure")."""
	code = worker.wait()
	if (code == 0 if status == "failure" else code != status):
		raise Failed("the worker ended with %s, expected was %s" % (code, status))

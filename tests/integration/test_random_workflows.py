"""Random workflows on a real PostgreSQL with a real daemon and real workers: how they end is compared with what the model of daemon/core makes of the same.

TASKERD_SEED runs one workflow alone; TASKERD_WORKFLOWS says how many there are in each test (tests/sim/README.md has the long run).
"""
import errno
import os
import random
import signal
import sys
import unittest

import harness
from harness import wait_for
from taskerd.exceptions import BadRequestError, ConflictError, NotFoundError
from workflows import Workflow, actual, differences, show

sys.path.append(harness.HANDLERS)
from outcomes import outcome  # noqa: E402

SEED = int(os.environ.get("TASKERD_SEED", "0"), 0)
N = int(os.environ.get("TASKERD_WORKFLOWS", "30"))
FIRST = int(os.environ.get("TASKERD_FIRST_SEED", "1"))
AT_ONCE = 40
FOUND = [479]  # seeds that once found something, always run


def seeds():
	return [SEED] if SEED else FOUND + [s for s in range(FIRST, FIRST + N) if s not in FOUND]


class WorkflowCase(harness.Case):
	def setUp(self):
		super().setUp()
		self.db = self.database()

	def worker(self, daemon, name):
		return self.python_worker(daemon, name=name, threads=4, module="play.py", wait=False)

	def begin_all(self, daemon, workflows):
		"""{task: workflow}"""
		for w in workflows:
			self.apply(daemon, w.source())
		return {self.create(daemon, w.name, w.context()): w for w in workflows}

	def compare(self, tasks, exact):
		for task, w in tasks.items():
			found = actual(self.db, task, w)
			said = differences(w.predict(), found, exact)
			self.assertEqual(said, "", show(w, found))


class Undisturbed(WorkflowCase):
	"""Nothing goes wrong but what handlers do: every attempt is as foreseen."""

	def run_all(self, dynamic):
		daemon = self.daemon(self.db)
		for name in ("a", "b"):
			self.worker(daemon, name)
		for at in range(0, len(seeds()), AT_ONCE):
			tasks = self.begin_all(daemon, [Workflow(seed, dynamic) for seed in seeds()[at:at + AT_ONCE]])
			self.db.wait_settled()
			self.compare(tasks, exact=True)
		self.doctor(daemon)

	def test_static(self):
		self.run_all(dynamic=False)

	def test_dynamic(self):
		self.run_all(dynamic=True)


class Operated(WorkflowCase):
	"""Operators pause and resume tasks while they run, and act on what is blocked in the end; then handlers do better."""

	CODES = {0: None, -errno.ESTALE: ConflictError, -errno.EALREADY: ConflictError, -errno.EINVAL: BadRequestError, -errno.ENOENT: NotFoundError}

	def ask(self, node, task, action, **more):
		"""The class of the error, or None."""
		try:
			which = {} if "step_uuid" in more else {"task_uuid": task}
			node.client.request("step.action" if "step_uuid" in more else "task.action", {"action": action, "reason": "to see what comes of it", **which, **more})
		except (ConflictError, BadRequestError, NotFoundError) as error:
			return type(error)

	def act(self, node, task, w, action, no, word):
		if no is None:
			return self.ask(node, task, {"resolve_task": "resolve_manually"}.get(action, action))
		more = {"result": outcome(word, [s.name for s in w.steps])} if action == "complete" else {}
		return self.ask(node, task, {"reset": "reset_for_retry"}.get(action, action + "_manually"), step_uuid="%s%06x" % (task[:30], no + 1), **more)

	def run_all(self, dynamic):
		node = self.daemon(self.db)
		for name in ("a", "b"):
			self.worker(node, name)
		for at in range(0, len(seeds()), AT_ONCE):
			chosen = seeds()[at:at + AT_ONCE]
			rng = random.Random(chosen[0])
			tasks = self.begin_all(node, [Workflow(seed, dynamic) for seed in chosen])
			for task in rng.sample(sorted(tasks), len(tasks) // 2):
				if self.ask(node, task, "pause") is None:
					self.ask(node, rng.choice(sorted(tasks)), "pause")
			for task in tasks:
				self.ask(node, task, "resume")
			self.db.wait_settled()
			self.compare(tasks, exact=True)
			self.operate(node, tasks)
		self.doctor(node)

	def operate(self, node, tasks):
		for task, w in tasks.items():
			end = w.predict()
			if end.task != "blocked_by_failures":
				continue
			self.ledger.open_gate("epoch-" + task)
			acts = w.choose_acts(end)
			wanted = w.predict().answers
			found = []
			for act in acts:
				found.append(self.act(node, task, w, *act))
				self.db.wait_settled()
			self.assertEqual(found, [self.CODES[a] for a in wanted], show(w, actual(self.db, task, w)))
		self.db.wait_settled()
		self.compare(tasks, exact=True)

	def test_static(self):
		self.run_all(dynamic=False)

	def test_dynamic(self):
		self.run_all(dynamic=True)


class Disturbed(WorkflowCase):
	"""Workers and the daemon are killed meanwhile: attempts are lost, and the end is the same."""

	def run_all(self, dynamic):
		node = self.daemon(self.db, lease_ttl_ms=1500, poll_interval_ms=500, resume_grace_ms=500, heartbeat_ms=1000)
		workers, made = [self.worker(node, "w0"), self.worker(node, "w1")], 2
		for at in range(0, len(seeds()), AT_ONCE):
			chosen = seeds()[at:at + AT_ONCE]
			rng = random.Random(chosen[0])
			tasks = self.begin_all(node, [Workflow(seed, dynamic, faults=True) for seed in chosen])
			for _ in range(4):
				target = len(self.ledger) + rng.randrange(1, 60)
				wait_for(lambda: len(self.ledger) >= target or self.db.unsettled() == 0, "workers to get on")
				if rng.randrange(3) == 0:
					node.kill()
					node.start()
				else:
					k = rng.randrange(2)
					workers[k].signal(signal.SIGKILL)
					workers[k].wait()
					workers[k] = self.worker(node, "w%d" % made)
					made += 1
			self.db.wait_settled()
			self.compare(tasks, exact=False)
		self.doctor(node)

	def test_static(self):
		self.run_all(dynamic=False)

	def test_dynamic(self):
		self.run_all(dynamic=True)


if __name__ == "__main__":
	unittest.main()

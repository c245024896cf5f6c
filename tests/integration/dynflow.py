"""Dynamic workflows driven through the engine's SQL functions, without daemon or workers.

	flow = Flow(test, [S("split", "batchable"), S("weigh", "batch_worker", ["split"]), S("sum", "deferred_convergence", ["weigh"])])
	task = flow.create()
	flow.run({"split": batches(3)})              # results by step name; others give {}
	flow.states(task)                            # {"split": "complete", "weigh_001": ...}

A result that is an Exception is a permanent failure; a callable is called with (name, claim row).
"""
import collections
import csv
import json
import uuid

import engine
from engine import Engine, Node
from pg import lit

csv.field_size_limit(1 << 28)
S = collections.namedtuple("S", "name type parents init batch attempts")
S.__new__.__defaults__ = ("standard", (), None, None, 1)

Claim = collections.namedtuple("Claim", "task step attempt fence deps inputs checkpoint")


def choose(*names):
	return {"decision_point_outcome": {"type": "create_steps", "step_names": list(names)}}


NO_BRANCHES = {"decision_point_outcome": {"type": "no_branches"}}
NO_BATCHES = {"batch_processing_outcome": {"type": "no_batches"}}


def batches(n, worker=None, size=10, **more):
	configs = [{"batch_id": "%03d" % (i + 1), "start_cursor": i * size, "end_cursor": (i + 1) * size, "batch_size": size} for i in range(n)]
	return {"batch_processing_outcome": {"type": "create_batches", "worker_count": n, "cursor_configs": configs, "total_items": n * size,
	                                     **({"worker_template_name": worker} if worker else {}), **more}}


def template(name, steps):
	"""What tasker.register_template takes; steps in topological order."""
	no = {s.name: n for n, s in enumerate(steps)}
	up, full = {}, []
	for n, s in enumerate(steps):
		parents = sorted(no[p] for p in s.parents)
		up[n] = sorted(set(parents).union(*(up[p] for p in parents)), reverse=True)
		full.append({"no": n, "name": s.name, "type": s.type, "callable": "h", "handler": {"callable": "h", "initialization": s.init or {}}, "retryable": True,
		             "max_attempts": s.attempts, "backoff": "none", "backoff_base_ms": 0, "max_backoff_ms": 0, "timeout_seconds": None, "batch_config": s.batch,
		             "parents": parents, "children": [], "ancestors": up[n][:64], "ancestors_cut": len(up[n]) > 64})
	for s in full:
		for p in s["parents"]:
			full[p]["children"].append(s["no"])
	return {"namespace": "ns", "name": name, "version": "1.0.0", "digest": name, "definition": {}, "identity_strategy": "always_unique", "steps": full}


def by_name(deps):
	"""Numbers of template steps as they are; of what a batch made the names."""
	return {key.partition(" ")[2] or key: result for key, result in json.loads(deps or "{}").items()}


class Flow:
	"""A database with one template, and a node that runs its tasks."""

	def __init__(self, test, steps, credits=100000):
		self.test = test
		self.e = engine.lend(test) if self.lent else self.own()
		self.steps = steps
		self.e.run("SELECT tasker.register_template(%s)" % lit(json.dumps(template("t", steps))))
		self.handler = int(self.e.value("SELECT handler_id FROM tasker.handlers"))
		self.node = Node("n", *self.e.register("n"))
		self.credits = credits
		self.open = {}  # (task, step): Claim
		self.x = []  # running steps that were cancelled
		self.settled = []
		self.ran = collections.Counter()
		self.names = {}

	lent = True  # the database, of which nobody asks that it is new

	def own(self):
		db = "dyn_" + uuid.uuid4().hex[:8]
		engine.new_database(db)
		self.test.addCleanup(engine.cluster().dropdb, db)
		e = Engine(db)
		self.test.addCleanup(e.close)
		return e

	def _take(self, rows, seq):
		answers = {}
		for kind, idx, status, task, step, attempt, fence, deps, inputs, checkpoint in rows:
			if kind == "c":
				self.open[int(task), int(step)] = Claim(int(task), int(step), int(attempt), int(fence), by_name(deps), json.loads(inputs or "{}"),
				                                        json.loads(checkpoint or "null"))
			elif kind == "a":
				answers[int(idx)] = status
			elif kind == "x":
				self.x.append((int(task), int(step)))
			elif kind == "s":
				self.settled.append((int(task), status))
		return answers

	def hot(self, call):
		rows = self.e.run("SELECT kind, idx, status, task_id, step_no, attempt, fence, deps, inputs, checkpoint FROM tasker." + call)
		return self._take(rows, self.e.seq)

	def create(self, credits=None, n=1):
		credits = self.credits if credits is None else credits
		before = int(self.e.value("SELECT coalesce(max(task_id), 0) FROM tasker.tasks"))
		uuids = [str(uuid.uuid4())[:30] + "000000" for _ in range(n)]
		self.hot(self.e.create_call(self.node, [(u, "t", {}, None) for u in uuids], {self.handler: credits} if credits else {}, credits))
		return before + 1

	def claim(self, n=100000):
		self.hot("claim(%s, %s)" % (self.e.node_args(self.node), self.e.credit_args({self.handler: n}, n)))

	def name(self, task, step):
		if (task, step) not in self.names:
			self.names[task, step] = self.e.value(
				"SELECT tasker.step_name(ts.name, s.step_no, s.template_no, s.inputs) FROM tasker.steps s JOIN tasker.tasks t USING (task_id) "
				"JOIN tasker.template_steps ts ON ts.template_id = t.template_id AND ts.step_no = s.template_no WHERE s.task_id = %d AND s.step_no = %d" % (task, step))
		return self.names[task, step]

	def step_no(self, task, name):
		for step, known in self.e.run("SELECT s.step_no, tasker.step_name(ts.name, s.step_no, s.template_no, s.inputs) FROM tasker.steps s JOIN tasker.tasks t USING (task_id) "
		                              "JOIN tasker.template_steps ts ON ts.template_id = t.template_id AND ts.step_no = s.template_no WHERE s.task_id = %d" % task):
			if known == name:
				return int(step)
		raise KeyError(name)

	def record(self, items, credits=None):
		"""`items`: (Claim, result). A dict is a success, an Exception a permanent failure, ("retry",) a failure that may be tried again, ("yield", data) a
		checkpoint. The answers."""
		credits = self.credits if credits is None else credits
		outcome, retry, result, error = [], [], [], []
		for _, r in items:
			kind = "permanent_error" if isinstance(r, Exception) else r[0] if isinstance(r, tuple) else "success"
			outcome.append({"retry": "handler_error", "yield": "released", "lost": "worker_lost"}.get(kind, kind))
			retry.append(kind in ("retry", "lost"))
			result.append(json.dumps(r[1]) if kind == "yield" else json.dumps(r) if kind == "success" else None)
			error.append(None if kind in ("success", "yield") else json.dumps({"message": str(r)}))
		cs = [c for c, _ in items]
		for c in cs:
			self.open.pop((c.task, c.step), None)
		columns = (([c.task for c in cs], "bigint"), ([c.step for c in cs], "int"), ([c.fence for c in cs], "int"), (outcome, "tasker.attempt_outcome"), (retry, "boolean"),
		           ([0] * len(cs), "bigint"), (result, "jsonb"), (error, "jsonb"), ([None] * len(cs), "jsonb"), ([1.0] * len(cs), "real"), ([None] * len(cs), "uuid"))
		args = {self.handler: credits} if credits else {}
		answers = self.hot("record_results(%s, false, %s, %s, array_fill(now(), ARRAY[%d]), %s)" % (
			self.e.node_args(self.node), self.e.credit_args(args, credits), ", ".join(engine.array(*c) for c in columns), len(cs),
			engine.array([len(r or "") for r in result], "int")))
		return [answers.get(i, "recorded") for i in range(1, len(cs) + 1)]

	def run(self, results=None, order=None, chunk=1000000, doctor=True, stop=None, credits=None):
		"""Run until nothing moves. `order`: function choosing which of the open claims to record next, at most `chunk` at a time."""
		results = results or {}
		while True:
			self.claim()
			ready = sorted(self.open.values())
			if order:
				ready = order(ready)
			ready = [c for c in ready if not (stop and self.name(c.task, c.step) in stop)][:chunk]
			if not ready:
				return
			items = []
			for c in ready:
				name = self.name(c.task, c.step)
				self.ran[c.task, name] += 1
				r = results.get(name, results.get(name.rpartition("_")[0] + "_*", {}))
				items.append((c, r(name, c) if callable(r) else r))
			self.record(items, credits)
			if doctor:
				self.doctor()

	def doctor(self):
		report = self.e.doctor()
		self.test.assertTrue(report["ok"], [c for c in report["checks"] if not c["ok"]])

	def states(self, task):
		return {name: state for name, state in self.e.run(
			"SELECT tasker.step_name(ts.name, s.step_no, s.template_no, s.inputs), s.state FROM tasker.steps s JOIN tasker.tasks t USING (task_id) "
			"JOIN tasker.template_steps ts ON ts.template_id = t.template_id AND ts.step_no = s.template_no WHERE s.task_id = %d" % task)}

	def state(self, task):
		return self.e.value("SELECT state FROM tasker.tasks WHERE task_id = %d" % task)

	def error(self, task, name):
		text = self.e.value("SELECT error FROM tasker.steps WHERE task_id = %d AND step_no = %d" % (task, self.step_no(task, name)))
		return json.loads(text) if text else None

	def impossible(self, task):
		text = self.e.value("SELECT array_to_json(impossible) FROM tasker.tasks WHERE task_id = %d" % task)
		return {self.steps[n].name for n in json.loads(text or "[]")}

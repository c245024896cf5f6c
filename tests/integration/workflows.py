"""Random workflows whose end does not depend on what runs when: templates with behaviours for their handlers, and what the model says becomes of them.

	w = Workflow(seed, dynamic=True, faults=False)
	w.source()                 # the template
	w.context()                # of its task: what handlers/play.py does, by step and attempt
	w.predict()                # End, by tests/sim/predict
	actual(db, task_uuid, w)   # End, by the database; compare with differences()

Steps are numbered as the daemon numbers them: the template lists them in an order that is topological already. Instance k (from 0) of batch worker w in a template of n
steps has the number w + (k + 1) * n.
"""
import json
import random
import subprocess

import harness

KINDS = ("standard", "decision", "deferred_convergence", "batchable", "batch_worker")
STRATEGIES = ("isolate", "continue_on_failure", "fail_fast")
FAULTY_ATTEMPTS = 40  # more than faults can use up


class Step:
	def __init__(self, no, kind, parents):
		self.no, self.kind, self.parents = no, kind, sorted(set(parents))
		self.name = "s%d" % no
		self.attempts, self.retryable, self.strategy, self.parallelism = 3, True, "isolate", 0


class End:
	"""How a task has ended: its state, steps by number, the numbers of impossible steps, batches."""

	def __init__(self, task, steps, impossible, batches, answers=()):
		self.task, self.steps, self.impossible, self.batches, self.answers = task, steps, sorted(impossible), batches, list(answers)

	def in_state(self, *states):
		return sorted(no for no, s in self.steps.items() if s[0] in states)


class Workflow:
	def __init__(self, seed, dynamic, faults=False, size=18):
		self.seed, self.dynamic, self.faults = seed, dynamic, faults
		self.random = random.Random(seed)
		self.name = "r%d" % seed
		self.steps, self.do = [], {0: {}, 1: {}}  # epoch: {step: [responses]}
		self.acts = []
		self.fails = self.chance(50)  # for good
		self._make_steps(1 + self.random.randrange(size))
		self._make_behaviours()

	def chance(self, percent):
		return self.random.randrange(100) < percent

	# -- the template ------------------------------------------------------------------------------

	def children(self, no, *kinds):
		return [s for s in self.steps if no in s.parents and (not kinds or s.kind in kinds)]

	def _earlier(self, no):
		return no - 1 - self.random.randrange(4 if self.chance(70) and no > 4 else no)

	def _parents(self, no, least):
		return [self._earlier(no) for _ in range(least + self.random.randrange(3))] if no else []

	def _make_steps(self, n):
		density = 20 + self.random.randrange(60) if self.dynamic else 0
		while len(self.steps) < n:
			no = len(self.steps)
			kind = self.random.choice(KINDS[1:4]) if self.chance(density) else "standard"
			if kind == "decision" and no == 0 or kind == "batchable" and no + 2 >= n:
				kind = "standard"
			parents = self._parents(no, kind in ("decision", "deferred_convergence"))
			if kind == "deferred_convergence" and no:
				parents += [s.no for s in self.steps if not self.children(s.no) and self.chance(70)]
			elif kind != "deferred_convergence":
				parents += [s.no for s in self.steps[-6:] if s.kind == "decision" and self.chance(30 if self.children(s.no) else 90)]
			self.steps.append(Step(no, kind, parents))
			if kind == "batchable":
				self._make_workers(no, n)
		for s in self.steps:
			s.attempts = FAULTY_ATTEMPTS if self.faults else 1 + self.random.randrange(3)
			s.retryable = self.faults or self.chance(85)

	def _make_workers(self, batchable, n):
		for _ in range(2 if self.chance(25) and len(self.steps) + 2 < n else 1):
			no = len(self.steps)
			other = self._earlier(no)
			more = [other] if self.chance(20) and self.steps[other].kind not in ("decision", "batchable") else []
			made = Step(no, "batch_worker", [batchable] + more)
			made.strategy = self.random.choice(STRATEGIES)
			made.parallelism = 0 if self.chance(50) else 1 + self.random.randrange(3)
			self.steps.append(made)

	def source(self):
		made = []
		for s in self.steps:
			d = harness.step(s.name, "t.play", after=[self.steps[p].name for p in s.parents], attempts=s.attempts, retryable=s.retryable)
			if s.kind != "standard":
				d["type"] = s.kind
			if s.kind == "batch_worker":
				d["batch_config"] = {"failure_strategy": s.strategy, **({"parallelism": s.parallelism} if s.parallelism else {})}
			made.append(d)
		return harness.template(self.name, made)

	def step_name(self, no):
		of, k = no % len(self.steps), no // len(self.steps)
		return self.steps[of].name + ("_%03d" % k if k else "")

	# -- behaviours --------------------------------------------------------------------------------

	def _make_behaviours(self):
		named = set()  # by a decision: a second one would come too early or too late, by chance
		for s in self.steps:
			if s.kind == "batch_worker":
				continue
			end = self._outcome(s, named)
			self.do[0][s.no] = self._attempts(s, end)
			if end != "ok":
				self.do[1][s.no] = [end]

	def _attempts(self, s, end, yields=False):
		x = self.random.randrange(100 if self.fails else 90)
		if x < 70:
			return ["yield" if yields and self.chance(30) else end]
		if x < 90:
			return [self.random.choice(("retry", "delay")) for _ in range(1 + self.random.randrange(2))] + [end]
		if x < 93 and s.kind in ("decision", "batchable"):
			return ["bad"]
		return ["perm"] if x < 97 else ["retry"]

	def _outcome(self, s, named):
		if s.kind == "decision":
			chosen = [c.no for c in self.children(s.no, *KINDS[:4]) if self.chance(60 if c.kind != "deferred_convergence" else 10)]
			chosen = [c for c in chosen if c not in named]
			named.update(chosen)
			return "names:" + ",".join(map(str, chosen)) if chosen else "none"
		if s.kind == "batchable":
			return self._batch(s)
		return "ok"

	def _batch(self, s):
		workers = [c.no for c in self.children(s.no, "batch_worker")]
		if self.chance(12):
			return "nobatches:%d" % self.random.choice(workers + [-1])
		worker, n = self.random.choice(workers), 1 + self.random.randrange(6)
		for k in range(n):
			self.do[0][worker + (k + 1) * len(self.steps)] = self._attempts(self.steps[worker], "ok", yields=True)
		return "batches:%d:%d" % (worker, n)

	def context(self):
		return {"do": {str(e): {self.step_name(no): r for no, r in do.items()} for e, do in self.do.items()}, "names": [s.name for s in self.steps]}

	def choose_acts(self, end):
		"""What operators do about this end, one after the other: [(action, step or None, word or None)]. The end after it depends on no order either."""
		rng, steady = random.Random(self.seed), [no for no, s in end.steps.items() if s[0] != "loose"]
		acts = []
		for _ in range(1 + rng.randrange(3)):
			wanted = rng.choice(("error", "error", "error", "pending", "complete"))
			found = [no for no in steady if end.steps[no][0] == wanted]
			if found:
				no = rng.choice(found)
				act = rng.choice(("reset", "resolve", "complete"))
				acts.append((act, no, self.do[1].get(no, ["ok"])[0] if act == "complete" else None))
		if rng.randrange(3) == 0 or any(s[0] == "loose" for s in end.steps.values()):
			acts.append((rng.choice(("retry", "retry", "retry", "resolve_task")), None, None))
		self.acts = [" ".join(str(x) for x in a if x is not None) for a in acts]
		return acts

	# -- what the model says -----------------------------------------------------------------------

	def script(self):
		lines = ["step %s %d %d %s %d %s" % (s.kind, s.attempts, s.retryable, s.strategy, s.parallelism, " ".join(map(str, s.parents))) for s in self.steps]
		lines += ["do %d %d %s" % (e, no, " ".join(r)) for e, do in self.do.items() for no, r in sorted(do.items())]
		lines += ["run 0"] + [line for a in self.acts for line in ("act " + a, "run 1")]
		return "\n".join(lines) + "\n"

	def predict(self):
		done = subprocess.run([harness.program("tests", "sim", "predict")], input=self.script(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
		if done.returncode != 0:
			raise AssertionError("seed %d: %s\n%s" % (self.seed, done.stdout, self.script()))
		task, steps, impossible, batches, answers = None, {}, [], {}, []
		for line in done.stdout.splitlines():
			word, *rest = line.split()
			if word == "task":
				task = rest[0]
			elif word == "step":
				steps[int(rest[0])] = (rest[1], int(rest[2]) if len(rest) > 2 else None, rest[3].split(",") if len(rest) > 3 else [])
			elif word == "impossible":
				impossible.append(int(rest[0]))
			elif word == "batch":
				batches[int(rest[0])] = int(rest[1])
			else:
				answers.append(int(rest[0]))
		return End(task, steps, impossible, batches, answers)


def actual(db, task, workflow):
	"""How a task has ended, by the database."""
	where = "WHERE t.task_uuid = '%s'" % task
	steps = {int(no): (state, int(attempts), []) for no, state, attempts in db.sql(
		"SELECT s.step_no, s.state, s.attempts FROM tasker.tasks t JOIN tasker.steps s USING (task_id) " + where)}
	for no, outcome in db.sql("SELECT a.step_no, a.outcome FROM tasker.tasks t JOIN tasker.step_attempts a USING (task_id) %s AND a.outcome <> 'released' "
	                          "ORDER BY a.step_no, a.fence" % where):
		steps[int(no)][2].append(outcome)
	impossible, batches = [], {}
	if workflow.dynamic:
		impossible = [int(no) for no, in db.sql("SELECT unnest(t.impossible) FROM tasker.tasks t " + where)]
		batches = {int(no): int(n) for no, n in db.sql("SELECT b.template_no, b.n_workers FROM tasker.tasks t JOIN tasker.batches b USING (task_id) " + where)}
	return End(db.value("SELECT t.state FROM tasker.tasks t " + where), steps, impossible, batches)


def differences(wanted, found, exact):
	"""What is not as the model says, as text; empty if all is. Without `exact` faults may have used up attempts."""
	said = []
	if wanted.task != found.task:
		said.append("the task is %s, the model says %s" % (found.task, wanted.task))
	if wanted.impossible != found.impossible:
		said.append("impossible are %s, the model says %s" % (found.impossible, wanted.impossible))
	if wanted.batches != found.batches:
		said.append("batches are %s, the model says %s" % (found.batches, wanted.batches))
	for no in sorted(set(wanted.steps) | set(found.steps)):
		w, f = wanted.steps.get(no), found.steps.get(no)
		if w and f and w[0] == "loose":
			if f[0] not in ("complete", "error", "cancelled", "resolved_manually"):
				said.append("step %d of a batch that failed fast is %s" % (no, f[0]))
		elif w is None or f is None or w[0] != f[0]:
			said.append("step %d is %s, the model says %s" % (no, f and f[0], w and w[0]))
		elif exact and w != f:
			said.append("step %d had %d attempts %s, the model says %d %s" % (no, f[1], f[2], w[1], w[2]))
	return "; ".join(said)


def show(workflow, end):
	"""For a failure: how to see it again."""
	return "seed %d (TASKERD_SEED repeats it alone)\n%s\ncontext %s\nfound: task %s, %s" % (
		workflow.seed, workflow.script(), json.dumps(workflow.context()), end.task, sorted(end.steps.items()))

"""The engine's SQL functions and the model of daemon/core (tests/sim/steer), step by step: the same random events are done to both, and after each of them every step, every counter and
what is impossible must be the same.

Results of all kinds, alone and several in a call, late and repeated ones, bad outcomes, delays that end, handing over with credits and queues, what operators do, pauses, limits. Needs
TASKERD_BUILD. TASKERD_SEED repeats one run; TASKERD_LOCKSTEPS says how many there are.
"""
import collections
import contextlib
import errno
import json
import os
import random
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
for _path in (HERE, os.path.join(HERE, "handlers")):
	if _path not in sys.path:
		sys.path.insert(0, _path)
import dynflow  # noqa: E402
import engine  # noqa: E402
import harness  # noqa: E402
from outcomes import outcome  # noqa: E402
from pg import PgError, lit  # noqa: E402
from workflows import Workflow  # noqa: E402

SEED = int(os.environ.get("TASKERD_SEED", "0"), 0)
N = int(os.environ.get("TASKERD_LOCKSTEPS", "4"))
FIRST = int(os.environ.get("TASKERD_FIRST_SEED", "1"))
FOUND = [1000]  # dynamic ones that once found something, always run
EVENTS = 240  # for each template
TASKS = 3     # of it
FINISHED = ("complete", "error", "cancelled", "resolved_manually")
STALE, REFUSED, NO_STEP, FINISHED_TASK = -errno.ESTALE, -errno.EINVAL, -errno.ENOENT, -errno.EALREADY
SQLSTATES = {"TK409": (STALE, FINISHED_TASK), "TK400": (REFUSED,), "TK404": (NO_STEP,)}
ACTIONS = {"reset": "reset_for_retry", "resolve": "resolve_manually", "complete": "complete_manually"}
KINDS = ["success"] * 12 + ["retry"] * 3 + ["delay"] * 3 + ["perm", "perm", "lost", "release", "yield"]
OUTCOMES = {"retry": ("handler_error", True), "delay": ("handler_error", True), "perm": ("permanent_error", False), "lost": ("worker_lost", True), "release": ("released", False), "yield": ("released", False)}


class Model:
	"""The coprocess."""

	def __init__(self, script):
		self.child = subprocess.Popen([harness.program("tests", "sim", "steer")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
		for line in script:
			self.child.stdin.write(line + "\n")
		self.state = None
		self.tell("begin")

	def tell(self, command):
		"""What it answers; its state is in `state`."""
		self.child.stdin.write(command + "\n")
		self.state = json.loads(self.child.stdout.readline())
		return self.state.pop("answer")

	def close(self):
		self.child.stdin.close()
		self.child.stdout.close()
		self.child.wait()


def register(workflow):
	"""What dynflow.Flow takes."""
	steps = []
	for s in workflow.steps:
		batch = {"failure_strategy": s.strategy, **({"parallelism": s.parallelism} if s.parallelism else {})} if s.kind == "batch_worker" else None
		steps.append(dynflow.S(s.name, s.kind, [workflow.steps[p].name for p in s.parents], None, batch, s.attempts))
	return steps


class Lockstep:
	"""One task in both. Its `peers`, itself among them, are the tasks that calls may be about together."""

	def __init__(self, test, workflow, flow, rng, peers):
		self.test, self.w, self.flow, self.rng, self.peers = test, workflow, flow, rng, peers
		self.e, self.log, self.old = flow.e, collections.deque(maxlen=400), []
		peers.append(self)
		script = workflow.script().splitlines()
		self.model = Model([line for line in script if line.startswith("step ")])
		test.addCleanup(self.model.close)
		self.task = flow.create(credits=rng.choice([0, 1, 1000]))
		self.log.append("# task %d" % self.task)
		self.uuid = self.e.value("SELECT task_uuid FROM tasker.tasks WHERE task_id = %d" % self.task)
		self.take_claims(set())
		self.compare()

	# -- both --------------------------------------------------------------------------------------

	def tell(self, command):
		self.log.append(command)
		return self.model.tell(command)

	def held(self):
		return {(c.step, c.fence) for c in self.open()}

	def open(self):
		return sorted((c for c in self.flow.open.values() if c.task == self.task), key=lambda c: c.step)

	@contextlib.contextmanager
	def claiming(self):
		"""What SQL hands over meanwhile, of any task, the models begin too."""
		before = [(p, p.held()) for p in self.peers]
		yield
		for p, held in before:
			p.take_claims(held)

	def take_claims(self, before):
		"""What SQL handed over: the model begins it too."""
		for c in [c for c in self.open() if (c.step, c.fence) not in before]:
			was = self.model.state["steps"].get(str(c.step), ["missing"])[0]
			answer = self.tell("%s %d" % ("due" if was == "waiting_for_retry" else "claim", c.step))
			self.test.assertEqual(answer, 0, self.context("SQL has claimed step %d, which is %s in the model" % (c.step, was)))

	def snapshot(self):
		task = self.e.run("SELECT t.state, t.paused::int, t.open_sinks, t.n_active, t.n_waiting, t.n_failed, array_to_json(t.impossible) FROM tasker.tasks t WHERE t.task_id = %d" % self.task)[0]
		steps = self.e.run(
			"SELECT s.step_no, s.state, s.attempts, s.fence, CASE WHEN s.state = 'pending' THEN s.pending_parents - (SELECT count(*) FROM tasker.batches b "
			"WHERE b.task_id = s.task_id AND b.template_no = s.template_no AND s.step_no <> s.template_no AND b.parallelism IS NOT NULL "
			"AND (s.step_no > b.template_no + b.n_released * b.stride OR EXISTS (SELECT 1 FROM tasker.batch_returns r WHERE r.task_id = s.task_id AND r.step_no = s.step_no))) ELSE 0 END, coalesce((s.checkpoint ->> 'yields')::int, 0) FROM tasker.steps s WHERE s.task_id = %d" % self.task)
		return {"task": task[0], "paused": int(task[1]), "open": int(task[2]), "active": task[3] and int(task[3]), "waiting": int(task[4]), "failed": int(task[5]),
		        "impossible": sorted(json.loads(task[6] or "[]")), "steps": {no: [state, int(a), int(f), int(p), int(c)] for no, state, a, f, p, c in steps}}

	def compare(self):
		found, wanted = self.snapshot(), dict(self.model.state)
		over = found["task"] in FINISHED
		if over or found["active"] is None:
			for key in ("open", "active", "waiting", "failed") if over else ("active",):
				found.pop(key), wanted.pop(key)
		if over:
			found["steps"] = {k: v[:3] for k, v in found["steps"].items()}
			wanted["steps"] = {k: v[:3] for k, v in wanted["steps"].items()}
		# Fences grow with messages, too, that the model does not have. late() holds what they are for.
		steps = found["steps"]
		found["steps"] = {no: s[:2] + s[3:] for no, s in steps.items()}
		wanted["steps"] = {no: s[:2] + s[3:] for no, s in wanted["steps"].items()}
		for no, s in found["steps"].items():
			if s[0] == "cancelled":  # one that a success handed over, and a failure in the same call cancelled, had begun
				s[1] = wanted["steps"][no][1] = None
		self.test.assertEqual(found, wanted, self.context("SQL and the model differ"))
		for c in self.open():
			if steps[str(c.step)][0] != "in_progress" or steps[str(c.step)][2] != c.fence:
				self.old.append(self.flow.open.pop((c.task, c.step)))

	def context(self, what):
		return "%s; seed %d (TASKERD_SEED repeats it)\n%s\n%s" % (what, self.w.seed, "\n".join(line for line in self.w.script().splitlines() if line.startswith("step")), "\n".join(self.log))

	# -- events ------------------------------------------------------------------------------------

	def word(self, no):
		"""An outcome for a step, mostly one that applies."""
		n, state = len(self.w.steps), self.model.state
		s = self.w.steps[no % n]
		if s.kind == "decision":
			bad = self.rng.random() < 0.1
			free = [c.no for c in self.w.children(s.no) if bad or (c.kind != "batch_worker" and str(c.no) not in state["steps"])]
			chosen = [c for c in free if self.rng.random() < 0.6]
			return "bad" if self.rng.random() < 0.04 else "names:" + ",".join(map(str, chosen)) if chosen else "none"
		if s.kind == "batchable":
			workers = [c.no for c in self.w.children(s.no, "batch_worker")]
			x = self.rng.random()
			return "bad" if x < 0.04 else "nobatches:%d" % self.rng.choice(workers + [-1]) if x < 0.15 else "batches:%d:%d" % (self.rng.choice(workers), self.rng.randint(1, 6))
		return "ok"

	def result(self, word):
		return json.dumps(outcome(word, [s.name for s in self.w.steps]))

	def claim(self):
		self.log.append("# claim")
		with self.claiming():
			self.flow.claim(self.rng.choice([1, 1, 2, 100]))

	def send(self, items, credits):
		"""Record (claim, kind, word); the answers."""
		outcomes = [OUTCOMES.get(kind, ("success", False)) for _, kind, _ in items]
		results = [self.result(word) if kind == "success" else '{"cursor": 1, "items_processed": 1}' if kind == "yield" else None for _, kind, word in items]
		columns = (([c.task for c, _, _ in items], "bigint"), ([c.step for c, _, _ in items], "int"), ([c.fence for c, _, _ in items], "int"),
		           ([o[0] for o in outcomes], "tasker.attempt_outcome"), ([o[1] for o in outcomes], "boolean"),
		           ([engine.HOUR_MS if kind == "delay" else 0 for _, kind, _ in items], "bigint"), (results, "jsonb"),
		           ([None if r else '{"message": "m"}' for r in results], "jsonb"), ([None] * len(items), "jsonb"), ([1.0] * len(items), "real"), ([None] * len(items), "uuid"))
		answers = self.flow.hot("record_results(%s, false, %s, %s, array_fill(now(), ARRAY[%d]), %s)" % (
			self.e.node_args(self.flow.node), self.e.credit_args({self.flow.handler: credits} if credits else {}, credits),
			", ".join(engine.array(*c) for c in columns), len(items), engine.array([len(r or "") for r in results], "int")))
		return [answers.get(i, "recorded") for i in range(1, len(items) + 1)]

	def record(self):
		"""Some results in a call: any number of successes, and at most one of another kind, which comes last (two that fail in one batch would depend on the order)."""
		running = [(p, c) for p in self.peers for c in p.open()]
		if not running:
			return self.claim()
		chosen = self.rng.sample(running, min(len(running), self.rng.choice([1, 1, 1, 2, 3, 4])))
		kinds = ["success"] * (len(chosen) - 1) + [self.rng.choice(KINDS)]
		items = [(c, kind, p.word(c.step)) for (p, c), kind in zip(chosen, kinds)]
		for p, c in chosen:
			self.flow.open.pop((c.task, c.step))
			p.log.append("# in one call: %s" % [(c.task, c.step, k, w) for c, k, w in items])
		before = [(p, p.held()) for p in self.peers]
		answers = self.send(items, self.rng.choice([0, 1, 1000]))
		for (p, _), (c, kind, word), said in zip(chosen, items, answers):
			command = "succeed %d %s" % (c.step, word) if kind == "success" else "%s %d" % (kind, c.step) if kind in ("release", "yield") else "fail %d %s" % (c.step, "retry" if kind == "lost" else kind)
			wanted = {"recorded": 0, "retrying": 0, "released": 0, "stale": STALE, "failed": 1 if kind == "success" else 0}[said]
			self.test.assertEqual(p.tell(command), wanted, p.context("SQL says %s" % said))
			p.old.append(c)
		for p, held in before:
			p.take_claims(held)

	def late(self):
		"""A result that comes too late, or once more."""
		if self.old:
			c = self.rng.choice(self.old)
			self.log.append("# late: %d fence %d" % (c.step, c.fence))
			self.test.assertIn(self.send([(c, self.rng.choice(KINDS), "ok")], 0), (["stale"], ["duplicate"]), self.context("a late result"))

	def make_due(self):
		self.log.append("# delays are over")
		for queue, in self.e.run("SELECT queue_name FROM tasker.handlers"):
			self.e.run("UPDATE pgmq.q_%s SET vt = clock_timestamp() - interval '1 second' WHERE vt > clock_timestamp()" % queue)
		self.e.run("UPDATE tasker.steps SET retry_at = clock_timestamp() - interval '1 second' WHERE retry_at > clock_timestamp()")

	def ask(self, name, command, **p):
		"""An operator's request; the answers must match."""
		answer = self.tell(command)
		try:
			self.e.run("SELECT tasker.%s(%s)" % (name, lit(json.dumps({"task_uuid": self.uuid, "reason": "r", **p}))))
			said = (0,)
		except PgError as error:
			said = SQLSTATES[error.sqlstate]
		self.test.assertIn(answer, said, self.context("SQL says %s" % (said,)))

	def act_on_step(self):
		steps = self.model.state["steps"]
		wanted = self.rng.choice(["error", "error", "error", "cancelled", "waiting_for_retry", "pending", "enqueued", "in_progress", "complete"])
		found = [no for no, s in steps.items() if s[0] == wanted] or list(steps)
		no, act = int(self.rng.choice(sorted(found))), self.rng.choice(sorted(ACTIONS))
		word = self.word(no)
		self.ask("api_step_action", "%s %d%s" % (act, no, " " + word if act == "complete" else ""), action=ACTIONS[act], task_uuid=None, step_uuid="%s%06x" % (self.uuid[:30], no + 1),
		         **({"result": json.loads(self.result(word))} if act == "complete" else {}))

	def act_on_task(self):
		act = self.rng.choice(["retry", "retry", "pause", "resume", "resume"] + (["cancel", "resolve_task", "fail_task"] if self.rng.random() < 0.15 else []))
		if act == "fail_task":
			if self.model.state["task"] not in FINISHED:
				self.tell(act)
				self.e.run("SELECT tasker.fail_tasks(NULL, ARRAY[%d], ARRAY['{\"event\": \"timeout\", \"limit\": \"l\"}'::jsonb])" % self.task)
			return
		undue = int(self.e.value("SELECT count(*) FROM tasker.steps WHERE task_id = %d AND state = 'pending' AND retry_at > clock_timestamp()" % self.task))
		due = int(self.e.value("SELECT count(*) FROM tasker.steps WHERE task_id = %d AND state = 'pending' AND retry_at <= clock_timestamp()" % self.task))
		if act == "resume" and undue and due:
			self.make_due()
			undue = 0
		self.ask("api_task_action", "resume_undue" if act == "resume" and undue else act, action={"resolve_task": "resolve_manually"}.get(act, act))

	def event(self):
		"""One, and what it has led to in all tasks."""
		acts = [self.claim] * 5 + [self.record] * 8 + [self.late, self.make_due, self.act_on_task, self.act_on_step, self.act_on_step]
		self.rng.choice(acts)()
		for p in self.peers:
			p.compare()

	def drain(self):
		"""All goes well from here, and failed steps are reset: the task ends."""
		for _ in range(400):
			state = self.model.state
			if state["task"] in FINISHED:
				return
			if state["paused"]:
				self.make_due()
				self.ask("api_task_action", "resume", action="resume")
			elif state["task"] == "blocked_by_failures":
				self.ask("api_task_action", "retry", action="retry")
			else:
				self.make_due()
				self.claim()
				self.compare()
				for c in self.open()[:1]:
					self.flow.open.pop((c.task, c.step))
					word = "none" if self.w.steps[c.step % len(self.w.steps)].kind == "decision" else self.good_batch(c.step)
					self.log.append("# good: %d %s" % (c.step, word))
					self.send([(c, "success", word)], 0)
					self.tell("succeed %d %s" % (c.step, word))
			self.compare()
		self.test.fail(self.context("the task does not end"))

	def good_batch(self, no):
		s = self.w.steps[no % len(self.w.steps)]
		return "batches:%d:2" % self.w.children(s.no, "batch_worker")[0].no if s.kind == "batchable" else "ok"

	def doctor(self):
		report = self.e.doctor()
		self.test.assertTrue(report["ok"], self.context([c for c in report["checks"] if not c["ok"]]))


class Steps(unittest.TestCase):
	maxDiff = None

	def run_all(self, dynamic):
		for seed in [SEED] if SEED else FOUND * dynamic + list(range(FIRST, FIRST + N)):
			workflow = Workflow(seed, dynamic, size=14)
			for s in workflow.steps:
				s.retryable = True  # as dynflow registers them
			flow, rng = dynflow.Flow(self, register(workflow)), random.Random(seed)
			peers = []
			for n in range(EVENTS):
				if len(peers) < TASKS and rng.random() < 0.1:
					Lockstep(self, workflow, flow, rng, peers)
				for p in rng.sample(peers, min(len(peers), 1)):
					p.event()
				if n % 20 == 19 and peers:
					peers[0].doctor()
			for p in peers:
				p.drain()
				p.doctor()
			self.doCleanups()  # its database and connections

	def test_static(self):
		self.run_all(False)

	def test_dynamic(self):
		self.run_all(True)


if __name__ == "__main__":
	unittest.main()

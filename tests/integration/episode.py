"""One random run of workflows through the engine's SQL functions, by two nodes that crash, restart, repeat themselves and report nonsense. After each call the database must
agree with the naive model; every few calls the doctor must be content."""
import collections
import random
import uuid

import engine
from engine import HOUR_MS, OUTCOMES, REPORTED, Engine, Item, Node
from naive import SATISFIED, Task, World
from pg import PgError, lit

CALLS = 160    # in a run
DOCTOR_EVERY = 12
FINISHED = ("complete", "error", "cancelled", "resolved_manually")  # of tasks


class Episode:
	"""One seeded run on one database."""

	def __init__(self, test, db, seed):
		self.test, self.rng, self.world = test, random.Random(seed), World()
		self.engine = Engine(db)
		self.templates, self.handlers, self.nodes, self.created = {}, {}, [], []
		self.log = collections.deque(maxlen=6)

	def run(self):
		self.set_up()
		acts = [self.create] * 3 + [self.claim] * 6 + [self.record] * 9 + [self.make_due] * 2 + [self.cancel, self.restart, self.expire, self.reclaim,
			self.replaced_node, self.repeat_create] + [self.act_on_step] * 4 + [self.act_on_task] * 4
		for n in range(CALLS):
			act = self.rng.choice(acts)
			self.log.append(act.__name__)
			act()
			self.check_database()
			if n % DOCTOR_EVERY == 0:
				self.check_doctor()
		self.drain()
		self.check_doctor()
		self.check_history()

	# Making things

	def set_up(self):
		names = ["h%d" % i for i in range(self.rng.randint(1, 4))]
		shapes = {"empty": []}
		for n in range(self.rng.randint(2, 5)):
			shapes["t%d" % n] = self.random_steps(names)
		for name, steps in shapes.items():
			strategy = self.rng.choice(["always_unique", "always_unique", "strict", "caller_provided"])
			self.engine.run("SELECT tasker.register_template(%s)" % lit(engine.template_json(name, steps, strategy)))
			self.templates[name] = (strategy, steps)
		for handler, name, queue in self.engine.run("SELECT handler_id, callable, queue_name FROM tasker.handlers"):
			self.handlers[name] = (int(handler), queue)
		for _, steps in self.templates.values():
			for s in steps:
				s["handler_id"] = self.handlers[s["callable"]][0]
		for name in ("n1", "n2"):
			self.nodes.append(Node(name, *self.engine.register(name)))
		queues = " UNION ALL ".join(
			"SELECT %d, (message ->> 't')::bigint, (message ->> 's')::int, (message ->> 'f')::int, vt <= now() FROM pgmq.q_%s" % h
			for h in self.handlers.values())
		self.snapshot_sql = """SELECT 'task', task_id::text, state::text, open_sinks::text, n_failed::text, n_waiting::text, n_active::text FROM tasker.tasks
			UNION ALL SELECT 'step', task_id::text, step_no::text, state::text, pending_parents::text, attempts::text, fence::text FROM tasker.steps
			UNION ALL SELECT 'attempt', task_id::text, step_no::text, fence::text, outcome::text, NULL, NULL FROM tasker.step_attempts
			UNION ALL SELECT 'held', node_no::text, slot::text, x.t::text, x.s::text, x.f::text, NULL
				FROM tasker.node_claims, unnest(task_ids, step_nos, fences) AS x(t, s, f)
			UNION ALL SELECT 'message', h::text, t::text, s::text, f::text, due::text, NULL FROM (%s) AS m(h, t, s, f, due)""" % queues

	def random_steps(self, callables):
		count = self.rng.choice([1, 2, 3, 5, 8, 12])
		density = self.rng.random()
		steps = []
		for no in range(count):
			parents = [p for p in range(max(0, no - 4), no) if self.rng.random() < density]
			steps.append({"no": no, "callable": self.rng.choice(callables), "parents": parents, "retryable": self.rng.random() < 0.8,
			              "max_attempts": self.rng.randint(1, 4)})
		return steps

	def random_credits(self):
		"""(credits, cap): sometimes none, sometimes for some handlers."""
		if self.rng.random() < 0.3:
			return {}, 0
		ids = [h[0] for h in self.handlers.values() if self.rng.random() < 0.8]
		return {i: self.rng.randint(0, 6) for i in ids}, self.rng.randint(0, 10)

	def live_node(self):
		return self.rng.choice(self.nodes)

	def choose_slot(self, node):
		"""The next call of `node` may write over what it noted of steps that are all recorded."""
		done = [q for q, held in node.journal.items() if not any(self.world.is_running(k) for k in held)]
		self.engine.slot = self.rng.choice(done) if done and self.rng.random() < 0.7 else None

	def forget_slot(self, node, kinds):
		"""It has, if it claimed anything."""
		if kinds["c"]:
			node.journal.pop(self.engine.used, None)

	# What must follow from a call

	def by_kind(self, rows):
		kinds = collections.defaultdict(list)
		for r in rows:
			kinds[r.kind].append(r)
		return kinds

	def check_ready(self, node, ready, kinds, credits, cap, also_sent=()):
		"""`ready` steps [(task, step)] are now either claimed, as many as the credits allow, or in their queue."""
		by_handler = collections.Counter(s.definition["handler_id"] for _, s in ready)
		allowed = min(cap, sum(min(n, credits.get(h, 0)) for h, n in by_handler.items()))
		keys = {(t.id, s.definition["no"]): (t, s) for t, s in ready}
		claimed = {(r.task, r.step) for r in kinds["c"]}
		self.test.assertEqual(len(claimed), len(kinds["c"]), self.context("a step was claimed twice"))
		self.test.assertEqual(len(claimed), allowed, self.context("credits %s, cap %d, ready %s" % (credits, cap, by_handler)))
		self.test.assertLessEqual(claimed, keys.keys(), self.context("claimed what was not ready"))
		taken = collections.Counter(keys[r.task, r.step][1].definition["handler_id"] for r in kinds["c"])
		for h, n in taken.items():
			self.test.assertLessEqual(n, credits.get(h, 0), self.context("more than the credits of a handler"))
		sent = set(also_sent)
		for key, (t, s) in keys.items():
			if key in claimed:
				self.world.take(node, self.engine.used, (t.id, s.definition["no"], s.fence))
			else:
				self.world.send(t, s)
				sent.add(s.definition["handler_id"])
		self.check_claim_rows(kinds["c"])
		self.test.assertEqual({r.handler for r in kinds["q"]}, sent, self.context("queues announced"))

	def check_claim_rows(self, rows):
		for r in rows:
			s = self.world.step((r.task, r.step))
			self.test.assertEqual((r.attempt, r.fence), (s.attempts, s.fence), self.context(r))
			self.test.assertIn(r.handler, (s.definition["handler_id"], None), self.context(r))  # None: of a task that the caller has just made, it knows the rest

	def check_settled(self, kinds):
		settled = {t: state for t, state in self.world.note_states().items() if state in ("complete", "blocked_by_failures", "cancelled")}
		self.test.assertEqual({r.task: r.status for r in kinds["s"]}, settled, self.context("settled"))
		self.test.assertEqual(len(kinds["s"]), len(settled), self.context("settled twice"))

	def context(self, what):
		return "%s (after %s)" % (what, ", ".join(self.log))

	# The calls

	def create(self):
		node = self.live_node()
		items, wanted = [], []
		for _ in range(self.rng.randint(1, 5)):
			name = self.rng.choice(list(self.templates) + ["nowhere"])
			options = self.rng.choice([None, None, {"priority": 3}, {"idempotency_key": "k%d" % self.rng.randint(1, 6)}])
			context = {"n": self.rng.randint(1, 8)}
			raw = uuid.UUID(int=self.rng.getrandbits(128) >> 24 << 24)
			items.append((str(raw), name, context, options))
		credits, cap = self.random_credits()
		self.choose_slot(node)
		kinds = self.by_kind(self.engine.create(node, items, credits, cap))
		self.forget_slot(node, kinds)
		cap = 0 if node.expired else cap  # a node that has not proved life claims nothing
		wanted = self.expected_creations(items)
		answers = {r.idx: r for r in kinds["a"]}
		self.test.assertEqual({i: a.status for i, a in answers.items()}, dict(enumerate(wanted, 1)), self.context(items))
		ready = []
		for i, item in enumerate(items, 1):
			if answers[i].status != "created":
				continue
			task = Task(answers[i].task, item[0], self.templates[item[1]][1])
			self.world.tasks[task.id] = task
			self.created.append(item)
			ready += [(task, s) for s in task.advance()]
		self.check_ready(node, ready, kinds, credits, cap)

	def expected_creations(self, items):
		"""Statuses by the rules of identity, remembering what was created."""
		wanted = []
		for _, name, context, options in items:
			key = (options or {}).get("idempotency_key")
			if name not in self.templates:
				wanted.append("template_not_found")
				continue
			strategy = self.templates[name][0]
			if strategy == "caller_provided" and key is None:
				wanted.append("key_required")
				continue
			identity = ("key", key) if key else ("ctx", name, context["n"]) if strategy == "strict" else None
			before = self.identities.get(identity) if identity else None
			wanted.append("created" if before is None else "exists" if before == (name, context["n"]) else "conflict")
			if identity and before is None:
				self.identities[identity] = (name, context["n"])
		return wanted

	@property
	def identities(self):
		return self.__dict__.setdefault("_identities", {})

	def repeat_create(self):
		"""The same call again, as after a lost connection: the same answer, no second task."""
		if not self.created:
			return
		items = self.rng.sample(self.created, min(3, len(self.created)))
		kinds = self.by_kind(self.engine.create(self.live_node(), items, {h[0]: 5 for h in self.handlers.values()}, 10))
		self.test.assertEqual([r.status for r in kinds["a"]], ["created"] * len(items), self.context("repeat"))
		self.test.assertEqual(set(kinds), {"a"}, self.context("repeat"))

	def claim(self):
		node = self.live_node()
		credits = {h[0]: self.rng.randint(0, 5) for h in self.handlers.values() if self.rng.random() < 0.8}
		cap = self.rng.randint(0, 8)
		before = {h: dict(q) for h, q in self.world.queues.items()}
		self.choose_slot(node)
		kinds = self.by_kind(self.engine.claim(node, credits, cap))
		self.forget_slot(node, kinds)
		cap = 0 if node.expired else cap
		after = self.messages()
		gone = {h: set(before.get(h, {})) - set(after.get(h, {})) for h in credits}
		due = {h: {k for k, is_due in before.get(h, {}).items() if is_due} for h in credits}
		valid = {}
		for h in credits:
			self.test.assertLessEqual(gone[h], due[h], self.context("read a message before its time"))
			for k in gone[h]:
				del self.world.queues[h][k]
				s = self.world.step(k)
				if s.fence == k[2] and s.state in ("enqueued", "waiting_for_retry"):
					valid[k[:2]] = k
		self.test.assertEqual({(r.task, r.step) for r in kinds["c"]}, set(valid), self.context("claimed"))
		for k in valid.values():
			self.world.take(node, self.engine.used, k)
		self.check_claim_rows(kinds["c"])
		got = ({h: len(g) for h, g in gone.items()}, {r.handler for r in kinds["q"]}, {r.handler for r in kinds["d"]})
		later = {h for h in credits if len(due[h]) < len(before.get(h, {}))}
		self.test.assertIn(got, [self.expected_reads(order, cap, due, later) for order in self.rotations(list(credits.items()))] or [({}, set(), set())],
		                   self.context("credits %s, cap %d, due %s" % (credits, cap, due)))
		self.check_settled(kinds)

	@staticmethod
	def rotations(items):
		return [items[n:] + items[:n] for n in range(len(items))]

	@staticmethod
	def expected_reads(order, cap, due, later):
		"""(messages read from each queue, queues that may hold more, queues that have only messages for later) of a claim in this order."""
		reads, more, waiting = {}, set(), set()
		for h, quota in order:
			want = max(0, min(cap, quota))
			reads[h] = min(want, len(due[h]))
			cap -= reads[h]
			if reads[h] == want:
				more.add(h)
			elif h in later:
				waiting.add(h)
		return reads, more, waiting

	def messages(self):
		found = collections.defaultdict(dict)
		for r in self.engine.run(self.snapshot_sql):
			if r[0] == "message":
				found[int(r[1])][int(r[2]), int(r[3]), int(r[4])] = r[5] == "true"
		return found

	def random_item(self, keys):
		"""A result, mostly of a running attempt; else of one that is over, or that never was."""
		x = self.rng.random()
		if keys and x < 0.85:
			key = keys.pop(self.rng.randrange(len(keys))) if self.rng.random() < 0.95 else self.rng.choice(keys)
		elif self.world.recorded and x < 0.93:
			again = [k for k in self.world.recorded if self.world.step(k).state == "in_progress"]
			key = self.rng.choice(again if again and x < 0.9 else list(self.world.recorded))
		elif self.world.tasks:
			task = self.rng.choice(list(self.world.tasks.values()))
			no = self.rng.randint(0, max(len(task.steps) - 1, 0)) if self.rng.random() < 0.9 else 999
			s = self.world.step((task.id, no))
			key = (task.id, no, max(0, (s.fence if s else 0) + self.rng.choice([-1, 0, 1, 7])))
		else:
			key = (12345678, 0, 1)
		outcome = self.rng.choice(("success",) * 12 + OUTCOMES)
		retry = outcome not in ("success", "permanent_error", "invalid_result")
		return Item(*key, outcome, retry, self.rng.choice([0, HOUR_MS]))

	def record(self, items=None):
		node = self.live_node()
		if items is None:
			keys = [k for n in self.nodes for held in n.journal.values() for k in held if self.world.is_running(k)]
			items = [self.random_item(keys) for _ in range(self.rng.randint(1, 8))]
		credits, cap = self.random_credits()
		self.choose_slot(node)
		slot = self.engine.slot
		kinds = self.by_kind(self.record_known(node, items, credits, cap) or self.record_all(node, items, credits, cap, slot))
		self.forget_slot(node, kinds)
		cap = 0 if node.expired else cap
		answers = {r.idx: r for r in kinds["a"]}
		self.test.assertEqual(sorted(r.idx for r in kinds["a"]), list(range(1, len(items) + 1)), self.context("one answer for each item"))
		sent = self.apply_results(items, answers)
		self.world.announced = set()
		self.world.advance_paused()
		sent |= self.world.announced
		ready = [(t, s) for t in self.world.tasks.values() if not t.ended for s in t.advance()]
		self.check_ready(node, ready, kinds, credits, cap, sent)
		self.check_settled(kinds)

	def record_all(self, node, items, credits, cap, slot):
		self.engine.slot = slot
		return self.engine.record(node, items, credits, cap)

	def record_known(self, node, items, credits, cap):
		"""Rows of record_one or record_many where the daemon would call it: successes of steps whose children have no other parent."""
		if node.expired:
			return None
		left, results = dict(credits), []
		for item in items:
			s = self.world.step(item[:2])
			if item.outcome != "success" or s is None:
				return None
			children = [c for c in (x.definition for x in self.world.tasks[item.task].steps) if s.definition["no"] in c["parents"]]
			if any(c["parents"] != [s.definition["no"]] for c in children):
				return None
			results.append((item, [(c["no"], c["handler_id"]) for c in children], [False] * len(children)))
		# Of what is ready, the credits go to the first tasks and steps.
		for item, children, takes in sorted(results):
			for n, (_, handler) in enumerate(children):
				takes[n] = cap > 0 and left.get(handler, 0) > 0
				cap -= takes[n]
				left[handler] = left.get(handler, 0) - takes[n]
		return self.engine.record_one(node, *results[0]) if len(items) == 1 else self.record_several(node, results)

	def record_several(self, node, results):
		"""None, and nothing has changed: not all of them are such cases."""
		slot = self.engine.slot
		self.engine.run("BEGIN")
		try:
			rows = self.engine.record_many(node, results)
		except PgError as e:
			if e.sqlstate != "TK002":
				raise
			rows = []
		whole = sum(r.kind == "a" for r in rows) == len(results)
		self.engine.run("COMMIT" if whole else "ROLLBACK")
		self.engine.slot = slot
		return rows if whole else None

	def apply_results(self, items, answers):
		"""Do in the model what the answers say was done, checking that it was right; the handlers whose queues got a message."""
		self.world.announced = set()
		rejected = []
		named = collections.Counter(i[:3] for i in items)
		for idx in sorted(answers):
			item, status = items[idx - 1], answers[idx].status
			if status in ("duplicate", "stale"):
				rejected.append((item, status))
				continue
			self.test.assertTrue(self.world.is_running(item[:3]), self.context("%s was accepted" % (item,)))
			self.test.assertEqual(self.world.end(item), status, self.context(item))
		for item, status in rejected:
			self.test.assertFalse(self.world.is_running(item[:3]) and named[item[:3]] == 1, self.context("%s was refused" % (item,)))
			known = self.world.recorded.get(item[:3]) in REPORTED
			self.test.assertEqual(status, "duplicate" if known else "stale", self.context(item))
		return set(self.world.announced)

	def make_due(self):
		"""Time passes for some of the steps that wait."""
		for h, queue in self.handlers.values():
			keys = [k for k, due in self.world.queues[h].items() if not due and self.rng.random() < 0.7]
			for k in keys:
				rows = self.engine.run("SELECT vt <= clock_timestamp() FROM pgmq.set_vt(%s, (SELECT msg_id FROM pgmq.q_%s WHERE message @> %s), 0)" % (
					lit(queue), queue, lit({"t": k[0], "s": k[1], "f": k[2]})))
				self.test.assertEqual(rows, [["t"]])
				self.world.queues[h][k] = True

	def cancel(self):
		if not self.world.tasks or self.rng.random() < 0.3:
			kinds = self.by_kind(self.engine.cancel(self.live_node(), str(uuid.UUID(int=7))))
			self.test.assertEqual([r.status for r in kinds["a"]], ["not_found"])
			return
		state = self.rng.choice(sorted({t.state() for t in self.world.tasks.values()}))
		task = self.rng.choice([t for t in self.world.tasks.values() if t.state() == state])
		running = {(task.id, s.definition["no"], s.fence) for s in task.steps if s.state == "in_progress"}
		finished = task.state() in FINISHED
		kinds = self.by_kind(self.engine.cancel(self.live_node(), task.uuid))
		self.test.assertEqual([r.status for r in kinds["a"]], ["conflict" if finished else "cancelled"], self.context("cancel"))
		if not finished:
			task.ended, task.counted, task.paused = "cancelled", True, False
			for s in task.steps:
				s.state = s.state if s.state in SATISFIED else "cancelled"
			for key in running:
				self.world.recorded[key] = "cancelled"
			self.test.assertEqual({(r.task, r.step, r.fence) for r in kinds["x"]}, running, self.context("to be told"))
		self.check_settled(kinds)

	def act(self, function, refused, **params):
		"""An operator's request; what should happen is told by `refused`."""
		call = "SELECT tasker.%s(%s)" % (function, lit({"by": {"uid": 7}, "reason": "because", **params}))
		if not refused:
			self.engine.run(call)
			return True
		with self.test.assertRaises(PgError) as caught:
			self.engine.run(call)
		self.test.assertEqual(caught.exception.sqlstate, "TK409", self.context(caught.exception))
		return False

	def pick_task(self, *states):
		"""A task, mostly one in one of these states."""
		tasks = [t for t in self.world.tasks.values() if t.state() in states and t.steps] if self.rng.random() < 0.9 else []
		state = self.rng.choice(sorted({t.state() for t in tasks}) or [None])  # rare ones as often as others
		tasks = [t for t in tasks if t.state() == state]
		return self.rng.choice(tasks or [t for t in self.world.tasks.values() if t.steps] or [None])

	def reset(self, task, s):
		s.attempts, s.fence, s.held = 0, s.fence + 1, "now" if task.paused else None
		s.state = "pending" if task.paused else "enqueued"
		if not task.paused:
			self.world.send(task, s)

	def satisfy(self, task, s, state):
		if s.state == "in_progress":
			self.world.recorded[task.id, s.definition["no"], s.fence] = "cancelled"
		s.state, s.held = state, None
		self.world.advance_paused()
		for ready in task.advance():
			self.world.send(task, ready)

	def act_on_step(self):
		task = self.pick_task("blocked_by_failures", "waiting_for_retry", "steps_in_process")
		if task is None:
			return
		good = [s for s in task.steps if s.state not in SATISFIED and not task.pending_parents(s)]
		s = self.rng.choice(good if good and self.rng.random() < 0.8 else task.steps)
		action = self.rng.choice(["reset_for_retry", "resolve_manually", "skip", "complete_manually"])
		over = task.state() in FINISHED
		refused = over or (s.state not in ("error", "waiting_for_retry") if action == "reset_for_retry" else s.state in SATISFIED + ("cancelled",) or task.pending_parents(s) > 0)
		params = {"task_uuid": task.uuid, "step": "s%d" % s.definition["no"], "action": action, **({"result": {"by": "hand"}} if action == "complete_manually" else {})}
		if not self.act("api_step_action", refused, **params):
			return
		task.counted = True
		if action == "reset_for_retry":
			self.reset(task, s)
		else:
			self.satisfy(task, s, "complete" if action == "complete_manually" else "resolved_manually")
		self.world.note_states()

	def act_on_task(self):
		action = self.rng.choice(["cancel", "retry", "resolve_manually", "pause", "pause", "resume", "resume"])
		if any(t.state() == "waiting_for_retry" for t in self.world.tasks.values()):  # seldom, and soon over
			action = self.rng.choice(["cancel", "pause", "resume"])
		waiting = [t for t in self.world.tasks.values() if t.state() == "waiting_for_retry"]
		task = self.rng.choice(waiting) if waiting else self.pick_task(*(("blocked_by_failures",) if action in ("retry", "resolve_manually") else ("steps_in_process", "waiting_for_retry", "blocked_by_failures")))
		if task is None:
			return
		refused = task.state() in FINISHED or (action == "pause" and task.paused) or (action == "resume" and not task.paused) or (
			action == "resolve_manually" and task.state() != "blocked_by_failures") or (action == "retry" and not task.count("error"))
		if not self.act("api_task_action", refused, task_uuid=task.uuid, action=action):
			return
		task.counted = True
		if action in ("cancel", "resolve_manually"):
			for s in task.steps:
				if s.state == "in_progress":
					self.world.recorded[task.id, s.definition["no"], s.fence] = "cancelled"
				if s.state not in SATISFIED and (s.state != "error" or action == "cancel"):
					s.state = "cancelled"
			task.ended, task.paused = "cancelled" if action == "cancel" else "resolved_manually", False
		elif action == "pause":
			task.paused = True
			for s in task.steps:
				if s.state in ("enqueued", "waiting_for_retry"):
					self.world.hold(s, "later" if s.state == "waiting_for_retry" else "now")
			if waiting and self.rng.random() < 0.6:
				self.act("api_task_action", False, task_uuid=task.uuid, action="resume")
				self.resume(task)
		elif action == "retry":
			for s in task.steps:
				if s.state == "error":
					self.reset(task, s)
		else:
			self.resume(task)
		self.world.note_states()

	def resume(self, task):
		task.paused = False
		for s in task.steps:
			if s.held and s.state == "pending":
				s.state = "waiting_for_retry" if s.held == "later" else "enqueued"
				self.world.send(task, s, due=s.held == "now")
			s.held = None

	def restart(self):
		"""A node's daemon is killed and started again: it finds what it held."""
		node = self.live_node()
		no, node.incarnation = self.engine.register(node.name)
		self.test.assertEqual(no, node.no)
		node.expired = False
		held = {k for keys in node.journal.values() for k in keys if self.world.is_running(k)}
		kinds = self.by_kind(self.engine.adopt(node))
		self.test.assertEqual({(r.task, r.step, r.fence) for r in kinds["c"]}, held, self.context("adopted"))
		self.check_claim_rows(kinds["c"])
		node.journal = {self.engine.used: held} if held else {}

	def expire(self):
		"""A node stops proving that it lives."""
		node = self.live_node()
		if all(n.expired or n is node for n in self.nodes):
			return
		self.engine.run("UPDATE tasker.nodes SET lease_until = now() - interval '1 second' WHERE node_no = %d" % node.no)
		node.expired = True

	def reclaim(self):
		alive = [n for n in self.nodes if not n.expired]
		caller = self.rng.choice(alive or self.nodes)
		kinds = self.by_kind(self.engine.reclaim(caller, self.rng.choice([1, 3, 1000])))
		answers = {r.idx: r.attempt for r in kinds["a"]}
		left = {int(r[2]) for r in self.engine.run(self.snapshot_sql) if r[0] == "held"}
		self.world.announced = set()
		for node in self.nodes:
			if not node.expired or node is caller:
				self.test.assertNotIn(node.no, answers, self.context("reclaimed a node that lives"))
				continue
			gone = [q for q in node.journal if q not in left]
			lost = [k for q in gone for k in node.journal[q] if self.world.is_running(k)]
			for q in gone:
				del node.journal[q]
			for k in lost:
				self.world.end(Item(*k, "worker_lost", True, 0))
			if gone:
				self.test.assertEqual(answers.get(node.no), len(lost), self.context("steps taken back"))
		self.test.assertEqual({r.handler for r in kinds["q"]}, self.world.announced, self.context("queues announced"))
		self.check_settled(kinds)

	def replaced_node(self):
		"""A daemon that another has replaced writes nothing."""
		node = self.live_node()
		old = Node(node.name, node.no, node.incarnation - 1)
		calls = (lambda: self.engine.create(old, [(str(uuid.UUID(int=1 << 24)), "t0", {}, None)], {}, 0), lambda: self.engine.claim(old, {1: 1}, 1),
		         lambda: self.engine.record(old, [Item(1, 0, 1, "success", True, 0)], {}, 0), lambda: self.engine.adopt(old))
		with self.test.assertRaises(PgError) as caught:
			self.rng.choice(calls)()
		self.test.assertEqual(caught.exception.sqlstate, "TK001")

	def drain(self):
		"""Let everything run to its end: no task may be left that moves no more."""
		credits = {h[0]: 1000 for h in self.handlers.values()}
		for node in self.nodes:
			self.engine.run("UPDATE tasker.nodes SET lease_until = now() + interval '1 hour' WHERE node_no = %d" % node.no)
			node.expired = False
		for task in self.world.tasks.values():
			if task.paused and not task.state() in FINISHED:
				self.act("api_task_action", False, task_uuid=task.uuid, action="resume")
				self.resume(task)
		self.world.note_states()
		for _ in range(200):
			self.log.append("drain")
			self.make_due()
			self.rng.choice([self.claim, self.claim, lambda: self.engine.claim(self.nodes[0], {}, 0)])()
			keys = [k for n in self.nodes for held in n.journal.values() for k in held if self.world.is_running(k)]
			if keys:
				self.record([Item(*k, self.rng.choice(("success",) * 9 + ("handler_error",)), True, 0) for k in keys])
			self.check_database()
			if all(t.state() in FINISHED + ("blocked_by_failures",) for t in self.world.tasks.values()):
				break
		states = collections.Counter(t.state() for t in self.world.tasks.values())
		self.test.assertLessEqual(set(states), set(FINISHED + ("blocked_by_failures",)), "stranded after draining, credits %s" % credits)

	# Is the database as it must be?

	def check_database(self):
		got = collections.defaultdict(set)
		rows = self.engine.run(self.snapshot_sql)
		active = {}
		for r in rows:
			if r[0] == "task":
				active[int(r[1])] = r[6]
				r[6] = None
			got[r[0]].add(tuple(r[1:]))
		w = self.world
		want = collections.defaultdict(set)
		for t in w.tasks.values():
			quiet = t.ended
			want["task"].add((str(t.id), t.state(), str(t.open_sinks()), str(0 if quiet else t.count("error")),
			                  str(0 if quiet else t.count("waiting_for_retry")), None))
			for s in t.steps:
				want["step"].add((str(t.id), str(s.definition["no"]), s.state, str(t.pending_parents(s)), str(s.attempts), str(s.fence)))
			if t.counted or active[t.id] is not None:
				self.test.assertEqual(active[t.id], str(t.active()), self.context("n_active of task %d" % t.id))
		want["attempt"] = {(str(k[0]), str(k[1]), str(k[2]), outcome, None, None) for k, outcome in w.recorded.items()}
		want["held"] = {(str(n.no), str(q), str(k[0]), str(k[1]), str(k[2]), None) for n in self.nodes for q, held in n.journal.items() for k in held}
		want["message"] = {(str(h), str(k[0]), str(k[1]), str(k[2]), "true" if due else "false", None) for h, q in w.queues.items() for k, due in q.items()}
		for kind in ("task", "step", "attempt", "held", "message"):
			self.test.assertEqual(got[kind], want[kind], self.context(kind))
		self.test.assertEqual(len(rows), sum(map(len, want.values())), self.context("rows twice"))

	def check_doctor(self):
		report = self.engine.doctor()
		self.test.assertTrue(report["ok"], self.context([c for c in report["checks"] if not c["ok"]]))

	def check_history(self):
		"""A task's history names every state it rested in, each following from the one before."""
		told = collections.defaultdict(list)
		for task, was, now in self.engine.run("SELECT task_id, from_state, to_state FROM tasker.task_history ORDER BY task_id, at"):
			told[int(task)].append((was, now))
		for t in self.world.tasks.values():
			want = list(zip([None] + t.history, t.history))
			self.test.assertEqual(told[t.id], want, "history of task %d" % t.id)
			for was, now in want[1:]:
				self.test.assertTrue(engine.tables().allows("task", was, now), (was, now))

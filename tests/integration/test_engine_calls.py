"""Calls of the engine's SQL functions that meet, come late or come twice.

NothingChanges: what names an attempt that is over is refused and leaves every row as it was. InFlight: a claim that commits after its daemon has gone is
found. LockOrder: calls that meet do not deadlock. Told: other nodes hear of what has settled. SeveralNodes: nodes at work at the same time, watched by the doctor.
"""
import collections
import json
import os
import random
import sys
import threading
import unittest
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import engine  # noqa: E402
import pg  # noqa: E402
from engine import HOUR_MS, OUTCOMES, REPORTED, Engine, Item, Node  # noqa: E402
from pg import PgError, lit  # noqa: E402


def shape(*parents, retryable=True, max_attempts=3):
	"""Steps for template_json, one for each tuple of parents, all of one handler."""
	return [{"no": n, "callable": "h", "parents": list(p), "retryable": retryable, "max_attempts": max_attempts} for n, p in enumerate(parents)]


FAN = ((), (), (0,), (0, 1))      # two roots, a child of one, a child of both
DUMP = """SELECT 'tasks', x::text FROM tasker.tasks x UNION ALL SELECT 'steps', x::text FROM tasker.steps x
	UNION ALL SELECT 'attempts', x::text FROM tasker.step_attempts x UNION ALL SELECT 'transitions', x::text FROM tasker.task_transitions x
	UNION ALL SELECT 'claims', x::text FROM tasker.node_claims x UNION ALL SELECT 'nodes', x::text FROM tasker.nodes x
	UNION ALL SELECT 'queue', x::text FROM pgmq.q_%s x"""


class OneTask(unittest.TestCase):
	"""A database with one handler, two nodes and one task."""

	steps = shape(*FAN)

	def setUp(self):
		engine.new_database("one")
		self.addCleanup(engine.cluster().dropdb, "one")
		self.e = self.connect()
		self.e.run("SELECT tasker.register_template(%s)" % lit(engine.template_json("t", self.steps, "always_unique")))
		handler, self.queue = self.e.run("SELECT handler_id, queue_name FROM tasker.handlers")[0]
		self.all = {int(handler): 100}
		self.a, self.b = Node("a", *self.e.register("a")), Node("b", *self.e.register("b"))
		self.uuid = "0198a1b2-c3d4-7fff-bfff-ffffff000000"
		self.task = self.e.create(self.a, [(self.uuid, "t", {}, None)], {}, 0)[-1].task

	def connect(self):
		conn = Engine("one")
		self.addCleanup(conn.close)
		return conn

	def wait_or_done(self, conn, statement):
		"""Return once `conn` waits for a lock, or has run a statement that contains `statement`."""
		pg.wait_for(lambda: self.e.run("SELECT 1 FROM pg_stat_activity WHERE pid = %d AND (wait_event_type = 'Lock' OR state LIKE 'idle%%' AND query LIKE %s)" % (
			conn.session.pid, lit("%" + statement + "%"))), "a lock, or the end of " + statement)

	def everything(self):
		return sorted(map(tuple, self.e.run(DUMP % self.queue)))

	def item(self, step, fence, outcome="success", delay_ms=0):
		return Item(self.task, step, fence, outcome, outcome != "permanent_error", delay_ms)

	def record(self, *items, credits=None):
		"""The statuses of the answers, in order."""
		rows = self.e.record(self.a, list(items), credits or {}, 100 if credits else 0)
		return [r.status for r in sorted((r for r in rows if r.kind == "a"), key=lambda r: r.idx)]

	def assert_refused(self, status, *items):
		before = self.everything()
		self.assertEqual(self.record(*items, credits=self.all), [status] * len(items))
		self.assertEqual(self.everything(), before)

	def assert_sound(self):
		report = self.e.doctor()
		self.assertTrue(report["ok"], [c for c in report["checks"] if not c["ok"]])


class NothingChanges(OneTask):
	"""A call that names what is no longer so gets an answer and changes not a byte."""

	def test_stale_fence(self):
		self.e.claim(self.a, self.all, 1)
		for outcome in OUTCOMES:
			with self.subTest(outcome):
				self.assert_refused("stale", self.item(0, 0, outcome), self.item(0, 2, outcome), self.item(0, -1, outcome))
		self.assertEqual(self.record(self.item(0, 1)), ["recorded"])
		self.assert_sound()

	def test_not_running(self):
		for outcome in ("success", "timeout"):
			with self.subTest(outcome):
				self.assert_refused("stale", self.item(0, 0, outcome), self.item(2, 0, outcome), self.item(77, 0, outcome),
				                    Item(self.task + 1, 0, 0, outcome, True, 0))

	def test_duplicate(self):
		for outcome in REPORTED:
			with self.subTest(outcome):
				row = self.e.claim(self.a, self.all, 1)[-1]
				item = self.item(row.step, row.fence, outcome)
				self.assertNotIn(self.record(item)[0], ("stale", "duplicate"))
				for again in OUTCOMES:
					self.assert_refused("duplicate", self.item(row.step, row.fence, again), item)

	def test_late_result_of_an_attempt_that_ended_otherwise(self):
		for outcome in ("timeout", "worker_lost", "released"):
			with self.subTest(outcome):
				row = self.e.claim(self.a, self.all, 1)[-1]
				self.record(self.item(row.step, row.fence, outcome))
				self.assert_refused("stale", self.item(row.step, row.fence), self.item(row.step, row.fence, outcome))

	def test_same_attempt_twice_in_one_batch(self):
		for first, second in (("success", "success"), ("success", "released"), ("handler_error", "handler_error"), ("handler_error", "success")):
			with self.subTest(first=first, second=second):
				row = self.e.claim(self.a, self.all, 1)[-1]
				statuses = self.record(self.item(row.step, row.fence, first), self.item(row.step, row.fence, second))
				self.assertEqual(sorted(statuses)[0], "duplicate")
				self.assertNotIn(sorted(statuses)[1], ("stale", "duplicate"))
				self.assert_sound()

	def test_cancelled(self):
		self.e.claim(self.a, self.all, 1)
		self.e.cancel(self.b, self.uuid)
		self.assert_refused("stale", self.item(0, 1), self.item(0, 1, "handler_error"), self.item(1, 0))
		before = self.everything()
		self.assertEqual([r.status for r in self.e.cancel(self.b, self.uuid)], ["conflict"])
		self.assertEqual(self.everything(), before)

	def test_claimed_twice(self):
		self.assertEqual(len([r for r in self.e.claim(self.a, self.all, 100) if r.kind == "c"]), 2)
		before = self.everything()
		for node in (self.a, self.b):
			self.assertEqual(self.e.claim(node, self.all, 100), [])
		self.assertEqual(self.everything(), before)

	def test_messages_twice(self):
		"""A message that is in the queue more than once, by whatever accident, runs its step once."""
		twice = "INSERT INTO pgmq.q_%s (vt, message) SELECT vt, message FROM pgmq.q_%s" % (self.queue, self.queue)
		self.e.run(twice)
		self.assertEqual(sorted(r.step for r in self.e.claim(self.a, self.all, 3) if r.kind == "c"), [0, 1])
		self.assertEqual([r for r in self.e.claim(self.b, self.all, 100) if r.kind == "c"], [])
		self.record(self.item(0, 1, "timeout", HOUR_MS), self.item(1, 1, "timeout", HOUR_MS))
		self.e.run(twice)
		self.e.run("UPDATE pgmq.q_%s SET vt = now()" % self.queue)
		self.assertEqual(sorted(r.step for r in self.e.claim(self.a, self.all, 100) if r.kind == "c"), [0, 1])
		self.assert_sound()

	def test_claims_at_the_same_time(self):
		other = self.connect()
		self.e.run("BEGIN")
		self.assertEqual(len([r for r in self.e.claim(self.a, self.all, 1) if r.kind == "c"]), 1)
		self.assertEqual(len([r for r in other.claim(self.b, self.all, 100) if r.kind == "c"]), 1)
		self.e.run("ROLLBACK")
		self.assertEqual(len([r for r in other.claim(self.b, self.all, 100) if r.kind == "c"]), 1)
		self.assert_sound()


class InFlight(OneTask):
	"""What a call has claimed is found after its daemon or its connection is gone, even if it commits after that, or it does not commit at all."""

	steps = shape((), (0,))

	def setUp(self):
		super().setUp()
		self.old = self.connect()
		self.old.claim(self.a, self.all, 1)
		self.old.run("BEGIN")

	def record_on_old(self):
		"""The call in question: it claims the second step, and its answer is lost."""
		rows = self.old.record(self.a, [self.item(0, 1)], self.all, 100)
		self.assertEqual([r.step for r in rows if r.kind == "c"], [1])

	def commit_meanwhile(self, sql):
		"""Begin `sql`, commit the call in flight as soon as `sql` waits for it or has gone past it; the rows of `sql`."""
		self.record_on_old()
		new = self.connect()
		new.session.start(sql)
		self.wait_or_done(new, "_claims")
		self.old.run("COMMIT")
		return new.session.finish()

	def recover(self, seq):
		return "SELECT task_id, step_no, fence FROM tasker.recover_claims(%d, %d, %d)" % (self.a.no, seq, seq)

	def test_adopted_after_a_restart(self):
		rows = self.commit_meanwhile("""SELECT node_no AS no, incarnation AS inc FROM tasker.node_register('a', 'h', 2, 'v', 600000) \\gset
			SELECT task_id, step_no, fence FROM tasker.adopt_claims(:no, :inc, 5000, 5000)""")
		self.assertEqual(rows, [[str(self.task), "1", "1"]])

	def test_recovered_after_a_lost_connection(self):
		self.assertEqual(self.commit_meanwhile(self.recover(self.old.seq + 1)), [[str(self.task), "1", "1"]])

	def test_recovered_before_the_call_arrives(self):
		self.assertEqual(self.e.run(self.recover(self.old.seq + 1)), [])
		before = self.everything()
		with self.assertRaises(PgError):
			self.record_on_old()
		self.old.run("ROLLBACK")
		self.assertEqual(self.everything(), before)
		self.assert_sound()


class LockOrder(OneTask):
	"""Calls that meet on the same rows wait for each other, and not in a circle: a deadlock costs the server's patience and a batch."""

	steps = shape((), (), ())

	def setUp(self):
		super().setUp()
		self.holder, self.first, self.second = self.connect(), self.connect(), self.connect()
		self.holder.run("BEGIN")

	def start(self, conn, call):
		"""Begin a call that must wait for another."""
		conn.session.start("SELECT kind, status FROM tasker." + call)
		pg.wait_for(lambda: self.e.run("SELECT 1 FROM pg_stat_activity WHERE pid = %d AND wait_event_type = 'Lock'" % conn.session.pid), "a lock")

	def finish(self, end):
		"""Let the holder go; both calls must come to their end."""
		self.holder.run(end)
		for conn in (self.first, self.second):
			conn.session.finish()
		self.assert_sound()

	def hold_step(self, task, step):
		self.holder.run("SELECT 1 FROM tasker.steps WHERE task_id = %d AND step_no = %d FOR UPDATE" % (task, step))

	def test_claim_and_cancel(self):
		for step in (1, 2, 0):  # as after a retry, the first step comes last
			message = self.e.value("DELETE FROM pgmq.q_%s WHERE (message ->> 's')::int = %d RETURNING message" % (self.queue, step))
			self.e.run("SELECT pgmq.send(%s, %s::jsonb)" % (lit(self.queue), lit(message)))
		self.hold_step(self.task, 2)
		self.start(self.first, "claim(%s, %s)" % (self.first.node_args(self.a), Engine.credit_args(self.all, 3)))
		self.start(self.second, "cancel_task(%d, %s, 'r', 'o', false)" % (self.b.no, lit(self.uuid)))
		self.finish("COMMIT")

	def test_two_lost_nodes_and_results(self):
		c = Node("c", *self.e.register("c"))
		other = self.e.create(self.a, [(self.uuid.replace("b2", "b3"), "t", {}, None)], self.all, 3)[-1].task
		self.e.claim(self.b, self.all, 3)  # of two lost nodes one holds the steps of the newer task, the other those of the older
		self.hold_step(other, 0)
		self.e.run("UPDATE tasker.nodes SET lease_until = now() - interval '1 second' WHERE node_no <> %d" % c.no)
		self.start(self.first, "reclaim(%d, false, 1000)" % c.no)
		items = [Item(self.task, 0, 1, "success", True, 0), Item(other, 1, 1, "success", True, 0)]
		self.start(self.second, self.second.record_call(self.b, items, {}, 0))
		self.finish("COMMIT")

	def test_identities_in_opposite_orders(self):
		def keyed(*keys):
			return [(str(uuid.UUID(int=random.getrandbits(128) >> 24 << 24)), "t", {}, {"idempotency_key": k}) for k in keys]
		self.holder.create(self.a, keyed("k3"), {}, 0)
		self.start(self.first, self.first.create_call(self.a, keyed("k1", "k3", "k2"), {}, 0))
		self.second.session.start("SELECT kind, status FROM tasker." + self.second.create_call(self.b, keyed("k2", "k1"), {}, 0))
		self.wait_or_done(self.second, "create_tasks")
		self.finish("ROLLBACK")

	def test_claims_pass_each_other_by(self):
		self.e.run("UPDATE pgmq.q_%s SET vt = now() - interval '1 second'" % self.queue)  # retries whose time has come
		self.assertEqual(len([r for r in self.holder.claim(self.a, self.all, 2) if r.kind == "c"]), 2)
		self.first.run("SET lock_timeout = '10s'")
		self.assertEqual([r for r in self.first.claim(self.b, self.all, 3) if r.kind == "c"], [])
		self.holder.run("COMMIT")
		self.assertEqual(len([r for r in self.first.claim(self.b, self.all, 3) if r.kind == "c"]), 1)
		self.assert_sound()

	def test_a_reset_keeps_its_timer_when_timers_are_looked_at(self):
		limited = engine.template_json("limited", shape(()), "always_unique")
		limited["definition"] = {"lifecycle": {"max_duration_minutes": 60}}
		self.e.run("SELECT tasker.register_template(%s)" % lit(json.dumps(limited)))
		other = self.uuid.replace("b2", "b3")
		task = self.e.create(self.a, [(other, "limited", {}, None)], {}, 0)[-1].task
		self.e.run("SELECT tasker.fail_tasks(NULL, ARRAY[%d], ARRAY['{\"event\": \"timeout\", \"limit\": \"l\"}'::jsonb])" % task)
		self.e.run("UPDATE tasker.task_deadlines SET due_at = now() - interval '1 minute'")
		self.holder.run("SELECT tasker.api_task_action('{\"task_uuid\": \"%s\", \"action\": \"retry\", \"reason\": \"r\"}')" % other)
		self.first.session.start("SELECT tasker.sweep_deadlines(%d, 10)" % self.b.no)
		self.wait_or_done(self.first, "sweep_deadlines")
		self.holder.run("COMMIT")
		self.first.session.finish()
		self.assertEqual(self.e.value("SELECT count(*) FROM tasker.task_deadlines WHERE task_id = %d" % task), "1")
		self.assert_sound()


class Told(OneTask):
	"""Other nodes hear of what has settled, whoever has found it."""

	steps = shape((), retryable=False)

	def test_of_a_lost_node(self):
		listener = self.connect()
		listener.run("LISTEN tasker_settled_%s" % self.e.value("SELECT secret FROM tasker.channels"))
		self.e.claim(self.a, self.all, 1)
		self.e.run("UPDATE tasker.nodes SET lease_until = now() - interval '1 second' WHERE node_no = %d" % self.a.no)
		self.e.run("SELECT tasker.reclaim(%d, true, 10)" % self.b.no)
		self.assertEqual(self.e.value("SELECT state FROM tasker.tasks"), "blocked_by_failures")
		pg.wait_for(lambda: self.uuid in str(listener.run("SELECT 1")), "a word of the task that has settled")


class SeveralNodes(unittest.TestCase):
	"""Nodes on connections of their own, at the same time, without a model: the doctor watches, and what was handed out and accepted is counted."""

	NODES = 4
	ROUNDS = 60

	def setUp(self):
		engine.new_database("several")
		self.addCleanup(engine.cluster().dropdb, "several")
		self.lock = threading.Lock()
		self.seen = []        # (task, step, fence) given to a node
		self.accepted = []    # of which a result was accepted
		self.uuids = []
		self.failures = []

	def test_at_once(self):
		setup = Engine("several")
		self.addCleanup(setup.close)
		rng = random.Random(int(os.environ.get("TASKERD_SEED", "1")))
		for n in range(4):
			steps = [{"no": i, "callable": "h%d" % rng.randint(0, 2), "parents": [p for p in range(i) if rng.random() < 0.4],
			          "retryable": True, "max_attempts": 3} for i in range(6)]
			setup.run("SELECT tasker.register_template(%s)" % lit(engine.template_json("t%d" % n, steps, "strict")))
		handlers = {int(r[0]): r[1] for r in setup.run("SELECT handler_id, queue_name FROM tasker.handlers")}
		nodes = [Node("n%d" % n, *setup.register("n%d" % n)) for n in range(self.NODES)]
		threads = [threading.Thread(target=self.guarded, args=(node, handlers, rng.random())) for node in nodes]
		for t in threads:
			t.start()
		while any(t.is_alive() for t in threads):
			self.check_doctor(setup)
		for t in threads:
			t.join()
		self.assertEqual(self.failures, [])
		self.drain(setup, nodes, handlers)
		self.check_doctor(setup)
		self.check_end(setup)

	def guarded(self, node, handlers, seed):
		try:
			conn = Engine("several")
			try:
				self.work(conn, node, handlers, random.Random(seed))
			finally:
				conn.close()
		except Exception as e:  # handed to the test's own thread
			self.failures.append(repr(e))

	def retrying(self, call):
		"""The rows of `call`, repeated after a deadlock or when the lease ended under way, as the daemon does."""
		while True:
			try:
				return call()
			except PgError as e:
				if e.sqlstate not in ("40P01", "TK002"):
					raise

	def given(self, rows):
		keys = [(r.task, r.step, r.fence) for r in rows if r.kind == "c"]
		with self.lock:
			self.seen += keys
		return keys

	def work(self, conn, node, handlers, rng):
		held = []
		for _ in range(self.ROUNDS):
			x = rng.random()
			credits = {h: rng.randint(0, 4) for h in rng.sample(sorted(handlers), len(handlers))}
			if x < 0.2:
				items = [(str(uuid.UUID(int=rng.getrandbits(128) >> 24 << 24)), "t%d" % rng.randint(0, 3), {"n": rng.randint(0, 60)}, None)
				         for _ in range(rng.randint(1, 4))]
				rows = self.retrying(lambda: conn.create(node, items, credits, 5))
				with self.lock:
					self.uuids += [i[0] for i in items]
				held += self.given(rows)
			elif x < 0.5:
				held += self.given(self.retrying(lambda: conn.claim(node, credits, 8)))
			elif x < 0.9:
				held = self.report(conn, node, credits, rng, held)
			elif x < 0.95 and self.uuids:
				victim = rng.choice(self.uuids)
				self.retrying(lambda: conn.cancel(node, victim))
			else:
				other = rng.choice([n for n in range(1, self.NODES + 1) if n != node.no])
				self.retrying(lambda: conn.run("UPDATE tasker.nodes SET lease_until = now() - interval '1 second' WHERE node_no = %d" % other))
				self.retrying(lambda: conn.reclaim(node, 5))

	def report(self, conn, node, credits, rng, held):
		"""Results for some of what is held, and for some of what others hold or held."""
		rng.shuffle(held)
		mine, rest = held[:6], held[6:]
		with self.lock:
			foreign = rng.sample(self.seen, min(2, len(self.seen)))
		items = [Item(*k, rng.choice(("success",) * 6 + OUTCOMES), True, rng.choice([0, 1])) for k in dict.fromkeys(mine + foreign)]
		if not items:
			return rest
		rows = self.retrying(lambda: conn.record(node, items, credits, 5))
		with self.lock:
			self.accepted += [items[r.idx - 1][:3] for r in rows if r.kind == "a" and r.status not in ("stale", "duplicate")]
		return rest + self.given(rows)

	def check_doctor(self, conn):
		report = conn.doctor()
		self.assertTrue(report["ok"], [c for c in report["checks"] if not c["ok"]])

	def drain(self, conn, nodes, handlers):
		"""Every node dies but one, which runs what is left."""
		last = nodes[0]
		conn.run("UPDATE tasker.nodes SET lease_until = now() - interval '1 second' WHERE node_no <> %d" % last.no)
		last.incarnation = conn.register(last.name)[1]
		held = self.given(conn.adopt(last))
		self.seen = self.seen[:-len(held)] if held else self.seen  # adopted, not handed out anew
		live = "SELECT count(*) FROM tasker.tasks WHERE state NOT IN ('complete', 'cancelled', 'blocked_by_failures')"
		for _ in range(100):
			conn.reclaim(last, 1000000)
			for queue in handlers.values():
				conn.run("UPDATE pgmq.q_%s SET vt = now() WHERE vt > now()" % queue)
			held += self.given(conn.claim(last, {h: 1000 for h in handlers}, 1000))
			if held:
				rows = conn.record(last, [Item(*k, "success", True, 0) for k in held], {}, 0)
				self.accepted += [held[r.idx - 1] for r in rows if r.kind == "a" and r.status == "recorded"]
				held = []
			if conn.value(live) == "0":
				return
		self.fail("tasks that move no more: %s" % conn.run("SELECT task_uuid, state FROM tasker.tasks WHERE state = 'steps_in_process'"))

	def check_end(self, conn):
		twice = [k for k, n in collections.Counter(self.seen).items() if n > 1]
		self.assertEqual(twice, [], "handed out twice under one fence")
		twice = [k for k, n in collections.Counter(self.accepted).items() if n > 1]
		self.assertEqual(twice, [], "accepted twice")
		self.assertGreater(len(self.accepted), 300)
		for kind, was, now in conn.run("SELECT DISTINCT * FROM probe.moves"):
			self.assertTrue(engine.tables().allows(kind, was, now), "%s: %s -> %s is in no table" % (kind, was, now))
		recorded = conn.value("SELECT count(*) FROM tasker.step_attempts WHERE outcome = 'success'")
		complete = conn.value("SELECT count(*) FROM tasker.steps WHERE state = 'complete'")
		self.assertEqual(recorded, complete)


class Identities(OneTask):
	def test_step_uuids_are_those_of_the_core(self):
		"""The cases of tests/unit/core/test_uuid.c."""
		for no, text in ((0, "000001"), (1, "000002"), (254, "0000ff"), (255, "000100"), (65535, "010000"), (99999, "0186a0"), (2 ** 24 - 2, "ffffff")):
			self.assertEqual(self.e.value("SELECT tasker.step_uuid(%s, %d)" % (lit(self.uuid), no)), self.uuid[:30] + text)

	def test_new_task_uuids(self):
		made = [r[0] for r in self.e.run("SELECT tasker.new_task_uuid() FROM generate_series(1, 200)")]
		self.assertEqual(len(set(made)), 200)
		for text in made:
			self.assertRegex(text, "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{6}000000$")


if __name__ == "__main__":
	unittest.main()

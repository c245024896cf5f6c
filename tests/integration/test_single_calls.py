"""create_one, create_many, record_one, record_many: the calls for the usual cases leave exactly what the general calls leave, or nothing at all."""
import os
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import engine  # noqa: E402
import pg  # noqa: E402
from engine import Item, Node  # noqa: E402
from pg import PgError, lit  # noqa: E402
from test_engine_calls import InFlight, OneTask, shape  # noqa: E402

# What is known of a task but for its ids and the times, of which only their presence counts.
TASK = """SELECT 'task', row(x.state, x.open_sinks, x.n_active, x.n_waiting, x.n_failed, x.priority, x.paused, x.created_by_node, x.finished_by_node, x.context, x.identity_key, x.run_at,
		x.finished_at IS NULL)::text FROM tasker.tasks x WHERE task_id = %(t)d
	UNION ALL SELECT 'step', row(x.step_no, x.template_no, x.state, x.pending_parents, x.attempts, x.fence, x.node_no, x.result, x.result_bytes, x.error, x.inputs, x.retry_at,
		x.ready_at IS NULL, x.claimed_at IS NULL, x.finished_at IS NULL)::text FROM tasker.steps x WHERE task_id = %(t)d
	UNION ALL SELECT 'attempt', row(x.step_no, x.attempt, x.fence, x.outcome, x.node_no, x.worker_uuid, x.execution_ms, x.metadata, x.error,
		x.ready_at IS NULL, x.claimed_at IS NULL, x.finished_at IS NULL, x.recorded_at IS NULL)::text FROM tasker.step_attempts x WHERE task_id = %(t)d
	UNION ALL SELECT 'transition', row(x.from_state, x.to_state, x.node_no, x.cause)::text FROM tasker.task_transitions x WHERE task_id = %(t)d
	UNION ALL SELECT 'claim', row(x.node_no, c.s, c.f)::text FROM tasker.node_claims x CROSS JOIN unnest(x.task_ids, x.step_nos, x.fences) AS c(t, s, f)
		WHERE c.t = %(t)d AND EXISTS (SELECT 1 FROM tasker.steps s WHERE s.task_id = c.t AND s.step_no = c.s AND s.fence = c.f AND s.state = 'in_progress')
	UNION ALL SELECT 'message', (x.message - 't')::text FROM pgmq.q_%(q)s x WHERE (x.message ->> 't')::bigint = %(t)d
	ORDER BY 1, 2"""


def uuid_no(n):
	return "0198a1b2-c3d4-7fff-bfff-%06x000000" % n


class Single(OneTask):
	"""A chain of three steps; task `self.task` is there, in its queue."""

	steps = shape((), (0,), (1,))

	def known(self, task):
		return self.e.run(TASK % {"t": task, "q": self.queue})

	def handler(self):
		return next(iter(self.all))

	def listener(self, channel):
		session = self.connect()
		session.run("LISTEN %s_%s" % (channel, self.e.value("SELECT secret FROM tasker.channels")))
		return session

	def refused(self, sqlstate, call):
		"""`call` fails so, and has changed nothing."""
		before = self.everything()
		with self.assertRaises(PgError) as caught:
			call()
		self.assertEqual(caught.exception.sqlstate, sqlstate)
		self.assertEqual(self.everything(), before)


class Create(Single):
	def register(self, name, strategy="always_unique", steps=None, **more):
		t = engine.template_json(name, steps or self.steps, strategy)
		t.update(more)
		self.e.run("SELECT tasker.register_template(%s)" % lit(t))
		return int(self.e.value("SELECT template_id FROM tasker.templates WHERE name = %s AND version = %s" % (lit(name), lit(t.get("version", "1.0.0")))))

	def use(self, name):
		self.e.run("UPDATE tasker.templates SET used = true WHERE name = %s" % lit(name))

	def one(self, n, name="t", handlers=(), **more):
		return self.e.create_one(self.a, uuid_no(n), name, list(handlers), **more)

	def assert_no_case(self, n, name, **more):
		before = self.everything()
		self.assertIsNone(self.one(n, name, self.all, **more))
		self.assertEqual(self.everything(), before)

	def test_leaves_what_create_tasks_leaves(self):
		for n, credits in enumerate(({}, self.all, {self.handler() + 1: 5})):
			with self.subTest(credits=credits):
				many = [r for r in self.e.create(self.a, [(uuid_no(10 + n), "t", {"a": 1}, None)], credits, 1 if credits else 0) if r.kind == "a"][0].task
				single = self.one(20 + n, handlers=credits, context='{"a": 1}')
				self.assertEqual(self.known(single), self.known(many))
				self.assertTrue(self.known(single))
		self.assert_sound()

	def test_what_was_claimed_can_be_recorded(self):
		self.task = self.one(1, handlers=self.all)
		self.assertEqual(self.record(self.item(0, 0)), ["stale"])
		self.assertEqual(self.record(self.item(0, 1)), ["recorded"])
		self.assert_sound()

	def test_what_was_not_claimed_is_in_its_queue(self):
		self.e.claim(self.a, self.all, 100)
		task = self.one(1)
		self.assertEqual([(r.task, r.step, r.attempt, r.fence) for r in self.e.claim(self.b, self.all, 100) if r.kind == "c"], [(task, 0, 1, 1)])
		self.assert_sound()

	def test_other_templates(self):
		self.register("fresh")
		self.register("strict", "strict")
		self.register("keyed", "caller_provided")
		self.register("two", steps=shape((), (), (0, 1)))
		self.register("limits", definition={"lifecycle": {"max_duration_minutes": 5}})
		for name in ("strict", "keyed", "two", "limits"):
			self.use(name)
		for n, name in enumerate(("fresh", "strict", "keyed", "two", "limits", "none")):
			with self.subTest(name):
				self.assert_no_case(n, name)
		self.use("fresh")
		self.assertIsNotNone(self.one(99, "fresh", self.all))

	def test_a_context_that_was_not_checked(self):
		schema = self.register("schema", input_schema={"type": "object"})
		self.use("schema")
		for n, checked in enumerate((0, -schema, schema - 1)):
			with self.subTest(checked):
				self.assert_no_case(n, "schema", checked=checked)
		self.assertIsNotNone(self.one(9, "schema", self.all, checked=schema))

	def test_versions(self):
		ids = {v: self.register("v", version=v, digest=v) for v in ("1.0.0", "1.10.0", "1.9.0", "2.0.0-rc.1")}
		self.use("v")
		for n, (asked, expected) in enumerate(((None, "1.10.0"), ("1.9.0", "1.9.0"), ("2.0.0-rc.1", "2.0.0-rc.1"))):
			task = self.one(n, "v", version=asked)
			self.assertEqual(self.e.value("SELECT template_id FROM tasker.tasks WHERE task_id = %d" % task), str(ids[expected]))
		self.assert_no_case(9, "v", version="3.0.0")

	def test_twice(self):
		self.one(1, handlers=self.all)
		self.refused("23505", lambda: self.one(1, handlers=self.all))
		self.refused("23505", lambda: self.one(1))

	def test_a_slot_that_has_a_later_call(self):
		"""Who asked what the call did, before it came, keeps it out: its claim would be known to nobody."""
		self.e.run("SELECT * FROM tasker.recover_claims(%d, 500, %d)" % (self.a.no, self.e.seq + 1))
		self.e.slot = 500
		self.refused("23505", lambda: self.one(1, handlers=self.all))
		self.e.slot = 500
		self.assertIsNotNone(self.one(1, handlers=self.all))  # a later one

	def test_a_lapsed_lease_claims_nothing_new(self):
		self.e.run("UPDATE tasker.nodes SET lease_until = now() - interval '1 second' WHERE node_no = %d" % self.a.no)
		self.refused("TK002", lambda: self.one(1, handlers=self.all))
		self.assertIsNotNone(self.one(1))

	def test_a_replaced_daemon_claims_nothing(self):
		self.e.register("a")
		self.refused("TK001", lambda: self.one(1, handlers=self.all))


class CreateMany(Create):
	"""The same by create_many, and what only a batch can be."""

	def one(self, n, name="t", handlers=(), **more):
		ids, taken = self.e.create_many(self.a, [uuid_no(n)], name, list(handlers), len(handlers), **more)
		self.assertIn(taken, (None, [], ids))
		return ids and ids[0]

	def test_the_first_are_claimed(self):
		for n, cap in enumerate((0, 2, 5, 9)):
			with self.subTest(cap=cap):
				uuids = [uuid_no(100 * n + k) for k in range(5)]
				ids, taken = self.e.create_many(self.a, uuids, "t", list(self.all), cap)
				self.assertEqual(taken, ids[:cap])
				made = [r for r in self.e.create(self.a, [(uuid_no(100 * n + 50 + k), "t", {}, None) for k in range(5)], self.all, cap) if r.kind == "a"]
				self.assertEqual([self.known(t) for t in ids], [self.known(r.task) for r in made])
				self.assertEqual(len({r.task for r in self.e.claim(self.a, self.all, 100) if r.kind == "c"} & set(ids)), 5 - len(taken))
		self.assert_sound()

	def test_other_nodes_are_told_of_what_is_queued(self):
		listener = self.listener("tasker_ready")
		call = "SELECT template FROM tasker.create_many(%s, true, %s, 1, %s, ARRAY['{}', '{}']::jsonb[], 'ns', 't', NULL, 0)"
		for n in (1, 3):
			uuids = engine.array([uuid_no(n), uuid_no(n + 1)], "uuid")
			self.e.run(call % (self.e.node_args(self.a), engine.array(list(self.all) if n == 1 else [], "int"), uuids))
			pg.wait_for(lambda: 'payload "%d"' % self.handler() in str(listener.run("SELECT 1")), "a word of the queue")

	def test_all_or_none(self):
		self.one(3)
		self.refused("23505", lambda: self.e.create_many(self.a, [uuid_no(n) for n in range(5)], "t", list(self.all), 2))
		self.assertEqual(len(self.e.create_many(self.a, [uuid_no(n) for n in range(10, 15)], "t", list(self.all), 2)[0]), 5)


class Record(Single):
	"""One success after the other, by record_one or by record_results."""

	steps = shape((), (0,), (0,), (1,), (1,), (2,))  # a root, two children; the first has two, the second one

	def start(self, n):
		"""A task whose root runs."""
		return [r for r in self.e.create(self.a, [(uuid_no(n), "t", {}, None)], self.all, 1) if r.kind == "a"][0].task

	def children(self, step):
		return [n for n, s in enumerate(self.steps) if s["parents"] == [step]]

	def one(self, task, step, fence, takes):
		rows = self.e.record_one(self.a, Item(task, step, fence, "success", True, 0), [(c, self.handler()) for c in self.children(step)], takes)
		return rows and [(r.kind, r.status, r.step) for r in rows if r.kind in "as"]

	def many(self, task, step, fence, takes):
		credits = {self.handler(): sum(takes)} if any(takes) else {}
		statement = self.e.record_call(self.a, [Item(task, step, fence, "success", True, 0)], credits, sum(takes))
		return self.e.hot(statement[:-1] + ", ARRAY[8])")  # bytes of the result

	def test_leaves_what_record_results_leaves(self):
		"""Every step of a task, with any part of its children handed over; what is not is claimed."""
		for n, share in enumerate((0, 1, 2)):
			single, many = self.start(10 + n), self.start(20 + n)
			for step in range(len(self.steps)):
				takes = [i < share for i in range(len(self.children(step)))]
				with self.subTest(step=step, takes=takes):
					fence = int(self.e.value("SELECT fence FROM tasker.steps WHERE task_id = %d AND step_no = %d" % (single, step)))
					rows = self.one(single, step, fence, takes)
					self.assertEqual(rows[0], ("a", "recorded", step))
					self.assertEqual(("s", "complete", None) in rows, step == len(self.steps) - 1)
					self.many(many, step, fence, takes)
					self.assertEqual(self.known(single), self.known(many))
				self.e.claim(self.a, self.all, 100)
				self.assertEqual(self.known(single), self.known(many))
			self.assertEqual(self.e.value("SELECT state FROM tasker.tasks WHERE task_id = %d" % single), "complete")
		self.assert_sound()

	def assert_no_case(self, task, step, fence, takes):
		before = self.everything()
		self.assertIsNone(self.one(task, step, fence, takes))
		self.assertEqual(self.everything(), before)

	def test_what_is_not_current(self):
		task = self.start(1)
		for fence in (0, 2, -1):
			self.assert_no_case(task, 0, fence, [True, True])
		self.assert_no_case(task, 3, 0, [])           # it waits
		self.assert_no_case(self.task, 0, 0, [True, True])  # it is in its queue
		self.assert_no_case(task + 1, 0, 1, [True, True])
		self.one(task, 0, 1, [True, False])
		self.assert_no_case(task, 0, 1, [True, True])  # a second time
		self.assert_no_case(task, 1, 0, [True, True])
		self.assert_no_case(task, 1, 2, [True, True])
		self.assert_sound()

	def test_a_task_that_counts(self):
		"""Since a failure, or an operator's action, record_results keeps the counters."""
		task = self.start(1)
		self.one(task, 0, 1, [True, True])
		self.e.record(self.a, [Item(task, 1, 1, "handler_error", True, 0)], {}, 0)
		self.assert_no_case(task, 2, 1, [True])
		self.e.record(self.a, [Item(task, 2, 1, "success", True, 0)], {}, 0)
		self.assert_sound()

	def test_a_cancelled_task(self):
		task = self.start(1)
		self.e.cancel(self.b, uuid_no(1))
		self.assert_no_case(task, 0, 1, [True, True])

	def test_a_child_that_is_not_as_it_was_made(self):
		for n, change in enumerate(("state = 'cancelled'", "fence = 1", "state = 'enqueued'")):
			for take in (True, False):
				with self.subTest(change, take=take):
					task = self.start(10 * n + take)
					self.e.run("UPDATE tasker.steps SET %s WHERE task_id = %d AND step_no = 2" % (change, task))
					self.refused("TK002", lambda: self.one(task, 0, 1, [take, take]))

	def test_what_is_claimed_is_in_the_journal(self):
		task = self.start(1)
		for slot in (500, 500, 501):  # a new slot, the same again, another
			self.e.slot = slot
			step, fence = self.e.run("SELECT step_no, fence FROM tasker.steps WHERE task_id = %d AND state = 'in_progress' ORDER BY step_no LIMIT 1" % task)[0]
			takes = [True] * len(self.children(int(step)))
			self.one(task, int(step), int(fence), takes)
			held = self.e.run("SELECT step_no FROM tasker.recover_claims(%d, %d, %d) ORDER BY step_no" % (self.a.no, slot, self.e.seq))
			self.assertEqual([int(r[0]) for r in held], self.children(int(step)))
		self.assert_sound()

	def test_a_slot_that_has_a_later_call(self):
		task = self.start(1)
		self.e.run("SELECT * FROM tasker.recover_claims(%d, 500, %d)" % (self.a.no, self.e.seq + 1))
		self.e.slot = 500
		self.refused("23505", lambda: self.one(task, 0, 1, [True, False]))
		self.e.slot = 500
		self.assertIsNotNone(self.one(task, 0, 1, [True, False]))

	def test_a_lapsed_lease_claims_nothing_new(self):
		task = self.start(1)
		self.e.run("UPDATE tasker.nodes SET lease_until = now() - interval '1 second' WHERE node_no = %d" % self.a.no)
		self.refused("TK002", lambda: self.one(task, 0, 1, [True, True]))
		self.assertIsNotNone(self.one(task, 0, 1, [False, False]))  # what is done is done


class Many(Record):
	"""The same by record_many, and what only a batch can be."""

	def results(self, *items, take=True):
		"""`items`: (task, step), of attempt 1; as record_many has them."""
		children = [self.children(step) for _, step in items]
		return [(Item(task, step, 1, "success", True, 0), [(c, self.handler()) for c in found], [take] * len(found)) for (task, step), found in zip(items, children)]

	def one(self, task, step, fence, takes):
		rows = self.e.record_many(self.a, [(Item(task, step, fence, "success", True, 0), [(c, self.handler()) for c in self.children(step)], takes)])
		return [(r.kind, r.status, r.step) for r in rows if r.kind in "as"]

	def batch(self, *items, take=True):
		return sorted((r.kind, r.idx or 0, r.task, r.step) for r in self.e.record_many(self.a, self.results(*items, take=take)) if r.kind in "acs")

	def assert_no_case(self, task, step, fence, takes):
		before = self.everything()
		try:
			self.assertEqual(self.one(task, step, fence, takes), [])
		except PgError as e:
			self.assertEqual(e.sqlstate, "TK002")
		self.assertEqual(self.everything(), before)

	def test_batches_leave_what_single_calls_leave(self):
		for take in (True, False):
			many, single = [self.start(10 + n + 100 * take) for n in range(3)], [self.start(20 + n + 100 * take) for n in range(3)]
			for steps in ((0,), (1, 2), (3, 4, 5)):
				rows = self.batch(*[(t, s) for s in steps for t in many], take=take)
				self.assertEqual(sum(r[0] == "a" for r in rows), 3 * len(steps))
				self.assertEqual(sorted(r[2] for r in rows if r[0] == "s"), many if 5 in steps else [])  # once each: three sinks are one task
				for t in single:
					for s in steps:
						super().one(t, s, 1, [take] * len(self.children(s)))
				for m, s in zip(many, single):
					self.assertEqual(self.known(m), self.known(s))
				self.e.claim(self.a, self.all, 100)
		self.assert_sound()

	def test_those_that_count_are_left(self):
		one, other, third = (self.start(n) for n in range(3))
		self.batch((one, 0), (other, 0), (third, 0))
		self.e.record(self.a, [Item(other, 1, 1, "handler_error", True, 0)], {}, 0)
		before = self.known(other)
		rows = self.batch((other, 2), (one, 1), (third, 2))
		self.assertEqual(rows, sorted([("a", 2, one, 1), ("a", 3, third, 2), ("c", 0, one, 3), ("c", 0, one, 4), ("c", 0, third, 5)]))
		self.assertEqual(self.known(other), before)
		self.e.record(self.a, [Item(other, 2, 1, "success", True, 0)], {}, 0)
		self.assertEqual(self.batch((third, 5), (one, 3), take=False), [("a", 1, third, 5), ("a", 2, one, 3)])
		self.assert_sound()

	def test_one_that_is_not_current_spoils_all(self):
		one, other = self.start(1), self.start(2)
		for bad in ((other, 1), (one, 0), (other + 1, 0), (self.task, 0)):
			with self.subTest(bad):
				self.refused("TK002", lambda: self.batch((one, 0), bad))
		self.assertEqual(len(self.batch((one, 0), (other, 0))), 6)
		self.assert_sound()

	def test_other_nodes_are_told(self):
		task = self.start(1)
		for step in range(5):
			self.batch((task, step))
		listener = self.listener("tasker_settled")
		self.assertEqual(self.e.run("SELECT settled FROM tasker.record_many(%s, true, ARRAY[%d], '{5}', '{1}', '{null}', '{4}', NULL, '{1}', '{NULL}', '{now}', NULL, NULL, NULL, NULL, NULL, ARRAY[%d], '{1}')" % (
			self.e.node_args(self.a), task, task))[0][0], "{1}")
		pg.wait_for(lambda: uuid_no(1) in str(listener.run("SELECT 1")), "a word of the task that has settled")


class InFlightMany(InFlight):
	"""The same promises for a claim that record_many made."""

	def record_on_old(self):
		rows = self.old.record_many(self.a, [(self.item(0, 1), [(1, next(iter(self.all)))], [True])])
		self.assertEqual([r.step for r in rows if r.kind == "c"], [1])


class InFlightSingly(InFlight):
	"""The same promises for a claim that record_one made."""

	def record_on_old(self):
		rows = self.old.record_one(self.a, self.item(0, 1), [(1, next(iter(self.all)))], [True])
		self.assertEqual([r.step for r in rows if r.kind == "c"], [1])


del InFlight, OneTask  # theirs run in their own module

if __name__ == "__main__":
	unittest.main()

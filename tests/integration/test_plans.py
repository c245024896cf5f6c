"""What the hot functions read. Their plans must not depend on statistics: everything here is loaded into tables that were analysed when they were empty, and is never analysed again.
PostgreSQL counts what a transaction reads of each table; so a sequential scan is seen, and an index scan with a filter where there should be a look-up, in whatever statement of whatever function."""
import contextlib
import json
import os
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import pg  # noqa: E402
from dynflow import NO_BRANCHES, Flow, S, batches, choose  # noqa: E402

N = 1000
HOT = ("tasks", "steps", "step_attempts", "template_steps", "batches", "task_transitions", "operator_actions")
WIDE = [S("begin"), *(S("p%d" % i, "standard", ["begin"]) for i in range(N)), S("end", "standard", ["p%d" % i for i in range(N)])]
LONG = [S("s0")] + [S("s%d" % i, "standard", ["s%d" % (i - 1)]) for i in range(1, N)]
BRANCHES = [S("begin"), S("route", "decision", ["begin"]), *(S("b%d" % i, "standard", ["route"]) for i in range(50)), S("meet", "deferred_convergence", ["b%d" % i for i in range(50)]),
            S("loose"), *(S("l%d" % i, "standard", ["loose"]) for i in range(N))]


class Reading(Flow):
	"""A Flow that keeps account of what its calls read, in rows of the hot tables."""

	lent = False  # its tables are as they were when they were made

	def begin(self):
		for table in HOT:
			self.e.run("ALTER TABLE tasker.%s SET (autovacuum_enabled = off)" % table)
		return self

	def counts(self):
		return {t: (int(s), int(i)) for t, s, i in self.e.run(
			"SELECT relname, seq_scan, coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE schemaname = 'tasker' AND relname IN ('%s')" % "', '".join(HOT))}

	def hot(self, call):
		answer = self.counted(lambda: super(Reading, self).hot(call))
		self.test.assertEqual({t: n for t, n in self.scans.items() if n}, {}, call[:40])
		return answer

	def ask(self, name, **params):
		"""A request of the protocol."""
		return self.counted(lambda: json.loads(self.e.value("SELECT tasker.%s(%s)" % (name, pg.lit(json.dumps(params))))))

	def counted(self, call):
		self.e.run("BEGIN")
		before = self.counts()
		answer = call()
		after = self.counts()
		self.e.run("COMMIT")
		self.scans = {t: after[t][0] - before.get(t, (0, 0))[0] for t in after}
		self.rows = {t: after[t][1] - before.get(t, (0, 0))[1] for t in after}
		return answer


class Plans(unittest.TestCase):
	@contextlib.contextmanager
	def reads(self, flow, most):
		"""The one call inside reads at most so many rows of any hot table."""
		yield
		self.assertLessEqual(max(flow.rows.values()), most, flow.rows)

	def flow(self, steps):
		return Reading(self, steps).begin()

	def only(self, flow):
		claim, = flow.open.values()
		return claim

	def test_chain(self):
		flow = self.flow(LONG)
		flow.create(credits=0)
		with self.reads(flow, 20):
			flow.claim(1)
		for i in range(100):
			with self.reads(flow, 100):  # 64 ancestors among them
				flow.record([(self.only(flow), {})], credits=1)
		for i in range(3):
			with self.reads(flow, 20):
				flow.record([(self.only(flow), {})], credits=0)
			with self.reads(flow, 100):
				flow.claim(1)

	def test_fan(self):
		flow = self.flow(WIDE)
		flow.create()
		flow.record([(self.only(flow), {})], credits=0)
		flow.claim(100)
		for size in (1, 10, 50):
			with self.reads(flow, 20 + 20 * size):
				flow.record([(c, {}) for c in sorted(flow.open.values())[:size]], credits=0)
		for r in (("retry",), ValueError("x")):
			with self.reads(flow, N + 50):  # from the first failure on the task counts its steps
				flow.record([(sorted(flow.open.values())[0], r)], credits=0)
		with self.reads(flow, 60):
			flow.record([(sorted(flow.open.values())[0], ValueError("x"))], credits=0)

	def test_many_tasks(self):
		flow = self.flow([S("a"), S("b", "standard", ["a"])])
		flow.create(credits=0, n=N)
		with self.reads(flow, 40):
			flow.create(credits=1)
		with self.reads(flow, 40 * 50):
			flow.claim(50)
		for size in (1, 40):
			with self.reads(flow, 20 * size + 20):
				flow.record([(c, {}) for c in sorted(flow.open.values())[:size]], credits=size)

	def test_decision(self):
		flow = self.flow(BRANCHES)
		for outcome in (choose("b7", "b31"), NO_BRANCHES):
			flow.create(credits=0)
			flow.claim(2)
			begin = next(c for c in flow.open.values() if c.step == 0)
			flow.record([(begin, {})], credits=1)
			route = next(c for c in flow.open.values() if c.step == 1)
			with self.reads(flow, 1200):  # its 52 descendants, a few times each
				flow.record([(route, outcome)], credits=1)
			self.assertEqual(len(flow.impossible(route.task)), 48 if outcome is not NO_BRANCHES else 51)

	def test_batch(self):
		flow = self.flow([S("split", "batchable"), S("weigh", "batch_worker", ["split"], batch={"parallelism": 50, "failure_strategy": "continue_on_failure"}),
		                  S("sum", "deferred_convergence", ["weigh"])])
		flow.create()
		with self.reads(flow, 6 * N):
			flow.record([(self.only(flow), batches(N))], credits=50)
		for size, result in ((1, {}), (1, ValueError("x")), (20, {}), (20, ValueError("x")), (1, ("retry",)), (1, ("yield", {"cursor": 1}))):
			with self.reads(flow, 30 + 30 * size):
				flow.record([(c, result) for c in sorted(flow.open.values())[:size]], credits=size)
			flow.claim(50)
		flow.doctor()

	def test_batch_that_fails_fast(self):
		flow = self.flow([S("split", "batchable"), S("weigh", "batch_worker", ["split"], batch={"failure_strategy": "fail_fast"})])
		flow.create()
		flow.record([(self.only(flow), batches(N))], credits=50)
		with self.reads(flow, 8 * N):
			flow.record([(sorted(flow.open.values())[0], ValueError("x"))], credits=0)
		flow.doctor()

	def test_lost_node(self):
		flow = self.flow(WIDE)
		flow.create()
		flow.record([(self.only(flow), {})], credits=50)
		flow.e.run("UPDATE tasker.nodes SET lease_until = now() - interval '1 hour'")
		flow.node = type(flow.node)("m", *flow.e.register("m"))
		with self.reads(flow, N + 30 * 50):
			flow.hot("reclaim(%d, false, 1000)" % flow.node.no)


	def test_by_hand(self):
		"""What people ask of a large task reads its steps some times, and not once for each of them. It is just small enough to be acted on in one transaction."""
		workers = N - 20
		flow = self.flow([*WIDE[:-1], S("gate", "batchable", ["begin"]), S("weigh", "batch_worker", ["gate"], batch={"parallelism": N})])
		flow.create()
		task = flow.e.value("SELECT task_uuid FROM tasker.tasks")
		flow.record([(self.only(flow), {})], credits=N + 1)
		for results in (lambda c: batches(workers) if c.step == N + 1 else ValueError("x")), lambda c: ValueError("x"):
			flow.record([(c, results(c)) for c in list(flow.open.values())], credits=N)
		self.assertEqual(flow.state(1), "blocked_by_failures")
		for action, ready in ("retry", N + workers), ("pause", 0), ("resume", N + workers):
			with self.reads(flow, 40 * N):
				self.assertEqual(flow.ask("api_task_action", task_uuid=task, action=action, reason="r")["ready_steps"], ready)
		with self.reads(flow, 80 * N):
			self.assertTrue(flow.ask("api_doctor")["ok"])
		with self.reads(flow, 10 * N):
			self.assertEqual(len(flow.ask("api_task_get", task_uuid=task)["steps"]), N + workers + 2)
		with self.reads(flow, 20 * N):
			self.assertEqual(len(flow.ask("api_step_bulk_action", action="skip", filter={"all": True}, reason="r")["items"]), 500)
		with self.reads(flow, 20 * N):
			self.assertEqual(flow.ask("api_task_action", task_uuid=task, action="cancel", reason="r")["state"], "cancelled")
		with self.reads(flow, 20 * N):
			flow.counted(lambda: flow.e.run("SELECT tasker.archive_tasks('{1}')"))

	def test_pages(self):
		"""A page reads what it lists and what lies between that and the page before; never what came before."""
		flow = self.flow(WIDE)
		flow.create(n=2)
		flow.record([(c, {}) for c in list(flow.open.values())], credits=0)
		flow.claim()
		flow.record([(c, ValueError("x")) for c in list(flow.open.values()) if c.step % 200 == 0], credits=0)
		for params, found in ({"action": "skip", "filter": {"all": True}}, 2 * N), ({"action": "reset_for_retry", "filter": {"step_state": "error"}}, 2 * N // 200):
			total, seen, cursor = 0, [], None
			while True:
				page = flow.ask("api_step_bulk_action", dry_run=True, reason="r", limit=100 if found > 100 else 2, cursor=cursor, **params)
				seen += [i["step_uuid"] for i in page["items"]]
				total += sum(flow.rows.values())
				cursor = page["next_cursor"]
				if not cursor:
					break
			self.assertEqual((len(set(seen)), len(seen)), (found, found))
			self.assertLess(total, 20 * 2 * N, params)

	def test_named_tasks(self):
		"""An action on tasks that are named, by uuid or correlation id, does not look at others."""
		flow = self.flow([S("a")])
		flow.create(credits=0, n=N)
		task = flow.e.value("SELECT task_uuid FROM tasker.tasks ORDER BY task_id DESC LIMIT 1")
		flow.e.run("UPDATE tasker.tasks SET correlation_id = 'c' || task_id WHERE task_id % 2 = 1")
		for condition in {"task_uuids": [task]}, {"correlation_id": task}, {"correlation_id": "c%d" % (N // 2 + 1)}:
			for method, action in ("api_task_bulk_action", "pause"), ("api_step_bulk_action", "skip"):
				with self.reads(flow, 60):
					self.assertEqual(len(flow.ask(method, action=action, filter=condition, dry_run=True, reason="r")["items"]), 1, condition)
			if "correlation_id" in condition:
				with self.reads(flow, 60):
					self.assertEqual(len(flow.ask("api_task_list", **condition)["tasks"]), 1)

	def test_namespaces(self):
		"""Who paused one last is looked up, however much else was done in it by hand."""
		flow = self.flow([S("a")])
		name = flow.e.value("SELECT name FROM tasker.namespaces")
		flow.ask("api_namespace_pause", namespace=name, reason="mine")
		flow.e.run("INSERT INTO tasker.operator_actions (request_id, action, namespace_id, reason) SELECT gen_random_uuid(), 'template.apply', namespace_id, 'r' FROM tasker.namespaces, generate_series(1, %d)" % N)
		with self.reads(flow, 10):
			self.assertEqual([n["reason"] for n in flow.ask("api_namespace_list")["namespaces"]], ["mine"])


class Linear(unittest.TestCase):
	"""What a step costs does not grow with its task, in rows read and written."""

	def cost(self, steps, results=None, chunk=50):
		flow = Reading(self, steps).begin()
		flow.create(credits=0)
		total, n = 0, 0
		while True:
			flow.claim(chunk)
			total += sum(flow.rows.values())
			ready = sorted(flow.open.values())[:chunk]
			if not ready:
				break
			flow.record([(c, (results or {}).get(steps[c.step % len(steps)].name, {})) for c in ready], credits=chunk)
			total += sum(flow.rows.values())
			n += len(ready)
		self.assertEqual(flow.state(1), "complete")
		return total / n

	def test_batches(self):
		for config in ({}, {"parallelism": 150}):
			steps = [S("split", "batchable"), S("weigh", "batch_worker", ["split"], batch=config), S("sum", "deferred_convergence", ["weigh"]), S("end", "standard", ["sum"])]
			small, large = (self.cost(steps, {"split": batches(n)}, 200) for n in (250, 2000))
			self.assertLess(large, 1.5 * small, config)

	def test_fans(self):
		small, large = (self.cost([S("a"), *(S("p%d" % i, "standard", ["a"]) for i in range(n)), S("z", "standard", ["p%d" % i for i in range(n)])]) for n in (200, 1250))
		self.assertLess(large, 1.5 * small)

	def test_chains(self):
		small, large = (self.cost([S("s0")] + [S("s%d" % i, "standard", ["s%d" % (i - 1)]) for i in range(1, n)]) for n in (200, 800))
		self.assertLess(large, 1.5 * small)


if __name__ == "__main__":
	unittest.main()

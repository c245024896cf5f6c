"""What makes two requests the same task: strategies, keys, canonical contexts; and that one task is made whatever breaks while it is."""
import collections
import json
import random
import threading
import unittest

import engine
import harness
from harness import step, template, wait_for
from pg import lit
from taskerd.exceptions import BadRequestError, ConflictError, TaskerdError


class Strategies(harness.SharedCase):
	@classmethod
	def prepare(cls, stage):
		super().prepare(stage)
		for name, fields in ("unique", {}), ("strict", {"identity_strategy": "strict"}), ("keyed", {"identity_strategy": "caller_provided"}):
			stage.apply(stage.node, template(name, [step("a")], **fields))

	def make(self, name, context=None, **more):
		return self.node.client.create_task(name, namespace="t", context=context or {}, **more)

	def test_always_unique_is_the_default(self):
		self.assertEqual(len({self.make("unique", {"u": 1}).task_uuid for _ in range(3)}), 3)

	def test_strict_by_the_meaning_of_the_context(self):
		groups = [
			[{"n": 1, "m": {"a": [1, 2], "b": None}}, {"m": {"b": None, "a": [1, 2]}, "n": 1}, {"n": 1.0, "m": {"a": [1.0, 2], "b": None}}],
			[{"n": 1, "m": {"a": [2, 1], "b": None}}], [{"n": 1, "m": {"a": [1, 2]}}], [{"n": "1", "m": {"a": [1, 2], "b": None}}], [{"n": True}], [{"n": 1}, {"n": 1.0}], [{"n": 1.5}, {"n": 1.50}],
			[{"n": "1.0"}], [{"n": "1.00"}], [{"n": 100}, {"n": 1e2}], [{"n": 1e-7}], [{"n": -0.0}, {"n": 0}], [{"1.0": "2.0"}], [{"1": "2.0"}], [{"q": "\\\"1.0"}], [{"q": "\\\"1"}], [{}]]
		made = [{self.make("strict", c).task_uuid for c in group} for group in groups]
		self.assertEqual([len(uuids) for uuids in made], [1] * len(groups))
		self.assertEqual(len(set.union(*made)), len(groups))

	def test_strict_is_of_its_template_and_version(self):
		self.apply(self.node, template("strict2", [step("a")], identity_strategy="strict"))
		self.apply(self.node, template("strict2", [step("a")], version="2.0.0", identity_strategy="strict"))
		made = {self.make(name, {"same": 1}, version=version).task_uuid for name, version in (("strict", None), ("strict2", "1.0.0"), ("strict2", "2.0.0"), ("strict2", None))}
		self.assertEqual(len(made), 3)

	def test_caller_provided_needs_a_key(self):
		with self.assertRaises(BadRequestError) as caught:
			self.make("keyed")
		self.assertIn("idempotency_key is required", str(caught.exception))
		self.assertFalse(self.make("keyed", idempotency_key="k").task_uuid != self.make("keyed", idempotency_key="k").task_uuid)

	def test_a_key_always_wins(self):
		for name in "unique", "strict", "keyed":
			first, again, other = self.make(name, {"w": 1}, idempotency_key=name + "-1"), self.make(name, {"w": 1.0}, idempotency_key=name + "-1"), self.make(name, {"w": 1}, idempotency_key=name + "-2")
			self.assertEqual((first.created, again.created, other.created, again.task_uuid), (True, False, True, first.task_uuid))
			with self.assertRaises(ConflictError):
				self.make(name, {"w": 2}, idempotency_key=name + "-1")
		with self.assertRaises(ConflictError):
			self.make("unique", {"w": 1}, idempotency_key="strict-1")

	def test_a_key_outlives_its_version(self):
		"""A repeat after a newer version was registered is still a repeat, unless it names a version."""
		self.apply(self.node, template("moving", [step("a")]))
		first = self.make("moving", {"n": 1}, idempotency_key="moving")
		self.apply(self.node, template("moving", [step("a"), step("b")], version="1.1.0"))
		again = self.make("moving", {"n": 1}, idempotency_key="moving")
		self.assertEqual((again.task_uuid, again.created), (first.task_uuid, False))
		self.assertFalse(self.make("moving", {"n": 1}, version="1.0.0", idempotency_key="moving").created)
		with self.assertRaises(ConflictError):
			self.make("moving", {"n": 1}, version="1.1.0", idempotency_key="moving")

	def test_a_finished_task_keeps_its_key(self):
		first = self.make("unique", idempotency_key="finished")
		self.finished(self.node, first.task_uuid)
		again = self.make("unique", idempotency_key="finished")
		self.assertEqual((again.task_uuid, again.created, again.state), (first.task_uuid, False, "complete"))

	def test_bulk_item_by_item(self):
		item = {"name": "strict", "namespace": "t", "context": {"bulk": 1}}
		got = self.node.client.request("task.create_many", {"tasks": [item, {**item, "context": {"bulk": 1.0}}, {**item, "idempotency_key": "bulk"}, {**item, "idempotency_key": "bulk", "context": {"bulk": 2}},
			{"name": "keyed", "namespace": "t"}, item]})["results"]
		self.assertEqual([r["error"]["code"] if "error" in r else r["created"] for r in got], [True, False, True, "conflict", "bad_request", False])
		self.assertEqual(len({got[i]["task_uuid"] for i in (0, 1, 5)}), 1)


class Canonical(unittest.TestCase):
	"""tasker.canonical against equality of JSON values, on random ones."""

	def test_equal_values_have_equal_texts(self):
		name = engine.new_database("canonical")
		self.addCleanup(engine.cluster().dropdb, name)
		e = engine.Engine(name)
		self.addCleanup(e.close)
		rng = random.Random(7)
		texts = [json.dumps(self.value(rng, 3)) for _ in range(60)] + [self.respell(rng, v) for v in [self.value(rng, 3) for _ in range(30)] for _ in range(3)]
		rows = e.run("SELECT tasker.canonical(x::jsonb) FROM unnest(%s::text[]) AS x" % lit(texts))
		equal = e.run("SELECT a.o, b.o, a.x::jsonb = b.x::jsonb FROM unnest(%s::text[]) WITH ORDINALITY AS a(x, o), unnest(%s::text[]) WITH ORDINALITY AS b(x, o)" % (lit(texts), lit(texts)))
		pairs = 0
		for i, k, is_equal in equal:
			self.assertEqual(rows[int(i) - 1] == rows[int(k) - 1], is_equal == "t", (texts[int(i) - 1], texts[int(k) - 1]))
			pairs += is_equal == "t" and i != k
		self.assertGreater(pairs, 60)
		self.assertEqual(e.run("SELECT DISTINCT tasker.canonical(x::jsonb)::jsonb = x::jsonb FROM unnest(%s::text[]) AS x" % lit(texts)), [["t"]])

	def value(self, rng, depth):
		kind = rng.randrange(8 if depth else 5)
		if kind == 0:
			return rng.choice([None, True, False])
		if kind == 1:
			return rng.choice([0, 1, -1, 10, 100, 2 ** 62])
		if kind == 2:
			return rng.choice([0.5, 1.25, -0.1, 1e20, 1e-9, 10.01, 100.001])
		if kind in (3, 4):
			return "".join(rng.choice('ab1.0,:"\\}{][- \n') for _ in range(rng.randrange(9)))
		if kind == 5:
			return [self.value(rng, depth - 1) for _ in range(rng.randrange(4))]
		return {"".join(rng.choice('k1.0"\\') for _ in range(rng.randrange(4))): self.value(rng, depth - 1) for _ in range(rng.randrange(4))}

	def respell(self, rng, v):
		"""The same in other words, as text: keys in another order, said twice, numbers with more zeros."""
		if isinstance(v, dict):
			items = list(v.items())
			rng.shuffle(items)
			twice = ["%s: null" % json.dumps(k) for k, _ in items if rng.random() < 0.2]
			return "{%s}" % ", ".join(twice + ["%s: %s" % (json.dumps(k), self.respell(rng, x)) for k, x in items])
		if isinstance(v, list):
			return "[%s]" % ",".join(self.respell(rng, x) for x in v)
		text = json.dumps(v)
		if isinstance(v, bool) or not isinstance(v, (int, float)) or "e" in text:
			return text
		return text + (rng.choice(["", ".0", ".000", "e0"]) if isinstance(v, int) else rng.choice(["", "0", "00"]))


class WhateverBreaks(harness.Case):
	def test_two_nodes_and_many_sessions(self):
		db = self.database()
		nodes = [self.daemon(db, name=n, lease_ttl_ms=5000) for n in ("one", "two")]
		self.apply(nodes[0], template("t", [step("a")]))
		self.python_worker(nodes[0])
		answers, lock = collections.defaultdict(list), threading.Lock()
		start = threading.Barrier(8)

		def run(client):
			client.connect()
			start.wait()
			for i in range(40):
				got = client.create_task("t", namespace="t", context={"i": i}, idempotency_key="k%d" % i)
				with lock:
					answers[i].append(got)
		threads = [threading.Thread(target=run, args=(nodes[i % 2].new_client(),)) for i in range(8)]
		for thread in threads:
			thread.start()
		for thread in threads:
			thread.join()
		for i in range(40):
			self.assertEqual((len(answers[i]), len({a.task_uuid for a in answers[i]}), sum(a.created for a in answers[i])), (8, 1, 1))
		self.assertEqual(db.number("SELECT count(*) FROM tasker.tasks"), 40)
		db.wait_settled()
		self.verify(db, nodes[0])

	def test_answers_lost_between_the_database_and_the_daemon(self):
		"""Backends are terminated all the while: some calls commit and their answers are lost. Every task is made once, and who asked is told so."""
		db = self.database()
		daemon = self.daemon(db)
		self.apply(daemon, template("t", [step("a")]))
		self.python_worker(daemon)
		done, made = threading.Event(), []

		def terminate():
			"""Once for each task, in the middle of whatever is being written."""
			seen = -1
			while not done.is_set():
				if len(made) != seen and db.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'taskerd' "
				                                "AND state = 'active' AND query LIKE '%tasker.create%' AND pid <> pg_backend_pid()"):
					seen = len(made)
		killer = threading.Thread(target=terminate)
		killer.start()
		client = daemon.new_client()
		try:
			for i in range(120):
				key = {"idempotency_key": "k%d" % i} if i % 2 else {}
				made.append(client.request("task.create", {"name": "t", "namespace": "t", "context": {"i": i}, **key}))
		finally:
			done.set()
			killer.join()
		self.assertEqual([m["created"] for m in made], [True] * 120)
		self.assertEqual(len({m["task_uuid"] for m in made}), 120)
		wait_for(lambda: daemon.database_state() == "up", "the database to be back")
		db.wait_settled()
		self.assertEqual(db.number("SELECT count(*) FROM tasker.tasks"), 120)
		self.verify(db, daemon)

	def test_clients_that_are_gone_before_the_answer(self):
		"""The client does not know whether its task was made; asking again with the key tells."""
		db = self.database()
		daemon = self.daemon(db)
		self.apply(daemon, template("t", [step("a")]))
		self.python_worker(daemon)
		for i in range(30):
			client = daemon.new_client(timeout=0.001)
			try:
				client.request("task.create", {"name": "t", "namespace": "t", "context": {"i": i}, "idempotency_key": "k%d" % i})
			except TaskerdError:
				pass
			client.close()
		made = [daemon.client.create_task("t", namespace="t", context={"i": i}, idempotency_key="k%d" % i) for i in range(30)]
		self.assertEqual(len({m.task_uuid for m in made}), 30)
		self.assertEqual(db.number("SELECT count(*) FROM tasker.tasks"), 30)
		db.wait_settled()
		self.verify(db, daemon)

	def test_a_killed_daemon(self):
		db = self.database()
		daemon = self.daemon(db, resume_grace_ms=100)
		self.apply(daemon, template("t", [step("a")]))
		self.python_worker(daemon)
		seen, dead = [], threading.Event()

		def run():
			client = daemon.new_client(timeout=3)
			while len(seen) < 400:
				i = len(seen)
				try:
					seen.append(client.request("task.create", {"name": "t", "namespace": "t", "context": {"i": i}, "idempotency_key": "k%d" % i})["task_uuid"])
				except TaskerdError:
					if dead.is_set():
						return
		thread = threading.Thread(target=run)
		thread.start()
		wait_for(lambda: len(seen) > 50, "some to be made")
		dead.set()
		daemon.kill()
		thread.join()
		daemon.start()
		again = [daemon.client.create_task("t", namespace="t", context={"i": i}, idempotency_key="k%d" % i) for i in range(len(seen) + 1)]
		self.assertEqual([a.task_uuid for a in again[:-1]], seen)
		self.assertEqual(sum(a.created for a in again[:-1]), 0)
		db.wait_settled()
		self.verify(db, daemon)


if __name__ == "__main__":
	unittest.main()

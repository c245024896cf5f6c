"""Domain events when something breaks: several nodes, daemons that are killed, connections that are cut between a commit and its answer."""
import os
import signal
import sys
import threading
import unittest

import harness
import wire
import pg
from harness import wait_for
from test_events import EventCase, declared, names, publishing

sys.path.insert(0, os.path.join(os.path.dirname(harness.HERE), "faults"))
from proxy import Proxy  # noqa: E402

EVERY = [declared("a.durable", "always"), declared("a.fast", "always", "fast"), declared("a.both", "always", "broadcast")]


class Stage(EventCase):
	"""A database and daemons of each test's own."""

	@classmethod
	def setUpClass(cls):
		harness.Case.setUpClass.__func__(cls)
		cls.number = 0

	@classmethod
	def tearDownClass(cls):
		pass

	def setUp(self):
		harness.Case.setUp(self)
		self.db = self.database()
		self.ns = "ns"
		self.wires = []
		self.addCleanup(self.hang_up)

	def prepare(self, node, events=None, **more):
		self.node = node
		wire.ready(node)
		self.template("t", [publishing("s", events or EVERY, **more)])

	def one(self, node=None, result=None, client=None):
		"""A task of one step, run by a worker; the step."""
		worker = self.worker(node=node or self.node)
		self.create("t", client=client)
		s = worker.take()
		worker.finish(s, result or {"n": 1})
		self.assertEqual(worker.acked(s), "recorded")
		worker.notify("goodbye")
		return s


class Nodes(Stage):
	def nodes(self, **options):
		one, two = [self.daemon(self.db, name="node-%d" % i, poll_interval_ms=harness.HOUR_MS, **options) for i in range(2)]
		self.prepare(one)
		wire.ready(two)
		return one, two

	def test_fast_events_reach_the_sessions_of_all_nodes(self):
		one, two = self.nodes()
		here, there = self.subscribe(node=one), self.subscribe(node=two)
		for size in (1, 7000, 7600, 8000, 30000, 700000):
			self.one(result={"ü" if size == 30000 else "x": "é" * (size // 2) if size == 30000 else "x" * size})
			a, b = self.pushed(here, 2), self.pushed(there, 2)
			self.assertEqual(names(a), ["a.both", "a.fast"])
			self.assertEqual(a, b, size)
			self.assertEqual(len(self.drain() + self.drain()), 2)
		self.assertEqual(one.info()["counters"]["events_fast"], 12)
		self.assertEqual(two.info()["counters"]["events_fast"], 0, "what others publish is counted there")
		self.doctor()

	def test_what_is_larger_than_a_notification_may_be_stays_on_its_node(self):
		one, two = self.nodes()
		here, there = self.subscribe(node=one), self.subscribe(node=two)
		self.one(result={"x": "é" * 524000})
		self.pushed(here, 2)
		self.one(result={"x": "small"})
		self.assertEqual({e["payload"]["payload"]["x"] for e in self.pushed(there, 2)}, {"small"})

	def test_events_of_clients(self):
		one, two = self.nodes()
		here, there = self.subscribe(node=one), self.subscribe(node=two)
		self.client.call("event.publish", {"name": "own", "namespace": self.ns, "payload": "x" * 20000, "delivery_mode": "broadcast"})
		self.assertEqual(self.pushed(here, 1), self.pushed(there, 1))

	def test_a_consumer_on_one_node_of_what_another_publishes(self):
		"""No poll helps: it comes once an hour."""
		one, two = self.nodes()
		w = self.wire(node=two)
		calls = [w.ask("event.consume", {"namespace": self.ns, "wait_ms": 60000}) for _ in range(3)]
		w.call("ping")
		self.one()
		events = []
		while len(events) < 2:  # which of them gets what is open
			w.until(lambda: any(c in w.responses for c in calls), "an event for one of those that wait")
			for c in [c for c in calls if c in w.responses]:
				calls.remove(c)
				events += [m["event"]["event_name"] for m in w.answer(c)["messages"]]
		self.assertEqual(sorted(events), ["a.both", "a.durable"])
		while calls:
			self.client.call("event.publish", {"name": "own", "namespace": self.ns})
			w.until(lambda: any(c in w.responses for c in calls), "the next event for one of those that wait")
			calls.remove(next(c for c in calls if c in w.responses))
		again = w.ask("event.consume", {"namespace": self.ns, "wait_ms": 60000})
		w.call("ping")
		self.client.call("event.extend", {"namespace": self.ns, "ids": [3], "visibility_ms": 0})
		self.assertEqual([m["msg_id"] for m in w.answer(again)["messages"]], [3])

	def test_hostile_notifications(self):
		"""Whoever may use the database may notify; the daemon believes nothing of it."""
		one, two = self.nodes()
		w = self.subscribe(node=one)
		good = '{"event_id": "i", "event_name": "forged", "event_version": "1.0", "payload": {"payload": 1}, "metadata": {"namespace": "ns", "correlation_id": "c", "fired_at": "t", "fired_by": "f"}}'
		for text in ("", "e", "q", "e ", "q ", "x 1 2", "e 99", "e 99 i", "e 99 i 1", "e 99 i 1 1", "e 99 i 0 0 {}", "e 99 i 2 1 {}", "e 99 i 1 99999 {}", "e 99 i -1 1 {}", "e 99 i 1 2 {", "e 99 i 1 1 {",
		             "e 99 i 1 1 []", "e 99 i 1 1 {}", 'e 99 i 1 1 {"metadata": 5}', 'e 99 i 1 1 {"metadata": {"namespace": 7}, "event_name": []}', "e 4294967296 i 1 1 " + good, "e 99 " + "i" * 90 + " 1 1 " + good,
		             "q 99 " + "n" * 200, "q 99 \x01", "e 99 i 1 1 " + "[" * 3000, "e 99 i 3 3 }", "q 99999999999999999999 ns"):
			self.db.sql("SELECT tasker.notify('tasker_events', %s)" % pg.lit(text))
		self.db.sql("SELECT tasker.notify('tasker_events', %s)" % pg.lit("e 99 i 1 1 " + good))
		self.assertEqual(names(self.pushed(w, 1)), ["forged"])
		self.none_pushed(w)
		self.healthy(one)

	def test_a_node_that_dies_with_the_step(self):
		"""Its step ends as worker_lost on the other node; that is a failure like any other."""
		one, two = self.nodes(lease_ttl_ms=3000)
		worker, there = self.worker(node=one), self.subscribe(node=two)
		self.create("t")
		worker.take()
		one.kill()
		worker.close()
		lost = lambda: "the database does not answer" in two.log_text()  # noqa: E731 (and the fast ones with its answer: at most once)
		wait_for(lambda: there.poll() or lost() or len([e for m, p in there.notes if m == "event.message" for e in p["events"]]) == 2, "the fast events, or what has lost them")
		if not lost():
			self.assertEqual(names(self.pushed(there, 2)), ["a.both", "a.fast"])
		self._client, events = self.wire(node=two), []
		wait_for(lambda: events.extend(self.drain(wait_ms=1000)) or len(events) >= 2, "the durable events")
		self.assertEqual({e["payload"]["execution_result"]["status"] for e in events}, {"worker_lost"})
		self.assertEqual(names(events), ["a.both", "a.durable"])
		self.doctor()


class Faults(Stage):
	def relayed(self, watch=None, **options):
		"""A daemon whose connections to the database go through a proxy."""
		relay = os.path.join(self.place, "relay")
		os.mkdir(relay)
		cluster = self.db.cluster
		self.proxy = Proxy(os.path.join(relay, ".s.PGSQL.5432"), os.path.join(cluster.host, ".s.PGSQL.5432"), watch)
		self.at_end(self.proxy.close)
		node = harness.Daemon(self, "node-a", database=self.db.uri.replace(cluster.host, relay), poll_interval_ms=harness.HOUR_MS, **options).start()
		self.prepare(node)
		return node

	def test_a_connection_cut_between_the_commit_and_its_answer(self):
		"""Durable events are there exactly once, fast ones at most once."""
		armed = []

		def watch(link, from_client, data):
			if from_client and b"a.durable-marker" in data:
				link.state["record"] = True
			if not from_client and armed and link.state.get("record"):
				armed.clear()
				link.cut()
				return 0
			return len(data)
		node = self.relayed(watch)
		worker, fast = self.worker(), self.subscribe()
		for round_no in range(4):
			self.create("t")
			s = worker.take()
			before = node.info()["counters"]["database_reconnects"]
			armed.append(1)
			worker.finish(s, {"n": round_no, "mark": "a.durable-marker"})
			self.assertIn(worker.acked(s), ("recorded", "duplicate"))
			self.assertFalse(armed, "the answer was cut")
			self.assertGreater(node.info()["counters"]["database_reconnects"], before)
			node.wait_up()
			events = self.drain(wait_ms=60000)
			self.assertEqual(names(events), ["a.both", "a.durable"])
			self.assertEqual({e["payload"]["payload"]["n"] for e in events}, {round_no})
			self.doctor()
		self.assertEqual(self.drain(), [])
		self.none_pushed(fast)  # at most once: these were lost with the answers

	def test_a_publish_whose_answer_is_lost_keeps_its_id(self):
		armed = []

		def watch(link, from_client, data):
			if from_client and b"api_event_publish" in data:
				link.state["publish"] = True
			if not from_client and armed and link.state.get("publish") and b"COMMIT" in data:
				armed.clear()
				link.cut()
				return 0
			return len(data)
		self.relayed(watch)
		armed.append(1)
		answer = self.client.call("event.publish", {"name": "own", "namespace": self.ns})
		self.assertFalse(armed)
		self.assertEqual({e["event_id"] for e in self.drain(wait_ms=60000)}, {answer["event_id"]})

	def test_a_daemon_killed_after_the_commit(self):
		"""Before it can push or acknowledge anything. Durable events are there once, the fast ones are gone."""
		armed = []

		def watch(link, from_client, data):
			if from_client and b"a.durable-marker" in data:
				link.state["record"] = True
			if not from_client and armed and link.state.get("record"):
				armed.clear()
				self.node.process.signal(signal.SIGKILL)
				return 0
			return len(data)
		node = self.relayed(watch, lease_ttl_ms=1000)
		worker = self.worker()
		self.create("t")
		s = worker.take()
		armed.append(1)
		worker.finish(s, {"mark": "a.durable-marker"})
		worker.closed()
		node.process.wait()
		self.assertEqual(self.db.number("SELECT count(*) FROM pgmq.q_ns_domain_events"), 2, "it was committed")
		node.start()
		wire.ready(node)
		self._client, fast, worker = self.wire(), self.subscribe(), self.worker()
		worker.results(wire.ok(s, {"mark": "again"}))
		self.assertEqual(worker.acked(s), "duplicate")
		events = self.drain()
		self.assertEqual(names(events), ["a.both", "a.durable"])
		self.assertEqual({e["payload"]["payload"]["mark"] for e in events}, {"a.durable-marker"})
		self.assertEqual(self.drain(), [])
		self.none_pushed(fast)
		self.doctor()

	def test_a_daemon_killed_at_any_moment(self):
		"""The result and its durable events are committed or not, together. The worker comes back and hears which."""
		node = self.daemon(self.db, lease_ttl_ms=1000)
		self.prepare(node)
		worker = self.worker()
		tasks = [self.create("t") for _ in range(12)]
		done = 0
		for task in tasks:
			s = worker.take()
			worker.finish(s, {"task": task})
			done += 1
			if done % 4:
				self.assertEqual(worker.acked(s), "recorded")
				continue
			node.kill()  # it may have read the result, or not
			worker.close()
			node.start()
			wire.ready(node)
			self._client = self.wire()
			worker = self.worker()
			worker.results(wire.ok(s, {"task": task}))
			self.assertIn(worker.acked(s), ("recorded", "duplicate"))
		wait_for(lambda: not self.db.number("SELECT count(*) FROM tasker.tasks WHERE state <> 'complete'"), "all tasks")
		events = []
		while len(events) < 2 * len(tasks):
			events += self.drain(wait_ms=60000)
		self.assertEqual(self.drain(), [])
		for name in "a.durable", "a.both":
			self.assertEqual(sorted(e["metadata"]["task_uuid"] for e in events if e["event_name"] == name), sorted(tasks))
		self.doctor()

	def test_a_waiting_consumer_outlives_the_database(self):
		node = self.daemon(self.db, poll_interval_ms=harness.HOUR_MS)
		self.prepare(node)
		call = self.client.ask("event.consume", {"namespace": self.ns, "wait_ms": 120000})
		self.client.call("ping")
		self.db.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'taskerd'")
		node.wait_up()
		self.db.sql("SELECT tasker.send_events(namespace_id, ARRAY['{\"event_name\": \"by.sql\", \"event_id\": \"x\", \"event_version\": \"1\", \"payload\": {}, \"metadata\": {}}'::jsonb], NULL) "
		            "FROM tasker.namespaces WHERE name = 'ns'")
		self.db.sql("SELECT tasker.notify('tasker_events', 'q 0 ns')")
		self.assertEqual([m["event"]["event_name"] for m in self.client.answer(call)["messages"]], ["by.sql"])

	def test_draining_answers_those_who_wait(self):
		node = self.daemon(self.db)
		self.prepare(node)
		worker = self.worker()
		self.create("t")
		s = worker.take()
		call = self.client.ask("event.consume", {"namespace": self.ns, "wait_ms": 120000})
		self.client.call("ping")
		wait_for(lambda: node.info()["counters"]["queries"] > 3, "the question")
		node.process.signal(signal.SIGTERM)
		with self.assertRaises(wire.Refused) as e:
			self.client.answer(call)
		self.assertEqual(e.exception.code, "shutting_down")
		worker.finish(s)
		self.assertEqual(worker.acked(s), "recorded")
		self.assertEqual(node.process.wait(), 0)
		self.assertEqual(self.db.number("SELECT count(*) FROM pgmq.q_ns_domain_events"), 2)


class PythonWorker(harness.Case):
	def test_publishers_and_a_subscriber(self):
		"""Custom publishers of a real worker replace or suppress; one that breaks publishes nothing and says so, one that is nowhere leaves the default. A client listens, another consumes."""
		db = self.database()
		node = self.daemon(db)
		events = [declared("pay.twice", "success", "broadcast", publisher="shop.doubled"), declared("pay.silent", publisher="shop.silent"), declared("pay.broken", publisher="shop.broken"),
		          declared("pay.nowhere", publisher="no.such"), declared("pay.failed", "failure")]
		self.apply(node, harness.template("pay", [publishing("s", events, "publishers.pay")], namespace="default"))
		self.python_worker(node, module="publishers.py")
		heard = []

		def listen():
			for event in node.new_client().subscribe_events("pay.*"):
				heard.append(event)
		listener = threading.Thread(target=listen, daemon=True)
		listener.start()
		tasks = []

		def one_more():
			tasks.append(self.create(node, "pay", namespace="default"))
			self.assertEqual(self.finished(node, tasks[-1]).state, "complete")
			return heard
		wait_for(one_more, "the listener to hear something")
		self.assertEqual((heard[0].event_name, heard[0].payload["payload"]), ("pay.twice", {"twice": 10}))
		messages = []
		while len(messages) < 2 * len(tasks):
			messages += node.client.consume_events("default", limit=100, wait=20)
		by_name = {m["event"]["event_name"]: m["event"] for m in messages}
		self.assertEqual({n: e["payload"]["payload"] for n, e in by_name.items()}, {"pay.twice": {"twice": 10}, "pay.nowhere": {"amount": 5}})
		(attempt,) = node.client.request("task.history", {"task_uuid": tasks[-1]})["attempts"]
		self.assertEqual(attempt["metadata"]["event_errors"], [{"name": "pay.broken", "message": "its publisher has failed: this publisher is broken"}])
		self.assertEqual(by_name["pay.twice"]["metadata"]["extra"], 1)
		self.assertEqual(node.client.ack_events(messages, "default")["done"], len(messages))
		self.verify(db, node)


if __name__ == "__main__":
	unittest.main()

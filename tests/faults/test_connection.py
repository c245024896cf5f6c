"""The connection between worker and daemon breaks at the worst moments; both live on."""
import os
import unittest

import msgpack

from fault import FaultCase, LONG, ROUNDS, harness, step, template
from harness import wait_for
from proxy import Frames, Proxy


class Broken(FaultCase):
	def relay(self, node, watch=None):
		proxy = Proxy(os.path.join(self.place, "relay.sock"), node.socket, watch)
		self.at_end(proxy.close)
		return proxy

	def worker_behind(self, node, proxy, **options):
		worker = self.python_worker(node, socket=proxy.path, **options)
		wait_for(lambda: any(r["name"] == worker.name for r in node.client.list_workers()), "the worker to be connected")
		return worker

	def test_between_commit_and_acknowledgement(self):
		"""The results are committed, their acknowledgement is swallowed and the connection cut. The worker sends them again: duplicate, recorded once."""
		node = self.daemon(self.db)
		self.apply(node, template("ack", [step("a"), step("b", after=["a"]), step("c", after=["b"])]))
		swallowed = []

		def watch(link, from_client, data):
			if from_client:
				return len(data)
			frames = link.state.setdefault("frames", Frames())
			start = link.state.get("passed", 0)
			link.state["passed"] = start + len(data)
			for at, payload in frames.feed(data):
				message = msgpack.unpackb(payload, raw=False)
				if message[0] != 2 or message[1] != "result.ack":
					continue
				link.state["acks"] = link.state.get("acks", 0) + 1
				if link.state["acks"] == 2 and len(swallowed) < 3 * ROUNDS:  # the first is let through: a connection that achieved something
					swallowed.append(message[2]["acks"])
					link.cut()
					return max(0, at - start)
			return len(data)

		worker = self.worker_behind(node, self.relay(node, watch), threads=2)
		tasks = self.create_many(node, "ack", 20)
		self.db.wait_settled()
		wait_for(lambda: all(r["open"] == 0 for r in node.client.list_workers() if "open" in r), "all results to be answered")
		self.assertEqual(worker.stop(), 0)
		counters = worker.counters()
		lost_acks = [a for acks in swallowed for a in acks]
		self.assertEqual(len(swallowed), 3 * ROUNDS)
		self.assertEqual({a["status"] for a in lost_acks} - {"recorded", "duplicate"}, set())
		first = {(a["step_uuid"], a["attempt"]) for a in lost_acks if a["status"] == "recorded"}
		self.assertTrue(first, "no acknowledgement of something new was lost")
		# Other acknowledgements may have been under way when the connection was cut; those are repeated too.
		self.assertGreaterEqual(counters.get("duplicate"), len(first))
		self.assertEqual(counters.get("duplicate") + counters.get("recorded"), 60)
		self.assertEqual(len(tasks), 20)
		self.end_batch(node)
		self.assertEqual(self.lost(), [])
		self.assertEqual(len(self.ledger), 60)

	def test_at_random_moments(self):
		"""Cut between any two bytes, in both directions, again and again."""
		node = self.daemon(self.db)
		cuts = 60 if LONG else 15

		def watch(link, from_client, data):
			limit = link.state.setdefault("limit", self.random.randrange(2000, 40000))
			passed = link.state.setdefault("passed", 0)
			link.state["passed"] = passed + len(data)
			if self.cuts < cuts and passed + len(data) > limit:
				self.cuts += 1
				link.cut()
				return max(0, limit - passed)
			return len(data)
		self.cuts = 0
		worker = self.worker_behind(node, self.relay(node, watch), threads=3)
		self.begin_batch(node, 4 * cuts)
		self.end_batch(node)
		self.assertEqual(self.cuts, cuts, "the batch is large enough for all cuts")
		self.assertEqual(self.lost(), [])
		self.assertEqual({k: n for k, n in self.executions().items() if n != 1}, {})
		self.assertTrue(worker.alive())

	def test_a_step_on_its_way(self):
		"""Cut just before a step.execute arrives: the worker never had it, so it costs no attempt."""
		node = self.daemon(self.db)
		self.apply(node, template("way", [step("a", attempts=1), step("b", after=["a"], attempts=1)]))
		lost = set()

		def watch(link, from_client, data):
			at = data.find(b"step_uuid") if not from_client and b"step.execute" in data else -1
			uuid = data[at + 11:at + 47]
			if at >= 0 and len(lost) < 5 and uuid not in lost:
				lost.add(uuid)
				link.cut()
				return 0
			return len(data)
		self.worker_behind(node, self.relay(node, watch), threads=1, prefetch=0)
		for task in self.create_many(node, "way", 5):
			self.assertEqual(self.finished(node, task).state, "complete", self.db.attempts())
		self.assertEqual(len(lost), 5)
		self.assertEqual(self.lost(), [])
		self.assertEqual({o for _, _, _, o, _, _ in self.db.attempts()}, {"success", "released"})
		self.end_batch(node)

	def test_a_client_that_creates(self):
		"""The answers to creates are cut off: with a key a repeat finds the task."""
		node = self.daemon(self.db)
		self.apply(node, template("made", [step("a")]))
		self.python_worker(node)
		lost = set()

		def watch(link, from_client, data):
			at = data.find(b"task_uuid") if not from_client else -1
			uuid = data[at + 11:at + 47]
			if at >= 0 and len(lost) < 10 and uuid not in lost:
				lost.add(uuid)
				link.cut()
				return 0
			return len(data)
		proxy = self.relay(node, watch)
		with harness.TaskerClient(socket=proxy.path, timeout=harness.PATIENCE) as client:
			made = [client.create_task("made", namespace="t", context={"n": i}, idempotency_key="k-%d" % i) for i in range(30)]
		self.assertEqual(len(lost), 10)
		self.assertEqual(len({t.task_uuid for t in made}), 30)
		self.assertEqual(sum(not t.created for t in made), 10)
		self.end_batch(node)
		self.assertEqual(self.db.number("SELECT count(*) FROM tasker.tasks"), 30)


if __name__ == "__main__":
	unittest.main()

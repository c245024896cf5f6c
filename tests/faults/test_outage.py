"""PostgreSQL is away. The daemon stays up and says so, holds what workers have finished within a bound, leaves the rest with them, and goes on by itself."""
import os
import queue
import select
import socket
import threading
import unittest

import wire
from fault import LONG, FaultCase, harness, step, template
from harness import wait_for
from wire import frame, ok

MIB = 1 << 20
SILENCE_S = 6 * 0.2  # after which a worker that could speak is taken for dead
BOUND_MIB = 256  # of results waiting for the database (STORE_BYTES_MAX)


class Stage(FaultCase):
	def make_cluster(self):
		made = harness.new_cluster()
		self.at_end(made.close)
		return made

	def service_manager(self):
		"""A socket like systemd's, and what the daemon has said on it. All is read at once: a daemon waits for a manager that does not."""
		path = os.path.join(self.place, "notify")
		s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
		s.bind(path)
		said = queue.Queue()

		def read():
			for text in iter(lambda: s.recv(65536), b""):
				said.put(text.decode())

		reader = threading.Thread(target=read, daemon=True)
		reader.start()

		def end():
			with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
				last.sendto(b"", path)
			reader.join()
			s.close()

		self.at_end(end)
		return path, said

	@staticmethod
	def heard(said, words):
		while not said.empty():
			if words in said.get():
				return True
		return False

	def one_node(self, n, environment=None, **options):
		path, self.manager = self.service_manager()
		node = harness.Daemon(self, "node-a", database=self.db.uri, poll_interval_ms=harness.HOUR_MS, **options)
		node.environment = {"NOTIFY_SOCKET": path, **(environment or {})}
		node.start()
		wire.ready(node)
		self.apply(node, template("one", [step("a", "h")]))
		self.create_many(node, "one", n)
		return node


class Away(Stage):
	def go_away(self, node):
		self.db.close()
		self.cluster.stop("immediate")
		wait_for(lambda: node.database_state() == "lost", "the daemon to notice")

	def test_a_service_manager_that_does_not_read(self):
		"""Its socket is full before the daemon starts; it is started, serves, loses its database and stops all the same."""
		path = os.path.join(self.place, "deaf")
		with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
			deaf.bind(path)
			filler.setblocking(False)
			filler.connect(path)
			with self.assertRaises(BlockingIOError):
				while True:
					filler.send(b"X=1")
			node = harness.Daemon(self, "node-a", database=self.db.uri, poll_interval_ms=harness.HOUR_MS)
			node.environment = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "300000"}
			node.start()
			wire.ready(node)
			self.apply(node, template("one", [step("a", "h")]))
			self.create_many(node, "one", 1)
			with wire.Worker(node.socket, ["h"], 1) as w:
				s = w.take(1)[0]
				self.go_away(node)
				node.process.signal(1)  # reload
				w.finish(s)
				self.cluster.start()
				self.assertEqual(w.acked(s), "recorded")
			self.assertEqual(node.stop(), 0)

	def test_it_says_so_and_goes_on(self):
		node = self.one_node(3)
		with wire.Worker(node.socket, ["h"], 3) as w:
			steps = w.take(3)
			self.go_away(node)
			self.assertTrue(node.info()["database"]["error"])
			wait_for(lambda: self.heard(self.manager, "STATUS=waiting for the database"), "the service manager to be told")
			self.assertIn("database cannot be reached", node.log_text())
			for s in steps:
				w.finish(s)
			w.call("ping")
			self.assertEqual(w.acks, {}, "nothing is acknowledged that is not written")
			with self.assertRaises(harness.TaskerdError) as refused:
				node.client.create_task("one", namespace="t")
			self.assertEqual((refused.exception.code, refused.exception.retryable), ("database_unavailable", True))
			self.cluster.start()
			self.assertEqual([w.acked(s) for s in steps], ["recorded"] * 3)
			wait_for(lambda: self.heard(self.manager, "STATUS=serving"), "the service manager to be told")
		node.wait_up()
		self.assertIn("database up", node.log_text().rsplit("cannot be reached", 1)[1])
		self.doctor(node)

	@unittest.skipUnless(LONG, "takes half a gibibyte and some time: TASKERD_LONG=1 runs it")
	def test_results_beyond_the_bound_stay_with_the_worker(self):
		"""A worker with more than the daemon holds is not read any more: its results wait in its socket, it is not taken for dead, and others are served."""
		n = BOUND_MIB + 60
		node = self.one_node(n, heartbeat_ms=200)
		with wire.Worker(node.socket, ["h"], n) as w:
			steps = w.take(n)
			before = wire.rss(node.pid)
			self.go_away(node)
			big = "x" * (MIB - 1000)
			frames = (frame([2, "step.result", {"results": [ok(s, {"v": big})]}]) for s in steps)
			held, part = self.send(w.sock, frames, b"", 3 * SILENCE_S)
			self.assertLess(held, n, "all of them were taken")
			self.assertGreater(held, BOUND_MIB // 4, "hardly anything was held")  # a result is there as JSON and as MessagePack
			self.assertLess(wire.rss(node.pid) - before, 2.5 * BOUND_MIB)
			with wire.Wire(node.socket) as other:
				other.hello()
				self.assertEqual(other.call("server.info")["database"]["state"], "lost")
			self.cluster.start()
			more, part = self.send(w.sock, frames, part, harness.PATIENCE)
			self.assertEqual((held + more, part), (n, b""))
			w.patience *= 3
			w.until(lambda: len(w.acks) == n, "all acknowledgements")
			self.assertEqual({a[0]["status"] for a in w.acks.values()}, {"recorded"})
		self.assertEqual(self.db.attempts("worker_lost"), [])
		self.doctor(node)

	@staticmethod
	def send(sock, frames, part, patience):
		"""How many frames went out before the daemon had read nothing for so long, or all had; and what is left of the one on its way, `part` to begin with."""
		sent = 0
		while True:
			if not part:
				part = memoryview(next(frames, b""))
				if not part:
					return sent, b""
			if not select.select([], [sock], [], patience)[1]:
				return sent, part
			try:
				part = part[sock.send(part):]
				sent += not part
			except BlockingIOError:
				pass


class Frozen(Stage):
	"""The server stands still (SIGSTOP) and its connections stay open: nothing is refused, nothing answers."""

	def freeze(self, everything=True):
		self.cluster.freeze(everything)
		self.at_end(self.cluster.thaw)

	def test_it_says_so_and_goes_on(self):
		node = self.one_node(3, {"WATCHDOG_USEC": "300000"}, lease_ttl_ms=3000)
		with wire.Worker(node.socket, ["h"], 3) as w:
			steps = w.take(3)
			self.freeze()
			for s in steps[:2]:
				w.finish(s)
			wait_for(lambda: node.database_state() == "lost", "the daemon to notice")
			self.assertIn("does not answer", node.info()["database"]["error"])
			wait_for(lambda: self.heard(self.manager, "STATUS=waiting for the database"), "the service manager to be told")
			for _ in range(5):  # a daemon whose database stands still does not stand still itself: nothing is better after a restart
				wait_for(lambda: self.heard(self.manager, "WATCHDOG=1"), "the watchdog to be fed")
			w.finish(steps[2])
			w.call("ping")
			self.assertEqual(w.acks, {})
			self.cluster.thaw()
			self.assertEqual([w.acked(s) for s in steps], ["recorded"] * 3)
		node.wait_up()
		self.assertEqual(self.db.attempts("worker_lost"), [])
		self.doctor(node)

	def test_connections_are_lost_while_the_postmaster_stands_still(self):
		"""Backends go on, new ones are not made: what connects is accepted by the kernel and hears nothing."""
		node = self.one_node(2, lease_ttl_ms=3000)
		with wire.Worker(node.socket, ["h"], 2) as w:
			steps = w.take(2)
			self.db.sql("SELECT 1")
			self.freeze(everything=False)
			w.finish(steps[0])
			self.assertEqual(w.acked(steps[0]), "recorded")
			self.db.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'taskerd'")
			wait_for(lambda: node.database_state() == "lost", "the daemon to notice")
			w.finish(steps[1])
			w.call("ping")
			self.assertNotIn(wire.key(steps[1]), w.acks)
			self.cluster.thaw()
			self.assertEqual(w.acked(steps[1]), "recorded")
		node.wait_up()
		self.doctor(node)


if __name__ == "__main__":
	unittest.main()

"""What one user may take up: a user of this host who opens, asks for, sends or leaves unread as much as the daemon takes is told which quota ends it, and another user works on as if there were nobody."""
import os
import struct
import unittest

import harness
import wire
from harness import step, template, wait_for
from wire import Closed, Refused, User, rss

ANN, BOB = 70001, 70002
MIB = 1 << 20
NO_TASK = "01890a5d-ac96-774b-bcce-b30200000000"
QUOTAS = "socket_mode: 0666\nmax_sessions: 40\nmax_sessions_per_uid: 12\nmax_requests_per_uid: 64\nmax_steps_per_uid: 10\nmax_bytes_per_uid: 2 MiB\n"


@unittest.skipUnless(os.geteuid() == 0, "only root can be other users")
class Quotas(harness.SharedCase):
	@classmethod
	def prepare(cls, stage):
		stage.db = stage.database()
		config = os.path.join(stage.place, "taskerd.yaml")
		with open(config, "w", encoding="utf-8") as f:
			f.write(QUOTAS)
		stage.node = stage.daemon(stage.db, config=config)
		stage.apply(stage.node, template("one", [step("a", "t.one")]))
		for name in "rest", "kept":
			stage.apply(stage.node, template(name, [step("a", "t." + name)]))

	@classmethod
	def tearDownClass(cls):
		harness.Case.tearDownClass.__func__(cls)  # no ledger here

	def setUp(self):
		super().setUp()
		self.wires = []

	def tearDown(self):
		"""Bob works whatever Ann has done and still holds; when she is gone she may begin anew."""
		self.works(BOB)
		for w in self.wires:
			w.close()
		wait_for(lambda: self.node.info()["sessions"] <= 2, "the sessions to be gone")
		self.works(ANN)
		super().tearDown()

	def connect(self, uid=ANN, hello=True):
		w = wire.Wire(self.node.socket, user=User(uid))
		self.wires.append(w)
		if hello:
			w.hello()
		return w

	def works(self, uid):
		"""A whole task of this user."""
		with wire.Worker(self.node.socket, ["t.one"], user=User(uid)) as worker, wire.Wire(self.node.socket, user=User(uid)) as client:
			client.hello()
			task = client.call("task.create", {"name": "one", "namespace": "t"})["task_uuid"]
			worker.finish(worker.take())
			self.assertEqual(client.call("task.wait", {"task_uuid": task, "timeout_ms": 60000})["state"], "complete")

	def assert_quota(self, error, limit, maximum):
		self.assertEqual((error["code"], error["details"]), ("overloaded", {"limit": limit, "max": maximum}))
		self.assertIn(limit, error["message"])

	def test_connections(self):
		for _ in range(12):
			self.connect()
		w = self.connect(hello=False)
		(method, error), = w.closed()
		self.assertEqual(method, "error")
		self.assert_quota(error, "max_sessions_per_uid", 12)
		with wire.Wire(self.node.socket) as root:
			root.hello()
		self.wires[0].close()
		wait_for(lambda: self.node.info()["sessions"] <= 13, "a session to be gone")
		self.connect().call("ping")

	def test_connections_that_say_nothing(self):
		for _ in range(12):
			self.connect(hello=False)
		self.assert_quota(self.connect(hello=False).closed()[0][1], "max_sessions_per_uid", 12)

	def test_requests_that_wait(self):
		"""Over all of a user's sessions, and of any kind."""
		task = self.node.client.create_task("rest", namespace="t").task_uuid
		a, b = self.connect(), self.connect()
		for _ in range(30):
			a.ask("task.wait", {"task_uuid": task})
			b.ask("task.wait", {"task_uuid": task})
		a.call("task.watch", {"task_uuid": task})
		b.call("task.watch", {"task_uuid": task})
		for _ in range(2):
			b.ask("event.consume", {"namespace": "t", "wait_ms": 600000})
		b.call("ping")  # they wait now, whichever connection is read first
		for method, params in ("task.wait", {"task_uuid": task}), ("task.create", {"name": "one", "namespace": "t"}), ("task.get", {"task_uuid": task}), ("event.consume", {"namespace": "t"}), (
				"task.create_many", {"tasks": [{"name": "one", "namespace": "t"}]}), ("task.cancel", {"task_uuid": task}), ("template.apply", {"source": template("x", [step("a")])}):
			with self.subTest(method):
				self.assert_quota(a.refused(method, params).error, "max_requests_per_uid", 64)
		a.call("ping")
		a.call("task.unwatch", {"task_uuid": task})
		a.call("task.get", {"task_uuid": task})
		b.close()
		wait_for(lambda: self.node.info()["sessions"] <= 3, "the other session to be gone")
		for _ in range(20):
			a.ask("task.wait", {"task_uuid": task})
		a.call("task.get", {"task_uuid": task})

	def test_steps(self):
		first = wire.Worker(self.node.socket, ["t.none"], concurrency=8, user=User(ANN))
		self.wires.append(first)
		with wire.Wire(self.node.socket, user=User(ANN)) as w:
			with self.assertRaises(Refused) as caught:
				w.hello(worker={"handlers": ["t.none"], "max_concurrency": 3})
			self.assert_quota(caught.exception.error, "max_steps_per_uid", 10)
			w.closed()
		second = wire.Worker(self.node.socket, ["t.none"], concurrency=2, user=User(ANN))
		self.wires.append(second)
		second.notify("worker.update", {"max_concurrency": 3})
		self.assert_quota(second.note("error"), "max_steps_per_uid", 10)
		first.notify("worker.update", {"max_concurrency": 7})
		first.call("ping")  # read before what comes by the other connection
		second.notify("worker.update", {"max_concurrency": 3})
		self.assertEqual(second.silent(), [])

	def test_a_worker_that_comes_back_is_not_two(self):
		first = wire.Worker(self.node.socket, ["t.none"], concurrency=10, user=User(ANN))
		self.wires.append(first)
		again = wire.Worker(self.node.socket, ["t.none"], concurrency=10, user=User(ANN), resume={"session": first.welcome["session"], "held": 0})
		self.wires.append(again)
		self.assertTrue(again.welcome["resumed"])

	def test_a_worker_that_comes_back_may_not_have_more(self):
		first = wire.Worker(self.node.socket, ["t.none"], concurrency=8, user=User(ANN))
		self.wires.append(first)
		with self.assertRaises(Refused) as caught:
			wire.Worker(self.node.socket, ["t.none"], concurrency=11, user=User(ANN), resume={"session": first.welcome["session"], "held": 0})
		self.assert_quota(caught.exception.error, "max_steps_per_uid", 10)
		first.notify("worker.update", {"max_concurrency": 10})
		self.assertEqual(first.silent(), [])
		first.notify("worker.update", {"max_concurrency": 11})
		self.assert_quota(first.note("error"), "max_steps_per_uid", 10)

	def test_a_worker_that_may_come_back_keeps_its_part(self):
		"""Its connection is gone, its process lives and has a step: whoever asks at that moment gets what it has not."""
		first = wire.Worker(self.node.socket, ["t.kept"], concurrency=8, user=User(ANN))
		self.wires.append(first)
		task = self.create(self.node, "kept")
		first.take()
		other = self.connect(hello=False)
		self.node.process.freeze()
		first.sock.close()
		request = other.ask("hello", {"protocol": [1, 0], "client": "wire/1", "worker": {"handlers": ["t.none"], "max_concurrency": 3}})
		self.node.process.thaw()
		with self.assertRaises(Refused) as caught:
			other.answer(request)
		self.assert_quota(caught.exception.error, "max_steps_per_uid", 10)
		self.node.client.cancel_task(task)

	def test_workers_that_come_and_go(self):
		"""Faster than the database is told of them: it is told of few, and of those who stay, and answers others meanwhile instead of all that have gone."""
		before = self.db.number("SELECT count(*) FROM tasker.workers")
		with self.db.cluster.session(self.db.name) as lock:
			lock.run("BEGIN; LOCK TABLE tasker.workers IN ACCESS EXCLUSIVE MODE")
			stay = [wire.Worker(self.node.socket, ["t.none"], name="who stays") for _ in range(20)]  # more than are told of at a time
			for _ in range(60):
				with wire.Worker(self.node.socket, ["t.none"], user=User(ANN)):
					pass
			lock.run("COMMIT")
		self.works(BOB)
		wait_for(lambda: self.db.number("SELECT count(*) FROM tasker.workers WHERE name = 'who stays'") == len(stay), "those who stay to be known, each in its turn")
		for w in stay:
			w.close()
		with wire.Worker(self.node.socket, ["t.none"], user=User(ANN), name="the last") as last:
			wait_for(lambda: self.db.number("SELECT count(*) FROM tasker.workers WHERE worker_uuid = '%s'" % last.welcome["worker_uuid"]) == 1, "the last one to be known")
		self.assertLess(self.db.number("SELECT count(*) FROM tasker.workers") - before - len(stay), 25)

	def test_frames_that_do_not_end(self):
		"""Whoever makes it too much is ended; those of the same user that hold little go on."""
		quiet = self.connect()
		for _ in range(4):
			w = self.connect()
			try:
				w.send_bytes(struct.pack(">I", MIB) + b"\xdb" + struct.pack(">I", MIB - 5) + b"x" * (MIB - 1000))
			except Closed:
				pass

		def told():
			for w in self.wires[1:]:
				w.poll()
			return [p for w in self.wires[1:] for m, p in w.notes if m == "error"]
		for error in wait_for(told, "one of them to be told"):
			self.assert_quota(error, "max_bytes_per_uid", 2 * MIB)
		quiet.call("ping")

	def test_large_frames_leave_nothing_behind(self):
		"""Each session may send one after the other; what is kept for the next is not held against them."""
		wires = [self.connect() for _ in range(8)]
		for _ in range(3):
			for w in wires:
				w.call("ping", {"x": "y" * 900000})

	def test_answers_that_are_not_read(self):
		self.apply(self.node, template("large", [step("a", "t.large")]))
		task = self.node.client.create_task("large", namespace="t", context={"x": "y" * 500000}).task_uuid
		ended = 0
		for _ in range(3):
			w = self.connect()
			for _ in range(12):
				w.ask("task.get", {"task_uuid": task})
		wait_for(lambda: "max_bytes_per_uid" in self.node.log_text() or self.node.info()["sessions"] < 5, "one of them to be ended")
		for w in self.wires:
			try:
				w.answer(12)
			except Closed:
				ended += 1
			except Refused:
				pass
		self.assertGreater(ended, 0)

	def test_a_flood_of_creations(self):
		"""What is refused is refused with the quota's name; what is acknowledged is there."""
		w = self.connect()
		w.send_bytes(b"".join(wire.frame([0, i, "task.create", {"name": "rest", "namespace": "t", "tags": ["flood"]}]) for i in range(3000)))
		w.asked.update(range(3000))
		made = 0
		for i in range(3000):
			try:
				w.answer(i)
				made += 1
			except Refused as e:
				self.assert_quota(e.error, "max_requests_per_uid", 64)
		self.assertEqual(self.db.number("SELECT count(*) FROM tasker.tasks WHERE 'flood' = ANY (tags)"), made)
		self.assertGreater(made, 0)

	def test_everything_at_once(self):
		"""Ann has all her quotas full and goes on asking; memory stays where it may be."""
		before = rss(self.node.pid)
		task = self.node.client.create_task("rest", namespace="t").task_uuid
		for i in range(12):
			w = self.connect()
			w.asked.update(range(1001))
			try:
				w.send_bytes(b"".join(wire.frame([0, n, "task.wait", {"task_uuid": task}]) for n in range(500)))
				w.send_bytes(wire.frame([0, 1000, "task.list", {"limit": 1000}]))
			except Closed:
				pass  # what it does not read was too much
		for _ in range(3):
			self.works(BOB)
		if "TASKERD_TEST_PATIENCE" not in os.environ:  # sanitizers keep what is freed
			self.assertLess(rss(self.node.pid) - before, 32)


if __name__ == "__main__":
	unittest.main()

"""The same local process, with more than anyone would send: floods, and what bounds them. As test_hostile.py in all else."""
import os
import select
import signal
import socket
import unittest

import harness
import wire
from harness import step
from hostile import HELLO, NOBODY, Hostile, fork
from wire import Closed, Refused, frame, largest, ok

if not os.environ.get("TASKERD_LONG"):
	raise unittest.SkipTest("takes minutes and a machine of its own: TASKERD_LONG=1 runs it")

LONG = int(os.environ["TASKERD_LONG"])


class Floods(Hostile):
	"""Too much of everything."""

	def test_requests_without_reading_the_answers(self):
		"""What it does not read is bounded, then it is dropped; the daemon goes on."""
		task = self.create("one", context={"v": "x" * 900000})

		def work():
			s = socket.socket(socket.AF_UNIX)
			s.connect(self.node.socket)
			s.sendall(frame([0, 1, "hello", HELLO]))
			request = b"".join(frame([0, i, "task.get", {"task_uuid": task}]) for i in range(100))
			s.settimeout(3)
			try:
				for _ in range(100):
					s.sendall(request)
			except (socket.timeout, BrokenPipeError, ConnectionResetError):
				pass
			s.close()
		self.assert_peak(self.peak(work), 300)

	def test_pings_without_reading(self):
		def work():
			s = socket.socket(socket.AF_UNIX)
			s.connect(self.node.socket)
			s.sendall(frame([0, 1, "hello", HELLO]))
			data = b"".join(frame([0, i, "ping", {}]) for i in range(20000))
			s.settimeout(2)
			try:
				for _ in range(300):
					s.sendall(data)
			except (socket.timeout, BrokenPipeError, ConnectionResetError):
				pass
			s.close()
		self.assert_peak(self.peak(work), 128)

	def test_a_flood_of_questions(self):
		"""More than the database can answer: they wait in the socket, or are told so; none is left without an answer."""
		def work():
			w = wire.Wire(self.node.socket)
			w.hello()
			n = 8000
			w.asked.update(range(10, 10 + n))
			w.send_bytes(b"".join(frame([0, i, "task.get", {"task_uuid": NOBODY}]) for i in range(10, 10 + n)))
			w.until(lambda: len(w.responses) == n, "all answers")
			codes = {m[2]["code"] for m in w.responses.values()}
			if not codes <= {"not_found", "overloaded"}:
				raise AssertionError(codes)
		self.assert_peak(self.peak(work), 300)

	def test_a_flood_of_creations(self):
		"""Contexts of a mebibyte faster than they can be written: refused above a bound, never without one."""
		self.growth = 250  # the buffers of the largest batch stay
		def work():
			w = wire.Wire(self.node.socket)
			w.hello()
			n = 700
			w.asked.update(range(10, 10 + n))
			context = {"v": "x" * 1000000}
			for i in range(10, 10 + n):
				w.send_bytes(frame([0, i, "task.create", {"name": "one", "namespace": self.ns, "context": context}]))
			w.until(lambda: len(w.responses) == n, "all answers")
			codes = {m[2]["code"] for m in w.responses.values() if m[2]}
			if not codes <= {"overloaded"}:
				raise AssertionError(codes)
		self.assert_peak(self.peak(work), 1200)

	def test_results_while_nothing_can_be_written(self):
		"""Workers are made to wait, not the memory."""
		self.growth = 250
		n = 600
		self.client.call("task.create_many", {"tasks": [{"name": "one", "namespace": self.ns}] * n})
		lock = self.db.cluster.session(self.db.name)
		self.addCleanup(lock.close)

		def work():
			w = wire.Worker(self.node.socket, ["h"], n, namespaces=[self.ns])
			steps = w.take(n)
			lock.run("BEGIN; LOCK TABLE tasker.steps IN ACCESS EXCLUSIVE MODE")
			big = "x" * 1000000
			w.sock.settimeout(2)
			w.sock.setblocking(True)
			w.sock.settimeout(2)
			sent = 0
			try:
				for s in steps:
					w.sock.sendall(frame([2, "step.result", {"results": [ok(s, {"v": big}, metadata={"m": big})]}]))
					sent += 1
			except socket.timeout:
				pass
			if sent == n:
				raise AssertionError("all %d were taken" % n)
		most = self.peak(work)
		lock.run("ROLLBACK")
		self.assert_peak(most, 900)

		def accepted():
			try:
				return self.client.call("task.list", {"limit": 1})
			except Refused as e:
				self.assertEqual(e.code, "overloaded")
				return None
		harness.wait_for(accepted, "the backlog to be written")

	def test_waits_and_watches_without_end(self):
		task = self.create("one")
		c = self.wire()
		ids = [c.ask("task.wait", {"task_uuid": task}) for _ in range(2000)]
		watched = 0
		for _ in range(3):
			try:
				c.call("task.watch", {"task_uuid": task})
				watched += 1
			except Refused as e:
				self.assertEqual(e.code, "conflict")
		self.assertEqual(watched, 1)
		others = [self.create("one") for _ in range(100)]
		codes = set()
		for t in others:
			try:
				c.call("task.watch", {"task_uuid": t})
			except Refused as e:
				codes.add(e.code)
		self.assertEqual(codes, {"overloaded"})
		w = self.worker(concurrency=200)
		for s in w.take(101):
			w.finish(s)
		for i in ids:
			self.assertEqual(c.answer(i)["state"], "complete")
		d = self.wire()
		for _ in range(500):
			d.ask("task.wait", {"task_uuid": NOBODY})
		d.close()  # they are forgotten with it

	def test_connections_that_say_nothing(self):
		"""Up to the bound and beyond; who is let in is served."""
		socks = []
		for _ in range(300):
			s = socket.socket(socket.AF_UNIX)
			s.connect(self.node.socket)
			socks.append(s)
		self.client.call("ping")
		self.wire().call("ping")
		for s in socks:
			s.close()

	def test_connections_that_come_and_go(self):
		for i in range(3000 * LONG):
			s = socket.socket(socket.AF_UNIX)
			s.connect(self.node.socket)
			if i % 3 == 0:
				s.send(frame([0, 1, "hello", HELLO]))
			elif i % 3 == 1:
				s.send(b"GET / HTTP/1.1\r\n\r\n")
			s.close()
		harness.wait_for(lambda: self.client.call("server.info")["sessions"] <= 2, "sessions to be forgotten")

	def test_workers_that_come_and_go_quickly(self):
		for _ in range(300 * LONG):
			with wire.Worker(self.node.socket, ["h%d" % self.random.randrange(10)], 5, namespaces=[self.ns]):
				pass
		harness.wait_for(lambda: not self.client.call("worker.list")["workers"], "workers to be forgotten")

	def test_a_log_flood(self):
		before = os.path.getsize(self.node.log)
		w = self.worker()
		for _ in range(30):
			w.send(*[[2, "step.log", {"level": "error", "message": "x" * 60000}]] * 20)
			w.send(*[[2, "step.log", {"level": "error", "message": "y"}]] * 1000)
		w.call("ping")
		self.assertLess(os.path.getsize(self.node.log) - before, 8 << 20)

	def test_protocol_errors_do_not_fill_the_log(self):
		before = os.path.getsize(self.node.log)
		for _ in range(3000):
			s = socket.socket(socket.AF_UNIX)
			s.connect(self.node.socket)
			s.send(b"\0\0\0\1\xc1")
			s.close()
		self.client.call("ping")
		self.assertLess(os.path.getsize(self.node.log) - before, 200 << 10)

	def test_a_peer_that_does_not_even_read_why_it_is_dropped(self):
		"""Its session ends all the same."""
		w = self.wire()
		sessions = self.client.call("server.info")["sessions"]
		w.sock.setblocking(True)
		w.sock.settimeout(1)
		try:
			for _ in range(300):
				w.sock.sendall(b"".join(frame([0, i, "template.validate", {"source": "a: 1\n" * 100}]) for i in range(50)))
		except (socket.timeout, BrokenPipeError):
			pass
		try:
			w.sock.sendall(b"\xff" * 1000)
		except (socket.timeout, BrokenPipeError):
			pass
		self.client.call("ping")
		w.close()
		harness.wait_for(lambda: self.client.call("server.info")["sessions"] < sessions, "the session to end")


class Bounds(harness.Case):
	"""Daemons with small bounds."""

	def test_more_sessions_than_allowed(self):
		db = self.database()
		node = self.daemon(db, max_sessions=20)
		wire.ready(node)
		held = [wire.Wire(node.socket) for _ in range(20)]
		for w in held:
			self.addCleanup(w.close)
			w.hello()
		over = wire.Wire(node.socket)
		self.addCleanup(over.close)
		try:
			over.ask("hello", HELLO)
		except Closed:
			pass
		said = over.closed()
		self.assertEqual([p["code"] for m, p in said if m == "error"], ["overloaded"])
		for _ in range(500):
			s = socket.socket(socket.AF_UNIX)
			s.connect(node.socket)
			s.close()
		for w in held:
			self.assertEqual(w.call("ping"), {})
		for w in held:
			w.close()

		def let_in():
			try:
				with wire.Wire(node.socket) as c:
					c.hello()
					return c.call("server.info")["sessions"] == 1
			except Closed:
				return False
		harness.wait_for(let_in, "room for others")
		self.doctor(node)

	def test_descriptors_run_out(self):
		"""Those who are in go on being served, and the database too, even after it has been away; others get in when there is room."""
		db = self.database()
		node = harness.Daemon(self, "node-a", database=db.uri, poll_interval_ms=harness.HOUR_MS)
		node.argv = ["prlimit", "--nofile=64:64"] + node.argv
		node.start()
		wire.ready(node)
		with wire.Wire(node.socket) as c, wire.Worker(node.socket, ["h"]) as w:
			c.hello()
			c.call("template.apply", {"source": harness.template("one", [step("a", "h")])})
			socks = []
			for _ in range(150):
				s = socket.socket(socket.AF_UNIX)
				s.setblocking(False)
				s.connect(node.socket)
				socks.append(s)
			self.run_one(c, w)
			db.cluster.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '%s' AND application_name = 'taskerd'" % db.name)
			harness.wait_for(lambda: c.call("server.info")["database"]["state"] == "up" and self.try_one(c, w), "the daemon to have its database again, with all descriptors taken")
			for s in socks:
				s.close()

			def let_in():
				with wire.Wire(node.socket) as d:
					d.patience = 2
					try:
						return d.hello()
					except (Closed, AssertionError):
						return None
			harness.wait_for(let_in, "room for others")
			self.run_one(c, w)
		self.doctor(node)
		self.assertEqual(node.stop(), 0)

	def run_one(self, c, w):
		task = c.call("task.create", {"name": "one", "namespace": "t"})["task_uuid"]
		s = w.take()
		w.finish(s)
		self.assertEqual(w.acked(s), "recorded")
		self.assertEqual(c.call("task.wait", {"task_uuid": task})["state"], "complete")

	def try_one(self, c, w):
		try:
			self.run_one(c, w)
			return True
		except Refused:
			return False

	def test_batches_are_bounded_in_bytes(self):
		"""PostgreSQL takes no message of a gibibyte; a batch that grew over it would be sent for ever."""
		db = self.database()
		node = self.daemon(db, max_result="2MiB")
		wire.ready(node)
		with wire.Wire(node.socket) as c:
			c.hello()
			c.call("template.apply", {"source": harness.template("one", [step("a", "h")])})
			n = 300
			c.call("task.create_many", {"tasks": [{"name": "one", "namespace": "t"}] * n})
			with wire.Worker(node.socket, ["h"], n) as w:
				steps = w.take(n)
				lock = db.cluster.session(db.name)
				lock.run("BEGIN; LOCK TABLE tasker.steps IN ACCESS EXCLUSIVE MODE")
				big = os.urandom(1000).hex() * 980

				def send():
					for s in steps:
						data = memoryview(frame([2, "step.result", {"results": [ok(s, {"v": big}, metadata={"m": big})]}]))
						while data:
							select.select([], [w.sock], [])
							try:
								data = data[w.sock.send(data):]
							except BlockingIOError:
								pass
				child = fork(send)
				self.addCleanup(self.reap, child)
				harness.wait_for(lambda: self.asleep(child), "the sender to be held back, or to be done")
				lock.run("ROLLBACK")
				lock.close()
				w.patience *= 3
				beat, w.beat = w.beat, lambda: 0.1 if self.running(child) else beat()  # not into the child's frames
				w.until(lambda: len(w.acks) == n, "all acknowledgements")
			self.assertEqual({a[0]["status"] for a in w.acks.values()}, {"recorded"})
		self.doctor(node)

	@staticmethod
	def state(pid):
		with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as f:
			return f.read().rpartition(")")[2].split()[0]

	def asleep(self, pid):
		"""Whether a child has ended, or waits in a call."""
		return self.state(pid) in "SZ"

	def running(self, pid):
		return self.state(pid) != "Z"

	@staticmethod
	def reap(pid):
		os.kill(pid, signal.SIGKILL)
		os.waitpid(pid, 0)

	def test_a_fan_in_that_is_too_large_for_the_database(self):
		"""Results each within its limit, together (in the long version) beyond what one jsonb may hold: the parents' results are recorded, and the child gets its inputs in pages."""
		db = self.database()
		node = self.daemon(db, max_frame="16MiB", max_result="6MiB")
		wire.ready(node)
		n, size = 64, 300000 if LONG == 1 else 5000000
		before = largest(node.pid)
		with wire.Wire(node.socket) as c:
			c.hello()
			c.call("template.apply", {"source": harness.template("fan", [step("s%d" % i, "h") for i in range(n)] + [step("end", "h", after=["s%d" % i for i in range(n)])])})
			task = c.call("task.create", {"name": "fan", "namespace": "t"})["task_uuid"]
			with wire.Worker(node.socket, ["h"], n) as w:
				w.patience *= 3
				for s in w.take(n):
					w.finish(s, {"v": "x" * size})
					self.assertEqual(w.acked(s), "recorded")
				s = w.take()
				self.assertIs(s["dependencies_partial"], True)
				got, cursor = set(), None
				while True:
					w.notify("heartbeat")
					page = c.call("step.dependencies", {"step_uuid": s["step_uuid"], "cursor": cursor})
					got.update(page["dependencies"])
					cursor = page.get("next_cursor")
					if cursor is None:
						break
				self.assertEqual(len(got), n)
				w.finish(s)
				self.assertEqual(w.acked(s), "recorded")
			self.assertEqual(c.call("task.wait", {"task_uuid": task})["state"], "complete")
		if not wire.SANITIZED:
			self.assertLess(largest(node.pid) - before, 100, "MiB: a page and what it is made of, not all results")
		self.doctor(node)

	def test_small_frames(self):
		"""The smallest frame that the options allow."""
		db = self.database()
		node = self.daemon(db, max_frame="64KiB", max_context="16KiB", max_result="16KiB")
		wire.ready(node)
		with wire.Wire(node.socket) as c:
			c.hello()
			n = 12
			c.call("template.apply", {"source": harness.template("fan", [step("s%d" % i, "h") for i in range(n)] + [step("end", "h", after=["s%d" % i for i in range(n)])])})
			tasks = [c.call("task.create", {"name": "fan", "namespace": "t", "context": {"v": "x" * 16000}})["task_uuid"] for _ in range(5)]
			with wire.Worker(node.socket, ["h"], 100) as w:
				done = 0
				while done < 5 * (n + 1):
					s = w.take()
					if s["step"] == "end":
						got, cursor = dict(s.get("dependencies") or {}), "0"
						while cursor is not None:
							page = c.call("step.dependencies", {"step_uuid": s["step_uuid"], "cursor": cursor})
							got.update(page["dependencies"])
							cursor = page.get("next_cursor")
						self.assertEqual(len(got), n)
					w.finish(s, {"v": "y" * 16000})
					self.assertEqual(w.acked(s), "recorded")
					done += 1
			for t in tasks:
				self.assertEqual(c.call("task.wait", {"task_uuid": t})["state"], "complete")
				self.assertEqual(c.refused("task.get", {"task_uuid": t}).code, "too_large")
			self.assertLessEqual(c.largest, 65536)
		self.doctor(node)


class Ends(harness.Case):
	"""The daemon can be stopped, whatever the database does."""

	def begin_one(self, **options):
		db = self.database(**options)
		node = self.daemon(db, drain_timeout_ms=200)
		wire.ready(node)
		c = wire.Wire(node.socket)
		self.addCleanup(c.close)
		c.hello()
		c.call("template.apply", {"source": harness.template("one", [step("a", "h")])})
		return db, node, c

	def stopped(self, node):
		node.process.signal(signal.SIGTERM)
		return node.process.wait()

	def test_a_table_is_locked(self):
		db, node, c = self.begin_one()
		with db.cluster.session(db.name) as lock:
			lock.run("BEGIN; LOCK TABLE tasker.tasks IN ACCESS EXCLUSIVE MODE")
			for i in range(20):
				c.ask("task.create", {"name": "one", "namespace": "t"})
			c.ask("task.list")
			c.call("ping")
			self.stopped(node)

	def test_the_schema_is_damaged(self):
		db, node, c = self.begin_one()
		db.sql("ALTER TABLE tasker.tasks RENAME TO gone")
		c.ask("task.create", {"name": "one", "namespace": "t"})
		c.call("ping")
		self.stopped(node)

	def test_the_server_is_frozen(self):
		cluster = harness.new_cluster()
		self.addCleanup(cluster.close)
		db, node, c = self.begin_one(cluster=cluster)
		db.close()
		pids = harness.pg._pids_in(cluster.data)
		for p in pids:
			os.kill(p, signal.SIGSTOP)
		try:
			c.ask("task.list")
			c.ask("task.create", {"name": "one", "namespace": "t"})
			c.call("ping")
			self.stopped(node)
		finally:
			for p in pids:
				try:
					os.kill(p, signal.SIGCONT)
				except ProcessLookupError:
					pass


if __name__ == "__main__":
	unittest.main()

"""What a local process that means harm sends: frames of the protocol with something wrong in them; and what is looked at after it."""
import os
import struct
import sys
import time

import harness
import wire
from harness import step
from wire import Closed, descriptors, frame, rss

HELLO = {"protocol": [1, 0], "client": "hostile/1"}
NOBODY = "01900000-0000-7000-8000-000000000000"


def frames(rng, ns, task, uuid):
	"""Frames that mean something, with the ids of a task and of one of its steps in them."""
	claim = bytes(rng.randbytes(16))
	messages = [
		[0, 1, "task.create", {"name": "one", "namespace": ns, "context": {"k": [1, -1, 2.5, "x" * 40, None]}, "tags": ["a", "b"], "priority": 5, "idempotency_key": "k"}],
		[0, 2, "task.create_many", {"tasks": [{"name": "one", "namespace": ns}] * 3}], [0, 3, "task.get", {"task_uuid": task, "steps": True}],
		[0, 4, "task.list", {"namespace": ns, "limit": 10, "state": "complete", "cursor": "12"}], [0, 5, "task.wait", {"task_uuid": task, "timeout_ms": 5}], [0, 6, "task.watch", {"task_uuid": task}],
		[0, 7, "task.unwatch", {"task_uuid": task}], [0, 8, "task.history", {"task_uuid": task}], [0, 9, "step.dependencies", {"step_uuid": uuid, "names": ["a"], "cursor": "1"}],
		[0, 10, "session.resume", {"steps": [{"step_uuid": uuid, "attempt": 1, "claim": claim}]}], [0, 11, "template.validate", {"source": harness.template("x", [harness.step("a")]), "filename": "f", "strict": True}],
		[0, 12, "template.list", {"namespace": ns}], [0, 13, "template.get", {"namespace": ns, "name": "one", "version": "1.0.0"}], [0, 14, "worker.list", {}], [0, 15, "queue.list", {}], [0, 16, "server.info", {}],
		[0, 18, "event.subscribe", {"patterns": ["a.*", "*"], "namespaces": [ns, "*"]}], [0, 19, "event.unsubscribe", {"patterns": ["a.*"]}],
		[0, 20, "event.publish", {"name": "a.b", "namespace": ns, "payload": {"x": [1, None]}, "delivery_mode": "broadcast", "metadata": {"m": 1}, "fired_by": "f", "event_id": task}],
		[0, 21, "event.consume", {"namespace": ns, "max": 2, "visibility_ms": 1000, "wait_ms": 5, "patterns": ["a.*"]}], [0, 22, "event.ack", {"namespace": ns, "ids": [1, 2], "read_counts": [1, 1]}],
		[0, 23, "event.extend", {"namespace": ns, "ids": [1], "visibility_ms": 0}], [0, 24, "event.list", {}],
		[2, "step.result", {"results": [{"step_uuid": uuid, "attempt": 1, "claim": claim, "success": True, "result": {"a": 1}, "metadata": {"m": 1}, "execution_ms": 1.5,
		                                 "events": [{"name": "a.b", "payload": 1, "metadata": {}, "skip": False}]},
		                                {"step_uuid": uuid, "attempt": 1, "claim": claim, "success": False, "error": {"message": "m", "backtrace": ["a"]}, "retry_after_ms": 5}]}],
		[2, "step.heartbeat", {"step_uuid": uuid, "attempt": 1, "progress": {"p": 1}}], [2, "step.log", {"step_uuid": uuid, "level": "info", "message": "m", "fields": {"a": "b"}}], [2, "heartbeat", {}],
		[2, "worker.update", {"max_concurrency": 3, "draining": False}], [0, 17, "hello", {**HELLO, "worker": {"name": "n", "handlers": ["x"], "namespaces": ["*"], "max_concurrency": 2}, "resume": {"session": "a" * 32, "held": 1}}],
	]
	return [frame(m) for m in messages]


def mutate(r, data):
	"""Some of its bytes changed, removed or added; usually the length fits again."""
	data = bytearray(data)
	for _ in range(r.choice((1, 1, 2, 4))):
		at = r.randrange(4, len(data)) if len(data) > 4 else 0
		how = r.randrange(6)
		if how == 0:
			data[at] ^= 1 << r.randrange(8)
		elif how == 1:
			data[at] = r.choice((0x00, 0x7f, 0x80, 0x8f, 0x90, 0xa0, 0xc0, 0xc1, 0xc4, 0xc6, 0xcb, 0xcf, 0xd3, 0xd9, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xff))
		elif how == 2:
			del data[at:at + r.randrange(1, 9)]
		elif how == 3:
			data[at:at] = r.randbytes(r.randrange(1, 9))
		elif how == 4:
			data[at:at] = data[at:at + r.randrange(1, 40)]
		else:
			data[at:at + 8] = struct.pack(">Q", r.choice((0, 1, 2 ** 31, 2 ** 32 - 1, 2 ** 63, 2 ** 64 - 1)))
	if r.randrange(10):
		data[:4] = struct.pack(">I", max(len(data) - 4, 0))
	return bytes(data)


def fork(work):
	"""Run work() in a child that ends with it, in silence if the daemon ends it; its pid."""
	child = os.fork()
	if child == 0:
		code = 1
		try:
			work()
			code = 0
		except (Closed, ConnectionError):
			code = 0
		except BaseException as e:  # noqa: B902
			print("in the child: %r" % e, file=sys.stderr)
		finally:
			os._exit(code)
	return child


class Hostile(wire.Case):
	"""wire.Case with memory and descriptors looked at after each test."""

	growth = 64  # MiB a test may leave behind

	def setUp(self):
		super().setUp()
		self.template("one", [step("a", "h", attempts=1)])
		self.before = rss(self.node.pid), descriptors(self.node.pid)

	def tearDown(self):
		self.hang_up()
		self.healthy()
		self.settle()
		super().tearDown()

	def settle(self):
		"""Sessions are gone, and so is what they took."""
		harness.wait_for(lambda: descriptors(self.node.pid) <= self.before[1], lambda: "descriptors to be closed: %d, %d before" % (descriptors(self.node.pid), self.before[1]))
		if not wire.SANITIZED:
			harness.wait_for(lambda: rss(self.node.pid) < self.before[0] + self.growth, lambda: "memory to be given back: %d MiB, %d before" % (rss(self.node.pid), self.before[0]))

	def peak(self, work):
		"""The largest resident size, in MiB more than before, seen while work() runs in another process."""
		child, most = fork(work), 0
		while True:
			most = max(most, rss(self.node.pid))
			pid, status = os.waitpid(child, os.WNOHANG)
			if pid:
				self.assertEqual(status, 0, "the hostile child failed")
				return most - self.before[0]
			time.sleep(0.005)

	def assert_peak(self, most, limit):
		if not wire.SANITIZED:
			self.assertLess(most, limit, "MiB at the worst moment")

	def ends(self, w, code="protocol_error"):
		return w.protocol_error(code)

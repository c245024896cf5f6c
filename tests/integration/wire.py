"""A raw client of the protocol, written from PROTOCOL.md alone: it can say anything, true or false, and reads strictly.

	with wire.Wire(daemon.socket) as w:
		w.hello()
		w.call("task.get", {"task_uuid": uuid})         # the result, or Refused with the error map
		w.send([2, "heartbeat", {}], [0, 7, "ping", {}]) # any values, one frame each, one write
		w.send_payload(b"\\xc1")                         # any bytes as a payload
		w.send_bytes(b"\\xff\\xff\\xff\\xff")            # any bytes at all
	worker = wire.Worker(daemon.socket, ["t.ok"], concurrency=3)
	step = worker.take()
	worker.finish(step, {"n": 1})
	worker.acked(step)                                       # "recorded"

Everything that comes from the daemon is held to section 1 and 2 of the protocol: sizes, items, depth, unique string keys, envelopes, the names and the
types of the fields of every notification. A violation raises Breach. No read is without an end: PATIENCE seconds, then AssertionError.
"""
import collections
import math
import os
import random
import select
import signal
import socket
import struct
import time

import harness
from users import User  # noqa: F401: the users of wire.py may say who connects
from wire_codec import Breach, Pairs, Raw, count, frame, pack, unpack  # noqa: F401: what is said is made of these
from wire_tables import check_envelope, check_error, check_event, need  # noqa: F401: and held to these

PATIENCE = harness.PATIENCE
MAX_FRAME, MAX_ITEMS, MAX_DEPTH = 4 << 20, 262144, 30
EARLY_FRAME, EARLY_ITEMS = 65536, 4096


class Refused(Exception):
	"""A request was answered with an error."""

	def __init__(self, error):
		super().__init__("%s: %s" % (error.get("code"), error.get("message")))
		self.error = error
		self.code, self.message, self.path = error["code"], error["message"], error.get("path")


class Closed(Exception):
	"""The daemon closed the connection. `said` is what it had sent before and nobody had asked for."""

	def __init__(self, said=()):
		super().__init__("the daemon closed the connection; it said %.2000r" % (list(said)[-10:],))
		self.said = list(said)


class Wire:
	"""A connection. Notifications are kept in `notes` until they are asked for. `user` is who makes it, if not the user of the test."""

	def __init__(self, path, patience=None, user=None):
		self.patience = PATIENCE if patience is None else patience
		self.other = user.connect(path) if user else None
		self.sock = self.other.sock if user else socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
		if not user:
			self.sock.connect(path)
		self.sock.setblocking(False)
		self.buffer = bytearray()
		self.responses, self.notes = {}, collections.deque()
		self.frames, self.largest = 0, 0
		self.max_frame = MAX_FRAME
		self.next_id = 0
		self.asked = set()
		self.eof = False
		self.welcome = None

	def __enter__(self):
		return self

	def __exit__(self, *_):
		self.close()

	def close(self):
		self.sock.close()
		if self.other:
			self.other.end()

	# -- writing ---------------------------------------------------------------------------------

	def send_bytes(self, data, slowly=0):
		"""Any bytes; `slowly` at a time. What comes meanwhile is read. Closed if the daemon is not listening any more."""
		view = memoryview(bytes(data))
		end = time.monotonic() + self.patience
		while view:
			r, w, _ = select.select([] if self.eof else [self.sock], [self.sock], [], max(0, end - time.monotonic()))
			if not r and not w:
				raise AssertionError("the daemon takes nothing")
			if r:
				self._fill()
			if w:
				try:
					n = self.sock.send(view[:slowly or 1 << 20])
				except (BrokenPipeError, ConnectionResetError):
					raise Closed(self.notes) from None
				view = view[n:]

	def send_payload(self, payload, slowly=0):
		self.send_bytes(struct.pack(">I", len(payload)) + payload, slowly)

	def send(self, *values):
		self.send_bytes(b"".join(frame(v) for v in values))

	def notify(self, method, params=None):
		self.send([2, method, params if params is not None else {}])

	def ask(self, method, params=None, id=None):
		"""Send a request; its id."""
		if id is None:
			self.next_id += 1
			id = self.next_id
		self.asked.add(id)
		self.send([0, id, method, params if params is not None else {}])
		return id

	def call(self, method, params=None):
		return self.answer(self.ask(method, params))

	def refused(self, method, params=None):
		"""The error of a request that must be refused."""
		try:
			result = self.call(method, params)
		except Refused as e:
			return e
		raise AssertionError("%s %r was answered with %r" % (method, params, result))

	# -- reading ---------------------------------------------------------------------------------

	def _fill(self):
		try:
			data = self.sock.recv(1 << 20)
		except BlockingIOError:
			return
		except ConnectionResetError:
			data = b""
		if not data:
			self.eof = True
			return
		self.buffer += data
		at = 0
		while len(self.buffer) - at >= 4:
			(n,) = struct.unpack_from(">I", self.buffer, at)
			if not 1 <= n <= self.max_frame:
				raise Breach("a frame of %d bytes" % n)
			if len(self.buffer) - at - 4 < n:
				break
			self._take(bytes(self.buffer[at + 4:at + 4 + n]))
			at += 4 + n
		del self.buffer[:at]

	def _take(self, payload):
		self.frames += 1
		self.largest = max(self.largest, len(payload))
		m = unpack(payload)
		items, depth = count(m)
		if items > MAX_ITEMS or depth > MAX_DEPTH:
			raise Breach("a frame of %d items, depth %d" % (items, depth))
		check_envelope(m)
		if m[0] == 2:
			self.notes.append((m[1], m[2]))
			self.noted(m[1], m[2])
		elif m[1] not in self.asked:
			raise Breach("an answer nobody asked for, or a second one: %r" % (m,))
		else:
			self.asked.discard(m[1])
			self.responses[m[1]] = m

	def noted(self, method, params):
		"""For subclasses."""

	def poll(self, timeout=0):
		"""Read what is there, or becomes there in time."""
		if not self.eof and select.select([self.sock], [], [], timeout)[0]:
			self._fill()

	def until(self, condition, what):
		"""Read until condition() is true; its value."""
		end = time.monotonic() + self.patience
		while True:
			wait = self.beat()  # may read, so before the condition
			v = condition()
			if v:
				return v
			if self.eof:
				raise Closed(self.notes)
			if time.monotonic() > end:
				raise AssertionError("waited in vain for %s; there is %.2000r" % (what, list(self.notes)[-10:]))
			self.poll(max(0, min(end - time.monotonic(), wait)))

	def beat(self):
		"""Say what must be said from time to time; the seconds until the next time."""
		return self.patience

	def answer(self, id):
		"""The result of a request, or Refused."""
		self.until(lambda: id in self.responses, "the answer to request %d" % id)
		m = self.responses.pop(id)
		if m[2] is not None:
			raise Refused(m[2])
		return m[3]

	def note(self, method, condition=lambda params: True):
		"""The first notification of this kind not yet taken."""
		def found():
			for i, (name, params) in enumerate(self.notes):
				if name == method and condition(params):
					del self.notes[i]
					return (params,)
			return None
		return self.until(found, method)[0]

	def events(self, task, until):
		"""task.event of a task, all until one for which until(event) holds."""
		got = []
		while True:
			for event in self.note("task.event", lambda p: p["task_uuid"] == task)["events"]:
				got.append(event)
				if until(event):
					return got

	def closed(self):
		"""Wait for the daemon to close; what it had said and nobody had taken."""
		end = time.monotonic() + self.patience
		while not self.eof:
			if time.monotonic() > end:
				raise AssertionError("the daemon does not close")
			self.poll(max(0, end - time.monotonic()))
		return list(self.notes)

	def protocol_error(self, code="protocol_error"):
		"""The daemon must say one error notification of this code, and close. Its message."""
		said = self.closed()
		errors = [p for m, p in said if m == "error"]
		if len(errors) != 1 or errors[0]["code"] != code:
			raise AssertionError("not one %s: %r" % (code, said))
		return errors[0]["message"]

	def silent(self, barrier="ping"):
		"""A round trip; what came meanwhile and before."""
		self.call(barrier)
		notes = list(self.notes)
		return notes

	# -- the handshake ---------------------------------------------------------------------------

	def hello(self, **params):
		params.setdefault("protocol", [1, 0])
		params.setdefault("client", "wire/1")
		self.welcome = w = self.call("hello", params)
		need("welcome", w, {"protocol": list, "server": str, "node": str, "session": str, "resumed": bool, "worker_uuid": str, "heartbeat_ms": int,
		                    "limits": dict, "features": list})
		need("limits", w["limits"], {n: int for n in ("max_frame", "max_items", "max_depth", "max_bulk", "max_context", "max_result")})
		self.max_frame = w["limits"]["max_frame"]
		return w


def ok(step, result=None, **more):
	"""A result of success."""
	return {"step_uuid": step["step_uuid"], "attempt": step["attempt"], "claim": step["claim"], "success": True, "result": {} if result is None else result, **more}


def bad(step, message="it failed", retryable=True, error=None, **more):
	"""A result of failure."""
	return {"step_uuid": step["step_uuid"], "attempt": step["attempt"], "claim": step["claim"], "success": False,
	        "error": {"message": message, "retryable": retryable, **(error or {})}, **more}


def key(step):
	return step["step_uuid"], step["attempt"]


class Worker(Wire):
	"""A session that runs steps, by hand. `open` holds what it was given and has not answered: never more than it can take."""

	def __init__(self, path, handlers, concurrency=1, namespaces=None, name="wire", hello=True, user=None, **params):
		super().__init__(path, user=user)
		self.concurrency = concurrency
		self.open, self.given, self.acks, self.cancels = {}, [], {}, []
		self._taken = 0
		self.next_beat = None
		worker = {"name": name, "handlers": handlers, "max_concurrency": concurrency}
		if namespaces is not None:
			worker["namespaces"] = namespaces
		if hello:
			try:
				self.hello(worker=worker, **params)
			except BaseException:
				self.close()
				raise

	def beat(self):
		if not self.welcome:
			return self.patience
		pause = self.welcome["heartbeat_ms"] / 2000
		if self.next_beat is None:
			self.next_beat = time.monotonic() + pause
		elif time.monotonic() >= self.next_beat:
			self.next_beat = time.monotonic() + pause
			try:
				self.notify("heartbeat")
			except Closed:
				pass  # until() reads what it said before
		return max(0.001, self.next_beat - time.monotonic())

	def noted(self, method, params):
		if method == "step.execute":
			for step in params["steps"]:
				if key(step) in self.open:
					raise Breach("given twice: %r" % (key(step),))
				self.open[key(step)] = step
				self.given.append(step)
			if len(self.open) > self.concurrency:
				raise Breach("%d steps open of %d allowed" % (len(self.open), self.concurrency))
		elif method == "result.ack":
			for ack in params["acks"]:
				self.acks.setdefault((ack["step_uuid"], ack["attempt"]), []).append(ack)
		elif method == "step.cancel":
			self.cancels.append((params["step_uuid"], params["attempt"], params["reason"]))

	def take(self, n=None):
		"""The next step; or with `n` a list of the next n."""
		want = 1 if n is None else n
		self.until(lambda: len(self.given) >= self._taken + want, "%d more steps, after %d" % (want, self._taken))
		steps = self.given[self._taken:self._taken + want]
		self._taken += want
		return steps[0] if n is None else steps

	def untaken(self):
		return len(self.given) - self._taken

	def results(self, *results):
		for r in results:
			self.open.pop((r.get("step_uuid"), r.get("attempt")), None)
		self.notify("step.result", {"results": list(results)})

	def finish(self, step, result=None, **more):
		self.results(ok(step, result, **more))

	def fail(self, step, message="it failed", retryable=True, **more):
		self.results(bad(step, message, retryable, **more))

	def acked(self, step):
		"""The status of the one acknowledgement of a step's attempt."""
		return self.ack(step)["status"]

	def ack(self, step):
		return self.until(lambda: self.acks.get(key(step)), "the ack of %r" % (key(step),)).pop(0)

	def cancelled(self, step):
		"""The reason of the step.cancel for an attempt."""
		def find():
			return [c[2] for c in self.cancels if c[:2] == key(step)]
		return self.until(find, "the cancel of %r" % (key(step),))[0]

	def checkpoint(self, step, cursor, **more):
		"""The status of the answer."""
		if more.get("yield"):
			self.open.pop(key(step), None)
		return self.call("step.checkpoint", {"step_uuid": step["step_uuid"], "attempt": step["attempt"], "claim": step["claim"], "cursor": cursor, **more})["status"]

	def resume(self, *steps):
		answer = self.call("session.resume", {"steps": [{"step_uuid": s["step_uuid"], "attempt": s["attempt"], "claim": s["claim"]} for s in steps]})
		return [s["status"] for s in answer["steps"]]


# Test cases -----------------------------------------------------------------------------------------------------------------


def same(a, b):
	"""Equal in the JSON data model, booleans and numbers told apart."""
	if isinstance(a, bool) or isinstance(b, bool) or a is None or b is None:
		return a is b
	if isinstance(a, dict) and isinstance(b, dict):
		return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
	if isinstance(a, list) and isinstance(b, list):
		return len(a) == len(b) and all(map(same, a, b))
	if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
		return math.isnan(b)
	return type(a) in (int, float) and type(b) in (int, float) and a == b or type(a) is type(b) and a == b


# The allocators of sanitizers keep what is freed: with them, memory tells nothing.
SANITIZED = "TASKERD_TEST_PATIENCE" in os.environ


def rss(pid):
	"""Resident MiB of a process."""
	with open("/proc/%d/status" % pid, encoding="ascii", errors="replace") as f:
		return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:")) / 1024


def largest(pid):
	"""The most MiB that a process has had resident."""
	with open("/proc/%d/status" % pid, encoding="ascii", errors="replace") as f:
		return next(int(line.split()[1]) for line in f if line.startswith("VmHWM:")) / 1024


def descriptors(pid):
	return len(os.listdir("/proc/%d/fd" % pid))


def ready(node):
	"""Wait until workers are taken on (which is a moment after the database is up)."""
	def try_():
		try:
			Worker(node.socket, ["ready"], namespaces=["ready"]).close()
			return True
		except Refused:
			return False
	harness.wait_for(try_, "the daemon to take on workers")


class Case(harness.Case):
	"""Tests that share a daemon of their class, told apart by the handlers they use: each has a namespace of its own. After each the daemon still serves a
	normal client, its books balance and nothing of the test's is left open."""

	options = {}
	seed = int(os.environ.get("TASKERD_SEED", "1"))

	@classmethod
	def setUpClass(cls):
		super().setUpClass()
		cls.shared = harness.Stage()
		cls.shared.begin(cls.__name__)
		cls.addClassCleanup(cls.shared.end)
		try:
			cls.shared.db = cls.shared.database()
			cls.shared.node = cls.shared.daemon(cls.shared.db, **cls.options)
			ready(cls.shared.node)
		except BaseException:
			harness._show(cls.shared)
			raise
		cls.number = 0

	@classmethod
	def tearDownClass(cls):
		"""A clean end: sanitizers tell of leaks only there."""
		try:
			if cls.shared.node.process.alive():
				cls.shared.node.process.signal(signal.SIGTERM)
				status = cls.shared.node.process.wait()
				if status != 0:
					raise AssertionError("the daemon ended with %s:\n%s" % (status, cls.shared.node.process.last_words()))
		finally:
			super().tearDownClass()

	def setUp(self):
		super().setUp()
		self.node, self.db = self.shared.node, self.shared.db
		type(self).number += 1
		self.ns = "n%d" % self.number
		self.random = random.Random("%d %s" % (self.seed, self.id()))
		self.wires = []
		self.addCleanup(self.hang_up)

	def hang_up(self):
		for w in self.wires:
			w.close()

	def wire(self, hello=True, node=None, **params):
		w = Wire((node or self.node).socket)
		self.wires.append(w)
		if hello:
			w.hello(**params)
		return w

	def worker(self, handlers=("h",), concurrency=1, node=None, **more):
		more.setdefault("namespaces", [self.ns])
		w = Worker((node or self.node).socket, list(handlers), concurrency, **more)
		self.wires.append(w)
		return w

	@property
	def client(self):
		"""A plain session of this test."""
		if not hasattr(self, "_client"):
			self._client = self.wire()
		return self._client

	def template(self, name, steps, client=None, **fields):
		"""Register a template in the test's namespace; steps are those of harness.step(), handlers "h" by default."""
		return (client or self.client).call("template.apply", {"source": harness.template(name, steps, namespace=self.ns, **fields)})

	def create(self, name, client=None, **params):
		return (client or self.client).call("task.create", {"name": name, "namespace": self.ns, **params})["task_uuid"]

	def settled(self, task, client=None):
		"""The state in which a task settles."""
		answer = (client or self.client).call("task.wait", {"task_uuid": task})
		self.assertIs(answer["settled"], True)
		return answer["state"]

	def get(self, task, client=None):
		return (client or self.client).call("task.get", {"task_uuid": task})

	def attempts(self, task):
		return [(a["step"], a["attempt"], a["outcome"]) for a in self.client.call("task.history", {"task_uuid": task})["attempts"]]

	def assertSame(self, a, b):
		self.assertTrue(same(a, b), "%.2000r is not %.2000r" % (a, b))

	def healthy(self, node=None):
		"""A normal client and a normal worker are served, the books balance, and the log tells of no crash."""
		node = node or self.node
		self.assertTrue(node.process.alive(), "the daemon has ended")
		ns = "healthy"
		with Wire(node.socket) as c:
			c.hello()
			c.call("template.apply", {"source": harness.template("healthy", [harness.step("only", "healthy.h")], namespace=ns)})
			with Worker(node.socket, ["healthy.h"], namespaces=[ns]) as w:
				task = c.call("task.create", {"name": "healthy", "namespace": ns})["task_uuid"]
				step = w.take()
				self.assertEqual(step["task_uuid"], task)
				w.finish(step, {"well": True})
				self.assertEqual(w.acked(step), "recorded")
				self.assertEqual(c.call("task.wait", {"task_uuid": task})["state"], "complete")
				w.notify("goodbye")
			doctor = c.call("doctor")
			self.assertTrue(doctor["ok"], [k for k in doctor["checks"] if not k["ok"]])
		log = node.log_text()
		for word in ("AddressSanitizer", "runtime error", "ThreadSanitizer", "LeakSanitizer", "assert", "Segmentation", "stack smashing"):
			self.assertNotIn(word, log)

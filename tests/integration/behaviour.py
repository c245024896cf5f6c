"""What a worker does, whatever language it is written in: the tests of the native libraries share these. A worker program offers the handlers named
b.*, each of which does one thing that handlers do; clients/c/tests/behaviour.c is the first of them."""
import json
import os
import socket
import struct
import subprocess

import harness
import msgpack
from harness import step, template, wait_for

PATIENT = {"attempts": 2, "base_ms": 1}


def typed(kind, *args, **more):
	return {**step(*args, **more), "type": kind}


def event(name, **more):
	return {"name": name, "condition": "success", "delivery_mode": "durable", "schema": True, **more}


class Base(harness.Case):
	"""One daemon for the class; a worker of the language beside it."""

	@classmethod
	def setUpClass(cls):
		super().setUpClass()
		cls.shared = harness.Stage()
		cls.shared.begin(cls.__name__)
		cls.addClassCleanup(cls.shared.end)
		cls.shared.db = cls.shared.database()
		cls.shared.node = cls.shared.daemon(cls.shared.db)

	def begin(self, name):
		super().begin(name)
		self.node, self.db = self.shared.node, self.shared.db

	# -- of the language --

	def argv(self):
		"""The worker program and what all its runs get."""
		raise NotImplementedError

	def start(self, *options, name="worker", node=None, env=None, wait=True):
		node = node or self.node
		argv = [*self.argv(), "--socket", node.socket, "--name", name, *options]
		worker = self.track(harness.Worker(name, argv, os.path.join(self.place, name + ".log"), env))
		if wait:
			worker.wait_listed(node)
		return worker

	def run_one(self, steps, context=None, name=None):
		name = name or self._name
		self.apply(self.node, template(name, steps))
		return self.finished(self.node, self.create(self.node, name, context))

	def daemon_says(self, *texts):
		wait_for(lambda: all(t in self.node.log_text() for t in texts), lambda: "the daemon's log to have %s" % (texts,))


class Behaviour(Base):
	"""The handlers, one by one. `self.mode`: options of the worker."""

	mode = ()

	def begin(self, name):
		super().begin(name)
		self.worker = self.start(*self.mode)

	def test_what_a_handler_sees(self):
		task = self.run_one([step("first", "b.echo", level=3), step("second", "b.echo", after=["first"], attempts=1)], {"a": [1, 2.5, None, "é"]})
		first, second = (task.step(n).results for n in ("first", "second"))
		self.assertEqual(first, {"context": {"a": [1, 2.5, None, "é"]}, "config": {"level": 3}, "dependencies": {}, "attempt": 1, "last": False, "name": "first"})
		self.assertEqual((second["dependencies"], second["last"]), ({"first": first}, True))

	def test_a_permanent_error(self):
		task = self.run_one([step("s", "b.refuse")])
		failed = task.step("s")
		self.assertEqual((task.status, failed.attempts), ("blocked_by_failures", 1))
		self.assertEqual({k: failed.error.get(k) for k in ("message", "error_type", "error_code", "retryable", "status_code", "context")}, {
			"message": "no money", "error_type": "PaymentError", "error_code": "E1", "retryable": False, "status_code": 402, "context": {"a": [1]}})
		self.assertTrue(failed.error["backtrace"])

	def test_a_retryable_error_names_its_delay(self):
		"""The template's backoff is an hour; the handler's wish goes before it."""
		task = self.run_one([step("s", "b.retry", backoff="linear", base_ms=harness.HOUR_MS, max_ms=harness.HOUR_MS, after_ms=1)])
		self.assertEqual((task.status, task.step("s").results), ("complete", {"attempt": 2}))

	def test_decisions(self):
		steps = [step("first", "b.echo"), typed("decision", "route", "b.route", after=["first"]), step("left", "b.echo", after=["route"]), step("right", "b.echo", after=["route"]),
		         typed("deferred_convergence", "end", "b.echo", after=["left", "right"])]
		one = self.run_one(steps, {"branches": ["right"]})
		self.assertEqual((one.status, {s.name for s in one.steps}), ("complete", {"first", "route", "right", "end"}))
		self.assertEqual(one.step("route").results["why"], "asked")
		none = self.finished(self.node, self.create(self.node, self._name, {"branches": []}))
		self.assertEqual((none.status, none.step("route").results["reason"]), ("complete", "nothing to do"))
		bad = self.finished(self.node, self.create(self.node, self._name, {"branches": ["up"]}))
		self.assertEqual((bad.status, bad.step("route").error["error_type"]), ("blocked_by_failures", "InvalidDecisionOutcome"))

	def test_batches_that_give_back_at_checkpoints(self):
		steps = [step("first", "b.echo"), typed("batchable", "analyze", "b.analyze", after=["first"]), typed("batch_worker", "work", "b.work", after=["analyze"]),
		         typed("deferred_convergence", "sum", "b.sum", after=["work"])]
		task = self.run_one(steps, {"rows": 25})
		self.assertEqual((task.status, task.step("sum").results), ("complete", {"total": 25, "workers": 3}))
		self.assertEqual({s.name: s.attempts for s in task.steps if s.name.startswith("work")}, {"work_001": 1, "work_002": 1, "work_003": 1})
		yields = self.node.client.request("task.get", {"task_uuid": task.task_uuid})["steps"]
		self.assertEqual({s["name"]: s["checkpoint"]["yields"] for s in yields if s.get("checkpoint")}, {"work_001": 2, "work_002": 2, "work_003": 1})
		empty = self.finished(self.node, self.create(self.node, self._name, {"rows": 0}))
		self.assertEqual((empty.status, empty.step("sum").results["total"]), ("complete", 0))

	def test_a_checkpoint_survives_a_failure(self):
		task = self.run_one([step("s", "b.save", **PATIENT)])
		self.assertEqual((task.status, task.step("s").results), ("complete", {"cursor": {"at": 7}, "items": 7, "sums": {"sum": 21}}))

	def test_events(self):
		declared = [event("made", publisher="anyone"), event("left_out"), event("untouched")]
		task = self.run_one([{**step("s", "b.event"), "publishes_events": declared}])
		self.assertEqual(task.status, "complete")
		got = {m["event"]["event_name"]: m["event"] for m in self.node.client.consume_events("t", limit=10, wait=harness.PATIENCE)}
		self.assertEqual(sorted(got), ["made", "untouched"])
		self.assertEqual((got["made"]["payload"]["payload"], got["untouched"]["payload"]["payload"]), ({"custom": 1}, {"n": 7}))
		self.assertEqual(got["made"]["metadata"]["by"], "handler")

	def test_telling(self):
		task = self.run_one([step("s", "b.tell")])
		self.assertEqual(task.status, "complete")
		self.daemon_says("2 lines", str(task.step("s").step_uuid))

	def test_results_that_cannot_be_sent(self):
		steps = [step("huge", "b.huge", size=8 << 20), step("large", "b.huge", size=1 << 20), step("nan", "b.nan"), step("garbage", "b.garbage")]
		task = self.run_one(steps)
		self.assertEqual(task.status, "blocked_by_failures")
		self.assertEqual({s.name: s.error and s.error["error_type"] for s in task.steps}["nan"], "serialization_error")
		self.assertEqual({s.name: (s.state, s.attempts) for s in task.steps}, {
			"huge": ("error", 1), "large": ("error", 1), "nan": ("error", 1), "garbage": ("complete", 1)})
		self.assertIn(task.step("huge").error["error_type"], ("result_too_large", "too_large"))

	def test_ends_clean(self):
		self.run_one([step("s%d" % i, "b.echo") for i in range(30)])
		self.assertEqual(self.worker.stop(), 0, self.worker.last_words())


class Threads(Base):
	"""What only a worker with threads can do."""

	def test_a_cancelled_handler_is_told(self):
		self.start("--threads", "2")
		self.apply(self.node, template("cancelled", [step("s", "b.wait")]))
		task = self.create(self.node, "cancelled")
		self.daemon_says("waiting to be cancelled")
		self.node.client.cancel_task(task)
		self.daemon_says("was cancelled")

		def told():
			"""A handler that had not begun when its second was over was not told."""
			self.assertEqual(self.run_one([step("s", "b.wait", timeout=1, attempts=1)]).step("s").error["error_type"], "timeout")
			return self.node.log_text().count("waiting to be cancelled") >= 2
		wait_for(told, "a handler to begin within its second")
		wait_for(lambda: self.node.log_text().count("was cancelled") >= 2, "both handlers to be told")

	def test_one_that_hangs_costs_its_own_attempt_only(self):
		worker = self.start("--threads", "1", env={"BEHAVIOUR_ABANDON_MS": "50"})
		task = self.run_one([step("hangs", "b.hang", timeout=1, attempts=1), step("runs", "b.echo")])
		self.assertEqual({s.name: s.state for s in task.steps}, {"hangs": "error", "runs": "complete"})
		wait_for(lambda: worker.row(self.node)["open"] == 0, "its place to be free")
		self.assertEqual(worker.stop(), 0, worker.last_words())

	def test_many_at_once(self):
		worker = self.start("--threads", "4", "--max-concurrency", "64")
		self.apply(self.node, template(self._name, [step("a", "b.echo"), step("b", "b.save", after=["a"], **PATIENT)]))
		for task in self.create_many(self.node, self._name, 200):
			self.assertEqual(self.finished(self.node, task).status, "complete")
		self.assertEqual(worker.stop(), 0, worker.last_words())


class Connection(Base):
	"""Daemons that come, go and lie."""

	def begin(self, name):
		harness.Case.begin(self, name)

	def test_waits_for_the_daemon(self):
		self.node = self.daemon(self.database(), start=False)
		worker = self.start(wait=False)
		wait_for(lambda: "no socket at" in worker.log_text() or self.node.socket in worker.log_text(), "the worker to say that it waits")
		self.node.start()
		worker.wait_listed(self.node)
		self.assertEqual(self.run_one([step("s", "b.echo")]).status, "complete")

	def test_results_survive_a_daemon(self):
		"""It is killed over and over while steps run; each is recorded once."""
		self.node = self.daemon(self.database())
		self.start("--max-concurrency", "20")
		self.apply(self.node, template(self._name, [step("a", "b.echo"), step("b", "b.echo", after=["a"])]))
		tasks = self.create_many(self.node, self._name, 300)
		for _ in range(3):
			self.node.kill()
			self.node.start()
		for task in tasks:
			done = self.finished(self.node, task)
			self.assertEqual((done.status, {s.state for s in done.steps}), ("complete", {"complete"}))

	def test_no_permission(self):
		"""Run as nobody, for a socket of root's."""
		if os.getuid() != 0:
			self.skipTest("only root can become somebody else")
		self.node = self.daemon(self.database())
		os.chmod(self.node.socket, 0o600)
		argv = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *self.argv(), "--socket", self.node.socket]
		worker = self.track(harness.Worker("w", argv, os.path.join(self.place, "w.log")))
		wait_for(lambda: "is for user root and group root" in worker.log_text(), lambda: "the worker to say whose socket it is:\n" + worker.last_words())
		self.assertTrue(worker.alive(), worker.last_words())


class Replay(Base):
	def replay(self, uuid):
		done = subprocess.run([*self.argv(), "--socket", self.node.socket, "--replay", uuid], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=harness.PATIENCE)
		return done.returncode, done.stdout, done.stderr

	def test_replay(self):
		worker = self.start()
		task = self.run_one([step("a", "b.echo", level=3), step("b", "b.save", after=["a"], **PATIENT), step("c", "b.echo", after=["b"]), step("d", "b.refuse", after=["a"])], {"x": 1})
		self.assertEqual(worker.stop(), 0)
		for name in ("a", "b", "c"):
			status, out, err = self.replay(str(task.step(name).step_uuid))
			self.assertEqual(status, 0, err)
			shown = json.loads(out)
			self.assertEqual((shown["step"], shown["recorded"]["state"]), (name, "complete"))
			self.assertEqual(shown["recorded"]["result"], task.step(name).results)
			if name != "c":
				self.assertEqual((shown["replayed"]["success"], shown["same"]), (True, True), out)
		shown = json.loads(self.replay(str(task.step("d").step_uuid))[1])
		self.assertEqual((shown["replayed"]["success"], shown["replayed"]["error"]["message"], shown["same"]), (False, "no money", False))
		after = self.finished(self.node, task.task_uuid)
		self.assertEqual([s.attempts for s in after.steps], [s.attempts for s in task.steps], "nothing was recorded")
		for unknown in ("00000000-0000-7000-8000-000000000001", "nonsense"):
			status, out, err = self.replay(unknown)
			self.assertEqual((status, out), (1, ""))
			self.assertIn("cannot replay: ", err)


WELCOME = {"protocol": [1, 0], "server": "taskerd/9.9.9", "node": "n", "session": "s-1", "resumed": False, "worker_uuid": "w-1", "heartbeat_ms": 60000, "features": [],
           "limits": {"max_frame": 65536, "max_items": 4096, "max_depth": 30, "max_bulk": 100, "max_context": 10000, "max_result": 10000}}
STEP = {"step_uuid": "00000000-0000-7000-8000-000000000001", "task_uuid": "00000000-0000-7000-8000-000000000000", "attempt": 1, "max_attempts": 3, "claim": b"0" * 16,
        "namespace": "t", "template": "t", "version": "1.0.0", "step": "s", "handler": {"callable": "b.echo"}, "context": {}}
# What is well-formed and makes no sense. A worker may take it or leave the connection; it goes on either way.
NONSENSE = [
	["step.execute", {}], ["step.execute", {"steps": None}], ["step.execute", {"steps": 7}], ["step.execute", {"steps": [7, None, "x", [], {}]}],
	["step.execute", {"steps": [{**STEP, "handler": None}]}], ["step.execute", {"steps": [{**STEP, "handler": {"callable": 7}}]}],
	["step.execute", {"steps": [{**STEP, "attempt": "one", "claim": "text", "context": [1]}]}], ["step.execute", {"steps": [{**STEP, "step_uuid": "x" * 5000}]}],
	["result.ack", {}], ["result.ack", {"acks": [7, {}, {"step_uuid": 7, "attempt": None}]}], ["step.cancel", {}], ["step.cancel", {"step_uuid": [], "attempt": {}, "reason": 7}],
	["server.draining", {"deadline_ms": "soon"}], ["event.message", {"events": 7, "lost": -1}], ["error", {}], ["error", {"code": 7, "message": []}], ["no.such.message", {}],
]
WELCOMES = [{}, {**WELCOME, "limits": None}, {**WELCOME, "limits": {"max_frame": -1, "max_items": "x"}}, {**WELCOME, "heartbeat_ms": 0}, {**WELCOME, "session": 7, "node": None}]


class FakeDaemon:
	"""Accepts one connection after the other and reads and writes frames."""

	def __init__(self, path):
		self._listener = socket.socket(socket.AF_UNIX)
		self._listener.bind(path)
		self._listener.listen(8)
		self._listener.settimeout(harness.PATIENCE)
		self.peer = None

	def accept(self):
		if self.peer:
			self.peer.close()
		self.peer, _ = self._listener.accept()
		self.peer.settimeout(harness.PATIENCE)

	def send(self, message):
		payload = msgpack.packb(message)
		self.send_bytes(struct.pack(">I", len(payload)) + payload)

	def send_bytes(self, data):
		try:
			self.peer.sendall(data)
		except OSError:
			pass  # it has gone already

	def read(self):
		head = self._exactly(4)
		return msgpack.unpackb(self._exactly(struct.unpack(">I", head)[0]), strict_map_key=False)

	def _exactly(self, n):
		data = b""
		while len(data) < n:
			more = self.peer.recv(n - len(data))
			if not more:
				raise EOFError
			data += more
		return data

	def greet(self, welcome=None):
		"""Accept, and answer hello, and session.resume if there is something to resume."""
		self.accept()
		kind, ident, method, params = self.read()
		assert (kind, method) == (0, "hello"), method
		self.send([1, ident, None, WELCOME if welcome is None else welcome])
		return params

	def run_step(self, step):
		"""Have a step run; its result. What else comes is answered."""
		self.send([2, "step.execute", {"steps": [step]}])
		while True:
			message = self.read()
			if message[0] == 0:
				self.send([1, message[1], None, {"steps": []}])
			elif message[1] == "step.result":
				for r in message[2]["results"]:
					self.send([2, "result.ack", {"acks": [{"step_uuid": r["step_uuid"], "attempt": r["attempt"], "status": "recorded"}]}])
					if r["step_uuid"] == step["step_uuid"]:
						return r

	def close(self):
		if self.peer:
			self.peer.close()
		self._listener.close()


class Hostile(Base):
	"""A daemon that lies: the worker never crashes nor hangs, and serves the next one."""

	setUpClass = harness.Case.setUpClass

	def begin(self, name):
		harness.Case.begin(self, name)
		path = os.path.join(self.place, "d.sock")
		self.fake = FakeDaemon(path)
		self.at_end(self.fake.close)
		self.worker = self.track(harness.Worker("w", [*self.argv(), "--socket", path], os.path.join(self.place, "w.log")))

	def still_serves(self, number):
		self.fake.greet()
		result = self.fake.run_step({**STEP, "step_uuid": "00000000-0000-7000-8000-%012d" % number})
		self.assertTrue(result["success"], result)
		self.assertTrue(self.worker.alive(), self.worker.last_words())

	def test_broken_frames(self):
		with open(os.path.join(harness.ROOT, "protocol", "vectors", "hostile.json"), encoding="utf-8") as f:
			vectors = json.load(f)
		for i, v in enumerate(vectors):
			data = bytes.fromhex(v["hex"])
			self.still_serves(1000 + i)  # which also makes the next connection come at once
			self.fake.send_bytes(data if v["refused_by"] == "frame" else struct.pack(">I", len(data)) + data)
		self.still_serves(len(vectors))

	def test_nonsense(self):
		for i, message in enumerate(NONSENSE):
			self.still_serves(2000 + i)
			self.fake.send([2, *message])
			self.fake.send([1, 4294967295, None, {}])
		self.still_serves(77)

	def test_odd_welcomes(self):
		for welcome in WELCOMES:
			self.fake.greet(welcome)
			self.fake.send([2, "step.execute", {"steps": [STEP]}])
		self.still_serves(78)

	def test_another_version_is_final(self):
		self.fake.accept()
		ident = self.fake.read()[1]
		self.fake.send([1, ident, {"code": "unsupported_version", "message": "no", "details": {}}, None])
		self.assertNotEqual(self.worker.wait(), 0)
		self.assertIn("unsupported_version", self.worker.log_text())

"""A local process that means harm, or is broken: what it says must cost it its connection or an error, and others nothing. After each test the daemon still serves a
normal client, its books balance, its memory and descriptors are what they were, and its log tells of no crash (wire.Case.healthy).

Seeded: TASKERD_SEED; TASKERD_LONG: 1 runs it at all, more makes the random parts that many times longer."""
import json
import os
import socket
import struct
import time
import unittest

import harness
import hostile
import wire
from harness import step
from hostile import HELLO, NOBODY, Hostile
from wire import Closed, Raw, Refused, bad, frame, key, ok

if not os.environ.get("TASKERD_LONG"):
	raise unittest.SkipTest("takes minutes and a machine of its own: TASKERD_LONG=1 runs it")

LONG = int(os.environ["TASKERD_LONG"])
METACHARACTERS = ["'", "''", "\"", ";", "--", "/*", "\\", "$1", "%s", "%n%n%n", "{}", "E'\\x'", "'; DROP TABLE tasker.tasks; --", "' OR '1'='1", "x' UNION SELECT 1,2 --", "$$", "$x$", "\\'; SELECT pg_sleep(100); --",
                  "../../etc/passwd", "$(reboot)", "`reboot`", "\r\n", "\t", "\x01\x1b]0;x\x07", "\u202e", "NULL", "null", "\ufeff", "a,b", "{a,b}", "(1,2)", "*", "_", "1e999", "é" * 20]


class Bytes(Hostile):
	"""Below the messages: frames and MessagePack."""

	def test_golden_refusals(self):
		with open(os.path.join(harness.ROOT, "protocol", "vectors", "hostile.json"), encoding="utf-8") as f:
			vectors = json.load(f)
		for v in vectors:
			data, limits = bytes.fromhex(v["hex"]), v.get("limits") or {}
			if "max_items" in limits or not data:
				continue  # limits of their own
			for early in (True, False):
				if v["refused_by"] == "frame" and early == ("max_payload" in limits):
					continue
				with self.subTest(v["name"], early=early):
					w = self.wire(hello=not early)
					try:
						if v["refused_by"] == "frame":
							w.send_bytes(data)
						else:
							w.send_payload(data)
					except Closed:
						pass
					if "of a response" in v["name"] and not early:
						pass
					message = self.ends(w)
					if v["refused_by"] == "scan":
						self.assertIn(v["why"], message)
						self.assertIn(str(v["offset"]), message)
					w.close()

	def test_headers_that_announce_the_world(self):
		"""Five bytes that promise gigabytes; the memory for it must not be asked for."""
		huge = [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x01", b"\xdd\x7f\xff\xff\xff" * 30, b"\x93\x02\xa1x\xdf\xff\xff\xff\xff" + b"\xc0" * 60000]

		def work():
			for early in True, False:
				for h in huge:
					w = wire.Wire(self.node.socket)
					if not early:
						w.hello()
					w.send_payload(h)
					w.protocol_error()
					w.close()
		self.assert_peak(self.peak(work), 64)

	def test_frames_that_never_end(self):
		"""The size of 4 MiB announced and then little by little: memory for what has come, not for what was promised."""
		def work():
			for _ in range(100):
				w = self.wire()
				w.send_bytes(struct.pack(">I", 4 << 20) + b"\xdb" + struct.pack(">I", (4 << 20) - 5) + b"x" * 60000)
			with wire.Wire(self.node.socket) as c:
				c.hello()
				c.call("server.info")
		self.assert_peak(self.peak(work), 100 * 0.3 + 32)

	def test_half_a_frame_and_gone(self):
		whole = frame([0, 1, "hello", HELLO]) + frame([0, 2, "ping", {}])
		for cut in range(len(whole)):
			w = wire.Wire(self.node.socket)
			w.send_bytes(whole[:cut])
			w.close()
		for cut in range(1, len(whole), 5):
			w = wire.Wire(self.node.socket)
			w.send_bytes(whole[:cut])
			w.sock.shutdown(socket.SHUT_WR)
			w.asked.update((1, 2))
			w.closed()
			w.close()

	def test_one_byte_at_a_time(self):
		w = self.wire(hello=False)
		w.asked.update(range(100))
		w.send_bytes(frame([0, 1, "hello", HELLO]) + b"".join(frame([0, i, "task.list", {"namespace": self.ns}]) for i in range(2, 20)), slowly=1)
		for i in range(1, 20):
			w.answer(i)
		w.send_bytes(frame([0, 50, "ping", {"x": [0] * 20}])[:-1], slowly=1)
		w.send_bytes(b"\xc1")
		self.ends(w)

	def test_random_bytes(self):
		for i in range(1500 * LONG):
			n = self.random.choice((1, 4, 5, 20, 300, 5000))
			data = self.random.randbytes(n)
			if i % 3:
				data = struct.pack(">I", n) + data  # past the frame
			if i % 3 == 2:
				data = frame([0, 1, "hello", HELLO]) + data
			w = wire.Wire(self.node.socket)
			w.asked.add(1)
			try:
				w.send_bytes(data)
				w.sock.shutdown(socket.SHUT_WR)
				w.closed()
			except Closed:
				pass
			w.close()

	def sample(self):
		"""Frames that mean something, some with real ids in them."""
		task = self.create("one", context={"a": [1, 2.5, None, True, "é", {"b": {}}]})
		return hostile.frames(self.random, self.ns, task, self.get(task)["steps"][0]["step_uuid"])

	def test_mutations_of_good_frames(self):
		frames = self.sample()
		hello = frame([0, 1000, "hello", HELLO])
		working = frame([0, 1000, "hello", {**HELLO, "worker": {"handlers": ["nothing"], "max_concurrency": 1}}])
		for i in range(1200 * LONG):
			w = wire.Wire(self.node.socket)
			w.asked = Anything()
			try:
				w.send_bytes(self.random.choice((hello, working)))
				for _ in range(self.random.choice((1, 1, 5))):
					w.send_bytes(hostile.mutate(self.random, self.random.choice(frames)))
				w.sock.shutdown(socket.SHUT_WR)
				w.closed()
			except Closed:
				pass
			w.close()


class Anything(set):
	"""Every id was asked for: what a mutation asks for, nobody knows."""

	def __contains__(self, _):
		return True

	def discard(self, _):
		pass


class Messages(Hostile):
	"""Well-formed frames that say impossible things."""

	def test_contexts_that_are_not_maps(self):
		for value in [], [1], "{}", 7, 1.5, True, b"{}":
			self.assertEqual(self.client.refused("task.create", {"name": "one", "namespace": self.ns, "context": value}).code, "bad_request")

	def test_deep_and_wide(self):
		"""As deep as a frame may be; what cannot be stored that deep is refused, not cut."""
		deep = None
		for i in range(27):
			deep = {"d": deep} if i % 2 else [deep]
		with self.assertRaises(Refused) as refused:
			self.client.call("task.create", {"name": "one", "namespace": self.ns, "context": {"x": deep}})
		self.assertEqual(refused.exception.code, "invalid_value")
		self.create("one", context={str(i): [] for i in range(50000)})
		w = self.worker()
		s = w.take()
		w.finish(s, {"x": deep["d"] if isinstance(deep, dict) else deep[0]["d"]})
		self.assertEqual(w.acked(s), "rejected")

	def test_metacharacters_everywhere(self):
		"""Text is data, in SQL, in JSON, in the log, in paths."""
		for text in METACHARACTERS:
			with self.subTest(text=text):
				c = self.client
				short = text.encode()[:29].decode("utf-8", "ignore")
				said = {"initiator": text[:60], "source_system": text[:60], "reason": text[:60], "tags": [text, text + "2"], "correlation_id": text, "parent_correlation_id": text, "traceparent": text, "idempotency_key": text + self.ns,
				        "context": {text: text, "list": [text]}}
				task = self.create("one", **said)
				got = self.get(task)
				for name in "initiator", "source_system", "reason", "tags", "correlation_id", "parent_correlation_id", "context":
					self.assertSame(got[name], said[name])
				self.assertEqual(c.call("task.create", {"name": "one", "namespace": self.ns, **said})["created"], False)
				self.assertEqual(c.refused("task.create", {"name": text, "namespace": self.ns}).code, "template_not_found")
				self.assertEqual(c.refused("task.create", {"name": "one", "namespace": short}).code, "template_not_found")
				self.assertEqual(c.refused("task.create", {"name": "one", "namespace": self.ns, "version": text[:60]}).code, "template_not_found")
				for method, params in ("task.list", {"state": text[:40]}), ("task.list", {"cursor": text[:16]}), ("step.dependencies", {"step_uuid": got["steps"][0]["step_uuid"], "cursor": text[:16]}):
					self.assertEqual(c.refused(method, params).code, "bad_request")
				self.assertEqual(c.call("task.list", {"namespace": short, "name": text})["tasks"], [])
				self.assertEqual(c.call("template.list", {"namespace": short})["templates"], [])
				self.assertEqual(c.refused("template.get", {"name": text, "namespace": short, "version": text[:60]}).code, "not_found")
				c.call("step.dependencies", {"step_uuid": got["steps"][0]["step_uuid"], "names": [text] * 3})
				self.assertIs(c.call("template.validate", {"source": text, "filename": text})["ok"], False)
				c.refused("template.apply", {"source": json.dumps({"name": text, "namespace_name": text, "version": text, "steps": [{"name": text, "handler": {"callable": text}}]}), "filename": text})
				w = self.worker([text, "h"], name=text, client=text[:60], language=text[:30], namespaces=[short if short != "*" else "?", self.ns])
				s = w.take()
				w.notify("step.log", {"level": "info", "message": text, "step_uuid": s["step_uuid"], "fields": {text: text}})
				w.notify("step.log", {"level": text[:8] or "x", "message": text})
				w.notify("step.heartbeat", {"step_uuid": s["step_uuid"], "attempt": 1, "progress": text})
				w.fail(s, text, error={"error_type": text, "error_code": text, "backtrace": [text], "context": {text: text}}, metadata={text: text})
				self.assertEqual(w.acked(s), "recorded")
				self.assertEqual(self.get(task)["steps"][0]["error"]["message"], text)
				self.assertIn(text, [r["name"] for r in c.call("worker.list")["workers"]] + [""] if text.strip() else [text])
				c.call("task.cancel", {"task_uuid": task, "reason": text})
				self.assertEqual(c.call("task.history", {"task_uuid": task})["transitions"][-1]["cause"]["reason"], text)
				w.close()

	def test_handlers_with_odd_names(self):
		"""Queue names are made of them."""
		names = [t for t in METACHARACTERS if t.strip() and not any(ord(c) < 32 for c in t)] + ["x" * 200, "X", "x", "é", "e\u0301", "."]
		made = 0
		for i, name in enumerate(names):
			try:
				self.template("odd%d" % i, [step("a", name)])
			except Refused as e:
				self.assertEqual(e.code, "invalid_template")
				continue
			made += 1
			task = self.create("odd%d" % i)
			w = self.worker([name])
			s = w.take()
			self.assertEqual((s["handler"]["callable"], s["task_uuid"]), (name, task))
			w.finish(s)
			self.assertEqual(self.settled(task), "complete")
			w.close()
		self.assertGreater(made, 5)

	def test_idempotency_keys(self):
		for k in "k" * 256, "é" * 128, "\x01" * 256, "😀" * 64, " ", "'" * 256, "\x1f" + self.ns:
			first = self.client.call("task.create", {"name": "one", "namespace": self.ns, "idempotency_key": k})
			again = self.client.call("task.create", {"name": "one", "namespace": self.ns, "idempotency_key": k})
			self.assertEqual((first["created"], again["created"], first["task_uuid"]), (True, False, again["task_uuid"]))
		for k in "k" * 257, "é" * 129, "a\0b", b"k", 7:
			error = self.client.refused("task.create", {"name": "one", "namespace": self.ns, "idempotency_key": k})
			self.assertEqual((error.code, error.path), ("bad_request", "idempotency_key"))

	def test_numbers_beyond_64_bits(self):
		for raw in b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", b"\xcf\x80\0\0\0\0\0\0\0":
			error = self.client.refused("task.create", {"name": "one", "namespace": self.ns, "context": {"v": Raw(raw)}})
			self.assertEqual((error.code, error.path), ("invalid_value", "context.v"))
			self.assertEqual(self.client.refused("task.wait", {"task_uuid": NOBODY, "timeout_ms": Raw(raw)}).path, "timeout_ms")
			self.assertEqual(self.client.refused("task.list", {"limit": Raw(raw)}).path, "limit")
		w = self.worker(concurrency=1)
		self.create("one")
		s = w.take()
		w.notify("step.result", {"results": [{**ok(s), "attempt": 2 ** 64 - 1}, {**ok(s), "attempt": -2 ** 63}, {**ok(s), "attempt": 2 ** 31}]})
		w.note("error")
		w.finish(s, execution_ms=float("nan"), retry_after_ms=2 ** 64 - 1, metadata=None)
		self.assertEqual(w.acked(s), "recorded")

	def test_odd_numbers_in_failures(self):
		self.template("retried", [step("a", "h", attempts=20)])
		w = self.worker()
		task = self.create("retried")
		for odd in [-1, 0, 1.5, float("inf"), float("nan"), "1", None, True, [], -2 ** 63]:
			s = w.take()
			w.fail(s, retry_after_ms=odd, execution_ms=odd)
			self.assertEqual(w.acked(s), "recorded")
		s = w.take()
		w.fail(s, retry_after_ms=2 ** 62)  # capped by the daemon, but long
		self.assertEqual(w.acked(s), "recorded")
		self.client.call("task.cancel", {"task_uuid": task})

	def test_errors_of_odd_shapes(self):
		w = self.worker()
		for error in {}, None, "text", [], 7, {"message": 7}, {"message": None}, {"message": "m", "retryable": False, "backtrace": "b", "status_code": "s"}, {"retryable": "yes"}, {"message": "x" * 900000}, {"message": "y" * (2 << 20)}:
			task = self.create("one")
			s = w.take()
			w.results({**bad(s), "error": error})
			self.assertIn(w.acked(s), ("recorded", "rejected"))
			self.assertEqual(self.settled(task), "blocked_by_failures")
			self.assertEqual(len(self.attempts(task)), 1)

	def test_an_error_has_a_message(self):
		"""Those who show it may rely on that."""
		w = self.worker()
		for said, state, kept in ((None, "recorded", "the handler failed without saying why"), ({}, "recorded", "the handler failed without saying why"),
		                          ({"error_code": "E1"}, "recorded", "the handler failed without saying why"), ({"message": 7}, "rejected", "error.message must be a string")):
			task = self.create("one")
			s = w.take()
			w.results({**bad(s), "error": None if said is None else {"retryable": False, **said}})
			self.assertEqual(w.acked(s), state)
			error = self.client.call("step.get", {"task_uuid": task, "step": "a"})["error"]
			self.assertEqual((error["message"], error.get("error_code")), (kept, (said or {}).get("error_code")))

	def test_large_metadata(self):
		w = self.worker()
		for size, status in (900000, "recorded"), (1100000, "rejected"):
			self.create("one")
			s = w.take()
			w.finish(s, {"r": "x"}, metadata={"m": "x" * size})
			self.assertEqual(w.acked(s), status)

	def test_templates_of_four_mebibytes(self):
		def source(steps):
			return harness.template("huge", steps, namespace=self.ns)
		cases = {
			"steps": source([step("s%d" % i, "h") for i in range(15000)]), "unknown keys": "name: a\nnamespace_name: t\nversion: 1.0.0\nsteps: []\n" + "".join("k%x: 1\n" % i for i in range(300000)),
			"close to known keys": "name: a\nsteps: []\n" + "".join("descriptio%d: 1\n" % i for i in range(200000)), "deep": "[" * 4000000, "deep maps": "{a: " * 1000000, "items": "a: [" + "1," * 2000000 + "]", "spaces": " " * 4190000,
			"comment": "#" * 4190000, "escapes": '"' + "\\x41" * 1000000, "an alias": "a: &a [1]\nb: " + "[*a]", "block": "name: |\n" + "  x\n" * 900000, "tabs": "\t" * 4190000, "colons": ":" * 4190000, "dashes": "- " * 2000000,
			"questions": "? " * 2000000, "a long name": "name: " + "x" * 4000000, "a key again and again": "a: 1\n" * 800000, "nul": "\0" * 10, "documents": "---\n" * 1000000, "tags": "!!python/object:os.system x\n" * 100, "bom": "\ufeff" * 1000000,
			"one line of dependencies": json.dumps({"name": "a", "namespace_name": self.ns, "version": "1.0.0", "steps": [{"name": "s", "handler": {"callable": "h"}, "dependencies": ["s"] * 500000}]}),
			"a ring": source([step("s%d" % i, "h", after=["s%d" % ((i + 1) % 10000)]) for i in range(10000)]),
		}
		other = self.wire()
		for name, text in cases.items():
			text = text.encode()[:(4 << 20) - 100].decode("utf-8", "ignore")
			with self.subTest(name):
				w = self.wire()
				if "\0" in text:
					self.assertEqual(w.refused("template.validate", {"source": text}).code, "bad_request")
					continue
				answer = w.call("template.validate", {"source": text})
				self.assertLessEqual(len(answer["findings"]), 2000)
				if not answer["ok"]:
					self.assertEqual(w.refused("template.apply", {"source": text}).code, "invalid_template")
				w.close()
				other.call("ping")

	@unittest.skipUnless(LONG > 1, "TASKERD_LONG is 1")
	def test_a_template_with_more_handlers_than_the_database_can_make_queues_for(self):
		steps = [step("s%d" % i, "handler%d" % i) for i in range(9000)]
		error = self.client.refused("template.apply", {"source": harness.template("many", steps, namespace=self.ns)})
		self.assertIn(error.code, ("invalid_template", "too_large", "database_unavailable", "internal"))
		self.assertEqual([t["name"] for t in self.client.call("template.list", {"namespace": self.ns})["templates"]], ["one"])

	def test_a_worker_with_all_the_handlers_it_can_name(self):
		names = ["h%d" % i for i in range(3900)]
		ws = [self.worker(names) for _ in range(5)]
		for w in ws:
			w.call("ping")
		self.client.call("worker.list")


class Claims(Hostile):
	"""Workers that want what is not theirs."""

	def test_steps_of_others(self):
		"""By session, by a claim copied from elsewhere, by an old claim, by a claim made up, by resuming."""
		self.template("retried", [step("a", "h", attempts=5)])
		owner, thief = self.worker(), self.worker(["other"])
		task = self.create("retried")
		s = owner.take()
		owner.fail(s)
		owner.acked(s)
		old, s = s, owner.take()
		attempts = [ok(s), ok(old), {**ok(s), "claim": old["claim"]}, {**ok(s), "claim": b"\0\0\0\2" + os.urandom(12)}, {**ok(s), "claim": os.urandom(16)}, {**ok(old), "attempt": 2}, {**ok(old), "claim": s["claim"]}]
		for a in attempts:
			thief.results(a)
			self.assertIn(thief.acked(a), ("not_claimed", "stale", "duplicate"))
		token = owner.welcome["session"]
		for _ in range(3):
			t = self.worker(["other"], resume={"session": os.urandom(16).hex(), "held": 1})
			self.assertIs(t.welcome["resumed"], False)
			self.assertEqual(t.resume(s, old), ["stale", "stale"])
			t.close()
		self.assertNotIn(token, str(self.client.call("worker.list")) + str(self.client.call("server.info")) + self.node.log_text())
		thief.notify("goodbye")
		thief.close()
		self.assertEqual(self.get(task)["steps"][0]["state"], "in_progress")
		owner.finish(s, {"mine": True})
		self.assertEqual(owner.acked(s), "recorded")
		self.assertSame(self.get(task)["steps"][0]["result"], {"mine": True})
		self.assertEqual([o for _, _, o in self.attempts(task)], ["handler_error", "success"])

	def test_steps_that_were_never_given(self):
		w = self.worker()
		task = self.create("one")
		waiting = self.create("one")
		s = w.take()
		uuids = [NOBODY, NOBODY[:-6] + "000001", task, waiting[:-6] + "000001", task[:-6] + "ffffff", "ffffffff-ffff-ffff-ffff-ffffffffffff", "00000000-0000-0000-0000-000000000001"]
		for uuid in uuids:
			for claim in s["claim"], b"\0" * 16, b"\0\0\0\1" + b"\0" * 12:
				r = {"step_uuid": uuid, "attempt": 1, "claim": claim, "success": True}
				w.results(r)
				self.assertEqual(w.acked(r), "not_claimed")
		w.finish(s)
		self.assertEqual(w.acked(s), "recorded")

	def test_a_frame_full_of_results_nobody_asked_for(self):
		"""The answers, too, keep to the limits of a frame."""
		w = self.worker()
		r = {"step_uuid": NOBODY[:-6] + "000001", "attempt": 1, "claim": b"\0" * 16, "success": True}
		for _ in range(3):
			w.notify("step.result", {"results": [r] * 28000})
		w.call("ping")
		self.assertEqual({a["status"] for a in w.acks[NOBODY[:-6] + "000001", 1]}, {"not_claimed"})

	def test_a_frame_full_of_things_that_are_no_results(self):
		"""A small frame must not make many large answers."""
		def work():
			w = wire.Worker(self.node.socket, ["x"])
			f = frame([2, "step.result", {"results": [None] * 100000}])
			for _ in range(10):
				try:
					w.send_bytes(f)
				except Closed:
					break
			try:
				w.call("ping")
			except Closed:
				pass
			if w.frames > 100000:
				raise AssertionError("%d frames in answer to 10" % w.frames)
		self.assert_peak(self.peak(work), 64)

	def test_the_same_resume_a_hundred_thousand_times(self):
		w = self.worker()
		self.create("one")
		s = w.take()
		w.close()
		v = self.worker(resume={"session": w.welcome["session"], "held": 1})
		item = {"step_uuid": s["step_uuid"], "attempt": 1, "claim": s["claim"]}
		answer = v.call("session.resume", {"steps": [item] * 25000})
		self.assertEqual({a["status"] for a in answer["steps"]}, {"held"})
		self.assertEqual(v.refused("session.resume", {"steps": [None] * 100001}).code, "bad_request")
		v.finish(s)
		self.assertEqual(v.acked(s), "recorded")
		v.call("session.resume", {"steps": []})  # late, and of no effect

	def test_resume_in_the_middle_of_work(self):
		"""A second session.resume must not take away what was given since the first."""
		w = self.worker(concurrency=3)
		tasks = [self.create("one") for _ in range(3)]
		steps = w.take(3)
		try:
			w.call("session.resume", {"steps": []})
		except Refused:
			pass
		for s in steps:
			w.results(ok(s))
		statuses = {w.acked(s) for s in steps}
		self.assertEqual(statuses, {"recorded"})
		for t in tasks:
			self.assertEqual(self.settled(t), "complete")

	def test_goodbye_and_then_more(self):
		w = self.worker(concurrency=2)
		self.create("one")
		s = w.take()
		w.notify("goodbye")
		w.notify("worker.update", {"draining": False, "max_concurrency": 2})
		task = self.create("one")
		w.finish(s)
		self.assertEqual(w.acked(s), "recorded")
		w.close()
		v = self.worker()
		v.until(lambda: v.given, "the step")
		self.assertEqual(v.given[0]["task_uuid"], task)
		self.assertEqual(v.given[0]["attempt"], 1)
		v.finish(v.take())

	def test_concurrency_up_and_down(self):
		"""Credits under way while what they stand for changes."""
		self.client.call("task.create_many", {"tasks": [{"name": "one", "namespace": self.ns}] * 600})
		a, b = self.worker(concurrency=50), self.worker(concurrency=50)
		a.concurrency = b.concurrency = 10 ** 6  # what is open when it sinks, stays open
		done = 0
		end = time.monotonic() + harness.PATIENCE
		while done < 600:
			self.assertLess(time.monotonic(), end, "%d of 600" % done)
			for w in a, b:
				w.poll(0.002)
				for s in list(w.open.values()):
					w.finish(s)
					done += 1
				if self.random.randrange(4) == 0:
					w.notify("worker.update", {"max_concurrency": self.random.choice((1, 2, 50, 10000)), "draining": self.random.randrange(3) == 0})
				if self.random.randrange(40) == 0:
					w.notify("worker.update", {"draining": False})
			if not (a.open or b.open):
				a.notify("worker.update", {"draining": False})
		for w in a, b:
			w.until(lambda: len(w.acks) == len(w.given), "all acks")
		rows = {r["worker_uuid"]: r["open"] for r in self.client.call("worker.list")["workers"]}
		self.assertEqual((rows[a.welcome["worker_uuid"]], rows[b.welcome["worker_uuid"]]), (0, 0))

	def test_workers_that_come_and_go(self):
		"""Sessions die at every moment of a step's life; each step ends once."""
		self.template("sturdy", [step("a", "h", attempts=1000), step("b", "h", after=["a"], attempts=1000)])
		results = self.client.call("task.create_many", {"tasks": [{"name": "sturdy", "namespace": self.ns}] * 60})["results"]
		r = self.random
		open_ = lambda: self.db.number("SELECT count(*) FROM tasker.tasks t JOIN tasker.templates x USING (template_id) JOIN tasker.namespaces n USING (namespace_id) WHERE n.name = '%s' AND t.state <> 'complete'" % self.ns)  # noqa: E731
		workers = []
		end = time.monotonic() + harness.PATIENCE
		while open_():
			self.assertLess(time.monotonic(), end, "%d tasks are open" % open_())
			while len(workers) < 4:
				w = self.worker(concurrency=r.choice((1, 3, 10)))
				w.lives = r.randrange(1, 25)
				workers.append(w)
			for w in list(workers):
				w.lives -= 1
				try:
					w.poll(0.003)
					some = [s for s in w.open.values() if r.randrange(3)]
					if some:
						w.results(*[ok(s) if r.randrange(8) else bad(s) for s in some])
				except Closed:
					w.lives = 0
				if w.lives > 0:
					continue
				workers.remove(w)
				how = r.randrange(4)
				try:
					if how == 0:
						w.notify("goodbye")
					elif how == 1 and not w.eof:  # back at once, or while the old one is open
						if r.randrange(2):
							w.close()
						held = list(w.open.values())
						v = self.worker(concurrency=w.concurrency, resume={"session": w.welcome["session"], "held": len(held)})
						v.lives = 20
						if held:
							for s, status in zip(held, v.resume(*held)):
								if status == "held":
									v.open[key(s)] = s
							v.concurrency = max(v.concurrency, len(v.open))
						workers.append(v)
					elif how == 2:
						w.send_bytes(b"\0\0\0\1\xc1")
				except Closed:
					pass
				w.close()
		for item in results:
			self.assertEqual(self.settled(item["task_uuid"]), "complete")
		counts = self.db.sql("SELECT t.task_uuid, a.step_no, count(*) FROM tasker.step_attempts a JOIN tasker.tasks t USING (task_id) JOIN tasker.templates x USING (template_id) JOIN tasker.namespaces n USING (namespace_id) "
		                     "WHERE n.name = '%s' AND a.outcome = 'success' GROUP BY 1, 2" % self.ns)
		self.assertEqual((len(counts), {n for _, _, n in counts}), (120, {"1"}))


if __name__ == "__main__":
	unittest.main()

"""Every message of PROTOCOL.md but those of steps (test_protocol_steps.py) against the real daemon, as a client written from that page alone would send it; wire.py holds what comes back to the page."""
import json
import os
import time
import struct
import unittest

import harness
import wire
from harness import step
from shapes import UUID, nested, vectors
from wire import Raw, Refused, bad, key, ok

if not os.environ.get("TASKERD_LONG"):
	raise unittest.SkipTest("takes minutes and a machine of its own: TASKERD_LONG=1 runs it")


class Handshake(wire.Case):
	@classmethod
	def setUpClass(cls):
		super().setUpClass()
		cls.idle = wire.Wire(cls.shared.node.socket)  # for the last test
		cls.addClassCleanup(cls.idle.close)
		cls.began = time.monotonic()

	def test_welcome(self):
		w = self.wire(language="python", pid=1, future={"x": [1]}, worker=None, resume=None).welcome
		self.assertEqual(w["protocol"], [1, 0])
		self.assertRegex(w["server"], r"^taskerd/\d+\.\d+\.\d+")
		self.assertEqual(w["node"], self.node.name)
		self.assertRegex(w["worker_uuid"], UUID)
		self.assertIs(w["resumed"], False)
		self.assertEqual(w["features"], [])
		self.assertEqual(w["limits"], {"max_frame": 4 << 20, "max_items": 262144, "max_depth": 30, "max_bulk": 5000, "max_context": 1 << 20, "max_result": 1 << 20})
		self.assertGreaterEqual(len(w["session"]), 16)
		self.assertNotEqual(w["session"], self.wire().welcome["session"])

	def test_the_smaller_minor_version_is_used(self):
		self.assertEqual(self.wire(protocol=[1, 99]).welcome["protocol"], [1, 0])

	def test_another_major_version_is_refused_with_both_named(self):
		for version in [2, 0], [0, 9], [2 ** 64 - 1, 2 ** 64 - 1]:
			w = self.wire(hello=False)
			error = w.refused("hello", {"protocol": version, "client": "x/1"}).error
			self.assertEqual(error["code"], "unsupported_version")
			self.assertEqual(error["details"], {"client": version, "server": [1, 0]})
			self.assertEqual(w.closed(), [])

	def test_fields_of_hello_are_checked(self):
		cases = [
			({"client": "x"}, "protocol"), ({"protocol": [1, 0]}, "client"), ({"protocol": [1], "client": "x"}, "protocol"), ({"protocol": "1.0", "client": "x"}, "protocol"),
			({"protocol": [1, -1], "client": "x"}, "protocol"), ({"protocol": [1.0, 0], "client": "x"}, "protocol"), ({"protocol": [1, 0, 0], "client": "x"}, "protocol"),
			({"protocol": [1, 0], "client": 7}, "client"), ({"protocol": [1, 0], "client": ""}, "client"), ({"protocol": [1, 0], "client": "a\0b"}, "client"),
			({"protocol": [1, 0], "client": "x", "pid": "7"}, "pid"), ({"protocol": [1, 0], "client": "x", "language": 1}, "language"),
			({"protocol": [1, 0], "client": "x", "worker": []}, "worker"), ({"protocol": [1, 0], "client": "x", "resume": "token"}, "resume")]
		for params, path in cases:
			with self.subTest(params=params):
				error = self.wire(hello=False).refused("hello", params)
				self.assertEqual((error.code, error.path), ("bad_request", path))

	def test_fields_of_a_worker_are_checked(self):
		good = {"handlers": ["h"], "max_concurrency": 1}
		cases = {"max_concurrency": [0, -1, "1", 1.0, 2 ** 63, True], "handlers": ["h", [1], [""], ["a\0b"], {}, [["h"]]], "namespaces": ["*", [1], [""], ["a\0b"], ["my-ns"], ["*", "2nd"]]}
		for field, values in cases.items():
			for value in values:
				with self.subTest(field=field, value=value):
					error = self.wire(hello=False).refused("hello", {"protocol": [1, 0], "client": "x", "worker": {**good, field: value}})
					self.assertEqual(error.code, "bad_request")
					self.assertTrue(error.path.startswith("worker." + field), error.path)

	def test_text_about_itself_may_be_long_and_of_any_script(self):
		for name in "é" * 200, "x" * 5000, "", "\x01\x1b[31m\n", "😀" * 40, "'; DROP TABLE tasker.workers; --":
			w = self.worker(name=name, client="ü" * 128, language="日" * 21)
			rows = [r for r in self.client.call("worker.list")["workers"] if r["worker_uuid"] == w.welcome["worker_uuid"]]
			self.assertEqual(len(rows), 1, name)
			self.assertTrue(name.startswith(rows[0]["name"] or ""))
			self.assertTrue(("ü" * 128).startswith(rows[0]["client"]))

	def test_nothing_goes_before_hello(self):
		for message in [0, 1, "ping", {}], [2, "heartbeat", {}], [2, "hello", {"protocol": [1, 0], "client": "x"}], [0, 1, "no.such", {}], [2, "no.such", {}]:
			w = self.wire(hello=False)
			w.send(message, [0, 2, "hello", {"protocol": [1, 0], "client": "x"}])
			w.protocol_error()

	def test_hello_is_said_once(self):
		w = self.wire()
		w.send([0, 99, "hello", {"protocol": [1, 0], "client": "x"}], [0, 100, "ping", {}])
		w.protocol_error()

	def test_frame_limits_before_hello(self):
		hello = {"protocol": [1, 0], "client": "x", "more": ""}
		room = (1 << 20) - len(wire.pack([0, 1, "hello", hello])) - 4  # the text's header grows from one byte to five
		for more, good in ("y" * room, True), ("y" * (room + 1), False):
			w = self.wire(hello=False)
			payload = wire.pack([0, 1, "hello", {**hello, "more": more}])
			self.assertEqual(len(payload), (1 << 20) + (not good))
			w.asked.add(1)
			if good:
				w.send_payload(payload)
				self.assertEqual(w.answer(1)["protocol"], [1, 0])
			else:
				w.send_bytes(struct.pack(">I", len(payload)))  # which is enough to be refused
				w.protocol_error()

	def test_item_limits_before_hello(self):
		hello = {"protocol": [1, 0], "client": "x", "more": []}
		room = 16384 - wire.count([0, 1, "hello", hello])[0]
		self.wire(more=[0] * room)
		w = self.wire(hello=False)
		w.send([0, 1, "hello", {**hello, "more": [0] * (room + 1)}])
		self.assertIn("too many items", w.protocol_error())

	def test_as_many_handlers_as_a_worker_may_offer(self):
		names = ["of.many.%d.%s" % (i, "x" * 80) for i in range(10000)]
		w = self.worker(handlers=names, namespaces=["*"])
		row = next(r for r in self.client.call("worker.list")["workers"] if r["worker_uuid"] == w.welcome["worker_uuid"])
		self.assertEqual(row["handlers"], names)
		error = self.wire(hello=False).refused("hello", {"protocol": [1, 0], "client": "x", "worker": {"handlers": ["h%d" % i for i in range(10001)]}})
		self.assertEqual((error.code, error.path), ("bad_request", "worker.handlers"))

	def test_limits_after_hello(self):
		w = self.wire()
		ping = {"more": ""}
		room = (4 << 20) - len(wire.pack([0, 7, "ping", ping])) - 4
		payload = wire.pack([0, 7, "ping", {"more": "y" * room}])
		self.assertEqual(len(payload), 4 << 20)
		w.asked.add(7)
		w.send_payload(payload)
		self.assertEqual(w.answer(7), {})
		items = 262144 - wire.count([0, 7, "ping", {"more": []}])[0]
		self.assertEqual(w.call("ping", {"more": [0] * items}), {})
		self.assertEqual(w.call("ping", {"more": nested(27)}), {})  # the envelope, its params and 27 more, the scalar at depth 30 - 1
		self.assertEqual(w.call("ping", {"more": nested(28)}), {})
		w.send([0, 8, "ping", {"more": nested(29)}])
		self.assertIn("deep", w.protocol_error())
		w = self.wire()
		w.send([0, 8, "ping", {"more": [0] * (items + 1)}])
		self.assertIn("too many items", w.protocol_error())
		w = self.wire()
		w.send_bytes((len(payload) + 1).to_bytes(4, "big"))  # refused before it is there
		w.protocol_error()

	def test_frames_in_any_portions(self):
		w = self.wire(hello=False)
		stream = b"".join(wire.frame(v) for v in [[0, 1, "hello", {"protocol": [1, 0], "client": "x"}]] + [[0, i, "ping", {}] for i in range(2, 40)])
		w.asked.update(range(1, 40))
		w.send_bytes(stream, slowly=1)
		for i in range(1, 40):
			w.answer(i)
		at = len(stream) - 50
		w.asked.update(range(100, 103))
		one, two, three = (wire.frame([0, i, "ping", {"pad": "z" * 70000}]) for i in range(100, 103))
		for cut in (one + two[:3], two[3:] + three[:90], three[90:]):
			w.send_bytes(cut)
		for i in range(100, 103):
			w.answer(i)
		self.assertGreater(at, 0)

	def test_ids_are_any_of_32_bits(self):
		w = self.wire()
		for i in 0, 2 ** 31, 2 ** 32 - 1:
			w.ask("ping", id=i)
			self.assertEqual(w.answer(i), {})

	def test_zz_a_connection_that_says_nothing_is_ended(self):
		self.idle.protocol_error()
		self.assertGreater(time.monotonic() - self.began, 9)


class Values(wire.Case):
	"""What goes in comes out: from the context to the handler, from the result to its descendants and to people."""

	def setUp(self):
		super().setUp()
		self.template("pair", [step("a", "h", attempts=1), step("b", "h", after=["a"])])

	def round_trip(self, value):
		"""Through everything; every place where it can be seen must show it."""
		w = self.worker()
		task = self.create("pair", context=value)
		a = w.take()
		w.finish(a, value, metadata=value)
		self.assertEqual(w.acked(a), "recorded")
		b = w.take()
		w.finish(b)
		self.assertEqual(self.settled(task), "complete")
		seen = self.get(task)
		history = self.client.call("task.history", {"task_uuid": task})["attempts"]
		w.close()
		return {"step.execute context": a["context"], "dependencies": b["dependencies"]["a"], "task.get context": seen["context"], "task.get result": seen["steps"][0]["result"],
		        "metadata": history[0]["metadata"]}

	def assert_kept(self, value):
		for place, got in self.round_trip(value).items():
			self.assertTrue(wire.same(got, value), "%s: %.1500r became %.1500r" % (place, value, got))

	def test_integers(self):
		self.assert_kept({"v": [s * n for p in (7, 8, 15, 16, 31, 32, 53, 62, 63) for n in (2 ** p - 1, 2 ** p) for s in (1, -1) if -2 ** 63 <= s * n < 2 ** 63]})

	def test_floats(self):
		values = [0.0, 0.1, 1.5, -2.25, 1 / 3, 1e-7, 123456789.123456789, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 1e22, 1e23, 9007199254740993.0, 1e15, 1e16, 1e18, 9.3e18, 1e19, 123456789012345680.0, 4.35, 2 / 3e10]
		values += [self.random.uniform(-1, 1) * 10 ** self.random.randint(-300, 300) for _ in range(500)]
		for place, got in self.round_trip({"v": values}).items():
			for a, b in zip(values, got["v"]):
				self.assertEqual((a, float), (b, type(b)), place)

	def test_32_bit_floats(self):
		task = self.create("pair", context=Raw(b"\x81\xa1v\xca\x3f\xc0\x00\x00"))
		self.assertSame(self.get(task)["context"], {"v": 1.5})

	def test_texts(self):
		self.assert_kept({"v": ["", "plain", "\"quoted\"\\/", "\t\r\n\b\f\x01\x1f\x7f", "é", "日本語", "😀", "\u2028\u2029\ufeff\ufffe\uffff", "\U0010ffff", "'; DROP TABLE x; --", "$1 %s {} \\u0000 \\x00", "e\u0301",
		                        "x" * 70000, "\u200f\u202e"]})

	def test_keys(self):
		self.assert_kept({k: i for i, k in enumerate(["", " ", "a.b", "a[0]", "\"", "\\", "\n", "é", "😀", "__proto__", "constructor", "'", "x" * 5000, "NaN", "$ref", "null"])})

	def test_empty_and_simple(self):
		for value in {}, {"v": {}}, {"v": []}, {"v": None}, {"v": [None, True, False, [[]], [{}], {"": {}}]}:
			with self.subTest(value=value):
				self.assert_kept(value)

	def test_deep(self):
		self.assert_kept({"v": nested(23)})

	def test_many(self):
		self.assert_kept({"v": {"k%d" % i: i for i in range(20000)}, "w": list(range(20000))})

	def test_results_that_are_not_maps(self):
		w = self.worker()
		for value in None, 7, "text", [], [1, {"a": None}], True, 1.5:
			with self.subTest(value=value):
				task = self.create("pair")
				a = w.take()
				w.results({**ok(a), "result": value})
				b = w.take()
				self.assertIn("a", b["dependencies"])
				self.assertSame(b["dependencies"]["a"], value)
				w.finish(b)
				self.assertEqual(self.settled(task), "complete")

	def test_golden_values(self):
		for v in vectors("values"):
			with self.subTest(v["name"]):
				raw = bytes.fromhex(v["hex"])
				value = wire.unpack(raw)
				if wire.count(value)[1] > 26:
					continue  # too deep inside a request; see test_deep
				i = self.client.ask("task.create", {"name": "pair", "namespace": self.ns, "context": {"value": Raw(raw)}})
				if "refused" in v:
					with self.assertRaises(Refused) as refused:
						self.client.answer(i)
					self.assertEqual((refused.exception.code, refused.exception.path), ("invalid_value", "context." + v["refused"]["path"]))
					self.assertIn(v["refused"]["what"], refused.exception.message)
				else:
					self.assertSame(self.get(self.client.answer(i)["task_uuid"])["context"], {"value": value})

	def test_values_outside_the_model_are_refused_with_their_path(self):
		bad_values = [float("nan"), float("inf"), float("-inf"), b"bytes", "a\0b", 2 ** 63, 2 ** 64 - 1]
		for value in bad_values:
			with self.subTest(value=value):
				error = self.client.refused("task.create", {"name": "pair", "namespace": self.ns, "context": {"ok": 1, "list": [0, {"x": value}]}})
				self.assertEqual((error.code, error.path), ("invalid_value", "context.list[1].x"))
		self.assertEqual(self.client.refused("task.create", {"name": "pair", "namespace": self.ns, "context": {"a\0": 1}}).code, "invalid_value")
		w = self.worker()
		for value in bad_values:
			for field in "result", "metadata":
				with self.subTest(value=value, field=field):
					task = self.create("pair")
					s = w.take()
					w.results({**ok(s), field: {"list": [0, {"x": value}]}})
					ack = w.ack(s)
					self.assertEqual(ack["status"], "rejected")
					self.assertIn(field + ".list[1].x", ack["message"])
					self.assertEqual(self.settled(task), "blocked_by_failures")
					self.assertEqual(self.attempts(task), [("a", 1, "invalid_result")])
			task = self.create("pair")
			s = w.take()
			w.results(bad(s, error={"context": {"x": value}}))
			self.assertEqual(w.acked(s), "rejected")
			self.assertEqual(self.settled(task), "blocked_by_failures")

	def padded(self, limit, over=0):
		"""A map of exactly `limit` + `over` bytes as JSON."""
		return {"v": "x" * (limit - len(json.dumps({"v": ""})) + over)}

	def test_the_largest_context_and_result(self):
		limits = self.client.welcome["limits"]
		w = self.worker()
		task = self.create("pair", context=self.padded(limits["max_context"]))
		a = w.take()
		w.finish(a, self.padded(limits["max_result"]))
		self.assertEqual(w.acked(a), "recorded")
		b = w.take()
		self.assertEqual(len(b["dependencies"]["a"]["v"]), limits["max_result"] - 9)
		w.finish(b)
		self.assertEqual(self.settled(task), "complete")
		error = self.client.refused("task.create", {"name": "pair", "namespace": self.ns, "context": self.padded(limits["max_context"], 1)})
		self.assertEqual(error.code, "too_large")
		self.create("pair")
		a = w.take()
		w.finish(a, self.padded(limits["max_result"], 1))
		ack = w.ack(a)
		self.assertEqual(ack["status"], "rejected")
		self.assertIn("result", ack["message"])

	def test_numbers_that_the_database_prints_long_do_not_grow_over_the_limits(self):
		"""1e308 has 5 characters here and 309 there."""
		self.assertEqual(self.client.refused("task.create", {"name": "pair", "namespace": self.ns, "context": {"v": [1e308] * 100000}}).code, "too_large")
		self.assert_kept({"v": [1e308, 1e-300] * 1000})


class Quiet(wire.Case):
	"""Silence."""

	options = {"heartbeat_ms": 500}

	def test_silence_ends_a_worker_and_any_frame_keeps_it(self):
		self.template("one", [step("a", "h", attempts=5)])
		lively, silent, client = self.worker(["k"]), self.worker(), self.wire()
		self.assertEqual(silent.welcome["heartbeat_ms"], 500)
		self.create("one")
		s = silent.take()
		while not silent.eof:  # six heartbeats and a bit
			lively.notify("step.log", {"level": "debug", "message": "I live"})
			lively.poll(0.02)
			silent.poll(0)
		self.assertFalse(lively.eof)
		client.call("ping")  # a client need not say anything
		other = self.worker()
		again = other.take()
		self.assertEqual((again["step_uuid"], again["attempt"]), (s["step_uuid"], 2))
		other.finish(again)
		self.assertEqual(other.acked(again), "recorded")
		self.healthy()


class Stopping(harness.Case):
	"""What the daemon says when it stops."""

	def test_drain(self):
		db = self.database()
		node = self.daemon(db, drain_timeout_ms=harness.HOUR_MS)
		wire.ready(node)
		c = wire.Wire(node.socket)
		c.hello()
		c.call("template.apply", {"source": harness.template("pair", [step("a", "h"), step("b", "h", after=["a"])])})
		w = wire.Worker(node.socket, ["h"], 3)
		self.addCleanup(w.close)
		self.addCleanup(c.close)
		tasks = [c.call("task.create", {"name": "pair", "namespace": "t"})["task_uuid"] for _ in range(2)]
		first, second = w.take(2)
		node.process.signal(15)
		for who in c, w:
			self.assertEqual(who.note("server.draining")["deadline_ms"], harness.HOUR_MS)
		self.assertEqual(c.refused("task.create", {"name": "pair", "namespace": "t"}).code, "shutting_down")
		self.assertEqual(c.refused("task.create_many", {"tasks": [{"name": "pair", "namespace": "t"}] * 2}).code, "shutting_down")
		self.assertEqual(c.call("task.get", {"task_uuid": tasks[0]})["state"], "steps_in_process")
		w.finish(first)
		self.assertEqual(w.acked(first), "recorded")
		w.call("ping")
		self.assertEqual(w.untaken(), 0)  # its child goes to nobody any more
		w.fail(second, retryable=False)
		self.assertEqual(w.acked(second), "recorded")
		self.assertEqual(node.process.wait(), 0)
		w.closed()
		node.start()
		wire.ready(node)
		with wire.Worker(node.socket, ["h"], 3) as w:
			child = w.take()
			self.assertEqual((child["step"], child["attempt"]), ("b", 1))
			w.finish(child)
			self.assertEqual(w.acked(child), "recorded")
		self.doctor(node)

	def test_what_is_not_finished_in_time_is_given_back(self):
		db = self.database()
		node = self.daemon(db, drain_timeout_ms=100)
		wire.ready(node)
		with wire.Wire(node.socket) as c, wire.Worker(node.socket, ["h"]) as w:
			c.hello()
			c.call("template.apply", {"source": harness.template("one", [step("a", "h")])})
			c.call("task.create", {"name": "one", "namespace": "t"})
			s = w.take()
			node.process.signal(15)
			w.closed()
			self.assertEqual(node.process.wait(), 0)
		self.assertEqual([a[2:4] for a in db.attempts()], [(1, "released")])
		node.start()
		wire.ready(node)
		with wire.Worker(node.socket, ["h"]) as w:
			again = w.take()
			self.assertEqual((again["attempt"], key(again) == key(s), again["claim"] == s["claim"]), (1, True, False))


if __name__ == "__main__":
	unittest.main()

"""What goes over a limit, is cut to one, or is not known to this version: the answer says so, names the limit, and every frame stays within those of the welcome."""
import unittest

import harness
import wire
from harness import step

MIB = 1 << 20


class Text(wire.Case):
	"""Text of a peer that is shortened stays text."""

	def test_names_of_workers(self):
		for n in range(28, 36):
			name = "a" * (n % 4) + "\u00e9" * n
			w = self.worker(name=name, client="\u20ac" * n, language="\U0001f600" * 16)
			rows = self.client.call("worker.list")["workers"]
			row = [r for r in rows if r["worker_uuid"] == w.welcome["worker_uuid"]]
			self.assertEqual(len(row), 1, "not listed: " + name)
			self.assertTrue(row[0]["name"] and name.startswith(row[0]["name"]))
			self.assertTrue(row[0]["client"] and ("\u20ac" * n).startswith(row[0]["client"]))
			self.assertEqual(set(row[0]["language"]), {"\U0001f600"})
			w.close()

	def test_file_names(self):
		for n in 255, 256, 400:
			answer = self.client.call("template.validate", {"source": "name: [", "filename": "a" * (n % 2) + "\u00e9" * n})
			self.assertFalse(answer["ok"])
			self.assertTrue(answer["findings"])
			self.assertIn("\u00e9", answer["findings"][0]["file"])

	def test_unknown_methods(self):
		for n in range(60, 68):
			e = self.client.refused("m" * (n % 3) + "\u20ac" * n)
			self.assertEqual(e.code, "unknown_method")
			self.assertIn("\u20ac\"", e.message)

	def test_lengths_are_bytes(self):
		self.template("bytes", [step("a", "h")])
		self.create("bytes", initiator="\u00e9" * 64)
		e = self.client.refused("task.create", {"name": "bytes", "namespace": self.ns, "initiator": "\u00e9" * 65})
		self.assertEqual((e.code, e.path), ("bad_request", "initiator"))
		self.assertIn("128 bytes", e.message)


class Unknown(wire.Case):
	def test_fields_of_the_future(self):
		self.template("future", [step("a", "h")])
		task = self.create("future")
		for future in b"bin", "x" * (2 * MIB), {"deep": [1e308]}, "a\0b":
			self.assertEqual(self.client.call("task.get", {"task_uuid": task, "future": future})["task_uuid"], task)
			self.assertEqual(self.client.call("task.list", {"namespace": self.ns, "future": future, "name": None})["tasks"][0]["task_uuid"], task)
			self.assertIn("checks", self.client.call("doctor", {"future": future}))

	def test_params_must_be_a_map(self):
		for params in None, [], 1, "x":
			w = self.wire()
			w.send([0, 1, "ping", params])
			self.assertIn("params", w.protocol_error())


class Limits(wire.Case):
	options = {"max_context": "64KiB"}
	MAX = 65536

	def setUp(self):
		super().setUp()
		self.template("t", [step("a", "h")])

	def too_large(self, **params):
		e = self.client.refused("task.create", {"name": "t", "namespace": self.ns, **params})
		self.assertEqual(e.code, "too_large")
		return e.path, e.error["details"]

	def printed(self, task):
		"""The bytes that the database prints a task's context with."""
		return int(self.db.value("SELECT octet_length(context::text) FROM tasker.tasks WHERE task_uuid = '%s'" % task))

	def test_the_limit_is_named(self):
		self.assertEqual(self.too_large(context={"v": "x" * self.MAX}), ("context", {"limit": "max_context", "max": self.MAX}))
		results = self.client.call("task.create_many", {"tasks": [{"name": "t", "namespace": self.ns, "context": {"v": "x" * n}} for n in (1, self.MAX)]})["results"]
		self.assertTrue(results[0]["created"])
		self.assertEqual(results[1]["error"]["details"], {"limit": "max_context", "max": self.MAX})

	def test_the_limit_is_what_the_database_prints(self):
		for value in "x", 0, 1e308, -2.5e-300, -0.0, 1e15, 0.5, [], {}, None, "\u00e9\n":
			one = {"v": []}
			base = self.printed(self.create("t", context=one))
			each = self.printed(self.create("t", context={"v": [value, value]})) - self.printed(self.create("t", context={"v": [value]}))
			n = (self.MAX - base + 2) // each
			if n * 2 > 200000:
				continue
			room = self.MAX - self.printed(self.create("t", context={"v": [value] * n}))
			self.assertTrue(0 <= room < each, value)
			self.assertEqual(self.too_large(context={"v": [value] * (n + 1)})[0], "context", value)

	def test_long_numbers_count_whole(self):
		# 7 bytes each when they come, 311 when they go.
		self.assertEqual(self.too_large(context={"v": [1e308] * 9000})[0], "context")


class Frames(wire.Case):
	"""No frame is larger than the welcome says: wire.py breaks off if one is."""

	options = {"max_context": "2MiB", "max_result": "2MiB"}

	def test_answers(self):
		self.template("wide", [step(n, "h") for n in "abc"])
		w = self.worker(concurrency=3)
		task = self.create("wide", context={})
		for s, result in zip(w.take(3), ({"v": "x" * (2 * MIB - 20)},) * 3):
			w.finish(s, result)
		self.assertEqual(self.settled(task), "complete")
		e = self.client.refused("task.get", {"task_uuid": task})
		self.assertEqual((e.code, e.error["details"]), ("too_large", {"limit": "max_frame", "max": 4 * MIB}))
		self.assertIsNone(self.client.call("task.watch", {"task_uuid": task}).get("steps"))
		self.assertEqual(self.client.call("task.get", {"task_uuid": task, "steps": False})["state"], "complete")
		self.assertEqual(self.client.call("task.unwatch", {"task_uuid": task}), {})

	def test_items(self):
		self.template("items", [step(n, "h") for n in "ab"])
		w = self.worker(concurrency=2)
		task = self.create("items")
		for s in w.take(2):
			w.finish(s, {"v": [0] * 200000})
		self.assertEqual(self.settled(task), "complete")
		e = self.client.refused("task.get", {"task_uuid": task})
		self.assertEqual((e.code, e.error["details"]), ("too_large", {"limit": "max_items", "max": 262144}))
		self.assertIsNone(self.client.call("task.watch", {"task_uuid": task}).get("steps"))

	def errors(self, extra, n=6):
		"""The events of a watched task whose `n` steps fail with a large error."""
		self.template("errors", [step("s%d" % i, "h") for i in range(n)])
		w = self.worker(concurrency=n)
		task = self.create("errors")
		self.client.call("task.watch", {"task_uuid": task})
		for s in w.take(n):
			w.fail(s, "big", retryable=False, error=extra)
		return self.client.events(task, lambda e: e["kind"] == "task" and e["state"] == "blocked_by_failures")

	def test_events_in_several_frames(self):
		events = self.errors({"context": {"v": "x" * MIB}})
		failed = [e for e in events if e["state"] == "error" and e["kind"] == "step"]
		self.assertEqual(sorted(e["step"] for e in failed), ["s%d" % i for i in range(6)])
		self.assertEqual({len(e["error"]["context"]["v"]) for e in failed}, {MIB})

	def test_events_of_many_items(self):
		events = self.errors({"context": {"v": [0] * 100000}})
		failed = [e for e in events if e["state"] == "error" and e["kind"] == "step"]
		self.assertEqual({len(e["error"]["context"]["v"]) for e in failed}, {100000})

	def test_an_event_larger_than_a_frame(self):
		# It just went into the frame that it came in; an event says more besides.
		events = self.errors({"context": {"v": [0] * 262090}}, n=1)
		failed = [e for e in events if e["state"] == "error" and e["kind"] == "step"]
		self.assertEqual([e["error"] for e in failed], [{"message": "left out: larger than a frame"}])

	def test_progress(self):
		self.template("progress", [step("a", "h")])
		w = self.worker()
		task = self.create("progress")
		s = w.take()
		self.client.call("task.watch", {"task_uuid": task})
		for size in 10, 4 * MIB - 120:
			w.notify("step.heartbeat", {"step_uuid": s["step_uuid"], "attempt": s["attempt"], "progress": "x" * size})
		got = self.client.events(task, lambda e: len(e.get("progress", "")) > 10)
		self.assertEqual([e["progress"] for e in got if "progress" in e], ["x" * 10, "left out: larger than a frame"])
		w.finish(s)
		self.assertEqual(w.acked(s), "recorded")


class SmallFrames(wire.Case):
	options = {"max_frame": "64KiB", "max_context": "8KiB", "max_result": "8KiB"}

	def test_bulks(self):
		self.template("t", [step("a", "h")])
		most = self.client.welcome["limits"]["max_bulk"]
		self.assertLess(most, 100)
		long = {"name": "x" * 255, "namespace": self.ns, "version": "9" * 64}
		for item in {"name": "t", "namespace": self.ns}, long, {}, {"name": "t", "context": {"v" * 120: {"w" * 120: float("nan")}}}:
			results = self.client.call("task.create_many", {"tasks": [item] * most})["results"]
			self.assertEqual(len(results), most)
		e = self.client.refused("task.create_many", {"tasks": [{}] * (most + 1)})
		self.assertEqual((e.code, e.path, e.error["details"]), ("too_large", "tasks", {"limit": "max_bulk", "max": most}))

	def test_findings(self):
		steps = [{"name": "s%d" % i, "handler": {"callable": 7}} for i in range(900)]
		source = harness.template("f", steps, namespace=self.ns)
		answer = self.client.call("template.validate", {"source": source, "filename": "f" * 500})
		self.assertFalse(answer["ok"])
		self.assertGreater(len(answer["findings"]), 10)
		e = self.client.refused("template.apply", {"source": source, "filename": "f" * 500})
		self.assertEqual(e.code, "invalid_template")
		self.assertEqual(e.error["details"]["findings"], answer["findings"])

	def test_what_was_done_is_answered_without_the_steps(self):
		"""A task whose object is larger than a frame: actions on it say what they have done, and only a look at it is refused."""
		self.template("t", [step("first", "h"), *({"name": "s%d" % i, "handler": {"callable": "none"}, "dependencies": ["first"]} for i in range(400))])
		w = self.worker()
		task = self.create("t")
		w.fail(w.take(), retryable=False)
		self.assertEqual(self.settled(task), "blocked_by_failures")
		self.assertEqual(self.client.refused("task.get", {"task_uuid": task}).code, "too_large")
		said = self.client.call("dlq.redrive", {"task_uuid": task, "reason": "r"})
		self.assertEqual((said["entry"]["status"], said["task"]["state"], said["task"].get("steps")), ("manually_resolved", "steps_in_process", None))
		for action in "pause", "resume":
			said = self.client.call("task.action", {"task_uuid": task, "action": action, "reason": "r"})
			self.assertEqual((said["task_uuid"], said["paused"], said["total_steps"], said.get("steps")), (task, action == "pause", 401, None))
		said = self.client.call("task.cancel", {"task_uuid": task})
		self.assertEqual((said["task_uuid"], said["state"], said.get("steps")), (task, "cancelled", None))

	def test_resuming_what_is_no_step(self):
		self.template("t", [step("a", "h")])
		w = self.worker()
		e = w.refused("session.resume", {"steps": [None] * 50000})
		self.assertEqual((e.code, e.error["details"]), ("too_large", {"limit": "max_frame", "max": 65536}))
		self.assertEqual(w.resume(), [])


class Asking(wire.Case):
	def test_watch_and_unwatch_at_once(self):
		self.template("w", [step("a", "h")])
		task = self.create("w")
		for _ in range(20):
			c = self.wire()
			c.asked |= {1, 2, 3, 4}
			c.send([0, 1, "task.watch", {"task_uuid": task}], [0, 2, "task.unwatch", {"task_uuid": task}],
			       [0, 3, "task.watch", {"task_uuid": task}], [0, 4, "task.unwatch", {"task_uuid": task}])
			for id in 1, 3:
				self.assertEqual(c.answer(id)["task_uuid"], task)
			for id in 2, 4:
				self.assertEqual(c.answer(id), {})
			self.assertEqual(c.silent(), [])
			c.close()

	def test_watching_a_task_that_is_not_there(self):
		c = self.wire()
		c.asked |= {1, 2}
		nobody = "00000000-0000-7000-8000-000000000000"
		c.send([0, 1, "task.watch", {"task_uuid": nobody}], [0, 2, "task.unwatch", {"task_uuid": nobody}])
		with self.assertRaises(wire.Refused) as caught:
			c.answer(1)
		self.assertEqual(caught.exception.code, "not_found")

	def test_missing_handlers_are_named_once(self):
		self.template("m", [step("s%d" % i, "nobody.%d" % (i % 3)) for i in range(9)])
		task = self.create("m")
		self.assertEqual(self.get(task)["missing_handlers"], ["nobody.0", "nobody.1", "nobody.2"])
		self.assertEqual(self.client.call("task.watch", {"task_uuid": task})["missing_handlers"], ["nobody.0", "nobody.1", "nobody.2"])
		self.worker(["nobody.1"])
		self.assertEqual(self.get(task)["missing_handlers"], ["nobody.0", "nobody.2"])

	def test_concurrency_is_the_present_one(self):
		w = self.worker(concurrency=3)
		w.notify("worker.update", {"max_concurrency": 7})
		w.call("ping")
		row = [r for r in self.client.call("worker.list")["workers"] if r["worker_uuid"] == w.welcome["worker_uuid"]]
		self.assertEqual(row[0]["max_concurrency"], 7)


if __name__ == "__main__":
	unittest.main()

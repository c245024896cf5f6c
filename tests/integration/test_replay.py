"""What a developer needs to run a recorded step again, and what workers say that they could not load."""
import json
import unittest

import harness
import wire
from harness import program, step


class Replay(wire.Case):
	def chain(self, **more):
		"""A task of two steps, the second failed once and running again."""
		self.template("chain", [step("a", "a", x=1), step("b", "b", after=["a"], y={"z": None})])
		task = self.create("chain", context={"n": 5}, correlation_id="c-1", **more)
		a, b = self.worker(["a"]), self.worker(["b"])
		a.finish(a.take(), {"r": [1, 2.5, None]})
		first = b.take()
		b.fail(first, "not yet")
		return task, b, b.take()

	def test_it_is_what_the_worker_was_given(self):
		_, _, given = self.chain(priority=3, traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
		answer = self.client.call("step.replay", {"step_uuid": given["step_uuid"]})
		wire.need("replay", answer, {"step": dict, "recorded": dict})
		left_out = {"claim", "timeout_ms", "publishes_events"}
		self.assertEqual(set(answer["step"]) & left_out, set())
		for name in set(given) - left_out:
			self.assertSame(answer["step"][name], given[name])
		self.assertEqual({k for k, v in answer["step"].items() if v not in (None, False)} - set(given), {"template_step"})

	def test_what_became_of_the_step(self):
		task, worker, given = self.chain()
		recorded = self.client.call("step.replay", {"task_uuid": task, "step": "b"})["recorded"]
		self.assertEqual((recorded["state"], recorded["attempts"], recorded["result"]), ("in_progress", 2, None))
		worker.finish(given, {"done": True})
		worker.acked(given)
		recorded = self.client.call("step.replay", {"task_uuid": task, "step": "b"})["recorded"]
		self.assertEqual((recorded["state"], recorded["result"], recorded["error"]), ("complete", {"done": True}, None))

	def test_nothing_is_changed_and_no_result_can_be_sent(self):
		task, worker, given = self.chain()
		before = self.get(task), self.attempts(task)
		replayed = self.client.call("step.replay", {"step_uuid": given["step_uuid"]})["step"]
		worker.notify("step.result", {"results": [{**wire.ok(given), "claim": b"x" * 16}]})
		self.assertEqual(worker.acked(given), "not_claimed")
		self.assertNotIn("claim", replayed)
		self.assertEqual((self.get(task), self.attempts(task)), before)
		worker.finish(given)
		self.assertEqual(worker.acked(given), "recorded")

	def test_a_checkpoint_and_the_inputs_of_a_batch_worker(self):
		self.client.call("template.apply", {"source": json.dumps({"name": "batch", "namespace_name": self.ns, "version": "1.0.0", "steps": [
			{**step("divide", "divide"), "type": "batchable"}, {**step("work", "work", after=["divide"]), "type": "batch_worker"}]})})
		task = self.create("batch")
		divide, work = self.worker(["divide"]), self.worker(["work"])
		cursors = [{"batch_id": "001", "start_cursor": 0, "end_cursor": 5, "batch_size": 5}]
		divide.finish(divide.take(), {"batch_processing_outcome": {"type": "create_batches", "worker_template_name": "work", "worker_count": 1, "cursor_configs": cursors, "total_items": 5}})
		given = work.take()
		self.assertEqual(work.checkpoint(given, 3, items_processed=3), "recorded")
		got = self.client.call("step.replay", {"task_uuid": task, "step": "work_001"})["step"]
		self.assertSame(got["inputs"], given["inputs"])
		self.assertEqual((got["template_step"], got["checkpoint"]["cursor"]), ("work", 3))

	def test_large_ancestors_are_left_for_step_dependencies(self):
		self.template("wide", [step("a", "a"), step("b", "a"), step("c", "c", after=["a", "b"])])
		task = self.create("wide")
		a = self.worker(["a"], concurrency=2)
		for given in a.take(2):
			a.finish(given, {"blob": "x" * 400000})
		self.worker(["c"]).take()
		got = self.client.call("step.replay", {"task_uuid": task, "step": "c"})["step"]
		self.assertEqual((len(got["dependencies"]), got["dependencies_partial"]), (1, True))
		rest = self.client.call("step.dependencies", {"step_uuid": got["step_uuid"], "names": sorted({"a", "b"} - set(got["dependencies"]))})
		self.assertEqual(sorted([*got["dependencies"], *rest["dependencies"]]), ["a", "b"])

	def test_no_such_step(self):
		self.assertEqual(self.client.refused("step.replay", {"step_uuid": "0190b5a0-7c1e-7000-8000-00000000a002"}).code, "not_found")


class Broken(wire.Case):
	"""What a worker could not load is shown to people."""

	def row(self, name):
		return next(w for w in self.client.call("worker.list")["workers"] if w["name"] == name)

	def hello(self, broken, name="broken"):
		w = self.wire(hello=False)
		w.hello(worker={"name": name, "handlers": ["h"], "max_concurrency": 1, "namespaces": [self.ns], "broken": broken})
		return w

	def listed(self, name):
		harness.wait_for(lambda: name in [w["name"] for w in self.client.call("worker.list")["workers"]], "the worker to be listed")
		return self.row(name)["broken"]

	def test_it_is_listed(self):
		said = [{"name": "shop.refund", "file": "/srv/refund.py", "line": 3, "message": "SyntaxError: \u00e9"}, {"name": "shop.other"}]
		self.hello(said)
		self.assertEqual(self.listed("broken"), [said[0], {"name": "shop.other", "file": "", "line": 0, "message": ""}])
		out = harness.subprocess.run([program("clients", "taskerctl", "taskerctl"), "--socket", self.node.socket, "worker", "list"], stdout=harness.subprocess.PIPE, text=True, check=True).stdout
		self.assertIn("broken cannot load shop.refund: /srv/refund.py:3: SyntaxError: \u00e9", out)

	def test_long_texts_are_cut(self):
		self.hello([{"name": "n" * 5000, "file": "f" * 5000, "line": 2 ** 31 - 1, "message": "\u20ac" * 5000}], "long")
		got = self.listed("long")[0]
		self.assertEqual((len(got["name"]), len(got["file"]), got["line"], got["message"]), (255, 1023, 2 ** 31 - 1, "\u20ac" * 341))

	def test_wrong_fields(self):
		for broken in 7, {}, [7], [{"line": -1}], [{"line": "3"}], [{}] * 65:
			with self.subTest(broken=str(broken)[:40]):
				error = self.wire(hello=False).refused("hello", {"protocol": [1, 0], "client": "x", "worker": {"handlers": ["h"], "max_concurrency": 1, "broken": broken}})
				self.assertEqual((error.code, error.path), ("bad_request", "worker.broken"))

	def test_texts_of_other_types_are_left_out(self):
		self.hello([{"name": 7, "file": None, "message": ["x"]}], "odd")
		self.assertEqual(self.listed("odd"), [{"name": "", "file": "", "line": 0, "message": ""}])

	def test_it_survives_a_resume(self):
		first = self.hello([{"name": "m"}], "comes-back")
		self.listed("comes-back")
		first.close()
		w = self.wire(hello=False)
		w.hello(worker={"name": "comes-back", "handlers": ["h"], "max_concurrency": 1, "namespaces": [self.ns]}, resume={"session": first.welcome["session"], "held": 0})
		harness.wait_for(lambda: self.listed("comes-back") == [], "the second hello to count")


if __name__ == "__main__":
	unittest.main()

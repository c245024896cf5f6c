"""Checkpoints: stored with the step, kept over whatever ends the attempt, and giving the step back at one."""
import json
import os
import unittest

import harness
import wire
from harness import step, template

BIG = 1 << 20


def claim(got):
	return {k: got[k] for k in ("step_uuid", "attempt", "claim")}


class Checkpoints(harness.Case):
	def begin(self, name):
		super().begin(name)
		self.db = self.database()
		self.node = self.daemon(self.db, resume_grace_ms=300)

	def worker(self, **more):
		worker = wire.Worker(self.node.socket, ["c.h"], **more)
		self.at_end(worker.close)
		return worker

	def start(self, worker, context=None, **more):
		self.apply(self.node, template("long", [step("a", "c.h", **more)]))
		self.task = self.create(self.node, "long", context)
		return worker.take()

	def stored(self):
		return json.loads(self.db.sql("SELECT checkpoint FROM tasker.steps")[0][0] or "null")

	def over(self, state="complete"):
		self.assertEqual(self.finished(self.node, self.task).state, state)
		self.doctor(self.node)

	def test_stored(self):
		worker = self.worker()
		got = self.start(worker)
		self.assertNotIn("checkpoint", got)
		self.assertEqual(worker.checkpoint(got, 5, items_processed=5, accumulated_results={"n": [1, None]}), "recorded")
		stored = self.stored()
		self.assertEqual({k: stored[k] for k in ("cursor", "items_processed", "accumulated_results", "yields")}, {"cursor": 5, "items_processed": 5, "accumulated_results": {"n": [1, None]}, "yields": 0})
		self.assertEqual(stored["history"], [{"cursor": 5, "timestamp": stored["timestamp"]}])
		worker.finish(got)
		self.over()

	def test_history_is_bounded(self):
		worker = self.worker()
		got = self.start(worker)
		for i in range(13):
			self.assertEqual(worker.checkpoint(got, {"id": i}), "recorded")
		self.assertEqual([h["cursor"]["id"] for h in self.stored()["history"]], list(range(3, 13)))
		self.assertEqual(self.stored()["cursor"], {"id": 12})
		worker.finish(got)
		self.over()

	def test_after_a_failed_attempt(self):
		worker = self.worker()
		got = self.start(worker)
		worker.checkpoint(got, 7, items_processed=7)
		worker.fail(got)
		again = worker.take()
		self.assertEqual((again["attempt"], again["checkpoint"]["cursor"], again["checkpoint"]["items_processed"]), (2, 7, 7))
		worker.finish(again)
		self.over()

	def test_after_a_lost_worker(self):
		worker = self.worker()
		got = self.start(worker)
		worker.checkpoint(got, 7)
		worker.close()
		again = self.worker().take()
		self.assertEqual(again["checkpoint"]["cursor"], 7)

	def test_yield(self):
		"""Given back and sent again as the same attempt, with another claim; attempts are not used up."""
		worker = self.worker()
		got = self.start(worker, attempts=1)
		for cursor in range(1, 6):
			self.assertEqual(worker.checkpoint(got, cursor, items_processed=cursor, **{"yield": True}), "recorded")
			old, got = got, worker.take()
			self.assertEqual((got["attempt"], got["checkpoint"]["cursor"], got["checkpoint"]["yields"]), (1, cursor, cursor))
			self.assertNotEqual(got["claim"], old["claim"])
			self.assertEqual(worker.checkpoint(old, 99), "stale")
		worker.finish(got)
		self.over()
		self.assertEqual(self.db.sql("SELECT outcome, attempt, count(*) FROM tasker.step_attempts GROUP BY 1, 2 ORDER BY 1"), [["success", "1", "1"], ["released", "1", "5"]])

	def test_yield_by_result(self):
		worker = self.worker()
		got = self.start(worker, attempts=1)
		worker.finish(got, {"type": "checkpoint_yield", "cursor": 3, "items_processed": 3, "accumulated_results": {"sum": 6}}, metadata={"checkpoint_yield": True, "batch_worker": True})
		self.assertEqual(worker.ack(got)["status"], "recorded")
		again = worker.take()
		self.assertEqual((again["attempt"], again["checkpoint"]["cursor"], again["checkpoint"]["accumulated_results"]), (1, 3, {"sum": 6}))
		worker.finish(again, {"done": True})
		self.over()

	def test_what_only_looks_like_a_yield(self):
		worker = self.worker()
		for result, metadata in (({"type": "checkpoint_yield", "cursor": 1}, {}), ({"cursor": 1}, {"checkpoint_yield": True}), ({"type": "checkpoint_yield", "cursor": 1}, {"checkpoint_yield": "yes"})):
			worker.finish(self.start(worker), result, metadata=metadata)
			self.over()

	def test_refused_yields(self):
		worker = self.worker()
		for result, why in (({"items_processed": 1}, "cursor"), ({"cursor": 1, "items_processed": -1}, "items_processed"), ({"cursor": 1, "items_processed": "x"}, "items_processed")):
			got = self.start(worker)
			worker.finish(got, {"type": "checkpoint_yield", **result}, metadata={"checkpoint_yield": True})
			ack = worker.ack(got)
			self.assertEqual(ack["status"], "rejected")
			self.assertIn(why, ack["message"])
			self.over("blocked_by_failures")

	def test_size(self):
		"""A large one fits into a step.execute, and large cursors stay out of the history."""
		worker = self.worker()
		got = self.start(worker, context={"x": "x" * (BIG - 100)})
		for more in ({}, {"yield": True}):
			self.assertEqual(worker.refused("step.checkpoint", {**claim(got), "cursor": "x" * BIG, **more}).code, "too_large")
		self.assertIsNone(self.stored())
		for _ in range(3):
			self.assertEqual(worker.checkpoint(got, "x" * (BIG - 1000), **{"yield": True}), "recorded")
			got = worker.take()
			self.assertEqual(len(got["checkpoint"]["cursor"]), BIG - 1000)
		self.assertEqual([list(h) for h in json.loads(self.db.sql("SELECT checkpoint -> 'history' FROM tasker.steps")[0][0])], [["timestamp"]] * 3)
		worker.finish(got)
		self.db.wait_settled()
		self.doctor(self.node)

	def test_of_somebody_else(self):
		worker, other = self.worker(name="one"), self.worker(name="two")
		self.apply(self.node, template("long", [step("a", "c.h")]))
		self.task = self.create(self.node, "long")
		harness.wait_for(lambda: worker.untaken() or other.untaken() or worker.poll() or other.poll(), "the step")
		if not worker.untaken():
			worker, other = other, worker
		got = worker.take()
		self.assertEqual(other.checkpoint(got, 1), "not_claimed")
		self.assertEqual(worker.checkpoint({**got, "claim": os.urandom(16)}, 1), "not_claimed")
		self.assertEqual(worker.checkpoint({**got, "attempt": 2}, 1), "not_claimed")
		self.assertIsNone(self.stored())
		worker.finish(got)
		self.over()

	def test_after_the_end(self):
		worker = self.worker()
		got = self.start(worker)
		self.node.client.cancel_task(self.task)
		worker.cancelled(got)
		self.assertEqual(worker.checkpoint(got, 1), "stale")
		self.assertEqual(worker.checkpoint(got, 1, **{"yield": True}), "stale")
		self.assertIsNone(self.stored())
		worker.finish(got)

	def test_yields_are_no_restarts(self):
		"""A step that has been given back at many checkpoints does not lose an attempt when the daemon is killed."""
		worker = self.worker()
		got = self.start(worker, attempts=1)
		for cursor in range(8):
			worker.checkpoint(got, cursor, **{"yield": True})
			got = worker.take()
		self.node.kill()
		worker.close()
		self.node.start()
		again = self.worker().take()
		self.assertEqual((again["attempt"], again["checkpoint"]["cursor"]), (1, 7))


if __name__ == "__main__":
	unittest.main()

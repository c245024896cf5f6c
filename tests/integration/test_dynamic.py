"""Decisions, convergences and batches with a daemon and workers."""
import unittest

import harness
import wire
from dynflow import NO_BATCHES, NO_BRANCHES, batches, choose
from harness import step, template


def typed(kind, name, *args, batch=None, **more):
	made = {**step(name, *args, **more), "type": kind}
	if batch is not None:
		made["batch_config"] = batch
	return made


def decision(name, outcome, after, **more):
	return typed("decision", name, "d.say", after=after, result=outcome, **more)


def batchable(name, outcome, after=(), **more):
	return typed("batchable", name, "d.say", after=after, result=outcome, **more)


def worker(name, after, batch=None, **more):
	return typed("batch_worker", name, "d.work", after=[after], batch=batch, **more)


def join(name, after, **more):
	return typed("deferred_convergence", name, "d.saw", after=after, **more)


class Limits(harness.Case):
	def test_branches(self):
		db = self.database()
		node = self.daemon(db, max_branches=2)
		self.python_worker(node, module="dynamic.py")
		for n, state in ((2, "complete"), (3, "blocked_by_failures")):
			names = ["b%d" % i for i in range(n)]
			self.apply(node, template("n%d" % n, [step("begin"), decision("route", choose(*names), ["begin"]), *(step(b, after=["route"]) for b in names)]))
			self.assertEqual(self.finished(node, self.create(node, "n%d" % n)).state, state)
		self.doctor(node)


class Dynamic(harness.SharedCase):
	@classmethod
	def prepare(cls, stage):
		stage.db = stage.database()
		stage.node = stage.daemon(stage.db)
		stage.worker = stage.python_worker(stage.node, module="dynamic.py")

	def run_one(self, name, steps, **more):
		self.apply(self.node, template(name, steps))
		return self.finished(self.node, self.create(self.node, name, **more))

	def test_decision(self):
		task = self.run_one("route", [
			step("begin"), decision("route", choose("air"), ["begin"]), step("air", "d.say", after=["route"], result={"hours": 3}), step("sea", "d.say", after=["route"]),
			join("meet", ["air", "sea"]), step("end", "d.saw", after=["meet"])])
		self.assertEqual((task.state, {s.name: s.state for s in task.steps}), ("complete", dict.fromkeys(["begin", "route", "air", "meet", "end"], "complete")))
		self.assertEqual(set(task.step("meet").result["saw"]), {"begin", "route", "air"})

	def test_no_branches(self):
		task = self.run_one("skip", [step("begin"), decision("route", NO_BRANCHES, ["begin"]), step("air", after=["route"])])
		self.assertEqual((task.state, {s.name for s in task.steps}), ("complete", {"begin", "route"}))

	def test_refused_outcome(self):
		task = self.run_one("astray", [step("begin"), decision("route", choose("rail"), ["begin"]), step("air", after=["route"])])
		self.assertEqual((task.state, task.step("route").state, task.step("route").attempts), ("blocked_by_failures", "error", 1))
		self.assertEqual(task.step("route").error, {"message": "the decision names 'rail', which is no step of the template", "error_type": "InvalidDecisionOutcome", "retryable": False})
		self.assertEqual([a["outcome"] for a in self.node.client.get_task_history(task.task_uuid)["attempts"] if a["step"] == "route"], ["invalid_result"])

	def test_the_worker_is_told_why_an_outcome_is_refused(self):
		self.apply(self.node, template("told", [typed("batchable", "split", "w.split"), typed("batch_worker", "weigh", "w.weigh", after=["split"])]))
		worker_by_hand = wire.Worker(self.node.socket, ["w.split"])
		self.addCleanup(worker_by_hand.close)
		task = self.create(self.node, "told")
		given = worker_by_hand.take()
		worker_by_hand.finish(given, {"batch_processing_outcome": {"type": "create_batches", "total_items": -1, "batch_size": 5}})
		ack = worker_by_hand.ack(given)
		self.assertEqual((ack["status"], ack["message"]), ("rejected", self.node.client.get_step(task, "split").error["message"]))
		self.node.client.cancel_task(task)

	def test_batch(self):
		task = self.run_one("batch", [batchable("split", batches(5)), worker("weigh", "split"), join("sum", ["weigh"]), step("end", after=["sum"])])
		self.assertEqual(task.state, "complete")
		self.assertEqual({s.name: s.result["sum"] for s in task.steps if s.name.startswith("weigh")}, {"weigh_%03d" % (i + 1): sum(range(10 * i, 10 * i + 10)) for i in range(5)})
		self.assertEqual(set(task.step("sum").result["saw"]), {"split"} | {"weigh_%03d" % (i + 1) for i in range(5)})
		self.assertEqual(task.step("weigh_003").depends_on, ["split"])
		history = self.node.client.get_task_history(task.task_uuid)
		self.assertEqual(sorted(a["step"] for a in history["attempts"]), sorted(s.name for s in task.steps))

	def test_wide_batch(self):
		"""A thousand workers. What all of them could be given is not sent to each; the one that asks gets it."""
		steps = [batchable("split", batches(1000)), worker("weigh", "split", {"parallelism": 100}), join("sum", ["weigh"]),
		         batchable("again", batches(1), ["sum"]), typed("batch_worker", "ask", "d.asks", after=["again"])]
		task = self.run_one("wide", steps)
		self.assertEqual((task.state, task.total_steps), ("complete", 1004))
		self.assertEqual(sum(s.result["sum"] for s in task.steps if s.name.startswith("weigh_")), sum(range(10000)))
		self.assertEqual(len(task.step("sum").result["saw"]), 1001)
		self.assertEqual(task.step("ask_001").result, {"of": 1000})

	def test_operators_decide(self):
		"""A decision that failed, resolved by hand, takes no branch; completed by hand, it takes the branches of the result it is given."""
		steps = [step("begin"), decision("route", choose("rail"), ["begin"]), step("air", "d.say", after=["route"]), join("meet", ["air"]), step("end", "d.say", after=["begin"])]
		for action, more, there in (("resolve_manually", {}, False), ("complete_manually", {"result": choose("air")}, True)):
			task = self.run_one("by_hand", steps)
			self.assertEqual(task.state, "blocked_by_failures")
			self.node.client.request("step.action", {"task_uuid": task.task_uuid, "step": "route", "action": action, "reason": "test", **more})
			task = self.finished(self.node, task.task_uuid)
			self.assertEqual((task.state, "air" in {s.name for s in task.steps}), ("complete", there))

	def test_nothing_to_do(self):
		task = self.run_one("empty", [batchable("split", NO_BATCHES), worker("weigh", "split"), join("sum", ["weigh"])])
		self.assertEqual((task.state, task.step("weigh_000").result), ("complete", {"step": "weigh_000", "sum": 0, "no_op": True}))

	def test_tolerated_failure(self):
		task = self.run_one("tolerant", [batchable("split", batches(3)), worker("weigh", "split", {"failure_strategy": "continue_on_failure"}, bad=["002"]), join("sum", ["weigh"])])
		self.assertEqual((task.state, task.step("weigh_002").state), ("complete", "error"))
		self.assertEqual(task.step("sum").result["saw"]["weigh_002"]["error"]["message"], "cannot weigh 002")

	def test_fail_fast(self):
		"""Workers of the batch that run are told to stop."""
		self.apply(self.node, template("hasty", [
			batchable("split", batches(3)), worker("weigh", "split", {"failure_strategy": "fail_fast"}, bad=["002"], slow=["001", "003"], gate="never"), join("sum", ["weigh"])]))
		task = self.finished(self.node, self.create(self.node, "hasty"))
		self.assertEqual((task.state, {s.name: s.state for s in task.steps}), ("blocked_by_failures", {
			"split": "complete", "weigh_001": "cancelled", "weigh_002": "error", "weigh_003": "cancelled", "sum": "pending"}))


if __name__ == "__main__":
	unittest.main()

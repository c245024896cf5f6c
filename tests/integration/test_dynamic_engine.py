"""Decisions, convergences and batches in the engine's SQL functions. The doctor looks after every call."""
import os
import random
import sys
import threading
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import engine  # noqa: E402
import pg  # noqa: E402
from dynflow import NO_BATCHES, NO_BRANCHES, Flow, S, batches, choose  # noqa: E402

BRANCHES = [S("begin"), S("route", "decision", ["begin"]), S("air", "standard", ["route"]), S("sea", "standard", ["route"]), S("customs", "standard", ["sea"]),
            S("meet", "deferred_convergence", ["air", "customs"]), S("end", "standard", ["meet"])]
BATCH = [S("split", "batchable"), S("weigh", "batch_worker", ["split"]), S("sum", "deferred_convergence", ["weigh"]), S("end", "standard", ["sum"])]


def with_batch(**config):
	return [s._replace(batch=config, attempts=config.get("attempts", 1)) if s.type == "batch_worker" else s for s in BATCH]


class Decisions(unittest.TestCase):
	def play(self, steps, results, **more):
		flow = Flow(self, steps)
		task = flow.create()
		flow.run(results, **more)
		return flow, task

	def test_one_branch(self):
		flow, task = self.play(BRANCHES, {"route": choose("air")})
		self.assertEqual(flow.state(task), "complete")
		self.assertEqual(set(flow.states(task)), {"begin", "route", "air", "meet", "end"})
		self.assertEqual(flow.impossible(task), {"sea", "customs"})

	def test_all_branches(self):
		flow, task = self.play(BRANCHES, {"route": choose("sea", "air", "sea")})
		self.assertEqual(set(flow.states(task).values()), {"complete"})
		self.assertEqual(len(flow.states(task)), 7)

	def test_no_branches(self):
		flow, task = self.play(BRANCHES, {"route": NO_BRANCHES})
		self.assertEqual(flow.state(task), "complete")
		self.assertEqual(set(flow.states(task)), {"begin", "route"})

	def test_steps_appear_with_the_decision(self):
		flow = Flow(self, BRANCHES)
		task = flow.create()
		self.assertEqual(set(flow.states(task)), {"begin", "route"})
		flow.run({"route": choose("sea")}, stop={"sea"})
		self.assertEqual(flow.states(task), {"begin": "complete", "route": "complete", "sea": "in_progress", "customs": "pending", "meet": "pending", "end": "pending"})

	def test_convergence_sees_what_was_taken(self):
		seen = {}
		self.play(BRANCHES, {"route": choose("air"), "air": {"hours": 3}, "meet": lambda name, c: seen.update(c.deps) or {}})
		self.assertEqual(sorted(seen), ["0", "1", "2"])

	def test_a_convergence_may_be_named(self):
		steps = BRANCHES[:5] + [S("meet", "deferred_convergence", ["route", "air", "customs"]), S("end", "standard", ["meet"])]
		for names in (["air", "meet"], ["meet"]):
			flow, task = self.play(steps, {"route": choose(*names)})
			self.assertEqual(flow.state(task), "complete")
			self.assertEqual(flow.states(task)["end"], "complete")

	def test_step_outside_that_a_branch_step_needs(self):
		"""Named: what it waits for besides the decision is waited for."""
		steps = [S("begin"), S("slow"), S("route", "decision", ["begin"]), S("air", "standard", ["route", "slow"]), S("end", "deferred_convergence", ["air"])]
		flow = Flow(self, steps)
		task = flow.create()
		flow.run({"route": choose("air")}, stop={"slow"})
		self.assertEqual(flow.states(task)["air"], "pending")
		flow.run()
		self.assertEqual(flow.state(task), "complete")

	def test_named_step_loses_impossible_parents(self):
		steps = [S("begin"), S("first", "decision", ["begin"]), S("x", "standard", ["first"]), S("second", "decision", ["begin"]), S("y", "standard", ["second", "x"])]
		for order in ((lambda cs: sorted(cs)), (lambda cs: sorted(cs, reverse=True))):
			flow, task = self.play(steps, {"first": NO_BRANCHES, "second": choose("y")}, order=order, chunk=1)
			self.assertEqual(flow.state(task), "complete")
			self.assertEqual(flow.states(task)["y"], "complete")

	def test_nested(self):
		steps = [S("a"), S("d1", "decision", ["a"]), S("b", "standard", ["d1"]), S("d2", "decision", ["b"]), S("c", "standard", ["d2"]), S("e", "standard", ["d2"]),
		         S("f", "standard", ["d1"]), S("meet", "deferred_convergence", ["c", "e", "f"]), S("z", "standard", ["meet"])]
		flow, task = self.play(steps, {"d1": choose("b", "f"), "d2": choose("e")})
		self.assertEqual(flow.state(task), "complete")
		self.assertEqual(flow.impossible(task), {"c"})
		flow, task = self.play(steps, {"d1": choose("f"), "d2": choose("e")})
		self.assertEqual(flow.state(task), "complete")
		self.assertEqual(flow.impossible(task), {"b", "d2", "c", "e"})

	def test_convergence_waits_for_what_may_come(self):
		"""f is done, but d2 may still make c or e."""
		steps = [S("a"), S("d1", "decision", ["a"]), S("d2", "decision", ["d1"]), S("c", "standard", ["d2"]), S("f", "standard", ["d1"]),
		         S("meet", "deferred_convergence", ["c", "f"])]
		flow = Flow(self, steps)
		task = flow.create()
		flow.run({"d1": choose("d2", "f")}, stop={"d2"})
		self.assertEqual(flow.states(task)["meet"], "pending")
		flow.run({"d2": NO_BRANCHES})
		self.assertEqual(flow.state(task), "complete")
		self.assertEqual(flow.states(task)["meet"], "complete")

	def test_two_decisions_over_one_step(self):
		steps = [S("a"), S("d1", "decision", ["a"]), S("d2", "decision", ["a"]), S("x", "standard", ["d1", "d2"]), S("z", "deferred_convergence", ["x", "a"])]
		for first, second, there in ((choose("x"), NO_BRANCHES, True), (NO_BRANCHES, choose("x"), True), (NO_BRANCHES, NO_BRANCHES, False)):
			for chunk in (1, 10):
				flow, task = self.play(steps, {"d1": first, "d2": second}, chunk=chunk)
				self.assertEqual(flow.state(task), "complete")
				self.assertEqual("x" in flow.states(task), there)
				self.assertEqual(flow.states(task)["z"], "complete")
		flow, task = self.play(steps, {"d1": choose("x"), "d2": choose("x")}, chunk=1)
		self.assertEqual(flow.state(task), "blocked_by_failures")
		self.assertEqual(flow.error(task, "d2")["message"], "the decision names 'x', which exists already")

	def test_failed_decision_leaves_its_branches_possible(self):
		flow, task = self.play(BRANCHES, {"route": ValueError("no")})
		self.assertEqual(flow.state(task), "blocked_by_failures")
		self.assertEqual(flow.impossible(task), set())
		self.assertEqual(set(flow.states(task)), {"begin", "route"})

	def test_a_decision_may_be_tried_again(self):
		steps = [s._replace(attempts=3) for s in BRANCHES]
		flow, task = self.play(steps, {"route": lambda name, c: choose("air") if c.attempt == 3 else ("retry",)})
		self.assertEqual(flow.state(task), "complete")

	def test_other_branches_go_on_while_one_fails(self):
		flow, task = self.play(BRANCHES, {"route": choose("air", "sea"), "air": ValueError("x")})
		self.assertEqual(flow.state(task), "blocked_by_failures")
		self.assertEqual(flow.states(task)["customs"], "complete")
		self.assertEqual(flow.states(task)["meet"], "pending")

	def test_refusals(self):
		steps = BRANCHES + [S("far", "standard", ["end"]), S("b", "batchable", ["begin"]), S("w", "batch_worker", ["b", "route"])]
		cases = {
			"the result of a decision needs a decision_point_outcome at its top level": [{}, None, [], 7, {"result": choose("air")}, {"decision_point_outcome": None} and {}],
			"decision_point_outcome.type is missing, expected create_steps or no_branches": [{"decision_point_outcome": {}}, {"decision_point_outcome": []}],
			'decision_point_outcome.type is "skip", expected create_steps or no_branches': [{"decision_point_outcome": {"type": "skip"}}],
			"decision_point_outcome.step_names must be an array of step names": [
				{"decision_point_outcome": {"type": "create_steps"}}, {"decision_point_outcome": {"type": "create_steps", "step_names": "air"}}, choose("air", 7), choose(None)],
			"the decision names 'rail', which is no step of the template": [choose("air", "rail")],
			"the decision names 'far', which does not depend on it": [choose("far")],
			"the decision names 'route', which does not depend on it": [choose("route")],
			"the decision names 'customs', which does not depend on it": [choose("customs")],
			"the decision names 'w', which is a batch_worker: its batchable makes it": [choose("w")],
			"decision_point_outcome.step_names has 101 names, at most 100 are allowed": [choose(*["air"] * 101)],
		}
		flow = Flow(self, steps)
		for message, results in cases.items():
			for result in results:
				with self.subTest(result):
					task = flow.create()
					flow.run({"route": result, "b": NO_BATCHES}, doctor=False)
					error = flow.error(task, "route")
					self.assertEqual(error.pop("error_code", None), "dependency_cycle" if "'route'" in message else None)
					self.assertEqual(error, {"message": message, "error_type": "InvalidDecisionOutcome", "retryable": False})
					self.assertEqual(flow.states(task), {"begin": "complete", "route": "error", "b": "complete", "w_000": "pending"})
					self.assertEqual(flow.state(task), "blocked_by_failures")
		flow.doctor()

	def test_depth(self):
		steps = [S("s0")]
		for i in range(1, 22):
			steps.append(S("d%d" % i, "decision", [steps[-1].name]))
		steps.append(S("last", "standard", ["d21"]))
		results = {"d%d" % i: choose("d%d" % (i + 1)) for i in range(1, 21)}
		flow, task = self.play(steps, {**results, "d21": choose("last")}, doctor=False)
		self.assertEqual(flow.error(task, "d21")["message"], "this decision is number 21 of decisions after each other, at most 20 are allowed")
		flow, task = self.play(steps, {**results, "d20": NO_BRANCHES}, doctor=False)
		self.assertEqual(flow.state(task), "complete")
		flow.doctor()


def few_words(**said):
	return {"batch_processing_outcome": {"type": "create_batches", **said}}


class Batches(unittest.TestCase):
	def play(self, steps, results, **more):
		flow = Flow(self, steps)
		task = flow.create()
		flow.run(results, **more)
		return flow, task

	def test_batch(self):
		seen = {}
		flow, task = self.play(BATCH, {"split": batches(3), "weigh_*": lambda name, c: {"from": c.inputs["cursor"]["start_cursor"]}, "sum": lambda name, c: seen.update(c.deps) or {}})
		self.assertEqual(flow.state(task), "complete")
		self.assertEqual({k: v for k, v in seen.items() if k.startswith("weigh")}, {"weigh_001": {"from": 0}, "weigh_002": {"from": 10}, "weigh_003": {"from": 20}})
		self.assertEqual({n: ran for (_, n), ran in flow.ran.items()}, dict.fromkeys(["split", "weigh_001", "weigh_002", "weigh_003", "sum", "end"], 1))

	def test_created_with_the_task(self):
		flow = Flow(self, BATCH)
		self.assertEqual(flow.states(flow.create()), {"split": "in_progress", "sum": "pending", "end": "pending"})
		flow.doctor()

	def test_nothing_to_do(self):
		seen = []
		for result in (NO_BATCHES, batches(0)):
			flow, task = self.play(BATCH, {"split": result, "weigh_*": lambda name, c: seen.append(c.inputs) or {}})
			self.assertEqual(flow.state(task), "complete")
			self.assertIn("weigh_000", flow.states(task))
		self.assertEqual([(i["is_no_op"], i["cursor"]) for i in seen], [(True, {"batch_id": "000", "start_cursor": 0, "end_cursor": 0, "batch_size": 0})] * 2)

	def test_inputs(self):
		steps = [S("split", "batchable", batch={"cursor_field": "line", "batch_size": 7}), S("weigh", "batch_worker", ["split"], init={"depot": "north"}, batch={"batch_size": 10, "parallelism": 4}),
		         S("sum", "deferred_convergence", ["weigh"])]
		seen = []
		self.play(steps, {"split": {**batches(1), "batch_metadata": {"file": "x.csv"}}, "weigh_*": lambda name, c: seen.append(c.inputs) or {}})
		self.assertEqual(seen, [{
			"depot": "north", "is_no_op": False, "template_step_name": "weigh", "__template_step_name": "weigh", "cursor": {"batch_id": "001", "start_cursor": 0, "end_cursor": 10, "batch_size": 10},
			"batch_metadata": {"file": "x.csv", "cursor_field": "line", "batch_size": 10, "parallelism": 4, "failure_strategy": "isolate", "total_batches": 1}}])

	def test_lenient(self):
		"""Ids and sizes that handlers leave out."""
		configs = [{"start_cursor": 0, "end_cursor": 5}, {"batch_id": 7, "start_cursor": 5, "end_cursor": 5}, {"batch_id": None, "start_cursor": {"id": "k"}, "end_cursor": None}]
		seen = {}
		flow, task = self.play(BATCH, {"split": {"batch_processing_outcome": {"type": "create_batches", "cursor_configs": configs}}, "weigh_*": lambda name, c: seen.update({name: c.inputs["cursor"]}) or {}})
		self.assertEqual(seen, {"weigh_001": {"batch_id": "001", "start_cursor": 0, "end_cursor": 5, "batch_size": 5}, "weigh_7": {"batch_id": "7", "start_cursor": 5, "end_cursor": 5, "batch_size": 0},
		                        "weigh_003": {"batch_id": "003", "start_cursor": {"id": "k"}, "end_cursor": None}})
		self.assertEqual(flow.state(task), "complete")

	def test_where_the_worker_is_named(self):
		two = [S("weigh", "batch_worker", ["split"]), S("count", "batch_worker", ["split"]), S("sum", "deferred_convergence", ["weigh", "count"]), S("end", "standard", ["sum"])]
		for split, result in ((S("split", "batchable"), batches(2, "count")), (S("split", "batchable", batch={"worker_template": "count"}), batches(2)),
		                      (S("split", "batchable", init={"worker_template_name": "count"}), batches(2))):
			flow, task = self.play([split] + two, {"split": result})
			self.assertEqual(flow.state(task), "complete")
			self.assertEqual(set(flow.states(task)), {"split", "count_001", "count_002", "sum", "end"})
			self.assertEqual(flow.impossible(task), {"weigh"})

	def test_plain_step_after_a_batch(self):
		steps = [S("split", "batchable"), S("weigh", "batch_worker", ["split"]), S("report", "standard", ["weigh"]), S("mail", "standard", ["report", "split"])]
		flow = Flow(self, steps)
		task = flow.create()
		flow.run({"split": batches(4)}, stop={"weigh_003"})
		self.assertEqual(flow.states(task)["report"], "pending")
		flow.run()
		self.assertEqual(flow.state(task), "complete")

	def test_batch_before_and_after_a_decision(self):
		steps = [S("split", "batchable"), S("weigh", "batch_worker", ["split"]), S("sum", "deferred_convergence", ["weigh"]), S("route", "decision", ["sum"]), S("air", "batchable", ["route"]),
		         S("fly", "batch_worker", ["air"]), S("land", "standard", ["fly"]), S("sea", "standard", ["route"]), S("meet", "deferred_convergence", ["land", "sea"]), S("end", "standard", ["meet"])]
		for names, there in ((["air"], True), (["sea"], False), (["air", "sea"], True)):
			flow, task = self.play(steps, {"split": batches(2), "route": choose(*names), "air": batches(3)})
			self.assertEqual(flow.state(task), "complete", flow.states(task))
			self.assertEqual("fly_003" in flow.states(task), there)
			self.assertEqual(flow.impossible(task), set() if len(names) == 2 else {"sea"} if there else {"air", "fly", "land"})

	def test_batch_of_a_batch(self):
		steps = [S("a", "batchable"), S("w", "batch_worker", ["a"]), S("b", "batchable", ["w"]), S("v", "batch_worker", ["b", "w"]), S("end", "standard", ["v", "w"])]
		flow, task = self.play(steps, {"a": batches(3), "b": batches(2)}, chunk=1)
		self.assertEqual(flow.state(task), "complete")

	def test_refusals(self):
		steps = BATCH + [S("other", "batchable"), S("else", "batch_worker", ["other"])]

		def configs(*ranges, **more):
			cs = [{"batch_id": i, "start_cursor": a, "end_cursor": b} for i, a, b in ranges]
			return {"batch_processing_outcome": {"type": "create_batches", "worker_count": len(cs), "cursor_configs": cs, **more}}
		cases = {
			"the result of a batchable step needs a batch_processing_outcome at its top level": [{}, None, "x", {"batch_analyzer_outcome": {}}],
			'batch_processing_outcome.type is 3, expected create_batches or no_batches': [{"batch_processing_outcome": {"type": 3}}],
			"batch_processing_outcome.cursor_configs must be an array": [few_words(cursor_configs={})],
			"batch_processing_outcome.cursor_bounds must be an array": [few_words(cursor_bounds=7)],
			"batch_processing_outcome needs cursor_configs or cursor_bounds (arrays), or total_items (a whole number) with batch_size or worker_count": [
				few_words(), few_words(total_items="7", batch_size=2), few_words(total_items=-1, batch_size=2), few_words(total_items=0.5, batch_size=1), few_words(worker_count=3),
				few_words(total_items=1e30, batch_size=1e25), few_words(cursor_configs=None, cursor_bounds=None)],
			"batch_size is missing, expected a whole number from 1, or worker_count": [few_words(total_items=7), few_words(total_items=7, worker_count=0)],
			"batch_size is 0, expected a whole number from 1, or worker_count": [few_words(total_items=7, batch_size=0, worker_count=2)],
			"batch_size is 1.5, expected a whole number from 1, or worker_count": [few_words(total_items=7, batch_size=1.5)],
			"worker_count is 3, but there are 1 cursors": [configs(("a", 0, 1), worker_count=3), few_words(cursor_bounds=[1, 2], worker_count=3), few_words(total_items=5, batch_size=5, worker_count=3)],
			'worker_count is "1", but there are 1 cursors': [configs(("a", 0, 1), worker_count="1")],
			"100000000000 workers, at most 100000 are allowed": [few_words(total_items=10 ** 11, batch_size=1), few_words(total_items=10 ** 11, worker_count=10 ** 11)],
			"batches '001' (3 to 9) and '004' (5 to 6) overlap": [few_words(cursor_bounds=[3, 9, "x", 5, 6])],
			"worker template 'nobody' is no step of the template": [batches(1, "nobody")],
			"worker template 'sum' is a step of type deferred_convergence, not batch_worker": [batches(1, "sum")],
			"worker template 'else' does not depend on this step": [batches(1, "else")],
			"cursor_configs[1] is not a map": [{"batch_processing_outcome": {"type": "create_batches", "cursor_configs": [{}, 7]}}],
			'cursor_configs[0].batch_id is "a b", expected 1 to 64 letters, digits, _ or -': [configs(("a b", 0, 1))],
			'cursor_configs[0].batch_id is "", expected 1 to 64 letters, digits, _ or -': [configs(("", 0, 1))],
			"cursor_configs[0].batch_id is 'a', which another has too": [configs(("a", 0, 1), ("a", 1, 2))],
			"batch 'b' begins at 7 and ends before that, at 5": [configs(("a", 0, 5), ("b", 7, 5))],
			"batches 'b' (0 to 6) and 'a' (5 to 9) overlap": [configs(("a", 5, 9), ("b", 0, 6)), configs(("a", 5, 9), ("c", 5, 5), ("b", 0, 6))],
			"100001 workers, at most 100000 are allowed": [batches(100001)],
		}
		flow = Flow(self, steps)
		for message, results in cases.items():
			for result in results:
				with self.subTest(message):
					task = flow.create()
					flow.run({"split": result, "other": NO_BATCHES}, doctor=False)
					self.assertEqual(flow.error(task, "split"), {"message": message, "error_type": "InvalidBatchOutcome", "retryable": False})
					self.assertEqual(flow.states(task), {"split": "error", "sum": "pending", "end": "pending", "other": "complete", "else_000": "complete"})
					self.assertEqual(flow.state(task), "blocked_by_failures")
		flow.doctor()

	def test_many_in_few_words(self):
		ends = [0, 3, 6, 9, 10]
		for said, expected in (
				({"total_items": 10, "batch_size": 3}, ends), ({"total_items": 10, "batch_size": 3, "worker_count": 4}, ends), ({"total_items": 10, "worker_count": 4}, ends),
				({"total_items": 10}, [0, 7, 10]), ({"total_items": 10.0, "batch_size": 2e9}, [0, 10]), ({"total_items": 2, "worker_count": 5}, [0, 1, 2]),
				({"cursor_bounds": ends, "total_items": 99}, ends), ({"cursor_bounds": ["a", None, {"k": 1}], "worker_count": 2}, ["a", None, {"k": 1}])):
			cursors = {}

			def note(name, claim):
				cursors[name] = claim.inputs["cursor"]
				return {}
			steps = [S("split", "batchable", (), None, {"batch_size": 7}), S("w", "batch_worker", ["split"]), S("sum", "deferred_convergence", ["w"])]
			flow, task = self.play(steps, {"split": few_words(**said), "w_*": note})
			self.assertEqual([cursors["w_%03d" % n] for n in range(1, len(expected))], [
				{"batch_id": "%03d" % n, "start_cursor": a, "end_cursor": b, **({"batch_size": b - a} if isinstance(b, int) else {})}
				for n, (a, b) in enumerate(zip(expected, expected[1:]), 1)], said)
			self.assertEqual(flow.state(task), "complete")
		for said in ({"total_items": 0, "batch_size": 3}, {"total_items": 0, "worker_count": 3}, {"cursor_bounds": []}, {"cursor_bounds": [1]}, {"cursor_configs": []}):
			flow, task = self.play(steps, {"split": few_words(**said)})
			self.assertEqual(set(flow.states(task)), {"split", "w_000", "sum"}, said)

	def test_ambiguous_worker(self):
		steps = [S("split", "batchable"), S("weigh", "batch_worker", ["split"]), S("count", "batch_worker", ["split"])]
		flow, task = self.play(steps, {"split": batches(2)})
		self.assertEqual(flow.error(task, "split")["message"], "several batch_worker steps depend on this step: worker_template_name must name one")
		flow, task = self.play(steps, {"split": NO_BATCHES})
		self.assertEqual(set(flow.states(task)), {"split", "weigh_000", "count_000"})
		self.assertEqual(flow.state(task), "complete")

	def test_two_batchables_of_one_worker(self):
		steps = [S("a", "batchable"), S("b", "batchable"), S("w", "batch_worker", ["a", "b"])]
		flow, task = self.play(steps, {"a": batches(2), "b": batches(2)}, chunk=1)
		self.assertEqual(flow.error(task, "b")["message"], "worker template 'w' has its workers already")

	def test_too_many_for_the_numbers(self):
		steps = [S("split", "batchable"), S("weigh", "batch_worker", ["split"])] + [S("x%d" % i) for i in range(998)]
		flow, task = self.play(steps, {"split": batches(20000)}, doctor=False)
		self.assertEqual(flow.error(task, "split")["message"], "20000 workers are too many for a template of 1000 steps")


class Parallelism(unittest.TestCase):
	def running(self, flow, task):
		return sum(1 for n, s in flow.states(task).items() if n.startswith("weigh_") and s in ("enqueued", "in_progress", "waiting_for_retry"))

	def test_never_more(self):
		for strategy in ("isolate", "continue_on_failure"):
			flow = Flow(self, with_batch(parallelism=3, attempts=2, failure_strategy=strategy))
			task = flow.create()
			rng, most = random.Random(7), []

			def result(name, c):
				most.append(self.running(flow, task))
				return rng.choice([{}, {}, ("retry",), ValueError("x")])
			flow.run({"split": batches(20), "weigh_*": result}, order=lambda cs: rng.sample(cs, len(cs)), chunk=2)
			self.assertEqual(max(most), 3)
			states = [s for n, s in flow.states(task).items() if n.startswith("weigh_")]
			self.assertEqual(set(states), {"complete", "error"})
			self.assertEqual(flow.state(task), "complete" if strategy == "continue_on_failure" else "blocked_by_failures")

	def test_more_than_workers(self):
		flow = Flow(self, with_batch(parallelism=50))
		task = flow.create()
		flow.run({"split": batches(5)})
		self.assertEqual(flow.state(task), "complete")

	def test_lost_node(self):
		"""Steps taken back from a dead node leave their places at the gate as they were."""
		flow = Flow(self, with_batch(parallelism=2, attempts=1))
		task = flow.create()
		flow.run({"split": batches(6)}, stop={"weigh_001", "weigh_002"})
		flow.e.run("UPDATE tasker.nodes SET lease_until = now() - interval '1 hour'")
		flow.open.clear()
		dead = flow.node
		flow.node = type(dead)("m", *flow.e.register("m"))
		flow.hot("reclaim(%d, false, 1000)" % flow.node.no)
		flow.doctor()
		flow.run()
		states = flow.states(task)
		self.assertEqual([states["weigh_00%d" % i] for i in range(1, 7)], ["error"] * 2 + ["complete"] * 4)
		self.assertEqual(flow.state(task), "blocked_by_failures")


class Strategies(unittest.TestCase):
	def test_isolate(self):
		flow = Flow(self, BATCH)
		task = flow.create()
		flow.run({"split": batches(4), "weigh_002": ValueError("x")}, chunk=1)
		self.assertEqual(flow.states(task), {"split": "complete", "weigh_001": "complete", "weigh_002": "error", "weigh_003": "complete", "weigh_004": "complete", "sum": "pending", "end": "pending"})
		self.assertEqual(flow.state(task), "blocked_by_failures")

	def test_continue_on_failure(self):
		for chunk in (1, 100):
			seen = {}
			flow = Flow(self, with_batch(failure_strategy="continue_on_failure"))
			task = flow.create()
			flow.run({"split": batches(3), "weigh_002": ValueError("x"), "sum": lambda name, c: seen.update(c.deps) or {}}, chunk=chunk)
			self.assertEqual(flow.state(task), "complete")
			self.assertEqual(flow.states(task)["weigh_002"], "error")
			self.assertEqual(seen["weigh_002"], {"error": {"message": "x"}})
			self.assertEqual(seen["weigh_001"], {})

	def test_all_fail_but_are_tolerated(self):
		steps = [S("split", "batchable"), S("weigh", "batch_worker", ["split"], batch={"failure_strategy": "continue_on_failure", "parallelism": 2})]
		flow = Flow(self, steps)
		task = flow.create()
		flow.run({"split": batches(5), "weigh_*": ValueError("x")})
		self.assertEqual(flow.state(task), "complete")
		self.assertEqual(flow.settled, [(task, "complete")])

	def test_fail_fast(self):
		flow = Flow(self, with_batch(failure_strategy="fail_fast", parallelism=3, attempts=2))
		task = flow.create()
		flow.run({"split": batches(6)}, stop={"weigh_00%d" % i for i in range(1, 7)})
		claims = {flow.name(c.task, c.step): c for c in flow.open.values()}
		flow.record([(claims["weigh_003"], ("retry",))], credits=0)
		flow.record([(claims["weigh_001"], {})], credits=0)
		self.assertEqual(flow.states(task)["weigh_004"], "enqueued")
		flow.record([(claims["weigh_002"], ValueError("x"))], credits=0)
		self.assertEqual(flow.states(task), {"split": "complete", "weigh_001": "complete", "weigh_002": "error", "weigh_003": "cancelled", "weigh_004": "cancelled", "weigh_005": "cancelled",
		                                     "weigh_006": "cancelled", "sum": "pending", "end": "pending"})
		self.assertEqual(flow.state(task), "blocked_by_failures")
		flow.doctor()
		flow.run()
		self.assertEqual(flow.state(task), "blocked_by_failures")

	def test_fail_fast_stops_what_runs(self):
		flow = Flow(self, with_batch(failure_strategy="fail_fast"))
		task = flow.create()
		flow.run({"split": batches(3)}, stop={"weigh_001", "weigh_002", "weigh_003"})
		claims = {flow.name(c.task, c.step): c for c in flow.open.values()}
		flow.record([(claims["weigh_002"], ValueError("x"))])
		self.assertEqual(sorted(flow.x), [(task, claims["weigh_001"].step), (task, claims["weigh_003"].step)])
		self.assertEqual(flow.record([(claims["weigh_001"], {})]), ["stale"])
		self.assertEqual(flow.states(task)["weigh_001"], "cancelled")
		flow.doctor()

	def test_fail_fast_while_another_is_being_claimed(self):
		"""The claim commits while the failure waits for it: what was claimed is cancelled all the same, and its result stale."""
		flow = Flow(self, with_batch(failure_strategy="fail_fast", attempts=3))
		task = flow.create()
		flow.run({"split": batches(2)}, stop={"weigh_001", "weigh_002"})
		claims = {flow.name(c.task, c.step): c for c in flow.open.values()}
		flow.record([(claims["weigh_002"], ("retry",))], credits=0)
		other = engine.Engine(flow.e.value("SELECT current_database()"))
		self.addCleanup(other.close)
		other.seq = 5000
		other.run("BEGIN")
		claimed = other.claim(flow.node, {flow.handler: 1}, 1)
		failing = threading.Thread(target=flow.record, args=([(claims["weigh_001"], ValueError("x"))], 0))
		failing.start()
		pg.wait_for(lambda: other.value("SELECT count(*) FROM pg_locks WHERE NOT granted") != "0", "the failure to wait for the claim")
		other.run("COMMIT")
		failing.join()
		self.assertEqual(flow.states(task)["weigh_002"], "cancelled")
		claim = next(r for r in claimed if r.kind == "c")
		self.assertEqual(flow.record([(claims["weigh_002"]._replace(fence=claim.fence), {})]), ["stale"])
		flow.doctor()


def random_steps(rng):
	"""A template with everything in it; parents come first."""
	steps = [S("s0")]
	workers = []
	for n in range(1, rng.randint(4, 16)):
		kind = rng.choice(["standard", "standard", "standard", "decision", "decision", "deferred_convergence", "deferred_convergence", "batchable"])
		parents = sorted({s.name for s in rng.choices(steps, k=rng.choice([1, 1, 2, 3]))})
		steps.append(S("s%d" % n, kind, parents))
		if kind == "batchable":
			for k in range(rng.choice([1, 1, 2])):
				more = [rng.choice(steps).name] if rng.random() < 0.2 else []
				steps.append(S("w%d%d" % (n, k), "batch_worker", sorted({"s%d" % n, *more}),
				               batch={"failure_strategy": rng.choice(["isolate", "continue_on_failure"]), "parallelism": rng.choice([None, 1, 2, 5])}))
	return steps


class Random(unittest.TestCase):
	def test_random_workflows(self):
		"""All handlers succeed, so every task completes; nothing runs twice, nothing early, whatever the order."""
		for seed in range(int(os.environ.get("TASKERD_TEST_SEEDS", "25"))):
			rng = random.Random(seed)
			steps = random_steps(rng)
			kinds = {s.name: s.type for s in steps}
			flow = Flow(self, steps)
			for _ in range(3):
				with self.subTest(seed=seed):
					task = flow.create(credits=rng.choice([0, 1, 1000]))

					def result(name, c):
						kind = kinds.get(name)
						if kind == "decision":
							there = flow.states(task)
							free = [s.name for s in steps if name in s.parents and s.type != "batch_worker" and s.name not in there]
							return choose(*rng.sample(free, rng.randint(1, len(free)))) if free and rng.random() < 0.8 else NO_BRANCHES
						if kind == "batchable":
							mine = [s.name for s in steps if name in s.parents and s.type == "batch_worker" and not any(x.startswith(s.name + "_") for x in flow.states(task))]
							mine = [m for m in mine if next(p for p in next(s for s in steps if s.name == m).parents if kinds[p] == "batchable") == name] or mine
							return batches(rng.randint(1, 5), rng.choice(mine)) if rng.random() < 0.8 else NO_BATCHES
						if kind is None and rng.random() < 0.2:
							strategy = next(s for s in steps if s.name == name.rpartition("_")[0]).batch["failure_strategy"]
							return ValueError("x") if strategy == "continue_on_failure" else ("retry",) if c.attempt < 1 else {}
						return {}
					flow.run({s.name: result for s in steps} | {s.name + "_*": result for s in steps}, order=lambda cs: rng.sample(cs, len(cs)), chunk=1, doctor=rng.random() < 0.3,
					         credits=rng.choice([0, 1, 1000]))
					self.assertEqual(flow.state(task), "complete", (seed, steps, flow.states(task)))
					flow.doctor()
			self.assertEqual({k: n for k, n in flow.ran.items() if n != 1}, {})
			self.doCleanups()


if __name__ == "__main__":
	unittest.main()

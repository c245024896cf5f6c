"""The engine's SQL functions, driven directly, against the transition tables of daemon/core and a naive model.

Random workflows are run through create_tasks, claim, record_results, reclaim, adopt_claims, cancel_task and what operators do (episode.py); the database must agree
with a naive model (naive.py), and every change of a state must be in the C tables.

Needs TASKERD_BUILD, the build directory. TASKERD_SEED replays one random run.
"""
import os
import sys
import unittest
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import engine  # noqa: E402
from engine import HOUR_MS, Engine, Item, Node  # noqa: E402
from episode import Episode  # noqa: E402
from pg import lit  # noqa: E402

EPISODES = 10  # random runs, each in a database of its own


class RandomWorkflows(unittest.TestCase):
	WANTED = {
		("task", "steps_in_process", "complete"), ("task", "steps_in_process", "waiting_for_retry"), ("task", "steps_in_process", "blocked_by_failures"),
		("task", "waiting_for_retry", "steps_in_process"), ("task", "steps_in_process", "cancelled"),
		("task", "blocked_by_failures", "cancelled"), ("step", "pending", "enqueued"), ("step", "pending", "in_progress"), ("step", "pending", "cancelled"),
		("step", "enqueued", "in_progress"), ("step", "enqueued", "cancelled"), ("step", "in_progress", "complete"), ("step", "in_progress", "error"),
		("step", "in_progress", "enqueued"), ("step", "in_progress", "waiting_for_retry"), ("step", "in_progress", "cancelled"),
		("step", "waiting_for_retry", "in_progress"), ("step", "error", "cancelled"),
		("task", "blocked_by_failures", "steps_in_process"), ("task", "blocked_by_failures", "resolved_manually"), ("task", "blocked_by_failures", "complete"),
		("step", "error", "enqueued"), ("step", "error", "resolved_manually"), ("step", "enqueued", "pending"), ("step", "enqueued", "resolved_manually"),
		("step", "in_progress", "resolved_manually")}

	def test_database_agrees_with_the_model(self):
		engine.tables()
		asked = os.environ.get("TASKERD_SEED")
		moves, births = set(), set()
		for seed in [int(asked)] if asked else range(1, 3 * EPISODES + 1):
			if seed > EPISODES and not asked and not self.WANTED - moves:
				break  # a rare move comes sooner or later: whose queue a claim reads first is the database's choice
			with self.subTest(TASKERD_SEED=seed):
				db = "episode%d" % seed
				engine.new_database(db)
				episode = Episode(self, db, seed)
				try:
					episode.run()
				finally:
					moves |= {tuple(r) for r in episode.engine.run("SELECT DISTINCT * FROM probe.moves")}
					births |= {tuple(r) for r in episode.engine.run("SELECT DISTINCT * FROM probe.births")}
					episode.engine.close()
				engine.cluster().dropdb(db)
		self.check_transitions(moves, births)
		if not asked:
			self.check_coverage(moves, births)

	def test_what_is_done_by_hand_is_in_the_tables(self):
		"""Every transition that an action can bring about, the rare ones too."""
		name = engine.new_database("by_hand")
		self.addCleanup(engine.cluster().dropdb, name)
		e = Engine(name)
		self.addCleanup(e.close)
		steps = [{"no": n, "callable": "c", "parents": [n - 1] if n else [], "retryable": True, "max_attempts": 3} for n in range(2)]
		e.run("SELECT tasker.register_template(%s)" % lit(engine.template_json("t", steps, "always_unique")))
		node, handler = Node("n", *e.register("n")), int(e.value("SELECT handler_id FROM tasker.handlers"))

		def task(end=None):
			"""A task whose first step is enqueued, or has ended so: "run", "wait", "fail"."""
			raw = str(uuid.uuid4())[:30] + "000000"
			e.create(node, [(raw, "t", {}, None)], {handler: 1} if end else {}, 1 if end else 0)
			found = int(e.value("SELECT task_id FROM tasker.tasks WHERE task_uuid = '%s'" % raw))
			if end in ("wait", "fail"):
				e.record(node, [Item(found, 0, 1, "handler_error", end == "wait", HOUR_MS)], {}, 0)
			return raw

		def act(raw, *actions):
			for action in actions:
				function, _, more = ("task", "", "") if not action.startswith("step ") else ("step", "", action[5:])
				params = {"by": {"uid": 0}, "reason": "r", "task_uuid": raw, "action": more or action}
				if function == "step":
					params.update(step="s0", **({"result": {}} if more == "complete_manually" else {}))
				e.run("SELECT tasker.api_%s_action(%s)" % (function, lit(params)))
			report = e.doctor()
			self.assertTrue(report["ok"], (actions, [c for c in report["checks"] if not c["ok"]]))

		act(task(), "pause", "resume", "cancel")
		act(task(), "pause", "step skip", "cancel")
		act(task(), "step complete_manually", "cancel")
		act(task("run"), "step resolve_manually")
		act(task("run"), "step complete_manually")
		act(task("run"), "pause", "cancel")
		act(task("wait"), "pause", "resume", "cancel")
		act(task("wait"), "step reset_for_retry")
		act(task("wait"), "step skip")
		act(task("wait"), "step complete_manually")
		act(task("wait"), "pause", "step complete_manually")
		act(task("fail"), "resolve_manually")
		act(task("fail"), "retry")
		act(task("fail"), "pause", "step reset_for_retry", "resume")
		act(task("fail"), "step skip")
		act(task("fail"), "step complete_manually")
		act(task("fail"), "cancel")
		given_up = task("fail")
		e.run("SELECT count(*) FROM tasker.end_tasks(NULL, ARRAY[(SELECT task_id FROM tasker.tasks WHERE task_uuid = '%s')], 'error', '{\"event\": \"test\"}', 'm')" % given_up)
		act(given_up, "retry")
		moves = {tuple(r) for r in e.run("SELECT DISTINCT * FROM probe.moves")}
		self.check_transitions(moves, set())
		step = {("pending", "waiting_for_retry"), ("pending", "enqueued"), ("pending", "resolved_manually"), ("pending", "complete"), ("pending", "cancelled"), ("enqueued", "pending"),
		        ("enqueued", "complete"), ("enqueued", "cancelled"), ("in_progress", "resolved_manually"), ("in_progress", "complete"), ("in_progress", "cancelled"),
		        ("waiting_for_retry", "pending"), ("waiting_for_retry", "enqueued"), ("waiting_for_retry", "resolved_manually"), ("waiting_for_retry", "complete"),
		        ("waiting_for_retry", "cancelled"), ("error", "enqueued"), ("error", "pending"), ("error", "resolved_manually"), ("error", "complete"), ("error", "cancelled"),
		        ("cancelled", "pending")}
		of_tasks = {("waiting_for_retry", "cancelled"), ("waiting_for_retry", "steps_in_process"), ("blocked_by_failures", "resolved_manually"), ("blocked_by_failures", "steps_in_process"),
		            ("blocked_by_failures", "cancelled"), ("blocked_by_failures", "error"), ("error", "steps_in_process"), ("steps_in_process", "cancelled")}
		self.assertEqual((step - {m[1:] for m in moves if m[0] == "step"}, of_tasks - {m[1:] for m in moves if m[0] == "task"}), (set(), set()))

	def check_transitions(self, moves, births):
		for kind, was, now in sorted(moves):
			self.assertTrue(engine.tables().allows(kind, was, now), "%s: %s -> %s is in no table" % (kind, was, now))
		for kind, state in sorted(births):
			self.assertTrue(engine.tables().allows_birth(kind, state), "%s begins in %s" % (kind, state))

	def check_coverage(self, moves, births):
		"""The runs have exercised what the functions can do."""
		self.assertEqual(self.WANTED - moves, set())
		self.assertEqual(births, {("task", "steps_in_process"), ("task", "complete"), ("step", "pending"), ("step", "enqueued"), ("step", "in_progress")})


if __name__ == "__main__":
	unittest.main()

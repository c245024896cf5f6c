"""The dead-letter log: when an entry is written and what is in it, how it is worked off, and what becomes of it when the task moves on."""
import json
import os
import pwd
import subprocess
import unittest

import harness
from harness import step, template
from taskerd.exceptions import TaskerdError


def broken(name="broken", kind="permanent", attempts=3, **fields):
	"""a fails for good; b waits for it; c does not."""
	return template(name, [step("a", "t.flaky", fails=99, kind=kind, attempts=attempts), step("b", after=["a"]), step("c")], **fields)


class Dlq(harness.SharedCase):
	@classmethod
	def prepare(cls, stage):
		stage.db = stage.database()
		stage.node = stage.daemon(stage.db)
		stage.worker = stage.python_worker(stage.node, module="dynamic.py")

	def ask(self, method, **params):
		return self.node.client.request(method, params)

	def blocked(self, name="broken", **more):
		"""A blocked task; its uuid."""
		self.apply(self.node, broken(name, **more))
		task = self.create(self.node, name)
		self.assertEqual(self.finished(self.node, task).state, "blocked_by_failures")
		return task

	def refused(self, code, method, **params):
		with self.assertRaises(TaskerdError) as caught:
			self.ask(method, **params)
		self.assertEqual(caught.exception.code, code, caught.exception)
		return caught.exception

	def test_a_permanent_failure_is_filed_with_the_steps(self):
		entry = self.ask("dlq.get", task_uuid=self.blocked())
		self.assertEqual([entry[k] for k in ("reason", "detail", "status", "original_state", "task_state")],
		                 ["max_retries_exceeded", "permanent_error", "pending", "blocked_by_failures", "blocked_by_failures"])
		self.assertEqual(entry["metadata"]["failed_steps"], ["a"])
		snapshot = entry["snapshot"]
		self.assertEqual(snapshot["counts"], {"error": 1, "pending": 1, "complete": 1})
		failed, waiting = snapshot["steps"]
		self.assertEqual((failed["name"], failed["state"], failed["handler"], failed["last_outcome"]), ("a", "error", "t.flaky", "permanent_error"))
		self.assertEqual(failed["last_error"]["message"], "asked to fail for good")
		self.assertEqual((waiting["name"], waiting["state"], waiting["attempts"]), ("b", "pending", 0))
		self.assertEqual(snapshot["template"]["steps"], 3)
		self.assertIn("created_at", snapshot["timings"])

	def test_used_up_retries_are_told_from_permanent_errors(self):
		entry = self.ask("dlq.get", task_uuid=self.blocked("tired", kind="retryable", attempts=2))
		self.assertEqual((entry["reason"], entry["detail"]), ("max_retries_exceeded", "exhausted"))
		self.assertEqual(entry["snapshot"]["steps"][0]["attempts"], 2)

	def test_an_error_that_speaks_of_a_cycle_is_told_from_others(self):
		task = self.blocked("ring")
		self.db.sql("UPDATE tasker.steps SET error = error || '{\"error_code\": \"dependency_cycle\"}' WHERE state = 'error' AND task_id = (SELECT task_id FROM tasker.tasks WHERE task_uuid = '%s')" % task)
		self.db.sql("SELECT tasker.on_blocked(ARRAY[task_id]) FROM tasker.tasks WHERE task_uuid = '%s'" % task)
		entry = self.ask("dlq.get", task_uuid=task)
		self.assertEqual((entry["reason"], entry["detail"]), ("dependency_cycle_detected", "cycle"))
		self.assertEqual(entry["metadata"]["earlier_reasons"], ["max_retries_exceeded"])

	def test_a_cancelled_task_closes_its_entry(self):
		task = self.blocked("given_up")
		self.node.client.cancel_task(task, "no use")
		entry = self.ask("dlq.get", task_uuid=task)
		self.assertEqual((entry["status"], entry["notes"], entry["task_state"]), ("cancelled", "no use", "cancelled"))
		self.assertIsNotNone(entry["resolved_at"])

	def test_filed_by_hand_once(self):
		self.apply(self.node, template("fine", [step("a")]))
		task = self.create(self.node, "fine")
		self.finished(self.node, task)
		entry = self.ask("dlq.add", task_uuid=task, notes="looks odd", metadata={"ticket": 7})
		self.assertEqual((entry["reason"], entry["status"], entry["notes"], entry["original_state"]), ("manual_dlq", "pending", "looks odd", "complete"))
		self.assertEqual(entry["metadata"]["ticket"], 7)
		self.assertEqual(entry["metadata"]["filed_by"], pwd.getpwuid(os.getuid()).pw_name)
		self.refused("conflict", "dlq.add", task_uuid=task)
		self.refused("invalid_value", "dlq.add", task_uuid=task, metadata={"blob": b"raw"})
		self.refused("not_found", "dlq.add", task_uuid="0190b5a0-7c1e-7000-8000-000000000000")

	def test_an_entry_is_worked_off(self):
		entry = self.ask("dlq.get", task_uuid=self.blocked("worked"))["entry"]
		noted = self.ask("dlq.update", entry=entry, notes="asked the bank")
		self.assertEqual((noted["status"], noted["notes"], noted.get("resolved_by")), ("pending", "asked the bank", None))
		closed = self.ask("dlq.update", entry=entry, status="permanently_failed", resolved_by="ann", metadata={"ticket": 8})
		self.assertEqual((closed["status"], closed["resolved_by"], closed["notes"], closed["metadata"]["ticket"]), ("permanently_failed", "ann", "asked the bank", 8))
		why = self.refused("conflict", "dlq.update", entry=entry, status="manually_resolved")
		self.assertIn("permanently_failed by ann", str(why))
		again = self.ask("dlq.update", entry=entry, status="pending")
		self.assertEqual((again["status"], again.get("resolved_by"), again.get("resolved_at")), ("pending", None, None))
		self.refused("bad_request", "dlq.update", entry=entry, status="solved")
		self.refused("bad_request", "dlq.update", status="pending")

	def test_lists_pages_and_statistics(self):
		self.apply(self.node, template("many", [step("a", "t.flaky", fails=99, kind="permanent")], namespace="pages"))
		tasks = self.create_many(self.node, "many", 5, namespace="pages")
		for task in tasks:
			self.finished(self.node, task)
		seen, cursor = [], None
		while True:
			page = self.ask("dlq.list", namespace="pages", limit=2, **({"cursor": cursor} if cursor else {}))
			self.assertLessEqual(len(page["entries"]), 2)
			seen += [e["task_uuid"] for e in page["entries"]]
			cursor = page.get("next_cursor")
			if cursor is None:
				break
		self.assertCountEqual(seen, [str(t) for t in tasks])
		self.assertEqual(self.ask("dlq.list", namespace="pages", status="cancelled")["entries"], [])
		self.ask("dlq.update", task_uuid=str(tasks[0]), status="manually_resolved")
		rows = {r["reason"]: r for r in self.ask("dlq.stats", namespace="pages")["reasons"]}
		self.assertEqual(len(rows), 5)
		self.assertEqual([rows["max_retries_exceeded"][k] for k in ("total", "pending", "manually_resolved")], [5, 4, 1])
		self.assertEqual(rows["manual_dlq"]["total"], 0)

	def test_the_queue_is_by_urgency(self):
		self.apply(self.node, template("urgent", [step("a", "t.flaky", fails=99, kind="permanent")], namespace="urgent"))
		self.apply(self.node, template("calm", [step("a")], namespace="urgent"))
		late, blocked, odd = (self.create(self.node, n, namespace="urgent") for n in ("urgent", "urgent", "calm"))
		for task in (late, blocked, odd):
			self.finished(self.node, task)
		self.ask("dlq.add", task_uuid=str(odd))
		self.db.sql("UPDATE tasker.dlq SET created_at = created_at - interval '600 minutes' WHERE task_id = (SELECT task_id FROM tasker.tasks WHERE task_uuid = '%s')" % odd)
		self.db.sql("UPDATE tasker.dlq SET created_at = created_at - interval '3 minutes' WHERE task_id = (SELECT task_id FROM tasker.tasks WHERE task_uuid = '%s')" % late)
		entries = self.ask("dlq.queue", namespace="urgent")["entries"]
		self.assertEqual([e["task_uuid"] for e in entries], [str(odd), str(late), str(blocked)])
		self.assertEqual([int(e["priority_score"]) for e in entries], [610, 503, 500])
		self.assertEqual(len(self.ask("dlq.queue", namespace="urgent", limit=1)["entries"]), 1)

	def test_redrive_tries_the_failed_steps_again(self):
		self.apply(self.node, template("again", [step("a", "t.mended", gate="redriven", attempts=2), step("b", after=["a"])]))
		task = str(self.create(self.node, "again"))
		self.assertEqual(self.finished(self.node, task).state, "blocked_by_failures")
		entry = self.ask("dlq.get", task_uuid=task)["entry"]
		self.refused("bad_request", "dlq.redrive", entry=entry)
		answer = self.ask("dlq.redrive", entry=entry, reason="looked at it", operator="ann")
		self.assertEqual((answer["entry"]["status"], answer["entry"]["resolved_by"], answer["entry"]["notes"]), ("manually_resolved", "ann", "looked at it"))
		self.assertIn("redriven_at", answer["entry"]["metadata"])
		self.assertEqual(answer["task"]["state"], "steps_in_process")
		# Nothing has been mended: it fails again, and is filed again.
		self.assertEqual(self.finished(self.node, task).state, "blocked_by_failures")
		entries = [e["status"] for e in self.ask("dlq.list", name="again")["entries"]]
		self.assertEqual(entries, ["pending", "manually_resolved"])
		self.ledger.open_gate("redriven")
		self.ask("dlq.redrive", task_uuid=task, reason="mended")
		self.assertEqual(self.finished(self.node, task).state, "complete")
		self.assertEqual([e["status"] for e in self.ask("dlq.list", name="again")["entries"]], ["manually_resolved", "manually_resolved"])
		why = self.refused("conflict", "dlq.redrive", entry=entry, reason="once more")
		self.assertIn("closed as manually_resolved by ann", str(why))

	def test_redrive_of_what_has_not_failed(self):
		self.apply(self.node, template("well", [step("a")]))
		task = str(self.create(self.node, "well"))
		self.finished(self.node, task)
		self.ask("dlq.add", task_uuid=task)
		self.refused("conflict", "dlq.redrive", task_uuid=task, reason="why not")
		self.assertEqual(self.ask("dlq.get", task_uuid=task)["status"], "pending")

	def test_a_step_mended_by_hand_closes_the_entry(self):
		task = str(self.blocked("skipped"))
		self.ask("step.action", task_uuid=task, step="a", action="skip", reason="not needed", operator="bob")
		self.assertEqual(self.finished(self.node, task).state, "complete")
		closed = self.ask("dlq.get", task_uuid=task)
		self.assertEqual((closed["status"], closed["resolved_by"], closed["notes"]), ("manually_resolved", "bob", "not needed"))

	def test_an_operators_fix_closes_the_entry(self):
		task = str(self.blocked("fixed"))
		self.node.client.request("task.action", {"task_uuid": task, "action": "resolve_manually", "reason": "done by phone", "operator": "eve"})
		entry = self.ask("dlq.get", task_uuid=task)
		self.assertEqual((entry["status"], entry["resolved_by"], entry["notes"], entry["task_state"]), ("manually_resolved", "eve", "done by phone", "resolved_manually"))

	def test_a_decision_for_its_own_past_is_a_cycle(self):
		self.apply(self.node, template("loop", [step("a"), {**step("d", "d.say", after=["a"], result={"decision_point_outcome": {"type": "create_steps", "step_names": ["a"]}}), "type": "decision"},
		                                        step("b", after=["d"])]))
		task = str(self.create(self.node, "loop"))
		self.assertEqual(self.finished(self.node, task).state, "blocked_by_failures")
		entry = self.ask("dlq.get", task_uuid=task)
		self.assertEqual((entry["reason"], entry["detail"]), ("dependency_cycle_detected", "cycle"))
		self.assertEqual(entry["snapshot"]["steps"][0]["last_error"]["error_type"], "InvalidDecisionOutcome")

	def test_the_command_line(self):
		task = str(self.blocked("typed"))
		ctl = lambda *args: subprocess.run([harness.program("clients", "taskerctl", "taskerctl"), "--socket", self.node.socket, *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=harness.PATIENCE)  # noqa: E731
		self.assertIn(task, ctl("dlq", "list", "--status", "pending").stdout)
		self.assertIn("asked to fail for good", ctl("dlq", "show", task).stdout)
		self.assertIn(task, ctl("dlq", "queue").stdout)
		self.assertIn("max_retries_exceeded", ctl("dlq", "stats").stdout)
		entry = json.loads(ctl("dlq", "show", task, "--json").stdout)["entry"]
		self.assertIn("pending", ctl("dlq", "update", entry, "--notes", "seen").stdout)
		self.assertEqual(ctl("dlq", "add", task).returncode, 5)
		self.assertEqual(ctl("dlq", "redrive", entry).returncode, 2)
		self.assertIn("steps_in_process", ctl("dlq", "redrive", entry, "--reason", "typed").stdout)
		self.assertEqual(self.finished(self.node, task).state, "blocked_by_failures")

	def test_words_that_are_none(self):
		for method, params in (("dlq.list", {"status": "open"}), ("dlq.list", {"reason": "bad luck"}), ("dlq.list", {"cursor": "x"}), ("dlq.get", {}), ("dlq.update", {})):
			with self.subTest(method=method, params=params):
				self.refused("bad_request", method, **params)
		self.refused("not_found", "dlq.get", entry="3c9d2f10-5b7a-4c1e-9f00-1a2b3c4d5e6f")


class Alone(harness.Case):
	def test_a_step_that_kills_its_workers_says_so(self):
		db = self.database()
		node = self.daemon(db)
		self.apply(node, template("deadly", [step("a", "t.poison", attempts=1)]))
		self.python_worker(node)
		task = self.create(node, "deadly")
		self.assertEqual(self.finished(node, task).state, "blocked_by_failures")
		entry = node.client.request("dlq.get", {"task_uuid": str(task)})
		self.assertEqual((entry["reason"], entry["detail"]), ("max_retries_exceeded", "worker_lost"))
		self.verify(db, node)


if __name__ == "__main__":
	unittest.main()

"""A task with more steps than an answer can hold: everything that people and workers ask of it is answered, and costs what it says."""
import json
import subprocess
import unittest

import harness
import wire
from harness import step, template
from taskerd.exceptions import TooLargeError

N = 9800


class Large(harness.Case):
	def setUp(self):
		super().setUp()
		self.db = self.database()
		self.node = self.daemon(self.db)
		self.apply(self.node, template("batch", [dict(step("split", "w.split"), type="batchable"), dict(step("w", "bench.noop", after=["split"], attempts=1), type="batch_worker"),
		                                         dict(step("sum", "w.sum", after=["w"]), type="deferred_convergence")]))
		self.worker = wire.Worker(self.node.socket, ["w.split", "w.sum"])
		self.worker.patience = 5 * harness.PATIENCE  # for all the workers of a batch
		self.at_end(self.worker.close)

	def ask(self, method, **params):
		return self.node.client.request(method, params, timeout=harness.PATIENCE)

	def made(self):
		"""A task whose batch is made; the workers wait for someone to run them."""
		task, w = str(self.create(self.node, "batch")), self.worker
		w.finish(w.take(), {"batch_processing_outcome": {"type": "create_batches", "total_items": N * 10, "batch_size": 10}})
		harness.wait_for(lambda: self.ask("task.get", task_uuid=task, steps=False)["total_steps"] == N + 2, "the batch is made")
		return task

	def test_from_begin_to_end(self):
		task, w = self.made(), self.worker
		with self.assertRaises(TooLargeError) as caught:
			self.ask("task.get", task_uuid=task)
		self.assertEqual(caught.exception.details, {"limit": "max_items", "max": 262144})
		self.assertIn("%d steps" % (N + 2), str(caught.exception))
		watcher = wire.Wire(self.node.socket)
		self.at_end(watcher.close)
		watcher.hello()
		self.assertEqual(watcher.call("task.watch", {"task_uuid": task})["total_steps"], N + 2)
		self.doctor(self.node)  # with all of them queued
		for name, cursor in (("w_001", 0), ("w_%d" % N, (N - 1) * 10)):
			said = self.ask("step.get", task_uuid=task, step=name)
			self.assertEqual((said["name"], said["inputs"]["cursor"]["start_cursor"]), (name, cursor))
			self.assertEqual(self.ask("step.get", step_uuid=said["step_uuid"])["name"], name)
			self.assertEqual(self.ask("task.history", task_uuid=task, step=said["step_uuid"])["events"], self.ask("task.history", task_uuid=task, step=name)["events"])
		for name in ("w_1", "w_0001", "w_%d" % (N + 1), "w_", "w", "x_001"):
			with self.assertRaises(Exception) as caught:
				self.ask("step.get", task_uuid=task, step=name)
			self.assertEqual(caught.exception.code, "not_found", name)
		self.c_worker(self.node)
		given = w.take()
		self.assertEqual((given["step"], len(given["dependencies"]), given.get("dependencies_partial")), ("sum", N + 1, None))
		w.finish(given)
		self.assertEqual(self.node.client.wait_for_task(task, harness.PATIENCE, steps=False).state, "complete")
		self.assertEqual([e["state"] for e in watcher.events(task, lambda e: e["state"] == "complete")], ["steps_in_process", "complete"])
		names, cursor = [], None
		while True:
			page = self.ask("task.history", task_uuid=task, limit=1000, **({"cursor": cursor} if cursor else {}))
			names += [a["step"] for a in page["attempts"]]
			cursor = page["next_cursor"]
			if not cursor:
				break
		self.assertEqual((len(names), len(set(names))), (N + 2, N + 2))
		self.doctor(self.node)

	def test_pause_resume_cancel(self):
		task = self.made()
		for action, ready, waiting in ("pause", 0, N + 1), ("resume", N, 1):
			said = self.ask("task.action", task_uuid=task, action=action, reason="r")
			self.assertEqual((said["ready_steps"], said["pending_steps"], said.get("steps")), (ready, waiting, None))
		self.ask("task.cancel", task_uuid=task, reason="r")
		counts = dict(self.db.sql("SELECT s.state, count(*) FROM tasker.steps s JOIN tasker.tasks t USING (task_id) WHERE t.task_uuid = '%s' GROUP BY 1" % task))
		self.assertEqual(counts, {"complete": "1", "cancelled": str(N + 1)})
		self.assertEqual(len({s.name for s in self.node.client.get_task(task, timeout=10 * harness.PATIENCE).steps}), N + 2, "by pages, which nobody sees")
		for words in ("get", task), ("dump", task), ("tree", task):
			said = json.loads(subprocess.run([harness.program("clients", "taskerctl", "taskerctl"), "--socket", self.node.socket, "--json", "task", *words], stdout=subprocess.PIPE, check=True).stdout)
			self.assertEqual(len({s["name"] for s in said.get("task", said)["steps"]}), N + 2, words)
		self.doctor(self.node)

	def test_results_that_do_not_go_with_the_step(self):
		"""A convergence is given what fits, and asks for the rest in pages."""
		task, w = self.made(), self.worker
		self.c_worker(self.node)
		held = w.take()
		self.db.sql("UPDATE tasker.steps s SET result = jsonb_build_object('v', repeat('x', 400)), result_bytes = 410 FROM tasker.tasks t "
		            "WHERE t.task_id = s.task_id AND t.task_uuid = '%s' AND s.template_no = 1" % task)
		w.fail(held)
		given = w.take()
		self.assertIs(given["dependencies_partial"], True)
		names, pages, cursor = set(), 0, None
		while True:
			page = w.call("step.dependencies", {"step_uuid": given["step_uuid"], **({"cursor": cursor} if cursor else {})})
			self.assertFalse(names & set(page["dependencies"]))
			names |= set(page["dependencies"])
			pages, cursor = pages + 1, page.get("next_cursor")
			if not cursor:
				break
		self.assertEqual(names, {"split"} | {"w_%03d" % n for n in range(1, N + 1)})
		self.assertGreater(pages, 1)
		page = w.call("step.dependencies", {"step_uuid": given["step_uuid"], "names": ["w_%d" % N, "split"]})
		self.assertEqual(set(page["dependencies"]), {"w_%d" % N, "split"})
		w.finish(given)
		self.assertEqual(self.node.client.wait(task, harness.PATIENCE).state, "complete")


if __name__ == "__main__":
	unittest.main()

"""Many results in one frame, of which some belong to tasks that count: the store records the usual ones in one call and those in another."""
import unittest

import wire
from harness import step

N, COUNTING = 24, 6


class Together(wire.Case):
	def begun(self, name, steps):
		"""`N` tasks whose first step runs at a worker; the `COUNTING` ones of them have been paused, and go on."""
		self.template(name, steps)
		worker = self.worker(concurrency=N)
		made = self.client.call("task.create_many", {"tasks": [{"name": name, "namespace": self.ns, "context": {}}] * N})["results"]
		tasks = [m["task_uuid"] for m in made]
		first = worker.take(N)
		for task in tasks[:COUNTING]:
			for action in "pause", "resume":
				self.client.call("task.action", {"task_uuid": task, "action": action, "reason": "a look at it"})
		return worker, tasks, first

	def states(self, name, step_no):
		return self.db.sql("SELECT s.state, s.attempts, count(*) FROM tasker.steps s JOIN tasker.tasks t USING (task_id) JOIN tasker.templates p USING (template_id) "
		                   "JOIN tasker.namespaces n USING (namespace_id) WHERE n.name = '%s' AND p.name = '%s' AND s.step_no = %d GROUP BY 1, 2" % (self.ns, name, step_no))

	def test_what_is_acknowledged_is_recorded(self):
		worker, tasks, first = self.begun("pair", [step("a", "h"), step("b", "h", after=["a"])])
		worker.results(*map(wire.ok, first))
		self.assertEqual({worker.ack(s)["status"] for s in first}, {"recorded"})
		self.assertEqual(self.states("pair", 0), [["complete", "1", str(N)]])
		second = worker.take(N)
		self.assertEqual({s["task_uuid"] for s in second}, set(tasks))
		worker.results(*map(wire.ok, second))
		for task in tasks:
			self.assertEqual(self.settled(task), "complete")
		self.assertEqual(self.states("pair", 1), [["complete", "1", str(N)]])
		self.healthy()

	def test_credits_are_spent_once(self):
		"""The worker in wire.py breaks off if it is given more than it can take."""
		worker, tasks, first = self.begun("fan", [step("a", "h"), step("b", "h", after=["a"]), step("c", "h", after=["a"])])
		worker.results(*map(wire.ok, first))
		self.assertEqual({worker.ack(s)["status"] for s in first}, {"recorded"})
		running = "SELECT count(*) FROM tasker.steps s JOIN tasker.tasks t USING (task_id) WHERE t.task_uuid = ANY ('{%s}') AND s.state = 'in_progress'" % ",".join(tasks)
		self.assertLessEqual(int(self.db.value(running)), N, "claimed for a worker that cannot take them")
		for _ in range(2 * N):
			worker.finish(worker.take())
		for task in tasks:
			self.assertEqual(self.settled(task), "complete")
		self.healthy()


if __name__ == "__main__":
	unittest.main()

"""What the tests of operators' actions have in common."""
import harness
from harness import template, wait_for
from taskerd.exceptions import ConflictError

WHY = "seen in the morning"
NOBODY = "01890a5d-ac96-774b-bcce-b302000000ff"


class OperatorCase(harness.SharedCase):
	"""Asking in short."""

	def ask(self, method, **params):
		params.setdefault("reason", WHY)
		return self.node.client.request(method, params)

	def act(self, task, name, action, **more):
		return self.ask("step.action", task_uuid=task, step=name, action=action, **more)

	def act_task(self, task, action, **more):
		return self.ask("task.action", task_uuid=task, action=action, **more)

	def get(self, task):
		return self.node.client.get_task(task)

	def states(self, task):
		return {s.name: s.state for s in self.get(task).steps}

	def blocked(self, name, steps, **more):
		"""A new task of a new template, once it is blocked."""
		self.apply(self.node, template(name, steps))
		task = self.create(self.node, name, **more)
		self.assertEqual(self.finished(self.node, task).state, "blocked_by_failures")
		return task

	def completed(self, task):
		wait_for(lambda: self.get(task).state == "complete", lambda: "task to be complete; it is %s %s" % (self.get(task).state, self.states(task)))

	def transitions(self, task):
		return [(r[0], r[1], r[2]) for r in self.db.sql(
			"SELECT h.from_state, h.to_state, h.cause ->> 'event' FROM tasker.task_history h JOIN tasker.tasks t USING (task_id) WHERE t.task_uuid = '%s' ORDER BY h.at" % task)]

	def refused(self, error, text, call, *args, **more):
		with self.assertRaises(error) as caught:
			call(*args, **more)
		self.assertIn(text, str(caught.exception))
		return caught.exception

	def unchanged(self, task, call, *args, **more):
		"""The call is refused with ConflictError and leaves everything as it was; the exception."""
		look = lambda: self.db.sql("SELECT t.state, t.paused, t.n_active, t.n_failed, s.step_no, s.state, s.fence, s.attempts, (SELECT count(*) FROM tasker.operator_actions) "  # noqa: E731
		                           "FROM tasker.tasks t LEFT JOIN tasker.steps s USING (task_id) WHERE t.task_uuid = '%s' ORDER BY s.step_no" % task)
		before = look()
		with self.assertRaises(ConflictError) as caught:
			call(*args, **more)
		self.assertEqual(look(), before)
		return str(caught.exception)

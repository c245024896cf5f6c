"""A naive model of tasks and steps: it reads its whole DAG for every question, so that it can be trusted."""
import collections

SATISFIED = ("complete", "resolved_manually")  # of steps


class Step:
	def __init__(self, definition):
		self.definition = definition
		self.state, self.attempts, self.fence = "pending", 0, 0
		self.held = None  # ready, but its task is paused: "now" or "later"


class Task:
	"""The steps' states; everything else is found by looking at all of them."""

	def __init__(self, task_id, task_uuid, definitions):
		self.id, self.uuid = task_id, task_uuid
		self.steps = [Step(d) for d in definitions]
		self.ended, self.counted, self.paused = None, False, False
		self.history = [self.state()]

	def count(self, *states):
		return sum(s.state in states for s in self.steps)

	def pending_parents(self, step):
		return sum(self.steps[p].state not in SATISFIED for p in step.definition["parents"])

	def open_sinks(self):
		inner = {p for s in self.steps for p in s.definition["parents"]}
		return sum(s.state not in SATISFIED for s in self.steps if s.definition["no"] not in inner)

	def active(self):
		return self.count("enqueued", "in_progress")

	def state(self):
		if self.ended:
			return self.ended
		if self.count(*SATISFIED) == len(self.steps):
			return "complete"
		if self.paused:
			return self.history[-1]
		if self.active() or not self.counted:
			return "steps_in_process"
		return "waiting_for_retry" if self.count("waiting_for_retry") else "blocked_by_failures"

	def advance(self):
		"""Steps that have become ready; they are enqueued, unless the task is paused."""
		if self.paused:
			return []
		ready = [s for s in self.steps if s.state == "pending" and not self.pending_parents(s)]
		for s in ready:
			s.state = "enqueued"
		return ready


class World:
	"""All tasks, queues and journals as they must be."""

	def __init__(self):
		self.tasks = {}
		self.queues = collections.defaultdict(dict)  # handler: {(task, step, fence): due}
		self.recorded = {}                           # (task, step, fence): outcome
		self.announced = set()                       # handlers whose queues got something for now

	def step(self, key):
		task = self.tasks.get(key[0])
		return task.steps[key[1]] if task and 0 <= key[1] < len(task.steps) else None

	def is_running(self, key):
		s = self.step(key)
		return s is not None and s.state == "in_progress" and s.fence == key[2]

	def take(self, node, slot, key):
		"""`node` begins an attempt; `key` names the fence from before."""
		s = self.step(key)
		s.state, s.attempts, s.fence = "in_progress", s.attempts + 1, s.fence + 1
		node.journal.setdefault(slot, set()).add((key[0], key[1], s.fence))

	def send(self, task, step, due=True):
		self.queues[step.definition["handler_id"]][task.id, step.definition["no"], step.fence] = due
		if due:
			self.announced.add(step.definition["handler_id"])

	@staticmethod
	def hold(step, when):
		"""Its task is paused: what was queued is not any more, its message is of an old fence."""
		step.state, step.held, step.fence = "pending", when, step.fence + 1

	def advance_paused(self):
		"""In paused tasks, what becomes ready is sent and taken back at once."""
		for t in self.tasks.values():
			for s in t.steps if t.paused and not t.ended else ():
				if s.state == "pending" and not s.held and not t.pending_parents(s):
					self.send(t, s)
					self.hold(s, "now")

	def end(self, item):
		"""Apply a result that names the running attempt; its status."""
		task, s = self.tasks[item.task], self.step(item)
		self.recorded[item.task, item.step, item.fence] = item.outcome
		if item.outcome == "success":
			s.state = "complete"
			return "recorded"
		task.counted = True
		if item.outcome == "released":
			s.state, s.attempts = "enqueued", s.attempts - 1
			self.send(task, s)
			if task.paused:
				self.hold(s, "now")
			return "released"
		if not (item.retry and s.definition["retryable"] and s.attempts < s.definition["max_attempts"]):
			s.state = "error"
			return "failed"
		s.state = "waiting_for_retry" if item.delay_ms > 0 else "enqueued"
		self.send(task, s, due=item.delay_ms <= 0)
		if task.paused:
			self.hold(s, "later" if item.delay_ms > 0 else "now")
		return "retrying"

	def note_states(self):
		"""Tasks that have moved since the last call, and where to."""
		moved = {}
		for t in self.tasks.values():
			if t.state() != t.history[-1]:
				t.history.append(t.state())
				moved[t.id] = t.state()
		return moved

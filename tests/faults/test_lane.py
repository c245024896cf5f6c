"""Single requests, one at a time from each of many sessions, so that the daemon sends them itself over the connection of a thread that rests; and other requests in between,
which keep its threads coming and going. Connections are cut meanwhile. Built with a thread sanitizer, this is where it would speak."""
import os
import select
import unittest

from fault import FaultCase, LONG, harness, step, template
from proxy import Proxy
import wire

SESSIONS = 6
REQUESTS = 40000 if LONG else 1200
CUTS = 40 if LONG else 6


class Asker(wire.Wire):
	"""A session with one request under way: now one that makes a task, now one that looks at one."""

	def __init__(self, path, random, tasks):
		super().__init__(path)
		self.random, self.tasks, self.task = random, tasks, None
		self.hello()
		self.next()

	def next(self):
		self.task = self.random.choice(self.tasks) if self.tasks and self.random.random() < 0.6 else None
		if self.task:
			self.ask("task.get", {"task_uuid": self.task})
		else:
			self.ask("task.create", {"name": "lane", "namespace": "t", "context": {"n": len(self.tasks)}})

	def answered(self):
		"""Whether the answer has come, which must be to what was asked; and ask the next."""
		self.poll()
		if not self.responses:
			return False
		_, _, error, result = self.responses.popitem()[1]
		if error is not None:
			raise AssertionError(error)
		if self.task and result["task_uuid"] != self.task:
			raise wire.Breach("asked for %s, told of %s" % (self.task, result["task_uuid"]))
		if not self.task:
			self.tasks.append(result["task_uuid"])
		self.next()
		return True


class Lane(FaultCase):
	def one_processor(self, node):
		"""Threads that share one come in between each other at more places."""
		cpu = {min(os.sched_getaffinity(0))}
		for tid in os.listdir("/proc/%d/task" % node.pid):
			os.sched_setaffinity(int(tid), cpu)

	def session(self, path):
		while True:
			try:
				return Asker(path, self.random, self.tasks)
			except (wire.Closed, OSError):
				pass  # cut again

	def test_among_others(self):
		node = self.daemon(self.db, store_threads=2)
		self.apply(node, template("lane", [step("a", attempts=20), step("b", after=["a"], attempts=20)]))
		proxy = Proxy(os.path.join(self.place, "relay.sock"), node.socket)
		self.at_end(proxy.close)
		self.python_worker(node, name="direct", threads=1, prefetch=0)
		self.python_worker(node, name="cut", threads=1, prefetch=0, socket=proxy.path)
		self.one_processor(node)
		self.tasks = []
		paths = [node.socket if n % 2 else proxy.path for n in range(SESSIONS)]
		sessions = [self.session(path) for path in paths]
		answers = cuts = 0
		while answers < REQUESTS:
			ready = select.select([s.sock for s in sessions], [], [], harness.PATIENCE)[0]
			self.assertTrue(ready, "somebody is answered, and the daemon lives:\n" + node.process.last_words())
			for n, s in enumerate(sessions):
				if s.sock not in ready:
					continue
				try:
					answers += s.answered()
				except wire.Closed:
					s.eof = True  # cut between an answer and the next request
				if s.eof:
					self.assertIs(paths[n], proxy.path, "a connection that nobody cut has ended:\n" + node.process.last_words())
					s.close()
					sessions[n] = self.session(paths[n])
			if answers * (CUTS + 1) // REQUESTS > cuts:
				cuts += 1
				proxy.cut()
		for s in sessions:
			s.close()
		self.assertTrue(node.process.alive(), node.process.last_words())
		self.end_batch(node)
		self.assertGreaterEqual(self.db.number("SELECT count(*) FROM tasker.tasks"), len(self.tasks))
		self.assertEqual({k: n for k, n in self.executions().items() if n != 1}, {})


if __name__ == "__main__":
	unittest.main()

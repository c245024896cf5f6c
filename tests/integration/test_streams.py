"""Server-sent events of a task: what a client has that loses its connection again and again is what happened, each of it once."""
import os
import socket
import unittest

import harness
import web
import wire
from harness import step, template, wait_for
from test_handoff import Handoff

STEPS = ["s%d" % i for i in range(6)]


def what(event):
	_, _, data = event
	return data.get("step") or "", data["state"], data["at"]


class Follower:
	"""Follows a task as an EventSource does."""

	def __init__(self, case, where, task):
		self.case, self.web, self.path = case, web.Web(where), "/v1/tasks/%s/events" % task
		self.last, self.seen = None, []
		case.addCleanup(self.web.close)

	def connect(self):
		self.stream = self.web.stream(self.path, **({"Last_Event_ID": self.last} if self.last else {}))
		self.case.addCleanup(self.stream.close)
		self.case.assertEqual(self.stream.status, 200)
		self.case.assertEqual(self.stream.next()[0], "task")

	def read(self, done):
		"""Until there was such an event; to the end of the stream, with `done` None."""
		while True:
			e = self.stream.next()
			if e is None or e[0] in ("end", "draining") and not done:
				return e
			if e[0] == "event":
				self.seen.append(what(e))
				self.last = e[1] or self.last
				if done and done(self.seen[-1]):
					return e


class Late(harness.Case):
	def test_what_commits_late_comes_late(self):
		"""One transaction writes that a step was claimed, and is held there; another, which begins later, commits first. Who follows, and who comes back, gets both, once."""
		db = self.database()
		node = self.daemon(db)
		self.apply(node, template("two", [step("a", "t.a"), step("b", "t.b")]))
		a = wire.Worker(node.socket, ["t.a"], namespaces=["t"])
		self.addCleanup(a.close)
		task = self.create(node, "two")
		given = a.take()
		leaves, stays, after = (Follower(self, web.http_socket(node), task) for _ in range(3))
		leaves.connect()
		stays.connect()
		with db.cluster.session(db.name) as lock:
			lock.run("BEGIN")
			lock.run("LOCK TABLE tasker.node_claims IN SHARE MODE")
			b = wire.Worker(node.socket, ["t.b"], namespaces=["t"])
			self.addCleanup(b.close)
			waits = "SELECT count(*) FROM pg_locks WHERE relation = 'tasker.node_claims'::regclass AND NOT granted"
			wait_for(lambda: db.number(waits) == 1, "the claim to be held")
			a.finish(given)
			a.acked(given)
			complete = lambda e: e[:2] == ("a", "complete")  # noqa: E731
			leaves.read(complete)
			stays.read(complete)
			self.assertIn(";", leaves.last, "its id says that something older may come")
			leaves.stream.close()
			lock.run("COMMIT")
		claimed = lambda e: e[:2] == ("b", "in_progress")  # noqa: E731
		b.take()
		stays.read(claimed)
		self.assertLess(stays.seen[-1][2], stays.seen[-2][2], "it is older than what came before it")
		leaves.connect()
		leaves.read(claimed)
		after.last = leaves.last
		for f in leaves, stays, after:
			if f is after:
				f.connect()
			elif f is leaves:
				node.client.request("task.action", {"task_uuid": task, "action": "cancel", "reason": "enough"})
			f.read(None)
		self.assertEqual(sorted(leaves.seen), sorted(set(stays.seen)))
		self.assertEqual(len(stays.seen), len(set(stays.seen)))
		self.assertNotIn(("b", "in_progress"), [e[:2] for e in after.seen])


class OverRestarts(Handoff):
	def test_a_stream_goes_on(self):
		"""The manager keeps the socket: who comes while there is no daemon waits, and misses nothing. After a restart, and after a kill."""
		http = os.path.join(self.place, "kept-http.sock")
		with socket.socket(socket.AF_UNIX) as listening:
			listening.bind(http)
			listening.listen(64)
			self.leave()
			with self.manager.lock:
				self.manager.kept["http"] = [os.dup(listening.fileno())]
			self.node.start()
		self.apply(self.node, template("long", [step(s, "t.nobody", after=STEPS[i - 1:i]) for i, s in enumerate(STEPS)]))
		task = self.create(self.node, "long")
		follower = Follower(self, http, task)
		follower.connect()
		ends = [self.leave, self.node.kill, self.leave, self.node.kill]
		for n, name in enumerate(STEPS):
			self.node.client.request("step.action", {"task_uuid": task, "step": name, "action": "skip", "reason": "a test"})
			if n % 2:  # else it comes when the connection is lost already
				follower.read(lambda e, n=n: e[0] == (STEPS + [""])[n + 1])
			if n >= len(ends):
				continue
			ends[n]()
			follower.read(None)
			waiting = web.Web(http)
			self.addCleanup(waiting.close)
			early = waiting.connect()
			early.request("GET", "/health/live")
			self.node.start()
			self.assertEqual(early.getresponse().status, 200, "it has waited")
			early.close()
			follower.connect()
		self.assertEqual(len(follower.seen), len(set(follower.seen)), "nothing came twice")
		self.assertEqual([s for s, state, _ in follower.seen if state == "enqueued"], STEPS)
		self.assertEqual(follower.seen[-1][:2], ("", "complete"))


if __name__ == "__main__":
	unittest.main()

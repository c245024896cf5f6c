"""Losing and resuming a connection (section 6): the daemon lives, the daemon was killed, the worker was killed; and lies about all of it."""
import os
import signal
import subprocess
import sys
import unittest

import harness
import wire
from harness import step
from wire import key, ok

CHILD = """
import os, sys
sys.path[:0] = {path!r}
import wire
w = wire.Worker({socket!r}, ["h"], {concurrency}, namespaces=[{ns!r}])
w.take({n})
if {fork}:
	if os.fork() == 0:  # inherits the connection, and outlives the worker
		sys.stdin.read()
		os._exit(0)
print("taken", flush=True)
sys.stdin.read()
"""


class Resume(wire.Case):
	def setUp(self):
		super().setUp()
		self.template("one", [step("a", "h")])

	def took(self, n=1, concurrency=None):
		"""A worker with n steps open, and their tasks."""
		tasks = [self.create("one") for _ in range(n)]
		w = self.worker(concurrency=concurrency or n)
		return w, w.take(n), tasks

	def back(self, w, held, concurrency=None, **more):
		return self.worker(concurrency=concurrency or w.concurrency, resume={"session": w.welcome["session"], "held": held}, **more)

	def test_a_broken_connection(self):
		w, (done, running, lost), tasks = self.took(3)
		w.close()
		v = self.back(w, 2)
		self.assertIs(v.welcome["resumed"], True)
		self.assertEqual(v.welcome["worker_uuid"], w.welcome["worker_uuid"])
		answer = v.call("session.resume", {"steps": [{k: s[k] for k in ("step_uuid", "attempt", "claim")} for s in (done, running)]})
		self.assertEqual(answer, {"steps": [{"step_uuid": s["step_uuid"], "attempt": 1, "status": "held"} for s in (done, running)]})
		v.finish(done)
		self.assertEqual(v.acked(done), "recorded")
		again = v.take()  # what was not named never arrived
		self.assertEqual((again["step_uuid"], again["attempt"]), (lost["step_uuid"], 1))
		self.assertNotEqual(again["claim"], lost["claim"])
		v.results(ok(lost))
		self.assertIn(v.acked(lost), ("not_claimed", "stale"))
		v.finish(again)
		v.finish(running)
		for t in tasks:
			self.assertEqual(self.settled(t), "complete")
		self.assertEqual(sorted(o for t in tasks for _, _, o in self.attempts(t)), ["released", "success", "success", "success"])

	def test_results_may_come_right_after_the_resume(self):
		w, steps, tasks = self.took(4)
		w.close()
		v = self.worker(hello=False, concurrency=4)
		v.asked.update((1, 2))
		v.send([0, 1, "hello", {"protocol": [1, 0], "client": "x", "worker": {"handlers": ["h"], "namespaces": [self.ns], "max_concurrency": 4}, "resume": {"session": w.welcome["session"], "held": 4}}],
		       [0, 2, "session.resume", {"steps": [{k: s[k] for k in ("step_uuid", "attempt", "claim")} for s in steps]}],
		       [2, "step.result", {"results": [ok(s) for s in steps]}])
		self.assertIs(v.answer(1)["resumed"], True)
		self.assertEqual([s["status"] for s in v.answer(2)["steps"]], ["held"] * 4)
		for s in steps:
			self.assertEqual(v.acked(s), "recorded")
		for t in tasks:
			self.assertEqual(self.settled(t), "complete")

	def test_no_new_step_before_the_resume(self):
		w, (s,), _ = self.took(1, concurrency=5)
		w.close()
		v = self.back(w, 1)
		for _ in range(3):
			self.create("one")
		v.call("ping")
		self.client.call("ping")
		v.call("ping")
		self.assertEqual(v.given, [])
		self.assertEqual(v.resume(s), ["held"])
		v.open[key(s)] = s
		for new in v.take(3):
			v.finish(new)
		v.finish(s)
		self.assertEqual(v.acked(s), "recorded")

	def test_what_cannot_be_resumed_is_answered_by_its_name(self):
		"""A client finds its step by that."""
		w, (s,), _ = self.took(1)
		bad = [{"step_uuid": s["step_uuid"], "attempt": 1, "claim": claim} for claim in (None, b"", bytes(16), "x" * 16)]
		answer = w.call("session.resume", {"steps": bad})
		self.assertEqual(answer, {"steps": [{"step_uuid": s["step_uuid"], "attempt": 1, "status": "stale"}] * len(bad)})
		w.finish(s)
		self.assertEqual(w.acked(s), "recorded")
		nobody = self.wire()
		self.assertEqual(nobody.call("session.resume", {"steps": bad[:1]})["steps"][0]["step_uuid"], s["step_uuid"])

	def test_while_the_old_connection_is_open(self):
		"""Both ends of it think that it lives."""
		a, _, _ = self.took(4)
		b, steps, tasks = self.took(4)
		v = self.back(b, 2)
		self.assertIs(v.welcome["resumed"], True)
		b.closed()
		self.assertEqual(v.resume(*steps[:2]), ["held", "held"])
		v.open.update((key(s), s) for s in steps[:2])
		again = v.take(2)
		self.assertEqual({s["step_uuid"] for s in again}, {s["step_uuid"] for s in steps[2:]})
		for w in a, v:
			for s in list(w.open.values()):
				w.finish(s)
		for t in tasks:
			self.assertEqual(self.settled(t), "complete")
		for s in steps[:2]:
			self.assertEqual(v.acked(s), "recorded")
		for _ in range(8):  # all eight places of the two are free again
			self.create("one")
		seen = lambda: len(a.given) + len(v.given)  # noqa: E731
		before = 4 + 2

		def all_given():
			a.poll(0.01)
			v.poll(0.01)
			return seen() == before + 8
		harness.wait_for(all_given, "eight more steps")

	def test_again_and_again(self):
		w, (s,), (task,) = self.took()
		for i in range(30):
			if i % 2:
				w.close()
			w = self.back(w, 1)
			self.assertIs(w.welcome["resumed"], True)
			if i % 3:
				self.assertEqual(w.resume(s), ["held"])
		w.resume(s)
		w.finish(s)
		self.assertEqual(w.acked(s), "recorded")
		self.assertEqual(self.attempts(task), [("a", 1, "success")])
		self.create("one")
		w.take()

	def test_nobody_comes_back(self):
		w, (s,), (task,) = self.took()
		w.close()
		v = self.worker()
		again = v.take()  # after a second: this process lives
		self.assertEqual((again["step_uuid"], again["attempt"]), (s["step_uuid"], 2))
		v.results(ok(s))
		self.assertEqual(v.acked(s), "stale")
		v.finish(again)
		self.assertEqual(v.acked(again), "recorded")
		self.assertEqual(self.attempts(task), [("a", 1, "worker_lost"), ("a", 2, "success")])
		late = self.back(w, 1)
		self.assertIs(late.welcome["resumed"], False)
		self.assertEqual(late.resume(s), ["stale"])

	def test_lies_about_the_session(self):
		w, (s,), (task,) = self.took()
		token = w.welcome["session"]
		for resume in {"session": "0" * 32, "held": 0}, {"session": "", "held": 0}, {"session": token[:-1], "held": 0}, {"session": token + "0", "held": 0}, {"session": token.upper() if token.upper() != token else "x", "held": 0}, \
		              {"session": 7}, {"held": 2}, {}, {"session": "' OR 1=1 --", "held": 2 ** 63 - 1}, {"session": None, "held": -1}, {"session": token[::-1], "held": "1"}:
			with self.subTest(resume=resume):
				v = self.worker(["other"], resume=resume)
				self.assertIs(v.welcome["resumed"], False)
				self.assertEqual(v.resume(), [])
		c = self.wire(resume={"session": token, "held": 1})  # not a worker
		self.assertIs(c.welcome["resumed"], False)
		self.assertEqual(c.call("session.resume", {"steps": [{"step_uuid": s["step_uuid"], "attempt": 1, "claim": s["claim"]}]})["steps"][0]["status"], "stale")
		w.finish(s)
		self.assertEqual(w.acked(s), "recorded")
		self.assertEqual(self.attempts(task), [("a", 1, "success")])

	def test_lies_about_steps(self):
		"""Of others, forged, old, or no steps at all: each is stale, and nothing of anybody's is touched."""
		v, (other,), (task,) = self.took()
		w, (mine, old), _ = self.took(2)
		w.finish(old)
		self.assertEqual(w.acked(old), "recorded")
		w.close()
		u = self.back(w, 1)
		good = {"step_uuid": mine["step_uuid"], "attempt": 1, "claim": mine["claim"]}
		lies = [{**good, "step_uuid": other["step_uuid"], "claim": other["claim"]}, {**good, "claim": other["claim"]}, {**good, "claim": b"\0" * 16}, {**good, "step_uuid": old["step_uuid"], "claim": old["claim"]},
		        {**good, "step_uuid": "x"}, {**good, "step_uuid": "y" * 1000, "claim": 7}, {}, {**good, "step_uuid": None}]
		answer = u.call("session.resume", {"steps": lies + [good, good]})["steps"]
		self.assertEqual([a["status"] for a in answer], ["stale"] * len(lies) + ["held", "held"])
		u.finish(mine)
		self.assertEqual(u.acked(mine), "recorded")
		v.finish(other)
		self.assertEqual(v.acked(other), "recorded")
		self.assertEqual(self.attempts(task), [("a", 1, "success")])

	def test_a_timed_out_step_that_is_resumed_leaves_its_place(self):
		self.template("slow", [step("a", "h", timeout=1, attempts=1)])
		self.create("slow")
		w = self.worker()
		s = w.take()
		self.assertEqual(w.cancelled(s), "timeout")
		w.close()
		v = self.back(w, 1)
		self.assertEqual(v.resume(s), ["stale"])
		self.create("one")
		v.take()  # a worker that is told "stale" need not send a result

	def hold_commits(self, task):
		"""A database session in which the task's row is locked."""
		lock = self.db.cluster.session(self.db.name)
		self.addCleanup(lock.close)
		lock.run("BEGIN")
		lock.run("SELECT FROM tasker.tasks WHERE task_uuid = '%s' FOR UPDATE" % task)
		return lock

	def test_a_result_sent_again_before_the_first_is_committed(self):
		w, (s,), (task,) = self.took()
		lock = self.hold_commits(task)
		w.finish(s, {"n": 1})
		w.call("ping")
		w.close()
		v = self.back(w, 1)
		self.assertEqual(v.resume(s), ["held"])
		v.results(ok(s, {"n": 2}))
		v.call("ping")
		self.client.call("ping")
		self.assertEqual(v.acks.get(key(s)), None)
		lock.run("COMMIT")
		self.assertIn(v.acked(s), ("recorded", "duplicate"))
		self.assertSame(self.get(task)["steps"][0]["result"], {"n": 1})
		self.assertEqual(self.attempts(task), [("a", 1, "success")])
		self.create("one")
		v.take()

	def test_a_result_sent_again_after_the_commit(self):
		w, (s,), (task,) = self.took()
		lock = self.hold_commits(task)
		w.finish(s, {"n": 1})
		w.call("ping")
		w.close()
		lock.run("COMMIT")
		self.assertEqual(self.settled(task), "complete")
		v = self.back(w, 0)
		v.results(ok(s, {"n": 2}))
		self.assertEqual(v.acked(s), "duplicate")
		self.assertSame(self.get(task)["steps"][0]["result"], {"n": 1})

	def test_a_connection_closed_before_the_commit(self):
		"""What the daemon has read, it records, whatever becomes of the worker."""
		w, steps, tasks = self.took(20)
		w.results(*[ok(s) for s in steps])
		w.close()
		for t in tasks:
			self.assertEqual(self.settled(t), "complete")
			self.assertEqual(len(self.attempts(t)), 1)

	def child(self, n=1, fork=False):
		tasks = [self.create("one") for _ in range(n)]
		code = CHILD.format(path=[harness.HERE, harness.PYTHON_CLIENT], socket=self.node.socket, ns=self.ns, concurrency=n, n=n, fork=fork)
		p = subprocess.Popen([sys.executable, "-B", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ})
		self.addCleanup(p.stdout.close)
		self.addCleanup(p.stdin.close)
		self.addCleanup(p.wait)
		self.addCleanup(p.kill)
		self.assertEqual(p.stdout.readline(), b"taken\n")
		return p, tasks

	def test_a_killed_worker(self):
		for fork in False, True:  # with True, the connection itself goes on: only the kernel's word about the process tells
			with self.subTest(fork=fork):
				p, tasks = self.child(3, fork)
				p.kill()
				v = self.worker(concurrency=3)
				for s in v.take(3):
					self.assertEqual(s["attempt"], 2)
					v.finish(s)
				for t in tasks:
					self.assertEqual(self.settled(t), "complete")
					self.assertEqual([o for _, _, o in self.attempts(t)], ["worker_lost", "success"])
				v.close()
				# Else the next steps may be handed over to it, and given back.
				harness.wait_for(lambda: v.welcome["worker_uuid"] not in {w["worker_uuid"] for w in self.client.call("worker.list")["workers"]}, "the worker to be gone")

	def tearDown(self):
		self.healthy()
		super().tearDown()


class Restart(wire.Case):
	"""The daemon is killed and started again; workers come back with what they hold."""

	options = {"resume_grace_ms": harness.HOUR_MS}

	def setUp(self):
		super().setUp()
		self.template("one", [step("a", "h")])

	def restart(self, **options):
		self.node.kill()
		self.node.argv = [a for a in self.node.argv if not any(a.startswith("--" + k.replace("_", "-") + "=") for k in options)]
		self.node.argv += ["--%s=%s" % (k.replace("_", "-"), v) for k, v in options.items()]
		self.node.start()
		if hasattr(self, "_client"):
			del self._client

	def took(self, n=1):
		tasks = [self.create("one") for _ in range(n)]
		w = self.worker(concurrency=n)
		return w, w.take(n), tasks

	def back(self, w, held, hello=True):
		"""As a client would: again until it is let in, without a pause, which is when a daemon knows least."""
		def try_():
			try:
				return self.worker(concurrency=w.concurrency, resume={"session": w.welcome["session"], "held": held})
			except wire.Refused as e:
				self.assertEqual(e.code, "database_unavailable")
				return None
			except OSError:
				return None
		return harness.wait_for(try_, "the daemon to take the worker back")

	def test_steps_are_held_over_a_restart(self):
		for _ in range(4):
			w, steps, tasks = self.took(5)
			unread = steps[0]
			w.finish(unread)
			w.acked(unread)
			self.node.kill()
			self.node.launch()
			v = self.back(w, 4)
			self.assertIs(v.welcome["resumed"], False)
			self.assertEqual(v.resume(*steps[1:]), ["held"] * 4)
			v.results(ok(steps[0]), *[ok(s) for s in steps[1:]])
			self.assertEqual([v.acked(s) for s in steps], ["duplicate"] + ["recorded"] * 4)
			self.node.wait_up()
			del self._client
			for t in tasks:
				self.assertEqual(self.settled(t), "complete")
				self.assertEqual(self.attempts(t), [("a", 1, "success")])
			v.close()

	def test_results_right_after_the_restart(self):
		"""Without session.resume: a claim is a proof."""
		w, steps, tasks = self.took(3)
		self.node.kill()
		self.node.launch()
		v = self.back(w, 0)
		v.results(*[ok(s) for s in steps])
		self.assertEqual([v.acked(s) for s in steps], ["recorded"] * 3)
		self.node.wait_up()
		del self._client
		for t in tasks:
			self.assertEqual(self.attempts(t), [("a", 1, "success")])

	def test_forged_claims_of_open_steps(self):
		"""Of these the claim is in memory, and is compared with that: all of it."""
		w, (s, other), tasks = self.took(2)
		for claim in bytes(s["claim"][:-1]) + bytes([s["claim"][-1] ^ 1]), bytes(s["claim"][:4]) + b"\0" * 12, b"\0\0\0\7" + s["claim"][4:], other["claim"], b"\0" * 16:
			w.results({**ok(s), "claim": claim})
			self.assertEqual(w.acked(s), "not_claimed", claim)
		w.results(ok(s), ok(other))
		self.assertEqual([w.acked(s), w.acked(other)], ["recorded", "recorded"])

	def test_forged_claims_after_a_restart(self):
		w, (s, other), tasks = self.took(2)
		self.restart()
		v = self.back(w, 2)
		forged = dict(s, claim=bytes(s["claim"][:-1]) + bytes([s["claim"][-1] ^ 1]))
		later = dict(s, claim=b"\0\0\0\7" + s["claim"][4:])
		self.assertEqual(v.resume(forged, later, dict(s, claim=other["claim"]), dict(s, step_uuid=other["step_uuid"])), ["stale"] * 4)
		v.results({**ok(s), "claim": forged["claim"]})
		self.assertEqual(v.acked(s), "not_claimed")
		v.results(ok(s), ok(other))  # they still wait: nobody has resumed them
		self.assertEqual([v.acked(s), v.acked(other)], ["recorded", "recorded"])

	def test_what_nobody_resumes_goes_to_others(self):
		w, (mine, lost), tasks = self.took(2)
		self.restart(resume_grace_ms=300)
		v = self.back(w, 1)
		self.assertEqual(v.resume(mine), ["held"])
		v.open[key(mine)] = mine
		again = v.take()
		self.assertEqual((again["step_uuid"], again["attempt"]), (lost["step_uuid"], 1))  # a restart costs no attempt
		self.assertNotEqual(again["claim"], lost["claim"])
		v.results(ok(lost))
		self.assertEqual(v.acked(lost), "stale")
		v.open[key(again)] = again
		v.finish(again)
		v.finish(mine)
		for t in tasks:
			self.assertEqual(self.settled(t), "complete")
		self.assertEqual(sorted(o for t in tasks for _, _, o in self.attempts(t)), ["released", "success", "success"])
		self.restart(resume_grace_ms=harness.HOUR_MS)

	def test_a_cancelled_task_is_not_resumed(self):
		w, (s,), (task,) = self.took()
		self.restart()
		self.client.call("task.cancel", {"task_uuid": task})
		v = self.back(w, 1)
		v.resume(s)  # held or stale, its task is not known to be over
		v.results(ok(s))
		self.assertEqual(v.acked(s), "stale")
		self.assertEqual(self.attempts(task), [("a", 1, "cancelled")])
		self.create("one")
		v.take()

	def test_a_second_signal_ends_the_daemon_at_once(self):
		w, (s, other), tasks = self.took(2)
		w.close()  # in its second of grace
		self.node.process.signal(signal.SIGTERM)
		harness.wait_for(lambda: "stopping" in self.node.log_text(), "the stop to begin")
		self.node.process.signal(signal.SIGTERM)
		self.assertEqual(self.node.process.wait(), 0)
		self.node.start()
		del self._client
		v = self.back(w, 0)
		for again in v.take(2):
			self.assertEqual(again["attempt"], 1)
			v.finish(again)
		for t in tasks:
			self.assertEqual(self.settled(t), "complete")

	def tearDown(self):
		self.healthy()
		super().tearDown()


if __name__ == "__main__":
	unittest.main()

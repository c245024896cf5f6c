"""One process of PostgreSQL stands still (SIGSTOP) while the others go on. What needs it waits, or goes its way over another connection; all else goes on, and operators are told which call
hangs, in which process."""
import os
import signal
import subprocess
import unittest

from fault import FaultCase, harness, step, template  # first: it finds the others
import wire
from harness import wait_for

LEASE_MS = 2000
HELD_BY_PRESENCE = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 1852793957 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
OF_THREADS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'taskerd' AND pid NOT IN (%s) ORDER BY pid" % HELD_BY_PRESENCE


class Frozen(FaultCase):
	def one_node(self, **options):
		node = harness.Daemon(self, "node-a", database=self.db.uri, lease_ttl_ms=LEASE_MS, sweep_interval_ms=harness.HOUR_MS, poll_interval_ms=harness.HOUR_MS, **options)
		node.start()
		wire.ready(node)
		self.apply(node, template("one", [step("a", "h")]))
		return node

	def pids(self, query):
		return [int(r[0]) for r in self.db.sql(query)]

	def freeze(self, pid):
		os.kill(pid, signal.SIGSTOP)
		self.at_end(self.thaw, pid)

	@staticmethod
	def thaw(pid):
		try:
			os.kill(pid, signal.SIGCONT)
		except ProcessLookupError:
			pass

	@staticmethod
	def hanging(node):
		info = node.info()
		return info["database"]["hanging"] if info else []

	@staticmethod
	def metric(node, name):
		text = node.new_client().request("server.metrics", {"format": "prometheus"})["text"]
		return float([line for line in text.splitlines() if line.startswith(name + " ")][0].split()[1])

	def freeze_until_a_record_hangs(self, node, w, steps):
		"""All processes that serve a thread, and those of the threads that connect when they are first used, until one has been given a result: (the processes, what hangs, how many results were sent)."""
		frozen = []
		records = lambda: [h for h in self.hanging(node) if h["call"].startswith("record")]  # noqa: E731 (a look for what may be started hangs as well)
		for sent, s in enumerate(steps, 1):
			for pid in set(self.pids(OF_THREADS)) - set(frozen):
				self.freeze(pid)
				frozen.append(pid)
			w.finish(s)
			wait_for(lambda: w.poll() or wire.key(s) in w.acks or records(), "the result to be recorded, or its call to hang")  # pylint: disable=cell-var-from-loop
			if wire.key(s) not in w.acks and records():
				return frozen, records()[0], sent
		self.fail("every result was recorded, with the processes %s frozen" % frozen)

	def test_that_of_a_thread_that_writes(self):
		"""Results that it was given are recorded over another connection, before it wakes up; what it does then changes nothing."""
		node = self.one_node(store_threads=2)
		n = 6
		self.create_many(node, "one", n)
		with wire.Worker(node.socket, ["h"], n) as w:
			steps = w.take(n)
			threads, told, sent = self.freeze_until_a_record_hangs(node, w, steps)
			self.assertIn(told["backend"], threads)
			self.assertGreaterEqual(told["ms"], LEASE_MS)
			node.wait_up()  # others are answered
			for s in steps[sent:]:
				w.finish(s)
			self.assertEqual([w.acked(s) for s in steps], ["recorded"] * n)
			self.assertIn('but not the call "record', node.log_text())
			self.assertIn("process %d stands still" % told["backend"], node.log_text())
			wait_for(lambda: "no longer waits for process %d" % told["backend"] in node.log_text(), "nothing to wait for it any more")
			for pid in threads:
				self.thaw(pid)
		self.doctor(node)
		self.assertEqual(self.db.attempts("worker_lost"), [])
		self.assertEqual(len(self.db.attempts("success")), n)

	def test_that_of_a_thread_that_answers_people(self):
		"""One question is not answered; the next one is, and says so."""
		node = self.one_node(store_threads=3)
		with wire.Wire(node.socket) as asker:
			asker.hello()
			holder = self.cluster.session(self.db.name)  # locks what the question is about: so its process is known, and stands in the middle of it
			self.at_end(holder.close)
			holder.run("BEGIN")
			holder.run("LOCK TABLE tasker.templates IN ACCESS EXCLUSIVE MODE")
			question = asker.ask("template.list", {})
			waiting = wait_for(lambda: self.pids("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'taskerd' AND wait_event_type = 'Lock' AND query LIKE '%api_template_list%'"), "the question to wait")  # not a thread that is still being started
			self.freeze(waiting[0])
			holder.run("ROLLBACK")
			hangs = lambda: [(h["call"], h["backend"]) for h in self.hanging(node)]  # noqa: E731 (for a moment there may be more on a busy machine)
			wait_for(lambda: hangs() == [("tasker.api_template_list", waiting[0])], lambda: "the daemon to say which call hangs: %s" % hangs())
			wait_for(lambda: self.metric(node, "taskerd_database_calls_hanging") == 1, "the metric to say so")
			broken = lambda: [(c["name"], c["found"], [s["backend"] for s in c["sample"]]) for c in node.new_client().request("doctor", {})["checks"] if not c["ok"]]  # noqa: E731
			wait_for(lambda: broken() == [("database_calls", 1, waiting)], lambda: "doctor to say so: %s" % broken())
			self.create_many(node, "one", 3)
			self.thaw(waiting[0])
			self.assertEqual([x["name"] for x in asker.answer(question)["templates"]], ["one"])
		wait_for(lambda: not self.hanging(node), "nothing to hang any more")
		self.doctor(node)

	def test_who_waits_for_an_answer_is_told_that_the_database_owes_it(self):
		node = harness.Daemon(self, "node-a", database=self.db.uri, lease_ttl_ms=harness.HOUR_MS, sweep_interval_ms=harness.HOUR_MS)  # nothing hangs that early
		node.start()
		wire.ready(node)
		holder = self.cluster.session(self.db.name)
		self.at_end(holder.close)
		holder.run("BEGIN")
		holder.run("LOCK TABLE tasker.templates IN ACCESS EXCLUSIVE MODE")
		asking = lambda *words: subprocess.run([harness.program("clients", "taskerctl", "taskerctl"), "--socket", node.socket, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: E731
		done = asking("template", "list", "--timeout", "2s")
		self.assertEqual(done.returncode, 6, done.stderr)
		self.assertRegex(done.stderr, r"its database has not answered .tasker\.api_template_list. for [\d.]+(ms|s)\n.*taskerctl version")
		said = asking("version").stdout
		self.assertRegex(said, r"waiting +for .*: tasker\.api_template_list")
		holder.run("ROLLBACK")
		wait_for(lambda: node.info()["database"]["oldest_call"]["call"] != "tasker.api_template_list", "the answer")
		self.assertEqual(asking("template", "list").returncode, 0)

	def test_doctor_does_not_take_itself_for_one(self):
		"""Its own call took longer than a lease; when it answers, nothing waits any more."""
		node = self.one_node()
		with wire.Wire(node.socket) as asker:
			asker.hello()
			holder = self.cluster.session(self.db.name)
			self.at_end(holder.close)
			holder.run("BEGIN")
			holder.run("LOCK TABLE tasker.operator_actions IN ACCESS EXCLUSIVE MODE")
			question = asker.ask("doctor", {})
			wait_for(lambda: "tasker.api_doctor" in [h["call"] for h in self.hanging(node)], "the daemon to say which call hangs")
			holder.run("ROLLBACK")
			answer = asker.answer(question)
			self.assertTrue(answer["ok"], answer["checks"][-1])

	def test_one_that_waits_for_a_lock(self):
		"""Whose it is, operators are told without asking the database themselves."""
		node = self.one_node(store_threads=3)
		with wire.Wire(node.socket) as asker, self.cluster.session(self.db.name) as holder:
			asker.hello()
			holder.run("SET application_name = 'migration'")
			holder.run("BEGIN")
			holder.run("LOCK TABLE tasker.templates IN ACCESS EXCLUSIVE MODE")
			pid = holder.run("SELECT pg_backend_pid()")[0][0]
			question = asker.ask("template.list", {})
			why = lambda: [h["why"] for h in self.hanging(node) if h["call"] == "tasker.api_template_list" and h["why"].startswith("process")]  # noqa: E731
			self.assertRegex(wait_for(why, "the daemon to say what the call waits for")[0], r"^process %s \(migration, user \w+, idle in transaction\) holds what it waits for, in a transaction of \d+ s$" % pid)
			ctl = harness.program("clients", "taskerctl", "taskerctl")
			told = subprocess.run([ctl, "--socket=" + node.socket, "status"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=harness.PATIENCE, check=False)
			self.assertEqual(told.returncode, 1)
			self.assertIn("process %s (migration" % pid, told.stdout)
			holder.run("ROLLBACK")
			asker.answer(question)
		wait_for(lambda: not self.hanging(node), "nothing to hang any more")

	def test_that_of_the_lease(self):
		"""It holds the lock of the node's name and cannot be told to end. The daemon proves its life over another connection, and takes the lock when it is free."""
		node = self.one_node()
		held = wait_for(lambda: self.pids(HELD_BY_PRESENCE), "the daemon to hold its name")
		self.freeze(held[0])
		wait_for(lambda: "does not answer" in node.log_text(), "the daemon to notice")
		node.wait_up()
		self.create_many(node, "one", 3)
		self.assertEqual(self.pids(HELD_BY_PRESENCE), held)
		self.thaw(held[0])
		wait_for(lambda: self.pids(HELD_BY_PRESENCE) not in ([], held), "the lock to be taken again")
		node.wait_up()
		self.doctor(node)


if __name__ == "__main__":
	unittest.main()

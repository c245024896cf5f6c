"""An operator's session on a machine with systemd and the packages: enable, run, break, find out why, fix, reload, restart under load, watchdog, stop, upgrade, purge.

Each test goes on where the one before it has stopped.
"""
import json
import os
import re
import unittest

import machine
from machine import Failed

PACKAGES = ("taskerd", "taskerctl", "libtasker0", "python3-taskerd")
RESTARTS = int(os.environ.get("TASKERD_TEST_RESTARTS", "5"))  # under load, each way
TEMPLATE = """
name: order
namespace_name: shop
version: 1.0.0
steps:
  - name: check
    handler: {callable: shop.check}
    retry: {max_attempts: 1}
  - name: pay
    handler: {callable: shop.pay}
    dependencies: [check]
    retry: {max_attempts: 1}
"""
HANDLERS = """
import os, time
from taskerd import PermanentError
from taskerd.step_handler.functional import step_handler

@step_handler("shop.check")
def check(context):
    context.log("info", "looking at an order", amount=context.input_data.get("amount", 0))
    if context.input_data.get("amount", 0) > 1000 and not os.path.exists("/etc/shop-limit"):
        raise PermanentError("amount is over the limit: write /etc/shop-limit")
    return {"amount": context.input_data.get("amount", 0)}

@step_handler("shop.pay")
def pay(context):
    time.sleep(context.input_data.get("slow", 0))
    return {"paid": True}
"""


class Session(machine.Story):
	m = None

	@classmethod
	def setUpClass(cls):
		cls.m = machine.make("session", machine.PACKAGES)
		cls.addClassCleanup(cls.m.close)
		cls.m.install(*PACKAGES)
		cls.m.boot()

	def last_words(self):
		return self.m.sh("journalctl", "--no-pager", "-n", "40", status=None)

	def ctl(self, *args, status=0):
		return self.m.sh("taskerctl", *args, status=status)

	def json(self, *args, status=0):
		return json.loads(self.ctl(*args, "--json", status=status))

	def show(self, unit, name):
		return self.m.sh("systemctl", "show", "-p", name, "--value", unit).strip()

	def create(self, **context):
		return self.json("task", "create", "shop/order", "--context", json.dumps(context))["task_uuid"]

	def state(self, task):
		return self.json("task", "get", task)["state"]

	def settles(self, task, state):
		self.m.wait(lambda: self.state(task) == state, "task %s to be %s" % (task, state))

	def test_01_nothing_runs_before_it_is_enabled(self):
		self.assertEqual(self.show("taskerd", "ActiveState"), "inactive")
		self.assertIn("taskerd is not running", self.ctl("doctor", status=3))

	def test_02_enable(self):
		self.m.sh("systemctl", "enable", "--now", "taskerd.socket", "taskerd.service")
		self.assertEqual(self.show("taskerd", "ActiveState"), "active")
		self.m.wait(lambda: self.show("taskerd", "StatusText").startswith("serving"), "the database")
		self.ctl("doctor")
		self.assertEqual(self.show("taskerd", "User"), "taskerd")

	def test_03_a_worker(self):
		self.m.write("/opt/shop/shop.py", HANDLERS)
		self.m.write("/etc/taskerd/workers/shop.env", "COMMAND=/usr/bin/python3 -m taskerd worker /opt/shop/shop.py\n")
		self.m.sh("systemctl", "enable", "--now", "taskerd-worker@shop")
		self.m.wait(lambda: "shop.pay" in self.ctl("worker", "list", "--json"), "the worker to be listed")
		self.assertEqual(self.show("taskerd-worker@shop", "DynamicUser"), "yes")
		self.assertNotIn("shop", self.m.sh("cat", "/etc/passwd"))
		uid = self.m.sh("stat", "-c", "%u", "/proc/%s" % self.show("taskerd-worker@shop", "MainPID")).strip()
		self.assertIn(int(uid), range(61184, 65520), "a user made for the unit")
		self.assertEqual([str(w["uid"]) for w in self.json("worker", "list")["workers"]], [uid])

	def test_04_a_workflow(self):
		self.m.write("/root/order.yaml", TEMPLATE)
		self.ctl("template", "validate", "/root/order.yaml")
		self.ctl("template", "apply", "/root/order.yaml")
		self.settles(self.create(amount=10), "complete")

	def test_05_it_breaks_and_is_fixed(self):
		task = self.create(amount=5000)
		self.settles(task, "blocked_by_failures")
		self.assertIn("check", self.ctl("task", "get", task))
		self.assertIn("over the limit: write /etc/shop-limit", self.ctl("step", "get", task, "check"))
		self.assertIn(task, self.ctl("dlq", "list"))
		self.m.write("/etc/shop-limit", "")
		self.ctl("step", "reset", task, "check", "--reason", "the limit is lifted")
		self.settles(task, "complete")
		self.assertIn("the limit is lifted", self.ctl("step", "history", task, "check"))

	def test_06_the_journal(self):
		"""A task's story, by the daemon and by its worker; and what is to be done about it."""
		os.unlink(self.m.path("/etc/shop-limit"))
		task = self.create(amount=6000)
		self.settles(task, "blocked_by_failures")
		step = self.json("task", "get", task)["steps"][0]["step_uuid"]

		def story():
			return [json.loads(line) for line in self.m.sh("journalctl", "TASKER_TASK=" + task, "-o", "json", "--no-pager").splitlines()]
		self.m.wait(lambda: len(story()) >= 2, "two lines about the task")
		self.assertEqual([r["MESSAGE"].split(" amount=")[0] for r in story()][0], "looking at an order")
		for record in story():
			self.assertEqual([record[f] for f in ("TASKER_STEP", "TASKER_NAMESPACE", "TASKER_TEMPLATE", "TASKER_HANDLER", "TASKER_ATTEMPT", "_SYSTEMD_UNIT")], [step, "shop", "order", "shop.check", "1", "taskerd.service"])
		self.assertIn("A step has failed for good", self.m.sh("journalctl", "-x", "TASKER_STEP=" + step, "--no-pager"))
		self.assertIn("taskerd: The daemon has started", self.m.sh("journalctl", "--list-catalog"))
		self.m.write("/etc/shop-limit", "")
		self.ctl("task", "retry", task, "--reason", "again")
		self.settles(task, "complete")
		self.assertIn("taskerd 0.", self.m.sh("journalctl", "-u", "taskerd", "--no-pager"))

	def test_07_reload(self):
		self.m.write("/etc/taskerd/taskerd.d/sessions.yaml", "max_sessions: 77\n")
		self.m.sh("systemctl", "reload", "taskerd")
		self.m.wait(lambda: "max_sessions: 77" in self.m.sh("journalctl", "-u", "taskerd", "--no-pager"), "the log to say so")
		self.assertEqual(self.show("taskerd", "ActiveState"), "active")

	def test_08_restart_under_load(self):
		"""Sockets and sessions stay with systemd: no attempt is lost, no client sees an error, and the worker does not even notice."""
		before = [w["worker_uuid"] for w in self.json("worker", "list")["workers"]]
		kept, words = self.under_load("as shipped")
		self.assertEqual(kept, RESTARTS)
		self.assertEqual([w["worker_uuid"] for w in self.json("worker", "list")["workers"]], before)
		self.assertNotRegex(words.lower(), "error|lost|connect")

	def test_08_restart_under_load_without_the_store(self):
		"""The way it goes when nothing can be kept: the worker comes back and goes on, at no attempt either."""
		self.m.write("/etc/systemd/system/taskerd.service.d/nothing.conf", "[Service]\nFileDescriptorStoreMax=0\n")
		self.m.sh("systemctl", "daemon-reload")
		kept, _ = self.under_load("nothing kept")
		self.assertEqual(kept, 0)
		os.unlink(self.m.path("/etc/systemd/system/taskerd.service.d/nothing.conf"))
		self.m.sh("systemctl", "daemon-reload")

	def under_load(self, how):
		"""How many restarts kept the worker's session, and what the worker said."""
		since = self.m.sh("date", "+%s.%N").strip()
		tasks = [self.create(amount=1, slow=0.02) for _ in range(3)]
		for _ in range(RESTARTS):
			self.m.write("/root/many.jsonl", '{"amount": 1, "slow": 0.02}\n' * 200)
			self.ctl("task", "create", "shop/order", "--from", "/root/many.jsonl")
			self.m.sh("systemctl", "reset-failed", "taskerd")  # so many at a time are no accident
			self.m.sh("systemctl", "restart", "taskerd")
		for task in tasks:
			self.settles(task, "complete")
			self.assertEqual({s["attempts"] for s in self.json("task", "get", task)["steps"]}, {1})
		self.m.wait(lambda: not [t for state in ("pending", "steps_in_process", "waiting_for_retry") for t in self.json("task", "list", "--state", state)["tasks"]], "all tasks to be over")
		self.assertEqual(self.show("taskerd-worker@shop", "NRestarts"), "0")
		self.ctl("doctor")
		self.measure(how, since)
		said = lambda unit: self.m.sh("journalctl", "-u", unit, "--since", "@" + since, "--no-pager")  # noqa: E731
		return len(re.findall(r"[1-9]\d* of \d+ sessions from before the restart are still open", said("taskerd"))), said("taskerd-worker@shop")

	def measure(self, how, since):
		"""What the restarts have cost, from the database's own times: attempts that were lost, and the longest time in which no step began."""
		sql = """SELECT count(*), count(*) FILTER (WHERE outcome NOT IN ('success', 'released')), count(*) FILTER (WHERE outcome = 'released'),
			round(1000 * extract(epoch FROM max(gap))), round(1000 * extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY gap)))
			FROM (SELECT outcome, claimed_at - lag(claimed_at) OVER (ORDER BY claimed_at) AS gap FROM tasker.step_attempts WHERE claimed_at > to_timestamp(%s)) x""" % since
		row = self.m.sh("runuser", "-u", "taskerd", "--", "psql", "-XAt", "-h", "/var/lib/taskerd/embedded/run", "taskerd", "-c", sql).strip().split("|")
		print("\n%d restarts under load, %s: %s attempts, %s lost, %s given back; longest time without a new step %s ms (median %s ms)" % (RESTARTS, how, *row))
		self.assertEqual(row[1], "0", "attempts lost")

	def test_09_the_watchdog(self):
		self.m.write("/etc/systemd/system/taskerd.service.d/watchdog.conf", "[Service]\nWatchdogSec=2\n")
		self.m.sh("systemctl", "daemon-reload")
		self.m.sh("systemctl", "restart", "taskerd")
		pid = self.show("taskerd", "MainPID")
		self.m.sh("kill", "-STOP", pid)
		self.m.wait(lambda: self.show("taskerd", "MainPID") not in (pid, "0"), "systemd to put another in its place")
		self.assertIn("watchdog", self.m.sh("journalctl", "-u", "taskerd", "--no-pager").lower())
		self.settles(self.create(amount=2), "complete")

	def test_10_stop_drains(self):
		task = self.create(amount=1, slow=1)
		self.m.wait(lambda: self.json("task", "get", task)["steps"][1]["state"] == "in_progress", "the slow step to run")
		self.m.sh("systemctl", "stop", "taskerd.socket", "taskerd")
		self.assertEqual(self.show("taskerd", "Result"), "success")
		self.m.sh("systemctl", "start", "taskerd.socket", "taskerd")
		self.settles(task, "complete")
		self.assertEqual(self.json("task", "get", task)["steps"][1]["attempts"], 1)

	def test_11_an_upgrade_keeps_data_and_running_steps(self):
		task = self.create(amount=1, slow=3)
		self.m.wait(lambda: self.json("task", "get", task)["steps"][1]["state"] == "in_progress", "the slow step to run")
		before = self.show("taskerd", "MainPID")
		self.m.release("99.0")
		self.m.install(*PACKAGES)
		self.assertEqual(self.m.sh("dpkg-query", "-W", "-f", "${Version}", "taskerd"), "99.0")
		self.assertNotEqual(self.show("taskerd", "MainPID"), before)
		self.settles(task, "complete")
		self.assertEqual(self.json("task", "get", task)["steps"][1]["attempts"], 1)

	def test_12_manual_pages(self):
		for page in ("taskerd", "taskerctl", "taskerd.conf"):
			self.assertTrue(re.search("NAME", self.m.sh("man", "-P", "cat", page)), page)

	def test_13_purge(self):
		self.m.sh("systemctl", "disable", "--now", "taskerd-worker@shop")
		self.m.sh("dpkg", "--purge", "taskerd", "taskerctl", "python3-taskerd", "libtasker0")
		self.assertEqual(self.m.sh("pgrep", "-a", "-f", "^/usr/sbin/taskerd|/var/lib/taskerd/embedded", status=None), "")
		for path in ("/var/lib/taskerd", "/etc/taskerd", "/usr/sbin/taskerd", "/lib/systemd/system/taskerd.service"):
			self.assertFalse(os.path.exists(self.m.path(path)), path)
		with self.assertRaises(Failed):
			self.m.sh("systemctl", "start", "taskerd")


if __name__ == "__main__":
	unittest.main(failfast=True)

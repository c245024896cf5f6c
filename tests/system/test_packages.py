"""The packages in a fresh Debian, entered by chroot: lintian, install, upgrade under a running step, remove, purge. Each test goes on where the one before has stopped."""
import glob
import json
import os
import tempfile
import unittest

import machine
from test_session import TEMPLATE

NAMES = ("libtasker0", "libtasker-dev", "taskerd", "taskerctl", "python3-taskerd", "ruby-taskerd")
PROGRAMS = ("/usr/sbin/taskerd", "/usr/bin/taskerctl", "/usr/bin/taskerd-ruby-worker", "/usr/include/tasker.h", "/usr/lib/systemd/system/taskerd.service")
AS_DAEMON = ("setpriv", "--reuid=taskerd", "--regid=taskerd", "--init-groups", "--pdeathsig", "KILL")
HANDLERS = """
import os, time
from taskerd.step_handler.functional import step_handler

@step_handler("shop.check")
def check(context):
    return {"amount": context.input_data.get("amount", 0)}

@step_handler("shop.pay")
def pay(context):
    while context.input_data.get("waits") and not os.path.exists("/srv/go"):
        time.sleep(0.02)
    return {"paid": True}
"""
# What dpkg, the programs and Debian's own rules leave when packages are gone: records, caches, and the user, whose files may be anywhere.
STAYS = ("/var/lib/dpkg", "/var/log", "/var/cache", "/proc", "/run", "/dev", "/tmp", "/root", "/srv", "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow",
         "/etc/ld.so.cache", "/etc/.pwd.lock", "/etc/subuid", "/etc/subgid",
         "/usr/share/python3/debpython/__pycache__")  # of the tool that compiles every package's modules


class Packages(machine.Story):
	running = {}

	@classmethod
	def setUpClass(cls):
		cls.m = machine.make("packages", machine.PACKAGES)
		cls.addClassCleanup(cls.m.close)
		cls.addClassCleanup(cls.end)
		cls.m.mount()
		cls.before = cls.files()

	@classmethod
	def end(cls):
		for process in cls.running.values():
			process.terminate()
			process.wait(machine.PATIENCE)
		cls.running.clear()

	def last_words(self):
		return self.m.sh("sh", "-c", "tail -n 20 /srv/*.log", status=None)

	@classmethod
	def files(cls):
		"""Every path of the machine but those that stay."""
		found = machine.run("find", ".", "-xdev", cwd=cls.m.root).splitlines()
		return {p[1:] for p in found if not p[1:].startswith(STAYS)}

	def ctl(self, *args):
		return json.loads(self.m.sh("taskerctl", *args, "--json"))

	def start(self, name, *argv):
		self.running[name] = self.m.start(*AS_DAEMON, *argv, log="/srv/%s.log" % name)

	def start_daemon(self):
		"""As the unit does, which makes the directories and names them."""
		self.m.sh("install", "-d", "-o", "taskerd", "-g", "taskerd", "/run/taskerd", "/var/lib/taskerd")
		self.start("daemon", "env", "STATE_DIRECTORY=/var/lib/taskerd", "RUNTIME_DIRECTORY=/run/taskerd", "HOME=/var/lib/taskerd", "/usr/sbin/taskerd")
		self.m.wait(lambda: "up," in self.m.sh("taskerctl", "version", status=None), "the database")

	def stop_daemon(self):
		process = self.running.pop("daemon")
		process.terminate()
		self.assertEqual(process.wait(machine.PATIENCE), 0)

	def create(self, **context):
		return self.ctl("task", "create", "shop/order", "--context", json.dumps(context))["task_uuid"]

	def task(self, task):
		return self.ctl("task", "get", task)

	def settles(self, task):
		self.m.wait(lambda: self.task(task)["state"] == "complete", "task %s to be complete" % task)

	def versions(self):
		return set(self.m.sh("dpkg-query", "-W", "-f", "${Version} ${db:Status-Status}\n", *NAMES).splitlines())

	def test_1_lintian(self):
		changes = glob.glob(os.path.join(os.environ["TASKERD_PACKAGES"], "*.changes"))
		self.assertEqual(len(changes), 1)
		with tempfile.TemporaryDirectory() as place:  # lintian leaves files in it
			self.assertEqual(machine.run("env", "TMPDIR=" + place, "lintian", "--allow-root", "--fail-on=error,warning", *changes), "")

	def test_2_install(self):
		self.m.install(*NAMES)
		self.assertEqual(len(self.versions()), 1)
		self.assertEqual(self.m.sh("dpkg", "--audit"), "")
		self.assertEqual([p for p in PROGRAMS if not os.path.exists(self.m.path(p))], [])
		self.assertIn("/var/lib/taskerd", self.m.sh("getent", "passwd", "taskerd"))
		self.m.sh("/usr/sbin/taskerd", "--check-config")
		self.m.sh("python3", "-c", "import taskerd")
		self.m.sh("ruby", "-e", "require 'taskerd'")

	def test_3_a_workflow(self):
		self.m.write("/srv/shop.py", HANDLERS)
		self.m.write("/srv/order.yaml", TEMPLATE)
		self.start_daemon()
		self.start("worker", "/usr/bin/python3", "-m", "taskerd", "worker", "/srv/shop.py")
		self.m.sh("taskerctl", "template", "apply", "/srv/order.yaml")
		type(self).first = self.create(amount=1)
		self.settles(self.first)

	def test_4_an_upgrade_keeps_data_configuration_and_running_steps(self):
		task = self.create(amount=2, waits=True)
		self.m.wait(lambda: self.task(task)["steps"][1]["state"] == "in_progress", "the step to run")
		with open(self.m.path("/etc/taskerd/taskerd.yaml"), "a", encoding="utf-8") as f:
			f.write("max_sessions: 77\n")
		self.m.release("99.0")
		self.m.install(*NAMES)
		self.assertEqual(self.versions(), {"99.0 installed"})
		self.assertEqual(self.task(task)["steps"][1]["state"], "in_progress", "an upgrade without systemd leaves the daemon alone")
		self.stop_daemon()
		self.start_daemon()
		self.assertIn("max_sessions: 77", self.m.sh("cat", "/etc/taskerd/taskerd.yaml"))
		self.m.write("/srv/go", "")
		self.settles(task)
		self.assertEqual([s["attempts"] for s in self.task(task)["steps"]], [1, 1])
		self.assertEqual(self.task(self.first)["state"], "complete")

	def test_5_removed_it_leaves_data_and_configuration(self):
		self.end()
		self.m.sh("dpkg", "--remove", *NAMES)
		self.assertEqual([p for p in PROGRAMS if os.path.exists(self.m.path(p))], [])
		self.assertTrue(os.path.exists(self.m.path("/var/lib/taskerd/embedded/data/PG_VERSION")))
		self.assertIn("max_sessions: 77", self.m.sh("cat", "/etc/taskerd/taskerd.yaml"))

	def test_6_installed_again_it_goes_on(self):
		self.m.install(*NAMES)
		self.start_daemon()
		self.assertEqual(self.task(self.first)["state"], "complete")
		self.stop_daemon()

	def test_7_purged_it_leaves_nothing(self):
		self.m.sh("dpkg", "--purge", *NAMES)
		self.assertEqual(sorted(self.files() - self.before), [])
		self.assertEqual(sorted(self.before - self.files()), [])


if __name__ == "__main__":
	unittest.main(failfast=True)

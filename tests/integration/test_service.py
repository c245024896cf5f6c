"""What a service manager asks of taskerd and is told: readiness, reloads, the watchdog, sockets it passes, secrets it keeps; and the units that are shipped."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import unittest

import harness
import web
from harness import step, template, wait_for

UNITS = os.path.join(harness.ROOT, "contrib", "systemd")


class Manager:
	"""The socket at which a service manager hears of its services."""

	def __init__(self, case):
		self.path = os.path.join(case.place, "notify")
		self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
		self.sock.bind(self.path)
		self.sock.settimeout(harness.PATIENCE)
		case.at_end(self.sock.close)
		self.heard = []

	def hear(self, what):
		"""Wait for a message that matches; the messages until then are in heard."""
		while True:
			message = self.sock.recv(65536).decode()
			self.heard.append(message)
			if re.search(what, message, re.M):
				return message


class Service(harness.Case):
	def setUp(self):
		super().setUp()
		self.db = self.database()
		self.config = os.path.join(self.place, "taskerd.yaml")
		self.manager = Manager(self)

	def write(self, text, path=None):
		path = path or self.config
		os.makedirs(os.path.dirname(path), exist_ok=True)
		with open(path, "w", encoding="utf-8") as f:
			f.write(text)

	def environment(self, **more):
		"""For the daemon that is started next."""
		before = dict(os.environ)
		os.environ.update({"NOTIFY_SOCKET": self.manager.path, **more})

		def back():
			os.environ.clear()
			os.environ.update(before)
		self.at_end(back)

	def service(self, **options):
		return self.daemon(self.db, config=self.config, **options)


class Notify(Service):
	def test_from_start_to_stop(self):
		self.write("log_level: info\n")
		self.environment()
		node = self.service()
		for what in ("^READY=1$", "^STATUS=serving"):
			if not any(re.search(what, message, re.M) for message in self.manager.heard):
				self.manager.hear(what)
		os.kill(node.pid, signal.SIGTERM)
		self.manager.hear("^STOPPING=1$")
		self.assertEqual(node.process.wait(), 0)

	def test_the_watchdog_is_fed_while_the_database_is_away(self):
		self.write("{}")
		cluster = harness.new_cluster()
		self.at_end(cluster.close)
		self.db = self.database(cluster)
		self.environment(WATCHDOG_USEC="300000")
		node = self.service()
		self.manager.hear("^WATCHDOG=1$")
		cluster.stop("immediate")
		self.manager.hear("^STATUS=waiting for the database")
		for _ in range(5):
			self.manager.hear("^WATCHDOG=1$")
		self.assertTrue(node.process.alive())


class Reload(Service):
	def reload(self, node, told):
		"""SIGHUP; the log's lines on it, of which the last matches."""
		self.seen = getattr(self, "seen", 0)
		os.kill(node.pid, signal.SIGHUP)
		self.manager.hear("^RELOADING=1$")
		self.manager.hear("^READY=1$")
		lines = [line for line in self.log(node) if "reload: " in line]
		new, self.seen = lines[self.seen:], len(lines)
		self.assertRegex(new[-1], told)
		return "\n".join(new)

	@staticmethod
	def log(node):
		with open(node.log, encoding="utf-8") as f:
			return f.read().splitlines()

	def test_new_values(self):
		self.write("max_sessions: 50\nstore_threads: 2\n")
		self.environment()
		node = self.service()
		self.manager.hear("^READY=1$")
		self.write("max_sessions: 2\nstore_threads: 3\nlog_level: debug\n")
		told = self.reload(node, "2 options have new values")
		self.assertIn("max_sessions: 2\n", told + "\n")
		self.assertIn("log_level: debug", told)
		self.assertIn("store_threads: the new value waits for a restart", told)
		held = [node.new_client() for _ in range(2)]
		for client in held:
			client.server_info()
		self.assertIsNone(node.info(), "a third session is refused")
		held[0].close()
		wait_for(node.info, "the place that is free again")
		self.reload(node, "0 options have new values")

	def test_with_an_error_nothing_changes(self):
		self.write("max_sessions: 50\n")
		self.environment()
		node = self.service()
		self.manager.hear("^READY=1$")
		self.write("max_sessions: 1\nlog_level: loud\nbatch_maxx: 3\n")
		told = self.reload(node, "the configuration stays as it was")
		self.assertRegex(told, r"taskerd\.yaml:2:12: .*log_level")
		self.assertRegex(told, r"taskerd\.yaml:3:1: .*batch_maxx.*did you mean batch_max")
		self.assertTrue(node.info())
		os.unlink(self.config)
		self.assertIn("No such file", self.reload(node, "the configuration stays as it was"))
		self.write("max_sessions: 60\n")
		self.reload(node, "1 options have new values")

	def test_work_goes_on(self):
		self.write("{}")
		self.environment()
		node = self.service()
		self.apply(node, template("through", [step("a", "t.gate"), step("b", after=["a"])]))
		self.python_worker(node)
		task = self.create(node, "through")
		self.ledger.wait_lines(1)
		self.write("heartbeat_ms: 5000\ndrain_timeout_ms: 200\n")
		self.reload(node, "2 options have new values")
		self.ledger.open_gate("gate")
		self.assertEqual(self.finished(node, task).state, "complete")


class Sources(Service):
	"""Files beside the configuration file, and credentials."""

	def check(self, *args, status=0, **env):
		r = subprocess.run([harness.taskerd_program(), "--check-config", "--verbose", "--config=" + self.config, *args], env={**os.environ, **env}, check=False,
		                   capture_output=True, text=True, timeout=harness.PATIENCE)
		self.assertEqual(r.returncode, status, r.stdout + r.stderr)
		return r.stdout + r.stderr

	def drop_in(self, name, text):
		self.write(text, os.path.join(self.place, "taskerd.d", name))

	def test_files_beside_it(self):
		self.write("database: host=/nowhere\nbatch_max: 1\nmax_sessions: 10\n")
		self.drop_in("20-b.yaml", "batch_max: 3\n")
		self.drop_in("10-a.yaml", "batch_max: 2\nmax_sessions: 20\n")
		self.drop_in(".hidden.yaml", "batch_max: 4\n")
		self.drop_in("30-note.txt", "not YAML: [")
		text = self.check()
		self.assertIn("batch_max: 3 # file", text)
		self.assertIn("max_sessions: 20 # file", text)
		self.assertIn("batch_max: 9 # command line", self.check("--batch-max=9"))

	def test_errors_of_all_files_at_once(self):
		self.write("database: host=/nowhere\nbatch_max: none\n")
		self.drop_in("a.yaml", "max_sessions: -1\n")
		self.drop_in("b.yaml", "[]\n")
		text = self.check(status=2)
		for what in (r"taskerd\.yaml:2:12: .*batch_max", r"taskerd\.d/a\.yaml:1:15: .*max_sessions", r"taskerd\.d/b\.yaml:1:1: "):
			self.assertRegex(text, what)

	def test_credentials(self):
		self.write("database: host=/file\n")
		kept = os.path.join(self.place, "credentials")
		self.write("postgresql://u:topsecret@/kept\n", os.path.join(kept, "taskerd.database"))
		text = self.check(CREDENTIALS_DIRECTORY=kept)
		self.assertRegex(text, r"(?m)^database: .*kept.* # credential .*/taskerd\.database$")
		self.assertNotIn("topsecret", text)
		self.assertIn("host=/env", self.check(CREDENTIALS_DIRECTORY=kept, TASKERD_DATABASE="host=/env"))
		self.write("topsecret\n", os.path.join(kept, "taskerd.database"))
		text = self.check(status=2, CREDENTIALS_DIRECTORY=kept)
		self.assertIn("credentials/taskerd.database", text)
		self.assertNotIn("topsecret", text)

	def config_show(self, *args, status=0, **env):
		r = subprocess.run([harness.program("clients", "taskerctl", "taskerctl"), "config", "show", *args], env={**os.environ, **env}, check=False, capture_output=True, text=True, timeout=harness.PATIENCE)
		self.assertEqual(r.returncode, status, r.stdout + r.stderr)
		return r.stdout

	def test_what_is_in_effect(self):
		"""As the daemon has it, before and after a reload; and the same from the files alone."""
		self.write("# first line\nbatch_max: 9\nmax_sessions: 50\n")
		self.drop_in("10-a.yaml", "\nlog_level: warn\n")
		self.environment()
		node = self.service(max_branches=7)
		self.manager.hear("^READY=1$")

		def options(*args, **env):
			answer = json.loads(self.config_show("--json", *args, **env))
			return answer["from"], {o["name"]: (o["value"], o["source"], o["place"]) for o in answer["options"]}
		source, have = options("--socket=" + node.socket)
		self.assertEqual(source, "daemon")
		here = {"batch_max": ("9", "file", self.config + ":2"), "log_level": ("warn", "file", os.path.join(self.place, "taskerd.d", "10-a.yaml") + ":2"),
		        "lease_ttl_ms": ("15000", "default", None), "access": (None, "default", None)}
		self.assertEqual({name: have[name] for name in here}, here)
		self.assertEqual(have["max_branches"], ("7", "command line", "--max-branches"))
		self.write("# first line\n# another\nbatch_max: 11\nmax_sessions: 60\n")
		os.kill(node.pid, signal.SIGHUP)
		self.manager.hear("^RELOADING=1$")
		self.manager.hear("^READY=1$")
		_, have = options("--socket=" + node.socket)
		self.assertEqual(have["batch_max"], ("9", "file", self.config + ":2"), "that waits for a restart")
		self.assertEqual(have["max_sessions"], ("60", "file", self.config + ":4"))
		self.assertIn("max_sessions: 60 # file %s:4\n" % self.config, self.config_show("--socket=" + node.socket))
		source, have = options("--config=" + self.config)
		self.assertEqual((source, have["batch_max"]), ("files", ("11", "file", self.config + ":3")))

	def test_what_would_be_in_effect(self):
		nobody = os.path.join(self.place, "nobody.sock")
		env = {"TASKERD_CONFIG": self.config, "TASKERD_DATABASE": "postgresql://u:topsecret@/kept"}
		self.write("max_sessions: 5\n")
		text = self.config_show("--socket=" + nobody, **env)
		self.assertIn("max_sessions: 5 # file %s:1\n" % self.config, text)
		self.assertIn("database: postgresql://u:***@/kept # environment TASKERD_DATABASE\n", text)
		self.write("max_sessions: lots\n")
		self.config_show("--socket=" + nobody, status=1, **env)
		text = self.config_show("--default")
		self.assertIn("max_sessions: 2000 # most connections at a time\n", text)
		self.assertIn("# socket: ", text)
		self.assertIn("--default is what holds", subprocess.run([harness.program("clients", "taskerctl", "taskerctl"), "config", "show", "--default", "--effective"], check=False, capture_output=True, text=True, timeout=harness.PATIENCE).stderr)

	def test_a_daemon_with_a_credential(self):
		self.write("{}")
		kept = os.path.join(self.place, "credentials")
		self.write(self.db.uri + "\n", os.path.join(kept, "taskerd.database"))
		self.environment(CREDENTIALS_DIRECTORY=kept)
		sock = os.path.join(self.place, "c.sock")
		process = self.track(harness.Process("c", [harness.taskerd_program(), "--config=" + self.config, "--socket=" + sock], os.path.join(self.place, "c.log")))
		self.manager.hear("^STATUS=serving")
		self.assertTrue(process.alive())


@unittest.skipUnless(shutil.which("systemd-socket-activate"), "systemd is not installed")
class Activation(Service):
	def test_the_first_connection_starts_it(self):
		"""Who connects before the daemon is there waits, and is served."""
		path = os.path.join(self.place, "active.sock")
		argv = ["systemd-socket-activate", "--listen=" + path, "--setenv=PATH", harness.taskerd_program(), "--database=" + self.db.uri, "--socket=" + path, "--node-name=active"]
		process = self.track(harness.Process("active", argv, os.path.join(self.place, "active.log")))
		wait_for(lambda: os.path.exists(path), "the socket")
		with harness.TaskerClient(socket=path, timeout=harness.PATIENCE) as client:
			self.assertEqual(client.server_info()["node"], "active")
		os.kill(process.pid, signal.SIGTERM)
		self.assertEqual(process.wait(), 0, process.last_words())
		self.assertTrue(os.path.exists(path), "the manager's socket is not the daemon's to remove")

	def test_the_first_request_over_http_starts_it(self):
		"""It is answered on the manager's socket, whatever http_listen says, and that socket stays."""
		path, http, other = (os.path.join(self.place, name) for name in ("both.sock", "h.sock", "other.sock"))
		argv = ["systemd-socket-activate", "--listen=" + path, "--listen=" + http, "--fdname=taskerd.socket:http", "--setenv=PATH", harness.taskerd_program(), "--database=" + self.db.uri, "--socket=" + path, "--http-listen=" + other]
		process = self.track(harness.Process("both", argv, os.path.join(self.place, "both.log")))
		wait_for(lambda: os.path.exists(http), "the socket")
		client = web.Web(http)
		self.addCleanup(client.close)
		self.assertEqual(client.get("/health/live").status, 200)
		with harness.TaskerClient(socket=path, timeout=harness.PATIENCE) as c:
			self.assertTrue(c.server_info()["node"])
		os.kill(process.pid, signal.SIGTERM)
		self.assertEqual(process.wait(), 0, process.last_words())
		self.assertEqual([os.path.exists(p) for p in (path, http, other)], [True, True, False])


@unittest.skipUnless(shutil.which("systemd-analyze"), "systemd is not installed")
class Units(harness.Case):
	def prepared(self):
		"""The units as they are installed, with programs that are there."""
		for name in os.listdir(UNITS):
			with open(os.path.join(UNITS, name), encoding="utf-8") as f:
				text = f.read().replace("@sbindir@/taskerd", harness.taskerd_program())
			with open(os.path.join(self.place, name[:-3] if name.endswith(".in") else name), "w", encoding="utf-8") as f:
				f.write(text)
		return self.place

	def analyze(self, *args):
		return subprocess.run(["systemd-analyze", *args], check=False, capture_output=True, text=True, timeout=harness.PATIENCE, cwd=self.place)

	def test_they_are_understood(self):
		self.prepared()
		os.rename(os.path.join(self.place, "taskerd-worker@.service"), os.path.join(self.place, "taskerd-worker@x.service"))
		for unit in ("taskerd.service", "taskerd.socket", "taskerd-worker@x.service"):
			r = self.analyze("verify", "--man=no", "--recursive-errors=no", os.path.join(self.place, unit))
			self.assertEqual((r.returncode, r.stderr), (0, ""), unit)

	def test_they_are_hardened(self):
		self.prepared()
		for unit, most in (("taskerd.service", 15), ("taskerd-worker@.service", 45)):
			r = self.analyze("security", "--offline=true", "--threshold=%d" % most, os.path.join(self.place, unit))
			self.assertEqual(r.returncode, 0, r.stdout + r.stderr)


if __name__ == "__main__":
	unittest.main()

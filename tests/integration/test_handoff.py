"""A restart under a service manager that keeps what the daemon leaves with it, here a socket of the test's: sessions go on with the next daemon as if nothing had been, and whatever
does not fit ends in the ordinary resume, which costs no attempt either."""
import array
import os
import re
import signal
import socket
import threading
import unittest

import msgpack

import harness
import wire
from harness import step, template, wait_for
from wire import key, ok

ALL_KEPT = r"(\d+) of \1 sessions from before the restart are still open"
LAUNCH = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
names, fds, _, _ = socket.recv_fds(s, 65536, 250)
s.close()
for i, fd in enumerate(fds):
	os.dup2(fd, 500 + i)
	os.close(fd)
for i in range(len(fds)):
	os.dup2(500 + i, 3 + i)
	os.close(500 + i)
if fds:
	os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=names.decode())
os.execvp(sys.argv[2], sys.argv[2:])
"""


class Manager(threading.Thread):
	"""The part of a service manager that hears of its service, keeps descriptors for it, and hands them to who is started next."""

	def __init__(self, case):
		super().__init__(daemon=True)
		self.path, self.launcher = os.path.join(case.place, "notify"), os.path.join(case.place, "launcher")
		self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
		self.sock.bind(self.path)
		self.server = socket.socket(socket.AF_UNIX)
		self.server.bind(self.launcher)
		self.server.listen()
		self.kept, self.heard, self.lock = {}, [], threading.Lock()
		case.at_end(self.end)
		self.start()
		self.other = threading.Thread(target=self.hand_out, daemon=True)
		self.other.start()

	def end(self):
		for s, thread in (self.sock, self), (self.server, self.other):  # a call that went on waiting might go on with whoever has the number next
			s.shutdown(socket.SHUT_RDWR)
			thread.join()
			s.close()
		self.forget(list(self.kept))

	def run(self):
		while True:
			try:
				data, ancillary, _, _ = self.sock.recvmsg(65536, socket.CMSG_SPACE(4 * 250))
			except OSError:
				return
			if not data:
				return
			fds = [fd for level, kind, raw in ancillary if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) for fd in array.array("i", raw)]
			fields = dict(line.partition("=")[::2] for line in data.decode().splitlines())
			with self.lock:
				self.heard.append(fields)
				if fields.get("FDSTORE") == "1":
					self.kept.setdefault(fields["FDNAME"], []).extend(fds)
					fds = []
			if fields.get("FDSTOREREMOVE") == "1":
				self.forget([fields["FDNAME"]])
			for fd in fds:  # of a barrier
				os.close(fd)

	def forget(self, names):
		with self.lock:
			for name in names:
				for fd in self.kept.pop(name, []):
					os.close(fd)

	def hand_out(self):
		while True:
			try:
				conn, _ = self.server.accept()
			except OSError:
				return
			with conn, self.lock:
				items = [(name, fd) for name, fds in self.kept.items() for fd in fds]
				socket.send_fds(conn, [":".join(name for name, _ in items).encode() or b" "], [fd for _, fd in items])

	def state(self):
		"""What is known of the sessions, as the daemon has left it."""
		fd = self.kept["sessions"][0]
		return msgpack.unpackb(os.pread(fd, os.fstat(fd).st_size, 0), raw=False)

	def of_worker(self):
		return next(s for s in self.state()["sessions"] if s["worker"])

	def replace_state(self, data):
		fd = os.memfd_create("sessions")
		os.write(fd, data)
		self.forget(["sessions"])
		self.kept["sessions"] = [fd]


class Handoff(harness.Case):
	def setUp(self):
		super().setUp()
		self.manager = Manager(self)
		self.db = self.database()
		self.node = self.daemon(self.db, start=False)
		self.plain = self.node.argv
		self.node.environment = {"NOTIFY_SOCKET": self.manager.path}
		self.node.argv = [harness.PYTHON, "-c", LAUNCH, self.manager.launcher] + self.plain
		self.node.start()
		self.apply(self.node, template("one", [step("a", "t.a", attempts=1)]))

	def leave(self):
		"""The first half of a restart."""
		self.node.process.signal(signal.SIGUSR2)
		self.assertEqual(self.node.process.wait(), 0, self.node.process.last_words())

	def restart(self, **options):
		self.leave()
		self.node.argv += ["--%s=%s" % (k.replace("_", "-"), v) for k, v in options.items()]
		self.node.start()

	def told(self, what):
		wait_for(lambda: re.search(what, self.node.log_text()), lambda: "the log to say %s:\n%s" % (what, self.node.log_text()))

	def worker(self, n, concurrency=None, **params):
		"""One with n steps open, and their tasks."""
		w = wire.Worker(self.node.socket, ["t.a"], concurrency=concurrency or n, namespaces=["t"], **params)
		self.addCleanup(w.close)
		tasks = [self.create(self.node, "one") for _ in range(n)]
		return w, w.take(n), tasks

	def complete(self, tasks, attempts=1):
		for task in tasks:
			done = self.finished(self.node, task)
			self.assertEqual((done.state, [s.attempts for s in done.steps]), ("complete", [attempts]))


class Kept(Handoff):
	def test_a_worker_goes_on(self):
		"""Results of before, a frame of which one half is read before and one after, and new steps, all on one connection."""
		w, (first, cut, last), tasks = self.worker(3, concurrency=4)
		frame = wire.frame([2, "step.result", {"results": [ok(cut, {"text": "x" * 5000})]}])
		w.results(ok(first))
		w.next_beat = float("inf")  # nothing else goes into the middle of it
		w.send_bytes(frame[:3000])
		self.restart()
		self.told(ALL_KEPT)
		self.assertEqual(w.acked(first), "recorded")
		w.send_bytes(frame[3000:])
		w.next_beat = None
		w.open.pop(key(cut))
		self.assertEqual(w.acked(cut), "recorded")
		more = [self.create(self.node, "one") for _ in range(3)]
		for s in w.take(3) + [last]:
			w.finish(s)
			self.assertEqual(w.acked(s), "recorded")
		self.complete(tasks + more)
		self.assertFalse(w.eof)
		listed = self.node.client.request("worker.list")["workers"]
		self.assertEqual([(x["worker_uuid"], x["done"]) for x in listed], [(w.welcome["worker_uuid"], 6)])
		self.doctor(self.node)

	def test_what_is_half_written(self):
		"""More than the socket takes, to a worker that does not read."""
		w = wire.Worker(self.node.socket, ["t.a"], concurrency=6, namespaces=["t"])
		self.addCleanup(w.close)
		tasks = [self.create(self.node, "one", {"text": "%06d" % i * 100000}) for i in range(6)]
		for task in tasks:
			self.wait_step(self.node, task, "a", "in_progress")
		self.leave()
		self.assertGreater(len(self.manager.of_worker()["out"]), 1 << 20)
		self.node.start()
		for s in w.take(6):
			self.assertEqual(len(s["context"]["text"]), 600000)
			w.finish(s)
			self.assertEqual(w.acked(s), "recorded")
		self.complete(tasks)

	def test_again_and_again(self):
		w, steps, tasks = self.worker(2)
		asker = wire.Wire(self.node.socket)
		self.addCleanup(asker.close)
		asker.hello()
		for _ in range(5):
			self.restart()
			asker.call("ping")
		for s in steps:
			w.finish(s)
			self.assertEqual(w.acked(s), "recorded")
		self.complete(tasks)
		self.assertEqual(self.manager.kept, {}, "the manager keeps nothing that a daemon has")
		w.close()
		wait_for(lambda: not self.node.client.request("worker.list")["workers"], "the worker's end to be seen")

	def test_a_step_that_was_ended_meanwhile(self):
		w, steps, tasks = self.worker(2)
		mine, other = sorted(steps, key=lambda s: s["task_uuid"] != tasks[0])
		self.leave()
		self.daemon(self.db, name="node-b").client.cancel_task(tasks[0])
		self.node.start()
		w.until(lambda: w.cancels, "the cancel")
		self.assertEqual(w.cancels, [(mine["step_uuid"], 1, "stale")])
		self.create(self.node, "one")
		w.call("ping")
		self.assertEqual(w.untaken(), 0, "its place is taken until the worker has said something")
		w.results(ok(mine))
		self.assertEqual(w.acked(mine), "stale")
		w.take()
		w.finish(other)
		self.assertEqual(w.acked(other), "recorded")
		self.complete(tasks[1:])

	def test_a_step_that_was_ended_before(self):
		"""Its worker has been told, and is not told again; its place is taken as before."""
		w, (mine,), (task,) = self.worker(1)
		self.node.client.cancel_task(task)
		w.until(lambda: w.cancels, "the cancel")
		self.restart()
		w.call("ping")
		self.assertEqual(len(w.cancels), 1)
		w.results(ok(mine))
		self.assertEqual(w.acked(mine), "stale")

	def test_a_worker_that_dies_meanwhile(self):
		worker = self.python_worker(self.node)
		self.apply(self.node, template("held", [step("a", "t.gate", attempts=2)]))
		task = self.create(self.node, "held")
		self.ledger.wait_lines(1)
		self.leave()
		worker.kill()
		self.node.argv.append("--resume-grace-ms=500")
		self.node.start()
		self.ledger.open_gate("gate")
		self.python_worker(self.node, name="next")
		self.assertEqual(self.finished(self.node, task).state, "complete")

	def test_load(self):
		"""Restarts while tasks are made and run: no attempt is lost, no worker sees an error or has to connect again."""
		self.apply(self.node, template("two", [step("a", "t.ok", attempts=1), step("b", "t.ok", after=["a"], attempts=1)]))
		workers = [self.python_worker(self.node, name="w%d" % i) for i in range(2)]
		uuids = {w["worker_uuid"] for w in self.node.client.request("worker.list")["workers"]}
		tasks = []
		for _ in range(4):
			tasks += self.create_many(self.node, "two", 100)
			self.restart()
		self.db.wait_settled()
		rows = self.db.sql("SELECT outcome, count(*) FROM tasker.step_attempts WHERE outcome <> 'released' GROUP BY 1")
		self.assertEqual(rows, [["success", str(2 * len(tasks))]])
		self.assertEqual({w["worker_uuid"] for w in self.node.client.request("worker.list")["workers"]}, uuids)
		for w in workers:
			self.assertNotRegex(w.log_text().lower(), "error|reconnect|lost|again")
		self.assertNotIn("connected: ", self.node.log_text().partition("sessions from before")[2], "nobody has come anew")
		self.verify(self.db, self.node)


class NotKept(Handoff):
	def resumes(self, w, steps, tasks):
		"""What a client does when its connection ends: all it holds is its own still."""
		w.closed()
		v = wire.Worker(self.node.socket, ["t.a"], concurrency=len(steps), namespaces=["t"], resume={"session": w.welcome["session"], "held": len(steps)})
		self.addCleanup(v.close)
		self.assertEqual(v.resume(*steps), ["held"] * len(steps))
		for s in steps:
			v.finish(s)
			self.assertEqual(v.acked(s), "recorded")
		self.complete(tasks)

	def test_another_version(self):
		w, steps, tasks = self.worker(2)
		self.leave()
		self.manager.replace_state(msgpack.packb({**self.manager.state(), "schema": 999}))
		self.node.start()
		self.told("another version of taskerd has left them")
		self.resumes(w, steps, tasks)

	def test_nonsense(self):
		state = None
		w, steps, tasks = self.worker(1)
		for nonsense in b"", b"\xc1" * 100, msgpack.packb([]), lambda s: msgpack.packb(s)[:-10], lambda s: msgpack.packb({**s, "sessions": [7, {}, {**s["sessions"][0], "steps": [[b"x"]]}]}), \
				lambda s: msgpack.packb({**s, "sessions": [{**s["sessions"][0], "uid": 12345}]}):
			self.leave()
			state = self.manager.state()
			self.manager.replace_state(nonsense if isinstance(nonsense, bytes) else nonsense(state))
			self.node.start()
			w.closed()
			held = list(w.open.values())
			w = wire.Worker(self.node.socket, ["t.a"], concurrency=1, namespaces=["t"], resume={"session": w.welcome["session"], "held": 1})
			self.addCleanup(w.close)
			self.assertEqual(w.resume(*held or steps), ["held"])
			w.open.update((key(s), s) for s in steps)
		w.finish(steps[0])
		self.assertEqual(w.acked(steps[0]), "recorded")
		self.complete(tasks)

	def test_other_limits(self):
		w, steps, tasks = self.worker(2)
		self.restart(max_frame="2 MiB", max_context="512 KiB", max_result="512 KiB")
		self.told("limits that they were told have been changed")
		self.resumes(w, steps, tasks)

	def test_a_store_that_loses_some(self):
		w, steps, tasks = self.worker(1)
		keeper = wire.Wire(self.node.socket)
		self.addCleanup(keeper.close)
		keeper.hello()
		self.leave()
		self.manager.forget(["session-%d" % self.manager.of_worker()["socket"]])
		self.node.start()
		self.told(ALL_KEPT)
		keeper.call("ping")
		self.resumes(w, steps, tasks)

	def test_the_next_daemon_dies_as_well(self):
		"""It had the sessions and its database had not answered: then they end, and are not passed on a second time."""
		w, steps, tasks = self.worker(2)
		self.leave()
		argv = list(self.node.argv)
		self.node.argv = [re.sub(r"^--database=.*", "--database=host=/nowhere", a) for a in argv]
		self.node.launch()
		self.told(ALL_KEPT)
		self.assertEqual(self.manager.kept, {})
		w.poll()
		self.assertFalse(w.eof)
		self.node.kill()
		self.node.argv = argv
		self.node.start()
		self.resumes(w, steps, tasks)

	def test_who_waits_for_something_is_not_kept(self):
		watcher = wire.Wire(self.node.socket)
		self.addCleanup(watcher.close)
		watcher.hello()
		watcher.call("task.watch", {"task_uuid": self.create(self.node, "one")})
		self.restart()
		watcher.closed()

	def test_without_a_manager_it_is_a_stop(self):
		self.node.stop()
		self.node.argv, self.node.environment = self.plain, {}
		self.node.start()
		self.node.process.signal(signal.SIGUSR2)
		self.assertEqual(self.node.process.wait(), 0)
		self.assertEqual(self.node.log_text().count("waiting up to"), 2)


if __name__ == "__main__":
	unittest.main()

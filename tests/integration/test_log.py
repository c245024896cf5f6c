"""The log: as lines of text, as JSON objects, and in the journal, here a socket of the test's in a mount namespace of the daemon's own; what is said of a step, by the
daemon or by its worker, carries the same fields."""
import json
import os
import re
import socket
import struct
import subprocess
import unittest

import harness
import wire
from harness import step, template, wait_for

EVENTS = os.path.join(harness.ROOT, "daemon", "base", "log_events.h")
OVER_THE_JOURNAL = 'mount -t tmpfs none /run && mkdir -p /run/systemd/journal && mount --bind "$0" /run/systemd/journal && exec "$@"'


SAID = 'he said "no"\nand left\x7f\x9b\u2028\u202e\u2066\u2069'  # a second line; what steers a terminal, or turns the direction of writing around


def can_mount():
	return os.geteuid() == 0 and subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], check=False, capture_output=True).returncode == 0


def message_ids():
	with open(EVENTS, encoding="utf-8") as f:
		return dict(re.findall(r'X\((\w+), "(\w{32})"', f.read()))


class Journal:
	"""Takes what sd_journal_sendv sends: KEY=VALUE lines, or KEY, a length and any bytes."""

	def __init__(self, case):
		self.directory = os.path.join(case.place, "journal")
		os.mkdir(self.directory)
		self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
		self.sock.bind(os.path.join(self.directory, "socket"))
		self.sock.settimeout(harness.PATIENCE)
		case.at_end(self.sock.close)

	def until(self, condition):
		"""The next record for which it holds."""
		while True:
			record = self.parse(self.sock.recv(1 << 20))
			if condition(record):
				return record

	@staticmethod
	def parse(data):
		record = {}
		while data:
			line, _, data = data.partition(b"\n")
			name, equals, value = line.partition(b"=")
			if not equals:
				(n,) = struct.unpack_from("<Q", data)
				value, data = data[8:8 + n], data[8 + n + 1:]
			record[name.decode()] = value.decode()
		return record


class Story(harness.Case):
	"""A worker says something about its step, which then fails for good."""

	def told(self, node):
		self.apply(node, template("told", [step("a", "t.told", attempts=1)]))
		with wire.Worker(node.socket, ["t.told"], namespaces=["t"], name="teller") as w:
			task = self.create(node, "told")
			given = w.take()
			w.notify("step.log", {"step_uuid": given["step_uuid"], "level": "warn", "message": SAID, "fields": {"order": "7"}})
			w.fail(given, retryable=False)
			w.acked(given)
			who = w.welcome["worker_uuid"]
		self.finished(node, task)
		return {"TASKER_TASK": task, "TASKER_STEP": given["step_uuid"], "TASKER_NAMESPACE": "t", "TASKER_TEMPLATE": "told", "TASKER_HANDLER": "t.told", "TASKER_ATTEMPT": "1", "TASKER_WORKER": who,
		        "TASKER_WORKER_NAME": "teller"}


class Lines(Story):
	def test_json(self):
		node = self.daemon(self.database(), log_format="json")
		fields = {name[len("TASKER_"):].lower(): value for name, value in self.told(node).items()}

		def lines():
			return [json.loads(line) for line in node.log_text().splitlines()]
		wait_for(lambda: any(r.get("event") == "step_failed" for r in lines()), "the failed step")
		for record in lines():
			self.assertLessEqual({"time", "level", "message"}, set(record))
			self.assertRegex(record["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
			self.assertIn(record["level"], ("error", "warn", "info", "debug"))
			self.assertTrue(all(isinstance(v, str) for v in record.values()), record)
		self.assertNotRegex(node.log_text(), "[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
		by_worker = next(r for r in lines() if r["message"].startswith("he said"))
		self.assertEqual({k: v for k, v in by_worker.items() if k != "time"}, {"level": "warn", "message": SAID + " order=7", **fields})
		by_daemon = next(r for r in lines() if r.get("event") == "step_failed")
		self.assertEqual({k: by_daemon.get(k) for k in fields}, fields)
		self.assertEqual({r["event"] for r in lines() if "event" in r} & {"started", "database_up", "worker_connected"}, {"started", "database_up", "worker_connected"})

	def test_text(self):
		node = self.daemon(self.database(), log_format="text")
		fields = self.told(node)
		wait_for(lambda: "has failed" in node.log_text(), "the failed step")
		line = next(line for line in node.log_text().splitlines() if "he said" in line)
		self.assertRegex(line, r'^\S+Z warn  he said "no" and left {16}order=7 TASKER_TASK=%s ' % fields["TASKER_TASK"])
		self.assertNotIn("MESSAGE_ID", node.log_text())
		self.assertNotIn("left out before", node.log_text())  # none was
		self.assertEqual(node.log_text().count("he said"), 1)
		self.assertNotRegex(node.log_text(), "[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")

	def test_a_worker_that_dies_is_told_of(self):
		node = self.daemon(self.database())
		self.apply(node, template("told", [step("a", "t.told", attempts=1)]))
		w = wire.Worker(node.socket, ["t.told"], name="mortal")
		self.create(node, "told")
		w.take()
		w.close()
		wait_for(lambda: "worker mortal (pid %d, uid %d) is gone with 1 steps" % (os.getpid(), os.getuid()) in node.log_text(), "the log to say so")


@unittest.skipUnless(can_mount(), "needs mount namespaces")
class InTheJournal(Story):
	def test_fields(self):
		ids, journal = message_ids(), Journal(self)
		node = self.daemon(self.database(), start=False, log_format="journal")
		node.argv = ["unshare", "-m", "sh", "-c", OVER_THE_JOURNAL, journal.directory] + node.argv
		node.start()
		started = journal.until(lambda r: r.get("MESSAGE_ID") == ids["STARTED"])
		self.assertEqual((started["PRIORITY"], started["CODE_FILE"], started["CODE_FUNC"], started["SYSLOG_IDENTIFIER"]), ("6", "daemon/server/server.c", "server_run", "taskerd"))
		self.assertTrue(started["CODE_LINE"].isdigit())
		fields = self.told(node)
		by_worker = journal.until(lambda r: r["MESSAGE"].startswith("he said"))
		self.assertEqual({k: by_worker.get(k) for k in fields}, fields)
		self.assertEqual((by_worker["PRIORITY"], by_worker["MESSAGE"], "MESSAGE_ID" in by_worker), ("4", SAID + " order=7", False))
		by_daemon = journal.until(lambda r: r.get("MESSAGE_ID") == ids["STEP_FAILED"])
		self.assertEqual({k: by_daemon.get(k) for k in fields}, fields)
		self.assertEqual(node.log_text(), "", "nothing goes the other way")

	def test_without_a_journal_nothing_is_lost(self):
		node = self.daemon(self.database(), start=False, log_format="journal")
		node.argv = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /run && exec "$@"', "sh"] + node.argv
		node.start()
		self.assertIn("listening on", node.log_text())


if __name__ == "__main__":
	unittest.main()

#!/usr/bin/python3
"""tests/leftovers.py names what a run leaves behind, however that has detached itself, and nothing else."""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OF_OTHERS = r"file /dev/shm/PostgreSQL\.|file /\S+/(taskerd|tasker|fake-daemon)-|shared memory "  # suites that run meanwhile: whose these are, their names do not say
RUN = """
import os, re, subprocess, sys
sys.path.insert(0, %r)
import leftovers
leftovers.PATIENCE = float(sys.argv[2])
look = leftovers.Place._look
leftovers.Place._look = lambda self: [line for line in look(self) if not re.match(sys.argv[3], line)]

def main():
	place = leftovers.Place()
	os.environ.update(TMPDIR=place.of("some"), TASKERD_TEST_RUN=place.run)
	subprocess.run(["bash", "-c", sys.argv[1]], check=True)
	print("\\n".join(place.left()))
	return 3
sys.exit(leftovers.watched(main))
"""


class Leftovers(unittest.TestCase):
	def left(self, script, patience=0.5):
		done = subprocess.run([sys.executable, "-c", RUN % TESTS, script, str(patience), OF_OTHERS], stdout=subprocess.PIPE, text=True, timeout=600, check=False)
		self.assertEqual(done.returncode, 3)
		return done.stdout.rstrip("\n")

	def test_nothing(self):
		self.assertEqual(self.left("sleep 0 & wait; d=$(mktemp -d); rmdir $d"), "")

	def test_a_process_that_has_detached_itself(self):
		found = self.left("cd /usr; (setsid setsid sleep 1234 >/dev/null 2>&1 &)")
		self.assertRegex(found, r"^process \d+ in /usr: sleep 1234$")
		self.assertFalse(os.path.exists("/proc/" + found.split()[1]), "it is ended")

	def test_what_ends_by_itself_has_time_to(self):
		self.assertEqual(self.left("(setsid sleep 0.2 >/dev/null 2>&1 &)", 300), "")

	def test_files(self):
		self.assertRegex(self.left("mktemp -d --suffix=.x"), r"\nin the TMPDIR of suite some/tmp\.\w+\.x$")

	def test_files_of_another_run_are_not_ours(self):
		other = tempfile.mktemp(prefix="tsk-", dir="/dev/shm")
		self.addCleanup(os.rmdir, other)
		self.assertEqual(self.left("mkdir " + other), "")

	def test_files_beside_it(self):
		path = self.left("mktemp -d /dev/shm/tsk-${TASKERD_TEST_RUN}XXXXXX").split()[-1]
		self.assertTrue(path.startswith("/dev/shm/tsk-"))
		os.rmdir(path)

	@unittest.skipUnless(os.geteuid() == 0, "mounts are made by root")
	def test_mounts(self):
		place = tempfile.mkdtemp()
		self.addCleanup(os.rmdir, place)
		self.assertEqual(self.left("mount -t tmpfs none " + place), "mount " + place)
		self.assertFalse(os.path.ismount(place), "it was there for the run alone")

	@unittest.skipUnless(os.geteuid() == 0, "mounts are made by root")
	def test_mounts_of_a_run_that_is_killed(self):
		place = tempfile.mkdtemp()
		self.addCleanup(os.rmdir, place)
		script = "mount -t tmpfs none %s && touch %s/there && echo $TMPDIR >&2 && exec sleep 1234" % (place, place)
		with subprocess.Popen([sys.executable, "-c", RUN % TESTS, script, "0.5", OF_OTHERS], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True) as run:
			self.addCleanup(shutil.rmtree, os.path.dirname(run.stderr.readline().strip()))
			self.assertEqual(os.listdir(place), [])
			os.killpg(run.pid, signal.SIGKILL)
		self.assertFalse(os.path.ismount(place))


if __name__ == "__main__":
	unittest.main()

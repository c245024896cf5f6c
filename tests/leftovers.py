"""What a run of the tests leaves behind: processes, files in /tmp and /dev/shm, shared memory, mounts.

	sys.exit(watched(main))      # main runs in a child; whatever it starts stays below its parent, however it detaches itself, and what it mounts is there for it alone
	place = Place()              # in main: TMPDIR for each suite
	place.left()                 # in the end: what is there that was not, as lines of text

A process that has left its parents becomes a child of the watcher: so it is known as ours by its place in the tree, whatever name and session it has.
"""
import ctypes
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

PATIENCE = 120  # seconds for what is about to end by itself: the guards of the databases
PR_SET_CHILD_SUBREAPER = 36
CLONE_NEWNS = 0x20000
# What the tests make where TMPDIR does not reach: short paths for sockets, of which those of other runs are left alone, and what C programs name themselves.
NAMES = r"(tsk|tpg)-%s|(taskerd|tasker|fake-daemon)-|PostgreSQL\."
SHARED = ("/dev/shm", "/tmp")


def watched(main):
	"""The exit status of main(), which runs in a child; what it leaves is killed."""
	ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	child = os.fork()
	if child == 0:
		private_mounts()
		return main()
	signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells the child as well
	signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
	pid = 0
	while pid != child:
		pid, status = os.wait()
	_end_all()
	return os.waitstatus_to_exitcode(status) & 255


def private_mounts():
	"""From here on what this process and its children mount is seen by nobody else, and is gone with them, however they end. Whether that can be had: it takes root."""
	libc = ctypes.CDLL(None, use_errno=True)
	return libc.unshare(CLONE_NEWNS) == 0 and subprocess.run(["mount", "--make-rprivate", "/"], stderr=subprocess.DEVNULL, check=False).returncode == 0


def _end_all():
	"""Kill what is below this process until nothing is."""
	while True:
		for pid in below(os.getpid()):
			try:
				os.kill(pid, signal.SIGKILL)
			except ProcessLookupError:
				pass
		try:
			os.wait()
		except ChildProcessError:
			return


def _stat(pid):
	"""(parent, state) of a process; None if it is gone."""
	try:
		with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as f:
			fields = f.read().rpartition(")")[2].split()
		return int(fields[1]), fields[0]
	except OSError:
		return None


def below(top):
	"""The live descendants of a process."""
	found = {pid: _stat(pid) for pid in map(int, filter(str.isdigit, os.listdir("/proc")))}
	parents = {pid: s[0] for pid, s in found.items() if s and s[1] != "Z"}
	mine = {top}
	while True:
		more = {pid for pid, parent in parents.items() if parent in mine} - mine
		if not more:
			return sorted(mine - {top})
		mine |= more


def described(pid):
	"""A process by its command line and the directory it is in; None if it is gone."""
	try:
		with open("/proc/%d/cmdline" % pid, "rb") as f:
			words = f.read().replace(b"\0", b" ").decode(errors="replace").strip()
		return "process %d in %s: %s" % (pid, os.readlink("/proc/%d/cwd" % pid), words[:200])
	except OSError:
		return None


def _shared_memory():
	"""{id: creator} of the segments of System V that nobody is attached to."""
	with open("/proc/sysvipc/shm", encoding="ascii") as f:
		rows = [line.split() for line in f.read().splitlines()[1:]]
	return {row[1]: row[4] for row in rows if row[6] == "0"}


def _mounts():
	with open("/proc/self/mounts", encoding="utf-8") as f:
		return {line.split()[1] for line in f}


def _files(run):
	return {os.path.join(d, name) for d in SHARED for name in os.listdir(d) if re.match(NAMES % run, name)}


def _used(path):
	"""Whether a live process names it, is in it or has it in its memory: then it is another's, who runs tests as well."""
	for pid in filter(str.isdigit, os.listdir("/proc")):
		try:
			with open("/proc/%s/maps" % pid, encoding="utf-8", errors="replace") as f:
				if path in (described(int(pid)) or "") or path in f.read():
					return True
		except OSError:  # it is gone, or is not ours to look at
			pass
	return False


class Place:
	"""A directory for the TMPDIR of each suite, and what there was before."""

	def __init__(self):
		self.top = tempfile.mkdtemp(prefix="tt-", dir="/tmp")
		os.chmod(self.top, 0o755)
		self.run = os.path.basename(self.top)[len("tt-"):] + "-"  # begins the names of this run's files, see harness.py
		self.before = (_files(self.run), set(_shared_memory()), _mounts())

	def of(self, suite):
		path = os.path.join(self.top, suite or "all")
		os.makedirs(path, exist_ok=True)
		os.chmod(path, 0o1777)  # some tests change their user
		return path

	def left(self):
		"""Everything that is still there, when what is about to end had its time. The directories of TMPDIR go with this."""
		end, nothing = time.monotonic() + PATIENCE, 0
		while nothing < 3:  # a process that forks and ends may be missed once
			found = self._look()
			nothing = 0 if found else nothing + 1
			if found and time.monotonic() > end:
				break
			time.sleep(0.05)
		shutil.rmtree(self.top, ignore_errors=True)
		return found

	def _look(self):
		watcher = os.getppid()
		files, memory, mounts = self.before
		own = [os.path.join(suite, name) for suite in os.listdir(self.top) for name in os.listdir(os.path.join(self.top, suite))]
		return [
			*filter(None, (described(pid) for pid in below(watcher) if pid != os.getpid())),
			*("in the TMPDIR of suite " + name for name in sorted(own)),
			*("file " + path for path in sorted(_files(self.run) - files) if not _used(path)),
			*("shared memory %s of process %s" % (shm, by) for shm, by in sorted(_shared_memory().items()) if shm not in memory),
			*("mount " + path for path in sorted(_mounts() - mounts) if path.startswith((*SHARED, self.top))),
		]

"""A Debian machine in a container: a new tree of Debian with the packages of this tree, entered by chroot, or booted with systemd by systemd-nspawn."""
import glob
import os
import shutil
import subprocess
import sys
import time
import unittest

sys.path[:0] = [os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "docs"), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import shell  # noqa: E402
from leftovers import private_mounts  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# What a booted Debian has, and what the packages and the workers of the pages depend on.
PACKAGES = ",".join((
	"systemd,systemd-sysv,dbus,procps,man-db,adduser",
	"postgresql,libevent-core-2.1-7,libevent-extra-2.1-7,libmsgpackc2,libyaml-0-2,libjansson4,libcjose0,libcurl4",
	"libmsgpack-dev,python3-msgpack,ruby,ruby-msgpack",
))
PAGES = PACKAGES + ",python3-venv,gcc,libc6-dev,pkg-config"
# Without what nobody reads here: of manual pages an index would be made as well, and msgpack has headers for C++ that need others.
BOOTSTRAP = ("--variant=minbase", "--dpkgopt=force-unsafe-io", *("--dpkgopt=path-exclude=/usr/%s/*" % d for d in ("share/doc", "share/locale", "share/man", "include/boost")))
DEBS = "/root/debs"
ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "PAGER": "cat", "SYSTEMD_PAGER": "cat"}
PATIENCE = float(os.environ.get("TASKERD_TEST_PATIENCE", "600"))


class Failed(Exception):
	"""A command ended otherwise than it should."""


def run(*argv, status=0, **options):
	r = subprocess.run(argv, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
	if status is not None and r.returncode != status:
		raise Failed("%s ended with %d:\n%s" % (" ".join(map(str, argv)), r.returncode, r.stdout))
	return r.stdout


def base_tree(path, include=PAGES):
	"""A bookworm tree with these packages, made once for each list of them; another tree that has them all will do."""
	ready, wanted = os.path.join(path, "ready"), set(include.split(","))
	if not wanted <= set(run("cat", ready, status=None).split(",")):
		shutil.rmtree(path, ignore_errors=True)
		os.makedirs(path)
		run("mmdebstrap", *BOOTSTRAP, "--include=" + include, "bookworm", os.path.join(path, "tree"), "http://deb.debian.org/debian")
		os.unlink(os.path.join(path, "tree/etc/dpkg/dpkg.cfg.d/99mmdebstrap"))
		with open(ready, "w", encoding="ascii") as f:
			f.write(include)
	return os.path.join(path, "tree")


class Story(unittest.TestCase):
	"""Tests of which each goes on where the one before has stopped: after a failure nothing follows, and it comes with last_words()."""

	broken = False

	def run(self, result=None):
		if self.broken:
			return result.addSkip(self, "a test before it has failed")
		bad = len(result.failures) + len(result.errors)
		super().run(result)
		if len(result.failures) + len(result.errors) > bad:
			type(self).broken = True
			print(self.last_words())
		return result

	def last_words(self):
		return ""


def make(name, include=PAGES):
	"""A machine that is not booted yet. TASKERD_SYSTEM names a directory for the tree and the machines, TASKERD_PACKAGES one with the packages; tests/system/run sets both."""
	place = os.environ.get("TASKERD_SYSTEM")
	if not place:
		raise unittest.SkipTest("needs a tree and packages: tests/system/run")
	private_mounts()
	return Machine(base_tree(os.path.join(place, "base"), include), os.path.join(place, name), os.environ["TASKERD_PACKAGES"])


def groups(name):
	"""Control groups for a machine: two that shared theirs could not end what is in them."""
	tops = [top for top in ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup") if os.path.exists(top + "/cgroup.procs")]
	return ["%s/taskerd-%s-%d" % (top, name, os.getpid()) for top in tops]


class Machine:
	def __init__(self, base, place, packages):
		"""Copy the tree to `place`, and all packages of this directory into it."""
		self.root, self.process, self.leader = os.path.join(place, "root"), None, None
		self.groups = groups(os.path.basename(place))
		shutil.rmtree(self.root, ignore_errors=True)
		os.makedirs(place, exist_ok=True)
		run("cp", "-a", "--reflink=auto", base, self.root)
		os.makedirs(self.path(DEBS))
		for deb in glob.glob(os.path.join(packages, "*.deb")):
			shutil.copy(deb, self.path(DEBS))

	def install(self, *names):
		"""Packages by name; before it is booted in the tree, afterwards inside."""
		return self.sh("dpkg", "-i", *(DEBS + "/" + os.path.basename(d) for name in names for d in glob.glob(self.path(DEBS + "/" + name + "_*.deb"))))

	def release(self, version):
		"""The same packages again, as those of a later version."""
		for deb in glob.glob(self.path(DEBS + "/*.deb")):
			tree = deb[:-len(".deb")]
			run("dpkg-deb", "-R", deb, tree)
			run("sed", "-i", "-E", "s/^Version: .*/Version: %s/; s/\\(= [^)]+\\)/(= %s)/" % (version, version), tree + "/DEBIAN/control")
			os.unlink(deb)
			run("dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, deb)
			shutil.rmtree(tree)

	def path(self, inside):
		return self.root + inside

	def boot(self):
		if os.geteuid() != 0 or not shutil.which("systemd-nspawn") or not all(os.access(os.path.dirname(group), os.W_OK) for group in self.groups):
			raise unittest.SkipTest("systemd cannot be booted here: needs root, systemd-nspawn and control groups that can be written")
		with open(os.path.join(os.path.dirname(self.root), "boot.log"), "wb") as log:
			for group in self.groups:
				os.makedirs(group, exist_ok=True)
			enter = "for g; do [ $g = -- ] && break; echo $$ >$g/cgroup.procs; shift; done; shift; exec \"$@\""
			self.process = subprocess.Popen(["sh", "-ec", enter, "sh", *self.groups, "--", "systemd-nspawn", "--register=no", "--keep-unit", "--private-network", "--hostname=machine", "-D", self.root, "-b", "--console=pipe"],
			                                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
		self.wait(self._booted, "the machine to boot")

	def _booted(self):
		if self.process.poll() is not None:
			raise Failed("systemd-nspawn ended; see boot.log")
		children = run("ps", "-o", "pid=", "--ppid", str(self.process.pid), status=None).split()
		if not children:
			return False
		self.leader = children[0]
		return self.sh("systemctl", "is-system-running", status=None).strip() in ("running", "degraded")

	def mount(self):
		"""What programs expect, for a machine that is entered without being booted. It goes with the machine."""
		run("mount", "-t", "proc", "proc", self.path("/proc"))
		run("mount", "-t", "tmpfs", "tmpfs", self.path("/run"))
		os.makedirs(self.path("/dev/shm"), exist_ok=True)
		run("mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", self.path("/dev/shm"))

	def start(self, *argv, log):
		"""A process inside that goes on, with its output in a file of the machine."""
		with open(self.path(log), "ab") as out:
			return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *self._enter(), *argv], env=ENV, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)

	def _enter(self):
		if not self.leader:
			return ["chroot", self.root]
		return ["nsenter", "-t", self.leader, "-m", "-u", "-i", "-n", "-p", "-r", "-w"]

	def sh(self, *argv, status=0, stdin=None):
		"""Run a command inside; its output."""
		return run(*self._enter(), *argv, status=status, env=ENV, input=stdin)

	def shell(self):
		"""A shell inside that stays."""
		return shell.Shell("/", ENV, self._enter())

	def write(self, path, text, mode=0o644):
		os.makedirs(os.path.dirname(self.path(path)), exist_ok=True)
		with open(self.path(path), "w", encoding="utf-8") as f:
			f.write(text)
		os.chmod(self.path(path), mode)

	@staticmethod
	def wait(condition, what):
		end = time.monotonic() + PATIENCE
		while True:
			value = condition()
			if value:
				return value
			if time.monotonic() > end:
				raise Failed("waited in vain: " + what)
			time.sleep(0.05)

	def close(self):
		if self.process and self.process.poll() is None:
			self.process.terminate()
			try:
				self.process.wait(60)
			except subprocess.TimeoutExpired:
				self.process.kill()
				self.process.wait()
		for group in self.groups:
			for path, _, _ in os.walk(group, topdown=False):
				os.rmdir(path)
		for mounted in ("/proc", "/run", "/dev/shm"):
			if os.path.ismount(self.path(mounted)):
				run("umount", "--lazy", self.path(mounted))
		shutil.rmtree(self.root, ignore_errors=True)


if __name__ == "__main__":
	private_mounts()
	base_tree(sys.argv[1], PACKAGES)

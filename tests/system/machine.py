"""A Debian machine with systemd in a container: a debootstrap tree, booted by systemd-nspawn, with the packages of this tree installed."""
import glob
import os
import shutil
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
INCLUDE = "systemd,systemd-sysv,dbus,postgresql,python3-msgpack,procps,libevent-core-2.1-7,libmsgpackc2,libyaml-0-2,libjansson4,man-db"
PATIENCE = float(os.environ.get("TASKERD_TEST_PATIENCE", "120"))


class Failed(Exception):
	"""A command ended otherwise than it should."""


def run(*argv, status=0, **options):
	r = subprocess.run(argv, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
	if status is not None and r.returncode != status:
		raise Failed("%s ended with %d:\n%s" % (" ".join(map(str, argv)), r.returncode, r.stdout))
	return r.stdout


def base_tree(path):
	"""A bookworm tree with what the packages depend on, made once."""
	if not os.path.exists(os.path.join(path, "ready")):
		shutil.rmtree(path, ignore_errors=True)
		os.makedirs(path)
		run("debootstrap", "--variant=minbase", "--include=" + INCLUDE, "bookworm", os.path.join(path, "tree"))
		open(os.path.join(path, "ready"), "wb").close()
	return os.path.join(path, "tree")


class Machine:
	def __init__(self, base, place, packages):
		"""Copy the tree to `place` and install the packages of this directory there."""
		self.root, self.process, self.leader = os.path.join(place, "root"), None, None
		shutil.rmtree(self.root, ignore_errors=True)
		os.makedirs(place, exist_ok=True)
		run("cp", "-a", "--reflink=auto", base, self.root)
		self.install(packages)

	def install(self, packages):
		"""Before it is booted in the tree, afterwards inside."""
		debs = [d for name in ("taskerd", "taskerctl", "libtasker0", "python3-taskerd") for d in glob.glob(os.path.join(packages, name + "_*.deb"))]
		shutil.rmtree(self.path("/root/debs"), ignore_errors=True)
		os.makedirs(self.path("/root/debs"))
		for deb in debs:
			shutil.copy(deb, self.path("/root/debs"))
		inside = ["dpkg", "-i"] + ["/root/debs/" + os.path.basename(d) for d in debs]
		return self.sh(*inside) if self.leader else run("chroot", self.root, *inside, env={**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"})

	def path(self, inside):
		return self.root + inside

	def boot(self):
		with open(os.path.join(os.path.dirname(self.root), "boot.log"), "wb") as log:
			self.process = subprocess.Popen(["systemd-nspawn", "--register=no", "--keep-unit", "--private-network", "--hostname=machine", "-D", self.root, "-b", "--console=pipe"],
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

	def sh(self, *argv, status=0, stdin=None):
		"""Run a command inside; its output."""
		env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
		return run("nsenter", "-t", self.leader, "-m", "-u", "-i", "-n", "-p", "-r", "-w", *argv, status=status, env=env, input=stdin)

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
		shutil.rmtree(self.root, ignore_errors=True)

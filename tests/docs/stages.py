"""Where pages are followed: a clone beside a build, or a machine of its own with databases; and the base of the tests that do it."""
import json
import os
import shlex
import shutil
import subprocess
import tempfile
import unittest

import blocks
import shell

BUILD = os.environ.get("TASKERD_BUILD", "")

# Commands that are run by something else: (page, command) -> the file that has it, and what stands there.
ELSEWHERE = {
	("README.md", "contrib/quickstart"): ("tests/docs/test_quickstart.py", "contrib/quickstart"),
	("README.md", "tests/run"): (".ci/run", "/../tests/run"),
	# Installing and building: what runs this test has done both.
	("README.md", "contrib/setup run"): ("contrib/quickstart", "contrib/setup run"),
	("README.md", "meson setup build && ninja -C build"): ("contrib/quickstart", "meson setup build"),
	("docs/performance.md", "contrib/setup run"): ("contrib/quickstart", "contrib/setup run"),
	("docs/performance.md", "meson setup build && ninja -C build"): ("contrib/quickstart", "meson setup build"),
}


# Commands that take minutes: their program is asked for its help instead, and must know the options that the page gives it.
ASKED = ("tests/bench/run", "tests/bench/scale", "tests/bench/steady", "tests/bench/instructions", "tests/bench/peers/run")


class Stage:
	"""A clone as a page's reader has it: the tree beside a build, in a directory that the user postgres may enter."""

	def __init__(self, inside=(), **env):
		self.place = tempfile.mkdtemp(prefix="taskerd-docs-", dir="/tmp")
		os.chmod(self.place, 0o755)
		for name in os.listdir(blocks.ROOT):
			if name not in ("build", ".git") and not name.startswith("build-"):
				os.symlink(os.path.join(blocks.ROOT, name), os.path.join(self.place, name))
		os.symlink(os.path.abspath(BUILD), os.path.join(self.place, "build"))
		clean = {k: v for k, v in os.environ.items() if not k.startswith(("TASKERD_", "TASKER_", "PG", "XDG_")) and k != "DATABASE_URL"}
		self.shell = shell.Shell(self.place, {**clean, "LC_ALL": "C.UTF-8", "HOME": self.place, "PAGER": "cat", "PYTHONDONTWRITEBYTECODE": "1", **env}, inside)

	def run(self, command):
		return self.shell.run(command)

	def must(self, script):
		"""Run what is no part of the page; its output."""
		status, output = self.shell.run(script)
		if status:
			raise shell.Failed("%s\nended with %d:\n%s" % (script, status, output))
		return output

	def sql(self, block):
		"""On the database of the embedded daemon in ./demo, as its owner."""
		who = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
		argv = [*who, "psql", "-X", "-v", "ON_ERROR_STOP=1", "-h", os.path.join(self.place, "demo", "run"), "taskerd", "taskerd"]
		done = subprocess.run(argv, input=block.text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, cwd="/")
		if done.returncode:
			raise shell.Failed("%s: %s" % (block, done.stdout))

	def write(self, path, text):
		"""A file, where the shell is now."""
		self.must("mkdir -p %s && printf %%s %s >%s" % (shlex.quote(os.path.dirname(path) or "."), shlex.quote(text), shlex.quote(path)))

	def close(self):
		self.shell.close()
		shutil.rmtree(self.place, ignore_errors=True)


# Mounts, a network and processes of its own: files in /etc, /run and /var/lib are of this machine, and so are the hosts db, db1 and db2. What the pages
# start in the background ends with its shell, which is the first process.
NAMESPACES = ["unshare", "--mount", "--net", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
MACHINE = r"""set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mkdir /run/over
for d in etc var/lib; do
	mkdir -p "/run/over/$d/up" "/run/over/$d/work"
	mount -t overlay overlay -o "lowerdir=/$d,upperdir=/run/over/$d/up,workdir=/run/over/$d/work" "/$d"
done
ip link set lo up
printf '127.0.0.1 localhost db db1\n127.0.0.2 db2\n' >/etc/hosts
set +e
"""
# PostgreSQL behind the name db; everybody may be everybody there.
SERVER = r"""set -e
as_postgres() { setpriv --reuid=postgres --regid=postgres --clear-groups env -C / "$@"; }
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
install -d -o postgres /run/db
as_postgres "$bin/initdb" -A trust -N -D /run/db/data >/run/initdb.log
echo 'host all all all trust' >>/run/db/data/pg_hba.conf
as_postgres "$bin/pg_ctl" -w -s -D /run/db/data -l /run/db/log -o "-c fsync=off -c listen_addresses=127.0.0.1 -c unix_socket_directories=/run/db" start
set +e
"""
STANDBY = r"""set -e
as_postgres "$bin/pg_basebackup" -h db1 -D /run/db/standby -R -c fast
as_postgres "$bin/pg_ctl" -w -s -D /run/db/standby -l /run/db/log2 -o "-c fsync=off -c listen_addresses=127.0.0.2 -c unix_socket_directories=" start
set +e
"""
HANDLER = """
from taskerd.step_handler.functional import step_handler

@step_handler("shop.check")
def check():
	return {}
"""
LOSE_PRIMARY = 'as_postgres "$bin/pg_ctl" -w -s -D /run/db/data -m immediate stop'


class Machine(Stage):
	"""A host of its own, with a database server `db`."""

	def __init__(self):
		super().__init__(NAMESPACES)
		try:
			self.must(MACHINE)
			self.must(SERVER)
		except BaseException:
			self.close()
			raise

	def start(self):
		"""The daemon, as /etc/taskerd says; its log comes with the output."""
		self.run("taskerd 2>&1 &")
		self.must("echo $! >/run/taskerd/pid; taskerctl version --wait")

	def restart(self):
		self.must("kill $(cat /run/taskerd/pid); wait $(cat /run/taskerd/pid)")
		self.start()

	def workflow(self):
		"""A template shop/order with a worker, and a task."""
		self.write("order.json", json.dumps({"name": "order", "namespace_name": "shop", "version": "1.0.0", "steps": [{"name": "check", "handler": {"callable": "shop.check"}}]}))
		self.write("shop.py", HANDLER)
		self.must("taskerctl template apply order.json"
		          " && { /usr/bin/python3 -m taskerd worker shop.py >worker.log 2>&1 & }")
		self.work()

	def work(self):
		self.must("taskerctl task create shop/order --wait")

	def no_pooler(self):
		self.must("kill $(cat /run/pgbouncer.pid); rm /etc/taskerd/taskerd.d/pooler.yaml")

	def standby(self):
		self.must(STANDBY)

	def lose_primary(self):
		self.must(LOSE_PRIMARY)


class Page(unittest.TestCase):
	"""A test that goes through pages; what a page is tested by is found by its name there."""

	def setUp(self):
		if not os.access(os.path.join(BUILD, "daemon", "taskerd"), os.X_OK):
			self.skipTest("TASKERD_BUILD does not name a build directory")

	def stage(self):
		made = Stage()
		self.addCleanup(made.close)
		return made

	def embedded(self):
		"""A stage with a daemon."""
		stage = self.stage()
		stage.must("export PATH=$PWD/build/daemon:$PWD/build/clients/taskerctl:$PATH TASKERD_SOCKET=$PWD/taskerd.sock")
		stage.must("{ taskerd --embedded=./demo >taskerd.log 2>&1 & }; taskerctl version --wait")
		return stage

	def machine(self):
		if os.geteuid() != 0:
			self.skipTest("only root can make a machine of its own")
		made = Machine()
		self.addCleanup(made.close)
		made.must("export PATH=$PWD/build/daemon:$PWD/build/clients/taskerctl:$PATH PYTHONPATH=$PWD/clients/python/src; mkdir -p /run/taskerd")
		return made

	def follow(self, page, stage, sections=None):
		"""Go through the blocks of the page, or of these sections of it."""
		wanted = [b for b in blocks.read(page)[0] if not b.elsewhere and (sections is None or b.section in sections)]
		self.assertTrue(wanted)
		shell.follow(wanted, lambda c: self.run_one(page, stage, c), stage.write, getattr(stage, "sql", None))

	def run_one(self, page, stage, text):
		command = text.split(" #")[0].strip()
		if (page, command) in ELSEWHERE:
			return 0, ""
		if command.split()[0] in ASKED:
			return 0, self.ask(command.split())
		return stage.run(text)

	def ask(self, words):
		"""Its help; all options on the command line must be in it."""
		done = subprocess.run([os.path.join(blocks.ROOT, words[0]), "--help"], stdout=subprocess.PIPE, text=True, check=True)
		for option in words[1:]:
			if option.startswith("--"):
				self.assertIn(option, done.stdout, words)
		return done.stdout

"""A daemon with a fresh embedded database, workers in any language of the tree, further daemons on the same database."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from .languages import BENCH, HELD, LANGUAGES, ROOT
from .proc import Failure, ask, cpu_of, cpu_of_tree, stop, tail, wait_until

WORKLOADS = ("linear-4", "diamond-4", "dag-7", "tree-8")
PROGRAMS = ("daemon/taskerd", "clients/taskerctl/taskerctl", "tests/bench/bench_worker", "tests/bench/bench_client", "tests/bench/floor")


def ready_build(build):
    """Build what is needed, if that is a build directory; a directory of finished programs will do as well."""
    if not (build / "build.ninja").exists() and not all((build / p).exists() for p in PROGRAMS):
        subprocess.run(["meson", "setup", build, ROOT], check=True, stdout=subprocess.DEVNULL)
    if (build / "build.ninja").exists():
        r = subprocess.run(["ninja", "-C", build, *PROGRAMS], check=False, capture_output=True, text=True)
        if r.returncode != 0:
            raise Failure("the build is broken:\n" + r.stdout[-3000:])


# ---- a place of its own for one run --------------------------------------------------------------------------------------


class Place:
    """A directory, the processes started for it, a database in it; close() ends and removes all."""

    def __init__(self, build, where):
        self.build, self.dir = build, Path(tempfile.mkdtemp(prefix="taskerd-bench-", dir=where))
        self.dir.chmod(0o711)  # the database runs as another user
        self.children, self.socket = [], self.dir / "taskerd.sock"

    def start(self, name, args, env=None, **options):
        """A process in the background, its output in a file."""
        log = self.dir / f"{name.replace(' ', '-')}.log"
        with open(log, "ab") as out:
            child = subprocess.Popen([str(a) for a in args], **{"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out, "env": {k: v for k, v in {**os.environ, **(env or {})}.items() if v is not None}, "cwd": BENCH, **options})
        self.children.append((name, child, log))
        return child

    def forget(self, child):
        """It ends before the place is closed, as it should."""
        self.children = [c for c in self.children if c[1] is not child]

    def end(self, child, **how):
        """End it now; the exit status."""
        self.forget(child)
        return stop(child, **how)

    def check_children(self):
        for name, child, log in self.children:
            if child.poll() is not None:
                raise Failure(f"{name} ended with {child.returncode}:\n{tail(log)}")

    @property
    def conninfo(self):
        return f"host={self.dir / 'run'} user=taskerd dbname=taskerd"

    def ctl(self, *args, socket=None):
        return subprocess.run([self.build / "clients/taskerctl/taskerctl", "--socket", socket or self.socket, *map(str, args)], check=False,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=660)

    def floor(self, what, *args):
        return ask([self.build / "tests/bench/floor", what, "--conninfo", self.conninfo, *args])[0]

    def sql(self, query):
        """Rows of text."""
        r = subprocess.run(["psql", "-XAtqF", "\t", "-v", "ON_ERROR_STOP=1", "-d", self.conninfo, "-c", query], check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
        if r.returncode != 0:
            raise Failure(f"psql: {r.stderr}")
        return [line.split("\t") for line in r.stdout.splitlines()]

    def close(self):
        """End all, the last one first, and remove everything. False: one of them did not end well."""
        codes = [stop(child) for _, child, _ in reversed(self.children)]
        shutil.rmtree(self.dir, ignore_errors=True)
        return not any(codes)


class Site(Place):
    """A daemon with its embedded database below `where`, and a worker of the given kind, if any."""

    def __init__(self, build, where, worker=None, options=(), held=HELD):
        super().__init__(build, where)
        self.options, self.held, self.worker = options, held, None
        try:
            self.start_daemon()
            for name in WORKLOADS:
                self.apply(ROOT / "examples/templates" / f"{name}.yaml")
            self.postmaster = int((self.dir / "data/postmaster.pid").read_text(encoding="ascii").split()[0])
            if worker:
                self.worker = self.start_worker(worker)
        except BaseException:
            self.close()
            raise

    def start_daemon(self):
        self.daemon = self.start("taskerd", [self.build / "daemon/taskerd", f"--embedded={self.dir}", *self.options])
        return self.daemon

    def start_node(self, name):
        """Another daemon on the same database: (its process, its socket)."""
        socket = self.dir / f"{name}.sock"
        child = self.start(name, [self.build / "daemon/taskerd", f"--database={self.conninfo}", f"--socket={socket}", f"--node-name={name}", *self.options])
        wait_until(lambda: self.ctl("doctor", socket=socket).returncode == 0, f"{name} to be up", self.children)
        return child, socket

    def start_worker(self, kind, *args, socket=None, name=None, wait=True):
        """A worker process; `args` go to the end of its command line."""
        socket = socket or self.socket
        language = LANGUAGES[kind]
        before = self.workers(socket) if wait else 0
        child = self.start(name or f"worker in {kind}", [*language.argv(self.build, socket, self.held), *args], language.env)
        if wait:
            wait_until(lambda: self.workers(socket) > before, "worker to connect", self.children)
        return child

    def apply(self, path):
        """Register a template, as soon as the daemon can."""
        def applied():
            r = self.ctl("--timeout", "10m", "template", "apply", path)
            if r.returncode not in (0, 3, 7):  # 3: not there yet; 7: its database is not
                raise Failure(f"template {path}: {r.stdout[-500:]}{r.stderr[-500:]}")
            return r.returncode == 0
        wait_until(applied, f"template {path}", self.children)

    def apply_text(self, text):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
            f.write(text)
            f.flush()
            self.apply(f.name)

    def workers(self, socket=None):
        """How many are connected."""
        r = self.ctl("--json", "worker", "list", socket=socket)
        return len(json.loads(r.stdout)["workers"]) if r.returncode == 0 else 0

    def next_task(self):
        """No task so far has this number or a higher one."""
        return int(self.sql("SELECT coalesce(max(task_id), 0) + 1 FROM tasker.tasks")[0][0])

    def load(self, mode, workload, count, *args, socket=None, limit=900):
        """Run bench_client: (what it says, the processor seconds it used)."""
        return ask([self.build / "tests/bench/bench_client", mode, "--socket", socket or self.socket, "--template", f"bench/{workload}", "--count", count, *args], limit)

    def usage(self):
        used = {"postgres": cpu_of_tree(self.postmaster), "taskerd": cpu_of(self.daemon.pid)}
        return {**used, "worker": cpu_of(self.worker.pid)} if self.worker else used

    def check(self):
        """All processes live, and the daemon finds its database sound: nothing is stranded."""
        self.check_children()
        r = self.ctl("--timeout", "10m", "doctor")  # it looks at every step
        if r.returncode != 0:
            raise Failure(f"taskerctl doctor: {r.stdout}{r.stderr}")


class site_of:  # pylint: disable=invalid-name
    """`with site_of(...) as site`: sound at the end, and ended well; removed in any case."""

    def __init__(self, *args, **options):
        self.site = Site(*args, **options)

    def __enter__(self):
        return self.site

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.site.check()
        finally:
            ended = self.site.close()
        if kind is None and not ended:
            raise Failure("the daemon or a worker did not end with status 0")

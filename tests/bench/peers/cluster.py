"""The database cluster of a peer, and the conversation with its driver."""

import json
import os
import select
import signal
import time

from measure.proc import Failure, cpu_of_tree, stop_stranger, tail, wait_until
from measure.site import Place

from . import catalogue

DATABASE = "peer"


class Cluster(Place):
    """taskerd has made it and is gone: what it leaves running is a cluster with its settings and nobody at work in it."""

    def __init__(self, build, where):
        super().__init__(build, where)
        self.postmaster, self.worker = None, None

    def __enter__(self):
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _make(self):
        maker = self.start("taskerd", [self.build / "daemon/taskerd", f"--embedded={self.dir}"])
        pidfile = self.dir / "data/postmaster.pid"
        wait_until(lambda: pidfile.exists() and self.ctl("doctor").returncode == 0, "the cluster to be made", self.children)
        self.postmaster = int(pidfile.read_text(encoding="ascii").split()[0])
        self.end(maker, how=signal.SIGKILL)  # its cluster outlives it
        self.sql(f"CREATE DATABASE {DATABASE}")

    def usage(self):
        return {"postgres": cpu_of_tree(self.postmaster), "peer": cpu_of_tree(self.worker.pid)}

    def __exit__(self, *_):
        if self.postmaster:
            stop_stranger(self.postmaster, signal.SIGINT)
        self.close()


class Driver:
    """A process that does as drivers/driver.mjs says."""

    def __init__(self, place, peer, cache):
        self.place, self.peer = place, peer
        env = {"PGHOST": str(place.dir / "run"), "PGUSER": "taskerd", "PGDATABASE": DATABASE, "BENCH_DIR": str(place.dir)}
        uri = f"postgresql://taskerd@/{DATABASE}?host={place.dir / 'run'}"
        if peer.prepare:
            catalogue.call([x.format(venv=cache / peer.name / "venv", uri=uri) for x in peer.prepare], place.dir)
        self.log = place.dir / f"{peer.name}.log"
        self.child = place.start(peer.name, catalogue.command(peer, cache), env, stdin=-1, stdout=-1, cwd=place.dir, text=True)
        self._answer("start", 120)

    def ask(self, command, n, limit=300):
        self.child.stdin.write(f"{command} {n}\n")
        self.child.stdin.flush()
        return self._answer(f"{command} {n}", limit)

    def _answer(self, what, limit):
        ready, _, _ = select.select([self.child.stdout], [], [], limit)
        line = self.child.stdout.readline() if ready else ""
        try:
            return json.loads(line)
        except ValueError:
            raise Failure(f"{what}: {'no answer' if ready else f'no answer within {limit} s'}: {line}{tail(self.log)}") from None

    def end(self):
        self.child.stdin.close()
        end = time.monotonic() + 20
        while self.child.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        self.place.end(self.child)

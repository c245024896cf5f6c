"""How soon a handler starts: on an idle system, in a new worker, after its worker was killed, after the daemon was killed."""

import json
import os
import signal
import time

from .figures import quantile
from .languages import LANGUAGES
from .proc import Failure, wait_until
from .site import site_of
from .throughput import measure_floor

HELD_BY_KILLED = 50  # steps under way in the worker that is killed
UNMEASURED = 4  # kills that come first: plans are made and caches filled


def one_step_template(name, attempts):
    return json.dumps({"name": name, "namespace_name": "bench", "version": "1.0.0", "steps": [
        {"name": "only", "handler": {"callable": "bench.noop"}, "retry": {"max_attempts": attempts, "backoff": "none"}}]})


class Starts:
    """What workers wrote about the handlers that they started; read as it grows."""

    def __init__(self, path):
        self.path, self.rows, self._at = path, [], 0
        path.touch()

    def read(self):
        """All so far: (time in us, step, attempt)."""
        with open(self.path, "rb") as f:
            f.seek(self._at)
            whole = f.read().rpartition(b"\n")[0]
        if whole:
            self._at += len(whole) + 1
            for line in whole.decode("ascii").splitlines():
                at, step, attempt = line.split()
                self.rows.append((int(at), step, int(attempt)))
        return self.rows


def now_us():
    return time.time_ns() // 1000


def ready_to_started(build, where, size):
    """One task at a time: from the transaction that makes a step ready (its commit is part of it) to the handler's first instruction."""
    with site_of(build, where) as site:
        starts = Starts(site.dir / "starts")
        site.worker = site.start_worker("c", "--starts", starts.path)
        site.load("serial", "linear-4", 20)
        floor, _ = measure_floor(site, size)
        first, before = site.next_task(), len(starts.read())
        site.load("serial", "linear-4", size.serial)
        site.end(site.worker)
        started = {(step, attempt): at for at, step, attempt in starts.read()[before:]}
        ready = site.sql("SELECT tasker.step_uuid(t.task_uuid, a.step_no), a.attempt, (extract(epoch FROM a.ready_at) * 1000000)::bigint "
                         f"FROM tasker.step_attempts a JOIN tasker.tasks t USING (task_id) WHERE a.task_id >= {first}")
        ms = [(started[step, int(attempt)] - int(at)) / 1000 for step, attempt, at in ready]
    if len(ms) != 4 * size.serial:
        raise Failure(f"{len(ms)} starts were seen of {4 * size.serial}")
    p50, p99, commit = quantile(ms, 0.5), quantile(ms, 0.99), floor["commit_ms_p50"]
    return {"p50_ms": p50, "p99_ms": p99, "p50_to_commit": p50 / commit, "p99_to_commit": p99 / commit, "floor": floor}


def worker_killed(build, where, size):
    """SIGKILL for a worker with steps under way, while another one is idle; again and again, the other one being the next."""
    with site_of(build, where) as site:
        floor, _ = measure_floor(site, size)
        site.apply_text(one_step_template("held", 1000))
        starts, ms = Starts(site.dir / "starts"), []
        sleeper = ("--sleep-us", 3600000000, "--concurrency", HELD_BY_KILLED, "--starts", starts.path)
        worker = site.start_worker("c", *sleeper, name="worker 0")
        site.load("create", "held", HELD_BY_KILLED)
        wait_until(lambda: len(starts.read()) == HELD_BY_KILLED, "the steps to start", site.children)
        for n in range(1, UNMEASURED + size.kills + 1):
            other, began = site.start_worker("c", *sleeper, name=f"worker {n}"), len(starts.rows)
            site.forget(worker)
            killed = now_us()
            worker.kill()
            wait_until(lambda b=began: len(starts.read()) == b + HELD_BY_KILLED, "the steps to start elsewhere", site.children)
            worker.wait()
            if n > UNMEASURED:
                ms += [(at - killed) / 1000 for at, _, _ in starts.rows[began:]]
            worker = other
        final = site.start_worker("c", name="last worker")  # takes what the last sleeper held, and ends it
        site.forget(worker)
        worker.kill()
        worker.wait()
        wait_until(lambda: site.sql("SELECT count(*) FROM tasker.tasks WHERE state = 'complete'") == [[str(HELD_BY_KILLED)]], "the tasks to complete", site.children)
        site.end(final)
    return {"p50_ms": quantile(ms, 0.5), "p99_ms": quantile(ms, 0.99), "samples": len(ms), "commit_ms_p50": floor["commit_ms_p50"]}


def daemon_killed(build, where, size):
    """SIGKILL for the daemon in the middle of work, and a new one at once; the worker lives on."""
    with site_of(build, where) as site:
        starts, first, lost = Starts(site.dir / "starts"), [], 0
        site.worker = site.start_worker("c", "--sleep-us", 50000, "--starts", starts.path)
        for _ in range(size.restarts):
            before = len(starts.read())
            site.load("create", "linear-4", size.held_tasks)
            wait_until(lambda b=before: len(starts.read()) >= b + size.held_tasks, "work to be under way", site.children)
            site.forget(site.daemon)
            os.kill(site.daemon.pid, signal.SIGKILL)
            site.daemon.wait()
            at = now_us()
            site.start_daemon()
            wait_until(lambda t=at: starts.read()[-1][0] > t, "a step to be dispatched", site.children)
            first.append(next(t for t, _, _ in starts.rows if t > at) - at)
            wait_until(lambda: site.sql("SELECT count(*) FROM tasker.tasks WHERE state <> 'complete'") == [["0"]], "the tasks to complete", site.children)
        steps = 4 * size.held_tasks * size.restarts
        lost = steps - int(site.sql("SELECT count(*) FROM tasker.step_attempts WHERE outcome = 'success' AND attempt = 1")[0][0])
        again = len(starts.read()) - steps
        site.end(site.worker)
        site.worker = None
    return {"first_dispatch_ms": max(first) / 1000, "first_dispatch_ms_p50": quantile(first, 0.5) / 1000, "restarts": len(first), "attempts_lost": lost, "handlers_run_again": again}


def bare_start(site, kind):
    """Milliseconds that the language's runtime takes to start, do nothing and end; None if it has none."""
    command = LANGUAGES[kind].bare()
    if not command:
        return None
    began = now_us()
    child = site.start(f"bare {kind}", command, LANGUAGES[kind].env)
    status = child.wait()
    site.forget(child)
    if status != 0:
        raise Failure(f"{kind}, with nothing to do, ended with {status}")
    return (now_us() - began) / 1000


def worker_started(build, where, size):
    """A process of each worker is started while a task waits: until the daemon has read the result of its first step."""
    found, bare = {}, {}
    with site_of(build, where) as site:
        for kind in size.worker:
            for n in range(1 + size.starts):  # the first one brings the files into memory
                task = site.next_task()
                site.load("create", "linear-4", 1)
                began = now_us()
                worker = site.start_worker(kind, name=f"worker {n} in {kind}", wait=False)
                wait_until(lambda t=task: site.sql(f"SELECT 1 FROM tasker.tasks WHERE task_id = {t} AND state = 'complete'"), f"a worker in {kind} to run its task", site.children)
                at = site.sql(f"SELECT (extract(epoch FROM min(finished_at)) * 1000000)::bigint FROM tasker.step_attempts WHERE task_id = {task}")
                site.end(worker)
                if n > 0:
                    found.setdefault(kind, []).append((int(at[0][0]) - began) / 1000)
                    bare.setdefault(kind, []).append(bare_start(site, kind))
    return {kind: {"ms": quantile(ms, 0.5), "slowest_ms": max(ms), **({"bare_ms": quantile(bare[kind], 0.5)} if bare[kind][0] else {})} for kind, ms in found.items()}

#!/usr/bin/python3
"""Run a morning's orders through taskerd: the demonstration that contrib/quickstart starts.

Starts a daemon with a private PostgreSQL in a temporary directory and two worker processes, submits every order of
orders.csv, kills one worker on the way, starts another in its place, and shows what became of the orders. Nothing is left
running, unless --keep is given.
"""

import argparse
import csv
import datetime
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PYTHON_CLIENT = ROOT / "clients" / "python" / "src"
sys.path.insert(0, str(PYTHON_CLIENT))
sys.dont_write_bytecode = True

from taskerd import TaskerClient  # noqa: E402
from taskerd.exceptions import TaskerdError  # noqa: E402

NAMESPACE, TEMPLATE = "orders", "order_fulfilment"
SETTLED = {"complete", "error", "cancelled", "resolved_manually", "blocked_by_failures"}
KILL_AT = 0.3  # of all steps
TIME_LIMIT_S = 300


class Failed(Exception):
    """The demonstration cannot go on; the message says why."""


# ---- processes -------------------------------------------------------------------------------------------------------


class Process:
    """A child in the background, its output in a file."""

    def __init__(self, name, args, directory, env=None):
        self.name, self.log, self.note, self.steps = name, directory / f"{name}.log", "", 0
        with open(self.log, "ab") as out:
            self.child = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                                          env={**os.environ, **(env or {})})

    @property
    def pid(self):
        return self.child.pid

    def alive(self):
        return self.child.poll() is None

    def stop(self, seconds=15):
        if self.alive():
            self.child.terminate()
            try:
                self.child.wait(seconds)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()

    def last_words(self, lines=15):
        return "".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines(True)[-lines:])


class Stage:
    """The daemon, its workers and their directory."""

    def __init__(self, args):
        self.build, self.threads, self.keep = Path(args.build).resolve(), args.threads, args.keep
        # Root's PostgreSQL runs as another user, who must be able to pass.
        self.dir = Path(tempfile.mkdtemp(prefix="taskerd-quickstart-"))
        self.dir.chmod(0o711)
        self.socket = self.dir / "taskerd.sock"
        self.daemon, self.workers = None, []

    def start_daemon(self):
        began = time.monotonic()
        program = self.build / "daemon" / "taskerd"
        if not program.exists():
            raise Failed(f"{program} is not there: build it with contrib/quickstart, or name a build with --build")
        self.daemon = Process("taskerd", [program, f"--embedded={self.dir / 'embedded'}", f"--socket={self.socket}",
                                          "--node-name=quickstart"], self.dir)
        while not self.answers():
            if not self.daemon.alive():
                raise Failed(f"the daemon ended at once:\n{self.daemon.last_words()}")
            if time.monotonic() - began > 60:
                raise Failed(f"the daemon does not answer:\n{self.daemon.last_words()}")
            time.sleep(0.05)
        return time.monotonic() - began

    def answers(self):
        if not self.socket.exists():
            return False
        try:
            with TaskerClient(socket=str(self.socket), connect_timeout=0) as client:
                return client.server_info()["database"]["state"] == "up"
        except TaskerdError:
            return False

    def start_worker(self):
        name = f"worker-{len(self.workers) + 1}"
        worker = Process(name, [sys.executable, "-m", "taskerd", "worker", HERE / "handlers.py", "--socket", self.socket,
                                "--threads", str(self.threads), "--prefetch", "0", "--name", name, "--log-level", "warn"],
                         self.dir, {"PYTHONPATH": str(PYTHON_CLIENT), "PYTHONDONTWRITEBYTECODE": "1"})
        self.workers.append(worker)
        return worker

    def taskerctl(self, *args, **kwargs):
        program = self.build / "clients" / "taskerctl" / "taskerctl"
        return subprocess.run([program, "--socket", self.socket, *args], check=False, **kwargs)

    def close(self):
        for worker in self.workers:
            worker.stop()
        if self.daemon:
            self.daemon.stop(60)
        self.workers, self.daemon = [], None
        shutil.rmtree(self.dir, ignore_errors=True)


# ---- orders ----------------------------------------------------------------------------------------------------------


def read_orders():
    """The tasks to create, one a line of orders.csv."""
    with open(HERE / "orders.csv", newline="", encoding="utf-8") as f:
        for row in csv.DictReader(f):
            items = [entry.rsplit("x", 1) for entry in row.pop("items").split(";")]
            context = {**row, "express": row["express"] == "yes",
                       "items": [{"sku": sku, "quantity": int(quantity)} for sku, quantity in items]}
            # The shop sends an order twice now and then: the key makes one task of both.
            yield {"name": TEMPLATE, "namespace": NAMESPACE, "context": context, "idempotency_key": row["order_id"],
                   "tags": ["express"] if context["express"] else [], "priority": 10 if context["express"] else 0,
                   "reason": f"order {row['order_id']}"}


# ---- progress --------------------------------------------------------------------------------------------------------


class Progress:
    """One block that is drawn again on a terminal; a line a second elsewhere."""

    def __init__(self):
        self.live = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self.drawn, self.last = 0, 0.0

    def show(self, lines, short):
        now = time.monotonic()
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            up = f"\x1b[{self.drawn}A" if self.drawn else ""
            sys.stdout.write(up + "".join(f"\x1b[2K{line[:width]}\n" for line in lines))
            self.drawn = len(lines)
        elif now - self.last >= 1:
            self.last = now
            sys.stdout.write(short + "\n")
        sys.stdout.flush()

    def say(self, line):
        """A line that stays, above the block."""
        if self.live and self.drawn:
            sys.stdout.write(f"\x1b[{self.drawn}A\x1b[J")
            self.drawn = 0
        print(line, flush=True)


def bar(share, width=40):
    full = int(share * width)
    return "#" * full + "." * (width - full)


class Watcher:
    """Looks at the tasks until nothing moves any more, and plays the part of the fault."""

    def __init__(self, stage, client, progress):
        self.stage, self.client, self.progress = stage, client, progress
        self.killed_at = None
        self.began = time.monotonic()

    def run(self):
        while True:
            tasks = [t for t in self.client.iter_tasks(namespace=NAMESPACE)]
            done = sum(t.completed_steps for t in tasks)
            total = sum(t.total_steps for t in tasks)
            self.count_workers()
            self.draw(tasks, done, total)
            if all(t.state in SETTLED for t in tasks):
                return tasks
            if not self.stage.daemon.alive():
                raise Failed(f"the daemon died:\n{self.stage.daemon.last_words()}")
            if time.monotonic() - self.began > TIME_LIMIT_S:
                raise Failed(f"not finished after {TIME_LIMIT_S} s:\n{self.stage.daemon.last_words()}")
            self.play(done / total if total else 0)
            time.sleep(0.25)

    def count_workers(self):
        by_pid = {w["pid"]: w for w in self.client.list_workers()}
        for worker in self.stage.workers:
            if worker.pid in by_pid:
                worker.steps, worker.open = by_pid[worker.pid].get("done", 0), by_pid[worker.pid].get("open", 0)

    def play(self, share):
        if self.killed_at is None and share >= KILL_AT:
            victim = self.stage.workers[-1]
            os.kill(victim.pid, signal.SIGKILL)
            victim.child.wait()
            victim.note = f"killed with SIGKILL, {getattr(victim, 'open', 0)} steps in its hands"
            self.killed_at = time.monotonic()
            self.progress.say(f"  {victim.name} (pid {victim.pid}) gets SIGKILL in the middle of its work")
        elif self.killed_at and len(self.stage.workers) == 2 and time.monotonic() - self.killed_at > 1.5:
            worker = self.stage.start_worker()
            worker.note = "its replacement"
            self.progress.say(f"  {worker.name} (pid {worker.pid}) takes its place")

    def draw(self, tasks, done, total):
        states = Counter(t.state for t in tasks)
        settled = sum(n for s, n in states.items() if s in SETTLED)
        rate = done / max(time.monotonic() - self.began, 0.001)
        lines = [f"  [{bar(done / total if total else 0)}] {done:,} of {total:,} steps, {rate:,.0f} a second",
                 f"  orders: {states['complete']} complete, {len(tasks) - settled} under way "
                 f"({states['waiting_for_retry']} wait for a retry), {states['blocked_by_failures']} need a person"]
        lines += [f"  {w.name} (pid {w.pid}): {w.steps:,} steps{', ' + w.note if w.note else ''}" for w in self.stage.workers]
        self.progress.show(lines, f"  {done:,} of {total:,} steps, {states['complete']} of {len(tasks)} orders complete, "
                                  f"{states['waiting_for_retry']} wait for a retry")


# ---- what became of it -----------------------------------------------------------------------------------------------


def seconds_between(a, b):
    parse = lambda t: datetime.datetime.fromisoformat(t.replace("Z", "+00:00"))  # noqa: E731
    return (parse(b) - parse(a)).total_seconds()


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def summary(client, tasks, outcomes, began):
    """Counts for the table, and the task that is most worth looking at."""
    seen, best, most, overheads = Counter(), None, -1, []
    for task in tasks:
        attempts = client.get_task_history(task.task_uuid)["attempts"]
        here = Counter(a["outcome"] for a in attempts)
        seen += here
        overheads += [seconds_between(a["started_at"], a["recorded_at"]) * 1000 - a["execution_ms"]
                      for a in attempts if a["outcome"] == "success" and a.get("execution_ms")]
        if task.state == "complete" and here["worker_lost"] * 10 + here["handler_error"] > most:
            best, most = task, here["worker_lost"] * 10 + here["handler_error"]
    latencies = [seconds_between(t.created_at, t.finished_at) for t in tasks if t.state == "complete"]
    doctor = client.doctor()
    again = sum(1 for o in outcomes if o.ok and not o.created)
    rows = [
        ("orders read", f"{len(outcomes):,}", f"{again} came twice and made no second task" if again else ""),
        ("tasks complete", f"{sum(t.state == 'complete' for t in tasks):,}", f"in {time.monotonic() - began:.1f} s"),
        ("tasks that need a person", f"{sum(t.state == 'blocked_by_failures' for t in tasks):,}", "see below"),
        ("steps complete", f"{sum(t.completed_steps for t in tasks):,}", ""),
        ("retried after an error", f"{seen['handler_error']:,}", "the carrier's interface"),
        ("redelivered", f"{seen['worker_lost'] + seen['released']:,}", "were in the hands of the killed worker"),
        ("task latency p50", f"{percentile(latencies, 0.50):.2f} s", "all were submitted at once, and stood in line"),
        ("task latency p99", f"{percentile(latencies, 0.99):.2f} s", ""),
        ("cost of a step p50", f"{percentile(overheads, 0.50):.1f} ms", "from claim to durable result, less the handler's time"),
        ("stranded or inconsistent", "0" if doctor["ok"] else "YES", "by taskerctl doctor"),
    ]
    return rows, best, doctor["ok"]


def print_table(rows):
    wide = max(len(r[0]) for r in rows)
    print()
    for name, value, note in rows:
        print(f"  {name:<{wide}}  {value:>8}{'   ' + note if note else ''}")


def print_blocked(client, tasks):
    blocked = [t for t in tasks if t.state == "blocked_by_failures"]
    if blocked:
        print("\nOrders that no retry can help; their other branches ran on:\n")
    for task in blocked:
        for step in client.get_task(task.task_uuid).steps:
            if step.state == "error":
                order = (task.context or {}).get("order_id") or task.reason
                print(f"  {order}  {step.name}: {(step.error or {}).get('message', '')}")


def print_tree(stage, task):
    if task is None:
        return
    print(f"\nOne of them, drawn by taskerctl task tree {task.task_uuid}:\n", flush=True)
    colour = "always" if sys.stdout.isatty() else "never"
    stage.taskerctl("--color", colour, "task", "tree", task.task_uuid)


def print_further(stage, task):
    ctl = os.path.relpath(stage.build / "clients" / "taskerctl" / "taskerctl")
    example = task.task_uuid if task else "UUID"
    if not stage.keep:
        stage.close()
        print("\nEverything is stopped and gone. With --keep it stays, to look around with taskerctl.")
        return
    print(f"""
Still running: taskerd (pid {stage.daemon.pid}) and {sum(w.alive() for w in stage.workers)} workers; files in {stage.dir}

  export TASKERD_SOCKET={stage.socket}
  {ctl} task list                   all tasks
  {ctl} task get {example}
  {ctl} task tree {example}
  {ctl} worker list                 who is connected
  {ctl} doctor                      is anything stranded?
  psql -h {stage.dir}/embedded/run taskerd taskerd     the tables themselves (as the user who runs PostgreSQL)

Stop it: kill {stage.daemon.pid} {' '.join(str(w.pid) for w in stage.workers if w.alive())}""")


# ---- the main job ----------------------------------------------------------------------------------------------------


def demonstrate(stage):
    progress = Progress()
    print(f"taskerd with its own PostgreSQL: ready in {stage.start_daemon():.1f} s", flush=True)
    applied = stage.taskerctl("template", "apply", HERE / f"{TEMPLATE}.yaml", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True)
    if applied.returncode != 0:
        raise Failed(f"the template was not taken:\n{applied.stdout}")
    for _ in range(2):
        stage.start_worker()
    with TaskerClient(socket=str(stage.socket)) as client:
        began = time.monotonic()
        outcomes = client.create_tasks(read_orders())
        bad = [o.error for o in outcomes if not o.ok]
        if bad:
            raise Failed(f"{len(bad)} orders were refused: {bad[0]}")
        created = sum(o.created for o in outcomes)
        print(f"{created} orders, {len(outcomes)} lines, submitted in {time.monotonic() - began:.2f} s; two workers with "
              f"{stage.threads} threads each run their steps\n", flush=True)
        tasks = Watcher(stage, client, progress).run()
        rows, best, sound = summary(client, tasks, outcomes, began)
        print_table(rows)
        print_blocked(client, tasks)
        print_tree(stage, best)
        fine = sound and len(tasks) == created and all(t.state in SETTLED for t in tasks)
    print_further(stage, best)
    return fine


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--build", default=str(ROOT / "build"), help="build directory (%(default)s)")
    parser.add_argument("--threads", type=int, default=10, help="handlers that a worker runs at a time (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave daemon and workers running")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    stage = Stage(args)
    kept = False
    try:
        fine = demonstrate(stage)
        kept = args.keep
        return 0 if fine else 1
    except Failed as exc:
        print(f"\nquickstart: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nquickstart: interrupted", file=sys.stderr)
        return 130
    finally:
        if not kept:
            stage.close()


if __name__ == "__main__":
    sys.exit(main())

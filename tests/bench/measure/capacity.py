"""Three nodes on one database beside one; a thousand idle workers."""

import collections
import re
import time

from . import figures
from .latency import Starts
from .proc import cpu_of, cpu_of_tree, memory_mib, wait_until
from .site import site_of

NODES = 3


def _shares(site, first):
    """node name -> its part of the attempts of the tasks from number `first` on."""
    rows = site.sql(f"SELECT n.node_name, count(*) FROM tasker.step_attempts a JOIN tasker.nodes n USING (node_no) WHERE a.task_id >= {first} GROUP BY 1")
    total = sum(int(n) for _, n in rows)
    return {name: int(n) / total for name, n in rows}


def nodes(build, where, size):
    """The same bulk, created through one node, with that node alone and with two more; a worker each."""
    with site_of(build, where) as site:
        starts = [Starts(site.dir / f"starts-{i}") for i in range(NODES)]
        workers = [site.start_worker("c", "--starts", starts[0].path)]
        site.load("bulk", "linear-4", 200)
        one, _ = site.load("bulk", "linear-4", size.tasks)
        for i in range(1, NODES):
            _, socket = site.start_node(f"node-{i}")
            workers.append(site.start_worker("c", "--starts", starts[i].path, socket=socket, name=f"worker of node {i}"))
        site.load("bulk", "linear-4", 200)
        first = site.next_task()
        many, _ = site.load("bulk", "linear-4", size.tasks)
        shares = _shares(site, first)
        for worker in workers:
            site.end(worker)
        counted = collections.Counter((step, attempt) for s in starts for _, step, attempt in s.read())
        success = int(site.sql("SELECT count(*) FROM tasker.step_attempts WHERE outcome = 'success'")[0][0])
    return {"one_steps_per_s": one["steps_per_s"], "three_steps_per_s": many["steps_per_s"], "ratio": many["steps_per_s"] / one["steps_per_s"],
            "smallest_share": min(shares.values()) if len(shares) == NODES else 0.0, "largest_share": max(shares.values()), "run_twice": sum(counted.values()) - success}


def _listeners(site, mine):
    """Processes of the server that are told to LISTEN when all of the daemon's connections are lost and it makes new ones; nothing else shows who listens."""
    log = site.dir / "postgres.log"
    site.sql("ALTER SYSTEM SET log_statement = 'all'")
    site.sql("SELECT pg_reload_conf()")
    wait_until(lambda: site.sql("SHOW log_statement") == [["all"]], "the server to log", site.children[:1])
    before = log.stat().st_size
    site.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}")
    wait_until(lambda: site.ctl("doctor").returncode == 0, "the daemon to be connected again", site.children[:1])
    found = set()

    def look():
        with open(log, "rb") as f:
            f.seek(before)
            found.update(re.findall(rb"\[(\d+)\] LOG:  (?:statement|execute [^:]*): LISTEN ", f.read()))
        return found
    wait_until(look, "the daemon to listen", site.children[:1])
    return found


def idle_workers(build, where, size):
    """What a daemon with many connected workers and nothing to do needs."""
    with site_of(build, where) as site:
        for i in range(size.idle):
            site.start_worker("c", name=f"idle {i}", wait=False)
        wait_until(lambda: site.workers() >= size.idle, f"{size.idle} workers to connect", site.children[:1], 300)
        time.sleep(size.idle_s / 4)  # until what connecting has left to do is done
        daemon, postgres, begin = cpu_of(site.daemon.pid), cpu_of_tree(site.postmaster), time.monotonic()
        time.sleep(size.idle_s)
        seconds = time.monotonic() - begin
        found = {"workers": site.workers(), "rss_mib": memory_mib(site.daemon.pid, "VmRSS"), "cpu_percent": (cpu_of(site.daemon.pid) - daemon) / seconds * 100,
                 "postgres_cpu_percent": (cpu_of_tree(site.postmaster) - postgres) / seconds * 100}
        mine = "datname = 'taskerd' AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        # One more comes from time to time, for the moment that it takes to look after tasks that are late.
        found["connections"] = figures.middle([int(site.sql(f"SELECT count(*) FROM pg_stat_activity WHERE {mine}")[0][0]) for _ in range(9)])
        found["listening"] = len(_listeners(site, mine))
        found["store_threads"] = 2
        idle = [child for _, child, _ in site.children[1:]]
        for child in idle:  # all at once
            child.terminate()
        for child in idle:
            site.end(child)
        return found

"""Rate, latency, processor time and log volume of a workload, beside the floor of the same database at the same time."""

import time

from .languages import HELD_IN_BULK
from .proc import Failure, cpu_of_machine, cpu_of_tree, memory_mib
from .site import site_of

SERIAL_COMMITS = 5  # what a task of linear-4 has to wait for one after the other: its creation and four results


class Meter:
    """Processor time of everyone, and WAL, from here to `read`."""

    def __init__(self, site):
        self.site = site
        self.wal = site.floor("server")["wal_bytes"]
        self.machine, self.usage, self.begin = cpu_of_machine(), site.usage(), time.monotonic()

    def read(self, steps, client_cpu=0):
        usage, machine, seconds = self.site.usage(), cpu_of_machine(), time.monotonic() - self.begin
        used = {k: usage[k] - self.usage[k] for k in usage}
        cpu = {k: v / steps * 1e6 for k, v in used.items()}
        cpu["client"] = client_cpu / steps * 1e6
        return {"cpu_us_per_step": cpu, "wal_bytes_per_step": (self.site.floor("server")["wal_bytes"] - self.wal) / steps,
                "other_cpus_busy": max(0, machine - self.machine - sum(used.values()) - client_cpu) / seconds}


def measure_floor(site, size):
    """The floor of this database at this moment, and its settings."""
    before = site.floor("server")
    for name in ("fsync", "synchronous_commit", "full_page_writes"):
        if before[name] != "on":
            raise Failure(f"the database has {name} = {before[name]}: its commits are not durable")
    commit = site.floor("commit", "--count", size.commits)
    busy, wal = cpu_of_tree(site.postmaster), site.floor("server")["wal_bytes"]
    rows = site.floor("rows", "--millis", size.floor_ms)
    return {"commit_ms_p50": commit["p50"], "commit_ms_p99": commit["p99"], "step_rows_per_s": rows["steps_per_s"],
            "cpu_us_per_step": (cpu_of_tree(site.postmaster) - busy) / rows["steps"] * 1e6,
            "wal_bytes_per_step": (site.floor("server")["wal_bytes"] - wal) / rows["steps"]}, before


def measure_case(build, where, workload, worker, size):
    """One run of one case: (figures, settings of the database)."""
    with site_of(build, where, worker, held=HELD_IN_BULK) as site:
        site.load("bulk", workload, 200)  # plans are made and caches filled at the first calls
        floor, server = measure_floor(site, size)
        meter = Meter(site)
        serial, client = site.load("serial", workload, size.serial)
        steps = int(workload.rpartition("-")[2])
        serial_cpu = meter.read(size.serial * steps, client)["cpu_us_per_step"]
        meter = Meter(site)
        bulk, client = site.load("bulk", workload, size.tasks)
        if bulk["steps_per_task"] != steps:
            raise Failure(f"a task of {workload} has {bulk['steps_per_task']} steps")
        found = meter.read(size.tasks * steps, client)
        found.update(steps_per_s=bulk["steps_per_s"], tasks_created_per_s=bulk["created_per_s"], serial_p50_ms=serial["complete_ms"]["p50"],
                     serial_p99_ms=serial["complete_ms"]["p99"], serial_create_p50_ms=serial["create_ms"]["p50"],
                     serial_cpu_us_per_step=serial_cpu, taskerd={"rss_mib": memory_mib(site.daemon.pid)}, floor=floor)
        found["steps_per_s_to_floor"] = found["steps_per_s"] / floor["step_rows_per_s"]
        for p in ("p50", "p99"):
            found[f"serial_{p}_to_commits"] = found[f"serial_{p}_ms"] / (SERIAL_COMMITS * floor["commit_ms_p50"])
        return found, server

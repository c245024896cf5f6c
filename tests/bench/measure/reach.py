"""What is to be reached: one line each with its goal, the figure of this run, and whether that is enough."""

import dataclasses


@dataclasses.dataclass
class Line:
    what: str
    goal: str
    figure: str
    ratio: str
    reached: bool

    def row(self):
        return [self.what, self.goal, self.figure, self.ratio, "reached" if self.reached else "NOT reached"]

    def to_json(self):
        return dataclasses.asdict(self)


def _bulk(r, floor_goal):
    """The lines of the C worker's bulk."""
    cpu = r["cpu_us_per_step"]
    total = sum(cpu.values())
    ratio = r["steps_per_s_to_floor"]
    yield Line("bulk linear-4, C worker", "15,000 steps/s, or 0.45 of the floor", f"{r['steps_per_s']:,.0f} steps/s", f"{ratio:.2f} of floor",
               r["steps_per_s"] >= 15000 or ratio >= floor_goal)
    shown = ", ".join(f"{k} {v:.0f}" for k, v in cpu.items())
    yield Line("processor time of a step", "110 us (PostgreSQL 75, taskerd 20)", shown, f"{total:.0f} us in all", total <= 110 and cpu["postgres"] <= 75 and cpu["taskerd"] <= 20)
    yield Line("serial linear-4, create to completion, p50", "1.6 x five commits", f"{r['serial_p50_ms']:.2f} ms", f"{r['serial_p50_to_commits']:.2f}", r["serial_p50_to_commits"] <= 1.6)
    yield Line("the same, p99", "4 x five commits", f"{r['serial_p99_ms']:.2f} ms", f"{r['serial_p99_to_commits']:.2f}", r["serial_p99_to_commits"] <= 4)


def _language(r, goal):
    yield Line(f"bulk linear-4, worker in {r['worker']}", f"{goal:,} steps/s" if goal else "none set", f"{r['steps_per_s']:,.0f} steps/s", f"{r['steps_per_s_to_floor']:.2f} of floor",
               r["steps_per_s"] >= goal if goal else True)


def bulk(results, goals):
    """`goals`: steps/s that a worker in each language should reach."""
    for r in results:
        if r["workload"] == "linear-4":
            yield from _bulk(r, 0.45) if r["worker"] == "c" else _language(r, goals[r["worker"]])


def ready(r):
    yield Line("ready to handler started, idle system, p99", "2 commits", f"{r['p99_ms']:.2f} ms (p50 {r['p50_ms']:.2f})", f"{r['p99_to_commit']:.2f} commits", r["p99_to_commit"] <= 2)


def worker_started(r):
    for kind, found in r.items():
        if kind != "spread":
            goal = 150 if kind == "python" else 100
            bare = f"; the bare runtime {found['bare_ms']:.0f}" if "bare_ms" in found else ""
            times = f"; {found['ms'] / found['bare_ms']:.1f} x bare" if "bare_ms" in found else ""
            yield Line(f"worker in {kind} started: its first step done", f"{goal} ms", f"{found['ms']:.0f} ms (slowest {found['slowest_ms']:.0f}{bare})", f"{found['ms'] / goal:.2f}{times}", found["ms"] <= goal)


def worker_killed(r):
    goal = r["commit_ms_p50"] + 10
    yield Line("worker killed: its steps started elsewhere, p99", "one commit + 10 ms", f"{r['p99_ms']:.1f} ms (p50 {r['p50_ms']:.1f})", f"{r['p99_ms'] / goal:.2f}", r["p99_ms"] <= goal)


def daemon_killed(r):
    yield Line("daemon killed: first step dispatched after its start", "1 s", f"{r['first_dispatch_ms']:.0f} ms, the slowest", f"{r['first_dispatch_ms'] / 1000:.2f}", r["first_dispatch_ms"] <= 1000)
    lost = r["attempts_lost"] + r["handlers_run_again"]
    yield Line("daemon killed: attempts lost while the worker lives", "0", f"{r['attempts_lost']} lost, {r['handlers_run_again']} handlers run again", "", lost == 0)


def nodes(r):
    yield Line("three nodes on one database: rate", "0.95 of one node", f"{r['three_steps_per_s']:,.0f} steps/s", f"{r['ratio']:.2f}", r["ratio"] >= 0.95)
    yield Line("three nodes: share of a node", "fair (0.25 to 0.42)", f"{r['smallest_share']:.2f} to {r['largest_share']:.2f}", "", r["smallest_share"] >= 0.25 and r["largest_share"] <= 0.42)
    yield Line("three nodes: steps run twice", "0", f"{r['run_twice']:.0f}", "", r["run_twice"] == 0)


def idle(r):
    n = f"{r['workers']:,.0f} idle workers: "
    yield Line(n + "RSS of taskerd", "64 MiB", f"{r['rss_mib']:.0f} MiB", f"{r['rss_mib'] / 64:.2f}", r["rss_mib"] <= 64)
    yield Line(n + "processor", "1 %", f"{r['cpu_percent']:.2f} % (PostgreSQL {r['postgres_cpu_percent']:.2f} %)", "", r["cpu_percent"] < 1)
    yield Line(n + "connections that listen", "1", f"{r['listening']:.0f}", "", r["listening"] == 1)
    yield Line(n + "database connections", "store threads + 1", f"{r['connections']:.0f}", "", r["connections"] <= r["store_threads"] + 1)


def scale(cases):
    for c in cases:
        goal = 1.1 if "queued" in c["case"] else 1.5
        yield Line(c["case"] + ": cost of a step", f"{goal} x the small case", f"{c['large']['us']:.0f} us ({c['small']['us']:.0f})", f"{c['cpu_ratio']:.2f}", c["cpu_ratio"] <= goal)


def peers(results):
    """Of what peers/run measured: taskerd with the worker in C beside the best that makes workflows durable, and beside plain jobs in batches."""
    rate = {r["name"]: r["steps_per_s"] for r in results}
    own, durable = rate.get("taskerd, c"), {r["name"]: r["steps_per_s"] for r in results if r["kind"] == "workflow" and not r["name"].startswith("taskerd")}
    if own and durable:
        best = max(durable, key=durable.get)
        yield Line(f"beside the best durable peer, {best}", "15 times", f"{own:,.0f} and {durable[best]:,.0f} steps/s", f"{own / durable[best]:.1f}", own >= 15 * durable[best])
    if own and "graphile" in rate:
        yield Line("beside Graphile Worker's batched plain jobs", "1 time", f"{own:,.0f} steps/s and {rate['graphile']:,.0f} jobs/s", f"{own / rate['graphile']:.2f}", own >= rate["graphile"])

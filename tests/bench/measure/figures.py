"""Figures of several runs, and where they were taken."""

import json
import os
import platform
import statistics
import subprocess
from pathlib import Path

from .proc import Failure

IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs")


def middle(runs):
    """The median of each figure of several runs; they all have the same figures."""
    first = runs[0]
    if isinstance(first, dict):
        return {k: middle([r[k] for r in runs]) for k in first}
    return statistics.median(runs)


def bounds(runs):
    first = runs[0]
    if isinstance(first, dict):
        return {k: bounds([r[k] for r in runs]) for k in first}
    return [min(runs), max(runs)]


def rounded(value):
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def quantile(values, q):
    """The nearest rank: a value that was seen."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * q))]


def slope(points):
    """Least squares through (x, y): (change of y for each x, mean of y)."""
    n = len(points)
    mx, my = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    over = sum((x - mx) ** 2 for x, _ in points)
    return (sum((x - mx) * (y - my) for x, y in points) / over if over else 0.0), my


def write_json(path, report):
    """All of it or nothing: whoever reads the file meanwhile sees the old one."""
    aside = path.with_name(path.name + ".tmp")
    aside.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    aside.replace(path)


def print_rows(rows, left=2):
    """A table in Markdown; the first `left` columns are text."""
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    for n, row in enumerate(rows):
        print("| " + " | ".join(c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))) + " |")
        if n == 0:
            print("|" + "|".join("-" * (w + 2) if i < left else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|", flush=True)


def first_line(args):
    return subprocess.run([str(a) for a in args], check=True, capture_output=True, text=True).stdout.splitlines()[0]


def postgres_version():
    """Of the client's programs; a server that was measured says for itself."""
    return first_line(["psql", "--version"]).replace("psql (PostgreSQL)", "PostgreSQL client")


def mount_of(path):
    """(file system, options) of where the path is."""
    best = ("", "?", "")
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, point, kind, options, *_ = line.split()
        if (str(path) + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best[0]):
            best = (point, kind, options)
    return best[1:]


def machine(where):
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    model = [x.partition(":")[2].strip() for x in text.splitlines() if x.startswith("model name")]
    return {"cpus": os.cpu_count(), "cpu": model[0] if model else platform.machine(), "kernel": platform.release(),
            "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20, "filesystem": mount_of(where)[0]}


def on_disk(path):
    """The path, if it is on a disk: commits cost nothing in memory."""
    if mount_of(path)[0] in IN_MEMORY:
        raise Failure(f"{path} is in memory, where a commit costs nothing: name a directory on a disk with --dir")
    return path


def commit_of(root):
    """Short name of the commit that is measured, with a plus if the tree has other changes; empty outside a repository."""
    git = ["git", "-c", f"safe.directory={root}", "-C", str(root)]
    try:
        name = subprocess.run([*git, "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
        return name + ("+" if subprocess.run([*git, "status", "--porcelain", "-uno"], check=True, capture_output=True, text=True).stdout else "")
    except (OSError, subprocess.CalledProcessError):
        return ""

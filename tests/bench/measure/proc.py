"""Processes: starting, asking and ending them, and the processor time and memory they have used."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


class Failure(Exception):
    """The run is worth nothing."""


def stat_fields(pid):
    """Fields of /proc/PID/stat from the state on, or None when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def cpu_of(pid):
    """Seconds that the process itself has used, all threads."""
    f = stat_fields(pid)
    if f is None:
        raise Failure(f"process {pid} has ended")
    return (int(f[11]) + int(f[12])) / TICK


def cpu_of_tree(root):
    """Seconds that the process and its descendants have used, also those that have ended and been waited for."""
    parents, times = {}, {}
    for entry in os.listdir("/proc"):
        f = stat_fields(entry) if entry.isdigit() else None
        if f:
            parents[int(entry)] = int(f[1])
            times[int(entry)] = sum(map(int, f[11:15]))
    if root not in times:
        raise Failure(f"process {root} has ended")

    def below(pid):
        while pid in parents and pid != root:
            pid = parents[pid]
        return pid == root

    return sum(t for pid, t in times.items() if below(pid)) / TICK


def cpu_of_machine():
    """Seconds that all processors together have been busy, or were kept from us by the host."""
    f = [int(x) for x in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]]
    return (sum(f[:3]) + sum(f[5:8])) / TICK


def ask(args, limit=120):
    """The JSON that a program prints, and the processor seconds it used."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen([str(a) for a in args], stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        end, pid = time.monotonic() + limit, 0
        try:
            while not pid:
                pid, status, used = os.wait4(child.pid, os.WNOHANG)
                if not pid and time.monotonic() > end:
                    raise Failure(f"{Path(args[0]).name} {args[1]} has not finished after {limit} s")
                if not pid:
                    time.sleep(0.01)
            child.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if child.returncode is None:
                child.kill()
                child.wait()
        out.seek(0)
        err.seek(0)
        text, said = out.read().decode(), err.read().decode(errors="replace").strip()
        if child.returncode != 0:
            raise Failure(f"{Path(args[0]).name} {args[1]} ended with {child.returncode}: {said or text.strip()}")
        return json.loads(text), used.ru_utime + used.ru_stime


def stop(child, how=signal.SIGTERM, limit=60):
    if child.poll() is None:
        child.send_signal(how)
        try:
            child.wait(limit)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    return child.returncode


def wait_until(condition, what, children, limit=60):
    """Poll until the condition holds and return what it gave; fail when a child ends meanwhile."""
    end = time.monotonic() + limit
    while True:
        found = condition()
        if found:
            return found
        for name, child, log in children:
            if child.poll() is not None:
                raise Failure(f"{name} ended with {child.returncode}:\n{tail(log)}")
        if time.monotonic() > end:
            raise Failure(f"{what}: not within {limit} s\n" + "\n".join(tail(log) for _, _, log in children))
        time.sleep(0.02)


def tail(path, lines=15):
    try:
        return "\n".join("    " + x for x in Path(path).read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def memory_mib(pid, field="VmHWM"):
    """Peak (VmHWM) or present (VmRSS) resident size."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise Failure(f"process {pid} has ended")


def stop_stranger(pid, how):
    """End a process that is not our child, and wait until it has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(fd, how)
        if not select.select([fd], [], [], 60)[0]:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)


def exit_code(run, options, name="benchmark"):
    """What the commands here end with. SIGTERM ends them like the keyboard does, with all that they have started."""
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        return run(options) or 0
    except (Failure, OSError, subprocess.SubprocessError, ValueError, KeyError) as e:
        print(f"{name} failed: {e if isinstance(e, Failure) else repr(e)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _interrupted(*_):
    raise KeyboardInterrupt

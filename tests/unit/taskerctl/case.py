"""What the tests of taskerctl against a scripted daemon share. The program calls them with: TASKERCTL SOURCE_ROOT."""
import os
import pathlib
import pty
import re
import select
import subprocess
import sys
import tempfile
import unittest

from fake_taskerd import FakeTaskerd

TASKERCTL, ROOT = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2]).resolve()
UUID = "0192f0c1-7b7a-7000-8000-00000000000a"
UUID2 = "0192f0c1-7b7a-7000-8000-00000000000b"
LINEAR = ROOT / "examples" / "templates" / "linear-4.yaml"


def a_task(state="steps_in_process", **more):
    return {
        "task_uuid": UUID, "namespace": "shop", "name": "order", "version": "1.2.0", "state": state, "status": state,
        "created_at": "2026-01-02T03:04:05.000000Z", "updated_at": "2026-01-02T03:04:07.500000Z",
        "context": {"order_id": 17}, "tags": [], "priority": 0, "total_steps": 3, "completed_steps": 1,
        "failed_steps": 0,
        "steps": [
            {"step_uuid": "s1", "name": "take", "state": "complete", "attempts": 1, "max_attempts": 3, "depends_on": [],
             "handler": "shop.take", "started_at": "2026-01-02T03:04:05.1Z", "finished_at": "2026-01-02T03:04:06.35Z"},
            {"step_uuid": "s2", "name": "pack", "state": "waiting_for_retry", "attempts": 2, "max_attempts": 3,
             "depends_on": ["take"], "handler": "shop.pack", "error": {"message": "no \x1b[31mbox"}},
            {"step_uuid": "s3", "name": "send", "state": "pending", "attempts": 0, "max_attempts": 3,
             "depends_on": ["take", "pack"], "handler": "shop.send"},
        ], **more}


DEFINITION = {
    "name": "order", "namespace_name": "shop", "version": "1.2.0",
    "steps": [
        {"name": "take", "handler": {"callable": "shop.take"}},
        {"name": "pack", "handler": {"callable": "shop.pack"}, "dependencies": ["take"]},
        {"name": "send", "handler": {"callable": "shop.send"}, "dependencies": ["take", "pack"]},
    ]}
TEMPLATE = {
    "namespace": "shop", "name": "order", "version": "1.2.0", "digest": "0123456789abcdef", "created_at":
    "2026-01-01T00:00:00.000000Z", "definition": DEFINITION,
    "steps": [
        {"no": 0, "name": "take", "type": "standard", "handler": {"callable": "shop.take"}, "retryable": True, "max_attempts": 3, "backoff": "exponential",
         "backoff_base_ms": 1000, "max_backoff_ms": None, "timeout_ms": None, "depends_on": []},
        {"no": 1, "name": "pack", "type": "standard", "handler": {"callable": "shop.pack"}, "retryable": False, "max_attempts": 1, "backoff": "none",
         "backoff_base_ms": None, "max_backoff_ms": None, "timeout_ms": 30000, "depends_on": ["take"]},
    ]}


class Case(unittest.TestCase):
    def serve(self, **answers):
        self.daemon = FakeTaskerd({k.replace("__", "."): v for k, v in answers.items()})
        self.addCleanup(self.daemon.close)
        return self.daemon

    def ctl(self, *args, code=0, stdin="", env=None, socket=True):
        where = ["--socket", self.daemon.path] if socket else []
        p = subprocess.run([TASKERCTL, *where, *args], input=stdin, capture_output=True, text=True, timeout=30,
                           env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})})
        self.assertEqual(p.returncode, code, p.stdout + p.stderr)
        self.out, self.err = p.stdout, p.stderr
        return self.out

    def rows(self):
        """The printed table as a list of lists."""
        return [re.split(r"  +", line.strip()) for line in self.out.splitlines()]

    def file(self, text, name="f"):
        d = tempfile.TemporaryDirectory()
        self.addCleanup(d.cleanup)
        path = pathlib.Path(d.name) / name
        path.write_text(text)
        return str(path)

    def terminal(self, *args, rows=30, columns=70, env=None):
        """Run on a terminal of that size; what it has written, and the exit code."""
        pid, fd = pty.fork()
        if pid == 0:
            for name in ("NO_COLOR", "PAGER", "TASKERCTL_PAGER"):
                os.environ.pop(name, None)
            os.environ.update({"LC_ALL": "C.UTF-8", "TERM": "xterm", "PAGER": "", **(env or {})})
            subprocess.run(["stty", "rows", str(rows), "columns", str(columns)], check=True)
            os.execv(TASKERCTL, [TASKERCTL, "--socket", self.daemon.path, *args])
        data = b""
        while select.select([fd], [], [], 20)[0]:
            try:
                got = os.read(fd, 65536)
            except OSError:
                break
            if not got:
                break
            data += got
        os.close(fd)
        return data.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

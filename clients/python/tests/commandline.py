"""The command line as a process of its own, before a daemon that the test scripts."""

import errno
import os
import subprocess
import sys
import textwrap

import support
from support import PATIENCE


class CliCase(support.TestCase):
    """With a directory for modules, which is also the current one."""

    def write(self, name, text):
        path = os.path.join(self.daemon.directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(textwrap.dedent(text))

    def run_cli(self, *args, **env):
        return self.run_python("-m", "taskerd", *args, **env)

    def run_python(self, *args, **env):
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("TASKER", "PYTHON_HANDLER"))}
        environ.update(PYTHONPATH=support.SRC, TASKERD_SOCKET=self.daemon.path, **env)
        process = subprocess.Popen(
            [sys.executable, "-W", "error", *args],
            cwd=self.daemon.directory, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.addCleanup(self.reap, process)
        return process

    def reap(self, process):
        if process.poll() is None:
            process.kill()
        self.said = process.communicate(timeout=support.PATIENCE)

    def end(self, process):
        out, err = process.communicate(timeout=PATIENCE)
        return process.returncode, out, err

    def write_to_reader(self, fifo, process, text=""):
        """Once somebody has opened the named pipe for reading, write to it. What never comes is a failure, which a plain open() would make a hang."""
        found = []

        def reader():
            try:
                found.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
            except OSError as e:
                if e.errno != errno.ENXIO:
                    raise
            return found

        try:
            support.wait_until(reader)
        except AssertionError:
            self.reap(process)
            raise AssertionError("nobody reads %s; %s" % (fifo, self.said)) from None
        with open(found[0], "w", encoding="utf-8") as stream:
            stream.write(text)

    def drain(self, conn):
        """Play the daemon's part of a clean end."""
        self.assertEqual(conn.expect("worker.update"), {"draining": True})
        conn.expect("goodbye")
        conn.expect_end()

"""taskerctl against a scripted daemon: what it says when something is wrong.

usage: test_errors.py TASKERCTL SOURCE_ROOT"""
import json
import subprocess
import sys

import tap
from case import TASKERCTL, UUID, Case
from fake_taskerd import Error, HangUp, Silence


class Errors(Case):
    def test_exit_codes(self):
        for name, code in {"not_found": 4, "template_not_found": 4, "conflict": 5, "overloaded": 7,
                           "database_unavailable": 7, "shutting_down": 7, "permission_denied": 1, "internal": 1}.items():
            with self.subTest(code=name):
                self.serve(task__get=Error(name, "words of the daemon"))
                self.ctl("task", "get", UUID, code=code)
                self.assertEqual(self.out, "")
                self.assertIn("words of the daemon", self.err)

    def test_unreachable(self):
        self.ctl("task", "list", "--socket", "/nonexistent/s", code=3, socket=False)
        self.assertIn("/nonexistent/s", self.err)
        self.assertIn("--socket PATH", self.err)

    def test_the_socket_of_the_environment(self):
        self.serve(task__list={"tasks": []})
        self.ctl("task", "list", socket=False, env={"TASKERD_SOCKET": self.daemon.path})

    def test_why_the_database_is_away(self):
        info = {"server": "taskerd", "version": "1", "node": "n", "pid": 1, "uptime_ms": 1, "database": {"state": "lost", "version": 150004, "hanging": [], "error": "connecting took too long"}}
        self.serve(server__info=info)
        self.ctl("version")
        self.assertRegex(self.out, r"(?m)^database +lost, PostgreSQL 15\.4\n +connecting took too long$")

    def test_waiting_for_a_daemon(self):
        states = iter(("waiting", "lost", "up"))
        self.serve(server__info=lambda _params, _: {"server": "taskerd", "version": "1", "node": "n", "pid": 1, "uptime_ms": 1, "database": {"state": next(states), "version": 150004, "hanging": []}})
        self.ctl("version", "--wait")
        self.assertRegex(self.out, "database +up, PostgreSQL 15.4")
        self.serve(server__info={"server": "taskerd", "database": {"state": "waiting", "hanging": []}})
        self.ctl("version", "--wait", "--timeout", "50ms", code=6)
        self.assertIn("waiting", self.out)
        self.ctl("version", "--wait", "--timeout", "50ms", "--socket", "/nonexistent/s", code=6, socket=False)
        self.serve(server__info=Error("permission_denied", "not you"))
        self.ctl("version", "--wait", code=3)
        self.assertIn("not you", self.out)

    def test_no_answer(self):
        self.serve(task__get=Silence())
        self.ctl("task", "get", UUID, "--timeout", "50ms", code=6)
        self.assertIn("--timeout", self.err)

    def test_who_does_not_answer(self):
        """Taskerd knows whether it waits for its database, and is asked."""
        call = {"call": "tasker.api_task_get", "ms": 61000}
        for database, said in (({"state": "lost", "error": "no route\x1b[2J"}, "its database is lost, no route?[2J"), ({"state": "up", "hanging": [], "oldest_call": call}, 'its database has not answered "tasker.api_task_get" for 1m01s'),
                               ({"state": "up", "hanging": [], "oldest_call": {"call": None, "ms": 0}}, "within 50 ms\n"), ({}, "within 50 ms\n"), (None, "within 50 ms\n")):
            self.serve(task__get=Silence(), server__info={"database": database} if database is not None else Error("permission_denied"))
            self.ctl("task", "get", UUID, "--timeout", "50ms", code=6)
            self.assertIn(said, self.err)
            self.assertIn("taskerctl version", self.err)

    def test_connection_lost(self):
        self.serve(task__get=HangUp())
        self.ctl("task", "get", UUID, code=3)

    def test_another_version(self):
        self.serve(hello=Error("unsupported_version", "2.0 is spoken here"))
        self.ctl("task", "get", UUID, code=1)
        self.assertIn("2.0 is spoken here", self.err)

    def test_json(self):
        self.serve(task__get=Error("overloaded", "later", retry_after_ms=70, path="x.y"))
        self.ctl("task", "get", UUID, "--json", code=7)
        self.assertEqual(json.loads(self.out), {"error": {
            "code": "overloaded", "message": "later", "retry_after_ms": 70, "path": "x.y", "exit_code": 7,
            "hint": "try again in a moment; see what goes on with: taskerctl stats --once"}})
        self.assertIn("70 ms", self.err)

    def test_usage_needs_no_daemon(self):
        self.ctl("task", "get", "not-a-uuid", code=2, socket=False)
        self.ctl("task", "create", code=2, socket=False)
        self.ctl("task", "create", "a/b/c", code=2, socket=False)
        self.ctl("task", "create", "a/b", "--priority", "101", code=2, socket=False)
        self.ctl("task", "create", "a/b", "--context", "[1]", code=2, socket=False)
        self.ctl("task", "create", "a/b", "--context", '{"a":1,"a":2}', code=2, socket=False)
        self.ctl("task", "create", "--from", "x", "--key", "k", code=2, socket=False)
        self.ctl("task", "list", "--limit", "0", code=2, socket=False)
        self.ctl("template", "graph", "a/b", "--format", "png", code=2, socket=False)
        self.ctl("help", "nonsense", code=2, socket=False)

    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "w") as full:
            p = subprocess.run([TASKERCTL, "help"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=30)
        self.assertEqual(p.returncode, 1)
        self.assertIn("cannot write", p.stderr)


tap.main(sys.modules[__name__])

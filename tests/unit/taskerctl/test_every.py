"""taskerctl against a scripted daemon: every command, with everything that may go wrong.

usage: test_every.py TASKERCTL SOURCE_ROOT"""
import json
import os
import shutil
import subprocess
import sys
import types
import unittest

import tap
from case import DEFINITION, LINEAR, TASKERCTL, UUID, Case
from fake_taskerd import Error, FakeTaskerd, HangUp

WHY = ("-r", "why")
# Every command that asks a daemon, with words that are right.
ASKS = {
    "template apply": [str(LINEAR)], "template list": [], "template show": ["shop/order"], "template graph": ["shop/order"],
    "generate types": ["shop/order", "-l", "python"], "generate handler": ["shop/order", "-l", "python"], "generate scaffold": ["shop/order", "-l", "python", "-o", "/nonexistent/x"],
    "task create": ["shop/order"], "task get": [UUID], "task list": [], "task wait": [UUID], "task watch": [UUID], "task tree": [UUID], "task history": [UUID], "task dump": [UUID],
    "task restore": ["DUMP", "-n", "a", *WHY], **{f"task {v}": [UUID, *WHY] for v in ("cancel", "retry", "resolve", "pause", "resume")},
    **{f"step {v}": [UUID, "pack"] for v in ("get", "history", "result", "logs")}, **{f"step {v}": [UUID, "pack", *WHY] for v in ("reset", "resolve", "skip")},
    "step complete": [UUID, "pack", "--result", "1", *WHY],
    "namespace list": [], "namespace pause": ["shop", *WHY], "namespace resume": ["shop", *WHY], "namespace retention": ["shop"],
    "worker list": [], "worker show": [UUID], "worker drain": [UUID, *WHY], "node list": [], "node show": [], "queue list": [], "queue pause": ["shop", *WHY], "queue resume": ["shop", *WHY],
    "queue purge": ["shop", "shop.pack", "--dry-run"], **{f"analytics {v}": [] for v in ("templates", "steps", "slowest", "failing")},
    "dlq list": [], "dlq show": [UUID], "dlq stats": [], "dlq causes": [], "dlq queue": [], "dlq add": [UUID], "dlq update": [UUID, "--notes", "x"], "dlq redrive": [UUID, *WHY], "dlq staleness": [],
    "events tail": [], "events consume": [], "events publish": ["stock.low"], "events list": [], "token create": ["nightly", "--role", "read"], "token list": [], "token revoke": ["nightly", *WHY],
    "audit": [], "metrics": [], "status": [], "doctor": [], "stats": ["--once"],
}
# These make do without one.
WITHOUT = {"config show", "version"}
DUMP = {"format": "taskerd-task-dump", "format_version": 1, "task": {"task_uuid": UUID, "namespace": "shop", "name": "order", "version": "1.2.0", "state": "complete", "context": {}, "steps": []},
        "template": {"namespace": "shop", "name": "order", "version": "1.2.0", "definition": DEFINITION}}
# What may go wrong with any of them: how the daemon answers, the exit code, and what is named to try next.
ANSWERS = {
    "permission_denied": (1, "taskerctl help {verb}"), "not_found": (4, None), "conflict": (5, None), "bad_request": (1, "taskerctl help {verb}"), "database_unavailable": (7, "taskerctl version"),
    "overloaded": (7, "taskerctl stats"), "shutting_down": (7, "taskerctl version"), "internal": (1, "taskerctl doctor"), "too_large": (1, None), "unknown_method": (1, "taskerctl version"),
    "a_code_of_a_later_version": (1, "taskerctl help {verb}"),
}
# Where to look for what is not there, or stands otherwise than was thought; {1} is the first argument.
WHERE = {
    ("task get", "not_found"): "taskerctl task list", ("task get", "conflict"): f"taskerctl task get {UUID}", ("task get", "too_large"): f"taskerctl task get {UUID} --no-steps",
    ("task create", "not_found"): "taskerctl template list", ("step reset", "not_found"): "taskerctl task get UUID", ("step reset", "conflict"): f"taskerctl step get {UUID} pack",
    ("worker show", "not_found"): "taskerctl worker list", ("node list", "not_found"): "taskerctl node list", ("queue purge", "not_found"): "taskerctl queue list",
    ("namespace pause", "not_found"): "taskerctl namespace list", ("namespace resume", "conflict"): "taskerctl namespace list", ("dlq redrive", "not_found"): "taskerctl dlq list",
    ("dlq redrive", "conflict"): f"taskerctl dlq show {UUID}", ("token revoke", "not_found"): "taskerctl token list", ("template show", "not_found"): "taskerctl template list",
    ("template apply", "conflict"): "taskerctl template list", ("events publish", "not_found"): "taskerctl namespace list", ("task restore", "conflict"): "taskerctl namespace list",
}


class Daemon(FakeTaskerd):
    """One that answers everything with the same."""

    def __init__(self, answer, **answers):
        super().__init__(answers)
        self.answer = answer

    def _answer(self, send, notify, number, method, params):
        if method != "hello":
            self.answers = {**self.answers, method: self.answer}
        super()._answer(send, notify, number, method, params)


class EveryCommand(Case):
    """Whatever goes wrong: the exit code, one line that says what and the next command to try, and with --json the same as one document."""

    @classmethod
    def setUpClass(cls):
        cls.program = os.open(TASKERCTL, os.O_RDONLY | os.O_CLOEXEC)

    @classmethod
    def tearDownClass(cls):
        os.close(cls.program)

    def words(self, verb):
        dump = self.file(json.dumps(DUMP), "dump.json") if "DUMP" in ASKS[verb] else None
        if dump:
            os.chmod(os.path.dirname(dump), 0o755)
        return [*verb.split(), *(dump if w == "DUMP" else w for w in ASKS[verb])]

    def commands(self):
        p = subprocess.run([TASKERCTL, "help", "--json"], capture_output=True, text=True, check=True)
        return [(" ".join(w for w in (c["group"], c["command"]) if w), c) for c in json.loads(p.stdout)["commands"]]

    def check(self, words, code, hint):
        """As people see it on standard error, and as programs do."""
        self.ctl(*words, "--json", code=code)
        self.assertRegex(self.err, r"\Ataskerctl: [^\n]+\n  [^\n]+\n")
        self.assertIn(hint, self.err)
        answer = json.loads(self.out)
        error = (answer[0] if isinstance(answer, list) else answer)["error"]
        self.assertEqual(set(error) & {"code", "message", "hint", "exit_code"}, {"code", "message", "hint", "exit_code"})
        self.assertEqual(error["exit_code"], code)
        self.assertIn(hint, error["hint"])
        self.assertTrue(error["message"])

    def against(self, daemon):
        self.daemon = daemon
        self.addCleanup(daemon.close)

    def test_none_is_forgotten(self):
        asking = {title for title, c in self.commands() if c["asks"]}
        self.assertEqual(asking - WITHOUT, set(ASKS))

    def test_every_answer(self):
        for code, (exit_code, hint) in ANSWERS.items():
            self.against(Daemon(Error(code, "words of the daemon")))
            for verb in ASKS:
                with self.subTest(verb=verb, code=code):
                    self.check(self.words(verb), exit_code, WHERE.get((verb, code)) or (hint or "taskerctl ").replace("{verb}", verb))
                    self.assertIn("words of the daemon", self.err)

    def test_no_daemon(self):
        self.daemon = types.SimpleNamespace(path="/nonexistent/s")
        for verb in ASKS:
            with self.subTest(verb=verb):
                self.check(self.words(verb), 3, "systemctl status taskerd")
                self.assertIn("/nonexistent/s", self.err)

    @unittest.skipIf(os.geteuid() == 0 and not shutil.which("setpriv"), "root may open everything")
    def test_a_socket_of_somebody_else(self):
        self.against(Daemon(Error("internal")))
        os.chmod(self.daemon.dir, 0)
        self.addCleanup(os.chmod, self.daemon.dir, 0o700)
        drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
        for verb in ASKS:
            with self.subTest(verb=verb):
                p = subprocess.run([*drop, "/proc/self/fd/%d" % self.program, "--socket", self.daemon.path, *self.words(verb), "--json"], capture_output=True, text=True, timeout=30, pass_fds=[self.program])
                self.assertEqual(p.returncode, 3, p.stderr)
                self.assertIn("ls -l " + self.daemon.path, p.stderr)
                answer = json.loads(p.stdout)
                self.assertIn("ls -l " + self.daemon.path, (answer[0] if isinstance(answer, list) else answer)["error"]["hint"])

    def test_another_version(self):
        self.against(Daemon(Error("internal"), hello=Error("unsupported_version", "2.0 is spoken here")))
        for verb in ASKS:
            with self.subTest(verb=verb):
                self.check(self.words(verb), 1, "taskerctl version")
                self.assertIn("2.0 is spoken here", self.err)

    def test_a_connection_that_is_lost(self):
        self.against(Daemon(HangUp()))
        for verb in ASKS:
            with self.subTest(verb=verb):
                self.check(self.words(verb), 3, "taskerctl version")

    def test_wrong_words(self):
        """Nobody is asked. What is missing, too much, no option, or no uuid; the next command is the help of this one unless there is a better one."""
        self.daemon = types.SimpleNamespace(path="/nonexistent/s")
        for title, c in self.commands():
            with self.subTest(verb=title):
                self.check([*title.split(), "--no-such-option"], 2, f"taskerctl help {title}")
                if c["min_arguments"] > 0:
                    self.check(title.split(), 2, f"taskerctl help {title}")
                if c["max_arguments"] is not None:
                    self.check([*title.split(), *["x"] * (c["max_arguments"] + 1)], 2, f"taskerctl help {title}")
        self.check(["task", "gte"], 2, "taskerctl help task")
        self.check(["tsak"], 2, "taskerctl help")
        for verb, words in ASKS.items():
            if UUID in words and not verb.startswith(("worker", "dlq")):
                with self.subTest(verb=verb, uuid="wrong"):
                    self.check([*verb.split(), *("17" if w == UUID else w for w in words)], 2, "taskerctl task list" if verb.startswith("task") else "taskerctl ")
                if "-r" in words:
                    with self.subTest(verb=verb, reason="none"):
                        self.check([*verb.split(), *(w for w in words if w not in WHY)], 2, "taskerctl help " + verb) if verb != "task cancel" else None

    def test_what_is_named_can_be_typed(self):
        """An argument that a shell would read otherwise is not in the command that is to be tried."""
        self.against(Daemon(Error("not_found", "no such template")))
        self.ctl("template", "show", "shop/$(reboot)", code=4)
        self.assertNotIn("reboot", self.err.split("\n")[1])
        self.against(Daemon(Error("conflict", "no")))
        self.ctl("step", "skip", UUID, "a; reboot", *WHY, code=5)
        self.assertNotIn("reboot", self.err)


tap.main(sys.modules[__name__])

"""Completion: what __complete offers, and that bash, zsh and fish, which are really run, put it on the line.

usage: test_completion.py TASKERCTL SOURCE_ROOT"""
import json
import os
import pathlib
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

import tap
from case import TASKERCTL, TEMPLATE, UUID, UUID2, Case, a_task
from fake_taskerd import Error, Silence

EVIL = "evil $(touch pwned) 'x;y"
ANSWERS = {
    "namespace__list": {"namespaces": [{"namespace": "shop", "paused": True}, {"namespace": "shed"}, {"namespace": EVIL}, {"namespace": "bad\x1b[2J"}]},
    "template__list": {"templates": [TEMPLATE, {**TEMPLATE, "version": "1.3.0"}, {**TEMPLATE, "name": "parcel", "version": "2.0.0"}]},
    "task__list": {"tasks": [a_task(), {**a_task("complete"), "task_uuid": UUID2}], "next_cursor": None},
    "task__get": a_task(),
    "dlq__list": {"entries": [{"entry": "e1b2", "reason": "manual_dlq"}], "next_cursor": None},
}


class Words(Case):
    def offers(self, *words, env=None):
        """{value: what is said about it}"""
        p = subprocess.run([TASKERCTL, "__complete", "--", *words], capture_output=True, text=True, timeout=30,
                           env={**os.environ, "LC_ALL": "C.UTF-8", "TASKERCTL_CONFIG": "/dev/null", "TASKERD_SOCKET": self.daemon.path, **(env or {})})
        self.assertEqual((p.returncode, p.stderr), (0, ""))
        return dict((line.split("\t") + [""])[:2] for line in p.stdout.splitlines())

    def names(self, *words, **more):
        return sorted(self.offers(*words, **more))

    def test_commands(self):
        self.serve()
        self.assertEqual(self.names("ta"), ["task"])
        self.assertEqual(self.offers("doc"), {"doctor": "Check that nothing is stranded"})
        self.assertEqual(self.names("task", "re"), ["resolve", "restore", "resume", "retry"] if "restore" in self.offers("task", "") else ["resolve", "resume", "retry"])
        self.assertEqual(self.names("task", "list", ""), [])
        self.assertNotIn("__complete", self.offers(""))
        self.assertEqual(self.names("help", "dlq", "red"), ["redrive"])
        self.assertEqual(self.names("nonsense", ""), [])
        self.assertEqual(self.daemon.asked, [])

    def test_every_command_and_option_of_the_table(self):
        self.serve()
        table = json.loads(subprocess.run([TASKERCTL, "help", "--json"], capture_output=True, check=True).stdout)
        first = set(self.offers(""))
        for c in table["commands"]:
            words = [w for w in (c["group"], c["command"]) if w]
            self.assertIn(words[0], first)
            self.assertIn(words[-1], self.offers(*words))
            offered = set(self.offers(*words, "--"))
            self.assertEqual(offered, {"--" + o["name"] for o in c["options"] + table["options"]})
            for o in c["options"]:
                only = o.get("kind", {}).get("only", [])
                if only:
                    self.assertEqual(set(self.offers(*words, "--" + o["name"], "")), set(only), (words, o))

    def test_values(self):
        self.serve()
        self.assertEqual(self.names("task", "list", "--state", "com"), ["complete"])
        self.assertEqual(self.names("task", "list", "--state=com"), ["--state=complete"])
        self.assertEqual(self.names("-o", "j"), ["json", "jsonl"])
        self.assertEqual(self.names("template", "graph", "x", "-o", ""), [":files"])
        self.assertEqual(self.names("generate", "scaffold", "x.yaml", "--output", ""), [":dirs"])
        self.assertEqual(self.names("template", "validate", ""), [":files"])
        self.assertEqual(self.names("namespace", "retention", "shop", "--keep", "f"), ["forever"])
        self.assertEqual(self.names("task", "create", "--context", "@x"), [":files"])
        self.assertEqual(self.names("task", "create", "--context", "{"), [])

    def test_what_the_daemon_knows(self):
        self.serve(**ANSWERS)
        self.assertEqual(self.offers("namespace", "pause", "sh"), {"shop": "paused", "shed": ""})
        self.assertEqual(self.names("task", "list", "-n", ""), [EVIL, "shed", "shop"])
        self.assertEqual(self.names("template", "show", ""), ["shop/order", "shop/parcel"])
        self.assertEqual(self.names("template", "show", "shop/order@"), ["shop/order@1.2.0", "shop/order@1.3.0"])
        self.assertEqual(self.names("task", "list", "--name", ""), ["order", "parcel"])
        self.assertEqual(self.offers("task", "wait", UUID, UUID2[:-1]), {UUID: "shop/order steps_in_process", UUID2: "shop/order complete"})
        self.assertEqual(self.names("step", "get", UUID, ""), ["pack", "send", "take"])
        self.assertEqual(self.daemon.params("task.get"), [{"task_uuid": UUID}])
        self.assertEqual(self.names("step", "get", UUID, "take", ""), [])
        self.assertEqual(self.names("dlq", "show", "e"), ["e1b2"])
        self.names("task", "cancel", "-n", "shop", "")
        self.assertEqual(self.daemon.params("task.list")[-1]["namespace"], "shop")

    def test_the_daemon_that_the_line_names(self):
        self.serve(**ANSWERS)
        env = {"TASKERD_SOCKET": "/nonexistent"}
        self.assertEqual(self.names("task", "list", "-n", "sho", env=env), [])
        self.assertEqual(self.names("--socket", self.daemon.path, "task", "list", "-n", "sho", env=env), ["shop"])
        config = self.file(f"profiles:\n  trial: {{socket: {self.daemon.path}}}\n  gone: {{socket: /nonexistent}}\n")
        env["TASKERCTL_CONFIG"] = config
        self.assertEqual(self.names("--profile", "tr", env=env), ["trial"])
        self.assertEqual(self.names("--profile=trial", "task", "list", "-n", "sho", env=env), ["shop"])
        self.assertEqual(self.names("task", "list", "-n", "sho", env={"TASKERD_SOCKET": "", "TASKERCTL_PROFILE": "trial", "TASKERCTL_CONFIG": config}), ["shop"])

    def test_errors_are_never_shown(self):
        for answer in (Error("permission_denied"), Silence(), {"tasks": 5}, [], {"tasks": [5, {"task_uuid": 7}]}):
            self.serve(task__list=answer)
            self.assertEqual(self.offers("task", "get", ""), {})
        self.serve(hello=Silence())
        self.assertEqual(self.offers("task", "get", ""), {})
        self.assertEqual(self.offers("task", "get", "", env={"TASKERD_SOCKET": "/nonexistent"}), {})
        self.assertEqual(self.offers("task", "get", "", env={"TASKERCTL_CONFIG": self.file("profiles: [")}), {})
        self.assertEqual(self.offers("--nonsense", "-x", "task", "get", "--", "--"), {})

    def test_scripts(self):
        self.assertIn("complete -F _taskerctl taskerctl", self.ctl("completion", "bash", socket=False))
        self.ctl("completion", "tcsh", socket=False, code=2)


LINES = [  # what is typed before the key is pressed, and what the command is called with then
    ("task lis", ["task", "list"]),
    ("task list --state=comp", ["task", "list", "--state=complete"]),
    ("task list --state blocked", ["task", "list", "--state", "blocked_by_failures"]),
    ("template show shop/par", ["template", "show", "shop/parcel"]),
    ("template show shop/parcel@2", ["template", "show", "shop/parcel@2.0.0"]),
    ("task get " + UUID2[:-1] + "b", ["task", "get", UUID2]),
    (f"step get {UUID} pa", ["step", "get", UUID, "pack"]),
    ("template validate ./ord", ["template", "validate", "./order.yaml"]),
    ("task list -n ev", ["task", "list", "-n", EVIL]),
    ("task list --namespace=ev", ["task", "list", "--namespace=" + EVIL]),
]


class Shell(Case):
    PROGRAM = None

    def setUp(self):
        if not self.PROGRAM:
            self.skipTest("not for itself")
        self.shell = shutil.which(self.PROGRAM)
        if not self.shell:
            self.skipTest(f"no {self.PROGRAM}: apt-get install {self.PROGRAM}")
        self.serve(**ANSWERS)
        d = tempfile.TemporaryDirectory()
        self.addCleanup(d.cleanup)
        self.dir = pathlib.Path(d.name)
        (self.dir / "order.yaml").write_text("")
        (self.dir / "bin").mkdir()
        # What it is called with, a JSON array a line; only questions go to the real one.
        (self.dir / "bin" / "taskerctl").write_text(f"#!{sys.executable}\nimport json, os, sys\n"
                                                    f"if sys.argv[1] in ('__complete', 'completion'): os.execv({TASKERCTL!r}, sys.argv)\n"
                                                    "with open(os.environ['CALLS'], 'a') as f: f.write(json.dumps(sys.argv[1:]) + '\\n')\n")
        (self.dir / "bin" / "taskerctl").chmod(0o755)
        self.env = {"PATH": f"{self.dir}/bin:{os.environ['PATH']}", "HOME": d.name, "TERM": "dumb", "LC_ALL": "C.UTF-8", "CALLS": str(self.dir / "calls"),
                    "TASKERD_SOCKET": self.daemon.path, "TASKERCTL_CONFIG": "/dev/null"}

    def type_in(self, argv, setup, lines):
        """Type into a terminal of that shell; what taskerctl was called with."""
        pid, fd = pty.fork()
        if pid == 0:
            os.chdir(self.dir)
            os.execve(argv[0], argv, self.env)
        self.addCleanup(lambda: os.waitpid(pid, 0))
        self.addCleanup(lambda: os.kill(pid, signal.SIGKILL))
        self.said = b""
        self.wait_for(fd, setup + "; echo rea''dy\n", b"ready")
        for n, line in enumerate(lines):
            self.wait_for(fd, f"taskerctl {line}\t\n", None)
            self.wait_for(fd, f"echo do''ne{n}.\n", f"done{n}.".encode())
        with open(self.dir / "calls", encoding="utf-8") as f:
            return [json.loads(line) for line in f]

    def wait_for(self, fd, text, mark):
        os.write(fd, text.encode())
        while mark and mark not in self.said:
            self.assertTrue(select.select([fd], [], [], 30)[0], f"{mark} does not come: {self.said[-2000:]!r}")
            self.said += os.read(fd, 65536)

    def check(self, argv, setup):
        got = self.type_in(argv, setup, [typed for typed, _ in LINES])
        self.assertEqual(got, [wanted for _, wanted in LINES], self.said.decode(errors="replace")[-3000:])
        self.assertFalse((self.dir / "pwned").exists())


class Bash(Shell):
    PROGRAM = "bash"
    SETUP = "PS1=; bind 'set bell-style none'; bind 'set enable-bracketed-paste off'; "

    def test_by_itself(self):
        self.check([self.shell, "--norc", "--noprofile", "-i"], self.SETUP + "source <(taskerctl completion bash)")

    def test_with_bash_completion(self):
        main = pathlib.Path("/usr/share/bash-completion/bash_completion")
        if not main.exists():
            self.skipTest("no bash-completion: apt-get install bash-completion")
        self.check([self.shell, "--norc", "--noprofile", "-i"], self.SETUP + f"source {main}; source <(taskerctl completion bash)")

    def test_compgen(self):
        """All that is offered, as the completion of the package finds it by the name of the command."""
        main = pathlib.Path("/usr/share/bash-completion/bash_completion")
        if not main.exists():
            self.skipTest("no bash-completion: apt-get install bash-completion")
        place = self.dir / "share" / "bash-completion" / "completions"
        place.mkdir(parents=True)
        (place / "taskerctl").write_text(subprocess.run([TASKERCTL, "completion", "bash"], capture_output=True, text=True, check=True).stdout)
        script = (f"source {main}; COMP_LINE='taskerctl template show s'; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=(taskerctl template show s); COMP_CWORD=3\n"
                  "_completion_loader taskerctl; complete -p taskerctl; _taskerctl; printf '%s\\n' \"${COMPREPLY[@]}\"")
        p = subprocess.run([self.shell, "--norc", "-c", script], capture_output=True, text=True, timeout=30, env={**self.env, "XDG_DATA_DIRS": str(self.dir / "share")})
        self.assertEqual(p.stdout.splitlines(), ["complete -F _taskerctl taskerctl", "shop/order", "shop/parcel"], p.stderr)


class Zsh(Shell):
    PROGRAM = "zsh"
    SETUP = "PS1=; unsetopt beep zle_bracketed_paste; unset zle_bracketed_paste; autoload -Uz compinit; "

    def test_sourced(self):
        self.check([self.shell, "-f", "-i"], self.SETUP + "compinit -u -D; source <(taskerctl completion zsh)")

    def test_from_the_directory_of_the_package(self):
        place = self.dir / "vendor"
        place.mkdir()
        (place / "_taskerctl").write_text(subprocess.run([TASKERCTL, "completion", "zsh"], capture_output=True, text=True, check=True).stdout)
        self.check([self.shell, "-f", "-i"], self.SETUP + f"fpath=({place} $fpath); compinit -u -D")


class Fish(Shell):
    PROGRAM = "fish"

    def test_lines(self):
        script = "source (taskerctl completion fish | psub)\n" + "".join(f"complete -C 'taskerctl {typed}'\necho ==\n" for typed, _ in LINES)
        p = subprocess.run([self.shell, "--no-config", "-c", script], capture_output=True, text=True, timeout=60, env=self.env, cwd=self.dir)
        got = [block.split("\n") for block in p.stdout.split("\n==\n")][:-1]
        self.assertEqual([[line.split("\t")[0] for line in block if line] for block in got], [[wanted[-1]] for _, wanted in LINES], p.stdout + p.stderr)
        self.assertFalse((self.dir / "pwned").exists())

    def test_about(self):
        script = "source (taskerctl completion fish | psub)\ncomplete -C 'taskerctl doct'"
        p = subprocess.run([self.shell, "--no-config", "-c", script], capture_output=True, text=True, timeout=60, env=self.env, cwd=self.dir)
        self.assertEqual(p.stdout, "doctor\tCheck that nothing is stranded\n", p.stderr)


tap.main(sys.modules[__name__])

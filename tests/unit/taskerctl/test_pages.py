"""The manual pages and the table of commands say the same, in both directions: commands, options, exit codes, roles and examples;
taskerd-protocol(7) names the messages and errors of the protocol.

usage: test_pages.py TASKERCTL SOURCE_ROOT"""
import json
import pathlib
import re
import subprocess
import sys
import unittest

import tap

TASKERCTL, ROOT = sys.argv[1], pathlib.Path(sys.argv[2])
MAN = ROOT / "man"


def run(*args):
    return subprocess.run([TASKERCTL, *args], capture_output=True, text=True, check=True, timeout=20).stdout


TABLE = json.loads(run("help", "--json"))
GROUPS = [g["name"] for g in TABLE["groups"]]


def title(command):
    return " ".join(w for w in (command["group"], command["command"], command["arguments"]) if w)


def table_options(options):
    """{long option: (letter, argument)}"""
    return {o["name"]: (o.get("letter"), o.get("argument")) for o in options}


def help_options(text, heading):
    found = {}
    block = re.search(rf"^{heading}:\n((?:  .*\n)*)", text, re.M)
    for line in (block.group(1) if block else "").splitlines():
        m = re.match(r"  (?:-(\w), |    )--([\w-]+)(?: ([A-Z]+))?", line)
        if m:
            found[m.group(2)] = (m.group(1), m.group(3))
    return found


def page_options(text):
    return {m[2]: (m[1], m[3]) for m in re.finditer(r"^(?:\*-(\w)\*, )?\*--([\w-]+)\*(?: _([A-Z]+)_)?$", text, re.M)}


def plain(text):
    return re.sub(r"[*_]|\\(?=[*_\\`#])", "", text.replace("\\_", "\0")).replace("\0", "_")


class Page:
    """A page of taskerctl: its sections, and those of COMMANDS by their titles."""

    def __init__(self, name):
        self.text = (MAN / f"{name}.1.scd").read_text()
        parts = re.split(r"^# (.*)\n", self.text, flags=re.M)
        self.sections = dict(zip(parts[1::2], parts[2::2]))
        parts = re.split(r"^## (.*)\n", self.sections["COMMANDS"], flags=re.M)
        self.before, self.commands = parts[0], dict(zip(parts[1::2], parts[2::2]))

    def options(self, command):
        text = self.commands[command]
        return page_options(text + (self.sections["PICKING"] if "under PICKING" in text else ""))

    def wide_columns(self, command):
        m = re.search(r"^With \*--output wide\* also: ([^.]+)\.", self.commands[command], re.M)
        return m[1].split(", ") if m else []

    def exits(self, command):
        return [{"code": int(m[1]), "means": plain(m[2])[0].lower() + plain(m[2])[1:]} for m in re.finditer(r"^\*Exit code (\d+)\*\n\t(.*)\.$", self.commands[command], re.M)]

    def role(self, command):
        m = re.search(r"^Role: \*(\w+)\*\.$", self.commands[command], re.M)
        return m and m[1]

    def examples(self):
        return [{"what": plain(m[1]), "command": m[2]} for m in re.finditer(r"^([^\n]*):\n\n```\n(.*?)\n```$", self.sections.get("EXAMPLES", ""), re.M | re.S)]


class Commands(unittest.TestCase):
    maxDiff = None

    def check_page(self, page, commands):
        self.assertEqual(list(page.commands), [title(c) for c in commands])
        for c in commands:
            with self.subTest(command=title(c)):
                self.assertEqual(page.options(title(c)), table_options(c["options"]))
                self.assertEqual(page.exits(title(c)), c["exit_codes"])
                self.assertEqual(page.role(title(c)), c["role"])
                self.assertEqual(page.wide_columns(title(c)), c["wide_columns"])

    def test_pages_of_groups(self):
        for group in GROUPS:
            commands = [c for c in TABLE["commands"] if c["group"] == group]
            page = Page("taskerctl-" + group)
            self.check_page(page, commands)
            with self.subTest(group=group):
                self.assertTrue(page.text.startswith(f"taskerctl-{group}(1)\n"))
                self.assertEqual(page.examples(), [e for c in commands for e in c["examples"]])

    def test_commands_of_one_word(self):
        self.check_page(Page("taskerctl"), [c for c in TABLE["commands"] if not c["group"]])

    def test_groups_are_listed(self):
        page = Page("taskerctl")
        listed = dict(re.findall(r"^\*(\w+)\* _COMMAND_\n\t(.*)$", page.before, re.M))
        self.assertEqual(list(listed), GROUPS)
        for group, text in listed.items():
            names = [c["command"] for c in TABLE["commands"] if c["group"] == group]
            self.assertEqual(re.findall(r"\*([\w-]+)\*", text.split("There ")[1]), [*names, "taskerctl-" + group])
            self.assertIn(f"*taskerctl-{group}*(1)", page.sections["SEE ALSO"])
        self.assertEqual(set(GROUPS), {p.name[len("taskerctl-"):-len(".1.scd")] for p in MAN.glob("taskerctl-*.1.scd")})

    def test_global_options(self):
        wanted = table_options(TABLE["options"])
        self.assertEqual(page_options(Page("taskerctl").sections["OPTIONS"]), wanted)
        self.assertEqual(help_options(run("help"), "Options of every command"), wanted)

    def test_exit_codes(self):
        block = re.search(r"^Exit codes:\n((?: .*\n)*)", run("help"), re.M).group(1)
        listed = dict(re.findall(r"^ +(\d+)  (.*)$", block, re.M))
        page = {n: t.replace("*", "").replace("the operation failed", "failed")
                for n, t in re.findall(r"^[|\[]+ +\*(\d+)\*\n:\[? +(.*)$", Page("taskerctl").text, re.M)}
        self.assertEqual(len(listed), 11)
        self.assertEqual(listed, page)
        self.assertEqual(listed, {str(e["code"]): e["means"] for e in TABLE["exit_codes"]})


class Help(unittest.TestCase):
    def test_every_command(self):
        for c in TABLE["commands"]:
            words = [w for w in (c["group"], c["command"]) if w]
            with self.subTest(command=title(c)):
                text = run(*words, "--help")
                self.assertIn(f"usage: taskerctl {title(c)}\n", text)
                self.assertEqual(help_options(text, "Options"), table_options(c["options"]))
                self.assertEqual(text, run("help", *words))
                wide = re.search(r"^With --output wide also: (.*)$", text, re.M)
                self.assertEqual(wide[1].split(", ") if wide else [], c["wide_columns"])
                for e in c["examples"]:
                    self.assertIn(e["command"], text)

    def test_every_group(self):
        for group in GROUPS:
            text = run(group, "--help")
            block = re.search(r"^Commands:\n((?:  .*\n)*)", text, re.M).group(1)
            listed = [re.split(r"  +", line.strip())[0] for line in block.splitlines() if not line.startswith("   ")]
            self.assertEqual(listed, [title(c) for c in TABLE["commands"] if c["group"] == group])

    def test_all(self):
        block = re.search(r"^Commands:\n((?:  .*\n)*)", run("--help"), re.M).group(1)
        listed = [re.split(r"  +", line.strip())[0] for line in block.splitlines() if not line.startswith("   ")]
        self.assertEqual(listed, [title(c) for c in TABLE["commands"]])


class All(unittest.TestCase):
    def test_every_page_is_installed(self):
        listed = set(re.findall(r"'([\w.-]+\.\d)'", (MAN / "meson.build").read_text()))
        self.assertEqual(listed, {p.name[:-len(".scd")] for p in MAN.glob("*.scd")})

    def test_pages_that_are_referred_to(self):
        here = {p.name[:-len(".scd")] for p in MAN.glob("*.scd")}
        for page in MAN.glob("*.scd"):
            for name, section in re.findall(r"\*((?:tasker|libtasker)[\w.-]*)\*\((\d)\)", page.read_text()):
                self.assertIn(f"{name}.{section}", here, page.name)


class Protocol(unittest.TestCase):
    page = (MAN / "taskerd-protocol.7.scd").read_text().split("# ERRORS")

    def test_messages(self):
        table = set(re.findall(r'X\([A-Z_]+, "([\w.]+)", MSG_TO', (ROOT / "protocol" / "msg.h").read_text()))
        listed = set(re.findall(r"^\|\[? +\*([\w.]+)\*$", self.page[0], re.M))
        self.assertGreater(len(table), 20)
        self.assertEqual(table, listed)

    def test_errors(self):
        normative = (ROOT / "protocol" / "PROTOCOL.md").read_text().split("## 9. Error codes")[1].split("\n## ")[0]
        table = set(re.findall(r"^\| `(\w+)` \|", normative, re.M))
        listed = set(re.findall(r"^\|\[? +\*([\w.]+)\*$", self.page[1], re.M))
        self.assertGreater(len(table), 10)
        self.assertEqual(table, listed)


tap.main(sys.modules[__name__])

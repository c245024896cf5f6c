"""--help of every verb and the manual page name the same verbs and options; tasker-protocol(7) names the messages and errors of the protocol.

usage: test_pages.py TASKERCTL SOURCE_ROOT"""
import pathlib
import re
import subprocess
import sys
import unittest

import tap

TASKERCTL, ROOT = sys.argv[1], pathlib.Path(sys.argv[2])


def run(*args):
    return subprocess.run([TASKERCTL, *args], capture_output=True, text=True, check=True, timeout=20).stdout


def help_options(text, title):
    """{long option: (letter, argument)} of one block of a help text."""
    found = {}
    block = re.search(rf"^{title}:\n((?:  .*\n)*)", text, re.M)
    for line in (block.group(1) if block else "").splitlines():
        m = re.match(r"  (?:-(\w), |    )--([\w-]+)(?: ([A-Z]+))?", line)
        if m:
            found[m.group(2)] = (m.group(1), m.group(3))
    return found


def page_options(lines):
    found = {}
    for line in lines:
        m = re.match(r"(?:\*-(\w)\*, )?\*--([\w-]+)\*(?: _([A-Z]+)_)?$", line)
        if m:
            found[m.group(2)] = (m.group(1), m.group(3))
    return found


class Page:
    def __init__(self):
        self.verbs, self.options = {}, []
        section, block = None, None
        for line in (ROOT / "man" / "taskerctl.1.scd").read_text().splitlines():
            if line.startswith("# "):
                section = line[2:]
                block = self.options if section == "OPTIONS" else None
            elif line.startswith("## "):
                block = self.verbs.setdefault(line[3:], [])
            elif block is not None:
                block.append(line)


class Help(unittest.TestCase):
    page = Page()
    all = run("help")

    def verbs(self):
        """Names and arguments, from the usage line of each verb that `help` lists."""
        block = re.search(r"^Commands:\n((?:  .*\n)*)", self.all, re.M).group(1)
        return [re.split(r"  +", line.strip())[0] for line in block.splitlines() if not line.startswith("   ")]

    def test_same_verbs(self):
        self.assertGreater(len(self.verbs()), 15)
        self.assertEqual(self.verbs(), list(self.page.verbs))

    def test_same_options_of_every_verb(self):
        for title, lines in self.page.verbs.items():
            words = [w for w in title.split() if w.islower() and w.isalpha()]
            with self.subTest(verb=title):
                text = run(*words, "--help")
                self.assertIn(f"usage: taskerctl {title}\n", text)
                self.assertEqual(help_options(text, "Options"), page_options(lines))
                self.assertEqual(text, run("help", *words))

    def test_same_global_options(self):
        wanted = help_options(self.all, "Options of every command")
        self.assertGreater(len(wanted), 5)
        self.assertEqual(wanted, page_options(self.page.options))

    def test_same_exit_codes(self):
        block = re.search(r"^Exit codes:\n((?:  .*\n)*)", self.all, re.M).group(1)
        listed = dict(re.findall(r"^  (\d)  (.*)$", block, re.M))
        text = (ROOT / "man" / "taskerctl.1.scd").read_text()
        page = {n: t.replace("*", "").replace("the operation failed", "failed")
                for n, t in re.findall(r"^[|\[]+ +\*(\d)\*\n:\[? +(.*)$", text, re.M)}
        self.assertEqual(len(listed), 8)
        self.assertEqual(listed, page)


class Protocol(unittest.TestCase):
    def test_messages(self):
        table = set(re.findall(r'X\([A-Z_]+, "([\w.]+)", MSG_TO', (ROOT / "protocol" / "msg.h").read_text()))
        text = (ROOT / "man" / "tasker-protocol.7.scd").read_text().split("# ERRORS")[0]
        listed = set(re.findall(r"^\|\[? +\*([\w.]+)\*$", text, re.M))
        self.assertGreater(len(table), 20)
        self.assertEqual(table, listed)

    def test_errors(self):
        normative = (ROOT / "protocol" / "PROTOCOL.md").read_text().split("## 9. Error codes")[1].split("\n## ")[0]
        table = set(re.findall(r"^\| `(\w+)` \|", normative, re.M))
        text = (ROOT / "man" / "tasker-protocol.7.scd").read_text().split("# ERRORS")[1]
        listed = set(re.findall(r"^\|\[? +\*([\w.]+)\*$", text, re.M))
        self.assertGreater(len(table), 10)
        self.assertEqual(table, listed)


tap.main(sys.modules[__name__])

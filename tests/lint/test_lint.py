#!/usr/bin/python3
"""lint.py finds one of each kind of violation, at its place, and nothing in files that are fine."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

LINT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lint.py")
FINE = "#pragma once\n"
MARK = "TO" + "DO"


class Lint(unittest.TestCase):
    def run_on(self, files):
        with tempfile.TemporaryDirectory() as root:
            for i in range(12):
                files = {**files, f"protocol/fine{i}.h": FINE}
            for path, text in files.items():
                os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8") as f:
                    f.write(text)
            r = subprocess.run([sys.executable, LINT, root], capture_output=True, text=True, check=False)
            return r.returncode, r.stdout

    def expect(self, path, text, *parts):
        status, out = self.run_on({path: text})
        self.assertEqual(status, 1 if parts else 0, out)
        for part in parts:
            self.assertIn(part, out)

    def test_headers_that_include_each_other(self):
        one, other = '#pragma once\n#include "daemon/core/b.h"\n', '#pragma once\n#include "daemon/core/a.h"\n'
        status, out = self.run_on({"daemon/core/a.h": one, "daemon/core/b.h": other})
        self.assertEqual(status, 1, out)
        self.assertIn("daemon/core/a.h:1: includes itself: daemon/core/a.h -> daemon/core/b.h -> daemon/core/a.h", out)
        self.expect("daemon/core/a.h", one)

    def test_layers(self):
        for path, include, fine in (
                ("daemon/core/a.c", "daemon/base/err.h", True), ("daemon/core/a.c", "daemon/store/store.h", False),
                ("daemon/base/a.c", "daemon/core/state.h", False), ("daemon/store/a.c", "daemon/embed/embed.h", False),
                ("daemon/config/a.c", "daemon/template/yaml_tree.h", True), ("daemon/template/a.c", "daemon/config/options.h", False),
                ("daemon/server/a.c", "daemon/store/store.h", True), ("daemon/store/a.c", "daemon/server/loop.h", False),
                ("protocol/a.c", "daemon/base/err.h", False), ("daemon/main.c", "daemon/server/loop.h", True),
                ("clients/c/a.c", "daemon/server/loop.h", False), ("clients/taskerctl/a.c", "clients/c/tasker.h", True),
                ("daemon/core/a.c", "err.h", False)):
            with self.subTest(path=path, include=include):
                self.expect(path, f'\n#include "{include}"\n', *([] if fine else [path + ":2: "]))

    def test_libraries(self):
        for path, header, fine in (
                ("daemon/store/a.c", "libpq-fe.h", True), ("daemon/server/a.c", "libpq-fe.h", False),
                ("daemon/server/a.c", "event2/event.h", True), ("daemon/core/a.c", "event2/event.h", False),
                ("daemon/template/a.c", "yaml.h", True), ("daemon/config/a.c", "yaml.h", False),
                ("clients/c/a.c", "msgpack.h", False), ("tests/unit/a/a.c", "libpq-fe.h", True)):
            with self.subTest(path=path, header=header):
                self.expect(path, f"#include <{header}>\n", *([] if fine else [f"{path}:1: <{header}>"]))

    def test_calls(self):
        self.expect("daemon/store/a.c", "void f(char *a, char *b)\n{\n\tstrcpy(a, b);\n}\n", "a.c:3: strcpy: no bound")
        self.expect("daemon/store/a.c", '/* strcpy(a, b) */\nconst char *t = "strcpy(a)"; // atoi(x)\n')
        self.expect("daemon/store/a.c", "int my_atoi(int);\nvoid g(struct s *x);\n#define Y(x) (x)->atoi(1)\n")
        self.expect("daemon/core/a.c", "int f(void)\n{\n\treturn open(0, 0);\n}\n", "a.c:3: open: daemon/core does no I/O")
        self.expect("daemon/server/a.c", "int f(void)\n{\n\treturn open(0, 0);\n}\n")

    def test_words(self):
        self.expect("docs/a.md", f"fine\nthis is {MARK}: later\n", "docs/a.md:2: unfinished: " + MARK)
        self.expect("docs/a.md", "see /wo" + "rk/main/x\n", "docs/a.md:1: a path of one machine")
        self.expect("docs/a.md", "~/work, /workers and a/work are fine\n")
        self.expect("contrib/run", f"# {MARK}\n", "contrib/run:1: unfinished")

    def test_headers(self):
        self.expect("daemon/base/a.h", "int f(void);\n", "a.h:1: can be included twice")
        self.expect("daemon/base/a.h", "#ifndef A_H\n#define A_H\n#endif\n")

    def test_width(self):
        for line in "int x" + "x" * 114 + ";", '\t\tf("' + "x" * 300 + '");', "/* " + "x" * 114 + " */":
            with self.subTest(line):
                self.expect("daemon/core/a.c", line + "\n")
        for line in "int x" + "x" * 115 + ";", "\t" * 15 + "f();", "/* " + "x" * 115 + " */":
            with self.subTest(line):
                self.expect("daemon/core/a.c", "\n" + line + "\n", "daemon/core/a.c:2: 12", "columns, at most 120")

    def test_sizes(self):
        self.expect("daemon/base/a.c", "int x;\n" * 800)
        self.expect("daemon/base/a.c", "int x;\n" * 801, "801 lines, at most 800")
        for ending in (".h", ".py", ".rb", ".ts", ".rs", ".sql"):
            self.expect("clients/x/a" + ending, "#pragma once\n" * 801 if ending == ".h" else "\n" * 801, f"clients/x/a{ending}:801: 801 lines, at most 800")
        self.expect("tests/a.py", "x = 1\ndef f():\n" + "\tx\n" * 100, "tests/a.py:2: f: 101 lines, at most 100")
        self.expect("tests/a.py", "def f():\n" + "\tx\n" * 99)
        self.expect("tests/a.py", "def f(:\n", "tests/a.py:1: not Python")
        if shutil.which("pmccabe"):
            self.expect("daemon/base/a.c", "int f(int x)\n{\n" + "\tx++;\n" * 97 + "\treturn x;\n}\n", "f: 101 lines, at most 100")
            self.expect("daemon/base/a.c", "int f(int x)\n{\n" + "\tif (x)\n\t\tx++;\n" * 20 + "\treturn x;\n}\n",
                        "f: complexity 21, at most 20")


class Table(unittest.TestCase):
    """tests/README.md says which test holds what: the tests are there."""

    ROOT = os.path.join(os.path.dirname(LINT), "..", "..")

    def exists(self, path, name):
        for top in ("tests", ""):
            full = os.path.join(self.ROOT, top, path)
            if os.path.isfile(full):
                break
        else:
            return False
        with open(full, encoding="utf-8") as f:
            text = f.read()
        if path.endswith(".c"):
            return f"START_TEST({name})" in text
        owner, _, test = name.partition(".")
        body = re.search(rf"^class {owner}\b.*?(?=^class |\Z)", text, re.M | re.S)
        return bool(body and re.search(rf"^\s+def {test}\(", body[0], re.M))

    def test_every_test_named_exists(self):
        with open(os.path.join(self.ROOT, "tests", "README.md"), encoding="utf-8") as f:
            named = re.findall(r"`([\w/.-]+)::([\w.]+)`", f.read())
        self.assertGreater(len(named), 100)
        self.assertEqual([f"{path}::{name}" for path, name in named if not self.exists(path, name)], [])


class Clients(unittest.TestCase):
    """docs/clients lists every client with its page, and the tests that run the page's snippets."""

    def test_every_client_has_its_row(self):
        clients = os.path.join(Table.ROOT, "clients")
        pages = {d for d in os.listdir(clients) if os.path.isfile(os.path.join(clients, d, "README.md"))}
        with open(os.path.join(Table.ROOT, "docs", "clients", "README.md"), encoding="utf-8") as f:
            rows = re.findall(r"^\|[^|]+\| \[clients/(\w+)\][^|]*\|([^|]+)\|$", f.read(), re.M)
        self.assertEqual({name for name, _ in rows}, pages)
        for name, cell in rows:
            tests = re.findall(r"`([\w/.]+)`", cell)
            self.assertGreater(len(tests), 0, name)
            for test in tests:
                with open(os.path.join(Table.ROOT, test), encoding="utf-8") as f:
                    self.assertTrue("README.md" in f.read() or "commands only" in cell, test)

    def test_the_links_lead_somewhere(self):
        here = os.path.join(Table.ROOT, "docs", "clients")
        with open(os.path.join(here, "README.md"), encoding="utf-8") as f:
            for link in re.findall(r"\]\(([^)]+)\)", f.read()):
                self.assertTrue(os.path.exists(os.path.join(here, link)), link)


if __name__ == "__main__":
    unittest.main()

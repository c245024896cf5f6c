#!/usr/bin/python3
"""The rules of the house that no compiler holds: which layer may include which, who may use which library, functions that are
not used here, sizes, and words that do not belong into a finished file.

Usage: lint.py [SOURCE_DIR]. Prints FILE:LINE: what is wrong; the exit status is 1 if anything is.
"""

import ast
import os
import re
import shutil
import subprocess
import sys

# A layer may include itself and every layer of a lower rank. Layers of one rank do not know each other, but for the pairs below.
RANKS = {
    "protocol": 0, "daemon/base": 1, "daemon/core": 2, "daemon/schema": 2, "daemon/metrics": 2, "daemon/trace": 2,
    "daemon/template": 3, "daemon/store": 3, "daemon/embed": 3, "daemon/config": 3,
    "daemon/auth": 4, "daemon/server": 5, "daemon/http": 6, "daemon": 7,
}
ALLOWED_PAIRS = {
    ("daemon/config", "daemon/template"),  # the reader of YAML
}
# What clients may use of the project: they are no part of the daemon.
CLIENTS = {
    "clients/c": {"protocol", "daemon/base"},
    "clients/taskerctl": {"protocol", "daemon/base", "daemon/template", "daemon/config", "clients/c"},
}
LIBRARIES = [  # header, who may include it, in the daemon, the protocol and the clients
    (r"libpq-fe\.h|libpq/.*", {"daemon/store"}),
    (r"event2/.*|event\.h", {"daemon/base", "daemon/server", "daemon/http"}),
    (r"yaml\.h", {"daemon/template"}),
    (r"cjose/.*", {"daemon/auth"}),
    (r"curl/.*", {"daemon/trace"}),
    (r"msgpack\.h|msgpack/.*", {"protocol"}),
]
PURE = {"protocol", "daemon/core", "daemon/schema", "daemon/template"}  # no I/O, no clock, no environment, no threads
IMPURE_CALLS = (r"fopen|fdopen|open|openat|creat|read|write|recv|send|socket|connect|accept4?|poll|printf|fprintf|puts|perror|"
                r"time|clock_gettime|gettimeofday|getenv|fork|system|popen|exit|abort|pthread_\w+|usleep|nanosleep")
BANNED = {
    "strcpy": "no bound", "stpcpy": "no bound", "strcat": "no bound", "sprintf": "no bound", "vsprintf": "no bound",
    "gets": "no bound", "strncpy": "may not end the string", "strtok": "hidden state", "atoi": "no error", "atol": "no error",
    "atoll": "no error", "atof": "no error", "sscanf": "no overflow check", "alloca": "no bound", "localtime": "shared buffer",
    "gmtime": "shared buffer", "ctime": "shared buffer", "asctime": "shared buffer", "tmpnam": "race", "mktemp": "race",
}
SOURCES = (".c", ".h", ".py", ".rb", ".ts", ".rs", ".sql")
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_COMPLEXITY = 800, 100, 20
MAX_COLUMNS = 120  # of C, as .clang-format has it
UNFINISHED = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")) + r")\b")
MACHINE_PATH = re.compile(r"(?<![\w.~-])/" + "work" + r"(?![\w-])")
TEXT = (".c", ".h", ".py", ".rb", ".ts", ".rs", ".sql", ".md", ".scd", ".build", ".txt", ".yaml", ".yml", ".json", ".toml", ".sh", ".in", ".service", "")

problems = []


def problem(path, line, text):
    problems.append(f"{path}:{line}: {text}")


def source_files(root):
    """Paths relative to root: what git knows or would add, else everything that is in no build directory."""
    try:
        out = subprocess.run(["git", "-c", f"safe.directory={root}", "-C", root, "ls-files", "-co", "--exclude-standard"], check=True,
                             capture_output=True, text=True)
        return [f for f in out.stdout.splitlines() if os.path.isfile(os.path.join(root, f))]
    except (OSError, subprocess.CalledProcessError):
        found = []
        for path, dirs, files in os.walk(root):
            dirs[:] = [d for d in dirs if d[0] != "." and not os.path.exists(os.path.join(path, d, "meson-private"))]
            found += [os.path.relpath(os.path.join(path, f), root) for f in files]
        return found


def layer_of(path):
    for layer in sorted(list(RANKS) + list(CLIENTS), key=len, reverse=True):
        if path.startswith(layer + "/"):
            return layer
    return None


def without_comments(text):
    """Comments and the insides of literals blanked, line numbers kept."""
    def blank(m):
        t = m[0]
        if t[0] in "\"'":
            return t[0] + t[0]
        return re.sub(r"[^\n]", " ", t)
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S)


def check_includes(path, text):
    layer = layer_of(path)
    for n, line in enumerate(text.splitlines(), 1):
        m = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
        if not m:
            continue
        local, name = m[1] == '"', m[2]
        if local and "/" not in name and not path.startswith("tests/"):
            problem(path, n, f'"{name}": write includes from the root')
        if not layer:
            continue
        target = layer_of(name) if local else None
        if target and target != layer:
            if layer in CLIENTS:
                fine = target in CLIENTS[layer]
            else:
                fine = RANKS.get(target, 99) < RANKS[layer] or (layer, target) in ALLOWED_PAIRS
            if not fine:
                problem(path, n, f'{layer} must not include {target} ("{name}")')
        for pattern, users in LIBRARIES:
            if not local and re.fullmatch(pattern, name) and layer not in users:
                problem(path, n, f"<{name}> is for {', '.join(sorted(users))} only")


def check_include_cycles(headers):
    """`headers`: path -> text. Headers that include each other in a circle have no order in which they can be read."""
    includes = {path: [h for h in re.findall(r'^\s*#\s*include\s*"([^"]+)"', text, re.M) if h in headers] for path, text in headers.items()}
    done = set()

    def visit(path, way):
        if path in way:
            problem(path, 1, "includes itself: " + " -> ".join(way[way.index(path):] + [path]))
        elif path not in done:
            for target in includes[path]:
                visit(target, way + [path])
            done.add(path)
    for path in sorted(headers):
        visit(path, [])


def check_calls(path, code):
    pure = layer_of(path) in PURE
    for n, line in enumerate(code.splitlines(), 1):
        for m in re.finditer(r"(?<![\w.>])(\w+)\s*\(", line):
            if m[1] in BANNED:
                problem(path, n, f"{m[1]}: {BANNED[m[1]]}")
            elif pure and re.fullmatch(IMPURE_CALLS, m[1]):
                problem(path, n, f"{m[1]}: {layer_of(path)} does no I/O")


def check_words(path, text):
    for n, line in enumerate(text.splitlines(), 1):
        if UNFINISHED.search(line):
            problem(path, n, "unfinished: " + UNFINISHED.search(line)[0])
        if MACHINE_PATH.search(line):
            problem(path, n, "a path of one machine")


def check_length(path, text):
    lines = text.count("\n")
    if lines > MAX_FILE_LINES:
        problem(path, lines, f"{lines} lines, at most {MAX_FILE_LINES}")


def check_width(path, text):
    """A message stays in one piece, so that it can be searched for: a line may be longer by what its literals hold."""
    for n, line in enumerate(text.splitlines(), 1):
        line = re.sub(r'"(?:\\.|[^"\\])*"', '""', line.expandtabs(8)).rstrip("\\ ")
        if len(line) > MAX_COLUMNS:
            problem(path, n, f"{len(line)} columns, at most {MAX_COLUMNS}")


def check_python_functions(path, text):
    try:
        tree = ast.parse(text)
    except SyntaxError as e:
        problem(path, e.lineno or 0, f"not Python: {e.msg}")
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = node.end_lineno - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                problem(path, node.lineno, f"{node.name}: {lines} lines, at most {MAX_FUNCTION_LINES}")


def check_c_functions(root, c_files):
    if not shutil.which("pmccabe"):
        print("pmccabe is not installed: function sizes are not checked")
        return
    out = subprocess.run(["pmccabe"] + c_files, cwd=root, capture_output=True, text=True, check=False).stdout
    for row in out.splitlines():
        fields = row.split("\t")
        if len(fields) < 6:
            continue
        complexity, length, where = int(fields[0]), int(fields[4]), fields[5]
        m = re.match(r"(.*)\((\d+)\): (\w+)", where)
        name = m[3] if m else where
        path, line = (m[1], m[2]) if m else (where, 0)
        if length > MAX_FUNCTION_LINES:
            problem(path, line, f"{name}: {length} lines, at most {MAX_FUNCTION_LINES}")
        if complexity > MAX_COMPLEXITY:
            problem(path, line, f"{name}: complexity {complexity}, at most {MAX_COMPLEXITY}")


def main():
    root = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "..", ".."))
    files = sorted(source_files(root))
    c_files = [f for f in files if f.endswith((".c", ".h"))]
    headers = {}
    for path in files:
        if os.path.splitext(path)[1] not in TEXT or "/corpus/" in path:
            continue
        try:
            text = open(os.path.join(root, path), encoding="utf-8").read()
        except UnicodeDecodeError:
            continue
        check_words(path, text)
        if path.endswith(SOURCES):
            check_length(path, text)
        if path.endswith(".py"):
            check_python_functions(path, text)
        if path in c_files:
            check_includes(path, text)
            check_calls(path, without_comments(text))
            check_width(path, text)
            if path.endswith(".h") and not re.search(r"^#pragma once|^#ifndef \w+_H$", text, re.M):
                problem(path, 1, "can be included twice")
            if path.endswith(".h"):
                headers[path] = text
    check_include_cycles(headers)
    check_c_functions(root, [f for f in c_files if f.endswith(".c")])
    for p in problems:
        print(p)
    print(f"{len(files)} files, {len(c_files)} of them C, {len(problems)} problems")
    return bool(problems) or len(c_files) < 10


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/python3
"""The option table, --help, taskerd(8) and taskerd.conf(5) tell of the same options, in the same order, with the same
defaults and bounds.

Usage: options_doc.py OPTION_NAMES taskerd.8.scd taskerd.conf.5.scd
"""

import re
import subprocess
import sys

BOOL, INT, SIZE, OCTAL = range(4)


def table(program):
    rows = []
    for line in subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines():
        name, in_file, default, low, high, kind, reloads = line.split("\t")
        rows.append({"name": name, "in_file": in_file == "1", "default": default, "low": int(low), "high": int(high),
                     "kind": int(kind), "reloads": reloads == "1"})
    return rows


def size(n):
    for unit, factor in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if n % factor == 0:
            return f"{n // factor} {unit}"
    return str(n)


def bounds(row):
    if row["kind"] == INT:
        return f"{row['low']} to {row['high']}"
    if row["kind"] == OCTAL:
        return f"{row['low']:o} to {row['high']:04o}"
    if row["kind"] == SIZE:
        return f"{size(row['low'])} to {size(row['high'])}"
    return ""


def expect(problems, what, have, want):
    if have != want:
        problems.append(f"{what}: {sorted(set(want) - set(have))} are missing, {sorted(set(have) - set(want))} are too many"
                        if set(have) != set(want) else f"{what}: the order is {have}, in the table it is {want}")


def check_conf(rows, text, problems):
    entries = dict(re.findall(r"^\*([a-z_]+)\*\n((?:\t.*\n)+)", text, re.M))
    expect(problems, "taskerd.conf(5)", list(entries), [r["name"] for r in rows if r["in_file"]])
    at_once = re.search(r"have their new values at once: (.*?)\. The others", " ".join(text.split()))
    expect(problems, "taskerd.conf(5), what a reload takes over", re.findall(r"\*([a-z_]+)\*", at_once[1]) if at_once else [], [r["name"] for r in rows if r["reloads"]])
    for row in rows:
        entry = " ".join(entries.get(row["name"], "").split())
        bracket = re.search(r"\[([^\]]*)\]$", entry)
        if not row["in_file"] or not entry:
            continue
        if not bracket:
            problems.append(f"taskerd.conf(5): {row['name']}: no [default] at the end")
            continue
        want = "; ".join(x for x in (row["default"], bounds(row)) if x)
        if row["default"] and bracket[1] != want:
            problems.append(f"taskerd.conf(5): {row['name']}: [{bracket[1]}], the table says [{want}]")


def main():
    program, page8, page5 = sys.argv[1:]
    rows, problems = table(program), []
    names = ["--" + r["name"].replace("_", "-") for r in rows]
    extra = ["--help", "--version"]
    text8 = open(page8, encoding="utf-8").read()
    have = [n for n in re.findall(r"^(?:\*-[a-zA-Z]\*, )?\*(--[a-z-]+)\*", text8, re.M) if n not in extra]
    expect(problems, "taskerd(8)", sorted(have), sorted(names))
    helptext = subprocess.run([program, "--help"], check=True, capture_output=True, text=True).stdout
    have = [n for n in re.findall(r"^  (?:-[a-zA-Z], )?(--[a-z-]+)", helptext, re.M) if n not in extra]
    expect(problems, "--help", have, names)
    check_conf(rows, open(page5, encoding="utf-8").read(), problems)
    for p in problems:
        print(p)
    print(f"{len(rows)} options, {len(problems)} problems")
    return bool(problems) or len(rows) < 10


if __name__ == "__main__":
    sys.exit(main())

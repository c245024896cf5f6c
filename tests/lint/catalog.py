#!/usr/bin/python3
"""Every catalogued message of the log has one entry in the journal's catalog, the catalog has no other, and journalctl can compile it.

Usage: catalog.py SOURCE_DIR
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile


def table(text):
    return dict(re.findall(r'^\tX\((\w+), "([0-9a-f]{32})", (?:ERROR|WARN|INFO)\)', text, re.M))


def entries(text):
    """{id: (headers, body)}"""
    found = {}
    for part in re.split(r"^-- ", text, flags=re.M)[1:]:
        first, _, rest = part.partition("\n")
        headers, _, body = rest.partition("\n\n")
        if first.strip() in found:
            print(f"{first}: two entries")
        found[first.strip()] = (headers, body.strip())
    return found


def problems_of(ids, found):
    for name, number in ids.items():
        headers, body = found.get(number, ("", ""))
        if number not in found:
            yield f"{name} ({number}) has no entry"
        elif not re.search(r"^Subject: \S", headers, re.M) or "Defined-By: taskerd" not in headers or len(body) < 20:
            yield f"{name}: an entry needs Subject, Defined-By: taskerd and a text"
        elif "@" in re.sub(r"@TASKER_[A-Z_]+@", "", body.replace("taskerd-worker@", "")):
            yield f"{name}: @ stands around the name of a field only"
    for number in set(found) - set(ids.values()):
        yield f"{number} is no message of the log"
    if len(set(ids.values())) != len(ids):
        yield "two messages have one id"


def compiled(path):
    """What journalctl lists of it, or None if there is no journalctl."""
    if not shutil.which("journalctl"):
        return None
    with tempfile.TemporaryDirectory() as root:
        where = os.path.join(root, "usr/lib/systemd/catalog")
        os.makedirs(where)
        os.makedirs(os.path.join(root, "var/lib/systemd/catalog"))
        shutil.copy(path, where)
        subprocess.run(["journalctl", "--update-catalog", "--root=" + root], check=True)
        return subprocess.run(["journalctl", "--list-catalog", "--root=" + root], check=True, capture_output=True, text=True).stdout


def main():
    root = sys.argv[1]
    path = os.path.join(root, "contrib/systemd/taskerd.catalog")
    with open(os.path.join(root, "daemon/base/log_events.h"), encoding="utf-8") as f:
        ids = table(f.read())
    with open(path, encoding="utf-8") as f:
        problems = list(problems_of(ids, entries(f.read())))
    listed = compiled(path)
    if listed is not None and len(re.findall(r"^[0-9a-f]{32} taskerd: ", listed, re.M)) != len(ids):
        problems.append("journalctl lists other messages:\n" + listed)
    for p in problems:
        print(p)
    print(f"{len(ids)} messages, {len(problems)} problems")
    return bool(problems) or len(ids) < 20


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/python3
"""The JSON Schema of the template format (contrib/schema): it is what the field tables say; every template of the project fits it and
broken ones do not, as seen by python3-jsonschema and by taskerd's own validator; and what it refuses taskerd does not take silently.

Usage: format_schema.py SOURCE_DIR TASKERCTL AS_JSON
"""
import copy
import glob
import json
import os
import subprocess
import sys
import tempfile

try:
    import jsonschema
except ImportError:
    jsonschema = None

GOOD = {"name": "t", "namespace_name": "n", "version": "1.2.3-rc.1+b", "steps": [{"name": "a", "handler": {"callable": "c"}}]}

# (path, value): what is put where in a good template; None takes it out.
FITS = [
    (["steps", 0, "timeout_seconds"], 5), (["x-anything"], {"a": [1]}), (["steps", 0, "depends_on"], []), (["description"], None), (["lifecycle"], {"max_duration_minutes": 50000}),
    (["steps", 0, "retry"], {"max_attempts": 0, "backoff": "fibonacci"}), (["steps", 0, "result_schema"], True), (["environments"], {"test": None}),
    (["environments"], {"test": {"steps": [{"name": "ALL", "retry": {"max_attempts": 1}, "handler": {"initialization": {"a": 1}}}]}}),
    (["domain_events"], [{"name": "a.b", "schema": {"type": "object"}}]), (["identity_strategy"], "strict"), (["metadata"], {"tags": ["a"]}),
    (["steps", 0, "publishes_events"], [{"name": "a.b", "schema": {}, "condition": "always", "delivery_mode": "fast", "publisher": "A::B.c"}]),
]
BROKEN = [
    (["name"], None), (["name"], ""), (["name"], "a\nb"), (["name"], 5), (["namespace_name"], "1a"), (["namespace_name"], "a" * 30), (["version"], "1.2"), (["version"], 1.0), (["version"], "01.2.3"),
    (["version"], "1.2.3-01"), (["steps"], []), (["steps"], None), (["steps"], {}), (["steps", 0], "a"), (["steps", 0, "name"], None), (["steps", 0, "handler"], None),
    (["steps", 0, "handler"], {}), (["steps", 0, "handler", "callable"], ""), (["steps", 0, "type"], "decision_point"), (["steps", 0, "retry"], {"limit": 3}),
    (["steps", 0, "retry"], {"max_attempts": -1}), (["steps", 0, "retry"], {"max_attempts": "3"}), (["steps", 0, "retry"], {"backoff": "quadratic"}), (["steps", 0, "timeout_seconds"], 0),
    (["steps", 0, "timeout_seconds"], 1.5), (["steps", 0, "dependencies"], "a"), (["steps", 0, "dependencies"], [1]), (["steps", 0, "colour"], "red"), (["limit"], 3),
    (["lifecycle"], {"staleness_action": "explode"}), (["lifecycle"], {"max_duration_minutes": 0}), (["input_schema"], []), (["steps", 0, "result_schema"], "x"),
    (["environments"], {"test": {"steps": [{"timeout_seconds": 5}]}}), (["environments"], []), (["steps", 0, "publishes_events"], [{"name": "a.b"}]),
    (["steps", 0, "publishes_events"], [{"name": "a.b", "schema": {}, "publisher": "a..b"}]), (["steps", 0, "batch_config"], {"parallelism": 0}), (["steps", 0, "composition"], {"a": 1}),
    (["identity_strategy"], "none"), (["metadata"], {"tags": "a"}), (["domain_events"], [{"description": "x"}]),
]


class Judge:
    def __init__(self, root, taskerctl, as_json):
        self.path = os.path.join(root, "contrib/schema/taskerd-template.schema.json")
        self.taskerctl, self.as_json = taskerctl, as_json
        with open(self.path, encoding="utf-8") as f:
            self.schema = json.load(f)
        self.problems, self.checked = [], 0
        if jsonschema:
            jsonschema.Draft202012Validator.check_schema(self.schema)

    def fits(self, path):
        """Whether the template fits, both validators agreeing."""
        done = subprocess.run([self.as_json, self.path, path], capture_output=True, text=True, check=False)
        self.checked += 1
        if done.returncode not in (0, 1):
            self.problems.append(f"{path}: as_json ends with {done.returncode}")
            return None
        if jsonschema:
            errors = [e.message for e in jsonschema.Draft202012Validator(self.schema).iter_errors(json.loads(done.stdout))]
            if bool(errors) != (done.returncode == 1):
                self.problems.append(f"{path}: python3-jsonschema says {errors}, taskerd {done.stderr.splitlines()}")
        return done.returncode == 0

    def expect(self, path, wanted, what):
        if self.fits(path) != wanted:
            self.problems.append(f"{what}: {'does not fit' if wanted else 'fits'}")

    def taskerctl_accepts(self, path):
        return subprocess.run([self.taskerctl, "template", "validate", "--strict", path], capture_output=True, check=False).returncode == 0


def changed(place, value):
    made = copy.deepcopy(GOOD)
    at = made
    for key in place[:-1]:
        at = at[key]
    if value is None:
        at.pop(place[-1], None)
    else:
        at[place[-1]] = value
    return made


def templates(root):
    """Files that are templates."""
    for pattern in ("examples/**/*.yaml", "contrib/**/*.yaml", "tests/**/*.yaml", "clients/**/*.yaml"):
        for path in sorted(glob.glob(os.path.join(root, pattern), recursive=True)):
            with open(path, encoding="utf-8") as f:
                if "namespace_name:" in f.read():
                    yield path


def main():
    root, taskerctl, as_json = sys.argv[1:]
    judge = Judge(root, taskerctl, as_json)
    generated = subprocess.run([taskerctl, "template", "schema"], check=True, capture_output=True, text=True).stdout
    if json.loads(generated) != judge.schema:
        judge.problems.append("contrib/schema/taskerd-template.schema.json is not what the field tables say: make it anew with taskerctl template schema")
    for path in templates(root):
        judge.expect(path, True, path)
    with tempfile.TemporaryDirectory() as place:
        path = os.path.join(place, "t.json")
        for cases, wanted in ((FITS, True), (BROKEN, False)):
            for where, value in cases:
                with open(path, "w", encoding="utf-8") as f:
                    json.dump(changed(where, value), f)
                judge.expect(path, wanted, f"{where} = {value!r}")
                if not wanted and judge.taskerctl_accepts(path):
                    judge.problems.append(f"{where} = {value!r}: taskerctl validate --strict accepts it")
    for p in judge.problems:
        print(p)
    print(f"{judge.checked} templates, {len(judge.problems)} problems" + ("" if jsonschema else "; python3-jsonschema is not installed"))
    return bool(judge.problems) or judge.checked < 40


if __name__ == "__main__":
    sys.exit(main())

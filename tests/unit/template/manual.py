#!/usr/bin/python3
"""taskerd-template(5) lists the fields of the template format, all of them, in their order, with their defaults and ranges; its example loads.

Usage: manual.py taskerd-template.5.scd TASKERCTL
"""
import json
import re
import subprocess
import sys

SECTIONS = {  # heading of the page: where its fields are in the schema
    "The template": [], "Steps": ["steps"], "handler": ["steps", "handler"], "retry": ["steps", "retry"], "publishes_events": ["steps", "publishes_events"],
    "batch_config": ["steps", "batch_config"], "domain_events": ["domain_events"], "lifecycle": ["lifecycle"], "metadata": ["metadata"],
    "system_dependencies": ["system_dependencies"], "environments": ["environments", None, "steps"],
}
ALIASES = {"step_type", "depends_on"}


def fields_at(schema, path):
    for key in path:
        schema = schema["additionalProperties"] if key is None else schema["properties"][key]
        schema = schema.get("items", schema) if schema.get("type") in ("array", ["array", "null"]) else schema
    return {k: v for k, v in schema["properties"].items() if k not in ALIASES}, set(schema.get("required", []))


def problems_of(section, name, entry, field, required):
    bracket = re.search(r"\[([^\]]*)\]$", entry)
    says = bracket[1] if bracket else ""
    if (name in required) != says.startswith("required"):
        yield f"{section}: {name}: is {'' if name in required else 'not '}required"
    if "default" in field:
        default = {"[]": "empty", "{}": "empty"}.get(json.dumps(field["default"]), str(field["default"]).lower() if isinstance(field["default"], bool) else str(field["default"]))
        if says.split(";")[0] != default:
            yield f"{section}: {name}: the default is {default}, the page says {says}"
    if "maximum" in field and not re.search(r"\D%d to %d\)?$" % (field["minimum"], field["maximum"]), says):
        yield f"{section}: {name}: {field['minimum']} to {field['maximum']} is honoured, the page says {says}"
    if "maxLength" in field and f"{field['minLength']} to {field['maxLength']} characters" not in says:
        yield f"{section}: {name}: {field['minLength']} to {field['maxLength']} characters, the page says {says}"
    for word in field.get("enum", []):
        if word and f"_{word}_" not in entry:
            yield f"{section}: {name}: {word} is not mentioned"


def main():
    page, taskerctl = sys.argv[1:]
    with open(page, encoding="utf-8") as f:
        text = f.read()
    schema = json.loads(subprocess.run([taskerctl, "template", "schema"], check=True, capture_output=True, text=True).stdout)
    parts = dict(re.findall(r"^## (.*)\n((?:(?!#).*\n)*)", text, re.M))
    problems, count = [], 0
    for section, path in SECTIONS.items():
        fields, required = fields_at(schema, path)
        entries = dict(re.findall(r"^\*([a-z_]+)\*\n((?:\t.*\n)+)", parts.get(section, ""), re.M))
        count += len(entries)
        if list(entries) != list(fields):
            problems.append(f"{section}: the page has {list(entries)}, the table {list(fields)}")
        for name in set(entries) & set(fields):
            problems += problems_of(section, name, " ".join(entries[name].split()), fields[name], required)
    example = re.search(r"^# EXAMPLE\n\n```\n(.*?)```", text, re.M | re.S)[1].replace("\\\\", "\\")
    done = subprocess.run([taskerctl, "template", "validate", "--strict", "-"], input=example, capture_output=True, text=True, check=False)
    if done.returncode:
        problems.append("the example: " + done.stdout)
    for p in problems:
        print(p)
    print(f"{count} fields, {len(problems)} problems")
    return bool(problems) or count < 50


if __name__ == "__main__":
    sys.exit(main())

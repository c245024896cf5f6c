"""What is expected, held against what there is. See "Scenarios" in ../README.md."""
import re

TYPES = {
	"string": lambda v: isinstance(v, str),
	"integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
	"number": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool),
	"boolean": lambda v: isinstance(v, bool),
	"map": lambda v: isinstance(v, dict),
	"array": lambda v: isinstance(v, list),
	"null": lambda v: v is None,
	"bytes": lambda v: isinstance(v, bytes),
}
ABSENT = object()


def misfit(pattern, value, kept=None, path=""):
	"""Why a value does not fit, or None. `kept` holds what {$set: name} has kept."""
	kept = {} if kept is None else kept
	if isinstance(pattern, dict):
		keys = [k for k in pattern if k.startswith("$")]
		return CONDITIONS[keys[0]](pattern[keys[0]], value, kept, path) if keys else _map(pattern, value, kept, path)
	if isinstance(pattern, list):
		return _array(pattern, value, kept, path)
	return None if same(pattern, value) else _wrong(path, pattern, value)


def same(a, b):
	"""Equal in the JSON data model: booleans are no numbers, 1 is 1.0."""
	if isinstance(a, bool) or isinstance(b, bool) or a is None or b is None:
		return a is b
	return a == b and (isinstance(a, (int, float)) == isinstance(b, (int, float)))


def filled(value, kept):
	"""A value to be sent: {$get: name} and {$bytes: hex} replaced."""
	if isinstance(value, dict):
		if "$get" in value:
			return kept[value["$get"]]
		if "$bytes" in value:
			return bytes.fromhex(value["$bytes"])
		return {k: filled(v, kept) for k, v in value.items()}
	return [filled(v, kept) for v in value] if isinstance(value, list) else value


def _wrong(path, wanted, value):
	shown = "nothing" if value is ABSENT else "%.300r" % (value,)
	return "%s: %s was expected, there is %s" % (path or "it", wanted if isinstance(wanted, str) and wanted.startswith("a ") else "%.300r" % (wanted,), shown)


def _map(pattern, value, kept, path):
	if not isinstance(value, dict):
		return _wrong(path, pattern, value)
	for key, wanted in pattern.items():
		why = misfit(wanted, value.get(key, ABSENT), kept, path + "." + key if path else key)
		if why:
			return why
	return None


def _array(pattern, value, kept, path):
	if not isinstance(value, list) or len(value) != len(pattern):
		return _wrong(path, pattern, value)
	for i, wanted in enumerate(pattern):
		why = misfit(wanted, value[i], kept, "%s[%d]" % (path, i))
		if why:
			return why
	return None


def _type(name, value, kept, path):
	return None if value is not ABSENT and TYPES[name](value) else _wrong(path, "a value of type " + name, value)


def _match(regex, value, kept, path):
	return None if isinstance(value, str) and re.search(regex, value) else _wrong(path, "a string that matches " + regex, value)


def _any(patterns, value, kept, path):
	return None if any(misfit(p, value, kept, path) is None for p in patterns) else _wrong(path, patterns, value)


def _all(patterns, value, kept, path):
	return next((why for why in (misfit(p, value, kept, path) for p in patterns) if why), None)


def _has(pattern, value, kept, path):
	if isinstance(value, list) and any(misfit(pattern, v, kept, path) is None for v in value):
		return None
	return _wrong(path, "an array with %.200r" % (pattern,), value)


def _absent(_, value, kept, path):
	return None if value is ABSENT or value is None else _wrong(path, "a missing value", value)


def _at_least(n, value, kept, path):
	return None if TYPES["number"](value) and value >= n else _wrong(path, "a number from %s" % n, value)


def _set(name, value, kept, path):
	kept[name] = value
	return _wrong(path, "a value", value) if value is ABSENT else None


def _get(name, value, kept, path):
	return misfit(kept[name], value, kept, path)


def _bytes(text, value, kept, path):
	return None if value == bytes.fromhex(text) else _wrong(path, bytes.fromhex(text), value)


CONDITIONS = {"$type": _type, "$match": _match, "$any": _any, "$all": _all, "$has": _has, "$absent": _absent, "$at_least": _at_least, "$set": _set,
              "$get": _get, "$bytes": _bytes}

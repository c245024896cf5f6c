#!/usr/bin/python3
"""Random schemas and values, judged by taskerd's validator and by python3-jsonschema: they must agree. Left out is what version 4.10 of that gets
wrong: multiples of fractions, which it computes in floating point, and the unevaluated keywords.

Usage: random_schemas.py JUDGE [COUNT [SEED]]
"""
import json
import random
import subprocess
import sys

try:
    import jsonschema
except ImportError:
    print("1..0 # SKIP python3-jsonschema is not installed")
    sys.exit(0)

KEYS = ["a", "b", "ab", "c/d", "~e", "é"]
PATTERNS = ["^a", "b$", "a|c", "^.{1,2}$", "[a-b]+", "^(?!a)", "(?=b)", "\\d", "^\\S*$", "é"]
SCALARS = [None, True, False, 0, 1, -1, 2, 3, 1.5, 0.1, 0.3, 10, 1e3, 12345678901, "", "a", "b", "ab", "abc", "é", "1", "c d"]


class Maker:
    def __init__(self, rnd):
        self.rnd = rnd

    def value(self, depth=3):
        kind = self.rnd.random()
        if depth == 0 or kind < 0.4:
            return self.rnd.choice(SCALARS)
        if kind < 0.7:
            return [self.value(depth - 1) for _ in range(self.rnd.randrange(4))]
        return {k: self.value(depth - 1) for k in self.rnd.sample(KEYS, self.rnd.randrange(4))}

    def some(self, make, least=1, most=3):
        return [make() for _ in range(self.rnd.randint(least, most))]

    def schema(self, depth=3):
        if depth == 0 or self.rnd.random() < 0.1:
            return self.rnd.choice([True, True, False, {"type": "string"}, {"type": "number"}, {"minimum": 1}, {}])
        sub = lambda: self.schema(depth - 1)  # noqa: E731
        small = lambda: self.rnd.randrange(4)  # noqa: E731
        names = lambda: self.rnd.sample(KEYS, self.rnd.randrange(1, 3))  # noqa: E731
        makers = {
            "type": lambda: self.rnd.choice(["object", "array", "string", "number", "integer", "boolean", "null", ["string", "object"], ["integer", "array"]]),
            "enum": lambda: self.some(lambda: self.value(1), 1, 4), "const": lambda: self.value(1),
            "multipleOf": lambda: self.rnd.choice([1, 2, 0.5, 3]), "maximum": small, "minimum": small, "exclusiveMaximum": small, "exclusiveMinimum": small,
            "maxLength": small, "minLength": small, "pattern": lambda: self.rnd.choice(PATTERNS), "maxItems": small, "minItems": small, "uniqueItems": lambda: self.rnd.random() < 0.7,
            "maxProperties": small, "minProperties": small, "required": names, "dependentRequired": lambda: {k: names() for k in names()},
            "properties": lambda: {k: sub() for k in names()}, "patternProperties": lambda: {p: sub() for p in self.rnd.sample(PATTERNS, 2)}, "additionalProperties": sub,
            "propertyNames": sub, "dependentSchemas": lambda: {k: sub() for k in names()}, "prefixItems": lambda: self.some(sub), "items": sub, "contains": sub,
            "minContains": small, "maxContains": small, "allOf": lambda: self.some(sub), "anyOf": lambda: self.some(sub), "oneOf": lambda: self.some(sub), "not": sub,
            "if": sub, "then": sub, "else": sub, "$ref": lambda: self.rnd.choice(["#/$defs/x", "#/$defs/y", "#named"]),
        }
        keys = self.rnd.sample(sorted(makers), self.rnd.randint(1, 5))
        return {k: makers[k]() for k in keys}

    def document(self):
        """A schema with something to refer to; what is referred to does not refer."""
        made = self.schema()
        made = made if isinstance(made, dict) else {"allOf": [made]}
        plain = [self.without_refs(self.schema(2)) for _ in range(3)]
        named = plain[2] if isinstance(plain[2], dict) else {"not": {"not": plain[2]}}
        return {**made, "$defs": {"x": plain[0], "y": plain[1], "z": {**named, "$anchor": "named"}}}

    def without_refs(self, s):
        if isinstance(s, list):
            return [self.without_refs(x) for x in s]
        return {k: self.without_refs(v) for k, v in s.items() if k != "$ref"} if isinstance(s, dict) else s


def theirs(schema, value):
    """None if it stumbles over the case."""
    try:
        return "valid" if jsonschema.Draft202012Validator(schema).is_valid(value) else "invalid"
    except TypeError:
        return None


def main():
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 1500
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.SystemRandom().randrange(1 << 32)
    maker = Maker(random.Random(seed))
    cases = []
    while len(cases) < count:
        schema = maker.document()
        cases += [(schema, maker.value()) for _ in range(4)]
    lines = "".join(json.dumps(s) + "\n" + json.dumps(v) + "\n" for s, v in cases)
    ours = subprocess.run([sys.argv[1]], input=lines, capture_output=True, text=True, check=True).stdout.splitlines()
    wrong = 0
    for (schema, value), said in zip(cases, ours):
        want = theirs(schema, value)
        if want and said != want:
            wrong += 1
            if wrong <= 5:
                print(f"# {json.dumps(schema)}\n# {json.dumps(value)}\n# taskerd: {said}, python3-jsonschema: {want}")
    print(f"1..1\n# {len(ours)} values, {ours.count('valid')} valid, {wrong} differ; seed {seed}")
    print(f"{'not ok' if wrong or len(ours) != len(cases) else 'ok'} 1 - random schemas")
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Turn a file into a C string, one of JSON without its blanks: embed_text.py OUT.c NAME FILE"""
import json
import pathlib
import sys

out, name, path = sys.argv[1:]
text = pathlib.Path(path).read_text(encoding="utf-8")
if path.endswith(".json"):
    text = json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=True)
body = ",".join(map(str, text.encode() + b"\0"))
pathlib.Path(out).write_text(f'#include "daemon/http/schemas.h"\n\nconst char {name}[] = {{{body}}};\n', encoding="utf-8")

#!/usr/bin/env python3
"""Turn a JSON file into a C string without its blanks: embed_text.py OUT.c NAME FILE.json"""
import json
import pathlib
import sys

out, name, path = sys.argv[1:]
text = json.dumps(json.loads(pathlib.Path(path).read_text(encoding="utf-8")), separators=(",", ":"), ensure_ascii=True)
body = ",".join(map(str, text.encode() + b"\0"))
pathlib.Path(out).write_text(f'#include "daemon/http/schemas.h"\n\nconst char {name}[] = {{{body}}};\n', encoding="utf-8")

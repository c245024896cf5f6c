#!/usr/bin/env python3
"""Turn SQL files into a C table: embed_sql.py OUT.c FILE.sql...  Numbered files become migrations, the others named scripts."""
import pathlib
import re
import sys

out, files = sys.argv[1], [pathlib.Path(f) for f in sys.argv[2:]]
lines = ['#include "daemon/store/migrate.h"', ""]
rows = []
for path in files:
    match = re.match(r"(\d+)_", path.name)
    number = int(match.group(1)) if match else 0
    ident = re.sub(r"\W", "_", path.stem)
    data = path.read_bytes() + b"\0"
    body = ",".join(map(str, data))
    lines.append(f"static const unsigned char text_{ident}[] = {{{body}}};")
    rows.append(f'\t{{{number}, "{path.stem}", (const char *)text_{ident}}},')
lines += ["", "const struct sql_script sql_scripts[] = {", *rows, "\t{0, NULL, NULL},", "};", ""]
pathlib.Path(out).write_text("\n".join(lines))

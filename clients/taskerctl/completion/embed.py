#!/usr/bin/env python3
"""Turn completion scripts into a C table: embed.py OUT.c NAME.SHELL..."""
import pathlib
import sys

out, files = sys.argv[1], [pathlib.Path(f) for f in sys.argv[2:]]
lines = ['#include "clients/taskerctl/complete.h"', ""]
for path in files:
    body = ",".join(map(str, path.read_bytes() + b"\0"))
    lines.append(f"static const unsigned char text_{path.suffix[1:]}[] = {{{body}}};")
lines += ["", "const struct completion_script completion_scripts[] = {"]
lines += [f'\t{{"{path.suffix[1:]}", (const char *)text_{path.suffix[1:]}}},' for path in files]
lines += ["\t{NULL, NULL},", "};", ""]
pathlib.Path(out).write_text("\n".join(lines))

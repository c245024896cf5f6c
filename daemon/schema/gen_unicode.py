#!/usr/bin/python3
"""Write the general categories of all code points as a C table: gen_unicode.py OUTPUT."""
import collections
import sys
import unicodedata


def ranges():
    """category: [(first, last), ...]"""
    found = collections.defaultdict(list)
    first, before = 0, unicodedata.category("\0")
    for c in range(1, 0x110001):
        category = unicodedata.category(chr(c)) if c < 0x110000 else None
        if category != before:
            found[before].append((first, c - 1))
            first, before = c, category
    return found


def main():
    found = ranges()
    with open(sys.argv[1], "w", encoding="ascii") as out:
        out.write('/* Unicode %s. */\n#include "daemon/schema/charset.h"\n' % unicodedata.unidata_version)
        for category in sorted(found):
            out.write("static const struct range in_%s[] = {\n" % category)
            for k in range(0, len(found[category]), 8):
                out.write("\t" + " ".join("{0x%x, 0x%x}," % r for r in found[category][k:k + 8]) + "\n")
            out.write("};\n")
        out.write("const struct category categories[] = {\n")
        for category in sorted(found):
            out.write('\t{"%s", in_%s, sizeof in_%s / sizeof *in_%s},\n' % ((category,) * 4))
        out.write("\t{NULL, NULL, 0},\n};\n")


main()

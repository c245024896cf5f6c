#!/usr/bin/env python3
"""Manual pages of section 3, one for each function of tasker.h, from what the header says of it. It is an install script of meson's.

Usage: functions.py HEADER DIRECTORY"""
import os
import pathlib
import re
import sys
import time

PAGE = """.TH {name} 3 {date} libtasker "Library Functions Manual"
.SH NAME
{name} \\- {title}
.SH SYNOPSIS
.nf
#include <tasker.h>

{synopsis}
.fi
.SH DESCRIPTION
{text}
{returns}.SH SEE ALSO
.BR libtasker (3),
.BR taskerd\\-protocol (7)
"""
RETURNS = ".SH RETURN VALUE\n0 or more, or a negative errno value; then\n.I err\nsays why.\n"
# The whole of a declaration, with the comment before it and the one beside it.
DECLARATION = re.compile(r"(?:/\*(?P<before>(?:(?!\*/).)*)\*/\s*\n)?^(?P<declared>[a-z][^;{}/]*?\btasker_\w+\([^;{]*\)[^;{]*;)(?:[ \t]*/\*(?P<beside>(?:(?!\*/).)*)\*/)?", re.S | re.M)


def functions(header):
	"""(name, prototypes, text) of each function; those that follow one comment without a line between share it."""
	body = re.sub(r"^#.*\n", "", header, flags=re.M)
	found, end = [], 0
	for match in DECLARATION.finditer(body):
		declared = re.sub(r"\s*__attribute__\(.*\)\s*;", ";", match["declared"], flags=re.S)
		name = re.search(r"\b(tasker_\w+)\(", declared)[1]
		between = body[end:match.start()]
		end = match.end()
		if declared.startswith("typedef"):
			continue
		text = " ".join(line.strip().lstrip("*").strip() for line in (match["before"] or match["beside"] or "").splitlines()).strip()
		if not text and found and between == "\n":
			text = found[-1][2]
		found.append((name, declared, text))
	return found


def structures(header):
	"""Definitions by name, the comment before each included; that of errors is libtasker(3)'s."""
	definition = re.compile(r"^(?:/\*(?:(?!\*/).)*\*/\n)?struct (tasker_\w+) \{\n.*?^\};", re.S | re.M)
	return {match[1]: match[0] for match in definition.finditer(header) if match[1] != "tasker_error"}


def escaped(text):
	"""For troff: no line begins with a control character."""
	text = text.replace("\\", "\\e").replace("-", "\\-")
	return re.sub(r"^([.'])", r"\\&\1", text, flags=re.M)


def title(name, text):
	first = re.split(r"[.;:](?:\s|$)", text)[0].strip()
	return first[0].lower() + first[1:] if first else name.removeprefix("tasker_").replace("_", " ")


def page(name, declared, text, structs):
	used = [structs[struct] for struct in re.findall(r"struct (tasker_\w+)", declared) if struct in structs]
	fails = declared.startswith("int ") and "struct tasker_error *err" in declared
	synopsis = escaped("\n\n".join([*used, declared]).replace("\t", "    "))
	date = time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))))
	return PAGE.format(name=name, date=date, title=escaped(title(name, text)), synopsis=synopsis, text=escaped(text or "See libtasker(3)."), returns=RETURNS if fails else "")


def installed(directory):
	"""Where meson puts what belongs into the directory."""
	prefix = os.environ.get("MESON_INSTALL_PREFIX")
	return pathlib.Path(os.environ["MESON_INSTALL_DESTDIR_PREFIX"], os.path.relpath(directory, prefix)) if prefix else pathlib.Path(directory)


def main(header, directory):
	header, directory = pathlib.Path(header).read_text(), installed(directory)
	directory.mkdir(parents=True, exist_ok=True)
	structs = structures(header)
	for name, declared, text in functions(header):
		(directory / (name + ".3")).write_text(page(name, declared, text, structs))


if __name__ == "__main__":
	main(*sys.argv[1:])

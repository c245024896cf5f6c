"""The blocks of a Markdown page: which there are, and what is to be done with each. README.md has the rules."""
import collections
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NAMED = re.compile(r"^(?:#|//|--|;|<!--)\s+(\S*[./]\S+)(?:\s+-->)?$")  # the first line of a block that is a file
COMMENT = re.compile(r"\s+#\s.*$")
PICTURE = "text"  # shown, not run

Command = collections.namedtuple("Command", "line text expected status")


class Block:
	"""One fenced block: its page and section, the line it begins at, its language, the words behind that, its text."""

	def __init__(self, page, line, info, text, section=None):
		self.page, self.line, self.text, self.section = page, line, text, section
		self.language, *self.words = info.split() or [""]

	def __str__(self):
		return "%s:%d" % (self.page, self.line)

	def word(self, key):
		"""What stands behind `key=`; None if it does not."""
		return next((w.partition("=")[2] for w in self.words if w.startswith(key + "=")), None)

	@property
	def system(self):
		"""To be run on a machine with systemd (tests/system)."""
		return "system" in self.words

	@property
	def elsewhere(self):
		"""Not for the tests of this directory: for a machine with systemd, or for podman (tests/container)."""
		return self.system or "container" in self.words

	@property
	def file(self):
		"""The file that it is, if its first line names one."""
		named = NAMED.match(self.text.partition("\n")[0])
		return named and self.language not in ("console", PICTURE) and named.group(1)

	@property
	def kind(self):
		"""How it is run: file, console, sql, picture, or None."""
		if self.file:
			return "file"
		return {"console": "console", "sql": "sql", PICTURE: "picture"}.get(self.language)

	def commands(self):
		"""What stands behind `$ `, with the lines that continue it behind `> `, and the lines of output below."""
		found, last = [], int(self.word("exit") or 0)
		for number, line in enumerate(self.text.splitlines(), self.line + 1):
			if line.startswith("$ "):
				found.append([number, line[2:], []])
			elif line.startswith("> ") and found:
				found[-1][1] += "\n" + line[2:]
			elif line.strip():
				if not found:
					raise ValueError("%s:%d: a console block begins with a command" % (self.page, number))
				found[-1][2].append(line)
		return [Command(n, text, expected, last if i == len(found) - 1 else 0) for i, (n, text, expected) in enumerate(found)]


def read(page):
	"""The blocks of a page (a path from the top), and the numbers of lines that look like an indented block."""
	with open(os.path.join(ROOT, page), encoding="utf-8") as f:
		lines = f.read().split("\n")
	blocks, indented, fence, before, section = [], [], None, "", None
	for number, line in enumerate(lines, 1):
		if fence is None and line.startswith("```"):
			fence = (number, line[3:].strip(), [])
		elif fence is not None and line.startswith("```"):
			blocks.append(Block(page, fence[0], fence[1], "\n".join(fence[2]) + "\n", section))
			fence = None
		elif fence is not None:
			fence[2].append(line)
		elif line.startswith("## "):
			section = line[3:].strip()
		elif line.startswith("    ") and not before.strip():
			indented.append(number)
		before = line
	if fence:
		raise ValueError("%s:%d: the block does not end" % (page, fence[0]))
	return blocks, indented


UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


def pattern(expected):
	"""A line of output as an expression: `...` is anything, a UUID any UUID, blanks any number of blanks, a number with a unit of time any of them."""
	words = []
	for part in re.split(r"(\s*\.\.\.\s*|%s|\d+(?:\.\d+)? (?:ms|s)\b|\s+)" % UUID, expected.strip()):
		if part.strip() == "...":
			words.append(".*")
		elif re.fullmatch(UUID, part):
			words.append(UUID)
		elif re.fullmatch(r"[\d.]+ (?:ms|s)", part):
			words.append(r"[\d.]+ ?(?:us|ms|s)")
		elif part.isspace():
			words.append(r"\s+")
		else:
			words.append(re.escape(part))
	return re.compile("".join(words))  # searched for: what stands before and behind it is not looked at


def missing(expected, output):
	"""The first of the expected lines that is not in the output, in their order; None if all are."""
	lines = iter(line.strip() for line in output.splitlines())
	for line in expected:
		wanted = pattern(line)
		if not any(wanted.search(got) for got in lines):
			return line
	return None

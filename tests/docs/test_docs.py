"""Every block of README.md and docs/ is run, or named with what runs it. README.md has the rules; tests/system/test_docs.py runs the blocks for a machine with systemd."""
import glob
import os
import re
import subprocess
import unittest

import blocks
import shell
import stages
from stages import ELSEWHERE

HERE = os.path.dirname(os.path.abspath(__file__))
PAGES = ["README.md"] + sorted(os.path.relpath(p, blocks.ROOT) for p in glob.glob(os.path.join(blocks.ROOT, "docs", "**", "*.md"), recursive=True))


def followed():
	"""The pages that a test here goes through."""
	text = ""
	for path in glob.glob(os.path.join(HERE, "test_*.py")):
		with open(path, encoding="utf-8") as f:
			text += f.read()
	return {page for page in PAGES if '"%s"' % page in re.sub(r"ELSEWHERE.*", "", text)}


class Rules(unittest.TestCase):
	"""No block is without a way to be run."""

	def test_every_block_has_its_way(self):
		for page in PAGES:
			found, indented = blocks.read(page)
			self.assertEqual(indented, [], "%s: these lines begin indented blocks; fence them" % page)
			for block in found:
				self.assertIsNotNone(block.kind, "%s: nothing runs a block of the language '%s'; tests/docs/README.md" % (block, block.language))
				if block.kind == "console":
					self.assertTrue(block.commands(), str(block))
				if block.kind == "picture":
					self.assertIsNone(re.search(r"^(\$ |sudo |taskerctl |taskerd |systemctl |apt |psql )", block.text, re.M), "%s: a command in a picture" % block)
				if not block.elsewhere:
					self.assertIn(page, followed(), "%s: no test runs this page" % block)

	def test_commands_are_whole(self):
		"""Also those that are for another machine: what bash says of them without running them."""
		for page in PAGES:
			for block in blocks.read(page)[0]:
				for command in block.commands() if block.kind == "console" else ():
					done = subprocess.run(["bash", "-n"], input=command.text + "\n", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
					self.assertEqual((done.returncode, done.stdout), (0, ""), "%s:%d" % (page, command.line))

	def test_what_is_run_elsewhere_is(self):
		for (page, command), (path, text) in ELSEWHERE.items():
			self.assertIn(command, [c.text.split(" #")[0].strip() for b in blocks.read(page)[0] if b.kind == "console" for c in b.commands()], page)
			with open(os.path.join(blocks.ROOT, path), encoding="utf-8") as f:
				self.assertIn(text, f.read(), path)

	def test_links(self):
		for page in PAGES:
			with open(os.path.join(blocks.ROOT, page), encoding="utf-8") as f:
				text = re.sub(r"^```.*?^```$", "", f.read(), flags=re.M | re.S)
			for target in re.findall(r"\]\(([^)\s]+)\)", text):
				path, _, anchor = target.partition("#")
				if re.match(r"[a-z]+:", target):
					continue
				there = os.path.normpath(os.path.join(blocks.ROOT, os.path.dirname(page), path)) if path else os.path.join(blocks.ROOT, page)
				self.assertTrue(os.path.exists(there), "%s: %s" % (page, target))
				if anchor:
					with open(there, encoding="utf-8") as f:
						self.assertIn(anchor, [anchor_of(h) for h in re.findall(r"^#+ (.*)$", f.read(), re.M)], "%s: %s" % (page, target))


def anchor_of(heading):
	return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


class Pages(stages.Page):
	"""The shorter ones."""

	def test_readme(self):
		page = "README.md"
		later = {"Production": self.machine, "Building by hand": self.stage}
		self.follow(page, self.stage(), {b.section for b in blocks.read(page)[0]} - set(later))
		machine = self.machine()
		machine.must("createuser -h db -U postgres taskerd; createdb -h db -U postgres -O taskerd workflows")
		self.follow(page, machine, {"Production"})
		builds = self.stage()
		builds.must("export DESTDIR=$PWD/root TASKERD_TEST_SETUP=no")
		self.follow(page, builds, {"Building by hand"})

	def test_concepts(self):
		self.follow("docs/concepts.md", self.stage())

	def test_performance(self):
		self.follow("docs/performance.md", self.stage())

	def test_architecture(self):
		self.follow("docs/architecture.md", self.stage())

	def test_engine(self):
		stage = self.embedded()
		stage.must("taskerctl template apply - <<<'{\"name\": \"order\", \"namespace_name\": \"shop\", \"version\": \"1.0.0\", \"steps\": [{\"name\": \"a\", \"handler\": {\"callable\": \"a\"}}]}'")
		stage.sql(blocks.Block("prelude", 0, "sql", "SELECT tasker.grant_role('submitter', 'app'), tasker.grant_role('reader', 'reader');"))
		self.follow("docs/engine.md", stage)

	def test_porting(self):
		stage = self.embedded()
		stage.must("export PYTHONPATH=$PWD/clients/python/src; mkdir port; cd port")
		self.follow("docs/porting.md", stage)

	def test_http(self):
		machine = self.machine()
		machine.must("createuser -h db -U postgres taskerd; createdb -h db -U postgres -O taskerd workflows; export TASKERD_DATABASE=postgresql://taskerd@db/workflows; taskerd --migrate")
		machine.start()
		machine.workflow()
		self.follow("docs/http.md", machine)
		machine.must("mkdir -p /var/lib/prometheus/node-exporter")
		self.follow("docs/observability.md", machine)

	def test_security(self):
		self.follow("docs/security.md", self.embedded())


class Self(unittest.TestCase):
	"""The runner itself: it can fail."""

	def setUp(self):
		self.shell = shell.Shell("/", {"PATH": os.environ["PATH"]})
		self.addCleanup(self.shell.close)

	def block(self, text, info="console"):
		return blocks.Block("page", 1, info, text)

	def follow(self, text, info="console"):
		shell.follow([self.block(text, info)], self.shell.run, None)

	def test_what_the_page_says(self):
		self.follow("$ x=5\n$ echo a $x; echo b\na 5\n$ cat <<END\n> one\n> END\none\n$ (exit 3)\n", "console exit=3")
		self.follow("$ echo took 27ms by 01a21906-29d0-7982-b9f6-803941000000 on vm\ntook 3 s by 00000000-0000-7000-8000-000000000000 on ...\n")

	def test_what_the_page_does_not_say(self):
		for text in ("$ false\n", "$ echo a\nb\n", "$ printf 'a\\nb\\n'\nb\na\n", "$ exit 0\n"):
			with self.subTest(text), self.assertRaises(shell.Failed):
				self.follow(text)
				self.shell.run("true")

	def test_kinds(self):
		self.assertEqual([self.block(t, i).kind for t, i in (("# a.yaml\n", "yaml"), ("a: 1\n", "yaml"), ("// a.ts\n", "ts"), ("x\n", "text"), ("ls\n", "sh"))],
		                 ["file", None, "file", "picture", None])


if __name__ == "__main__":
	unittest.main()

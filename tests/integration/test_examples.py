"""Every example of the manual pages and of --help works as it stands: each is run by a shell against a daemon."""
import json
import os
import pathlib
import re
import subprocess
import unittest

import harness

ROOT = pathlib.Path(__file__).resolve().parents[2]
TASKERCTL = harness.program("clients", "taskerctl", "taskerctl")
ORDER = """\
name: order
namespace_name: shop
version: 1.0.0
input_schema: {type: object, properties: {order_id: {type: integer}, fail: {type: boolean}}}
steps:
  - {name: take, handler: {callable: shop.take}}
  - {name: pack, handler: {callable: shop.pack}, dependencies: [take], retry: {max_attempts: 2}}
  - {name: send, handler: {callable: shop.send}, dependencies: [pack]}
"""
# What an example changes is a task of its own that has not begun, or of another kind; the others share one that is done.
UNFINISHED = {"task cancel", "task pause"}


def table():
	answer = json.loads(subprocess.run([TASKERCTL, "help", "--json"], capture_output=True, check=True).stdout)
	return [(" ".join(w for w in (c["group"], c["command"]) if w), e) for c in answer["commands"] for e in c["examples"]]


class Examples(harness.SharedCase):
	@classmethod
	def prepare(cls, stage):
		stage.db = stage.database()
		stage.node = stage.daemon(stage.db)
		stage.worker = stage.python_worker(stage.node, module="order.py", namespaces=("shop",))
		stage.apply(stage.node, ORDER)
		cls.dir = pathlib.Path(stage.place) / "examples"
		(cls.dir / "bin").mkdir(parents=True)
		(cls.dir / "bin" / "taskerctl").symlink_to(TASKERCTL)
		(cls.dir / "order.yaml").write_text(ORDER)
		(cls.dir / "orders.jsonl").write_text("".join('{"order_id": %d}\n' % n for n in range(20, 23)))
		cls.done = cls.new(stage)
		cls.failed = cls.new(stage, {"fail": True})
		stage.finished(stage.node, cls.done)
		stage.finished(stage.node, cls.failed)

	@staticmethod
	def new(stage, context=None, **more):
		return stage.create(stage.node, "order", context, namespace="shop", **more)

	def variables(self, command):
		"""$task, $failed and $paused, as a command wants them."""
		stage = self.shared
		wanted = {"task": self.done, "failed": self.failed}
		if command in UNFINISHED:
			wanted["task"] = self.new(stage, run_at="2100-01-01T00:00:00Z")
		if command.split()[0] in ("task", "step", "dlq") and command not in ("step get", "step history", "task list", "dlq list"):
			wanted["failed"] = self.new(stage, {"fail": True})
			stage.finished(self.node, wanted["failed"])
		if command == "task resume":
			wanted["paused"] = self.new(stage, run_at="2100-01-01T00:00:00Z")
			self.shell("taskerctl task pause $paused --reason 'to be resumed'", wanted)
		return wanted

	def shell(self, text, variables=None):
		env = {"PATH": f"{self.dir}/bin:{os.environ['PATH']}", "HOME": str(self.dir), "LC_ALL": "C.UTF-8", "TASKERD_SOCKET": self.node.socket,
		       "TASKERCTL_CONFIG": "/dev/null", **(variables or {})}
		p = subprocess.run(["bash", "-euo", "pipefail", "-c", text], capture_output=True, text=True, timeout=harness.PATIENCE, cwd=self.dir, env=env, stdin=subprocess.DEVNULL)
		self.assertEqual((p.returncode, "error" in p.stderr.lower().replace("--error-type", "")), (0, False), f"{text}\n{p.stdout[-2000:]}{p.stderr}")
		return p.stdout

	def test_of_every_command(self):
		for command, example in table():
			with self.subTest(example["command"]):
				self.shell(example["command"], self.variables(command))

	def test_of_the_first_page(self):
		text = (ROOT / "man" / "taskerctl.1.scd").read_text().split("# EXAMPLES\n")[1]
		blocks = re.findall(r"```\n(.*?)```", text, re.S)
		self.assertGreater(len(blocks), 3)
		for block in blocks:
			with self.subTest(block):
				self.shell(block, self.variables("task retry"))


if __name__ == "__main__":
	unittest.main()

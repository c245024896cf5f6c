"""A shell that a page's commands are given to, one after the other, as its reader would."""
import os
import select
import shutil
import signal
import subprocess
import time

import blocks

PATIENCE = float(os.environ.get("TASKERD_TEST_PATIENCE", "600"))
LOOP = r"""
shopt -s expand_aliases
while IFS= read -r -d '' -u "$1" command; do
	eval "$command"
	printf '\001%s\001' "$?"
done
"""


class Failed(Exception):
	"""A command did something else than its page says."""


class Shell:
	"""bash without a terminal, in a session of its own. `inside` is put before it: unshare, for a machine of its own."""

	def __init__(self, cwd, env, inside=()):
		read, write = os.pipe()
		guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
		self._child = subprocess.Popen([*guard, *inside, "bash", "--noprofile", "--norc", "-c", LOOP, "bash", str(read)], cwd=cwd, env=env, pass_fds=[read],
		                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
		os.close(read)
		self._commands = os.fdopen(write, "wb", buffering=0)

	def run(self, command):
		"""Its exit status, and what it and everything in the background wrote until it ended."""
		self._commands.write(command.encode() + b"\0")
		output, end = b"", time.monotonic() + PATIENCE
		while not (output.endswith(b"\1") and output.count(b"\1") == 2):
			ready = select.select([self._child.stdout], [], [], max(0, end - time.monotonic()))[0]
			got = ready and os.read(self._child.stdout.fileno(), 65536)
			if not got:
				raise Failed("%s\n%s\n%s" % (command, output.decode(errors="replace"), "the shell has ended" if ready else "has not ended after %d s" % PATIENCE))
			output += got
			if output.count(b"\1") == 2 and not output.endswith(b"\1"):  # something in the background spoke behind the mark
				before, status, after = output.split(b"\1")
				output = before + after + b"\1" + status + b"\1"
		text, status, _ = output.rsplit(b"\1", 2)
		return int(status), text.decode(errors="replace")

	def close(self):
		"""End the shell and whatever it has started."""
		self._commands.close()
		for sign, patience in ((signal.SIGTERM, 60), (signal.SIGKILL, PATIENCE)):
			self._signal(sign)
			if self._gone(patience):
				break
		self._child.stdout.close()
		self._child.wait()

	def _signal(self, sign):
		try:
			os.killpg(self._child.pid, sign)
		except ProcessLookupError:
			pass

	def _gone(self, patience):
		end = time.monotonic() + patience
		while time.monotonic() < end:
			self._child.poll()
			try:
				os.killpg(self._child.pid, 0)
			except ProcessLookupError:
				return True
			time.sleep(0.02)
		return False


def follow(page_blocks, run, write, sql=None):
	"""Do what the blocks say, in their order: `run(command)` gives status and output, `write(path, text)` makes a file, `sql(text)` runs SQL."""
	for block in page_blocks:
		if block.kind == "file":
			write(block.file, block.text)
		elif block.kind == "console":
			for command in block.commands():
				check(block, command, *run(command.text))
		elif block.kind == "sql":
			sql(block)


def check(block, command, status, output):
	where = "%s:%d" % (block.page, command.line)
	if status != command.status:
		raise Failed("%s: %s\nended with %d:\n%s" % (where, command.text, status, output))
	absent = blocks.missing(command.expected, output)
	if absent is not None:
		raise Failed("%s: %s\nit should say\n%s\nit said\n%s" % (where, command.text, absent, output))

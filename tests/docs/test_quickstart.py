"""contrib/quickstart, the first command of README.md, but for its building: what runs this has built. Its second part, polyglot.py, is run by tests/integration/test_polyglot.py."""
import os
import re
import subprocess
import sys
import unittest

import blocks
import stages


class Quickstart(stages.Page):
	def test_what_it_is_made_of(self):
		with open(os.path.join(blocks.ROOT, "contrib", "quickstart"), encoding="utf-8") as f:
			self.assertEqual(re.findall(r"^/usr/bin/python3 (\S+) --build build", f.read(), re.M), ["contrib/order-fulfilment/run.py", "contrib/polyglot/polyglot.py"])

	def test_the_orders(self):
		program = os.path.join(blocks.ROOT, "contrib", "order-fulfilment", "run.py")
		done = subprocess.run([sys.executable, program, "--build", os.path.abspath(stages.BUILD)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
		self.assertEqual(done.returncode, 0, done.stdout)
		for said in (r"tasks complete +295", r"tasks that need a person +5", r"redelivered +\d+", r"stranded or inconsistent +0"):
			self.assertRegex(done.stdout, said)


if __name__ == "__main__":
	unittest.main()

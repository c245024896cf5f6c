"""What the pages say about packages and systemd: every block with the word `system`, in order, on a machine of its own that has the packages' files and nothing installed."""
import os
import unittest

import machine
import blocks
import shell

PAGE = "docs/operations.md"


class Docs(unittest.TestCase):
	@classmethod
	def setUpClass(cls):
		cls.m = machine.make("docs")
		cls.addClassCleanup(cls.m.close)
		cls.m.boot()
		cls.shell = cls.m.shell()
		cls.addClassCleanup(cls.shell.close)
		cls.shell.run("cd " + machine.DEBS)

	def follow(self, page, wanted):
		found = [b for b in blocks.read(page)[0] if b.system and wanted(b)]
		self.assertTrue(found)
		shell.follow(found, self.shell.run, self.m.write)

	def test_1_operations(self):
		"""In the order of the page; there is something to upgrade to when it comes to that."""
		for section in dict.fromkeys(b.section for b in blocks.read(PAGE)[0] if b.system and b.section != "Remove"):
			if section == "Upgrade":
				self.m.release("99.0")
			self.follow(PAGE, lambda b: b.section == section)  # pylint: disable=cell-var-from-loop
		self.assertEqual(self.m.sh("dpkg-query", "-W", "-f", "${Version}", "taskerd"), "99.0")

	def test_2_clients(self):
		self.m.write("/etc/taskerd/workers/NAME.env", "COMMAND=/usr/bin/python3 -m taskerd worker /srv/shop/shop.py\n")
		self.follow("docs/clients/README.md", lambda b: True)
		self.m.wait(lambda: self.m.sh("taskerctl", "worker", "list").count("shop.pay") == 2, "the second worker")

	def test_3_remove(self):
		self.shell.run("systemctl disable --now taskerd-worker@NAME")
		self.follow(PAGE, lambda b: b.section == "Remove")
		self.assertFalse(os.path.exists(self.m.path("/var/lib/taskerd")))


if __name__ == "__main__":
	unittest.main(failfast=True)

"""docs/operations.md on a host of its own; what needs systemd is in tests/system/test_docs.py."""
import unittest

import blocks
import stages
from stages import Machine


class Operations(stages.Page):
	def test_operations(self):
		"""The host of the page: what it writes to /etc/taskerd is what its daemon runs with, after each section that says so."""
		page, machine = "docs/operations.md", self.machine()
		sections = list(dict.fromkeys(b.section for b in blocks.read(page)[0] if not b.elsewhere))
		for section in sections:
			for act in self.BEFORE.get(section, ()):
				act(machine)
			self.follow(page, machine, {section})
		self.assertLessEqual(set(self.BEFORE), set(sections))

	# What happens to that host between the sections.
	BEFORE = {
		"Several hosts": [Machine.start, Machine.workflow],
		"Retention": [Machine.restart],
		"Failover of PostgreSQL": [Machine.restart, Machine.work, Machine.no_pooler, Machine.standby],
		"When the primary is lost": [Machine.restart, Machine.lose_primary],
	}


if __name__ == "__main__":
	unittest.main()

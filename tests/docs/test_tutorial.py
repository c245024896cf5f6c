"""docs/tutorial.md in a clone with a build."""
import unittest

import stages


class Tutorial(stages.Page):
	def test_tutorial(self):
		self.follow("docs/tutorial.md", self.stage())


if __name__ == "__main__":
	unittest.main()

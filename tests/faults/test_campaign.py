"""The short version of tests/faults/run: two nodes, one of them behind PgBouncer, some faults of each sort in an order that the seed decides."""
import random
import unittest

from fault import LONG, SEED, harness
from campaign import Campaign
from kinds import KINDS

EVENTS = 60 if LONG else 7
SHORT = ["kill_worker", "kill_daemon", "kill_backend", "end_connections", "restart_postgres", "cut_between_commit_and_answer", "cut_database", "half_close_workers", "exhaust_descriptors",
         "exhaust_memory", "end_connections_when_none_is_free", "shift_daemon_clock", "kill_pooler", "rolling_restart"]  # those that take a second


class Short(unittest.TestCase):
	def test_nothing_is_lost(self):
		harness.taskerd_program()
		seed = random.Random("short %s" % SEED).randrange(10000) * 3 + 2  # so that a node is behind the pooler
		campaign = Campaign(seed, n_nodes=2, faults=list(KINDS) if LONG else SHORT, events=EVENTS)
		campaign.run()
		self.assertEqual(campaign.findings, [])


if __name__ == "__main__":
	unittest.main()

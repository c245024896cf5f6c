"""The primary is lost and its standby promoted. A daemon that was given both hosts finds the new primary by itself."""
import os
import socket
import unittest

from fault import FaultCase, LONG, harness
from replica import Pair


class Promoted(FaultCase):
	def make_cluster(self):
		made = harness.new_cluster(wal_keep_size="64MB")
		self.at_end(made.close)
		return made

	def node(self, pair, **options):
		return harness.Daemon(self, "node-a", database=pair.conninfo(self.db.name, **options), poll_interval_ms=harness.HOUR_MS).start()

	def follow(self, pair):
		"""The test's own questions go to the new primary."""
		self.db.close()
		self.db.cluster = pair.primary

	def test_nothing_is_lost_with_a_synchronous_standby(self):
		pair = Pair(self, self.cluster)
		node = self.node(pair)
		workers = [self.python_worker(node, name="w%d" % i, threads=3) for i in range(2)]
		self.begin_batch(node, 15)
		rounds = 6 if LONG else 1
		for i in range(rounds):
			self.wait_part(i, rounds)
			dead = pair.fail_over()
			self.follow(pair)
			if i + 1 < rounds:
				pair.rebuild()
			dead.close()
		node.wait_up()
		self.end_batch(node)
		self.assertEqual(self.lost(), [])
		self.assertEqual({k: n for k, n in self.executions().items() if n != 1}, {})
		self.assertTrue(all(w.alive() for w in workers))

	def test_a_primary_that_says_nothing(self):
		"""As a machine without power: it takes the connection (the network would take the packets) and never answers. The other host has its turn."""
		pair = Pair(self, self.cluster)
		silent = os.path.join(self.place, "silent")
		os.mkdir(silent)
		with socket.socket(socket.AF_UNIX) as s:
			s.bind(os.path.join(silent, ".s.PGSQL.5432"))
			os.chmod(os.path.join(silent, ".s.PGSQL.5432"), 0o777)
			s.listen(64)
			self.node(pair, hosts=[silent] + pair.names)


if __name__ == "__main__":
	unittest.main()

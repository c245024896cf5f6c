"""A full disk: PostgreSQL's data on a small file system. The daemon keeps what it has, says that it waits, and goes on when there is room again."""
import os
import random
import shutil
import subprocess
import unittest

import disk
from disk import MIB
from fault import FaultCase, harness
from harness import wait_for


class FullDisk(FaultCase):
	def make_cluster(self):
		"""A cluster of its own."""
		if not disk.can_mount():
			self.skipTest("no file system can be mounted here")
		made = harness.new_cluster(max_wal_size="64MB", min_wal_size="32MB", wal_recycle="off")
		self.at_end(made.close)
		return made

	def move_to_small_disk(self, directory, free):
		"""Mount a file system with `free` bytes to spare over a directory of the stopped cluster, with what was in it."""
		size = sum(os.lstat(os.path.join(top, f)).st_size for top, _, files in os.walk(directory) for f in files)
		aside = directory + ".aside"
		os.rename(directory, aside)
		os.mkdir(directory, 0o700)
		disk.mount(directory, size + free, aside)
		self.at_end(self.unmount, directory)
		subprocess.run(["cp", "-a", aside + "/.", directory], check=True)
		shutil.rmtree(aside)

	def unmount(self, directory):
		self.db.close()
		self.cluster.kill()
		subprocess.run(["umount", directory], check=True)

	def fill(self, directory):
		"""Take what is left; the name of the file."""
		path = os.path.join(directory, "ballast")
		with open(path, "wb", buffering=0) as f:  # what a buffer still held would be written, and refused, once more at its close
			try:
				while True:
					f.write(b"\0" * 65536)
			except OSError:
				pass
		return path

	def squeeze(self, area, free):
		"""Fill the disk under a part of the data directory in the middle of a batch; the daemon and the file to remove."""
		self.cluster.stop("fast")
		directory = os.path.join(self.cluster.data, area)
		self.move_to_small_disk(directory, free)
		self.cluster.start()
		node = self.daemon(self.db)
		self.workers = [self.python_worker(node, name="w%d" % i, threads=3) for i in range(2)]
		self.begin_batch(node, 10)
		self.wait_part(0, 1)
		self.asked = 0
		self.client = node.new_client(timeout=1)
		return node, self.fill(directory)

	def tasks(self, first, end):
		"""Tasks that take room, the same ones whenever they are asked for."""
		return ({"name": "diamond", "namespace": "t", "context": {"blob": random.Random(n).randbytes(50000).hex()}, "idempotency_key": "more-%d" % n} for n in range(first, end))

	def ask_for_more(self):
		self.asked += 10
		self.client.create_tasks(self.tasks(self.asked - 10, self.asked))

	def finish(self, node):
		"""What was asked for in vain may still be made, at any time: asked for again and answered it is there, and only then can everything settle."""
		node.wait_up()
		client = node.new_client()
		wait_for(lambda: all(o.ok for o in client.create_tasks(self.tasks(0, self.asked))), "all tasks to be made")
		self.end_batch(node)
		self.assertEqual(self.lost(), [])
		self.assertEqual({k: n for k, n in self.executions().items() if n != 1}, {})
		self.assertTrue(all(w.alive() for w in self.workers))

	def test_no_room_for_tables(self):
		"""PostgreSQL answers 53100; it and its connections live."""
		node, ballast = self.squeeze("base", 60 * MIB)

		def waits():
			"""More and more is asked for until something no longer fits, and goes on not to: what is smaller may find room once more."""
			if "No space left" in (node.info() or {"database": {}})["database"].get("error", ""):
				return True
			self.ask_for_more()
			return False
		wait_for(waits, lambda: "server.info to say why nothing moves:\n" + node.process.last_words())
		self.assertIn("No space left", node.log_text())
		os.unlink(ballast)
		self.finish(node)

	def test_no_room_for_the_log(self):
		"""PostgreSQL cannot write its log ahead: it panics and stays down. Once there is room its operator starts it again."""
		node, ballast = self.squeeze("pg_wal", 40 * MIB)

		def down():
			info = node.info()
			if info and info["database"]["state"] != "up":
				return info
			self.ask_for_more()
			return None
		self.assertTrue(wait_for(down, "the daemon to notice")["database"]["error"])
		os.unlink(ballast)
		self.db.close()
		self.cluster.kill()
		self.cluster.start()
		self.finish(node)


if __name__ == "__main__":
	unittest.main()

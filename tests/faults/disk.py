"""A PostgreSQL whose data is on a small file system of its own, which can be filled. Mounting needs root."""
import os
import subprocess
import sys
import unittest

from fault import harness
from harness import pg

sys.path.append(os.path.join(harness.ROOT, "tests"))
from leftovers import private_mounts  # noqa: E402

MIB = 1 << 20


def can_mount():
	"""Whether it can; if so, from here on for this process alone, or what is mounted would stay behind when that is killed."""
	return private_mounts()


def mount(directory, size, like):
	"""A file system of `size` bytes over an empty directory, of the owner of `like`. Skips the test if that cannot be."""
	owner = os.stat(like)
	mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%d,mode=0700,uid=%d,gid=%d" % (size, owner.st_uid, owner.st_gid), "none", directory], stderr=subprocess.PIPE, text=True)
	if mounted.returncode != 0:
		os.rmdir(directory)
		raise unittest.SkipTest("no file system can be mounted here: " + mounted.stderr.strip())


def fill(directory):
	"""Take what is left; the file to remove."""
	path = os.path.join(directory, "ballast")
	fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
	size = MIB * 256
	while size >= 4096:
		try:
			os.posix_fallocate(fd, os.fstat(fd).st_size, size)
		except OSError:
			size //= 2
	os.close(fd)
	return path


class OnSmallDisk:
	"""To be mixed into a cluster."""

	size = 1536 * MIB

	def _initdb(self, settings, durable):
		os.mkdir(self.data, 0o700)
		mount(self.data, self.size, self.top)
		super()._initdb(settings, durable)


class SmallCluster(OnSmallDisk, pg.PgCluster):
	pass


__all__ = ["MIB", "OnSmallDisk", "SmallCluster", "can_mount", "fill", "harness", "mount"]

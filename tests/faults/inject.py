"""What inject.c reads: memory that runs out, a wall clock that jumps, calls that fail, in a process that runs."""
import mmap
import os
import struct

from fault import harness

NS = 10 ** 9
BEFORE, AFTER = 0, -1
FORMAT = "qqqqqqqq"  # of allocations skip, fail, failed; shift of the clock; of calls skip, armed, error, struck


class Injector:
	"""One file, for one process or several. `environment` is what they are to be started with."""

	def __init__(self, path):
		library = harness.program("tests", "faults", "inject.so")
		with open(path, "wb") as f:
			f.write(bytes(struct.calcsize(FORMAT)))
		os.chmod(path, 0o666)
		with open(path, "r+b") as f:
			self._map = mmap.mmap(f.fileno(), struct.calcsize(FORMAT))
		self.environment = {"LD_PRELOAD": library, "INJECT": path}

	def _get(self, no):
		return struct.unpack_from("q", self._map, 8 * no)[0]

	def _set(self, no, value):
		struct.pack_into("q", self._map, 8 * no, value)

	def fail_allocations(self, skip, n=1):
		"""After `skip` allocations n fail."""
		self._set(1, 0)
		self._set(0, skip)
		self._set(1, n)

	def strike_call(self, skip, error):
		"""After `skip` calls that read or write one fails with this errno. BEFORE, AFTER: the process is killed before or after it."""
		self._set(5, 0)
		self._set(4, skip)
		self._set(6, error)
		self._set(5, 1)

	def heal(self):
		self._set(1, 0)
		self._set(5, 0)

	@property
	def struck(self):
		return self._get(7)

	@property
	def failed(self):
		return self._get(2)

	@property
	def pending(self):
		"""Whether some are still to fail."""
		return self._get(1) > 0

	def shift_clock(self, seconds):
		self._set(3, int(seconds * NS))

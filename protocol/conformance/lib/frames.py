"""Frames and envelopes as PROTOCOL.md has them in sections 1 and 2, read strictly: what a client sends must be all that."""
import struct

import msgpack


class Breach(AssertionError):
	"""The client broke the protocol."""


def frame(value):
	payload = msgpack.packb(value, use_bin_type=True)
	return struct.pack(">I", len(payload)) + payload


class Reader:
	"""Cuts a stream into payloads."""

	def __init__(self, limit):
		self.limit, self._buffer = limit, bytearray()

	def feed(self, data):
		"""The payloads that are complete now."""
		self._buffer += data
		found = []
		while len(self._buffer) >= 4:
			(n,) = struct.unpack_from(">I", self._buffer)
			if not 1 <= n <= self.limit:
				raise Breach("a frame of %d bytes" % n)
			if len(self._buffer) < 4 + n:
				break
			found.append(bytes(self._buffer[4:4 + n]))
			del self._buffer[:4 + n]
		return found


def _pairs(pairs):
	made = {}
	for key, value in pairs:
		if not isinstance(key, str):
			raise Breach("a map key that is no string: %r" % (key,))
		if key in made:
			raise Breach("a map key twice: %r" % key)
		made[key] = value
	return made


def _ext(code, data):
	raise Breach("an ext value")


def envelope(payload):
	"""The message in a payload."""
	try:
		m = msgpack.unpackb(payload, raw=False, strict_map_key=False, object_pairs_hook=_pairs, ext_hook=_ext)
	except (ValueError, msgpack.UnpackException) as e:
		raise Breach("no MessagePack value: %s" % e) from e
	ok = isinstance(m, list) and m and (
		len(m) == 4 and m[0] == 0 and _id(m[1]) and isinstance(m[2], str) and isinstance(m[3], dict) or
		len(m) == 4 and m[0] == 1 and _id(m[1]) and (m[2] is None or isinstance(m[2], dict) and m[3] is None) or
		len(m) == 3 and m[0] == 2 and isinstance(m[1], str) and isinstance(m[2], dict))
	if not ok:
		raise Breach("no envelope: %.300r" % (m,))
	return m


def _id(value):
	return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 32

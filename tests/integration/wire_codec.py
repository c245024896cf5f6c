"""MessagePack as the protocol has it: written by hand, also what no encoder would write, and read strictly."""
import struct

import msgpack


class Breach(AssertionError):
	"""The daemon broke the protocol."""


# Writing --------------------------------------------------------------------------------------------------------------------


class Raw(bytes):
	"""Bytes that stand for themselves inside a value."""


class Pairs(list):
	"""A map as a list of pairs: any keys, any number of times."""


def _head(n, fix, fix_max, *wider):
	if fix is not None and n <= fix_max:
		return bytes([fix | n])
	for tag, code, limit in wider:
		if n <= limit:
			return bytes([tag]) + struct.pack(">" + code, n)
	raise OverflowError(n)


def pack(v):
	"""The MessagePack of a value, by the shortest forms."""
	out = []
	_pack(v, out.append)
	return b"".join(out)


def _pack_int(v):
	if -32 <= v < 0:
		return struct.pack("b", v)
	if v >= 0:
		return _head(v, 0, 127, (0xcc, "B", 0xff), (0xcd, "H", 0xffff), (0xce, "I", 0xffffffff), (0xcf, "Q", 2 ** 64 - 1))
	for tag, code, bits in (0xd0, "b", 7), (0xd1, "h", 15), (0xd2, "i", 31), (0xd3, "q", 63):
		if v >= -(1 << bits):
			return bytes([tag]) + struct.pack(">" + code, v)
	raise OverflowError(v)


def _pack(v, put):
	if isinstance(v, Raw):
		put(bytes(v))
	elif v is None:
		put(b"\xc0")
	elif isinstance(v, bool):
		put(b"\xc3" if v else b"\xc2")
	elif isinstance(v, int):
		put(_pack_int(v))
	elif isinstance(v, float):
		put(b"\xcb" + struct.pack(">d", v))
	elif isinstance(v, str):
		data = v.encode("utf-8", "surrogatepass")
		put(_head(len(data), 0xa0, 31, (0xd9, "B", 0xff), (0xda, "H", 0xffff), (0xdb, "I", 0xffffffff)) + data)
	elif isinstance(v, (bytes, bytearray)):
		put(_head(len(v), None, 0, (0xc4, "B", 0xff), (0xc5, "H", 0xffff), (0xc6, "I", 0xffffffff)) + bytes(v))
	elif isinstance(v, (dict, Pairs)):
		items = v.items() if isinstance(v, dict) else v
		put(_head(len(v), 0x80, 15, (0xde, "H", 0xffff), (0xdf, "I", 0xffffffff)))
		for key, value in items:
			_pack(key, put)
			_pack(value, put)
	elif isinstance(v, (list, tuple)):
		put(_head(len(v), 0x90, 15, (0xdc, "H", 0xffff), (0xdd, "I", 0xffffffff)))
		for item in v:
			_pack(item, put)
	else:
		raise TypeError(type(v))


def frame(value):
	"""A value as a frame."""
	payload = value if isinstance(value, Raw) else pack(value)
	return struct.pack(">I", len(payload)) + payload


# Reading --------------------------------------------------------------------------------------------------------------------


def _unique(pairs):
	made = dict(pairs)
	if len(made) != len(pairs):
		raise Breach("a key twice among %s" % [k for k, _ in pairs])
	return made


def count(v, depth=0):
	"""(items, depth) of a value as the protocol counts them. Raises Breach for keys that are not strings."""
	items, deepest, todo = 0, 0, [(v, 0)]
	while todo:
		v, depth = todo.pop()
		items += 1
		if isinstance(v, (dict, list)):
			deepest = max(deepest, depth + 1)
			if isinstance(v, dict):
				items += len(v)
				if not all(isinstance(k, str) for k in v):
					raise Breach("a key that is not a string in %r" % list(v))
				v = v.values()
			todo.extend((i, depth + 1) for i in v)
	return items, deepest


def unpack(payload):
	"""The one value of a payload."""
	try:
		return msgpack.unpackb(payload, raw=False, strict_map_key=True, object_pairs_hook=_unique)
	except (ValueError, msgpack.exceptions.UnpackException) as e:
		raise Breach("not one MessagePack value: %r: %s" % (payload[:80], e)) from None

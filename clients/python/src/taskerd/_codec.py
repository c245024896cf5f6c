"""Frames and values: the byte level of the protocol.

A frame is a big-endian u32 length and one MessagePack value. Values that come from user code are
brought into the JSON data model here, because a frame outside it would cost the whole connection.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import numbers
import os
import socket
import struct
import sys
import uuid
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple, Union

import msgpack

from .exceptions import ConversionError, ProtocolError

REQUEST, RESPONSE, NOTIFICATION = 0, 1, 2

#: Limits before the daemon has told its own in the welcome.
HELLO_MAX_FRAME = 1 << 20
HELLO_MAX_ITEMS = 16384
DEFAULT_LIMITS: Dict[str, int] = {
    "max_frame": 4 << 20,
    "max_items": 262144,
    "max_depth": 30,
    "max_bulk": 1000,
}
#: Containers that a user's value may nest: the frame's 30 less the envelope, params, array and item around it.
MAX_VALUE_DEPTH = 26

_LENGTH = struct.Struct(">I")
# Taken now: what handler modules do to that package later does not reach the worker.
_unpackb: Callable[..., Any] = msgpack.unpackb
_Packer: Callable[..., Any] = msgpack.Packer
_INT_MIN, _INT_MAX = -(1 << 63), (1 << 63) - 1

Pack = Callable[[Any], bytes]


def new_packer() -> Pack:
    """A function that packs one value. Not for use by two threads at once."""
    packer = _Packer(use_bin_type=True)
    return packer.pack  # type: ignore[no-any-return]


def frame(payload: bytes) -> bytes:
    """The frame that carries a packed payload."""
    return _LENGTH.pack(len(payload)) + payload


def array_header(n: int) -> bytes:
    """The MessagePack header of an array of ``n`` items."""
    if n < 16:
        return bytes((0x90 | n,))
    if n < 65536:
        return b"\xdc" + n.to_bytes(2, "big")
    return b"\xdd" + n.to_bytes(4, "big")


def list_frame_prefix(pack: Pack, kind: int, method: str, field: str) -> bytes:
    """The bytes of ``[kind, (id,) method, {field: `` for a frame whose params are one array.

    With a request the id has to follow the kind, so this serves notifications only.
    """
    return b"\x93" + pack(kind) + pack(method) + b"\x81" + pack(field)


def decode(payload: Union[bytes, memoryview]) -> Any:
    """The value of one payload; ProtocolError if it is not exactly one value with string keys."""
    try:
        return _unpackb(payload, raw=False, strict_map_key=True, ext_hook=_refuse_ext)
    except ProtocolError:
        raise
    except RecursionError as exc:
        raise ProtocolError("payload nests too deeply") from exc
    except Exception as exc:
        raise ProtocolError(f"payload is not one well-formed MessagePack value: {exc}") from exc


def _refuse_ext(code: int, data: bytes) -> Any:
    raise ProtocolError(f"payload holds an ext value of type {code}")


def check_envelope(value: Any) -> List[Any]:
    """``value`` if it is a response or a notification; ProtocolError otherwise."""
    if type(value) is list and value:
        tag = value[0]
        if tag == NOTIFICATION and len(value) == 3:
            if type(value[1]) is str and type(value[2]) is dict:
                return value
        elif tag == RESPONSE and len(value) == 4:
            ident, error = value[1], value[2]
            if type(ident) is int and 0 <= ident < 1 << 32 and (error is None) != (value[3] is None):
                if error is None or type(error) is dict:
                    return value
    raise ProtocolError("envelope is neither a response nor a notification")


class FrameReader:
    """Cuts a byte stream into decoded envelopes. Owned by one thread."""

    _CHUNK = 1 << 16
    _KEEP = 1 << 20

    def __init__(self, max_payload: int = HELLO_MAX_FRAME) -> None:
        self.max_payload = max_payload
        self._buf = bytearray(self._CHUNK)
        self._view = memoryview(self._buf)
        self._start = 0
        self._end = 0

    def fill(self, sock: socket.socket) -> int:
        """Read once from a socket. The number of bytes; 0 at the end of the stream."""
        if self._end == len(self._buf):
            self._room(1)
        n = sock.recv_into(self._view[self._end :])
        self._end += n
        return n

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        self._room(len(data))
        self._view[self._end : self._end + len(data)] = data
        self._end += len(data)

    def take(self) -> List[List[Any]]:
        """Every envelope that is complete, oldest first."""
        out: List[List[Any]] = []
        start, end = self._start, self._end
        try:
            while end - start >= 4:
                (size,) = _LENGTH.unpack_from(self._buf, start)
                if size == 0 or size > self.max_payload:
                    raise ProtocolError(f"frame of {size} bytes, allowed are 1 to {self.max_payload}")
                stop = start + 4 + size
                if stop > end:
                    break
                out.append(check_envelope(decode(self._view[start + 4 : stop])))
                start = stop
        finally:
            self._start = start
        if start == end:
            self._start = self._end = 0
            if len(self._buf) > self._KEEP:
                self._replace(self._CHUNK)
        elif end - start >= 4:
            self._room(start + 4 + _LENGTH.unpack_from(self._buf, start)[0] - end)
        return out

    def _room(self, more: int) -> None:
        """Make room for ``more`` bytes behind the end."""
        if self._end + more <= len(self._buf):
            return
        held = self._end - self._start
        size = len(self._buf)
        while size < held + more:
            size *= 2
        self._replace(size)

    def _replace(self, size: int) -> None:
        held = self._end - self._start
        buf = bytearray(size)
        buf[:held] = self._view[self._start : self._end]
        self._view.release()
        self._buf, self._view = buf, memoryview(buf)
        self._start, self._end = 0, held


def is_plain(value: Any, depth: int = MAX_VALUE_DEPTH) -> bool:
    """True if a value can be packed as it stands. This is the hot path: no path, no message."""
    kind = type(value)
    if kind is dict:
        if depth == 0:
            return False
        for key, item in value.items():
            if type(key) is not str or "\0" in key:
                return False
            kind = type(item)
            if kind is str:
                if "\0" in item:
                    return False
            elif item is None or kind is bool:
                continue
            elif kind is int:
                if item > _INT_MAX or item < _INT_MIN:
                    return False
            elif kind is float:
                if item - item != 0.0:
                    return False
            elif not is_plain(item, depth - 1):
                return False
        return True
    if kind is list:
        if depth == 0:
            return False
        for item in value:
            if not is_plain(item, depth - 1):
                return False
        return True
    if kind is str:
        return "\0" not in value
    if kind is bool or value is None:
        return True
    if kind is int:
        return bool(_INT_MIN <= value <= _INT_MAX)
    return kind is float and bool(value - value == 0.0)


def to_json_value(value: Any, path: str = "", depth: int = MAX_VALUE_DEPTH) -> Any:
    """``value`` in the JSON data model, or ConversionError naming the place that cannot be.

    Tuples and sets become arrays; dates RFC 3339 strings; UUIDs, decimals and paths strings; enums
    their value; dataclasses and models with ``model_dump`` maps; keys that are numbers, booleans or
    None the strings that JSON would use.
    """
    if value is None or isinstance(value, bool):
        return None if value is None else bool(value)
    if isinstance(value, enum.Enum):
        return to_json_value(value.value, path, depth)
    if isinstance(value, str):
        return _checked_text(str(value), path)
    if isinstance(value, numbers.Integral):
        number = int(value)
        if not _INT_MIN <= number <= _INT_MAX:
            raise ConversionError("integer does not fit 64 bits", path)
        return number
    if isinstance(value, numbers.Real):
        real = float(value)
        if real - real != 0.0:
            raise ConversionError("NaN and infinity are not allowed", path)
        return real
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (uuid.UUID, os.PathLike)) or _is_decimal(value):
        return str(value)
    if depth == 0:
        raise ConversionError("nested too deeply, or a value contains itself", path)
    if isinstance(value, Mapping):
        return _map(value, path, depth)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_json_value(v, f"{path}[{i}]", depth - 1) for i, v in enumerate(value)]
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return to_json_value(dump(mode="json"), path, depth)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return _map(fields, path, depth)
    raise ConversionError(f"a value of type {type(value).__name__} cannot be stored", path)


def _is_decimal(value: Any) -> bool:
    decimal = sys.modules.get("decimal")  # who has one has imported it
    return decimal is not None and isinstance(value, decimal.Decimal)


def safe_text(value: Any, limit: int) -> str:
    """Any text in a form that can be sent and stored: no lone surrogates, no U+0000."""
    cut = str(value)[:limit].replace("\0", "\\0")
    return cut if cut.isascii() else cut.encode("utf-8", "backslashreplace").decode("utf-8")


def _map(value: Mapping[Any, Any], path: str, depth: int) -> Dict[str, Any]:
    out: Dict[str, Any] = {}
    for key, item in value.items():
        name = _key(key, path)
        if name in out:
            raise ConversionError(f"key {name!r} occurs twice", path)
        out[name] = to_json_value(item, f"{path}.{name}" if path else name, depth - 1)
    return out


def _checked_text(text: str, path: str) -> str:
    if "\0" in text:
        raise ConversionError("U+0000 cannot be stored", path)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as exc:
            raise ConversionError(f"text with {text[exc.start]!r}, half of a surrogate pair, cannot be stored", path) from exc
    return text


def _key(key: Any, path: str) -> str:
    if isinstance(key, enum.Enum):
        key = key.value
    if isinstance(key, str):
        return _checked_text(str(key), path)
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    if isinstance(key, (int, float, uuid.UUID)):
        return str(key)
    raise ConversionError(f"map key of type {type(key).__name__} is not a string", path)


def plain(value: Any, path: str = "") -> Any:
    """``value`` itself if it can be packed as it stands, else its JSON form."""
    return value if is_plain(value) else to_json_value(value, path)


def pack_checked(pack: Pack, value: Any, path: str = "") -> bytes:
    """Pack a value that came from user code; ConversionError if that is impossible."""
    value = plain(value, path)
    try:
        return pack(value)
    except (ValueError, OverflowError) as exc:  # a lone surrogate, a string above 4 GiB
        to_json_value(value, path)  # knows the place
        raise ConversionError(str(exc), path) from exc


def pack_message(pack: Pack, head: Sequence[Any], params: Mapping[str, Any]) -> bytes:
    """The same for an envelope: ``head``, and params in which the place is named."""
    params = plain(params)
    try:
        return pack([*head, params])
    except (ValueError, OverflowError) as exc:
        to_json_value(params)
        raise ConversionError(str(exc)) from exc


def count_items(value: Any) -> int:
    """MessagePack items of a value, as the daemon's limit counts them."""
    total, stack = 0, [value]
    while stack:
        item = stack.pop()
        total += 1
        if isinstance(item, dict):
            total += len(item)
            stack.extend(item.values())
        elif isinstance(item, (list, tuple)):
            stack.extend(item)
    return total


def fits(packed: bytes, value: Any, max_bytes: int, max_items: int) -> bool:
    """True if a packed value respects both limits. Counts only where the size alone does not tell."""
    if len(packed) > max_bytes:
        return False
    return len(packed) <= max_items or count_items(value) <= max_items


def split_limits(limits: Mapping[str, Any]) -> Tuple[int, int]:
    """``(bytes, items)`` that one list item may have, leaving room for what surrounds it in the frame."""
    return int(limits["max_frame"]) - 64, int(limits["max_items"]) - 16

"""Bytes and values: the golden vectors, framing in any cut, and what user values become."""

import dataclasses
import datetime
import decimal
import enum
import json
import math
import os
import unittest
import uuid

import support

import msgpack
from taskerd import _codec as codec
from taskerd.exceptions import ConversionError, ProtocolError

VECTORS = os.path.join(support.HERE, "..", "..", "..", "protocol", "vectors")

#: Well-formed for a reader that trusts the daemon: this side need not refuse these.
TOLERATED = ("duplicate map key", "nested too deeply", "too many items")


def vectors(name):
    path = os.path.join(VECTORS, name + ".json")
    if not os.path.exists(path):
        raise unittest.SkipTest("no vectors beside this copy")
    with open(path, encoding="utf-8") as stream:
        return json.load(stream)


def meaning(value):
    """The Python value of a vector's meaning."""
    if isinstance(value, list):
        return [meaning(v) for v in value]
    if isinstance(value, dict):
        if len(value) == 1:
            ((key, inner),) = value.items()
            if key == "$bin":
                return bytes.fromhex(inner)
            if key == "$int":
                return int(inner)
            if key == "$float":
                return float(inner)
        return {k: meaning(v) for k, v in value.items()}
    return value


def same(a, b):
    """Equality that tells 1 from 1.0 and 0.0 from -0.0, and finds NaN equal to itself."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    return a == b


class Vectors(unittest.TestCase):
    def test_frames(self):
        for v in vectors("frames"):
            with self.subTest(v["name"]):
                # The envelope is no matter of framing: look at the values below it.
                data, limit = bytes.fromhex(v["hex"]), v["limit"]
                values, left = self.cut(data, limit)
                self.assertTrue(same(values, meaning(v["meaning"]["frames"])))
                self.assertEqual(left, v["meaning"]["left"])

    def cut(self, data, limit):
        found = []
        check, codec.check_envelope = codec.check_envelope, lambda value: value
        try:
            reader = codec.FrameReader(limit)
            for i in range(len(data)):
                reader.feed(data[i : i + 1])
                found += reader.take()
        finally:
            codec.check_envelope = check
        return found, reader._end - reader._start

    def test_values(self):
        for v in vectors("values"):
            with self.subTest(v["name"]):
                data, value = bytes.fromhex(v["hex"]), meaning(v["meaning"])
                self.assertTrue(same(codec.decode(data), value), codec.decode(data))
                if v.get("canonical", True):
                    self.assertEqual(codec.new_packer()(value), data)

    def test_values_outside_the_json_model_are_refused_before_they_are_sent(self):
        count = 0
        for v in vectors("values"):
            value = meaning(v["meaning"])
            with self.subTest(v["name"]):
                if "refused" in v:
                    count += 1
                    self.assertFalse(codec.is_plain(value))
                    with self.assertRaises(ConversionError):
                        codec.to_json_value(value)
                elif not v["name"].startswith("depth 30"):
                    self.assertTrue(codec.is_plain(value))
                    self.assertTrue(same(codec.to_json_value(value), value))
        self.assertGreater(count, 5)

    def test_hostile(self):
        for v in vectors("hostile"):
            if v["refused_by"] not in ("frame", "scan", "envelope"):
                continue
            with self.subTest(v["name"]):
                data = bytes.fromhex(v["hex"])
                limit = v.get("limits", {}).get("max_payload", 65536)
                reader = codec.FrameReader(limit)
                if v["refused_by"] != "frame":
                    if not data or v["why"] in TOLERATED or v["name"] == "bin key":
                        continue
                    data = codec.frame(data)
                with self.assertRaises(ProtocolError):
                    reader.feed(data)
                    reader.take()
                    reader.take()

    def test_messages_to_clients_are_accepted(self):
        count = 0
        for v in vectors("messages"):
            if not v["valid"] or v["direction"] != "to_client":
                continue
            with self.subTest(v["name"]):
                count += 1
                envelope = codec.check_envelope(codec.decode(bytes.fromhex(v["hex"])))
                self.assertTrue(same(envelope, meaning(v["meaning"])))
        self.assertGreater(count, 30)


class Framing(unittest.TestCase):
    def stream(self):
        values = [[2, "a", {"n": i, "pad": "x" * (i * 37 % 5000)}] for i in range(60)]
        values.append([1, 7, None, {"big": "y" * 300000}])
        values.append([2, "end", {}])
        return values, b"".join(codec.frame(msgpack.packb(v)) for v in values)

    def test_any_cut_gives_the_same_frames(self):
        values, data = self.stream()
        for size in (1, 3, 4, 5, 1000, 65536, 70001, len(data)):
            with self.subTest(size):
                reader, found = codec.FrameReader(1 << 22), []
                for i in range(0, len(data), size):
                    reader.feed(data[i : i + size])
                    found += reader.take()
                self.assertEqual(found, values)

    def test_a_large_frame_does_not_keep_its_memory(self):
        reader = codec.FrameReader(1 << 22)
        reader.feed(codec.frame(msgpack.packb([2, "big", {"x": "y" * (3 << 20)}])))
        self.assertEqual(len(reader.take()), 1)
        self.assertLess(len(reader._buf), 1 << 20)

    def test_a_length_over_the_limit_is_refused_before_anything_is_reserved(self):
        reader = codec.FrameReader(1000)
        reader.feed(b"\x7f\xff\xff\xff")
        with self.assertRaises(ProtocolError):
            reader.take()
        self.assertLess(len(reader._buf), 1 << 20)

    def test_list_frames_are_what_packing_the_whole_would_give(self):
        pack = codec.new_packer()
        for n in (0, 1, 15, 16, 65535, 65536):
            items = [{"n": 1}] * n
            prefix = codec.list_frame_prefix(pack, 2, "step.result", "results")
            payload = b"".join([prefix, codec.array_header(n)] + [pack(i) for i in items])
            self.assertEqual(payload, pack([2, "step.result", {"results": items}]))

    def test_count_items(self):
        self.assertEqual(codec.count_items({"a": [1, {"b": 2}], "c": None}), 9)
        self.assertEqual(codec.count_items(3), 1)


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Name(str):
    pass


@dataclasses.dataclass
class Point:
    x: int
    at: datetime.date


class Model:
    def model_dump(self, mode):
        return {"mode": mode, "when": datetime.date(2026, 1, 2)}


class UserValues(unittest.TestCase):
    def test_conversions(self):
        ident = uuid.uuid4()
        day = datetime.date(2026, 1, 2)
        cases = [
            ((1, 2), [1, 2]),
            ({3}, [3]),
            (Colour.RED, "red"),
            (Level.HIGH, 3),
            (Name("n"), "n"),
            (ident, str(ident)),
            (decimal.Decimal("1.10"), "1.10"),
            (day, "2026-01-02"),
            (datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc), "2026-01-02T00:00:00+00:00"),
            (Point(1, day), {"x": 1, "at": "2026-01-02"}),
            (Model(), {"mode": "json", "when": "2026-01-02"}),
            ({2: "a", None: "b", True: "c", Colour.RED: "d", 1.5: "e"},
             {"2": "a", "null": "b", "true": "c", "red": "d", "1.5": "e"}),
        ]  # fmt: skip
        for value, want in cases:
            with self.subTest(repr(value)):
                got = codec.plain({"k": value}, "r")["k"]
                self.assertTrue(same(got, want), got)
                self.assertTrue(codec.is_plain(got))

    def test_refusals_name_the_place(self):
        cases = [
            ({"a": [1, {"b": b"x"}]}, "r.a[1].b"),
            ({"a": float("nan")}, "r.a"),
            ({"a": 1 << 63}, "r.a"),
            ({"a": object()}, "r.a"),
            ({"a": {(1, 2): 3}}, "r.a"),
            ({"a": "x\0y"}, "r.a"),
            ({"a": {"x\0": 1}}, "r.a"),
            ({"a": {1: 1, "1": 2}}, "r.a"),
        ]
        for value, path in cases:
            with self.subTest(repr(value)):
                with self.assertRaises(ConversionError) as caught:
                    codec.plain(value, "r")
                self.assertEqual(caught.exception.path, path)

    def test_halves_of_surrogate_pairs_are_refused_with_their_place(self):
        pack = codec.new_packer()
        for value, path in (({"a": ["ok", {"b": "x\ud800"}]}, "a[1].b"), ({"a": {"\udcff": 1}}, "a")):
            for packing in (lambda: codec.pack_checked(pack, value), lambda: codec.pack_message(pack, (0, 1, "m"), value)):
                with self.assertRaises(ConversionError) as caught:
                    packing()
                self.assertEqual(caught.exception.path, path)
                self.assertIn("surrogate", str(caught.exception))
        self.assertEqual(codec.pack_checked(pack, {"a": "\U0001d11e"}), pack({"a": "\U0001d11e"}))

    def test_texts_for_people_are_mended(self):
        self.assertEqual(codec.safe_text("é\ud800\0", 3), "é\\ud800\\0")
        self.assertEqual(codec.safe_text("abc", 2), "ab")

    def test_depth(self):
        def nested(n):
            value = 1
            for i in range(n):
                value = [value] if i % 2 else {"k": value}
            return value

        self.assertTrue(codec.is_plain(nested(codec.MAX_VALUE_DEPTH)))
        self.assertFalse(codec.is_plain(nested(codec.MAX_VALUE_DEPTH + 1)))
        with self.assertRaises(ConversionError):
            codec.plain(nested(codec.MAX_VALUE_DEPTH + 1))
        loop = []
        loop.append(loop)
        with self.assertRaises(ConversionError):
            codec.plain(loop)
        # In the deepest frame there is, that is the protocol's 30.
        frame = [2, "step.result", {"results": [{"result": nested(codec.MAX_VALUE_DEPTH)}]}]
        depth, level = 0, [frame]
        while level:
            inner = []
            for v in level:
                inner += v.values() if isinstance(v, dict) else v if isinstance(v, list) else []
            depth += any(isinstance(v, (dict, list)) for v in level)
            level = inner
        self.assertEqual(depth, 30)

    def test_a_lone_surrogate_is_refused(self):
        with self.assertRaises(ConversionError):
            codec.pack_checked(codec.new_packer(), {"a": "\udc80"})

    def test_fits_counts_only_when_the_size_does_not_tell(self):
        pack = codec.new_packer()
        many = list(range(100))
        text = ["x" * 200]
        self.assertFalse(codec.fits(pack(many), many, 1000, 100))
        self.assertTrue(codec.fits(pack(many), many, 1000, 101))
        self.assertTrue(codec.fits(pack(text), text, 1000, 5))
        self.assertFalse(codec.fits(pack(text), text, 100, 5))


class Envelopes(unittest.TestCase):
    def test_what_is_no_envelope(self):
        for value in (None, {}, [], [2, "m"], [2, 3, {}], [2, "m", []], [0, 1, "ping", {}], [1, "1", None, {}],
                      [1, 1, "no", None], [1, 1, {"code": "x"}, {}], [3, 1, "m", {}]):  # fmt: skip
            with self.subTest(repr(value)):
                with self.assertRaises(ProtocolError):
                    codec.check_envelope(value)


if __name__ == "__main__":
    unittest.main()

"""What is small to send and large to work through: templates, schemas, patterns. It is refused or done within its bounds, and who sends much of it waits longer than the others."""
import fcntl
import json
import os
import termios
import unittest

import harness
import wire
from harness import step, template
from wire import User

ANN, BOB = 70001, 70002
DEAR = {"allOf": [{"pattern": "^(((a{1,30}){1,30}){1,30})$"} for _ in range(3000)]}  # half a second, in 130 KiB


class Bombs(harness.SharedCase):
	@classmethod
	def prepare(cls, stage):
		stage.db = stage.database()
		stage.node = stage.daemon(stage.db, socket_mode="0666")

	@classmethod
	def tearDownClass(cls):
		harness.Case.tearDownClass.__func__(cls)  # no ledger here

	def schema(self, name, schema):
		"""A template with this input_schema, if it can be had."""
		self.apply(self.node, template(name, [step("a")], input_schema=schema))

	def validate(self, source):
		return self.node.client.request("template.validate", {"source": source})

	def test_templates(self):
		laughs = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join("%s: &%s [%s]\n" % (b, b, ",".join(["*" + a] * 9)) for a, b in zip("abcdefgh", "bcdefghi"))
		for source in laughs, "{a: " * 100000, "[" * 1000000, "- " * 1000000, "a: 1\n" * 300000, "name: *x\n", template("a", [step("s%d" % i, after=["s%d" % ((i + 1) % 5000)]) for i in range(5000)]), template(
				"b", [step("a")], input_schema=DEAR):
			answer = self.validate(source)
			self.assertFalse(answer["ok"], source[:40])
			self.assertLessEqual(len(answer["findings"]), 1001)

	def test_schemas(self):
		"""References that multiply, and values compared with each other: the check is given up, and says so."""
		self.schema("doubling", {"$ref": "#/$defs/s0", "$defs": {**{"s%d" % i: {"allOf": [{"$ref": "#/$defs/s%d" % (i + 1)}, {"$ref": "#/$defs/s%d" % (i + 1)}]} for i in range(40)}, "s40": {"minProperties": 0}}})
		self.schema("unique", {"properties": {"a": {"uniqueItems": True}}})
		self.schema("around", {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"required": ["none"]}, {"additionalProperties": {"$ref": "#/$defs/a"}}]}}})
		self.schema("pattern", {"properties": {"t": {"pattern": "^(a+)+$"}, "u": {"pattern": "^(([a-z])+.)+[A-Z]([a-z])+$"}}})
		deep = {}
		for _ in range(20):
			deep = {"x": deep, "y": deep} if len(json.dumps(deep)) < 100000 else {"x": deep}
		for name, context, code in (("doubling", {}, "invalid_context"), ("unique", {"a": [[i // 2] * 10 for i in range(1)] + [{"k": i} for i in range(20000)]}, None), ("around", deep, None),
		                            ("pattern", {"t": "a" * 50000 + "!", "u": "a" * 50000}, "invalid_context")):
			with self.subTest(name):
				try:
					self.node.client.request("task.create", {"name": name, "namespace": "t", "context": context})
					self.assertIsNone(code)
				except harness.TaskerdError as e:
					self.assertEqual(e.code, "invalid_context")

	def test_patterns_of_events(self):
		with wire.Wire(self.node.socket) as w:
			w.hello()
			w.call("event.subscribe", {"patterns": ["*a" * 127, "*" * 255, "*a*a*a*a*b"]})
			self.apply(self.node, template("any", [step("a")]))
			self.node.client.request("event.publish", {"name": "a" * 255, "namespace": "t", "delivery_mode": "fast"})
			self.assertEqual(len(w.note("event.message")["events"]), 1)

	@unittest.skipUnless(os.geteuid() == 0, "only root can be other users")
	def test_others_come_first(self):
		"""Ann's bombs and Bob's ping are there at once: he is answered after the first of them, not after all."""
		bomb = wire.frame([0, 1000, "template.validate", {"source": template("b", [step("a")], input_schema=DEAR)}])
		wires = [wire.Wire(self.node.socket, user=User(ANN)) for _ in range(8)]
		bob = wire.Wire(self.node.socket, user=User(BOB))
		for w in wires + [bob]:
			self.addCleanup(w.close)
			w.hello()
		self.node.process.freeze()
		for w in wires:
			w.asked.add(1000)
			w.send_bytes(bomb)
		ping = bob.ask("ping")
		self.node.process.thaw()
		bob.answer(ping)
		self.node.process.freeze()
		for w in wires:
			w.poll()
		self.node.process.thaw()
		answered = sum(1000 in w.responses for w in wires)
		self.assertLess(answered, len(wires) - 1)
		for w in wires:
			self.assertFalse(w.answer(1000)["ok"])


class Waiting(harness.Case):
	"""What waits for the thread that reads templates has a bound; one text always may."""

	def test_texts(self):
		"""Five whose ends come at the same moment, together beyond the bound, the first one dear: one is refused meanwhile, and is welcome afterwards."""
		node = self.daemon(self.database(), max_frame="64MiB")
		padding = "\n#" + "x" * (15 << 20) + "\n"
		light, dear = template("b", [step("a")]) + padding, template("b", [step(name, result_schema=DEAR) for name in "ab"]) + padding
		wires = []
		for _ in range(5):
			wires.append(wire.Wire(node.socket))
			self.addCleanup(wires[-1].close)
			wires[-1].hello()
		for w in wires:
			w.asked.add(1000)
			w.send_bytes(wire.frame([0, 1000, "template.validate", {"source": dear if w is wires[0] else light}])[:-1])
		harness.wait_for(lambda: all(self.read(w) for w in wires), "all but the ends to be read")
		node.process.freeze()
		for w in wires:
			w.send_bytes(b"\n")
		node.process.thaw()
		errors = {w: self.refusal(w, 1000) for w in wires}
		refused = [w for w in wires if errors[w]]
		self.assertEqual([(errors[w]["code"], errors[w]["message"]) for w in refused], [("overloaded", "templates of more than 64 MiB wait to be read")])
		self.assertIsNone(self.refusal(refused[0], refused[0].ask("template.validate", {"source": light})))

	@staticmethod
	def read(w):
		"""The daemon has read what was sent."""
		return fcntl.ioctl(w.sock, termios.TIOCOUTQ, bytes(4)) == bytes(4)

	@staticmethod
	def refusal(w, request):
		"""The error that it is answered with, or None."""
		try:
			w.answer(request)
		except wire.Refused as e:
			return e.error
		return None


if __name__ == "__main__":
	unittest.main()

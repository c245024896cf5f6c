"""What others may have written into the database's queues, and numbers that no worker can be given. Whoever can write there is trusted not to destroy anything, but not to be
right: a message that taskerd has not written may be lost, and holds up nothing that stands behind it."""
import itertools
import json
import unittest

import harness
import pg
import wire
from harness import step, template, wait_for
from pg import lit

# Keys of the engine's own messages with what does not belong there. `p` is read when a message that was delayed is due.
KEYS = {
	"t": ["text", "", 1.5, -1, 1e30, 10 ** 400, True, None, [1], {"t": 1}, "9223372036854775808", "Infinity", "1; DROP TABLE tasker.tasks"],
	"s": [2 ** 31, -2 ** 31 - 1, "0x10", 0.5, [], -1],
	"f": [2 ** 31, "NaN", 1e-300, {}, -1],
	"p": [2 ** 31, "high", 10 ** 9, -10 ** 9, 101, [], None],
}
WHOLE = [None, 1, "text", [], {}, [{"t": 1}], {"event": "not of taskerd"}]
VT = ["-infinity", "1999-01-01", "now", "infinity", "4000-01-01"]


def messages():
	for key, values in KEYS.items():
		for value in values:
			yield dict({"t": 1, "s": 0, "f": 0}, **{key: value})
	yield from WHOLE


class Messages(harness.Case):
	def setUp(self):
		super().setUp()
		self.db = self.database()
		self.node = self.daemon(self.db)
		self.apply(self.node, template("pair", [step("a", "w.a"), step("b", "w.b", after=["a"])]))
		self.queues = dict(self.db.sql("SELECT callable, queue_name FROM tasker.handlers"))

	def put(self, queue, message, vt):
		self.db.sql("INSERT INTO pgmq.q_%s (vt, message) VALUES (%s::timestamptz, %s)" % (queue, lit(vt), "NULL" if message is None else lit(json.dumps(message)) + "::jsonb"))

	def worker(self, *handlers):
		worker = wire.Worker(self.node.socket, list(handlers or self.queues))
		self.at_end(worker.close)
		return worker

	def runs(self, worker, task):
		worker.finish(worker.take())
		worker.finish(worker.take())
		self.assertEqual(self.finished(self.node, task).state, "complete")

	def left(self, queue, where):
		return self.db.number("SELECT count(*) FROM pgmq.%s_%s%s" % (where, queue, " WHERE vt <= now()" if where == "q" else ""))

	def test_before_steps(self):
		"""Of each kind one, at every time, ahead of a step: all gone or not yet due, and what taskerd could not have written is in the archive."""
		queue = self.queues["w.a"]
		task = self.create(self.node, "pair")
		n = 0
		for message, vt in itertools.product(messages(), VT):
			self.put(queue, message, vt)
			n += 1
		self.assertIs(self.node.client.request("doctor", {})["ok"], True)
		self.assertIn(queue, [q["queue"] for q in self.node.client.request("queue.list", {})["queues"]])
		worker = self.worker()
		self.runs(worker, task)
		kept = self.left(queue, "a")
		self.assertGreater(kept, 50)
		wait_for(lambda: self.left(queue, "q") == 0, "what is due is gone")
		self.assertIn("%d messages" % kept, self.node.log_text())
		self.doctor(self.node)

	def test_one_at_a_time(self):
		queue = self.queues["w.a"]
		for message in messages():
			self.put(queue, message, "now")
			task = self.create(self.node, "pair")
			for name in ("w.a", "w.b"):
				w = self.worker(name)
				w.finish(w.take())
				w.close()
			self.assertEqual(self.finished(self.node, task).state, "complete", message)

	def test_before_tasks_that_begin_later(self):
		queue = "orchestration_task_requests"
		task = self.create(self.node, "pair", run_at=self.db.value("SELECT to_char((now() + interval '1 hour') AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"))
		for message, vt in itertools.product(messages(), VT):
			self.put(queue, message, vt)
		self.assertIs(self.node.client.request("doctor", {})["ok"], True)
		self.db.sql("UPDATE pgmq.q_%s SET vt = now() WHERE message = (SELECT jsonb_build_object('t', task_id) FROM tasker.tasks)" % queue)
		worker = self.worker()
		self.create(self.node, "pair", run_at=self.db.value("SELECT to_char((now() + interval '1 second') AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"))
		self.runs(worker, task)
		self.assertGreater(self.left(queue, "a"), 50)
		self.doctor(self.node)

	def test_among_events(self):
		self.apply(self.node, template("tells", [dict(step("a", "w.e"), publishes_events=[{"name": "e.f", "schema": True, "condition": "success", "delivery_mode": "durable"}])]))
		queue = self.db.value("SELECT event_queue FROM tasker.namespaces WHERE name = 't'")
		for message, vt in itertools.product(messages(), VT):
			self.put(queue, message, vt)
		for headers in messages():
			self.db.sql("INSERT INTO pgmq.q_%s (vt, message, headers) VALUES (now(), '{}', %s)" % (queue, lit(json.dumps(headers))))
		self.assertIs(self.node.client.request("doctor", {})["ok"], True)
		self.assertEqual(len(self.node.client.request("event.list", {})["queues"]), 1)
		task = self.create(self.node, "tells")
		worker = self.worker("w.e")
		worker.finish(worker.take())
		self.finished(self.node, task)
		got = []
		while True:
			page = self.node.client.request("event.consume", {"namespace": "t", "max": 100, "visibility_ms": 600000, "wait_ms": 1})["messages"]
			if not page:
				break
			got += page
		self.assertEqual([m["event"]["payload"]["task_sequence_step"]["task"]["task_uuid"] for m in got if isinstance(m["event"], dict) and "event_id" in m["event"]], [task])
		self.assertGreater(len(got), 150)
		self.assertEqual(self.node.client.request("event.ack", {"namespace": "t", "ids": [m["msg_id"] for m in got]})["missing"], [])

	def test_a_step_in_the_queue_of_another_handler(self):
		"""It is run by a worker that can, once."""
		task = self.create(self.node, "pair")
		self.db.sql("WITH d AS (DELETE FROM pgmq.q_%s RETURNING vt, message) INSERT INTO pgmq.q_%s (vt, message) SELECT vt, message FROM d" % (self.queues["w.a"], self.queues["w.b"]))
		other = self.worker("w.b")
		wait_for(lambda: self.left(self.queues["w.b"], "q") == 0, "the message is taken")
		worker = self.worker("w.a")
		worker.finish(worker.take())
		given = other.take()
		self.assertEqual(given["step"], "b")
		other.finish(given)
		self.assertEqual(self.finished(self.node, task).state, "complete")
		self.assertEqual(self.db.value("SELECT string_agg(outcome::text, ' ' ORDER BY outcome) FROM tasker.step_attempts WHERE outcome <> 'released'"), "success success")
		self.doctor(self.node)


class Numbers(harness.Case):
	"""JSON knows numbers that no worker's language has."""

	def setUp(self):
		super().setUp()
		self.db = self.database()
		self.node = self.daemon(self.db)

	def test_in_the_context_of_an_sql_caller(self):
		self.apply(self.node, template("one", [step("a", "w.a")]))
		for number in ("1e309", "-1e400", "[1, {\"a\": 2e308}]", "1" + "0" * 309):
			with self.assertRaises(pg.PgError) as caught:
				self.db.sql("SELECT tasker.create_task('one', 't', context => '{\"n\": %s}')" % number)
			self.assertEqual(caught.exception.sqlstate, "TK400", number)
			self.assertIn("outside the range of a double", str(caught.exception))
		worker = wire.Worker(self.node.socket, ["w.a"])
		self.at_end(worker.close)
		for number in ("1.7976931348623157e308", "-1e308", "1e-400", "123456789012345678901234567890", "\"%s\"" % ("9" * 400)):
			task = self.db.value("SELECT tasker.create_task('one', 't', context => '{\"n\": %s}')" % number)
			given = worker.take()
			self.assertEqual(given["task_uuid"], task)
			if number[0] != "\"":
				self.assertEqual(given["context"]["n"], float(number), number)
			worker.finish(given)
			self.assertEqual(self.finished(self.node, task).state, "complete")

	def test_in_the_cursors_of_a_batch(self):
		"""Ranges at the ends of what fits, and cursors that are no ranges, make batches; the number of items is left out where there is none."""
		self.apply(self.node, template("batch", [dict(step("split", "w.split"), type="batchable"), dict(step("w", "w.w", after=["split"]), type="batch_worker")]))
		worker = wire.Worker(self.node.socket, ["w.split", "w.w"], concurrency=10)
		self.at_end(worker.close)
		low, high = -2 ** 63, 2 ** 63 - 1
		cursors = [(low, high), (low, low), (0.5, 1.25), (-1.7e308, 1.7e308), (1e300, 1e301), ("a", "z"), (None, 7)]
		task = self.create(self.node, "batch")
		worker.finish(worker.take(), {"batch_processing_outcome": {"type": "create_batches", "cursor_configs": [{"start_cursor": a, "end_cursor": b} for a, b in cursors]}})
		given = sorted(worker.take(len(cursors)), key=lambda s: s["step"])
		sizes = []
		for s, (a, b) in zip(given, cursors):
			cursor = s["inputs"]["cursor"]
			self.assertEqual((cursor.get("start_cursor"), cursor.get("end_cursor")), (a, b))
			sizes.append(cursor.get("batch_size"))
			worker.finish(s)
		self.assertEqual(sizes, [None, 0, 0.75, None, None, None, None])
		self.assertEqual(self.finished(self.node, task).state, "complete")
		self.doctor(self.node)


if __name__ == "__main__":
	unittest.main()

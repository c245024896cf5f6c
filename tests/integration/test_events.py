"""Domain events: what steps declare is published if and only if the end of their attempt is recorded; durable events are consumed once acknowledged, fast ones are pushed."""
import os
import subprocess
import unittest

import harness
import wire
from harness import step, wait_for

CONDITIONS = ("success", "failure", "retryable_failure", "permanent_failure", "always")
MODES = ("durable", "fast", "broadcast")


def declared(name, condition="success", mode="durable", schema=True, **more):
	return {"name": name, "condition": condition, "delivery_mode": mode, "schema": schema, **more}


def publishing(name, events, handler="h", **more):
	return {**step(name, handler, **more), "publishes_events": events}


def names(events):
	return sorted(e["event_name"] for e in events)


class EventCase(wire.Case):
	def subscribe(self, *patterns, node=None, **more):
		w = self.wire(node=node)
		w.call("event.subscribe", {"patterns": list(patterns) or ["*"], "namespaces": [self.ns], **more})
		return w

	def pushed(self, w, n):
		"""The first n events pushed to a session."""
		got, lost = [], 0
		while len(got) < n:
			message = w.note("event.message")
			got += message["events"]
			lost += message["lost"]
		self.assertEqual((len(got), lost), (n, 0))
		return got

	def none_pushed(self, w):
		self.assertEqual([m for m, _ in w.silent() if m == "event.message"], [])

	def consume(self, client=None, **params):
		messages = (client or self.client).call("event.consume", {"namespace": self.ns, "max": 100, **params})["messages"]
		for m in messages:
			wire.need("message", m, {"msg_id": int, "read_count": int, "enqueued_at": str, "visible_at": str, "event": object})
			wire.check_event(m["event"])
		return messages

	def drain(self, **params):
		"""Consume and acknowledge what there is; the events."""
		messages = self.consume(**params)
		if messages:
			answer = self.client.call("event.ack", {"namespace": self.ns, "ids": [m["msg_id"] for m in messages]})
			self.assertEqual(answer, {"done": len(messages), "missing": []})
		return [m["event"] for m in messages]

	def counters(self, node=None):
		return (node or self.node).info()["counters"]

	def doctor(self):
		checks = {c["name"]: c for c in self.client.call("doctor")["checks"]}
		self.assertIn("events_were_recorded", checks)
		self.assertEqual([c for c in checks.values() if not c["ok"]], [])


class Publishing(EventCase):
	def every_event(self):
		return [declared("%s.%s" % (mode, c), c, mode) for c in CONDITIONS for mode in MODES]

	def expected(self, *conditions):
		durable = sorted("%s.%s" % (m, c) for m in ("durable", "broadcast") for c in conditions)
		return durable, sorted("%s.%s" % (m, c) for m in ("fast", "broadcast") for c in conditions)

	def test_conditions_and_modes(self):
		"""Three ends of attempts: a failure that is retried, the last failure, a success."""
		self.template("all", [publishing("s", self.every_event(), attempts=2)])
		fast, worker = self.subscribe(), self.worker()
		failed, good = self.create("all"), None
		for conditions, ends in ((("failure", "retryable_failure", "always"), lambda s: worker.fail(s)),
		                         (("failure", "permanent_failure", "always"), lambda s: worker.fail(s)),
		                         (("success", "always"), lambda s: worker.finish(s, {"n": 7}))):
			if "success" in conditions:
				good = self.create("all")
			s = worker.take()
			self.assertEqual([(e["condition"], e["delivery_mode"]) for e in s["publishes_events"]], [(c, m) for c in CONDITIONS for m in MODES])
			ends(s)
			self.assertEqual(worker.acked(s), "recorded")
			durable, pushed = self.expected(*conditions)
			events = self.drain()
			self.assertEqual(names(events), durable)
			copies = self.pushed(fast, len(pushed))
			self.assertEqual(names(copies), pushed)
			by_id = {e["event_id"]: e for e in events}
			for e in copies:
				if e["event_name"].startswith("broadcast"):
					self.assertEqual(by_id[e["event_id"]], e, "the same event both ways")
		self.assertEqual((self.settled(failed), self.settled(good)), ("blocked_by_failures", "complete"))
		self.assertEqual(self.drain(), [])
		self.none_pushed(fast)

	def test_a_permanent_error_is_a_permanent_failure(self):
		self.template("all", [publishing("s", self.every_event(), attempts=5)])
		worker = self.worker()
		self.create("all")
		worker.fail(worker.take(), retryable=False)
		events = self.drain(wait_ms=60000)
		self.assertEqual(names(events), self.expected("failure", "permanent_failure", "always")[0])

	def test_what_an_event_says(self):
		self.template("order", [publishing("charge", [declared("payment.charged", publisher="Billing::Publisher")], attempts=4)], version="2.1.0")
		worker = self.worker()
		task = self.create("order", correlation_id="req-7", context={"secret": True})
		s = worker.take()
		worker.finish(s, {"amount": 19.98}, execution_ms=12.5)
		(e,) = self.drain(wait_ms=60000)
		self.assertRegex(e["event_id"], "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
		self.assertEqual((e["event_name"], e["event_version"]), ("payment.charged", "1.0"))
		self.assertEqual(e["payload"], {
			"payload": {"amount": 19.98},
			"task_sequence_step": {"task": {"task_uuid": task, "namespace": self.ns, "name": "order", "version": "2.1.0"},
			                       "workflow_step": {"step_uuid": s["step_uuid"], "name": "charge", "template_step_name": "charge", "attempts": 1, "max_attempts": 4}},
			"execution_result": {"success": True, "status": "success", "step_uuid": s["step_uuid"], "attempt": 1, "execution_ms": 12.5,
			                     "worker_uuid": worker.welcome["worker_uuid"]}})
		at = e["metadata"].pop("fired_at")
		self.assertEqual(e["metadata"], {"task_uuid": task, "step_uuid": s["step_uuid"], "step_name": "charge", "namespace": self.ns, "correlation_id": "req-7", "fired_by": "default"})
		recorded = self.client.call("task.history", {"task_uuid": task})["attempts"][0]["recorded_at"]
		self.assertEqual(at, recorded)

	def test_a_failure_carries_its_error(self):
		self.template("order", [publishing("charge", [declared("payment.declined", "failure")], attempts=1)])
		worker = self.worker()
		task = self.create("order")
		worker.fail(worker.take(), "no money", error={"error_type": "Declined", "context": {"null": None}})
		(e,) = self.drain(wait_ms=60000)
		error = {"message": "no money", "retryable": True, "error_type": "Declined", "context": {"null": None}}
		self.assertEqual(e["payload"]["payload"], error)
		self.assertEqual(e["payload"]["execution_result"]["error"], error)
		self.assertEqual(e["payload"]["execution_result"]["status"], "handler_error")
		self.assertEqual(e["metadata"]["correlation_id"], task)

	def test_ends_without_a_worker_s_word(self):
		"""A timeout, a lost worker and a rejected result are failures; steps given back and cancelled ones publish nothing."""
		self.template("quiet", [publishing("s", self.every_event(), attempts=2, timeout=4)])
		self.create("quiet")
		worker = self.worker()
		s = worker.take()
		self.assertEqual(worker.cancelled(s), "timeout")
		worker.finish(s)
		self.assertEqual(worker.acked(s), "stale")
		first = self.drain(wait_ms=60000)
		self.assertEqual(names(first), self.expected("failure", "retryable_failure", "always")[0])
		self.assertEqual({e["payload"]["payload"]["error_type"] for e in first}, {"timeout"})
		s = worker.take()
		worker.results(wire.ok(s, {"deep": float("nan")}))
		self.assertEqual(worker.acked(s), "rejected")
		second = self.drain(wait_ms=60000)
		self.assertEqual(names(second), self.expected("failure", "permanent_failure", "always")[0])
		self.assertEqual({e["payload"]["execution_result"]["status"] for e in second}, {"invalid_result"})

	def test_a_lost_worker(self):
		self.template("lost", [publishing("s", self.every_event(), attempts=1)])
		self.create("lost")
		child = subprocess.Popen([harness.PYTHON, "-c", LOSES_ITSELF, self.node.socket, self.ns], cwd=os.path.dirname(os.path.abspath(__file__)))
		self.addCleanup(child.wait)
		events = self.drain(wait_ms=60000)
		self.assertEqual(names(events), self.expected("failure", "permanent_failure", "always")[0])
		self.assertEqual({e["payload"]["execution_result"]["status"] for e in events}, {"worker_lost"})

	def test_given_back_and_cancelled_publish_nothing(self):
		self.template("none", [publishing("s", self.every_event())])
		first = self.worker()
		task = self.create("none")
		first.take()
		first.notify("goodbye")
		first.close()
		second = self.worker()
		s = second.take()
		self.assertEqual(s["attempt"], 1)
		self.client.call("task.cancel", {"task_uuid": task})
		self.assertEqual(second.cancelled(s), "task_cancelled")
		self.assertEqual(self.attempts(task), [("s", 1, "released"), ("s", 1, "cancelled")])
		self.assertEqual(self.drain(), [])

	def test_repeated_results_publish_once(self):
		self.template("once", [publishing("s", [declared("a.b", "always", "broadcast")])])
		fast, worker = self.subscribe(), self.worker()
		self.create("once")
		s = worker.take()
		worker.results(wire.ok(s), wire.ok(s), wire.bad(s))
		worker.until(lambda: len(worker.acks.get(wire.key(s), ())) == 3, "three acks")
		self.assertEqual(sorted(a["status"] for a in worker.acks.pop(wire.key(s))), ["duplicate", "duplicate", "recorded"])
		worker.results(wire.ok(s))
		self.assertEqual(worker.acked(s), "duplicate")
		self.assertEqual(len(self.drain(wait_ms=60000)), 1)
		self.pushed(fast, 1)
		self.none_pushed(fast)

	def test_many_tasks_at_once(self):
		"""Batches of results in which only some declare events, of two namespaces."""
		n = 60
		self.template("some", [publishing("a", [declared("a.done", "success", "broadcast")]), step("b", "h", after=["a"])])
		other = self.ns + "x"
		self.client.call("template.apply", {"source": harness.template("other", [publishing("a", [declared("x.done")])], namespace=other)})
		fast, worker = self.subscribe(), self.worker(concurrency=20, namespaces=[self.ns, other])
		self.client.call("task.create_many", {"tasks": [{"name": "some", "namespace": self.ns}] * n + [{"name": "other", "namespace": other}] * n})
		for i in range(3 * n):
			s = worker.take()
			worker.finish(s, {"i": i})
		events = []
		while len(events) < n:
			events += self.drain(wait_ms=60000)
		self.assertEqual(len({e["metadata"]["task_uuid"] for e in events}), n)
		self.assertEqual({e["event_id"] for e in self.pushed(fast, n)}, {e["event_id"] for e in events})
		mine, self.ns = self.ns, other
		got = []
		while len(got) < n:
			got += self.drain(wait_ms=60000)
		self.assertEqual(names(got), ["x.done"] * n)
		self.ns = mine
		self.doctor()

	def test_a_success_that_the_engine_does_not_accept(self):
		"""A decision with an outcome that cannot be done has failed, whatever its worker says: its events are those of a failure."""
		self.template("branch", [step("a", "h"), {**publishing("d", self.every_event(), after=["a"]), "type": "decision"}, step("x", "h", after=["d"])])
		worker = self.worker()
		task = self.create("branch")
		worker.finish(worker.take())
		s = worker.take()
		worker.results(wire.ok(s, {"decision_point_outcome": {"type": "create_steps", "step_names": ["nowhere"]}},
		                       events=[{"name": "durable.permanent_failure", "payload": "not of a failure"}]))
		self.assertEqual(worker.acked(s), "rejected")
		events = self.drain(wait_ms=60000)
		self.assertEqual(names(events), self.expected("failure", "permanent_failure", "always")[0])
		self.assertEqual({e["payload"]["payload"]["error_type"] for e in events}, {"InvalidDecisionOutcome"})
		self.client.call("task.cancel", {"task_uuid": task})

	def test_a_result_that_does_not_fit_its_schema(self):
		self.template("strict", [{**publishing("s", self.every_event()), "result_schema": {"type": "object", "required": ["id"]}}])
		worker = self.worker()
		self.create("strict")
		s = worker.take()
		worker.results(wire.ok(s, {"no": "id"}, events=[{"name": "durable.always", "payload": "of a success"}]))
		self.assertEqual(worker.acked(s), "rejected")
		events = self.drain(wait_ms=60000)
		self.assertEqual(names(events), self.expected("failure", "permanent_failure", "always")[0])
		self.assertEqual({e["payload"]["payload"]["error_type"] for e in events}, {"SchemaViolation"})

	def test_instances_of_a_batch(self):
		self.template("batch", [
			{**publishing("split", [declared("batch.split")]), "type": "batchable"},
			{**publishing("work", [declared("batch.part", "success", "broadcast")], after=["split"]), "type": "batch_worker"},
			{**step("join", "h", after=["work"]), "type": "deferred_convergence"}])
		worker, fast = self.worker(concurrency=4), self.subscribe()
		task = self.create("batch")
		cursors = [{"batch_id": "b%d" % i, "start_cursor": 10 * i, "end_cursor": 10 * i + 10, "batch_size": 10} for i in range(3)]
		worker.finish(worker.take(), {"batch_processing_outcome": {"type": "create_batches", "worker_template_name": "work", "worker_count": 3, "cursor_configs": cursors, "total_items": 30}})
		for _ in range(3):
			s = worker.take()
			self.assertEqual([e["name"] for e in s["publishes_events"]], ["batch.part"])
			worker.finish(s)
		worker.finish(worker.take())
		self.assertEqual(self.settled(task), "complete")
		events = self.drain()
		self.assertEqual(names(events), ["batch.part"] * 3 + ["batch.split"])
		parts = sorted((e["metadata"]["step_name"], e["payload"]["task_sequence_step"]["workflow_step"]["template_step_name"]) for e in events if e["event_name"] == "batch.part")
		self.assertEqual(parts, [("work_b0", "work"), ("work_b1", "work"), ("work_b2", "work")])
		self.pushed(fast, 3)
		self.doctor()

	def test_the_doctor_notices(self):
		self.template("doc", [publishing("s", [declared("a.b")])])
		worker = self.worker()
		self.create("doc")
		worker.finish(worker.take())
		wait_for(lambda: self.consume(visibility_ms=1000) or None, "the event")
		self.doctor()
		queue = self.ns + "_domain_events"
		self.db.sql("INSERT INTO pgmq.q_%s (vt, message, headers) SELECT now(), message, headers FROM pgmq.q_%s" % (queue, queue))
		bad = [c["name"] for c in self.client.call("doctor")["checks"] if not c["ok"]]
		self.assertEqual(bad, ["events_were_recorded"])
		self.db.sql("TRUNCATE pgmq.q_%s" % queue)

	def test_a_queue_that_was_dropped_is_made_again(self):
		self.template("again", [publishing("s", [declared("a.b")])])
		self.db.sql("SELECT pgmq.drop_queue('%s_domain_events')" % self.ns)
		worker = self.worker()
		self.create("again")
		worker.finish(worker.take())
		self.assertEqual(names(self.drain(wait_ms=60000)), ["a.b"])

	def test_namespaces_that_differ_in_case_have_queues_of_their_own(self):
		upper = self.ns.upper()
		self.template("low", [publishing("s", [declared("low.event")])])
		self.client.call("template.apply", {"source": harness.template("up", [publishing("s", [declared("up.event")])], namespace=upper)})
		worker = self.worker(namespaces=[self.ns, upper])
		for ns, name in (self.ns, "low"), (upper, "up"):
			self.client.call("task.create", {"name": name, "namespace": ns})
			worker.finish(worker.take())
		self.assertEqual(names(self.drain(wait_ms=60000)), ["low.event"])
		self.ns = upper
		self.assertEqual(names(self.drain(wait_ms=60000)), ["up.event"])


LOSES_ITSELF = """
import os, sys
import wire
w = wire.Worker(sys.argv[1], ["h"], namespaces=[sys.argv[2]])
w.take()
os._exit(0)
"""


class Publishers(EventCase):
	"""What workers say of their steps' events."""

	def setUp(self):
		super().setUp()
		self.made = 0
		self.template("first", [step("s", "h")])
		self.hands = self.worker()

	def publish(self, events, said):
		"""A step that succeeds with {"r": 1}; its attempt."""
		self.made += 1
		name = "t%d" % self.made
		self.template(name, [publishing("s", events)])
		task = self.create(name)
		s = self.hands.take()
		self.hands.results(wire.ok(s, {"r": 1}, events=said))
		self.assertEqual(self.hands.acked(s), "recorded")
		return self.client.call("task.history", {"task_uuid": task})["attempts"][0]

	def test_another_payload_and_metadata(self):
		self.publish([declared("a.one", publisher="My::Own"), declared("a.two")],
		             [{"name": "a.one", "payload": [1, {"é": None}], "metadata": {"shelf": 7, "task_uuid": "forged", "fired_by": "forged"}}])
		one, two = self.drain()
		self.assertEqual((one["payload"]["payload"], two["payload"]["payload"]), ([1, {"é": None}], {"r": 1}))
		self.assertEqual((one["metadata"]["shelf"], one["metadata"]["fired_by"], two["metadata"]["fired_by"]), (7, "My::Own", "default"))
		self.assertNotEqual(one["metadata"]["task_uuid"], "forged")

	def test_suppressed(self):
		self.publish([declared("a.one"), declared("a.two"), declared("a.three", "failure")], [{"name": "a.one", "payload": None, "skip": True}, {"name": "a.three", "payload": 1}])
		self.assertEqual(names(self.drain()), ["a.two"])

	def test_a_publisher_that_fails(self):
		before = self.counters()["events_refused"]
		attempt = self.publish([declared("a.one"), declared("a.two")], [{"name": "a.one", "failed": "no key to mask with"}])
		self.assertEqual(attempt["outcome"], "success")
		self.assertEqual(attempt["metadata"]["event_errors"], [{"name": "a.one", "message": "its publisher has failed: no key to mask with"}])
		self.assertEqual(names(self.drain()), ["a.two"])
		self.assertEqual(self.counters()["events_refused"], before + 1)

	def test_what_is_not_declared_is_told(self):
		attempt = self.publish([declared("a.one")], [{"name": "b.other", "payload": 1}])
		self.assertEqual(attempt["metadata"]["event_errors"], [{"name": "b.other", "message": "the step declares no event of this name"}])
		self.assertEqual(names(self.drain()), ["a.one"])
		attempt = self.publish([], [{"name": "b.other"}])
		self.assertEqual([e["name"] for e in attempt["metadata"]["event_errors"]], ["b.other"])

	def test_nonsense_never_fails_the_step(self):
		before = self.counters()["events_refused"]
		of_none = ["text", 7, {"name": "a.one"}, [7], [{}], [{"name": ""}], [{"name": 5}], [{"name": "a.one"}] * 65]
		of_one = [{"skip": "yes"}, {"metadata": []}, {"failed": 7}, {"payload": float("inf")}, {"payload": b"bytes"}, {"payload": {"deep": "x" * (1 << 20)}},
		          {"payload": 2 ** 64 - 1}, {"payload": "\0"}]
		for said in of_none + [[{"name": "a.one", **case}] for case in of_one]:
			with self.subTest(said=repr(said)[:80]):
				attempt = self.publish([declared("a.one")], said)
				self.assertEqual(attempt["outcome"], "success")
				(error,) = attempt["metadata"]["event_errors"]
				if said in of_none:
					self.assertIn("events", error["message"])
					(e,) = self.drain()
					self.assertEqual(e["payload"]["payload"], {"r": 1}, "the default")
				else:
					self.assertEqual(error["name"], "a.one")
					self.assertEqual(self.drain(), [], "its default payload may be what was to be changed")
		self.assertEqual(self.counters()["events_refused"], before + len(of_none) + len(of_one))
		self.assertIn("domain events of step", self.node.log_text())

	def test_metadata_of_the_attempt_is_kept(self):
		self.template("meta", [publishing("s", [declared("a.one")])])
		worker = self.hands
		for metadata in {"host": "w1"}, {}, None, [1], "text":
			task = self.create("meta")
			s = worker.take()
			worker.results(wire.ok(s, metadata=metadata, events=7))
			worker.acked(s)
			seen = self.client.call("task.history", {"task_uuid": task})["attempts"][0]["metadata"]
			self.assertEqual(len(seen.pop("event_errors")), 1)
			self.assertEqual(seen, metadata if isinstance(metadata, dict) else {} if metadata is None else {"metadata": metadata})


class Schemas(EventCase):
	"""An event whose payload does not fit its schema is not published; that is told, and the step goes on."""

	SCHEMA = {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}, "message": {"type": "string"}}}

	def test_success(self):
		self.template("s", [publishing("s", [declared("strict.durable", schema=self.SCHEMA), declared("strict.fast", "always", "fast", self.SCHEMA), declared("loose"), declared("never", schema=False)])])
		fast, worker = self.subscribe(), self.worker()
		before = self.counters()["events_refused"]
		for result, good in (({"id": 1}, True), ({"id": "x"}, False), ({}, False), ([], False)):
			task = self.create("s")
			s = worker.take()
			worker.finish(s, result, metadata={"host": "w"})
			self.assertEqual(worker.acked(s), "recorded")
			self.assertEqual(self.settled(task), "complete")
			self.assertEqual(names(self.drain()), ["loose", "strict.durable"] if good else ["loose"])
			if good:
				self.assertEqual(names(self.pushed(fast, 1)), ["strict.fast"])
			self.none_pushed(fast)
			metadata = self.client.call("task.history", {"task_uuid": task})["attempts"][0]["metadata"]
			self.assertEqual(metadata["host"], "w")
			self.assertEqual([e["name"] for e in metadata["event_errors"]], ["never"] if good else ["strict.durable", "strict.fast", "never"])
			self.assertTrue(good or "payload" in metadata["event_errors"][0]["message"], metadata)
		self.assertEqual(self.counters()["events_refused"], before + 1 + 3 * 3)
		wait_for(lambda: "3 domain events of step" in self.node.log_text(), "the log line")

	def test_of_custom_payloads_and_failures(self):
		self.template("s", [publishing("s", [declared("a.one", "always", schema=self.SCHEMA)], attempts=3)])
		worker = self.worker()
		self.create("s")
		s = worker.take()
		worker.fail(s)
		self.assertEqual(worker.acked(s), "recorded")
		self.assertEqual(self.drain(), [])
		s = worker.take()
		worker.results(wire.bad(s, events=[{"name": "a.one", "payload": {"id": 5}}]))
		worker.acked(s)
		self.assertEqual([e["payload"]["payload"] for e in self.drain()], [{"id": 5}])
		s = worker.take()
		worker.results(wire.ok(s, {"id": 1}, events=[{"name": "a.one", "payload": {"id": None}}]))
		worker.acked(s)
		self.assertEqual(self.drain(), [])

	def test_a_bad_schema_is_refused_at_load(self):
		for schema in {"type": "thing"}, {"$ref": "http://elsewhere/x"}, 5:
			e = self.client.refused("template.apply", {"source": harness.template("bad", [publishing("s", [declared("a.b", schema=schema)])], namespace=self.ns)})
			self.assertEqual(e.code, "invalid_template")
			self.assertIn("publishes_events[0].schema", repr(e.error["details"]))


class Subscribing(EventCase):
	def publish(self, *event_names, node=None, **more):
		for name in event_names:
			self.client.call("event.publish", {"name": name, "namespace": self.ns, "payload": {"of": name}, "delivery_mode": "fast", **more})

	def setUp(self):
		super().setUp()
		self.template("any", [step("s", "h")])

	def test_patterns(self):
		heard = {p: self.subscribe(*p) for p in ((("*"),), ("payment.*",), ("payment.charged", "stock.*"), ("*.low",), ("nothing",), ("payment.*", "*"))}
		self.publish("payment.charged", "payment.card.declined", "payment", "stock.low", "Stock.Low")
		expected = {(("*"),): [0, 1, 2, 3, 4], ("payment.*",): [0, 1], ("payment.charged", "stock.*"): [0, 3], ("*.low",): [3], ("nothing",): [], ("payment.*", "*"): [0, 1, 2, 3, 4]}
		every = ["payment.charged", "payment.card.declined", "payment", "stock.low", "Stock.Low"]
		for patterns, w in heard.items():
			want = [every[i] for i in expected[patterns]]
			self.assertEqual([e["event_name"] for e in self.pushed(w, len(want))], want, patterns)
			self.none_pushed(w)

	def test_namespaces(self):
		other = self.ns + "b"
		self.client.call("template.apply", {"source": harness.template("any", [step("s", "h")], namespace=other)})
		w = self.wire()
		w.call("event.subscribe", {"patterns": ["only.mine"], "namespaces": [self.ns]})
		w.call("event.subscribe", {"patterns": ["all"], "namespaces": []})
		w.call("event.subscribe", {"patterns": ["both"], "namespaces": [other, self.ns]})
		for ns in self.ns, other:
			for name in "only.mine", "all", "both":
				self.client.call("event.publish", {"name": name, "namespace": ns, "delivery_mode": "fast"})
		self.assertEqual([(e["metadata"]["namespace"], e["event_name"]) for e in self.pushed(w, 5)],
		                 [(self.ns, "only.mine"), (self.ns, "all"), (self.ns, "both"), (other, "all"), (other, "both")])
		w.call("event.subscribe", {"patterns": ["only.mine"], "namespaces": [other]})
		self.publish("only.mine")
		self.none_pushed(w)

	def test_unsubscribe(self):
		w = self.subscribe("a.*", "b.*", "c")
		self.assertEqual(w.call("event.unsubscribe", {"patterns": ["b.*"]})["patterns"], ["a.*", "c"])
		self.publish("b.x", "a.x")
		self.assertEqual(names(self.pushed(w, 1)), ["a.x"])
		e = w.refused("event.unsubscribe", {"patterns": ["c", "b.*"]})
		self.assertEqual((e.code, e.path), ("not_found", "patterns[1]"))
		self.assertEqual(w.call("event.unsubscribe", {}), {"patterns": []})
		self.publish("a.x", "c")
		self.none_pushed(w)
		self.assertEqual(w.call("event.unsubscribe", {}), {"patterns": []})
		self.assertEqual(w.call("event.subscribe", {"patterns": ["c"]}), {"patterns": ["c"]})

	def test_bad_requests(self):
		w = self.wire()
		cases = [({}, "patterns"), ({"patterns": []}, "patterns"), ({"patterns": "a"}, "patterns"), ({"patterns": [1]}, "patterns"), ({"patterns": ["a", ""]}, "patterns[1]"),
		         ({"patterns": ["x" * 256]}, "patterns[0]"), ({"patterns": ["a\n"]}, "patterns[0]"), ({"patterns": ["a\0"]}, "patterns"), ({"patterns": ["a"] * 65}, "patterns"),
		         ({"patterns": ["a"], "namespaces": "x"}, "namespaces"), ({"patterns": ["a"], "namespaces": [""]}, "namespaces[0]"), ({"patterns": ["a"], "namespaces": ["x" * 30]}, "namespaces[0]")]
		for params, path in cases:
			with self.subTest(params=params):
				e = w.refused("event.subscribe", params)
				self.assertEqual((e.code, e.path), ("bad_request", path))
		for k in range(4):
			w.call("event.subscribe", {"patterns": ["p%d.%d" % (k, i) for i in range(64)]})
		e = w.refused("event.subscribe", {"patterns": ["one.more"]})
		self.assertEqual((e.code, e.path), ("overloaded", "patterns"))
		self.assertEqual(len(w.call("event.subscribe", {"patterns": ["p0.0"]})["patterns"]), 256)

	def test_publish(self):
		w = self.subscribe()
		mine = "01900000-0000-7000-8000-00000000e001"
		answer = self.client.call("event.publish", {"name": "own.event", "namespace": self.ns, "payload": [None, 1.5], "delivery_mode": "broadcast", "event_id": mine,
		                                            "correlation_id": "c", "fired_by": "me", "metadata": {"m": 1, "namespace": "forged"}})
		self.assertEqual((answer["event_id"], type(answer["msg_id"])), (mine, int))
		(e,) = self.pushed(w, 1)
		self.assertEqual(e["payload"], {"payload": [None, 1.5]})
		del e["metadata"]["fired_at"]
		self.assertEqual(e["metadata"], {"m": 1, "namespace": self.ns, "correlation_id": "c", "fired_by": "me"})
		self.assertEqual(self.consume()[0]["msg_id"], answer["msg_id"])
		answer = self.client.call("event.publish", {"name": "least", "namespace": self.ns})
		(m,) = self.consume()
		self.assertEqual((m["event"]["payload"], m["event"]["metadata"]["fired_by"], m["event"]["metadata"]["correlation_id"]), ({"payload": None}, "wire/1", answer["event_id"]))
		self.assertEqual(set(self.client.call("event.publish", {"name": "quick", "namespace": self.ns, "delivery_mode": "fast"})), {"event_id"})
		self.assertEqual(names(self.pushed(w, 1)), ["quick"])

	def test_bad_events(self):
		cases = [({}, "bad_request", "name"), ({"name": ""}, "bad_request", "name"), ({"name": "a\nb"}, "bad_request", "name"), ({"name": "x" * 256}, "bad_request", "name"),
		         ({"name": "a", "delivery_mode": "slow"}, "bad_request", "delivery_mode"), ({"name": "a", "event_id": "x"}, "bad_request", "event_id"),
		         ({"name": "a", "metadata": []}, "bad_request", "metadata"), ({"name": "a", "payload": {"x": float("nan")}}, "invalid_value", "payload.x"),
		         ({"name": "a", "payload": "x" * ((1 << 20) + 1)}, "too_large", "payload"), ({"name": "a", "metadata": {"x": b"1"}}, "invalid_value", "metadata.x"),
		         ({"name": "a", "namespace": "nowhere"}, "not_found", "namespace")]
		for params, code, path in cases:
			with self.subTest(params=repr(params)[:80]):
				e = self.client.refused("event.publish", {"namespace": self.ns, **params})
				self.assertEqual((e.code, e.path), (code, path))

	def test_a_slow_subscriber_loses_events_and_is_told(self):
		"""It reads nothing while far more is published than is kept for it; others lose nothing, and the daemon's memory is bounded."""
		slow, quick = self.subscribe("big"), self.subscribe("big")
		payload, n = "x" * 100000, 120
		before = self.counters()
		got = []
		memory = wire.rss(self.node.pid)
		for i in range(n):
			self.client.call("event.publish", {"name": "big", "namespace": self.ns, "payload": [i, payload], "delivery_mode": "fast"})
			got += self.pushed(quick, 1)
		self.assertEqual([e["payload"]["payload"][0] for e in got], list(range(n)))
		if not wire.SANITIZED:
			self.assertLess(wire.rss(self.node.pid) - memory, 40)
		after = self.counters()
		lost = after["events_lost"] - before["events_lost"]
		self.assertGreater(lost, n // 2)
		self.assertEqual(after["events_pushed"] - before["events_pushed"], 2 * n - lost)
		seen, told = [], 0
		while len(seen) + told < n:
			message = slow.note("event.message")
			seen += [e["payload"]["payload"][0] for e in message["events"]]
			told += message["lost"]
		self.assertEqual((len(seen), told), (n - lost, lost))
		self.assertEqual(seen, list(range(len(seen))), "the first ones, in order")
		self.client.call("event.publish", {"name": "big", "namespace": self.ns, "payload": ["again"], "delivery_mode": "fast"})
		self.assertEqual(self.pushed(slow, 1)[0]["payload"]["payload"], ["again"])

	def test_an_event_larger_than_a_frame_is_lost_for_the_socket_only(self):
		w = self.subscribe()
		many = [0] * 262110  # fits into the frame of the request, but not into that of an event
		self.client.call("event.publish", {"name": "huge", "namespace": self.ns, "payload": many, "delivery_mode": "fast"})
		self.assertEqual(w.note("event.message"), {"events": [], "lost": 1})


class Consuming(EventCase):
	def setUp(self):
		super().setUp()
		self.template("any", [step("s", "h")])

	def put(self, *event_names, client=None):
		return [(client or self.client).call("event.publish", {"name": n, "namespace": self.ns, "payload": n})["msg_id"] for n in event_names]

	def test_order_bounds_and_acknowledging(self):
		ids = self.put("a.1", "a.2", "b.1", "a.3")
		messages = self.consume(max=3)
		self.assertEqual([(m["msg_id"], m["read_count"], m["event"]["event_name"]) for m in messages], [(ids[0], 1, "a.1"), (ids[1], 1, "a.2"), (ids[2], 1, "b.1")])
		self.assertEqual([m["msg_id"] for m in self.consume()], [ids[3]])
		self.assertEqual(self.consume(), [])
		ack = lambda **p: self.client.call("event.ack", {"namespace": self.ns, **p})  # noqa: E731
		self.assertEqual(ack(ids=[ids[0], ids[1], ids[0], 10 ** 15]), {"done": 2, "missing": [10 ** 15]})
		self.assertEqual(ack(ids=ids[:2]), {"done": 0, "missing": ids[:2]})
		self.assertEqual(ack(ids=ids[2:], read_counts=[2, 1]), {"done": 1, "missing": [ids[2]]})
		listed = [q for q in self.client.call("event.list")["queues"] if q["namespace"] == self.ns]
		self.assertEqual(len(listed), 1)
		self.assertEqual({k: listed[0][k] for k in ("queue", "messages", "ready", "published")}, {"queue": self.ns + "_domain_events", "messages": 1, "ready": 0, "published": 4})

	def test_patterns(self):
		self.put("a.1", "b.1", "a_1", "a%1", "a\\1")
		for patterns, want in ((["b.*"], ["b.1"]), (["a_*"], ["a_1"]), (["a%1", "a\\*"], ["a%1", "a\\1"]), (["z"], []), (["*"], ["a.1"])):
			self.assertEqual([m["event"]["event_name"] for m in self.consume(patterns=patterns)], want)

	def test_redelivered_when_it_is_not_acknowledged(self):
		(msg,) = self.put("a.1")
		crashed = self.wire()
		(m,) = self.consume(crashed, visibility_ms=1000)
		crashed.close()
		(again,) = self.consume(wait_ms=60000)
		self.assertEqual((again["msg_id"], again["read_count"], again["event"]), (msg, 2, m["event"]))
		stale = self.client.call("event.ack", {"namespace": self.ns, "ids": [msg], "read_counts": [m["read_count"]]})
		self.assertEqual(stale, {"done": 0, "missing": [msg]}, "the first consumer's acknowledgement comes too late")
		self.assertEqual(self.client.call("event.ack", {"namespace": self.ns, "ids": [msg], "read_counts": [2]})["done"], 1)

	def test_given_back_and_held_longer(self):
		(msg,) = self.put("a.1")
		(m,) = self.consume(visibility_ms=1000)
		extend = lambda ms: self.client.call("event.extend", {"namespace": self.ns, "ids": [msg], "visibility_ms": ms})  # noqa: E731
		self.assertEqual(extend(3600000), {"done": 1, "missing": []})
		waits = self.client.ask("event.consume", {"namespace": self.ns, "wait_ms": 60000})
		self.assertEqual(extend(0), {"done": 1, "missing": []})
		(again,) = self.client.answer(waits)["messages"]
		self.assertEqual((again["msg_id"], again["read_count"]), (msg, 2))

	def test_waiting(self):
		"""The one that waits longest gets the message; the others go on waiting, and the last is answered without one."""
		w = self.wire()
		self.assertEqual(self.consume(w, wait_ms=1), [])
		calls = [w.ask("event.consume", {"namespace": self.ns, "wait_ms": 60000}) for _ in range(3)]
		short = w.ask("event.consume", {"namespace": self.ns, "wait_ms": 200, "patterns": ["other"]})
		w.call("ping")
		queries = self.counters()["queries"]
		first, second = self.put("a.1"), self.put("a.2")
		self.assertEqual([w.answer(c)["messages"][0]["msg_id"] for c in calls[:2]], first + second)
		self.assertEqual(w.answer(short), {"messages": []})
		self.assertLess(self.counters()["queries"] - queries, 30, "nobody polls")
		self.put("a.3")
		self.assertEqual(len(w.answer(calls[2])["messages"]), 1)

	def test_one_of_many_waits_for_its_pattern(self):
		w = self.wire()
		mine = w.ask("event.consume", {"namespace": self.ns, "wait_ms": 60000, "patterns": ["mine.*"]})
		w.call("ping")
		self.put("other.1", "other.2", "mine.1")
		self.assertEqual([m["event"]["event_name"] for m in w.answer(mine)["messages"]], ["mine.1"])

	def test_a_consumer_that_leaves_while_it_is_served(self):
		"""What was taken for it is given back, and others need not wait for the visibility."""
		with self.db.cluster.session(self.db.name) as lock:
			(msg,) = self.put("a.1")
			lock.run("BEGIN; LOCK TABLE pgmq.q_%s_domain_events IN ACCESS EXCLUSIVE MODE" % self.ns)
			w = self.wire()
			w.ask("event.consume", {"namespace": self.ns, "visibility_ms": 3600000})
			wait_for(lambda: self.db.number("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") > 0, "the call to wait")
			w.close()
			wait_for(lambda: self.node.info()["sessions"] <= 2, "the daemon to notice")
			lock.run("COMMIT")
		(m,) = self.consume(wait_ms=60000)
		self.assertEqual((m["msg_id"], m["read_count"]), (msg, 2))

	def test_bounds(self):
		w = self.wire()
		for _ in range(64):
			w.ask("event.consume", {"namespace": self.ns, "wait_ms": 3600000})
		e = w.refused("event.consume", {"namespace": self.ns, "wait_ms": 1})
		self.assertEqual(e.code, "overloaded")
		w.close()
		w = self.wire()
		for params, path in (({"max": 0}, "max"), ({"max": 1001}, "max"), ({"visibility_ms": 999}, "visibility_ms"), ({"wait_ms": -1}, "wait_ms"), ({"patterns": []}, "patterns"),
		                     ({"patterns": ["\x7f"]}, "patterns[0]"), ({"namespace": ""}, "namespace")):
			e = w.refused("event.consume", {"namespace": self.ns, **params})
			self.assertEqual((e.code, e.path), ("bad_request", path), params)
		for params, path in (({}, "ids"), ({"ids": []}, "ids"), ({"ids": [-1]}, "ids"), ({"ids": ["1"]}, "ids"), ({"ids": [1.0]}, "ids"), ({"ids": [2 ** 64 - 1]}, "ids"),
		                     ({"ids": [1] * 1001}, "ids"), ({"ids": [1, 2], "read_counts": [1]}, "read_counts"), ({"ids": [1], "read_counts": [-1]}, "read_counts")):
			e = w.refused("event.ack", {"namespace": self.ns, **params})
			self.assertEqual((e.code, e.path), ("bad_request", path), params)
		e = w.refused("event.extend", {"namespace": self.ns, "ids": [1]})
		self.assertEqual((e.code, e.path), ("bad_request", "visibility_ms"))
		for method, params in (("event.consume", {}), ("event.ack", {"ids": [1]}), ("event.extend", {"ids": [1], "visibility_ms": 0})):
			e = w.refused(method, {"namespace": "nowhere", **params})
			self.assertEqual((e.code, e.path), ("not_found", "namespace"))

	def test_large_messages_come_in_several_answers(self):
		big = "x" * 900000
		for _ in range(5):
			self.client.call("event.publish", {"name": "big", "namespace": self.ns, "payload": big})
		sizes = []
		while sum(sizes) < 5:
			sizes.append(len(self.consume(wait_ms=60000)))
		self.assertGreater(len(sizes), 1)
		self.assertTrue(all(sizes))


if __name__ == "__main__":
	unittest.main()

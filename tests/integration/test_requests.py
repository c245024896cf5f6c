"""What a client may ask of the daemon: every request of PROTOCOL.md, right and wrong, as a client written from that page alone would send it."""
import os
import unittest

import harness
import wire
from harness import step
from shapes import NOBODY, STEP_ROW, TASK, TIME, UUID, vectors


class Requests(wire.Case):
	"""What a client may ask."""

	def setUp(self):
		super().setUp()
		self.template("pair", [step("a", "h"), step("b", "h", after=["a"])])

	def check_task(self, task, steps=True):
		wire.need("task", task, *TASK)
		self.assertEqual(task["state"], task["status"])
		self.assertRegex(task["task_uuid"], UUID)
		for name in "created_at", "updated_at", "finished_at":
			if task.get(name):
				self.assertRegex(task[name], TIME)
		self.assertEqual("steps" in task, steps)
		for row in task.get("steps", []):
			wire.need("step", row, *STEP_ROW)
		return task

	# -- what is wrong with a request ---------------------------------------------------------------

	def test_fields_are_checked_and_named(self):
		u = NOBODY
		whole = {"name": "x", "namespace": "t", "version": "1.0.0", "context": {}, "reason": "r"}
		wrong = {
			"task.create": [({}, "name"), ({"name": 1}, "name"), ({"name": ""}, "name"), ({"name": "x" * 256}, "name"), ({"name": "a\0"}, "name"),
			                ({"name": "x", "namespace": ""}, "namespace"), ({"name": "x", "namespace": 1}, "namespace"), ({"name": "x", "version": []}, "version"),
			                ({"name": "x", "context": []}, "context"), ({"name": "x", "context": "{}"}, "context"), ({"name": "x", "initiator": {}}, "initiator"),
			                ({"name": "x", "source_system": "x" * 129}, "source_system"), ({"name": "x", "reason": "x" * 129}, "reason"), ({"name": "x", "tags": "t"}, "tags"),
			                ({"name": "x", "tags": [1]}, "tags"), ({"name": "x", "tags": ["a\0"]}, "tags"), ({"name": "x", "priority": 101}, "priority"), ({"name": "x", "priority": -101}, "priority"),
			                ({"name": "x", "priority": 1.0}, "priority"), ({"name": "x", "priority": "1"}, "priority"), ({"name": "x", "priority": True}, "priority"),
			                ({"name": "x", "priority": 2 ** 64 - 1}, "priority"), ({"name": "x", "priority": -2 ** 63}, "priority"),
			                ({"name": "x", "correlation_id": 1}, "correlation_id"), ({"name": "x", "parent_correlation_id": b"x"}, "parent_correlation_id"),
			                ({"name": "x", "traceparent": 1}, "traceparent"), ({"name": "x", "idempotency_key": "x" * 257}, "idempotency_key"), ({"name": "x", "idempotency_key": 1}, "idempotency_key"),
			                ({"name": "x", "run_at": 5}, "run_at"), ({"name": "x", "run_at": "tomorrow"}, "run_at"), ({"name": "x", "run_at": "2030-02-30T00:00:00Z"}, "run_at"),
			                ({"name": "x", "run_at": "2030-01-01T00:00:00"}, "run_at"), ({"name": "x", "run_at": "1969-12-31T00:00:00Z"}, "run_at")],
			"task.create_many": [({}, "tasks"), ({"tasks": {}}, "tasks"), ({"tasks": []}, "tasks"), ({"tasks": [{}] * 5001}, "tasks")],
			"task.get": [({}, "task_uuid"), ({"task_uuid": u, "limit": 0}, "limit"), ({"task_uuid": u, "limit": 5001}, "limit"), ({"task_uuid": u, "readiness": 1}, "readiness"), ({"task_uuid": u, "cursor": 1}, "cursor"), ({"task_uuid": "x"}, "task_uuid"), ({"task_uuid": 1}, "task_uuid"), ({"task_uuid": u + " "}, "task_uuid"), ({"task_uuid": u, "steps": 1}, "steps")],
			"task.list": [({"page": 0}, "page"), ({"page": 1, "cursor": "5"}, "page"), ({"initiator": ""}, "initiator"), ({"source_system": 1}, "source_system"), ({"namespace": 1}, "namespace"), ({"name": 1}, "name"), ({"state": 1}, "state"), ({"limit": 0}, "limit"), ({"limit": 1001}, "limit"), ({"limit": "5"}, "limit"), ({"cursor": 5}, "cursor"),
			              ({"states": []}, "states"), ({"states": ["x"] * 13}, "states"), ({"paused": "no"}, "paused"), ({"priority_min": 101}, "priority_min"), ({"created_after": "soon"}, "created_after"),
			              ({"updated_before": 1}, "updated_before"), ({"version": "x" * 65}, "version"), ({"tag": ""}, "tag"), ({"correlation_id": []}, "correlation_id")],
			"task.wait": [({}, "task_uuid"), ({"task_uuid": u, "timeout_ms": -1}, "timeout_ms"), ({"task_uuid": u, "timeout_ms": "1"}, "timeout_ms"), ({"task_uuid": u, "timeout_ms": 2 ** 40}, "timeout_ms")],
			"task.watch": [({}, "task_uuid")], "task.unwatch": [({}, "task_uuid")], "task.history": [({}, "task_uuid"), ({"task_uuid": "'"}, "task_uuid"), ({"task_uuid": u, "step": 1}, "step"),
			                ({"task_uuid": u, "limit": 0}, "limit"), ({"task_uuid": u, "limit": 1001}, "limit"), ({"task_uuid": u, "cursor": 5}, "cursor")],
			"dlq.list": [({"status": "open"}, "status"), ({"reason": 1}, "reason"), ({"reason": "bad luck"}, "reason"), ({"limit": 0}, "limit"), ({"offset": -1}, "offset"), ({"offset": 100001}, "offset"), ({"snapshots": 1}, "snapshots"), ({"cursor": "x"}, "cursor"), ({"namespace": 1}, "namespace"), ({"name": 1}, "name")],
			"dlq.get": [({}, "entry"), ({"entry": "x"}, "entry"), ({"task_uuid": 1}, "task_uuid"), ({"entry": u, "task_uuid": u}, "entry")],
			"dlq.stats": [({"namespace": []}, "namespace")], "dlq.queue": [({"limit": 1001}, "limit"), ({"namespace": ""}, "namespace")],
			"dlq.add": [({}, "task_uuid"), ({"task_uuid": u, "notes": "x" * 4097}, "notes"), ({"task_uuid": u, "metadata": []}, "metadata")],
			"dlq.update": [({}, "entry"), ({"entry": u, "status": 1}, "status"), ({"entry": u, "notes": 1}, "notes"), ({"entry": u, "resolved_by": ""}, "resolved_by"), ({"entry": u, "metadata": 1}, "metadata")],
			"dlq.redrive": [({}, "reason"), ({"reason": "r"}, "entry"), ({"entry": u, "reason": ""}, "reason"), ({"entry": u, "reason": "r", "operator": 1}, "operator")],
			"dlq.staleness": [({"health": 1}, "health"), ({"limit": "1"}, "limit"), ({"namespace": 1}, "namespace")],
			"namespace.retention": [({}, "namespace"), ({"namespace": self.ns, "state": "pending"}, "state"), ({"namespace": self.ns, "keep_minutes": -1}, "keep_minutes"), ({"namespace": self.ns, "forever": 1}, "forever"),
			                        ({"namespace": self.ns, "inherit": "no"}, "inherit"), ({"namespace": self.ns, "action": "burn", "forever": True}, "action"), ({"namespace": self.ns, "action": "delete"}, "keep_minutes")],
			"token.create": [({"roles": ["read"]}, "name"), ({"name": "x"}, "roles"), ({"name": "x", "roles": []}, "roles"), ({"name": "x", "roles": ["fly"]}, "roles[0]"), ({"name": "x", "roles": "read"}, "roles"),
			                 ({"name": "-x", "roles": ["read"]}, "name"), ({"name": "x y", "roles": ["read"]}, "name"), ({"name": "x", "roles": ["read"], "namespaces": []}, "namespaces"),
			                 ({"name": "x", "roles": ["read"], "namespaces": ["t", "*"]}, "namespaces[1]"), ({"name": "x", "roles": ["read"], "expires_at": "soon"}, "expires_at"),
			                 ({"name": "x", "roles": ["read"], "expires_at": "2001-01-01T00:00:00Z"}, "expires_at")],
			"token.list": [({"all": 1}, "all")], "token.revoke": [({}, "token"), ({"token": ""}, "token"), ({"token": "x", "reason": 1}, "reason")],
			"audit.list": [({"task_uuid": "x"}, "task_uuid"), ({"action": "task.fly"}, "action"), ({"action": "tas"}, "action"), ({"who": ""}, "who"), ({"request": "x"}, "request"), ({"after": "soon"}, "after"),
			               ({"before": 5}, "before"), ({"limit": 1001}, "limit"), ({"cursor": "x"}, "cursor"), ({"namespace": 1}, "namespace")],
			"task.cancel": [({}, "task_uuid"), ({"task_uuid": u, "reason": 1}, "reason")],
			"template.apply": [({}, "source"), ({"source": 1}, "source"), ({"source": ""}, "source"), ({"source": "x", "filename": 1}, "filename"), ({"source": "x", "strict": "yes"}, "strict")],
			"template.validate": [({}, "source")],
			"template.list": [({"namespace": 1}, "namespace")],
			"template.get": [({}, "name"), ({"name": "x", "namespace": 1}, "namespace"), ({"name": "x", "version": 1}, "version")],
			"task.action": [({}, "task_uuid"), ({"task_uuid": u}, "action"), ({"task_uuid": u, "action": 5, "reason": "r"}, "action"), ({"task_uuid": u, "action": "pause"}, "reason"),
			                ({"task_uuid": u, "action": "pause", "reason": 1}, "reason"), ({"task_uuid": u, "action": "pause", "reason": "x" * 1025}, "reason"),
			                ({"task_uuid": u, "action": "pause", "reason": "r", "operator": {}}, "operator")],
			"step.action": [({}, "action"), ({"action": "skip"}, "reason"), ({"step_uuid": "x", "action": "skip", "reason": "r"}, "step_uuid"), ({"task_uuid": 1, "action": "skip", "reason": "r"}, "task_uuid"),
			                ({"task_uuid": u, "step": [], "action": "skip", "reason": "r"}, "step"), ({"action": "skip", "reason": "r"}, "step_uuid"), ({"task_uuid": u, "action": "skip", "reason": "r"}, "step_uuid")],
			"step.get": [({}, "step_uuid"), ({"step_uuid": 1}, "step_uuid"), ({"task_uuid": u}, "step_uuid"), ({"task_uuid": u, "step": "a", "history": 1}, "history")],
			"step.replay": [({}, "step_uuid"), ({"step_uuid": 1}, "step_uuid"), ({"task_uuid": u}, "step_uuid"), ({"task_uuid": u, "step": 7}, "step")],
			"task.bulk_action": [({}, "action"), ({"action": "pause"}, "filter"), ({"action": "pause", "filter": []}, "filter"), ({"action": "pause", "filter": {"all": True}}, "reason"),
			                     ({"action": "pause", "filter": {"all": True}, "reason": "r", "limit": 1001}, "limit"), ({"action": "pause", "filter": {"all": True}, "reason": "r", "dry_run": 1}, "dry_run"),
			                     ({"action": "pause", "filter": {"all": True}, "reason": "r", "cursor": 1}, "cursor")],
			"step.bulk_action": [({}, "action"), ({"action": "skip", "filter": "x"}, "filter"), ({"action": "skip", "filter": {}, "reason": "r"}, "filter")],
			"namespace.pause": [({}, "namespace"), ({"namespace": "t"}, "reason"), ({"namespace": 1, "reason": "r"}, "namespace")], "namespace.resume": [({"namespace": "t"}, "reason")],
			"step.checkpoint": [({}, "step_uuid"), ({"step_uuid": u}, "attempt"), ({"step_uuid": u, "attempt": 1}, "claim"), ({"step_uuid": u, "attempt": 1, "claim": b"x" * 16}, "cursor"),
			                    ({"step_uuid": u, "attempt": 1, "claim": b"x" * 15, "cursor": 1}, "claim"), ({"step_uuid": u, "attempt": 1, "claim": 7, "cursor": 1}, "claim"),
			                    ({"step_uuid": u, "attempt": 1, "claim": b"x" * 16, "cursor": 1, "items_processed": -1}, "items_processed"), ({"step_uuid": u, "attempt": 1, "claim": b"x" * 16, "cursor": 1, "yield": 1}, "yield")],
			"step.dependencies": [({}, "step_uuid"), ({"step_uuid": "x"}, "step_uuid"), ({"step_uuid": u, "names": "a"}, "names"), ({"step_uuid": u, "names": [1]}, "names"), ({"step_uuid": u, "cursor": 1}, "cursor")],
			"session.resume": [({}, "steps"), ({"steps": {}}, "steps")],
			"task.restore": [({}, "name"), ({**whole, "context": []}, "context"), ({**whole, "version": 1}, "version"), ({**whole, "namespace": "x" * 30}, "namespace"), ({**whole, "priority": 101}, "priority"),
			                 ({**whole, "tags": ["t"] * 101}, "tags"), ({**whole, "correlation_id": "x" * 257}, "correlation_id"), ({k: whole[k] for k in whole if k != "reason"}, "reason")],
			"worker.get": [({}, "worker_uuid"), ({"worker_uuid": "x"}, "worker_uuid")], "worker.drain": [({"reason": "r"}, "worker_uuid"), ({"worker_uuid": u}, "reason"), ({"worker_uuid": 1, "reason": "r"}, "worker_uuid")],
			"queue.purge": [({}, "namespace"), ({"namespace": "t"}, "handler"), ({"namespace": "t", "handler": "h"}, "reason"), ({"namespace": "t", "handler": "x" * 2001, "reason": "r"}, "handler"),
			                ({"namespace": "t", "handler": "h", "reason": "r", "dry_run": 1}, "dry_run"), ({"namespace": "t", "handler": "h", "reason": "r", "limit": 1001}, "limit")],
			"stats": [({"namespace": 1}, "namespace")],
			"analytics": [({"name": ""}, "name"), ({"created_after": "yesterday"}, "created_after"), ({"created_before": 5}, "created_before"), ({"max_tasks": 100001}, "max_tasks"), ({"limit": 0}, "limit"), ({"tag": "x" * 257}, "tag")],
			"task.summary": [({}, "task_uuid"), ({"task_uuid": "x"}, "task_uuid"), ({"task_uuid": u, "limit": "1"}, "limit"), ({"task_uuid": u, "cursor": ""}, "cursor")],
			"step.audit": [({}, "step_uuid"), ({"step_uuid": 1}, "step_uuid"), ({"task_uuid": u}, "step_uuid"), ({"step_uuid": u, "limit": 1001}, "limit"), ({"step_uuid": u, "cursor": 5}, "cursor")],
			"analytics.performance": [({"hours": -1}, "hours"), ({"hours": 8761}, "hours"), ({"hours": "1"}, "hours"), ({"namespace": 1}, "namespace")],
			"analytics.bottlenecks": [({"limit": 101}, "limit"), ({"min_executions": 0}, "min_executions"), ({"namespace": ""}, "namespace")],
			"server.metrics": [({"format": 1}, "format"), ({"format": "xml"}, "format"), ({"format": "x" * 17}, "format")],
		}
		for method, cases in wrong.items():
			for params, path in cases:
				with self.subTest(method=method, params=str(params)[:100]):
					error = self.client.refused(method, params)
					self.assertEqual((error.code, error.path), ("bad_request", path))

	def test_unknown_fields_are_ignored_and_nil_is_absent(self):
		task = self.create("pair")
		u = {"task_uuid": task}
		future = {"zzz_future": {"deep": [1, 2.5, None]}}
		calls = [("ping", {}), ("task.get", {**u, "steps": None}), ("task.list", {"namespace": None, "name": None, "state": None, "limit": None, "cursor": None}),
		         ("task.wait", {**u, "timeout_ms": 0}), ("task.history", {**u, "step": None, "limit": None, "cursor": None}), ("dlq.list", {"status": None, "reason": None, "namespace": None, "name": None, "limit": None, "cursor": None}),
		         ("dlq.add", {**u, "notes": None, "metadata": None}), ("dlq.get", {**u, "entry": None}), ("dlq.update", {**u, "status": None, "notes": None, "resolved_by": None, "metadata": None}), ("dlq.stats", {"namespace": None}),
		         ("audit.list", {"task_uuid": None, "action": None, "who": None, "namespace": None, "request": None, "after": None, "before": None, "limit": None, "cursor": None}),
		         ("dlq.queue", {"namespace": None, "limit": None}), ("dlq.staleness", {"namespace": None, "health": None, "limit": None}),
		         ("namespace.retention", {"namespace": self.ns, "state": None, "keep_minutes": None, "forever": None, "inherit": None, "action": None}), ("template.list", {"namespace": None}), ("template.get", {"namespace": self.ns, "name": "pair", "version": None}),
		         ("task.get", {**u, "readiness": None, "limit": None, "cursor": None}), ("task.summary", {**u, "limit": None, "cursor": None}), ("step.audit", {**u, "step": "a", "step_uuid": None, "limit": None, "cursor": None}),
		         ("analytics.performance", {"hours": None, "namespace": None}), ("analytics.bottlenecks", {"limit": None, "min_executions": None, "namespace": None}),
		         ("worker.list", {}), ("node.list", {}), ("queue.list", {}), ("doctor", {}), ("server.info", {}), ("server.config", {}), ("token.create", {"name": "future", "roles": ["read"], "namespaces": None, "expires_at": None, "reason": None, "operator": None}),
		         ("token.list", {"all": None}), ("token.revoke", {"token": "future", "reason": None, "operator": None}), ("template.validate", {"source": "x", "filename": None, "strict": None}),
		         ("task.create", {"name": "pair", "namespace": self.ns, "version": None, "context": None, "initiator": None, "source_system": None, "reason": None, "tags": None, "priority": None,
		                          "correlation_id": None, "parent_correlation_id": None, "traceparent": None, "idempotency_key": None, "run_at": None, "requested_at": None, "options": None}), ("namespace.list", {}), ("step.get", {**u, "step": "a", "step_uuid": None, "history": None}), ("step.replay", {**u, "step": "a", "step_uuid": None}),
		         ("event.subscribe", {"patterns": ["a.*"], "namespaces": None}), ("event.unsubscribe", {"patterns": None}), ("event.list", {}),
		         ("event.publish", {"name": "a.b", "namespace": self.ns, "payload": None, "delivery_mode": None, "metadata": None, "correlation_id": None, "fired_by": None, "event_id": None}),
		         ("event.consume", {"namespace": self.ns, "max": None, "visibility_ms": None, "wait_ms": None, "patterns": None}), ("event.ack", {"namespace": self.ns, "ids": [1], "read_counts": None}),
		         ("event.extend", {"namespace": self.ns, "ids": [1], "read_counts": None, "visibility_ms": 1}),
		         ("task.watch", u), ("task.unwatch", u), ("task.cancel", {**u, "reason": None})]
		for method, params in calls:
			with self.subTest(method=method):
				self.client.call(method, {**params, **future})

	def test_unknown_fields_may_hold_what_json_cannot(self):
		task = self.create("pair")
		for value in b"\0\1", float("nan"), float("inf"), 2 ** 64 - 1, "a\0b", "x" * (2 << 20), [0] * 200000:
			with self.subTest(value=str(value)[:20]):
				self.assertEqual(self.client.call("task.get", {"task_uuid": task, "future": value})["task_uuid"], task)

	def test_unknown_methods(self):
		for method in "no.such", "", "step.execute", "result.ack", "heartbeat", "é" * 60, "x" * 100000, "ping\0":
			with self.subTest(method=method[:20]):
				self.assertEqual(self.client.refused(method).code, "unknown_method")
		for method in "no.such", "", "step.execute", "ping", "task.create", "é" * 60:
			self.client.notify(method)
			self.assertEqual(self.client.note("error")["code"], "unknown_method")
		self.client.call("ping")

	def test_golden_messages(self):
		"""Every message to the daemon among the vectors is understood: answered, or taken in silence."""
		for v in vectors("messages"):
			if v["direction"] != "to_daemon":
				continue
			with self.subTest(v["name"]):
				early = v["message"] == "hello"
				w = self.wire(hello=False) if early else self.worker(name="golden")
				payload = bytes.fromhex(v["hex"])
				message = wire.unpack(payload)
				if v["kind"] == "request":
					w.asked.add(message[1])
				w.send_payload(payload)
				if v["kind"] == "request":
					w.until(lambda: message[1] in w.responses, "an answer")
					error = w.responses.pop(message[1])[2]
					self.assertNotIn(error and error["code"], ("unknown_method", "protocol_error", "bad_request", "internal"), error)
				elif v["valid"] and "unknown" not in v["name"]:
					notes = w.silent()
					self.assertEqual([n for n in notes if n[0] == "error"], [])

	# -- tasks ---------------------------------------------------------------------------------------

	def test_everything_said_at_creation_is_kept(self):
		said = {"context": {"a": 1}, "initiator": "me", "source_system": "sys", "reason": "because", "tags": ["x", "y", ""], "priority": -100, "correlation_id": "c-1",
		        "parent_correlation_id": "c-0", "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
		made = self.client.call("task.create", {"name": "pair", "namespace": self.ns, "version": "1.0.0", **said})
		wire.need("created", made, {"task_uuid": str, "created": bool, "state": str})
		self.assertIs(made["created"], True)
		task = self.check_task(self.get(made["task_uuid"]))
		for name in set(said) - {"traceparent"}:
			self.assertSame(task[name], said[name])
		worker = self.worker()
		given = worker.take()
		for name in "correlation_id", "parent_correlation_id", "traceparent", "priority", "context":
			self.assertSame(given[name], said[name])
		self.assertEqual((given["namespace"], given["template"], given["version"], given["step"]), (self.ns, "pair", "1.0.0", "a"))

	def test_defaults_at_creation(self):
		task = self.check_task(self.get(self.create("pair")))
		self.assertEqual((task["priority"], task["context"], task["correlation_id"], task["tags"], task["initiator"]), (0, {}, task["task_uuid"], None, None))
		self.assertEqual((task["state"], task["total_steps"], task["ready_steps"], task["pending_steps"], task["completed_steps"], task["failed_steps"], task["completion_percentage"]),
		                 ("steps_in_process", 2, 1, 1, 0, 0, 0))
		self.assertEqual([(s["name"], s["state"], s["depends_on"], s["handler"], s["attempts"]) for s in task["steps"]], [("a", "enqueued", [], "h", 0), ("b", "pending", ["a"], "h", 0)])
		self.assertEqual(task["missing_handlers"], ["h"])

	def test_missing_handlers_are_named_once(self):
		self.template("wide", [step("s%d" % i, "gone%d" % (i % 2)) for i in range(6)])
		self.assertEqual(sorted(self.get(self.create("wide"))["missing_handlers"]), ["gone0", "gone1"])

	def test_versions(self):
		for version in "1.2.0", "1.10.0", "2.0.0-rc.1":
			self.template("pair", [step("a", "h")], version=version)
		self.assertEqual(self.get(self.create("pair"))["version"], "1.10.0")
		self.assertEqual(self.get(self.create("pair", version="2.0.0-rc.1"))["version"], "2.0.0-rc.1")
		for params in {"name": "pair", "version": "9.9.9"}, {"name": "none"}, {"name": "pair", "namespace": "elsewhere"}, {"name": "pair", "version": "' OR '1'='1"}:
			self.assertEqual(self.client.refused("task.create", {"namespace": self.ns, **params}).code, "template_not_found")

	def test_the_same_again(self):
		k = "k" * 256
		one = self.client.call("task.create", {"name": "pair", "namespace": self.ns, "context": {"a": 1, "b": [1.5, None]}, "idempotency_key": k})
		again = self.client.call("task.create", {"name": "pair", "namespace": self.ns, "context": {"b": [1.5, None], "a": 1}, "idempotency_key": k})
		self.assertEqual((again["task_uuid"], again["created"]), (one["task_uuid"], False))
		self.assertEqual(self.client.refused("task.create", {"name": "pair", "namespace": self.ns, "context": {"a": 2}, "idempotency_key": k}).code, "conflict")
		self.assertNotEqual(self.create("pair", context={"a": 1}), self.create("pair", context={"a": 1}))

	def test_bulk_items_stand_alone(self):
		good = {"name": "pair", "namespace": self.ns}
		tasks = [good, {"name": "none"}, 7, {**good, "priority": 1000}, {**good, "context": {"x": float("nan")}}, good, {}, None, {**good, "context": {"x": "y" * (1 << 20)}}, {**good, "idempotency_key": "one"},
		         {**good, "idempotency_key": "one"}]
		results = self.client.call("task.create_many", {"tasks": tasks})["results"]
		got = [r["error"]["code"] if "error" in r else r["created"] for r in results]
		self.assertEqual(got[:9], [True, "template_not_found", "bad_request", "bad_request", "invalid_value", True, "bad_request", "bad_request", "too_large"])
		self.assertEqual(sorted(got[9:]), [False, True])
		self.assertEqual(results[9]["task_uuid"], results[10]["task_uuid"])
		self.assertEqual(results[3]["error"]["path"], "tasks[3].priority")
		for r in results:
			if "error" in r:
				wire.check_error(r["error"])

	def test_the_largest_bulk(self):
		results = self.client.call("task.create_many", {"tasks": [{"name": "pair", "namespace": self.ns}] * 5000})["results"]
		self.assertEqual(len({r["task_uuid"] for r in results}), 5000)

	def test_lists_and_pages(self):
		made = [self.create("pair", tags=["t%d" % i]) for i in range(7)]
		self.template("other", [step("a", "h")])
		other = self.create("other")
		got, cursor = [], None
		while True:
			page = self.client.call("task.list", {"namespace": self.ns, "name": "pair", "limit": 3, "cursor": cursor})
			wire.need("page", page, {"tasks": list}, {"next_cursor": str})
			got += [self.check_task(t, steps=False)["task_uuid"] for t in page["tasks"]]
			cursor = page.get("next_cursor")
			if cursor is None:
				break
		self.assertEqual(got, made[::-1])
		numbered = [self.client.call("task.list", {"namespace": self.ns, "name": "pair", "limit": 3, "page": n}) for n in (1, 2, 3, 4)]
		self.assertEqual([[t["task_uuid"] for t in p["tasks"]] for p in numbered], [got[:3], got[3:6], got[6:], []])
		self.assertEqual(numbered[1]["pagination"], {"page": 2, "per_page": 3, "total_count": 7, "total_pages": 3, "has_next": True, "has_previous": True, "whole": True})
		self.assertEqual([p["pagination"]["has_next"] for p in numbered], [True, True, False, False])
		mine = self.create("pair", initiator="ann", source_system="till")
		for key, value in ("initiator", "ann"), ("source_system", "till"):
			self.assertEqual([t["task_uuid"] for t in self.client.call("task.list", {"namespace": self.ns, key: value})["tasks"]], [mine])
		self.assertEqual([t["task_uuid"] for t in self.client.call("task.list", {"namespace": self.ns, "limit": 1, "name": "other"})["tasks"]], [other])
		self.client.call("task.cancel", {"task_uuid": other, "reason": "why not"})
		self.assertEqual([t["task_uuid"] for t in self.client.call("task.list", {"namespace": self.ns, "state": "cancelled"})["tasks"]], [other])
		self.assertEqual(self.client.call("task.list", {"namespace": "' OR 1=1 --"})["tasks"], [])
		for params in {"state": "no_such"}, {"state": "'; --"}, {"cursor": "'"}, {"cursor": "1e3"}, {"cursor": "9" * 32}:
			self.assertEqual(self.client.refused("task.list", params).code, "bad_request")

	def test_get_without_steps(self):
		self.check_task(self.client.call("task.get", {"task_uuid": self.create("pair"), "steps": False}), steps=False)

	def test_what_is_not_there(self):
		for method in "task.get", "task.wait", "task.watch", "task.cancel", "task.history":
			with self.subTest(method=method):
				self.assertEqual(self.client.refused(method, {"task_uuid": NOBODY}).code, "not_found")
		self.assertEqual(self.client.call("task.unwatch", {"task_uuid": NOBODY}), {})
		task = self.create("pair")
		for uuid in NOBODY, NOBODY[:-6] + "000001", task, task[:-6] + "000003", task[:-6] + "ffffff":
			with self.subTest(uuid=uuid):
				self.assertEqual(self.client.refused("step.dependencies", {"step_uuid": uuid}).code, "not_found")
		for params in {"name": "none"}, {"name": "pair", "version": "7.0.0"}, {"name": "pair", "namespace": "elsewhere"}:
			self.assertEqual(self.client.refused("template.get", {"namespace": self.ns, **params}).code, "not_found")

	def test_wait(self):
		task = self.create("pair")
		answer = self.client.call("task.wait", {"task_uuid": task, "timeout_ms": 0})
		wire.need("wait", answer, {"task_uuid": str, "state": str, "settled": bool, "finished": bool})
		self.assertEqual(answer, {"task_uuid": task, "state": "steps_in_process", "settled": False, "finished": False})
		self.assertIs(self.client.call("task.wait", {"task_uuid": task, "timeout_ms": 20})["settled"], False)
		others = [self.wire() for _ in range(3)]
		ids = [w.ask("task.wait", {"task_uuid": task}) for w in others for _ in range(2)]
		w = self.worker(concurrency=2)
		for _ in range(2):
			w.finish(w.take())
		for i, id_ in enumerate(ids):
			self.assertEqual(others[i // 2].answer(id_), {"task_uuid": task, "state": "complete", "settled": True, "finished": True})
		self.assertEqual(self.settled(task), "complete")

	def test_wait_ends_at_a_blocked_task(self):
		task = self.create("pair")
		w = self.worker()
		w.fail(w.take(), retryable=False)
		self.assertEqual(self.client.call("task.wait", {"task_uuid": task}), {"task_uuid": task, "state": "blocked_by_failures", "settled": True, "finished": False})
		failed = self.check_task(self.get(task))["steps"][0]
		self.assertEqual((failed["state"], failed["error"]["message"], failed["attempts"]), ("error", "it failed", 1))

	def test_watch(self):
		task = self.create("pair")
		c = self.wire()
		self.check_task(c.call("task.watch", {"task_uuid": task}))
		self.assertEqual(c.refused("task.watch", {"task_uuid": task}).code, "conflict")
		w = self.worker(concurrency=2)
		a1 = w.take()
		w.fail(a1, "first", error={"error_type": "Oops"})
		w.finish(w.take())
		w.finish(w.take())
		events = c.events(task, lambda e: e["kind"] == "task" and e["state"] == "complete")
		steps = [(e["step"], e["state"], e.get("outcome")) for e in events if e["kind"] == "step" and "progress" not in e]
		for name, script in {"a": [("enqueued", None), ("in_progress", None), ("waiting_for_retry", "handler_error"), ("in_progress", None), ("complete", "success")],
		                     "b": [("enqueued", None), ("in_progress", None), ("complete", "success")]}.items():
			got = [(s, o) for n, s, o in steps if n == name]
			wanted = iter(got)
			for item in script:
				self.assertIn(item, wanted, got)  # in order; more may be between them
		self.assertEqual(events[-1]["kind"], "task")
		for e in events:
			self.assertRegex(e["at"], TIME)
		ends = [e for e in events if e.get("outcome")]
		self.assertEqual([e["attempt"] for e in ends if e["step"] == "a"], [1, 2])
		self.assertEqual(ends[0]["error"]["message"], "first")
		self.assertEqual({e["worker_uuid"] for e in ends}, {w.welcome["worker_uuid"]})
		self.assertEqual(self.check_task(c.call("task.watch", {"task_uuid": task}))["state"], "complete")
		c.events(task, lambda e: e["kind"] == "task" and e["state"] == "complete")

	def test_unwatch(self):
		task = self.create("pair")
		c = self.wire()
		c.call("task.watch", {"task_uuid": task})
		self.assertEqual(c.call("task.unwatch", {"task_uuid": task}), {})
		c.notes.clear()
		w = self.worker(concurrency=2)
		for _ in range(2):
			w.finish(w.take())
		self.assertEqual(self.settled(task), "complete")
		self.assertEqual(c.silent(), [])

	def test_every_request_is_answered_once(self):
		"""Also a watch that is taken back before its first answer, and requests whose answers overtake each other."""
		task = self.create("pair")
		c = self.wire()
		for _ in range(20):
			c.asked.update(range(1000, 1006))
			c.send([0, 1000, "task.watch", {"task_uuid": task}], [0, 1001, "task.unwatch", {"task_uuid": task}], [0, 1002, "task.watch", {"task_uuid": task}], [0, 1003, "ping", {}],
			       [0, 1004, "task.get", {"task_uuid": task}], [0, 1005, "task.unwatch", {"task_uuid": task}])
			for i in range(1000, 1006):
				c.answer(i)

	def test_cancel(self):
		w = self.worker()
		task = self.create("pair")
		s = w.take()
		got = self.check_task(self.client.call("task.cancel", {"task_uuid": task, "reason": "no more need"}))
		self.assertEqual((got["state"], [x["state"] for x in got["steps"]]), ("cancelled", ["cancelled", "cancelled"]))
		self.assertEqual(w.cancelled(s), "task_cancelled")
		self.assertEqual(self.client.refused("task.cancel", {"task_uuid": task}).code, "conflict")
		self.create("pair")  # the place is taken until the worker has answered
		self.client.call("ping")
		w.call("ping")
		self.assertEqual(w.untaken(), 0)
		w.finish(s)
		self.assertEqual(w.acked(s), "stale")
		w.take()
		history = self.client.call("task.history", {"task_uuid": task})
		self.assertEqual([t["to"] for t in history["transitions"]], ["steps_in_process", "cancelled"])
		self.assertEqual([a["outcome"] for a in history["attempts"]], ["cancelled"])

	def test_history(self):
		task = self.create("pair")
		w = self.worker()
		w.fail(w.take(), "once", metadata={"m": 1}, execution_ms=12.5)
		w.finish(w.take(), {"x": 1}, metadata={"m": 2}, execution_ms=3)
		w.finish(w.take())
		self.settled(task)
		history = wire.need("history", self.client.call("task.history", {"task_uuid": task}), {"transitions": list, "attempts": list, "actions": list}, {"next_cursor": str})
		self.assertEqual([(a["step"], a["attempt"], a["outcome"], a["metadata"], a["execution_ms"]) for a in history["attempts"]],
		                 [("a", 1, "handler_error", {"m": 1}, 12.5), ("a", 2, "success", {"m": 2}, 3), ("b", 1, "success", None, None if history["attempts"][2]["execution_ms"] is None else 0)])
		for a in history["attempts"]:
			self.assertEqual((a["node"], a["worker_uuid"]), (self.node.name, w.welcome["worker_uuid"]))
			for name in "ready_at", "started_at", "finished_at", "recorded_at":
				self.assertRegex(a[name], TIME)
		self.assertEqual(history["transitions"][-1]["to"], "complete")

	# -- templates -----------------------------------------------------------------------------------

	def test_templates(self):
		source = harness.template("made", [step("a", "h", timeout=5), step("b", "other", after=["a"])], namespace=self.ns)
		made = self.client.call("template.apply", {"source": source, "filename": "made.json"})
		wire.need("applied", made, {"namespace": str, "name": str, "version": str, "created": bool, "findings": list})
		self.assertEqual((made["namespace"], made["name"], made["version"], made["created"]), (self.ns, "made", "1.0.0", True))
		self.assertIs(self.client.call("template.apply", {"source": source})["created"], False)
		self.assertEqual(self.client.refused("template.apply", {"source": source.replace("other", "another")}).code, "conflict")
		rows = self.client.call("template.list", {"namespace": self.ns})["templates"]
		self.assertEqual([(r["name"], r["version"], r["steps"]) for r in rows], [("made", "1.0.0", 2), ("pair", "1.0.0", 2)])
		for row in rows:
			wire.need("template", row, {"namespace": str, "name": str, "version": str, "steps": int, "created_at": str, "digest": str})
		self.assertIn(self.ns, {r["namespace"] for r in self.client.call("template.list")["templates"]})
		got = wire.need("template", self.client.call("template.get", {"namespace": self.ns, "name": "made"}),
		                {"namespace": str, "name": str, "version": str, "digest": str, "created_at": str, "definition": dict, "steps": list})
		self.assertEqual([s["name"] for s in got["steps"]], ["a", "b"])

	def test_findings(self):
		for filename in "some.yaml", "é" * 2000, "", None:
			with self.subTest(filename=str(filename)[:10]):
				answer = wire.need("validated", self.client.call("template.validate", {"source": "name: x\nwrong: 1\n", "filename": filename}), {"ok": bool, "findings": list})
				self.assertIs(answer["ok"], False)
				self.assertTrue(answer["findings"])
				for f in answer["findings"]:
					wire.need("finding", f, {"severity": str, "line": int, "column": int, "message": str}, {"file": str, "key": str})
				error = self.client.refused("template.apply", {"source": "name: x\nwrong: 1\n", "filename": filename}).error
				self.assertEqual((error["code"], error["details"]["findings"]), ("invalid_template", answer["findings"]))
		source = harness.template("strict", [step("a", "h")], namespace=self.ns)[:-1] + ', "unknown_key": 1}'
		self.assertIs(self.client.call("template.validate", {"source": source})["ok"], True)
		self.assertIs(self.client.call("template.validate", {"source": source, "strict": True})["ok"], False)

	# -- looking around ------------------------------------------------------------------------------

	def test_looking_around(self):
		w = self.worker(handlers=["h", "other"], concurrency=3, name="looker", client="lib/2.0", language="cobol")
		self.create("pair")
		w.take()
		row = next(r for r in self.client.call("worker.list")["workers"] if r["worker_uuid"] == w.welcome["worker_uuid"])
		wire.need("worker", row, {"worker_uuid": str, "node": str, "name": str, "pid": int, "uid": int, "client": str, "language": str, "namespaces": list, "handlers": list, "more_handlers": int, "more_broken": int,
		                          "max_concurrency": int, "open": int, "done": int, "rate": (int, float), "broken": list, "connected_at": str, "draining": bool}, {"unit": str})
		self.assertEqual((row["name"], row["pid"], row["uid"], row["client"], row["language"], row["namespaces"], row["handlers"], row["max_concurrency"], row["open"], row["done"], row["draining"]),
		                 ("looker", os.getpid(), os.getuid(), "lib/2.0", "cobol", [self.ns], ["h", "other"], 3, 1, 0, False))
		nodes = self.client.call("node.list")["nodes"]
		self.assertEqual([n["node"] for n in nodes], [self.node.name])
		wire.need("node", nodes[0], {"node": str, "node_no": int, "host": str, "pid": int, "version": str, "state": str, "started_at": str, "lease_until": str, "in_progress": int},
		          {"store_threads": int, "sessions": int, "workers": int, "open_steps": int})
		self.assertEqual(nodes[0]["pid"], self.node.pid)
		self.assertGreaterEqual(nodes[0]["in_progress"], 1)
		queue = next(q for q in self.client.call("queue.list")["queues"] if q["namespace"] == self.ns)
		wire.need("queue", queue, {"namespace": str, "handler": str, "queue": str, "ready": int, "delayed": int, "workers": int, "paused": bool, "queued": int, "done": int, "rate": (int, float), "nodes": list}, {"oldest_ms": (int, float), "next_ms": (int, float), "handler_id": int})
		self.assertEqual((queue["handler"], queue["ready"], queue["workers"]), ("h", 0, 1))
		doctor = wire.need("doctor", self.client.call("doctor"), {"ok": bool, "checks": list})
		for check in doctor["checks"]:
			wire.need("check", check, {"name": str, "ok": bool, "found": int, "detail": str, "sample": list})
		info = wire.need("info", self.client.call("server.info"), {"server": str, "version": str, "protocol": list, "node": str, "pid": int, "uptime_ms": int, "database": dict, "counters": dict, "sessions": int})
		self.assertEqual((info["node"], info["pid"], info["protocol"], info["database"]["state"]), (self.node.name, self.node.pid, [1, 0], "up"))
		self.assertGreaterEqual(info["sessions"], 2)
		self.assertEqual(self.client.call("ping"), {})
		w.notify("worker.update", {"max_concurrency": 5, "draining": True})
		w.call("ping")
		row = next(r for r in self.client.call("worker.list")["workers"] if r["worker_uuid"] == w.welcome["worker_uuid"])
		self.assertEqual((row["max_concurrency"], row["draining"]), (5, True))
		w.close()
		harness.wait_for(lambda: w.welcome["worker_uuid"] not in {r["worker_uuid"] for r in self.client.call("worker.list")["workers"]}, "the worker to be gone from the list")


if __name__ == "__main__":
	unittest.main()

"""HTTP: every route, what it refuses and how, who may use it, streams, and what becomes of it while the database or the daemon is away."""
import json
import os
import re
import unittest

import harness
import web
from harness import step, template, wait_for
from test_access import TABLE

NO_TASK, NO_STEP, NO_ENTRY = "01890a5d-ac96-774b-bcce-b30200000000", "01890a5d-ac96-774b-bcce-b30200000001", "01890a5d-ac96-774b-bcce-b302000000ff"
# What a request alone cannot do: it belongs to sessions that stay, or to workers.
NOT_FOR_HTTP = {"hello", "ping", "session.resume", "step.dependencies", "step.checkpoint", "task.unwatch", "event.unsubscribe"}
WHY = {"reason": "a test", "operator": "ann"}
CODES = {400: ("bad_request", "invalid_value"), 404: ("not_found", "template_not_found"), 405: ("unknown_method",), 409: ("conflict",), 413: ("too_large",), 415: ("bad_request",),
         422: ("invalid_context", "invalid_template"), 401: ("permission_denied",), 403: ("permission_denied",), 503: ("database_unavailable", "overloaded", "shutting_down")}


class Client(harness.SharedCase):
	"""A client of the daemon's own socket."""

	def setUp(self):
		super().setUp()
		self.web = web.Web(web.http_socket(self.node))
		self.addCleanup(self.web.close)

	def ok(self, verb, path, body=None, status=200, **headers):
		a = self.web.ask(verb, path, body, **headers)
		self.assertEqual(a.status, status, (verb, path, a.body))
		return a.body

	def refused(self, status, verb, path, body=None, where=None, web_=None, **headers):
		"""It is a problem as RFC 9457 has it, which says what and where."""
		a = (web_ or self.web).ask(verb, path, body, **headers)
		self.assertEqual((a.status, a.headers["Content-Type"]), (status, "application/problem+json"), (verb, path, a.body))
		self.assertEqual((a.body["status"], a.body["type"]), (status, "urn:taskerd:error:" + a.body["code"]))
		self.assertIn(a.body["code"], CODES[status])
		self.assertTrue(a.body["detail"] and a.body["title"])
		if where is not None:
			self.assertEqual(a.body.get("path"), where, a.body)
		if status == 503:
			self.assertTrue(a.headers["Retry-After"])
		return a.body

	def create(self, name, **more):  # pylint: disable=arguments-differ
		return self.ok("POST", "/v1/tasks", {"name": name, "namespace": "t", **more}, status=201)["task_uuid"]

	def blocked(self):
		task = self.create("broken")
		self.assertEqual(self.ok("GET", "/v1/tasks/%s/wait" % task)["state"], "blocked_by_failures")
		return task


class Routes(Client):
	@classmethod
	def prepare(cls, stage):
		super().prepare(stage)
		stage.apply(stage.node, template("pair", [step("a"), step("b", after=["a"])]))
		stage.apply(stage.node, template("broken", [step("a", "t.flaky", attempts=1, fails=9, kind="permanent"), step("b", after=["a"])]))
		stage.apply(stage.node, template("waits", [step("a", "t.nobody"), step("b", "t.nobody", after=["a"])]))
		stage.apply(stage.node, template("strict", [step("a")], input_schema={"type": "object", "required": ["n"]}))

	# Tasks

	def test_a_task_from_its_creation_to_its_end(self):
		a = self.web.post("/v1/tasks", {"name": "pair", "namespace": "t", "context": {"n": 3}, "tags": ["web"]})
		self.assertEqual(a.status, 201)
		task = a.body["task_uuid"]
		self.assertEqual((a.headers["Location"], a.body["created"]), ("/v1/tasks/" + task, True))
		self.assertEqual(self.ok("GET", "/v1/tasks/%s/wait?timeout_ms=60000" % task), {"task_uuid": task, "state": "complete", "settled": True, "finished": True})
		got = self.ok("GET", "/v1/tasks/" + task)
		self.assertEqual((got["state"], got["context"], [s["name"] for s in got["steps"]]), ("complete", {"n": 3}, ["a", "b"]))
		self.refused(400, "GET", "/v1/tasks/%s/workflow_steps?steps=false" % task, where="steps")
		self.assertNotIn("steps", self.ok("GET", "/v1/tasks/%s?steps=false" % task))
		self.assertEqual([s["state"] for s in self.ok("GET", "/v1/tasks/%s/workflow_steps" % task)], ["complete"] * 2)
		self.assertEqual(self.ok("GET", "/v1/tasks/%s/history?limit=1000" % task)["transitions"][-1]["to"], "complete")
		self.assertIn(task, [t["task_uuid"] for t in self.ok("GET", "/v1/tasks?tag=web&namespace=t&limit=5")["tasks"]])
		self.assertIn(task, [t["task_uuid"] for t in self.ok("GET", "/v1/tasks?status=complete&per_page=100")["tasks"]])

	def test_the_same_as_over_the_socket(self):
		task = self.create("pair")
		self.ok("GET", "/v1/tasks/%s/wait" % task)
		for path, method, params in (("/v1/tasks/" + task, "task.get", {"task_uuid": task, "readiness": True, "limit": 1000}), ("/v1/tasks/%s/history" % task, "task.history", {"task_uuid": task}),
		                             ("/v1/templates?namespace=t", "template.list", {"namespace": "t"}), ("/v1/templates/t/pair/1.0.0", "template.get", {"namespace": "t", "name": "pair", "version": "1.0.0"}),
		                             ("/v1/tasks/%s/workflow_steps/b" % task, "step.get", {"task_uuid": task, "step": "b", "readiness": True})):
			with self.subTest(path):
				self.assertEqual(self.without(self.ok("GET", path), self.node.client.request(method, params)), self.node.client.request(method, params))

	def without(self, got, there):
		"""What there is of `got` in `there`: HTTP adds names."""
		if isinstance(got, dict) and isinstance(there, dict):
			return {k: self.without(v, there[k]) for k, v in got.items() if k in there}
		if isinstance(got, list) and isinstance(there, list):
			return [self.without(g, t) for g, t in zip(got, there)] + got[len(there):]
		return got

	def test_keys_that_make_a_request_safe_to_repeat(self):
		body = {"name": "waits", "namespace": "t", "context": {"key": 1}}
		first = self.web.post("/v1/tasks", body, Idempotency_Key="web-1")
		again = self.web.post("/v1/tasks", body, Idempotency_Key="web-1")
		self.assertEqual((first.status, again.status, again.body["created"]), (201, 200, False))
		self.assertEqual(first.body["task_uuid"], again.body["task_uuid"])
		self.refused(409, "POST", "/v1/tasks", {**body, "context": {"key": 2}}, Idempotency_Key="web-1")
		self.ok("DELETE", "/v1/tasks/" + first.body["task_uuid"])

	def test_an_answer_that_has_not_changed(self):
		a = self.web.get("/v1/templates/t/pair")
		b = self.web.get("/v1/templates/t/pair", If_None_Match=a.headers["ETag"])
		self.assertEqual((b.status, b.body, b.headers["ETag"]), (304, "", a.headers["ETag"]))
		self.assertEqual(self.web.get("/v1/templates/t/pair", If_None_Match='"other"').status, 200)
		self.assertEqual(self.web.ask("HEAD", "/v1/templates/t/pair").body, "")

	def test_many_at_once(self):
		made = self.ok("POST", "/v1/tasks/bulk", {"tasks": [{"name": "waits", "namespace": "t", "tags": ["bulk"]}, {"name": "none", "namespace": "t"}]})["results"]
		self.assertEqual((made[0]["created"], made[1]["error"]["code"]), (True, "template_not_found"))
		did = self.ok("POST", "/v1/tasks/actions", {"action": "cancel", "filter": {"tag": "bulk"}, **WHY})
		self.assertEqual([(i["task_uuid"], i["outcome"]) for i in did["items"]], [(made[0]["task_uuid"], "done")])

	# What operators do

	def test_a_fixed_step_makes_its_task_go_on(self):
		for fix in ({"action_type": "resolve_manually", "reason": "a test", "resolved_by": "ann"},
		            {"action_type": "complete_manually", "reason": "a test", "completed_by": "ann", "completion_data": {"result": {"step": "a"}}},
		            {"action": "skip", **WHY}):
			task = self.blocked()
			self.ok("PATCH", "/v1/tasks/%s/workflow_steps/a" % task, fix)
			self.assertEqual(self.ok("GET", "/v1/tasks/%s/wait" % task)["state"], "complete", fix)
			history = self.ok("GET", "/v1/tasks/%s/workflow_steps/a/history" % task)["events"]
			self.assertIn("ann", json.dumps(history), fix)

	def test_who_did_it_is_on_record(self):
		task = self.create("waits")
		self.ok("POST", "/v1/tasks/%s/pause" % task, WHY)
		self.assertTrue(self.ok("GET", "/v1/tasks/" + task)["paused"])
		self.ok("POST", "/v1/tasks/%s/resume" % task, WHY)
		self.ok("DELETE", "/v1/tasks/%s?reason=enough" % task)
		rows = self.db.sql("SELECT o.action, o.uid, o.pid, o.reason FROM tasker.operator_actions o JOIN tasker.tasks USING (task_id) WHERE task_uuid = '%s' ORDER BY action_id" % task)
		me = [str(os.geteuid()), str(os.getpid())]
		self.assertEqual(rows, [["task.pause", *me, "a test"], ["task.resume", *me, "a test"], ["task.cancel", *me, "enough"]])

	def test_states_that_forbid_it(self):
		task = self.create("pair")
		self.ok("GET", "/v1/tasks/%s/wait" % task)
		self.refused(409, "DELETE", "/v1/tasks/" + task)
		self.refused(409, "POST", "/v1/tasks/%s/pause" % task, WHY)
		self.refused(409, "PATCH", "/v1/tasks/%s/workflow_steps/a" % task, {"action": "skip", **WHY})
		self.assertEqual(self.ok("GET", "/v1/tasks/" + task)["state"], "complete")

	def test_dead_letters(self):
		task = self.blocked()
		entry = self.ok("GET", "/v1/dlq/task/" + task)
		self.assertEqual(self.ok("GET", "/v1/dlq/entry/" + entry["entry"]), entry)
		for path in ("/v1/dlq?resolution_status=pending&limit=1000", "/v1/dlq/investigation-queue?limit=1000"):
			self.assertIn(entry["entry"], [e["entry"] for e in self.ok("GET", path)])
		self.ok("GET", "/v1/dlq/stats?namespace=t")
		self.ok("GET", "/v1/dlq/staleness?namespace=t")
		self.refused(409, "POST", "/v1/dlq/task/" + task, {"notes": "again"})
		self.assertEqual(self.ok("PATCH", "/v1/dlq/entry/" + entry["entry"], {"resolution_notes": "seen"})["notes"], "seen")
		self.assertEqual(self.ok("POST", "/v1/dlq/entry/%s/redrive" % entry["entry"], WHY)["entry"]["status"], "manually_resolved")

	def test_templates(self):
		source = template("from-web", [step("a")])
		a = self.web.post("/v1/templates", source.encode(), Content_Type="application/yaml")
		self.assertEqual((a.status, a.headers["Location"]), (201, "/v1/templates/t/from-web/1.0.0"))
		self.assertEqual(self.web.post("/v1/templates", {"source": source}).status, 200)
		self.assertEqual(self.ok("POST", "/v1/templates/validate", {"source": "name: [", "filename": "x.yaml"})["ok"], False)
		self.assertIn("findings", self.refused(422, "POST", "/v1/templates", {"source": "name: x"})["details"])
		self.refused(409, "POST", "/v1/templates", {"source": template("pair", [step("z")])})

	def test_namespaces(self):
		self.assertIn("t", [n["namespace"] for n in self.ok("GET", "/v1/namespaces")["namespaces"]])
		self.apply(self.node, template("apart", [step("a", "t.nobody")], namespace="apart"))
		self.assertTrue(self.ok("POST", "/v1/namespaces/apart/pause", WHY)["paused"])
		self.assertFalse(self.ok("POST", "/v1/namespaces/apart/resume", WHY)["paused"])
		self.ok("PATCH", "/v1/namespaces/apart/retention", {"state": "complete", "keep_minutes": 5})
		self.assertIn(5, [r["keep_minutes"] for r in self.ok("GET", "/v1/namespaces/apart/retention")["rules"]])

	def test_tokens(self):
		made = self.ok("POST", "/v1/tokens", {"name": "web", "roles": ["read"], **WHY})
		self.assertIn("token", made)
		listed = [t for t in self.ok("GET", "/v1/tokens")["tokens"] if t["name"] == "web"]
		self.assertEqual([(t["id"], "token" in t) for t in listed], [(made["id"], False)])
		self.assertEqual(self.ok("DELETE", "/v1/tokens/web?reason=enough")["state"], "revoked")

	def test_events(self):
		with self.web.stream("/v1/events/stream?patterns=web.*,other&namespaces=t") as s:
			self.assertEqual(s.next(), ("subscribed", None, {"patterns": ["web.*", "other"]}))
			self.ok("POST", "/v1/events", {"name": "web.made", "namespace": "t", "payload": {"n": 1}, "delivery_mode": "broadcast"})
			event, ident, data = s.next()
			self.assertEqual((event, ident, data["event_name"], data["payload"]["payload"]), ("event", data["event_id"], "web.made", {"n": 1}))
		taken = self.ok("POST", "/v1/events/consume", {"namespace": "t", "max": 10})["messages"]
		self.assertEqual([m["event"]["event_name"] for m in taken], ["web.made"])
		ids = [m["msg_id"] for m in taken]
		self.assertEqual(self.ok("POST", "/v1/events/extend", {"namespace": "t", "ids": ids, "visibility_ms": 30000})["done"], 1)
		self.assertEqual(self.ok("POST", "/v1/events/ack", {"namespace": "t", "ids": ids})["done"], 1)
		self.assertEqual([q["messages"] for q in self.ok("GET", "/v1/events")["queues"] if q["namespace"] == "t"], [0])

	def test_the_system(self):
		self.assertEqual(len(self.ok("GET", "/v1/workers")["workers"]), 1)
		worker = self.ok("GET", "/v1/workers")["workers"][0]["worker_uuid"]
		self.assertEqual(self.ok("GET", "/v1/workers/" + worker)["name"], "py")
		self.refused(404, "POST", "/v1/workers/%s/drain" % NO_TASK, WHY)
		self.assertEqual(self.ok("POST", "/v1/queues/purge", {"namespace": "t", "handler": "t.nobody", "dry_run": True, **WHY})["dry_run"], True)
		self.assertIn("states", self.ok("GET", "/v1/stats?namespace=t")["tasks"])
		self.assertIn("steps", self.ok("GET", "/v1/analytics?namespace=t&limit=3"))
		self.assertTrue(self.ok("POST", "/v1/tasks/restore", {"name": "waits", "namespace": "t", "version": "1.0.0", "context": {}, "tags": ["restored"], **WHY})["paused"])
		self.assertEqual([n["state"] for n in self.ok("GET", "/v1/nodes")["nodes"]], ["up"])
		self.assertTrue(self.ok("GET", "/v1/queues")["queues"])
		self.assertTrue(self.ok("GET", "/v1/doctor")["ok"])
		self.assertEqual(self.ok("GET", "/v1/server")["node"], "node-a")

	def test_health(self):
		self.assertEqual(self.ok("GET", "/health")["status"], "healthy")
		self.assertEqual(self.ok("GET", "/health/live")["status"], "alive")
		ready = self.ok("GET", "/health/ready")
		self.assertEqual((ready["status"], ready["database"]), ("ready", "up"))
		self.assertEqual(self.ok("GET", "/health/detailed")["checks"]["sessions"]["workers"], 1)

	def test_metrics(self):
		a = self.web.get("/metrics")
		self.assertEqual((a.status, a.headers["Content-Type"]), (200, "text/plain; version=0.0.4; charset=utf-8"))
		for family in ("taskerd_build_info", "taskerd_sessions", "taskerd_tasks_created_total"):
			self.assertIn("\n# TYPE %s " % family, a.body)

	# What is refused

	def test_every_route_with_ids_that_are_none(self):
		for verb, path, op in self.operations():
			if "{task_uuid}" not in path and "{step_uuid}" not in path and "{entry}" not in path:
				continue
			body = self.least_body(op)
			with self.subTest(verb + " " + path):
				self.refused(404, verb, self.filled(path, NO_TASK, NO_STEP, NO_ENTRY), body)
				self.refused(400, verb, self.filled(path, "x", "x", "x"), body)

	def test_a_step_of_another_task(self):
		one, other = self.create("pair"), self.create("pair")
		for task in one, other:
			self.ok("GET", "/v1/tasks/%s/wait" % task)
		uuid = self.ok("GET", "/v1/tasks/%s/workflow_steps/a" % one)["step_uuid"]
		self.assertEqual(self.ok("GET", "/v1/tasks/%s/workflow_steps/%s" % (one, uuid))["name"], "a")
		self.assertEqual(self.ok("GET", "/v1/steps/" + uuid)["task_uuid"], one)
		self.refused(404, "GET", "/v1/tasks/%s/workflow_steps/%s" % (other, uuid), where="step")
		self.refused(404, "PATCH", "/v1/tasks/%s/workflow_steps/%s" % (other, uuid), {"action": "skip", **WHY}, where="step")

	def test_paths_and_methods(self):
		for path in ("/", "/v1", "/v1/", "/v1/tasks/", "/v1/nothing", "/v2/tasks", "//v1/tasks", "/v1/tasks/%00", "/v1/tasks/%zz", "/v1/tasks/" + "a" * 2000):
			self.refused(404, "GET", path)
		for verb, path, allow in (("PUT", "/v1/tasks", "OPTIONS, GET, POST"), ("GET", "/v1/tasks/bulk", "OPTIONS, POST"), ("DELETE", "/health", "OPTIONS, GET")):
			a = self.web.ask(verb, path)
			self.assertEqual((a.status, a.headers["Allow"]), (405, allow))
		a = self.web.ask("OPTIONS", "/v1/tasks")
		self.assertEqual((a.status, a.headers["Allow"]), (204, "OPTIONS, GET, POST"))

	def test_parameters(self):
		for path, where in (("/v1/tasks?limit=0", "limit"), ("/v1/tasks?limit=x", "limit"), ("/v1/tasks?limit=1.5", "limit"), ("/v1/tasks?limit=", "limit"), ("/v1/tasks?limit=99999999999999999999", "limit"),
		                    ("/v1/tasks?limits=3", "limits"), ("/v1/tasks?limit=3&limit=4", "limit"), ("/v1/tasks?limit=3&per_page=4", "per_page"), ("/v1/tasks?cursor=zzz", None), ("/v1/tasks?state=nothing", None),
		                    ("/v1/tasks?namespace=%ff", "namespace"), ("/v1/tasks/%s?steps=yes" % NO_TASK, "steps"), ("/v1/tasks/%s?task_uuid=%s" % (NO_TASK, NO_TASK), "task_uuid"), ("/v1/events/stream", "patterns")):
			with self.subTest(path):
				self.refused(400, "GET", path, where=where)

	def test_bodies(self):
		text = {"Content_Type": "application/json"}
		for body, where in ((b"", "name"), (b"{", ""), (b"[]", ""), (b"3", ""), (b"null", ""), (b'{"name":"pair"} x', ""), (b'{"name":"pair","name":"pair"}', ""), (b"\xff\xfe", ""), (b'{"name":3}', "name"),
		                    (b'{"name":"pair","nam":1}', "nam"), (b'{"name":"pair","context":[]}', "context"), (b'{"name":"pair","priority":1000}', "priority"), (b'{"name":"pair","run_at":"soon"}', "run_at"),
		                    (b'{"name":"pair","context":' + b"[" * 40 + b"]" * 40 + b"}", ""), (b'{"name":"\\ud800"}', "")):
			with self.subTest(body[:40]):
				problem = self.refused(400, "POST", "/v1/tasks", body, **text)
				self.assertEqual(problem.get("path", ""), where, problem)
		self.refused(415, "POST", "/v1/tasks", b"name=pair", Content_Type="application/x-www-form-urlencoded")
		self.refused(415, "POST", "/v1/tasks", b'{"name":"pair"}')
		self.refused(404, "POST", "/v1/tasks", {"name": "nothing", "namespace": "t"})
		self.refused(422, "POST", "/v1/tasks", {"name": "strict", "namespace": "t"})
		self.refused(413, "POST", "/v1/tasks", {"name": "pair", "namespace": "t", "context": {"s": "x" * (2 << 20)}})
		self.assertEqual(self.web.post("/v1/tasks", {"name": "pair", "context": {"s": "x" * (5 << 20)}}).status, 413)
		self.web.close()

	def test_a_connection_has_what_is_sent_on_it(self):
		"""Nothing of a connection that has ended takes bytes from the next one with its number."""
		for _ in range(5):
			others = [web.Web(self.web.where) for _ in range(4)]
			for w in others:
				self.assertEqual(w.get("/health").status, 200)
			for w in others:
				w.close()
			w = web.Web(self.web.where)
			self.assertEqual(w.post("/v1/tasks", {"name": "nothing", "namespace": "t", "context": {"s": "x" * 300000}}).status, 404)
			w.close()

	def test_bodies_where_none_is_expected(self):
		"""What follows the header would be taken for another request."""
		for head in (b"GET /health HTTP/1.1\r\nContent-Length: 5\r\n", b"DELETE /v1/tasks/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n",
		             b"POST /v1/tasks HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"POST /v1/tasks HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n",
		             b"POST /v1/tasks HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n"):
			with self.subTest(head):
				out = web.raw(self.web.where, head + b"Host: x\r\n\r\n0\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n")
				self.assertEqual(re.findall(rb"HTTP/1.1 (\d+)", out), [b"400"], out)

	def test_the_host_is_asked_for(self):
		for lines, status in ((b"GET /health HTTP/1.1\r\n", 400), (b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n", 400), (b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n", 200),
		                      (b"GET /health HTTP/1.0\r\n", 200), (b"GET /v1/tasks HTTP/1.1\r\n", 400)):
			with self.subTest(lines):
				out = web.raw(self.web.where, lines + b"\r\n", half_close=True)
				self.assertIn(b" %d " % status, out.split(b"\r\n")[0])
				self.assertEqual(status == 400, b"one Host is expected" in out or status != 200)

	def test_who_has_said_all_is_still_answered(self):
		task = self.create("waits")
		out = web.raw(self.web.where, b"GET /v1/tasks/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % task.encode(), half_close=True)
		self.assertIn(task.encode(), out)
		self.ok("DELETE", "/v1/tasks/" + task)

	# Streams

	def test_a_stream_through_a_whole_task(self):
		task = self.create("waits")
		with self.web.stream("/v1/tasks/%s/events" % task) as s:
			self.assertEqual((s.status, s.answer.getheader("Content-Type")), (200, "text/event-stream"))
			event, _, data = s.next()
			self.assertEqual((event, data["task_uuid"]), ("task", task))
			for name in "a", "b":
				self.ok("PATCH", "/v1/tasks/%s/workflow_steps/%s" % (task, name), {"action": "skip", **WHY})
			events = s.rest()
		self.assertEqual(events[-1], ("end", "end", {}))
		self.assertEqual(events[-2][2]["state"], "complete")
		self.assertEqual({e[2]["step"] for e in events if e[2].get("kind") == "step"}, {"a", "b"})
		seen = events[-3][1]
		with self.web.stream("/v1/tasks/%s/events" % task, Last_Event_ID=seen) as s:
			again = s.rest()
		self.assertEqual((again[0][0], again[0][2]["state"]), ("task", "complete"))
		bare = lambda events: [(e[0], (e[1] or "").partition(";")[0], e[2]) for e in events]  # noqa: E731 (what may come late is another matter)
		self.assertEqual(bare(again[1:]), bare([e for e in events if e[1] > seen or e[0] == "end" or e is events[-2]]))
		self.assertEqual(self.web.get("/v1/tasks/%s/events" % task, Last_Event_ID="end").status, 204)

	def test_a_stream_of_what_is_not_there(self):
		self.refused(404, "GET", "/v1/tasks/%s/events" % NO_TASK)

	def test_a_client_that_leaves_a_stream_is_noticed(self):
		task = self.create("waits")
		with self.web.stream("/v1/tasks/%s/events" % task) as s:
			s.next()
			wait_for(lambda: self.streams() == 1, "the stream to be counted")
		wait_for(lambda: self.streams() == 0, "its end to be noticed")
		self.ok("DELETE", "/v1/tasks/" + task)

	def streams(self):
		return self.ok("GET", "/health/detailed")["checks"]["http"]["streams"]

	# The document

	def operations(self):
		document = self.ok("GET", "/openapi.json")
		for path, verbs in document["paths"].items():
			for verb, op in verbs.items():
				yield verb.upper(), path, op

	@staticmethod
	def least_body(op):
		if "requestBody" not in op:
			return None
		known = {"reason": "a test", "action": "skip" if "steps" in op["tags"] else "pause"}
		schema = op["requestBody"]["content"]["application/json"]["schema"]
		return {k: known[k] for k in {*schema.get("required", ()), *({"action"} & set(schema["properties"]))}}

	@staticmethod
	def filled(path, task, a_step, entry):
		return path.format(task_uuid=task, step_uuid=a_step, entry=entry, step="a")

	def test_no_message_is_forgotten(self):
		have = {op["x-message"] for _, _, op in self.operations() if "x-message" in op}
		self.assertEqual(have, {m for m, (kind, _, _) in TABLE.items() if kind == "request"} - NOT_FOR_HTTP)
		for _, _, op in self.operations():
			self.assertEqual(op.get("x-required-role"), TABLE[op["x-message"]][1] if "x-message" in op else None)

	def test_the_document_holds_together(self):
		document = self.ok("GET", "/openapi.json")
		self.assertTrue(document["openapi"].startswith("3.1."))
		names = [op["operationId"] for _, _, op in self.operations()]
		self.assertEqual(len(names), len(set(names)))
		refs = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
		self.assertEqual(refs, set(document["components"]["schemas"]))
		for _, path, op in self.operations():
			self.assertEqual(set(re.findall(r"\{(\w+)\}", path)), {p["name"] for p in op["parameters"] if p["in"] == "path"}, path)


class Peers(harness.Case):
	"""Over a Unix socket the kernel says who asks; over TCP a token does, or nobody needs to."""

	def test_tcp_without_a_token(self):
		node = self.daemon(self.database(), http_listen="127.0.0.1:0,[::1]:0")
		four, six = web.ports(node)
		self.assertNotEqual(four, six)
		tcp = web.Web(four)
		self.addCleanup(tcp.close)
		for path in ("/health/live", "/health/ready", "/openapi.json"):
			self.assertEqual(tcp.get(path).status, 200)
		a = tcp.get("/v1/tasks")
		self.assertEqual((a.status, a.headers["WWW-Authenticate"], a.body["code"]), (401, 'Bearer realm="taskerd"', "permission_denied"))
		self.assertEqual(tcp.get("/metrics").status, 401)
		a = tcp.get("/v1/tasks", Authorization="Bearer nonsense")
		self.assertEqual((a.status, a.headers["WWW-Authenticate"]), (401, 'Bearer realm="taskerd", error="invalid_token"'))
		self.assertFalse(os.path.exists(web.http_socket(node)))

	def test_a_role_for_everybody(self):
		db = self.database()
		node = self.daemon(db, http_listen="0", http_anonymous_role="operate")
		tcp = web.Web(web.ports(node)[0])
		self.addCleanup(tcp.close)
		self.apply(node, template("pair", [step("a", "t.nobody")]))
		task = self.create(node, "pair")
		self.assertEqual(tcp.get("/v1/tasks/" + task).status, 200)
		a = tcp.post("/v1/tasks", {"name": "pair", "namespace": "t"})
		self.assertEqual((a.status, a.body["details"]), (403, {"role": "submit"}))
		self.assertEqual(tcp.post("/v1/tasks/%s/pause" % task, WHY).status, 200)
		self.assertEqual(tcp.ask("DELETE", "/v1/tasks/" + task).status, 200)
		self.assertEqual(db.sql("SELECT action, uid, user_name, operator FROM tasker.operator_actions WHERE task_id IS NOT NULL ORDER BY action_id"),
		                 [["task.pause", None, "anonymous", "ann"], ["task.cancel", None, "anonymous", None]])

	def test_off(self):
		node = self.daemon(self.database(), http_listen="off")
		self.assertFalse(os.path.exists(web.http_socket(node)))
		self.assertNotIn("HTTP on", node.log_text())


class Away(harness.Case):
	def test_the_database_is_away_and_the_daemon_starts_again(self):
		cluster = harness.new_cluster()
		self.addCleanup(cluster.close)
		node = self.daemon(self.database(cluster))
		self.apply(node, template("pair", [step("a", "t.nobody")]))
		asks = web.Web(web.http_socket(node))
		self.addCleanup(asks.close)
		task = asks.post("/v1/tasks", {"name": "pair", "namespace": "t"}).body["task_uuid"]
		cluster.stop("immediate")
		wait_for(lambda: asks.get("/health/ready").status == 503, "the loss to be noticed")
		self.assertEqual(asks.get("/health/live").status, 200)
		ready = asks.get("/health/ready").body
		self.assertEqual((ready["status"], ready["database"]), ("not_ready", "lost"))
		a = asks.post("/v1/tasks", {"name": "pair", "namespace": "t"})
		self.assertEqual((a.status, a.body["code"], a.headers["Retry-After"]), (503, "database_unavailable", "1"))
		cluster.start()
		wait_for(lambda: asks.get("/health/ready").status == 200, "the database to be back")
		asks.close()
		self.assertEqual(node.stop(), 0)
		self.assertFalse(os.path.exists(asks.where))
		node.start()
		self.assertEqual(asks.get("/v1/tasks/" + task).body["state"], "steps_in_process")


if __name__ == "__main__":
	unittest.main()

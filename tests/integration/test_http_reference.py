"""HTTP as clients of Tasker Core know it: its paths, parameters, and the shape of its answers."""
import unittest

import test_http
from harness import step, template

WHY = {"reason": "a test"}
# What its clients read, by where they read it.
TASK = {"task_uuid", "name", "namespace", "version", "status", "created_at", "updated_at", "completed_at", "requested_at", "context", "initiator", "source_system", "reason", "priority", "tags", "correlation_id",
        "parent_correlation_id", "total_steps", "pending_steps", "in_progress_steps", "completed_steps", "failed_steps", "ready_steps", "execution_status", "recommended_action", "completion_percentage", "health_status"}
READINESS = {"workflow_step_uuid", "name", "current_state", "dependencies_satisfied", "retry_eligible", "ready_for_execution", "last_failure_at", "next_retry_at", "last_attempted_at", "total_parents", "completed_parents",
             "attempts", "max_attempts", "backoff_request_seconds"}
STEP = READINESS | {"step_uuid", "results", "created_at", "updated_at"}
AUDIT = {"audit_uuid", "workflow_step_uuid", "transition_uuid", "task_uuid", "recorded_at", "worker_uuid", "correlation_id", "success", "execution_time_ms", "result", "step_name", "from_state", "to_state"}
PAGINATION = {"page", "per_page", "total_count", "total_pages", "has_next", "has_previous"}
ENTRY = {"dlq_entry_uuid", "task_uuid", "original_state", "dlq_reason", "dlq_timestamp", "resolution_status", "resolution_timestamp", "resolution_notes", "resolved_by", "metadata", "created_at", "updated_at"}
REASON = {"dlq_reason", "total_entries", "pending", "manually_resolved", "permanent_failures", "cancelled", "oldest_entry", "newest_entry", "avg_resolution_time_minutes"}
PERFORMANCE = {"total_tasks", "active_tasks", "completed_tasks", "failed_tasks", "completion_rate", "error_rate", "average_task_duration_seconds", "average_step_duration_seconds", "tasks_per_hour", "steps_per_hour",
               "system_health_score", "analysis_period_start", "calculated_at"}
SLOW = {"namespace_name", "task_name", "version", "average_duration_seconds", "max_duration_seconds", "execution_count", "error_count", "error_rate", "last_executed_at"}


class Reference(test_http.Client):
	@classmethod
	def prepare(cls, stage):
		super().prepare(stage)
		stage.apply(stage.node, template("pair", [step("a"), step("b", after=["a"])]))
		stage.apply(stage.node, template("broken", [step("a", "t.flaky", attempts=1, fails=9, kind="permanent"), step("b", after=["a"])]))
		stage.apply(stage.node, template("again", [step("a", "t.flaky", attempts=2, fails=1)]))
		stage.apply(stage.node, template("waits", [step("a", "t.nobody"), step("b", "t.nobody", after=["a"]), step("c", "t.nobody", after=["a", "b"])]))

	def has(self, names, o):
		self.assertLessEqual(names, set(o), names - set(o))
		return o

	def finished(self, name="pair", **more):
		task = self.create(name, **more)
		self.ok("GET", "/v1/tasks/%s/wait" % task)
		return task

	# Tasks

	REQUEST = {"name": "waits", "namespace": "t", "version": "1.0.0", "context": {"order": 1}, "initiator": "me", "source_system": "shop", "reason": "an order", "tags": ["x"], "requested_at": "2026-03-21T10:00:00.123456789",
	           "options": {"how": "fast"}, "priority": 5, "correlation_id": "c-1", "parent_correlation_id": None, "idempotency_key": None}

	def test_a_creation_answers_with_the_task(self):
		made = self.has(TASK | {"created"}, self.ok("POST", "/v1/tasks", self.REQUEST, status=201))
		self.assertEqual((made["created"], made["requested_at"][:23], made["options"], made["execution_status"], made["recommended_action"], made["health_status"], made["completed_at"]),
		                 (True, "2026-03-21T10:00:00.123", {"how": "fast"}, "has_ready_steps", "execute_ready_steps", "healthy", None))
		self.assertEqual([self.has(READINESS, s)["name"] for s in made["steps"]], ["a", "b", "c"])
		self.assertEqual({**made, "created": None, "missing_handlers": None}, {**self.ok("GET", "/v1/tasks/" + made["task_uuid"]), "created": None, "missing_handlers": None})
		task = self.ok("GET", "/v1/tasks/" + self.create("waits"))
		self.assertEqual((task["requested_at"], "options" in task), (task["created_at"], False))

	def test_a_creation_that_prefers_little(self):
		made = self.ok("POST", "/v1/tasks", {"name": "waits", "namespace": "t"}, status=201, Prefer="return=minimal")
		self.assertEqual(set(made), {"task_uuid", "created", "state"})

	def test_a_repeat_answers_with_the_task_there_is(self):
		first = self.ok("POST", "/v1/tasks", {**self.REQUEST, "idempotency_key": "reference-1"}, status=201)
		again = self.ok("POST", "/v1/tasks", {**self.REQUEST, "idempotency_key": "reference-1"}, status=200)
		self.assertEqual((first["task_uuid"], again["created"]), (again["task_uuid"], False))

	def test_what_a_creation_refuses(self):
		for member, value, status in (("requested_at", "soon", 400), ("requested_at", "2026-13-01T00:00:00", 400), ("requested_at", 5, 400), ("requested_at", "2026-03-21T10:00:00ZZ", 400), ("options", [], 400), ("options", "x", 400),
		                              ("options", {"a": "x" * (2 << 20)}, 413), ("priority", 101, 400), ("identity", "x", 400)):
			with self.subTest(member, value=str(value)[:20]):
				problem = self.refused(status, "POST", "/v1/tasks", {**self.REQUEST, member: value}, where=member)
				self.assertIn(member, problem["detail"])

	def test_the_end_of_a_task(self):
		task = self.has(TASK, self.ok("GET", "/v1/tasks/" + self.finished()))
		self.assertEqual((task["execution_status"], task["recommended_action"], task["health_status"], task["completed_at"]), ("all_complete", "none", "healthy", task["finished_at"]))
		task = self.ok("GET", "/v1/tasks/" + self.blocked())
		self.assertEqual((task["execution_status"], task["recommended_action"], task["health_status"]), ("blocked_by_failures", "handle_failures", "blocked"))
		task = self.ok("DELETE", "/v1/tasks/" + self.create("waits"))
		self.has(TASK, task)
		self.assertEqual((task["status"], task["execution_status"], task["recommended_action"], task["health_status"]), ("cancelled", "cancelled", "none", "cancelled"))

	def test_what_is_done_to_a_task_answers_with_it(self):
		task = self.create("waits")
		for path, state in (("pause", "steps_in_process"), ("resume", "steps_in_process"), ("cancel", "cancelled")):
			after = self.ok("POST", "/v1/tasks/%s/%s" % (task, path), WHY)
			self.assertEqual((after["status"], [set(s) >= READINESS for s in after["steps"]]), (state, [True] * 3), path)

	def test_pages_by_number(self):
		tasks = [self.create("waits", tags=["numbered"]) for _ in range(3)]
		page = self.ok("GET", "/v1/tasks?tag=numbered&per_page=2")
		self.assertEqual({k: self.has(PAGINATION, page["pagination"])[k] for k in PAGINATION}, {"page": 1, "per_page": 2, "total_count": 3, "total_pages": 2, "has_next": True, "has_previous": False})
		self.assertEqual([self.has(TASK, t)["task_uuid"] for t in page["tasks"]], tasks[:0:-1])
		for rest in ("page=2&per_page=2", "per_page=2&cursor=" + page["next_cursor"]):
			self.assertEqual([t["task_uuid"] for t in self.ok("GET", "/v1/tasks?tag=numbered&" + rest)["tasks"]], tasks[:1])
		self.assertEqual(self.ok("GET", "/v1/tasks?tag=numbered")["pagination"]["per_page"], 25)
		self.assertNotIn("pagination", self.ok("GET", "/v1/tasks?tag=numbered&limit=2"))
		self.refused(400, "GET", "/v1/tasks?page=0", where="page")
		self.refused(400, "GET", "/v1/tasks?page=2&cursor=1", where="page")

	def test_a_summary_is_for_drawing(self):
		task = self.finished("pair", context={"secret": 1})
		s = self.ok("GET", "/v1/tasks/%s/summary" % task)
		self.assertEqual(set(s) - {"next_cursor"}, {"task", "template", "steps", "dlq", "links"})
		self.has(TASK - {"context"}, s["task"])
		self.assertFalse({"context", "steps"} & set(s["task"]))
		self.assertEqual([(x["name"], x["depends_on"]) for x in s["template"]["steps"]], [("a", []), ("b", ["a"])])
		self.assertEqual([(self.has(READINESS, x)["name"], {"result", "results", "error", "inputs"} & set(x)) for x in s["steps"]], [("a", set()), ("b", set())])
		self.assertEqual((s["dlq"], s["links"]["steps"]), (None, "/v1/tasks/%s/workflow_steps" % task))
		for path in s["links"]:
			self.assertIn(path, ("task", "steps", "history", "events", "dlq"))
		blocked = self.ok("GET", "/v1/tasks/%s/summary" % self.blocked())
		self.assertEqual((blocked["dlq"]["dlq_reason"], blocked["steps"][0]["error_message"] is not None), ("max_retries_exceeded", True))

	# Steps

	def test_readiness(self):
		task = self.create("waits")
		what = lambda: [(s["name"], s["current_state"], s["dependencies_satisfied"], s["ready_for_execution"], s["retry_eligible"], s["completed_parents"], s["total_parents"])  # noqa: E731
		                for s in self.ok("GET", "/v1/tasks/%s/workflow_steps" % task)]
		self.assertEqual(what(), [("a", "enqueued", True, True, True, 0, 0), ("b", "pending", False, False, True, 0, 1), ("c", "pending", False, False, True, 0, 2)])
		self.ok("PATCH", "/v1/tasks/%s/workflow_steps/a" % task, {"action_type": "resolve_manually", "reason": "r", "resolved_by": "ann"})
		self.assertEqual(what(), [("a", "resolved_manually", True, False, True, 0, 0), ("b", "enqueued", True, True, True, 1, 1), ("c", "pending", False, False, True, 1, 2)])
		self.ok("POST", "/v1/tasks/%s/pause" % task, WHY)
		self.assertEqual(what()[1], ("b", "pending", True, False, True, 1, 1), "a paused task has nothing to execute")

	def test_a_failed_step(self):
		s = self.has(STEP, self.ok("GET", "/v1/tasks/%s/workflow_steps/a" % self.blocked()))
		self.assertEqual((s["current_state"], s["retry_eligible"], s["attempts"], s["results"]["success"], s["results"]["status"]), ("error", False, 1, False, "failed"))
		self.assertTrue(s["last_failure_at"] and s["results"]["error"]["message"])
		s = self.ok("GET", "/v1/tasks/%s/workflow_steps/a" % self.finished("again"))
		self.assertEqual((s["current_state"], s["attempts"], s["results"]["success"], s["results"]["result"]), ("complete", 2, True, s["result"]))
		self.assertTrue(s["last_failure_at"], "the first attempt's")

	def test_pages_of_steps(self):
		task = self.create("waits")
		names, path = [], "/v1/tasks/%s/workflow_steps?limit=2" % task
		while path:
			a = self.web.get(path)
			names.append([self.has(STEP, s)["name"] for s in a.body])
			path = a.headers["Link"] and a.headers["Link"][1:a.headers["Link"].index(">")]
		self.assertEqual(names, [["a", "b"], ["c"]])
		page = self.ok("GET", "/v1/tasks/%s?limit=1" % task)
		self.assertEqual(([s["name"] for s in page["steps"]], page["total_steps"]), (["a"], 3))
		self.assertEqual([s["name"] for s in self.ok("GET", "/v1/tasks/%s?cursor=%s" % (task, page["next_cursor"]))["steps"]], ["b", "c"])
		for path, where in (("limit=0", "limit"), ("limit=5001", "limit"), ("cursor=x", "cursor"), ("cursor=", "cursor"), ("readiness=false", "readiness")):
			self.refused(400, "GET", "/v1/tasks/%s/workflow_steps?%s" % (task, path), where=where)

	def test_who_produced_a_result(self):
		task = self.finished("again")
		rows = [self.has(AUDIT, r) for r in self.ok("GET", "/v1/tasks/%s/workflow_steps/a/audit" % task)]
		self.assertEqual([(r["success"], r["from_state"], r["to_state"], r["attempt"]) for r in rows], [(True, "in_progress", "complete", 2), (False, "in_progress", "waiting_for_retry", 1)], "the newest first")
		view = {r[0] for r in self.db.sql("SELECT workflow_step_transition_uuid FROM tasker_views.workflow_step_transitions WHERE task_uuid = '%s'" % task)}
		self.assertLessEqual({r["transition_uuid"] for r in rows}, view)
		first = self.web.get("/v1/tasks/%s/workflow_steps/a/audit?limit=1" % task)
		self.assertEqual(first.body, rows[:1])
		link = first.headers["Link"]
		self.assertEqual((self.ok("GET", link[1:link.index(">")]), link[-10:]), (rows[1:], 'rel="next"'))
		self.refused(400, "GET", "/v1/tasks/%s/workflow_steps/a/audit?cursor=x" % task, where="cursor")
		self.refused(404, "GET", "/v1/tasks/%s/workflow_steps/z/audit" % task, where="step")

	def test_metadata_of_a_completion(self):
		task = self.blocked()
		done = self.ok("PATCH", "/v1/tasks/%s/workflow_steps/a" % task, {"action_type": "complete_manually", "reason": "r", "completed_by": "ann", "completion_data": {"result": {"n": 1}, "metadata": {"ticket": "T-1"}}})
		self.assertEqual((self.has(STEP, done)["current_state"], done["results"]["result"]), ("complete", {"n": 1}))
		events = self.ok("GET", "/v1/tasks/%s/workflow_steps/a/history" % task)["events"]
		self.assertEqual([(e["operator"], e["metadata"]) for e in events if e["event"] == "step.complete_manually"], [("ann", {"ticket": "T-1"})])
		other = self.blocked()
		self.refused(400, "PATCH", "/v1/tasks/%s/workflow_steps/a" % other, {"action_type": "resolve_manually", "reason": "r", "completion_data": {"metadata": {}}}, where="metadata")
		self.refused(400, "PATCH", "/v1/tasks/%s/workflow_steps/a" % other, {"action_type": "complete_manually", "reason": "r", "completion_data": {"result": {}, "more": 1}}, where="completion_data.more")

	# Dead letters

	def test_entries(self):
		task = self.blocked()
		older = self.blocked()
		entries = [self.has(ENTRY | {"task_snapshot"}, e) for e in self.ok("GET", "/v1/dlq?resolution_status=pending&limit=2")]
		self.assertEqual([e["task_uuid"] for e in entries], [older, task], "the newest first")
		self.assertEqual(entries[0]["task_snapshot"]["task"]["task_uuid"], older)
		self.assertEqual([e["task_uuid"] for e in self.ok("GET", "/v1/dlq?resolution_status=pending&limit=1&offset=1")], [task])
		first = self.web.get("/v1/dlq?offset=0&resolution_status=pending&limit=1")
		link = first.headers["Link"]
		self.assertEqual([e["task_uuid"] for e in self.ok("GET", link[1:link.index(">")])], [task])
		self.assertEqual(self.ok("GET", "/v1/dlq?offset=100000"), [])
		entry = self.has(ENTRY | {"task_snapshot"}, self.ok("GET", "/v1/dlq/task/" + task))
		self.assertLessEqual(REASON, set(self.ok("GET", "/v1/dlq/stats")[0]))
		self.refused(400, "GET", "/v1/dlq/stats?causes=true", where="causes")
		cause = next(c for c in self.ok("GET", "/v1/dlq/causes?namespace=t") if c["task_uuid"] == older)
		self.assertEqual((cause["tasks"] >= 2, cause["step"], cause["namespace"]), (True, "a", "t"))
		self.assertEqual(self.ok("GET", "/v1/dlq/causes?namespace=t&name=none"), [])
		self.has(ENTRY | {"priority_score"}, self.ok("GET", "/v1/dlq/investigation-queue?limit=1")[0])
		self.ok("GET", "/v1/dlq/staleness")
		done = self.ok("PATCH", "/v1/dlq/entry/" + entry["dlq_entry_uuid"], {"resolution_status": "manually_resolved", "resolution_notes": "seen", "resolved_by": "ann", "metadata": {"k": 1}})
		self.assertEqual((done["success"], done["dlq_entry_uuid"], done["resolution_notes"], done["metadata"]["k"]), (True, entry["dlq_entry_uuid"], "seen", 1))
		self.assertIn("manually_resolved", done["message"])
		for query, where in (("offset=-1", "offset"), ("offset=x", "offset"), ("offset=100001", "offset"), ("limit=0", "limit"), ("resolution_status=open", "status"), ("snapshots=false", "snapshots")):
			self.refused(400, "GET", "/v1/dlq?" + query, where=where)

	def test_snapshots_of_many_entries_are_bounded(self):
		"""What does not fit into an answer is left out, and that is told."""
		for _ in range(2):
			self.db.sql("UPDATE tasker.dlq SET snapshot = snapshot || jsonb_build_object('large', repeat('x', 700000)) WHERE task_id = (SELECT task_id FROM tasker.tasks WHERE task_uuid = '%s')" % self.blocked())
		entries = self.ok("GET", "/v1/dlq?limit=2")
		self.assertEqual([e.get("snapshot_left_out", False) for e in entries], [False, True])
		self.assertEqual(len(self.ok("GET", "/v1/dlq/entry/" + entries[1]["entry"])["task_snapshot"]["large"]), 700000)

	# Templates and figures

	def test_templates(self):
		listed = self.ok("GET", "/v1/templates?namespace=t")
		self.assertEqual((listed["total_count"], listed["namespaces"]), (4, [{"name": "t", "template_count": 4}]))
		self.assertEqual({t["name"]: t["step_count"] for t in listed["templates"]}, {"pair": 2, "broken": 2, "again": 1, "waits": 3})
		one = self.ok("GET", "/v1/templates/t/pair/1.0.0")
		self.assertEqual(one["configuration"]["name"], "pair")

	def test_performance(self):
		for _ in range(2):
			self.finished()
		self.blocked()
		p = self.has(PERFORMANCE, self.ok("GET", "/v1/analytics/performance?hours=1&namespace=t"))
		count = lambda states: int(self.db.sql("SELECT count(*) FROM tasker.tasks WHERE state IN (%s)" % states)[0][0])  # noqa: E731
		self.assertEqual((p["total_tasks"], p["completed_tasks"], p["failed_tasks"]), (int(self.db.sql("SELECT count(*) FROM tasker.tasks")[0][0]), count("'complete', 'resolved_manually'"), count("'error', 'blocked_by_failures'")))
		self.assertEqual(p["error_rate"], round(100 * p["failed_tasks"] / p["total_tasks"], 2))
		self.assertTrue(p["steps_per_hour"] >= 4 and p["tasks_per_hour"] >= 2)
		self.assertEqual(self.ok("GET", "/v1/analytics/performance?namespace=other")["total_tasks"], 0)
		for query, where in (("hours=-1", "hours"), ("hours=9999", "hours"), ("hours=x", "hours"), ("days=1", "days")):
			self.refused(400, "GET", "/v1/analytics/performance?" + query, where=where)

	def test_bottlenecks(self):
		for _ in range(3):
			self.blocked()
		b = self.ok("GET", "/v1/analytics/bottlenecks?min_executions=3&limit=100")
		slow = {(s["task_name"], s["step_name"]): self.has(SLOW, s) for s in b["slow_steps"]}
		self.assertEqual(slow["broken", "a"]["error_rate"], 100)
		self.assertTrue(all(s["execution_count"] >= 3 for s in b["slow_steps"] + b["slow_tasks"]))
		self.assertTrue([r for r in b["recommendations"] if "step a of t/broken fails in 100" in r], b["recommendations"])
		self.assertIn("blocked_by_failures_tasks", b["resource_utilization"]["system_health"])
		self.assertEqual(self.ok("GET", "/v1/analytics/bottlenecks?min_executions=1000000")["slow_steps"], [])
		for query, where in (("limit=0", "limit"), ("limit=101", "limit"), ("min_executions=0", "min_executions"), ("min=1", "min")):
			self.refused(400, "GET", "/v1/analytics/bottlenecks?" + query, where=where)

	# The rest

	def test_errors_have_its_shape_too(self):
		for status, code, verb, path, body in ((400, "BAD_REQUEST", "GET", "/v1/tasks/x", None), (404, "NOT_FOUND", "GET", "/v1/tasks/" + test_http.NO_TASK, None), (409, "CONFLICT", "DELETE", "/v1/tasks/" + self.finished(), None),
		                                       (400, "BAD_REQUEST", "POST", "/v1/tasks", {})):
			problem = self.refused(status, verb, path, body)
			self.assertEqual(problem["error"], {"code": code, "message": problem["detail"]})

	def test_health_and_pages(self):
		self.assertEqual((self.ok("GET", "/health")["status"], self.ok("GET", "/health/live")["status"]), ("healthy", "alive"))
		self.assertRegex(self.ok("GET", "/health")["timestamp"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
		a = self.web.get("/api-docs/ui")
		self.assertEqual((a.status, a.headers["Content-Type"]), (200, "text/html; charset=utf-8"))
		self.assertIn("default-src 'none'", a.headers["Content-Security-Policy"])
		self.assertNotRegex(a.body, r"(src|href)=.?(https?:)?//", "nothing comes from elsewhere")
		self.assertEqual(self.ok("GET", "/api-docs/openapi.json"), self.ok("GET", "/openapi.json"))


if __name__ == "__main__":
	unittest.main()

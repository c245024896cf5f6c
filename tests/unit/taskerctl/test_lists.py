"""taskerctl against a scripted daemon: lists, dead letters, histories and how they are shown.

usage: test_lists.py TASKERCTL SOURCE_ROOT"""
import json
import sys

import tap
from case import UUID, UUID2, Case, a_task
from fake_taskerd import Error


class Lists(Case):
    def test_workers(self):
        answer = {"workers": [{
            "worker_uuid": "w1", "node": "n1", "name": "blue", "pid": 12, "uid": 0, "client": "taskerd-python/0.1.0",
            "language": "python", "namespaces": ["*"], "handlers": ["a.b", "c.d"], "max_concurrency": 8, "open": 3,
            "done": 1234, "rate": 2.5, "connected_at": "2026-01-02T03:04:05.000000Z", "draining": True}]}
        self.serve(worker__list=answer)
        self.ctl("worker", "list")
        self.assertEqual(self.rows()[0], ["WORKER", "NAME", "NODE", "PID", "CLIENT", "OPEN", "DONE", "RATE", "CONNECTED",
                                          "NAMESPACES", "HANDLERS"])
        self.assertEqual(self.rows()[1], ["w1", "blue", "n1", "12", "taskerd-python/0.1.0", "3/8", "1234", "2.5/s", "draining",
                                          "*", "a.b, c.d"])
        self.assertEqual(json.loads(self.ctl("worker", "list", "--json")), answer)
        self.ctl("worker", "list", "--quiet")
        self.assertEqual(self.rows()[0][0], "w1")

    def test_nodes(self):
        answer = {"nodes": [{"node": "n1", "node_no": 1, "host": "h", "pid": 5, "version": "0.1.0", "state": "alive",
                             "started_at": "2026-01-02T03:04:05Z", "lease_until": "2001-01-01T00:00:00Z",
                             "in_progress": 7}]}
        self.serve(node__list=answer)
        self.ctl("node", "list")
        row = dict(zip(self.rows()[0], self.rows()[1]))
        self.assertEqual(row["LEASE"], "ran out")
        self.assertEqual(row["IN PROGRESS"], "7")

    def test_queues(self):
        self.serve(queue__list={"queues": [
            {"namespace": "shop", "handler": "a.b", "queue": "q", "ready": 4, "delayed": 1, "oldest_ms": 2500, "workers": 0},
            {"namespace": "shop", "handler": "c.d", "queue": "r", "ready": 0, "delayed": 0, "workers": 2}]})
        self.ctl("queue", "list", "--color", "always")
        self.assertIn("\x1b[31m", self.out)
        self.ctl("queue", "list")
        self.assertEqual(self.rows()[1:], [["shop", "a.b", "q", "4", "1", "2.50s", "-", "0"],
                                           ["shop", "c.d", "r", "0", "0", "-", "-", "2"]])
        self.assertNotIn("\x1b", self.out)

    def test_nothing_there(self):
        self.serve(worker__list={"workers": []}, task__list={"tasks": []}, template__list={"templates": []})
        for words in (["worker", "list"], ["task", "list"], ["template", "list"]):
            self.assertEqual(self.ctl(*words), "")
            self.assertNotEqual(self.err, "")
            self.ctl(*words, "--quiet")
            self.assertEqual(self.err, "")

    def test_tasks(self):
        pages = {None: ["a", "b"], "c1": ["c", "d"], "c2": ["e"]}
        following = {None: "c1", "c1": "c2"}

        def answer(params, _):
            cursor = params.get("cursor")
            tasks = [{**a_task(), "task_uuid": u} for u in pages[cursor]][:params["limit"]]
            return {"tasks": tasks, **({"next_cursor": following[cursor]} if cursor in following else {})}

        self.serve(task__list=answer)
        self.ctl("task", "list", "--namespace", "shop", "--name", "order", "--state", "error", "--limit", "2")
        self.assertEqual(self.daemon.params("task.list"),
                         [{"namespace": "shop", "name": "order", "state": "error", "limit": 2}])
        self.assertEqual(self.rows()[1][:4], ["a", "shop/order@1.2.0", "steps_in_process", "1/3"])
        everything = json.loads(self.ctl("task", "list", "--all", "--json"))
        self.assertEqual([t["task_uuid"] for t in everything["tasks"]], list("abcde"))
        self.assertNotIn("next_cursor", everything)
        some = json.loads(self.ctl("task", "list", "--limit", "3", "--json"))
        self.assertEqual([t["task_uuid"] for t in some["tasks"]], list("abc"))
        self.assertEqual(some["next_cursor"], "c2")

    def test_doctor(self):
        good = {"ok": True, "checks": [{"name": "leases", "ok": True, "found": 0, "detail": "none ran out"}]}
        bad = {"ok": False, "checks": good["checks"] + [
            {"name": "stranded", "ok": False, "found": 2, "detail": "steps without owner", "sample": [UUID, {"a": 1}]}]}
        self.serve(doctor=good)
        self.assertIn("ok       leases", self.ctl("doctor"))
        self.serve(doctor=bad)
        self.ctl("doctor", code=1)
        self.assertIn("FOUND    stranded: 2, steps without owner", self.out)
        self.assertIn(UUID, self.out)
        self.assertIn('{"a":1}', self.out)
        self.ctl("doctor", "--quiet", code=1)
        self.assertNotIn("leases", self.out)
        self.assertEqual(json.loads(self.ctl("doctor", "--json", code=1)), bad)

    def test_version(self):
        info = {"server": "taskerd/9.9.9", "version": "9.9.9", "node": "n1", "pid": 5, "uptime_ms": 61000,
                "database": {"state": "up", "version": 150004}}
        self.serve(server__info=info)
        self.ctl("version")
        self.assertIn("taskerd/9.9.9, node n1, pid 5, up 1m01s", self.out)
        self.assertIn("up, PostgreSQL 15.4", self.out)
        self.assertEqual(json.loads(self.ctl("version", "--json"))["taskerd"], info)
        self.ctl("version", "--socket", "/nonexistent/s", socket=False)
        self.assertIn("taskerctl ", self.out)
        self.ctl("--version", "--socket", "/nonexistent/s", socket=False)
        got = json.loads(self.ctl("version", "--json", "--socket", "/nonexistent/s", socket=False))
        self.assertIsNone(got["taskerd"])


ENTRY = {"entry": "3c9d2f10-5b7a-4c1e-9f00-1a2b3c4d5e6f", "task_uuid": UUID, "namespace": "shop", "name": "order", "version": "1.2.0", "task_state": "blocked_by_failures",
         "reason": "max_retries_exceeded", "detail": "exhausted", "status": "pending", "created_at": "2026-01-02T03:04:05.000000Z", "metadata": {"failed_steps": ["pack"]}}


class DeadLetters(Case):
    def test_list_and_queue(self):
        d = self.serve(dlq__list={"entries": [ENTRY], "next_cursor": None}, dlq__queue={"entries": [{**ENTRY, "priority_score": 512.25, "minutes_waiting": 12.25}]})
        self.ctl("dlq", "list", "--status", "pending", "--reason", "manual_dlq", "-n", "shop", "--name", "order", "-l", "7")
        self.assertEqual(d.params("dlq.list"), [{"status": "pending", "reason": "manual_dlq", "namespace": "shop", "name": "order", "limit": 7}])
        self.assertEqual(self.rows()[1][:7], [ENTRY["entry"], UUID, "shop/order@1.2.0", "max_retries_exceeded", "exhausted", "pending", "blocked_by_failures"])
        self.ctl("dlq", "queue")
        self.assertEqual(self.rows()[1][:3], ["512", ENTRY["entry"], UUID])
        self.ctl("dlq", "list", "--limit", "0", code=2)
        self.assertEqual(json.loads(self.ctl("dlq", "queue", "--json"))["entries"][0]["priority_score"], 512.25)

    def test_show_by_either_uuid(self):
        steps = [{"name": "pack", "state": "error", "attempts": 3, "max_attempts": 3, "handler": "shop.pack", "last_error": {"message": "no \x1b[31mbox"}}]
        d = self.serve(dlq__get={**ENTRY, "notes": "seen", "snapshot": {"counts": {"error": 1}, "steps": steps}})
        self.ctl("dlq", "show", UUID)
        self.ctl("dlq", "show", ENTRY["entry"])
        self.assertEqual(d.params("dlq.get"), [{"task_uuid": UUID}, {"entry": ENTRY["entry"]}])
        self.assertIn("max_retries_exceeded", self.out)
        self.assertIn("3/3", self.out)
        self.assertNotIn("\x1b", self.out)

    def test_add_update_redrive(self):
        d = self.serve(dlq__add=ENTRY, dlq__update={**ENTRY, "status": "cancelled"}, dlq__redrive={"entry": ENTRY, "task": a_task()})
        self.assertEqual(self.ctl("dlq", "add", UUID, "--notes", "odd", "--metadata", '{"n": 1}').split()[0], ENTRY["entry"])
        self.assertEqual(d.params("dlq.add"), [{"task_uuid": UUID, "notes": "odd", "metadata": {"n": 1}}])
        self.ctl("dlq", "add", UUID, "--metadata", "[1]", code=2)
        self.assertIn("cancelled", self.ctl("dlq", "update", UUID, "--status", "cancelled", "--resolved-by", "ann"))
        self.assertEqual(d.params("dlq.update"), [{"task_uuid": UUID, "status": "cancelled", "resolved_by": "ann"}])
        self.ctl("dlq", "update", UUID, code=2)
        self.ctl("dlq", "redrive", UUID, code=2)
        self.assertEqual(self.ctl("dlq", "redrive", UUID, "-r", "mended", "--operator", "ann"), "%s steps_in_process\n" % UUID)
        self.assertEqual(d.params("dlq.redrive"), [{"task_uuid": UUID, "reason": "mended", "operator": "ann"}])

    def test_an_entry_that_is_there(self):
        def taken(params, send):
            raise Error("conflict")
        self.serve(dlq__add=taken)
        self.ctl("dlq", "add", UUID, code=5)

    def test_stats_and_staleness(self):
        self.serve(dlq__stats={"reasons": [{"reason": "manual_dlq", "total": 2, "pending": 1, "manually_resolved": 1, "permanently_failed": 0, "cancelled": 0}]},
                   dlq__staleness={"tasks": [{"task_uuid": UUID, "namespace": "shop", "name": "order", "version": "1.2.0", "state": "steps_in_process", "limit": "max_duration_minutes",
                                              "minutes": 60, "percent": 87.5, "health": "warning", "action": "dlq"}]})
        self.ctl("dlq", "stats")
        self.assertEqual(self.rows()[1][:6], ["manual_dlq", "2", "1", "1", "0", "0"])
        self.ctl("dlq", "staleness")
        self.assertEqual(self.rows()[1], [UUID, "shop/order@1.2.0", "steps_in_process", "max_duration_minutes", "60", "88%", "warning", "dlq"])


class Histories(Case):
    def test_all_pages_of_a_task(self):
        pages = {None: {"transitions": [{"from": None, "to": "steps_in_process", "at": "2026-01-02T03:04:05.000000Z", "node": "n1", "cause": {"event": "created"}}], "attempts": [], "actions": [],
                        "next_cursor": "1"},
                 "1": {"transitions": [], "attempts": [{"step": "pack", "attempt": 1, "outcome": "handler_error", "recorded_at": "2026-01-02T03:04:06.000000Z", "node": "n1", "execution_ms": 12.5,
                                                        "error": {"message": "no box"}}],
                       "actions": [{"action": "step.skip", "at": "2026-01-02T03:04:07.000000Z", "step": "pack", "from": "error", "to": "resolved_manually", "operator": "ann", "reason": "no need"}],
                       "next_cursor": None}}
        d = self.serve(task__history=lambda p, send: pages[p.get("cursor")])
        self.ctl("task", "history", UUID)
        for word in ("steps_in_process", "created", "handler_error", "12ms", "no box", "step.skip", "ann", "no need"):
            self.assertIn(word, self.out)
        self.assertEqual(d.params("task.history"), [{"task_uuid": UUID}, {"task_uuid": UUID, "cursor": "1"}])
        whole = json.loads(self.ctl("task", "history", UUID, "--json"))
        self.assertEqual([len(whole[k]) for k in ("transitions", "attempts", "actions")], [1, 1, 1])

    def test_a_step(self):
        d = self.serve(task__history={"step": "pack", "events": [{"at": "2026-01-02T03:04:05.000000Z", "state": "in_progress", "event": "started", "attempt": 2, "node": "n1"}], "next_cursor": None})
        self.ctl("step", "history", UUID, "pack")
        self.assertEqual(d.params("task.history"), [{"task_uuid": UUID, "step": "pack"}])
        self.assertEqual(self.rows()[1][1:5], ["in_progress", "started", "2", "n1"])


AT = "2026-01-02T03:04:05.600000Z"
SECOND = "2026-01-02T03:04:05"
# A list verb: the method it asks, the member of the answer, one item, and what --output wide shows of it beyond the rest.
WIDE = {
    "task list": ("task.list", "tasks", a_task(failed_steps=1, in_progress_steps=2, priority=7, tags=["red", "big"], initiator="ann", correlation_id="web-17", updated_at=AT),
                  {"FAILED": "1", "RUNNING": "2", "PRIORITY": "7", "TAGS": "red, big", "INITIATOR": "ann", "CORRELATION": "web-17", "UPDATED": SECOND}),
    "worker list": ("worker.list", "workers", {"worker_uuid": "w1", "node": "n1", "name": "blue", "pid": 12, "uid": 33, "client": "taskerd-python/0.1.0", "language": "python", "namespaces": ["*"],
                                               "handlers": ["a.b"], "max_concurrency": 8, "open": 3, "done": 12, "rate": 2.5, "connected_at": AT, "draining": False, "unit": "taskerd-worker@blue.service",
                                               "broken": [{"name": "x", "file": "f", "line": 1, "message": "m"}]},
                    {"UNIT": "taskerd-worker@blue.service", "UID": "33", "LANGUAGE": "python", "VERSION": "0.1.0", "CREDITS": "5", "BROKEN": "1"}),
    "node list": ("node.list", "nodes", {"node": "n1", "node_no": 1, "host": "h", "pid": 5, "version": "0.1.0", "state": "up", "started_at": AT, "lease_until": AT, "in_progress": 7, "workers": 3,
                                         "sessions": 4, "open_steps": 6, "store_threads": 2},
                  {"WORKERS": "3", "SESSIONS": "4", "GIVEN": "6", "STORE": "2", "STARTED": SECOND, "LEASE UNTIL": SECOND}),
    "queue list": ("queue.list", "queues", {"namespace": "shop", "handler": "a.b", "queue": "q", "ready": 4, "delayed": 1, "oldest_ms": 2500, "next_ms": 61000, "queued": 90, "done": 80, "rate": 0.5,
                                            "workers": 1, "paused": False, "nodes": [{"node": "n1", "workers": 1, "done": 80, "rate": 0.5}]},
                   {"NEXT IN": "1m01s", "QUEUED": "90", "DONE": "80", "NODES": "n1 1: 0.5/s"}),
    "namespace list": ("namespace.list", "namespaces", {"namespace": "shop", "paused": True, "templates": 2, "handlers": 3, "created_at": AT, "changed_at": AT, "reason": "r", "operator": "ann",
                                                        "user": "root", "uid": 0},
                       {"USER": "root", "UID": "0", "CHANGED": SECOND, "CREATED": SECOND}),
    "namespace retention shop": ("namespace.retention", "rules", {"state": "complete", "keep_minutes": 1440, "action": "archive", "own": True}, {"MINUTES": "1440"}),
    "token list": ("token.list", "tokens", {"id": "t1", "name": "nightly", "roles": ["read"], "namespaces": ["*"], "state": "revoked", "created_at": AT, "created_by": "root", "expires_at": AT,
                                            "last_used_at": AT, "revoked_at": AT, "revoked_by": "ann"},
                   {"MADE": SECOND, "UNTIL": SECOND, "LAST USED": SECOND, "REVOKED": SECOND, "REVOKED BY": "ann"}),
    "events list": ("event.list", "queues", {"namespace": "shop", "queue": "q", "messages": 3, "ready": 2, "oldest_ms": 61000, "published": 42}, {"GIVEN OUT": "1", "CONSUMED": "39"}),
    "template list": ("template.list", "templates", {"namespace": "shop", "name": "order", "version": "1.0.0", "steps": 3, "created_at": AT, "digest": "0123456789abcdef"},
                      {"WHOLE DIGEST": "0123456789abcdef"}),
    "audit": ("audit.list", "actions", {"at": AT, "action": "step.skip", "namespace": "shop", "task_uuid": UUID, "step": "pack", "step_uuid": UUID2, "from": "error", "to": "complete", "reason": "r",
                                        "operator": "ann", "user": "root", "uid": 0, "pid": 12, "node": "n1", "host": "h", "request": UUID2},
              {"FROM": "error", "TO": "complete", "USER": "root", "UID": "0", "PID": "12", "NODE": "n1", "HOST": "h", "REQUEST": UUID2}),
    "dlq list": ("dlq.list", "entries", {**ENTRY, "original_state": "steps_in_process", "updated_at": AT, "resolved_by": "ann", "notes": "seen"},
                 {"WAS": "steps_in_process", "CREATED": SECOND, "UPDATED": SECOND, "FAILED STEPS": "pack", "RESOLVED BY": "ann", "NOTES": "seen"}),
    "dlq queue": ("dlq.queue", "entries", {**ENTRY, "priority_score": 512.25, "original_state": "error", "updated_at": AT, "resolved_by": "ann", "notes": "seen"}, {"WAS": "error", "NOTES": "seen"}),
    "dlq stats": ("dlq.stats", "reasons", {"reason": "manual_dlq", "total": 2, "pending": 1, "manually_resolved": 1, "permanently_failed": 0, "cancelled": 0, "oldest_pending_at": AT, "newest_at": AT,
                                           "mean_resolution_minutes": 12.5},
                  {"MINUTES OPEN": "12.5"}),
    "dlq causes": ("dlq.stats", "causes", {"tasks": 2000, "namespace": "shop", "name": "order", "version": "1.2.0", "step": "pack", "handler": "shop.pack", "outcome": "permanent_error", "error_type": "NoBox",
                                           "message": "no box", "workers": ["pack-1@n1"], "n_workers": 1, "reason": "max_retries_exceeded", "oldest_at": AT, "newest_at": AT, "task_uuid": UUID},
                   {"REASON": "max_retries_exceeded", "HANDLER": "shop.pack", "OUTCOME": "permanent_error", "FOR EXAMPLE": UUID}),
    "dlq staleness": ("dlq.staleness", "tasks", {"task_uuid": UUID, "namespace": "shop", "name": "order", "version": "1.2.0", "state": "steps_in_process", "limit": "max_duration_minutes",
                                                 "minutes": 60, "since": AT, "percent": 87.5, "health": "warning", "action": "dlq", "in_dlq": True},
                      {"SINCE": SECOND, "FILED": "yes"}),
    "analytics templates": ("analytics", "templates", {"namespace": "shop", "name": "order", "version": "1.2.0", "tasks": 9, "complete": 7, "failed": 1, "live": 1, "cancelled": 2,
                                                       "duration_ms": {"n": 7, "p50": 1000, "p95": 2000, "p99": 3000, "max": 4000, "mean": 1500}},
                            {"MEAN": "1.50s", "CANCELLED": "2"}),
    "analytics steps": ("analytics", "steps", {"namespace": "shop", "name": "order", "version": "1.2.0", "step": "pack", "handler": "shop.pack", "attempts": 9, "failure_rate": 0.25, "retried": 3,
                                               "timeouts": 2, "workers_lost": 1, **{k: {"p50": 1, "p95": 2, "p99": 3, "max": 4} for k in ("wait_ms", "run_ms", "record_ms")}},
                        {"RETRIED": "3", "TIMEOUTS": "2", "WORKERS LOST": "1", "RECORD P95": "2ms", "HANDLER": "shop.pack"}),
    "analytics slowest": ("analytics", "slowest", {"task_uuid": UUID, "namespace": "shop", "name": "order", "version": "1.2.0", "state": "complete", "created_at": AT, "finished_at": AT,
                                                   "duration_ms": 12.5}, {"FINISHED": AT}),
    "analytics failing": ("analytics", "steps", {"namespace": "shop", "name": "order", "version": "1.2.0", "step": "pack", "handler": "shop.pack", "attempts": 9, "failure_rate": 0.25, "timeouts": 2,
                                                 "workers_lost": 1, "errors": [{"error_type": "NoBox", "n": 3, "message": "no box"}]},
                          {"ATTEMPTS": "9", "TIMEOUTS": "2", "WORKERS LOST": "1", "HANDLER": "shop.pack"}),
    "step history %s pack" % UUID: ("task.history", "events", {"at": AT, "state": "error", "event": "recorded", "attempt": 2, "node": "n1", "outcome": "handler_error", "worker_uuid": UUID2,
                                                               "execution_ms": 12.5, "error": {"message": "no box", "error_type": "NoBox"}},
                                    {"WORKER": UUID2, "TOOK": "12ms", "ERROR TYPE": "NoBox"}),
}


class Wide(Case):
    """--output wide shows more, of every list."""

    def table(self):
        """The one row by its columns; they are aligned, so a heading tells where its cell begins or ends."""
        heading, row = self.rows()[:2]
        return dict(zip(heading, row))

    def test_every_list(self):
        self.maxDiff = None
        for verb, (method, member, item, wanted) in WIDE.items():
            with self.subTest(verb=verb):
                self.serve(**{method.replace(".", "__"): {member: [item], "scanned": {"tasks": 1, "whole": True}}})
                self.ctl(*verb.split(), "-o", "wide")
                wide = self.table()
                self.assertEqual({k: wide.get(k) for k in wanted}, wanted)
                self.assertNotIn("-", wide.values(), "a column shows nothing of an item that has everything")
                self.ctl(*verb.split())
                narrow = self.table()
                self.assertEqual(narrow, {k: v for k, v in wide.items() if k in narrow})
                self.assertFalse(set(wanted) & set(narrow))

    def test_what_could_not_be_loaded(self):
        """With a line if there is one: a module in binary has none."""
        self.serve(worker__list={"workers": [{"name": "blue", "broken": [{"name": "x", "file": "f.py", "line": 3, "message": "no"}, {"name": "g.wasm", "message": "no module"}]}]})
        self.assertIn("blue cannot load x: f.py:3: no\nblue cannot load g.wasm: no module\n", self.ctl("worker", "list"))

    def test_no_list_is_forgotten(self):
        commands = json.loads(self.ctl("help", "--json", socket=False))["commands"]
        lists = {f"{c['group'] or ''} {c['command']}".strip() for c in commands if c["list"] and c["columns"]} - {"profile list"}
        self.assertEqual(lists, {" ".join(verb.split()[:2]) for verb in WIDE})
        for c in commands:
            if c["columns"]:
                self.assertTrue(c["wide_columns"], c["command"])

    def test_steps_of_a_task(self):
        """Where they run comes from the history, and of those that run now from their workers."""
        task = a_task()
        task["steps"][0] |= {"ready_at": "2026-01-02T03:04:05.0Z"}
        task["steps"][1] |= {"state": "in_progress", "ready_at": AT, "started_at": AT}
        attempt = {"step_uuid": "s1", "step": "take", "attempt": 1, "outcome": "success", "recorded_at": AT, "node": "n1", "worker_uuid": "w1"}
        self.serve(task__get=task, task__history={"transitions": [], "attempts": [{**attempt, "worker_uuid": "w0"}, attempt], "actions": [], "next_cursor": None},
                   worker__list={"workers": [{"worker_uuid": "w1", "node": "n1", "name": "blue", "open": 0}, {"worker_uuid": "w2", "node": "n2", "name": "red", "open": 1}, {"worker_uuid": "w3"}]},
                   worker__get=lambda p, _: {"running": [{"step_uuid": "s2", "ended": False}]} if p["worker_uuid"] == "w2" else None)
        self.ctl("task", "get", UUID, "--output", "wide")
        rows = {row[0]: row for row in self.rows()}
        self.assertEqual(rows["STEP"][6:], ["WAITED", "NODE", "WORKER", "STEP UUID", "LAST ERROR"])
        self.assertEqual(rows["take"][6:], ["100ms", "n1", "w1", "s1", "-"])
        self.assertEqual(rows["pack"][6:], ["0us", "n2", "red", "s2", "no ?[31mbox"])
        self.assertEqual(rows["send"][6:], ["-", "-", "-", "s3", "-"])
        self.ctl("task", "get", UUID)
        self.assertEqual(len(self.daemon.params("task.history")), 1)


class Status(Case):
    """What needs somebody, each with the command to try next."""
    AGO = "2026-01-02T03:04:05.000000Z"
    WELL = {"server__info": {"database": {"state": "up"}}, "node__list": {"nodes": [{"node": "n1", "state": "up", "in_progress": 3}, {"node": "old", "state": "down", "in_progress": 0}]},
            "namespace__list": {"namespaces": [{"namespace": "pay", "paused": False}]},
            "queue__list": {"queues": [{"namespace": "pay", "handler": "a", "ready": 5, "oldest_ms": 900, "workers": 1}, {"namespace": "pay", "handler": "b", "ready": 0, "workers": 0}]},
            "worker__list": {"workers": [{"worker_uuid": UUID, "name": "w", "broken": []}]}, "dlq__stats": {"reasons": [{"reason": "manual_dlq", "pending": 0}]}, "dlq__staleness": {"tasks": []},
            "stats": {"tasks": {"states": {"complete": 7}, "paused": 0}}}
    # What is otherwise, what is said, and what is to be done.
    WRONG = [
        ({"server__info": {"database": {"state": "lost", "error": "connection refused"}}}, "database", "connection refused", "taskerctl version"),
        ({"node__list": {"nodes": [{"node": "n2", "host": "h2", "state": "expired", "in_progress": 4}]}}, "node", "n2 on h2 is expired", "taskerctl node list"),
        ({"namespace__list": {"namespaces": [{"namespace": "pay", "paused": True, "operator": "anna", "reason": "the bank moves", "changed_at": AGO}]}}, "paused", "by anna (the bank moves)",
         "taskerctl namespace resume pay --reason TEXT"),
        ({"queue__list": {"queues": [{"namespace": "pay", "handler": "pay.receipt", "ready": 2, "oldest_ms": 5000, "workers": 0}]}}, "no worker", "2 steps wait for pay.receipt in pay",
         "taskerctl worker list"),
        ({"queue__list": {"queues": [{"namespace": "pay", "handler": "pay.receipt", "ready": 2, "oldest_ms": 95000, "workers": 3}]}}, "slow", "since 1m35s, though 3 workers",
         "taskerctl analytics steps --namespace pay --since 1h"),
        ({"worker__list": {"workers": [{"worker_uuid": UUID, "name": "blue", "broken": [{"name": "x"}]}]}}, "broken", "blue could not load 1", "taskerctl worker show " + UUID),
        ({"dlq__stats": {"reasons": [{"reason": "max_retries_exceeded", "pending": 12, "oldest_pending_at": AGO}]}}, "dead letters", "12 tasks need somebody (max_retries_exceeded)", "taskerctl dlq causes"),
        ({"dlq__staleness": {"tasks": [{"task_uuid": UUID, "namespace": "pay", "name": "p", "limit": "max_duration_minutes", "minutes": 60}]}}, "late", "past its max_duration_minutes of 60",
         "taskerctl task get " + UUID),
        ({"stats": {"tasks": {"states": {"waiting_for_retry": 9}, "paused": 0}}}, "retries", "9 tasks wait for another attempt", "taskerctl analytics failing --since 1h"),
        ({"stats": {"tasks": {"states": {}, "paused": 3}}}, "paused", "3 tasks are paused", "taskerctl task list --paused"),
    ]

    def test_nothing(self):
        self.serve(**self.WELL)
        self.assertEqual(self.ctl("status"), "")
        self.assertIn("nothing needs you", self.err)
        self.assertEqual(json.loads(self.ctl("status", "--json")), {"ok": True, "findings": []})

    def test_each(self):
        for answers, what, about, following in self.WRONG:
            with self.subTest(what=what):
                self.serve(**{**self.WELL, **answers})
                got = json.loads(self.ctl("status", "--json", code=1))
                self.assertEqual([(f["what"], f["next"]) for f in got["findings"]], [(what, following)])
                self.assertIn(about, got["findings"][0]["about"])
                lines = self.ctl("status", code=1).splitlines()
                self.assertEqual(len(lines), 2)
                self.assertTrue(lines[0].startswith(what))
                self.assertEqual(lines[1].strip(), following)

    def test_without_a_database_nothing_else_is_asked(self):
        self.serve(server__info={"database": {"state": "stuck"}})
        self.ctl("status", code=1)
        self.assertEqual([m for m, _ in self.daemon.asked if m != "hello"], ["server.info"])

    def test_the_commands_are_some(self):
        for *_, following in self.WRONG:
            self.ctl(*following.split()[1:], "--help", socket=False)


tap.main(sys.modules[__name__])

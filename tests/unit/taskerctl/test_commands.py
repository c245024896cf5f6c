"""taskerctl against a scripted daemon: what it asks for, what it prints, and how it ends.

usage: test_commands.py TASKERCTL SOURCE_ROOT"""
import json
import os
import pathlib
import re
import stat
import subprocess
import sys
import time
import unittest

import tap
from case import DEFINITION, LINEAR, ROOT, TASKERCTL, TEMPLATE, UUID, UUID2, Case, a_task
from fake_taskerd import Error, FakeTaskerd, HangUp, Silence, WELCOME


def an_event(name="payment.charged", payload=None, **metadata):
    return {"event_id": UUID2, "event_name": name, "event_version": "1.0", "payload": {"payload": payload},
            "metadata": {"namespace": "shop", "fired_at": "2026-01-02T03:04:05.000000Z", "fired_by": "default", **metadata}}


# How a task ends, and the exit code of who waits for it.
ENDS = {"complete": 0, "resolved_manually": 0, "error": 8, "blocked_by_failures": 9, "cancelled": 10}


class Events(Case):
    def test_tail(self):
        def subscribe(params, send):
            self.assertEqual(params, {"patterns": ["payment.*"], "namespaces": ["shop", "b"]})
            send("event.message", {"events": [an_event(payload={"n": 1}, step_name="charge\x1b[31m")], "lost": 0})
            send("event.message", {"events": [an_event("payment.two", None), an_event("payment.three")], "lost": 7})
            return {"patterns": ["payment.*"]}
        self.serve(event__subscribe=subscribe)
        self.ctl("events", "tail", "payment.*", "-n", "shop", "-n", "b", "--count", "2")
        self.assertEqual(self.out.splitlines(), ['2026-01-02T03:04:05.000000Z shop payment.charged charge?[31m {"n":1}',
                                                 "2026-01-02T03:04:05.000000Z shop payment.two null"])
        self.assertIn("7 events were lost", self.err)

    def test_tail_as_json_until_the_timeout(self):
        def subscribe(params, send):
            self.assertEqual(params, {"patterns": ["*"], "namespaces": []})
            send("event.message", {"events": [an_event()], "lost": 0})
            return {"patterns": ["*"]}
        self.serve(event__subscribe=subscribe)
        self.ctl("events", "tail", "--json", "--timeout", "300ms")
        self.assertEqual(json.loads(self.out), an_event())
        self.ctl("events", "tail", "-c", "2", "--timeout", "300ms", code=6)
        self.ctl("events", "tail", "--count", "0", code=2)

    def test_consume_acknowledges_what_it_prints(self):
        queue, acked = [[1, 2], [3]], []

        def consume(params, send):
            self.assertEqual((params["namespace"], params["max"], params["wait_ms"], params["visibility_ms"], params["patterns"]), ("shop", 100, 0, 60000, ["payment.*"]))
            ids = queue.pop(0) if queue else []
            return {"messages": [{"msg_id": i, "read_count": 1, "event": an_event(payload=i)} for i in ids]}

        def ack(params, send):
            acked.append(params)
            return {"done": len(params["ids"]), "missing": []}
        self.serve(event__consume=consume, event__ack=ack)
        self.ctl("events", "consume", "payment.*", "-n", "shop", "--visibility", "1m")
        self.assertEqual([line.split()[-1] for line in self.out.splitlines()], ["1", "2", "3"])
        self.assertEqual(acked, [{"namespace": "shop", "ids": [1, 2]}, {"namespace": "shop", "ids": [3]}])
        self.ctl("events", "consume", "payment.*", "-n", "shop", "--visibility", "1m")
        self.assertIn("no events", self.err)

    def test_consume_keeps(self):
        self.serve(event__consume=lambda params, send: {"messages": [{"msg_id": 5, "read_count": 2, "event": an_event()}]})
        self.ctl("events", "consume", "--keep", "--json")
        self.assertEqual(json.loads(self.out)["msg_id"], 5)

    def test_consume_waits(self):
        waits = []

        def consume(params, send):
            waits.append(params["wait_ms"])
            n = len(waits)
            return {"messages": [{"msg_id": n, "read_count": 1, "event": an_event()}] if n > 1 else []}
        self.serve(event__consume=consume, event__ack=lambda params, send: {"done": 1, "missing": []})
        self.ctl("events", "consume", "--wait", "--count", "2")
        self.assertEqual(waits, [60000, 60000, 60000])
        self.serve(event__consume=lambda params, send: {"messages": []})
        self.ctl("events", "consume", "--wait", "--count", "1", "--timeout", "200ms", code=6)

    def test_publish(self):
        asked = []
        self.serve(event__publish=lambda params, send: asked.append(params) or {"event_id": UUID, "msg_id": 9})
        self.assertEqual(self.ctl("events", "publish", "stock.low", "-p", '{"left": 2}', "-n", "shop", "--mode", "broadcast", "--correlation-id", "c", "--metadata", "{}", "--event-id", UUID), UUID + "\n")
        self.assertEqual(asked[0], {"name": "stock.low", "payload": {"left": 2}, "namespace": "shop", "delivery_mode": "broadcast", "correlation_id": "c", "metadata": {}, "event_id": UUID})
        self.ctl("events", "publish", "stock.low", "--payload", "-", "--json", stdin="[1]")
        self.assertEqual((asked[1], json.loads(self.out)), ({"name": "stock.low", "payload": [1]}, {"event_id": UUID, "msg_id": 9}))
        self.ctl("events", "publish", "stock.low", "-p", "{", code=2)

    def test_list(self):
        self.serve(event__list={"queues": [{"namespace": "shop", "queue": "shop_domain_events", "messages": 3, "ready": 2, "oldest_ms": 61000, "published": 42}]})
        self.ctl("events", "list")
        self.assertEqual(self.rows()[1], ["shop", "shop_domain_events", "3", "2", "1m01s", "42"])
        self.assertEqual(json.loads(self.ctl("events", "list", "--json"))["queues"][0]["messages"], 3)
        self.serve(event__list={"queues": []})
        self.ctl("events", "list")
        self.assertIn("no namespace", self.err)


class Errors(Case):
    def test_exit_codes(self):
        for name, code in {"not_found": 4, "template_not_found": 4, "conflict": 5, "overloaded": 7,
                           "database_unavailable": 7, "shutting_down": 7, "permission_denied": 1, "internal": 1}.items():
            with self.subTest(code=name):
                self.serve(task__get=Error(name, "words of the daemon"))
                self.ctl("task", "get", UUID, code=code)
                self.assertEqual(self.out, "")
                self.assertIn("words of the daemon", self.err)

    def test_unreachable(self):
        self.ctl("task", "list", "--socket", "/nonexistent/s", code=3, socket=False)
        self.assertIn("/nonexistent/s", self.err)
        self.assertIn("--socket PATH", self.err)

    def test_the_socket_of_the_environment(self):
        self.serve(task__list={"tasks": []})
        self.ctl("task", "list", socket=False, env={"TASKERD_SOCKET": self.daemon.path})

    def test_no_answer(self):
        self.serve(task__get=Silence())
        self.ctl("task", "get", UUID, "--timeout", "50ms", code=6)
        self.assertIn("--timeout", self.err)

    def test_connection_lost(self):
        self.serve(task__get=HangUp())
        self.ctl("task", "get", UUID, code=3)

    def test_another_version(self):
        self.serve(hello=Error("unsupported_version", "2.0 is spoken here"))
        self.ctl("task", "get", UUID, code=1)
        self.assertIn("2.0 is spoken here", self.err)

    def test_json(self):
        self.serve(task__get=Error("overloaded", "later", retry_after_ms=70, path="x.y"))
        self.ctl("task", "get", UUID, "--json", code=7)
        self.assertEqual(json.loads(self.out), {"error": {
            "code": "overloaded", "message": "later", "retry_after_ms": 70, "path": "x.y"}})
        self.assertIn("70 ms", self.err)

    def test_usage_needs_no_daemon(self):
        self.ctl("task", "get", "not-a-uuid", code=2, socket=False)
        self.ctl("task", "create", code=2, socket=False)
        self.ctl("task", "create", "a/b/c", code=2, socket=False)
        self.ctl("task", "create", "a/b", "--priority", "101", code=2, socket=False)
        self.ctl("task", "create", "a/b", "--context", "[1]", code=2, socket=False)
        self.ctl("task", "create", "a/b", "--context", '{"a":1,"a":2}', code=2, socket=False)
        self.ctl("task", "create", "--from", "x", "--key", "k", code=2, socket=False)
        self.ctl("task", "list", "--limit", "0", code=2, socket=False)
        self.ctl("template", "graph", "a/b", "--format", "png", code=2, socket=False)
        self.ctl("help", "nonsense", code=2, socket=False)

    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "w") as full:
            p = subprocess.run([TASKERCTL, "help"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=30)
        self.assertEqual(p.returncode, 1)
        self.assertIn("cannot write", p.stderr)


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


class Retention(Case):
    RULES = {"namespace": "shop", "rules": [{"state": "complete", "keep_minutes": 1440, "action": "archive", "own": True}, {"state": "error", "keep_minutes": None, "action": "archive", "own": False}]}

    def test_show_and_set(self):
        d = self.serve(namespace__retention=self.RULES)
        self.ctl("namespace", "retention", "shop")
        self.assertEqual(self.rows()[1:], [["complete", "1d00h", "archive", "the namespace"], ["error", "for ever", "-", "the options"]])
        self.ctl("namespace", "retention", "shop", "--keep", "72h", "--action", "delete", "--state", "complete")
        self.ctl("namespace", "retention", "shop", "-k", "forever")
        self.ctl("namespace", "retention", "shop", "-k", "default")
        self.assertEqual(d.params("namespace.retention")[1:], [{"namespace": "shop", "state": "complete", "action": "delete", "keep_minutes": 4320}, {"namespace": "shop", "forever": True},
                                                               {"namespace": "shop", "inherit": True}])

    def test_what_cannot_be_meant(self):
        self.serve(namespace__retention=self.RULES)
        for args in (("--keep", "90s"), ("--keep", "soon"), ("--action", "delete")):
            self.ctl("namespace", "retention", "shop", *args, code=2)


class Templates(Case):
    def test_validate(self):
        self.ctl("template", "validate", str(LINEAR), socket=False)
        self.assertIn("ok, bench/linear", self.out)
        bad = self.file("name: x\nnamespace_name: y\nversion: 1.0.0\nsteps:\n  - name: a\n    handler: {callable: c}\n"
                        "    dependencies: [b]\n", "bad.yaml")
        self.ctl("template", "validate", str(LINEAR), bad, "/nonexistent.yaml", code=1, socket=False)
        self.assertRegex(self.out, re.escape(bad) + r":\d+:\d+: error: ")
        self.assertIn("/nonexistent.yaml: error: cannot be read", self.out)
        got = json.loads(self.ctl("template", "validate", str(LINEAR), bad, "--json", code=1, socket=False))
        self.assertEqual([x["ok"] for x in got], [True, False])
        self.assertEqual(got[1]["findings"][0]["severity"], "error")
        self.ctl("template", "validate", "-", stdin=LINEAR.read_text(), socket=False)
        self.assertIn("<stdin>: ok", self.out)

    def test_validate_strict(self):
        odd = self.file(LINEAR.read_text() + "\nunknown_key: 1\n", "odd.yaml")
        self.ctl("template", "validate", odd, socket=False)
        self.assertIn("1 warning", self.out)
        self.ctl("template", "validate", "--strict", odd, code=1, socket=False)

    def test_apply(self):
        finding = {"severity": "error", "file": "f.yaml", "line": 3, "column": 5, "key": "steps[0].name", "message": "bad"}

        def answer(params, _):
            if "broken" in params["source"]:
                raise Error("invalid_template", "1 error", details={"findings": [finding]})
            if "taken" in params["source"]:
                raise Error("conflict", "in use")
            return {"namespace": "shop", "name": "order", "version": "1.2.0", "created": True, "findings": []}

        self.serve(template__apply=answer)
        good, broken, taken = (self.file(t, t + ".yaml") for t in ("good", "broken", "taken"))
        self.assertEqual(self.ctl("template", "apply", good), "shop/order@1.2.0 registered\n")
        self.assertEqual(self.daemon.params("template.apply")[0], {"source": "good", "filename": good, "strict": False})
        self.ctl("template", "apply", broken, good, "--strict", code=1)
        self.assertIn("f.yaml:3:5: error: steps[0].name: bad", self.err)
        self.assertIn("registered", self.out)
        self.assertTrue(self.daemon.params("template.apply")[-1]["strict"])
        self.ctl("template", "apply", "--replace-unused", good)
        self.assertTrue(self.daemon.params("template.apply")[-1]["replace_unused"])
        self.ctl("template", "apply", taken, code=5)
        self.assertIn("new version", self.err)
        got = json.loads(self.ctl("template", "apply", good, broken, "--json", code=1))
        self.assertTrue(got[0]["created"])
        self.assertEqual(got[1]["error"]["details"]["findings"], [finding])
        self.ctl("template", "apply", "/nonexistent.yaml", code=1)

    def test_show(self):
        self.serve(template__get=TEMPLATE)
        self.ctl("template", "show", "shop/order@1.2.0")
        self.assertEqual(self.daemon.params("template.get")[0],
                         {"namespace": "shop", "name": "order", "version": "1.2.0"})
        self.assertEqual(self.rows()[-1], ["pack", "shop.pack", "1", "-", "30s", "take"])
        self.ctl("template", "show", "order")
        self.assertEqual(self.daemon.params("template.get")[1], {"namespace": "default", "name": "order"})
        self.assertEqual(json.loads(self.ctl("template", "show", "shop/order", "--definition")), DEFINITION)
        self.assertEqual(json.loads(self.ctl("template", "show", "shop/order", "--json")), TEMPLATE)

    def test_list(self):
        answer = {"templates": [{"namespace": "shop", "name": "order", "version": "1.2.0", "steps": 3,
                                 "created_at": "2026-01-01T00:00:00.123Z", "digest": "0123456789abcdef"}]}
        self.serve(template__list=answer)
        self.ctl("template", "list", "-n", "shop")
        self.assertEqual(self.daemon.params("template.list"), [{"namespace": "shop"}])
        self.assertEqual(self.rows()[1], ["shop", "order", "1.2.0", "3", "0123456789ab", "2026-01-01T00:00:00"])

    def test_graph(self):
        self.serve(template__get=TEMPLATE)
        for what in (str(LINEAR), "shop/order"):
            self.assertIn("digraph", self.ctl("template", "graph", what, "--format", "dot"))
            self.assertRegex(self.ctl("template", "graph", what, "--format", "mermaid"), "graph|flowchart")
            self.ctl("template", "graph", what)
        self.assertRegex(self.out, r"take[\s\S]*pack[\s\S]*send")
        path = self.file("", "out.dot")
        self.assertEqual(self.ctl("template", "graph", str(LINEAR), "--format=dot", "-o", path), "")
        self.assertIn("digraph", pathlib.Path(path).read_text())
        self.ctl("template", "graph", self.file("name: x", "x.yaml"), code=1)

    def test_graph_svg_runs_dot(self):
        self.serve()
        fake = pathlib.Path(self.file('#!/bin/sh\necho "<svg $1>"; grep -c digraph\n', "dot"))
        fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
        path = f"{fake.parent}:{os.environ['PATH']}"
        self.assertEqual(self.ctl("template", "graph", str(LINEAR), "-f", "svg", env={"PATH": path}), "<svg -Tsvg>\n1\n")
        fake.write_text("#!/bin/sh\nexit 3\n")
        self.ctl("template", "graph", str(LINEAR), "-f", "svg", env={"PATH": path}, code=1)
        self.ctl("template", "graph", str(LINEAR), "-f", "svg", env={"PATH": "/nonexistent"}, code=1)
        self.assertIn("graphviz", self.err)


class Create(Case):
    def answer(self, params, _):
        return {"task_uuid": UUID, "created": params.get("idempotency_key") != "again", "state": "pending"}

    def test_all_options(self):
        self.serve(task__create=self.answer)
        self.ctl("task", "create", "shop/order@1.2.0", "-c", '{"n": 9007199254740993, "x": 0.1}', "-k", "k", "-t", "a",
                 "-t", "b", "-p", "-7", "--initiator", "i", "--source-system", "s", "--reason", "r", "--correlation-id",
                 "c", "--parent-correlation-id", "p", "--traceparent", "t")
        self.assertEqual(self.out, UUID + "\n")
        self.assertEqual(self.daemon.params("task.create"), [{
            "namespace": "shop", "name": "order", "version": "1.2.0", "context": {"n": 9007199254740993, "x": 0.1},
            "idempotency_key": "k", "tags": ["a", "b"], "priority": -7, "initiator": "i", "source_system": "s",
            "reason": "r", "correlation_id": "c", "parent_correlation_id": "p", "traceparent": "t"}])

    def test_context_from_a_file_and_from_stdin(self):
        self.serve(task__create=self.answer)
        self.ctl("task", "create", "order", "-c", "@" + self.file('{"f": 1}'))
        self.ctl("task", "create", "order", "-c", "-", stdin='{"i": 2}')
        self.assertEqual([p["context"] for p in self.daemon.params("task.create")], [{"f": 1}, {"i": 2}])
        self.ctl("task", "create", "order", "-c", "@/nonexistent", code=1)

    def test_there_already(self):
        self.serve(task__create=self.answer)
        self.ctl("task", "create", "order", "-k", "again")
        self.assertEqual(self.out, UUID + "\n")
        self.assertIn("there already", self.err)

    def test_a_context_that_does_not_fit(self):
        violations = [{"instance": "/a/b", "keyword": "/properties/a", "message": "is a string, expected integer"},
                      {"instance": "", "keyword": "/required", "message": 'lacks the property "c"'}]

        def refuse(params, _):
            raise Error("invalid_context", "the context does not fit", details={"violations": violations, "total": 2})

        self.serve(task__create=refuse)
        self.ctl("task", "create", "order", code=1)
        self.assertIn('  /a/b: is a string, expected integer\n  (the context): lacks the property "c"\n', self.err)
        answer = json.loads(self.ctl("task", "create", "order", "--json", code=1))
        self.assertEqual(answer["error"]["details"]["violations"], violations)

    def test_json(self):
        self.serve(task__create=self.answer)
        self.assertEqual(json.loads(self.ctl("task", "create", "order", "--json")),
                         {"task_uuid": UUID, "created": True, "state": "pending"})

    def test_wait(self):
        for state, code in ENDS.items():
            with self.subTest(state=state):
                self.serve(task__create=self.answer,
                           task__wait={"task_uuid": UUID, "state": state, "settled": True, "finished": True})
                self.assertEqual(self.ctl("task", "create", "order", "--wait", code=code), f"{UUID} {state}\n")
                got = json.loads(self.ctl("task", "create", "order", "--wait", "--json", code=code))
                self.assertEqual((got["created"], got["state"], got["settled"], got["exit_code"]), (True, state, True, code))

    def test_many(self):
        def answer(params, _):
            return {"results": [{"error": {"code": "conflict", "message": "taken"}} if t["context"].get("bad") else
                                {"task_uuid": f"u{t['context']['i']}", "created": True, "state": "pending"}
                                for t in params["tasks"]]}

        self.serve(task__create_many=answer)
        lines = [json.dumps({"i": i}) for i in range(8)]
        lines[2] = json.dumps({"i": 2, "bad": True})
        lines[5] = "{nonsense"
        lines.insert(4, "")
        path = self.file("\n".join(lines), "orders.jsonl")
        self.ctl("task", "create", "shop/order", "-t", "x", "--from", path, code=5)
        self.assertEqual(self.out.split(), ["u0", "u1", "u3", "u4", "u6", "u7"])
        self.assertIn(f"{path}:3: taken", self.err)
        self.assertIn(f"{path}:7: ", self.err)
        self.assertIn("6 created, 0 there already, 2 failed", self.err)
        sent = [t for p in self.daemon.params("task.create_many") for t in p["tasks"]]
        self.assertTrue(all(len(p["tasks"]) <= 3 for p in self.daemon.params("task.create_many")))
        self.assertEqual(sent[0], {"namespace": "shop", "name": "order", "tags": ["x"], "context": {"i": 0}})

    def test_many_of_different_templates(self):
        self.serve(task__create_many=lambda p, _: {"results": [
            {"task_uuid": t["name"], "created": False, "state": "complete"} for t in p["tasks"]]})
        text = '{"name": "a", "namespace": "n"}\n{"name": "b", "priority": 3}\n'
        self.ctl("task", "create", "--from", "-", "--priority", "1", stdin=text)
        self.assertEqual(self.out.split(), ["a", "b"])
        sent = self.daemon.params("task.create_many")[0]["tasks"]
        self.assertEqual(sent, [{"name": "a", "namespace": "n", "priority": 1}, {"name": "b", "priority": 3}])

    def test_many_and_wait(self):
        self.serve(task__create_many=lambda p, _: {"results": [
            {"task_uuid": f"u{t['context']['i']}", "created": True, "state": "pending"} for t in p["tasks"]]},
            task__wait=lambda p, _: {"task_uuid": p["task_uuid"], "settled": True, "finished": True,
                                     "state": "error" if p["task_uuid"] == "u3" else "complete"})
        text = "".join(json.dumps({"i": i}) + "\n" for i in range(5))
        self.ctl("task", "create", "order", "--from", "-", "--wait", stdin=text, code=8)
        self.assertIn("4 of 5 tasks complete", self.err)

    def test_a_refused_chunk_fails_its_lines(self):
        self.serve(task__create_many=Error("overloaded", "full"))
        self.ctl("task", "create", "order", "--from", "-", stdin='{"i": 1}\n{"i": 2}\n', code=7)
        self.assertIn("0 created, 0 there already, 2 failed", self.err)


class Tasks(Case):
    def test_get(self):
        self.serve(task__get=a_task())
        self.ctl("task", "get", UUID)
        self.assertIn('{"order_id":17}', self.out)
        self.assertIn("1 of 3 steps complete", self.out)
        self.assertIn(["take", "complete", "1/3", "1.25s", "shop.take", "-"], self.rows())
        self.assertIn(["send", "pending", "0/3", "-", "shop.send", "take, pack"], self.rows())
        self.assertIn("pack: no ?[31mbox", self.out)
        self.assertNotIn("\x1b", self.out)
        self.assertEqual(json.loads(self.ctl("task", "get", UUID, "--json")), a_task())
        self.ctl("task", "get", UUID, "--no-steps")
        self.assertEqual(self.daemon.params("task.get")[-1], {"task_uuid": UUID, "steps": False})

    def test_cancel(self):
        self.serve(task__cancel=a_task("cancelled"))
        self.assertEqual(self.ctl("task", "cancel", UUID, "-r", "enough"), f"{UUID} cancelled\n")
        self.assertEqual(self.daemon.params("task.cancel"), [{"task_uuid": UUID, "reason": "enough"}])

    def test_wait(self):
        states = {UUID: "complete", UUID2: "error"}
        self.serve(task__wait=lambda p, _: {"task_uuid": p["task_uuid"], "state": states[p["task_uuid"]],
                                            "settled": True, "finished": True})
        self.assertEqual(self.ctl("task", "wait", UUID), f"{UUID} complete\n")
        self.ctl("task", "wait", UUID, UUID2, code=8)
        self.assertEqual(sorted(self.out.splitlines()), [f"{UUID} complete", f"{UUID2} error"])
        got = json.loads(self.ctl("task", "wait", UUID2, UUID, "--json", code=8))
        self.assertEqual([(g["task_uuid"], g["exit_code"]) for g in got], [(UUID2, 8), (UUID, 0)])

    def test_wait_says_how_it_ended(self):
        for state, code in ENDS.items():
            with self.subTest(state=state):
                self.serve(task__wait={"task_uuid": UUID, "state": state, "settled": True, "finished": state != "blocked_by_failures"})
                self.assertEqual(self.ctl("task", "wait", UUID, code=code), f"{UUID} {state}\n")
                self.assertEqual(json.loads(self.ctl("task", "wait", UUID, "--json", code=code))[0]["exit_code"], code)

    def test_wait_asks_again(self):
        answers = iter([False, False, True])
        self.serve(task__wait=lambda p, _: {"task_uuid": UUID, "state": "complete", "settled": next(answers),
                                            "finished": True})
        self.ctl("task", "wait", UUID)
        self.assertEqual(len(self.daemon.params("task.wait")), 3)

    def test_wait_not_in_time(self):
        def answer(params, _):
            time.sleep(params["timeout_ms"] / 1000)
            return {"task_uuid": UUID, "state": "steps_in_process", "settled": False, "finished": False}

        self.serve(task__wait=answer)
        self.ctl("task", "wait", UUID, "--timeout", "60ms", code=6)
        self.assertLessEqual(self.daemon.params("task.wait")[0]["timeout_ms"], 60)
        got = json.loads(self.ctl("task", "wait", UUID, "--timeout", "0", "--json", code=6))
        self.assertEqual((got[0]["settled"], got[0]["exit_code"]), (False, 6))

    def test_wait_for_what_is_not_there(self):
        self.serve(task__wait=Error("not_found", "no such task"))
        self.ctl("task", "wait", UUID, code=4)
        got = json.loads(self.ctl("task", "wait", UUID, "--json", code=4))
        self.assertEqual((got[0]["error"]["code"], got[0]["exit_code"]), ("not_found", 4))

    def test_tree(self):
        self.serve(task__get=a_task(), template__get=TEMPLATE)
        self.ctl("task", "tree", UUID)
        self.assertEqual(self.daemon.params("template.get"), [{"namespace": "shop", "name": "order", "version": "1.2.0"}])
        self.assertIn("shop/order@1.2.0  steps_in_process  1 of 3 steps", self.out)
        self.assertRegex(self.out, r"take .*1\.25s")
        self.assertRegex(self.out, r"pack .*attempt 2/3")
        self.assertNotIn("\x1b", self.out)
        self.assertIn("\x1b", self.ctl("task", "tree", UUID, "--color", "always"))
        self.assertIn("digraph", self.ctl("task", "tree", UUID, "--format", "dot"))
        self.assertEqual(json.loads(self.ctl("task", "tree", UUID, "--json")), a_task())


EVENTS = [
    {"kind": "step", "state": "in_progress", "at": "2026-01-02T03:04:08.000000Z", "step": "pack", "step_uuid": "s2",
     "attempt": 3},
    {"kind": "step", "state": "complete", "at": "2026-01-02T03:04:09.000000Z", "step": "pack", "step_uuid": "s2",
     "attempt": 3, "outcome": "success"},
    {"kind": "step", "state": "error", "at": "2026-01-02T03:04:10.000000Z", "step": "send", "step_uuid": "s3",
     "attempt": 1, "outcome": "permanent_error", "error": {"message": "lost \x1b]0;x\x07"}},
]


class Watch(Case):
    def watched(self, last, before=()):
        """Events, some of them sent even before the answer."""
        end = {"kind": "task", "state": last, "at": "2026-01-02T03:04:11.000000Z"}

        def answer(params, notify):
            for e in before:
                notify("task.event", {"task_uuid": UUID, "events": [e]})
            notify("task.event", {"task_uuid": UUID2, "events": [end]})
            notify("task.event", {"task_uuid": UUID, "events": [*EVENTS, end]})
            return a_task()

        return self.serve(task__watch=answer)

    def test_lines(self):
        self.watched("complete")
        self.ctl("task", "watch", UUID)
        lines = self.out.splitlines()
        self.assertEqual(lines[0], "2026-01-02T03:04:07.500000Z task steps_in_process")
        self.assertEqual(lines[1], "2026-01-02T03:04:08.000000Z pack in_progress attempt 3")
        self.assertEqual(lines[2], "2026-01-02T03:04:09.000000Z pack complete attempt 3 success")
        self.assertEqual(lines[3], "2026-01-02T03:04:10.000000Z send error attempt 1 permanent_error: lost ?]0;x?")
        self.assertEqual(lines[4], "2026-01-02T03:04:11.000000Z task complete")
        self.assertEqual(len(lines), 5)

    def test_json_lines(self):
        self.watched("error")
        self.ctl("task", "watch", UUID, "--json", code=8)
        lines = [json.loads(line) for line in self.out.splitlines()]
        self.assertEqual(lines[0], {"kind": "snapshot", "task_uuid": UUID, "task": a_task()})
        self.assertEqual(lines[1], {**EVENTS[0], "task_uuid": UUID})
        self.assertEqual(lines[-2]["state"], "error")
        self.assertEqual(lines[-1], {"kind": "end", "task_uuid": UUID, "state": "error", "settled": True, "exit_code": 8})
        for state, code in ENDS.items():
            self.watched(state)
            self.assertEqual(json.loads(self.ctl("task", "watch", UUID, "--json", code=code).splitlines()[-1])["exit_code"], code)

    def test_finished_already(self):
        self.serve(task__watch=a_task("complete"))
        self.ctl("task", "watch", UUID)
        self.assertEqual(len(self.out.splitlines()), 1)

    def test_blocked(self):
        self.watched("blocked_by_failures")
        self.ctl("task", "watch", UUID, code=9)
        self.assertIn("nothing moves without an operator", self.err)
        self.ctl("task", "watch", UUID, "--follow", "--timeout", "100ms", code=6)

    def test_not_in_time(self):
        self.serve(task__watch=a_task())
        self.ctl("task", "watch", UUID, "--timeout", "50ms", code=6)
        end = json.loads(self.ctl("task", "watch", UUID, "--timeout", "50ms", "--json", code=6).splitlines()[-1])
        self.assertEqual(end, {"kind": "end", "task_uuid": UUID, "state": "steps_in_process", "settled": False, "exit_code": 6})

    def test_lost(self):
        def answer(params, notify):
            notify("task.event", {"task_uuid": UUID, "events": EVENTS[:1]})
            raise HangUp

        self.serve(task__watch=answer)
        self.ctl("task", "watch", UUID, code=3)

    def test_a_terminal_is_redrawn(self):
        self.watched("error")
        text, code = self.terminal("task", "watch", UUID)
        self.assertEqual(code, 8)
        last = re.split(r"\x1b\[\d+A\x1b\[J", text)[-1]
        plain = re.sub(r"\x1b\[[\d;]*m", "", last)
        self.assertIn("shop/order " + UUID, plain)
        self.assertRegex(plain, r"\[#{16}\.{8}\] error  2/3  1 failed")
        self.assertRegex(plain, r"pack +complete +3/3 +1\.00s")
        self.assertNotIn("task.event", plain)

    def test_a_small_terminal_shows_what_is_open(self):
        task = a_task("complete")
        task["steps"] = [{**task["steps"][0], "name": f"done{i}", "step_uuid": f"x{i}"} for i in range(50)] + [
            {**task["steps"][2], "name": f"open{i}", "step_uuid": f"y{i}"} for i in range(3)]
        self.serve(task__watch=task)
        text, code = self.terminal("task", "watch", UUID, rows=12)
        self.assertEqual(code, 0)
        self.assertLessEqual(len(text.splitlines()), 12)
        for i in range(3):
            self.assertIn(f"open{i}", text)
        self.assertIn("and 45 more", text)

    def test_tables_fit_the_terminal(self):
        task = {**a_task(), "name": "a_very_long_name_of_a_template_that_nobody_can_read_at_once"}
        self.serve(task__list={"tasks": [task]})
        text, code = self.terminal("task", "list", columns=100)
        self.assertEqual(code, 0)
        plain = re.sub(r"\x1b\[[\d;]*m", "", text)
        self.assertIn("\u2026", plain)
        self.assertLessEqual(max(len(line) for line in plain.splitlines()), 100)
        self.assertIn("\x1b[36m", text)



class Operate(Case):
    WHY = ("-r", "mended", "--operator", "night shift")
    BY = {"reason": "mended", "operator": "night shift"}

    def step(self, **more):
        return {"task_uuid": UUID, "task_state": "steps_in_process", "step_uuid": UUID2, "name": "pack", "type": "standard", "state": "enqueued", "attempts": 0, "max_attempts": 3,
                "pending_parents": 0, "depends_on": ["take"], "handler": "shop.pack", "error": {"message": "no \x1b[31mbox"}, **more}

    def test_one_task(self):
        for verb, action in ("retry", "retry"), ("resolve", "resolve_manually"), ("pause", "pause"), ("resume", "resume"), ("cancel", "cancel"):
            self.serve(task__action=a_task(paused=verb == "pause"))
            self.assertEqual(self.ctl("task", verb, UUID, *self.WHY), f"{UUID} steps_in_process{' paused' if verb == 'pause' else ''}\n")
            self.assertEqual(self.daemon.params("task.action"), [{"task_uuid": UUID, "action": action, **self.BY}])
        self.serve(task__action=Error("conflict", "the task is finished: complete"))
        self.ctl("task", "pause", UUID, "-r", "x", code=5)
        self.assertIn("the task is finished: complete", self.err)
        self.ctl("task", "pause", UUID, code=2)
        self.assertIn("--reason TEXT is needed", self.err)
        self.ctl("task", "pause", "-r", "x", code=2)
        self.assertIn("which tasks?", self.err)
        self.ctl("task", "pause", "17", "-r", "x", code=2)

    def test_one_step(self):
        for verb, action in ("reset", "reset_for_retry"), ("resolve", "resolve_manually"), ("skip", "skip"):
            self.serve(step__action=self.step())
            self.assertEqual(self.ctl("step", verb, UUID2, *self.WHY), f"{UUID2} pack enqueued\n")
            self.ctl("step", verb, UUID, "pack", *self.WHY)
            self.assertEqual(self.daemon.params("step.action"), [{"step_uuid": UUID2, "action": action, **self.BY}, {"task_uuid": UUID, "step": "pack", "action": action, **self.BY}])
        self.serve(step__action=self.step(state="complete"))
        self.ctl("step", "complete", UUID2, "--result", '{"n": [1, 2.5]}', "-r", "x")
        self.assertEqual(self.daemon.params("step.action"), [{"step_uuid": UUID2, "action": "complete_manually", "result": {"n": [1, 2.5]}, "reason": "x"}])
        self.ctl("step", "complete", UUID2, "--result", "@" + self.file('{"from": "file"}'), "-r", "x")
        self.assertEqual(self.daemon.params("step.action")[-1]["result"], {"from": "file"})
        self.ctl("step", "complete", UUID2, "-r", "x", code=2)
        self.ctl("step", "complete", UUID2, "--result", "{", "-r", "x", code=2)
        self.ctl("step", "skip", "pack", "-r", "x", code=2)
        self.ctl("step", "skip", UUID2, code=2)
        self.ctl("step", "skip", UUID2, "--all", "-r", "x", code=2)
        self.ctl("step", "skip", UUID2, "--dry-run", "-r", "x", code=2)
        self.ctl("step", "skip", "-r", "x", code=2)

    def test_many_in_pages(self):
        pages = {None: ("a", "5/0"), "5/0": ("b", None)}

        def page(p, _):
            name, after = pages[p.get("cursor")]
            return {"dry_run": p["dry_run"], "action": p["action"], "done": 0 if p["dry_run"] else 1, "refused": 0, "next_cursor": after,
                    "items": [{"task_uuid": UUID, "step_uuid": UUID2, "step": name, "state": "error", "outcome": "would_be_done" if p["dry_run"] else "done", "message": None}]}
        self.serve(step__bulk_action=page)
        self.ctl("step", "reset", "--error-type", "Timeout", "-n", "shop", "--step", "pack", "--step-state", "error", "--after", "2026-01-01T00:00:00Z", "--dry-run")
        self.assertEqual(self.rows()[1:], [[UUID, "a", "error", "would be done", "-"], [UUID, "b", "error", "would be done", "-"]])
        self.assertIn("2 would be done, 0 refused; nothing was changed", self.err)
        self.assertEqual(self.daemon.params("step.bulk_action")[0], {"action": "reset_for_retry", "dry_run": True, "reason": "dry run", "filter": {
            "error_type": "Timeout", "namespace": "shop", "step": "pack", "step_state": "error", "created_after": "2026-01-01T00:00:00Z"}})
        got = json.loads(self.ctl("step", "reset", "-a", *self.WHY, "--json"))
        self.assertEqual((got["done"], len(got["items"]), got.get("next_cursor")), (2, 2, None))
        self.assertEqual([p.get("cursor") for p in self.daemon.params("step.bulk_action")[2:]], [None, "5/0"])
        self.assertEqual(self.daemon.params("step.bulk_action")[2]["filter"], {"all": True})
        self.ctl("step", "reset", "-a", code=2)

    def test_many_tasks(self):
        item = {"task_uuid": UUID, "namespace": "shop", "name": "order", "state": "complete", "outcome": "refused", "message": "the task is finished: complete"}
        self.serve(task__bulk_action={"dry_run": False, "action": "cancel", "items": [item, {**item, "state": "cancelled", "outcome": "done", "message": None}], "done": 1, "refused": 1, "next_cursor": None})
        self.ctl("task", "cancel", UUID, UUID2, *self.WHY, code=5)
        self.assertEqual(self.rows()[1:], [[UUID, "shop/order", "complete", "refused", "the task is finished: complete"], [UUID, "shop/order", "cancelled", "done", "-"]])
        self.assertEqual(self.daemon.params("task.bulk_action"), [{"action": "cancel", "dry_run": False, "filter": {"task_uuids": [UUID, UUID2]}, **self.BY}])
        self.ctl("task", "cancel", "--name", "order", "--template-version", "1.0.0", "--state", "error", "-t", "red", "--before", "2026-01-01T00:00:00Z", "--correlation-id", "c", *self.WHY, code=5)
        self.assertEqual(self.daemon.params("task.bulk_action")[1]["filter"], {"name": "order", "version": "1.0.0", "state": "error", "tag": "red", "created_before": "2026-01-01T00:00:00Z", "correlation_id": "c"})
        self.serve(task__bulk_action={"dry_run": False, "action": "cancel", "items": [], "done": 0, "refused": 0, "next_cursor": None})
        self.ctl("task", "cancel", "--state", "error", *self.WHY, code=4)
        self.serve(task__bulk_action=Error("bad_request", "filter.state is no state of tasks: 'x'", path="filter.state"))
        self.ctl("task", "cancel", "--state", "error", *self.WHY, code=1)

    def test_step_get(self):
        self.serve(step__get=self.step())
        self.ctl("step", "get", UUID, "pack")
        self.assertIn(["state", "enqueued, attempt 0 of 3"], self.rows())
        self.assertIn(["after", "take"], self.rows())
        self.assertNotIn("\x1b", self.out)
        self.assertEqual(self.daemon.params("step.get"), [{"task_uuid": UUID, "step": "pack"}])
        self.assertEqual(json.loads(self.ctl("step", "get", UUID2, "--json")), self.step())
        self.serve(step__get=Error("not_found"))
        self.ctl("step", "get", UUID2, code=4)

    def test_namespaces(self):
        n = {"namespace": "shop", "paused": True, "templates": 2, "handlers": 3, "changed_at": "2026-01-02T03:04:05Z", "reason": "stocktaking", "user": "ann"}
        self.serve(namespace__list={"namespaces": [n, {"namespace": "default", "paused": False, "templates": 0, "handlers": 0}]}, namespace__pause=n, namespace__resume={**n, "paused": False})
        self.ctl("namespace", "list")
        rows = self.rows()
        self.assertEqual(rows[1][:4] + rows[1][5:], ["shop", "paused", "2", "3", "ann", "stocktaking"])
        self.assertEqual(rows[2], ["default", "running", "0", "0", "-", "-", "-"])
        self.assertEqual(self.ctl("namespace", "pause", "shop", *self.WHY), "shop paused\n")
        self.assertEqual(self.ctl("namespace", "resume", "shop", *self.WHY), "shop running\n")
        self.assertEqual(self.daemon.params("namespace.pause"), [{"namespace": "shop", **self.BY}])
        self.ctl("namespace", "pause", "shop", code=2)

    def test_run_at(self):
        self.serve(task__create={"task_uuid": UUID, "created": True, "state": "pending"})
        self.ctl("task", "create", "order", "--run-at", "2030-01-31T09:00:00Z")
        self.ctl("task", "create", "order", "--run-at", "+1h")
        first, second = [p["run_at"] for p in self.daemon.params("task.create")]
        self.assertEqual(first, "2030-01-31T09:00:00Z")
        self.assertRegex(second, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
        self.assertGreater(second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 3500)))
        for wrong in "tomorrow", "+soon", "2030-01-31":
            self.ctl("task", "create", "order", "--run-at", wrong, code=2)


tap.main(sys.modules[__name__])

"""taskerctl against a scripted daemon: what operators do to tasks, steps and namespaces, and events.

usage: test_operate.py TASKERCTL SOURCE_ROOT"""
import json
import sys
import time

import tap
from case import UUID, UUID2, Case, a_task
from fake_taskerd import Error


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

    def test_redrive_of_many(self):
        pages = {None: (["a", "b"], "7"), "7": (["c", "d"], None)}

        def page(p, _):
            uuids, after = pages[p.get("cursor")]
            items = [{"task_uuid": u, "namespace": "shop", "name": "order", "state": "steps_in_process", "outcome": "done", "message": None} for u in uuids[:p.get("limit", 2)]]
            return {"dry_run": p["dry_run"], "action": p["action"], "done": len(items), "refused": 0, "next_cursor": after, "items": items}
        self.serve(task__bulk_action=page)
        self.ctl("dlq", "redrive", "-n", "shop", "--name", "order", "--template-version", "1.0.0", "--step", "pack", "--error-type", "NoBox", "--filed", "max_retries_exceeded", *self.WHY)
        self.assertEqual([r[0] for r in self.rows()[1:]], ["a", "b", "c", "d"])
        self.assertEqual(self.daemon.params("task.bulk_action"), [{"action": "retry", "dry_run": False, **self.BY, **cursor, "filter": {
            "namespace": "shop", "name": "order", "version": "1.0.0", "step": "pack", "error_type": "NoBox", "dlq": "max_retries_exceeded"}} for cursor in ({}, {"cursor": "7"})])
        self.serve(task__bulk_action=page)
        self.ctl("dlq", "redrive", "--all", "--limit", "3", *self.WHY)
        self.assertEqual([(p["filter"], p.get("limit")) for p in self.daemon.params("task.bulk_action")], [({"all": True, "dlq": "any"}, 3), ({"all": True, "dlq": "any"}, 1)])
        for wrong in ([], ["--limit", "3"], ["--all", "--limit", "0"], ["--filed", "boredom"], [UUID, "--all"]):
            self.ctl("dlq", "redrive", *wrong, *self.WHY, code=2)
        self.ctl("dlq", "redrive", "--all", code=2)

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

    def test_the_error_of_a_step_is_for_people(self):
        error = {"error_type": "handler_error", "message": "no box " * 40, "backtrace": ["Traceback:", '  File "a.py", line 3'], "retryable": True}
        for more, line in (({}, None), ({"context": {"box": 7}}, 'error has      {"context":{"box":7}}')):
            self.serve(step__get={**self.step(), "state": "error", "error": {**error, **more}})
            self.ctl("step", "get", UUID, "pack")
            lines = self.out.splitlines()
            at = lines.index("error          handler_error: " + error["message"])
            self.assertEqual(lines[at + 1:], ["               Traceback:", '                 File "a.py", line 3'] + [line] * bool(more))
        for odd in ("text", {"code": 3}, {"message": "m", "backtrace": "b"}):
            self.serve(step__get={**self.step(), "error": odd})
            self.ctl("step", "get", UUID, "pack")
            self.assertIn("error          " + json.dumps(odd, separators=(",", ":")), self.out)

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


def an_event(name="payment.charged", payload=None, **metadata):
    return {"event_id": UUID2, "event_name": name, "event_version": "1.0", "payload": {"payload": payload},
            "metadata": {"namespace": "shop", "fired_at": "2026-01-02T03:04:05.000000Z", "fired_by": "default", **metadata}}

    def braid(self, n):
        """The dump of a task of n diamonds in a row, all of it done."""
        steps = [{"name": "j0", "state": "complete", "finished_at": "00000", "step_uuid": "0", "result": {}, "depends_on": []}]
        for i in range(n):
            for name, after in ((f"l{i}", [f"j{i}"]), (f"r{i}", [f"j{i}"]), (f"j{i + 1}", [f"l{i}", f"r{i}"])):
                steps.append({"name": name, "state": "complete", "finished_at": "%05d" % len(steps), "step_uuid": name, "result": {}, "depends_on": after})
        steps.append({"name": "aside", "state": "complete", "finished_at": "99999", "step_uuid": "aside", "result": {}, "depends_on": ["j0"]})
        task = {**a_task(), "context": {}, "steps": steps}
        return {"format": "taskerd-task-dump", "format_version": 1, "task": task, "template": {"definition": {"name": "order", "namespace_name": "shop", "version": "1.2.0", "steps": []}}}

    def restore(self, dump, before):
        """The steps that a restore before this step takes as done."""
        self.serve(template__apply={}, task__restore=a_task(), step__action=self.step())
        self.ctl("task", "restore", self.file(json.dumps(dump)), "-n", "again", "-r", "x", "--before", before)
        return [p["step"] for p in self.daemon.params("step.action")]

    def test_restore_before_a_step(self):
        """What it needs, each step looked at once: through 60 diamonds lead more ways than could be gone, and the first step is 120 steps away."""
        dump = self.braid(60)
        names = [s["name"] for s in dump["task"]["steps"]]
        self.assertEqual(self.restore(dump, "j60"), names[:-2])
        self.assertEqual(self.restore(dump, "j1"), ["j0", "l0", "r0"])
        # Somebody else's file may say anything.
        dump["task"]["steps"][0]["depends_on"] = ["j60", 7, None, "nowhere"]
        self.assertEqual(self.restore(dump, "j1"), [n for n in names if n not in ("j1", "aside")])


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


tap.main(sys.modules[__name__])

"""taskerctl against a scripted daemon: templates and tasks: what it asks for, what it prints, and how it ends.

usage: test_commands.py TASKERCTL SOURCE_ROOT"""
import json
import os
import pathlib
import re
import stat
import sys
import time

import tap
from case import DEFINITION, LINEAR, TEMPLATE, UUID, UUID2, Case, a_task
from fake_taskerd import Error, HangUp


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
        for verb in ("apply", "validate"):
            self.ctl("template", verb, "/usr", code=1)
            self.assertIn("/usr: is a directory: name the files in it, DIRECTORY/*.yaml", " ".join((self.out + self.err).replace("error: ", "").split()))

    def test_show(self):
        self.serve(template__get=TEMPLATE)
        self.ctl("template", "show", "shop/order@1.2.0")
        self.assertEqual(self.daemon.params("template.get")[0],
                         {"namespace": "shop", "name": "order", "version": "1.2.0"})
        self.assertEqual(self.rows()[-1], ["pack", "shop.pack", "1", "none", "30.00s", "take"])
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


# How a task ends, and the exit code of who waits for it.
ENDS = {"complete": 0, "resolved_manually": 0, "error": 8, "blocked_by_failures": 9, "cancelled": 10}


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


tap.main(sys.modules[__name__])

"""What all commands of taskerctl share: kinds of output, profiles, the pager, colours, and nothing from others that steers a terminal.

usage: test_frame.py TASKERCTL SOURCE_ROOT"""
import json
import pathlib
import re
import sys

import tap
from case import DEFINITION, ROOT, TASKERCTL, TEMPLATE, UUID, Case, a_task
from fake_taskerd import Error

TASKS = {"tasks": [a_task(), a_task("complete")], "next_cursor": None}


class Output(Case):
    def test_jsonl_is_a_line_for_each_item(self):
        self.serve(task__list=TASKS, task__get=a_task(), task__wait=a_task("complete"))
        lines = self.ctl("task", "list", "--output", "jsonl").splitlines()
        self.assertEqual([json.loads(line) for line in lines], TASKS["tasks"])
        self.assertEqual(json.loads(self.ctl("task", "get", UUID, "-o", "jsonl")), a_task())
        self.assertEqual(len(self.out.splitlines()), 1)
        self.assertEqual(json.loads(self.ctl("task", "list", "-o", "json")), json.loads(self.ctl("task", "list", "--json")))

    def test_the_last_one_counts(self):
        self.serve(task__get=a_task())
        self.assertNotIn("{", self.ctl("task", "get", UUID, "--json", "-o", "table", "--no-steps").replace('{"order_id":17}', ""))

    def test_an_error_is_one_line(self):
        self.serve(task__list=Error("overloaded", "later"))
        self.ctl("task", "list", "-o", "jsonl", code=7)
        self.assertEqual(json.loads(self.out), {"error": {"code": "overloaded", "message": "later", "exit_code": 7,
                                                          "hint": "try again in a moment; see what goes on with: taskerctl stats --once"}})

    def test_wide_cuts_nothing(self):
        long = "a-name-that-is-so-long-that-no-terminal-of-seventy-columns-has-room-for-it"
        self.serve(task__list={"tasks": [{**a_task(), "name": long}], "next_cursor": None})
        text, code = self.terminal("task", "list", columns=100)
        self.assertEqual((code, long in text), (0, False))
        self.assertLessEqual(max(map(len, re.sub(r"\x1b\[[\d;]*m", "", text).splitlines())), 100)
        text, code = self.terminal("task", "list", "-o", "wide", columns=100)
        self.assertEqual((code, long in text), (0, True))

    def test_files_of_commands_that_write_some(self):
        path = self.file("", "drawing")
        self.serve(template__get=TEMPLATE)
        self.assertEqual(self.ctl("template", "graph", "shop/order", "--format", "dot", "--output", path), "")
        with open(path, encoding="utf-8") as f:
            self.assertIn("digraph", f.read())

    def test_colours(self):
        self.serve(task__list=TASKS)
        self.assertIn("\x1b[32m", self.ctl("task", "list", "--color", "always"))
        self.assertNotIn("\x1b", self.ctl("task", "list"))
        for args, env, coloured in (([], {}, True), ([], {"NO_COLOR": "1"}, False), ([], {"TERM": "dumb"}, False), (["--color", "never"], {}, False),
                                    (["--color", "always"], {"NO_COLOR": "1"}, True)):
            text, _ = self.terminal("task", "list", *args, env=env)
            self.assertEqual("\x1b[" in text, coloured, (args, env))


class Pager(Case):
    MARK = "sed 's/^/paged /'"

    def shown(self, tasks, *args, env=None, verb=("task", "list")):
        self.serve(task__list={"tasks": [a_task() for _ in range(tasks)], "next_cursor": None}, task__get=Error("not_found", "none"))
        return self.terminal(*verb, *args, rows=10, columns=100, env={"PAGER": self.MARK, **(env or {})})

    def test_what_is_longer_than_the_terminal(self):
        text, code = self.shown(20)
        self.assertEqual((text.count("paged "), code), (21, 0))

    def test_what_fits(self):
        text, code = self.shown(5)
        self.assertEqual((text.count("paged "), len(text.splitlines()), code), (0, 6, 0))

    def test_lines_that_are_wider_than_the_terminal(self):
        self.serve(task__list={"tasks": [a_task() for _ in range(5)], "next_cursor": None})
        text, _ = self.terminal("task", "list", "-o", "wide", rows=10, columns=60, env={"PAGER": self.MARK})
        self.assertEqual(text.count("paged "), 6)

    def test_not_wanted(self):
        for args, env in ((["--no-pager"], {}), (["--json"], {}), ([], {"PAGER": ""}), ([], {"PAGER": "cat"}), ([], {"TASKERCTL_PAGER": ""}), ([], {"TERM": "dumb"})):
            text, code = self.shown(20, *args, env=env)
            self.assertEqual(("paged " in text, code), (False, 0), (args, env))
            self.assertEqual(text.count(UUID), 20)

    def test_the_more_particular_one(self):
        text, _ = self.shown(20, env={"TASKERCTL_PAGER": "sed 's/^/mine /'"})
        self.assertEqual((text.count("mine "), text.count("paged ")), (21, 0))

    def test_one_that_is_not_there(self):
        text, code = self.shown(20, env={"PAGER": "/nonexistent/pager"})
        self.assertEqual((text.count(UUID), code), (20, 0))

    def test_one_that_is_left_at_once(self):
        text, code = self.shown(20, env={"PAGER": "true"})
        self.assertEqual((text.count(UUID), code), (0, 0))

    def test_exit_codes_stay(self):
        text, code = self.shown(0, UUID, verb=("task", "get"))
        self.assertEqual(code, 4)

    def test_help(self):
        text, code = self.shown(0, verb=("task", "create", "--help"))
        self.assertIn("paged usage: taskerctl task create", text)

    def test_into_a_pipe(self):
        self.serve(task__list={"tasks": [a_task() for _ in range(200)], "next_cursor": None})
        self.assertNotIn("paged", self.ctl("task", "list", env={"PAGER": self.MARK, "TERM": "xterm"}))


class Profiles(Case):
    def profiles(self, text):
        self.path = self.file(text, "taskerctl.yaml")
        return {"TASKERCTL_CONFIG": self.path, "TASKERCTL_PROFILE": "", "TASKERD_SOCKET": ""}

    def two(self, more="", default="trial"):
        return self.profiles(f"profiles:\n  trial:\n    socket: {self.daemon.path}\n    namespace: shop\n{more}  gone:\n    socket: /nonexistent/sock\ndefault: {default}\n")

    def test_socket_and_namespace(self):
        self.serve(task__list=TASKS, task__create={"task_uuid": UUID, "created": True}, template__get=TEMPLATE)
        env = self.two()
        self.ctl("task", "list", env=env, socket=False)
        self.ctl("task", "list", "-n", "other", env=env, socket=False)
        self.ctl("task", "list", "-n", "", env=env, socket=False)
        self.assertEqual([p.get("namespace") for p in self.daemon.params("task.list")], ["shop", "other", None])
        self.ctl("task", "create", "order", "-c", "{}", env=env, socket=False)
        self.ctl("task", "create", "b/order", "-c", "{}", env=env, socket=False)
        self.assertEqual([p["namespace"] for p in self.daemon.params("task.create")], ["shop", "b"])
        self.ctl("template", "show", "order", env=env, socket=False)
        self.assertEqual(self.daemon.params("template.get")[0]["namespace"], "shop")

    def test_a_namespace_alone_picks_nothing(self):
        self.serve(task__bulk_action={"dry_run": False, "items": [], "done": 0, "refused": 0, "next_cursor": None}, task__action={"task_uuid": UUID, "state": "cancelled"})
        env = self.two()
        self.ctl("task", "cancel", "-r", "x", env=env, socket=False, code=2)
        self.ctl("task", "retry", UUID, "-r", "x", env=env, socket=False)
        self.assertEqual(self.daemon.params("task.bulk_action"), [])
        self.ctl("task", "cancel", "--all", "-r", "x", env=env, socket=False, code=4)
        self.assertEqual(self.daemon.params("task.bulk_action")[0]["filter"], {"all": True, "namespace": "shop"})

    def test_the_order(self):
        self.serve(task__list=TASKS)
        env = self.two(default="gone")
        here = self.daemon.path
        self.ctl("task", "list", env=env, socket=False, code=3)
        self.ctl("task", "list", "--profile", "trial", env=env, socket=False)
        self.ctl("task", "list", env={**env, "TASKERCTL_PROFILE": "trial"}, socket=False)
        self.ctl("task", "list", env={**env, "TASKERD_SOCKET": here}, socket=False)
        self.ctl("task", "list", "--profile", "gone", env={**env, "TASKERD_SOCKET": here}, socket=False, code=3)
        self.ctl("task", "list", "--profile", "gone", "--socket", here, env=env, socket=False)
        self.ctl("task", "list", env={**env, "TASKERD_SOCKET": here, "TASKERCTL_PROFILE": "gone"}, socket=False)

    def test_output_color_and_pager(self):
        self.serve(task__list=TASKS)
        env = self.two("    output: json\n    color: always\n    pager: ''\n")
        self.assertEqual(json.loads(self.ctl("task", "list", env=env, socket=False))["tasks"], TASKS["tasks"])
        self.assertIn("\x1b[", self.ctl("task", "list", "-o", "table", env=env, socket=False))
        self.assertEqual(len(self.ctl("task", "list", "-o", "jsonl", env=env, socket=False).splitlines()), 2)

    def test_every_mistake_has_its_line(self):
        env = self.profiles("profiles:\n  a:\n    sokket: /x\n    output: jsn\n    timeout: soon\n    namespace: [1]\n    socket: ''\n  b: 5\n  a:\n    pager: x\n"
                            "defalt: a\ndefault: c\n")
        self.serve()
        self.ctl("task", "list", env=env, socket=False, code=2)
        for line, words in ((3, "sokket: no such key; did you mean socket?"), (4, "output: jsn is not a kind of output; did you mean json?"),
                            (5, "timeout: soon is not a duration"), (6, "namespace: expected a single value, found a list"), (7, "socket: nothing is not a value"),
                            (8, "b: expected keys such as"), (9, "a"), (11, "defalt: no such key; did you mean default?"), (12, 'there is no profile "c"')):
            self.assertRegex(self.err, rf"(?m)^ *{re.escape(self.path)}:{line}:\d+: error: .*{re.escape(words)}")
        self.assertEqual(self.daemon.asked, [])
        self.ctl("help", env=env, socket=False)
        self.ctl("completion", "bash", env=env, socket=False)

    def test_not_yaml(self):
        env = self.profiles("profiles: [\n")
        self.serve()
        self.ctl("task", "list", env=env, socket=False, code=2)
        self.assertRegex(self.err, re.escape(self.path) + r":\d+")
        env = self.profiles("# nothing yet\n")
        self.ctl("profile", "list", env=env, socket=False)
        self.assertIn("no profiles", self.err)
        self.ctl("profile", "list", env={**env, "TASKERCTL_CONFIG": "/"}, socket=False, code=2)
        self.assertIn("/: cannot be read", self.err)

    def test_an_unknown_one(self):
        self.serve()
        env = self.two()
        self.ctl("task", "list", "--profile", "trail", env=env, socket=False, code=2)
        self.assertIn("no profile trail; did you mean trial?", self.err)
        self.ctl("task", "list", env={**env, "TASKERCTL_PROFILE": "x"}, socket=False, code=2)
        self.ctl("profile", "show", "x", env=env, socket=False, code=4)

    def test_list_and_show(self):
        self.serve()
        env = self.two()
        self.ctl("profile", "list", env=env, socket=False)
        self.assertEqual(self.rows(), [["PROFILE", "SOCKET", "NAMESPACE", "OUTPUT", "WHERE"], ["trial *", self.daemon.path, "shop", "-", self.path + ":2"],
                                       ["gone", "/nonexistent/sock", "-", "-", self.path + ":5"]])
        self.assertEqual(json.loads(self.ctl("profile", "show", "gone", "--json", env=env, socket=False)),
                         {"name": "gone", "current": False, "file": self.path, "line": 5, "socket": "/nonexistent/sock"})
        self.assertIn("trial", self.ctl("profile", "show", env=env, socket=False))

    def test_the_user_before_the_system(self):
        self.serve(task__list=TASKS)
        home = self.file("", "x")[:-2]
        (pathlib.Path(home) / "taskerd").mkdir()
        (pathlib.Path(home) / "taskerd" / "taskerctl.yaml").write_text(f"profiles: {{me: {{socket: {self.daemon.path}}}}}\n")
        self.ctl("task", "list", "--profile", "me", env={"XDG_CONFIG_HOME": home, "TASKERCTL_CONFIG": ""}, socket=False)


class Hostile(Case):
    """Whatever a daemon says, and it passes on what others have written, no byte of it steers the terminal."""
    EVIL = "\x1b]0;pwned\x07\x1b[8m\x1b[2J\x9b31m\u202egnp.exe\x08\x7f"
    # Colours of our own, and what moves the block of `task watch`.
    OWN = re.compile(r"\x1b\[(?:[012]|3[1236])m|\x1b\[\d+A\x1b\[J|\x1b\[\?25[lh]")

    def answer(self):
        """Every field that the source asks for, with evil in it; every list with one such object."""
        source = "".join(p.read_text() for p in sorted((ROOT / "clients" / "taskerctl").glob("*.c")))
        fields = {k: self.EVIL for k in re.findall(r'json_(?:text|time|age)\(\w+, "(\w+)"', source)}
        lists = re.findall(r'json_object_get\(\w+, "(\w+)"\)', source)
        inner = {**fields, "error": {"message": self.EVIL}, "context": {self.EVIL: self.EVIL}, "result": self.EVIL, "tags": [self.EVIL],
                 "namespaces": [self.EVIL], "handlers": [self.EVIL]}
        listed = re.findall(r'\.list = "(\w+)"', "".join(p.read_text() for p in (ROOT / "clients" / "taskerctl" / "verbs").glob("*.c")))
        answer = {**inner, **{k: [{**inner, k: [self.EVIL]}] for k in {*lists, *listed} - set(inner)}, **{k: [inner] for k in listed}, "next_cursor": None}
        return {**answer, "task": inner, "entry": inner if "entry" not in fields else self.EVIL, "state": self.EVIL}

    def harmless(self, text, what):
        rest = self.OWN.sub("", text)
        bad = re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", rest.replace("\r\n", "\n"))
        self.assertEqual(bad, [], f"{what}: {rest!r}")

    def test_of_every_command(self):
        commands = json.loads(self.ctl("help", "--json", socket=False))["commands"]
        answer, met = self.answer(), 0

        self.serve(**{c["asks"].replace(".", "__"): answer for c in commands if c["asks"] and not c["waits"]})
        for c in commands:
            if not c["asks"] or c["waits"] or c["command"] in ("scaffold", "types", "handler", "graph", "tree", "apply", "restore"):
                continue
            args = [UUID] * max(c["min_arguments"], 1 if c["max_arguments"] != 0 else 0)
            args = ["shop/order"] if c["group"] == "template" and args else args
            words = [w for w in (c["group"], c["command"]) if w] + args
            options = {o["name"] for o in c["options"]}
            reason = ["--reason", "x"] * ("reason" in options) + ["--once"] * ("once" in options) + ["--yes"] * ("yes" in options)
            for output in ([], ["--json"]):  # of some --output is a file
                text, _ = self.terminal(*words, *reason, *output, columns=300)
                self.harmless(text, (words, output))
                met += "pwned" in text
        self.assertGreater(met, 20)

    def test_of_a_dump(self):
        """Whose --output is a file: without it the terminal gets what handlers and people have written."""
        task = a_task(context={self.EVIL: self.EVIL}, reason=self.EVIL, tags=[self.EVIL])
        for s in task["steps"]:
            s.update(result={self.EVIL: self.EVIL}, error={"message": self.EVIL}, step_uuid=UUID)
        history = {"transitions": [{"cause": {"event": self.EVIL}}], "attempts": [{"error": {"message": self.EVIL}, "metadata": {self.EVIL: 1}}], "actions": [{"reason": self.EVIL}], "next_cursor": None}
        self.serve(task__get=task, template__get={**TEMPLATE, "definition": {**DEFINITION, "description": self.EVIL}}, task__history=history, dlq__get={"entry": UUID, "notes": self.EVIL}, server__info={"server": self.EVIL, "database": {}})
        text, code = self.terminal("task", "dump", UUID, columns=300)
        self.harmless(text, "task dump")
        self.assertEqual(code, 0, text)
        self.assertGreater(text.count("pwned"), 8)
        self.assertEqual(json.JSONDecoder().raw_decode(text)[0]["task"]["context"], {self.EVIL: self.EVIL}, "and it is whole")

    def test_of_metrics(self):
        self.serve(server__metrics={"content_type": "text/plain", "text": f'taskerd_x{{name="{self.EVIL}"}} 1\n', "metrics": [{"name": self.EVIL}]})
        for words in ([], ["--openmetrics"], ["--json"]):
            text, code = self.terminal("metrics", *words, columns=300)
            self.harmless(text, ("metrics", words))
            self.assertEqual((code, "pwned" in text), (0, True), text)

    def test_of_many_creations(self):
        """The outcome of each row is part of the document; the line of progress is drawn over itself."""
        path = self.file('{"context": {}}\n', "rows.jsonl")
        for made in {"task_uuid": UUID, "state": self.EVIL, "created": True}, {"error": {"code": "invalid_context", "message": self.EVIL}}:
            self.serve(task__create_many={"results": [made]}, template__get=TEMPLATE)
            for words in ([], ["--json"], ["--output", "jsonl"]):
                text, _ = self.terminal("task", "create", "shop/order", "--from", path, *words, columns=300)
                self.harmless(re.sub(r"\r(?=\d+ rows)", "", text), words)
                self.assertNotIn("?1 rows", text)

    def test_of_generated_text(self):
        """Names and remarks of a template in what is made of it."""
        schema = {"type": "object", "description": self.EVIL, "properties": {"a" + self.EVIL: {"type": "string", "description": self.EVIL, "enum": [self.EVIL]}}}
        definition = {**DEFINITION, "description": self.EVIL, "input_schema": schema, "steps": [{**s, "description": self.EVIL, "result_schema": schema} for s in DEFINITION["steps"]]}
        self.serve(template__get={**TEMPLATE, "definition": definition})
        for verb in (["generate", "types"], ["generate", "handler"]):
            for language in ("python", "ruby", "typescript", "rust"):
                text, _ = self.terminal(*verb, "shop/order", "-l", language, columns=300)
                self.harmless(text, (verb, language))
        for verb in (["template", "show", "--definition"], ["template", "show"], ["template", "graph"]):
            text, _ = self.terminal(*verb, "shop/order", columns=300)
            self.harmless(text, verb)

    def test_of_what_is_followed(self):
        """Events of others, and the states of a task, as they come."""
        event = {"event_id": UUID, "event_name": "x" + self.EVIL, "payload": {"payload": {self.EVIL: self.EVIL}}, "metadata": {"namespace": self.EVIL, "step_name": self.EVIL, "fired_at": self.EVIL}}

        def subscribe(params, notify):
            notify("event.message", {"events": [event], "lost": 1})
            return {"subscription": 1}
        self.serve(event__subscribe=subscribe, task__get={**a_task(state="complete"), "name": self.EVIL, "namespace": self.EVIL}, task__watch={"state": self.EVIL, "events": []})
        for words in (["events", "tail", "--timeout", "1s"], ["events", "tail", "--timeout", "1s", "--json"], ["task", "watch", UUID, "--timeout", "1s"]):
            text, _ = self.terminal(*words, columns=300)
            self.harmless(text, words)

    def test_errors(self):
        self.serve(task__get=Error("conflict", self.EVIL, path=self.EVIL), task__list=Error(self.EVIL, self.EVIL))
        for words in (("task", "get", UUID), ("task", "list"), ("task", "list", "--tag", self.EVIL), ("template", "validate", self.EVIL), ("task", self.EVIL), (self.EVIL,),
                      ("task", "list", "--state", self.EVIL), ("--profile", self.EVIL, "task", "list"), ("--" + self.EVIL,)):
            text, code = self.terminal(*words)
            self.harmless(text, words)
            self.assertNotEqual(code, 0)


tap.main(sys.modules[__name__])

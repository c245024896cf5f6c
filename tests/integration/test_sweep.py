"""Every command of taskerctl, as `taskerctl help --json` lists them, with every kind of misuse, against a real daemon: what is said names what, and the command to try next; the exit code is
one that the command's page has; with --json there is one document that says the same; and nothing is changed. A new command is swept without a line here."""
import concurrent.futures
import json
import os
import resource
import signal
import shutil
import stat
import subprocess
import unittest

import harness
from harness import step, template
from test_console import NOBODY, WHY, Console

UNKNOWN = {"task": NOBODY, "task_or_step": NOBODY, "dlq_entry": NOBODY, "worker": NOBODY, "node": "nowhere", "namespace": "nowhere", "template": "nowhere/nothing", "template_or_file": "nowhere/nothing",
           "step_name": "nothing", "token": "nobody", "file": "/nonexistent/file", "profile": "nobody"}
WRONG = {"number": ("x", "0x10", "99999999999999999999"), "duration": ("soon", "5 parsecs"), "time": ("yesterday", "2030-13-45T00:00:00Z"), "json": ("{", "{\"a\":1}}", "@/nonexistent/file", "@/")}
SYNTAX = ("not-a-uuid", "01890a5d-ac96-774b-bcce", "'; DROP TABLE tasks; --", "", "../../etc/passwd", "\u202e\x1b[31m")
LONG = "x" * 100000
WHOLE = "TASKERD_TEST_SWEEP" in os.environ  # each case both plainly and with --json: twice the time; else in turns
# What is needed besides the arguments, so that a command comes to look at them.
NEEDED = {"reason": WHY, "result": "{}", "language": "python", "role": "read", "notes": "n"}
NO_ROLE, ELSEWHERE = 70301, 70302  # uids
QUIET = {"task watch", "events tail", "events consume", "task wait"}  # these wait: a limit is given


class Sweep(Console):
	@classmethod
	def prepare(cls, stage):
		super().prepare(stage)
		stage.apply(stage.node, template("fine", [step("a"), step("b", after=["a"])]))
		stage.apply(stage.node, template("broken", [step("a", "t.flaky", fails=99, kind="permanent")]))
		stage.apply(stage.node, template("alone", [step("a", "t.nobody")], namespace="u"))
		stage.made = {name: stage.create(stage.node, name, **more) for name, more in (("fine", {}), ("broken", {}), ("alone", {"namespace": "u"}))}
		for name in "fine", "broken":
			stage.finished(stage.node, stage.made[name])
		stage.ctl = harness.program("clients", "taskerctl", "taskerctl")
		stage.commands = json.loads(subprocess.run([stage.ctl, "help", "--json"], stdout=subprocess.PIPE, check=True).stdout)["commands"]

	# -- how it is run and judged --

	def setUp(self):
		super().setUp()
		self.place = os.path.join(self.shared.place, "sweep")
		os.makedirs(os.path.join(self.place, "journal"), exist_ok=True)
		self.before = self.fingerprint()
		self.pool = concurrent.futures.ThreadPoolExecutor(4)
		self.addCleanup(self.pool.shutdown)
		self.wrong = []

	def tearDown(self):
		self.assertEqual(self.fingerprint(), self.before, "something was changed")

	def fingerprint(self):
		return [self.db.sql("SELECT count(*), md5(coalesce(string_agg(x::text, '|' ORDER BY x::text), '')) FROM tasker.%s x" % t)
		        for t in ("tasks", "steps", "step_attempts", "operator_actions", "dlq", "templates", "namespaces", "retention", "tokens", "long_actions")]

	def title(self, c):
		return " ".join(w for w in (c["group"], c["command"]) if w)

	def run_one(self, c, words, socket=None, stdin=b"", stdout=subprocess.PIPE, user=None):
		limit = ["--timeout", "1ms"] if self.title(c) in QUIET or c["waits"] else []
		argv = [self.shared.ctl, "--socket", socket or self.node.socket, *limit, *self.title(c).split(), *words]
		env = {**os.environ, "TASKERCTL_JOURNAL": os.path.join(self.place, "journal"), "HOME": self.place, "XDG_CONFIG_HOME": self.place, "TASKERD_PROFILE": ""}
		more = {"user": user, "group": user, "extra_groups": []} if user is not None else {}
		done = subprocess.run(argv, input=stdin, stdout=stdout, stderr=subprocess.PIPE, env=env, cwd=self.place, timeout=harness.PATIENCE, check=False, **more)
		return done.returncode, (done.stdout or b"").decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")

	def judge(self, c, what, words, codes, kinds, says=None, tells_not=(), **how):
		"""Run it, plainly or with --json; what is wrong about it goes to self.wrong."""
		for as_json in kinds:
			code, out, err = self.run_one(c, [*(["--json"] if as_json else []), *words], **how)
			bad = []
			if code not in codes:
				bad.append("exit %d, not %s" % (code, sorted(codes)))
			if code != 0 and self.title(c) != "template validate":  # whose output is what it has found
				if not any(line.startswith("taskerctl: ") and len(line) > 16 for line in err.splitlines()):
					bad.append("says nothing")
				if not any(w in err for w in ("taskerctl ", "systemctl ", "ls -l ")):
					bad.append("names no command to try")
				if len(err) > 12000 or "\x1b" in err:
					bad.append("what was given is repeated as it is")
				if says and says not in err:
					bad.append("does not say %r" % says)
				bad += self.judge_document(code, out) if as_json and code != 0 else []
			bad += ["shows %s" % t for t in tells_not if t in out + err]
			if bad:
				self.wrong.append((self.title(c), what, [w[:60] for w in words], "--json" if as_json else "", bad, out[:200], err[:400]))

	def judge_document(self, code, out):
		try:
			answer = json.loads(out)
		except ValueError:
			return ["no document: %r" % out[:100]]
		items = answer if isinstance(answer, list) else [answer]
		errors = [i["error"] for i in items if isinstance(i, dict) and isinstance(i.get("error"), dict)]
		if not errors:
			return [] if any(isinstance(i, dict) and ("ok" in i or "refused" in i or "settled" in i) for i in items) else ["no error in the document"]
		return [] if all(e.get("message") and e.get("hint") and e.get("code") for e in errors) and errors[0].get("exit_code") == code else ["the error is %r" % errors[0]]

	OUT_OF_MIND = {"config show", "task restore", "template apply", "node list", "version"}  # these look at files first, or make do without a daemon

	def sweep(self, cases):
		"""cases: (command, what, words, codes, further arguments of judge)."""
		both = lambda i: (False, True) if WHOLE else (i % 2 == 1,)  # noqa: E731
		jobs = [self.pool.submit(self.judge, c, what, words, codes, both(i), **more) for i, (c, what, words, codes, more) in enumerate(cases)]
		for job in jobs:
			job.result()
		self.assertGreater(len(jobs), 20)
		self.assertEqual(len(self.wrong), 0, "%d of %d:\n%s" % (len(self.wrong), len(jobs), "\n".join(map(repr, self.wrong[:40]))))

	def commands(self):
		return self.shared.commands

	def asking(self):
		return [c for c in self.commands() if c["asks"]]

	def needed(self, c, *but):
		"""Options that it cannot do without."""
		words = []
		for o in c["options"]:
			if NEEDED.get(o["name"]) and o["name"] not in but and (o["name"] != "reason" or self.wants_reason(c)):
				words += ["--" + o["name"], NEEDED[o["name"]]]
		return words + (["--namespace", "t"] if self.title(c) == "task restore" and "namespace" not in but else [])

	@staticmethod
	def wants_reason(c):
		return c["role"] in ("operate", "admin") and c["command"] != "list"

	def arguments(self, c, fill):
		"""As many arguments as it must have, or one more that it may have; fill(kind) makes one."""
		kinds = [k["name"] if k else None for k in c["argument_kinds"]] or [None]
		n = max(c["min_arguments"], min(1, c["max_arguments"] if c["max_arguments"] is not None else 1), 2 if "STEP" in (c["arguments"] or "") and "UUID|TASK" in c["arguments"] else 0)
		return [fill(kinds[min(i, len(kinds) - 1)]) for i in range(n)]

	# -- what is done wrong --

	def test_the_command_line(self):
		"""Too many and too few words, options that are none, without their value, or with one that is no such thing: exit 2, and the daemon is not asked."""
		cases = []
		for c in self.commands():
			if c["max_arguments"] is not None and self.title(c) != "help":
				cases.append((c, "surplus", ["a"] * (c["max_arguments"] + 1), {2}, {"says": "what is this for"}))
			if c["min_arguments"]:
				cases.append((c, "missing", [], {2}, {"says": "usage: taskerctl " + self.title(c)}))
			cases.append((c, "unknown option", ["--no-such-option"], {2}, {"says": "--no-such-option"}))
			for o in c["options"]:
				if not o.get("argument"):
					cases.append((c, "a value for a flag", ["--%s=x" % o["name"]], {2}, {"says": "--" + o["name"]}))
					continue
				cases.append((c, "no value", ["--" + o["name"]], {2}, {"says": "--" + o["name"]}))
				kind = o.get("kind") or {}
				if kind.get("only"):
					cases.append((c, "no such word", self.arguments(c, lambda k: UNKNOWN.get(k, "x")) + ["--" + o["name"], "nonsense"], {2}, {"says": "--" + o["name"]}))
		self.sweep(cases)

	def test_values_that_are_none(self):
		cases = []
		for c in self.commands():
			for o in c["options"]:
				for value in WRONG.get((o.get("kind") or {}).get("name"), ()):
					words = self.arguments(c, lambda k: UNKNOWN.get(k, "x")) + self.needed(c, o["name"]) + ["--" + o["name"], value]
					cases.append((c, "wrong value", words, {1, 2, 4} if o["kind"]["name"] == "json" or not c["asks"] else {2, 4}, {}))
		self.sweep(cases)

	def test_arguments_that_name_nothing(self):
		"""Right in form: what is not there is exit 4; not even that: 2, or what the daemon says of it."""
		cases = []
		for c in self.asking():
			if not c["argument_kinds"] or c["argument_kinds"][0]["name"] in ("event", "json") or self.title(c) in ("token create",):
				continue
			words = self.needed(c, "from")
			cases.append((c, "unknown", self.arguments(c, lambda k: UNKNOWN.get(k, "x")) + words, {1, 4, 5} if c["argument_kinds"][0]["name"] in ("file", "template_or_file") else {4, 5}, {}))
			for bad in (*SYNTAX, LONG):
				if bad or c["min_arguments"]:
					cases.append((c, "wrong syntax", self.arguments(c, lambda k, bad=bad: bad) + words, {1, 2, 4}, {}))
		self.sweep(cases)

	def test_names_of_other_things(self):
		"""The uuid of a task where a worker, a step or an entry is meant, and so on."""
		cases = []
		entry = self.ask("dlq.get", task_uuid=self.shared.made["broken"])["entry"]
		worker = self.ask("worker.list")["workers"][0]["worker_uuid"]
		for c in self.asking():
			kinds = [k["name"] for k in c["argument_kinds"]]
			if not kinds or kinds[0] not in ("task", "task_or_step", "worker", "node", "namespace", "token", "dlq_entry"):
				continue
			for name, value in ("entry", entry), ("worker", worker), ("task", self.shared.made["fine"]):
				if kinds[0] in (name, name + "_or_step") or kinds[0] == "dlq_entry" and name != "worker":
					continue
				cases.append((c, "uuid of a " + name, self.arguments(c, lambda k, v=value: UNKNOWN.get(k, "x") if k in ("step_name", None) else v) + self.needed(c), {1, 2, 4}, {}))
		self.sweep(cases)

	def test_no_daemon(self):
		"""Nobody there, a directory, a plain file, a socket that may not be opened: exit 3, with what to start or name."""
		plain = os.path.join(self.place, "plain")
		with open(plain, "w", encoding="utf-8") as f:
			f.write("x")
		cases = []
		for c in self.asking():
			for path in os.path.join(self.place, "nothing.sock"), self.place, plain, "/" + "s" * 200:
				words = self.arguments(c, lambda k: os.path.join(harness.ROOT, "tests", "integration", "nothing") if k == "file" else UNKNOWN.get(k, "x")) + self.needed(c)
				if self.title(c) not in self.OUT_OF_MIND:
					cases.append((c, "no daemon", words, {3}, {"socket": path}))
		self.sweep(cases)

	@unittest.skipIf(os.geteuid() != 0, "needs root, to be someone else")
	def test_somebody_else(self):
		"""Whom the socket's mode keeps out is told so."""
		mode = stat.S_IMODE(os.stat(self.node.socket).st_mode)
		program = os.path.join(self.shared.place, "taskerctl")
		shutil.copy(self.shared.ctl, program)
		for path in self.shared.place, self.place, program:
			os.chmod(path, 0o755)
		os.chmod(self.node.socket, 0o600)
		self.addCleanup(os.chmod, self.node.socket, mode)
		kept, self.shared.ctl = self.shared.ctl, program
		self.addCleanup(setattr, self.shared, "ctl", kept)
		self.sweep([(c, "no permission", self.arguments(c, lambda k: UNKNOWN.get(k, "x")) + self.needed(c), {3}, {"user": 65534, "says": "ermission"})
		            for c in self.asking() if self.title(c) not in self.OUT_OF_MIND])

	def test_output_that_goes_nowhere(self):
		"""A full disk behind standard output is a failure; a reader that has seen enough is none. Neither hangs."""
		cases = [(c, words) for c in self.commands() for words in [self.arguments(c, lambda k: self.known(k)) + self.needed(c)]
		         if c["role"] in (None, "read") and (c["min_arguments"] == 0 or c["argument_kinds"][0]["name"] in ("task", "namespace", "template", "shell", "dlq_entry")) and self.title(c) not in QUIET | {"logs", "step logs"}]
		for c, words in cases:
			words = words if c["min_arguments"] else []
			words += ["--once"] if any(o["name"] == "once" for o in c["options"]) else []
			code, out, err = self.run_one(c, words)
			self.assertIn(code, (0, 1, 9), err)
			with self.subTest(self.title(c)), open("/dev/full", "wb") as full:
				failed, _, err = self.run_one(c, words, stdout=full)
				self.assertEqual((failed, "cannot write the " in err), (code or 1, True) if out else (code, False), err)
				self.assertNotIn("Success", err)
				read, write = os.pipe()
				os.close(read)
				closed, _, err = self.run_one(c, words, stdout=write)
				os.close(write)
				self.assertIn(closed, (code, 1), err)
				self.assertNotIn("cannot write the output", err)

	# -- who may not --

	def readable(self):
		"""Another user can run the program, and read where it runs."""
		program = os.path.join(self.shared.place, "taskerctl")
		shutil.copy(self.shared.ctl, program)
		for path in self.shared.place, self.place, program:
			os.chmod(path, 0o755)
		kept, self.shared.ctl = self.shared.ctl, program
		self.addCleanup(setattr, self.shared, "ctl", kept)

	def with_rules(self):
		"""Another daemon on the same database, with rules of who may do what."""
		self.readable()
		config = os.path.join(self.place, "rules.yaml")
		with open(config, "w", encoding="utf-8") as f:
			f.write("socket_mode: 0666\naccess:\n  - {uid: %d, roles: [admin], namespaces: [elsewhere]}\n" % ELSEWHERE)
		os.chmod(config, 0o644)
		return self.daemon(self.db, name="node-r", config=config)

	def real(self, kind):
		"""What there is of that kind, in a namespace of others."""
		return {"task": self.shared.made["broken"], "task_or_step": self.shared.made["broken"], "dlq_entry": self.shared.made["broken"], "namespace": "t", "template": "t/fine", "template_or_file": "t/fine", "step_name": "a",
		        "worker": self.ask("worker.list")["workers"][0]["worker_uuid"], "node": self.node.name, "file": os.path.join(self.place, "nothing")}.get(kind, "x")

	@unittest.skipIf(os.geteuid() != 0, "needs root, to be someone else")
	def test_without_roles(self):
		node = self.with_rules()
		real = {k: self.real(k) for k in ("task", "task_or_step", "dlq_entry", "namespace", "template", "template_or_file", "step_name", "worker", "node", "file")}
		self.sweep([(c, "without roles", self.arguments(c, lambda k: real.get(k, "x")) + self.needed(c), {1}, {"user": NO_ROLE, "socket": node.socket, "says": "uid %d" % NO_ROLE, "tells_not": ("t.flaky",)})
		            for c in self.asking() if self.title(c) not in self.OUT_OF_MIND])
		self.assertEqual(node.stop(), 0)

	@unittest.skipIf(os.geteuid() != 0, "needs root, to be someone else")
	def test_in_another_namespace(self):
		"""Whoever is somebody elsewhere finds nothing here: things that are named are not there, or not allowed; lists do not have them."""
		node = self.with_rules()
		real = {k: self.real(k) for k in ("task", "task_or_step", "dlq_entry", "namespace", "template", "template_or_file", "step_name", "worker", "node", "file")}
		cases = []
		for c in self.asking():
			if self.title(c) in self.OUT_OF_MIND:
				continue
			named = c["argument_kinds"] and c["argument_kinds"][0]["name"] in ("task", "task_or_step", "dlq_entry", "namespace", "template", "template_or_file", "worker")
			words = self.arguments(c, lambda k: real.get(k, "x"))
			once = ["--once"] if any(o["name"] == "once" for o in c["options"]) else []
			cases.append((c, "in another namespace", words + once + self.needed(c), {1, 4, 5} if named else {0, 1, 2, 4, 6}, {"user": ELSEWHERE, "socket": node.socket, "tells_not": ("t.flaky", "t.nobody", "asked to fail")}))
		self.sweep(cases)
		self.assertEqual(node.stop(), 0)

	def test_a_daemon_whose_database_is_away(self):
		"""Exit 7, what the database says, and how to see whether it has come back."""
		away = harness.Daemon(self, "away", database="host=/nonexistent dbname=none")
		away.launch()
		harness.wait_for(lambda: (away.info() or {}).get("database", {}).get("error"), "the daemon to know that it is away")
		cases = []
		for c in self.asking():
			if self.title(c) in self.OUT_OF_MIND | QUIET | {"status"} or c["asks"] in ("server.info", "server.config", "server.metrics"):
				continue  # these do without, wait for it, or say how it is
			words = self.arguments(c, lambda k: os.path.join(harness.ROOT, "tests", "integration", "nothing") if k == "file" else UNKNOWN.get(k, "x"))
			cases.append((c, "no database", words + self.needed(c), {7}, {"socket": away.socket, "says": "taskerctl version"}))
		self.sweep(cases)
		self.assertEqual(away.stop(), 0)

	def known(self, kind):
		return {"task": self.shared.made["broken"], "dlq_entry": self.shared.made["broken"], "namespace": "t", "template": "t/fine", "shell": "bash", "step_name": "a"}.get(kind, "x")

	def test_words_that_are_not_utf8(self):
		for c in self.commands():
			argv = [self.shared.ctl, "--socket", self.node.socket, *self.title(c).split(), b"\xff\xfe"]
			done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=harness.PATIENCE, check=False)
			self.assertEqual((done.returncode, done.stdout), (2, b""), argv)
			self.assertIn(b"is not UTF-8", done.stderr)

	def test_files_that_cannot_be_read(self):
		"""A directory, nothing at all, what is not text: where a file is read."""
		binary, empty = os.path.join(self.place, "binary"), os.path.join(self.place, "empty")
		with open(binary, "wb") as f:
			f.write(bytes(range(256)) * 40)
		with open(empty, "wb"):
			pass
		cases = []
		for c in self.commands():
			kinds = [k["name"] for k in c["argument_kinds"]]
			if kinds and kinds[0] in ("file", "template_or_file"):
				for path in self.place + "/", binary + ".yaml", binary, empty, "-":
					if path.endswith(".yaml"):
						shutil.copy(binary, path)
					if path != "-" or kinds[0] == "file":
						cases.append((c, "a bad file", [path] + self.needed(c), {1, 2, 4}, {}))
			for o in c["options"]:
				if o["name"] in ("from", "config"):
					for path in (self.place, binary) if o["name"] == "config" else (self.place,):
						cases.append((c, "a bad file for --" + o["name"], ["--" + o["name"], path], {1, 2}, {}))
				if (o.get("kind") or {}).get("name") == "json":
					for path in "@" + self.place, "@" + binary, "@" + empty, "-":
						cases.append((c, "bad JSON for --" + o["name"], self.arguments(c, lambda k: UNKNOWN.get(k, "x")) + self.needed(c, o["name"]) + ["--" + o["name"], path], {1, 2}, {}))
		self.sweep(cases)

	def test_interrupted(self):
		"""What waits or watches ends at once when it is told to, by the signal."""
		task = self.shared.made["alone"]
		for words in (["task", "wait", task], ["task", "watch", task], ["events", "tail"], ["events", "consume", "--wait", "-n", "t"], ["stats"]):
			with self.subTest(words):
				child = subprocess.Popen([self.shared.ctl, "--socket", self.node.socket, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
				                         preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # pylint: disable=subprocess-popen-preexec-fn # a shell's jobs in the background begin without it
				sessions = lambda pid=child.pid: os.path.exists("/proc/%d/fd" % pid) and any("socket:" in os.readlink(os.path.join("/proc/%d/fd" % pid, f)) for f in os.listdir("/proc/%d/fd" % pid))  # noqa: E731
				harness.wait_for(sessions, "%s to be connected" % words)
				child.send_signal(signal.SIGINT)
				child.communicate(timeout=harness.PATIENCE)
				self.assertIn(child.returncode, (-signal.SIGINT, 130), words)

	def test_without_memory_to_speak_of(self):
		"""An address space that is hardly enough: it says so or works, it does not crash."""
		for limit in (24 << 20, 40 << 20):
			done = subprocess.run([self.shared.ctl, "--socket", self.node.socket, "task", "get", self.shared.made["fine"]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
			                      preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))  # pylint: disable=subprocess-popen-preexec-fn
			self.assertIn(done.returncode, (0, 1, 3, 127), done.stderr)


if __name__ == "__main__":
	unittest.main()

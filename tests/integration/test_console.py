"""What an operator does at a terminal: lists with filters, workers, nodes, queues, figures; by taskerctl, with a daemon, workers and a database of their own."""
import json
import os
import re
import subprocess
import tempfile
import unittest

import harness
import test_dynamic
from dynflow import batches, choose
from harness import step, template, wait_for

WHY = "seen in the morning"
NOBODY = "01890a5d-ac96-774b-bcce-b302000000ff"


class Console(harness.SharedCase):
	def ctl(self, *args, code=0, stdin=None, json_too=True):
		journal = os.path.join(self.shared.place, "journal")
		os.makedirs(journal, exist_ok=True)
		done = subprocess.run([harness.program("clients", "taskerctl", "taskerctl"), "--socket", self.node.socket, *map(str, args)], env={**os.environ, "TASKERCTL_JOURNAL": journal}, input=stdin, stdin=None if stdin else subprocess.DEVNULL,
		                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=harness.PATIENCE)
		self.assertEqual(done.returncode, code, done.stdout + done.stderr)
		self.out, self.err = done.stdout, done.stderr
		return done.stdout

	def json(self, *args, **more):
		return json.loads(self.ctl(*args, "--json", **more))

	def ask(self, method, **params):
		return self.node.client.request(method, params)


class Lists(Console):
	"""Tasks that differ in one thing each."""

	@classmethod
	def prepare(cls, stage):
		super().prepare(stage)
		stage.apply(stage.node, template("one", [step("a")], version="1.0.0"))
		stage.apply(stage.node, template("one", [step("a", attempts=2)], version="2.0.0"))
		stage.apply(stage.node, template("other", [step("a", "t.flaky", fails=9, kind="permanent")]))
		stage.apply(stage.node, template("one", [step("a")], namespace="u"))
		stage.made = {}
		for key, name, more in (("v1", "one", {"version": "1.0.0"}), ("v2", "one", {}), ("failed", "other", {}), ("space", "one", {"namespace": "u"}), ("tagged", "one", {"tags": ["red", "big"]}),
		                        ("urgent", "one", {"priority": 7}), ("related", "one", {"correlation_id": "web-17"}), ("later", "one", {"run_at": "2099-01-01T00:00:00Z"})):
			stage.made[key] = stage.create(stage.node, name, **more)
		for key, task in stage.made.items():
			if key != "later":
				stage.finished(stage.node, task)
		stage.node.client.request("task.action", {"task_uuid": stage.made["later"], "action": "pause", "reason": WHY})
		for key, age in ("v1", "3 hours"), ("failed", "40 minutes"):
			stage.db.sql("UPDATE tasker.tasks SET created_at = now() - interval '%s', finished_at = finished_at - interval '%s' WHERE task_uuid = '%s'" % (age, age, stage.made[key]))
			stage.db.sql("UPDATE tasker.steps SET finished_at = finished_at - interval '%s', claimed_at = claimed_at - interval '%s' WHERE task_id = (SELECT task_id FROM tasker.tasks WHERE task_uuid = '%s')" % (
				age, age, stage.made[key]))

	def found(self, *args):
		tasks = self.json("task", "list", *args)["tasks"]
		names = {v: k for k, v in self.shared.made.items()}
		return {names[t["task_uuid"]] for t in tasks}

	def test_each_filter(self):
		everything = set(self.shared.made)
		for args, expected in ((("--namespace", "u"), {"space"}), (("--name", "other"), {"failed"}), (("--template-version", "1.0.0", "-n", "t", "--name", "one"), {"v1"}),
		                       (("--state", "blocked_by_failures"), {"failed"}), (("--state", "pending", "--state", "blocked_by_failures"), {"failed", "later"}), (("--paused",), {"later"}),
		                       (("--tag", "red"), {"tagged"}), (("--tag", "re"), set()), (("--correlation-id", "web-17"), {"related"}), (("--correlation-id", self.shared.made["v2"]), {"v2"}),
		                       (("--priority", "7"), {"urgent"}), (("--priority", "1.."), {"urgent"}), (("--priority", "..0"), everything - {"urgent"}),
		                       (("--before", "1h"), {"v1"}), (("--after", "1h"), everything - {"v1"}), (("--after", "1h", "--before", "30m"), {"failed"}), (("--after", "2000-01-01T00:00:00Z"), everything),
		                       (("--updated-before", "1h"), {"v1"}), (("--updated-after", "10m"), everything - {"v1", "failed"}), (("--updated-after", "1h", "--updated-before", "10m"), {"failed"}), ((), everything)):
			with self.subTest(args):
				self.assertEqual(self.found(*args), expected)

	def test_pages_are_stable_while_tasks_are_made(self):
		seen, cursor = [], None
		before = [t["task_uuid"] for t in self.json("task", "list", "--all", "--namespace", "t")["tasks"]]
		while True:
			page = self.json("task", "list", "--namespace", "t", "--limit", "2", *(["--cursor", cursor] if cursor else []))
			seen += [t["task_uuid"] for t in page["tasks"]]
			self.shared.made["new%d" % len(seen)] = self.create(self.node, "one")
			cursor = page.get("next_cursor")
			if not cursor:
				break
		self.assertEqual(seen, before)

	def test_wrong_words(self):
		for args, word in ((("--state", "complet"), "complet"), (("--priority", "x"), "--priority"), (("--priority", "5..1"), "--priority"), (("--after", "yesterday"), "--after"), (("--limit", "0"), "--limit")):
			with self.subTest(args):
				self.ctl("task", "list", *args, code=2)
				self.assertIn(word, self.err)
		self.ctl("task", "list", "--cursor", "x", code=1)
		self.assertIn("unknown cursor", self.err)
		for params in {"states": []}, {"states": ["no"]}, {"priority_min": 200}, {"created_after": "soon"}, {"paused": 1}:
			with self.assertRaises(Exception) as caught:
				self.ask("task.list", **params)
			self.assertEqual(caught.exception.code, "bad_request", params)


class Large(Console):
	"""More tasks than a list looks at in one go (a million: TASKERD_TEST_TASKS): what is rare is found by an index, or within the budget."""
	N = int(os.environ.get("TASKERD_TEST_TASKS", "250000"))

	@classmethod
	def prepare(cls, stage):
		super().prepare(stage)
		stage.apply(stage.node, template("many", [step("a")]))
		stage.first = stage.create(stage.node, "many")
		stage.finished(stage.node, stage.first)
		stage.db.sql("ALTER TABLE tasker.tasks SET (autovacuum_enabled = off)")
		stage.db.sql("""INSERT INTO tasker.tasks (task_uuid, template_id, state, open_sinks, created_at, finished_at, context, tags, correlation_id)
			SELECT gen_random_uuid(), (SELECT template_id FROM tasker.templates WHERE name = 'many'), 'cancelled', 1, t.at, t.at, '{}', CASE WHEN i %% (%d / 10) = 0 THEN ARRAY['rare'] END, CASE WHEN i %% (%d / 4) = 0 THEN 'c' END
			FROM generate_series(1, %d) i CROSS JOIN LATERAL (SELECT now() - interval '10 days' + i * interval '10 days' / %d AS at) t""" % (cls.N, cls.N, cls.N, cls.N))
		stage.db.sql("SELECT brin_summarize_new_values('tasker.tasks_created')")

	@classmethod
	def tearDownClass(cls):
		harness.Case.tearDownClass.__func__(cls)

	def read(self, sql):
		"""Rows of tasks that a statement reads."""
		self.db.sql("BEGIN")
		try:
			look = "SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE schemaname = 'tasker' AND relname = 'tasks'"
			before = self.db.number(look)
			self.db.sql(sql)
			return self.db.number(look) - before
		finally:
			self.db.sql("ROLLBACK")

	def listed(self, **params):
		return self.read("SELECT tasker.api_task_list('%s')" % json.dumps(params))

	def test_what_is_read(self):
		self.assertLess(self.listed(), 5000)
		self.assertLess(self.listed(state="cancelled"), 5000)
		self.assertLess(self.listed(correlation_id="c"), 100, "an index")
		self.assertLess(self.listed(tag="rare"), 20000, "an index, after a look at the newest")
		day = self.db.value("SELECT tasker.rfc3339(now() - interval '5 days')"), self.db.value("SELECT tasker.rfc3339(now() - interval '119 hours')")
		self.assertLess(self.listed(created_after=day[0], created_before=day[1]), 10000 + self.N / 20, "an index: an hour of ten days")
		self.assertLess(self.listed(state="complete"), 210000, "the budget")
		self.assertLess(self.read("SELECT tasker.api_stats('{}')"), 210000)
		self.assertLess(self.read("SELECT tasker.api_analytics('{}')"), 120000)

	def test_plans(self):
		names = lambda sql: {n.get("Index Name") for n in harness.pg.plan_nodes(self.db.cluster.explain(sql, db=self.db.name, setup="SET LOCAL enable_seqscan = off"))}  # noqa: E731
		listing = "SELECT x.task_id FROM (SELECT t.task_id FROM tasker.tasks t WHERE %s OFFSET 0) x WHERE x.task_id < 9999999 ORDER BY 1 DESC LIMIT 51"
		self.assertIn("tasks_tags", names(listing % "t.tags @> '{rare}'"))
		self.assertIn("tasks_created", names(listing % "t.created_at >= now() - interval '5 days' AND t.created_at < now() - interval '119 hours'"))
		self.assertIn("tasks_correlation", names("SELECT t.task_id FROM tasker.tasks t WHERE t.correlation_id = 'c' AND t.task_id < 9999999 ORDER BY t.task_id DESC LIMIT 51"))

	def test_what_is_rare_is_found(self):
		self.assertEqual([t["task_uuid"] for t in self.json("task", "list", "--state", "complete")["tasks"]], [self.shared.first])
		self.assertEqual(len(self.json("task", "list", "--tag", "rare")["tasks"]), 10)
		self.assertEqual(len(self.json("task", "list", "--correlation-id", "c")["tasks"]), 4)
		page = self.ask("task.list", state="complete")
		self.assertEqual(page["tasks"], [])
		self.assertTrue(page["next_cursor"])
		some = self.json("task", "list", "--state", "cancelled", "--limit", "2500")
		self.assertEqual(len({t["task_uuid"] for t in some["tasks"]}), 2500)
		self.assertFalse(self.json("stats", "--once")["stats"]["tasks"]["whole"])


class Workers(Console):
	def test_show(self):
		self.apply(self.node, template("held", [step("a", "t.gate", gate="held")]))
		task = self.create(self.node, "held")
		self.ledger.wait_lines(1, "a")
		row, = self.ask("worker.list")["workers"]
		shown = self.json("worker", "show", row["name"])
		self.assertEqual([(r["task_uuid"], r["handler"], r["attempt"], r["ended"]) for r in shown["running"]], [(task, "t.gate", 1, False)])
		self.assertEqual({k: shown[k] for k in ("worker_uuid", "pid", "open", "draining")}, {"worker_uuid": row["worker_uuid"], "pid": self.shared.worker.pid, "open": 1, "draining": False})
		self.assertIn("unit", shown)
		self.ctl("worker", "show", row["pid"])
		self.assertIn(task, self.out)
		self.assertRegex(self.out, r"holds +1 of")
		self.assertIn(row["worker_uuid"], self.ctl("worker", "list"))
		self.ledger.open_gate("held")
		self.finished(self.node, task)
		wait_for(lambda: self.json("worker", "show", row["worker_uuid"])["rate"] > 0, "a rate")
		for args, code in ((("show", NOBODY), 4), (("show", "nobody"), 4), (("drain", NOBODY, "-r", WHY), 4), (("drain", "nobody", "-r", WHY), 4), (("drain", row["name"]), 2)):
			self.ctl("worker", *args, code=code)
			self.assertIn("taskerctl", self.err)

	def test_nodes(self):
		wait_for(lambda: self.json("node", "show").get("workers") == 1, "the node to say so")
		node = self.json("node", "show", self.node.name)
		self.assertEqual((node["node"], node["state"], node["database"]["state"]), (self.node.name, "up", "up"))
		self.assertGreater(node["store_threads"], 0)
		self.assertRegex(self.ctl("node", "show"), r"(?m)^store threads +\d+$")
		self.ctl("node", "show", "nobody", code=4)


class Draining(harness.Case):
	def ctl(self, node, *args, code=0):
		done = subprocess.run([harness.program("clients", "taskerctl", "taskerctl"), "--socket", node.socket, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=harness.PATIENCE)
		self.assertEqual(done.returncode, code, done.stdout + done.stderr)
		return done.stdout + done.stderr

	def test_drain(self):
		"""It finishes what it runs, gets nothing new, and its process ends by itself; another takes over."""
		db = self.database()
		node = self.daemon(db)
		self.apply(node, template("home", [step("a", "t.gate", gate="home"), step("b", after=["a"])]))
		first = self.python_worker(node, name="first")
		task = self.create(node, "home")
		self.ledger.wait_lines(1, "a")
		uuid = first.row(node)["worker_uuid"]
		self.assertIn(uuid + " draining", self.ctl(node, "worker", "drain", "first", "-r", WHY, "--operator", "ann"))
		shown = json.loads(self.ctl(node, "worker", "show", uuid, "--json"))
		self.assertEqual((shown["draining"], [r["task_uuid"] for r in shown["running"]]), (True, [task]))
		second = self.python_worker(node, name="second")
		self.ledger.open_gate("home")
		self.assertEqual(first.wait(), 0, first.last_words())
		self.assertEqual(self.finished(node, task).state, "complete")
		self.assertEqual([(line.step, line.pid) for line in self.ledger.lines()], [("a", first.pid), ("b", second.pid)])
		wait_for(lambda: uuid not in {r["worker_uuid"] for r in node.client.list_workers()}, "the worker to be gone")
		self.assertIn("has disconnected", self.ctl(node, "worker", "show", uuid, code=5))
		self.assertEqual(db.sql("SELECT from_state, to_state, operator, reason FROM tasker.operator_actions WHERE action = 'worker.drain'"), [["first", uuid, "ann", WHY]])
		self.verify(db, node)

	def test_the_worker_of_another_node_is_drained(self):
		db = self.database()
		one, two = self.daemon(db, name="one", lease_ttl_ms=5000), self.daemon(db, name="two", lease_ttl_ms=5000)
		self.apply(one, template("far", [step("a")]))
		worker = self.python_worker(two)
		row = worker.row(two)
		one.client.request("worker.drain", {"worker_uuid": row["worker_uuid"], "reason": WHY})
		self.assertEqual(worker.wait(), 0, worker.last_words())
		self.verify(db, one)


class Queues(Console):
	"""No worker: what is queued stays there."""

	@classmethod
	def prepare(cls, stage):
		stage.db = stage.database()
		stage.node = stage.daemon(stage.db)
		stage.apply(stage.node, template("wide", [step("a", "q.a"), step("b", "q.b"), step("c", "q.c", after=["a", "b"])], namespace="q"))

	def queues(self):
		return {q["handler"]: q for q in self.json("queue", "list", "-n", "q")["queues"]}

	def states(self):
		return dict(self.db.sql("SELECT state, count(*) FROM tasker.tasks GROUP BY 1"))

	def test_purge(self):
		tasks = self.create_many(self.node, "wide", 1200, namespace="q")
		self.create(self.node, "wide", namespace="q", run_at="2099-01-01T00:00:00Z")
		self.assertEqual((self.queues()["q.a"]["ready"], self.queues()["q.a"]["queued"]), (1200, 1200))
		look = self.json("queue", "purge", "q", "q.a", "--dry-run")
		self.assertEqual((look["dry_run"], look["messages"], look["tasks"], look["left"], look["more"]), (True, 500, 500, 1200, True))
		self.assertEqual(self.states(), {"steps_in_process": "1200", "pending": "1"})
		self.ctl("queue", "purge", "q", "q.a", "-r", WHY, code=2)
		self.assertIn("--yes", self.err)
		self.ctl("queue", "purge", "q", "q.a", "--yes", code=2)
		self.assertIn("--reason", self.err)
		self.assertEqual(self.states(), {"steps_in_process": "1200", "pending": "1"})
		done = self.json("queue", "purge", "q", "q.a", "--yes", "-r", WHY, "--operator", "ann")
		self.assertEqual((done["messages"], done["tasks"], done["left"], set(done["task_uuids"])), (1200, 1200, 0, set(tasks)))
		self.assertEqual(self.states(), {"cancelled": "1200", "pending": "1"})
		self.assertEqual(self.queues()["q.a"]["ready"], 0)
		self.assertEqual(self.db.sql("SELECT DISTINCT from_state, operator, reason FROM tasker.operator_actions WHERE action = 'queue.purge'"), [["q.a", "ann", WHY]])
		again = self.json("queue", "purge", "q", "q.b", "--yes", "-r", WHY)
		self.assertEqual((again["messages"], again["tasks"]), (1200, 0), "what the cancelled tasks have left there")
		self.assertEqual(self.queues()["q.b"]["ready"], 0)
		self.ctl("doctor")
		for args in ("q", "q.nothing"), ("nowhere", "q.a"):
			self.ctl("queue", "purge", *args, "--yes", "-r", WHY, code=4)

	def test_pause(self):
		self.ctl("queue", "pause", "q", "-r", WHY)
		self.assertTrue(self.queues()["q.a"]["paused"])
		self.ctl("queue", "pause", "q", "-r", WHY, code=5)
		self.ctl("queue", "resume", "q", "-r", WHY)
		self.assertFalse(self.queues()["q.a"]["paused"])
		self.ctl("queue", "pause", "nowhere", "-r", WHY, code=4)


class Figures(Console):
	@classmethod
	def prepare(cls, stage):
		super().prepare(stage)
		stage.apply(stage.node, template("good", [step("a"), step("b", after=["a"])], namespace="f"))
		stage.apply(stage.node, template("bad", [step("a", "t.flaky", attempts=2, fails=1), step("b", "t.flaky", after=["a"], fails=9, kind="permanent")], namespace="f"))
		stage.good = stage.create_many(stage.node, "good", 10, namespace="f")
		stage.bad = stage.create_many(stage.node, "bad", 3, namespace="f")
		for task in stage.good + stage.bad:
			stage.finished(stage.node, task)

	def test_analytics(self):
		got = self.json("analytics", "templates", "--namespace", "f")
		self.assertEqual({t["name"]: (t["tasks"], t["complete"], t["failed"]) for t in got["templates"]}, {"good": (10, 10, 0), "bad": (3, 0, 3)})
		self.assertEqual({k: got["scanned"][k] for k in ("tasks", "whole")}, {"tasks": 13, "whole": True})
		steps = {(s["name"], s["step"]): s for s in got["steps"]}
		flaky = steps["bad", "a"]
		self.assertEqual((flaky["attempts"], flaky["succeeded"], flaky["failed"], flaky["retried"], flaky["failure_rate"]), (6, 3, 3, 3, 0.5))
		self.assertEqual((flaky["run_ms"]["n"], flaky["errors"][0]["n"]), (6, 3))
		spread = steps["good", "b"]["run_ms"]
		self.assertTrue(0 <= spread["p50"] <= spread["p95"] <= spread["p99"] <= spread["max"], spread)
		self.assertEqual(len(self.json("analytics", "slowest", "--namespace", "f", "--limit", "2")["slowest"]), 2)
		some = self.json("analytics", "steps", "--tasks", "4")
		self.assertEqual((some["scanned"]["tasks"], some["scanned"]["whole"]), (4, False))
		self.assertEqual(self.json("analytics", "templates", "--until", "1h")["templates"], [])
		for verb, text in (("templates", "f/good@1.0.0"), ("steps", "f/bad@1.0.0"), ("slowest", self.shared.bad[0]), ("failing", "asked to fail")):
			self.assertIn(text, self.ctl("analytics", verb, "--namespace", "f", "--since", "1h"))
			self.assertIn("13 tasks", self.err)
		self.ctl("analytics", "steps", "--namespace", "nowhere")
		self.assertIn("no tasks fit", self.err)
		self.ctl("analytics", "steps", "--tasks", "0", code=2)

	def test_stats(self):
		got = self.ask("stats", namespace="f")
		self.assertEqual(got["tasks"]["states"], {"complete": 10, "blocked_by_failures": 3})
		self.assertEqual((got["dlq_pending"], got["tasks"]["whole"], got["tasks"]["scanned"]), (3, True, 13))
		once = self.json("stats", "--once")
		self.assertEqual(set(once), {"at", "server", "stats", "queues", "workers", "nodes", "rates"})
		self.ctl("stats", "--once")
		self.assertRegex(self.out, r"blocked_by_failures +3")
		lines = self.ctl("stats", "--count", "2", "--interval", "100ms", "--json").splitlines()
		self.assertEqual([set(json.loads(line)) for line in lines], [set(once)] * 2)


class Dumps(Console):
	"""A task is written to a file and made anew in another namespace."""

	def dump(self, task, *args):
		path = os.path.join(self.shared.place, "dump-%d.json" % len(os.listdir(self.shared.place)))
		self.ctl("task", "dump", task, "-o", path, *args)
		with open(path, encoding="utf-8") as f:
			return path, json.load(f)

	def restored(self, path, *args):
		task = self.ctl("task", "restore", path, "-r", WHY, *args).strip()
		return task, self.node.client.get_task(task)

	def test_a_failed_task(self):
		self.apply(self.node, template("report", [step("a", "t.echo"), step("b", "t.mended", after=["a"], gate="report", attempts=1, api_key="k-1"), step("c", after=["b"])]))
		task = self.create(self.node, "report", context={"order": 7, "user": {"Password": "hunter2", "name": "ann"}, "list": [{"access_token": "t"}], "salary": 9})
		self.finished(self.node, task)
		path, got = self.dump(task, "--redact", "SALARY")
		self.assertEqual((got["format"], got["format_version"], got["task"]["task_uuid"], got["template"]["name"]), ("taskerd-task-dump", 1, task, "report"))
		self.assertEqual(got["task"]["context"], {"order": 7, "user": {"Password": "(redacted)", "name": "ann"}, "list": [{"access_token": "(redacted)"}], "salary": "(redacted)"})
		self.assertNotIn("hunter2", json.dumps(got))
		self.assertNotIn("k-1", json.dumps(got))
		self.assertGreaterEqual(got["redacted"], 7, "context, the echo's result, initialization")
		self.assertEqual([a["step"] for a in got["history"]["attempts"]], ["a", "b"])
		self.assertEqual(len(got["dead_letters"]), 1)
		again, made = self.restored(path, "-n", "replay")
		self.assertEqual((made.namespace, made.state, {s.name: s.state for s in made.steps}), ("replay", "steps_in_process", {"a": "complete", "b": "pending", "c": "pending"}))
		self.assertEqual(made.step("a").result, got["task"]["steps"][0]["result"])
		self.assertEqual([line for line in self.ledger.lines() if line.task == again], [])
		self.ctl("doctor")
		self.assertEqual({q["ready"] + q["delayed"] for q in self.json("queue", "list", "-n", "replay")["queues"]}, {0}, "nothing was queued, not even for a moment")
		self.ledger.open_gate("report")
		self.ctl("task", "resume", again, "-r", WHY)
		self.assertEqual(self.finished(self.node, again).state, "complete")
		self.assertEqual([line.step for line in self.ledger.lines() if line.task == again], ["b", "c"])
		start, made = self.restored(path, "-n", "replay", "--state", "start")
		self.assertEqual({s.state for s in made.steps}, {"pending"})
		run, _ = self.restored(path, "-n", "replay", "--before", "b", "--run")
		self.assertEqual(self.finished(self.node, run).state, "complete")
		self.assertEqual([line.step for line in self.ledger.lines() if line.task == run], ["b", "c"])
		self.assertEqual(self.db.sql("SELECT DISTINCT action FROM tasker.operator_actions o JOIN tasker.tasks t USING (task_id) WHERE t.task_uuid = '%s' ORDER BY 1" % run),
		                 [["step.complete_manually"], ["task.pause"], ["task.restore"], ["task.resume"]])
		self.ctl("task", "dump", task, "-o", path, code=1)
		self.assertIn("exists", self.err)
		self.assertEqual(os.stat(path).st_mode & 0o077, 0, "nobody else reads it")

	def test_branches_and_batches(self):
		"""What decisions and batches had made is made again, through the gate of the batch; only what was open runs."""
		flow = [step("begin"), test_dynamic.decision("route", choose("air"), ["begin"]), step("air", "d.say", after=["route"]), step("sea", "d.say", after=["route"]), test_dynamic.join("meet", ["air", "sea"]),
		        test_dynamic.batchable("split", batches(5), ["meet"]), test_dynamic.worker("weigh", "split", {"parallelism": 2}), test_dynamic.join("sum", ["weigh"]), step("end", "d.say", after=["sum"], gate="shapes")]
		worker = self.shared.python_worker(self.node, name="dynamic", module="dynamic.py")
		self.apply(self.node, template("shapes", flow))
		task = self.create(self.node, "shapes")
		self.ledger.wait_lines(1, "end")
		path, got = self.dump(task)
		again, made = self.restored(path, "-n", "replay")
		self.assertEqual({s.name: s.state for s in made.steps}, {s["name"]: "pending" if s["name"] == "end" else "complete" for s in got["task"]["steps"]})
		self.assertIn("weigh_005", {s.name for s in made.steps})
		self.ctl("doctor")
		self.ledger.open_gate("shapes")
		self.ctl("task", "resume", again, "-r", WHY)
		self.assertEqual(self.finished(self.node, again).state, "complete")
		self.assertEqual([line.step for line in self.ledger.lines() if line.task == again], ["end"])
		self.finished(self.node, task)
		worker.stop()

	def test_what_is_no_dump(self):
		for text, word in ((" ", "not JSON"), ("{}", "no dump"), ('{"format": "taskerd-task-dump", "format_version": 2}', "version 2"), ('{"format": "taskerd-task-dump", "format_version": 1}', "lacks")):
			with self.subTest(text):
				self.ctl("task", "restore", "-", "-n", "replay", "-r", WHY, stdin=text, code=1)
				self.assertIn(word, self.err)
		self.ctl("task", "restore", "/nowhere/x", "-n", "replay", "-r", WHY, code=1)
		self.ctl("task", "restore", "-", "-r", WHY, code=2)
		self.ctl("task", "restore", "-", "-n", "replay", code=2)
		self.ctl("task", "dump", NOBODY, code=4)
		self.ctl("task", "dump", "x", code=2)


class Looking(Console):
	def test_tree_result_and_logs(self):
		self.apply(self.node, template("look", [step("a", "t.echo"), step("b", "t.flaky", after=["a"], fails=9, kind="permanent")]))
		task = self.create(self.node, "look", context={"n": 7})
		self.finished(self.node, task)
		tree = self.ctl("task", "tree", task)
		self.assertRegex(tree, r"(?m)^b: asked to fail")
		self.assertEqual(json.loads(self.ctl("step", "result", task, "a")), {"n": 7})
		self.ctl("step", "result", task, "b", code=1)
		self.assertIn("it is error", self.err)
		self.ctl("step", "result", task, "nothing", code=4)
		uuid = self.node.client.get_step(task, "a").step_uuid
		for args in ("logs", task), ("logs", task, uuid), ("step", "logs", task, "a"), ("step", "logs", uuid, "--since", "2h", "--lines", "5"):
			self.ctl(*args)  # from an empty journal
			self.assertIn("the journal has nothing", self.err)
		self.ctl("logs", "x", code=2)
		self.ctl("logs", task, "--since", "soon", code=2)


class Bulk(Console):
	"""A task for each row of a file. No worker."""

	@classmethod
	def prepare(cls, stage):
		stage.db = stage.database()
		stage.node = stage.daemon(stage.db)
		stage.apply(stage.node, template("bulk", [step("a", "b.a")], namespace="b", input_schema={"type": "object", "properties": {
			"total": {"type": ["number", "null"]}, "count": {"type": "integer"}, "customer": {"type": "object", "properties": {"vip": {"type": "boolean"}}}}}))
		stage.apply(stage.node, template("plain", [step("a", "b.a")], namespace="b"))

	def file(self, name, text):
		path = os.path.join(self.shared.place, name)
		with open(path, "w", encoding="utf-8", newline="") as f:
			f.write(text)
		return path

	def made(self, uuids):
		return [self.node.client.get_task(u) for u in uuids]

	def test_csv(self):
		path = self.file("orders.csv", '\ufefforder_id:int,name,customer.vip,customer.name,total,data:json,@key,@priority,@tags\r\n'
		                 '7,"a ""b"", c\nd",true,ann,1.50,"{""x"": [1]}",k-7,5,red;big\r\n\r\n'
		                 '8,,,"",,,,,\r\n')
		outcomes = os.path.join(self.shared.place, "outcomes")
		uuids = self.ctl("task", "create", "b/bulk", "--from", path, "--outcomes", outcomes).split()
		one, two = self.made(uuids)
		self.assertEqual(one.context, {"order_id": 7, "name": 'a "b", c\nd', "customer": {"vip": True, "name": "ann"}, "total": 1.5, "data": {"x": [1]}})
		self.assertEqual((one.priority, one.tags), (5, ["red", "big"]))
		self.assertEqual(two.context, {"order_id": 8, "customer": {"name": ""}})
		with open(outcomes, encoding="utf-8") as f:
			told = [json.loads(line) for line in f]
		self.assertEqual([(o["line"], o["task_uuid"], o["created"]) for o in told], [(2, uuids[0], True), (5, uuids[1], True)])
		self.ctl("task", "create", "b/bulk", "--from", path, "--from-line", "5")
		self.assertIn("1 created", self.err)

	def test_bad_rows(self):
		path = self.file("bad.csv", "n:int,flag:bool\n1,yes\nx,no\n2\n3,maybe\n4,\"no\" x\n5,no\n")
		self.ctl("task", "create", "b/plain", "--from", path, code=1)
		self.assertEqual(len(self.out.split()), 2)
		for text in ("bad.csv:3: column n: ", "bad.csv:4: 1 columns", "bad.csv:5: column flag: ", "bad.csv:6: column 2: text behind", "2 created, 0 there already, 4 failed"):
			self.assertIn(text, self.err)
		for heading, word in (("a:date", "no type"), ("@nothing", "no parameter"), ("", "no heading"), ("a,,b", "no name")):
			self.ctl("task", "create", "b/plain", "--from", "-", "--format", "csv", stdin=heading + "\n1\n" if heading else "\n", code=1)
			self.assertIn(word, self.err)
		self.ctl("task", "create", "b/bulk", "--from", self.file("schema.csv", "count\n1\nx\n"), code=1)
		self.assertIn("schema.csv:3: column count: ", self.err)
		for args in (("--format", "xml"), ("--delimiter", "ab"), ("--from-line", "0")):
			self.ctl("task", "create", "b/plain", "--from", path, *args, code=2)
		self.ctl("task", "create", "b/plain", "--batch", "x", code=2)
		self.ctl("task", "create", "b/plain", "--from", "/nowhere/x", code=1)
		self.ctl("task", "create", "b/nothing", "--from", path, code=4)

	def test_again_after_the_daemon_was_killed(self):
		"""Killed in the middle: taskerctl says so, and the same command makes what is missing, each once."""
		rows = 20000
		text = "".join('{"i": %d}\n' % i for i in range(rows))
		path = self.file("again.jsonl", text)
		child = subprocess.Popen([harness.program("clients", "taskerctl", "taskerctl"), "--socket", self.node.socket, "task", "create", "b/plain", "--from", "-", "--batch", "again"],
		                         stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
		try:
			child.stdin.write(text[:len(text) // 2])
			child.stdin.flush()
			wait_for(lambda: self.db.number("SELECT count(*) FROM tasker.tasks WHERE idempotency_key LIKE 'again:%'") > 0, "some of them")
			self.node.kill()
			self.node.start()
			try:
				child.stdin.write(text[len(text) // 2:])
				child.stdin.close()
			except BrokenPipeError:
				pass
			err = child.stderr.read()

			self.assertEqual(child.wait(harness.PATIENCE), 3, err)
			self.assertRegex(err, r"go on with --from-line \d+ and the same --batch")
		finally:
			child.kill()
			child.wait()
			child.stderr.close()
		self.ctl("task", "create", "b/plain", "--from", path, "--batch", "again")
		self.assertRegex(self.err, r"[1-9]\d* there already, 0 failed")
		self.assertEqual(self.db.sql("SELECT count(*), count(DISTINCT context) FROM tasker.tasks WHERE idempotency_key LIKE 'again:%'"), [[str(rows)] * 2])

	def test_memory_does_not_grow(self):
		def peak(rows):
			"""KiB, when all rows but those in the pipe have been read. (What wait() tells of a child has in it what its parent was when they parted.)"""
			with tempfile.TemporaryFile() as out:
				child = subprocess.Popen([harness.program("clients", "taskerctl", "taskerctl"), "--socket", self.node.socket, "task", "create", "b/plain", "--from", "-", "--json"],
				                         stdin=subprocess.PIPE, stdout=out)
				for i in range(rows):
					child.stdin.write(b'{"i": %d, "text": "%s"}\n' % (i, b"x" * 200))
				child.stdin.flush()
				with open("/proc/%d/status" % child.pid, encoding="ascii") as f:
					most = int(re.search(r"^VmHWM:\s*(\d+) kB$", f.read(), re.M)[1])
				child.stdin.close()
				self.assertEqual(child.wait(harness.PATIENCE), 0)
				out.seek(0)
				self.assertEqual(len(json.load(out)["results"]), rows)
			return most
		small = peak(5000)
		self.assertLess(peak(25000), small + 3072)  # the rows that are more have 5 MB


if __name__ == "__main__":
	unittest.main()

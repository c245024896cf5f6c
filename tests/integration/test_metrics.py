"""What the daemon counts: against what is recorded, in each format, bounded, and shown to whom it concerns."""
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest

import harness
from harness import step, template
from taskerd.exceptions import TaskerdError

PROMTOOL = shutil.which("promtool")
NO_PROMTOOL = "promtool is not here: apt-get install prometheus (contrib/setup test does it)"
CONTRIB = os.path.join(harness.ROOT, "contrib")
LINE = re.compile(r'([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$')


def parse(text):
	"""{(name, frozenset of labels): value} of an exposition."""
	samples = {}
	for line in text.splitlines():
		if line and not line.startswith("#"):
			name, labels, value = LINE.match(line).groups()
			key = name, frozenset(re.findall(r'(\w+)="((?:\\.|[^"\\])*)"', labels or ""))
			if key in samples:
				raise AssertionError("twice: " + line)
			samples[key] = float(value)
	return samples


def families(text):
	"""{name: type} as the text declares them."""
	return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))


class Scraping(harness.Case):
	def scrape(self, daemon, format="prometheus"):
		return daemon.client.request("server.metrics", {"format": format})

	def samples(self, daemon):
		return parse(self.scrape(daemon)["text"])

	def value(self, daemon, name, **labels):
		"""Of the sample with these very labels."""
		return self.samples(daemon).get((name, frozenset(labels.items())))

	def settle_at(self, daemon, name, expected, **labels):
		harness.wait_for(lambda: self.value(daemon, name, **labels) == expected, lambda: "%s%s to be %s; it is %s" % (name, labels, expected, self.value(daemon, name, **labels)))


class Counting(Scraping):
	def test_what_is_recorded_is_counted(self):
		db = self.database()
		node = self.daemon(db)
		self.apply(node, template("chain", [step("a"), step("b", after=["a"]), step("c", after=["b"])]))
		self.apply(node, template("fan", [step("a"), step("b", after=["a"]), step("c", after=["a"]), step("d", after=["b", "c"])]))
		self.apply(node, template("again", [step("a", "t.flaky", attempts=3, fails=2)]))
		self.apply(node, template("never", [step("a", "t.flaky", attempts=2, fails=9), step("b", after=["a"])]))
		self.apply(node, template("held", [step("a", "t.gate")]))
		self.apply(node, template("dies", [step("a", "t.poison", attempts=2, deaths=1)]))
		worker = self.python_worker(node)
		self.create_many(node, "chain", 30)
		self.create_many(node, "fan", 10)
		for name in ("again", "never"):
			self.create(node, name)
		held = self.create(node, "held")
		self.ledger.wait_lines(1, "a")
		node.client.cancel_task(held)
		db.wait_settled()
		self.create(node, "dies")
		self.assertEqual(worker.wait(), -9)
		self.python_worker(node, "second")
		db.wait_settled()
		for name, state, n in (("chain", "complete", 30), ("fan", "complete", 10), ("again", "complete", 1), ("never", "blocked_by_failures", 1), ("held", "cancelled", 1), ("dies", "complete", 1)):
			self.settle_at(node, "taskerd_tasks_settled_total", n, namespace="t", template=name, state=state)
		seen = self.samples(node)
		recorded = db.sql("SELECT tp.name, a.outcome, count(*) FROM tasker.step_attempts a JOIN tasker.tasks t USING (task_id) JOIN tasker.templates tp USING (template_id) "
		                  "WHERE a.outcome <> 'cancelled' GROUP BY 1, 2")
		counted = {(dict(labels)["template"], dict(labels)["outcome"]): n for (name, labels), n in seen.items() if name == "taskerd_step_attempts_total" and n}
		self.assertEqual(counted, {(name, outcome): float(n) for name, outcome, n in recorded})
		of = lambda name, template: seen[name, frozenset({"namespace": "t", "template": template}.items())]  # noqa: E731
		for name, template_name, n in (("taskerd_tasks_created_total", "chain", 30), ("taskerd_steps_completed_total", "fan", 40), ("taskerd_step_retries_total", "again", 2),
		                               ("taskerd_step_retries_total", "never", 1), ("taskerd_steps_failed_total", "never", 1), ("taskerd_step_run_seconds_count", "chain", 90),
		                               ("taskerd_step_record_seconds_count", "chain", 90), ("taskerd_step_ready_to_start_seconds_count", "chain", 90), ("taskerd_task_duration_seconds_count", "fan", 10)):
			self.assertEqual(of(name, template_name), n, name)
		self.assertEqual(of("taskerd_steps_claimed_total", "chain"), of("taskerd_steps_started_total", "chain"))
		plain = lambda name, **labels: seen[name, frozenset(labels.items())]  # noqa: E731
		self.assertEqual(plain("taskerd_workers_lost_total"), 1)
		self.assertEqual(plain("taskerd_steps_lost_total"), 1)
		self.assertEqual(plain("taskerd_sessions", kind="worker", language="python"), 1)
		self.assertEqual(plain("taskerd_dlq_entries", namespace="t", reason="max_retries_exceeded"), 1)
		self.assertEqual(plain("taskerd_step_slots", use="total"), 8)
		self.assertEqual(plain("taskerd_nodes", state="up"), 1)
		self.assertGreater(plain("process_resident_memory_bytes"), 1 << 20)
		# What went into the batches is what was asked for.
		self.assertEqual(plain("taskerd_store_batch_size_sum", call="create"), 44)

	def test_queues_and_their_age(self):
		db = self.database()
		node = self.daemon(db)
		self.apply(node, template("waits", [step("a", "t.nobody")]))
		for priority in (0, 0, 50):
			node.client.create_task("waits", namespace="t", priority=priority)
		db.sql("UPDATE pgmq.q_%s SET vt = vt - interval '1 hour' WHERE message ->> 'p' = '50'" % db.value("SELECT queue_name FROM tasker.handlers"))
		self.settle_at(node, "taskerd_queue_ready_steps", 3, namespace="t")
		self.assertAlmostEqual(self.value(node, "taskerd_queue_oldest_seconds", namespace="t"), 3600, delta=300)
		self.settle_at(node, "taskerd_handlers_without_workers", 1)
		node.client.create_task("waits", namespace="t", run_at="2100-01-01T00:00:00Z")
		self.settle_at(node, "taskerd_starts_scheduled", 1)
		self.assertEqual(self.value(node, "taskerd_starts_due"), 0)

	def test_actions_of_people(self):
		node = self.daemon(self.database())
		self.apply(node, template("waits", [step("a", "t.nobody")]))
		tasks = [self.create(node, "waits") for _ in range(3)]
		node.client.request("task.action", {"task_uuid": tasks[0], "action": "cancel", "reason": "a test"})
		node.client.request("task.bulk_action", {"action": "cancel", "filter": {"all": True}, "reason": "a test"})
		self.settle_at(node, "taskerd_tasks_settled_total", 3, namespace="t", template="waits", state="cancelled")


class Bounds(Scraping):
	def test_templates_are_folded(self):
		db = self.database()
		node = self.daemon(db, metrics_templates=2)
		for name in ("one", "two", "three", "four"):
			self.apply(node, template(name, [step("a")], namespace="n" + name))
		self.python_worker(node)
		for name in ("one", "two", "three", "four", "four"):
			self.finished(node, self.create(node, name, namespace="n" + name))
		self.settle_at(node, "taskerd_tasks_settled_total", 3, namespace="other", template="other", state="complete")
		seen = self.samples(node)
		created = {tuple(sorted(dict(labels).items())): n for (name, labels), n in seen.items() if name == "taskerd_tasks_created_total"}
		self.assertEqual(created, {(("namespace", "none"), ("template", "one")): 1, (("namespace", "ntwo"), ("template", "two")): 1, (("namespace", "other"), ("template", "other")): 3})
		self.assertEqual(seen["taskerd_metrics_folded_templates", frozenset()], 2)
		queues = {dict(labels)["namespace"] for (name, labels) in seen if name == "taskerd_queue_ready_steps"}
		self.assertEqual(queues, {"none", "ntwo", "other"})

	def test_a_template_called_other(self):
		node = self.daemon(self.database(), metrics_templates=1)
		self.apply(node, template("other", [step("a")], namespace="other"))
		self.apply(node, template("pair", [step("a")]))
		self.create(node, "other", namespace="other")
		self.create(node, "pair")
		self.settle_at(node, "taskerd_tasks_created_total", 1, namespace="t", template="pair")
		self.samples(node)  # nothing twice

	def test_a_quota_that_refuses(self):
		node = self.daemon(self.database(), max_sessions=3)
		node.client.ping()
		more = [node.new_client(connect_timeout=0) for _ in range(2)]
		for client in more:
			client.ping()
		with self.assertRaises(TaskerdError):
			node.new_client(connect_timeout=0).ping()
		self.assertGreaterEqual(self.value(node, "taskerd_quota_refusals_total", quota="max_sessions"), 1)
		self.assertGreaterEqual(self.value(node, "taskerd_sessions_refused_total"), 1)


class Formats(harness.SharedCase, Scraping):
	@classmethod
	def prepare(cls, stage):
		super().prepare(stage)
		harness.Case.apply(cls, stage.node, template("pair", [step("a"), step("b", after=["a"])]))
		stage.node.client.create_task("pair", namespace="t")
		stage.db.wait_settled()

	def ctl(self, *args):
		return subprocess.run([harness.program("clients", "taskerctl", "taskerctl"), "--socket", self.node.socket, "metrics", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=harness.PATIENCE)

	@unittest.skipUnless(PROMTOOL, NO_PROMTOOL)
	def test_promtool_has_nothing_to_say(self):
		done = subprocess.run([PROMTOOL, "check", "metrics"], input=self.ctl().stdout, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
		self.assertEqual((done.returncode, done.stdout), (0, ""))

	def test_the_formats_say_the_same(self):
		text, values = self.scrape(self.node)["text"], self.scrape(self.node, "values")["metrics"]
		self.assertEqual(families(text), {m["name"]: m["type"] for m in values})
		self.assertTrue(all(m["help"] for m in values))
		run = next(m for m in values if m["name"] == "taskerd_step_run_seconds")["samples"][0]
		flat = parse(text)
		labels = frozenset(run["labels"].items())
		self.assertEqual(run["count"], flat["taskerd_step_run_seconds_count", labels])
		self.assertEqual([n for _, n in run["buckets"]], sorted(n for _, n in run["buckets"]))
		self.assertEqual(run["count"], flat["taskerd_step_run_seconds_bucket", labels | {("le", "+Inf")}])

	def test_openmetrics(self):
		answer = self.scrape(self.node, "openmetrics")
		self.assertIn("application/openmetrics-text", answer["content_type"])
		self.assertTrue(answer["text"].endswith("# EOF\n"))
		self.assertIn("# TYPE taskerd_tasks_created counter\n", answer["text"])
		for name, unit in re.findall(r"^# UNIT (\S+) (\S+)$", answer["text"], re.M):
			self.assertTrue(name.endswith("_" + unit), name)
		try:
			from prometheus_client.openmetrics import parser  # pylint: disable=import-outside-toplevel
		except ImportError:
			return
		self.assertTrue(list(parser.text_string_to_metric_families(answer["text"])))

	def test_another_format(self):
		with self.assertRaises(TaskerdError) as caught:
			self.scrape(self.node, "xml")
		self.assertIn("format must be values, prometheus or openmetrics", str(caught.exception))

	def test_taskerctl(self):
		shown = self.ctl()
		self.assertEqual((shown.returncode, families(shown.stdout)), (0, families(self.scrape(self.node)["text"])))
		path = os.path.join(self.shared.place, "taskerd.prom")
		self.assertEqual(self.ctl("--output", path).returncode, 0)
		with open(path, encoding="utf-8") as f:
			self.assertEqual(families(f.read()), families(shown.stdout))
		self.assertEqual(os.stat(path).st_mode & 0o777, 0o644)
		wrong = self.ctl("--output", "/nowhere/taskerd.prom")
		self.assertEqual((wrong.returncode, wrong.stdout), (1, ""))
		self.assertIn("/nowhere/taskerd.prom", wrong.stderr)

	def test_what_alerts_and_dashboard_ask_for_is_there(self):
		there = set(families(self.scrape(self.node)["text"]))
		there |= {name + end for name, kind in families(self.scrape(self.node)["text"]).items() if kind == "histogram" for end in ("_bucket", "_sum", "_count")}
		for place in (("prometheus", "taskerd.rules.yml"), ("grafana", "taskerd.json")):
			with open(os.path.join(CONTRIB, *place), encoding="utf-8") as f:
				asked = set(re.findall(r"\b((?:taskerd|process)_\w+)\b", re.sub(r"\w+\.\w+", "", f.read())))
			self.assertLess(20, len(asked), place)
			self.assertEqual(asked - there - {"taskerd_templates"}, set(), place)

	def test_the_dashboard_asks_for_labels_that_there_are(self):
		"""In selectors and in `by`, of families that this daemon has samples of."""
		labels = {}
		for name, pairs in self.samples(self.node):
			labels.setdefault(name, {"job", "instance"}).update(k for k, _ in pairs)
		looked = 0
		for query in board_queries(board()):
			for name, chosen in re.findall(r"\b(taskerd_\w+)(?:\{([^}]*)\})?", query):
				if name not in labels:
					continue
				grouped = {w.strip() for g in re.findall(r"\bby \(([^)]*)\)", query) for w in g.split(",")} if query.count("taskerd_") == 1 else set()
				asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", chosen)) | grouped
				self.assertLessEqual(asked, labels[name], query)
				looked += bool(asked)
		self.assertLess(15, looked)

	def test_runbooks_name_commands(self):
		"""Each alert says what to run next, and there is such a command."""
		with open(os.path.join(CONTRIB, "prometheus", "taskerd.rules.yml"), encoding="utf-8") as f:
			alerts = re.split(r"- alert: ", f.read())[1:]
		named = set()
		for alert in alerts:
			runbook = re.search(r"^ +runbook: (.*)$", alert, re.M)
			self.assertTrue(runbook and "`taskerctl " in runbook[1], alert)
			named |= set(re.findall(r"`taskerctl ([a-z]+(?: [a-z]+)?)(?= |`)", runbook[1]))
		self.assertLess(8, len(named))
		for words in named:
			done = subprocess.run([harness.program("clients", "taskerctl", "taskerctl"), "help", *words.split()], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
			self.assertEqual((done.returncode, done.stderr), (0, ""), words)

	def test_the_page_lists_all(self):
		with open(os.path.join(harness.ROOT, "docs", "observability.md"), encoding="utf-8") as f:
			listed = dict(re.findall(r"^\| `(\w+)` \| (counter|gauge|histogram) \|", f.read(), re.M))
		self.assertEqual(listed, families(self.scrape(self.node)["text"]))


def board():
	with open(os.path.join(CONTRIB, "grafana", "taskerd.json"), encoding="utf-8") as f:
		return json.load(f)


def board_queries(shown):
	return [t["expr"] for p in shown["panels"] for t in p.get("targets", ())] + [a["expr"] for a in shown["annotations"]["list"] if "expr" in a]


class Dashboard(unittest.TestCase):
	"""What Grafana's own types ask for: the fields of each kind of panel, none unknown, none missing."""

	EVERY = {"id", "type", "title", "gridPos"}
	FIELDS = {"row": EVERY | {"collapsed", "panels"}, "stat": EVERY | {"datasource", "description", "fieldConfig", "options", "targets"}, "timeseries": EVERY | {"datasource", "description", "fieldConfig", "options", "targets"}}
	OPTIONS = {"stat": {"reduceOptions", "colorMode", "textMode", "graphMode", "justifyMode", "wideLayout", "showPercentChange", "percentChangeColorMode", "orientation"}, "timeseries": {"legend", "tooltip"}}
	TARGET = {"refId", "datasource", "expr", "legendFormat"}
	LEGEND = {"displayMode", "placement", "calcs", "showLegend"}

	def test_panels(self):
		for p in board()["panels"]:
			with self.subTest(p["title"]):
				self.assertIn(p["type"], self.FIELDS)
				self.assertLessEqual(self.EVERY, set(p))
				self.assertLessEqual(set(p), self.FIELDS[p["type"]])
				self.assertEqual(set(p.get("options", ())), self.OPTIONS.get(p["type"], set()))
				self.assertLessEqual(set(p.get("fieldConfig", {}).get("defaults", ())), {"unit", "min", "thresholds", "custom"})
				for t in p.get("targets", ()):
					self.assertEqual(set(t) - {"instant"}, self.TARGET)
				refs = [t["refId"] for t in p.get("targets", ())]
				self.assertEqual((len(refs), bool(refs)), (len(set(refs)), p["type"] != "row"))
				if p["type"] == "timeseries":
					self.assertEqual(set(p["options"]["legend"]), self.LEGEND)

	def test_they_lie_beside_each_other(self):
		taken = set()
		for p in board()["panels"]:
			g = p["gridPos"]
			place = {(x, y) for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])}
			self.assertFalse(taken & place, p["title"])
			self.assertTrue(place and all(x < 24 for x, _ in place), p["title"])
			taken |= place

	def test_variables(self):
		text = json.dumps(board())
		named = {v["name"] for v in board()["templating"]["list"]}
		self.assertEqual(set(re.findall(r"\$\{?([a-z]\w*)", text)) - {"__all", "__rate_interval"}, named)
		for v in board()["templating"]["list"]:
			self.assertLessEqual({"text", "value"}, set(v["current"]), v["name"])


@unittest.skipUnless(PROMTOOL, NO_PROMTOOL)
class Alerts(unittest.TestCase):
	def promtool(self, *args):
		done = subprocess.run([PROMTOOL, *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
		self.assertEqual(done.returncode, 0, done.stdout)
		return done.stdout

	def test_rules(self):
		self.assertRegex(self.promtool("check", "rules", os.path.join(CONTRIB, "prometheus", "taskerd.rules.yml")), r"SUCCESS: \d+ rules")

	def test_they_fire_when_they_should(self):
		tests = os.path.join(harness.HERE, "prometheus", "taskerd.rules.test.yml")
		self.promtool("test", "rules", tests)
		with open(tests, encoding="utf-8") as f, open(os.path.join(CONTRIB, "prometheus", "taskerd.rules.yml"), encoding="utf-8") as rules:
			tested = set(re.findall(r"Taskerd\w+", f.read()))
			self.assertEqual(set(re.findall(r"- alert: (\w+)", rules.read())), tested)

	def test_queries_of_the_dashboard(self):
		ids = [p["id"] for p in board()["panels"]]
		self.assertEqual(len(ids), len(set(ids)))
		queries = board_queries(board())
		self.assertLess(40, len(queries))
		rules = [{"record": "q:%d" % i, "expr": q.replace("$__rate_interval", "5m")} for i, q in enumerate(queries)]
		with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
			json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, f)
			f.flush()
			self.promtool("check", "rules", f.name)


class WithoutDatabase(Scraping):
	def test_the_rest_is_answered(self):
		node = harness.Daemon(self, "lonely", database="host=%s/none" % self.place)
		node.launch()
		harness.wait_for(node.info, "the daemon to answer")
		seen = self.samples(node)
		self.assertEqual(seen["taskerd_database_up", frozenset()], 0)
		self.assertNotIn("taskerd_queue_ready_steps", {name for name, _ in seen})


if __name__ == "__main__":
	unittest.main()

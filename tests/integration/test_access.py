"""Who may do what: users of this host that the kernel vouches for, each granted roles in namespaces, can neither see nor touch what is not theirs. The message table says what each message needs;
every test that goes over it goes over all of it."""
import os
import re
import signal
import subprocess
import unittest

import harness
import wire
from harness import step, template, wait_for
from wire import Refused, User

as_root = unittest.skipUnless(os.geteuid() == 0, "only root can be other users")

ANN, BOB, OPERATOR, DEPLOYER, AUDITOR, STRANGER = 70001, 70002, 70003, 70004, 70005, 70099
GROUP = 70100  # of those who look after bob's namespace
ONE_ROLE = {role: 70200 + i for i, role in enumerate(("read", "submit", "work", "operate", "admin"))}
NOBODY = "01890a5d-ac96-774b-bcce-b302000000ff"
NO_TASK, NO_STEP = "01890a5d-ac96-774b-bcce-b30200000000", "01890a5d-ac96-774b-bcce-b30200000001"
IMPLIED = {"operate": {"operate", "read"}, "admin": set(ONE_ROLE)}
RULES = """
socket_mode: 0666
access:
  - {uid: %d, roles: [read, submit, work], namespaces: [ours]}
  - {uid: %d, roles: [read, submit, work], namespaces: theirs}
  - {uid: %d, roles: operate, namespaces: [ours]}
  - {uid: %d, roles: admin, namespaces: [ours]}
  - {uid: %d, roles: [read]}
  - {gid: %d, roles: [operate], namespaces: [theirs]}
  - {gid: %d, roles: [admin], namespaces: [theirs]}
""" % (ANN, BOB, OPERATOR, DEPLOYER, AUDITOR, GROUP, GROUP + 1) + "".join("  - {uid: %d, roles: %s}\n" % (uid, role) for role, uid in ONE_ROLE.items())


def message_table():
	"""{method: (kind, role, scope)} of what clients send."""
	with open(os.path.join(harness.ROOT, "protocol", "msg.h"), encoding="utf-8") as f:
		rows = re.findall(r'X\(\w+, "([\w.]+)", MSG_TO_DAEMON, MSG_(\w+), \w+, ROLE_(\w+), SCOPE_(\w+)\)', f.read())
	return {name: (kind.lower(), role.lower(), scope.lower()) for name, kind, role, scope in rows}


TABLE = message_table()
WHY = {"reason": "a test"}


def ways(ns, task, step, entry):
	"""Every request of the table, in a form that passes all checks but that of who asks. One that names something by different uuids is there once for each."""
	a_step = [{"step_uuid": step}, {"task_uuid": task, "step": "a"}]
	an_entry = [{"entry": entry}, {"task_uuid": task}]
	source = template("applied", [step_of()], namespace=ns)
	return {
		"step.dependencies": [{"step_uuid": step}], "task.create": [{"name": "pair", "namespace": ns}], "task.create_many": [{"tasks": [{"name": "pair", "namespace": ns}]}],
		"task.get": [{"task_uuid": task}], "task.list": [{}], "task.wait": [{"task_uuid": task, "timeout_ms": 0}], "task.watch": [{"task_uuid": task}], "task.unwatch": [{"task_uuid": task}],
		"task.cancel": [{"task_uuid": task}], "task.history": [{"task_uuid": task}, {"task_uuid": task, "step": step}], "task.action": [{"task_uuid": task, "action": "pause", **WHY}],
		"task.bulk_action": [{"action": "pause", "filter": {"all": True}, **WHY}], "step.get": [{**s, "history": True} for s in a_step], "step.replay": a_step, "step.action": [{**s, "action": "skip", **WHY} for s in a_step],
		"step.bulk_action": [{"action": "skip", "filter": {"all": True}, **WHY}], "namespace.list": [{}], "namespace.pause": [{"namespace": ns, **WHY}], "namespace.resume": [{"namespace": ns, **WHY}],
		"template.apply": [{"source": source}], "template.validate": [{"source": source}], "template.list": [{}], "template.get": [{"name": "pair", "namespace": ns}], "worker.list": [{}], "node.list": [{}],
		"queue.list": [{}], "queue.purge": [{"namespace": ns, "handler": "t.a", **WHY}], "stats": [{}], "analytics": [{}], "worker.get": [{"worker_uuid": NOBODY}], "worker.drain": [{"worker_uuid": NOBODY, **WHY}],
		"task.summary": [{"task_uuid": task}], "step.audit": a_step, "analytics.performance": [{}], "analytics.bottlenecks": [{}], "task.restore": [{"namespace": ns, "name": "pair", "version": "1.0.0", "context": {}, **WHY}], "event.list": [{}], "doctor": [{}], "server.info": [{}], "server.config": [{}], "server.metrics": [{}], "audit.list": [{}, {"task_uuid": task}], "dlq.list": [{}], "dlq.get": an_entry, "dlq.stats": [{}], "dlq.queue": [{}], "dlq.add": [{"task_uuid": task}],
		"dlq.update": [{**e, "notes": "seen"} for e in an_entry], "dlq.redrive": [{**e, **WHY} for e in an_entry], "dlq.staleness": [{}], "namespace.retention": [{"namespace": ns}],
		"token.create": [{"name": "some", "roles": ["read"], "namespaces": [ns], "expires_at": "2999-01-01T00:00:00Z"}], "token.list": [{}], "token.revoke": [{"token": "nosuchtoken"}],
		"event.subscribe": [{"patterns": ["*"], "namespaces": [ns]}], "event.unsubscribe": [{}], "event.publish": [{"name": "x", "namespace": ns}], "event.consume": [{"namespace": ns}],
		"event.ack": [{"namespace": ns, "ids": [1]}], "event.extend": [{"namespace": ns, "ids": [1], "visibility_ms": 0}], "session.resume": [{"steps": []}], "ping": [{}],
		"step.checkpoint": [{"step_uuid": step, "attempt": 1, "claim": b"x" * 16, "cursor": 1}],
	}


def step_of():
	return step("a", "t.a", attempts=1)


class Shared(harness.SharedCase):
	"""Ann has the namespace ours, Bob theirs; in each there is a task that failed, with an entry, one that waits, and a queued event."""

	@classmethod
	def prepare(cls, stage):
		stage.db = stage.database()
		config = os.path.join(stage.place, "taskerd.yaml")
		with open(config, "w", encoding="utf-8") as f:
			f.write(RULES)
		stage.node = stage.daemon(stage.db, config=config)
		stage.things = {}
		for ns in "ours", "theirs":
			stage.apply(stage.node, template("pair", [step("a", "t.a", attempts=1), step("b", "t.b", after=["a"])], namespace=ns, lifecycle={"max_duration_minutes": 1000}))
			stage.apply(stage.node, template("rest", [step("a", "t.rest", attempts=1)], namespace=ns))
			with wire.Worker(stage.node.socket, ["t.a"], namespaces=[ns]) as w:
				failed = stage.create(stage.node, "pair", namespace=ns)
				given = w.take()
				w.fail(given, retryable=False)
				w.acked(given)
			stage.create(stage.node, "rest", namespace=ns, tags=["both"], correlation_id="same")
			stage.node.client.request("event.publish", {"name": "made", "namespace": ns})
			entry = stage.node.client.request("dlq.get", {"task_uuid": failed})["entry"]
			stage.things[ns] = {"ns": ns, "task": failed, "step": given["step_uuid"], "entry": entry}

	@classmethod
	def tearDownClass(cls):
		harness.Case.tearDownClass.__func__(cls)  # nothing here has left a ledger

	def setUp(self):
		super().setUp()
		self.ours, self.theirs = self.shared.things["ours"], self.shared.things["theirs"]

	def wire(self, uid, worker=None, **user):
		w = wire.Wire(self.node.socket, user=User(uid, **user))
		self.addCleanup(w.close)
		w.hello(**({"worker": worker} if worker else {}))
		return w

	def count(self, what):
		return self.db.number("SELECT count(*) FROM tasker.%s" % what)


class Documented(unittest.TestCase):
	def test_the_protocol_lists_every_message_by_its_role(self):
		with open(os.path.join(harness.ROOT, "protocol", "PROTOCOL.md"), encoding="utf-8") as f:
			section = f.read().split("## 12.")[1]
		rows = {role: set(re.findall(r"`([\w.]+)`", messages)) for role, messages in re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.M)}
		wanted = {}
		for method, (_, role, _) in TABLE.items():
			wanted.setdefault(role, set()).add(method)
		self.assertEqual(rows, wanted)


@as_root
class Roles(Shared):
	def test_every_message_asks_for_its_role(self):
		"""Whoever has another role is told which one it lacks; whoever has it is not."""
		requests = ways(**self.ours)
		asked = {m for m, (kind, _, _) in TABLE.items() if kind == "request" and m != "hello"}
		self.assertEqual(set(requests), asked, "the message table and the requests of this test")
		for has, uid in ONE_ROLE.items():
			with self.wire(uid) as w:
				for method in sorted(asked):
					needs = TABLE[method][1]
					with self.subTest(method, has=has):
						if needs == "none" or needs in IMPLIED.get(has, {has}):
							if method in ("task.cancel", "namespace.pause", "task.bulk_action", "step.bulk_action", "step.action", "dlq.redrive", "task.action"):
								continue  # allowed, as others show, and would change what they look at
							try:
								w.call(method, requests[method][0])
							except Refused as e:
								self.assertNotEqual(e.code, "permission_denied")
						else:
							e = w.refused(method, requests[method][0])
							self.assertEqual((e.code, e.error["details"]), ("permission_denied", {"role": needs}))
							self.assertIn("uid %d" % uid, e.message)
							self.assertIn(needs, e.message)

	def test_notifications_too(self):
		for method, params in ("step.result", {"results": [{}]}), ("step.heartbeat", {"step_uuid": NO_STEP, "attempt": 1}), ("step.log", {"level": "info", "message": "x"}), ("worker.update", {}):
			with self.subTest(method), self.wire(ONE_ROLE["submit"]) as w:
				w.notify(method, params)
				self.assertEqual(w.note("error")["details"], {"role": "work"})
		self.assertEqual({m for m, (kind, role, _) in TABLE.items() if kind == "notification" and role != "none"}, {"step.result", "step.heartbeat", "step.log", "worker.update"})

	def test_a_worker_needs_the_role(self):
		with wire.Wire(self.node.socket, user=User(ONE_ROLE["submit"])) as w:
			with self.assertRaises(Refused) as caught:
				w.hello(worker={"handlers": ["t.a"], "max_concurrency": 1})
			self.assertEqual(caught.exception.code, "permission_denied")
			self.assertIn("work", caught.exception.message)
			w.closed()

	def test_a_stranger_is_turned_away(self):
		with wire.Wire(self.node.socket, user=User(STRANGER)) as w:
			with self.assertRaises(Refused) as caught:
				w.hello()
			self.assertEqual(caught.exception.code, "permission_denied")
			self.assertIn(str(STRANGER), caught.exception.message)
			w.closed()

	def test_root_is_above_rules(self):
		self.assertEqual({t["namespace"] for t in self.node.client.request("task.list", {})["tasks"]}, {"ours", "theirs"})

	def test_a_group_besides_the_first_counts(self):
		with self.wire(STRANGER, groups=[5, GROUP, 70300]) as w:
			self.assertEqual(w.call("task.get", {"task_uuid": self.theirs["task"]})["namespace"], "theirs")
			self.assertEqual(w.refused("task.get", {"task_uuid": self.ours["task"]}).code, "not_found")
		with self.wire(STRANGER, gid=GROUP) as w:
			w.call("task.get", {"task_uuid": self.theirs["task"]})


@as_root
class Namespaces(Shared):
	def test_what_is_not_there_and_what_is_anothers_are_the_same(self):
		"""Every request that names something by its uuid, in every way it can: the answers differ in nothing."""
		theirs, nobody, own = ways(**self.theirs), ways("theirs", NO_TASK, NO_STEP, NOBODY), ways(**self.ours)
		methods = {m for m, (_, _, scope) in TABLE.items() if scope == "item"}
		self.assertLessEqual(methods, set(theirs))
		before = self.count("operator_actions"), self.db.sql("SELECT dlq_uuid, status, notes FROM tasker.dlq ORDER BY 1")
		for method in sorted(methods):
			uid = {"read": ANN, "work": ANN, "operate": OPERATOR}[TABLE[method][1]]
			with self.wire(uid) as w:
				for a, b in zip(theirs[method], nobody[method]):
					with self.subTest(method, fields=sorted(a)):
						e = w.refused(method, a)
						self.assertEqual(e.code, "not_found")
						self.assertEqual(e.error, w.refused(method, b).error)
				for fields in own[method][:1] if TABLE[method][1] == "read" else ():
					w.call(method, fields)
		self.assertEqual((self.count("operator_actions"), self.db.sql("SELECT dlq_uuid, status, notes FROM tasker.dlq ORDER BY 1")), before)

	def test_metrics_of_ours(self):
		"""In every format: the namespaces of labels are those that the peer may read. The root of this test reads all."""
		for format in "values", "prometheus", "openmetrics":
			with self.subTest(format), self.wire(ANN) as ann:
				self.assertIn("theirs", str(self.node.client.request("server.metrics", {"format": format})))
				mine = str(ann.call("server.metrics", {"format": format}))
				self.assertIn("ours", mine)
				self.assertNotIn("theirs", mine)

	def test_one_of_ours_with_one_of_theirs(self):
		with self.wire(OPERATOR) as w:
			for fields in {"task_uuid": self.ours["task"], "step_uuid": self.theirs["step"]}, {"task_uuid": self.theirs["task"], "step_uuid": self.ours["step"]}:
				self.assertEqual(w.refused("step.action", {**fields, "action": "skip", **WHY}).code, "not_found")
			self.assertEqual(w.refused("dlq.update", {"task_uuid": self.ours["task"], "entry": self.theirs["entry"], "notes": "x"}).code, "not_found")

	def test_namespaces_that_are_named(self):
		"""Refused before anything is looked up: one that does not exist is answered like one that does."""
		for method, (_, role, scope) in sorted(TABLE.items()):
			if scope not in ("named", "list") or method.endswith("bulk_action"):
				continue
			uid = {"read": ANN, "submit": ANN, "work": ANN, "operate": OPERATOR, "admin": DEPLOYER}[role]
			with self.wire(uid) as w:
				for ns in "theirs", "no_such":
					with self.subTest(method, namespace=ns):
						known = method in ("worker.list", "worker.get", "worker.drain", "event.list", "namespace.list")  # they have no such field
						if known:
							continue
						e = w.refused(method, {**ways(**self.theirs)[method][0], "namespace": ns})
						self.assertEqual((e.code, e.path, e.error["details"]), ("permission_denied", "namespace", {"role": role, "namespace": ns}))
						self.assertIn(ns, e.message)

	def test_the_default_namespace_is_one_too(self):
		with self.wire(ANN) as w:
			self.assertEqual(w.refused("task.create", {"name": "pair"}).error["details"], {"role": "submit", "namespace": "default"})

	def test_lists_hold_what_one_may_see(self):
		kept = [wire.Worker(self.node.socket, ["t.none"], namespaces=[ns], user=User(uid)) for ns, uid in (("ours", ANN), ("theirs", BOB))] + [
			wire.Worker(self.node.socket, ["t.none"], user=User(ANN)), wire.Worker(self.node.socket, ["t.none"])]
		for w in kept:
			self.addCleanup(w.close)
		wait_for(lambda: len(self.node.client.request("worker.list", {})["workers"]) >= 4, "four workers")
		lists = {"task.list": "tasks", "template.list": "templates", "namespace.list": "namespaces", "queue.list": "queues", "dlq.list": "entries", "dlq.queue": "entries", "dlq.staleness": "tasks",
		         "event.list": "queues", "worker.list": "workers"}
		self.assertEqual(set(lists) | {"audit.list", "dlq.stats", "task.bulk_action", "step.bulk_action", "token.list", "token.revoke", "stats", "analytics", "analytics.performance", "analytics.bottlenecks", "worker.get", "worker.drain"}, {m for m, (_, _, scope) in TABLE.items() if scope == "list"})
		ann, bob, auditor = self.wire(ANN), self.wire(BOB), self.wire(AUDITOR)
		for method, key in lists.items():
			with self.subTest(method):
				everything = auditor.call(method, {})[key]
				ours, theirs = ann.call(method, {})[key], bob.call(method, {})[key]
				seen = [sorted({n for i in items for n in (i["namespaces"] if "namespaces" in i else [i["namespace"]])}) for items in (ours, theirs)]
				self.assertEqual(seen, [["ours"], ["theirs"]])
				self.assertEqual(len(ours) + len(theirs) + (1 if method == "worker.list" else 0), len(everything), "each sees all that is its own; the worker of both is nobody's")
		self.assertEqual([{r["namespace"] for r in w.call("analytics", {})["templates"]} for w in (ann, bob)], [{"ours"}, {"theirs"}])
		self.assertEqual([{r["namespace_name"] for r in w.call("analytics.bottlenecks", {"min_executions": 1})["slow_tasks"]} for w in (ann, bob)], [{"ours"}, {"theirs"}])
		self.assertEqual(sum(w.call("analytics.performance", {})["total_tasks"] for w in (ann, bob)), auditor.call("analytics.performance", {})["total_tasks"])
		self.assertEqual(sum(sum(w.call("stats", {})["tasks"]["states"].values()) for w in (ann, bob)), sum(auditor.call("stats", {})["tasks"]["states"].values()))
		for mine, other in (ann, bob), (bob, ann):
			uuid = mine.call("worker.list", {})["workers"][0]["worker_uuid"]
			self.assertEqual(mine.call("worker.get", {"worker_uuid": uuid})["worker_uuid"], uuid)
			self.assertEqual(other.refused("worker.get", {"worker_uuid": uuid}).code, "not_found")
		self.assertEqual([sum(r["total"] for r in w.call("dlq.stats", {})["reasons"]) for w in (ann, bob, auditor)], [1, 1, 2])

	def test_searches_find_nothing_of_others(self):
		with self.wire(ANN) as w:
			for filter in {"tag": "both"}, {"correlation_id": "same"}, {"name": "rest"}, {"state": "steps_in_process"}:
				self.assertEqual({t["namespace"] for t in w.call("task.list", filter)["tasks"]}, {"ours"}, filter)

	def test_pages_of_a_list(self):
		with self.wire(ANN) as w:
			seen, cursor = [], None
			while True:
				page = w.call("task.list", {"limit": 1, **({"cursor": cursor} if cursor else {})})
				seen += page["tasks"]
				cursor = page.get("next_cursor")
				if not cursor:
					break
			self.assertEqual(len(seen), len(w.call("task.list", {})["tasks"]))

	def test_bulk_actions_reach_no_further(self):
		with self.wire(OPERATOR) as w:
			for filter in {"all": True}, {"tag": "both"}, {"task_uuids": [self.theirs["task"], self.ours["task"]]}, {"namespace": "theirs"}:
				done = w.call("task.bulk_action", {"action": "pause", "filter": filter, "dry_run": True, **WHY})
				self.assertLessEqual({i["namespace"] for i in done["items"]}, {"ours"})
				self.assertEqual(bool(done["items"]), "namespace" not in filter)
				steps = w.call("step.bulk_action", {"action": "skip", "filter": {**filter}, "dry_run": True, **WHY})
				self.assertNotIn(self.theirs["task"], {i["task_uuid"] for i in steps["items"]})
			self.assertEqual(w.call("task.bulk_action", {"action": "pause", "filter": {"task_uuids": [self.theirs["task"]]}, **WHY})["items"], [])

	def test_many_tasks_at_once(self):
		with self.wire(ANN) as w:
			made = w.call("task.create_many", {"tasks": [{"name": "rest", "namespace": "ours"}, {"name": "rest", "namespace": "theirs"}, {"name": "rest"}]})["results"]
			self.assertEqual([r.get("error", {}).get("code") for r in made], [None, "permission_denied", "permission_denied"])
			self.assertIn("theirs", made[1]["error"]["message"])

	def test_templates_are_registered_where_one_may(self):
		with self.wire(DEPLOYER) as w:
			self.assertEqual(w.refused("template.apply", {"source": template("mine", [step("a")], namespace="theirs")}).code, "permission_denied")
			w.call("template.apply", {"source": template("mine", [step("a")], namespace="ours")})

	def test_doctor_looks_at_everything(self):
		with self.wire(ANN) as w:
			self.assertEqual(w.refused("doctor").error["details"], {"role": "read"})
		with self.wire(AUDITOR) as w:
			w.call("doctor")

	def test_a_worker_gets_steps_of_its_namespaces(self):
		"""Also if it asks for all of them."""
		ann = wire.Worker(self.node.socket, ["t.share"], concurrency=10, user=User(ANN))
		bob = wire.Worker(self.node.socket, ["t.share"], concurrency=10, namespaces=["*"], user=User(BOB))
		for w in ann, bob:
			self.addCleanup(w.close)
		for ns in "ours", "theirs":
			self.apply(self.node, template("shared", [step("a", "t.share")], namespace=ns))
			for _ in range(5):
				self.create(self.node, "shared", namespace=ns)
		for w, ns in (ann, "ours"), (bob, "theirs"):
			steps = w.take(5)
			self.assertEqual({s["namespace"] for s in steps}, {ns})
			for s in steps:
				w.finish(s)
			for s in steps:
				self.assertEqual(w.acked(s), "recorded")
		self.assertEqual((ann.untaken(), bob.untaken()), (0, 0))

	def test_a_worker_adds_nothing_to_the_story_of_anothers_task(self):
		with wire.Worker(self.node.socket, ["t.none"], namespaces=["ours"], user=User(ANN)) as w:
			for said, named in ("forged", self.theirs), ("made up", self.ours):
				w.notify("step.log", {"step_uuid": named["step"], "level": "warn", "message": said})
				line = wait_for(lambda s=said: [l for l in self.node.log_text().splitlines() if s in l], "what the worker says to be logged")[0]
				self.assertNotIn(named["task"], line)
				self.assertIn(w.welcome["worker_uuid"], line)

	def test_a_worker_that_asks_for_more(self):
		with wire.Wire(self.node.socket, user=User(ANN)) as w:
			with self.assertRaises(Refused) as caught:
				w.hello(worker={"handlers": ["t.a"], "namespaces": ["ours", "theirs"], "max_concurrency": 1})
			self.assertEqual((caught.exception.code, caught.exception.path), ("permission_denied", "worker.namespaces[1]"))
			w.closed()

	def test_results_need_the_claim(self):
		"""With all the uuids of another's running step."""
		self.apply(self.node, template("held", [step("a", "t.held")], namespace="theirs"))
		with wire.Worker(self.node.socket, ["t.held"], user=User(BOB)) as bob, wire.Worker(self.node.socket, ["t.other"], user=User(ANN)) as ann:
			self.create(self.node, "held", namespace="theirs")
			given = bob.take()
			ann.results({**wire.ok(given), "claim": b"0" * 16})
			self.assertEqual(ann.acked(given), "not_claimed")
			self.assertEqual(ann.call("step.checkpoint", {"step_uuid": given["step_uuid"], "attempt": 1, "claim": b"0" * 16, "cursor": 1})["status"], "not_claimed")
			bob.finish(given)
			self.assertEqual(bob.acked(given), "recorded")

	def test_fast_events_of_others_do_not_come(self):
		with self.wire(ANN) as ann, self.wire(BOB) as bob:
			self.assertEqual(ann.refused("event.subscribe", {"patterns": ["*"], "namespaces": ["ours", "theirs"]}).code, "permission_denied")
			for w in ann, bob:
				w.call("event.subscribe", {"patterns": ["*"]})
			for ns in "theirs", "ours":
				self.node.client.request("event.publish", {"name": "now", "namespace": ns, "delivery_mode": "fast"})
			for w, ns in (ann, "ours"), (bob, "theirs"):
				self.assertEqual([e["metadata"]["namespace"] for e in w.note("event.message")["events"]], [ns])
				self.assertEqual([p for m, p in w.silent() if m == "event.message"], [])

	def test_the_command_line_says_so(self):
		ctl = harness.program("clients", "taskerctl", "taskerctl")
		done = subprocess.run(["setpriv", "--reuid=%d" % ANN, "--regid=%d" % ANN, "--clear-groups", ctl, "--socket=" + self.node.socket, "namespace", "pause", "theirs", "--reason", "x"],
		                      stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=harness.PATIENCE)
		self.assertNotEqual(done.returncode, 0)
		self.assertIn("lacks the role operate", done.stderr)


@as_root
class Audit(Shared):
	def test_whatever_is_done_by_hand_is_noted(self):
		"""Who (uid, name and pid from the kernel), from where (the node), why, and what became of it; of everything that needs a role of operators and changes something."""
		a_task, entry = self.theirs["task"], self.theirs["entry"]
		second = self.create(self.node, "rest", namespace="theirs")
		w = self.wire(DEPLOYER + 1000, groups=[GROUP + 1])  # of the rule for this test
		home = wire.Worker(self.node.socket, ["t.b"], namespaces=["theirs"])
		self.addCleanup(home.close)
		done = [("dlq.update", {"entry": entry, "notes": "looked at"}, "looked at"), ("dlq.update", {"entry": entry, "metadata": {"x": 1}, "reason": "because"}, "because"), ("dlq.add", {"task_uuid": second, "reason": "odd"}, "odd"),
		        ("task.action", {"task_uuid": second, "action": "pause", **WHY}, "a test"), ("task.bulk_action", {"action": "resume", "filter": {"task_uuids": [second]}, **WHY}, "a test"),
		        ("step.action", {"task_uuid": second, "step": "a", "action": "skip", **WHY}, "a test"), ("task.cancel", {"task_uuid": self.create(self.node, "rest", namespace="theirs"), "reason": "no need"}, "no need"),
		        ("dlq.redrive", {"task_uuid": a_task, **WHY}, "a test"), ("namespace.pause", {"namespace": "theirs", **WHY}, "a test"), ("namespace.resume", {"namespace": "theirs", **WHY}, "a test"),
		        ("step.bulk_action", {"action": "skip", "filter": {"task_uuids": [a_task]}, **WHY}, "a test"),
		        ("namespace.retention", {"namespace": "theirs", "keep_minutes": 100000, "reason": "law"}, "law"), ("template.apply", {"source": template("audited", [step("a")], namespace="theirs")}, ""),
		        ("token.create", {"name": "audited", "roles": ["read"], "namespaces": ["theirs"], **WHY}, "a test"), ("token.revoke", {"token": "audited", **WHY}, "a test"),
		        ("worker.drain", {"worker_uuid": home.welcome["worker_uuid"], **WHY}, "a test"), ("task.restore", {"namespace": "theirs", "name": "pair", "version": "1.0.0", "context": {}, **WHY}, "a test"),
		        ("queue.purge", {"namespace": "theirs", "handler": "t.a", **WHY}, "a test")]
		for method, params, why in done:
			with self.subTest(method):
				last = self.db.number("SELECT coalesce(max(action_id), 0) FROM tasker.operator_actions")
				w.call(method, params)
				rows = self.db.sql("SELECT o.uid, o.pid, n.node_name, o.reason FROM tasker.operator_actions o JOIN tasker.nodes n USING (node_no) WHERE action_id > %d" % last)
				self.assertTrue(rows)
				for row in rows:
					self.assertEqual(row, [str(DEPLOYER + 1000), str(w.other.pid), "node-a", why])
		changing = {m for m, (_, role, _) in TABLE.items() if role in ("operate", "admin")} - {"token.list", "server.config", "audit.list"}
		self.assertEqual(changing, {m for m, _, _ in done})
		actions = self.node.client.request("task.history", {"task_uuid": second})["actions"]
		self.assertEqual([(a["action"], a["uid"], a["pid"], a["reason"]) for a in actions][:2], [("dlq.add", DEPLOYER + 1000, w.other.pid, "odd"), ("task.pause", DEPLOYER + 1000, w.other.pid, "a test")])

		self.look_at_it(w, second)

	def look_at_it(self, w, second):
		"""What audit.list shows is what was noted; each condition of it picks what it says."""
		column = lambda sql: [row[0] for row in self.db.sql(sql)]  # noqa: E731
		self.assertLessEqual(set(column("SELECT action FROM tasker.operator_actions")), set(column("SELECT unnest(tasker.operator_words())")))
		audit = lambda **conditions: self.node.client.request("audit.list", conditions)  # noqa: E731
		actions, cursor = [], {}
		while cursor is not None:
			page = audit(limit=3, **cursor)
			self.assertLessEqual(len(page["actions"]), 3)
			actions += page["actions"]
			cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else None
		self.assertEqual([a["request"] for a in actions], column("SELECT request_id FROM tasker.operator_actions ORDER BY action_id DESC"))
		for key, sql in ("operator", "operator"), ("user", "user_name"), ("reason", "reason"), ("action", "action"), ("from", "from_state"), ("to", "to_state"):
			self.assertEqual([a[key] for a in actions], column("SELECT %s FROM tasker.operator_actions ORDER BY action_id DESC" % sql))
		picks = [({"who": str(DEPLOYER + 1000)}, lambda a: a["uid"] == DEPLOYER + 1000), ({"task_uuid": second}, lambda a: a["task_uuid"] == second), ({"action": "task"}, lambda a: a["action"].startswith("task.")),
		         ({"action": "step.skip"}, lambda a: a["action"] == "step.skip"), ({"namespace": "theirs"}, lambda a: a["namespace"] == "theirs"), ({"request": actions[0]["request"]}, lambda a: a["request"] == actions[0]["request"]),
		         ({"after": actions[3]["at"]}, lambda a: a["at"] >= actions[3]["at"]), ({"before": actions[3]["at"]}, lambda a: a["at"] < actions[3]["at"]), ({"who": "nobody at all"}, lambda a: False)]
		for conditions, fits in picks:
			with self.subTest(conditions):
				self.assertEqual(audit(limit=1000, **conditions)["actions"], [a for a in actions if fits(a)])
		skipped = audit(action="step.skip", task_uuid=second)["actions"]
		self.assertEqual([(a["step"], a["node"], a["pid"]) for a in skipped], [("a", "node-a", w.other.pid)])
		self.assertEqual({a["namespace"] for a in w.call("audit.list", {"limit": 1000})["actions"]}, {"theirs"}, "of other namespaces, and of none, it is told nothing")

	def test_asking_changes_and_notes_nothing(self):
		before = self.count("operator_actions")
		self.node.client.request("namespace.retention", {"namespace": "ours"})
		with self.assertRaises(Exception):
			self.node.client.request("dlq.update", {"entry": NOBODY, "notes": "x"})
		self.assertEqual(self.count("operator_actions"), before)


@as_root
class Socket(harness.Case):
	def test_mode_and_group(self):
		db = self.database()
		node = self.daemon(db, socket_mode="0620", socket_group=str(GROUP))
		st = os.stat(node.socket)
		self.assertEqual((st.st_mode & 0o777, st.st_gid), (0o620, GROUP))
		with self.assertRaises(AssertionError):
			wire.Wire(node.socket, user=User(ANN))
		with wire.Wire(node.socket, user=User(ANN, groups=[GROUP])) as w:
			w.hello()
			w.call("ping")

	def test_refusals_are_counted_and_logged(self):
		config = os.path.join(self.place, "c.yaml")
		with open(config, "w", encoding="utf-8") as f:
			f.write(RULES)
		node = self.daemon(self.database(), config=config)
		with wire.Wire(node.socket, user=User(ANN)) as w:
			w.hello()
			w.refused("namespace.pause", {"namespace": "theirs", **WHY})
			self.assertIn("(pid %d, uid %d): namespace.pause refused: uid %d lacks the role operate" % (w.other.pid, ANN, ANN), node.log_text())
		self.assertEqual(node.info()["counters"]["denied"], 1)

	def test_a_reload_takes_rights_away_and_gives_them(self):
		config = os.path.join(self.place, "c.yaml")

		def rules(*lines):
			with open(config, "w", encoding="utf-8") as f:
				f.write("socket_mode: 0666\naccess:\n" + "".join("  - {%s}\n" % line for line in lines))
		ann, bob = "uid: %d, roles: [read, submit, work]" % ANN, "uid: %d, roles: [read, submit, work]" % BOB
		rules(ann, bob)
		node = self.daemon(self.database(), config=config)
		for ns in "ours", "theirs":
			self.apply(node, template("held", [step("a", "t.held", attempts=1)], namespace=ns))
		connect = lambda uid: wire.Wire(node.socket, user=User(uid))  # noqa: E731
		worker = wire.Worker(node.socket, ["t.held"], concurrency=4, user=User(ANN))
		asker, watcher, lost, keeper = connect(ANN), connect(ANN), wire.Worker(node.socket, ["t.other"], namespaces=["theirs"], user=User(ANN)), connect(BOB)
		for w in worker, asker, watcher, lost, keeper:
			self.addCleanup(w.close)
		for w in asker, watcher, keeper:
			w.hello()
		tasks = {ns: self.create(node, "held", namespace=ns) for ns in ("ours", "theirs")}
		given = {s["namespace"]: s for s in worker.take(2)}
		watcher.call("task.watch", {"task_uuid": tasks["theirs"]})
		keeper.call("task.watch", {"task_uuid": tasks["theirs"]})
		rules(ann + ", namespaces: [ours]", bob)
		os.kill(node.pid, signal.SIGHUP)
		worker.until(lambda: worker.cancels, "the step to be taken back")
		self.assertEqual(worker.cancels, [(given["theirs"]["step_uuid"], 1, "access_withdrawn")])
		for w in watcher, lost:
			self.assertIn("no longer grants uid %d" % ANN, w.protocol_error("permission_denied"))
		self.assertEqual(asker.refused("task.get", {"task_uuid": tasks["theirs"]}).code, "not_found")
		asker.call("task.get", {"task_uuid": tasks["ours"]})
		worker.finish(given["ours"])
		self.assertEqual(worker.acked(given["ours"]), "recorded")
		worker.results(wire.ok(given["theirs"]))
		self.assertEqual(worker.acked(given["theirs"]), "stale")
		with wire.Worker(node.socket, ["t.held"], namespaces=["theirs"], user=User(BOB)) as other:
			again = other.take()
			self.assertEqual((again["step_uuid"], again["attempt"]), (given["theirs"]["step_uuid"], 1), "it cost no attempt")
			other.finish(again)
			self.assertEqual(other.acked(again), "recorded")
		keeper.events(tasks["theirs"], lambda e: e["state"] == "complete")
		rules(ann, bob)
		os.kill(node.pid, signal.SIGHUP)
		self.create(node, "held", namespace="theirs")
		self.assertEqual(worker.take()["namespace"], "theirs", "the session that was open has its rights back")
		rules(bob)
		os.kill(node.pid, signal.SIGHUP)
		for w in worker, asker:
			w.protocol_error("permission_denied")
		keeper.call("ping")

	def test_wrong_rules(self):
		config = os.path.join(self.place, "c.yaml")
		with open(config, "w", encoding="utf-8") as f:
			f.write("database: host=x\nsocket_group: no-such-group\naccess:\n  - {user: no-such-user, roles: [read, fly], namespace: x}\n  - {roles: [read]}\n  - 7\n  - {uid: -1, gid: [x], everyone: no, roles: []}\n")
		done = subprocess.run([harness.taskerd_program(), "--config=" + config, "--check-config"], capture_output=True, text=True, timeout=harness.PATIENCE)
		self.assertEqual(done.returncode, 2, done.stderr)
		for line in (":4:12: error: access[0].user: there is no user \"no-such-user\"", "access[0].roles: expected read, submit, work, operate or admin, found the text \"fly\"",
		             "access[0].namespace: no such key in a rule; did you mean namespaces?", ":5:5: error: access[1]: for whom?", ":6:5: error: access[2]: expected a rule", "access[3].uid: expected a number",
		             "access[3].gid: expected a number", "access[3].everyone: expected true", "access[3].roles: expected at least one value", "socket_group: there is no group \"no-such-group\""):
			self.assertIn(line, done.stderr)


if __name__ == "__main__":
	unittest.main()

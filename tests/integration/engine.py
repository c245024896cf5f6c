"""The engine's SQL functions, ready to be called: a cluster with the schema, and Python faces for the calls.

	db = engine.new_database("t")                # a copy of a database with the schema; drop with engine.cluster().dropdb(db)
	e = engine.Engine(db)                        # a connection with the daemon's settings
	e = engine.lend(test)                        # the same, of a test that changes no schema: a third of the work
	node = engine.Node("n", *e.register("n"))
	e.claim(node, {handler_id: 5}, 5)            # rows as Row

Triggers, which only these tests install, note every change of a state in probe.moves and every first state in probe.births. The tables of
daemon/core come from tests/unit/core/dump_transitions in the build directory that TASKERD_BUILD names.
"""
import collections
import functools
import itertools
import json
import os
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import pg  # noqa: E402
from pg import lit  # noqa: E402

SQL_DIR = os.path.join(HERE, "..", "..", "daemon", "store", "sql")
SQL_FILES = ["pgmq.sql"] + sorted(name for name in os.listdir(SQL_DIR) if name[0].isdigit())
FIRST_SEQ = 1000
HOUR_MS = 3600 * 1000  # a backoff that is over only when the test says so
OUTCOMES = ("success", "handler_error", "permanent_error", "invalid_result", "timeout", "worker_lost", "released")
REPORTED = ("success", "handler_error", "permanent_error", "invalid_result")  # by a worker: a repeat is a duplicate, not stale

Row = collections.namedtuple("Row", "kind idx status task step attempt fence handler")
Item = collections.namedtuple("Item", "task step fence outcome retry delay_ms")

# As the daemon's connections set them.
HOT_SETTINGS = """SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_bitmapscan = off;
SET plan_cache_mode = force_generic_plan; SET jit = off; SET TimeZone = 'UTC'; SET search_path = pg_catalog"""

# No unique index: it would make transactions wait for each other that otherwise do not.
PROBES = """
CREATE SCHEMA probe;
CREATE TABLE probe.moves (kind text, was text, now text);
CREATE TABLE probe.births (kind text, state text);
CREATE FUNCTION probe.moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO probe.moves VALUES (TG_ARGV[0], OLD.state, NEW.state);
	RETURN NULL;
END $$;
CREATE FUNCTION probe.born() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO probe.births VALUES (TG_ARGV[0], NEW.state);
	RETURN NULL;
END $$;
CREATE TRIGGER moved AFTER UPDATE ON tasker.tasks FOR EACH ROW WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION probe.moved('task');
CREATE TRIGGER moved AFTER UPDATE ON tasker.steps FOR EACH ROW WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION probe.moved('step');
CREATE TRIGGER born AFTER INSERT ON tasker.tasks FOR EACH ROW EXECUTE FUNCTION probe.born('task');
CREATE TRIGGER born AFTER INSERT ON tasker.steps FOR EACH ROW EXECUTE FUNCTION probe.born('step');
"""


@functools.lru_cache(maxsize=None)
def cluster():
	"""The cluster of this process, with the schema in database "engine"; gone at exit."""
	made = pg.PgCluster()
	made.createdb("engine")
	made.psql("CREATE SCHEMA tasker", db="engine")
	for name in SQL_FILES:
		with open(os.path.join(SQL_DIR, name), encoding="utf-8") as f:
			made.psql(f.read(), db="engine", transaction=True)
	made.psql(PROBES, db="engine", transaction=True)
	return made


def new_database(name):
	"""A fresh copy; its name."""
	cluster().createdb(name, template="engine")
	return name


_resting = []  # Engines of tests that are over
_numbers = itertools.count()


def lend(test):
	"""An Engine on a database with nothing in it, which other tests may have had before and will have after."""
	e = _resting.pop() if _resting else Engine(new_database("lent_%d" % next(_numbers)))
	test.addCleanup(_rest, e)
	return e


def _rest(e):
	e.run("ROLLBACK")
	e.run("TRUNCATE %s RESTART IDENTITY" % e.value(
		"SELECT string_agg(format('%I.%I', schemaname, tablename), ', ') FROM pg_tables WHERE schemaname IN ('tasker', 'probe') AND tablename <> 'retention_walk' OR schemaname = 'pgmq' AND tablename <> 'meta'"))
	e.seq, e.slot = FIRST_SEQ, None
	_resting.append(e)


@functools.lru_cache(maxsize=None)
def tables():
	"""The Tables; skips the test if there is no build."""
	build = os.environ.get("TASKERD_BUILD")
	if not build:
		raise unittest.SkipTest("TASKERD_BUILD does not name a build directory")
	dump = os.path.join(build, "tests", "unit", "core", "dump_transitions")
	return Tables(subprocess.run([dump], stdout=subprocess.PIPE, text=True, check=True).stdout)


class Tables:
	"""The transition tables of daemon/core/states.c."""

	def __init__(self, text):
		self.names = {"task": [], "step": []}
		self.moves = {"task": {}, "step": {}}
		for line in text.splitlines():
			what, kind, *rest = line.split()
			if what == "state":
				self.names[kind].append(rest[0])
			else:
				self.moves[kind][rest[0], rest[1]] = rest[2]

	def allows(self, kind, was, now):
		return (was, now) in self.moves[kind]

	def allows_birth(self, kind, state):
		return state == "pending" or self.allows(kind, "pending", state)


class Node:
	"""A daemon, as the tests know it."""

	def __init__(self, name, no, incarnation):
		self.name, self.no, self.incarnation = name, no, incarnation
		self.journal = {}  # slot: {(task, step, fence)}
		self.expired = False


def array(values, sql_type):
	return "%s::%s[]" % (lit(list(values)) if values else "'{}'", sql_type)


class Engine:
	"""The SQL functions over one session."""

	def __init__(self, db):
		self.session = cluster().session(db)
		self.session.run(HOT_SETTINGS)
		self.seq = FIRST_SEQ
		self.slot = None  # of the journal, for the next call; its seq if None
		self.used = None  # the slot of the last call

	def close(self):
		self.session.close()

	def run(self, sql):
		return self.session.run(sql)

	def value(self, sql):
		return self.run(sql)[0][0]

	def hot(self, call):
		rows = self.run("SELECT kind, idx, status, task_id, step_no, attempt, fence, handler_id FROM tasker." + call)
		return [Row(r[0], *[r[i] if i == 2 or r[i] is None else int(r[i]) for i in range(1, 8)]) for r in rows]

	def node_args(self, node):
		self.seq += 1
		self.used, self.slot = self.seq if self.slot is None else self.slot, None
		return "%d, %d, %d, %d" % (node.no, node.incarnation, self.used, self.seq)

	@staticmethod
	def credit_args(credits, cap):
		return "%s, %s, %d" % (array(credits.keys(), "int"), array(credits.values(), "int"), cap)

	def register(self, name):
		no, incarnation = self.run("SELECT node_no, incarnation FROM tasker.node_register(%s, 'h', 1, 'v', 600000)" % lit(name))[0]
		return int(no), int(incarnation)

	def create(self, node, items, credits, cap):
		"""`items`: (uuid, template name, context, options)."""
		return self.hot(self.create_call(node, items, credits, cap))

	def create_call(self, node, items, credits, cap):
		return "create_tasks(%s, false, %s, %s, %s, %s, %s, %s, %s)" % (
			self.node_args(node), self.credit_args(credits, cap), array([i[0] for i in items], "uuid"),
			array(["ns"] * len(items), "text"), array([i[1] for i in items], "text"), array([None] * len(items), "text"),
			array([json.dumps(i[2]) for i in items], "jsonb"), array([i[3] and json.dumps(i[3]) for i in items], "jsonb"))

	def create_one(self, node, task_uuid, name, handlers, version=None, context="{}", checked=0):
		"""The new task's id, or None if it is not a case for create_one."""
		rows = self.run("SELECT new_task FROM tasker.create_one(%s, false, %s, %s, 'ns', %s, %s, %s, %d)" % (
			self.node_args(node), array(handlers, "int"), lit(task_uuid), lit(name), lit(version), lit(context), checked))
		return rows[0][0] and int(rows[0][0])

	def create_many(self, node, uuids, name, handlers, cap, version=None, context="{}", checked=0):
		"""Ids of the new tasks, in order, and of those whose roots were claimed; or (None, None) if it is not a case for create_many."""
		template, taken = self.run("SELECT template, taken FROM tasker.create_many(%s, false, %s, %d, %s, %s, 'ns', %s, %s, %d)" % (
			self.node_args(node), array(handlers, "int"), cap, array(uuids, "uuid"), array([context] * len(uuids), "jsonb"), lit(name), lit(version), checked))[0]
		if template is None:
			return None, None
		ids = dict(self.run("SELECT task_uuid, task_id FROM tasker.tasks WHERE task_uuid = ANY (%s)" % array(uuids, "uuid")))
		return [int(ids[u]) for u in uuids], json.loads(taken.replace("{", "[").replace("}", "]"))

	def claim(self, node, credits, cap):
		return self.hot("claim(%s, %s)" % (self.node_args(node), self.credit_args(credits, cap)))

	def record(self, node, items, credits, cap):
		"""Rows, with an a row for every item: the function leaves out recorded successes."""
		rows = self.hot(self.record_call(node, items, credits, cap))
		answered = {r.idx for r in rows if r.kind == "a"}
		return [Row("a", n, "recorded", i.task, i.step, None, i.fence, None) for n, i in enumerate(items, 1)
		        if n not in answered and i.outcome == "success"] + rows

	def record_one(self, node, item, children, takes):
		"""`children`: (step, handler). As record(), or None if it is not a case for record_one."""
		taken, queued = ([c for c, take in zip(children, takes) if take is wanted] for wanted in (True, False))
		arrays = ", ".join(array(a, "int") if a else "NULL" for a in ([c[0] for c in taken], [c[0] for c in queued], [c[1] for c in queued]))
		what = self.value(
			"SELECT tasker.record_one(%s, false, %s, %d, %d, %d, '{\"r\": 1}', 8, NULL, 1.5, NULL, now())"
			% (self.node_args(node), arrays, item.task, item.step, item.fence))
		if what == "0":
			return None
		rows = [Row("a", 1, "recorded", item.task, item.step, None, item.fence, None)]
		rows += [Row("c", None, None, item.task, c[0], 1, 1, c[1]) for c, take in zip(children, takes) if take]
		rows += [Row("q", None, None, None, None, None, None, h) for h in {c[1] for c, take in zip(children, takes) if not take}]
		return rows + ([Row("s", None, "complete", item.task, None, None, None, None)] if what == "2" else [])

	def record_many(self, node, results):
		"""`results`: (item, children, takes), each as for record_one. Rows as of record(), but for items that were left; raises TK002 if it is not a case for record_many."""
		items = [r[0] for r in results]
		made = [(i.task, c[0], c[1], take) for i, children, takes in results for c, take in zip(children, takes)]
		take, queue = [m for m in made if m[3]], [m for m in made if not m[3]]
		sinks = [(i.task, n) for n, (i, children, _) in enumerate(results, 1) if not children]

		def columns(rows, *types):
			return ", ".join(array([r[k] for r in rows], t) if rows else "NULL" for k, t in enumerate(types))

		refused, settled = self.run("SELECT refused, settled FROM tasker.record_many(%s, false, %s, %s, array_fill(NULL::uuid, ARRAY[%d]), array_fill(now(), ARRAY[%d]), %s, %s, %s)" % (
			self.node_args(node), columns([(i.task, i.step, i.fence) for i in items], "bigint", "int", "int"),
			columns([('{"r": 1}', 8, None, 1.5)] * len(items), "jsonb", "int", "jsonb", "real"), len(items), len(items),
			columns(take, "bigint", "int"), columns(queue, "bigint", "int", "int"), columns(sinks, "bigint", "int")))[0]
		refused, settled = (json.loads((x or "{}").replace("{", "[").replace("}", "]")) for x in (refused, settled))
		left = {items[n - 1].task for n in refused}
		rows = [Row("a", n, "recorded", i.task, i.step, None, i.fence, None) for n, i in enumerate(items, 1) if n not in refused]
		rows += [Row("c", None, None, m[0], m[1], 1, 1, m[2]) for m in take if m[0] not in left]
		rows += [Row("q", None, None, None, None, None, None, h) for h in {m[2] for m in queue if m[0] not in left}]
		return rows + [Row("s", None, "complete", items[n - 1].task, None, None, None, None) for n in settled]

	def record_call(self, node, items, credits, cap):
		columns = (
			([i.task for i in items], "bigint"), ([i.step for i in items], "int"), ([i.fence for i in items], "int"),
			([i.outcome for i in items], "tasker.attempt_outcome"), ([i.retry for i in items], "boolean"),
			([i.delay_ms for i in items], "bigint"), (['{"r": 1}' if i.outcome == "success" else None for i in items], "jsonb"),
			([None if i.outcome == "success" else '{"message": "m"}' for i in items], "jsonb"), ([None] * len(items), "jsonb"),
			([1.5] * len(items), "real"), ([None] * len(items), "uuid"))
		return "record_results(%s, false, %s, %s, array_fill(now(), ARRAY[%d]))" % (
			self.node_args(node), self.credit_args(credits, cap), ", ".join(array(*c) for c in columns), len(items))

	def adopt(self, node):
		return self.hot("adopt_claims(%s)" % self.node_args(node))

	def reclaim(self, node, limit):
		return self.hot("reclaim(%d, false, %d)" % (node.no, limit))

	def cancel(self, node, task_uuid):
		return self.hot("cancel_task(%d, %s, 'no longer wanted', 'op', false)" % (node.no, lit(task_uuid)))

	def doctor(self):
		return json.loads(self.value("SELECT tasker.api_doctor('{}')"))


def template_json(name, steps, strategy):
	"""`steps`: dicts with no, callable, parents, retryable, max_attempts."""
	full, up = [], {}
	for s in steps:
		up[s["no"]] = sorted(set(s["parents"]).union(*(up[p] for p in s["parents"])), reverse=True)
		full.append({
			"no": s["no"], "name": "s%d" % s["no"], "type": "standard", "callable": s["callable"], "handler": {"callable": s["callable"]},
			"retryable": s["retryable"], "max_attempts": s["max_attempts"], "backoff": "none", "backoff_base_ms": 1000, "max_backoff_ms": 1000,
			"timeout_seconds": None, "parents": s["parents"], "children": [c["no"] for c in steps if s["no"] in c["parents"]],
			"ancestors": up[s["no"]], "ancestors_cut": False})
	return {"namespace": "ns", "name": name, "version": "1.0.0", "digest": name, "definition": {}, "identity_strategy": strategy, "steps": full}

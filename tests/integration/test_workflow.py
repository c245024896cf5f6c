"""Tasks of every shape run to their end, and each step sees what came before it."""
import json
import unittest

import harness
from harness import step, template, wait_for
from taskerd.exceptions import TooLargeError

TREE = [step("root")] + [step("n%d" % i, after=["root" if i < 2 else "n%d" % (i // 2 - 1)]) for i in range(14)]


class Shapes(harness.SharedCase):
	def run_one(self, name, steps, context=None):
		self.apply(self.node, template(name, steps))
		return self.finished(self.node, self.create(self.node, name, context))

	def assertComplete(self, task, n):
		self.assertEqual(task.state, "complete")
		self.assertEqual((task.total_steps, task.completed_steps), (n, n))
		self.assertEqual({s.state for s in task.steps}, {"complete"})
		self.assertEqual({s.attempts for s in task.steps}, {1})

	def test_one_step(self):
		task = self.run_one("one", [step("only")], {"n": 5})
		self.assertComplete(task, 1)
		self.assertEqual(task.step("only").result, {"step": "only", "attempt": 1, "n": 5, "who": "py", "from": {}})

	def test_linear(self):
		task = self.run_one("linear", [step("a"), step("b", after=["a"]), step("c", after=["b"]), step("d", after=["c"])])
		self.assertComplete(task, 4)
		at = [task.step(s) for s in "abcd"]
		for earlier, later in zip(at, at[1:]):
			self.assertLessEqual(earlier.finished_at, later.started_at)
		self.assertEqual(at[3].result["from"], {"a": "a", "b": "b", "c": "c"})

	def test_diamond(self):
		task = self.run_one("diamond", [step("a"), step("b", after=["a"]), step("c", after=["a"]), step("d", after=["b", "c"])])
		self.assertComplete(task, 4)
		self.assertEqual(task.step("d").result["from"], {"a": "a", "b": "b", "c": "c"})
		self.assertEqual(task.step("c").result["from"], {"a": "a"})
		self.assertEqual(sorted(task.step("d").depends_on), ["b", "c"])

	def test_tree(self):
		task = self.run_one("tree", TREE)
		self.assertComplete(task, 15)
		self.assertEqual(set(task.step("n13").result["from"]), ancestors(TREE, "n13"))
		self.assertEqual(len(ancestors(TREE, "n13")), 3)

	def test_steps_without_edges(self):
		self.assertComplete(self.run_one("loose", [step("s%d" % i) for i in range(20)]), 20)

	def test_fan_out_and_in(self):
		n = 200
		steps = [step("split", "t.sum")] + [step("part%03d" % i, "t.sum", after=["split"]) for i in range(n)]
		steps.append(step("join", "t.sum", after=["part%03d" % i for i in range(n)]))
		task = self.run_one("fan", steps)
		self.assertComplete(task, n + 2)
		self.assertEqual(task.step("join").result, {"value": 1 + 1 + 2 * n, "ancestors": n + 1})

	def test_layers_that_are_wholly_connected(self):
		layers = [["l%d_%d" % (i, j) for j in range(8)] for i in range(5)]
		steps = [step(name, after=layers[i - 1] if i else []) for i, layer in enumerate(layers) for name in layer]
		task = self.run_one("layers", steps)
		self.assertComplete(task, 40)
		self.assertEqual(set(task.step("l4_0").result["from"]), {n for layer in layers[:4] for n in layer})

	def test_a_long_chain(self):
		n = 150
		task = self.run_one("chain", [step("s%d" % i, "t.sum", after=["s%d" % (i - 1)] if i else []) for i in range(n)])
		self.assertComplete(task, n)
		# Every step sees all before it, so that adding them doubles each time.
		self.assertEqual(task.step("s10").result, {"value": 2 ** 10, "ancestors": 10})
		self.assertEqual(task.step("s%d" % (n - 1)).result["ancestors"], n - 1)

	def test_names_of_every_kind(self):
		steps = [step("A-b_c.9"), step("x" * 128, after=["A-b_c.9"])]
		task = self.run_one("names", steps)
		self.assertComplete(task, 2)
		self.assertEqual(task.step("x" * 128).result["from"], {"A-b_c.9": "A-b_c.9"})

	def test_many_tasks_at_once(self):
		self.apply(self.node, template("many", [step("a"), step("b", after=["a"]), step("c", after=["a"]), step("d", after=["b", "c"])]))
		tasks = self.create_many(self.node, "many", 150)
		self.assertEqual(len(set(tasks)), 150)
		for i in (0, 75, 149):
			task = self.finished(self.node, tasks[i])
			self.assertComplete(task, 4)
			self.assertEqual({s.result["n"] for s in task.steps}, {i})
		self.db.wait_settled()

	def test_context_comes_back_as_it_went(self):
		context = {"int": 2 ** 63 - 1, "min": -2 ** 63, "float": 0.1, "text": "\u00e4\u20ac\U0001f600 \"'\\ \n", "list": [1, [2, {"x": None}]], "empty": {}, "no": False,
		           "nested": {"a": {"b": {"c": {"d": [[[[]]]]}}}}, "": "empty key"}
		task = self.run_one("echo", [step("a", "t.echo")], context)
		self.assertComplete(task, 1)
		self.assertEqual(task.context, context)
		self.assertEqual(task.step("a").result, context)

	def test_large_context_and_result(self):
		context = {"blob": "y" * (700 * 1024)}
		task = self.run_one("large", [step("a", "t.echo")], context)
		self.assertComplete(task, 1)
		self.assertEqual(task.step("a").result, context)

	def test_context_over_the_limit(self):
		self.apply(self.node, template("limit", [step("a", "t.ok")]))
		with self.assertRaises(TooLargeError):
			self.create(self.node, "limit", {"blob": "y" * (1024 * 1024)})
		# The JSON form counts: {"blob": "..."} has 12 more bytes as PostgreSQL prints it.
		task = self.create(self.node, "limit", {"blob": "y" * (1024 * 1024 - 12)})
		self.assertEqual(self.finished(self.node, task).state, "complete")

	def test_result_over_the_limit_is_a_failure_that_says_so(self):
		task = self.run_one("toobig", [step("a", "t.big", bytes=2 * 1024 * 1024)])
		self.assertEqual(task.state, "blocked_by_failures")
		self.assertEqual(task.step("a").state, "error")
		self.assertEqual(task.step("a").attempts, 1)
		self.assertIn("large", json.dumps(task.step("a").error))

	def test_a_task_belongs_to_the_namespace_of_its_template(self):
		source = [step("a")]
		self.apply(self.node, template("twice", source, namespace="one"))
		self.apply(self.node, template("twice", source, namespace="two"))
		first = self.finished(self.node, self.create(self.node, "twice", namespace="one"))
		second = self.finished(self.node, self.create(self.node, "twice", namespace="two"))
		self.assertEqual((first.namespace, second.namespace), ("one", "two"))
		listed = {t.task_uuid for t in self.node.client.iter_tasks(namespace="two")}
		self.assertIn(second.task_uuid, listed)
		self.assertNotIn(first.task_uuid, listed)

	def test_sql_shows_the_history(self):
		self.apply(self.node, template("history", [step("a"), step("b", "t.flaky", after=["a"], fails=1)]))
		task = self.create(self.node, "history")
		self.assertEqual(self.finished(self.node, task).state, "complete")
		rows = self.db.sql("SELECT h.from_state, h.to_state, n.node_name, h.cause ->> 'event' FROM tasker.task_history h JOIN tasker.tasks t USING (task_id) "
		                   "LEFT JOIN tasker.nodes n USING (node_no) WHERE t.task_uuid = '%s' ORDER BY h.at" % task)
		self.assertEqual((rows[0], rows[-1][1], rows[-1][2]), ([None, "steps_in_process", "node-a", "created"], "complete", "node-a"))
		for before, after in zip(rows, rows[1:]):
			self.assertEqual(before[1], after[0])
		attempts = self.db.sql(
			"SELECT ts.name, a.attempt, a.outcome, a.ready_at <= a.claimed_at AND a.claimed_at <= a.recorded_at, w.name, w.pid, a.execution_ms >= 0 "
			"FROM tasker.step_attempts a JOIN tasker.tasks t USING (task_id) JOIN tasker.template_steps ts ON ts.template_id = t.template_id AND ts.step_no = a.step_no "
			"LEFT JOIN tasker.workers w USING (worker_uuid) WHERE t.task_uuid = '%s' ORDER BY a.recorded_at, a.fence" % task)
		pid = str(self.shared.worker.pid)
		self.assertEqual(attempts, [["a", "1", "success", "t", "py", pid, "t"], ["b", "1", "handler_error", "t", "py", pid, "t"], ["b", "2", "success", "t", "py", pid, "t"]])

	def test_history_request_agrees_with_sql(self):
		self.apply(self.node, template("history2", [step("a", "t.flaky", fails=1)]))
		task = self.create(self.node, "history2")
		self.finished(self.node, task)
		history = self.node.client.get_task_history(task)
		self.assertEqual([(a["step"], a["attempt"], a["outcome"], a["node"]) for a in history["attempts"]],
		                 [("a", 1, "handler_error", "node-a"), ("a", 2, "success", "node-a")])
		self.assertEqual(history["transitions"][-1]["to"], "complete")
		audit = self.node.client.get_step_audit_history(task, "a")
		self.assertEqual(len(audit), 2)

	def test_results_too_large_for_one_frame_reach_the_step(self):
		"""Six results of 800 kB: more than a frame holds. The client fetches what was left out."""
		steps = [step("p%d" % i, "t.big", bytes=800_000) for i in range(6)]
		steps.append(step("all", "t.big", after=["p%d" % i for i in range(6)], bytes=1))
		self.apply(self.node, template("partial", steps))
		task = self.create(self.node, "partial")
		self.assertTrue(self.node.client.wait(task, harness.PATIENCE).settled)
		rows = self.db.sql("SELECT s.state, s.result ->> 'given' FROM tasker.steps s JOIN tasker.tasks t USING (task_id) "
		                   "WHERE t.task_uuid = '%s' AND s.step_no = 6" % task)
		self.assertEqual(rows, [["complete", "4800000"]])


def ancestors(steps, name):
	"""Names of all that come before a step."""
	parents = {s["name"]: s["dependencies"] for s in steps}
	found, left = set(), list(parents[name])
	while left:
		one = left.pop()
		if one not in found:
			found.add(one)
			left += parents[one]
	return found


class Workers(harness.Case):
	def test_one_callable_in_two_namespaces_with_different_code(self):
		db = self.database()
		node = self.daemon(db)
		for namespace in ("red", "blue"):
			self.apply(node, template("same", [step("a"), step("b", after=["a"])], namespace=namespace))
			self.python_worker(node, name=namespace, namespaces=[namespace])
		tasks = {ns: [self.create(node, "same", {"n": i}, namespace=ns) for i in range(20)] for ns in ("red", "blue")}
		for namespace, uuids in tasks.items():
			for uuid in uuids:
				self.assertEqual({s.result["who"] for s in self.finished(node, uuid).steps}, {namespace})
		self.verify(db, node)

	def test_one_callable_in_two_languages(self):
		db = self.database()
		node = self.daemon(db)
		for namespace in ("py", "c"):
			self.apply(node, template("same", [step("a", "t.ok")], namespace=namespace))
		self.python_worker(node, namespaces=["py"])
		self.c_worker(node, namespaces=["c"], handlers=["t.ok"])
		mine, other = self.create(node, "same", namespace="py"), self.create(node, "same", namespace="c")
		self.assertEqual(self.finished(node, mine).step("a").result["who"], "py")
		self.assertEqual(self.finished(node, other).step("a").result, {})
		self.doctor(node)

	def test_two_workers_share_the_work(self):
		db = self.database()
		node = self.daemon(db)
		self.apply(node, template("share", [step("a", "t.gate")]))
		one = self.python_worker(node, name="one", threads=2, prefetch=0)
		two = self.python_worker(node, name="two", threads=2, prefetch=0)
		self.create_many(node, "share", 8)
		self.ledger.wait_lines(4)
		self.assertEqual({r.pid for r in self.ledger.lines()}, {one.pid, two.pid})
		rows = {r["name"]: r["open"] for r in node.client.list_workers()}
		self.assertEqual(rows, {"one": 2, "two": 2}, "never more than max_concurrency")
		self.ledger.open_gate("gate")
		db.wait_settled()
		self.verify(db, node)

	def test_no_worker_offers_the_handler(self):
		db = self.database()
		node = self.daemon(db)
		self.apply(node, template("waits", [step("first", "t.ok"), step("second", "nobody.has", after=["first"])]))
		self.python_worker(node)
		task = self.create(node, "waits")
		self.wait_step(node, task, "second", "enqueued")
		answer = node.client.request("task.get", {"task_uuid": task})
		self.assertEqual(answer["missing_handlers"], ["nobody.has"])
		self.assertEqual(answer["state"], "steps_in_process")
		queue = {q["handler"]: q for q in node.client.list_queues()}["nobody.has"]
		self.assertEqual((queue["namespace"], queue["ready"], queue["workers"]), ("t", 1, 0))
		self.assertGreaterEqual(queue["oldest_ms"], 0)
		wait_for(lambda: "steps wait for handler nobody.has of namespace t" in node.log_text(), "the line in the log")
		self.doctor(node)
		result = node.client.wait(task, 0.05)
		self.assertFalse(result.settled)
		# Someone comes who can.
		self.c_worker(node, handlers=["nobody.has"])
		self.assertEqual(self.finished(node, task).state, "complete")
		self.assertEqual(node.client.request("task.get", {"task_uuid": task})["missing_handlers"], [])
		self.doctor(node)

	def test_a_worker_that_came_before_the_template(self):
		db = self.database()
		node = self.daemon(db)
		self.python_worker(node)
		self.apply(node, template("later", [step("a")]))
		self.assertEqual(self.finished(node, self.create(node, "later")).state, "complete")

	def test_progress_and_log_of_a_handler(self):
		db = self.database()
		node = self.daemon(db)
		self.apply(node, template("speaks", [step("a", "t.progress")]))
		task = self.create(node, "speaks")
		with node.client.watch(task) as watch:
			self.python_worker(node)
			seen = []
			while not any("progress" in e for e in seen):
				seen.append(watch.next(harness.PATIENCE))
			self.ledger.open_gate("gate")
			seen += list(watch)
		self.assertEqual([e["progress"] for e in seen if "progress" in e], [{"done": 1, "of": 2}])
		wait_for(lambda: "half of it" in node.log_text(), "the handler's line in the daemon's log")
		self.assertEqual(seen[-1]["state"], "complete")


if __name__ == "__main__":
	unittest.main()

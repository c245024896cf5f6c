"""Several daemons on one PostgreSQL share the work; each step is recorded once."""
import collections
import re
import unittest

import harness
import wire
from harness import Waiting, step, template, wait_for

DIAMOND = [step("a", "t.gate"), step("b", after=["a"]), step("c", after=["a"]), step("d", after=["b", "c"])]


class Nodes(harness.Case):
	def nodes(self, n, **options):
		self.db = self.database()
		return [self.daemon(self.db, name="node-%d" % i, **options) for i in range(n)]

	def share(self, n_nodes, n_tasks):
		nodes = self.nodes(n_nodes)
		self.apply(nodes[0], template("diamond", DIAMOND))
		workers = {self.python_worker(node, name="w%d" % i, threads=2, prefetch=2).pid for i, node in enumerate(nodes)}
		self.create_many(nodes[0], "diamond", n_tasks)
		wait_for(lambda: {e.pid for e in self.ledger.lines()} == workers, "every worker to be given something: none of them has room for all")
		self.ledger.open_gate("gate")
		self.db.wait_settled()
		self.assertEqual(self.db.sql("SELECT DISTINCT state FROM tasker.tasks"), [["complete"]])
		by = collections.Counter(node for _, _, _, outcome, node, _ in self.db.attempts("success"))
		self.assertEqual(set(by), {n.name for n in nodes}, "all have a part in it")
		self.assertEqual(sum(by.values()), 4 * n_tasks)
		self.assertEqual(len(self.ledger), 4 * n_tasks)
		self.verify(self.db, nodes[-1])
		return nodes

	def test_two_nodes(self):
		nodes = self.share(2, 200)
		self.wait_states(nodes[0], {"node-0": "up", "node-1": "up"})
		for node in nodes:  # each knows what all have done, and whose part it was
			queues = lambda node=node: node.client.request("queue.list")["queues"]  # noqa: E731
			wait_for(lambda: sum(q["done"] for q in queues()) == 800, lambda: "all results to be told by both: %s" % queues())
			self.assertEqual({n["node"] for q in queues() for n in q["nodes"]}, {"node-0", "node-1"})
			self.assertEqual(sum(n["done"] for q in queues() for n in q["nodes"]), 800)
			self.assertEqual({q["workers"] for q in queues()}, {2})
		self.assertEqual(nodes[0].stop(), 0)
		self.wait_states(nodes[1], {"node-0": "down", "node-1": "up"})

	@staticmethod
	def wait_states(node, states):
		listed = lambda: {n["node"]: n["state"] for n in node.client.list_nodes()}  # noqa: E731
		wait_for(lambda: listed() == states, lambda: "the nodes to be %s; they are %s" % (states, listed()))

	def test_what_no_worker_offers_is_what_none_of_any_node_offers(self):
		one, two = self.nodes(2)
		self.apply(one, template("near", [step("a", "t.far")]))
		self.apply(one, template("none", [step("a", "t.nobody")]))
		worker = wire.Worker(two.socket, ["t.far"], namespaces=["t"])
		self.addCleanup(worker.close)
		runs = self.create(one, "near")
		worker.take()
		waits, stuck = self.create(one, "near"), self.create(one, "none")
		missing = lambda node, task: node.client.request("task.get", {"task_uuid": task})["missing_handlers"]  # noqa: E731
		for node in one, two:
			self.assertEqual((missing(node, waits), missing(node, stuck)), ([], ["t.nobody"]))
			lacks = lambda node=node: [m["samples"][0]["value"] for m in node.client.request("server.metrics")["metrics"] if m["name"] == "taskerd_handlers_without_workers"]  # noqa: E731
			wait_for(lambda: lacks() == [1], lambda: "one handler to be without workers: %s" % lacks())
			wait_for(lambda node=node: "steps wait for handler t.nobody of namespace t: no connected worker offers it" in node.log_text(), "the line in the log")
			self.assertNotIn("steps wait for handler t.far", node.log_text())
		worker.close()
		wait_for(lambda: missing(one, waits) == ["t.far"], "the other node's worker to be missed")
		for task in runs, waits, stuck:
			one.client.cancel_task(task)

	def test_the_workers_of_a_lost_node_are_lost(self):
		one, = self.nodes(1)
		worker = wire.Worker(one.socket, ["t.ok"], namespaces=["t"])
		self.addCleanup(worker.close)
		ours = worker.welcome["worker_uuid"]
		listed = lambda: [w["worker_uuid"] for w in one.client.request("worker.list")["workers"]]  # noqa: E731
		wait_for(lambda: listed() == [ours], "the worker to be listed")
		node = self.db.value("INSERT INTO tasker.nodes (node_name, host, pid, version, state, secret, lease_until) VALUES ('gone', 'h', 1, 'v', 'down', '', now() - interval '1 minute') RETURNING node_no")
		lost = self.db.value("INSERT INTO tasker.workers (worker_uuid, node_no, name, handlers, namespaces) VALUES (gen_random_uuid(), %s, 'lost', '{t.ok}', '{t}') RETURNING worker_uuid" % node)
		self.assertEqual(listed(), [ours], "what was written as its node was given up")
		for args, said in (["show", lost], "its node gone has proved life until"), (["drain", lost, "-r", "x"], "its node gone has proved life until"), (["show", "lost"], "no worker is called lost"):
			done = harness.subprocess.run([harness.program("clients", "taskerctl", "taskerctl"), "--socket", one.socket, "worker", *args], stdin=harness.subprocess.DEVNULL, capture_output=True, text=True, check=False)
			self.assertEqual((done.returncode, said in done.stderr, "taskerctl worker list" in done.stderr), (4 if lost not in args else 5, True, True), done.stderr)
		self.assertEqual(self.db.sql("SELECT draining FROM tasker.workers WHERE worker_uuid = '%s'" % lost), [["f"]])

	def test_what_the_workers_of_another_node_do(self):
		one, two = self.nodes(2, lease_ttl_ms=1000)
		self.apply(one, template("far", [step("a", "t.far")]))
		worker = wire.Worker(two.socket, ["t.far"], concurrency=2, namespaces=["t"])
		self.addCleanup(worker.close)
		tasks = [self.create(two, "far") for _ in range(3)]
		first, second = worker.take(2)
		worker.finish(first)
		steps = second, worker.take()
		figures = lambda node: [(w["open"], w["done"], w["rate"] > 0) for w in node.client.request("worker.list")["workers"] if "open" in w]  # noqa: E731
		wait_for(lambda: figures(one) == figures(two) == [(2, 1, True)], lambda: "both nodes to say what it does: %s, %s" % (figures(one), figures(two)))
		shown = one.client.request("worker.get", {"worker_uuid": worker.welcome["worker_uuid"]})
		self.assertEqual((shown["open"], shown["done"], "running" in shown), (2, 1, False), "which steps those are is known to its own node")
		ctl = [harness.program("clients", "taskerctl", "taskerctl"), "--socket", one.socket, "worker", "show", worker.welcome["worker_uuid"]]
		self.assertRegex(harness.subprocess.run(ctl, stdout=harness.subprocess.PIPE, text=True, check=True).stdout, r"it runs +steps that only the daemon of node-1 knows")
		for s in steps:
			worker.finish(s)
		for task in tasks:
			self.finished(one, task)

	def test_many_workers_of_many_handlers_are_listed(self):
		one, = self.nodes(1)
		self.db.sql("INSERT INTO tasker.workers (worker_uuid, node_no, name, handlers, namespaces, broken) SELECT gen_random_uuid(), n.node_no, 'w' || g, "
		            "ARRAY(SELECT 'shop.a_handler_with_a_name_of_its_own_' || i FROM generate_series(1, 5000) i), '{t}', "
		            "(SELECT jsonb_agg(jsonb_build_object('name', 'm' || i, 'file', 'f', 'line', i, 'message', 'm')) FROM generate_series(1, 64) i) "
		            "FROM generate_series(1, 50) g CROSS JOIN tasker.nodes n")
		rows = one.client.request("worker.list")["workers"]
		self.assertEqual([(len(r["handlers"]), r["more_handlers"], len(r["broken"]), r["more_broken"]) for r in rows], [(50, 4950, 10, 54)] * 50)
		whole = one.client.request("worker.get", {"worker_uuid": rows[0]["worker_uuid"]})
		self.assertEqual((len(whole["handlers"]), len(whole["broken"]), "more_handlers" in whole), (5000, 64, False))
		ctl = [harness.program("clients", "taskerctl", "taskerctl"), "--socket", one.socket, "worker"]
		out = harness.subprocess.run([*ctl, "list", "--output", "wide"], stdout=harness.subprocess.PIPE, text=True, check=True).stdout
		self.assertEqual((out.count("_50, and 4950 more"), out.count("_51"), out.count("and 54 more: taskerctl worker show ")), (50, 0, 50))
		self.assertIn("_5000\n", harness.subprocess.run([*ctl, "show", "w7"], stdout=harness.subprocess.PIPE, text=True, check=True).stdout)
		self.db.sql("INSERT INTO tasker.workers (worker_uuid, node_no, name, handlers, namespaces) SELECT gen_random_uuid(), n.node_no, 'x' || g, ARRAY(SELECT 'shop.x' || i FROM generate_series(1, 50) i), '{t}' "
		            "FROM generate_series(1, 1950) g CROSS JOIN tasker.nodes n; UPDATE tasker.workers SET broken = '[]'")
		self.assertEqual({(len(r["handlers"]), r["more_handlers"]) for r in one.client.request("worker.list")["workers"]}, {(10, 4990), (10, 40)}, "fewer of each, so that a frame holds them all")

	def test_three_nodes(self):
		self.share(3, 150)

	def test_all_nodes_create(self):
		nodes = self.nodes(3)
		self.apply(nodes[0], template("diamond", DIAMOND))
		self.python_worker(nodes[2], threads=4)
		self.ledger.open_gate("gate")
		for node in nodes:
			self.create_many(node, "diamond", 40)
		self.db.wait_settled()
		self.assertEqual(self.db.sql("SELECT state, count(*) FROM tasker.tasks GROUP BY 1"), [["complete", "120"]])
		self.assertEqual(len(self.ledger), 480)
		self.verify(self.db, nodes[0])

	def test_a_step_goes_where_its_handler_is(self):
		one, two = self.nodes(2)
		self.apply(one, template("both", [step("a", "rank.a"), step("b", after=["a"])]))
		self.python_worker(one, name="has-rank", module="rank.py")
		self.python_worker(two, name="has-ok")
		task = self.create(one, "both")
		done = self.finished(two, task)
		self.assertEqual(done.step("b").result["who"], "has-ok")
		self.assertEqual([(s, node) for _, s, _, _, node, _ in self.db.attempts()], [("a", "node-0"), ("b", "node-1")])
		self.verify(self.db, two)

	def settle_in(self, nodes):
		"""Until every node has been there for some heartbeats: newcomers look at everything more often."""
		for node in nodes:
			seen = set()
			wait_for(lambda: seen.add(self.db.value("SELECT lease_until FROM tasker.nodes WHERE node_name = '%s'" % node.name)) or len(seen) > 5, "heartbeats of " + node.name)

	def test_waiting_on_one_node_for_what_another_finishes(self):
		one, two = nodes = self.nodes(2, lease_ttl_ms=1000)
		self.settle_in(nodes)
		self.apply(one, template("far", [step("a", "t.gate")]))
		task = self.create(one, "far")
		self.python_worker(two)
		waiter = Waiting(one, task)
		self.ledger.open_gate("gate")
		self.assertEqual(waiter.result().state, "complete")

	def test_watching_on_one_node_what_another_finishes(self):
		one, two = self.nodes(2)
		self.apply(one, template("far", [step("a", "t.gate")]))
		task = self.create(one, "far")
		self.python_worker(two)
		with one.client.watch(task) as watch:
			self.ledger.open_gate("gate")
			self.assertEqual(list(watch)[-1]["state"], "complete")

	def test_a_template_registered_on_one_is_known_to_all(self):
		one, two = self.nodes(2)
		self.python_worker(two)
		self.apply(one, template("known", [step("a")]))
		self.assertEqual(self.finished(two, self.create(two, "known")).state, "complete")
		self.assertEqual([t["name"] for t in two.client.list_templates()], ["known"])

	def test_a_node_that_leaves_gives_its_steps_to_the_others(self):
		one, two = self.nodes(2, drain_timeout_ms=200)
		self.apply(one, template("moves", [step("a", "t.gate", attempts=1)]))
		self.python_worker(one, name="w1")
		task = self.create(one, "moves")
		self.ledger.wait_lines(1)
		self.python_worker(two, name="w2")
		self.assertEqual(one.stop(), 0)
		self.ledger.wait_lines(2)
		self.ledger.open_gate("gate")
		self.assertEqual(self.finished(two, task).step("a").result["who"], "w2")
		self.verify(self.db, two)

	def test_a_node_that_dies_loses_its_lease(self):
		"""kill -9 of a daemon that does not come back: the other takes its steps when the lease is over."""
		one, two = self.nodes(2, lease_ttl_ms=2000)
		self.apply(one, template("dies", [step("a", "t.gate"), step("b", after=["a"])]))
		worker = self.python_worker(one, name="w1")
		tasks = self.create_many(one, "dies", 6)
		self.ledger.wait_lines(4)
		one.kill()
		worker.kill()
		self.python_worker(two, name="w2", threads=6)
		self.ledger.open_gate("gate")
		for task in tasks:
			self.assertEqual(self.finished(two, task).state, "complete")
		self.wait_states(two, {"node-0": "down", "node-1": "up"})
		# The answer that says so may be lost with a connection that is taken for dead.
		wait_for(lambda: re.search("node node-0 has lost its lease|the database does not answer", two.log_text()), "the log line")
		self.verify(self.db, two)


class OneName(harness.Case):
	"""A daemon waits a while for the name of one that was killed, whose connection may linger. So this begins with the module and is looked at last."""

	def test_one_name_twice_is_refused(self):
		self.assertEqual(early.second.wait(), 1)
		self.assertIn("--node-name", early.second.log_text())
		self.assertEqual(early.first.database_state(), "up")


early = harness.Stage()


def setUpModule():
	early.begin("early")
	unittest.addModuleCleanup(early.end)
	db = early.database()
	early.first = early.daemon(db, name="same")
	early.second = harness.Daemon(early, "same", database=db.uri, socket=early.first.socket + "2").launch()


if __name__ == "__main__":
	unittest.main()

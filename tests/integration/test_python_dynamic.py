"""Handler files in Python, as they are written for the reference, against a daemon: decisions, batches, methods, events, replay, the test helpers."""
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import unittest
from pathlib import Path
from unittest import mock

import harness
from harness import step, template, wait_for


def typed(kind, *args, **more):
	return {**step(*args, **more), "type": kind}


def approval(route):
	return [
		step("validate", "approval.validate"), typed("decision", "route", route, after=["validate"]),
		*(step(n, "approval.approve", after=["route"]) for n in ("auto", "manager", "finance")),
		typed("deferred_convergence", "finish", "approval.finish", after=["auto", "manager", "finance"])]


def rows(analyze, work, **config):
	return [
		typed("batchable", "analyze", analyze), typed("batch_worker", "work", work, after=["analyze"], **config),
		typed("deferred_convergence", "sum", "rows.sum", after=["work"])]


def event(name, mode="durable", **more):
	return {"name": name, "condition": "success", "delivery_mode": mode, "schema": True, **more}


class Port(harness.Case):
	def begin(self, name):
		super().begin(name)
		self.db = self.database()
		self.node = self.daemon(self.db)

	def run_one(self, steps, context=None, name="w"):
		self.apply(self.node, template(name, steps))
		return self.finished(self.node, self.create(self.node, name, context))

	def results(self, task, *names):
		return [task.step(n).results for n in names]

	def test_decisions(self):
		self.python_worker(self.node, module="port.py")
		for route in ("approval.route", "approval.route_dsl"):
			small = self.run_one(approval(route), {"amount": 5, "requester": "ann"}, name=route)
			self.assertEqual((small.status, {s.name for s in small.steps}), ("complete", {"validate", "route", "auto", "finish"}))
			self.assertEqual(self.results(small, "auto", "finish"), [{"approved": "auto", "for": "ann", "amount": 5}, {"via": ["auto"]}])
			large = self.finished(self.node, self.create(self.node, route, {"amount": 5000}))
			self.assertEqual((large.status, large.step("finish").results), ("complete", {"via": ["finance", "manager"]}))
			none = self.finished(self.node, self.create(self.node, route, {"amount": 0}))
			self.assertEqual((none.status, {s.name for s in none.steps}), ("complete", {"validate", "route"}))
			self.assertEqual(none.step("route").results["reason"], "nothing to approve")
		bad = self.finished(self.node, self.create(self.node, "approval.route"))
		self.assertEqual((bad.status, bad.step("validate").error["error_code"], bad.step("validate").attempts), ("blocked_by_failures", "NO_AMOUNT", 1))

	def test_batches(self):
		self.python_worker(self.node, module="port.py")
		for analyze, work in (("rows.analyze", "rows.work"), ("rows.analyze_dsl", "rows.work_dsl"), ("rows.analyze", "rows.work_dsl")):
			name = "%s-%s" % (analyze[5:], work[5:])
			task = self.run_one(rows(analyze, work), {"rows": 45}, name=name)
			self.assertEqual((task.status, task.step("sum").results), ("complete", {
				"total": sum(range(45)), "rows": 45, "worker_count": 5, "scenario": "with_batches"}))
			self.assertEqual(sum(s.name.startswith("work_") for s in task.steps), 5)
			empty = self.finished(self.node, self.create(self.node, name))
			self.assertEqual((empty.status, empty.step("sum").results), ("complete", {"total": 0, "worker_count": 0, "scenario": "no_batches"}))

	def test_methods_and_errors(self):
		self.python_worker(self.node, module="port.py")
		steps = [step("charge", "payments", method="charge", currency="EUR"), step("refund", "payments", after=["charge"], method="refund")]
		task = self.run_one(steps, {"amount": 7})
		self.assertEqual(self.results(task, "charge", "refund"), [{"charged": 7, "currency": "EUR"}, {"refunded": 7, "attempt": 2}])
		declined = self.finished(self.node, self.create(self.node, "w", {"decline": True}))
		error = declined.step("charge").error
		self.assertEqual((declined.status, error["error_type"], error["error_code"]), ("blocked_by_failures", "permanent_error", "DECLINED"))
		missing = self.run_one([step("a", "payments", method="nothing_such")], name="missing")
		self.assertEqual((missing.step("a").error["error_type"], missing.step("a").attempts), ("handler_not_found", 1))

	def test_what_cannot_be_stored_ends_its_own_attempt_only(self):
		worker = self.python_worker(self.node, module="port.py")
		self.apply(self.node, template("odd", [step("a", "odd", attempts=2)]))
		for kind in ("cycle", "nan", "object", "int", "huge"):
			task = self.finished(self.node, self.create(self.node, "odd", {"kind": kind}))
			self.assertEqual((task.status, task.step("a").attempts), ("blocked_by_failures", 1), kind)
		exits = self.finished(self.node, self.create(self.node, "odd", {"kind": "exit"}))
		self.assertEqual((exits.status, exits.step("a").attempts), ("blocked_by_failures", 2))
		self.assertEqual(self.finished(self.node, self.create(self.node, "odd", {"kind": "fine"})).status, "complete")
		self.assertTrue(worker.alive())
		self.assertEqual(worker.stop(), 0)

	def test_events(self):
		self.python_worker(self.node, module="port.py")
		charge = step("charge", "payments", method="charge", currency="EUR")
		charge["publishes_events"] = [
			event("payment.charged", "broadcast", publisher="payments.charged"), event("payment.plain"), event("payment.other", publisher="not.here")]
		task = self.run_one([charge], {"amount": 7})
		self.finished(self.node, self.create(self.node, "w", {"amount": 13}))
		client = self.node.client
		found = []
		while len(found) < 5:
			messages = client.consume_events("t", limit=10, wait=harness.PATIENCE)
			self.assertTrue(messages)
			client.ack_events(messages, "t")
			found += [m["event"] for m in messages]
		self.assertEqual(sorted(e["event_name"] for e in found), ["payment.charged"] + 2 * ["payment.other"] + 2 * ["payment.plain"])
		(own,) = [e for e in found if e["event_name"] == "payment.charged"]
		self.assertEqual((own["payload"]["payload"], own["metadata"]["shop"], own["metadata"]["fired_by"]), ({"amount": 7, "step": "charge"}, "north", "payments.charged"))
		self.assertEqual(own["metadata"]["task_uuid"], task.task_uuid)
		seen = Path(self.ledger.gates, "event-payment.charged")
		wait_for(lambda: seen.exists() and seen.read_text(encoding="utf-8") == "7 charge", "the worker's subscriber to have seen it")
		self.assertEqual(client.list_event_queues()[0]["namespace"], "t")

	def test_resolvers_of_ones_own_serve_what_the_daemons_templates_name(self):
		steps = [step("prefix", "pay:card"), step("method", "own/x", method="refund"), step("factory", "made", a=1), step("unknown", "pay:cash")]
		steps[3]["handler"]["resolver"] = "not_here"
		self.apply(self.node, template("resolved", steps))
		self.python_worker(self.node, module="own_resolvers.py")
		task = self.finished(self.node, self.create(self.node, "resolved"))
		self.assertEqual(self.results(task, "prefix", "method", "factory"), [{"did": "call"}, {"did": "refund"}, {"did": "call"}])
		self.assertIn("not_here", task.step("unknown").error["message"])
		self.assertEqual(task.step("unknown").attempts, 1)

	def test_resolvers_of_ones_own_serve_templates_that_come_later(self):
		self.python_worker(self.node, module="own_resolvers.py")
		for name in ("late", "later"):
			steps = [step("first", f"pay:{name}.first"), step("second", f"own/{name}", ["first"], method="refund")]
			self.apply(self.node, template(name, steps))
			task = self.finished(self.node, self.create(self.node, name))
			self.assertEqual(self.results(task, "first", "second"), [{"did": "call"}, {"did": "refund"}])

	def test_subscribers_get_the_events_of_the_namespaces_that_their_worker_serves(self):
		for namespace in ("t", "other"):
			self.apply(self.node, template("n", [step("a", "own.payments")], namespace=namespace))
		self.python_worker(self.node, module="own_resolvers.py", namespaces=["t"])
		seen = Path(self.ledger.gates, "stock")

		def published():
			for namespace in ("other", "t"):
				self.node.client.publish_event("stock.low", {}, namespace=namespace, delivery_mode="fast")
			return seen.exists() and seen.read_text(encoding="utf-8").split()
		got = wait_for(published, "the worker's subscriber to have seen one")
		self.assertEqual(set(got), {"t"})

	def test_logs_reach_the_daemon_with_the_step(self):
		self.python_worker(self.node, module="port.py")
		task = self.run_one([step("validate", "approval.validate")], {"amount": 77})
		uuid = task.step("validate").step_uuid
		wait_for(lambda: [line for line in self.node.log_text().splitlines() if "amount 77" in line and uuid in line], "the handler's line in the daemon's log")

	def test_the_client_as_its_page_shows_it(self):
		self.python_worker(self.node)
		self.apply(self.node, template("order", [step("load_cart"), step("charge", after=["load_cart"])], namespace="shop"))
		page = Path(harness.ROOT, "clients", "python", "README.md").read_text(encoding="utf-8")
		(block,) = [b for b in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S) if "create_tasks" in b]
		printed, names = io.StringIO(), {}
		with mock.patch.dict(os.environ, TASKERD_SOCKET=self.node.socket), contextlib.redirect_stdout(printed):
			exec(compile(block, "README.md", "exec"), names)
		self.assertEqual((names["failed"], len(names["outcomes"])), ([], 5000))
		lines = printed.getvalue().splitlines()
		self.assertTrue(lines[0].startswith("complete "))
		self.assertEqual(lines[-1], "task complete")
		self.db.wait_settled()

	def test_checkpoints_survive_a_killed_worker(self):
		"""Every row is counted once, though the worker dies between two checkpoints; yields use no attempt."""
		first = self.python_worker(self.node, module="port.py")
		self.apply(self.node, template("w", rows("rows.analyze", "rows.work", every=4, die=17)))
		task = self.create(self.node, "w", {"rows": 30})
		self.assertEqual(first.wait(), -9)
		self.python_worker(self.node, name="second", module="port.py")
		done = self.finished(self.node, task)
		self.assertEqual((done.status, done.step("sum").results["total"], done.step("sum").results["rows"]), ("complete", sum(range(30)), 30))
		work = done.step("work_002")
		self.assertEqual((work.attempts, work.results["results"][0]["retry"]), (2, 1))
		self.assertEqual(work.checkpoint["cursor"], 18)
		self.assertGreaterEqual(work.results["results"][0]["from"], 18)
		self.doctor(self.node)

	def test_saved_checkpoints(self):
		self.python_worker(self.node, module="port.py")
		done = self.run_one([step("save", "rows.save", attempts=2)])
		self.assertEqual((done.status, done.step("save").results), ("complete", {"resumed": 3, "seen": {"sum": 6}}))
		self.assertEqual(done.step("save").attempts, 2)

	def test_replay(self):
		self.python_worker(self.node, module="port.py")
		task = self.run_one(rows("rows.analyze", "rows.work"), {"rows": 25})
		before = self.node.client.get_task_history(task.task_uuid)

		def replay(*args):
			done = subprocess.run(
				[harness.PYTHON, "-m", "taskerd", "replay", *args, os.path.join(harness.HANDLERS, "port.py"), "--socket", self.node.socket],
				stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=harness.PATIENCE, env={**os.environ, "PYTHONPATH": harness.PYTHON_CLIENT})
			return done, json.loads(done.stdout) if done.stdout else None

		done, shown = replay(task.step("work_002").step_uuid)
		self.assertIsNotNone(shown, done.stderr)
		self.assertEqual((done.returncode, shown["step"], shown["handler"], shown["same"]), (0, "work_002", "rows.work", True), done.stderr)
		done, shown = replay(task.task_uuid, "--step", "sum")
		self.assertEqual((done.returncode, shown["replayed"]["result"]), (0, task.step("sum").results))
		done, _ = replay(task.task_uuid, "--step", "nothing")
		self.assertEqual((done.returncode, "nothing" in done.stderr), (1, True), done.stderr)
		self.assertEqual(self.node.client.get_task_history(task.task_uuid), before)

	def command_line(self, name, *options):
		argv = [harness.PYTHON, "-m", "taskerd", "worker", os.path.join(harness.HANDLERS, "port.py"), "--socket", self.node.socket, "--name", name, *options]
		return self.track(harness.Worker(name, argv, os.path.join(self.place, name + ".log"), {"PYTHONPATH": harness.PYTHON_CLIENT, **self.ledger.env()}))

	def test_a_handler_that_hangs(self):
		"""The only thread hangs: when the daemon has ended the attempt, the worker goes on with another."""
		worker = self.command_line("one", "--threads", "1", "--prefetch", "0", "--abandon-after", "0")
		worker.wait_listed(self.node)

		def given_up():
			"""A handler that had not begun when its second was over cost no thread."""
			hung = self.run_one([step("a", "hang", attempts=1, timeout=1)], name="hung")
			self.assertEqual((hung.status, hung.step("a").attempts), ("blocked_by_failures", 1))
			self.assertEqual(self.run_one([step("a", "odd")], {"kind": "fine"}).status, "complete")
			return "its thread is given up" in worker.log_text()
		wait_for(given_up, "a thread to be given up")
		self.assertEqual(worker.stop(), 0)

	def test_processes(self):
		"""One of two dies in the middle of a step: the step runs again, the other goes on."""
		worker = self.command_line("many", "--processes", "2", "--threads", "2")
		wait_for(lambda: {w["name"] for w in self.node.client.list_workers()} >= {"many.1", "many.2"}, "both to be connected")
		task = self.run_one(rows("rows.analyze", "rows.work", die=21), {"rows": 100})
		self.assertEqual((task.status, task.step("sum").results["total"]), ("complete", sum(range(100))))
		self.assertEqual(task.step("work_003").attempts, 2)
		wait_for(lambda: len(self.node.client.list_workers()) == 2, "the dead one to be replaced")
		self.assertEqual(worker.stop(), 0)
		self.assertIn("ended by signal 9", worker.log_text())
		self.doctor(self.node)


class Testing(harness.Case):
	"""taskerd.testing runs whole workflows."""

	def test_embedded(self):
		sys.path.insert(0, harness.HANDLERS)
		self.addCleanup(sys.path.remove, harness.HANDLERS)
		from taskerd.domain_events import PublisherRegistry, SubscriberRegistry
		from taskerd.testing import EmbeddedTaskerd, TaskFailed
		self.addCleanup(PublisherRegistry.reset_instance)
		self.addCleanup(SubscriberRegistry.reset_instance)
		import port

		with EmbeddedTaskerd(self.embedded_dir("own"), program=harness.taskerd_program()) as daemon:
			made = {"name": "w", "namespace_name": "t", "version": "1.0.0", "steps": approval("approval.route")}
			task = daemon.run(made, {"amount": 1}, handlers=[port.Validate, port.Route, port.approve, port.Finish])
			self.assertEqual(task.step("finish").results, {"via": ["auto"]})
			with self.assertRaises(TaskFailed) as caught:
				daemon.run(made, handlers=["port"])
			self.assertIn("no amount", str(caught.exception))
			with daemon.worker(["port"], threads=2) as worker:
				self.assertIn("rows.sum", worker.status().handlers)
				self.assertEqual(daemon.run(made, {"amount": 0}).status, "complete")


if __name__ == "__main__":
	unittest.main()

"""Spans of tasks, as a collector gets them, and the trace that handlers and the log are told of."""
import json
import os
import signal
import unittest

import collector
import harness
import web
import wire
from harness import step, template

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def given(trace=TRACE, flags="01"):
	return "00-%s-%s-%s" % (trace, PARENT, flags)


def own(task):
	return task.replace("-", "")


class Traced(harness.Case):
	"""With a collector and a database."""

	def setUp(self):
		super().setUp()
		self.collector = collector.Collector()
		self.at_end(self.collector.close)
		self.db = self.database()

	def traced(self, name="node-a", **options):
		options.setdefault("trace_url", self.collector.url)
		return self.daemon(self.db, name, log_format="json", **options)

	def worker(self, daemon, *handlers, **more):
		made = wire.Worker(daemon.socket, list(handlers), concurrency=4, **more)
		self.at_end(made.close)
		return made

	def metric(self, daemon, name):
		for line in daemon.client.request("server.metrics", {"format": "prometheus"})["text"].splitlines():
			if line.startswith(name + " "):
				return float(line.rpartition(" ")[2])
		raise AssertionError("no metric %s" % name)

	def log_lines(self, daemon, **fields):
		lines = [json.loads(line) for line in daemon.log_text().splitlines() if line.startswith("{")]
		return [entry for entry in lines if all(entry.get(k) == v for k, v in fields.items())]


class Spans(Traced):
	def test_a_task_and_its_steps(self):
		node = self.traced()
		self.apply(node, template("order", [step("a", "t.a"), step("b", "t.b", after=["a"])]))
		worker = self.worker(node, "t.a", "t.b")
		task = self.create(node, "order")
		parents = {}
		for _ in "ab":
			item = worker.take()
			parents[item["step"]] = item["traceparent"]
			worker.finish(item, {"n": 1})
		found = {s.name: s for s in self.collector.trace(own(task), 3)}
		root = found["order"]
		self.assertEqual((root.parent, root.kind, root.error), (None, 1, None))
		self.assertEqual({k: root.attributes[k] for k in ("taskerd.task_uuid", "taskerd.namespace", "taskerd.template", "taskerd.version", "taskerd.state", "taskerd.node")},
		                 {"taskerd.task_uuid": task, "taskerd.namespace": "t", "taskerd.template": "order", "taskerd.version": "1.0.0", "taskerd.state": "complete", "taskerd.node": "node-a"})
		self.assertEqual(root.resource["service.name"], "taskerd")
		self.assertEqual(root.resource["service.instance.id"], "node-a")
		for name in "ab":
			span = found[name]
			self.assertEqual((span.parent, span.kind, span.error), (root.id, 5, None))
			self.assertEqual(parents[name], "00-%s-%s-01" % (own(task), span.id), "what the handler does hangs below its attempt")
			self.assertEqual((span.attributes["taskerd.handler"], span.attributes["taskerd.attempt"], span.attributes["taskerd.outcome"], span.attributes["process.pid"]),
			                 ("t." + name, 1, "success", os.getpid()))
			self.assertLessEqual(span.start, span.events["claimed"][0])
			self.assertLessEqual(span.events["claimed"][0], span.end)
		self.assertLessEqual(found["a"].end, found["b"].end)

	def test_below_the_callers_span(self):
		node = self.traced()
		self.apply(node, template("order", [step("a", "t.a"), step("b", "t.b", after=["a"]), step("c", "t.c", after=["b"])]))
		worker = self.worker(node, "t.a", "t.b", "t.c")
		self.create(node, "order", traceparent=given(), tracestate="vendor=\u00ab1,x=traceparent", correlation_id="c", priority=3)
		items = []
		for _ in "abc":
			items.append(worker.take())
			worker.finish(items[-1])
		spans = {s.name: s for s in self.collector.trace(TRACE, 4)}
		self.assertEqual(spans["order"].parent, PARENT)
		for item in items:
			self.assertEqual((item["traceparent"], item["tracestate"], item["correlation_id"], item["priority"], item["context"]),
			                 ("00-%s-%s-01" % (TRACE, spans[item["step"]].id), "vendor=\u00ab1,x=traceparent", "c", 3, {}))
			self.assertEqual(spans[item["step"]].state, "vendor=\u00ab1,x=traceparent")
			self.assertEqual(spans[item["step"]].parent, spans["order"].id)

	def test_the_headers_of_a_request(self):
		node = self.traced()
		self.apply(node, template("order", [step("a", "t.a")]))
		worker = self.worker(node, "t.a")
		client = web.Web(web.http_socket(node))
		self.at_end(client.close)
		for headers, state in (({"tracestate": "a=b"}, "a=b"), ({"tracestate": "a=" + "b" * 511}, None), ({"tracestate": ""}, None), ({}, None)):
			answer = client.ask("POST", "/v1/tasks", {"name": "order", "namespace": "t"}, traceparent=given(), **headers)
			self.assertEqual(answer.status, 201, answer)
			item = worker.take()
			self.assertEqual((item["traceparent"].split("-")[1], item.get("tracestate")), (TRACE, state))
			worker.finish(item)
		answer = client.ask("POST", "/v1/tasks", {"name": "order", "namespace": "t"}, traceparent="x" * 300)
		self.assertEqual(answer.status, 201, answer)
		worker.finish(worker.take())
		with self.assertRaises(wire.Refused) as caught:
			worker.call("task.create", {"name": "order", "namespace": "t", "tracestate": "x" * 513})
		self.assertEqual((caught.exception.code, caught.exception.path), ("bad_request", "tracestate"))

	def test_retries_and_failures(self):
		node = self.traced()
		self.apply(node, template("order", [step("a", "t.a", attempts=2)]))
		worker = self.worker(node, "t.a")
		task = self.create(node, "order")
		seen = []
		for _ in range(2):
			item = worker.take()
			seen.append(item["traceparent"].split("-")[2])
			worker.fail(item, "no \u201cluck\u201d\n" + "x" * 2000)
		spans = self.collector.trace(own(task), 3)
		attempts = {s.attributes["taskerd.attempt"]: s for s in spans if s.name == "a"}
		root, = (s for s in spans if s.name == "order")
		self.assertEqual([attempts[n].id for n in (1, 2)], seen)
		for span in attempts.values():
			self.assertTrue(span.error.startswith("no \u201cluck\u201d\nxx"))
			self.assertEqual(len(span.error), 1024)
			self.assertEqual(span.attributes["taskerd.outcome"], "handler_error")
			self.assertIn("exception.message", span.events["exception"][1])
		self.assertEqual(root.attributes["taskerd.state"], "blocked_by_failures")
		self.assertTrue(root.error.startswith("a: no"))
		lines = self.log_lines(node, event="step_failed")
		self.assertEqual([(e["trace_id"], e["span_id"]) for e in lines], [(own(task), attempts[2].id)])
		# Repaired, it runs once more: that is a span of its own, below the first.
		node.client.request("task.action", {"task_uuid": task, "action": "retry", "reason": "repaired"})
		worker.finish(worker.take())
		again = [s for s in self.collector.trace(own(task), 5) if s not in spans]
		second, = (s for s in again if s.name == "order")
		third, = (s for s in again if s.name == "a")
		self.assertEqual((second.parent, second.error, second.attributes["taskerd.run"], third.parent), (root.id, None, 2, second.id))
		self.assertGreaterEqual(second.start, root.end)

	def test_cancelled_timed_out_and_lost(self):
		node = self.traced()
		self.apply(node, template("slow", [step("a", "t.slow", attempts=1, timeout=1)]))
		self.apply(node, template("long", [step("a", "t.long", attempts=1)]))
		worker = self.worker(node, "t.slow", "t.long")
		slow, cancelled, lost = self.create(node, "slow"), self.create(node, "long"), self.create(node, "long")
		items = {i["task_uuid"]: i for i in (worker.take() for _ in range(3))}
		node.client.request("task.cancel", {"task_uuid": cancelled})
		of = {t: {s.name: s for s in self.collector.trace(own(t), 2)} for t in (slow, cancelled)}
		self.assertEqual((of[slow]["a"].attributes["taskerd.outcome"], of[slow]["a"].error), ("timeout", "no result within timeout_seconds"))
		self.assertEqual((of[cancelled]["a"].attributes["taskerd.outcome"], of[cancelled]["long"].attributes["taskerd.state"]), ("cancelled", "cancelled"))
		worker.close()
		ended = {s.name: s for s in self.collector.trace(own(lost), 2)}
		self.assertEqual(ended["a"].attributes["taskerd.outcome"], "worker_lost")
		self.assertEqual(ended["a"].id, items[lost]["traceparent"].split("-")[2])

	def test_who_is_sampled(self):
		node = self.traced(trace_sample_percent=0)
		self.apply(node, template("order", [step("a", "t.a")]))
		worker = self.worker(node, "t.a")
		undecided, refused = self.create(node, "order"), self.create(node, "order", traceparent=given("ab" * 16, "00"))
		wanted = self.create(node, "order", traceparent=given())
		texts = {}
		for _ in range(3):
			item = worker.take()
			texts[item["task_uuid"]] = item["traceparent"]
			worker.finish(item)
		self.collector.trace(TRACE, 2)
		self.assertRegex(texts[undecided], "^00-%s-[0-9a-f]{16}-00$" % own(undecided))
		self.assertEqual(texts[refused], given("ab" * 16, "00"), "its own span is not sent, so it is nobody's parent")
		self.assertRegex(texts[wanted], "^00-%s-[0-9a-f]{16}-01$" % TRACE)
		self.assertEqual(node.stop(), 0)
		self.assertEqual({s.trace for s in self.collector.spans}, {TRACE})

	def test_hostile_trace_contexts_are_as_none(self):
		node = self.traced()
		self.apply(node, template("order", [step("a", "t.a"), step("b", "t.b", after=["a"])]))
		worker = self.worker(node, "t.a", "t.b")
		for text in ("x", given().upper(), given("0" * 32), given()[:-1], given() + "-01", "ff" + given()[2:], "00-%s-%s-01" % (TRACE, "0" * 16), "\u00e4" * 100, "00" + given()[2:] + "\n"):
			task = self.create(node, "order", traceparent=text, tracestate="a=b")
			items = [worker.take()]
			worker.finish(items[0])
			items.append(worker.take())
			worker.finish(items[1])
			self.assertEqual({s.parent for s in self.collector.trace(own(task), 3) if s.name == "order"}, {None}, text)
			for item in items:
				self.assertRegex(item["traceparent"], "^00-%s-[0-9a-f]{16}-01$" % own(task), text)
		later = self.create(node, "order", traceparent="cc" + given("cd" * 16)[2:] + "-what-is-to-come")
		worker.finish(worker.take())
		worker.finish(worker.take())
		self.assertEqual(len(self.collector.trace("cd" * 16, 3)), 3, later)

	def test_many_steps_and_tasks(self):
		node = self.traced()
		self.apply(node, template("wide", [step("s%d" % i, "t.ok") for i in range(700)]))
		self.apply(node, template("plain", [step("a", "t.ok")]))
		self.c_worker(node, handlers=["t.ok"])
		wide = self.create(node, "wide")
		plain = self.create_many(node, "plain", 300)
		self.collector.trace(own(wide), 701)
		harness.wait_for(lambda: len(self.collector.spans) >= 701 + 600, "all spans")
		for task in plain:
			self.collector.trace(own(task), 2)
		harness.wait_for(lambda: self.metric(node, 'taskerd_spans_total{result="exported"}') == 1301, "the metric")
		harness.wait_for(lambda: self.metric(node, "taskerd_traces_waiting") == 0, "what was told of twice")
		self.assertEqual((self.metric(node, "taskerd_traces_dropped_total"), self.metric(node, "taskerd_trace_collector_up")), (0, 1))

	def test_without_a_collector_all_is_as_it_was(self):
		node = self.daemon(self.db, log_format="json")
		self.apply(node, template("order", [step("a", "t.a", attempts=1)]))
		worker = self.worker(node, "t.a")
		self.create(node, "order")
		self.assertNotIn("traceparent", worker.take())
		task = self.create(node, "order", traceparent=given(), tracestate="a=b")
		odd = self.create(node, "order", traceparent="what is this", tracestate="a=b")
		items = {i["task_uuid"]: i for i in (worker.take(), worker.take())}
		self.assertEqual((items[task]["traceparent"], items[task]["tracestate"]), (given(), "a=b"))
		self.assertEqual((items[odd]["traceparent"], items[odd].get("tracestate")), ("what is this", None))
		worker.fail(items[task], retryable=False)
		harness.wait_for(lambda: self.log_lines(node, event="step_failed"), "the line")
		self.assertEqual([(e["trace_id"], e.get("span_id")) for e in self.log_lines(node, event="step_failed")], [(TRACE, None)])
		self.assertEqual(self.metric(node, "taskerd_trace_collector_up"), 0)


class Nodes(Traced):
	def test_several_nodes_agree_and_nothing_is_sent_twice(self):
		nodes = [self.traced(n) for n in ("node-a", "node-b")]
		self.apply(nodes[0], template("pair", [step("a", "t.a"), step("b", "t.b", after=["a"])]))
		workers = [self.worker(nodes[0], "t.a"), self.worker(nodes[1], "t.b")]
		tasks = [self.create(nodes[0], "pair", traceparent=given("%032x" % (i + 1))) for i in range(5)]
		told = {}
		for worker in workers:
			for _ in tasks:
				item = worker.take()
				told[item["task_uuid"], item["step"]] = item["traceparent"].split("-")[2]
				worker.finish(item)
		for i, task in enumerate(tasks):
			spans = {s.name: s for s in self.collector.trace("%032x" % (i + 1), 3)}
			self.assertEqual((spans["a"].id, spans["b"].id), (told[task, "a"], told[task, "b"]))
			self.assertEqual((spans["a"].attributes["taskerd.node"], spans["b"].attributes["taskerd.node"], spans["pair"].resource["service.instance.id"]), ("node-a", "node-b", "node-b"))
		for node in nodes:
			self.assertEqual(node.stop(), 0)
		self.assertEqual(len(self.collector.spans), 15)

	def test_a_daemon_is_killed_in_the_middle(self):
		node = self.traced()
		self.apply(node, template("pair", [step("a", "t.a"), step("b", "t.b", after=["a"], attempts=1)]))
		worker = self.worker(node, "t.a", "t.b")
		task = self.create(node, "pair", traceparent=given())
		worker.finish(worker.take())
		self.assertEqual(worker.take()["step"], "b")
		node.process.kill()
		worker.close()
		self.traced(resume_grace_ms=0)
		worker = self.worker(node, "t.a", "t.b")
		again = worker.take()
		worker.finish(again)
		spans = self.collector.trace(TRACE, 4)
		self.assertEqual(sorted((s.name, s.attributes.get("taskerd.outcome")) for s in spans), [("a", "success"), ("b", "released"), ("b", "success"), ("pair", None)])
		self.assertIn(again["traceparent"].split("-")[2], {s.id for s in spans})
		self.assertEqual(task, again["task_uuid"])


class BadCollectors(Traced):
	def order(self, node, worker):
		task = self.create(node, "order")
		worker.finish(worker.take())
		self.finished(node, task)
		return task

	def node_and_worker(self, **options):
		node = self.traced(**options)
		self.apply(node, template("order", [step("a", "t.a")]))
		return node, self.worker(node, "t.a")

	def test_that_fail_for_a_while(self):
		node, worker = self.node_and_worker(trace_headers="x-api-key=a%2Cb, Authorization=Bearer top secret")
		self.collector.answers += ["close", (503, {"Retry-After": "1"}, b"busy"), (429, {}, b"")]
		task = self.order(node, worker)
		self.collector.trace(own(task), 2)
		self.assertEqual(len(self.collector.requests), 4)
		self.assertEqual(len({body for _, _, body in self.collector.requests}), 1)
		path, headers, _ = self.collector.requests[0]
		self.assertEqual((path, headers["x-api-key"], headers["Authorization"]), ("/v1/traces", "a,b", "Bearer top secret"))
		harness.wait_for(lambda: self.log_lines(node, event="collector_takes"), "the word that all is well")
		self.assertEqual(len(self.log_lines(node, event="collector_fails")), 1)
		self.assertNotIn("secret", node.log_text())
		self.assertEqual(self.metric(node, 'taskerd_spans_total{result="failed"}'), 0)

	def test_that_refuse_or_answer_garbage(self):
		node, worker = self.node_and_worker()
		self.collector.answers += [(500, {}, b"\xff" * 100000), (400, {}, b"{"), (302, {"Location": "http://127.0.0.1:1/"}, b""),
		                           (200, {}, json.dumps({"partialSuccess": {"rejectedSpans": "1", "errorMessage": "too \u00e4lt"}}).encode()), (200, {}, b"\0garbage[")]
		for n in range(1, 6):
			self.order(node, worker)
			harness.wait_for(lambda: len(self.collector.requests) == n, "request %d" % n)
		harness.wait_for(lambda: self.metric(node, 'taskerd_spans_total{result="exported"}') == 3, "what was taken")
		self.assertEqual(self.metric(node, 'taskerd_spans_total{result="failed"}'), 7)
		self.assertEqual(len(self.log_lines(node, event="collector_fails")), 1)

	def test_that_say_nothing_hold_up_nobody(self):
		node, worker = self.node_and_worker()
		self.collector.answers += ["hang"] * 10
		for _ in range(20):
			self.order(node, worker)
		harness.wait_for(lambda: self.collector.requests, "the first request")
		self.order(node, worker)
		self.assertEqual(node.stop(), 0, "a stop waits two seconds at most; a test that hangs here is noticed by its runner")
		self.assertEqual(self.collector.spans, [])

	def test_that_are_not_there(self):
		self.collector.close()
		node, worker = self.node_and_worker()
		self.order(node, worker)
		harness.wait_for(lambda: self.log_lines(node, event="collector_fails"), "the word that it is not there")
		self.assertEqual(self.metric(node, "taskerd_trace_collector_up"), 0)
		self.assertEqual(node.stop(), 0)

	def test_what_waits_is_sent_before_the_end(self):
		node, worker = self.node_and_worker()
		self.collector.trace(own(self.order(node, worker)), 2)  # now it is connected to both
		tasks = [self.order(node, worker) for _ in range(3)]
		node.process.signal(signal.SIGTERM)
		self.assertEqual(node.process.wait(), 0)
		if "spans of " in node.log_text():
			self.skipTest("two seconds were not enough on this machine, as the log says")
		for task in tasks:
			self.collector.trace(own(task), 2)


if __name__ == "__main__":
	unittest.main()

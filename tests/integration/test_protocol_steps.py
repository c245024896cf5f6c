"""What workers and the daemon say to each other of steps, each message of PROTOCOL.md as a worker written from that page alone would send it; wire.py holds what comes back to the page."""
import os
import unittest

import harness
import wire
from harness import step
from shapes import NOBODY, TIME, UUID
from wire import Refused, bad, ok

if not os.environ.get("TASKERD_LONG"):
	raise unittest.SkipTest("takes minutes and a machine of its own: TASKERD_LONG=1 runs it")


class Steps(wire.Case):
	"""What workers and the daemon say to each other."""

	def setUp(self):
		super().setUp()
		self.template("one", [step("a", "h")])

	def open_places(self, w):
		return next(r["open"] for r in self.client.call("worker.list")["workers"] if r["worker_uuid"] == w.welcome["worker_uuid"])

	# -- step.execute --------------------------------------------------------------------------------

	def test_fields_of_a_step(self):
		self.template("full", [{**step("a", "mod.Class", attempts=7, retryable=True, timeout=9, method="go", url="x", n=1)}, step("b", "mod.Class", after=["a"])])
		task = self.create("full", context={"c": 1})
		w = self.worker(["mod.Class"])
		s = w.take()
		self.assertRegex(s["step_uuid"], UUID)
		self.assertEqual((s["task_uuid"], s["attempt"], s["max_attempts"], s["retryable"], s["timeout_ms"], s["step"]), (task, 1, 7, True, 9000, "a"))
		self.assertEqual(s["handler"], {"callable": "mod.Class", "method": "go", "initialization": {"url": "x", "n": 1}})
		self.assertEqual((s.get("dependencies") or {}, s["context"]), ({}, {"c": 1}))
		self.assertEqual(self.get(task)["steps"][0]["step_uuid"], s["step_uuid"])
		w.finish(s, {"r": 1})
		s = w.take()
		self.assertEqual((s["step"], s["dependencies"], s.get("timeout_ms"), s.get("dependencies_partial")), ("b", {"a": {"r": 1}}, None, None))

	def test_a_worker_gets_what_it_offers_and_nothing_else(self):
		self.template("three", [step("a", "h"), step("b", "k"), step("c", "m")])
		h, k, nothing, elsewhere = self.worker(["h"], 5), self.worker(["k"], 5), self.worker([], 5), self.worker(["h", "k", "m"], 5, namespaces=["elsewhere"])
		self.create("three")
		self.assertEqual((h.take()["step"], k.take()["step"]), ("a", "b"))
		late = self.worker(["m", "h"], 5, namespaces=["*"])
		self.assertEqual(late.take()["step"], "c")
		for w in nothing, elsewhere:
			w.call("ping")
			self.assertEqual(w.given, [])

	def test_sessions_with_overlapping_handlers_share(self):
		self.template("mixed", [step("x", "h"), step("y", "k"), step("z", "m")])
		both = [self.worker(["h", "k"], 3), self.worker(["k", "m"], 3), self.worker(["h", "m"], 3)]
		tasks = [self.create("mixed") for _ in range(40)]
		done = 0
		while done < 120:
			for w in both:
				w.poll(0.005)
				for s in list(w.open.values()):
					self.assertIn(s["handler"]["callable"], ("hk", "km", "hm")[both.index(w)])
					w.finish(s)
					done += 1
		for t in tasks:
			self.assertEqual(self.settled(t), "complete")
		for w in both:
			self.assertGreater(len(w.given), 0)
			w.until(lambda: len(w.acks) == len(w.given), "all acks")

	def test_several_results_and_steps_in_a_frame(self):
		self.client.call("task.create_many", {"tasks": [{"name": "one", "namespace": self.ns}] * 50})
		w = self.worker(concurrency=50)
		w.results(*[ok(s) if i % 2 else bad(s, retryable=False) for i, s in enumerate(w.take(50))])
		for s in w.given:
			self.assertEqual(w.acked(s), "recorded")

	# -- credits: wire.Worker raises Breach whenever more is open than may be ---------------------------

	def test_never_more_open_than_allowed(self):
		self.client.call("task.create_many", {"tasks": [{"name": "one", "namespace": self.ns}] * 60})
		w = self.worker(concurrency=3)
		for n in range(60):
			s = w.take()
			if n % 5 == 4:
				w.fail(s, retryable=False)
			else:
				w.finish(s)
		w.call("ping")
		self.assertEqual(w.untaken(), 0)
		harness.wait_for(lambda: self.open_places(w) == 0, "all places to be free")

	def test_a_timed_out_attempt_keeps_its_place_until_its_worker_says_something(self):
		self.template("slow", [step("a", "h", timeout=1, attempts=1)])
		w = self.worker(concurrency=1)
		late = self.create("slow")
		first = w.take()
		self.assertEqual(w.cancelled(first), "timeout")
		self.assertEqual(self.settled(late), "blocked_by_failures")
		self.create("one")
		w.call("ping")
		self.assertEqual((w.untaken(), self.open_places(w)), (0, 1))
		w.finish(first)
		self.assertEqual(w.acked(first), "stale")
		w.finish(w.take())
		self.assertEqual(self.attempts(late), [("a", 1, "timeout")])
		harness.wait_for(lambda: self.open_places(w) == 0, "all places to be free")

	def test_late_result_while_the_next_attempt_runs(self):
		self.template("slow", [step("a", "h", timeout=3, attempts=3)])
		w = self.worker(concurrency=2)
		task = self.create("slow")
		first = w.take()
		self.assertEqual(w.cancelled(first), "timeout")
		second = w.take()
		self.assertEqual((second["step_uuid"], second["attempt"]), (first["step_uuid"], 2))
		w.finish(first)
		self.assertEqual(w.acked(first), "stale")
		w.finish(second)
		self.assertEqual(w.acked(second), "recorded")
		self.assertEqual(self.settled(task), "complete")
		self.assertEqual(self.open_places(w), 0)
		for _ in range(2):
			self.create("one")
		w.take(2)

	def test_late_result_after_another_worker_has_finished_the_step(self):
		self.template("slow", [step("a", "h", timeout=3, attempts=3)])
		v = self.worker(concurrency=1)
		task = self.create("slow")
		first = v.take()
		w = self.worker(concurrency=1)
		self.assertEqual(v.cancelled(first), "timeout")
		second = w.take()
		w.finish(second, {"by": "w"})
		self.assertEqual(w.acked(second), "recorded")
		v.fail(first)
		self.assertEqual(v.acked(first), "stale")
		self.assertEqual((self.settled(task), self.open_places(v), self.open_places(w)), ("complete", 0, 0))
		self.assertEqual(self.attempts(task), [("a", 1, "timeout"), ("a", 2, "success")])

	def test_worker_update(self):
		self.client.call("task.create_many", {"tasks": [{"name": "one", "namespace": self.ns}] * 12})
		w = self.worker(concurrency=2)
		self.assertEqual(len(w.take(2)), 2)
		w.concurrency = 5
		w.notify("worker.update", {"max_concurrency": 5})
		w.take(3)
		w.notify("worker.update", {"max_concurrency": 1})
		w.call("ping")
		w.concurrency = 5  # what is open stays open; from now on:
		for s in list(w.open.values())[:4]:
			w.finish(s)
			self.assertEqual(w.acked(s), "recorded")
			self.assertEqual(w.untaken(), 0)
		w.concurrency = 1
		w.finish(list(w.open.values())[0])
		for _ in range(6):
			w.finish(w.take())
		w.notify("worker.update", {"draining": True})
		self.assertEqual(w.call("ping"), {})
		drained = len(w.given)
		for s in list(w.open.values()):
			w.finish(s)
			w.acked(s)
		w.call("ping")
		self.assertEqual(len(w.given), drained)
		w.notify("worker.update", {"draining": False, "max_concurrency": 3})
		w.concurrency = 3
		while len(w.given) < 12:
			w.until(lambda: w.open, "a step")
			w.finish(list(w.open.values())[0])

	def test_worker_update_is_checked(self):
		w = self.worker()
		for params, path in ({"max_concurrency": 0}, "max_concurrency"), ({"max_concurrency": "3"}, "max_concurrency"), ({"draining": 1}, "draining"):
			w.notify("worker.update", params)
			error = w.note("error")
			self.assertEqual((error["code"], error["path"]), ("bad_request", path))

	def test_goodbye(self):
		w = self.worker(concurrency=2)
		tasks = [self.create("one") for _ in range(2)]
		s, other = w.take(2)
		w.notify("worker.update", {"draining": True})
		w.finish(s)
		self.assertEqual(w.acked(s), "recorded")
		w.notify("goodbye")
		w.call("ping")
		w.close()
		v = self.worker(concurrency=2)
		again = v.take()
		self.assertEqual((again["step_uuid"], again["attempt"]), (other["step_uuid"], 1))
		self.assertNotEqual(again["claim"], other["claim"])
		v.finish(again)
		for t in tasks:
			self.assertEqual(self.settled(t), "complete")
		outcomes = [o for t in tasks for _, _, o in self.attempts(t)]
		self.assertEqual(sorted(outcomes), ["released", "success", "success"])

	def test_a_connection_that_ends_without_goodbye_costs_an_attempt(self):
		w = self.worker()
		task = self.create("one")
		s = w.take()
		w.close()
		again = self.worker().take()
		self.assertEqual((again["step_uuid"], again["attempt"]), (s["step_uuid"], 2))
		self.assertEqual(self.attempts(task), [("a", 1, "worker_lost")])

	# -- results -------------------------------------------------------------------------------------

	def test_acknowledgements(self):
		w = self.worker(concurrency=5)
		tasks = [self.create("one") for _ in range(3)]
		good, failed, broken = w.take(3)
		w.finish(good, {"x": 1})
		self.assertEqual(w.acked(good), "recorded")
		w.fail(failed, retryable=False)
		self.assertEqual(w.acked(failed), "recorded")
		w.finish(broken, {"x": float("nan")})
		self.assertEqual(w.acked(broken), "rejected")
		for s, status in (good, "duplicate"), (failed, "duplicate"), (broken, "duplicate"):
			w.finish(s, {"other": 2})
			self.assertEqual(w.acked(s), status)
		self.assertEqual({s["task_uuid"] for s in (good, failed, broken)}, set(tasks))
		self.assertSame([self.get(s["task_uuid"])["steps"][0]["result"] for s in (good, failed, broken)], [{"x": 1}, None, None])

	def test_claims_that_do_not_fit(self):
		w = self.worker(concurrency=3)
		other = self.worker(concurrency=3, handlers=["k"])
		self.template("two", [step("a", "h"), step("b", "h")])
		task = self.create("two")
		a, b = w.take(2)
		forged = bytearray(a["claim"])
		forged[-1] ^= 1
		later = b"\0\0\0\2" + a["claim"][4:]
		for who, result in (w, {**ok(a), "claim": bytes(forged)}), (w, {**ok(a), "claim": b["claim"]}), (w, {**ok(a), "claim": later}), (w, {**ok(a), "claim": b"\0" * 16}), \
		                   (w, {**ok(a), "attempt": 2}), (w, {**ok(a), "step_uuid": NOBODY[:-6] + "000001"}), (other, ok(a)):
			with self.subTest(result=str(result)):
				who.notify("step.result", {"results": [result]})
				self.assertEqual(who.acked(result), "not_claimed")
		for s in a, b:
			w.finish(s)
			self.assertEqual(w.acked(s), "recorded")
		self.assertEqual(self.settled(task), "complete")

	def test_the_same_result_twice_in_a_frame(self):
		w = self.worker(concurrency=4)
		for _ in range(15):
			task = self.create("one")
			s = w.take()
			w.results(ok(s, {"n": 1}), ok(s, {"n": 2}), ok(s, {"n": 3}))
			acks = sorted([w.acked(s), w.acked(s), w.acked(s)])
			self.assertEqual(acks, ["duplicate", "duplicate", "recorded"])
			self.assertSame(self.get(task)["steps"][0]["result"], {"n": 1})

	def test_malformed_results_are_named_and_the_rest_is_taken(self):
		w = self.worker(concurrency=2)
		self.create("one")
		s = w.take()
		good = ok(s)
		for i, broken in enumerate([7, None, [], {}, {**good, "claim": "text"}, {**good, "claim": b"short"}, {**good, "step_uuid": 7}, {**good, "step_uuid": "x"}, {**good, "attempt": 0},
		                            {**good, "attempt": "1"}, {**good, "success": 1}, {k: v for k, v in good.items() if k != "success"}]):
			with self.subTest(broken=str(broken)):
				w.notify("step.result", {"results": [{**good, "claim": b"\0" * 16}, broken]})
				error = w.note("error")
				self.assertEqual(error["code"], "bad_request")
				self.assertIn("results[1]", error["path"])
				self.assertEqual(w.acked(s), "not_claimed")
		for params in {}, {"results": {}}, {"results": []}:
			w.notify("step.result", params)
			error = w.note("error")
			self.assertEqual((error["code"], error["path"]), ("bad_request", "results"))
		w.finish(s)
		self.assertEqual(w.acked(s), "recorded")

	def test_failures_are_kept_as_told(self):
		self.template("many", [step("a", "h", attempts=10, backoff="none")])
		w = self.worker()
		task = self.create("many")
		errors = [{"message": "m", "error_type": "T", "error_code": "C", "backtrace": ["l1", "l2"], "status_code": 503, "context": {"k": [1]}}, {"message": ""}, {"message": "é\n\"\\" * 100}, {"message": "x", "more": 1}]
		for e in errors:
			w.results({**bad(w.take()), "error": e})
		w.results({**bad(w.take()), "error": {**errors[0], "retryable": False}})
		self.assertEqual(self.settled(task), "blocked_by_failures")
		history = self.client.call("task.history", {"task_uuid": task})["attempts"]
		for e, a in zip(errors, history):
			for name, value in e.items():
				self.assertSame(a["error"][name], value)
		self.assertEqual([a["outcome"] for a in history], ["handler_error"] * 4 + ["permanent_error"])

	def test_the_wish_for_a_delay(self):
		self.template("retry", [step("a", "h", backoff="exponential", base_ms=3600000, max_ms=3600000)])
		w = self.worker()
		task = self.create("retry")
		w.fail(w.take(), retry_after_ms=1)
		s = w.take()  # an hour without the wish
		self.assertEqual(s["attempt"], 2)
		w.fail(s)
		harness.wait_for(lambda: self.get(task)["state"] == "waiting_for_retry", "the task to wait")
		waiting = self.get(task)["steps"][0]
		self.assertEqual(waiting["state"], "waiting_for_retry")
		self.assertRegex(waiting["retry_at"], TIME)

	def test_results_of_somebody_who_is_no_worker(self):
		c = self.wire()
		c.notify("step.result", {"results": [{"step_uuid": NOBODY, "attempt": 1, "claim": b"\0" * 16, "success": True}]})
		c.protocol_error()

	# -- other messages ------------------------------------------------------------------------------

	def test_progress_reaches_watchers(self):
		w = self.worker()
		task = self.create("one")
		c = self.wire()
		c.call("task.watch", {"task_uuid": task})
		s = w.take()
		for progress in 0.5, {"done": 3, "of": 7}, "half", None:
			w.notify("step.heartbeat", {"step_uuid": s["step_uuid"], "attempt": 1, "progress": progress})
		seen = []
		while len(seen) < 3:
			seen += [e["progress"] for e in c.note("task.event")["events"] if "progress" in e]
		self.assertSame(seen, [0.5, {"done": 3, "of": 7}, "half"])
		w.notify("step.heartbeat", {"step_uuid": NOBODY, "attempt": 1})
		for params, path in ({"attempt": 1}, "step_uuid"), ({"step_uuid": s["step_uuid"]}, "attempt"):
			w.notify("step.heartbeat", params)
			self.assertEqual(w.note("error")["path"], path)
		w.finish(s)
		self.assertEqual(w.acked(s), "recorded")

	def test_log_lines(self):
		w = self.worker()
		self.create("one")
		s = w.take()
		for level in "trace", "debug", "info", "warn", "error":
			w.notify("step.log", {"step_uuid": s["step_uuid"], "level": level, "message": "line %s of %s" % (level, self.ns), "fields": {"colour": "blue-" + level}})
		w.notify("step.log", {"level": "info", "message": "two\nlines \x1b[31m of %s" % self.ns})
		w.notify("step.log", {"level": "info", "message": ""})
		w.call("ping")
		log = self.node.log_text()
		for level in "info", "warn", "error":
			line = next(x for x in log.splitlines() if "line %s of %s" % (level, self.ns) in x)
			self.assertIn(s["step_uuid"], line)
			self.assertIn("blue-" + level, line)
		self.assertNotIn("\x1b", log)
		self.assertIn("two lines", log)
		for params, path in ({"message": "x"}, "level"), ({"level": "info"}, "message"), ({"level": "info", "message": "x", "step_uuid": "y"}, "step_uuid"), ({"level": "info", "message": "x", "fields": []}, "fields"):
			w.notify("step.log", params)
			self.assertEqual(w.note("error")["path"], path)

	def page_through(self, s, **params):
		got, pages, cursor = {}, 0, None
		while True:
			page = self.client.call("step.dependencies", {"step_uuid": s["step_uuid"], "cursor": cursor, **params})
			wire.need("page", page, {"dependencies": dict, "dependency_steps": list}, {"next_cursor": str})
			self.assertEqual(len(page["dependency_steps"]), len(page["dependencies"]))
			self.assertFalse(set(got) & set(page["dependencies"]))
			got.update(page["dependencies"])
			pages += 1
			cursor = page.get("next_cursor")
			if cursor is None:
				return got, pages

	def test_more_ancestors_than_a_step_carries(self):
		n = 300
		self.template("chain", [step("s%d" % i, "h", after=["s%d" % (i - 1)] if i else []) for i in range(n)])
		w = self.worker()
		task = self.create("chain")
		for i in range(n - 1):
			s = w.take()
			self.assertEqual(s["step"], "s%d" % i)
			w.finish(s, {"n": i})
		last = w.take()
		self.assertIs(last["dependencies_partial"], True)
		for name, value in last["dependencies"].items():
			self.assertSame(value, {"n": int(name[1:])})
		self.assertIn("s%d" % (n - 2), last["dependencies"])
		got, _ = self.page_through(last)
		self.assertSame(got, {"s%d" % i: {"n": i} for i in range(n - 1)})
		got, _ = self.page_through(last, names=["s0", "s7", "nobody", "s299"])
		self.assertSame(got, {"s0": {"n": 0}, "s7": {"n": 7}})
		self.assertEqual(self.page_through(last, names=[])[0], {})
		w.finish(last)
		self.assertEqual(self.settled(task), "complete")

	def test_results_too_large_to_be_carried(self):
		n = 300
		self.template("fan", [step("s%d" % i, "h") for i in range(n)] + [step("end", "h", after=["s%d" % i for i in range(n)])])
		w = self.worker(concurrency=n)
		task = self.create("fan")
		for s in w.take(n):
			w.finish(s, {"name": s["step"], "text": "0123456789" * 20000})
		end = w.take()
		self.assertIs(end["dependencies_partial"], True)
		got, pages = self.page_through(end)
		self.assertEqual({k: (v["name"], len(v["text"])) for k, v in got.items()}, {"s%d" % i: ("s%d" % i, 200000) for i in range(n)})
		self.assertGreater(pages, 15)
		w.finish(end)
		self.assertEqual(self.settled(task), "complete")

	def test_cursors_are_checked(self):
		task = self.create("one")
		uuid = self.get(task)["steps"][0]["step_uuid"]
		for cursor in "abc", "' OR 1=1", "9" * 16, "1e3":
			error = self.client.refused("step.dependencies", {"step_uuid": uuid, "cursor": cursor})
			self.assertEqual((error.code, error.path), ("bad_request", "cursor"))

	def test_many_items_do_not_break_the_limits_of_a_frame(self):
		"""Small in bytes, large in items; wire.py counts them."""
		self.client.call("task.create_many", {"tasks": [{"name": "one", "namespace": self.ns, "context": {"v": [0] * 100000}}] * 2})
		for _ in range(6):
			self.create("one", context={"v": [0] * 100000})
		w = self.worker(concurrency=8)
		for s in w.take(8):
			self.assertEqual(len(s["context"]["v"]), 100000)
			w.finish(s)
		self.template("join", [step("a", "h"), step("b", "h"), step("c", "h", after=["a", "b"])])
		task = self.create("join", context={"v": [0.5] * 150000})
		for s in w.take(2):
			w.finish(s, {"v": [0] * 200000})
		s = w.take()
		got = dict(s.get("dependencies") or {})
		if s.get("dependencies_partial"):
			got, _ = self.page_through(s)
		self.assertEqual({k: len(v["v"]) for k, v in got.items()}, {"a": 200000, "b": 200000})
		w.finish(s)
		self.assertEqual(self.settled(task), "complete")

	def test_watching_a_large_task(self):
		"""Too large for one frame: the watch says so, or says it in pieces."""
		self.template("large", [step("s%d" % i, "h", attempts=1) for i in range(6)])
		w = self.worker(concurrency=6)
		task = self.create("large")
		for i, s in enumerate(w.take(6)):
			if i < 3:
				w.finish(s, {"v": "x" * 1000000})
			else:
				w.fail(s, "y" * 1000000)
			self.assertEqual(w.acked(s), "recorded")
		c = self.wire()
		try:
			c.call("task.watch", {"task_uuid": task})
			events = c.events(task, lambda e: e["kind"] == "task" and e["state"] == "blocked_by_failures")
			self.assertEqual(sum(e.get("outcome") is not None for e in events), 6)
		except Refused as e:
			self.assertEqual(e.code, "too_large")
		self.assertEqual(c.refused("task.get", {"task_uuid": task}).code, "too_large")
		c.call("task.get", {"task_uuid": task, "steps": False})

	def test_large_progress(self):
		w = self.worker()
		task = self.create("one")
		c = self.wire()
		c.call("task.watch", {"task_uuid": task})
		s = w.take()
		w.notify("step.heartbeat", {"step_uuid": s["step_uuid"], "attempt": 1, "progress": "x" * ((4 << 20) - 120)})
		w.notify("step.heartbeat", {"step_uuid": s["step_uuid"], "attempt": 1, "progress": "end"})
		c.note("task.event", lambda p: any(e.get("progress") == "end" for e in p["events"]))

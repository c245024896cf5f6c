"""Handler files of tasker-core: after the name of the library is replaced in them they run, against a real daemon, as its documents say."""
import http.server
import json
import os
import pathlib
import threading
import unittest

import harness
from harness import step, wait_for
from taskerd.exceptions import TaskerdError

SOURCE = pathlib.Path(harness.HANDLERS) / "reference"


class Service(http.server.BaseHTTPRequestHandler):
	"""What the handlers for HTTP call."""

	def answer(self, status, body, **headers):
		data = json.dumps(body).encode()
		self.send_response(status)
		for name, value in {"Content-Type": "application/json", "Content-Length": len(data), **headers}.items():
			self.send_header(name.replace("_", "-"), str(value))
		self.end_headers()
		self.wfile.write(data)

	def do_POST(self):
		body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
		if body["email"] == "taken":
			self.answer(409, {"error": "email is taken"})
		else:
			self.answer(201, {"id": 7, "headers": {k: self.headers.get(k) for k in ("X-Client", "X-Trace")}})

	do_PUT = lambda self: self.answer(200, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))  # noqa: E731

	def do_GET(self):
		status = int(self.path.partition("?")[0].rpartition("/")[2])
		self.server.asked.append(self.path)
		again = len([p for p in self.server.asked if p == self.path]) > 1
		self.answer(200 if status == 503 and again else status, {"status": status}, **({"Retry_After": 1} if status == 503 else {}))

	def log_message(self, *args):
		pass


class Reference(harness.SharedCase):
	@classmethod
	def prepare(cls, stage):
		stage.db = stage.database()
		stage.node = stage.daemon(stage.db)
		stage.service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
		stage.service.asked = []
		threading.Thread(target=stage.service.serve_forever, daemon=True).start()
		stage.at_end(stage.service.server_close)
		stage.at_end(stage.service.shutdown)
		stage.events = os.path.join(stage.place, "events")
		open(stage.events, "wb").close()
		cls.port(pathlib.Path(stage.place) / "reference_handlers")
		hinted = step("a", "prefixed:anything")
		hinted["handler"]["resolver"] = "prefix_resolver"
		templates = pathlib.Path(stage.place) / "templates"
		templates.mkdir()
		(templates / "hinted.yaml").write_text(harness.template("hinted", [hinted]), encoding="utf-8")
		argv = [harness.PYTHON, "-m", "taskerd", "worker", "--socket", stage.node.socket, "--name", "reference", "--threads", "8"]
		env = {"PYTHONPATH": harness.PYTHON_CLIENT, "TASKER_TEMPLATE_PATH": str(templates), "PYTHON_HANDLER_PATH": os.path.join(stage.place, "reference_handlers"), "REFERENCE_EVENTS": stage.events,
		       "REFERENCE_SERVICE": "http://127.0.0.1:%d" % stage.service.server_address[1]}
		stage.worker = stage.track(harness.Worker("reference", argv, os.path.join(stage.place, "reference.log"), env))
		stage.worker.wait_listed(stage.node)

	@staticmethod
	def port(target):
		"""The files, with one name replaced."""
		for path in SOURCE.rglob("*.py"):
			to = target / path.relative_to(SOURCE)
			to.parent.mkdir(parents=True, exist_ok=True)
			to.write_text(path.read_text(encoding="utf-8").replace("tasker_core", "taskerd"), encoding="utf-8")

	@classmethod
	def tearDownClass(cls):
		unittest.TestCase.tearDownClass()  # no ledger to hold the executions against
		cls.shared.doctor(cls.shared.node)

	def run_one(self, steps, context=None, **fields):
		"""The task with its steps, settled."""
		name = self._testMethodName + "_%d" % len(steps) + str(abs(hash(json.dumps(steps))) % 10000)
		self.apply(self.node, harness.template(name, steps, **fields))
		return self.ended(self.create(self.node, name, context))

	def ended(self, task):
		try:
			return self.finished(self.node, task)
		except TaskerdError as e:
			found = self.node.client.request("task.get", {"task_uuid": task})
			raise AssertionError("%s; missing: %s; %s" % (e, found["missing_handlers"], {s["name"]: (s["state"], s["error"]) for s in found["steps"]})) from e

	def result(self, task, name):
		return task.step(name).results

	# -- classes -------------------------------------------------------------------------------------

	CHECKOUT = [step("validate_cart", "shop.step_handlers.ValidateCartHandler"), step("reserve", "shop.step_handlers.ReserveHandler", after=["validate_cart"], backoff="linear", base_ms=3600000, max_ms=3600000),
	            step("charge", "shop.step_handlers.ChargeHandler", after=["validate_cart"], limit_cents=5000), step("confirm", "shop.step_handlers.ConfirmHandler", after=["reserve", "charge"])]
	ITEMS = [{"sku": "a", "price": "10.50", "quantity": 2}, {"sku": "b", "price": 1, "quantity": 1}]

	def test_checkout(self):
		done = self.run_one(self.CHECKOUT, {"items": self.ITEMS, "stock_is_slow": True})
		self.assertEqual(done.status, "complete", [s.error for s in done.steps])
		self.assertEqual(self.result(done, "reserve"), {"reserved": 2, "attempt": 2, "max": 3, "last": False})
		self.assertEqual(self.result(done, "charge"), {"charged": 2200, "method": "card", "first": None})
		confirmed = self.result(done, "confirm")
		self.assertEqual((confirmed["steps"], confirmed["raw_step"], confirmed["attribute"], confirmed["charges"]), (["charge", "reserve", "validate_cart"], "confirm", "confirm", [2200]))
		self.assertEqual((confirmed["raw_task"], confirmed["namespace"], confirmed["correlated"]), (done.name, "t", True))
		history = self.node.client.get_task_history(done.task_uuid)["attempts"]
		self.assertEqual(next(a for a in history if a["step"] == "charge")["metadata"]["gateway"], "test")

	def test_an_empty_cart(self):
		done = self.run_one(self.CHECKOUT, {"items": []})
		error = done.step("validate_cart").error
		self.assertEqual((done.status, done.step("validate_cart").attempts), ("blocked_by_failures", 1))
		self.assertEqual((error["error_type"], error["error_code"], error["message"]), ("validation_error", "EMPTY_CART", "cart is empty"))

	def test_a_permanent_error_of_a_class_is_permanent(self):
		done = self.run_one(self.CHECKOUT, {"items": [{"sku": "a", "price": 100, "quantity": 1}]})
		self.assertEqual((done.step("charge").attempts, done.step("charge").error["error_code"], done.step("reserve").state), (1, "LIMIT", "complete"))

	# -- functions -----------------------------------------------------------------------------------

	def test_pipeline(self):
		done = self.run_one([step("extract", "pipeline_extract"), step("transform", "pipeline_transform", after=["extract"]), step("values", "pipeline_values"), step("list", "pipeline_list"),
		                     step("nothing", "pipeline_nothing"), step("load", "pipeline_load", after=["transform", "values", "list", "nothing"])], {"source": "s3"})
		self.assertEqual(done.status, "complete", [s.error for s in done.steps])
		self.assertEqual(self.result(done, "load"), {
			"rows": 20, "source": "s3", "listed": {"result": [1, 2, 3]}, "nothing": {}, "absent": None,
			"values": {"when": "2024-02-29", "id": "00000000-0000-0000-0000-000000000007", "price": "1.10", "colour": "red", "tuple": [1, 2], "set": [3], "data": {"rows": 4, "source": "nowhere"}}})

	def test_how_functions_fail(self):
		cases = {"permanent": ("error", 1, "permanent_error", "P1"), "returned": ("error", 1, "my_own_type", "R1"), "enum": ("error", 1, "permanent_error", None),
		         "retryable": ("complete", 2), "timeout": ("complete", 2), "value": ("complete", 2)}
		self.apply(self.node, harness.template("fails", [step("a", "pipeline_fail")]))
		tasks = {how: self.create(self.node, "fails", {"how": how}) for how in cases}
		for how, expected in cases.items():
			with self.subTest(how):
				got = self.finished(self.node, tasks[how]).step("a")
				error = got.error or {}
				self.assertEqual((got.state, got.attempts, *((error["error_type"], error.get("error_code")) if got.state == "error" else ())), expected)
		self.assertEqual(self.finished(self.node, tasks["value"]).step("a").results, {"recovered": True, "retry_count": 1})

	# -- decisions and batches -----------------------------------------------------------------------

	def approval(self, handler, amount):
		steps = [step("begin", "approval_done"), {**step("route", handler, after=["begin"]), "type": "decision"}, step("auto_approve", "approval_done", after=["route"]), step("manager_approval", "approval_done", after=["route"]),
		         step("finance_review", "approval_done", after=["route"]), {**step("finish", "approval_finish", after=["auto_approve", "manager_approval", "finance_review"]), "type": "deferred_convergence"}]
		return self.run_one(steps, {} if amount is None else {"amount": amount})

	def test_decisions(self):
		for handler, amount, approved in (("approval.RouteHandler", 5, ["auto_approve"]), ("approval.RouteHandler", 500, ["manager_approval", "finance_review"]), ("approval.MixedRoute", 5, ["auto_approve"]),
		                                  ("approval.MixedRoute", 500, None), ("approval_dsl", 5, ["auto_approve"]), ("approval_dsl", 500, None), ("approval_by_hand", 5, ["auto_approve"])):
			with self.subTest(handler, amount=amount):
				done = self.approval(handler, amount)
				self.assertEqual(done.status, "complete", [s.error for s in done.steps])
				finished = next((s.results for s in done.steps if s.name == "finish"), None)
				self.assertEqual((finished or {}).get("approved_by") or None, approved)
		done = self.approval("approval.RouteHandler", None)
		self.assertEqual((done.step("route").attempts, done.step("route").error["error_type"]), (1, "decision_error"))

	def rows(self, analyzer, worker, context):
		return self.run_one([{**step("csv_analyzer", analyzer, batch_size=8), "type": "batchable"}, {**step("csv_worker", worker, after=["csv_analyzer"]), "type": "batch_worker"},
		                     {**step("total", "csv.CsvAggregator", after=["csv_worker"]), "type": "deferred_convergence"}], context)

	def test_batches(self):
		done = self.rows("csv.CsvAnalyzer", "csv.CsvWorker", {"rows": 20, "flaky": "002"})
		self.assertEqual(done.status, "complete", [s.error for s in done.steps])
		self.assertEqual(self.result(done, "total"), {"total": sum(range(20)), "processed": 20, "worker_count": 3, "scenario": "with_batches"})
		self.assertEqual(done.step("csv_worker_002").attempts, 2)
		self.assertEqual(self.result(self.rows("csv.CsvAnalyzer", "csv.CsvWorker", {"rows": 0}), "total"), {"total": 0, "worker_count": 0, "scenario": "no_batches"})

	def test_batches_of_functions(self):
		done = self.rows("csv_analyze_dsl", "csv_work_dsl", {"rows": 10})
		self.assertEqual((done.status, self.result(done, "total")["total"], self.result(done, "total")["worker_count"]), ("complete", 45, 3))

	# -- services ------------------------------------------------------------------------------------

	def service(self, handler, **context):
		return self.run_one([step("a", handler, attempts=2, backoff="linear", base_ms=3600000, max_ms=3600000)], context).step("a")

	def test_services(self):
		made = self.service("services.CreateAccount", email="x@y")
		self.assertEqual(made.results, {"account": 7, "status": 201, "seen": {"X-Client": "reference", "X-Trace": "t"}})
		taken = self.service("services.CreateAccount", email="taken")
		self.assertEqual((taken.attempts, taken.error["error_type"], taken.error["message"]), (1, "conflict", "HTTP 409: email is taken"))
		self.assertEqual(self.service("services.Lookup", status=404).error["error_code"], "E404")
		busy = self.service("services.Lookup", status=503)  # Retry-After: 1 goes before the backoff of an hour
		self.assertEqual((busy.state, busy.attempts, busy.results), ("complete", 2, {"status": 503}))
		self.assertEqual(self.service("services_dsl", email="z").results, {"to": "z"})

	def test_a_service_that_is_not_there(self):
		done = self.run_one([step("a", "services.Down", attempts=2)])
		self.assertEqual((done.step("a").attempts, done.step("a").error["error_type"], done.step("a").error["retryable"]), (2, "connection_error", True))

	# -- finding handlers ----------------------------------------------------------------------------

	def test_methods_resolvers_and_paths(self):
		steps = [step("call", "payments"), step("refund", "payments", method="refund", max=5), step("capture", "payments", method="capture"), step("configured", "configured", unit="EUR"),
		         step("path", "reference_handlers.dispatch.ByPath")]
		done = self.run_one(steps)
		self.assertEqual(done.status, "complete", [s.error for s in done.steps])
		self.assertEqual([self.result(done, n) for n in ("call", "refund", "capture", "configured", "path")],
		                 [{"did": "call"}, {"did": "refund", "config": {"max": 5}}, {"did": "capture"}, {"unit": "EUR"}, {"path": True}])
		done = self.ended(self.create(self.node, "hinted"))  # registered by the worker, from TASKER_TEMPLATE_PATH
		self.assertEqual(self.result(done, "a"), {"resolved": True})

	# -- events --------------------------------------------------------------------------------------

	def declared(self, name, mode, publisher=None, condition="success"):
		return {"name": name, "condition": condition, "delivery_mode": mode, "schema": True, **({"publisher": publisher} if publisher else {})}

	def test_events(self):
		own = "reference.PaymentPublisher"
		pay = {**step("pay", "events.Pay"), "publishes_events": [self.declared("payment.charged", "broadcast", own), self.declared("payment.plain", "durable"), self.declared("payment.vetoed", "durable", own),
		                                                          self.declared("payment.declined", "durable", condition="failure")]}
		self.apply(self.node, harness.template("pays", [pay], namespace="money"))
		for context in {"amount": 12}, {"amount": -1}, {"fail": True}:
			self.finished(self.node, self.create(self.node, "pays", context, namespace="money"))
		got = [m["event"] for m in self.node.client.consume_events("money", limit=20, wait=5)]
		by_name = {}
		for event in got:
			by_name.setdefault(event["event_name"], []).append(event)
		self.assertEqual({k: len(v) for k, v in by_name.items()}, {"payment.charged": 1, "payment.plain": 2, "payment.declined": 1})
		charged = by_name["payment.charged"][0]
		self.assertEqual((charged["payload"]["payload"], charged["metadata"]["source"], charged["metadata"]["gateway"], charged["metadata"]["fired_by"]), ({"amount": 12, "step": "pay"}, "reference", "g", own))
		self.assertEqual([e["payload"]["payload"].get("secret") for e in by_name["payment.plain"]][0], "card number")
		wait_for(lambda: os.path.getsize(self.shared.events) > 0, "the subscriber to be told")
		with open(self.shared.events, encoding="utf-8") as f:
			self.assertEqual([json.loads(line) for line in f], [{"name": "payment.charged", "payload": {"amount": 12, "step": "pay"}, "step": "pay"}])


if __name__ == "__main__":
	unittest.main()

"""taskerd.testing without a daemon, replay, tracing, a look at the worker."""

import contextlib
import importlib.util
import io
import json
import logging
import unittest
import unittest.mock

import support
import workers

import taskerd
from taskerd import HandlerRegistry, StepHandler, TaskerClient, Worker
from taskerd._replay import Recording, replay
from taskerd.batch_processing import Batchable
from taskerd.errors import PermanentError
from taskerd.logging import log_info
from taskerd.step_handler.functional import depends_on, inputs, step_handler
from taskerd.testing import EmbeddedTaskerd, make_context, run_handler
from taskerd.testing.handlers import RecordingHost


@step_handler("total")
@depends_on(cart="load_cart")
@inputs("currency")
def total(cart, currency, context):
    context.heartbeat({"at": 1})
    context.log("info", "adding", n=len(cart["prices"]))
    return {"total": sum(cart["prices"]), "currency": currency, "try": context.attempt}


class Counts(StepHandler, Batchable):
    handler_name = "counts"

    def call(self, context):
        at = context.checkpoint_cursor or 0
        if at < 30:
            return self.checkpoint_yield(at + 10, at + 10, {"sum": at})
        return self.batch_worker_success(items_processed=context.checkpoint_items_processed)


class RunHandler(unittest.TestCase):
    def test_functions_classes_and_coroutines(self):
        host = RecordingHost()
        result = run_handler(total, {"currency": "EUR"}, dependencies={"load_cart": {"prices": [3, 4]}}, host=host, attempt=2)
        self.assertEqual(result.result, {"total": 7, "currency": "EUR", "try": 2})
        self.assertEqual((host.progress, host.logs), ([{"at": 1}], [("info", "adding", {"n": 1 + 1})]))

        @step_handler("later")
        async def later():
            raise PermanentError("no", error_code="E")

        result = run_handler(later)
        self.assertEqual((result.error_type, result.retryable, result.error_code), ("permanent_error", False, "E"))

    def test_a_result_that_cannot_be_sent(self):
        cyclic = {}
        cyclic["self"] = cyclic
        for value in ({"x": object()}, {"x": float("nan")}, cyclic, {"x": "y" * 5_000_000}, {"x": 1 << 70}):
            logging.getLogger("taskerd").setLevel(logging.CRITICAL)
            self.addCleanup(logging.getLogger("taskerd").setLevel, logging.NOTSET)
            result = run_handler(step_handler("odd")(lambda v=value: v))
            self.assertFalse(result.is_success or result.retryable)
            self.assertIn(result.error_type, ("serialization_error", "result_too_large"))

    def test_checkpoints(self):
        self.assertEqual(run_handler(Counts).result["cursor"], 10)
        self.assertEqual(run_handler(Counts, checkpoint={"cursor": 30, "items_processed": 30}).result["items_processed"], 30)
        self.assertEqual(run_handler(Counts, to_the_end=True).result["items_processed"], 30)

    def test_method_and_config(self):
        class Many(StepHandler):
            def __init__(self, config):
                self.config = config

            def call(self, context):
                return {}

            def refund(self, context):
                return {"unit": self.config["unit"], "same": context.get_config("unit")}

        result = run_handler(Many, method="refund", step_config={"unit": "EUR"})
        self.assertEqual(result.result, {"unit": "EUR", "same": "EUR"})
        self.assertEqual(make_context(step_inputs={"cursor": 1}).step_inputs, {"cursor": 1})

    def test_no_program(self):
        with unittest.mock.patch.dict("os.environ", {"PATH": "/nonexistent"}, clear=True):
            with self.assertRaises(FileNotFoundError):
                EmbeddedTaskerd()


ROOT = "0190b5a0-7c1e-7000-8000-00000a000000"


def uuid_of(number):
    return ROOT[:-6] + "%06x" % number


def step_of(name, number, handler, **more):
    """What step.replay answers."""
    step = {"step_uuid": uuid_of(number), "task_uuid": ROOT, "attempt": 1, "max_attempts": 3, "retryable": True, "namespace": "shop", "template": "order",
            "version": "1.0.0", "step": name, "template_step": name, "handler": {"callable": handler}, "context": {"currency": "EUR"}, "inputs": None,
            "checkpoint": None, "priority": 0, "correlation_id": ROOT, "parent_correlation_id": None, "dependencies": {}, "dependencies_partial": False}  # fmt: skip
    return {**step, **more}


TOTAL = {
    "step": step_of("total", 2, "total", attempt=2, dependencies={"load_cart": {"prices": [1]}}),
    "recorded": {"state": "complete", "attempts": 2, "result": {"total": 1, "currency": "EUR", "try": 2}, "error": None},
}  # fmt: skip
WORK = {
    "step": step_of("work_002", 9, "counts", template_step="work", inputs={"cursor": {"batch_id": "002"}}, checkpoint={"cursor": 30, "items_processed": 12}),
    "recorded": {"state": "error", "attempts": 1, "result": None, "error": {"message": "m"}},
}  # fmt: skip


class Replay(support.TestCase):
    def replay(self, answer, *which, requests=()):
        """The exit status, what was printed, and what went to stderr."""
        asked = []

        def answered(params):
            asked.append(params)
            return answer

        def script(daemon):
            conn = daemon.accept()
            conn.hello()
            conn.serve_requests({"step.replay": answered, **dict(requests)})

        self.daemon.play(script)
        registry = HandlerRegistry()
        registry.register("total", total._handler_class)
        registry.register("counts", Counts)
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()) as err:
            with TaskerClient(socket=self.daemon.path) as client:
                status = replay(Recording.fetch(client, *which), registry)
        self.asked = asked
        return status, json.loads(out.getvalue()), err.getvalue()

    def test_by_the_step(self):
        status, shown, err = self.replay(TOTAL, uuid_of(2))
        self.assertEqual(self.asked, [{"step_uuid": uuid_of(2)}])
        self.assertEqual((status, shown["same"], shown["handler"]), (0, True, "total"))
        self.assertEqual(shown["replayed"]["result"], shown["recorded"]["result"])
        self.assertIn("info: adding n=1", err)

    def test_a_batch_worker_by_task_and_name(self):
        status, shown, _ = self.replay(WORK, ROOT, "work_002")
        self.assertEqual(self.asked, [{"task_uuid": ROOT, "step": "work_002"}])
        self.assertEqual((status, shown["same"]), (0, False))
        self.assertEqual(shown["replayed"]["result"]["items_processed"], 12)
        self.assertEqual(shown["recorded"]["error"], {"message": "m"})

    def test_results_that_were_left_out_are_fetched(self):
        pages = iter([{"dependencies": {"other": {}}, "next_cursor": "7"}, {"dependencies": {"load_cart": {"prices": [1]}}}])
        answer = {**TOTAL, "step": {**TOTAL["step"], "dependencies": {}, "dependencies_partial": True}}
        status, shown, _ = self.replay(answer, uuid_of(2), requests={"step.dependencies": lambda p: next(pages)}.items())
        self.assertEqual((status, shown["same"]), (0, True), shown)

    def test_what_is_not_there(self):
        answer = {**TOTAL, "step": step_of("load_cart", 1, "load")}
        status, shown, _ = self.replay(answer, uuid_of(1))
        self.assertEqual((status, shown["replayed"]["error"]["error_type"]), (1, "handler_not_found"))


@unittest.skipUnless(importlib.util.find_spec("opentelemetry"), "opentelemetry is not installed")
class Tracing(unittest.TestCase):
    def test_the_handler_runs_in_the_task_s_trace(self):
        from opentelemetry import trace

        seen = []

        @step_handler("traced")
        def traced():
            context = trace.get_current_span().get_span_context()
            seen.append((context.trace_id, context.trace_state.get("vendor")))
            return {}

        traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        run_handler(traced, traceparent=traceparent, tracestate="vendor=1,x=y")
        self.assertEqual(seen, [(0x4BF92F3577B34DA6A3CE929D0E0E4736, "1")])


class Observability(workers.WorkerCase):
    def test_a_look_at_the_worker(self):
        self.assertEqual(taskerd.get_health_check().status, "unhealthy")
        self.assertEqual(taskerd.get_metrics().received, 0)
        worker, conn = self.launched(workers.echo)
        with unittest.mock.patch.object(Worker, "_instance", worker):
            conn.execute(support.step("echo", 1))
            conn.ack(conn.results(1))
            support.wait_until(lambda: taskerd.get_metrics().recorded == 1)
            self.assertTrue(taskerd.get_health_check().healthy)
            self.assertEqual(taskerd.get_worker_config().handlers, ["echo"])
        self.drained(worker, conn)
        self.assertEqual([h for h in logging.getLogger().handlers if type(h).__name__ == "LogBridge"], [])

    def test_log_functions_carry_their_fields(self):
        @step_handler("says")
        def says():
            log_info("paid", {"order": 7})

        worker, conn = self.launched(says)
        logging.getLogger("taskerd").setLevel(logging.INFO)
        conn.execute(support.step("says", 1))
        line = conn.expect("step.log")
        logging.getLogger("taskerd").setLevel(logging.CRITICAL)
        self.assertEqual((line["message"], line["fields"]["order"]), ("paid", "7"))
        conn.ack(conn.results(1))



if __name__ == "__main__":
    unittest.main()

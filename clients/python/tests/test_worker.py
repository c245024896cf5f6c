"""The worker against a daemon scripted by the test."""

import asyncio
import logging
import os
import threading
import unittest

import support
from support import PATIENCE, step, wait_until

from taskerd import HandlerRegistry, StepHandler, StepHandlerResult, Worker, WorkerBootstrapError, WorkerState
from taskerd import bootstrap
from taskerd.errors import PermanentError, RetryableError
from taskerd.exceptions import (
    InvalidTemplateError,
    TooLargeError,
    UnsupportedVersionError,
    WorkerAlreadyRunningError,
    WorkerNotInitializedError,
)
from taskerd.step_handler.functional import depends_on, inputs, step_handler


def setUpModule():
    logging.getLogger("taskerd").setLevel(logging.CRITICAL)


def tearDownModule():
    logging.getLogger("taskerd").setLevel(logging.NOTSET)


@step_handler("echo")
@inputs("n")
def echo(n):
    return {"n": n}


class Gate:
    """Handlers that run until they are let go."""

    def __init__(self):
        self.entered = threading.Semaphore(0)
        self.leave = threading.Semaphore(0)
        self.contexts = []

    def handler(self):
        @step_handler("gate")
        def gate(context):
            self.contexts.append(context)
            self.entered.release()
            assert self.leave.acquire(timeout=PATIENCE)
            return {"cancelled": context.cancel_reason}

        return gate._handler_class

    def wait_entered(self, count=1):
        for _ in range(count):
            assert self.entered.acquire(timeout=PATIENCE), "the handler was not called"

    def open(self, count=1):
        self.leave.release(count)


class WorkerCase(support.TestCase):
    def worker(self, *handlers, **options):
        registry = HandlerRegistry()
        for handler in handlers:
            cls = getattr(handler, "_handler_class", handler)
            registry.register(cls.handler_name, cls)
        options.setdefault("connect_timeout", PATIENCE)
        worker = Worker(registry, socket=self.daemon.path, **options)
        self.addCleanup(self.end, worker)
        return worker

    def end(self, worker):
        for conn in self.daemon.conns:
            conn.close()
        if worker._runtime is not None:
            worker._runtime.abort()
            self.assertTrue(worker.wait(PATIENCE))

    def launched(self, *handlers, hello=None, **options):
        """A worker that is connected, and the daemon's end of the connection."""
        worker = self.worker(*handlers, **options)
        launch = threading.Thread(target=worker.launch)
        launch.start()
        conn = self.daemon.accept()
        conn.params = conn.hello(**(hello or {}))
        launch.join(PATIENCE)
        self.assertTrue(worker.is_running)
        return worker, conn

    def run_one(self, offered, **changes):
        """The result that a handler's step gets."""
        cls = getattr(offered, "_handler_class", offered)
        worker, conn = self.launched(offered, threads=1)
        conn.execute(step(cls.handler_name, 1, **changes))
        (result,) = conn.results(1)
        conn.ack([result])
        return result

    def drained(self, worker, conn):
        """Play the daemon's part of a clean end."""
        worker.drain()
        self.assertEqual(conn.expect("worker.update"), {"draining": True})
        self.assertEqual(conn.expect("goodbye"), {})
        conn.expect_end()
        self.assertTrue(worker.wait(PATIENCE))
        self.assertIsNone(worker._runtime.failure)


class Handshake(WorkerCase):
    def test_hello(self):
        worker, conn = self.launched(echo, threads=3, prefetch=2, name="w1", namespaces=["a", "b"])
        p = conn.params
        self.assertEqual((p["protocol"], p["language"], p["pid"]), ([1, 0], "python", os.getpid()))
        self.assertRegex(p["client"], r"^taskerd-python/\d")
        self.assertNotIn("resume", p)
        self.assertEqual(
            p["worker"], {"name": "w1", "namespaces": ["a", "b"], "handlers": ["echo"], "max_concurrency": 5}
        )
        self.assertEqual(worker.worker_id, support.welcome()["worker_uuid"])
        self.assertEqual(worker.state, WorkerState.RUNNING)
        self.assertTrue(worker.status().connected)
        self.drained(worker, conn)
        self.assertEqual(worker.state, WorkerState.STOPPED)

    def test_defaults(self):
        worker, conn = self.launched(echo)
        self.assertEqual(conn.params["worker"]["max_concurrency"], 2 * worker.threads)
        self.assertEqual(conn.params["worker"]["namespaces"], ["*"])

    def test_steps_right_behind_the_welcome(self):
        worker = self.worker(echo)
        launch = threading.Thread(target=worker.launch)
        launch.start()
        conn = self.daemon.accept()
        conn.hello([2, "step.execute", {"steps": [step("echo", 1)]}], [2, "no.such.notification", {}])
        self.assertEqual(conn.results(1)[0]["result"], {"n": None})
        launch.join(PATIENCE)

    def refuse(self, code, **more):
        def script(daemon):
            conn = daemon.accept()
            ident, _ = conn.expect("hello")
            conn.refuse(ident, code, **more)
            conn.close()

        self.daemon.play(script)
        return self.worker(echo)

    def test_another_major_version_ends_the_worker(self):
        worker = self.refuse("unsupported_version", details={"client": [1, 0], "server": [2, 0]})
        with self.assertRaises(UnsupportedVersionError) as caught:
            worker.launch()
        self.assertEqual(caught.exception.details["server"], [2, 0])
        self.assertFalse(worker.is_running)

    def test_a_daemon_that_answers_in_another_major_version(self):
        worker = self.worker(echo)

        def script(daemon):
            conn = daemon.accept()
            conn.hello(protocol=[2, 0])
            conn.expect_end()

        self.daemon.play(script)
        with self.assertRaises(UnsupportedVersionError):
            worker.launch()
        self.daemon.finish()

    def test_a_refusal_that_may_pass_is_tried_again(self):
        worker = self.refuse("overloaded", retry_after_ms=1)
        launch = threading.Thread(target=worker.launch)
        launch.start()
        self.daemon.threads[0].join(PATIENCE)
        conn = self.daemon.accept()
        self.assertNotIn("resume", conn.hello())
        launch.join(PATIENCE)
        self.assertTrue(worker.is_running)

    def test_no_daemon(self):
        self.daemon.listener.close()
        worker = self.worker(echo, connect_timeout=0.2)
        with self.assertRaises(WorkerBootstrapError):
            worker.launch()
        self.assertFalse(worker.is_running)

    def test_no_handlers(self):
        with self.assertRaises(WorkerBootstrapError):
            self.worker().launch()

    def test_more_handlers_than_a_handshake_takes(self):
        worker = self.worker(echo)
        for i in range(5000):
            worker.register("handler.number.%d" % i, echo._handler_class)
        with self.assertRaises(TooLargeError):
            worker.launch()

    def test_register_after_launch(self):
        worker, conn = self.launched(echo)
        with self.assertRaises(WorkerAlreadyRunningError):
            worker.register("x", echo._handler_class)
        with self.assertRaises(WorkerAlreadyRunningError):
            worker.launch()


class Results(WorkerCase):
    def test_success(self):
        r = self.run_one(echo, context={"n": 5}, attempt=2)
        self.assertEqual((r["success"], r["result"], r["attempt"]), (True, {"n": 5}, 2))
        self.assertEqual(r["claim"], (1).to_bytes(16, "big"))
        self.assertGreaterEqual(r["execution_ms"], 0)
        self.assertNotIn("error", r)

    def test_results_that_are_ready_together_share_a_frame(self):
        worker, conn = self.launched(echo, threads=2, prefetch=98)
        steps = [step("echo", i, context={"n": i}) for i in range(1, 101)]
        conn.execute(*steps)
        results = conn.results(100)
        self.assertEqual({r["result"]["n"] for r in results}, set(range(1, 101)))
        self.assertLess(len(conn.frames) - 1, 100)
        conn.ack(results)
        wait_until(lambda: worker.status().counters["recorded"] == 100)
        self.assertEqual((worker.status().open_steps, worker.status().unacknowledged), (0, 0))
        self.drained(worker, conn)

    def test_threads_run_at_the_same_time(self):
        gate = Gate()
        worker, conn = self.launched(gate.handler(), threads=4, prefetch=0)
        conn.execute(*[step("gate", i) for i in range(1, 5)])
        gate.wait_entered(4)
        gate.open(4)
        conn.ack(conn.results(4))

    def test_permanent_error(self):
        class Bad(StepHandler):
            handler_name = "bad"

            def call(self, context):
                raise PermanentError("no such card", error_code="CARD", context={"card": "x"}, metadata={"m": 1})

        r = self.run_one(Bad)
        e = r["error"]
        self.assertEqual((r["success"], e["message"], e["retryable"]), (False, "no such card", False))
        self.assertEqual((e["error_type"], e["error_code"]), ("permanent_error", "CARD"))
        self.assertEqual(e["context"], {"exception_type": "PermanentError", "card": "x"})
        self.assertEqual(r["metadata"], {"m": 1, "card": "x", "error_code": "CARD"})
        self.assertNotIn("retry_after_ms", r)

    def test_retry_after_reaches_the_daemon(self):
        @step_handler("later")
        def later():
            raise RetryableError("busy", retry_after=2.5)

        r = self.run_one(later)
        self.assertEqual((r["retry_after_ms"], r["error"]["retryable"]), (2500, True))

    def test_retry_after_in_the_metadata_of_a_returned_failure(self):
        class Returned(StepHandler):
            handler_name = "returned"

            def call(self, context):
                return self.failure("429", "rate_limited", metadata={"retry_after_seconds": 60, "status_code": 429})

        r = self.run_one(Returned)
        self.assertEqual((r["retry_after_ms"], r["error"]["status_code"]), (60000, 429))
        self.assertEqual(r["error"]["error_type"], "rate_limited")

    def test_other_exceptions_are_retryable_and_bring_their_traceback(self):
        class Broken(StepHandler):
            handler_name = "broken"

            def call(self, context):
                return {}["absent"]

        r = self.run_one(Broken)
        self.assertEqual((r["error"]["error_type"], r["error"]["retryable"]), ("handler_error", True))
        self.assertIn("KeyError: 'absent'", r["error"]["backtrace"][-1])
        self.assertEqual(r["metadata"], {"exception_type": "KeyError"})

    def test_sys_exit_ends_the_step_only(self):
        @step_handler("exits")
        def exits():
            raise SystemExit(3)

        self.assertFalse(self.run_one(exits)["success"])

    def test_what_a_class_may_return(self):
        for value, want in ((None, {}), ({"a": 1}, {"a": 1}), (5, {"result": 5})):
            with self.subTest(repr(value)):

                class Any(StepHandler):
                    handler_name = "any"

                    def call(self, context, value=value):
                        return value

                self.assertEqual(self.run_one(Any)["result"], want)

    def test_method_and_initialization_of_the_template(self):
        class Two(StepHandler):
            handler_name = "two"

            def call(self, context):
                return {"by": "call"}

            def other(self, context):
                return {"by": "other", "unit": context.get_config("unit"), "name": context.handler_name}

        handler = {"callable": "two", "method": "other", "initialization": {"unit": "EUR"}}
        r = self.run_one(Two, handler=handler)
        self.assertEqual(r["result"], {"by": "other", "unit": "EUR", "name": "two"})

    def test_resolver_of_the_template(self):
        path = __name__ + ".Importable"
        r = self.run_one(echo, handler={"callable": path, "resolver": "class_lookup"})
        self.assertEqual(r["result"], {"by": "importable"})

    def test_unknown_handler_method_and_resolver(self):
        for handler in (
            {"callable": "nobody"},
            {"callable": "echo", "method": "nope"},
            {"callable": "echo", "resolver": "nope"},
        ):
            with self.subTest(handler):
                r = self.run_one(echo, handler=handler)
                self.assertEqual((r["error"]["error_type"], r["error"]["retryable"]), ("handler_not_found", False))

    def test_async_handlers(self):
        left = []

        class Later(StepHandler):
            handler_name = "later"

            async def call(self, context):
                left.append(asyncio.ensure_future(asyncio.sleep(3600)))
                await asyncio.sleep(0)
                return self.success({"async": True})

        worker, conn = self.launched(Later, threads=1)
        for i in (1, 2):
            conn.execute(step("later", i))
            (result,) = conn.results(1)
            self.assertEqual(result["result"], {"async": True})
            conn.ack([result])
        self.drained(worker, conn)
        self.assertEqual([task.cancelled() for task in left], [True, True])

    def test_a_coroutine_that_is_cancelled_before_it_begins(self):
        class Late(StepHandler):
            handler_name = "late"

            def call(self, context):
                context._cancel("timeout")
                return asyncio.sleep(3600)

        self.assertFalse(self.run_one(Late)["success"])

    def test_a_result_that_cannot_be_stored(self):
        @step_handler("bytes")
        def returns_bytes():
            return {"deep": [{"b": b"x"}]}

        e = self.run_one(returns_bytes)["error"]
        self.assertEqual((e["error_type"], e["retryable"]), ("serialization_error", False))
        self.assertIn("result.deep[0].b", e["message"])

    def test_a_result_that_is_too_large(self):
        @step_handler("large")
        def large():
            return {"x": "y" * 70000}

        worker, conn = self.launched(large, hello={"limits": {**support.LIMITS, "max_frame": 65536}})
        conn.execute(step("large", 1))
        e = conn.results(1)[0]["error"]
        self.assertEqual((e["error_type"], e["retryable"]), ("result_too_large", False))

    def test_a_result_of_too_many_items(self):
        @step_handler("many")
        def many():
            return {"x": list(range(2000))}

        worker, conn = self.launched(many, hello={"limits": {**support.LIMITS, "max_items": 1000}})
        conn.execute(step("many", 1))
        self.assertEqual(conn.results(1)[0]["error"]["error_type"], "result_too_large")

    def test_results_are_spread_over_frames_that_fit(self):
        @step_handler("big")
        def big():
            return {"x": "y" * 20000}

        worker, conn = self.launched(big, threads=1, prefetch=19, hello={"limits": {**support.LIMITS, "max_frame": 65536}})
        conn.execute(*[step("big", i) for i in range(1, 21)])
        count = 0
        while count < 20:
            payload = conn.recv_raw()
            self.assertLessEqual(len(payload), 65536)
            count += len(support.msgpack.unpackb(payload)[2]["results"])
        self.assertEqual(count, 20)

    def test_a_failure_survives_extras_that_cannot_be_stored(self):
        @step_handler("odd")
        def odd():
            raise RetryableError("odd \udc80 \0 text", metadata={"obj": object(), "bytes": b"x", "s": "\udcff", "ok": 1})

        r = self.run_one(odd)
        self.assertTrue(r["error"]["retryable"])
        self.assertIn("odd", r["error"]["message"])
        self.assertNotIn("\0", r["error"]["message"])

    def test_an_oversized_failure_keeps_its_meaning(self):
        @step_handler("wordy")
        def wordy():
            raise RetryableError("short", metadata={"x": "y" * (5 << 20)}, retry_after=1)

        r = self.run_one(wordy)
        self.assertEqual((r["error"]["message"], r["error"]["retryable"], r["retry_after_ms"]), ("short", True, 1000))


class Importable(StepHandler):
    handler_name = "importable"

    def call(self, context):
        return {"by": "importable"}


class Conversation(WorkerCase):
    def test_cancel_of_a_running_step(self):
        gate = Gate()
        worker, conn = self.launched(gate.handler(), threads=1)
        conn.execute(step("gate", 1))
        gate.wait_entered()
        conn.send([2, "step.cancel", {"step_uuid": step("gate", 1)["step_uuid"], "attempt": 1, "reason": "timeout"}])
        self.assertTrue(gate.contexts[0].cancel_event.wait(PATIENCE))
        gate.open()
        (result,) = conn.results(1)
        self.assertEqual(result["result"], {"cancelled": "timeout"})
        conn.ack([result], "stale")
        wait_until(lambda: worker.status().counters["stale"] == 1)
        self.drained(worker, conn)

    def test_cancel_of_a_step_that_waits_here(self):
        gate, ran = Gate(), []

        @step_handler("second")
        def second():
            ran.append(1)

        worker, conn = self.launched(gate.handler(), second, threads=1, prefetch=1)
        conn.execute(step("gate", 1), step("second", 2))
        gate.wait_entered()
        conn.send([2, "step.cancel", {"step_uuid": step("second", 2)["step_uuid"], "attempt": 1, "reason": "task_cancelled"}])
        wait_until(lambda: worker._runtime._open[(step("second", 2)["step_uuid"], 1)].cancelled)
        gate.open()
        by_step = {r["step_uuid"]: r for r in conn.results(2)}
        r = by_step[step("second", 2)["step_uuid"]]
        self.assertEqual((r["success"], r["error"]["error_type"]), (False, "cancelled"))
        self.assertEqual(ran, [])

    def test_cancel_of_another_attempt_is_not_for_this_one(self):
        gate = Gate()
        worker, conn = self.launched(gate.handler(), threads=1)
        conn.execute(step("gate", 1, attempt=2))
        gate.wait_entered()
        conn.send(
            [2, "step.cancel", {"step_uuid": step("gate", 1)["step_uuid"], "attempt": 1, "reason": "timeout"}],
            [2, "result.ack", {"acks": []}],
            [2, "step.execute", {"steps": []}],
        )
        gate.open()
        self.assertEqual(conn.results(1)[0]["result"], {"cancelled": None})

    def test_cancelling_reaches_a_coroutine(self):
        entered = threading.Event()

        class Sleeper(StepHandler):
            handler_name = "sleeper"

            async def call(self, context):
                entered.set()
                await asyncio.sleep(3600)

        worker, conn = self.launched(Sleeper, threads=1)
        conn.execute(step("sleeper", 1))
        self.assertTrue(entered.wait(PATIENCE))
        conn.send([2, "step.cancel", {"step_uuid": step("x", 1)["step_uuid"], "attempt": 1, "reason": "timeout"}])
        self.assertFalse(conn.results(1)[0]["success"])

    def test_dependencies_left_out_are_asked_for(self):
        @step_handler("needs")
        @depends_on(big="big")
        def needs(big, context):
            return {"big": big, "names": sorted(context.get_dependency_result_keys())}

        worker, conn = self.launched(needs, threads=1)
        conn.execute(step("needs", 1, dependencies={"small": 1}, dependencies_partial=True))
        ident, params = conn.expect("step.dependencies")
        self.assertEqual(params, {"step_uuid": step("x", 1)["step_uuid"], "names": ["big"]})
        conn.answer(ident, {"dependencies": {"big": {"n": 1}}})
        ident, params = conn.expect("step.dependencies")
        self.assertEqual(params, {"step_uuid": step("x", 1)["step_uuid"]})
        conn.answer(ident, {"dependencies": {"big": {"n": 1}}, "next_cursor": "c1"})
        ident, params = conn.expect("step.dependencies")
        self.assertEqual(params["cursor"], "c1")
        conn.answer(ident, {"dependencies": {"other": None}})
        self.assertEqual(conn.results(1)[0]["result"], {"big": {"n": 1}, "names": ["big", "other", "small"]})

    def test_an_error_for_dependencies_is_the_step_s_error(self):
        @step_handler("needs")
        @depends_on(big="big")
        def needs(big):
            return {"big": big}

        worker, conn = self.launched(needs, threads=1)
        conn.execute(step("needs", 1, dependencies_partial=True))
        ident, _ = conn.expect("step.dependencies")
        conn.refuse(ident, "not_found")
        e = conn.results(1)[0]["error"]
        self.assertEqual((e["error_code"], e["retryable"]), ("not_found", False))

    def test_progress_and_log(self):
        @step_handler("talks")
        def talks(context):
            context.heartbeat({"done": 3})
            context.log("warn", "half way", n=3)
            return {}

        worker, conn = self.launched(talks, threads=1)
        conn.execute(step("talks", 1))
        ident = step("x", 1)["step_uuid"]
        self.assertEqual(conn.expect("step.heartbeat"), {"step_uuid": ident, "attempt": 1, "progress": {"done": 3}})
        self.assertEqual(
            conn.expect("step.log"),
            {"step_uuid": ident, "level": "warn", "message": "half way", "fields": {"n": "3"}},
        )
        conn.results(1)

    def test_heartbeats_come_while_a_handler_blocks(self):
        gate = Gate()
        worker, conn = self.launched(gate.handler(), threads=1, hello={"heartbeat_ms": 150})
        conn.execute(step("gate", 1))
        gate.wait_entered()
        for _ in range(3):
            payload = conn.recv_raw()
            self.assertEqual(support.msgpack.unpackb(payload), [2, "heartbeat", {}])
        gate.open()
        conn.results(1)

    def test_the_same_attempt_twice_runs_once(self):
        gate = Gate()
        worker, conn = self.launched(gate.handler(), threads=2)
        conn.execute(step("gate", 1), step("gate", 1))
        gate.wait_entered()
        gate.open(2)
        results = conn.results(1)
        conn.execute(step("gate", 1))
        conn.ack(results)
        self.drained(worker, conn)
        self.assertEqual(len(gate.contexts), 1)

    def test_a_new_delivery_of_the_same_attempt_replaces_the_first(self):
        gate = Gate()
        worker, conn = self.launched(gate.handler(), threads=2)
        conn.execute(step("gate", 1))
        gate.wait_entered()
        conn.execute(step("gate", 1, claim=b"another claim 16"))
        gate.wait_entered()
        self.assertEqual(gate.contexts[0].cancel_reason, "stale")
        gate.open(2)
        (result,) = conn.results(1)
        self.assertEqual(result["claim"], b"another claim 16")
        conn.ack([result])
        self.drained(worker, conn)


class Reconnecting(WorkerCase):
    def resumed(self, conn, status="held"):
        """Answer session.resume; returns the step_uuids named."""
        ident, params = conn.expect("session.resume")
        conn.answer(ident, {"steps": [{"step_uuid": s["step_uuid"], "attempt": 1, "status": status} for s in params["steps"]]})
        return {s["step_uuid"] for s in params["steps"]}

    def test_results_are_kept_until_they_are_acknowledged(self):
        worker, conn = self.launched(echo, threads=1, prefetch=3)
        conn.execute(*[step("echo", i, context={"n": i}) for i in (1, 2, 3)])
        first = conn.results(3)
        conn.ack(first[:1])
        wait_until(lambda: worker.status().unacknowledged == 2)
        conn.close()
        conn = self.daemon.accept()
        params = conn.hello(resumed=True, session="token-2")
        # Held, though they no longer run: nobody else shall begin what is as good as done.
        self.assertEqual(params["resume"], {"session": "token-1", "held": 2})
        self.assertEqual(self.resumed(conn, "stale"), {r["step_uuid"] for r in first[1:]})
        again = conn.results(2)
        self.assertEqual(again, first[1:])
        conn.ack(again, "duplicate")
        wait_until(lambda: worker.status().unacknowledged == 0)
        self.assertEqual(worker.status().counters["duplicate"], 2)
        conn.close()
        conn = self.daemon.accept()
        self.assertEqual(conn.hello()["resume"], {"session": "token-2", "held": 0})
        self.drained(worker, conn)

    def test_running_steps_are_resumed(self):
        gate = Gate()
        worker, conn = self.launched(gate.handler(), echo, threads=3, prefetch=0)
        conn.execute(step("gate", 1), step("gate", 2), step("echo", 3))
        gate.wait_entered(2)
        (unacked,) = conn.results(1)
        conn.close()
        conn = self.daemon.accept()
        self.assertEqual(conn.hello()["resume"], {"session": "token-1", "held": 3})
        ident, params = conn.expect("session.resume")
        held = sorted(params["steps"], key=lambda s: s["step_uuid"])
        self.assertEqual(
            held,
            [{"step_uuid": step("g", i)["step_uuid"], "attempt": 1, "claim": i.to_bytes(16, "big")} for i in (1, 2, 3)],
        )
        # What finishes meanwhile has to wait for the answer.
        gate.open(2)
        wait_until(lambda: worker.status().unacknowledged == 3)
        statuses = [{"step_uuid": s["step_uuid"], "attempt": 1, "status": st} for s, st in zip(held, ("held", "stale", "held"))]
        conn.answer(ident, {"steps": statuses})
        results = conn.results(2)
        self.assertEqual({r["step_uuid"] for r in results}, {unacked["step_uuid"], held[0]["step_uuid"]})
        self.assertEqual(gate.contexts[1].cancel_reason or gate.contexts[0].cancel_reason, "stale")
        conn.ack(results)
        self.drained(worker, conn)

    def test_requests_of_handlers_survive(self):
        @step_handler("needs")
        @depends_on(big="big")
        def needs(big):
            return {"big": big}

        worker, conn = self.launched(needs, threads=1)
        conn.execute(step("needs", 1, dependencies_partial=True))
        conn.expect("step.dependencies")
        conn.close()
        conn = self.daemon.accept()
        conn.hello()
        self.resumed(conn)
        ident, params = conn.expect("step.dependencies")
        conn.answer(ident, {"dependencies": {"big": 1}})
        self.assertEqual(conn.results(1)[0]["result"], {"big": 1})

    def test_a_refused_resume_is_tried_again(self):
        gate = Gate()
        worker, conn = self.launched(gate.handler(), threads=1)
        conn.execute(step("gate", 1))
        gate.wait_entered()
        conn.close()
        conn = self.daemon.accept()
        conn.hello()
        ident, _ = conn.expect("session.resume")
        conn.refuse(ident, "database_unavailable")
        conn.expect_end()
        conn = self.daemon.accept()
        self.assertEqual(conn.hello()["resume"]["held"], 1)
        gate.open()

    def test_a_protocol_error_of_the_daemon_ends_the_connection_only(self):
        worker, conn = self.launched(echo)
        conn.sock.sendall(b"\x00\x00\x00\x01\xc1")
        conn.expect_end()
        conn = self.daemon.accept()
        conn.hello()
        conn.sock.sendall(b"\xff\xff\xff\xff")
        conn.expect_end()
        conn = self.daemon.accept()
        conn.hello()
        conn.send([2, "step.execute", {"steps": [{"step_uuid": "x"}]}])
        conn.expect_end()
        conn = self.daemon.accept()
        conn.hello()
        conn.execute(step("echo", 1))
        conn.results(1)

    def test_a_smaller_limit_after_a_reconnect(self):
        @step_handler("big")
        def big():
            return {"x": "y" * 100000}

        worker, conn = self.launched(big, threads=1)
        conn.execute(step("big", 1))
        self.assertTrue(conn.results(1)[0]["success"])
        conn.close()
        conn = self.daemon.accept()
        conn.hello(limits={**support.LIMITS, "max_frame": 65536})
        self.resumed(conn)
        self.assertEqual(conn.results(1)[0]["error"]["error_type"], "result_too_large")

    def test_a_version_that_changed_meanwhile_ends_the_worker(self):
        worker, conn = self.launched(echo)
        conn.close()
        conn = self.daemon.accept()
        ident, _ = conn.expect("hello")
        conn.refuse(ident, "unsupported_version")
        self.assertTrue(worker.wait(PATIENCE))
        self.assertIsInstance(worker._runtime.failure, UnsupportedVersionError)
        self.assertIn("unsupported", worker.status().error)

    def test_a_result_too_big_for_the_socket_buffer(self):
        @step_handler("big")
        def big():
            return {"x": "y" * (3 << 20)}

        worker, conn = self.launched(big, echo, threads=2)
        conn.execute(step("big", 1), step("big", 2))
        wait_until(lambda: worker.status().unacknowledged == 2)
        self.assertEqual([len(r["result"]["x"]) for r in conn.results(2)], [3 << 20] * 2)
        conn.execute(step("echo", 3))
        conn.results(1)


class Draining(WorkerCase):
    def test_running_steps_finish_and_waiting_ones_go_back(self):
        gate = Gate()
        worker, conn = self.launched(gate.handler(), threads=1, prefetch=2)
        conn.execute(step("gate", 1), step("gate", 2), step("gate", 3))
        gate.wait_entered()
        worker.drain()
        self.assertEqual(conn.expect("worker.update"), {"draining": True})
        self.assertEqual(worker.state, WorkerState.DRAINING)
        conn.execute(step("gate", 4))  # was under way
        gate.open(4)
        (result,) = conn.results(1)
        self.assertEqual(result["step_uuid"], step("gate", 1)["step_uuid"])
        conn.ack([result])
        self.assertEqual(conn.expect("goodbye"), {})
        conn.expect_end()
        self.assertTrue(worker.wait(PATIENCE))
        self.assertEqual(worker.status().counters["released"], 3)
        self.assertEqual(len(gate.contexts), 1)

    def test_no_goodbye_before_the_acknowledgement(self):
        worker, conn = self.launched(echo, threads=1)
        conn.execute(step("echo", 1))
        results = conn.results(1)
        worker.drain()
        conn.expect("worker.update")
        self.assertFalse(worker._runtime.finished.is_set())
        conn.ack(results)
        conn.expect("goodbye")

    def test_results_are_delivered_over_a_reconnect(self):
        worker, conn = self.launched(echo, threads=1, ack_timeout=PATIENCE)
        conn.execute(step("echo", 1))
        conn.results(1)
        worker.drain()
        conn.expect("worker.update")
        conn.close()
        conn = self.daemon.accept()
        conn.hello()
        ident, params = conn.expect("session.resume")
        conn.answer(ident, {"steps": [{**params["steps"][0], "status": "held"}]})
        results = conn.results(1)
        self.assertEqual(conn.expect("worker.update"), {"draining": True})
        conn.ack(results)
        conn.expect("goodbye")
        self.assertTrue(worker.wait(PATIENCE))
        self.assertIsNone(worker._runtime.failure)

    def test_a_daemon_that_never_comes_back(self):
        worker, conn = self.launched(echo, threads=1, ack_timeout=0.1)
        conn.execute(step("echo", 1))
        conn.results(1)
        self.daemon.listener.close()
        conn.close()
        self.assertFalse(worker.stop(PATIENCE))
        self.assertIn("never acknowledged", worker.status().error)

    def test_stopping_without_a_daemon_and_without_work(self):
        worker, conn = self.launched(echo)
        self.daemon.listener.close()
        conn.close()
        self.assertTrue(worker.stop(PATIENCE))

    def test_stop_with_a_limit(self):
        gate = Gate()
        worker, conn = self.launched(gate.handler(), threads=1)
        conn.execute(step("gate", 1))
        gate.wait_entered()
        self.assertFalse(worker.stop(0.05))
        self.assertFalse(worker.is_running)
        conn.expect("worker.update")
        conn.expect_end()
        gate.open()

    def test_the_daemon_drains(self):
        gate = Gate()
        worker, conn = self.launched(gate.handler(), threads=1)
        conn.execute(step("gate", 1))
        gate.wait_entered()
        conn.send([2, "server.draining", {"deadline_ms": 1000}])
        gate.open()
        conn.ack(conn.results(1))
        conn.close()
        conn = self.daemon.accept()
        conn.hello()
        self.drained(worker, conn)


class Templates(WorkerCase):
    def serve(self, answers):
        def script(daemon):
            daemon.accept_client = conn = daemon.accept()
            conn.hello()
            conn.serve_requests(answers)

        self.daemon.play(script)

    def write(self, name, text):
        path = os.path.join(self.daemon.directory, name)
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
        return path

    def test_templates_are_registered_before_the_worker_connects(self):
        directory = os.path.join(self.daemon.directory, "tasks")
        os.mkdir(directory)
        self.write("tasks/a.yaml", "name: a\n")
        self.write("tasks/b.yml", "name: b\n")
        applied = []

        def apply(params):
            applied.append(params)
            if params["source"] == "name: b\n":
                return {"code": "conflict", "message": "in use"}
            return {"namespace": "default", "name": "a", "version": "1.0.0", "created": True,
                    "findings": [{"severity": "warning", "message": "unknown key"}]}  # fmt: skip

        def get(params):
            steps = [{"name": "one", "handler": {"callable": __name__ + ".Importable"}},
                     {"name": "two", "handler": {"callable": "elsewhere"}}]  # fmt: skip
            return {**params, "steps": steps}

        self.serve({"template.apply": apply, "template.get": get})
        worker = self.worker(echo, templates=directory)
        launch = threading.Thread(target=worker.launch)
        launch.start()
        self.daemon.threads[0].join(PATIENCE)
        conn = self.daemon.accept()
        self.assertEqual(conn.hello()["worker"]["handlers"], ["echo", __name__ + ".Importable"])
        launch.join(PATIENCE)
        self.daemon.finish()
        self.assertEqual([p["filename"] for p in applied], [directory + "/a.yaml", directory + "/b.yml"])

    def test_an_invalid_template_ends_the_start(self):
        path = self.write("bad.yaml", "nonsense")
        finding = {"severity": "error", "file": "bad.yaml", "line": 3, "key": "steps", "message": "missing"}
        self.serve({"template.apply": lambda p: {"code": "invalid_template", "message": "bad", "details": {"findings": [finding]}}})
        worker = self.worker(echo, templates=path)
        with self.assertRaises(InvalidTemplateError) as caught:
            worker.launch()
        self.assertEqual(caught.exception.findings, [finding])
        self.assertIn("bad.yaml:3: error: steps: missing", str(caught.exception))
        self.daemon.finish()


class Singleton(WorkerCase):
    def test_start_instance_stop(self):
        self.addCleanup(Worker.reset_instance)
        self.addCleanup(HandlerRegistry.reset_instance)
        Worker.reset_instance()
        HandlerRegistry.reset_instance()
        with self.assertRaises(WorkerNotInitializedError):
            Worker.instance()
        self.assertEqual(bootstrap.stop_worker(), "not_running")
        self.assertFalse(bootstrap.is_worker_running())
        self.assertEqual(bootstrap.get_worker_status().worker_core_status, "not_initialized")

        def script(daemon):
            conn = daemon.accept()
            daemon.params = conn.hello()
            conn.expect("worker.update")
            conn.expect("goodbye")

        self.daemon.play(script)
        HandlerRegistry.instance().register("echo", echo._handler_class)
        from taskerd import BootstrapConfig

        worker = Worker.start(config=BootstrapConfig(worker_id="w9", namespace="shop"), socket=self.daemon.path)
        self.assertIs(Worker.start(), worker)
        self.assertIs(Worker.instance(), worker)
        self.assertEqual(worker.bootstrap_result.status, "started")
        self.assertEqual(bootstrap.bootstrap_worker().status, "already_running")
        self.assertTrue(bootstrap.is_worker_running() and bootstrap.get_worker_status().running)
        self.assertEqual(bootstrap.stop_worker(PATIENCE), "stopped")
        self.daemon.finish()
        self.assertEqual((self.daemon.params["worker"]["name"], self.daemon.params["worker"]["namespaces"]), ("w9", ["shop"]))

    def test_failures_are_told(self):
        self.addCleanup(HandlerRegistry.reset_instance)
        Worker.reset_instance()
        HandlerRegistry.reset_instance()
        result = bootstrap.bootstrap_worker(socket=self.daemon.path)
        self.assertFalse(result.success)
        self.assertIn("no handlers", result.error_message)
        with self.assertRaises(WorkerBootstrapError):
            Worker.start(socket=self.daemon.path)
        from taskerd import BootstrapConfig

        with self.assertRaises(ValueError):
            BootstrapConfig(log_level="loud")
        with self.assertRaises(TypeError):
            BootstrapConfig(unknown=1)

    def test_as_a_context_manager(self):
        def script(daemon):
            conn = daemon.accept()
            conn.hello()
            conn.execute(step("echo", 1))
            conn.ack(conn.results(1))
            conn.expect("worker.update")
            conn.expect("goodbye")

        self.daemon.play(script)
        with self.worker(echo) as worker:
            wait_until(lambda: worker.status().counters["recorded"] == 1)
        self.daemon.finish()
        self.assertFalse(worker.is_running)


if __name__ == "__main__":
    unittest.main()

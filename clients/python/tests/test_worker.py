"""The worker against a daemon scripted by the test: handshake, results, messages while steps run."""

import asyncio
import os
import threading
import unittest

import support
from support import PATIENCE, step, wait_until
from workers import Gate, WorkerCase, echo, setUpModule, tearDownModule  # noqa: F401

from taskerd import StepHandler, WorkerBootstrapError, WorkerState
from taskerd.errors import PermanentError, RetryableError
from taskerd.exceptions import TooLargeError, UnsupportedVersionError, WorkerAlreadyRunningError
from taskerd.results import StepHandlerResult
from taskerd.step_handler.functional import depends_on, step_handler


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
        for i in range(20000):
            worker.register("handler.number.%d" % i, echo._handler_class)
        with self.assertRaises(TooLargeError):
            worker.launch()

    def test_register_after_launch(self):
        worker, conn = self.launched(echo)
        with self.assertRaises(WorkerAlreadyRunningError):
            worker.register("x", echo._handler_class)
        with self.assertRaises(WorkerAlreadyRunningError):
            worker.launch()


class Checkpoints(WorkerCase):
    def saver(self, seen):
        @step_handler("save")
        def save(context):
            try:
                context.save_checkpoint(5, 5, {"sum": 10})
                seen.append(context.checkpoint)
            except Exception as exc:
                seen.append(exc)
                raise

        return save

    def test_saving_waits_for_the_daemon(self):
        seen = []
        worker, conn = self.launched(self.saver(seen), threads=1)
        for number, status in enumerate(("recorded", "stale", "rejected")):
            conn.execute(step("save", number + 1))
            ident, params = conn.expect("step.checkpoint")
            self.assertEqual(params, {"step_uuid": step("save", number + 1)["step_uuid"], "attempt": 1, "claim": (number + 1).to_bytes(16, "big"),
                                      "cursor": 5, "items_processed": 5, "accumulated_results": {"sum": 10}})  # fmt: skip
            self.assertEqual(len(seen), number)
            conn.answer(ident, {"status": status})
            conn.ack(conn.results(1))
        self.assertEqual(seen[0], {"cursor": 5, "items_processed": 5, "accumulated_results": {"sum": 10}})
        self.assertEqual([type(e).__name__ for e in seen[1:]], ["StepCancelledError", "PermanentError"])

    def test_a_step_that_yields_comes_again_as_the_same_attempt(self):
        """Its next result is kept until it is acknowledged itself, whenever the yield is."""

        @step_handler("yields")
        def yields(context):
            if context.has_checkpoint():
                return {"from": context.checkpoint_cursor}
            return StepHandlerResult.checkpoint_yield(7, 7, None)

        worker, conn = self.launched(yields, threads=1)
        conn.execute(step("yields", 1))
        (first,) = conn.results(1)
        self.assertEqual((first["result"], first["metadata"]["checkpoint_yield"]), ({"type": "checkpoint_yield", "cursor": 7, "items_processed": 7}, True))
        again = step("yields", 1, claim=b"z" * 16, checkpoint={"cursor": 7, "items_processed": 7})
        conn.execute(again)
        (second,) = conn.results(1)
        self.assertEqual((second["result"], second["claim"]), ({"from": 7}, b"z" * 16))
        conn.ack([first])
        wait_until(lambda: worker.status().counters["recorded"] == 1)
        self.assertEqual(worker.status().unacknowledged, 1)
        conn.ack([second])
        wait_until(lambda: worker.status().unacknowledged == 0)
        self.drained(worker, conn)


class Hanging(WorkerCase):
    def cancel(self, conn, number):
        conn.send([2, "step.cancel", {"step_uuid": step("gate", number)["step_uuid"], "attempt": 1, "reason": "timeout"}])

    def test_a_handler_that_does_not_return_costs_only_its_own_attempt(self):
        gate = Gate()
        worker, conn = self.launched(gate.handler(), echo, threads=1, prefetch=1, abandon_after=0.0)
        conn.execute(step("gate", 1), step("echo", 2, context={"n": 2}))
        gate.wait_entered()
        self.cancel(conn, 1)
        by_step = {r["step_uuid"]: r for r in conn.results(2)}
        given_up = by_step[step("gate", 1)["step_uuid"]]
        self.assertEqual((given_up["success"], given_up["error"]["error_type"]), (False, "cancelled"))
        self.assertEqual(by_step[step("echo", 2)["step_uuid"]]["result"], {"n": 2})
        conn.ack([given_up], "stale")
        conn.ack([by_step[step("echo", 2)["step_uuid"]]])
        wait_until(lambda: worker.status().unacknowledged == 0)
        self.assertEqual(worker.status().counters["abandoned"], 1)
        before = len([t for t in worker._runtime._pool._threads if t.is_alive()])
        gate.open()  # it comes back after all: its thread ends, its result is dropped
        wait_until(lambda: len([t for t in worker._runtime._pool._threads if t.is_alive()]) == before - 1)
        conn.execute(step("echo", 3, context={"n": 3}))
        (result,) = conn.results(1)
        self.assertEqual(result["result"], {"n": 3})
        conn.ack([result])
        self.drained(worker, conn)

    def test_one_that_returns_in_time_is_left_alone(self):
        gate = Gate()
        worker, conn = self.launched(gate.handler(), threads=1, abandon_after=3600.0)
        conn.execute(step("gate", 1))
        gate.wait_entered()
        self.cancel(conn, 1)
        wait_until(lambda: gate.contexts[0].cancelled)
        gate.open()
        (result,) = conn.results(1)
        self.assertEqual(result["result"], {"cancelled": "timeout"})
        conn.ack([result], "stale")
        wait_until(lambda: worker.status().counters["stale"] == 1)
        self.assertEqual(worker.status().counters["abandoned"], 0)
        self.drained(worker, conn)


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

    def test_errors_that_are_hard_to_tell(self):
        class NoText(Exception):
            def __str__(self):
                raise RuntimeError("no text")

        class Bare(PermanentError):
            def __init__(self, sku):  # does not call ours
                Exception.__init__(self, f"{sku} is sold out")

        class Odd(RetryableError):
            metadata = property(lambda self: {}.missing)

            def __init__(self):
                Exception.__init__(self, "odd")

        for error, text, kind, retryable in (
            (NoText(), "NoText (its text cannot be had)", "handler_error", True),
            (Bare("x"), "x is sold out", "permanent_error", False),
            (Odd(), "odd", "retryable_error", True),
        ):
            class Raises(StepHandler):
                handler_name = "raises"

                def call(self, context, error=error):
                    raise error

            with self.subTest(text):
                found = self.run_one(Raises)["error"]
                self.assertEqual((found["message"], found["error_type"], found["retryable"]), (text, kind, retryable))

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
        e = conn.results(1)[0]["error"]
        self.assertEqual(e["error_type"], "result_too_large")
        self.assertIn("values", e["message"])

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
            raise RetryableError("odd \udc80 \0 text", metadata={"obj": object(), "bytes": b"x", "s": "\udcff", "ok": 1, "k\udcff": 2})

        r = self.run_one(odd)
        self.assertTrue(r["error"]["retryable"])
        self.assertIn("odd", r["error"]["message"])
        self.assertNotIn("\0", r["error"]["message"])
        self.assertEqual((r["metadata"]["ok"], r["metadata"]["k\\udcff"], r["metadata"]["s"]), (1, 2, "'\\udcff'"))

    def test_a_result_with_half_of_a_surrogate_pair_is_final_and_names_the_place(self):
        @step_handler("half")
        def half():
            return {"a": [{"b": "x\ud800"}]}

        error = self.run_one(half)["error"]
        self.assertEqual((error["error_type"], error["retryable"]), ("serialization_error", False))
        self.assertIn("result.a[0].b: text with '\\ud800'", error["message"])

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


if __name__ == "__main__":
    unittest.main()

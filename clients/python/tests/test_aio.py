"""The asyncio client against a daemon scripted by the test."""

import asyncio
import threading
import unittest

import support
from support import PATIENCE
from test_client import TASK, task

from taskerd import AsyncTaskerClient
from taskerd import exceptions as ex


class AioCase(support.TestCase):
    def serve(self, answers, **changes):
        def script(daemon):
            conn = daemon.accept()
            conn.hello(**changes)
            conn.serve_requests(answers)

        self.daemon.play(script)

    def run_with(self, body, **options):
        async def main():
            async with AsyncTaskerClient(socket=self.daemon.path, **options) as client:
                return await asyncio.wait_for(body(client), PATIENCE)

        result = asyncio.run(main())
        self.daemon.finish()
        return result


class Calls(AioCase):
    def test_requests(self):
        self.serve({
            "task.create": lambda p: {"task_uuid": TASK, "created": True, "state": "pending"},
            "task.get": lambda p: task(),
            "task.history": lambda p: {"attempts": [{"step": "one", "step_uuid": "s-1", "attempt": 1, "outcome": "success"}]},
            "task.list": lambda p: {"tasks": [task()], "next_cursor": None if p.get("cursor") else "c"},
            "task.wait": lambda p: {"task_uuid": TASK, "state": "complete", "settled": True, "finished": True},
            "task.cancel": lambda p: {"code": "conflict", "message": "finished"},
            "template.apply": lambda p: {"name": "t"},
            "template.validate": lambda p: {"ok": True, "findings": []},
            "template.list": lambda p: {"templates": [1]},
            "template.get": lambda p: p,
            "server.info": lambda p: {"database": {"state": "ready"}},
            "worker.list": lambda p: {"workers": [1]},
            "node.list": lambda p: {"nodes": [2]},
            "queue.list": lambda p: {"queues": [3]},
            "doctor": lambda p: {"ok": True},
            "ping": lambda p: {},
        })  # fmt: skip

        async def body(client):
            self.assertEqual((await client.create_task("t", context={"a": 1})).task_uuid, TASK)
            self.assertEqual((await client.get_task(TASK)).step("one").results, {"n": 1})
            self.assertEqual((await client.get_step(TASK, "two")).name, "two")
            with self.assertRaises(ex.NotFoundError):
                await client.get_step(TASK, "three")
            self.assertEqual(len(await client.list_task_steps(TASK)), 2)
            self.assertTrue((await client.get_step_audit_history(TASK, "one"))[0].success)
            self.assertEqual(len((await client.list_tasks(offset=1)).tasks), 1)
            self.assertEqual(len([t async for t in client.iter_tasks()]), 2)
            self.assertTrue((await client.wait(TASK)).settled)
            self.assertEqual((await client.wait_for_task(TASK, timeout=PATIENCE)).state, "complete")
            with self.assertRaises(ex.ConflictError):
                await client.cancel_task(TASK)
            self.assertEqual((await client.apply_template("x"))["name"], "t")
            self.assertTrue((await client.validate_template("x"))["ok"])
            self.assertEqual(await client.list_templates(), [1])
            self.assertEqual((await client.get_template("t", version="1"))["version"], "1")
            self.assertTrue((await client.health_check()).healthy)
            self.assertEqual(await client.list_workers() + await client.list_nodes() + await client.list_queues(), [1, 2, 3])
            self.assertTrue((await client.doctor())["ok"])
            self.assertIn("database", await client.server_info())
            self.assertGreater(await client.ping(), 0)
            with self.assertRaises(ex.InvalidValueError):
                await client.create_task("t", context={"a": b"x"})

        self.run_with(body)

    def test_answers_in_any_order(self):
        def script(daemon):
            conn = daemon.accept()
            conn.hello()
            held = [conn.expect("server.info") for _ in range(8)]
            for ident, params in reversed(held):
                conn.answer(ident, params)
            conn.expect("goodbye")

        self.daemon.play(script)

        async def body(client):
            return await asyncio.gather(*[client.request("server.info", {"n": i}) for i in range(8)])

        self.assertEqual(self.run_with(body), [{"n": i} for i in range(8)])

    def test_bulk(self):
        sizes = []

        def create_many(params):
            sizes.append(len(params["tasks"]))
            return {"results": [{"task_uuid": "u%d" % t["context"]["n"], "created": True, "state": "pending"} for t in params["tasks"]]}

        self.serve({"task.create_many": create_many}, limits={**support.LIMITS, "max_bulk": 7})
        tasks = [{"name": "t", "context": {"n": i}} for i in range(50)]
        tasks[3]["context"]["bad"] = float("nan")

        async def body(client):
            return await client.create_tasks(tasks)

        got = self.run_with(body)
        self.assertIsInstance(got[3].error, ex.InvalidValueError)
        self.assertEqual([o.task_uuid for i, o in enumerate(got) if i != 3], ["u%d" % i for i in range(50) if i != 3])
        self.assertEqual(sizes, [7] * 7)


class Connection(AioCase):
    def test_reading_is_repeated_creating_is_not(self):
        def script(daemon):
            for method in ("task.create", "task.get"):
                conn = daemon.accept()
                conn.hello()
                conn.expect(method)
                conn.close()
            conn = daemon.accept()
            conn.hello()
            conn.serve_requests({"task.get": lambda p: task()})

        self.daemon.play(script)

        async def body(client):
            with self.assertRaises(ex.ConnectionLostError) as caught:
                await client.create_task("t")
            self.assertTrue(caught.exception.sent)
            self.assertEqual((await client.get_task(TASK)).state, "complete")

        self.run_with(body)

    def test_shutting_down_is_tried_on_a_new_connection(self):
        def script(daemon):
            first = daemon.accept()
            first.hello()
            ident, _ = first.expect("ping")
            first.refuse(ident, "shutting_down")
            second = daemon.accept()
            second.hello()
            second.serve_requests({"ping": lambda p: {}})
            first.expect("goodbye")

        self.daemon.play(script)

        async def body(client):
            await client.ping()

        self.run_with(body)

    def test_refusals(self):
        def script(daemon):
            conn = daemon.accept()
            ident, _ = conn.expect("hello")
            conn.refuse(ident, "unsupported_version")
            conn.expect_end()

        self.daemon.play(script)

        async def body(client):
            with self.assertRaises(ex.UnsupportedVersionError):
                await client.ping()

        self.run_with(body)

    def test_no_daemon(self):
        self.daemon.listener.close()

        async def body(client):
            with self.assertRaises(ex.ConnectionLostError):
                await client.ping()

        self.run_with(body, connect_timeout=0)

    def test_no_answer_in_time_and_broken_bytes(self):
        def script(daemon):
            conn = daemon.accept()
            conn.hello()
            conn.expect("doctor")
            conn.expect("task.cancel")
            conn.sock.sendall(b"\x00\x00\x00\x00")
            conn.expect_end()

        self.daemon.play(script)

        async def body(client):
            with self.assertRaises(ex.RequestTimeoutError):
                await client.request("doctor", timeout=0.05)
            with self.assertRaises(ex.ProtocolError):
                await client.cancel_task(TASK)

        self.run_with(body)


class Watching(AioCase):
    def test_watch_over_a_lost_connection(self):
        go = threading.Event()

        def script(daemon):
            conn = daemon.accept()
            conn.hello()
            ident, _ = conn.expect("task.watch")
            conn.send([1, ident, None, task("pending")],
                      [2, "task.event", {"task_uuid": TASK, "events": [{"kind": "step", "state": "enqueued"}]}])  # fmt: skip
            go.wait(PATIENCE)
            conn.close()
            conn = daemon.accept()
            conn.hello()
            ident, _ = conn.expect("task.watch")
            conn.send([1, ident, None, task("steps_in_process")],
                      [2, "task.event", {"task_uuid": TASK, "events": [{"kind": "task", "state": "error"}]}])  # fmt: skip
            conn.expect("goodbye")

        self.daemon.play(script)

        async def body(client):
            seen = []
            async for event in client.watch(TASK):
                seen.append(event["state"])
                if len(seen) == 2:
                    go.set()
            return seen

        self.assertEqual(self.run_with(body), ["pending", "enqueued", "steps_in_process", "error"])

    def test_a_watch_that_is_left(self):
        def script(daemon):
            conn = daemon.accept()
            conn.hello()
            ident, _ = conn.expect("task.watch")
            conn.answer(ident, task("pending"))
            ident, _ = conn.expect("task.unwatch")
            conn.answer(ident, {})
            ident, _ = conn.expect("task.watch")
            conn.refuse(ident, "not_found")
            conn.expect("goodbye")

        self.daemon.play(script)

        async def body(client):
            async with client.watch(TASK) as watch:
                await watch.__anext__()
            with self.assertRaises(ex.NotFoundError):
                async for _ in client.watch(TASK):
                    self.fail("an event of nothing")
            self.assertEqual(client._watches, {})

        self.run_with(body)


if __name__ == "__main__":
    unittest.main()

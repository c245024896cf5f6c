"""The blocking client against a daemon scripted by the test."""

import os
import signal
import threading
import unittest
import uuid
from unittest import mock

import support
from support import PATIENCE

from taskerd import TaskerClient, socket_path
from taskerd import exceptions as ex
from taskerd._transport import Backoff

TASK = str(uuid.UUID(int=77))


def task(state="complete", **more):
    return {
        "task_uuid": TASK, "namespace": "default", "name": "t", "version": "1.0.0", "state": state, "status": state,
        "created_at": "2026-01-02T03:04:05.000000Z", "updated_at": "2026-01-02T03:04:06.000000Z", "finished_at": None,
        "context": {"a": 1}, "tags": ["x"], "priority": 0, "total_steps": 2, "completed_steps": 1,
        "completion_percentage": 50.0, "unheard_of": 1,
        "steps": [
            {"step_uuid": "s-1", "name": "one", "state": "complete", "attempts": 1, "max_attempts": 3,
             "depends_on": [], "handler": "h", "result": {"n": 1}, "error": None},
            {"step_uuid": "s-2", "name": "two", "state": "pending", "attempts": 0, "max_attempts": 3,
             "depends_on": ["one"], "handler": "h", "retry_at": None, "result": None, "error": None},
        ],
        **more,
    }  # fmt: skip


class ClientCase(support.TestCase):
    def client(self, **options):
        client = TaskerClient(socket=self.daemon.path, **options)
        self.addCleanup(client.close)
        return client

    def serve(self, answers, connections=1, **changes):
        """Answer requests on so many connections, one after the other."""

        def script(daemon):
            for _ in range(connections):
                conn = daemon.accept()
                conn.hello(**changes)
                conn.serve_requests(answers)

        self.daemon.play(script)

    def done(self, client):
        client.close()
        self.daemon.finish()


class Calls(ClientCase):
    def test_create_task(self):
        seen = []

        def create(params):
            seen.append(params)
            return {"task_uuid": TASK, "created": True, "state": "pending"}

        self.serve({"task.create": create})
        client = self.client(initiator="me", source_system="tests")
        got = client.create_task("t", context={"when": uuid.UUID(int=1)}, priority=5, tags=["a"])
        self.assertEqual((got.task_uuid, got.status, got.created, got.name), (TASK, "pending", True, "t"))
        client.create_task("t", namespace="n", version="2.0.0", reason=None, idempotency_key="k")
        self.assertEqual(
            seen[0],
            {"name": "t", "namespace": "default", "context": {"when": str(uuid.UUID(int=1))}, "reason": "Task requested",
             "initiator": "me", "source_system": "tests", "priority": 5, "tags": ["a"]},
        )  # fmt: skip
        self.assertEqual(
            seen[1],
            {"name": "t", "namespace": "n", "version": "2.0.0", "initiator": "me", "source_system": "tests",
             "idempotency_key": "k"},
        )  # fmt: skip
        self.done(client)

    def test_values_outside_the_model_are_refused_here(self):
        self.serve({"ping": lambda p: {}})
        client = self.client()
        with self.assertRaises(ex.InvalidValueError) as caught:
            client.create_task("t", context={"a": [{"b": float("inf")}]})
        self.assertEqual(caught.exception.path, "context.a[0].b")
        client.ping()
        self.done(client)

    def test_reading(self):
        history = {"transitions": [], "attempts": [
            {"step": "one", "step_uuid": "s-1", "attempt": 1, "outcome": "success", "worker_uuid": "w",
             "recorded_at": "r", "execution_ms": 1.5, "audit_uuid": "u"},
            {"step": "two", "step_uuid": "s-2", "attempt": 1, "outcome": "timeout"},
        ]}  # fmt: skip
        self.serve({"task.get": lambda p: task(), "task.history": lambda p: history})
        client = self.client()
        got = client.get_task(uuid.UUID(TASK))
        self.assertEqual((got.status, got.context, got.total_steps, got.finished), ("complete", {"a": 1}, 2, True))
        self.assertEqual(got.step("one").results, {"n": 1})
        two = client.get_step(TASK, "two")
        self.assertEqual((two.current_state, two.total_parents, two.completed_parents), ("pending", 1, 1))
        self.assertTrue(two.dependencies_satisfied and two.ready_for_execution and two.retry_eligible)
        self.assertEqual(client.get_step(TASK, "s-1").name, "one")
        self.assertEqual([s.name for s in client.list_task_steps(TASK)], ["one", "two"])
        with self.assertRaises(ex.NotFoundError):
            client.get_step(TASK, "three")
        (row,) = client.get_step_audit_history(TASK, "s-1")
        self.assertEqual((row.success, row.execution_time_ms, row.step_name, row.audit_uuid), (True, 1.5, "one", "u"))
        self.done(client)

    def test_lists(self):
        rows = [{**task(), "task_uuid": "t%d" % i} for i in range(7)]
        seen = []

        def listing(params):
            seen.append(params)
            start = int(params.get("cursor") or 0)
            end = min(start + params["limit"], 7)
            return {"tasks": rows[start:end], "next_cursor": str(end) if end < 7 else None}

        self.serve({"task.list": listing})
        client = self.client()
        page = client.list_tasks(limit=3, status="complete", namespace="n", name="t")
        self.assertEqual([t.task_uuid for t in page.tasks], ["t0", "t1", "t2"])
        self.assertEqual(seen[0], {"limit": 3, "state": "complete", "namespace": "n", "name": "t"})
        self.assertTrue(page.pagination.has_next and not page.pagination.has_previous)
        page = client.list_tasks(limit=3, cursor=page.pagination.next_cursor)
        self.assertEqual([t.task_uuid for t in page.tasks], ["t3", "t4", "t5"])
        page = client.list_tasks(limit=3, offset=6)
        self.assertEqual(([t.task_uuid for t in page.tasks], page.pagination.page), (["t6"], 3))
        self.assertFalse(page.pagination.has_next)
        self.assertEqual((page.pagination.total_count, page.pagination.total_pages), (7, 3))
        page = client.list_tasks(limit=4, cursor=client.list_tasks(limit=4).pagination.next_cursor)
        self.assertEqual((page.pagination.has_next, page.pagination.total_count), (False, None))
        page = client.list_tasks(limit=3, offset=99)
        self.assertEqual((page.tasks, page.pagination.total_count), ([], None))
        self.assertEqual(len(list(client.iter_tasks())), 7)
        self.done(client)

    def test_the_rest(self):
        info = {"server": "taskerd/0.1.0", "database": {"state": "ready"}}
        self.serve({
            "task.cancel": lambda p: task("cancelled"),
            "template.apply": lambda p: {"name": "t", "strict": p.get("strict")},
            "template.validate": lambda p: {"ok": False, "findings": [{}]},
            "template.list": lambda p: {"templates": [p]},
            "template.get": lambda p: p,
            "server.info": lambda p: info,
            "worker.list": lambda p: {"workers": [1]},
            "node.list": lambda p: {"nodes": [2]},
            "queue.list": lambda p: {"queues": [3]},
            "doctor": lambda p: {"ok": True, "checks": []},
            "ping": lambda p: {},
        })  # fmt: skip
        client = self.client()
        self.assertEqual(client.cancel_task(TASK, "why")["cancelled"], True)
        self.assertEqual(client.apply_template("x", strict=True)["strict"], True)
        self.assertFalse(client.validate_template("x")["ok"])
        self.assertEqual(client.list_templates("n"), [{"namespace": "n"}])
        self.assertEqual(client.get_template("t"), {"namespace": "default", "name": "t"})
        self.assertTrue(client.health_check().healthy)
        info["database"]["state"] = "up"
        self.assertTrue(client.health_check().healthy)
        info["database"]["state"] = "down"
        self.assertFalse(client.health_check().healthy)
        self.assertEqual((client.list_workers(), client.list_nodes(), client.list_queues()), ([1], [2], [3]))
        self.assertTrue(client.doctor()["ok"])
        self.assertEqual(client.server_info()["server"], "taskerd/0.1.0")
        self.assertGreater(client.ping(), 0)
        self.done(client)

    def test_every_error_code_has_its_exception(self):
        cases = {
            "protocol_error": ex.ProtocolError, "unsupported_version": ex.UnsupportedVersionError,
            "unknown_method": ex.UnknownMethodError, "bad_request": ex.BadRequestError,
            "invalid_value": ex.InvalidValueError, "too_large": ex.TooLargeError, "not_found": ex.NotFoundError,
            "template_not_found": ex.TemplateNotFoundError, "invalid_context": ex.InvalidContextError, "invalid_template": ex.InvalidTemplateError,
            "conflict": ex.ConflictError, "permission_denied": ex.PermissionDeniedError,
            "overloaded": ex.OverloadedError, "database_unavailable": ex.DatabaseUnavailableError,
            "internal": ex.InternalError, "later_code": ex.TaskerdError,
        }  # fmt: skip
        queue = list(cases)
        self.serve({"doctor": lambda p: {"code": queue.pop(0), "message": "m", "path": "a.b", "retry_after_ms": 1500}})
        client = self.client()
        for code, cls in cases.items():
            with self.assertRaises(ex.TaskerdError) as caught:
                client.doctor()
            self.assertIs(type(caught.exception), cls)
            e = caught.exception
            self.assertEqual((e.code, e.path, e.retry_after), (code, "a.b", 1.5))
            self.assertEqual(e.retryable, code in ("overloaded", "database_unavailable"))
        self.done(client)

    def test_threads_share_the_connection_and_answers_come_in_any_order(self):
        def script(daemon):
            conn = daemon.accept()
            conn.hello()
            held = [conn.expect("server.info") for _ in range(8)]
            for ident, params in reversed(held):
                conn.answer(ident, params)
            conn.expect("goodbye")

        self.daemon.play(script)
        client, got = self.client(), {}

        def ask(n):
            got[n] = client.request("server.info", {"n": n})["n"]

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(PATIENCE)
        self.assertEqual(got, {i: i for i in range(8)})
        self.done(client)

    def test_a_request_over_the_frame_limit_is_refused_here(self):
        self.serve({"ping": lambda p: {}}, limits={**support.LIMITS, "max_frame": 65536, "max_items": 5000})
        client = self.client()
        with self.assertRaises(ex.TooLargeError) as caught:
            client.create_task("t", context={"x": "y" * 70000})
        self.assertEqual(caught.exception.details["limit"], "max_frame")
        with self.assertRaises(ex.TooLargeError) as caught:
            client.create_task("t", context={"x": list(range(6000))})
        self.assertEqual(caught.exception.details["limit"], "max_items")
        client.ping()
        self.done(client)


class Bulk(ClientCase):
    def serve_bulk(self, sizes, connections=1, answer=None, **changes):
        def create_many(params):
            sizes.append(len(params["tasks"]))
            return {"results": [(answer or self.accept)(t) for t in params["tasks"]]}

        self.serve({"task.create_many": create_many}, connections, **changes)

    def accept(self, t):
        return {"task_uuid": "u%d" % t["context"]["n"], "created": True, "state": "pending"}

    def tasks(self, count, **more):
        return ({"name": "t", "context": {"n": i, **more}} for i in range(count))

    def test_chunks_by_count(self):
        sizes = []
        self.serve_bulk(sizes, limits={**support.LIMITS, "max_bulk": 100})
        client = self.client()
        got = client.create_tasks(self.tasks(950))
        self.assertEqual([o.task_uuid for o in got], ["u%d" % i for i in range(950)])
        self.assertTrue(all(o.ok and o.created for o in got))
        self.assertEqual(sizes, [100] * 9 + [50])
        self.assertEqual(client.create_tasks([]), [])
        self.done(client)

    def test_chunks_by_size(self):
        sizes = []
        self.serve_bulk(sizes, limits={**support.LIMITS, "max_frame": 65536})
        client = self.client()
        got = client.create_tasks(self.tasks(40, pad="x" * 5000))
        self.assertTrue(all(o.ok for o in got))
        self.assertEqual(sum(sizes), 40)
        self.assertLessEqual(max(sizes), 13)
        self.done(client)

    def test_each_task_stands_alone(self):
        def answer(t):
            if t["context"]["n"] == 1:
                return {"error": {"code": "conflict", "message": "taken"}}
            return self.accept(t)

        self.serve_bulk([], answer=answer, limits={**support.LIMITS, "max_frame": 65536})
        client = self.client()
        tasks = list(self.tasks(5))
        tasks[2]["context"]["bad"] = b"bytes"
        tasks[3]["context"]["large"] = "x" * 70000
        got = client.create_tasks(tasks)
        self.assertEqual([type(o.error) for o in got],
                         [type(None), ex.ConflictError, ex.InvalidValueError, ex.TooLargeError, type(None)])  # fmt: skip
        self.done(client)

    def test_a_lost_connection_in_the_middle(self):
        def script(daemon):
            conn = daemon.accept()
            conn.hello(limits={**support.LIMITS, "max_bulk": 10})
            ident, params = conn.expect("task.create_many")
            conn.answer(ident, {"results": [self.accept(t) for t in params["tasks"]]})
            conn.expect("task.create_many")
            conn.expect("task.create_many")
            conn.close()
            conn = daemon.accept()
            conn.hello(limits={**support.LIMITS, "max_bulk": 10})
            conn.serve_requests({"task.create_many": lambda p: {"results": [self.accept(t) for t in p["tasks"]]}})

        self.daemon.play(script)
        client = self.client()
        tasks = list(self.tasks(30))
        for t in tasks[20:]:
            t["idempotency_key"] = "k%d" % t["context"]["n"]
        got = client.create_tasks(tasks)
        self.assertTrue(all(o.ok for o in got[:10]))
        # Nobody knows whether the second ten exist; the third ten can be sent again.
        self.assertTrue(all(isinstance(o.error, ex.ConnectionLostError) and o.error.sent for o in got[10:20]))
        self.assertTrue(all(o.ok for o in got[20:]))
        self.done(client)

    def test_a_daemon_that_stops_answers_on_a_new_connection(self):
        def script(daemon):
            conn = daemon.accept()
            conn.hello()
            ident, _ = conn.expect("task.create_many")
            conn.refuse(ident, "shutting_down")
            conn = daemon.accept()
            conn.hello()
            conn.serve_requests({"task.create_many": lambda p: {"results": [self.accept(t) for t in p["tasks"]]}})

        self.daemon.play(script)
        client = self.client()
        self.assertTrue(all(o.ok for o in client.create_tasks(self.tasks(3))))
        self.done(client)


class Following(ClientCase):
    def test_wait(self):
        answers = [{"task_uuid": TASK, "state": "steps_in_process", "settled": False, "finished": False},
                   {"task_uuid": TASK, "state": "complete", "settled": True, "finished": True}]  # fmt: skip
        seen = []

        def wait(params):
            seen.append(params["timeout_ms"])
            return answers[min(len(seen) - 1, 1)]

        self.serve({"task.wait": wait, "task.get": lambda p: task()})
        client = self.client()
        self.assertEqual(client.wait_for_task(TASK, timeout=3600).state, "complete")
        self.assertEqual(seen, [60000, 60000])
        answers[1] = answers[0]
        result = client.wait(TASK, timeout=0)
        self.assertEqual((result.state, result.settled), ("steps_in_process", False))
        with self.assertRaises(ex.RequestTimeoutError):
            client.wait_for_task(TASK, timeout=0)
        self.done(client)

    def test_watch(self):
        def event(state, kind="task"):
            return {"kind": kind, "state": state, "at": "x"}

        def script(daemon):
            conn = daemon.accept()
            conn.hello()
            ident, params = conn.expect("task.watch")
            conn.send(
                [1, ident, None, task("pending")],
                [2, "task.event", {"task_uuid": TASK, "events": [event("steps_in_process"), event("enqueued", "step")]}],
                [2, "task.event", {"task_uuid": "other", "events": [event("complete")]}],
            )
            daemon.go.wait(PATIENCE)
            conn.close()
            conn = daemon.accept()
            conn.hello()
            ident, params = conn.expect("task.watch")
            conn.send([1, ident, None, task("waiting_for_retry")],
                      [2, "task.event", {"task_uuid": TASK, "events": [event("complete", "step"), event("complete")]}])  # fmt: skip
            conn.expect("goodbye")

        self.daemon.go = threading.Event()
        self.daemon.play(script)
        client = self.client()
        seen = []
        with client.watch(TASK) as watch:
            self.assertEqual(watch.task.state, "pending")
            for e in watch:
                seen.append((e["kind"], e["state"]))
                if len(seen) == 3:
                    self.daemon.go.set()
        self.assertEqual(seen, [("task", "pending"), ("task", "steps_in_process"), ("step", "enqueued"),
                                ("task", "waiting_for_retry"), ("step", "complete"), ("task", "complete")])  # fmt: skip
        self.assertTrue(watch.finished)
        self.done(client)

    def test_a_watch_that_is_left(self):
        def script(daemon):
            conn = daemon.accept()
            conn.hello()
            ident, _ = conn.expect("task.watch")
            conn.answer(ident, task("pending"))
            ident, params = conn.expect("task.unwatch")
            self.assertEqual(params, {"task_uuid": TASK})
            conn.answer(ident, {})
            ident, _ = conn.expect("task.watch")
            conn.answer(ident, task("cancelled"))
            conn.expect("goodbye")

        self.daemon.play(script)
        client = self.client()
        with client.watch(TASK) as watch:
            self.assertEqual(next(watch)["state"], "pending")
            self.assertIsNone(watch.next(timeout=0))
        self.assertEqual([e["state"] for e in client.watch(TASK)], ["cancelled"])
        self.done(client)

    def test_watching_what_does_not_exist(self):
        self.serve({"task.watch": lambda p: {"code": "not_found", "message": "no such task"}})
        client = self.client()
        with self.assertRaises(ex.NotFoundError):
            client.watch(TASK)
        self.assertEqual(client._watches, {})
        self.done(client)


class Connection(ClientCase):
    def test_reading_is_repeated_after_a_lost_connection(self):
        def script(daemon):
            conn = daemon.accept()
            conn.hello()
            conn.expect("task.get")
            conn.close()
            conn = daemon.accept()
            conn.hello()
            conn.serve_requests({"task.get": lambda p: task()})

        self.daemon.play(script)
        client = self.client()
        self.assertEqual(client.get_task(TASK).state, "complete")
        self.done(client)

    def test_creating_is_not_repeated_unless_it_has_a_key(self):
        created = []

        def create(params):
            created.append(params.get("idempotency_key"))
            return {"task_uuid": TASK, "created": True, "state": "pending"}

        def script(daemon):
            for _ in range(2):
                conn = daemon.accept()
                conn.hello()
                conn.expect("task.create")
                conn.close()
            conn = daemon.accept()
            conn.hello()
            conn.serve_requests({"task.create": create})

        self.daemon.play(script)
        client = self.client()
        with self.assertRaises(ex.ConnectionLostError) as caught:
            client.create_task("t")
        self.assertTrue(caught.exception.sent)
        client.create_task("t", idempotency_key="k")
        self.assertEqual(created, ["k"])
        self.done(client)

    def test_no_daemon(self):
        self.daemon.listener.close()
        with self.assertRaises(ex.ConnectionLostError) as caught:
            self.client(connect_timeout=0).ping()
        self.assertFalse(caught.exception.sent)
        self.assertTrue(caught.exception.retryable)
        self.assertIn(self.daemon.path, str(caught.exception))

    def test_a_daemon_that_comes_later(self):
        self.daemon.listener.close()
        client = self.client()
        got = []
        thread = threading.Thread(target=lambda: got.append(client.ping()))
        thread.start()
        self.daemon.listen()
        self.serve({"ping": lambda p: {}})
        thread.join(PATIENCE)
        self.assertEqual(len(got), 1)
        self.done(client)

    def test_a_refused_handshake(self):
        def script(daemon):
            conn = daemon.accept()
            ident, _ = conn.expect("hello")
            conn.refuse(ident, "unsupported_version", details={"server": [2, 0]})

        self.daemon.play(script)
        with self.assertRaises(ex.UnsupportedVersionError):
            self.client().ping()

    def test_no_answer_in_time(self):
        def script(daemon):
            conn = daemon.accept()
            conn.hello()
            ident, _ = conn.expect("doctor")
            daemon.go.wait(PATIENCE)
            conn.answer(ident, {"late": True})
            conn.serve_requests({"ping": lambda p: {}})

        self.daemon.go = threading.Event()
        self.daemon.play(script)
        client = self.client()
        with self.assertRaises(ex.RequestTimeoutError):
            client.request("doctor", timeout=0.05)
        self.daemon.go.set()
        client.ping()
        self.done(client)

    def test_a_protocol_error_is_told_to_whoever_waits(self):
        def script(daemon):
            conn = daemon.accept()
            conn.hello()
            conn.expect("task.cancel")
            conn.send([2, "error", {"code": "protocol_error", "message": "the frame is broken"}])
            conn.close()

        self.daemon.play(script)
        with self.assertRaises(ex.ProtocolError) as caught:
            self.client().cancel_task(TASK)
        self.assertIn("the frame is broken", str(caught.exception))

    def test_broken_bytes_from_the_daemon(self):
        def script(daemon):
            conn = daemon.accept()
            conn.hello()
            conn.expect("task.cancel")
            conn.sock.sendall(b"\x00\x00\x00\x02\xc1\xc1")
            conn.expect_end()

        self.daemon.play(script)
        with self.assertRaises(ex.ProtocolError):
            self.client().cancel_task(TASK)
        self.daemon.finish()

    def test_shutting_down_is_tried_on_a_new_connection(self):
        def script(daemon):
            conn = daemon.accept()
            conn.hello()
            ident, _ = conn.expect("task.create")
            conn.refuse(ident, "shutting_down")
            conn = daemon.accept()
            conn.hello()
            conn.serve_requests({"task.create": lambda p: {"task_uuid": TASK, "created": True, "state": "pending"}})

        self.daemon.play(script)
        client = self.client()
        self.assertTrue(client.create_task("t").created)
        self.done(client)

    def test_a_closed_client(self):
        client = self.client()
        client.close()
        client.close()
        with self.assertRaises(ex.ConnectionLostError):
            client.ping()

    def test_a_fork_gets_its_own_connection(self):
        def script(daemon):
            first = daemon.accept()
            first.hello()
            ident, _ = first.expect("ping")
            first.answer(ident, {})
            second = daemon.accept()
            daemon.child_pid = second.hello()["pid"]
            ident, _ = second.expect("ping")
            second.answer(ident, {})
            second.expect_end()
            ident, _ = first.expect("ping")
            first.answer(ident, {})
            first.expect("goodbye")

        self.daemon.play(script)
        client = self.client()
        client.ping()
        with client._lock:  # as if another thread were just connecting
            child = os.fork()
            if child == 0:
                signal.alarm(int(PATIENCE))
                try:
                    client.ping()
                    os._exit(0)
                except BaseException:
                    os._exit(1)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        client.ping()
        self.assertEqual(self.daemon.child_pid, child)
        self.done(client)


class Finding(unittest.TestCase):
    def test_socket_path(self):
        with mock.patch.dict(os.environ, clear=True):
            self.assertEqual(socket_path(), "/run/taskerd/taskerd.sock")
            os.environ["XDG_RUNTIME_DIR"] = "/nonexistent"
            self.assertEqual(socket_path(), "/run/taskerd/taskerd.sock")
            with support.tempfile.TemporaryDirectory() as directory:
                os.environ["XDG_RUNTIME_DIR"] = directory
                os.mkdir(directory + "/taskerd")
                path = directory + "/taskerd/taskerd.sock"
                open(path, "w").close()
                self.assertEqual(socket_path(), path)
                os.environ["TASKERD_SOCKET"] = "/named"
                self.assertEqual(socket_path(), "/named")
                self.assertEqual(socket_path("/given"), "/given")

    def test_backoff(self):
        with mock.patch("random.uniform", side_effect=lambda low, high: (low, high)[1]):
            backoff = Backoff()
            self.assertEqual([round(backoff.next(), 1) for _ in range(9)], [0.1, 0.2, 0.4, 0.8, 1.6, 2, 2, 2, 2])
            self.assertEqual(backoff.next(at_least=12), 12)
            backoff.reset()
            self.assertEqual(backoff.next(), 0.1)
        self.assertTrue(all(0 <= Backoff().next() <= 0.1 for _ in range(100)))


if __name__ == "__main__":
    unittest.main()

"""The worker against a daemon scripted by the test: lost connections, the end, templates, one per process."""

import os
import threading
import unittest

import support
from support import PATIENCE, step, wait_until
from test_worker import Importable
from workers import Gate, WorkerCase, echo, setUpModule, tearDownModule  # noqa: F401

from taskerd import BootstrapConfig, HandlerRegistry, Worker, WorkerBootstrapError, WorkerState, bootstrap
from taskerd.exceptions import InvalidTemplateError, UnsupportedVersionError, WorkerNotInitializedError
from taskerd.step_handler.functional import depends_on, step_handler


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
                    "findings": [{"severity": "warning", "file": params["filename"], "line": 9, "key": "colour", "message": "unknown key"}]}  # fmt: skip

        def get(params):
            steps = [{"name": "one", "handler": {"callable": Importable.__module__ + ".Importable"}},
                     {"name": "two", "handler": {"callable": "elsewhere"}}]  # fmt: skip
            return {**params, "steps": steps}

        self.serve({"template.apply": apply, "template.get": get})
        worker = self.worker(echo, templates=directory)
        launch = threading.Thread(target=worker.launch)
        with self.assertLogs("taskerd", "WARNING") as logged:
            launch.start()
            self.daemon.threads[0].join(PATIENCE)
        self.assertIn(f"template {directory}/a.yaml:9: warning: colour: unknown key", [r.getMessage() for r in logged.records])
        conn = self.daemon.accept()
        self.assertEqual(conn.hello()["worker"]["handlers"], ["echo", Importable.__module__ + ".Importable"])
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
        worker = Worker.start(config=BootstrapConfig(worker_id="w9", namespace="shop"), socket=self.daemon.path)
        self.assertIs(Worker.start(), worker)
        self.assertIs(Worker.instance(), worker)
        self.assertEqual(worker.bootstrap_result.status, "started")
        self.assertEqual(bootstrap.bootstrap_worker().status, "already_running")
        self.assertTrue(bootstrap.is_worker_running() and bootstrap.get_worker_status().running)
        self.assertEqual(bootstrap.stop_worker(PATIENCE), "stopped")
        self.daemon.finish()
        self.assertEqual((self.daemon.params["worker"]["name"], self.daemon.params["worker"]["namespaces"]), ("w9", ["shop"]))

    def test_handlers_registered_after_the_start(self):
        self.addCleanup(HandlerRegistry.reset_instance)
        self.addCleanup(Worker.reset_instance)
        Worker.reset_instance()
        HandlerRegistry.reset_instance()
        offered = []

        def script(daemon):
            conn = daemon.accept()
            offered.append(conn.hello()["worker"]["handlers"])
            begun.set()
            conn = daemon.accept()
            offered.append(conn.hello()["worker"]["handlers"])
            done.set()
            conn.expect("worker.update")
            conn.expect("goodbye")

        begun, done = threading.Event(), threading.Event()
        self.daemon.play(script)
        with Worker.start(socket=self.daemon.path):
            self.assertTrue(begun.wait(PATIENCE))
            HandlerRegistry.instance().register("echo", echo._handler_class)
            self.assertTrue(done.wait(PATIENCE))
        self.daemon.finish()
        self.assertEqual(offered, [[], ["echo"]])

    def test_failures_are_told(self):
        self.addCleanup(HandlerRegistry.reset_instance)
        Worker.reset_instance()
        HandlerRegistry.reset_instance()
        result = bootstrap.bootstrap_worker(socket=self.daemon.path, templates="/nowhere")
        self.assertFalse(result.success)
        self.assertIn("/nowhere", result.error_message)
        with self.assertRaises(WorkerBootstrapError):
            Worker.start(socket=self.daemon.path, templates="/nowhere")
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

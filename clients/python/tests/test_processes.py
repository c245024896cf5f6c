"""Several worker processes, modules that cannot be imported, and what handlers log."""

import os
import signal
import unittest

from commandline import CliCase
from support import step

HANDLERS = """
    import os, logging
    from taskerd.step_handler.functional import step_handler

    @step_handler("pid")
    def pid():
        return {"pid": os.getpid()}

    @step_handler("crash")
    def crash():
        os.kill(os.getpid(), 9)

    @step_handler("logs")
    def logs(context):
        logging.getLogger("shop").warning("only %d left", 3)
        logging.getLogger("shop").debug("not this")
        return {}
"""


class ManyCase(CliCase):
    def setUp(self):
        super().setUp()
        self.write("many.py", HANDLERS)


class Processes(ManyCase):
    def started(self, count, *more):
        process = self.run_cli("worker", "many", "--processes", str(count), "--name", "w", *more)
        conns = [self.daemon.accept() for _ in range(count)]
        for conn in conns:
            conn.params = conn.hello()
        return process, conns

    def test_each_is_a_worker_of_its_own_and_sigterm_drains_all(self):
        process, conns = self.started(2, "--threads", "1")
        self.assertEqual({c.params["worker"]["name"] for c in conns}, {"w.1", "w.2"})
        pids = set()
        for i, conn in enumerate(conns):
            conn.execute(step("pid", i + 1))
            (result,) = conn.results(1)
            pids.add(result["result"]["pid"])
            self.assertEqual(result["result"]["pid"], conn.params["pid"])
            conn.ack([result])
        self.assertEqual(len(pids | {process.pid}), 3)
        process.send_signal(signal.SIGTERM)
        for conn in conns:
            self.drain(conn)
        status, _, err = self.end(process)
        self.assertEqual(status, 0, err)

    def test_a_crash_ends_one_process_which_is_replaced(self):
        process, (first, second) = self.started(2)
        first.execute(step("crash", 1))
        first.expect_end()
        third = self.daemon.accept()
        params = third.hello()
        self.assertEqual(params["worker"]["name"], first.params["worker"]["name"])
        second.execute(step("pid", 2))
        self.assertEqual(second.results(1)[0]["result"]["pid"], second.params["pid"])
        second.ack([{"step_uuid": step("pid", 2)["step_uuid"], "attempt": 1}])
        process.send_signal(signal.SIGTERM)
        for conn in (second, third):
            self.drain(conn)
        status, _, err = self.end(process)
        self.assertEqual(status, 0, err)
        self.assertIn("ended by signal 9", err)

    def test_a_signal_while_children_are_started(self):
        child = "import os, signal, socket; signal.signal(signal.SIGTERM, signal.SIG_IGN); socket.socket(fileno=int(os.environ['TASKERD_WORKER_LIFELINE'])).recv(1)"
        self.write(
            "early.py",
            f"""
            import os, signal, subprocess, sys
            from taskerd._processes import Supervisor

            popen = subprocess.Popen

            def struck(*args, **kwargs):
                process = popen(*args, **kwargs)
                subprocess.Popen = popen
                os.kill(os.getpid(), signal.SIGTERM)
                return process

            subprocess.Popen = struck
            sys.exit(Supervisor([sys.executable, "-c", {child!r}], 3, "early").run())
            """,
        )
        process = self.run_python("early.py")
        status, _, err = self.end(process)
        self.assertEqual(status, 0, err)

    def test_children_end_with_their_parent(self):
        process, conns = self.started(2)
        process.kill()
        for conn in conns:
            self.drain(conn)

    def test_what_no_process_can_start_is_said_once(self):
        status, _, err = self.end(self.run_cli("worker", "no_such_module", "--processes", "2"))
        self.assertEqual(status, 1)
        self.assertIn("no_such_module", err)
        self.assertEqual(self.end(self.run_cli("worker", "many", "--processes", "0"))[0], 2)

    def test_told_to_stop_by_the_service_manager_and_by_its_parent(self):
        """Which is once: what runs is finished."""
        self.write("held.py", """
            import os, time
            from taskerd.step_handler.functional import step_handler

            @step_handler("held")
            def held(context):
                context.heartbeat("on")
                while not os.path.exists(os.path.join(os.path.dirname(__file__), "go")):
                    time.sleep(0.005)
                return {}
        """)  # fmt: skip
        process = self.run_cli("worker", "held", "--processes", "2", "--threads", "1")
        conns = [self.daemon.accept() for _ in range(2)]
        pids = [conn.hello()["pid"] for conn in conns]
        conns[0].execute(step("held"))
        conns[0].expect("step.heartbeat")
        os.kill(pids[0], signal.SIGTERM)
        conns[0].expect("worker.update")
        process.send_signal(signal.SIGTERM)
        self.drain(conns[1])
        self.write("go", "")
        results = conns[0].results(1)
        conns[0].ack(results)
        conns[0].expect("goodbye")
        self.assertEqual(self.end(process)[0], 0)

    def test_a_second_signal_ends_all_at_once(self):
        self.write("slow.py", """
            import threading
            from taskerd.step_handler.functional import step_handler

            @step_handler("slow")
            def slow(context):
                context.heartbeat("on")
                threading.Event().wait()
        """)  # fmt: skip
        process = self.run_cli("worker", "slow", "--processes", "2", "--threads", "1")
        conns = [self.daemon.accept() for _ in range(2)]
        for i, conn in enumerate(conns):
            conn.hello()
            conn.execute(step("slow", i + 1))
            conn.expect("step.heartbeat")
        process.send_signal(signal.SIGTERM)
        for conn in conns:
            conn.expect("worker.update")
        process.send_signal(signal.SIGTERM)
        for conn in conns:
            conn.expect_end()
        self.assertEqual(self.end(process)[0], 128 + signal.SIGTERM)


class Broken(ManyCase):
    def test_the_others_are_served_and_the_place_is_named(self):
        self.write("pkg/__init__.py", "")
        self.write("pkg/good.py", HANDLERS)
        self.write("pkg/bad.py", "x = 1\nimport not_installed_here\n")
        self.write("pkg/worse.py", "def f(:\n")
        self.write("pkg/script.py", "import sys\nif True:\n    sys.exit(5)\n")
        self.write("pkg/speechless.py", """
            class Speechless(Exception):
                def __str__(self):
                    raise RuntimeError("no text")
            raise Speechless
        """)  # fmt: skip
        process = self.run_cli("worker", "pkg")
        conn = self.daemon.accept()
        self.assertEqual(conn.hello()["worker"]["handlers"], ["crash", "logs", "pid"])
        told = sorted((conn.expect("step.log") for _ in range(4)), key=lambda p: p["message"])
        self.assertIn("pkg/bad.py:2: ModuleNotFoundError", told[0]["message"])
        self.assertIn("pkg/script.py:3: SystemExit: sys.exit(5) was called", told[1]["message"])
        self.assertRegex(told[2]["message"], r"pkg/speechless.py:\d: Speechless: Speechless \(its text cannot be had\)")
        self.assertIn("pkg/worse.py:1: SyntaxError", told[3]["message"])
        self.assertEqual((told[0]["level"], told[0].get("step_uuid")), ("error", None))
        process.send_signal(signal.SIGTERM)
        self.drain(conn)
        status, _, err = self.end(process)
        self.assertEqual(status, 0)
        self.assertIn("module 'pkg.bad' cannot be imported", err)

    def test_two_of_one_name(self):
        self.write("pair/__init__.py", "from .one import first\n")
        for module, function in (("one", "first"), ("two", "second")):
            self.write(f"pair/{module}.py", f"""
                from taskerd.step_handler.functional import step_handler
                @step_handler("pair.same")
                def {function}():
                    return {{"from": "{function}"}}
            """)  # fmt: skip
        process = self.run_cli("worker", "pair", "--threads", "1")
        conn = self.daemon.accept()
        conn.hello()
        conn.execute(step("pair.same", 1))
        results = conn.results(1)
        self.assertEqual(results[0]["result"], {"from": "second"})
        conn.ack(results)
        process.send_signal(signal.SIGTERM)
        self.drain(conn)
        err = self.end(process)[2]
        self.assertEqual(err.count("two handlers are called 'pair.same': in pair.one and pair.two; the second is used"), 1, err)

    def test_nothing_left(self):
        self.write("only.py", "raise ValueError('no settings')\n")
        status, _, err = self.end(self.run_cli("worker", "only"))
        self.assertEqual(status, 1)
        self.assertRegex(err, r"no handlers: .*only\.py:1: ValueError: no settings")

    def test_a_template_s_import_path(self):
        self.write("lib/__init__.py", "")
        self.write("lib/broken.py", "import not_installed_here\n")
        self.write("t/a.json", '{"name": "a", "steps": []}')
        process = self.run_cli("worker", "many", "--templates", "t")
        conn = self.daemon.accept()
        conn.hello()
        template = {"steps": [{"name": "a", "handler": {"callable": "lib.broken.Handler"}}]}
        answers = {
            "template.apply": lambda p: {"namespace": "default", "name": "a", "version": "1.0.0", "created": True},
            "template.get": lambda p: template,
        }
        conn.serve_requests(answers)
        conn = self.daemon.accept()
        self.assertEqual(conn.hello()["worker"]["handlers"], ["crash", "logs", "pid"])
        self.assertIn("lib/broken.py:1: ModuleNotFoundError", conn.expect("step.log")["message"])
        process.send_signal(signal.SIGTERM)
        self.drain(conn)
        self.assertEqual(self.end(process)[0], 0)


class Logs(ManyCase):
    def test_lines_of_handlers_reach_the_daemon_with_the_step(self):
        process = self.run_cli("worker", "many")
        conn = self.daemon.accept()
        conn.hello()
        conn.execute(step("logs", 7))
        line = conn.expect("step.log")
        self.assertEqual((line["step_uuid"], line["level"], line["message"]), (step("logs", 7)["step_uuid"], "warn", "only 3 left"))
        self.assertEqual(line["fields"], {"logger": "shop"})
        conn.ack(conn.results(1))
        process.send_signal(signal.SIGTERM)
        self.drain(conn)
        self.assertIn("only 3 left", self.end(process)[2])

    def test_off(self):
        process = self.run_cli("worker", "many", "--daemon-log-level", "off")
        conn = self.daemon.accept()
        conn.hello()
        conn.execute(step("logs", 7))
        conn.ack(conn.results(1))
        process.send_signal(signal.SIGTERM)
        self.drain(conn)
        self.assertEqual(self.end(process)[0], 0)


if __name__ == "__main__":
    unittest.main()

"""The command line as a process of its own."""

import os
import signal
import unittest

from commandline import CliCase
from support import step

HANDLERS = """
    import os, warnings
    from taskerd import StepHandler
    from taskerd.step_handler.functional import step_handler, inputs

    @step_handler("hello")
    @inputs("name")
    def hello(name):
        return {"hello": name}

    @step_handler("until")
    @inputs("path")
    def until(path, context):
        context.heartbeat("running")
        with open(path) as fifo:
            return {"read": fifo.read()}

    @step_handler("says")
    def says(context):
        context.heartbeat("at once")

    @step_handler("forks")
    @inputs("path")
    def forks(path, context):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            child = os.fork()
        if child == 0:
            with open(path) as fifo:
                fifo.read()
            os._exit(0)
        context.heartbeat("forked")
        os.waitpid(child, 0)

    @step_handler("comes_back_twice")
    @inputs("how")
    def comes_back_twice(how):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            child = os.fork()
        if child == 0:
            if how == "exits":
                raise SystemExit(0)
            return {"i": "am the child"}
        return {"child": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}

    @step_handler("closes")
    def closes():
        os.closerange(3, 64)

    class ByClass(StepHandler):
        handler_name = "by_class"
        def call(self, context):
            return self.success()
"""


class Cli(CliCase):
    def setUp(self):
        super().setUp()
        self.write("my_handlers.py", HANDLERS)

    def test_version_and_help(self):
        status, out, _ = self.end(self.run_cli("--version"))
        self.assertEqual(status, 0)
        self.assertRegex(out, r"^taskerd-python \d")
        status, out, _ = self.end(self.run_cli("--help"))
        self.assertEqual((status, "worker" in out), (0, True))
        status, out, _ = self.end(self.run_cli("worker", "--help"))
        self.assertIn("--templates", out)
        self.assertEqual(self.end(self.run_cli())[0], 2)
        self.assertEqual(self.end(self.run_cli("worker"))[0], 2)
        self.assertEqual(self.end(self.run_cli("worker", "my_handlers", "--threads", "0"))[0], 2)

    def test_work_then_sigterm(self):
        process = self.run_cli("worker", "my_handlers", "--threads", "2", "--name", "n1", "--namespace", "a", "--namespace", "b")
        conn = self.daemon.accept()
        worker = conn.hello()["worker"]
        self.assertEqual((worker["name"], worker["namespaces"], worker["max_concurrency"]), ("n1", ["a", "b"], 4))
        self.assertEqual(worker["handlers"], ["by_class", "closes", "comes_back_twice", "forks", "hello", "my_handlers.ByClass", "says", "until"])
        conn.execute(step("hello", 1, context={"name": "x"}))
        results = conn.results(1)
        self.assertEqual(results[0]["result"], {"hello": "x"})
        conn.ack(results)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(conn.expect("worker.update"), {"draining": True})
        conn.expect("goodbye")
        conn.expect_end()
        status, out, err = self.end(process)
        self.assertEqual((status, out), (0, ""), err)

    def test_a_handler_that_closes_the_worker_s_connection_ends_the_worker(self):
        process = self.run_cli("worker", "my_handlers", "--threads", "1")
        conn = self.daemon.accept()
        conn.hello()
        conn.execute(step("closes", 1))
        conn.expect_end()
        status, _, err = self.end(process)
        self.assertEqual(status, 1, err)
        self.assertIn("Bad file descriptor", err)
        self.assertNotIn("Traceback", err)

    def test_a_handler_file_that_takes_over_the_process(self):
        """Its signal handlers, its environment and what it puts in the place of functions harm it alone."""
        self.write("takes.py", """
            import json, os, signal, time
            from taskerd.step_handler.functional import step_handler

            def broken(*args, **kwargs):
                raise RuntimeError("replaced")

            os.environ.update(TASKERD_SOCKET="/nowhere", TASKER_NAMESPACE="other", HOSTNAME="other", TASKER_TEMPLATE_PATH="/nowhere")
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            json.dumps = json.loads = time.monotonic = broken

            @step_handler("takes")
            def takes():
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
        """)
        process = self.run_cli("worker", "takes", HOSTNAME="mine")
        conn = self.daemon.accept()
        hello = conn.hello()
        self.assertEqual((hello["worker"]["name"], hello["worker"]["namespaces"]), ("mine", ["*"]))
        conn.execute(step("takes"))
        results = conn.results(1)
        self.assertEqual(results[0]["success"], False)  # only the main thread may take a signal
        conn.ack(results)
        process.send_signal(signal.SIGTERM)
        self.drain(conn)
        self.assertEqual(self.end(process)[0], 0)

    def test_sigint_lets_a_running_step_finish(self):
        process = self.run_cli("worker", "./my_handlers.py", "--threads", "1")
        conn = self.daemon.accept()
        conn.hello()
        fifo = os.path.join(self.daemon.directory, "fifo")
        os.mkfifo(fifo)
        conn.execute(step("until", 1, context={"path": fifo}), step("hello", 2))
        self.assertEqual(conn.expect("step.heartbeat")["progress"], "running")
        process.send_signal(signal.SIGINT)
        conn.expect("worker.update")
        self.write_to_reader(fifo, process, "done")
        (result,) = conn.results(1)
        self.assertEqual(result["result"], {"read": "done"})
        conn.ack([result])
        conn.expect("goodbye")
        self.assertEqual(self.end(process)[0], 0)

    def test_steps_that_come_with_the_welcome(self):
        """What their handlers say at once is said to somebody."""
        self.write("eager.py", "import sys\nsys.setswitchinterval(1e-6)\nfrom my_handlers import *\n")
        self.run_cli("worker", "eager", "my_handlers", "--threads", "1")
        for number in range(1, 21):
            conn = self.daemon.accept()
            conn.hello([2, "step.execute", {"steps": [step("says", number)]}])
            self.assertEqual(conn.expect("step.heartbeat")["progress"], "at once")
            conn.ack(conn.results(1))
            conn.sock.close()

    def test_a_second_signal_ends_at_once(self):
        process = self.run_cli("worker", "my_handlers", "--threads", "1")
        conn = self.daemon.accept()
        conn.hello()
        fifo = os.path.join(self.daemon.directory, "fifo")
        os.mkfifo(fifo)
        conn.execute(step("until", 1, context={"path": fifo}))
        conn.expect("step.heartbeat")
        process.send_signal(signal.SIGTERM)
        conn.expect("worker.update")
        process.send_signal(signal.SIGTERM)
        conn.expect_end()
        self.assertEqual(self.end(process)[0], 128 + signal.SIGTERM)

    def test_a_dead_worker_s_connection_closes_although_a_child_of_it_lives(self):
        process = self.run_cli("worker", "my_handlers", "--threads", "1")
        conn = self.daemon.accept()
        conn.hello()
        fifo = os.path.join(self.daemon.directory, "fifo")
        os.mkfifo(fifo)
        conn.execute(step("forks", 1, context={"path": fifo}))
        conn.expect("step.heartbeat")
        process.kill()
        try:
            conn.expect_end()
        finally:
            self.write_to_reader(fifo, process)  # lets the child end

    def test_a_child_of_a_handler_that_comes_back_is_no_worker(self):
        process = self.run_cli("worker", "my_handlers", "--threads", "1")
        conn = self.daemon.accept()
        conn.hello()
        for n, how, status in (1, "returns", 0), (2, "exits", 1):
            conn.execute(step("comes_back_twice", n, context={"how": how}))
            (result,) = conn.results(1)
            conn.ack([result])
            self.assertEqual(result["result"], {"child": status})
        process.send_signal(signal.SIGTERM)
        conn.expect("worker.update")
        conn.expect("goodbye")
        conn.expect_end()
        self.assertEqual(self.end(process)[0], 0)

    def test_sigusr1_reports(self):
        process = self.run_cli("worker", "my_handlers")
        conn = self.daemon.accept()
        conn.hello()
        conn.execute(step("hello", 1))
        conn.ack(conn.results(1))
        process.send_signal(signal.SIGUSR1)
        line = next(line for line in process.stderr if "status: " in line)
        self.assertIn("WorkerStatus(running=True", line)
        process.send_signal(signal.SIGTERM)
        conn.expect("worker.update")
        conn.expect("goodbye")
        self.assertEqual(self.end(process)[0], 0)

    def test_failures_to_start(self):
        status, _, err = self.end(self.run_cli("worker", "no_such_module_here"))
        self.assertEqual(status, 1)
        self.assertIn("no_such_module_here", err)
        with open(os.path.join(self.daemon.directory, "empty_module.py"), "w", encoding="utf-8"):
            pass
        status, _, err = self.end(self.run_cli("worker", "empty_module"))
        self.assertEqual((status, "no handlers" in err), (1, True))
        status, _, err = self.end(self.run_cli("worker", "my_handlers", "--templates", "/no/such/dir"))
        self.assertEqual((status, "no such directory" in err), (1, True))

    def test_another_version_of_the_daemon(self):
        process = self.run_cli("worker", "my_handlers")
        conn = self.daemon.accept()
        ident, _ = conn.expect("hello")
        conn.refuse(ident, "unsupported_version")
        status, _, err = self.end(process)
        self.assertEqual((status, "unsupported_version" in err), (1, True))

    def test_environment(self):
        process = self.run_cli("worker", PYTHON_HANDLER_PATH="./my_handlers.py", TASKER_NAMESPACE="shop")
        conn = self.daemon.accept()
        self.assertEqual(conn.hello()["worker"]["namespaces"], ["shop"])
        process.send_signal(signal.SIGTERM)
        conn.expect("worker.update")
        conn.expect("goodbye")
        self.assertEqual(self.end(process)[0], 0)

    def test_a_signal_while_waiting_for_the_daemon(self):
        self.daemon.listener.close()
        os.unlink(self.daemon.path)
        process = self.run_cli("worker", "my_handlers")
        next(line for line in process.stderr if "cannot reach taskerd" in line)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.end(process)[0], 0)
        process = self.run_cli("worker", "my_handlers", "--templates", ".")
        next(line for line in process.stderr if "waiting for taskerd" in line)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.end(process)[0], 0)


if __name__ == "__main__":
    unittest.main()

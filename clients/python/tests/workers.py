"""A worker under test, connected to a daemon that the test scripts."""

import logging
import threading

import support
from support import PATIENCE, step

from taskerd import HandlerRegistry, Worker
from taskerd.step_handler.functional import inputs, step_handler


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

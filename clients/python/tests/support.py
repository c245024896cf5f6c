"""A daemon made of a few lines, for tests to script, and small helpers."""

from __future__ import annotations

import os
import queue
import shutil
import socket
import struct
import sys
import tempfile
import threading
import time
import traceback
import unittest
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
SRC = os.path.join(os.path.dirname(HERE), "src")
sys.path.insert(0, SRC)

import msgpack  # noqa: E402

#: No test waits for time to pass; this only bounds how long a broken one hangs.
PATIENCE = float(os.environ.get("TASKERD_TEST_PATIENCE") or 300)

LIMITS = {
    "max_frame": 4194304,
    "max_items": 262144,
    "max_depth": 30,
    "max_bulk": 1000,
    "max_context": 1048576,
    "max_result": 1048576,
}


def welcome(**changes):
    """The result of a hello."""
    return {
        "protocol": [1, 0],
        "server": "taskerd/0.1.0",
        "node": "test-node",
        "session": "token-1",
        "resumed": False,
        "worker_uuid": "0190b5a0-7c1e-7000-8000-00000000c001",
        "heartbeat_ms": 60000,
        "limits": dict(LIMITS),
        "features": [],
        **changes,
    }


def step(name, number=1, **changes):
    """A step of step.execute."""
    out = {
        "step_uuid": str(uuid.UUID(int=number)),
        "task_uuid": str(uuid.UUID(int=1000)),
        "attempt": 1,
        "max_attempts": 3,
        "retryable": True,
        "claim": number.to_bytes(16, "big"),
        "namespace": "default",
        "template": "t",
        "version": "1.0.0",
        "step": "s%d" % number,
        "handler": {"callable": name},
        "context": {},
        "dependencies": {},
        "dependencies_partial": False,
        "priority": 0,
        "correlation_id": str(uuid.UUID(int=1000)),
    }
    out.update(changes)
    return out


def ack(result, status="recorded", **more):
    """The acknowledgement of a result."""
    return {"step_uuid": result["step_uuid"], "attempt": result["attempt"], "status": status, **more}


class Conn:
    """The daemon's end of one connection."""

    def __init__(self, sock):
        self.sock = sock
        self.sock.settimeout(PATIENCE)
        self.frames = []

    def recv_raw(self):
        """The next frame's payload, b"" at the end of the stream."""
        head = self._exactly(4)
        return self._exactly(struct.unpack(">I", head)[0]) if head else b""

    def recv(self):
        """The next envelope but heartbeats, None at the end of the stream."""
        deadline = time.monotonic() + PATIENCE
        while True:
            if time.monotonic() > deadline:
                raise AssertionError("nothing but heartbeats")
            payload = self.recv_raw()
            if not payload:
                return None
            envelope = msgpack.unpackb(payload, raw=False)
            self.frames.append(envelope)
            if envelope[:2] != [2, "heartbeat"]:
                return envelope

    def _exactly(self, n):
        data = b""
        while len(data) < n:
            part = self.sock.recv(n - len(data))
            if not part:
                return b""
            data += part
        return data

    def send(self, *envelopes):
        """Send envelopes in one write."""
        payloads = [msgpack.packb(e, use_bin_type=True) for e in envelopes]
        self.sock.sendall(b"".join(struct.pack(">I", len(p)) + p for p in payloads))

    def expect(self, method):
        """The params of the next message, which must be of that method; for a request (id, params)."""
        envelope = self.recv()
        if envelope is None:
            raise AssertionError("end of stream instead of " + method)
        if envelope[0] == 0:
            if envelope[2] != method:
                raise AssertionError("%r instead of %s" % (envelope, method))
            return envelope[1], envelope[3]
        if envelope[1] != method:
            raise AssertionError("%r instead of %s" % (envelope, method))
        return envelope[2]

    def expect_end(self):
        envelope = self.recv()
        if envelope is not None:
            raise AssertionError("%r instead of the end of the stream" % (envelope,))

    def hello(self, *more, **changes):
        """Answer the handshake; returns the params of hello. ``more`` follows the welcome at once."""
        ident, params = self.expect("hello")
        self.send([1, ident, None, welcome(**changes)], *more)
        return params

    def answer(self, ident, result):
        self.send([1, ident, None, result])

    def refuse(self, ident, code, **more):
        self.send([1, ident, {"code": code, "message": "refused: " + code, **more}, None])

    def execute(self, *steps):
        self.send([2, "step.execute", {"steps": list(steps)}])

    def results(self, count):
        """The next ``count`` results, in however many frames they come."""
        found = []
        while len(found) < count:
            found += self.expect("step.result")["results"]
        if len(found) != count:
            raise AssertionError("%d results instead of %d" % (len(found), count))
        return found

    def ack(self, results, status="recorded", **more):
        self.send([2, "result.ack", {"acks": [ack(r, status, **more) for r in results]}])

    def serve_requests(self, answers):
        """Answer requests until the client leaves. ``answers``: method -> function(params) -> result."""
        while True:
            envelope = self.recv()
            if envelope is None:
                return
            if envelope[0] == 0:
                result = answers[envelope[2]](envelope[3])
                if isinstance(result, dict) and "code" in result:
                    self.send([1, envelope[1], result, None])
                else:
                    self.answer(envelope[1], result)

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()


class Daemon:
    """Listens on a socket of its own; tests accept connections and play the daemon's part."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="taskerd-test-")
        self.path = os.path.join(self.directory, "taskerd.sock")
        self.listener = None
        self.conns = []
        self.threads = []
        self.errors = queue.Queue()
        self.listen()

    def listen(self):
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.settimeout(PATIENCE)
        self.listener.bind(self.path)
        self.listener.listen(16)

    def accept(self):
        sock, _ = self.listener.accept()
        conn = Conn(sock)
        self.conns.append(conn)
        return conn

    def play(self, script):
        """Run ``script(daemon)`` in a thread; what it raises fails the test at ``finish``."""

        def main():
            try:
                script(self)
            except BaseException:
                self.errors.put(traceback.format_exc())

        thread = threading.Thread(target=main, daemon=True)
        self.threads.append(thread)
        thread.start()
        return thread

    def finish(self):
        """Wait for the scripts and raise what they met."""
        for thread in self.threads:
            thread.join(PATIENCE)
            if thread.is_alive():
                raise AssertionError("the script has not ended")
        if not self.errors.empty():
            raise AssertionError(self.errors.get())

    def close(self):
        if self.listener is not None:
            self.listener.close()
        for conn in self.conns:
            conn.close()
        shutil.rmtree(self.directory, ignore_errors=True)


class TestCase(unittest.TestCase):
    """With a daemon to script."""

    def setUp(self):
        self.daemon = Daemon()
        self.addCleanup(self.daemon.close)


def wait_until(condition):
    """Wait for a condition that another thread brings about."""
    tick = threading.Event()
    for _ in range(int(PATIENCE / 0.005)):
        if condition():
            return
        tick.wait(0.005)
    raise AssertionError("the condition never came true")

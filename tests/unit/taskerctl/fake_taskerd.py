"""A daemon for the tests of taskerctl: answers each method with what the test says, and remembers what it was asked."""
import os
import socket
import struct
import tempfile
import threading

import msgpack

WELCOME = {
    "protocol": [1, 0], "server": "taskerd/9.9.9", "node": "n1", "session": "s", "resumed": False,
    "worker_uuid": "w", "heartbeat_ms": 10000, "features": [],
    "limits": {"max_frame": 1 << 20, "max_items": 100000, "max_depth": 30, "max_bulk": 3,
               "max_context": 1 << 20, "max_result": 1 << 20},
}


class Error(Exception):
    def __init__(self, code, message="as the test says", **more):
        super().__init__(code)
        self.fields = {"code": code, "message": message, **more}


class Silence(Exception):
    """Do not answer."""


class HangUp(Exception):
    """Close the connection."""


class FakeTaskerd:
    """`answers` maps a method to a result or to a function of (params, send_notification) that returns it or raises one of the above."""

    def __init__(self, answers):
        self.answers = {"hello": WELCOME, **answers}
        self.asked = []
        self.dir = tempfile.mkdtemp(prefix="fake-taskerd-")
        self.path = os.path.join(self.dir, "s")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(8)
        self.closing = False
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def close(self):
        # The thread must have left accept() before its descriptor can become another daemon's.
        self.closing = True
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.path)
        self.thread.join()
        self.listener.close()
        os.unlink(self.path)
        os.rmdir(self.dir)

    def params(self, method):
        return [p for m, p in self.asked if m == method]

    def _accept(self):
        while True:
            conn, _ = self.listener.accept()
            if self.closing:
                conn.close()
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    @staticmethod
    def _read(conn, n):
        data = b""
        while len(data) < n:
            got = conn.recv(n - len(data))
            if not got:
                raise HangUp
            data += got
        return data

    def _serve(self, conn):
        def send(message):
            data = msgpack.packb(message)
            conn.sendall(struct.pack(">I", len(data)) + data)

        def notify(method, params):
            send([2, method, params])

        with conn:
            try:
                while True:
                    (n,) = struct.unpack(">I", self._read(conn, 4))
                    message = msgpack.unpackb(self._read(conn, n))
                    if message[0] == 0:
                        self._answer(send, notify, *message[1:])
            except (HangUp, OSError):
                pass

    def _answer(self, send, notify, number, method, params):
        self.asked.append((method, params))
        answer = self.answers.get(method, Error("unknown_method"))
        try:
            if isinstance(answer, Exception):
                raise answer
            send([1, number, None, answer(params, notify) if callable(answer) else answer])
        except Error as e:
            send([1, number, e.fields, None])
        except Silence:
            pass

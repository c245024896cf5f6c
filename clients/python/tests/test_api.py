"""Handlers that call HTTP services, against a server of their own; with httpx too where it is installed."""

import http.server
import importlib.util
import json
import threading
import unittest
from unittest import mock

import support  # noqa: F401 - puts the package on the path

from taskerd import ApiHandler, ApiResponse, StepContext, StepHandler
from taskerd.step_handler.functional import api_handler, inputs
from taskerd.step_handler.mixins import APIMixin


class Service(http.server.BaseHTTPRequestHandler):
    """Answers with what the path says: /STATUS?header=value, or an echo of the request."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        size = int(self.headers.get("content-length") or 0)
        seen = {
            "method": self.command,
            "path": self.path,
            "body": self.rfile.read(size).decode(),
            "headers": {k.lower(): v for k, v in self.headers.items()},
        }
        status, body, kind, extra = self.server.answers.get(self.path.split("?")[0].strip("/"), (200, seen, "json", {}))
        data = json.dumps(body).encode() if kind == "json" else body.encode()
        self.send_response(status)
        for name, value in extra.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json; charset=utf-8" if kind == "json" else "text/plain")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, *args):
        pass


ANSWERS = {
    "list": (200, [1, 2], "json", {}),
    "text": (200, "plain", "text", {}),
    "busy": (429, {"error": {"message": "slow down"}}, "json", {"Retry-After": "7"}),
    "odd": (503, {}, "json", {"Retry-After": "soon"}),
    "date": (503, {}, "json", {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    "bad": (422, {"detail": "no such field"}, "json", {}),
    "tea": (418, "teapot", "text", {}),
    "moved": (302, "", "text", {"Location": "/list"}),
}


class Api(unittest.TestCase):
    without_httpx = True

    @classmethod
    def setUpClass(cls):
        cls.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
        cls.server.daemon_threads = True
        cls.server.answers = ANSWERS
        thread = threading.Thread(target=cls.server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        cls.addClassCleanup(cls.server.server_close)
        cls.addClassCleanup(cls.server.shutdown)
        cls.url = "http://127.0.0.1:%d" % cls.server.server_address[1]

    def setUp(self):
        if self.without_httpx:
            hidden = mock.patch.dict("sys.modules", httpx=None)
            hidden.start()
            self.addCleanup(hidden.stop)

        class Handler(ApiHandler):
            handler_name = "h"
            base_url = self.url
            default_headers = {"X-Key": "k"}

            def call(self, context):
                return self.api_success(self.get("/thing", params={"a": 1}))

        self.handler = Handler()
        self.addCleanup(self.handler.close)

    def test_requests(self):
        h = self.handler
        r = h.get("/x", params={"a": 1}, headers={"X-More": "m"})
        self.assertIsInstance(r, ApiResponse)
        self.assertTrue(r.ok and not r.is_client_error and not r.is_server_error)
        self.assertEqual((r.status_code, r.body["method"], r.body["path"]), (200, "GET", "/x?a=1"))
        self.assertEqual((r.body["headers"]["x-key"], r.body["headers"]["x-more"]), ("k", "m"))
        for verb in ("post", "put", "patch"):
            r = getattr(h, verb)("/x", json={"n": 1})
            self.assertEqual((r.body["method"], json.loads(r.body["body"])), (verb.upper(), {"n": 1}))
            self.assertEqual(r.body["headers"]["content-type"], "application/json")
        self.assertEqual(h.post("/x", data={"f": "v w"}).body["body"], "f=v+w")
        self.assertEqual(h.delete("/x").body["method"], "DELETE")
        self.assertEqual(h.request("GET", self.url + "/abs").body["path"], "/abs")
        self.assertEqual((h.get("/text").body, h.get("/moved").status_code), ("plain", 302))
        self.assertEqual(set(r.to_dict()), {"status_code", "headers", "body"})

    def test_success(self):
        h = self.handler
        r = h.call(StepContext())
        self.assertEqual((r.is_success, r.result["path"], r.metadata["status_code"]), (True, "/thing?a=1", 200))
        self.assertEqual(h.api_success(h.get("/list")).result, {"data": [1, 2]})
        r = h.api_success(h.get("/list"), {"n": 2}, include_response=False)
        self.assertEqual((r.result, r.metadata), ({"n": 2}, {}))
        self.assertEqual(h.api_success(result={"n": 3}).result, {"n": 3})
        self.assertEqual(h.api_success({"n": 4}).result, {"n": 4})

    def test_failures(self):
        h = self.handler
        r = h.api_failure(h.get("/busy"))
        self.assertEqual((r.error_type, r.retryable, r.error_message), ("rate_limited", True, "HTTP 429: slow down"))
        self.assertEqual((r.metadata["retry_after_seconds"], r.retry_after), (7, 7))
        self.assertEqual(r.metadata["response_body"], {"error": {"message": "slow down"}})
        r = h.api_failure(h.get("/bad"))
        self.assertEqual((r.error_type, r.retryable), ("unprocessable_entity", False))
        self.assertEqual((r.error_message, r.metadata["status_code"]), ("HTTP 422: no such field", 422))
        self.assertEqual(h.api_failure(h.get("/odd")).metadata["retry_after_seconds"], 60)
        self.assertEqual(h.api_failure(h.get("/date")).metadata["retry_after_seconds"], 0)
        r = h.api_failure(h.get("/tea"), "no tea")
        self.assertEqual((r.error_type, r.error_message), ("client_error", "no tea"))

    def test_transport(self):
        refused = type("Refused", (ApiHandler,), {"base_url": "http://127.0.0.1:1", "call": lambda s, c: None})()
        with self.assertRaises(Exception) as caught:
            refused.get("/x")
        r = refused.connection_error(caught.exception, "orders")
        self.assertEqual((r.error_type, r.retryable), ("connection_error", True))
        self.assertIn("(orders)", r.error_message)
        self.assertEqual(r.metadata["exception_type"], type(caught.exception).__name__)
        self.assertEqual(refused.timeout_error(TimeoutError("t")).error_type, "timeout")

    def test_function_and_mixin(self):
        @api_handler("f", self.url, default_headers={"X-Key": "f"})
        @inputs("id")
        def f(api, id):
            return api.api_success(api.get("/orders/%s" % id))

        r = f._handler_class().call(StepContext(input_data={"id": 5}))
        self.assertEqual((r.result["path"], r.result["headers"]["x-key"]), ("/orders/5", "f"))

        class Mixed(StepHandler, APIMixin):
            base_url = self.url

            def call(self, context):
                return self.api_failure(self.get("/busy"))

        self.assertEqual(Mixed().call(StepContext()).retry_after, 7)


class Statuses(unittest.TestCase):
    def test_classification(self):
        class Raw:
            headers = {}
            text = ""

            def __init__(self, status):
                self.status_code = status

        found = {s: ApiHandler.api_failure(mock.Mock(), ApiResponse(Raw(s))) for s in
                 (400, 401, 403, 404, 405, 408, 409, 410, 422, 429, 451, 500, 501, 502, 503, 504, 302)}  # fmt: skip
        self.assertEqual({s for s, r in found.items() if r.retryable}, {408, 429, 500, 502, 503, 504})
        self.assertEqual((found[451].error_type, found[501].error_type, found[302].error_type),
                         ("client_error", "server_error", "http_error"))  # fmt: skip


@unittest.skipUnless(importlib.util.find_spec("httpx"), "httpx is not installed")
class ApiWithHttpx(Api):
    without_httpx = False

    def test_it_is_httpx(self):
        self.assertEqual(type(self.handler.client).__module__.split(".")[0], "httpx")


if __name__ == "__main__":
    unittest.main()

"""A collector of spans: takes OTLP over HTTP, in JSON, and holds every request strictly against what OTLP says. It can also be one of the bad sort.

	with Collector() as c:                    # c.url
		...
		spans = c.trace(trace_id, n)          # once there are n of that trace
	c.answers.append((503, {}, b""))          # to the next request; "hang" says nothing, "close" hangs up
"""
import collections
import http.server
import json
import re
import threading

import harness

HEX = {16: re.compile(r"[0-9a-f]{16}\Z"), 32: re.compile(r"[0-9a-f]{32}\Z")}
NANOSECONDS = re.compile(r"[1-9][0-9]{18}\Z")
VALUES = {"stringValue": str, "intValue": str, "boolValue": bool}
SPAN = {"traceId", "spanId", "name", "kind", "startTimeUnixNano", "endTimeUnixNano", "attributes", "status"}, {"parentSpanId", "traceState", "events"}


class Breach(AssertionError):
	"""Not OTLP."""


def check(truth, why):
	if not truth:
		raise Breach(why)


def keys(where, map_, needed, allowed=frozenset()):
	check(isinstance(map_, dict) and needed <= set(map_) <= needed | allowed, "%s has the fields %s" % (where, sorted(map_)))


def attributes(where, items):
	"""As a dict."""
	check(isinstance(items, list), where)
	found = {}
	for item in items:
		keys(where, item, {"key", "value"})
		check(len(item["value"]) == 1, "%s: %s" % (where, item))
		(kind, value), = item["value"].items()
		check(isinstance(value, VALUES.get(kind, ())), "%s: %s" % (where, item))
		check(item["key"] and item["key"] not in found, "%s: %s twice" % (where, item["key"]))
		found[item["key"]] = int(value) if kind == "intValue" else value
	return found


class Span:
	"""A span that is one."""

	def __init__(self, raw):
		keys("a span", raw, *SPAN)
		self.trace, self.id, self.parent, self.name = raw["traceId"], raw["spanId"], raw.get("parentSpanId"), raw["name"]
		check(HEX[32].match(self.trace) and int(self.trace, 16), "traceId %r" % self.trace)
		check(all(HEX[16].match(i) and int(i, 16) for i in (self.id, self.parent or self.id)), "span ids %r, %r" % (self.id, self.parent))
		check(self.name and raw["kind"] in (1, 5), "%r" % raw)
		check(NANOSECONDS.match(raw["startTimeUnixNano"]) and NANOSECONDS.match(raw["endTimeUnixNano"]), "times of %r" % raw)
		self.kind, self.start, self.end = raw["kind"], int(raw["startTimeUnixNano"]), int(raw["endTimeUnixNano"])
		check(self.start <= self.end, "%s ends before it begins" % self.name)
		self.state = raw.get("traceState")
		self.attributes = attributes("a span's attributes", raw["attributes"])
		self.events = {}
		for event in raw.get("events", []):
			keys("an event", event, {"name", "timeUnixNano"}, {"attributes"})
			check(NANOSECONDS.match(event["timeUnixNano"]), "%r" % event)
			self.events[event["name"]] = (int(event["timeUnixNano"]), attributes("an event's attributes", event.get("attributes", [])))
		keys("a status", raw["status"], set(), {"code", "message"})
		self.error = raw["status"].get("message") if raw["status"] else None
		check(raw["status"].get("code", 2) == 2 and bool(raw["status"]) == bool(self.error), "status %r" % raw["status"])


def read(body):
	"""The resource's attributes and the spans of a request."""
	root = json.loads(body)
	keys("the request", root, {"resourceSpans"})
	resource, = root["resourceSpans"]
	keys("resourceSpans", resource, {"resource", "scopeSpans"})
	keys("the resource", resource["resource"], {"attributes"})
	scope, = resource["scopeSpans"]
	keys("scopeSpans", scope, {"scope", "spans"})
	keys("the scope", scope["scope"], {"name", "version"})
	check(scope["spans"], "no spans")
	return attributes("the resource", resource["resource"]["attributes"]), [Span(s) for s in scope["spans"]]


class Collector:
	"""On a port of this host; `answers` holds what is answered next, 200 after that."""

	def __init__(self, port=0):
		self.answers, self.requests, self.spans, self.breaches = collections.deque(), [], [], []
		self._free = threading.Event()  # ends those that hang
		collector = self

		class Handler(http.server.BaseHTTPRequestHandler):
			protocol_version = "HTTP/1.1"

			def do_POST(self):  # pylint: disable=invalid-name
				body = self.rfile.read(int(self.headers["Content-Length"]))
				collector.requests.append((self.path, dict(self.headers.items()), body))
				answer = collector.answers.popleft() if collector.answers else (200, {"Content-Type": "application/json"}, b"{}")
				if answer in ("hang", "close"):
					if answer == "hang":
						collector._free.wait()
					self.close_connection = True
					return
				status, headers, text = answer
				if status == 200:
					collector._take(self.headers, body)
				self.send_response(status)
				for name, value in {"Content-Length": str(len(text)), **headers}.items():
					self.send_header(name, value)
				self.end_headers()
				self.wfile.write(text)

			def log_message(self, *_):
				pass

		self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
		self._server.daemon_threads = True
		self.port = self._server.server_address[1]
		self.url = "http://127.0.0.1:%d" % self.port
		threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

	def _take(self, headers, body):
		try:
			check(headers["Content-Type"] == "application/json", "Content-Type %s" % headers["Content-Type"])
			resource, spans = read(body)
			for span in spans:
				span.resource = resource
			self.spans += spans
		except (Breach, ValueError, KeyError, TypeError) as e:
			self.breaches.append("%r in %.2000s" % (e, body))

	def of(self, trace):
		return [s for s in self.spans if s.trace == trace]

	def trace(self, trace, n):
		"""The spans of a trace by name and attempt, once there are n: one of each id, and every parent is one of them or `outside`."""
		harness.wait_for(lambda: self.breaches or len(self.of(trace)) >= n, lambda: "%d spans of %s; there are %s" % (n, trace, [(s.name, s.attributes) for s in self.of(trace)]))
		if self.breaches:
			raise Breach(self.breaches[0])
		found = self.of(trace)
		check(len({s.id for s in found}) == len(found) == n, "%d spans with %d ids, not %d" % (len(found), len({s.id for s in found}), n))
		return found

	def close(self):
		self._free.set()
		self._server.shutdown()
		self._server.server_close()

	def __enter__(self):
		return self

	def __exit__(self, *_):
		self.close()

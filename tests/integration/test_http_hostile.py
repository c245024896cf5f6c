"""Whoever can reach the HTTP port may send anything, or nothing. It costs them an error or the connection; others are served meanwhile, nothing is changed, and the
daemon's memory and descriptors stay bounded."""
import json
import re
import selectors
import socket
import subprocess
import unittest

import harness
import web
import wire
from harness import step, template, wait_for

CTL = harness.program("clients", "taskerctl", "taskerctl")
MANY = 1500  # connections
GROWTH_MIB = 96  # of memory, at most, whatever is sent


class Hostile(harness.SharedCase):
	@classmethod
	def prepare(cls, stage):
		stage.db = stage.database()
		stage.node = stage.daemon(stage.db, http_listen="127.0.0.1:0", http_timeout_ms=1500, http_max_connections=64, http_max_streams=8, http_max_body="256 KiB", http_max_header="8 KiB")
		stage.apply(stage.node, template("pair", [step("a", "t.nobody", attempts=1)]))
		stage.port = web.ports(stage.node)[0]
		stage.token, stage.other = (cls.make_token(stage, name) for name in ("hostile", "other"))
		stage.client = web.Web(stage.port, Authorization="Bearer " + stage.token)
		wait_for(lambda: stage.client.get("/v1/tasks").status == 200, "the token to be known")
		stage.client.close()

	@staticmethod
	def make_token(stage, name):
		return subprocess.run([CTL, "--socket=" + stage.node.socket, "-q", "token", "create", name, "--role", "submit", "--role", "read"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout.strip()

	@classmethod
	def tearDownClass(cls):
		harness.Case.tearDownClass.__func__(cls)  # nothing here has left a ledger

	def setUp(self):
		super().setUp()
		self.before = (self.tasks(), wire.rss(self.node.pid))

	def tearDown(self):
		self.assertEqual(self.tasks(), self.before[0], "a task was made")
		if not wire.SANITIZED:
			self.assertLess(wire.rss(self.node.pid), self.before[1] + GROWTH_MIB)
		self.others()
		super().tearDown()

	def tasks(self):
		return self.db.number("SELECT count(*) FROM tasker.tasks")

	def others(self):
		"""Another client, who behaves, is served."""
		client = web.Web(self.shared.port, Authorization="Bearer " + self.shared.other)
		try:
			self.assertEqual(client.get("/v1/tasks?limit=1").status, 200)
		finally:
			client.close()

	def connect(self):
		s = socket.create_connection(("127.0.0.1", self.shared.port), timeout=harness.PATIENCE)
		self.addCleanup(s.close)
		return s

	def request(self, head="POST /v1/tasks HTTP/1.1", *headers, body=b""):
		"""A request with a token that would make a task."""
		lines = [head, "Host: x", "Authorization: Bearer " + self.shared.token, *headers]
		return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body

	def ended(self, s):
		"""All that comes until the daemon closes the connection."""
		out = b""
		try:
			while True:
				got = s.recv(65536)
				if not got:
					return out
				out += got
		except ConnectionError:
			return out

	def sent(self, data, more=False):
		"""What comes for some bytes, after which nothing will be said; or, if `more`, perhaps something."""
		s = self.connect()
		try:
			s.sendall(data)
			if not more:
				s.shutdown(socket.SHUT_WR)
		except ConnectionError:
			pass
		return self.ended(s)

	def status(self, answer):
		"""Of the last answer; what is refused is a problem, whoever found it out."""
		if not answer.startswith(b"HTTP/1."):
			return None
		last = [m.start() for m in re.finditer(rb"HTTP/1\.1 \d{3} ", answer)][-1]
		head, _, body = answer[last:].partition(b"\r\n\r\n")
		status = int(head.split(b" ", 2)[1])
		if status >= 400:
			self.assertIn(b"\r\nContent-Type: application/problem+json", head)
			problem = json.loads(body)
			self.assertEqual((problem["status"], problem["type"]), (status, "urn:taskerd:error:" + problem["code"]), problem)
			self.assertTrue(problem["title"] and problem["detail"])
		return status

	def broken(self, status, data, says, **more):
		"""What is no request is answered once, and the connection closed; nothing of it comes back."""
		answer = self.sent(data, **more)
		self.assertEqual(self.status(answer), status, answer)
		head, _, body = answer.partition(b"\r\n\r\n")
		self.assertIn(b"\r\nConnection: close", head)
		self.assertIn(says, json.loads(body)["detail"])
		self.assertNotIn(b"EVIL", answer)
		self.assertNotIn(b"<", answer)

	BODY = json.dumps({"name": "pair", "namespace": "t"}).encode()

	# What is no request ---------------------------------------------------------------------------------------------------

	def test_a_broken_request_line(self):
		for data in (b"EVIL\r\n\r\n", b"GET\r\n\r\n", b"GET <EVIL>\r\n\r\n", b"GET / EVIL/1.1\r\n\r\n", b"GET /<EVIL> HTTP/x\r\n\r\n", b"\0EVIL\r\n\r\n", b"GET / HTTP/1.1\r\nEVIL\r\n\r\n", b"GET http://[EVIL/ HTTP/1.1\r\n\r\n"):
			with self.subTest(data=data):
				self.broken(400, data, "not a request of HTTP/1.1", more=True)

	def test_a_worker_at_the_wrong_door(self):
		"""It is told in the protocol that it speaks where it should have gone, and needs not wait for an answer that never comes."""
		for cuts in (0,), (0, 2, 5):
			with self.subTest(cuts=cuts), socket.create_connection(("127.0.0.1", self.shared.port)) as s:
				s.settimeout(wire.PATIENCE)
				hello = wire.frame([0, 0, "hello", {"protocol": [1, 0], "client": "EVIL\r\n\r\n", "language": "none", "pid": 1}])
				for begin, end in zip(cuts, cuts[1:] + (None,)):
					s.sendall(hello[begin:end])
				said = b"".join(iter(lambda: s.recv(65536), b""))
				kind, method, error = wire.unpack(said[4:])
				self.assertEqual((kind, method, error["code"]), (2, "error", "bad_request"))
				self.assertIn("taskerd's socket, " + self.shared.node.socket, error["message"])

	def test_a_header_that_is_too_large(self):
		for data in (b"GET / HTTP/1.1\r\nX: " + b"EVIL" * 4096, b"GET /" + b"EVIL" * 4096, b"GET / HTTP/1.1\r\n" + b"EVIL: x\r\n" * 2000 + b"\r\n", b"EVIL" * 4096):
			with self.subTest(data=data[:20]):
				self.broken(431, data, "http_max_header", more=True)

	def test_a_body_that_is_too_large(self):
		for headers in (["Content-Length: 300000"], ["Content-Length: 300000", "Expect: 100-continue"]):
			with self.subTest(headers=headers):
				self.broken(413, self.request("POST /v1/tasks HTTP/1.1", *headers), "http_max_body", more=True)
		s = self.connect()  # the header comes byte by byte, and its end by itself
		for b in self.request("POST /EVIL HTTP/1.1", "Content-Length: 300000"):
			s.sendall(bytes([b]))
		self.assertEqual(self.status(self.ended(s)), 413)

	def test_a_method_that_there_is_not(self):
		self.broken(501, b"EVIL / HTTP/1.1\r\nHost: x\r\n\r\n", "no such method", more=True)
		self.broken(501, b"CONNECT EVIL:80 HTTP/1.1\r\nHost: x\r\n\r\n", "no such method", more=True)

	def test_an_expectation_that_nobody_meets(self):
		self.broken(417, self.request("POST /v1/tasks HTTP/1.1", "Expect: EVIL", "Content-Length: 5", body=b"EVILS"), "100-continue", more=True)

	def test_a_body_that_waits_to_be_asked_for(self):
		s = self.connect()
		s.sendall(self.request("POST /v1/templates/validate HTTP/1.1", "Content-Type: application/json", "Content-Length: 13", "Expect: 100-continue"))
		self.assertEqual(s.recv(25), b"HTTP/1.1 100 Continue\r\n\r\n")
		s.sendall(b'{"source":""}')
		self.assertRegex(s.recv(100), rb"^HTTP/1.1 400 ")

	def test_what_is_wrong_after_what_was_right(self):
		"""On a connection that is kept: answers to requests are left alone."""
		s = self.connect()
		s.sendall(self.request("GET /v1/tasks?limit=1 HTTP/1.1") * 3 + b"EVIL\r\n\r\n")
		answer = self.ended(s)
		self.assertEqual((answer.count(b"HTTP/1.1 200 OK"), answer.count(b"HTTP/1.1 400 ")), (3, 1))
		self.assertEqual(self.status(answer), 400)

	def test_a_request_that_does_not_end_is_told_so(self):
		for data in (b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nX: EVIL", self.request("POST /v1/tasks HTTP/1.1", "Content-Length: 5", body=b"EVIL"), self.request("GET /v1/tasks?limit=1 HTTP/1.1") + b"GET"):
			with self.subTest(data=data[-20:]):
				answer = self.sent(data, more=True)
				self.assertEqual(self.status(answer), 408)
				self.assertNotIn(b"EVIL", answer)
		self.assertEqual(self.sent(b"", more=True), b"", "who has said nothing is told nothing")

	# Slow ---------------------------------------------------------------------------------------------------------------

	def test_headers_that_do_not_end(self):
		held = [self.connect() for _ in range(20)]
		for s in held:
			s.sendall(b"GET /v1/tasks HTTP/1.1\r\nHost: x\r\nX-")
		self.others()
		for s in held:
			self.assertIn(self.status(self.ended(s)), (408,))

	def test_a_byte_now_and_then(self):
		"""Each resets the time between two bytes; the request as a whole has its time too."""
		s = self.connect()
		s.settimeout(0.2)
		data, sent, over = self.request() * 100, 0, False
		while not over:
			try:
				s.send(data[sent:sent + 1])
				sent += 1
				over = not s.recv(4096)
			except socket.timeout:
				self.assertLess(sent, 1000)
			except ConnectionError:
				over = True
		self.others()

	def test_bodies_that_do_not_come(self):
		held = [self.connect() for _ in range(20)]
		for s in held:
			s.sendall(self.request("POST /v1/tasks HTTP/1.1", "Content-Type: application/json", "Content-Length: %d" % len(self.BODY), body=self.BODY[:-1]))
		self.others()
		for s in held:
			self.assertIn(self.status(self.ended(s)), (408,))

	# Huge ---------------------------------------------------------------------------------------------------------------

	def test_huge_headers(self):
		for data in (b"GET /" + b"a" * (4 << 20), b"GET / HTTP/1.1\r\nX: " + b"a" * (4 << 20), b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: y\r\n" % i for i in range(200000)), b"A" * (4 << 20)):
			with self.subTest(data=data[:20]):
				self.assertIn(self.status(self.sent(data)), (None, 400, 413, 414, 431))

	def test_huge_bodies(self):
		for length in (1 << 20, 1 << 40, 1 << 63, 1 << 64):
			with self.subTest(length=length):
				self.assertIn(self.status(self.sent(self.request("POST /v1/tasks HTTP/1.1", "Content-Length: %d" % length, body=b" " * (1 << 20)))), (None, 400, 413))
		endless = b"".join(b"10000\r\n" + b" " * 65536 + b"\r\n" for _ in range(64))
		self.assertIn(self.status(self.sent(self.request("POST /v1/tasks HTTP/1.1", "Transfer-Encoding: chunked", body=endless))), (None, 400, 413))

	# Malformed ----------------------------------------------------------------------------------------------------------

	def test_chunks_that_are_none(self):
		for body in (b"zz\r\n", b"-1\r\n", b"+5\r\nhello\r\n", b"ffffffffffffffff\r\n", b"fffffffffffffffffffff\r\n", b"\r\n", b"0x5\r\nhello\r\n0\r\n\r\n"):
			with self.subTest(body=body[:20]):
				self.assertNotIn(self.status(self.sent(self.request("POST /v1/tasks HTTP/1.1", "Content-Type: application/json", "Transfer-Encoding: chunked", body=body))), (200, 201))

	def test_a_chunk_with_an_extension_is_not_called_too_large_only(self):
		self.broken(413, self.request("POST /v1/tasks HTTP/1.1", "Content-Type: application/json", "Transfer-Encoding: chunked", body=b"2;x=EVIL\r\n{}\r\n0\r\n\r\n"), "without extensions", more=True)

	def test_lines_that_are_none(self):
		for data in (b"\r\n\r\n\r\n\r\n", b"GET\r\n\r\n", b"GET /health\r\n\r\n", b"GET /health HTTP/9.9\r\n\r\n", b"GET  /health  HTTP/1.1\r\n\r\n", b"\0\0\0\0", bytes(range(256)) * 8, b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"x" * 500,
		             b"GET /health HTTP/1.1\r\n: x\r\n\r\n", b"GET /health HTTP/1.1\r\nNo colon\r\n\r\n", b"CONNECT x:80 HTTP/1.1\r\n\r\n", b"BREW / HTTP/1.1\r\n\r\n"):
			with self.subTest(data=data[:30]):
				self.assertIn(self.status(self.sent(data)), (None, 400, 404, 405, 501, 505, 200) if b"9.9" in data else (None, 400, 404, 405, 501, 505))

	def test_line_breaks_in_what_is_answered(self):
		"""Nothing of a request becomes a header of its answer."""
		for path in ("/v1/%0d%0aX-Evil:%201", "/v1/tasks/%0d%0aX-Evil:%201", "/v1/tasks?name=%0d%0aX-Evil:%201", "/v1/templates/a%0d%0aX-Evil:1/b"):
			with self.subTest(path=path):
				answer = self.sent(self.request("GET %s HTTP/1.1" % path, "Connection: close"))
				head = answer.split(b"\r\n\r\n", 1)[0]
				self.assertIsNotNone(self.status(answer))
				self.assertNotIn(b"\nX-Evil", head)

	def test_two_ways_to_say_where_a_request_ends(self):
		"""What a proxy before us may have taken for a body is never run as a request: it would have made a task."""
		inner = self.request("POST /v1/tasks HTTP/1.1", "Content-Type: application/json", "Content-Length: %d" % len(self.BODY), body=self.BODY)
		chunked = b"%x\r\n" % len(inner) + inner + b"\r\n0\r\n\r\n"
		for headers, body in ((["Content-Length: 5", "Transfer-Encoding: chunked"], b"0\r\n\r\n" + inner), (["Transfer-Encoding: chunked", "Content-Length: %d" % len(chunked)], chunked), (["Content-Length: 0", "Content-Length: %d" % len(inner)], inner),
		                      (["Transfer-Encoding: chunked, identity"], b"0\r\n\r\n" + inner), (["Transfer-Encoding: identity", "Content-Length: 0"], inner), (["Transfer-Encoding:\x0bchunked"], b"0\r\n\r\n" + inner),
		                      (["Transfer-Encoding: xchunked"], b"0\r\n\r\n" + inner), (["Content-Length: +0"], inner), (["Content-Length: 0x0"], inner), (["Content-Length: -1"], inner), (["Content-Length: 0, %d" % len(inner)], inner),
		                      (["Content-Length : 0"], inner), (["X: y", "Content-Length\t: 0"], inner)):
			with self.subTest(headers=headers):
				answer = self.sent(self.request("GET /v1/tasks HTTP/1.1", *headers, body=body), more=True)
				self.assertNotIn(b" 201 ", answer)
				self.assertEqual(self.tasks(), self.before[0])

	# Many ---------------------------------------------------------------------------------------------------------------

	def test_a_pipeline(self):
		"""Requests that do not wait for answers are answered in order."""
		s = self.connect()
		s.sendall(self.request("GET /v1/tasks?limit=1 HTTP/1.1") * 50 + self.request("GET /health/live HTTP/1.1", "Connection: close"))
		answer = self.ended(s)
		self.assertEqual(answer.count(b"HTTP/1.1 200"), 51)

	def test_half_closed(self):
		s = self.connect()
		s.sendall(self.request("GET /v1/tasks?limit=1 HTTP/1.1"))
		s.shutdown(socket.SHUT_WR)
		self.assertEqual(self.status(self.ended(s)), 200)

	def test_thousands_of_connections(self):
		"""From one address, saying nothing: the longest idle go, those who ask something are served."""
		held = []
		descriptors = wire.descriptors(self.node.pid)
		for _ in range(MANY):
			s = socket.socket()
			s.setblocking(False)
			s.connect_ex(("127.0.0.1", self.shared.port))
			self.addCleanup(s.close)
			held.append(s)
		self.others()
		self.assertLess(wire.descriptors(self.node.pid), descriptors + 200)
		with selectors.DefaultSelector() as sel:
			for s in held[:50]:
				sel.register(s, selectors.EVENT_READ)
			self.assertTrue(sel.select(harness.PATIENCE), "an idle connection is closed")

	def limited(self, answer, limit, maximum):
		self.assertEqual((answer.status, answer.body["code"], answer.body["details"]), (429, "overloaded", {"limit": limit, "max": maximum}), answer.body)
		self.assertIn("token:hostile", answer.body["detail"])
		self.assertTrue(answer.headers["Retry-After"])

	def test_a_token_that_takes_all_it_can(self):
		"""Requests that wait, and streams: it has its part of them, and another token, and one of nobody, the rest."""
		noisy, other = ({"Authorization": "Bearer " + token} for token in (self.shared.token, self.shared.other))
		task = self.node.client.create_task("pair", namespace="t").task_uuid
		self.addCleanup(lambda: self.node.client.request("task.cancel", {"task_uuid": task, "reason": "a test"}))
		self.before = (self.tasks(), self.before[1])
		held = []
		for _ in range(48):
			s = self.connect()
			s.sendall(self.request("GET /v1/tasks/%s/wait?timeout_ms=600000 HTTP/1.1" % task))
			held.append(s)
		web_ = web.Web(self.shared.port, **noisy)
		self.addCleanup(web_.close)
		wait_for(lambda: web_.get("/v1/tasks?limit=1").status == 429, "its requests to be under way")
		self.limited(web_.get("/v1/tasks?limit=1"), "http_max_requests_per_user", 48)
		self.limited(web_.get("/v1/events/stream?patterns=*"), "http_max_requests_per_user", 48)
		self.assertEqual(web_.get("/health/ready").status, 200)
		for s in held:
			s.close()
		wait_for(lambda: web_.get("/v1/tasks?limit=1").status == 200, "its requests to have ended")
		streams = []
		for _ in range(6):
			streams.append(web_.stream("/v1/events/stream?patterns=*"))
			self.addCleanup(streams[-1].close)
		self.assertEqual({s.status for s in streams}, {200})
		self.limited(web_.get("/v1/events/stream?patterns=*"), "http_max_streams_per_user", 6)
		self.assertEqual(web_.get("/v1/tasks?limit=1").status, 200)
		with web.Web(self.shared.port, **other).stream("/v1/events/stream?patterns=*") as s:
			self.assertEqual((s.status, s.next()[0]), (200, "subscribed"))
		streams[0].close()
		wait_for(lambda: self.streams() < 6, "a stream to have ended")
		with web_.stream("/v1/events/stream?patterns=*") as s:
			self.assertEqual(s.status, 200)

	def streams(self):
		client = web.Web(self.shared.port)
		try:
			return client.get("/health/detailed").body["checks"]["http"]["streams"]
		finally:
			client.close()

	def test_streams_that_nobody_reads(self):
		"""As many as there may be; events are published for them, of which the daemon keeps no more than its bound."""
		readers = []
		for _ in range(12):
			s = socket.socket()
			s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
			s.settimeout(harness.PATIENCE)
			s.connect(("127.0.0.1", self.shared.port))
			self.addCleanup(s.close)
			s.sendall(self.request("GET /v1/events/stream?patterns=* HTTP/1.1"))
			readers.append(s)
		first = [s.recv(12) for s in readers]
		self.assertEqual(sorted(first), [b"HTTP/1.1 200"] * 6 + [b"HTTP/1.1 429"] * 6, "three quarters of what all may have")
		payload = {"x": "y" * 200000}
		for _ in range(120):
			self.node.client.request("event.publish", {"name": "loud", "namespace": "t", "delivery_mode": "fast", "payload": payload})
		self.others()


class Unread(harness.SharedCase):
	"""Answers that nobody reads, over a Unix socket, whose buffer in the kernel is small. Nobody is let go for the time they take."""

	@classmethod
	def prepare(cls, stage):
		stage.db = stage.database()
		stage.node = stage.daemon(stage.db, http_timeout_ms=3600000, http_max_connections=4, max_bytes_per_uid="2 MiB")
		stage.apply(stage.node, template("rest", [step("a", "t.nobody", attempts=1)]))
		stage.path = web.http_socket(stage.node)
		stage.token, stage.other = (stage.node.client.request("token.create", {"name": name, "roles": ["read"]})["token"] for name in ("hostile", "other"))
		for token in stage.token, stage.other:
			client = web.Web(stage.path, Authorization="Bearer " + token)
			wait_for(lambda c=client: c.get("/v1/tasks").status == 200, "the token to be known")
			client.close()

	@classmethod
	def tearDownClass(cls):
		harness.Case.tearDownClass.__func__(cls)  # nothing here has left a ledger

	def task(self, size):
		return self.node.client.create_task("rest", namespace="t", context={"x": "y" * size}).task_uuid

	def ask(self, task, token):
		"""The connection, and the first words of the answer, of which no more is read."""
		s = socket.socket(socket.AF_UNIX)
		self.addCleanup(s.close)
		s.settimeout(harness.PATIENCE)
		s.connect(self.shared.path)
		s.sendall(("GET /v1/tasks/%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n" % (task, token)).encode())
		return s, s.recv(12)

	def test_they_count_for_their_user(self):
		task = self.task(1000000)
		held = [self.ask(task, self.shared.token) for _ in range(3)]
		self.assertEqual([words for _, words in held], [b"HTTP/1.1 200", b"HTTP/1.1 200", b"HTTP/1.1 429"])
		self.assertIn(b'"details":{"limit":"max_bytes_per_uid","max":2097152}', held[2][0].recv(65536))
		self.assertEqual(self.ask(task, self.shared.other)[1], b"HTTP/1.1 200")
		held[0][0].close()
		wait_for(lambda: self.ask(task, self.shared.token)[1] == b"HTTP/1.1 200", "what was left to be forgotten")

	def test_they_make_room(self):
		task = self.task(300000)
		self.assertEqual([self.ask(task, self.shared.token)[1] for _ in range(5)], [b"HTTP/1.1 200"] * 5)
		self.assertEqual(self.ask(task, self.shared.other)[1], b"HTTP/1.1 200")


if __name__ == "__main__":
	unittest.main()

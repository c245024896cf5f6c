"""HTTP over a Unix socket or a port, for tests: requests, problems, and streams of server-sent events."""
import collections
import contextlib
import http.client
import json
import re
import socket

import harness

Answer = collections.namedtuple("Answer", "status headers body")


class _UnixConnection(http.client.HTTPConnection):
	def __init__(self, path, timeout):
		super().__init__("localhost", timeout=timeout)
		self._path = path

	def connect(self):
		self.sock = socket.socket(socket.AF_UNIX)
		self.sock.settimeout(self.timeout)
		self.sock.connect(self._path)


def http_socket(daemon):
	"""Where a daemon answers HTTP if nobody has said otherwise."""
	return re.sub(r"\.sock$", "", daemon.socket) + "-http.sock"


def ports(daemon):
	"""Of a daemon that was told to take free ones."""
	return [int(p) for p in re.findall(r"HTTP on (?:[\d.]+|\[[\da-f:]+\]):(\d+)", daemon.log_text())]


class Web:
	"""One connection, kept. `where`: a path, or a port of 127.0.0.1."""

	def __init__(self, where, **headers):
		self.where, self.headers = where, {k.replace("_", "-"): v for k, v in headers.items()}
		self._connection = None

	def connect(self):
		if isinstance(self.where, str):
			return _UnixConnection(self.where, harness.PATIENCE)
		return http.client.HTTPConnection("127.0.0.1", self.where, timeout=harness.PATIENCE)

	def close(self):
		if self._connection:
			self._connection.close()
		self._connection = None

	def ask(self, verb, path, body=None, **headers):
		"""The answer; JSON is read, whatever the status. `body`: a value, or bytes as they are."""
		headers = {**self.headers, **{k.replace("_", "-"): v for k, v in headers.items()}}
		if body is not None and not isinstance(body, bytes):
			body = json.dumps(body).encode()
			headers.setdefault("Content-Type", "application/json")
		self._connection = self._connection or self.connect()
		with contextlib.suppress(BrokenPipeError):  # refused before all of it was sent: the answer is there
			self._connection.request(verb, path, body, headers)
		r = self._connection.getresponse()
		data, kind = r.read(), r.getheader("Content-Type") or ""
		return Answer(r.status, r.headers, json.loads(data) if "json" in kind and data else data.decode())

	def get(self, path, **headers):
		return self.ask("GET", path, **headers)

	def post(self, path, body=None, **headers):
		return self.ask("POST", path, body, **headers)

	def stream(self, path, **headers):
		return Stream(self, path, headers)


class Stream:
	"""Server-sent events, as (event, id, data)."""

	def __init__(self, web, path, headers):
		self._connection = web.connect()
		self._connection.request("GET", path, headers={**web.headers, "Accept": "text/event-stream", **{k.replace("_", "-"): v for k, v in headers.items()}})
		self.answer = self._connection.getresponse()
		self.status = self.answer.status

	def next(self):
		"""The next event; None at the end."""
		fields = {}
		while True:
			line = self.answer.readline().decode().rstrip("\n")
			if not line and not fields:
				if self.answer.isclosed():
					return None
				continue
			if not line:
				return fields["event"], fields.get("id"), json.loads(fields["data"])
			name, _, value = line.partition(": ")
			if name:
				fields[name] = value

	def rest(self):
		return list(iter(self.next, None))

	def close(self):
		self.answer.close()
		self._connection.close()

	def __enter__(self):
		return self

	def __exit__(self, *_):
		self.close()


def raw(where, data, half_close=False):
	"""What comes back for some bytes, until the daemon closes the connection (or, if `half_close`, all that it answers to what was said)."""
	with socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET) as s:
		s.settimeout(harness.PATIENCE)
		s.connect(where if isinstance(where, str) else ("127.0.0.1", where))
		s.sendall(data)
		if half_close:
			s.shutdown(socket.SHUT_WR)
		out = b""
		try:
			while True:
				got = s.recv(65536)
				if not got:
					return out
				out += got
		except ConnectionResetError:
			return out


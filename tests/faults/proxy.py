"""A relay between two Unix sockets that can stop, look at what passes, and cut either side."""
import os
import socket
import struct
import threading
import time


class Proxy:
	"""Listens at `path`, connects to `target` for each who comes. `watch(link, from_client, data)` sees every piece before it goes on and says how many bytes of it may;
	it may call link.cut()."""

	def __init__(self, path, target, watch=None):
		self.path, self.target, self.watch = path, target, watch
		self.links = []
		self._lock = threading.Lock()
		self._listener = socket.socket(socket.AF_UNIX)
		self._listener.bind(path)
		self._listener.listen(64)
		os.chmod(path, 0o777)
		threading.Thread(target=self._accept, daemon=True).start()

	def _accept(self):
		while True:
			try:
				client, _ = self._listener.accept()
			except OSError:
				return  # closed
			server = socket.socket(socket.AF_UNIX)
			try:
				server.connect(self.target)
			except OSError:
				client.close()
				server.close()
				continue
			link = Link(self, client, server)
			with self._lock:
				self.links.append(link)
			link.start()

	def cut(self):
		"""Cut every link."""
		with self._lock:
			links, self.links = self.links, []
		for link in links:
			link.cut()

	def close(self):
		self._listener.close()
		self.cut()


class Link:
	"""One connection through the proxy."""

	def __init__(self, proxy, client, server):
		self.proxy, self.client, self.server = proxy, client, server
		self.state = {}  # for the watcher
		self.kept = False

	def start(self):
		for source, to, from_client in ((self.client, self.server, True), (self.server, self.client, False)):
			threading.Thread(target=self._relay, args=(source, to, from_client), daemon=True).start()

	def _relay(self, source, to, from_client):
		while True:
			try:
				data = source.recv(65536)
			except OSError:
				data = b""
			if not data:
				break
			if self.proxy.watch:
				data = data[:self.proxy.watch(self, from_client, data)]
				if not data:
					break
			try:
				to.sendall(data)
			except OSError:
				break
		if not self.kept:
			self.cut()

	def cut(self):
		"""Both sides see the end."""
		for sock in (self.client, self.server):
			_end(sock)

	def cut_client(self):
		"""The client sees the end of the connection, the server does not: it believes that its client is there."""
		self.kept = True
		_end(self.client)


	def cut_server(self):
		"""The server sees the end of the connection, the client does not."""
		self.kept = True
		_end(self.server)


def _end(sock):
	try:
		sock.shutdown(socket.SHUT_RDWR)
	except OSError:
		pass
	sock.close()


class Tap:
	"""A watcher to be armed while traffic goes on: it delays what passes, or cuts a database connection between a commit and its answer."""

	CALLS = tuple(b"\0" + name + b"\0" for name in (b"record", b"record_one", b"record_many", b"create", b"create_one", b"create_many", b"claim", b"start")) + (b"COMMIT\0",)
	READY = b"Z\0\0\0\5I"

	def __init__(self):
		self.delay, self.commits = 0, 0
		self.cut_commits = 0  # so far

	def __call__(self, link, from_client, data):
		if self.delay:
			time.sleep(self.delay)
		if from_client:
			link.state["call"] = any(c in data for c in self.CALLS)
		elif self.commits > 0 and link.state.get("call") and data.endswith(self.READY):
			self.commits -= 1
			self.cut_commits += 1
			link.cut()
			return 0
		return len(data)


class Frames:
	"""Cuts a stream of taskerd frames: feed() gives the payloads that are complete, with the offset in the stream at which each began."""

	def __init__(self):
		self._data, self._at = b"", 0

	def feed(self, data):
		self._data += data
		found = []
		while len(self._data) >= 4:
			size = struct.unpack(">I", self._data[:4])[0]
			if len(self._data) < 4 + size:
				break
			found.append((self._at, self._data[4:4 + size]))
			self._data, self._at = self._data[4 + size:], self._at + 4 + size
		return found

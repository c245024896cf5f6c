"""A relay between workers and a daemon. It reads along, holds both sides to the rules of a session, and breaks the connection where a scenario says so."""
import os
import queue
import socket
import threading

from . import frames


class Audit:
	"""One connection: what is open on it, and what was said out of turn."""

	def __init__(self, breaches):
		self.methods, self.open, self.breaches = {}, {}, breaches
		self.capacity = None
		self.must_resume = False

	def seen(self, side, m):
		"""The method of a message (of a response: of its request)."""
		if m[0] == 1:
			method = self.methods.pop(m[1], "?")
		else:
			method = m[1] if m[0] == 2 else m[2]
			if m[0] == 0:
				self.methods[m[1]] = method
		check = self.CHECKS.get((side, m[0], method))
		if check:
			check(self, m[-1])
		return method

	def _hello(self, params):
		worker = params.get("worker")
		if worker:
			self.capacity = worker["max_concurrency"]
			self.must_resume = (params.get("resume") or {}).get("held", 0) > 0

	def _execute(self, params):
		for step in params["steps"]:
			self.open[step["step_uuid"], step["attempt"], step["claim"]] = step
		if self.capacity is not None and len(self.open) > self.capacity:
			self.breaches.append("%d steps open of %d allowed" % (len(self.open), self.capacity))

	def _resume(self, params):
		self.must_resume = False
		for step in params["steps"]:
			self.open[step["step_uuid"], step["attempt"], step["claim"]] = step

	def _result(self, params):
		if self.must_resume:
			self.breaches.append("results before session.resume")
		for result in params["results"]:
			key = (result.get("step_uuid"), result.get("attempt"), result.get("claim"))
			if self.open.pop(key, None) is None:
				self.breaches.append("a result of a step that is not open, or a second one: %r" % (key[:2],))

	def _checkpoint(self, params):
		if params.get("yield"):
			self.open.pop((params["step_uuid"], params["attempt"], params["claim"]), None)

	CHECKS = {("worker", 0, "hello"): _hello, ("daemon", 2, "step.execute"): _execute, ("worker", 0, "session.resume"): _resume,
	          ("worker", 2, "step.result"): _result, ("worker", 0, "step.checkpoint"): _checkpoint}


class Tap:
	"""Listens at `path`, and passes on to `upstream`. `faults` are those of the scenario; each that comes to pass is put into `fired`."""

	def __init__(self, path, upstream, faults, kill):
		self.path, self.breaches, self.fired = path, [], queue.Queue()
		self._upstream, self._faults, self._kill = upstream, [dict(f, seen=0) for f in faults], kill
		self._lock, self._sockets, self._closed = threading.Lock(), [], False
		self._server = socket.socket(socket.AF_UNIX)
		self._server.bind(path)
		os.chmod(path, 0o666)
		self._server.listen(64)
		threading.Thread(target=self._accept, daemon=True).start()

	def close(self):
		self._closed = True
		for s in [self._server, *self._sockets]:
			_shut(s)

	def _accept(self):
		while not self._closed:
			try:
				near, _ = self._server.accept()
			except OSError:
				return
			far = socket.socket(socket.AF_UNIX)
			try:
				far.connect(self._upstream)
			except OSError:
				near.close()
				far.close()
				continue
			self._sockets += [near, far]
			audit = Audit(self.breaches)
			for side, source, target in (("worker", near, far), ("daemon", far, near)):
				threading.Thread(target=self._pump, args=(side, source, target, audit), daemon=True).start()

	def _pump(self, side, source, target, audit):
		reader = frames.Reader(64 << 20)
		try:
			while True:
				data = source.recv(1 << 18)
				if not data:
					break
				if not self._pass_on(side, target, audit, reader.feed(data)):
					break
		except OSError:
			pass
		except (frames.Breach, KeyError, TypeError) as e:
			self.breaches.append("%s: %s" % (side, e))
		_shut(source)
		_shut(target)

	def _pass_on(self, side, target, audit, payloads):
		"""False once the connection is to be cut."""
		for payload in payloads:
			with self._lock:
				method = audit.seen(side, frames.envelope(payload))
				fault = self._fault(side, method)
			if fault is None or fault.get("pass"):
				target.sendall(len(payload).to_bytes(4, "big") + payload)
			if fault is not None:
				if fault["do"] == "kill":
					self._kill()
				self.fired.put(fault)
				return False
		return True

	def _fault(self, side, method):
		"""The fault that comes to pass with this message."""
		for fault in self._faults:
			if (fault["from"], fault["method"]) == (side, method):
				fault["seen"] += 1
				if fault["seen"] == fault.get("nth", 1):
					return fault
		return None


def _shut(s):
	try:
		s.shutdown(socket.SHUT_RDWR)
	except OSError:
		pass
	s.close()

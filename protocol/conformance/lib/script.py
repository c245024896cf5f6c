"""Scenarios in which the runner plays the daemon's part, frame by frame."""
import json
import os
import select
import signal
import socket
import time
import uuid

from harness import PATIENCE, wait_for

from . import frames, stage as st
from .patterns import filled, misfit

LIMITS = {"max_frame": 4 << 20, "max_items": 262144, "max_depth": 30, "max_bulk": 1000, "max_context": 1 << 20, "max_result": 1 << 20}
PASSED_OVER = ("heartbeat", "step.heartbeat", "step.log")
SERVED = "conf.echo"
HOSTILE = os.path.join(st.ROOT, "protocol", "vectors", "hostile.json")
MUST_CLOSE = ("frame", "envelope")


class Gone(st.Failed):
	"""The client has closed the connection."""


class Peer:
	"""One connection of the client."""

	def __init__(self, sock):
		self._sock, self._reader, self._got, self.eof = sock, frames.Reader(64 << 20), [], False

	def send(self, data):
		try:
			self._sock.sendall(data)
		except OSError:
			self.eof = True

	def read(self, passing=PASSED_OVER, end=None):
		"""The next message; heartbeats and logs are passed over."""
		end = end or time.monotonic() + PATIENCE
		while True:
			while self._got:
				m = self._got.pop(0)
				if m[0] == 0 and m[2] == "ping":
					self.send(frames.frame([1, m[1], None, {}]))
				elif m[0] != 2 or m[1] not in passing:
					return m
			if self.eof:
				raise Gone("the client closed the connection")
			self._fill(end)

	def _fill(self, end):
		if not select.select([self._sock], [], [], max(0.0, end - time.monotonic()))[0]:
			raise st.Failed("waited in vain for a message of the client")
		try:
			data = self._sock.recv(1 << 18)
		except OSError:
			data = b""
		self.eof = not data
		self._got += [frames.envelope(p) for p in self._reader.feed(data)]

	def closed(self):
		"""Wait until the client has closed."""
		end = time.monotonic() + PATIENCE
		try:
			while True:
				self.read(end=end)
		except Gone:
			pass

	def close(self):
		self._sock.close()


class Script:
	"""One scenario."""

	def __init__(self, adapter, scenario):
		self.scenario, self.kept = scenario, {}
		self.stage, self.peer, self.worker, self.server = st.Stage(adapter), None, None, None
		self.options, self.welcome = {}, None
		self.sent, self.results, self._count, self._task = [], [], 0, str(uuid.uuid4())

	def run(self):
		self.stage.begin(self.scenario["name"])
		self.path = os.path.join(self.stage.place, "d.sock")
		try:
			self._run()
		except BaseException:
			if self.worker:
				self.scenario["words"] = "worker: " + "\n".join(self.worker.last_words().splitlines()[-30:]).replace("\n", "\nworker: ")
			raise
		finally:
			for s in (self.peer, self.server):
				if s:
					s.close()
			self.stage.end()

	def _run(self):
		actions = list(self.scenario["do"])
		if "deaf" in actions[:1]:
			actions.pop(0)
		else:
			self.do_listen(None)
		given = {k: v for k, v in (self.scenario.get("worker") or {}).items() if k != "forbidden"}
		if (self.scenario.get("worker") or {}).get("forbidden"):
			given["user"] = self._forbid()
		self.worker = self.stage.worker(self.path, **given)
		for action in actions:
			for word, value in ({action: None} if isinstance(action, str) else dict(list(action.items())[:1])).items():
				self.options = {k: v for k, v in action.items() if k != word} if isinstance(action, dict) else {}
				getattr(self, "do_" + word)(value)

	def _forbid(self):
		"""Close the socket to everybody; root, who may all the same, runs the worker as a user who may not."""
		os.chmod(self.path, 0)
		return 65534 if os.geteuid() == 0 else None

	# -- the socket --------------------------------------------------------------------------------

	def do_listen(self, _):
		self.server = socket.socket(socket.AF_UNIX)
		self.server.bind(self.path)
		self.server.listen(16)

	def do_allow(self, _):
		os.chmod(self.path, 0o666)

	def do_deaf(self, _):
		self.server.close()
		os.unlink(self.path)

	def do_accept(self, _):
		if self.peer:
			self.peer.close()
		if not select.select([self.server], [], [], PATIENCE)[0]:
			raise st.Failed("the client does not connect")
		self.peer = Peer(self.server.accept()[0])

	def do_refuse(self, n):
		"""Hang up on n connections, each at once."""
		for _ in range(n):
			self.do_accept(None)
			self.peer.close()

	def do_close(self, _):
		self.peer.close()

	def do_closed(self, _):
		self.peer.closed()

	# -- messages ----------------------------------------------------------------------------------

	def do_hello(self, answer):
		m = self.peer.read()
		if m[0] != 0 or m[2] != "hello":
			raise st.Failed("the first message is not hello but %.200r" % (m,))
		self._fits("hello", self.options.get("params", {}), m[3])
		welcome = {"protocol": [1, 0], "server": "taskerd/0.1.0", "node": "script", "session": "s-" + str(uuid.uuid4()), "resumed": False,
		           "worker_uuid": str(uuid.uuid4()), "heartbeat_ms": 5000, "limits": LIMITS, "features": [], **filled(answer or {}, self.kept)}
		self.session = self.kept["session"] = welcome["session"]
		self.peer.send(frames.frame([1, m[1], None, welcome]))

	def do_refuse_hello(self, error):
		m = self.peer.read()
		self.peer.send(frames.frame([1, m[1], error, None]))

	def do_read(self, pattern):
		method = pattern[1] if len(pattern) == 3 else None
		self._fits("a message", pattern, self.peer.read([p for p in PASSED_OVER if p != method]))

	def do_send(self, envelope):
		self.peer.send(frames.frame(filled(envelope, self.kept)))

	def do_bytes(self, text):
		self.peer.send(bytes.fromhex(text))

	def do_execute(self, steps):
		self.sent = [self._step(s) for s in steps]
		self.results = []
		self.peer.send(frames.frame([2, "step.execute", {"steps": self.sent}]))

	def _step(self, short):
		if "again" in short:
			return {**self.kept["steps"][short["again"] - 1], **{k: filled(v, self.kept) for k, v in short.items() if k != "again"}}
		self._count += 1
		handler = {"callable": short.get("handler", SERVED), "initialization": short.get("config", {})}
		handler.update({k: short[k] for k in ("method", "resolver") if k in short})
		made = {"step_uuid": str(uuid.UUID(int=uuid.uuid4().int & ~0xffff | self._count)), "task_uuid": self._task, "attempt": 1, "max_attempts": 3, "retryable": True,
		        "claim": os.urandom(16), "namespace": "conf", "template": "script", "version": "1.0.0", "step": "step_%d" % self._count, "context": {},
		        "inputs": handler["initialization"], "dependencies": {}, "dependencies_partial": False, "priority": 0}
		made.update({k: filled(v, self.kept) for k, v in short.items() if k not in ("handler", "config", "method", "resolver")}, handler=handler)
		self.kept.setdefault("steps", []).append(made)
		self.kept.update({"step_%d.%s" % (self._count, k): made[k] for k in ("step_uuid", "claim", "attempt")})
		return made

	def do_results(self, patterns):
		"""As many results as patterns, each fitting the step sent at its place, whatever the order they come in."""
		got = {}
		while len(got) < len(patterns):
			m = self.peer.read()
			if m[0] != 2 or m[1] != "step.result":
				raise st.Failed("not step.result but %.300r" % (m,))
			for r in m[2]["results"]:
				got[r["step_uuid"]] = r
		for step, pattern in zip(self.sent, patterns):
			wanted = {**(pattern or {}), **{k: step[k] for k in ("step_uuid", "attempt", "claim")}}
			self._fits("the result of " + step["step"], wanted, got.get(step["step_uuid"], {}))
		self.results = self.sent[:len(patterns)]

	def do_ack(self, status):
		acks = [{"step_uuid": s["step_uuid"], "attempt": s["attempt"], "status": status} for s in self.results]
		self.peer.send(frames.frame([2, "result.ack", {"acks": acks}]))

	def do_resume(self, statuses):
		"""Reads session.resume with the steps sent, in any order, and answers with a status for each."""
		m = self.peer.read()
		if m[0] != 0 or m[2] != "session.resume":
			raise st.Failed("not session.resume but %.300r" % (m,))
		named = {s["step_uuid"]: s for s in m[3]["steps"]}
		for step in self.sent:
			self._fits("session.resume", {k: step[k] for k in ("step_uuid", "attempt", "claim")}, named.get(step["step_uuid"], {}))
		steps = [{"step_uuid": s["step_uuid"], "attempt": s["attempt"], "status": status} for s, status in zip(self.sent, statuses)]
		self.peer.send(frames.frame([1, m[1], None, {"steps": steps}]))

	def do_beats(self, n):
		"""So many heartbeats come by themselves."""
		for _ in range(n):
			self._fits("a message", [2, "heartbeat", {}], self.peer.read(()))

	# -- the process -------------------------------------------------------------------------------

	def do_begun(self, n):
		wait_for(lambda: len(self.stage.notes.lines("begin")) >= n, "%d handlers to begin" % n)

	def do_ledger(self, pattern):
		wait_for(lambda: any(misfit(pattern, line, self.kept) is None for line in self.stage.notes.lines()),
		         lambda: "a line %r in the ledger; there are %r" % (pattern, self.stage.notes.lines()))

	def do_gate(self, name):
		self.stage.notes.open_gate(name)

	def do_signal(self, name):
		self.worker.signal(getattr(signal, "SIG" + name))

	def do_exit(self, status):
		st.ended(self.worker, status)

	def do_says(self, regex):
		regex = regex.replace("{path}", self.path)
		wait_for(lambda: st.said(self.worker, regex), lambda: "the worker to say %s; it says:\n%s" % (regex, self.worker.last_words()))
		lines = st.said(self.worker, regex)
		if len(lines) > self.options.get("at_most", len(lines)):
			raise st.Failed("said %d times: %s" % (len(lines), regex))

	def do_alive(self, _):
		"""The worker serves, on this connection or the next."""
		self._serve_one()

	def _serve_one(self):
		if not self.worker.alive():
			raise st.Failed("the worker has ended with %s" % self.worker.wait())
		if self.peer and not self.peer.eof:
			try:
				return self._echo()
			except Gone:
				pass
		self.do_accept(None)
		self.do_hello(self.welcome)
		return self._echo()

	def _echo(self):
		"""One step there and back. A worker that resumes something is told that it has gone to others; results of before are acknowledged as stale."""
		self.do_execute([{"handler": SERVED, "config": {"alive": True}}])
		mine = self.sent[0]
		while True:
			m = self.peer.read()
			if m[0] == 0 and m[2] == "session.resume":
				steps = [{"step_uuid": s["step_uuid"], "attempt": s["attempt"], "status": "held" if s["step_uuid"] == mine["step_uuid"] else "stale"} for s in m[3]["steps"]]
				self.peer.send(frames.frame([1, m[1], None, {"steps": steps}]))
				continue
			if m[0] != 2 or m[1] != "step.result":
				raise st.Failed("not step.result but %.300r" % (m,))
			acks = [{"step_uuid": r["step_uuid"], "attempt": r["attempt"], "status": "recorded"} for r in m[2]["results"]]
			self.peer.send(frames.frame([2, "result.ack", {"acks": acks}]))
			for r in m[2]["results"]:
				if r["step_uuid"] == mine["step_uuid"]:
					return self._fits("the result", {"success": True, "claim": mine["claim"], "result": {"config": {"alive": True}}}, r)

	def do_hostile(self, _):
		"""All of hostile.json, one after the other."""
		with open(HOSTILE, encoding="utf-8") as f:
			entries = json.load(f)
		for entry in entries:
			limits = {**LIMITS, "max_frame": 65536, "max_items": 4096, **{{"max_payload": "max_frame"}.get(k, k): v for k, v in entry.get("limits", {}).items() if k == "max_payload"}}
			try:
				self._hostile(entry, limits)
			except AssertionError as e:
				raise st.Failed("%s (%s): %s" % (entry["name"], entry["why"], e)) from e

	def _hostile(self, entry, limits):
		if self.peer is None or self.peer.eof or limits != self.kept.get("limits"):
			if self.peer and not self.peer.eof:
				self.peer.close()
			self.do_accept(None)
			self.welcome = {"limits": limits}
			self.do_hello(self.welcome)
			self._echo()
			self.kept["limits"] = limits
		self._echo()  # so the acknowledgement before has been read, and the next reconnect is a quick one
		data = bytes.fromhex(entry["hex"])
		self.peer.send(data if entry["refused_by"] == "frame" else len(data).to_bytes(4, "big") + data)
		if entry["refused_by"] in MUST_CLOSE and entry["why"] not in LENIENT:
			self.peer.closed()
		else:
			self._serve_one()

	def _fits(self, what, pattern, value):
		why = misfit(filled_pattern(pattern, self.kept), value, self.kept)
		if why:
			raise st.Failed("%s: %s" % (what, why))


#: What a client may also pass over: it harms nobody.
LENIENT = ("params are not a map", "id is not an unsigned 32-bit integer", "exactly one of error and result must be nil", "error is not a map")


def filled_pattern(pattern, kept):
	"""{session} and the like in patterns."""
	if isinstance(pattern, dict):
		return {k: filled_pattern(v, kept) for k, v in pattern.items()}
	if isinstance(pattern, list):
		return [filled_pattern(v, kept) for v in pattern]
	return kept["session"] if pattern == "{session}" else pattern

"""contrib/nginx/taskerd.conf: TLS before the daemon, events as they happen, limits; what a proxy's headers say of who asks counts for nothing."""
import http.client
import os
import re
import shutil
import socket
import ssl
import subprocess
import unittest

import harness
import web
import wire
from harness import step, template, wait_for

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")
CONF = os.path.join(harness.ROOT, "contrib", "nginx", "taskerd.conf")
CTL = harness.program("clients", "taskerctl", "taskerctl")


def free_port():
	with socket.socket() as s:
		s.bind(("127.0.0.1", 0))
		return s.getsockname()[1]


class _Tls(web.Web):
	def connect(self):
		context = ssl.create_default_context(cafile=self.certificate)
		return http.client.HTTPSConnection("localhost", self.where, timeout=harness.PATIENCE, context=context)


@unittest.skipUnless(NGINX, "nginx is missing: apt-get install nginx-light")
class Proxy(harness.SharedCase):
	@classmethod
	def prepare(cls, stage):
		stage.db = stage.database()
		stage.node = stage.daemon(stage.db, http_listen="127.0.0.1:0")
		stage.apply(stage.node, template("pair", [step("a", "t.a", attempts=1)]))
		stage.token = subprocess.run([CTL, "--socket=" + stage.node.socket, "-q", "token", "create", "proxy", "--role", "read", "--role", "submit"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout.strip()
		stage.port, stage.plain = free_port(), free_port()
		cls.start_nginx(stage, web.ports(stage.node)[0])

	@classmethod
	def start_nginx(cls, stage, daemon_port):
		place = stage.place
		stage.certificate = os.path.join(place, "cert.pem")
		subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
		                "-keyout", os.path.join(place, "key.pem"), "-out", stage.certificate], check=True, capture_output=True)
		with open(CONF, encoding="utf-8") as f:
			conf = f.read()
		for old, new in (("127.0.0.1:8090", "127.0.0.1:%d" % daemon_port), ("listen 80;", "listen 127.0.0.1:%d;" % stage.plain), ("listen 443 ssl", "listen 127.0.0.1:%d ssl" % stage.port),
		                 ("/etc/ssl/certs/taskerd.pem", stage.certificate), ("/etc/ssl/private/taskerd.key", os.path.join(place, "key.pem")), ("/var/log/nginx/taskerd.log", os.path.join(place, "access.log"))):
			if old not in conf:
				raise AssertionError("%s has no %s" % (CONF, old))
			conf = conf.replace(old, new)
		with open(os.path.join(place, "nginx.conf"), "w", encoding="utf-8") as f:
			f.write("daemon off;\nmaster_process off;\npid %s/nginx.pid;\nerror_log %s/error.log;\n%sevents {}\nhttp {\n%s\n%s\n}\n" % (
				place, place, "user root;\n" if os.geteuid() == 0 else "", "".join("%s_temp_path %s/%s;\n" % (k, place, k) for k in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")), conf))
		args = [NGINX, "-p", place, "-c", os.path.join(place, "nginx.conf"), "-e", os.path.join(place, "error.log")]
		tried = subprocess.run([*args, "-t"], capture_output=True, text=True, check=False)
		if tried.returncode:
			raise AssertionError(tried.stderr)
		stage.nginx = stage.track(harness.Process("nginx", args, os.path.join(place, "nginx.out")))
		wait_for(lambda: not socket.socket().connect_ex(("127.0.0.1", stage.port)), "nginx to listen")

	@classmethod
	def tearDownClass(cls):
		harness.Case.tearDownClass.__func__(cls)  # nothing here has left a ledger

	def tls(self, **headers):
		client = _Tls(self.shared.port, **headers)
		client.certificate = self.shared.certificate
		self.addCleanup(client.close)
		return client

	def own(self):
		return self.tls(Authorization="Bearer " + self.shared.token)

	def test_requests_go_through(self):
		self.assertEqual(self.tls().get("/health/live").status, 200)
		w = self.own()
		made = w.post("/v1/tasks", {"name": "pair", "namespace": "t"})
		self.assertEqual(made.status, 201, made.body)
		self.assertEqual(w.get("/v1/tasks/" + made.body["task_uuid"]).body["name"], "pair")

	def test_nobody_is_anybody_without_a_token(self):
		answer = self.tls().get("/v1/tasks")
		self.assertEqual((answer.status, answer.headers["WWW-Authenticate"].split()[0]), (401, "Bearer"))
		forged = self.tls(X_Forwarded_User="root", X_Real_IP="127.0.0.1", X_Forwarded_For="127.0.0.1", Remote_User="root", X_Remote_User="root", Forwarded="for=127.0.0.1", X_Forwarded_Proto="https")
		self.assertEqual(forged.get("/v1/tasks").status, 401)

	def test_plain_http_is_sent_to_tls(self):
		c = http.client.HTTPConnection("127.0.0.1", self.shared.plain, timeout=harness.PATIENCE)
		self.addCleanup(c.close)
		c.request("GET", "/v1/tasks?name=x", headers={"Host": "localhost"})
		r = c.getresponse()
		self.assertEqual((r.status, r.getheader("Location")), (301, "https://localhost/v1/tasks?name=x"))

	def test_what_is_for_inside_stays_there(self):
		for path in "/metrics", "/health/detailed", "/openapi.json", "/":
			self.assertEqual(self.own().get(path).status, 404, path)

	def test_a_body_over_the_limit(self):
		self.assertEqual(self.own().post("/v1/tasks", b"x" * (5 << 20)).status, 413)

	def test_events_come_as_they_happen(self):
		"""The first event is read while the task still runs, which ends only after that."""
		w = self.own()
		task = w.post("/v1/tasks", {"name": "pair", "namespace": "t"}).body["task_uuid"]
		with wire.Worker(self.node.socket, ["t.a"]) as worker, w.stream("/v1/tasks/%s/events" % task) as events:
			self.assertEqual(events.status, 200)
			self.assertEqual(events.next()[0], "task")
			given = [worker.take()]
			while given[-1]["task_uuid"] != task:  # those of the other tests
				worker.finish(given[-1])
				worker.acked(given.pop())
				given.append(worker.take())
			worker.finish(given[0])
			names = [name for name, _, _ in events.rest()]
			self.assertEqual(names[-1], "end")

	def test_the_log_has_no_secrets(self):
		self.own().get("/v1/tasks?name=secretname")
		with open(os.path.join(self.shared.place, "access.log"), encoding="utf-8") as f:
			text = f.read()
		self.assertIn("/v1/tasks", text)
		self.assertFalse(re.search("tasker_|secretname", text))
		self.assertNotIn(self.shared.token.split("_")[2][:32], self.node.log_text())


if __name__ == "__main__":
	unittest.main()

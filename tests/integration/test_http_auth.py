"""Who one is over TCP: bearer tokens and JSON Web Tokens, what each may do, and that they end."""
import base64
import json
import os
import signal
import subprocess
import time
import unittest

import harness
import web
import wire
from harness import step, template, wait_for

CTL = harness.program("clients", "taskerctl", "taskerctl")
ISSUER, AUDIENCE = "https://id.example", "taskerd"


def b64(data):
	return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def make_key(place, name):
	"""A private key, and a file with its public half."""
	private, public = os.path.join(place, name + ".key"), os.path.join(place, name + ".pem")
	subprocess.run(["openssl", "genrsa", "-out", private, "2048"], check=True, capture_output=True)
	subprocess.run(["openssl", "rsa", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
	return private, public


def jwt(private, header=None, **claims):
	claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": int(time.time()) + 300, "roles": ["read", "submit"], "namespaces": ["ours"], **claims}
	text = b64(json.dumps(header or {"alg": "RS256", "typ": "JWT"}).encode()) + "." + b64(json.dumps({k: v for k, v in claims.items() if v is not None}).encode())
	done = subprocess.run(["openssl", "dgst", "-sha256", "-sign", private], input=text.encode(), check=True, capture_output=True)
	return text + "." + b64(done.stdout)


class Case(harness.SharedCase):
	@classmethod
	def tearDownClass(cls):
		harness.Case.tearDownClass.__func__(cls)  # nothing here has left a ledger

	def web(self, token=None, node=None, **headers):
		if token:
			headers["Authorization"] = "Bearer " + token
		client = web.Web(web.ports(node or self.node)[0], **headers)
		self.addCleanup(client.close)
		return client

	def refused(self, client, status, verb="GET", path="/v1/tasks", body=None):
		answer = client.ask(verb, path, body)
		self.assertEqual(answer.status, status, answer.body)
		return answer


class Tokens(Case):
	@classmethod
	def prepare(cls, stage):
		stage.db = stage.database()
		stage.node = stage.daemon(stage.db, http_listen="127.0.0.1:0", log_level="debug")
		stage.other = stage.daemon(stage.db, "node-b", http_listen="127.0.0.1:0")
		for ns in "ours", "theirs":
			stage.apply(stage.node, template("pair", [step("a", "t.a", attempts=1)], namespace=ns))

	def token(self, name, *args):
		done = subprocess.run([CTL, "--socket=" + self.node.socket, "-q", "token", "create", name, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
		return done.stdout.strip()

	def good(self, client):
		wait_for(lambda: client.get("/v1/tasks").status == 200, "the token to be known")

	def test_a_token_may_what_it_is_for(self):
		client = self.web(self.token("worker-1", "--role", "submit", "--role", "read", "-n", "ours"))
		self.good(client)
		made = client.post("/v1/tasks", {"name": "pair", "namespace": "ours"})
		self.assertEqual(made.status, 201, made.body)
		there = self.refused(client, 403, "POST", "/v1/tasks", {"name": "pair", "namespace": "theirs"})
		self.assertEqual((there.body["code"], there.body["details"]), ("permission_denied", {"role": "submit", "namespace": "theirs"}))
		self.assertIn("token:worker-1 lacks the role submit in namespace theirs", there.body["detail"])
		role = self.refused(client, 403, "POST", "/v1/tasks/%s/pause" % made.body["task_uuid"], {"reason": "x"})
		self.assertEqual(role.body["details"], {"role": "operate"})
		theirs = self.node.client.request("task.create", {"name": "pair", "namespace": "theirs"})["task_uuid"]
		self.refused(client, 404, path="/v1/tasks/" + theirs)

	def test_a_token_that_may_not_read_is_told_what_it_made(self):
		"""How things are is told to who may read, also right after something was made or done."""
		client = self.web(self.token("submitter", "--role", "submit", "-n", "ours"))
		wait_for(lambda: client.get("/v1/tasks").status == 403, "the token to be known")
		made = client.post("/v1/tasks", {"name": "pair", "namespace": "ours", "context": {"n": 1}, "idempotency_key": "submitter-1"})
		again = client.post("/v1/tasks", {"name": "pair", "namespace": "ours", "context": {"n": 1}, "idempotency_key": "submitter-1"})
		for answer, status in (made, 201), (again, 200):
			self.assertEqual((answer.status, set(answer.body)), (status, {"task_uuid", "created", "state"}))
		self.assertEqual(made.headers["Location"], "/v1/tasks/" + made.body["task_uuid"])
		for path in ("", "/summary", "/workflow_steps", "/workflow_steps/a", "/workflow_steps/a/audit", "/workflow_steps/a/history"):
			self.assertEqual(self.refused(client, 403, path="/v1/tasks/" + made.body["task_uuid"] + path).headers["X-Auth-Failure-Reason"], "forbidden")
		for path in ("/v1/analytics/performance", "/v1/analytics/bottlenecks", "/v1/dlq", "/v1/dlq/stats", "/v1/dlq/causes"):
			self.assertEqual(self.refused(client, 403, path=path).body["error"]["code"], "FORBIDDEN")
		for path in ("/health", "/api-docs/ui", "/api-docs/openapi.json"):
			self.assertEqual(self.web().get(path).status, 200)
		nobody = self.refused(self.web(), 401)
		self.assertEqual((nobody.headers["X-Auth-Failure-Reason"], nobody.body["error"]["code"]), ("missing", "UNAUTHORIZED"))

	def test_what_it_does_is_on_record(self):
		client = self.web(self.token("oncall", "--role", "operate"))
		self.good(client)
		task = self.node.client.request("task.create", {"name": "pair", "namespace": "ours"})["task_uuid"]
		self.assertEqual(client.post("/v1/tasks/%s/pause" % task, {"reason": "night"}).status, 200)
		row = self.db.sql("SELECT user_name, uid IS NULL, pid IS NULL, reason FROM tasker.operator_actions WHERE action = 'task.pause'")
		self.assertEqual(row, [["token:oncall", "t", "t", "night"]])

	def test_a_revoked_token_ends_everywhere(self):
		token = self.token("short", "--role", "read")
		here, there = self.web(token), self.web(token, self.shared.other)
		self.good(here)
		self.good(there)
		wait_for(lambda: self.db.value("SELECT last_used_at IS NOT NULL FROM tasker.tokens WHERE name = 'short'") == "t", "the token to be seen used")
		with here.stream("/v1/events/stream?patterns=*") as stream:
			self.assertEqual(stream.status, 200)
			subprocess.run([CTL, "--socket=" + self.node.socket, "token", "revoke", "short"], stdin=subprocess.DEVNULL, check=True, capture_output=True)
			for client in here, there:
				wait_for(lambda c=client: c.get("/v1/tasks").status == 401, "the token to be refused")
			try:
				stream.rest()  # ends
			except (ConnectionError, web.http.client.HTTPException, ValueError):
				pass
		answer = here.get("/v1/tasks")
		self.assertEqual(answer.headers["WWW-Authenticate"], 'Bearer realm="taskerd", error="invalid_token"')
		self.assertIn("has expired or was revoked", answer.body["detail"])

	def test_it_expires(self):
		client = self.web(self.token("soon", "--role", "read", "-e", "4s"))
		self.good(client)
		wait_for(lambda: client.get("/v1/tasks").status == 401, "the token to expire")

	def test_what_is_no_token(self):
		token = self.token("real", "--role", "read")
		self.good(self.web(token))
		other = token[:-1] + ("0" if token[-1] != "0" else "1")
		for wrong in other, token + "0", token[:-1], token.upper(), "tasker_", "x", "a.b.c", ".." * 2000, "":
			with self.subTest(wrong=wrong[:40]):
				self.refused(self.web(Authorization="Bearer " + wrong), 401)
		for scheme in "Basic dXNlcjpwYXNz", "Bearer", token, "Bearer\t" + token:
			with self.subTest(scheme=scheme[:10]):
				self.refused(self.web(Authorization=scheme), 401)
		self.assertEqual(self.web().get("/v1/tasks").headers["WWW-Authenticate"], 'Bearer realm="taskerd"')
		self.refused(self.web(), 401, path="/v1/tasks?access_token=" + token)

	def test_the_log_has_no_secrets(self):
		token = self.token("logged", "--role", "read")
		self.good(self.web(token))
		self.refused(self.web(token[:-1]), 401)
		self.assertNotIn(token.split("_")[2][:32], self.node.log_text())


class JsonWebTokens(Case):
	@classmethod
	def prepare(cls, stage):
		stage.db = stage.database()
		stage.private, stage.public = make_key(stage.place, "one")
		stage.config = os.path.join(stage.place, "taskerd.yaml")
		stage.keys = os.path.join(stage.place, "keys")
		os.symlink(stage.public, stage.keys)
		with open(stage.config, "w", encoding="utf-8") as f:
			f.write("http_listen: 127.0.0.1:0\njwt_key_file: %s\njwt_issuer: %s\njwt_audience: %s\njwt_leeway_ms: 1000\n" % (stage.keys, ISSUER, AUDIENCE))
		stage.node = stage.daemon(stage.db, config=stage.config, log_level="debug")
		stage.apply(stage.node, template("pair", [step("a", "t.a", attempts=1)], namespace="ours"))

	def jwt(self, **claims):
		return jwt(self.shared.private, **claims)

	def test_who_it_is_for(self):
		client = self.web(self.jwt())
		self.assertEqual(client.post("/v1/tasks", {"name": "pair", "namespace": "ours"}).status, 201)
		refused = self.refused(client, 403, "POST", "/v1/tasks", {"name": "pair", "namespace": "theirs"})
		self.assertIn("jwt:alice lacks the role submit in namespace theirs", refused.body["detail"])
		operator = self.web(self.jwt(sub="bob \u00e9\"", roles="operate other", namespaces="*"))
		task = self.node.client.request("task.create", {"name": "pair", "namespace": "ours"})["task_uuid"]
		self.assertEqual(operator.post("/v1/tasks/%s/pause" % task, {"reason": "night"}).status, 200)
		self.assertEqual(self.db.value("SELECT user_name FROM tasker.operator_actions WHERE action = 'task.pause'"), "jwt:bob%20%C3%A9%22")

	def test_who_is_granted_nothing_is_known_all_the_same(self):
		for claims in {"roles": None}, {"namespaces": None}, {"roles": ["cook"]}, {"namespaces": []}:
			with self.subTest(claims=claims):
				self.refused(self.web(self.jwt(**claims)), 403)

	def test_what_is_refused(self):
		other, _ = make_key(self.shared.place, "other")
		good = self.jwt()
		now = int(time.time())
		none = b64(b'{"alg":"none"}') + "." + good.split(".")[1] + "."
		for why, token in {"expired": self.jwt(exp=now - 10), "not yet": self.jwt(nbf=now + 100), "for whom": self.jwt(aud="other"), "from whom": self.jwt(iss="https://evil.example"), "no end": self.jwt(exp=None), "key": jwt(other),
		                   "none": none, "hmac": jwt(self.shared.private, {"alg": "HS256"}), "algorithm": jwt(self.shared.private, {"alg": "RS384"}), "cut": good[:-4], "two": good + "." + good, "body": good.replace(".", ".A", 1)}.items():
			with self.subTest(why):
				answer = self.refused(self.web(token), 401)
				self.assertIn('error="invalid_token"', answer.headers["WWW-Authenticate"])
				self.assertIn("the token is refused", answer.body["detail"])
		self.assertEqual(self.web(good).get("/v1/tasks").status, 200)
		self.assertNotIn(good.split(".")[2][:40], self.node.log_text())

	def test_what_is_no_base64url(self):
		"""The library that reads tokens has an assertion for some of these."""
		head, claims, signature = self.jwt().split(".")
		for part in "=", "A", "A=", "AAAAA", "AAAAA=", "AAAA=AAAA", head[:5] + "=":
			for token in ((part, claims, signature), (head, part, signature), (head, claims, part)):
				with self.subTest(token=token):
					self.assertIn("neither a token of this service nor a JSON Web Token", self.refused(self.web(".".join(token)), 401).body["detail"])

	def test_keys_change_with_a_reload(self):
		second, public = make_key(self.shared.place, "two")
		old, new = self.jwt(), jwt(second)
		self.refused(self.web(new), 401)
		self.point(public)
		self.addCleanup(self.point, self.shared.public)
		self.assertEqual(self.web(new).get("/v1/tasks").status, 200)
		self.refused(self.web(old), 401)
		self.point(second, fails=True)  # a private key: all stays as it is
		self.assertIn("private key", self.node.log_text())
		self.assertEqual(self.web(new).get("/v1/tasks").status, 200)

	def point(self, target, fails=False):
		os.remove(self.shared.keys)
		os.symlink(target, self.shared.keys)
		word = "reload: the configuration stays as it was" if fails else "options have new values"
		before = self.node.log_text().count(word)
		os.kill(self.node.pid, signal.SIGHUP)
		wait_for(lambda: self.node.log_text().count(word) > before, "the reload")


class Options(harness.Case):
	def test_what_goes_together(self):
		for options, said in ((["--jwt-key-file=/x"], "jwt_issuer is needed"), (["--jwt-key-file=/x", "--jwt-issuer=i"], "jwt_audience is needed"), (["--jwt-issuer=i"], "without jwt_key_file"),
		                      (["--jwt-algorithms=RS256,none"], "neither none nor HS256"), (["--jwt-algorithms=HS256"], "neither none nor HS256"), (["--jwt-algorithms="], "jwt-algorithms")):
			with self.subTest(options=options):
				done = subprocess.run([harness.taskerd_program(), "--database=host=x", "--config=/dev/null", "--check-config", *options], capture_output=True, text=True, timeout=harness.PATIENCE)
				self.assertEqual(done.returncode, 2, done.stderr)
				self.assertIn(said, done.stderr)

	def test_a_file_that_cannot_be_used_ends_the_start(self):
		node = self.daemon(self.database(), "node-j", start=False, jwt_key_file="/nonexistent", jwt_issuer="i", jwt_audience="a")
		node.launch()
		self.assertNotEqual(node.process.wait(), 0)
		self.assertIn("jwt_key_file /nonexistent: No such file", node.log_text())


if __name__ == "__main__":
	unittest.main()

"""Bearer tokens: made, listed and revoked; what is kept of them lets nobody in, and nobody gives away more than they have."""
import hashlib
import json
import os
import re
import subprocess
import unittest

import harness
import wire
from harness import step, template
from wire import User

as_root = unittest.skipUnless(os.geteuid() == 0, "only root can be other users")
CTL = harness.program("clients", "taskerctl", "taskerctl")
LOCAL_ADMIN = 70300  # of the namespace ours


class Tokens(harness.SharedCase):
	@classmethod
	def prepare(cls, stage):
		stage.db = stage.database()
		config = os.path.join(stage.place, "taskerd.yaml")
		with open(config, "w", encoding="utf-8") as f:
			f.write("socket_mode: 0666\naccess:\n  - {uid: %d, roles: [admin], namespaces: [ours, more]}\n" % LOCAL_ADMIN)
		stage.node = stage.daemon(stage.db, config=config, log_level="debug")
		stage.apply(stage.node, template("pair", [step("a")], namespace="ours"))

	def ctl(self, *args, code=0):
		done = subprocess.run([CTL, "--socket=" + self.node.socket, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=harness.PATIENCE)
		self.assertEqual(done.returncode, code, done.stderr)
		return done.stdout, done.stderr

	def made(self, name, *args):
		return json.loads(self.ctl("--json", "token", "create", name, "--role", "read", *args)[0])

	def test_what_is_shown_once_and_what_is_kept(self):
		out, said = self.ctl("token", "create", "once", "--role", "read", "--role", "submit", "-n", "ours", "--expires", "30d", "--reason", "to see")
		secret = out.strip()
		self.assertRegex(secret, r"^tasker_[0-9a-f]{12}_[0-9a-f]{64}$")
		self.assertIn("shown this once", said)
		row = self.db.sql("SELECT token_id, encode(hash, 'hex'), roles, namespaces, expires_at - created_at BETWEEN '29 days 23 hours' AND '30 days', revoked_at IS NULL FROM tasker.tokens WHERE name = 'once'")[0]
		self.assertEqual(row, [secret.split("_")[1], hashlib.sha256(secret.encode()).hexdigest(), "{read,submit}", "{ours}", "t", "t"])
		listed, _ = self.ctl("--json", "token", "list")
		self.assertIn("once", [t["name"] for t in json.loads(listed)["tokens"]])
		dump = subprocess.run(["psql", "-XAtq", "-h", self.db.cluster.host, "-U", "postgres", "-d", self.db.name, "-c", "SELECT t FROM tasker.tokens t; SELECT o FROM tasker.operator_actions o"], capture_output=True, text=True, check=True).stdout
		self.assertIn("to see", dump)
		half = secret.split("_")[2][:32]
		for where in listed, dump, self.node.log_text(), str(self.node.info()):
			self.assertNotIn(half, where)
		self.assertNotIn(hashlib.sha256(secret.encode()).hexdigest(), self.node.log_text())

	def test_by_whom_and_until_when(self):
		t = self.made("life")
		self.assertEqual((t["state"], t["namespaces"], t["revoked_at"]), ("active", ["*"], None))
		self.assertEqual(self.db.value("SELECT round(extract(epoch FROM expires_at - created_at) / 86400) FROM tasker.tokens WHERE name = 'life'"), "90")
		self.assertIsNone(self.made("for-ever", "-e", "never")["expires_at"])
		self.assertEqual(self.made("until", "-e", "2999-01-01T00:00:00Z")["expires_at"], "2999-01-01T00:00:00.000000Z")
		self.assertEqual(self.db.value("SELECT created_by FROM tasker.tokens WHERE name = 'life'"), "root" if os.geteuid() == 0 else t["created_by"])

	def test_revoking(self):
		first = self.made("gone")
		self.ctl("token", "create", "gone", "--role", "read", code=5)  # the name is taken
		out, _ = self.ctl("token", "revoke", "gone", "--reason", "lost")
		self.assertEqual(out, "%s gone revoked\n" % first["id"])
		second = self.made("gone")
		self.assertNotEqual(first["id"], second["id"])
		names = lambda *args: [(t["id"], t["state"]) for t in json.loads(self.ctl("--json", "token", "list", *args)[0])["tokens"] if t["name"] == "gone"]
		self.assertEqual(names(), [(second["id"], "active")])
		self.assertEqual(names("--all"), [(second["id"], "active"), (first["id"], "revoked")])
		self.ctl("token", "revoke", first["id"])  # again: nothing changes
		self.assertEqual(self.db.sql("SELECT to_state::jsonb ->> 'id', reason FROM tasker.operator_actions WHERE action = 'token.revoke' AND to_state::jsonb ->> 'name' = 'gone'"), [[first["id"], "lost"]])
		self.ctl("token", "revoke", "no-such", code=4)

	def test_wrong_words(self):
		for args in (["x"], ["x", "--role", "fly"], ["x y", "--role", "read"], ["x", "--role", "read", "-e", "soon"], ["x", "--role", "read", "-e", "2001-01-01T00:00:00Z"], ["x", "--role", "read", "-n", "a b"]):
			with self.subTest(args=args):
				done = subprocess.run([CTL, "--socket=" + self.node.socket, "token", "create", *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=harness.PATIENCE)
				self.assertIn(done.returncode, (1, 2))
				self.assertRegex(done.stderr, "(?s)^taskerctl: .*(--role|no role|name 'x y'|--expires|expires_at|not the name)")

	def test_a_repeated_call_makes_one(self):
		call = "SELECT tasker.api_token_create('%s')" % json.dumps({"id": "00aa00aa00aa", "hash": "00" * 32, "name": "twice", "roles": ["read"], "by": {"request": "01890a5d-ac96-774b-bcce-b302099a8057", "uid": 1}})
		self.assertEqual(self.db.value(call), self.db.value(call))
		self.assertEqual(self.db.number("SELECT count(*) FROM tasker.tokens WHERE name = 'twice'"), 1)
		self.assertEqual(self.db.number("SELECT count(*) FROM tasker.operator_actions WHERE action = 'token.create' AND to_state::jsonb ->> 'name' = 'twice'"), 1)

	@as_root
	def test_nobody_gives_away_what_they_have_not(self):
		other = self.made("others", "-n", "theirs")
		with wire.Wire(self.node.socket, user=User(LOCAL_ADMIN)) as w:
			w.hello()
			mine = w.call("token.create", {"name": "local", "roles": ["admin"], "namespaces": ["ours"]})
			for wanted in (None, ["theirs"], ["ours", "theirs"]):
				error = w.refused("token.create", {"name": "more", "roles": ["read"], "namespaces": wanted})
				self.assertEqual(error.code, "permission_denied")
			self.assertEqual([t["name"] for t in w.call("token.list")["tokens"]], ["local"])
			self.assertEqual(w.refused("token.revoke", {"token": other["id"]}).code, "not_found")
			self.assertEqual(w.refused("token.revoke", {"token": "others"}).code, "not_found")
			self.assertEqual(w.call("token.revoke", {"token": mine["id"]})["state"], "revoked")
		self.assertEqual(self.db.value("SELECT revoked_at IS NULL FROM tasker.tokens WHERE name = 'others'"), "t")

	@as_root
	def test_what_a_client_adds_to_the_request_is_not_taken(self):
		with wire.Wire(self.node.socket, user=User(LOCAL_ADMIN)) as w:
			w.hello()
			t = w.call("token.create", {"name": "forged", "roles": ["read"], "namespaces": ["ours"], "id": "ffffffffffff", "hash": "ff" * 32, "by": {"user": "root"}})
		self.assertTrue(re.fullmatch(r"tasker_%s_[0-9a-f]{64}" % t["id"], t["token"]))
		self.assertNotEqual(t["id"], "ffffffffffff")
		self.assertEqual(t["created_by"], "uid:%d" % LOCAL_ADMIN)


if __name__ == "__main__":
	unittest.main()

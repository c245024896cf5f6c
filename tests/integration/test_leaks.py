"""A word that stands in everything there is of one namespace, from its name to the reason why somebody cancelled a task, is in no answer to who may do everything in another: by HTTP,
resource by resource of the OpenAPI document. Each of them is a message of the protocol."""
import re
import unittest

import harness
import web
import wire
from harness import step, template, wait_for

WORD = "zq7"
STREAMS = ("/events", "/watch", "/stream", "/logs")


class Leaks(harness.SharedCase):
	@classmethod
	def prepare(cls, stage):
		stage.db = stage.database()
		stage.node = stage.daemon(stage.db, http_listen="127.0.0.1:0")
		stage.ids = {"ours": cls.fill(stage, "ours", "plain"), "theirs": cls.fill(stage, WORD + "theirs", WORD)}
		made = stage.node.client.request("token.create", {"name": "ann", "roles": ["read", "submit", "work", "operate", "admin"], "namespaces": ["ours"]})
		everybody = stage.node.client.request("token.create", {"name": WORD + "token", "roles": ["read", "operate", "admin"]})
		stage.ann, stage.all = (web.Web(web.ports(stage.node)[0], Authorization="Bearer " + t["token"]) for t in (made, everybody))
		stage.at_end(stage.ann.close)
		stage.at_end(stage.all.close)

	@classmethod
	def fill(cls, stage, ns, word):
		"""Of everything something, with the word in it; the uuids."""
		client = stage.node.client
		event = [{"name": word + ".made", "condition": "always", "delivery_mode": "durable", "schema": True}]
		stage.apply(stage.node, template(word + "pair", [{**step(word + "a", word + ".a", attempts=1), "publishes_events": event}, step(word + "b", word + ".b", after=[word + "a"])], namespace=ns,
		                                 description=word, lifecycle={"max_duration_minutes": 1000}))
		said = {"namespace": ns, "context": {word: word}, "tags": [word], "correlation_id": word, "initiator": word, "source_system": word, "reason": word}
		worker = wire.Worker(stage.node.socket, [word + ".a"], namespaces=[ns], name=word + "worker")
		stage.at_end(worker.close)
		failed = client.create_task(word + "pair", **said).task_uuid
		given = worker.take()
		worker.fail(given, message=word, retryable=False)
		worker.acked(given)
		waits = client.create_task(word + "pair", **said).task_uuid
		client.request("event.publish", {"name": word + ".now", "namespace": ns, "payload": {word: word}})
		entry = client.request("dlq.get", {"task_uuid": failed})["entry"]
		client.request("dlq.update", {"entry": entry, "notes": word})
		client.request("task.action", {"task_uuid": waits, "action": "pause", "reason": word})
		return {"task_uuid": failed, "step_uuid": given["step_uuid"], "entry": entry, "worker_uuid": worker.welcome["session"]}

	@classmethod
	def tearDownClass(cls):
		harness.Case.tearDownClass.__func__(cls)  # nothing here has left a ledger

	def paths(self, ids):
		"""Every resource that can be read, with the ids that it names put in; those of names are left out, which an answer may repeat."""
		document = self.shared.ann.get("/openapi.json").body
		for path, verbs in document["paths"].items():
			if "get" not in verbs or path.endswith(STREAMS):
				continue
			names = re.findall(r"{(\w+)}", path)
			if all(n in ids for n in names):
				yield re.sub(r"{(\w+)}", lambda m: ids[m[1]], path)

	def test_by_http(self):
		for client in self.shared.ann, self.shared.all:
			wait_for(lambda c=client: c.get("/v1/tasks").status == 200, "the token to be known")
		shown, looked = [], 0
		for ids in self.shared.ids.values():
			for path in self.paths(ids):
				answer = self.shared.ann.get(path)
				with self.subTest(path=path):
					self.assertNotIn(WORD, str(answer.body))
				looked += 1
				shown += [path] if WORD in str(self.shared.all.get(path).body) else []
		self.assertGreater(looked, 40)
		self.assertGreater(len(set(shown)), 15, "who may see all does")


if __name__ == "__main__":
	unittest.main()

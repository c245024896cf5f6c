"""Creating tasks: identity, idempotency keys, conflicts, bulk with bad items among good ones, what is stored with a task, and listing."""
import threading
import unittest

import harness
from harness import step, template
from taskerd.exceptions import BadRequestError, ConflictError, InvalidValueError, NotFoundError, TemplateNotFoundError, TooLargeError


class Create(harness.SharedCase):
	@classmethod
	def prepare(cls, stage):
		super().prepare(stage)
		stage.apply(stage.node, template("plain", [step("a")]))
		stage.apply(stage.node, template("other", [step("a")]))
		stage.apply(stage.node, template("strict", [step("a")], identity_strategy="strict"))
		stage.apply(stage.node, template("keyed", [step("a")], identity_strategy="caller_provided"))

	def make(self, name="plain", context=None, **more):
		return self.node.client.create_task(name, namespace="t", context=context or {}, **more)

	def test_every_call_makes_a_task(self):
		first, second = self.make(context={"n": 1}), self.make(context={"n": 1})
		self.assertTrue(first.created and second.created)
		self.assertNotEqual(first.task_uuid, second.task_uuid)
		self.assertEqual(first.state, "steps_in_process")

	def test_key_repeated(self):
		first = self.make(context={"n": 1, "m": [1, 2]}, idempotency_key="k-1")
		again = self.make(context={"m": [1, 2], "n": 1}, idempotency_key="k-1")
		self.assertEqual((first.created, again.created), (True, False))
		self.assertEqual(first.task_uuid, again.task_uuid)
		self.finished(self.node, first.task_uuid)
		later = self.make(context={"n": 1, "m": [1, 2]}, idempotency_key="k-1")
		self.assertEqual((later.task_uuid, later.created, later.state), (first.task_uuid, False, "complete"))

	def test_key_with_other_content(self):
		self.make(context={"n": 1}, idempotency_key="k-2")
		with self.assertRaises(ConflictError):
			self.make(context={"n": 2}, idempotency_key="k-2")
		with self.assertRaises(ConflictError):
			self.make("other", context={"n": 1}, idempotency_key="k-2")

	def test_key_is_of_its_namespace(self):
		self.apply(self.node, template("plain", [step("a")], namespace="u"))
		first = self.make(idempotency_key="k-3")
		other = self.node.client.create_task("plain", namespace="u", context={}, idempotency_key="k-3")
		self.assertTrue(other.created)
		self.assertNotEqual(first.task_uuid, other.task_uuid)

	def test_key_of_the_greatest_length(self):
		key = "k" * 256
		self.assertTrue(self.make(idempotency_key=key).created)
		self.assertFalse(self.make(idempotency_key=key).created)
		with self.assertRaises((BadRequestError, TooLargeError)):
			self.make(idempotency_key=key + "k")

	def test_strict(self):
		first = self.make("strict", {"a": 1, "b": {"c": [1.5, None]}})
		again = self.make("strict", {"b": {"c": [1.5, None]}, "a": 1})
		other = self.make("strict", {"a": 2, "b": {"c": [1.5, None]}})
		self.assertEqual((first.created, again.created, other.created), (True, False, True))
		self.assertEqual(first.task_uuid, again.task_uuid)

	def test_key_wins_over_strict(self):
		first = self.make("strict", {"key": "wins"}, idempotency_key="s-1")
		second = self.make("strict", {"key": "wins"}, idempotency_key="s-2")
		self.assertTrue(first.created and second.created)

	def test_caller_provided(self):
		with self.assertRaises(BadRequestError) as caught:
			self.make("keyed")
		self.assertIn("idempotency_key", str(caught.exception))
		self.assertTrue(self.make("keyed", idempotency_key="c-1").created)
		self.assertFalse(self.make("keyed", idempotency_key="c-1").created)

	def test_many_at_once_with_one_key(self):
		"""Eight connections create the same task at the same time: one task."""
		n = 8
		answers, start = [], threading.Barrier(n)
		clients = [self.shared.node.new_client() for _ in range(n)]

		def one(client):
			client.connect()
			start.wait()
			answers.append([client.create_task("plain", namespace="t", context={"i": i}, idempotency_key="race-%d" % i) for i in range(20)])
		threads = [threading.Thread(target=one, args=(c,)) for c in clients]
		for thread in threads:
			thread.start()
		for thread in threads:
			thread.join()
		for i in range(20):
			self.assertEqual(len({row[i].task_uuid for row in answers}), 1)
			self.assertEqual(sum(row[i].created for row in answers), 1)

	def test_unknown_template(self):
		with self.assertRaises(TemplateNotFoundError) as caught:
			self.make("nothing")
		self.assertIn("t/nothing", str(caught.exception))
		with self.assertRaises(TemplateNotFoundError):
			self.make(version="9.9.9")
		with self.assertRaises(TemplateNotFoundError):
			self.node.client.create_task("plain", namespace="nowhere", context={})

	def test_tags_have_a_length(self):
		"""An index holds them."""
		self.make(tags=["x" * 256] * 100)
		for tags in ["x" * 257], ["a", "x" * 60000], ["\u00e9" * 129], ["x"] * 101:
			with self.assertRaises(BadRequestError) as caught:
				self.make(tags=tags)
			self.assertIn("tags must be an array of strings of at most 256 bytes of 0 to 100 elements", str(caught.exception))

	def test_bulk_with_bad_items_among_good(self):
		good = {"name": "plain", "namespace": "t", "context": {"n": 1}}
		items = [good, {**good, "name": "nothing"}, {**good, "priority": 1000}, {**good, "idempotency_key": "b-1"}, {**good, "idempotency_key": "b-1"},
		         {**good, "idempotency_key": "b-1", "context": {"n": 2}}, {"namespace": "t"}, {**good, "context": 7},
		         {**good, "context": {"blob": "x" * (1024 * 1024)}}, {"name": "keyed", "namespace": "t"}, good]
		answer = self.node.client.request("task.create_many", {"tasks": items})["results"]
		codes = [r["error"]["code"] if "error" in r else r["created"] for r in answer]
		self.assertEqual(codes, [True, "template_not_found", "bad_request", True, False, "conflict", "bad_request", "bad_request", "too_large", "bad_request", True])
		self.assertEqual(answer[2]["error"]["path"], "tasks[2].priority")
		self.assertEqual(answer[6]["error"]["path"], "tasks[6].name")
		self.assertEqual(answer[8]["error"]["path"], "tasks[8].context")
		self.assertEqual(answer[3]["task_uuid"], answer[4]["task_uuid"])
		for i in (0, 3, 10):
			self.assertEqual(self.finished(self.node, answer[i]["task_uuid"]).state, "complete")

	def test_bulk_by_the_client(self):
		"""What the client itself refuses stands alone too."""
		good = {"name": "plain", "namespace": "t", "context": {"n": 1}}
		outcomes = self.node.client.create_tasks([good, {**good, "context": {"n": float("nan")}}, {**good, "name": "nothing"}, good])
		self.assertEqual([o.ok for o in outcomes], [True, False, False, True])
		self.assertEqual([o.error.code for o in outcomes if not o.ok], ["invalid_value", "template_not_found"])

	def test_bulk_of_thousands(self):
		self.apply(self.node, template("bulk", [step("a", "t.sum")]))
		outcomes = self.node.client.create_tasks({"name": "bulk", "namespace": "t", "context": {"n": i}, "idempotency_key": "bulk-%d" % i} for i in range(2000))
		self.assertTrue(all(o.ok and o.created for o in outcomes))
		self.assertEqual(len({o.task_uuid for o in outcomes}), 2000)
		again = self.node.client.create_tasks({"name": "bulk", "namespace": "t", "context": {"n": i}, "idempotency_key": "bulk-%d" % i} for i in range(2000))
		self.assertEqual([o.task_uuid for o in again], [o.task_uuid for o in outcomes])
		self.assertFalse(any(o.created for o in again))
		self.db.wait_settled()

	def test_what_is_stored_with_a_task(self):
		given = {"initiator": "someone", "source_system": "shop", "reason": "because", "tags": ["x", "\u00e4", ""], "priority": -7,
		         "correlation_id": "c-1", "parent_correlation_id": "p-1"}
		task = self.make(context={"n": 3}, traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", **given)
		done = self.node.client.request("task.get", {"task_uuid": task.task_uuid})
		self.assertEqual({k: done[k] for k in given}, given)
		self.assertEqual((done["namespace"], done["name"], done["version"], done["context"]), ("t", "plain", "1.0.0", {"n": 3}))
		plain = self.make()
		self.assertEqual(self.node.client.request("task.get", {"task_uuid": plain.task_uuid})["correlation_id"], plain.task_uuid)

	def test_values_outside_the_data_model(self):
		for value in (float("nan"), float("inf"), 2 ** 63, "a\0b", b"bytes"):
			with self.assertRaises(InvalidValueError) as caught:
				self.node.client.request("task.create", {"name": "plain", "namespace": "t", "context": {"a": [{"b": value}]}})
			self.assertIn("a[0].b", caught.exception.path)

	def test_listing(self):
		self.apply(self.node, template("listed", [step("a", "t.flaky", fails=1, kind="permanent")]))
		made = self.create_many(self.node, "listed", 25)
		for uuid in made:
			self.assertEqual(self.finished(self.node, uuid).state, "blocked_by_failures")
		found = [t.task_uuid for t in self.node.client.iter_tasks(namespace="t", name="listed", status="blocked_by_failures")]
		self.assertEqual(sorted(found), sorted(made))
		first = self.node.client.list_tasks(namespace="t", name="listed", limit=10)
		rest = self.node.client.list_tasks(namespace="t", name="listed", limit=20, cursor=first.pagination.next_cursor)
		self.assertEqual([t.task_uuid for t in first.tasks + rest.tasks], found)
		self.assertIsNone(rest.pagination.next_cursor)
		self.assertEqual(self.node.client.list_tasks(namespace="t", name="listed", status="complete").tasks, [])

	def test_found_by_tag_and_correlation(self):
		red = [self.create(self.node, "plain", tags=["red", "round"], correlation_id="web-1") for _ in range(3)]
		self.create(self.node, "plain", tags=["reddish"], correlation_id="web-12")

		def found(**filters):
			return sorted(t["task_uuid"] for t in self.node.client.request("task.list", filters)["tasks"])
		self.assertEqual(found(tag="red"), sorted(red))
		self.assertEqual(found(correlation_id="web-1"), sorted(red))
		self.assertEqual(found(tag="round", correlation_id="web-1", name="plain"), sorted(red))
		self.assertEqual(found(tag="red", correlation_id="web-12"), [])

	def test_a_task_that_is_not_there(self):
		nobody = "01890a5d-ac96-774b-bcce-b302000000ff"
		client = self.node.client
		for ask in (client.get_task, client.wait, client.cancel_task, client.get_task_history, client.watch):
			with self.assertRaises(NotFoundError, msg=str(ask)):
				ask(nobody)

	def test_priority_goes_first(self):
		"""Six tasks wait in one queue; when a worker for it comes, the higher priority is done first."""
		self.apply(self.node, template("ranked", [step("a", "rank.a")]))
		tasks = {p: self.create(self.node, "ranked", priority=p) for p in (0, 50, -50, 100, -100, 1)}
		worker = self.shared.python_worker(self.node, name="rank", threads=1, prefetch=0, module="rank.py")
		done = {p: self.finished(self.node, uuid).step("a").started_at for p, uuid in tasks.items()}
		self.assertEqual(sorted(done, key=done.get), [100, 50, 1, 0, -50, -100])
		worker.stop()


if __name__ == "__main__":
	unittest.main()

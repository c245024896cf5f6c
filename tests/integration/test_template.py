"""Templates: versions, immutability, findings, environments, and that running tasks keep the version they began with."""
import json
import os
import threading
import unittest

import harness
import wire
from harness import step, template
from taskerd.exceptions import ConflictError, InvalidTemplateError, NotFoundError

EXAMPLES = os.path.join(harness.ROOT, "examples", "templates")


class Templates(harness.SharedCase):
	def test_versions(self):
		for version in ("1.0.0", "1.2.0", "1.10.0", "1.10.0-rc.1", "0.9.0"):
			self.assertTrue(self.apply(self.node, template("versions", [step("v" + version.replace("-", "_"))], version=version))["created"])
		newest = self.create(self.node, "versions")
		self.assertEqual(self.finished(self.node, newest).version, "1.10.0")
		old = self.create(self.node, "versions", version="1.2.0")
		self.assertEqual(self.finished(self.node, old).version, "1.2.0")
		self.assertEqual(self.finished(self.node, old).steps[0].name, "v1.2.0")
		listed = [t["version"] for t in self.node.client.list_templates("t") if t["name"] == "versions"]
		self.assertEqual(listed, ["0.9.0", "1.0.0", "1.2.0", "1.10.0-rc.1", "1.10.0"])
		self.assertEqual(self.node.client.get_template("versions", namespace="t")["version"], "1.10.0")

	def test_the_order_of_prereleases(self):
		"""As semantic versioning has it: by parts, numbers by value; a release counts before all of them."""
		order = ["1.0.0-9", "1.0.0-10", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.1-a", "1.1.0-1"]
		for version in reversed(order):
			self.apply(self.node, template("previews", [step("a")], version=version))
			self.assertEqual(self.node.client.get_template("previews", namespace="t")["version"], order[-1])
		self.assertEqual([t["version"] for t in self.node.client.list_templates("t") if t["name"] == "previews"], order)
		self.assertEqual(self.finished(self.node, self.create(self.node, "previews")).version, order[-1])
		self.apply(self.node, template("previews", [step("a")], version="0.1.0"))
		self.assertEqual(self.finished(self.node, self.create(self.node, "previews")).version, "0.1.0")

	def test_the_same_again(self):
		source = template("again", [step("a")])
		self.assertTrue(self.apply(self.node, source)["created"])
		self.assertFalse(self.apply(self.node, source)["created"])
		self.finished(self.node, self.create(self.node, "again"))
		self.assertFalse(self.apply(self.node, source)["created"])

	def test_other_content_under_a_version_in_use(self):
		self.apply(self.node, template("fixed", [step("a")]))
		self.finished(self.node, self.create(self.node, "fixed"))
		with self.assertRaises(ConflictError) as caught:
			self.apply(self.node, template("fixed", [step("a"), step("b")]))
		self.assertIn("version", str(caught.exception))
		self.assertEqual(len(self.finished(self.node, self.create(self.node, "fixed")).steps), 1)

	def test_replacing_a_version_that_was_not_used(self):
		first, second = template("draft", [step("a")]), template("draft", [step("a", "t.echo"), step("b", after=["a"])], input_schema={"required": ["n"]})
		self.apply(self.node, first)
		with self.assertRaises(ConflictError) as caught:
			self.apply(self.node, second)
		self.assertIn("replaced", str(caught.exception))
		answer = self.node.client.apply_template(second, replace_unused=True)
		self.assertTrue(answer["created"])
		self.assertFalse(self.node.client.apply_template(second, replace_unused=True)["created"])
		self.assertEqual(len([t for t in self.node.client.list_templates("t") if t["name"] == "draft"]), 1)
		self.assertEqual(len(self.finished(self.node, self.create(self.node, "draft", {"n": 1})).steps), 2)
		with self.assertRaises(ConflictError):
			self.node.client.apply_template(first, replace_unused=True)

	def test_replacing_while_tasks_are_made(self):
		"""Whatever comes first: a task has the steps of the template that is there, or the replacing is refused."""
		for i in range(10):
			name = "swap%d" % i
			self.apply(self.node, template(name, [step("a")]))
			made = []
			maker = threading.Thread(target=lambda n=name, m=made: m.extend(self.create_many(self.node, n, 20)))
			maker.start()
			try:
				self.node.client.apply_template(template(name, [step("a"), step("b")]), replace_unused=True)
				steps = {1, 2}
			except ConflictError:
				steps = {1}
			maker.join()
			found = {int(n) for (n,) in self.db.sql("SELECT count(*) FROM tasker.steps s JOIN tasker.tasks t USING (task_id) JOIN tasker.templates p USING (template_id) "
			                                        "WHERE p.name = '%s' GROUP BY s.task_id" % name)}
			self.assertEqual(len(made), 20)
			self.assertEqual(self.db.value("SELECT count(*) FROM tasker.tasks t WHERE NOT EXISTS (SELECT 1 FROM tasker.templates p WHERE p.template_id = t.template_id)"), "0")
			self.assertTrue(found and (found <= steps) and len(found) == 1, (found, steps))

	def test_running_tasks_keep_their_version(self):
		self.apply(self.node, template("keeps", [step("a", "t.gate", gate="keeps"), step("old", after=["a"])]))
		task = self.create(self.node, "keeps")
		self.wait_step(self.node, task, "a", "in_progress")
		self.apply(self.node, template("keeps", [step("a"), step("new", after=["a"])], version="2.0.0"))
		fresh = self.create(self.node, "keeps")
		self.assertEqual([s.name for s in self.finished(self.node, fresh).steps], ["a", "new"])
		self.ledger.open_gate("keeps")
		self.assertEqual([s.name for s in self.finished(self.node, task).steps], ["a", "old"])

	def test_what_is_wrong_is_said_all_at_once(self):
		source = "name: bad\nnamespace_name: t\nversion: 1.0\nsteps:\n- name: a\n  handler: {callable: x}\n  dependencies: [b]\n- name: b\n  handler: {callable: x}\n  dependencies: [a, nowhere]\n"
		with self.assertRaises(InvalidTemplateError) as caught:
			self.node.client.apply_template(source, filename="bad.yaml")
		findings = [f for f in caught.exception.findings if f["severity"] == "error"]
		self.assertEqual({f["file"] for f in findings}, {"bad.yaml"})
		text = json.dumps(findings)
		for word in ("version", "nowhere", "a -> b"):
			self.assertIn(word, text)
		self.assertTrue(all(f["line"] >= 1 for f in findings))
		self.assertFalse(self.node.client.validate_template(source)["ok"])
		with self.assertRaises(NotFoundError):
			self.node.client.get_template("bad", namespace="t")

	def test_warnings(self):
		source = template("warned", [{**step("a"), "colour": "red"}])
		answer = self.apply(self.node, source)
		self.assertTrue(answer["created"])
		self.assertIn("colour", json.dumps(answer["findings"]))
		with self.assertRaises(InvalidTemplateError):
			self.node.client.apply_template(source.replace("warned", "warned2"), strict=True)

	def test_yaml_and_examples(self):
		for name in sorted(os.listdir(EXAMPLES)):
			with open(os.path.join(EXAMPLES, name), encoding="utf-8") as f:
				source = f.read()
			self.assertTrue(self.node.client.validate_template(source, filename=name)["ok"], name)
			self.assertTrue(self.node.client.apply_template(source, filename=name)["created"])
		worker = self.shared.c_worker(self.node, name="bench")
		for name in ("linear-4", "diamond-4", "tree-8", "dag-7"):
			task = self.finished(self.node, self.create(self.node, name, namespace="bench"))
			self.assertEqual((task.state, task.total_steps), ("complete", int(name[-1])))
		self.assertEqual(worker.stop(), 0)

	def test_a_definition_comes_back(self):
		self.apply(self.node, template("shown", [step("a"), step("b", after=["a"], timeout=30, note="n")], description="what it is"))
		shown = self.node.client.get_template("shown", namespace="t")
		self.assertEqual([(s["name"], s["depends_on"], s["timeout_ms"]) for s in shown["steps"]], [("a", [], None), ("b", ["a"], 30000)])
		self.assertEqual(shown["definition"]["description"], "what it is")
		self.assertEqual(shown["steps"][1]["handler"]["initialization"], {"note": "n"})

	def test_registered_by_the_worker(self):
		"""A worker that ships templates registers them, and refuses to start with a broken one."""
		directory = os.path.join(self.shared.place, "templates")
		os.makedirs(directory, exist_ok=True)
		with open(os.path.join(directory, "shipped.yaml"), "w", encoding="utf-8") as f:
			f.write(template("shipped", [step("a")]))
		worker = self.shared.python_worker(self.node, name="ships", env={"TASKER_TEMPLATE_PATH": directory})
		self.assertEqual(self.finished(self.node, self.create(self.node, "shipped")).state, "complete")
		self.assertEqual(worker.stop(), 0)
		with open(os.path.join(directory, "broken.yaml"), "w", encoding="utf-8") as f:
			f.write(template("broken", [step("a", after=["nobody"])]))
		broken = self.shared.python_worker(self.node, name="broken", env={"TASKER_TEMPLATE_PATH": directory}, wait=False)
		self.assertEqual(broken.wait(), 1)
		self.assertIn("nobody", broken.log_text())


class Environments(harness.Case):
	def test_the_daemons_environment_applies(self):
		source = template("env", [step("a", "t.echo", attempts=7), step("b", "t.ok", colour="red")],
		                  environments={"test": {"steps": [{"name": "ALL", "timeout_seconds": 17}, {"name": "b", "handler": {"initialization": {"colour": "blue"}}}]}})
		db = self.database()
		node = self.daemon(db, environment="test")
		self.apply(node, source)
		steps = node.client.get_template("env", namespace="t")["steps"]
		self.assertEqual([s["timeout_ms"] for s in steps], [17000, 17000])
		self.assertEqual(steps[1]["handler"]["initialization"], {"colour": "blue"})
		self.assertEqual(steps[0]["max_attempts"], 7)
		plain = self.daemon(self.database(), name="plain")
		self.apply(plain, source)
		self.assertEqual([s["timeout_ms"] for s in plain.client.get_template("env", namespace="t")["steps"]], [None, None])


class Large(harness.Case):
	"""A template that takes long to read holds up nobody, and what its own session asks about templates meanwhile comes after it."""

	def setUp(self):
		super().setUp()
		self.db = self.database()
		self.node = self.daemon(self.db)
		self.wire = wire.Wire(self.node.socket)
		self.at_end(self.wire.close)
		self.wire.hello()

	def large(self, name, n=6000):
		return template(name, [step("a"), *(step("s%d" % i, after=["a"]) for i in range(n))])

	def frames(self, *requests):
		"""Send them in one go; their ids."""
		ids = [1000 + i for i in range(len(requests))]
		self.wire.asked.update(ids)
		self.wire.send(*([0, i, method, params] for i, (method, params) in zip(ids, requests)))
		return ids

	def test_others_are_answered_meanwhile(self):
		slow, wrong, ping = self.frames(("template.validate", {"source": self.large("large")}), ("template.validate", {"source": "name: [", "filename": "odd.yaml"}), ("ping", {}))
		self.wire.until(lambda: len(self.wire.responses) == 3, "the answers")
		self.assertEqual(list(self.wire.responses), [ping, slow, wrong])
		self.assertIs(self.wire.answer(slow)["ok"], True)
		said = self.wire.answer(wrong)
		self.assertEqual((said["ok"], said["findings"][0]["file"]), (False, "odd.yaml"))

	def test_registered_in_the_order_of_their_coming(self):
		first, second, third = self.frames(("template.apply", {"source": self.large("same", 3000)}), ("template.apply", {"source": template("same", [step("a")])}), ("template.apply", {"source": template("other", [step("a")])}))
		self.assertTrue(self.wire.answer(first)["created"])
		self.assertTrue(self.wire.answer(third)["created"])
		with self.assertRaises(wire.Refused) as caught:
			self.wire.answer(second)
		self.assertEqual(caught.exception.code, "conflict")

	def test_who_asked_is_gone(self):
		self.frames(("template.validate", {"source": self.large("gone")}), ("ping", {}))
		self.wire.until(lambda: self.wire.responses, "the ping")
		self.wire.close()
		self.assertTrue(self.node.client.request("template.validate", {"source": template("next", [step("a")])})["ok"])

	def test_the_daemon_stops_meanwhile(self):
		"""What it has taken it does."""
		self.frames(("template.apply", {"source": self.large("stopped", 3000)}), ("ping", {}))
		self.wire.until(lambda: self.wire.responses, "the ping")
		self.node.stop()
		self.assertEqual(self.db.number("SELECT n_steps FROM tasker.templates"), 3001)


if __name__ == "__main__":
	unittest.main()

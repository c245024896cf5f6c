"""What engines of this kind are known to get wrong, and what no other test here holds already: tests/README.md has the whole list."""
import unittest

import dynflow
import harness
import wire
from dynflow import S, Flow
from harness import HOUR_MS, step, template
from taskerd.exceptions import TaskerdError


class Gaps(harness.Case):
	def setUp(self):
		super().setUp()
		self.db = self.database()

	def count(self, what):
		return self.db.number("SELECT count(*) FROM " + what)

	def test_a_state_and_its_message_are_one(self):
		"""A message that cannot be written leaves no state behind, neither of a new task nor of a result; and when it can be, nothing is missing."""
		node = self.daemon(self.db)
		self.apply(node, template("pair", [step("a", "w.a", attempts=1), step("b", "w.b", after=["a"])]))
		queues = {c: q for c, q in self.db.sql("SELECT callable, queue_name FROM tasker.handlers")}
		refuse = "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no room for messages'; END $$"
		self.db.sql(refuse)
		for queue in queues.values():
			self.db.sql("CREATE TRIGGER refuse BEFORE INSERT ON pgmq.q_%s FOR EACH ROW EXECUTE FUNCTION public.refuse()" % queue)
		with self.assertRaises(TaskerdError):
			self.create(node, "pair")
		self.assertEqual((self.count("tasker.tasks"), self.count("tasker.steps")), (0, 0))
		self.db.sql("DROP TRIGGER refuse ON pgmq.q_%s" % queues["w.a"])
		task = self.create(node, "pair")
		worker = wire.Worker(node.socket, ["w.a"])
		given = worker.take()
		worker.finish(given)  # b has no worker here, so its message would be written
		self.assertEqual(worker.acked(given), "rejected")
		self.assertEqual(self.db.sql("SELECT step_no, state FROM tasker.steps ORDER BY 1"), [["0", "error"], ["1", "pending"]])
		worker.close()
		self.db.sql("DROP TRIGGER refuse ON pgmq.q_%s" % queues["w.b"])
		node.client.request("step.action", {"task_uuid": task, "step": "a", "action": "reset_for_retry", "reason": "there is room again"})
		self.python_worker(node, module="every.py")
		self.assertEqual(self.settled(node, task), "complete")

	def settled(self, node, task):
		return node.client.wait(task, harness.PATIENCE).state

	def test_every_resting_state_survives_a_kill(self):
		"""A task in every state in which one can rest; the daemon and all workers are killed; each goes on where it was."""
		node = self.daemon(self.db, resume_grace_ms=300)
		gate = [step("a", "t.gate"), step("b", after=["a"])]
		for name, steps in (("runs", gate), ("waits", [step("a", "t.flaky", fails=1, backoff="linear", base_ms=HOUR_MS, max_ms=HOUR_MS)]), ("queued", [step("a", "t.late_comer")]),
		                    ("blocked", [step("a", "t.flaky", fails=1, kind="permanent")]), ("paused", gate), ("later", [step("a")])):
			self.apply(node, template(name, steps))
		workers = [self.python_worker(node, name=n) for n in ("one", "two")]
		tasks = {name: self.create(node, name) for name in ("runs", "waits", "queued", "blocked", "paused")}
		tasks["later"] = self.create(node, "later", run_at=self.db.value("SELECT to_char((now() + interval '1 hour') AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"))
		self.wait_step(node, tasks["waits"], "a", "waiting_for_retry")
		self.wait_step(node, tasks["blocked"], "a", "error")
		self.wait_step(node, tasks["runs"], "a", "in_progress")
		node.client.request("task.action", {"task_uuid": tasks["paused"], "action": "pause", "reason": "r"})
		node.kill()
		for w in workers:
			w.kill()
		soon = "now() + interval '1 second'"  # what waits for a time has waited until now
		self.db.sql("UPDATE tasker.steps SET retry_at = %s WHERE state = 'waiting_for_retry'" % soon)
		self.db.sql("UPDATE tasker.tasks SET run_at = %s WHERE state = 'pending'" % soon)
		for queue in "orchestration_task_requests", self.db.value("SELECT queue_name FROM tasker.handlers WHERE callable = 't.flaky'"):
			self.db.sql("UPDATE pgmq.q_%s SET vt = %s" % (queue, soon))
		node.start()
		self.ledger.open_gate("gate")
		self.python_worker(node, name="three")
		self.python_worker(node, name="four", module="every.py")
		act = lambda name, action, **more: node.client.request(more.pop("method", "task.action"), {"task_uuid": tasks[name], "action": action, "reason": "r", **more})  # noqa: E731
		act("paused", "resume")
		act("blocked", "skip", method="step.action", step="a")
		self.assertEqual({name: self.settled(node, task) for name, task in tasks.items()}, dict.fromkeys(tasks, "complete"))
		self.doctor(node)

	def test_results_that_come_together_are_recorded_together(self):
		node = self.daemon(self.db)
		self.apply(node, template("one", [step("a", "w.a")]))
		node.client.create_tasks({"name": "one", "namespace": "t"} for _ in range(200))
		worker = wire.Worker(node.socket, ["w.a"], concurrency=200)
		self.at_end(worker.close)
		steps = worker.take(200)
		worker.results(*[wire.ok(s) for s in steps])
		self.assertEqual({worker.acked(s) for s in steps}, {"recorded"})
		self.assertLess(self.count("(SELECT DISTINCT xmin::text FROM tasker.step_attempts) x"), 20)

	def test_results_while_the_task_is_being_made(self):
		"""Results of a wide task's first steps come while others of it are not yet handed out: none is lost."""
		node = self.daemon(self.db)
		self.apply(node, template("wide", [step("s%d" % n, "w.a") for n in range(400)] + [step("end", "w.a", after=["s%d" % n for n in range(400)])]))
		worker = wire.Worker(node.socket, ["w.a"], concurrency=7)
		self.at_end(worker.close)
		task = self.create(node, "wide")
		for _ in range(401):
			worker.finish(worker.take())
		self.assertEqual(self.settled(node, task), "complete")
		self.assertEqual(self.count("tasker.step_attempts"), 401)

	def test_a_retry_after_days(self):
		"""No window ends in which a task that waits is looked at."""
		node = self.daemon(self.db)
		self.apply(node, template("slow", [step("a", "t.flaky", fails=1, backoff="linear", base_ms=12 * HOUR_MS, max_ms=24 * HOUR_MS)]))
		self.python_worker(node)
		task = self.create(node, "slow")
		self.wait_step(node, task, "a", "waiting_for_retry")
		node.kill()
		days = "interval '9 days'"
		self.db.sql("UPDATE tasker.tasks SET created_at = created_at - " + days)
		self.db.sql("UPDATE tasker.task_transitions SET at = at - " + days)
		self.db.sql("UPDATE tasker.steps SET retry_at = retry_at - %s, ready_at = ready_at - %s, claimed_at = claimed_at - %s" % (days, days, days))
		self.db.sql("UPDATE pgmq.q_%s SET vt = vt - %s, enqueued_at = enqueued_at - %s" % (self.db.value("SELECT queue_name FROM tasker.handlers"), days, days))
		node.start()
		self.assertEqual(self.settled(node, task), "complete")

	def test_names_of_any_length_have_a_queue(self):
		node = self.daemon(self.db)
		namespace, names = "n" * 29, ["a." + "\N{GRINNING FACE}" * 498, "b." + "Ü" * 498]
		self.apply(node, template("long", [step("a", names[0]), step("b", names[1], after=["a"])], namespace=namespace))
		worker = wire.Worker(node.socket, names)
		self.at_end(worker.close)
		task = self.create(node, "long", namespace=namespace)
		worker.finish(worker.take())
		worker.finish(worker.take())
		self.assertEqual(self.settled(node, task), "complete")
		self.assertEqual(self.count("(SELECT queue_name FROM tasker.handlers WHERE octet_length(queue_name) <= 47) x"), 2)


class Dynamic(unittest.TestCase):
	def test_handed_over_and_cancelled_in_one_call(self):
		"""A success lets the next worker of its batch through, and a failure in the same call ends the batch: nobody is given what is cancelled already."""
		flow = Flow(self, [S("split", "batchable"), S("w", "batch_worker", ["split"], None, {"failure_strategy": "fail_fast", "parallelism": 2})])
		task = flow.create()
		flow.run({"split": dynflow.batches(3)}, stop=("w_001", "w_002"))
		running = sorted(flow.open.values(), key=lambda c: c.step)
		self.assertEqual([flow.name(task, c.step) for c in running], ["w_001", "w_002"])
		flow.record([(running[0], {}), (running[1], ValueError("for good"))])
		self.assertEqual(flow.states(task), {"split": "complete", "w_001": "complete", "w_002": "error", "w_003": "cancelled"})
		self.assertEqual(flow.open, {})
		flow.doctor()

	def test_what_hangs_on_the_worker_that_was_not_chosen(self):
		"""It neither runs nor is waited for, whichever is recorded first: the choice, or what else it hangs on."""
		steps = [S("split", "batchable"), S("left", "batch_worker", ["split"]), S("right", "batch_worker", ["split"]),
		         S("plain", "standard", ["right"]), S("sum", "deferred_convergence", ["left", "right"])]
		flow = Flow(self, steps)
		task = flow.create()
		flow.run({"split": dynflow.batches(2, worker="left")})
		self.assertEqual(flow.state(task), "complete")
		self.assertEqual(flow.states(task), {"split": "complete", "left_001": "complete", "left_002": "complete", "sum": "complete"})
		self.assertEqual(flow.impossible(task), {"right", "plain"})


if __name__ == "__main__":
	unittest.main()

"""Faults while decisions and batches change what a task is made of."""
import threading
import unittest

from fault import FaultCase, ROUNDS, harness, step, template
from harness import wait_for
import wire  # noqa: E402
from dynflow import batches, choose  # noqa: E402

ROUTE = [step("begin", "f.h"), {**step("route", "f.h", after=["begin"]), "type": "decision"}, step("air", "f.h", after=["route"]), step("sea", "f.h", after=["route"]),
         {**step("meet", "f.h", after=["air", "sea"]), "type": "deferred_convergence"}]
BATCH = [{**step("split", "f.h"), "type": "batchable"}, {**step("weigh", "f.h", after=["split"]), "type": "batch_worker"},
         {**step("sum", "f.h", after=["weigh"]), "type": "deferred_convergence"}]
# Each stops the transaction that records the result at another place: before it begins, when steps have been made, when all but the end has been done.
HALTS = ("SELECT 1 FROM tasker.tasks FOR UPDATE", "LOCK TABLE tasker.batches IN SHARE MODE", "LOCK TABLE tasker.step_attempts IN SHARE MODE")


class DaemonKilled(FaultCase):
	"""kill -9 of the daemon around the one transaction that applies an outcome."""

	def start(self):
		self.node = self.daemon(self.db, resume_grace_ms=60000)

	def worker(self, **more):
		worker = wire.Worker(self.node.socket, ["f.h"], concurrency=20, **more)
		self.at_end(worker.close)
		return worker

	def deciding(self, steps, name):
		"""The step that decides, given to a worker."""
		self.apply(self.node, template("f_" + name, steps))
		self.task = self.create(self.node, "f_" + name)
		worker = self.worker()
		got = worker.take()
		while got["step"] != name:
			worker.finish(got, {})
			got = worker.take()
		return worker, got

	def again(self, worker, got, result):
		"""A new daemon, to which the worker comes back with the result that was not acknowledged. The status."""
		session = worker.welcome["session"]
		worker.close()
		self.node.start()
		worker = self.worker(resume={"session": session, "held": 1})
		self.assertEqual(worker.call("session.resume", {"steps": [{k: got[k] for k in ("step_uuid", "attempt", "claim")}]})["steps"][0]["status"], "held" if not self.recorded else "stale")
		worker.finish(got, result)
		return worker, worker.acked(got)

	def complete(self, worker, n):
		for _ in range(n):
			worker.finish(worker.take(), {})
		self.db.wait_settled()
		self.doctor(self.node)

	def names(self):
		return sorted(s.name for s in self.node.client.get_task(self.task).steps)

	def halted(self, steps, name, result, halt):
		self.recorded = False
		worker, got = self.deciding(steps, name)
		with self.db.cluster.session(self.db.name) as holder:
			holder.run("BEGIN")
			holder.run(halt)
			worker.finish(got, result)
			wait_for(lambda: self.db.sql("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"), "the daemon to be halted")
			self.node.kill()
			# Its backend still waits, and must not get through.
			holder.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
			holder.run("ROLLBACK")
		return self.again(worker, got, result)

	def test_in_the_middle_of_a_decision(self):
		for halt in (HALTS[0], HALTS[2]):
			with self.subTest(halt):
				self.start()
				worker, status = self.halted(ROUTE, "route", choose("air"), halt)
				self.assertEqual(status, "recorded")
				self.complete(worker, 2)
				self.assertEqual(self.names(), ["air", "begin", "meet", "route"])
				worker.close()
				self.node.kill()
				self.db.sql("UPDATE tasker.nodes SET state = 'down'")

	def test_in_the_middle_of_making_a_batch(self):
		for halt in HALTS:
			with self.subTest(halt):
				self.start()
				worker, status = self.halted(BATCH, "split", batches(10), halt)
				self.assertEqual(status, "recorded")
				self.complete(worker, 11)
				self.assertEqual(len(self.names()), 12)
				worker.close()
				self.node.kill()
				self.db.sql("UPDATE tasker.nodes SET state = 'down'")

	def test_recorded_but_not_acknowledged(self):
		for steps, name, result, made in ((ROUTE, "route", choose("air"), ["air", "begin", "meet", "route"]), (BATCH, "split", batches(3), ["split", "sum", "weigh_001", "weigh_002", "weigh_003"])):
			with self.subTest(name):
				self.start()
				worker, got = self.deciding(steps, name)
				worker.notify("worker.update", {"draining": True})
				worker.call("ping")
				self.recorded = True
				worker.finish(got, result)
				wait_for(lambda: self.db.sql("SELECT 1 FROM tasker.tasks t JOIN tasker.steps s USING (task_id) WHERE t.task_uuid = '%s' AND s.step_no = %s AND s.state = 'complete'" % (
					self.task, "1" if name == "route" else "0")), "the result in the database")
				self.node.kill()
				worker, status = self.again(worker, got, result)
				self.assertEqual(status, "duplicate")
				self.complete(worker, len(made) - (2 if name == "route" else 1))
				self.assertEqual(self.names(), made)
				worker.close()
				self.node.kill()
				self.db.sql("UPDATE tasker.nodes SET state = 'down'")


class BatchUnderFire(FaultCase):
	"""A batch with parallelism while its workers and the daemon are killed."""

	def test_batch(self):
		node = self.daemon(self.db, resume_grace_ms=300)
		steps = [{**step("split", "d.say", result=batches(60)), "type": "batchable"},
		         {**step("weigh", "d.work", after=["split"], attempts=20), "type": "batch_worker", "batch_config": {"parallelism": 6}},
		         {**step("sum", "d.saw", after=["weigh"], attempts=20), "type": "deferred_convergence"}]
		self.apply(node, template("fire", steps))
		workers = [self.python_worker(node, name="w%d" % i, threads=3, module="dynamic.py") for i in range(2)]
		most, over = [0], threading.Event()
		watcher = self.db.cluster.session(self.db.name)

		def watch():
			while not over.is_set():
				most[0] = max(most[0], int(watcher.run("SELECT count(*) FROM tasker.steps WHERE step_no <> template_no AND state IN ('enqueued', 'in_progress', 'waiting_for_retry')")[0][0]))
		thread = threading.Thread(target=watch)
		thread.start()
		self.at_end(watcher.close)
		self.at_end(thread.join)
		self.at_end(over.set)
		tasks = [self.create(node, "fire")]
		for i in range(ROUNDS * 2):
			self.ledger.wait_lines(60 * (i + 1) // (ROUNDS * 2 + 1))
			if i % 2:
				node.kill()
				node.start()
			else:
				workers.pop(self.random.randrange(len(workers))).kill()
				workers.append(self.python_worker(node, name="x%d" % i, threads=3, module="dynamic.py"))
		task = self.finished(node, tasks[0])
		self.assertEqual(task.state, "complete")
		self.assertEqual(sum(s.result["sum"] for s in task.steps if s.name.startswith("weigh_")), sum(range(600)))
		self.assertLessEqual(most[0], 6)
		self.doctor(node)


class BetweenCheckpoints(FaultCase):
	def test_worker_killed(self):
		"""Each life of the worker goes on from the last checkpoint, and the sum is right."""
		node = self.daemon(self.db)
		steps = [{**step("split", "d.say", result=batches(1, size=50)), "type": "batchable"},
		         {**step("weigh", "d.range", after=["split"], attempts=5, every=10, die_at=[3, 17, 42]), "type": "batch_worker"}]
		self.apply(node, template("long", steps))
		task = self.create(node, "long")
		worker = None
		for i in range(4):
			worker = self.python_worker(node, name="w%d" % i, threads=1, module="dynamic.py", wait=False)
			if i < 3:
				worker.wait()
		got = self.finished(node, task)
		self.assertEqual((got.state, got.step("weigh_001").result["total"]), ("complete", sum(range(50))))
		self.assertEqual(got.step("weigh_001").attempts, 4)
		self.assertEqual([n["at"] for n in self.ledger.notes("from")], [0, 0, 10, 10, 20, 30, 40, 40])
		self.doctor(node)

	def test_daemon_killed(self):
		node = self.daemon(self.db, resume_grace_ms=300)
		steps = [{**step("split", "d.say", result=batches(3, size=200)), "type": "batchable"}, {**step("weigh", "d.range", after=["split"], attempts=3, every=5), "type": "batch_worker"}]
		self.apply(node, template("long", steps))
		self.python_worker(node, threads=3, module="dynamic.py")
		task = self.create(node, "long")
		for i in range(ROUNDS):
			self.ledger.wait_lines(30 * (i + 1))
			node.kill()
			node.start()
		got = self.finished(node, task)
		self.assertEqual((got.state, {s.name: s.result["total"] for s in got.steps if s.name != "split"}), ("complete", {
			"weigh_%03d" % (i + 1): sum(range(200 * i, 200 * i + 200)) for i in range(3)}))
		self.doctor(node)


if __name__ == "__main__":
	unittest.main()

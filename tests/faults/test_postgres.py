"""PostgreSQL loses connections, crashes, and is stopped while a batch is under way. Daemon and workers live on, so no attempt is lost and nothing runs twice."""
import os
import signal
import threading
import unittest

from fault import FaultCase, ROUNDS, harness, step, template
from harness import wait_for
from proxy import Proxy

LOCK_CLASS = 1852793957  # of the advisory lock that the presence connection holds


class Faults(FaultCase):
	def strike(self, fault, n=60, rounds=ROUNDS, **options):
		"""Run a batch, and call fault(round) in the middle of it, again and again."""
		node = self.daemon(self.db, **options)
		workers = [self.python_worker(node, name="w%d" % i, threads=3) for i in range(2)]
		self.begin_batch(node, n)
		for i in range(rounds):
			self.wait_part(i, rounds)
			fault(i)
			node.wait_up()
		self.db.wait_settled()
		wait_for(lambda: node.database_state() == "up", "the daemon to have its database again")
		self.end_batch(node)
		self.assertEqual(self.lost(), [])
		self.assertEqual({k: c for k, c in self.executions().items() if c != 1}, {})
		self.assertTrue(all(w.alive() for w in workers))
		return node

	def terminate(self, where=""):
		self.db.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'taskerd' %s" % where)

	def hot(self, choose=""):
		"""Those of the daemon's backends that are not presence's."""
		return "AND pid NOT IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = %d) %s" % (LOCK_CLASS, choose)


class Connections(Faults):
	def test_all_are_ended(self):
		self.strike(lambda i: self.terminate())

	def test_those_of_the_store_threads_are_ended(self):
		"""The connection that hears of hints stays, so nothing but the answers themselves is lost. No poll heals that: it comes once an hour."""
		self.strike(lambda i: self.terminate(self.hot()), rounds=4 * ROUNDS)

	def test_one_at_random_is_ended(self):
		self.strike(lambda i: self.terminate(self.hot("ORDER BY random() LIMIT 1")), rounds=4 * ROUNDS)

	def test_that_of_presence_is_ended(self):
		self.strike(lambda i: self.terminate("AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = %d)" % LOCK_CLASS))

	def test_statements_are_cancelled(self):
		"""As an administrator may do, or a statement timeout."""
		self.strike(lambda i: self.db.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'taskerd'"), rounds=4 * ROUNDS)

	def test_a_call_that_runs_on_after_its_connection_is_cut(self):
		"""The daemon's connection breaks while its call waits for a lock in the server, which does not notice. The daemon repeats the call on a new connection; then the
		first one goes on. What either claims is run, once."""
		relay = os.path.join(self.place, "relay")
		os.mkdir(relay)
		proxy = Proxy(os.path.join(relay, ".s.PGSQL.5432"), os.path.join(self.cluster.host, ".s.PGSQL.5432"))
		self.at_end(proxy.close)
		node = harness.Daemon(self, "node-a", database=self.db.uri.replace(self.cluster.host, relay), poll_interval_ms=harness.HOUR_MS).start()
		self.apply(node, template("cut", [step("a", "t.gate"), step("b", after=["a"]), step("c", after=["b"])]))
		self.python_worker(node)
		tasks = self.create_many(node, "cut", 3)
		self.ledger.wait_lines(3)
		blocked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
		with self.cluster.session(self.db.name) as lock:
			lock.run("BEGIN; SELECT 1 FROM tasker.tasks FOR UPDATE")
			self.ledger.open_gate("gate")
			wait_for(lambda: self.db.number(blocked) >= 1, "the call to wait for the lock")
			before = node.info()["counters"]["database_reconnects"]
			for link in list(proxy.links):
				link.cut_client()
			wait_for(lambda: node.info()["counters"]["database_reconnects"] > before, "the daemon to notice")
			wait_for(lambda: self.db.number(blocked) >= 2, "the repeated call to wait")
			lock.run("COMMIT")
			node.wait_up()
			for task in tasks:
				self.assertEqual(self.finished(node, task).state, "complete")
		self.end_batch(node)
		self.assertEqual({k: c for k, c in self.executions().items() if c != 1}, {})


class Crashes(Faults):
	def make_cluster(self):
		made = harness.new_cluster(restart_after_crash="on")
		self.at_end(made.close)
		return made

	def test_a_backend_is_killed(self):
		"""kill -9 of one: the postmaster ends all the others and recovers."""
		def fault(i):
			pids = self.backends()
			victim = self.random.choice(pids)
			os.kill(victim, signal.SIGKILL)
			wait_for(lambda: not any(os.path.exists("/proc/%d" % pid) for pid in pids), "all backends to end")
			wait_for(lambda: self.db.unsettled() is not None, "the server to recover")
		self.strike(fault)

	def test_immediate_shutdown(self):
		self.strike(lambda i: self.cluster.restart("immediate"))

	def test_fast_shutdown(self):
		self.strike(lambda i: self.cluster.restart("fast"))

	def test_everything_is_killed(self):
		"""kill -9 of every process of the server, as when a machine goes down; then recovery."""
		def fault(i):
			self.cluster.kill()
			self.cluster.start()
		self.strike(fault)

	def test_creating_meanwhile(self):
		"""Creates with a key are repeated until they are answered: each key is one task."""
		node = self.daemon(self.db)
		self.python_worker(node, threads=4)
		self.apply(node, template("made", [step("a", attempts=20)]))
		n, made, errors = 200, {}, []

		def create(part):
			client = node.new_client()
			for i in range(part, n, 2):
				for _ in range(1000):
					try:
						made[i] = client.create_task("made", namespace="t", context={"n": i}, idempotency_key="key-%d" % i).task_uuid
						break
					except harness.TaskerdError as e:
						if not e.retryable:
							errors.append(e)
							return
						wait_for(lambda: node.database_state() == "up", "the database")
		threads = [threading.Thread(target=create, args=(part,)) for part in range(2)]
		for thread in threads:
			thread.start()
		for i in range(ROUNDS):
			wait_for(lambda: len(made) > n * (i + 1) // (ROUNDS + 1) or errors, "some to be made")
			self.cluster.restart("immediate")
		for thread in threads:
			thread.join()
		self.assertEqual(errors, [])
		self.assertEqual(len(set(made.values())), n)
		self.end_batch(node)
		self.assertEqual(self.db.number("SELECT count(*) FROM tasker.tasks"), n)

	def test_two_daemons(self):
		nodes = [self.daemon(self.db, name=name, lease_ttl_ms=120000, poll_interval_ms=1000) for name in ("one", "two")]
		for node in nodes:
			self.python_worker(node, name="w-" + node.name, threads=3)
		self.begin_batch(nodes[0], 50)
		for i in range(ROUNDS):
			self.wait_part(i, ROUNDS)
			self.cluster.restart("immediate")
			for node in nodes:
				node.wait_up()
		self.end_batch(nodes[1])
		self.assertEqual(self.lost(), [])


if __name__ == "__main__":
	unittest.main()

#!/usr/bin/python3
"""The long fault test: random workflows on one to three nodes while faults of every kind strike, then judgement. tests/faults/run builds and starts it.

	Campaign(seed, minutes, nodes, faults).run()      # a Report

What is struck, whom, and in which order depends on the seed alone; when, on how far the work has got.
"""
import argparse
import collections
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import disk
import fault  # noqa: F401: finds the harness
import judge
from bouncer import Bouncer
from fault import harness
from harness import pg, step, template, wait_for
from inject import Injector
from kinds import KINDS
from load import Crew, Feeder, languages
from proxy import Proxy, Tap
from replica import Pair, Standby
import testimony

HERE = os.path.dirname(os.path.abspath(__file__))
ROUTES = ("proxy", "pooler", "direct")  # of the first, second and third node to its database
HOSTILE = "hostile"  # a namespace, whose tasks the attacker makes
SANITIZED = "TASKERD_TEST_PATIENCE" in os.environ  # their runtime has to be loaded first
PRELOADED = ("exhaust_memory", "shift_daemon_clock", "shift_database_clock")  # need inject.c
LEASE_S = 3
STALL_S = 120  # without any progress


class Stalled(Exception):
	"""Nothing moves any more."""


class StandbyOnSmallDisk(disk.OnSmallDisk, Standby):
	pass


class Proxies:
	"""One for each name that a server may have, so that a daemon sees through them what it would see without."""

	def __init__(self, stage, name, targets, tap):
		self.directories, self._proxies = [], []
		for target in targets:
			directory = os.path.join(stage.place, "%s-%s" % (name, os.path.basename(target)))
			os.mkdir(directory)
			self._proxies.append(Proxy(os.path.join(directory, ".s.PGSQL.5432"), os.path.join(target, ".s.PGSQL.5432"), tap))
			self.directories.append(directory)
			stage.at_end(self._proxies[-1].close)

	def links(self):
		return [link for p in self._proxies for link in list(p.links)]

	def cut(self):
		for p in self._proxies:
			p.cut()


class Node(harness.Daemon):
	"""A daemon with its way to the database, a relay before its socket, and what is put into it."""

	def __init__(self, stage, name, route):
		self.database_tap, self.worker_tap = Tap(), Tap()
		self.database_proxies = Proxies(stage, name, stage.pair.names, self.database_tap)
		direct = stage.pair.conninfo(stage.db.name)
		proxied = stage.pair.conninfo(stage.db.name, self.database_proxies.directories)
		if route == "pooler":
			ways = {"database": stage.bouncer.conninfo(stage.db.name), "session_database": proxied}
		else:
			ways = {"database": proxied if route == "proxy" else direct}
		super().__init__(stage, name, **ways, lease_ttl_ms=1000 * LEASE_S, poll_interval_ms=1000, resume_grace_ms=1000, heartbeat_ms=1000, sweep_interval_ms=1000)
		self.route = route
		self.injector = Injector(os.path.join(stage.place, name + ".inject"))
		self.environment = {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")} if SANITIZED else self.injector.environment
		self.may_die, self.killed = False, False
		self.relay = Proxy(os.path.join(stage.place, name + ".relay"), self.socket, self.worker_tap)
		stage.at_end(self.relay.close)

	def launch(self):
		self.killed = self.may_die = False
		self.injector.heal()
		return super().launch()

	def die(self):
		self.killed = True
		self.kill()

	def end(self):
		"""SIGTERM; it ends with status 0."""
		self.killed = True
		if self.process.alive():
			status = self.stop()
			if status != 0:
				raise AssertionError("%s ended with %s when it was stopped" % (self.name, status))


class Campaign(harness.Stage):
	max_connections = 60
	lease_s = LEASE_S
	sanitized = SANITIZED

	def __init__(self, seed, minutes=1.0, n_nodes=3, faults=None, events=None):
		self.seed, self.minutes, self.n_nodes, self.events = seed, minutes, n_nodes, events
		self.random = random.Random("campaign %s" % seed)
		self.chosen = list(faults or KINDS)
		self.struck, self.sizes, self.findings = collections.Counter(), {}, []
		self.postgres_is_down, self.database_clock = False, 0
		self.attacks, self.spoken = None, []

	# -- the stage ---------------------------------------------------------------------------------

	def prepare(self):
		self.begin("campaign")
		self.database_injector = Injector(os.path.join(self.place, "postgres.inject"))
		small = "fill_disk" in self.chosen and disk.can_mount()
		if not small and "fill_disk" in self.chosen:
			self.chosen.remove("fill_disk")
			print("fill_disk is left out: no file system can be mounted here", flush=True)
		make, copy = (disk.SmallCluster, StandbyOnSmallDisk) if small else (pg.PgCluster, Standby)
		if SANITIZED:
			self.chosen = [k for k in self.chosen if k not in PRELOADED]
		wired = {} if SANITIZED else {"environment": self.database_injector.environment}
		self.cluster = harness.new_cluster(lambda settings: make(settings, **wired), max_connections=self.max_connections, restart_after_crash="on", max_wal_size="128MB", min_wal_size="32MB", wal_keep_size="64MB")
		self.at_end(lambda: self.pair.primary.close())
		self.db = self.database(self.cluster)
		self.pair = Pair(self, self.cluster, make=lambda primary: copy(primary, **wired), standby="promote" in self.chosen)
		self.bouncer = None
		routes = [ROUTES[(i + self.seed) % len(ROUTES)] for i in range(self.n_nodes)]
		if "pooler" in routes:
			self.bouncer = Bouncer(self, self.cluster, os.path.join(self.place, "pool"), pool_size=4).start()
		elif "kill_pooler" in self.chosen:
			self.chosen.remove("kill_pooler")
		self.nodes = [Node(self, "node-%d" % (i + 1), route) for i, route in enumerate(routes)]
		for node in self.nodes:
			node.start()
		self.spoken = languages()
		# Two workers on each node, and every language somewhere, one of them behind the relay.
		crew_size = max(2, -(-len(self.spoken) // self.n_nodes))
		self.crews = [Crew(self, node, [self.spoken[(i * crew_size + k) % len(self.spoken)] for k in range(crew_size)]) for i, node in enumerate(self.nodes)]
		self.feeder = Feeder(self, self.seed)
		self.feeder.start()
		self.let_in_the_attacker()

	def let_in_the_attacker(self):
		client = self.nodes[0].client
		client.apply_template(template("one", [step("a", "t.ok")], namespace=HOSTILE))
		task = client.create_task("one", namespace=HOSTILE).task_uuid
		uuid = client.request("task.get", {"task_uuid": task, "steps": True})["steps"][0]["step_uuid"]
		argv = [harness.PYTHON, os.path.join(HERE, "attacker.py"), self.seed, HOSTILE, task, uuid] + [n.socket for n in self.nodes]
		self.attacks = self.track(harness.Process("attacker", ["nice", "-n", "5"] + argv, os.path.join(self.place, "attacker.log"), {"PYTHONPATH": harness.PYTHON_CLIENT}))

	# -- for the faults ----------------------------------------------------------------------------

	def any_worker(self):
		return self.random.choice(self.random.choice(self.crews).workers)

	def any_node(self):
		return self.random.choice(self.nodes)

	def sql(self, statement):
		"""Rows, or None if the server does not answer."""
		try:
			return self.db.sql(statement)
		except (pg.PgError, AssertionError, OSError):
			return None

	def start(self, node):
		"""Without waiting for its database, which may be away."""
		node.launch()
		wait_for(node.info, lambda: "%s to answer:\n%s" % (node.name, node.process.last_words()))

	def stop_postgres(self, how):
		self.postgres_is_down = True
		self.db.close()
		self.pair.primary.kill() if how == "kill" else self.pair.primary.stop(how)

	def start_postgres(self):
		self.pair.primary.start()
		self.postgres_is_down = False

	def promote(self):
		self.postgres_is_down = True
		self.db.close()
		dead = self.pair.fail_over()
		self.db.cluster = self.pair.primary
		if self.bouncer:
			self.bouncer.lead_to(self.pair.primary)
		self.postgres_is_down = False
		dead.close()
		self.pair.rebuild()

	def hold(self, seconds):
		"""Let a fault last."""
		end = time.monotonic() + seconds
		while time.monotonic() < end:
			self.tend()
			self.breathe()

	@staticmethod
	def breathe():
		time.sleep(0.05)

	def tend(self):
		"""What a service manager does: start again what has ended. True, to be used in conditions."""
		for node in self.nodes:
			if not node.process.alive():
				self.post_mortem(node)
				self.start(node)
		for crew in self.crews:
			crew.tend()
		if not self.postgres_is_down and self.pair.primary.postmaster.poll() is not None:
			self.pair.primary.kill()
			self.pair.primary.start()
		if self.feeder.error:
			raise self.feeder.error
		return True

	def post_mortem(self, node):
		"""A daemon ends when it is told to, or says clearly why it cannot go on when it has no memory. Everything else is a finding."""
		status = node.process.wait()
		if node.killed or node.may_die and status in (1, 69, 70, 71, -6):
			return
		self.findings.append("%s ended with %s:\n%s" % (node.name, status, node.process.last_words()))

	# -- the course --------------------------------------------------------------------------------

	def wait_progress(self, what, condition):
		"""Until the condition holds; Stalled if nothing is executed or settled for long."""
		seen, since = None, time.monotonic()
		while not condition():
			self.tend()
			self.breathe()
			now = (len(self.ledger), self.db.unsettled_of("t"), self.feeder.jobs.unfinished_tasks)
			if now != seen:
				seen, since = now, time.monotonic()
			if time.monotonic() - since > STALL_S:
				testimony.take(self, os.path.join(self.place, "stalled"))
				raise Stalled("nothing has moved for %d s while waiting for %s; %d tasks open, %d requests" % (STALL_S, what, now[1] or 0, now[2]))

	def settled(self):
		return self.feeder.idle and self.db.unsettled_of("t") == 0

	def pick(self):
		"""One kind, or two that strike different things, so that all kinds have their turn."""
		if not self.deck:
			self.deck = self.random.sample(self.chosen, len(self.chosen))
		first = self.deck.pop()
		others = [k for k in self.deck if KINDS[k][0] != KINDS[first][0]]
		if others and self.random.randrange(3) == 0:
			second = others[-1]
			self.deck.remove(second)
			return [first, second]
		return [first]

	def strike(self, names):
		steps = [(name, KINDS[name][1](self)) for name in names]
		for name, step_by_step in steps:
			next(step_by_step)
			self.struck[name] += 1
		self.hold(self.random.choice((0.1, 0.3, 0.5, 1)))
		for _, step_by_step in steps:
			for _ in step_by_step:
				pass

	def course(self):
		self.deck, n = [], 0
		end = time.monotonic() + 60 * self.minutes
		while n < self.events if self.events else time.monotonic() < end:
			self.feeder.ask(self.random.randrange(2, 12))
			goal = len(self.ledger) + self.random.randrange(1, 60)
			self.wait_progress("some steps", lambda: len(self.ledger) >= goal or self.settled())  # pylint: disable=cell-var-from-loop
			names = self.pick()
			self.say("strike %d: %s" % (n + 1, " and ".join(names)))
			self.strike(names)
			n += 1

	def say(self, text):
		if os.environ.get("TASKERD_DIARY"):
			print("%.1f %s" % (time.monotonic() - self.began, text), flush=True)
		self.diary.write("%.1f %s\n" % (time.monotonic() - self.began, text))
		self.diary.flush()

	def end_of_attack(self):
		"""What the attacker has made is run too: nothing of it may be stuck."""
		if self.attacks.alive():
			self.attacks.kill()
		self.n_attacks = sum(int(line) for line in self.attacks.log_text().split() if line.isdigit())
		self.python_worker(self.nodes[0], name="cleaner", namespaces=[HOSTILE])
		self.wait_progress("the attacker's tasks", lambda: self.db.unsettled() == 0)

	def conduct(self):
		self.began = time.monotonic()
		self.prepare()
		with open(os.path.join(self.place, "diary"), "w", encoding="utf-8") as self.diary:
			self.course()
			self.say("the faults are over")
			self.wait_progress("the last tasks", self.settled)
			self.feeder.end()
			self.end_of_attack()
			for node in self.nodes:
				node.wait_up()
			self.findings += judge.judge(self)
			self.numbers = judge.numbers(self)
			for crew in self.crews:
				crew.dismiss()
			for worker in self._tracked:
				if worker.name == "cleaner" and worker.alive():
					worker.stop()
			for node in self.nodes:
				node.client.close()
			self.findings += judge.check("leaks", judge.leaks(self))

	def run(self):
		"""True: nothing was found. The report is printed either way."""
		self.numbers, self.n_attacks = {}, 0
		try:
			self.conduct()
		except (AssertionError, Stalled, OSError, subprocess.SubprocessError, pg.PgError, RuntimeError, harness.TaskerdError) as e:
			self.findings.append("%s: %s" % (type(e).__name__, e))
		if self.findings:
			self.keep_evidence()
		self.report()
		self.end()
		return not self.findings

	# -- what is said about it ---------------------------------------------------------------------

	def keep_evidence(self):
		"""Logs, ledger, diary and the database, where they outlive the run."""
		place = os.path.join(os.environ.get("TASKERD_EVIDENCE") or os.path.join(harness.ROOT, "build-test"), "faults-%s" % self.seed)
		shutil.rmtree(place, ignore_errors=True)
		os.makedirs(place)
		for name in os.listdir(self.place):
			path = os.path.join(self.place, name)
			if os.path.isfile(path) and not os.path.islink(path):
				shutil.copy(path, place)
		try:
			shutil.copy(self.pair.primary.log, os.path.join(place, "postgres.log"))
			with open(os.path.join(place, "database.sql"), "wb") as f:
				subprocess.run(["pg_dump", "-d", self.pair.primary.conninfo(self.db.name)], stdout=f, stderr=subprocess.STDOUT, timeout=120, check=False)
		except (OSError, AttributeError, subprocess.SubprocessError):
			pass  # there may be no server to ask
		self.findings.append("evidence is in %s" % place)

	def report(self):
		faults = {k: self.struck[k] for k in KINDS if self.struck[k]}
		if getattr(self, "nodes", None):
			self.numbers["commits_whose_answer_was_cut_off"] = sum(n.database_tap.cut_commits for n in self.nodes)
			self.numbers["allocations_that_failed"] = sum(n.injector.failed for n in self.nodes)
		print("faults: %d of %d kinds" % (sum(faults.values()), len(faults)))
		for name, n in faults.items():
			print("  %-34s %d" % (name, n))
		print("hostile connections: %d; workers in %s" % (self.n_attacks, ", ".join(self.spoken)))
		for name, value in {**self.numbers, "sizes (new, used)": self.sizes}.items():
			print("%s: %s" % (name.replace("_", " "), json.dumps(value)))
		for finding in self.findings:
			print("FINDING %s" % finding)
		print("nodes %d, seed %s, %.0f s" % (self.n_nodes, self.seed, time.monotonic() - self.began))
		print("losses: %s" % ("0" if not self.findings else "see the findings; repeat with tests/faults/run --seed %s --minutes %g --nodes %d%s" % (
			self.seed, self.minutes, self.n_nodes, "" if set(self.chosen) == set(KINDS) else " --faults " + ",".join(self.chosen))), flush=True)


def parse(argv):
	p = argparse.ArgumentParser(prog="tests/faults/run", description="Random workflows under faults, and the proof that nothing was lost.")
	p.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 10000), help="what is struck and in which order (default: any)")
	p.add_argument("--minutes", type=float, default=5, help="how long faults strike (default: 5)")
	p.add_argument("--nodes", type=int, choices=(1, 2, 3), default=3)
	p.add_argument("--faults", help="some kinds only, separated by commas: %s" % ", ".join(KINDS))
	args = p.parse_args(argv)
	args.faults = args.faults.split(",") if args.faults else None
	unknown = [f for f in args.faults or () if f not in KINDS]
	if unknown:
		p.error("no such fault: %s; there are %s" % (", ".join(unknown), ", ".join(KINDS)))
	return args


def ended_from_outside(*_):
	raise Stalled("ended from outside")


def main(argv):
	args = parse(argv)
	signal.signal(signal.SIGTERM, ended_from_outside)
	print("seed %d, %g minutes, %d nodes" % (args.seed, args.minutes, args.nodes), flush=True)
	return 0 if Campaign(args.seed, args.minutes, args.nodes, args.faults).run() else 1


if __name__ == "__main__":
	sys.exit(main(sys.argv[1:]))

"""The kinds of faults. Each is a generator: it strikes, yields, and heals what does not heal by itself. `c` is the campaign (campaign.py).

A kind stands in KINDS with what it strikes; two that strike the same thing are not done at once.
"""
import os
import resource
import signal
import socket
import struct

import disk
from fault import harness
from harness import pg, wait_for

LOCK_CLASS = 1852793957  # of the advisory lock that the presence connection holds
OURS = "datname = current_database() AND application_name = 'taskerd'"


# -- workers ----------------------------------------------------------------------------------------


def kill_worker(c):
	c.any_worker().kill()
	yield


def stop_worker(c):
	worker = c.any_worker()
	if worker.alive():
		worker.signal(signal.SIGTERM)
	yield


def freeze_worker(c):
	worker = c.any_worker()
	if worker.alive():
		worker.freeze()
	yield
	worker.thaw()


# -- daemons ----------------------------------------------------------------------------------------


def kill_daemon(c):
	c.any_node().die()
	yield


def freeze_daemon(c):
	"""Longer than its lease: others take what it held."""
	node = c.any_node()
	if node.process.alive():
		node.process.freeze()
		c.hold(1.5 * c.lease_s)
	yield
	node.process.thaw()


def freeze_daemon_briefly(c):
	node = c.any_node()
	if node.process.alive():
		node.process.freeze()
	yield
	node.process.thaw()


def rolling_restart(c):
	"""One node after the other, as for an upgrade."""
	for node in c.nodes:
		node.end()
		c.start(node)
	yield


# -- PostgreSQL -------------------------------------------------------------------------------------


def end_connections(c):
	c.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE " + OURS)
	yield


def end_a_connection(c):
	c.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE %s ORDER BY random() LIMIT 1" % OURS)
	yield


def end_presence(c):
	c.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE %s AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = %d)" % (OURS, LOCK_CLASS))
	yield


def cancel_statements(c):
	c.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE " + OURS)
	yield


def kill_backend(c):
	pids = [int(r[0]) for r in c.sql("SELECT pid FROM pg_stat_activity WHERE " + OURS) or ()]
	if pids:
		try:
			os.kill(c.random.choice(pids), signal.SIGKILL)
		except ProcessLookupError:
			pass
	yield


def freeze_backend(c):
	"""One stands still while the others go on."""
	pids = [int(r[0]) for r in c.sql("SELECT pid FROM pg_stat_activity WHERE " + OURS) or ()]
	pid = c.random.choice(pids) if pids else None
	_signal(pid, signal.SIGSTOP)
	yield
	_signal(pid, signal.SIGCONT)


def _signal(pid, number):
	try:
		if pid:
			os.kill(pid, number)
	except ProcessLookupError:
		pass


def freeze_postmaster(c):
	"""What is connected goes on, but who has lost a connection gets none: the kernel takes it, and nobody answers."""
	c.pair.primary.freeze(everything=False)
	c.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE %s ORDER BY random() LIMIT 2" % OURS)
	yield
	c.pair.primary.thaw()


def freeze_postgres(c):
	"""Nothing answers, for longer than leases last."""
	c.postgres_is_down = True
	c.db.close()
	c.pair.primary.freeze()
	c.hold(1.2 * c.lease_s)
	yield
	c.pair.primary.thaw()
	c.postgres_is_down = False


def restart_postgres(c):
	c.stop_postgres("immediate")
	yield
	c.start_postgres()


def kill_postgres(c):
	c.stop_postgres("kill")
	yield
	c.start_postgres()


def outage(c):
	"""PostgreSQL is away for longer than leases last."""
	c.stop_postgres("fast")
	c.hold(1.2 * c.lease_s)
	yield
	c.start_postgres()


# -- between daemon and database --------------------------------------------------------------------


def cut_database(c):
	c.any_node().database_proxies.cut()
	yield


def cut_between_commit_and_answer(c):
	taps = [n.database_tap for n in c.nodes]
	for tap in taps:
		tap.commits = c.random.randrange(1, 5)
	yield
	for tap in taps:
		tap.commits = 0


def half_close(c, links):
	"""One side sees the end, the other believes for a while that the connection is there."""
	for link in links:
		link.cut_client() if c.random.randrange(2) else link.cut_server()
	yield
	for link in links:
		link.cut()


def half_close_database(c):
	yield from half_close(c, c.any_node().database_proxies.links())


def delay_database(c):
	tap = c.any_node().database_tap
	tap.delay = c.random.choice((0.01, 0.05, 0.2))
	yield
	tap.delay = 0


def kill_pooler(c):
	c.bouncer.kill()
	yield
	c.bouncer.restart()


# -- between worker and daemon ----------------------------------------------------------------------


def cut_workers(c):
	c.any_node().relay.cut()
	yield


def half_close_workers(c):
	yield from half_close(c, list(c.any_node().relay.links))


def delay_workers(c):
	tap = c.any_node().worker_tap
	tap.delay = c.random.choice((0.01, 0.05, 0.2))
	yield
	tap.delay = 0


# -- what runs out ----------------------------------------------------------------------------------


def fill_disk(c):
	ballast = disk.fill(c.pair.primary.data)
	c.hold(2)
	yield
	os.unlink(ballast)
	if c.pair.primary.postmaster.poll() is not None:
		c.stop_postgres("kill")  # it panicked: its operator starts it again
		c.start_postgres()


def exhaust_descriptors(c):
	"""None is free, and connections have to be made anew."""
	node = c.any_node()
	if not node.process.alive():
		yield
		return
	soft, hard = resource.prlimit(node.pid, resource.RLIMIT_NOFILE)
	resource.prlimit(node.pid, resource.RLIMIT_NOFILE, (len(os.listdir("/proc/%d/fd" % node.pid)), hard))
	c.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE " + OURS)
	node.relay.cut()
	yield
	try:
		resource.prlimit(node.pid, resource.RLIMIT_NOFILE, (soft, hard))
	except ProcessLookupError:
		pass


def exhaust_memory(c):
	"""The n-th allocation from now on fails, and some after it."""
	node = c.any_node()
	before = node.injector.failed
	node.may_die = True
	node.injector.fail_allocations(c.random.randrange(3000), c.random.choice((1, 1, 1, 2, 5, 50)))
	yield
	wait_for(lambda: c.tend() and (node.injector.failed > before or c.feeder.idle and c.db.unsettled() == 0), "an allocation to fail")
	node.injector.heal()


def exhaust_connections(c):
	"""Others take all that the server has; then those of the daemons are ended, and cannot be made again."""
	path = os.path.join(c.pair.primary.host, ".s.PGSQL.5432")
	body = struct.pack(">I", 196608) + b"user\0postgres\0database\0postgres\0\0"
	held = []
	for _ in range(2 * c.max_connections):
		s = socket.socket(socket.AF_UNIX)
		s.settimeout(5)
		held.append(s)
		try:
			s.connect(path)
			s.sendall(struct.pack(">I", len(body) + 4) + body)
			if s.recv(1) != b"R":
				break  # too many clients
		except OSError:
			break
	c.db.close()
	yield
	for s in held:
		s.close()


def end_connections_when_none_is_free(c):
	steps = exhaust_connections(c)
	c.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE %s ORDER BY random() LIMIT 4" % OURS)
	next(steps)
	yield
	for _ in steps:
		pass


# -- clocks -----------------------------------------------------------------------------------------


def shift_daemon_clock(c):
	"""Hours to and fro. Nothing but times that people read depends on it."""
	node = c.any_node()
	node.injector.shift_clock(c.random.choice((-86400, -3600, -30, 30, 3600, 86400)))
	yield
	if c.random.randrange(2):
		node.injector.shift_clock(0)


def shift_database_clock(c):
	"""Ahead, as after a long sleep: every lease has run out, every delay is over. Back a little, as a time daemon does."""
	c.database_clock += c.random.choice((-2, 5, 60, 3600))
	c.database_injector.shift_clock(c.database_clock)
	yield


# -- the standby ------------------------------------------------------------------------------------


def promote(c):
	c.promote()
	yield


KINDS = {  # name: (what it strikes, how)
	"kill_worker": ("workers", kill_worker), "stop_worker": ("workers", stop_worker), "freeze_worker": ("workers", freeze_worker),
	"kill_daemon": ("daemons", kill_daemon), "freeze_daemon": ("daemons", freeze_daemon), "freeze_daemon_briefly": ("daemons", freeze_daemon_briefly),
	"rolling_restart": ("daemons", rolling_restart),
	"end_connections": ("postgres", end_connections), "end_a_connection": ("postgres", end_a_connection), "end_presence": ("postgres", end_presence),
	"cancel_statements": ("postgres", cancel_statements), "kill_backend": ("postgres", kill_backend), "freeze_backend": ("postgres", freeze_backend),
	"freeze_postmaster": ("postgres", freeze_postmaster), "freeze_postgres": ("postgres", freeze_postgres),
	"restart_postgres": ("postgres", restart_postgres), "kill_postgres": ("postgres", kill_postgres), "outage": ("postgres", outage),
	"cut_database": ("database link", cut_database), "cut_between_commit_and_answer": ("database link", cut_between_commit_and_answer),
	"half_close_database": ("database link", half_close_database), "delay_database": ("database link", delay_database), "kill_pooler": ("pooler", kill_pooler),
	"cut_workers": ("worker link", cut_workers), "half_close_workers": ("worker link", half_close_workers), "delay_workers": ("worker link", delay_workers),
	"fill_disk": ("postgres", fill_disk), "exhaust_descriptors": ("daemons", exhaust_descriptors), "exhaust_memory": ("daemons", exhaust_memory),
	"exhaust_connections": ("postgres", exhaust_connections), "end_connections_when_none_is_free": ("postgres", end_connections_when_none_is_free),
	"shift_daemon_clock": ("clock", shift_daemon_clock), "shift_database_clock": ("clock", shift_database_clock),
	"promote": ("postgres", promote),
}

__all__ = ["KINDS", "harness", "pg"]

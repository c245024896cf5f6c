"""What tells why nothing moves: asked of everybody who takes part, once, when a campaign has stalled. Nobody's silence keeps the others from being asked."""
import os
import shutil
import subprocess
import sys
import traceback

from fault import harness

ASKED_S = 20  # of each
ACTIVITY = ("SELECT a.pid, a.application_name, a.state, a.wait_event_type, a.wait_event, now() - a.xact_start AS in_transaction, now() - a.query_start AS asked, pg_blocking_pids(a.pid) AS blocked_by, left(a.query, 200) AS query "
            "FROM pg_stat_activity a WHERE a.backend_type = 'client backend' AND a.pid <> pg_backend_pid() ORDER BY a.xact_start")
OPEN = ("SELECT t.task_id, t.state, t.paused, t.created_at, t.run_at, (SELECT count(*) FROM tasker.steps s WHERE s.task_id = t.task_id AND s.state = 'in_progress') AS running FROM tasker.tasks t "
        "WHERE t.state NOT IN ('%s') ORDER BY t.task_id LIMIT 50" % "', '".join(harness.SETTLED))
NODES = "SELECT node_no, node_name, state, lease_until - now() AS lease FROM tasker.nodes ORDER BY 1"


def _output(argv):
	done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=ASKED_S, check=False)
	return done.stdout


def info(node):
	"""What a daemon says of itself, over a connection of its own."""
	with harness.TaskerClient(socket=node.socket, connect_timeout=ASKED_S, timeout=ASKED_S) as client:
		return "\n".join("%s: %s" % item for item in client.request("server.info", {}).items())


def threads(node):
	"""Where the threads of a daemon are: by gdb, or at least what the kernel knows."""
	if shutil.which("gdb"):
		return _output(["gdb", "-p", str(node.pid), "-batch", "-ex", "set pagination off", "-ex", "thread apply all bt 25"])
	lines = []
	for tid in sorted(os.listdir("/proc/%d/task" % node.pid), key=int):
		path = "/proc/%d/task/%s/" % (node.pid, tid)
		lines.append("%s %s" % (tid, " ".join(open(path + name, encoding="ascii").read().strip() for name in ("comm", "wchan", "syscall"))))  # pylint: disable=consider-using-with
	return "\n".join(lines)


def stacks():
	"""Where the threads of the campaign are."""
	return "\n".join("thread %d:\n%s" % (number, "".join(traceback.format_stack(frame))) for number, frame in sys._current_frames().items())  # pylint: disable=protected-access


def database(c, statement):
	return _output([*c.pair.primary._psql_argv(c.db.name, "postgres"), "-c", statement])  # pylint: disable=protected-access


def questions(c):
	"""(what, how to ask)."""
	yield "the load", lambda: "load %s\n%s" % (os.getloadavg(), c.feeder.testimony())
	yield "the campaign's threads", stacks
	for node in c.nodes:
		yield "server.info of " + node.name, lambda n=node: info(n)
		yield "threads of " + node.name, lambda n=node: threads(n)
	for name, statement in (("sessions of the database", ACTIVITY), ("nodes", NODES), ("open tasks", OPEN)):
		yield name, lambda s=statement: database(c, s)


def take(c, path):
	"""Ask all, and write down what they say."""
	with open(path, "w", encoding="utf-8") as f:
		for what, ask in questions(c):
			try:
				said = ask()
			except Exception as e:  # pylint: disable=broad-except
				said = "no answer: %s: %s" % (type(e).__name__, e)
			f.write("==== %s\n%s\n\n" % (what, said))
			f.flush()
	return path


__all__ = ["take"]

"""What must hold when a campaign is over, whatever has happened. Each finding is a line of text; none is a pass."""
import collections
import os

import engine
from fault import harness
from harness import wait_for
from workflows import actual, differences

RSS_MIB = 96  # that a daemon may have grown, compared with a new one
DESCRIPTORS = 6  # that it may have more: some database connections are made when they are first needed


def check(name, wrong, limit=5):
	"""Up to `limit` findings of one kind."""
	wrong = list(wrong)
	more = ["%s: and %d more" % (name, len(wrong) - limit)] if len(wrong) > limit else []
	return ["%s: %s" % (name, w) for w in wrong[:limit]] + more


def acknowledged(c):
	"""Every task that was acknowledged exists, and every key made one task."""
	there = {r[0] for r in c.db.sql("SELECT task_uuid FROM tasker.tasks")}
	wrong = ["task %s (%s) was acknowledged and is not there" % (w.task, w.key) for w in c.feeder.made if w.task and w.task not in there]
	ours = c.db.number("SELECT count(*) FROM tasker.tasks JOIN tasker.templates USING (template_id) JOIN tasker.namespaces n USING (namespace_id) WHERE n.name = 't'")
	if ours != len(c.feeder.made):
		wrong.append("%d keys made %d tasks" % (len(c.feeder.made), ours))
	return wrong


def ends(c):
	"""Every task ended as the model says."""
	for w in c.feeder.made:
		found = actual(c.db, w.task, w.workflow)
		if w.task in c.feeder.cancelled:
			if found.task not in harness.SETTLED:
				yield "task %s was cancelled and is %s" % (w.task, found.task)
			continue
		said = differences(w.workflow.predict(), found, exact=False)
		if said:
			yield "task %s (workflow %d): %s" % (w.task, w.workflow.seed, said)


def ledger(c):
	"""Results against executions, by harness.verify()."""
	try:
		c.verify(c.db)
	except AssertionError as e:
		yield str(e)


def doctor(c):
	for node in c.nodes:
		answer = harness.ask_doctor(node.client)
		for bad in answer["checks"]:
			if not bad["ok"]:
				yield "by %s: %s" % (node.name, bad)


def histories(c):
	"""Every change of a state that the histories tell of is in the tables of daemon/core."""
	tables = engine.tables()
	for was, now, n in c.db.sql("SELECT from_state, to_state, count(*) FROM tasker.task_transitions WHERE from_state IS NOT NULL GROUP BY 1, 2"):
		if not tables.allows("task", was, now):
			yield "%s tasks went from %s to %s" % (n, was, now)
	for no, n in c.db.sql("SELECT task_id, count(*) FROM (SELECT task_id, from_state, lag(to_state) OVER (PARTITION BY task_id ORDER BY at, ctid) AS before FROM tasker.task_transitions) x "
	                      "WHERE from_state IS DISTINCT FROM before AND before IS NOT NULL GROUP BY 1"):
		yield "the history of task %s has %s gaps" % (no, n)
	for was, now, n in c.db.sql("SELECT from_state, to_state, count(*) FROM tasker_views.workflow_step_transitions WHERE from_state IS NOT NULL AND metadata ->> 'event' NOT LIKE 'step.%' "
	                            "AND to_state <> from_state GROUP BY 1, 2"):
		if not tables.allows("step", was, now):
			yield "%s steps went from %s to %s" % (n, was, now)


def events(c):
	"""Every recorded end of an attempt that is to be published was, once. (That none was published without one is doctor's to find.)"""
	queue = c.db.value("SELECT event_queue FROM tasker.namespaces WHERE name = 't'")
	ended = ("SELECT a.task_id, a.step_no, a.fence, a.outcome FROM tasker.step_attempts a JOIN tasker.steps s USING (task_id, step_no) JOIN tasker.tasks t USING (task_id) "
	         "JOIN tasker.template_steps ts ON ts.template_id = t.template_id AND ts.step_no = s.template_no WHERE ts.events IS NOT NULL AND a.outcome NOT IN ('released', 'cancelled')")
	sent = "SELECT (m.headers ->> 't')::bigint AS task_id, (m.headers ->> 's')::int AS step_no, (m.headers ->> 'f')::int AS fence FROM pgmq.\"q_%s\" m" % queue
	for task, no, fence, outcome, n in c.db.sql("SELECT e.task_id, e.step_no, e.fence, min(e.outcome), count(x.task_id) FROM (%s) e LEFT JOIN (%s) x USING (task_id, step_no, fence) "
	                                            "GROUP BY 1, 2, 3 HAVING count(x.task_id) <> 1" % (ended, sent)) if queue else ():
		yield "attempt %s of step %s of task %s ended with %s and published %s events" % (fence, no, task, outcome, n)


def messages(c):
	"""No queue of steps or starts has anything left."""
	def left():
		found = []
		for name, in c.db.sql("SELECT queue_name FROM pgmq.meta WHERE queue_name NOT LIKE '%domain_events'"):
			n = c.db.number("SELECT count(*) FROM pgmq.\"q_%s\"" % name)
			found += ["%d messages are left in %s" % (n, name)] if n else []
		return found
	try:
		wait_for(lambda: not left(), "queues to be empty", 30)
	except AssertionError:
		pass
	return left()


def leases(c):
	"""Nodes that run hold theirs, and nothing else is held."""
	for name, state, late in c.db.sql("SELECT node_name, state, lease_until < now() FROM tasker.nodes"):
		if state != "up" or late != "f":
			yield "node %s is %s, its lease is over: %s" % (name, state, late)
	for task, no in c.db.sql("SELECT task_id, step_no FROM tasker.steps WHERE state = 'in_progress'"):
		yield "step %s of task %s is still held" % (no, task)
	for node, n in c.db.sql("SELECT node_no, count(*) FROM tasker.node_claims GROUP BY 1 HAVING count(*) > 500"):
		yield "node %s has %s rows in the claim journal" % (node, n)


def rss_mib(pid):
	with open("/proc/%d/status" % pid, encoding="ascii") as f:
		return next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) // 1024


def descriptors(pid):
	"""What its descriptors are."""
	found = []
	for fd in os.listdir("/proc/%d/fd" % pid):
		try:
			found.append(os.readlink("/proc/%d/fd/%s" % (pid, fd)))
		except FileNotFoundError:
			pass  # closed meanwhile
	return found


def leaks(c):
	"""A daemon that has been through all this, its workers gone, compared with one that has just begun. Sizes go into the report."""
	quiet = lambda node: (node.info() or {}).get("sessions") == 1  # noqa: E731: the one that asks
	for node in c.nodes:
		wait_for(lambda: quiet(node), lambda: "sessions to end: %s" % node.info())
		used = descriptors(node.pid), rss_mib(node.pid)
		node.end()
		node.start()
		wait_for(lambda: quiet(node), "the new daemon to be quiet")
		new = descriptors(node.pid), rss_mib(node.pid)
		c.sizes[node.name] = {"descriptors": (len(new[0]), len(used[0])), "rss_mib": (new[1], used[1])}
		if len(used[0]) > len(new[0]) + DESCRIPTORS:
			yield "%s had the descriptors %s, a new daemon has %s" % (node.name, sorted(used[0]), sorted(new[0]))
		if used[1] > new[1] + RSS_MIB and not c.sanitized:  # ASan keeps what is freed; its leak checker judges instead
			yield "%s had %d MiB, a new daemon has %d" % (node.name, used[1], new[1])


CHECKS = (acknowledged, ends, ledger, doctor, histories, events, messages, leases)


def judge(c):
	"""All findings, while the workers are still there."""
	found = []
	for function in CHECKS:
		found += check(function.__name__, function(c))
	return found


def queued(c, queue):
	there = c.db.value("SELECT count(*) FROM pgmq.meta WHERE queue_name = '%s'" % queue)
	return c.db.number("SELECT count(*) FROM pgmq.\"q_%s\"" % queue) if there == "1" else 0


def numbers(c):
	"""For the report."""
	outcomes = dict(c.db.sql("SELECT outcome, count(*) FROM tasker.step_attempts GROUP BY 1 ORDER BY 1"))
	kinds = dict(c.db.sql("SELECT ts.step_type, count(*) FROM tasker.steps s JOIN tasker.tasks t USING (task_id) JOIN tasker.template_steps ts ON ts.template_id = t.template_id AND ts.step_no = s.template_no "
	                      "GROUP BY 1 ORDER BY 1"))
	ran = collections.Counter((e.task, e.step, e.attempt) for e in c.ledger.lines())
	return {
		"tasks": dict(c.db.sql("SELECT state, count(*) FROM tasker.tasks GROUP BY 1 ORDER BY 1")),
		"steps": kinds, "attempts": outcomes, "executions": sum(ran.values()), "executed_again": sum(n > 1 for n in ran.values()),
		"events": queued(c, "t_domain_events"), "requests_repeated": c.feeder.repeats, "results": int(outcomes.get("success", 0)),
	}

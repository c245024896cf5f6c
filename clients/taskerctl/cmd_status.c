/* status: what needs somebody, each with the command to try next. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "clients/taskerctl/cells.h"
#include "clients/taskerctl/list.h"
#include "clients/taskerctl/text.h"

#define SLOW_MS 60000 /* a step that waits longer, though there are workers, is told */

/* Add {"what", "about", "next"}; `next` is a command without the name of the program. */
static void add(json_t *findings, const char *what, const char *next, const char *fmt, ...) printf_like(4, 5);
static void add(json_t *findings, const char *what, const char *next, const char *fmt, ...)
{
	char about[600], command[300];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(about, sizeof about, fmt, ap);
	va_end(ap);
	snprintf(command, sizeof command, "taskerctl %s", next);
	json_array_append_new(findings, json_pack("{s:s,s:s,s:s}", "what", what, "about", about, "next", command));
}

static void look_at_server(const json_t *info, json_t *findings)
{
	const json_t *db = json_object_get(info, "database");
	const char *state = json_text(db, "state"), *error = json_text(db, "error");
	size_t i;
	json_t *h;
	json_array_foreach(json_object_get(db, "hanging"), i, h)
	{
		char age[24];
		add(findings, "database", "version",
		    "the database does not answer the call %s of %s since %s: its process %lld %s%s",
		    json_text(h, "call"), json_text(h, "thread"), text_duration(json_int(h, "ms", 0) * 1000, age),
		    (long long)json_int(h, "backend", 0), *json_text(h, "why") ? "waits: " : "stands still, or waits",
		    json_text(h, "why"));
	}
	if (strcmp(state, "up") != 0)
		add(findings, "database", "version",
		    "taskerd's database is %s%s%s: nothing is recorded until it is back", state, *error ? ": " : "",
		    error);
}

static void look_at_node(const json_t *n, json_t *findings)
{
	const char *state = json_text(n, "state"), *name = json_text(n, "node");
	bool gone = strcmp(state, "expired") == 0 || (strcmp(state, "down") == 0 && json_int(n, "in_progress", 0) > 0);
	if (gone)
		add(findings, "node", "node list", "the daemon %s on %s is %s; %lld of its steps are in progress", name,
		    json_text(n, "host"), state, (long long)json_int(n, "in_progress", 0));
}

static void look_at_namespace(const json_t *n, json_t *findings)
{
	const char *name = json_text(n, "namespace"), *by = json_text(n, "operator");
	char age[24], next[300];
	if (!json_flag(n, "paused"))
		return;
	snprintf(next, sizeof next, "namespace resume %s --reason TEXT", name);
	add(findings, "paused", next, "the namespace %s is paused since %s, by %s (%s): nothing of it starts", name,
	    json_age(n, "changed_at", age), *by ? by : json_text(n, "user"), json_text(n, "reason"));
}

static void look_at_queue(const json_t *q, json_t *findings)
{
	const char *space = json_text(q, "namespace"), *handler = json_text(q, "handler");
	int64_t ready = json_int(q, "ready", 0), workers = json_int(q, "workers", 0),
		oldest = json_int(q, "oldest_ms", 0);
	char age[24], next[300];
	if (ready == 0 || json_flag(q, "paused"))
		return;
	text_duration(oldest * 1000, age);
	if (workers == 0)
		add(findings, "no worker", "worker list",
		    "%lld steps wait for %s in %s, which no connected worker offers, on whichever node; the first since %s",
		    (long long)ready, handler, space, age);
	else if (oldest > SLOW_MS) {
		snprintf(next, sizeof next, "analytics steps --namespace %s --since 1h", space);
		add(findings, "slow", next,
		    "%lld steps wait for %s in %s, the first since %s, though %lld workers offer it", (long long)ready,
		    handler, space, age, (long long)workers);
	}
}

static void look_at_worker(const json_t *w, json_t *findings)
{
	char next[300];
	size_t n = json_array_size(json_object_get(w, "broken"));
	if (n == 0)
		return;
	snprintf(next, sizeof next, "worker show %s", json_text(w, "worker_uuid"));
	add(findings, "broken", next, "the worker %s could not load %zu of its handlers", json_text(w, "name"), n);
}

static void look_at_reason(const json_t *r, json_t *findings)
{
	char age[24];
	if (json_int(r, "pending", 0) > 0)
		add(findings, "dead letters", "dlq causes", "%lld tasks need somebody (%s), the first since %s",
		    (long long)json_int(r, "pending", 0), json_text(r, "reason"),
		    json_age(r, "oldest_pending_at", age));
}

static void look_at_stats(const json_t *stats, json_t *findings)
{
	int64_t waiting = json_int(json_at(stats, "tasks.states"), "waiting_for_retry", 0),
		paused = json_int(json_object_get(stats, "tasks"), "paused", 0);
	if (waiting > 0)
		add(findings, "retries", "analytics failing --since 1h",
		    "%lld tasks wait for another attempt of a step that has failed", (long long)waiting);
	if (paused > 0)
		add(findings, "paused", "task list --paused", "%lld tasks are paused", (long long)paused);
}

static void look_at_stale(const json_t *t, json_t *findings)
{
	char next[300];
	snprintf(next, sizeof next, "task get %s", json_text(t, "task_uuid"));
	add(findings, "late", next, "the task %s of %s/%s is past its %s of %lld minutes", json_text(t, "task_uuid"),
	    json_text(t, "namespace"), json_text(t, "name"), json_text(t, "limit"),
	    (long long)json_int(t, "minutes", 0));
}

/* In this order, the most basic first; what is wrong there may be the cause of the rest. */
static const struct {
	const char *method, *list; /* list NULL: the answer itself is looked at */
	void (*look)(const json_t *item, json_t *findings);
	bool alone; /* if it finds something the others cannot be asked */
} checks[] = {
    {"server.info", NULL, look_at_server, true},         {"node.list", "nodes", look_at_node,
     false},     {"namespace.list", "namespaces", look_at_namespace, false},
    {"queue.list", "queues", look_at_queue, false},      {"worker.list", "workers", look_at_worker,
     false}, {"dlq.stats", "reasons", look_at_reason, false},
    {"dlq.staleness", "tasks", look_at_stale, false},    {"stats", NULL, look_at_stats, false},
};

static json_t *params_of(const char *method)
{
	return strcmp(method, "dlq.staleness") == 0 ? json_pack("{s:s,s:i}", "health", "stale", "limit", 10) : NULL;
}

static int look(struct ctl *c, json_t *findings)
{
	for (size_t k = 0; k < sizeof checks / sizeof *checks; k++) {
		cleanup_(cleanup_json) json_t *answer = NULL;
		size_t i;
		json_t *item;
		int code = ctl_call(c, checks[k].method, params_of(checks[k].method), &answer);
		if (code)
			return code;
		if (!checks[k].list)
			checks[k].look(answer, findings);
		json_array_foreach(checks[k].list ? json_object_get(answer, checks[k].list) : NULL, i, item)
			checks[k].look(item, findings);
		if (checks[k].alone && json_array_size(findings) > 0)
			break;
	}
	return EXIT_OK;
}

int run_status(struct ctl *c)
{
	cleanup_(cleanup_json) json_t *findings = json_array(), *answer = NULL;
	size_t i;
	json_t *f;
	int code = look(c, findings);
	if (code)
		return code;
	bool ok = json_array_size(findings) == 0;
	answer = json_pack("{s:b,s:O}", "ok", ok, "findings", findings);
	if (c->cli->json)
		ctl_print_json(c, answer, false);
	else
		json_array_foreach(findings, i, f)
			ctl_say("%s%-12s%s  %s\n              %s\n", c->colour ? "\033[31m" : "", json_text(f, "what"),
			        c->colour ? "\033[0m" : "", json_text(f, "about"), json_text(f, "next"));
	if (ok && !c->cli->json)
		ctl_note(c, "nothing needs you; figures are shown by: taskerctl stats --once");
	return ok ? EXIT_OK : EXIT_NO;
}

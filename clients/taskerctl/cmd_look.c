/* worker list, show, drain; node list, show; queue list. */
#include <stdio.h>
#include <string.h>
#include "clients/taskerctl/cells.h"
#include "clients/taskerctl/list.h"
#include "clients/taskerctl/operate.h"
#include "clients/taskerctl/text.h"
#include "daemon/base/clock.h"

/* What workers could not load, a line each. */
static void tell_broken(const json_t *workers)
{
	size_t i, k;
	json_t *w, *b;
	cleanup_(cleanup_buf) struct buf out = {0};
	buf_init(&out, 0);
	json_array_foreach(workers, i, w)
	{
		json_array_foreach(json_object_get(w, "broken"), k, b)
		{
			char line[1024], clean[1024], place[340] = "";
			if (*json_text(b, "file"))
				snprintf(place, sizeof place, "%.300s:%lld: ", json_text(b, "file"),
				         (long long)json_int(b, "line", 0));
			snprintf(line, sizeof line, "%.64s cannot load %.200s: %s%.400s", json_text(w, "name"),
			         json_text(b, "name"), place, json_text(b, "message"));
			text_copy(clean, sizeof clean, line);
			buf_printf(&out, "%s\n", clean);
		}
		if (json_int(w, "more_broken", 0) > 0)
			buf_printf(&out, "and %lld more: taskerctl worker show %s\n",
			           (long long)json_int(w, "more_broken", 0), json_text(w, "worker_uuid"));
	}
	if (out.len)
		ctl_write(&out);
}

static void tell_all_broken(const struct ctl *c, const json_t *answer)
{
	(void)c;
	tell_broken(json_object_get(answer, "workers"));
}

/* ---- lists ---- */

/* A client is called by name and version: "taskerd-python/0.1.0". */
static void cell_client_version(struct table *t, const json_t *w, const char *key)
{
	const char *slash = strrchr(json_text(w, key), '/');
	table_cell(t, NULL, slash ? slash + 1 : NULL);
}

static void cell_client(struct table *t, const json_t *w, const char *key)
{
	const char *client = json_text(w, key);
	table_cell(t, NULL, *client ? client : json_text(w, "language"));
}

/* Not known of a worker of a node that has more of them than it tells others of. */
static void cell_open(struct table *t, const json_t *w, const char *key)
{
	const json_t *open = json_object_get(w, key);
	if (open)
		table_cellf(t, NULL, "%lld/%lld", (long long)json_integer_value(open),
		            (long long)json_int(w, "max_concurrency", 0));
	else
		table_cellf(t, NULL, "-/%lld", (long long)json_int(w, "max_concurrency", 0));
}

/* How many more steps it would take. */
static void cell_credits(struct table *t, const json_t *w, const char *key)
{
	const json_t *open = json_object_get(w, key);
	if (open)
		table_cellf(t, NULL, "%lld",
		            (long long)(json_flag(w, "draining")
		                                ? 0
		                                : json_int(w, "max_concurrency", 0) - json_integer_value(open)));
	else
		table_cell(t, NULL, NULL);
}

static void cell_connected(struct table *t, const json_t *w, const char *key)
{
	if (json_flag(w, "draining"))
		table_cell(t, "33", "draining");
	else
		cell_age(t, w, key);
}

static void cell_broken(struct table *t, const json_t *w, const char *key)
{
	long long n = (long long)json_array_size(json_object_get(w, key)) + (long long)json_int(w, "more_broken", 0);
	table_cellf(t, n > 0 ? "31" : NULL, "%lld", n);
}

static void cell_handlers(struct table *t, const json_t *w, const char *key)
{
	cleanup_(cleanup_buf) struct buf b = {0};
	long long more = (long long)json_int(w, "more_handlers", 0);
	buf_init(&b, 0);
	json_join(json_object_get(w, key), &b);
	if (more > 0)
		buf_printf(&b, ", and %lld more", more);
	table_cell(t, NULL, b.len ? buf_text(&b) : NULL);
}

static const struct column worker_columns[] = {
    {"WORKER", 0, cell_value, "worker_uuid"},
    {"NAME", COL_SHRINK, cell_value, "name"},
    {"NODE", COL_SHRINK, cell_value, "node"},
    {"PID", COL_RIGHT, cell_value, "pid"},
    {"CLIENT", COL_SHRINK, cell_client, "client"},
    {"OPEN", COL_RIGHT, cell_open, "open"},
    {"DONE", COL_RIGHT, cell_value, "done"},
    {"RATE", COL_RIGHT, cell_rate, "rate"},
    {"CONNECTED", 0, cell_connected, "connected_at"},
    {"NAMESPACES", COL_SHRINK, cell_value, "namespaces"},
    {"HANDLERS", COL_SHRINK, cell_handlers, "handlers"},
    {"UNIT", COL_WIDE, cell_value, "unit"},
    {"UID", COL_RIGHT | COL_WIDE, cell_value, "uid"},
    {"LANGUAGE", COL_WIDE, cell_value, "language"},
    {"VERSION", COL_WIDE, cell_client_version, "client"},
    {"CREDITS", COL_RIGHT | COL_WIDE, cell_credits, "open"},
    {"BROKEN", COL_RIGHT | COL_WIDE, cell_broken, "broken"},
    NO_COLUMN,
};
const struct listing list_workers = {
	.columns = worker_columns,
	.empty =
		"no worker is connected; start one (taskerd-python worker FILE), or see why its service does not run with: systemctl status 'taskerd-worker@*'; which steps workers were lost in: taskerctl analytics failing -o wide",
	.after = tell_all_broken,
};

static void cell_lease(struct table *t, const json_t *n, const char *key)
{
	char left[24];
	int64_t until;
	if (json_time(n, key, &until) < 0)
		table_cell(t, NULL, NULL);
	else if (until < (int64_t)now_wall())
		table_cell(t, "31", "ran out");
	else
		table_cell(t, NULL, text_duration(until - (int64_t)now_wall(), left));
}

static const struct column node_columns[] = {
    {"NODE", COL_SHRINK, cell_value, "node"},
    {"NO", COL_RIGHT, cell_value, "node_no"},
    {"HOST", COL_SHRINK, cell_value, "host"},
    {"PID", COL_RIGHT, cell_value, "pid"},
    {"VERSION", COL_SHRINK, cell_value, "version"},
    {"STATE", 0, cell_state, "state"},
    {"UP", COL_RIGHT, cell_age, "started_at"},
    {"LEASE", COL_RIGHT, cell_lease, "lease_until"},
    {"IN PROGRESS", COL_RIGHT, cell_value, "in_progress"},
    {"WORKERS", COL_RIGHT | COL_WIDE, cell_value, "workers"},
    {"SESSIONS", COL_RIGHT | COL_WIDE, cell_value, "sessions"},
    {"GIVEN", COL_RIGHT | COL_WIDE, cell_value, "open_steps"},
    {"STORE", COL_RIGHT | COL_WIDE, cell_value, "store_threads"},
    {"STARTED", COL_WIDE, cell_second, "started_at"},
    {"LEASE UNTIL", COL_WIDE, cell_second, "lease_until"},
    NO_COLUMN,
};
const struct listing list_nodes =
	{.columns = node_columns,
         .empty = "no node is registered; see the daemon that answers with: taskerctl version"};

/* "alpha 3: 12.5/s, beta 1: 0.0/s": how many workers each node has for it, and how fast they are. */
static void cell_shares(struct table *t, const json_t *q, const char *key)
{
	cleanup_(cleanup_buf) struct buf b = {0};
	size_t i;
	json_t *n;
	buf_init(&b, 0);
	json_array_foreach(json_object_get(q, key), i, n)
		buf_printf(&b, "%s%s %lld: %.1f/s", i ? ", " : "", json_text(n, "node"),
		           (long long)json_int(n, "workers", 0), json_number_value(json_object_get(n, "rate")));
	table_cell(t, NULL, b.len ? buf_text(&b) : NULL);
}

static const struct column queue_columns[] = {
    {"NAMESPACE", COL_SHRINK, cell_value, "namespace"},
    {"HANDLER", COL_SHRINK, cell_value, "handler"},
    {"QUEUE", COL_SHRINK, cell_value, "queue"},
    {"READY", COL_RIGHT, cell_value, "ready"},
    {"DELAYED", COL_RIGHT, cell_value, "delayed"},
    {"OLDEST", COL_RIGHT, cell_ms, "oldest_ms"},
    {"RATE", COL_RIGHT, cell_rate, "rate"},
    {"WORKERS", COL_RIGHT, cell_queue_workers, "workers"},
    {"NEXT IN", COL_RIGHT | COL_WIDE, cell_ms, "next_ms"},
    {"QUEUED", COL_RIGHT | COL_WIDE, cell_value, "queued"},
    {"DONE", COL_RIGHT | COL_WIDE, cell_value, "done"},
    {"NODES", COL_WIDE, cell_shares, "nodes"},
    NO_COLUMN,
};
const struct listing list_queues =
	{.columns = queue_columns,
         .empty = "there are no queues; they come with templates: taskerctl template apply FILE"};

/* ---- one of them ---- */

static void fact_int(const struct ctl *c, const char *title, const json_t *o, const char *key)
{
	char text[32];
	if (!json_is_integer(json_object_get(o, key)))
		return;
	snprintf(text, sizeof text, "%lld", (long long)json_int(o, key, 0));
	ctl_fact(c, title, text);
}

static void fact_list(const struct ctl *c, const char *title, const json_t *list)
{
	cleanup_(cleanup_buf) struct buf b = {0};
	buf_init(&b, 0);
	json_join(list, &b);
	ctl_fact(c, title, b.len ? buf_text(&b) : NULL);
}

static void cell_ended(struct table *t, const json_t *s, const char *key)
{
	table_cell(t, "33", json_flag(s, key) ? "ended, and still running" : NULL);
}

static void print_worker(const struct ctl *c, const json_t *w)
{
	static const struct column running[] = {
	    {"TASK", 0, cell_value, "task_uuid"},     {"STEP", 0, cell_value, "step_uuid"}, {"HANDLER", COL_SHRINK,
	     cell_value, "handler"},
	    {"ATTEMPT", COL_RIGHT, cell_value, "attempt"}, {"", 0, cell_ended, "ended"},    NO_COLUMN};
	static const struct {
		const char *title, *key;
	} texts[] = {{"worker", "worker_uuid"},
	             {"name", "name"},
	             {"node", "node"},
	             {"unit", "unit"},
	             {"client", "client"},
	             {"language", "language"},
	             {"connected", "connected_at"}};
	char line[200];
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		ctl_fact(c, texts[i].title, json_text(w, texts[i].key));
	fact_int(c, "pid", w, "pid");
	fact_int(c, "uid", w, "uid");
	ctl_fact(c, "state", json_flag(w, "draining") ? "draining: it gets no more steps" : "working");
	if (json_object_get(w, "open"))
		snprintf(line, sizeof line, "%lld of %lld steps", (long long)json_int(w, "open", 0),
		         (long long)json_int(w, "max_concurrency", 0));
	else
		snprintf(line, sizeof line, "at most %lld steps; how many, its own node knows",
		         (long long)json_int(w, "max_concurrency", 0));
	ctl_fact(c, "holds", line);
	if (json_object_get(w, "done")) {
		snprintf(line, sizeof line, "%lld steps, %.2f a second lately", (long long)json_int(w, "done", 0),
		         json_number_value(json_object_get(w, "rate")));
		ctl_fact(c, "has done", line);
	}
	fact_list(c, "namespaces", json_object_get(w, "namespaces"));
	fact_list(c, "handlers", json_object_get(w, "handlers"));
	if (!json_object_get(w, "running")) {
		snprintf(line, sizeof line,
		         "steps that only the daemon of %.40s knows; the figures are what it said last",
		         json_text(w, "node"));
		ctl_fact(c, "it runs", line);
	}
	list_print_below(c, running, json_object_get(w, "running"));
	cleanup_(cleanup_json) json_t *one = json_pack("[O]", w);
	tell_broken(one);
}

/* A worker by its uuid, or by its name or pid if there is one of it only. 0 with *ret, or an exit code after having
 * said why. */
static int find_worker(struct ctl *c, const char *word, char ret[64])
{
	cleanup_(cleanup_json) json_t *answer = NULL;
	size_t i, found = 0;
	json_t *w;
	char pid[24];
	snprintf(ret, 64, "%.63s", word);
	if (is_uuid(word))
		return EXIT_OK;
	int code = ctl_call(c, "worker.list", NULL, &answer);
	if (code)
		return code;
	json_array_foreach(json_object_get(answer, "workers"), i, w)
	{
		snprintf(pid, sizeof pid, "%lld", (long long)json_int(w, "pid", -1));
		if (strcmp(word, json_text(w, "name")) != 0 && strcmp(word, pid) != 0)
			continue;
		snprintf(ret, 64, "%.63s", json_text(w, "worker_uuid"));
		found++;
	}
	if (found == 1)
		return EXIT_OK;
	return ctl_fail(
		c, found ? EXIT_USAGE : EXIT_NOT_FOUND,
		found ? "%s is the name of several workers: say which by its uuid\nsee it with: taskerctl worker list"
		      : "no worker is called %s\nsee who is connected with: taskerctl worker list",
		word);
}

int run_worker_show(struct ctl *c)
{
	char uuid[64];
	int code = find_worker(c, c->cli->args[0], uuid);
	return code ? code : ctl_show(c, "worker.get", json_pack("{s:s}", "worker_uuid", uuid), print_worker);
}

static void print_draining(const struct ctl *c, const json_t *w)
{
	(void)c;
	ctl_say("%s draining\n", json_text(w, "worker_uuid"));
}

int run_worker_drain(struct ctl *c)
{
	char uuid[64];
	if (!cli_has(c->cli, "reason"))
		return ctl_fail(c, EXIT_USAGE, "why? --reason TEXT is needed");
	int code = find_worker(c, c->cli->args[0], uuid);
	if (code)
		return code;
	json_t *params = json_pack("{s:s}", "worker_uuid", uuid);
	operate_by_whom(c, params);
	code = ctl_show(c, "worker.drain", params, print_draining);
	if (code == EXIT_OK)
		ctl_note(c, "it finishes what it runs, and ends; see what that is with: taskerctl worker show %s",
		         uuid);
	return code;
}

static void print_node(const struct ctl *c, const json_t *n, const json_t *info)
{
	static const struct {
		const char *title, *key;
	} texts[] = {{"node", "node"},   {"host", "host"},          {"version", "version"},
	             {"state", "state"}, {"started", "started_at"}, {"lease until", "lease_until"}},
	  numbers[] = {{"number", "node_no"},         {"pid", "pid"},         {"store threads", "store_threads"},
	               {"sessions", "sessions"},      {"workers", "workers"}, {"steps given", "open_steps"},
	               {"in progress", "in_progress"}};
	const json_t *db = json_object_get(info, "database");
	char line[300];
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		ctl_fact(c, texts[i].title, json_text(n, texts[i].key));
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		fact_int(c, numbers[i].title, n, numbers[i].key);
	if (!db)
		return;
	long long v = (long long)json_int(db, "version", 0);
	snprintf(line, sizeof line, "%s, PostgreSQL %lld.%lld, schema %lld, queues by %s", json_text(db, "state"),
	         v / 10000, v % 10000, (long long)json_int(db, "schema", 0), json_text(db, "pgmq"));
	ctl_fact(c, "database", line);
	ctl_fact(c, "", json_text(db, "error"));
}

int run_node_show(struct ctl *c)
{
	cleanup_(cleanup_json) json_t *answer = NULL, *info = NULL;
	size_t i;
	json_t *n, *found = NULL;
	int code = ctl_call(c, "node.list", NULL, &answer);
	if (code == EXIT_OK)
		code = ctl_call(c, "server.info", NULL, &info);
	if (code)
		return code;
	const char *own = json_text(info, "node"), *name = c->cli->nargs > 0 ? c->cli->args[0] : own;
	json_array_foreach(json_object_get(answer, "nodes"), i, n)
		if (strcmp(json_text(n, "node"), name) == 0)
			found = n;
	if (!found)
		return ctl_fail(c, EXIT_NOT_FOUND, "there is no node %s\nsee what there is with: taskerctl node list",
		                name);
	if (strcmp(own, name) == 0) /* who is asked knows more of itself */
		json_object_update_missing(found, info);
	if (c->cli->json)
		ctl_print_json(c, found, false);
	else
		print_node(c, found, strcmp(own, name) == 0 ? info : NULL);
	return EXIT_OK;
}

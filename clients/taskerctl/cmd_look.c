/* worker list, show, drain; node list, show; queue list. */
#include <stdio.h>
#include <string.h>
#include "clients/taskerctl/operate.h"
#include "clients/taskerctl/text.h"
#include "daemon/base/clock.h"

static void cell_list(struct table *t, const json_t *list)
{
	cleanup_(cleanup_buf) struct buf b = {0};
	buf_init(&b, 0);
	json_join(list, &b);
	table_cell(t, NULL, b.len ? buf_text(&b) : NULL);
}

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
			char line[1024], clean[1024];
			snprintf(line, sizeof line, "%.64s cannot load %.200s: %.300s:%lld: %.400s", json_text(w, "name"), json_text(b, "name"), json_text(b, "file"),
			         (long long)json_int(b, "line", 0), json_text(b, "message"));
			text_copy(clean, sizeof clean, line);
			buf_printf(&out, "%s\n", clean);
		}
	}
	if (out.len)
		ctl_write(&out);
}

/* Ask for a list, print it as JSON, or hand its items to `add` and print the table. */
static int list(struct ctl *c, const char *method, json_t *params, const char *key, const struct column *cols, size_t ncols,
                void (*add)(struct table *, const json_t *), const char *empty)
{
	cleanup_(cleanup_json) json_t *answer = NULL;
	cleanup_(cleanup_table) struct table t = {0};
	size_t i;
	json_t *item;
	table_init(&t, cols, ncols);
	int code = ctl_call(c, method, params, &answer);
	if (code)
		return code;
	if (c->cli->json) {
		ctl_print_json(c, answer, false);
		return EXIT_OK;
	}
	json_array_foreach(json_object_get(answer, key), i, item) add(&t, item);
	if (table_rows(&t) == 0)
		ctl_note(c, "%s", empty);
	else
		ctl_print_table(c, &t, 0);
	tell_broken(json_object_get(answer, "workers"));
	return EXIT_OK;
}

/* Steps a second lately, of what this daemon knows itself. */
static void cell_rate(struct table *t, const json_t *o)
{
	const json_t *rate = json_object_get(o, "rate");
	if (json_is_number(rate))
		table_cellf(t, NULL, "%.1f/s", json_number_value(rate));
	else
		table_cell(t, NULL, NULL);
}

static void add_worker(struct table *t, const json_t *w)
{
	char age[24];
	const char *client = json_text(w, "client");
	table_cell(t, NULL, json_text(w, "worker_uuid"));
	table_cell(t, NULL, json_text(w, "name"));
	table_cell(t, NULL, json_text(w, "node"));
	table_cellf(t, NULL, "%lld", (long long)json_int(w, "pid", 0));
	table_cell(t, NULL, *client ? client : json_text(w, "language"));
	table_cellf(t, NULL, "%lld/%lld", (long long)json_int(w, "open", 0),
	            (long long)json_int(w, "max_concurrency", 0));
	table_cellf(t, NULL, "%lld", (long long)json_int(w, "done", 0));
	cell_rate(t, w);
	table_cell(t, json_flag(w, "draining") ? "33" : NULL,
	           json_flag(w, "draining") ? "draining" : json_age(w, "connected_at", age));
	cell_list(t, json_object_get(w, "namespaces"));
	cell_list(t, json_object_get(w, "handlers"));
}

int run_worker_list(struct ctl *c)
{
	static const struct column cols[] = {
	    {"WORKER", false, false},  {"NAME", false, true},       {"NODE", false, true},
	    {"PID", true, false},      {"CLIENT", false, true},     {"OPEN", true, false},
	    {"DONE", true, false},     {"RATE", true, false},       {"CONNECTED", false, false}, {"NAMESPACES", false, true},
	    {"HANDLERS", false, true},
	};
	return list(c, "worker.list", NULL, "workers", cols, sizeof cols / sizeof *cols, add_worker,
	            "no worker is connected");
}

static void add_node(struct table *t, const json_t *n)
{
	char up[24], left[24];
	int64_t until;
	const char *state = json_text(n, "state");
	table_cell(t, NULL, json_text(n, "node"));
	table_cellf(t, NULL, "%lld", (long long)json_int(n, "node_no", 0));
	table_cell(t, NULL, json_text(n, "host"));
	table_cellf(t, NULL, "%lld", (long long)json_int(n, "pid", 0));
	table_cell(t, NULL, json_text(n, "version"));
	table_cell(t, strcmp(state, "up") == 0 ? "32" : NULL, state);
	table_cell(t, NULL, json_age(n, "started_at", up));
	if (json_time(n, "lease_until", &until) < 0)
		table_cell(t, NULL, NULL);
	else if (until < (int64_t)now_wall())
		table_cell(t, "31", "ran out");
	else
		table_cell(t, NULL, text_duration(until - (int64_t)now_wall(), left));
	table_cellf(t, NULL, "%lld", (long long)json_int(n, "in_progress", 0));
}

int run_node_list(struct ctl *c)
{
	static const struct column cols[] = {
	    {"NODE", false, true}, {"NO", true, false},      {"HOST", false, true},
	    {"PID", true, false},  {"VERSION", false, true}, {"STATE", false, false},
	    {"UP", true, false},   {"LEASE", true, false},   {"IN PROGRESS", true, false},
	};
	return list(c, "node.list", NULL, "nodes", cols, sizeof cols / sizeof *cols, add_node,
	            "no node is registered");
}

static void add_queue(struct table *t, const json_t *q)
{
	char age[24];
	int64_t ready = json_int(q, "ready", 0), workers = json_int(q, "workers", 0),
	        oldest = json_int(q, "oldest_ms", -1);
	table_cell(t, NULL, json_text(q, "namespace"));
	table_cell(t, NULL, json_text(q, "handler"));
	table_cell(t, NULL, json_text(q, "queue"));
	table_cellf(t, NULL, "%lld", (long long)ready);
	table_cellf(t, NULL, "%lld", (long long)json_int(q, "delayed", 0));
	table_cell(t, NULL, oldest < 0 ? NULL : text_duration(oldest * 1000, age));
	cell_rate(t, q);
	if (json_flag(q, "paused"))
		table_cell(t, "33", "paused");
	else
		table_cellf(t, workers == 0 && ready > 0 ? "31" : NULL, "%lld", (long long)workers);
}

int run_queue_list(struct ctl *c)
{
	static const struct column cols[] = {
	    {"NAMESPACE", false, true}, {"HANDLER", false, true}, {"QUEUE", false, true},
	    {"READY", true, false},     {"DELAYED", true, false}, {"OLDEST", true, false},
	    {"RATE", true, false},      {"WORKERS", true, false},
	};
	json_t *params = json_object();
	json_set_option(params, "namespace", c->cli, "namespace");
	return list(c, "queue.list", params, "queues", cols, sizeof cols / sizeof *cols, add_queue,
	            "there are no queues");
}

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

static void print_running(const struct ctl *c, const json_t *steps)
{
	static const struct column cols[] = {{"TASK", false, false}, {"STEP", false, false}, {"HANDLER", false, true}, {"ATTEMPT", true, false}, {"", false, false}};
	cleanup_(cleanup_table) struct table t = {0};
	size_t i;
	json_t *s;
	table_init(&t, cols, sizeof cols / sizeof *cols);
	json_array_foreach(steps, i, s)
	{
		table_cell(&t, NULL, json_text(s, "task_uuid"));
		table_cell(&t, NULL, json_text(s, "step_uuid"));
		table_cell(&t, NULL, json_text(s, "handler"));
		table_cellf(&t, NULL, "%lld", (long long)json_int(s, "attempt", 0));
		table_cell(&t, "33", json_flag(s, "ended") ? "ended, and still running" : NULL);
	}
	if (table_rows(&t) == 0)
		return;
	ctl_say("\n");
	ctl_print_table(c, &t, 0);
}

static void print_worker(const struct ctl *c, const json_t *w)
{
	static const struct {
		const char *title, *key;
	} texts[] = {{"worker", "worker_uuid"}, {"name", "name"}, {"node", "node"}, {"unit", "unit"}, {"client", "client"}, {"language", "language"}, {"connected", "connected_at"}};
	char line[128];
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		ctl_fact(c, texts[i].title, json_text(w, texts[i].key));
	fact_int(c, "pid", w, "pid");
	fact_int(c, "uid", w, "uid");
	ctl_fact(c, "state", json_flag(w, "draining") ? "draining: it gets no more steps" : "working");
	if (json_object_get(w, "open"))
		snprintf(line, sizeof line, "%lld of %lld steps", (long long)json_int(w, "open", 0), (long long)json_int(w, "max_concurrency", 0));
	else
		snprintf(line, sizeof line, "at most %lld steps; its own node knows how many", (long long)json_int(w, "max_concurrency", 0));
	ctl_fact(c, "holds", line);
	if (json_object_get(w, "done")) {
		snprintf(line, sizeof line, "%lld steps, %.2f a second lately", (long long)json_int(w, "done", 0), json_number_value(json_object_get(w, "rate")));
		ctl_fact(c, "has done", line);
	}
	fact_list(c, "namespaces", json_object_get(w, "namespaces"));
	fact_list(c, "handlers", json_object_get(w, "handlers"));
	print_running(c, json_object_get(w, "running"));
}

/* A worker by its uuid, or by its name or pid if there is one of it only. 0 with *ret, or an exit code after having said why. */
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
	return ctl_fail(c, found ? EXIT_USAGE : EXIT_NOT_FOUND, found ? "%s is the name of several workers: say which by its uuid, see taskerctl worker list" : "no worker is called %s; see taskerctl worker list", word);
}

int run_worker_show(struct ctl *c)
{
	cleanup_(cleanup_json) json_t *w = NULL, *list = NULL;
	char uuid[64];
	int code = find_worker(c, c->cli->args[0], uuid);
	if (code == EXIT_OK)
		code = ctl_call(c, "worker.get", json_pack("{s:s}", "worker_uuid", uuid), &w);
	if (code)
		return code;
	if (c->cli->json) {
		ctl_print_json(c, w, false);
		return EXIT_OK;
	}
	print_worker(c, w);
	list = json_pack("[O]", w);
	tell_broken(list);
	return EXIT_OK;
}

int run_worker_drain(struct ctl *c)
{
	cleanup_(cleanup_json) json_t *w = NULL;
	char uuid[64];
	if (!cli_has(c->cli, "reason"))
		return ctl_fail(c, EXIT_USAGE, "why? --reason TEXT is needed");
	int code = find_worker(c, c->cli->args[0], uuid);
	if (code)
		return code;
	json_t *params = json_pack("{s:s}", "worker_uuid", uuid);
	operate_by_whom(c, params);
	code = ctl_call(c, "worker.drain", params, &w);
	if (code)
		return code;
	if (c->cli->json)
		ctl_print_json(c, w, false);
	else
		ctl_say("%s draining\n", json_text(w, "worker_uuid"));
	ctl_note(c, "it finishes what it runs, and ends; see what that is with: taskerctl worker show %s", uuid);
	return EXIT_OK;
}

static void print_node(const struct ctl *c, const json_t *n, const json_t *info)
{
	static const struct {
		const char *title, *key;
	} texts[] = {{"node", "node"}, {"host", "host"}, {"version", "version"}, {"state", "state"}, {"started", "started_at"}, {"lease until", "lease_until"}},
	  numbers[] = {{"number", "node_no"}, {"pid", "pid"}, {"store threads", "store_threads"}, {"sessions", "sessions"}, {"workers", "workers"}, {"steps given", "open_steps"}, {"in progress", "in_progress"}};
	const json_t *db = json_object_get(info, "database");
	char line[300];
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		ctl_fact(c, texts[i].title, json_text(n, texts[i].key));
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		fact_int(c, numbers[i].title, n, numbers[i].key);
	if (!db)
		return;
	long long v = (long long)json_int(db, "version", 0);
	snprintf(line, sizeof line, "%s, PostgreSQL %lld.%lld, schema %lld, queues by %s", json_text(db, "state"), v / 10000, v % 10000, (long long)json_int(db, "schema", 0), json_text(db, "pgmq"));
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
	json_array_foreach(json_object_get(answer, "nodes"), i, n) if (strcmp(json_text(n, "node"), name) == 0) found = n;
	if (!found)
		return ctl_fail(c, EXIT_NOT_FOUND, "there is no node %s; see taskerctl node list", name);
	if (strcmp(own, name) == 0) /* who is asked knows more of itself */
		json_object_update_missing(found, info);
	if (c->cli->json)
		ctl_print_json(c, found, false);
	else
		print_node(c, found, strcmp(own, name) == 0 ? info : NULL);
	return EXIT_OK;
}

/* worker list, node list, queue list. */
#include <stdio.h>
#include <string.h>
#include "clients/taskerctl/ctl.h"
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
static int list(struct ctl *c, const char *method, const char *key, const struct column *cols, size_t ncols,
                void (*add)(struct table *, const json_t *), const char *empty)
{
	cleanup_(cleanup_json) json_t *answer = NULL;
	cleanup_(cleanup_table) struct table t = {0};
	size_t i;
	json_t *item;
	table_init(&t, cols, ncols);
	int code = ctl_call(c, method, NULL, &answer);
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
	    {"DONE", true, false},     {"CONNECTED", false, false}, {"NAMESPACES", false, true},
	    {"HANDLERS", false, true},
	};
	return list(c, "worker.list", "workers", cols, sizeof cols / sizeof *cols, add_worker,
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
	return list(c, "node.list", "nodes", cols, sizeof cols / sizeof *cols, add_node,
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
	    {"WORKERS", true, false},
	};
	return list(c, "queue.list", "queues", cols, sizeof cols / sizeof *cols, add_queue,
	            "there are no queues");
}

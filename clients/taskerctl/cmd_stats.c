/* stats: what goes on, at a glance, again and again. */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include "clients/taskerctl/cells.h"
#include "clients/taskerctl/options.h"
#include "clients/taskerctl/text.h"
#include "daemon/base/clock.h"

/* ---- asking ---- */

/* What changes a second between two answers of the daemon's counters. */
static json_t *make_rates(const json_t *before, const json_t *now, double seconds)
{
	json_t *rates = json_object(), *v;
	const char *key;
	const json_t *old = json_object_get(json_object_get(before, "server"), "counters");
	json_object_foreach(json_object_get(json_object_get(now, "server"), "counters"), key, v)
	{
		int64_t was = json_int(old, key, -1);
		if (was >= 0 && json_is_integer(v) && seconds > 0)
			json_object_set_new(rates, key, json_real((double)(json_integer_value(v) - was) / seconds));
	}
	return rates;
}

static int look(struct ctl *c, json_t **ret)
{
	static const struct {
		const char *key, *method, *list;
	} parts[] = {{"server", "server.info", NULL},
	             {"stats", "stats", NULL},
	             {"queues", "queue.list", "queues"},
	             {"workers", "worker.list", "workers"},
	             {"nodes", "node.list", "nodes"}};
	cleanup_(cleanup_json) json_t *all = json_object();
	char at[40];
	json_object_set_new(all, "at", json_string(time_text((int64_t)now_wall(), at)));
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		cleanup_(cleanup_json) json_t *answer = NULL;
		int code = ctl_call(c, parts[i].method, NULL, &answer);
		if (code)
			return code;
		json_object_set(all, parts[i].key, parts[i].list ? json_object_get(answer, parts[i].list) : answer);
	}
	*ret = json_incref(all);
	return EXIT_OK;
}

/* ---- showing ---- */

static int64_t sum(const json_t *list, const char *key)
{
	size_t i;
	json_t *o;
	int64_t n = 0;
	json_array_foreach(list, i, o) n += json_int(o, key, 0);
	return n;
}

static void put_line(const struct ctl *c, struct buf *out, const char *title, const char *text)
{
	buf_printf(out, "%-10s ", title);
	text_put(out, text, c->width > 20 ? c->width - 11 : 0);
	buf_append_char(out, '\n');
}

static double sum_of(const json_t *items, const char *key)
{
	double n = 0;
	size_t i;
	json_t *item;
	json_array_foreach(items, i, item) n += json_number_value(json_object_get(item, key));
	return n;
}

static double rate_of(const json_t *all, const char *key)
{
	return json_number_value(json_object_get(json_object_get(all, "rates"), key));
}

static void put_head(const struct ctl *c, struct buf *out, const json_t *all)
{
	const json_t *server = json_object_get(all, "server"),
		     *tasks = json_object_get(json_object_get(all, "stats"), "tasks");
	char line[400], up[24];
	snprintf(line, sizeof line, "%.60s, up %s, database %.20s, %lld sessions; %zu nodes, %zu workers",
	         json_text(server, "node"), text_duration(json_int(server, "uptime_ms", 0) * 1000, up),
	         json_text(json_object_get(server, "database"), "state"), (long long)json_int(server, "sessions", 0),
	         json_array_size(json_object_get(all, "nodes")), json_array_size(json_object_get(all, "workers")));
	put_line(c, out, "taskerd", line);
	snprintf(line, sizeof line,
	         "%.1f tasks created, %.1f results recorded, %.1f transactions a second; %.1f steps sent",
	         rate_of(all, "created"), rate_of(all, "recorded"), rate_of(all, "batches"),
	         rate_of(all, "steps_sent"));
	put_line(c, out, "this node", line);
	snprintf(line, sizeof line,
	         "%lld created, %lld finished, %lld of them failed, in the last minute; %lld dead letters pending",
	         (long long)json_int(tasks, "created_per_minute", 0),
	         (long long)json_int(tasks, "finished_per_minute", 0),
	         (long long)json_int(tasks, "failed_per_minute", 0),
	         (long long)json_int(json_object_get(all, "stats"), "dlq_pending", 0));
	put_line(c, out, "tasks", line);
	snprintf(line, sizeof line,
	         "%.1f results a second on all nodes; %lld of %lld places taken; %lld steps ready, %lld delayed",
	         sum_of(json_object_get(all, "queues"), "rate"),
	         (long long)sum(json_object_get(all, "workers"), "open"),
	         (long long)sum(json_object_get(all, "workers"), "max_concurrency"),
	         (long long)sum(json_object_get(all, "queues"), "ready"),
	         (long long)sum(json_object_get(all, "queues"), "delayed"));
	put_line(c, out, "steps", line);
}

static void put_table(const struct ctl *c, struct buf *out, const struct column *columns, const json_t *items)
{
	const struct table_style style = {.width = c->width, .heading = true, .colour = c->colour};
	cleanup_(cleanup_table) struct table t = {0};
	if (json_array_size(items) == 0)
		return;
	table_init(&t, columns);
	table_fill(&t, items);
	buf_append_char(out, '\n');
	(void)!table_render(&t, &style, out);
}

static void put_states(const struct ctl *c, struct buf *out, const json_t *all)
{
	static const struct column columns[] = {{"TASKS", 0, cell_state, "state"},
	                                        {"NUMBER", COL_RIGHT, cell_value, "n"},
	                                        NO_COLUMN};
	const json_t *tasks = json_object_get(json_object_get(all, "stats"), "tasks");
	cleanup_(cleanup_json) json_t *rows = json_array();
	const char *state;
	json_t *n;
	json_object_foreach(json_object_get(tasks, "states"), state, n)
		json_array_append_new(rows, json_pack("{s:s,s:O}", "state", state, "n", n));
	put_table(c, out, columns, rows);
	if (!json_flag(tasks, "whole"))
		buf_printf(out, "of the newest %lld\n", (long long)json_int(tasks, "scanned", 0));
}

#define QUEUES_SHOWN 10

static int longest_first(const void *a, const void *b)
{
	const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
	int64_t n = json_int(x, "ready", 0) + json_int(x, "delayed", 0),
		m = json_int(y, "ready", 0) + json_int(y, "delayed", 0);
	double r = json_number_value(json_object_get(x, "rate")), s = json_number_value(json_object_get(y, "rate"));
	return n != m ? (n < m) - (n > m) : (r < s) - (r > s);
}

static void cell_queue(struct table *t, const json_t *q, const char *key)
{
	table_cellf(t, NULL, "%s/%s", json_text(q, "namespace"), json_text(q, key));
}

static void put_queues(const struct ctl *c, struct buf *out, const json_t *all)
{
	static const struct column columns[] = {
		{"QUEUE", COL_SHRINK, cell_queue, "handler"},
		{"READY", COL_RIGHT, cell_value, "ready"},
		{"DELAYED", COL_RIGHT, cell_value, "delayed"},
		{"OLDEST", COL_RIGHT, cell_ms, "oldest_ms"},
		{"RATE", COL_RIGHT, cell_rate, "rate"},
		{"WORKERS", COL_RIGHT, cell_queue_workers, "workers"},
		NO_COLUMN,
	};
	size_t n = json_array_size(json_object_get(all, "queues")),
	       shown = c->height > 30 ? c->height - 20 : QUEUES_SHOWN;
	cleanup_(cleanup_json) json_t *queues = json_sorted(json_object_get(all, "queues"), longest_first, shown);
	put_table(c, out, columns, queues);
	if (n > shown)
		buf_printf(out, "and %zu more queues: taskerctl queue list\n", n - shown);
}

static void show(struct ctl *c, const json_t *all, bool redraw)
{
	cleanup_(cleanup_buf) struct buf out = {0};
	if (c->cli->json) {
		ctl_print_json(c, all, true);
		return;
	}
	ctl_measure(c);
	buf_init(&out, 0);
	if (redraw)
		buf_append_str(&out, "\033[H\033[2J");
	buf_printf(&out, "%s\n", json_text(all, "at"));
	put_head(c, &out, all);
	put_states(c, &out, all);
	put_queues(c, &out, all);
	if (!redraw)
		buf_append_char(&out, '\n');
	ctl_write(&out);
}

/* ---- the verb ---- */

#define FIRST_LOOK_MS 200

int run_stats(struct ctl *c)
{
	int64_t count = cli_has(c->cli, "once") ? 1 : INT64_MAX, interval = 2000;
	const char *text = cli_get(c->cli, "interval");
	cleanup_(cleanup_json) json_t *before = NULL;
	if (text && (parse_duration(text, &interval) < 0 || interval < 100 || interval > 3600000))
		return ctl_fail(c, EXIT_USAGE, "--interval: %s is no duration from 100ms to 1h", text);
	int code = ctl_int_option(c, "count", 1, INT64_MAX, &count);
	if (code == EXIT_OK)
		code = look(c, &before);
	uint64_t then = now_mono();
	for (int64_t i = 0; code == EXIT_OK && i < count; i++) {
		json_t *now = NULL;
		(void)!poll(NULL, 0, (int)(i == 0 && interval > FIRST_LOOK_MS ? FIRST_LOOK_MS : interval));
		code = look(c, &now);
		if (code)
			break;
		uint64_t at = now_mono();
		json_object_set_new(now, "rates", make_rates(before, now, (double)(at - then) / 1e6));
		show(c, now, c->out_tty && !c->cli->json && count > 1);
		if (ctl_flush() != 0)
			return EXIT_OK; /* who reads has had enough */
		json_decref(before);
		before = now;
		then = at;
	}
	return code;
}

/* analytics: where time goes, and what fails. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "clients/taskerctl/options.h"
#include "clients/taskerctl/text.h"

static int ask(struct ctl *c, json_t **ret)
{
	static const struct {
		const char *key, *option;
	} texts[] = {{"namespace", "namespace"}, {"name", "name"}, {"version", "template-version"}, {"tag", "tag"}};
	json_t *params = json_object();
	int64_t most = 20000, limit = 20;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		json_set_option(params, texts[i].key, c->cli, texts[i].option);
	int code = ctl_time_option(c, "since", params, "created_after");
	if (code == EXIT_OK)
		code = ctl_time_option(c, "until", params, "created_before");
	if (code == EXIT_OK)
		code = ctl_int_option(c, "tasks", 1, 100000, &most);
	if (code == EXIT_OK)
		code = ctl_int_option(c, "limit", 1, 1000, &limit);
	json_object_set_new(params, "max_tasks", json_integer(most));
	json_object_set_new(params, "limit", json_integer(limit));
	if (code) {
		json_decref(params);
		return code;
	}
	return ctl_call(c, "analytics", params, ret);
}

static void cell_ms(struct table *t, const json_t *spread, const char *key)
{
	char text[24];
	const json_t *v = json_object_get(spread, key);
	table_cell(t, NULL, json_is_number(v) ? text_duration((int64_t)(json_number_value(v) * 1000), text) : NULL);
}

static void cell_count(struct table *t, const json_t *o, const char *key, const char *colour)
{
	long long n = (long long)json_int(o, key, 0);
	table_cellf(t, n > 0 ? colour : NULL, "%lld", n);
}

static void cell_template(struct table *t, const json_t *o)
{
	table_cellf(t, NULL, "%s/%s@%s", json_text(o, "namespace"), json_text(o, "name"), json_text(o, "version"));
}

static void cell_rate(struct table *t, const json_t *step)
{
	double rate = json_number_value(json_object_get(step, "failure_rate"));
	table_cellf(t, rate > 0 ? "31" : NULL, "%.1f%%", rate * 100);
}

/* What was looked at, so that nobody takes a part for the whole. */
static void tell_scanned(const struct ctl *c, const json_t *answer)
{
	const json_t *s = json_object_get(answer, "scanned");
	if (json_int(s, "tasks", 0) == 0) {
		ctl_note(c, "no tasks fit");
		return;
	}
	ctl_note(c, "of %lld tasks and %lld attempts, created from %s to %s%s", (long long)json_int(s, "tasks", 0), (long long)json_int(s, "attempts", 0), json_text(s, "from"), json_text(s, "to"),
	         json_flag(s, "whole") ? "" : "; there are older ones that fit: --tasks N looks at more");
}

typedef void print_fn(const struct ctl *c, const json_t *answer);

static int show(struct ctl *c, print_fn *print)
{
	cleanup_(cleanup_json) json_t *answer = NULL;
	int code = ask(c, &answer);
	if (code)
		return code;
	if (c->cli->json) {
		ctl_print_json(c, answer, false);
		return EXIT_OK;
	}
	print(c, answer);
	tell_scanned(c, answer);
	return EXIT_OK;
}

static void print_templates(const struct ctl *c, const json_t *answer)
{
	static const struct column cols[] = {
	    {"TEMPLATE", false, true}, {"TASKS", true, false}, {"COMPLETE", true, false}, {"FAILED", true, false}, {"LIVE", true, false},
	    {"P50", true, false},      {"P95", true, false},   {"P99", true, false},      {"MAX", true, false},
	};
	static const char *const spreads[] = {"p50", "p95", "p99", "max"};
	cleanup_(cleanup_table) struct table t = {0};
	size_t i;
	json_t *o;
	table_init(&t, cols, sizeof cols / sizeof *cols);
	json_array_foreach(json_object_get(answer, "templates"), i, o)
	{
		cell_template(&t, o);
		cell_count(&t, o, "tasks", NULL);
		cell_count(&t, o, "complete", NULL);
		cell_count(&t, o, "failed", "31");
		cell_count(&t, o, "live", NULL);
		for (size_t k = 0; k < sizeof spreads / sizeof *spreads; k++)
			cell_ms(&t, json_object_get(o, "duration_ms"), spreads[k]);
	}
	if (table_rows(&t) > 0)
		ctl_print_table(c, &t, 0);
}

static void print_steps(const struct ctl *c, const json_t *answer)
{
	static const struct column cols[] = {
	    {"TEMPLATE", false, true}, {"STEP", false, true}, {"ATTEMPTS", true, false}, {"FAILED", true, false}, {"WAIT P50", true, false}, {"WAIT P95", true, false},
	    {"RUN P50", true, false},  {"P95", true, false},  {"P99", true, false},      {"MAX", true, false},
	};
	static const char *const spreads[] = {"p50", "p95", "p99", "max"};
	cleanup_(cleanup_table) struct table t = {0};
	size_t i;
	json_t *o;
	table_init(&t, cols, sizeof cols / sizeof *cols);
	json_array_foreach(json_object_get(answer, "steps"), i, o)
	{
		cell_template(&t, o);
		table_cell(&t, NULL, json_text(o, "step"));
		cell_count(&t, o, "attempts", NULL);
		cell_rate(&t, o);
		cell_ms(&t, json_object_get(o, "wait_ms"), "p50");
		cell_ms(&t, json_object_get(o, "wait_ms"), "p95");
		for (size_t k = 0; k < sizeof spreads / sizeof *spreads; k++)
			cell_ms(&t, json_object_get(o, "run_ms"), spreads[k]);
	}
	if (table_rows(&t) > 0)
		ctl_print_table(c, &t, 0);
}

static void print_slowest(const struct ctl *c, const json_t *answer)
{
	static const struct column cols[] = {{"TASK", false, false}, {"TEMPLATE", false, true}, {"STATE", false, false}, {"CREATED", false, false}, {"TOOK", true, false}};
	cleanup_(cleanup_table) struct table t = {0};
	size_t i;
	json_t *o;
	table_init(&t, cols, sizeof cols / sizeof *cols);
	json_array_foreach(json_object_get(answer, "slowest"), i, o)
	{
		table_cell(&t, NULL, json_text(o, "task_uuid"));
		cell_template(&t, o);
		table_cell(&t, state_colour(json_text(o, "state")), json_text(o, "state"));
		table_cell(&t, NULL, json_text(o, "created_at"));
		cell_ms(&t, o, "duration_ms");
	}
	if (table_rows(&t) > 0)
		ctl_print_table(c, &t, 0);
}

struct failure {
	const json_t *step, *error;
};

static int most_first(const void *a, const void *b)
{
	const struct failure *x = a, *y = b;
	int64_t n = json_int(x->error, "n", 0), m = json_int(y->error, "n", 0);
	return (n < m) - (n > m);
}

/* The errors of all steps, the most frequent first. Returns how many. */
static size_t failures(const json_t *steps, struct failure *ret, size_t max)
{
	size_t i, k, n = 0;
	json_t *step, *e;
	json_array_foreach(steps, i, step)
		json_array_foreach(json_object_get(step, "errors"), k, e)
			if (n < max)
				ret[n++] = (struct failure){step, e};
	qsort(ret, n, sizeof *ret, most_first);
	return n;
}

static void add_failure(struct table *t, const struct failure *f)
{
	cell_template(t, f->step);
	table_cell(t, NULL, json_text(f->step, "step"));
	cell_count(t, f->error, "n", NULL);
	cell_rate(t, f->step);
	table_cell(t, NULL, json_text(f->error, "error_type"));
	table_cell(t, NULL, json_text(f->error, "message"));
}

static void print_failing(const struct ctl *c, const json_t *answer)
{
	static const struct column cols[] = {{"TEMPLATE", false, true}, {"STEP", false, true}, {"FAILURES", true, false}, {"RATE", true, false}, {"ERROR", false, true}, {"MESSAGE", false, true}};
	const json_t *steps = json_object_get(answer, "steps");
	size_t max = json_array_size(steps) * 5 + 1; /* the daemon names five of each */
	cleanup_(cleanup_free) struct failure *all = calloc(max, sizeof *all);
	cleanup_(cleanup_table) struct table t = {0};
	size_t n = all ? failures(steps, all, max) : 0;
	table_init(&t, cols, sizeof cols / sizeof *cols);
	for (size_t i = 0; i < n; i++)
		add_failure(&t, &all[i]);
	if (table_rows(&t) > 0)
		ctl_print_table(c, &t, 0);
	else
		ctl_note(c, "no attempt has failed");
}

int run_analytics_templates(struct ctl *c)
{
	return show(c, print_templates);
}

int run_analytics_steps(struct ctl *c)
{
	return show(c, print_steps);
}

int run_analytics_slowest(struct ctl *c)
{
	return show(c, print_slowest);
}

int run_analytics_failing(struct ctl *c)
{
	return show(c, print_failing);
}

/* task history, step history. */
#include <stdio.h>
#include <string.h>
#include "clients/taskerctl/dump.h"
#include "clients/taskerctl/text.h"

/* The lists of the later pages are put behind those of the first. */
static int fetch(struct ctl *c, json_t *params, json_t **ret)
{
	cleanup_(cleanup_json) json_t *all = NULL;
	for (;;) {
		cleanup_(cleanup_json) json_t *page = NULL;
		const char *key;
		json_t *list, *cursor;
		int code = ctl_call(c, "task.history", json_deep_copy(params), &page);
		if (code)
			return code;
		if (!all)
			all = json_incref(page);
		else
			json_object_foreach(page, key, list) if (json_is_array(list)) json_array_extend(json_object_get(all, key), list);
		cursor = json_object_get(page, "next_cursor");
		if (!json_is_string(cursor))
			break;
		json_object_set(params, "cursor", cursor);
	}
	json_object_del(all, "next_cursor");
	*ret = TAKE_PTR(all);
	return EXIT_OK;
}

int history_fetch(struct ctl *c, json_t *params, json_t **ret)
{
	int code = fetch(c, params, ret);
	json_decref(params);
	return code;
}

static void cell_json(struct table *t, const json_t *v)
{
	cleanup_(cleanup_free) char *text = v && !json_is_null(v) ? json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	table_cell(t, NULL, text);
}

/* "12.3ms" of a number of milliseconds, or "-". */
static void cell_ms(struct table *t, const json_t *ms)
{
	char text[24];
	table_cell(t, NULL, json_is_number(ms) ? text_duration((int64_t)(json_number_value(ms) * 1000), text) : NULL);
}

static void print_transitions(const struct ctl *c, const json_t *list)
{
	static const struct column cols[] = {{"AT", false, false}, {"STATE", false, false}, {"NODE", false, true}, {"CAUSE", false, true}};
	cleanup_(cleanup_table) struct table t = {0};
	size_t i;
	json_t *h;
	table_init(&t, cols, sizeof cols / sizeof *cols);
	json_array_foreach(list, i, h)
	{
		const char *state = json_text(h, "to");
		table_cell(&t, NULL, json_text(h, "at"));
		table_cell(&t, state_colour(state), state);
		table_cell(&t, NULL, json_text(h, "node"));
		cell_json(&t, json_object_get(h, "cause"));
	}
	ctl_print_table(c, &t, 0);
}

static void print_attempts(const struct ctl *c, const json_t *list)
{
	static const struct column cols[] = {
	    {"RECORDED", false, false}, {"STEP", false, true}, {"ATTEMPT", true, false}, {"OUTCOME", false, false},
	    {"TOOK", true, false},      {"NODE", false, true}, {"ERROR", false, true},
	};
	cleanup_(cleanup_table) struct table t = {0};
	size_t i;
	json_t *a;
	table_init(&t, cols, sizeof cols / sizeof *cols);
	json_array_foreach(list, i, a)
	{
		const char *outcome = json_text(a, "outcome");
		table_cell(&t, NULL, json_text(a, "recorded_at"));
		table_cell(&t, NULL, json_text(a, "step"));
		table_cellf(&t, NULL, "%lld", (long long)json_int(a, "attempt", 0));
		table_cell(&t, strcmp(outcome, "success") == 0 ? "32" : "33", outcome);
		cell_ms(&t, json_object_get(a, "execution_ms"));
		table_cell(&t, NULL, json_text(a, "node"));
		table_cell(&t, NULL, json_text(json_object_get(a, "error"), "message"));
	}
	if (table_rows(&t) == 0)
		return;
	ctl_say("\n");
	ctl_print_table(c, &t, 0);
}

static void print_actions(const struct ctl *c, const json_t *list)
{
	static const struct column cols[] = {
	    {"AT", false, false}, {"ACTION", false, false}, {"STEP", false, true}, {"FROM", false, false}, {"TO", false, false}, {"BY", false, true}, {"REASON", false, true},
	};
	cleanup_(cleanup_table) struct table t = {0};
	size_t i;
	json_t *a;
	table_init(&t, cols, sizeof cols / sizeof *cols);
	json_array_foreach(list, i, a)
	{
		const char *by = json_text(a, "operator");
		table_cell(&t, NULL, json_text(a, "at"));
		table_cell(&t, NULL, json_text(a, "action"));
		table_cell(&t, NULL, json_text(a, "step"));
		table_cell(&t, NULL, json_text(a, "from"));
		table_cell(&t, NULL, json_text(a, "to"));
		table_cell(&t, NULL, *by ? by : json_text(a, "user"));
		table_cell(&t, NULL, json_text(a, "reason"));
	}
	if (table_rows(&t) == 0)
		return;
	ctl_say("\n");
	ctl_print_table(c, &t, 0);
}

int run_task_history(struct ctl *c)
{
	cleanup_(cleanup_json) json_t *params = json_pack("{s:s}", "task_uuid", c->cli->args[0]), *answer = NULL;
	int code = fetch(c, params, &answer);
	if (code)
		return code;
	if (c->cli->json) {
		ctl_print_json(c, answer, false);
		return EXIT_OK;
	}
	print_transitions(c, json_object_get(answer, "transitions"));
	print_attempts(c, json_object_get(answer, "attempts"));
	print_actions(c, json_object_get(answer, "actions"));
	return EXIT_OK;
}

/* ---- steps ---- */

static void add_event(struct table *t, const json_t *e)
{
	const char *state = json_text(e, "state"), *outcome = json_text(e, "outcome"), *error = json_text(json_object_get(e, "error"), "message");
	int64_t attempt = json_int(e, "attempt", 0);
	table_cell(t, NULL, json_text(e, "at"));
	table_cell(t, state_colour(state), state);
	table_cell(t, NULL, json_text(e, "event"));
	if (attempt > 0)
		table_cellf(t, NULL, "%lld", (long long)attempt);
	else
		table_cell(t, NULL, NULL);
	table_cell(t, NULL, json_text(e, "node"));
	table_cell(t, NULL, outcome);
	table_cell(t, NULL, *error ? error : json_text(e, "reason"));
}

int run_step_history(struct ctl *c)
{
	static const struct column cols[] = {
	    {"AT", false, false},  {"STATE", false, false},   {"EVENT", false, false}, {"ATTEMPT", true, false},
	    {"NODE", false, true}, {"OUTCOME", false, false}, {"NOTE", false, true},
	};
	cleanup_(cleanup_json) json_t *params = json_pack("{s:s,s:s}", "task_uuid", c->cli->args[0], "step", c->cli->args[1]), *answer = NULL;
	cleanup_(cleanup_table) struct table t = {0};
	size_t i;
	json_t *e;
	table_init(&t, cols, sizeof cols / sizeof *cols);
	int code = fetch(c, params, &answer);
	if (code)
		return code;
	if (c->cli->json) {
		ctl_print_json(c, answer, false);
		return EXIT_OK;
	}
	json_array_foreach(json_object_get(answer, "events"), i, e) add_event(&t, e);
	ctl_print_table(c, &t, 0);
	return EXIT_OK;
}

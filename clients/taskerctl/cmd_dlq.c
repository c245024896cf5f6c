/* The dead-letter log: dlq list, show, stats, queue, add, update, redrive, staleness. */
#include <stdio.h>
#include <string.h>
#include "clients/taskerctl/ctl.h"
#include "clients/taskerctl/task_view.h"
#include "clients/taskerctl/text.h"
#include "daemon/base/clock.h"

/* A task's uuid is of version 7, an entry's of version 4. */
static const char *target_key(const char *uuid)
{
	return strlen(uuid) > 14 && uuid[14] == '7' ? "task_uuid" : "entry";
}

static int set_limit(struct ctl *c, json_t *params)
{
	const char *limit = cli_get(c->cli, "limit");
	int64_t n;
	if (!limit)
		return EXIT_OK;
	if (parse_int(limit, 1, 1000, &n) < 0)
		return ctl_fail(c, EXIT_USAGE, "--limit: %s is not a number from 1 to 1000", limit);
	json_object_set_new(params, "limit", json_integer(n));
	return EXIT_OK;
}

/* {"key": value} given as --metadata. */
static int set_metadata(struct ctl *c, json_t *params)
{
	json_error_t e;
	const char *text = cli_get(c->cli, "metadata");
	if (!text)
		return EXIT_OK;
	json_t *v = json_loads(text, JSON_REJECT_DUPLICATES, &e);
	if (!json_is_object(v)) {
		json_decref(v);
		return ctl_fail(c, EXIT_USAGE, "--metadata: not a JSON object");
	}
	json_object_set_new(params, "metadata", v);
	return EXIT_OK;
}

/* ---- lists ---- */

static const char *status_colour(const char *status)
{
	return strcmp(status, "pending") == 0 ? "33" : strcmp(status, "permanently_failed") == 0 ? "31" : NULL;
}

static void add_entry(struct table *t, const json_t *e)
{
	char age[24];
	const char *status = json_text(e, "status"), *state = json_text(e, "task_state");
	if (json_object_get(e, "priority_score"))
		table_cellf(t, NULL, "%.0f", json_number_value(json_object_get(e, "priority_score")));
	table_cell(t, NULL, json_text(e, "entry"));
	table_cell(t, NULL, json_text(e, "task_uuid"));
	table_cellf(t, NULL, "%s/%s@%s", json_text(e, "namespace"), json_text(e, "name"), json_text(e, "version"));
	table_cell(t, NULL, json_text(e, "reason"));
	table_cell(t, NULL, json_text(e, "detail"));
	if (!json_object_get(e, "priority_score"))
		table_cell(t, status_colour(status), status);
	table_cell(t, state_colour(state), state);
	table_cell(t, NULL, json_age(e, "created_at", age));
}

static void add_reason(struct table *t, const json_t *r)
{
	static const char *const counts[] = {"total", "pending", "manually_resolved", "permanently_failed", "cancelled"};
	char age[24];
	table_cell(t, NULL, json_text(r, "reason"));
	for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
		table_cellf(t, NULL, "%lld", (long long)json_int(r, counts[i], 0));
	table_cell(t, NULL, json_age(r, "oldest_pending_at", age));
}

static void add_stale(struct table *t, const json_t *s)
{
	const char *health = json_text(s, "health"), *state = json_text(s, "state");
	table_cell(t, NULL, json_text(s, "task_uuid"));
	table_cellf(t, NULL, "%s/%s@%s", json_text(s, "namespace"), json_text(s, "name"), json_text(s, "version"));
	table_cell(t, state_colour(state), state);
	table_cell(t, NULL, json_text(s, "limit"));
	table_cellf(t, NULL, "%lld", (long long)json_int(s, "minutes", 0));
	table_cellf(t, NULL, "%.0f%%", json_number_value(json_object_get(s, "percent")));
	table_cell(t, strcmp(health, "stale") == 0 ? "31" : strcmp(health, "warning") == 0 ? "33" : "32", health);
	table_cell(t, NULL, json_text(s, "action"));
}

/* Ask and show; `params` is taken. */
static int show_list(struct ctl *c, const char *method, json_t *params, const char *key, struct table *t,
                     void (*add)(struct table *, const json_t *), const char *empty)
{
	cleanup_(cleanup_json) json_t *answer = NULL;
	size_t i;
	json_t *item;
	int code = ctl_call(c, method, params, &answer);
	if (code)
		return code;
	if (c->cli->json) {
		ctl_print_json(c, answer, false);
		return EXIT_OK;
	}
	json_array_foreach(json_object_get(answer, key), i, item) add(t, item);
	if (table_rows(t) == 0)
		ctl_note(c, "%s", empty);
	else
		ctl_print_table(c, t, 0);
	if (json_is_string(json_object_get(answer, "next_cursor")) && c->out_tty)
		ctl_note(c, "there are more: --limit N");
	return EXIT_OK;
}

/* A list with the options that go into its params. */
static int list(struct ctl *c, const char *method, const char *const *filters, const char *key, const struct column *cols,
                size_t ncols, void (*add)(struct table *, const json_t *), const char *empty)
{
	cleanup_(cleanup_json) json_t *params = json_object();
	cleanup_(cleanup_table) struct table t = {0};
	table_init(&t, cols, ncols);
	for (; *filters; filters++)
		json_set_option(params, *filters, c->cli, *filters);
	int code = set_limit(c, params);
	return code ? code : show_list(c, method, json_incref(params), key, &t, add, empty);
}

int run_dlq_list(struct ctl *c)
{
	static const char *const filters[] = {"status", "reason", "namespace", "name", NULL};
	static const struct column cols[] = {
	    {"ENTRY", false, false}, {"TASK", false, false},  {"TEMPLATE", false, true}, {"REASON", false, true},
	    {"DETAIL", false, true}, {"STATUS", false, true}, {"TASK IS", false, true},  {"AGE", true, false},
	};
	return list(c, "dlq.list", filters, "entries", cols, sizeof cols / sizeof *cols, add_entry, "no entries");
}

int run_dlq_queue(struct ctl *c)
{
	static const char *const filters[] = {"namespace", NULL};
	static const struct column cols[] = {
	    {"SCORE", true, false},  {"ENTRY", false, false}, {"TASK", false, false}, {"TEMPLATE", false, true},
	    {"REASON", false, true}, {"DETAIL", false, true}, {"TASK IS", false, true}, {"AGE", true, false},
	};
	return list(c, "dlq.queue", filters, "entries", cols, sizeof cols / sizeof *cols, add_entry, "nothing is pending");
}

int run_dlq_stats(struct ctl *c)
{
	static const char *const filters[] = {"namespace", NULL};
	static const struct column cols[] = {
	    {"REASON", false, false},  {"TOTAL", true, false},     {"PENDING", true, false},        {"RESOLVED", true, false},
	    {"FAILED", true, false},   {"CANCELLED", true, false}, {"OLDEST PENDING", true, false},
	};
	return list(c, "dlq.stats", filters, "reasons", cols, sizeof cols / sizeof *cols, add_reason, "no entries");
}

int run_dlq_staleness(struct ctl *c)
{
	static const char *const filters[] = {"namespace", "health", NULL};
	static const struct column cols[] = {
	    {"TASK", false, false},   {"TEMPLATE", false, true}, {"STATE", false, true},   {"LIMIT", false, true},
	    {"MINUTES", true, false}, {"USED", true, false},     {"HEALTH", false, false}, {"THEN", false, true},
	};
	return list(c, "dlq.staleness", filters, "tasks", cols, sizeof cols / sizeof *cols, add_stale, "no task is under a limit");
}

/* ---- one entry ---- */

static void print_entry(const struct ctl *c, const json_t *e)
{
	static const struct {
		const char *title, *key;
	} facts[] = {
	    {"entry", "entry"},       {"task", "task_uuid"},         {"task is", "task_state"},     {"reason", "reason"},
	    {"detail", "detail"},     {"status", "status"},          {"was", "original_state"},     {"created", "created_at"},
	    {"updated", "updated_at"}, {"resolved by", "resolved_by"}, {"resolved", "resolved_at"}, {"notes", "notes"},
	};
	const json_t *snapshot = json_object_get(e, "snapshot");
	for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
		ctl_fact(c, facts[i].title, json_text(e, facts[i].key));
	ctl_fact_json(c, "metadata", json_object_get(e, "metadata"), false);
	ctl_fact_json(c, "steps", json_object_get(snapshot, "counts"), false);
}

static void print_steps(const struct ctl *c, const json_t *steps)
{
	static const struct column cols[] = {
	    {"STEP", false, true}, {"STATE", false, false}, {"ATTEMPTS", true, false}, {"HANDLER", false, true}, {"LAST ERROR", false, true},
	};
	cleanup_(cleanup_table) struct table t = {0};
	size_t i;
	json_t *s;
	table_init(&t, cols, sizeof cols / sizeof *cols);
	json_array_foreach(steps, i, s)
	{
		const char *state = json_text(s, "state");
		table_cell(&t, NULL, json_text(s, "name"));
		table_cell(&t, state_colour(state), state);
		table_cellf(&t, NULL, "%lld/%lld", (long long)json_int(s, "attempts", 0), (long long)json_int(s, "max_attempts", 1));
		table_cell(&t, NULL, json_text(s, "handler"));
		table_cell(&t, NULL, json_text(json_object_get(s, "last_error"), "message"));
	}
	if (table_rows(&t) > 0) {
		ctl_say("\n");
		ctl_print_table(c, &t, 0);
	}
}

/* Ask about one entry or task, and show the answer; `params` is taken. */
static int show_entry(struct ctl *c, const char *method, json_t *params, bool brief)
{
	cleanup_(cleanup_json) json_t *e = NULL;
	int code = ctl_call(c, method, params, &e);
	if (code)
		return code;
	if (c->cli->json) {
		ctl_print_json(c, e, false);
	} else if (brief) {
		ctl_say("%s %s %s\n", json_text(e, "entry"), json_text(e, "reason"), json_text(e, "status"));
	} else {
		print_entry(c, e);
		print_steps(c, json_object_get(json_object_get(e, "snapshot"), "steps"));
	}
	return EXIT_OK;
}

int run_dlq_show(struct ctl *c)
{
	const char *uuid = c->cli->args[0];
	return show_entry(c, "dlq.get", json_pack("{s:s}", target_key(uuid), uuid), false);
}

int run_dlq_add(struct ctl *c)
{
	cleanup_(cleanup_json) json_t *params = json_pack("{s:s}", "task_uuid", c->cli->args[0]);
	json_set_option(params, "notes", c->cli, "notes");
	int code = set_metadata(c, params);
	return code ? code : show_entry(c, "dlq.add", json_incref(params), true);
}

int run_dlq_update(struct ctl *c)
{
	static const char *const keys[][2] = {{"status", "status"}, {"notes", "notes"}, {"resolved_by", "resolved-by"}};
	const char *uuid = c->cli->args[0];
	cleanup_(cleanup_json) json_t *params = json_pack("{s:s}", target_key(uuid), uuid);
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		json_set_option(params, keys[i][0], c->cli, keys[i][1]);
	int code = set_metadata(c, params);
	if (code == EXIT_OK && json_object_size(params) == 1)
		return ctl_fail(c, EXIT_USAGE, "nothing to change: give --status, --notes, --resolved-by or --metadata");
	return code ? code : show_entry(c, "dlq.update", json_incref(params), true);
}

int run_dlq_redrive(struct ctl *c)
{
	const char *uuid = c->cli->args[0];
	cleanup_(cleanup_json) json_t *params = json_pack("{s:s}", target_key(uuid), uuid), *answer = NULL;
	if (!cli_has(c->cli, "reason"))
		return ctl_fail(c, EXIT_USAGE, "say why: --reason TEXT");
	json_set_option(params, "reason", c->cli, "reason");
	json_set_option(params, "operator", c->cli, "operator");
	int code = ctl_call(c, "dlq.redrive", json_incref(params), &answer);
	if (code)
		return code;
	const json_t *task = json_object_get(answer, "task");
	if (c->cli->json)
		ctl_print_json(c, answer, false);
	else
		ctl_say("%s %s\n", json_text(task, "task_uuid"), json_text(task, "state"));
	return EXIT_OK;
}

/* The dead-letter log: dlq list, show, stats, queue, add, update, redrive, staleness. */
#include <string.h>
#include "clients/taskerctl/cells.h"
#include "clients/taskerctl/list.h"
#include "clients/taskerctl/operate.h"
#include "clients/taskerctl/text.h"
#include "daemon/base/clock.h"

/* A task's uuid is of version 7, an entry's of version 4. */
static const char *target_key(const char *uuid)
{
	return strlen(uuid) > 14 && uuid[14] == '7' ? "task_uuid" : "entry";
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

/* Here pending is what waits for a person. */
static void cell_status(struct table *t, const json_t *e, const char *key)
{
	if (strcmp(json_text(e, key), "pending") == 0)
		table_cell(t, "33", "pending");
	else
		cell_state(t, e, key);
}

static void cell_score(struct table *t, const json_t *e, const char *key)
{
	table_cellf(t, NULL, "%.0f", json_number_value(json_object_get(e, key)));
}

static void cell_used(struct table *t, const json_t *s, const char *key)
{
	table_cellf(t, NULL, "%.0f%%", json_number_value(json_object_get(s, key)));
}

#define WHAT                                                                                                           \
	{"ENTRY", 0, cell_value, "entry"}, {"TASK", 0, cell_value, "task_uuid"}, {"TEMPLATE", COL_SHRINK, cell_template, NULL},  \
	    {"REASON", COL_SHRINK, cell_value, "reason"},                                                              \
	{                                                                                                              \
		"DETAIL", COL_SHRINK, cell_value, "detail"                                                             \
	}
#define STANDS                                                                                                         \
	{"TASK IS", COL_SHRINK, cell_state, "task_state"},                                                             \
	{                                                                                                              \
		"AGE", COL_RIGHT, cell_age, "created_at"                                                               \
	}
#define MORE                                                                                                           \
	{"WAS", COL_WIDE, cell_state, "original_state"}, {"CREATED", COL_WIDE, cell_second, "created_at"}, {"UPDATED", COL_WIDE, cell_second, "updated_at"}, \
	    {"FAILED STEPS", COL_WIDE, cell_value, "metadata.failed_steps"},                                           \
	    {"RESOLVED BY", COL_WIDE, cell_value, "resolved_by"},                                                      \
	{                                                                                                              \
		"NOTES", COL_WIDE, cell_value, "notes"                                                                 \
	}

static const struct column entries[] = {WHAT, {"STATUS", COL_SHRINK, cell_status, "status"}, STANDS, MORE, NO_COLUMN};
static const struct column urgent[] = {{"SCORE", COL_RIGHT, cell_score, "priority_score"},
                                       WHAT,
                                       STANDS,
                                       MORE,
                                       NO_COLUMN};
static const struct column reasons[] = {
    {"REASON", 0, cell_value, "reason"},
    {"TOTAL", COL_RIGHT, cell_value, "total"},
    {"PENDING", COL_RIGHT, cell_value, "pending"},
    {"RESOLVED", COL_RIGHT, cell_value, "manually_resolved"},
    {"FAILED", COL_RIGHT, cell_value, "permanently_failed"},
    {"CANCELLED", COL_RIGHT, cell_value, "cancelled"},
    {"OLDEST PENDING", COL_RIGHT, cell_age, "oldest_pending_at"},
    {"NEWEST", COL_RIGHT | COL_WIDE, cell_age, "newest_at"},
    {"MINUTES OPEN", COL_RIGHT | COL_WIDE, cell_value, "mean_resolution_minutes"},
    NO_COLUMN,
};
static const struct column stale[] = {
    {"TASK", 0, cell_value, "task_uuid"},
    {"TEMPLATE", COL_SHRINK, cell_template, NULL},
    {"STATE", COL_SHRINK, cell_state, "state"},
    {"LIMIT", COL_SHRINK, cell_value, "limit"},
    {"MINUTES", COL_RIGHT, cell_value, "minutes"},
    {"USED", COL_RIGHT, cell_used, "percent"},
    {"HEALTH", 0, cell_state, "health"},
    {"THEN", COL_SHRINK, cell_value, "action"},
    {"SINCE", COL_WIDE, cell_second, "since"},
    {"FILED", COL_WIDE, cell_value, "in_dlq"},
    NO_COLUMN,
};
static const struct column causes[] = {
    {"TASKS", COL_RIGHT, cell_value, "tasks"},
    {"TEMPLATE", COL_SHRINK, cell_template, NULL},
    {"STEP", COL_SHRINK, cell_value, "step"},
    {"ERROR", COL_SHRINK, cell_value, "error_type"},
    {"MESSAGE", COL_SHRINK, cell_value, "message"},
    {"WORKERS", COL_SHRINK, cell_value, "workers"},
    {"SINCE", COL_RIGHT, cell_age, "oldest_at"},
    {"LAST", COL_RIGHT, cell_age, "newest_at"},
    {"REASON", COL_WIDE, cell_value, "reason"},
    {"HANDLER", COL_WIDE, cell_value, "handler"},
    {"OUTCOME", COL_WIDE, cell_value, "outcome"},
    {"FOR EXAMPLE", COL_WIDE, cell_value, "task_uuid"},
    NO_COLUMN,
};

static int ask_causes(struct ctl *c, json_t *params, json_t **ret)
{
	json_object_set_new(params, "causes", json_true());
	return ctl_call(c, "dlq.stats", json_incref(params), ret);
}

static void tell_redrive(const struct ctl *c, const json_t *answer)
{
	const json_t *first = json_array_get(json_object_get(answer, "causes"), 0);
	if (!first)
		return;
	ctl_note(
		c,
		"see one with: taskerctl task get %s; when the cause is mended, try them again with: taskerctl dlq redrive --namespace %s --name %s --template-version %s%s%s%s%s --reason TEXT (--dry-run shows which, --limit N takes a part first)",
		json_text(first, "task_uuid"), json_text(first, "namespace"), json_text(first, "name"),
		json_text(first, "version"), *json_text(first, "step") ? " --step " : "", json_text(first, "step"),
		*json_text(first, "error_type") ? " --error-type " : "", json_text(first, "error_type"));
}

const struct listing list_dlq_causes = {.columns = causes,
                                        .empty = "nothing is pending",
                                        .ask = ask_causes,
                                        .after = tell_redrive};
const struct listing
	list_dlq = {.columns = entries,
                    .empty = "no entries fit: nothing of that kind needs a person; count all with: taskerctl dlq stats",
                    .ask = list_ask_pages},
	list_dlq_queue = {.columns = urgent,
                          .empty = "nothing is pending; see closed entries with: taskerctl dlq list"},
	list_dlq_stats = {.columns = reasons, .empty = "no entries"},
	list_staleness = {
		.columns = stale,
		.empty =
			"no task is under a limit; limits are set by lifecycle in a template, see taskerd-template(5)"};

/* ---- one entry ---- */

static void print_entry(const struct ctl *c, const json_t *e)
{
	static const struct {
		const char *title, *key;
	} facts[] = {
	    {"entry", "entry"},       {"task", "task_uuid"},         {"task is", "task_state"},     {"reason",
	     "reason"},
	    {"detail", "detail"},     {"status", "status"},          {"was", "original_state"},     {"created",
	     "created_at"},
	    {"updated", "updated_at"}, {"resolved by", "resolved_by"}, {"resolved", "resolved_at"}, {"notes", "notes"},
	};
	const json_t *snapshot = json_object_get(e, "snapshot");
	for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
		ctl_fact(c, facts[i].title, json_text(e, facts[i].key));
	ctl_fact_json(c, "metadata", json_object_get(e, "metadata"), false);
	ctl_fact_json(c, "steps", json_object_get(snapshot, "counts"), false);
}

static void print_whole(const struct ctl *c, const json_t *e)
{
	static const struct column columns[] = {
	    {"STEP", COL_SHRINK, cell_value, "name"},       {"STATE", 0, cell_state, "state"},
	    {"ATTEMPTS", COL_RIGHT, cell_attempts, NULL},   {"HANDLER", COL_SHRINK, cell_value, "handler"},
	    {"LAST ERROR", COL_SHRINK, cell_error, "last_error"}, NO_COLUMN,
	};
	print_entry(c, e);
	list_print_below(c, columns, json_at(e, "snapshot.steps"));
}

static void print_brief(const struct ctl *c, const json_t *e)
{
	(void)c;
	ctl_say("%s %s %s\n", json_text(e, "entry"), json_text(e, "reason"), json_text(e, "status"));
}

static void print_redriven(const struct ctl *c, const json_t *answer)
{
	const json_t *task = json_object_get(answer, "task");
	(void)c;
	ctl_say("%s %s\n", json_text(task, "task_uuid"), json_text(task, "state"));
}

int run_dlq_show(struct ctl *c)
{
	const char *uuid = c->cli->args[0];
	return ctl_show(c, "dlq.get", json_pack("{s:s}", target_key(uuid), uuid), print_whole);
}

int run_dlq_add(struct ctl *c)
{
	cleanup_(cleanup_json) json_t *params = json_pack("{s:s}", "task_uuid", c->cli->args[0]);
	json_set_option(params, "notes", c->cli, "notes");
	int code = set_metadata(c, params);
	return code ? code : ctl_show(c, "dlq.add", json_incref(params), print_brief);
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
		return ctl_fail(c, EXIT_USAGE,
		                "nothing to change: give --status, --notes, --resolved-by or --metadata");
	return code ? code : ctl_show(c, "dlq.update", json_incref(params), print_brief);
}

int run_dlq_redrive(struct ctl *c)
{
	if (c->cli->nargs == 0)
		return operate_redrive(c);
	const char *uuid = c->cli->args[0];
	for (const struct opt *o = c->cli->verb->opts; o->name; o++)
		if (cli_has(c->cli, o->name) && strcmp(o->name, "reason") != 0 && strcmp(o->name, "operator") != 0)
			return ctl_fail(c, EXIT_USAGE, "--%s picks entries, and one is named: one or the other",
			                o->name);
	if (!cli_has(c->cli, "reason"))
		return ctl_fail(c, EXIT_USAGE, "why? --reason TEXT is needed");
	json_t *params = json_pack("{s:s}", target_key(uuid), uuid);
	operate_by_whom(c, params);
	return ctl_show(c, "dlq.redrive", params, print_redriven);
}

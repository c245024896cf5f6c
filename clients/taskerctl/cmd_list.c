/* task list. */
#include "clients/taskerctl/cells.h"
#include "clients/taskerctl/list.h"
#include "clients/taskerctl/options.h"
#include "clients/taskerctl/text.h"
#include "daemon/base/clock.h"

#define PAGE_MAX 1000

static void cell_task_state(struct table *t, const json_t *task, const char *key)
{
	const char *state = json_text(task, key);
	table_cellf(t, state_colour(state), "%s%s", state, json_flag(task, "paused") ? ", paused" : "");
}

static void cell_done(struct table *t, const json_t *task, const char *key)
{
	table_cellf(t, NULL, "%lld/%lld", (long long)json_int(task, key, 0), (long long)json_int(task, "total_steps", 0));
}

/* From its creation to its end, or until now. */
static void cell_took(struct table *t, const json_t *task, const char *key)
{
	char text[24];
	int64_t created, finished = (int64_t)now_wall();
	bool known = json_time(task, key, &created) == 0;
	json_time(task, "finished_at", &finished);
	table_cell(t, NULL, known ? text_duration(finished > created ? finished - created : 0, text) : NULL);
}

static size_t have(const json_t *answer)
{
	return json_array_size(json_object_get(answer, "tasks"));
}

/* One page after the other into one answer, until `want` are there. A page may hold less than was asked for and still have a
 * next one: the daemon looks at so many tasks at a time. */
static int ask(struct ctl *c, json_t *params, json_t **ret)
{
	const char *limit = cli_get(c->cli, "limit");
	int64_t want = cli_has(c->cli, "all") ? INT64_MAX : 50;
	if (limit && parse_int(limit, 1, INT64_MAX, &want) < 0)
		return ctl_fail(c, EXIT_USAGE, "--limit: %s is not a number above 0", limit);
	for (bool more = true; more;) {
		cleanup_(cleanup_json) json_t *page = NULL;
		int64_t left = want - (int64_t)have(*ret);
		json_object_set_new(params, "limit", json_integer(left < PAGE_MAX ? left : PAGE_MAX));
		int code = ctl_call(c, "task.list", json_deep_copy(params), &page);
		if (code)
			return code;
		json_t *cursor = json_object_get(page, "next_cursor");
		if (!*ret)
			*ret = json_incref(page);
		else
			json_array_extend(json_object_get(*ret, "tasks"), json_object_get(page, "tasks"));
		if (json_is_string(cursor)) {
			json_object_set(params, "cursor", cursor);
			json_object_set(*ret, "next_cursor", cursor);
		} else {
			json_object_del(*ret, "next_cursor");
		}
		more = json_is_string(cursor) && (int64_t)have(*ret) < want;
	}
	return EXIT_OK;
}

static void tell_more(const struct ctl *c, const json_t *answer)
{
	const char *cursor = json_text(answer, "next_cursor");
	if (*cursor && c->out_tty)
		ctl_note(c, "there are more: --limit N, --all, or from here on: --cursor %s", cursor);
}

static const struct column columns[] = {
    {"TASK", 0, cell_value, "task_uuid"},
    {"TEMPLATE", COL_SHRINK, cell_template, NULL},
    {"STATE", COL_SHRINK, cell_task_state, "state"},
    {"STEPS", COL_RIGHT, cell_done, "completed_steps"},
    {"AGE", COL_RIGHT, cell_age, "created_at"},
    {"TOOK", COL_RIGHT, cell_took, "created_at"},
    {"FAILED", COL_RIGHT | COL_WIDE, cell_bad, "failed_steps"},
    {"RUNNING", COL_RIGHT | COL_WIDE, cell_value, "in_progress_steps"},
    {"PRIORITY", COL_RIGHT | COL_WIDE, cell_value, "priority"},
    {"TAGS", COL_WIDE, cell_value, "tags"},
    {"INITIATOR", COL_WIDE, cell_value, "initiator"},
    {"CORRELATION", COL_WIDE, cell_value, "correlation_id"},
    {"UPDATED", COL_WIDE, cell_second, "updated_at"},
    NO_COLUMN,
};
const struct listing list_tasks = {.columns = columns, .empty = "no tasks fit; see all there are with: taskerctl task list", .ask = ask, .after = tell_more};

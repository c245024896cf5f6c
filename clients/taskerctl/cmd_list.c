/* task list. */
#include "clients/taskerctl/cells.h"
#include "clients/taskerctl/list.h"
#include "clients/taskerctl/text.h"
#include "daemon/base/clock.h"

static void cell_task_state(struct table *t, const json_t *task, const char *key)
{
	const char *state = json_text(task, key);
	table_cellf(t, state_colour(state), "%s%s", state, json_flag(task, "paused") ? ", paused" : "");
}

static void cell_done(struct table *t, const json_t *task, const char *key)
{
	table_cellf(t, NULL, "%lld/%lld", (long long)json_int(task, key, 0),
	            (long long)json_int(task, "total_steps", 0));
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
const struct listing list_tasks = {.columns = columns,
                                   .empty = "no tasks fit; see all there are with: taskerctl task list",
                                   .ask = list_ask_pages};

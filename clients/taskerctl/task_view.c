/* The parts of tasks that several verbs show. Pure but for the table they fill. */
#include "clients/taskerctl/task_view.h"

#include <string.h>
#include "clients/taskerctl/cells.h"
#include "clients/taskerctl/list.h"
#include "clients/taskerctl/text.h"
#include "daemon/base/clock.h"

/* How long the last attempt took or has been running, or how long until the next. */
static void cell_step_time(struct table *t, const json_t *s, const char *key)
{
	int64_t started, finished, retry, now = (int64_t)now_wall();
	char text[24];
	const char *state = json_text(s, "state");
	bool began = strcmp(state, "pending") != 0 && json_time(s, key, &started) == 0;
	if (strcmp(state, "waiting_for_retry") == 0 && json_time(s, "retry_at", &retry) == 0)
		table_cellf(t, NULL, "in %s", text_duration(retry > now ? retry - now : 0, text));
	else if (began &&
	         (json_time(s, "finished_at", &finished) == 0 || (finished = now, strcmp(state, "in_progress") == 0)))
		table_cell(t, NULL, text_duration(finished > started ? finished - started : 0, text));
	else
		table_cell(t, NULL, NULL);
}

static void cell_handler(struct table *t, const json_t *s, const char *key)
{
	const json_t *handler = json_object_get(s, key);
	table_cell(t, NULL, json_is_string(handler) ? json_string_value(handler) : json_text(handler, "callable"));
}

/* From being ready to being given to a worker. */
static void cell_step_wait(struct table *t, const json_t *s, const char *key)
{
	int64_t ready, started = (int64_t)now_wall();
	char text[24];
	bool waits = strcmp(json_text(s, "state"), "enqueued") == 0;
	bool known = json_time(s, key, &ready) == 0 && (waits || json_time(s, "started_at", &started) == 0);
	table_cell(t, NULL, known ? text_duration(started > ready ? started - ready : 0, text) : NULL);
}

static const struct column columns[] = {
    {"STEP", COL_SHRINK, cell_value, "name"},
    {"STATE", 0, cell_state, "state"},
    {"ATTEMPT", COL_RIGHT, cell_attempts, NULL},
    {"TIME", COL_RIGHT, cell_step_time, "started_at"},
    {"HANDLER", COL_SHRINK, cell_handler, "handler"},
    {"AFTER", COL_SHRINK, cell_value, "depends_on"},
    {"WAITED", COL_RIGHT | COL_WIDE, cell_step_wait, "ready_at"},
    {"NODE", COL_WIDE, cell_value, "node"},
    {"WORKER", COL_WIDE, cell_value, "worker"},
    {"STEP UUID", COL_WIDE, cell_value, "step_uuid"},
    {"LAST ERROR", COL_WIDE, cell_error, "error"},
    NO_COLUMN,
};
const struct listing list_steps = {.columns = columns};

void put_step_errors(const json_t *steps, bool below)
{
	size_t i;
	json_t *s;
	json_array_foreach(steps, i, s)
	{
		const json_t *e = json_object_get(s, "error");
		char message[1000], name[128];
		text_copy(message, sizeof message,
		          json_is_string(e) ? json_string_value(e) : json_text(e, "message"));
		text_copy(name, sizeof name, json_text(s, "name"));
		if (!*message)
			continue;
		ctl_say("%s%s: %s\n", below ? "\n" : "", name, message);
		below = false;
	}
}

void progress_bar(struct buf *b, int64_t done, int64_t total, size_t width)
{
	size_t full =
	    total > 0 && done > 0 ? (size_t)(done < total ? done : total) * width / (size_t)total : 0;
	buf_append_char(b, '[');
	for (size_t i = 0; i < width; i++)
		buf_append_char(b, i < full ? '#' : '.');
	buf_append_char(b, ']');
}

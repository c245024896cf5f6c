/* The parts of tasks that several verbs show. Pure but for the table they fill. */
#include "clients/taskerctl/task_view.h"

#include <stdio.h>
#include <string.h>
#include "clients/taskerctl/text.h"

/* How long the last attempt took or has been running, or how long until the next. */
static const char *step_time(const json_t *s, int64_t now, char dst[40])
{
	int64_t started, finished, retry;
	char text[24];
	const char *state = json_text(s, "state");
	if (strcmp(state, "waiting_for_retry") == 0 && json_time(s, "retry_at", &retry) == 0) {
		snprintf(dst, 40, "in %s", text_duration(retry > now ? retry - now : 0, text));
		return dst;
	}
	if (strcmp(state, "pending") == 0 || json_time(s, "started_at", &started) < 0)
		return NULL;
	if (json_time(s, "finished_at", &finished) < 0) {
		if (strcmp(state, "in_progress") != 0)
			return NULL;
		finished = now;
	}
	snprintf(dst, 40, "%s", text_duration(finished > started ? finished - started : 0, text));
	return dst;
}

void task_step_table(struct table *t, const json_t *steps, int64_t now)
{
	static const struct column cols[] = {
	    {"STEP", false, true}, {"STATE", false, false},  {"ATTEMPT", true, false},
	    {"TIME", true, false}, {"HANDLER", false, true}, {"AFTER", false, true},
	};
	size_t i;
	json_t *s;
	table_init(t, cols, sizeof cols / sizeof *cols);
	json_array_foreach(steps, i, s)
	{
		cleanup_(cleanup_buf) struct buf after = {0};
		char time[40];
		const char *state = json_text(s, "state");
		const json_t *handler = json_object_get(s, "handler");
		buf_init(&after, 0);
		table_cell(t, NULL, json_text(s, "name"));
		table_cell(t, state_colour(state), state);
		table_cellf(t, NULL, "%lld/%lld", (long long)json_int(s, "attempts", 0),
		            (long long)json_int(s, "max_attempts", 1));
		table_cell(t, NULL, step_time(s, now, time));
		table_cell(t, NULL,
		           json_is_string(handler) ? json_string_value(handler)
		                                   : json_text(handler, "callable"));
		json_join(json_object_get(s, "depends_on"), &after);
		table_cell(t, NULL, after.len ? buf_text(&after) : NULL);
	}
}

void put_step_errors(const json_t *steps)
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
		if (*message)
			ctl_say("%s: %s\n", name, message);
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

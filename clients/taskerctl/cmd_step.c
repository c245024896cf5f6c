/* step get, result, logs. */
#include <stdio.h>
#include <string.h>
#include "clients/taskerctl/journal.h"
#include "clients/taskerctl/operate.h"
#include "clients/taskerctl/task_view.h"
#include "clients/taskerctl/text.h"

static int ask(struct ctl *c, json_t **ret)
{
	json_t *params = json_object();
	int code = operate_step_args(c, params);
	if (code) {
		json_decref(params);
		return code;
	}
	return ctl_call(c, "step.get", params, ret);
}

static void put_line(const char *title, const char *before, const char *text)
{
	cleanup_(cleanup_buf) struct buf b = {0};
	buf_init(&b, 0);
	buf_printf(&b, "%-14s %s", title, before);
	text_put(&b, text ? text : "", 0);
	buf_append_char(&b, '\n');
	ctl_write(&b);
}

/* As people read it, and whole: what kind it is and its message, where it was thrown; then whatever else is in it. */
static void print_error(const struct ctl *c, json_t *error)
{
	static const char *const shown[] = {"error_type", "message", "backtrace", "retryable"};
	cleanup_(cleanup_json) json_t *rest = json_is_object(error) ? json_copy(error) : NULL;
	const json_t *backtrace = json_object_get(error, "backtrace");
	char kind[160], before[200];
	size_t i;
	json_t *at;
	if (!rest || !*json_text(error, "message") || (backtrace && !json_is_array(backtrace))) {
		ctl_fact_json(c, "error", error, true);
		return;
	}
	text_copy(kind, sizeof kind, json_text(error, "error_type"));
	snprintf(before, sizeof before, "%s%s", kind, *kind ? ": " : "");
	put_line("error", before, json_text(error, "message"));
	json_array_foreach(backtrace, i, at) put_line("", "", json_string_value(at));
	for (i = 0; i < sizeof shown / sizeof *shown; i++)
		json_object_del(rest, shown[i]);
	ctl_fact_json(c, "error has", rest, false);
}

static void print_step(const struct ctl *c, const json_t *s)
{
	static const struct {
		const char *title, *key;
	} times[] = {{"ready", "ready_at"}, {"started", "started_at"}, {"finished", "finished_at"},
	             {"retry", "retry_at"}, {"node", "node"},          {"worker", "worker"}};
	cleanup_(cleanup_buf) struct buf after = {0};
	char line[600];
	buf_init(&after, 0);
	snprintf(line, sizeof line, "%s, %s", json_text(s, "name"), json_text(s, "type"));
	ctl_fact(c, "step", line);
	ctl_fact(c, "uuid", json_text(s, "step_uuid"));
	snprintf(line, sizeof line, "%s, %s%s", json_text(s, "task_uuid"), json_text(s, "task_state"),
	         json_flag(s, "task_paused") ? ", paused" : "");
	ctl_fact(c, "task", line);
	snprintf(line, sizeof line, "%s, attempt %lld of %lld", json_text(s, "state"),
	         (long long)json_int(s, "attempts", 0), (long long)json_int(s, "max_attempts", 1));
	ctl_fact(c, "state", line);
	if (json_int(s, "pending_parents", 0) > 0) {
		snprintf(line, sizeof line, "%lld steps", (long long)json_int(s, "pending_parents", 0));
		ctl_fact(c, "waits for", line);
	}
	json_join(json_object_get(s, "depends_on"), &after);
	ctl_fact(c, "after", after.len ? buf_text(&after) : NULL);
	ctl_fact(c, "handler", json_text(s, "handler"));
	for (size_t i = 0; i < sizeof times / sizeof *times; i++)
		ctl_fact(c, times[i].title, json_text(s, times[i].key));
	ctl_fact_json(c, "inputs", json_object_get(s, "inputs"), true);
	ctl_fact_json(c, "checkpoint", json_object_get(s, "checkpoint"), true);
	ctl_fact_json(c, "result", json_object_get(s, "result"), true);
	print_error(c, json_object_get(s, "error"));
}

int run_step_get(struct ctl *c)
{
	cleanup_(cleanup_json) json_t *step = NULL;
	int code = ask(c, &step);
	if (code)
		return code;
	if (c->cli->json) {
		ctl_print_json(c, step, false);
		return EXIT_OK;
	}
	cleanup_(cleanup_json) json_t *steps = json_pack("[O]", step);
	steps_running_where(c, steps);
	print_step(c, step);
	return EXIT_OK;
}

int run_step_result(struct ctl *c)
{
	cleanup_(cleanup_json) json_t *step = NULL;
	int code = ask(c, &step);
	if (code)
		return code;
	const json_t *result = json_object_get(step, "result");
	const char *state = json_text(step, "state");
	if (strcmp(state, "complete") != 0 && strcmp(state, "resolved_manually") != 0)
		return ctl_fail(c, EXIT_NO, "step %s has no result: it is %s\nsee why with: taskerctl step get %s",
		                json_text(step, "name"), state, json_text(step, "step_uuid"));
	cleanup_(cleanup_json) json_t *null = json_null();
	ctl_print_json(c, result ? result : null, false);
	return EXIT_OK;
}

int run_step_logs(struct ctl *c)
{
	cleanup_(cleanup_json) json_t *step = NULL;
	int code = ask(c, &step);
	return code ? code : journal_show(c, json_text(step, "task_uuid"), json_text(step, "step_uuid"));
}

/* step get. */
#include <stdio.h>
#include <string.h>
#include "clients/taskerctl/operate.h"
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

static void put_fact(const struct ctl *c, const char *key, const char *value)
{
	cleanup_(cleanup_buf) struct buf b = {0};
	if (!value || !*value)
		return;
	buf_init(&b, 0);
	buf_printf(&b, "%-14s ", key);
	text_put(&b, value, c->width > 30 ? c->width - 15 : 0);
	buf_append_char(&b, '\n');
	ctl_write(&b);
}

static void put_json(const struct ctl *c, const char *key, const json_t *v)
{
	cleanup_(cleanup_free) char *text = v && !json_is_null(v) ? json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	put_fact(c, key, text);
}

static void print_step(const struct ctl *c, const json_t *s)
{
	static const struct {
		const char *title, *key;
	} times[] = {{"ready", "ready_at"}, {"started", "started_at"}, {"finished", "finished_at"}, {"retry", "retry_at"}, {"node", "node"}};
	cleanup_(cleanup_buf) struct buf after = {0};
	char line[600];
	buf_init(&after, 0);
	snprintf(line, sizeof line, "%s, %s", json_text(s, "name"), json_text(s, "type"));
	put_fact(c, "step", line);
	put_fact(c, "uuid", json_text(s, "step_uuid"));
	snprintf(line, sizeof line, "%s, %s%s", json_text(s, "task_uuid"), json_text(s, "task_state"), json_flag(s, "task_paused") ? ", paused" : "");
	put_fact(c, "task", line);
	snprintf(line, sizeof line, "%s, attempt %lld of %lld", json_text(s, "state"), (long long)json_int(s, "attempts", 0), (long long)json_int(s, "max_attempts", 1));
	put_fact(c, "state", line);
	if (json_int(s, "pending_parents", 0) > 0) {
		snprintf(line, sizeof line, "%lld steps", (long long)json_int(s, "pending_parents", 0));
		put_fact(c, "waits for", line);
	}
	json_join(json_object_get(s, "depends_on"), &after);
	put_fact(c, "after", after.len ? buf_text(&after) : NULL);
	put_fact(c, "handler", json_text(s, "handler"));
	for (size_t i = 0; i < sizeof times / sizeof *times; i++)
		put_fact(c, times[i].title, json_text(s, times[i].key));
	put_json(c, "inputs", json_object_get(s, "inputs"));
	put_json(c, "checkpoint", json_object_get(s, "checkpoint"));
	put_json(c, "result", json_object_get(s, "result"));
	put_json(c, "error", json_object_get(s, "error"));
}

int run_step_get(struct ctl *c)
{
	cleanup_(cleanup_json) json_t *step = NULL;
	int code = ask(c, &step);
	if (code)
		return code;
	if (c->cli->json)
		ctl_print_json(c, step, false);
	else
		print_step(c, step);
	return EXIT_OK;
}

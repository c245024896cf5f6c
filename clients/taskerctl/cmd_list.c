/* task list. */
#include <stdio.h>
#include <string.h>
#include "clients/taskerctl/ctl.h"
#include "clients/taskerctl/options.h"
#include "clients/taskerctl/text.h"
#include "daemon/base/clock.h"

#define PAGE_MAX 1000

static void add_task(struct table *t, const json_t *task)
{
	char age[24];
	int64_t created, finished = (int64_t)now_wall();
	const char *state = json_text(task, "state");
	bool known = json_time(task, "created_at", &created) == 0;
	table_cell(t, NULL, json_text(task, "task_uuid"));
	table_cellf(t, NULL, "%s/%s@%s", json_text(task, "namespace"), json_text(task, "name"),
	            json_text(task, "version"));
	table_cellf(t, state_colour(state), "%s%s", state, json_flag(task, "paused") ? ", paused" : "");
	table_cellf(t, NULL, "%lld/%lld", (long long)json_int(task, "completed_steps", 0),
	            (long long)json_int(task, "total_steps", 0));
	table_cell(t, NULL, json_age(task, "created_at", age));
	json_time(task, "finished_at", &finished);
	table_cell(t, NULL, known ? text_duration(finished > created ? finished - created : 0, age) : NULL);
}

static size_t have(const json_t *answer)
{
	return json_array_size(json_object_get(answer, "tasks"));
}

/* One page after the other into one answer, until `want` are there. A page may hold less than was asked for and still have a
 * next one: the daemon looks at so many tasks at a time. */
static int fetch_tasks(struct ctl *c, json_t *params, int64_t want, json_t **ret)
{
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

static int set_priorities(const struct ctl *c, json_t *params)
{
	const char *text = cli_get(c->cli, "priority");
	int64_t from, to;
	if (!text)
		return EXIT_OK;
	if (parse_range(text, -100, 100, &from, &to) < 0)
		return ctl_fail(c, EXIT_USAGE, "--priority: %s is no number from -100 to 100, and no range as 5.. or -10..10", text);
	json_object_set_new(params, "priority_min", json_integer(from));
	json_object_set_new(params, "priority_max", json_integer(to));
	return EXIT_OK;
}

/* What is asked for, as parameters of task.list. 0, or an exit code after having said why. */
static int list_params(const struct ctl *c, json_t *params)
{
	static const struct {
		const char *key, *option;
	} texts[] = {{"namespace", "namespace"}, {"name", "name"},     {"version", "template-version"},
	             {"tag", "tag"},             {"cursor", "cursor"}, {"correlation_id", "correlation-id"}},
	  times[] = {{"created_after", "after"}, {"created_before", "before"}, {"updated_after", "updated-after"}, {"updated_before", "updated-before"}};
	json_t *states = json_array();
	size_t pos = 0;
	for (const char *s; (s = cli_next(c->cli, "state", &pos));)
		json_array_append_new(states, json_string(s));
	if (json_array_size(states) == 1)
		json_object_set(params, "state", json_array_get(states, 0));
	else if (json_array_size(states) > 1)
		json_object_set(params, "states", states);
	json_decref(states);
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		json_set_option(params, texts[i].key, c->cli, texts[i].option);
	if (cli_has(c->cli, "paused"))
		json_object_set_new(params, "paused", json_true());
	int code = set_priorities(c, params);
	for (size_t i = 0; code == EXIT_OK && i < sizeof times / sizeof *times; i++)
		code = ctl_time_option(c, times[i].option, params, times[i].key);
	return code;
}

static void print_list(struct ctl *c, const json_t *answer)
{
	static const struct column cols[] = {
	    {"TASK", false, false}, {"TEMPLATE", false, true}, {"STATE", false, true},
	    {"STEPS", true, false}, {"AGE", true, false},      {"TOOK", true, false},
	};
	cleanup_(cleanup_table) struct table t = {0};
	size_t i;
	json_t *task;
	table_init(&t, cols, sizeof cols / sizeof *cols);
	json_array_foreach(json_object_get(answer, "tasks"), i, task) add_task(&t, task);
	if (table_rows(&t) == 0)
		ctl_note(c, "no tasks");
	else
		ctl_print_table(c, &t, 0);
}

int run_task_list(struct ctl *c)
{
	cleanup_(cleanup_json) json_t *params = json_object(), *answer = NULL;
	const char *limit = cli_get(c->cli, "limit");
	int64_t want = cli_has(c->cli, "all") ? INT64_MAX : 50;
	if (limit && parse_int(limit, 1, INT64_MAX, &want) < 0)
		return ctl_fail(c, EXIT_USAGE, "--limit: %s is not a number above 0", limit);
	int code = list_params(c, params);
	if (code == EXIT_OK)
		code = fetch_tasks(c, params, want, &answer);
	if (code)
		return code;
	if (c->cli->json)
		ctl_print_json(c, answer, false);
	else
		print_list(c, answer);
	const char *cursor = json_text(answer, "next_cursor");
	if (*cursor && !c->cli->json && c->out_tty)
		ctl_note(c, "there are more: --limit N, --all, or from here on: --cursor %s", cursor);
	return EXIT_OK;
}

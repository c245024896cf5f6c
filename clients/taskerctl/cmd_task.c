/* task get. */
#include <stdio.h>
#include <string.h>
#include "clients/taskerctl/list.h"
#include "clients/taskerctl/task_view.h"
#include "clients/taskerctl/text.h"

/* ---- get ---- */

static void put_list_fact(const struct ctl *c, const char *key, const json_t *list)
{
	cleanup_(cleanup_buf) struct buf b = {0};
	buf_init(&b, 0);
	json_join(list, &b);
	ctl_fact(c, key, b.len ? buf_text(&b) : NULL);
}

static void put_state(const struct ctl *c, const json_t *task)
{
	const char *state = json_text(task, "state"), *colour = c->colour ? state_colour(state) : NULL;
	ctl_say("%-14s %s%s%s%s%s%s  %lld of %lld steps complete\n", "state", colour ? "\033[" : "",
	        colour ? colour : "", colour ? "m" : "", state, colour ? "\033[0m" : "",
	        json_flag(task, "paused") ? ", paused" : "", (long long)json_int(task, "completed_steps", 0),
	        (long long)json_int(task, "total_steps", 0));
}

static void put_facts(const struct ctl *c, const json_t *task)
{
	static const struct {
		const char *title, *key;
	} texts[] = {
	    {"created", "created_at"},          {"begins", "run_at"},
	    {"updated", "updated_at"},
	    {"finished", "finished_at"},        {"initiator", "initiator"},
	    {"source system", "source_system"}, {"reason", "reason"},
	    {"correlation", "correlation_id"},  {"parent", "parent_correlation_id"},
	};
	char line[600];
	ctl_fact(c, "task", json_text(task, "task_uuid"));
	snprintf(line, sizeof line, "%s/%s@%s", json_text(task, "namespace"), json_text(task, "name"),
	         json_text(task, "version"));
	ctl_fact(c, "template", line);
	put_state(c, task);
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		ctl_fact(c, texts[i].title, json_text(task, texts[i].key));
	if (json_int(task, "priority", 0) != 0) {
		snprintf(line, sizeof line, "%lld", (long long)json_int(task, "priority", 0));
		ctl_fact(c, "priority", line);
	}
	put_list_fact(c, "tags", json_object_get(task, "tags"));
	ctl_fact_json(c, "context", json_object_get(task, "context"), false);
	put_list_fact(c, "no worker for", json_object_get(task, "missing_handlers"));
}

static void print_task(const struct ctl *c, const json_t *task)
{
	const json_t *steps = json_object_get(task, "steps");
	put_facts(c, task);
	list_print_below(c, list_steps.columns, steps);
	put_step_errors(steps, true);
}

static int check_uuids(const struct ctl *c, int n)
{
	for (int i = 0; i < n; i++)
		if (!is_uuid(c->cli->args[i]))
			return ctl_fail(c, EXIT_USAGE,
			                "%s is not the uuid of a task\nsee what there is with: taskerctl task list",
			                c->cli->args[i]);
	return EXIT_OK;
}

int task_uuid_args(const struct ctl *c)
{
	return check_uuids(c, c->cli->nargs);
}

int task_uuid_arg(const struct ctl *c)
{
	return check_uuids(c, 1);
}

#define STEPS_PAGE 1000

int get_whole_task(struct ctl *c, const char *uuid, json_t **ret)
{
	cleanup_(cleanup_json) json_t *task = NULL;
	int code = ctl_call(c, "task.get", json_pack("{s:s,s:i}", "task_uuid", uuid, "limit", STEPS_PAGE), &task);
	while (code == EXIT_OK && json_text(task, "next_cursor")[0]) {
		cleanup_(cleanup_json) json_t *page = NULL;
		code = ctl_call(c, "task.get",
		                json_pack("{s:s,s:i,s:s}", "task_uuid", uuid, "limit", STEPS_PAGE, "cursor",
		                          json_text(task, "next_cursor")),
		                &page);
		json_array_extend(json_object_get(task, "steps"), json_object_get(page, "steps"));
		json_object_del(task, "next_cursor");
		if (code == EXIT_OK)
			json_object_set(task, "next_cursor", json_object_get(page, "next_cursor"));
	}
	json_object_del(task, "next_cursor");
	if (code == EXIT_OK)
		*ret = json_incref(task);
	return code;
}

int run_task_get(struct ctl *c)
{
	cleanup_(cleanup_json) json_t *task = NULL;
	const char *uuid = c->cli->args[0];
	int code = task_uuid_args(c);
	if (code == EXIT_OK && cli_has(c->cli, "no-steps"))
		code = ctl_call(c, "task.get", json_pack("{s:s,s:b}", "task_uuid", uuid, "steps", 0), &task);
	else if (code == EXIT_OK)
		code = get_whole_task(c, uuid, &task);
	if (code == EXIT_OK && c->cli->output == OUTPUT_WIDE && json_object_get(task, "steps"))
		code = steps_where(c, uuid, json_object_get(task, "steps"));
	if (code)
		return code;
	if (c->cli->json)
		ctl_print_json(c, task, false);
	else
		print_task(c, task);
	if (!c->cli->json && !c->cli->quiet)
		task_next(c, task);
	return EXIT_OK;
}

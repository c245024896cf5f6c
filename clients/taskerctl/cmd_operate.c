/* What operators do to tasks and steps: one that is named, or all that a filter picks. */
#include "clients/taskerctl/operate.h"

#include <string.h>
#include "clients/taskerctl/cells.h"
#include "clients/taskerctl/list.h"
#include "clients/taskerctl/options.h"
#include "clients/taskerctl/task_view.h"
#include "clients/taskerctl/text.h"

/* ---- parameters ---- */

/* The options that pick, as the filter of a bulk action; NULL if none was given. 0, or an exit code after having said
 * why. */
static int filter_options(const struct ctl *c, json_t **ret)
{
	json_t *filter = json_object();
	int code = option_params(c, filter);
	/* A profile's namespace narrows what was picked; by itself it picks nothing. */
	if (json_object_size(filter) == 1 && !cli_has(c->cli, "namespace"))
		json_object_del(filter, "namespace");
	if (code == EXIT_OK && json_object_size(filter) > 0)
		*ret = json_incref(filter);
	json_decref(filter);
	return code;
}

void operate_by_whom(const struct ctl *c, json_t *params)
{
	json_set_option(params, "reason", c->cli, "reason");
	json_set_option(params, "operator", c->cli, "operator");
}

int operate_step_args(const struct ctl *c, json_t *params)
{
	if (!is_uuid(c->cli->args[0]))
		return ctl_fail(
			c, EXIT_USAGE,
			"%s is not a uuid: that of a step, or that of a task and the step's name, is expected\nsee the steps of a task with: taskerctl task get UUID",
			c->cli->args[0]);
	json_object_set_new(params, c->cli->nargs > 1 ? "task_uuid" : "step_uuid", json_string(c->cli->args[0]));
	if (c->cli->nargs > 1)
		json_object_set_new(params, "step", json_string(c->cli->args[1]));
	return EXIT_OK;
}

/* ---- many ---- */

static void cell_outcome(struct table *t, const json_t *item, const char *key)
{
	const char *outcome = json_text(item, key);
	table_cell(t, strcmp(outcome, "refused") == 0 ? "31" : NULL,
	           strcmp(outcome, "would_be_done") == 0 ? "would be done" : outcome);
}

static void cell_kind(struct table *t, const json_t *item, const char *key)
{
	table_cellf(t, NULL, "%s/%s", json_text(item, "namespace"), json_text(item, key));
}

#define RESULT                                                                                                         \
	{"STATE", 0, cell_state, "state"}, {"OUTCOME", 0, cell_outcome, "outcome"}, {"WHY", COL_SHRINK, cell_value, "message"}, NO_COLUMN

static const struct column tasks[] = {{"TASK", 0, cell_value, "task_uuid"},
                                      {"TEMPLATE", COL_SHRINK, cell_kind, "name"},
                                      RESULT};
static const struct column steps_of_tasks[] = {{"TASK", 0, cell_value, "task_uuid"},
                                               {"STEP", COL_SHRINK, cell_value, "step"},
                                               RESULT};

#define PAGE 500 /* what the daemon takes at a time if it is told nothing else */

/* Page after page, each a transaction of its own, into one answer; at most so many. */
static int ask_for_all(struct ctl *c, const char *method, json_t *params, int64_t most, json_t **ret)
{
	int64_t done = 0, refused = 0, left = most;
	for (bool more = true; more;) {
		cleanup_(cleanup_json) json_t *page = NULL;
		if (left < PAGE)
			json_object_set_new(params, "limit", json_integer(left));
		int code = ctl_call(c, method, json_deep_copy(params), &page);
		if (code) {
			if (*ret)
				ctl_note(c, "before that: %lld done, %lld refused", (long long)done,
				         (long long)refused);
			return code;
		}
		done += json_int(page, "done", 0);
		refused += json_int(page, "refused", 0);
		json_t *cursor = json_object_get(page, "next_cursor");
		left -= (int64_t)json_array_size(json_object_get(page, "items"));
		more = json_is_string(cursor) && left > 0;
		if (more)
			json_object_set(params, "cursor", cursor);
		if (!*ret)
			*ret = json_incref(page);
		else
			json_array_extend(json_object_get(*ret, "items"), json_object_get(page, "items"));
	}
	json_object_set_new(*ret, "done", json_integer(done));
	json_object_set_new(*ret, "refused", json_integer(refused));
	json_object_del(*ret, "next_cursor");
	return EXIT_OK;
}

static int print_many(struct ctl *c, const json_t *answer, bool steps)
{
	const json_t *items = json_object_get(answer, "items");
	size_t n = json_array_size(items);
	int64_t refused = json_int(answer, "refused", 0);
	if (c->cli->json)
		ctl_print_json(c, answer, false);
	else if (n > 0)
		list_print(c, steps ? steps_of_tasks : tasks, items);
	if (n == 0)
		ctl_note(c, "nothing fits these conditions");
	else if (json_flag(answer, "dry_run"))
		ctl_note(c, "%lld would be done, %lld refused; nothing was changed", (long long)((int64_t)n - refused),
		         (long long)refused);
	else
		ctl_note(c, "%lld done, %lld refused", (long long)json_int(answer, "done", 0), (long long)refused);
	return n == 0 ? EXIT_NOT_FOUND : refused > 0 ? EXIT_CONFLICT : EXIT_OK;
}

static int act_on_many(struct ctl *c, const char *method, const char *action, json_t *filter, json_t *result,
                       bool steps)
{
	int64_t most = INT64_MAX;
	cleanup_(cleanup_json) json_t *answer = NULL,
				      *params = json_pack("{s:s,s:O,s:b}", "action", action, "filter", filter,
	                                                  "dry_run", cli_has(c->cli, "dry-run"));
	operate_by_whom(c, params);
	if (result)
		json_object_set(params, "result", result);
	if (!cli_has(c->cli, "reason") && !cli_has(c->cli, "dry-run"))
		return ctl_fail(c, EXIT_USAGE, "why? --reason TEXT is needed");
	if (!cli_has(c->cli, "reason"))
		json_object_set_new(params, "reason", json_string("dry run"));
	int code = ctl_int_option(c, "limit", 1, INT32_MAX, &most);
	if (code == EXIT_OK)
		code = ask_for_all(c, method, params, most, &answer);
	return code ? code : print_many(c, answer, steps);
}

/* ---- one ---- */

static int print_one(struct ctl *c, const json_t *answer, bool step)
{
	if (c->cli->json)
		ctl_print_json(c, answer, false);
	else if (step)
		ctl_say("%s %s %s\n", json_text(answer, "step_uuid"), json_text(answer, "name"),
		        json_text(answer, "state"));
	else
		ctl_say("%s %s%s\n", json_text(answer, "task_uuid"), json_text(answer, "state"),
		        json_flag(answer, "paused") ? " paused" : "");
	return EXIT_OK;
}

static int act_on_one(struct ctl *c, const char *method, json_t *params, bool step)
{
	cleanup_(cleanup_json) json_t *answer = NULL;
	if (!cli_has(c->cli, "reason") && strcmp(method, "task.cancel") != 0) {
		json_decref(params);
		return ctl_fail(c, EXIT_USAGE, "why? --reason TEXT is needed");
	}
	operate_by_whom(c, params);
	int code = ctl_call(c, method, params, &answer);
	return code ? code : print_one(c, answer, step);
}

/* ---- verbs ---- */

int operate_redrive(struct ctl *c)
{
	cleanup_(cleanup_json) json_t *filter = NULL;
	int code = filter_options(c, &filter);
	if (code)
		return code;
	if (!filter)
		return ctl_fail(
			c, EXIT_USAGE,
			"which? name an entry or its task, or pick some by options (--all takes all that are open)\nsee what they have in common with: taskerctl dlq causes");
	if (!json_object_get(filter, "dlq"))
		json_object_set_new(filter, "dlq", json_string("any"));
	return act_on_many(c, "task.bulk_action", "retry", filter, NULL, false);
}

static int act_on_tasks(struct ctl *c, const char *action)
{
	cleanup_(cleanup_json) json_t *filter = NULL;
	int code = filter_options(c, &filter);
	if (code == EXIT_OK)
		code = task_uuid_args(c);
	if (code)
		return code;
	if (c->cli->nargs == 0 && !filter)
		return ctl_fail(
			c, EXIT_USAGE,
			"which tasks? name them, or pick them by options (--all takes all there are)\nsee what there is with: taskerctl task list");
	if (c->cli->nargs == 1 && !filter && !cli_has(c->cli, "dry-run")) {
		bool plain = strcmp(action, "cancel") == 0 && !cli_has(c->cli, "operator");
		json_t *params = json_pack("{s:s}", "task_uuid", c->cli->args[0]);
		if (!plain)
			json_object_set_new(params, "action", json_string(action));
		return act_on_one(c, plain ? "task.cancel" : "task.action", params, false);
	}
	if (!filter)
		filter = json_object();
	if (c->cli->nargs > 0) {
		json_t *uuids = json_array();
		for (int i = 0; i < c->cli->nargs; i++)
			json_array_append_new(uuids, json_string(c->cli->args[i]));
		json_object_set_new(filter, "task_uuids", uuids);
	}
	return act_on_many(c, "task.bulk_action", action, filter, NULL, false);
}

static int act_on_steps(struct ctl *c, const char *action)
{
	cleanup_(cleanup_json) json_t *filter = NULL, *result = NULL;
	bool wants = strcmp(action, "complete_manually") == 0;
	int code = filter_options(c, &filter);
	if (code == EXIT_OK && wants)
		code = ctl_json_option(c, "result", &result);
	if (code)
		return code;
	if (wants && !result)
		return ctl_fail(c, EXIT_USAGE, "which result? --result JSON is needed");
	if ((c->cli->nargs == 0) == (filter == NULL))
		return ctl_fail(c, EXIT_USAGE,
		                filter ? "name a step or pick some by options, not both"
		                       : "which steps? name one, or pick them by options (--all takes all there are)");
	if (filter)
		return act_on_many(c, "step.bulk_action", action, filter, result, true);
	if (cli_has(c->cli, "dry-run"))
		return ctl_fail(c, EXIT_USAGE,
		                "--dry-run is for steps picked by options\nsee this one with: taskerctl step get");
	json_t *params = json_pack("{s:s}", "action", action);
	if (result)
		json_object_set(params, "result", result);
	code = operate_step_args(c, params);
	if (code) {
		json_decref(params);
		return code;
	}
	return act_on_one(c, "step.action", params, true);
}

int run_task_cancel(struct ctl *c)
{
	return act_on_tasks(c, "cancel");
}

int run_task_retry(struct ctl *c)
{
	return act_on_tasks(c, "retry");
}

int run_task_resolve(struct ctl *c)
{
	return act_on_tasks(c, "resolve_manually");
}

int run_task_pause(struct ctl *c)
{
	return act_on_tasks(c, "pause");
}

int run_task_resume(struct ctl *c)
{
	return act_on_tasks(c, "resume");
}

int run_step_reset(struct ctl *c)
{
	return act_on_steps(c, "reset_for_retry");
}

int run_step_resolve(struct ctl *c)
{
	return act_on_steps(c, "resolve_manually");
}

int run_step_complete(struct ctl *c)
{
	return act_on_steps(c, "complete_manually");
}

int run_step_skip(struct ctl *c)
{
	return act_on_steps(c, "skip");
}

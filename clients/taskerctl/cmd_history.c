/* task history, step history, audit. */
#include "clients/taskerctl/cells.h"
#include "clients/taskerctl/dump.h"
#include "clients/taskerctl/list.h"
#include "clients/taskerctl/task_view.h"
#include "clients/taskerctl/text.h"

/* The lists of the later pages are put behind those of the first. */
static int fetch(struct ctl *c, json_t *params, json_t **ret)
{
	cleanup_(cleanup_json) json_t *all = NULL;
	for (;;) {
		cleanup_(cleanup_json) json_t *page = NULL;
		const char *key;
		json_t *list, *cursor;
		int code = ctl_call(c, "task.history", json_deep_copy(params), &page);
		if (code)
			return code;
		if (!all)
			all = json_incref(page);
		else
			json_object_foreach(page, key, list)
				if (json_is_array(list))
					json_array_extend(json_object_get(all, key), list);
		cursor = json_object_get(page, "next_cursor");
		if (!json_is_string(cursor))
			break;
		json_object_set(params, "cursor", cursor);
	}
	json_object_del(all, "next_cursor");
	*ret = TAKE_PTR(all);
	return EXIT_OK;
}

int history_fetch(struct ctl *c, json_t *params, json_t **ret)
{
	int code = fetch(c, params, ret);
	json_decref(params);
	return code;
}

static const struct column transitions[] = {
    {"AT", 0, cell_value, "at"},
    {"STATE", 0, cell_state, "to"},
    {"NODE", COL_SHRINK, cell_value, "node"},
    {"CAUSE", COL_SHRINK, cell_value, "cause"},
    {"FROM", COL_WIDE, cell_state, "from"},
    NO_COLUMN,
};

static const struct column attempts[] = {
    {"RECORDED", 0, cell_value, "recorded_at"},
    {"STEP", COL_SHRINK, cell_value, "step"},
    {"ATTEMPT", COL_RIGHT, cell_value, "attempt"},
    {"OUTCOME", 0, cell_state, "outcome"},
    {"TOOK", COL_RIGHT, cell_ms, "execution_ms"},
    {"NODE", COL_SHRINK, cell_value, "node"},
    {"ERROR", COL_SHRINK, cell_error, "error"},
    {"WORKER", COL_WIDE, cell_value, "worker_uuid"},
    {"READY", COL_WIDE, cell_value, "ready_at"},
    {"STARTED", COL_WIDE, cell_value, "started_at"},
    NO_COLUMN,
};

static const struct column actions[] = {
    {"AT", 0, cell_value, "at"},
    {"ACTION", 0, cell_value, "action"},
    {"STEP", COL_SHRINK, cell_value, "step"},
    {"FROM", 0, cell_value, "from"},
    {"TO", 0, cell_value, "to"},
    {"BY", COL_SHRINK, cell_who, NULL},
    {"REASON", COL_SHRINK, cell_value, "reason"},
    {"USER", COL_WIDE, cell_value, "user"},
    {"UID", COL_RIGHT | COL_WIDE, cell_value, "uid"},
    {"PID", COL_RIGHT | COL_WIDE, cell_value, "pid"},
    {"NODE", COL_WIDE, cell_value, "node"},
    NO_COLUMN,
};

int run_task_history(struct ctl *c)
{
	cleanup_(cleanup_json) json_t *params = json_pack("{s:s}", "task_uuid", c->cli->args[0]), *answer = NULL;
	int code = task_uuid_arg(c);
	if (code == EXIT_OK)
		code = fetch(c, params, &answer);
	if (code)
		return code;
	if (c->cli->json) {
		ctl_print_json(c, answer, false);
		return EXIT_OK;
	}
	list_print(c, transitions, json_object_get(answer, "transitions"));
	list_print_below(c, attempts, json_object_get(answer, "attempts"));
	list_print_below(c, actions, json_object_get(answer, "actions"));
	return EXIT_OK;
}

/* The task, or what else it was done to. */
static void cell_about(struct table *t, const json_t *a, const char *key)
{
	const json_t *task = json_object_get(a, key);
	cell_value(t, a, json_is_string(task) ? key : "to");
}

static const struct column audit[] = {
    {"AT", 0, cell_second, "at"},
    {"ACTION", 0, cell_value, "action"},
    {"NAMESPACE", COL_SHRINK, cell_value, "namespace"},
    {"ABOUT", 0, cell_about, "task_uuid"},
    {"STEP", COL_SHRINK, cell_value, "step"},
    {"BY", COL_SHRINK, cell_who, NULL},
    {"REASON", COL_SHRINK, cell_value, "reason"},
    {"FROM", COL_WIDE, cell_value, "from"},
    {"TO", COL_WIDE, cell_value, "to"},
    {"USER", COL_WIDE, cell_value, "user"},
    {"UID", COL_RIGHT | COL_WIDE, cell_value, "uid"},
    {"PID", COL_RIGHT | COL_WIDE, cell_value, "pid"},
    {"NODE", COL_WIDE, cell_value, "node"},
    {"HOST", COL_WIDE, cell_value, "host"},
    {"REQUEST", COL_WIDE, cell_value, "request"},
    NO_COLUMN,
};
const struct listing list_audit = {
	.columns = audit,
	.empty =
		"nothing fits; all that was done by hand: taskerctl audit; of an archived task: taskerctl task history UUID",
	.ask = list_ask_pages};

/* ---- steps ---- */

static void cell_note(struct table *t, const json_t *e, const char *key)
{
	const char *error = json_text(json_object_get(e, key), "message");
	table_cell(t, NULL, *error ? error : json_text(e, "reason"));
}

static void cell_attempt(struct table *t, const json_t *e, const char *key)
{
	if (json_int(e, key, 0) > 0)
		cell_value(t, e, key);
	else
		table_cell(t, NULL, NULL);
}

static int ask_events(struct ctl *c, json_t *params, json_t **ret)
{
	int code = task_uuid_arg(c);
	if (code)
		return code;
	json_object_set_new(params, "task_uuid", json_string(c->cli->args[0]));
	json_object_set_new(params, "step", json_string(c->cli->args[1]));
	return fetch(c, params, ret);
}

static const struct column events[] = {
    {"AT", 0, cell_value, "at"},
    {"STATE", 0, cell_state, "state"},
    {"EVENT", 0, cell_value, "event"},
    {"ATTEMPT", COL_RIGHT, cell_attempt, "attempt"},
    {"NODE", COL_SHRINK, cell_value, "node"},
    {"OUTCOME", 0, cell_value, "outcome"},
    {"NOTE", COL_SHRINK, cell_note, "error"},
    {"WORKER", COL_WIDE, cell_value, "worker_uuid"},
    {"TOOK", COL_RIGHT | COL_WIDE, cell_ms, "execution_ms"},
    {"ERROR TYPE", COL_WIDE, cell_value, "error.error_type"},
    NO_COLUMN,
};
const struct listing list_step_history = {.columns = events, .empty = "nothing has happened to it", .ask = ask_events};

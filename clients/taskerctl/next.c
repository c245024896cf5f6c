/* Why a task does not move, and the command to try next. */
#include <string.h>
#include "clients/taskerctl/task_view.h"
#include "clients/taskerctl/text.h"

static bool any_step(const json_t *task, const char *state)
{
	size_t i;
	json_t *s;
	json_array_foreach(json_object_get(task, "steps"), i, s)
		if (strcmp(json_text(s, "state"), state) == 0)
			return true;
	return false;
}

/* The namespace's own object if it is paused, else NULL; silent if nobody may tell. */
static json_t *paused_namespace(struct ctl *c, const json_t *task)
{
	cleanup_(cleanup_json) json_t *answer = NULL;
	struct tasker_error err = {0};
	size_t i;
	json_t *n;
	if (ctl_try(c, "namespace.list", NULL, &answer, &err) < 0)
		return NULL;
	json_array_foreach(json_object_get(answer, "namespaces"), i, n)
		if (json_flag(n, "paused") && strcmp(json_text(n, "namespace"), json_text(task, "namespace")) == 0)
			return json_incref(n);
	return NULL;
}

static void tell_paused_namespace(const struct ctl *c, const json_t *n)
{
	const char *name = json_text(n, "namespace"), *by = json_text(n, "operator");
	char age[24];
	ctl_note(
		c,
		"the namespace %s is paused, since %s ago by %s (%s): nothing of it starts; go on with: taskerctl namespace resume %s --reason TEXT",
		name, json_age(n, "changed_at", age), *by ? by : json_text(n, "user"), json_text(n, "reason"), name);
}

void task_next(struct ctl *c, const json_t *task)
{
	const char *uuid = json_text(task, "task_uuid"), *state = json_text(task, "state");
	cleanup_(cleanup_json) json_t *n = task_state_is_final(state) ? NULL : paused_namespace(c, task);
	if (n)
		tell_paused_namespace(c, n);
	if (json_flag(task, "paused"))
		ctl_note(
			c,
			"it is paused: see by whom and why with: taskerctl task history %s; go on with: taskerctl task resume %s --reason TEXT",
			uuid, uuid);
	if (strcmp(state, "blocked_by_failures") == 0)
		ctl_note(
			c,
			"nothing moves without you: mend the cause of the error, then: taskerctl task retry %s --reason TEXT; or see how to pass over a step with: taskerctl help step",
			uuid);
	else if (strcmp(state, "error") == 0)
		ctl_note(
			c,
			"see what happened with: taskerctl task history %s; try its failed steps again with: taskerctl task retry %s --reason TEXT",
			uuid, uuid);
	else if (strcmp(state, "pending") == 0 && *json_text(task, "run_at"))
		ctl_note(c, "it begins at %s", json_text(task, "run_at"));
	if (json_array_size(json_object_get(task, "missing_handlers")) > 0)
		ctl_note(
			c,
			"a step waits for a worker that offers its handler: see who is connected, and what could not be loaded, with: taskerctl worker list; how long it has waited: taskerctl queue list");
	if (!task_state_is_final(state) && any_step(task, "waiting_for_retry"))
		ctl_note(
			c,
			"a step waits for its next attempt: see the errors with: taskerctl task history %s; try it now with: taskerctl step reset %s STEP --reason TEXT",
			uuid, uuid);
}

void task_wait_next(const struct ctl *c, const char *uuid, int code)
{
	if (code == EXIT_TASK_BLOCKED || code == EXIT_TASK_ERROR)
		ctl_note(c, "see why, and what to do about it, with: taskerctl task get %s", uuid);
	else if (code == EXIT_TASK_CANCELLED)
		ctl_note(c, "see by whom and why with: taskerctl task history %s", uuid);
	else if (code == EXIT_TIMEOUT)
		ctl_note(
			c,
			"the task goes on; see what it waits for with: taskerctl task get %s, or watch it with: taskerctl task watch %s",
			uuid, uuid);
}

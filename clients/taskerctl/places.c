/* Where steps run, or ran last: what the history says, and of what runs now the workers of this node. */
#include <string.h>
#include "clients/taskerctl/dump.h"
#include "clients/taskerctl/task_view.h"

/* {step_uuid: {"node", "worker"}}; of a step with several attempts the last is left. */
static void put_place(json_t *places, const char *step, const char *node, const char *worker)
{
	json_object_set_new(places, step, json_pack("{s:s,s:s}", "node", node, "worker", worker));
}

/* A worker that is gone meanwhile runs nothing: what cannot be asked is left out. */
static void ask_worker(struct ctl *c, const json_t *worker, json_t *places)
{
	cleanup_(cleanup_json) json_t *answer = NULL;
	struct tasker_error err = {0};
	const char *uuid = json_text(worker, "worker_uuid"), *name = json_text(worker, "name");
	size_t i;
	json_t *s;
	if (json_int(worker, "open", 0) == 0 ||
	    ctl_try(c, "worker.get", json_pack("{s:s}", "worker_uuid", uuid), &answer, &err) < 0)
		return;
	json_array_foreach(json_object_get(answer, "running"), i, s)
		if (!json_flag(s, "ended"))
			put_place(places, json_text(s, "step_uuid"), json_text(worker, "node"), *name ? name : uuid);
}

static void ask_running(struct ctl *c, json_t *places)
{
	cleanup_(cleanup_json) json_t *answer = NULL;
	struct tasker_error err = {0};
	size_t i;
	json_t *w;
	if (ctl_try(c, "worker.list", NULL, &answer, &err) < 0)
		return;
	json_array_foreach(json_object_get(answer, "workers"), i, w) ask_worker(c, w, places);
}

static void put_places(const json_t *places, json_t *steps)
{
	size_t i;
	json_t *s;
	json_array_foreach(steps, i, s)
	{
		bool now = strcmp(json_text(s, "state"), "in_progress") == 0;
		json_t *place = json_object_get(places, json_text(s, "step_uuid"));
		if (place && (now || json_int(s, "attempts", 0) > 0))
			json_object_update(s, place);
	}
}

static bool any_runs(const json_t *steps)
{
	size_t i;
	json_t *s;
	json_array_foreach(steps, i, s) if (strcmp(json_text(s, "state"), "in_progress") == 0) return true;
	return false;
}

void steps_running_where(struct ctl *c, json_t *steps)
{
	cleanup_(cleanup_json) json_t *places = json_object();
	if (!any_runs(steps))
		return;
	ask_running(c, places);
	put_places(places, steps);
}

int steps_where(struct ctl *c, const char *task, json_t *steps)
{
	cleanup_(cleanup_json) json_t *history = NULL, *places = json_object();
	size_t i;
	json_t *a;
	int code = history_fetch(c, json_pack("{s:s}", "task_uuid", task), &history);
	if (code)
		return code;
	json_array_foreach(json_object_get(history, "attempts"), i, a)
		put_place(places, json_text(a, "step_uuid"), json_text(a, "node"), json_text(a, "worker_uuid"));
	put_places(places, steps);
	steps_running_where(c, steps);
	return EXIT_OK;
}

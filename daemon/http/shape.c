#include "daemon/http/shape.h"

#include <stdio.h>
#include <string.h>

#define EXTRAS_MAX 16
#define INSIDE_MAX 4

typedef void make_fn(const msgpack_object *o, struct buf *out);

struct shape {
	struct {
		const char *name;
		const char *from; /* of a member, without which it is not there either (NULL: of none): its value, or */
		make_fn *make;	  /* what this makes of the object */
	} extras[EXTRAS_MAX];
	struct {
		const char *name;
		const struct shape *shape;
	} inside[INSIDE_MAX];
};

static void put_text(const msgpack_object *o, const char *key, struct buf *out)
{
	const msgpack_object *v = mp_get(o, key);
	if (v)
		mp_object(out, v);
	else
		mp_nil(out);
}

/* Tasks ------------------------------------------------------------------------------------------------------------ */

static const struct {
	const char *status, *action, *health;
} executions[] = {{"blocked_by_failures", "handle_failures", "blocked"},
		  {"has_ready_steps", "execute_ready_steps", "healthy"},
		  {"processing", "wait_for_completion", "healthy"},
		  {"waiting_for_dependencies", "wait_for_dependencies", "healthy"},
		  {"all_complete", "none", "healthy"},
		  {"error", "none", "failed"},
		  {"cancelled", "none", "cancelled"}};

static void put_execution(const msgpack_object *task, bool action, struct buf *out)
{
	const msgpack_object *status = mp_get(task, "execution_status");
	for (size_t i = 0; status && i < sizeof executions / sizeof *executions; i++)
		if (mp_str_eq(status, executions[i].status)) {
			mp_str(out, action ? executions[i].action : executions[i].health);
			return;
		}
	mp_nil(out);
}

static void make_action(const msgpack_object *task, struct buf *out)
{
	put_execution(task, true, out);
}

static void make_health(const msgpack_object *task, struct buf *out)
{
	put_execution(task, false, out);
}

static void make_links(const msgpack_object *summary, struct buf *out)
{
	static const char *const links[][3] = {{"task", "tasks", ""},
	                                       {"steps", "tasks", "/workflow_steps"},
	                                       {"history", "tasks", "/history"},
	                                       {"events", "tasks", "/events"},
	                                       {"dlq", "dlq/task", ""}};
	const msgpack_object *task = mp_get(summary, "task");
	const char *uuid = "";
	size_t n = 0;
	char path[128];
	if (task)
		(void)!mp_get_str(task, "task_uuid", &uuid, &n);
	mp_map(out, sizeof links / sizeof *links);
	for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
		snprintf(path, sizeof path, "/v1/%s/%.*s%s", links[i][1], (int)n, uuid, links[i][2]);
		mp_str(out, links[i][0]);
		mp_str(out, path);
	}
}

/* Steps ------------------------------------------------------------------------------------------------------------ */

/* What became of it in one object; nil while nothing has. */
static void make_results(const msgpack_object *step, struct buf *out)
{
	const msgpack_object *state = mp_get(step, "state"), *result = mp_get(step, "result"),
			     *error = mp_get(step, "error");
	bool good = state && (mp_str_eq(state, "complete") || mp_str_eq(state, "resolved_manually"));
	if (!result && !error && !good) {
		mp_nil(out);
		return;
	}
	mp_map(out, 6);
	mp_str(out, "step_uuid");
	put_text(step, "step_uuid", out);
	mp_str(out, "success");
	mp_bool(out, good);
	mp_str(out, "status");
	mp_str(out, good ? "completed" : "failed");
	mp_str(out, "result");
	put_text(step, "result", out);
	mp_str(out, "error");
	put_text(step, good ? "" : "error", out);
	mp_str(out, "metadata");
	put_text(step, "metadata", out);
}

/* Dead letters ----------------------------------------------------------------------------------------------------- */

static void make_true(const msgpack_object *o, struct buf *out)
{
	(void)o;
	mp_bool(out, true);
}

static void make_message(const msgpack_object *entry, struct buf *out)
{
	const char *status = "";
	size_t n = 0;
	char text[96];
	(void)!mp_get_str(entry, "status", &status, &n);
	snprintf(text, sizeof text, "the entry is changed; its status is %.*s", (int)(n < 32 ? n : 32), status);
	mp_str(out, text);
}

/* Templates -------------------------------------------------------------------------------------------------------- */

static void make_count(const msgpack_object *list, struct buf *out)
{
	const msgpack_object *a = mp_get(list, "templates");
	mp_uint(out, a && a->type == MSGPACK_OBJECT_ARRAY ? a->via.array.size : 0);
}

/* They are in order of their namespaces. */
static void make_namespaces(const msgpack_object *list, struct buf *out)
{
	const msgpack_object *a = mp_get(list, "templates");
	size_t mark = mp_array_open(out), n = 0;
	for (uint32_t i = 0, from = 0; a && i < a->via.array.size; i++) {
		const msgpack_object *name = mp_get(&a->via.array.ptr[i], "namespace"),
				     *next = i + 1 < a->via.array.size ? mp_get(&a->via.array.ptr[i + 1], "namespace")
		                                                       : NULL;
		if (!name || (next && msgpack_object_equal(*next, *name)))
			continue;
		mp_map(out, 2);
		mp_str(out, "name");
		mp_object(out, name);
		mp_str(out, "template_count");
		mp_uint(out, i + 1 - from);
		from = i + 1;
		n++;
	}
	mp_array_close(out, mark, n);
}

/* The shapes ------------------------------------------------------------------------------------------------------- */

#define READINESS {"workflow_step_uuid", "step_uuid", NULL}, {"current_state", "state", NULL}, {"next_retry_at", "retry_at", NULL}, {"last_attempted_at", "started_at", NULL}, {"processed_at", "finished_at", NULL}
#define OF_A_TASK {"task_name", "name", NULL}, {"namespace_name", "namespace", NULL}
#define ENTRY                                                                                                                                                         \
	{"dlq_entry_uuid", "entry", NULL}, {"dlq_reason", "reason", NULL}, {"dlq_timestamp", "created_at", NULL}, {"resolution_status", "status", NULL},                    \
		{"resolution_notes", "notes", NULL}, {"resolution_timestamp", "resolved_at", NULL}, {"task_snapshot", "snapshot", NULL}, {"current_state", "task_state", NULL}, \
		{"minutes_in_dlq", "minutes_waiting", NULL}, OF_A_TASK

static const struct shape step_row = {.extras = {READINESS}};
const struct shape shape_step = {.extras = {READINESS, {"results", NULL, make_results}}};
const struct shape shape_task = {.extras = {{"completed_at", "finished_at", NULL},
                                            {"requested_at", "created_at", NULL},
                                            {"recommended_action", "execution_status", make_action},
                                            {"health_status", "execution_status", make_health}},
                                 .inside = {{"steps", &step_row}}};
const struct shape shape_tasks = {.inside = {{"tasks", &shape_task}}};
const struct shape shape_entry = {.extras = {ENTRY}};
const struct shape shape_summary = {.extras = {{"links", NULL, make_links}},
                                    .inside = {{"task", &shape_task}, {"steps", &step_row}, {"dlq", &shape_entry}}};
const struct shape shape_entry_changed = {
	.extras = {ENTRY, {"success", NULL, make_true}, {"message", NULL, make_message}}};
const struct shape shape_reason = {.extras = {{"dlq_reason", "reason", NULL},
                                              {"total_entries", "total", NULL},
                                              {"permanent_failures", "permanently_failed", NULL},
                                              {"oldest_entry", "oldest_at", NULL},
                                              {"newest_entry", "newest_at", NULL},
                                              {"avg_resolution_time_minutes", "mean_resolution_minutes", NULL}}};
const struct shape shape_stale = {.extras = {OF_A_TASK,
                                             {"current_state", "state", NULL},
                                             {"health_status", "health", NULL},
                                             {"staleness_threshold_minutes", "minutes", NULL}}};
const struct shape shape_redriven = {.inside = {{"entry", &shape_entry}, {"task", &shape_task}}};
const struct shape shape_template = {.extras = {{"configuration", "definition", NULL}}};
static const struct shape template_row = {.extras = {{"step_count", "steps", NULL}}};
const struct shape shape_templates = {.extras = {{"namespaces", NULL, make_namespaces},
                                                 {"total_count", NULL, make_count}},
                                      .inside = {{"templates", &template_row}}};

static bool has(const msgpack_object *map, const char *name)
{
	for (uint32_t i = 0; i < map->via.map.size; i++)
		if (mp_str_eq(&map->via.map.ptr[i].key, name))
			return true;
	return false;
}

static const struct shape *shape_of(const struct shape *shape, const msgpack_object *key)
{
	for (size_t i = 0; i < INSIDE_MAX && shape->inside[i].name; i++)
		if (mp_str_eq(key, shape->inside[i].name))
			return shape->inside[i].shape;
	return NULL;
}

/* What the object has by itself stays. Returns how many members were put. */
static size_t put_extras(const struct shape *shape, const msgpack_object *o, struct buf *out)
{
	size_t n = 0;
	for (size_t i = 0; i < EXTRAS_MAX && shape->extras[i].name; i++) {
		if (has(o, shape->extras[i].name) || (shape->extras[i].from && !has(o, shape->extras[i].from)))
			continue;
		mp_str(out, shape->extras[i].name);
		if (shape->extras[i].make)
			shape->extras[i].make(o, out);
		else
			put_text(o, shape->extras[i].from, out);
		n++;
	}
	return n;
}

static void put_map(const struct shape *shape, const msgpack_object *o, struct buf *out)
{
	size_t mark = mp_map_open(out);
	for (uint32_t i = 0; i < o->via.map.size; i++) {
		const msgpack_object_kv *kv = &o->via.map.ptr[i];
		mp_object(out, &kv->key);
		shape_put(shape_of(shape, &kv->key), &kv->val, out);
	}
	size_t more = put_extras(shape, o, out);
	mp_map_close(out, mark, o->via.map.size + more);
}

void shape_put(const struct shape *shape, const msgpack_object *o, struct buf *out)
{
	if (!shape || (o->type != MSGPACK_OBJECT_MAP && o->type != MSGPACK_OBJECT_ARRAY)) {
		mp_object(out, o);
	} else if (o->type == MSGPACK_OBJECT_MAP) {
		put_map(shape, o, out);
	} else {
		mp_array(out, o->via.array.size);
		for (uint32_t i = 0; i < o->via.array.size; i++)
			shape_put(shape, &o->via.array.ptr[i], out);
	}
}

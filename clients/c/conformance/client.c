/* The adapter as a client. */
#include "clients/c/conformance/adapter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tasker.h>

#define SHOWN "{\"task_uuid\":%v,\"name\":%v,\"namespace\":%v,\"status\":%v,\"context\":%v}"

static char *shown(const tasker_value *t)
{
	return tasker_jsonf(SHOWN, tasker_get(t, "task_uuid"), tasker_get(t, "name"),
	                    tasker_get(t, "namespace"), tasker_get(t, "state"), tasker_get(t, "context"));
}

/* An array with what `show` makes of each element. */
static char *each(const tasker_value *array, char *(*show)(const tasker_value *))
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	for (size_t i = 0; out && i < tasker_count(array); i++) {
		char *one = show(tasker_item(array, i));
		fprintf(out, "%s%s", i ? "," : "[", one ? one : "null");
		free(one);
	}
	if (out) {
		fputs(tasker_count(array) ? "]" : "[]", out);
		fclose(out);
	}
	return text;
}

/* A call: its arguments to its answer as JSON, or NULL with `err`. */
typedef char *call_fn(tasker *t, const tasker_value *args, struct tasker_error *err);

static const char *text_of(const tasker_value *args, const char *key, char *dst, size_t size)
{
	return tasker_copy(tasker_get(args, key), dst, size) > 0 ? dst : NULL;
}

static char *do_create(tasker *t, const tasker_value *args, struct tasker_error *err)
{
	char name[128], ns[128], key[256];
	const tasker_value *tags = tasker_get(args, "tags");
	char tag[64];
	const char *list[2] = {tasker_copy(tasker_item(tags, 0), tag, sizeof tag) ? tag : NULL, NULL};
	char *context = tasker_get(args, "context") ? tasker_json(tasker_get(args, "context")) : NULL;
	const struct tasker_task task = {.name = text_of(args, "name", name, sizeof name),
	                                 .namespace_name = text_of(args, "namespace", ns, sizeof ns),
	                                 .idempotency_key = text_of(args, "idempotency_key", key, sizeof key),
	                                 .context = context,
	                                 .tags = list};
	struct tasker_created made;
	int rc = tasker_task_create(t, &task, &made, err);
	free(context);
	return rc < 0 ? NULL : tasker_jsonf("{\"task_uuid\":%s}", made.task_uuid);
}

static char *do_get(tasker *t, const tasker_value *args, struct tasker_error *err)
{
	char uuid[64] = "";
	tasker_answer *a = NULL;
	text_of(args, "task_uuid", uuid, sizeof uuid);
	char *json = tasker_task_get(t, uuid, false, &a, err) < 0 ? NULL : shown(tasker_answer_value(a));
	tasker_answer_free(a);
	return json;
}

static char *do_list(tasker *t, const tasker_value *args, struct tasker_error *err)
{
	char ns[128];
	const struct tasker_query q = {.namespace_name = text_of(args, "namespace", ns, sizeof ns),
	                               .limit = (int)tasker_int(tasker_get(args, "limit"), 0)};
	tasker_answer *a = NULL;
	if (tasker_task_list(t, &q, &a, err) < 0)
		return NULL;
	char *list = each(tasker_get(tasker_answer_value(a), "tasks"), shown);
	char *json = tasker_jsonf("{\"tasks\":%j}", list);
	free(list);
	tasker_answer_free(a);
	return json;
}

static char *shown_step(const tasker_value *s)
{
	return tasker_jsonf("{\"name\":%v,\"current_state\":%v}", tasker_get(s, "name"),
	                    tasker_get(s, "state"));
}

static char *do_steps(tasker *t, const tasker_value *args, struct tasker_error *err)
{
	char uuid[64] = "";
	tasker_answer *a = NULL;
	text_of(args, "task_uuid", uuid, sizeof uuid);
	if (tasker_task_get(t, uuid, true, &a, err) < 0)
		return NULL;
	char *json = each(tasker_get(tasker_answer_value(a), "steps"), shown_step);
	tasker_answer_free(a);
	return json;
}

static char *do_wait(tasker *t, const tasker_value *args, struct tasker_error *err)
{
	char uuid[64] = "";
	struct tasker_settled end;
	text_of(args, "task_uuid", uuid, sizeof uuid);
	int ms = (int)(tasker_double(tasker_get(args, "timeout"), 30) * 1000);
	return tasker_task_wait(t, uuid, ms, &end, err) < 0 ? NULL : do_get(t, args, err);
}

static char *do_cancel(tasker *t, const tasker_value *args, struct tasker_error *err)
{
	char uuid[64] = "";
	text_of(args, "task_uuid", uuid, sizeof uuid);
	return tasker_task_cancel(t, uuid, NULL, NULL, err) < 0 ? NULL : strdup("{}");
}

static char *do_health(tasker *t, const tasker_value *args, struct tasker_error *err)
{
	char *json = NULL;
	(void)args;
	if (tasker_call_json(t, "ping", NULL, 10000, &json, err) < 0)
		return NULL;
	free(json);
	return strdup("{\"healthy\":true}");
}

static char *do_request(tasker *t, const tasker_value *args, struct tasker_error *err)
{
	char method[128] = "", *json = NULL, *params = tasker_json(tasker_get(args, "params"));
	text_of(args, "method", method, sizeof method);
	tasker_call_json(t, method, params, 60000, &json, err);
	free(params);
	return json;
}

static const struct {
	const char *name;
	call_fn *fn;
} calls[] = {{"create_task", do_create},    {"get_task", do_get},       {"list_tasks", do_list},
             {"list_task_steps", do_steps}, {"wait_for_task", do_wait}, {"cancel_task", do_cancel},
             {"health_check", do_health},   {"request", do_request}};

static char *do_call(const tasker_value *line, const char *socket, struct tasker_error *err)
{
	char name[64], other[256];
	const struct tasker_options o = {.socket_path =
	                                     text_of(line, "socket", other, sizeof other) ? other : socket};
	tasker *t = NULL;
	char *json = NULL;
	tasker_copy(tasker_get(line, "call"), name, sizeof name);
	if (tasker_connect(&t, &o, err) < 0)
		return NULL;
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		if (strcmp(name, calls[i].name) == 0)
			json = calls[i].fn(t, tasker_get(line, "args"), err);
	tasker_close(t);
	return json;
}

static bool is_retryable(const struct tasker_error *e)
{
	static const char *const codes[] = {"overloaded",  "database_unavailable", "shutting_down",
	                                    "unreachable", "connection_lost",      "timeout"};
	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
		if (strcmp(e->code, codes[i]) == 0)
			return true;
	return false;
}

int run_client(const char *socket)
{
	char *line = NULL;
	size_t size = 0;
	while (getline(&line, &size, stdin) > 0) {
		struct tasker_error err = {0};
		tasker_answer *call = NULL;
		char *json = tasker_parse(line, &call, &err) < 0
		                 ? NULL
		                 : do_call(tasker_answer_value(call), socket, &err);
		char *out = json
		                ? tasker_jsonf("{\"ok\":%j}", json)
		                : tasker_jsonf(
		                      "{\"error\":{\"code\":%s,\"message\":%s,\"path\":%s,\"retryable\":%b}}",
		                      err.code, err.message, err.path, is_retryable(&err));
		puts(out ? out : "{\"error\":{\"code\":\"internal\",\"message\":\"no JSON\"}}");
		fflush(stdout);
		free(out);
		free(json);
		tasker_answer_free(call);
	}
	free(line);
	return 0;
}

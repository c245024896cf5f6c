/* task restore: a new task from a dump, put where the old one was. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "clients/taskerctl/dump.h"
#include "clients/taskerctl/input.h"
#include "clients/taskerctl/operate.h"

static int read_dump(const struct ctl *c, const char *path, json_t **ret)
{
	cleanup_(cleanup_buf) struct buf b = {0};
	json_error_t why;
	buf_init(&b, 1u << 30);
	int rc = input_read(path, &b);
	if (rc < 0)
		return ctl_fail(c, EXIT_NO, "%s cannot be read: %s", input_name(path), strerrordesc_np(-rc));
	*ret = json_loadb((const char *)b.data, b.len, JSON_REJECT_DUPLICATES, &why);
	if (!*ret)
		return ctl_fail(c, EXIT_NO, "%s: not JSON: %s (line %d, column %d)", input_name(path), why.text,
		                why.line, why.column);
	if (strcmp(json_text(*ret, "format"), DUMP_FORMAT) != 0)
		return ctl_fail(c, EXIT_NO, "%s is no dump of a task\nmake one with: taskerctl task dump UUID >FILE",
		                input_name(path));
	if (json_int(*ret, "format_version", 0) != DUMP_VERSION)
		return ctl_fail(
			c, EXIT_NO,
			"%s is of version %lld of the format; this taskerctl reads version %d: use the one that wrote it, %s",
			input_name(path), (long long)json_int(*ret, "format_version", 0), DUMP_VERSION,
			json_text(*ret, "taskerctl"));
	if (!json_is_object(json_object_get(json_object_get(*ret, "template"), "definition")) ||
	    !json_is_array(json_object_get(json_object_get(*ret, "task"), "steps")))
		return ctl_fail(c, EXIT_NO, "%s lacks template.definition or task.steps", input_name(path));
	return EXIT_OK;
}

/* The template under its own name in the other namespace. One with this version and other content there is a
 * conflict. */
static int apply_template(struct ctl *c, const json_t *dump, const char *space)
{
	cleanup_(cleanup_json)
		json_t *definition = json_deep_copy(json_object_get(json_object_get(dump, "template"), "definition")),
		       *answer = NULL;
	json_object_del(definition, "namespace");
	json_object_set_new(definition, "namespace_name", json_string(space));
	cleanup_(cleanup_free) char *source = json_dumps(definition, JSON_COMPACT | JSON_REAL_PRECISION(17));
	if (!source)
		return ctl_fail(c, EXIT_NO, "out of memory");
	return ctl_call(c, "template.apply",
	                json_pack("{s:s,s:s}", "source", source, "filename", "the dump's template"), &answer);
}

static int make_task(struct ctl *c, const json_t *dump, const char *space, json_t **ret)
{
	static const char *const kept[] = {"context", "priority", "tags"};
	const json_t *task = json_object_get(dump, "task");
	json_t *params = json_pack("{s:s,s:s,s:s,s:s}", "namespace", space, "name", json_text(task, "name"), "version",
	                           json_text(task, "version"), "correlation_id", json_text(task, "task_uuid"));
	for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
		if (json_object_get(task, kept[i]) && !json_is_null(json_object_get(task, kept[i])))
			json_object_set(params, kept[i], json_object_get(task, kept[i]));
	operate_by_whom(c, params);
	return ctl_call(c, "task.restore", params, ret);
}

/* ---- steps ---- */

static bool is_done(const json_t *step)
{
	const char *state = json_text(step, "state");
	return strcmp(state, "complete") == 0 || strcmp(state, "resolved_manually") == 0;
}

static const json_t *find_step(const json_t *steps, const char *name)
{
	size_t i;
	json_t *s;
	json_array_foreach(steps, i, s) if (strcmp(json_text(s, "name"), name) == 0) return s;
	return NULL;
}

/* All that `step` depends on in some way, each looked at once: {name: true}. A dump is a file, and may say anything. */
static json_t *ancestors(const json_t *steps, const char *step)
{
	cleanup_(cleanup_json) json_t *parents = json_object(), *queue = json_array();
	json_t *found = json_object(), *s;
	size_t i, k;
	json_array_foreach(steps, i, s)
		json_object_set(parents, json_text(s, "name"), json_object_get(s, "depends_on"));
	json_array_append_new(queue, json_string(step));
	for (i = 0; i < json_array_size(queue); i++) {
		json_t *parent, *of = json_object_get(parents, json_string_value(json_array_get(queue, i)));
		json_array_foreach(of, k, parent)
		{
			const char *name = json_string_value(parent);
			if (!name || json_object_get(found, name))
				continue;
			json_object_set_new(found, name, json_true());
			json_array_append(queue, parent);
		}
	}
	json_object_del(found, step);
	return found;
}

/* Should the step be done from the start? With --before STEP only what that one needs (`needed`); with --state start
 * nothing. */
static bool keeps(const struct ctl *c, const json_t *needed, const json_t *s)
{
	const char *state = cli_get(c->cli, "state");
	if (!is_done(s) || (state && strcmp(state, "start") == 0))
		return false;
	return !needed || json_object_get(needed, json_text(s, "name"));
}

/* One step as it was: with its result, or resolved if it had none. */
static int finish_step(struct ctl *c, const char *task, const json_t *s)
{
	cleanup_(cleanup_json) json_t *answer = NULL;
	const json_t *result = json_object_get(s, "result");
	bool has = result && !json_is_null(result);
	json_t *params = json_pack("{s:s,s:s,s:s}", "task_uuid", task, "step", json_text(s, "name"), "action",
	                           has ? "complete_manually" : "resolve_manually");
	if (has)
		json_object_set_new(params, "result", json_deep_copy(result));
	operate_by_whom(c, params);
	return ctl_call(c, "step.action", params, &answer);
}

static int first_done_first(const void *a, const void *b)
{
	const json_t *x = *(const json_t *const *)a, *y = *(const json_t *const *)b;
	int order = strcmp(json_text(x, "finished_at"), json_text(y, "finished_at"));
	return order ? order : strcmp(json_text(x, "step_uuid"), json_text(y, "step_uuid"));
}

/* In the order in which they were done: no step is before one that it depends on, and what decisions and batches make
 * exists by then. */
static int finish_steps(struct ctl *c, const json_t *dump, const char *task, size_t *ret_done)
{
	const json_t *steps = json_object_get(json_object_get(dump, "task"), "steps");
	const char *before = cli_get(c->cli, "before");
	cleanup_(cleanup_json) json_t *needed = before ? ancestors(steps, before) : NULL;
	cleanup_(cleanup_free) const json_t **sorted = calloc(json_array_size(steps) + 1, sizeof *sorted);
	size_t i, n = 0;
	json_t *s;
	if (!sorted)
		return ctl_fail(c, EXIT_NO, "out of memory");
	json_array_foreach(steps, i, s) if (keeps(c, needed, s)) sorted[n++] = s;
	qsort(sorted, n, sizeof *sorted, first_done_first);
	for (i = 0; i < n; i++) {
		int code = finish_step(c, task, sorted[i]);
		if (code)
			return code;
		++*ret_done;
	}
	return EXIT_OK;
}

/* ---- the verb ---- */

static int check_usage(const struct ctl *c, const json_t *dump)
{
	const char *before = cli_get(c->cli, "before");
	if (before && cli_get(c->cli, "state"))
		return ctl_fail(c, EXIT_USAGE, "--before STEP is a state of its own: leave --state out");
	if (before && !find_step(json_object_get(json_object_get(dump, "task"), "steps"), before))
		return ctl_fail(c, EXIT_NOT_FOUND, "the dump has no step %s", before);
	return EXIT_OK;
}

static int go_on(struct ctl *c, const char *task, json_t **ret)
{
	json_t *params = json_pack("{s:s,s:s}", "task_uuid", task, "action", "resume");
	operate_by_whom(c, params);
	json_decref(*ret);
	*ret = NULL;
	return ctl_call(c, "task.action", params, ret);
}

int run_task_restore(struct ctl *c)
{
	cleanup_(cleanup_json) json_t *dump = NULL, *task = NULL;
	const char *space = cli_get(c->cli, "namespace");
	size_t done = 0;
	if (!space || !cli_has(c->cli, "reason"))
		return ctl_fail(c, EXIT_USAGE,
		                space ? "why? --reason TEXT is needed"
		                      : "into which namespace? --namespace NAME is needed");
	int code = read_dump(c, c->cli->args[0], &dump);
	if (code == EXIT_OK)
		code = check_usage(c, dump);
	if (code == EXIT_OK)
		code = apply_template(c, dump, space);
	if (code == EXIT_OK)
		code = make_task(c, dump, space, &task);
	if (code)
		return code;
	cleanup_(cleanup_free) char *uuid = strdup(json_text(task, "task_uuid"));
	code = uuid ? finish_steps(c, dump, uuid, &done) : EXIT_NO;
	if (code == EXIT_OK && cli_has(c->cli, "run"))
		code = go_on(c, uuid, &task);
	else if (code == EXIT_OK)
		ctl_note(c, "%zu steps are done; the task is paused: go on with taskerctl task resume %s --reason TEXT",
		         done, uuid);
	else
		ctl_note(c, "the task %s is there, paused, with %zu steps done", uuid, done);
	if (code)
		return code;
	if (c->cli->json)
		ctl_print_json(c, task, false);
	else
		ctl_say("%s\n", uuid);
	return EXIT_OK;
}

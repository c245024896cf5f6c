/* task create: one task; of many see cmd_bulk.c. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "clients/taskerctl/bulk.h"
#include "clients/taskerctl/options.h"
#include "clients/taskerctl/task_view.h"
#include "clients/taskerctl/text.h"
#include "daemon/base/clock.h"

/* ---- parameters from options ---- */

static int set_priority(const struct ctl *c, json_t *params)
{
	const char *text = cli_get(c->cli, "priority");
	int64_t v;
	if (!text)
		return EXIT_OK;
	if (parse_int(text, -100, 100, &v) < 0)
		return ctl_fail(c, EXIT_USAGE, "--priority: %s is not a number from -100 to 100", text);
	json_object_set_new(params, "priority", json_integer(v));
	return EXIT_OK;
}

/* A time, or "+" and a duration from now. */
static int set_run_at(const struct ctl *c, json_t *params)
{
	const char *text = cli_get(c->cli, "run-at");
	return text ? ctl_set_time(c, params, "run_at", "run-at", text) : EXIT_OK;
}

static void set_tags(const struct ctl *c, json_t *params)
{
	size_t pos = 0;
	json_t *tags = json_array();
	for (const char *t; (t = cli_next(c->cli, "tag", &pos));)
		json_array_append_new(tags, json_string(t));
	if (json_array_size(tags) > 0)
		json_object_set(params, "tags", tags);
	json_decref(tags);
}

/* What all tasks of this command have in common. 0, or an exit code after having said why. */
static int common_params(const struct ctl *c, json_t *params)
{
	static const struct {
		const char *key, *option;
	} texts[] = {
	    {"initiator", "initiator"},
	    {"source_system", "source-system"},
	    {"reason", "reason"},
	    {"correlation_id", "correlation-id"},
	    {"parent_correlation_id", "parent-correlation-id"},
	    {"traceparent", "traceparent"},
	    {"tracestate", "tracestate"},
	};
	struct template_ref ref;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		json_set_option(params, texts[i].key, c->cli, texts[i].option);
	set_tags(c, params);
	if (c->cli->nargs > 0) {
		int code = ctl_template_ref(c, c->cli->args[0], &ref);
		if (code)
			return code;
		json_object_set_new(params, "namespace", json_string(ref.space));
		json_object_set_new(params, "name", json_string(ref.name));
		if (*ref.version)
			json_object_set_new(params, "version", json_string(ref.version));
	}
	int code = set_run_at(c, params);
	return code ? code : set_priority(c, params);
}

/* The context option: JSON text, @FILE or -. */
static int set_context(const struct ctl *c, json_t *params)
{
	json_t *v = NULL;
	int code = ctl_json_option(c, "context", &v);
	if (code || !v)
		return code;
	if (!json_is_object(v)) {
		json_decref(v);
		return ctl_fail(c, EXIT_USAGE, "--context: a JSON object is expected");
	}
	json_object_set_new(params, "context", v);
	return EXIT_OK;
}

/* ---- one task ---- */

static int wait_for_one(struct ctl *c, const char *uuid, json_t *answer)
{
	struct waited w = {.uuid = uuid};
	int code = task_wait_all(c, &w, 1, c->cli->timeout_ms, NULL, NULL);
	if (w.answer)
		json_object_update(answer, w.answer);
	if (w.err.rc < 0)
		json_object_set_new(answer, "error", ctl_error_json(c, &w.err, NULL));
	if (code == EXIT_OK && w.err.rc < 0)
		code = ctl_complain(c, uuid, &w.err);
	else if (code == EXIT_OK)
		code = task_waited_code(&w);
	json_decref(w.answer);
	return code;
}

static int create_one(struct ctl *c, json_t *params)
{
	cleanup_(cleanup_json) json_t *answer = NULL;
	int code = ctl_call(c, "task.create", params, &answer);
	if (code)
		return code;
	cleanup_(cleanup_free) char *uuid = strdup(json_text(answer, "task_uuid"));
	bool wait = cli_has(c->cli, "wait");
	if (!c->cli->json && !wait)
		ctl_say("%s\n", uuid ? uuid : "");
	if (!json_flag(answer, "created"))
		ctl_note(c, "this task was there already");
	else if (c->err_tty && !wait)
		ctl_note(c, "follow it with: taskerctl task watch %s", uuid ? uuid : "UUID");
	if (wait && uuid) {
		code = wait_for_one(c, uuid, answer);
		json_object_set_new(answer, "exit_code", json_integer(code));
	}
	if (c->cli->json)
		ctl_print_json(c, answer, false);
	else if (wait)
		ctl_say("%s %s\n", uuid ? uuid : "", json_text(answer, "state"));
	if (wait && uuid)
		task_wait_next(c, uuid, code);
	return code;
}

/* ---- the verb ---- */

static int check_usage(const struct ctl *c, bool many)
{
	static const char *const single[] = {"context", "key"}, *const bulk[] = {"batch", "format", "delimiter",
	                                                                         "from-line", "outcomes"};
	if (!many && c->cli->nargs == 0)
		return ctl_fail(
			c, EXIT_USAGE,
			"which template? NS/NAME[@VERSION] is needed\nsee what there is with: taskerctl template list");
	for (size_t i = 0; many && i < sizeof single / sizeof *single; i++)
		if (cli_has(c->cli, single[i]))
			return ctl_fail(c, EXIT_USAGE, "--%s cannot be the same for all lines of --from%s",
			                single[i], i == 1 ? ": put idempotency_key into the lines" : "");
	for (size_t i = 0; !many && i < sizeof bulk / sizeof *bulk; i++)
		if (cli_has(c->cli, bulk[i]))
			return ctl_fail(c, EXIT_USAGE, "--%s is for tasks of a file: --from FILE is needed", bulk[i]);
	return EXIT_OK;
}

int run_task_create(struct ctl *c)
{
	cleanup_(cleanup_json) json_t *params = json_object();
	const char *from = cli_get(c->cli, "from");
	int code = check_usage(c, from != NULL);
	if (code == EXIT_OK)
		code = common_params(c, params);
	if (code == EXIT_OK && from)
		return create_many(c, params, from);
	if (code == EXIT_OK)
		code = set_context(c, params);
	if (code)
		return code;
	json_set_option(params, "idempotency_key", c->cli, "key");
	return create_one(c, json_incref(params));
}

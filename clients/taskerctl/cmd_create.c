/* task create: one task, or one for each line of a file. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "clients/taskerctl/input.h"
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
	if (wait && uuid)
		code = wait_for_one(c, uuid, answer);
	if (c->cli->json)
		ctl_print_json(c, answer, false);
	else if (wait)
		ctl_say("%s %s\n", uuid ? uuid : "", json_text(answer, "state"));
	if (code == EXIT_TIMEOUT)
		ctl_note(c, "the task goes on; watch it with: taskerctl task watch %s", uuid ? uuid : "UUID");
	return code;
}

/* ---- many ---- */

#define CHUNKS_IN_FLIGHT 4

/* Line numbers of the tasks of one request, in order; an answer has the same order. */
struct chunk {
	struct bulk *bulk;
	json_t *tasks;
	size_t bytes, n;
	unsigned long lines[]; /* tasker_max_bulk of them */
};

struct bulk {
	struct ctl *c;
	const char *source;
	const json_t *common;
	struct chunk *chunk; /* being filled */
	size_t open;
	unsigned long created, existing, failed;
	int code; /* of the first line that failed */
	unsigned long code_line;
	json_t *results;
	struct waited *tasks; /* for --wait */
	size_t ntasks, cap;
	struct tasker_error lost;
};

static void fail_line(struct bulk *b, unsigned long line, const char *code, const char *message)
{
	char about[300];
	struct tasker_error err = {.rc = -EREMOTEIO};
	snprintf(about, sizeof about, "%s:%lu", b->source, line);
	snprintf(err.code, sizeof err.code, "%s", code);
	snprintf(err.message, sizeof err.message, "%s", message);
	int exit = b->failed++ < 20 ? ctl_complain(b->c, about, &err) : (int)exit_code_for(&err);
	if (b->code == EXIT_OK || line < b->code_line) {
		b->code = exit;
		b->code_line = line;
	}
}

static void keep_for_wait(struct bulk *b, const char *uuid)
{
	if (b->ntasks == b->cap) {
		size_t cap = b->cap ? b->cap * 2 : 256;
		struct waited *t = reallocarray(b->tasks, cap, sizeof *t);
		if (!t)
			return;
		b->tasks = t;
		b->cap = cap;
	}
	b->tasks[b->ntasks++] = (struct waited){.uuid = strdup(uuid)};
}

static void take_result(struct bulk *b, json_t *r, unsigned long line)
{
	const json_t *error = json_object_get(r, "error");
	json_array_append(b->results, r);
	if (error) {
		fail_line(b, line, json_text(error, "code"), json_text(error, "message"));
		return;
	}
	if (json_flag(r, "created"))
		b->created++;
	else
		b->existing++;
	if (!b->c->cli->json)
		ctl_say("%s\n", json_text(r, "task_uuid"));
	if (cli_has(b->c->cli, "wait"))
		keep_for_wait(b, json_text(r, "task_uuid"));
}

static void on_chunk(void *arg, const tasker_value *result, const struct tasker_error *err)
{
	struct chunk *k = arg;
	struct bulk *b = k->bulk;
	b->open--;
	if (err && err->rc != -EREMOTEIO)
		b->lost = *err;
	cleanup_(cleanup_json) json_t *answer = result ? json_from_value(result) : NULL;
	const json_t *results = json_object_get(answer, "results");
	for (size_t i = 0; i < k->n && (err == NULL || err->rc == -EREMOTEIO); i++) {
		json_t *r = json_array_get(results, i);
		if (err)
			fail_line(b, k->lines[i], err->code, err->message);
		else if (r)
			take_result(b, r, k->lines[i]);
		else
			fail_line(b, k->lines[i], "protocol_error", "taskerd's answer lacks this task");
	}
	json_decref(k->tasks);
	free(k);
}

/* Process until at most `n` requests are open. */
static void settle(struct bulk *b, size_t n)
{
	struct tasker_error err = {0};
	while (b->lost.rc == 0 && b->open > n)
		if (tasker_process(b->c->conn, -1, &err) < 0 && b->lost.rc == 0)
			b->lost = err;
}

static void send_chunk(struct bulk *b)
{
	struct chunk *k = b->chunk;
	if (!k || b->lost.rc < 0)
		return;
	b->chunk = NULL;
	json_t *params = json_pack("{s:O}", "tasks", k->tasks);
	if (ctl_send(b->c, "task.create_many", params, on_chunk, k, &b->lost) < 0) {
		json_decref(k->tasks);
		free(k);
		return;
	}
	b->open++;
	settle(b, CHUNKS_IN_FLIGHT - 1);
}

static void add_task(struct bulk *b, json_t *task, size_t bytes, unsigned long line)
{
	size_t max = tasker_max_bulk(b->c->conn);
	if (b->chunk && (b->chunk->n == max || b->chunk->bytes + bytes > tasker_max_frame(b->c->conn) / 2))
		send_chunk(b);
	if (!b->chunk && b->lost.rc == 0) {
		b->chunk = calloc(1, sizeof *b->chunk + max * sizeof *b->chunk->lines);
		if (!b->chunk) {
			b->lost = (struct tasker_error){
			    .rc = -ENOMEM, .code = "out_of_memory", .message = "out of memory"};
		} else {
			b->chunk->bulk = b;
			b->chunk->tasks = json_array();
		}
	}
	if (!b->chunk) {
		json_decref(task);
		return;
	}
	json_array_append_new(b->chunk->tasks, task);
	b->chunk->bytes += bytes;
	b->chunk->lines[b->chunk->n++] = line;
}

static void take_line(struct bulk *b, const char *text, size_t len, unsigned long line)
{
	json_error_t why;
	char message[300];
	if (strspn(text, " \t\r\n") == len)
		return;
	json_t *v = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
	if (!v || !json_is_object(v)) {
		snprintf(message, sizeof message, "not a JSON object: %s", v ? "an array" : why.text);
		fail_line(b, line, "invalid_value", message);
		json_decref(v);
		return;
	}
	json_t *task = json_deep_copy(b->common);
	if (b->c->cli->nargs > 0)
		json_object_set(task, "context", v);
	else
		json_object_update(task, v);
	json_decref(v);
	/* The options make a task larger than its line. */
	add_task(b, task, len + 512, line);
}

static int read_lines(struct bulk *b, const char *path)
{
	cleanup_(cleanup_free) char *text = NULL;
	size_t cap = 0;
	unsigned long line = 0;
	ssize_t n;
	FILE *f = input_open(path);
	if (!f)
		return ctl_fail(b->c, EXIT_NO, "%s: cannot be read: %s", path, strerrordesc_np(errno));
	while (b->lost.rc == 0 && (n = getline(&text, &cap, f)) >= 0)
		take_line(b, text, (size_t)n, ++line);
	input_close(f);
	send_chunk(b);
	settle(b, 0);
	return b->lost.rc < 0 ? ctl_error(b->c, &b->lost) : EXIT_OK;
}

static void release_bulk(struct bulk *b)
{
	if (b->open > 0) /* their callbacks point to this frame */
		b->c->conn = tasker_close(b->c->conn);
	if (b->chunk)
		json_decref(b->chunk->tasks);
	free(b->chunk);
	for (size_t i = 0; i < b->ntasks; i++) {
		cleanup_(cleanup_free) char *uuid = NULL;
		memcpy(&uuid, &b->tasks[i].uuid, sizeof uuid); /* ours, though waited.uuid is const */
		json_decref(b->tasks[i].answer);
	}
	free(b->tasks);
	json_decref(b->results);
}

static int wait_for_many(struct bulk *b)
{
	size_t complete = 0;
	int worst = EXIT_OK,
	    code = task_wait_all(b->c, b->tasks, b->ntasks, b->c->cli->timeout_ms, NULL, NULL);
	for (size_t i = 0; i < b->ntasks; i++) {
		int one = task_waited_code(&b->tasks[i]);
		complete += one == EXIT_OK;
		if (worst == EXIT_OK)
			worst = one;
	}
	ctl_note(b->c, "%zu of %zu tasks complete", complete, b->ntasks);
	return code ? code : worst;
}

static int create_many(struct ctl *c, const json_t *common, const char *path)
{
	struct bulk b = {.c = c, .source = input_name(path), .common = common, .results = json_array()};
	int code = ctl_connect(c);
	if (code == EXIT_OK)
		code = read_lines(&b, path);
	if (code == EXIT_OK && c->cli->json) {
		cleanup_(cleanup_json) json_t *j = json_pack("{s:O}", "results", b.results);
		ctl_print_json(c, j, false);
	}
	if (code == EXIT_OK)
		ctl_note(c, "%lu created, %lu there already, %lu failed", b.created, b.existing, b.failed);
	if (code == EXIT_OK && cli_has(c->cli, "wait"))
		code = wait_for_many(&b);
	if (code == EXIT_OK)
		code = b.code;
	release_bulk(&b);
	return code;
}

/* ---- the verb ---- */

static int check_usage(const struct ctl *c, bool many)
{
	static const char *const single[] = {"context", "key"};
	if (!many && c->cli->nargs == 0)
		return ctl_fail(c, EXIT_USAGE,
		                "which template? usage: taskerctl task create NS/NAME[@VERSION] [OPTIONS]");
	for (size_t i = 0; many && i < sizeof single / sizeof *single; i++)
		if (cli_has(c->cli, single[i]))
			return ctl_fail(c, EXIT_USAGE, "--%s cannot be the same for all lines of --from%s",
			                single[i], i == 1 ? ": put idempotency_key into the lines" : "");
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

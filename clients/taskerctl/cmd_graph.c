/* template graph, task tree. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "clients/taskerctl/graph.h"
#include "clients/taskerctl/task_view.h"
#include "clients/taskerctl/input.h"
#include "clients/taskerctl/text.h"
#include "daemon/base/clock.h"

/* ---- template graph ---- */

static bool looks_like_file(const char *s)
{
	static const char *const ends[] = {".yaml", ".yml", ".json"};
	size_t n = strlen(s);
	if (strcmp(s, "-") == 0 || access(s, F_OK) == 0)
		return true;
	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
		if (n > strlen(ends[i]) && strcmp(s + n - strlen(ends[i]), ends[i]) == 0)
			return true;
	return false;
}

static int template_from_file(const struct ctl *c, const char *path, struct template **ret)
{
	cleanup_(cleanup_buf) struct buf source = {0}, text = {0};
	const struct template_opts opts = {.environment = cli_get(c->cli, "environment"), .draft = true};
	struct findings f = {0};
	buf_init(&source, INPUT_MAX);
	buf_init(&text, 0);
	int rc = input_read(path, &source);
	if (rc < 0)
		return ctl_fail(c, EXIT_NO, "%s: cannot be read: %s", input_name(path), strerrordesc_np(-rc));
	rc = template_parse((const char *)source.data, source.len, &opts, ret, &f);
	if (rc < 0 && findings_to_text(&f, input_name(path), &text) == 0)
		ctl_warn("%s", buf_text(&text));
	findings_done(&f);
	return rc < 0 ? ctl_fail(c, EXIT_NO, "%s is not a template that can be drawn", input_name(path))
	              : EXIT_OK;
}

static int get_template(struct ctl *c, const char *space, const char *name, const char *version,
                        struct template **ret)
{
	cleanup_(cleanup_json) json_t *answer = NULL;
	json_t *params = json_pack("{s:s,s:s,s:s*}", "namespace", space, "name", name, "version",
	                           *version ? version : NULL);
	int code = ctl_call(c, "template.get", params, &answer);
	return code ? code : graph_template_of(c, answer, ret);
}

int run_template_graph(struct ctl *c)
{
	cleanup_(cleanup_template) struct template *t = NULL;
	struct template_ref ref;
	enum drawing how;
	int code = graph_format_option(c, &how);
	if (code)
		return code;
	if (looks_like_file(c->cli->args[0]))
		code = template_from_file(c, c->cli->args[0], &t);
	else
		code = ctl_template_ref(c, c->cli->args[0], &ref)
		               ?: get_template(c, ref.space, ref.name, ref.version, &t);
	return code ? code : graph_draw(c, t, NULL, how);
}

/* ---- task tree ---- */

/* "1.20s, attempt 2/3", "next attempt in 4.00s". */
static void make_label(const json_t *s, char *dst, size_t size)
{
	int64_t started, finished, retry, now = (int64_t)now_wall();
	int64_t attempts = json_int(s, "attempts", 0), max = json_int(s, "max_attempts", 1);
	char took[24] = "", wait[24], again[64] = "", tries[64] = "";
	bool began = json_time(s, "started_at", &started) == 0;
	if (began && json_time(s, "finished_at", &finished) == 0)
		text_duration(finished - started, took);
	else if (began && strcmp(json_text(s, "state"), "in_progress") == 0)
		text_duration(now - started, took);
	if (attempts > 1)
		snprintf(tries, sizeof tries, "%sattempt %lld/%lld", *took ? ", " : "", (long long)attempts,
		         (long long)max);
	if (strcmp(json_text(s, "state"), "waiting_for_retry") == 0 && json_time(s, "retry_at", &retry) == 0)
		snprintf(again, sizeof again, "%snext attempt in %s", *took || *tries ? ", " : "",
		         text_duration(retry > now ? retry - now : 0, wait));
	snprintf(dst, size, "%s%s%s", took, tries, again);
}

static const json_t *step_named(const json_t *steps, const char *name)
{
	size_t i;
	json_t *s;
	json_array_foreach(steps, i, s) if (strcmp(json_text(s, "name"), name) == 0) return s;
	return NULL;
}

#define LABEL_MAX 160

static int draw_task(const struct ctl *c, const json_t *task, const struct template *t, enum drawing how)
{
	size_t n = template_step_count(t);
	cleanup_(cleanup_free) struct graph_state *states = calloc(n + 1, sizeof *states);
	cleanup_(cleanup_free) char *labels = calloc(n + 1, LABEL_MAX);
	if (!states || !labels)
		return ctl_fail(c, EXIT_NO, "out of memory");
	for (size_t i = 0; i < n; i++) {
		const json_t *s = step_named(json_object_get(task, "steps"), template_step_name(t, i));
		char *label = labels + i * LABEL_MAX;
		if (!s)
			continue;
		make_label(s, label, LABEL_MAX);
		states[i] =
		    (struct graph_state){.state = json_text(s, "state"), .label = *label ? label : NULL};
	}
	return graph_draw(c, t, states, how);
}

static void print_task_line(const struct ctl *c, const json_t *task)
{
	int64_t created, finished;
	char took[24] = "";
	const char *state = json_text(task, "state"), *colour = c->colour ? state_colour(state) : NULL;
	if (json_time(task, "created_at", &created) == 0)
		text_duration(
		    (json_time(task, "finished_at", &finished) == 0 ? finished : (int64_t)now_wall()) -
		        created,
		    took);
	ctl_say("%s/%s@%s  %s%s%s%s%s  %lld of %lld steps  %s\n\n", json_text(task, "namespace"),
	       json_text(task, "name"), json_text(task, "version"), colour ? "\033[" : "",
	       colour ? colour : "", colour ? "m" : "", state, colour ? "\033[0m" : "",
	       (long long)json_int(task, "completed_steps", 0), (long long)json_int(task, "total_steps", 0),
	       took);
}

int run_task_tree(struct ctl *c)
{
	cleanup_(cleanup_template) struct template *t = NULL;
	cleanup_(cleanup_json) json_t *task = NULL;
	enum drawing how;
	int code = graph_format_option(c, &how);
	if (code)
		return code;
	code = task_uuid_arg(c);
	if (code)
		return code;
	code = get_whole_task(c, c->cli->args[0], &task);
	if (code)
		return code;
	if (c->cli->json) {
		ctl_print_json(c, task, false);
		return EXIT_OK;
	}
	code = get_template(c, json_text(task, "namespace"), json_text(task, "name"),
	                    json_text(task, "version"), &t);
	if (code)
		return code;
	if (how == DRAW_TEXT && !cli_has(c->cli, "output") && !c->cli->quiet)
		print_task_line(c, task);
	code = draw_task(c, task, t, how);
	if (code == EXIT_OK && how == DRAW_TEXT && !cli_has(c->cli, "output") && json_int(task, "failed_steps", 0) > 0)
		put_step_errors(json_object_get(task, "steps"), true);
	return code;
}

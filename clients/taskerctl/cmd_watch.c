/* task watch: a task object, then events. On a terminal they change the object, which is drawn again and
 * again as one block; otherwise each is a line. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "clients/taskerctl/list.h"
#include "clients/taskerctl/task_view.h"
#include "clients/taskerctl/text.h"
#include "daemon/base/clock.h"

#define REDRAW_US 100000
#define BAR_WIDTH 24

struct watch {
	struct ctl *c;
	const char *uuid;
	json_t *task;  /* as the events have left it; NULL until the daemon has answered */
	json_t *early; /* events that came before the task itself was looked at */
	bool live, changed, ended, blocked;
	size_t lines; /* drawn, to be drawn over */
};

/* ---- what events do to the task ---- */

static json_t *find_step(const json_t *task, const json_t *event)
{
	const char *uuid = json_text(event, "step_uuid"), *name = json_text(event, "step");
	size_t i;
	json_t *s;
	json_array_foreach(json_object_get(task, "steps"), i,
	                   s) if (*uuid ? strcmp(json_text(s, "step_uuid"), uuid) == 0
	                                : strcmp(json_text(s, "name"), name) == 0) return s;
	return NULL;
}

static void apply_to_step(json_t *s, const json_t *e)
{
	const char *state = json_text(e, "state");
	json_t *at = json_object_get(e, "at");
	json_object_set_new(s, "state", json_string(state));
	if (json_object_get(e, "attempt"))
		json_object_set(s, "attempts", json_object_get(e, "attempt"));
	if (strcmp(state, "in_progress") == 0 && at) {
		json_object_set(s, "started_at", at);
		json_object_del(s, "finished_at");
	} else if (strcmp(state, "enqueued") != 0 && strcmp(state, "pending") != 0 && at) {
		json_object_set(s, "finished_at", at);
	}
	if (json_object_get(e, "error"))
		json_object_set(s, "error", json_object_get(e, "error"));
}

/* Steps that appear while the task runs are added as they come. */
static void apply_event(struct watch *w, const json_t *e)
{
	if (strcmp(json_text(e, "kind"), "task") == 0) {
		json_object_set_new(w->task, "state", json_string(json_text(e, "state")));
		if (task_state_is_final(json_text(e, "state")) && json_object_get(e, "at"))
			json_object_set(w->task, "finished_at", json_object_get(e, "at"));
	} else {
		json_t *s = find_step(w->task, e), *steps = json_object_get(w->task, "steps");
		if (!s && steps) {
			json_array_append_new(steps, json_pack("{s:s,s:s}", "name", json_text(e, "step"),
			                                       "step_uuid", json_text(e, "step_uuid")));
			s = json_array_get(steps, json_array_size(steps) - 1);
		}
		if (s)
			apply_to_step(s, e);
	}
	w->changed = true;
}

static void look_for_end(struct watch *w)
{
	const char *state = json_text(w->task, "state");
	w->blocked = strcmp(state, "blocked_by_failures") == 0;
	w->ended = task_state_is_final(state) || (w->blocked && !cli_has(w->c->cli, "follow"));
}

/* ---- lines ---- */

static void print_event(const struct watch *w, const json_t *e)
{
	cleanup_(cleanup_buf) struct buf b = {0};
	const char *state = json_text(e, "state"), *colour = w->c->colour ? state_colour(state) : NULL;
	const json_t *error = json_object_get(e, "error");
	const char *message = json_is_string(error) ? json_string_value(error) : json_text(error, "message");
	buf_init(&b, 0);
	size_t width = text_put(&b, json_text(e, "at"), 0);
	buf_printf(&b, "%*s", width < 28 ? (int)(28 - width) : 1, "");
	text_put(&b, strcmp(json_text(e, "kind"), "task") == 0 ? "task" : json_text(e, "step"), 0);
	buf_printf(&b, " %s%s%s", colour ? "\033[" : "", colour ? colour : "", colour ? "m" : "");
	text_put(&b, state, 0);
	buf_append_str(&b, colour ? "\033[0m" : "");
	if (json_int(e, "attempt", 0) > 0)
		buf_printf(&b, " attempt %lld", (long long)json_int(e, "attempt", 0));
	if (*json_text(e, "outcome")) {
		buf_append_char(&b, ' ');
		text_put(&b, json_text(e, "outcome"), 0);
	}
	if (*message) {
		buf_append_str(&b, ": ");
		text_put(&b, message, 200);
	}
	buf_append_char(&b, '\n');
	ctl_write(&b);
}

static void show_event(const struct watch *w, json_t *e)
{
	if (w->c->cli->json) {
		json_object_set_new(e, "task_uuid", json_string(w->uuid));
		ctl_print_json(w->c, e, true);
	} else if (!w->live) {
		print_event(w, e);
	}
	(void)ctl_flush();
}

static void take_events(struct watch *w)
{
	size_t i;
	json_t *e;
	json_array_foreach(w->early, i, e)
	{
		apply_event(w, e);
		show_event(w, e);
	}
	json_array_clear(w->early);
	look_for_end(w);
}

static void on_event(void *arg, const char *method, const tasker_value *params)
{
	struct watch *w = arg;
	if (strcmp(method, "task.event") != 0)
		return;
	cleanup_(cleanup_json) json_t *p = json_from_value(params);
	size_t i;
	json_t *e;
	if (strcmp(json_text(p, "task_uuid"), w->uuid) != 0)
		return;
	json_array_foreach(json_object_get(p, "events"), i, e) json_array_append(w->early, e);
	if (w->task)
		take_events(w);
}

/* ---- the block ---- */

struct tally {
	long long total, done, running, waiting, failed;
};

static struct tally count(const json_t *task)
{
	struct tally t = {0};
	size_t i;
	json_t *s;
	json_array_foreach(json_object_get(task, "steps"), i, s)
	{
		const char *state = json_text(s, "state");
		t.total++;
		t.done += exit_code_for_state(state) == EXIT_OK;
		t.running += strcmp(state, "in_progress") == 0;
		t.waiting += strcmp(state, "waiting_for_retry") == 0;
		t.failed += strcmp(state, "error") == 0;
	}
	return t;
}

static void put_head(const struct watch *w, struct buf *b, int64_t now)
{
	const json_t *task = w->task;
	struct tally n = count(task);
	const char *state = json_text(task, "state"), *colour = w->c->colour ? state_colour(state) : NULL;
	int64_t created = now, end = now;
	char took[24];
	json_time(task, "created_at", &created);
	json_time(task, "finished_at", &end);
	text_put(b, json_text(task, "namespace"), 0);
	buf_append_char(b, '/');
	text_put(b, json_text(task, "name"), 0);
	buf_printf(b, " %s\n", w->uuid);
	progress_bar(b, n.done, n.total, BAR_WIDTH);
	buf_printf(b, " %s%s%s", colour ? "\033[" : "", colour ? colour : "", colour ? "m" : "");
	text_put(b, state, 0);
	buf_printf(b, "%s  %lld/%lld", colour ? "\033[0m" : "", n.done, n.total);
	if (n.running)
		buf_printf(b, "  %lld running", n.running);
	if (n.waiting)
		buf_printf(b, "  %lld waiting for retry", n.waiting);
	if (n.failed)
		buf_printf(b, "  %lld failed", n.failed);
	buf_printf(b, "  %s\n", text_duration(end > created ? end - created : 0, took));
}

/* The steps that fit: if not all do, those that are done give way first, then the last ones. */
static json_t *steps_to_show(const json_t *steps, size_t room)
{
	json_t *shown = json_array(), *s;
	size_t i, n = json_array_size(steps), left_out = 0;
	json_array_foreach(steps, i, s)
	{
		bool done = exit_code_for_state(json_text(s, "state")) == EXIT_OK;
		if (n - left_out > room && done)
			left_out++;
		else if (json_array_size(shown) < room)
			json_array_append(shown, s);
	}
	return shown;
}

static size_t count_lines(const struct buf *b)
{
	size_t n = 0;
	for (size_t i = 0; i < b->len; i++)
		n += b->data[i] == '\n';
	return n;
}

static void draw(struct watch *w)
{
	cleanup_(cleanup_buf) struct buf b = {0};
	cleanup_(cleanup_table) struct table t = {0};
	int64_t now = (int64_t)now_wall();
	buf_init(&b, 0);
	ctl_measure(w->c);
	const struct table_style style = {.width = w->c->width - 1, .colour = w->c->colour, .indent = 2};
	const json_t *steps = json_object_get(w->task, "steps");
	/* Two lines of head, one for what is left out, one for the cursor. */
	cleanup_(cleanup_json) json_t *shown = steps_to_show(steps, w->c->height > 5 ? w->c->height - 4 : 1);
	if (w->lines > 0)
		buf_printf(&b, "\033[%zuA\033[J", w->lines);
	put_head(w, &b, now);
	table_init(&t, list_steps.columns);
	table_fill(&t, shown);
	if (table_rows(&t) > 0)
		table_render(&t, &style, &b);
	if (json_array_size(shown) < json_array_size(steps))
		buf_printf(&b, "  and %zu more\n", json_array_size(steps) - json_array_size(shown));
	w->lines = count_lines(&b);
	ctl_write(&b);
	(void)ctl_flush();
	w->changed = false;
}

/* ---- the verb ---- */

static int follow(struct watch *w, uint64_t deadline)
{
	struct tasker_error err = {0};
	uint64_t drawn = 0;
	while (!w->ended) {
		uint64_t now = now_mono();
		/* Timers on the screen run even when nothing happens. */
		if (w->live && (now - drawn >= USEC_PER_SEC || (w->changed && now - drawn >= REDRAW_US))) {
			draw(w);
			drawn = now;
		}
		if (deadline && now >= deadline) {
			ctl_note(w->c, "not settled yet; the task goes on");
			return EXIT_TIMEOUT;
		}
		int64_t wait = w->live ? REDRAW_US : -1;
		if (deadline && (wait < 0 || (uint64_t)wait > deadline - now))
			wait = (int64_t)(deadline - now);
		if (tasker_process(w->c->conn, wait, &err) < 0 && !w->ended)
			return ctl_error(w->c, &err);
	}
	return EXIT_OK;
}

static void print_snapshot(const struct watch *w)
{
	const char *state = json_text(w->task, "state");
	if (w->c->cli->json) {
		cleanup_(cleanup_json) json_t *line =
		    json_pack("{s:s,s:s,s:O}", "kind", "snapshot", "task_uuid", w->uuid, "task", w->task);
		ctl_print_json(w->c, line, true);
	} else if (!w->live) {
		const char *at = json_text(w->task, "updated_at");
		ctl_say("%-27s task %s\n", *at ? at : "-", state);
	}
	(void)ctl_flush();
}

static void conclude(struct watch *w)
{
	if (w->live)
		draw(w);
	if (w->blocked)
		ctl_note(w->c, "blocked by failures: nothing moves without an operator");
}

/* With --json the last line says what the exit code says. */
static void print_end(const struct watch *w, int code)
{
	cleanup_(cleanup_json) json_t *line =
		json_pack("{s:s,s:s,s:O,s:b,s:i}", "kind", "end", "task_uuid", w->uuid, "state",
	                  json_object_get(w->task, "state"), "settled", w->ended, "exit_code", code);
	if (w->c->cli->json)
		ctl_print_json(w->c, line, true);
}

int run_task_watch(struct ctl *c)
{
	struct watch w = {.c = c, .live = c->out_tty && !c->cli->json, .uuid = c->cli->args[0]};
	uint64_t deadline = c->cli->timeout_ms >= 0 ? now_mono() + (uint64_t)c->cli->timeout_ms * 1000 : 0;
	int code = task_uuid_args(c);
	if (code == EXIT_OK)
		code = ctl_connect(c);
	if (code)
		return code;
	w.early = json_array();
	tasker_on_notification(c->conn, on_event, &w);
	code = ctl_call(c, "task.watch", json_pack("{s:s}", "task_uuid", w.uuid), &w.task);
	if (code == EXIT_OK) {
		print_snapshot(&w);
		take_events(&w);
		code = follow(&w, deadline);
	}
	if (code == EXIT_OK) {
		conclude(&w);
		code = (int)exit_code_for_state(json_text(w.task, "state"));
	}
	if (w.task && (w.ended || code == EXIT_TIMEOUT)) {
		print_end(&w, code);
		task_wait_next(c, w.uuid, code);
	}
	tasker_on_notification(c->conn, NULL, NULL);
	json_decref(w.early);
	json_decref(w.task);
	return code;
}

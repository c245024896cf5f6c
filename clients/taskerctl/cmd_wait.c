/* task wait: the requests for all tasks are open side by side, each for a minute at a time, so that a daemon
 * that forgets one does not leave it hanging for ever. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "clients/taskerctl/task_view.h"
#include "daemon/base/clock.h"

#define ROUND_MS 60000
#define OPEN_MAX_WAITS 1000

struct waiting {
	struct ctl *c;
	uint64_t deadline_us; /* 0: none */
	size_t open;
	bool late; /* one was not settled by the deadline */
	struct tasker_error lost;
	void (*on_settled)(void *, const struct waited *);
	void *arg;
};

struct one {
	struct waiting *all;
	struct waited *task;
};

static void ask(struct waiting *w, struct waited *task);

static void on_answer(void *arg, const tasker_value *result, const struct tasker_error *err)
{
	struct one *o = arg;
	struct waiting *w = o->all;
	struct waited *task = o->task;
	free(o);
	w->open--;
	json_decref(task->answer);
	task->answer = result ? json_from_value(result) : NULL;
	task->settled = json_flag(task->answer, "settled");
	if (err)
		task->err = *err;
	if (err && err->rc != -EREMOTEIO)
		w->lost = *err;
	else if (err || task->settled) {
		if (w->on_settled)
			w->on_settled(w->arg, task);
	} else {
		ask(w, task);
	}
}

static void ask(struct waiting *w, struct waited *task)
{
	uint64_t now = now_mono();
	int64_t ms = ROUND_MS;
	struct one *o;
	if (w->deadline_us) {
		int64_t left = w->deadline_us > now ? (int64_t)((w->deadline_us - now) / 1000) : 0;
		/* The first request is sent even without time left: it may be settled already. */
		if (left == 0 && task->answer) {
			w->late = true;
			return;
		}
		ms = left < 1 ? 1 : left < ROUND_MS ? left : ROUND_MS;
	}
	o = malloc(sizeof *o);
	if (!o) {
		w->lost =
		    (struct tasker_error){.rc = -ENOMEM, .code = "out_of_memory", .message = "out of memory"};
		return;
	}
	*o = (struct one){.all = w, .task = task};
	json_t *params = json_pack("{s:s,s:I}", "task_uuid", task->uuid, "timeout_ms", (json_int_t)ms);
	if (ctl_send(w->c, "task.wait", params, on_answer, o, &w->lost) < 0)
		free(o);
	else
		w->open++;
}

/* The connection is lost: those that are not settled have this error. */
static int give_up(const struct ctl *c, struct waited *tasks, size_t n, const struct tasker_error *lost)
{
	for (size_t i = 0; i < n; i++)
		if (!tasks[i].settled && tasks[i].err.rc == 0)
			tasks[i].err = *lost;
	return ctl_complain(c, NULL, lost);
}

int task_wait_all(struct ctl *c, struct waited *tasks, size_t n, int64_t timeout_ms,
                  void (*on_settled)(void *arg, const struct waited *w), void *arg)
{
	struct waiting w = {.c = c, .on_settled = on_settled, .arg = arg};
	struct tasker_error err = {0};
	size_t next = 0;
	if (timeout_ms >= 0)
		w.deadline_us = now_mono() + (uint64_t)timeout_ms * 1000;
	while (w.lost.rc == 0 && (w.open > 0 || next < n)) {
		while (w.lost.rc == 0 && next < n && w.open < OPEN_MAX_WAITS)
			ask(&w, &tasks[next++]);
		if (w.lost.rc == 0 && w.open > 0 && tasker_process(c->conn, 1000000, &err) < 0 &&
		    w.lost.rc == 0)
			w.lost = err;
		/* A daemon that does not keep to timeout_ms is not waited for much longer. */
		if (w.deadline_us && now_mono() > w.deadline_us + 5 * USEC_PER_SEC) {
			w.late = true;
			break;
		}
	}
	struct tasker_error lost = w.lost;
	if (w.open > 0) /* their callbacks point to this frame */
		c->conn = tasker_close(c->conn);
	if (lost.rc < 0)
		return give_up(c, tasks, n, &lost);
	return w.late ? EXIT_TIMEOUT : EXIT_OK;
}

int task_waited_code(const struct waited *w)
{
	if (w->err.rc < 0)
		return (int)exit_code_for(&w->err);
	return w->settled ? (int)exit_code_for_state(json_text(w->answer, "state")) : (int)EXIT_TIMEOUT;
}

/* ---- the verb ---- */

static void report(void *arg, const struct waited *w)
{
	const struct ctl *c = arg;
	const char *state = json_text(w->answer, "state"), *colour = c->colour ? state_colour(state) : NULL;
	if (w->err.rc < 0)
		ctl_complain(c, w->uuid, &w->err);
	else if (!c->cli->json)
		ctl_say("%s %s%s%s%s%s\n", w->uuid, colour ? "\033[" : "", colour ? colour : "",
		       colour ? "m" : "", state, colour ? "\033[0m" : "");
	(void)ctl_flush();
}

static void print_json(const struct ctl *c, const struct waited *tasks, size_t n)
{
	cleanup_(cleanup_json) json_t *all = json_array();
	for (size_t i = 0; i < n; i++) {
		json_t *one = tasks[i].answer ? json_incref(tasks[i].answer)
		                              : json_pack("{s:s}", "task_uuid", tasks[i].uuid);
		if (tasks[i].err.rc < 0)
			json_object_set_new(one, "error", ctl_error_json(c, &tasks[i].err, NULL));
		json_object_set_new(one, "exit_code", json_integer(task_waited_code(&tasks[i])));
		json_array_append_new(all, one);
	}
	ctl_print_json(c, all, false);
}

int run_task_wait(struct ctl *c)
{
	size_t n = (size_t)c->cli->nargs, late = 0;
	int code = task_uuid_args(c), worst = EXIT_OK;
	const char *first = NULL; /* that is not complete */
	if (code == 0)
		code = ctl_connect(c);
	if (code)
		return code;
	cleanup_(cleanup_free) struct waited *tasks = calloc(n, sizeof *tasks);
	if (!tasks)
		return ctl_fail(c, EXIT_NO, "out of memory");
	for (size_t i = 0; i < n; i++)
		tasks[i].uuid = c->cli->args[i];
	code = task_wait_all(c, tasks, n, c->cli->timeout_ms, report, c);
	for (size_t i = 0; i < n; i++) {
		int one = task_waited_code(&tasks[i]);
		late += one == EXIT_TIMEOUT;
		if (worst == EXIT_OK && one != EXIT_OK) {
			worst = one;
			first = tasks[i].uuid;
		}
	}
	if (c->cli->json)
		print_json(c, tasks, n);
	for (size_t i = 0; i < n; i++)
		json_decref(tasks[i].answer);
	if (late > 0)
		ctl_note(c, "%zu of %zu tasks are not settled yet", late, n);
	if (first)
		task_wait_next(c, first, worst);
	return code ? code : worst;
}

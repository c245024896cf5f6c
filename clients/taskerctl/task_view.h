/* How a task and its steps are shown, and waiting for tasks. */
#pragma once
#include "clients/taskerctl/ctl.h"

/* Are all arguments uuids? 0, or the exit code after having said which is none. */
int task_uuid_args(const struct ctl *c);
/* The same of the first only. */
int task_uuid_arg(const struct ctl *c);
/* A task with all its steps. They come in pages, so that nobody waits for one that has many. Exit code. */
int get_whole_task(struct ctl *c, const char *uuid, json_t **ret);

/* Where the steps of a task run or ran last, as "node" and "worker" of them. 0, or an exit code after having said
 * why. */
int steps_where(struct ctl *c, const char *task, json_t *steps);
/* Only of those that run now, as far as workers of this node run them. */
void steps_running_where(struct ctl *c, json_t *steps);
/* A line for each step that has an error: its name, and the error; `below` an empty line. */
void put_step_errors(const json_t *steps, bool below);
/* "[#####.....]" of `width` characters. */
void progress_bar(struct buf *b, int64_t done, int64_t total, size_t width);

/* Notes for people: why a task does not move, and the command to try next. */
void task_next(struct ctl *c, const json_t *task);
/* The same after waiting, from how that ended. */
void task_wait_next(const struct ctl *c, const char *uuid, int code);

/* One of the tasks of task_wait_all. */
struct waited {
	const char *uuid;
	json_t *answer; /* the daemon's last word, or NULL; released by the caller */
	struct tasker_error err;
	bool settled;
};
/* Wait until all `n` tasks are settled, at most `timeout_ms` (negative: no limit). `on_settled` (may be NULL)
 * is called for each as it ends or fails. 0 if all are settled or have failed by themselves; EXIT_TIMEOUT; or
 * another exit code after having said why. */
int task_wait_all(struct ctl *c, struct waited *tasks, size_t n, int64_t timeout_ms,
                  void (*on_settled)(void *arg, const struct waited *w), void *arg);
/* The exit code for one that was waited for. */
int task_waited_code(const struct waited *w);

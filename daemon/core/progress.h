/* How far a task is, kept by counting down: the model of what the engine's SQL functions do to the rows of
 * one task of standard steps. Tests hold the two to each other; a simulator can run on it. One operation is
 * one call of a set-based function with one item; the state of the task after several is the same in whatever
 * way they were batched. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "daemon/base/cleanup.h"
#include "daemon/core/states.h"

struct progress;

/* A step of the shape. Steps are numbered topologically: children have larger numbers. */
struct progress_step {
	const unsigned *children; /* each once */
	unsigned n_children;
	unsigned max_attempts; /* all tries counted */
	bool retryable;
};

/* What the task's row holds. */
struct progress_counts {
	unsigned open_sinks; /* steps without children that are not yet satisfied */
	unsigned n_active;   /* steps enqueued or in progress */
	unsigned n_waiting;  /* steps waiting for a retry */
	unsigned n_failed;   /* steps in error */
	uint64_t visits;     /* steps looked at since the beginning: what it all has cost */
};

/* A task just created: roots are enqueued, the others pending. `steps` is copied, in one allocation, and
 * nothing below allocates. 0, -EINVAL (a child out of order or range), -ENOMEM. */
int progress_new(const struct progress_step *steps, unsigned n_steps, struct progress **ret) must_check;
void progress_free(struct progress *p);
DEFINE_CLEANUP(struct progress, cleanup_progress, progress_free)

/* The operations on a step name the fence they know, as messages and results do. Each returns 0, or -ESTALE
 * if the step is not in the state that the operation ends, or its fence is another; then nothing has changed.
 */

/* A node takes an enqueued step: the attempt begins, and the fence grows by one. */
int progress_claim(struct progress *p, unsigned step, unsigned fence) must_check;
/* The same for a step whose backoff is over. */
int progress_retry_due(struct progress *p, unsigned step, unsigned fence) must_check;
/* A running step succeeded. Steps that this made ready are enqueued and, in order, put into `ret_ready`,
 * which has room for every child of the step. */
int progress_succeed(struct progress *p, unsigned step, unsigned fence, unsigned *ret_ready,
		     unsigned *ret_n_ready) must_check;
/* A running step failed. Where result and step allow another try it waits for a backoff if `delayed`, else it
 * is enqueued again; otherwise it ends in error. */
int progress_fail(struct progress *p, unsigned step, unsigned fence, bool retryable, bool delayed) must_check;
/* A running step is given back: enqueued again, the attempt not counted. */
int progress_release(struct progress *p, unsigned step, unsigned fence) must_check;

/* End the task by hand: every step that is not finished is cancelled. 0, or -EALREADY if the task is
 * finished. */
int progress_cancel(struct progress *p) must_check;

enum task_state progress_task_state(const struct progress *p);
struct progress_counts progress_counts(const struct progress *p);
/* True from the first unsuccessful attempt (or the cancel) on: the database keeps n_active only from there.
 */
bool progress_is_counted(const struct progress *p);
enum step_state progress_step_state(const struct progress *p, unsigned step);
unsigned progress_pending_parents(const struct progress *p, unsigned step);
unsigned progress_attempts(const struct progress *p, unsigned step);
unsigned progress_fence(const struct progress *p, unsigned step);

/* How far a task is, kept by counting down: the model of what the engine's SQL functions do to the rows of
 * one task, for every type of step. Tests hold the two to each other; the simulator (tests/sim) runs on it.
 * One operation is one call of a set-based function with one item; the state of the task after several is the
 * same in whatever way they were batched. docs/engine.md says in words what this says in code.
 *
 * Steps are named by number. A template of N steps numbers them 0 to N - 1, topologically. Instance k of
 * batch worker w has the number w + (k + 1) * N; w itself names no step that runs. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "daemon/base/cleanup.h"
#include "daemon/core/states.h"

struct progress;

enum progress_kind {
	PROGRESS_STANDARD,
	PROGRESS_DECISION,
	PROGRESS_CONVERGENCE,
	PROGRESS_BATCHABLE,
	PROGRESS_WORKER,
};

/* What an instance of a batch that ends in error does to the others. */
enum progress_strategy {
	PROGRESS_ISOLATE,  /* nothing; what depends on the batch stays blocked */
	PROGRESS_CONTINUE, /* nothing; it counts as satisfied */
	PROGRESS_FAIL_FAST /* they are cancelled */
};

/* Of a step of the template, in one task. A batch worker is created when it is sure to get instances: with
 * its batchable step, or if that has several to choose from, by its outcome. */
enum progress_existence { PROGRESS_POSSIBLE, PROGRESS_CREATED, PROGRESS_IMPOSSIBLE };

/* A step of the shape: children have larger numbers. */
struct progress_step {
	const unsigned *children; /* each once */
	unsigned n_children;
	unsigned max_attempts; /* all tries counted */
	bool retryable;
	enum progress_kind kind;
	enum progress_strategy strategy; /* of a batch worker */
	unsigned parallelism;            /* of a batch worker: instances under way at a time; 0: all */
};

/* What the result of a decision or a batchable step says. */
enum progress_outcome_type {
	OUTCOME_NONE,
	OUTCOME_NO_BRANCHES,
	OUTCOME_CREATE_STEPS,
	OUTCOME_NO_BATCHES, /* an instance with nothing to do */
	OUTCOME_CREATE_BATCHES,
	OUTCOME_MALFORMED, /* whatever cannot be read, or names what is not there */
};
struct progress_outcome {
	enum progress_outcome_type type;
	const unsigned *steps; /* CREATE_STEPS: named by a decision */
	unsigned n_steps;
	unsigned worker;      /* *_BATCHES: the batch worker; PROGRESS_EVERY: any there are, of NO_BATCHES */
	unsigned n_instances; /* CREATE_BATCHES */
};

/* What the task's row holds. */
struct progress_counts {
	unsigned open_sinks; /* static: steps without children not yet satisfied; dynamic: created ones */
	unsigned n_active;   /* steps enqueued or in progress */
	unsigned n_waiting;  /* steps waiting for a retry */
	unsigned n_failed;   /* steps in error, but for those that a batch tolerates */
	uint64_t visits;     /* steps looked at since the beginning: what it all has cost */
};

#define PROGRESS_EVERY (~0u)
#define PROGRESS_NAMES_MAX 100    /* named by one decision */
#define PROGRESS_DEPTH_MAX 20     /* decisions on one path */
#define PROGRESS_BATCH_MAX 100000 /* instances of one batch */

/* A task just created: steps without parents are enqueued, the others pending. `steps` is copied. 0, -EINVAL
 * (a child out of order or range), -ENOMEM. */
int progress_new(const struct progress_step *steps, unsigned n_steps, struct progress **ret) must_check;
/* One of its own, equal in all. */
int progress_copy(const struct progress *p, struct progress **ret) must_check;
void progress_free(struct progress *p);
DEFINE_CLEANUP(struct progress, cleanup_progress, progress_free)

/* The operations on a step name the fence they know, as messages and results do. Each returns 0, or -ESTALE
 * if there is no such step, it is not in the state that the operation ends, or its fence is another; then
 * nothing has changed. Which steps an operation enqueued, progress_ready() tells. */

/* A node takes an enqueued step: the attempt begins, and the fence grows by one. */
int progress_claim(struct progress *p, unsigned step, unsigned fence) must_check;
/* The same for a step whose backoff is over. */
int progress_retry_due(struct progress *p, unsigned step, unsigned fence) must_check;
/* A running step succeeded; `outcome` (NULL: none) matters to decisions and batchable steps. If it cannot be
 * applied the attempt has failed for good, and the answer is 1. -ENOMEM: nothing has changed. */
int progress_succeed(struct progress *p, unsigned step, unsigned fence,
		     const struct progress_outcome *outcome) must_check;
/* A running step failed, timed out or lost its worker. Where result and step allow another try it waits for a
 * backoff if `delayed`, else it is enqueued again; otherwise it ends in error. */
int progress_fail(struct progress *p, unsigned step, unsigned fence, bool retryable, bool delayed) must_check;
/* A running step is given back: enqueued again, the attempt not counted. */
int progress_release(struct progress *p, unsigned step, unsigned fence) must_check;
/* A running step is given back at a checkpoint: the same, and the next execution goes on from there, whatever
 * happens to attempts meanwhile. */
int progress_yield(struct progress *p, unsigned step, unsigned fence) must_check;

/* Operators' actions. They return 0; -EALREADY if the task is finished; -ENOENT if there is no such step;
 * -ESTALE if it is in a state that the action does not apply to. */

/* A step in error, waiting for a retry, or cancelled with its batch, begins again with all its attempts. */
int progress_reset(struct progress *p, unsigned step) must_check;
/* The step, which waits for no other, counts as done. A decision then has no branches, a batchable step no batches:
 * `fallback` names the worker that gets the instance with nothing to do. */
int progress_resolve(struct progress *p, unsigned step, unsigned fallback) must_check;
/* The step is complete with a result of the operator's; -EINVAL if its outcome cannot be applied. */
int progress_complete(struct progress *p, unsigned step, const struct progress_outcome *outcome) must_check;
/* Begin all steps again that are in error or cancelled, also in a task that is in error itself; *ret_n tells
 * how many. -ESTALE: there are none. */
int progress_retry(struct progress *p, unsigned *ret_n) must_check;
/* Nothing new is begun until the task is resumed. `due`: backoffs that were under way are over. */
int progress_pause(struct progress *p) must_check;
int progress_resume(struct progress *p, bool due) must_check;

/* End the task: every step that is not finished is cancelled, but for those in error: a cancelled task
 * keeps only those that a batch tolerated. 0, -EALREADY if the task is finished, -ESTALE if it cannot end so from the
 * state it is in. */
int progress_cancel(struct progress *p) must_check;
int progress_resolve_task(struct progress *p) must_check; /* by hand */
int progress_fail_task(struct progress *p) must_check;    /* a limit of its life cycle */

enum task_state progress_task_state(const struct progress *p);
struct progress_counts progress_counts(const struct progress *p);
/* True from the first unsuccessful attempt (or action) on: the database keeps n_active only from there. */
bool progress_is_counted(const struct progress *p);
bool progress_is_paused(const struct progress *p);
/* What the last operation enqueued, in order. */
const unsigned *progress_ready(const struct progress *p, unsigned *ret_n);

enum progress_existence progress_existence(const struct progress *p, unsigned step);
unsigned progress_instances(const struct progress *p, unsigned worker);
/* Whether there is a row for the step: the questions below are about such steps only. */
bool progress_has_step(const struct progress *p, unsigned step);
enum step_state progress_step_state(const struct progress *p, unsigned step);
bool progress_tolerated(const struct progress *p, unsigned step); /* in error, and counted as satisfied */
unsigned progress_pending_parents(const struct progress *p, unsigned step);
unsigned progress_attempts(const struct progress *p, unsigned step);
unsigned progress_checkpoints(const struct progress *p, unsigned step); /* that it was given back at */
unsigned progress_fence(const struct progress *p, unsigned step);

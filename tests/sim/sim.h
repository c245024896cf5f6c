/* The simulator: random workflows on the model of daemon/core/progress.h, and beside it a naive one that
 * knows only each step's state and reads the whole template again for every question. */
#pragma once
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "daemon/core/progress.h"
#include "tests/unit/core/rng.h"

#define SIM_STEPS 24    /* of a template */
#define SIM_INSTANCES 5 /* of a batch */
#define SIM_NUMBERS (SIM_STEPS * (SIM_INSTANCES + 1))
#define SIM_EVENTS 1200 /* of a case, at most */

/* template.c: what a task is made from. */
struct sim_template {
	unsigned n;
	struct progress_step steps[SIM_STEPS];
	unsigned children[SIM_STEPS][SIM_STEPS];
	bool edge[SIM_STEPS][SIM_STEPS]; /* from, to */
};
void sim_template_make(struct sim_template *t, uint64_t *rng);
void sim_template_print(const struct sim_template *t, FILE *out);
/* A random child of a kind; t->n: there is none. */
unsigned sim_child(const struct sim_template *t, unsigned no, enum progress_kind kind, uint64_t *rng);

/* An event, complete in itself, so that a run can be repeated without some of them. */
enum sim_op {
	SIM_CLAIM,
	SIM_DUE,
	SIM_SUCCEED,
	SIM_FAIL, /* also timeouts and lost workers, which differ in what they allow only */
	SIM_RELEASE,
	SIM_YIELD,
	SIM_RESET,
	SIM_RESOLVE,
	SIM_COMPLETE,
	SIM_RETRY,
	SIM_PAUSE,
	SIM_RESUME,
	SIM_CANCEL,
	SIM_RESOLVE_TASK,
	SIM_FAIL_TASK,
	SIM_NODE_LOST, /* every running step loses its worker */
	SIM_ROLLBACK,  /* work that is never committed */
	SIM_OPS
};
extern const char *const sim_op_names[SIM_OPS];
struct sim_event {
	enum sim_op op;
	unsigned no;   /* the step */
	int fence_off; /* the fence it names, from the current one: late results, and nonsense */
	bool retryable, delayed;
	enum progress_outcome_type outcome;
	uint32_t names; /* steps, as bits */
	unsigned worker, n_instances;
};

/* naive.c: everything from the states of the steps. */
struct naive_step {
	bool exists;
	enum step_state state;
	unsigned attempts, fence, checkpoints;
	bool tolerated, delayed;
	/* At the gate of a batch: let through and not ended; let through ever; its place among who came back. */
	bool inside, passed;
	unsigned ticket;
};
struct naive {
	const struct sim_template *t;
	struct naive_step steps[SIM_NUMBERS];
	enum progress_existence existence[SIM_STEPS];
	bool decided[SIM_STEPS], dynamic, paused;
	uint32_t named;
	unsigned tickets;
	unsigned n_instances[SIM_STEPS];
	enum task_state state;
};
void naive_begin(struct naive *n, const struct sim_template *t);
/* What the model must answer; the naive one has then changed accordingly. */
int naive_apply(struct naive *n, const struct sim_event *e);
unsigned naive_numbers(const struct naive *n); /* every step's number is below */
unsigned naive_pending(const struct naive *n, unsigned no); /* parents it waits for */
unsigned naive_in_state(const struct naive *n, enum step_state state);
unsigned naive_live(const struct naive *n, unsigned worker);
unsigned naive_open(const struct naive *n); /* what progress_counts says */
unsigned naive_inside(const struct naive *n, unsigned worker); /* instances let through and not ended */
bool naive_held(const struct naive *n, unsigned no); /* ready, and yet not to be begun */

/* run.c: both together. */
struct sim_run {
	const struct sim_template *t;
	struct progress *progress;
	struct naive naive;
	unsigned n_events;
	struct sim_event events[SIM_EVENTS];
	unsigned long visited[TASK_STATE_COUNT];
	jmp_buf failed;
	char why[256];
};
void sim_run_begin(struct sim_run *r, const struct sim_template *t);
void sim_run_end(struct sim_run *r);
/* Do an event to both and check all that must hold; longjmp to r->failed if it does not. */
void sim_run_event(struct sim_run *r, const struct sim_event *e);

/* choose.c: what happens next. */
struct sim_mood {
	unsigned luck;      /* percent of results that are successes */
	unsigned operators; /* percent of events that operators cause */
};
struct sim_event sim_choose(const struct naive *n, const struct sim_mood *mood, uint64_t *rng);
/* The next event if all goes well and operators mend what has failed; false: nothing is left to do. */
bool sim_choose_good(const struct naive *n, struct sim_event *ret, uint64_t *rng);

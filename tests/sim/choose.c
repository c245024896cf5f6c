/* What happens next: by the states the steps are in, with a fair share of what makes no sense. */
#include "tests/sim/sim.h"

const char *const sim_op_names[SIM_OPS] = {
	"claim", "due",	  "succeed", "fail",   "release",      "yield",	    "reset",     "resolve", "complete",
	"retry", "pause", "resume",  "cancel", "resolve-task", "fail-task", "node-lost", "rollback",
};

static bool chance(uint64_t *rng, unsigned percent)
{
	return rng_below(rng, 100) < percent;
}

static enum step_state state_for(enum sim_op op)
{
	static const enum step_state wanted[SIM_OPS] = {
		[SIM_CLAIM] = STEP_ENQUEUED,	 [SIM_DUE] = STEP_WAITING_FOR_RETRY,
		[SIM_SUCCEED] = STEP_IN_PROGRESS, [SIM_FAIL] = STEP_IN_PROGRESS,
		[SIM_RELEASE] = STEP_IN_PROGRESS, [SIM_YIELD] = STEP_IN_PROGRESS,
		[SIM_RESET] = STEP_ERROR,	 [SIM_RESOLVE] = STEP_ERROR,
		[SIM_COMPLETE] = STEP_ERROR,
	};
	return wanted[op];
}

/* A step in the state, from a random place on; a random number if there is none. */
static unsigned find_step(const struct naive *n, enum step_state state, uint64_t *rng)
{
	unsigned all = naive_numbers(n), first = rng_below(rng, all);
	for (unsigned i = 0; i < all; i++) {
		unsigned no = (first + i) % all;
		if (n->steps[no].exists && n->steps[no].state == state)
			return no;
	}
	return first;
}

/* An outcome as the handler of a decision or a batchable step would give it. */
static void good_outcome(const struct naive *n, struct sim_event *e, uint64_t *rng)
{
	const struct sim_template *t = n->t;
	unsigned no = e->no % t->n;
	if (t->steps[no].kind == PROGRESS_BATCHABLE) {
		e->worker = sim_child(t, no, PROGRESS_WORKER, rng);
		e->n_instances = 1 + rng_below(rng, SIM_INSTANCES);
		e->outcome = chance(rng, 15) ? OUTCOME_NO_BATCHES : OUTCOME_CREATE_BATCHES;
		if (e->outcome == OUTCOME_NO_BATCHES && chance(rng, 50))
			e->worker = PROGRESS_EVERY;
	} else if (t->steps[no].kind == PROGRESS_DECISION) {
		for (unsigned c = 0; c < t->n; c++)
			if (t->edge[no][c] && n->existence[c] == PROGRESS_POSSIBLE &&
			    t->steps[c].kind != PROGRESS_WORKER && chance(rng, 60))
				e->names |= 1u << c;
		e->outcome = e->names ? OUTCOME_CREATE_STEPS : OUTCOME_NO_BRANCHES;
	}
}

static void some_outcome(const struct naive *n, struct sim_event *e, uint64_t *rng)
{
	good_outcome(n, e, rng);
	if (chance(rng, 90))
		return;
	/* A child that may exist already, or not be for a decision to name; else anything. */
	unsigned child = sim_child(n->t, e->no % n->t->n, (enum progress_kind)rng_below(rng, 5), rng);
	if (chance(rng, 50) && child < n->t->n) {
		e->outcome = e->outcome == OUTCOME_NO_BRANCHES ? OUTCOME_CREATE_STEPS : e->outcome;
		e->names |= 1u << child;
		return;
	}
	e->outcome = (enum progress_outcome_type)rng_below(rng, OUTCOME_MALFORMED + 1);
	e->names = (uint32_t)rng_next(rng) & (uint32_t)rng_next(rng) & ((1u << n->t->n) - 1);
	e->worker = rng_below(rng, n->t->n);
	e->n_instances = rng_below(rng, SIM_INSTANCES + 1);
}

/* What progress_resolve() makes of it. */
static void resolved_outcome(const struct naive *n, struct sim_event *e, uint64_t *rng)
{
	bool batch = n->t->steps[e->no % n->t->n].kind == PROGRESS_BATCHABLE;
	e->names = 0;
	e->outcome = batch ? OUTCOME_NO_BATCHES : OUTCOME_NO_BRANCHES;
	e->worker = batch ? sim_child(n->t, e->no % n->t->n, PROGRESS_WORKER, rng) : 0;
}

static enum sim_op pick_op(const struct sim_mood *mood, uint64_t *rng)
{
	unsigned x = rng_below(rng, 100);
	if (chance(rng, mood->operators))
		return (enum sim_op)(SIM_RESET + rng_below(rng, SIM_RESUME - SIM_RESET + 1));
	if (x < 38)
		return SIM_CLAIM;
	if (x < 43)
		return SIM_DUE;
	if (x < 88)
		return chance(rng, mood->luck) ? SIM_SUCCEED : SIM_FAIL;
	if (x < 95)
		return chance(rng, 50) ? SIM_RELEASE : SIM_YIELD;
	if (x < 98)
		return chance(rng, 50) ? SIM_NODE_LOST : SIM_ROLLBACK;
	return chance(rng, 85) ? SIM_RESUME : (enum sim_op)(SIM_CANCEL + rng_below(rng, 3));
}

static enum step_state any_open(uint64_t *rng)
{
	static const enum step_state open[] = {STEP_PENDING, STEP_ENQUEUED, STEP_IN_PROGRESS,
					       STEP_WAITING_FOR_RETRY, STEP_ERROR};
	return open[rng_below(rng, 5)];
}

struct sim_event sim_choose(const struct naive *n, const struct sim_mood *mood, uint64_t *rng)
{
	struct sim_event e = {.op = pick_op(mood, rng)};
	bool by_hand = e.op == SIM_RESET || e.op == SIM_RESOLVE || e.op == SIM_COMPLETE;
	enum step_state state = by_hand && chance(rng, 50) ? any_open(rng) : state_for(e.op);
	e.no = chance(rng, 90) ? find_step(n, state, rng) : rng_below(rng, naive_numbers(n));
	if (!by_hand && chance(rng, 6))
		e.fence_off = chance(rng, 80) ? -1 : 1;
	e.retryable = chance(rng, 75);
	e.delayed = chance(rng, 50);
	if (e.op == SIM_SUCCEED || e.op == SIM_COMPLETE)
		some_outcome(n, &e, rng);
	else if (e.op == SIM_RESOLVE)
		resolved_outcome(n, &e, rng);
	return e;
}

bool sim_choose_good(const struct naive *n, struct sim_event *e, uint64_t *rng)
{
	static const enum sim_op order[] = {SIM_SUCCEED, SIM_CLAIM, SIM_DUE};
	*e = (struct sim_event){.op = SIM_RESUME};
	if (task_states[n->state].flags & STATE_FINISHED)
		return false;
	if (n->paused)
		return true;
	for (unsigned i = 0; i < 3; i++) {
		e->op = order[i];
		e->no = find_step(n, state_for(e->op), rng);
		if (!n->steps[e->no].exists || n->steps[e->no].state != state_for(e->op))
			continue;
		if (e->op == SIM_SUCCEED)
			good_outcome(n, e, rng);
		return true;
	}
	for (e->no = 0; e->no < naive_numbers(n); e->no++) {
		const struct naive_step *s = &n->steps[e->no];
		e->op = chance(rng, 50) || s->state == STEP_CANCELLED ? SIM_RESET : SIM_RESOLVE;
		if (e->op == SIM_RESOLVE)
			resolved_outcome(n, e, rng);
		if (s->exists && (s->state == STEP_CANCELLED || (s->state == STEP_ERROR && !s->tolerated)))
			return true;
	}
	return false;
}

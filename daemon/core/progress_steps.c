/* What happens to one step: claims, results, and how they count down what depends on it. */
#include <assert.h>
#include <errno.h>

#include "daemon/core/progress_impl.h"

bool progress_satisfied(const struct node *n)
{
	return n->tolerated || step_states[n->state].flags & STATE_SATISFIES;
}

static bool is_active(enum step_state s)
{
	return s == STEP_ENQUEUED || s == STEP_IN_PROGRESS;
}

/* `by` is 1 or, to take away, UINT_MAX. */
static void count(struct progress *p, const struct node *n, unsigned by)
{
	p->counts.n_active += is_active(n->state) ? by : 0;
	p->counts.n_waiting += n->state == STEP_WAITING_FOR_RETRY ? by : 0;
	p->counts.n_failed += n->state == STEP_ERROR && !n->tolerated ? by : 0;
}

void progress_move(struct progress *p, struct node *n, enum step_state to)
{
	assert(step_may_move(n->state, to, false));
	count(p, n, ~0u);
	n->state = to;
	count(p, n, 1);
}

void progress_make_ready(struct progress *p, struct node *n)
{
	if (p->paused || !progress_is_inside(p, n))
		return;
	progress_move(p, n, STEP_ENQUEUED);
	p->ready[p->n_ready++] = progress_number(p, (unsigned)(n - p->nodes));
}

/* ---- the gate of a batch ---- */

bool progress_is_inside(const struct progress *p, const struct node *n)
{
	const struct shape *s = &p->steps[n->of];
	return s->parallelism == 0 || (n->returned == 0 && n < &p->nodes[s->first + s->n_released]);
}

void progress_leave(struct progress *p, const struct node *n)
{
	struct shape *s = &p->steps[n->of];
	if (s->parallelism == 0)
		return;
	s->n_inside--;
	progress_open_gate(p, n->of);
}

/* Those that came back, first come first served, then the others in their order. */
static struct node *next_at_gate(struct progress *p, const struct shape *s)
{
	struct node *best = NULL;
	for (unsigned i = s->first; i < s->first + s->n; i++) {
		struct node *n = &p->nodes[i];
		bool back = n->returned > 0, fresh = i >= s->first + s->n_released;
		if (n->state != STEP_PENDING || (!back && !fresh))
			continue;
		if (!best || (back && (best->returned == 0 || n->returned < best->returned)))
			best = n;
	}
	return best;
}

void progress_open_gate(struct progress *p, unsigned of)
{
	struct shape *s = &p->steps[of];
	struct node *n;
	while (s->n_inside < s->parallelism && (n = next_at_gate(p, s))) {
		unsigned k = (unsigned)(n - &p->nodes[s->first]);
		n->returned = 0;
		s->n_inside++;
		if (s->n_released <= k)
			s->n_released = k + 1;
		if (n->pending_parents == 0)
			progress_make_ready(p, n);
	}
}

/* ---- counting down ---- */

static void count_down_node(struct progress *p, struct node *n)
{
	if (n->state == STEP_PENDING && --n->pending_parents == 0)
		progress_make_ready(p, n);
}

void progress_count_down(struct progress *p, unsigned step)
{
	const struct shape *s = &p->steps[step];
	p->counts.visits += s->kind == PROGRESS_WORKER ? s->n : 1;
	for (unsigned i = s->first; i < s->first + s->n; i++)
		count_down_node(p, &p->nodes[i]);
	if (s->kind != PROGRESS_WORKER && s->existence == PROGRESS_CREATED)
		count_down_node(p, &p->nodes[step]);
}

void progress_satisfy(struct progress *p, struct node *n, const struct progress_outcome *outcome)
{
	struct shape *s = &p->steps[n->of];
	p->counts.open_sinks -= s->counts;
	p->n_open--;
	s->n_unsatisfied -= s->kind == PROGRESS_WORKER;
	for (unsigned k = 0; k < s->n_children; k++)
		progress_count_down(p, p->edges[s->first_child + k]);
	if (s->kind == PROGRESS_DECISION || s->kind == PROGRESS_BATCHABLE)
		progress_apply_outcome(p, n->of, outcome);
}

/* The step, if it is in `state` under `fence`. */
static struct node *find(struct progress *p, unsigned step, enum step_state state, unsigned fence)
{
	struct node *n = progress_node(p, step);
	p->counts.visits++;
	p->n_ready = 0;
	return n && n->state == state && n->fence == fence ? n : NULL;
}

static int claim(struct progress *p, unsigned step, enum step_state from, unsigned fence)
{
	struct node *n = find(p, step, from, fence);
	if (!n)
		return -ESTALE;
	progress_move(p, n, STEP_IN_PROGRESS);
	n->attempts++;
	n->fence++;
	progress_settle(p);
	return 0;
}

int progress_claim(struct progress *p, unsigned step, unsigned fence)
{
	return claim(p, step, STEP_ENQUEUED, fence);
}

int progress_retry_due(struct progress *p, unsigned step, unsigned fence)
{
	return claim(p, step, STEP_WAITING_FOR_RETRY, fence);
}

/* For good. */
static void end_in_error(struct progress *p, struct node *n)
{
	const struct shape *s = &p->steps[n->of];
	bool batch = s->kind == PROGRESS_WORKER;
	progress_move(p, n, STEP_ERROR);
	progress_leave(p, n);
	if (batch && s->strategy == PROGRESS_CONTINUE) {
		n->tolerated = true;
		p->counts.n_failed--;
		progress_satisfy(p, n, NULL);
	} else if (batch && s->strategy == PROGRESS_FAIL_FAST) {
		progress_fail_batch(p, n->of);
	}
}

/* Another try, now or later. In a paused task it waits for the end of the pause. */
static void try_again(struct progress *p, struct node *n, bool delayed)
{
	progress_move(p, n, p->paused ? STEP_PENDING : delayed ? STEP_WAITING_FOR_RETRY : STEP_ENQUEUED);
	n->delayed = p->paused && delayed;
	if (n->state == STEP_ENQUEUED)
		p->ready[p->n_ready++] = progress_number(p, (unsigned)(n - p->nodes));
}

int progress_succeed(struct progress *p, unsigned step, unsigned fence,
		     const struct progress_outcome *outcome)
{
	struct node *n = find(p, step, STEP_IN_PROGRESS, fence);
	if (!n)
		return -ESTALE;
	unsigned of = n->of;
	int r = progress_check_outcome(p, of, outcome);
	if (r == -ENOMEM)
		return r;
	n = progress_node(p, step); /* room for instances may have moved it */
	if (r < 0) {
		p->counted = true;
		end_in_error(p, n);
	} else {
		progress_move(p, n, STEP_COMPLETE);
		progress_satisfy(p, n, outcome);
		progress_leave(p, n);
	}
	progress_settle(p);
	return r < 0;
}

int progress_fail(struct progress *p, unsigned step, unsigned fence, bool retryable, bool delayed)
{
	struct node *n = find(p, step, STEP_IN_PROGRESS, fence);
	if (!n)
		return -ESTALE;
	const struct shape *s = &p->steps[n->of];
	p->counted = true;
	if (!retryable || !s->retryable || n->attempts >= s->max_attempts)
		end_in_error(p, n);
	else
		try_again(p, n, delayed);
	progress_settle(p);
	return 0;
}

static int give_back(struct progress *p, unsigned step, unsigned fence, bool checkpoint)
{
	struct node *n = find(p, step, STEP_IN_PROGRESS, fence);
	if (!n)
		return -ESTALE;
	p->counted = true;
	n->attempts--;
	n->checkpoints += checkpoint;
	try_again(p, n, false);
	progress_settle(p);
	return 0;
}

int progress_release(struct progress *p, unsigned step, unsigned fence)
{
	return give_back(p, step, fence, false);
}

int progress_yield(struct progress *p, unsigned step, unsigned fence)
{
	return give_back(p, step, fence, true);
}

/* What operators, and limits of a task's life cycle, do to it. */
#include <errno.h>

#include "daemon/core/progress_impl.h"

static bool is_finished(const struct progress *p)
{
	return task_states[p->state].flags & STATE_FINISHED;
}

/* The step that an action is about: 0, -EALREADY, -ENOENT. */
static int find(struct progress *p, unsigned step, struct node **ret)
{
	p->n_ready = 0;
	if (is_finished(p))
		return -EALREADY;
	*ret = progress_node(p, step);
	return *ret ? 0 : -ENOENT;
}

/* What a fix leads to. */
static void act(struct progress *p)
{
	p->counted = true;
	progress_settle(p);
}

/* What a batch tolerated, others may have built on. */
static bool may_begin_again(const struct node *n)
{
	return (n->state == STEP_ERROR && !n->tolerated) || n->state == STEP_CANCELLED;
}

static void return_to_gate(struct progress *p, struct node *n)
{
	if (progress_is_inside(p, n))
		n->returned = ++p->steps[n->of].n_returned;
	progress_open_gate(p, n->of);
}

static void begin_again(struct progress *p, struct node *n)
{
	n->fence++; /* a message for later may be in a queue */
	n->attempts = 0;
	n->delayed = false;
	bool inside = n->state == STEP_WAITING_FOR_RETRY;
	progress_move(p, n, STEP_PENDING);
	if (!inside && p->steps[n->of].parallelism > 0)
		return_to_gate(p, n);
	else if (n->pending_parents == 0)
		progress_make_ready(p, n);
}

int progress_reset(struct progress *p, unsigned step)
{
	struct node *n;
	int r = find(p, step, &n);
	if (r < 0)
		return r;
	if (!may_begin_again(n) && n->state != STEP_WAITING_FOR_RETRY)
		return -ESTALE;
	begin_again(p, n);
	act(p);
	return 0;
}

/* For other steps: to pass over those is to end them first. Else a task could be complete while one still runs. */
static bool waits(const struct progress *p, const struct node *n)
{
	return n->state == STEP_PENDING && (n->pending_parents > 0 || !progress_is_inside(p, n));
}

static int finish(struct progress *p, unsigned step, enum step_state to, const struct progress_outcome *o)
{
	struct node *n;
	int r = find(p, step, &n);
	if (r < 0)
		return r;
	if (n->tolerated || step_states[n->state].flags & STATE_FINISHED || waits(p, n))
		return -ESTALE;
	r = progress_check_outcome(p, n->of, o);
	if (r < 0)
		return r;
	n = progress_node(p, step);
	bool inside = n->state != STEP_ERROR;
	progress_move(p, n, to);
	progress_satisfy(p, n, o);
	if (inside)
		progress_leave(p, n);
	act(p);
	return 0;
}

int progress_resolve(struct progress *p, unsigned step, unsigned fallback)
{
	const struct node *n = progress_node(p, step);
	bool batch = n && p->steps[n->of].kind == PROGRESS_BATCHABLE;
	struct progress_outcome o = {.type = batch ? OUTCOME_NO_BATCHES : OUTCOME_NO_BRANCHES, .worker = fallback};
	return finish(p, step, STEP_RESOLVED_MANUALLY, &o);
}

int progress_complete(struct progress *p, unsigned step, const struct progress_outcome *outcome)
{
	return finish(p, step, STEP_COMPLETE, outcome);
}

int progress_retry(struct progress *p, unsigned *ret_n)
{
	p->n_ready = 0;
	*ret_n = 0;
	if (is_finished(p) && p->state != TASK_ERROR)
		return -EALREADY;
	for (unsigned i = 0; p->state == TASK_ERROR && i < p->n_steps; i++)
		p->steps[i].n_inside = 0;
	for (unsigned i = 0; i < p->n_nodes; i++)
		if (may_begin_again(&p->nodes[i])) {
			begin_again(p, &p->nodes[i]);
			++*ret_n;
		}
	p->counted = true;
	p->counts.visits += p->n_nodes;
	if (*ret_n == 0)
		return -ESTALE;
	if (p->state == TASK_ERROR)
		p->state = TASK_STEPS_IN_PROCESS;
	progress_settle(p);
	return 0;
}

/* ---- pausing ---- */

int progress_pause(struct progress *p)
{
	p->n_ready = 0;
	if (is_finished(p))
		return -EALREADY;
	if (p->paused)
		return -ESTALE;
	p->paused = p->counted = true;
	for (unsigned i = 0; i < p->n_nodes; i++) {
		struct node *n = &p->nodes[i];
		if (n->state != STEP_ENQUEUED && n->state != STEP_WAITING_FOR_RETRY)
			continue;
		n->delayed = n->state == STEP_WAITING_FOR_RETRY;
		n->fence++;
		progress_move(p, n, STEP_PENDING);
	}
	p->counts.visits += p->n_nodes;
	return 0;
}

static void resume_node(struct progress *p, struct node *n, bool due)
{
	if (n->delayed && !due)
		progress_move(p, n, STEP_WAITING_FOR_RETRY);
	else
		progress_make_ready(p, n);
	n->delayed = false;
}

static bool has_node(const struct progress *p, unsigned i)
{
	return i >= p->n_steps || (p->steps[i].existence == PROGRESS_CREATED && p->steps[i].kind != PROGRESS_WORKER);
}

int progress_resume(struct progress *p, bool due)
{
	p->n_ready = 0;
	if (is_finished(p))
		return -EALREADY;
	if (!p->paused)
		return -ESTALE;
	p->paused = false;
	for (unsigned i = 0; i < p->n_nodes; i++) {
		struct node *n = &p->nodes[i];
		if (has_node(p, i) && n->state == STEP_PENDING && n->pending_parents == 0)
			resume_node(p, n, due);
	}
	p->counts.visits += p->n_nodes;
	progress_settle(p);
	return 0;
}

/* ---- ending ---- */

static int end_task(struct progress *p, enum task_state state)
{
	p->n_ready = 0;
	if (is_finished(p))
		return -EALREADY;
	if (!task_may_move(p->state, state, false))
		return -ESTALE;
	for (unsigned i = 0; i < p->n_nodes; i++) {
		struct node *n = &p->nodes[i];
		bool keep = n->tolerated || (n->state == STEP_ERROR && state != TASK_CANCELLED);
		if (has_node(p, i) && !keep && !(step_states[n->state].flags & STATE_FINISHED))
			progress_move(p, n, STEP_CANCELLED);
	}
	p->paused = false;
	p->counts.visits += p->n_nodes;
	p->counted = true;
	p->state = state;
	return 0;
}

int progress_cancel(struct progress *p)
{
	return end_task(p, TASK_CANCELLED);
}

int progress_resolve_task(struct progress *p)
{
	return end_task(p, TASK_RESOLVED_MANUALLY);
}

int progress_fail_task(struct progress *p)
{
	return end_task(p, TASK_ERROR);
}

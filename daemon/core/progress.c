/* A task's progress by count-down. Owns one block of memory for each task: the counters, the steps, and their
 * edges one after the other. Any thread, one at a time; no clock, no I/O.
 *
 * Every step knows how many of its parents are not yet satisfied, and the task how many of its sinks; a
 * success counts down its children and, being a sink, the task. So a success costs the step's out-degree and
 * a whole task its steps and edges, never their product. That is enough as long as all goes well, since an
 * unsatisfied sink then has an ancestor that can move. Once something has failed, n_active and n_waiting tell
 * whether anything still can. */
#include "daemon/core/progress.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct node {
	enum step_state state;
	unsigned pending_parents, attempts, fence;
	unsigned max_attempts;
	bool retryable;
	unsigned n_children;
	size_t first_child; /* index into edges */
};

struct progress {
	enum task_state state;
	struct progress_counts counts;
	bool counted;
	unsigned n_nodes;
	unsigned *edges; /* in the same block, after the nodes */
	struct node nodes[];
};

static int check_shape(const struct progress_step *steps, unsigned n_steps, size_t *ret_edges)
{
	size_t edges = 0;
	for (unsigned i = 0; i < n_steps; i++) {
		for (unsigned k = 0; k < steps[i].n_children; k++)
			if (steps[i].children[k] <= i || steps[i].children[k] >= n_steps)
				return -EINVAL;
		edges += steps[i].n_children;
	}
	*ret_edges = edges;
	return 0;
}

static struct progress *allocate(unsigned n_steps, size_t n_edges)
{
	size_t nodes, edges, size;
	if (__builtin_mul_overflow((size_t)n_steps, sizeof(struct node), &nodes) ||
	    __builtin_mul_overflow(n_edges, sizeof(unsigned), &edges) ||
	    __builtin_add_overflow(nodes, edges, &size) ||
	    __builtin_add_overflow(size, sizeof(struct progress), &size))
		return NULL;
	struct progress *p = calloc(1, size);
	if (p)
		p->edges = (unsigned *)(p->nodes + n_steps);
	return p;
}

static void copy_shape(struct progress *p, const struct progress_step *steps)
{
	size_t at = 0;
	for (unsigned i = 0; i < p->n_nodes; i++) {
		struct node *n = &p->nodes[i];
		n->max_attempts = steps[i].max_attempts;
		n->retryable = steps[i].retryable;
		n->n_children = steps[i].n_children;
		n->first_child = at;
		for (unsigned k = 0; k < n->n_children; k++) {
			p->edges[at++] = steps[i].children[k];
			p->nodes[steps[i].children[k]].pending_parents++;
		}
	}
}

/* Put the task into the state that the counters say. */
static void settle(struct progress *p)
{
	if (task_states[p->state].flags & STATE_FINISHED)
		return;
	p->state = p->counts.open_sinks == 0 ? TASK_COMPLETE
		   : p->counts.n_active > 0  ? TASK_STEPS_IN_PROCESS
		   : p->counts.n_waiting > 0 ? TASK_WAITING_FOR_RETRY
					     : TASK_BLOCKED_BY_FAILURES;
}

int progress_new(const struct progress_step *steps, unsigned n_steps, struct progress **ret)
{
	size_t n_edges;
	int r = check_shape(steps, n_steps, &n_edges);
	if (r < 0)
		return r;
	struct progress *p = allocate(n_steps, n_edges);
	if (!p)
		return -ENOMEM;
	p->n_nodes = n_steps;
	copy_shape(p, steps);
	for (unsigned i = 0; i < n_steps; i++) {
		struct node *n = &p->nodes[i];
		n->state = n->pending_parents == 0 ? STEP_ENQUEUED : STEP_PENDING;
		p->counts.n_active += n->state == STEP_ENQUEUED;
		p->counts.open_sinks += n->n_children == 0;
	}
	p->state = TASK_STEPS_IN_PROCESS;
	settle(p);
	*ret = p;
	return 0;
}

void progress_free(struct progress *p)
{
	free(p);
}

/* The step, if it is in `state` under `fence`. */
static struct node *find(struct progress *p, unsigned step, enum step_state state, unsigned fence)
{
	assert(step < p->n_nodes);
	struct node *n = &p->nodes[step];
	p->counts.visits++;
	return n->state == state && n->fence == fence ? n : NULL;
}

static void begin_attempt(struct node *n)
{
	n->state = STEP_IN_PROGRESS;
	n->attempts++;
	n->fence++;
}

int progress_claim(struct progress *p, unsigned step, unsigned fence)
{
	struct node *n = find(p, step, STEP_ENQUEUED, fence);
	if (!n)
		return -ESTALE;
	begin_attempt(n);
	return 0;
}

int progress_retry_due(struct progress *p, unsigned step, unsigned fence)
{
	struct node *n = find(p, step, STEP_WAITING_FOR_RETRY, fence);
	if (!n)
		return -ESTALE;
	begin_attempt(n);
	p->counts.n_waiting--;
	p->counts.n_active++;
	settle(p);
	return 0;
}

int progress_succeed(struct progress *p, unsigned step, unsigned fence, unsigned *ret_ready,
		     unsigned *ret_n_ready)
{
	unsigned n_ready = 0;
	struct node *n = find(p, step, STEP_IN_PROGRESS, fence);
	if (!n)
		return -ESTALE;
	n->state = STEP_COMPLETE;
	p->counts.n_active--;
	p->counts.open_sinks -= n->n_children == 0;
	p->counts.visits += n->n_children;
	for (unsigned k = 0; k < n->n_children; k++) {
		unsigned c = p->edges[n->first_child + k];
		struct node *child = &p->nodes[c];
		if (--child->pending_parents > 0)
			continue;
		child->state = STEP_ENQUEUED;
		p->counts.n_active++;
		ret_ready[n_ready++] = c;
	}
	*ret_n_ready = n_ready;
	settle(p);
	return 0;
}

int progress_fail(struct progress *p, unsigned step, unsigned fence, bool retryable, bool delayed)
{
	struct node *n = find(p, step, STEP_IN_PROGRESS, fence);
	if (!n)
		return -ESTALE;
	p->counted = true;
	if (!retryable || !n->retryable || n->attempts >= n->max_attempts) {
		n->state = STEP_ERROR;
		p->counts.n_active--;
		p->counts.n_failed++;
	} else if (delayed) {
		n->state = STEP_WAITING_FOR_RETRY;
		p->counts.n_active--;
		p->counts.n_waiting++;
	} else {
		n->state = STEP_ENQUEUED;
	}
	settle(p);
	return 0;
}

int progress_release(struct progress *p, unsigned step, unsigned fence)
{
	struct node *n = find(p, step, STEP_IN_PROGRESS, fence);
	if (!n)
		return -ESTALE;
	p->counted = true;
	n->state = STEP_ENQUEUED;
	n->attempts--;
	return 0;
}

int progress_cancel(struct progress *p)
{
	if (task_states[p->state].flags & STATE_FINISHED)
		return -EALREADY;
	for (unsigned i = 0; i < p->n_nodes; i++)
		if (!(step_states[p->nodes[i].state].flags & STATE_FINISHED))
			p->nodes[i].state = STEP_CANCELLED;
	p->counts.visits += p->n_nodes;
	p->counts.n_active = p->counts.n_waiting = p->counts.n_failed = 0;
	p->counted = true;
	p->state = TASK_CANCELLED;
	return 0;
}

enum task_state progress_task_state(const struct progress *p)
{
	return p->state;
}

struct progress_counts progress_counts(const struct progress *p)
{
	return p->counts;
}

bool progress_is_counted(const struct progress *p)
{
	return p->counted;
}

static const struct node *node_at(const struct progress *p, unsigned step)
{
	assert(step < p->n_nodes);
	return &p->nodes[step];
}

enum step_state progress_step_state(const struct progress *p, unsigned step)
{
	return node_at(p, step)->state;
}

unsigned progress_pending_parents(const struct progress *p, unsigned step)
{
	return node_at(p, step)->pending_parents;
}

unsigned progress_attempts(const struct progress *p, unsigned step)
{
	return node_at(p, step)->attempts;
}

unsigned progress_fence(const struct progress *p, unsigned step)
{
	return node_at(p, step)->fence;
}

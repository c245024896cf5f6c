/* A task's progress by count-down: how it begins, and what it is found to be. Owns three blocks of memory for
 * each task: the template's steps with their edges, the nodes, and the list of what is ready. Any thread, one
 * at a time; no clock, no I/O.
 *
 * Every step knows how many of its parents are not yet satisfied, and the task how many of its sinks (or, if
 * decisions and batches may add to it, of all its steps); a success counts down its children and the task. So
 * a success costs the step's out-degree and a whole task its steps and edges, never their product; only the
 * outcomes of decisions and batches look at the whole template. That is enough as long as all goes well,
 * since an unsatisfied sink then has an ancestor that can move. Once something has failed, n_active and
 * n_waiting tell whether anything still can. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/progress_impl.h"

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

static int allocate(struct progress *p)
{
	size_t steps, edges, size;
	if (__builtin_mul_overflow((size_t)p->n_steps, sizeof *p->steps, &steps) ||
	    __builtin_mul_overflow(p->n_edges, 2 * sizeof *p->edges, &edges) ||
	    __builtin_add_overflow(steps, edges, &size))
		return -ENOMEM;
	size_t n = p->n_nodes ? p->n_nodes : 1;
	p->steps = calloc(1, size ? size : 1);
	p->nodes = calloc(n, sizeof *p->nodes);
	p->ready = calloc(n, sizeof *p->ready);
	if (!p->steps || !p->nodes || !p->ready)
		return -ENOMEM;
	p->edges = (unsigned *)(p->steps + p->n_steps);
	return 0;
}

static void copy_step(struct progress *p, unsigned no, const struct progress_step *from, size_t *at)
{
	struct shape *s = &p->steps[no];
	*s = (struct shape){
		.kind = from->kind,
		.strategy = from->strategy,
		.max_attempts = from->max_attempts,
		.parallelism = from->parallelism,
		.retryable = from->retryable,
		.n_parents = s->n_parents,
		.n_children = from->n_children,
		.first_child = *at,
	};
	for (unsigned k = 0; k < s->n_children; k++) {
		p->edges[(*at)++] = from->children[k];
		p->steps[from->children[k]].n_parents++;
	}
	p->dynamic = p->dynamic || s->kind != PROGRESS_STANDARD;
	p->nodes[no].of = no;
}

/* The edges once more, by child. */
static void index_parents(struct progress *p)
{
	size_t at = p->n_edges;
	for (unsigned i = 0; i < p->n_steps; i++) {
		p->steps[i].first_parent = at;
		at += p->steps[i].n_parents;
		p->steps[i].n_parents = 0;
	}
	for (unsigned i = 0; i < p->n_steps; i++) {
		const struct shape *s = &p->steps[i];
		for (unsigned k = 0; k < s->n_children; k++) {
			struct shape *child = &p->steps[p->edges[s->first_child + k]];
			p->edges[child->first_parent + child->n_parents++] = i;
		}
	}
}

static void measure(struct progress *p)
{
	for (unsigned i = 0; i < p->n_steps; i++) {
		struct shape *s = &p->steps[i];
		s->counts = p->dynamic || s->n_children == 0;
		s->depth += s->kind == PROGRESS_DECISION;
		for (unsigned k = 0; k < s->n_children; k++) {
			struct shape *child = &p->steps[p->edges[s->first_child + k]];
			if (child->depth < s->depth)
				child->depth = s->depth;
		}
	}
}

/* Put the task into the state that the counters say. All sinks satisfied is not all: an operator may have
 * satisfied one whose ancestors are still under way. A paused task stays what it is until it is complete. */
void progress_settle(struct progress *p)
{
	const struct progress_counts *c = &p->counts;
	enum task_state now = p->n_open == 0      ? TASK_COMPLETE
			      : p->paused         ? p->state
			      : c->n_active > 0   ? TASK_STEPS_IN_PROCESS
			      : c->n_waiting > 0  ? TASK_WAITING_FOR_RETRY
						  : TASK_BLOCKED_BY_FAILURES;
	if (now == p->state || task_states[p->state].flags & STATE_FINISHED)
		return;
	assert(task_may_move(p->state, now, false));
	p->state = now;
}

int progress_new(const struct progress_step *steps, unsigned n_steps, struct progress **ret)
{
	size_t n_edges, at = 0;
	int r = check_shape(steps, n_steps, &n_edges);
	if (r < 0)
		return r;
	cleanup_(cleanup_progress) struct progress *p = calloc(1, sizeof *p);
	if (!p)
		return -ENOMEM;
	p->n_steps = p->n_nodes = n_steps;
	p->n_edges = n_edges;
	r = allocate(p);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < n_steps; i++)
		copy_step(p, i, &steps[i], &at);
	index_parents(p);
	measure(p);
	p->state = TASK_PENDING;
	progress_propagate(p);
	progress_settle(p);
	*ret = TAKE_PTR(p);
	return 0;
}

int progress_copy(const struct progress *p, struct progress **ret)
{
	cleanup_(cleanup_progress) struct progress *c = calloc(1, sizeof *c);
	if (!c)
		return -ENOMEM;
	*c = *p;
	int r = allocate(c);
	if (r < 0)
		return r;
	memcpy(c->steps, p->steps, p->n_steps * sizeof *p->steps);
	memcpy(c->edges, p->edges, 2 * p->n_edges * sizeof *p->edges);
	memcpy(c->nodes, p->nodes, p->n_nodes * sizeof *p->nodes);
	memcpy(c->ready, p->ready, p->n_ready * sizeof *p->ready);
	*ret = TAKE_PTR(c);
	return 0;
}

void progress_free(struct progress *p)
{
	if (!p)
		return;
	free(p->steps);
	free(p->nodes);
	free(p->ready);
	free(p);
}

unsigned progress_number(const struct progress *p, unsigned node)
{
	unsigned of = p->nodes[node].of;
	return node < p->n_steps ? node : of + (node - p->steps[of].first + 1) * p->n_steps;
}

struct node *progress_node(const struct progress *p, unsigned step)
{
	if (p->n_steps == 0)
		return NULL;
	unsigned of = step % p->n_steps, k = step / p->n_steps;
	const struct shape *s = &p->steps[of];
	if (s->kind == PROGRESS_WORKER)
		return k >= 1 && k <= s->n ? &p->nodes[s->first + k - 1] : NULL;
	return k == 0 && s->existence == PROGRESS_CREATED ? &p->nodes[of] : NULL;
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

bool progress_is_paused(const struct progress *p)
{
	return p->paused;
}

const unsigned *progress_ready(const struct progress *p, unsigned *ret_n)
{
	*ret_n = p->n_ready;
	return p->ready;
}

enum progress_existence progress_existence(const struct progress *p, unsigned step)
{
	assert(step < p->n_steps);
	return p->steps[step].existence;
}

unsigned progress_instances(const struct progress *p, unsigned worker)
{
	assert(worker < p->n_steps);
	return p->steps[worker].n;
}

bool progress_has_step(const struct progress *p, unsigned step)
{
	return progress_node(p, step) != NULL;
}

static const struct node *node_at(const struct progress *p, unsigned step)
{
	const struct node *n = progress_node(p, step);
	assert(n);
	return n;
}

enum step_state progress_step_state(const struct progress *p, unsigned step)
{
	return node_at(p, step)->state;
}

bool progress_tolerated(const struct progress *p, unsigned step)
{
	return node_at(p, step)->tolerated;
}

unsigned progress_pending_parents(const struct progress *p, unsigned step)
{
	return node_at(p, step)->pending_parents;
}

unsigned progress_attempts(const struct progress *p, unsigned step)
{
	return node_at(p, step)->attempts;
}

unsigned progress_checkpoints(const struct progress *p, unsigned step)
{
	return node_at(p, step)->checkpoints;
}

unsigned progress_fence(const struct progress *p, unsigned step)
{
	return node_at(p, step)->fence;
}

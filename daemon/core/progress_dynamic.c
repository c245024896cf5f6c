/* What decisions and batches do to a task: which steps exist.
 *
 * Existence only ever goes from possible to created or impossible. Both follow from parents alone, and parents
 * have smaller numbers, so one pass over the template settles it. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "daemon/core/progress_impl.h"

static const struct shape *parent_of(const struct progress *p, const struct shape *s, unsigned k)
{
	return &p->steps[p->edges[s->first_parent + k]];
}

/* ---- which steps exist ---- */

/* How many of what one parent stands for a child still waits for. */
static unsigned unsatisfied(const struct progress *p, unsigned parent)
{
	const struct shape *s = &p->steps[parent];
	if (s->existence != PROGRESS_CREATED)
		return s->existence == PROGRESS_POSSIBLE;
	if (s->kind != PROGRESS_WORKER)
		return !progress_satisfied(&p->nodes[parent]);
	return s->n > 0 ? s->n_unsatisfied : 1;
}

static unsigned unsatisfied_parents(const struct progress *p, const struct shape *s)
{
	unsigned n = 0;
	for (unsigned k = 0; k < s->n_parents; k++)
		n += unsatisfied(p, p->edges[s->first_parent + k]);
	return n;
}

static void make_created(struct progress *p, unsigned no)
{
	struct shape *s = &p->steps[no];
	s->existence = PROGRESS_CREATED;
	if (s->kind == PROGRESS_WORKER)
		return; /* its instances are what runs */
	p->nodes[no].pending_parents = unsatisfied_parents(p, s);
	p->counts.open_sinks += s->counts;
	p->n_open++;
	if (p->nodes[no].pending_parents == 0)
		progress_make_ready(p, &p->nodes[no]);
}

/* Nobody waits for it any more. */
static void make_impossible(struct progress *p, unsigned no)
{
	const struct shape *s = &p->steps[no];
	p->steps[no].existence = PROGRESS_IMPOSSIBLE;
	for (unsigned k = 0; k < s->n_children; k++)
		progress_count_down(p, p->edges[s->first_child + k]);
}

struct parents {
	unsigned n, created, impossible; /* of those that are no decisions; for a worker, that are batchable */
	unsigned n_decisions, decisions_created, undecided, ruled_out;
};

static struct parents look_at_parents(const struct progress *p, const struct shape *s)
{
	struct parents r = {0};
	for (unsigned k = 0; k < s->n_parents; k++) {
		const struct shape *q = parent_of(p, s, k);
		bool decision = q->kind == PROGRESS_DECISION;
		if (s->kind == PROGRESS_WORKER && q->kind != PROGRESS_BATCHABLE)
			continue;
		r.n += !decision;
		r.created += !decision && q->existence == PROGRESS_CREATED;
		r.impossible += !decision && q->existence == PROGRESS_IMPOSSIBLE;
		r.n_decisions += decision;
		r.decisions_created += decision && q->existence == PROGRESS_CREATED;
		r.ruled_out += decision && q->existence == PROGRESS_IMPOSSIBLE;
		r.undecided += decision && q->existence != PROGRESS_IMPOSSIBLE && !q->decided;
	}
	return r;
}

static enum progress_existence by_parents(unsigned n, unsigned created, unsigned impossible)
{
	return created > 0 || n == 0 ? PROGRESS_CREATED : impossible == n ? PROGRESS_IMPOSSIBLE : PROGRESS_POSSIBLE;
}

/* A convergence waits for whichever of its parents there will be. Decisions do not count among them, unless
 * there are no others. */
static enum progress_existence converge(const struct parents *r)
{
	return r->n > 0 ? by_parents(r->n, r->created, r->impossible)
			: by_parents(r->n_decisions, r->decisions_created, r->ruled_out);
}

/* With others beside it, a batch worker is sure to run only when the batchable step has chosen it. */
static bool is_sure(const struct progress *p, const struct shape *worker)
{
	for (unsigned k = 0; k < worker->n_parents; k++) {
		const struct shape *q = parent_of(p, worker, k);
		unsigned n = 0;
		for (unsigned i = 0; q->kind == PROGRESS_BATCHABLE && i < q->n_children; i++)
			n += p->steps[p->edges[q->first_child + i]].kind == PROGRESS_WORKER;
		if (n > 1)
			return false;
	}
	return true;
}

/* A named step comes whatever its other parents do: the decision stands for those that are impossible. So it
 * is with a batch worker and its batchable step. Any other step needs all its parents. */
static enum progress_existence verdict(const struct progress *p, const struct shape *s)
{
	struct parents r = look_at_parents(p, s);
	if (s->named)
		return PROGRESS_CREATED;
	if (s->kind == PROGRESS_CONVERGENCE)
		return converge(&r);
	if (r.n_decisions > 0)
		return r.undecided > 0 ? PROGRESS_POSSIBLE : PROGRESS_IMPOSSIBLE;
	bool all = r.created == r.n && (s->kind != PROGRESS_WORKER || is_sure(p, s));
	return r.impossible > 0 ? PROGRESS_IMPOSSIBLE : all ? PROGRESS_CREATED : PROGRESS_POSSIBLE;
}

void progress_propagate(struct progress *p)
{
	for (unsigned no = 0; no < p->n_steps; no++) {
		if (p->steps[no].existence != PROGRESS_POSSIBLE)
			continue;
		enum progress_existence e = verdict(p, &p->steps[no]);
		if (e == PROGRESS_CREATED)
			make_created(p, no);
		else if (e == PROGRESS_IMPOSSIBLE)
			make_impossible(p, no);
	}
}

/* ---- outcomes ---- */

static bool is_child(const struct progress *p, const struct shape *s, unsigned no)
{
	for (unsigned k = 0; k < s->n_children; k++)
		if (p->edges[s->first_child + k] == no)
			return true;
	return false;
}

static bool may_be_named(const struct progress *p, const struct shape *decision, unsigned no)
{
	if (no >= p->n_steps || !is_child(p, decision, no))
		return false;
	const struct shape *s = &p->steps[no];
	return s->kind == PROGRESS_CONVERGENCE ||
	       (s->kind != PROGRESS_WORKER && s->existence == PROGRESS_POSSIBLE);
}

static int check_names(const struct progress *p, unsigned of, const struct progress_outcome *o)
{
	const struct shape *s = &p->steps[of];
	if (o->n_steps > PROGRESS_NAMES_MAX || s->depth > PROGRESS_DEPTH_MAX)
		return -EINVAL;
	for (unsigned i = 0; i < o->n_steps; i++)
		if (!may_be_named(p, s, o->steps[i]))
			return -EINVAL;
	return 0;
}

static int reserve(struct progress *p, unsigned n)
{
	size_t room = (size_t)p->n_nodes + n;
	struct node *nodes = reallocarray(p->nodes, room, sizeof *nodes);
	if (nodes)
		p->nodes = nodes;
	unsigned *ready = reallocarray(p->ready, room, sizeof *ready);
	if (ready)
		p->ready = ready;
	return nodes && ready ? 0 : -ENOMEM;
}

/* Whether an outcome is meant for this child of its step. */
static bool is_meant(const struct progress *p, const struct progress_outcome *o, unsigned child)
{
	return p->steps[child].kind == PROGRESS_WORKER &&
	       (child == o->worker || (o->worker == PROGRESS_EVERY && o->type == OUTCOME_NO_BATCHES));
}

static int check_batch(struct progress *p, unsigned of, const struct progress_outcome *o)
{
	const struct shape *s = &p->steps[of];
	unsigned n = o->type == OUTCOME_NO_BATCHES ? 1 : o->n_instances, all = 0;
	if (n > PROGRESS_BATCH_MAX)
		return -EINVAL;
	for (unsigned k = 0; k < s->n_children; k++) {
		unsigned c = p->edges[s->first_child + k];
		if (!is_meant(p, o, c))
			continue;
		if (p->steps[c].n > 0 || p->steps[c].existence == PROGRESS_IMPOSSIBLE ||
		    c + ((uint64_t)n + 1) * p->n_steps >= (1u << 24) - 1)
			return -EINVAL;
		all += n;
	}
	return all > 0 ? reserve(p, all) : -EINVAL;
}

int progress_check_outcome(struct progress *p, unsigned of, const struct progress_outcome *o)
{
	enum progress_kind kind = p->steps[of].kind;
	enum progress_outcome_type type = o ? o->type : OUTCOME_NONE;
	if (kind == PROGRESS_DECISION && type == OUTCOME_CREATE_STEPS)
		return check_names(p, of, o);
	if (kind == PROGRESS_BATCHABLE && (type == OUTCOME_CREATE_BATCHES || type == OUTCOME_NO_BATCHES))
		return check_batch(p, of, o);
	bool needs_none = kind != PROGRESS_DECISION && kind != PROGRESS_BATCHABLE;
	return needs_none || (kind == PROGRESS_DECISION && type == OUTCOME_NO_BRANCHES) ? 0 : -EINVAL;
}

static void create_instances(struct progress *p, unsigned worker, unsigned n)
{
	struct shape *w = &p->steps[worker];
	w->existence = PROGRESS_CREATED;
	w->first = p->n_nodes;
	w->n = w->n_unsatisfied = n;
	p->n_nodes += n;
	p->counts.open_sinks += n;
	p->n_open += n;
	unsigned pending = unsatisfied_parents(p, w);
	for (unsigned i = w->first; i < w->first + n; i++)
		p->nodes[i] = (struct node){.state = STEP_PENDING, .of = worker, .pending_parents = pending};
	/* What waited for one that may come waits for these. */
	for (unsigned k = 0; k < w->n_children; k++) {
		const struct shape *c = &p->steps[p->edges[w->first_child + k]];
		for (unsigned i = c->first; i < c->first + c->n; i++)
			p->nodes[i].pending_parents += n - 1;
		if (c->kind != PROGRESS_WORKER && c->existence == PROGRESS_CREATED)
			p->nodes[p->edges[w->first_child + k]].pending_parents += n - 1;
	}
	for (unsigned i = w->first; i < w->first + n && pending == 0 && w->parallelism == 0; i++)
		progress_make_ready(p, &p->nodes[i]);
	progress_open_gate(p, worker);
}

static void apply_batch(struct progress *p, unsigned of, const struct progress_outcome *o)
{
	const struct shape *s = &p->steps[of];
	for (unsigned k = 0; k < s->n_children; k++) {
		unsigned c = p->edges[s->first_child + k];
		if (is_meant(p, o, c))
			create_instances(p, c, o->type == OUTCOME_NO_BATCHES ? 1 : o->n_instances);
	}
	for (unsigned k = 0; k < s->n_children; k++) {
		unsigned c = p->edges[s->first_child + k];
		if (p->steps[c].kind == PROGRESS_WORKER && p->steps[c].n == 0 &&
		    p->steps[c].existence != PROGRESS_IMPOSSIBLE)
			make_impossible(p, c);
	}
}

void progress_apply_outcome(struct progress *p, unsigned of, const struct progress_outcome *o)
{
	if (p->steps[of].kind == PROGRESS_BATCHABLE) {
		apply_batch(p, of, o);
	} else {
		p->steps[of].decided = true;
		for (unsigned i = 0; o->type == OUTCOME_CREATE_STEPS && i < o->n_steps; i++)
			p->steps[o->steps[i]].named = true;
	}
	progress_propagate(p);
}

void progress_fail_batch(struct progress *p, unsigned of)
{
	struct shape *s = &p->steps[of];
	s->n_inside = 0;
	for (unsigned i = s->first; i < s->first + s->n; i++) {
		struct node *n = &p->nodes[i];
		n->returned = 0;
		if (n->state != STEP_ERROR && !(step_states[n->state].flags & STATE_FINISHED))
			progress_move(p, n, STEP_CANCELLED);
	}
	p->counts.visits += s->n;
}

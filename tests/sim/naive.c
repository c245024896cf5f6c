/* The naive model. It keeps no counters: what may run is found by looking at every parent of every step, which
 * steps exist by going round and round until nothing changes. */
#include <errno.h>
#include <string.h>

#include "tests/sim/sim.h"

unsigned naive_numbers(const struct naive *n)
{
	return n->t->n * (SIM_INSTANCES + 1);
}

static unsigned template_of(const struct naive *n, unsigned no)
{
	return no % n->t->n;
}

static const struct progress_step *definition(const struct naive *n, unsigned no)
{
	return &n->t->steps[template_of(n, no)];
}

static bool in_state(const struct naive *n, unsigned no, enum step_state state)
{
	return n->steps[no].exists && n->steps[no].state == state;
}

static bool naive_satisfied(const struct naive *n, unsigned no)
{
	const struct naive_step *s = &n->steps[no];
	return s->exists && (s->tolerated || s->state == STEP_COMPLETE || s->state == STEP_RESOLVED_MANUALLY);
}

/* What `no` still waits for at one parent. */
static unsigned waits_for(const struct naive *n, unsigned parent)
{
	unsigned open = 0;
	if (n->existence[parent] == PROGRESS_IMPOSSIBLE)
		return 0;
	if (n->t->steps[parent].kind != PROGRESS_WORKER)
		return !naive_satisfied(n, parent);
	for (unsigned k = 1; k <= n->n_instances[parent]; k++)
		open += !naive_satisfied(n, parent + k * n->t->n);
	return n->n_instances[parent] ? open : 1;
}

unsigned naive_pending(const struct naive *n, unsigned no)
{
	unsigned of = template_of(n, no), open = 0;
	for (unsigned parent = 0; parent < of; parent++)
		if (n->t->edge[parent][of])
			open += waits_for(n, parent);
	return open;
}

unsigned naive_in_state(const struct naive *n, enum step_state state)
{
	unsigned count = 0;
	for (unsigned no = 0; no < naive_numbers(n); no++)
		count += in_state(n, no, state);
	return count;
}

unsigned naive_live(const struct naive *n, unsigned worker)
{
	unsigned count = 0;
	for (unsigned no = worker + n->t->n; no < naive_numbers(n); no += n->t->n)
		count += in_state(n, no, STEP_ENQUEUED) || in_state(n, no, STEP_IN_PROGRESS) ||
			 in_state(n, no, STEP_WAITING_FOR_RETRY);
	return count;
}

unsigned naive_open(const struct naive *n)
{
	unsigned open = 0;
	for (unsigned no = 0; no < naive_numbers(n); no++)
		open += n->steps[no].exists && !naive_satisfied(n, no) &&
			(n->dynamic || definition(n, no)->n_children == 0);
	return open;
}

static bool has_gate(const struct naive *n, unsigned no)
{
	return definition(n, no)->kind == PROGRESS_WORKER && definition(n, no)->parallelism > 0;
}

static bool is_outside(const struct naive *n, unsigned no)
{
	return has_gate(n, no) && !n->steps[no].inside;
}

bool naive_held(const struct naive *n, unsigned no)
{
	return n->paused || is_outside(n, no);
}

unsigned naive_inside(const struct naive *n, unsigned worker)
{
	unsigned count = 0;
	for (unsigned no = worker + n->t->n; no < naive_numbers(n); no += n->t->n)
		count += n->steps[no].exists && n->steps[no].inside;
	return count;
}

/* ---- which steps exist ---- */

static bool all_parents(const struct naive *n, unsigned no, bool decisions, enum progress_existence e)
{
	for (unsigned q = 0; q < no; q++)
		if (n->t->edge[q][no] && (n->t->steps[q].kind == PROGRESS_DECISION) == decisions &&
		    n->existence[q] != e)
			return false;
	return true;
}

static bool any_parent(const struct naive *n, unsigned no, bool decisions, enum progress_existence e)
{
	for (unsigned q = 0; q < no; q++)
		if (n->t->edge[q][no] && (n->t->steps[q].kind == PROGRESS_DECISION) == decisions &&
		    n->existence[q] == e)
			return true;
	return false;
}

static bool has_parent(const struct naive *n, unsigned no, bool decisions)
{
	return !all_parents(n, no, decisions, (enum progress_existence)-1);
}

static bool may_be_decided(const struct naive *n, unsigned no)
{
	for (unsigned q = 0; q < no; q++)
		if (n->t->edge[q][no] && n->t->steps[q].kind == PROGRESS_DECISION && !n->decided[q] &&
		    n->existence[q] != PROGRESS_IMPOSSIBLE)
			return true;
	return false;
}

static enum progress_existence convergence(const struct naive *n, unsigned no)
{
	bool decisions = !has_parent(n, no, false);
	if (!has_parent(n, no, decisions) || any_parent(n, no, decisions, PROGRESS_CREATED))
		return PROGRESS_CREATED;
	return all_parents(n, no, decisions, PROGRESS_IMPOSSIBLE) ? PROGRESS_IMPOSSIBLE : PROGRESS_POSSIBLE;
}

static unsigned batchable_of(const struct naive *n, unsigned worker)
{
	unsigned q = 0;
	while (!n->t->edge[q][worker] || n->t->steps[q].kind != PROGRESS_BATCHABLE)
		q++;
	return q;
}

static bool has_rival(const struct naive *n, unsigned worker)
{
	for (unsigned w = 0; w < n->t->n; w++)
		if (w != worker && n->t->edge[batchable_of(n, worker)][w] && n->t->steps[w].kind == PROGRESS_WORKER)
			return true;
	return false;
}

static enum progress_existence find_existence(const struct naive *n, unsigned no)
{
	if (n->named & 1u << no || n->n_instances[no] > 0)
		return PROGRESS_CREATED;
	if (n->t->steps[no].kind == PROGRESS_CONVERGENCE)
		return convergence(n, no);
	if (n->t->steps[no].kind == PROGRESS_WORKER)
		return has_rival(n, no) && n->existence[batchable_of(n, no)] == PROGRESS_CREATED
			       ? PROGRESS_POSSIBLE
			       : n->existence[batchable_of(n, no)];
	if (has_parent(n, no, true))
		return may_be_decided(n, no) ? PROGRESS_POSSIBLE : PROGRESS_IMPOSSIBLE;
	if (any_parent(n, no, false, PROGRESS_IMPOSSIBLE))
		return PROGRESS_IMPOSSIBLE;
	return all_parents(n, no, false, PROGRESS_CREATED) ? PROGRESS_CREATED : PROGRESS_POSSIBLE;
}

/* Round and round, and against the order, until nothing changes. */
static void settle_existence(struct naive *n)
{
	bool changed = true;
	while (changed) {
		changed = false;
		for (unsigned no = n->t->n; no-- > 0;) {
			if (n->existence[no] != PROGRESS_POSSIBLE)
				continue;
			n->existence[no] = find_existence(n, no);
			changed = changed || n->existence[no] != PROGRESS_POSSIBLE;
			n->steps[no].exists = n->existence[no] == PROGRESS_CREATED &&
					      n->t->steps[no].kind != PROGRESS_WORKER;
		}
	}
}

/* ---- what follows ---- */

/* Who came back first, or else the first that was never let through. 0: nobody waits. */
static unsigned next_at_gate(const struct naive *n, unsigned worker)
{
	unsigned last = 0, ticket = 0, found = 0;
	for (unsigned no = worker + n->t->n; no < naive_numbers(n); no += n->t->n) {
		const struct naive_step *s = &n->steps[no];
		if (in_state(n, no, STEP_PENDING) && s->ticket > 0 && (ticket == 0 || s->ticket < ticket)) {
			ticket = s->ticket;
			found = no;
		}
		last = s->passed ? no : last;
	}
	for (unsigned no = last ? last + n->t->n : worker + n->t->n; found == 0 && no < naive_numbers(n); no += n->t->n)
		if (in_state(n, no, STEP_PENDING))
			found = no;
	return found;
}

static void open_gates(struct naive *n)
{
	for (unsigned w = 0; w < n->t->n; w++)
		for (unsigned no; has_gate(n, w) && naive_inside(n, w) < n->t->steps[w].parallelism &&
				  (no = next_at_gate(n, w)) > 0;) {
			n->steps[no].inside = n->steps[no].passed = true;
			n->steps[no].ticket = 0;
		}
}

static void advance(struct naive *n)
{
	settle_existence(n);
	open_gates(n);
	for (unsigned no = 0; no < naive_numbers(n); no++)
		if (in_state(n, no, STEP_PENDING) && naive_pending(n, no) == 0 && !naive_held(n, no))
			n->steps[no].state = STEP_ENQUEUED;
}

static bool all_satisfied(const struct naive *n)
{
	for (unsigned no = 0; no < naive_numbers(n); no++)
		if (n->steps[no].exists && !naive_satisfied(n, no))
			return false;
	return true;
}

static bool is_finished(const struct naive *n)
{
	return n->state == TASK_COMPLETE || n->state == TASK_ERROR || n->state == TASK_CANCELLED ||
	       n->state == TASK_RESOLVED_MANUALLY;
}

static void settle(struct naive *n)
{
	if (is_finished(n))
		return;
	if (all_satisfied(n))
		n->state = TASK_COMPLETE;
	else if (!n->paused)
		n->state = naive_in_state(n, STEP_ENQUEUED) + naive_in_state(n, STEP_IN_PROGRESS) > 0
				   ? TASK_STEPS_IN_PROCESS
			   : naive_in_state(n, STEP_WAITING_FOR_RETRY) > 0 ? TASK_WAITING_FOR_RETRY
									   : TASK_BLOCKED_BY_FAILURES;
}

void naive_begin(struct naive *n, const struct sim_template *t)
{
	memset(n, 0, sizeof *n);
	n->t = t;
	for (unsigned no = 0; no < t->n; no++)
		n->dynamic = n->dynamic || t->steps[no].kind != PROGRESS_STANDARD;
	advance(n);
	settle(n);
}

/* ---- outcomes ---- */

static bool names_apply(const struct naive *n, unsigned no, uint32_t names)
{
	for (unsigned c = 0; c < 32; c++) {
		if (!(names & 1u << c))
			continue;
		if (c >= n->t->n || !n->t->edge[no][c] || n->t->steps[c].kind == PROGRESS_WORKER)
			return false;
		if (n->t->steps[c].kind != PROGRESS_CONVERGENCE && n->existence[c] != PROGRESS_POSSIBLE)
			return false;
	}
	return true;
}

static bool is_meant(const struct naive *n, unsigned no, const struct sim_event *e, unsigned w)
{
	bool any = e->worker == PROGRESS_EVERY && e->outcome == OUTCOME_NO_BATCHES;
	return n->t->edge[no][w] && n->t->steps[w].kind == PROGRESS_WORKER && (any || w == e->worker);
}

static bool batch_applies(const struct naive *n, unsigned no, const struct sim_event *e)
{
	unsigned meant = 0;
	for (unsigned w = 0; w < n->t->n; w++) {
		if (!is_meant(n, no, e, w))
			continue;
		if (n->n_instances[w] > 0 || n->existence[w] == PROGRESS_IMPOSSIBLE)
			return false;
		meant++;
	}
	return meant > 0 && (e->outcome == OUTCOME_NO_BATCHES || e->n_instances > 0);
}

static bool outcome_applies(const struct naive *n, unsigned no, const struct sim_event *e)
{
	switch (n->t->steps[template_of(n, no)].kind) {
	case PROGRESS_DECISION:
		return e->outcome == OUTCOME_NO_BRANCHES ||
		       (e->outcome == OUTCOME_CREATE_STEPS && names_apply(n, no, e->names));
	case PROGRESS_BATCHABLE:
		return (e->outcome == OUTCOME_NO_BATCHES || e->outcome == OUTCOME_CREATE_BATCHES) &&
		       batch_applies(n, no, e);
	case PROGRESS_STANDARD:
	case PROGRESS_CONVERGENCE:
	case PROGRESS_WORKER:
		break;
	}
	return true;
}

static void decide(struct naive *n, unsigned no, const struct sim_event *e)
{
	n->decided[no] = true;
	for (unsigned c = 0; e->outcome == OUTCOME_CREATE_STEPS && c < n->t->n; c++)
		if (e->names & 1u << c && n->existence[c] == PROGRESS_POSSIBLE)
			n->named |= 1u << c;
}

static void make_batch(struct naive *n, unsigned no, const struct sim_event *e)
{
	for (unsigned w = 0; w < n->t->n; w++) {
		if (!n->t->edge[no][w] || n->t->steps[w].kind != PROGRESS_WORKER)
			continue;
		if (is_meant(n, no, e, w)) {
			n->existence[w] = PROGRESS_CREATED;
			n->n_instances[w] = e->outcome == OUTCOME_NO_BATCHES ? 1 : e->n_instances;
		} else if (n->n_instances[w] == 0) {
			n->existence[w] = PROGRESS_IMPOSSIBLE;
		}
		for (unsigned k = 1; k <= n->n_instances[w]; k++)
			n->steps[w + k * n->t->n].exists = true;
	}
}

static void satisfy(struct naive *n, unsigned no, enum step_state to, const struct sim_event *e)
{
	n->steps[no].state = to;
	n->steps[no].inside = false;
	enum progress_kind kind = no < n->t->n ? n->t->steps[no].kind : PROGRESS_WORKER;
	if (kind == PROGRESS_DECISION)
		decide(n, no, e);
	else if (kind == PROGRESS_BATCHABLE)
		make_batch(n, no, e);
}

/* ---- events ---- */

static void fail_for_good(struct naive *n, unsigned no)
{
	const struct progress_step *d = definition(n, no);
	n->steps[no].state = STEP_ERROR;
	n->steps[no].inside = false;
	if (d->kind != PROGRESS_WORKER)
		return;
	n->steps[no].tolerated = d->strategy == PROGRESS_CONTINUE;
	for (unsigned i = template_of(n, no) + n->t->n; d->strategy == PROGRESS_FAIL_FAST && i < naive_numbers(n);
	     i += n->t->n) {
		n->steps[i].inside = false;
		n->steps[i].ticket = 0;
		if (n->steps[i].exists && n->steps[i].state != STEP_ERROR && n->steps[i].state != STEP_COMPLETE &&
		    n->steps[i].state != STEP_RESOLVED_MANUALLY)
			n->steps[i].state = STEP_CANCELLED;
	}
}

static void try_again(struct naive *n, unsigned no, bool delayed)
{
	n->steps[no].state = n->paused ? STEP_PENDING : delayed ? STEP_WAITING_FOR_RETRY : STEP_ENQUEUED;
	n->steps[no].delayed = n->paused && delayed;
}

static void fail(struct naive *n, unsigned no, bool retryable, bool delayed)
{
	const struct progress_step *d = definition(n, no);
	if (retryable && d->retryable && n->steps[no].attempts < d->max_attempts)
		try_again(n, no, delayed);
	else
		fail_for_good(n, no);
}

static int succeed(struct naive *n, unsigned no, const struct sim_event *e)
{
	if (!outcome_applies(n, no, e)) {
		fail_for_good(n, no);
		return 1;
	}
	satisfy(n, no, STEP_COMPLETE, e);
	return 0;
}

static bool matches(const struct naive *n, const struct sim_event *e, enum step_state state)
{
	return e->no < naive_numbers(n) && in_state(n, e->no, state) && e->fence_off == 0;
}

static int begin(struct naive *n, const struct sim_event *e, enum step_state from)
{
	if (!matches(n, e, from))
		return -ESTALE;
	n->steps[e->no].state = STEP_IN_PROGRESS;
	n->steps[e->no].attempts++;
	n->steps[e->no].fence++;
	return 0;
}

static int end(struct naive *n, const struct sim_event *e)
{
	struct naive_step *s = &n->steps[e->no];
	if (!matches(n, e, STEP_IN_PROGRESS))
		return -ESTALE;
	if (e->op == SIM_SUCCEED)
		return succeed(n, e->no, e);
	if (e->op == SIM_FAIL) {
		fail(n, e->no, e->retryable, e->delayed);
	} else {
		s->checkpoints += e->op == SIM_YIELD;
		s->attempts--;
		try_again(n, e->no, false);
	}
	return 0;
}

static bool has_failed(const struct naive_step *s)
{
	return s->exists && (s->state == STEP_CANCELLED || (s->state == STEP_ERROR && !s->tolerated));
}

static void reset(struct naive *n, unsigned no)
{
	struct naive_step *s = &n->steps[no];
	s->fence++;
	/* Whoever was let through, or passed over, comes back. */
	bool over = s->state != STEP_WAITING_FOR_RETRY, passed = false;
	for (unsigned i = no; i < naive_numbers(n); i += n->t->n)
		passed = passed || n->steps[i].passed;
	if (over && has_gate(n, no) && passed && s->ticket == 0)
		s->ticket = ++n->tickets;
	s->state = STEP_PENDING;
	s->attempts = 0;
	s->delayed = false;
}

static int act_on_step(struct naive *n, const struct sim_event *e)
{
	if (is_finished(n))
		return -EALREADY;
	if (e->no >= naive_numbers(n) || !n->steps[e->no].exists)
		return -ENOENT;
	const struct naive_step *s = &n->steps[e->no];
	bool over = s->tolerated || s->state == STEP_COMPLETE || s->state == STEP_CANCELLED ||
		    s->state == STEP_RESOLVED_MANUALLY;
	if (e->op == SIM_RESET) {
		if (!has_failed(s) && s->state != STEP_WAITING_FOR_RETRY)
			return -ESTALE;
		reset(n, e->no);
		return 0;
	}
	if (over || (s->state == STEP_PENDING && (is_outside(n, e->no) || naive_pending(n, e->no) > 0)))
		return -ESTALE;
	if (!outcome_applies(n, e->no, e))
		return -EINVAL;
	satisfy(n, e->no, e->op == SIM_RESOLVE ? STEP_RESOLVED_MANUALLY : STEP_COMPLETE, e);
	return 0;
}

static void pause_steps(struct naive *n)
{
	for (unsigned no = 0; no < naive_numbers(n); no++) {
		struct naive_step *s = &n->steps[no];
		if (!in_state(n, no, STEP_ENQUEUED) && !in_state(n, no, STEP_WAITING_FOR_RETRY))
			continue;
		s->delayed = s->state == STEP_WAITING_FOR_RETRY;
		s->state = STEP_PENDING;
		s->fence++;
	}
}

static void resume_steps(struct naive *n, bool due)
{
	for (unsigned no = 0; no < naive_numbers(n); no++) {
		struct naive_step *s = &n->steps[no];
		if (in_state(n, no, STEP_PENDING) && s->delayed && naive_pending(n, no) == 0)
			s->state = due ? STEP_ENQUEUED : STEP_WAITING_FOR_RETRY;
		s->delayed = false;
	}
}

static int act_on_pause(struct naive *n, const struct sim_event *e)
{
	if (n->paused == (e->op == SIM_PAUSE))
		return -ESTALE;
	n->paused = e->op == SIM_PAUSE;
	if (n->paused)
		pause_steps(n);
	else
		resume_steps(n, !e->delayed);
	return 0;
}

static int end_task(struct naive *n, enum task_state state)
{
	if (state == TASK_RESOLVED_MANUALLY && n->state != TASK_BLOCKED_BY_FAILURES)
		return -ESTALE;
	n->state = state;
	n->paused = false;
	for (unsigned no = 0; no < naive_numbers(n); no++)
		n->steps[no].inside = false;
	for (unsigned no = 0; no < naive_numbers(n); no++)
		if (n->steps[no].exists && n->steps[no].state != STEP_COMPLETE &&
		    n->steps[no].state != STEP_RESOLVED_MANUALLY &&
		    (n->steps[no].state != STEP_ERROR || (state == TASK_CANCELLED && !n->steps[no].tolerated)))
			n->steps[no].state = STEP_CANCELLED;
	return 0;
}

static int retry_all(struct naive *n)
{
	unsigned count = 0;
	if (is_finished(n) && n->state != TASK_ERROR)
		return -EALREADY;
	for (unsigned no = 0; no < naive_numbers(n); no++)
		if (has_failed(&n->steps[no])) {
			reset(n, no);
			count++;
		}
	if (count == 0)
		return -ESTALE;
	n->state = n->state == TASK_ERROR ? TASK_STEPS_IN_PROCESS : n->state;
	return 0;
}

static int act_on_task(struct naive *n, const struct sim_event *e)
{
	if (e->op == SIM_RETRY)
		return retry_all(n);
	if (is_finished(n))
		return -EALREADY;
	if (e->op == SIM_PAUSE || e->op == SIM_RESUME)
		return act_on_pause(n, e);
	return end_task(n, e->op == SIM_CANCEL	     ? TASK_CANCELLED
			   : e->op == SIM_FAIL_TASK ? TASK_ERROR
						    : TASK_RESOLVED_MANUALLY);
}

static int lose_node(struct naive *n)
{
	for (unsigned no = 0; no < naive_numbers(n); no++)
		if (in_state(n, no, STEP_IN_PROGRESS)) {
			fail(n, no, true, false);
			advance(n);
		}
	return 0;
}

static int dispatch(struct naive *n, const struct sim_event *e)
{
	switch (e->op) {
	case SIM_CLAIM:
	case SIM_DUE:
		return begin(n, e, e->op == SIM_CLAIM ? STEP_ENQUEUED : STEP_WAITING_FOR_RETRY);
	case SIM_SUCCEED:
	case SIM_FAIL:
	case SIM_RELEASE:
	case SIM_YIELD:
		return end(n, e);
	case SIM_RESET:
	case SIM_RESOLVE:
	case SIM_COMPLETE:
		return act_on_step(n, e);
	case SIM_RETRY:
	case SIM_PAUSE:
	case SIM_RESUME:
	case SIM_CANCEL:
	case SIM_RESOLVE_TASK:
	case SIM_FAIL_TASK:
		return act_on_task(n, e);
	case SIM_NODE_LOST:
		return lose_node(n);
	case SIM_ROLLBACK:
	case SIM_OPS:
		break;
	}
	return 0;
}

int naive_apply(struct naive *n, const struct sim_event *e)
{
	int r = dispatch(n, e);
	if (!is_finished(n))
		advance(n);
	settle(n);
	return r;
}

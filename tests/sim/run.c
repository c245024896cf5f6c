/* Both models through the same events, and what must hold after each of them. */
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "tests/sim/sim.h"

static void __attribute__((noreturn, format(printf, 2, 3))) fail(struct sim_run *r, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(r->why, sizeof r->why, format, args);
	va_end(args);
	longjmp(r->failed, 1);
}

#define CHECK(r, what, no)                                                                                   \
	do {                                                                                                 \
		if (!(what))                                                                                 \
			fail((r), "step %u: %s", (unsigned)(no), #what);                                     \
	} while (0)

/* ---- an event, done to the model ---- */

static unsigned fence_of(const struct sim_run *r, const struct sim_event *e)
{
	unsigned now = progress_has_step(r->progress, e->no) ? progress_fence(r->progress, e->no) : 0;
	return now + (unsigned)e->fence_off;
}

struct outcome {
	struct progress_outcome o;
	unsigned names[32];
};

static const struct progress_outcome *outcome_of(struct outcome *out, const struct sim_event *e)
{
	out->o = (struct progress_outcome){
		.type = e->outcome, .steps = out->names, .worker = e->worker, .n_instances = e->n_instances};
	for (unsigned i = 0; i < 32; i++)
		if (e->names & 1u << i)
			out->names[out->o.n_steps++] = i;
	return e->outcome == OUTCOME_NONE ? NULL : &out->o;
}

static int do_step(struct sim_run *r, const struct sim_event *e)
{
	struct outcome out;
	unsigned fence = fence_of(r, e);
	switch ((int)e->op) {
	case SIM_CLAIM:
		return progress_claim(r->progress, e->no, fence);
	case SIM_DUE:
		return progress_retry_due(r->progress, e->no, fence);
	case SIM_SUCCEED:
		return progress_succeed(r->progress, e->no, fence, outcome_of(&out, e));
	case SIM_FAIL:
		return progress_fail(r->progress, e->no, fence, e->retryable, e->delayed);
	case SIM_RELEASE:
		return progress_release(r->progress, e->no, fence);
	case SIM_YIELD:
		return progress_yield(r->progress, e->no, fence);
	case SIM_RESET:
		return progress_reset(r->progress, e->no);
	case SIM_RESOLVE:
		return progress_resolve(r->progress, e->no, e->worker);
	default:
		return progress_complete(r->progress, e->no, outcome_of(&out, e));
	}
}

static int lose_node(struct sim_run *r)
{
	for (unsigned no = 0; no < naive_numbers(&r->naive); no++) {
		struct sim_event e = {.op = SIM_FAIL, .no = no, .retryable = true};
		if (progress_has_step(r->progress, no) && progress_step_state(r->progress, no) == STEP_IN_PROGRESS &&
		    do_step(r, &e) != 0)
			return -1;
	}
	return 0;
}

/* Work on a copy that is then thrown away, as a transaction that does not commit. */
static int roll_back(struct sim_run *r)
{
	struct progress *kept = r->progress;
	if (progress_copy(kept, &r->progress) != 0)
		return -ENOMEM;
	for (unsigned no = 0; no < naive_numbers(&r->naive); no++)
		for (unsigned op = SIM_CLAIM; op <= SIM_RESOLVE; op += 2) {
			struct sim_event e = {.op = (enum sim_op)op, .no = no};
			if (do_step(r, &e) == 1)
				break;
		}
	progress_free(r->progress);
	r->progress = kept;
	return 0;
}

static int do_event(struct sim_run *r, const struct sim_event *e)
{
	unsigned n;
	switch ((int)e->op) {
	case SIM_RETRY:
		return progress_retry(r->progress, &n);
	case SIM_PAUSE:
		return progress_pause(r->progress);
	case SIM_RESUME:
		return progress_resume(r->progress, !e->delayed);
	case SIM_CANCEL:
		return progress_cancel(r->progress);
	case SIM_RESOLVE_TASK:
		return progress_resolve_task(r->progress);
	case SIM_FAIL_TASK:
		return progress_fail_task(r->progress);
	case SIM_NODE_LOST:
		return lose_node(r);
	case SIM_ROLLBACK:
		return roll_back(r);
	default:
		return do_step(r, e);
	}
}

/* ---- what must hold ---- */

/* The two agree about every step. */
static void check_step(struct sim_run *r, unsigned no, bool over)
{
	const struct naive_step *s = &r->naive.steps[no];
	CHECK(r, progress_has_step(r->progress, no) == s->exists, no);
	if (!s->exists)
		return;
	enum step_state state = progress_step_state(r->progress, no);
	if (state != s->state)
		fail(r, "step %u is %s, and should be %s", no, step_states[state].name,
		     step_states[s->state].name);
	CHECK(r, progress_attempts(r->progress, no) == s->attempts, no);
	CHECK(r, progress_fence(r->progress, no) == s->fence, no);
	CHECK(r, progress_checkpoints(r->progress, no) == s->checkpoints, no);
	CHECK(r, progress_tolerated(r->progress, no) == s->tolerated, no);
	unsigned pending = naive_pending(&r->naive, no);
	if (state == STEP_PENDING && !over)
		CHECK(r, progress_pending_parents(r->progress, no) == pending, no);
	if (state == STEP_ENQUEUED || state == STEP_IN_PROGRESS || state == STEP_WAITING_FOR_RETRY)
		CHECK(r, pending == 0, no); /* nothing runs early */
	if (state == STEP_PENDING && pending == 0 && !over)
		CHECK(r, naive_held(&r->naive, no), no); /* nothing that is ready is left behind */
	if (over)
		CHECK(r, step_states[state].flags & (STATE_FINISHED | STATE_SETTLED), no); /* quiet */
}

static void check_shape(struct sim_run *r, unsigned no)
{
	const struct progress_step *s = &r->t->steps[no];
	CHECK(r, progress_existence(r->progress, no) == r->naive.existence[no], no);
	CHECK(r, progress_instances(r->progress, no) == r->naive.n_instances[no], no);
	if (s->kind == PROGRESS_WORKER && s->parallelism > 0)
		CHECK(r, naive_live(&r->naive, no) <= s->parallelism && naive_inside(&r->naive, no) <= s->parallelism,
		      no);
}

static void check_counts(struct sim_run *r)
{
	struct progress_counts c = progress_counts(r->progress);
	const struct naive *n = &r->naive;
	unsigned active = naive_in_state(n, STEP_ENQUEUED) + naive_in_state(n, STEP_IN_PROGRESS), failed = 0;
	for (unsigned no = 0; no < naive_numbers(n); no++)
		failed += n->steps[no].exists && n->steps[no].state == STEP_ERROR && !n->steps[no].tolerated;
	CHECK(r, c.open_sinks == naive_open(n), 0);
	CHECK(r, c.n_active == active, 0);
	CHECK(r, c.n_waiting == naive_in_state(n, STEP_WAITING_FOR_RETRY), 0);
	if (!(task_states[n->state].flags & STATE_FINISHED))
		CHECK(r, c.n_failed == failed, 0);
	/* The counters alone tell that a task is complete. */
	if (!n->paused && !(task_states[n->state].flags & STATE_FINISHED))
		CHECK(r, c.open_sinks + c.n_active + c.n_waiting + c.n_failed > 0, 0);
	/* While nothing has failed the database need not count. */
	if (!progress_is_counted(r->progress))
		CHECK(r, c.n_waiting == 0 && c.n_failed == 0 && (c.n_active > 0) == (c.open_sinks > 0), 0);
}

/* From every unfinished state somebody moves the task on: what runs or waits, a pause, or what has failed. */
static void check_owner(struct sim_run *r)
{
	const struct naive *n = &r->naive;
	struct progress_counts c = progress_counts(r->progress);
	bool over = task_states[n->state].flags & STATE_FINISHED;
	bool owned = c.n_active + c.n_waiting + c.n_failed + naive_in_state(n, STEP_CANCELLED) > 0;
	CHECK(r, over || n->paused || owned, 0);
	if (n->state == TASK_BLOCKED_BY_FAILURES && !n->paused)
		CHECK(r, c.n_active + c.n_waiting == 0, 0);
	if (n->state == TASK_COMPLETE)
		CHECK(r, c.open_sinks + c.n_active + c.n_waiting + c.n_failed == 0, 0);
}

static void check_all(struct sim_run *r)
{
	enum task_state state = progress_task_state(r->progress);
	if (state != r->naive.state)
		fail(r, "the task is %s, and should be %s", task_states[state].name,
		     task_states[r->naive.state].name);
	CHECK(r, progress_is_paused(r->progress) == r->naive.paused, 0);
	bool over = task_states[state].flags & STATE_FINISHED;
	for (unsigned no = 0; no < naive_numbers(&r->naive); no++)
		check_step(r, no, over);
	for (unsigned no = 0; no < r->t->n; no++)
		check_shape(r, no);
	check_counts(r);
	check_owner(r);
}

/* Every change is in the tables. */
static void check_moves(struct sim_run *r, const struct naive *before)
{
	enum task_state task = progress_task_state(r->progress);
	CHECK(r, task == before->state || task_may_move(before->state, task, false), 0);
	for (unsigned no = 0; no < naive_numbers(before); no++) {
		const struct naive_step *b = &before->steps[no];
		if (!progress_has_step(r->progress, no)) {
			CHECK(r, !b->exists, no);
			continue;
		}
		enum step_state was = b->exists ? b->state : STEP_PENDING;
		enum step_state now = progress_step_state(r->progress, no);
		CHECK(r, now == was || step_may_move(was, now, false), no);
	}
}

void sim_run_begin(struct sim_run *r, const struct sim_template *t)
{
	r->t = t;
	r->progress = NULL;
	r->n_events = 0;
	naive_begin(&r->naive, t);
	if (progress_new(t->steps, t->n, &r->progress) != 0)
		fail(r, "the template is refused");
	check_all(r);
}

void sim_run_end(struct sim_run *r)
{
	progress_free(r->progress);
	r->progress = NULL;
}

void sim_run_event(struct sim_run *r, const struct sim_event *e)
{
	struct naive before = r->naive;
	if (r->n_events < SIM_EVENTS)
		r->events[r->n_events] = *e;
	r->n_events++;
	int got = do_event(r, e);
	int wanted = naive_apply(&r->naive, e);
	if (got != wanted)
		fail(r, "%s answered %d, and should have answered %d", sim_op_names[e->op], got, wanted);
	check_all(r);
	check_moves(r, &before);
	r->visited[r->naive.state]++;
}

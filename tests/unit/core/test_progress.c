/* Progress by count-down against a naive model that knows only each step's state, tries and fence, and reads
 * the whole DAG again for every question. Random DAGs, random events in random order, about a third of them
 * wrong (stale fence, wrong state): after each event the two must agree and every invariant must hold. A
 * failure names its seed; TASKERD_SEED=n replays that one alone. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "daemon/core/progress.h"
#include "tests/unit/core/rng.h"

/* A standard step that may be tried again. */
#define STEP(kids, n, attempts) {.children = (kids), .n_children = (n), .max_attempts = (attempts), .retryable = true}

#define N_CASES 4000
#define MAX_STEPS 40
#define MAX_EVENTS 600

struct dag {
	unsigned n;
	bool edge[MAX_STEPS][MAX_STEPS];
	unsigned children[MAX_STEPS][MAX_STEPS];
	struct progress_step steps[MAX_STEPS];
};

struct naive_step {
	enum step_state state;
	unsigned attempts, fence;
};

struct run {
	uint64_t seed, rng;
	struct dag dag;
	struct naive_step steps[MAX_STEPS];
	bool cancelled;
	struct progress *progress;
	unsigned events;
};

/* Check writes down every assertion, which would be most of the time here. */
#define CHECK(run, what)                                                                                     \
	do {                                                                                                 \
		if (!(what))                                                                                 \
			ck_abort_msg("seed %llu, event %u: %s", (unsigned long long)(run)->seed,             \
				     (run)->events, #what);                                                  \
	} while (0)

static void make_dag(struct dag *d, uint64_t *rng)
{
	memset(d, 0, sizeof *d);
	d->n = rng_below(rng, 20) == 0 ? rng_below(rng, 2) : 1 + rng_below(rng, MAX_STEPS);
	unsigned density = 1 + rng_below(rng, 100), span = 1 + rng_below(rng, MAX_STEPS);
	for (unsigned from = 0; from < d->n; from++) {
		struct progress_step *s = &d->steps[from];
		for (unsigned to = from + 1; to < d->n && to <= from + span; to++) {
			if (rng_below(rng, 100) >= density)
				continue;
			d->edge[from][to] = true;
			d->children[from][s->n_children++] = to;
		}
		s->children = d->children[from];
		s->max_attempts = rng_below(rng, 4);
		s->retryable = rng_below(rng, 5) > 0;
	}
}

/* The naive model: everything from the states of the steps. */

static bool satisfied(const struct run *r, unsigned step)
{
	return step_states[r->steps[step].state].flags & STATE_SATISFIES;
}

static unsigned unsatisfied_parents(const struct run *r, unsigned step)
{
	unsigned n = 0;
	for (unsigned from = 0; from < step; from++)
		n += r->dag.edge[from][step] && !satisfied(r, from);
	return n;
}

static unsigned in_state(const struct run *r, enum step_state state)
{
	unsigned n = 0;
	for (unsigned i = 0; i < r->dag.n; i++)
		n += r->steps[i].state == state;
	return n;
}

static unsigned naive_active(const struct run *r)
{
	return in_state(r, STEP_ENQUEUED) + in_state(r, STEP_IN_PROGRESS);
}

static enum task_state naive_task(const struct run *r)
{
	if (r->cancelled)
		return TASK_CANCELLED;
	if (in_state(r, STEP_COMPLETE) == r->dag.n)
		return TASK_COMPLETE;
	if (naive_active(r) > 0)
		return TASK_STEPS_IN_PROCESS;
	return in_state(r, STEP_WAITING_FOR_RETRY) > 0 ? TASK_WAITING_FOR_RETRY : TASK_BLOCKED_BY_FAILURES;
}

/* Enqueue what has become ready; the mask of those. */
static uint64_t naive_advance(struct run *r)
{
	uint64_t ready = 0;
	for (unsigned i = 0; i < r->dag.n; i++) {
		if (r->steps[i].state != STEP_PENDING || unsatisfied_parents(r, i) > 0)
			continue;
		r->steps[i].state = STEP_ENQUEUED;
		ready |= 1ull << i;
	}
	return ready;
}

static void naive_end(struct run *r, unsigned step, bool retryable, bool delayed)
{
	struct naive_step *s = &r->steps[step];
	const struct progress_step *def = &r->dag.steps[step];
	bool again = retryable && def->retryable && s->attempts < def->max_attempts;
	s->state = !again ? STEP_ERROR : delayed ? STEP_WAITING_FOR_RETRY : STEP_ENQUEUED;
}

/* What must hold after every event. */

static void check_steps(const struct run *r)
{
	for (unsigned i = 0; i < r->dag.n; i++) {
		const struct naive_step *s = &r->steps[i];
		CHECK(r, progress_step_state(r->progress, i) == s->state);
		CHECK(r, progress_attempts(r->progress, i) == s->attempts);
		CHECK(r, progress_fence(r->progress, i) == s->fence);
		if (!r->cancelled)
			CHECK(r, progress_pending_parents(r->progress, i) == unsatisfied_parents(r, i));
		if (s->fence > 0)
			CHECK(r, unsatisfied_parents(r, i) == 0); /* nothing ran early */
		if (s->state == STEP_PENDING)
			CHECK(r, unsatisfied_parents(r, i) > 0); /* nothing ready was left behind */
	}
}

static void check_task(const struct run *r)
{
	struct progress_counts c = progress_counts(r->progress);
	enum task_state state = progress_task_state(r->progress);
	unsigned sinks = 0;
	for (unsigned i = 0; i < r->dag.n; i++)
		sinks += r->dag.steps[i].n_children == 0 && !satisfied(r, i);
	CHECK(r, c.open_sinks == sinks);
	CHECK(r, c.n_active == naive_active(r));
	CHECK(r, c.n_waiting == in_state(r, STEP_WAITING_FOR_RETRY));
	CHECK(r, c.n_failed == in_state(r, STEP_ERROR));
	CHECK(r, state == naive_task(r));
	/* Nothing is stranded: a task that is not settled has a step that something will move, a blocked one
	 * has a failure and no such step. */
	if (!(task_states[state].flags & STATE_SETTLED))
		CHECK(r, c.n_active + c.n_waiting > 0);
	if (state == TASK_BLOCKED_BY_FAILURES)
		CHECK(r, c.n_failed > 0 && c.n_active + c.n_waiting == 0);
	if (task_states[state].flags & STATE_FINISHED)
		for (unsigned i = 0; i < r->dag.n; i++)
			CHECK(r, step_states[r->steps[i].state].flags & STATE_FINISHED);
	/* While nothing has failed the database need not count. */
	if (!progress_is_counted(r->progress))
		CHECK(r, c.n_waiting == 0 && c.n_failed == 0 && (c.n_active > 0) == (c.open_sinks > 0));
}

struct before {
	enum task_state task;
	enum step_state steps[MAX_STEPS];
};

static void remember(const struct run *r, struct before *b)
{
	b->task = progress_task_state(r->progress);
	for (unsigned i = 0; i < r->dag.n; i++)
		b->steps[i] = progress_step_state(r->progress, i);
}

/* Every change is in the tables. */
static void check_moves(const struct run *r, const struct before *b)
{
	enum task_state task = progress_task_state(r->progress);
	CHECK(r, task == b->task || task_may_move(b->task, task, false));
	for (unsigned i = 0; i < r->dag.n; i++) {
		enum step_state now = progress_step_state(r->progress, i);
		CHECK(r, now == b->steps[i] || step_may_move(b->steps[i], now, false));
	}
}

/* Events, done to both models. */

enum event { EV_CLAIM, EV_RETRY_DUE, EV_SUCCEED, EV_FAIL, EV_RELEASE, EV_COUNT };

static enum step_state state_for(enum event ev)
{
	static const enum step_state wanted[EV_COUNT] = {
		STEP_ENQUEUED, STEP_WAITING_FOR_RETRY, STEP_IN_PROGRESS, STEP_IN_PROGRESS, STEP_IN_PROGRESS};
	return wanted[ev];
}

static void begin(struct run *r, unsigned step)
{
	r->steps[step].state = STEP_IN_PROGRESS;
	r->steps[step].attempts++;
	r->steps[step].fence++;
}

static void check_ready(const struct run *r, const unsigned *ready, unsigned n_ready, uint64_t wanted)
{
	uint64_t got = 0;
	for (unsigned i = 0; i < n_ready; i++) {
		CHECK(r, i == 0 || ready[i - 1] < ready[i]);
		got |= 1ull << ready[i];
	}
	CHECK(r, got == wanted);
}

static int do_event(struct run *r, enum event ev, unsigned step, unsigned fence, bool legal)
{
	unsigned n_ready;
	const unsigned *ready;
	bool retryable = rng_below(&r->rng, 4) > 0, delayed = rng_below(&r->rng, 2);
	int rc = -1;
	switch (ev) {
	case EV_CLAIM:
	case EV_RETRY_DUE:
		rc = ev == EV_CLAIM ? progress_claim(r->progress, step, fence)
				    : progress_retry_due(r->progress, step, fence);
		if (legal)
			begin(r, step);
		break;
	case EV_SUCCEED:
		rc = progress_succeed(r->progress, step, fence, NULL);
		if (legal) {
			r->steps[step].state = STEP_COMPLETE;
			ready = progress_ready(r->progress, &n_ready);
			check_ready(r, ready, n_ready, naive_advance(r));
		}
		break;
	case EV_FAIL:
		rc = progress_fail(r->progress, step, fence, retryable, delayed);
		if (legal)
			naive_end(r, step, retryable, delayed);
		break;
	case EV_RELEASE:
		rc = progress_release(r->progress, step, fence);
		if (legal) {
			r->steps[step].state = STEP_ENQUEUED;
			r->steps[step].attempts--;
		}
		break;
	case EV_COUNT:
		break;
	}
	return rc;
}

static enum event pick_event(struct run *r, unsigned luck)
{
	unsigned x = rng_below(&r->rng, 100);
	if (x < 40)
		return EV_CLAIM;
	if (x < 50)
		return EV_RETRY_DUE;
	if (x >= 97)
		return EV_RELEASE;
	return rng_below(&r->rng, 100) < luck ? EV_SUCCEED : EV_FAIL;
}

/* One event on a random step, mostly one that applies. */
static void one_event(struct run *r, unsigned luck)
{
	enum event ev = pick_event(r, luck);
	unsigned step = rng_below(&r->rng, r->dag.n);
	bool seek = rng_below(&r->rng, 3) > 0;
	for (unsigned i = 0; seek && i < r->dag.n && r->steps[step].state != state_for(ev); i++)
		step = (step + 1) % r->dag.n;
	unsigned fence = r->steps[step].fence;
	if (rng_below(&r->rng, 10) == 0)
		fence += rng_below(&r->rng, 2) ? 1 : ~0u;
	bool legal = r->steps[step].state == state_for(ev) && r->steps[step].fence == fence;
	CHECK(r, do_event(r, ev, step, fence, legal) == (legal ? 0 : -ESTALE));
}

static void cancel(struct run *r)
{
	bool live = !(task_states[naive_task(r)].flags & STATE_FINISHED);
	CHECK(r, progress_cancel(r->progress) == (live ? 0 : -EALREADY));
	if (!live)
		return;
	r->cancelled = true;
	for (unsigned i = 0; i < r->dag.n; i++)
		if (r->steps[i].state != STEP_COMPLETE)
			r->steps[i].state = STEP_CANCELLED;
}

/* Counts in `visited` the states in which events left the task. */
static void run_case(uint64_t seed, unsigned long *visited)
{
	static struct run run; /* large, and each test runs in its own process */
	struct run *r = &run;
	memset(r, 0, sizeof *r);
	r->seed = r->rng = seed;
	make_dag(&r->dag, &r->rng);
	naive_advance(r);
	ck_assert_int_eq(progress_new(r->dag.steps, r->dag.n, &r->progress), 0);
	check_steps(r);
	check_task(r);
	unsigned luck = rng_below(&r->rng, 3) ? 80 + rng_below(&r->rng, 21) : rng_below(&r->rng, 100);
	unsigned cancel_at = rng_below(&r->rng, 4) == 0 ? rng_below(&r->rng, 200) : MAX_EVENTS;
	while (r->dag.n > 0 && r->events++ < MAX_EVENTS) {
		struct before b;
		bool over = task_states[naive_task(r)].flags & STATE_SETTLED;
		remember(r, &b);
		if (r->events == cancel_at)
			cancel(r);
		else
			one_event(r, luck);
		check_steps(r);
		check_task(r);
		check_moves(r, &b);
		visited[naive_task(r)]++;
		if (over && rng_below(&r->rng, 20) == 0)
			break;
	}
	progress_free(r->progress);
}

START_TEST(agrees_with_the_naive_model)
{
	static unsigned long visited[TASK_STATE_COUNT];
	uint64_t asked = rng_asked_seed();
	if (asked) {
		run_case(asked, visited);
		return;
	}
	for (uint64_t seed = 1; seed <= N_CASES; seed++)
		run_case(seed, visited);
	/* The cases are worth something: each state in which a task rests is well represented. */
	const enum task_state resting[] = {TASK_STEPS_IN_PROCESS, TASK_WAITING_FOR_RETRY,
					   TASK_BLOCKED_BY_FAILURES, TASK_COMPLETE, TASK_CANCELLED};
	for (unsigned i = 0; i < 5; i++)
		ck_assert_msg(visited[resting[i]] >= N_CASES, "%lu events left a task in %s",
			      visited[resting[i]], task_states[resting[i]].name);
}
END_TEST

/* Run everything that is ready, first come first served, all successes; returns the number of steps run. */
static unsigned run_through(struct progress *p, unsigned n, unsigned *fifo)
{
	unsigned head = 0, tail = 0, n_ready;
	for (unsigned i = 0; i < n; i++)
		if (progress_step_state(p, i) == STEP_ENQUEUED)
			fifo[tail++] = i;
	for (; head < tail; head++) {
		if (progress_claim(p, fifo[head], 0) != 0 || progress_succeed(p, fifo[head], 1, NULL) != 0)
			ck_abort_msg("step %u of %u", fifo[head], n);
		const unsigned *ready = progress_ready(p, &n_ready);
		memcpy(fifo + tail, ready, n_ready * sizeof *ready);
		tail += n_ready;
	}
	return head;
}

/* Layers of `width`, each step the parent of the whole next layer: `n` steps, width * width * (layers - 1)
 * edges. */
static void check_linear(unsigned layers, unsigned width)
{
	unsigned n = layers * width, *children = calloc(n, sizeof *children), *fifo = calloc(n, sizeof *fifo);
	struct progress_step *steps = calloc(n, sizeof *steps);
	struct progress *p = NULL;
	for (unsigned i = 0; i < n; i++) {
		children[i] = i;
		steps[i].max_attempts = 1;
		steps[i].n_children = i / width + 1 < layers ? width : 0;
		steps[i].children = children + (i / width + 1) * width * (steps[i].n_children > 0);
	}
	ck_assert_int_eq(progress_new(steps, n, &p), 0);
	ck_assert_uint_eq(run_through(p, n, fifo), n);
	struct progress_counts c = progress_counts(p);
	ck_assert_int_eq(progress_task_state(p), TASK_COMPLETE);
	ck_assert_uint_eq(c.open_sinks, 0);
	ck_assert_uint_eq(c.n_active, 0);
	ck_assert(!progress_is_counted(p));
	ck_assert_uint_eq(c.visits, 2ull * n + (uint64_t)width * width * (layers - 1));
	progress_free(p);
	free(steps);
	free(fifo);
	free(children);
}

START_TEST(costs_steps_and_edges)
{
	check_linear(1, 1);
	check_linear(100000, 1);
	check_linear(1, 100000);
	check_linear(2, 1000);
	check_linear(50, 100);
}
END_TEST

START_TEST(fan_in_and_out)
{
	enum { WIDTH = 10000, N = WIDTH + 2 };
	static unsigned middle[WIDTH], fifo[N];
	static struct progress_step steps[N];
	const unsigned last = N - 1;
	struct progress *p = NULL;
	for (unsigned i = 0; i < WIDTH; i++) {
		middle[i] = i + 1;
		steps[i + 1] = (struct progress_step)STEP(&last, 1, 3);
	}
	steps[0] = (struct progress_step)STEP(middle, WIDTH, 3);
	steps[last] = (struct progress_step)STEP(NULL, 0, 3);
	ck_assert_int_eq(progress_new(steps, N, &p), 0);
	ck_assert_uint_eq(progress_pending_parents(p, last), WIDTH);
	ck_assert_uint_eq(run_through(p, N, fifo), N);
	ck_assert_uint_eq(fifo[last], last);
	ck_assert_uint_eq(progress_counts(p).visits, 2 * N + 2 * WIDTH);
	progress_free(p);
}
END_TEST

/* One failed branch blocks only what hangs on it. */
START_TEST(a_failed_branch_blocks_only_its_descendants)
{
	const unsigned kids[] = {1, 2}, three = 3, four = 4;
	const struct progress_step steps[] = {STEP(kids, 2, 1),
					      STEP(&three, 1, 1),
					      STEP(&four, 1, 2),
					      STEP(NULL, 0, 1),
					      STEP(NULL, 0, 1)};
	struct progress *p = NULL;
	unsigned n;
	ck_assert_int_eq(progress_new(steps, 5, &p), 0);
	ck_assert_int_eq(progress_claim(p, 0, 0), 0);
	ck_assert_int_eq(progress_succeed(p, 0, 1, NULL), 0);
	progress_ready(p, &n);
	ck_assert_uint_eq(n, 2);
	ck_assert_int_eq(progress_claim(p, 1, 0), 0);
	ck_assert_int_eq(progress_claim(p, 2, 0), 0);
	ck_assert_int_eq(progress_fail(p, 1, 1, true, true), 0); /* its only attempt */
	ck_assert_int_eq(progress_step_state(p, 1), STEP_ERROR);
	ck_assert_int_eq(progress_task_state(p), TASK_STEPS_IN_PROCESS);
	ck_assert_int_eq(progress_fail(p, 2, 1, true, true), 0); /* the first of two */
	ck_assert_int_eq(progress_task_state(p), TASK_WAITING_FOR_RETRY);
	ck_assert_int_eq(progress_retry_due(p, 2, 1), 0);
	ck_assert_int_eq(progress_task_state(p), TASK_STEPS_IN_PROCESS);
	ck_assert_int_eq(progress_succeed(p, 2, 2, NULL), 0);
	ck_assert_int_eq(progress_claim(p, 4, 0), 0);
	ck_assert_int_eq(progress_succeed(p, 4, 1, NULL), 0);
	ck_assert_int_eq(progress_task_state(p), TASK_BLOCKED_BY_FAILURES);
	ck_assert_int_eq(progress_step_state(p, 3), STEP_PENDING);
	ck_assert_int_eq(progress_cancel(p), 0);
	ck_assert_int_eq(progress_step_state(p, 1), STEP_CANCELLED);
	ck_assert_int_eq(progress_step_state(p, 2), STEP_COMPLETE);
	ck_assert_int_eq(progress_cancel(p), -EALREADY);
	progress_free(p);
}
END_TEST

START_TEST(released_attempts_are_not_counted)
{
	const struct progress_step step = STEP(NULL, 0, 1);
	struct progress *p = NULL;
	ck_assert_int_eq(progress_new(&step, 1, &p), 0);
	for (unsigned fence = 0; fence < 50; fence++) {
		ck_assert_int_eq(progress_claim(p, 0, fence), 0);
		ck_assert_uint_eq(progress_attempts(p, 0), 1);
		ck_assert_int_eq(progress_release(p, 0, fence + 1), 0);
		ck_assert_int_eq(progress_release(p, 0, fence + 1), -ESTALE);
		ck_assert_uint_eq(progress_attempts(p, 0), 0);
	}
	ck_assert_int_eq(progress_claim(p, 0, 50), 0);
	ck_assert_int_eq(progress_succeed(p, 0, 50, NULL), -ESTALE);
	ck_assert_int_eq(progress_succeed(p, 0, 51, NULL), 0);
	ck_assert_int_eq(progress_succeed(p, 0, 51, NULL), -ESTALE);
	ck_assert_int_eq(progress_task_state(p), TASK_COMPLETE);
	progress_free(p);
}
END_TEST

START_TEST(shapes_refused)
{
	const unsigned self = 0, beyond = 2, one = 1;
	const struct progress_step loop[] = {STEP(&self, 1, 1), STEP(NULL, 0, 1)};
	const struct progress_step back[] = {STEP(NULL, 0, 1), STEP(&self, 1, 1)};
	const struct progress_step far[] = {STEP(&one, 1, 1), STEP(&beyond, 1, 1)};
	struct progress *p = NULL;
	ck_assert_int_eq(progress_new(loop, 2, &p), -EINVAL);
	ck_assert_int_eq(progress_new(back, 2, &p), -EINVAL);
	ck_assert_int_eq(progress_new(far, 2, &p), -EINVAL);
	ck_assert_ptr_null(p);
	ck_assert_int_eq(progress_new(NULL, 0, &p), 0);
	ck_assert_int_eq(progress_task_state(p), TASK_COMPLETE);
	progress_free(p);
	progress_free(NULL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("progress");
	TCase *tc = tcase_create("progress");
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, agrees_with_the_naive_model);
	tcase_add_test(tc, costs_steps_and_edges);
	tcase_add_test(tc, fan_in_and_out);
	tcase_add_test(tc, a_failed_branch_blocks_only_its_descendants);
	tcase_add_test(tc, released_attempts_are_not_counted);
	tcase_add_test(tc, shapes_refused);
	suite_add_tcase(s, tc);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}

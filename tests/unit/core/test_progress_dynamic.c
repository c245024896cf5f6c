/* The model of the engine by examples: what the simulator's two models could both have misread. */
#include <check.h>
#include <errno.h>
#include "daemon/core/progress.h"

#define KIDS(...) (const unsigned[]){__VA_ARGS__}, sizeof((const unsigned[]){__VA_ARGS__}) / sizeof(unsigned)

static void finish(struct progress *p, unsigned no, const struct progress_outcome *o)
{
	ck_assert_int_eq(progress_claim(p, no, progress_fence(p, no)), 0);
	ck_assert_int_eq(progress_succeed(p, no, progress_fence(p, no), o), 0);
}

static void end_in_error(struct progress *p, unsigned no)
{
	ck_assert_int_eq(progress_claim(p, no, progress_fence(p, no)), 0);
	ck_assert_int_eq(progress_fail(p, no, progress_fence(p, no), false, false), 0);
}

static struct progress *begin(const struct progress_step *steps, unsigned n)
{
	struct progress *p = NULL;
	ck_assert_int_eq(progress_new(steps, n, &p), 0);
	return p;
}

/* 0 -> 1 (decision) -> 2, 3, 4; 5 (convergence) after 1, 2, 3; 6 after 4; 7 after 5 */
static const struct progress_step branches[] = {
	{KIDS(1), 1, true, PROGRESS_STANDARD, PROGRESS_ISOLATE, 0},
	{KIDS(2, 3, 4, 5), 1, true, PROGRESS_DECISION, PROGRESS_ISOLATE, 0},
	{KIDS(5), 1, true, PROGRESS_STANDARD, PROGRESS_ISOLATE, 0},
	{KIDS(5), 1, true, PROGRESS_STANDARD, PROGRESS_ISOLATE, 0},
	{KIDS(6), 1, true, PROGRESS_STANDARD, PROGRESS_ISOLATE, 0},
	{KIDS(7), 1, true, PROGRESS_CONVERGENCE, PROGRESS_ISOLATE, 0},
	{NULL, 0, 1, true, PROGRESS_STANDARD, PROGRESS_ISOLATE, 0},
	{NULL, 0, 1, true, PROGRESS_STANDARD, PROGRESS_ISOLATE, 0},
};

START_TEST(a_convergence_waits_for_the_branches_there_are)
{
	struct progress *p = begin(branches, 8);
	const struct progress_outcome o = {.type = OUTCOME_CREATE_STEPS,
	                                   .steps = (const unsigned[]){2, 3},
	                                   .n_steps = 2};
	ck_assert(!progress_has_step(p, 5));
	finish(p, 0, NULL);
	finish(p, 1, &o);
	ck_assert_int_eq(progress_existence(p, 4), PROGRESS_IMPOSSIBLE);
	ck_assert_int_eq(progress_existence(p, 6), PROGRESS_IMPOSSIBLE);
	ck_assert_uint_eq(progress_pending_parents(p, 5), 2);
	finish(p, 3, NULL);
	ck_assert_int_eq(progress_step_state(p, 5), STEP_PENDING);
	finish(p, 2, NULL);
	finish(p, 5, NULL);
	finish(p, 7, NULL);
	ck_assert_int_eq(progress_task_state(p), TASK_COMPLETE);
	progress_free(p);
}
END_TEST

START_TEST(no_branches_end_the_task)
{
	struct progress *p = begin(branches, 8);
	const struct progress_outcome o = {.type = OUTCOME_NO_BRANCHES};
	finish(p, 0, NULL);
	finish(p, 1, &o);
	for (unsigned no = 2; no < 8; no++)
		ck_assert_int_eq(progress_existence(p, no), PROGRESS_IMPOSSIBLE);
	ck_assert_int_eq(progress_task_state(p), TASK_COMPLETE);
	progress_free(p);
}
END_TEST

START_TEST(a_decision_without_an_outcome_fails_for_good)
{
	struct progress *p = begin(branches, 8);
	const struct progress_outcome beyond = {.type = OUTCOME_CREATE_STEPS,
	                                        .steps = (const unsigned[]){2, 7},
	                                        .n_steps = 2};
	finish(p, 0, NULL);
	ck_assert_int_eq(progress_claim(p, 1, 0), 0);
	ck_assert_int_eq(progress_succeed(p, 1, 1, &beyond), 1); /* 7 does not depend on it */
	ck_assert_int_eq(progress_step_state(p, 1), STEP_ERROR);
	ck_assert_int_eq(progress_existence(p, 2), PROGRESS_POSSIBLE);
	ck_assert_int_eq(progress_task_state(p), TASK_BLOCKED_BY_FAILURES);
	ck_assert_int_eq(progress_complete(p, 1, &beyond), -EINVAL);
	ck_assert_int_eq(progress_resolve(p, 1, 0), 0);
	ck_assert_int_eq(progress_task_state(p), TASK_COMPLETE);
	progress_free(p);
}
END_TEST

/* 0 (batchable) -> 1 (worker) -> 2 */
static struct progress *batch(enum progress_strategy strategy, unsigned parallelism, unsigned n)
{
	const struct progress_step steps[] = {
		{KIDS(1), 1, true, PROGRESS_BATCHABLE, PROGRESS_ISOLATE, 0},
		{KIDS(2), 1, true, PROGRESS_WORKER, strategy, parallelism},
		{NULL, 0, 1, true, PROGRESS_STANDARD, PROGRESS_ISOLATE, 0},
	};
	const struct progress_outcome o = {.type = OUTCOME_CREATE_BATCHES, .worker = 1, .n_instances = n};
	struct progress *p = begin(steps, 3);
	ck_assert_uint_eq(progress_pending_parents(p, 2), 1); /* the worker, before there are any */
	finish(p, 0, &o);
	ck_assert_uint_eq(progress_pending_parents(p, 2), n);
	return p;
}

START_TEST(a_gate_lets_through_in_order_and_who_comes_back_goes_first)
{
	struct progress *p = batch(PROGRESS_ISOLATE, 1, 4);
	ck_assert_int_eq(progress_step_state(p, 4), STEP_ENQUEUED);
	ck_assert_int_eq(progress_step_state(p, 7), STEP_PENDING);
	end_in_error(p, 4);
	ck_assert_int_eq(progress_step_state(p, 7), STEP_ENQUEUED);
	ck_assert_int_eq(progress_reset(p, 4), 0);
	ck_assert_int_eq(progress_step_state(p, 4), STEP_PENDING);
	finish(p, 7, NULL);
	ck_assert_int_eq(progress_step_state(p, 4), STEP_ENQUEUED);
	ck_assert_int_eq(progress_step_state(p, 10), STEP_PENDING);
	ck_assert_int_eq(progress_resolve(p, 10, 0), -ESTALE); /* it waits */
	progress_free(p);
}
END_TEST

START_TEST(what_a_batch_tolerates_is_done)
{
	struct progress *p = batch(PROGRESS_CONTINUE, 0, 2);
	end_in_error(p, 4);
	finish(p, 7, NULL);
	ck_assert_int_eq(progress_step_state(p, 4), STEP_ERROR);
	ck_assert_int_eq(progress_step_state(p, 2), STEP_ENQUEUED);
	ck_assert_int_eq(progress_reset(p, 4), -ESTALE);
	finish(p, 2, NULL);
	ck_assert_int_eq(progress_task_state(p), TASK_COMPLETE);
	progress_free(p);
}
END_TEST

START_TEST(a_batch_that_fails_fast_can_be_retried_whole)
{
	struct progress *p = batch(PROGRESS_FAIL_FAST, 2, 3);
	unsigned n = 0;
	end_in_error(p, 4);
	for (unsigned no = 7; no <= 10; no += 3)
		ck_assert_int_eq(progress_step_state(p, no), STEP_CANCELLED);
	ck_assert_int_eq(progress_task_state(p), TASK_BLOCKED_BY_FAILURES);
	ck_assert_int_eq(progress_retry(p, &n), 0);
	ck_assert_uint_eq(n, 3);
	for (unsigned no = 4; no <= 10; no += 3)
		finish(p, no, NULL);
	finish(p, 2, NULL);
	ck_assert_int_eq(progress_task_state(p), TASK_COMPLETE);
	progress_free(p);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("progress_dynamic");
	TCase *tc = tcase_create("progress_dynamic");
	tcase_add_test(tc, a_convergence_waits_for_the_branches_there_are);
	tcase_add_test(tc, no_branches_end_the_task);
	tcase_add_test(tc, a_decision_without_an_outcome_fails_for_good);
	tcase_add_test(tc, a_gate_lets_through_in_order_and_who_comes_back_goes_first);
	tcase_add_test(tc, what_a_batch_tolerates_is_done);
	tcase_add_test(tc, a_batch_that_fails_fast_can_be_retried_whole);
	suite_add_tcase(s, tc);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}

/* The gate for messages that a peer can provoke: what it lets through, and what it says of the rest. */
#include <check.h>
#include <stdlib.h>
#include "daemon/base/log.h"

START_TEST(what_was_left_out_is_said_once)
{
	struct ratelimit gate = {.window_us = 10, .burst = 2};
	char left_out[LEFT_OUT_MAX] = "x";
	ck_assert(ratelimit_ok(&gate, 100, left_out));
	ck_assert_str_eq(left_out, "");
	ck_assert(ratelimit_ok(&gate, 101, left_out));
	for (unsigned long long at = 102; at < 110; at++)
		ck_assert(!ratelimit_ok(&gate, at, left_out));
	ck_assert(ratelimit_ok(&gate, 110, left_out));
	ck_assert_str_eq(left_out, " (8 messages like this left out before)");
	ck_assert(ratelimit_ok(&gate, 111, left_out));
	ck_assert_str_eq(left_out, "");
}
END_TEST

START_TEST(the_longest_fits)
{
	struct ratelimit gate = {.window_us = 10, .burst = 1, .suppressed = 4294967295U};
	char left_out[LEFT_OUT_MAX];
	ck_assert(ratelimit_ok(&gate, 100, left_out));
	ck_assert_str_eq(left_out, " (4294967295 messages like this left out before)");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ratelimit");
	TCase *t = tcase_create("ratelimit");
	tcase_add_test(t, what_was_left_out_is_said_once);
	tcase_add_test(t, the_longest_fits);
	suite_add_tcase(s, t);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* alive.c: a thread stands still only if it has neither ended nor waits. */
#include "daemon/base/alive.h"

#include <check.h>
#include <poll.h>
#include <stdlib.h>

START_TEST(waiting_is_no_standing_still)
{
	struct alive a = {0};
	ck_assert(!alive_stalled(&a, 0));
	alive_attach(&a);
	while (!alive_stalled(&a, 1000)) /* at work for a millisecond */
		;
	ck_assert(!alive_stalled(&a, 3600 * USEC_PER_SEC));
	ck_assert_int_eq(ALIVE_WAITING(poll(NULL, 0, alive_stalled(&a, 0) ? 1 : 0)), 0);
	ck_assert(!alive_stalled(&a, 1000000));
	alive_wait();
	poll(NULL, 0, 2);
	ck_assert(!alive_stalled(&a, 0));
	alive_work();
	while (!alive_stalled(&a, 1000))
		;
	alive_attach(NULL);
	ck_assert(!alive_stalled(&a, 0));
	alive_work(); /* of no thread: nothing */
	ck_assert(!alive_stalled(&a, 0));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("alive");
	TCase *tc = tcase_create("alive");
	tcase_add_test(tc, waiting_is_no_standing_still);
	suite_add_tcase(s, tc);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

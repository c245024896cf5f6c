/* Which texts are times. */
#include <check.h>
#include <string.h>
#include "daemon/core/rfc3339.h"

static const char *const good[] = {
    "1970-01-01T00:00:00Z",         "2030-01-31T09:00:00Z",      "2030-01-31t09:00:00z",
    "2030-01-31 09:00:00.25+01:00", "2028-02-29T23:59:59-14:59", "2000-02-29T00:00:00.123456789Z",
    "9999-12-31T23:59:59Z",
};
static const char *const bad[] = {
    "",
    "2030",
    "2030-01-31",
    "2030-01-31T09:00:00",
    "2030-01-31T09:00Z",
    "2030-01-31T09:00:00.Z",
    "2030-01-31T09:00:00.1234567890Z",
    "2030-01-31T09:00:00+0100",
    "2030-01-31T09:00:00+15:00",
    "2030-01-31T09:00:00+01:60",
    "2030-01-31T09:00:00+01:0",
    "2030-01-31T09:00:00ZZ",
    "2030-01-31T09:00:00 Z",
    "2030-01-31X09:00:00Z",
    "2030-02-29T09:00:00Z",
    "2100-02-29T09:00:00Z",
    "2030-04-31T09:00:00Z",
    "2030-00-10T09:00:00Z",
    "2030-13-10T09:00:00Z",
    "2030-01-00T09:00:00Z",
    "2030-01-31T24:00:00Z",
    "2030-01-31T09:60:00Z",
    "2030-01-31T09:00:60Z",
    "1969-12-31T23:59:59Z",
    "+030-01-31T09:00:00Z",
    "now",
    "infinity",
};

START_TEST(times)
{
	ck_assert_msg(rfc3339_valid(good[_i], strlen(good[_i])), "%s", good[_i]);
	/* Nothing beyond the length is looked at, and every part is needed. */
	for (size_t n = 0; n < strlen(good[_i]); n++)
		ck_assert_msg(!rfc3339_valid(good[_i], n), "%.*s", (int)n, good[_i]);
}
END_TEST

START_TEST(others)
{
	ck_assert_msg(!rfc3339_valid(bad[_i], strlen(bad[_i])), "%s", bad[_i]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("rfc3339");
	TCase *tc = tcase_create("rfc3339");
	tcase_add_loop_test(tc, times, 0, (int)(sizeof good / sizeof *good));
	tcase_add_loop_test(tc, others, 0, (int)(sizeof bad / sizeof *bad));
	suite_add_tcase(s, tc);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}

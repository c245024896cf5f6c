/* err.c: whatever goes in, the text is UTF-8, cut between characters, and the rest is as said. */
#include "daemon/base/err.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "protocol/utf8.h"

START_TEST(precision_cuts_a_character)
{
	struct err e;
	ck_assert_int_eq(err_set(&e, -EINVAL, "bad_request", "no \"%.*s\" here", 2, "a\xc3\xa9"), -EINVAL);
	ck_assert_str_eq(e.text, "no \"a\" here");
	ck_assert_str_eq(e.code, "bad_request");
	ck_assert_str_eq(e.path, "");
	ck_assert_ptr_null(e.limit);
}
END_TEST

/* The end of the field falls on every byte of a character in turn. */
START_TEST(long_texts_are_cut)
{
	char text[1200];
	for (size_t shift = 0; shift < 4; shift++) {
		struct err e;
		memset(text, 'a', shift);
		for (size_t i = shift; i + 4 < sizeof text; i += 4)
			memcpy(text + i, "\xf0\x9f\x98\x80", 5);
		err_set(&e, 0, "internal", "%s", text);
		size_t n = strlen(e.text);
		ck_assert_uint_gt(n, sizeof e.text - 5);
		ck_assert_uint_eq(utf8_span(e.text, n), n);
		ck_assert_int_eq(memcmp(e.text, text, n), 0);
	}
}
END_TEST

START_TEST(limits_are_named)
{
	struct err e;
	ck_assert_int_eq(err_limit(&e, -EMSGSIZE, "max_context", 1024, "%s is too large", "it"), -EMSGSIZE);
	ck_assert_str_eq(e.code, "too_large");
	ck_assert_str_eq(e.text, "it is too large");
	ck_assert_str_eq(e.limit, "max_context");
	ck_assert_uint_eq(e.max, 1024);
	ck_assert_int_eq(err_limit(NULL, -EMSGSIZE, "max_context", 1024, "it is too large"), -EMSGSIZE);
	ck_assert_int_eq(err_set(NULL, -EIO, "internal", "it failed"), -EIO);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("err");
	TCase *t = tcase_create("err");
	tcase_add_test(t, precision_cuts_a_character);
	tcase_add_test(t, long_texts_are_cut);
	tcase_add_test(t, limits_are_named);
	suite_add_tcase(s, t);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

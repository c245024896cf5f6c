/* buf.c: the ceiling at its edge, the sticky error, and running out of memory. */
#include <errno.h>
#include <string.h>
#include "protocol/buf.h"
#include "tests/unit/protocol/util.h"

static int allocs_left = -1; /* negative: no limit */

void *__real_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n)
{
	if (allocs_left == 0)
		return NULL;
	if (allocs_left > 0)
		allocs_left--;
	return __real_realloc(p, n);
}

START_TEST(ceiling)
{
	for (size_t n = 9; n <= 11; n++) {
		struct buf b;
		buf_init(&b, 10);
		buf_append(&b, "0123456789ABC", n);
		ck_assert_int_eq(b.failed, n > 10 ? -EMSGSIZE : 0);
		ck_assert_uint_eq(b.len, n > 10 ? 0 : n);
		buf_append(&b, "x", 1);
		ck_assert_int_eq(b.failed, n > 9 ? -EMSGSIZE : 0);
		buf_done(&b);
	}
}
END_TEST

/* What is short of a part must not be taken for whole. */
START_TEST(a_part_that_failed_fails_the_whole)
{
	struct buf whole, part;
	buf_init(&whole, 0);
	buf_init(&part, 4);
	buf_append_str(&part, "abc");
	buf_join(&whole, &part);
	ck_assert_int_eq(whole.failed, 0);
	ck_assert_str_eq(buf_text(&whole), "abc");
	buf_append_str(&part, "de");
	buf_join(&whole, &part);
	ck_assert_int_eq(whole.failed, -EMSGSIZE);
	buf_done(&part);
	buf_done(&whole);
}
END_TEST

START_TEST(huge_requests_do_not_wrap)
{
	struct buf b;
	buf_init(&b, 0);
	buf_append_str(&b, "x");
	ck_assert_ptr_null(buf_reserve(&b, SIZE_MAX));
	ck_assert_int_eq(b.failed, -EMSGSIZE);
	buf_reset(&b);
	buf_append_str(&b, "x");
	ck_assert_ptr_null(buf_reserve(&b, SIZE_MAX / 2));
	ck_assert_int_eq(b.failed, -EMSGSIZE);
	buf_done(&b);
}
END_TEST

START_TEST(error_sticks_until_reset)
{
	struct buf b;
	buf_init(&b, 4);
	buf_append_str(&b, "abc");
	buf_append_str(&b, "de");
	buf_append_char(&b, 'd');
	buf_printf(&b, "%d", 1);
	ck_assert_int_eq(b.failed, -EMSGSIZE);
	ck_assert_uint_eq(b.len, 3);
	ck_assert_ptr_null(buf_text(&b));
	ck_assert_ptr_null(buf_take_text(&b));
	buf_reset(&b);
	buf_printf(&b, "%04d", 7);
	ck_assert_str_eq(buf_text(&b), "0007");
	buf_done(&b);
}
END_TEST

START_TEST(out_of_memory)
{
	struct buf b;
	buf_init(&b, 0);
	allocs_left = 1;
	buf_append_str(&b, "first");
	ck_assert_int_eq(b.failed, 0);
	ck_assert_ptr_null(buf_reserve(&b, 1 << 20));
	ck_assert_int_eq(b.failed, -ENOMEM);
	ck_assert_uint_eq(b.len, 5);
	allocs_left = -1;
	buf_append_str(&b, "more");
	ck_assert_uint_eq(b.len, 5);
	buf_done(&b);
}
END_TEST

START_TEST(consume_and_text)
{
	struct buf b;
	buf_init(&b, 0);
	ck_assert_str_eq(buf_text(&b), "");
	for (int i = 0; i < 1000; i++)
		buf_printf(&b, "%03d", i);
	buf_consume(&b, 2997);
	ck_assert_str_eq(buf_text(&b), "999");
	buf_consume(&b, 0);
	ck_assert_uint_eq(b.len, 3);
	buf_consume(&b, 4);
	ck_assert_uint_eq(b.len, 0);
	buf_append_str(&b, "kept");
	char *t = buf_take_text(&b);
	ck_assert_str_eq(t, "kept");
	ck_assert_ptr_null(b.data);
	free(t);
	buf_done(&b);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("buf");
	TCase *t = tcase_create("buf");
	tcase_add_test(t, ceiling);
	tcase_add_test(t, a_part_that_failed_fails_the_whole);
	tcase_add_test(t, huge_requests_do_not_wrap);
	tcase_add_test(t, error_sticks_until_reset);
	tcase_add_test(t, out_of_memory);
	tcase_add_test(t, consume_and_text);
	suite_add_tcase(s, t);
	return run_suite(s);
}

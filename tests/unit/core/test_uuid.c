/* Identities: the layout, the text form both ways, and every boundary of step numbers. */
#include <check.h>
#include <errno.h>
#include <string.h>
#include <strings.h>
#include "daemon/core/uuid.h"
#include "tests/unit/core/rng.h"

static const uint64_t some_ms = 0x0198a1b2c3d4ULL;
static const uint8_t ones[16] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
				 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
static const uint8_t zeros[16];

START_TEST(task_layout)
{
	char text[UUID_TEXT];
	struct uuid u = uuid_for_task(some_ms, ones);
	uuid_format(&u, text);
	ck_assert_str_eq(text, "0198a1b2-c3d4-7fff-bfff-ffffff000000");
	u = uuid_for_task(some_ms, zeros);
	uuid_format(&u, text);
	ck_assert_str_eq(text, "0198a1b2-c3d4-7000-8000-000000000000");
}
END_TEST

START_TEST(tasks_sort_by_time)
{
	struct uuid early = uuid_for_task(some_ms, ones), late = uuid_for_task(some_ms + 1, zeros);
	ck_assert_int_lt(memcmp(&early, &late, sizeof early), 0);
}
END_TEST

START_TEST(tasks_differ_by_every_random_bit_they_keep)
{
	struct uuid base = uuid_for_task(some_ms, zeros);
	unsigned kept = 0;
	for (unsigned bit = 0; bit < 128; bit++) {
		uint8_t random[16] = {0};
		random[bit / 8] = (uint8_t)(1u << bit % 8);
		struct uuid u = uuid_for_task(some_ms, random);
		kept += !uuid_eq(&u, &base);
	}
	ck_assert_uint_eq(kept, 128 - 48 - 4 - 2 - 24);
}
END_TEST

/* What tasker.step_uuid('0198a1b2-c3d4-7fff-bfff-ffffff000000', n) answers. */
static const struct {
	unsigned step_no;
	const char *text;
} step_cases[] = {
	{0, "0198a1b2-c3d4-7fff-bfff-ffffff000001"},
	{1, "0198a1b2-c3d4-7fff-bfff-ffffff000002"},
	{254, "0198a1b2-c3d4-7fff-bfff-ffffff0000ff"},
	{255, "0198a1b2-c3d4-7fff-bfff-ffffff000100"},
	{65535, "0198a1b2-c3d4-7fff-bfff-ffffff010000"},
	{99999, "0198a1b2-c3d4-7fff-bfff-ffffff0186a0"},
	{TASK_MAX_STEPS - 1, "0198a1b2-c3d4-7fff-bfff-ffffffffffff"},
};

START_TEST(step_layout_and_back)
{
	struct uuid task = uuid_for_task(some_ms, ones), back;
	struct uuid step = uuid_for_step(&task, step_cases[_i].step_no);
	char text[UUID_TEXT];
	unsigned no = ~0u;
	uuid_format(&step, text);
	ck_assert_str_eq(text, step_cases[_i].text);
	ck_assert(uuid_split_step(&step, &back, &no));
	ck_assert(uuid_eq(&back, &task));
	ck_assert_uint_eq(no, step_cases[_i].step_no);
}
END_TEST

START_TEST(a_task_is_no_step)
{
	struct uuid task = uuid_for_task(some_ms, ones), back = {{1}};
	unsigned no = 7;
	ck_assert(!uuid_split_step(&task, &back, &no));
	ck_assert_uint_eq(no, 7);
	ck_assert_uint_eq(back.b[0], 1);
}
END_TEST

START_TEST(random_round_trips)
{
	uint64_t seed = 11;
	for (int i = 0; i < 20000; i++) {
		struct uuid u, task, back;
		char text[UUID_TEXT], again[UUID_TEXT];
		unsigned no;
		for (unsigned k = 0; k < sizeof u.b; k++)
			u.b[k] = (uint8_t)rng_next(&seed);
		uuid_format(&u, text);
		ck_assert_uint_eq(strlen(text), UUID_TEXT - 1);
		ck_assert_int_eq(uuid_parse(text, strlen(text), &back), 0);
		ck_assert(uuid_eq(&u, &back));
		for (char *p = text; *p; p++)
			if (*p >= 'a' && *p <= 'f' && rng_below(&seed, 2))
				*p = (char)(*p - 'a' + 'A');
		ck_assert_int_eq(uuid_parse(text, strlen(text), &back), 0);
		ck_assert(uuid_eq(&u, &back));
		uuid_format(&back, again);
		ck_assert_int_eq(strcasecmp(text, again), 0);
		if (uuid_split_step(&u, &task, &no)) {
			back = uuid_for_step(&task, no);
			ck_assert(uuid_eq(&u, &back));
		}
	}
}
END_TEST

static const char *const refused[] = {
	"",
	"0198a1b2",
	"0198a1b2-c3d4-7fff-bfff-ffffff00000",
	"0198a1b2-c3d4-7fff-bfff-ffffff0000000",
	"0198a1b2c3d47fffbfffffffff000000",
	"{0198a1b2-c3d4-7fff-bfff-ffffff0000}",
	"0198a1b2-c3d4-7fff-bfff-fffffg000000",
	"0198a1b2-c3d4-7fff-bfff-ffffff00000/",
	"0198a1b2-c3d4-7fff-bfff-ffffff00000:",
	"0198a1b2-c3d4-7fff-bfff-ffffff00000@",
	"0198a1b2-c3d4-7fff-bfff-ffffff00000`",
	"0198a1b2+c3d4-7fff-bfff-ffffff000000",
	"0198a1b2-c3d4-7fff-bfff0ffffff000000",
	"-0198a1b2c3d4-7fff-bfff-ffffff000000",
	" 198a1b2-c3d4-7fff-bfff-ffffff000000",
	"+198a1b2-c3d4-7fff-bfff-ffffff000000",
	"0x98a1b2-c3d4-7fff-bfff-ffffff000000",
	"0198a1b2-c3d4-7fff-bfff-ffffff00000\xb0",
};

START_TEST(parse_refuses)
{
	struct uuid u = {{42}};
	ck_assert_int_eq(uuid_parse(refused[_i], strlen(refused[_i]), &u), -EINVAL);
	ck_assert_uint_eq(u.b[0], 42);
}
END_TEST

/* Every byte in every place: accepted exactly if it is a hexadecimal digit, or the hyphen where one belongs.
 * Needs no terminating NUL. */
START_TEST(parse_every_byte_in_every_place)
{
	const char good[] = "0198a1b2-c3d4-7fff-bfff-ffffff000000";
	for (unsigned at = 0; at < UUID_TEXT - 1; at++) {
		for (int c = 0; c < 256; c++) {
			char text[UUID_TEXT - 1];
			struct uuid u;
			memcpy(text, good, sizeof text);
			text[at] = (char)c;
			bool wanted = good[at] == '-' ? c == '-' : c && strchr("0123456789abcdefABCDEF", c);
			ck_assert_int_eq(uuid_parse(text, sizeof text, &u), wanted ? 0 : -EINVAL);
		}
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("uuid");
	TCase *tc = tcase_create("uuid");
	tcase_add_test(tc, task_layout);
	tcase_add_test(tc, tasks_sort_by_time);
	tcase_add_test(tc, tasks_differ_by_every_random_bit_they_keep);
	tcase_add_loop_test(tc, step_layout_and_back, 0, sizeof step_cases / sizeof *step_cases);
	tcase_add_test(tc, a_task_is_no_step);
	tcase_add_test(tc, random_round_trips);
	tcase_add_loop_test(tc, parse_refuses, 0, sizeof refused / sizeof *refused);
	tcase_add_test(tc, parse_every_byte_in_every_place);
	suite_add_tcase(s, tc);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}

/* taskerctl: words, numbers and times; the table layout; exit codes. */
#include <check.h>
#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include "clients/taskerctl/exits.h"
#include "clients/taskerctl/table.h"
#include "clients/taskerctl/text.h"

static const struct {
	int64_t us;
	const char *want;
} durations[] = {
    {-1, "-"},
    {0, "0us"},
    {999, "999us"},
    {1000, "1ms"},
    {999999, "999ms"},
    {1000000, "1.00s"},
    {3259999, "3.25s"},
    {59999999, "59.99s"},
    {60000000, "1m00s"},
    {3599999999, "59m59s"},
    {3600000000, "1h00m"},
    {7980000000, "2h13m"},
    {86399999999, "23h59m"},
    {86400000000, "1d00h"},
    {INT64_MAX, "106751991d04h"},
};

START_TEST(durations_are_written_short)
{
	char got[24];
	ck_assert_str_eq(text_duration(durations[_i].us, got), durations[_i].want);
}
END_TEST

static const struct {
	const char *text;
	int rc;
	int64_t ms;
} given_durations[] = {
    {"0", 0, 0},
    {"90", 0, 90000},
    {"90s", 0, 90000},
    {"500ms", 0, 500},
    {"1m30s", 0, 90000},
    {"2h", 0, 7200000},
    {"1d2h3m4s5ms", 0, 93784005},
    {"3652d", 0, 315532800000},
    {"3653d", -ERANGE, 0},
    {"99999999999999999999s", -ERANGE, 0},
    {"9223372036854775807d", -ERANGE, 0},
    {"", -EINVAL, 0},
    {"-5s", -EINVAL, 0},
    {" 5s", -EINVAL, 0},
    {"5 s", -EINVAL, 0},
    {"s", -EINVAL, 0},
    {"5x", -EINVAL, 0},
    {"5S", -EINVAL, 0},
    {"5s ", -EINVAL, 0},
    {"1.5s", -EINVAL, 0},
    {"1m-3s", -EINVAL, 0},
};

START_TEST(durations_are_read)
{
	int64_t ms = -7;
	int rc = parse_duration(given_durations[_i].text, &ms);
	ck_assert_msg(rc == given_durations[_i].rc, "%s: %d", given_durations[_i].text, rc);
	ck_assert_int_eq(ms, rc == 0 ? given_durations[_i].ms : -7);
}
END_TEST

static const struct {
	const char *text;
	int rc;
	int64_t us;
} times[] = {
    {"1970-01-01T00:00:00Z", 0, 0},
    {"1970-01-01T00:00:01.5Z", 0, 1500000},
    {"2026-01-02T03:04:05.123456Z", 0, 1767323045123456},
    {"2026-01-02 03:04:05.123456+00:00", 0, 1767323045123456},
    {"2026-01-02T04:04:05.1234567+01:00", 0, 1767323045123456},
    {"2026-01-01T22:34:05.123456-04:30", 0, 1767323045123456},
    {"2026-01-02T03:04:05", -EINVAL, 0},
    {"2026-01-02T03:04:05+0100", -EINVAL, 0},
    {"2026-01-02T03:04Z", -EINVAL, 0},
    {"2026-01-02T03:04:05Zx", -EINVAL, 0},
    {"2026/01/02T03:04:05Z", -EINVAL, 0},
    {"", -EINVAL, 0},
};

START_TEST(times_are_read)
{
	int64_t us = -7;
	int rc = parse_time(times[_i].text, &us);
	ck_assert_msg(rc == times[_i].rc, "%s: %d", times[_i].text, rc);
	ck_assert_int_eq(us, rc == 0 ? times[_i].us : -7);
}
END_TEST

static const struct {
	const char *text;
	int rc;
	const char *space, *name, *version;
} refs[] = {
    {"shop/order@1.2.0", 0, "shop", "order", "1.2.0"},
    {"shop/order", 0, "shop", "order", ""},
    {"order", 0, "default", "order", ""},
    {"order@2.0.0-rc.1", 0, "default", "order", "2.0.0-rc.1"},
    {"", -EINVAL, NULL, NULL, NULL},
    {"/order", -EINVAL, NULL, NULL, NULL},
    {"shop/", -EINVAL, NULL, NULL, NULL},
    {"shop/@1.0.0", -EINVAL, NULL, NULL, NULL},
    {"shop/order@", -EINVAL, NULL, NULL, NULL},
    {"a/b/c", -EINVAL, NULL, NULL, NULL},
};

START_TEST(template_names_are_read)
{
	struct template_ref r;
	ck_assert_int_eq(parse_template_ref(refs[_i].text, &r), refs[_i].rc);
	if (refs[_i].rc < 0)
		return;
	ck_assert_str_eq(r.space, refs[_i].space);
	ck_assert_str_eq(r.name, refs[_i].name);
	ck_assert_str_eq(r.version, refs[_i].version);
}
END_TEST

START_TEST(a_template_name_that_is_too_long_is_refused)
{
	struct template_ref r;
	char text[400];
	memset(text, 'a', sizeof text);
	text[256] = '\0';
	ck_assert_int_eq(parse_template_ref(text, &r), -EINVAL);
	text[255] = '\0';
	ck_assert_int_eq(parse_template_ref(text, &r), 0);
}
END_TEST

START_TEST(uuids_are_known_by_their_shape)
{
	ck_assert(is_uuid("0192f0c1-7b7a-7000-8000-00000000000a"));
	ck_assert(is_uuid("0192F0C1-7B7A-7000-8000-00000000000A"));
	ck_assert(!is_uuid(""));
	ck_assert(!is_uuid("0192f0c1-7b7a-7000-8000-00000000000"));
	ck_assert(!is_uuid("0192f0c1-7b7a-7000-8000-00000000000ab"));
	ck_assert(!is_uuid("0192f0c17b7a-7000-8000-00000000000a--"));
	ck_assert(!is_uuid("0192f0c1-7b7a-7000-8000-00000000000g"));
}
END_TEST

START_TEST(numbers_are_read_whole)
{
	int64_t v;
	ck_assert_int_eq(parse_int("-100", -100, 100, &v), 0);
	ck_assert_int_eq(v, -100);
	ck_assert_int_eq(parse_int("101", -100, 100, &v), -EINVAL);
	ck_assert_int_eq(parse_int("1x", -100, 100, &v), -EINVAL);
	ck_assert_int_eq(parse_int(" 1", -100, 100, &v), -EINVAL);
	ck_assert_int_eq(parse_int("", -100, 100, &v), -EINVAL);
	ck_assert_int_eq(parse_int("99999999999999999999", INT64_MIN, INT64_MAX, &v), -EINVAL);
}
END_TEST

static const struct {
	const char *text;
	size_t max, width;
	const char *want;
} shown[] = {
    {"plain", 0, 5, "plain"},
    {"plain", 5, 5, "plain"},
    {"plain", 4, 5, "pla\xe2\x80\xa6"},
    {"plain", 1, 5, "\xe2\x80\xa6"},
    {"Gr\xc3\xbc\xc3\x9f"
     "e",
     4, 5, "Gr\xc3\xbc\xe2\x80\xa6"},
    {"\xe6\x97\xa5\xe6\x9c\xac", 0, 4, "\xe6\x97\xa5\xe6\x9c\xac"}, /* two columns each */
    {"\xe6\x97\xa5\xe6\x9c\xac", 3, 4, "\xe6\x97\xa5\xe2\x80\xa6"},
    {"\033[31mred\a", 0, 9, "?[31mred?"}, /* nothing steers the terminal */
    {"\xc2\x9b"
     "31m",
     0, 4, "?31m"}, /* C1 */
    {"a\nb\tc", 0, 5, "a b c"},
    {"\xe2\x80\xae"
     "abc",
     0, 4, "?abc"},             /* right-to-left override */
    {"a\xff\xc3", 0, 3, "a??"}, /* no UTF-8 */
    {"", 3, 0, ""},
};

START_TEST(text_from_outside_is_made_harmless_and_fits)
{
	struct buf b;
	buf_init(&b, 0);
	ck_assert_uint_eq(text_width(shown[_i].text), shown[_i].width);
	size_t w = text_put(&b, shown[_i].text, shown[_i].max);
	ck_assert_str_eq(buf_text(&b), shown[_i].want);
	ck_assert_uint_eq(w, text_width(shown[_i].want));
	buf_done(&b);
}
END_TEST

/* ---- tables ---- */

static const struct column three[] = {{"NAME", COL_SHRINK, NULL, NULL},
                                      {"N", COL_RIGHT, NULL, NULL},
                                      {"REMARK", COL_SHRINK, NULL, NULL},
                                      NO_COLUMN};

static char *render(const char *const *cells, size_t n, struct table_style style)
{
	struct table t;
	struct buf b;
	buf_init(&b, 0);
	table_init(&t, three);
	for (size_t i = 0; i < n; i++)
		table_cell(&t, i == 1 ? "32" : NULL, cells[i]);
	ck_assert_int_eq(table_render(&t, &style, &b), 0);
	table_done(&t);
	char *text = buf_take_text(&b);
	buf_done(&b);
	return text;
}

START_TEST(columns_are_aligned)
{
	static const char *const cells[] = {"a", "5", "first", "longer", "1234", NULL};
	char *text = render(cells, 6, (struct table_style){.heading = true});
	ck_assert_str_eq(text, "NAME       N  REMARK\n"
	                       "a          5  first\n"
	                       "longer  1234  -\n");
	free(text);
	text = render(cells, 6, (struct table_style){.indent = 2});
	ck_assert_str_eq(text, "  a          5  first\n"
	                       "  longer  1234  -\n");
	free(text);
}
END_TEST

START_TEST(the_widest_column_gives_way)
{
	static const char *const cells[] = {"a name of some length", "5",
	                                    "a remark that is longer by far than the name is"};
	char *text = render(cells, 3, (struct table_style){.width = 40});
	ck_assert_str_eq(text, "a name of some l\xe2\x80\xa6  5  a remark that is \xe2\x80\xa6\n");
	ck_assert_uint_le(text_width(text), 41);
	free(text);
	/* Columns that may not shrink are never cut, and none below eight columns. */
	text = render(cells, 3, (struct table_style){.width = 5});
	ck_assert_str_eq(text, "a name \xe2\x80\xa6  5  a remar\xe2\x80\xa6\n");
	free(text);
}
END_TEST

START_TEST(colour_does_not_count_for_the_width)
{
	static const char *const cells[] = {"a", "5", "x"};
	char *text = render(cells, 3, (struct table_style){.colour = true});
	ck_assert_str_eq(text, "a  \033[32m5\033[0m  x\n");
	free(text);
}
END_TEST

static const struct column wider[] = {{"NAME", COL_SHRINK, NULL, NULL},
                                      {"N", COL_RIGHT, NULL, NULL},
                                      {"REMARK", COL_WIDE, NULL, NULL},
                                      NO_COLUMN};

START_TEST(wide_columns_are_for_the_wide_style)
{
	static const char *const cells[] = {"a", "5", "first"};
	struct table t;
	struct buf b;
	for (int wide = 0; wide < 2; wide++) {
		buf_init(&b, 0);
		table_init(&t, wider);
		for (size_t i = 0; i < 3; i++)
			table_cell(&t, NULL, cells[i]);
		ck_assert_int_eq(table_render(&t, &(struct table_style){.heading = true, .wide = wide}, &b), 0);
		ck_assert_str_eq(buf_text(&b), wide ? "NAME  N  REMARK\na     5  first\n" : "NAME  N\na     5\n");
		table_done(&t);
		buf_done(&b);
	}
}
END_TEST

/* Combining marks take no column, ideographs two. */
START_TEST(columns_are_aligned_by_what_is_seen)
{
	static const char *const cells[] = {"\xe6\xb3\xa8\xe6\x96\x87", "5", "x", "e\xcc\x81t\xc3\xa9", "6", "y"};
	char *text = render(cells, 6, (struct table_style){.heading = false});
	ck_assert_str_eq(text, "\xe6\xb3\xa8\xe6\x96\x87  5  x\ne\xcc\x81t\xc3\xa9   6  y\n");
	free(text);
}
END_TEST

START_TEST(nothing_steers_the_terminal)
{
	struct buf b;
	buf_init(&b, 0);
	text_put_lines(&b, "a\033[31mb\033[0m\033[2J\033]0;x\007\n\xc2\x9b" "31m\xe2\x80\xae" "c\td");
	ck_assert_str_eq(buf_text(&b), "a\033[31mb\033[0m?[2J?]0;x?\n?31m?c d");
	buf_done(&b);
	buf_init(&b, 0);
	text_put_json(&b, "{\"a\":\"\xc2\x9b" "31m\xe2\x80\xae\x7f\xc3\xa9\"}");
	ck_assert_str_eq(buf_text(&b), "{\"a\":\"\\u009b31m\\u202e\\u007f\xc3\xa9\"}");
	buf_done(&b);
}
END_TEST

START_TEST(a_table_without_rows_is_its_heading)
{
	char *text = render(NULL, 0, (struct table_style){.heading = true});
	ck_assert_str_eq(text, "NAME  N  REMARK\n");
	free(text);
}
END_TEST

/* ---- exit codes ---- */

START_TEST(errors_have_exit_codes)
{
	static const struct {
		const char *code;
		enum exit_code exit;
	} table[] = {
	    {"unreachable", EXIT_UNREACHABLE},
	    {"connection_lost", EXIT_UNREACHABLE},
	    {"not_found", EXIT_NOT_FOUND},
	    {"template_not_found", EXIT_NOT_FOUND},
	    {"conflict", EXIT_CONFLICT},
	    {"timeout", EXIT_TIMEOUT},
	    {"overloaded", EXIT_AGAIN},
	    {"database_unavailable", EXIT_AGAIN},
	    {"shutting_down", EXIT_AGAIN},
	    {"invalid_template", EXIT_NO},
	    {"a code of a later version", EXIT_NO},
	};
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		struct tasker_error e = {.rc = -1};
		memcpy(e.code, table[i].code, strlen(table[i].code) + 1);
		ck_assert_int_eq(exit_code_for(&e), table[i].exit);
	}
}
END_TEST

#define LOOP(tc, test, list) tcase_add_loop_test(tc, test, 0, (int)(sizeof(list) / sizeof *(list)))

int main(void)
{
	if (!setlocale(LC_CTYPE, "C.UTF-8"))
		return 99;
	Suite *s = suite_create("taskerctl");
	TCase *c = tcase_create("text");
	LOOP(c, durations_are_written_short, durations);
	LOOP(c, durations_are_read, given_durations);
	LOOP(c, times_are_read, times);
	LOOP(c, template_names_are_read, refs);
	tcase_add_test(c, a_template_name_that_is_too_long_is_refused);
	tcase_add_test(c, uuids_are_known_by_their_shape);
	tcase_add_test(c, numbers_are_read_whole);
	LOOP(c, text_from_outside_is_made_harmless_and_fits, shown);
	suite_add_tcase(s, c);
	c = tcase_create("table");
	tcase_add_test(c, columns_are_aligned);
	tcase_add_test(c, the_widest_column_gives_way);
	tcase_add_test(c, colour_does_not_count_for_the_width);
	tcase_add_test(c, wide_columns_are_for_the_wide_style);
	tcase_add_test(c, columns_are_aligned_by_what_is_seen);
	tcase_add_test(c, nothing_steers_the_terminal);
	tcase_add_test(c, a_table_without_rows_is_its_heading);
	tcase_add_test(c, errors_have_exit_codes);
	suite_add_tcase(s, c);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}

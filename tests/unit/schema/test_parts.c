/* The parts below schemas: patterns, numbers, references. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/schema/number.h"
#include "daemon/schema/regex.h"
#include "daemon/schema/uri.h"

static int search(const char *pattern, const char *text)
{
	cleanup_(cleanup_regex) struct regex *r = NULL;
	char why[REGEX_WHY] = "";
	uint64_t work = 1000000;
	ck_assert_msg(regex_compile(pattern, strlen(pattern), &r, why) == 0, "%s: %s", pattern, why);
	return regex_search(r, text, strlen(text), &work);
}

START_TEST(test_patterns)
{
	static const struct {
		const char *pattern, *found, *not_found;
	} cases[] = {
		{"", "", NULL},
		{"a", "cat", "dog"},
		{"^a", "ab", "ba"},
		{"a$", "ba", "a\n"},
		{"^(?:ab|cd|)$", "cd", "abcd"},
		{"^a{2,3}$", "aaa", "aaaa"},
		{"^a{2}$", "aa", "aaa"},
		{"^a{2,}?$", "aaaaaa", "a"},
		{"^a{x}$", "a{x}", "ax"},
		{"^[a-c\\d_-]+$", "ab3_-", "abd"},
		{"^[^a-c]$", "d", "b"},
		{"^[\\]\\^]$", "^", "a"},
		{"^\\d\\D\\w\\W\\s\\S$", "1aa. x", "aaaaaa"},
		{"^\\s+$", "\xc2\xa0\xef\xbb\xbf\xe2\x80\xa8 ", "x"},
		{"^.$", "\xf0\x9f\x90\xb2", "\n"},
		{"^\\u20ac\\x41\\u{1F432}\\ud83d\\udc32$", "\xe2\x82\xac" "A\xf0\x9f\x90\xb2\xf0\x9f\x90\xb2", "A"},
		{"^[\xe2\x82\xac-\xe2\x82\xae]$", "\xe2\x82\xad", "\xe2\x82\xb0"},
		{"\\bcat\\b", "a cat!", "cats"},
		{"a\\Bb", "ab", "a b"},
		{"^(?=.*\\d)(?=.*[a-z])(?!.*\\s).{4,}$", "ab1c", "ab 1"},
		{"^(?!foo)", "bar", "foobar"},
		{"(?<=\\$)\\d+$", "cost $42", "cost 42"},
		{"(?<!-)b", "ab", "-b"},
		{"(?=a(?=b(?!c)))a", "abd", "abc"},
		{"^(?<year>\\d{4})-(?:0[1-9]|1[0-2])$", "2026-11", "2026-13"},
		{"(a*)*b", "aaab", "aaaa"},
		{"^(a|b*)*$", "abba", "abc"},
		{"^\\cC\\t\\0$", "\x03\t", NULL},
		{"\\/\\.\\-\\*", "/.-*", "/.-"},
		{"^\\p{L}+$", "\xce\xa9z\xe6\xbc\xa2", "a1"},
		{"^\\p{Uppercase_Letter}\\p{gc=Ll}\\P{General_Category=Letter}$", "\xce\xa9z1", "\xce\xa9zz"},
		{"^[\\p{Nd}_\\P{Any}]+$", "1_\xd9\xa1", "a"},
		{"^[^\\p{ASCII}]$", "\xc3\xa9", "e"},
		{"x*", "", NULL},
		{"^(?:){1000}$", "", "a"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		if (strcmp(cases[i].pattern, "^\\cC\\t\\0$") != 0) /* its text holds a NUL */
			ck_assert_msg(search(cases[i].pattern, cases[i].found) == 1, "%s in %s", cases[i].pattern,
			              cases[i].found);
		if (cases[i].not_found)
			ck_assert_msg(search(cases[i].pattern, cases[i].not_found) == 0, "%s not in %s",
			              cases[i].pattern, cases[i].not_found);
	}
}
END_TEST

START_TEST(test_bad_patterns)
{
	static const char *const bad[] = {"(",
	                                  ")",
	                                  "[",
	                                  "[a",
	                                  "[b-a]",
	                                  "[a-\\d]",
	                                  "*",
	                                  "a**",
	                                  "+a",
	                                  "(?",
	                                  "(?x)",
	                                  "(?<n",
	                                  "\\",
	                                  "\\1",
	                                  "(a)\\k<a>",
	                                  "\\p{Lx}",
	                                  "\\p{}",
	                                  "\\p{sc=Grek}",
	                                  "\\pL",
	                                  "\\p{L",
	                                  "[a-\\p{L}]",
	                                  "\\q",
	                                  "\\u12",
	                                  "\\u{110000}",
	                                  "\\u{}",
	                                  "\\x1",
	                                  "\\c1",
	                                  "a{2,1}",
	                                  "a{10001}",
	                                  "(((a{1000}){1000}){1000})",
	                                  "((((){10000}){10000}){10000})",
	                                  "(?:a{200}){200}"};
	struct regex *r = NULL;
	char why[REGEX_WHY];
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		why[0] = '\0';
		ck_assert_msg(regex_compile(bad[i], strlen(bad[i]), &r, why) == -EINVAL && why[0], "%s: %s", bad[i],
		              why);
	}
	char deep[400];
	memset(deep, '(', sizeof deep);
	ck_assert_int_eq(regex_compile(deep, sizeof deep, &r, why), -EINVAL);
}
END_TEST

START_TEST(test_numbers)
{
	static const struct {
		const char *a, *b;
		int order;
		int multiple; /* -1: not asked */
	} cases[] = {
		{"1", "1.0", 0, 1},
		{"0", "-0.0", 0, -1},
		{"1e3", "1000", 0, 1},
		{"0.3", "0.1", 1, 1},
		{"0.0075", "0.0001", 1, 1},
		{"0.00751", "0.0001", 1, 0},
		{"-4", "2", -1, 1},
		{"9007199254740993", "9007199254740992", 1, 0},
		{"9223372036854775807", "9223372036854775808", -1, 0},
		{"1e308", "0.123456789", 1, 0},
		{"12391239123", "1e-8", 1, 1},
		{"1e-400", "1e-399", -1, 0},
		{"123456789012345678901234567890", "1e29", 1, 0},
		{"-1e5", "-1e4", -1, 1},
		{"5", "3.5", 1, 0},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct number a, b;
		ck_assert_ptr_nonnull(number_read(cases[i].a, cases[i].a + strlen(cases[i].a), &a));
		ck_assert_ptr_nonnull(number_read(cases[i].b, cases[i].b + strlen(cases[i].b), &b));
		ck_assert_msg(number_compare(&a, &b) == cases[i].order, "%s %s", cases[i].a, cases[i].b);
		ck_assert_int_eq(number_compare(&b, &a), -cases[i].order);
		if (cases[i].multiple >= 0)
			ck_assert_msg(number_is_multiple(&a, &b) == cases[i].multiple, "%s %s", cases[i].a, cases[i].b);
	}
}
END_TEST

START_TEST(test_references)
{
	static const struct {
		const char *ref, *want;
	} cases[] = { /* RFC 3986 section 5.4 */
		{"g:h", "g:h"}, {"g", "http://a/b/c/g"}, {"./g", "http://a/b/c/g"}, {"g/", "http://a/b/c/g/"}, {"/g",
		 "http://a/g"}, {"//g", "http://g"},
		{"?y", "http://a/b/c/d;p?y"}, {"g?y", "http://a/b/c/g?y"}, {"#s", "http://a/b/c/d;p?q"}, {"g#s",
		 "http://a/b/c/g"}, {"", "http://a/b/c/d;p?q"},
		{".", "http://a/b/c/"}, {"./", "http://a/b/c/"}, {"..", "http://a/b/"}, {"../g",
		 "http://a/b/g"}, {"../..", "http://a/"}, {"../../g", "http://a/g"},
		{"../../../g", "http://a/g"}, {"/./g", "http://a/g"}, {"/../g", "http://a/g"}, {"g.",
		 "http://a/b/c/g."}, {"..g", "http://a/b/c/..g"},
		{"./g/.", "http://a/b/c/g/"}, {"g/../h", "http://a/b/c/h"}, {"g;x=1/../y", "http://a/b/c/y"},
	};
	const char *fragment;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char *got = uri_resolve("http://a/b/c/d;p?q", cases[i].ref, strlen(cases[i].ref), &fragment);
		ck_assert_str_eq(got, cases[i].want);
		free(got);
	}
	char escaped[] = "a%20b%2fc%zz%";
	ck_assert_uint_eq(uri_unescape(escaped), strlen("a b/c%zz%"));
	ck_assert_str_eq(escaped, "a b/c%zz%");
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("schema-parts");
	TCase *t = tcase_create("parts");
	tcase_add_test(t, test_patterns);
	tcase_add_test(t, test_bad_patterns);
	tcase_add_test(t, test_numbers);
	tcase_add_test(t, test_references);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	SRunner *r = srunner_create(suite());
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}

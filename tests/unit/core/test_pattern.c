/* Patterns of event names. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/core/pattern.h"
#include "tests/unit/core/rng.h"

static const struct {
	const char *pattern, *name;
	bool fits;
} cases[] = {
	{"*", "a", true},
	{"*", "payment.charged", true},
	{"*", "", true},
	{"payment.*", "payment.charged", true},
	{"payment.*", "payment.card.declined", true},
	{"payment.*", "payment.", true},
	{"payment.*", "payment", false},
	{"payment.*", "payments.charged", false},
	{"payment.*", "x.payment.charged", false},
	{"*.charged", "payment.charged", true},
	{"*.charged", "payment.charged.twice", false},
	{"*.charged", ".charged", true},
	{"a*b*c", "abc", true},
	{"a*b*c", "a.b.b.c", true},
	{"a*b*c", "a.c.b", false},
	{"a**c", "abc", true},
	{"***", "x", true},
	{"payment.charged", "payment.charged", true},
	{"payment.charged", "payment.charged2", false},
	{"payment.charged", "payment.charge", false},
	{"Payment.*", "payment.charged", false},
	{"a?c", "abc", false},
	{"a?c", "a?c", true},
	{"[ab]", "a", false},
	{"\xc3\xa4*", "\xc3\xa4.x", true},
	{"%", "a", false},
};

START_TEST(known_cases)
{
	const char *p = cases[_i].pattern, *n = cases[_i].name;
	ck_assert_msg(pattern_fits(p, strlen(p), n, strlen(n)) == cases[_i].fits, "%s and %s", p, n);
}
END_TEST

/* The definition, word for word. */
static bool plainly(const char *p, const char *n)
{
	if (*p == '\0')
		return *n == '\0';
	if (*p == '*')
		return plainly(p + 1, n) || (*n && plainly(p, n + 1));
	return *p == *n && plainly(p + 1, n + 1);
}

static void fill(uint64_t *r, char *out, size_t max, const char *letters)
{
	size_t n = rng_below(r, (unsigned)max + 1);
	for (size_t i = 0; i < n; i++)
		out[i] = letters[rng_below(r, (unsigned)strlen(letters))];
	out[n] = '\0';
}

START_TEST(as_defined)
{
	uint64_t r = (uint64_t)_i + 1;
	for (int i = 0; i < 20000; i++) {
		char p[9], n[13];
		fill(&r, p, sizeof p - 1, "ab.*");
		fill(&r, n, sizeof n - 1, "ab.");
		ck_assert_msg(pattern_fits(p, strlen(p), n, strlen(n)) == plainly(p, n), "%s and %s", p, n);
	}
}
END_TEST

/* A search that tries every star again would not end. */
START_TEST(many_stars_are_quick)
{
	char p[PATTERN_MAX], n[PATTERN_MAX];
	for (size_t i = 0; i < sizeof p; i++)
		p[i] = i % 2 ? '*' : 'a';
	memset(n, 'a', sizeof n);
	p[sizeof p - 1] = 'b';
	for (int i = 0; i < 100000; i++)
		ck_assert(!pattern_fits(p, sizeof p, n, sizeof n - 1));
	memset(p, 'a', sizeof p);
	p[0] = '*';
	p[128] = 'b';
	p[254] = '*';
	for (int i = 0; i < 100000; i++)
		ck_assert(!pattern_fits(p, sizeof p, n, sizeof n));
}
END_TEST

START_TEST(what_is_a_pattern)
{
	char longest[PATTERN_MAX + 1];
	memset(longest, 'x', sizeof longest);
	ck_assert(pattern_valid("*", 1));
	ck_assert(pattern_valid("payment.*", 9));
	ck_assert(pattern_valid("two words", 9));
	ck_assert(pattern_valid(longest, PATTERN_MAX));
	ck_assert(!pattern_valid(longest, PATTERN_MAX + 1));
	ck_assert(!pattern_valid("", 0));
	ck_assert(!pattern_valid("a\nb", 3));
	ck_assert(!pattern_valid("a\0b", 3));
	ck_assert(!pattern_valid("a\x7f", 2));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pattern");
	TCase *t = tcase_create("pattern");
	tcase_add_loop_test(t, known_cases, 0, sizeof cases / sizeof cases[0]);
	tcase_add_loop_test(t, as_defined, 0, 4);
	tcase_add_test(t, many_stars_are_quick);
	tcase_add_test(t, what_is_a_pattern);
	suite_add_tcase(s, t);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}

/* utf8.c: the first and last character of every length, and everything just beside them. */
#include <stdio.h>
#include <string.h>
#include "protocol/utf8.h"
#include "tests/unit/protocol/util.h"

static const struct {
	const char *hex;
	size_t good; /* how many bytes are well-formed */
} cases[] = {
    {"", 0},
    {"00", 1},
    {"7f", 1},
    {"80", 0},
    {"bf", 0},
    {"c080", 0}, /* overlong U+0000 */
    {"c1bf", 0}, /* overlong U+007F */
    {"c280", 2}, /* U+0080 */
    {"c2", 0},
    {"c27f", 0},
    {"c2c0", 0},
    {"dfbf", 2},   /* U+07FF */
    {"e09fbf", 0}, /* overlong U+07FF */
    {"e0a080", 3}, /* U+0800 */
    {"e0a0", 0},
    {"e0a07f", 0},
    {"e18080", 3},
    {"ecbfbf", 3},
    {"ed9fbf", 3},   /* U+D7FF */
    {"eda080", 0},   /* U+D800 */
    {"edbfbf", 0},   /* U+DFFF */
    {"ee8080", 3},   /* U+E000 */
    {"efbfbf", 3},   /* U+FFFF: not a character, but well-formed */
    {"f08fbfbf", 0}, /* overlong U+FFFF */
    {"f0908080", 4}, /* U+10000 */
    {"f09080", 0},
    {"f0908041", 0},
    {"f1808080", 4},
    {"f3bfbfbf", 4},
    {"f48fbfbf", 4}, /* U+10FFFF */
    {"f4908080", 0}, /* U+110000 */
    {"f5808080", 0},
    {"f8888080 80", 0},
    {"fe", 0},
    {"ff", 0},
    {"6162 c3a9 63", 5},
    {"61626364656667 c3", 7},
    {"6162636465666768 ff 61", 8},
    {"61626364656667686162 c3a9 e282ac f09f9880 80", 19},
    {"c3a9 c3a9 c3a9 c3a9 6162636465666768 6162636465666768 eda080", 24},
};

START_TEST(span)
{
	struct buf b;
	buf_init(&b, 0);
	unhex(&b, cases[_i].hex);
	ck_assert_msg(utf8_span(b.data, b.len) == cases[_i].good, "%s: %zu good bytes, expected %zu",
	              cases[_i].hex, utf8_span(b.data, b.len), cases[_i].good);
	buf_done(&b);
}
END_TEST

/* An encoder independent of the checker: every scalar value passes whole, no surrogate does. */
START_TEST(every_code_point)
{
	for (unsigned c = 0; c <= 0x10FFFF; c++) {
		unsigned char s[4];
		size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
		static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
		unsigned rest = c;
		for (size_t i = n; i-- > 1; rest >>= 6)
			s[i] = (unsigned char)(0x80 | (rest & 0x3F));
		s[0] = (unsigned char)(lead[n] | rest);
		size_t good = c >= 0xD800 && c <= 0xDFFF ? 0 : n;
		if (utf8_span(s, n) != good)
			ck_abort_msg("U+%04X", c);
		if (n > 1 && utf8_span(s, n - 1) != 0)
			ck_abort_msg("U+%04X cut short", c);
	}
}
END_TEST

START_TEST(prefix)
{
	static const char text[] = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z"; /* 1 + 2 + 3 + 4 + 1 bytes */
	static const size_t want[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11};
	for (size_t max = 0; max < N_OF(want); max++)
		ck_assert_uint_eq(utf8_prefix(text, sizeof text - 1, max), want[max]);
}
END_TEST

/* A copy never holds a part of a character, whatever the room. */
START_TEST(copy)
{
	static const char text[] = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z";
	char to[sizeof text + 1];
	for (size_t size = 1; size <= sizeof to; size++) {
		memset(to, 'x', sizeof to);
		size_t n = utf8_copy(to, size, text, sizeof text - 1);
		ck_assert_uint_eq(n, utf8_prefix(text, sizeof text - 1, size - 1));
		ck_assert_uint_eq(strlen(to), n);
		ck_assert_int_eq(memcmp(to, text, n), 0);
		ck_assert_uint_eq(utf8_span(to, n), n);
	}
	ck_assert_uint_eq(utf8_copy(to, sizeof to, NULL, 0), 0);
	ck_assert_str_eq(to, "");
}
END_TEST

static const struct {
	const char *dirty, *clean;
} scrubbed[] = {
    {"", ""},
    {"plain", "plain"},
    {"\xc3\xa9t\xc3\xa9", "\xc3\xa9t\xc3\xa9"},
    {"cut \xc3", "cut "},
    {"cut \xe2\x82\" here", "cut \" here"},
    {"\x82\xac here", " here"},
    {"\xf0\x9f\x98", ""},
    {"\xff\xc3\xa9\xff\xfe" "b\xed\xa0\x80", "\xc3\xa9" "b"},
};

START_TEST(scrub)
{
	char text[64];
	snprintf(text, sizeof text, "%s", scrubbed[_i].dirty);
	utf8_scrub(text);
	ck_assert_str_eq(text, scrubbed[_i].clean);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("utf8");
	TCase *t = tcase_create("utf8");
	tcase_add_loop_test(t, span, 0, (int)N_OF(cases));
	tcase_add_test(t, every_code_point);
	tcase_add_test(t, prefix);
	tcase_add_test(t, copy);
	tcase_add_loop_test(t, scrub, 0, (int)N_OF(scrubbed));
	suite_add_tcase(s, t);
	return run_suite(s);
}

/* mpjson.c: bytes to text and back, each refusal with its path, numbers at every edge, and doubles that come
 * back equal. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "protocol/mpjson.h"
#include "protocol/scan.h"
#include "tests/unit/protocol/util.h"

static const struct scan_limits wide = {.max_items = 1000000, .max_depth = 30};

/* A process whose locale writes and reads a decimal comma, on any machine: mpjson.c's calls come here. (With
 * _FORTIFY_SOURCE its snprintf has another name.) */
static bool decimal_comma;

int __wrap_snprintf(char *s, size_t n, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int __wrap___snprintf_chk(char *s, size_t n, int flag, size_t room, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
double __wrap_strtod(const char *s, char **end);
double __real_strtod(const char *s, char **end);

static int print_local(char *s, size_t n, const char *fmt, va_list ap) __attribute__((format(printf, 3, 0)));
static int print_local(char *s, size_t n, const char *fmt, va_list ap)
{
	int r = vsnprintf(s, n, fmt, ap);
	char *point = decimal_comma ? strchr(s, '.') : NULL;
	if (point)
		*point = ',';
	return r;
}

int __wrap_snprintf(char *s, size_t n, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int r = print_local(s, n, fmt, ap);
	va_end(ap);
	return r;
}

int __wrap___snprintf_chk(char *s, size_t n, int flag, size_t room, const char *fmt, ...)
{
	(void)flag;
	ck_assert_uint_ge(room, n);
	va_list ap;
	va_start(ap, fmt);
	int r = print_local(s, n, fmt, ap);
	va_end(ap);
	return r;
}

double __wrap_strtod(const char *s, char **end)
{
	char copy[64];
	if (!decimal_comma)
		return __real_strtod(s, end);
	ck_assert_ptr_null(end);
	ck_assert_uint_lt(strlen(s), sizeof copy);
	for (size_t i = 0; i <= strlen(s); i++)
		copy[i] = s[i] == ',' ? '.' : s[i] == '.' ? ',' : s[i];
	return __real_strtod(copy, NULL);
}

/* Scan, decode and write what is in `bytes`; the result of mp_to_json. */
static int to_json(const struct buf *bytes, const char *root, struct buf *out, struct mpjson_error *err)
{
	struct scan_error se;
	struct mp_value v;
	ck_assert_msg(scan_value(bytes->data, bytes->len, &wide, &se) == 0, "%s at %zu", se.what, se.offset);
	ck_assert_int_eq(mp_decode(bytes->data, bytes->len, &v), 0);
	int r = mp_to_json(&v.root, root, out, err);
	mp_value_done(&v);
	return r;
}

// clang-format off
#define ZEROS_20 "00000000000000000000"
#define ZEROS_100 ZEROS_20 ZEROS_20 ZEROS_20 ZEROS_20 ZEROS_20
#define ZEROS_292 ZEROS_100 ZEROS_100 ZEROS_20 ZEROS_20 ZEROS_20 ZEROS_20 "000000000000"
// clang-format on

static const struct {
	const char *hex, *json;
} written[] = {
    {"c0", "null"},
    {"c2", "false"},
    {"c3", "true"},
    {"00", "0"},
    {"7f", "127"},
    {"ff", "-1"},
    {"d080", "-128"},
    {"cdffff", "65535"},
    {"cf7fffffffffffffff", "9223372036854775807"},
    {"d38000000000000000", "-9223372036854775808"},
    {"cf000000003b9ac9ff", "999999999"},
    {"cf000000003b9aca00", "1000000000"},
    {"cb0000000000000000", "0.0"},
    {"cb8000000000000000", "-0.0"},
    {"cb3ff0000000000000", "1.0"},
    {"cb3fb999999999999a", "0.1"},
    {"cbbfe0000000000000", "-0.5"},
    {"cb3fd3333333333334", "0.30000000000000004"},
    {"cb7fefffffffffffff", "17976931348623157" ZEROS_292 ".0"},
    {"cb54b249ad2594c37d", "1" ZEROS_100 ".0"},
    {"cb0010000000000000", "2.2250738585072014e-308"},
    {"cb0000000000000001", "4.94065645841247e-324"},
    {"cb42d6bcc41e8fffe0", "99999999999999.5"},
    {"cb42d6bcc41e900000", "100000000000000.0"},
    {"cb430c6bf526340000", "1000000000000000.0"},
    {"cbc30c6bf526340000", "-1000000000000000.0"},
    {"cb4340000000000000", "9007199254740992.0"},
    {"cb3e45798ee2308c3a", "0.00000001"},
    {"cb3e112e0be826d695", "1e-09"},
    {"ca3dcccccd", "0.10000000149011612"},
    {"ca3fc00000", "1.5"},
    {"a0", "\"\""},
    {"a161", "\"a\""},
    {"a17f", "\"\x7f\""},
    {"a8 22 5c 2f 08 0c 0a 0d 09", "\"\\\"\\\\/\\b\\f\\n\\r\\t\""},
    {"a5 61 01 1f 62 22", "\"a\\u0001\\u001fb\\\"\""},
    {"a9 c3a9 e282ac f09f9880", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""},
    {"90", "[]"},
    {"80", "{}"},
    {"93 01 90 80", "[1,[],{}]"},
    {"82 a161 92 01 02 a162 81 a0 c0", "{\"a\":[1,2],\"b\":{\"\":null}}"},
    {"81 a20a22 01", "{\"\\n\\\"\":1}"},
};

START_TEST(values_are_written)
{
	struct buf bytes, out;
	struct mpjson_error err;
	buf_init(&bytes, 0);
	buf_init(&out, 0);
	buf_append_str(&out, "before");
	unhex(&bytes, written[_i].hex);
	ck_assert_int_eq(to_json(&bytes, "v", &out, &err), 0);
	ck_assert_str_eq(buf_text(&out) + 6, written[_i].json);
	buf_done(&bytes);
	buf_done(&out);
}
END_TEST

/* What PostgreSQL 15 prints of the value: `rest` stands for this many more characters of a long number. */
static const struct {
	const char *hex, *jsonb;
	size_t rest;
} printed[] = {
    {"c0", "null", 0},
    {"90", "[]", 0},
    {"80", "{}", 0},
    {"93 01 90 80", "[1, [], {}]", 0},
    {"82 a161 92 01 02 a162 81 a0 c0", "{\"a\": [1, 2], \"b\": {\"\": null}}", 0},
    {"a8 22 5c 2f 08 0c 0a 0d 09", "\"\\\"\\\\/\\b\\f\\n\\r\\t\"", 0},
    {"a4 011f7f2f", "\"\\u0001\\u001f\x7f/\"", 0},
    {"cb3ff0000000000000", "1.0", 0},
    {"cbbfe0000000000000", "-0.5", 0},
    {"91 cb8000000000000000", "[0.0]", 0}, /* -0.0 */
    {"cb3e45798ee2308c3a", "0.00000001", 0},
    {"cb3e112e0be826d695", "0.000000001", 0}, /* 1e-09 */
    {"cbbe112e0be826d695", "-0.000000001", 0},
    {"cb430c6bf526340000", "1000000000000000.0", 0},
    {"cb4340000000000000", "9007199254740992.0", 0},
    {"cb7fefffffffffffff", "17976931348623157", 309 + 2 - 17},
    {"cbffefffffffffffff", "-17976931348623157", 309 + 2 - 17},
    {"cb0010000000000000", "0.22250738585072014", 307},
    {"cb0000000000000001", "0.494065645841247", 323},
};

START_TEST(the_limit_counts_what_jsonb_prints)
{
	struct buf bytes, out;
	struct mpjson_error err;
	struct mp_value v;
	size_t width = strlen(printed[_i].jsonb) + printed[_i].rest;
	buf_init(&bytes, 0);
	buf_init(&out, 0);
	buf_append_str(&out, "kept");
	unhex(&bytes, printed[_i].hex);
	ck_assert_int_eq(mp_decode(bytes.data, bytes.len, &v), 0);
	ck_assert_int_eq(mp_to_json_max(&v.root, "r", width - 1, &out, &err), -EMSGSIZE);
	ck_assert_str_eq(buf_text(&out), "kept");
	ck_assert_int_eq(mp_to_json_max(&v.root, "r", width, &out, &err), 0);
	ck_assert_uint_le(out.len - 4, width + 1);
	mp_value_done(&v);
	buf_done(&bytes);
	buf_done(&out);
}
END_TEST

static const struct {
	const char *hex, *root, *path, *what;
} refused[] = {
    {"cf8000000000000000", "context", "context", "integer outside -2^63..2^63-1"},
    {"cfffffffffffffffff", NULL, "", "integer outside -2^63..2^63-1"},
    {"cb7ff8000000000000", "r", "r", "NaN"},
    {"ca7fc00000", "r", "r", "NaN"},
    {"cb7ff0000000000000", "r", "r", "infinity"},
    {"cbfff0000000000000", "r", "r", "infinity"},
    {"c400", "r", "r", "bin value"},
    {"a100", "r", "r", "U+0000 in a string"},
    {"81 a16b a3 610062", "r", "r.k", "U+0000 in a string"},
    {"81 a3 610062 c0", "r", "r[\"a\\u0000b\"]", "U+0000 in a string"},
    {"81 a5 6974656d73 94 c0 c0 c0 81 a5 7072696365 c400", "context", "context.items[3].price", "bin value"},
    {"81 a5 6974656d73 94 c0 c0 c0 81 a5 7072696365 c400", NULL, "items[3].price", "bin value"},
    {"91 c400", "", "[0]", "bin value"},
    {"82 a161 91c0 a162 c400", "r", "r.b", "bin value"},
    {"81 a0 c400", "r", "r[\"\"]", "bin value"},
    {"81 a3 612e62 c400", "r", "r[\"a.b\"]", "bin value"},
    {"81 a5 612d625f39 c400", "r", "r.a-b_9", "bin value"},
};

START_TEST(refusals_name_the_path)
{
	struct buf bytes, out;
	struct mpjson_error err;
	buf_init(&bytes, 0);
	buf_init(&out, 0);
	buf_append_str(&out, "kept");
	unhex(&bytes, refused[_i].hex);
	ck_assert_int_eq(to_json(&bytes, refused[_i].root, &out, &err), -EINVAL);
	ck_assert_str_eq(err.path, refused[_i].path);
	ck_assert_str_eq(err.what, refused[_i].what);
	ck_assert_str_eq(buf_text(&out), "kept");
	ck_assert_int_eq(to_json(&bytes, refused[_i].root, &out, NULL), -EINVAL);
	buf_done(&bytes);
	buf_done(&out);
}
END_TEST

/* A path longer than its field is cut between characters. */
START_TEST(long_paths_are_cut)
{
	struct buf bytes, out;
	struct mpjson_error err;
	buf_init(&bytes, 0);
	buf_init(&out, 0);
	mp_map(&bytes, 1);
	mp_str(
	    &bytes,
	    "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
	    "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
	    "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
	    "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
	    "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
	    "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3"
	    "\xa9");
	mp_bin(&bytes, "", 0);
	ck_assert_int_eq(to_json(&bytes, "ab", &out, &err), -EINVAL);
	ck_assert_uint_eq(strlen(err.path), 126); /* ab[" and 61 characters of two bytes */
	ck_assert_str_eq(err.path + 124, "\xc3\xa9");
	buf_done(&bytes);
	buf_done(&out);
}
END_TEST

START_TEST(depth)
{
	struct buf bytes, out, back;
	struct mpjson_error err;
	buf_init(&bytes, 0);
	buf_init(&out, 0);
	buf_init(&back, 0);
	fill(&bytes, 0x91, 30);
	mp_nil(&bytes);
	ck_assert_int_eq(to_json(&bytes, "r", &out, &err), 0);
	ck_assert_int_eq(json_to_mp(buf_text(&out), out.len, &back, &err), 0);
	ck_assert_uint_eq(back.len, bytes.len);
	ck_assert_int_eq(memcmp(back.data, bytes.data, back.len), 0);

	struct mp_value v; /* one level more than scan_value would let through */
	fill(&bytes, 0x91, 1);
	memmove(bytes.data + 1, bytes.data, bytes.len - 1);
	bytes.data[0] = 0x91;
	buf_reset(&out);
	ck_assert_int_eq(mp_decode(bytes.data, bytes.len, &v), 0);
	ck_assert_int_eq(mp_to_json(&v.root, "r", &out, &err), -EINVAL);
	ck_assert_str_eq(err.what, "nested too deeply");
	mp_value_done(&v);

	buf_reset(&out);
	fill(&out, '[', 31);
	fill(&out, ']', 31);
	buf_reset(&back);
	ck_assert_int_eq(json_to_mp(buf_text(&out), out.len, &back, &err), -EINVAL);
	ck_assert_str_eq(err.what, "nested too deeply");
	ck_assert_uint_eq(back.len, 0);
	buf_done(&bytes);
	buf_done(&out);
	buf_done(&back);
}
END_TEST

START_TEST(full_buffers_are_errors_at_every_size)
{
	static const char json[] = "{\"key\":[1,-2,0.5,1e-300,true,null,\"a\\n\\u0001\"],\"x\":{}}";
	struct buf bytes, out;
	struct mpjson_error err;
	buf_init(&bytes, 0);
	ck_assert_int_eq(json_to_mp(json, sizeof json - 1, &bytes, &err), 0);
	for (size_t max = 1; max <= sizeof json - 1; max++) {
		buf_init(&out, max);
		ck_assert_int_eq(to_json(&bytes, "r", &out, &err), max < sizeof json - 1 ? -EMSGSIZE : 0);
		buf_done(&out);
	}
	for (size_t max = 1; max <= bytes.len; max++) {
		buf_init(&out, max);
		ck_assert_int_eq(json_to_mp(json, sizeof json - 1, &out, &err),
		                 max < bytes.len ? -EMSGSIZE : 0);
		buf_done(&out);
	}
	buf_done(&bytes);
}
END_TEST

static const struct {
	const char *json, *hex;
} read[] = {
    {"null", "c0"},
    {" true ", "c3"},
    {"0", "00"},
    {"-0", "00"},
    {"-1", "ff"},
    {"9223372036854775806", "cf7ffffffffffffffe"},
    {"9223372036854775807", "cf7fffffffffffffff"},
    {"9223372036854775808", "cb43e0000000000000"},
    {"-9223372036854775807", "d38000000000000001"},
    {"-9223372036854775808", "d38000000000000000"},
    {"-9223372036854775809", "cbc3e0000000000000"},
    {"18446744073709551615", "cb43f0000000000000"},
    {"18446744073709551616", "cb43f0000000000000"},
    {"100000000000000000000000", "cb44b52d02c7e14af6"},
    {"[9223372036854775807,9223372036854775808]", "92 cf7fffffffffffffff cb43e0000000000000"},
    {"{\"9223372036854775808\":\"9223372036854775808\",\"\\\"99999999999999999999\":99999999999999999999}",
     "82 b3 39323233333732303336383534373735383038 b3 39323233333732303336383534373735383038 "
     "b5 223939393939393939393939393939393939393939 cb4415af1d78b58c40"},
    {"1.0", "cb3ff0000000000000"},
    {"1e2", "cb4059000000000000"},
    {"99999999999999999999.5", "cb4415af1d78b58c40"},
    {"99999999999999999999e-1", "cb43e158e460913d00"},
    {"1e-400", "cb0000000000000000"},
    {"\"\"", "a0"},
    {"\"\\u00e9\\ud83d\\ude00\\/\"", "a7 c3a9 f09f9880 2f"},
    {"[]", "90"},
    {"{}", "80"},
    {"{\"b\":1,\"a\":[{}]}", "82 a162 01 a161 91 80"},
};

START_TEST(text_is_read)
{
	struct buf out;
	struct mpjson_error err;
	buf_init(&out, 0);
	ck_assert_msg(json_to_mp(read[_i].json, strlen(read[_i].json), &out, &err) == 0, "%s: %s",
	              read[_i].json, err.what);
	assert_hex(&out, read[_i].hex, read[_i].json);
	buf_done(&out);
}
END_TEST

static const struct {
	const char *json;
	size_t len; /* 0: strlen */
	const char *what;
} bad_text[] = {
    {"", 0, "not JSON"},
    {" ", 0, "not JSON"},
    {"[1,", 0, "not JSON"},
    {"[1,]", 0, "not JSON"},
    {"{\"a\"}", 0, "not JSON"},
    {"{a:1}", 0, "not JSON"},
    {"'a'", 0, "not JSON"},
    {"NaN", 0, "not JSON"},
    {"Infinity", 0, "not JSON"},
    {"01", 0, "not JSON"},
    {"1.", 0, "not JSON"},
    {"+1", 0, "not JSON"},
    {"1 2", 0, "text after"},
    {"null\0", 5, "NUL byte"},
    {"null\0x", 6, "NUL byte"},
    {"\"a\0b\"", 5, "NUL byte"},
    {"\"\\u0000\"", 0, "U+0000"},
    {"{\"\\u0000\":1}", 0, "U+0000"},
    {"\"\\ud800\"", 0, "not JSON"},
    {"\"\\ud800\\u0041\"", 0, "not JSON"},
    {"\"\\udc00\"", 0, "not JSON"},
    {"\"\n\"", 0, "not JSON"},
    {"\"\xff\"", 0, "invalid UTF-8"},
    {"\"\xed\xa0\x80\"", 0, "invalid UTF-8"},
    {"\"\xc0\x80\"", 0, "invalid UTF-8"},
    {"{\"a\":1,\"a\":1}", 0, "duplicate key"},
    {"{\"a\":1,\"\\u0061\":1}", 0, "duplicate key"},
    {"1e400", 0, "number outside"},
    {"-1e400", 0, "number outside"},
    {"[99999999999999999999,1e400]", 0, "number outside"},
    {"[99999999999999999999,", 0, "not JSON"},
    {"[99999999999999999999,\"", 0, "not JSON"},
    {"[99999999999999999999,\"\\", 0, "not JSON"},
};

START_TEST(bad_text_is_refused)
{
	struct buf out;
	struct mpjson_error err;
	size_t len = bad_text[_i].len ? bad_text[_i].len : strlen(bad_text[_i].json);
	buf_init(&out, 0);
	buf_append_str(&out, "kept");
	ck_assert_msg(json_to_mp(bad_text[_i].json, len, &out, &err) == -EINVAL, "accepted: %s",
	              bad_text[_i].json);
	ck_assert_msg(strncmp(err.what, bad_text[_i].what, strlen(bad_text[_i].what)) == 0, "%s: %s",
	              bad_text[_i].json, err.what);
	ck_assert_str_eq(err.path, "");
	ck_assert_str_eq(buf_text(&out), "kept");
	ck_assert_int_eq(json_to_mp(bad_text[_i].json, len, &out, NULL), -EINVAL);
	buf_done(&out);
}
END_TEST

static void comes_back(double v)
{
	struct buf bytes, out, back;
	struct mpjson_error err;
	buf_init(&bytes, 0);
	buf_init(&out, 0);
	buf_init(&back, 0);
	mp_double(&bytes, v);
	ck_assert_int_eq(to_json(&bytes, "r", &out, &err), 0);
	const char *text = buf_text(&out);
	ck_assert_msg(strpbrk(text, ".e") && strspn(text, "0123456789+-.e") == out.len, "%a: %s", v, text);
	ck_assert_int_eq(json_to_mp(text, out.len, &back, &err), 0);
	ck_assert_msg(back.len == bytes.len && memcmp(back.data, bytes.data, back.len) == 0, "%a: %s", v,
	              text);
	buf_done(&bytes);
	buf_done(&out);
	buf_done(&back);
}

static uint64_t next_random(uint64_t *state)
{
	*state += 0x9E3779B97F4A7C15ULL;
	uint64_t z = *state;
	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
	return z ^ (z >> 31);
}

START_TEST(doubles_come_back_equal)
{
	uint64_t state = 1;
	for (int i = 0; i < 5000; i++) {
		uint64_t bits = next_random(&state);
		double any, money = (double)(int64_t)(bits >> 24) / 100.0, decimal;
		memcpy(&any, &bits, sizeof any);
		decimal = (double)(bits >> (bits & 31)) / 1e8;
		if (isfinite(any))
			comes_back(any);
		comes_back(money);
		comes_back(-decimal);
		comes_back(nextafter(money, INFINITY));
	}
}
END_TEST

START_TEST(powers_and_their_neighbours_come_back_equal)
{
	for (int e = -1074; e < 1024; e++) {
		comes_back(ldexp(1.0, e));
		comes_back(nextafter(ldexp(1.0, e), 0));
	}
	for (int e = -30; e < 30; e++) {
		comes_back(pow(10.0, e));
		comes_back(nextafter(pow(10.0, e), 0));
		comes_back(nextafter(pow(10.0, e), INFINITY));
	}
}
END_TEST

START_TEST(the_locale_does_not_matter)
{
	decimal_comma = true;
	comes_back(1e300);
	comes_back(0.1 + 0.2);
	comes_back(-1.5e-300);
	comes_back(9007199254740992.0);
	decimal_comma = false;
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mpjson");
	TCase *t = tcase_create("mpjson");
	tcase_set_timeout(t, 30);
	tcase_add_loop_test(t, the_limit_counts_what_jsonb_prints, 0, (int)N_OF(printed));
	tcase_add_loop_test(t, values_are_written, 0, (int)N_OF(written));
	tcase_add_loop_test(t, refusals_name_the_path, 0, (int)N_OF(refused));
	tcase_add_test(t, long_paths_are_cut);
	tcase_add_test(t, depth);
	tcase_add_test(t, full_buffers_are_errors_at_every_size);
	tcase_add_loop_test(t, text_is_read, 0, (int)N_OF(read));
	tcase_add_loop_test(t, bad_text_is_refused, 0, (int)N_OF(bad_text));
	tcase_add_test(t, doubles_come_back_equal);
	tcase_add_test(t, powers_and_their_neighbours_come_back_equal);
	tcase_add_test(t, the_locale_does_not_matter);
	suite_add_tcase(s, t);
	return run_suite(s);
}

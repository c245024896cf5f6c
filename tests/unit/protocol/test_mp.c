/* mp.c: each writer chooses the shortest form at each edge, containers of unknown size are patched, and the
 * readers tell absent, wrong and out of range apart. */
#include <errno.h>
#include <math.h>
#include <string.h>
#include "protocol/mp.h"
#include "tests/unit/protocol/util.h"

static const struct {
	int64_t v;
	const char *hex;
} ints[] = {
    {0, "00"},
    {127, "7f"},
    {128, "cc80"},
    {255, "ccff"},
    {256, "cd0100"},
    {65535, "cdffff"},
    {65536, "ce00010000"},
    {4294967295, "ceffffffff"},
    {4294967296, "cf0000000100000000"},
    {INT64_MAX, "cf7fffffffffffffff"},
    {-1, "ff"},
    {-32, "e0"},
    {-33, "d0df"},
    {-128, "d080"},
    {-129, "d1ff7f"},
    {-32768, "d18000"},
    {-32769, "d2ffff7fff"},
    {INT32_MIN, "d280000000"},
    {(int64_t)INT32_MIN - 1, "d3ffffffff7fffffff"},
    {INT64_MIN, "d38000000000000000"},
};

START_TEST(integers_take_the_shortest_form)
{
	struct buf b;
	buf_init(&b, 0);
	mp_int(&b, ints[_i].v);
	assert_hex(&b, ints[_i].hex, "mp_int");
	if (ints[_i].v >= 0) {
		buf_reset(&b);
		mp_uint(&b, (uint64_t)ints[_i].v);
		assert_hex(&b, ints[_i].hex, "mp_uint");
	}
	buf_done(&b);
}
END_TEST

START_TEST(other_scalars)
{
	struct buf b;
	buf_init(&b, 0);
	mp_nil(&b);
	mp_bool(&b, false);
	mp_bool(&b, true);
	mp_uint(&b, UINT64_MAX);
	mp_double(&b, 1.5);
	mp_str(&b, NULL);
	mp_str(&b, "");
	mp_strn(&b, "a\0b", 3);
	mp_bin(&b, "\xff", 1);
	mp_raw(&b, "\x91\xc0", 2);
	assert_hex(&b, "c0 c2 c3 cfffffffffffffffff cb3ff8000000000000 c0 a0 a3610062 c401ff 91c0",
	           "scalars");
	buf_done(&b);
}
END_TEST

enum what { STR, BIN, ARRAY, MAP };
static const struct {
	enum what what;
	size_t n;
	const char *head;
} heads[] = {
    {STR, 31, "bf"},
    {STR, 32, "d920"},
    {STR, 255, "d9ff"},
    {STR, 256, "da0100"},
    {STR, 65535, "daffff"},
    {STR, 65536, "db00010000"},
    {BIN, 0, "c400"},
    {BIN, 255, "c4ff"},
    {BIN, 256, "c50100"},
    {BIN, 65535, "c5ffff"},
    {BIN, 65536, "c600010000"},
    {ARRAY, 0, "90"},
    {ARRAY, 15, "9f"},
    {ARRAY, 16, "dc0010"},
    {ARRAY, 65535, "dcffff"},
    {ARRAY, 65536, "dd00010000"},
    {MAP, 0, "80"},
    {MAP, 15, "8f"},
    {MAP, 16, "de0010"},
    {MAP, 65535, "deffff"},
    {MAP, 65536, "df00010000"},
};

START_TEST(headers_take_the_shortest_form)
{
	static const char zeros[65536];
	size_t n = heads[_i].n, payload = heads[_i].what == STR || heads[_i].what == BIN ? n : 0;
	struct buf b;
	buf_init(&b, 0);
	switch (heads[_i].what) {
	case STR:
		mp_strn(&b, zeros, n);
		break;
	case BIN:
		mp_bin(&b, zeros, n);
		break;
	case ARRAY:
		mp_array(&b, n);
		break;
	case MAP:
		mp_map(&b, n);
		break;
	}
	b.len -= payload;
	assert_hex(&b, heads[_i].head, "header");
	buf_done(&b);
}
END_TEST

START_TEST(what_does_not_fit_sets_the_sticky_error)
{
	struct buf b;
	buf_init(&b, 4);
	mp_str(&b, "abc");
	ck_assert_int_eq(b.failed, 0);
	mp_nil(&b);
	ck_assert_int_eq(b.failed, -EMSGSIZE);
	buf_reset(&b);
	mp_str(&b, "abcd");
	ck_assert_int_eq(b.failed, -EMSGSIZE);
	mp_map_close(&b, mp_map_open(&b), 1);
	ck_assert_int_eq(b.failed, -EMSGSIZE);
	buf_reset(&b);
	mp_strn(&b, "", (size_t)UINT32_MAX + 1);
	ck_assert_int_eq(b.failed, -EMSGSIZE);
	buf_reset(&b);
	mp_array(&b, (size_t)UINT32_MAX + 1);
	ck_assert_int_eq(b.failed, -EMSGSIZE);
	buf_done(&b);
}
END_TEST

START_TEST(containers_of_unknown_size)
{
	struct buf b;
	buf_init(&b, 0);
	mp_nil(&b);
	size_t m = mp_map_open(&b);
	mp_str(&b, "a");
	size_t a = mp_array_open(&b);
	for (int i = 0; i < 3; i++)
		mp_int(&b, i);
	mp_array_close(&b, a, 3);
	mp_map_close(&b, m, 1);
	assert_hex(&b, "c0 df00000001 a161 dd00000003 000102", "open and close");
	mp_array_close(&b, a, 0x01020304);
	assert_hex(&b, "c0 df00000001 a161 dd01020304 000102", "all four bytes of the count");
	buf_done(&b);
}
END_TEST

START_TEST(decode_wants_one_whole_value)
{
	static const struct {
		const char *hex;
		int result;
	} cases[] = {{"c0", 0},          {"92c0c3", 0},      {"", -EBADMSG},
	             {"92c0", -EBADMSG}, {"c0c0", -EBADMSG}, {"c1", -EBADMSG}};
	for (size_t i = 0; i < N_OF(cases); i++) {
		struct buf b;
		struct mp_value v;
		buf_init(&b, 0);
		unhex(&b, cases[i].hex);
		ck_assert_int_eq(mp_decode(buf_text(&b), b.len, &v), cases[i].result);
		mp_value_done(&v);
		mp_value_done(&v);
		buf_done(&b);
	}
}
END_TEST

START_TEST(decoded_values_are_appended)
{
	static const char hex[] =
	    "84 a0 93 c0 c2 c3 a162 95 00 ff cfffffffffffffffff d38000000000000000 cb3ff8000000000000 "
	    "a163 92 a0 c400 a164 82 a161 90 a162 80";
	struct buf b, again;
	struct mp_value v;
	buf_init(&b, 0);
	buf_init(&again, 0);
	unhex(&b, hex);
	ck_assert_int_eq(mp_decode(b.data, b.len, &v), 0);
	mp_object(&again, &v.root);
	assert_hex(&again, hex, "mp_object");
	for (size_t max = 1; max < b.len; max++) {
		struct buf small;
		buf_init(&small, max);
		mp_object(&small, &v.root);
		ck_assert_int_eq(small.failed, -EMSGSIZE);
		buf_done(&small);
	}
	mp_value_done(&v);
	buf_done(&b);
	buf_done(&again);
}
END_TEST

START_TEST(empty_strings_are_not_null)
{
	struct buf b;
	struct mp_value v;
	const char *s = NULL;
	const void *p = NULL;
	size_t n = 9;
	buf_init(&b, 0);
	unhex(&b, "82 a173 a0 a162 c400");
	ck_assert_int_eq(mp_decode(b.data, b.len, &v), 0);
	ck_assert_int_eq(mp_get_str(&v.root, "s", &s, &n), 1);
	ck_assert(s && n == 0);
	ck_assert_int_eq(mp_get_bin(&v.root, "b", &p, &n), 1);
	ck_assert(p && n == 0);
	mp_value_done(&v);
	buf_done(&b);
}
END_TEST

static struct buf bytes;
static struct mp_value value;

static void set_up(void)
{
	buf_init(&bytes, 0);
	size_t m = mp_map_open(&bytes);
	mp_str(&bytes, "nil"), mp_nil(&bytes);
	mp_str(&bytes, "yes"), mp_bool(&bytes, true);
	mp_str(&bytes, "seven"), mp_int(&bytes, 7);
	mp_str(&bytes, "minus"), mp_int(&bytes, -7);
	mp_str(&bytes, "max"), mp_int(&bytes, INT64_MAX);
	mp_str(&bytes, "min"), mp_int(&bytes, INT64_MIN);
	mp_str(&bytes, "huge"), mp_uint(&bytes, (uint64_t)INT64_MAX + 1);
	mp_str(&bytes, "half"), mp_double(&bytes, 0.5);
	mp_str(&bytes, "float"), mp_raw(&bytes, "\xca\x3f\x00\x00\x00", 5);
	mp_str(&bytes, "nan"), mp_double(&bytes, NAN);
	mp_str(&bytes, "inf"), mp_double(&bytes, INFINITY);
	mp_str(&bytes, "text"), mp_str(&bytes, "words");
	mp_str(&bytes, "empty"), mp_str(&bytes, "");
	mp_str(&bytes, "bin"), mp_bin(&bytes, "\x01\x02", 2);
	mp_str(&bytes, "map"), mp_map(&bytes, 0);
	mp_str(&bytes, "array"), mp_array(&bytes, 0);
	mp_map_close(&bytes, m, 16);
	ck_assert_int_eq(bytes.failed, 0);
	ck_assert_int_eq(mp_decode(bytes.data, bytes.len, &value), 0);
}

static void tear_down(void)
{
	mp_value_done(&value);
	buf_done(&bytes);
}

START_TEST(get_looks_in_maps_only)
{
	ck_assert_ptr_nonnull(mp_get(&value.root, "yes"));
	ck_assert_ptr_null(mp_get(&value.root, "nil"));
	ck_assert_ptr_null(mp_get(&value.root, "ye"));
	ck_assert_ptr_null(mp_get(&value.root, "yess"));
	ck_assert_ptr_null(mp_get(NULL, "yes"));
	ck_assert_ptr_null(mp_get(mp_get(&value.root, "array"), "yes"));
	ck_assert(mp_str_eq(mp_get(&value.root, "empty"), ""));
	ck_assert(mp_str_eq(mp_get(&value.root, "text"), "words"));
	ck_assert(!mp_str_eq(mp_get(&value.root, "text"), "word"));
	ck_assert(!mp_str_eq(mp_get(&value.root, "bin"), "\x01\x02"));
	ck_assert(!mp_str_eq(NULL, ""));
}
END_TEST

/* For each key what each getter must say. */
static const struct {
	const char *key;
	int str, bin, boolean, dbl, map, array, integer;
} gets[] = {
    {"absent", 0, 0, 0, 0, 0, 0, 0},
    {"nil", 0, 0, 0, 0, 0, 0, 0},
    {"yes", -EINVAL, -EINVAL, 1, -EINVAL, -EINVAL, -EINVAL, -EINVAL},
    {"seven", -EINVAL, -EINVAL, -EINVAL, 1, -EINVAL, -EINVAL, 1},
    {"minus", -EINVAL, -EINVAL, -EINVAL, 1, -EINVAL, -EINVAL, 1},
    {"max", -EINVAL, -EINVAL, -EINVAL, 1, -EINVAL, -EINVAL, 1},
    {"min", -EINVAL, -EINVAL, -EINVAL, 1, -EINVAL, -EINVAL, 1},
    {"huge", -EINVAL, -EINVAL, -EINVAL, 1, -EINVAL, -EINVAL, -EINVAL},
    {"half", -EINVAL, -EINVAL, -EINVAL, 1, -EINVAL, -EINVAL, -EINVAL},
    {"float", -EINVAL, -EINVAL, -EINVAL, 1, -EINVAL, -EINVAL, -EINVAL},
    {"nan", -EINVAL, -EINVAL, -EINVAL, -EINVAL, -EINVAL, -EINVAL, -EINVAL},
    {"inf", -EINVAL, -EINVAL, -EINVAL, -EINVAL, -EINVAL, -EINVAL, -EINVAL},
    {"text", 1, -EINVAL, -EINVAL, -EINVAL, -EINVAL, -EINVAL, -EINVAL},
    {"empty", 1, -EINVAL, -EINVAL, -EINVAL, -EINVAL, -EINVAL, -EINVAL},
    {"bin", -EINVAL, 1, -EINVAL, -EINVAL, -EINVAL, -EINVAL, -EINVAL},
    {"map", -EINVAL, -EINVAL, -EINVAL, -EINVAL, 1, -EINVAL, -EINVAL},
    {"array", -EINVAL, -EINVAL, -EINVAL, -EINVAL, -EINVAL, 1, -EINVAL},
};

START_TEST(getters_tell_types_apart)
{
	const char *key = gets[_i].key, *s;
	const void *p;
	const msgpack_object *o;
	size_t n;
	bool flag;
	double d;
	int64_t i;
	const msgpack_object *root = &value.root;
	ck_assert_int_eq(mp_get_str(root, key, &s, &n), gets[_i].str);
	ck_assert_int_eq(mp_get_bin(root, key, &p, &n), gets[_i].bin);
	ck_assert_int_eq(mp_get_bool(root, key, &flag), gets[_i].boolean);
	ck_assert_int_eq(mp_get_double(root, key, &d), gets[_i].dbl);
	ck_assert_int_eq(mp_get_map(root, key, &o), gets[_i].map);
	ck_assert_int_eq(mp_get_array(root, key, &o), gets[_i].array);
	ck_assert_int_eq(mp_get_int(root, key, INT64_MIN, INT64_MAX, &i), gets[_i].integer);
}
END_TEST

START_TEST(getters_return_the_value)
{
	const char *s;
	const void *p;
	size_t n;
	bool flag = false;
	double d;
	ck_assert_int_eq(mp_get_str(&value.root, "text", &s, &n), 1);
	ck_assert(n == 5 && memcmp(s, "words", 5) == 0);
	ck_assert(s > (char *)bytes.data && s < (char *)bytes.data + bytes.len);
	ck_assert_int_eq(mp_get_bin(&value.root, "bin", &p, &n), 1);
	ck_assert(n == 2 && memcmp(p, "\x01\x02", 2) == 0);
	ck_assert_int_eq(mp_get_bool(&value.root, "yes", &flag), 1);
	ck_assert(flag);
	ck_assert_int_eq(mp_get_double(&value.root, "half", &d), 1);
	ck_assert_double_eq(d, 0.5);
	ck_assert_int_eq(mp_get_double(&value.root, "float", &d), 1);
	ck_assert_double_eq(d, 0.5);
	ck_assert_int_eq(mp_get_double(&value.root, "minus", &d), 1);
	ck_assert_double_eq(d, -7.0);
	ck_assert_int_eq(mp_get_double(&value.root, "huge", &d), 1);
	ck_assert_double_eq(d, 9223372036854775808.0);
}
END_TEST

static const struct {
	const char *key;
	int64_t min, max;
	int result;
	int64_t v;
} ranges[] = {
    {"seven", 6, 8, 1, 7},
    {"seven", 7, 7, 1, 7},
    {"seven", 8, 9, -EINVAL, 0},
    {"seven", 5, 6, -EINVAL, 0},
    {"minus", -7, 0, 1, -7},
    {"minus", -6, 0, -EINVAL, 0},
    {"max", 0, INT64_MAX, 1, INT64_MAX},
    {"max", 0, INT64_MAX - 1, -EINVAL, 0},
    {"min", INT64_MIN, 0, 1, INT64_MIN},
    {"min", INT64_MIN + 1, 0, -EINVAL, 0},
    {"huge", INT64_MIN, INT64_MAX, -EINVAL, 0},
};

START_TEST(integers_are_held_to_their_range)
{
	int64_t v = 0;
	ck_assert_int_eq(mp_get_int(&value.root, ranges[_i].key, ranges[_i].min, ranges[_i].max, &v),
	                 ranges[_i].result);
	ck_assert_int_eq(v, ranges[_i].v);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mp");
	TCase *w = tcase_create("write"), *r = tcase_create("read");
	tcase_add_loop_test(w, integers_take_the_shortest_form, 0, (int)N_OF(ints));
	tcase_add_test(w, other_scalars);
	tcase_add_loop_test(w, headers_take_the_shortest_form, 0, (int)N_OF(heads));
	tcase_add_test(w, what_does_not_fit_sets_the_sticky_error);
	tcase_add_test(w, containers_of_unknown_size);
	tcase_add_test(w, decode_wants_one_whole_value);
	tcase_add_test(w, decoded_values_are_appended);
	tcase_add_test(w, empty_strings_are_not_null);
	tcase_add_checked_fixture(r, set_up, tear_down);
	tcase_add_test(r, get_looks_in_maps_only);
	tcase_add_loop_test(r, getters_tell_types_apart, 0, (int)N_OF(gets));
	tcase_add_test(r, getters_return_the_value);
	tcase_add_loop_test(r, integers_are_held_to_their_range, 0, (int)N_OF(ranges));
	suite_add_tcase(s, w);
	suite_add_tcase(s, r);
	return run_suite(s);
}

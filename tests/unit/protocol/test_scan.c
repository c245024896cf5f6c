/* scan.c: every tag at every edge; headers that lie; depth and item limits below, at and above; keys twice in
 * maps of every size class; every truncation of a value that has everything in it. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "protocol/mp.h"
#include "protocol/scan.h"
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

static const struct scan_limits wide = {.max_items = 1000000, .max_depth = 30};

#define OK NULL
#define TRUNCATED "truncated"
#define ITEMS "too many items"
#define DEPTH "nested too deeply"
#define KEY "map key is not a string"
#define TWICE "duplicate map key"
#define EXT "ext type"
#define UTF8 "invalid UTF-8"
#define TRAILING "trailing bytes"
#define RESERVED "reserved byte"

static const struct {
	const char *hex, *what;
	size_t offset;
	struct scan_limits limits; /* zero: wide */
} cases[] = {
    {"", TRUNCATED, 0, {0}},
    /* scalars: whole, one byte short, one byte long */
    {"00", OK, 0, {0}},
    {"7f", OK, 0, {0}},
    {"e0", OK, 0, {0}},
    {"ff", OK, 0, {0}},
    {"c0", OK, 0, {0}},
    {"c0c0", TRAILING, 1, {0}},
    {"c1", RESERVED, 0, {0}},
    {"c2", OK, 0, {0}},
    {"c3", OK, 0, {0}},
    {"ca 7fc00000", OK, 0, {0}}, /* NaN is a value, not a form */
    {"ca 000000", TRUNCATED, 0, {0}},
    {"cb 7ff0000000000000", OK, 0, {0}},
    {"cb 7ff00000000000", TRUNCATED, 0, {0}},
    {"cc", TRUNCATED, 0, {0}},
    {"cc 00", OK, 0, {0}},
    {"cc 0000", TRAILING, 2, {0}},
    {"cd 00", TRUNCATED, 0, {0}},
    {"cd 0000", OK, 0, {0}},
    {"ce 000000", TRUNCATED, 0, {0}},
    {"ce 00000000", OK, 0, {0}},
    {"cf 00000000000000", TRUNCATED, 0, {0}},
    {"cf ffffffffffffffff", OK, 0, {0}},
    {"d0", TRUNCATED, 0, {0}},
    {"d0 80", OK, 0, {0}},
    {"d1 80", TRUNCATED, 0, {0}},
    {"d1 8000", OK, 0, {0}},
    {"d2 800000", TRUNCATED, 0, {0}},
    {"d2 80000000", OK, 0, {0}},
    {"d3 80000000000000", TRUNCATED, 0, {0}},
    {"d3 8000000000000000", OK, 0, {0}},
    /* strings and bin */
    {"a0", OK, 0, {0}},
    {"a1", TRUNCATED, 0, {0}},
    {"a161", OK, 0, {0}},
    {"a100", OK, 0, {0}}, /* U+0000 is a value, not a form */
    {"a1ff", UTF8, 1, {0}},
    {"a3 61eda0", UTF8, 2, {0}},
    {"92 c0 a3 eda080", UTF8, 3, {0}},
    {"d9", TRUNCATED, 0, {0}},
    {"d900", OK, 0, {0}},
    {"d901", TRUNCATED, 0, {0}},
    {"d90161", OK, 0, {0}},
    {"da00", TRUNCATED, 0, {0}},
    {"da000161", OK, 0, {0}},
    {"da000261", TRUNCATED, 0, {0}},
    {"db000000", TRUNCATED, 0, {0}},
    {"db0000000161", OK, 0, {0}},
    {"dbffffffff61", TRUNCATED, 0, {0}},
    {"c4", TRUNCATED, 0, {0}},
    {"c400", OK, 0, {0}},
    {"c401ff", OK, 0, {0}},
    {"c402ff", TRUNCATED, 0, {0}},
    {"c50001ff", OK, 0, {0}},
    {"c50002ff", TRUNCATED, 0, {0}},
    {"c600000001ff", OK, 0, {0}},
    {"c6ffffffffff", TRUNCATED, 0, {0}},
    /* ext, in every form, before anything in it is looked at */
    {"c7", TRUNCATED, 0, {0}},
    {"c70001", EXT, 0, {0}},
    {"c8000001", EXT, 0, {0}},
    {"c90000000001", EXT, 0, {0}},
    {"c9ffffffff01", EXT, 0, {0}},
    {"d40100", EXT, 0, {0}},
    {"d5", EXT, 0, {0}},
    {"d6ff00000000", EXT, 0, {0}},
    {"d7", EXT, 0, {0}},
    {"d8", EXT, 0, {0}},
    {"91 d40100", EXT, 1, {0}},
    /* containers whose headers lie */
    {"90", OK, 0, {0}},
    {"91", TRUNCATED, 0, {0}},
    {"91c0", OK, 0, {0}},
    {"9f c0c0c0c0c0c0c0c0c0c0c0c0c0c0", TRUNCATED, 0, {0}},
    {"9f c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0", OK, 0, {0}},
    {"dc00", TRUNCATED, 0, {0}},
    {"dc0000", OK, 0, {0}},
    {"dc0001c0", OK, 0, {0}},
    {"dc0002c0", TRUNCATED, 0, {0}},
    {"dd00000001c0", OK, 0, {0}},
    {"ddffffffff", TRUNCATED, 0, {0}},
    {"ddffffffffc0", TRUNCATED, 0, {0}},
    {"80", OK, 0, {0}},
    {"81", TRUNCATED, 0, {0}},
    {"81a0", TRUNCATED, 0, {0}},
    {"81a0c0", OK, 0, {0}},
    {"de0001a0c0", OK, 0, {0}},
    {"de0002a0c0", TRUNCATED, 0, {0}},
    {"df00000001a0c0", OK, 0, {0}},
    {"df7fffffffa0c0", TRUNCATED, 0, {0}},
    {"dfffffffff", TRUNCATED, 0, {0}},
    /* each header alone would fit, together they promise more than there is */
    {"92 92 92 c0c0", TRUNCATED, 2, {0}},
    {"92 92 92 c0c0 c0c0", OK, 0, {0}},
    {"dd00000003 dd00000003 c0c0c0c0", TRUNCATED, 5, {0}},
    /* keys */
    {"81 01c0", KEY, 1, {0}},
    {"81 c0c0", KEY, 1, {0}},
    {"81 c40161c0", KEY, 1, {0}},
    {"81 90c0", KEY, 1, {0}},
    {"81 c1c0", RESERVED, 1, {0}},
    {"81 d40100c0", EXT, 1, {0}},
    {"81 a1ffc0", UTF8, 2, {0}},
    {"82 a161c0 02c0", KEY, 4, {0}},
    {"82 a16101 a16202", OK, 0, {0}},
    {"82 a16101 a16102", TWICE, 5, {0}},
    {"82 a001 a002", TWICE, 4, {0}},
    {"82 a16101 d9016102", TWICE, 6, {0}},            /* the same key in another form */
    {"82 a161 81a161c0 a162 81a161c0", OK, 0, {0}},   /* the same key in other maps */
    {"82 a161 82a178c0a178c0 a162c0", TWICE, 8, {0}}, /* the inner map's second x */
    {"82 a161 81a162c0 a161c0", TWICE, 8, {0}},
    {"92 81a161c0 81a161c0", OK, 0, {0}},
    /* items */
    {"c0", ITEMS, 0, {.max_items = 0, .max_depth = 1}},
    {"c0", OK, 0, {.max_items = 1, .max_depth = 1}},
    {"91c0", ITEMS, 0, {.max_items = 1, .max_depth = 1}},
    {"91c0", OK, 0, {.max_items = 2, .max_depth = 1}},
    {"82 a161c0 a162c0", ITEMS, 0, {.max_items = 4, .max_depth = 1}},
    {"82 a161c0 a162c0", OK, 0, {.max_items = 5, .max_depth = 1}},
    {"92 91c0 91c0", ITEMS, 3, {.max_items = 4, .max_depth = 2}},
    {"92 91c0 91c0", OK, 0, {.max_items = 5, .max_depth = 2}},
    /* depth: a scalar is 0, a container one more than what it is in */
    {"c0", OK, 0, {.max_items = 9, .max_depth = 0}},
    {"90", DEPTH, 0, {.max_items = 9, .max_depth = 0}},
    {"90", OK, 0, {.max_items = 9, .max_depth = 1}},
    {"91 90", DEPTH, 1, {.max_items = 9, .max_depth = 1}},
    {"91 90", OK, 0, {.max_items = 9, .max_depth = 2}},
    {"81 a0 80", DEPTH, 2, {.max_items = 9, .max_depth = 1}},
    {"92 91c0 91c0", OK, 0, {.max_items = 9, .max_depth = 2}},
};

static void check(const void *data, size_t len, const struct scan_limits *l, const char *what, size_t offset)
{
	struct scan_error e = {.what = "untouched", .offset = 99};
	int r = scan_value(data, len, l, &e);
	if (!what) {
		ck_assert_msg(r == 0, "refused: %s at %zu", e.what, e.offset);
		return;
	}
	ck_assert_msg(r == -EBADMSG, "result %d, expected: %s", r, what);
	ck_assert_str_eq(e.what, what);
	ck_assert_msg(e.offset == offset, "%s at %zu, expected %zu", what, e.offset, offset);
}

START_TEST(table)
{
	struct buf b;
	buf_init(&b, 0);
	unhex(&b, cases[_i].hex);
	bool none = cases[_i].limits.max_items == 0 && cases[_i].limits.max_depth == 0;
	/* an exact allocation, so that a sanitizer sees one byte too many */
	unsigned char *exact = malloc(b.len ? b.len : 1);
	ck_assert_ptr_nonnull(exact);
	if (b.len)
		memcpy(exact, b.data, b.len);
	check(exact, b.len, none ? &wide : &cases[_i].limits, cases[_i].what, cases[_i].offset);
	free(exact);
	buf_done(&b);
}
END_TEST

static void nest(struct buf *b, const char *open_hex, unsigned depth)
{
	buf_reset(b);
	for (unsigned i = 0; i < depth; i++)
		unhex(b, open_hex);
	unhex(b, "c0");
}

START_TEST(depth_limit_is_30_whatever_is_asked)
{
	static const char *const opens[] = {"91", "dc0001", "dd00000001", "81a16b", "de0001a16b"};
	static const size_t steps[] = {1, 3, 5, 3, 5};
	const struct scan_limits more = {.max_items = 1000000, .max_depth = 1000};
	struct buf b;
	buf_init(&b, 0);
	for (size_t i = 0; i < N_OF(opens); i++) {
		nest(&b, opens[i], 29);
		check(b.data, b.len, &wide, OK, 0);
		nest(&b, opens[i], 30);
		check(b.data, b.len, &wide, OK, 0);
		check(b.data, b.len, &more, OK, 0);
		struct mp_value v;
		ck_assert_int_eq(mp_decode(b.data, b.len, &v), 0); /* msgpack-c goes at least as deep */
		mp_value_done(&v);
		nest(&b, opens[i], 31);
		check(b.data, b.len, &wide, DEPTH, 30 * steps[i]);
		check(b.data, b.len, &more, DEPTH, 30 * steps[i]);
		nest(&b, opens[i], 100000);
		check(b.data, b.len, &more, DEPTH, 30 * steps[i]);
	}
	buf_done(&b);
}
END_TEST

START_TEST(item_limit_on_a_large_frame)
{
	struct buf b;
	buf_init(&b, 0);
	mp_array(&b, 4095);
	fill(&b, 0xc0, 4095);
	check(b.data, b.len, &(struct scan_limits){4096, 30}, OK, 0);
	check(b.data, b.len, &(struct scan_limits){4095, 30}, ITEMS, 0);
	buf_done(&b);
}
END_TEST

/* Sizes around the two thresholds of the search for duplicates, and far above. */
static const unsigned map_sizes[] = {2, 15, 16, 17, 18, 255, 256, 257, 513, 5000, 131071};

static size_t write_keys(struct buf *b, unsigned n, unsigned repeat_at, unsigned repeats)
{
	char key[32];
	size_t text_at = 0;
	buf_reset(b);
	mp_map(b, n);
	for (unsigned i = 0; i < n; i++) {
		int len = snprintf(key, sizeof key, "key-%u", (i == repeat_at ? repeats : i) * 7919u);
		mp_strn(b, key, (size_t)len);
		if (i == repeat_at)
			text_at = b->len - (size_t)len;
		mp_nil(b);
	}
	ck_assert_int_eq(b->failed, 0);
	return text_at;
}

START_TEST(duplicates_in_maps_of_every_size)
{
	unsigned n = map_sizes[_i];
	struct buf b;
	buf_init(&b, 0);
	write_keys(&b, n, n, 0);
	check(b.data, b.len, &wide, OK, 0);
	size_t at = write_keys(&b, n, n - 1, 0);
	check(b.data, b.len, &wide, TWICE, at);
	at = write_keys(&b, n, n - 1, n - 2);
	check(b.data, b.len, &wide, TWICE, at);
	at = write_keys(&b, n, n / 2, n / 2 - 1);
	check(b.data, b.len, &wide, TWICE, at);
	buf_done(&b);
}
END_TEST

/* Long common beginnings, keys that differ only in length, and keys that are a beginning of one another. */
START_TEST(keys_that_are_nearly_equal)
{
	for (unsigned n = 10; n <= 1000; n *= 10) {
		struct buf b, key;
		buf_init(&b, 0);
		buf_init(&key, 0);
		mp_map(&b, n + 1);
		for (unsigned i = 0; i < n; i++) {
			mp_strn(&b, key.len ? (char *)key.data : "", key.len);
			mp_nil(&b);
			buf_append_char(&key, 'a');
		}
		size_t before_last = b.len;
		mp_strn(&b, (char *)key.data, key.len);
		mp_nil(&b);
		check(b.data, b.len, &wide, OK, 0);
		b.len = before_last;
		mp_strn(&b, (char *)key.data, key.len - 1);
		mp_nil(&b);
		check(b.data, b.len, &wide, TWICE, b.len - 1 - (key.len - 1));
		buf_done(&b);
		buf_done(&key);
	}
}
END_TEST

/* Eight ASCII bytes that scan.c hashes to one and the same number, made by running its hash backwards from
 * `x`. False if this `x` gives other bytes. (Should the hash change, these are merely many keys.) */
static bool colliding_key(uint64_t x, char key[8])
{
	const uint64_t factor = 0x9E3779B97F4A7C15ULL;
	uint64_t inverse = factor;
	for (int i = 0; i < 5; i++) /* Newton: each round doubles the right bits */
		inverse *= 2 - factor * inverse;
	uint64_t h = (0x12345678ULL << 32 | x) * inverse;
	uint64_t word = ((h ^ h >> 32) * inverse) ^ 8;
	memcpy(key, &word, sizeof word);
	return (word & 0x8080808080808080ULL) == 0;
}

START_TEST(keys_made_to_collide)
{
	struct buf b;
	char key[8], early[8] = {0};
	unsigned n = 0;
	size_t last = 0;
	buf_init(&b, 0);
	mp_map(&b, 5000);
	for (uint64_t x = 0; n < 5000; x++)
		if (colliding_key(x, key)) {
			if (n == 7)
				memcpy(early, key, sizeof early);
			mp_strn(&b, key, sizeof key);
			last = b.len - sizeof key;
			mp_nil(&b);
			n++;
		}
	check(b.data, b.len, &wide, OK, 0);
	memcpy(b.data + last, early, sizeof early);
	check(b.data, b.len, &wide, TWICE, last);
	buf_done(&b);
}
END_TEST

START_TEST(keys_of_closed_maps_are_forgotten)
{
	struct buf b;
	buf_init(&b, 0);
	mp_array(&b, 2000);
	for (unsigned i = 0; i < 2000; i++) {
		mp_map(&b, 2);
		mp_str(&b, "x");
		mp_map(&b, 1);
		mp_str(&b, "x");
		mp_nil(&b);
		mp_str(&b, "y");
		mp_nil(&b);
	}
	allocs_left = 0; /* three keys are open at a time: no allocation */
	check(b.data, b.len, &wide, OK, 0);
	allocs_left = -1;
	buf_done(&b);
}
END_TEST

START_TEST(out_of_memory_is_an_error)
{
	struct buf b;
	struct scan_error e;
	buf_init(&b, 0);
	write_keys(&b, 2000, 2000, 0);
	int allowed = 0;
	for (; allocs_left = allowed, scan_value(b.data, b.len, &wide, &e) < 0; allowed++) {
		ck_assert_int_eq(scan_value(b.data, b.len, &wide, &e), -ENOMEM);
		ck_assert_str_eq(e.what, "out of memory");
	}
	ck_assert_int_gt(allowed, 0);
	ck_assert_int_lt(allowed, 5); /* it grows by doubling */
	allocs_left = -1;
	buf_done(&b);
}
END_TEST

static void write_everything(struct buf *b)
{
	mp_map(b, 4);
	mp_str(b, "scalars");
	mp_array(b, 9);
	mp_nil(b);
	mp_bool(b, true);
	mp_int(b, -1);
	mp_int(b, -1000);
	mp_int(b, INT64_MIN);
	mp_uint(b, UINT64_MAX);
	mp_uint(b, 70000);
	mp_double(b, 0.5);
	mp_int(b, 5);
	mp_str(b, "caf\xc3\xa9");
	mp_str(b, "a string of more than thirty-one bytes \xe2\x82\xac");
	mp_str(b, "bin");
	mp_bin(b, "\x00\xff", 2);
	mp_str(b, "map");
	size_t m = mp_map_open(b);
	mp_str(b, "k");
	size_t a = mp_array_open(b);
	mp_array_close(b, a, 0);
	mp_map_close(b, m, 1);
}

START_TEST(no_beginning_of_a_value_is_a_value)
{
	struct buf b;
	buf_init(&b, 0);
	write_everything(&b);
	check(b.data, b.len, &wide, OK, 0);
	for (size_t n = 0; n < b.len; n++) {
		struct scan_error e;
		unsigned char *exact = malloc(n ? n : 1);
		memcpy(exact, b.data, n);
		ck_assert_int_eq(scan_value(exact, n, &wide, &e), -EBADMSG);
		ck_assert_msg(!strcmp(e.what, TRUNCATED) || !strcmp(e.what, UTF8), "%s after %zu", e.what, n);
		free(exact);
	}
	buf_done(&b);
}
END_TEST

/* Whatever scan_value lets through, msgpack-c takes to the last byte. */
START_TEST(decoder_agrees_on_every_changed_byte)
{
	struct buf b;
	unsigned passed = 0;
	buf_init(&b, 0);
	write_everything(&b);
	for (size_t i = 0; i < b.len; i++) {
		unsigned char was = b.data[i];
		for (unsigned v = 0; v < 256; v++) {
			struct scan_error e;
			struct mp_value val;
			b.data[i] = (unsigned char)v;
			if (scan_value(b.data, b.len, &wide, &e) < 0)
				continue;
			passed++;
			ck_assert_int_eq(mp_decode(b.data, b.len, &val), 0);
			mp_value_done(&val);
		}
		b.data[i] = was;
	}
	ck_assert_uint_gt(passed, b.len);
	buf_done(&b);
}
END_TEST

/* Counted as the limit counts: the exact limit passes, one less does not. */
START_TEST(counts_like_the_limit)
{
	struct buf b;
	struct scan_error e;
	buf_init(&b, 0);
	write_everything(&b);
	size_t n = scan_count(b.data, b.len);
	ck_assert_int_eq(scan_value(b.data, b.len, &(struct scan_limits){n, 30}, &e), 0);
	ck_assert_int_eq(scan_value(b.data, b.len, &(struct scan_limits){n - 1, 30}, &e), -EBADMSG);
	ck_assert_str_eq(e.what, "too many items");
	size_t one = b.len;
	write_everything(&b);
	ck_assert_uint_eq(scan_count(b.data, b.len), 2 * n);
	ck_assert_uint_le(scan_count(b.data, one - 1), n);
	ck_assert_uint_eq(scan_count(b.data, 0), 0);
	buf_done(&b);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("scan");
	TCase *t = tcase_create("scan");
	tcase_set_timeout(t, 30);
	tcase_add_loop_test(t, table, 0, (int)N_OF(cases));
	tcase_add_test(t, depth_limit_is_30_whatever_is_asked);
	tcase_add_test(t, item_limit_on_a_large_frame);
	tcase_add_loop_test(t, duplicates_in_maps_of_every_size, 0, (int)N_OF(map_sizes));
	tcase_add_test(t, keys_that_are_nearly_equal);
	tcase_add_test(t, keys_made_to_collide);
	tcase_add_test(t, keys_of_closed_maps_are_forgotten);
	tcase_add_test(t, out_of_memory_is_an_error);
	tcase_add_test(t, counts_like_the_limit);
	tcase_add_test(t, no_beginning_of_a_value_is_a_value);
	tcase_add_test(t, decoder_agrees_on_every_changed_byte);
	suite_add_tcase(s, t);
	return run_suite(s);
}

/* json_read.c against jansson, a reader of long standing: texts made by changing good ones a little are
 * accepted by both or by neither, and mean the same. */
#include <check.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "protocol/mpjson.h"
#include "protocol/scan.h"

#define ROUNDS 12000u

static const char *const seeds[] = {
    "{\"a\":1,\"b\":[true,false,null],\"c\":{\"d\":-0.5e-3,\"e\":\"x\\n\\u00e9\\ud83d\\ude00\"}}",
    "[0,-0,1,-1,127,128,255,256,65535,65536,9223372036854775807,-9223372036854775808,1.5,2e10,1E-7,"
    "123456789012345.5,0.1]",
    "{\"k0\":0,\"k1\":1,\"k2\":2,\"k3\":3,\"k4\":4,\"k5\":5,\"k6\":6,\"k7\":7,\"k8\":8,\"k9\":9,\"ka\":10,"
    "\"kb\":11,\"kc\":12,"
    "\"kd\":13,\"ke\":14,\"kf\":15,\"kg\":16}",
    "[[],{},[[]],[{}],\"\",\"\\\"\\\\\\/\\b\\f\\n\\r\\t\",\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"]",
    " \t\r\n[ 1 , { \"a\" : \"b\" } ] \n",
};
static const char pieces[] = "{}[]\",:\\u0123456789abcdefDE+-.enltrs \n\x01\x7f\xc3\xa9\xed\xa0\xf0";

static unsigned next_random(unsigned *state)
{
	*state = *state * 1103515245u + 12345u;
	return *state >> 8;
}

static size_t mutated(const char *seed, char *to, unsigned *random)
{
	size_t n = strlen(seed);
	memcpy(to, seed, n);
	for (unsigned k = next_random(random) % 3; k > 0 && n > 1; k--) {
		size_t at = next_random(random) % n;
		char c = pieces[next_random(random) % (sizeof pieces - 1)];
		switch (next_random(random) % 3) {
		case 0:
			to[at] = c;
			break;
		case 1:
			memmove(to + at + 1, to + at, n++ - at);
			to[at] = c;
			break;
		default:
			memmove(to + at, to + at + 1, --n - at);
		}
	}
	return n;
}

static char *written(const struct buf *mp)
{
	struct scan_limits limits = {.max_items = 100000, .max_depth = 30};
	struct scan_error why;
	struct mp_value v;
	struct buf out;
	buf_init(&out, 0);
	ck_assert_int_eq(scan_value(mp->data, mp->len, &limits, &why), 0);
	ck_assert_int_eq(mp_decode(mp->data, mp->len, &v), 0);
	ck_assert_int_eq(mp_to_json(&v.root, "", &out, NULL), 0);
	mp_value_done(&v);
	return buf_take_text(&out);
}

static void assert_same_meaning(json_t *theirs, const struct buf *ours, const char *text)
{
	char *json = written(ours);
	json_t *again = json_loads(json, JSON_DECODE_ANY, NULL);
	ck_assert_msg(again && json_equal(theirs, again), "%s read as %s", text, json);
	json_decref(again);
	free(json);
}

/* What only one of them takes: integers that are too wide for jansson, and its greater depth. */
static int is_known_difference(const json_error_t *je)
{
	return json_error_code(je) == json_error_numeric_overflow;
}

START_TEST(as_jansson_reads)
{
	unsigned random = (unsigned)_i * 7919u + 1, accepted = 0, refused = 0;
	for (unsigned round = 0; round < ROUNDS; round++) {
		char text[512];
		struct buf out;
		json_error_t je;
		size_t n = mutated(seeds[_i], text, &random);
		text[n] = '\0';
		json_t *theirs = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &je);
		if (!theirs && is_known_difference(&je))
			continue;
		buf_init(&out, 0);
		int rc = json_to_mp(text, n, &out, NULL);
		ck_assert_msg((rc == 0) == (theirs != NULL), "%s: %d, jansson says %s", text, rc,
		              theirs ? "fine" : je.text);
		if (rc == 0)
			assert_same_meaning(theirs, &out, text);
		*(rc == 0 ? &accepted : &refused) += 1;
		json_decref(theirs);
		buf_done(&out);
	}
	ck_assert_uint_gt(accepted, ROUNDS / 10);
	ck_assert_uint_gt(refused, ROUNDS / 10);
}
END_TEST

/* The header of a container is widened when its size is known. */
START_TEST(containers_of_every_width)
{
	static const size_t sizes[] = {0, 1, 15, 16, 17, 255, 65535, 65536, 70000};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct buf text, mp, want;
		buf_init(&text, 0);
		buf_init(&mp, 0);
		buf_init(&want, 0);
		mp_array(&want, 2);
		mp_array(&want, sizes[i]);
		buf_append_str(&text, "[[");
		for (size_t k = 0; k < sizes[i]; k++) {
			buf_append_str(&text, k ? ",7" : "7");
			mp_int(&want, 7);
		}
		mp_int(&want, 8);
		buf_append_str(&text, "],8]");
		ck_assert_int_eq(json_to_mp(buf_text(&text), text.len, &mp, NULL), 0);
		ck_assert_uint_eq(mp.len, want.len);
		ck_assert(memcmp(mp.data, want.data, mp.len) == 0);
		buf_done(&text);
		buf_done(&mp);
		buf_done(&want);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("json_read");
	TCase *t = tcase_create("json_read");
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, as_jansson_reads, 0, (int)(sizeof seeds / sizeof *seeds));
	tcase_add_test(t, containers_of_every_width);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}

/* envelope.c: what each kind leaves where, and ids at their edges. (What is refused: see the vectors.) */
#include <errno.h>
#include <string.h>
#include "protocol/envelope.h"
#include "tests/unit/protocol/util.h"

static const struct {
	const char *hex;
	int result;
	struct envelope want; /* pointers: not NULL stands for "set" */
} cases[] = {
    {"94 00 00 a470696e67 80", 0, {.kind = ENV_REQUEST, .id = 0, .method = "ping"}},
    {"94 00 ceffffffff a470696e67 80", 0, {.kind = ENV_REQUEST, .id = UINT32_MAX, .method = "ping"}},
    {"94 00 cf0000000000000007 a470696e67 80", 0, {.kind = ENV_REQUEST, .id = 7, .method = "ping"}},
    {"94 00 cf0000000100000000 a470696e67 80", -EBADMSG, {0}},
    {"94 00 01 a0 80", 0, {.kind = ENV_REQUEST, .id = 1, .method = ""}},
    {"93 02 a168 80", 0, {.kind = ENV_NOTIFICATION, .method = "h"}},
    {"93 cc02 a168 80", 0, {.kind = ENV_NOTIFICATION, .method = "h"}},
    {"93 00 a168 80", -EBADMSG, {0}},
    {"92 02 a168", -EBADMSG, {0}},
    {"95 00 00 a168 80 c0", -EBADMSG, {0}},
    {"94 03 00 a168 80", -EBADMSG, {0}},
};

START_TEST(table)
{
	struct buf b;
	struct mp_value v;
	struct envelope e;
	const char *why = NULL;
	buf_init(&b, 0);
	unhex(&b, cases[_i].hex);
	ck_assert_int_eq(mp_decode(b.data, b.len, &v), 0);
	ck_assert_int_eq(envelope_read(&v.root, &e, &why), cases[_i].result);
	if (cases[_i].result == 0) {
		const struct envelope *want = &cases[_i].want;
		ck_assert_int_eq(e.kind, want->kind);
		ck_assert_uint_eq(e.id, want->id);
		ck_assert_uint_eq(e.method_len, strlen(want->method));
		ck_assert_int_eq(memcmp(e.method, want->method, e.method_len), 0);
		ck_assert_int_eq(e.params->type, MSGPACK_OBJECT_MAP);
		ck_assert(!e.error && !e.result);
	} else {
		ck_assert_ptr_nonnull(why);
	}
	mp_value_done(&v);
	buf_done(&b);
}
END_TEST

START_TEST(outcomes)
{
	struct buf b;
	struct mp_value v;
	struct envelope e;
	const char *why;
	buf_init(&b, 0);
	unhex(&b, "94 01 05 c0 c2"); /* false is a result */
	ck_assert_int_eq(mp_decode(b.data, b.len, &v), 0);
	ck_assert_int_eq(envelope_read(&v.root, &e, &why), 0);
	ck_assert(e.kind == ENV_RESPONSE && e.id == 5 && !e.error && !e.method && !e.params);
	ck_assert_int_eq(e.result->type, MSGPACK_OBJECT_BOOLEAN);
	mp_value_done(&v);
	buf_reset(&b);
	unhex(&b, "94 01 05 80 c0");
	ck_assert_int_eq(mp_decode(b.data, b.len, &v), 0);
	ck_assert_int_eq(envelope_read(&v.root, &e, &why), 0);
	ck_assert(e.error && e.error->type == MSGPACK_OBJECT_MAP && !e.result);
	mp_value_done(&v);
	buf_done(&b);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("envelope");
	TCase *t = tcase_create("envelope");
	tcase_add_loop_test(t, table, 0, (int)N_OF(cases));
	tcase_add_test(t, outcomes);
	suite_add_tcase(s, t);
	return run_suite(s);
}

/* frame.c: the header at every edge, and a stream cut at every byte. */
#include <errno.h>
#include <string.h>
#include "protocol/frame.h"
#include "tests/unit/protocol/util.h"

static const struct {
	const char *hex;
	size_t max;
	int result;
	size_t len;
} peeks[] = {
    {"", 10, 0, 0},
    {"00", 10, 0, 0},
    {"000000", 10, 0, 0},
    {"00000000", 10, -EMSGSIZE, 0},
    {"00000001", 10, 0, 0},
    {"00000001c0", 10, 1, 1},
    {"00000001c0ff", 10, 1, 1},
    {"00000009 000102030405060708", 10, 1, 9},
    {"0000000a 00010203040506070809", 10, 1, 10},
    {"0000000a 000102030405060708", 10, 0, 0},
    {"0000000b", 10, -EMSGSIZE, 0},
    {"0000000b 0001020304050607080910", 10, -EMSGSIZE, 0},
    {"0000ffff", 65536, 0, 0},
    {"00010000", 65536, 0, 0},
    {"00010001", 65536, -EMSGSIZE, 0},
    {"ffffffff", 65536, -EMSGSIZE, 0},
    {"80000000", 0x7fffffff, -EMSGSIZE, 0},
    {"7fffffff", 0x7fffffff, 0, 0},
    {"00000001c0", 0, -EMSGSIZE, 0},
};

START_TEST(peek)
{
	struct buf b;
	size_t off = 77, len = 77;
	buf_init(&b, 0);
	unhex(&b, peeks[_i].hex);
	ck_assert_int_eq(frame_peek(b.data, b.len, peeks[_i].max, &off, &len), peeks[_i].result);
	if (peeks[_i].result == 1) {
		ck_assert_uint_eq(off, FRAME_HEADER);
		ck_assert_uint_eq(len, peeks[_i].len);
	} else {
		ck_assert_uint_eq(off, 77);
	}
	buf_done(&b);
}
END_TEST

START_TEST(written_frames_come_back_at_every_cut)
{
	static const size_t sizes[] = {1, 2, 255, 256, 65535, 65536};
	struct buf out;
	buf_init(&out, 0);
	for (size_t i = 0; i < N_OF(sizes); i++) {
		size_t mark = frame_begin(&out);
		fill(&out, (int)i, sizes[i]);
		frame_end(&out, mark);
	}
	ck_assert_int_eq(out.failed, 0);
	size_t at = 0, off, len;
	for (size_t i = 0; i < N_OF(sizes); i++) {
		size_t whole = FRAME_HEADER + sizes[i];
		for (size_t have = 0; have < whole; have += have < 300 ? 1 : 997)
			ck_assert_int_eq(frame_peek(out.data + at, have, 65536, &off, &len), 0);
		ck_assert_int_eq(frame_peek(out.data + at, out.len - at, 65536, &off, &len), 1);
		ck_assert_uint_eq(len, sizes[i]);
		ck_assert_uint_eq(out.data[at + off], i);
		ck_assert_uint_eq(out.data[at + off + len - 1], i);
		at += off + len;
	}
	ck_assert_uint_eq(at, out.len);
	buf_done(&out);
}
END_TEST

START_TEST(overflow_and_emptiness_stick)
{
	struct buf out;
	buf_init(&out, 5);
	size_t mark = frame_begin(&out);
	fill(&out, 1, 1);
	frame_end(&out, mark);
	ck_assert_int_eq(out.failed, 0);
	assert_hex(&out, "00000001 01", "fits exactly");

	mark = frame_begin(&out);
	ck_assert_int_eq(out.failed, -EMSGSIZE);
	frame_end(&out, mark);
	ck_assert_int_eq(out.failed, -EMSGSIZE);
	ck_assert_uint_eq(out.len, 5);

	buf_reset(&out);
	frame_end(&out, frame_begin(&out));
	ck_assert_int_eq(out.failed, -EMSGSIZE);
	buf_done(&out);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("frame");
	TCase *t = tcase_create("frame");
	tcase_add_loop_test(t, peek, 0, (int)N_OF(peeks));
	tcase_add_test(t, written_frames_come_back_at_every_cut);
	tcase_add_test(t, overflow_and_emptiness_stick);
	suite_add_tcase(s, t);
	return run_suite(s);
}

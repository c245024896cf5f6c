#include "tests/unit/protocol/util.h"

#include <string.h>

static int nibble(char c)
{
	const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c) : NULL;
	return at ? (int)(at - digits) : -1;
}

void unhex(struct buf *b, const char *hex)
{
	while (*hex) {
		if (*hex == ' ') {
			hex++;
			continue;
		}
		int hi = nibble(hex[0]), lo = nibble(hex[1]);
		if (hi < 0 || lo < 0) /* ck_assert writes to a file each time, too slow for every byte */
			ck_abort_msg("not hex: %s", hex);
		buf_append_char(b, (char)(hi << 4 | lo));
		hex += 2;
	}
	ck_assert_int_eq(b->failed, 0);
}

void fill(struct buf *b, int c, size_t n)
{
	void *at = buf_reserve(b, n);
	ck_assert_ptr_nonnull(at);
	memset(at, c, n);
	buf_added(b, n);
}

void assert_hex(const struct buf *b, const char *hex, const char *what)
{
	struct buf want;
	buf_init(&want, 0);
	unhex(&want, hex);
	ck_assert_msg(b->len == want.len, "%s: %zu bytes, expected %zu", what, b->len, want.len);
	for (size_t i = 0; i < want.len; i++)
		if (b->data[i] != want.data[i])
			ck_abort_msg("%s: byte %zu is %02x, expected %02x", what, i, (unsigned)b->data[i],
			             (unsigned)want.data[i]);
	buf_done(&want);
}

int run_suite(Suite *s)
{
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

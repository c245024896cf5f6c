/* The first look at bytes from a peer. msgpack-c believes container headers (five bytes make it reserve 2 GiB), so nothing is unpacked before
 * this walk has shown that every header is covered by bytes that are really there. No allocation, linear time. */
#pragma once
#include <stddef.h>

struct scan_limits {
	size_t max_items;
	unsigned max_depth; /* at most 30: msgpack-c's own parser stops at 32 */
};

struct scan_error {
	const char *what; /* static text: "truncated", "too many items", "nested too deeply", "map key is not a string", "duplicate map key",
			     "ext type", "invalid UTF-8", "NaN", "trailing bytes", "reserved byte" */
	size_t offset;	  /* of the offending byte */
};

/* 0: exactly one well-formed value fills all `len` bytes within the limits; -EBADMSG otherwise, with *ret_err filled. bin, NaN, infinities and U+0000 are NOT refused
 * here (they are values, not syntax; mp_to_json refuses them with a path). Duplicate keys are found without quadratic work on hostile maps. */
int scan_value(const void *data, size_t len, const struct scan_limits *limits, struct scan_error *ret_err);

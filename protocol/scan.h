/* The first look at bytes from a peer. msgpack-c believes container headers (five bytes make it reserve 2
 * GiB), so nothing is unpacked before this walk has shown that every header is covered by bytes that are
 * really there. No recursion; no allocation unless more than 256 map keys are open at once, and then 16 bytes
 * per key that is really there. */
#pragma once
#include <stddef.h>

#define SCAN_MAX_DEPTH 30u /* msgpack-c's own parser stops at 32 */

struct scan_limits {
	size_t max_items;
	unsigned max_depth; /* values above SCAN_MAX_DEPTH count as that */
};

struct scan_error {
	const char *what; /* static text: "truncated", "too many items", "nested too deeply", "map key is not
	                     a string", "duplicate map key", "ext type", "invalid UTF-8", "trailing bytes",
	                     "reserved byte", "out of memory" */
	size_t offset;    /* of the offending byte */
};

/* 0: exactly one well-formed value fills all `len` bytes within the limits; -EBADMSG otherwise, or -ENOMEM,
 * with *ret_err filled. bin, NaN, infinities and U+0000 are NOT refused here (they are values, not syntax;
 * mp_to_json refuses them with a path). The time is linear in `len`, but for the search for duplicate keys,
 * which sorts: n log n for any keys whatever. */
int scan_value(const void *data, size_t len, const struct scan_limits *limits, struct scan_error *ret_err);
/* How many items (as max_items counts them) `len` bytes of one or more well-formed values hold, those inside
 * containers included. Only for bytes that were written here or accepted before; never more than `len`. */
size_t scan_count(const void *data, size_t len);

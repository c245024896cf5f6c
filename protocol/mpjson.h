/* Between MessagePack and JSON text (what PostgreSQL stores). The JSON data model of PROTOCOL.md section 1 is
 * what both can carry. */
#pragma once
#include "protocol/mp.h"

#define MPJSON_MAX_DEPTH 30u /* both ways; a scalar is depth 0, as for frames */

struct mpjson_error {
	char path[128]; /* like "context.items[3].price"; empty for the root, and for JSON text */
	size_t offset;  /* of JSON text: the byte at which reading stopped; 0 for its limits and keys */
	char what[96];  /* "integer outside -2^63..2^63-1", "NaN", "U+0000 in a string", "bin value", ... */
};

/* Append the JSON text of `o` (from bytes that scan_value has accepted: UTF-8 and key uniqueness are not
 * looked at again) to `out`. 0; -EINVAL with *ret_err for a value outside the data model; -EMSGSIZE / -ENOMEM
 * from the buffer. `root_name` (may be NULL) starts the path. After -EINVAL and -EMSGSIZE `out` holds what it did.
 * Doubles are written so that they read back equal (17 significant digits at most), as floats also after jsonb has
 * printed them: large ones with all their places and ".0", only small ones with an exponent. ret_err may be NULL. */
int mp_to_json(const msgpack_object *o, const char *root_name, struct buf *out, struct mpjson_error *ret_err);
/* The same; -EMSGSIZE also if PostgreSQL's jsonb, which writes numbers without an exponent (1e-300 has 301
 * digits) and a space after each comma and colon, would print the value with more than `max` bytes. The text
 * in `out` is never longer than that by more than a byte. */
int mp_to_json_max(const msgpack_object *o, const char *root_name, size_t max, struct buf *out,
                   struct mpjson_error *ret_err);
/* Append the MessagePack of `len` bytes of JSON text to `out`. 0 or -EINVAL (with the reason), -EMSGSIZE,
 * -ENOMEM. Numbers that are integers but outside the range become doubles. Duplicate keys, U+0000, lone
 * surrogates and numbers no double can hold: -EINVAL; then `out` is as it was. ret_err may be NULL. */
int json_to_mp(const char *text, size_t len, struct buf *out, struct mpjson_error *ret_err);

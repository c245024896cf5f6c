/* Between MessagePack and JSON text (what PostgreSQL stores). The JSON data model of PROTOCOL.md section 1 is what both can carry. */
#pragma once
#include "protocol/mp.h"

struct mpjson_error {
	char path[128];	  /* like "context.items[3].price"; empty for the root */
	char what[96];	  /* "integer outside -2^63..2^63-1", "NaN", "U+0000 in a string", "bin value", ... */
};

/* Append the JSON text of `o` to `out`. 0; -EINVAL with *ret_err for a value outside the data model; -EMSGSIZE / -ENOMEM from the buffer.
 * Doubles are written so that they read back equal (17 significant digits at most) and always with '.', 'e' or both. */
int mp_to_json(const msgpack_object *o, const char *root_name, struct buf *out, struct mpjson_error *ret_err);
/* Append the MessagePack of `len` bytes of JSON text to `out`. 0 or -EINVAL (with the reason), -EMSGSIZE, -ENOMEM. Numbers that are integers but outside
 * the range become doubles. Duplicate keys: -EINVAL. */
int json_to_mp(const char *text, size_t len, struct buf *out, struct mpjson_error *ret_err);

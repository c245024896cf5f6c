/* JSON text into a buffer. Strings are given as UTF-8 without U+0000; what is written is always valid JSON.
 */
#pragma once
#include <stdint.h>
#include "protocol/buf.h"

/* A string in quotes, everything below U+0020, '"' and '\' escaped, DEL as well. */
void json_put_str(struct buf *out, const char *text, size_t len);
/* The same for NUL-terminated text; NULL is written as null. */
void json_put_cstr(struct buf *out, const char *text);
/* A finite number in the shortest of 15 to 17 digits that reads back equal, always with '.' or 'e';
 * locale-independent. */
void json_put_double(struct buf *out, double value);
void json_put_int(struct buf *out, int64_t value);

/* Words, numbers and times as people write and read them. Pure functions. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "protocol/buf.h"

/* Columns that `s` takes on a terminal, control characters counted as one. */
size_t text_width(const char *s);
/* Append `s` with control characters made harmless and, if it is wider than `max_cols` (0: no limit), cut
 * with an ellipsis. Returns the columns written. What workers and tasks are called comes from outside:
 * nothing of it may steer the terminal. */
size_t text_put(struct buf *b, const char *s, size_t max_cols);
/* A text of many lines that may have colours: only these and newlines are left as they are. */
void text_put_lines(struct buf *b, const char *s);
/* JSON text, with what could steer a terminal in it as \u escapes: it means the same. */
void text_put_json(struct buf *b, const char *json);
/* The same as text_put into a fixed array. */
void text_copy(char *dst, size_t size, const char *s);

/* "850us", "12ms", "3.25s", "4m05s", "2h13m", "3d04h". Returns `dst`. */
const char *text_duration(int64_t us, char dst[24]);
/* "90", "90s", "1m30s", "500ms", "2h": milliseconds; a bare number means seconds. 0, or -EINVAL, -ERANGE
 * (above ten years). */
int parse_duration(const char *s, int64_t *ret_ms);
/* An RFC 3339 time to microseconds since 1970. 0 or -EINVAL. */
int parse_time(const char *s, int64_t *ret_us);
int parse_int(const char *s, int64_t min, int64_t max, int64_t *ret);

struct template_ref {
	char space[64], name[256], version[128]; /* version empty: the newest */
};
/* "NS/NAME@VERSION", "NS/NAME", "NAME". 0, or -EINVAL. */
int parse_template_ref(const char *s, struct template_ref *ret);
bool is_uuid(const char *s);

/* Query parameters in PostgreSQL's binary form: one-dimensional arrays built element by element, so that neither side
 * parses or escapes text. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "daemon/base/clock.h"
#include "daemon/core/uuid.h"
#include "protocol/buf.h"

enum pg_type { /* element OIDs, fixed by PostgreSQL's catalog */
	PG_BOOL = 16,
	PG_INT8 = 20,
	PG_INT4 = 23,
	PG_TEXT = 25,
	PG_FLOAT4 = 700,
	PG_TIMESTAMPTZ = 1184,
	PG_UUID = 2950,
	PG_JSONB = 3802,
};

struct pgarray {
	struct buf b;
	uint32_t n;
};

void pgarray_init(struct pgarray *a, enum pg_type elem);
void pgarray_done(struct pgarray *a);
/* Forget the elements, keep memory and type. */
void pgarray_reset(struct pgarray *a);
void pgarray_null(struct pgarray *a);
void pgarray_bool(struct pgarray *a, bool v);
void pgarray_int4(struct pgarray *a, int32_t v);
void pgarray_int8(struct pgarray *a, int64_t v);
void pgarray_float4(struct pgarray *a, float v);
void pgarray_text(struct pgarray *a, const char *s, size_t n);
/* JSON text; NULL makes an SQL NULL. */
void pgarray_jsonb(struct pgarray *a, const char *s, size_t n);
void pgarray_uuid(struct pgarray *a, const struct uuid *u);
/* Microseconds since 1970 as PostgreSQL counts them. */
int64_t pg_time(usec_t wall);
/* Microseconds since 1970. */
void pgarray_time(struct pgarray *a, usec_t wall);
/* Patch the header; the bytes are then a->b.data, a->b.len. */
void pgarray_finish(struct pgarray *a);

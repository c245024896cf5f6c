/* Binary array: int32 dimensions, int32 has-nulls, int32 element OID, int32 size, int32 lower bound, then int32 length
 * and bytes for each element (-1 for NULL). All big endian. */
#include "daemon/store/pgarray.h"

#include <endian.h>
#include <string.h>

#define HEADER 20u
/* Seconds between 1970-01-01 and PostgreSQL's epoch 2000-01-01. */
#define PG_EPOCH_OFFSET 946684800LL

static void put32(struct buf *b, uint32_t v)
{
	uint32_t be = htobe32(v);
	buf_append(b, &be, sizeof be);
}

static void put64(struct buf *b, uint64_t v)
{
	uint64_t be = htobe64(v);
	buf_append(b, &be, sizeof be);
}

void pgarray_init(struct pgarray *a, enum pg_type elem)
{
	buf_init(&a->b, 0);
	a->n = 0;
	put32(&a->b, 1);
	put32(&a->b, 1); /* "may have nulls" is always allowed */
	put32(&a->b, (uint32_t)elem);
	put32(&a->b, 0);
	put32(&a->b, 1);
}

void pgarray_done(struct pgarray *a)
{
	buf_done(&a->b);
}

void pgarray_reset(struct pgarray *a)
{
	if (a->b.len > HEADER)
		a->b.len = HEADER;
	a->n = 0;
}

static void begin(struct pgarray *a, uint32_t len)
{
	a->n++;
	put32(&a->b, len);
}

void pgarray_null(struct pgarray *a)
{
	begin(a, UINT32_MAX);
}

void pgarray_bool(struct pgarray *a, bool v)
{
	begin(a, 1);
	buf_append_char(&a->b, v ? 1 : 0);
}

void pgarray_int4(struct pgarray *a, int32_t v)
{
	begin(a, 4);
	put32(&a->b, (uint32_t)v);
}

void pgarray_int8(struct pgarray *a, int64_t v)
{
	begin(a, 8);
	put64(&a->b, (uint64_t)v);
}

void pgarray_float4(struct pgarray *a, float v)
{
	uint32_t bits;
	memcpy(&bits, &v, sizeof bits);
	begin(a, 4);
	put32(&a->b, bits);
}

void pgarray_text(struct pgarray *a, const char *s, size_t n)
{
	if (!s) {
		pgarray_null(a);
		return;
	}
	begin(a, (uint32_t)n);
	buf_append(&a->b, s, n);
}

void pgarray_jsonb(struct pgarray *a, const char *s, size_t n)
{
	if (!s) {
		pgarray_null(a);
		return;
	}
	begin(a, (uint32_t)n + 1);
	buf_append_char(&a->b, 1); /* version of jsonb's binary form */
	buf_append(&a->b, s, n);
}

void pgarray_uuid(struct pgarray *a, const struct uuid *u)
{
	begin(a, 16);
	buf_append(&a->b, u->b, 16);
}

int64_t pg_time(usec_t wall)
{
	return (int64_t)wall - PG_EPOCH_OFFSET * (int64_t)USEC_PER_SEC;
}

void pgarray_time(struct pgarray *a, usec_t wall)
{
	pgarray_int8(a, pg_time(wall));
}

void pgarray_finish(struct pgarray *a)
{
	if (a->b.failed)
		return;
	uint32_t n = htobe32(a->n);
	memcpy(a->b.data + 12, &n, sizeof n);
}

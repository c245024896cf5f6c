/* MessagePack in the words of the protocol. Writers put msgpack-c's packer on a struct buf, whose sticky
 * error stands for every failure; readers look into objects that msgpack-c made of bytes which scan_value has
 * accepted before (it believes container headers, so it must never see others). No state; a value belongs to
 * one thread at a time. */
#include "protocol/mp.h"

#include <errno.h>
#include <math.h>
#include <string.h>

static int write_to_buf(void *data, const char *p, size_t n)
{
	struct buf *b = data;
	buf_append(b, p, n);
	return b->failed ? -1 : 0;
}

static msgpack_packer packer(struct buf *b)
{
	return (msgpack_packer){.data = b, .callback = write_to_buf};
}

/* MessagePack counts in 32 bits. */
static bool too_long(struct buf *b, size_t n)
{
	if (n <= UINT32_MAX)
		return false;
	if (!b->failed)
		b->failed = -EMSGSIZE;
	return true;
}

void mp_nil(struct buf *b)
{
	msgpack_packer pk = packer(b);
	msgpack_pack_nil(&pk);
}

void mp_bool(struct buf *b, bool v)
{
	msgpack_packer pk = packer(b);
	if (v)
		msgpack_pack_true(&pk);
	else
		msgpack_pack_false(&pk);
}

void mp_int(struct buf *b, int64_t v)
{
	msgpack_packer pk = packer(b);
	msgpack_pack_int64(&pk, v);
}

void mp_uint(struct buf *b, uint64_t v)
{
	msgpack_packer pk = packer(b);
	msgpack_pack_uint64(&pk, v);
}

void mp_double(struct buf *b, double v)
{
	msgpack_packer pk = packer(b);
	msgpack_pack_double(&pk, v);
}

void mp_str(struct buf *b, const char *s)
{
	if (s)
		mp_strn(b, s, strlen(s));
	else
		mp_nil(b);
}

void mp_strn(struct buf *b, const char *s, size_t n)
{
	if (too_long(b, n))
		return;
	msgpack_packer pk = packer(b);
	msgpack_pack_str(&pk, n);
	buf_append(b, s, n);
}

void mp_bin(struct buf *b, const void *p, size_t n)
{
	if (too_long(b, n))
		return;
	msgpack_packer pk = packer(b);
	msgpack_pack_bin(&pk, n);
	buf_append(b, p, n);
}

void mp_array(struct buf *b, size_t n)
{
	if (too_long(b, n))
		return;
	msgpack_packer pk = packer(b);
	msgpack_pack_array(&pk, n);
}

void mp_map(struct buf *b, size_t n)
{
	if (too_long(b, n))
		return;
	msgpack_packer pk = packer(b);
	msgpack_pack_map(&pk, n);
}

void mp_object(struct buf *b, const msgpack_object *o)
{
	msgpack_packer pk = packer(b);
	msgpack_pack_object(&pk, *o);
}

void mp_raw(struct buf *b, const void *p, size_t n)
{
	buf_append(b, p, n);
}

static size_t open_container(struct buf *b, unsigned char tag)
{
	const unsigned char head[5] = {tag};
	size_t mark = b->len;
	buf_append(b, head, sizeof head);
	return mark;
}

static void close_container(struct buf *b, size_t mark, size_t n)
{
	if (too_long(b, n) || b->failed)
		return;
	for (unsigned i = 0; i < 4; i++)
		b->data[mark + 1 + i] = (unsigned char)(n >> (24 - 8 * i));
}

size_t mp_map_open(struct buf *b)
{
	return open_container(b, 0xdf);
}

void mp_map_close(struct buf *b, size_t mark, size_t n)
{
	close_container(b, mark, n);
}

size_t mp_array_open(struct buf *b)
{
	return open_container(b, 0xdd);
}

void mp_array_close(struct buf *b, size_t mark, size_t n)
{
	close_container(b, mark, n);
}

int mp_decode(const void *data, size_t len, struct mp_value *ret)
{
	msgpack_unpacked u;
	size_t off = 0;
	*ret = (struct mp_value){0};
	msgpack_unpacked_init(&u);
	msgpack_unpack_return r = msgpack_unpack_next(&u, data, len, &off);
	if (r == MSGPACK_UNPACK_SUCCESS && off == len) {
		*ret = (struct mp_value){.zone = u.zone, .root = u.data};
		return 0;
	}
	msgpack_unpacked_destroy(&u);
	return r == MSGPACK_UNPACK_NOMEM_ERROR ? -ENOMEM : -EBADMSG;
}

void mp_value_done(struct mp_value *v)
{
	if (v->zone)
		msgpack_zone_free(v->zone);
	*v = (struct mp_value){0};
}

bool mp_str_eq(const msgpack_object *o, const char *s)
{
	size_t n = strlen(s);
	return o && o->type == MSGPACK_OBJECT_STR && o->via.str.size == n &&
	       (n == 0 || memcmp(o->via.str.ptr, s, n) == 0);
}

const msgpack_object *mp_get(const msgpack_object *map, const char *key)
{
	if (!map || map->type != MSGPACK_OBJECT_MAP)
		return NULL;
	const msgpack_object_kv *kv = map->via.map.ptr;
	for (uint32_t i = 0; i < map->via.map.size; i++, kv++)
		if (mp_str_eq(&kv->key, key))
			return kv->val.type == MSGPACK_OBJECT_NIL ? NULL : &kv->val;
	return NULL;
}

/* As the getters below: 1 with *ret set if the field is there and of `type`, 0 if not there, -EINVAL for
 * another type. */
static int get_typed(const msgpack_object *map, const char *key, msgpack_object_type type,
                     const msgpack_object **ret)
{
	const msgpack_object *o = mp_get(map, key);
	if (!o)
		return 0;
	if (o->type != type)
		return -EINVAL;
	*ret = o;
	return 1;
}

int mp_get_str(const msgpack_object *map, const char *key, const char **ret, size_t *ret_len)
{
	const msgpack_object *o;
	int r = get_typed(map, key, MSGPACK_OBJECT_STR, &o);
	if (r <= 0)
		return r;
	*ret = o->via.str.size > 0 ? o->via.str.ptr : ""; /* msgpack-c has NULL there */
	*ret_len = o->via.str.size;
	return 1;
}

int mp_get_bin(const msgpack_object *map, const char *key, const void **ret, size_t *ret_len)
{
	const msgpack_object *o;
	int r = get_typed(map, key, MSGPACK_OBJECT_BIN, &o);
	if (r <= 0)
		return r;
	*ret = o->via.bin.size > 0 ? o->via.bin.ptr : "";
	*ret_len = o->via.bin.size;
	return 1;
}

int mp_get_int(const msgpack_object *map, const char *key, int64_t min, int64_t max, int64_t *ret)
{
	const msgpack_object *o = mp_get(map, key);
	int64_t v;
	if (!o)
		return 0;
	if (o->type == MSGPACK_OBJECT_POSITIVE_INTEGER && o->via.u64 <= INT64_MAX)
		v = (int64_t)o->via.u64;
	else if (o->type == MSGPACK_OBJECT_NEGATIVE_INTEGER)
		v = o->via.i64;
	else
		return -EINVAL;
	if (v < min || v > max)
		return -EINVAL;
	*ret = v;
	return 1;
}

int mp_get_bool(const msgpack_object *map, const char *key, bool *ret)
{
	const msgpack_object *o;
	int r = get_typed(map, key, MSGPACK_OBJECT_BOOLEAN, &o);
	if (r > 0)
		*ret = o->via.boolean;
	return r;
}

static bool as_double(const msgpack_object *o, double *ret)
{
	if (o->type == MSGPACK_OBJECT_FLOAT64 || o->type == MSGPACK_OBJECT_FLOAT32)
		*ret = o->via.f64;
	else if (o->type == MSGPACK_OBJECT_POSITIVE_INTEGER)
		*ret = (double)o->via.u64;
	else if (o->type == MSGPACK_OBJECT_NEGATIVE_INTEGER)
		*ret = (double)o->via.i64;
	else
		return false;
	return true;
}

int mp_get_double(const msgpack_object *map, const char *key, double *ret)
{
	const msgpack_object *o = mp_get(map, key);
	double v;
	if (!o)
		return 0;
	if (!as_double(o, &v) || !isfinite(v))
		return -EINVAL;
	*ret = v;
	return 1;
}

int mp_get_map(const msgpack_object *map, const char *key, const msgpack_object **ret)
{
	return get_typed(map, key, MSGPACK_OBJECT_MAP, ret);
}

int mp_get_array(const msgpack_object *map, const char *key, const msgpack_object **ret)
{
	return get_typed(map, key, MSGPACK_OBJECT_ARRAY, ret);
}

char *mp_str_copy(const char *p, size_t n)
{
	char *copy = malloc(n + 1);
	if (!copy)
		return NULL;
	if (n > 0)
		memcpy(copy, p, n);
	copy[n] = '\0';
	return copy;
}

/* Reading what the daemon sent. A tasker_value is a msgpack-c object under a name that callers need no
 * msgpack-c for. */
#include "clients/c/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "protocol/mpjson.h"
#include "protocol/utf8.h"

const tasker_value *tasker_get(const tasker_value *map, const char *key)
{
	const msgpack_object *o = as_object(map);
	if (!o || o->type != MSGPACK_OBJECT_MAP)
		return NULL;
	return as_value(mp_get(o, key));
}

enum tasker_type tasker_type(const tasker_value *v)
{
	static const enum tasker_type types[] = {
	    [MSGPACK_OBJECT_NIL] = TASKER_NIL,
	    [MSGPACK_OBJECT_BOOLEAN] = TASKER_BOOL,
	    [MSGPACK_OBJECT_POSITIVE_INTEGER] = TASKER_INT,
	    [MSGPACK_OBJECT_NEGATIVE_INTEGER] = TASKER_INT,
	    [MSGPACK_OBJECT_FLOAT64] = TASKER_DOUBLE,
	    [MSGPACK_OBJECT_FLOAT32] = TASKER_DOUBLE,
	    [MSGPACK_OBJECT_STR] = TASKER_STRING,
	    [MSGPACK_OBJECT_ARRAY] = TASKER_ARRAY,
	    [MSGPACK_OBJECT_MAP] = TASKER_MAP,
	    [MSGPACK_OBJECT_BIN] = TASKER_BYTES,
	};
	const msgpack_object *o = as_object(v);
	return o && (size_t)o->type < sizeof types / sizeof *types ? types[o->type] : TASKER_NIL;
}

const char *tasker_key(const tasker_value *map, size_t i, size_t *ret_len, const tasker_value **ret_value)
{
	const msgpack_object *o = as_object(map);
	*ret_len = 0;
	if (!o || o->type != MSGPACK_OBJECT_MAP || i >= o->via.map.size)
		return NULL;
	const msgpack_object_kv *kv = &o->via.map.ptr[i];
	if (ret_value)
		*ret_value = as_value(&kv->val);
	return tasker_text(as_value(&kv->key), ret_len);
}

size_t tasker_count(const tasker_value *v)
{
	const msgpack_object *o = as_object(v);
	if (o && o->type == MSGPACK_OBJECT_ARRAY)
		return o->via.array.size;
	if (o && o->type == MSGPACK_OBJECT_MAP)
		return o->via.map.size;
	return 0;
}

const tasker_value *tasker_item(const tasker_value *array, size_t i)
{
	const msgpack_object *o = as_object(array);
	if (!o || o->type != MSGPACK_OBJECT_ARRAY || i >= o->via.array.size)
		return NULL;
	return as_value(&o->via.array.ptr[i]);
}

const char *tasker_text(const tasker_value *v, size_t *ret_len)
{
	const msgpack_object *o = as_object(v);
	bool is_text = o && o->type == MSGPACK_OBJECT_STR;
	*ret_len = is_text ? o->via.str.size : 0;
	return is_text ? o->via.str.ptr : NULL;
}

size_t tasker_copy(const tasker_value *v, char *dst, size_t size)
{
	size_t n;
	const char *s = tasker_text(v, &n);
	if (size > 0) {
		size_t fits = n < size ? n : size - 1;
		if (s)
			memcpy(dst, s, fits);
		dst[fits] = '\0';
	}
	return n;
}

int64_t tasker_int(const tasker_value *v, int64_t otherwise)
{
	const msgpack_object *o = as_object(v);
	if (o && o->type == MSGPACK_OBJECT_NEGATIVE_INTEGER)
		return o->via.i64;
	if (o && o->type == MSGPACK_OBJECT_POSITIVE_INTEGER && o->via.u64 <= INT64_MAX)
		return (int64_t)o->via.u64;
	return otherwise;
}

double tasker_double(const tasker_value *v, double otherwise)
{
	const msgpack_object *o = as_object(v);
	if (o && (o->type == MSGPACK_OBJECT_FLOAT32 || o->type == MSGPACK_OBJECT_FLOAT64))
		return o->via.f64;
	if (o && o->type == MSGPACK_OBJECT_POSITIVE_INTEGER)
		return (double)o->via.u64;
	if (o && o->type == MSGPACK_OBJECT_NEGATIVE_INTEGER)
		return (double)o->via.i64;
	return otherwise;
}

bool tasker_bool(const tasker_value *v, bool otherwise)
{
	const msgpack_object *o = as_object(v);
	return o && o->type == MSGPACK_OBJECT_BOOLEAN ? o->via.boolean : otherwise;
}

char *tasker_json(const tasker_value *v)
{
	static const msgpack_object nil = {.type = MSGPACK_OBJECT_NIL};
	struct buf b;
	struct mpjson_error why;
	buf_init(&b, 0);
	if (mp_to_json(v ? as_object(v) : &nil, "", &b, &why) < 0) {
		buf_done(&b);
		return NULL;
	}
	char *text = buf_take_text(&b);
	buf_done(&b);
	return text;
}

int json_params_(const char *json, struct buf *out, struct tasker_error *err)
{
	if (!json) {
		mp_map(out, 0);
		return 0;
	}
	struct mpjson_error why;
	int rc = json_to_mp(json, strlen(json), out, &why);
	if (rc == -EINVAL) {
		/* What stands before it says where it is. */
		size_t at = why.offset, from = at > 24 ? at - 24 : 0;
		int n = (int)utf8_span(json + from, at - from);
		tasker_fail_(err, rc, "invalid_value",
		             at ? "not JSON that can be sent: %s, behind '%.*s'"
		                : "not JSON that can be sent: %s",
		             why.what, n, json + from);
		if (err)
			memcpy(err->path, why.path, sizeof err->path);
		return rc;
	}
	if (rc < 0)
		return tasker_fail_(err, rc, rc == -ENOMEM ? "out_of_memory" : "too_large",
		                    "the value is too large to send");
	return 0;
}

/* Writing and reading MessagePack: thin words over msgpack-c, so that the rest of the tree reads like the
 * protocol. */
#pragma once
#include <msgpack.h>
#include <stdbool.h>
#include <stdint.h>
#include "protocol/buf.h"

/* Writers append to `b`; on overflow its sticky error is set. */
void mp_nil(struct buf *b);
void mp_bool(struct buf *b, bool v);
void mp_int(struct buf *b, int64_t v);
void mp_uint(struct buf *b, uint64_t v);
void mp_double(struct buf *b, double v);
void mp_str(struct buf *b, const char *s); /* NULL writes nil */
void mp_strn(struct buf *b, const char *s, size_t n);
void mp_bin(struct buf *b, const void *p, size_t n);
void mp_array(struct buf *b, size_t n);
void mp_map(struct buf *b, size_t n);
/* Append a decoded value. */
void mp_object(struct buf *b, const msgpack_object *o);
/* Append a value that is already MessagePack. */
void mp_raw(struct buf *b, const void *p, size_t n);

/* A map whose size is not known beforehand: mp_map_open reserves a map32 header, mp_map_close patches the
 * count. Likewise arrays. Nothing may be removed from the front of `b` in between. */
size_t mp_map_open(struct buf *b);
void mp_map_close(struct buf *b, size_t mark, size_t n);
size_t mp_array_open(struct buf *b);
void mp_array_close(struct buf *b, size_t mark, size_t n);

/* A decoded value: owns its memory, strings point into the caller's bytes. */
struct mp_value {
	msgpack_zone *zone;
	msgpack_object root;
};
/* Decode exactly one value that scan_value has accepted. 0, or -ENOMEM / -EBADMSG. */
int mp_decode(const void *data, size_t len, struct mp_value *ret);
void mp_value_done(struct mp_value *v);

/* Readers. A field that is absent or nil reads as NULL / not found. */
const msgpack_object *mp_get(const msgpack_object *map, const char *key);
/* 1: found, 0: absent or nil, -EINVAL: wrong type or out of range. Strings are (ptr, len) into the frame.
 * *ret is set only with 1, and is never NULL then. */
int mp_get_str(const msgpack_object *map, const char *key, const char **ret, size_t *ret_len);
/* A copy of a string as messages hold it, NUL-terminated; NULL: no memory. For the caller to free. */
char *mp_str_copy(const char *p, size_t n);
int mp_get_bin(const msgpack_object *map, const char *key, const void **ret, size_t *ret_len);
int mp_get_int(const msgpack_object *map, const char *key, int64_t min, int64_t max, int64_t *ret);
int mp_get_bool(const msgpack_object *map, const char *key, bool *ret);
int mp_get_double(const msgpack_object *map, const char *key,
                  double *ret); /* finite; integers are accepted */
int mp_get_map(const msgpack_object *map, const char *key, const msgpack_object **ret);
int mp_get_array(const msgpack_object *map, const char *key, const msgpack_object **ret);
bool mp_str_eq(const msgpack_object *o, const char *s);

/* Takes the array around every message apart. Stateless, any thread; what it returns lives as long as the
 * decoded value. */
#include "protocol/envelope.h"

#include <errno.h>

static int refuse(const char **ret_why, const char *why)
{
	*ret_why = why;
	return -EBADMSG;
}

static int read_id(const msgpack_object *o, struct envelope *e, const char **ret_why)
{
	if (o->type != MSGPACK_OBJECT_POSITIVE_INTEGER || o->via.u64 > UINT32_MAX)
		return refuse(ret_why, "id is not an unsigned 32-bit integer");
	e->id = (uint32_t)o->via.u64;
	return 0;
}

/* `o` points at the method, the params follow it. */
static int read_call(const msgpack_object *o, struct envelope *e, const char **ret_why)
{
	if (o[0].type != MSGPACK_OBJECT_STR)
		return refuse(ret_why, "method is not a string");
	if (o[1].type != MSGPACK_OBJECT_MAP)
		return refuse(ret_why, "params are not a map");
	e->method = o[0].via.str.size > 0 ? o[0].via.str.ptr : ""; /* msgpack-c has NULL there */
	e->method_len = o[0].via.str.size;
	e->params = &o[1];
	return 0;
}

/* `o` points at the error, the result follows it. */
static int read_outcome(const msgpack_object *o, struct envelope *e, const char **ret_why)
{
	e->error = o[0].type == MSGPACK_OBJECT_NIL ? NULL : &o[0];
	e->result = o[1].type == MSGPACK_OBJECT_NIL ? NULL : &o[1];
	if (!e->error == !e->result)
		return refuse(ret_why, "exactly one of error and result must be nil");
	if (e->error && e->error->type != MSGPACK_OBJECT_MAP)
		return refuse(ret_why, "error is not a map");
	return 0;
}

int envelope_read(const msgpack_object *root, struct envelope *ret, const char **ret_why)
{
	*ret = (struct envelope){0};
	if (root->type != MSGPACK_OBJECT_ARRAY || root->via.array.size < 3 || root->via.array.size > 4)
		return refuse(ret_why, "not an array of 3 or 4");
	const msgpack_object *o = root->via.array.ptr;
	if (o->type != MSGPACK_OBJECT_POSITIVE_INTEGER || o->via.u64 > ENV_NOTIFICATION)
		return refuse(ret_why, "unknown kind of envelope");
	ret->kind = (enum msg_envelope)o->via.u64;
	if (root->via.array.size != (ret->kind == ENV_NOTIFICATION ? 3 : 4))
		return refuse(ret_why, "wrong number of elements");
	if (ret->kind == ENV_NOTIFICATION)
		return read_call(o + 1, ret, ret_why);
	int r = read_id(o + 1, ret, ret_why);
	if (r < 0)
		return r;
	return ret->kind == ENV_REQUEST ? read_call(o + 2, ret, ret_why) : read_outcome(o + 2, ret, ret_why);
}

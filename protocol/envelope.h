/* The three envelopes of PROTOCOL.md section 2, read from a decoded frame. */
#pragma once
#include "protocol/mp.h"
#include "protocol/msg.h"

/* Everything points into the decoded value. What a kind does not have is NULL or 0. */
struct envelope {
	enum msg_envelope kind;
	uint32_t id;        /* requests and responses */
	const char *method; /* requests and notifications; not NUL-terminated */
	size_t method_len;
	const msgpack_object *params; /* requests and notifications: a map */
	const msgpack_object *error;  /* responses: a map, or NULL */
	const msgpack_object *result; /* responses: not nil, or NULL; exactly one of the two is not NULL */
};

/* 0, or -EBADMSG with *ret_why (static text) for anything that is not exactly one of the three. Whether a
 * method exists, and may travel in this direction now, is not looked at: see msg_find. */
int envelope_read(const msgpack_object *root, struct envelope *ret, const char **ret_why);

/* Messages: from bytes to the functions that answer them. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "daemon/base/err.h"
#include "protocol/mp.h"
#include "protocol/msg.h"

struct session;

/* The function of a message. The params fit their table (params.h), and the peer may send it. */
typedef void msg_fn(struct session *s, uint32_t id, const msgpack_object *params);

/* A whole frame, without its length. The session may be closed by it. */
void message_received(struct session *s, const unsigned char *data, size_t len);
/* A message with params that nobody has looked at yet. */
void message_call(struct session *s, enum msg_id m, bool request, uint32_t id, const msgpack_object *params);
/* A message whose params have been checked and that its peer may send. */
void message_run(struct session *s, enum msg_id m, uint32_t id, const msgpack_object *params);
/* The params of task.create, as an item of a bulk. 0 or -EINVAL with *e. */
int check_create_params(const msgpack_object *params, const char *prefix, struct err *e) must_check;

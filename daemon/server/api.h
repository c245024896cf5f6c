/* Requests that are one SQL function: the params as JSON in, the answer out. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "daemon/store/request.h"
#include "protocol/buf.h"
#include "protocol/mp.h"
#include "protocol/msg.h"

struct server;
struct session;

/* Answers of some functions do not go straight to a client: those are told apart by the very pointers API_..., which
 * the files declare that deal with them. */

/* Ask what the message means of the database. It is answered by api_answered, or at once if it cannot be asked. */
void api_submit(struct session *s, uint32_t id, enum msg_id m, const msgpack_object *params);
void api_answered(struct server *srv, struct req *r);
/* Answer with a value that is MessagePack already. False: it does not fit into a frame, which is what was answered. */
bool reply_answer(struct session *s, uint32_t id, const struct buf *answer);
/* Answer with the task object in r->answer. False: it does not fit into a frame, which is what was answered. */
bool reply_task(struct session *s, struct req *r);
/* Set r->api.args to the MessagePack map in `b` as JSON, with "node" added. 0 or negative. */
int api_args_from_mp(struct req *r, const struct buf *b, struct server *srv) must_check;

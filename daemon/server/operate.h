/* What people do by hand. */
#pragma once
#include "daemon/base/err.h"
#include "protocol/buf.h"
#include "protocol/mp.h"

struct server;
struct session;

/* The parameters of an action as JSON, with who asks for it. 0 or negative with *e. */
int operate_args(struct session *s, const msgpack_object *params, struct buf *out, struct err *e) must_check;
/* Only that, as a member of a map: "by":{...}. */
int operate_put_by(const struct session *s, struct buf *out, struct err *e) must_check;
/* An action has been done: whoever watches its task looks again. */
void operated(struct server *srv, const struct buf *answer);

/* Requests of clients on their way to the store. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "daemon/base/err.h"
#include "daemon/store/request.h"
#include "protocol/buf.h"
#include "protocol/mp.h"

struct server;
struct session;

/* What keeps a client's request from being taken on now, as an error. */
int may_submit(struct server *srv, enum req_kind kind, struct err *e) must_check;
/* A request to the store on behalf of a client's. NULL: it cannot be taken on now (no database, too many waiting, no
 * memory), and has been answered so. */
struct req *req_for(struct session *s, uint32_t id, enum req_kind kind);
/* Send a call (not a create, which is bounded by bytes) to the store, counted for the session until it is answered.
 * Takes r. */
void submit_call(struct session *s, struct req *r);

/* Append a peer's value as JSON: at most `max` bytes (0: what `out` may hold) as jsonb prints them, and VALUE_DEPTH_MAX
 * deep. 0 or negative with *e, code and path; -EMSGSIZE: the caller may name the limit in e->limit. */
int value_to_json(const msgpack_object *o, const char *name, size_t max, struct buf *out, struct err *e) must_check;

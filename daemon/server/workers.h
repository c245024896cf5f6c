/* Workers of this node, and sending them home. */
#pragma once
#include <stddef.h>
#include "daemon/store/request.h"
#include "protocol/buf.h"
#include "protocol/mp.h"

struct server;
struct session;

extern const char API_WORKER_DRAIN[];

/* The session of the worker that a map names by its `worker_uuid`. NULL: it is not connected here. */
struct session *worker_of(struct server *srv, const msgpack_object *w);
void worker_drain_answered(struct server *srv, const struct buf *answer);
/* By their uuids, from whichever node the order came. */
void workers_drain(struct server *srv, struct done *d);

/* Workers of this node, and sending them home. */
#pragma once
#include <stddef.h>
#include "daemon/store/request.h"
#include "protocol/buf.h"
#include "protocol/mp.h"

struct server;
struct session;

extern const char API_WORKER_DRAIN[];

/* The session of a worker, by its uuid as text; by the `worker_uuid` of a map. NULL: it is not connected here. */
struct session *worker_find(struct server *srv, const char *text, size_t n);
struct session *worker_of(struct server *srv, const msgpack_object *w);
/* The worker is to finish what it runs, and to end. */
void worker_drain(struct session *s);
void worker_drain_answered(struct server *srv, const struct buf *answer);
/* By their uuids, from whichever node the order came. */
void workers_drain(struct server *srv, struct done *d);

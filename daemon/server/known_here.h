/* What only this process knows, added to what the database answers. */
#pragma once
#include <stdint.h>
#include "protocol/buf.h"
#include "protocol/mp.h"

struct server;

/* Writes an answer of the database anew, with what only this process knows. */
typedef void transform_fn(struct server *srv, const msgpack_object *answer, struct buf *out);

struct handler;

transform_fn add_worker_load, add_worker_steps, add_queue_workers, add_missing_handlers;

/* Write `map` with more pairs to come after its own. */
void copy_map(struct buf *out, const msgpack_object *map, uint32_t more);
/* What other nodes may know of the handlers here, as JSON: {"ID": [workers, results, a second]}. */
void handlers_load(struct server *srv, char *out, size_t size);
/* The same of the workers: {"UUID": [open steps, results, a second]}, of some 400. */
void workers_load(struct server *srv, char *out, size_t size);

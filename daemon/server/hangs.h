/* Calls that the database does not answer while it answers others. */
#pragma once
#include "daemon/server/known_here.h"
#include "protocol/buf.h"

struct server;

void hangs_tick(struct server *srv);
/* "hanging": [{thread, call, ms, backend}], "oldest_call": {call, ms} */
void hangs_write(const struct server *srv, struct buf *out);
transform_fn hangs_add_check; /* to the answer of doctor */

/* Which trace a step belongs to. Where no spans are sent, that which came with its task, or none. */
#pragma once
#include "daemon/core/uuid.h"
#include "daemon/store/request.h"
#include "protocol/buf.h"

struct note;
struct server;
struct trace_context;

/* The map of a step, as step.execute has it. */
void step_put(const struct server *srv, const struct claim *c, struct buf *out);
/* The trace and the span of an attempt, for the log. */
void note_trace(struct note *n, const struct server *srv, const struct trace_context *trace, const struct uuid *task,
                const struct uuid *step, int fence);

/* What answers say over HTTP besides what the protocol has: the names of Tasker Core, for its clients. A shape adds
 * members to an object; none is taken away. */
#pragma once
#include "protocol/buf.h"
#include "protocol/mp.h"

struct shape;
extern const struct shape shape_task, shape_tasks, shape_summary, shape_step, shape_entry, shape_entry_changed,
	shape_redriven, shape_reason, shape_stale, shape_template, shape_templates;

/* The value in its shape; an array's items each. */
void shape_put(const struct shape *shape, const msgpack_object *o, struct buf *out);

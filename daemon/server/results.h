/* What workers say of their attempts. */
#pragma once
#include <stdint.h>
#include "daemon/base/err.h"
#include "daemon/server/message.h"

struct open_step;
struct session;

msg_fn on_step_result;
/* Give the step back with a checkpoint; the request is answered when that is recorded. Negative with *e: nothing has
 * happened. */
int step_yield(struct session *s, uint32_t request, struct open_step *o, const msgpack_object *checkpoint,
               struct err *e) must_check;

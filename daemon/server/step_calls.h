/* What workers ask and say of their steps besides results. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "daemon/base/err.h"
#include "daemon/config/options.h"
#include "daemon/server/message.h"
#include "protocol/buf.h"

struct session;

msg_fn on_step_log, on_step_dependencies, on_step_checkpoint;
int checkpoint_json(const msgpack_object *m, size_t max, struct buf *out, struct err *e) must_check;
size_t checkpoint_max(const struct options *opt);
void reply_status(struct session *s, uint32_t id, const char *status);

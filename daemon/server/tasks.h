/* Creating tasks, and cancelling them. */
#pragma once
#include "daemon/config/options.h"
#include "daemon/server/message.h"
#include "daemon/store/request.h"

struct server;

extern const char API_CANCEL_GET[], API_CANCEL_REST[];

/* The most tasks of one task.create_many: the answer, whatever becomes of each, must go into a frame. */
unsigned bulk_max(const struct options *opt);
msg_fn on_task_create, on_task_create_many, on_task_cancel;
void create_answered(struct server *srv, struct req *r);
void cancel_answered(struct server *srv, struct req *r);

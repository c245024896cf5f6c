/* Templates: read and checked by a thread, then registered by the database. */
#pragma once
#include "daemon/server/message.h"
#include "daemon/store/request.h"

struct server;

extern const char API_TEMPLATE_REGISTER[];

msg_fn on_template_apply, on_template_validate;
void template_applied(struct server *srv, struct req *r);
/* How many are being read, or wait to be. */
unsigned templates_under_way(const struct server *srv);
/* No more will come: what waits is dropped, and the thread ends. */
void templates_stop(struct server *srv);

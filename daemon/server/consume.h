/* Durable domain events. */
#pragma once
#include "daemon/server/message.h"
#include "daemon/store/request.h"

struct server;
struct session;

extern const char API_EVENT_CONSUME[], API_EVENT_RETURN[];

msg_fn on_event_consume, on_event_ack, on_event_extend;
void consume_answered(struct server *srv, struct req *r);
/* A namespace's queue has `n` messages more (0: some). */
void consumers_hint(struct server *srv, const char *ns, unsigned n);
/* Everybody who waits looks again. */
void consumers_recheck(struct server *srv);
void consumers_forget(struct session *s);
/* No more will come: all are answered. */
void consumers_drain(struct server *srv);
void consumers_free(struct server *srv);

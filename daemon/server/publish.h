/* Domain events of clients, and what workers say of those of their steps. */
#pragma once
#include "daemon/config/options.h"
#include "daemon/server/message.h"
#include "daemon/store/request.h"

struct server;

extern const char API_EVENT_PUBLISH[];

msg_fn on_event_publish;
void event_publish_answered(struct server *srv, struct req *r);
/* `events` of a result into the request; what is wrong with it is told there too. */
void read_event_words(const struct options *opt, const msgpack_object *events, struct req_result *q);

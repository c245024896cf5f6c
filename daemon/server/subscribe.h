/* Fast domain events: pushed to the sessions that have subscribed to them. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "daemon/base/err.h"
#include "daemon/server/message.h"
#include "daemon/store/request.h"

struct server;
struct session;

msg_fn on_event_subscribe, on_event_unsubscribe;
/* Events were published: push them, and tell those who wait for durable ones. */
void events_fired(struct server *srv, struct fired *list);
/* The event.message of what is gathered, and of what was lost once all else is read. */
void events_gather(struct session *s);
void subscriber_free(struct session *s);
/* Check a list of patterns of a request. 0 or -EINVAL with *e. */
int check_event_patterns(const msgpack_object *patterns, struct err *e) must_check;
/* What is gathered for the session; NULL: it has subscribed to nothing. */
const struct buf *subscriber_unsent(const struct session *s);
/* Something was lost that the session has not been told of. */
bool subscriber_lost(const struct session *s);

/* Beginning and ending a session, and what a worker says of itself. */
#pragma once
#include "daemon/base/err.h"
#include "daemon/server/message.h"

struct session;
struct server;

msg_fn on_hello, on_session_resume, on_goodbye, on_worker_update, on_heartbeat;
/* The session of a worker has ended for good. */
void worker_gone(struct session *s);
/* Tell the database of every connected worker. */
void worker_announce(struct session *s);
/* One of the announcements under way has been answered. */
void worker_announced(struct server *srv);
void workers_announce(struct server *srv);
/* The `worker` of a hello. 0 or negative with *e. */
int session_read_worker(struct session *s, const msgpack_object *w, struct err *e) must_check;

/* Watching tasks. */
#pragma once
#include "daemon/core/uuid.h"
#include "daemon/server/message.h"
#include "daemon/store/request.h"

struct open_step;
struct server;
struct session;

extern const char API_TASK_EVENTS[], API_WATCH_GET[];

msg_fn on_task_watch, on_task_unwatch;
void watch_touch(struct server *srv, const struct uuid *task);
void watch_tick(struct server *srv);
/* A handler's progress report; `progress` may be NULL. */
void watch_progress(struct server *srv, const struct open_step *o, const msgpack_object *progress);
void watch_answered(struct server *srv, struct req *r);
void watch_forget(struct session *s);
void watches_free(struct server *srv);

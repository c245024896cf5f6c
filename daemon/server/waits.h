/* Waiting for tasks. */
#pragma once
#include <stdbool.h>
#include "daemon/core/uuid.h"
#include "daemon/server/message.h"
#include "daemon/store/request.h"

struct server;
struct session;

msg_fn on_task_wait;
/* The task's first step was claimed for this node as the task was made: its end will be heard of here. */
void task_begun(struct server *srv, const struct uuid *task);
/* It has settled, in a state that is not known here. */
void task_settled_elsewhere(struct server *srv, const struct uuid *task);
void task_settled(struct server *srv, const struct uuid *task, const char *state);
/* Ask about the tasks that nobody has asked about yet; about all of them again. */
void waits_ask(struct server *srv);
void waits_recheck(struct server *srv);
void waits_answered(struct server *srv, struct req *r);
void waits_forget(struct session *s);
void waits_free(struct server *srv);
bool task_is_waited_for(const struct server *srv, const struct uuid *task);

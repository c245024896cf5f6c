/* Sessions over a restart: handoff.c leaves them with the service manager, takeover.c is given them by it. */
#pragma once
#include <stdbool.h>
#include "daemon/base/err.h"
#include "daemon/config/options.h"
#include "protocol/buf.h"

struct server;

/* The form of what is left. Another number is not read: its sockets are closed, and their workers resume. */
#define HANDOFF_SCHEMA 1u
/* Names in the manager's store. */
#define HANDOFF_STATE "sessions"
#define HANDOFF_SOCKET "session-"

/* What a session was told in its welcome, and must hold for it further on: an array. */
void handoff_put_terms(struct buf *b, const struct options *o);
/* Whether there is a manager that could keep anything. */
bool handoff_possible(void);
/* Stop reading, and begin nothing that others could. */
void handoff_begin(struct server *srv);
/* Whether the daemon can go: all is left, or cannot be. */
bool handoff_check(struct server *srv);
/* The steps stay claimed: forget them without a word. */
void handoff_forget(struct server *srv);
/* The socket to listen on that was passed, or -1; what was left of sessions is made sessions again that are not read
 * yet. Negative with *e. */
int takeover(struct server *srv, int *ret_listen, struct err *e) must_check;
/* The node's claims are known: go on with the sessions. */
void takeover_finish(struct server *srv);

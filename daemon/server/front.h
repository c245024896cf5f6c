/* What another front end than the Unix socket, HTTP, has of the server: sessions without a socket, which are answered
 * by the same functions as those with one. Loop thread only. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "daemon/base/err.h"
#include "daemon/config/options.h"
#include "protocol/mp.h"
#include "protocol/msg.h"

struct server;
struct session;
struct principal;
struct auth;
struct event_base;

/* Called by the server: `start` before the loop runs, `drain` when it begins to stop, `stop` at its end (also after a
 * failed start elsewhere). */
struct front {
	void *(*start)(struct server *srv, struct err *e); /* NULL with *e */
	void (*drain)(void *front);
	void (*stop)(void *front);
};

struct event_base *server_base(struct server *srv);
const struct options *server_options(const struct server *srv);
/* Sockets that the service manager has passed for HTTP: how many. */
size_t server_http_sockets(const struct server *srv, const int **ret);
/* Who knows the tokens. */
struct auth *server_auth(struct server *srv);
/* Send what is gathered: at the end of every callback of the loop that may have asked something. */
void server_flush(struct server *srv);

/* ---- sessions ---- */

struct local {
	/* A response or notification, as PROTOCOL.md has it: MessagePack, without the frame's length. The session may
	 * be closed here, but nothing asked. */
	void (*frame)(void *arg, const unsigned char *payload, size_t len);
	/* The server has ended the session, which is gone. */
	void (*closed)(void *arg, const char *why);
};

/* A session for `who`, whose rules it takes over; `stream`: it goes on after its answer. NULL with *e: no memory, or
 * this user has as many as he may. */
struct session *session_open_local(struct server *srv, struct principal *who, bool stream, const struct local *local,
                                   void *arg, struct err *e) must_check;
/* A request. The answer comes to local.frame, at the earliest in the next server_flush; it is the only one with this
 * id. */
void session_ask(struct session *s, uint32_t id, enum msg_id m, const msgpack_object *params);
void session_close_local(struct session *s);
/* Bytes of an answer that its reader has yet to take count for the session's user, also when the session has ended.
 * Whether there is room for them; they are kept; they are gone. */
int unread_fits(const struct session *s, size_t n, struct err *e) must_check;
uint64_t unread_begin(struct session *s, size_t n);
void unread_end(struct server *srv, uint64_t user, size_t n);
/* Of a task.event's events: it is the task's last. */
bool event_ends_task(const msgpack_object *event);
/* The kernel's word about the peer of a Unix socket. */
void principal_of_peer(const struct server *srv, int fd, struct principal *who);

/* ---- how it is ---- */

struct server_health {
	bool ready;	      /* takes and does work */
	bool draining;
	const char *database; /* as server.info has it: waiting, up, lost, stuck */
	size_t calls_hanging; /* of the database, while it answers others */
	size_t sessions, workers;
	unsigned steps_running;
	size_t store_requests, store_bytes; /* that wait for the database */
	uint64_t uptime_ms;
};
void server_get_health(const struct server *srv, struct server_health *ret);
const char *server_version(void);

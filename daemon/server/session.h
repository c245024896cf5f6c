/* A session: one connection of a worker or client, or one without a socket. Sockets, buffers, life and death. */
#pragma once
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include "daemon/auth/auth.h"
#include "daemon/base/clock.h"
#include "daemon/base/hash.h"
#include "daemon/base/log.h"
#include "daemon/config/access.h"
#include "daemon/core/uuid.h"
#include "daemon/server/rates.h"
#include "daemon/server/steps.h"
#include "protocol/buf.h"

struct kept_step;
struct local;
struct peer;
struct pool;
struct server;
struct subscriber;

enum session_state { SESSION_NEW, SESSION_OPEN, SESSION_DETACHED, SESSION_DEAD };

/* The bytes to and fro. */
struct session_wire {
	int fd; /* -1: none, detached or local */
	struct event rd, wr;
	struct buf in, out;
	size_t out_off;
	bool dirty; /* in the list of sessions to be flushed */
	TAILQ_ENTRY(session) dirty_link;
	bool paused;	/* not read until its output drains */
	bool held_back; /* not read until the store has caught up */
	bool asks_much; /* not read until some of its calls are answered */
	bool kept;	/* over a restart, before or after it: not read */
	bool closing;	/* flush, then close */
};

/* Who is at the other end, and what they may do. */
struct session_peer {
	pid_t pid;
	uid_t uid;
	gid_t gid;
	int pidfd;
	struct event pid_event;
	struct access access;
	struct access_rules *own_rules;	    /* of `access`, if they were made for this session; or NULL */
	char principal[PRINCIPAL_NAME_MAX]; /* whom it speaks for; empty: for the user `uid` */
};

/* A worker: what it has said of itself, and what it runs. */
struct session_work {
	struct uuid uuid;
	char token[33];
	char name[64], language[32];
	char unit[128]; /* of the service manager, or empty */
	char **namespaces, **handlers;
	size_t n_namespaces, n_handlers, n_broken;
	struct buf broken; /* what the worker could not load: n_broken maps */
	bool open_ended;   /* it can run more than the handlers that it names */
	bool announced;	   /* the database has been told of it */
	bool unannounced;  /* the database is to be told, again */
	bool told_to_finish; /* by an operator: it is given no more steps */
	unsigned max_concurrency, open, held;
	struct pool *pool;
	TAILQ_ENTRY(session) pool_link;
	struct step_list steps;
	struct rate rate;
	struct kept_step *kept_steps; /* what it ran before a restart, until it is known whether it still does */
	size_t n_kept_steps;
};

/* Acknowledgements and steps, gathered until the flush makes frames of them. */
struct session_gathered {
	struct buf acks, executes;
	unsigned n_acks, n_executes;
	size_t execute_items;
};

struct session {
	uint64_t id;
	UT_hash_handle hh;
	struct server *srv;
	enum session_state state;
	struct session_wire wire;
	struct session_peer who;
	bool is_worker;
	struct session_work work;
	struct session_gathered gathered;
	char client[64]; /* library and version, as it says */
	struct event timer;
	usec_t connected, last_frame;
	bool said_goodbye, draining;
	bool moved; /* its steps and name live on in another session */
	bool without_socket, streams;
	const struct local *local; /* a session without a socket: what it is told goes here */
	void *local_arg;
	struct peer *peer;    /* its user's quotas */
	size_t counted_bytes; /* there */
	unsigned counted_slots;
	unsigned asked; /* calls with the store */
	struct ratelimit step_logs;
	unsigned n_watches, n_waits, n_consumers;
	struct subscriber *subscriber; /* NULL: to no domain events */
};

struct session *session_alloc(struct server *srv);
/* Known from here on. -ENOMEM: it is freed. */
int session_begin(struct session *s) must_check;
/* Whether what is written to it goes anywhere. */
static inline bool session_speaks(const struct session *s)
{
	return s->wire.fd >= 0 || s->local;
}
struct session *session_new(struct server *srv, int fd);
struct session *session_find(struct server *srv, uint64_t id);
/* Forget the session. `why` is logged. With the process alive a worker's steps wait RECONNECT_GRACE_MS for it. */
void session_close(struct session *s, const char *why);
/* Send what is gathered, then close. */
void session_close_after_flush(struct session *s);
/* One of the session's calls to the store has been answered. */
void session_answered(struct session *s);
/* Read the sessions that were held back, if the store has caught up. */
void sessions_read_on(struct server *srv);
/* It is written at the end of the turn; first: before the others, because somebody waits for what it gets (for an
 * acknowledgement nobody does). */
void session_mark_dirty(struct session *s);
void session_mark_first(struct session *s);
/* Turn the gathered acknowledgements and steps into frames. */
void session_gather(struct session *s);
/* Take over the steps of a detached session of the same peer. */
void session_adopt(struct session *to, struct session *from);
/* Do not read it, nor judge its silence; go on with it. */
void session_hold(struct session *s);
void session_release_hold(struct session *s);
/* Give the steps of a detached session to others, and forget it. */
void session_release(struct session *s);
void session_free_all(struct server *srv);

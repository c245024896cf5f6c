/* Who can run what, and the credits. Steps of one handler wait in one queue; sessions with the same handlers form a
 * pool. */
#pragma once
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include "daemon/base/clock.h"
#include "daemon/base/hash.h"
#include "daemon/server/rates.h"
#include "daemon/server/steps.h"
#include "daemon/store/request.h"

struct server;
struct session;

/* Sessions that can run the same handlers. */
struct pool {
	unsigned id;
	UT_hash_handle hh;
	struct pool_handlers *handlers; /* ids sorted */
	TAILQ_HEAD(, session) sessions;
	unsigned slots, used;	/* of its sessions: steps they may hold, and do */
	unsigned lent;		/* credits travelling with requests */
	struct step_list backlog; /* claimed, waiting for a free session */
	unsigned n_backlog;
	bool claiming;		/* a claim request is under way */
	struct session *next;	/* round robin */
};

/* A handler of some template: where its steps wait. */
struct handler {
	int id;
	UT_hash_handle hh;
	char ns[32];
	char *callable;
	bool hinted;	 /* its queue may hold messages */
	bool paused;	 /* its namespace is: nothing is claimed */
	unsigned pools;	 /* how many pools run it */
	usec_t missing_since; /* messages and no pool, 0: not so */
	bool lacking;	 /* nor does another node's worker offer it, and steps wait: as of the last proof of life */
	usec_t reported;
	usec_t due;	 /* when the timer fires, 0: not set */
	struct event timer;
	struct server *srv;
	struct rate rate; /* of results recorded here */
};

void handlers_loaded(struct server *srv, struct done *d);
void handlers_lacking(struct server *srv, struct done *d);
/* Nobody offers it, here or elsewhere, and steps wait for it. */
bool handler_lacks_workers(const struct handler *h);
void pool_join(struct session *s);
void pool_leave(struct session *s);
/* Lend the session's pool one free credit to travel with `r`, if it has one. */
void pool_lend(struct session *s, struct req *r);
/* Lend up to `max` credits of any pools to creates: returns how many were attached to `r` (one pool a request). */
unsigned pool_lend_any(struct server *srv, struct req *r, unsigned max);
void pool_return(struct server *srv, struct req *r);
/* Steps just claimed: give them to sessions. Takes the claims. */
void pool_dispatch(struct server *srv, struct claim *claims);
/* Messages may be in these queues; in all queues. */
void pool_hint(struct server *srv, const int *ids, size_t n);
void pool_hint_all(struct server *srv);
/* The handler's queue has a message for later. */
void pool_due(struct server *srv, int handler_id, int64_t in_ms);
void pool_set_concurrency(struct session *s, unsigned n);
/* The only way to change session.open. */
void session_open_changed(struct session *s, int by);
void pool_release_backlogs(struct server *srv);
struct handler *handler_find(struct server *srv, int id);
void handlers_report_missing(struct server *srv);
/* Ask for queued work where there are credits and hints. */
void pool_claim(struct server *srv);
void pool_run_backlog(struct server *srv);
void pools_free(struct server *srv);
bool handler_matches(const struct session *s, const struct handler *h);

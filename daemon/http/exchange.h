/* A request and its answer, and the server they belong to. Everything here belongs to the loop thread. */
#pragma once
#include <event2/event.h>
#include <event2/event_struct.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <sys/queue.h>
#include <sys/un.h>
#include "daemon/auth/auth.h"
#include "daemon/base/clock.h"
#include "daemon/base/hash.h"
#include "daemon/base/listen.h"
#include "daemon/base/log.h"
#include "daemon/http/routes.h"
#include "protocol/buf.h"

struct conn;
struct stream;

struct door { /* an address that is listened on */
	struct evconnlistener *listener;
	char path[sizeof((struct sockaddr_un *)0)->sun_path]; /* to be removed at the end; or empty */
};

struct http {
	struct server *srv;
	const struct options *opt;
	struct event_base *base;
	struct evhttp *evhttp;
	struct event *ev_tick;
	struct door doors[LISTEN_MAX];
	size_t n_doors;
	struct conn *conns; /* by bev */
	TAILQ_HEAD(, conn) idle;
	size_t n_closing, input;
	struct exchange *exchanges; /* by ticket */
	uint64_t next_ticket;
	unsigned n_streams;
	bool draining, paused;
	struct ratelimit log;
	struct buf openapi; /* made when it is first asked for */
};

/* A request and its answer. */
struct exchange {
	uint64_t ticket;
	UT_hash_handle hh;
	struct http *http;
	struct evhttp_request *req; /* NULL: the client has gone, or is answered */
	struct conn *conn;	    /* the same */
	const struct route *route;
	struct route_match match;
	struct session *session;
	struct principal who; /* the session has its rules */
	bool answered;	      /* at least begun */
	usec_t began;
	struct stream *stream;
	struct buf made;      /* what was done, while it is asked how it is now: the answer, if that cannot be told */
	struct event asking;  /* to ask for that */
	bool created;
};

/* Over: its session is closed, it is freed. */
void exchange_end(struct exchange *x);
/* Close the connection without another word. */
void exchange_drop(struct exchange *x, const char *why);
/* Learn that the client goes away while it waits for an answer. */
void exchange_watch_client(struct exchange *x);

/* From path, query, headers and body to the parameters of a message. 0, or negative with *e. */
int exchange_params(struct exchange *x, struct buf *out, struct err *e) must_check;

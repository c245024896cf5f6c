/* What the files of HTTP share. Everything here belongs to the loop thread. */
#pragma once
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <sys/queue.h>
#include "daemon/auth/auth.h"
#include "daemon/base/clock.h"
#include "daemon/base/listen.h"
#include "daemon/base/log.h"
#include "daemon/base/hash.h"
#include "daemon/base/need.h"
#include "daemon/http/http.h"
#include "daemon/http/routes.h"
#include "daemon/server/params.h"
#include "protocol/buf.h"

#define INPUT_MAX (64u << 20)	 /* bytes received by all connections together and not yet handled, if http_max_body is not larger */
#define STEPS_SHOWN 1000	 /* of a task, after something was done to it */
#define HEARTBEAT_S 15		 /* how often a silent stream says something, so that proxies and the kernel notice a dead one */

struct http;
struct exchange;

/* A connection, from accept to close. */
struct conn {
	struct bufferevent *bev; /* held: that evhttp has freed it is seen by its callbacks */
	UT_hash_handle hh;
	TAILQ_ENTRY(conn) link; /* the longest idle first */
	struct http *http;
	struct event words; /* evhttp answers by itself */
	usec_t since;	    /* of its last request's end */
	size_t input;	    /* bytes that are counted in http->input */
	bool busy;	    /* with a request */
	size_t header;	    /* bytes of the next request's header so far */
	bool whole;	    /* that is all of it */
	bool closing;
	bool refused;	/* evhttp has answered by itself, and closes it */
	bool leftover;	/* evhttp is done with it: what still comes is thrown away */
};

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

/* http.c */
/* Over: its session is closed, it is freed. */
void exchange_end(struct exchange *x);
/* Close the connection without another word. */
void exchange_drop(struct exchange *x, const char *why);
/* Learn that the client goes away while it waits for an answer. */
void exchange_watch_client(struct exchange *x);

/* conns.c */
/* For the answer; evhttp has a little more of it for requests, so that conns_tick comes first and says what is wrong. */
struct timeval http_patience(const struct http *h), http_patience_reading(const struct http *h);
int conns_begin(struct http *h, struct err *e) must_check;
void conns_tick(struct http *h);
void conns_end(struct http *h);
void conn_free(struct conn *c);
/* evhttp has let go of it. */
bool conn_is_gone(const struct conn *c);
struct conn *conn_find(struct http *h, struct evhttp_request *req);
void conn_busy(struct conn *c, bool busy);

/* broken.c: answers to what is no request */
void broken_watch(struct conn *c);
void broken_unwatch(struct conn *c);
/* See what has been received of the next request; `added`: the last bytes of it are new. */
void broken_look(struct conn *c, size_t added);
/* Its time is up: say so, if it has begun. */
void broken_late(struct conn *c);
/* evhttp is done with it, but the client may still be sending what was refused, and would not see the answer if the connection were closed. */
void broken_linger(struct conn *c);

/* reply.c: answers. Each ends the exchange. */
void reply_json(struct exchange *x, int status, struct buf *json);
/* `what`: a type of media; takes the bytes of `body`. */
void reply_bytes(struct exchange *x, int status, const char *type, struct buf *body);
/* An error of the protocol: a map. */
void reply_problem(struct exchange *x, const msgpack_object *error);
void reply_err(struct exchange *x, const struct err *e);
void reply_refusal(struct exchange *x, int status, const char *code, const char *path, const char *fmt, ...) printf_like(5, 6);
/* The result of the exchange's message. */
void reply_result(struct exchange *x, const msgpack_object *result);
/* If something was done, and how it is now is not known: what is known. False: nothing was. */
bool reply_made(struct exchange *x);
void reply_empty(struct exchange *x, int status);
void add_header(struct exchange *x, const char *name, const char *value);
const char *http_phrase_of(int status);
/* The members that each problem has, without the closing brace. */
void problem_begin(struct buf *json, int status, const char *code, size_t len);
/* The sentence, here and where clients of Tasker Core look for it. */
void problem_put_detail(struct buf *json, int status, const char *text);

/* params.c: from path, query, headers and body to the parameters of a message. 0, or negative with *e. */
int exchange_params(struct exchange *x, struct buf *out, struct err *e) must_check;

/* stream_mark.c: what the client of a stream has */

/* The id of a task's event: its time, and which of that time it is. Empty: before all. */
struct stream_mark {
	char at[40];
	unsigned nth;
};
/* False: the id (or NULL) is none of a task's event, and *ret is empty. */
bool stream_mark_read(const char *id, struct stream_mark *ret);
/* On to the next event. False: that is no time of an event. */
bool stream_mark_move(struct stream_mark *m, const char *at, size_t len);
bool stream_mark_covers(const struct stream_mark *seen, const struct stream_mark *m);

#define LATE_MAX 32 /* events that an id tells of */
/* A transaction may commit after the times that it has written. From `from` on (empty: not known) events may come that are older than others that were sent: the newest of those sent are listed,
 * by a hash. What is not on the list any more is sent twice after a reconnect rather than never. */
struct stream_late {
	char from[40];
	unsigned n, next;
	struct {
		char at[40];
		uint32_t hash;
	} sent[LATE_MAX];
};
/* The part of an id behind its mark. */
void stream_late_read(const char *id, struct stream_late *ret);
void stream_late_add(struct stream_late *l, const char *at, uint32_t hash);
/* It may have been written after the mark was given, and was not sent. */
bool stream_late_is_new(const struct stream_late *l, const char *at, uint32_t hash);
/* A time as the events of the database have it. */
bool stream_is_time(const char *text, size_t len);
#define STREAM_ID 512
size_t stream_id(const struct stream_mark *m, const struct stream_late *l, char text[static STREAM_ID]);

/* stream.c: server-sent events */

void stream_begin(struct exchange *x, const msgpack_object *result);
void stream_notified(struct exchange *x, const char *method, size_t n, const msgpack_object *params);
void stream_tick(struct exchange *x);
void stream_free(struct exchange *x);
/* True: the client has seen the end already, and is told so. */
bool stream_is_over(struct exchange *x);

/* health.c, openapi.c: answered from memory */
local_fn on_health, on_live, on_ready, on_detailed, on_openapi, on_api_docs;

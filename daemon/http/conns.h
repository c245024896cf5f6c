/* Connections: how many, how long they may be idle or take for a request, how much of them is kept in memory. */
#pragma once
#include <event2/bufferevent.h>
#include <event2/event_struct.h>
#include <sys/queue.h>
#include <event2/buffer.h>
#include <stdbool.h>
#include <stddef.h>
#include "daemon/base/clock.h"
#include "daemon/base/hash.h"
#include "daemon/base/need.h"

/* bytes received by all connections together and not yet handled, if http_max_body is not larger */
#define INPUT_MAX (64u << 20)

struct err;
struct evhttp_request;
struct http;
struct session;

/* A connection, from accept to close. */
struct conn {
	struct bufferevent *bev; /* held: that evhttp has freed it is seen by its callbacks */
	UT_hash_handle hh;
	TAILQ_ENTRY(conn) link; /* the longest idle first */
	struct http *http;
	struct event words; /* evhttp answers by itself */
	usec_t since;	    /* of its last request's end, or answer */
	size_t input;	    /* bytes that are counted in http->input */
	bool busy;	    /* with a request */
	bool answered;	    /* it is, but for what the client has yet to read */
	size_t unread;	    /* bytes of that, which count for a user */
	uint64_t user;
	size_t header;	    /* bytes of the next request's header so far */
	bool whole;	    /* that is all of it */
	bool closing;
	bool refused;	/* evhttp has answered by itself, and closes it */
	bool leftover;	/* evhttp is done with it: what still comes is thrown away */
};

/* For the answer; evhttp has a little more of it for requests, so that conns_tick comes first and says what is
 * wrong. */
struct timeval http_patience(const struct http *h), http_patience_reading(const struct http *h);
int conns_begin(struct http *h, struct err *e) must_check;
void conns_tick(struct http *h);
void conns_end(struct http *h);
void conn_free(struct conn *c);
/* evhttp has let go of it. */
bool conn_is_gone(const struct conn *c);
struct conn *conn_find(struct http *h, struct evhttp_request *req);
void conn_busy(struct conn *c, bool busy);
/* The answer of n bytes is about to be written. `s` may be NULL: nobody's. */
void conn_answered(struct conn *c, struct session *s, size_t n);

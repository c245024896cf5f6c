/* What each user takes up: sessions, requests that are not answered, steps its workers ask for, bytes in memory. One
 * that is over a quota is refused or held back, and the others do not notice. A user is a uid of this host or, over
 * HTTP, whoever a bearer token speaks for; all who show none over TCP are one. Root and the daemon's own user are not
 * limited. */
#include "daemon/server/quota.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include "daemon/auth/auth.h"
#include "daemon/base/clock.h"
#include "daemon/base/err.h"
#include "daemon/base/hash.h"
#include "daemon/config/options.h"
#include "daemon/server/bounds.h"
#include "daemon/server/front.h"
#include "daemon/server/metrics.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/server/subscribe.h"
#include "daemon/store/request.h"
#include "daemon/store/store.h"
#include "protocol/buf.h"

struct peer_key { /* no bytes between */
	char name[PRINCIPAL_NAME_MAX]; /* empty: the user `uid` */
	uid_t uid;
};

struct peer {
	uint64_t id;
	struct peer_key key;
	UT_hash_handle hh, by_key;
	bool limited;
	unsigned sessions, requests, slots;
	unsigned asks, streams; /* sessions of other front ends, and those of them that go on */
	size_t bytes;
	usec_t rests_until; /* nothing of its sessions is read */
};

#define DEAR_US (50 * USEC_PER_MSEC) /* of the loop's time: messages that take more are followed by a rest */
#define REST_FACTOR 2

static struct peer *peer_by_id(struct server *srv, uint64_t id)
{
	struct peer *p;
	HASH_FIND(hh, srv->peers, &id, sizeof id, p);
	return p;
}

static struct peer *peer_find(struct server *srv, uid_t uid, const char *name)
{
	struct peer *p;
	struct peer_key key = {.uid = uid};
	snprintf(key.name, sizeof key.name, "%s", name);
	HASH_FIND(by_key, srv->peers_by_key, &key, sizeof key, p);
	return p;
}

static struct peer *peer_get(struct server *srv, uid_t uid, const char *name)
{
	struct peer *p = peer_find(srv, uid, name);
	if (p || !(p = calloc(1, sizeof *p)))
		return p;
	p->id = ++srv->next_peer;
	p->key.uid = uid;
	snprintf(p->key.name, sizeof p->key.name, "%s", name);
	p->limited = name[0] || (uid != 0 && uid != geteuid());
	HASH_ADD(hh, srv->peers, id, sizeof p->id, p);
	HASH_ADD(by_key, srv->peers_by_key, key, sizeof p->key, p);
	return p;
}

static void peer_free(struct server *srv, struct peer *p)
{
	HASH_DEL(srv->peers, p);
	HASH_DELETE(by_key, srv->peers_by_key, p);
	free(p);
}

static void peer_drop(struct server *srv, struct peer *p)
{
	if (p->sessions || p->requests || p->slots || p->bytes)
		return;
	peer_free(srv, p);
}

void peers_free(struct server *srv)
{
	struct peer *p, *tmp;
	HASH_ITER(hh, srv->peers, p, tmp)
		peer_free(srv, p);
}

static const char *peer_name(const struct peer *p, char text[static PRINCIPAL_NAME_MAX + 16])
{
	if (p->key.name[0])
		return p->key.name;
	if (p->key.uid == (uid_t)-1)
		return "who shows no token";
	snprintf(text, PRINCIPAL_NAME_MAX + 16, "uid %u", (unsigned)p->key.uid);
	return text;
}

static int over(struct server *srv, const struct peer *p, enum quota which, uint64_t max, const char *whose,
                struct err *e)
{
	const char *what = quota_names[which];
	char name[PRINCIPAL_NAME_MAX + 16];
	srv->metrics.quota_refusals[which]++;
	err_set(e, -EDQUOT, "overloaded", "%s has as many %s as one user may: %llu (%s)", peer_name(p, name), whose,
	        (unsigned long long)max, what);
	e->limit = what;
	e->max = max;
	return -EDQUOT;
}

/* Sessions --------------------------------------------------------------------------------------------------------- */

static unsigned sessions_max(const struct options *opt)
{
	if (opt->max_sessions_per_uid > 0)
		return (unsigned)opt->max_sessions_per_uid;
	return (unsigned)opt->max_sessions - (unsigned)opt->max_sessions / 4;
}

int quota_connect(struct server *srv, int fd, struct err *e)
{
	struct ucred cred = {.uid = (uid_t)-1};
	socklen_t len = sizeof cred;
	(void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
	const struct peer *p = peer_find(srv, cred.uid, "");
	if (srv->n_sessions >= (size_t)srv->opt->max_sessions) {
		err_set(e, -EDQUOT, "overloaded", "the daemon has as many sessions as it may (max_sessions)");
		e->limit = quota_names[QUOTA_SESSIONS];
		srv->metrics.quota_refusals[QUOTA_SESSIONS]++;
		e->max = (uint64_t)srv->opt->max_sessions;
		return -EDQUOT;
	}
	return p && p->limited && p->sessions >= sessions_max(srv->opt)
	               ? over(srv, p, QUOTA_SESSIONS_PER_UID, sessions_max(srv->opt), "connections", e)
	               : 0;
}

int quota_session_begin(struct session *s)
{
	struct peer *p = peer_get(s->srv, s->who.uid, s->who.principal);
	if (!p)
		return -ENOMEM;
	s->peer = p;
	p->sessions++;
	p->asks += s->without_socket;
	p->streams += s->streams;
	return 0;
}

/* So that there is room for others. */
static unsigned most_of(int all)
{
	return (unsigned)all - (unsigned)all / 4;
}

int quota_may_begin(struct server *srv, const struct principal *who, bool stream, struct err *e)
{
	const struct options *opt = srv->opt;
	const struct peer *p = peer_find(srv, who->uid, who->name);
	unsigned asks = opt->http_max_requests_per_user ? (unsigned)opt->http_max_requests_per_user
	                                                : most_of(opt->http_max_connections);
	unsigned streams = opt->http_max_streams_per_user ? (unsigned)opt->http_max_streams_per_user
	                                                  : most_of(opt->http_max_streams);
	if (!p || !p->limited)
		return 0;
	if (stream && p->streams >= streams)
		return over(srv, p, QUOTA_HTTP_STREAMS, streams, "streams", e);
	return p->asks >= asks ? over(srv, p, QUOTA_HTTP_REQUESTS, asks, "requests under way over HTTP", e) : 0;
}

void quota_session_end(struct session *s)
{
	struct peer *p = s->peer;
	if (!p)
		return;
	quota_slots(s, 0);
	p->bytes -= s->counted_bytes;
	p->sessions--;
	p->asks -= s->without_socket;
	p->streams -= s->streams;
	s->peer = NULL;
	peer_drop(s->srv, p);
}

/* Steps ------------------------------------------------------------------------------------------------------------ */

int quota_may_have_slots(const struct session *s, unsigned n, struct err *e)
{
	const struct peer *p = s->peer;
	unsigned max = (unsigned)s->srv->opt->max_steps_per_uid;
	if (!p->limited || p->slots - s->counted_slots + n <= max)
		return 0;
	err_set(e, -EDQUOT, "overloaded",
	        "the workers of uid %u may ask for %u steps at a time together (max_steps_per_uid): the others have %u of them, this one wants %u",
	        (unsigned)p->key.uid, max, p->slots - s->counted_slots, n);
	e->limit = quota_names[QUOTA_STEPS];
	s->srv->metrics.quota_refusals[QUOTA_STEPS]++;
	e->max = max;
	return -EDQUOT;
}

void quota_slots(struct session *s, unsigned n)
{
	s->peer->slots += n - s->counted_slots;
	s->counted_slots = n;
}

/* Requests --------------------------------------------------------------------------------------------------------- */

int quota_may_ask(const struct session *s, struct err *e)
{
	const struct peer *p = s->peer;
	const struct options *opt = s->srv->opt;
	if (!p->limited)
		return 0;
	if (p->requests >= (unsigned)opt->max_requests_per_uid)
		return over(s->srv, p, QUOTA_REQUESTS, (uint64_t)opt->max_requests_per_uid, "requests under way", e);
	return p->bytes >= opt->max_bytes_per_uid
	               ? over(s->srv, p, QUOTA_BYTES, opt->max_bytes_per_uid, "bytes in memory", e)
	               : 0;
}

uint64_t quota_hold(struct session *s)
{
	s->peer->requests++;
	return s->peer->id;
}

void quota_release(struct server *srv, uint64_t peer)
{
	struct peer *p = peer_by_id(srv, peer);
	if (!p || p->requests == 0)
		return;
	p->requests--;
	peer_drop(srv, p);
}

void quota_charge(struct session *s, struct req *r)
{
	r->peer = s->peer->id;
	r->held = req_bytes(r);
	r->charged = true;
	s->peer->requests++;
	s->peer->bytes += r->held;
}

void quota_submit(struct session *s, struct req *r)
{
	quota_charge(s, r);
	store_submit(s->srv->store, r);
}

void quota_answered(struct server *srv, struct req *r)
{
	struct peer *p = r->charged ? peer_by_id(srv, r->peer) : NULL;
	if (!p)
		return;
	r->charged = false;
	p->requests--;
	p->bytes -= r->held;
	peer_drop(srv, p);
}

/* Time ------------------------------------------------------------------------------------------------------------- */

static usec_t cpu_time(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (usec_t)ts.tv_sec * USEC_PER_SEC + (usec_t)ts.tv_nsec / 1000;
}

usec_t quota_work_begin(const struct session *s)
{
	return s->peer->limited ? cpu_time() : 0;
}

static void on_rested(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	sessions_read_on(arg);
	server_flush(arg);
}

void quota_work_end(struct session *s, usec_t began)
{
	struct peer *p = s->peer;
	usec_t cost = p->limited ? cpu_time() - began : 0, rest = cost * REST_FACTOR;
	if (cost < DEAR_US)
		return;
	p->rests_until = now_mono() + rest;
	event_base_update_cache_time(s->srv->base); /* the loop's clock has stood still meanwhile */
	event_base_once(s->srv->base, -1, EV_TIMEOUT, on_rested, s->srv,
	                &(struct timeval){.tv_sec = (time_t)(rest / USEC_PER_SEC),
	                                  .tv_usec = (suseconds_t)(rest % USEC_PER_SEC) + 1000});
}

bool quota_rests(const struct session *s)
{
	return s->peer->rests_until > 0 && now_mono() < s->peer->rests_until;
}

/* Bytes ------------------------------------------------------------------------------------------------------------ */

static size_t held_by(const struct buf *b)
{
	return b->cap > QUOTA_SMALL ? b->cap : b->len;
}

static size_t bytes_of(const struct session *s)
{
	const struct buf *events = subscriber_unsent(s);
	return held_by(&s->wire.in) + held_by(&s->wire.out) + held_by(&s->gathered.acks) +
	       held_by(&s->gathered.executes) + (events ? held_by(events) : 0);
}

static void count_bytes(struct session *s)
{
	size_t now = bytes_of(s);
	s->peer->bytes += now - s->counted_bytes;
	s->counted_bytes = now;
}

int unread_fits(const struct session *s, size_t n, struct err *e)
{
	const struct peer *p = s->peer;
	size_t max = s->srv->opt->max_bytes_per_uid, others = p->bytes - s->counted_bytes;
	return p->limited && others > 0 && others + n > max ? over(s->srv, p, QUOTA_BYTES, max, "bytes in memory", e)
	                                                    : 0;
}

uint64_t unread_begin(struct session *s, size_t n)
{
	s->peer->bytes += n;
	return s->peer->id;
}

void unread_end(struct server *srv, uint64_t user, size_t n)
{
	struct peer *p = peer_by_id(srv, user);
	if (!p)
		return;
	p->bytes -= n;
	peer_drop(srv, p);
}

bool quota_full(const struct session *s)
{
	return s->peer->limited && s->peer->bytes > s->srv->opt->max_bytes_per_uid;
}

/* Memory that is kept for the next frame is given back before anybody is ended. */
static void shrink(struct session *s)
{
	struct buf *idle[] = {&s->wire.in, &s->gathered.acks, &s->gathered.executes};
	for (size_t i = 0; i < sizeof idle / sizeof *idle; i++)
		if (idle[i]->len == 0)
			buf_done(idle[i]);
	count_bytes(s);
}

static void shrink_all(struct server *srv, const struct peer *p)
{
	struct session *s, *tmp;
	HASH_ITER(hh, srv->sessions, s, tmp)
		if (s->peer == p)
			shrink(s);
}

int quota_settle(struct session *s, struct err *e)
{
	count_bytes(s);
	if (!quota_full(s))
		return 0;
	shrink_all(s->srv, s->peer);
	/* Whoever holds little is not to blame, and may go on. */
	if (!quota_full(s) || s->counted_bytes <= QUOTA_SMALL)
		return 0;
	return over(s->srv, s->peer, QUOTA_BYTES, s->srv->opt->max_bytes_per_uid, "bytes in memory", e);
}

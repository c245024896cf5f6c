/* What each user of this host takes up: sessions, requests that are not answered, steps its workers ask for, bytes in memory. One that is over a quota is refused or held back, and
 * the others do not notice. Root and the daemon's own user are not limited. */
#include "daemon/server/impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

struct peer {
	uid_t uid;
	UT_hash_handle hh;
	bool limited;
	unsigned sessions, requests, slots;
	size_t bytes;
	usec_t rests_until; /* nothing of its sessions is read */
};

#define DEAR_US (50 * USEC_PER_MSEC) /* of the loop's time: messages that take more are followed by a rest */
#define REST_FACTOR 2

static struct peer *peer_find(struct server *srv, uid_t uid)
{
	struct peer *p;
	HASH_FIND(hh, srv->peers, &uid, sizeof uid, p);
	return p;
}

static struct peer *peer_get(struct server *srv, uid_t uid)
{
	struct peer *p = peer_find(srv, uid);
	if (p || !(p = calloc(1, sizeof *p)))
		return p;
	p->uid = uid;
	p->limited = uid != 0 && uid != geteuid();
	HASH_ADD(hh, srv->peers, uid, sizeof p->uid, p);
	return p;
}

static void peer_drop(struct server *srv, struct peer *p)
{
	if (p->sessions || p->requests || p->slots || p->bytes)
		return;
	HASH_DEL(srv->peers, p);
	free(p);
}

void peers_free(struct server *srv)
{
	struct peer *p, *tmp;
	HASH_ITER(hh, srv->peers, p, tmp) {
		HASH_DEL(srv->peers, p);
		free(p);
	}
}

static int over(struct server *srv, const struct peer *p, enum quota which, uint64_t max, const char *whose, struct err *e)
{
	const char *what = quota_names[which];
	srv->metrics.quota_refusals[which]++;
	err_set(e, -EDQUOT, "overloaded", "uid %u has as many %s as one user may: %llu (%s)", (unsigned)p->uid, whose, (unsigned long long)max, what);
	e->limit = what;
	e->max = max;
	return -EDQUOT;
}

/* Sessions --------------------------------------------------------------------------------------------------------------- */

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
	const struct peer *p = peer_find(srv, cred.uid);
	if (srv->n_sessions >= (size_t)srv->opt->max_sessions) {
		err_set(e, -EDQUOT, "overloaded", "the daemon has as many sessions as it may (max_sessions)");
		e->limit = quota_names[QUOTA_SESSIONS];
		srv->metrics.quota_refusals[QUOTA_SESSIONS]++;
		e->max = (uint64_t)srv->opt->max_sessions;
		return -EDQUOT;
	}
	return p && p->limited && p->sessions >= sessions_max(srv->opt) ? over(srv, p, QUOTA_SESSIONS_PER_UID, sessions_max(srv->opt), "connections", e) : 0;
}

int quota_session_begin(struct session *s)
{
	struct peer *p = peer_get(s->srv, s->uid);
	if (!p)
		return -ENOMEM;
	s->peer = p;
	p->sessions++;
	return 0;
}

void quota_session_end(struct session *s)
{
	struct peer *p = s->peer;
	if (!p)
		return;
	quota_slots(s, 0);
	p->bytes -= s->counted_bytes;
	p->sessions--;
	s->peer = NULL;
	peer_drop(s->srv, p);
}

/* Steps ------------------------------------------------------------------------------------------------------------------ */

int quota_may_have_slots(const struct session *s, unsigned n, struct err *e)
{
	const struct peer *p = s->peer;
	unsigned max = (unsigned)s->srv->opt->max_steps_per_uid;
	if (!p->limited || p->slots - s->counted_slots + n <= max)
		return 0;
	err_set(e, -EDQUOT, "overloaded", "the workers of uid %u may ask for %u steps at a time together (max_steps_per_uid): the others have %u of them, this one wants %u", (unsigned)p->uid, max,
		p->slots - s->counted_slots, n);
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

/* Requests --------------------------------------------------------------------------------------------------------------- */

int quota_may_ask(const struct session *s, struct err *e)
{
	const struct peer *p = s->peer;
	const struct options *opt = s->srv->opt;
	if (!p->limited)
		return 0;
	if (p->requests >= (unsigned)opt->max_requests_per_uid)
		return over(s->srv, p, QUOTA_REQUESTS, (uint64_t)opt->max_requests_per_uid, "requests under way", e);
	return p->bytes >= opt->max_bytes_per_uid ? over(s->srv, p, QUOTA_BYTES, opt->max_bytes_per_uid, "bytes in memory", e) : 0;
}

void quota_hold(struct server *srv, uid_t uid)
{
	struct peer *p = peer_get(srv, uid);
	if (p)
		p->requests++;
}

void quota_release(struct server *srv, uid_t uid)
{
	struct peer *p = peer_find(srv, uid);
	if (!p || p->requests == 0)
		return;
	p->requests--;
	peer_drop(srv, p);
}

void quota_submit(struct session *s, struct req *r)
{
	r->uid = s->peer->uid;
	r->held = req_bytes(r);
	r->charged = true;
	s->peer->requests++;
	s->peer->bytes += r->held;
	store_submit(s->srv->store, r);
}

void quota_answered(struct server *srv, struct req *r)
{
	struct peer *p = r->charged ? peer_find(srv, r->uid) : NULL;
	if (!p)
		return;
	r->charged = false;
	p->requests--;
	p->bytes -= r->held;
	peer_drop(srv, p);
}

/* Time ------------------------------------------------------------------------------------------------------------------- */

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
	event_base_once(s->srv->base, -1, EV_TIMEOUT, on_rested, s->srv, &(struct timeval){.tv_sec = (time_t)(rest / USEC_PER_SEC), .tv_usec = (suseconds_t)(rest % USEC_PER_SEC) + 1000});
}

bool quota_rests(const struct session *s)
{
	return s->peer->rests_until > 0 && now_mono() < s->peer->rests_until;
}

/* Bytes ------------------------------------------------------------------------------------------------------------------ */

static size_t held_by(const struct buf *b)
{
	return b->cap > QUOTA_SMALL ? b->cap : b->len;
}

static size_t bytes_of(const struct session *s)
{
	return held_by(&s->in) + held_by(&s->out) + held_by(&s->acks) + held_by(&s->executes) + (s->subscriber ? held_by(&s->subscriber->events) : 0);
}

static void count_bytes(struct session *s)
{
	size_t now = bytes_of(s);
	s->peer->bytes += now - s->counted_bytes;
	s->counted_bytes = now;
}

bool quota_full(const struct session *s)
{
	return s->peer->limited && s->peer->bytes > s->srv->opt->max_bytes_per_uid;
}

/* Memory that is kept for the next frame is given back before anybody is ended. */
static void shrink(struct session *s)
{
	struct buf *idle[] = {&s->in, &s->acks, &s->executes};
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

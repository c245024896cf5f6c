/* Who can run what. Sessions with the same handlers form a pool; the pool's free credits are lent to requests on their
 * way to the database, where steps that become ready are claimed against them in the very transaction that makes them
 * ready (hand-over). What comes back is given to sessions; what nobody here can take any more is given back.
 *
 * free credits = slots of the sessions - steps open on them - steps in the backlog - credits lent. */
#include "daemon/server/pool.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include "daemon/base/cleanup.h"
#include "daemon/base/clock.h"
#include "daemon/base/hash.h"
#include "daemon/base/log.h"
#include "daemon/base/need.h"
#include "daemon/config/access.h"
#include "daemon/server/bounds.h"
#include "daemon/server/front.h"
#include "daemon/server/journal.h"
#include "daemon/server/metrics.h"
#include "daemon/server/reply.h"
#include "daemon/server/session.h"
#include "daemon/server/starts.h"
#include "daemon/server/state.h"
#include "daemon/server/step_ends.h"
#include "daemon/server/steps.h"
#include "daemon/store/request.h"
#include "daemon/store/store.h"
#include "protocol/mp.h"
#include "protocol/msg.h"

static unsigned pool_free(const struct pool *p)
{
	unsigned used = p->used + p->n_backlog + p->lent;
	return p->slots > used ? p->slots - used : 0;
}

static bool namespace_matches(const struct session *s, const char *ns)
{
	if (!access_allows(&s->who.access, ROLE_WORK, ns, strlen(ns)))
		return false;
	if (s->work.n_namespaces == 0)
		return true;
	for (size_t i = 0; i < s->work.n_namespaces; i++)
		if (strcmp(s->work.namespaces[i], "*") == 0 || strcmp(s->work.namespaces[i], ns) == 0)
			return true;
	return false;
}

bool handler_matches(const struct session *s, const struct handler *h)
{
	if (!namespace_matches(s, h->ns))
		return false;
	for (size_t i = 0; i < s->work.n_handlers; i++)
		if (strcmp(s->work.handlers[i], h->callable) == 0)
			return true;
	return false;
}

static bool pool_runs(const struct pool *p, int handler_id)
{
	size_t lo = 0, hi = p->handlers->n;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (p->handlers->ids[mid] == handler_id)
			return true;
		if (p->handlers->ids[mid] < handler_id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return false;
}

struct handler *handler_find(struct server *srv, int id)
{
	struct handler *h;
	HASH_FIND_INT(srv->handlers, &id, h);
	return h;
}

static int by_value(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;
	return (x > y) - (x < y);
}

/* Ids of the handlers the session can run, sorted; *ret_n may be 0. */
static int *matching_ids(struct session *s, size_t *ret_n)
{
	size_t n = 0;
	int *ids = need(malloc((HASH_COUNT(s->srv->handlers) + 1) * sizeof *ids));
	struct handler *h, *tmp;
	HASH_ITER(hh, s->srv->handlers, h, tmp)
		if (!h->paused && handler_matches(s, h))
			ids[n++] = h->id;
	qsort(ids, n, sizeof *ids, by_value);
	*ret_n = n;
	return ids;
}

static struct pool *pool_new(struct server *srv, const int *ids, size_t n)
{
	struct pool *p = need(calloc(1, sizeof *p));
	p->id = ++srv->next_pool;
	p->handlers = need(pool_handlers_new(p->id, ids, n));
	TAILQ_INIT(&p->sessions);
	TAILQ_INIT(&p->backlog);
	HASH_ADD(hh, srv->pools, id, sizeof p->id, p);
	for (size_t i = 0; i < n; i++) {
		struct handler *h = handler_find(srv, ids[i]);
		h->pools++;
		h->hinted = true; /* look once what waits there */
		h->missing_since = 0;
	}
	return p;
}

static struct pool *pool_find(struct server *srv, unsigned id)
{
	struct pool *p;
	HASH_FIND(hh, srv->pools, &id, sizeof id, p);
	return p;
}

static struct pool *pool_for(struct server *srv, const int *ids, size_t n)
{
	struct pool *p, *tmp;
	HASH_ITER(hh, srv->pools, p, tmp)
		if (p->handlers->n == n && memcmp(p->handlers->ids, ids, n * sizeof *ids) == 0)
			return p;
	return pool_new(srv, ids, n);
}

static void pool_free_if_idle(struct server *srv, struct pool *p)
{
	if (!TAILQ_EMPTY(&p->sessions) || p->lent > 0 || p->n_backlog > 0 || p->claiming)
		return;
	for (size_t i = 0; i < p->handlers->n; i++) {
		struct handler *h = handler_find(srv, p->handlers->ids[i]);
		if (h)
			h->pools--;
	}
	HASH_DEL(srv->pools, p);
	pool_handlers_unref(p->handlers);
	free(p);
}

void pool_join(struct session *s)
{
	size_t n = 0;
	if (s->work.pool || s->draining || s->srv->draining)
		return;
	int *ids = matching_ids(s, &n);
	struct pool *p = n > 0 ? pool_for(s->srv, ids, n) : NULL;
	free(ids);
	if (!p)
		return;
	s->work.pool = p;
	TAILQ_INSERT_TAIL(&p->sessions, s, work.pool_link);
	p->slots += s->work.max_concurrency;
	p->used += s->work.open;
	pool_run_backlog(s->srv);
	pool_claim(s->srv);
}

static struct session *pick_session(struct pool *p)
{
	struct session *first = p->next ? p->next : TAILQ_FIRST(&p->sessions), *s = first;
	if (!s)
		return NULL;
	do {
		struct session *after =
			TAILQ_NEXT(s, work.pool_link) ? TAILQ_NEXT(s, work.pool_link) : TAILQ_FIRST(&p->sessions);
		if (s->work.open < s->work.max_concurrency) {
			p->next = after;
			return s;
		}
		s = after;
	} while (s != first);
	return NULL;
}

static struct pool *pick_pool(struct server *srv, int handler_id)
{
	struct pool *p, *tmp, *best = NULL;
	HASH_ITER(hh, srv->pools, p, tmp) {
		if (TAILQ_EMPTY(&p->sessions) || !pool_runs(p, handler_id))
			continue;
		if (!best ||
		    (int)(p->slots - p->used - p->n_backlog) > (int)(best->slots - best->used - best->n_backlog))
			best = p;
	}
	return best;
}

/* Give a claimed step to a session that can run it, keep it for one, or give it back. */
static void place(struct server *srv, struct open_step *o)
{
	struct pool *p = srv->draining && !srv->handing ? NULL : pick_pool(srv, o->claim->handler_id);
	struct session *s = p ? pick_session(p) : NULL;
	if (o->claim->no_memory) {
		step_end(o, OUTCOME_RELEASED, "no memory for the step's input");
	} else if (o->claim->broken) {
		step_end(o, OUTCOME_PERMANENT_ERROR, "the step's input cannot be encoded");
	} else if (o->claim->body.len > srv->opt->max_frame - STEP_OVERHEAD ||
	           step_items(o->claim) > ITEMS_MAX - STEP_OVERHEAD) {
		step_end(
			o, OUTCOME_PERMANENT_ERROR,
			"the step's context and handler initialization are larger than a frame (max_frame, max_items)");
	} else if (s) {
		step_give(s, o);
	} else if (p && !srv->draining) {
		TAILQ_INSERT_TAIL(&p->backlog, o, link);
		p->n_backlog++;
	} else {
		step_end(o, OUTCOME_RELEASED, "no worker of this node can run it any more");
	}
}

/* The pool's backlog when its last session has gone: try the others, else give the steps back. */
static void scatter_backlog(struct server *srv, struct pool *p)
{
	struct open_step *o;
	while (TAILQ_EMPTY(&p->sessions) && (o = TAILQ_FIRST(&p->backlog))) {
		TAILQ_REMOVE(&p->backlog, o, link);
		p->n_backlog--;
		place(srv, o);
	}
}

void pool_leave(struct session *s)
{
	struct pool *p = s->work.pool;
	if (!p)
		return;
	s->work.pool = NULL;
	if (p->next == s)
		p->next = NULL;
	TAILQ_REMOVE(&p->sessions, s, work.pool_link);
	p->slots -= s->work.max_concurrency;
	p->used -= s->work.open;
	scatter_backlog(s->srv, p);
	pool_free_if_idle(s->srv, p);
}

void pool_set_concurrency(struct session *s, unsigned n)
{
	if (s->work.pool)
		s->work.pool->slots = s->work.pool->slots - s->work.max_concurrency + n;
	s->work.max_concurrency = n;
}

void session_open_changed(struct session *s, int by)
{
	s->work.open = (unsigned)((int)s->work.open + by);
	if (s->work.pool)
		s->work.pool->used = (unsigned)((int)s->work.pool->used + by);
}

/* Credits ---------------------------------------------------------------------------------------------------------- */

static unsigned lend(struct pool *p, struct pool_handlers *what, struct req *r, unsigned max)
{
	unsigned n = pool_free(p);
	if (n > max)
		n = max;
	if (n == 0)
		return 0;
	r->offer = (struct offer){pool_handlers_ref(what), n};
	p->lent += n;
	return n;
}

void pool_lend(struct session *s, struct req *r)
{
	if (s->work.pool && !s->srv->draining)
		lend(s->work.pool, s->work.pool->handlers, r, 1);
}

unsigned pool_lend_any(struct server *srv, struct req *r, unsigned max)
{
	struct pool *p, *tmp, *best = NULL;
	HASH_ITER(hh, srv->pools, p, tmp)
		if (!best || pool_free(p) > pool_free(best))
			best = p;
	return best ? lend(best, best->handlers, r, max) : 0;
}

void pool_return(struct server *srv, struct req *r)
{
	struct pool *p = r->offer.pool ? pool_find(srv, r->offer.pool->pool_id) : NULL;
	if (!p)
		return;
	p->lent -= r->offer.credits;
	r->offer.credits = 0;
	if (r->kind == REQ_CLAIM)
		p->claiming = false;
	pool_free_if_idle(srv, p);
}

/* Queues ----------------------------------------------------------------------------------------------------------- */

static void on_due(evutil_socket_t fd, short what, void *arg)
{
	struct handler *h = arg;
	(void)fd, (void)what;
	h->due = 0;
	pool_hint(h->srv, &h->id, 1);
	pool_claim(h->srv);
	server_flush(h->srv);
}

void pool_due(struct server *srv, int handler_id, int64_t in_ms)
{
	struct handler *h = handler_find(srv, handler_id);
	usec_t at = now_mono() + (usec_t)(in_ms > 0 ? in_ms : 0) * USEC_PER_MSEC;
	if (handler_id == STARTS)
		starts_due(srv, in_ms);
	if (!h || (h->due && h->due <= at))
		return;
	h->due = at;
	event_add(&h->timer, &(struct timeval){.tv_sec = (time_t)(in_ms / 1000), .tv_usec = in_ms % 1000 * 1000});
}

void pool_hint(struct server *srv, const int *ids, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct handler *h = handler_find(srv, ids[i]);
		if (ids[i] == STARTS)
			starts_hint(srv);
		if (!h)
			continue;
		h->hinted = true;
		if (h->pools == 0 && !h->missing_since && !h->paused)
			h->missing_since = now_mono();
	}
}

void pool_hint_all(struct server *srv)
{
	struct handler *h, *tmp;
	HASH_ITER(hh, srv->handlers, h, tmp)
		h->hinted = true;
	starts_hint(srv);
}

static void claim_for(struct server *srv, struct pool *p)
{
	unsigned credits = pool_free(p);
	if (credits == 0 || p->claiming)
		return;
	int *ids = malloc((p->handlers->n + 1) * sizeof *ids);
	size_t n = 0;
	for (size_t i = 0; ids && i < p->handlers->n; i++) {
		struct handler *h = handler_find(srv, p->handlers->ids[i]);
		if (h && h->hinted)
			ids[n++] = h->id;
	}
	struct pool_handlers *subset = n > 0 ? pool_handlers_new(p->id, ids, n) : NULL;
	struct req *r = subset ? req_new(REQ_CLAIM, (struct origin){0}) : NULL;
	if (r && lend(p, subset, r, (unsigned)srv->opt->batch_max) > 0) {
		for (size_t i = 0; i < n; i++)
			handler_find(srv, ids[i])->hinted = false; /* the answer says whether there is more */
		p->claiming = true;
		store_submit(srv->store, r);
	} else {
		req_free(r);
	}
	pool_handlers_unref(subset);
	free(ids);
}

void pool_claim(struct server *srv)
{
	struct pool *p, *tmp;
	if (!srv->ever_up || srv->draining)
		return;
	HASH_ITER(hh, srv->pools, p, tmp)
		claim_for(srv, p);
}

/* Giving steps to sessions ----------------------------------------------------------------------------------------- */

void pool_dispatch(struct server *srv, struct claim *claims)
{
	while (claims) {
		struct claim *c = claims;
		claims = c->next;
		journal_hold(srv, c->slot);
		metrics_claimed(srv, c);
		place(srv, step_new(srv, c));
	}
}

void pool_run_backlog(struct server *srv)
{
	struct pool *p, *tmp;
	HASH_ITER(hh, srv->pools, p, tmp) {
		struct session *s;
		struct open_step *o;
		while ((o = TAILQ_FIRST(&p->backlog)) && (s = pick_session(p))) {
			TAILQ_REMOVE(&p->backlog, o, link);
			p->n_backlog--;
			step_give(s, o);
		}
	}
}

void pool_release_backlogs(struct server *srv)
{
	struct pool *p, *tmp;
	HASH_ITER(hh, srv->pools, p, tmp) {
		struct open_step *o;
		while ((o = TAILQ_FIRST(&p->backlog))) {
			TAILQ_REMOVE(&p->backlog, o, link);
			p->n_backlog--;
			step_end(o, OUTCOME_RELEASED, "the daemon is stopping");
		}
	}
}

/* The handler table ------------------------------------------------------------------------------------------------ */

/* The handler if it is new, or was paused or resumed. */
static struct handler *take_handler(struct server *srv, struct handler_row *row)
{
	struct handler *h = handler_find(srv, row->id);
	if (h) {
		bool changed = h->paused != row->paused;
		h->paused = row->paused;
		h->hinted = true;
		h->missing_since = 0;
		return changed ? h : NULL;
	}
	h = need(calloc(1, sizeof *h));
	h->id = row->id;
	h->srv = srv;
	snprintf(h->ns, sizeof h->ns, "%s", row->ns);
	h->callable = TAKE_PTR(row->callable);
	h->paused = row->paused;
	h->hinted = true;
	event_assign(&h->timer, srv->base, -1, 0, on_due, h);
	HASH_ADD_INT(srv->handlers, id, h);
	return h;
}

/* Others keep their pool: looking at every handler for each of thousands of workers would hold up the loop with each
 * new template. */
static bool offers_any(const struct session *s, struct handler *const *changed, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (handler_matches(s, changed[i]))
			return true;
	return false;
}

/* It may be able to run what templates name now. */
static void tell_of_templates(struct session *s)
{
	size_t mark = notify_begin(s, "templates.changed");
	mp_map(&s->wire.out, 0);
	notify_end(s, mark);
}

void handlers_loaded(struct server *srv, struct done *d)
{
	struct session *s, *tmp;
	size_t n = 0;
	unsigned before = HASH_COUNT(srv->handlers);
	cleanup_(cleanup_free) struct handler **changed = need(calloc(d->n_handlers + 1, sizeof *changed));
	for (size_t i = 0; i < d->n_handlers; i++)
		if ((changed[n] = take_handler(srv, &d->handlers[i])))
			n++;
	if (n == 0)
		return;
	bool more = HASH_COUNT(srv->handlers) > before;
	HASH_ITER(hh, srv->sessions, s, tmp) {
		if (s->is_worker && s->state == SESSION_OPEN && s->work.held == 0 && offers_any(s, changed, n)) {
			pool_leave(s);
			pool_join(s);
		}
		if (more && s->work.open_ended && s->state == SESSION_OPEN && s->wire.fd >= 0)
			tell_of_templates(s);
	}
}

void handlers_lacking(struct server *srv, struct done *d)
{
	struct handler *h, *tmp;
	HASH_ITER(hh, srv->handlers, h, tmp)
		h->lacking = false;
	for (size_t i = 0; i < d->n_ids; i++) {
		h = handler_find(srv, d->ids[i]);
		if (h)
			h->lacking = true;
	}
}

bool handler_lacks_workers(const struct handler *h)
{
	return h->lacking && h->missing_since && h->pools == 0;
}

void handlers_report_missing(struct server *srv)
{
	struct handler *h, *tmp;
	usec_t now = now_mono();
	HASH_ITER(hh, srv->handlers, h, tmp) {
		if (!handler_lacks_workers(h) || now - h->missing_since < 2 * USEC_PER_SEC)
			continue;
		if (h->reported && now - h->reported < 60 * USEC_PER_SEC)
			continue;
		h->reported = now;
		log_event(LOG_HANDLER_MISSING, LOG_FIELDS("TASKER_NAMESPACE", h->ns, "TASKER_HANDLER", h->callable),
		          "steps wait for handler %s of namespace %s: no connected worker offers it", h->callable,
		          h->ns);
	}
}

void pools_free(struct server *srv)
{
	struct pool *p, *ptmp;
	struct handler *h, *htmp;
	HASH_ITER(hh, srv->pools, p, ptmp) {
		struct open_step *o;
		while ((o = TAILQ_FIRST(&p->backlog))) {
			TAILQ_REMOVE(&p->backlog, o, link);
			claim_free(o->claim);
			free(o);
		}
		HASH_DEL(srv->pools, p);
		pool_handlers_unref(p->handlers);
		free(p);
	}
	HASH_ITER(hh, srv->handlers, h, htmp) {
		event_del(&h->timer);
		HASH_DEL(srv->handlers, h);
		free(h->callable);
		free(h);
	}
}

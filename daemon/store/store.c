/* Store threads. Each takes, under the lock, all requests of the kind at the head of the queue that have arrived (up to batch_max), writes them with
 * one call of one engine function, and posts one answer; a part of them while others are idle. While it waits for the commit the next batch gathers: no timer, no tuning.
 *
 * A lost connection leaves the outcome of the call unknown. The thread keeps the batch, reconnects, fetches what the call claimed if it committed, and sends the batch again: the
 * engine functions answer a repeat as a repeat. Data that the database refuses is found by halving the batch, and only that request fails. */
#include "daemon/store/store_impl.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include "daemon/base/need.h"
#include "daemon/store/schemas.h"

#define CONNECT_TIMEOUT_MS 10000
#define BATCH_BYTES (16u << 20) /* texts in one call: far below PostgreSQL's limit of 1 GiB a message, and soon committed */
#define SHARE_MIN 64 /* requests that are worth a call of their own */
#define HOT_PER_API 2 /* hot batches after which a waiting API call has its turn */

static void list_push(struct list *l, struct mail *m)
{
	m->next = NULL;
	*l->tail = m;
	l->tail = &m->next;
	l->n++;
}

static void list_init(struct list *l)
{
	*l = (struct list){.tail = &l->head};
}

void store_post(struct store *s, struct done *d)
{
	mailbox_push(s->cfg.answers, &d->mail);
}

bool store_backoff(struct store *s, unsigned tries)
{
	uint32_t rnd = 0;
	uint64_t cap = tries > 6 ? 10000 : 100ull << tries; /* at most 6,400 */
	ssize_t ignored = getrandom(&rnd, sizeof rnd, 0);
	(void)ignored;
	struct pollfd p = {.fd = s->stop_fd, .events = POLLIN};
	return ALIVE_WAITING(poll(&p, 1, (int)(rnd % cap) + 1)) > 0;
}

/* Taking work ------------------------------------------------------------------------------------------------------------ */

/* Up to `max` requests and BATCH_BYTES of the same kind as the first, in order. */
static size_t take_same_kind(struct list *l, struct req **out, size_t max)
{
	size_t n = 0, bytes = 0;
	struct mail **at = &l->head;
	enum req_kind kind = req_of(l->head)->kind;
	while (*at && n < max && bytes < BATCH_BYTES) {
		if (req_of(*at)->kind != kind) {
			at = &(*at)->next;
			continue;
		}
		struct mail *m = *at;
		*at = m->next;
		bytes += req_of(m)->bytes;
		out[n++] = req_of(m);
		l->n--;
	}
	l->tail = &l->head;
	while (*l->tail)
		l->tail = &(*l->tail)->next;
	return n;
}

/* Choose who is to wake: signal its condition, best after the unlock. NULL: nobody waits, whoever is done next looks again. */
static pthread_cond_t *choose_idle(struct store *s)
{
	if (s->n_idle == 0)
		return NULL;
	int i = s->idle[--s->n_idle];
	s->woken[i] = true;
	return &s->wake[i];
}

static void wake_one(struct store *s)
{
	pthread_cond_t *c = choose_idle(s);
	if (c)
		pthread_cond_signal(c);
}

void store_wake_hot(struct store *s)
{
	if (!s->hot.head || s->hot_woken)
		return;
	s->hot_woken = s->n_idle > 0; /* else whoever is done next looks again */
	wake_one(s);
}

static int idle_place(const struct store *s, int index)
{
	int at = 0;
	while (at < s->n_idle && s->idle[at] != index)
		at++;
	return at;
}

void store_set_idle(struct store *s, int index)
{
	if (idle_place(s, index) < s->n_idle)
		return;
	s->idle[s->n_idle++] = index;
	s->woken[index] = false;
}

static void set_busy(struct store *s, int index)
{
	int at = idle_place(s, index);
	if (at == s->n_idle)
		return;
	memmove(s->idle + at, s->idle + at + 1, (size_t)(--s->n_idle - at) * sizeof *s->idle);
}

static void wait_for_work(struct worker *w)
{
	struct store *s = w->s;
	int index = w->index;
	if (!w->lent)
		store_set_idle(s, index);
	while (!s->woken[index])
		ALIVE_WAITING(pthread_cond_wait(&s->wake[index], &s->lock));
	s->woken[index] = false;
}

void store_wake_all(struct store *s)
{
	while (s->n_idle > 0)
		wake_one(s);
	pthread_cond_broadcast(&s->work);
}

/* How many to take of those that wait: a fair part when other threads have nothing to do. Else, with one worker that is given steps and gives all results back together, one
 * thread would always have all of them, and the others none. */
static size_t share_of(const struct store *s)
{
	size_t takers = (size_t)s->n_idle + 1, share = (s->hot.n + takers - 1) / takers;
	share = share < SHARE_MIN ? SHARE_MIN : share;
	return share < (size_t)s->cfg.batch_max ? share : (size_t)s->cfg.batch_max;
}

/* Wait for work. Returns how many requests were taken; *ret_api tells that it is one API or cancel request. 0: stopping and nothing left. */
static size_t take(struct worker *w, struct req **out, bool *ret_api)
{
	struct store *s = w->s;
	size_t n = 0;
	*ret_api = false;
	pthread_mutex_lock(&s->lock);
	for (;;) {
		if (w->given_back) {
			w->given_back = false;
			out[0] = w->lane->req;
			n = 1;
			break;
		}
		if (w->lent) {
			wait_for_work(w);
			continue;
		}
		bool may_api = s->api.head && (!s->api_busy || s->n_threads == 1);
		bool api_first = may_api && s->hot_since_api >= HOT_PER_API;
		if (s->adopted && s->hot.head && !api_first) {
			s->hot_since_api++;
			n = take_same_kind(&s->hot, out, share_of(s));
			break;
		}
		if (s->adopted && may_api) {
			struct mail *m = s->api.head;
			s->api.head = m->next;
			if (!s->api.head)
				s->api.tail = &s->api.head;
			s->api.n--;
			s->api_busy = true;
			s->hot_since_api = 0;
			*ret_api = true;
			out[0] = req_of(m);
			n = 1;
			break;
		}
		if (s->stopping)
			break;
		wait_for_work(w);
	}
	set_busy(s, w->index);
	if (n > 0) { /* another goes on with what is left */
		s->hot_woken = false;
		store_wake_hot(s);
	}
	pthread_mutex_unlock(&s->lock);
	return n;
}

static void api_finished(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	s->api_busy = false;
	if (s->api.head)
		wake_one(s);
	pthread_mutex_unlock(&s->lock);
}

static int take_slot(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	int slot = s->n_slots > 0 ? s->slots[--s->n_slots] : s->next_slot++;
	pthread_mutex_unlock(&s->lock);
	return slot;
}

void store_forget(struct store *s, int slot)
{
	pthread_mutex_lock(&s->lock);
	if (s->n_slots == s->cap_slots) {
		size_t cap = s->cap_slots ? s->cap_slots * 2 : 64;
		int *p = realloc(s->slots, cap * sizeof *p);
		if (p) {
			s->slots = p;
			s->cap_slots = cap;
		}
	}
	if (s->n_slots < s->cap_slots) /* else the slot is not used again before the next start: harmless */
		s->slots[s->n_slots++] = slot;
	pthread_mutex_unlock(&s->lock);
}

/* Connections ------------------------------------------------------------------------------------------------------------ */

void store_conn_set(struct store *s, int slot, PGconn *c)
{
	pthread_mutex_lock(&s->lock);
	s->conns[slot] = c;
	pthread_mutex_unlock(&s->lock);
}

void store_disconnect(struct worker *w)
{
	store_conn_set(w->s, w->index, NULL);
	w->conn = db_close(w->conn);
}

int store_connect_once(struct worker *w, struct err *e)
{
	enum db_failure why;
	if (w->conn)
		return 0;
	int rc = db_connect(w->s->conninfo, w->s->cfg.pooled ? CONN_POOLED : CONN_HOT, CONNECT_TIMEOUT_MS, w->s->stop_fd, &w->conn, e);
	if (rc == 0)
		store_conn_set(w->s, w->index, w->conn);
	if (rc == 0 && !w->s->cfg.pooled && (rc = hot_attach(w->conn, w->settings, &why, e)) < 0)
		store_disconnect(w);
	return rc;
}

/* Connect if need be; keeps trying until it works (true) or the store stops (false). */
static bool ensure_connected(struct worker *w)
{
	struct err e;
	for (unsigned tries = 0; store_connect_once(w, &e) < 0; tries++)
		if (store_backoff(w->s, tries < LOST_TRIES ? tries : LOST_TRIES))
			return false;
	return true;
}

static void set_stuck(struct store *s, bool stuck, const struct err *e)
{
	if (atomic_exchange(&s->stuck, stuck) == stuck)
		return;
	struct done *d = done_new(stuck ? DONE_STUCK : DONE_UNSTUCK);
	if (!d)
		return;
	if (e)
		d->err = *e;
	store_post(s, d);
}

/* The outage is over for this thread once it is connected again. Waits for the outcome `why` of a failed call to pass; false: stopping, give up. */
static bool recover_from(struct worker *w, enum db_failure why, const struct err *e, unsigned tries)
{
	atomic_fetch_add(&w->s->n_retries, 1);
	if ((tries & (tries - 1)) == 0)
		log_warn("database: %s%s%s; keeping the batch and trying again", e->text, e->sqlstate[0] ? " SQLSTATE " : "", e->sqlstate);
	if (why == DB_LOST) {
		store_disconnect(w);
		atomic_fetch_add(&w->s->n_reconnects, 1);
	}
	if (why == DB_FULL)
		set_stuck(w->s, true, e);
	unsigned most = why == DB_LOST ? LOST_TRIES : FULL_TRIES;
	if ((why != DB_RETRY || tries > 3) && store_backoff(w->s, tries < most ? tries : most))
		return false;
	return ensure_connected(w);
}

static void post_fatal(struct store *s, const struct err *e)
{
	struct done *d = done_new(DONE_FATAL);
	if (!d)
		return;
	d->err = *e;
	store_post(s, d);
}

/* Hot batches ------------------------------------------------------------------------------------------------------------ */

/* Move the lists of `from` into `into` and free `from`. */
static void merge(struct done *into, struct done *from)
{
	struct claim **c = &into->claims;
	while (*c)
		c = &(*c)->next;
	*c = from->claims;
	struct settled **t = &into->settled;
	while (*t)
		t = &(*t)->next;
	*t = from->settled;
	struct cancelled **x = &into->cancelled;
	while (*x)
		x = &(*x)->next;
	*x = from->cancelled;
	struct due **u = &into->due;
	while (*u)
		u = &(*u)->next;
	*u = from->due;
	for (size_t i = 0; i < from->n_ids; i++)
		done_add_id(into, from->ids[i]);
	from->claims = NULL;
	from->settled = NULL;
	from->cancelled = NULL;
	from->due = NULL;
	done_append_events(into, TAKE_PTR(from->fired));
	done_free(from);
}

typedef int hot_fn(struct worker *w, const struct hot_call *call, struct req **reqs, size_t n, struct done *out, enum db_failure *why, struct err *e);

static int do_run(struct worker *w, const struct hot_call *call, struct req **reqs, size_t n, struct done *out, enum db_failure *why, struct err *e)
{
	return hot_run(w->hot, w->conn, call, reqs, n, out, why, e);
}

static int do_recover(struct worker *w, const struct hot_call *call, struct req **reqs, size_t n, struct done *out, enum db_failure *why, struct err *e)
{
	(void)reqs, (void)n;
	return hot_recover(w->hot, w->conn, call, out, why, e);
}

static int do_adopt(struct worker *w, const struct hot_call *call, struct req **reqs, size_t n, struct done *out, enum db_failure *why, struct err *e)
{
	(void)reqs, (void)n;
	return hot_adopt(w->hot, w->conn, call, out, why, e);
}

static int do_cancel(struct worker *w, const struct hot_call *call, struct req **reqs, size_t n, struct done *out, enum db_failure *why, struct err *e)
{
	(void)n;
	return hot_cancel(w->hot, w->conn, call, reqs[0], out, why, e);
}

static int do_states(struct worker *w, const struct hot_call *call, struct req **reqs, size_t n, struct done *out, enum db_failure *why, struct err *e)
{
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = hot_states(w->hot, w->conn, call, reqs[i], out, why, e);
	return rc;
}

/* One call into a scratch answer, merged into `out` only when it worked. */
static int attempt(struct worker *w, hot_fn *fn, const struct hot_call *call, struct req **reqs, size_t n, struct done *out, enum db_failure *why, struct err *e)
{
	struct done *scratch = done_new(DONE_BATCH);
	if (!scratch) {
		*why = DB_FULL;
		return err_set(e, -ENOMEM, "internal", "out of memory");
	}
	int rc = w->s->cfg.pooled ? store_begin(w, why, e) : 0;
	if (rc == 0)
		rc = fn(w, call, reqs, n, scratch, why, e);
	if (w->s->cfg.pooled)
		rc = store_end(w, rc, why, e);
	if (rc < 0)
		done_free(scratch);
	else
		merge(out, scratch);
	return rc;
}

void store_fail(struct req **reqs, size_t n, const struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		reqs[i]->failed = true;
		reqs[i]->err = *e;
	}
}

struct hot_call store_new_call(struct worker *w)
{
	int slot = take_slot(w->s); /* first, so that the number is larger than that of whoever had the slot before */
	return (struct hot_call){
		.node = &w->s->node,
		.seq = atomic_fetch_add(&w->s->next_seq, 1),
		.slot = slot,
		.notify = atomic_load(&w->s->notify),
		.max_body = w->s->cfg.max_body,
	};
}

/* The call is over: its slot is free, unless some of the claims are in it. */
void store_end_call(struct worker *w, const struct hot_call *call, const struct claim *claims)
{
	while (claims && claims->slot != call->slot)
		claims = claims->next;
	if (!claims)
		store_forget(w->s, call->slot);
}

/* A create that waited for another transaction, one of an application perhaps that takes its time: it alone fails, the others of its batch go on. */
static bool held_elsewhere(struct req **reqs, struct err *e)
{
	if (reqs[0]->kind != REQ_CREATE || strcmp(e->sqlstate, "55P03") != 0)
		return false;
	err_set(e, -EAGAIN, "overloaded", "another transaction that has not ended yet makes a task with the same identity, or the first one of the template");
	return true;
}

/* Write the batch, whatever happens meanwhile. Stopping without a database leaves the requests failed with database_unavailable. `unknown`: the call may have been made
 * and committed already. */
static void run_call(struct worker *w, hot_fn *fn, struct hot_call call, bool unknown, struct req **reqs, size_t n, struct done *out)
{
	for (unsigned tries = 0;; tries++) {
		struct err e = {0};
		enum db_failure why = DB_LOST;
		int rc = ensure_connected(w) ? 0 : -ECANCELED;
		if (rc < 0) {
			err_set(&e, rc, "database_unavailable", "the daemon stopped before the database answered");
			store_fail(reqs, n, &e);
			return;
		}
		if (unknown) {
			rc = attempt(w, do_recover, &call, NULL, 0, out, &why, &e);
			if (rc == 0) { /* its row keeps a late twin of the call out: calls to come have larger numbers */
				store_end_call(w, &call, out->claims);
				unknown = false;
				out->replayed = true;
				call = store_new_call(w);
			}
		}
		if (rc == 0) {
			rc = attempt(w, fn, &call, reqs, n, out, &why, &e);
			unknown = rc < 0 && why == DB_LOST;
		}
		if (rc == 0) {
			store_end_call(w, &call, out->claims);
			set_stuck(w->s, false, NULL);
			return;
		}
		if (held_elsewhere(reqs, &e))
			why = DB_REFUSED;
		if (why == DB_FENCED) {
			post_fatal(w->s, &e);
			store_fail(reqs, n, &e);
			return;
		}
		if (why == DB_REFUSED)
			store_forget(w->s, call.slot);
		if (why == DB_REFUSED && n > 1) {
			run_call(w, fn, store_new_call(w), false, reqs, n / 2, out);
			run_call(w, fn, store_new_call(w), false, reqs + n / 2, n - n / 2, out);
			return;
		}
		if (why == DB_REFUSED) {
			store_fail(reqs, n, &e);
			return;
		}
		if (!recover_from(w, why, &e, tries)) {
			store_fail(reqs, n, &e);
			return;
		}
	}
}

void store_count(struct store *s, enum req_kind kind, size_t n)
{
	_Atomic uint64_t *c = kind == REQ_RESULT ? &s->n_results : kind == REQ_CREATE ? &s->n_creates : kind == REQ_CLAIM ? &s->n_claims : &s->n_api;
	atomic_fetch_add(c, n);
	atomic_fetch_add(&s->n_batches, 1);
}

void store_note_call(struct done *d, enum req_kind kind, size_t n, usec_t began)
{
	d->call = kind;
	d->n_call = (unsigned)n;
	d->took = now_mono() - began;
}

/* Creates whose contexts are to be checked against a template that only the call could name; see schemas.h. */
static void run_unchecked(struct worker *w, struct req **reqs, size_t n, struct done *out)
{
	struct err e;
	cleanup_(cleanup_free) struct req **again = malloc(n * sizeof(struct req *));
	size_t left = again ? schemas_unchecked(reqs, n, again) : 0;
	for (int rounds = 0; left > 0 && rounds < 8; rounds++) {
		run_call(w, do_run, store_new_call(w), false, again, left, out);
		left = schemas_unchecked(again, left, again);
	}
	err_set(&e, 0, "overloaded", again ? "the template is being replaced all the time" : "out of memory");
	if (again)
		store_fail(again, left, &e);
	else
		store_fail(reqs, n, &e);
}

static bool any_unchecked(struct req **reqs, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (reqs[i]->kind == REQ_CREATE && strcmp(reqs[i]->status, "unchecked") == 0)
			return true;
	return false;
}

/* Threads ---------------------------------------------------------------------------------------------------------------- */

/* The row that the loop has received, read by the thread. */
static int do_finish(struct worker *w, const struct hot_call *call, struct req **reqs, size_t n, struct done *out, enum db_failure *why, struct err *e)
{
	(void)n;
	return one_finish(w->hot, w->conn, call, &w->lane->one, reqs[0], w->lane->result, out, why, e) == 1 ? 0 : -EIO;
}

/* What the loop has begun over this thread's connection is ended here. */
static void run_lane(struct worker *w, struct done *d)
{
	struct lane *lane = w->lane;
	struct err e;
	enum db_failure why;
	if (lane->end == LANE_FINISH && attempt(w, do_finish, &lane->call, &lane->req, 1, d, &why, &e) == 0) {
		store_end_call(w, &lane->call, d->claims);
	} else {
		if (lane->end == LANE_UNKNOWN) {
			atomic_fetch_add(&w->s->n_reconnects, 1);
			store_disconnect(w);
		}
		run_call(w, do_run, lane->call, lane->end != LANE_RERUN, &lane->req, 1, d);
	}
	w->lane = NULL;
	PQclear(lane->result);
	free(lane);
}

static void serve(struct worker *w, struct req **reqs, size_t n, bool api)
{
	struct done *d = need(done_new(DONE_BATCH));
	enum req_kind kind = reqs[0]->kind;
	usec_t began = w->lane ? w->lane->began : now_mono();
	if (w->lane)
		run_lane(w, d);
	else if (kind == REQ_API)
		store_run_api(w, reqs[0]);
	else
		run_call(w, kind == REQ_CANCEL ? do_cancel : kind == REQ_STATES ? do_states : do_run, store_new_call(w), false, reqs, n, d);
	if (any_unchecked(reqs, n))
		run_unchecked(w, reqs, n, d);
	if (api)
		api_finished(w->s);
	store_count(w->s, kind, n);
	store_note_call(d, kind, n, began);
	struct mail **tail = &d->reqs;
	for (size_t i = 0; i < n; i++) {
		reqs[i]->mail.next = NULL;
		*tail = &reqs[i]->mail;
		tail = &reqs[i]->mail.next;
	}
	/* Idle already when the answer is read: what follows from it comes back to this thread. */
	pthread_mutex_lock(&w->s->lock);
	store_set_idle(w->s, w->index);
	pthread_mutex_unlock(&w->s->lock);
	store_post(w->s, d);
}

/* The first thread to be connected after registration fetches what the node held before, so that nothing is recorded or dispatched before the loop knows. */
static void adopt(struct worker *w)
{
	pthread_mutex_lock(&w->s->lock);
	while (!w->s->registered && !w->s->stopping)
		ALIVE_WAITING(pthread_cond_wait(&w->s->work, &w->s->lock));
	bool mine = w->s->registered && !w->s->adopted && !w->s->api_busy;
	if (mine)
		w->s->api_busy = true;
	pthread_mutex_unlock(&w->s->lock);
	if (!mine)
		return;
	for (unsigned tries = 0;; tries++) {
		struct err e = {0};
		enum db_failure why = DB_LOST;
		struct done *d = done_new(DONE_ADOPTED);
		struct hot_call call = store_new_call(w);
		int rc = d && ensure_connected(w) ? attempt(w, do_adopt, &call, NULL, 0, d, &why, &e) : -ECANCELED;
		if (rc == 0) {
			store_post(w->s, d);
			break;
		}
		done_free(d);
		if (why == DB_FENCED || why == DB_REFUSED) {
			post_fatal(w->s, &e);
			break;
		}
		if (!recover_from(w, why, &e, tries))
			break;
	}
	pthread_mutex_lock(&w->s->lock);
	w->s->api_busy = false;
	w->s->adopted = true;
	store_wake_all(w->s);
	pthread_mutex_unlock(&w->s->lock);
}

static void *thread_main(void *arg)
{
	struct worker w = {.s = arg, .hot = hot_new(((struct store *)arg)->cfg.pooled, ((struct store *)arg)->cfg.series)};
	hot_settings_for(w.s->cfg.pooled, w.s->cfg.max_body, w.s->cfg.max_branches, w.settings, sizeof w.settings);
	pthread_mutex_lock(&w.s->lock);
	w.index = w.s->n_started++;
	w.s->workers[w.index] = &w;
	pthread_mutex_unlock(&w.s->lock);
	alive_attach(&w.s->alive[w.index]);
	struct req **reqs = need(calloc((size_t)w.s->cfg.batch_max, sizeof *reqs));
	need(w.hot);
	adopt(&w);
	bool api;
	for (size_t n; (n = take(&w, reqs, &api)) > 0;)
		serve(&w, reqs, n, api);
	store_disconnect(&w);
	hot_free(w.hot);
	free(reqs);
	pthread_mutex_lock(&w.s->lock);
	w.s->n_exited++;
	pthread_mutex_unlock(&w.s->lock);
	alive_attach(NULL);
	return NULL;
}

size_t store_bytes(struct store *s)
{
	return atomic_load(&s->bytes);
}

void store_released(struct store *s, const struct req *r)
{
	atomic_fetch_sub(&s->bytes, r->bytes);
	s->unanswered--;
}

void store_submit(struct store *s, struct req *r)
{
	r->bytes = req_bytes(r);
	atomic_fetch_add(&s->bytes, r->bytes);
	s->unanswered++;
	pthread_mutex_lock(&s->lock);
	bool api = r->kind == REQ_API || r->kind == REQ_CANCEL;
	list_push(api ? &s->api : &s->hot, &r->mail);
	pthread_cond_t *wake = api ? choose_idle(s) : NULL;
	pthread_mutex_unlock(&s->lock);
	if (wake)
		pthread_cond_signal(wake);
}

bool store_is_up(struct store *s)
{
	return atomic_load(&s->up);
}

const unsigned char *store_secret(struct store *s)
{
	return s->node.secret;
}

size_t store_depth(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	size_t n = s->hot.n + s->api.n;
	pthread_mutex_unlock(&s->lock);
	return n;
}

bool store_stalled(const struct store *s, usec_t limit)
{
	for (size_t i = 0; i < sizeof s->alive / sizeof *s->alive; i++)
		if (alive_stalled(&s->alive[i], limit))
			return true;
	return false;
}

void store_set_load(struct store *s, const struct store_load *l)
{
	pthread_mutex_lock(&s->lock);
	s->load = *l;
	pthread_mutex_unlock(&s->lock);
}

size_t store_unanswered(struct store *s)
{
	return s->unanswered;
}

void store_keep_lease(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	s->keep_lease = true;
	pthread_mutex_unlock(&s->lock);
}

void store_set_draining(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	s->draining = true;
	pthread_mutex_unlock(&s->lock);
}

void store_get_stats(struct store *s, struct store_stats *ret)
{
	*ret = (struct store_stats){
		.batches = atomic_load(&s->n_batches),
		.results = atomic_load(&s->n_results),
		.creates = atomic_load(&s->n_creates),
		.claims = atomic_load(&s->n_claims),
		.api = atomic_load(&s->n_api),
		.reconnects = atomic_load(&s->n_reconnects),
		.retries = atomic_load(&s->n_retries),
		.reclaims = atomic_load(&s->n_reclaims),
		.reclaimed_steps = atomic_load(&s->n_reclaimed_steps),
		.leases_lost = atomic_load(&s->n_leases_lost),
		.late = atomic_load(&s->n_late),
		.removed = atomic_load(&s->n_removed),
	};
}

void store_get_state(struct store *s, struct store_state *ret)
{
	pthread_mutex_lock(&s->lock);
	*ret = (struct store_state){.threads = (unsigned)s->n_threads, .idle = (unsigned)s->n_idle, .hot = s->hot.n, .api = s->api.n, .bytes = atomic_load(&s->bytes)};
	pthread_mutex_unlock(&s->lock);
}

/* Threads inherit a mask with every signal blocked: the loop handles them. */
static int spawn(struct store *s, pthread_t *t, void *(*fn)(void *))
{
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int r = pthread_create(t, NULL, fn, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -r;
}

int store_start(const struct store_config *cfg, struct store **ret, struct err *e)
{
	struct store *s = calloc(1, sizeof *s);
	if (!s)
		return err_set(e, -ENOMEM, "internal", "out of memory");
	s->cfg = *cfg;
	s->conninfo = strdup(cfg->conninfo);
	s->session_conninfo = strdup(cfg->session_conninfo);
	s->node_name = strdup(cfg->node_name);
	s->version = strdup(cfg->version);
	s->retention = strdup(cfg->retention);
	s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	list_init(&s->hot);
	list_init(&s->api);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->work, NULL);
	for (size_t i = 0; i < sizeof s->wake / sizeof *s->wake; i++)
		pthread_cond_init(&s->wake[i], NULL);
	if (!s->conninfo || !s->session_conninfo || !s->node_name || !s->version || !s->retention || s->stop_fd < 0) {
		store_destroy(s);
		return err_set(e, -ENOMEM, "internal", "out of memory or descriptors");
	}
	int r = spawn(s, &s->presence, presence_main);
	s->presence_started = r == 0;
	if (r == 0)
		r = spawn(s, &s->keeper, keeper_main);
	s->keeper_started = s->presence_started && r == 0;
	for (; r == 0 && s->n_threads < cfg->threads; s->n_threads++)
		if ((r = spawn(s, &s->threads[s->n_threads], thread_main)) < 0)
			break;
	if (r < 0) {
		store_stop(s, 0);
		return err_set(e, r, "internal", "cannot start a thread: %s", strerror(-r));
	}
	*ret = s;
	return 0;
}

/* One call of an engine function for a batch of requests, whatever happens meanwhile.
 *
 * A lost connection leaves the outcome of the call unknown. The thread keeps the batch, reconnects, fetches what the
 * call claimed if it committed, and sends the batch again: the engine functions answer a repeat as a repeat. Data that
 * the database refuses is found by halving the batch, and only that request fails. */
#include "daemon/store/store_impl.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/random.h>
#include "daemon/base/log.h"

#define CONNECT_TIMEOUT_MS 10000

/* Connections ------------------------------------------------------------------------------------------------------ */

void store_conn_set(struct store *s, int slot, PGconn *c)
{
	pthread_mutex_lock(&s->lock);
	s->conns[slot] = c;
	s->backends[slot] = PQbackendPID(c);
	s->blocked[slot][0] = '\0';
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
	alive_call("connecting");
	int rc = db_connect(w->s->conninfo, w->s->cfg.pooled ? CONN_POOLED : CONN_HOT, CONNECT_TIMEOUT_MS,
	                    w->s->stop_fd, &w->conn, e);
	if (rc == 0)
		store_conn_set(w->s, w->index, w->conn);
	if (rc == 0 && !w->s->cfg.pooled && (rc = hot_attach(w->conn, w->settings, &why, e)) < 0)
		store_disconnect(w);
	return rc;
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

bool store_ensure_connected(struct worker *w)
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

/* The outage is over for this thread once it is connected again. Waits for the outcome `why` of a failed call to pass;
 * false: stopping, give up. */
bool store_recover_from(struct worker *w, enum db_failure why, const struct err *e, unsigned tries)
{
	atomic_fetch_add(&w->s->n_retries, 1);
	if ((tries & (tries - 1)) == 0)
		log_warn("database: %s%s%s; keeping the batch and trying again", e->text,
		         e->sqlstate[0] ? " SQLSTATE " : "", e->sqlstate);
	if (why == DB_LOST) {
		store_disconnect(w);
		atomic_fetch_add(&w->s->n_reconnects, 1);
	}
	if (why == DB_FULL)
		set_stuck(w->s, true, e);
	unsigned most = why == DB_LOST ? LOST_TRIES : FULL_TRIES;
	if ((why != DB_RETRY || tries > 3) && store_backoff(w->s, tries < most ? tries : most))
		return false;
	return store_ensure_connected(w);
}

void store_post_fatal(struct store *s, const struct err *e)
{
	struct done *d = done_new(DONE_FATAL);
	if (!d)
		return;
	d->err = *e;
	store_post(s, d);
}

/* Slots of the journal --------------------------------------------------------------------------------------------- */

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

void store_end_call(struct worker *w, const struct hot_call *call, const struct claim *claims)
{
	while (claims && claims->slot != call->slot)
		claims = claims->next;
	if (!claims)
		store_forget(w->s, call->slot);
}

/* Calls ------------------------------------------------------------------------------------------------------------ */

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

int store_attempt(struct worker *w, hot_fn *fn, const struct hot_call *call, struct req **reqs, size_t n,
                  struct done *out, enum db_failure *why, struct err *e)
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

static int do_recover(struct worker *w, const struct hot_call *call, struct req **reqs, size_t n, struct done *out,
                      enum db_failure *why, struct err *e)
{
	(void)reqs, (void)n;
	return hot_recover(w->hot, w->conn, call, out, why, e);
}

void store_fail(struct req **reqs, size_t n, const struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		reqs[i]->failed = true;
		reqs[i]->err = *e;
	}
}

/* A create that waited for another transaction, one of an application perhaps that takes its time: it alone fails, the
 * others of its batch go on. */
static bool held_elsewhere(struct req **reqs, struct err *e)
{
	if (reqs[0]->kind != REQ_CREATE || strcmp(e->sqlstate, "55P03") != 0)
		return false;
	err_set(e, -EAGAIN, "overloaded",
	        "another transaction that has not ended yet makes a task with the same identity, or the first one of the template");
	return true;
}

void store_call(struct worker *w, hot_fn *fn, struct hot_call call, bool unknown, struct req **reqs, size_t n,
                struct done *out)
{
	for (unsigned tries = 0;; tries++) {
		struct err e = {0};
		enum db_failure why = DB_LOST;
		int rc = store_ensure_connected(w) ? 0 : -ECANCELED;
		if (rc < 0) {
			err_set(&e, rc, "database_unavailable", "the daemon stopped before the database answered");
			store_fail(reqs, n, &e);
			return;
		}
		if (unknown) {
			rc = store_attempt(w, do_recover, &call, NULL, 0, out, &why, &e);
			/* its row keeps a late twin of the call out: calls to come have larger numbers */
			if (rc == 0) {
				store_end_call(w, &call, out->claims);
				unknown = false;
				out->replayed = true;
				call = store_new_call(w);
			}
		}
		if (rc == 0) {
			rc = store_attempt(w, fn, &call, reqs, n, out, &why, &e);
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
			store_post_fatal(w->s, &e);
			store_fail(reqs, n, &e);
			return;
		}
		if (why == DB_REFUSED)
			store_forget(w->s, call.slot);
		if (why == DB_REFUSED && n > 1) {
			store_call(w, fn, store_new_call(w), false, reqs, n / 2, out);
			store_call(w, fn, store_new_call(w), false, reqs + n / 2, n - n / 2, out);
			return;
		}
		if (why == DB_REFUSED) {
			store_fail(reqs, n, &e);
			return;
		}
		if (!store_recover_from(w, why, &e, tries)) {
			store_fail(reqs, n, &e);
			return;
		}
	}
}

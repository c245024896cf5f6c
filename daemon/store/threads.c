/* Store threads: each takes what waits (queue.c), writes it with one call (calls.c), and posts one answer. */
#include "daemon/store/store_impl.h"

#include <errno.h>
#include <string.h>
#include "daemon/base/need.h"
#include "daemon/store/schemas.h"

/* What a call does ------------------------------------------------------------------------------------------------- */

static int do_run(struct worker *w, const struct hot_call *call, struct req **reqs, size_t n, struct done *out,
                  enum db_failure *why, struct err *e)
{
	return hot_run(w->hot, w->conn, call, reqs, n, out, why, e);
}

static int do_adopt(struct worker *w, const struct hot_call *call, struct req **reqs, size_t n, struct done *out,
                    enum db_failure *why, struct err *e)
{
	(void)reqs, (void)n;
	return hot_adopt(w->hot, w->conn, call, out, why, e);
}

static int do_cancel(struct worker *w, const struct hot_call *call, struct req **reqs, size_t n, struct done *out,
                     enum db_failure *why, struct err *e)
{
	(void)n;
	return hot_cancel(w->hot, w->conn, call, reqs[0], out, why, e);
}

static int do_states(struct worker *w, const struct hot_call *call, struct req **reqs, size_t n, struct done *out,
                     enum db_failure *why, struct err *e)
{
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = hot_states(w->hot, w->conn, call, reqs[i], out, why, e);
	return rc;
}

/* The row that the loop has received, read by the thread. */
static int do_finish(struct worker *w, const struct hot_call *call, struct req **reqs, size_t n, struct done *out,
                     enum db_failure *why, struct err *e)
{
	(void)n;
	return one_finish(w->hot, w->conn, call, &w->lane->one, reqs[0], w->lane->result, out, why, e) == 1 ? 0 : -EIO;
}

/* A batch ---------------------------------------------------------------------------------------------------------- */

/* Creates whose contexts are to be checked against a template that only the call could name; see schemas.h. */
static void run_unchecked(struct worker *w, struct req **reqs, size_t n, struct done *out)
{
	struct err e;
	cleanup_(cleanup_free) struct req **again = malloc(n * sizeof(struct req *));
	size_t left = again ? schemas_unchecked(reqs, n, again) : 0;
	for (int rounds = 0; left > 0 && rounds < 8; rounds++) {
		store_call(w, do_run, store_new_call(w), false, again, left, out);
		left = schemas_unchecked(again, left, again);
	}
	err_set(&e, 0, "overloaded", again ? "the template is being replaced all the time" : "out of memory");
	if (again)
		store_fail(again, left, &e);
	else
		store_fail(reqs, n, &e);
}

/* What the first call of a batch has left. */
static void run_left(struct worker *w, struct req **reqs, size_t n, struct done *out)
{
	cleanup_(cleanup_free) struct req **again = need(malloc(n * sizeof(struct req *)));
	size_t left = many_left(reqs, n, again);
	if (left > 0)
		store_call(w, do_run, store_new_call(w), false, again, left, out);
}

static bool any_unchecked(struct req **reqs, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (reqs[i]->kind == REQ_CREATE && strcmp(reqs[i]->status, "unchecked") == 0)
			return true;
	return false;
}

/* What the loop has begun over this thread's connection is ended here. */
static void run_lane(struct worker *w, struct done *d)
{
	struct lane *lane = w->lane;
	struct err e;
	enum db_failure why;
	if (lane->end == LANE_FINISH && store_attempt(w, do_finish, &lane->call, &lane->req, 1, d, &why, &e) == 0) {
		store_end_call(w, &lane->call, d->claims);
	} else {
		if (lane->end == LANE_UNKNOWN) {
			atomic_fetch_add(&w->s->n_reconnects, 1);
			store_disconnect(w);
		}
		store_call(w, do_run, lane->call, lane->end != LANE_RERUN, &lane->req, 1, d);
	}
	w->lane = NULL;
	PQclear(lane->result);
	free(lane);
}

void store_count(struct store *s, enum req_kind kind, size_t n)
{
	_Atomic uint64_t *c = kind == REQ_RESULT   ? &s->n_results
	                      : kind == REQ_CREATE ? &s->n_creates
	                      : kind == REQ_CLAIM  ? &s->n_claims
	                                           : &s->n_api;
	atomic_fetch_add(c, n);
	atomic_fetch_add(&s->n_batches, 1);
}

void store_note_call(struct done *d, enum req_kind kind, size_t n, usec_t began)
{
	d->call = kind;
	d->n_call = (unsigned)n;
	d->took = now_mono() - began;
}

static void serve(struct worker *w, struct req **reqs, size_t n, bool api)
{
	struct done *d = need(done_new(DONE_BATCH));
	enum req_kind kind = reqs[0]->kind;
	bool again = false;
	usec_t began = w->lane ? w->lane->began : now_mono();
	if (w->lane)
		run_lane(w, d);
	else if (kind == REQ_API)
		again = store_run_api(w, reqs[0]);
	else
		store_call(w,
		           kind == REQ_CANCEL   ? do_cancel
		           : kind == REQ_STATES ? do_states
		                                : do_run,
		           store_new_call(w), false, reqs, n, d);
	if (n > 1)
		run_left(w, reqs, n, d);
	if (again && store_api_again(w, reqs[0])) {
		done_free(d);
		return;
	}
	if (any_unchecked(reqs, n))
		run_unchecked(w, reqs, n, d);
	if (api)
		store_api_finished(w);
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

/* A thread --------------------------------------------------------------------------------------------------------- */

/* The first thread to be connected after registration fetches what the node held before, so that nothing is recorded or
 * dispatched before the loop knows. */
static void adopt(struct worker *w)
{
	pthread_mutex_lock(&w->s->lock);
	while (!w->s->registered && !w->s->stopping)
		ALIVE_WAITING(pthread_cond_wait(&w->s->work, &w->s->lock));
	bool mine = w->s->registered && !w->s->adopted && w->s->api_running == 0;
	if (mine)
		w->s->api_running++;
	pthread_mutex_unlock(&w->s->lock);
	if (!mine)
		return;
	for (unsigned tries = 0;; tries++) {
		struct err e = {0};
		enum db_failure why = DB_LOST;
		struct done *d = done_new(DONE_ADOPTED);
		struct hot_call call = store_new_call(w);
		int rc = d && store_ensure_connected(w) ? store_attempt(w, do_adopt, &call, NULL, 0, d, &why, &e)
		                                        : -ECANCELED;
		if (rc == 0) {
			store_post(w->s, d);
			break;
		}
		done_free(d);
		if (why == DB_FENCED || why == DB_REFUSED) {
			store_post_fatal(w->s, &e);
			break;
		}
		if (!store_recover_from(w, why, &e, tries))
			break;
	}
	pthread_mutex_lock(&w->s->lock);
	w->s->api_running--;
	w->s->adopted = true;
	store_wake_all(w->s);
	pthread_mutex_unlock(&w->s->lock);
}

void *store_thread_main(void *arg)
{
	struct worker w = {.s = arg,
	                   .hot = hot_new(((struct store *)arg)->cfg.pooled, ((struct store *)arg)->cfg.series)};
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
	for (size_t n; (n = store_take(&w, reqs, &api)) > 0;)
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

/* The lane: when nothing else is going on, the loop sends a single simple request itself, over the connection of a
 * thread that sleeps, and reads the answer when it has come. That saves two changes of thread, which on an idle machine
 * cost as much as the request. While the database is at work, the loop makes what the usual answer leads to, so that it
 * is only to be sent then. Whatever is not the usual course is given back to the thread. */
#include "daemon/store/schemas.h"
#include "daemon/store/store_impl.h"

#include <stdlib.h>

#define LANE_BYTES (32u << 10) /* of texts: sending them does not block, the socket is empty and takes more */

/* With the lock held: a request that may be sent by the loop, taken off the list, and the thread to borrow from. A
 * thread is idle from before it posts its answer: it may be on its way to sleep, and finds there that it is lent. */
static struct worker *borrow(struct store *s, struct req **ret)
{
	struct req *q = s->hot.n == 1 ? req_of(s->hot.head) : NULL;
	if (!q || s->lent || s->cfg.pooled || !s->adopted || s->stopping || s->n_idle < s->n_threads ||
	    q->bytes > LANE_BYTES || (q->kind != REQ_RESULT && q->kind != REQ_CREATE))
		return NULL;
	struct worker *w = s->workers[s->idle[s->n_idle - 1]];
	if (!w || !w->conn || PQstatus(w->conn) != CONNECTION_OK)
		return NULL;
	s->n_idle--;
	w->lent = true;
	s->hot.head = NULL;
	s->hot.tail = &s->hot.head;
	s->hot.n = 0;
	*ret = q;
	return w;
}

/* The thread takes over. */
static void give_back(struct store *s, enum lane_end end)
{
	struct worker *w = s->lent;
	s->lent = NULL;
	w->lane->end = end;
	w->lane->foreseen = done_free(w->lane->foreseen);
	w->lane->one.foreseen = false;
	pthread_mutex_lock(&s->lock);
	w->lent = false;
	w->given_back = true;
	s->woken[w->index] = true;
	pthread_cond_signal(&s->wake[w->index]);
	pthread_mutex_unlock(&s->lock);
}

void lane_abandon(struct store *s)
{
	if (s->lent)
		give_back(s, LANE_UNKNOWN);
}

bool store_lane_busy(const struct store *s)
{
	return s->lent != NULL;
}

/* Nothing was sent: as if it had not been borrowed. */
static void return_unused(struct store *s, struct worker *w, struct req *q)
{
	pthread_mutex_lock(&s->lock);
	w->lent = false;
	store_set_idle(s, w->index);
	s->hot.head = &q->mail;
	s->hot.tail = &q->mail.next;
	s->hot.n = 1;
	q->mail.next = NULL;
	store_wake_hot(s);
	pthread_mutex_unlock(&s->lock);
}

int store_kick(struct store *s)
{
	struct req *q = NULL;
	pthread_mutex_lock(&s->lock);
	struct worker *w = s->hot.head ? borrow(s, &q) : NULL;
	if (!w)
		store_wake_hot(s);
	pthread_mutex_unlock(&s->lock);
	if (!w)
		return -1;
	struct lane *lane = calloc(1, sizeof *lane);
	if (lane) {
		lane->req = q;
		lane->began = now_mono();
		lane->call = store_new_call(w);
	}
	if (!lane || schemas_concern(w->hot->names, w->hot->templates, q) ||
	    !one_prepare(w->hot, &lane->call, q, &lane->one)) {
		if (lane)
			store_forget(s, lane->call.slot);
		free(lane);
		return_unused(s, w, q);
		return -1;
	}
	w->lane = lane;
	s->lent = w;
	if (hot_send(w->conn, lane->one.stmt, &lane->one.p) == 0) {
		lane->foreseen = one_foresee(w->hot, &lane->call, &lane->one, q);
		return PQsocket(w->conn);
	}
	give_back(s, LANE_UNKNOWN);
	return -1;
}

/* The call is over and all is said in the answer. */
static struct done *answer(struct store *s, struct done *d)
{
	struct worker *w = s->lent;
	struct lane *lane = w->lane;
	s->lent = NULL;
	w->lane = NULL;
	store_end_call(w, &lane->call, d->claims);
	store_count(s, lane->req->kind, 1);
	store_note_call(d, lane->req->kind, 1, lane->began);
	spans_note(s->spans, d);
	lane->req->mail.next = NULL;
	d->reqs = &lane->req->mail;
	PQclear(lane->result);
	free(lane);
	pthread_mutex_lock(&s->lock);
	w->lent = false;
	store_set_idle(s, w->index);
	pthread_mutex_unlock(&s->lock);
	return d;
}

static struct done *finish(struct store *s)
{
	struct worker *w = s->lent;
	struct lane *lane = w->lane;
	struct err e;
	enum db_failure why = DB_LOST;
	if (PQresultStatus(lane->result) != PGRES_TUPLES_OK) {
		give_back(s, db_failed(w->conn, lane->result, &e) == DB_LOST ? LANE_UNKNOWN : LANE_RERUN);
		return NULL;
	}
	struct done *d = lane->foreseen ? TAKE_PTR(lane->foreseen) : done_new(DONE_BATCH);
	if (!d || one_must_load(w->hot, &lane->one, lane->result)) {
		done_free(d);
		give_back(s, LANE_FINISH);
		return NULL;
	}
	int rc = one_finish(w->hot, w->conn, &lane->call, &lane->one, lane->req, lane->result, d, &why, &e);
	if (rc == 1)
		return answer(s, d);
	done_free(d);
	give_back(s, rc == 0 ? LANE_RERUN : LANE_UNKNOWN);
	return NULL;
}

struct done *store_lane_read(struct store *s)
{
	struct worker *w = s->lent;
	if (!w)
		return NULL;
	if (!PQconsumeInput(w->conn)) {
		give_back(s, LANE_UNKNOWN);
		return NULL;
	}
	while (!PQisBusy(w->conn)) {
		PGresult *r = PQgetResult(w->conn);
		if (!r)
			return finish(s);
		PQclear(w->lane->result);
		w->lane->result = r;
	}
	return NULL;
}

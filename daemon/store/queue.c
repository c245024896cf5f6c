/* What waits for the store threads, and which of them takes it: under the lock, all requests of the kind at the head of
 * the queue that have arrived (up to batch_max), or a part of them while others are idle. While that is written the
 * next batch gathers: no timer, no tuning. */
#include "daemon/store/store_impl.h"

#include <errno.h>
#include <string.h>

/* texts in one call: far below PostgreSQL's limit of 1 GiB a message, and soon committed */
#define BATCH_BYTES (16u << 20)
#define SHARE_MIN 64 /* requests that are worth a call of their own */
#define HOT_PER_API 2 /* hot batches after which a waiting API call has its turn */

static void list_push(struct list *l, struct mail *m)
{
	m->next = NULL;
	*l->tail = m;
	l->tail = &m->next;
	l->n++;
}

void store_list_init(struct list *l)
{
	*l = (struct list){.tail = &l->head};
}

/* Threads that wait ------------------------------------------------------------------------------------------------ */

/* Choose who is to wake: signal its condition, best after the unlock. NULL: nobody waits, whoever is done next looks
 * again. */
static pthread_cond_t *choose_idle(struct store *s)
{
	if (s->n_idle == 0)
		return NULL;
	int i = s->idle[--s->n_idle];
	s->woken[i] = true;
	return &s->wake[i];
}

void store_wake_one(struct store *s)
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
	store_wake_one(s);
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
		store_wake_one(s);
	pthread_cond_broadcast(&s->work);
}

/* Taking work ------------------------------------------------------------------------------------------------------ */

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

/* How many to take of those that wait: a fair part when other threads have nothing to do. Else, with one worker that is
 * given steps and gives all results back together, one thread would always have all of them, and the others none. */
static size_t share_of(const struct store *s)
{
	size_t takers = (size_t)s->n_idle + 1, share = (s->hot.n + takers - 1) / takers;
	share = share < SHARE_MIN ? SHARE_MIN : share;
	return share < (size_t)s->cfg.batch_max ? share : (size_t)s->cfg.batch_max;
}

size_t store_take(struct worker *w, struct req **out, bool *ret_api)
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
		bool may_api = s->api.head && (s->api_running <= s->api_hanging || s->n_threads - s->hanging <= 1);
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
			s->api_running++;
			w->api = true;
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

void store_api_finished(struct worker *w)
{
	struct store *s = w->s;
	pthread_mutex_lock(&s->lock);
	w->api = false;
	s->api_running--;
	if (s->api.head)
		store_wake_one(s);
	pthread_mutex_unlock(&s->lock);
}

bool store_api_again(struct worker *w, struct req *r)
{
	struct store *s = w->s;
	struct err e = {0};
	pthread_mutex_lock(&s->lock);
	bool stopping = s->stopping;
	if (!stopping)
		list_push(&s->api, &r->mail);
	pthread_mutex_unlock(&s->lock);
	if (stopping) {
		err_set(&e, -EAGAIN, "shutting_down",
		        "the daemon is stopping; what was begun is finished by it or another one");
		store_fail(&r, 1, &e);
	} else
		store_api_finished(w);
	return !stopping;
}

/* Giving work ------------------------------------------------------------------------------------------------------ */

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

size_t store_depth(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	size_t n = s->hot.n + s->api.n;
	pthread_mutex_unlock(&s->lock);
	return n;
}

size_t store_unanswered(struct store *s)
{
	return s->unanswered;
}

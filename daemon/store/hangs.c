/* Calls that the database does not answer while it answers others: one of its processes stands still (SIGSTOP, a
 * debugger, a page that its disk does not deliver). That cannot be told from one that works for long, so nothing is
 * refused and nothing is taken for lost; but others do not wait for it, operators are told, and a batch goes its way
 * over another connection as if this one had been cut: the journal says whether it has committed, and keeps a twin that
 * wakes up later out. */
#include "daemon/store/store_impl.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define CUT_AFTER 3		       /* times the limit: results wait no longer for one process */
#define KEEPER_MIN (15 * USEC_PER_SEC)
#define API_MAX (330 * USEC_PER_SEC) /* longer than the statement's own limit: somebody may wait for that */

/* Since when the call of this connection is unanswered, and which it is; 0: there is none. */
static usec_t asked_since(struct store *s, int i, const char **ret_call)
{
	struct worker *w = s->lent;
	if (w && w->index == i) {
		*ret_call = hot_name(w->lane->one.stmt);
		return w->lane->began;
	}
	const char *call = atomic_load_explicit(&s->alive[i].call, memory_order_relaxed);
	*ret_call = call ? call : "";
	return atomic_load_explicit(&s->alive[i].asked, memory_order_relaxed);
}

static void describe(struct store_hang *h, const struct store *s, int i, const char *call, usec_t since)
{
	*h = (struct store_hang){.call = call, .backend = s->backends[i], .since = since};
	if (i == PRESENCE_CONN || i == KEEPER_CONN)
		snprintf(h->thread, sizeof h->thread, i == PRESENCE_CONN ? "presence" : "keeper");
	else
		snprintf(h->thread, sizeof h->thread, "store %d", i + 1);
	memcpy(h->why, s->blocked[i], sizeof h->why);
}

static bool is_api(const struct store *s, int i)
{
	return i < PRESENCE_CONN && s->workers[i] && s->workers[i]->api;
}

/* The keeper's calls are long ones, however short a lease is. */
static usec_t patience(int i, usec_t limit)
{
	return i == KEEPER_CONN && limit < KEEPER_MIN ? KEEPER_MIN : limit;
}

/* With the lock held, so that the connection stays. The loop's own has its own way (lane.c). */
static void cut(const struct store *s, int i, usec_t waited, usec_t limit)
{
	bool lane = s->lent && s->lent->index == i;
	if (i < PRESENCE_CONN && !lane && s->conns[i] && waited > (is_api(s, i) ? API_MAX : CUT_AFTER * limit))
		shutdown(PQsocket(s->conns[i]), SHUT_RDWR);
}

size_t store_hanging(struct store *s, usec_t limit, struct store_hang ret[STORE_HANGS_MAX])
{
	size_t n = 0;
	usec_t now = now_mono();
	pthread_mutex_lock(&s->lock);
	s->api_hanging = s->hanging = 0;
	for (int i = 0; i < STORE_HANGS_MAX; i++) {
		const char *call;
		usec_t since = asked_since(s, i, &call);
		if (since == 0 || since + patience(i, limit) > now) {
			s->blocked[i][0] = '\0';
			continue;
		}
		describe(&ret[n++], s, i, call, since);
		s->hanging += i < PRESENCE_CONN;
		s->api_hanging += is_api(s, i);
		cut(s, i, now - since, limit);
	}
	if (s->api_hanging > 0 && s->api.head)
		store_wake_one(s);
	pthread_mutex_unlock(&s->lock);
	return n;
}

usec_t store_oldest_call(struct store *s, const char **ret_call)
{
	usec_t oldest = 0;
	pthread_mutex_lock(&s->lock);
	for (int i = 0; i < STORE_HANGS_MAX; i++) {
		const char *call;
		usec_t since = i == KEEPER_CONN ? 0 : asked_since(s, i, &call);
		if (since && (!oldest || since < oldest)) {
			oldest = since;
			*ret_call = call;
		}
	}
	pthread_mutex_unlock(&s->lock);
	return oldest;
}

bool store_lane_hangs(const struct store *s, usec_t limit)
{
	return s->lent && s->lent->lane->began + CUT_AFTER * limit < now_mono();
}

void store_lane_give_up(struct store *s)
{
	lane_abandon(s);
}

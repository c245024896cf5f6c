/* Rates: an average over the last seconds, in which what is long ago counts less. */
#include "daemon/server/rates.h"

#include "daemon/base/clock.h"
#include "daemon/base/hash.h"
#include "daemon/server/pool.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"

#define RATE_MEMORY_S 10.0

static void rate_tick(struct rate *r, double seconds)
{
	double now = (double)(r->done - r->before) / seconds;
	r->per_s += (now - r->per_s) * (seconds / (seconds + RATE_MEMORY_S));
	r->before = r->done;
}

void rates_tick(struct server *srv, usec_t now)
{
	if (srv->rates_at == 0)
		srv->rates_at = now; /* what was done before counts as done from now on */
	double seconds = (double)(now - srv->rates_at) / (double)USEC_PER_SEC;
	struct session *s, *ts;
	struct handler *h, *th;
	if (seconds < 0.5)
		return;
	srv->rates_at = now;
	HASH_ITER(hh, srv->sessions, s, ts)
		if (s->is_worker)
			rate_tick(&s->work.rate, seconds);
	HASH_ITER(hh, srv->handlers, h, th)
		rate_tick(&h->rate, seconds);
}

void handler_did(struct server *srv, int id)
{
	struct handler *h;
	HASH_FIND_INT(srv->handlers, &id, h);
	if (h)
		h->rate.done++;
}

double rate_rounded(const struct rate *r)
{
	return (double)(int64_t)(r->per_s * 100 + 0.5) / 100;
}

/* Calls that the database does not answer while it answers others: said in the log, in the status, to whoever asks, and
 * to doctor. */
#include "daemon/server/hangs.h"

#include <event2/event.h>
#include <string.h>
#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/server/state.h"
#include "daemon/store/store.h"
#include "protocol/buf.h"
#include "protocol/mp.h"

static bool same(const struct store_hang *a, const struct store_hang *b)
{
	return a->since == b->since && strcmp(a->thread, b->thread) == 0;
}

static bool among(const struct store_hang *h, const struct store_hang *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (same(h, &list[i]))
			return true;
	return false;
}

static unsigned long long ms_of(const struct store_hang *h)
{
	return (now_mono() - h->since) / USEC_PER_MSEC;
}

static void compare(const struct server *srv, const struct store_hang *now, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!among(&now[i], srv->hangs, srv->n_hangs))
			log_event(
				LOG_CALL_HANGS, NULL,
				"the database answers, but not the call \"%s\" of thread %s, for %llu ms: its process %d stands still, or waits; what does not need it goes on",
				now[i].call, now[i].thread, ms_of(&now[i]), now[i].backend);
	for (size_t i = 0; i < srv->n_hangs; i++)
		if (!among(&srv->hangs[i], now, n))
			log_event(
				LOG_CALL_ANSWERED, NULL,
				"the call \"%s\" of thread %s no longer waits for process %d of the database, after %llu ms",
				srv->hangs[i].call, srv->hangs[i].thread, srv->hangs[i].backend, ms_of(&srv->hangs[i]));
}

static usec_t limit_of(const struct server *srv)
{
	return (usec_t)srv->opt->lease_ttl_ms * USEC_PER_MSEC;
}

/* While the database is away all calls wait, and that has been said. */
static void look(struct server *srv)
{
	struct store_hang now[STORE_HANGS_MAX];
	size_t n = srv->db_up ? store_hanging(srv->store, limit_of(srv), now) : 0;
	compare(srv, now, n);
	memcpy(srv->hangs, now, n * sizeof *now);
	srv->n_hangs = n;
}

void hangs_tick(struct server *srv)
{
	look(srv);
	if (srv->n_hangs == 0 || !store_lane_hangs(srv->store, limit_of(srv)))
		return;
	event_del(&srv->ev_lane); /* first: its thread may close the connection */
	store_lane_give_up(srv->store);
}

static void write_list(const struct server *srv, struct buf *out)
{
	mp_array(out, (uint32_t)srv->n_hangs);
	for (size_t i = 0; i < srv->n_hangs; i++) {
		mp_map(out, 5);
		mp_str(out, "why");
		mp_str(out, srv->hangs[i].why);
		mp_str(out, "thread");
		mp_str(out, srv->hangs[i].thread);
		mp_str(out, "call");
		mp_str(out, srv->hangs[i].call);
		mp_str(out, "ms");
		mp_uint(out, ms_of(&srv->hangs[i]));
		mp_str(out, "backend");
		mp_int(out, srv->hangs[i].backend);
	}
}

void hangs_write(const struct server *srv, struct buf *out)
{
	const char *call = NULL;
	usec_t since = store_oldest_call(srv->store, &call), now = now_mono();
	mp_str(out, "hanging");
	write_list(srv, out);
	mp_str(out, "oldest_call");
	mp_map(out, 2);
	mp_str(out, "call");
	mp_str(out, call);
	mp_str(out, "ms");
	mp_uint(out, since && since < now ? (now - since) / USEC_PER_MSEC : 0);
}

static void write_check(const struct server *srv, struct buf *out)
{
	mp_map(out, 5);
	mp_str(out, "name");
	mp_str(out, "database_calls");
	mp_str(out, "ok");
	mp_bool(out, srv->n_hangs == 0);
	mp_str(out, "found");
	mp_uint(out, srv->n_hangs);
	mp_str(out, "detail");
	mp_str(out,
	       "calls of this node that the database does not answer while it answers others: see why; it may be the process in ps(1)");
	mp_str(out, "sample");
	write_list(srv, out);
}

void hangs_add_check(struct server *srv, const msgpack_object *answer, struct buf *out)
{
	const msgpack_object *checks = NULL, *ok = mp_get(answer, "ok");
	uint32_t n = mp_get_array(answer, "checks", &checks) == 1 ? checks->via.array.size : 0;
	look(srv); /* the question itself may have taken long, and has its answer now */
	mp_map(out, 2);
	mp_str(out, "ok");
	mp_bool(out, ok && ok->type == MSGPACK_OBJECT_BOOLEAN && ok->via.boolean && srv->n_hangs == 0);
	mp_str(out, "checks");
	mp_array(out, n + 1);
	for (uint32_t i = 0; i < n; i++)
		mp_object(out, &checks->via.array.ptr[i]);
	write_check(srv, out);
}

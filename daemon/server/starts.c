/* Tasks that begin later wait in a queue of the database; any node starts those that are due. This node looks when it
 * is told of one, when the next one's time has come, and with the slow poll. */
#include "daemon/server/starts.h"

#include <event2/event.h>
#include <stdio.h>
#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/server/front.h"
#include "daemon/server/pool.h"
#include "daemon/server/state.h"
#include "daemon/store/request.h"
#include "daemon/store/store.h"

static void on_time(evutil_socket_t fd, short what, void *arg)
{
	struct server *srv = arg;
	(void)fd, (void)what;
	srv->starts_at = 0;
	starts_hint(srv);
	starts_run(srv);
	server_flush(srv);
}

void starts_hint(struct server *srv)
{
	srv->starts_hinted = true;
}

void starts_due(struct server *srv, int64_t in_ms)
{
	usec_t at = now_mono() + (usec_t)(in_ms > 0 ? in_ms : 0) * USEC_PER_MSEC;
	if (!srv->ev_starts)
		srv->ev_starts = event_new(srv->base, -1, 0, on_time, srv);
	if (!srv->ev_starts || (srv->starts_at && srv->starts_at <= at))
		return;
	srv->starts_at = at;
	event_add(srv->ev_starts, &(struct timeval){.tv_sec = (time_t)(in_ms / 1000), .tv_usec = in_ms % 1000 * 1000});
}

void starts_run(struct server *srv)
{
	if (!srv->starts_hinted || srv->starting || !srv->ever_up || srv->draining)
		return;
	struct req *r = req_new(REQ_START, (struct origin){0});
	if (!r)
		return; /* the next look finds them */
	srv->starts_hinted = false; /* the answer says whether there are more */
	srv->starting = true;
	pool_lend_any(srv, r, (unsigned)srv->opt->batch_max);
	store_submit(srv->store, r);
}

void starts_answered(struct server *srv, struct req *r)
{
	srv->starting = false;
	if (r->failed)
		log_error("tasks that are due cannot be started: %s", r->err.text);
}

void starts_free(struct server *srv)
{
	if (srv->ev_starts)
		event_free(srv->ev_starts);
}

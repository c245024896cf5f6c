/* Stopping: at a signal, once what runs has ended or the time is up; or handing all over to the next daemon. */
#include "daemon/server/drain.h"

#include <event2/event.h>
#include "daemon/base/clock.h"
#include "daemon/base/hash.h"
#include "daemon/base/log.h"
#include "daemon/base/service.h"
#include "daemon/server/consume.h"
#include "daemon/server/doors.h"
#include "daemon/server/front.h"
#include "daemon/server/handoff.h"
#include "daemon/server/journal.h"
#include "daemon/server/pool.h"
#include "daemon/server/reply.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/server/step_ends.h"
#include "daemon/server/steps.h"
#include "daemon/server/templates.h"
#include "daemon/store/request.h"
#include "daemon/store/store.h"
#include "protocol/mp.h"

static void tell_draining(struct server *srv)
{
	struct session *s, *tmp;
	HASH_ITER(hh, srv->sessions, s, tmp) {
		if (s->state != SESSION_OPEN)
			continue;
		size_t mark = notify_begin(s, "server.draining");
		mp_map(&s->wire.out, 1);
		mp_str(&s->wire.out, "deadline_ms");
		mp_int(&s->wire.out, srv->opt->drain_timeout_ms);
		notify_end(s, mark);
	}
}

static bool drained(struct server *srv)
{
	struct open_step *o, *tmp;
	HASH_ITER(hh, srv->steps, o, tmp)
		if (!o->ended)
			return false;
	struct pool *p, *next;
	HASH_ITER(hh, srv->pools, p, next)
		if (p->lent > 0) /* a call under way may still claim something */
			return false;
	return store_depth(srv->store) == 0 && templates_under_way(srv) == 0 && journals_empty(srv);
}

void on_drain_check(evutil_socket_t fd, short what, void *arg)
{
	struct server *srv = arg;
	(void)fd, (void)what;
	if (srv->handing ? handoff_check(srv) : drained(srv) || now_mono() >= srv->drain_until || !srv->ever_up)
		server_stop(srv);
}

static void start_draining(struct server *srv)
{
	log_event(LOG_STOPPING, NULL, "stopping: %u steps are running, waiting up to %d ms for them",
	          HASH_COUNT(srv->steps), srv->opt->drain_timeout_ms);
	srv->draining = true;
	srv->drain_until = now_mono() + (usec_t)srv->opt->drain_timeout_ms * USEC_PER_MSEC;
	service_tell("STOPPING=1");
	doors_close(srv);
	store_set_draining(srv->store);
	pool_release_backlogs(srv);
	tell_draining(srv);
	consumers_drain(srv);
	if (srv->front_state)
		srv->front->drain(srv->front_state);
	server_status(srv);
	event_add(srv->ev_drain, &(struct timeval){.tv_usec = 5000});
	server_flush(srv);
}

void on_stop_signal(evutil_socket_t sig, short what, void *arg)
{
	struct server *srv = arg;
	(void)sig, (void)what;
	if (srv->stop_signals++ == 0)
		start_draining(srv);
	else
		server_stop(srv); /* asked twice: now */
}

/* The service manager starts another daemon at once, and keeps what it is given for it. Without one that is a stop like
 * any other. */
void on_restart_signal(evutil_socket_t sig, short what, void *arg)
{
	struct server *srv = arg;
	if (srv->draining)
		return;
	if (!handoff_possible()) {
		on_stop_signal(sig, what, arg);
		return;
	}
	srv->stop_signals++;
	srv->draining = true;
	service_tell("STOPPING=1");
	doors_close(srv);
	handoff_begin(srv);
	if (srv->front_state)
		srv->front->drain(srv->front_state);
	server_status(srv);
	event_add(srv->ev_drain, &(struct timeval){.tv_usec = 2000});
	server_flush(srv);
}

/* Steps that nobody answered in time go back without using an attempt. */
void drain_release(struct server *srv)
{
	struct session *s, *tmp;
	HASH_ITER(hh, srv->sessions, s, tmp)
		if (s->state == SESSION_OPEN || s->state == SESSION_DETACHED)
			steps_lost(s, OUTCOME_RELEASED, "the daemon stopped before a result");
}

/* How an attempt ends without a result of its worker: its time is up, the worker is lost or may no longer work, the
 * step is cancelled. */
#include "daemon/server/step_ends.h"

#include <event2/event.h>
#include <string.h>
#include <sys/queue.h>
#include "daemon/base/hash.h"
#include "daemon/base/need.h"
#include "daemon/config/access.h"
#include "daemon/core/uuid.h"
#include "daemon/server/front.h"
#include "daemon/server/journal.h"
#include "daemon/server/metrics.h"
#include "daemon/server/notes.h"
#include "daemon/server/pool.h"
#include "daemon/server/recording.h"
#include "daemon/server/reply.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/server/steps.h"
#include "daemon/store/request.h"
#include "daemon/store/store.h"
#include "protocol/mp.h"
#include "protocol/msg.h"

void step_send_cancel(struct open_step *o, const char *reason)
{
	char uuid[UUID_TEXT];
	struct session *s = o->session;
	if (s->wire.fd < 0)
		return;
	uuid_format(&o->key.uuid, uuid);
	size_t mark = notify_begin(s, "step.cancel");
	mp_map(&s->wire.out, 3);
	mp_str(&s->wire.out, "step_uuid");
	mp_str(&s->wire.out, uuid);
	mp_str(&s->wire.out, "attempt");
	mp_int(&s->wire.out, o->claim->attempt);
	mp_str(&s->wire.out, "reason");
	mp_str(&s->wire.out, reason);
	notify_end(s, mark);
}

/* The attempt is over here, but the worker may still be running it: the place stays taken until it says something. */
static void await_word(struct open_step *o, const char *reason)
{
	o->ended = true;
	if (o->timer_set)
		event_del(&o->timer);
	o->timer_set = false;
	session_gather(o->session); /* a cancel must not overtake its step */
	step_send_cancel(o, reason);
}

void step_end(struct open_step *o, enum outcome outcome, const char *message)
{
	struct session *s = o->session;
	struct req *r = o->ended ? NULL : need(result_req(o->claim, &o->key.uuid, outcome));
	if (r) {
		note_template(o->home, o->claim);
		result_set_error(r, outcome_names[outcome], message);
		if (s && outcome != OUTCOME_RELEASED)
			r->result.worker = s->work.uuid;
	}
	if (r && o->given && outcome != OUTCOME_RELEASED)
		metrics_ran(o->home, r->result.series, r->born - o->given);
	if (r)
		store_submit(o->home->store, r);
	if (outcome == OUTCOME_TIMEOUT && s && s->wire.fd >= 0 && !o->ended)
		await_word(o, "timeout");
	else
		step_forget(o);
}

void steps_lost(struct session *s, enum outcome outcome, const char *message)
{
	struct open_step *o;
	while ((o = TAILQ_FIRST(&s->work.steps))) {
		if (outcome == OUTCOME_WORKER_LOST && !o->ended)
			s->srv->c_lost++;
		step_end(o, outcome, message);
	}
}

void steps_withdraw(struct session *s)
{
	struct open_step *o, *next;
	for (o = TAILQ_FIRST(&s->work.steps); o; o = next) {
		const struct handler *h = handler_find(s->srv, o->claim->handler_id);
		next = TAILQ_NEXT(o, link);
		if (o->ended || !h || access_allows(&s->who.access, ROLE_WORK, h->ns, strlen(h->ns)))
			continue;
		session_gather(s); /* a cancel must not overtake its step */
		step_send_cancel(o, "access_withdrawn");
		step_end(o, OUTCOME_RELEASED, "its worker may no longer work in the namespace");
	}
}

/* Timers ----------------------------------------------------------------------------------------------------------- */

static void on_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct open_step *o = arg;
	struct server *srv = o->session->srv;
	(void)fd, (void)what;
	srv->c_timeouts++;
	step_end(o, OUTCOME_TIMEOUT, "no result within timeout_seconds");
	server_flush(srv);
}

void step_set_timer(struct open_step *o)
{
	uint64_t ms = o->claim->timeout_ms;
	if (ms == 0)
		return;
	event_assign(&o->timer, o->session->srv->base, -1, 0, on_timeout, o);
	event_add(&o->timer,
	          &(struct timeval){.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000)});
	o->timer_set = true;
}

/* Cancels ---------------------------------------------------------------------------------------------------------- */

static void cancel_open(struct open_step *o, const char *reason)
{
	journal_release(o->session->srv, o->claim->slot);
	if (o->session->wire.fd >= 0)
		await_word(o, reason);
	else
		step_forget(o);
}

void steps_cancelled(struct server *srv, const struct uuid *what, const char *reason)
{
	struct open_step *o, *tmp;
	HASH_ITER(hh, srv->steps, o, tmp)
		if ((uuid_eq(&o->claim->task, what) || uuid_eq(&o->key.uuid, what)) && !o->ended)
			cancel_open(o, reason);
}

void attempt_cancelled(struct server *srv, const struct cancelled *x, const char *reason)
{
	struct open_step *o;
	struct step_key key = {uuid_for_step(&x->task, (unsigned)x->step_no), (uint32_t)x->fence};
	HASH_FIND(hh, srv->steps, &key, sizeof key, o);
	if (o && !o->ended)
		cancel_open(o, reason);
}

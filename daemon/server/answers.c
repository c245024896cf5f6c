/* The store's answers: from the mailbox, and over the connection that the loop has borrowed. */
#include "daemon/server/answers.h"

#include <event2/event.h>
#include <stdio.h>
#include "daemon/base/cleanup.h"
#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/base/mailbox.h"
#include "daemon/core/uuid.h"
#include "daemon/server/api.h"
#include "daemon/server/consume.h"
#include "daemon/server/doors.h"
#include "daemon/server/embedded.h"
#include "daemon/server/front.h"
#include "daemon/server/handoff.h"
#include "daemon/server/hello.h"
#include "daemon/server/metrics.h"
#include "daemon/server/orphans.h"
#include "daemon/server/pool.h"
#include "daemon/server/quota.h"
#include "daemon/server/recording.h"
#include "daemon/server/session.h"
#include "daemon/server/starts.h"
#include "daemon/server/state.h"
#include "daemon/server/step_ends.h"
#include "daemon/server/subscribe.h"
#include "daemon/server/tasks.h"
#include "daemon/server/tokens.h"
#include "daemon/server/waits.h"
#include "daemon/server/watch.h"
#include "daemon/server/workers.h"
#include "daemon/store/request.h"
#include "daemon/store/store.h"

/* What was asked for ----------------------------------------------------------------------------------------------- */

static void answer_request(struct server *srv, struct req *r)
{
	static void (*const by_kind[REQ_KIND_COUNT])(struct server *, struct req *) =
		{[REQ_RESULT] = result_answered, [REQ_CREATE] = create_answered, [REQ_STATES] = waits_answered,
	         [REQ_CANCEL] = cancel_answered, [REQ_API] = api_answered,       [REQ_START] = starts_answered};
	pool_return(srv, r);
	store_released(srv->store, r);
	quota_answered(srv, r);
	struct session *asker = r->counted ? session_find(srv, r->origin.session) : NULL;
	if (asker)
		session_answered(asker);
	if (r->announces)
		worker_announced(srv);
	if (r->kind == REQ_CLAIM && r->failed)
		log_error("queued steps cannot be claimed: %s", r->err.text);
	if (by_kind[r->kind])
		by_kind[r->kind](srv, r);
}

static void on_batch(struct server *srv, struct done *d)
{
	srv->metrics.now = now_mono();
	metrics_called(srv, d);
	while (d->reqs) {
		struct req *r = req_of(d->reqs);
		d->reqs = r->mail.next;
		answer_request(srv, r);
		req_free(r);
	}
	pool_dispatch(srv, TAKE_PTR(d->claims));
	for (struct settled *t = d->settled; t; t = t->next) {
		metrics_settled(srv, &t->task, t->series, t->state);
		task_settled(srv, &t->task, t->state);
	}
	for (const struct cancelled *x = d->cancelled; x; x = x->next)
		attempt_cancelled(srv, x, "batch_failed"); /* of a task's cancel they have been told already */
	for (struct due *u = d->due; u; u = u->next)
		pool_due(srv, u->handler_id, u->in_ms);
	pool_hint(srv, d->ids, d->n_ids);
	if (d->replayed)
		waits_recheck(srv);
}

/* What the store says by itself ------------------------------------------------------------------------------------ */

static void on_up(struct server *srv, struct done *d)
{
	log_event(LOG_DATABASE_UP, NULL, "database up: PostgreSQL %d.%d", d->server_version / 10000,
	          d->server_version % 100);
	srv->db_up = srv->ever_up = true;
	srv->db_server_version = d->server_version;
	srv->db_schema_version = d->schema_version;
	snprintf(srv->db_pgmq, sizeof srv->db_pgmq, "%s", d->pgmq);
	srv->db_error[0] = '\0';
	consumers_recheck(srv);
	workers_announce(srv); /* the database may have missed some, or taken them for dead */
	pool_hint_all(srv);
	waits_recheck(srv);
	tokens_changed(srv);
	server_status(srv);
}

static void on_down(struct server *srv, struct done *d)
{
	if (srv->db_up || !srv->db_error[0])
		log_event(LOG_DATABASE_DOWN, NULL, "database cannot be reached: %s; trying on", d->err.text);
	srv->db_up = false;
	snprintf(srv->db_error, sizeof srv->db_error, "%s", d->err.text);
	for (char *p = srv->db_error; *p; p++)
		if (*p == '\n')
			*p = ' ';
	server_status(srv);
}

static void on_stuck(struct server *srv, struct done *d)
{
	log_event(LOG_DATABASE_STUCK, NULL, "the database writes nothing: %s", d->err.text);
	snprintf(srv->db_stuck, sizeof srv->db_stuck, "%s", d->err.text);
	server_status(srv);
}

static void on_unstuck(struct server *srv, struct done *d)
{
	(void)d;
	log_event(LOG_DATABASE_WRITES, NULL, "the database writes again");
	srv->db_stuck[0] = '\0';
	server_status(srv);
}

static void on_adopted(struct server *srv, struct done *d)
{
	srv->adopted = true; /* from now on a worker's word about what it holds can be judged */
	steps_adopted(srv, TAKE_PTR(d->claims));
	takeover_finish(srv);
	doors_open(srv);
}

static void on_ready(struct server *srv, struct done *d)
{
	if (d->n_ids == 0) {
		pool_hint_all(srv);
		consumers_recheck(srv);
	} else
		pool_hint(srv, d->ids, d->n_ids);
}

static void on_settled(struct server *srv, struct done *d)
{
	if (!d->settled)
		waits_recheck(srv);
	bool waited_for = false;
	for (struct settled *t = d->settled; t; t = t->next) {
		waited_for = waited_for || task_is_waited_for(srv, &t->task);
		task_settled_elsewhere(srv, &t->task);
		watch_touch(srv, &t->task);
	}
	if (waited_for)
		waits_recheck(srv);
}

static void on_cancelled(struct server *srv, struct done *d)
{
	for (struct settled *t = d->settled; t; t = t->next) {
		struct uuid task;
		unsigned no;
		bool step = uuid_split_step(&t->task, &task, &no);
		steps_cancelled(srv, &t->task, step ? "stale" : "task_cancelled");
		if (step)
			watch_touch(srv, &task);
		else
			task_settled(srv, &t->task, "cancelled");
	}
}

static void on_tokens(struct server *srv, struct done *d)
{
	(void)d;
	tokens_changed(srv);
}

static void on_fatal(struct server *srv, struct done *d)
{
	server_fail(srv, &d->err);
}

/* What other nodes have published is counted there. */
static void events_of(struct server *srv, struct done *d)
{
	for (struct fired *f = d->fired; f && d->kind != DONE_NOTIFY_EVENTS; f = f->next) {
		srv->c_events_fast += f->body.len > 0;
		srv->c_events_queued += f->body.len > 0 ? 0 : f->n;
	}
	events_fired(srv, d->fired);
}

/* Reading them ----------------------------------------------------------------------------------------------------- */

static void after_answers(struct server *srv)
{
	pool_run_backlog(srv);
	pool_claim(srv);
	starts_run(srv);
	sessions_read_on(srv);
	server_flush(srv);
}

static void on_lane(evutil_socket_t fd, short what, void *arg)
{
	struct server *srv = arg;
	/* The event is not pending now: a thread that gets its connection back may close it. */
	struct done *d = store_lane_read(srv->store);
	(void)fd, (void)what;
	if (store_lane_busy(srv->store))
		event_add(&srv->ev_lane, NULL);
	if (!d)
		return;
	on_batch(srv, d);
	done_free(d);
	after_answers(srv);
}

void server_kick(struct server *srv)
{
	int fd = store_kick(srv->store);
	if (fd < 0)
		return;
	event_assign(&srv->ev_lane, srv->base, fd, EV_READ, on_lane, srv);
	event_add(&srv->ev_lane, NULL);
}

void on_answers(evutil_socket_t fd, short what, void *arg)
{
	static void (*const by_kind[])(struct server *, struct done *) = {
		[DONE_BATCH] = on_batch,	 [DONE_UP] = on_up,
		[DONE_DOWN] = on_down,		 [DONE_ADOPTED] = on_adopted,
		[DONE_NOTIFY_READY] = on_ready,	 [DONE_NOTIFY_TEMPLATES] = handlers_loaded,
		[DONE_NOTIFY_SETTLED] = on_settled, [DONE_NOTIFY_CANCEL] = on_cancelled,
		[DONE_STUCK] = on_stuck,	 [DONE_UNSTUCK] = on_unstuck,
		[DONE_FATAL] = on_fatal,	 [DONE_REVIVED] = embedded_revived,
		[DONE_NOTIFY_EVENTS] = NULL,	 [DONE_NOTIFY_DRAIN] = workers_drain,
		[DONE_NOTIFY_TOKENS] = on_tokens, [DONE_LACKING] = handlers_lacking,
	};
	struct server *srv = arg;
	(void)fd, (void)what;
	for (struct mail *m = mailbox_take(&srv->answers), *next; m; m = next) {
		next = m->next;
		struct done *d = (struct done *)m;
		if (by_kind[d->kind])
			by_kind[d->kind](srv, d);
		events_of(srv, d);
		done_free(d);
	}
	after_answers(srv);
}

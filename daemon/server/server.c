/* The loop thread: set-up, timers, tear-down. What it does: answers.c (the store's), doors.c (connections), session.c
 * and message.c (what they say), drain.c (signals to stop). */
#include "daemon/server/server.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>
#include "daemon/auth/auth.h"
#include "daemon/base/clock.h"
#include "daemon/base/err.h"
#include "daemon/base/hash.h"
#include "daemon/base/log.h"
#include "daemon/base/mailbox.h"
#include "daemon/base/service.h"
#include "daemon/config/options.h"
#include "daemon/server/answers.h"
#include "daemon/server/bounds.h"
#include "daemon/server/consume.h"
#include "daemon/server/doors.h"
#include "daemon/server/drain.h"
#include "daemon/server/embedded.h"
#include "daemon/server/front.h"
#include "daemon/server/handoff.h"
#include "daemon/server/hangs.h"
#include "daemon/server/journal.h"
#include "daemon/server/known_here.h"
#include "daemon/server/metrics.h"
#include "daemon/server/notes.h"
#include "daemon/server/orphans.h"
#include "daemon/server/pool.h"
#include "daemon/server/quota.h"
#include "daemon/server/rates.h"
#include "daemon/server/recording.h"
#include "daemon/server/reload.h"
#include "daemon/server/session.h"
#include "daemon/server/starts.h"
#include "daemon/server/state.h"
#include "daemon/server/templates.h"
#include "daemon/server/steps.h"
#include "daemon/server/tasks.h"
#include "daemon/server/tokens.h"
#include "daemon/server/waits.h"
#include "daemon/server/watch.h"
#include "daemon/server/watchdog.h"
#include "daemon/store/proof.h"
#include "daemon/store/request.h"
#include "daemon/store/store.h"
#include "protocol/buf.h"

#define TICK_MS 1000
#define STORE_STOP_MS 5000
#define OPEN_AFTER_MS 2000 /* a start waits so long for the database before it takes connections without */

/* What is new of it: the manager need not read the same again and again. */
void server_status(struct server *srv)
{
	char text[sizeof srv->status];
	if (srv->draining)
		snprintf(text, sizeof text, "STATUS=stopping: %zu sessions, %u steps still running", srv->n_sessions,
		         HASH_COUNT(srv->steps));
	else if (srv->db_stuck[0])
		snprintf(text, sizeof text, "STATUS=the database writes nothing: %s", srv->db_stuck);
	else if (srv->db_up && srv->n_hangs > 0)
		snprintf(
			text, sizeof text,
			"STATUS=serving %zu sessions, %u steps running; the database does not answer %zu calls: see taskerctl doctor",
			srv->n_sessions, HASH_COUNT(srv->steps), srv->n_hangs);
	else if (srv->db_up)
		snprintf(text, sizeof text, "STATUS=serving %zu sessions, %u steps running", srv->n_sessions,
		         HASH_COUNT(srv->steps));
	else
		snprintf(text, sizeof text, "STATUS=waiting for the database: %s",
		         srv->db_error[0] ? srv->db_error : "connecting");
	if (strcmp(text, srv->status) == 0)
		return;
	memcpy(srv->status, text, sizeof text);
	service_tell(text);
}

void server_stop(struct server *srv)
{
	srv->stop = true;
	event_base_loopbreak(srv->base);
}

void server_fail(struct server *srv, const struct err *e)
{
	if (!srv->has_fatal)
		srv->fatal = *e;
	srv->has_fatal = true;
	server_stop(srv);
}

/* Timers ----------------------------------------------------------------------------------------------------------- */

/* What the node's row says to those who look at other nodes. */
static void tell_load(struct server *srv)
{
	struct session *s, *tmp;
	struct handler *h, *next;
	struct store_load l = {.sessions = (unsigned)srv->n_sessions};
	handlers_load(srv, l.handlers, sizeof l.handlers);
	workers_load(srv, l.by_worker, sizeof l.by_worker);
	HASH_ITER(hh, srv->sessions, s, tmp) {
		l.workers += s->is_worker && s->state == SESSION_OPEN;
		l.open_steps += s->work.open;
	}
	HASH_ITER(hh, srv->handlers, h, next)
		if (h->missing_since && h->pools == 0 && l.n_missing < MISSING_TOLD_MAX)
			l.missing[l.n_missing++] = h->id;
	store_set_load(srv->store, &l);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct server *srv = arg;
	(void)fd, (void)what;
	handlers_report_missing(srv);
	watch_tick(srv);
	rates_tick(srv, now_mono());
	hangs_tick(srv);
	tell_load(srv);
	tokens_tick(srv);
	sessions_read_on(srv);
	server_status(srv);
	(void)service_offer();
	server_flush(srv);
}

static void on_poll(evutil_socket_t fd, short what, void *arg)
{
	struct server *srv = arg;
	(void)fd, (void)what;
	pool_hint_all(srv);
	pool_claim(srv);
	starts_run(srv);
	waits_recheck(srv);
	consumers_recheck(srv);
	server_flush(srv);
}

static void on_grace_over(evutil_socket_t fd, short what, void *arg)
{
	struct server *srv = arg;
	(void)fd, (void)what;
	orphans_give_up(srv);
	server_flush(srv);
}

static void on_hup(evutil_socket_t sig, short what, void *arg)
{
	(void)sig, (void)what;
	server_reload(arg);
}

/* Set-up ----------------------------------------------------------------------------------------------------------- */

static int add_events(struct server *srv)
{
	const struct {
		struct event **ev;
		evutil_socket_t fd;
		short what;
		event_callback_fn fn;
		int ms; /* of timers that run from the start */
	} events[] = {
		{&srv->ev_answers, srv->answers.fd, EV_READ | EV_PERSIST, on_answers, -1},
		{&srv->ev_listen, srv->listen_fd, EV_READ | EV_PERSIST, on_accept, 0},
		{&srv->ev_open, -1, 0, on_open, OPEN_AFTER_MS},
		{&srv->ev_term, SIGTERM, EV_SIGNAL | EV_PERSIST, on_stop_signal, -1},
		{&srv->ev_int, SIGINT, EV_SIGNAL | EV_PERSIST, on_stop_signal, -1},
		{&srv->ev_restart, SIGUSR2, EV_SIGNAL | EV_PERSIST, on_restart_signal, -1},
		{&srv->ev_hup, SIGHUP, EV_SIGNAL | EV_PERSIST, on_hup, -1},
		{&srv->ev_tick, -1, EV_PERSIST, on_tick, TICK_MS},
		{&srv->ev_poll, -1, EV_PERSIST, on_poll, srv->opt->poll_interval_ms},
		{&srv->ev_grace, -1, 0, on_grace_over, 0},
		{&srv->ev_accept_again, -1, 0, on_accept_again, 0},
		{&srv->ev_drain, -1, EV_PERSIST, on_drain_check, 0},
	};
	for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
		*events[i].ev = event_new(srv->base, events[i].fd, events[i].what, events[i].fn, srv);
		if (!*events[i].ev)
			return -ENOMEM;
		struct timeval tv = {.tv_sec = events[i].ms / 1000, .tv_usec = events[i].ms % 1000 * 1000};
		if (events[i].ms != 0 && event_add(*events[i].ev, events[i].ms > 0 ? &tv : NULL) < 0)
			return -EIO;
	}
	return 0;
}

static void free_events(struct server *srv)
{
	struct event **events[] = {&srv->ev_answers, &srv->ev_listen,  &srv->ev_open,         &srv->ev_term,
	                           &srv->ev_int,     &srv->ev_restart, &srv->ev_hup,          &srv->ev_tick,
	                           &srv->ev_poll,    &srv->ev_grace,   &srv->ev_accept_again, &srv->ev_drain,
	                           &srv->ev_watchdog};
	for (size_t i = 0; i < sizeof events / sizeof *events; i++)
		if (*events[i])
			event_free(*events[i]);
}

/* The options on retention as tasker.retain takes them: minutes by state; what is kept for ever is left out. */
static void write_retention(const struct options *o, char *text, size_t size)
{
	const struct {
		const char *key;
		int minutes;
	} keep[] = {{"complete", o->retention_complete_minutes},
	            {"error", o->retention_error_minutes},
	            {"cancelled", o->retention_cancelled_minutes},
	            {"resolved_manually", o->retention_resolved_minutes},
	            {"archived", o->retention_archived_minutes}};
	int n = snprintf(text, size, "{\"delete\":%s", o->retention_delete ? "true" : "false");
	for (size_t i = 0; i < sizeof keep / sizeof *keep; i++)
		if (keep[i].minutes > 0)
			n += snprintf(text + n, size - (size_t)n, ",\"%s\":%d", keep[i].key, keep[i].minutes);
	snprintf(text + n, size - (size_t)n, "}");
}

static int start_auth(struct server *srv, struct err *e)
{
	struct buf notes;
	buf_init(&notes, 1u << 16);
	srv->auth = auth_new(srv->opt, &notes, e);
	log_notes("jwt_key_file", buf_text(&notes));
	buf_done(&notes);
	return srv->auth ? 0 : -EIO;
}

static int start(struct server *srv, const char *conninfo, struct err *e)
{
	struct event_config *cfg = event_config_new();
	if (cfg) {
		event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK);
		srv->base = event_base_new_with_config(cfg);
		event_config_free(cfg);
	}
	srv->prover = prover_new();
	int r = srv->base && srv->prover && metrics_init(srv) == 0 ? mailbox_init(&srv->answers) : -ENOMEM;
	if (r < 0)
		return err_set(e, r, "internal", "cannot set up the event loop");
	if ((r = doors_listen(srv, e)) < 0)
		return r;
	char retention[256];
	write_retention(srv->opt, retention, sizeof retention);
	struct store_config sc = {
		.conninfo = conninfo,
		.session_conninfo = srv->opt->session_database ? srv->opt->session_database : conninfo,
		.pooled = srv->opt->session_database != NULL,
		.node_name = srv->opt->node_name,
		.version = TASKERD_VERSION,
		.threads = srv->opt->store_threads,
		.batch_max = srv->opt->batch_max,
		.lease_ttl_ms = srv->opt->lease_ttl_ms,
		.sweep_interval_ms = srv->opt->sweep_interval_ms,
		.retention = retention,
		.max_body = srv->opt->max_frame - STEP_OVERHEAD,
		.max_branches = srv->opt->max_branches,
		.migrate = srv->em != NULL || srv->opt->migrate,
		.answers = &srv->answers,
		.series = srv->metrics.series,
		.trace = {srv->opt->trace_url, srv->opt->trace_headers, (unsigned)srv->opt->trace_sample_percent},
	};
	r = add_events(srv);
	if (r < 0)
		return err_set(e, r, "internal", "cannot set up events");
	r = store_start(&sc, &srv->store, e);
	if (r == 0 && (r = server_watchdog(srv)) < 0)
		return err_set(e, r, "internal", "cannot set up the watchdog");
	if (r == 0 && srv->front)
		r = start_auth(srv, e);
	if (r == 0 && srv->front && !(srv->front_state = srv->front->start(srv, e)))
		r = -EIO;
	return r;
}

/* Tear-down -------------------------------------------------------------------------------------------------------- */

/* Answers that nobody will read. */
static void abandon(struct mail *reqs)
{
	for (struct mail *m = reqs; m; m = m->next) {
		struct req *r = req_of(m);
		if (r->user_free)
			r->user_free(r->user);
	}
}

/* Everything in the reverse order of its making; what the store still had to say is dropped unread. */
static void finish(struct server *srv)
{
	embedded_unwatch(srv);
	if (srv->front_state)
		srv->front->stop(srv->front_state);
	srv->auth = auth_free(srv->auth);
	templates_stop(srv);
	if (srv->store) {
		if (srv->handing)
			handoff_forget(srv);
		else
			drain_release(srv);
		session_free_all(srv);
		srv->store = store_stop(srv->store, STORE_STOP_MS);
	}
	if (srv->answers.fd > 0) {
		for (struct mail *m = mailbox_take(&srv->answers), *next; m; m = next) {
			next = m->next;
			abandon(((struct done *)m)->reqs);
			done_free((struct done *)m);
		}
		mailbox_done(&srv->answers);
	}
	metrics_done(srv);
	consumers_free(srv);
	watches_free(srv);
	waits_free(srv);
	recordings_free(srv);
	steps_free(srv);
	journals_free(srv);
	notes_free(srv);
	pools_free(srv);
	starts_free(srv);
	peers_free(srv);
	free_events(srv);
	srv->prover = prover_free(srv->prover);
	if (srv->base)
		event_base_free(srv->base);
	if (srv->listen_fd > 0)
		close(srv->listen_fd);
	if (srv->own_socket && srv->listen_fd > 0)
		unlink(srv->opt->socket);
}

int server_run(struct options *opt, const char *conninfo, struct embed *em, const struct front *front, struct err *e)
{
	struct server srv = {.opt = opt,
	                     .em = em,
	                     .front = front,
	                     .started = now_mono(),
	                     .listen_fd = -1,
	                     .answers = {.fd = -1},
	                     .embedded_fd = -1,
	                     .peer_log = {.window_us = 10 * USEC_PER_SEC, .burst = 100},
	                     .step_log = {.window_us = 10 * USEC_PER_SEC, .burst = 500}};
	TAILQ_INIT(&srv.dirty);
	TAILQ_INIT(&srv.to_ask);
	TAILQ_INIT(&srv.recent_order);
	TAILQ_INIT(&srv.consumers);
	TAILQ_INIT(&srv.metrics.waiting);
	signal(SIGPIPE, SIG_IGN);
	int r = start(&srv, conninfo, e);
	if (r == 0) {
		log_event(LOG_STARTED, NULL, "taskerd %s: node %s, listening on %s", TASKERD_VERSION, opt->node_name,
		          opt->socket);
		embedded_watch(&srv);
		server_status(&srv);
		event_base_dispatch(srv.base);
	}
	finish(&srv);
	if (r == 0 && srv.has_fatal) {
		*e = srv.fatal;
		r = -EIO;
	}
	return r;
}

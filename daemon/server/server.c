/* The loop thread: set-up, the store's answers, signals, timers, draining, tear-down. */
#include "daemon/server/impl.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <systemd/sd-daemon.h>
#include "daemon/base/listen.h"
#include "daemon/embed/embed.h"
#include "daemon/server/handoff.h"
#include "protocol/frame.h"
#include "daemon/store/proof.h"

#define TICK_MS 1000
#define STORE_STOP_MS 5000
#define OPEN_AFTER_MS 2000 /* a start waits so long for the database before it takes connections without */

/* What is new of it: a service manager that is slow to read would hold up the loop. */
void server_status(struct server *srv)
{
	char text[sizeof srv->status];
	if (srv->draining)
		snprintf(text, sizeof text, "STATUS=stopping: %zu sessions, %u steps still running", srv->n_sessions, HASH_COUNT(srv->steps));
	else if (srv->db_stuck[0])
		snprintf(text, sizeof text, "STATUS=the database writes nothing: %s", srv->db_stuck);
	else if (srv->db_up)
		snprintf(text, sizeof text, "STATUS=serving %zu sessions, %u steps running", srv->n_sessions, HASH_COUNT(srv->steps));
	else
		snprintf(text, sizeof text, "STATUS=waiting for the database: %s", srv->db_error[0] ? srv->db_error : "connecting");
	if (strcmp(text, srv->status) == 0)
		return;
	memcpy(srv->status, text, sizeof text);
	sd_notify(0, text);
}

/* Who connects while the database comes up waits in the socket's queue, instead of being told to come again. */
static void open_doors(struct server *srv)
{
	if (srv->open || srv->draining)
		return;
	srv->open = true;
	event_add(srv->ev_listen, NULL);
	sd_notify(0, "READY=1");
	server_status(srv);
}

static void on_open(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	open_doors(arg);
}

static void stop_loop(struct server *srv)
{
	srv->stop = true;
	event_base_loopbreak(srv->base);
}

void server_fail(struct server *srv, const struct err *e)
{
	if (!srv->has_fatal)
		srv->fatal = *e;
	srv->has_fatal = true;
	stop_loop(srv);
}

static void on_revived(struct server *srv, struct done *d);

/* Answers of the store --------------------------------------------------------------------------------------------------- */

static void answer_request(struct server *srv, struct req *r)
{
	static void (*const by_kind[REQ_KIND_COUNT])(struct server *, struct req *) = {
		[REQ_RESULT] = result_answered, [REQ_CREATE] = create_answered, [REQ_STATES] = waits_answered, [REQ_CANCEL] = cancel_answered, [REQ_API] = api_answered,
		[REQ_START] = starts_answered};
	pool_return(srv, r);
	store_released(srv->store, r);
	quota_answered(srv, r);
	struct session *asker = r->counted ? session_find(srv, r->origin.session) : NULL;
	if (asker)
		session_answered(asker);
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

static void on_up(struct server *srv, struct done *d)
{
	log_event(LOG_DATABASE_UP, NULL, "database up: PostgreSQL %d.%d", d->server_version / 10000, d->server_version % 100);
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
	open_doors(srv);
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
		struct waited *w;
		HASH_FIND(hh, srv->waited, &t->task, sizeof t->task, w);
		waited_for = waited_for || w;
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

static void on_answers(evutil_socket_t fd, short what, void *arg)
{
	static void (*const by_kind[])(struct server *, struct done *) = {
		[DONE_BATCH] = on_batch,	 [DONE_UP] = on_up,
		[DONE_DOWN] = on_down,		 [DONE_ADOPTED] = on_adopted,
		[DONE_NOTIFY_READY] = on_ready,	 [DONE_NOTIFY_TEMPLATES] = handlers_loaded,
		[DONE_NOTIFY_SETTLED] = on_settled, [DONE_NOTIFY_CANCEL] = on_cancelled,
		[DONE_STUCK] = on_stuck,	 [DONE_UNSTUCK] = on_unstuck,
		[DONE_FATAL] = on_fatal,	 [DONE_REVIVED] = on_revived,
		[DONE_NOTIFY_EVENTS] = NULL,	 [DONE_NOTIFY_DRAIN] = workers_drain,
		[DONE_NOTIFY_TOKENS] = on_tokens,
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

/* Listening -------------------------------------------------------------------------------------------------------------- */

static void pause_accepting(struct server *srv)
{
	event_del(srv->ev_listen);
	event_add(srv->ev_accept_again, &(struct timeval){.tv_sec = 1});
}

static void on_accept_again(evutil_socket_t fd, short what, void *arg)
{
	struct server *srv = arg;
	(void)fd, (void)what;
	if (!srv->draining)
		event_add(srv->ev_listen, NULL);
}

/* One try: whoever comes to a full house is told so. */
static void say_full(int fd, const struct err *full)
{
	struct buf b;
	buf_init(&b, 4096);
	size_t mark = frame_begin(&b);
	mp_array(&b, 3);
	mp_uint(&b, ENV_NOTIFICATION);
	mp_str(&b, "error");
	write_error(&b, full);
	frame_end(&b, mark);
	if (!b.failed)
		(void)!send(fd, b.data, b.len, MSG_NOSIGNAL | MSG_DONTWAIT);
	buf_done(&b);
}

static void turn_away(struct server *srv, int fd, const struct err *why)
{
	unsigned suppressed = 0;
	if (ratelimit_ok(&srv->peer_log, now_mono(), &suppressed))
		log_event(LOG_CONNECTION_REFUSED, NULL, "a connection is refused: %s (%u messages like this left out before)", why->text, suppressed);
	srv->c_rejected_sessions++;
	say_full(fd, why);
	close(fd);
}

static void on_accept(evutil_socket_t lfd, short what, void *arg)
{
	struct server *srv = arg;
	(void)what;
	for (int i = 0; i < 64; i++) {
		int fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0) {
			if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
				log_event(LOG_OUT_OF_DESCRIPTORS, NULL, "cannot accept: %s; trying again in a second", strerror(errno));
				pause_accepting(srv);
			}
			break;
		}
		struct err full = {.code = "overloaded", .text = "out of memory"};
		if (quota_connect(srv, fd, &full) < 0 || !session_new(srv, fd))
			turn_away(srv, fd, &full);
	}
	server_flush(srv);
}

static void make_parent(const char *path)
{
	char dir[4096];
	snprintf(dir, sizeof dir, "%s", path);
	char *slash = strrchr(dir, '/');
	if (!slash || slash == dir)
		return;
	*slash = '\0';
	mkdir(dir, 0755); /* bind says what is wrong if this did not help */
}

static int open_listener(struct server *srv, struct err *e)
{
	int r = takeover(srv, &srv->listen_fd, e);
	if (r < 0)
		return r;
	if (srv->listen_fd >= 0) {
		if (sd_is_socket_unix(srv->listen_fd, SOCK_STREAM, 1, NULL, 0) <= 0)
			return err_set(e, -EINVAL, "internal", "systemd passed something that is not a listening Unix stream socket");
		evutil_make_socket_nonblocking(srv->listen_fd);
		return 0;
	}
	make_parent(srv->opt->socket);
	srv->own_socket = true;
	return listen_unix(srv->opt->socket, srv->opt->socket_mode, srv->opt->socket_gid, "--socket", &srv->listen_fd, e);
}

/* Stopping --------------------------------------------------------------------------------------------------------------- */

static void tell_draining(struct server *srv)
{
	struct session *s, *tmp;
	HASH_ITER(hh, srv->sessions, s, tmp) {
		if (s->state != SESSION_OPEN)
			continue;
		size_t mark = notify_begin(s, "server.draining");
		mp_map(&s->out, 1);
		mp_str(&s->out, "deadline_ms");
		mp_int(&s->out, srv->opt->drain_timeout_ms);
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
	return store_depth(srv->store) == 0 && HASH_COUNT(srv->journals) == 0;
}

static void on_drain_check(evutil_socket_t fd, short what, void *arg)
{
	struct server *srv = arg;
	(void)fd, (void)what;
	if (srv->handing ? handoff_check(srv) : drained(srv) || now_mono() >= srv->drain_until || !srv->ever_up)
		stop_loop(srv);
}

/* Who comes now is refused at once and finds the next daemon; systemd's own socket keeps them for it. */
static void stop_listening(struct server *srv)
{
	event_del(srv->ev_listen);
	event_del(srv->ev_accept_again);
	if (!srv->own_socket)
		return;
	unlink(srv->opt->socket);
	close(srv->listen_fd);
	srv->listen_fd = -1;
}

static void start_draining(struct server *srv)
{
	log_event(LOG_STOPPING, NULL, "stopping: %u steps are running, waiting up to %d ms for them", HASH_COUNT(srv->steps), srv->opt->drain_timeout_ms);
	srv->draining = true;
	srv->drain_until = now_mono() + (usec_t)srv->opt->drain_timeout_ms * USEC_PER_MSEC;
	sd_notify(0, "STOPPING=1");
	stop_listening(srv);
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

static void on_stop_signal(evutil_socket_t sig, short what, void *arg)
{
	struct server *srv = arg;
	(void)sig, (void)what;
	if (srv->stop_signals++ == 0)
		start_draining(srv);
	else
		stop_loop(srv); /* asked twice: now */
}

/* The service manager starts another daemon at once, and keeps what it is given for it. Without one that is a stop like any other. */
static void on_restart_signal(evutil_socket_t sig, short what, void *arg)
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
	sd_notify(0, "STOPPING=1");
	stop_listening(srv);
	handoff_begin(srv);
	if (srv->front_state)
		srv->front->drain(srv->front_state);
	server_status(srv);
	event_add(srv->ev_drain, &(struct timeval){.tv_usec = 2000});
	server_flush(srv);
}

/* Steps that nobody answered in time go back without using an attempt. */
static void release_running(struct server *srv)
{
	struct session *s, *tmp;
	HASH_ITER(hh, srv->sessions, s, tmp)
		if (s->state == SESSION_OPEN || s->state == SESSION_DETACHED)
			steps_lost(s, OUTCOME_RELEASED, "the daemon stopped before a result");
}

/* Timers and children ---------------------------------------------------------------------------------------------------- */

/* What the node's row says to those who look at other nodes. */
static void tell_load(struct server *srv)
{
	struct session *s, *tmp;
	struct store_load l = {.sessions = (unsigned)srv->n_sessions};
	HASH_ITER(hh, srv->sessions, s, tmp) {
		l.workers += s->worker && s->state == SESSION_OPEN;
		l.open_steps += s->open;
	}
	store_set_load(srv->store, &l);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct server *srv = arg;
	(void)fd, (void)what;
	handlers_report_missing(srv);
	watch_tick(srv);
	rates_tick(srv, now_mono());
	tell_load(srv);
	tokens_tick(srv);
	sessions_read_on(srv);
	server_status(srv);
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

/* The embedded PostgreSQL ------------------------------------------------------------------------------------------------- */

/* Crash recovery can take long, so a thread of its own waits for it; it owns srv->em until its answer has been read. */
static void *revive_main(void *arg)
{
	struct server *srv = arg;
	struct done *d = done_new(DONE_REVIVED);
	struct err e = {0};
	if (!d)
		abort();
	d->failed = embed_restart(srv->em, &e) < 0;
	d->err = e;
	mailbox_push(&srv->answers, &d->mail);
	return NULL;
}

static void watch_embedded(struct server *srv);

static void on_embedded_exit(evutil_socket_t fd, short what, void *arg)
{
	struct server *srv = arg;
	(void)fd, (void)what;
	event_free(srv->ev_embedded);
	srv->ev_embedded = NULL;
	close(srv->embedded_fd);
	srv->embedded_fd = -1;
	if (srv->stop || srv->draining)
		return;
	log_event(LOG_EMBEDDED_ENDED, NULL, "the embedded PostgreSQL has ended unexpectedly; starting it again");
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	srv->reviving = pthread_create(&srv->reviver, NULL, revive_main, srv) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void on_revived(struct server *srv, struct done *d)
{
	pthread_join(srv->reviver, NULL);
	srv->reviving = false;
	if (!d->failed) {
		log_event(LOG_EMBEDDED_BACK, NULL, "the embedded PostgreSQL is running again");
		watch_embedded(srv);
		return;
	}
	struct err e;
	err_set(&e, -EIO, "internal", "the embedded PostgreSQL cannot be started again: %.300s", d->err.text);
	server_fail(srv, &e);
}

static void watch_embedded(struct server *srv)
{
	if (!srv->em || embed_pid(srv->em) <= 0)
		return;
	srv->embedded_fd = (int)syscall(SYS_pidfd_open, embed_pid(srv->em), 0);
	if (srv->embedded_fd < 0)
		return;
	srv->ev_embedded = event_new(srv->base, srv->embedded_fd, EV_READ, on_embedded_exit, srv);
	if (srv->ev_embedded)
		event_add(srv->ev_embedded, NULL);
}

static void stop_watching_embedded(struct server *srv)
{
	if (srv->reviving)
		pthread_join(srv->reviver, NULL);
	if (srv->ev_embedded)
		event_free(srv->ev_embedded);
	if (srv->embedded_fd >= 0)
		close(srv->embedded_fd);
}

static void on_hup(evutil_socket_t sig, short what, void *arg)
{
	(void)sig, (void)what;
	server_reload(arg);
}

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
	struct event **events[] = {&srv->ev_answers, &srv->ev_listen, &srv->ev_open, &srv->ev_term, &srv->ev_int, &srv->ev_restart, &srv->ev_hup, &srv->ev_tick, &srv->ev_poll, &srv->ev_grace, &srv->ev_accept_again, &srv->ev_drain, &srv->ev_watchdog};
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
	} keep[] = {{"complete", o->retention_complete_minutes}, {"error", o->retention_error_minutes}, {"cancelled", o->retention_cancelled_minutes},
		    {"resolved_manually", o->retention_resolved_minutes}, {"archived", o->retention_archived_minutes}};
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
	if ((r = open_listener(srv, e)) < 0)
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

/* Everything in the reverse order of its making; what the store still had to say is dropped unread. */
static void finish(struct server *srv)
{
	stop_watching_embedded(srv);
	if (srv->front_state)
		srv->front->stop(srv->front_state);
	srv->auth = auth_free(srv->auth);
	if (srv->store) {
		if (srv->handing)
			handoff_forget(srv);
		else
			release_running(srv);
		session_free_all(srv);
		srv->store = store_stop(srv->store, STORE_STOP_MS);
	}
	if (srv->answers.fd > 0) {
		for (struct mail *m = mailbox_take(&srv->answers), *next; m; m = next) {
			next = m->next;
			bulk_abandon(((struct done *)m)->reqs);
			done_free((struct done *)m);
		}
		mailbox_done(&srv->answers);
	}
	metrics_done(srv);
	consumers_free(srv);
	watches_free(srv);
	waits_free(srv);
	steps_free(srv);
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
	struct server srv = {.opt = opt, .em = em, .front = front, .started = now_mono(), .listen_fd = -1, .answers = {.fd = -1}, .embedded_fd = -1, .peer_log = {.window_us = 10 * USEC_PER_SEC, .burst = 100}, .step_log = {.window_us = 10 * USEC_PER_SEC, .burst = 500}};
	TAILQ_INIT(&srv.dirty);
	TAILQ_INIT(&srv.to_ask);
	TAILQ_INIT(&srv.recent_order);
	TAILQ_INIT(&srv.consumers);
	TAILQ_INIT(&srv.metrics.waiting);
	signal(SIGPIPE, SIG_IGN);
	int r = start(&srv, conninfo, e);
	if (r == 0) {
		log_event(LOG_STARTED, NULL, "taskerd %s: node %s, listening on %s", TASKERD_VERSION, opt->node_name, opt->socket);
		watch_embedded(&srv);
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

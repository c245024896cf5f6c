/* Sessions: accept to close. Reads whole frames and hands them to message.c; gathers output and writes it once a loop
 * turn, so that a batch of steps or acknowledgements costs one system call. A session that dies inside a callback is
 * marked and freed by server_flush, after the turn.
 *
 * A worker process's death is seen twice: as end of file, and by its pidfd, which also speaks when a child has
 * inherited the socket. */
#include "daemon/server/session.h"

#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "daemon/base/clock.h"
#include "daemon/base/err.h"
#include "daemon/base/hash.h"
#include "daemon/base/log.h"
#include "daemon/config/access.h"
#include "daemon/core/uuid.h"
#include "daemon/server/admit.h"
#include "daemon/server/answers.h"
#include "daemon/server/bounds.h"
#include "daemon/server/consume.h"
#include "daemon/server/front.h"
#include "daemon/server/hello.h"
#include "daemon/server/local.h"
#include "daemon/server/message.h"
#include "daemon/server/notes.h"
#include "daemon/server/pool.h"
#include "daemon/server/quota.h"
#include "daemon/server/reply.h"
#include "daemon/server/state.h"
#include "daemon/server/step_ends.h"
#include "daemon/server/steps.h"
#include "daemon/server/subscribe.h"
#include "daemon/server/waits.h"
#include "daemon/server/watch.h"
#include "daemon/store/request.h"
#include "daemon/store/store.h"
#include "protocol/buf.h"
#include "protocol/frame.h"
#include "protocol/mp.h"

static void read_session(struct session *s);
static void on_readable(evutil_socket_t fd, short what, void *arg);
static void on_writable(evutil_socket_t fd, short what, void *arg);
static void on_timer(evutil_socket_t fd, short what, void *arg);
static void on_pid_exit(evutil_socket_t fd, short what, void *arg);

static void fill_random(void *p, size_t n)
{
	if (getrandom(p, n, 0) != (ssize_t)n)
		abort(); /* the kernel's pool is ready long before a daemon starts */
}

static void watch_process(struct session *s)
{
	s->who.pidfd = s->who.pid > 0 ? (int)syscall(SYS_pidfd_open, s->who.pid, 0) : -1;
	if (s->who.pidfd < 0)
		return;
	event_assign(&s->who.pid_event, s->srv->base, s->who.pidfd, EV_READ, on_pid_exit, s);
	event_add(&s->who.pid_event, NULL);
}

struct session *session_alloc(struct server *srv)
{
	struct session *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	s->srv = srv;
	s->id = ++srv->next_session;
	s->wire.fd = s->who.pidfd = -1;
	s->who.uid = (uid_t)-1;
	s->who.gid = (gid_t)-1;
	s->connected = s->last_frame = now_mono();
	s->step_logs = (struct ratelimit){.window_us = 10 * USEC_PER_SEC, .burst = 2000};
	buf_init(&s->work.broken, 0);
	buf_init(&s->wire.in, 0);
	buf_init(&s->wire.out, 0);
	buf_init(&s->gathered.acks, 0);
	buf_init(&s->gathered.executes, 0);
	TAILQ_INIT(&s->work.steps);
	event_assign(&s->timer, srv->base, -1, 0, on_timer, s);
	return s;
}

int session_begin(struct session *s)
{
	s->without_socket = s->local != NULL;
	if (quota_session_begin(s) < 0) {
		access_rules_free(s->who.own_rules);
		free(s);
		return -ENOMEM;
	}
	HASH_ADD(hh, s->srv->sessions, id, sizeof s->id, s);
	s->srv->n_sessions += !s->without_socket;
	return 0;
}

static void make_names(struct session *s)
{
	uint8_t rnd[16];
	fill_random(rnd, sizeof rnd);
	for (size_t i = 0; i < sizeof rnd; i++)
		snprintf(s->work.token + 2 * i, 3, "%02x", rnd[i]);
	fill_random(rnd, sizeof rnd);
	s->work.uuid = uuid_for_task(now_wall() / USEC_PER_MSEC, rnd);
}

struct session *session_new(struct server *srv, int fd)
{
	struct session *s = session_alloc(srv);
	struct ucred cred;
	socklen_t len = sizeof cred;
	if (!s)
		return NULL;
	s->wire.fd = fd;
	make_names(s);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0) { /* else: nobody */
		s->who.pid = cred.pid;
		s->who.uid = cred.uid;
		s->who.gid = cred.gid;
	}
	if (session_begin(s) < 0)
		return NULL;
	s->who.access = peer_access(srv, fd, s->who.uid, s->who.gid);
	event_assign(&s->wire.rd, srv->base, fd, EV_READ | EV_PERSIST, on_readable, s);
	event_assign(&s->wire.wr, srv->base, fd, EV_WRITE, on_writable, s);
	event_add(&s->wire.rd, NULL);
	event_add(&s->timer, &(struct timeval){.tv_sec = HELLO_TIMEOUT_S});
	watch_process(s);
	return s;
}

struct session *session_find(struct server *srv, uint64_t id)
{
	struct session *s = NULL;
	HASH_FIND(hh, srv->sessions, &id, sizeof id, s);
	return s && s->state != SESSION_DEAD ? s : NULL;
}

void session_mark_dirty(struct session *s)
{
	if (s->wire.dirty)
		return;
	s->wire.dirty = true;
	TAILQ_INSERT_TAIL(&s->srv->dirty, s, wire.dirty_link);
}

void session_mark_first(struct session *s)
{
	if (s->wire.dirty)
		TAILQ_REMOVE(&s->srv->dirty, s, wire.dirty_link);
	s->wire.dirty = true;
	TAILQ_INSERT_HEAD(&s->srv->dirty, s, wire.dirty_link);
}

static void free_strings(char **v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(v[i]);
	free(v);
}

static void close_socket(struct session *s)
{
	if (s->wire.fd < 0)
		return;
	event_del(&s->wire.rd);
	event_del(&s->wire.wr);
	close(s->wire.fd);
	s->wire.fd = -1;
}

static void session_free(struct session *s)
{
	struct server *srv = s->srv;
	close_socket(s);
	event_del(&s->timer);
	if (s->who.pidfd >= 0) {
		event_del(&s->who.pid_event);
		close(s->who.pidfd);
	}
	if (s->wire.dirty)
		TAILQ_REMOVE(&srv->dirty, s, wire.dirty_link);
	HASH_DELETE(hh, srv->sessions, s);
	srv->n_sessions -= !s->without_socket;
	free_strings(s->work.namespaces, s->work.n_namespaces);
	free_strings(s->work.handlers, s->work.n_handlers);
	buf_done(&s->work.broken);
	buf_done(&s->wire.in);
	buf_done(&s->wire.out);
	buf_done(&s->gathered.acks);
	buf_done(&s->gathered.executes);
	subscriber_free(s);
	quota_session_end(s);
	access_rules_free(s->who.own_rules);
	free(s->work.kept_steps);
	free(s);
}

static bool process_alive(const struct session *s)
{
	struct pollfd p = {.fd = s->who.pidfd, .events = POLLIN};
	return s->who.pidfd >= 0 && poll(&p, 1, 0) == 0;
}

static void die(struct session *s)
{
	if (s->is_worker && !s->moved && !s->srv->stop)
		worker_gone(s);
	s->state = SESSION_DEAD;
	session_mark_dirty(s); /* server_flush frees it */
}

static void lose_worker(struct session *s, const char *message)
{
	s->srv->metrics.workers_lost += s->is_worker && !s->moved && !s->srv->stop;
	steps_lost(s, OUTCOME_WORKER_LOST, message);
}

void session_close(struct session *s, const char *why)
{
	if (s->state == SESSION_DEAD || s->state == SESSION_DETACHED)
		return;
	log_debug("session %llu (pid %d, uid %u) closed: %s", (unsigned long long)s->id, (int)s->who.pid,
	          (unsigned)s->who.uid, why);
	note_worker_gone(s, why);
	waits_forget(s);
	watch_forget(s);
	consumers_forget(s);
	subscriber_free(s);
	pool_leave(s);
	close_socket(s);
	local_ended(s, why);
	bool keep =
		s->is_worker && !s->said_goodbye && !TAILQ_EMPTY(&s->work.steps) && process_alive(s) && !s->srv->stop;
	if (keep) { /* what it may have is its own until it is back, or given up */
		s->state = SESSION_DETACHED;
		event_add(&s->timer, &(struct timeval){.tv_sec = RECONNECT_GRACE_MS / 1000,
		                                       .tv_usec = RECONNECT_GRACE_MS % 1000 * 1000});
		return;
	}
	quota_slots(s, 0);
	if (s->said_goodbye)
		steps_lost(s, OUTCOME_RELEASED, "the worker left without running it");
	else
		lose_worker(s, "the worker's connection ended before a result");
	die(s);
}

void session_close_after_flush(struct session *s)
{
	s->wire.closing = true;
	pool_leave(s);
	event_add(&s->timer, &(struct timeval){.tv_sec = CLOSING_TIMEOUT_S});
	session_mark_dirty(s);
}

static void session_detached_timeout(struct session *s)
{
	lose_worker(s, "the worker did not come back");
	die(s);
}

void session_release(struct session *s)
{
	steps_lost(s, OUTCOME_RELEASED, "who may do what was changed while the worker was away");
	die(s);
}

static void on_pid_exit(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;
	struct server *srv = s->srv;
	(void)fd, (void)what;
	if (s->wire.kept)
		return; /* looked at when it is read again */
	if (s->state == SESSION_DETACHED)
		session_detached_timeout(s);
	else if (s->wire.fd >= 0)
		read_session(s); /* what it sent before it died counts; then end of file, or: */
	if (s->state == SESSION_NEW || s->state == SESSION_OPEN)
		session_close(s, "the process has exited");
	server_flush(srv);
}

void session_adopt(struct session *to, struct session *from)
{
	struct open_step *o;
	pool_leave(from);
	while ((o = TAILQ_FIRST(&from->work.steps))) {
		TAILQ_REMOVE(&from->work.steps, o, link);
		TAILQ_INSERT_TAIL(&to->work.steps, o, link);
		o->session = to;
		o->confirmed = false;
	}
	to->work.open = from->work.open;
	to->work.rate = from->work.rate;
	to->work.told_to_finish = from->work.told_to_finish;
	to->draining = to->draining || to->work.told_to_finish;
	to->work.uuid = from->work.uuid;
	to->work.announced = from->work.announced;
	memcpy(to->work.token, from->work.token, sizeof to->work.token);
	from->work.open = 0;
	from->moved = true;
	if (from->state == SESSION_DETACHED) {
		die(from);
		return;
	}
	from->said_goodbye = true; /* nothing is left on it */
	session_close(from, "resumed on another connection");
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;
	struct server *srv = s->srv;
	(void)fd, (void)what;
	if (s->wire.closing && session_speaks(s)) {
		session_close(s, "it did not read why it is closed");
	} else if (s->state == SESSION_NEW) {
		protocol_error(s, "protocol_error", "no hello within %d seconds", HELLO_TIMEOUT_S);
	} else if (s->state == SESSION_DETACHED) {
		session_detached_timeout(s);
	} else if (s->state == SESSION_OPEN && s->is_worker) {
		usec_t silence = s->wire.held_back || s->wire.asks_much ? 0 : now_mono() - s->last_frame,
		       limit = (usec_t)s->srv->opt->heartbeat_ms * 6 * USEC_PER_MSEC;
		if (silence >= limit)
			session_close(s, s->wire.paused ? "it has not read what it was sent for six heartbeats"
			                                : "silent for six heartbeats");
		else
			event_add(&s->timer,
			          &(struct timeval){.tv_sec = (time_t)((limit - silence) / USEC_PER_SEC) + 1});
	}
	server_flush(srv);
}

/* Reading ---------------------------------------------------------------------------------------------------------- */

static void read_on(struct session *s)
{
	if (s->wire.fd >= 0 && !s->wire.paused && !s->wire.held_back && !s->wire.asks_much && !s->wire.kept)
		event_add(&s->wire.rd, NULL);
}

static size_t frame_limit(const struct session *s)
{
	return s->state == SESSION_NEW ? FRAME_MAX_BEFORE_HELLO : s->srv->opt->max_frame;
}

static void handle_frames(struct session *s)
{
	size_t done = 0, off, len;
	usec_t began = quota_work_begin(s);
	while (!s->wire.closing && s->wire.fd >= 0 && !s->wire.kept && s->asked < ASKED_MAX) {
		int r = frame_peek(s->wire.in.data + done, s->wire.in.len - done, frame_limit(s), &off, &len);
		if (r == 0)
			break;
		if (r < 0) {
			protocol_error(s, "protocol_error", "a frame must hold 1 to %zu bytes", frame_limit(s));
			break;
		}
		s->last_frame = now_mono();
		s->srv->c_frames++;
		message_received(s, s->wire.in.data + done + off, len);
		done += off + len;
	}
	quota_work_end(s, began);
	buf_consume(&s->wire.in, done);
	if (s->wire.in.len == 0 && s->wire.in.cap > (1u << 20))
		buf_done(&s->wire.in); /* one large frame does not keep its memory */
}

static void read_session(struct session *s)
{
	size_t got = 0;
	while (s->wire.fd >= 0 && !s->wire.closing && !s->wire.paused && !s->wire.kept && got < READ_TURN_MAX) {
		void *at = buf_reserve(&s->wire.in, READ_CHUNK);
		if (!at) {
			session_close(s, "out of memory");
			break;
		}
		ssize_t n = recv(s->wire.fd, at, READ_CHUNK, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n <= 0) {
			session_close(s, n == 0 ? "end of file" : strerror(errno));
			break;
		}
		buf_added(&s->wire.in, (size_t)n);
		got += (size_t)n;
		handle_frames(s);
		if (s->asked >= ASKED_MAX && s->wire.fd >= 0) {
			s->wire.asks_much = true;
			event_del(&s->wire.rd);
			break;
		}
		if ((size_t)n < READ_CHUNK)
			break;
	}
}

/* What workers send cannot be refused, but while too much of it waits for the database it is left in the socket. */
static bool hold_back(struct session *s)
{
	bool full = s->is_worker && (store_bytes(s->srv->store) >= STORE_BYTES_MAX || quota_full(s));
	if (!full && !quota_rests(s))
		return false;
	s->wire.held_back = true;
	s->srv->n_held_back++;
	event_del(&s->wire.rd);
	return true;
}

void sessions_read_on(struct server *srv)
{
	struct session *s, *tmp;
	if (srv->n_held_back == 0 || store_bytes(srv->store) > STORE_BYTES_MAX / 2)
		return;
	srv->n_held_back = 0;
	HASH_ITER(hh, srv->sessions, s, tmp) {
		if (!s->wire.held_back)
			continue;
		if ((s->is_worker && quota_full(s)) || quota_rests(s)) {
			srv->n_held_back++;
			continue;
		}
		s->wire.held_back = false;
		s->last_frame = now_mono(); /* it was not heard because it was not read */
		read_on(s);
	}
}

void session_answered(struct session *s)
{
	s->asked--;
	if (!s->wire.asks_much || s->asked > ASKED_MAX / 2)
		return;
	s->wire.asks_much = false;
	s->last_frame = now_mono();
	handle_frames(s); /* what was received before */
	s->wire.asks_much = s->asked >= ASKED_MAX;
	read_on(s);
}

void session_hold(struct session *s)
{
	s->wire.kept = true;
	if (s->wire.fd >= 0)
		event_del(&s->wire.rd);
	event_del(&s->timer);
}

void session_release_hold(struct session *s)
{
	s->wire.kept = false;
	s->last_frame = now_mono();
	if (s->is_worker)
		event_add(&s->timer, &(struct timeval){.tv_sec = s->srv->opt->heartbeat_ms * 6 / 1000 + 1});
	if (s->who.pidfd >= 0)
		event_add(&s->who.pid_event, NULL); /* if it has died meanwhile, this says so again */
	handle_frames(s);
	s->wire.asks_much = s->asked >= ASKED_MAX;
	read_on(s);
	session_mark_dirty(s);
}

/* One that makes its user take more memory than it may is ended, and told why. */
static void settle(struct session *s)
{
	struct err e = {0};
	if (s->wire.fd >= 0 && !s->wire.closing && quota_settle(s, &e) < 0)
		refuse_session(s, &e);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;
	struct server *srv = s->srv;
	(void)fd, (void)what;
	if (hold_back(s))
		return;
	read_session(s);
	settle(s);
	server_flush(srv);
}

/* Writing ---------------------------------------------------------------------------------------------------------- */

static void gather(struct session *s, struct buf *items, unsigned *n, const char *method, const char *key)
{
	if (*n == 0)
		return;
	size_t mark = notify_begin(s, method);
	mp_map(&s->wire.out, 1);
	mp_str(&s->wire.out, key);
	mp_array(&s->wire.out, *n);
	buf_join(&s->wire.out, items);
	notify_end(s, mark);
	buf_reset(items);
	if (items->cap > (1u << 20))
		buf_done(items);
	*n = 0;
}

void session_gather(struct session *s)
{
	gather(s, &s->gathered.acks, &s->gathered.n_acks, "result.ack", "acks");
	gather(s, &s->gathered.executes, &s->gathered.n_executes, "step.execute", "steps");
	s->gathered.execute_items = 0;
	events_gather(s);
}

/* True when everything is sent. */
static bool write_some(struct session *s)
{
	while (s->wire.out_off < s->wire.out.len) {
		ssize_t n = send(s->wire.fd, s->wire.out.data + s->wire.out_off, s->wire.out.len - s->wire.out_off,
		                 MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return false;
		if (n < 0) {
			session_close(s, strerror(errno));
			return false;
		}
		s->wire.out_off += (size_t)n;
	}
	s->wire.out_off = 0;
	buf_reset(&s->wire.out);
	if (s->wire.out.cap > (1u << 20))
		buf_done(&s->wire.out);
	return true;
}

static void pace(struct session *s, size_t unsent)
{
	if (unsent > OUT_MAX) {
		session_close(s, "it does not read what it asked for");
	} else if (!s->wire.paused && unsent > OUT_PAUSE) {
		s->wire.paused = true;
		event_del(&s->wire.rd);
	} else if (s->wire.paused && unsent < OUT_PAUSE / 2) {
		s->wire.paused = false;
		read_on(s);
	}
}

static void flush_session(struct session *s)
{
	if (!session_speaks(s))
		return;
	session_gather(s);
	if (s->wire.out.failed) {
		session_close(s, "out of memory");
		return;
	}
	if (s->local) {
		local_flush(s);
		return;
	}
	bool all = write_some(s);
	if (s->wire.fd < 0)
		return;
	if (all && s->wire.closing) {
		session_close(s, "done");
		return;
	}
	if (!all)
		event_add(&s->wire.wr, NULL);
	else if (subscriber_lost(s))
		session_mark_dirty(s); /* it has caught up: now it is told */
	pace(s, s->wire.out.len - s->wire.out_off);
	struct err e = {0};
	if (s->wire.fd >= 0 && quota_settle(s, &e) < 0)
		session_close(s, e.text);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;
	struct server *srv = s->srv;
	(void)fd, (void)what;
	session_mark_dirty(s);
	server_flush(srv);
}

void server_flush(struct server *srv)
{
	struct session *s;
	waits_ask(srv);
	server_kick(srv);
	while ((s = TAILQ_FIRST(&srv->dirty))) {
		TAILQ_REMOVE(&srv->dirty, s, wire.dirty_link);
		s->wire.dirty = false;
		if (s->state == SESSION_DEAD)
			session_free(s);
		else
			flush_session(s);
	}
	server_kick(srv); /* a session that broke under it gives its steps back */
}

void session_free_all(struct server *srv)
{
	struct session *s, *tmp;
	HASH_ITER(hh, srv->sessions, s, tmp) {
		s->said_goodbye = true;
		if (s->state == SESSION_DETACHED) /* its steps were released before */
			die(s);
		else if (s->state != SESSION_DEAD)
			session_close(s, "the daemon stops");
	}
	server_flush(srv);
}

/* A worker: one thread that reads steps, has their handlers run and sends the results of a whole read in one
 * message. It owns its connection and makes it anew when it is lost; results stay until the daemon has
 * acknowledged them. Handlers run between two reads, for a slice of time at most, so that a long queue does
 * not hold up cancels, results and heartbeats; or on threads (threads.c). */
#include "clients/c/worker.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "protocol/utf8.h"

#define RUN_SLICE_US 1000u
#define BACKOFF_FIRST_MS 100u
/* a restarted daemon keeps steps for its workers for ten seconds, which they must not sleep away */
#define BACKOFF_MAX_MS 2000u
/* How long a stopping worker without a connection tries to deliver what it has. */
#define DRAIN_OFFLINE_TRIES 5u
#define COMPLAIN_EVERY_US 60000000u
#define ABANDON_AFTER_MS 30000
/* How long the end of a worker waits for threads that are about to end. */
#define THREADS_END_MS 1000

/* ---- making one ---- */

static char *copy_text(const char *s, int *failed)
{
	char *copy = s ? strdup(s) : NULL;
	if (s && !copy)
		*failed = 1;
	return copy;
}

static void copy_namespaces(struct tasker_worker *w, const char *const *list, int *failed)
{
	size_t n = 0;
	while (list && list[n])
		n++;
	if (n == 0)
		return;
	w->namespaces = calloc(n, sizeof *w->namespaces);
	if (!w->namespaces) {
		*failed = 1;
		return;
	}
	w->nnamespaces = n;
	for (size_t i = 0; i < n; i++)
		w->namespaces[i] = copy_text(list[i], failed);
}

static int start_threads(struct tasker_worker *w, unsigned n)
{
	int rc = 0;
	w->threads = n;
	for (unsigned i = 0; i < n && rc == 0; i++)
		rc = shared_add_thread(w->shared);
	return rc;
}

static void set_options(struct tasker_worker *w, const struct tasker_worker_options *o)
{
	unsigned own = o->threads ? 2 * o->threads : 16;
	w->max_concurrency = o->max_concurrency ? o->max_concurrency : own;
	w->run_slice_us = RUN_SLICE_US;
	w->timeout_ms = o->timeout_ms > 0 ? o->timeout_ms : 10000;
	w->abandon_after_ms = o->abandon_after_ms ? o->abandon_after_ms : ABANDON_AFTER_MS;
	w->log = o->log;
	w->log_arg = o->log_arg;
	w->posts_end = &w->posts;
	w->epoll_fd = w->timer_fd = w->polled_fd = -1;
	w->rand_state = (unsigned)getpid() ^ (unsigned)tasker_now_us_();
}

int tasker_worker_new(tasker_worker **ret, const struct tasker_worker_options *opts, struct tasker_error *err)
{
	static const struct tasker_worker_options defaults;
	const struct tasker_worker_options *o = opts ? opts : &defaults;
	int failed = 0;
	struct tasker_worker *w = calloc(1, sizeof *w);
	if (!w)
		return tasker_fail_(err, -ENOMEM, "out_of_memory", "out of memory");
	buf_init(&w->broken, 0);
	set_options(w, o);
	w->shared = shared_new();
	w->socket_path = copy_text(o->socket_path, &failed);
	w->client = copy_text(o->client, &failed);
	w->name = copy_text(o->name ? o->name : program_invocation_short_name, &failed);
	copy_namespaces(w, o->namespaces, &failed);
	if (failed || !w->shared) {
		tasker_worker_free(w);
		return tasker_fail_(err, -ENOMEM, "out_of_memory", "out of memory or of file descriptors");
	}
	w->shared->owner = pthread_self();
	w->shared->timeout_ms = w->timeout_ms;
	int rc = start_threads(w, o->threads);
	if (rc < 0) {
		tasker_worker_free(w);
		return tasker_fail_(err, rc, "out_of_memory", "the system has no threads left");
	}
	*ret = w;
	return 0;
}

static unsigned handler_bucket(const char *callable, size_t n)
{
	uint32_t h = 2166136261u;
	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)callable[i]) * 16777619u;
	return (h ^ h >> 16) % HANDLER_BUCKETS;
}

const struct handler *worker_find_handler(const struct tasker_worker *w, const tasker_value *callable)
{
	size_t n;
	const char *name = tasker_text(callable, &n);
	if (!name)
		return NULL;
	for (const struct handler *h = w->handlers[handler_bucket(name, n)]; h; h = h->next)
		if (mp_str_eq(as_object(callable), h->callable))
			return h;
	return NULL;
}

int tasker_worker_add(tasker_worker *w, const char *callable, tasker_handler_fn *fn, void *arg)
{
	struct handler **bucket = &w->handlers[handler_bucket(callable, strlen(callable))];
	for (const struct handler *h = *bucket; h; h = h->next)
		if (strcmp(h->callable, callable) == 0)
			return -EEXIST;
	struct handler *h = malloc(sizeof *h);
	char *copy = strdup(callable);
	if (!h || !copy) {
		free(h);
		free(copy);
		return -ENOMEM;
	}
	*h = (struct handler){.next = *bucket, .callable = copy, .fn = fn, .arg = arg};
	*bucket = h;
	w->nhandlers++;
	return 0;
}

static void put_cut(struct buf *b, const char *key, const char *text)
{
	char cut[BROKEN_TEXT + 1];
	utf8_copy(cut, sizeof cut, text, strlen(text));
	mp_str(b, key);
	mp_str(b, cut);
}

int tasker_worker_broken(tasker_worker *w, const char *name, const char *file, unsigned line,
                         const char *message)
{
	if (w->nbroken == BROKEN_MAX)
		return 0;
	mp_map(&w->broken, 4);
	put_cut(&w->broken, "name", name);
	put_cut(&w->broken, "file", file ? file : "");
	mp_str(&w->broken, "line");
	mp_uint(&w->broken, line);
	put_cut(&w->broken, "message", message);
	w->nbroken += w->broken.failed == 0;
	return w->broken.failed;
}

void tasker_worker_on_cancel(tasker_worker *w, void (*fn)(void *, tasker_step *, const char *), void *arg)
{
	w->on_cancel = fn;
	w->on_cancel_arg = arg;
}

/* A step that a thread runs is left to that thread. */
static void free_steps(struct step_list *l)
{
	while (l->head) {
		struct tasker_step *s = l->head;
		step_list_remove(l, s);
		if (!s->on_thread || !run_give_up(s))
			step_free(s);
	}
}

static void free_shared(struct tasker_worker *w)
{
	static const struct tasker_error ended = {
	    .rc = -ENOTCONN, .code = "connection_lost", .message = "the worker has ended"};
	if (!w->shared)
		return;
	shared_close(w->shared, THREADS_END_MS);
	run_swept(w);
	run_fail_posts(w, &ended);
}

static void free_handlers(struct tasker_worker *w)
{
	for (size_t i = 0; i < HANDLER_BUCKETS; i++) {
		struct handler *h;
		while ((h = w->handlers[i])) {
			w->handlers[i] = h->next;
			free(h->callable);
			free(h);
		}
	}
}

/* Send what is queued, waiting a second at most, and close. */
static void hang_up(struct tasker_worker *w)
{
	uint64_t deadline = tasker_now_us_() + 1000000;
	if (!w->conn)
		return;
	w->conn->sink = NULL;
	tasker_notify_json(w->conn, "goodbye", NULL, NULL);
	conn_flush_(w->conn);
	while (conn_backlog_(w->conn) > 0 && tasker_now_us_() < deadline)
		if (tasker_process(w->conn, 10000, NULL) < 0)
			break;
	w->conn = tasker_close(w->conn);
}

tasker_worker *tasker_worker_free(tasker_worker *w)
{
	if (!w)
		return NULL;
	hang_up(w);
	free_shared(w);
	free_steps(&w->queue);
	free_steps(&w->deferred);
	worker_fd_done(w);
	results_done(&w->results);
	free_handlers(w);
	buf_done(&w->broken);
	for (size_t i = 0; i < w->nnamespaces; i++)
		free(w->namespaces[i]);
	free(w->namespaces);
	free(w->socket_path);
	free(w->client);
	free(w->name);
	shared_unref(w->shared);
	free(w);
	return NULL;
}

void tasker_worker_stop(tasker_worker *w)
{
	int e = errno;
	w->stop = w->stop ? 2 : 1;
	shared_wake(w->shared);
	errno = e;
}

void tasker_worker_stats(const tasker_worker *w, struct tasker_worker_stats *ret)
{
	*ret = w->stats;
	ret->held = w->queue.count + w->deferred.count;
	ret->unacknowledged = w->results.count;
}

/* ---- the connection ---- */

/* Will trying again ever help? */
static bool is_final(const struct tasker_error *e)
{
	static const char *const passing[] = {"overloaded", "database_unavailable", "shutting_down",
	                                      "internal"};
	if (e->rc != -EREMOTEIO)
		return strcmp(e->code, "unsupported_version") == 0 || strcmp(e->code, "too_large") == 0;
	for (size_t i = 0; i < sizeof passing / sizeof *passing; i++)
		if (strcmp(e->code, passing[i]) == 0)
			return false;
	return true;
}

static void plan_retry(struct tasker_worker *w, const struct tasker_error *e)
{
	unsigned shift = w->failures < 7 ? w->failures : 7;
	unsigned cap = BACKOFF_FIRST_MS << shift;
	cap = cap < BACKOFF_MAX_MS ? cap : BACKOFF_MAX_MS;
	uint64_t delay = (uint64_t)rand_r(&w->rand_state) % cap;
	if (delay < e->retry_after_ms && e->retry_after_ms <= 60000)
		delay = e->retry_after_ms;
	uint64_t now = tasker_now_us_();
	w->retry_at_us = now + delay * 1000;
	if (w->complained_us == 0 || now - w->complained_us >= COMPLAIN_EVERY_US) {
		worker_log(w, "cannot connect: %s; trying again", e->message);
		w->complained_us = now;
	}
	w->failures++;
}

/* One that was of use is made anew at once, or nearly; one that was not, later and later. */
static void drop_connection(struct tasker_worker *w)
{
	struct tasker_error why = w->conn->lost;
	worker_log(w, "connection lost: %s", why.message);
	if (w->conn->useful)
		w->failures = 0;
	w->conn = tasker_close(w->conn);
	w->complained_us = tasker_now_us_();
	plan_retry(w, &why);
	if (w->drain != DRAIN_DONE)
		w->drain = DRAIN_NO;
}

static int64_t at_most(int64_t timeout_us, int64_t limit)
{
	return timeout_us < 0 || timeout_us > limit ? limit : timeout_us;
}

/* Wait for the connection (if there is one) or a call of tasker_worker_stop. */
static void wait_for_work(struct tasker_worker *w, int64_t timeout_us)
{
	struct pollfd p[2] = {{.fd = w->shared->wake_fd, .events = POLLIN}, {.fd = -1}};
	struct timespec ts = {.tv_sec = timeout_us / 1000000, .tv_nsec = (timeout_us % 1000000) * 1000};
	if (w->conn)
		p[1] = (struct pollfd){.fd = tasker_fd(w->conn), .events = tasker_events(w->conn)};
	ppoll(p, 2, &ts, NULL);
	if (p[0].revents & POLLIN)
		shared_awake(w->shared);
}

/* True once there is a connection. */
static bool connected(struct tasker_worker *w, int64_t timeout_us)
{
	struct tasker_error e;
	uint64_t now = tasker_now_us_();
	if (w->conn)
		return true;
	if (now < w->retry_at_us) {
		wait_for_work(w, at_most(timeout_us, (int64_t)(w->retry_at_us - now)));
		if (tasker_now_us_() < w->retry_at_us)
			return false;
	}
	int rc = worker_connect(w, &e);
	if (rc == 0) {
		w->complained_us = 0;
		return true;
	}
	if (is_final(&e))
		w->fatal = e;
	else
		plan_retry(w, &e);
	return false;
}

/* What fails is kept in the connection. */
static void heartbeat(struct tasker_worker *w)
{
	uint64_t now = tasker_now_us_();
	if (now - w->conn->last_sent_us < (uint64_t)w->conn->heartbeat_ms * 500)
		return;
	if (tasker_notify_json(w->conn, "heartbeat", NULL, NULL) >= 0)
		conn_flush_(w->conn);
}

/* ---- stopping ---- */

static bool empty_handed(const struct tasker_worker *w)
{
	return w->queue.count == 0 && w->deferred.count == 0 && w->results.count == 0;
}

/* Steps that were on their way are given to others when the session ends; they cost no attempt. */
static void ask_to_drain(struct tasker_worker *w)
{
	static const char draining[] = "\x81\xa8"
	                               "draining"
	                               "\xc3";
	if (tasker_notify(w->conn, "worker.update", draining, sizeof draining - 1, NULL) == 0)
		w->drain = DRAIN_ASKED;
}

/* True when there is nothing left to do. */
static bool drained(struct tasker_worker *w)
{
	if (!w->stop)
		return false;
	if (w->conn && w->drain == DRAIN_NO)
		ask_to_drain(w);
	run_give_back(w);
	bool offline = !w->conn && w->failures >= DRAIN_OFFLINE_TRIES;
	if (w->stop > 1 || empty_handed(w) || offline)
		w->drain = DRAIN_DONE;
	if (w->drain == DRAIN_DONE)
		hang_up(w);
	return w->drain == DRAIN_DONE;
}

/* ---- the loop ---- */

static void turn(struct tasker_worker *w, int64_t timeout_us)
{
	int64_t wait = w->queue.head ? 0 : at_most(timeout_us, w->conn->heartbeat_ms * 250);
	uint64_t now = w->abandon_at_us ? tasker_now_us_() : 0;
	if (w->abandon_at_us)
		wait = at_most(wait, w->abandon_at_us > now ? (int64_t)(w->abandon_at_us - now) : 0);
	/* Deferred steps were finished between two turns. */
	if (w->results.unsent)
		worker_flush_results(w);
	if (wait != 0 && w->conn->lost.rc == 0)
		wait_for_work(w, wait);
	int rc = tasker_process(w->conn, 0, NULL);
	if (w->stop)
		run_give_back(w);
	if (rc >= 0)
		rc = run_queue(w);
	if (rc >= 0)
		rc = run_swept(w);
	run_abandon(w);
	if (rc >= 0)
		rc = worker_flush_results(w);
	if (rc >= 0)
		heartbeat(w);
	if (w->conn->lost.rc < 0)
		drop_connection(w);
}

static int one_turn(struct tasker_worker *w, int64_t timeout_us)
{
	bool was_connected = w->conn != NULL;
	/* A connection made is something that has happened: steps may have been cancelled with it. */
	if (connected(w, timeout_us))
		turn(w, was_connected ? timeout_us : 0);
	else
		run_swept(w);
	return w->fatal.rc;
}

int tasker_worker_poll(tasker_worker *w, int64_t timeout_us, struct tasker_error *err)
{
	__atomic_store_n(&w->shared->owner, pthread_self(), __ATOMIC_RELAXED);
	if (w->epoll_fd >= 0)
		shared_awake(w->shared);
	if (drained(w))
		return 0;
	int rc = one_turn(w, timeout_us);
	if (rc < 0) {
		if (err)
			*err = w->fatal;
		return rc;
	}
	bool ended = drained(w);
	worker_fd_update(w);
	return !ended;
}

int tasker_worker_run(tasker_worker *w, struct tasker_error *err)
{
	int rc;
	while ((rc = tasker_worker_poll(w, -1, err)) > 0)
		;
	return rc;
}

/* The C client library reads what a daemon, or whoever has taken its place, sends. The first byte of the
 * input says whether to a plain connection (even) or to a worker (odd), the rest comes through the socket.
 *
 * Promises: every request is answered exactly once; a worker never holds more than it was sent; and whatever
 * comes in, what goes out is frames that a daemon accepts. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "clients/c/worker.h"
#include "protocol/frame.h"

#define DEFERRED_MAX 64

static tasker_step *deferred[DEFERRED_MAX];
static size_t ndeferred, answers;

static enum tasker_verdict defer(void *arg, tasker_step *s)
{
	(void)arg;
	if (ndeferred == DEFERRED_MAX)
		return TASKER_DONE;
	deferred[ndeferred++] = s;
	return TASKER_DEFERRED;
}

static enum tasker_verdict echo(void *arg, tasker_step *s)
{
	char *json = tasker_json(tasker_get(tasker_step_value(s), "context"));
	(void)arg;
	if (json)
		tasker_step_succeed(s, json, NULL);
	free(json);
	return TASKER_DONE;
}

static void on_reply(void *arg, const tasker_value *result, const struct tasker_error *err)
{
	char *json = result ? tasker_json(result) : NULL;
	(void)arg;
	assert((result == NULL) != (err == NULL));
	free(json);
	answers++;
}

static void on_notification(void *arg, const char *method, const tasker_value *params)
{
	char *json = tasker_json(params);
	(void)arg;
	(void)method;
	free(json);
}

/* Everything that was sent is whole frames of well-formed values. */
static void check_sent(int fd)
{
	struct buf b;
	const struct scan_limits limits = {.max_items = 262144, .max_depth = SCAN_MAX_DEPTH};
	struct scan_error why;
	ssize_t n = 1;
	buf_init(&b, 0);
	while (n > 0) {
		void *at = buf_reserve(&b, 65536);
		assert(at);
		n = recv(fd, at, 65536, MSG_DONTWAIT);
		buf_added(&b, n > 0 ? (size_t)n : 0);
	}
	for (size_t at = 0, off, len; at < b.len; at += off + len) {
		assert(frame_peek(b.data + at, b.len - at, 4u << 20, &off, &len) == 1);
		assert(scan_value(b.data + at + off, len, &limits, &why) == 0);
	}
	buf_done(&b);
}

static void as_client(tasker *t)
{
	answers = 0;
	tasker_on_notification(t, on_notification, NULL);
	for (int i = 0; i < 3; i++)
		assert(tasker_send_json(t, "ping", NULL, on_reply, NULL, NULL) == 0);
	while (tasker_process(t, 0, NULL) > 0)
		;
	tasker_close(t);
	assert(answers == 3);
}

static void finish_deferred(void)
{
	while (ndeferred > 0)
		tasker_step_finish(deferred[--ndeferred], NULL);
}

static void as_worker(tasker *t, tasker_worker *w)
{
	struct tasker_worker_stats st;
	t->sink = worker_sink;
	t->sink_arg = w;
	w->conn = t;
	while (w->conn && tasker_worker_poll(w, 0, NULL) > 0 && w->queue.head)
		;
	finish_deferred();
	if (w->conn)
		tasker_worker_poll(w, 0, NULL);
	tasker_worker_stats(w, &st);
	assert(st.recorded + st.refused + st.unacknowledged <= st.steps);
}

static void run(tasker *t, bool worker)
{
	static const char nowhere[] = "/nonexistent/socket";
	const struct tasker_worker_options o = {.socket_path = nowhere};
	tasker_worker *w = NULL;
	if (!worker) {
		as_client(t);
		return;
	}
	assert(tasker_worker_new(&w, &o, NULL) == 0);
	tasker_worker_add(w, "e", echo, NULL);
	tasker_worker_add(w, "d", defer, NULL);
	as_worker(t, w);
	tasker_worker_free(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int pair[2];
	if (size < 1 || size > 60000)
		return 0;
	assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
	assert(send(pair[1], data + 1, size - 1, MSG_NOSIGNAL) == (ssize_t)size - 1);
	tasker *t = conn_new_("fuzz", pair[0], NULL, NULL);
	assert(t);
	run(t, data[0] & 1);
	check_sent(pair[1]);
	close(pair[1]);
	return 0;
}

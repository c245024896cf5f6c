/* A connection to the daemon: bytes in, bytes out, frames to messages, answers to their requests. It belongs
 * to one thread, never blocks outside poll() in tasker_process, and never reconnects: when it has ended it
 * says why to every open request and to every later call. What arrives is scanned before it is decoded, as if
 * the peer were hostile. */
#include "clients/c/conn.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "protocol/envelope.h"
#include "protocol/frame.h"
#include "protocol/mpjson.h"
#include "protocol/msg.h"

#define READ_CHUNK (64u << 10)
/* Bytes taken from the socket before the messages in them are handled. */
#define READ_BUDGET (1u << 20)

/* ---- messages ---- */

struct msg_frame *msg_frame_ref(struct msg_frame *f)
{
	__atomic_add_fetch(&f->refs, 1, __ATOMIC_RELAXED);
	return f;
}

void msg_frame_unref(struct msg_frame *f)
{
	if (!f || __atomic_sub_fetch(&f->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	mp_value_done(&f->v);
	free(f);
}

struct msg_frame *msg_frame_of(const struct buf *b)
{
	struct msg_frame *f = b->failed ? NULL : malloc(sizeof *f + b->len);
	if (!f)
		return NULL;
	f->refs = 1;
	memcpy(f->bytes, b->data, b->len);
	if (mp_decode(f->bytes, b->len, &f->v) == 0)
		return f;
	free(f);
	return NULL;
}

/* ---- the end of a connection ---- */

static void answer(tasker *t, struct request *r, const msgpack_object *result, const struct tasker_error *err)
{
	bool was = t->in_callback;
	t->in_callback = true;
	if (r->fn)
		r->fn(r->arg, as_value(result), err);
	t->in_callback = was;
	free(r);
	t->open_requests--;
}

static void answer_all(tasker *t, const struct tasker_error *err)
{
	for (size_t i = 0; i < REQUEST_BUCKETS; i++) {
		struct request *r;
		while ((r = t->requests[i])) {
			t->requests[i] = r->next;
			answer(t, r, NULL, err);
		}
	}
}

int conn_lost_(tasker *t, int rc, const char *code, const char *fmt, ...)
{
	if (t->lost.rc == 0) {
		char text[400];
		va_list ap;
		va_start(ap, fmt);
		vsnprintf(text, sizeof text, fmt, ap);
		va_end(ap);
		tasker_fail_(&t->lost, rc, code, "%s", text);
		if (t->farewell.rc < 0 && rc == -ECONNRESET)
			t->lost = t->farewell;
	}
	if (t->fd >= 0) {
		close(t->fd);
		t->fd = -1;
	}
	struct tasker_error err = t->lost;
	answer_all(t, &err);
	return t->lost.rc;
}

int conn_usable_(const tasker *t, struct tasker_error *err)
{
	if (t->lost.rc == 0)
		return 0;
	if (err)
		*err = t->lost;
	return t->lost.rc;
}

tasker *tasker_close(tasker *t)
{
	if (!t)
		return NULL;
	conn_lost_(t, -ENOTCONN, "connection_lost", "the connection was closed");
	buf_done(&t->in);
	buf_done(&t->out);
	free(t->details);
	free(t->path);
	free(t);
	return NULL;
}

/* ---- out ---- */

size_t conn_backlog_(const tasker *t)
{
	return t->out.len - t->out_off;
}

int conn_flush_(tasker *t)
{
	while (t->fd >= 0 && t->out_off < t->out.len) {
		ssize_t n = send(t->fd, t->out.data + t->out_off, t->out.len - t->out_off, MSG_NOSIGNAL);
		if (n > 0) {
			t->out_off += (size_t)n;
			t->last_sent_us = tasker_now_us_();
		} else if (errno == EAGAIN) {
			break;
		} else if (errno != EINTR) {
			/* What the daemon said before it closed may still be there to read: that tells the
			 * reason better. */
			t->out_off = t->out.len;
		}
	}
	if (t->out_off == t->out.len) {
		buf_reset(&t->out);
		t->out_off = 0;
	} else if (t->out_off > READ_BUDGET) {
		buf_consume(&t->out, t->out_off);
		t->out_off = 0;
	}
	return t->lost.rc;
}

size_t conn_begin_request_(tasker *t, uint32_t id, const char *method)
{
	size_t mark = frame_begin(&t->out);
	mp_array(&t->out, 4);
	mp_uint(&t->out, ENV_REQUEST);
	mp_uint(&t->out, id);
	mp_str(&t->out, method);
	return mark;
}

size_t conn_begin_notification_(tasker *t, const char *method)
{
	size_t mark = frame_begin(&t->out);
	mp_array(&t->out, 3);
	mp_uint(&t->out, ENV_NOTIFICATION);
	mp_str(&t->out, method);
	return mark;
}

static int take_back(tasker *t, size_t mark)
{
	t->out.len = mark;
	t->out.failed = 0;
	return 0;
}

int conn_end_(tasker *t, size_t mark, struct tasker_error *err)
{
	frame_end(&t->out, mark);
	int failed = t->out.failed;
	size_t n = failed ? 0 : t->out.len - mark - FRAME_HEADER;
	struct scan_error why;
	if (failed) {
		take_back(t, mark);
		return failed == -ENOMEM
		           ? tasker_fail_(err, failed, "out_of_memory", "out of memory")
		           : tasker_fail_(err, -ENOBUFS, "congested", "too much is waiting to be sent");
	}
	if (n > t->max_frame) {
		take_back(t, mark);
		return tasker_fail_(err, -EMSGSIZE, "too_large",
		                    "the message has %zu bytes, the daemon takes %zu at most", n,
		                    t->max_frame);
	}
	if (scan_value(t->out.data + mark + FRAME_HEADER, n, &t->scan, &why) < 0) {
		take_back(t, mark);
		return tasker_fail_(err, -EINVAL,
		                    strncmp(why.what, "too", 3) == 0 ? "too_large" : "invalid_value",
		                    "the message cannot be sent: %s at byte %zu", why.what, why.offset);
	}
	return 0;
}

void conn_register_(tasker *t, struct request *r, uint32_t id, tasker_reply_fn *fn, void *arg)
{
	struct request **bucket = &t->requests[id % REQUEST_BUCKETS];
	*r = (struct request){.next = *bucket, .id = id, .fn = fn, .arg = arg};
	*bucket = r;
	t->open_requests++;
}

/* ---- in ---- */

static void keep_details(tasker *t, const msgpack_object *error)
{
	const tasker_value *d = tasker_get(as_value(error), "details");
	free(t->details);
	t->details = d ? tasker_json(d) : NULL;
}

static int got_response(tasker *t, const struct envelope *e)
{
	struct request **p = &t->requests[e->id % REQUEST_BUCKETS], *r;
	while (*p && (*p)->id != e->id)
		p = &(*p)->next;
	r = *p;
	if (!r)
		return 0; /* a late answer to a call that has given up */
	*p = r->next;
	t->useful = true;
	if (!e->error) {
		answer(t, r, e->result, NULL);
		return 0;
	}
	struct tasker_error err;
	tasker_fail_remote_(&err, e->error);
	keep_details(t, e->error);
	answer(t, r, NULL, &err);
	return 0;
}

/* The daemon says that something we sent was wrong, or that there is no session for us. If it closes the
 * connection now, this is why. */
static void got_error_notification(tasker *t, const msgpack_object *params)
{
	struct tasker_error e;
	bool welcomed = t->session[0];
	tasker_fail_remote_(&e, params);
	bool ours = strcmp(e.code, "protocol_error") == 0 || strcmp(e.code, "unsupported_version") == 0;
	if (ours)
		e.rc = -EPROTO;
	if (ours || !welcomed)
		t->farewell = e;
}

static int got_notification(tasker *t, struct msg_frame *f, const msgpack_object *env)
{
	const msgpack_object *method = &env->via.array.ptr[1], *params = &env->via.array.ptr[2];
	char name[64];
	if (mp_str_eq(method, "error"))
		got_error_notification(t, params);
	bool was = t->in_callback;
	t->in_callback = true;
	if (t->sink)
		t->sink(t->sink_arg, f, method, params);
	if (t->on_notification && tasker_copy(as_value(method), name, sizeof name) < sizeof name)
		t->on_notification(t->on_notification_arg, name, as_value(params));
	t->in_callback = was;
	return 0;
}

static int dispatch(tasker *t, struct msg_frame *f)
{
	struct envelope e;
	const char *why;
	if (envelope_read(&f->v.root, &e, &why) < 0 || e.kind == ENV_REQUEST)
		return -EPROTO;
	return e.kind == ENV_RESPONSE ? got_response(t, &e) : got_notification(t, f, &f->v.root);
}

static int one_message(tasker *t, const unsigned char *payload, size_t len)
{
	struct scan_error why;
	if (scan_value(payload, len, &t->scan, &why) < 0)
		return conn_lost_(t, -EPROTO, "protocol_error",
		                  "the daemon sent a broken message: %s at byte %zu", why.what, why.offset);
	struct msg_frame *f = malloc(sizeof *f + len);
	if (!f)
		return conn_lost_(t, -ENOMEM, "out_of_memory", "out of memory");
	f->refs = 1;
	memcpy(f->bytes, payload, len);
	t->frame = f;
	int rc = mp_decode(f->bytes, len, &f->v);
	if (rc == 0)
		rc = dispatch(t, f);
	t->frame = NULL;
	msg_frame_unref(f);
	if (rc == -ENOMEM)
		return conn_lost_(t, rc, "out_of_memory", "out of memory");
	if (rc < 0)
		return conn_lost_(t, -EPROTO, "protocol_error",
		                  "the daemon sent something that is no message of the protocol");
	return 0;
}

/* Handle every whole frame in the input. Returns how many, or negative if the connection is lost. */
static int handle_frames(tasker *t)
{
	int n = 0;
	while (t->fd >= 0) {
		size_t off, len;
		int rc = frame_peek(t->in.data + t->in_off, t->in.len - t->in_off, t->max_frame, &off, &len);
		if (rc < 0)
			return conn_lost_(t, -EPROTO, "protocol_error",
			                  "the daemon sent a frame of an impossible length");
		if (rc == 0)
			break;
		const unsigned char *payload = t->in.data + t->in_off + off;
		t->in_off += off + len;
		rc = one_message(t, payload, len);
		if (rc < 0)
			return rc;
		n++;
	}
	buf_consume(&t->in, t->in_off);
	t->in_off = 0;
	return n;
}

/* 1: there may be more; 0: all that has come is here; -ECONNRESET: the peer has closed; -ENOMEM. */
static int read_some(tasker *t)
{
	unsigned char *at = buf_reserve(&t->in, READ_CHUNK);
	if (!at)
		return -ENOMEM;
	ssize_t n = recv(t->fd, at, READ_CHUNK, 0);
	if (n > 0) {
		buf_added(&t->in, (size_t)n);
		return n == READ_CHUNK;
	}
	if (n < 0 && errno == EINTR)
		return 1;
	return n < 0 && errno == EAGAIN ? 0 : -ECONNRESET;
}

static int read_and_handle(tasker *t)
{
	int more = 1, handled = 0;
	while (more > 0 && t->in.len < READ_BUDGET + t->max_frame)
		more = read_some(t);
	if (t->in.len > 0)
		handled = handle_frames(t);
	if (handled < 0)
		return handled;
	if (more == -ENOMEM)
		return conn_lost_(t, -ENOMEM, "out_of_memory", "out of memory");
	if (more < 0)
		return conn_lost_(t, -ECONNRESET, "connection_lost", "taskerd closed the connection");
	return handled;
}

/* ---- processing ---- */

int tasker_fd(const tasker *t)
{
	return t->fd;
}

short tasker_events(const tasker *t)
{
	return conn_backlog_(t) > 0 ? POLLIN | POLLOUT : POLLIN;
}

/* 1: something is ready; 0: not in time, or a signal came. */
static int wait_ready(const tasker *t, int64_t timeout_us)
{
	struct pollfd p = {.fd = t->fd, .events = tasker_events(t)};
	struct timespec ts = {.tv_sec = timeout_us / 1000000, .tv_nsec = (timeout_us % 1000000) * 1000};
	return ppoll(&p, 1, timeout_us < 0 ? NULL : &ts, NULL) > 0;
}

int tasker_process(tasker *t, int64_t timeout_us, struct tasker_error *err)
{
	if (t->in_callback)
		return tasker_fail_(err, -EINVAL, "bad_call", "a callback may not process the connection");
	if (conn_usable_(t, err) < 0)
		return t->lost.rc;
	conn_flush_(t);
	int n = 0;
	if (timeout_us == 0 || wait_ready(t, timeout_us))
		n = read_and_handle(t);
	if (n >= 0)
		conn_flush_(t);
	if (n < 0 && err)
		*err = t->lost;
	return n;
}

/* ---- opening ---- */

static void copy_field(const tasker_value *v, const char *key, char *dst, size_t size)
{
	tasker_copy(tasker_get(v, key), dst, size);
}

static size_t limit_of(const tasker_value *limits, const char *key, size_t otherwise)
{
	int64_t v = tasker_int(tasker_get(limits, key), 0);
	return v > 0 && v <= INT32_MAX ? (size_t)v : otherwise;
}

/* The daemon refuses another major version by itself; one that does not is not believed. */
static bool speaks_our_version(const tasker_value *welcome, struct tasker_error *err)
{
	const tasker_value *v = tasker_get(welcome, "protocol");
	int64_t major = tasker_int(tasker_item(v, 0), PROTOCOL_MAJOR),
	        minor = tasker_int(tasker_item(v, 1), 0);
	if (major == PROTOCOL_MAJOR)
		return true;
	tasker_fail_(err, -EPROTO, "unsupported_version",
	             "the daemon speaks protocol %lld.%lld, this library %d.%d", (long long)major,
	             (long long)minor, PROTOCOL_MAJOR, PROTOCOL_MINOR);
	return false;
}

struct welcome {
	tasker *t;
	struct tasker_error err;
	bool answered;
};

static void on_welcome(void *arg, const tasker_value *v, const struct tasker_error *err)
{
	struct welcome *w = arg;
	w->answered = true;
	if (err) {
		w->err = *err;
		return;
	}
	tasker *t = w->t;
	const tasker_value *limits = tasker_get(v, "limits");
	if (!speaks_our_version(v, &w->err))
		return;
	copy_field(v, "server", t->server, sizeof t->server);
	copy_field(v, "node", t->node, sizeof t->node);
	copy_field(v, "session", t->session, sizeof t->session);
	copy_field(v, "worker_uuid", t->worker_uuid, sizeof t->worker_uuid);
	t->resumed = tasker_bool(tasker_get(v, "resumed"), false);
	t->heartbeat_ms = (int64_t)limit_of(v, "heartbeat_ms", 10000);
	t->max_frame = limit_of(limits, "max_frame", 4u << 20);
	t->scan.max_items = limit_of(limits, "max_items", 262144);
	t->max_bulk = limit_of(limits, "max_bulk", 100);
	t->max_result = limit_of(limits, "max_result", 1u << 20);
	t->out.max = OUT_BACKLOG_MAX + t->max_frame;
}

static int shake_hands(tasker *t, const struct buf *hello, uint64_t deadline, struct tasker_error *err)
{
	struct welcome w = {.t = t};
	int rc = tasker_send(t, "hello", hello->data, hello->len, on_welcome, &w, err);
	if (rc < 0)
		return rc;
	while (!w.answered) {
		uint64_t now = tasker_now_us_();
		/* Either way of losing the connection answers the request, with `w` still there. */
		if (now >= deadline)
			conn_lost_(t, -ETIMEDOUT, "timeout",
			           "taskerd accepted the connection but did not greet in time");
		else
			tasker_process(t, (int64_t)(deadline - now), NULL);
	}
	t->useful = false;
	if (w.err.rc < 0 && err)
		*err = w.err;
	return w.err.rc;
}

tasker *conn_new_(const char *path, int fd, frame_sink_fn *sink, void *sink_arg)
{
	tasker *t = calloc(1, sizeof *t);
	char *copy = strdup(path);
	if (!t || !copy) {
		free(t);
		free(copy);
		return NULL;
	}
	t->fd = fd;
	t->path = copy;
	t->sink = sink;
	t->sink_arg = sink_arg;
	t->heartbeat_ms = 10000;
	t->max_frame = 1u << 20;
	t->call_timeout_ms = 30000;
	t->scan = (struct scan_limits){.max_items = 16384, .max_depth = SCAN_MAX_DEPTH};
	buf_init(&t->in, 0);
	buf_init(&t->out, OUT_BACKLOG_MAX);
	return t;
}

int conn_open_(tasker **ret, const char *path, const struct buf *hello, int timeout_ms, frame_sink_fn *sink,
               void *sink_arg, struct tasker_error *err)
{
	char found[256];
	int ms = timeout_ms > 0 ? timeout_ms : 10000;
	uint64_t deadline = tasker_now_us_() + (uint64_t)ms * 1000;
	if (!path && tasker_default_socket(found, sizeof found) < 0)
		return tasker_fail_(err, -ENAMETOOLONG, "unreachable", "the socket path is too long");
	path = path ? path : found;
	int fd = socket_connect_(path, ms, err);
	if (fd < 0)
		return fd;
	tasker *t = conn_new_(path, fd, sink, sink_arg);
	if (!t) {
		close(fd);
		return tasker_fail_(err, -ENOMEM, "out_of_memory", "out of memory");
	}
	int rc = shake_hands(t, hello, deadline, err);
	if (rc < 0) {
		tasker_close(t);
		return rc;
	}
	*ret = t;
	return 0;
}

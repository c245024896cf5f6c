/* Inside the client library: a connection's parts, shared by its files. */
#pragma once
#include "clients/c/tasker.h"
#include "protocol/buf.h"
#include "protocol/mp.h"
#include "protocol/scan.h"

/* One received message, decoded where it lies. Whoever keeps a part of it keeps a reference. */
struct msg_frame {
	size_t refs; /* atomic */
	struct mp_value v;
	unsigned char bytes[];
};
struct msg_frame *msg_frame_ref(struct msg_frame *f);
void msg_frame_unref(struct msg_frame *f); /* accepts NULL */
/* One of bytes that were written here, with one reference; NULL if out of memory. */
struct msg_frame *msg_frame_of(const struct buf *b);

/* A notification for the worker, which may keep `f`. */
typedef void frame_sink_fn(void *arg, struct msg_frame *f, const msgpack_object *method,
                           const msgpack_object *params);

struct request {
	struct request *next;
	uint32_t id;
	tasker_reply_fn *fn;
	void *arg;
};
#define REQUEST_BUCKETS 1024u

struct tasker {
	int fd;
	char *path;
	char server[64], node[128], session[160], worker_uuid[48];
	bool resumed;
	int64_t heartbeat_ms;
	size_t max_frame, max_bulk, max_result;
	struct scan_limits scan;
	struct buf in, out;
	size_t in_off, out_off;
	uint32_t next_id;
	struct request *requests[REQUEST_BUCKETS];
	size_t open_requests;
	tasker_notification_fn *on_notification;
	void *on_notification_arg;
	frame_sink_fn *sink;
	void *sink_arg;
	struct tasker_error lost;     /* why the connection ended; rc is 0 while it lives */
	struct tasker_error farewell; /* what the daemon said before it closed; rc 0 if nothing */
	char *details;                /* of the last error answer, as JSON */
	bool in_callback;
	bool useful;             /* a request was answered or a result acknowledged since the handshake */
	struct msg_frame *frame; /* the one that is being handled */
	int call_timeout_ms;
	uint64_t last_sent_us;
};

/* What may wait to be sent before a send is refused as congested. */
#define OUT_BACKLOG_MAX (64u << 20)
/* What a worker lets wait before it holds results back. */
#define OUT_BACKLOG_WORKER (1u << 20)

/* error.c: fill `e` (may be NULL) and return rc. */
int tasker_fail_(struct tasker_error *e, int rc, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* From an error map of the protocol. Returns -EREMOTEIO. */
int tasker_fail_remote_(struct tasker_error *e, const msgpack_object *error);

/* call.c: what was written here, for the caller to free. */
int answer_of_(const struct buf *b, tasker_answer **ret, struct tasker_error *err);

/* socket.c */
int socket_connect_(const char *path, int timeout_ms, struct tasker_error *err);
uint64_t tasker_now_us_(void);

/* conn.c: a connection on `fd`, which it takes, before the handshake. NULL if out of memory; `fd` is the
 * caller's then. */
tasker *conn_new_(const char *path, int fd, frame_sink_fn *sink, void *sink_arg);
/* Connect and shake hands with these parameters of `hello` (MessagePack). `sink` (may be NULL) is
 * there from the start, because notifications may follow the welcome at once. */
int conn_open_(tasker **ret, const char *path, const struct buf *hello, int timeout_ms, frame_sink_fn *sink,
               void *sink_arg, struct tasker_error *err);
/* Start a message at the end of the output: everything up to its params. Returns the mark for conn_end_. */
size_t conn_begin_request_(tasker *t, uint32_t id, const char *method);
size_t conn_begin_notification_(tasker *t, const char *method);
/* Finish the message begun at `mark`: 0, or the message is taken back and the reason returned. */
int conn_end_(tasker *t, size_t mark, struct tasker_error *err);
/* Remember a request whose frame was finished. `r` was allocated before, so that nothing can fail now. */
void conn_register_(tasker *t, struct request *r, uint32_t id, tasker_reply_fn *fn, void *arg);
/* The connection has ended for this reason (the first one stays): close it and answer all open requests.
 * Returns rc. */
int conn_lost_(tasker *t, int rc, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
int conn_flush_(tasker *t);
size_t conn_backlog_(const tasker *t);
/* Why nothing can be sent now, or 0. */
int conn_usable_(const tasker *t, struct tasker_error *err);

/* value.c */
static inline const tasker_value *as_value(const msgpack_object *o)
{
	return (const tasker_value *)o;
}
static inline const msgpack_object *as_object(const tasker_value *v)
{
	return (const msgpack_object *)v;
}
/* JSON text to MessagePack at the end of `out`; NULL writes an empty map. */
int json_params_(const char *json, struct buf *out, struct tasker_error *err);

/* call.c: the parameters of `hello` but for `worker` and `resume`, into an open map. Returns the number of
 * entries. */
size_t hello_common_(struct buf *b, const char *client);
/* Send and wait, as tasker_call_json, with the answer handed to `fn` (as a reply). */
int call_raw_(tasker *t, const char *method, const void *params, size_t len, int timeout_ms,
              tasker_reply_fn *fn, void *arg, struct tasker_error *err);
/* The same for the public calls: the answer is kept if `ret` is not NULL. A failed `params` is an error. */
int call_answer_(tasker *t, const char *method, const struct buf *params, int timeout_ms, tasker_answer **ret,
                 struct tasker_error *err);

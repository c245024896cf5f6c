/* Inside the client library: a worker's parts, shared by its files. */
#pragma once
#include <signal.h>
#include "clients/c/conn.h"

struct handler {
	struct handler *next;
	char *callable;
	tasker_handler_fn *fn;
	void *arg;
};
#define HANDLER_BUCKETS 64u

/* A result the daemon has not acknowledged, as it goes over the wire (one entry of step.result). */
struct kept_result {
	struct kept_result *next, *prev; /* in the order of sending */
	struct kept_result *chain;       /* in its bucket */
	int64_t attempt;
	unsigned bucket;
	char step_uuid[40];
	size_t len;
	unsigned char bytes[];
};
#define RESULT_BUCKETS 256u

struct results {
	struct kept_result *head, *tail;
	struct kept_result *unsent; /* the first that is not in a frame of this connection */
	struct kept_result *buckets[RESULT_BUCKETS];
	size_t count;
};
int results_add(struct results *r, const char *step_uuid, int64_t attempt, const void *bytes, size_t len);
/* Forget an acknowledged one: true if it was there. */
bool results_ack(struct results *r, const tasker_value *step_uuid, int64_t attempt);
void results_drop(struct results *r, struct kept_result *k);
void results_rewind(struct results *r); /* after a reconnect: all are unsent */
void results_done(struct results *r);

enum step_state { STEP_QUEUED, STEP_RUNNING, STEP_DEFERRED };

struct tasker_step {
	struct tasker_step *next, *prev; /* in the worker's queue or its list of deferred steps */
	struct tasker_worker *w;
	struct msg_frame *frame;
	const msgpack_object *o;
	enum step_state state;
	bool cancelled; /* asked to stop */
	bool stale;     /* its result is of no use: drop it */
	bool failed;
	int64_t attempt, retry_after_ms;
	uint64_t started_us;
	char step_uuid[40];
	struct buf value;    /* result or error; empty: {} */
	struct buf metadata; /* empty: none */
};

struct step_list {
	struct tasker_step *head, *tail;
	size_t count;
};
void step_list_push(struct step_list *l, struct tasker_step *s);
void step_list_remove(struct step_list *l, struct tasker_step *s);

enum drain { DRAIN_NO, DRAIN_ASKED, DRAIN_QUIET, DRAIN_DONE };

struct tasker_worker {
	tasker *conn;
	char *socket_path, *client, *name;
	char **namespaces;
	size_t nnamespaces;
	unsigned max_concurrency;
	int timeout_ms;
	uint64_t run_slice_us; /* handlers run at most this long before their results go out */
	void (*log)(void *, const char *);
	void *log_arg;
	void (*on_cancel)(void *, struct tasker_step *, const char *);
	void *on_cancel_arg;
	struct handler *handlers[HANDLER_BUCKETS];
	size_t nhandlers;
	struct step_list queue, deferred;
	struct results results;
	char session[160]; /* of the last connection: to resume */
	uint64_t retry_at_us;
	unsigned failures; /* connection attempts since the last that worked */
	unsigned rand_state;
	volatile sig_atomic_t stop;
	int wake_fd;
	enum drain drain;
	struct tasker_error fatal;
	struct tasker_worker_stats stats;
};

/* step.c */
struct tasker_step *step_new(struct tasker_worker *w, struct msg_frame *f, const msgpack_object *o);
struct tasker_step *step_free(struct tasker_step *s); /* accepts NULL, returns NULL */
/* Encode the outcome into the worker's kept results. 0 or -ENOMEM. */
int step_keep_result(struct tasker_step *s);
void step_set_failure(struct tasker_step *s, const char *error_type, bool permanent, const char *message);

/* session.c: make the connection, resume; and what the daemon sends. */
int worker_connect(struct tasker_worker *w, struct tasker_error *err);
frame_sink_fn worker_sink; /* its argument is the worker */
int worker_flush_results(struct tasker_worker *w);
void worker_log(struct tasker_worker *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

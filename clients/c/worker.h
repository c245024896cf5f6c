/* Inside the client library: a worker's parts, shared by its files. */
#pragma once
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
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
	size_t claim_len;
	unsigned char claim[16];
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
/* `claim` may be NULL. */
int results_add(struct results *r, const char *step_uuid, int64_t attempt, const msgpack_object *claim,
                const void *bytes, size_t len);
/* Forget an acknowledged one, the oldest if a step was given back and sent again: true if it was there. */
bool results_ack(struct results *r, const tasker_value *step_uuid, int64_t attempt);
void results_drop(struct results *r, struct kept_result *k);
void results_rewind(struct results *r); /* after a reconnect: all are unsent */
void results_done(struct results *r);

enum step_state { STEP_QUEUED, STEP_RUNNING, STEP_DEFERRED };

struct tasker_step {
	struct tasker_step *next, *prev; /* in the worker's queue or its list of deferred steps */
	struct tasker_step *todo_next;   /* among those that wait for a thread, or that threads have done */
	struct tasker_worker *w;         /* for the worker's thread only */
	struct shared *shared;
	struct msg_frame *frame;
	const msgpack_object *o;
	enum step_state state;
	tasker_handler_fn *fn;
	void *arg;
	/* Under the lock of `shared` while a thread has the step: */
	bool in_handler; /* it has not returned */
	bool finished;   /* by tasker_step_finish */
	bool abandoned;  /* the worker has given it up: it belongs to the thread that runs it */
	bool on_thread;
	bool cancelled; /* asked to stop; atomic */
	bool stale;     /* its result is of no use: drop it; atomic */
	bool failed;
	int64_t attempt, retry_after_ms;
	uint64_t connection; /* that it came with */
	size_t room;         /* bytes a value may have */
	uint64_t started_us, cancelled_us;
	char step_uuid[40], task_uuid[40];
	char *name;
	struct buf value;    /* result or error; empty: {} */
	struct buf metadata; /* empty: none */
	struct buf events;   /* entries of `events`, one after the other */
	size_t nevents;
};

struct step_list {
	struct tasker_step *head, *tail;
	size_t count;
};
void step_list_push(struct step_list *l, struct tasker_step *s);
void step_list_remove(struct step_list *l, struct tasker_step *s);

/* ---- threads.c: what threads share with the worker's. Everything is under the lock, or atomic. ---- */

/* A message that another thread wants to be sent. */
struct post {
	struct post *next;
	const char *method;    /* static text */
	struct waiter *waiter; /* who waits for the answer; NULL: a notification */
	size_t len;
	unsigned char bytes[];
};
/* Someone who waits; has an owner on both sides, the last one frees it. */
struct waiter {
	struct shared *shared;
	bool answered, gone;
	tasker_reply_fn *fn;
	void *arg;
	struct tasker_error err;
};
struct shared {
	unsigned refs;
	pthread_mutex_t lock;
	pthread_cond_t work, answered, ended;
	pthread_t owner; /* the thread that runs the worker; atomic */
	struct tasker_step *todo, **todo_end, *done, **done_end;
	struct post *posts, **posts_end;
	bool woken;  /* wake_fd was written since the last sweep; atomic */
	bool closed; /* the worker is gone */
	unsigned live;
	int wake_fd;
	int timeout_ms; /* for answers */
	FILE *replay;   /* steps are replayed: what they tell goes here */
};
struct shared *shared_new(void);
void shared_ref(struct shared *sh);
void shared_unref(struct shared *sh);
bool shared_is_owner(const struct shared *sh);
void shared_wake(struct shared *sh); /* async-signal-safe */
/* Take the wake-up off the descriptor; a sweep must follow. */
void shared_awake(struct shared *sh);
/* 0, or -EAGAIN: the system has no thread left. */
int shared_add_thread(struct shared *sh);
/* No more work: threads end; wait for those that do so within `timeout_ms`. */
void shared_close(struct shared *sh, int timeout_ms);
/* A step for the threads. */
void shared_hand_over(struct shared *sh, struct tasker_step *s);
/* Take back one that no thread has begun, or NULL. */
struct tasker_step *shared_take_back(struct shared *sh);
/* The handler has returned; true: its step is finished as well, and the caller's. */
bool shared_returned(struct tasker_step *s);
/* What threads have left since the last time. */
void shared_sweep(struct shared *sh, struct tasker_step **ret_done, struct post **ret_posts);
void shared_finish(struct tasker_step *s);
int shared_post(struct shared *sh, const char *method, const void *params, size_t len,
                struct tasker_error *err);
int shared_call(struct shared *sh, const char *method, const void *params, size_t len, int timeout_ms,
                tasker_reply_fn *fn, void *arg, struct tasker_error *err);
tasker_reply_fn shared_on_reply; /* its argument is the waiter */

enum drain { DRAIN_NO, DRAIN_ASKED, DRAIN_DONE };

/* As much of them as is kept, so that all fit into the handshake. */
#define BROKEN_MAX 64
#define BROKEN_TEXT 200

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
	struct buf broken; /* maps: what could not be loaded */
	unsigned nbroken;
	struct step_list queue, deferred;
	struct results results;
	char session[160];   /* of the last connection: to resume */
	uint64_t connection; /* counts the attempts to make one */
	uint64_t retry_at_us;
	unsigned failures; /* connection attempts since the last that worked */
	unsigned rand_state;
	uint64_t complained_us; /* when the log was last told that there is no connection */
	volatile sig_atomic_t stop;
	struct shared *shared;
	unsigned threads;
	int abandon_after_ms;
	uint64_t abandon_at_us;            /* when to look for handlers to give up; 0: never */
	struct post *posts, **posts_end;   /* of threads, not yet sent */
	int epoll_fd, timer_fd, polled_fd; /* of tasker_worker_fd; -1: not used */
	short polled_events;
	enum drain drain;
	struct tasker_error fatal;
	struct tasker_worker_stats stats;
};

static inline bool flag_get(const bool *f)
{
	return __atomic_load_n(f, __ATOMIC_ACQUIRE);
}
static inline void flag_set(bool *f, bool v)
{
	__atomic_store_n(f, v, __ATOMIC_RELEASE);
}

/* replay.c */
int worker_replay(struct tasker_worker *w, const char *step_uuid, struct tasker_error *err);
/* Run the handler on this thread, until the step is finished. */
void worker_run_here(struct tasker_worker *w, struct tasker_step *s, const struct handler *h);

/* program.c: `handlers` ends with one whose callable is NULL. */
int worker_add_all(struct tasker_worker *w, const struct tasker_handler *handlers, struct tasker_error *err);

/* worker.c: NULL if there is none of that name. */
const struct handler *worker_find_handler(const struct tasker_worker *w, const tasker_value *callable);

/* run.c */
int run_queue(struct tasker_worker *w); /* 0, or negative with w->fatal */
int run_swept(struct tasker_worker *w); /* what threads have left */
/* Leave a step to the thread that runs it; false if none does. */
bool run_give_up(struct tasker_step *s);
void run_abandon(struct tasker_worker *w);
void run_give_back(struct tasker_worker *w); /* what has not begun */
void run_fail_posts(struct tasker_worker *w, const struct tasker_error *why);

/* fd.c */
void worker_fd_update(struct tasker_worker *w);
void worker_fd_done(struct tasker_worker *w);

/* step.c */
struct tasker_step *step_new(struct tasker_worker *w, struct msg_frame *f, const msgpack_object *o);
struct tasker_step *step_free(struct tasker_step *s); /* accepts NULL, returns NULL */
/* Encode the outcome into the worker's kept results. 0 or -ENOMEM. */
int step_keep_result(struct tasker_step *s);
void step_set_failure(struct tasker_step *s, const char *error_type, bool permanent, const char *message);
/* The same for a step whose handler still runs: a failure, without touching what the handler may. */
int step_keep_abandoned(struct tasker_step *s);
/* From a handler, on whatever thread: send a notification, or a request and wait. */
int step_note(struct tasker_step *s, const char *method, const struct buf *params, struct tasker_error *err);
int step_call(struct tasker_step *s, const char *method, const struct buf *params, tasker_reply_fn *fn,
              void *arg, struct tasker_error *err);
/* Put a value that is already MessagePack in the place of the result. Takes `b`. */
int step_succeed_raw(struct tasker_step *s, struct buf *b, struct tasker_error *err);

/* session.c: make the connection, resume; and what the daemon sends. */
int worker_connect(struct tasker_worker *w, struct tasker_error *err);
frame_sink_fn worker_sink; /* its argument is the worker */
int worker_flush_results(struct tasker_worker *w);
void worker_log(struct tasker_worker *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

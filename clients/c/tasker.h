/* The C client of taskerd: submit and look at tasks, and run their steps.
 *
 * A program opens a connection (struct tasker) and calls the methods of the protocol by name, with parameters
 * and answers as JSON text or as MessagePack bytes; or it makes a worker (struct tasker_worker), gives it a
 * function for each handler and runs it. The protocol page, taskerd-protocol(7), names the methods and their
 * fields.
 *
 * Threads: an object belongs to one thread at a time; different objects are independent. A step, and all
 * calls that take one, may be used by whatever thread its handler runs on or has given it to. Of a worker
 * only tasker_worker_stop may be called from elsewhere, a signal handler included.
 *
 * Results: functions return 0 or a negative errno value, and fill the struct tasker_error they were given
 * (which may be NULL) exactly when the result is negative. */
#ifndef TASKER_H
#define TASKER_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Why something failed. `code` is an error code of the protocol ("not_found", "conflict", "overloaded", ...)
 * when the daemon said so (rc is -EREMOTEIO then), or one of
 *   "unreachable"      nobody listens at the socket, or it may not be opened (-EACCES)
 *   "connection_lost"  the connection ended; make a new one
 *   "timeout"          no answer in time (-ETIMEDOUT)
 *   "protocol_error"   the daemon sent something that is not the protocol (-EPROTO)
 *   "invalid_value"    what was to be sent is not JSON, or not in its data model (-EINVAL)
 *   "too_large"        what was to be sent does not fit into one frame (-EMSGSIZE)
 *   "congested"        too much is waiting to be sent; process the connection first (-ENOBUFS)
 *   "bad_call"         the call makes no sense here, the message says why (-EINVAL)
 *   "stale"            the attempt is not current any more: stop (-ESTALE)
 *   "out_of_memory"    (-ENOMEM) */
struct tasker_error {
	int rc; /* negative errno */
	char code[32];
	char path[128]; /* where in the parameters, or empty */
	char message[512];
	uint32_t retry_after_ms; /* 0: not said */
};

/* ---- values: what the daemon sent, valid as long as the thing they were got from ---- */

typedef struct tasker_value tasker_value;

enum tasker_type {
	TASKER_NIL, /* and NULL */
	TASKER_BOOL,
	TASKER_INT,
	TASKER_DOUBLE,
	TASKER_STRING,
	TASKER_ARRAY,
	TASKER_MAP,
	TASKER_BYTES
};
/* What a value is. */
enum tasker_type tasker_type(const tasker_value *v);
/* The field of a map; NULL if it is absent or nil, or if `map` is NULL or not a map. */
const tasker_value *tasker_get(const tasker_value *map, const char *key);
/* Number of elements of an array or entries of a map; 0 for anything else. */
size_t tasker_count(const tasker_value *v);
/* The i-th element of an array, or NULL. */
const tasker_value *tasker_item(const tasker_value *array, size_t i);
/* The i-th key of a map (not NUL-terminated) and its value; NULL if there is none. */
const char *tasker_key(const tasker_value *map, size_t i, size_t *ret_len, const tasker_value **ret_value);
/* The bytes of a string (not NUL-terminated), or NULL with *ret_len 0. */
const char *tasker_text(const tasker_value *v, size_t *ret_len);
/* Copy a string as snprintf does, NUL-terminated and cut to `size`; returns the full length, 0 if it is no
 * string. */
size_t tasker_copy(const tasker_value *v, char *dst, size_t size);
/* These return `otherwise` if the value is NULL or of another type. */
int64_t tasker_int(const tasker_value *v, int64_t otherwise);
double tasker_double(const tasker_value *v, double otherwise);
bool tasker_bool(const tasker_value *v, bool otherwise);
/* The value as JSON text, for the caller to free; "null" for NULL. NULL if out of memory or if the value has
 * no JSON form. */
char *tasker_json(const tasker_value *v);
/* JSON text by a pattern, for the caller to free: `format` is JSON in which
 *   %s  stands for a string, written with quotes and escapes (NULL: null)
 *   %d %ld %lld %zd %u %lu %llu %zu  for integers of these C types
 *   %f  for a double      %b  for an int as true or false
 *   %j  for JSON text as it is (NULL: null)      %v  for a tasker_value
 * NULL if out of memory, if the result is not JSON (an error in the pattern, a NaN, a string that is not
 * UTF-8). */
char *tasker_jsonf(const char *format, ...);
char *tasker_vjsonf(const char *format, va_list args);

/* ---- connections ---- */

typedef struct tasker tasker;

struct tasker_options {
	const char *socket_path; /* NULL: TASKERD_SOCKET, then the user's own socket, then the system's */
	const char *client;      /* "name/version" of this program; NULL: the library's */
	int timeout_ms;          /* for connecting and the handshake; 0: 10,000 */
	int call_timeout_ms;     /* for the answer to a call that names no time; 0: 30,000, negative: none */
};

/* The version of this library, "0.1.0". */
const char *tasker_version(void);
/* The socket a client without an explicit path would use, into `dst`. 0, or -ENAMETOOLONG. */
int tasker_default_socket(char *dst, size_t size);

/* Connect and shake hands. 0 with *ret set (the caller closes it), or negative. */
int tasker_connect(tasker **ret, const struct tasker_options *opts, struct tasker_error *err);
/* Close and free; open requests are answered with "connection_lost" first. Accepts NULL, returns NULL. Never
 * from a callback. */
tasker *tasker_close(tasker *t);

/* The socket it is connected to, the daemon's name and version, and the name of its node. */
const char *tasker_socket(const tasker *t);
const char *tasker_server(const tasker *t); /* "taskerd/0.1.0" */
const char *tasker_node(const tasker *t);
/* The daemon's limits: bytes of one frame, tasks in one task.create_many. */
size_t tasker_max_frame(const tasker *t);
size_t tasker_max_bulk(const tasker *t);

/* Called for each notification ("task.event", ...) that arrives while the connection is processed. */
typedef void tasker_notification_fn(void *arg, const char *method, const tasker_value *params);
void tasker_on_notification(tasker *t, tasker_notification_fn *fn, void *arg);

/* Called exactly once for each request that was sent: with `result` (never NULL, nil included) and err NULL,
 * or with err. It may send requests; it may not wait, process or close. */
typedef void tasker_reply_fn(void *arg, const tasker_value *result, const struct tasker_error *err);

/* Queue a request; `params` is MessagePack (one map) or JSON text (one object; NULL: {}). `fn` may be NULL.
 */
int tasker_send(tasker *t, const char *method, const void *params, size_t len, tasker_reply_fn *fn, void *arg,
                struct tasker_error *err);
int tasker_send_json(tasker *t, const char *method, const char *params, tasker_reply_fn *fn, void *arg,
                     struct tasker_error *err);
int tasker_notify(tasker *t, const char *method, const void *params, size_t len, struct tasker_error *err);
int tasker_notify_json(tasker *t, const char *method, const char *params, struct tasker_error *err);

/* Send a request and process the connection until its answer is there, at most `timeout_ms` (negative: no
 * limit). The answer is JSON text for the caller to free. A late answer is dropped. */
int tasker_call_json(tasker *t, const char *method, const char *params, int timeout_ms, char **ret_json,
                     struct tasker_error *err);
/* An answer that is kept. */
typedef struct tasker_answer tasker_answer;
/* What is in it, valid until it is freed. */
const tasker_value *tasker_answer_value(const tasker_answer *a);
tasker_answer *tasker_answer_free(tasker_answer *a); /* accepts NULL, returns NULL */
/* The same with the answer as a value, for the caller to free. */
int tasker_call(tasker *t, const char *method, const char *params, int timeout_ms, tasker_answer **ret,
                struct tasker_error *err);
/* JSON text as a value, for the caller to free. */
int tasker_parse(const char *json, tasker_answer **ret, struct tasker_error *err);
/* `details` of the last error the daemon answered, as JSON, or NULL. Valid until the connection is processed
 * again. */
const char *tasker_error_details(const tasker *t);

/* For a program with its own loop: wait until tasker_fd is ready for tasker_events (POLLIN, and POLLOUT if
 * something is to be sent), then process. */
int tasker_fd(const tasker *t);
short tasker_events(const tasker *t);
/* Send what is queued, read what has come, call the callbacks; wait at most `timeout_us` microseconds for
 * something to happen (0: do not wait, negative: no limit). Returns the number of messages handled, 0 if
 * there was none in time or a signal came, negative when the connection has ended. */
int tasker_process(tasker *t, int64_t timeout_us, struct tasker_error *err);
size_t tasker_open_requests(const tasker *t);

/* ---- tasks, templates and events by call: each waits for its answer, for call_timeout_ms ---- */

struct tasker_task {
	const char *name; /* of the template; required */
	const char *namespace_name, *version;
	const char *context; /* JSON text of an object; NULL: {} */
	const char *idempotency_key, *run_at;
	const char *initiator, *source_system, *reason;
	const char *correlation_id, *parent_correlation_id, *traceparent, *tracestate;
	const char *const *tags; /* NULL-terminated, or NULL */
	int priority;
};
struct tasker_created {
	char task_uuid[40];
	char state[32];
	bool created;              /* false: it was there already, by its key */
	struct tasker_error error; /* of tasker_task_create_many: why this one was not; rc 0: it was */
};
/* Create a task. With an idempotency_key that is known, it is the task there is. */
int tasker_task_create(tasker *t, const struct tasker_task *task, struct tasker_created *ret,
                       struct tasker_error *err);
/* Create `n` tasks with as few messages as the daemon's limits allow; ret[i] says what became of tasks[i].
 * Returns how many were refused (0: none), or negative if the connection failed: those without a task_uuid
 * and without an error are in doubt then. */
int tasker_task_create_many(tasker *t, const struct tasker_task *tasks, size_t n, struct tasker_created *ret,
                            struct tasker_error *err);
/* The task object; with its steps, or without. */
int tasker_task_get(tasker *t, const char *task_uuid, bool steps, tasker_answer **ret,
                    struct tasker_error *err);
struct tasker_settled {
	char state[32];
	bool settled;  /* nothing moves any more, or not without an operator; false: the time was up */
	bool finished; /* in a final state */
};
/* Wait until nothing of the task moves any more without an operator, at most `timeout_ms`. */
int tasker_task_wait(tasker *t, const char *task_uuid, int timeout_ms, struct tasker_settled *ret,
                     struct tasker_error *err);
struct tasker_query {
	const char *namespace_name, *name, *state, *tag, *correlation_id, *cursor;
	int limit; /* 0: 50 */
};
/* {tasks: [...], next_cursor}. `q` may be NULL. */
int tasker_task_list(tasker *t, const struct tasker_query *q, tasker_answer **ret, struct tasker_error *err);
/* `ret` (the task object) may be NULL. */
int tasker_task_cancel(tasker *t, const char *task_uuid, const char *reason, tasker_answer **ret,
                       struct tasker_error *err);
/* The step object; with what has happened to it, or without. */
int tasker_task_step(tasker *t, const char *step_uuid, bool history, tasker_answer **ret,
                     struct tasker_error *err);
/* Register a template, YAML or JSON text. `ret` (with its findings) may be NULL. */
int tasker_template_apply(tasker *t, const char *source, const char *filename, tasker_answer **ret,
                          struct tasker_error *err);

struct tasker_event {
	const char *name;    /* required */
	const char *payload; /* JSON text; NULL: null */
	const char *namespace_name, *delivery_mode, *correlation_id, *fired_by, *event_id;
	const char *metadata; /* JSON text of an object, or NULL */
};
/* `ret_event_id` takes 37 bytes, or is NULL. */
int tasker_event_publish(tasker *t, const struct tasker_event *e, char *ret_event_id,
                         struct tasker_error *err);
/* Get the fast events that fit a pattern. They reach tasker_on_notification as "event.message" while the
 * connection is processed. Both lists are NULL-terminated; `namespaces` NULL: all. */
int tasker_event_subscribe(tasker *t, const char *const *patterns, const char *const *namespaces,
                           struct tasker_error *err);
int tasker_event_unsubscribe(tasker *t, const char *const *patterns, struct tasker_error *err);
/* Take durable events, waiting at most `wait_ms` for the first: {messages: [{msg_id, read_count, event,
 * ...}]}. They come again after `visibility_ms` (0: 30,000) unless they are acknowledged. */
int tasker_event_consume(tasker *t, const char *namespace_name, int max, int visibility_ms, int wait_ms,
                         tasker_answer **ret, struct tasker_error *err);
/* Acknowledge the messages of such an answer. */
int tasker_event_ack(tasker *t, const char *namespace_name, const tasker_value *messages,
                     struct tasker_error *err);

/* ---- workers ---- */

typedef struct tasker_worker tasker_worker;
typedef struct tasker_step tasker_step;

struct tasker_worker_options {
	const char *socket_path; /* as above */
	const char *client;
	const char *name;              /* a label for people; NULL: the program's name */
	const char *const *namespaces; /* NULL-terminated; NULL: all */
	unsigned max_concurrency;      /* steps held at a time; 0: 16, with threads two for each */
	/* Handlers run on so many threads of the worker's own; 0: on the thread that runs the worker. */
	unsigned threads;
	/* A handler on a thread that has not returned this long after its step was cancelled loses the thread
	 * to a new one, and its step's place to another step; 0: 30,000, negative: never. */
	int abandon_after_ms;
	int timeout_ms; /* for connecting and the handshake; 0: 10,000 */
	/* Told about connections made and lost and about refused results, one line each; NULL: silence. */
	void (*log)(void *arg, const char *line);
	void *log_arg;
};

enum tasker_verdict {
	TASKER_DONE, /* the outcome was set by tasker_step_succeed or _fail; if by neither, it is success with
	                {} */
	TASKER_DEFERRED, /* the step stays open; the program sets its outcome later and calls
	                    tasker_step_finish */
};
/* Without threads a handler runs on the worker's thread, so while it runs nothing else of this worker does:
 * one that takes long defers, or calls tasker_step_heartbeat now and then. With threads it may take its time,
 * and runs beside others. */
typedef enum tasker_verdict tasker_handler_fn(void *arg, tasker_step *step);

/* A worker without handlers. `opts` may be NULL. */
int tasker_worker_new(tasker_worker **ret, const struct tasker_worker_options *opts,
                      struct tasker_error *err);
/* Say goodbye if connected, and free everything, steps still held included. Accepts NULL, returns NULL. */
tasker_worker *tasker_worker_free(tasker_worker *w);
/* Before the first poll. -EEXIST if the callable has a handler. */
int tasker_worker_add(tasker_worker *w, const char *callable, tasker_handler_fn *fn, void *arg);
/* Before the first poll: what this worker should have been able to run but cannot, such as a plugin that does
 * not load, for people who look at its row (`taskerctl worker list`). `file` may be NULL, `line` 0; texts are
 * cut at 200 bytes, and what is beyond the 64th is left out. */
int tasker_worker_broken(tasker_worker *w, const char *name, const char *file, unsigned line,
                         const char *message);
/* Called, on the worker's thread, when the daemon wants a deferred step or one on a thread to stop (`reason`:
 * "timeout", "task_cancelled", "stale", "shutdown"). The step is to be finished all the same. */
void tasker_worker_on_cancel(tasker_worker *w, void (*fn)(void *arg, tasker_step *step, const char *reason),
                             void *arg);

/* Run until tasker_worker_stop and everything is drained: 0. Connections lost are made anew, with growing
 * random pauses, and results that were not acknowledged are sent again. Negative: the daemon refuses this
 * worker (another major version, no permission), or out of memory. */
int tasker_worker_run(tasker_worker *w, struct tasker_error *err);
/* One turn of that loop, waiting at most `timeout_us` microseconds (0: not at all, negative: until something
 * happens, heartbeats included). 1: go on; 0: stopped and drained; negative as above. */
int tasker_worker_poll(tasker_worker *w, int64_t timeout_us, struct tasker_error *err);
/* For a program with its own loop: when this descriptor is readable, call tasker_worker_poll with a timeout
 * of 0. It stays the same over reconnects, and is ready for timers too. Making a connection may wait for the
 * daemon's greeting, timeout_ms at most. -1: no descriptors left. */
int tasker_worker_fd(tasker_worker *w);
/* Take no more steps, finish those begun, wait for the acknowledgements, then stop: go on polling until that
 * is 0. A second call ends it without waiting. Async-signal-safe. */
void tasker_worker_stop(tasker_worker *w);

struct tasker_worker_stats {
	uint64_t steps;    /* handed to handlers */
	uint64_t recorded; /* acknowledged as recorded or duplicate */
	uint64_t refused;  /* acknowledged as stale, rejected or not_claimed */
	uint64_t connects;
	size_t held, unacknowledged;
};
/* Counters since it was made. */
void tasker_worker_stats(const tasker_worker *w, struct tasker_worker_stats *ret);
/* Into the daemon's log, without a step. */
int tasker_worker_log(tasker_worker *w, const char *level, const char *message, struct tasker_error *err);

/* ---- a worker as a whole program ---- */

struct tasker_handler {
	const char *callable;
	tasker_handler_fn *fn;
	void *arg;
};
struct tasker_program {
	const struct tasker_handler *handlers; /* ends with one whose callable is NULL */
	struct tasker_worker_options options;  /* defaults of the command line */
};
/* main() of a worker: runs it until SIGTERM or SIGINT, and drains; a second signal ends it at once. Options:
 * --socket PATH, --name NAME, --namespace NS..., --threads N, --max-concurrency N, --processes N (a process
 * that crashes costs only the attempts it had, and is replaced), --replay STEP_UUID (run the handler of a
 * recorded step again here, print its result beside the recorded one, record nothing), --quiet. Returns the
 * exit status: 0 drained, 1 refused by the daemon, 2 wrong usage. */
int tasker_main(int argc, char **argv, const struct tasker_program *program);

/* ---- steps: reading ---- */

/* The step as the daemon sent it: tasker_get(tasker_step_value(s), "context") and so on. Valid until the step
 * is finished. */
const tasker_value *tasker_step_value(const tasker_step *s);
const char *tasker_step_uuid(const tasker_step *s);
const char *tasker_step_task_uuid(const tasker_step *s);
/* Its name in the task. */
const char *tasker_step_name(tasker_step *s);
/* 1 for the first try. */
int64_t tasker_step_attempt(const tasker_step *s);
bool tasker_step_last_attempt(const tasker_step *s);
/* Fields of what the task was created with, of this instance's inputs, of the handler's initialization, and
 * of the last checkpoint (`cursor`, `items_processed`, `accumulated_results`); NULL if absent or nil. */
const tasker_value *tasker_step_input(const tasker_step *s, const char *key);
const tasker_value *tasker_step_instance_input(const tasker_step *s, const char *key);
const tasker_value *tasker_step_config(const tasker_step *s, const char *key);
const tasker_value *tasker_step_checkpoint(const tasker_step *s, const char *key);
/* Call `fn` for each completed ancestor whose name begins with `prefix` that came with the step. Returns how
 * many there were. (With "dependencies_partial" in the step some were left out for size.) */
size_t tasker_step_each_dependency(const tasker_step *s, const char *prefix,
                                   void (*fn)(void *arg, const char *name, const tasker_value *result),
                                   void *arg);
/* The result of an ancestor step as JSON for the caller to free ("null" if it completed with nil), asking the
 * daemon for it if it was left out for size. -ENOENT: no such completed ancestor. */
int tasker_step_dependency(tasker_step *s, const char *name, char **ret_json, struct tasker_error *err);
/* The UUID of that ancestor step. */
int tasker_step_dependency_uuid(tasker_step *s, const char *name, char ret[37], struct tasker_error *err);
/* The daemon has asked for this step to stop, or its attempt is no longer current. */
bool tasker_step_cancelled(const tasker_step *s);

/* ---- steps: the outcome ---- */

/* Set the outcome; the last call counts. `json` must be JSON text; -EINVAL otherwise, and the outcome is
 * unchanged. */
int tasker_step_succeed(tasker_step *s, const char *json, struct tasker_error *err);
/* The same by a pattern of tasker_jsonf. -EINVAL if that is no JSON. */
int tasker_step_succeedf(tasker_step *s, struct tasker_error *err, const char *format, ...);
/* Its texts are for people: a byte that is not UTF-8 becomes a question mark. */
struct tasker_failure {
	const char *message; /* required */
	const char *error_type, *error_code;
	bool permanent;               /* no further attempt is to be made */
	int64_t retry_after_ms;       /* above 0: wish for the delay before the next attempt */
	int64_t status_code;          /* 0: none */
	const char *context;          /* JSON text, or NULL */
	const char *const *backtrace; /* lines, NULL-terminated, or NULL */
};
/* A failure with all that can be said about it. */
int tasker_step_fail(tasker_step *s, const struct tasker_failure *f, struct tasker_error *err);
/* A permanent failure, and one that may be tried again (after `retry_after_ms` if that is above 0). They
 * return TASKER_DONE, so that a handler can end with `return tasker_step_refuse(...)`. */
enum tasker_verdict tasker_step_refuse(tasker_step *s, const char *error_type, const char *message);
enum tasker_verdict tasker_step_retry(tasker_step *s, const char *error_type, const char *message,
                                      int64_t retry_after_ms);
/* Kept with the attempt. */
int tasker_step_metadata(tasker_step *s, const char *json, struct tasker_error *err);
/* The outcome of a decision step: the steps to create (NULL-terminated names), or none. `extra` (JSON text of
 * an object, or NULL) is merged into the result. */
int tasker_step_route(tasker_step *s, const char *const *steps, const char *extra, struct tasker_error *err);
int tasker_step_skip_branches(tasker_step *s, const char *reason, struct tasker_error *err);

/* The outcome of a batchable step: `total` items, numbered from 0, in pieces of `batch_size`, each for a
 * worker made of the template step `worker`. Of no items it is "no batches". */
int tasker_step_batches(tasker_step *s, const char *worker, int64_t total, int64_t batch_size,
                        struct tasker_error *err);
/* The same with cursors of any kind: `cursor_configs` is JSON text, an array of {batch_id, start_cursor,
 * end_cursor, batch_size}. */
int tasker_step_batches_json(tasker_step *s, const char *worker, int64_t total, const char *cursor_configs,
                             struct tasker_error *err);
int tasker_step_no_batches(tasker_step *s, const char *reason, struct tasker_error *err);
/* A batch worker's part of the work. */
struct tasker_batch {
	char batch_id[32];
	int64_t start, end, size; /* of cursors that are integers */
	bool no_op;               /* there is nothing to do: succeed with anything */
};
/* -ENOENT: this step is no batch worker. */
int tasker_step_batch(tasker_step *s, struct tasker_batch *ret, struct tasker_error *err);
struct tasker_batch_counts {
	int64_t processed, succeeded, failed, skipped; /* succeeded 0 with failed 0: all */
};
/* The outcome of a batch worker. */
int tasker_step_batch_done(tasker_step *s, const struct tasker_batch_counts *c, struct tasker_error *err);
/* Add up the results of batch workers whose names begin with `prefix`; returns how many there were. */
size_t tasker_step_batch_totals(const tasker_step *s, const char *prefix, struct tasker_batch_counts *ret);

/* Store how far the step is; it stays with the step whatever becomes of this attempt. Returns when it is
 * durable. `cursor` and `accumulated` are JSON text (`accumulated` may be NULL). -ESTALE: stop. */
int tasker_step_save(tasker_step *s, const char *cursor, int64_t items_processed, const char *accumulated,
                     struct tasker_error *err);
/* The outcome "not done": the same is stored, and the step is sent again at once, as the same attempt. */
int tasker_step_yield(tasker_step *s, const char *cursor, int64_t items_processed, const char *accumulated,
                      struct tasker_error *err);

/* Make of an event that the template declares for this step something else than the default: `payload` and
 * `metadata` are JSON text (or NULL: the default, none). */
int tasker_step_event(tasker_step *s, const char *name, const char *payload, const char *metadata,
                      struct tasker_error *err);
int tasker_step_event_skip(tasker_step *s, const char *name, struct tasker_error *err);

/* ---- steps: telling ---- */

/* Tell people how far a step is (`progress_json` may be NULL), and the daemon that this worker lives. Sends
 * at once. */
int tasker_step_heartbeat(tasker_step *s, const char *progress_json, struct tasker_error *err);
/* Into the daemon's log, with the step's ids; a byte that is not UTF-8 becomes a question mark. `level`: "trace",
 * "debug", "info", "warn", "error". */
int tasker_step_log(tasker_step *s, const char *level, const char *message, struct tasker_error *err);
int tasker_step_logf(tasker_step *s, const char *level, const char *format, ...)
#ifdef __GNUC__
    __attribute__((format(printf, 3, 4)))
#endif
    ;
/* End a deferred step with the outcome set so far. The step is freed. */
int tasker_step_finish(tasker_step *s, struct tasker_error *err);

/* ---- tests ---- */

/* Run a handler on a step that is made up, without a daemon. `step` is JSON text of fields of step.execute
 * ("context", "dependencies", "handler", "inputs", "checkpoint", "attempt", ...; NULL: {}). What the handler
 * tells is written to standard error. 1: it has succeeded, *ret is its result; 0: it has failed, *ret is the
 * error (`message`, `error_type`, `retryable`); the caller frees it. */
int tasker_try(tasker_handler_fn *fn, void *arg, const char *step, tasker_answer **ret,
               struct tasker_error *err);

typedef struct tasker_embedded tasker_embedded;
/* Start a taskerd with a database of its own in a temporary directory and wait until it is ready. All of it
 * is gone after tasker_embedded_stop, and when the program ends in any other way. `program` NULL:
 * TASKERD_PROGRAM, or the taskerd of the PATH. */
int tasker_embedded_start(tasker_embedded **ret, const char *program, struct tasker_error *err);
/* End the daemon and its database, and wait for that. Accepts NULL, returns NULL. */
tasker_embedded *tasker_embedded_stop(tasker_embedded *e);
/* Where it listens. */
const char *tasker_embedded_socket(const tasker_embedded *e);
/* A connection to it, which it keeps. */
tasker *tasker_embedded_client(tasker_embedded *e);
/* Register a template (YAML or JSON text), run one task of it with a worker that has these handlers (the last
 * one's callable is NULL) on four threads, and wait until nothing of the task moves any more, a minute at
 * most. `context` is JSON text of an object (NULL: {}). *ret is the task object with its steps. */
int tasker_embedded_run(tasker_embedded *e, const char *source, const char *context,
                        const struct tasker_handler *handlers, tasker_answer **ret, struct tasker_error *err);
/* The step of that name in a task object, or NULL. */
const tasker_value *tasker_task_find(const tasker_value *task, const char *step);

#ifdef __cplusplus
}
#endif
#endif

/* The C client of taskerd: submit and look at tasks, and run their steps.
 *
 * A program opens a connection (struct tasker) and calls the methods of the protocol by name, with parameters
 * and answers as JSON text or as MessagePack bytes; or it makes a worker (struct tasker_worker), gives it a
 * function for each handler and runs it. The protocol page, tasker-protocol(7), names the methods and their
 * fields.
 *
 * Threads: an object belongs to one thread at a time; different objects are independent. Only
 * tasker_worker_stop may be called from elsewhere, a signal handler included.
 *
 * Results: functions return 0 or a negative errno value, and fill the struct tasker_error they were given
 * (which may be NULL) exactly when the result is negative. */
#ifndef TASKER_H
#define TASKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Why something failed. `code` is an error code of the protocol ("not_found", "conflict", "overloaded", ...)
 * when the daemon said so (rc is -EREMOTEIO then), or one of "unreachable"      nobody listens at the socket,
 * or it may not be opened "connection_lost"  the connection ended; make a new one "timeout"          no
 * answer in time (-ETIMEDOUT) "protocol_error"   the daemon sent something that is not the protocol (-EPROTO)
 *   "invalid_value"    what was to be sent is not JSON, or not in its data model (-EINVAL)
 *   "too_large"        what was to be sent does not fit into one frame (-EMSGSIZE)
 *   "congested"        too much is waiting to be sent; process the connection first (-ENOBUFS)
 *   "bad_call"         the call makes no sense here, the message says why (-EINVAL)
 *   "out_of_memory"    (-ENOMEM) */
struct tasker_error {
	int rc;
	char code[32];
	char path[128]; /* where in the parameters, or empty */
	char message[512];
	uint32_t retry_after_ms; /* 0: not said */
};

/* ---- values: what the daemon sent, valid as long as the thing they were got from ---- */

typedef struct tasker_value tasker_value;

/* The field of a map; NULL if it is absent or nil, or if `map` is NULL or not a map. */
const tasker_value *tasker_get(const tasker_value *map, const char *key);
/* Number of elements of an array or entries of a map; 0 for anything else. */
size_t tasker_count(const tasker_value *v);
/* The i-th element of an array, or NULL. */
const tasker_value *tasker_item(const tasker_value *array, size_t i);
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

/* ---- connections ---- */

typedef struct tasker tasker;

struct tasker_options {
	const char *socket_path; /* NULL: TASKERD_SOCKET, then the user's own socket, then the system's */
	const char *client;      /* "name/version" of this program; NULL: the library's */
	int timeout_ms;          /* for connecting and the handshake; 0: 10,000 */
};

/* The socket a client without an explicit path would use, into `dst`. 0, or -ENAMETOOLONG. */
int tasker_default_socket(char *dst, size_t size);

/* Connect and shake hands. 0 with *ret set (the caller closes it), or negative. */
int tasker_connect(tasker **ret, const struct tasker_options *opts, struct tasker_error *err);
/* Close and free; open requests are answered with "connection_lost" first. Accepts NULL, returns NULL. Never
 * from a callback. */
tasker *tasker_close(tasker *t);

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

/* ---- workers ---- */

typedef struct tasker_worker tasker_worker;
typedef struct tasker_step tasker_step;

struct tasker_worker_options {
	const char *socket_path; /* as above */
	const char *client;
	const char *name;              /* a label for people; NULL: the program's name */
	const char *const *namespaces; /* NULL-terminated; NULL: all */
	unsigned max_concurrency;      /* steps held at a time; 0: 16 */
	int timeout_ms;                /* for connecting and the handshake; 0: 10,000 */
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
/* A handler runs on the worker's thread, so while it runs nothing else of this worker does: one that takes
 * long defers, or calls tasker_step_heartbeat now and then. */
typedef enum tasker_verdict tasker_handler_fn(void *arg, tasker_step *step);

int tasker_worker_new(tasker_worker **ret, const struct tasker_worker_options *opts,
                      struct tasker_error *err);
/* Say goodbye if connected, and free everything, steps still held included. Accepts NULL, returns NULL. */
tasker_worker *tasker_worker_free(tasker_worker *w);
/* Before the first poll. -EEXIST if the callable has a handler. */
int tasker_worker_add(tasker_worker *w, const char *callable, tasker_handler_fn *fn, void *arg);
/* Called when the daemon wants a deferred step to stop (`reason`: "timeout", "task_cancelled", "stale",
 * "shutdown"). The step is to be finished all the same. */
void tasker_worker_on_cancel(tasker_worker *w, void (*fn)(void *arg, tasker_step *step, const char *reason),
                             void *arg);

/* Run until tasker_worker_stop and everything is drained: 0. Connections lost are made anew, with growing
 * random pauses, and results that were not acknowledged are sent again. Negative: the daemon refuses this
 * worker (another major version, no permission), or out of memory. */
int tasker_worker_run(tasker_worker *w, struct tasker_error *err);
/* One turn of that loop, waiting at most `timeout_us` (negative: until something happens). 1: go on; 0:
 * stopped and drained; negative as above. */
int tasker_worker_poll(tasker_worker *w, int64_t timeout_us, struct tasker_error *err);
/* Take no more steps, finish those held, wait for the acknowledgements, then stop. Async-signal-safe. */
void tasker_worker_stop(tasker_worker *w);

struct tasker_worker_stats {
	uint64_t steps;    /* handed to handlers */
	uint64_t recorded; /* acknowledged as recorded or duplicate */
	uint64_t refused;  /* acknowledged as stale, rejected or not_claimed */
	uint64_t connects;
	size_t held, unacknowledged;
};
void tasker_worker_stats(const tasker_worker *w, struct tasker_worker_stats *ret);

/* The step as the daemon sent it: tasker_get(tasker_step_value(s), "context") and so on. Valid until the step
 * is finished. */
const tasker_value *tasker_step_value(const tasker_step *s);
/* The result of an ancestor step as JSON for the caller to free ("null" if it completed with nil), asking the
 * daemon for it if it was left out for size. -ENOENT: no such completed ancestor. */
int tasker_step_dependency(tasker_step *s, const char *name, char **ret_json, struct tasker_error *err);
/* The daemon has asked for this step to stop, or its attempt is no longer current. */
bool tasker_step_cancelled(const tasker_step *s);

/* Set the outcome; the last call counts. `json` must be JSON text; -EINVAL otherwise, and the outcome is
 * unchanged. */
int tasker_step_succeed(tasker_step *s, const char *json, struct tasker_error *err);
struct tasker_failure {
	const char *message; /* required */
	const char *error_type, *error_code;
	bool permanent;         /* no further attempt is to be made */
	int64_t retry_after_ms; /* above 0: wish for the delay before the next attempt */
	int64_t status_code;    /* 0: none */
	const char *context;    /* JSON text, or NULL */
};
int tasker_step_fail(tasker_step *s, const struct tasker_failure *f, struct tasker_error *err);
/* Kept with the attempt. */
int tasker_step_metadata(tasker_step *s, const char *json, struct tasker_error *err);
/* Tell people how far a step is (`progress_json` may be NULL), and the daemon that this worker lives. Sends
 * at once. */
int tasker_step_heartbeat(tasker_step *s, const char *progress_json, struct tasker_error *err);
/* Into the daemon's log, with the step's ids. `level`: "trace", "debug", "info", "warn", "error". */
int tasker_step_log(tasker_step *s, const char *level, const char *message, struct tasker_error *err);
/* End a deferred step with the outcome set so far. The step is freed. */
int tasker_step_finish(tasker_step *s, struct tasker_error *err);

#ifdef __cplusplus
}
#endif
#endif

/* What every verb works with: the command line, the terminal, the connection, and how answers and errors are
 * shown. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include "clients/c/tasker.h"
#include "clients/taskerctl/cli.h"
#include "clients/taskerctl/exits.h"
#include "clients/taskerctl/table.h"
#include "daemon/base/cleanup.h"
#include "protocol/buf.h"

struct ctl {
	const struct cli *cli;
	tasker *conn;
	bool out_tty, err_tty, colour, err_colour;
	size_t width, height; /* of the terminal; width 0: not a terminal, never cut */
	int timeout_ms;       /* for one request */
	int screen;           /* what was stdout while a pager may come; 0: none may */
};

#define DEFAULT_TIMEOUT_MS 30000

static inline void cleanup_json(json_t **j)
{
	json_decref(*j);
}
static inline void cleanup_buf(struct buf *b)
{
	buf_done(b);
}
static inline void cleanup_table(struct table *t)
{
	table_done(t);
}

/* term.c: find out about the terminal; `c->cli` is set. */
void ctl_look_at_terminal(struct ctl *c);
/* pager.c: from now on output is kept, and shown at the end by a pager if it is longer than the terminal. */
void pager_begin(struct ctl *c);
void pager_end(struct ctl *c);
/* The size may have changed. */
void ctl_measure(struct ctl *c);

/* ---- output (ctl.c) ---- */

/* What is to go to stdout has gone there. The error that kept it from that, the first of all: 0, or an errno. */
int ctl_flush(void);
/* To stdout. What goes on after an error is not worth a word: ctl_flush tells of it. */
void ctl_put(const void *data, size_t len);
void ctl_write(const struct buf *b);
/* A line of a description: the key, and the value as wide as the terminal has room. Nothing if there is no value. */
void ctl_fact(const struct ctl *c, const char *key, const char *value);
/* The same of a JSON value; empty maps and arrays only if `empty`. */
void ctl_fact_json(const struct ctl *c, const char *key, const json_t *v, bool empty);
/* For people, to stdout: whatever could steer a terminal is made harmless, but for colours and newlines. */
void ctl_say(const char *fmt, ...) printf_like(1, 2);
/* The same to stderr. */
void ctl_warn(const char *fmt, ...) printf_like(1, 2);
/* A note for people, to stderr, but not with --quiet. A newline is added. */
void ctl_note(const struct ctl *c, const char *fmt, ...) printf_like(2, 3);
/* "taskerctl: ..." to stderr, and with --json as a document on stdout. What follows a newline says what to do next; by
 * default it is to look at the help of the verb. Returns `code`. */
int ctl_fail(const struct ctl *c, enum exit_code code, const char *fmt, ...) printf_like(3, 4);
int ctl_fail_text(const struct ctl *c, enum exit_code code, const char *text);
/* An error as it is in JSON: code, message, hint, exit_code, and what else there is. `details` may be NULL. */
json_t *ctl_error_json(const struct ctl *c, const struct tasker_error *err, json_t *details);
/* An error of the library or the daemon: what happened, and what to do next; with --json also as a document
 * on stdout. Returns the exit code. */
int ctl_error(const struct ctl *c, const struct tasker_error *err);
/* The same without the JSON document, and with what it is about in front. */
int ctl_complain(const struct ctl *c, const char *about, const struct tasker_error *err);
/* One JSON document, or one line of JSON with `line`. With --output jsonl the items of the verb's list, a line each. */
void ctl_print_json(const struct ctl *c, const json_t *j, bool line);
/* As part of a document; `how`: flags of json_dumps(). */
void ctl_put_json(const struct ctl *c, const json_t *j, size_t how);
void ctl_print_table(const struct ctl *c, const struct table *t, size_t indent);

/* ---- requests (ctl.c) ---- */

/* Connect, once. 0, or the exit code after having said why. */
int ctl_connect(struct ctl *c);
/* Ask; `params` is taken. 0 with *ret set (the caller releases it), or the exit code after having said why.
 */
int ctl_call(struct ctl *c, const char *method, json_t *params, json_t **ret) must_check;
/* The same, but the caller says what went wrong: 0 or negative. */
int ctl_try(struct ctl *c, const char *method, json_t *params, json_t **ret,
            struct tasker_error *err) must_check;
/* Send without waiting. `params` is taken. 0 or negative. */
int ctl_send(struct ctl *c, const char *method, json_t *params, tasker_reply_fn *fn, void *arg,
             struct tasker_error *err);
/* A value the daemon sent, as jansson has it. NULL if out of memory. */
json_t *json_from_value(const tasker_value *v);

/* Fields; `o` may be NULL or no object, absent and null are the same. */
const char *json_text(const json_t *o, const char *key); /* "" if absent or no string */
int64_t json_int(const json_t *o, const char *key, int64_t otherwise);
bool json_flag(const json_t *o, const char *key);
/* A time: 0 with microseconds, or -EINVAL if absent. */
int json_time(const json_t *o, const char *key, int64_t *ret_us);
/* How long ago a time was: "12s", "3m05s", or "-". */
const char *json_age(const json_t *o, const char *key, char dst[24]);
/* "a, b, c" of an array of strings. */
void json_join(const json_t *list, struct buf *b);
/* "key: value" if the option was given. */
void json_set_option(json_t *params, const char *key, const struct cli *cli, const char *option);

/* A template as an argument names it; without a namespace in it that of the profile, else "default". 0, or an exit code
 * after having said why. */
struct template_ref;
int ctl_template_ref(const struct ctl *c, const char *text, struct template_ref *ret) must_check;
/* The value of an option that is JSON text, @FILE or -. 0 with *ret (NULL if it was not given), or an exit code
 * after having said why. */
int ctl_json_option(const struct ctl *c, const char *option, json_t **ret) must_check;

/* A time that was given with `option`, or a duration from now (90d; +90s), as params[key]. 0, or an exit code after
 * having said why. */
int ctl_set_time(const struct ctl *c, json_t *params, const char *key, const char *option, const char *text) must_check;

/* SGR code for a state, or NULL. */
const char *state_colour(const char *state);
bool task_state_is_final(const char *state);

/* ---- verbs, one file a group ---- */
int run_template_validate(struct ctl *c);
int run_template_apply(struct ctl *c);
int run_template_show(struct ctl *c);
int run_template_graph(struct ctl *c);
int run_template_schema(struct ctl *c);
int run_generate_types(struct ctl *c);
int run_generate_handler(struct ctl *c);
int run_generate_scaffold(struct ctl *c);
int run_task_create(struct ctl *c);
int run_task_get(struct ctl *c);
int run_task_wait(struct ctl *c);
int run_task_watch(struct ctl *c);
int run_task_cancel(struct ctl *c);
int run_task_retry(struct ctl *c);
int run_task_resolve(struct ctl *c);
int run_task_pause(struct ctl *c);
int run_task_resume(struct ctl *c);
int run_task_dump(struct ctl *c);
int run_task_restore(struct ctl *c);
int run_stats(struct ctl *c);
int run_status(struct ctl *c);
int run_logs(struct ctl *c);
int run_step_get(struct ctl *c);
int run_step_result(struct ctl *c);
int run_step_logs(struct ctl *c);
int run_step_reset(struct ctl *c);
int run_step_resolve(struct ctl *c);
int run_step_complete(struct ctl *c);
int run_step_skip(struct ctl *c);
int run_namespace_pause(struct ctl *c);
int run_namespace_resume(struct ctl *c);
int run_task_tree(struct ctl *c);
int run_task_history(struct ctl *c);
int run_worker_show(struct ctl *c);
int run_worker_drain(struct ctl *c);
int run_node_show(struct ctl *c);
int run_queue_pause(struct ctl *c);
int run_queue_resume(struct ctl *c);
int run_queue_purge(struct ctl *c);
int run_namespace_retention(struct ctl *c);
int run_dlq_show(struct ctl *c);
int run_dlq_add(struct ctl *c);
int run_dlq_update(struct ctl *c);
int run_dlq_redrive(struct ctl *c);
int run_events_tail(struct ctl *c);
int run_events_consume(struct ctl *c);
int run_events_publish(struct ctl *c);
int run_token_create(struct ctl *c);
int run_token_revoke(struct ctl *c);
int run_config_show(struct ctl *c);
int run_metrics(struct ctl *c);
int run_doctor(struct ctl *c);
int run_version(struct ctl *c);
int run_help(struct ctl *c);
int run_completion(struct ctl *c);
int run_complete(struct ctl *c);
int run_profile_show(struct ctl *c);

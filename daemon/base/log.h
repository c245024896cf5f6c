/* Structured log: records with fields, as lines of text, as JSON objects or in the journal (log_out.c). Thread-safe.
 * Never log payloads or passwords. Library layers do not log; the session, task or thread that fails logs once. */
#pragma once
#include "daemon/base/cleanup.h"
#include "daemon/base/log_events.h"

enum log_level { LOG_LV_ERROR = 3, LOG_LV_WARN = 4, LOG_LV_INFO = 6, LOG_LV_DEBUG = 7 };
/* AUTO: the journal if standard error is one of its streams, else text. */
enum log_format { LOG_FORMAT_AUTO, LOG_FORMAT_TEXT, LOG_FORMAT_JSON, LOG_FORMAT_JOURNAL, LOG_FORMAT_COUNT };

struct log_where {
	const char *file, *func;
	int line;
};

void log_init(enum log_level max_level, enum log_format format);
/* Returns 0 and sets the level, or -EINVAL for an unknown name (error, warn, info, debug). */
int log_level_parse(const char *name, enum log_level *ret) must_check;
const char *log_level_name(enum log_level lv);
extern const char *const log_format_names[LOG_FORMAT_COUNT];
enum log_level log_event_level(enum log_event event);
/* Whether a record of this level would be written: for what is costly to find out. */
int log_wants(enum log_level lv);

/* `fields` is NULL or a NULL-terminated list of name, value pairs (names upper case: TASKER_STEP). Values may be NULL
 * (skipped). */
void log_write(enum log_level lv, enum log_event event, const struct log_where *where, const char *const *fields,
               const char *fmt, ...) printf_like(5, 6);

#define LOG_HERE (&(const struct log_where){__FILE__, __func__, __LINE__})
#define LOG_FIELDS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define log_fields(lv, fields, ...) log_write(lv, LOG_NO_EVENT, LOG_HERE, fields, __VA_ARGS__)
/* A catalogued message (log_events.h). */
#define log_event(event, fields, ...) log_write(log_event_level(event), event, LOG_HERE, fields, __VA_ARGS__)
#define log_error(...) log_fields(LOG_LV_ERROR, NULL, __VA_ARGS__)
#define log_warn(...) log_fields(LOG_LV_WARN, NULL, __VA_ARGS__)
#define log_info(...) log_fields(LOG_LV_INFO, NULL, __VA_ARGS__)
#define log_debug(...) log_fields(LOG_LV_DEBUG, NULL, __VA_ARGS__)

/* A leaky gate for messages that a peer can provoke: true at most `burst` times per `window_us`; ret_left_out then
 * says, as the end of a message, how many were swallowed since the last true, and nothing if none were. Not
 * thread-safe: one per thread or session. */
#define LEFT_OUT_MAX 64
struct ratelimit {
	unsigned long long window_start, window_us;
	unsigned burst, used, suppressed;
};
int ratelimit_ok(struct ratelimit *r, unsigned long long now_us, char ret_left_out[static LEFT_OUT_MAX]);

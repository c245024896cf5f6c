/* Structured log. Under systemd (JOURNAL_STREAM set on stderr) records go to the journal with their fields;
 * otherwise one line each on stderr: "<time> <level> message key=value". Thread-safe. Never log payloads or passwords.
 * Library layers do not log; the session, task or thread that fails logs once. */
#pragma once
#include "daemon/base/cleanup.h"

enum log_level { LOG_LV_ERROR = 3, LOG_LV_WARN = 4, LOG_LV_INFO = 6, LOG_LV_DEBUG = 7 };

void log_init(enum log_level max_level);
/* Returns 0 and sets the level, or -EINVAL for an unknown name (error, warn, info, debug). */
int log_level_parse(const char *name, enum log_level *ret) must_check;
/* `fields` is NULL or a NULL-terminated list of name, value pairs (names upper case: TASKER_STEP). Values may be NULL (skipped). */
void log_fields(enum log_level lv, const char *const *fields, const char *fmt, ...) printf_like(3, 4);

#define log_error(...) log_fields(LOG_LV_ERROR, NULL, __VA_ARGS__)
#define log_warn(...) log_fields(LOG_LV_WARN, NULL, __VA_ARGS__)
#define log_info(...) log_fields(LOG_LV_INFO, NULL, __VA_ARGS__)
#define log_debug(...) log_fields(LOG_LV_DEBUG, NULL, __VA_ARGS__)

/* A leaky gate for messages that a peer can provoke: true at most `burst` times per `window_us`; *ret_suppressed is the
 * number swallowed since the last true. Not thread-safe: one per thread or session. */
struct ratelimit {
	unsigned long long window_start, window_us;
	unsigned burst, used, suppressed;
};
int ratelimit_ok(struct ratelimit *r, unsigned long long now_us, unsigned *ret_suppressed);

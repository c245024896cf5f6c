/* A private PostgreSQL for `taskerd --embedded[=DIR]`: made, started, crash-recovered and stopped by the daemon. Unix socket only, durable settings.
 * As root the server runs as an unprivileged user ("postgres" if it exists, else "nobody" is refused with what to do). */
#pragma once
#include "daemon/base/err.h"

struct embed;
/* Make the cluster in `dir` if it is not there, start it, wait until it answers, create database "taskerd". A second daemon on the same dir is refused
 * (error says which pid). A stale postmaster.pid from a crash is handled; a PostgreSQL still running from a killed daemon is taken over or stopped first.
 * On success *ret_conninfo (malloc'd) is a libpq URI/conninfo usable by this process's user. */
int embed_start(const char *dir, struct embed **ret, char **ret_conninfo, struct err *e) must_check;
/* The server's pid, to be watched by the caller's SIGCHLD/pidfd handling, or -1. */
int embed_pid(const struct embed *em);
/* Call after the server died unexpectedly: start it again (crash recovery). */
int embed_restart(struct embed *em, struct err *e) must_check;
/* Fast shutdown, wait up to timeout_ms, then immediate. Frees `em`, returns NULL. */
struct embed *embed_stop(struct embed *em, int timeout_ms);

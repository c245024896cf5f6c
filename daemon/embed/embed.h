/* A private PostgreSQL for `taskerd --embedded[=DIR]`: made, started, crash-recovered and stopped by the
 * daemon. Unix socket only, durable settings. As root the server runs as the unprivileged user "postgres".
 *
 * DIR holds: lock (one daemon per DIR), data (the cluster), conf (settings written by taskerd, and local.conf
 * which is the operator's), run (the socket), postgres.log. Nothing here keeps static state; a struct embed
 * is used by one thread at a time. */
#pragma once
#include "daemon/base/err.h"

struct embed;

/* Make the cluster in `dir` if it is not there, start it, wait until it takes connections; database and
 * superuser are both called "taskerd". Call before threads start. A second daemon on the same dir is refused
 * with its pid (-EBUSY). A half-made cluster is made again. A PostgreSQL still running from a killed daemon
 * is taken over if its settings are today's, else stopped and started. 0: *ret and *ret_conninfo (malloc'd,
 * for this process's user) are the caller's. Negative: *e says what is wrong and what to do, nothing is left
 * running that was not running before. */
int embed_start(const char *dir, struct embed **ret, char **ret_conninfo, struct err *e) must_check;
/* The server's pid, to be watched with a pidfd or SIGCHLD (do not reap it: embed does), or -1 if it is known
 * to be gone. */
int embed_pid(const struct embed *em);
/* What a person should know about this start (the server was taken over, the socket had to go elsewhere), or
 * NULL. */
const char *embed_notice(const struct embed *em);
/* After the server died: start it again and wait for crash recovery. May be called from any thread of a
 * threaded process, blocks for as long as recovery takes. 0, also if it turns out to be running; negative
 * with *e, and may be called again. */
int embed_restart(struct embed *em, struct err *e) must_check;
/* Fast shutdown, wait up to timeout_ms, then immediate. Frees `em` (NULL is fine), returns NULL. */
struct embed *embed_stop(struct embed *em, int timeout_ms);

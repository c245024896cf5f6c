/* One PostgreSQL connection, used by one thread, blocking. The only layer that knows libpq is daemon/store. */
#pragma once
#include <libpq-fe.h>
#include <stdbool.h>
#include "daemon/base/err.h"

/* What went wrong, decided from the SQLSTATE in one place. */
enum db_failure {
	DB_LOST,      /* the connection is gone (or never was): reconnect; a commit's outcome may be unknown */
	DB_RETRY,     /* rolled back for reasons of concurrency: the same call may succeed */
	/* the server cannot now (disk, memory, a missing function): wait, then the same call may succeed */
	DB_FULL,
	DB_FENCED,    /* another incarnation of this node has taken over (TK001) */
	DB_REFUSED,   /* the data or the request is at fault */
};

enum conn_kind {
	CONN_HOT,  /* planner guarded: nested loops over indexes, generic plans */
	CONN_PLAIN, /* listener, migrations */
	CONN_POOLED /* through a pooler that lends it for one transaction: nothing is set but in transactions */
};

/* Connect within `timeout_ms`; `stop_fd` (or -1) becoming readable gives up with -ECANCELED. 0 or -errno with *e
 * filled. */
int db_connect(const char *conninfo, enum conn_kind kind, int timeout_ms, int stop_fd, PGconn **ret,
               struct err *e) must_check;
PGconn *db_close(PGconn *c);
DEFINE_CLEANUP(PGconn, cleanup_pgconn, PQfinish)
DEFINE_CLEANUP(PGresult, cleanup_pgresult, PQclear)

/* Classify a failed result (or the connection itself, if `r` is NULL) and describe it in *e. */
enum db_failure db_failed(PGconn *c, const PGresult *r, struct err *e);
/* One or more statements without parameters whose rows nobody wants. */
int db_exec(PGconn *c, const char *sql, enum db_failure *ret_why, struct err *e) must_check;
/* What the other kinds of connection have set, for one transaction: in all, and in those of the hot path. */
extern const char db_local_settings[], db_local_hot_settings[];
/* Run one statement that returns rows or nothing. 0 with *ret (if not NULL; the caller clears it), or a negative errno
 * with *e and *ret_why filled. */
/* The same, but without an answer within timeout_ms, or with `stop_fd` readable and no answer for a second, it is
 * DB_LOST. */
int db_query_within(PGconn *c, const char *sql, int n, const char *const *params, int timeout_ms, int stop_fd,
                    PGresult **ret, enum db_failure *ret_why, struct err *e) must_check;
int db_query(PGconn *c, const char *sql, int n, const char *const *params, PGresult **ret, enum db_failure *ret_why,
             struct err *e) must_check;

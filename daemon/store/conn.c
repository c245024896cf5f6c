/* Connections. Connecting uses the asynchronous calls with its own deadline, because connect_timeout does not bound a
 * whole attempt and must not outlive a stop request. Each poll asks PQsocket() anew: libpq may change the descriptor
 * while it tries addresses. */
#include "daemon/store/conn.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include "daemon/base/alive.h"
#include "daemon/store/hosts.h"

#define COMMON_SETTINGS(SET)                                                                                                                            \
	SET "TimeZone = 'UTC';" SET "client_min_messages = warning;" SET "statement_timeout = '300s';" SET "lock_timeout = '60s';" SET                     \
	    "idle_in_transaction_session_timeout = '60s';" SET "search_path = pg_catalog, pg_temp;" SET "standard_conforming_strings = on;" SET               \
	    "DateStyle = 'ISO, MDY';" SET "IntervalStyle = postgres;" SET "extra_float_digits = 1;" SET "bytea_output = hex;"                                  \
	    SET "transform_null_equals = off;" SET "array_nulls = on;"
/* The set-based functions touch as many rows as a batch has, whatever the statistics say; see sql/0002_engine.sql. */
#define HOT_SETTINGS(SET)                                                                                                                               \
	SET "enable_seqscan = off;" SET "enable_hashjoin = off;" SET "enable_mergejoin = off;" SET "enable_bitmapscan = off;" SET                          \
	    "plan_cache_mode = force_generic_plan;" SET "jit = off;"
const char db_local_settings[] = COMMON_SETTINGS("SET LOCAL ");
const char db_local_hot_settings[] = HOT_SETTINGS("SET LOCAL ");

static int wait_socket(PGconn *c, short events, int stop_fd, usec_t deadline)
{
	struct pollfd fds[2] = {{.fd = PQsocket(c), .events = events}, {.fd = stop_fd, .events = POLLIN}};
	usec_t now = now_mono();
	int ms = deadline > now ? (int)((deadline - now) / USEC_PER_MSEC) + 1 : 0;
	int r = ALIVE_ASKING(poll(fds, 2, ms));
	if (r < 0)
		return errno == EINTR ? 0 : -errno;
	if (fds[1].revents)
		return -ECANCELED;
	return r == 0 && now_mono() >= deadline ? -ETIMEDOUT : 0;
}

static int finish_connecting(PGconn *c, int stop_fd, usec_t deadline, struct err *e)
{
	PostgresPollingStatusType st = PGRES_POLLING_WRITING;
	while (st != PGRES_POLLING_OK) {
		if (st == PGRES_POLLING_FAILED)
			return err_set(e, -ECONNREFUSED, "database_unavailable", "%s", PQerrorMessage(c));
		int r = wait_socket(c, st == PGRES_POLLING_READING ? POLLIN : POLLOUT, stop_fd, deadline);
		if (r < 0)
			return err_set(e, r, "database_unavailable",
			               r == -ETIMEDOUT ? "connecting took too long" : "connecting was given up");
		st = PQconnectPoll(c);
	}
	return 0;
}

/* What a database or a role may have set for everybody, and what matters to connections that stay open. Not all servers
 * know all of it. Without an operator: whose that would be, the search path of the role says. */
static const char set_session[] =
	"SELECT pg_catalog.set_config(wanted.name, wanted.mine, false) FROM (VALUES ('application_name', 'taskerd'), ('idle_session_timeout', '0'), ('transaction_timeout', '0'), "
	"('default_transaction_isolation', 'read committed'), ('default_transaction_deferrable', 'off')) AS wanted (name, mine) "
	"WHERE pg_catalog.current_setting(wanted.name, true) IS NOT NULL";

/* What stays set as long as the connection lives. */
static int set_up(PGconn *c, enum conn_kind kind, struct err *e)
{
	static const char *const settings[] =
		{[CONN_HOT] = COMMON_SETTINGS("SET ") HOT_SETTINGS("SET "), [CONN_PLAIN] = COMMON_SETTINGS("SET ")};
	enum db_failure why;
	if (kind == CONN_POOLED)
		return 0;
	int r = db_query(c, set_session, 0, NULL, NULL, &why, e);
	return r < 0 ? r : db_exec(c, settings[kind], &why, e);
}

/* What conninfo says itself comes later and wins. A dead network is noticed within a minute instead of hours. */
static PGconn *start_connecting(const char *conninfo, int turn)
{
	static const char *const keys[] = {"application_name",
	                                   "keepalives_idle",
	                                   "keepalives_interval",
	                                   "keepalives_count",
	                                   "tcp_user_timeout",
	                                   "dbname",
	                                   NULL};
	const char *const values[] = {"taskerd", "20", "10", "3", "60000", conninfo, NULL};
	return turn == 0 ? PQconnectStartParams(keys, values, 1) : hosts_start(conninfo, turn, keys, values, 5);
}

static int connect_turn(const char *conninfo, enum conn_kind kind, int turn, int timeout_ms, int stop_fd, PGconn **ret,
                        struct err *e)
{
	cleanup_(cleanup_pgconn) PGconn *c = start_connecting(conninfo, turn);
	if (!c)
		return err_set(e, -ENOMEM, "internal", "out of memory");
	if (PQstatus(c) == CONNECTION_BAD)
		return err_set(e, -ECONNREFUSED, "database_unavailable", "%s", PQerrorMessage(c));
	int r = finish_connecting(c, stop_fd, now_mono() + (usec_t)timeout_ms * USEC_PER_MSEC, e);
	if (r == 0)
		r = set_up(c, kind, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(c);
	return 0;
}

/* Of several hosts libpq goes on to the next when one refuses, but waits for one that says nothing, as a machine that
 * has lost its power does. So each host has its turn to be the first. */
int db_connect(const char *conninfo, enum conn_kind kind, int timeout_ms, int stop_fd, PGconn **ret, struct err *e)
{
	int n = hosts_count(conninfo), r = -ETIMEDOUT;
	for (int turn = 0; r == -ETIMEDOUT && turn < n; turn++)
		r = connect_turn(conninfo, kind, turn, timeout_ms / n, stop_fd, ret, e);
	return r;
}

PGconn *db_close(PGconn *c)
{
	if (c)
		PQfinish(c);
	return NULL;
}

/* SQLSTATE prefixes, first match wins. */
static const struct {
	const char *prefix;
	enum db_failure why;
} failures[] = {
	{"TK001", DB_FENCED}, {"TK002", DB_RETRY}, {"40001", DB_RETRY}, {"40P01", DB_RETRY}, {"55P03",
	 DB_RETRY}, {"57014", DB_RETRY},
	{"57P", DB_LOST},     {"08", DB_LOST},     {"25006", DB_LOST}, {"53", DB_FULL},	{"58", DB_FULL},
	/* a damaged or half-restored schema: keep everything until an operator has mended it */
	{"42", DB_FULL},      {"XX", DB_FULL},
};

enum db_failure db_failed(PGconn *c, const PGresult *r, struct err *e)
{
	const char *state = r ? PQresultErrorField(r, PG_DIAG_SQLSTATE) : NULL;
	const char *text = r ? PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY) : NULL;
	if (PQstatus(c) == CONNECTION_BAD || !state) {
		err_set(e, -EIO, "database_unavailable", "%s", PQerrorMessage(c));
		return DB_LOST;
	}
	enum db_failure why = DB_REFUSED;
	for (size_t i = 0; i < sizeof failures / sizeof *failures; i++)
		if (strncmp(state, failures[i].prefix, strlen(failures[i].prefix)) == 0) {
			why = failures[i].why;
			break;
		}
	static const struct {
		const char *state, *code;
	} codes[] = {{"TK404", "not_found"}, {"TK409", "conflict"}, {"TK400", "bad_request"}, {"TK413", "too_large"}};
	const char *code = why == DB_REFUSED ? "internal" : "database_unavailable";
	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
		if (strcmp(state, codes[i].state) == 0)
			code = codes[i].code;
	err_set(e, -EIO, code, "%s", text ? text : "unknown database error");
	const char *column = r ? PQresultErrorField(r, PG_DIAG_COLUMN_NAME) : NULL;
	if (e && column)
		snprintf(e->path, sizeof e->path, "%s", column); /* RAISE ... USING COLUMN names the parameter */
	if (e)
		snprintf(e->sqlstate, sizeof e->sqlstate, "%.5s", state);
	return why;
}

static int take_result(PGconn *c, PGresult *result, PGresult **ret, enum db_failure *ret_why, struct err *e)
{
	cleanup_(cleanup_pgresult) PGresult *r = result;
	ExecStatusType st = r ? PQresultStatus(r) : PGRES_FATAL_ERROR;
	if (st != PGRES_TUPLES_OK && st != PGRES_COMMAND_OK) {
		*ret_why = db_failed(c, r, e);
		return -EIO;
	}
	if (ret)
		*ret = TAKE_PTR(r);
	return 0;
}

int db_query(PGconn *c, const char *sql, int n, const char *const *params, PGresult **ret, enum db_failure *ret_why,
             struct err *e)
{
	return take_result(c, ALIVE_ASKING(PQexecParams(c, sql, n, NULL, params, NULL, NULL, 0)), ret, ret_why, e);
}

int db_exec(PGconn *c, const char *sql, enum db_failure *ret_why, struct err *e)
{
	return take_result(c, ALIVE_ASKING(PQexec(c, sql)), NULL, ret_why, e);
}

/* Wait until an answer is whole. A stop request shortens the patience to a second. */
static int await_answer(PGconn *c, int timeout_ms, int stop_fd)
{
	usec_t deadline = now_mono() + (usec_t)timeout_ms * USEC_PER_MSEC;
	while (PQisBusy(c)) {
		int r = wait_socket(c, POLLIN, stop_fd, deadline);
		if (r == -ECANCELED) {
			usec_t soon = now_mono() + USEC_PER_SEC;
			deadline = soon < deadline ? soon : deadline;
			stop_fd = -1;
		} else if (r < 0) {
			return r;
		}
		if (!PQconsumeInput(c))
			return -EIO;
	}
	return 0;
}

int db_query_within(PGconn *c, const char *sql, int n, const char *const *params, int timeout_ms, int stop_fd,
                    PGresult **ret, enum db_failure *ret_why, struct err *e)
{
	PGresult *last = NULL, *r;
	*ret_why = DB_LOST;
	if (!PQsendQueryParams(c, sql, n, NULL, params, NULL, NULL, 0))
		return err_set(e, -EIO, "database_unavailable", "%s", PQerrorMessage(c));
	int rc = await_answer(c, timeout_ms, stop_fd);
	if (rc < 0)
		return err_set(e, rc, "database_unavailable", rc == -ETIMEDOUT ? "the database does not answer" : "%s",
		               PQerrorMessage(c));
	while ((r = PQgetResult(c))) {
		PQclear(last);
		last = r;
	}
	return take_result(c, last, ret, ret_why, e);
}

/* Transactions of more than one statement: the calls that answer people, and behind a connection pooler all others too.
 * A pooler lends the server's connection for one transaction, so nothing may stay behind in it: each begins with its
 * settings. */
#include "daemon/store/store_impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "protocol/mpjson.h"

#define READ_COMMITTED "READ COMMITTED" /* whatever the database has as its default */

static int begin(struct worker *w, const char *mode, const char *settings, enum db_failure *why, struct err *e)
{
	char sql[2048];
	snprintf(sql, sizeof sql, "BEGIN ISOLATION LEVEL %s;%s%s%s", mode, w->s->cfg.pooled ? db_local_settings : "",
	         w->s->cfg.pooled ? w->settings : "", settings);
	return db_exec(w->conn, sql, why, e);
}

int store_begin(struct worker *w, enum db_failure *why, struct err *e)
{
	*why = DB_LOST;
	return begin(w, READ_COMMITTED, db_local_hot_settings, why, e);
}

int store_end(struct worker *w, int rc, enum db_failure *why, struct err *e)
{
	struct err ignored;
	enum db_failure ignored_why;
	if (rc == 0)
		return db_exec(w->conn, "COMMIT", why, e);
	if (*why != DB_LOST)
		(void)!db_exec(w->conn, "ROLLBACK", &ignored_why, &ignored);
	return rc;
}

/* What a function answers that has done a part, and is to be called again for the next one. */
#define AGAIN "\"again\""

/* Reads see one snapshot and an ordinary planner. */
static int api_once(struct worker *w, struct req *q, bool *ret_again, enum db_failure *why, struct err *e)
{
	static const char plan[] =
		"SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on; SET LOCAL enable_bitmapscan = on; SET LOCAL plan_cache_mode = auto";
	char sql[128];
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	alive_call(q->api.function);
	int rc = begin(w, q->api.mode == API_READ ? "REPEATABLE READ READ ONLY" : READ_COMMITTED, plan, why, e);
	snprintf(sql, sizeof sql, "SELECT %s($1::jsonb)", q->api.function);
	if (rc == 0)
		rc = db_query(w->conn, sql, 1, (const char *[]){q->api.args.s}, &r, why, e);
	rc = store_end(w, rc, why, e);
	if (rc < 0)
		return rc;
	struct mpjson_error je;
	buf_reset(&q->answer);
	*why = DB_REFUSED;
	*ret_again = q->api.mode == API_WRITE && PQntuples(r) == 1 && strcmp(PQgetvalue(r, 0, 0), AGAIN) == 0;
	if (PQntuples(r) != 1 || PQgetisnull(r, 0, 0))
		mp_nil(&q->answer);
	else if (json_to_mp(PQgetvalue(r, 0, 0), (size_t)PQgetlength(r, 0, 0), &q->answer, &je) < 0)
		return err_set(e, -EINVAL, "internal", "answer of %s: %s at %s", q->api.function, je.what, je.path);
	return 0;
}

/* Unlike a batch, an API call that finds no database fails soon: someone waits for it, and nothing is lost. Writes are
 * idempotent, so that one lost answer is tried again. */
bool store_run_api(struct worker *w, struct req *q)
{
	bool again = false;
	for (unsigned tries = 0;; tries++) {
		struct err e = {0};
		enum db_failure why = DB_LOST;
		int rc = store_connect_once(w, &e);
		if (rc == 0)
			rc = api_once(w, q, &again, &why, &e);
		if (rc == 0) {
			snprintf(q->status, sizeof q->status, "ok");
			return again;
		}
		if (why == DB_LOST)
			store_disconnect(w);
		if (tries >= 2 || (why != DB_LOST && why != DB_RETRY) || store_backoff(w->s, tries)) {
			store_fail(&q, 1, &e);
			return false;
		}
	}
}

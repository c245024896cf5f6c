/* Migrations. `pgmq` is installed by the real extension if the server has it, else by our own script, unless something
 * made it before: a pgmq schema that others created is never changed. */
#include "daemon/store/migrate.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "daemon/base/alive.h"

/* Key of the advisory lock that serialises migrations: "task" in ASCII. */
#define MIGRATION_LOCK "1952543595"

int schema_newest(void)
{
	int n = 0;
	for (const struct sql_script *s = sql_scripts; s->name; s++)
		if (s->number > n)
			n = s->number;
	return n;
}

static const char *script_text(const char *name)
{
	for (const struct sql_script *s = sql_scripts; s->name; s++)
		if (strcmp(s->name, name) == 0)
			return s->text;
	return NULL;
}

/* Run a script of several statements. */
static int run(PGconn *c, const char *sql, struct err *e)
{
	cleanup_(cleanup_pgresult) PGresult *r = ALIVE_ASKING(PQexec(c, sql));
	ExecStatusType st = r ? PQresultStatus(r) : PGRES_FATAL_ERROR;
	if (st == PGRES_COMMAND_OK || st == PGRES_TUPLES_OK)
		return 0;
	db_failed(c, r, e);
	return -EIO;
}

static int query_int(PGconn *c, const char *sql, int *ret, enum db_failure *why, struct err *e)
{
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	int rc = db_query(c, sql, 0, NULL, &r, why, e);
	if (rc < 0)
		return rc;
	*ret = PQntuples(r) > 0 && !PQgetisnull(r, 0, 0) ? (int)strtol(PQgetvalue(r, 0, 0), NULL, 10) : 0;
	return 0;
}

static int check_server(PGconn *c, struct err *e)
{
	int v = PQserverVersion(c);
	if (v >= SCHEMA_MIN_SERVER)
		return 0;
	return err_set(e, -ESTALE, "internal", "PostgreSQL %d.%d is too old: taskerd needs 13 or newer", v / 10000,
	               v % 100);
}

static int schema_version(PGconn *c, int *ret, enum db_failure *why, struct err *e)
{
	int there = 0;
	*ret = 0;
	int r = query_int(c, "SELECT (to_regclass('tasker.schema_migrations') IS NOT NULL)::int", &there, why, e);
	if (r < 0 || !there)
		return r;
	return query_int(c, "SELECT coalesce(max(version), 0) FROM tasker.schema_migrations", ret, why, e);
}

static int install_pgmq(PGconn *c, struct err *e)
{
	enum db_failure why;
	int there = 0, offered = 0;
	int r = query_int(c, "SELECT (to_regclass('pgmq.meta') IS NOT NULL)::int", &there, &why, e);
	if (r < 0 || there)
		return r;
	r = query_int(c, "SELECT count(*)::int FROM pg_available_extensions WHERE name = 'pgmq'", &offered, &why, e);
	if (r < 0)
		return r;
	if (offered && run(c, "SAVEPOINT ext; CREATE EXTENSION pgmq", NULL) == 0)
		return run(c, "RELEASE SAVEPOINT ext", e);
	if (offered && (r = run(c, "ROLLBACK TO SAVEPOINT ext", e)) < 0)
		return r;
	return run(c, script_text("pgmq"), e);
}

static int apply(PGconn *c, const struct sql_script *s, struct err *e)
{
	int r = run(c, "BEGIN", e);
	if (r < 0)
		return r;
	if (s->number == 1)
		r = run(c,
		        "CREATE SCHEMA tasker; CREATE TABLE tasker.schema_migrations (version int PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())",
		        e);
	if (r == 0 && s->number == 1)
		r = install_pgmq(c, e);
	if (r == 0)
		r = run(c, s->text, e);
	if (r == 0) {
		char number[16];
		enum db_failure why;
		snprintf(number, sizeof number, "%d", s->number);
		r = db_query(c, "INSERT INTO tasker.schema_migrations (version, name) VALUES ($1::int, $2)", 2,
		             (const char *[]){number, s->name}, NULL, &why, e);
	}
	if (r == 0)
		return run(c, "COMMIT", e);
	struct err ignored;
	(void)!run(c, "ROLLBACK", &ignored);
	return r;
}

static int migrate_locked(PGconn *c, int *ret_from, int *ret_to, struct err *e)
{
	enum db_failure why;
	int r = schema_version(c, ret_from, &why, e);
	if (r < 0)
		return r;
	*ret_to = *ret_from;
	if (*ret_from > schema_newest())
		return err_set(e, -ESTALE, "internal",
		               "the schema is at version %d, this taskerd knows up to %d: install a newer taskerd",
		               *ret_from, schema_newest());
	for (const struct sql_script *s = sql_scripts; s->name; s++) {
		if (s->number <= *ret_from)
			continue;
		if ((r = apply(c, s, e)) < 0)
			return r;
		*ret_to = s->number;
	}
	/* Everyone may execute a new function unless told otherwise; applications are granted theirs one by one. */
	return *ret_to == *ret_from ? 0 : run(c, "REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA tasker FROM PUBLIC", e);
}

int schema_migrate(PGconn *c, int *ret_from, int *ret_to, struct err *e)
{
	int r = check_server(c, e);
	if (r < 0)
		return r;
	/* Scripts name every object with its schema; statement timeouts are for the hot path. */
	r = run(c, "SET statement_timeout = 0; SET lock_timeout = 0; SELECT pg_advisory_lock(" MIGRATION_LOCK ")", e);
	if (r < 0)
		return r;
	r = migrate_locked(c, ret_from, ret_to, e);
	struct err ignored;
	(void)!run(c, "SELECT pg_advisory_unlock(" MIGRATION_LOCK "); RESET statement_timeout; RESET lock_timeout",
	           &ignored);
	return r;
}

int schema_check(PGconn *c, enum db_failure *ret_why, struct err *e)
{
	int have = 0;
	*ret_why = DB_REFUSED;
	int r = check_server(c, e);
	if (r == 0)
		r = schema_version(c, &have, ret_why, e);
	if (r < 0)
		return r;
	*ret_why = DB_REFUSED;
	if (have == 0)
		return err_set(
			e, -ESTALE, "internal",
			"the database has no tasker schema: run `taskerd --migrate` with the same database once");
	if (have < schema_newest())
		return err_set(e, -ESTALE, "internal",
		               "the schema is at version %d, this taskerd needs %d: run `taskerd --migrate`", have,
		               schema_newest());
	if (have > schema_newest())
		return err_set(e, -ESTALE, "internal",
		               "the schema is at version %d, this taskerd knows up to %d: install a newer taskerd",
		               have, schema_newest());
	return 0;
}

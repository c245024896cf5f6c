/* The engine's statements and their parameters, all in PostgreSQL's binary format but for JSON. */
#include "daemon/store/hot_impl.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "daemon/base/alive.h"

static const struct {
	const char *name, *sql;
} stmts[S_COUNT] = {
	[S_RECORD] =
		{"record",
                 "SELECT * FROM tasker.record_results($1::int,$2::int,$3::int,$4::int8,$5::bool,$6::int[],$7::int[],$8::int,$9::int8[],$10::int[],$11::int[],"
                 "$12::text[]::tasker.attempt_outcome[],$13::bool[],$14::int8[],$15::jsonb[],$16::jsonb[],$17::jsonb[],$18::real[],$19::uuid[],$20::timestamptz[],$21::int[],$22::jsonb[],"
                 "$23::bool[])"},
	[S_RECORD_ONE] =
		{"record_one",
                 "SELECT tasker.record_one($1::int,$2::int,$3::int,$4::int8,$5::bool,$6::int[],$7::int[],$8::int[],$9::int8,$10::int,$11::int,"
                 "$12::jsonb,$13::int,$14::jsonb,$15::real,$16::uuid,$17::timestamptz)"},
	[S_RECORD_MANY] =
		{"record_many",
                 "SELECT * FROM tasker.record_many($1::int,$2::int,$3::int,$4::int8,$5::bool,$6::int8[],$7::int[],$8::int[],$9::jsonb[],$10::int[],$11::jsonb[],"
                 "$12::real[],$13::uuid[],$14::timestamptz[],$15::int8[],$16::int[],$17::int8[],$18::int[],$19::int[],$20::int8[],$21::int[])"},
	[S_CREATE_ONE] =
		{"create_one",
                 "SELECT * FROM tasker.create_one($1::int,$2::int,$3::int,$4::int8,$5::bool,$6::int[],$7::uuid,$8::text,$9::text,$10::text,$11::jsonb,$12::int)"},
	[S_CREATE_MANY] =
		{"create_many",
                 "SELECT * FROM tasker.create_many($1::int,$2::int,$3::int,$4::int8,$5::bool,$6::int[],$7::int,$8::uuid[],$9::jsonb[],$10::text,$11::text,$12::text,$13::int)"},
	[S_CREATE] =
		{"create",
                 "SELECT * FROM tasker.create_tasks($1::int,$2::int,$3::int,$4::int8,$5::bool,$6::int[],$7::int[],$8::int,$9::uuid[],$10::text[],$11::text[],$12::text[],$13::jsonb[],$14::jsonb[],$15::int[])"},
	[S_CLAIM] = {"claim",
                     "SELECT * FROM tasker.claim($1::int,$2::int,$3::int,$4::int8,$5::int[],$6::int[],$7::int)"},
	[S_START] =
		{"start",
                 "SELECT * FROM tasker.start_tasks($1::int,$2::int,$3::int,$4::int8,$5::bool,$6::int[],$7::int[],$8::int,$9::int)"},
	[S_START_CHECKED] = {"start_checked",
                             "SELECT * FROM tasker.start_checked($1::int,$2::int,$3::bool,$4::int8[],$5::jsonb[])"},
	[S_RECOVER] = {"recover", "SELECT * FROM tasker.recover_claims($1::int,$2::int,$3::int8)"},
	[S_ADOPT] = {"adopt", "SELECT * FROM tasker.adopt_claims($1::int,$2::int,$3::int,$4::int8)"},
	[S_STATES] = {"states", "SELECT * FROM tasker.task_states($1::uuid[])"},
	[S_CANCEL] = {"cancel", "SELECT * FROM tasker.cancel_task($1::int,$2::uuid,$3::text,$4::text,$5::bool)"},
};

void hot_settings_for(bool pooled, size_t max_body, int max_branches, char *out, size_t size)
{
	const char *set = pooled ? "SET LOCAL" : "SET";
	snprintf(out, size, "%s tasker.max_dependencies = %zu; %s tasker.max_branches = %d;", set, max_body / 2, set,
	         max_branches);
}

int hot_attach(PGconn *c, const char *settings, enum db_failure *why, struct err *e)
{
	if (db_exec(c, settings, why, e) < 0)
		return -EIO;
	for (int i = 0; i < S_COUNT; i++) {
		cleanup_(cleanup_pgresult) PGresult *r =
			ALIVE_ASKING(PQprepare(c, stmts[i].name, stmts[i].sql, 0, NULL));
		if (PQresultStatus(r) != PGRES_COMMAND_OK) {
			*why = db_failed(c, r, e);
			return -EIO;
		}
	}
	return 0;
}

void add_bytes(struct params *p, const void *v, size_t n)
{
	p->v[p->n] = v;
	p->len[p->n] = (int)n;
	p->fmt[p->n++] = 1;
}

void add_int4(struct params *p, int v)
{
	uint32_t be = htobe32((uint32_t)v);
	memcpy(&p->scalar[p->n], &be, sizeof be);
	add_bytes(p, &p->scalar[p->n], sizeof be);
}

void add_int8(struct params *p, uint64_t v)
{
	p->scalar[p->n] = htobe64(v);
	add_bytes(p, &p->scalar[p->n], sizeof v);
}

void add_bool(struct params *p, bool v)
{
	memcpy(&p->scalar[p->n], v ? "\1" : "\0", 1);
	add_bytes(p, &p->scalar[p->n], 1);
}

void add_float4(struct params *p, float v)
{
	int bits;
	memcpy(&bits, &v, sizeof bits);
	add_int4(p, bits);
}

void add_json(struct params *p, const struct text *t)
{
	p->v[p->n] = t->s;
	p->len[p->n] = (int)t->n;
	p->fmt[p->n++] = 0;
}

void add_text(struct params *p, const char *s)
{
	p->v[p->n] = s;
	p->len[p->n] = s ? (int)strlen(s) : 0;
	p->fmt[p->n++] = 0;
}

bool add_array(struct params *p, struct pgarray *a)
{
	pgarray_finish(a);
	add_bytes(p, a->b.data, a->b.len);
	return !a->b.failed;
}

const char *hot_name(enum stmt s)
{
	return stmts[s].name;
}

int hot_send(PGconn *c, enum stmt s, const struct params *p)
{
	return PQsendQueryPrepared(c, stmts[s].name, p->n, p->v, p->len, p->fmt, 1) ? 0 : -EIO;
}

int hot_execute(struct hot *h, PGconn *c, enum stmt s, const struct params *p, PGresult **ret, enum db_failure *why,
                struct err *e)
{
	alive_call(stmts[s].name);
	cleanup_(cleanup_pgresult) PGresult *r =
		ALIVE_ASKING(h->pooled ? PQexecParams(c, stmts[s].sql, p->n, NULL, p->v, p->len, p->fmt, 1)
	                               : PQexecPrepared(c, stmts[s].name, p->n, p->v, p->len, p->fmt, 1));
	if (!r || PQresultStatus(r) != PGRES_TUPLES_OK) {
		*why = db_failed(c, r, e);
		return -EIO;
	}
	*ret = TAKE_PTR(r);
	return 0;
}

void add_common(struct params *p, const struct hot_call *call)
{
	add_int4(p, call->node->node_no);
	add_int4(p, call->node->incarnation);
	add_int4(p, call->slot);
	add_int8(p, call->seq);
}

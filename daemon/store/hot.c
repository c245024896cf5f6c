/* Building the parameter arrays of the engine functions and reading their rows. Everything travels in PostgreSQL's binary format; the row type is
 * tasker.hot_row of sql/0002_engine.sql. */
#include "daemon/store/hot.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "daemon/store/handover.h"
#include "daemon/store/pgarray.h"
#include "daemon/store/step_name.h"
#include "daemon/store/tcache.h"
#include "protocol/mpjson.h"
#include "protocol/scan.h"

/* Columns of tasker.hot_row. */
enum col { C_KIND, C_IDX, C_STATUS, C_TASK_ID, C_TASK, C_TEMPLATE, C_STEP, C_ATTEMPT, C_FENCE, C_HANDLER, C_CONTEXT, C_DEPS, C_INPUTS, C_CHECKPOINT, C_META };

enum stmt { S_RECORD, S_RECORD_ONE, S_CREATE, S_CLAIM, S_RECOVER, S_ADOPT, S_CANCEL, S_STATES, S_COUNT };

static const struct {
	const char *name, *sql;
} stmts[S_COUNT] = {
	[S_RECORD] = {"record", "SELECT * FROM tasker.record_results($1::int,$2::int,$3::int,$4::int8,$5::bool,$6::int[],$7::int[],$8::int,$9::int8[],$10::int[],$11::int[],"
				"$12::text[]::tasker.attempt_outcome[],$13::bool[],$14::int8[],$15::jsonb[],$16::jsonb[],$17::jsonb[],$18::real[],$19::uuid[],$20::timestamptz[],$21::int[])"},
	[S_RECORD_ONE] = {"record_one", "SELECT * FROM tasker.record_one($1::int,$2::int,$3::int,$4::int8,$5::bool,$6::int[],$7::int[],$8::bool[],$9::int8,$10::int,$11::int,"
					"$12::jsonb,$13::int,$14::jsonb,$15::real,$16::uuid,$17::timestamptz)"},
	[S_CREATE] = {"create", "SELECT * FROM tasker.create_tasks($1::int,$2::int,$3::int,$4::int8,$5::bool,$6::int[],$7::int[],$8::int,$9::uuid[],$10::text[],$11::text[],$12::text[],$13::jsonb[],$14::jsonb[])"},
	[S_CLAIM] = {"claim", "SELECT * FROM tasker.claim($1::int,$2::int,$3::int,$4::int8,$5::int[],$6::int[],$7::int)"},
	[S_RECOVER] = {"recover", "SELECT * FROM tasker.recover_claims($1::int,$2::int,$3::int8)"},
	[S_ADOPT] = {"adopt", "SELECT * FROM tasker.adopt_claims($1::int,$2::int,$3::int,$4::int8)"},
	[S_STATES] = {"states", "SELECT * FROM tasker.task_states($1::uuid[])"},
	[S_CANCEL] = {"cancel", "SELECT * FROM tasker.cancel_task($1::int,$2::uuid,$3::text,$4::text,$5::bool)"},
};

#define MAX_PARAMS 21
#define BODY_ITEMS_MAX 260000u /* below the protocol's 262,144 items a frame, with room for the rest */

/* Arrays for the items of a batch, in parameter order; reused from call to call. */
static const enum pg_type record_types[] = {PG_INT8, PG_INT4, PG_INT4, PG_TEXT, PG_BOOL, PG_INT8, PG_JSONB, PG_JSONB, PG_JSONB, PG_FLOAT4, PG_UUID, PG_TIMESTAMPTZ, PG_INT4};
static const enum pg_type create_types[] = {PG_UUID, PG_TEXT, PG_TEXT, PG_TEXT, PG_JSONB, PG_JSONB};
#define N_RECORD (sizeof record_types / sizeof *record_types)
#define N_CREATE (sizeof create_types / sizeof *create_types)

struct hot {
	struct tcache *templates;
	struct prover *prover;
	struct pgarray record[N_RECORD], create[N_CREATE];
	struct pgarray handlers, quotas, uuids;
	struct pgarray children, child_handlers, takes; /* of record_one */
};

struct params {
	int n;
	const char *v[MAX_PARAMS];
	int len[MAX_PARAMS], fmt[MAX_PARAMS];
	uint64_t scalar[MAX_PARAMS];
};

struct hot *hot_new(void)
{
	struct hot *h = calloc(1, sizeof *h);
	if (!h)
		return NULL;
	h->templates = tcache_new();
	h->prover = prover_new();
	for (size_t i = 0; i < N_RECORD; i++)
		pgarray_init(&h->record[i], record_types[i]);
	for (size_t i = 0; i < N_CREATE; i++)
		pgarray_init(&h->create[i], create_types[i]);
	pgarray_init(&h->handlers, PG_INT4);
	pgarray_init(&h->quotas, PG_INT4);
	pgarray_init(&h->uuids, PG_UUID);
	pgarray_init(&h->children, PG_INT4);
	pgarray_init(&h->child_handlers, PG_INT4);
	pgarray_init(&h->takes, PG_BOOL);
	if (!h->templates || !h->prover)
		return hot_free(h);
	return h;
}

struct hot *hot_free(struct hot *h)
{
	if (!h)
		return NULL;
	tcache_free(h->templates);
	prover_free(h->prover);
	for (size_t i = 0; i < N_RECORD; i++)
		pgarray_done(&h->record[i]);
	for (size_t i = 0; i < N_CREATE; i++)
		pgarray_done(&h->create[i]);
	pgarray_done(&h->handlers);
	pgarray_done(&h->quotas);
	pgarray_done(&h->uuids);
	pgarray_done(&h->children);
	pgarray_done(&h->child_handlers);
	pgarray_done(&h->takes);
	free(h);
	return NULL;
}

int hot_attach(struct hot *h, PGconn *c, size_t max_body, enum db_failure *why, struct err *e)
{
	char bytes[24];
	(void)h;
	snprintf(bytes, sizeof bytes, "%zu", max_body / 2);
	if (db_query(c, "SELECT set_config('tasker.max_dependencies', $1, false)", 1, (const char *[]){bytes}, NULL, why, e) < 0)
		return -EIO;
	for (int i = 0; i < S_COUNT; i++) {
		cleanup_(cleanup_pgresult) PGresult *r = PQprepare(c, stmts[i].name, stmts[i].sql, 0, NULL);
		if (PQresultStatus(r) != PGRES_COMMAND_OK) {
			*why = db_failed(c, r, e);
			return -EIO;
		}
	}
	return 0;
}

static void add_bytes(struct params *p, const void *v, size_t n)
{
	p->v[p->n] = v;
	p->len[p->n] = (int)n;
	p->fmt[p->n++] = 1;
}

static void add_int4(struct params *p, int v)
{
	uint32_t be = htobe32((uint32_t)v);
	memcpy(&p->scalar[p->n], &be, sizeof be);
	add_bytes(p, &p->scalar[p->n], sizeof be);
}

static void add_int8(struct params *p, uint64_t v)
{
	p->scalar[p->n] = htobe64(v);
	add_bytes(p, &p->scalar[p->n], sizeof v);
}

static void add_bool(struct params *p, bool v)
{
	memcpy(&p->scalar[p->n], v ? "\1" : "\0", 1);
	add_bytes(p, &p->scalar[p->n], 1);
}

static void add_float4(struct params *p, float v)
{
	int bits;
	memcpy(&bits, &v, sizeof bits);
	add_int4(p, bits);
}

/* As text: PostgreSQL parses it either way. NULL if there is none. */
static void add_json(struct params *p, const struct text *t)
{
	p->v[p->n] = t->s;
	p->len[p->n] = (int)t->n;
	p->fmt[p->n++] = 0;
}

static void add_text(struct params *p, const char *s)
{
	p->v[p->n] = s;
	p->len[p->n] = s ? (int)strlen(s) : 0;
	p->fmt[p->n++] = 0;
}

/* False if memory ran out while it was built. */
static bool add_array(struct params *p, struct pgarray *a)
{
	pgarray_finish(a);
	add_bytes(p, a->b.data, a->b.len);
	return !a->b.failed;
}

static int execute(PGconn *c, enum stmt s, const struct params *p, PGresult **ret, enum db_failure *why, struct err *e)
{
	cleanup_(cleanup_pgresult) PGresult *r = PQexecPrepared(c, stmts[s].name, p->n, p->v, p->len, p->fmt, 1);
	if (!r || PQresultStatus(r) != PGRES_TUPLES_OK) {
		*why = db_failed(c, r, e);
		return -EIO;
	}
	*ret = TAKE_PTR(r);
	return 0;
}

/* Reading rows ----------------------------------------------------------------------------------------------------------- */

static int get_int(const PGresult *r, int row, enum col c)
{
	uint32_t be;
	if (PQgetisnull(r, row, (int)c))
		return 0;
	memcpy(&be, PQgetvalue(r, row, (int)c), sizeof be);
	return (int)be32toh(be);
}

static int64_t get_int8(const PGresult *r, int row, enum col c)
{
	uint64_t be;
	if (PQgetisnull(r, row, (int)c))
		return 0;
	memcpy(&be, PQgetvalue(r, row, (int)c), sizeof be);
	return (int64_t)be64toh(be);
}

static void get_uuid(const PGresult *r, int row, struct uuid *ret)
{
	memset(ret, 0, sizeof *ret);
	if (!PQgetisnull(r, row, C_TASK))
		memcpy(ret->b, PQgetvalue(r, row, C_TASK), 16);
}

/* JSON text of a jsonb column (its binary form is a version byte and the text), or NULL. */
static const char *get_json(const PGresult *r, int row, enum col c, size_t *ret_len)
{
	if (PQgetisnull(r, row, (int)c))
		return NULL;
	*ret_len = (size_t)PQgetlength(r, row, (int)c) - 1;
	return PQgetvalue(r, row, (int)c) + 1;
}

static void get_status(const PGresult *r, int row, char *out, size_t size)
{
	if (PQgetisnull(r, row, C_STATUS))
		out[0] = '\0';
	else
		snprintf(out, size, "%.*s", PQgetlength(r, row, C_STATUS), PQgetvalue(r, row, C_STATUS));
}

/* Append `json` as MessagePack under `key`, if it is there. */
static int put_json(struct claim *cl, const char *key, const char *json, size_t len)
{
	struct mpjson_error je;
	if (!json)
		return 0;
	mp_str(&cl->body, key);
	cl->fields++;
	return json_to_mp(json, len, &cl->body, &je);
}

/* {"<step number or name>": result, ...} -> {"<step name>": result, ...}. */
static int put_dependencies(struct claim *cl, const struct tcache_template *t, const char *json, size_t len)
{
	struct buf tmp;
	struct mpjson_error je;
	struct mp_value v = {0};
	buf_init(&tmp, 0);
	int rc = json_to_mp(json, len, &tmp, &je);
	if (rc == 0)
		rc = mp_decode(tmp.data, tmp.len, &v);
	if (rc == 0) {
		mp_str(&cl->body, "dependencies");
		mp_map(&cl->body, v.root.via.map.size);
		cl->parts.deps = cl->body.len;
		cl->parts.n_deps = v.root.via.map.size;
		cl->fields++;
		for (uint32_t i = 0; i < v.root.via.map.size; i++) {
			const msgpack_object_kv *kv = &v.root.via.map.ptr[i];
			step_key_put(&cl->body, t, kv->key.via.str.ptr, kv->key.via.str.size);
			mp_object(&cl->body, &kv->val);
		}
		mp_value_done(&v);
	}
	buf_done(&tmp);
	return rc;
}

static void put_str(struct claim *cl, const char *key, const char *value)
{
	mp_str(&cl->body, key);
	mp_str(&cl->body, value);
	cl->fields++;
}

static void put_int(struct claim *cl, const char *key, int64_t v)
{
	mp_str(&cl->body, key);
	mp_int(&cl->body, v);
	cl->fields++;
}

static void put_true(struct claim *cl, const char *key, bool v)
{
	mp_str(&cl->body, key);
	mp_bool(&cl->body, v);
	cl->fields++;
}

/* The optional fields of the task, already a JSON object: copy its pairs. */
static int put_meta(struct claim *cl, const char *json, size_t len)
{
	struct buf tmp;
	struct mpjson_error je;
	struct mp_value v = {0};
	buf_init(&tmp, 0);
	int rc = json_to_mp(json, len, &tmp, &je);
	if (rc == 0)
		rc = mp_decode(tmp.data, tmp.len, &v);
	for (uint32_t i = 0; rc == 0 && i < v.root.via.map.size; i++) {
		mp_object(&cl->body, &v.root.via.map.ptr[i].key);
		mp_object(&cl->body, &v.root.via.map.ptr[i].val);
		cl->fields++;
	}
	if (rc == 0)
		mp_value_done(&v);
	buf_done(&tmp);
	return rc;
}

/* "step", and for what a batch made "template_step". */
static int put_names(struct claim *cl, const struct tcache_template *t, const PGresult *r, int row)
{
	size_t n = 0;
	const char *inputs = get_json(r, row, C_INPUTS, &n);
	if (cl->step_no >= t->n_steps)
		put_str(cl, "template_step", tcache_step_of(t, cl->step_no)->name);
	mp_str(&cl->body, "step");
	cl->fields++;
	return step_name_put(&cl->body, t, cl->step_no, inputs, n);
}

int claim_put_identity(struct prover *prover, struct claim *cl, const struct hot_call *call, const struct tcache_template *t, const struct tcache_step *s)
{
	char task[UUID_TEXT], step[UUID_TEXT];
	uint8_t proof[PROOF_LEN];
	struct uuid su = uuid_for_step(&cl->task, (unsigned)cl->step_no);
	uuid_format(&cl->task, task);
	uuid_format(&su, step);
	int rc = proof_make(prover, call->node->secret, &cl->task, (unsigned)cl->step_no, (uint32_t)cl->fence, proof);
	if (rc < 0)
		return rc;
	put_str(cl, "step_uuid", step);
	put_str(cl, "task_uuid", task);
	put_int(cl, "attempt", cl->attempt);
	put_int(cl, "max_attempts", s->max_attempts);
	put_true(cl, "retryable", s->retryable);
	mp_str(&cl->body, "claim");
	mp_bin(&cl->body, proof, sizeof proof);
	cl->fields++;
	put_str(cl, "namespace", t->ns);
	put_str(cl, "template", t->name);
	put_str(cl, "version", t->version);
	mp_str(&cl->body, "handler");
	mp_raw(&cl->body, s->handler.data, s->handler.len);
	cl->fields++;
	if (s->timeout_ms)
		put_int(cl, "timeout_ms", (int64_t)s->timeout_ms);
	return 0;
}

static int put_payload(struct claim *cl, const struct hot_call *call, const struct tcache_template *t, const struct tcache_step *s, const PGresult *r, int row)
{
	size_t n = 0;
	const char *json = get_json(r, row, C_META, &n);
	unsigned fields = cl->fields;
	cl->parts.carry = cl->body.len;
	int rc = json ? put_meta(cl, json, n) : 0;
	json = get_json(r, row, C_META, &n);
	if (!json || !memmem(json, n, "\"correlation_id\"", 16)) {
		char task[UUID_TEXT];
		uuid_format(&cl->task, task);
		put_str(cl, "correlation_id", task);
	}
	if (rc == 0 && (json = get_json(r, row, C_CONTEXT, &n)))
		rc = put_json(cl, "context", json, n);
	cl->parts.carry_end = cl->body.len;
	cl->parts.n_carry = cl->fields - fields;
	if (rc == 0 && (json = get_json(r, row, C_INPUTS, &n)))
		rc = put_json(cl, "inputs", json, n);
	if (rc == 0 && (json = get_json(r, row, C_CHECKPOINT, &n)))
		rc = put_json(cl, "checkpoint", json, n);
	bool partial = s->ancestors_cut || !PQgetisnull(r, row, C_STATUS);
	size_t before = cl->body.len;
	if (rc == 0 && (json = get_json(r, row, C_DEPS, &n)))
		rc = put_dependencies(cl, t, json, n);
	bool much = cl->body.len > call->max_body || (cl->body.len > BODY_ITEMS_MAX && scan_count(cl->body.data, cl->body.len) > BODY_ITEMS_MAX);
	if (rc == 0 && much && cl->body.len > before) {
		cl->body.len = before; /* MessagePack can be longer than the JSON that was counted */
		cl->fields--;
		partial = true;
	}
	if (partial)
		put_true(cl, "dependencies_partial", true);
	cl->parts.whole = !partial;
	return rc;
}

static int read_claim(struct hot *h, PGconn *c, const struct hot_call *call, const PGresult *r, int row, bool payload, struct done *out,
		      enum db_failure *why, struct err *e)
{
	const struct tcache_template *t = tcache_get(h->templates, c, get_int(r, row, C_TEMPLATE), why, e);
	if (!t && *why != DB_REFUSED) {
		*why = DB_LOST; /* the call has committed: its claims are fetched by the journal */
		return -EIO;
	}
	struct claim *cl = calloc(1, sizeof *cl);
	if (!cl) {
		*why = DB_LOST; /* treated like a lost answer: recovered by its journal row */
		return err_set(e, -ENOMEM, "internal", "out of memory");
	}
	buf_init(&cl->body, 0);
	cl->task_id = get_int8(r, row, C_TASK_ID);
	get_uuid(r, row, &cl->task);
	cl->template_id = get_int(r, row, C_TEMPLATE);
	cl->step_no = get_int(r, row, C_STEP);
	cl->attempt = get_int(r, row, C_ATTEMPT);
	cl->fence = get_int(r, row, C_FENCE);
	cl->handler_id = get_int(r, row, C_HANDLER);
	cl->slot = call->slot;
	const struct tcache_step *s = t ? tcache_step_of(t, cl->step_no) : NULL;
	int rc = s ? 0 : -EINVAL;
	if (s) {
		cl->timeout_ms = s->timeout_ms;
		if (payload) {
			rc = claim_put_identity(h->prover, cl, call, t, s);
			if (rc == 0)
				rc = put_names(cl, t, r, row);
			if (rc == 0)
				rc = put_payload(cl, call, t, s, r, row);
		}
	}
	if (rc == 0 && cl->body.failed)
		rc = cl->body.failed;
	if (rc < 0) {
		/* The commit has happened; losing the row here would strand the step. */
		buf_reset(&cl->body);
		cl->fields = 0;
		cl->broken = true;
	}
	cl->next = out->claims;
	out->claims = cl;
	return 0;
}

static void read_settled(const PGresult *r, int row, struct done *out)
{
	struct settled *s = calloc(1, sizeof *s);
	if (!s)
		return; /* a waiter is told by the slow poll */
	get_uuid(r, row, &s->task);
	get_status(r, row, s->state, sizeof s->state);
	s->next = out->settled;
	out->settled = s;
}

static void read_cancelled(const PGresult *r, int row, struct done *out)
{
	struct cancelled *x = calloc(1, sizeof *x);
	if (!x)
		return; /* the handler runs on; its result will be stale */
	get_uuid(r, row, &x->task);
	x->task_id = get_int8(r, row, C_TASK_ID);
	x->step_no = get_int(r, row, C_STEP);
	x->fence = get_int(r, row, C_FENCE);
	x->next = out->cancelled;
	out->cancelled = x;
}

static void read_due(const PGresult *r, int row, struct done *out)
{
	struct due *d = calloc(1, sizeof *d);
	if (!d)
		return; /* the slow poll finds the message */
	d->handler_id = get_int(r, row, C_HANDLER);
	d->in_ms = get_int(r, row, C_IDX);
	d->next = out->due;
	out->due = d;
}

static void read_answer(const PGresult *r, int row, struct req **reqs, size_t n)
{
	int idx = get_int(r, row, C_IDX);
	if (idx < 1 || (size_t)idx > n)
		return;
	struct req *q = reqs[idx - 1];
	get_status(r, row, q->status, sizeof q->status);
	get_uuid(r, row, &q->task);
	size_t len = 0;
	const char *json = get_json(r, row, C_META, &len);
	/* {"state": "..."}: the only shape create_tasks and cancel_task put here. */
	const char *v = json ? memmem(json, len, ": \"", 3) : NULL;
	const char *end = v ? memchr(v + 3, '"', len - (size_t)(v + 3 - json)) : NULL;
	if (end)
		snprintf(q->state, sizeof q->state, "%.*s", (int)(end - v - 3), v + 3);
}

static int read_rows(struct hot *h, PGconn *c, const struct hot_call *call, const PGresult *r, bool payload, struct req **reqs, size_t n, struct done *out,
		     enum db_failure *why, struct err *e)
{
	int rc = 0;
	for (int i = 0; rc == 0 && i < PQntuples(r); i++)
		switch (PQgetvalue(r, i, C_KIND)[0]) {
		case 'a':
			read_answer(r, i, reqs, n);
			break;
		case 'c':
			rc = read_claim(h, c, call, r, i, payload, out, why, e);
			break;
		case 's':
			read_settled(r, i, out);
			break;
		case 'q':
			done_add_id(out, get_int(r, i, C_HANDLER));
			break;
		case 'd':
			read_due(r, i, out);
			break;
		case 'x':
			read_cancelled(r, i, out);
			break;
		default:
			break;
		}
	return rc;
}

/* Building calls --------------------------------------------------------------------------------------------------------- */

/* Sum the credits the requests bring: quotas by handler (a pool's credits count for each handler it runs) and their total. */
static int sum_offers(struct hot *h, struct req **reqs, size_t n)
{
	struct {
		struct pool_handlers *pool;
		unsigned credits;
	} pools[64];
	size_t np = 0;
	int cap = 0;
	for (size_t i = 0; i < n; i++) {
		struct offer *o = &reqs[i]->offer;
		if (!o->pool || o->credits == 0)
			continue;
		size_t k = 0;
		while (k < np && pools[k].pool != o->pool)
			k++;
		if (k == sizeof pools / sizeof *pools)
			continue; /* unused credits come back */
		if (k == np)
			pools[np].pool = o->pool, pools[np++].credits = 0;
		pools[k].credits += o->credits;
		cap += (int)o->credits;
	}
	pgarray_reset(&h->handlers);
	pgarray_reset(&h->quotas);
	for (size_t k = 0; k < np; k++)
		for (size_t i = 0; i < pools[k].pool->n; i++) {
			int id = pools[k].pool->ids[i];
			unsigned quota = 0;
			bool seen = false;
			for (size_t j = 0; j < np; j++)
				for (size_t m = 0; m < pools[j].pool->n; m++)
					if (pools[j].pool->ids[m] == id) {
						quota += pools[j].credits;
						seen = seen || j < k;
					}
			if (seen)
				continue;
			pgarray_int4(&h->handlers, id);
			pgarray_int4(&h->quotas, (int)quota);
		}
	return cap;
}

static void add_common(struct params *p, const struct hot_call *call)
{
	add_int4(p, call->node->node_no);
	add_int4(p, call->node->incarnation);
	add_int4(p, call->slot);
	add_int8(p, call->seq);
}

static bool add_offers(struct hot *h, struct params *p, int cap)
{
	bool ok = add_array(p, &h->handlers) && add_array(p, &h->quotas);
	add_int4(p, cap);
	return ok;
}

static int64_t retry_delay(struct hot *h, PGconn *c, const struct req_result *q, enum db_failure *why, struct err *e)
{
	if (q->outcome == OUTCOME_SUCCESS || q->outcome == OUTCOME_RELEASED || q->outcome == OUTCOME_WORKER_LOST)
		return 0; /* a lost worker's steps go to another at once */
	const struct tcache_template *t = tcache_get(h->templates, c, q->template_id, why, e);
	if (!t)
		return -1;
	if (q->retry_after_ms >= 0)
		return (int64_t)retry_after_capped_ms((uint64_t)q->retry_after_ms, 3600000);
	uint32_t rnd = 0;
	if (getrandom(&rnd, sizeof rnd, 0) != (ssize_t)sizeof rnd)
		rnd = UINT32_MAX / 2;
	return (int64_t)retry_delay_ms(&tcache_step_of(t, q->step_no)->policy, (unsigned)q->attempt, rnd);
}

static int record_arrays(struct hot *h, PGconn *c, struct req **reqs, size_t n, enum db_failure *why, struct err *e)
{
	struct pgarray *a = h->record;
	for (size_t i = 0; i < N_RECORD; i++)
		pgarray_reset(&a[i]);
	for (size_t i = 0; i < n; i++) {
		struct req_result *q = &reqs[i]->result;
		int64_t delay = q->delay_ms = retry_delay(h, c, q, why, e);
		if (delay < 0)
			return -EIO;
		pgarray_int8(&a[0], q->task_id);
		pgarray_int4(&a[1], q->step_no);
		pgarray_int4(&a[2], q->fence);
		pgarray_text(&a[3], outcome_names[q->outcome], strlen(outcome_names[q->outcome]));
		pgarray_bool(&a[4], q->retry);
		pgarray_int8(&a[5], delay);
		pgarray_jsonb(&a[6], q->result.s, q->result.n);
		pgarray_jsonb(&a[7], q->error.s, q->error.n);
		pgarray_jsonb(&a[8], q->meta.s, q->meta.n);
		pgarray_float4(&a[9], q->execution_ms);
		static const struct uuid zero;
		if (uuid_eq(&q->worker, &zero))
			pgarray_null(&a[10]);
		else
			pgarray_uuid(&a[10], &q->worker);
		pgarray_time(&a[11], q->finished);
		pgarray_int4(&a[12], (int32_t)q->result.n);
	}
	return 0;
}

static void create_arrays(struct hot *h, struct req **reqs, size_t n)
{
	struct pgarray *a = h->create;
	for (size_t i = 0; i < N_CREATE; i++)
		pgarray_reset(&a[i]);
	for (size_t i = 0; i < n; i++) {
		const struct req_create *q = &reqs[i]->create;
		pgarray_uuid(&a[0], &q->task);
		pgarray_text(&a[1], q->ns.s, q->ns.n);
		pgarray_text(&a[2], q->name.s, q->name.n);
		pgarray_text(&a[3], q->version.s, q->version.n);
		pgarray_jsonb(&a[4], q->context.s, q->context.n);
		pgarray_jsonb(&a[5], q->opts.s, q->opts.n);
	}
}

/* Which children of the step are to be claimed with the credits that come with its result; *ret_n of them. */
static bool choose_children(struct hot *h, const struct tcache_template *t, const struct req *q, bool *takes)
{
	const struct tcache_step *s = &t->steps[q->result.step_no];
	unsigned credits = q->offer.pool ? q->offer.credits : 0;
	pgarray_reset(&h->children);
	pgarray_reset(&h->child_handlers);
	pgarray_reset(&h->takes);
	for (int i = 0; i < s->n_children; i++) {
		int handler = t->steps[s->children[i]].handler_id;
		takes[i] = credits > 0 && pool_handlers_has(q->offer.pool, handler);
		credits -= takes[i];
		pgarray_int4(&h->children, s->children[i]);
		pgarray_int4(&h->child_handlers, handler);
		pgarray_bool(&h->takes, takes[i]);
	}
	return s->n_children > 0;
}

static int note_children(struct hot *h, const struct hot_call *call, const struct tcache_template *t, const struct req *q, const bool *takes, struct done *out,
			 enum db_failure *why, struct err *e)
{
	const struct tcache_step *s = &t->steps[q->result.step_no];
	for (int i = 0; i < s->n_children; i++) {
		if (!takes[i]) {
			done_add_id(out, t->steps[s->children[i]].handler_id);
			continue;
		}
		struct claim *cl = handover_claim(h->prover, call, t, s->children[i], q, why, e);
		if (!cl)
			return -ENOMEM;
		cl->next = out->claims;
		out->claims = cl;
	}
	return 0;
}

static void note_completed(struct done *out, const struct uuid *task)
{
	struct settled *s = calloc(1, sizeof *s);
	if (!s)
		return; /* a waiter is told by the slow poll */
	s->task = *task;
	snprintf(s->state, sizeof s->state, "complete");
	s->next = out->settled;
	out->settled = s;
}

static bool flag(const PGresult *r, int col)
{
	return !PQgetisnull(r, 0, col) && PQgetvalue(r, 0, col)[0] != 0;
}

#define ONE_CHILDREN_MAX 64

/* One success by itself, the usual case when little is going on. 1: done; 0: not such a case after all; negative as hot_run. */
static int record_one(struct hot *h, PGconn *c, const struct hot_call *call, struct req *q, struct done *out, enum db_failure *why, struct err *e)
{
	struct params p = {0};
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	const struct req_result *v = &q->result;
	bool takes[ONE_CHILDREN_MAX] = {0};
	const struct tcache_template *t = tcache_get(h->templates, c, v->template_id, why, e);
	if (!t)
		return -EIO;
	if (!handover_possible(t, v) || t->steps[v->step_no].n_children > ONE_CHILDREN_MAX)
		return 0;
	add_common(&p, call);
	add_bool(&p, call->notify);
	if (!choose_children(h, t, q, takes))
		p.n += 3; /* NULLs: it has no children */
	else if (!add_array(&p, &h->children) || !add_array(&p, &h->child_handlers) || !add_array(&p, &h->takes))
		return 0;
	add_int8(&p, (uint64_t)v->task_id);
	add_int4(&p, v->step_no);
	add_int4(&p, v->fence);
	add_json(&p, &v->result);
	add_int4(&p, (int)v->result.n);
	add_json(&p, &v->meta);
	add_float4(&p, v->execution_ms);
	add_bytes(&p, v->worker.b, sizeof v->worker.b);
	add_int8(&p, (uint64_t)pg_time(v->finished));
	int rc = execute(c, S_RECORD_ONE, &p, &r, why, e);
	if (rc < 0)
		return strcmp(e->sqlstate, "TK002") == 0 ? 0 : rc;
	if (!flag(r, 0))
		return 0;
	snprintf(q->status, sizeof q->status, "recorded");
	if (flag(r, 1))
		note_completed(out, &q->task);
	rc = note_children(h, call, t, q, takes, out, why, e);
	return rc < 0 ? rc : 1;
}

static bool add_arrays(struct params *p, struct pgarray *a, size_t n)
{
	bool ok = true;
	for (size_t i = 0; i < n; i++)
		ok = add_array(p, &a[i]) && ok;
	return ok;
}

/* One call for the whole batch. */
static int run_all(struct hot *h, PGconn *c, const struct hot_call *call, struct req **reqs, size_t n, PGresult **ret, enum db_failure *why, struct err *e)
{
	struct params p = {0};
	enum stmt s = reqs[0]->kind == REQ_RESULT ? S_RECORD : reqs[0]->kind == REQ_CREATE ? S_CREATE : S_CLAIM;
	add_common(&p, call);
	int cap = sum_offers(h, reqs, n);
	if (s != S_CLAIM)
		add_bool(&p, call->notify);
	bool ok = add_offers(h, &p, cap);
	if (s == S_RECORD) {
		int rc = record_arrays(h, c, reqs, n, why, e);
		if (rc < 0)
			return rc;
		ok = add_arrays(&p, h->record, N_RECORD) && ok;
	} else if (s == S_CREATE) {
		create_arrays(h, reqs, n);
		ok = add_arrays(&p, h->create, N_CREATE) && ok;
	}
	if (!ok) {
		*why = DB_FULL;
		return err_set(e, -ENOMEM, "internal", "out of memory");
	}
	return execute(c, s, &p, ret, why, e);
}

int hot_run(struct hot *h, PGconn *c, const struct hot_call *call, struct req **reqs, size_t n, struct done *out, enum db_failure *why, struct err *e)
{
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	if (n == 1 && reqs[0]->kind == REQ_RESULT && reqs[0]->result.outcome == OUTCOME_SUCCESS) {
		int done = record_one(h, c, call, reqs[0], out, why, e);
		if (done != 0)
			return done < 0 ? done : 0;
	}
	int rc = run_all(h, c, call, reqs, n, &r, why, e);
	if (rc < 0)
		return rc;
	for (size_t i = 0; reqs[0]->kind == REQ_RESULT && i < n; i++) /* what needs no other word */
		snprintf(reqs[i]->status, sizeof reqs[i]->status, "recorded");
	return read_rows(h, c, call, r, true, reqs, n, out, why, e);
}

int hot_recover(struct hot *h, PGconn *c, const struct hot_call *call, struct done *out, enum db_failure *why, struct err *e)
{
	struct params p = {0};
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	add_int4(&p, call->node->node_no);
	add_int4(&p, call->slot);
	add_int8(&p, call->seq);
	int rc = execute(c, S_RECOVER, &p, &r, why, e);
	return rc < 0 ? rc : read_rows(h, c, call, r, true, NULL, 0, out, why, e);
}

int hot_adopt(struct hot *h, PGconn *c, const struct hot_call *call, struct done *out, enum db_failure *why, struct err *e)
{
	struct params p = {0};
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	add_common(&p, call);
	int rc = execute(c, S_ADOPT, &p, &r, why, e);
	return rc < 0 ? rc : read_rows(h, c, call, r, false, NULL, 0, out, why, e);
}

int hot_cancel(struct hot *h, PGconn *c, const struct hot_call *call, struct req *q, struct done *out, enum db_failure *why, struct err *e)
{
	struct params p = {0};
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	add_int4(&p, call->node->node_no);
	add_bytes(&p, q->cancel.task.b, 16);
	add_text(&p, q->cancel.reason.s);
	add_text(&p, q->cancel.operator_name.s);
	add_bool(&p, true); /* rare, and another node may be there that is not known yet */
	int rc = execute(c, S_CANCEL, &p, &r, why, e);
	return rc < 0 ? rc : read_rows(h, c, call, r, false, &q, 1, out, why, e);
}

int hot_states(struct hot *h, PGconn *c, const struct hot_call *call, struct req *q, struct done *out, enum db_failure *why, struct err *e)
{
	struct params p = {0};
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	(void)call, (void)out;
	pgarray_reset(&h->uuids);
	for (size_t i = 0; i < q->states.n; i++)
		pgarray_uuid(&h->uuids, &q->states.tasks[i]);
	if (!add_array(&p, &h->uuids)) {
		*why = DB_FULL;
		return err_set(e, -ENOMEM, "internal", "out of memory");
	}
	int rc = execute(c, S_STATES, &p, &r, why, e);
	for (int i = 0; rc == 0 && i < PQntuples(r); i++) {
		int idx = get_int(r, i, C_IDX);
		if (idx >= 1 && (size_t)idx <= q->states.n)
			get_status(r, i, q->states.states[idx - 1], sizeof q->states.states[0]);
	}
	return rc;
}

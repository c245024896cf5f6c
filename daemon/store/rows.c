/* Reading the rows of the engine functions, and making of them what workers are sent. */
#include "daemon/store/hot_impl.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/base/cleanup.h"
#include "daemon/metrics/series.h"
#include "daemon/store/handover.h"
#include "daemon/store/step_name.h"
#include "protocol/mpjson.h"
#include "protocol/scan.h"

#define BODY_ITEMS_MAX 260000u /* below the protocol's 262,144 items a frame, with room for the rest */

int row_int(const PGresult *r, int row, enum col c)
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

void row_status(const PGresult *r, int row, char *out, size_t size)
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

static void note_dependency(struct claim_parts *p, uint32_t i, int no, size_t len)
{
	if (i < CLAIM_DEPS_MAX)
		p->dep[i] = (struct claim_dep){no, (unsigned)len};
}

static int put_pairs(struct claim *cl, const struct tcache_template *t, const msgpack_object *map)
{
	size_t n = map->via.map.size;
	cleanup_(cleanup_free) struct step_named *names = calloc(n + 1, sizeof *names);
	if (!names)
		return -ENOMEM;
	mp_str(&cl->body, "dependencies");
	mp_map(&cl->body, n);
	cl->parts.deps = cl->body.len;
	cl->parts.n_deps = (unsigned)n;
	for (uint32_t i = 0; i < n; i++) {
		const msgpack_object_kv *kv = &map->via.map.ptr[i];
		size_t begin = cl->body.len;
		names[i] = step_key_read(t, kv->key.via.str.ptr, kv->key.via.str.size);
		mp_strn(&cl->body, names[i].name, names[i].len);
		mp_object(&cl->body, &kv->val);
		note_dependency(&cl->parts, i, names[i].no, cl->body.len - begin);
	}
	step_numbers_put(&cl->body, names, n);
	cl->fields += 2;
	return 0;
}

/* {"<key of hot_row.deps>": result, ...} -> {"<step name>": result, ...}, and the numbers of these steps. */
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
		rc = put_pairs(cl, t, &v.root);
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

static void note_trace(struct claim *cl, const msgpack_object_kv *kv)
{
	if (!mp_str_eq(&kv->key, "traceparent") || kv->val.type != MSGPACK_OBJECT_STR)
		return;
	cl->parts.traceparent = cl->body.len - cl->parts.carry;
	traceparent_parse(kv->val.via.str.ptr, kv->val.via.str.size, &cl->trace);
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
		note_trace(cl, &v.root.via.map.ptr[i]);
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

int claim_put_identity(struct prover *prover, struct claim *cl, const struct hot_call *call,
                       const struct tcache_template *t, const struct tcache_step *s)
{
	char task[UUID_TEXT], step[UUID_TEXT];
	struct uuid su = uuid_for_step(&cl->task, (unsigned)cl->step_no);
	uuid_format(&cl->task, task);
	uuid_format(&su, step);
	int rc = proof_make(prover, call->node->secret, &cl->task, (unsigned)cl->step_no, (uint32_t)cl->fence,
	                    cl->proof);
	if (rc < 0)
		return rc;
	cl->proven = true;
	put_str(cl, "step_uuid", step);
	put_str(cl, "task_uuid", task);
	put_int(cl, "attempt", cl->attempt);
	put_int(cl, "max_attempts", s->max_attempts);
	put_true(cl, "retryable", s->retryable);
	mp_str(&cl->body, "claim");
	mp_bin(&cl->body, cl->proof, sizeof cl->proof);
	cl->fields++;
	put_str(cl, "namespace", t->ns);
	put_str(cl, "template", t->name);
	put_str(cl, "version", t->version);
	mp_str(&cl->body, "handler");
	buf_join(&cl->body, &s->handler);
	cl->fields++;
	if (s->timeout_ms)
		put_int(cl, "timeout_ms", (int64_t)s->timeout_ms);
	cl->publishes = s->events.n > 0;
	if (cl->publishes) {
		mp_str(&cl->body, "publishes_events");
		buf_join(&cl->body, &s->events.words);
		cl->fields++;
	}
	return 0;
}

/* What a step shares with those that it hands its place to. */
static int put_carried(struct claim *cl, const PGresult *r, int row)
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
	return rc;
}

static int put_payload(struct claim *cl, const struct hot_call *call, const struct tcache_template *t,
                       const struct tcache_step *s, const PGresult *r, int row)
{
	size_t n = 0;
	const char *json;
	int rc = put_carried(cl, r, row);
	if (rc == 0 && (json = get_json(r, row, C_INPUTS, &n)))
		rc = put_json(cl, "inputs", json, n);
	if (rc == 0 && (json = get_json(r, row, C_CHECKPOINT, &n)))
		rc = put_json(cl, "checkpoint", json, n);
	bool partial = s->ancestors_cut || !PQgetisnull(r, row, C_STATUS);
	size_t before = cl->body.len;
	unsigned fields = cl->fields;
	if (rc == 0 && (json = get_json(r, row, C_DEPS, &n)))
		rc = put_dependencies(cl, t, json, n);
	bool much = cl->body.len > call->max_body ||
	            (cl->body.len > BODY_ITEMS_MAX && scan_count(cl->body.data, cl->body.len) > BODY_ITEMS_MAX);
	if (rc == 0 && much && cl->body.len > before) {
		cl->body.len = before; /* MessagePack can be longer than the JSON that was counted */
		cl->fields = fields;
		partial = true;
	}
	cl->parts.whole = cl->parts.n_deps == (unsigned)s->n_ancestors && cl->body.len >= before &&
	                  !(partial && !s->ancestors_cut);
	if (partial)
		put_true(cl, "dependencies_partial", true);
	return rc;
}

/* Of an adopted claim, which brings nothing else of its task. */
static void read_trace(struct claim *cl, const PGresult *r, int row)
{
	struct claim tmp = {0};
	size_t n = 0;
	const char *json = get_json(r, row, C_META, &n);
	buf_init(&tmp.body, 0);
	if (json && put_meta(&tmp, json, n) == 0)
		cl->trace = tmp.trace;
	buf_done(&tmp.body);
}

static int read_claim(struct hot *h, PGconn *c, const struct hot_call *call, const PGresult *r, int row, bool payload,
                      struct done *out, enum db_failure *why, struct err *e)
{
	const struct tcache_template *t = tcache_get(h->templates, c, row_int(r, row, C_TEMPLATE), why, e);
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
	cl->template_id = row_int(r, row, C_TEMPLATE);
	cl->step_no = row_int(r, row, C_STEP);
	cl->attempt = row_int(r, row, C_ATTEMPT);
	cl->fence = row_int(r, row, C_FENCE);
	if (payload)
		cl->waited_ms = row_int(r, row, C_IDX);
	else
		cl->yields = row_int(r, row, C_IDX);
	if (!payload)
		read_trace(cl, r, row);
	cl->series = t ? t->series : 0;
	cl->handler_id = row_int(r, row, C_HANDLER);
	cl->slot = call->slot;
	const struct tcache_step *s = t ? tcache_step_of(t, cl->step_no) : NULL;
	int rc = s ? 0 : -EINVAL;
	if (s) {
		cl->timeout_ms = s->timeout_ms;
		cl->publishes = s->events.n > 0;
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
		cl->no_memory = rc == -ENOMEM;
	}
	cl->next = out->claims;
	out->claims = cl;
	return 0;
}

/* The request that made the task of this row. The rows are mostly in the order of the requests. */
static struct req *maker(const PGresult *r, int row, struct req **reqs, size_t n)
{
	struct uuid task;
	get_uuid(r, row, &task);
	for (size_t k = 0; k < n; k++) {
		struct req *q = reqs[((size_t)row + k) % n];
		if (uuid_eq(&q->create.task, &task))
			return q;
	}
	return NULL;
}

/* A c row without what the step is given: the request has it. */
static int read_known(struct hot *h, PGconn *c, const struct hot_call *call, const PGresult *r, int row,
                      struct req **reqs, size_t n, struct done *out, enum db_failure *why, struct err *e)
{
	struct claim *cl = NULL;
	int idx = row_int(r, row, C_IDX), no = row_int(r, row, C_STEP);
	bool result = n > 0 && reqs[0]->kind == REQ_RESULT;
	struct req *q = !result ? maker(r, row, reqs, n) : idx >= 1 && (size_t)idx <= n ? reqs[idx - 1] : NULL;
	if (q && result) {
		const struct tcache_template *t = tcache_get(h->templates, c, q->result.template_id, why, e);
		cl = t ? handover_claim(h->prover, call, t, no, row_int(r, row, C_FENCE), q, why, e) : NULL;
	} else if (q) {
		cl = handover_root(h, c, call, q, row_int(r, row, C_TEMPLATE), no, why, e);
	}
	if (!cl) {
		*why = DB_LOST; /* the call has committed: its claims are fetched by the journal */
		return err_set(e, -EIO, "internal", "no memory for a claim, or no request that it belongs to");
	}
	cl->task_id = get_int8(r, row, C_TASK_ID);
	cl->next = out->claims;
	out->claims = cl;
	return 0;
}

/* A task that has settled is almost always one that this thread has recorded a step of, so its template is there. */
static unsigned series_of_row(struct hot *h, PGconn *c, const PGresult *r, int row)
{
	struct err ignored;
	enum db_failure why;
	const struct tcache_template *t = tcache_get(h->templates, c, row_int(r, row, C_TEMPLATE), &why, &ignored);
	return t ? t->series : 0;
}

static void read_settled(struct hot *h, PGconn *c, const PGresult *r, int row, struct done *out)
{
	struct settled *s = calloc(1, sizeof *s);
	if (!s)
		return; /* a waiter is told by the slow poll */
	get_uuid(r, row, &s->task);
	row_status(r, row, s->state, sizeof s->state);
	s->series = series_of_row(h, c, r, row);
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
	x->step_no = row_int(r, row, C_STEP);
	x->fence = row_int(r, row, C_FENCE);
	x->next = out->cancelled;
	out->cancelled = x;
}

static void read_due(const PGresult *r, int row, struct done *out)
{
	struct due *d = calloc(1, sizeof *d);
	if (!d)
		return; /* the slow poll finds the message */
	d->handler_id = row_int(r, row, C_HANDLER);
	d->in_ms = row_int(r, row, C_IDX);
	d->next = out->due;
	out->due = d;
}

void note_created(struct hot *h, struct req *q)
{
	if (strcmp(q->status, "created") == 0)
		q->create.series = series_of(h->series, q->create.ns.s, q->create.name.s);
}

static void read_answer(struct hot *h, const PGresult *r, int row, struct req **reqs, size_t n)
{
	int idx = row_int(r, row, C_IDX);
	if (idx < 1 || (size_t)idx > n)
		return;
	struct req *q = reqs[idx - 1];
	row_status(r, row, q->status, sizeof q->status);
	if (!PQgetisnull(r, row, C_TASK)) /* of a result it is known */
		get_uuid(r, row, &q->task);
	if (q->kind == REQ_CREATE) {
		q->create.template_id = row_int(r, row, C_TEMPLATE);
		note_created(h, q);
	}
	size_t len = 0;
	const char *json = get_json(r, row, C_META, &len);
	/* {"state": "..."}: the only shape create_tasks and cancel_task put here. */
	const char *v = json ? memmem(json, len, ": \"", 3) : NULL;
	const char *end = v ? memchr(v + 3, '"', len - (size_t)(v + 3 - json)) : NULL;
	if (end)
		snprintf(q->state, sizeof q->state, "%.*s", (int)(end - v - 3), v + 3);
}

static void read_why(const PGresult *r, int row, struct req **reqs, size_t n)
{
	int idx = row_int(r, row, C_IDX);
	if (idx >= 1 && (size_t)idx <= n)
		err_set(&reqs[idx - 1]->err, 0, "invalid_result", "%s", PQgetvalue(r, row, C_STATUS));
}

static void read_event(const PGresult *r, int row, struct done *out)
{
	size_t n = 0;
	char ns[32];
	const char *json = get_json(r, row, C_CONTEXT, &n);
	row_status(r, row, ns, sizeof ns);
	done_add_event(out, ns, (unsigned)row_int(r, row, C_IDX), json, n);
}

int read_rows(struct hot *h, PGconn *c, const struct hot_call *call, const PGresult *r, bool payload, struct req **reqs,
              size_t n, struct done *out, enum db_failure *why, struct err *e)
{
	int rc = 0;
	for (int i = 0; rc == 0 && i < PQntuples(r); i++)
		switch (PQgetvalue(r, i, C_KIND)[0]) {
		case 'a':
			read_answer(h, r, i, reqs, n);
			break;
		case 'c':
			rc = PQgetisnull(r, i, C_HANDLER) ? read_known(h, c, call, r, i, reqs, n, out, why, e)
			                                  : read_claim(h, c, call, r, i, payload, out, why, e);
			break;
		case 's':
			read_settled(h, c, r, i, out);
			break;
		case 'w':
			read_why(r, i, reqs, n);
			break;
		case 'q':
			done_add_id(out, row_int(r, i, C_HANDLER));
			break;
		case 'd':
			read_due(r, i, out);
			break;
		case 'x':
			read_cancelled(r, i, out);
			break;
		case 'e':
			read_event(r, i, out);
			break;
		default:
			break;
		}
	return rc;
}

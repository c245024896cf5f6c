/* The batches: requests of one kind become the arrays of one call of one engine function. */
#include "daemon/store/hot_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "daemon/base/log.h"
#include "daemon/store/handover.h"

#define START_MAX 200 /* tasks that begin in one call */

/* Arrays for the items of a batch, in parameter order; reused from call to call. */
static const enum pg_type record_types[N_RECORD] = {PG_INT8, PG_INT4,        PG_INT4,  PG_TEXT,  PG_BOOL,
                                                    PG_INT8, PG_JSONB,       PG_JSONB, PG_JSONB, PG_FLOAT4,
                                                    PG_UUID, PG_TIMESTAMPTZ, PG_INT4,  PG_JSONB, PG_BOOL};
static const enum pg_type next_types[N_NEXT] = {PG_INT8, PG_INT4, PG_INT8, PG_INT4, PG_INT4, PG_INT8, PG_INT4};
static const enum pg_type create_types[N_CREATE] = {PG_UUID, PG_TEXT, PG_TEXT, PG_TEXT, PG_JSONB, PG_JSONB, PG_INT4};

struct hot *hot_new(bool pooled, struct series *series)
{
	struct hot *h = calloc(1, sizeof *h);
	if (!h)
		return NULL;
	h->pooled = pooled;
	h->series = series;
	h->templates = tcache_new(series);
	h->names = schema_names_new();
	h->prover = prover_new();
	for (size_t i = 0; i < N_RECORD; i++)
		pgarray_init(&h->record[i], record_types[i]);
	for (size_t i = 0; i < N_CREATE; i++)
		pgarray_init(&h->create[i], create_types[i]);
	for (size_t i = 0; i < N_NEXT; i++)
		pgarray_init(&h->next[i], next_types[i]);
	pgarray_init(&h->handlers, PG_INT4);
	pgarray_init(&h->quotas, PG_INT4);
	pgarray_init(&h->uuids, PG_UUID);
	pgarray_init(&h->taken, PG_INT4);
	pgarray_init(&h->queued, PG_INT4);
	pgarray_init(&h->queue_handlers, PG_INT4);
	if (!h->templates || !h->names || !h->prover)
		return hot_free(h);
	return h;
}

struct hot *hot_free(struct hot *h)
{
	if (!h)
		return NULL;
	tcache_free(h->templates);
	schema_names_free(h->names);
	prover_free(h->prover);
	for (size_t i = 0; i < N_RECORD; i++)
		pgarray_done(&h->record[i]);
	for (size_t i = 0; i < N_CREATE; i++)
		pgarray_done(&h->create[i]);
	for (size_t i = 0; i < N_NEXT; i++)
		pgarray_done(&h->next[i]);
	pgarray_done(&h->handlers);
	pgarray_done(&h->quotas);
	pgarray_done(&h->uuids);
	pgarray_done(&h->taken);
	pgarray_done(&h->queued);
	pgarray_done(&h->queue_handlers);
	free(h);
	return NULL;
}

/* Building calls --------------------------------------------------------------------------------------------------- */

/* Sum the credits the requests bring: quotas by handler (a pool's credits count for each handler it runs) and their
 * total. */
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
		if (!o->pool || o->credits == 0 || reqs[i]->spent)
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

/* What the steps that it makes ready are given is at hand. */
static bool inherits(struct hot *h, PGconn *c, const struct req_result *q)
{
	enum db_failure why;
	struct err ignored;
	const struct tcache_template *t = q->held && q->outcome == OUTCOME_SUCCESS
	                                          ? tcache_get(h->templates, c, q->template_id, &why, &ignored)
	                                          : NULL;
	return t && handover_possible(t, q);
}

/* What the database must know of the events of a step that declares some. */
static int know_events(struct hot *h, PGconn *c, struct req_result *q, enum db_failure *why, struct err *e)
{
	const struct tcache_template *t = tcache_get(h->templates, c, q->template_id, why, e);
	if (!t)
		return -EIO;
	const struct tcache_step *s = tcache_step_of(t, q->step_no);
	if (q->outcome == OUTCOME_INVALID_RESULT)
		event_words_free(q); /* they are of a success that was none */
	int refused = fire_prepare(&s->events, q, !q->retry || !s->retryable || q->attempt >= s->max_attempts);
	if (refused < 0) {
		*why = DB_FULL;
		return err_set(e, refused, "internal", "out of memory");
	}
	q->events_refused += (unsigned)refused;
	return 0;
}

void put_success(struct hot *h, const struct req_result *q)
{
	static const struct uuid zero;
	struct pgarray *a = h->record;
	pgarray_int8(&a[REC_TASK], q->task_id);
	pgarray_int4(&a[REC_STEP], q->step_no);
	pgarray_int4(&a[REC_FENCE], q->fence);
	pgarray_jsonb(&a[REC_RESULT], q->result.s, q->result.n);
	pgarray_jsonb(&a[REC_META], q->meta.s, q->meta.n);
	pgarray_float4(&a[REC_EXEC], q->execution_ms);
	if (uuid_eq(&q->worker, &zero))
		pgarray_null(&a[REC_WORKER]);
	else
		pgarray_uuid(&a[REC_WORKER], &q->worker);
	pgarray_time(&a[REC_FINISHED], q->finished);
	pgarray_int4(&a[REC_BYTES], (int32_t)q->result.n);
}

static int record_arrays(struct hot *h, PGconn *c, struct req **reqs, size_t n, enum db_failure *why, struct err *e)
{
	struct pgarray *a = h->record;
	for (size_t i = 0; i < N_RECORD; i++)
		pgarray_reset(&a[i]);
	for (size_t i = 0; i < n; i++) {
		struct req_result *q = &reqs[i]->result;
		int64_t delay = q->delay_ms = retry_delay(h, c, q, why, e);
		if (delay < 0 || (q->publishes && know_events(h, c, q, why, e) < 0))
			return -EIO;
		put_success(h, q);
		pgarray_text(&a[REC_OUTCOME], outcome_names[q->outcome], strlen(outcome_names[q->outcome]));
		pgarray_bool(&a[REC_RETRY], q->retry);
		pgarray_int8(&a[REC_DELAY], delay);
		pgarray_jsonb(&a[REC_ERROR], q->error.s, q->error.n);
		pgarray_jsonb(&a[REC_EVENTS], q->known.s, q->known.n);
		pgarray_bool(&a[REC_INHERITS], inherits(h, c, q));
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
		pgarray_int4(&a[6], q->checked);
	}
}

static bool add_arrays(struct params *p, struct pgarray *a, size_t n)
{
	bool ok = true;
	for (size_t i = 0; i < n; i++)
		ok = add_array(p, &a[i]) && ok;
	return ok;
}

/* NULL if no step of the batch declares any. */
static bool add_events(struct hot *h, struct params *p, struct req **reqs, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (reqs[i]->result.publishes)
			return add_array(p, &h->record[REC_EVENTS]);
	add_text(p, NULL);
	return true;
}

/* One call for the whole batch. */
static int run_all(struct hot *h, PGconn *c, const struct hot_call *call, struct req **reqs, size_t n, PGresult **ret,
                   enum db_failure *why, struct err *e)
{
	struct params p = {0};
	static const enum stmt by_kind[REQ_KIND_COUNT] =
		{[REQ_RESULT] = S_RECORD, [REQ_CREATE] = S_CREATE, [REQ_CLAIM] = S_CLAIM, [REQ_START] = S_START};
	enum stmt s = by_kind[reqs[0]->kind];
	add_common(&p, call);
	int cap = sum_offers(h, reqs, n);
	if (s != S_CLAIM)
		add_bool(&p, call->notify);
	bool ok = add_offers(h, &p, cap);
	if (s == S_RECORD) {
		int rc = record_arrays(h, c, reqs, n, why, e);
		if (rc < 0)
			return rc;
		ok = add_arrays(&p, h->record, REC_EVENTS) && add_events(h, &p, reqs, n) &&
		     add_array(&p, &h->record[REC_INHERITS]) && ok;
	} else if (s == S_CREATE) {
		create_arrays(h, reqs, n);
		ok = add_arrays(&p, h->create, N_CREATE) && ok;
	} else if (s == S_START) {
		add_int4(&p, START_MAX);
	}
	if (!ok) {
		*why = DB_FULL;
		return err_set(e, -ENOMEM, "internal", "out of memory");
	}
	return hot_execute(h, c, s, &p, ret, why, e);
}

/* A message that others have put into a queue can make the call fail, and all that wait behind it would wait for
 * ever. */
static bool foreign_aside(PGconn *c, enum req_kind kind, const struct err *e)
{
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	struct err ignored;
	enum db_failure why;
	if ((kind != REQ_CLAIM && kind != REQ_START) || strncmp(e->sqlstate, "22", 2) != 0) /* data exception */
		return false;
	if (db_query(c, "SELECT tasker.set_foreign_aside()", 0, NULL, &r, &why, &ignored) < 0 ||
	    strcmp(PQgetvalue(r, 0, 0), "0") == 0)
		return false;
	log_event(LOG_STRANGE_MESSAGES, NULL,
	          "%s messages that no taskerd has written were moved from the queues of steps to their archives (%s)",
	          PQgetvalue(r, 0, 0), e->text);
	return true;
}

int hot_run(struct hot *h, PGconn *c, const struct hot_call *call, struct req **reqs, size_t n, struct done *out,
            enum db_failure *why, struct err *e)
{
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	int rc = 0;
	if (reqs[0]->kind == REQ_RESULT)
		rc = schemas_check_results(h->templates, c, reqs, n, why, e);
	else if (reqs[0]->kind == REQ_CREATE)
		rc = schemas_check_contexts(h->names, h->templates, c, reqs, n, why, e);
	if (rc < 0)
		return rc;
	int done = n == 1 ? one_run(h, c, call, reqs[0], out, why, e) : many_run(h, c, call, reqs, n, out, why, e);
	if (done != 0)
		return done < 0 ? done : 0;
	rc = run_all(h, c, call, reqs, n, &r, why, e);
	if (rc < 0 && foreign_aside(c, reqs[0]->kind, e))
		rc = run_all(h, c, call, reqs, n, &r, why, e);
	if (rc < 0)
		return rc;
	for (size_t i = 0; reqs[0]->kind == REQ_RESULT && i < n; i++) /* what needs no other word */
		snprintf(reqs[i]->status, sizeof reqs[i]->status, "recorded");
	rc = read_rows(h, c, call, r, true, reqs, n, out, why, e);
	if (rc == 0 && reqs[0]->kind == REQ_CREATE)
		schemas_note_answers(h->names, reqs, n);
	if (rc == 0 && reqs[0]->kind == REQ_START)
		rc = start_check(h, c, call, r, out, why, e);
	return rc;
}

int hot_recover(struct hot *h, PGconn *c, const struct hot_call *call, struct done *out, enum db_failure *why,
                struct err *e)
{
	struct params p = {0};
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	add_int4(&p, call->node->node_no);
	add_int4(&p, call->slot);
	add_int8(&p, call->seq);
	int rc = hot_execute(h, c, S_RECOVER, &p, &r, why, e);
	return rc < 0 ? rc : read_rows(h, c, call, r, true, NULL, 0, out, why, e);
}

int hot_adopt(struct hot *h, PGconn *c, const struct hot_call *call, struct done *out, enum db_failure *why,
              struct err *e)
{
	struct params p = {0};
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	add_common(&p, call);
	int rc = hot_execute(h, c, S_ADOPT, &p, &r, why, e);
	return rc < 0 ? rc : read_rows(h, c, call, r, false, NULL, 0, out, why, e);
}

int hot_cancel(struct hot *h, PGconn *c, const struct hot_call *call, struct req *q, struct done *out,
               enum db_failure *why, struct err *e)
{
	struct params p = {0};
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	add_int4(&p, call->node->node_no);
	add_bytes(&p, q->cancel.task.b, 16);
	add_text(&p, q->cancel.reason.s);
	add_text(&p, q->cancel.operator_name.s);
	add_bool(&p, true); /* rare, and another node may be there that is not known yet */
	int rc = hot_execute(h, c, S_CANCEL, &p, &r, why, e);
	return rc < 0 ? rc : read_rows(h, c, call, r, false, &q, 1, out, why, e);
}

int hot_states(struct hot *h, PGconn *c, const struct hot_call *call, struct req *q, struct done *out,
               enum db_failure *why, struct err *e)
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
	int rc = hot_execute(h, c, S_STATES, &p, &r, why, e);
	for (int i = 0; rc == 0 && i < PQntuples(r); i++) {
		int idx = row_int(r, i, C_IDX);
		if (idx >= 1 && (size_t)idx <= q->states.n)
			row_status(r, i, q->states.states[idx - 1], sizeof q->states.states[0]);
	}
	return rc;
}

/* The single-row path. Setting up the set-based statements costs more than the work when there is one item, and with
 * what the daemon knows of the template nothing need be looked up. */
#include "daemon/store/hot_impl.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/store/handover.h"

/* Which children of the step are to be claimed with the credits that come with its result. */
static void choose_children(struct hot *h, const struct tcache_template *t, const struct req *q, bool *takes)
{
	const struct tcache_step *s = &t->steps[q->result.step_no];
	unsigned credits = q->offer.pool ? q->offer.credits : 0;
	pgarray_reset(&h->taken);
	pgarray_reset(&h->queued);
	pgarray_reset(&h->queue_handlers);
	for (int i = 0; i < s->n_children; i++) {
		int handler = t->steps[s->children[i]].handler_id;
		takes[i] = credits > 0 && pool_handlers_has(q->offer.pool, handler);
		credits -= takes[i];
		pgarray_int4(takes[i] ? &h->taken : &h->queued, s->children[i]);
		if (!takes[i])
			pgarray_int4(&h->queue_handlers, handler);
	}
}

/* NULL for an array without elements. */
static bool add_some(struct params *p, struct pgarray *a)
{
	if (a->n > 0)
		return add_array(p, a);
	p->n++;
	return true;
}

int note_child(struct hot *h, const struct hot_call *call, const struct tcache_template *t, int child, bool taken,
               const struct req *q, struct done *out, enum db_failure *why, struct err *e)
{
	if (!taken) {
		done_add_id(out, t->steps[child].handler_id);
		return 0;
	}
	struct claim *cl = handover_claim(h->prover, call, t, child, 1, q, why, e);
	if (!cl)
		return -ENOMEM;
	cl->next = out->claims;
	out->claims = cl;
	return 0;
}

static int note_children(struct hot *h, const struct hot_call *call, const struct tcache_template *t,
                         const struct req *q, const bool *takes, struct done *out, enum db_failure *why, struct err *e)
{
	const struct tcache_step *s = &t->steps[q->result.step_no];
	int rc = 0;
	for (int i = 0; rc == 0 && i < s->n_children; i++)
		rc = note_child(h, call, t, s->children[i], takes[i], q, out, why, e);
	return rc;
}

void note_completed(struct done *out, const struct uuid *task, unsigned series)
{
	struct settled *s = calloc(1, sizeof *s);
	if (!s)
		return; /* a waiter is told by the slow poll */
	s->task = *task;
	s->series = series;
	snprintf(s->state, sizeof s->state, "complete");
	s->next = out->settled;
	out->settled = s;
}

int64_t row_number(const PGresult *r, int col)
{
	uint64_t be = 0;
	size_t n = (size_t)PQgetlength(r, 0, col);
	if (!PQgetisnull(r, 0, col) && n <= sizeof be)
		memcpy((char *)&be + sizeof be - n, PQgetvalue(r, 0, col), n);
	return (int64_t)be64toh(be);
}

static bool flag(const PGresult *r, int col)
{
	return !PQgetisnull(r, 0, col) && PQgetvalue(r, 0, col)[0] != 0;
}

static bool prepare_result(struct hot *h, const struct hot_call *call, const struct req *q, struct one *ret)
{
	struct params *p = &ret->p;
	const struct req_result *v = &q->result;
	const struct tcache_template *t = tcache_find(h->templates, v->template_id);
	if (v->outcome != OUTCOME_SUCCESS || v->publishes || !t || !handover_possible(t, v) ||
	    t->steps[v->step_no].n_children > ONE_CHILDREN_MAX)
		return false;
	ret->stmt = S_RECORD_ONE;
	add_common(p, call);
	add_bool(p, call->notify);
	choose_children(h, t, q, ret->takes);
	if (!add_some(p, &h->taken) || !add_some(p, &h->queued) || !add_some(p, &h->queue_handlers))
		return false;
	add_int8(p, (uint64_t)v->task_id);
	add_int4(p, v->step_no);
	add_int4(p, v->fence);
	add_json(p, &v->result);
	add_int4(p, (int)v->result.n);
	add_json(p, &v->meta);
	add_float4(p, v->execution_ms);
	add_bytes(p, v->worker.b, sizeof v->worker.b);
	add_int8(p, (uint64_t)pg_time(v->finished));
	return true;
}

static bool prepare_create(struct hot *h, const struct hot_call *call, const struct req *q, struct one *ret)
{
	struct params *p = &ret->p;
	if (q->create.opts.s)
		return false;
	ret->stmt = S_CREATE_ONE;
	add_common(p, call);
	add_bool(p, call->notify);
	pgarray_reset(&h->handlers);
	for (size_t i = 0; q->offer.pool && q->offer.credits > 0 && !q->spent && i < q->offer.pool->n; i++)
		pgarray_int4(&h->handlers, q->offer.pool->ids[i]);
	if (!add_array(p, &h->handlers))
		return false;
	add_bytes(p, q->create.task.b, sizeof q->create.task.b);
	add_text(p, q->create.ns.s);
	add_text(p, q->create.name.s);
	add_text(p, q->create.version.s);
	add_json(p, &q->create.context);
	add_int4(p, q->create.checked);
	return true;
}

bool one_prepare(struct hot *h, const struct hot_call *call, const struct req *q, struct one *ret)
{
	*ret = (struct one){0};
	return q->kind == REQ_RESULT ? prepare_result(h, call, q, ret)
	                             : q->kind == REQ_CREATE && prepare_create(h, call, q, ret);
}

struct done *one_foresee(struct hot *h, const struct hot_call *call, struct one *one, const struct req *q)
{
	struct err ignored;
	enum db_failure why;
	struct done *d = one->stmt == S_RECORD_ONE ? done_new(DONE_BATCH) : NULL;
	if (d && note_children(h, call, tcache_find(h->templates, q->result.template_id), q, one->takes, d, &why,
	                       &ignored) < 0)
		d = done_free(d);
	one->foreseen = d != NULL;
	return d;
}

static int finish_result(struct hot *h, const struct hot_call *call, const struct one *one, struct req *q,
                         const PGresult *r, struct done *out, enum db_failure *why, struct err *e)
{
	const struct tcache_template *t = tcache_find(h->templates, q->result.template_id);
	int64_t what = row_number(r, 0);
	if (what == 0)
		return 0;
	snprintf(q->status, sizeof q->status, "recorded");
	if (what == 2)
		note_completed(out, &q->task, t->series);
	int rc = one->foreseen ? 0 : note_children(h, call, t, q, one->takes, out, why, e);
	return rc < 0 ? rc : 1;
}

/* Columns of tasker.create_one. */
enum { NEW_TASK, NEW_TEMPLATE, NEW_ROOT, NEW_HANDLER, NEW_TAKEN };

static int finish_create(struct hot *h, PGconn *c, const struct hot_call *call, struct req *q, const PGresult *r,
                         struct done *out, enum db_failure *why, struct err *e)
{
	if (PQgetisnull(r, 0, NEW_TASK))
		return 0;
	snprintf(q->status, sizeof q->status, "created");
	snprintf(q->state, sizeof q->state, "steps_in_process");
	q->task = q->create.task;
	note_created(h, q);
	if (!flag(r, NEW_TAKEN)) {
		done_add_id(out, (int)row_number(r, NEW_HANDLER));
		return 1;
	}
	struct claim *cl =
		handover_root(h, c, call, q, (int)row_number(r, NEW_TEMPLATE), (int)row_number(r, NEW_ROOT), why, e);
	if (!cl)
		return -ENOMEM;
	cl->task_id = row_number(r, NEW_TASK);
	cl->next = out->claims;
	out->claims = cl;
	q->handed_over = true;
	return 1;
}

int one_finish(struct hot *h, PGconn *c, const struct hot_call *call, const struct one *one, struct req *q,
               const PGresult *r, struct done *out, enum db_failure *why, struct err *e)
{
	return one->stmt == S_RECORD_ONE ? finish_result(h, call, one, q, r, out, why, e)
	                                 : finish_create(h, c, call, q, r, out, why, e);
}

bool one_must_load(struct hot *h, const struct one *one, const PGresult *r)
{
	return one->stmt == S_CREATE_ONE && flag(r, NEW_TAKEN) &&
	       !tcache_find(h->templates, (int)row_number(r, NEW_TEMPLATE));
}

bool one_is_refusal(const struct err *e)
{
	return strcmp(e->sqlstate, "TK002") == 0 || strcmp(e->sqlstate, "23505") == 0;
}

int one_run(struct hot *h, PGconn *c, const struct hot_call *call, struct req *q, struct done *out,
            enum db_failure *why, struct err *e)
{
	struct one one;
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	if (h->pooled) /* a refusal would end the transaction */
		return 0;
	if (q->kind == REQ_RESULT && !tcache_get(h->templates, c, q->result.template_id, why, e))
		return -EIO;
	if (!one_prepare(h, call, q, &one))
		return 0;
	int rc = hot_execute(h, c, one.stmt, &one.p, &r, why, e);
	if (rc < 0)
		return one_is_refusal(e) ? 0 : rc;
	return one_finish(h, c, call, &one, q, r, out, why, e);
}

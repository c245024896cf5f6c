/* Batches of the usual cases: successes whose effects the daemon knows, since the steps that they make ready have no
 * other parent, and tasks of one name without options. Nothing need be looked up for each item, counted or read back,
 * so this costs the database half of what record_results and create_tasks cost. Other items of a batch are left for
 * them. */
#include "daemon/store/hot_impl.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/store/handover.h"

#define PURSES_MAX 16
#define WORTH_MIN 8 /* items, and half of the batch: what is left costs a call and a commit of its own */

/* h->next, as record_many has them */
enum { TAKE_TASK, TAKE_STEP, QUEUE_TASK, QUEUE_STEP, QUEUE_HANDLER, SINK_TASK, SINK_ITEM };
enum { REFUSED, SETTLED };				      /* its columns */
enum { NEW_TEMPLATE, NEW_ROOT, NEW_HANDLER, NEW_TAKEN };	      /* those of create_many */

/* The credits that a pool's requests bring. */
struct purse {
	const struct pool_handlers *pool;
	unsigned credits;
};

/* A child to be claimed: of which item, and which of its children. */
struct taken {
	size_t item;
	int child;
};

struct many {
	struct req **reqs;
	size_t n;
	struct purse purses[PURSES_MAX];
	size_t n_purses;
	struct taken *taken;
	size_t n_taken, cap_taken;
};

static bool result_fits(struct hot *h, PGconn *c, const struct req_result *q)
{
	enum db_failure why;
	struct err ignored;
	if (q->outcome != OUTCOME_SUCCESS || q->publishes)
		return false;
	const struct tcache_template *t = tcache_get(h->templates, c, q->template_id, &why, &ignored);
	return t && handover_possible(t, q);
}

static void put_offer(struct many *m, const struct req *q)
{
	size_t k = 0;
	if (!q->offer.pool || q->offer.credits == 0 || q->spent)
		return;
	while (k < m->n_purses && m->purses[k].pool != q->offer.pool)
		k++;
	if (k == PURSES_MAX)
		return; /* unused credits come back */
	if (k == m->n_purses)
		m->purses[m->n_purses++] = (struct purse){q->offer.pool, 0};
	m->purses[k].credits += q->offer.credits;
}

static bool pay(struct many *m, int handler)
{
	for (size_t k = 0; k < m->n_purses; k++)
		if (m->purses[k].credits > 0 && pool_handlers_has(m->purses[k].pool, handler)) {
			m->purses[k].credits--;
			return true;
		}
	return false;
}

/* Whether the child is to be claimed, noted. */
static bool take(struct many *m, size_t at, int child, int handler)
{
	if (m->n_taken == m->cap_taken) {
		size_t cap = m->cap_taken ? m->cap_taken * 2 : m->n;
		struct taken *p = realloc(m->taken, cap * sizeof *p);
		if (!p)
			return false; /* to its queue */
		m->taken = p;
		m->cap_taken = cap;
	}
	if (!pay(m, handler))
		return false;
	m->taken[m->n_taken++] = (struct taken){at, child};
	return true;
}

static void put_children(struct hot *h, struct many *m, const struct tcache_template *t, size_t at)
{
	const struct req_result *q = &m->reqs[at]->result;
	const struct tcache_step *s = &t->steps[q->step_no];
	if (s->n_children == 0) {
		pgarray_int8(&h->next[SINK_TASK], q->task_id);
		pgarray_int4(&h->next[SINK_ITEM], (int)at + 1);
	}
	for (int i = 0; i < s->n_children; i++) {
		int child = s->children[i], handler = t->steps[child].handler_id;
		bool taken = take(m, at, i, handler);
		pgarray_int8(&h->next[taken ? TAKE_TASK : QUEUE_TASK], q->task_id);
		pgarray_int4(&h->next[taken ? TAKE_STEP : QUEUE_STEP], child);
		if (!taken)
			pgarray_int4(&h->next[QUEUE_HANDLER], handler);
	}
}

static bool add_or_null(struct params *p, struct pgarray *a)
{
	if (a->n > 0)
		return add_array(p, a);
	add_text(p, NULL);
	return true;
}

static bool add_params(struct hot *h, struct params *p)
{
	static const enum record_array sent[] = {REC_TASK, REC_STEP, REC_FENCE,  REC_RESULT,  REC_BYTES,
	                                         REC_META, REC_EXEC, REC_WORKER, REC_FINISHED};
	bool ok = true;
	for (size_t i = 0; i < sizeof sent / sizeof *sent; i++)
		ok = add_array(p, &h->record[sent[i]]) && ok;
	for (size_t i = 0; i < N_NEXT; i++)
		ok = add_or_null(p, &h->next[i]) && ok;
	return ok;
}

/* False if memory ran out. */
static bool prepare(struct hot *h, const struct hot_call *call, struct many *m, struct params *p)
{
	for (size_t i = 0; i < N_RECORD; i++)
		pgarray_reset(&h->record[i]);
	for (size_t i = 0; i < N_NEXT; i++)
		pgarray_reset(&h->next[i]);
	for (size_t i = 0; i < m->n; i++)
		put_offer(m, m->reqs[i]);
	for (size_t i = 0; i < m->n; i++) {
		const struct req_result *q = &m->reqs[i]->result;
		const struct tcache_template *t = tcache_find(h->templates, q->template_id);
		if (!t)
			return false; /* more templates in a batch than the cache holds */
		put_success(h, q);
		put_children(h, m, t, i);
	}
	add_common(p, call);
	add_bool(p, call->notify);
	return add_params(h, p);
}

/* Number `i` of the integers of `size` bytes in a binary array; *ret_n of them, 0 for NULL. */
static int64_t element(const PGresult *r, int col, int size, int i, int *ret_n)
{
	uint64_t be = 0;
	const char *at = PQgetvalue(r, 0, col);
	/* dimensions, flags, type, length, lower bound; then length and value of each */
	int len = PQgetlength(r, 0, col);
	*ret_n = PQgetisnull(r, 0, col) || len < 20 ? 0 : (len - 20) / (4 + size);
	if (i < *ret_n)
		memcpy((char *)&be + sizeof be - (size_t)size, at + 24 + (4 + size) * i, (size_t)size);
	return (int64_t)be64toh(be);
}

static struct req *item(const struct many *m, int64_t position)
{
	return position >= 1 && (size_t)position <= m->n ? m->reqs[position - 1] : NULL;
}

static void read_refused(const struct many *m, const PGresult *r)
{
	int n = 1;
	for (int i = 0; i < n; i++) {
		struct req *q = item(m, element(r, REFUSED, 4, i, &n));
		if (i < n && q)
			q->general = true;
	}
}

static void read_settled(struct hot *h, const struct many *m, const PGresult *r, struct done *out)
{
	int n = 1;
	for (int i = 0; i < n; i++) {
		const struct req *q = item(m, element(r, SETTLED, 4, i, &n));
		const struct tcache_template *t = i < n && q ? tcache_find(h->templates, q->result.template_id) : NULL;
		if (t)
			note_completed(out, &q->task, t->series);
	}
}

/* The steps that item `at` has made ready; those that were claimed begin at *ret_taken of the list. */
static int note_children(struct hot *h, const struct hot_call *call, const struct many *m, size_t at, size_t *ret_taken,
                         struct done *out, enum db_failure *why, struct err *e)
{
	const struct req *q = m->reqs[at];
	const struct tcache_template *t = tcache_find(h->templates, q->result.template_id);
	const struct tcache_step *s = &t->steps[q->result.step_no];
	int rc = 0;
	for (int i = 0; rc == 0 && i < s->n_children; i++) {
		const struct taken *next = *ret_taken < m->n_taken ? &m->taken[*ret_taken] : NULL;
		bool taken = next && next->item == at && next->child == i;
		*ret_taken += taken;
		if (!q->general)
			rc = note_child(h, call, t, s->children[i], taken, q, out, why, e);
	}
	return rc;
}

/* The call has committed. */
static int finish(struct hot *h, const struct hot_call *call, const struct many *m, const PGresult *r, struct done *out,
                  enum db_failure *why, struct err *e)
{
	int rc = 0;
	size_t taken = 0;
	read_refused(m, r);
	read_settled(h, m, r, out);
	for (size_t i = 0; rc == 0 && i < m->n; i++) {
		struct req *q = m->reqs[i];
		q->spent = true; /* what its credits can do, this call has done */
		if (!q->general)
			snprintf(q->status, sizeof q->status, "recorded");
		rc = note_children(h, call, m, i, &taken, out, why, e);
	}
	return rc;
}

static int record(struct hot *h, PGconn *c, const struct hot_call *call, struct many *m, struct done *out,
                  enum db_failure *why, struct err *e)
{
	struct params p = {0};
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	if (!prepare(h, call, m, &p))
		return 0;
	int rc = hot_execute(h, c, S_RECORD_MANY, &p, &r, why, e);
	if (rc < 0)
		return one_is_refusal(e) ? 0 : rc;
	rc = finish(h, call, m, r, out, why, e);
	return rc < 0 ? rc : 1;
}

/* Tasks ------------------------------------------------------------------------------------------------------------ */

static bool same_text(const struct text *a, const struct text *b)
{
	return a->n == b->n && (!a->s) == (!b->s) && (!a->s || memcmp(a->s, b->s, a->n) == 0);
}

/* Tasks of the same template as `first`, checked against the same one. */
static bool create_fits(const struct req_create *first, const struct req_create *q)
{
	return !q->opts.s && q->checked == first->checked && same_text(&q->name, &first->name) &&
	       same_text(&q->ns, &first->ns) && same_text(&q->version, &first->version);
}

static bool prepare_create(struct hot *h, const struct hot_call *call, struct many *m, struct params *p)
{
	const struct req_create *first = &m->reqs[0]->create;
	struct pgarray *uuids = &h->create[0], *contexts = &h->create[4];
	pgarray_reset(&h->handlers);
	pgarray_reset(uuids);
	pgarray_reset(contexts);
	for (size_t i = 0; i < m->n; i++) {
		put_offer(m, m->reqs[i]);
		pgarray_uuid(uuids, &m->reqs[i]->create.task);
		pgarray_jsonb(contexts, m->reqs[i]->create.context.s, m->reqs[i]->create.context.n);
	}
	const struct purse *purse = m->n_purses > 0 ? &m->purses[0] : NULL; /* one at a time is lent to creates */
	for (size_t i = 0; purse && i < purse->pool->n; i++)
		pgarray_int4(&h->handlers, purse->pool->ids[i]);
	add_common(p, call);
	add_bool(p, call->notify);
	bool ok = add_array(p, &h->handlers);
	add_int4(p, purse ? (int)purse->credits : 0);
	ok = add_array(p, uuids) && add_array(p, contexts) && ok;
	add_text(p, first->ns.s);
	add_text(p, first->name.s);
	add_text(p, first->version.s);
	add_int4(p, first->checked);
	return ok;
}

static int finish_create(struct hot *h, PGconn *c, const struct hot_call *call, const struct many *m, const PGresult *r,
                         struct done *out, enum db_failure *why, struct err *e)
{
	int template_id = (int)row_number(r, NEW_TEMPLATE), root = (int)row_number(r, NEW_ROOT), taken = 0;
	for (size_t i = 0; i < m->n; i++) {
		struct req *q = m->reqs[i];
		int64_t id = element(r, NEW_TAKEN, 8, (int)i, &taken);
		snprintf(q->status, sizeof q->status, "created");
		snprintf(q->state, sizeof q->state, "steps_in_process");
		q->task = q->create.task;
		q->create.template_id = template_id;
		note_created(h, q);
		if ((int)i >= taken)
			continue;
		struct claim *cl = handover_root(h, c, call, q, template_id, root, why, e);
		if (!cl)
			return -ENOMEM;
		q->handed_over = true;
		cl->task_id = id;
		cl->next = out->claims;
		out->claims = cl;
	}
	if ((size_t)taken < m->n)
		done_add_id(out, (int)row_number(r, NEW_HANDLER));
	return 0;
}

static int create(struct hot *h, PGconn *c, const struct hot_call *call, struct many *m, struct done *out,
                  enum db_failure *why, struct err *e)
{
	struct params p = {0};
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	if (!prepare_create(h, call, m, &p))
		return 0;
	int rc = hot_execute(h, c, S_CREATE_MANY, &p, &r, why, e);
	if (rc < 0)
		return one_is_refusal(e) ? 0 : rc;
	if (PQgetisnull(r, 0, NEW_TEMPLATE))
		return 0;
	rc = finish_create(h, c, call, m, r, out, why, e);
	return rc < 0 ? rc : 1;
}

/* Batches ---------------------------------------------------------------------------------------------------------- */

static bool fits(struct hot *h, PGconn *c, const struct req *first, const struct req *q)
{
	if (q->general)
		return false;
	return q->kind == REQ_RESULT ? result_fits(h, c, &q->result) : create_fits(&first->create, &q->create);
}

int many_run(struct hot *h, PGconn *c, const struct hot_call *call, struct req **reqs, size_t n, struct done *out,
             enum db_failure *why, struct err *e)
{
	/* a refusal would end a pooler's transaction */
	bool usual = !h->pooled && (reqs[0]->kind == REQ_RESULT || reqs[0]->kind == REQ_CREATE);
	cleanup_(cleanup_free) struct req **mine = usual ? malloc(n * sizeof(struct req *)) : NULL;
	struct many m = {.reqs = mine};
	for (size_t i = 0; mine && i < n; i++)
		if (fits(h, c, reqs[0], reqs[i]))
			mine[m.n++] = reqs[i];
	if (m.n < WORTH_MIN || m.n * 2 < n)
		return 0;
	int rc =
		reqs[0]->kind == REQ_RESULT ? record(h, c, call, &m, out, why, e) : create(h, c, call, &m, out, why, e);
	free(m.taken);
	for (size_t i = 0; rc == 1 && i < n; i++)
		if (reqs[i]->status[0] == '\0')
			reqs[i]->general = true;
	return rc;
}

size_t many_left(struct req **reqs, size_t n, struct req **ret)
{
	size_t left = 0;
	for (size_t i = 0; i < n; i++)
		if (reqs[i]->general && !reqs[i]->failed && reqs[i]->status[0] == '\0')
			ret[left++] = reqs[i];
	return left;
}

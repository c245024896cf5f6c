/* A batch of successes whose effects the daemon knows: the steps that they make ready have no other parent, so nothing need be looked up, counted or read back. What this costs
 * in the database is half of what record_results costs. Other items of the batch, and those whose tasks turn out to count, are left for it. */
#include "daemon/store/hot_impl.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/store/handover.h"

#define PURSES_MAX 16
#define WORTH_MIN 8 /* items, and half of the batch: what is left costs a call and a commit of its own */

enum { TAKE_TASK, TAKE_STEP, QUEUE_TASK, QUEUE_STEP, QUEUE_HANDLER, SINK_TASK, SINK_ITEM }; /* h->next, as record_many has them */
enum { REFUSED, SETTLED };								   /* its columns */

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

static bool fits(struct hot *h, PGconn *c, const struct req_result *q)
{
	enum db_failure why;
	struct err ignored;
	if (q->general || q->outcome != OUTCOME_SUCCESS || q->publishes)
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
	static const enum record_array sent[] = {REC_TASK, REC_STEP, REC_FENCE, REC_RESULT, REC_BYTES, REC_META, REC_EXEC, REC_WORKER, REC_FINISHED};
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

/* Number `i` of the integers in a binary array; *ret_n of them, 0 for NULL. */
static int element(const PGresult *r, int col, int i, int *ret_n)
{
	uint32_t be = 0;
	const char *at = PQgetvalue(r, 0, col);
	int len = PQgetlength(r, 0, col); /* dimensions, flags, type, length, lower bound; then length and value of each */
	*ret_n = PQgetisnull(r, 0, col) || len < 20 ? 0 : (len - 20) / 8;
	if (i < *ret_n)
		memcpy(&be, at + 24 + 8 * i, sizeof be);
	return (int)be32toh(be);
}

static struct req *item(const struct many *m, int position)
{
	return position >= 1 && (size_t)position <= m->n ? m->reqs[position - 1] : NULL;
}

static void read_refused(const struct many *m, const PGresult *r)
{
	int n = 1;
	for (int i = 0; i < n; i++) {
		struct req *q = item(m, element(r, REFUSED, i, &n));
		if (i < n && q)
			q->result.general = true;
	}
}

static void read_settled(struct hot *h, const struct many *m, const PGresult *r, struct done *out)
{
	int n = 1;
	for (int i = 0; i < n; i++) {
		const struct req *q = item(m, element(r, SETTLED, i, &n));
		const struct tcache_template *t = i < n && q ? tcache_find(h->templates, q->result.template_id) : NULL;
		if (t)
			note_completed(out, &q->task, t->series);
	}
}

/* The steps that item `at` has made ready; those that were claimed begin at *ret_taken of the list. */
static int note_children(struct hot *h, const struct hot_call *call, const struct many *m, size_t at, size_t *ret_taken, struct done *out, enum db_failure *why, struct err *e)
{
	const struct req *q = m->reqs[at];
	const struct tcache_template *t = tcache_find(h->templates, q->result.template_id);
	const struct tcache_step *s = &t->steps[q->result.step_no];
	for (int i = 0; i < s->n_children; i++) {
		const struct taken *next = *ret_taken < m->n_taken ? &m->taken[*ret_taken] : NULL;
		bool taken = next && next->item == at && next->child == i;
		*ret_taken += taken;
		if (q->result.general)
			continue;
		if (!taken) {
			done_add_id(out, t->steps[s->children[i]].handler_id);
			continue;
		}
		struct claim *cl = handover_claim(h->prover, call, t, s->children[i], 1, q, why, e);
		if (!cl)
			return -ENOMEM;
		cl->next = out->claims;
		out->claims = cl;
	}
	return 0;
}

/* The call has committed. */
static int finish(struct hot *h, const struct hot_call *call, const struct many *m, const PGresult *r, struct done *out, enum db_failure *why, struct err *e)
{
	int rc = 0;
	size_t taken = 0;
	read_refused(m, r);
	read_settled(h, m, r, out);
	for (size_t i = 0; rc == 0 && i < m->n; i++) {
		struct req *q = m->reqs[i];
		q->spent = true; /* what its credits can do, this call has done */
		if (!q->result.general)
			snprintf(q->status, sizeof q->status, "recorded");
		rc = note_children(h, call, m, i, &taken, out, why, e);
	}
	return rc;
}

static int run(struct hot *h, PGconn *c, const struct hot_call *call, struct many *m, struct done *out, enum db_failure *why, struct err *e)
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

int many_run(struct hot *h, PGconn *c, const struct hot_call *call, struct req **reqs, size_t n, struct done *out, enum db_failure *why, struct err *e)
{
	cleanup_(cleanup_free) struct req **mine = h->pooled ? NULL : malloc(n * sizeof(struct req *)); /* a refusal would end a pooler's transaction */
	struct many m = {.reqs = mine};
	for (size_t i = 0; mine && i < n; i++)
		if (fits(h, c, &reqs[i]->result))
			mine[m.n++] = reqs[i];
	if (m.n < WORTH_MIN || m.n * 2 < n)
		return 0;
	int rc = run(h, c, call, &m, out, why, e);
	free(m.taken);
	for (size_t i = 0; rc == 1 && i < n; i++)
		if (reqs[i]->status[0] == '\0')
			reqs[i]->result.general = true;
	return rc;
}

size_t many_left(struct req **reqs, size_t n, struct req **ret)
{
	size_t left = 0;
	for (size_t i = 0; i < n; i++)
		if (reqs[i]->kind == REQ_RESULT && reqs[i]->result.general && !reqs[i]->failed && reqs[i]->status[0] == '\0')
			ret[left++] = reqs[i];
	return left;
}

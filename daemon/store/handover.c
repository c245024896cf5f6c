#include "daemon/store/handover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/store/hot_impl.h"
#include "daemon/store/step_name.h"
#include "protocol/mp.h"
#include "protocol/mpjson.h"

/* What a child with no other parent is given: all that its parent was given, but for the farthest if they are as many
 * as a step may be given, and the parent's own result. */
static bool child_inherits(const struct tcache_step *s, const struct tcache_step *c, const struct claim *held)
{
	if (!held || c->n_parents != 1 || held->parts.n_deps != (unsigned)s->n_ancestors)
		return false;
	return c->n_ancestors == s->n_ancestors + 1 ||
	       (c->n_ancestors == CLAIM_DEPS_MAX && s->n_ancestors == CLAIM_DEPS_MAX);
}

bool handover_possible(const struct tcache_template *t, const struct req_result *q)
{
	if (q->step_no >= t->n_steps)
		return false;
	const struct tcache_step *s = &t->steps[q->step_no];
	if (!s->plain)
		return false;
	for (int i = 0; i < s->n_children; i++)
		if (!child_inherits(s, &t->steps[s->children[i]], q->held))
			return false;
	return true;
}

/* Add a dependency that is in `data` already encoded. */
static void put_dep(struct claim *cl, int no, const void *data, size_t len)
{
	if (data)
		mp_raw(&cl->body, data, len);
	cl->parts.dep[cl->parts.n_deps++] = (struct claim_dep){no, (unsigned)len};
}

/* Only template steps are handed over. */
static void put_numbers(struct claim *cl, const struct tcache_template *t)
{
	struct step_named names[CLAIM_DEPS_MAX];
	for (unsigned i = 0; i < cl->parts.n_deps; i++) {
		const char *name = t->steps[cl->parts.dep[i].no].name;
		names[i] = (struct step_named){name, strlen(name), cl->parts.dep[i].no};
	}
	step_numbers_put(&cl->body, names, cl->parts.n_deps);
}

static void put_inherited(struct claim *cl, const struct tcache_template *t, const struct req_result *q, int no)
{
	const struct claim_parts *p = &q->held->parts;
	const unsigned char *at = q->held->body.data + p->deps;
	const struct tcache_step *parent = &t->steps[q->step_no], *child = &t->steps[no];
	bool drop = child->n_ancestors == parent->n_ancestors;
	cl->parts.whole = true;
	mp_raw(&cl->body, q->held->body.data + p->carry, p->carry_end - p->carry);
	cl->parts.carry_end = cl->body.len;
	cl->parts.n_carry = p->n_carry;
	cl->parts.traceparent = p->traceparent;
	cl->trace = q->trace;
	mp_str(&cl->body, "dependencies");
	mp_map(&cl->body, (size_t)child->n_ancestors);
	cl->parts.deps = cl->body.len;
	for (unsigned i = 0; i < p->n_deps; at += p->dep[i++].len)
		if (!drop || p->dep[i].no != parent->last_ancestor)
			put_dep(cl, p->dep[i].no, at, p->dep[i].len);
	size_t begin = cl->body.len;
	mp_str(&cl->body, parent->name);
	buf_join(&cl->body, &q->value);
	put_dep(cl, q->step_no, NULL, cl->body.len - begin);
	put_numbers(cl, t);
	cl->fields += p->n_carry + 2;
	if (!child->ancestors_cut)
		return;
	mp_str(&cl->body, "dependencies_partial");
	mp_bool(&cl->body, true);
	cl->fields++;
}

static struct claim *begin(struct prover *prover, const struct hot_call *call, const struct tcache_template *t, int no,
                           int fence, const struct uuid *task)
{
	const struct tcache_step *s = &t->steps[no];
	struct claim *cl = calloc(1, sizeof *cl);
	if (!cl)
		return NULL;
	buf_init(&cl->body, 0);
	cl->task = *task;
	cl->template_id = t->id;
	cl->series = t->series;
	cl->step_no = no;
	cl->attempt = 1;
	cl->fence = fence;
	cl->handler_id = s->handler_id;
	cl->slot = call->slot;
	cl->timeout_ms = s->timeout_ms;
	if (claim_put_identity(prover, cl, call, t, s) < 0)
		return claim_free(cl);
	mp_str(&cl->body, "step");
	mp_str(&cl->body, s->name);
	cl->fields++;
	cl->parts.carry = cl->body.len;
	return cl;
}

/* NULL if the body could not be made: the call has committed, so its claims are fetched by the journal. */
static struct claim *finish(struct claim *cl, enum db_failure *why, struct err *e)
{
	if (cl && cl->parts.whole && !cl->body.failed)
		return cl;
	claim_free(cl);
	*why = DB_LOST;
	err_set(e, -ENOMEM, "internal", "out of memory");
	return NULL;
}

struct claim *handover_claim(struct prover *prover, const struct hot_call *call, const struct tcache_template *t,
                             int no, int fence, const struct req *parent, enum db_failure *why, struct err *e)
{
	const struct req_result *q = &parent->result;
	struct claim *cl = begin(prover, call, t, no, fence, &parent->task);
	if (cl) {
		cl->task_id = q->task_id;
		put_inherited(cl, t, q, no);
	}
	return finish(cl, why, e);
}

struct claim *handover_root(struct hot *h, PGconn *c, const struct hot_call *call, const struct req *q, int template_id,
                            int no, enum db_failure *why, struct err *e)
{
	char uuid[UUID_TEXT];
	struct mpjson_error je;
	const struct tcache_template *t = tcache_get(h->templates, c, template_id, why, e);
	struct claim *cl = t ? begin(h->prover, call, t, no, 1, &q->create.task) : NULL;
	if (cl) {
		uuid_format(&q->create.task, uuid);
		mp_str(&cl->body, "correlation_id");
		mp_str(&cl->body, uuid);
		mp_str(&cl->body, "context");
		cl->parts.whole = json_to_mp(q->create.context.s, q->create.context.n, &cl->body, &je) == 0;
		cl->parts.carry_end = cl->body.len;
		cl->parts.n_carry = 2;
		cl->fields += 2;
	}
	return finish(cl, why, e);
}

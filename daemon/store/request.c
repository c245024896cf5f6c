/* Life and death of the messages between the loop and the store threads. */
#include "daemon/store/request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "protocol/mpjson.h"

const char *const outcome_names[OUTCOME_COUNT] = {
	[OUTCOME_SUCCESS] = "success",
	[OUTCOME_HANDLER_ERROR] = "handler_error",
	[OUTCOME_PERMANENT_ERROR] = "permanent_error",
	[OUTCOME_INVALID_RESULT] = "invalid_result",
	[OUTCOME_TIMEOUT] = "timeout",
	[OUTCOME_WORKER_LOST] = "worker_lost",
	[OUTCOME_RELEASED] = "released",
};

struct pool_handlers *pool_handlers_new(unsigned pool_id, const int *ids, size_t n)
{
	struct pool_handlers *p = malloc(sizeof *p + n * sizeof *ids);
	if (!p)
		return NULL;
	atomic_init(&p->refs, 1);
	p->pool_id = pool_id;
	p->n = n;
	if (n > 0)
		memcpy(p->ids, ids, n * sizeof *ids);
	return p;
}

struct pool_handlers *pool_handlers_ref(struct pool_handlers *p)
{
	if (p)
		atomic_fetch_add(&p->refs, 1);
	return p;
}

struct pool_handlers *pool_handlers_unref(struct pool_handlers *p)
{
	if (p && atomic_fetch_sub(&p->refs, 1) == 1)
		free(p);
	return NULL;
}

static int by_number(const void *a, const void *b)
{
	const int *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

bool pool_handlers_has(const struct pool_handlers *p, int id)
{
	return bsearch(&id, p->ids, p->n, sizeof id, by_number) != NULL;
}

void text_set(struct text *t, const char *s, size_t n)
{
	free(t->s);
	t->s = malloc(n + 1);
	t->n = 0;
	if (!t->s)
		return;
	if (n > 0)
		memcpy(t->s, s, n);
	t->s[n] = '\0';
	t->n = n;
}

struct req *req_new(enum req_kind kind, struct origin origin)
{
	struct req *r = calloc(1, sizeof *r);
	if (!r)
		return NULL;
	r->kind = kind;
	r->origin = origin;
	r->born = now_mono();
	buf_init(&r->answer, 0);
	return r;
}

void event_words_free(struct req_result *r)
{
	for (size_t i = 0; i < r->n_words; i++) {
		free(r->words[i].name);
		free(r->words[i].payload.s);
		free(r->words[i].metadata.s);
		free(r->words[i].failed);
	}
	free(r->words);
	r->words = NULL;
	r->n_words = 0;
}

struct req *req_free(struct req *r)
{
	if (!r)
		return NULL;
	switch (r->kind) {
	case REQ_RESULT:
		free(r->result.result.s);
		free(r->result.error.s);
		free(r->result.meta.s);
		claim_free(r->result.held);
		buf_done(&r->result.value);
		free(r->result.known.s);
		event_words_free(&r->result);
		break;
	case REQ_CREATE:
		free(r->create.ns.s);
		free(r->create.name.s);
		free(r->create.version.s);
		free(r->create.context.s);
		free(r->create.opts.s);
		break;
	case REQ_CANCEL:
		free(r->cancel.reason.s);
		free(r->cancel.operator_name.s);
		break;
	case REQ_API:
		free(r->api.args.s);
		buf_done(&r->api.kept);
		break;
	case REQ_STATES:
		free(r->states.tasks);
		free(r->states.states);
		break;
	case REQ_CLAIM:
	case REQ_START:
	case REQ_KIND_COUNT:
		break;
	}
	pool_handlers_unref(r->offer.pool);
	buf_done(&r->answer);
	free(r);
	return NULL;
}

struct claim *claim_free(struct claim *c)
{
	if (c) {
		buf_done(&c->body);
		free(c);
	}
	return NULL;
}

/* returns NULL */
static struct fired *fired_free(struct fired *f)
{
	if (f) {
		buf_done(&f->body);
		free(f);
	}
	return NULL;
}

void done_append_events(struct done *d, struct fired *f)
{
	struct fired **end = d->fired_end ? d->fired_end : &d->fired;
	*end = f;
	while (*end)
		end = &(*end)->next;
	d->fired_end = end;
}

void done_add_event(struct done *d, const char *ns, unsigned n, const char *json, size_t len)
{
	struct fired *f = calloc(1, sizeof *f);
	if (!f)
		return;
	buf_init(&f->body, 0);
	snprintf(f->ns, sizeof f->ns, "%s", ns);
	f->n = n;
	if (json && json_to_mp(json, len, &f->body, NULL) < 0)
		fired_free(f);
	else
		done_append_events(d, f);
}

struct done *done_new(enum done_kind kind)
{
	struct done *d = calloc(1, sizeof *d);
	if (d)
		d->kind = kind;
	return d;
}

/* Free a singly linked list whose link is the first member. */
static void free_list(void *head)
{
	while (head) {
		void *next = *(void **)head;
		free(head);
		head = next;
	}
}

struct done *done_free(struct done *d)
{
	if (!d)
		return NULL;
	while (d->reqs) {
		struct req *r = req_of(d->reqs);
		d->reqs = r->mail.next;
		req_free(r);
	}
	while (d->claims) {
		struct claim *c = d->claims;
		d->claims = c->next;
		claim_free(c);
	}
	while (d->fired) {
		struct fired *f = d->fired;
		d->fired = f->next;
		fired_free(f);
	}
	free_list(d->settled);
	free_list(d->cancelled);
	free_list(d->due);
	for (size_t i = 0; i < d->n_handlers; i++)
		free(d->handlers[i].callable);
	free(d->handlers);
	free(d->ids);
	free(d);
	return NULL;
}

void done_add_id(struct done *d, int id)
{
	for (size_t i = 0; i < d->n_ids; i++)
		if (d->ids[i] == id)
			return;
	int *p = realloc(d->ids, (d->n_ids + 1) * sizeof *p);
	if (!p)
		return; /* a hint lost: the slow poll finds the messages */
	d->ids = p;
	d->ids[d->n_ids++] = id;
}

static size_t bytes_of_result(const struct req_result *r)
{
	size_t n = r->result.n + r->error.n + r->meta.n;
	for (size_t i = 0; i < r->n_words; i++)
		n += r->words[i].payload.n + r->words[i].metadata.n;
	return n;
}

size_t req_bytes(const struct req *r)
{
	switch (r->kind) {
	case REQ_RESULT:
		return bytes_of_result(&r->result);
	case REQ_CREATE:
		return r->create.context.n + r->create.opts.n;
	case REQ_API:
		return r->api.args.n + r->api.kept.len;
	case REQ_CLAIM:
	case REQ_START:
	case REQ_STATES:
	case REQ_CANCEL:
	case REQ_KIND_COUNT:
		break;
	}
	return 0;
}

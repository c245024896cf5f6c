/* What only this process knows, added to what the database answers: what its workers run, and which handlers they
 * offer. */
#include "daemon/server/known_here.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include "daemon/base/hash.h"
#include "daemon/config/options.h"
#include "daemon/core/uuid.h"
#include "daemon/server/bounds.h"
#include "daemon/server/pool.h"
#include "daemon/server/rates.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/server/steps.h"
#include "daemon/server/workers.h"
#include "protocol/buf.h"
#include "protocol/mp.h"

void copy_map(struct buf *out, const msgpack_object *map, uint32_t more)
{
	mp_map(out, map->via.map.size + more);
	for (uint32_t i = 0; i < map->via.map.size; i++) {
		mp_object(out, &map->via.map.ptr[i].key);
		mp_object(out, &map->via.map.ptr[i].val);
	}
}

/* {"<key>": [items]} with each item passed through `fn`. */
static void each_item(struct server *srv, const msgpack_object *answer, const char *key, struct buf *out,
                      transform_fn *fn)
{
	const msgpack_object *a = mp_get(answer, key);
	mp_map(out, 1);
	mp_str(out, key);
	mp_array(out, a ? a->via.array.size : 0);
	for (uint32_t i = 0; a && i < a->via.array.size; i++)
		fn(srv, &a->via.array.ptr[i], out);
}

/* Workers ---------------------------------------------------------------------------------------------------------- */

static const char *const known_better[] = {"max_concurrency", "draining", "open", "done", "rate"};

static bool is_known_better(const msgpack_object *key)
{
	for (size_t i = 0; i < sizeof known_better / sizeof *known_better; i++)
		if (mp_str_eq(key, known_better[i]))
			return true;
	return false;
}

/* Its own numbers stand for what the database remembers. Leaves room for `more` pairs. */
static void put_worker(const msgpack_object *w, const struct session *s, struct buf *out, uint32_t more)
{
	uint32_t own = 0;
	for (uint32_t i = 0; i < w->via.map.size; i++)
		own += is_known_better(&w->via.map.ptr[i].key);
	mp_map(out, w->via.map.size - own + 5 + more);
	for (uint32_t i = 0; i < w->via.map.size; i++) {
		const msgpack_object_kv *kv = &w->via.map.ptr[i];
		if (is_known_better(&kv->key))
			continue;
		mp_object(out, &kv->key);
		mp_object(out, &kv->val);
	}
	mp_str(out, "max_concurrency");
	mp_uint(out, s->work.max_concurrency);
	mp_str(out, "open");
	mp_uint(out, s->work.open);
	mp_str(out, "done");
	mp_uint(out, s->work.rate.done);
	mp_str(out, "rate");
	mp_double(out, rate_rounded(&s->work.rate));
	mp_str(out, "draining");
	mp_bool(out, s->draining);
}

static void one_worker(struct server *srv, const msgpack_object *w, struct buf *out)
{
	const struct session *s = worker_of(srv, w);
	if (s)
		put_worker(w, s, out, 0);
	else
		mp_object(out, w);
}

void add_worker_load(struct server *srv, const msgpack_object *answer, struct buf *out)
{
	each_item(srv, answer, "workers", out, one_worker);
}

void workers_load(struct server *srv, char *out, size_t size)
{
	struct session *s, *tmp;
	char uuid[UUID_TEXT];
	size_t at = 1;
	out[0] = '{';
	HASH_ITER(hh, srv->sessions, s, tmp) {
		if (!s->is_worker || s->state != SESSION_OPEN || at + UUID_TEXT + 80 > size)
			continue;
		uuid_format(&s->work.uuid, uuid);
		at += (size_t)snprintf(out + at, size - at, "%s\"%s\":[%u,%llu,%.2f]", at > 1 ? "," : "", uuid,
		                       s->work.open, (unsigned long long)s->work.rate.done,
		                       rate_rounded(&s->work.rate));
	}
	snprintf(out + at, size - at, "}");
}

static void put_step(struct server *srv, const struct open_step *o, struct buf *out)
{
	char text[UUID_TEXT];
	struct handler *h = NULL;
	int id = o->claim ? o->claim->handler_id : 0;
	HASH_FIND_INT(srv->handlers, &id, h);
	mp_map(out, 5);
	uuid_format(&o->key.uuid, text);
	mp_str(out, "step_uuid");
	mp_str(out, text);
	mp_str(out, "task_uuid");
	if (o->claim)
		uuid_format(&o->claim->task, text);
	mp_str(out, o->claim ? text : NULL);
	mp_str(out, "attempt");
	mp_int(out, o->claim ? o->claim->attempt : 0);
	mp_str(out, "handler");
	mp_str(out, h ? h->callable : NULL);
	mp_str(out, "ended");
	mp_bool(out, o->ended);
}

/* A worker, and what it runs. */
void add_worker_steps(struct server *srv, const msgpack_object *answer, struct buf *out)
{
	const struct session *s = worker_of(srv, answer);
	const struct open_step *o;
	size_t n = 0;
	if (!s) {
		mp_object(out, answer);
		return;
	}
	put_worker(answer, s, out, 1);
	mp_str(out, "running");
	size_t mark = mp_array_open(out);
	TAILQ_FOREACH(o, &s->work.steps, link) {
		if (n == RUNNING_SHOWN_MAX)
			break;
		put_step(srv, o, out);
		n++;
	}
	mp_array_close(out, mark, n);
}

/* Queues and handlers ---------------------------------------------------------------------------------------------- */

/* Connected workers here that offer it. */
static unsigned workers_for(struct server *srv, const struct handler *h)
{
	struct session *s, *tmp;
	unsigned n = 0;
	HASH_ITER(hh, srv->sessions, s, tmp)
		n += s->is_worker && s->state == SESSION_OPEN && handler_matches(s, h);
	return n;
}

#define MATCHES_MAX 200000u /* of sessions and handlers: what the loop may spend on it */

/* Also the handlers of other nodes' workers are known here, so most may be idle. */
static unsigned workers_of(struct server *srv, const struct handler *h)
{
	return HASH_COUNT(srv->sessions) * HASH_COUNT(srv->handlers) > MATCHES_MAX ? 0 : workers_for(srv, h);
}

void handlers_load(struct server *srv, char *out, size_t size)
{
	struct handler *h, *tmp;
	size_t at = 1;
	out[0] = '{';
	HASH_ITER(hh, srv->handlers, h, tmp) {
		unsigned workers = workers_of(srv, h);
		if ((workers == 0 && h->rate.done == 0) || at + 80 > size)
			continue;
		at += (size_t)snprintf(out + at, size - at, "%s\"%d\":[%u,%llu,%.2f]", at > 1 ? "," : "", h->id,
		                       workers, (unsigned long long)h->rate.done, rate_rounded(&h->rate));
	}
	snprintf(out + at, size - at, "}");
}

/* What is done for a queue: by a node, or by all. */
struct share {
	int64_t workers, done;
	double rate;
};

static void put_figures(struct buf *out, const struct share *f)
{
	mp_str(out, "workers");
	mp_uint(out, (uint64_t)f->workers);
	mp_str(out, "done");
	mp_uint(out, (uint64_t)f->done);
	mp_str(out, "rate");
	mp_double(out, f->rate);
}

static size_t put_share(struct buf *out, const char *node, const struct share *f)
{
	mp_map(out, 4);
	mp_str(out, "node");
	mp_str(out, node);
	put_figures(out, f);
	return 1;
}

/* Another node's, as of its last proof of life: this one's are known better here. */
static size_t add_share(struct server *srv, const msgpack_object *node, struct share *all, struct buf *out)
{
	struct share f = {0};
	const msgpack_object *rate = mp_get(node, "rate");
	if (mp_str_eq(mp_get(node, "node"), srv->opt->node_name))
		return 0;
	(void)mp_get_int(node, "workers", 0, INT32_MAX, &f.workers);
	(void)mp_get_int(node, "done", 0, INT64_MAX, &f.done);
	if (rate && (rate->type == MSGPACK_OBJECT_FLOAT64 || rate->type == MSGPACK_OBJECT_FLOAT32))
		f.rate = rate->via.f64;
	else if (rate && rate->type == MSGPACK_OBJECT_POSITIVE_INTEGER)
		f.rate = (double)rate->via.u64;
	all->workers += f.workers;
	all->done += f.done;
	all->rate += f.rate;
	mp_object(out, node);
	return 1;
}

static void one_queue(struct server *srv, const msgpack_object *q, struct buf *out)
{
	int64_t id = 0;
	struct handler *h = NULL;
	if (mp_get_int(q, "handler_id", 0, INT32_MAX, &id) == 1) {
		int key = (int)id;
		HASH_FIND_INT(srv->handlers, &key, h);
	}
	struct share all = {.workers = h ? workers_for(srv, h) : 0,
	                    .done = h ? (int64_t)h->rate.done : 0,
	                    .rate = h ? rate_rounded(&h->rate) : 0};
	const struct share own = all;
	const msgpack_object *nodes = NULL;
	size_t n = mp_get_array(q, "nodes", &nodes) == 1 ? nodes->via.array.size : 0;
	mp_map(out, q->via.map.size + 4u - (nodes != NULL));
	for (uint32_t i = 0; i < q->via.map.size; i++) {
		if (mp_str_eq(&q->via.map.ptr[i].key, "nodes"))
			continue;
		mp_object(out, &q->via.map.ptr[i].key);
		mp_object(out, &q->via.map.ptr[i].val);
	}
	mp_str(out, "nodes");
	size_t mark = mp_array_open(out), shares = 0;
	if (own.workers || own.done)
		shares += put_share(out, srv->opt->node_name, &own);
	for (size_t i = 0; i < n; i++)
		shares += add_share(srv, &nodes->via.array.ptr[i], &all, out);
	mp_array_close(out, mark, shares);
	put_figures(out, &all);
}

void add_queue_workers(struct server *srv, const msgpack_object *answer, struct buf *out)
{
	each_item(srv, answer, "queues", out, one_queue);
}

static bool offered(struct server *srv, const msgpack_object *ns, const msgpack_object *callable)
{
	struct handler *h, *tmp;
	HASH_ITER(hh, srv->handlers, h, tmp)
		if (mp_str_eq(ns, h->ns) && mp_str_eq(callable, h->callable))
			return workers_for(srv, h) > 0;
	return false;
}

/* What the database says of all nodes' workers, but for what those of this one have just begun to offer. */
void add_missing_handlers(struct server *srv, const msgpack_object *answer, struct buf *out)
{
	const msgpack_object *missing = NULL, *ns = mp_get(answer, "namespace");
	bool known = ns && mp_get_array(answer, "missing_handlers", &missing) == 1;
	mp_map(out, answer->via.map.size);
	for (uint32_t i = 0; i < answer->via.map.size; i++) {
		const msgpack_object_kv *kv = &answer->via.map.ptr[i];
		mp_object(out, &kv->key);
		if (!known || &kv->val != missing) {
			mp_object(out, &kv->val);
			continue;
		}
		size_t mark = mp_array_open(out), n = 0;
		for (uint32_t k = 0; k < missing->via.array.size; k++)
			if (!offered(srv, ns, &missing->via.array.ptr[k])) {
				mp_object(out, &missing->via.array.ptr[k]);
				n++;
			}
		mp_array_close(out, mark, n);
	}
}

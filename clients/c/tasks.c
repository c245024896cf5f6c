/* Requests by call: their parameters as structs, their answers as structs or values. */
#include "clients/c/conn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A request being written: a map whose entries are those that were given. */
struct params {
	struct buf b;
	size_t mark, n;
	int rc; /* the first error in a value */
	struct tasker_error err;
};

static void begin(struct params *p, const tasker *t)
{
	*p = (struct params){.rc = 0};
	buf_init(&p->b, t->max_frame);
	p->mark = mp_map_open(&p->b);
}

static void text(struct params *p, const char *key, const char *value)
{
	if (!value)
		return;
	mp_str(&p->b, key);
	mp_str(&p->b, value);
	p->n++;
}

static void number(struct params *p, const char *key, int64_t value)
{
	mp_str(&p->b, key);
	mp_int(&p->b, value);
	p->n++;
}

static void flag(struct params *p, const char *key, bool value)
{
	mp_str(&p->b, key);
	mp_bool(&p->b, value);
	p->n++;
}

static void json(struct params *p, const char *key, const char *value)
{
	if (!value)
		return;
	mp_str(&p->b, key);
	int rc = json_params_(value, &p->b, p->rc < 0 ? NULL : &p->err);
	if (rc < 0 && p->rc == 0) {
		p->rc = rc;
		char path[sizeof p->err.path];
		snprintf(path, sizeof path, "%s", key);
		memcpy(p->err.path, path, sizeof path);
	}
	p->n++;
}

static void texts(struct params *p, const char *key, const char *const *list)
{
	size_t n = 0;
	if (!list)
		return;
	while (list[n])
		n++;
	mp_str(&p->b, key);
	mp_array(&p->b, n);
	for (size_t i = 0; i < n; i++)
		mp_str(&p->b, list[i]);
	p->n++;
}

/* Send what was written and free it. */
static int finish(struct params *p, tasker *t, const char *method, int timeout_ms, tasker_answer **ret,
                  struct tasker_error *err)
{
	int rc = p->rc;
	mp_map_close(&p->b, p->mark, p->n);
	if (rc < 0 && err)
		*err = p->err;
	if (rc == 0)
		rc = call_answer_(t, method, &p->b, timeout_ms, ret, err);
	buf_done(&p->b);
	return rc;
}

static int finish_now(struct params *p, tasker *t, const char *method, tasker_answer **ret,
                      struct tasker_error *err)
{
	return finish(p, t, method, t->call_timeout_ms, ret, err);
}

/* ---- creating ---- */

static void put_task(struct params *p, const struct tasker_task *task)
{
	text(p, "name", task->name);
	text(p, "namespace", task->namespace_name);
	text(p, "version", task->version);
	json(p, "context", task->context);
	text(p, "idempotency_key", task->idempotency_key);
	text(p, "run_at", task->run_at);
	text(p, "initiator", task->initiator);
	text(p, "source_system", task->source_system);
	text(p, "reason", task->reason);
	text(p, "correlation_id", task->correlation_id);
	text(p, "parent_correlation_id", task->parent_correlation_id);
	text(p, "traceparent", task->traceparent);
	text(p, "tracestate", task->tracestate);
	texts(p, "tags", task->tags);
	if (task->priority)
		number(p, "priority", task->priority);
}

static void read_created(const tasker_value *v, struct tasker_created *ret)
{
	const tasker_value *error = tasker_get(v, "error");
	tasker_copy(tasker_get(v, "task_uuid"), ret->task_uuid, sizeof ret->task_uuid);
	tasker_copy(tasker_get(v, "state"), ret->state, sizeof ret->state);
	ret->created = tasker_bool(tasker_get(v, "created"), false);
	if (error)
		tasker_fail_remote_(&ret->error, as_object(error));
}

int tasker_task_create(tasker *t, const struct tasker_task *task, struct tasker_created *ret,
                       struct tasker_error *err)
{
	struct params p;
	tasker_answer *a = NULL;
	begin(&p, t);
	put_task(&p, task);
	int rc = finish_now(&p, t, "task.create", &a, err);
	memset(ret, 0, sizeof *ret);
	if (rc == 0)
		read_created(tasker_answer_value(a), ret);
	tasker_answer_free(a);
	return rc;
}

/* One task as MessagePack, or what is wrong with it into ret->error. */
static bool encode_task(const tasker *t, const struct tasker_task *task, struct params *p,
                        struct tasker_created *ret)
{
	begin(p, t);
	put_task(p, task);
	mp_map_close(&p->b, p->mark, p->n);
	if (p->rc < 0)
		ret->error = p->err;
	else if (p->b.failed || p->b.len + 256 > t->max_frame)
		tasker_fail_(&ret->error, -EMSGSIZE, "too_large", "the task does not fit into a frame");
	return ret->error.rc == 0;
}

/* A request being filled: indexes[i] is the place of its i-th task. */
struct bulk {
	struct buf b;
	size_t mark, n;
	size_t *indexes;
};

static void bulk_begin(struct bulk *k)
{
	buf_reset(&k->b);
	mp_map(&k->b, 1);
	mp_str(&k->b, "tasks");
	k->mark = mp_array_open(&k->b);
	k->n = 0;
}

static int bulk_send(tasker *t, struct bulk *k, struct tasker_created *ret, size_t *refused,
                     struct tasker_error *err)
{
	tasker_answer *a = NULL;
	if (k->n == 0)
		return 0;
	mp_array_close(&k->b, k->mark, k->n);
	int rc = call_answer_(t, "task.create_many", &k->b, t->call_timeout_ms, &a, err);
	const tasker_value *results = tasker_get(tasker_answer_value(a), "results");
	if (rc == 0 && tasker_count(results) != k->n)
		rc = tasker_fail_(err, -EPROTO, "protocol_error", "%zu tasks were sent, and %zu answered",
		                  k->n, tasker_count(results));
	for (size_t i = 0; rc == 0 && i < k->n; i++) {
		struct tasker_created *r = &ret[k->indexes[i]];
		read_created(tasker_item(results, i), r);
		*refused += r->error.rc < 0;
	}
	tasker_answer_free(a);
	bulk_begin(k);
	return rc;
}

static bool bulk_full(const tasker *t, const struct bulk *k, const struct buf *next)
{
	/* Every item takes a byte or more, so this bounds the items as well. */
	size_t max = t->max_frame < t->scan.max_items ? t->max_frame : t->scan.max_items;
	return k->n == t->max_bulk || (k->n > 0 && k->b.len + next->len + 256 > max);
}

static int bulk_all(tasker *t, struct bulk *k, const struct tasker_task *tasks, size_t n,
                    struct tasker_created *ret, size_t *refused, struct tasker_error *err)
{
	int rc = 0;
	bulk_begin(k);
	for (size_t i = 0; i < n && rc == 0; i++) {
		struct params p;
		if (!encode_task(t, &tasks[i], &p, &ret[i])) {
			(*refused)++;
		} else {
			if (bulk_full(t, k, &p.b))
				rc = bulk_send(t, k, ret, refused, err);
			buf_join(&k->b, &p.b);
			k->indexes[k->n++] = i;
		}
		buf_done(&p.b);
	}
	return rc < 0 ? rc : bulk_send(t, k, ret, refused, err);
}

int tasker_task_create_many(tasker *t, const struct tasker_task *tasks, size_t n, struct tasker_created *ret,
                            struct tasker_error *err)
{
	struct bulk k = {.indexes = calloc(t->max_bulk + 1, sizeof *k.indexes)};
	size_t refused = 0;
	if (!k.indexes)
		return tasker_fail_(err, -ENOMEM, "out_of_memory", "out of memory");
	if (n > 0)
		memset(ret, 0, n * sizeof *ret);
	buf_init(&k.b, 0);
	int rc = bulk_all(t, &k, tasks, n, ret, &refused, err);
	buf_done(&k.b);
	free(k.indexes);
	return rc < 0 ? rc : refused > INT32_MAX ? INT32_MAX : (int)refused;
}

/* ---- looking, waiting, cancelling ---- */

int tasker_task_get(tasker *t, const char *task_uuid, bool steps, tasker_answer **ret,
                    struct tasker_error *err)
{
	struct params p;
	begin(&p, t);
	text(&p, "task_uuid", task_uuid);
	flag(&p, "steps", steps);
	return finish_now(&p, t, "task.get", ret, err);
}

/* How much longer than the daemon waits we wait for its answer. */
#define WAIT_GRACE_MS 10000

int tasker_task_wait(tasker *t, const char *task_uuid, int timeout_ms, struct tasker_settled *ret,
                     struct tasker_error *err)
{
	struct params p;
	tasker_answer *a = NULL;
	begin(&p, t);
	text(&p, "task_uuid", task_uuid);
	if (timeout_ms >= 0)
		number(&p, "timeout_ms", timeout_ms);
	int limit = timeout_ms < 0                           ? -1
	            : timeout_ms < INT32_MAX - WAIT_GRACE_MS ? timeout_ms + WAIT_GRACE_MS
	                                                     : timeout_ms;
	int rc = finish(&p, t, "task.wait", limit, &a, err);
	const tasker_value *v = tasker_answer_value(a);
	memset(ret, 0, sizeof *ret);
	tasker_copy(tasker_get(v, "state"), ret->state, sizeof ret->state);
	ret->settled = tasker_bool(tasker_get(v, "settled"), false);
	ret->finished = tasker_bool(tasker_get(v, "finished"), false);
	tasker_answer_free(a);
	return rc;
}

int tasker_task_list(tasker *t, const struct tasker_query *q, tasker_answer **ret, struct tasker_error *err)
{
	static const struct tasker_query all;
	struct params p;
	q = q ? q : &all;
	begin(&p, t);
	text(&p, "namespace", q->namespace_name);
	text(&p, "name", q->name);
	text(&p, "state", q->state);
	text(&p, "tag", q->tag);
	text(&p, "correlation_id", q->correlation_id);
	text(&p, "cursor", q->cursor);
	if (q->limit)
		number(&p, "limit", q->limit);
	return finish_now(&p, t, "task.list", ret, err);
}

int tasker_task_cancel(tasker *t, const char *task_uuid, const char *reason, tasker_answer **ret,
                       struct tasker_error *err)
{
	struct params p;
	begin(&p, t);
	text(&p, "task_uuid", task_uuid);
	text(&p, "reason", reason);
	return finish_now(&p, t, "task.cancel", ret, err);
}

int tasker_task_step(tasker *t, const char *step_uuid, bool history, tasker_answer **ret,
                     struct tasker_error *err)
{
	struct params p;
	begin(&p, t);
	text(&p, "step_uuid", step_uuid);
	flag(&p, "history", history);
	return finish_now(&p, t, "step.get", ret, err);
}

int tasker_template_apply(tasker *t, const char *source, const char *filename, tasker_answer **ret,
                          struct tasker_error *err)
{
	struct params p;
	begin(&p, t);
	text(&p, "source", source);
	text(&p, "filename", filename);
	return finish_now(&p, t, "template.apply", ret, err);
}

/* ---- events ---- */

int tasker_event_publish(tasker *t, const struct tasker_event *e, char *ret_event_id,
                         struct tasker_error *err)
{
	struct params p;
	tasker_answer *a = NULL;
	begin(&p, t);
	text(&p, "name", e->name);
	json(&p, "payload", e->payload);
	text(&p, "namespace", e->namespace_name);
	text(&p, "delivery_mode", e->delivery_mode);
	text(&p, "correlation_id", e->correlation_id);
	text(&p, "fired_by", e->fired_by);
	text(&p, "event_id", e->event_id);
	json(&p, "metadata", e->metadata);
	int rc = finish_now(&p, t, "event.publish", &a, err);
	if (rc == 0 && ret_event_id)
		tasker_copy(tasker_get(tasker_answer_value(a), "event_id"), ret_event_id, 37);
	tasker_answer_free(a);
	return rc;
}

int tasker_event_subscribe(tasker *t, const char *const *patterns, const char *const *namespaces,
                           struct tasker_error *err)
{
	struct params p;
	begin(&p, t);
	texts(&p, "patterns", patterns);
	texts(&p, "namespaces", namespaces);
	return finish_now(&p, t, "event.subscribe", NULL, err);
}

int tasker_event_unsubscribe(tasker *t, const char *const *patterns, struct tasker_error *err)
{
	struct params p;
	begin(&p, t);
	texts(&p, "patterns", patterns);
	return finish_now(&p, t, "event.unsubscribe", NULL, err);
}

int tasker_event_consume(tasker *t, const char *namespace_name, int max, int visibility_ms, int wait_ms,
                         tasker_answer **ret, struct tasker_error *err)
{
	struct params p;
	begin(&p, t);
	text(&p, "namespace", namespace_name);
	number(&p, "max", max > 0 ? max : 1);
	if (visibility_ms)
		number(&p, "visibility_ms", visibility_ms);
	number(&p, "wait_ms", wait_ms > 0 ? wait_ms : 0);
	int limit = t->call_timeout_ms < 0 || wait_ms > INT32_MAX - WAIT_GRACE_MS - t->call_timeout_ms
	                ? -1
	                : t->call_timeout_ms + (wait_ms > 0 ? wait_ms : 0);
	return finish(&p, t, "event.consume", limit, ret, err);
}

static void column(struct params *p, const char *key, const tasker_value *messages, const char *field)
{
	size_t n = tasker_count(messages);
	mp_str(&p->b, key);
	mp_array(&p->b, n);
	for (size_t i = 0; i < n; i++)
		mp_int(&p->b, tasker_int(tasker_get(tasker_item(messages, i), field), 0));
	p->n++;
}

int tasker_event_ack(tasker *t, const char *namespace_name, const tasker_value *messages,
                     struct tasker_error *err)
{
	struct params p;
	if (tasker_count(messages) == 0)
		return 0;
	begin(&p, t);
	text(&p, "namespace", namespace_name);
	column(&p, "ids", messages, "msg_id");
	column(&p, "read_counts", messages, "read_count");
	return finish_now(&p, t, "event.ack", NULL, err);
}

/* Creating tasks, one and many, and cancelling them. */
#include "daemon/server/tasks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "daemon/auth/auth.h"
#include "daemon/base/clock.h"
#include "daemon/base/err.h"
#include "daemon/base/mailbox.h"
#include "daemon/config/options.h"
#include "daemon/core/uuid.h"
#include "daemon/server/admit.h"
#include "daemon/server/bounds.h"
#include "daemon/server/message.h"
#include "daemon/server/metrics.h"
#include "daemon/server/pool.h"
#include "daemon/server/quota.h"
#include "daemon/server/reply.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/server/step_ends.h"
#include "daemon/server/submit.h"
#include "daemon/server/waits.h"
#include "daemon/store/request.h"
#include "protocol/buf.h"
#include "protocol/mp.h"

/* Creating --------------------------------------------------------------------------------------------------------- */

/* A task.create_many under way: the answer is written when the last item is durable. */
struct bulk {
	uint32_t left, n;
	size_t room; /* bytes that details may still take in the answer */
	struct bulk_item {
		struct uuid task;
		char status[24], state[32];
		struct err *err; /* owned, or NULL */
		struct buf details; /* of it */
	} items[];
};

static const char *const option_keys[] =
	{"initiator",      "source_system",         "reason",      "tags",       "priority",
         "correlation_id", "parent_correlation_id", "traceparent", "tracestate", "idempotency_key",
         "run_at",         "requested_at",          "options"};

/* bytes of the answer for one task: an error, with the names of its fields */
#define BULK_ANSWER (sizeof(struct err) + 100u)

static int read_options(const msgpack_object *params, size_t max, struct text *ret, struct err *e)
{
	struct buf b;
	int rc = 0;
	buf_init(&b, 0); /* each of them has its bound, and options that of the context */
	for (size_t i = 0; rc == 0 && i < sizeof option_keys / sizeof *option_keys; i++) {
		const msgpack_object *o = mp_get(params, option_keys[i]);
		if (!o)
			continue;
		buf_printf(&b, "%s\"%s\":", b.len ? "," : "{", option_keys[i]);
		rc = value_to_json(o, option_keys[i], o->type == MSGPACK_OBJECT_MAP ? max : 0, &b, e);
		if (rc == -EMSGSIZE)
			e->limit = "max_context";
	}
	if (rc == 0 && b.len > 0) {
		buf_append_char(&b, '}');
		rc = b.failed;
		ret->n = b.len;
		ret->s = buf_take_text(&b);
	}
	buf_done(&b);
	if (rc == -ENOMEM)
		return err_set(e, rc, "overloaded", "out of memory");
	return rc;
}

static void read_text(const msgpack_object *params, const char *key, const char *fallback, struct text *ret)
{
	const char *p;
	size_t n;
	if (mp_get_str(params, key, &p, &n) == 1)
		text_set(ret, p, n);
	else if (fallback)
		text_set(ret, fallback, strlen(fallback));
}

static int read_create(struct session *s, const msgpack_object *params, struct req_create *q, struct err *e)
{
	const msgpack_object *context = mp_get(params, "context");
	uint8_t rnd[16];
	struct buf b;
	int rc = 0;
	if (getrandom(rnd, sizeof rnd, 0) != (ssize_t)sizeof rnd)
		return err_set(e, -EIO, "internal", "no random numbers");
	q->task = uuid_for_task(now_wall() / USEC_PER_MSEC, rnd);
	read_text(params, "namespace", "default", &q->ns);
	read_text(params, "name", NULL, &q->name);
	read_text(params, "version", NULL, &q->version);
	buf_init(&b, s->srv->opt->max_context);
	if (context)
		rc = value_to_json(context, "context", s->srv->opt->max_context, &b, e);
	if (rc == -EMSGSIZE)
		e->limit = "max_context";
	if (!context)
		buf_append_str(&b, "{}");
	if (rc == 0) {
		q->context.n = b.len;
		q->context.s = buf_take_text(&b);
		rc = q->context.s && q->ns.s && q->name.s ? 0 : err_set(e, -ENOMEM, "overloaded", "out of memory");
	}
	buf_done(&b);
	return rc < 0 ? rc : read_options(params, s->srv->opt->max_context, &q->opts, e);
}

static void reply_created(struct buf *b, const struct uuid *task, const char *status, const char *state)
{
	char uuid[UUID_TEXT];
	uuid_format(task, uuid);
	mp_map(b, 3);
	mp_str(b, "task_uuid");
	mp_str(b, uuid);
	mp_str(b, "created");
	mp_bool(b, strcmp(status, "created") == 0);
	mp_str(b, "state");
	mp_str(b, state);
}

void on_task_create(struct session *s, uint32_t id, const msgpack_object *params)
{
	struct err e = {0};
	struct req *r = req_for(s, id, REQ_CREATE);
	if (!r)
		return;
	if (read_create(s, params, &r->create, &e) < 0) {
		reply_error(s, id, &e);
		req_free(r);
		return;
	}
	pool_lend_any(s->srv, r, 16); /* roots of one task; what is not used comes back */
	quota_submit(s, r);
}

static void bulk_free(struct bulk *b)
{
	for (uint32_t i = 0; i < b->n; i++) {
		free(b->items[i].err);
		buf_done(&b->items[i].details);
	}
	free(b);
}

/* One of its requests will not be answered. */
static void bulk_unref(void *arg)
{
	struct bulk *b = arg;
	if (--b->left == 0)
		bulk_free(b);
}

static void bulk_fail(struct bulk *b, uint32_t i, const struct err *e)
{
	b->items[i].err = malloc(sizeof *e);
	if (b->items[i].err)
		*b->items[i].err = *e;
}

/* The details of an error go along while they fit; its text names the first violation in any case. */
static void bulk_details(struct bulk *b, uint32_t i, struct buf *details)
{
	if (details->failed || details->len + 16 > b->room)
		return;
	b->room -= details->len + 16;
	b->items[i].details = *details;
	buf_init(details, 0);
}

static void bulk_reply(struct session *s, uint32_t id, const struct bulk *b)
{
	static const struct err no_memory = {.code = "overloaded", .text = "out of memory"};
	size_t mark = reply_begin(s, id);
	mp_map(&s->wire.out, 1);
	mp_str(&s->wire.out, "results");
	mp_array(&s->wire.out, b->n);
	for (uint32_t i = 0; i < b->n; i++) {
		const struct bulk_item *it = &b->items[i];
		if (it->status[0]) {
			reply_created(&s->wire.out, &it->task, it->status, it->state);
			continue;
		}
		mp_map(&s->wire.out, 1);
		mp_str(&s->wire.out, "error");
		write_error_details(&s->wire.out, it->err ? it->err : &no_memory, &it->details);
	}
	reply_end(s, mark);
}

/* An error in a field is one in a field of an item. */
static void place_in_bulk(struct err *e, uint32_t item)
{
	char path[sizeof e->path];
	if (!e->path[0] || strncmp(e->path, "tasks[", 6) == 0)
		return;
	snprintf(path, sizeof path, "tasks[%u].%.*s", (unsigned)item, (int)sizeof path - 20, e->path);
	memcpy(e->path, path, sizeof path);
}

/* One item of a bulk on its way. False: it failed at once, its error is kept. */
static bool bulk_submit(struct session *s, uint32_t id, struct bulk *b, uint32_t i, const msgpack_object *item)
{
	struct err e = {0};
	char prefix[32];
	snprintf(prefix, sizeof prefix, "tasks[%u].", i);
	struct req *r = req_new(REQ_CREATE, (struct origin){.session = s->id, .request = id, .item = i});
	int rc = r ? 0 : err_set(&e, -ENOMEM, "overloaded", "out of memory");
	if (rc == 0 && item->type != MSGPACK_OBJECT_MAP)
		rc = err_set(&e, -EINVAL, "bad_request", "tasks[%u] must be a map", i);
	if (rc == 0)
		rc = check_create_params(item, prefix, &e);
	if (rc == 0)
		rc = read_create(s, item, &r->create, &e);
	if (rc == 0)
		rc = admit_namespace(s, MSG_TASK_CREATE_MANY, r->create.ns.s, r->create.ns.n, &e);
	if (rc < 0) {
		place_in_bulk(&e, i);
		bulk_fail(b, i, &e);
		req_free(r);
		return false;
	}
	r->user = b;
	r->user_free = bulk_unref;
	if (i == 0)
		pool_lend_any(s->srv, r, (unsigned)s->srv->opt->batch_max);
	b->left++;
	quota_submit(s, r);
	return true;
}

unsigned bulk_max(const struct options *opt)
{
	size_t fit = opt->max_frame / BULK_ANSWER;
	return fit < BULK_MAX ? (unsigned)fit : BULK_MAX;
}

void on_task_create_many(struct session *s, uint32_t id, const msgpack_object *params)
{
	const msgpack_object *a = mp_get(params, "tasks");
	struct err e = {0};
	uint32_t n = a->via.array.size, max = bulk_max(s->srv->opt);
	if (n > max) {
		err_limit(&e, 0, "max_bulk", max, "at most %u tasks in one task.create_many, there are %u",
		          (unsigned)max, (unsigned)n);
		snprintf(e.path, sizeof e.path, "tasks");
		reply_error(s, id, &e);
		return;
	}
	struct bulk *b = calloc(1, sizeof *b + n * sizeof *b->items);
	int rc = b ? may_submit(s->srv, REQ_CREATE, &e) : err_set(&e, -ENOMEM, "overloaded", "out of memory");
	if (rc == 0)
		rc = quota_may_ask(s, &e);
	if (rc < 0) {
		reply_error(s, id, &e);
		free(b);
		return;
	}
	b->n = n;
	b->room = s->srv->opt->max_frame - n * BULK_ANSWER;
	for (uint32_t i = 0; i < n; i++)
		bulk_submit(s, id, b, i, &a->via.array.ptr[i]);
	if (b->left == 0) {
		bulk_reply(s, id, b);
		bulk_free(b);
	}
}

/* A create's outcome as an error, or 0. */
static int create_error(const struct req *r, struct err *e)
{
	if (r->failed) {
		*e = r->err;
		return -EIO;
	}
	if (strcmp(r->status, "created") == 0 || strcmp(r->status, "exists") == 0)
		return 0;
	if (strcmp(r->status, "template_not_found") == 0)
		return err_set(e, -ENOENT, "template_not_found", "no template %s/%s%s%s is registered", r->create.ns.s,
		               r->create.name.s, r->create.version.s ? " version " : "",
		               r->create.version.s ? r->create.version.s : "");
	if (strcmp(r->status, "key_required") == 0)
		return err_set(e, -EINVAL, "bad_request",
		               "the template's identity_strategy is caller_provided: idempotency_key is required");
	return err_set(e, -EEXIST, "conflict", "a task with this identity exists with another template or context");
}

static void bulk_answered(struct server *srv, struct req *r)
{
	struct bulk *b = r->user;
	struct bulk_item *it = &b->items[r->origin.item];
	struct err e = {0};
	if (create_error(r, &e) < 0) {
		bulk_fail(b, r->origin.item, &e);
		bulk_details(b, r->origin.item, &r->answer);
	} else {
		it->task = r->task;
		snprintf(it->status, sizeof it->status, "%s", r->status);
		snprintf(it->state, sizeof it->state, "%s", r->state);
	}
	if (--b->left > 0)
		return;
	struct session *s = session_find(srv, r->origin.session);
	if (s && session_speaks(s))
		bulk_reply(s, r->origin.request, b);
	bulk_free(b);
}


void create_answered(struct server *srv, struct req *r)
{
	struct err e = {0};
	metrics_created(srv, r);
	if (r->user) {
		bulk_answered(srv, r);
		return;
	}
	struct session *s = session_find(srv, r->origin.session);
	if (!s || !session_speaks(s))
		return;
	if (create_error(r, &e) < 0) {
		size_t refusal = error_begin(s, r->origin.request);
		write_error_details(&s->wire.out, &e, &r->answer);
		error_end(s, refusal);
		return;
	}
	if (r->handed_over)
		task_begun(srv, &r->task);
	size_t mark = reply_begin(s, r->origin.request);
	reply_created(&s->wire.out, &r->task, r->status, r->state);
	reply_end(s, mark);
}

/* Cancelling ------------------------------------------------------------------------------------------------------- */

void on_task_cancel(struct session *s, uint32_t id, const msgpack_object *params)
{
	const char *p = "";
	size_t n = 0;
	char who[PRINCIPAL_NAME_MAX + 8];
	struct req *r = req_for(s, id, REQ_CANCEL);
	if (!r)
		return;
	(void)!mp_get_str(params, "task_uuid", &p, &n);
	(void)!uuid_parse(p, n, &r->cancel.task);
	if (mp_get_str(params, "reason", &p, &n) == 1)
		text_set(&r->cancel.reason, p, n);
	if (s->who.principal[0])
		snprintf(who, sizeof who, "user:%s", s->who.principal);
	else
		snprintf(who, sizeof who, "uid:%u pid:%d", (unsigned)s->who.uid, (int)s->who.pid);
	text_set(&r->cancel.operator_name, who, strlen(who));
	submit_call(s, r);
}

const char API_CANCEL_GET[] = "tasker.api_task_get"; /* told from task.get by its address */
const char API_CANCEL_REST[] = "tasker.api_task_cancel_rest";

void cancel_answered(struct server *srv, struct req *r)
{
	struct session *s = session_find(srv, r->origin.session);
	char uuid[UUID_TEXT];
	if (!r->failed && strcmp(r->status, "cancelled") == 0)
		steps_cancelled(srv, &r->cancel.task, "task_cancelled");
	if (!s || !session_speaks(s))
		return;
	uuid_format(&r->cancel.task, uuid);
	if (r->failed) {
		reply_error(s, r->origin.request, &r->err);
	} else if (strcmp(r->status, "not_found") == 0) {
		reply_errorf(s, r->origin.request, "not_found", "task_uuid", "no task %s", uuid);
	} else if (strcmp(r->status, "conflict") == 0) {
		reply_errorf(s, r->origin.request, "conflict", NULL, "task %s is finished: %s", uuid, r->state);
	} else if (strcmp(r->status, "busy") == 0) {
		reply_errorf(s, r->origin.request, "conflict", NULL,
		             "task %s is large, and an action on it is under way: %s", uuid, r->state);
	} else {
		bool begun = strcmp(r->status, "begun") == 0; /* and is to be gone on with */
		struct req *get = req_for(s, r->origin.request, REQ_API);
		char args[120];
		if (!get)
			return;
		int n = snprintf(args, sizeof args, "{\"task_uuid\":\"%s\",\"lenient\":true,\"after_action\":true}",
		                 uuid);
		text_set(&get->api.args, args, (size_t)n);
		get->api.function = begun ? API_CANCEL_REST : API_CANCEL_GET;
		get->api.mode = begun ? API_WRITE : API_READ;
		submit_call(s, get);
	}
}

/* Requests that are one SQL function: the parameters go in as JSON, and what comes out is the answer. */
#include "daemon/server/api.h"

#include <errno.h>
#include <string.h>
#include "daemon/base/err.h"
#include "daemon/base/log.h"
#include "daemon/server/admit.h"
#include "daemon/server/bounds.h"
#include "daemon/server/consume.h"
#include "daemon/server/hangs.h"
#include "daemon/server/known_here.h"
#include "daemon/server/metrics.h"
#include "daemon/server/operate.h"
#include "daemon/server/publish.h"
#include "daemon/server/recording.h"
#include "daemon/server/reply.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/server/submit.h"
#include "daemon/server/tasks.h"
#include "daemon/server/templates.h"
#include "daemon/server/tokens.h"
#include "daemon/server/watch.h"
#include "daemon/server/workers.h"
#include "daemon/store/request.h"
#include "protocol/buf.h"
#include "protocol/mp.h"
#include "protocol/mpjson.h"
#include "protocol/msg.h"
#include "protocol/scan.h"

/* What goes into the request besides the parameters: members for the map of arguments, with a comma before each. 0 or
 * negative with *e. */
typedef int prepare_fn(struct session *s, const msgpack_object *params, struct req *r, struct buf *members,
                       struct err *e);

/* Requests that are one SQL function: parameters in as JSON, answer out. */
static const struct api {
	enum msg_id msg;
	const char *function;
	transform_fn *transform; /* adds what only this process knows; NULL: nothing */
	enum { LOOKS, ACTS } does; /* ACTS: and is told who asks, see operate.c */
	prepare_fn *prepare; /* NULL: nothing more than the parameters */
} apis[] = {
	{MSG_TASK_GET, "tasker.api_task_get", add_missing_handlers, LOOKS, NULL},
	{MSG_TASK_ACTION, "tasker.api_task_action", add_missing_handlers, ACTS, NULL},
	{MSG_TASK_BULK_ACTION, "tasker.api_task_bulk_action", NULL, ACTS, NULL},
	{MSG_STEP_GET, "tasker.api_step_get", NULL, LOOKS, NULL},
	{MSG_TASK_SUMMARY, "tasker.api_task_summary", NULL, LOOKS, NULL},
	{MSG_STEP_AUDIT, "tasker.api_step_audit", NULL, LOOKS, NULL},
	{MSG_STEP_REPLAY, "tasker.api_step_replay", NULL, LOOKS, NULL},
	{MSG_STEP_ACTION, "tasker.api_step_action", NULL, ACTS, NULL},
	{MSG_STEP_BULK_ACTION, "tasker.api_step_bulk_action", NULL, ACTS, NULL},
	{MSG_NAMESPACE_LIST, "tasker.api_namespace_list", NULL, LOOKS, NULL},
	{MSG_NAMESPACE_PAUSE, "tasker.api_namespace_pause", NULL, ACTS, NULL},
	{MSG_NAMESPACE_RESUME, "tasker.api_namespace_resume", NULL, ACTS, NULL},
	{MSG_TASK_LIST, "tasker.api_task_list", NULL, LOOKS, NULL},
	{MSG_TASK_HISTORY, "tasker.api_task_history", NULL, LOOKS, NULL},
	{MSG_TEMPLATE_LIST, "tasker.api_template_list", NULL, LOOKS, NULL},
	{MSG_TEMPLATE_GET, "tasker.api_template_get", NULL, LOOKS, NULL},
	{MSG_WORKER_LIST, "tasker.api_worker_list", add_worker_load, LOOKS, NULL},
	{MSG_WORKER_GET, "tasker.api_worker_get", add_worker_steps, LOOKS, NULL},
	{MSG_WORKER_DRAIN, API_WORKER_DRAIN, add_worker_steps, ACTS, NULL},
	{MSG_NODE_LIST, "tasker.api_node_list", NULL, LOOKS, NULL},
	{MSG_QUEUE_LIST, "tasker.api_queue_list", add_queue_workers, LOOKS, NULL},
	{MSG_QUEUE_PURGE, "tasker.api_queue_purge", NULL, ACTS, NULL},
	{MSG_STATS, "tasker.api_stats", NULL, LOOKS, NULL},
	{MSG_ANALYTICS, "tasker.api_analytics", NULL, LOOKS, NULL},
	{MSG_ANALYTICS_PERFORMANCE, "tasker.api_analytics_performance", NULL, LOOKS, NULL},
	{MSG_ANALYTICS_BOTTLENECKS, "tasker.api_analytics_bottlenecks", NULL, LOOKS, NULL},
	{MSG_TASK_RESTORE, "tasker.api_task_restore", NULL, ACTS, NULL},
	{MSG_DOCTOR, "tasker.api_doctor", hangs_add_check, LOOKS, NULL},
	{MSG_NAMESPACE_RETENTION, "tasker.api_namespace_retention", NULL, ACTS, NULL},
	{MSG_AUDIT_LIST, "tasker.api_audit_list", NULL, LOOKS, NULL},
	{MSG_DLQ_LIST, "tasker.api_dlq_list", NULL, LOOKS, NULL},
	{MSG_DLQ_GET, "tasker.api_dlq_get", NULL, LOOKS, NULL},
	{MSG_DLQ_STATS, "tasker.api_dlq_stats", NULL, LOOKS, NULL},
	{MSG_DLQ_QUEUE, "tasker.api_dlq_queue", NULL, LOOKS, NULL},
	{MSG_DLQ_ADD, "tasker.api_dlq_add", NULL, ACTS, NULL},
	{MSG_DLQ_UPDATE, "tasker.api_dlq_update", NULL, ACTS, NULL},
	{MSG_DLQ_REDRIVE, "tasker.api_dlq_redrive", NULL, ACTS, NULL},
	{MSG_DLQ_STALENESS, "tasker.api_dlq_staleness", NULL, LOOKS, NULL},
	{MSG_EVENT_LIST, "tasker.api_event_list", NULL, LOOKS, NULL},
	{MSG_TOKEN_CREATE, API_TOKEN_CREATE, NULL, ACTS, token_prepare},
	{MSG_TOKEN_LIST, "tasker.api_token_list", NULL, LOOKS, NULL},
	{MSG_TOKEN_REVOKE, "tasker.api_token_revoke", NULL, ACTS, NULL},
};

int api_args_from_mp(struct req *r, const struct buf *b, struct server *srv)
{
	struct mp_value v;
	struct mpjson_error je;
	struct buf json;
	if (b->failed || mp_decode(b->data, b->len, &v) < 0)
		return -ENOMEM;
	buf_init(&json, 0);
	int rc = mp_to_json(&v.root, "", &json, &je);
	if (rc == 0 && srv) { /* a node name is of letters, digits, dot, dash and underscore */
		json.len--;
		buf_printf(&json, "%s\"node\":\"%s\"}", json.len > 1 ? "," : "", srv->opt->node_name);
	}
	if (rc == 0 && buf_text(&json))
		text_set(&r->api.args, buf_text(&json), json.len);
	if (rc == 0 && !r->api.args.s)
		rc = -ENOMEM;
	buf_done(&json);
	mp_value_done(&v);
	return rc;
}

static int act_args(struct session *s, const struct api *a, const msgpack_object *params, struct req *r,
                    struct buf *json, struct err *e)
{
	int rc = operate_args(s, params, json, e);
	if (rc < 0 || !a->prepare)
		return rc;
	json->len--; /* the closing bracket */
	rc = a->prepare(s, params, r, json, e);
	buf_append_char(json, '}');
	return rc;
}

void api_submit(struct session *s, uint32_t id, enum msg_id m, const msgpack_object *params)
{
	const struct api *a = NULL;
	struct buf json;
	for (size_t i = 0; i < sizeof apis / sizeof *apis; i++)
		if (apis[i].msg == m)
			a = &apis[i];
	struct req *r = a ? req_for(s, id, REQ_API) : NULL;
	if (!r)
		return;
	struct err e = {0};
	buf_init(&json, 0);
	if (a->does == ACTS && act_args(s, a, params, r, &json, &e) < 0) {
		reply_error(s, id, &e);
		req_free(r);
		buf_done(&json);
		return;
	}
	if ((a->does == LOOKS && mp_to_json(params, "", &json, NULL) < 0) || !buf_text(&json) || json.len == 0) {
		reply_errorf(s, id, "overloaded", NULL, "out of memory"); /* the values have been checked */
	} else {
		admit_put_within(s, m, &json);
		text_set(&r->api.args, buf_text(&json), json.len);
		r->api.function = a->function;
		r->api.mode = a->does == LOOKS ? API_READ : API_WRITE;
		submit_call(s, r);
		r = NULL;
	}
	req_free(r);
	buf_done(&json);
}

static const struct api *api_of(const char *function)
{
	for (size_t i = 0; i < sizeof apis / sizeof *apis; i++)
		if (strcmp(apis[i].function, function) == 0)
			return &apis[i];
	return NULL;
}

/* 0 if the answer fits into a frame; else negative with *e. */
static int check_fits(const struct session *s, const struct buf *answer, struct err *e)
{
	static const char hint[] = "ask for less: task.get with steps false, a list with a smaller limit";
	size_t max = s->srv->opt->max_frame;
	if (answer->failed)
		return err_set(e, -ENOMEM, "overloaded", "out of memory");
	if (answer->len + ANSWER_OVERHEAD > max)
		return err_limit(e, -EMSGSIZE, "max_frame", max,
		                 "the answer of %zu bytes is larger than a frame may be; %s", answer->len, hint);
	if (answer->len + ANSWER_OVERHEAD > ITEMS_MAX &&
	    scan_count(answer->data, answer->len) + ANSWER_OVERHEAD > ITEMS_MAX)
		return err_limit(e, -EMSGSIZE, "max_items", ITEMS_MAX,
		                 "the answer holds more items than a frame may; %s", hint);
	return 0;
}

bool reply_answer(struct session *s, uint32_t id, const struct buf *answer)
{
	struct err e = {0};
	if (check_fits(s, answer, &e) < 0) {
		reply_error(s, id, &e);
		return false;
	}
	size_t mark = reply_begin(s, id);
	buf_join(&s->wire.out, answer);
	reply_end(s, mark);
	return true;
}

/* A task object, or a map that holds one as its `task`, without the steps. */
static void copy_without_steps(struct buf *out, const msgpack_object *map)
{
	mp_map(out, map->via.map.size - (mp_get(map, "steps") != NULL));
	for (uint32_t i = 0; i < map->via.map.size; i++) {
		const msgpack_object_kv *kv = &map->via.map.ptr[i];
		if (mp_str_eq(&kv->key, "steps"))
			continue;
		mp_object(out, &kv->key);
		if (mp_str_eq(&kv->key, "task") && kv->val.type == MSGPACK_OBJECT_MAP)
			copy_without_steps(out, &kv->val);
		else
			mp_object(out, &kv->val);
	}
}

/* What was done is not to be answered with an error because the task has many steps. */
static bool reply_done(struct session *s, uint32_t id, const struct buf *answer)
{
	struct err e;
	struct mp_value v;
	struct buf shorter;
	if (check_fits(s, answer, &e) == 0 || mp_decode(answer->data, answer->len, &v) < 0)
		return reply_answer(s, id, answer);
	buf_init(&shorter, 0);
	copy_without_steps(&shorter, &v.root);
	mp_value_done(&v);
	bool fits = reply_answer(s, id, &shorter);
	buf_done(&shorter);
	return fits;
}

typedef bool reply_fn(struct session *s, uint32_t id, const struct buf *answer);

static bool reply_transformed(struct session *s, struct req *r, transform_fn *transform, reply_fn *reply)
{
	struct mp_value v;
	struct buf full;
	if (!transform || mp_decode(r->answer.data, r->answer.len, &v) < 0)
		return reply(s, r->origin.request, &r->answer);
	buf_init(&full, 0);
	transform(s->srv, &v.root, &full);
	mp_value_done(&v);
	bool fits = reply(s, r->origin.request, &full);
	buf_done(&full);
	return fits;
}

bool reply_task(struct session *s, struct req *r)
{
	return reply_transformed(s, r, add_missing_handlers, reply_done);
}

void api_answered(struct server *srv, struct req *r)
{
	static const struct {
		const char *function;
		void (*fn)(struct server *srv, struct req *r);
	} inner[] = {{API_ATTEMPT_STATUS, late_result_answered},
	             {API_TASK_EVENTS, watch_answered},
	             {API_WATCH_GET, watch_answered},
	             {API_TEMPLATE_REGISTER, template_applied},
	             {API_EVENT_PUBLISH, event_publish_answered},
	             {API_EVENT_CONSUME, consume_answered},
	             {API_EVENT_RETURN, NULL},
	             {API_NAMESPACES_OF, namespaces_answered},
	             {API_TOKEN_CREATE, token_created},
	             {API_TOKEN_SYNC, tokens_synced},
	             {API_METRICS, metrics_answered}};
	for (size_t i = 0; i < sizeof inner / sizeof *inner; i++)
		if (r->api.function == inner[i].function) {
			if (inner[i].fn)
				inner[i].fn(srv, r);
			return;
		}
	struct session *s = r->origin.session ? session_find(srv, r->origin.session) : NULL;
	const struct api *a = api_of(r->api.function);
	if (r->failed && !r->origin.session)
		log_warn("%s: %s", r->api.function, r->err.text);
	if (!s || !session_speaks(s))
		return;
	if (r->failed) {
		if (strcmp(r->err.code, "too_large") == 0) { /* the database does not know these limits */
			r->err.limit = "max_items";
			r->err.max = ITEMS_MAX;
		}
		reply_error(s, r->origin.request, &r->err);
		return;
	}
	bool acts = a && a->does == ACTS;
	if (r->api.function == API_WORKER_DRAIN)
		worker_drain_answered(srv, &r->answer);
	reply_transformed(s, r, a ? a->transform : NULL,
	                  acts || r->api.function == API_CANCEL_GET || r->api.function == API_CANCEL_REST
	                          ? reply_done
	                          : reply_answer);
	if (acts)
		operated(srv, &r->answer);
}

/* Requests answered by one query or from memory, and templates. */
#include "daemon/server/impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "protocol/mpjson.h"
#include "protocol/scan.h"
#include "protocol/utf8.h"

static transform_fn add_queue_workers, add_missing_handlers;

/* What goes into the request besides the parameters: members for the map of arguments, with a comma before each. 0 or negative with *e. */
typedef int prepare_fn(struct session *s, const msgpack_object *params, struct req *r, struct buf *members, struct err *e);

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

void on_ping(struct session *s, uint32_t id, const msgpack_object *params)
{
	(void)params;
	size_t mark = reply_begin(s, id);
	mp_map(&s->out, 0);
	reply_end(s, mark);
}

static int act_args(struct session *s, const struct api *a, const msgpack_object *params, struct req *r, struct buf *json, struct err *e)
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
		return err_limit(e, -EMSGSIZE, "max_frame", max, "the answer of %zu bytes is larger than a frame may be; %s", answer->len, hint);
	if (answer->len + ANSWER_OVERHEAD > ITEMS_MAX && scan_count(answer->data, answer->len) + ANSWER_OVERHEAD > ITEMS_MAX)
		return err_limit(e, -EMSGSIZE, "max_items", ITEMS_MAX, "the answer holds more items than a frame may; %s", hint);
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
	buf_join(&s->out, answer);
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
	} inner[] = {{API_ATTEMPT_STATUS, late_result_answered}, {API_TASK_EVENTS, watch_answered}, {API_WATCH_GET, watch_answered}, {API_TEMPLATE_REGISTER, template_applied},
		     {API_EVENT_PUBLISH, event_publish_answered}, {API_EVENT_CONSUME, consume_answered}, {API_EVENT_RETURN, NULL}, {API_NAMESPACES_OF, namespaces_answered}, {API_TOKEN_CREATE, token_created}, {API_TOKEN_SYNC, tokens_synced}, {API_METRICS, metrics_answered}};
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
	reply_transformed(s, r, a ? a->transform : NULL, acts || r->api.function == API_CANCEL_GET ? reply_done : reply_answer);
	if (acts)
		operated(srv, &r->answer);
}

/* What only this process knows --------------------------------------------------------------------------------------------- */

void copy_map(struct buf *out, const msgpack_object *map, uint32_t more)
{
	mp_map(out, map->via.map.size + more);
	for (uint32_t i = 0; i < map->via.map.size; i++) {
		mp_object(out, &map->via.map.ptr[i].key);
		mp_object(out, &map->via.map.ptr[i].val);
	}
}

void each_item(struct server *srv, const msgpack_object *answer, const char *key, struct buf *out, transform_fn *fn)
{
	const msgpack_object *a = mp_get(answer, key);
	mp_map(out, 1);
	mp_str(out, key);
	mp_array(out, a ? a->via.array.size : 0);
	for (uint32_t i = 0; a && i < a->via.array.size; i++)
		fn(srv, &a->via.array.ptr[i], out);
}

static unsigned workers_for(struct server *srv, const struct handler *h)
{
	struct session *s, *tmp;
	unsigned n = 0;
	HASH_ITER(hh, srv->sessions, s, tmp)
		n += s->worker && s->state == SESSION_OPEN && handler_matches(s, h);
	return n;
}

static void one_queue(struct server *srv, const msgpack_object *q, struct buf *out)
{
	int64_t id = 0;
	struct handler *h = NULL;
	if (mp_get_int(q, "handler_id", 0, INT32_MAX, &id) == 1) {
		int key = (int)id;
		HASH_FIND_INT(srv->handlers, &key, h);
	}
	copy_map(out, q, 3);
	mp_str(out, "workers");
	mp_uint(out, h ? workers_for(srv, h) : 0);
	mp_str(out, "done");
	mp_uint(out, h ? h->rate.done : 0);
	mp_str(out, "rate");
	mp_double(out, h ? rate_rounded(&h->rate) : 0);
}

static void add_queue_workers(struct server *srv, const msgpack_object *answer, struct buf *out)
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

static int by_text(const void *a, const void *b)
{
	const msgpack_object_str *x = &(*(const msgpack_object *const *)a)->via.str, *y = &(*(const msgpack_object *const *)b)->via.str;
	int order = memcmp(x->ptr, y->ptr, x->size < y->size ? x->size : y->size);
	return order ? order : (x->size > y->size) - (x->size < y->size);
}

/* The callables of steps that wait in a queue, sorted. Returns how many. */
static size_t waiting_callables(const msgpack_object_array *steps, const msgpack_object **ret)
{
	size_t n = 0;
	for (uint32_t i = 0; i < steps->size; i++) {
		const msgpack_object *callable = mp_get(&steps->ptr[i], "handler");
		if (callable && callable->type == MSGPACK_OBJECT_STR && callable->via.str.size > 0 && mp_str_eq(mp_get(&steps->ptr[i], "state"), "enqueued"))
			ret[n++] = callable;
	}
	qsort(ret, n, sizeof *ret, by_text);
	return n;
}

static void add_missing_handlers(struct server *srv, const msgpack_object *answer, struct buf *out)
{
	const msgpack_object *steps = NULL, *ns = mp_get(answer, "namespace");
	copy_map(out, answer, 1);
	mp_str(out, "missing_handlers");
	size_t mark = mp_array_open(out), n = 0;
	const msgpack_object **waiting = ns && mp_get_array(answer, "steps", &steps) == 1 ? calloc(steps->via.array.size + 1u, sizeof *waiting) : NULL;
	size_t n_waiting = waiting ? waiting_callables(&steps->via.array, waiting) : 0;
	for (size_t i = 0; i < n_waiting; i++)
		if ((i == 0 || by_text(&waiting[i - 1], &waiting[i]) != 0) && !offered(srv, ns, waiting[i])) {
			mp_object(out, waiting[i]);
			n++;
		}
	free(waiting);
	mp_array_close(out, mark, n);
}

/* server.info ------------------------------------------------------------------------------------------------------------ */

const char *database_state(const struct server *srv)
{
	return !srv->ever_up ? "waiting" : !srv->db_up ? "lost" : srv->db_stuck[0] ? "stuck" : srv->adopted ? "up" : "waiting";
}

static void write_database(struct server *srv, struct buf *out)
{
	const char *error = !srv->db_up ? srv->db_error : srv->db_stuck;
	mp_str(out, "database");
	mp_map(out, error[0] ? 6 : 5);
	mp_str(out, "state");
	mp_str(out, database_state(srv));
	mp_str(out, "version");
	mp_int(out, srv->db_server_version);
	mp_str(out, "schema");
	mp_int(out, srv->db_schema_version);
	mp_str(out, "pgmq");
	mp_str(out, srv->db_pgmq);
	hangs_write(srv, out);
	if (error[0]) {
		mp_str(out, "error");
		mp_str(out, error);
	}
}

void on_server_info(struct session *s, uint32_t id, const msgpack_object *params)
{
	struct server *srv = s->srv;
	struct store_stats st;
	(void)params;
	store_get_stats(srv->store, &st);
	const struct {
		const char *name;
		uint64_t v;
	} counters[] = {{"frames", srv->c_frames}, {"steps_sent", srv->c_steps_sent}, {"results", srv->c_results}, {"workers_lost_steps", srv->c_lost}, {"timeouts", srv->c_timeouts},
			{"protocol_errors", srv->c_protocol_errors}, {"denied", srv->c_denied}, {"events_queued", srv->c_events_queued}, {"events_fast", srv->c_events_fast}, {"events_pushed", srv->c_events_pushed},
			{"events_lost", srv->c_events_lost}, {"events_refused", srv->c_events_refused}, {"batches", st.batches}, {"recorded", st.results}, {"created", st.creates}, {"claims", st.claims}, {"queries", st.api},
			{"database_reconnects", st.reconnects}, {"database_retries", st.retries}};
	size_t mark = reply_begin(s, id);
	mp_map(&s->out, 9);
	mp_str(&s->out, "server");
	mp_str(&s->out, "taskerd");
	mp_str(&s->out, "version");
	mp_str(&s->out, TASKERD_VERSION);
	mp_str(&s->out, "protocol");
	mp_array(&s->out, 2);
	mp_uint(&s->out, PROTOCOL_MAJOR);
	mp_uint(&s->out, PROTOCOL_MINOR);
	mp_str(&s->out, "node");
	mp_str(&s->out, srv->opt->node_name);
	mp_str(&s->out, "pid");
	mp_int(&s->out, getpid());
	mp_str(&s->out, "uptime_ms");
	mp_uint(&s->out, (now_mono() - srv->started) / USEC_PER_MSEC);
	write_database(srv, &s->out);
	mp_str(&s->out, "counters");
	mp_map(&s->out, sizeof counters / sizeof *counters);
	for (size_t i = 0; i < sizeof counters / sizeof *counters; i++) {
		mp_str(&s->out, counters[i].name);
		mp_uint(&s->out, counters[i].v);
	}
	mp_str(&s->out, "sessions");
	mp_uint(&s->out, srv->n_sessions);
	reply_end(s, mark);
}

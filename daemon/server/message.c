/* From bytes to calls: scan, decode, check the envelope, check the parameters against their table, call the message's function. */
#include "daemon/server/impl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "daemon/server/params.h"
#include "protocol/envelope.h"
#include "protocol/frame.h"
#include "protocol/mpjson.h"
#include "protocol/scan.h"
#include "protocol/utf8.h"

/* A message without a function is one SQL function: info.c. */
static msg_fn *const functions[MSG_COUNT] = {
	[MSG_HELLO] = on_hello,
	[MSG_PING] = on_ping,
	[MSG_SESSION_RESUME] = on_session_resume,
	[MSG_STEP_DEPENDENCIES] = on_step_dependencies,
	[MSG_STEP_CHECKPOINT] = on_step_checkpoint,
	[MSG_TASK_CREATE] = on_task_create,
	[MSG_TASK_CREATE_MANY] = on_task_create_many,
	[MSG_TASK_WAIT] = on_task_wait,
	[MSG_TASK_WATCH] = on_task_watch,
	[MSG_TASK_UNWATCH] = on_task_unwatch,
	[MSG_TASK_CANCEL] = on_task_cancel,
	[MSG_TEMPLATE_APPLY] = on_template_apply,
	[MSG_TEMPLATE_VALIDATE] = on_template_validate,
	[MSG_SERVER_INFO] = on_server_info,
	[MSG_SERVER_CONFIG] = on_server_config,
	[MSG_SERVER_METRICS] = on_server_metrics,
	[MSG_EVENT_SUBSCRIBE] = on_event_subscribe,
	[MSG_EVENT_UNSUBSCRIBE] = on_event_unsubscribe,
	[MSG_EVENT_PUBLISH] = on_event_publish,
	[MSG_EVENT_CONSUME] = on_event_consume,
	[MSG_EVENT_ACK] = on_event_ack,
	[MSG_EVENT_EXTEND] = on_event_extend,
	[MSG_STEP_RESULT] = on_step_result,
	[MSG_STEP_HEARTBEAT] = on_step_heartbeat,
	[MSG_STEP_LOG] = on_step_log,
	[MSG_HEARTBEAT] = on_heartbeat,
	[MSG_WORKER_UPDATE] = on_worker_update,
	[MSG_GOODBYE] = on_goodbye,
};

/* Writing ---------------------------------------------------------------------------------------------------------------- */

size_t reply_begin(struct session *s, uint32_t id)
{
	size_t mark = frame_begin(&s->out);
	mp_array(&s->out, 4);
	mp_uint(&s->out, ENV_RESPONSE);
	mp_uint(&s->out, id);
	mp_nil(&s->out);
	return mark;
}

void reply_end(struct session *s, size_t mark)
{
	frame_end(&s->out, mark);
	session_mark_dirty(s);
}

void write_error_details(struct buf *b, const struct err *e, const struct buf *details)
{
	bool with = details && details->len > 0 && !details->failed;
	bool retry = strcmp(e->code, "overloaded") == 0 || strcmp(e->code, "database_unavailable") == 0;
	mp_map(b, 2u + (e->path[0] != 0) + retry + (e->limit != NULL || with));
	mp_str(b, "code");
	mp_str(b, e->code[0] ? e->code : "internal");
	mp_str(b, "message");
	mp_str(b, e->text);
	if (e->path[0]) {
		mp_str(b, "path");
		mp_str(b, e->path);
	}
	if (retry) {
		mp_str(b, "retry_after_ms");
		mp_uint(b, 500);
	}
	if (with) {
		mp_str(b, "details");
		buf_join(b, details);
	} else if (e->limit) {
		mp_str(b, "details");
		mp_map(b, 2);
		mp_str(b, "limit");
		mp_str(b, e->limit);
		mp_str(b, "max");
		mp_uint(b, e->max);
	}
}

void write_error(struct buf *b, const struct err *e)
{
	write_error_details(b, e, NULL);
}

size_t error_begin(struct session *s, uint32_t id)
{
	size_t mark = frame_begin(&s->out);
	mp_array(&s->out, 4);
	mp_uint(&s->out, ENV_RESPONSE);
	mp_uint(&s->out, id);
	return mark;
}

void error_end(struct session *s, size_t mark)
{
	mp_nil(&s->out);
	reply_end(s, mark);
}

void reply_error(struct session *s, uint32_t id, const struct err *e)
{
	size_t mark = error_begin(s, id);
	write_error(&s->out, e);
	error_end(s, mark);
}

void reply_errorf(struct session *s, uint32_t id, const char *code, const char *path, const char *fmt, ...)
{
	struct err e;
	va_list ap;
	va_start(ap, fmt);
	err_vset(&e, 0, code, fmt, ap);
	va_end(ap);
	snprintf(e.path, sizeof e.path, "%s", path ? path : "");
	reply_error(s, id, &e);
}

size_t notify_begin(struct session *s, const char *method)
{
	size_t mark = frame_begin(&s->out);
	mp_array(&s->out, 3);
	mp_uint(&s->out, ENV_NOTIFICATION);
	mp_str(&s->out, method);
	return mark;
}

void notify_end(struct session *s, size_t mark)
{
	frame_end(&s->out, mark);
	session_mark_dirty(s);
}

void notify_error(struct session *s, const struct err *e)
{
	size_t mark = notify_begin(s, "error");
	write_error(&s->out, e);
	notify_end(s, mark);
}

void refuse_session(struct session *s, const struct err *e)
{
	unsigned suppressed = 0;
	if (ratelimit_ok(&s->srv->peer_log, now_mono(), &suppressed))
		log_event(LOG_PEER_MISBEHAVES, NULL, "session %llu (pid %d, uid %u): %s (%u messages like this left out before)", (unsigned long long)s->id, (int)s->pid, (unsigned)s->uid, e->text, suppressed);
	notify_error(s, e);
	session_close_after_flush(s);
}

void protocol_error(struct session *s, const char *code, const char *fmt, ...)
{
	struct err e = {0};
	va_list ap;
	va_start(ap, fmt);
	err_vset(&e, 0, code, fmt, ap);
	va_end(ap);
	s->srv->c_protocol_errors++;
	refuse_session(s, &e);
}

int may_submit(struct server *srv, enum req_kind kind, struct err *e)
{
	if (srv->draining && kind == REQ_CREATE)
		return err_set(e, -EAGAIN, "shutting_down", "the daemon is stopping");
	/* Creations would wait without a bound; other calls find out by themselves whether it is back. */
	if (!srv->db_up && (kind == REQ_CREATE || !srv->ever_up))
		return err_set(e, -EAGAIN, "database_unavailable", "the database cannot be reached%s%s", srv->db_error[0] ? ": " : "", srv->db_error);
	if (srv->db_stuck[0] && kind == REQ_CREATE)
		return err_set(e, -EAGAIN, "database_unavailable", "the database writes nothing: %.400s", srv->db_stuck);
	if (store_bytes(srv->store) > STORE_BYTES_MAX)
		return err_set(e, -EAGAIN, "overloaded", "more than %u MiB wait for the database", STORE_BYTES_MAX >> 20);
	if (store_depth(srv->store) > QUEUE_OVERLOAD)
		return err_set(e, -EAGAIN, "overloaded", "more than %u requests wait for the database", QUEUE_OVERLOAD);
	return 0;
}

struct req *req_for(struct session *s, uint32_t id, enum req_kind kind)
{
	struct err e = {0};
	struct req *r = NULL;
	if (may_submit(s->srv, kind, &e) == 0 && quota_may_ask(s, &e) == 0 && !(r = req_new(kind, (struct origin){.session = s->id, .request = id})))
		err_set(&e, 0, "overloaded", "out of memory");
	if (!r)
		reply_error(s, id, &e);
	return r;
}

void submit_call(struct session *s, struct req *r)
{
	r->counted = true;
	s->asked++;
	quota_submit(s, r);
}

/* How deep containers are nested in `o`; frames are at most DEPTH_MAX deep, so is the recursion. */
static unsigned depth_of(const msgpack_object *o)
{
	unsigned deepest = 0;
	if (o->type == MSGPACK_OBJECT_ARRAY)
		for (uint32_t i = 0; i < o->via.array.size; i++) {
			unsigned d = depth_of(&o->via.array.ptr[i]);
			deepest = d > deepest ? d : deepest;
		}
	else if (o->type == MSGPACK_OBJECT_MAP)
		for (uint32_t i = 0; i < o->via.map.size; i++) {
			unsigned d = depth_of(&o->via.map.ptr[i].val);
			deepest = d > deepest ? d : deepest;
		}
	else
		return 0;
	return deepest + 1;
}

int value_to_json(const msgpack_object *o, const char *name, size_t max, struct buf *out, struct err *e)
{
	struct mpjson_error je = {0};
	max = max ? max : out->max;
	if (depth_of(o) > VALUE_DEPTH_MAX) {
		err_set(e, -EINVAL, "invalid_value", "%s is nested more than %u deep", name, VALUE_DEPTH_MAX);
		snprintf(e->path, sizeof e->path, "%s", name);
		return -EINVAL;
	}
	int r = mp_to_json_max(o, name, max, out, &je);
	if (r == -EMSGSIZE) {
		err_set(e, r, "too_large", "%s is larger than %zu bytes as JSON", name, max);
		e->max = max;
		snprintf(e->path, sizeof e->path, "%s", name);
	} else if (r < 0) {
		err_set(e, r, r == -ENOMEM ? "overloaded" : "invalid_value", "%s: %s", je.path, je.what);
		snprintf(e->path, sizeof e->path, "%s", je.path);
	}
	return r;
}

/* Calling --------------------------------------------------------------------------------------------------------------- */

int check_create_params(const msgpack_object *params, const char *prefix, struct err *e)
{
	return check_params(params, message_params(MSG_TASK_CREATE), prefix, e);
}

/* The fields that the table names. What else there is, a later version means, and is not looked at. */
static msgpack_object known_fields(const msgpack_object *params, const struct param *spec, msgpack_object_kv kv[static PARAMS_MAX])
{
	uint32_t n = 0;
	for (; spec->name && n < PARAMS_MAX; spec++) {
		const msgpack_object *o = mp_get(params, spec->name);
		if (!o)
			continue;
		kv[n].key = (msgpack_object){.type = MSGPACK_OBJECT_STR, .via.str = {(uint32_t)strlen(spec->name), spec->name}};
		kv[n++].val = *o;
	}
	return (msgpack_object){.type = MSGPACK_OBJECT_MAP, .via.map = {n, kv}};
}

void message_run(struct session *s, enum msg_id m, uint32_t id, const msgpack_object *params)
{
	msgpack_object_kv kv[PARAMS_MAX];
	msgpack_object known = known_fields(params, message_params(m), kv);
	if (functions[m])
		functions[m](s, id, params);
	else
		api_submit(s, id, m, &known);
}

void message_call(struct session *s, enum msg_id m, bool request, uint32_t id, const msgpack_object *params)
{
	struct err e = {0};
	if (check_params(params, message_params(m), "", &e) == 0) {
		if (admitted(s, m, request, id, params))
			message_run(s, m, id, params);
		return;
	}
	if (request)
		reply_error(s, id, &e);
	else
		notify_error(s, &e);
}

static void unknown(struct session *s, bool request, uint32_t id, const char *method, size_t len)
{
	struct err e;
	err_set(&e, 0, "unknown_method", "no %s \"%.*s\"", request ? "request" : "notification", (int)utf8_prefix(method, len, 64), method);
	if (request)
		reply_error(s, id, &e);
	else
		notify_error(s, &e);
}

static void dispatch(struct session *s, const msgpack_object *root)
{
	struct envelope env;
	const char *why = "only clients are answered";
	if (envelope_read(root, &env, &why) < 0 || env.kind == ENV_RESPONSE) {
		protocol_error(s, "protocol_error", "a frame must be [0, id, method, params] or [2, method, params]: %s", why);
		return;
	}
	bool request = env.kind == ENV_REQUEST;
	int m = msg_find(env.method, env.method_len, MSG_TO_DAEMON);
	bool known = m >= 0 && (msg_infos[m].kind == MSG_REQUEST) == request && message_params((enum msg_id)m);
	if (s->state == SESSION_NEW && (m != MSG_HELLO || !request))
		protocol_error(s, "protocol_error", "the first message must be the request hello");
	else if (s->state != SESSION_NEW && m == MSG_HELLO)
		protocol_error(s, "protocol_error", "hello was said before");
	else if (known)
		message_call(s, (enum msg_id)m, request, env.id, env.params);
	else
		unknown(s, request, env.id, env.method, env.method_len);
}

void message_received(struct session *s, const unsigned char *data, size_t len)
{
	struct scan_limits limits = {s->state == SESSION_NEW ? ITEMS_MAX_BEFORE_HELLO : ITEMS_MAX, DEPTH_MAX};
	struct scan_error why;
	struct mp_value v;
	if (scan_value(data, len, &limits, &why) < 0) {
		protocol_error(s, "protocol_error", "broken frame: %s at byte %zu", why.what, why.offset);
		return;
	}
	if (mp_decode(data, len, &v) < 0) {
		protocol_error(s, "overloaded", "out of memory");
		return;
	}
	dispatch(s, &v.root);
	mp_value_done(&v);
}

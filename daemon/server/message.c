/* From bytes to calls: scan, decode, check the envelope, check the parameters against their table, call the message's
 * function. */
#include "daemon/server/message.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "daemon/base/err.h"
#include "daemon/server/admit.h"
#include "daemon/server/api.h"
#include "daemon/server/bounds.h"
#include "daemon/server/consume.h"
#include "daemon/server/hello.h"
#include "daemon/server/info.h"
#include "daemon/server/metrics.h"
#include "daemon/server/params.h"
#include "daemon/server/publish.h"
#include "daemon/server/reload.h"
#include "daemon/server/reply.h"
#include "daemon/server/results.h"
#include "daemon/server/session.h"
#include "daemon/server/step_calls.h"
#include "daemon/server/steps.h"
#include "daemon/server/subscribe.h"
#include "daemon/server/tasks.h"
#include "daemon/server/templates.h"
#include "daemon/server/waits.h"
#include "daemon/server/watch.h"
#include "protocol/envelope.h"
#include "protocol/frame.h"
#include "protocol/mp.h"
#include "protocol/mpjson.h"
#include "protocol/msg.h"
#include "protocol/scan.h"
#include "protocol/utf8.h"

/* A message without a function is one SQL function: api.c. */
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

int check_create_params(const msgpack_object *params, const char *prefix, struct err *e)
{
	return check_params(params, message_params(MSG_TASK_CREATE), prefix, e);
}

/* The fields that the table names. What else there is, a later version means, and is not looked at. */
static msgpack_object known_fields(const msgpack_object *params, const struct param *spec,
                                   msgpack_object_kv kv[static PARAMS_MAX])
{
	uint32_t n = 0;
	for (; spec->name && n < PARAMS_MAX; spec++) {
		const msgpack_object *o = mp_get(params, spec->name);
		if (!o)
			continue;
		kv[n].key = (msgpack_object){.type = MSGPACK_OBJECT_STR,
		                             .via.str = {(uint32_t)strlen(spec->name), spec->name}};
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
	err_set(&e, 0, "unknown_method", "no %s \"%.*s\"", request ? "request" : "notification",
	        (int)utf8_prefix(method, len, 64), method);
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
		protocol_error(s, "protocol_error",
		               "a frame must be [0, id, method, params] or [2, method, params]: %s", why);
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

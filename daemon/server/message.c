/* From bytes to calls: scan, decode, check the envelope, check the parameters against their table, call the message's function. */
#include "daemon/server/impl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "daemon/core/rfc3339.h"
#include "protocol/envelope.h"
#include "protocol/frame.h"
#include "protocol/mpjson.h"
#include "protocol/scan.h"
#include "protocol/utf8.h"

enum param_type { P_STR, P_INT, P_BOOL, P_UUID, P_MAP, P_ARRAY, P_STRS, P_INTS, P_TIME, P_ANY };

#define FIELDS_MAX 16 /* of a message that is one SQL function */

struct param {
	const char *name;
	enum param_type type;
	bool required;
	int64_t min, max; /* of an integer, or of a string's or array's length; max 0: no bound of its own */
};

#define TASK_UUID {"task_uuid", P_UUID, true, 0, 0}
#define STEP_UUID {"step_uuid", P_UUID, true, 0, 0}
#define TEMPLATE_SOURCE {"source", P_STR, true, 1, 16 << 20}, {"filename", P_STR, false, 0, 4096}, {"strict", P_BOOL, false, 0, 0}

static const struct param hello_params[] = {{"protocol", P_ARRAY, true, 2, 2}, {"client", P_STR, true, 1, 256}, {"language", P_STR, false, 0, 64},
					    {"pid", P_INT, false, 0, INT32_MAX}, {"worker", P_MAP, false, 0, 0}, {"resume", P_MAP, false, 0, 0}, {0}};
static const struct param resume_params[] = {{"steps", P_ARRAY, true, 0, 100000}, {0}};
static const struct param deps_params[] = {STEP_UUID, {"names", P_STRS, false, 0, 10000}, {"cursor", P_STR, false, 1, 16}, {0}};
static const struct param checkpoint_params[] = {STEP_UUID, {"attempt", P_INT, true, 1, INT32_MAX}, {"claim", P_ANY, true, 0, 0}, {"cursor", P_ANY, true, 0, 0},
						 {"items_processed", P_INT, false, 0, INT64_MAX}, {"accumulated_results", P_ANY, false, 0, 0}, {"yield", P_BOOL, false, 0, 0}, {0}};
static const struct param create_params[] = {
	{"name", P_STR, true, 1, 255},	       {"namespace", P_STR, false, 1, 29},	 {"version", P_STR, false, 1, 64},
	{"context", P_MAP, false, 0, 0},       {"initiator", P_STR, false, 0, 128},	 {"source_system", P_STR, false, 0, 128},
	{"reason", P_STR, false, 0, 128},      {"tags", P_STRS, false, 0, 100},		 {"priority", P_INT, false, -100, 100},
	{"correlation_id", P_STR, false, 1, 256}, {"parent_correlation_id", P_STR, false, 1, 256}, {"traceparent", P_STR, false, 1, 256},
	{"idempotency_key", P_STR, false, 1, 256}, {"run_at", P_TIME, false, 0, 0}, {0}};
static const struct param bulk_params[] = {{"tasks", P_ARRAY, true, 1, BULK_MAX}, {0}};
static const struct param task_params[] = {TASK_UUID, {0}};
static const struct param get_params[] = {TASK_UUID, {"steps", P_BOOL, false, 0, 0}, {0}};
static const struct param list_params[] = {{"namespace", P_STR, false, 1, 29}, {"name", P_STR, false, 1, 255}, {"state", P_STR, false, 1, 40},
					   {"tag", P_STR, false, 1, 256}, {"correlation_id", P_STR, false, 1, 256},
					   {"limit", P_INT, false, 1, 1000}, {"cursor", P_STR, false, 1, 32}, {0}};
static const struct param wait_params[] = {TASK_UUID, {"timeout_ms", P_INT, false, 0, INT32_MAX}, {0}};
static const struct param cancel_params[] = {TASK_UUID, {"reason", P_STR, false, 0, 1024}, {0}};
static const struct param template_params[] = {TEMPLATE_SOURCE, {0}};
static const struct param apply_params[] = {TEMPLATE_SOURCE, {"replace_unused", P_BOOL, false, 0, 0}, {0}};
static const struct param template_list_params[] = {{"namespace", P_STR, false, 1, 29}, {0}};
static const struct param template_get_params[] = {{"namespace", P_STR, false, 1, 29}, {"name", P_STR, true, 1, 255}, {"version", P_STR, false, 1, 64}, {0}};
static const struct param result_params[] = {{"results", P_ARRAY, true, 1, 100000}, {0}};
static const struct param progress_params[] = {STEP_UUID, {"attempt", P_INT, true, 1, INT32_MAX}, {"progress", P_ANY, false, 0, 0}, {0}};
static const struct param log_params[] = {{"step_uuid", P_UUID, false, 0, 0}, {"level", P_STR, true, 1, 8}, {"message", P_STR, true, 0, 65536}, {"fields", P_MAP, false, 0, 0}, {0}};
static const struct param update_params[] = {{"max_concurrency", P_INT, false, 1, CONCURRENCY_MAX}, {"draining", P_BOOL, false, 0, 0}, {0}};
#define MAYBE_WHY {"reason", P_STR, false, 1, 1024}, {"operator", P_STR, false, 1, 256}
#define ENTRY_OR_TASK {"entry", P_UUID, false, 0, 0}, {"task_uuid", P_UUID, false, 0, 0}
static const struct param dlq_list_params[] = {{"status", P_STR, false, 1, 40}, {"reason", P_STR, false, 1, 40}, {"namespace", P_STR, false, 1, 29}, {"name", P_STR, false, 1, 255},
					       {"limit", P_INT, false, 1, 1000}, {"cursor", P_STR, false, 1, 32}, {0}};
static const struct param dlq_get_params[] = {ENTRY_OR_TASK, {0}};
static const struct param dlq_queue_params[] = {{"namespace", P_STR, false, 1, 29}, {"limit", P_INT, false, 1, 1000}, {0}};
static const struct param dlq_add_params[] = {TASK_UUID, {"notes", P_STR, false, 0, 4096}, {"metadata", P_MAP, false, 0, 0}, MAYBE_WHY, {0}};
static const struct param dlq_update_params[] = {ENTRY_OR_TASK, {"status", P_STR, false, 1, 40}, {"notes", P_STR, false, 0, 4096}, {"resolved_by", P_STR, false, 1, 128}, {"metadata", P_MAP, false, 0, 0}, MAYBE_WHY, {0}};
static const struct param staleness_params[] = {{"namespace", P_STR, false, 1, 29}, {"health", P_STR, false, 1, 16}, {"limit", P_INT, false, 1, 1000}, {0}};
#define NAMESPACE {"namespace", P_STR, false, 1, 29}
#define IDS {"ids", P_INTS, true, 1, 1000}, {"read_counts", P_INTS, false, 1, 1000}
#define VISIBILITY_MAX 43200000
static const struct param subscribe_params[] = {{"patterns", P_STRS, true, 1, PATTERNS_CALL_MAX}, {"namespaces", P_STRS, false, 0, 100}, {0}};
static const struct param unsubscribe_params[] = {{"patterns", P_STRS, false, 1, PATTERNS_MAX}, {0}};
static const struct param publish_params[] = {{"name", P_STR, true, 1, 255}, NAMESPACE, {"payload", P_ANY, false, 0, 0}, {"delivery_mode", P_STR, false, 1, 16},
					      {"correlation_id", P_STR, false, 1, 256}, {"fired_by", P_STR, false, 1, 256}, {"metadata", P_MAP, false, 0, 0},
					      {"event_id", P_UUID, false, 0, 0}, {0}};
static const struct param consume_params[] = {NAMESPACE, {"max", P_INT, false, 1, 1000}, {"visibility_ms", P_INT, false, 1000, VISIBILITY_MAX},
					      {"wait_ms", P_INT, false, 0, INT32_MAX}, {"patterns", P_STRS, false, 1, PATTERNS_CALL_MAX}, {0}};
static const struct param event_ack_params[] = {NAMESPACE, IDS, {0}};
static const struct param event_extend_params[] = {NAMESPACE, IDS, {"visibility_ms", P_INT, true, 0, VISIBILITY_MAX}, {0}};
static const struct param retention_params[] = {{"namespace", P_STR, true, 1, 29}, {"state", P_STR, false, 1, 40}, {"keep_minutes", P_INT, false, 0, 52560000}, {"forever", P_BOOL, false, 0, 0},
						{"inherit", P_BOOL, false, 0, 0}, {"action", P_STR, false, 1, 16}, MAYBE_WHY, {0}};
static const struct param history_params[] = {TASK_UUID, {"step", P_STR, false, 1, 400}, {"limit", P_INT, false, 1, 1000}, {"cursor", P_STR, false, 1, 32}, {0}};
static const struct param no_params[] = {{0}};
#define BY_WHOM {"reason", P_STR, true, 1, 1024}, {"operator", P_STR, false, 1, 256}
#define A_STEP {"step_uuid", P_UUID, false, 0, 0}, {"task_uuid", P_UUID, false, 0, 0}, {"step", P_STR, false, 1, 512}
#define MANY {"filter", P_MAP, true, 0, 0}, {"dry_run", P_BOOL, false, 0, 0}, {"limit", P_INT, false, 1, 1000}, {"cursor", P_STR, false, 1, 32}
static const struct param task_action_params[] = {TASK_UUID, {"action", P_STR, true, 1, 32}, BY_WHOM, {0}};
static const struct param task_bulk_params[] = {{"action", P_STR, true, 1, 32}, MANY, BY_WHOM, {0}};
static const struct param step_get_params[] = {A_STEP, {"history", P_BOOL, false, 0, 0}, {0}};
static const struct param step_replay_params[] = {A_STEP, {0}};
static const struct param step_action_params[] = {A_STEP, {"action", P_STR, true, 1, 32}, {"result", P_ANY, false, 0, 0}, BY_WHOM, {0}};
static const struct param step_bulk_params[] = {{"action", P_STR, true, 1, 32}, {"result", P_ANY, false, 0, 0}, MANY, BY_WHOM, {0}};
static const struct param dlq_redrive_params[] = {ENTRY_OR_TASK, BY_WHOM, {0}};
static const struct param namespace_params[] = {{"namespace", P_STR, true, 1, 29}, BY_WHOM, {0}};

static const struct {
	msg_fn *fn;
	const struct param *params;
} table[MSG_COUNT] = {
	[MSG_HELLO] = {on_hello, hello_params},
	[MSG_PING] = {on_ping, no_params},
	[MSG_SESSION_RESUME] = {on_session_resume, resume_params},
	[MSG_STEP_DEPENDENCIES] = {on_step_dependencies, deps_params},
	[MSG_STEP_CHECKPOINT] = {on_step_checkpoint, checkpoint_params},
	[MSG_TASK_CREATE] = {on_task_create, create_params},
	[MSG_TASK_CREATE_MANY] = {on_task_create_many, bulk_params},
	[MSG_TASK_GET] = {NULL, get_params},
	[MSG_TASK_LIST] = {NULL, list_params},
	[MSG_TASK_WAIT] = {on_task_wait, wait_params},
	[MSG_TASK_WATCH] = {on_task_watch, task_params},
	[MSG_TASK_UNWATCH] = {on_task_unwatch, task_params},
	[MSG_TASK_CANCEL] = {on_task_cancel, cancel_params},
	[MSG_TASK_HISTORY] = {NULL, history_params},
	[MSG_TASK_ACTION] = {NULL, task_action_params},
	[MSG_TASK_BULK_ACTION] = {NULL, task_bulk_params},
	[MSG_STEP_GET] = {NULL, step_get_params},
	[MSG_STEP_REPLAY] = {NULL, step_replay_params},
	[MSG_STEP_ACTION] = {NULL, step_action_params},
	[MSG_STEP_BULK_ACTION] = {NULL, step_bulk_params},
	[MSG_NAMESPACE_LIST] = {NULL, no_params},
	[MSG_NAMESPACE_PAUSE] = {NULL, namespace_params},
	[MSG_NAMESPACE_RESUME] = {NULL, namespace_params},
	[MSG_TEMPLATE_APPLY] = {on_template_apply, apply_params},
	[MSG_TEMPLATE_VALIDATE] = {on_template_validate, template_params},
	[MSG_TEMPLATE_LIST] = {NULL, template_list_params},
	[MSG_TEMPLATE_GET] = {NULL, template_get_params},
	[MSG_WORKER_LIST] = {NULL, no_params},
	[MSG_NODE_LIST] = {NULL, no_params},
	[MSG_QUEUE_LIST] = {NULL, no_params},
	[MSG_DOCTOR] = {NULL, no_params},
	[MSG_SERVER_INFO] = {on_server_info, no_params},
	[MSG_NAMESPACE_RETENTION] = {NULL, retention_params},
	[MSG_DLQ_LIST] = {NULL, dlq_list_params},
	[MSG_DLQ_GET] = {NULL, dlq_get_params},
	[MSG_DLQ_STATS] = {NULL, template_list_params},
	[MSG_DLQ_QUEUE] = {NULL, dlq_queue_params},
	[MSG_DLQ_ADD] = {NULL, dlq_add_params},
	[MSG_DLQ_UPDATE] = {NULL, dlq_update_params},
	[MSG_DLQ_REDRIVE] = {NULL, dlq_redrive_params},
	[MSG_DLQ_STALENESS] = {NULL, staleness_params},
	[MSG_EVENT_SUBSCRIBE] = {on_event_subscribe, subscribe_params},
	[MSG_EVENT_UNSUBSCRIBE] = {on_event_unsubscribe, unsubscribe_params},
	[MSG_EVENT_PUBLISH] = {on_event_publish, publish_params},
	[MSG_EVENT_CONSUME] = {on_event_consume, consume_params},
	[MSG_EVENT_ACK] = {on_event_ack, event_ack_params},
	[MSG_EVENT_EXTEND] = {on_event_extend, event_extend_params},
	[MSG_EVENT_LIST] = {NULL, no_params},
	[MSG_STEP_RESULT] = {on_step_result, result_params},
	[MSG_STEP_HEARTBEAT] = {on_step_heartbeat, progress_params},
	[MSG_STEP_LOG] = {on_step_log, log_params},
	[MSG_HEARTBEAT] = {on_heartbeat, no_params},
	[MSG_WORKER_UPDATE] = {on_worker_update, update_params},
	[MSG_GOODBYE] = {on_goodbye, no_params},
};

/* A message without a function is one SQL function: info.c. */

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
		mp_raw(b, details->data, details->len);
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
		log_warn("session %llu (pid %d, uid %u): %s (%u messages like this left out before)", (unsigned long long)s->id, (int)s->pid, (unsigned)s->uid, e->text, suppressed);
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

/* Checking --------------------------------------------------------------------------------------------------------------- */

static const char *const type_words[] = {[P_STR] = "a string", [P_INT] = "an integer",  [P_BOOL] = "true or false", [P_UUID] = "a UUID",
					 [P_MAP] = "a map",	[P_ARRAY] = "an array", [P_STRS] = "an array of strings", [P_INTS] = "an array of positive integers", [P_TIME] = "a time as in RFC 3339, 2030-01-31T09:00:00Z",
					 [P_ANY] = "any value"};

static bool strings_ok(const msgpack_object *a, int64_t max)
{
	if (a->type != MSGPACK_OBJECT_ARRAY || (max && a->via.array.size > (uint64_t)max))
		return false;
	for (uint32_t i = 0; i < a->via.array.size; i++) {
		const msgpack_object *o = &a->via.array.ptr[i];
		if (o->type != MSGPACK_OBJECT_STR || memchr(o->via.str.ptr, 0, o->via.str.size))
			return false;
	}
	return true;
}

static bool integers_ok(const msgpack_object *a, const struct param *p)
{
	if (a->type != MSGPACK_OBJECT_ARRAY || a->via.array.size < (uint64_t)p->min || a->via.array.size > (uint64_t)p->max)
		return false;
	for (uint32_t i = 0; i < a->via.array.size; i++)
		if (a->via.array.ptr[i].type != MSGPACK_OBJECT_POSITIVE_INTEGER || a->via.array.ptr[i].via.u64 > INT64_MAX)
			return false;
	return true;
}

static bool length_ok(uint64_t n, const struct param *p)
{
	return n >= (uint64_t)p->min && (p->max == 0 || n <= (uint64_t)p->max);
}

static bool value_ok(const msgpack_object *o, const struct param *p)
{
	struct uuid u;
	switch (p->type) {
	case P_STR:
		return o->type == MSGPACK_OBJECT_STR && length_ok(o->via.str.size, p) && !memchr(o->via.str.ptr, 0, o->via.str.size);
	case P_INT:
		if (o->type == MSGPACK_OBJECT_POSITIVE_INTEGER)
			return o->via.u64 <= INT64_MAX && (int64_t)o->via.u64 >= p->min && (int64_t)o->via.u64 <= p->max;
		return o->type == MSGPACK_OBJECT_NEGATIVE_INTEGER && o->via.i64 >= p->min && o->via.i64 <= p->max;
	case P_BOOL:
		return o->type == MSGPACK_OBJECT_BOOLEAN;
	case P_UUID:
		return o->type == MSGPACK_OBJECT_STR && uuid_parse(o->via.str.ptr, o->via.str.size, &u) == 0;
	case P_MAP:
		return o->type == MSGPACK_OBJECT_MAP;
	case P_ARRAY:
		return o->type == MSGPACK_OBJECT_ARRAY && length_ok(o->via.array.size, p);
	case P_STRS:
		return strings_ok(o, p->max) && o->via.array.size >= (uint64_t)p->min;
	case P_INTS:
		return integers_ok(o, p);
	case P_TIME:
		return o->type == MSGPACK_OBJECT_STR && rfc3339_valid(o->via.str.ptr, o->via.str.size);
	case P_ANY:
		return true;
	}
	return false;
}

/* 0, or -EINVAL with *e naming the first field that is wrong. `prefix` goes before its name. */
static int check_params(const msgpack_object *params, const struct param *spec, const char *prefix, struct err *e)
{
	for (const struct param *p = spec; p->name; p++) {
		const msgpack_object *o = mp_get(params, p->name);
		if ((o && value_ok(o, p)) || (!o && !p->required))
			continue;
		if (!o)
			err_set(e, -EINVAL, "bad_request", "%s is missing: %s is expected", p->name, type_words[p->type]);
		else if (p->type == P_INT)
			err_set(e, -EINVAL, "bad_request", "%s must be an integer from %lld to %lld", p->name, (long long)p->min, (long long)p->max);
		else if (p->max)
			err_set(e, -EINVAL, "bad_request", "%s must be %s of %lld to %lld %s", p->name, type_words[p->type], (long long)p->min, (long long)p->max,
				p->type == P_STR ? "bytes, without U+0000" : "elements");
		else
			err_set(e, -EINVAL, "bad_request", "%s must be %s", p->name, type_words[p->type]);
		snprintf(e->path, sizeof e->path, "%s%s", prefix, p->name);
		return -EINVAL;
	}
	return 0;
}

int check_create_params(const msgpack_object *params, const char *prefix, struct err *e)
{
	return check_params(params, create_params, prefix, e);
}

/* The fields that the table names. What else there is, a later version means, and is not looked at. */
static msgpack_object known_fields(const msgpack_object *params, const struct param *spec, msgpack_object_kv kv[static FIELDS_MAX])
{
	uint32_t n = 0;
	for (; spec->name && n < FIELDS_MAX; spec++) {
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
	msgpack_object_kv kv[FIELDS_MAX];
	msgpack_object known = known_fields(params, table[m].params, kv);
	if (table[m].fn)
		table[m].fn(s, id, params);
	else
		api_submit(s, id, m, &known);
}

static void call(struct session *s, enum msg_id m, bool request, uint32_t id, const msgpack_object *params)
{
	struct err e = {0};
	if (check_params(params, table[m].params, "", &e) == 0) {
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
	bool known = m >= 0 && (msg_infos[m].kind == MSG_REQUEST) == request && table[m].params;
	if (s->state == SESSION_NEW && (m != MSG_HELLO || !request))
		protocol_error(s, "protocol_error", "the first message must be the request hello");
	else if (s->state != SESSION_NEW && m == MSG_HELLO)
		protocol_error(s, "protocol_error", "hello was said before");
	else if (known)
		call(s, (enum msg_id)m, request, env.id, env.params);
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

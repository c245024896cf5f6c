#include "daemon/server/params.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "daemon/base/err.h"
#include "daemon/core/rfc3339.h"
#include "daemon/core/uuid.h"
#include "daemon/server/bounds.h"
#include "protocol/mp.h"
#include "protocol/msg.h"

#define TASK_UUID {"task_uuid", P_UUID, true, 0, 0}
#define STEP_UUID {"step_uuid", P_UUID, true, 0, 0}
#define TEMPLATE_SOURCE {"source", P_STR, true, 1, 16 << 20}, {"filename", P_STR, false, 0, 4096}, {"strict", P_BOOL, false, 0, 0}

static const struct param hello_params[] = {{"protocol", P_ARRAY, true, 2, 2},
                                            {"client", P_STR, true, 1, 256},
                                            {"language", P_STR, false, 0, 64},
                                            {"pid", P_INT, false, 0, INT32_MAX},
                                            {"worker", P_MAP, false, 0, 0},
                                            {"resume", P_MAP, false, 0, 0},
                                            {0}};
static const struct param resume_params[] = {{"steps", P_ARRAY, true, 0, 100000}, {0}};
static const struct param deps_params[] = {STEP_UUID,
                                           {"names", P_STRS, false, 0, 10000},
                                           {"cursor", P_STR, false, 1, 16},
                                           {0}};
static const struct param checkpoint_params[] = {STEP_UUID,
                                                 {"attempt", P_INT, true, 1, INT32_MAX},
                                                 {"claim", P_ANY, true, 0, 0},
                                                 {"cursor", P_ANY, true, 0, 0},
                                                 {"items_processed", P_INT, false, 0, INT64_MAX},
                                                 {"accumulated_results", P_ANY, false, 0, 0},
                                                 {"yield", P_BOOL, false, 0, 0},
                                                 {0}};
static const struct param create_params[] = {
	{"name", P_STR, true, 1, 255},	       {"namespace", P_STR, false, 1, 29},	 {"version", P_STR, false, 1,
	 64},
	{"context", P_MAP, false, 0, 0},       {"initiator", P_STR, false, 0, 128},	 {"source_system", P_STR, false,
	 0, 128},
	{"reason", P_STR, false, 0, 128},      {"tags", P_TAGS, false, 0, 100},		 {"priority", P_INT, false,
	 -100, 100},
	{"correlation_id", P_STR, false, 1, 256}, {"parent_correlation_id", P_STR, false, 1, 256}, {"traceparent",
	 P_STR, false, 1, 256},
	{"tracestate", P_STR, false, 1, 512},
	{"idempotency_key", P_STR, false, 1, 256}, {"run_at", P_TIME, false, 0, 0},
	{"requested_at", P_MOMENT, false, 0, 0},	       {"options", P_MAP, false, 0, 0},		 {0}};
static const struct param bulk_params[] = {{"tasks", P_ARRAY, true, 1, BULK_MAX}, {0}};
static const struct param task_params[] = {TASK_UUID, {0}};
#define STEPS_PAGE {"limit", P_INT, false, 1, STEPS_PAGE_MAX}, {"cursor", P_STR, false, 1, 16}
static const struct param get_params[] = {TASK_UUID,
                                          {"steps", P_BOOL, false, 0, 0},
                                          {"readiness", P_BOOL, false, 0, 0},
                                          STEPS_PAGE,
                                          {0}};
static const struct param summary_params[] = {TASK_UUID, STEPS_PAGE, {0}};
static const struct param list_params[] = {{"namespace", P_STR, false, 1, 29},
                                           {"name", P_STR, false, 1, 255},
                                           {"state", P_STR, false, 1, 40},
                                           {"tag", P_STR, false, 1, 256},
                                           {"correlation_id", P_STR, false, 1, 256},
                                           {"version", P_STR, false, 1, 64},
                                           {"states", P_STRS, false, 1, 12},
                                           {"paused", P_BOOL, false, 0, 0},
                                           {"priority_min", P_INT, false, -100, 100},
                                           {"priority_max", P_INT, false, -100, 100},
                                           {"created_after", P_TIME, false, 0, 0},
                                           {"created_before", P_TIME, false, 0, 0},
                                           {"updated_after", P_TIME, false, 0, 0},
                                           {"updated_before", P_TIME, false, 0, 0},
                                           {"initiator", P_STR, false, 1, 128},
                                           {"source_system", P_STR, false, 1, 128},
                                           {"page", P_INT, false, 1, 100000},
                                           {"limit", P_INT, false, 1, 1000},
                                           {"cursor", P_STR, false, 1, 32},
                                           {0}};
static const struct param wait_params[] = {TASK_UUID, {"timeout_ms", P_INT, false, 0, INT32_MAX}, {0}};
static const struct param cancel_params[] = {TASK_UUID, {"reason", P_STR, false, 0, 1024}, {0}};
static const struct param template_params[] = {TEMPLATE_SOURCE, {0}};
static const struct param apply_params[] = {TEMPLATE_SOURCE, {"replace_unused", P_BOOL, false, 0, 0}, {0}};
static const struct param template_list_params[] = {{"namespace", P_STR, false, 1, 29}, {0}};
static const struct param template_get_params[] = {{"namespace", P_STR, false, 1, 29},
                                                   {"name", P_STR, true, 1, 255},
                                                   {"version", P_STR, false, 1, 64},
                                                   {0}};
static const struct param result_params[] = {{"results", P_ARRAY, true, 1, 100000}, {0}};
static const struct param progress_params[] = {STEP_UUID,
                                               {"attempt", P_INT, true, 1, INT32_MAX},
                                               {"progress", P_ANY, false, 0, 0},
                                               {0}};
static const struct param log_params[] = {{"step_uuid", P_UUID, false, 0, 0},
                                          {"level", P_STR, true, 1, 8},
                                          {"message", P_STR, true, 0, 65536},
                                          {"fields", P_MAP, false, 0, 0},
                                          {0}};
static const struct param update_params[] = {{"max_concurrency", P_INT, false, 1, CONCURRENCY_MAX},
                                             {"draining", P_BOOL, false, 0, 0},
                                             {0}};
#define MAYBE_WHY {"reason", P_STR, false, 1, 1024}, {"operator", P_STR, false, 1, 256}
#define ENTRY_OR_TASK {"entry", P_UUID, false, 0, 0}, {"task_uuid", P_UUID, false, 0, 0}
static const struct param dlq_list_params[] =
	{{"status", P_STR, false, 1, 40},    {"reason", P_STR, false, 1, 40},  {"namespace", P_STR, false, 1, 29},
         {"name", P_STR, false, 1, 255},     {"limit", P_INT, false, 1, 1000}, {"offset", P_INT, false, 0, 100000},
         {"snapshots", P_BOOL, false, 0, 0}, {"cursor", P_STR, false, 1, 32},  {0}};
static const struct param audit_params[] = {{"task_uuid", P_UUID, false, 0, 0}, {"action", P_STR, false, 1, 64},
                                            {"who", P_STR, false, 1, 256},      {"namespace", P_STR, false, 1, 29},
                                            {"request", P_UUID, false, 0, 0},   {"after", P_TIME, false, 0, 0},
                                            {"before", P_TIME, false, 0, 0},    {"limit", P_INT, false, 1, 1000},
                                            {"cursor", P_STR, false, 1, 32},    {0}};
static const struct param dlq_get_params[] = {ENTRY_OR_TASK, {0}};
static const struct param dlq_stats_params[] = {{"namespace", P_STR, false, 1, 29},
                                                {"name", P_STR, false, 1, 255},
                                                {"causes", P_BOOL, false, 0, 0},
                                                {0}};
static const struct param dlq_queue_params[] = {{"namespace", P_STR, false, 1, 29},
                                                {"limit", P_INT, false, 1, 1000},
                                                {0}};
static const struct param dlq_add_params[] = {TASK_UUID,
                                              {"notes", P_STR, false, 0, 4096},
                                              {"metadata", P_MAP, false, 0, 0},
                                              MAYBE_WHY,
                                              {0}};
static const struct param dlq_update_params[] = {ENTRY_OR_TASK,
                                                 {"status", P_STR, false, 1, 40},
                                                 {"notes", P_STR, false, 0, 4096},
                                                 {"resolved_by", P_STR, false, 1, 128},
                                                 {"metadata", P_MAP, false, 0, 0},
                                                 MAYBE_WHY,
                                                 {0}};
static const struct param staleness_params[] = {{"namespace", P_STR, false, 1, 29},
                                                {"health", P_STR, false, 1, 16},
                                                {"limit", P_INT, false, 1, 1000},
                                                {0}};
#define NAMESPACE {"namespace", P_STR, false, 1, 29}
#define IDS {"ids", P_INTS, true, 1, 1000}, {"read_counts", P_INTS, false, 1, 1000}
#define VISIBILITY_MAX 43200000
static const struct param subscribe_params[] = {{"patterns", P_STRS, true, 1, PATTERNS_CALL_MAX},
                                                {"namespaces", P_STRS, false, 0, 100},
                                                {0}};
static const struct param unsubscribe_params[] = {{"patterns", P_STRS, false, 1, PATTERNS_MAX}, {0}};
static const struct param publish_params[] = {{"name", P_STR, true, 1, 255},
                                              NAMESPACE,
                                              {"payload", P_ANY, false, 0, 0},
                                              {"delivery_mode", P_STR, false, 1, 16},
                                              {"correlation_id", P_STR, false, 1, 256},
                                              {"fired_by", P_STR, false, 1, 256},
                                              {"metadata", P_MAP, false, 0, 0},
                                              {"event_id", P_UUID, false, 0, 0},
                                              {0}};
static const struct param consume_params[] = {NAMESPACE,
                                              {"max", P_INT, false, 1, 1000},
                                              {"visibility_ms", P_INT, false, 1000, VISIBILITY_MAX},
                                              {"wait_ms", P_INT, false, 0, INT32_MAX},
                                              {"patterns", P_STRS, false, 1, PATTERNS_CALL_MAX},
                                              {0}};
static const struct param event_ack_params[] = {NAMESPACE, IDS, {0}};
static const struct param event_extend_params[] = {NAMESPACE,
                                                   IDS,
                                                   {"visibility_ms", P_INT, true, 0, VISIBILITY_MAX},
                                                   {0}};
static const struct param retention_params[] = {{"namespace", P_STR, true, 1, 29},
                                                {"state", P_STR, false, 1, 40},
                                                {"keep_minutes", P_INT, false, 0, 52560000},
                                                {"forever", P_BOOL, false, 0, 0},
                                                {"inherit", P_BOOL, false, 0, 0},
                                                {"action", P_STR, false, 1, 16},
                                                MAYBE_WHY,
                                                {0}};
static const struct param token_create_params[] = {{"name", P_STR, true, 1, 64},
                                                   {"roles", P_STRS, true, 1, 16},
                                                   {"namespaces", P_STRS, false, 1, TOKEN_NAMESPACES_MAX},
                                                   {"expires_at", P_TIME, false, 0, 0},
                                                   MAYBE_WHY,
                                                   {0}};
static const struct param token_list_params[] = {{"all", P_BOOL, false, 0, 0}, {0}};
static const struct param token_revoke_params[] = {{"token", P_STR, true, 1, 64}, MAYBE_WHY, {0}};
static const struct param history_params[] = {TASK_UUID,
                                              {"step", P_STR, false, 1, 400},
                                              {"limit", P_INT, false, 1, 1000},
                                              {"cursor", P_STR, false, 1, 64},
                                              {0}};
static const struct param metrics_params[] = {{"format", P_STR, false, 1, 16}, {0}};
static const struct param no_params[] = {{0}};
#define BY_WHOM {"reason", P_STR, true, 1, 1024}, {"operator", P_STR, false, 1, 256}
#define A_STEP {"step_uuid", P_UUID, false, 0, 0}, {"task_uuid", P_UUID, false, 0, 0}, {"step", P_STR, false, 1, 512}
#define MANY {"filter", P_MAP, true, 0, 0}, {"dry_run", P_BOOL, false, 0, 0}, {"limit", P_INT, false, 1, 1000}, {"cursor", P_STR, false, 1, 32}
static const struct param task_action_params[] = {TASK_UUID, {"action", P_STR, true, 1, 32}, BY_WHOM, {0}};
static const struct param task_bulk_params[] = {{"action", P_STR, true, 1, 32}, MANY, BY_WHOM, {0}};
static const struct param step_get_params[] = {A_STEP,
                                               {"history", P_BOOL, false, 0, 0},
                                               {"readiness", P_BOOL, false, 0, 0},
                                               {0}};
static const struct param step_audit_params[] = {A_STEP,
                                                 {"limit", P_INT, false, 1, 1000},
                                                 {"cursor", P_STR, false, 1, 16},
                                                 {0}};
static const struct param step_replay_params[] = {A_STEP, {0}};
static const struct param step_action_params[] = {A_STEP,
                                                  {"action", P_STR, true, 1, 32},
                                                  {"result", P_ANY, false, 0, 0},
                                                  {"metadata", P_MAP, false, 0, 0},
                                                  BY_WHOM,
                                                  {0}};
static const struct param step_bulk_params[] = {{"action", P_STR, true, 1, 32},
                                                {"result", P_ANY, false, 0, 0},
                                                MANY,
                                                BY_WHOM,
                                                {0}};
static const struct param dlq_redrive_params[] = {ENTRY_OR_TASK, BY_WHOM, {0}};
#define WORKER_UUID {"worker_uuid", P_UUID, true, 0, 0}
static const struct param worker_params[] = {WORKER_UUID, {0}};
static const struct param worker_drain_params[] = {WORKER_UUID, BY_WHOM, {0}};
static const struct param purge_params[] = {{"namespace", P_STR, true, 1, 29},
                                            {"handler", P_STR, true, 1, 2000},
                                            {"dry_run", P_BOOL, false, 0, 0},
                                            {"limit", P_INT, false, 1, 1000},
                                            BY_WHOM,
                                            {0}};
static const struct param analytics_params[] = {{"namespace", P_STR, false, 1, 29},
                                                {"name", P_STR, false, 1, 255},
                                                {"version", P_STR, false, 1, 64},
                                                {"created_after", P_TIME, false, 0, 0},
                                                {"created_before", P_TIME, false, 0, 0},
                                                {"tag", P_STR, false, 1, 256},
                                                {"max_tasks", P_INT, false, 1, 100000},
                                                {"limit", P_INT, false, 1, 1000},
                                                {0}};
static const struct param performance_params[] = {NAMESPACE, {"hours", P_INT, false, 0, 8760}, {0}};
static const struct param bottlenecks_params[] = {NAMESPACE,
                                                  {"limit", P_INT, false, 1, 100},
                                                  {"min_executions", P_INT, false, 1, 1000000},
                                                  {0}};
static const struct param restore_params[] = {{"name", P_STR, true, 1, 255},
                                              {"namespace", P_STR, true, 1, 29},
                                              {"version", P_STR, true, 1, 64},
                                              {"context", P_MAP, true, 0, 0},
                                              {"priority", P_INT, false, -100, 100},
                                              {"tags", P_TAGS, false, 0, 100},
                                              {"correlation_id", P_STR, false, 1, 256},
                                              BY_WHOM,
                                              {0}};
static const struct param namespace_params[] = {{"namespace", P_STR, true, 1, 29}, BY_WHOM, {0}};

static const struct param *const params_of[MSG_COUNT] = {
	[MSG_HELLO] = hello_params,
	[MSG_PING] = no_params,
	[MSG_SESSION_RESUME] = resume_params,
	[MSG_STEP_DEPENDENCIES] = deps_params,
	[MSG_STEP_CHECKPOINT] = checkpoint_params,
	[MSG_TASK_CREATE] = create_params,
	[MSG_TASK_CREATE_MANY] = bulk_params,
	[MSG_TASK_GET] = get_params,
	[MSG_TASK_SUMMARY] = summary_params,
	[MSG_TASK_LIST] = list_params,
	[MSG_TASK_WAIT] = wait_params,
	[MSG_TASK_WATCH] = task_params,
	[MSG_TASK_UNWATCH] = task_params,
	[MSG_TASK_CANCEL] = cancel_params,
	[MSG_TASK_HISTORY] = history_params,
	[MSG_TASK_ACTION] = task_action_params,
	[MSG_TASK_BULK_ACTION] = task_bulk_params,
	[MSG_STEP_GET] = step_get_params,
	[MSG_STEP_AUDIT] = step_audit_params,
	[MSG_STEP_REPLAY] = step_replay_params,
	[MSG_STEP_ACTION] = step_action_params,
	[MSG_STEP_BULK_ACTION] = step_bulk_params,
	[MSG_NAMESPACE_LIST] = no_params,
	[MSG_NAMESPACE_PAUSE] = namespace_params,
	[MSG_NAMESPACE_RESUME] = namespace_params,
	[MSG_TEMPLATE_APPLY] = apply_params,
	[MSG_TEMPLATE_VALIDATE] = template_params,
	[MSG_TEMPLATE_LIST] = template_list_params,
	[MSG_TEMPLATE_GET] = template_get_params,
	[MSG_WORKER_LIST] = no_params,
	[MSG_WORKER_GET] = worker_params,
	[MSG_WORKER_DRAIN] = worker_drain_params,
	[MSG_QUEUE_PURGE] = purge_params,
	[MSG_STATS] = template_list_params,
	[MSG_ANALYTICS] = analytics_params,
	[MSG_ANALYTICS_PERFORMANCE] = performance_params,
	[MSG_ANALYTICS_BOTTLENECKS] = bottlenecks_params,
	[MSG_TASK_RESTORE] = restore_params,
	[MSG_NODE_LIST] = no_params,
	[MSG_QUEUE_LIST] = template_list_params,
	[MSG_DOCTOR] = no_params,
	[MSG_SERVER_INFO] = no_params,
	[MSG_SERVER_CONFIG] = no_params,
	[MSG_SERVER_METRICS] = metrics_params,
	[MSG_NAMESPACE_RETENTION] = retention_params,
	[MSG_TOKEN_CREATE] = token_create_params,
	[MSG_TOKEN_LIST] = token_list_params,
	[MSG_TOKEN_REVOKE] = token_revoke_params,
	[MSG_AUDIT_LIST] = audit_params,
	[MSG_DLQ_LIST] = dlq_list_params,
	[MSG_DLQ_GET] = dlq_get_params,
	[MSG_DLQ_STATS] = dlq_stats_params,
	[MSG_DLQ_QUEUE] = dlq_queue_params,
	[MSG_DLQ_ADD] = dlq_add_params,
	[MSG_DLQ_UPDATE] = dlq_update_params,
	[MSG_DLQ_REDRIVE] = dlq_redrive_params,
	[MSG_DLQ_STALENESS] = staleness_params,
	[MSG_EVENT_SUBSCRIBE] = subscribe_params,
	[MSG_EVENT_UNSUBSCRIBE] = unsubscribe_params,
	[MSG_EVENT_PUBLISH] = publish_params,
	[MSG_EVENT_CONSUME] = consume_params,
	[MSG_EVENT_ACK] = event_ack_params,
	[MSG_EVENT_EXTEND] = event_extend_params,
	[MSG_EVENT_LIST] = no_params,
	[MSG_STEP_RESULT] = result_params,
	[MSG_STEP_HEARTBEAT] = progress_params,
	[MSG_STEP_LOG] = log_params,
	[MSG_HEARTBEAT] = no_params,
	[MSG_WORKER_UPDATE] = update_params,
	[MSG_GOODBYE] = no_params,
};

const struct param *message_params(enum msg_id m)
{
	return params_of[m];
}

/* Checking --------------------------------------------------------------------------------------------------------- */

static const char *const type_words[] =
	{[P_STR] = "a string",
         [P_INT] = "an integer",
         [P_BOOL] = "true or false",
         [P_UUID] = "a UUID",
         [P_MAP] = "a map",
         [P_ARRAY] = "an array",
         [P_STRS] = "an array of strings",
         [P_TAGS] = "an array of strings of at most 256 bytes",
         [P_INTS] = "an array of positive integers",
         [P_TIME] = "a time as in RFC 3339, 2030-01-31T09:00:00Z",
         [P_MOMENT] = "a time as in RFC 3339, 2030-01-31T09:00:00Z, or without a zone (then it is UTC)",
         [P_ANY] = "any value"};

#define TAG_MAX 256 /* an index holds them */

static bool tags_ok(const msgpack_object *a)
{
	for (uint32_t i = 0; i < a->via.array.size; i++)
		if (a->via.array.ptr[i].via.str.size > TAG_MAX)
			return false;
	return true;
}

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
	if (a->type != MSGPACK_OBJECT_ARRAY || a->via.array.size < (uint64_t)p->min ||
	    a->via.array.size > (uint64_t)p->max)
		return false;
	for (uint32_t i = 0; i < a->via.array.size; i++)
		if (a->via.array.ptr[i].type != MSGPACK_OBJECT_POSITIVE_INTEGER ||
		    a->via.array.ptr[i].via.u64 > INT64_MAX)
			return false;
	return true;
}

static bool length_ok(uint64_t n, const struct param *p)
{
	return n >= (uint64_t)p->min && (p->max == 0 || n <= (uint64_t)p->max);
}

/* Some libraries write a time in UTC without saying so. */
static bool moment_ok(const char *text, size_t n)
{
	char with_zone[40];
	if (rfc3339_valid(text, n))
		return true;
	return n + 1 < sizeof with_zone && snprintf(with_zone, sizeof with_zone, "%.*sZ", (int)n, text) == (int)n + 1 &&
	       rfc3339_valid(with_zone, n + 1);
}

static bool value_ok(const msgpack_object *o, const struct param *p)
{
	struct uuid u;
	switch (p->type) {
	case P_STR:
		return o->type == MSGPACK_OBJECT_STR && length_ok(o->via.str.size, p) &&
		       !memchr(o->via.str.ptr, 0, o->via.str.size);
	case P_INT:
		if (o->type == MSGPACK_OBJECT_POSITIVE_INTEGER)
			return o->via.u64 <= INT64_MAX && (int64_t)o->via.u64 >= p->min &&
			       (int64_t)o->via.u64 <= p->max;
		return o->type == MSGPACK_OBJECT_NEGATIVE_INTEGER && o->via.i64 >= p->min && o->via.i64 <= p->max;
	case P_BOOL:
		return o->type == MSGPACK_OBJECT_BOOLEAN;
	case P_UUID:
		return o->type == MSGPACK_OBJECT_STR && uuid_parse(o->via.str.ptr, o->via.str.size, &u) == 0;
	case P_MAP:
		return o->type == MSGPACK_OBJECT_MAP;
	case P_ARRAY:
		return o->type == MSGPACK_OBJECT_ARRAY && length_ok(o->via.array.size, p);
	case P_TAGS:
		return strings_ok(o, p->max) && tags_ok(o);
	case P_STRS:
		return strings_ok(o, p->max) && o->via.array.size >= (uint64_t)p->min;
	case P_INTS:
		return integers_ok(o, p);
	case P_TIME:
		return o->type == MSGPACK_OBJECT_STR && rfc3339_valid(o->via.str.ptr, o->via.str.size);
	case P_MOMENT:
		return o->type == MSGPACK_OBJECT_STR && moment_ok(o->via.str.ptr, o->via.str.size);
	case P_ANY:
		return true;
	}
	return false;
}

int check_params(const msgpack_object *params, const struct param *spec, const char *prefix, struct err *e)
{
	for (const struct param *p = spec; p->name; p++) {
		const msgpack_object *o = mp_get(params, p->name);
		if ((o && value_ok(o, p)) || (!o && !p->required))
			continue;
		if (!o)
			err_set(e, -EINVAL, "bad_request", "%s is missing: %s is expected", p->name,
			        type_words[p->type]);
		else if (p->type == P_INT)
			err_set(e, -EINVAL, "bad_request", "%s must be an integer from %lld to %lld", p->name,
			        (long long)p->min, (long long)p->max);
		else if (p->max)
			err_set(e, -EINVAL, "bad_request", "%s must be %s of %lld to %lld %s", p->name,
			        type_words[p->type], (long long)p->min, (long long)p->max,
			        p->type == P_STR ? "bytes, without U+0000" : "elements");
		else
			err_set(e, -EINVAL, "bad_request", "%s must be %s", p->name, type_words[p->type]);
		snprintf(e->path, sizeof e->path, "%s%s", prefix, p->name);
		return -EINVAL;
	}
	return 0;
}

#include <string.h>
#include "daemon/http/routes.h"
#include "daemon/http/shape.h"

#define GET EVHTTP_REQ_GET
#define POST EVHTTP_REQ_POST
#define PATCH EVHTTP_REQ_PATCH
#define DELETE EVHTTP_REQ_DELETE

/* Names that porters from other systems know. */
static const struct alias paging[] = {{"per_page", "limit"}, {"status", "state"}, {NULL, NULL}};
static const struct alias step_patch[] = {{"action_type", "action"},
                                          {"reset_by", "operator"},
                                          {"resolved_by", "operator"},
                                          {"completed_by", "operator"},
                                          {"completion_data.result", "result"},
                                          {"completion_data.metadata", "metadata"},
                                          {NULL, NULL}};
static const struct alias entry_patch[] = {{"resolution_status", "status"},
                                           {"resolution_notes", "notes"},
                                           {NULL, NULL}};
static const struct alias dlq_query[] = {{"resolution_status", "status"}, {NULL, NULL}};

/* A path whose segment is a word stands before one that has a parameter there. */
const struct route routes[] = {
	/* tasks */
	{POST, "/v1/tasks", MSG_TASK_CREATE, .flags = ROUTE_BODY | ROUTE_CREATES, .shape = &shape_task,
	 .then = MSG_TASK_GET, .answer = "Created", .tag = "tasks", .summary = "Create a task"},
	{GET, "/v1/tasks", MSG_TASK_LIST, .aliases = paging, .defaults = "{\"page\":1}", .unless = "cursor,limit",
	 .shape = &shape_tasks, .answer = "TaskList", .tag = "tasks", .summary = "Tasks, the newest first"},
	{POST, "/v1/tasks/bulk", MSG_TASK_CREATE_MANY, .flags = ROUTE_BODY, .answer = "CreatedMany", .tag = "tasks",
	 .summary = "Create many tasks, each by itself"},
	{POST, "/v1/tasks/restore", MSG_TASK_RESTORE, .flags = ROUTE_BODY, .shape = &shape_task, .then = MSG_TASK_GET,
	 .answer = "Task", .tag = "tasks",
	 .summary = "A task that begins paused, so that its steps can be put where they are wanted"},
	{POST, "/v1/tasks/actions", MSG_TASK_BULK_ACTION, .flags = ROUTE_BODY, .answer = "Bulk", .tag = "tasks",
	 .summary = "Do something to all tasks that fit a filter"},
	{GET, "/v1/tasks/{task_uuid}", MSG_TASK_GET, .fixed = "{\"readiness\":true}", .defaults = "{\"limit\":1000}",
	 .shape = &shape_task, .answer = "Task", .tag = "tasks", .summary = "A task with its steps"},
	{DELETE, "/v1/tasks/{task_uuid}", MSG_TASK_CANCEL, .shape = &shape_task, .then = MSG_TASK_GET, .answer = "Task",
	 .tag = "tasks", .summary = "Cancel a task"},
	{GET, "/v1/tasks/{task_uuid}/summary", MSG_TASK_SUMMARY, .shape = &shape_summary, .answer = "Summary",
	 .tag = "tasks",
	 .summary = "A task to be drawn: its template's steps, its own, its dead letter, without payloads"},
	{GET, "/v1/tasks/{task_uuid}/wait", MSG_TASK_WAIT, .flags = ROUTE_WAITS, .defaults = "{\"timeout_ms\":30000}",
	 .answer = "Waited", .tag = "tasks",
	 .summary = "Wait until a task is settled: answered then, or at the timeout (30 s)"},
	{GET, "/v1/tasks/{task_uuid}/events", MSG_TASK_WATCH, .flags = ROUTE_STREAM, .answer = "Stream", .tag = "tasks",
	 .summary = "Follow a task: the task as it is, then each event, until it is finished"},
	{GET, "/v1/tasks/{task_uuid}/history", MSG_TASK_HISTORY, .answer = "History", .tag = "tasks",
	 .summary = "What has happened to a task"},
	{POST, "/v1/tasks/{task_uuid}/actions", MSG_TASK_ACTION, .flags = ROUTE_BODY, .shape = &shape_task,
	 .then = MSG_TASK_GET, .answer = "Task", .tag = "tasks",
	 .summary = "Cancel, retry, resolve_manually, pause or resume a task"},
	{POST, "/v1/tasks/{task_uuid}/cancel", MSG_TASK_ACTION, .flags = ROUTE_BODY, .fixed = "{\"action\":\"cancel\"}",
	 .shape = &shape_task, .then = MSG_TASK_GET, .answer = "Task", .tag = "tasks",
	 .summary = "Cancel a task, with a reason"},
	{POST, "/v1/tasks/{task_uuid}/retry", MSG_TASK_ACTION, .flags = ROUTE_BODY, .fixed = "{\"action\":\"retry\"}",
	 .shape = &shape_task, .then = MSG_TASK_GET, .answer = "Task", .tag = "tasks",
	 .summary = "Try all failed steps again"},
	{POST, "/v1/tasks/{task_uuid}/resolve", MSG_TASK_ACTION, .flags = ROUTE_BODY,
	 .fixed = "{\"action\":\"resolve_manually\"}", .shape = &shape_task, .then = MSG_TASK_GET, .answer = "Task",
	 .tag = "tasks", .summary = "Call a blocked task done"},
	{POST, "/v1/tasks/{task_uuid}/pause", MSG_TASK_ACTION, .flags = ROUTE_BODY, .fixed = "{\"action\":\"pause\"}",
	 .shape = &shape_task, .then = MSG_TASK_GET, .answer = "Task", .tag = "tasks",
	 .summary = "Begin no more steps of a task"},
	{POST, "/v1/tasks/{task_uuid}/resume", MSG_TASK_ACTION, .flags = ROUTE_BODY, .fixed = "{\"action\":\"resume\"}",
	 .shape = &shape_task, .then = MSG_TASK_GET, .answer = "Task", .tag = "tasks",
	 .summary = "Go on with a paused task"},
	/* steps */
	{POST, "/v1/steps/actions", MSG_STEP_BULK_ACTION, .flags = ROUTE_BODY, .answer = "Bulk", .tag = "steps",
	 .summary = "Do something to all steps that fit a filter"},
	{GET, "/v1/steps/{step_uuid}", MSG_STEP_GET, .fixed = "{\"readiness\":true}", .shape = &shape_step,
	 .answer = "Step", .tag = "steps", .summary = "A step"},
	{POST, "/v1/steps/{step_uuid}/actions", MSG_STEP_ACTION, .flags = ROUTE_BODY, .shape = &shape_step,
	 .then = MSG_STEP_GET, .answer = "Step", .tag = "steps",
	 .summary = "Reset, resolve, skip or complete a step; its task goes on"},
	{GET, "/v1/tasks/{task_uuid}/workflow_steps", MSG_TASK_GET, .fixed = "{\"steps\":true,\"readiness\":true}",
	 .defaults = "{\"limit\":1000}", .shape = &shape_step, .pick = "steps", .answer = "Steps", .tag = "steps",
	 .summary = "The steps of a task"},
	{GET, "/v1/tasks/{task_uuid}/workflow_steps/{step}", MSG_STEP_GET, .fixed = "{\"readiness\":true}",
	 .shape = &shape_step, .answer = "Step", .tag = "steps", .summary = "A step, by its name"},
	{PATCH, "/v1/tasks/{task_uuid}/workflow_steps/{step}", MSG_STEP_ACTION, .flags = ROUTE_BODY,
	 .aliases = step_patch, .shape = &shape_step, .then = MSG_STEP_GET, .answer = "Step", .tag = "steps",
	 .summary = "Reset, resolve, skip or complete a step; its task goes on"},
	{GET, "/v1/tasks/{task_uuid}/workflow_steps/{step}/audit", MSG_STEP_AUDIT, .pick = "audit",
	 .answer = "AuditRows", .tag = "steps", .summary = "Who produced which result of a step, the newest first"},
	{GET, "/v1/tasks/{task_uuid}/workflow_steps/{step}/history", MSG_TASK_HISTORY, .answer = "StepHistory",
	 .tag = "steps", .summary = "What has happened to a step"},
	{GET, "/v1/tasks/{task_uuid}/workflow_steps/{step}/replay", MSG_STEP_REPLAY, .answer = "Object", .tag = "steps",
	 .summary = "What is needed to run a recorded step again under a debugger"},
	/* templates */
	{GET, "/v1/templates", MSG_TEMPLATE_LIST, .shape = &shape_templates, .answer = "TemplateList",
	 .tag = "templates", .summary = "Registered templates"},
	{POST, "/v1/templates", MSG_TEMPLATE_APPLY, .flags = ROUTE_BODY | ROUTE_SOURCE | ROUTE_CREATES,
	 .answer = "Applied", .tag = "templates",
	 .summary = "Register a template: its YAML, or JSON with the source in it"},
	{POST, "/v1/templates/validate", MSG_TEMPLATE_VALIDATE, .flags = ROUTE_BODY | ROUTE_SOURCE,
	 .answer = "Validated", .tag = "templates", .summary = "What is wrong with a template"},
	{GET, "/v1/templates/{namespace}/{name}", MSG_TEMPLATE_GET, .shape = &shape_template, .answer = "Template",
	 .tag = "templates", .summary = "The newest version of a template"},
	{GET, "/v1/templates/{namespace}/{name}/{version}", MSG_TEMPLATE_GET, .shape = &shape_template,
	 .answer = "Template", .tag = "templates", .summary = "A template"},
	/* namespaces */
	{GET, "/v1/namespaces", MSG_NAMESPACE_LIST, .answer = "NamespaceList", .tag = "namespaces",
	 .summary = "Namespaces"},
	{POST, "/v1/namespaces/{namespace}/pause", MSG_NAMESPACE_PAUSE, .flags = ROUTE_BODY, .answer = "Namespace",
	 .tag = "namespaces", .summary = "Begin no more steps of a namespace"},
	{POST, "/v1/namespaces/{namespace}/resume", MSG_NAMESPACE_RESUME, .flags = ROUTE_BODY, .answer = "Namespace",
	 .tag = "namespaces", .summary = "Go on with a paused namespace"},
	{GET, "/v1/namespaces/{namespace}/retention", MSG_NAMESPACE_RETENTION, .answer = "Retention",
	 .tag = "namespaces", .summary = "How long finished tasks are kept"},
	{PATCH, "/v1/namespaces/{namespace}/retention", MSG_NAMESPACE_RETENTION, .flags = ROUTE_BODY,
	 .answer = "Retention", .tag = "namespaces", .summary = "Change how long finished tasks are kept"},
	/* bearer tokens */
	{POST, "/v1/tokens", MSG_TOKEN_CREATE, .flags = ROUTE_BODY, .answer = "Token", .tag = "tokens",
	 .summary = "Make a token: its secret is in this answer and nowhere else"},
	{GET, "/v1/tokens", MSG_TOKEN_LIST, .answer = "TokenList", .tag = "tokens", .summary = "Tokens"},
	{DELETE, "/v1/tokens/{token}", MSG_TOKEN_REVOKE, .answer = "Token", .tag = "tokens",
	 .summary = "Revoke a token, by its id or name"},
	/* dead letters */
	{GET, "/v1/dlq", MSG_DLQ_LIST, .fixed = "{\"snapshots\":true}", .pick = "entries", .shape = &shape_entry,
	 .aliases = dlq_query, .answer = "Entries", .tag = "dlq",
	 .summary = "Entries of the dead-letter log, the newest first"},
	{GET, "/v1/dlq/stats", MSG_DLQ_STATS, .fixed = "{\"causes\":false}", .pick = "reasons", .shape = &shape_reason,
	 .answer = "Reasons", .tag = "dlq", .summary = "How many entries there are, by reason"},
	{GET, "/v1/dlq/causes", MSG_DLQ_STATS, .fixed = "{\"causes\":true}", .pick = "causes", .answer = "Causes",
	 .tag = "dlq", .summary = "What pending entries have in common: how many tasks failed in which way"},
	{GET, "/v1/dlq/investigation-queue", MSG_DLQ_QUEUE, .pick = "entries", .shape = &shape_entry,
	 .answer = "Entries", .tag = "dlq", .summary = "What needs to be looked at, the most urgent first"},
	{GET, "/v1/dlq/staleness", MSG_DLQ_STALENESS, .pick = "tasks", .shape = &shape_stale, .answer = "Staleness",
	 .tag = "dlq", .summary = "How near unfinished tasks are to their limits"},
	{GET, "/v1/dlq/task/{task_uuid}", MSG_DLQ_GET, .shape = &shape_entry, .answer = "Entry", .tag = "dlq",
	 .summary = "The newest entry of a task"},
	{POST, "/v1/dlq/task/{task_uuid}", MSG_DLQ_ADD, .flags = ROUTE_BODY, .shape = &shape_entry, .answer = "Entry",
	 .tag = "dlq", .summary = "Enter a task"},
	{GET, "/v1/dlq/entry/{entry}", MSG_DLQ_GET, .shape = &shape_entry, .answer = "Entry", .tag = "dlq",
	 .summary = "An entry"},
	{PATCH, "/v1/dlq/entry/{entry}", MSG_DLQ_UPDATE, .flags = ROUTE_BODY, .aliases = entry_patch,
	 .shape = &shape_entry_changed, .answer = "EntryChanged", .tag = "dlq", .summary = "Change an entry"},
	{POST, "/v1/dlq/entry/{entry}/redrive", MSG_DLQ_REDRIVE, .flags = ROUTE_BODY, .shape = &shape_redriven,
	 .answer = "Object", .tag = "dlq", .summary = "Try the failed steps of its task again, and close the entry"},
	/* domain events */
	{GET, "/v1/events", MSG_EVENT_LIST, .answer = "EventQueues", .tag = "events",
	 .summary = "Queues of durable events"},
	{POST, "/v1/events", MSG_EVENT_PUBLISH, .flags = ROUTE_BODY, .answer = "Object", .tag = "events",
	 .summary = "Publish an event"},
	{GET, "/v1/events/stream", MSG_EVENT_SUBSCRIBE, .flags = ROUTE_STREAM, .answer = "Stream", .tag = "events",
	 .summary = "Follow fast events as they are published"},
	{POST, "/v1/events/consume", MSG_EVENT_CONSUME, .flags = ROUTE_BODY | ROUTE_WAITS, .answer = "Object",
	 .tag = "events", .summary = "Take durable events"},
	{POST, "/v1/events/ack", MSG_EVENT_ACK, .flags = ROUTE_BODY, .answer = "Object", .tag = "events",
	 .summary = "Remove durable events that were taken"},
	{POST, "/v1/events/extend", MSG_EVENT_EXTEND, .flags = ROUTE_BODY, .answer = "Object", .tag = "events",
	 .summary = "Keep durable events that were taken for longer, or give them back"},
	/* the system */
	{GET, "/v1/workers", MSG_WORKER_LIST, .answer = "WorkerList", .tag = "system", .summary = "Connected workers"},
	{GET, "/v1/workers/{worker_uuid}", MSG_WORKER_GET, .answer = "Worker", .tag = "system",
	 .summary = "A worker, and what it runs"},
	{POST, "/v1/workers/{worker_uuid}/drain", MSG_WORKER_DRAIN, .flags = ROUTE_BODY, .answer = "Worker",
	 .tag = "system",
	 .summary = "Send a worker home: it gets no more steps, and ends when it has finished those it has"},
	{GET, "/v1/nodes", MSG_NODE_LIST, .answer = "NodeList", .tag = "system", .summary = "Daemons on this database"},
	{GET, "/v1/queues", MSG_QUEUE_LIST, .answer = "QueueList", .tag = "system", .summary = "Queues of steps"},
	{POST, "/v1/queues/purge", MSG_QUEUE_PURGE, .flags = ROUTE_BODY, .answer = "Object", .tag = "system",
	 .summary = "Throw away what waits in a queue, and cancel its tasks"},
	{GET, "/v1/audit", MSG_AUDIT_LIST, .answer = "ActionList", .tag = "system",
	 .summary = "What was done by hand, by whom, from where and why, the newest first"},
	{GET, "/v1/stats", MSG_STATS, .answer = "Object", .tag = "system",
	 .summary = "How many tasks are in which state, and how many a minute"},
	{GET, "/v1/analytics", MSG_ANALYTICS, .answer = "Analytics", .tag = "system",
	 .summary = "Durations and failures by template and step, and the slowest tasks"},
	{GET, "/v1/analytics/performance", MSG_ANALYTICS_PERFORMANCE, .answer = "Performance", .tag = "system",
	 .summary = "Rates and mean durations of the last hours"},
	{GET, "/v1/analytics/bottlenecks", MSG_ANALYTICS_BOTTLENECKS, .answer = "Bottlenecks", .tag = "system",
	 .summary = "What takes longest, and what to do about it"},
	{GET, "/v1/doctor", MSG_DOCTOR, .answer = "Doctor", .tag = "system",
	 .summary = "Check that nothing is stranded"},
	{GET, "/v1/server", MSG_SERVER_INFO, .answer = "Object", .tag = "system", .summary = "This daemon"},
	{GET, "/v1/config", MSG_SERVER_CONFIG, .answer = "Object", .tag = "system",
	 .summary = "The options in effect, without secrets"},
	{GET, "/metrics", MSG_SERVER_METRICS, .flags = ROUTE_TEXT, .fixed = "{\"format\":\"prometheus\"}",
	 .answer = "Metrics", .tag = "system", .summary = "Metrics for Prometheus"},
	/* without the protocol */
	{GET, "/config", MSG_SERVER_CONFIG, .answer = "Object", .tag = "system", .summary = "The same as /v1/config"},
	{GET, "/api-docs/ui", MSG_COUNT, on_api_docs, .flags = ROUTE_HTML, .answer = "Page", .tag = "health",
	 .summary = "This interface as a page to read"},
	{GET, "/api-docs/openapi.json", MSG_COUNT, on_openapi, .answer = "Object", .tag = "health",
	 .summary = "The same as /openapi.json"},
	{GET, "/health", MSG_COUNT, on_health, .answer = "Health", .tag = "health", .summary = "The daemon answers"},
	{GET, "/health/live", MSG_COUNT, on_live, .answer = "Health", .tag = "health",
	 .summary = "The daemon's loop turns: if not, start it again"},
	{GET, "/health/ready", MSG_COUNT, on_ready, .answer = "Health", .tag = "health",
	 .summary = "The daemon takes and does work: if not (503), send it elsewhere"},
	{GET, "/health/detailed", MSG_COUNT, on_detailed, .answer = "Health", .tag = "health",
	 .summary = "The same with numbers"},
	{GET, "/openapi.json", MSG_COUNT, on_openapi, .answer = "Object", .tag = "health",
	 .summary = "This interface as an OpenAPI 3.1 document"},
};
const size_t route_count = sizeof routes / sizeof *routes;

/* Finding ---------------------------------------------------------------------------------------------------------- */

static int hex(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = c ? strchr(digits, c | 0x20) : NULL;
	return at ? (int)(at - digits) : -1;
}

/* One segment of a path, decoded, with its NUL. Returns what it takes of `to`; 0: it does not fit, or cannot be a
 * name. */
static size_t decode(const char *from, size_t n, char *to, size_t room)
{
	size_t at = 0;
	for (size_t i = 0; i < n; i++) {
		int c = (unsigned char)from[i];
		if (c == '%') {
			int high = i + 2 < n ? hex(from[i + 1]) : -1, low = high >= 0 ? hex(from[i + 2]) : -1;
			if (low < 0 || (high == 0 && low == 0))
				return 0;
			c = high << 4 | low;
			i += 2;
		}
		if (at + 1 >= room)
			return 0;
		to[at++] = (char)c;
	}
	to[at] = '\0';
	return at + 1;
}

/* Whether the path fits the row's; then its variables are in *m. */
static bool fits(const char *pattern, const char *path, struct route_match *m)
{
	size_t used = 0;
	m->n = 0;
	while (*pattern == '/' && *path == '/') {
		size_t want = strcspn(++pattern, "/"), have = strcspn(++path, "/");
		if (pattern[0] == '{') {
			size_t n = have > 0 ? decode(path, have, m->text + used, sizeof m->text - used) : 0;
			if (n == 0)
				return false;
			m->var[m->n].name = pattern + 1;
			m->var[m->n].name_len = want - 2;
			m->var[m->n++].value = m->text + used;
			used += n;
		} else if (want != have || memcmp(pattern, path, want) != 0) {
			return false;
		}
		pattern += want;
		path += have;
	}
	return *pattern == '\0' && *path == '\0';
}

/* The rows of one path have it word for word. */
const struct route *route_find(enum evhttp_cmd_type verb, const char *path, struct route_match *m, unsigned *ret_verbs)
{
	const struct route *found = NULL;
	const char *pattern = NULL;
	struct route_match tried;
	*ret_verbs = 0;
	for (size_t i = 0; i < route_count; i++) {
		const struct route *r = &routes[i];
		if (pattern ? strcmp(r->path, pattern) != 0 : !fits(r->path, path, &tried))
			continue;
		pattern = r->path;
		*ret_verbs |= r->verb;
		if (r->verb == verb)
			found = r;
	}
	if (found)
		(void)fits(found->path, path, m);
	return found;
}

const char *verb_name(unsigned verb)
{
	static const char *const names[] = {"GET",     "POST",  "HEAD",    "PUT",  "DELETE",
	                                    "OPTIONS", "TRACE", "CONNECT", "PATCH"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (verb == 1u << i)
			return names[i];
	return "?";
}

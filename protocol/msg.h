/* The message table: every message of PROTOCOL.md once, by name. Dispatch tables, docs tests and the fuzzers derive
 * from it. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#define PROTOCOL_MAJOR 1
#define PROTOCOL_MINOR 0

enum msg_dir { MSG_TO_DAEMON, MSG_TO_CLIENT };
enum msg_kind { MSG_REQUEST, MSG_NOTIFICATION };
/* Envelope tags, the first element of every frame's array. */
enum msg_envelope { ENV_REQUEST = 0, ENV_RESPONSE = 1, ENV_NOTIFICATION = 2 };

/* What a peer may do. A configuration grants them by uid and gid; OPERATE brings READ with it, ADMIN everything. */
enum role { ROLE_NONE, ROLE_READ, ROLE_SUBMIT, ROLE_WORK, ROLE_OPERATE, ROLE_ADMIN, ROLE_COUNT };
extern const char *const role_names[ROLE_COUNT];

/* How a message tells which namespace it is about. */
enum msg_scope {
	SCOPE_NONE,  /* none: about the session itself, or the daemon */
	SCOPE_NAMED, /* the field namespace; absent: default */
	SCOPE_LIST,  /* an answer from many, which holds what the peer may see */
	SCOPE_ITEM,  /* that of the task, step or entry it names */
	SCOPE_OWN,   /* as its function finds out */
	SCOPE_ALL,   /* every one: it cannot be split */
};

/* X(id, "name", direction, kind, may come before the handshake, role it needs, scope) */
#define MSG_TABLE(X)                                                                                                   \
	X(HELLO, "hello", MSG_TO_DAEMON, MSG_REQUEST, true, ROLE_NONE, SCOPE_NONE)					\
	X(PING, "ping", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_NONE, SCOPE_NONE)					\
	X(SESSION_RESUME, "session.resume", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_WORK, SCOPE_NONE)			\
	X(STEP_DEPENDENCIES, "step.dependencies", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_WORK, SCOPE_ITEM)		\
	X(STEP_CHECKPOINT, "step.checkpoint", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_WORK, SCOPE_NONE)		\
	X(TASK_CREATE, "task.create", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_SUBMIT, SCOPE_NAMED)			\
	X(TASK_CREATE_MANY, "task.create_many", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_SUBMIT, SCOPE_OWN)		\
	X(TASK_GET, "task.get", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_ITEM)				\
	X(TASK_SUMMARY, "task.summary", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_ITEM)			\
	X(TASK_LIST, "task.list", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_LIST)				\
	X(TASK_WAIT, "task.wait", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_ITEM)				\
	X(TASK_WATCH, "task.watch", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_ITEM)				\
	X(TASK_UNWATCH, "task.unwatch", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_NONE)			\
	X(TASK_CANCEL, "task.cancel", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_OPERATE, SCOPE_ITEM)			\
	X(TASK_HISTORY, "task.history", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_ITEM)			\
	X(TASK_ACTION, "task.action", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_OPERATE, SCOPE_ITEM)			\
	X(TASK_BULK_ACTION, "task.bulk_action", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_OPERATE, SCOPE_LIST)		\
	X(STEP_GET, "step.get", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_ITEM)				\
	X(STEP_AUDIT, "step.audit", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_ITEM)				\
	X(STEP_REPLAY, "step.replay", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_ITEM)			\
	X(STEP_ACTION, "step.action", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_OPERATE, SCOPE_ITEM)			\
	X(STEP_BULK_ACTION, "step.bulk_action", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_OPERATE, SCOPE_LIST)		\
	X(NAMESPACE_LIST, "namespace.list", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_LIST)			\
	X(NAMESPACE_PAUSE, "namespace.pause", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_OPERATE, SCOPE_NAMED)		\
	X(NAMESPACE_RESUME, "namespace.resume", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_OPERATE, SCOPE_NAMED)		\
	X(TEMPLATE_APPLY, "template.apply", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_ADMIN, SCOPE_OWN)			\
	X(TEMPLATE_VALIDATE, "template.validate", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_NONE)		\
	X(TEMPLATE_LIST, "template.list", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_LIST)			\
	X(TEMPLATE_GET, "template.get", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_NAMED)			\
	X(WORKER_LIST, "worker.list", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_LIST)			\
	X(WORKER_GET, "worker.get", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_LIST)				\
	X(WORKER_DRAIN, "worker.drain", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_OPERATE, SCOPE_LIST)			\
	X(NODE_LIST, "node.list", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_NONE)				\
	X(QUEUE_LIST, "queue.list", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_LIST)				\
	X(QUEUE_PURGE, "queue.purge", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_OPERATE, SCOPE_NAMED)			\
	X(STATS, "stats", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_LIST)					\
	X(ANALYTICS, "analytics", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_LIST)				\
	X(ANALYTICS_PERFORMANCE, "analytics.performance", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_LIST)	\
	X(ANALYTICS_BOTTLENECKS, "analytics.bottlenecks", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_LIST)	\
	X(TASK_RESTORE, "task.restore", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_OPERATE, SCOPE_NAMED)			\
	X(DOCTOR, "doctor", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_ALL)					\
	X(SERVER_INFO, "server.info", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_NONE)			\
	X(SERVER_CONFIG, "server.config", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_OPERATE, SCOPE_ALL)			\
	X(SERVER_METRICS, "server.metrics", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_OWN)		\
	X(AUDIT_LIST, "audit.list", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_OPERATE, SCOPE_LIST)			\
	X(DLQ_LIST, "dlq.list", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_LIST)				\
	X(DLQ_GET, "dlq.get", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_ITEM)				\
	X(DLQ_STATS, "dlq.stats", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_LIST)				\
	X(DLQ_QUEUE, "dlq.queue", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_LIST)				\
	X(DLQ_ADD, "dlq.add", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_OPERATE, SCOPE_ITEM)				\
	X(DLQ_UPDATE, "dlq.update", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_OPERATE, SCOPE_ITEM)			\
	X(DLQ_REDRIVE, "dlq.redrive", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_OPERATE, SCOPE_ITEM)			\
	X(DLQ_STALENESS, "dlq.staleness", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_LIST)			\
	X(NAMESPACE_RETENTION, "namespace.retention", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_ADMIN, SCOPE_NAMED)	\
	X(TOKEN_CREATE, "token.create", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_ADMIN, SCOPE_OWN)			\
	X(TOKEN_LIST, "token.list", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_ADMIN, SCOPE_LIST)			\
	X(TOKEN_REVOKE, "token.revoke", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_ADMIN, SCOPE_LIST)			\
	X(EVENT_SUBSCRIBE, "event.subscribe", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_OWN)			\
	X(EVENT_UNSUBSCRIBE, "event.unsubscribe", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_NONE)		\
	X(EVENT_PUBLISH, "event.publish", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_SUBMIT, SCOPE_NAMED)			\
	X(EVENT_CONSUME, "event.consume", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_WORK, SCOPE_NAMED)			\
	X(EVENT_ACK, "event.ack", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_WORK, SCOPE_NAMED)				\
	X(EVENT_EXTEND, "event.extend", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_WORK, SCOPE_NAMED)			\
	X(EVENT_LIST, "event.list", MSG_TO_DAEMON, MSG_REQUEST, false, ROLE_READ, SCOPE_LIST)				\
	X(STEP_RESULT, "step.result", MSG_TO_DAEMON, MSG_NOTIFICATION, false, ROLE_WORK, SCOPE_NONE)			\
	X(STEP_HEARTBEAT, "step.heartbeat", MSG_TO_DAEMON, MSG_NOTIFICATION, false, ROLE_WORK, SCOPE_NONE)		\
	X(STEP_LOG, "step.log", MSG_TO_DAEMON, MSG_NOTIFICATION, false, ROLE_WORK, SCOPE_NONE)				\
	X(HEARTBEAT, "heartbeat", MSG_TO_DAEMON, MSG_NOTIFICATION, false, ROLE_NONE, SCOPE_NONE)			\
	X(WORKER_UPDATE, "worker.update", MSG_TO_DAEMON, MSG_NOTIFICATION, false, ROLE_WORK, SCOPE_NONE)		\
	X(GOODBYE, "goodbye", MSG_TO_DAEMON, MSG_NOTIFICATION, false, ROLE_NONE, SCOPE_NONE)				\
	X(STEP_EXECUTE, "step.execute", MSG_TO_CLIENT, MSG_NOTIFICATION, false, ROLE_NONE, SCOPE_NONE)			\
	X(STEP_CANCEL, "step.cancel", MSG_TO_CLIENT, MSG_NOTIFICATION, false, ROLE_NONE, SCOPE_NONE)			\
	X(RESULT_ACK, "result.ack", MSG_TO_CLIENT, MSG_NOTIFICATION, false, ROLE_NONE, SCOPE_NONE)			\
	X(TASK_EVENT, "task.event", MSG_TO_CLIENT, MSG_NOTIFICATION, false, ROLE_NONE, SCOPE_NONE)			\
	X(EVENT_MESSAGE, "event.message", MSG_TO_CLIENT, MSG_NOTIFICATION, false, ROLE_NONE, SCOPE_NONE)		\
	X(WORKER_FINISH, "worker.finish", MSG_TO_CLIENT, MSG_NOTIFICATION, false, ROLE_NONE, SCOPE_NONE)		\
	X(TEMPLATES_CHANGED, "templates.changed", MSG_TO_CLIENT, MSG_NOTIFICATION, false, ROLE_NONE, SCOPE_NONE)	\
	X(SERVER_DRAINING, "server.draining", MSG_TO_CLIENT, MSG_NOTIFICATION, false, ROLE_NONE, SCOPE_NONE)		\
	X(ERROR, "error", MSG_TO_CLIENT, MSG_NOTIFICATION, true, ROLE_NONE, SCOPE_NONE)

enum msg_id {
#define X(id, name, dir, kind, early, role, scope) MSG_##id,
	MSG_TABLE(X)
#undef X
		MSG_COUNT,
};

struct msg_info {
	const char *name;
	enum msg_dir dir;
	enum msg_kind kind;
	bool early; /* allowed before the handshake is done */
	enum role role;
	enum msg_scope scope;
};
extern const struct msg_info msg_infos[MSG_COUNT];

/* The message of that name travelling in that direction, or -1. */
int msg_find(const char *name, size_t len, enum msg_dir dir);

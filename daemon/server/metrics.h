/* What the daemon counts. Everything here belongs to the loop thread, so that counting is an addition in memory and no
 * more: what other threads have to tell comes with their answers. Steps and tasks are counted for each template
 * (daemon/metrics/series.h), the rest once. */
#pragma once
#include <stdbool.h>
#include <sys/queue.h>
#include "daemon/metrics/expo.h"
#include "daemon/metrics/series.h"
#include "daemon/server/message.h"
#include "daemon/store/request.h"
#include "protocol/mp.h"

enum settled_state {
	SETTLED_COMPLETE,
	SETTLED_BLOCKED,
	SETTLED_ERROR,
	SETTLED_CANCELLED,
	SETTLED_RESOLVED,
	SETTLED_COUNT
};
enum quota {
	QUOTA_SESSIONS,
	QUOTA_SESSIONS_PER_UID,
	QUOTA_REQUESTS,
	QUOTA_STEPS,
	QUOTA_BYTES,
	QUOTA_HTTP_REQUESTS,
	QUOTA_HTTP_STREAMS,
	QUOTA_COUNT
};
extern const char *const quota_names[QUOTA_COUNT];

struct template_stats {
	uint64_t created, claimed, started, completed, failed, retries;
	uint64_t settled[SETTLED_COUNT], attempts[OUTCOME_COUNT];
	struct histogram ready, run, record, task;
};

struct event;
struct scrape;
struct server;
struct access;
struct metrics {
	struct series *series;
	struct template_stats *stats; /* by series */
	unsigned n;
	struct histogram call_time[REQ_KIND_COUNT], call_size[REQ_KIND_COUNT];
	uint64_t ignored_duplicate, ignored_stale, workers_lost;
	uint64_t quota_refusals[QUOTA_COUNT];
	usec_t now; /* when the answers were read that are being handled */
	/* What the database was asked last. */
	struct buf db;
	usec_t db_at; /* 0: never */
	bool asking;
	TAILQ_HEAD(, scrape) waiting;
	struct event *timer;
};

extern const char API_METRICS[];

/* Negative: no memory. */
int metrics_init(struct server *srv) must_check;
void metrics_done(struct server *srv);

/* Counting. */
void metrics_claimed(struct server *srv, const struct claim *c);
/* Given to a worker, so long after its claim came. */
void metrics_started(struct server *srv, const struct claim *c, usec_t waited);
/* A worker has had it for so long. */
void metrics_ran(struct server *srv, unsigned series, usec_t took);
/* `changed`: it was the end of the attempt. */
void metrics_recorded(struct server *srv, const struct req *r, bool changed);
void metrics_created(struct server *srv, const struct req *r);
void metrics_settled(struct server *srv, const struct uuid *task, unsigned series, const char *state);
/* A person's action was answered with the task, or with several. */
void metrics_operated(struct server *srv, const msgpack_object *answer);
void metrics_called(struct server *srv, const struct done *d);

/* Append all metrics; `access` NULL: those of every namespace, else those that it may read. The sticky error of `out`
 * tells whether there was memory for it. On the loop thread. */
void metrics_render(struct server *srv, enum expo_format format, const struct access *access, struct buf *out);

/* What was asked of the database for them has been answered. */
void metrics_answered(struct server *srv, struct req *r);
msg_fn on_server_metrics;

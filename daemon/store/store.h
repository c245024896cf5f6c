/* The store: N threads with a database connection each, which take what has arrived since their last commit and write
 * it as one batch; one more thread, with the connection that listens, holds the node's lease and takes back what dead
 * nodes left (presence); and one that looks after tasks which are late or over (keeper). Answers go to one mailbox. */
#pragma once
#include "daemon/store/request.h"

/* Where the spans of tasks go. The texts must outlive the store. */
struct trace_config {
	const char *url, *headers; /* of the collector; NULL: nowhere */
	unsigned percent;	   /* of the traces that nobody has decided about */
};

struct store;
struct store_config {
	const char *conninfo;
	const char *session_conninfo; /* for what needs a session: locks, listening, long calls */
	bool pooled; /* `conninfo` leads to a pooler: nothing may be left in a session */
	const char *node_name, *version;
	int threads;
	int batch_max;
	int lease_ttl_ms;
	int sweep_interval_ms;
	const char *retention; /* what tasker.retain takes, JSON */
	size_t max_body; /* MessagePack of one step's inputs */
	int max_branches; /* of a decision */
	bool migrate; /* bring the schema up to date on the first connection */
	struct mailbox *answers; /* struct done */
	struct series *series; /* of metrics; borrowed */
	struct trace_config trace;
};

/* Starts the threads and returns at once; DONE_UP follows when the node is registered. */
int store_start(const struct store_config *cfg, struct store **ret, struct err *e) must_check;
/* Takes `r`. Results, creates and claims wait for store_kick and are batched by whichever thread is free; API calls
 * never hold up the last free thread. */
void store_submit(struct store *s, struct req *r);
/* What was submitted since the last call is to be begun: to be called when the loop has handled an event. All that an
 * event brings goes together. A single simple request is sent by the loop itself over the connection of an idle thread,
 * which saves waking that thread: then this returns the connection's descriptor, to be watched for reading until
 * store_lane_busy() is false. Else -1. */
int store_kick(struct store *s);
/* The descriptor is readable. The answer (DONE_BATCH; the caller frees it), or NULL: not yet, or a thread goes on with
 * it. Never blocks. */
struct done *store_lane_read(struct store *s);
bool store_lane_busy(const struct store *s);
/* The steps in the journal's slot are all recorded: it may be written over. */
void store_forget(struct store *s, int slot);
/* True between DONE_UP and DONE_DOWN, and the node's proof key is then known. */
bool store_is_up(struct store *s);
const unsigned char *store_secret(struct store *s);
/* Bytes that submitted requests carry and whose answers the loop has not released yet (store_released). */
size_t store_bytes(struct store *s);
/* Requests that were submitted and not released yet, wherever they are. */
size_t store_unanswered(struct store *s);
void store_released(struct store *s, const struct req *r);
/* Requests not yet taken by a thread. */
size_t store_depth(struct store *s);
/* What nodes see: "up" or "draining". */
void store_set_draining(struct store *s);
/* store_stop then does not leave the cluster: the node comes back at once, and what it holds stays its own until the
 * lease runs out. */
void store_keep_lease(struct store *s);
/* What nodes see of each other besides. */
#define MISSING_TOLD_MAX 200
struct store_load {
	unsigned sessions, workers, open_steps;
	int missing[MISSING_TOLD_MAX]; /* handlers that steps may wait for and no worker here offers */
	size_t n_missing;
	char handlers[16384]; /* JSON: {"ID": [workers, results recorded, a second]} of those that are not idle */
	/* JSON: {"UUID": [open steps, results recorded, a second]}, of as many as there is room for */
	char by_worker[32768];
};
void store_set_load(struct store *s, const struct store_load *l);
/* Finish what is queued if the database is there (bounded by timeout_ms, and again for what is under way), leave the
 * cluster, join the threads, free. A database that stands still does not hold it up: its connections are cut.
 * Unanswered requests are freed. Returns NULL. */
struct store *store_stop(struct store *s, int timeout_ms);

/* A thread has been at work for longer than `limit` without waiting for anything: it stands still. */
bool store_stalled(const struct store *s, usec_t limit);

/* A call that the database has not answered for too long, while it answers others. */
struct store_hang {
	char thread[20];  /* "store 1", "presence", "keeper" */
	const char *call; /* of static life */
	int backend;	  /* the server's process for it; 0 not known */
	char why[240];	  /* what that process waits for, as the server says; empty: not known yet */
	usec_t since;
};
#define STORE_HANGS_MAX 18
/* Those under way for longer than `limit`. From now on nobody waits for them for a turn; and those of the hot path that
 * take three times as long lose their connection, so that their threads make them again over another one. Returns how
 * many. */
size_t store_hanging(struct store *s, usec_t limit, struct store_hang ret[STORE_HANGS_MAX]);
/* Since when the one under way for longest is unanswered, and which it is; 0: there is none. The keeper's, which are
 * long ones, are left out. */
usec_t store_oldest_call(struct store *s, const char **ret_call);
/* The loop's own call is such a one: stop waiting for its connection, then give it up. */
bool store_lane_hangs(const struct store *s, usec_t limit);
void store_lane_give_up(struct store *s);

/* Counters since start, for metrics and server.info. */
struct store_stats {
	uint64_t batches, results, creates, claims, api, reconnects, retries;
	uint64_t reclaims, reclaimed_steps; /* nodes whose lease had run out, and what was taken back from them */
	uint64_t leases_lost;		   /* times that this node's own had */
	/* tasks found past a limit of their template; finished ones archived or deleted */
	uint64_t late, removed;
};
void store_get_stats(struct store *s, struct store_stats *ret);
/* What has become of the spans. */
struct span_stats {
	uint64_t exported, failed; /* spans: that the collector took; or not */
	uint64_t dropped;	   /* tasks: for which there was no room, or no time */
	size_t waiting;		   /* tasks */
	bool up;		   /* the collector took the last ones */
};
void store_get_span_stats(const struct store *s, struct span_stats *ret);
/* What it is doing. */
struct store_state {
	unsigned threads, idle;
	size_t hot, api; /* requests that wait */
	size_t bytes;
};
void store_get_state(struct store *s, struct store_state *ret);

/* What the files of the store share: its queue, its threads, the presence and the keeper thread. Not for others. */
#pragma once
#include <pthread.h>
#include "daemon/base/alive.h"
#include "daemon/store/hot_impl.h"
#include "daemon/store/spans.h"
#include "daemon/store/store.h"

struct list {
	struct mail *head, **tail;
	size_t n;
};

struct worker { /* one store thread */
	struct store *s;
	int index;
	bool api; /* runs an API call; guarded by the store's lock */
	PGconn *conn;
	struct hot *hot;
	char settings[128]; /* the engine's bounds */
	/* Its connection while it is lent to the loop (lane.c), and what comes back with it; guarded by the store's
	 * lock while it changes hands. */
	struct lane *lane;
	bool lent;	 /* takes no work meanwhile, wherever it is on its way to sleep */
	bool given_back;
};

struct store {
	struct store_config cfg;
	char *conninfo, *session_conninfo, *node_name, *version, *retention;

	pthread_mutex_t lock; /* guards everything down to the blank line */
	pthread_cond_t work;  /* the node is registered or adopted, or stopping */
	/* Threads that wait for work, the last to come on top: it is woken first, its caches and its backend's are
	 * warm. */
	int idle[16], n_idle;
	pthread_cond_t wake[16];
	bool woken[16];
	int n_started;
	struct list hot, api;
	bool hot_woken;	      /* a thread has been woken for what is in hot */
	struct worker *workers[16]; /* by index, once they run */
	/* calls that answer people: one at a time, so that another thread is free for the hot path */
	int api_running;
	/* of those, of all calls of threads: unanswered for so long that others do not wait for them (hangs.c) */
	int api_hanging, hanging;
	unsigned hot_since_api; /* so that a busy hot path does not starve them */
	bool registered;      /* `node` is valid and this incarnation holds the lease */
	bool adopted;
	bool stopping, draining, keep_lease;
	struct hot_node node;
	int *slots; /* of the journal, free; the last given back is taken first: its page is warm */
	size_t n_slots, cap_slots;
	int next_slot; /* all below have been taken before */

	/* What store_stop cuts if it must: each thread's connection and, last, presence's and the keeper's. */
	PGconn *conns[18];
	int backends[18]; /* likewise, the server's processes for them */
	char blocked[18][240]; /* what those wait for that do not answer */
	struct alive alive[18]; /* likewise */
	int n_exited;
	bool presence_exited, keeper_exited;

	_Atomic uint64_t next_seq;
	_Atomic size_t bytes;
	size_t unanswered; /* of the loop thread alone */
	_Atomic bool notify; /* peers are there */
	_Atomic bool up;
	_Atomic bool stuck; /* a thread was told that nothing can be written */
	_Atomic uint64_t n_batches, n_results, n_creates, n_claims, n_api, n_reconnects, n_retries, n_reclaims,
		n_reclaimed_steps, n_leases_lost, n_late, n_removed;
	struct store_load load; /* under the lock */
	struct worker *lent; /* of the loop thread alone: whose connection it has, or NULL */
	int stop_fd; /* eventfd, readable when stopping */
	pthread_t presence, keeper;
	bool presence_started, keeper_started;
	struct spans *spans; /* NULL: nobody wants any */
	int n_threads;
	pthread_t threads[16];
};

/* Free everything of a store whose threads have ended, or were never started; returns NULL. */
struct store *store_destroy(struct store *s);

/* queue.c */
void store_list_init(struct list *l);
/* Wait for work. Returns how many requests were taken; *ret_api tells that it is one API or cancel request. 0: stopping
 * and nothing left. */
size_t store_take(struct worker *w, struct req **out, bool *ret_api);
void store_api_finished(struct worker *w);
/* There is more of it to do: queue it again, after what others have asked meanwhile. False: not any more, and it has
 * failed. */
bool store_api_again(struct worker *w, struct req *r);
/* With the lock held: a waiting thread looks again, if there is one; all do. */
void store_wake_one(struct store *s);
void store_wake_all(struct store *s);
/* With the lock held: the thread waits for work, and is the first to be woken. */
void store_set_idle(struct store *s, int index);
/* With the lock held: wake a thread for what is in the hot list, if that has not been done. */
void store_wake_hot(struct store *s);

/* threads.c: a store thread */
void *store_thread_main(void *store);
void store_count(struct store *s, enum req_kind kind, size_t n);
/* How long the call that an answer is of has taken. */
void store_note_call(struct done *d, enum req_kind kind, size_t n, usec_t began);
/* transaction.c. True: it is to be called again. */
bool store_run_api(struct worker *w, struct req *q);

/* Body of the presence thread. */
void *presence_main(void *store);
#define PRESENCE_CONN 16
/* Body of the keeper thread. */
void *keeper_main(void *store);
#define KEEPER_CONN 17
/* Say which connection a thread blocks on, before it may block; NULL before it is closed. */
void store_conn_set(struct store *s, int slot, PGconn *c);
/* The largest numbers of tries for the backoff: at most 0.8 s, which decides how soon all goes on when the database is
 * back; 3.2 s for one that answers but cannot write. */
#define LOST_TRIES 3u
#define FULL_TRIES 5u
/* Wait before attempt number `tries` to reconnect: full jitter, 0.1 s doubling to 10 s; ends early with true when the
 * store stops. */
bool store_backoff(struct store *s, unsigned tries);
void store_post(struct store *s, struct done *d);
void store_post_fatal(struct store *s, const struct err *e);

/* calls.c */
typedef int hot_fn(struct worker *w, const struct hot_call *call, struct req **reqs, size_t n, struct done *out,
                   enum db_failure *why, struct err *e);
struct hot_call store_new_call(struct worker *w);
/* The call is over: its slot is free, unless some of the claims are in it. */
void store_end_call(struct worker *w, const struct hot_call *call, const struct claim *claims);
/* One call into a scratch answer, merged into `out` only when it worked. */
int store_attempt(struct worker *w, hot_fn *fn, const struct hot_call *call, struct req **reqs, size_t n,
                  struct done *out, enum db_failure *why, struct err *e) must_check;
/* Write the batch, whatever happens meanwhile. Stopping without a database leaves the requests failed with
 * database_unavailable. `unknown`: the call may have been made and committed already. */
void store_call(struct worker *w, hot_fn *fn, struct hot_call call, bool unknown, struct req **reqs, size_t n,
                struct done *out);
/* Wait for the outcome `why` of a failed call to pass; false: stopping, give up. */
bool store_recover_from(struct worker *w, enum db_failure why, const struct err *e, unsigned tries);
/* A thread's connection. */
int store_connect_once(struct worker *w, struct err *e) must_check;
void store_disconnect(struct worker *w);
/* Connect if need be; keeps trying until it works (true) or the store stops (false). */
bool store_ensure_connected(struct worker *w);
void store_fail(struct req **reqs, size_t n, const struct err *e);
/* transaction.c: around a call behind a pooler. `rc` is what the call came to; negative if that or the commit
 * failed. */
int store_begin(struct worker *w, enum db_failure *why, struct err *e) must_check;
int store_end(struct worker *w, int rc, enum db_failure *why, struct err *e) must_check;

/* lane.c, for the thread whose connection comes back with something to do. */
enum lane_end {
	LANE_RERUN,   /* nothing was committed: the usual way */
	LANE_UNKNOWN, /* the connection is not to be trusted: look whether the call has committed */
	LANE_FINISH   /* committed; reading the row needs more than the loop may do */
};
struct lane {
	enum lane_end end;
	struct req *req;
	usec_t began;
	struct hot_call call;
	struct one one;
	struct done *foreseen; /* what the answer leads to if it is the usual one; or NULL */
	PGresult *result;
};
/* What the loop has under way is the thread's from now on: the loop goes, or has waited too long. */
void lane_abandon(struct store *s);

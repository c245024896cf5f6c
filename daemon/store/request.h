/* What the loop thread asks of the store threads and what comes back. Plain data: ids and copies, never pointers into
 * another thread's objects; a struct pool_handlers is immutable and reference counted, so sharing it is sharing a
 * value. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include "daemon/base/clock.h"
#include "daemon/base/err.h"
#include "daemon/base/mailbox.h"
#include "daemon/core/retry.h"
#include "daemon/core/uuid.h"
#include "daemon/store/proof.h"
#include "daemon/trace/context.h"
#include "protocol/buf.h"

/* Handlers that a group of like sessions can run. */
struct pool_handlers {
	_Atomic unsigned refs;
	unsigned pool_id;
	size_t n;
	int ids[];
};
struct pool_handlers *pool_handlers_new(unsigned pool_id, const int *ids, size_t n);
struct pool_handlers *pool_handlers_ref(struct pool_handlers *p);
struct pool_handlers *pool_handlers_unref(struct pool_handlers *p); /* returns NULL */
bool pool_handlers_has(const struct pool_handlers *p, int id);

/* Free credits lent to a call; they come back with its answer, used or not. */
struct offer {
	struct pool_handlers *pool;
	unsigned credits;
};

/* Where an answer goes: a session by id (never reused) and the request on it; session 0 is the daemon itself. */
struct origin {
	uint64_t session;
	uint32_t request;
	uint32_t item; /* position in a bulk request */
};

struct text {
	char *s; /* owned, NUL-terminated, or NULL */
	size_t n;
};

enum req_kind { REQ_RESULT, REQ_CREATE, REQ_CLAIM, REQ_START, REQ_STATES, REQ_CANCEL, REQ_API, REQ_KIND_COUNT };

enum outcome {
	OUTCOME_SUCCESS,
	OUTCOME_HANDLER_ERROR,
	OUTCOME_PERMANENT_ERROR,
	OUTCOME_INVALID_RESULT,
	OUTCOME_TIMEOUT,
	OUTCOME_WORKER_LOST,
	OUTCOME_RELEASED,
	OUTCOME_COUNT
};
extern const char *const outcome_names[OUTCOME_COUNT];

struct claim;

/* What a worker's publisher says of an event that its step declares. */
struct event_word {
	char *name;
	struct text payload, metadata; /* JSON, or NULL */
	char *failed;		       /* why the event is left out, or NULL */
	bool skip;
};

struct req_result {
	int64_t task_id;
	int step_no, fence, attempt, template_id;
	struct uuid step; /* for the acknowledgement */
	enum outcome outcome;
	bool retry;	       /* the result allows another try */
	int64_t retry_after_ms; /* wish, or -1 */
	struct text result, error, meta;
	float execution_ms;
	struct uuid worker;
	usec_t finished; /* wall clock */
	int slot;	 /* of the journal, that holds the claim */
	int64_t delay_ms; /* answer: when it may be tried again, from now */
	int handler_id;
	/* What steps that this one makes ready can be made of without asking the database; or NULL and empty. */
	struct claim *held;
	struct buf value; /* the result, MessagePack */
	bool publishes;		 /* the step declares domain events */
	unsigned series;	 /* of its template's metrics */
	struct trace_context trace; /* of its task */
	struct event_word *words; /* owned */
	size_t n_words;
	char words_wrong[160];	 /* why what the worker said of them was not understood, or empty */
	struct text known;	 /* of the store thread: p_events of tasker.publish_events */
	unsigned events_refused; /* answer */
};

struct req_create {
	struct uuid task;
	struct text ns, name, version, context, opts; /* version, opts may be NULL */
	/* the template whose input_schema the context was checked against; negative: it does not fit. 0: none */
	int checked;
	int template_id; /* answer: the template it means */
	unsigned series; /* answer: of its metrics, if a task was made */
};

struct req_cancel {
	struct uuid task;
	struct text reason, operator_name;
};

struct req_states { /* what tasks are doing */
	size_t n;
	struct uuid *tasks;  /* owned */
	char (*states)[32]; /* owned; answer: empty for a task that does not exist */
};

enum api_mode {
	API_READ,  /* one snapshot, ordinary planner */
	API_WRITE, /* read-write, ordinary planner */
};

struct req_api {
	const char *function; /* static: "tasker.api_task_get"; called with one jsonb, returns one jsonb */
	enum api_mode mode;
	struct text args;
	struct buf kept; /* for the sender alone */
	int message;	 /* likewise */
};

struct req {
	struct mail mail; /* first */
	enum req_kind kind;
	struct origin origin;
	struct offer offer; /* of this request; pool may be NULL */
	usec_t born;	    /* monotonic */
	size_t bytes;	    /* of the texts it carries; set by store_submit */
	union {
		struct req_result result;
		struct req_create create;
		struct req_cancel cancel;
		struct req_states states;
		struct req_api api;
	};
	/* The answer. */
	char status[24];      /* result: recorded...; create: created...; cancel: cancelled...; empty if failed */
	struct uuid task;     /* create: the task */
	char state[32];	      /* create: its state */
	bool handed_over;     /* create: the task's first step came back with this very answer */
	struct buf answer;    /* api: MessagePack; create, invalid_context: the details of the error */
	struct err err;	      /* set if failed */
	bool failed;
	void *user;	      /* for the sender alone */
	/* likewise: what to do with it if nobody is there any more to be answered; or NULL */
	void (*user_free)(void *user);
	bool counted;	      /* likewise: its session counts it */
	bool charged;	      /* likewise: a user's quota has room taken for it */
	bool announces;	      /* a worker */
	uint64_t peer;	      /* likewise: of that user */
	size_t held;	      /* likewise: the bytes of it */
	bool spent;	      /* its offer was part of a call already */
	bool general;	      /* of the store thread: not a usual case */
};

struct req *req_new(enum req_kind kind, struct origin origin);
struct req *req_free(struct req *r); /* returns NULL */
void text_set(struct text *t, const char *s, size_t n);
static inline struct req *req_of(struct mail *m)
{
	return (struct req *)m;
}

#define CLAIM_DEPS_MAX 64 /* as many ancestors as a step is given (template layer) */

/* Where in a claim's body is what its children are given as well. Whole: all its dependencies are there. */
struct claim_parts {
	bool whole;
	size_t carry, carry_end; /* pairs about the task, the context among them */
	unsigned n_carry;
	size_t traceparent; /* its value, from `carry` on; 0: there is none */
	size_t deps; /* pairs of the map of dependencies */
	unsigned n_deps;
	struct claim_dep {
		int no; /* of the step */
		unsigned len; /* bytes of the pair */
	} dep[CLAIM_DEPS_MAX];
};

/* A step that this node now holds. */
struct claim {
	struct claim *next;
	int64_t task_id;
	struct uuid task;
	int template_id, step_no, attempt, fence, handler_id;
	int slot; /* of the journal */
	int yields; /* times the step was given back at a checkpoint; of adopted claims only */
	uint64_t timeout_ms; /* 0: none */
	struct buf body;     /* MessagePack key/value pairs of a step.execute item */
	unsigned fields;     /* how many pairs; 0: adopted without its payload, or broken */
	bool broken;	     /* the payload cannot be made: end the step, do not run it */
	bool no_memory;	     /* there was none for the payload: give the step back */
	struct claim_parts parts;
	uint8_t proof[PROOF_LEN]; /* what its worker is to show, if proven: a claim from before a restart has none */
	bool proven;
	bool publishes;	     /* the step declares domain events */
	unsigned series;     /* of its template's metrics */
	int waited_ms;	     /* in its queue */
	struct trace_context trace; /* what came with the task */
};
struct claim *claim_free(struct claim *c); /* returns NULL */

struct settled {
	struct settled *next;
	struct uuid task;
	char state[32];
	unsigned series; /* of its template's metrics */
};

struct cancelled { /* a running step of a cancelled task, or of a batch that fails fast */
	struct cancelled *next;
	struct uuid task;
	int64_t task_id;
	int step_no, fence;
};

/* Domain events that were published. */
struct fired {
	struct fired *next;
	char ns[32];
	unsigned n;	 /* so many are in the namespace's queue; 0: unknown */
	struct buf body; /* or one to be pushed: MessagePack */
};

enum done_kind {
	DONE_BATCH,	/* answers to requests */
	DONE_UP,	/* the database is there; node registered (first time, or after a loss) */
	DONE_DOWN,	/* the database is gone */
	DONE_ADOPTED,	/* claims: what this node held before its restart */
	DONE_NOTIFY_READY,     /* ids: handlers with messages; n == 0: any */
	DONE_NOTIFY_TEMPLATES, /* handlers may have been added: `handlers` has the list */
	DONE_NOTIFY_SETTLED,   /* settled: tasks (state empty: look) */
	DONE_NOTIFY_CANCEL,    /* settled: tasks, or single steps, cancelled elsewhere */
	DONE_NOTIFY_EVENTS,    /* fired: by another node */
	DONE_NOTIFY_DRAIN,     /* settled: workers that are to finish */
	DONE_NOTIFY_TOKENS,    /* bearer tokens were made or revoked */
	/* ids: of the handlers that are missing here, those that steps wait for and no worker of any node offers */
	DONE_LACKING,
	DONE_STUCK,	/* the database is there but refuses to write (full disk...): err says what */
	DONE_UNSTUCK,	/* it writes again */
	DONE_FATAL,	/* the daemon must stop: err says why */
	DONE_REVIVED,	/* the embedded server was started again, or `failed` */
};

#define STARTS 0 /* in place of a handler's id: the queue of tasks to be started */

struct handler_row {
	int id;
	bool paused;
	char ns[32];
	char *callable;
};

struct due { /* a queue has a message for later */
	struct due *next;
	int handler_id;
	int64_t in_ms;
};

struct done {
	struct mail mail; /* first */
	enum done_kind kind;
	struct mail *reqs; /* list of struct req, answered */
	struct claim *claims;
	struct settled *settled;
	struct cancelled *cancelled;
	struct due *due;
	struct fired *fired, **fired_end; /* in order; fired_end is NULL while there is none */
	int *ids; /* handlers whose queues got messages */
	size_t n_ids;
	struct handler_row *handlers;
	size_t n_handlers;
	enum req_kind call; /* DONE_BATCH: the call's, */
	unsigned n_call;    /* how many requests were in it, */
	usec_t took;	    /* and how long it has taken; 0: there was none */
	bool replayed;	   /* a connection was lost under way: settled tasks may be missing, look again */
	int server_version; /* DONE_UP */
	int schema_version;
	char pgmq[32];
	bool failed;	    /* DONE_REVIVED */
	struct err err;
};
struct done *done_new(enum done_kind kind);
struct done *done_free(struct done *d); /* frees everything still in it; returns NULL */
void done_add_id(struct done *d, int id);
/* Appends one published event (JSON), or, with json NULL, that n are in the queue. Without memory it is left out:
 * consumers look again now and then. */
void done_add_event(struct done *d, const char *ns, unsigned n, const char *json, size_t len);
/* Append the list that begins with `f`. */
void done_append_events(struct done *d, struct fired *f);
/* What a publisher said, freed. */
void event_words_free(struct req_result *r);
/* How much of the clients' data it keeps in memory. */
size_t req_bytes(const struct req *r);

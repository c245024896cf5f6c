/* What the files of the server share. Everything here belongs to the loop thread. */
#pragma once
#include <pthread.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include "daemon/base/listen.h"
#include "daemon/base/need.h"
#define uthash_fatal(message) need(NULL)
#include <uthash.h>
#include "daemon/base/clock.h"
#include "daemon/base/service.h"
#include "daemon/auth/auth.h"
#include "daemon/config/access.h"
#include "daemon/server/front.h"
#include "daemon/server/metrics.h"
#include "daemon/server/server.h"
#include "daemon/store/store.h"
#include "protocol/mp.h"
#include "protocol/msg.h"

/* Bounds that are not options. */
#define HELLO_TIMEOUT_S 10
#define FRAME_MAX_BEFORE_HELLO 65536u
#define ITEMS_MAX_BEFORE_HELLO 4096u
#define ITEMS_MAX 262144u
#define DEPTH_MAX 30u
#define BULK_MAX 5000u
#define VALUE_DEPTH_MAX 24u /* of a context or result, so that it still fits when it travels inside other messages */
#define STEP_OVERHEAD 1024u	      /* of a step.execute frame around its first step */
#define ANSWER_OVERHEAD 64u	      /* of a response, in bytes or items, around its result */
#define RELEASES_MAX 3		      /* times a step is given back after a restart without using an attempt */
#define ITEMS_EXACT_FROM 16384u	      /* bytes: below, every byte is counted as an item */
#define ASKED_MAX 64u		      /* calls of one session that wait for the database; above, it is not read */
#define CLOSING_TIMEOUT_S 5	      /* for a peer to read the reason before its connection is closed */
#define DEPENDENCIES_PAGE (ITEMS_MAX + ITEMS_MAX / 2)
#define READ_CHUNK 65536u
#define READ_TURN_MAX (1u << 20)      /* bytes taken from one session before others have their turn */
#define OUT_PAUSE (8u << 20)	      /* unsent bytes above which a session is not read */
#define OUT_MAX (64u << 20)	      /* unsent bytes above which it is dropped */
#define STORE_BYTES_MAX (256u << 20)  /* of texts waiting for the store: above, creates are refused and workers not read */
#define QUEUE_OVERLOAD 100000u	      /* requests waiting for the store above which creates are refused */
#define HELD_BODY_MAX 16384u	      /* bytes of a step's inputs above which they are not kept while it runs */
#define RECONNECT_GRACE_MS 2000	      /* how long a living process may take to come back */
#define CONCURRENCY_MAX 10000
#define HANDLERS_MAX 10000
#define WATCHES_MAX 64		      /* on one session */
#define WAITS_MAX 10000		      /* on one session */
#define RECENT_MAX 4096u	      /* tasks */
#define PATTERNS_MAX 256u	      /* of one session */
#define PATTERNS_CALL_MAX 64u	      /* of one request */
#define EVENTS_UNREAD_MAX (4u << 20)  /* unsent bytes above which a session loses domain events */
#define EVENTS_UNREAD_ALL (256u << 20) /* the same for all subscribers together */
#define QUOTA_SMALL 65536u	      /* bytes of one buffer that are counted as they are used, and of a session that does no harm */
#define TOKEN_NAMESPACES_MAX 100
#define RUNNING_SHOWN_MAX 1000u	      /* steps of one worker in an answer */
#define CONSUMERS_MAX 64u	      /* calls of one session that wait for durable events */

/* How many steps, and how many a second lately. */
struct rate {
	uint64_t done, before; /* ever; at the last tick */
	double per_s;
};

struct server;
struct session;
struct pool;
struct peer;

/* A step this node holds and has given to a session (or is about to). */
struct step_key { /* one attempt of one step: a retry may run beside an attempt that the daemon has ended */
	struct uuid uuid;
	uint32_t fence;
};

struct open_step {
	struct step_key key;
	UT_hash_handle hh;
	TAILQ_ENTRY(open_step) link; /* in the session, or in the pool's backlog */
	struct session *session; /* NULL in a backlog, or an orphan */
	struct server *home;
	struct claim *claim;
	struct event timer;
	bool timer_set;
	usec_t claimed, given; /* when its claim came here, and it went to a worker; 0: before a restart */
	bool ended;	/* the attempt is over for the daemon; the worker still owes a word */
	bool confirmed; /* named by session.resume */
};
TAILQ_HEAD(step_list, open_step);

/* A worker's result on its way to the database. Who sends it again meanwhile is answered when it is there. */
struct recording {
	struct step_key key;
	UT_hash_handle hh;
	unsigned n_again;
	struct {
		uint64_t session;
		int attempt;
	} again[4];
};

/* Sessions that can run the same handlers. */
struct pool {
	unsigned id;
	UT_hash_handle hh;
	struct pool_handlers *handlers; /* ids sorted */
	TAILQ_HEAD(, session) sessions;
	unsigned slots, used;	/* of its sessions: steps they may hold, and do */
	unsigned lent;		/* credits travelling with requests */
	struct step_list backlog; /* claimed, waiting for a free session */
	unsigned n_backlog;
	bool claiming;		/* a claim request is under way */
	struct session *next;	/* round robin */
};

/* A handler of some template: where its steps wait. */
struct handler {
	int id;
	UT_hash_handle hh;
	char ns[32];
	char *callable;
	bool hinted;	 /* its queue may hold messages */
	bool paused;	 /* its namespace is: nothing is claimed */
	unsigned pools;	 /* how many pools run it */
	usec_t missing_since; /* messages and no pool, 0: not so */
	usec_t reported;
	usec_t due;	 /* when the timer fires, 0: not set */
	struct event timer;
	struct server *srv;
	struct rate rate; /* of results recorded here */
};

enum session_state { SESSION_NEW, SESSION_OPEN, SESSION_DETACHED, SESSION_DEAD };

struct session {
	uint64_t id;
	UT_hash_handle hh;
	TAILQ_ENTRY(session) pool_link;
	struct server *srv;
	enum session_state state;
	int fd, pidfd;
	struct event rd, wr, timer, pid_event;
	struct buf in, out;
	size_t out_off;
	bool dirty;	  /* in the list of sessions to be flushed */
	TAILQ_ENTRY(session) dirty_link;
	bool paused;	  /* not read until its output drains */
	bool held_back;	  /* not read until the store has caught up */
	bool asks_much;	  /* not read until some of its calls are answered */
	unsigned asked;	  /* calls with the store */
	bool kept;	  /* over a restart, before or after it: not read */
	struct kept_step *kept_steps; /* what it ran, until it is known whether it still does */
	size_t n_kept_steps;
	bool closing;	  /* flush, then close */
	bool said_goodbye, draining;
	bool moved; /* its steps and name live on in another session */
	pid_t pid;
	uid_t uid;
	gid_t gid;
	struct access access; /* what the peer may do */
	struct access_rules *own_rules; /* of `access`, if they were made for this session; or NULL */
	char principal[PRINCIPAL_NAME_MAX]; /* whom it speaks for; empty: for the user `uid` */
	const struct local *local; /* a session without a socket: what it is told goes here */
	void *local_arg;
	bool without_socket, streams;
	struct peer *peer;    /* its user's quotas */
	size_t counted_bytes; /* there */
	unsigned counted_slots;
	usec_t connected, last_frame;
	struct ratelimit step_logs;
	/* worker */
	bool worker;
	char token[33];
	struct uuid worker_uuid;
	char name[64], client[64], language[32];
	char **namespaces, **handlers;
	size_t n_namespaces, n_handlers, n_broken;
	struct buf broken; /* what the worker could not load: n_broken maps */
	unsigned max_concurrency, open, held;
	struct pool *pool;
	struct step_list steps;
	struct rate rate;
	bool told_to_finish; /* by an operator: it is given no more steps */
	char unit[128];	     /* of the service manager, or empty */
	/* gathered until the flush */
	struct buf acks, executes;
	unsigned n_acks, n_executes;
	size_t execute_items;
	unsigned n_watches, n_waits, n_consumers;
	struct subscriber *subscriber; /* NULL: to no domain events */
};

/* A step of a session that was kept over a restart. */
struct kept_step {
	struct step_key key;
	int attempt;
	bool ended;
};

/* A client waiting for a task to settle. */
struct wait {
	TAILQ_ENTRY(wait) link;
	uint64_t session;
	uint32_t request;
	uint64_t peer;
	struct event timer;
	struct waited *of;
	bool expired; /* its time was up before anything was known of the task */
	struct server *srv;
};

/* A task this daemon has lately made and begun: until it hears that the task has settled, it has not. */
struct recent {
	struct uuid task;
	bool complete;
	UT_hash_handle hh;
	TAILQ_ENTRY(recent) link;
};

enum asked { NOT_ASKED, TO_ASK, ASKED, KNOWN };

struct waited {
	struct uuid task;
	enum asked asked;
	TAILQ_ENTRY(waited) ask_link;
	char state[32]; /* last heard, or empty */
	UT_hash_handle hh;
	TAILQ_HEAD(, wait) waits;
};

/* Steps claimed by one call and not yet all recorded. */
struct journal {
	int slot;
	UT_hash_handle hh;
	unsigned open;
};

struct watch;
struct consumer;

/* Patterns of domain events that a session has subscribed to, and what of them is not yet sent. */
struct subscription;
struct subscriber {
	LIST_ENTRY(subscriber) link;
	struct session *session;
	struct subscription *list;
	size_t n;
	struct buf events; /* gathered until the flush */
	unsigned n_events;
	size_t items;
	uint64_t lost; /* since the last message */
};

/* Functions whose answers do not go straight to a client; told apart by these very pointers. */
extern const char API_ATTEMPT_STATUS[], API_TASK_EVENTS[], API_WATCH_GET[], API_CANCEL_GET[], API_EVENT_PUBLISH[], API_EVENT_CONSUME[], API_EVENT_RETURN[], API_NAMESPACES_OF[], API_TOKEN_CREATE[], API_TOKEN_SYNC[], API_METRICS[];
extern const char API_WORKER_DRAIN[];

struct server {
	struct options *opt; /* a reload changes some */
	struct event_base *base;
	struct store *store;
	struct mailbox answers;
	struct template_reader *templates; /* from the first template on */
	struct embed *em;
	const struct front *front;
	void *front_state; /* NULL: not started */
	struct auth *auth;
	bool tokens_asking, tokens_again; /* an answer is awaited; and is to be asked for once more */
	usec_t tokens_asked;
	struct event ev_lane; /* set while the loop has a call of its own under way */
	struct event *ev_answers, *ev_listen, *ev_open, *ev_term, *ev_int, *ev_restart, *ev_hup, *ev_embedded, *ev_tick, *ev_poll, *ev_grace, *ev_accept_again, *ev_drain, *ev_watchdog;
	int listen_fd, embedded_fd;
	int http_fds[LISTEN_MAX]; /* sockets for HTTP that the service manager has passed */
	size_t n_http_fds;
	pthread_t reviver; /* restarts the embedded server while `reviving` */
	bool reviving;
	bool own_socket;
	uint64_t next_session;
	struct session *sessions; /* by id */
	struct peer *peers, *peers_by_key; /* by id; by whom */
	uint64_t next_peer;
	size_t n_sessions;
	TAILQ_HEAD(, session) dirty;
	struct handler *handlers; /* by id */
	struct pool *pools;
	unsigned next_pool;
	struct open_step *steps; /* by key, given to sessions */
	struct recording *recording;
	struct open_step *orphans; /* by key: held since before the restart, waiting for their worker */
	struct journal *journals;
	struct prover *prover; /* of claims shown to the loop */
	struct template_name *template_names; /* by id, of steps that the log was told about */
	struct ratelimit step_log;	      /* of failed attempts */
	struct waited *waited;
	struct recent *recent; /* by task */
	TAILQ_HEAD(, recent) recent_order; /* the oldest first */
	TAILQ_HEAD(, waited) to_ask;
	bool asking; /* a question about waited-for tasks is under way */
	struct watch *watches;
	LIST_HEAD(, subscriber) subscribers;
	size_t n_subscribers;
	TAILQ_HEAD(, consumer) consumers;
	usec_t watchdog_us; /* of the service manager, or 0 */
	bool ever_up, adopted, db_up, draining, stop;
	bool handing; /* while draining: to the next daemon, which goes on with the sessions */
	bool open; /* takes connections */
	bool starts_hinted, starting; /* tasks may be due; they are being started */
	usec_t starts_at;	      /* when the timer fires, 0: not set */
	struct event *ev_starts;
	unsigned stop_signals;
	int db_server_version;
	usec_t started, drain_until, rates_at;
	int db_schema_version;
	char db_pgmq[32];
	char db_error[512];
	char db_stuck[512]; /* why it writes nothing, or empty */
	struct store_hang hangs[STORE_HANGS_MAX]; /* calls that it does not answer, as of the last look */
	size_t n_hangs;
	char status[600]; /* what the service manager was told last */
	struct err fatal;
	bool has_fatal;
	unsigned n_held_back;
	struct metrics metrics;
	struct ratelimit peer_log; /* what peers can provoke, all together */
	uint64_t c_frames, c_steps_sent, c_results, c_lost, c_timeouts, c_protocol_errors, c_rejected_sessions, c_denied, c_events_queued, c_events_fast, c_events_pushed, c_events_lost, c_events_refused;
};

/* session.c: sockets, buffers, life and death */
struct session *session_alloc(struct server *srv);
/* Known from here on. -ENOMEM: it is freed. */
int session_begin(struct session *s) must_check;
/* Whether what is written to it goes anywhere. */
static inline bool session_speaks(const struct session *s)
{
	return s->fd >= 0 || s->local;
}
struct session *session_new(struct server *srv, int fd);
struct session *session_find(struct server *srv, uint64_t id);
/* Forget the session. `why` is logged. With the process alive a worker's steps wait RECONNECT_GRACE_MS for it. */
void session_close(struct session *s, const char *why);
/* Send what is gathered, then close. */
void session_close_after_flush(struct session *s);
/* One of the session's calls to the store has been answered. */
void session_answered(struct session *s);
/* Read the sessions that were held back, if the store has caught up. */
void sessions_read_on(struct server *srv);
void session_mark_dirty(struct session *s);
/* Turn the gathered acknowledgements and steps into frames. */
void session_gather(struct session *s);
/* Take over the steps of a detached session of the same peer. */
void session_adopt(struct session *to, struct session *from);
void session_detached_timeout(struct session *s);
/* Do not read it, nor judge its silence; go on with it. */
void session_hold(struct session *s);
void session_release_hold(struct session *s);
/* The `worker` of a hello. 0 or negative with *e. */
int session_read_worker(struct session *s, const msgpack_object *w, struct err *e) must_check;
/* Give the steps of a detached session to others, and forget it. */
void session_release(struct session *s);
void session_free_all(struct server *srv);

/* local.c: sessions without a socket */
void local_flush(struct session *s);
void local_ended(struct session *s, const char *why);

/* message.c: envelopes */
void message_received(struct session *s, const unsigned char *data, size_t len);
/* A response: write exactly one value to s->out between begin and end. */
size_t reply_begin(struct session *s, uint32_t id);
void reply_end(struct session *s, size_t mark);
/* An error response whose map the caller writes between begin and end. */
size_t error_begin(struct session *s, uint32_t id);
void error_end(struct session *s, size_t mark);
void reply_error(struct session *s, uint32_t id, const struct err *e);
void reply_errorf(struct session *s, uint32_t id, const char *code, const char *path, const char *fmt, ...) printf_like(5, 6);
/* Append the error map itself. */
void write_error(struct buf *b, const struct err *e);
/* `details` (MessagePack) may be NULL or empty. */
void write_error_details(struct buf *b, const struct err *e, const struct buf *details);
/* The params of task.create, as an item of a bulk. 0 or -EINVAL with *e. */
int check_create_params(const msgpack_object *params, const char *prefix, struct err *e) must_check;
/* Append a peer's value as JSON: at most `max` bytes (0: what `out` may hold) as jsonb prints them, and VALUE_DEPTH_MAX deep. 0 or negative with *e, code
 * and path; -EMSGSIZE: the caller may name the limit in e->limit. */
int value_to_json(const msgpack_object *o, const char *name, size_t max, struct buf *out, struct err *e) must_check;
size_t notify_begin(struct session *s, const char *method);
void notify_end(struct session *s, size_t mark);
void notify_error(struct session *s, const struct err *e);
/* Say why, and close the connection. */
void refuse_session(struct session *s, const struct err *e);
void protocol_error(struct session *s, const char *code, const char *fmt, ...) printf_like(3, 4);
typedef void msg_fn(struct session *s, uint32_t id, const msgpack_object *params);
/* What keeps a client's request from being taken on now, as an error. */
int may_submit(struct server *srv, enum req_kind kind, struct err *e) must_check;
/* A request to the store on behalf of a client's. NULL: it cannot be taken on now (no database, too many waiting, no memory), and has been answered so. */
struct req *req_for(struct session *s, uint32_t id, enum req_kind kind);
/* Send a call (not a create, which is bounded by bytes) to the store, counted for the session until it is answered. Takes r. */
void submit_call(struct session *s, struct req *r);

/* A message with params that nobody has looked at yet. */
void message_call(struct session *s, enum msg_id m, bool request, uint32_t id, const msgpack_object *params);
/* A message whose params have been checked and that its peer may send. */
void message_run(struct session *s, enum msg_id m, uint32_t id, const msgpack_object *params);

/* notes.c: what the log is told of steps and workers */
struct note {
	char task[UUID_TEXT], step[UUID_TEXT], worker[UUID_TEXT], attempt[16], trace[TRACE_ID_TEXT], span[SPAN_ID_TEXT];
	const char *fields[21];
};
/* The fields, which point into *n. Of a result under way; of a step of that session, or of its worker alone (step NULL). */
const char *const *note_result(struct note *n, struct server *srv, const struct req *r);
const char *const *note_step(struct note *n, const struct session *s, const struct uuid *step);
/* Remember what its template is called, before its inputs are thrown away. */
void note_template(struct server *srv, const struct claim *c);
void note_failure(struct server *srv, const struct req *r);
void note_refused_events(struct server *srv, const struct req *r);
void note_worker_gone(struct session *s, const char *why);
void notes_free(struct server *srv);

/* traces.c: which trace a step belongs to. Where no spans are sent, that which came with its task, or none. */
/* The map of a step, as step.execute has it. */
void step_put(const struct server *srv, const struct claim *c, struct buf *out);
/* The trace and the span of an attempt, for the log. */
void note_trace(struct note *n, const struct server *srv, const struct trace_context *trace, const struct uuid *task, const struct uuid *step, int fence);

/* admit.c: who may do what */
struct access peer_access(const struct server *srv, int fd, uid_t uid, gid_t gid);
/* Whether the message may run now. If not, it has been answered, or will be (and perhaps run) when the database has told what it is about. */
bool admitted(struct session *s, enum msg_id m, bool request, uint32_t id, const msgpack_object *params);
/* Whether the peer may send it about that namespace. 0 or -EACCES with *e. */
int admit_namespace(struct session *s, enum msg_id m, const char *ns, size_t n, struct err *e) must_check;
/* The same about all of them. */
int admit_everywhere(struct session *s, enum msg_id m, struct err *e) must_check;
/* Whether the peer may connect as what it says it is. 0 or -EACCES with *e. */
int admit_session(struct session *s, struct err *e) must_check;
/* The rules are others now: hold every session against them. */
void sessions_readmit(struct server *srv);
/* Add to a request's JSON in which namespaces a restricted peer may look: "within". */
void admit_put_within(const struct session *s, enum msg_id m, struct buf *json);
void namespaces_answered(struct server *srv, struct req *r);

/* quota.c: what one user may take up. Negative with *e, which names the quota. */
/* Whether the peer of this socket may have one more session. */
int quota_connect(struct server *srv, int fd, struct err *e) must_check;
int quota_session_begin(struct session *s) must_check;
void quota_session_end(struct session *s);
/* Whether the session's worker may ask for n steps; it does (0: no more). */
int quota_may_have_slots(const struct session *s, unsigned n, struct err *e) must_check;
void quota_slots(struct session *s, unsigned n);
/* Whether one more request may be under way. */
int quota_may_ask(const struct session *s, struct err *e) must_check;
/* One is, which the store does not know of; it has ended. */
uint64_t quota_hold(struct session *s);
void quota_release(struct server *srv, uint64_t peer);
/* Whether who comes over HTTP may have one more request under way; `stream`: one that goes on. */
int quota_may_begin(struct server *srv, const struct principal *who, bool stream, struct err *e) must_check;
/* Send what the session asks for to the store, and count it until it is answered. Takes r. */
void quota_submit(struct session *s, struct req *r);
/* Only count it, for what is done elsewhere before. */
void quota_charge(struct session *s, struct req *r);
void quota_answered(struct server *srv, struct req *r);
/* Count the session's buffers. Negative: there is no room for them. */
int quota_settle(struct session *s, struct err *e) must_check;
/* The user has no more room: nothing that can wait is read. */
bool quota_full(const struct session *s);
/* Messages of the session are handled between these two. If they take much of the loop's time, nothing of their user's sessions is read for a while. */
usec_t quota_work_begin(const struct session *s);
void quota_work_end(struct session *s, usec_t began);
bool quota_rests(const struct session *s);
void peers_free(struct server *srv);

/* hello.c */
msg_fn on_hello, on_session_resume, on_goodbye, on_worker_update, on_heartbeat;
/* The session of a worker has ended for good. */
void worker_gone(struct session *s);
/* Tell the database of every connected worker. */
void worker_announce(struct session *s);
void workers_announce(struct server *srv);

/* pool.c: who can run what, and the credits */
void handlers_loaded(struct server *srv, struct done *d);
void pool_join(struct session *s);
void pool_leave(struct session *s);
/* Lend the session's pool one free credit to travel with `r`, if it has one. */
void pool_lend(struct session *s, struct req *r);
/* Lend up to `max` credits of any pools to creates: returns how many were attached to `r` (one pool a request). */
unsigned pool_lend_any(struct server *srv, struct req *r, unsigned max);
void pool_return(struct server *srv, struct req *r);
/* Steps just claimed: give them to sessions. Takes the claims. */
void pool_dispatch(struct server *srv, struct claim *claims);
/* Messages may be in these queues; in all queues. */
void pool_hint(struct server *srv, const int *ids, size_t n);
void pool_hint_all(struct server *srv);
/* The handler's queue has a message for later. */
void pool_due(struct server *srv, int handler_id, int64_t in_ms);
void pool_set_concurrency(struct session *s, unsigned n);
/* The only way to change session.open. */
void session_open_changed(struct session *s, int by);
void pool_release_backlogs(struct server *srv);
struct handler *handler_find(struct server *srv, int id);
void handlers_report_missing(struct server *srv);
/* Ask for queued work where there are credits and hints. */
void pool_claim(struct server *srv);
void pool_run_backlog(struct server *srv);
void pools_free(struct server *srv);
bool handler_matches(const struct session *s, const struct handler *h);

/* steps.c: steps that this node holds */
msg_fn on_step_heartbeat;
/* The open step of this session that the claim is for; NULL with the status of an acknowledgement. */
struct open_step *step_claimed(struct session *s, const struct uuid *step, int attempt, const uint8_t *claim, const char **ret_status);
void step_give(struct session *s, struct open_step *o);
size_t step_items(const struct claim *c);
struct open_step *step_new(struct server *srv, struct claim *c); /* takes c; NULL: out of memory (then c is lost to the journal) */
/* A step of a former incarnation has found its worker again: it is open on `s`. */
void step_resume(struct session *s, struct open_step *o);
/* What this node knows of an attempt with a valid claim: open on `s` (confirmed, or forgotten if it was ended), an orphan (now open on `s`), or being recorded: true. */
bool step_held(struct session *s, const struct step_key *key);
/* Take the step off its session, whose place is free, and free it. */
void step_forget(struct open_step *o);
/* Forget what the session runs, without a word to the database. */
void steps_forget(struct session *s);
void steps_free(struct server *srv);

/* journal.c */
void journal_hold(struct server *srv, int slot);
void journal_release(struct server *srv, int slot);
void journals_free(struct server *srv);

/* step_calls.c: what workers ask and say besides results */
msg_fn on_step_log, on_step_dependencies, on_step_checkpoint;
int checkpoint_json(const msgpack_object *m, size_t max, struct buf *out, struct err *e) must_check;
size_t checkpoint_max(const struct options *opt);
void reply_status(struct session *s, uint32_t id, const char *status);

/* step_ends.c: timeouts, lost workers, cancels */
/* End the attempt without the worker: timeout, lost, released. Frees `o` unless the worker still owes a word. */
void step_end(struct open_step *o, enum outcome outcome, const char *message);
void steps_lost(struct session *s, enum outcome outcome, const char *message);
/* Begin to count the step's time, if it has a limit. */
void step_set_timer(struct open_step *o);
void step_send_cancel(struct open_step *o, const char *reason);
/* Give back what the session runs in namespaces where it may no longer. */
void steps_withdraw(struct session *s);
void steps_cancelled(struct server *srv, const struct uuid *what, const char *reason); /* a task or a step */
void attempt_cancelled(struct server *srv, const struct cancelled *x, const char *reason);

/* results.c: what workers say of their attempts */
msg_fn on_step_result;
/* Give the step back with a checkpoint; the request is answered when that is recorded. Negative with *e: nothing has happened. */
int step_yield(struct session *s, uint32_t request, struct open_step *o, const msgpack_object *checkpoint, struct err *e) must_check;

/* recording.c: how attempts end, on the way to the database and back */
/* The request that records how the step's attempt ended; the claim's journal hold moves to it. NULL: out of memory. */
struct req *result_req(const struct claim *c, const struct uuid *step, enum outcome outcome);
void result_set_error(struct req *r, const char *type, const char *message);
/* NULL: it is not on its way. */
struct recording *recording_find(struct server *srv, const struct step_key *key);
void recording_begin(struct server *srv, const struct step_key *key);
/* The same has come once more: it is acknowledged as well. */
void recording_again(struct recording *g, const struct session *s, int attempt);
void recordings_free(struct server *srv);
void ack(struct session *s, const struct uuid *step, int attempt, const char *status, const char *message);
void result_answered(struct server *srv, struct req *r);
/* A result of an attempt that is not open here, with a valid proof: the database knows what became of it. */
void late_result_ask(struct session *s, const struct uuid *step, int attempt, const struct uuid *task, unsigned no, uint32_t fence);
void late_result_answered(struct server *srv, struct req *r);

/* orphans.c */
void steps_adopted(struct server *srv, struct claim *claims);
void orphans_give_up(struct server *srv);

/* tasks.c: creating, cancelling */
/* The most tasks of one task.create_many: the answer, whatever becomes of each, must go into a frame. */
unsigned bulk_max(const struct options *opt);
msg_fn on_task_create, on_task_create_many, on_task_cancel;
void create_answered(struct server *srv, struct req *r);
/* Free what unanswered requests of bulks share (only when stopping). */
void bulk_abandon(struct mail *reqs);
void cancel_answered(struct server *srv, struct req *r);

/* operate.c: what people do by hand */
/* The parameters of an action as JSON, with who asks for it. 0 or negative with *e. */
int operate_args(struct session *s, const msgpack_object *params, struct buf *out, struct err *e) must_check;
/* Only that, as a member of a map: "by":{...}. */
int operate_put_by(const struct session *s, struct buf *out, struct err *e) must_check;
/* An action has been done: whoever watches its task looks again. */
void operated(struct server *srv, const struct buf *answer);

/* tokens.c: bearer tokens */
/* Draw the secret of a new token: its id and hash go into the request, itself nowhere but into the answer. */
int token_prepare(struct session *s, const msgpack_object *params, struct req *r, struct buf *members, struct err *e) must_check;
void token_created(struct server *srv, struct req *r);
/* Ask for the tokens that are good, if any can come: the time has come for it; they may have changed. */
void tokens_tick(struct server *srv);
void tokens_changed(struct server *srv);
void tokens_synced(struct server *srv, struct req *r);

/* starts.c: tasks that begin later */
/* One may be due; the next one is due then. */
void starts_hint(struct server *srv);
void starts_due(struct server *srv, int64_t in_ms);
/* Ask for what is due, if anything may be. */
void starts_run(struct server *srv);
void starts_answered(struct server *srv, struct req *r);
void starts_free(struct server *srv);

/* waits.c */
msg_fn on_task_wait;
/* The task's first step was claimed for this node as the task was made: its end will be heard of here. */
void task_begun(struct server *srv, const struct uuid *task);
/* It has settled, in a state that is not known here. */
void task_settled_elsewhere(struct server *srv, const struct uuid *task);
void task_settled(struct server *srv, const struct uuid *task, const char *state);
/* Ask about the tasks that nobody has asked about yet; about all of them again. */
void waits_ask(struct server *srv);
void waits_recheck(struct server *srv);
void waits_answered(struct server *srv, struct req *r);
void waits_forget(struct session *s);
void waits_free(struct server *srv);

/* watch.c */
msg_fn on_task_watch, on_task_unwatch;
void watch_touch(struct server *srv, const struct uuid *task);
void watch_tick(struct server *srv);
/* A handler's progress report; `progress` may be NULL. */
void watch_progress(struct server *srv, const struct open_step *o, const msgpack_object *progress);
void watch_answered(struct server *srv, struct req *r);
void watch_forget(struct session *s);
void watches_free(struct server *srv);

/* subscribe.c: fast domain events */
msg_fn on_event_subscribe, on_event_unsubscribe;
/* Events were published: push them, and tell those who wait for durable ones. */
void events_fired(struct server *srv, struct fired *list);
/* The event.message of what is gathered, and of what was lost once all else is read. */
void events_gather(struct session *s);
void subscriber_free(struct session *s);
/* Check a list of patterns of a request. 0 or -EINVAL with *e. */
int check_event_patterns(const msgpack_object *patterns, struct err *e) must_check;

/* publish.c: events of clients, and what workers say of those of their steps */
msg_fn on_event_publish;
void event_publish_answered(struct server *srv, struct req *r);
/* `events` of a result into the request; what is wrong with it is told there too. */
void read_event_words(const struct options *opt, const msgpack_object *events, struct req_result *q);

/* consume.c: durable domain events */
msg_fn on_event_consume, on_event_ack, on_event_extend;
void consume_answered(struct server *srv, struct req *r);
/* A namespace's queue has `n` messages more (0: some). */
void consumers_hint(struct server *srv, const char *ns, unsigned n);
/* Everybody who waits looks again. */
void consumers_recheck(struct server *srv);
void consumers_forget(struct session *s);
/* No more will come: all are answered. */
void consumers_drain(struct server *srv);
void consumers_free(struct server *srv);

/* workers.c: what is known of workers and of this node, and sending workers home */
typedef void transform_fn(struct server *srv, const msgpack_object *answer, struct buf *out);
transform_fn add_worker_load, add_worker_steps;
/* A result of this handler was recorded. */
void handler_did(struct server *srv, int id);
void rates_tick(struct server *srv, usec_t now);
double rate_rounded(const struct rate *r);
/* The unit that a process belongs to, by its control group; empty if none is known. */
void unit_of(pid_t pid, char *out, size_t size);
/* The worker is to finish what it runs, and to end. */
void worker_drain(struct session *s);
void worker_drain_answered(struct server *srv, const struct buf *answer);
/* By their uuids, from whichever node the order came. */
void workers_drain(struct server *srv, struct done *d);

/* info.c: everything that is answered by one query or from memory */
/* Of the database, as server.info names it. */
const char *database_state(const struct server *srv);
msg_fn on_template_apply, on_template_validate; /* templates.c */
msg_fn on_server_metrics; /* metrics_scrape.c */
msg_fn on_ping, on_server_info, on_server_config;
extern const char API_TEMPLATE_REGISTER[];
void template_applied(struct server *srv, struct req *r);
/* How many are being read, or wait to be. */
unsigned templates_under_way(const struct server *srv);
void templates_stop(struct server *srv);
/* Write `map` with more pairs to come after its own. */
void copy_map(struct buf *out, const msgpack_object *map, uint32_t more);
/* {"<key>": [items]} with each item passed through `fn`. */
void each_item(struct server *srv, const msgpack_object *answer, const char *key, struct buf *out, transform_fn *fn);
/* Requests that are one SQL function. */
void api_submit(struct session *s, uint32_t id, enum msg_id m, const msgpack_object *params);
void api_answered(struct server *srv, struct req *r);
/* Answer with a value that is MessagePack already. False: it does not fit into a frame, which is what was answered. */
bool reply_answer(struct session *s, uint32_t id, const struct buf *answer);
/* Answer with the task object in r->answer. False: it does not fit into a frame, which is what was answered. */
bool reply_task(struct session *s, struct req *r);
/* Set r->api.args to the MessagePack map in `b` as JSON, with "node" added. 0 or negative. */
int api_args_from_mp(struct req *r, const struct buf *b, struct server *srv) must_check;

/* server.c */
typedef void event_fn(evutil_socket_t fd, short what, void *arg);
void server_status(struct server *srv);
void server_stop(struct server *srv);
void server_fail(struct server *srv, const struct err *e);
/* answers.c */
event_fn on_answers;
/* Begin what was submitted to the store. */
void server_kick(struct server *srv);
/* hangs.c: calls that the database does not answer while it answers others */
void hangs_tick(struct server *srv);
/* "hanging": [{thread, call, ms, backend}] */
void hangs_write(const struct server *srv, struct buf *out);
transform_fn hangs_add_check; /* to the answer of doctor */
/* doors.c */
event_fn on_open, on_accept, on_accept_again;
int doors_listen(struct server *srv, struct err *e) must_check;
/* Take connections from now on; no more. */
void doors_open(struct server *srv);
void doors_close(struct server *srv);
/* drain.c */
event_fn on_stop_signal, on_restart_signal, on_drain_check;
/* Steps that nobody answered in time go back without using an attempt. */
void drain_release(struct server *srv);
/* embedded.c */
void embedded_watch(struct server *srv);
void embedded_unwatch(struct server *srv);
void embedded_revived(struct server *srv, struct done *d);
/* reload.c */
void server_reload(struct server *srv);
/* A warning for each line of what was found in a file. */
void log_notes(const char *about, const char *text);
int server_watchdog(struct server *srv) must_check;

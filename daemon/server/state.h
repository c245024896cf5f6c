/* The state of the server: what the files of this layer share. Everything here belongs to the loop thread; the types
 * without a definition here are those of the file that a group names. */
#pragma once
#include <event2/event_struct.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include "daemon/base/clock.h"
#include "daemon/base/err.h"
#include "daemon/base/listen.h"
#include "daemon/base/log.h"
#include "daemon/base/mailbox.h"
#include "daemon/server/front.h"
#include "daemon/server/metrics.h"
#include "daemon/server/server.h"
#include "daemon/store/store.h"

struct auth;
struct consumer;
struct embed;
struct event_base;
struct handler;
struct journal;
struct open_step;
struct peer;
struct pool;
struct prover;
struct recent;
struct recording;
struct session;
struct subscriber;
struct template_name;
struct template_reader;
struct waited;
struct watch;

struct server {
	struct options *opt; /* a reload changes some */
	struct event_base *base;
	usec_t started;

	/* doors.c: where it listens */
	int listen_fd;
	bool own_socket;
	bool open;		  /* takes connections */
	int http_fds[LISTEN_MAX]; /* sockets for HTTP that the service manager has passed */
	size_t n_http_fds;
	struct event *ev_listen, *ev_open, *ev_accept_again;

	/* The front end besides the socket, and who knows its tokens: tokens.c. */
	const struct front *front;
	void *front_state; /* NULL: not started */
	struct auth *auth;
	bool tokens_asking, tokens_again; /* an answer is awaited; and is to be asked for once more */
	usec_t tokens_asked;

	/* session.c, quota.c: who is connected */
	struct session *sessions; /* by id */
	uint64_t next_session;
	size_t n_sessions;
	unsigned n_held_back;
	unsigned announcing; /* workers, to the database */
	TAILQ_HEAD(, session) dirty;
	struct peer *peers, *peers_by_key; /* by id; by whom */
	uint64_t next_peer;

	/* pool.c: who can run what */
	struct handler *handlers; /* by id */
	struct pool *pools;
	unsigned next_pool;
	usec_t rates_at;

	/* Steps that this node holds. */
	struct open_step *steps;     /* by key, given to sessions */
	struct open_step *orphans;   /* by key: held since before the restart, waiting for their worker */
	struct recording *recording; /* by key, on their way to the database */
	struct journal *journals;    /* by slot */
	struct prover *prover;	     /* of claims shown to the loop */
	struct event *ev_grace;	     /* when orphans are given up */

	/* waits.c */
	struct waited *waited; /* by task */
	TAILQ_HEAD(, waited) to_ask;
	bool asking;	       /* a question about waited-for tasks is under way */
	struct recent *recent; /* by task */
	TAILQ_HEAD(, recent) recent_order; /* the oldest first */

	/* watch.c, subscribe.c, consume.c */
	struct watch *watches;
	LIST_HEAD(, subscriber) subscribers;
	size_t n_subscribers;
	TAILQ_HEAD(, consumer) consumers;

	struct template_reader *templates; /* templates.c; from the first template on */

	/* starts.c */
	bool starts_hinted, starting; /* tasks may be due; they are being started */
	usec_t starts_at;	      /* when the timer fires, 0: not set */
	struct event *ev_starts;

	/* The store, and what is known of the database: answers.c, hangs.c. */
	struct store *store;
	struct mailbox answers;
	struct event *ev_answers;
	struct event ev_lane; /* set while the loop has a call of its own under way */
	bool ever_up, db_up, adopted; /* it was reached once; it is; and what this node holds is known */
	int db_server_version, db_schema_version;
	char db_pgmq[32];
	char db_error[512];
	char db_stuck[512]; /* why it writes nothing, or empty */
	struct store_hang hangs[STORE_HANGS_MAX]; /* calls that it does not answer, as of the last look */
	size_t n_hangs;

	/* embedded.c */
	struct embed *em; /* NULL: there is none */
	int embedded_fd;
	struct event *ev_embedded;
	pthread_t reviver; /* restarts it while `reviving` */
	bool reviving;

	/* drain.c: stopping */
	bool draining, stop;
	bool handing; /* while draining: to the next daemon, which goes on with the sessions */
	unsigned stop_signals;
	usec_t drain_until;
	struct event *ev_term, *ev_int, *ev_restart, *ev_drain;
	struct err fatal;
	bool has_fatal;

	/* Other timers and signals: server.c, reload.c, watchdog.c. */
	struct event *ev_hup, *ev_tick, *ev_poll, *ev_watchdog;
	usec_t watchdog_us; /* of the service manager, or 0 */
	char status[600];   /* what the service manager was told last */

	/* What is told: notes.c, metrics.h. */
	struct template_name *template_names; /* by id, of steps that the log was told about */
	struct ratelimit step_log;	      /* of failed attempts */
	struct ratelimit peer_log;	      /* what peers can provoke, all together */
	struct metrics metrics;
	uint64_t c_frames, c_steps_sent, c_results, c_lost, c_timeouts, c_protocol_errors, c_rejected_sessions,
		c_denied, c_events_queued, c_events_fast, c_events_pushed, c_events_lost, c_events_refused;
};

/* Tell the service manager how it is, if that has changed. */
void server_status(struct server *srv);
/* Leave the loop. */
void server_stop(struct server *srv);
/* Leave it because of that error, with which server_run ends. */
void server_fail(struct server *srv, const struct err *e);

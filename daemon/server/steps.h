/* Steps that this node holds and has given to sessions, or is about to. */
#pragma once
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include "daemon/base/clock.h"
#include "daemon/base/hash.h"
#include "daemon/core/uuid.h"
#include "daemon/server/message.h"
#include "daemon/store/request.h"

struct server;
struct session;

/* One attempt of one step: a retry may run beside an attempt that the daemon has ended. */
struct step_key {
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

msg_fn on_step_heartbeat;
/* The open step of this session that the claim is for; NULL with the status of an acknowledgement. */
struct open_step *step_claimed(struct session *s, const struct uuid *step, int attempt, const uint8_t *claim,
                               const char **ret_status);
void step_give(struct session *s, struct open_step *o);
size_t step_items(const struct claim *c);
/* takes c; NULL: out of memory (then c is lost to the journal) */
struct open_step *step_new(struct server *srv, struct claim *c);
/* A step of a former incarnation has found its worker again: it is open on `s`. */
void step_resume(struct session *s, struct open_step *o);
/* What this node knows of an attempt with a valid claim: open on `s` (confirmed, or forgotten if it was ended), an
 * orphan (now open on `s`), or being recorded: true. */
bool step_held(struct session *s, const struct step_key *key);
/* Take the step off its session, whose place is free, and free it. */
void step_forget(struct open_step *o);
/* Forget what the session runs, without a word to the database. */
void steps_forget(struct session *s);
void steps_free(struct server *srv);

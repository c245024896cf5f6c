/* Waiting for tasks without polling. A wait is registered first and the database asked second, so that a task that
 * settles in between is not missed; after that the task's own settling (here, or told by another node) ends it.
 * Questions that gather while one is under way go together. */
#include "daemon/server/waits.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include "daemon/base/err.h"
#include "daemon/base/hash.h"
#include "daemon/core/states.h"
#include "daemon/core/uuid.h"
#include "daemon/server/bounds.h"
#include "daemon/server/front.h"
#include "daemon/server/quota.h"
#include "daemon/server/reply.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/server/steps.h"
#include "daemon/server/watch.h"
#include "daemon/store/request.h"
#include "daemon/store/store.h"
#include "protocol/mp.h"

#define ASK_MAX 1000u /* tasks in one question */

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

/* What is known of a task that somebody waits for. */
enum asked { NOT_ASKED, TO_ASK, ASKED, KNOWN };

struct waited {
	struct uuid task;
	enum asked asked;
	TAILQ_ENTRY(waited) ask_link;
	char state[32]; /* last heard, or empty */
	UT_hash_handle hh;
	TAILQ_HEAD(, wait) waits;
};

/* A task this daemon has lately made and begun: until it hears that the task has settled, it has not. */
struct recent {
	struct uuid task;
	bool complete;
	UT_hash_handle hh;
	TAILQ_ENTRY(recent) link;
};

static void reply_wait(struct server *srv, const struct wait *w, const char *state)
{
	struct session *s = session_find(srv, w->session);
	char uuid[UUID_TEXT];
	int st = task_state_parse(state);
	unsigned flags = st < 0 ? 0 : task_states[st].flags;
	if (!s || !session_speaks(s))
		return;
	uuid_format(&w->of->task, uuid);
	size_t mark = reply_begin(s, w->request);
	mp_map(&s->wire.out, 4);
	mp_str(&s->wire.out, "task_uuid");
	mp_str(&s->wire.out, uuid);
	mp_str(&s->wire.out, "state");
	mp_str(&s->wire.out, state);
	mp_str(&s->wire.out, "settled");
	mp_bool(&s->wire.out, flags & STATE_SETTLED);
	mp_str(&s->wire.out, "finished");
	mp_bool(&s->wire.out, flags & STATE_FINISHED);
	reply_end(s, mark);
}

static void waited_set(struct server *srv, struct waited *t, enum asked asked)
{
	if (t->asked == TO_ASK)
		TAILQ_REMOVE(&srv->to_ask, t, ask_link);
	t->asked = asked;
	if (asked == TO_ASK)
		TAILQ_INSERT_TAIL(&srv->to_ask, t, ask_link);
}

/* Frees the waited-for task with its last wait. */
static void wait_free(struct server *srv, struct wait *w)
{
	struct waited *t = w->of;
	struct session *s = session_find(srv, w->session);
	if (s)
		s->n_waits--;
	quota_release(srv, w->peer);
	event_del(&w->timer);
	TAILQ_REMOVE(&t->waits, w, link);
	free(w);
	if (!TAILQ_EMPTY(&t->waits))
		return;
	waited_set(srv, t, NOT_ASKED);
	HASH_DEL(srv->waited, t);
	free(t);
}

static struct waited *waited_find(struct server *srv, const struct uuid *task)
{
	struct waited *t;
	HASH_FIND(hh, srv->waited, task, sizeof *task, t);
	return t;
}

bool task_is_waited_for(const struct server *srv, const struct uuid *task)
{
	const struct waited *t;
	HASH_FIND(hh, srv->waited, task, sizeof *task, t);
	return t;
}

/* Visit every wait of `t`; `fn` returns true to end it. */
static void each_wait(struct server *srv, struct waited *t,
                      bool (*fn)(struct server *srv, struct wait *w, const void *arg), const void *arg)
{
	for (struct wait *w = TAILQ_FIRST(&t->waits), *next; w; w = next) {
		next = TAILQ_NEXT(w, link);
		if (fn(srv, w, arg))
			wait_free(srv, w); /* frees t only if nothing is next */
	}
}

static bool end_settled(struct server *srv, struct wait *w, const void *state)
{
	reply_wait(srv, w, state);
	return true;
}

static bool end_expired(struct server *srv, struct wait *w, const void *state)
{
	if (w->expired)
		reply_wait(srv, w, state);
	return w->expired;
}

static bool end_refused(struct server *srv, struct wait *w, const void *err)
{
	struct session *s = session_find(srv, w->session);
	if (s && session_speaks(s))
		reply_error(s, w->request, err);
	return true;
}

/* Tasks begun here ------------------------------------------------------------------------------------------------- */

static struct recent *recent_find(struct server *srv, const struct uuid *task)
{
	struct recent *r;
	HASH_FIND(hh, srv->recent, task, sizeof *task, r);
	return r;
}

static void recent_free(struct server *srv, struct recent *r)
{
	HASH_DEL(srv->recent, r);
	TAILQ_REMOVE(&srv->recent_order, r, link);
	free(r);
}

static void recent_forget_all(struct server *srv)
{
	while (!TAILQ_EMPTY(&srv->recent_order))
		recent_free(srv, TAILQ_FIRST(&srv->recent_order));
}

void task_begun(struct server *srv, const struct uuid *task)
{
	struct recent *r = HASH_COUNT(srv->recent) < RECENT_MAX ? NULL : TAILQ_FIRST(&srv->recent_order);
	if (r)
		recent_free(srv, r);
	r = calloc(1, sizeof *r);
	if (!r)
		return; /* who waits for it asks the database */
	r->task = *task;
	HASH_ADD(hh, srv->recent, task, sizeof r->task, r);
	TAILQ_INSERT_TAIL(&srv->recent_order, r, link);
}

/* Complete is for ever; from another state an operator may bring the task back. */
static void recent_settled(struct server *srv, const struct uuid *task, const char *state)
{
	struct recent *r = recent_find(srv, task);
	if (r && strcmp(state, "complete") == 0)
		r->complete = true;
	else if (r)
		recent_free(srv, r);
}

void task_settled_elsewhere(struct server *srv, const struct uuid *task)
{
	recent_settled(srv, task, "");
}

void task_settled(struct server *srv, const struct uuid *task, const char *state)
{
	struct waited *t = waited_find(srv, task);
	int st = task_state_parse(state);
	recent_settled(srv, task, state);
	watch_touch(srv, task);
	if (t && st >= 0 && (task_states[st].flags & STATE_SETTLED))
		each_wait(srv, t, end_settled, state);
}

/* Asking ----------------------------------------------------------------------------------------------------------- */

void waits_ask(struct server *srv)
{
	struct waited *t;
	if (srv->asking || !srv->db_up || TAILQ_EMPTY(&srv->to_ask))
		return;
	struct req *r = req_new(REQ_STATES, (struct origin){0});
	if (!r)
		return; /* the next turn asks */
	r->states.tasks = calloc(ASK_MAX, sizeof *r->states.tasks);
	r->states.states = calloc(ASK_MAX, sizeof *r->states.states);
	if (!r->states.tasks || !r->states.states) {
		req_free(r);
		return;
	}
	while ((t = TAILQ_FIRST(&srv->to_ask)) && r->states.n < ASK_MAX) {
		r->states.tasks[r->states.n++] = t->task;
		waited_set(srv, t, ASKED);
	}
	srv->asking = true;
	store_submit(srv->store, r);
}

void waits_recheck(struct server *srv)
{
	struct waited *t, *tmp;
	recent_forget_all(srv); /* something may have been missed */
	HASH_ITER(hh, srv->waited, t, tmp)
		if (t->asked == KNOWN)
			waited_set(srv, t, TO_ASK);
	waits_ask(srv);
}

static void take_state(struct server *srv, struct waited *t, const char *state)
{
	static const struct err missing = {.code = "not_found", .path = "task_uuid", .text = "no such task"};
	int st = task_state_parse(state);
	waited_set(srv, t, KNOWN);
	snprintf(t->state, sizeof t->state, "%s", state);
	if (!state[0])
		each_wait(srv, t, end_refused, &missing);
	else
		each_wait(srv, t, st >= 0 && (task_states[st].flags & STATE_SETTLED) ? end_settled : end_expired,
		          state);
}

void waits_answered(struct server *srv, struct req *r)
{
	srv->asking = false;
	for (size_t i = 0; i < r->states.n; i++) {
		struct waited *t = waited_find(srv, &r->states.tasks[i]);
		if (!t || t->asked != ASKED)
			continue;
		if (!r->failed)
			take_state(srv, t, r->states.states[i]);
		else if (strcmp(r->err.code, "database_unavailable") == 0)
			waited_set(srv, t, TO_ASK); /* when it is back */
		else
			each_wait(srv, t, end_refused, &r->err);
	}
	waits_ask(srv);
}

/* Waiting ---------------------------------------------------------------------------------------------------------- */

static void on_wait_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct wait *w = arg;
	struct server *srv = w->srv;
	(void)fd, (void)what;
	w->expired = true;
	if (!srv->db_up && w->of->state[0]) { /* the last that was heard */
		reply_wait(srv, w, w->of->state);
		wait_free(srv, w);
	} else if (w->of->asked == KNOWN) {
		waited_set(srv, w->of, TO_ASK); /* the answer ends it */
	}
	server_flush(srv);
}

static struct waited *waited_get(struct server *srv, const struct uuid *task)
{
	struct waited *t = waited_find(srv, task);
	if (t || !(t = calloc(1, sizeof *t)))
		return t;
	t->task = *task;
	TAILQ_INIT(&t->waits);
	HASH_ADD(hh, srv->waited, task, sizeof t->task, t);
	return t;
}

void on_task_wait(struct session *s, uint32_t id, const msgpack_object *params)
{
	const char *p = "";
	size_t n = 0;
	struct uuid task;
	int64_t ms = -1;
	(void)!mp_get_str(params, "task_uuid", &p, &n);
	struct err e = {0};
	if (quota_may_ask(s, &e) < 0) {
		reply_error(s, id, &e);
		return;
	}
	struct wait *w = s->n_waits < WAITS_MAX ? calloc(1, sizeof *w) : NULL;
	struct waited *t = w && uuid_parse(p, n, &task) == 0 ? waited_get(s->srv, &task) : NULL;
	if (!t) {
		free(w);
		reply_errorf(s, id, "overloaded", NULL, "at most %d waits on a session", WAITS_MAX);
		return;
	}
	s->n_waits++;
	w->peer = quota_hold(s);
	w->session = s->id;
	w->request = id;
	w->of = t;
	w->srv = s->srv;
	event_assign(&w->timer, s->srv->base, -1, 0, on_wait_timeout, w);
	if (mp_get_int(params, "timeout_ms", 0, INT32_MAX, &ms) == 1)
		event_add(&w->timer, &(struct timeval){.tv_sec = (time_t)(ms / 1000), .tv_usec = ms % 1000 * 1000});
	TAILQ_INSERT_TAIL(&t->waits, w, link);
	const struct recent *r = recent_find(s->srv, &task);
	if (r && t->asked == NOT_ASKED)
		take_state(s->srv, t, r->complete ? "complete" : "steps_in_process");
	else if (t->asked == NOT_ASKED || t->asked == KNOWN)
		waited_set(s->srv, t, TO_ASK);
}

static bool end_of_session(struct server *srv, struct wait *w, const void *session)
{
	(void)srv;
	return w->session == *(const uint64_t *)session;
}

void waits_forget(struct session *s)
{
	struct waited *t, *tmp;
	if (s->n_waits > 0)
		HASH_ITER(hh, s->srv->waited, t, tmp)
			each_wait(s->srv, t, end_of_session, &s->id);
}

static bool end_silently(struct server *srv, struct wait *w, const void *arg)
{
	(void)srv, (void)w, (void)arg;
	return true;
}

void waits_free(struct server *srv)
{
	struct waited *t, *tmp;
	recent_forget_all(srv);
	HASH_ITER(hh, srv->waited, t, tmp)
		each_wait(srv, t, end_silently, NULL);
}

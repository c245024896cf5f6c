/* Steps this node holds. An open step is in the table by attempt and in its session's list; when its result arrives
 * (results.c), or its attempt ends without one (step_ends.c), its identity moves into the request to the store
 * (recording.c) and the session's place is free again. */
#include "daemon/server/steps.h"

#include <event2/event.h>
#include <stdlib.h>
#include <sys/queue.h>
#include "daemon/base/clock.h"
#include "daemon/base/hash.h"
#include "daemon/base/need.h"
#include "daemon/core/uuid.h"
#include "daemon/server/bounds.h"
#include "daemon/server/metrics.h"
#include "daemon/server/notes.h"
#include "daemon/server/pool.h"
#include "daemon/server/recording.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/server/step_ends.h"
#include "daemon/server/traces.h"
#include "daemon/server/watch.h"
#include "daemon/store/proof.h"
#include "daemon/store/request.h"
#include "daemon/store/store.h"
#include "protocol/buf.h"
#include "protocol/mp.h"
#include "protocol/scan.h"

struct open_step *step_new(struct server *srv, struct claim *c)
{
	struct open_step *o = need(calloc(1, sizeof *o));
	o->key = (struct step_key){uuid_for_step(&c->task, (unsigned)c->step_no), (uint32_t)c->fence};
	o->claim = c;
	o->home = srv;
	o->claimed = srv->metrics.now;
	return o;
}

static void step_free(struct open_step *o)
{
	claim_free(o->claim);
	free(o);
}

void step_forget(struct open_step *o)
{
	struct session *s = o->session;
	if (s) {
		if (o->timer_set)
			event_del(&o->timer);
		HASH_DEL(s->srv->steps, o);
		TAILQ_REMOVE(&s->work.steps, o, link);
		session_open_changed(s, -1);
	}
	step_free(o);
}

static void open_on(struct session *s, struct open_step *o)
{
	o->session = s;
	HASH_ADD(hh, s->srv->steps, key, sizeof o->key, o);
	TAILQ_INSERT_TAIL(&s->work.steps, o, link);
	session_open_changed(s, 1);
	step_set_timer(o);
}

/* MessagePack items of a step's pairs; exactly only where it could matter. */
size_t step_items(const struct claim *c)
{
	return c->body.len < ITEMS_EXACT_FROM ? c->body.len : scan_count(c->body.data, c->body.len);
}

void step_give(struct session *s, struct open_step *o)
{
	size_t items = step_items(o->claim);
	if (s->gathered.n_executes > 0 &&
	    (s->gathered.executes.len + o->claim->body.len > s->srv->opt->max_frame - STEP_OVERHEAD ||
	     s->gathered.execute_items + items > ITEMS_MAX - STEP_OVERHEAD))
		session_gather(s);
	s->gathered.execute_items += items;
	o->confirmed = true; /* sent on this very connection */
	step_put(s->srv, o->claim, &s->gathered.executes);
	s->gathered.n_executes++;
	s->srv->c_steps_sent++;
	o->given = now_mono();
	metrics_started(s->srv, o->claim, o->given - o->claimed);
	if (!o->claim->parts.whole || o->claim->body.len > HELD_BODY_MAX) {
		note_template(s->srv, o->claim);
		buf_done(&o->claim->body);
	}
	open_on(s, o);
	session_mark_first(s);
	watch_touch(s->srv, &o->claim->task);
}

void step_resume(struct session *s, struct open_step *o)
{
	open_on(s, o);
}

bool step_held(struct session *s, const struct step_key *key)
{
	struct open_step *o;
	HASH_FIND(hh, s->srv->steps, key, sizeof *key, o);
	if (o && o->session == s && o->ended) {
		step_forget(o); /* it has just said its word about it */
		return false;
	}
	if (o && o->session == s)
		return o->confirmed = true;
	HASH_FIND(hh, s->srv->orphans, key, sizeof *key, o);
	if (!o)
		return recording_find(s->srv, key) != NULL;
	HASH_DEL(s->srv->orphans, o);
	o->confirmed = true;
	step_resume(s, o);
	return true;
}

struct open_step *step_claimed(struct session *s, const struct uuid *step, int attempt, const uint8_t *claim,
                               const char **ret_status)
{
	struct step_key key = {.uuid = *step};
	struct uuid task;
	unsigned no;
	struct open_step *o = NULL;
	*ret_status = "not_claimed";
	if (!uuid_split_step(step, &task, &no) ||
	    proof_check(s->srv->prover, store_secret(s->srv->store), &task, no, claim, &key.fence) < 0)
		return NULL;
	HASH_FIND(hh, s->srv->steps, &key, sizeof key, o);
	if (o && (o->session != s || o->claim->attempt != attempt))
		return NULL;
	*ret_status = "stale";
	return o && !o->ended ? o : NULL;
}

void on_step_heartbeat(struct session *s, uint32_t id, const msgpack_object *params)
{
	const char *p;
	size_t n;
	struct uuid u;
	struct open_step *o = NULL;
	(void)id;
	if (mp_get_str(params, "step_uuid", &p, &n) != 1 || uuid_parse(p, n, &u) < 0)
		return;
	TAILQ_FOREACH(o, &s->work.steps, link)
		if (uuid_eq(&o->key.uuid, &u) && !o->ended)
			watch_progress(s->srv, o, mp_get(params, "progress"));
}

void steps_forget(struct session *s)
{
	struct open_step *o;
	while ((o = TAILQ_FIRST(&s->work.steps)))
		step_forget(o);
}

void steps_free(struct server *srv)
{
	struct open_step *o, *tmp;
	HASH_ITER(hh, srv->orphans, o, tmp) {
		HASH_DEL(srv->orphans, o);
		step_free(o);
	}
}

/* Recording how attempts end: the request to the store, who sends the same again meanwhile, and what the worker is
 * told. */
#include "daemon/server/recording.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/base/clock.h"
#include "daemon/base/hash.h"
#include "daemon/base/log.h"
#include "daemon/base/need.h"
#include "daemon/core/uuid.h"
#include "daemon/server/journal.h"
#include "daemon/server/metrics.h"
#include "daemon/server/notes.h"
#include "daemon/server/pool.h"
#include "daemon/server/rates.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/server/step_calls.h"
#include "daemon/server/steps.h"
#include "daemon/server/watch.h"
#include "daemon/store/request.h"
#include "daemon/store/store.h"
#include "protocol/buf.h"
#include "protocol/mp.h"
#include "protocol/mpjson.h"

const char API_ATTEMPT_STATUS[] = "tasker.api_attempt_status";

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

struct req *result_req(const struct claim *c, const struct uuid *step, enum outcome outcome)
{
	struct req *r = req_new(REQ_RESULT, (struct origin){0});
	if (!r)
		return NULL;
	r->result.task_id = c->task_id;
	r->task = c->task;
	r->result.step_no = c->step_no;
	r->result.fence = c->fence;
	r->result.attempt = c->attempt;
	r->result.template_id = c->template_id;
	r->result.handler_id = c->handler_id;
	r->result.step = *step;
	r->result.outcome = outcome;
	r->result.retry = outcome == OUTCOME_TIMEOUT || outcome == OUTCOME_WORKER_LOST;
	r->result.retry_after_ms = -1;
	r->result.finished = now_wall();
	r->result.slot = c->slot;
	r->result.publishes = c->publishes;
	r->result.series = c->series;
	r->result.trace = c->trace;
	return r;
}

void result_set_error(struct req *r, const char *type, const char *message)
{
	struct buf b;
	buf_init(&b, 0);
	mp_map(&b, 2);
	mp_str(&b, "message");
	mp_str(&b, message);
	mp_str(&b, "error_type");
	mp_str(&b, type);
	struct mp_value v;
	struct buf json;
	struct mpjson_error je;
	buf_init(&json, 0);
	if (!b.failed && mp_decode(b.data, b.len, &v) == 0) {
		if (mp_to_json(&v.root, "", &json, &je) == 0 && buf_text(&json))
			text_set(&r->result.error, buf_text(&json), json.len);
		mp_value_done(&v);
	}
	buf_done(&json);
	buf_done(&b);
	snprintf(r->err.text, sizeof r->err.text, "%s", message);
}

/* Under way -------------------------------------------------------------------------------------------------------- */

struct recording *recording_find(struct server *srv, const struct step_key *key)
{
	struct recording *g;
	HASH_FIND(hh, srv->recording, key, sizeof *key, g);
	return g;
}

void recording_begin(struct server *srv, const struct step_key *key)
{
	struct recording *g = calloc(1, sizeof *g);
	if (!g)
		return; /* a second copy is then answered by the database */
	g->key = *key;
	HASH_ADD(hh, srv->recording, key, sizeof g->key, g);
}

void recording_again(struct recording *g, const struct session *s, int attempt)
{
	if (g->n_again == sizeof g->again / sizeof *g->again)
		return; /* its acknowledgement comes after its next reconnect */
	g->again[g->n_again].session = s->id;
	g->again[g->n_again++].attempt = attempt;
}

static void recording_end(struct server *srv, const struct step_key *key, const char *status)
{
	struct recording *g = recording_find(srv, key);
	if (!g)
		return;
	for (unsigned i = 0; i < g->n_again; i++) {
		struct session *s = session_find(srv, g->again[i].session);
		if (s && s->wire.fd >= 0)
			ack(s, &key->uuid, g->again[i].attempt, status, NULL);
	}
	HASH_DEL(srv->recording, g);
	free(g);
}

unsigned recordings_count(const struct server *srv)
{
	return HASH_COUNT(srv->recording);
}

void recordings_free(struct server *srv)
{
	struct recording *g, *tmp;
	HASH_ITER(hh, srv->recording, g, tmp) {
		HASH_DEL(srv->recording, g);
		free(g);
	}
}

/* Recorded --------------------------------------------------------------------------------------------------------- */

void ack(struct session *s, const struct uuid *step, int attempt, const char *status, const char *message)
{
	char uuid[UUID_TEXT];
	uuid_format(step, uuid);
	mp_map(&s->gathered.acks, message ? 4 : 3);
	mp_str(&s->gathered.acks, "step_uuid");
	mp_str(&s->gathered.acks, uuid);
	mp_str(&s->gathered.acks, "attempt");
	mp_int(&s->gathered.acks, attempt);
	mp_str(&s->gathered.acks, "status");
	mp_str(&s->gathered.acks, status);
	if (message) {
		mp_str(&s->gathered.acks, "message");
		mp_str(&s->gathered.acks, message);
	}
	s->gathered.n_acks++;
	session_mark_dirty(s);
}

/* The database would not take it: end the attempt with the reason instead. */
static void record_refusal(struct server *srv, struct req *r)
{
	struct req *again = need(req_new(REQ_RESULT, r->origin));
	char why[sizeof r->err.text];
	snprintf(why, sizeof why, "%s", r->err.text);
	again->result = r->result;
	again->result.held = NULL;
	again->result.value = (struct buf){0};
	again->task = r->task;
	memset(&again->result.result, 0, sizeof(struct text));
	memset(&again->result.error, 0, sizeof(struct text));
	memset(&again->result.meta, 0, sizeof(struct text));
	memset(&again->result.known, 0, sizeof(struct text));
	again->result.words = NULL;
	again->result.n_words = 0;
	again->result.outcome = OUTCOME_INVALID_RESULT;
	again->result.retry = false;
	result_set_error(again, "invalid_result", why);
	store_submit(srv->store, again);
}

/* What a recorded result brings with it. */
static void follow_up(struct server *srv, const struct req *r)
{
	if (r->result.events_refused > 0)
		note_refused_events(srv, r);
	if (r->result.outcome != OUTCOME_SUCCESS)
		note_failure(srv, r);
	if (strcmp(r->status, "retrying") == 0 && r->result.delay_ms > 0)
		pool_due(srv, r->result.handler_id, r->result.delay_ms);
}

/* The status of an acknowledgement; r->err says why something is rejected. */
static const char *verdict(const struct req *r, bool changed)
{
	if (r->result.outcome == OUTCOME_SUCCESS && strcmp(r->status, "failed") == 0)
		/* what it says about branches or batches cannot be done; the database has said why */
		return "rejected";
	if (!changed)
		return r->status;
	return r->result.outcome == OUTCOME_INVALID_RESULT ? "rejected" : "recorded";
}

static void tell(struct server *srv, const struct req *r, const char *word)
{
	struct session *s = r->origin.session ? session_find(srv, r->origin.session) : NULL;
	if (!s || s->wire.fd < 0)
		return;
	if (r->origin.request)
		reply_status(s, r->origin.request, word);
	else
		ack(s, &r->result.step, r->result.attempt, word, strcmp(word, "rejected") == 0 ? r->err.text : NULL);
}

void result_answered(struct server *srv, struct req *r)
{
	struct note n;
	if (r->failed && strcmp(r->err.code, "database_unavailable") == 0)
		return; /* only when stopping: the worker keeps the result and sends it again */
	if (r->failed && r->result.outcome != OUTCOME_INVALID_RESULT) {
		record_refusal(srv, r);
		return;
	}
	if (r->failed)
		log_event(LOG_RESULT_LOST, note_result(&n, srv, r), "the end of step %s cannot be recorded: %s", n.step,
		          r->err.text);
	else
		journal_release(srv, r->result.slot);
	bool changed = strcmp(r->status, "duplicate") != 0 && strcmp(r->status, "stale") != 0;
	const char *word = verdict(r, changed);
	struct step_key key = {r->result.step, (uint32_t)r->result.fence};
	if (!r->failed)
		metrics_recorded(srv, r, changed);
	if (changed) {
		handler_did(srv, r->result.handler_id);
		follow_up(srv, r);
	}
	tell(srv, r, word);
	recording_end(srv, &key, strcmp(word, "recorded") == 0 ? "duplicate" : word);
	watch_touch(srv, &r->task);
}

/* Results that come late ------------------------------------------------------------------------------------------- */

struct late_result {
	struct uuid step;
	int attempt;
};

void late_result_ask(struct session *s, const struct uuid *step, int attempt, const struct uuid *task, unsigned no,
                     uint32_t fence)
{
	struct req *r = req_new(REQ_API, (struct origin){.session = s->id});
	struct late_result *late = malloc(sizeof *late);
	char args[128], uuid[UUID_TEXT];
	if (!r || !late) {
		req_free(r);
		free(late);
		return; /* not acknowledged: the worker asks again after its next reconnect */
	}
	*late = (struct late_result){*step, attempt};
	uuid_format(task, uuid);
	int n = snprintf(args, sizeof args, "{\"task_uuid\":\"%s\",\"step_no\":%u,\"fence\":%u}", uuid, no, fence);
	text_set(&r->api.args, args, (size_t)n);
	r->api.function = API_ATTEMPT_STATUS;
	r->api.mode = API_READ;
	r->user = late;
	r->user_free = free;
	store_submit(s->srv->store, r);
}

void late_result_answered(struct server *srv, struct req *r)
{
	struct late_result *late = r->user;
	struct session *s = session_find(srv, r->origin.session);
	struct mp_value v;
	if (s && s->wire.fd >= 0 && !r->failed && mp_decode(r->answer.data, r->answer.len, &v) == 0) {
		const msgpack_object *status = mp_get(&v.root, "status");
		ack(s, &late->step, late->attempt, status && mp_str_eq(status, "duplicate") ? "duplicate" : "stale",
		    NULL);
		mp_value_done(&v);
	}
	free(late);
}

/* Steps this node holds: from the claim, through the worker, to the recorded result. An open step is in the table by UUID and in its session's list; when its
 * result arrives, its identity moves into the request to the store and the session's place is free again. */
#include "daemon/server/impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "daemon/store/proof.h"
#include "protocol/mpjson.h"
#include "protocol/scan.h"
#include "protocol/utf8.h"

const char API_ATTEMPT_STATUS[] = "tasker.api_attempt_status";

/* Journal: claims of one call are forgotten together ----------------------------------------------------------------------- */

void journal_hold(struct server *srv, int slot)
{
	struct journal *j;
	HASH_FIND(hh, srv->journals, &slot, sizeof slot, j);
	if (!j) {
		j = need(calloc(1, sizeof *j));
		j->slot = slot;
		HASH_ADD(hh, srv->journals, slot, sizeof slot, j);
	}
	j->open++;
}

void journal_release(struct server *srv, int slot)
{
	struct journal *j;
	HASH_FIND(hh, srv->journals, &slot, sizeof slot, j);
	if (!j || --j->open > 0)
		return;
	HASH_DEL(srv->journals, j);
	free(j);
	store_forget(srv->store, slot);
}

/* Life of an open step --------------------------------------------------------------------------------------------------- */

static void on_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct open_step *o = arg;
	struct server *srv = o->session->srv;
	(void)fd, (void)what;
	srv->c_timeouts++;
	step_end(o, OUTCOME_TIMEOUT, "no result within timeout_seconds");
	server_flush(srv);
}

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

/* Take the step off its session: its place is free. */
static void forget(struct open_step *o)
{
	struct session *s = o->session;
	if (s) {
		if (o->timer_set)
			event_del(&o->timer);
		HASH_DEL(s->srv->steps, o);
		TAILQ_REMOVE(&s->steps, o, link);
		session_open_changed(s, -1);
	}
	step_free(o);
}

static void open_on(struct session *s, struct open_step *o)
{
	o->session = s;
	HASH_ADD(hh, s->srv->steps, key, sizeof o->key, o);
	TAILQ_INSERT_TAIL(&s->steps, o, link);
	session_open_changed(s, 1);
	uint64_t ms = o->claim->timeout_ms;
	if (ms == 0)
		return;
	event_assign(&o->timer, s->srv->base, -1, 0, on_timeout, o);
	event_add(&o->timer, &(struct timeval){.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000)});
	o->timer_set = true;
}

/* MessagePack items of a step's pairs; exactly only where it could matter. */
size_t step_items(const struct claim *c)
{
	return c->body.len < ITEMS_EXACT_FROM ? c->body.len : scan_count(c->body.data, c->body.len);
}

void step_give(struct session *s, struct open_step *o)
{
	size_t items = step_items(o->claim);
	if (s->n_executes > 0 && (s->executes.len + o->claim->body.len > s->srv->opt->max_frame - STEP_OVERHEAD || s->execute_items + items > ITEMS_MAX - STEP_OVERHEAD))
		session_gather(s);
	s->execute_items += items;
	o->confirmed = true; /* sent on this very connection */
	mp_map(&s->executes, o->claim->fields);
	buf_join(&s->executes, &o->claim->body);
	s->n_executes++;
	s->srv->c_steps_sent++;
	o->given = now_mono();
	metrics_started(s->srv, o->claim, o->given - o->claimed);
	if (!o->claim->parts.whole || o->claim->body.len > HELD_BODY_MAX) {
		note_template(s->srv, o->claim);
		buf_done(&o->claim->body);
	}
	open_on(s, o);
	session_mark_dirty(s);
	watch_touch(s->srv, &o->claim->task);
}

void step_resume(struct session *s, struct open_step *o)
{
	open_on(s, o);
}

/* The request that records how the step's attempt ended; the claim's journal hold moves to it. */
static struct req *result_req(const struct claim *c, const struct uuid *step, enum outcome outcome)
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
	return r;
}

static void set_error(struct req *r, const char *type, const char *message)
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

void step_send_cancel(struct open_step *o, const char *reason)
{
	char uuid[UUID_TEXT];
	struct session *s = o->session;
	if (s->fd < 0)
		return;
	uuid_format(&o->key.uuid, uuid);
	size_t mark = notify_begin(s, "step.cancel");
	mp_map(&s->out, 3);
	mp_str(&s->out, "step_uuid");
	mp_str(&s->out, uuid);
	mp_str(&s->out, "attempt");
	mp_int(&s->out, o->claim->attempt);
	mp_str(&s->out, "reason");
	mp_str(&s->out, reason);
	notify_end(s, mark);
}

/* The attempt is over here, but the worker may still be running it: the place stays taken until it says something. */
static void await_word(struct open_step *o, const char *reason)
{
	o->ended = true;
	if (o->timer_set)
		event_del(&o->timer);
	o->timer_set = false;
	session_gather(o->session); /* a cancel must not overtake its step */
	step_send_cancel(o, reason);
}

void step_end(struct open_step *o, enum outcome outcome, const char *message)
{
	struct session *s = o->session;
	struct req *r = o->ended ? NULL : need(result_req(o->claim, &o->key.uuid, outcome));
	if (r) {
		note_template(o->home, o->claim);
		set_error(r, outcome_names[outcome], message);
		if (s && outcome != OUTCOME_RELEASED)
			r->result.worker = s->worker_uuid;
	}
	if (r && o->given && outcome != OUTCOME_RELEASED)
		metrics_ran(o->home, r->result.series, r->born - o->given);
	if (r)
		store_submit(o->home->store, r);
	if (outcome == OUTCOME_TIMEOUT && s && s->fd >= 0 && !o->ended)
		await_word(o, "timeout");
	else
		forget(o);
}

void steps_lost(struct session *s, enum outcome outcome, const char *message)
{
	struct open_step *o;
	while ((o = TAILQ_FIRST(&s->steps))) {
		if (outcome == OUTCOME_WORKER_LOST && !o->ended)
			s->srv->c_lost++;
		step_end(o, outcome, message);
	}
}

void steps_forget(struct session *s)
{
	struct open_step *o;
	while ((o = TAILQ_FIRST(&s->steps)))
		forget(o);
}

void steps_withdraw(struct session *s)
{
	struct open_step *o, *next;
	for (o = TAILQ_FIRST(&s->steps); o; o = next) {
		const struct handler *h = handler_find(s->srv, o->claim->handler_id);
		next = TAILQ_NEXT(o, link);
		if (o->ended || !h || access_allows(&s->access, ROLE_WORK, h->ns, strlen(h->ns)))
			continue;
		session_gather(s); /* a cancel must not overtake its step */
		step_send_cancel(o, "access_withdrawn");
		step_end(o, OUTCOME_RELEASED, "its worker may no longer work in the namespace");
	}
}

static void cancel_open(struct open_step *o, const char *reason)
{
	journal_release(o->session->srv, o->claim->slot);
	if (o->session->fd >= 0)
		await_word(o, reason);
	else
		forget(o);
}

void steps_cancelled(struct server *srv, const struct uuid *what, const char *reason)
{
	struct open_step *o, *tmp;
	HASH_ITER(hh, srv->steps, o, tmp)
		if ((uuid_eq(&o->claim->task, what) || uuid_eq(&o->key.uuid, what)) && !o->ended)
			cancel_open(o, reason);
}

void attempt_cancelled(struct server *srv, const struct cancelled *x, const char *reason)
{
	struct open_step *o;
	struct step_key key = {uuid_for_step(&x->task, (unsigned)x->step_no), (uint32_t)x->fence};
	HASH_FIND(hh, srv->steps, &key, sizeof key, o);
	if (o && !o->ended)
		cancel_open(o, reason);
}

/* Recording -------------------------------------------------------------------------------------------------------------- */

static struct recording *recording_find(struct server *srv, const struct step_key *key)
{
	struct recording *g;
	HASH_FIND(hh, srv->recording, key, sizeof *key, g);
	return g;
}

static void recording_begin(struct server *srv, const struct step_key *key)
{
	struct recording *g = calloc(1, sizeof *g);
	if (!g)
		return; /* a second copy is then answered by the database */
	g->key = *key;
	HASH_ADD(hh, srv->recording, key, sizeof g->key, g);
}

static void recording_again(struct recording *g, const struct session *s, int attempt)
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
		if (s && s->fd >= 0)
			ack(s, &key->uuid, g->again[i].attempt, status, NULL);
	}
	HASH_DEL(srv->recording, g);
	free(g);
}

bool step_held(struct session *s, const struct step_key *key)
{
	struct open_step *o;
	HASH_FIND(hh, s->srv->steps, key, sizeof *key, o);
	if (o && o->session == s && o->ended) {
		forget(o); /* it has just said its word about it */
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

/* Acknowledging ---------------------------------------------------------------------------------------------------------- */

void ack(struct session *s, const struct uuid *step, int attempt, const char *status, const char *message)
{
	char uuid[UUID_TEXT];
	uuid_format(step, uuid);
	mp_map(&s->acks, message ? 4 : 3);
	mp_str(&s->acks, "step_uuid");
	mp_str(&s->acks, uuid);
	mp_str(&s->acks, "attempt");
	mp_int(&s->acks, attempt);
	mp_str(&s->acks, "status");
	mp_str(&s->acks, status);
	if (message) {
		mp_str(&s->acks, "message");
		mp_str(&s->acks, message);
	}
	s->n_acks++;
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
	set_error(again, "invalid_result", why);
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
static const char *verdict(struct req *r, bool changed)
{
	if (r->result.outcome == OUTCOME_SUCCESS && strcmp(r->status, "failed") == 0) {
		snprintf(r->err.text, sizeof r->err.text, "what the result says about branches or batches cannot be done: see the error of the step");
		return "rejected";
	}
	if (!changed)
		return r->status;
	return r->result.outcome == OUTCOME_INVALID_RESULT ? "rejected" : "recorded";
}

static void tell(struct server *srv, const struct req *r, const char *word)
{
	struct session *s = r->origin.session ? session_find(srv, r->origin.session) : NULL;
	if (!s || s->fd < 0)
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
		log_event(LOG_RESULT_LOST, note_result(&n, srv, r), "the end of step %s cannot be recorded: %s", n.step, r->err.text);
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

/* Results from workers --------------------------------------------------------------------------------------------------- */

static int json_of(const msgpack_object *map, const char *key, size_t max, struct text *ret, struct err *e)
{
	const msgpack_object *o = mp_get(map, key);
	struct buf b;
	if (!o)
		return 0;
	buf_init(&b, max);
	int rc = value_to_json(o, key, max, &b, e);
	if (rc == 0) {
		ret->n = b.len;
		ret->s = buf_take_text(&b);
		if (!ret->s)
			rc = err_set(e, -ENOMEM, "overloaded", "out of memory");
	}
	buf_done(&b);
	return rc;
}

/* A checkpoint in the clothes of a success: the handler gives the step back and wants to be called again. */
static bool is_yield(const msgpack_object *m)
{
	const msgpack_object *meta = NULL, *result = NULL;
	bool yield = false;
	return mp_get_map(m, "metadata", &meta) == 1 && mp_get_bool(meta, "checkpoint_yield", &yield) == 1 && yield && mp_get_map(m, "result", &result) == 1 &&
	       mp_get(result, "type") && mp_str_eq(mp_get(result, "type"), "checkpoint_yield");
}

/* The attempt is given back, and a released attempt's result is its checkpoint. */
static int read_yield(const msgpack_object *checkpoint, size_t max, struct req_result *q, struct err *e)
{
	struct buf b;
	buf_init(&b, max);
	int rc = checkpoint_json(checkpoint, max, &b, e);
	q->outcome = OUTCOME_RELEASED;
	if (rc == 0) {
		q->result.n = b.len;
		q->result.s = buf_take_text(&b);
		rc = q->result.s ? 0 : err_set(e, -ENOMEM, "overloaded", "out of memory");
	}
	buf_done(&b);
	return rc;
}

/* What the worker said of a step, into the request. Negative: it cannot be stored, *e says why. */
static int read_outcome(const struct options *opt, const msgpack_object *m, bool success, struct req_result *q, struct err *e)
{
	double ms = 0;
	int64_t after = -1;
	bool retryable = true;
	const msgpack_object *err = NULL;
	if (mp_get_double(m, "execution_ms", &ms) == 1 && ms >= 0 && ms < 1e12)
		q->execution_ms = (float)ms;
	if (mp_get_int(m, "retry_after_ms", 0, INT64_MAX / 2, &after) < 0)
		after = -1;
	q->retry_after_ms = after;
	int rc = json_of(m, "metadata", opt->max_result, &q->meta, e);
	if (rc < 0)
		return rc;
	if (success && is_yield(m))
		return read_yield(mp_get(m, "result"), checkpoint_max(opt), q, e);
	if (success) {
		q->outcome = OUTCOME_SUCCESS;
		rc = json_of(m, "result", opt->max_result, &q->result, e);
		if (rc == 0 && !q->result.s)
			text_set(&q->result, "null", 4);
		return rc;
	}
	if (mp_get_map(m, "error", &err) == 1) {
		if (mp_get_bool(err, "retryable", &retryable) < 0)
			return err_set(e, -EINVAL, "bad_request", "error.retryable must be true or false");
		rc = json_of(m, "error", opt->max_result, &q->error, e);
	} else {
		text_set(&q->error, "{\"message\":\"the handler failed without saying why\"}", 51);
	}
	q->outcome = retryable ? OUTCOME_HANDLER_ERROR : OUTCOME_PERMANENT_ERROR;
	q->retry = retryable;
	return rc;
}

/* Small inputs go with the result, so that the steps it makes ready need not be read from the database. */
static void hold_for_children(struct req *r, struct open_step *o, const msgpack_object *result)
{
	if (o->claim->body.len == 0 || r->result.outcome != OUTCOME_SUCCESS || r->result.result.n > HELD_BODY_MAX)
		return;
	buf_init(&r->result.value, 0);
	if (result)
		mp_object(&r->result.value, result);
	else
		mp_nil(&r->result.value);
	if (!r->result.value.failed)
		r->result.held = TAKE_PTR(o->claim);
}

static void submit_result(struct session *s, struct open_step *o, const msgpack_object *m, bool success)
{
	struct err e = {0};
	struct req *r = result_req(o->claim, &o->key.uuid, OUTCOME_SUCCESS);
	if (!r) {
		session_close(s, "out of memory"); /* it will come back and send the result again */
		return;
	}
	r->origin.session = s->id;
	r->result.worker = s->worker_uuid;
	if (!success)
		note_template(s->srv, o->claim);
	const msgpack_object *events = mp_get(m, "events");
	if (events) {
		read_event_words(s->srv->opt, events, &r->result);
		r->result.publishes = true; /* if only to be told that nothing is declared */
	}
	int rc = read_outcome(s->srv->opt, m, success, &r->result, &e);
	if (rc == -ENOMEM) {
		req_free(r);
		session_close(s, "out of memory");
		return;
	}
	if (rc < 0) {
		event_words_free(&r->result);
		free(r->result.result.s);
		free(r->result.error.s);
		free(r->result.meta.s);
		r->result.result = r->result.error = r->result.meta = (struct text){0};
		r->result.outcome = OUTCOME_INVALID_RESULT;
		r->result.retry = false;
		set_error(r, "invalid_result", e.text);
	}
	if (success)
		hold_for_children(r, o, mp_get(m, "result"));
	if (o->given)
		metrics_ran(s->srv, r->result.series, r->born - o->given);
	recording_begin(s->srv, &o->key);
	forget(o);
	s->rate.done++;
	s->srv->c_results++;
	pool_lend(s, r);
	quota_submit(s, r);
}

/* A result for an attempt that is not open here, with a valid proof: the database knows what became of it. */
struct late_result {
	struct uuid step;
	int attempt;
};

static void ask_about(struct session *s, const struct uuid *step, int attempt, const struct uuid *task, unsigned no, uint32_t fence)
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
	store_submit(s->srv->store, r);
}

void late_result_answered(struct server *srv, struct req *r)
{
	struct late_result *late = r->user;
	struct session *s = session_find(srv, r->origin.session);
	struct mp_value v;
	if (s && s->fd >= 0 && !r->failed && mp_decode(r->answer.data, r->answer.len, &v) == 0) {
		const msgpack_object *status = mp_get(&v.root, "status");
		ack(s, &late->step, late->attempt, status && mp_str_eq(status, "duplicate") ? "duplicate" : "stale", NULL);
		mp_value_done(&v);
	}
	free(late);
}

/* The fields every result must have; what else it holds is read later. False: it cannot be told which attempt is meant. */
static bool read_identity(const msgpack_object *m, struct uuid *ret_step, int *ret_attempt, const uint8_t **ret_claim, bool *ret_success)
{
	const char *p = NULL;
	size_t n = 0;
	int64_t attempt = 0;
	const msgpack_object *claim = m->type == MSGPACK_OBJECT_MAP ? mp_get(m, "claim") : NULL;
	if (!claim || claim->type != MSGPACK_OBJECT_BIN || claim->via.bin.size != PROOF_LEN)
		return false;
	if (mp_get_str(m, "step_uuid", &p, &n) != 1 || uuid_parse(p, n, ret_step) < 0)
		return false;
	if (mp_get_int(m, "attempt", 1, INT32_MAX, &attempt) != 1 || mp_get_bool(m, "success", ret_success) != 1)
		return false;
	*ret_attempt = (int)attempt;
	*ret_claim = (const uint8_t *)claim->via.bin.ptr;
	return true;
}

/* False: the item is not a result at all. */
static bool one_result(struct session *s, const msgpack_object *m)
{
	struct step_key key = {0};
	struct uuid task;
	unsigned no = 0;
	int attempt = 0;
	bool success = false;
	const uint8_t *claim = NULL;
	struct open_step *o = NULL;
	if (!read_identity(m, &key.uuid, &attempt, &claim, &success))
		return false;
	if (!uuid_split_step(&key.uuid, &task, &no) || proof_check(s->srv->prover, store_secret(s->srv->store), &task, no, claim, &key.fence) < 0) {
		ack(s, &key.uuid, attempt, "not_claimed", "the claim is not one this node gave out for the step");
		return true;
	}
	struct recording *g = recording_find(s->srv, &key);
	if (g) {
		recording_again(g, s, attempt);
		return true;
	}
	HASH_FIND(hh, s->srv->steps, &key, sizeof key, o);
	if (!o) {
		HASH_FIND(hh, s->srv->orphans, &key, sizeof key, o);
		if (o) {
			HASH_DEL(s->srv->orphans, o);
			step_resume(s, o);
		}
	}
	if (!o)
		ask_about(s, &key.uuid, attempt, &task, no, key.fence);
	else if (o->session != s || o->claim->attempt != attempt)
		ack(s, &key.uuid, attempt, "not_claimed", o->session != s ? "the step is open on another session" : "the attempt and the claim do not fit");
	else if (o->ended) {
		ack(s, &key.uuid, attempt, "stale", "the attempt was ended before");
		forget(o);
	} else {
		submit_result(s, o, m, success);
	}
	return true;
}

struct open_step *step_claimed(struct session *s, const struct uuid *step, int attempt, const uint8_t *claim, const char **ret_status)
{
	struct step_key key = {.uuid = *step};
	struct uuid task;
	unsigned no;
	struct open_step *o = NULL;
	*ret_status = "not_claimed";
	if (!uuid_split_step(step, &task, &no) || proof_check(s->srv->prover, store_secret(s->srv->store), &task, no, claim, &key.fence) < 0)
		return NULL;
	HASH_FIND(hh, s->srv->steps, &key, sizeof key, o);
	if (o && (o->session != s || o->claim->attempt != attempt))
		return NULL;
	*ret_status = "stale";
	return o && !o->ended ? o : NULL;
}

int step_yield(struct session *s, uint32_t request, struct open_step *o, const msgpack_object *checkpoint, struct err *e)
{
	struct req *r = result_req(o->claim, &o->key.uuid, OUTCOME_RELEASED);
	if (!r)
		return err_set(e, -ENOMEM, "overloaded", "out of memory");
	r->origin = (struct origin){.session = s->id, .request = request};
	r->result.worker = s->worker_uuid;
	int rc = read_yield(checkpoint, checkpoint_max(s->srv->opt), &r->result, e);
	if (rc < 0) {
		req_free(r);
		return rc;
	}
	recording_begin(s->srv, &o->key);
	forget(o);
	pool_lend(s, r);
	store_submit(s->srv->store, r);
	return 0;
}

void on_step_result(struct session *s, uint32_t id, const msgpack_object *params)
{
	const msgpack_object *a = mp_get(params, "results");
	uint32_t bad = 0, first = 0;
	(void)id;
	if (!s->worker) {
		protocol_error(s, "protocol_error", "step.result on a session that is not a worker's");
		return;
	}
	for (uint32_t i = 0; i < a->via.array.size && s->fd >= 0; i++)
		if (!one_result(s, &a->via.array.ptr[i]) && bad++ == 0)
			first = i;
	if (bad > 0) {
		struct err e;
		err_set(&e, 0, "bad_request", "results[%u] (and %u more) needs step_uuid, attempt, claim (bin of 16) and success", first, bad - 1);
		snprintf(e.path, sizeof e.path, "results[%u]", first);
		size_t mark = notify_begin(s, "error");
		write_error(&s->out, &e);
		notify_end(s, mark);
	}
	pool_run_backlog(s->srv);
	pool_claim(s->srv);
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
	TAILQ_FOREACH(o, &s->steps, link)
		if (uuid_eq(&o->key.uuid, &u) && !o->ended)
			watch_progress(s->srv, o, mp_get(params, "progress"));
}

void steps_free(struct server *srv)
{
	struct recording *g, *gtmp;
	HASH_ITER(hh, srv->recording, g, gtmp) {
		HASH_DEL(srv->recording, g);
		free(g);
	}
	struct open_step *o, *tmp;
	struct journal *j, *jtmp;
	HASH_ITER(hh, srv->orphans, o, tmp) {
		HASH_DEL(srv->orphans, o);
		step_free(o);
	}
	HASH_ITER(hh, srv->journals, j, jtmp) {
		HASH_DEL(srv->journals, j);
		free(j);
	}
}

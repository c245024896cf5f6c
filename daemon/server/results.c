/* Results from workers: which attempt they are of, what they say, and the request to record it. */
#include "daemon/server/results.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "daemon/base/cleanup.h"
#include "daemon/base/err.h"
#include "daemon/base/hash.h"
#include "daemon/config/options.h"
#include "daemon/core/uuid.h"
#include "daemon/server/bounds.h"
#include "daemon/server/metrics.h"
#include "daemon/server/notes.h"
#include "daemon/server/pool.h"
#include "daemon/server/publish.h"
#include "daemon/server/quota.h"
#include "daemon/server/recording.h"
#include "daemon/server/reply.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/server/step_calls.h"
#include "daemon/server/steps.h"
#include "daemon/server/submit.h"
#include "daemon/store/proof.h"
#include "daemon/store/request.h"
#include "daemon/store/store.h"
#include "protocol/buf.h"
#include "protocol/mp.h"

/* What a result says ----------------------------------------------------------------------------------------------- */

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
	return mp_get_map(m, "metadata", &meta) == 1 && mp_get_bool(meta, "checkpoint_yield", &yield) == 1 && yield &&
	       mp_get_map(m, "result", &result) == 1 && mp_get(result, "type") &&
	       mp_str_eq(mp_get(result, "type"), "checkpoint_yield");
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

#define NO_REASON "\"message\":\"the handler failed without saying why\"}"

/* Every error has a message, which is what people are shown. `said` is a JSON object without one. */
static int add_message(struct text *said, struct err *e)
{
	struct buf b;
	buf_init(&b, 0);
	buf_append(&b, said->s ? said->s : "{", said->s ? said->n - 1 : 1);
	buf_printf(&b, "%s" NO_REASON, b.len > 1 ? "," : "");
	free(said->s);
	said->n = b.len;
	said->s = buf_take_text(&b);
	buf_done(&b);
	return said->s ? 0 : err_set(e, -ENOMEM, "overloaded", "out of memory");
}

static int read_failure(const msgpack_object *m, size_t max, bool *retryable, struct text *ret, struct err *e)
{
	const msgpack_object *error = NULL;
	const char *message;
	size_t n;
	if (mp_get_map(m, "error", &error) != 1)
		return add_message(ret, e);
	if (mp_get_bool(error, "retryable", retryable) < 0)
		return err_set(e, -EINVAL, "bad_request", "error.retryable must be true or false");
	if (mp_get_str(error, "message", &message, &n) < 0)
		return err_set(e, -EINVAL, "bad_request", "error.message must be a string");
	int rc = json_of(m, "error", max, ret, e);
	return rc == 0 && !mp_get(error, "message") ? add_message(ret, e) : rc;
}

/* What the worker said of a step, into the request. Negative: it cannot be stored, *e says why. */
static int read_outcome(const struct options *opt, const msgpack_object *m, bool success, struct req_result *q,
                        struct err *e)
{
	double ms = 0;
	int64_t after = -1;
	bool retryable = true;
	if (mp_get_double(m, "execution_ms", &ms) == 1 && ms >= 0 && ms < 1e12)
		q->execution_ms = (float)ms;
	if (mp_get_int(m, "retry_after_ms", 0, INT64_MAX, &after) < 0)
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
	rc = read_failure(m, opt->max_result, &retryable, &q->error, e);
	if (rc < 0)
		return rc;
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

/* Of which attempt ------------------------------------------------------------------------------------------------- */

static void submit_result(struct session *s, struct open_step *o, const msgpack_object *m, bool success)
{
	struct err e = {0};
	struct req *r = result_req(o->claim, &o->key.uuid, OUTCOME_SUCCESS);
	if (!r) {
		session_close(s, "out of memory"); /* it will come back and send the result again */
		return;
	}
	r->origin.session = s->id;
	r->result.worker = s->work.uuid;
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
		result_set_error(r, "invalid_result", e.text);
	}
	if (success)
		hold_for_children(r, o, mp_get(m, "result"));
	if (o->given)
		metrics_ran(s->srv, r->result.series, r->born - o->given);
	recording_begin(s->srv, &o->key);
	step_forget(o);
	s->work.rate.done++;
	s->srv->c_results++;
	pool_lend(s, r);
	quota_submit(s, r);
}

/* The fields every result must have; what else it holds is read later. False: it cannot be told which attempt is
 * meant. */
static bool read_identity(const msgpack_object *m, struct uuid *ret_step, int *ret_attempt, const uint8_t **ret_claim,
                          bool *ret_success)
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

/* The claim is one that this node gave out for the step; of a step that is open it is known, and no proof need be made
 * again to see that. */
static bool given_out(struct session *s, struct step_key *key, const struct uuid *task, unsigned no,
                      const uint8_t *claim)
{
	struct open_step *o = NULL;
	key->fence = proof_fence(claim);
	HASH_FIND(hh, s->srv->steps, key, sizeof *key, o);
	return (o && o->claim->proven && proof_equal(o->claim->proof, claim)) ||
	       proof_check(s->srv->prover, store_secret(s->srv->store), task, no, claim, &key->fence) == 0;
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
	if (!uuid_split_step(&key.uuid, &task, &no) || !given_out(s, &key, &task, no, claim)) {
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
		late_result_ask(s, &key.uuid, attempt, &task, no, key.fence);
	else if (o->session != s || o->claim->attempt != attempt)
		ack(s, &key.uuid, attempt, "not_claimed",
		    o->session != s ? "the step is open on another session" : "the attempt and the claim do not fit");
	else if (o->ended) {
		ack(s, &key.uuid, attempt, "stale", "the attempt was ended before");
		step_forget(o);
	} else {
		submit_result(s, o, m, success);
	}
	return true;
}

void on_step_result(struct session *s, uint32_t id, const msgpack_object *params)
{
	const msgpack_object *a = mp_get(params, "results");
	uint32_t bad = 0, first = 0;
	(void)id;
	if (!s->is_worker) {
		protocol_error(s, "protocol_error", "step.result on a session that is not a worker's");
		return;
	}
	for (uint32_t i = 0; i < a->via.array.size && s->wire.fd >= 0; i++)
		if (!one_result(s, &a->via.array.ptr[i]) && bad++ == 0)
			first = i;
	if (bad > 0) {
		struct err e;
		err_set(&e, 0, "bad_request",
		        "results[%u] (and %u more) needs step_uuid, attempt, claim (bin of 16) and success", first,
		        bad - 1);
		snprintf(e.path, sizeof e.path, "results[%u]", first);
		size_t mark = notify_begin(s, "error");
		write_error(&s->wire.out, &e);
		notify_end(s, mark);
	}
	pool_run_backlog(s->srv);
	pool_claim(s->srv);
}

int step_yield(struct session *s, uint32_t request, struct open_step *o, const msgpack_object *checkpoint,
               struct err *e)
{
	struct req *r = result_req(o->claim, &o->key.uuid, OUTCOME_RELEASED);
	if (!r)
		return err_set(e, -ENOMEM, "overloaded", "out of memory");
	r->origin = (struct origin){.session = s->id, .request = request};
	r->result.worker = s->work.uuid;
	int rc = read_yield(checkpoint, checkpoint_max(s->srv->opt), &r->result, e);
	if (rc < 0) {
		req_free(r);
		return rc;
	}
	recording_begin(s->srv, &o->key);
	step_forget(o);
	pool_lend(s, r);
	store_submit(s->srv->store, r);
	return 0;
}

/* A worker's side of a session: the handshake with what it offers, taking up again what a lost connection
 * left open, and what the daemon sends about steps. Runs inside tasker_worker_poll, on its thread. */
#include "clients/c/worker.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void worker_log(struct tasker_worker *w, const char *fmt, ...)
{
	char line[700];
	if (!w->log)
		return;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	w->log(w->log_arg, line);
}

/* ---- what the daemon sends ---- */

/* Without these there is nothing to answer with. */
static bool is_step(const tasker_value *v)
{
	return tasker_type(tasker_get(v, "step_uuid")) == TASKER_STRING &&
	       tasker_type(tasker_get(v, "attempt")) == TASKER_INT;
}

static void got_steps(struct tasker_worker *w, struct msg_frame *f, const tasker_value *params)
{
	const tasker_value *steps = tasker_get(params, "steps");
	for (size_t i = 0; i < tasker_count(steps); i++) {
		if (!is_step(tasker_item(steps, i)))
			continue;
		struct tasker_step *s = step_new(w, f, as_object(tasker_item(steps, i)));
		if (!s) {
			tasker_fail_(&w->fatal, -ENOMEM, "out_of_memory", "out of memory");
			return;
		}
		step_list_push(&w->queue, s);
	}
}

static void got_acks(struct tasker_worker *w, struct msg_frame *f, const tasker_value *params)
{
	const tasker_value *acks = tasker_get(params, "acks");
	(void)f;
	if (tasker_type(acks) != TASKER_ARRAY)
		return;
	for (size_t i = 0; i < tasker_count(acks); i++) {
		const tasker_value *a = tasker_item(acks, i), *status = tasker_get(a, "status");
		if (!results_ack(&w->results, tasker_get(a, "step_uuid"),
		                 tasker_int(tasker_get(a, "attempt"), -1)))
			continue;
		w->conn->useful = true;
		if (mp_str_eq(as_object(status), "recorded") || mp_str_eq(as_object(status), "duplicate")) {
			w->stats.recorded++;
			continue;
		}
		char uuid[40], why[16], message[256];
		tasker_copy(tasker_get(a, "step_uuid"), uuid, sizeof uuid);
		tasker_copy(status, why, sizeof why);
		tasker_copy(tasker_get(a, "message"), message, sizeof message);
		w->stats.refused++;
		worker_log(w, "the result of step %s was not taken (%s): %s", uuid, why, message);
	}
}

static struct tasker_step *find_step(const struct step_list *l, const tasker_value *uuid, int64_t attempt)
{
	for (struct tasker_step *s = l->head; s; s = s->next)
		if (s->attempt == attempt && mp_str_eq(as_object(uuid), s->step_uuid))
			return s;
	return NULL;
}

static void cancel_step(struct tasker_worker *w, struct tasker_step *s, const char *reason)
{
	flag_set(&s->cancelled, true);
	if (s->on_thread && s->cancelled_us == 0 && w->abandon_after_ms > 0) {
		s->cancelled_us = tasker_now_us_();
		if (w->abandon_at_us == 0)
			w->abandon_at_us = s->cancelled_us + (uint64_t)w->abandon_after_ms * 1000;
	}
	if (s->state == STEP_DEFERRED && w->on_cancel)
		w->on_cancel(w->on_cancel_arg, s, reason);
}

static void got_cancel(struct tasker_worker *w, struct msg_frame *f, const tasker_value *params)
{
	const tasker_value *uuid = tasker_get(params, "step_uuid");
	int64_t attempt = tasker_int(tasker_get(params, "attempt"), -1);
	char reason[32];
	(void)f;
	struct tasker_step *s = find_step(&w->deferred, uuid, attempt);
	if (!s)
		s = find_step(&w->queue, uuid, attempt);
	tasker_copy(tasker_get(params, "reason"), reason, sizeof reason);
	if (s)
		cancel_step(w, s, reason);
}

static void got_draining(struct tasker_worker *w, struct msg_frame *f, const tasker_value *params)
{
	(void)f;
	(void)params;
	worker_log(w, "taskerd is stopping");
}

static void got_finish(struct tasker_worker *w, struct msg_frame *f, const tasker_value *params)
{
	(void)f;
	(void)params;
	worker_log(w, "an operator sends this worker home: it finishes what it runs, and ends");
	if (!w->stop)
		tasker_worker_stop(w);
}

void worker_sink(void *arg, struct msg_frame *f, const msgpack_object *method, const msgpack_object *params)
{
	static const struct {
		const char *method;
		void (*fn)(struct tasker_worker *, struct msg_frame *, const tasker_value *);
	} table[] = {
	    {"step.execute", got_steps},
	    {"result.ack", got_acks},
	    {"step.cancel", got_cancel},
	    {"server.draining", got_draining},
	    {"worker.finish", got_finish},
	};
	for (size_t i = 0; i < sizeof table / sizeof *table; i++)
		if (mp_str_eq(method, table[i].method))
			table[i].fn(arg, f, as_value(params));
}

/* ---- sending results ---- */

static int flush_one_frame(struct tasker_worker *w, size_t limit)
{
	struct results *r = &w->results;
	struct kept_result *first = r->unsent;
	struct tasker_error err;
	size_t used = 0, n = 0, mark = conn_begin_notification_(w->conn, "step.result");
	mp_map(&w->conn->out, 1);
	mp_str(&w->conn->out, "results");
	size_t array = mp_array_open(&w->conn->out);
	for (struct kept_result *k; (k = r->unsent) && (n == 0 || used + k->len <= limit); n++) {
		mp_raw(&w->conn->out, k->bytes, k->len);
		used += k->len;
		r->unsent = k->next;
	}
	mp_array_close(&w->conn->out, array, n);
	int rc = conn_end_(w->conn, mark, &err);
	if (rc == -ENOBUFS)
		r->unsent = first;
	if (rc == 0 || rc == -ENOBUFS)
		return rc;
	/* This daemon takes less than the one the result was made for. Without the result it gives the step
	 * to another worker. */
	worker_log(w, "the result of step %s cannot be sent: %s", first->step_uuid, err.message);
	results_drop(r, first);
	return conn_lost_(w->conn, -EMSGSIZE, "too_large", "a result could not be sent");
}

int worker_flush_results(struct tasker_worker *w)
{
	const tasker *t = w->conn;
	/* Every item takes a byte or more, so this bounds the items as well. */
	size_t limit = t->max_frame < t->scan.max_items ? t->max_frame : t->scan.max_items;
	limit -= limit > 256 ? 256 : 0;
	while (w->results.unsent && conn_backlog_(t) < OUT_BACKLOG_WORKER) {
		int rc = flush_one_frame(w, limit);
		if (rc < 0)
			return rc == -ENOBUFS ? 0 : rc;
	}
	return conn_flush_(w->conn);
}

/* ---- opening ---- */

static void put_strings(struct buf *b, const char *key, char *const *list, size_t n)
{
	mp_str(b, key);
	mp_array(b, n);
	for (size_t i = 0; i < n; i++)
		mp_str(b, list[i]);
}

static void put_offer(const struct tasker_worker *w, struct buf *b)
{
	static char star[] = "*";
	static char *const all[] = {star};
	mp_str(b, "worker");
	mp_map(b, 4 + (w->nbroken > 0));
	mp_str(b, "name");
	mp_str(b, w->name);
	put_strings(b, "namespaces", w->nnamespaces ? w->namespaces : all,
	            w->nnamespaces ? w->nnamespaces : 1);
	mp_str(b, "handlers");
	mp_array(b, w->nhandlers);
	for (size_t i = 0; i < HANDLER_BUCKETS; i++)
		for (const struct handler *h = w->handlers[i]; h; h = h->next)
			mp_str(b, h->callable);
	mp_str(b, "max_concurrency");
	mp_uint(b, w->max_concurrency);
	if (w->nbroken == 0)
		return;
	mp_str(b, "broken");
	mp_array(b, w->nbroken);
	buf_join(b, &w->broken);
}

/* Steps that run, and results that were not acknowledged. */
static size_t held_count(const struct tasker_worker *w)
{
	return w->queue.count + w->deferred.count + w->results.count;
}

static size_t put_resume(const struct tasker_worker *w, struct buf *b)
{
	if (!w->session[0])
		return 0;
	mp_str(b, "resume");
	mp_map(b, 2);
	mp_str(b, "session");
	mp_str(b, w->session);
	mp_str(b, "held");
	mp_uint(b, held_count(w));
	return 1;
}

static void put_held(struct buf *b, const char *step_uuid, int64_t attempt, const void *claim,
                     size_t claim_len)
{
	mp_map(b, 3);
	mp_str(b, "step_uuid");
	mp_str(b, step_uuid);
	mp_str(b, "attempt");
	mp_int(b, attempt);
	mp_str(b, "claim");
	if (claim_len > 0)
		mp_bin(b, claim, claim_len);
	else
		mp_nil(b);
}

static void put_steps(struct buf *b, const struct step_list *l)
{
	for (const struct tasker_step *s = l->head; s; s = s->next) {
		/* What came behind the welcome is not to be resumed. */
		if (s->connection == s->w->connection)
			continue;
		const msgpack_object *claim = mp_get(s->o, "claim");
		bool bin = claim && claim->type == MSGPACK_OBJECT_BIN;
		put_held(b, s->step_uuid, s->attempt, bin ? claim->via.bin.ptr : NULL,
		         bin ? claim->via.bin.size : 0);
	}
}

static void put_results(struct buf *b, const struct results *r)
{
	for (const struct kept_result *k = r->head; k; k = k->next)
		put_held(b, k->step_uuid, k->attempt, k->claim, k->claim_len);
}

static void drop_stale(struct tasker_worker *w, const tasker_value *uuid, int64_t attempt)
{
	struct tasker_step *s = find_step(&w->queue, uuid, attempt);
	if (s) {
		step_list_remove(&w->queue, s);
		step_free(s);
		return;
	}
	s = find_step(&w->deferred, uuid, attempt);
	if (s) {
		flag_set(&s->stale, true);
		cancel_step(w, s, "stale");
	}
}

static void on_resumed(void *arg, const tasker_value *result, const struct tasker_error *err)
{
	struct tasker_worker *w = arg;
	const tasker_value *steps = tasker_get(result, "steps");
	(void)err;
	for (size_t i = 0; i < tasker_count(steps); i++) {
		const tasker_value *s = tasker_item(steps, i);
		if (!mp_str_eq(as_object(tasker_get(s, "status")), "held"))
			drop_stale(w, tasker_get(s, "step_uuid"), tasker_int(tasker_get(s, "attempt"), -1));
	}
}

static int resume_held(struct tasker_worker *w, size_t held, struct tasker_error *err)
{
	struct buf b;
	if (held == 0 || !w->session[0])
		return 0;
	buf_init(&b, w->conn->max_frame);
	mp_map(&b, 1);
	mp_str(&b, "steps");
	mp_array(&b, held);
	put_steps(&b, &w->queue);
	put_steps(&b, &w->deferred);
	put_results(&b, &w->results);
	int rc =
	    b.failed
	        ? tasker_fail_(err, b.failed, "too_large", "too many steps are held to be taken up again")
	        : call_raw_(w->conn, "session.resume", b.data, b.len, w->timeout_ms, on_resumed, w, err);
	buf_done(&b);
	return rc;
}

int worker_connect(struct tasker_worker *w, struct tasker_error *err)
{
	struct buf hello;
	size_t held = held_count(w);
	w->connection++;
	buf_init(&hello, 1u << 20);
	size_t mark = mp_map_open(&hello), n = hello_common_(&hello, w->client);
	put_offer(w, &hello);
	n += 1 + put_resume(w, &hello);
	mp_map_close(&hello, mark, n);
	int rc = hello.failed
	             ? tasker_fail_(err, -EMSGSIZE, "too_large",
	                            "the list of handlers is too long for the handshake")
	             : conn_open_(&w->conn, w->socket_path, &hello, w->timeout_ms, worker_sink, w, err);
	buf_done(&hello);
	if (rc < 0)
		return rc;
	rc = resume_held(w, held, err);
	if (rc < 0) {
		w->conn = tasker_close(w->conn);
		return rc;
	}
	snprintf(w->session, sizeof w->session, "%s", w->conn->session);
	results_rewind(&w->results);
	w->stats.connects++;
	worker_log(w, "connected to %s on node %s", w->conn->server, w->conn->node);
	return 0;
}

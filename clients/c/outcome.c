/* Outcomes that mean something to the daemon: decisions, batches, checkpoints, events. */
#include "clients/c/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int tasker_step_succeedf(tasker_step *s, struct tasker_error *err, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	char *json = tasker_vjsonf(format, ap);
	va_end(ap);
	if (!json)
		return tasker_fail_(err, -EINVAL, "invalid_value",
		                    "the pattern and its arguments give no JSON");
	int rc = tasker_step_succeed(s, json, err);
	free(json);
	return rc;
}

static enum tasker_verdict fail_or_say_so(tasker_step *s, const struct tasker_failure *f)
{
	if (tasker_step_fail(s, f, NULL) < 0)
		step_set_failure(s, "handler_error", f->permanent,
		                 "the handler failed with a text that is not UTF-8");
	return TASKER_DONE;
}

enum tasker_verdict tasker_step_refuse(tasker_step *s, const char *error_type, const char *message)
{
	const struct tasker_failure f = {.message = message, .error_type = error_type, .permanent = true};
	return fail_or_say_so(s, &f);
}

enum tasker_verdict tasker_step_retry(tasker_step *s, const char *error_type, const char *message,
                                      int64_t retry_after_ms)
{
	const struct tasker_failure f = {
	    .message = message, .error_type = error_type, .retry_after_ms = retry_after_ms};
	return fail_or_say_so(s, &f);
}

/* ---- decisions ---- */

static void put_pair(struct buf *b, const char *key, const char *text)
{
	mp_str(b, key);
	mp_str(b, text);
}

/* The entries of the object `extra` go into the open map. Returns how many there are. */
static size_t put_extra(struct buf *b, const char *extra, int *rc, struct tasker_error *err)
{
	struct buf mp;
	struct mp_value v;
	size_t n = 0;
	if (!extra)
		return 0;
	buf_init(&mp, b->max);
	*rc = json_params_(extra, &mp, err);
	if (*rc == 0 && mp_decode(mp.data, mp.len, &v) == 0) {
		if (v.root.type == MSGPACK_OBJECT_MAP)
			n = v.root.via.map.size;
		else
			*rc =
			    tasker_fail_(err, -EINVAL, "invalid_value", "the extra fields are not an object");
		for (size_t i = 0; i < n; i++) {
			mp_object(b, &v.root.via.map.ptr[i].key);
			mp_object(b, &v.root.via.map.ptr[i].val);
		}
		mp_value_done(&v);
	}
	buf_done(&mp);
	return n;
}

int tasker_step_route(tasker_step *s, const char *const *steps, const char *extra, struct tasker_error *err)
{
	struct buf b;
	int rc = 0;
	size_t n = 0;
	while (steps[n])
		n++;
	buf_init(&b, s->room);
	size_t mark = mp_map_open(&b), fields = put_extra(&b, extra, &rc, err);
	mp_str(&b, "decision_point_outcome");
	mp_map(&b, 2);
	put_pair(&b, "type", "create_steps");
	mp_str(&b, "step_names");
	mp_array(&b, n);
	for (size_t i = 0; i < n; i++)
		mp_str(&b, steps[i]);
	mp_map_close(&b, mark, fields + 1);
	if (rc == 0)
		return step_succeed_raw(s, &b, err);
	buf_done(&b);
	return rc;
}

int tasker_step_skip_branches(tasker_step *s, const char *reason, struct tasker_error *err)
{
	return tasker_step_succeedf(
	    s, err, "{\"decision_point_outcome\":{\"type\":\"no_branches\"},\"reason\":%s}", reason);
}

/* ---- batches ---- */

int tasker_step_no_batches(tasker_step *s, const char *reason, struct tasker_error *err)
{
	return tasker_step_succeedf(
	    s, err, "{\"batch_processing_outcome\":{\"type\":\"no_batches\"},\"reason\":%s}", reason);
}

static void put_cursor(struct buf *b, int64_t number, int64_t start, int64_t end)
{
	char id[24];
	snprintf(id, sizeof id, "%03lld", (long long)number);
	mp_map(b, 4);
	put_pair(b, "batch_id", id);
	mp_str(b, "start_cursor");
	mp_int(b, start);
	mp_str(b, "end_cursor");
	mp_int(b, end);
	mp_str(b, "batch_size");
	mp_int(b, end - start);
}

static void begin_batches(struct buf *b, const char *worker, int64_t count, int64_t total)
{
	mp_map(b, 3);
	mp_str(b, "worker_count");
	mp_int(b, count);
	mp_str(b, "total_items");
	mp_int(b, total);
	mp_str(b, "batch_processing_outcome");
	mp_map(b, 5);
	put_pair(b, "type", "create_batches");
	put_pair(b, "worker_template_name", worker);
	mp_str(b, "worker_count");
	mp_int(b, count);
	mp_str(b, "total_items");
	mp_int(b, total);
	mp_str(b, "cursor_configs");
}

int tasker_step_batches(tasker_step *s, const char *worker, int64_t total, int64_t batch_size,
                        struct tasker_error *err)
{
	struct buf b;
	if (batch_size <= 0 || total < 0)
		return tasker_fail_(
		    err, -EINVAL, "bad_call",
		    "%lld items in pieces of %lld: no less than 0, and pieces of 1 or more, are needed",
		    (long long)total, (long long)batch_size);
	if (total == 0)
		return tasker_step_no_batches(s, "empty_dataset", err);
	int64_t count = (total - 1) / batch_size + 1;
	buf_init(&b, s->room);
	begin_batches(&b, worker, count, total);
	mp_array(&b, (size_t)count);
	for (int64_t i = 0; i < count && !b.failed; i++)
		put_cursor(&b, i + 1, i * batch_size, i == count - 1 ? total : (i + 1) * batch_size);
	return step_succeed_raw(s, &b, err);
}

int tasker_step_batches_json(tasker_step *s, const char *worker, int64_t total, const char *cursor_configs,
                             struct tasker_error *err)
{
	struct buf cursors, b;
	struct mp_value v;
	buf_init(&cursors, s->room);
	buf_init(&b, s->room);
	int rc = json_params_(cursor_configs ? cursor_configs : "[]", &cursors, err);
	if (rc == 0 && mp_decode(cursors.data, cursors.len, &v) == 0) {
		if (v.root.type == MSGPACK_OBJECT_ARRAY)
			begin_batches(&b, worker, v.root.via.array.size, total);
		else
			rc = tasker_fail_(err, -EINVAL, "invalid_value", "cursor_configs is not an array");
		mp_value_done(&v);
	}
	if (rc == 0) {
		buf_join(&b, &cursors);
		rc = step_succeed_raw(s, &b, err);
	} else {
		buf_done(&b);
	}
	buf_done(&cursors);
	return rc;
}

int tasker_step_batch_done(tasker_step *s, const struct tasker_batch_counts *c, struct tasker_error *err)
{
	int64_t succeeded = c->succeeded || c->failed ? c->succeeded : c->processed - c->skipped;
	return tasker_step_succeedf(s, err,
	                            "{\"items_processed\":%lld,\"items_succeeded\":%lld,\"items_failed\":%"
	                            "lld,\"items_skipped\":%lld}",
	                            (long long)c->processed, (long long)succeeded, (long long)c->failed,
	                            (long long)c->skipped);
}

/* ---- checkpoints ---- */

static int put_json(struct buf *b, const char *key, const char *json, struct tasker_error *err)
{
	mp_str(b, key);
	return json_params_(json, b, err);
}

/* cursor, items_processed, and accumulated_results if there are any. */
static int put_progress(struct buf *b, const char *cursor, int64_t items, const char *accumulated,
                        struct tasker_error *err)
{
	int rc = put_json(b, "cursor", cursor ? cursor : "null", err);
	mp_str(b, "items_processed");
	mp_int(b, items);
	if (rc == 0 && accumulated)
		rc = put_json(b, "accumulated_results", accumulated, err);
	return rc;
}

static void on_saved(void *arg, const tasker_value *result, const struct tasker_error *err)
{
	(void)err;
	tasker_copy(tasker_get(result, "status"), arg, 16);
}

static int saved(const char *status, struct tasker_error *err)
{
	if (status[0] == '\0' || strcmp(status, "recorded") == 0)
		return 0;
	if (strcmp(status, "rejected") == 0)
		return tasker_fail_(err, -EMSGSIZE, "too_large", "the daemon cannot store the checkpoint");
	return tasker_fail_(err, -ESTALE, "stale", "this attempt is not current any more (%s)", status);
}

int tasker_step_save(tasker_step *s, const char *cursor, int64_t items_processed, const char *accumulated,
                     struct tasker_error *err)
{
	const msgpack_object *claim = mp_get(s->o, "claim");
	char status[16] = "";
	struct buf b;
	buf_init(&b, s->room);
	mp_map(&b, accumulated ? 6 : 5);
	put_pair(&b, "step_uuid", s->step_uuid);
	mp_str(&b, "attempt");
	mp_int(&b, s->attempt);
	mp_str(&b, "claim");
	if (claim)
		mp_object(&b, claim);
	else
		mp_nil(&b);
	int rc = put_progress(&b, cursor, items_processed, accumulated, err);
	if (rc == 0)
		rc = step_call(s, "step.checkpoint", &b, on_saved, status, err);
	buf_done(&b);
	return rc < 0 ? rc : saved(status, err);
}

int tasker_step_yield(tasker_step *s, const char *cursor, int64_t items_processed, const char *accumulated,
                      struct tasker_error *err)
{
	struct buf b;
	buf_init(&b, s->room);
	mp_map(&b, accumulated ? 4 : 3);
	put_pair(&b, "type", "checkpoint_yield");
	int rc = put_progress(&b, cursor, items_processed, accumulated, err);
	if (rc < 0) {
		buf_done(&b);
		return rc;
	}
	rc = step_succeed_raw(s, &b, err);
	return rc < 0 ? rc : tasker_step_metadata(s, "{\"checkpoint_yield\":true}", err);
}

/* ---- events ---- */

static int add_event(tasker_step *s, struct buf *entry, int rc, struct tasker_error *err)
{
	if (rc == 0 && entry->failed)
		rc = tasker_fail_(err, entry->failed, "too_large", "the event is too large to send");
	if (rc == 0) {
		buf_join(&s->events, entry);
		s->nevents++;
	}
	buf_done(entry);
	return rc;
}

int tasker_step_event(tasker_step *s, const char *name, const char *payload, const char *metadata,
                      struct tasker_error *err)
{
	struct buf b;
	int rc = 0;
	buf_init(&b, s->room);
	mp_map(&b, 1u + (payload != NULL) + (metadata != NULL));
	put_pair(&b, "name", name);
	if (payload)
		rc = put_json(&b, "payload", payload, err);
	if (rc == 0 && metadata)
		rc = put_json(&b, "metadata", metadata, err);
	return add_event(s, &b, rc, err);
}

int tasker_step_event_skip(tasker_step *s, const char *name, struct tasker_error *err)
{
	struct buf b;
	buf_init(&b, s->room);
	mp_map(&b, 2);
	put_pair(&b, "name", name);
	mp_str(&b, "skip");
	mp_bool(&b, true);
	return add_event(s, &b, 0, err);
}

/* ---- logs ---- */

int tasker_step_logf(tasker_step *s, const char *level, const char *format, ...)
{
	char text[8192];
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	return tasker_step_log(s, level, text, NULL);
}

int tasker_worker_log(tasker_worker *w, const char *level, const char *message, struct tasker_error *err)
{
	struct buf b;
	if (!w->conn)
		return tasker_fail_(err, -ENOTCONN, "connection_lost", "not connected at the moment");
	buf_init(&b, 1u << 20);
	mp_map(&b, 2);
	put_pair(&b, "level", level);
	put_pair(&b, "message", message);
	int rc = b.failed ? tasker_fail_(err, b.failed, "too_large", "the message is too large")
	                  : tasker_notify(w->conn, "step.log", b.data, b.len, err);
	buf_done(&b);
	return rc;
}

/* One step in the hands of a handler: what it can read, and the outcome it sets. It belongs to the thread
 * that has it; what goes to the daemon goes by the worker's thread. */
#include "clients/c/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "protocol/mpjson.h"
#include "protocol/utf8.h"

/* Entries of a result that are not the handler's: room left for them in a frame. */
#define RESULT_OVERHEAD 512u
#define BACKTRACE_MAX 64u

void step_list_push(struct step_list *l, struct tasker_step *s)
{
	s->next = NULL;
	s->prev = l->tail;
	if (l->tail)
		l->tail->next = s;
	else
		l->head = s;
	l->tail = s;
	l->count++;
}

void step_list_remove(struct step_list *l, struct tasker_step *s)
{
	if (s->prev)
		s->prev->next = s->next;
	else
		l->head = s->next;
	if (s->next)
		s->next->prev = s->prev;
	else
		l->tail = s->prev;
	s->next = s->prev = NULL;
	l->count--;
}

struct tasker_step *step_new(struct tasker_worker *w, struct msg_frame *f, const msgpack_object *o)
{
	struct tasker_step *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	s->w = w;
	s->shared = w->shared;
	s->connection = w->connection;
	s->room = w->conn ? w->conn->max_frame : 4u << 20;
	s->frame = msg_frame_ref(f);
	s->o = o;
	s->attempt = tasker_int(tasker_get(as_value(o), "attempt"), 0);
	tasker_copy(tasker_get(as_value(o), "step_uuid"), s->step_uuid, sizeof s->step_uuid);
	tasker_copy(tasker_get(as_value(o), "task_uuid"), s->task_uuid, sizeof s->task_uuid);
	buf_init(&s->value, 0);
	buf_init(&s->metadata, 0);
	buf_init(&s->events, 0);
	return s;
}

struct tasker_step *step_free(struct tasker_step *s)
{
	if (!s)
		return NULL;
	msg_frame_unref(s->frame);
	buf_done(&s->value);
	buf_done(&s->metadata);
	buf_done(&s->events);
	free(s->name);
	free(s);
	return NULL;
}

const tasker_value *tasker_step_value(const tasker_step *s)
{
	return as_value(s->o);
}

bool tasker_step_cancelled(const tasker_step *s)
{
	return flag_get(&s->cancelled) || flag_get(&s->stale);
}

/* ---- outcomes ---- */

/* Put `json` where `dst` is, if it is JSON and would fit into a frame. */
static int set_from_json(tasker_step *s, struct buf *dst, const char *json, struct tasker_error *err)
{
	struct buf b;
	buf_init(&b, s->room);
	int rc = json_params_(json, &b, err);
	if (rc < 0) {
		buf_done(&b);
		return rc;
	}
	buf_done(dst);
	*dst = b;
	return 0;
}

int tasker_step_succeed(tasker_step *s, const char *json, struct tasker_error *err)
{
	int rc = set_from_json(s, &s->value, json, err);
	if (rc < 0)
		return rc;
	s->failed = false;
	s->retry_after_ms = 0;
	return 0;
}

int tasker_step_metadata(tasker_step *s, const char *json, struct tasker_error *err)
{
	return set_from_json(s, &s->metadata, json, err);
}

int step_succeed_raw(struct tasker_step *s, struct buf *b, struct tasker_error *err)
{
	if (b->failed) {
		int rc = b->failed;
		buf_done(b);
		return tasker_fail_(err, rc, rc == -ENOMEM ? "out_of_memory" : "too_large",
		                    "the result is too large to send");
	}
	buf_done(&s->value);
	s->value = *b;
	s->failed = false;
	s->retry_after_ms = 0;
	return 0;
}

/* Texts for people come from anywhere: a byte that is not part of a character becomes a question mark. */
static void put_words(struct buf *b, const char *text)
{
	size_t n = strlen(text), good = utf8_span(text, n);
	char *mended = good < n ? strdup(text) : NULL;
	for (; mended && good < n; good += utf8_span(text + good, n - good))
		mended[good++] = '?';
	mp_str(b, mended ? mended : text);
	free(mended);
}

static size_t put_text(struct buf *b, const char *key, const char *value)
{
	if (!value)
		return 0;
	mp_str(b, key);
	put_words(b, value);
	return 1;
}

static void put_lines(struct buf *b, const char *key, const char *const *lines)
{
	size_t n = 0;
	while (n < BACKTRACE_MAX && lines[n])
		n++;
	mp_str(b, key);
	mp_array(b, n);
	for (size_t i = 0; i < n; i++)
		put_words(b, lines[i]);
}

static int put_failure(struct buf *b, const struct tasker_failure *f, struct tasker_error *err)
{
	size_t mark = mp_map_open(b), n = 1;
	n += put_text(b, "message", f->message ? f->message : "failed");
	n += put_text(b, "error_type", f->error_type);
	n += put_text(b, "error_code", f->error_code);
	mp_str(b, "retryable");
	mp_bool(b, !f->permanent);
	if (f->backtrace && f->backtrace[0]) {
		put_lines(b, "backtrace", f->backtrace);
		n++;
	}
	if (f->status_code) {
		mp_str(b, "status_code");
		mp_int(b, f->status_code);
		n++;
	}
	if (f->context) {
		mp_str(b, "context");
		int rc = json_params_(f->context, b, err);
		if (rc < 0)
			return rc;
		n++;
	}
	mp_map_close(b, mark, n);
	return b->failed ? tasker_fail_(err, b->failed, "too_large", "the failure does not fit into a frame")
	                 : 0;
}

int tasker_step_fail(tasker_step *s, const struct tasker_failure *f, struct tasker_error *err)
{
	struct buf b;
	struct scan_error why;
	const struct scan_limits limits = {.max_items = 65536, .max_depth = SCAN_MAX_DEPTH - 4};
	buf_init(&b, 1u << 20);
	int rc = put_failure(&b, f, err);
	if (rc == 0 && scan_value(b.data, b.len, &limits, &why) < 0)
		rc = tasker_fail_(err, -EINVAL, "invalid_value", "the failure cannot be sent: %s", why.what);
	if (rc < 0) {
		buf_done(&b);
		return rc;
	}
	buf_done(&s->value);
	s->value = b;
	s->failed = true;
	s->retry_after_ms = f->retry_after_ms;
	return 0;
}

void step_set_failure(struct tasker_step *s, const char *error_type, bool permanent, const char *message)
{
	const struct tasker_failure f = {
	    .message = message, .error_type = error_type, .permanent = permanent};
	tasker_step_fail(s, &f, NULL);
}

static void put_identity(const struct tasker_step *s, struct buf *b)
{
	const msgpack_object *claim = mp_get(s->o, "claim");
	mp_str(b, "step_uuid");
	mp_str(b, s->step_uuid);
	mp_str(b, "attempt");
	mp_int(b, s->attempt);
	mp_str(b, "claim");
	if (claim && claim->type == MSGPACK_OBJECT_BIN)
		mp_bin(b, claim->via.bin.ptr, claim->via.bin.size);
	else
		mp_nil(b);
}

static size_t put_extras(const struct tasker_step *s, struct buf *b)
{
	size_t n = 0;
	if (s->metadata.len > 0) {
		mp_str(b, "metadata");
		buf_join(b, &s->metadata);
		n++;
	}
	if (s->nevents > 0) {
		mp_str(b, "events");
		mp_array(b, s->nevents);
		buf_join(b, &s->events);
		n++;
	}
	return n;
}

static void put_result(const struct tasker_step *s, struct buf *b, bool with_extras)
{
	size_t mark = mp_map_open(b), n = 5;
	put_identity(s, b);
	mp_str(b, "success");
	mp_bool(b, !s->failed);
	mp_str(b, s->failed ? "error" : "result");
	if (s->value.len > 0)
		buf_join(b, &s->value);
	else
		mp_map(b, 0);
	if (with_extras)
		n += put_extras(s, b);
	if (s->retry_after_ms > 0) {
		mp_str(b, "retry_after_ms");
		mp_int(b, s->retry_after_ms);
		n++;
	}
	if (s->started_us) {
		mp_str(b, "execution_ms");
		mp_double(b, (double)(tasker_now_us_() - s->started_us) / 1000.0);
		n++;
	}
	mp_map_close(b, mark, n);
}

/* Could the daemon take this entry in a frame? If not, it would close the connection, at every attempt to
 * send it. */
static bool sendable(const struct tasker_step *s, const struct buf *b)
{
	const tasker *t = s->w->conn;
	struct scan_limits limits = {.max_items = 262144, .max_depth = SCAN_MAX_DEPTH - 3};
	size_t max = t ? t->max_frame : 4u << 20;
	struct scan_error why;
	if (t)
		limits.max_items = t->scan.max_items;
	limits.max_items -= limits.max_items > RESULT_OVERHEAD ? RESULT_OVERHEAD : 0;
	return b->len + RESULT_OVERHEAD <= max && scan_value(b->data, b->len, &limits, &why) == 0;
}

static int keep(struct tasker_step *s, struct buf *b)
{
	int rc = b->failed ? b->failed
	                   : results_add(&s->w->results, s->step_uuid, s->attempt, mp_get(s->o, "claim"),
	                                 b->data, b->len);
	buf_done(b);
	return rc;
}

int step_keep_result(struct tasker_step *s)
{
	bool extras = s->metadata.len > 0 || s->nevents > 0;
	struct buf b;
	buf_init(&b, 0);
	put_result(s, &b, extras);
	if (!b.failed && (s->value.len > 0 || extras) && !sendable(s, &b)) {
		if (!s->failed)
			step_set_failure(s, "result_too_large", true,
			                 "the handler's result is too large or too deep for one message");
		else if (!extras)
			step_set_failure(s, "error_too_large", false,
			                 "the handler's error is too large or too deep for one message");
		buf_reset(&b);
		put_result(s, &b, false);
	}
	return keep(s, &b);
}

int step_keep_abandoned(struct tasker_step *s)
{
	static const struct tasker_failure failure = {.message = "cancelled, and the handler did not return",
	                                              .error_type = "cancelled"};
	struct buf b;
	buf_init(&b, 0);
	mp_map(&b, 5);
	put_identity(s, &b);
	mp_str(&b, "success");
	mp_bool(&b, false);
	mp_str(&b, "error");
	put_failure(&b, &failure, NULL);
	return keep(s, &b);
}

int tasker_step_finish(tasker_step *s, struct tasker_error *err)
{
	if (!shared_is_owner(s->shared) || s->on_thread) {
		shared_finish(s);
		return 0;
	}
	if (s->state != STEP_DEFERRED)
		return tasker_fail_(err, -EINVAL, "bad_call", "only a deferred step is finished by hand");
	if (s->w->epoll_fd >= 0)
		shared_wake(s->shared);
	int rc = flag_get(&s->stale) ? 0 : step_keep_result(s);
	if (rc < 0)
		return tasker_fail_(err, rc, "out_of_memory", "out of memory");
	step_list_remove(&s->w->deferred, s);
	step_free(s);
	return 0;
}

/* ---- talking to the daemon from a handler ---- */

/* In a replay: what would have been sent. */
static int show(const struct tasker_step *s, const char *method, const struct buf *params)
{
	struct mp_value v;
	if (mp_decode(params->data, params->len, &v) < 0)
		return 0;
	char *json = tasker_json(as_value(&v.root));
	fprintf(s->shared->replay, "%s %s\n", method, json ? json : "");
	free(json);
	mp_value_done(&v);
	return 0;
}

/* Handlers' texts come from anywhere; what is no UTF-8 is refused here, whatever thread asks. */
static int check_params(const struct buf *params, struct tasker_error *err)
{
	const struct scan_limits limits = {.max_items = 65536, .max_depth = SCAN_MAX_DEPTH - 3};
	struct scan_error why;
	if (params->failed)
		return tasker_fail_(err, params->failed, "too_large", "the message is too large");
	if (scan_value(params->data, params->len, &limits, &why) < 0)
		return tasker_fail_(err, -EINVAL, "invalid_value", "the message cannot be sent: %s",
		                    why.what);
	return 0;
}

int step_note(struct tasker_step *s, const char *method, const struct buf *params, struct tasker_error *err)
{
	int rc = check_params(params, err);
	if (rc < 0)
		return rc;
	if (s->shared->replay)
		return show(s, method, params);
	if (!shared_is_owner(s->shared))
		return shared_post(s->shared, method, params->data, params->len, err);
	tasker *t = s->w->conn;
	if (!t)
		return tasker_fail_(err, -ENOTCONN, "connection_lost", "not connected at the moment");
	rc = tasker_notify(t, method, params->data, params->len, err);
	if (rc == 0)
		conn_flush_(t);
	return rc;
}

int step_call(struct tasker_step *s, const char *method, const struct buf *params, tasker_reply_fn *fn,
              void *arg, struct tasker_error *err)
{
	int rc = check_params(params, err);
	if (rc < 0)
		return rc;
	if (s->shared->replay) {
		fn(arg, NULL, NULL);
		return show(s, method, params);
	}
	if (!shared_is_owner(s->shared))
		return shared_call(s->shared, method, params->data, params->len, s->shared->timeout_ms, fn,
		                   arg, err);
	if (!s->w->conn)
		return tasker_fail_(err, -ENOTCONN, "connection_lost", "not connected at the moment");
	return call_raw_(s->w->conn, method, params->data, params->len, s->w->timeout_ms, fn, arg, err);
}

int tasker_step_heartbeat(tasker_step *s, const char *progress_json, struct tasker_error *err)
{
	struct buf b;
	int rc = 0;
	buf_init(&b, 1u << 20);
	mp_map(&b, progress_json ? 3 : 2);
	mp_str(&b, "step_uuid");
	mp_str(&b, s->step_uuid);
	mp_str(&b, "attempt");
	mp_int(&b, s->attempt);
	if (progress_json) {
		mp_str(&b, "progress");
		rc = json_params_(progress_json, &b, err);
	}
	if (rc == 0)
		rc = step_note(s, "step.heartbeat", &b, err);
	buf_done(&b);
	return rc;
}

int tasker_step_log(tasker_step *s, const char *level, const char *message, struct tasker_error *err)
{
	struct buf b;
	buf_init(&b, 1u << 20);
	mp_map(&b, 3);
	mp_str(&b, "step_uuid");
	mp_str(&b, s->step_uuid);
	mp_str(&b, "level");
	mp_str(&b, level);
	mp_str(&b, "message");
	put_words(&b, message);
	int rc = step_note(s, "step.log", &b, err);
	buf_done(&b);
	return rc;
}

/* A field that is present with nil reads as `found` with NULL here, unlike tasker_get. */
static const msgpack_object *find_key(const msgpack_object *map, const char *key)
{
	if (!map || map->type != MSGPACK_OBJECT_MAP)
		return NULL;
	for (uint32_t i = 0; i < map->via.map.size; i++)
		if (mp_str_eq(&map->via.map.ptr[i].key, key))
			return &map->via.map.ptr[i].val;
	return NULL;
}

struct fetch {
	const char *name;
	char *json;
	int64_t no; /* of the step; -1: unknown */
	bool found;
};

/* The step's number is as far in `dependency_steps` as its name is in the order of the names' bytes. */
static int64_t number_of(const msgpack_object *page, const char *name)
{
	const msgpack_object *all = mp_get(page, "dependencies"), *numbers = NULL;
	size_t before = 0, want = strlen(name);
	for (uint32_t i = 0; i < all->via.map.size; i++) {
		const msgpack_object_str *key = &all->via.map.ptr[i].key.via.str;
		int c = memcmp(key->ptr, name, key->size < want ? key->size : want);
		before += c < 0 || (c == 0 && key->size < want);
	}
	if (mp_get_array(page, "dependency_steps", &numbers) != 1 || numbers->via.array.size != all->via.map.size)
		return -1;
	const msgpack_object *no = &numbers->via.array.ptr[before];
	return no->type == MSGPACK_OBJECT_POSITIVE_INTEGER ? (int64_t)no->via.u64 : -1;
}

/* True if the page has the result that is looked for. */
static bool look_in(const msgpack_object *page, struct fetch *f)
{
	const msgpack_object *o = find_key(mp_get(page, "dependencies"), f->name);
	if (!o)
		return false;
	f->found = true;
	f->json = tasker_json(as_value(o));
	f->no = number_of(page, f->name);
	return true;
}

static void on_dependencies(void *arg, const tasker_value *result, const struct tasker_error *err)
{
	(void)err;
	look_in(as_object(result), arg);
}

static int fetch_dependency(tasker_step *s, struct fetch *f, struct tasker_error *err)
{
	struct buf b;
	buf_init(&b, 1u << 16);
	mp_map(&b, 2);
	mp_str(&b, "step_uuid");
	mp_str(&b, s->step_uuid);
	mp_str(&b, "names");
	mp_array(&b, 1);
	mp_str(&b, f->name);
	int rc = step_call(s, "step.dependencies", &b, on_dependencies, f, err);
	buf_done(&b);
	return rc;
}

static int find_dependency(tasker_step *s, struct fetch *f, struct tasker_error *err)
{
	if (!look_in(s->o, f) && tasker_bool(tasker_get(as_value(s->o), "dependencies_partial"), false)) {
		int rc = fetch_dependency(s, f, err);
		if (rc < 0)
			return rc;
	}
	if (!f->found)
		return tasker_fail_(err, -ENOENT, "not_found", "no completed ancestor step is called %s",
		                    f->name);
	if (!f->json)
		return tasker_fail_(err, -ENOMEM, "out_of_memory", "out of memory");
	return 0;
}

int tasker_step_dependency(tasker_step *s, const char *name, char **ret_json, struct tasker_error *err)
{
	struct fetch f = {.name = name};
	int rc = find_dependency(s, &f, err);
	if (rc == 0)
		*ret_json = f.json;
	return rc;
}

int tasker_step_dependency_uuid(tasker_step *s, const char *name, char ret[37], struct tasker_error *err)
{
	struct fetch f = {.name = name};
	int rc = find_dependency(s, &f, err);
	free(f.json);
	if (rc < 0)
		return rc;
	if (f.no < 0 || f.no >= 0xffffff || strlen(s->task_uuid) != 36)
		return tasker_fail_(err, -EPROTO, "protocol_error", "the daemon has not told the number of the step %s",
		                    name);
	snprintf(ret, 37, "%.30s%06x", s->task_uuid, ((unsigned)f.no + 1u) & 0xffffffu);
	return 0;
}

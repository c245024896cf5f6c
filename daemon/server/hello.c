/* The handshake, resuming, and what a worker says about itself. */
#include "daemon/server/hello.h"

#include <errno.h>
#include <event2/event.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include "daemon/base/cleanup.h"
#include "daemon/base/clock.h"
#include "daemon/base/err.h"
#include "daemon/base/hash.h"
#include "daemon/base/log.h"
#include "daemon/config/access.h"
#include "daemon/config/options.h"
#include "daemon/core/uuid.h"
#include "daemon/server/admit.h"
#include "daemon/server/api.h"
#include "daemon/server/bounds.h"
#include "daemon/server/notes.h"
#include "daemon/server/pool.h"
#include "daemon/server/quota.h"
#include "daemon/server/reply.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/server/step_ends.h"
#include "daemon/server/steps.h"
#include "daemon/server/tasks.h"
#include "daemon/server/unit.h"
#include "daemon/store/proof.h"
#include "daemon/store/request.h"
#include "daemon/store/store.h"
#include "protocol/buf.h"
#include "protocol/mp.h"
#include "protocol/msg.h"
#include "protocol/utf8.h"

static void copy_text(char *out, size_t size, const msgpack_object *map, const char *key)
{
	const char *p = "";
	size_t n = 0;
	(void)!mp_get_str(map, key, &p, &n);
	utf8_copy(out, size, p, n);
}

static int bad_field(struct err *e, const char *path, const char *fmt, ...) printf_like(3, 4);
static int bad_field(struct err *e, const char *path, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	err_vset(e, -EINVAL, "bad_request", fmt, ap);
	va_end(ap);
	snprintf(e->path, sizeof e->path, "%s", path);
	return -EINVAL;
}

/* An array of at most `max` strings of 1 to `max_len` bytes. 1 found, 0 absent, negative with *e. */
static int copy_strings(const msgpack_object *map, const char *key, size_t max, size_t max_len, char ***ret,
                        size_t *ret_n, struct err *e)
{
	const msgpack_object *a;
	char path[64];
	int r = mp_get_array(map, key, &a);
	if (r == 0)
		return 0;
	snprintf(path, sizeof path, "worker.%s", key);
	if (r < 0 || a->via.array.size > max)
		return bad_field(e, path, "%s must be an array of at most %zu strings", path, max);
	char **v = calloc(a->via.array.size + 1u, sizeof *v);
	size_t n = 0;
	for (; v && n < a->via.array.size; n++) {
		const msgpack_object *o = &a->via.array.ptr[n];
		bool ok = o->type == MSGPACK_OBJECT_STR && o->via.str.size >= 1 && o->via.str.size <= max_len &&
		          !memchr(o->via.str.ptr, 0, o->via.str.size);
		v[n] = ok ? mp_str_copy(o->via.str.ptr, o->via.str.size) : NULL;
		if (!v[n])
			break;
	}
	if (v && n == a->via.array.size) {
		*ret = v;
		*ret_n = n;
		return 1;
	}
	for (size_t i = 0; v && i < n; i++)
		free(v[i]);
	free(v);
	snprintf(path, sizeof path, "worker.%s[%zu]", key, n);
	return bad_field(e, path, "%s must be a string of 1 to %zu bytes without U+0000", path, max_len);
}

#define CALLABLE_MAX 2000 /* bytes: the 500 characters that a template may use */

#define BROKEN_MAX 64

static void copy_field(struct buf *out, const msgpack_object *from, const char *key, size_t max)
{
	char text[1024];
	copy_text(text, max < sizeof text ? max : sizeof text, from, key);
	mp_str(out, key);
	mp_str(out, text);
}

/* What the worker could not load. Long texts are cut: this is for people. */
static int read_broken(struct session *s, const msgpack_object *w, struct err *e)
{
	const msgpack_object *a;
	int r = mp_get_array(w, "broken", &a);
	if (r == 0)
		return 0;
	if (r < 0 || a->via.array.size > BROKEN_MAX)
		return bad_field(e, "worker.broken", "worker.broken must be an array of at most %d maps", BROKEN_MAX);
	for (; s->work.n_broken < a->via.array.size; s->work.n_broken++) {
		const msgpack_object *o = &a->via.array.ptr[s->work.n_broken];
		int64_t line = 0;
		if (o->type != MSGPACK_OBJECT_MAP || mp_get_int(o, "line", 0, INT32_MAX, &line) < 0)
			return bad_field(e, "worker.broken",
			                 "worker.broken[%zu] must be a map with name, file, line and message",
			                 s->work.n_broken);
		mp_map(&s->work.broken, 4);
		copy_field(&s->work.broken, o, "name", 256);
		copy_field(&s->work.broken, o, "file", 1024);
		mp_str(&s->work.broken, "line");
		mp_int(&s->work.broken, line);
		copy_field(&s->work.broken, o, "message", 1024);
	}
	return 0;
}

/* A name that no namespace can have would wait for ever, and nobody would see why. */
static int check_namespaces(const struct session *s, struct err *e)
{
	for (size_t i = 0; i < s->work.n_namespaces; i++) {
		const char *name = s->work.namespaces[i];
		if (strcmp(name, "*") != 0 && !is_namespace_name(name, strlen(name)))
			return bad_field(
				e, "worker.namespaces",
				"worker.namespaces[%zu] must be * or 1 to 29 letters, digits and underscores, the first not a digit",
				i);
	}
	return 0;
}

int session_read_worker(struct session *s, const msgpack_object *w, struct err *e)
{
	int64_t conc = 1;
	copy_text(s->work.name, sizeof s->work.name, w, "name");
	if (mp_get_int(w, "max_concurrency", 1, CONCURRENCY_MAX, &conc) < 0)
		return bad_field(e, "worker.max_concurrency", "worker.max_concurrency must be an integer from 1 to %d",
		                 CONCURRENCY_MAX);
	int r = copy_strings(w, "namespaces", 1000, 29, &s->work.namespaces, &s->work.n_namespaces, e);
	if (r >= 0)
		r = check_namespaces(s, e);
	if (r >= 0)
		r = copy_strings(w, "handlers", HANDLERS_MAX, CALLABLE_MAX, &s->work.handlers, &s->work.n_handlers, e);
	if (r >= 0)
		r = read_broken(s, w, e);
	if (r >= 0 && mp_get_bool(w, "open_ended", &s->work.open_ended) < 0)
		r = bad_field(e, "worker.open_ended", "worker.open_ended must be a boolean");
	if (r < 0)
		return r;
	s->work.max_concurrency = (unsigned)conc;
	s->is_worker = true;
	return 0;
}

/* [major, minor] of the peer. Positive: refused, already answered. */
static int negotiate(struct session *s, uint32_t id, const msgpack_object *params, uint64_t *ret_minor)
{
	const msgpack_object *a = mp_get(params, "protocol");
	const msgpack_object *v = a->via.array.ptr;
	if (v[0].type != MSGPACK_OBJECT_POSITIVE_INTEGER || v[1].type != MSGPACK_OBJECT_POSITIVE_INTEGER) {
		reply_errorf(s, id, "bad_request", "protocol", "protocol must be [major, minor]");
		return 1;
	}
	*ret_minor = PROTOCOL_MINOR; /* the smaller of the two: ours is 0 */
	if (v[0].via.u64 == PROTOCOL_MAJOR)
		return 0;
	size_t mark = error_begin(s, id);
	mp_map(&s->wire.out, 3);
	mp_str(&s->wire.out, "code");
	mp_str(&s->wire.out, "unsupported_version");
	mp_str(&s->wire.out, "message");
	mp_str(&s->wire.out, "this taskerd speaks protocol major version 1: use a client of the same major version");
	mp_str(&s->wire.out, "details");
	mp_map(&s->wire.out, 2);
	mp_str(&s->wire.out, "client");
	mp_array(&s->wire.out, 2);
	mp_uint(&s->wire.out, v[0].via.u64);
	mp_uint(&s->wire.out, v[1].via.u64);
	mp_str(&s->wire.out, "server");
	mp_array(&s->wire.out, 2);
	mp_uint(&s->wire.out, PROTOCOL_MAJOR);
	mp_uint(&s->wire.out, PROTOCOL_MINOR);
	error_end(s, mark);
	return 1;
}

static struct session *find_token(struct server *srv, const char *token, size_t n, const struct session *me)
{
	struct session *s, *tmp;
	if (n != sizeof s->work.token - 1)
		return NULL;
	HASH_ITER(hh, srv->sessions, s, tmp)
		if (s != me && s->is_worker && s->who.uid == me->who.uid &&
		    access_equal(&s->who.access, &me->who.access) &&
		    (s->state == SESSION_OPEN || s->state == SESSION_DETACHED) && memcmp(s->work.token, token, n) == 0)
			return s;
	return NULL;
}

/* The session that `resume` names, if it is there. */
static struct session *resumed_session(struct session *s, const msgpack_object *params)
{
	const msgpack_object *r;
	const char *token;
	size_t n;
	int64_t held = 0;
	if (mp_get_map(params, "resume", &r) != 1 || !s->is_worker)
		return NULL;
	if (mp_get_int(r, "held", 0, 1000000, &held) == 1)
		s->work.held = (unsigned)held;
	return mp_get_str(r, "session", &token, &n) == 1 ? find_token(s->srv, token, n, s) : NULL;
}

/* The steps that it asks for are counted, in the place of those of the session that it goes on with. */
static int take_slots(struct session *s, struct session *old, struct err *e)
{
	unsigned before = old ? old->counted_slots : 0;
	if (old)
		quota_slots(old, 0);
	int rc = quota_may_have_slots(s, s->work.max_concurrency, e);
	if (rc == 0)
		quota_slots(s, s->work.max_concurrency);
	else if (old)
		quota_slots(old, before);
	return rc;
}

static void put_name(const char *ns, void *arg)
{
	struct buf *b = ((void **)arg)[0];
	size_t *n = ((void **)arg)[1];
	mp_str(b, ns);
	++*n;
}

/* Those it asks for; of one that asks for all, those it may have. */
static void put_namespaces(const struct session *s, struct buf *b)
{
	bool all = s->work.n_namespaces == 0;
	size_t n = 0;
	for (size_t i = 0; i < s->work.n_namespaces; i++)
		all = all || strcmp(s->work.namespaces[i], "*") == 0;
	bool granted = all && !access_everywhere(&s->who.access, ROLE_WORK);
	mp_str(b, "namespaces");
	size_t mark = mp_array_open(b);
	if (granted)
		access_each_namespace(&s->who.access, ROLE_WORK, put_name, (void *[]){b, &n});
	for (; !granted && n < s->work.n_namespaces; n++)
		mp_str(b, s->work.namespaces[n]);
	mp_array_close(b, mark, n);
}

static void announce(struct session *s)
{
	struct req *r = req_new(REQ_API, (struct origin){0});
	struct buf b;
	char uuid[UUID_TEXT];
	if (!r)
		return;
	/* Text from the peer goes through the JSON writer: build the object as MessagePack first. */
	buf_init(&b, 0);
	uuid_format(&s->work.uuid, uuid);
	mp_map(&b, 11);
	mp_str(&b, "worker_uuid");
	mp_str(&b, uuid);
	mp_str(&b, "name");
	mp_str(&b, s->work.name);
	mp_str(&b, "pid");
	mp_int(&b, s->who.pid);
	mp_str(&b, "uid");
	mp_int(&b, s->who.uid);
	mp_str(&b, "unit");
	mp_str(&b, s->work.unit[0] ? s->work.unit : NULL);
	mp_str(&b, "client");
	mp_str(&b, s->client);
	mp_str(&b, "language");
	mp_str(&b, s->work.language);
	put_namespaces(s, &b);
	mp_str(&b, "handlers");
	mp_array(&b, s->work.n_handlers);
	for (size_t i = 0; i < s->work.n_handlers; i++)
		mp_str(&b, s->work.handlers[i]);
	mp_str(&b, "max_concurrency");
	mp_int(&b, s->work.max_concurrency);
	mp_str(&b, "broken");
	mp_array(&b, s->work.n_broken);
	buf_join(&b, &s->work.broken);
	r->api.function = "tasker.api_worker_seen";
	r->api.mode = API_WRITE;
	r->announces = true;
	s->work.unannounced = false;
	if (api_args_from_mp(r, &b, s->srv) == 0) {
		s->work.announced = true;
		s->srv->announcing++;
		store_submit(s->srv->store, r);
	} else {
		req_free(r);
	}
	buf_done(&b);
}

/* Who comes and goes faster than the database can be told must not keep it from others: few are told of at a time, and
 * who has gone before their turn is not told of. */
void worker_announce(struct session *s)
{
	s->work.unannounced = true;
	if (s->srv->announcing < ANNOUNCING_MAX)
		announce(s);
}

void worker_announced(struct server *srv)
{
	struct session *s, *tmp;
	srv->announcing--;
	HASH_ITER(hh, srv->sessions, s, tmp) {
		if (srv->announcing >= ANNOUNCING_MAX)
			return;
		if (s->work.unannounced && s->state == SESSION_OPEN)
			announce(s);
	}
}

void workers_announce(struct server *srv)
{
	struct session *s, *tmp;
	HASH_ITER(hh, srv->sessions, s, tmp)
		if (s->is_worker && s->state == SESSION_OPEN)
			worker_announce(s);
}

void worker_gone(struct session *s)
{
	if (!s->work.announced)
		return;
	struct req *r = req_new(REQ_API, (struct origin){0});
	char uuid[UUID_TEXT], args[128];
	if (!r)
		return;
	uuid_format(&s->work.uuid, uuid);
	int n = snprintf(args, sizeof args, "{\"worker_uuid\":\"%s\",\"gone\":true}", uuid);
	text_set(&r->api.args, args, (size_t)n);
	r->api.function = "tasker.api_worker_seen";
	r->api.mode = API_WRITE;
	store_submit(s->srv->store, r);
}

static void welcome(struct session *s, uint32_t id, uint64_t minor, bool resumed)
{
	const struct options *opt = s->srv->opt;
	char uuid[UUID_TEXT];
	const struct {
		const char *key;
		uint64_t v;
	} limits[] = {{"max_frame", opt->max_frame},     {"max_items", ITEMS_MAX},
	              {"max_depth", DEPTH_MAX},          {"max_bulk", bulk_max(opt)},
	              {"max_context", opt->max_context}, {"max_result", opt->max_result}};
	uuid_format(&s->work.uuid, uuid);
	size_t mark = reply_begin(s, id);
	mp_map(&s->wire.out, 9);
	mp_str(&s->wire.out, "protocol");
	mp_array(&s->wire.out, 2);
	mp_uint(&s->wire.out, PROTOCOL_MAJOR);
	mp_uint(&s->wire.out, minor);
	mp_str(&s->wire.out, "server");
	mp_str(&s->wire.out, "taskerd/" TASKERD_VERSION);
	mp_str(&s->wire.out, "node");
	mp_str(&s->wire.out, opt->node_name);
	mp_str(&s->wire.out, "session");
	mp_str(&s->wire.out, s->work.token);
	mp_str(&s->wire.out, "resumed");
	mp_bool(&s->wire.out, resumed);
	mp_str(&s->wire.out, "worker_uuid");
	mp_str(&s->wire.out, uuid);
	mp_str(&s->wire.out, "heartbeat_ms");
	mp_int(&s->wire.out, opt->heartbeat_ms);
	mp_str(&s->wire.out, "limits");
	mp_map(&s->wire.out, sizeof limits / sizeof *limits);
	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
		mp_str(&s->wire.out, limits[i].key);
		mp_uint(&s->wire.out, limits[i].v);
	}
	mp_str(&s->wire.out, "features");
	mp_array(&s->wire.out, 0);
	reply_end(s, mark);
}

/* Steps sent on the session that its worker has not named never arrived. */
static void release_unconfirmed(struct session *s)
{
	struct open_step *o, *tmp;
	for (o = TAILQ_FIRST(&s->work.steps); o; o = tmp) {
		tmp = TAILQ_NEXT(o, link);
		if (!o->confirmed)
			step_end(o, OUTCOME_RELEASED, "lost on the way to the worker");
	}
}

void on_hello(struct session *s, uint32_t id, const msgpack_object *params)
{
	uint64_t minor = 0;
	const msgpack_object *w = NULL;
	struct err e = {0};
	if (negotiate(s, id, params, &minor) > 0) {
		session_close_after_flush(s);
		return;
	}
	int r = mp_get_map(params, "worker", &w);
	if (r == 1 && !s->srv->adopted)
		/* Without the node's key no claim can be checked: let workers come back when there is work to be
		 * had. */
		r = err_set(&e, -EAGAIN, "database_unavailable", "the database has not answered yet%s%s",
		            s->srv->db_error[0] ? ": " : "", s->srv->db_error);
	else if (r == 1 && s->srv->draining)
		r = err_set(&e, -EAGAIN, "shutting_down", "the daemon is stopping");
	else if (r == 1)
		r = session_read_worker(s, w, &e);
	if (r >= 0)
		r = admit_session(s, &e);
	if (r < 0) {
		reply_error(s, id, &e);
		session_close_after_flush(s);
		return;
	}
	copy_text(s->client, sizeof s->client, params, "client");
	copy_text(s->work.language, sizeof s->work.language, params, "language");
	s->state = SESSION_OPEN;
	event_del(&s->timer);
	struct session *old = resumed_session(s, params);
	bool resumed = old;
	if (s->is_worker && take_slots(s, old, &e) < 0) {
		s->is_worker = false;
		reply_error(s, id, &e);
		session_close_after_flush(s);
		return;
	}
	if (resumed)
		session_adopt(s, old);
	welcome(s, id, minor, resumed);
	if (!s->is_worker)
		return;
	event_add(&s->timer, &(struct timeval){.tv_sec = s->srv->opt->heartbeat_ms * 6 / 1000 + 1});
	struct note note;
	unit_of(s->who.pid, s->work.unit, sizeof s->work.unit);
	char left_out[LEFT_OUT_MAX] = "";
	if (ratelimit_ok(&s->srv->peer_log, now_mono(), left_out))
		log_event(LOG_WORKER_CONNECTED, note_step(&note, s, NULL),
		          "worker %s (pid %d, uid %u, %s) connected: %zu handlers, %u at a time%s%s%s",
		          s->work.name[0] ? s->work.name : "without a name", (int)s->who.pid, (unsigned)s->who.uid,
		          s->client, s->work.n_handlers, s->work.max_concurrency, resumed ? ", resumed" : "",
		          s->work.n_broken ? "; it could not load all it should: see taskerctl worker list" : "",
		          left_out);
	worker_announce(s);
	if (s->work.held == 0) {
		release_unconfirmed(s);
		pool_join(s);
	}
}

/* One item of session.resume: does this worker hold the step? */
static bool resume_step(struct session *s, const struct uuid *uuid, const uint8_t *proof)
{
	struct step_key key = {.uuid = *uuid};
	struct uuid task;
	unsigned no;
	if (!uuid_split_step(uuid, &task, &no) ||
	    proof_check(s->srv->prover, store_secret(s->srv->store), &task, no, proof, &key.fence) < 0)
		return false;
	return step_held(s, &key);
}

/* Whether the session goes on with a step that it names; *name is what it calls it, whatever else it says. */
static bool resumes(struct session *s, const msgpack_object *o, const char **name, size_t *n)
{
	struct uuid u;
	if (o->type != MSGPACK_OBJECT_MAP || mp_get_str(o, "step_uuid", name, n) != 1 || uuid_parse(*name, *n, &u) < 0)
		return false;
	const msgpack_object *claim = mp_get(o, "claim");
	return s->is_worker && claim && claim->type == MSGPACK_OBJECT_BIN && claim->via.bin.size == PROOF_LEN &&
	       resume_step(s, &u, (const uint8_t *)claim->via.bin.ptr);
}

void on_session_resume(struct session *s, uint32_t id, const msgpack_object *params)
{
	const msgpack_object *steps = mp_get(params, "steps");
	struct buf answer;
	buf_init(&answer, 0);
	mp_map(&answer, 1);
	mp_str(&answer, "steps");
	mp_array(&answer, steps->via.array.size);
	for (uint32_t i = 0; i < steps->via.array.size; i++) {
		const msgpack_object *o = &steps->via.array.ptr[i];
		const char *p = "";
		size_t n = 0;
		int64_t attempt = 0;
		bool held = resumes(s, o, &p, &n);
		if (o->type == MSGPACK_OBJECT_MAP)
			(void)!mp_get_int(o, "attempt", 0, INT32_MAX, &attempt);
		mp_map(&answer, 3);
		mp_str(&answer, "step_uuid");
		mp_strn(&answer, p, n);
		mp_str(&answer, "attempt");
		mp_int(&answer, attempt);
		mp_str(&answer, "status");
		mp_str(&answer, held ? "held" : "stale");
	}
	reply_answer(s, id, &answer); /* what names real steps is never longer than the question */
	buf_done(&answer);
	s->work.held = 0;
	release_unconfirmed(s);
	if (s->is_worker && !s->work.pool)
		pool_join(s);
}

void on_goodbye(struct session *s, uint32_t id, const msgpack_object *params)
{
	(void)id, (void)params;
	s->said_goodbye = true;
	s->draining = true;
	pool_leave(s);
}

void on_worker_update(struct session *s, uint32_t id, const msgpack_object *params)
{
	int64_t n;
	bool draining;
	(void)id;
	if (!s->is_worker)
		return;
	if (mp_get_int(params, "max_concurrency", 1, CONCURRENCY_MAX, &n) == 1) {
		struct err e = {0};
		if (quota_may_have_slots(s, (unsigned)n, &e) < 0) {
			notify_error(s, &e);
		} else {
			quota_slots(s, (unsigned)n);
			pool_set_concurrency(s, (unsigned)n);
		}
	}
	if (!s->work.told_to_finish && mp_get_bool(params, "draining", &draining) == 1 && draining != s->draining) {
		s->draining = draining;
		if (draining)
			pool_leave(s);
		else if (s->work.held == 0)
			pool_join(s);
	}
	pool_run_backlog(s->srv);
	pool_claim(s->srv);
}

void on_heartbeat(struct session *s, uint32_t id, const msgpack_object *params)
{
	(void)s, (void)id, (void)params; /* any frame moves last_frame */
}

/* Watching tasks: a stream of events for each watcher. Something that happens to the task here, a hint from another
 * node, or the tick asks the database what is new since the time until which the last answer was complete; what was
 * sent already is known by its key. At most one question is under way for each watch. */
#include "daemon/server/watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/base/hash.h"
#include "daemon/core/states.h"
#include "daemon/core/uuid.h"
#include "daemon/server/api.h"
#include "daemon/server/bounds.h"
#include "daemon/server/front.h"
#include "daemon/server/quota.h"
#include "daemon/server/reply.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/server/steps.h"
#include "daemon/server/submit.h"
#include "daemon/store/request.h"
#include "daemon/store/store.h"
#include "protocol/buf.h"
#include "protocol/mp.h"
#include "protocol/scan.h"
#include "protocol/utf8.h"

#define EVENTS_OVERHEAD 128u /* of a task.event frame, in bytes or items, around its first event */
#define LEFT_OUT "left out: larger than a frame"

const char API_TASK_EVENTS[] = "tasker.api_task_events";
const char API_WATCH_GET[] = "tasker.api_task_get";

struct seen {
	UT_hash_handle hh;
	char key[]; /* kind, step, fence, state */
};

struct watch {
	struct watch *next;
	uint64_t session;
	uint32_t request; /* task.watch */
	uint64_t peer;
	struct uuid task;
	bool asking, again, started;
	char since[40]; /* nothing before it will come any more; or empty */
	struct seen *seen;
};

static void ask(struct server *srv, struct watch *w, const char *function)
{
	char uuid[UUID_TEXT], args[160];
	struct req *r = req_new(REQ_API, (struct origin){.session = w->session});
	if (!r)
		return; /* the tick asks again */
	uuid_format(&w->task, uuid);
	int n = w->since[0] && function == API_TASK_EVENTS
	                ? snprintf(args, sizeof args, "{\"task_uuid\":\"%s\",\"since\":\"%s\"}", uuid, w->since)
	                : snprintf(args, sizeof args, "{\"task_uuid\":\"%s\"}", uuid);
	text_set(&r->api.args, args, (size_t)n);
	r->api.function = function;
	/* each query sees what was committed before it: first who still writes, then the events */
	r->api.mode = API_WRITE;
	r->task = w->task;
	w->asking = true;
	w->again = false;
	store_submit(srv->store, r);
}

static struct watch *find(struct server *srv, uint64_t session, const struct uuid *task)
{
	for (struct watch *w = srv->watches; w; w = w->next)
		if (w->session == session && uuid_eq(&w->task, task))
			return w;
	return NULL;
}

static void watch_free(struct server *srv, struct watch *w)
{
	struct watch **at = &srv->watches;
	struct session *s = session_find(srv, w->session);
	struct seen *k, *tmp;
	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
	if (s)
		s->n_watches--;
	quota_release(srv, w->peer);
	HASH_ITER(hh, w->seen, k, tmp) {
		HASH_DEL(w->seen, k);
		free(k);
	}
	free(w);
}

void on_task_watch(struct session *s, uint32_t id, const msgpack_object *params)
{
	const char *p = "";
	size_t n = 0;
	struct uuid task;
	(void)!mp_get_str(params, "task_uuid", &p, &n);
	if (uuid_parse(p, n, &task) < 0)
		return; /* checked before */
	if (find(s->srv, s->id, &task)) {
		reply_errorf(s, id, "conflict", "task_uuid", "the task is watched on this session already");
		return;
	}
	if (s->n_watches >= WATCHES_MAX) {
		reply_errorf(s, id, "overloaded", NULL, "at most %d watches on a session", WATCHES_MAX);
		return;
	}
	struct watch *w = calloc(1, sizeof *w);
	struct req *r = w ? req_for(s, id, REQ_API) : NULL;
	char args[100];
	if (!r) {
		free(w);
		return;
	}
	w->session = s->id;
	w->request = id;
	w->task = task;
	w->next = s->srv->watches;
	s->srv->watches = w;
	s->n_watches++;
	w->peer = quota_hold(s);
	int len = snprintf(args, sizeof args, "{\"task_uuid\":\"%.*s\",\"lenient\":true}", (int)n, p);
	text_set(&r->api.args, args, (size_t)len);
	r->api.function = API_WATCH_GET;
	r->api.mode = API_READ;
	r->task = task;
	w->asking = true;
	submit_call(s, r);
}

void on_task_unwatch(struct session *s, uint32_t id, const msgpack_object *params)
{
	const char *p = "";
	size_t n = 0;
	struct uuid task;
	(void)!mp_get_str(params, "task_uuid", &p, &n);
	struct watch *w = uuid_parse(p, n, &task) == 0 ? find(s->srv, s->id, &task) : NULL;
	if (w)
		watch_free(s->srv, w);
	size_t mark = reply_begin(s, id);
	mp_map(&s->wire.out, 0);
	reply_end(s, mark);
}

/* Remember the event; false if it was sent before. */
static bool is_new(struct watch *w, const msgpack_object *event)
{
	const msgpack_object *key = mp_get(event, "key");
	struct seen *k = NULL;
	if (!key || key->type != MSGPACK_OBJECT_STR)
		return false;
	HASH_FIND(hh, w->seen, key->via.str.ptr, key->via.str.size, k);
	if (k)
		return false;
	k = calloc(1, sizeof *k + key->via.str.size + 1);
	if (!k)
		return true; /* may be sent twice */
	memcpy(k->key, key->via.str.ptr, key->via.str.size);
	HASH_ADD_KEYPTR(hh, w->seen, k->key, key->via.str.size, k);
	return true;
}

/* Events on their way, as many as go into a frame. */
struct outgoing {
	struct session *s;
	const struct watch *watch;
	struct buf events;
	size_t n, items;
};

static void flush_events(struct outgoing *o)
{
	char uuid[UUID_TEXT];
	if (o->events.failed) {
		o->s->wire.out.failed = o->events.failed; /* the session ends for want of memory */
		session_mark_dirty(o->s);
	}
	if (o->n == 0)
		return;
	uuid_format(&o->watch->task, uuid);
	size_t frame = notify_begin(o->s, "task.event");
	mp_map(&o->s->wire.out, o->watch->since[0] ? 3 : 2);
	mp_str(&o->s->wire.out, "task_uuid");
	mp_str(&o->s->wire.out, uuid);
	if (o->watch->since[0]) {
		mp_str(&o->s->wire.out, "complete_until");
		mp_str(&o->s->wire.out, o->watch->since);
	}
	mp_str(&o->s->wire.out, "events");
	mp_array(&o->s->wire.out, o->n);
	buf_join(&o->s->wire.out, &o->events);
	notify_end(o->s, frame);
	buf_reset(&o->events);
	o->n = o->items = 0;
}

/* The event was written at `mark`. True: it goes out with what is there, or alone. False: it is larger than a frame,
 * and taken back. */
static bool end_event(struct outgoing *o, size_t mark)
{
	size_t len = o->events.len - mark, items = scan_count(o->events.data + mark, len),
	       max = o->s->srv->opt->max_frame;
	if (o->events.failed)
		return true;
	if (len + EVENTS_OVERHEAD > max || items + EVENTS_OVERHEAD > ITEMS_MAX) {
		o->events.len = mark;
		return false;
	}
	if (o->n > 0 && (o->events.len > max / 2 || o->items + items > ITEMS_MAX / 2)) {
		struct buf rest;
		buf_init(&rest, 0);
		buf_append(&rest, o->events.data + mark, len);
		o->events.len = mark;
		flush_events(o);
		buf_join(&o->events, &rest);
		if (rest.failed)
			o->events.failed = rest.failed;
		buf_done(&rest);
	}
	o->n++;
	o->items += items;
	return true;
}

static void write_event(struct buf *b, const msgpack_object *event, bool whole)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < event->via.map.size; i++)
		n += event->via.map.ptr[i].val.type != MSGPACK_OBJECT_NIL &&
		     !mp_str_eq(&event->via.map.ptr[i].key, "key");
	mp_map(b, n);
	for (uint32_t i = 0; i < event->via.map.size; i++) {
		const msgpack_object_kv *kv = &event->via.map.ptr[i];
		if (kv->val.type == MSGPACK_OBJECT_NIL || mp_str_eq(&kv->key, "key"))
			continue;
		mp_object(b, &kv->key);
		if (whole || !mp_str_eq(&kv->key, "error")) {
			mp_object(b, &kv->val);
			continue;
		}
		mp_map(b, 1);
		mp_str(b, "message");
		mp_str(b, LEFT_OUT);
	}
}

static void send_event(struct outgoing *o, const msgpack_object *event)
{
	size_t mark = o->events.len;
	write_event(&o->events, event, true);
	if (end_event(o, mark))
		return;
	write_event(&o->events, event, false);
	(void)!end_event(o, mark);
}

static void note_time(struct watch *w, const msgpack_object *answer)
{
	const char *at;
	size_t n;
	if (mp_get_str(answer, "complete_until", &at, &n) == 1 && n < sizeof w->since)
		snprintf(w->since, sizeof w->since, "%.*s", (int)n, at);
}

bool event_ends_task(const msgpack_object *event)
{
	const char *p;
	size_t n;
	char name[40];
	if (!mp_str_eq(mp_get(event, "kind"), "task") || mp_get_str(event, "state", &p, &n) != 1)
		return false;
	utf8_copy(name, sizeof name, p, n);
	int st = task_state_parse(name);
	return st >= 0 && (task_states[st].flags & STATE_FINISHED);
}

/* Send what is new, in order, in as many frames as it takes; true if the task is finished. */
static bool send_events(struct session *s, struct watch *w, const msgpack_object *events)
{
	struct outgoing o = {.s = s, .watch = w};
	bool finished = false;
	buf_init(&o.events, 0);
	for (uint32_t i = 0; i < events->via.array.size; i++) {
		const msgpack_object *e = &events->via.array.ptr[i];
		if (e->type != MSGPACK_OBJECT_MAP || !is_new(w, e))
			continue;
		send_event(&o, e);
		finished = finished || event_ends_task(e);
	}
	flush_events(&o);
	buf_done(&o.events);
	return finished;
}

/* The answer to task.watch. `w` NULL: task.unwatch was faster; the request is answered all the same. */
static void watch_started(struct server *srv, struct session *s, struct watch *w, struct req *r)
{
	bool ok = !r->failed && reply_task(s, r);
	if (r->failed)
		reply_error(s, r->origin.request, &r->err);
	if (w && !ok) {
		watch_free(srv, w);
	} else if (w) {
		w->started = true;
		ask(srv, w, API_TASK_EVENTS);
	}
}

static void events_answered(struct server *srv, struct session *s, struct watch *w, struct req *r)
{
	struct mp_value v;
	const msgpack_object *events = NULL;
	w->asking = false;
	if (r->failed || mp_decode(r->answer.data, r->answer.len, &v) < 0)
		return; /* the tick asks again */
	note_time(w, &v.root);
	bool finished = mp_get_array(&v.root, "events", &events) == 1 && send_events(s, w, events);
	mp_value_done(&v);
	if (finished)
		watch_free(srv, w);
	else if (w->again)
		ask(srv, w, API_TASK_EVENTS);
}

void watch_answered(struct server *srv, struct req *r)
{
	struct session *s = session_find(srv, r->origin.session);
	struct watch *w = s ? find(srv, s->id, &r->task) : NULL;
	if (!s || !session_speaks(s))
		return;
	if (r->api.function == API_WATCH_GET)
		watch_started(srv, s, w && w->request == r->origin.request && !w->started ? w : NULL, r);
	else if (w && w->started)
		events_answered(srv, s, w, r);
}

void watch_touch(struct server *srv, const struct uuid *task)
{
	for (struct watch *w = srv->watches; w; w = w->next)
		if (uuid_eq(&w->task, task)) {
			w->again = true;
			if (w->started && !w->asking)
				ask(srv, w, API_TASK_EVENTS);
		}
}

void watch_tick(struct server *srv)
{
	for (struct watch *w = srv->watches; srv->db_up && w; w = w->next)
		if (w->started && !w->asking)
			ask(srv, w, API_TASK_EVENTS);
}

static void write_progress(struct buf *b, const struct open_step *o, const msgpack_object *progress, const char *note)
{
	char step[UUID_TEXT];
	uuid_format(&o->key.uuid, step);
	mp_map(b, progress || note ? 5 : 4);
	mp_str(b, "kind");
	mp_str(b, "step");
	mp_str(b, "state");
	mp_str(b, "in_progress");
	mp_str(b, "step_uuid");
	mp_str(b, step);
	mp_str(b, "attempt");
	mp_int(b, o->claim->attempt);
	if (!progress && !note)
		return;
	mp_str(b, "progress");
	if (note)
		mp_str(b, note);
	else
		mp_object(b, progress);
}

void watch_progress(struct server *srv, const struct open_step *o, const msgpack_object *progress)
{
	for (struct watch *w = srv->watches; w; w = w->next) {
		struct session *s =
			uuid_eq(&w->task, &o->claim->task) && w->started ? session_find(srv, w->session) : NULL;
		if (!s || !session_speaks(s))
			continue;
		struct outgoing out = {.s = s, .watch = w};
		buf_init(&out.events, 0);
		write_progress(&out.events, o, progress, NULL);
		if (!end_event(&out, 0)) {
			write_progress(&out.events, o, NULL, LEFT_OUT);
			(void)!end_event(&out, 0);
		}
		flush_events(&out);
		buf_done(&out.events);
	}
}

void watch_forget(struct session *s)
{
	struct watch *w = s->srv->watches, *next;
	for (; w; w = next) {
		next = w->next;
		if (w->session == s->id)
			watch_free(s->srv, w);
	}
}

void watches_free(struct server *srv)
{
	while (srv->watches)
		watch_free(srv, srv->watches);
}

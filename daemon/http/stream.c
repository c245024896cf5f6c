/* Server-sent events: what a session is told (task.event, event.message) as it comes. A stream of a task begins with
 * the task as it is, so that whoever lost a connection has missed nothing that matters; of the events after it those
 * are left out that Last-Event-ID says were seen. */
#include <stdlib.h>
#include <string.h>
#include "daemon/http/conns.h"
#include "daemon/http/http.h"
#include "daemon/http/reply.h"
#include "daemon/http/stream.h"
#include "daemon/http/stream_mark.h"
#include "protocol/mpjson.h"

/* how often a silent stream says something, so that proxies and the kernel notice a dead one */
#define HEARTBEAT_S 15

#define UNREAD_ALL (128u << 20) /* bytes that all streams together may leave unread, but for an event each */

#define THE_END "end"

struct stream {
	struct stream_mark seen, at; /* what the client had when it came; the newest event with a time */
	struct stream_late had, late; /* likewise of what may come later than newer ones */
	/* as the newest answer of the database has it: `late` has that of the one before, all of which is sent */
	char until[40];
	usec_t said;		      /* when something was sent last */
};

/* Writing ---------------------------------------------------------------------------------------------------------- */

/* A reader that does not keep up is let go: what it missed it can see when it comes again. */
static bool keeps_up(struct exchange *x)
{
	struct evhttp_connection *evcon = evhttp_request_get_connection(x->req);
	size_t unread = evbuffer_get_length(bufferevent_get_output(evhttp_connection_get_bufferevent(evcon))),
	       share = UNREAD_ALL / x->http->n_streams;
	return unread == 0 || (unread <= x->http->opt->max_frame * 2 && unread <= share);
}

/* False: the exchange is over. */
static bool say(struct exchange *x, struct buf *text)
{
	struct evbuffer *out = text->failed ? NULL : evbuffer_new();
	bool ok = out && keeps_up(x) && evbuffer_add(out, text->data, text->len) == 0;
	if (ok)
		evhttp_send_reply_chunk(x->req, out);
	if (out)
		evbuffer_free(out);
	buf_done(text);
	x->stream->said = now_mono();
	if (!ok)
		exchange_drop(x, "a stream is read too slowly");
	return ok;
}

/* `id` may be NULL. */
static bool say_event(struct exchange *x, const char *event, size_t event_len, const msgpack_object *id,
                      const msgpack_object *data)
{
	struct buf text;
	buf_init(&text, 0);
	buf_printf(&text, "event: %.*s\n", (int)event_len, event);
	if (id && id->type == MSGPACK_OBJECT_STR)
		buf_printf(&text, "id: %.*s\n", (int)id->via.str.size, id->via.str.ptr);
	buf_append_str(&text, "data: ");
	if (mp_to_json(data, "", &text, NULL) < 0) /* JSON has no line breaks but escaped ones */
		buf_append_str(&text, "null");
	buf_append_str(&text, "\n\n");
	return say(x, &text);
}

static void say_end(struct exchange *x)
{
	struct buf text;
	buf_init(&text, 0);
	buf_append_str(&text, "event: end\nid: " THE_END "\ndata: {}\n\n");
	if (say(x, &text))
		exchange_end(x);
}

/* Beginning -------------------------------------------------------------------------------------------------------- */

static const char *last_event_id(struct exchange *x)
{
	return evhttp_find_header(evhttp_request_get_input_headers(x->req), "Last-Event-ID");
}

bool stream_is_over(struct exchange *x)
{
	const char *last = last_event_id(x);
	if (!last || strcmp(last, THE_END) != 0)
		return false;
	reply_empty(x, HTTP_NOCONTENT); /* which tells an EventSource not to come again */
	return true;
}

static void send_head(struct exchange *x)
{
	add_header(x, "Content-Type", "text/event-stream");
	add_header(x, "Cache-Control", "no-store");
	add_header(x, "X-Accel-Buffering", "no");
	add_header(x, "Connection", "close");
	evhttp_send_reply_start(x->req, HTTP_OK, "OK");
	exchange_watch_client(x);
	x->answered = true;
}

void stream_begin(struct exchange *x, const msgpack_object *result)
{
	x->stream = calloc(1, sizeof *x->stream);
	if (!x->stream) {
		reply_refusal(x, HTTP_SERVUNAVAIL, "overloaded", NULL, "out of memory");
		return;
	}
	x->http->n_streams++;
	if (stream_mark_read(last_event_id(x), &x->stream->seen))
		stream_late_read(last_event_id(x), &x->stream->had);
	bool head = evhttp_request_get_command(x->req) == EVHTTP_REQ_HEAD;
	send_head(x);
	if (head)
		say_end(x);
	else if (say_event(x, x->route->msg == MSG_TASK_WATCH ? "task" : "subscribed",
	                   x->route->msg == MSG_TASK_WATCH ? 4 : 10, NULL, result) &&
	         mp_get(result, "archived_at"))
		say_end(x); /* nothing more will happen to it */
}

void stream_free(struct exchange *x)
{
	x->http->n_streams--;
	free(x->stream);
	x->stream = NULL;
}

/* Events ----------------------------------------------------------------------------------------------------------- */

/* Which event it is, in 32 bits. */
static uint32_t hash_of(const msgpack_object *event)
{
	static const char *const fields[] = {"kind", "at", "state", "step_uuid"};
	const msgpack_object *attempt = mp_get(event, "attempt");
	uint32_t h = 2166136261u ^
	             (attempt && attempt->type == MSGPACK_OBJECT_POSITIVE_INTEGER ? (uint32_t)attempt->via.u64 : 0);
	const char *p;
	size_t n;
	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
		for (n = 0, (void)mp_get_str(event, fields[i], &p, &n); n > 0; n--)
			h = (h ^ (unsigned char)*p++) * 16777619u;
	return h;
}

/* False: the client has it already. Otherwise its id, if it has one. */
static bool mark_event(struct exchange *x, const msgpack_object *event, char text[static STREAM_ID], msgpack_object *id)
{
	struct stream *st = x->stream;
	struct stream_mark own = {.nth = 1};
	const char *at;
	size_t n;
	*id = (msgpack_object){.type = MSGPACK_OBJECT_NIL};
	if (mp_get_str(event, "at", &at, &n) != 1 || !stream_is_time(at, n))
		return true;
	memcpy(own.at, at, n);
	if (strcmp(own.at, st->at.at) >= 0) {
		(void)stream_mark_move(&st->at, at, n);
		own.nth = st->at.nth;
	}
	uint32_t hash = hash_of(event);
	stream_late_add(&st->late, own.at, hash);
	*id = (msgpack_object){.type = MSGPACK_OBJECT_STR,
	                       .via.str = {(uint32_t)stream_id(&st->at, &st->late, text), text}};
	return !stream_mark_covers(&st->seen, &own) || stream_late_is_new(&st->had, own.at, hash);
}

/* Frames of one answer say the same. */
static void note_until(struct stream *st, const msgpack_object *params)
{
	const char *p;
	size_t n;
	if (mp_get_str(params, "complete_until", &p, &n) != 1 || !stream_is_time(p, n) || memcmp(st->until, p, n) == 0)
		return;
	memcpy(st->late.from, st->until[0] ? st->until : p, n);
	memcpy(st->until, p, n);
}

static void task_events(struct exchange *x, const msgpack_object *events)
{
	for (uint32_t i = 0; i < events->via.array.size; i++) {
		const msgpack_object *e = &events->via.array.ptr[i];
		bool last = event_ends_task(e), progress = mp_get(e, "progress");
		char text[STREAM_ID];
		msgpack_object id;
		if (!mp_get(e, "kind") || (!mark_event(x, e, text, &id) && !last))
			continue;
		/* The last one has its id from the end, which comes with it. */
		if (!say_event(x, progress ? "progress" : "event", progress ? 8 : 5, &id, e))
			return;
		if (last) {
			say_end(x);
			return;
		}
	}
}

static void domain_events(struct exchange *x, const msgpack_object *params)
{
	const msgpack_object *events = NULL, *lost = mp_get(params, "lost");
	if (mp_get_array(params, "events", &events) != 1)
		return;
	for (uint32_t i = 0; i < events->via.array.size; i++)
		if (!say_event(x, "event", 5, mp_get(&events->via.array.ptr[i], "event_id"), &events->via.array.ptr[i]))
			return;
	if (lost && lost->type == MSGPACK_OBJECT_POSITIVE_INTEGER && lost->via.u64 > 0)
		(void)say_event(x, "lost", 4, NULL, lost);
}

void stream_notified(struct exchange *x, const char *method, size_t n, const msgpack_object *params)
{
	const msgpack_object *events = NULL;
	if (!x->stream)
		return; /* an ordinary request is answered, whatever else there is */
	int m = msg_find(method, n, MSG_TO_CLIENT);
	if (m == MSG_TASK_EVENT && mp_get_array(params, "events", &events) == 1) {
		note_until(x->stream, params);
		task_events(x, events);
	} else if (m == MSG_EVENT_MESSAGE)
		domain_events(x, params);
	else if (m == MSG_SERVER_DRAINING)
		(void)say_event(x, "draining", 8, NULL, params);
}

void stream_tick(struct exchange *x)
{
	struct buf text;
	if (!auth_still(server_auth(x->http->srv), &x->who)) {
		exchange_drop(x, "the token of a stream is no longer good");
		return;
	}
	if (now_mono() - x->stream->said < HEARTBEAT_S * USEC_PER_SEC)
		return;
	buf_init(&text, 0);
	buf_append_str(&text, ": still here\n\n");
	(void)say(x, &text);
}

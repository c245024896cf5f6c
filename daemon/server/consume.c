/* Durable domain events over the socket. A call that finds no message waits here: a hint (something was published, or
 * given back), the time of the next hidden message, a slow poll or its own end makes it ask the database again. What
 * was taken for a session that is gone is given back at once. */
#include "daemon/server/consume.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include "daemon/base/clock.h"
#include "daemon/base/err.h"
#include "daemon/server/api.h"
#include "daemon/server/bounds.h"
#include "daemon/server/front.h"
#include "daemon/server/quota.h"
#include "daemon/server/reply.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/server/submit.h"
#include "daemon/server/subscribe.h"
#include "daemon/store/request.h"
#include "daemon/store/store.h"
#include "protocol/buf.h"
#include "protocol/mp.h"
#include "protocol/mpjson.h"
#include "protocol/utf8.h"

const char API_EVENT_CONSUME[] = "tasker.api_event_consume";
const char API_EVENT_RETURN[] = "tasker.api_event_extend";

struct consumer {
	TAILQ_ENTRY(consumer) link;
	struct server *srv;
	uint64_t session; /* 0: it is gone, but the database still has the question */
	uint32_t request;
	uint64_t peer;
	char ns[32];
	bool patterns;
	char *args; /* JSON */
	usec_t until;
	struct event timer;
	bool asking, again;
};

static const struct err stopping = {.code = "shutting_down", .text = "the daemon is stopping"};

static void consumer_free(struct consumer *c)
{
	struct session *s = session_find(c->srv, c->session);
	if (s)
		s->n_consumers--;
	quota_release(c->srv, c->peer);
	event_del(&c->timer);
	TAILQ_REMOVE(&c->srv->consumers, c, link);
	free(c->args);
	free(c);
}

static void reply_messages(struct consumer *c, const msgpack_object *messages)
{
	struct session *s = session_find(c->srv, c->session);
	struct buf b;
	if (!s || !session_speaks(s))
		return;
	buf_init(&b, 0);
	mp_map(&b, 1);
	mp_str(&b, "messages");
	if (messages)
		mp_object(&b, messages);
	else
		mp_array(&b, 0);
	reply_answer(s, c->request, &b);
	buf_done(&b);
}

static void refuse(struct consumer *c, const struct err *e)
{
	struct session *s = session_find(c->srv, c->session);
	if (s && session_speaks(s))
		reply_error(s, c->request, e);
	consumer_free(c);
}

/* Asking ----------------------------------------------------------------------------------------------------------- */

static void ask(struct consumer *c)
{
	struct req *r = req_new(REQ_API, (struct origin){0});
	event_del(&c->timer);
	c->again = false;
	if (r)
		text_set(&r->api.args, c->args, strlen(c->args));
	if (!r || !r->api.args.s) {
		static const struct err full = {.code = "overloaded", .text = "out of memory"};
		req_free(r);
		refuse(c, &full);
		return;
	}
	r->api.function = API_EVENT_CONSUME;
	r->api.mode = API_WRITE;
	r->user = c;
	c->asking = true;
	store_submit(c->srv->store, r);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct consumer *c = arg;
	struct server *srv = c->srv;
	(void)fd, (void)what;
	if (now_mono() < c->until) {
		ask(c);
	} else {
		reply_messages(c, NULL);
		consumer_free(c);
	}
	server_flush(srv);
}

/* Until the end of the wait, or until the next message shows itself. */
static void rest(struct consumer *c, int64_t next_ms)
{
	usec_t now = now_mono(), left = c->until > now ? c->until - now : 0;
	if (next_ms >= 0 && (usec_t)next_ms * USEC_PER_MSEC < left)
		left = (usec_t)(next_ms + 1) * USEC_PER_MSEC;
	event_add(&c->timer, &(struct timeval){.tv_sec = (time_t)(left / USEC_PER_SEC),
	                                       .tv_usec = (suseconds_t)(left % USEC_PER_SEC)});
}

/* Nobody is there to take them. */
static void give_back(struct consumer *c, const msgpack_object *messages)
{
	struct buf b, counts;
	uint32_t n = messages->via.array.size;
	struct req *r = req_new(REQ_API, (struct origin){0});
	buf_init(&b, 0);
	buf_init(&counts, 0);
	mp_map(&b, 4);
	mp_str(&b, "namespace");
	mp_str(&b, c->ns);
	mp_str(&b, "visibility_ms");
	mp_uint(&b, 0);
	mp_str(&b, "ids");
	mp_array(&b, n);
	mp_array(&counts, n);
	for (uint32_t i = 0; i < n; i++) {
		const msgpack_object *m = &messages->via.array.ptr[i], *id = mp_get(m, "msg_id"),
				     *count = mp_get(m, "read_count");
		mp_object(&b, id);
		mp_object(&counts, count);
	}
	mp_str(&b, "read_counts");
	buf_join(&b, &counts);
	if (r && !counts.failed && api_args_from_mp(r, &b, NULL) == 0) {
		r->api.function = API_EVENT_RETURN;
		r->api.mode = API_WRITE;
		store_submit(c->srv->store, r);
	} else {
		req_free(r); /* they come back by themselves */
	}
	buf_done(&counts);
	buf_done(&b);
}

static void take_answer(struct consumer *c, const msgpack_object *answer)
{
	const msgpack_object *messages = NULL;
	int64_t next_ms = -1;
	bool some = mp_get_array(answer, "messages", &messages) == 1 && messages->via.array.size > 0;
	(void)!mp_get_int(answer, "next_ms", 0, INT64_MAX, &next_ms);
	if (c->session == 0 && some)
		give_back(c, messages);
	if (!some && c->srv->draining)
		refuse(c, &stopping);
	else if (c->session == 0 || some || now_mono() >= c->until) {
		reply_messages(c, some ? messages : NULL);
		consumer_free(c);
	} else if (c->again) {
		ask(c);
	} else {
		rest(c, next_ms);
	}
}

void consume_answered(struct server *srv, struct req *r)
{
	struct consumer *c = r->user;
	struct mp_value v;
	(void)srv;
	c->asking = false;
	bool waits = c->session != 0 && now_mono() < c->until;
	if (!r->failed && mp_decode(r->answer.data, r->answer.len, &v) == 0) {
		take_answer(c, &v.root);
		mp_value_done(&v);
	} else if (r->failed && waits && strcmp(r->err.code, "database_unavailable") == 0) {
		rest(c, -1); /* asked again when it is back */
	} else {
		refuse(c, &r->err);
	}
}

/* Waking ----------------------------------------------------------------------------------------------------------- */

static void wake(struct consumer *c)
{
	if (c->asking)
		c->again = true;
	else
		ask(c);
}

/* The first `n` in the order of their coming; those who take only some names are not counted, it may not be for
 * them. */
void consumers_hint(struct server *srv, const char *ns, unsigned n)
{
	unsigned woken = 0;
	for (struct consumer *c = TAILQ_FIRST(&srv->consumers), *next; c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (c->session == 0 || strcmp(c->ns, ns) != 0 || (!c->patterns && n > 0 && woken >= n))
			continue;
		woken += !c->patterns;
		wake(c);
	}
}

void consumers_recheck(struct server *srv)
{
	for (struct consumer *c = TAILQ_FIRST(&srv->consumers), *next; c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (c->session != 0)
			wake(c);
	}
}

/* Consuming -------------------------------------------------------------------------------------------------------- */

/* Those of `keys` (NULL ends them) that the request has, as JSON. */
static char *args_of(struct session *s, const msgpack_object *params, const char *const *keys)
{
	struct buf b, json;
	struct mp_value v;
	size_t n = 1, page = s->srv->opt->max_frame / 2;
	buf_init(&b, 0);
	buf_init(&json, 0);
	size_t mark = mp_map_open(&b);
	mp_str(&b, "max_bytes");
	/* No item takes less than two bytes of JSON, so that this bounds the items as well. */
	mp_uint(&b, page < DEPENDENCIES_PAGE ? page : DEPENDENCIES_PAGE);
	for (; *keys; keys++) {
		const msgpack_object *o = mp_get(params, *keys);
		if (!o)
			continue;
		mp_str(&b, *keys);
		mp_object(&b, o);
		n++;
	}
	mp_map_close(&b, mark, n);
	if (!b.failed && mp_decode(b.data, b.len, &v) == 0) {
		if (mp_to_json(&v.root, NULL, &json, NULL) < 0)
			json.failed = -ENOMEM; /* the values have been checked */
		mp_value_done(&v);
	}
	char *text = json.len > 0 ? buf_take_text(&json) : NULL;
	buf_done(&json);
	buf_done(&b);
	return text;
}

void on_event_consume(struct session *s, uint32_t id, const msgpack_object *params)
{
	struct err e = {0};
	int64_t wait_ms = 0;
	const char *ns = "default";
	size_t n = 7;
	int rc = check_event_patterns(mp_get(params, "patterns"), &e);
	if (rc == 0)
		rc = may_submit(s->srv, REQ_API, &e);
	if (rc == 0)
		rc = quota_may_ask(s, &e);
	if (rc == 0 && s->srv->draining)
		rc = err_set(&e, -EAGAIN, "shutting_down", "the daemon is stopping");
	if (rc == 0 && s->n_consumers >= CONSUMERS_MAX)
		rc = err_set(&e, -EAGAIN, "overloaded", "at most %u calls of event.consume at a time on a session",
		             CONSUMERS_MAX);
	struct consumer *c = rc == 0 ? calloc(1, sizeof *c) : NULL;
	if (c)
		c->args = args_of(s, params,
		                  (const char *const[]){"namespace", "max", "visibility_ms", "patterns", NULL});
	if (rc == 0 && (!c || !c->args))
		rc = err_set(&e, -ENOMEM, "overloaded", "out of memory");
	if (rc < 0) {
		free(c);
		reply_error(s, id, &e);
		return;
	}
	(void)!mp_get_int(params, "wait_ms", 0, INT32_MAX, &wait_ms);
	(void)!mp_get_str(params, "namespace", &ns, &n);
	utf8_copy(c->ns, sizeof c->ns, ns, n);
	c->srv = s->srv;
	c->session = s->id;
	c->request = id;
	c->patterns = mp_get(params, "patterns") != NULL;
	c->until = now_mono() + (usec_t)wait_ms * USEC_PER_MSEC;
	event_assign(&c->timer, s->srv->base, -1, 0, on_timer, c);
	c->peer = quota_hold(s);
	TAILQ_INSERT_TAIL(&s->srv->consumers, c, link);
	s->n_consumers++;
	ask(c);
}

/* Acknowledge, or give more time: one function over some messages. */
static void settle(struct session *s, uint32_t id, const msgpack_object *params, const char *function)
{
	struct req *r = req_for(s, id, REQ_API);
	char *args =
		r ? args_of(s, params, (const char *const[]){"namespace", "ids", "read_counts", "visibility_ms", NULL})
		  : NULL;
	if (r && args) {
		text_set(&r->api.args, args, strlen(args));
		r->api.function = function;
		r->api.mode = API_WRITE;
		submit_call(s, r);
	} else if (r) {
		reply_errorf(s, id, "overloaded", NULL, "out of memory");
		req_free(r);
	}
	free(args);
}

void on_event_ack(struct session *s, uint32_t id, const msgpack_object *params)
{
	settle(s, id, params, "tasker.api_event_ack");
}

void on_event_extend(struct session *s, uint32_t id, const msgpack_object *params)
{
	settle(s, id, params, "tasker.api_event_extend");
}

void consumers_forget(struct session *s)
{
	for (struct consumer *c = TAILQ_FIRST(&s->srv->consumers), *next; c && s->n_consumers > 0; c = next) {
		next = TAILQ_NEXT(c, link);
		if (c->session != s->id)
			continue;
		if (!c->asking) {
			consumer_free(c);
			continue;
		}
		s->n_consumers--;
		c->session = 0;
	}
}

void consumers_drain(struct server *srv)
{
	for (struct consumer *c = TAILQ_FIRST(&srv->consumers), *next; c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (!c->asking)
			refuse(c, &stopping);
	}
}

void consumers_free(struct server *srv)
{
	while (!TAILQ_EMPTY(&srv->consumers))
		consumer_free(TAILQ_FIRST(&srv->consumers));
}

/* Domain events that come from outside: those that clients publish, and the words of workers' publishers about the
 * events of their steps. */
#include "daemon/server/publish.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "daemon/base/clock.h"
#include "daemon/base/err.h"
#include "daemon/config/options.h"
#include "daemon/core/pattern.h"
#include "daemon/core/uuid.h"
#include "daemon/server/reply.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/server/submit.h"
#include "daemon/server/subscribe.h"
#include "daemon/store/request.h"
#include "protocol/buf.h"
#include "protocol/mp.h"
#include "protocol/utf8.h"

#define WORDS_MAX 64u /* of one result */

const char API_EVENT_PUBLISH[] = "tasker.api_event_publish";

/* What publishers say ---------------------------------------------------------------------------------------------- */

static int word_json(const struct options *opt, const msgpack_object *word, const char *key, struct text *ret,
                     struct err *e)
{
	const msgpack_object *o = mp_get(word, key);
	struct buf b;
	if (!o)
		return 0;
	buf_init(&b, opt->max_result);
	int rc = value_to_json(o, key, opt->max_result, &b, e);
	if (rc == 0) {
		ret->n = b.len;
		ret->s = buf_take_text(&b);
		rc = ret->s ? 0 : err_set(e, -ENOMEM, "overloaded", "out of memory");
	}
	buf_done(&b);
	return rc;
}

/* What the publisher says of one event. If that cannot be used, the event is left out: its default payload may be what
 * the publisher was there to change. */
static int read_word(const struct options *opt, const msgpack_object *o, struct event_word *w, struct err *e)
{
	const char *failed = NULL;
	size_t n = 0;
	const msgpack_object *metadata = NULL;
	if (mp_get_bool(o, "skip", &w->skip) < 0)
		return err_set(e, -EINVAL, "bad_request", "skip must be true or false");
	if (mp_get_str(o, "failed", &failed, &n) < 0)
		return err_set(e, -EINVAL, "bad_request", "failed must be a string");
	if (mp_get_map(o, "metadata", &metadata) < 0)
		return err_set(e, -EINVAL, "bad_request", "metadata must be a map");
	if (failed)
		return err_set(e, -EINVAL, "bad_request", "its publisher has failed: %.*s", (int)(n < 250 ? n : 250),
		               failed);
	int rc = word_json(opt, o, "payload", &w->payload, e);
	return rc == 0 ? word_json(opt, o, "metadata", &w->metadata, e) : rc;
}

static int add_word(const struct options *opt, const msgpack_object *o, struct req_result *q, struct err *e)
{
	const char *name = "";
	size_t n = 0;
	struct event_word *w = &q->words[q->n_words];
	if (o->type != MSGPACK_OBJECT_MAP || mp_get_str(o, "name", &name, &n) != 1 || n == 0 || memchr(name, 0, n))
		return err_set(e, -EINVAL, "bad_request", "each needs a name");
	w->name = mp_str_copy(name, n);
	if (!w->name)
		return err_set(e, -ENOMEM, "overloaded", "out of memory");
	q->n_words++;
	if (read_word(opt, o, w, e) == 0)
		return 0;
	w->skip = true;
	utf8_scrub(e->text);
	w->failed = strdup(e->text);
	return w->failed ? 0 : err_set(e, -ENOMEM, "overloaded", "out of memory");
}

void read_event_words(const struct options *opt, const msgpack_object *events, struct req_result *q)
{
	struct err e = {0};
	if (events->type != MSGPACK_OBJECT_ARRAY || events->via.array.size > WORDS_MAX) {
		snprintf(q->words_wrong, sizeof q->words_wrong, "events must be an array of at most %u maps",
		         WORDS_MAX);
		return;
	}
	q->words = calloc(events->via.array.size + 1u, sizeof *q->words);
	for (uint32_t i = 0; q->words && i < events->via.array.size; i++)
		if (add_word(opt, &events->via.array.ptr[i], q, &e) < 0)
			snprintf(q->words_wrong, sizeof q->words_wrong, "events[%u]: %.100s", i, e.text);
	utf8_scrub(q->words_wrong);
}

/* Events of clients ------------------------------------------------------------------------------------------------ */

static int check_publish(const msgpack_object *params, struct err *e)
{
	const msgpack_object *name = mp_get(params, "name"), *mode = mp_get(params, "delivery_mode");
	const char *path = "name";
	if (!pattern_valid(name->via.str.ptr, name->via.str.size))
		err_set(e, -EINVAL, "bad_request", "name must have no control characters");
	else if (mode && !mp_str_eq(mode, "durable") && !mp_str_eq(mode, "fast") && !mp_str_eq(mode, "broadcast")) {
		path = "delivery_mode";
		err_set(e, -EINVAL, "bad_request", "delivery_mode must be durable, fast or broadcast");
	} else
		return 0;
	snprintf(e->path, sizeof e->path, "%s", path);
	return -EINVAL;
}

static void put_event_id(struct buf *json)
{
	uint8_t rnd[16];
	char text[UUID_TEXT];
	if (getrandom(rnd, sizeof rnd, 0) != (ssize_t)sizeof rnd)
		abort(); /* the kernel's pool is ready long before a daemon starts */
	struct uuid id = uuid_for_task(now_wall() / USEC_PER_MSEC, rnd);
	memcpy(id.b + 13, rnd + 13, 3); /* no step numbers here */
	uuid_format(&id, text);
	buf_printf(json, ",\"event_id\":\"%s\"", text);
}

/* The values have been checked against their types; what JSON cannot hold is found here. */
static int publish_args(struct session *s, const msgpack_object *params, struct buf *json, struct err *e)
{
	static const char *const keys[] = {"name",           "namespace", "payload",  "delivery_mode",
	                                   "correlation_id", "fired_by",  "metadata", "event_id"};
	int rc = 0;
	buf_printf(json, "{\"node\":\"%s\"", s->srv->opt->node_name);
	for (size_t i = 0; rc == 0 && i < sizeof keys / sizeof *keys; i++) {
		const msgpack_object *o = mp_get(params, keys[i]);
		if (!o)
			continue;
		buf_printf(json, ",\"%s\":", keys[i]);
		struct buf value;
		buf_init(&value, s->srv->opt->max_result);
		rc = value_to_json(o, keys[i], s->srv->opt->max_result, &value, e);
		buf_join(json, &value);
		buf_done(&value);
	}
	if (rc == -EMSGSIZE)
		e->limit = "max_result";
	if (rc < 0)
		return rc;
	if (!mp_get(params, "event_id"))
		put_event_id(json);
	if (!mp_get(params, "fired_by")) {
		struct buf mp;
		struct mp_value v;
		buf_init(&mp, 0);
		mp_str(&mp, s->client);
		buf_append_str(json, ",\"fired_by\":");
		if (!mp.failed && mp_decode(mp.data, mp.len, &v) == 0) {
			if (value_to_json(&v.root, "fired_by", 1024, json, e) < 0)
				rc = -EINVAL;
			mp_value_done(&v);
		}
		buf_done(&mp);
	}
	buf_append_char(json, '}');
	return rc == 0 && json->failed ? err_set(e, -ENOMEM, "overloaded", "out of memory") : rc;
}

void on_event_publish(struct session *s, uint32_t id, const msgpack_object *params)
{
	struct err e = {0};
	struct buf json;
	buf_init(&json, 0);
	int rc = check_publish(params, &e);
	if (rc == 0)
		rc = publish_args(s, params, &json, &e);
	struct req *r = rc == 0 ? req_for(s, id, REQ_API) : NULL;
	if (rc < 0)
		reply_error(s, id, &e);
	if (r) {
		text_set(&r->api.args, buf_text(&json), json.len);
		r->api.function = API_EVENT_PUBLISH;
		r->api.mode = API_WRITE;
		submit_call(s, r);
	}
	buf_done(&json);
}

static void push_own(struct server *srv, const msgpack_object *answer)
{
	const msgpack_object *event = mp_get(answer, "event");
	struct fired f = {.n = 1};
	if (!event)
		return;
	buf_init(&f.body, 0);
	mp_object(&f.body, event);
	srv->c_events_fast++;
	if (!f.body.failed)
		events_fired(srv, &f);
	buf_done(&f.body);
}

static void note_queued(struct server *srv, const msgpack_object *answer)
{
	struct fired f = {.n = 1};
	const char *ns = "";
	size_t n = 0;
	if (!mp_get(answer, "msg_id") || mp_get_str(answer, "namespace", &ns, &n) != 1)
		return;
	utf8_copy(f.ns, sizeof f.ns, ns, n);
	srv->c_events_queued++;
	events_fired(srv, &f);
}

void event_publish_answered(struct server *srv, struct req *r)
{
	struct session *s = session_find(srv, r->origin.session);
	bool there = s && session_speaks(s);
	struct mp_value v;
	if (there && r->failed)
		reply_error(s, r->origin.request, &r->err);
	if (r->failed || mp_decode(r->answer.data, r->answer.len, &v) < 0)
		return;
	if (there) {
		const msgpack_object *event_id = mp_get(&v.root, "event_id"), *msg_id = mp_get(&v.root, "msg_id");
		size_t mark = reply_begin(s, r->origin.request);
		mp_map(&s->wire.out, msg_id ? 2 : 1);
		mp_str(&s->wire.out, "event_id");
		mp_object(&s->wire.out, event_id);
		if (msg_id) {
			mp_str(&s->wire.out, "msg_id");
			mp_object(&s->wire.out, msg_id);
		}
		reply_end(s, mark);
	}
	push_own(srv, &v.root);
	note_queued(srv, &v.root);
	mp_value_done(&v);
}

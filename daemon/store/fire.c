/* See fire.h. Nothing here can fail a step: what is wrong with an event is told, and the event left out. */
#include "daemon/store/fire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/schema/schema.h"
#include "protocol/mpjson.h"
#include "protocol/utf8.h"

#define ERRORS_MAX 16u /* told of one attempt */

static const char *const condition_names[] = {
	[EVENT_SUCCESS] = "success",
	[EVENT_FAILURE] = "failure",
	[EVENT_RETRYABLE_FAILURE] = "retryable_failure",
	[EVENT_PERMANENT_FAILURE] = "permanent_failure",
	[EVENT_ALWAYS] = "always",
};

/* Declarations ----------------------------------------------------------------------------------------------------- */

static enum event_condition condition_of(const msgpack_object *word)
{
	for (size_t i = 0; word && i < sizeof condition_names / sizeof *condition_names; i++)
		if (mp_str_eq(word, condition_names[i]))
			return (enum event_condition)i;
	return EVENT_SUCCESS;
}

static void copy_word(struct buf *out, const msgpack_object *declaration, const char *key, size_t *n)
{
	const msgpack_object *v = mp_get(declaration, key);
	if (!v)
		return;
	mp_str(out, key);
	mp_object(out, v);
	(*n)++;
}

/* It compiled when the template was checked. */
static int read_schema(const msgpack_object *o, struct schema **ret)
{
	struct buf json;
	struct schema_problems p = {0};
	if (!o)
		return 0;
	buf_init(&json, 0);
	int rc = mp_to_json(o, NULL, &json, NULL);
	if (rc == 0)
		rc = schema_compile(buf_text(&json), json.len, ret, &p);
	schema_problems_done(&p);
	buf_done(&json);
	return rc;
}

static int read_one(struct declared_events *d, const msgpack_object *o)
{
	struct declared_event *ev = &d->list[d->n];
	const char *name = "";
	size_t len = 0, n = 0;
	(void)!mp_get_str(o, "name", &name, &len);
	ev->name = mp_str_copy(name, len);
	if (!ev->name)
		return -ENOMEM;
	d->n++;
	ev->condition = condition_of(mp_get(o, "condition"));
	size_t mark = mp_map_open(&d->words);
	for (size_t i = 0; i < 4; i++)
		copy_word(&d->words, o, (const char *const[]){"name", "condition", "delivery_mode", "publisher"}[i],
		          &n);
	mp_map_close(&d->words, mark, n);
	return d->words.failed ? d->words.failed : read_schema(mp_get(o, "schema"), &ev->schema);
}

static int read_all(struct declared_events *d, const msgpack_object *list)
{
	if (list->type != MSGPACK_OBJECT_ARRAY)
		return -EINVAL;
	int rc = 0;
	d->list = calloc(list->via.array.size + 1u, sizeof *d->list);
	mp_array(&d->words, list->via.array.size);
	for (uint32_t i = 0; d->list && rc == 0 && i < list->via.array.size; i++)
		rc = read_one(d, &list->via.array.ptr[i]);
	return d->list ? rc : -ENOMEM;
}

int declared_read(struct declared_events *d, const char *json, size_t len, struct err *e)
{
	struct buf tmp;
	struct mp_value v;
	buf_init(&tmp, 0);
	buf_init(&d->words, 0);
	int rc = json_to_mp(json, len, &tmp, NULL);
	if (rc == 0 && (rc = mp_decode(tmp.data, tmp.len, &v)) == 0) {
		rc = read_all(d, &v.root);
		mp_value_done(&v);
	}
	buf_done(&tmp);
	return rc < 0 ? err_set(e, rc, "internal", "publishes_events: %s",
	                        rc == -ENOMEM ? "out of memory" : "not a list of declarations")
	              : 0;
}

void declared_done(struct declared_events *d)
{
	for (size_t i = 0; i < d->n; i++) {
		free(d->list[i].name);
		schema_free(d->list[i].schema);
	}
	free(d->list);
	buf_done(&d->words);
}

bool event_fires(enum event_condition c, enum outcome outcome, bool final)
{
	bool failed = outcome != OUTCOME_SUCCESS;
	if (outcome == OUTCOME_RELEASED)
		return false;
	switch (c) {
	case EVENT_SUCCESS:
		return !failed;
	case EVENT_FAILURE:
		return failed;
	case EVENT_RETRYABLE_FAILURE:
		return failed && !final;
	case EVENT_PERMANENT_FAILURE:
		return failed && final;
	case EVENT_ALWAYS:
		break;
	}
	return true;
}

/* What is wrong ---------------------------------------------------------------------------------------------------- */

struct complaints { /* JSON list */
	struct buf list;
	unsigned n;
};

static void put_text(struct buf *out, const char *s)
{
	struct buf mp;
	struct mp_value v;
	buf_init(&mp, 0);
	mp_str(&mp, s);
	if (!mp.failed && mp_decode(mp.data, mp.len, &v) == 0) {
		if (mp_to_json(&v.root, NULL, out, NULL) < 0)
			buf_append_str(out, "\"\"");
		mp_value_done(&v);
	}
	buf_done(&mp);
}

static void complain(struct complaints *c, const char *name, const char *message)
{
	if (c->n++ >= ERRORS_MAX)
		return;
	buf_append_str(&c->list, c->n > 1 ? ",{\"name\":" : "{\"name\":");
	put_text(&c->list, name);
	buf_append_str(&c->list, ",\"message\":");
	put_text(&c->list, message);
	buf_append_char(&c->list, '}');
}

/* Add them to the metadata, which may be any JSON value, or none. */
static int note_complaints(struct text *meta, struct complaints *c)
{
	struct buf out;
	buf_init(&out, 0);
	bool object = meta->s && meta->s[0] == '{';
	if (object) {
		buf_append(&out, meta->s, meta->n - 1);
		buf_append_str(&out, meta->n > 2 ? "," : "");
	} else {
		buf_append_char(&out, '{');
	}
	if (meta->s && !object)
		buf_printf(&out, "\"metadata\":%s,", meta->s);
	buf_append_str(&out, "\"event_errors\":[");
	buf_join(&out, &c->list);
	buf_append_str(&out, "]}");
	if (!c->list.failed && buf_text(&out))
		text_set(meta, buf_text(&out), out.len);
	int failed = c->list.failed ? c->list.failed : out.failed;
	buf_done(&out);
	return failed;
}

/* What is known ---------------------------------------------------------------------------------------------------- */

static const struct event_word *word_for(const struct req_result *q, const char *name)
{
	for (size_t i = 0; i < q->n_words; i++)
		if (strcmp(q->words[i].name, name) == 0)
			return &q->words[i];
	return NULL;
}

static bool is_declared(const struct declared_events *d, const char *name)
{
	for (size_t i = 0; i < d->n; i++)
		if (strcmp(d->list[i].name, name) == 0)
			return true;
	return false;
}

static void put_words(struct buf *out, const struct req_result *q)
{
	buf_append_str(out, ",\"said\":[");
	for (size_t i = 0; i < q->n_words; i++) {
		const struct event_word *w = &q->words[i];
		buf_append_str(out, i > 0 ? ",{\"name\":" : "{\"name\":");
		put_text(out, w->name);
		if (w->skip)
			buf_append_str(out, ",\"skip\":true");
		if (w->payload.s) {
			buf_append_str(out, ",\"payload\":");
			buf_append(out, w->payload.s, w->payload.n);
		}
		if (w->metadata.s) {
			buf_append_str(out, ",\"metadata\":");
			buf_append(out, w->metadata.s, w->metadata.n);
		}
		buf_append_char(out, '}');
	}
	buf_append_char(out, ']');
}

/* False with the reason if the payload is not what the declaration's schema allows. */
static bool payload_fits(const struct declared_event *ev, const struct text *payload, char *why, size_t size)
{
	struct violations v = {0};
	const char *json = payload->s ? payload->s : "null";
	int rc = ev->schema ? schema_validate(ev->schema, json, payload->s ? payload->n : 4, &v) : 0;
	if (rc > 0 && v.n > 0)
		snprintf(why, size, "payload%.60s %.180s%s", v.items[0].instance, v.items[0].message,
		         v.total > 1 ? " (and more)" : "");
	else
		snprintf(why, size,
		         rc > 0 ? "the payload takes too much work to check"
		                : "the payload cannot be checked: out of memory, or nested too deeply");
	utf8_scrub(why);
	violations_done(&v);
	return rc == 0;
}

/* The numbers of declarations that fire, but not with this payload. */
static void put_refused(struct buf *out, const struct declared_events *d, const struct req_result *q, bool final,
                        struct complaints *c)
{
	const struct text *standard = q->outcome == OUTCOME_SUCCESS ? &q->result : &q->error;
	unsigned n = 0;
	buf_append_str(out, ",\"refused\":[");
	for (size_t i = 0; i < d->n; i++) {
		char why[320];
		const struct event_word *w = word_for(q, d->list[i].name);
		if (!event_fires(d->list[i].condition, q->outcome, final))
			continue;
		if (w && w->failed)
			complain(c, w->name, w->failed);
		if (w && w->skip)
			continue;
		if (payload_fits(&d->list[i], w && w->payload.s ? &w->payload : standard, why, sizeof why))
			continue;
		buf_printf(out, n++ > 0 ? ",%zu" : "%zu", i);
		complain(c, d->list[i].name, why);
	}
	buf_append_char(out, ']');
}

int fire_prepare(const struct declared_events *d, struct req_result *q, bool final)
{
	struct complaints c = {.n = 0};
	struct buf out;
	if (q->known.s)
		return 0;
	buf_init(&c.list, 0);
	buf_init(&out, 0);
	buf_append_str(&out, q->outcome == OUTCOME_SUCCESS ? "{\"ok\":true" : "{\"ok\":false");
	if (q->words_wrong[0])
		complain(&c, "", q->words_wrong);
	for (size_t i = 0; i < q->n_words; i++)
		if (!is_declared(d, q->words[i].name))
			complain(&c, q->words[i].name, "the step declares no event of this name");
	if (q->n_words > 0)
		put_words(&out, q);
	put_refused(&out, d, q, final, &c);
	buf_append_char(&out, '}');
	int rc = c.n > 0 ? note_complaints(&q->meta, &c) : 0;
	if (rc == 0 && buf_text(&out))
		text_set(&q->known, buf_text(&out), out.len);
	buf_done(&c.list);
	buf_done(&out);
	return rc < 0 || !q->known.s ? -ENOMEM : (int)c.n;
}

/* Fast domain events: sessions subscribe to patterns of names; what is published, here or on another node, is pushed to
 * those it fits. A session that does not read loses events rather than hold up the daemon or fill its memory, and is
 * told how many. */
#include "daemon/server/subscribe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include "daemon/base/err.h"
#include "daemon/config/access.h"
#include "daemon/core/pattern.h"
#include "daemon/server/admit.h"
#include "daemon/server/bounds.h"
#include "daemon/server/consume.h"
#include "daemon/server/reply.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/store/request.h"
#include "protocol/buf.h"
#include "protocol/mp.h"
#include "protocol/msg.h"
#include "protocol/scan.h"

#define MESSAGE_OVERHEAD 64u /* of an event.message frame, in bytes or items, around its first event */

struct subscription {
	char *pattern;
	size_t len;
	char **namespaces; /* NULL: all */
	size_t n_namespaces;
};

/* What a session has subscribed to, and what of it is not yet sent. */
struct subscriber {
	LIST_ENTRY(subscriber) link;
	struct session *session;
	struct subscription *list;
	size_t n;
	struct buf events; /* gathered until the flush */
	unsigned n_events;
	size_t items;
	uint64_t lost; /* since the last message */
};

static void subscription_done(struct subscription *u)
{
	for (size_t i = 0; i < u->n_namespaces; i++)
		free(u->namespaces[i]);
	free(u->namespaces);
	free(u->pattern);
	*u = (struct subscription){0};
}

void subscriber_free(struct session *s)
{
	struct subscriber *b = s->subscriber;
	if (!b)
		return;
	for (size_t i = 0; i < b->n; i++)
		subscription_done(&b->list[i]);
	LIST_REMOVE(b, link);
	s->srv->n_subscribers--;
	buf_done(&b->events);
	free(b->list);
	free(b);
	s->subscriber = NULL;
}

const struct buf *subscriber_unsent(const struct session *s)
{
	return s->subscriber ? &s->subscriber->events : NULL;
}

bool subscriber_lost(const struct session *s)
{
	return s->subscriber && s->subscriber->lost > 0;
}

/* Subscribing ------------------------------------------------------------------------------------------------------ */

int check_event_patterns(const msgpack_object *patterns, struct err *e)
{
	for (uint32_t i = 0; patterns && i < patterns->via.array.size; i++) {
		const msgpack_object_str *p = &patterns->via.array.ptr[i].via.str;
		if (pattern_valid(p->ptr, p->size))
			continue;
		err_set(e, -EINVAL, "bad_request",
		        "patterns[%u] must be a string of 1 to %u bytes without control characters", i, PATTERN_MAX);
		snprintf(e->path, sizeof e->path, "patterns[%u]", i);
		return -EINVAL;
	}
	return 0;
}

static int check_namespaces(struct session *s, const msgpack_object *names, struct err *e)
{
	for (uint32_t i = 0; names && i < names->via.array.size; i++) {
		uint32_t n = names->via.array.ptr[i].via.str.size;
		bool star = mp_str_eq(&names->via.array.ptr[i], "*");
		if (n >= 1 && n <= 29 && !star &&
		    admit_namespace(s, MSG_EVENT_SUBSCRIBE, names->via.array.ptr[i].via.str.ptr, n, e) < 0)
			return -EACCES;
		if (n >= 1 && n <= 29)
			continue;
		err_set(e, -EINVAL, "bad_request", "namespaces[%u] must be the name of a namespace, or *", i);
		snprintf(e->path, sizeof e->path, "namespaces[%u]", i);
		return -EINVAL;
	}
	return 0;
}

static struct subscription *subscription_find(struct subscriber *b, const msgpack_object_str *pattern)
{
	for (size_t i = 0; b && i < b->n; i++)
		if (b->list[i].len == pattern->size && memcmp(b->list[i].pattern, pattern->ptr, pattern->size) == 0)
			return &b->list[i];
	return NULL;
}

static struct subscriber *subscriber_get(struct session *s)
{
	struct subscriber *b = s->subscriber;
	if (b || !(b = calloc(1, sizeof *b)))
		return b;
	b->list = calloc(PATTERNS_MAX, sizeof *b->list);
	if (!b->list) {
		free(b);
		return NULL;
	}
	b->session = s;
	buf_init(&b->events, 0);
	LIST_INSERT_HEAD(&s->srv->subscribers, b, link);
	s->srv->n_subscribers++;
	return s->subscriber = b;
}

static bool all_namespaces(const msgpack_object *names)
{
	for (uint32_t i = 0; names && i < names->via.array.size; i++)
		if (mp_str_eq(&names->via.array.ptr[i], "*"))
			return true;
	return !names || names->via.array.size == 0;
}

static int subscription_set(struct subscription *u, const msgpack_object_str *pattern, const msgpack_object *names)
{
	u->pattern = mp_str_copy(pattern->ptr, pattern->size);
	u->len = pattern->size;
	if (!all_namespaces(names)) {
		u->namespaces = calloc(names->via.array.size, sizeof *u->namespaces);
		for (uint32_t i = 0; u->namespaces && i < names->via.array.size; i++) {
			const msgpack_object_str *n = &names->via.array.ptr[i].via.str;
			if (!(u->namespaces[u->n_namespaces] = mp_str_copy(n->ptr, n->size)))
				return -ENOMEM;
			u->n_namespaces++;
		}
		if (!u->namespaces)
			return -ENOMEM;
	}
	return u->pattern ? 0 : -ENOMEM;
}

/* A pattern that is there gets new namespaces. */
static int subscribe_one(struct subscriber *b, const msgpack_object_str *pattern, const msgpack_object *names)
{
	struct subscription fresh = {0}, *u = subscription_find(b, pattern);
	int rc = u || b->n < PATTERNS_MAX ? subscription_set(&fresh, pattern, names) : -E2BIG;
	if (rc < 0) {
		subscription_done(&fresh);
		return rc;
	}
	if (u)
		subscription_done(u);
	else
		u = &b->list[b->n++];
	*u = fresh;
	return 0;
}

static void reply_patterns(struct session *s, uint32_t id)
{
	size_t n = s->subscriber ? s->subscriber->n : 0;
	size_t mark = reply_begin(s, id);
	mp_map(&s->wire.out, 1);
	mp_str(&s->wire.out, "patterns");
	mp_array(&s->wire.out, n);
	for (size_t i = 0; i < n; i++)
		mp_strn(&s->wire.out, s->subscriber->list[i].pattern, s->subscriber->list[i].len);
	reply_end(s, mark);
}

void on_event_subscribe(struct session *s, uint32_t id, const msgpack_object *params)
{
	struct err e = {0};
	const msgpack_object *patterns = mp_get(params, "patterns"), *names = mp_get(params, "namespaces");
	int rc = check_event_patterns(patterns, &e);
	if (rc == 0)
		rc = check_namespaces(s, names, &e);
	if (rc < 0) {
		reply_error(s, id, &e);
		return;
	}
	struct subscriber *b = subscriber_get(s);
	rc = b ? 0 : -ENOMEM;
	for (uint32_t i = 0; rc == 0 && i < patterns->via.array.size; i++)
		rc = subscribe_one(b, &patterns->via.array.ptr[i].via.str, names);
	if (rc == -E2BIG)
		reply_errorf(s, id, "overloaded", "patterns", "at most %u patterns on a session", PATTERNS_MAX);
	else if (rc < 0)
		reply_errorf(s, id, "overloaded", NULL, "out of memory");
	else
		reply_patterns(s, id);
}

void on_event_unsubscribe(struct session *s, uint32_t id, const msgpack_object *params)
{
	const msgpack_object *patterns = mp_get(params, "patterns");
	struct subscriber *b = s->subscriber;
	for (uint32_t i = 0; patterns && i < patterns->via.array.size; i++)
		if (!subscription_find(b, &patterns->via.array.ptr[i].via.str)) {
			char path[32];
			snprintf(path, sizeof path, "patterns[%u]", i);
			reply_errorf(s, id, "not_found", path, "the session has no such pattern");
			return;
		}
	for (uint32_t i = 0; patterns && i < patterns->via.array.size; i++) {
		struct subscription *u = subscription_find(b, &patterns->via.array.ptr[i].via.str);
		if (!u)
			continue; /* named twice */
		subscription_done(u);
		*u = b->list[--b->n];
	}
	if (!patterns || (b && b->n == 0)) {
		events_gather(s);
		subscriber_free(s);
	}
	reply_patterns(s, id);
}

/* Pushing ---------------------------------------------------------------------------------------------------------- */

static bool in_namespace(const struct subscription *u, const msgpack_object *ns)
{
	for (size_t i = 0; i < u->n_namespaces; i++)
		if (mp_str_eq(ns, u->namespaces[i]))
			return true;
	return u->n_namespaces == 0;
}

static bool wants(const struct subscriber *b, const msgpack_object_str *name, const msgpack_object *ns)
{
	if (!access_allows(&b->session->who.access, msg_infos[MSG_EVENT_SUBSCRIBE].role, ns->via.str.ptr,
	                   ns->via.str.size))
		return false;
	for (size_t i = 0; i < b->n; i++)
		if (in_namespace(&b->list[i], ns) &&
		    pattern_fits(b->list[i].pattern, b->list[i].len, name->ptr, name->size))
			return true;
	return false;
}

static bool has_room(const struct subscriber *b, const struct fired *f, size_t items)
{
	const struct session *s = b->session;
	size_t unread = s->wire.out.len - s->wire.out_off + b->events.len,
	       share = EVENTS_UNREAD_ALL / s->srv->n_subscribers;
	if (unread > 0 && unread + f->body.len > (share < EVENTS_UNREAD_MAX ? share : EVENTS_UNREAD_MAX))
		return false;
	return f->body.len + MESSAGE_OVERHEAD <= s->srv->opt->max_frame && items + MESSAGE_OVERHEAD <= ITEMS_MAX;
}

static void push(struct subscriber *b, const struct fired *f, size_t items)
{
	struct session *s = b->session;
	session_mark_dirty(s);
	if (!has_room(b, f, items)) {
		b->lost++;
		s->srv->c_events_lost++;
		return;
	}
	if (b->n_events > 0 && (b->events.len + f->body.len + MESSAGE_OVERHEAD > s->srv->opt->max_frame ||
	                        b->items + items + MESSAGE_OVERHEAD > ITEMS_MAX))
		events_gather(s);
	buf_join(&b->events, &f->body);
	b->n_events++;
	b->items += items;
	s->srv->c_events_pushed++;
}

static void push_to_all(struct server *srv, const struct fired *f)
{
	struct subscriber *b;
	struct mp_value v;
	if (LIST_EMPTY(&srv->subscribers) || mp_decode(f->body.data, f->body.len, &v) < 0)
		return;
	const msgpack_object *metadata = NULL, *name = NULL, *ns = NULL;
	if (v.root.type == MSGPACK_OBJECT_MAP && mp_get_map(&v.root, "metadata", &metadata) == 1) {
		name = mp_get(&v.root, "event_name");
		ns = mp_get(metadata, "namespace");
	}
	size_t items = f->body.len < ITEMS_EXACT_FROM ? f->body.len : scan_count(f->body.data, f->body.len);
	if (name && name->type == MSGPACK_OBJECT_STR && ns && ns->type == MSGPACK_OBJECT_STR)
		LIST_FOREACH(b, &srv->subscribers, link)
			if (b->session->state == SESSION_OPEN && !b->session->wire.closing &&
			    wants(b, &name->via.str, ns))
				push(b, f, items);
	mp_value_done(&v);
}

void events_fired(struct server *srv, struct fired *list)
{
	for (struct fired *f = list; f; f = f->next)
		if (f->body.len > 0)
			push_to_all(srv, f);
		else
			consumers_hint(srv, f->ns, f->n);
}

void events_gather(struct session *s)
{
	struct subscriber *b = s->subscriber;
	if (!b || (b->n_events == 0 && (b->lost == 0 || s->wire.out.len > s->wire.out_off)))
		return;
	if (b->events.failed)
		s->wire.out.failed = b->events.failed; /* the session ends for want of memory */
	size_t mark = notify_begin(s, "event.message");
	mp_map(&s->wire.out, 2);
	mp_str(&s->wire.out, "events");
	mp_array(&s->wire.out, b->n_events);
	buf_join(&s->wire.out, &b->events);
	mp_str(&s->wire.out, "lost");
	mp_uint(&s->wire.out, b->lost);
	notify_end(s, mark);
	buf_reset(&b->events);
	if (b->events.cap > (1u << 20))
		buf_done(&b->events);
	b->n_events = 0;
	b->items = 0;
	b->lost = 0;
}

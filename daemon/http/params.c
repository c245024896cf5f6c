/* From a request to the parameters of its message: variables of the path, the query, two headers, the members of the
 * body. Text becomes what the message's table says; what the table does not know is refused by name. The message checks
 * the rest, as it does for everybody. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <event2/keyvalq_struct.h>
#include <event2/buffer.h>
#include "daemon/http/exchange.h"
#include "daemon/http/stream_mark.h"
#include "daemon/server/params.h"
#include "protocol/mpjson.h"
#include "protocol/scan.h"
#include "protocol/utf8.h"

#define ITEMS_MAX 262144u
#define DEPTH_MAX 30u

struct collector {
	struct exchange *x;
	const struct param *spec;
	struct buf *out; /* keys and values */
	size_t n;
	bool given[PARAMS_MAX];
	bool no_defaults; /* a word is in the query that stands against them */
	struct err *e;
};

static int refuse(struct err *e, const char *path, const char *fmt, ...) printf_like(3, 4);
static int refuse(struct err *e, const char *path, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	err_vset(e, -EINVAL, "bad_request", fmt, ap);
	va_end(ap);
	snprintf(e->path, sizeof e->path, "%s", path);
	return -EINVAL;
}

static int spec_index(const struct param *spec, const char *name, size_t len)
{
	for (int i = 0; i < (int)PARAMS_MAX && spec[i].name; i++)
		if (strlen(spec[i].name) == len && memcmp(spec[i].name, name, len) == 0)
			return i;
	return -ENOENT;
}

static bool is_word(const char *words, const char *name, size_t len)
{
	for (size_t n; words && *words; words += n + (words[n] == ',')) {
		n = strcspn(words, ",");
		if (n == len && memcmp(words, name, n) == 0)
			return true;
	}
	return false;
}

static const char *translated(const struct route *r, const char *name, size_t *len)
{
	for (const struct alias *a = r->aliases; a && a->from; a++)
		if (strlen(a->from) == *len && memcmp(a->from, name, *len) == 0) {
			*len = strlen(a->to);
			return a->to;
		}
	return name;
}

static void list_names(const struct collector *c, bool query, char *text, size_t size)
{
	text[0] = '\0';
	for (int i = 0; c->spec[i].name; i++)
		if (!query || (c->spec[i].type != P_MAP && c->spec[i].type != P_ARRAY && c->spec[i].type != P_ANY))
			snprintf(text + strlen(text), size - strlen(text), "%s%s", text[0] ? ", " : "",
			         c->spec[i].name);
}

/* Which parameter that is. Negative with the error: none, or it was given before. */
static int take(struct collector *c, const char *name, size_t len, bool query)
{
	char names[300];
	size_t n = len;
	const char *known = translated(c->x->route, name, &n);
	c->no_defaults |= query && is_word(c->x->route->unless, name, len);
	int i = spec_index(c->spec, known, n);
	c->e->path[0] = '\0';
	if (i < 0) {
		list_names(c, query, names, sizeof names);
		err_set(c->e, i, "bad_request", "no such %s: \"%.*s\"%s%s", query ? "parameter" : "member of the body",
		        (int)utf8_prefix(name, len, 64), name, names[0] ? "; there are " : "; there are none", names);
	} else if (c->given[i]) {
		i = err_set(c->e, -EINVAL, "bad_request", "%s is given twice", c->spec[i].name);
	} else {
		c->given[i] = true;
		c->n++;
		mp_str(c->out, c->spec[i].name);
		return i;
	}
	utf8_copy(c->e->path, sizeof c->e->path, name, len);
	utf8_scrub(c->e->path); /* of a query */
	return -EINVAL;
}

/* Text ------------------------------------------------------------------------------------------------------------- */

static int put_int(const char *text, size_t len, const char *name, struct buf *out, struct err *e)
{
	char word[24], *end;
	if (len == 0 || len >= sizeof word || !(text[0] == '-' || (text[0] >= '0' && text[0] <= '9')))
		return refuse(e, name, "%s must be an integer", name);
	memcpy(word, text, len);
	word[len] = '\0';
	errno = 0;
	long long v = strtoll(word, &end, 10);
	if (*end || errno)
		return refuse(e, name, "%s must be an integer", name);
	mp_int(out, v);
	return 0;
}

/* "a,b,c" */
static int put_list(const char *text, const struct param *p, struct buf *out, struct err *e)
{
	size_t mark = mp_array_open(out), n = 0;
	int rc = 0;
	for (; rc == 0 && *text; n++) {
		size_t len = strcspn(text, ",");
		if (p->type == P_INTS)
			rc = put_int(text, len, p->name, out, e);
		else
			mp_strn(out, text, len);
		text += len + (text[len] == ',');
	}
	mp_array_close(out, mark, n);
	return rc;
}

static int put_value(const struct param *p, const char *text, struct buf *out, struct err *e)
{
	if (utf8_span(text, strlen(text)) != strlen(text))
		return refuse(e, p->name, "%s is not UTF-8", p->name);
	switch (p->type) {
	case P_STR:
	case P_UUID:
	case P_TIME:
	case P_MOMENT:
		mp_str(out, text);
		return 0;
	case P_INT:
		return put_int(text, strlen(text), p->name, out, e);
	case P_BOOL:
		if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
			return refuse(e, p->name, "%s must be true or false", p->name);
		mp_bool(out, text[0] == 't');
		return 0;
	case P_STRS:
	case P_TAGS:
	case P_INTS:
		return put_list(text, p, out, e);
	case P_MAP:
	case P_ARRAY:
	case P_ANY:
		break;
	}
	return refuse(e, p->name, "%s is expected in the body", p->name);
}

static int put_named(struct collector *c, const char *name, size_t len, const char *text)
{
	int i = take(c, name, len, true);
	return i < 0 ? i : put_value(&c->spec[i], text, c->out, c->e);
}

/* Where they come from --------------------------------------------------------------------------------------------- */

static int from_path(struct collector *c)
{
	const struct route_match *m = &c->x->match;
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < m->n; i++)
		rc = put_named(c, m->var[i].name, m->var[i].name_len, m->var[i].value);
	return rc;
}

/* evhttp takes a percent sign without its digits for itself, and ends a text at an encoded NUL. */
static int check_escapes(struct collector *c, const char *query)
{
	for (const char *p = strchr(query, '%'); p; p = strchr(p + 1, '%')) {
		if (!isxdigit((unsigned char)p[1]) || !isxdigit((unsigned char)p[2]))
			return refuse(
				c->e, "",
				"the query has a %% without two hexadecimal digits behind it (%%25 is the sign itself)");
		if (p[1] == '0' && p[2] == '0')
			return refuse(c->e, "", "the query must be without U+0000 (%%00)");
	}
	return 0;
}

static int from_query(struct collector *c)
{
	const char *query = evhttp_uri_get_query(evhttp_request_get_evhttp_uri(c->x->req));
	struct evkeyvalq pairs = {0};
	const struct evkeyval *kv;
	int rc = 0;
	if (!query || !query[0])
		return 0;
	if ((rc = check_escapes(c, query)) < 0)
		return rc;
	if (evhttp_parse_query_str(query, &pairs) < 0)
		return refuse(c->e, "", "the query is not a list of name=value, separated by &");
	TAILQ_FOREACH(kv, &pairs, next)
		if (rc == 0)
			rc = put_named(c, kv->key, strlen(kv->key), kv->value);
	evhttp_clear_headers(&pairs);
	return rc;
}

/* Of a trace what does not fit is as if it were not there, says W3C: no request fails for it. */
static bool fits(const struct param *p, const char *v)
{
	size_t n = strlen(v);
	return n >= (size_t)p->min && n <= (size_t)p->max;
}

static int from_headers(struct collector *c)
{
	static const struct alias headers[] = {{"Idempotency-Key", "idempotency_key"},
	                                       {"traceparent", "traceparent"},
	                                       {"tracestate", "tracestate"}};
	int rc = 0;
	for (size_t h = 0; rc == 0 && h < sizeof headers / sizeof *headers; h++) {
		const char *v = evhttp_find_header(evhttp_request_get_input_headers(c->x->req), headers[h].from);
		int i = spec_index(c->spec, headers[h].to, strlen(headers[h].to));
		if (v && i >= 0 && !c->given[i] && (h == 0 || fits(&c->spec[i], v))) /* the body is nearer */
			rc = put_named(c, headers[h].to, strlen(headers[h].to), v);
	}
	return rc;
}

static int from_map(struct collector *c, const msgpack_object *map, const char *prefix)
{
	int rc = 0;
	for (uint32_t i = 0; rc >= 0 && i < map->via.map.size; i++) {
		const msgpack_object_kv *kv = &map->via.map.ptr[i];
		char name[128];
		int n = snprintf(name, sizeof name, "%s%s%.*s", prefix, prefix[0] ? "." : "",
		                 (int)utf8_prefix(kv->key.via.str.ptr, kv->key.via.str.size, 64), kv->key.via.str.ptr);
		const struct alias *a = c->x->route->aliases;
		if (kv->val.type == MSGPACK_OBJECT_NIL)
			continue;
		while (a && a->from &&
		       !(kv->val.type == MSGPACK_OBJECT_MAP && strncmp(a->from, name, (size_t)n) == 0 &&
		         a->from[n] == '.'))
			a++;
		if (a && a->from) {
			rc = from_map(c, &kv->val, name);
			continue;
		}
		rc = take(c, name, (size_t)n, false);
		if (rc >= 0)
			mp_object(c->out, &kv->val);
	}
	return rc < 0 ? rc : 0;
}

/* The body --------------------------------------------------------------------------------------------------------- */

static bool is_media(const struct exchange *x, const char *const *types)
{
	const char *t = evhttp_find_header(evhttp_request_get_input_headers(x->req), "Content-Type");
	size_t n = t ? strcspn(t, "; ") : 0;
	for (; t && *types; types++)
		if (strlen(*types) == n && evutil_ascii_strncasecmp(t, *types, n) == 0)
			return true;
	return false;
}

static int from_source(struct collector *c, const char *body, size_t len)
{
	int i = take(c, "source", 6, false);
	if (i < 0)
		return i;
	if (utf8_span(body, len) != len)
		return refuse(c->e, "source", "the body is not UTF-8");
	mp_strn(c->out, body, len);
	return 0;
}

static int from_json(struct collector *c, const char *body, size_t len)
{
	struct mpjson_error je = {0};
	struct scan_limits limits = {ITEMS_MAX, DEPTH_MAX};
	struct scan_error why;
	struct mp_value v;
	struct buf b;
	buf_init(&b, 0);
	int rc = json_to_mp(body, len, &b, &je);
	if (rc < 0)
		rc = refuse(c->e, "", "the body is not JSON: %s", je.what); /* it says where, if that is known */
	else if (scan_value(b.data, b.len, &limits, &why) < 0)
		rc = refuse(c->e, "", "the body cannot be taken: %s", why.what);
	else if (mp_decode(b.data, b.len, &v) < 0)
		rc = err_set(c->e, -ENOMEM, "overloaded", "out of memory");
	if (rc == 0) {
		rc = v.root.type == MSGPACK_OBJECT_MAP ? from_map(c, &v.root, "")
		                                       : refuse(c->e, "", "the body must be a JSON object");
		mp_value_done(&v);
	}
	buf_done(&b);
	return rc;
}

static int wrong_media(struct err *e, bool yaml)
{
	err_set(e, -EINVAL, "bad_request", "the body must be application/json%s, and the header Content-Type say so",
	        yaml ? " or application/yaml" : "");
	snprintf(e->path, sizeof e->path, "Content-Type");
	return -EINVAL;
}

static int from_body(struct collector *c)
{
	static const char *const json[] = {"application/json", NULL}, *const yaml[] = {"application/yaml",
	                                                                               "application/x-yaml",
	                                                                               "text/yaml", NULL};
	struct evbuffer *in = evhttp_request_get_input_buffer(c->x->req);
	size_t len = evbuffer_get_length(in);
	unsigned flags = c->x->route->flags;
	if (len == 0)
		return 0;
	if (!(flags & ROUTE_BODY))
		return refuse(c->e, "", "a body is not expected here");
	bool source = flags & ROUTE_SOURCE && is_media(c->x, yaml);
	if (!source && !is_media(c->x, json))
		return wrong_media(c->e, flags & ROUTE_SOURCE);
	const char *body = (const char *)evbuffer_pullup(in, -1);
	if (!body)
		return err_set(c->e, -ENOMEM, "overloaded", "out of memory");
	return source ? from_source(c, body, len) : from_json(c, body, len);
}

/* Parameters that a row has as JSON. `weak`: only those that are not given. */
static int from_row(struct collector *c, const char *json, bool weak)
{
	struct mp_value v;
	struct buf b;
	int rc = 0;
	if (!json)
		return 0;
	buf_init(&b, 0);
	if (json_to_mp(json, strlen(json), &b, NULL) < 0 || mp_decode(b.data, b.len, &v) < 0) {
		rc = err_set(c->e, -ENOMEM, "overloaded", "out of memory");
	} else {
		for (uint32_t i = 0; weak && i < v.root.via.map.size; i++) {
			int at = spec_index(c->spec, v.root.via.map.ptr[i].key.via.str.ptr,
			                    v.root.via.map.ptr[i].key.via.str.size);
			if (at >= 0 && c->given[at])
				v.root.via.map.ptr[i].val.type = MSGPACK_OBJECT_NIL;
		}
		rc = from_map(c, &v.root, "");
		mp_value_done(&v);
	}
	buf_done(&b);
	return rc;
}

int exchange_params(struct exchange *x, struct buf *out, struct err *e)
{
	struct collector c = {.x = x, .spec = message_params(x->route->msg), .out = out, .e = e};
	size_t mark = mp_map_open(out);
	int rc;
	if ((rc = from_row(&c, x->route->fixed, false)) < 0 || (rc = from_path(&c)) < 0 || (rc = from_query(&c)) < 0 ||
	    (rc = from_body(&c)) < 0 || (rc = from_headers(&c)) < 0 ||
	    (rc = c.no_defaults ? 0 : from_row(&c, x->route->defaults, true)) < 0)
		return rc;
	mp_map_close(out, mark, c.n);
	return out->failed ? err_set(e, -ENOMEM, "overloaded", "out of memory") : 0;
}

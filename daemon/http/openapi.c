/* The OpenAPI 3.1 document: derived from the routes, the parameters of the messages and schemas.json. */
#include <stdio.h>
#include <string.h>
#include "daemon/http/http.h"
#include "daemon/http/reply.h"
#include "daemon/http/schemas.h"
#include "daemon/server/params.h"

static bool is_var(const struct route *r, const struct param *p)
{
	char want[80];
	snprintf(want, sizeof want, "{%.70s}", p->name);
	return strstr(r->path, want) != NULL;
}

static bool is_fixed(const struct route *r, const struct param *p)
{
	char want[80];
	snprintf(want, sizeof want, "\"%.70s\":", p->name);
	return r->fixed && strstr(r->fixed, want);
}

static bool is_text(const struct param *p)
{
	return p->type != P_MAP && p->type != P_ARRAY && p->type != P_ANY;
}

/* Of a body a member may be null, which is as if it were not there. */
static void put_schema(struct buf *b, const struct param *p, bool nullable)
{
	static const struct {
		const char *type, *more;
	} types[] = {[P_STR] = {"string", ""},
	             [P_INT] = {"integer", ""},
	             [P_BOOL] = {"boolean", ""},
	             [P_UUID] = {"string", ",\"format\":\"uuid\""},
	             [P_MAP] = {"object", ""},
	             [P_ARRAY] = {"array", ""},
	             [P_STRS] = {"array", ",\"items\":{\"type\":\"string\"}"},
	             [P_TAGS] = {"array", ",\"items\":{\"type\":\"string\",\"maxLength\":256}"},
	             [P_INTS] = {"array", ",\"items\":{\"type\":\"integer\",\"minimum\":0}"},
	             [P_TIME] = {"string", ",\"format\":\"date-time\""},
	             [P_MOMENT] = {"string", ""},
	             [P_ANY] = {NULL, ""}};
	const char *type = types[p->type].type;
	const char *low = p->type == P_INT   ? "minimum"
	                  : p->type == P_STR ? "minLength"
	                                     : "minItems",
		   *high = p->type == P_INT   ? "maximum"
	                   : p->type == P_STR ? "maxLength"
	                                      : "maxItems";
	bool bounded = p->type == P_INT || p->type == P_STR || p->type == P_ARRAY || p->type == P_STRS ||
	               p->type == P_TAGS || p->type == P_INTS;
	buf_append_char(b, '{');
	if (type)
		buf_printf(b, nullable ? "\"type\":[\"%s\",\"null\"]" : "\"type\":\"%s\"", type);
	buf_append_str(b, types[p->type].more);
	if (bounded && (p->type == P_INT || p->min > 0))
		buf_printf(b, ",\"%s\":%lld", low, (long long)p->min);
	if (bounded && (p->type == P_INT || p->max > 0))
		buf_printf(b, ",\"%s\":%lld", high, (long long)p->max);
	buf_append_char(b, '}');
}

static void put_parameter(struct buf *b, const char **gap, const struct route *r, const struct param *p)
{
	bool var = is_var(r, p), list = p->type == P_STRS || p->type == P_INTS;
	if (is_fixed(r, p) || (!var && (r->flags & ROUTE_BODY || !is_text(p))))
		return;
	buf_printf(b, "%s{\"name\":\"%s\",\"in\":\"%s\"", *gap, p->name, var ? "path" : "query");
	if (var || p->required)
		buf_append_str(b, ",\"required\":true");
	if (list)
		buf_append_str(b, ",\"style\":\"form\",\"explode\":false");
	buf_append_str(b, ",\"schema\":");
	put_schema(b, p, false);
	buf_append_char(b, '}');
	*gap = ",";
}

static const struct param *param_named(const struct route *r, const char *name)
{
	const struct param *p = message_params(r->msg);
	while (p->name && strcmp(p->name, name) != 0)
		p++;
	return p->name ? p : NULL;
}

/* The other names that a query understands. */
static void put_aliases(struct buf *b, const char **gap, const struct route *r)
{
	for (const struct alias *a = r->flags & ROUTE_BODY ? NULL : r->aliases; a && a->from; a++) {
		const struct param *p = param_named(r, a->to);
		if (!p)
			continue;
		buf_printf(b,
		           "%s{\"name\":\"%s\",\"in\":\"query\",\"description\":\"the same as %s\",\"schema\":", *gap,
		           a->from, a->to);
		put_schema(b, p, false);
		buf_append_char(b, '}');
		*gap = ",";
	}
}

static void put_parameters(struct buf *b, const struct route *r)
{
	const char *gap = "";
	buf_append_str(b, ",\"parameters\":[");
	for (const struct param *p = r->fn ? NULL : message_params(r->msg); p && p->name; p++) {
		put_parameter(b, &gap, r, p);
		if (r->flags & ROUTE_BODY && strcmp(p->name, "idempotency_key") == 0) {
			buf_printf(
				b,
				"%s{\"name\":\"Idempotency-Key\",\"in\":\"header\",\"description\":\"the same as idempotency_key\",\"schema\":",
				gap);
			put_schema(b, p, false);
			buf_append_char(b, '}');
			gap = ",";
		}
	}
	if (!r->fn)
		put_aliases(b, &gap, r);
	if (r->then)
		buf_printf(
			b,
			"%s{\"name\":\"Prefer\",\"in\":\"header\",\"description\":\"return=minimal: what was done, without how it is now\",\"schema\":{\"type\":\"string\"}}",
			gap);
	if (r->then)
		gap = ",";
	if (r->flags & ROUTE_STREAM)
		buf_printf(b, "%s{\"name\":\"Last-Event-ID\",\"in\":\"header\",\"schema\":{\"type\":\"string\"}}", gap);
	buf_append_char(b, ']');
}

/* It may go by another name, so that it need not be there by this one. */
static bool is_alias(const struct route *r, const struct param *p)
{
	for (const struct alias *a = r->aliases; a && a->from; a++)
		if (strcmp(a->to, p->name) == 0)
			return true;
	return false;
}

/* The other names that a body understands; a dot reaches into an object, whose names stand together in the table. */
static void put_body_aliases(struct buf *b, const char **gap, const struct route *r)
{
	const char *open = "";
	size_t n = 0;
	for (const struct alias *a = r->aliases; a && a->from; a++) {
		const struct param *p = param_named(r, a->to);
		const char *dot = strchr(a->from, '.');
		size_t len = dot ? (size_t)(dot - a->from) : 0;
		bool same = dot && len == n && memcmp(open, a->from, len) == 0;
		if (n > 0 && !same)
			buf_append_str(b, "}}");
		if (dot && !same)
			buf_printf(
				b,
				"%s\"%.*s\":{\"type\":[\"object\",\"null\"],\"additionalProperties\":false,\"properties\":{",
				*gap, (int)len, a->from);
		buf_printf(b, "%s\"%s\":", dot && !same ? "" : *gap, dot ? dot + 1 : a->from);
		put_schema(b, p, true);
		*gap = ",";
		open = a->from;
		n = len;
	}
	if (n > 0)
		buf_append_str(b, "}}");
}

static void put_body(struct buf *b, const struct route *r)
{
	const char *gap = "";
	bool required = false;
	if (!(r->flags & ROUTE_BODY))
		return;
	buf_append_str(
		b,
		",\"requestBody\":{\"content\":{\"application/json\":{\"schema\":{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{");
	for (const struct param *p = message_params(r->msg); p->name; p++)
		if (!is_var(r, p) && !is_fixed(r, p)) {
			buf_printf(b, "%s\"%s\":", gap, p->name);
			put_schema(b, p, !p->required);
			gap = ",";
			required |= p->required;
		}
	put_body_aliases(b, &gap, r);
	buf_append_char(b, '}');
	gap = ",\"required\":[";
	for (const struct param *p = message_params(r->msg); p->name; p++)
		if (p->required && !is_var(r, p) && !is_fixed(r, p) && !is_alias(r, p)) {
			buf_printf(b, "%s\"%s\"", gap, p->name);
			gap = ",";
		}
	buf_append_str(b, required ? "]}}" : "}}");
	if (r->flags & ROUTE_SOURCE)
		buf_append_str(b, ",\"application/yaml\":{\"schema\":{}}");
	buf_printf(b, "},\"required\":%s}", required ? "true" : "false");
}

static void put_answer(struct buf *b, const char *gap, const char *status, const char *description,
                       const struct route *r)
{
	const char *media = r->flags & ROUTE_STREAM ? "text/event-stream"
	                    : r->flags & ROUTE_HTML ? "text/html"
	                    : r->flags & ROUTE_TEXT ? "text/plain"
	                                            : "application/json";
	buf_printf(
		b,
		"%s\"%s\":{\"description\":\"%s\",\"content\":{\"%s\":{\"schema\":{\"$ref\":\"#/components/schemas/%s\"}}}}",
		gap, status, description, media, r->answer);
}

static void put_responses(struct buf *b, const struct route *r)
{
	buf_append_str(b, ",\"responses\":{");
	put_answer(b, "", "200", "OK", r);
	if (r->flags & ROUTE_CREATES)
		put_answer(b, ",", "201", "created; the header Location says where", r);
	if (r->fn == on_ready || r->fn == on_detailed)
		put_answer(b, ",", "503", "not ready", r);
	if (r->flags & ROUTE_STREAM)
		buf_append_str(b, ",\"204\":{\"description\":\"the end was seen already\"}");
	if (r->verb == EVHTTP_REQ_GET && !(r->flags & (ROUTE_STREAM | ROUTE_TEXT | ROUTE_HTML)) && r->fn != on_health &&
	    r->fn != on_live && r->fn != on_ready && r->fn != on_detailed)
		buf_append_str(b, ",\"304\":{\"description\":\"as If-None-Match has it\"}");
	buf_append_str(
		b,
		",\"default\":{\"description\":\"a problem\",\"content\":{\"application/problem+json\":{\"schema\":{\"$ref\":\"#/components/schemas/Problem\"}}}}}");
}

static void put_operation(struct buf *b, const struct route *r)
{
	buf_append_str(b, "\"");
	for (const char *p = verb_name(r->verb); *p; p++)
		buf_append_char(b, (char)(*p | 0x20));
	buf_append_str(b, "\":{\"operationId\":\"");
	for (const char *p = verb_name(r->verb); *p; p++)
		buf_append_char(b, (char)(*p | 0x20));
	for (const char *p = r->path; *p; p++)
		if (*p != '{' && *p != '}')
			buf_append_char(b, *p == '/' || *p == '-' || *p == '.' ? '_' : *p);
	buf_printf(b, "\",\"tags\":[\"%s\"],\"summary\":\"%s\"", r->tag, r->summary);
	if (r->fn)
		buf_append_str(b, ",\"security\":[]");
	else
		buf_printf(b, ",\"x-message\":\"%s\",\"x-required-role\":\"%s\"", msg_infos[r->msg].name,
		           role_names[msg_infos[r->msg].role]);
	put_parameters(b, r);
	put_body(b, r);
	put_responses(b, r);
	buf_append_char(b, '}');
}

static void put_paths(struct buf *b)
{
	const char *path = "";
	for (size_t i = 0; i < route_count; i++) {
		const struct route *r = &routes[i];
		bool first = strcmp(path, r->path) != 0;
		if (first)
			buf_printf(b, "%s\"%s\":{", i ? "}," : "", r->path);
		else
			buf_append_char(b, ',');
		put_operation(b, r);
		path = r->path;
	}
	buf_append_char(b, '}');
}

static void build(struct buf *b)
{
	buf_printf(
		b,
		"{\"openapi\":\"3.1.0\",\"info\":{\"title\":\"taskerd\",\"version\":\"%s\",\"description\":\"Tasks, their steps and what moves them. Each operation is a message of the protocol (x-message), with the same parameters and answers.\"},",
		server_version());
	buf_append_str(b, "\"security\":[{},{\"bearer\":[]}],\"paths\":{");
	put_paths(b);
	buf_printf(
		b,
		"},\"components\":{\"securitySchemes\":{\"bearer\":{\"type\":\"http\",\"scheme\":\"bearer\",\"description\":\"over TCP; over a Unix socket the kernel says who asks\"}},\"schemas\":%s}}",
		http_schemas);
}

/* Nothing on the page comes from elsewhere. */
void on_api_docs(struct exchange *x)
{
	struct buf page;
	buf_init(&page, 0);
	buf_append_str(&page, http_api_docs);
	add_header(
		x, "Content-Security-Policy",
		"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'");
	add_header(x, "Cache-Control", "no-cache");
	reply_bytes(x, HTTP_OK, "text/html; charset=utf-8", &page);
}

void on_openapi(struct exchange *x)
{
	struct http *h = x->http;
	struct buf copy;
	if (h->openapi.len == 0)
		build(&h->openapi);
	buf_init(&copy, 0);
	buf_append(&copy, h->openapi.data, h->openapi.len);
	if (h->openapi.failed)
		copy.failed = h->openapi.failed;
	reply_json(x, HTTP_OK, &copy);
}

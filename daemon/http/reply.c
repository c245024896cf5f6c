/* Answers: JSON with a validator, and problems (RFC 9457). */
#include <errno.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "daemon/http/conns.h"
#include "daemon/http/reply.h"
#include "daemon/http/shape.h"
#include "daemon/server/front.h"
#include "protocol/mpjson.h"

#define ETAG_BYTES 16

static const struct {
	int status;
	const char *phrase;
} phrases[] = {{200, "OK"},
               {201, "Created"},
               {204, "No Content"},
               {304, "Not Modified"},
               {400, "Bad Request"},
               {401, "Unauthorized"},
               {403, "Forbidden"},
               {404, "Not Found"},
               {405, "Method Not Allowed"},
               {408, "Request Timeout"},
               {409, "Conflict"},
               {413, "Content Too Large"},
               {415, "Unsupported Media Type"},
               {417, "Expectation Failed"},
               {422, "Unprocessable Content"},
               {429, "Too Many Requests"},
               {431, "Request Header Fields Too Large"},
               {500, "Internal Server Error"},
               {501, "Not Implemented"},
               {503, "Service Unavailable"}};

const char *http_phrase_of(int status)
{
	for (size_t i = 0; i < sizeof phrases / sizeof *phrases; i++)
		if (phrases[i].status == status)
			return phrases[i].phrase;
	return "Error";
}

static const struct {
	const char *code;
	int status;
} statuses[] = {{"bad_request", 400},
                {"invalid_value", 400},
                {"too_large", 413},
                {"not_found", 404},
                {"template_not_found", 404},
                {"invalid_context", 422},
                {"invalid_template", 422},
                {"conflict", 409},
                {"permission_denied", 403},
                {"overloaded", 503},
                {"database_unavailable", 503},
                {"shutting_down", 503},
                {"unknown_method", 405},
                {"internal", 500}};

static int http_status_of(const char *code, size_t len)
{
	for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
		if (strlen(statuses[i].code) == len && memcmp(statuses[i].code, code, len) == 0)
			return statuses[i].status;
	return 500;
}

void add_header(struct exchange *x, const char *name, const char *value)
{
	if (x->req)
		evhttp_add_header(evhttp_request_get_output_headers(x->req), name, value);
}

/* Sending ---------------------------------------------------------------------------------------------------------- */

static void on_sent(struct evhttp_request *req, void *arg)
{
	(void)req;
	conn_busy(arg, false);
}

static void send_reply(struct exchange *x, int status, struct evbuffer *body)
{
	struct evhttp_request *req = x->req;
	struct evhttp_connection *evcon = evhttp_request_get_connection(req);
	log_debug("HTTP: %s %.200s: %d", verb_name(evhttp_request_get_command(req)), evhttp_request_get_uri(req),
	          status);
	if (x->conn)
		evhttp_request_set_on_complete_cb(req, on_sent, x->conn);
	if (x->http->draining)
		add_header(x, "Connection", "close");
	evhttp_connection_set_closecb(evcon, NULL, NULL);
	evhttp_send_reply(req, status, http_phrase_of(status), body);
	/* A client that has said all it will (half-closed) is answered all the same. */
	bufferevent_disable(evhttp_connection_get_bufferevent(evcon), EV_READ);
	x->req = NULL;
	x->answered = true;
}

static void free_bytes(const void *data, size_t len, void *arg)
{
	(void)data, (void)len;
	free(arg);
}

void reply_bytes(struct exchange *x, int status, const char *type, struct buf *body)
{
	struct evbuffer *out = x->req ? evbuffer_new() : NULL;
	if (out && body && !body->failed &&
	    evbuffer_add_reference(out, body->data, body->len, free_bytes, body->data) == 0) {
		*body = (struct buf){.max = body->max};
		add_header(x, "Content-Type", type);
		add_header(x, "X-Content-Type-Options", "nosniff");
	} else if (body) {
		status = HTTP_SERVUNAVAIL; /* no memory even for a problem */
	}
	if (x->req && x->conn)
		conn_answered(x->conn, x->session, out ? evbuffer_get_length(out) : 0);
	if (x->req)
		send_reply(x, status, out);
	if (out)
		evbuffer_free(out);
	if (body)
		buf_done(body);
	exchange_end(x);
}

void reply_empty(struct exchange *x, int status)
{
	reply_bytes(x, status, NULL, NULL);
}

/* True: the client has this answer already, and was told so. */
static bool unchanged(struct exchange *x, const struct buf *json)
{
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	char etag[ETAG_BYTES * 2 + 3] = "\"";
	const char *known = evhttp_find_header(evhttp_request_get_input_headers(x->req), "If-None-Match");
	if (!EVP_Digest(json->data, json->len, md, &n, EVP_sha256(), NULL))
		return false;
	for (size_t i = 0; i < ETAG_BYTES; i++)
		snprintf(etag + 1 + 2 * i, 3, "%02x", md[i]);
	etag[sizeof etag - 2] = '"';
	add_header(x, "ETag", etag);
	add_header(x, "Cache-Control", "no-cache");
	if (!known || !(strcmp(known, "*") == 0 || strstr(known, etag)))
		return false;
	reply_empty(x, HTTP_NOTMODIFIED);
	return true;
}

static bool is_get(const struct exchange *x)
{
	return x->req && evhttp_request_get_command(x->req) & (EVHTTP_REQ_GET | EVHTTP_REQ_HEAD);
}

/* What can be asked for again is not kept for a reader who leaves so much unread. True: it is answered so. */
static bool no_room(struct exchange *x, struct buf *body)
{
	struct err e = {0};
	if (!is_get(x) || !x->session || unread_fits(x->session, body->len, &e) == 0)
		return false;
	buf_done(body);
	reply_err(x, &e);
	return true;
}

void reply_json(struct exchange *x, int status, struct buf *json)
{
	bool get = is_get(x);
	if (status == HTTP_OK && no_room(x, json))
		return;
	if (get && status == HTTP_OK && !json->failed && unchanged(x, json)) {
		buf_done(json);
		return;
	}
	if (x->req && status != HTTP_OK && status != 201)
		add_header(x, "Cache-Control", "no-store");
	reply_bytes(x, status, status >= 400 && status != 503 ? "application/problem+json" : "application/json", json);
}

/* Problems --------------------------------------------------------------------------------------------------------- */

static void put_json(struct buf *json, const char *key, const msgpack_object *o)
{
	if (!o)
		return;
	buf_printf(json, ",\"%s\":", key);
	if (mp_to_json(o, "", json, NULL) < 0)
		buf_append_str(json, "null");
}

static void put_text(struct buf *json, const char *key, const char *text)
{
	msgpack_object o = {.type = MSGPACK_OBJECT_STR, .via.str = {(uint32_t)strlen(text), text}};
	put_json(json, key, &o);
}

static void put_detail(struct buf *json, int status, const msgpack_object *text)
{
	static const struct {
		int status;
		const char *code;
	} codes[] = {{401, "UNAUTHORIZED"},          {403, "FORBIDDEN"},          {404, "NOT_FOUND"},
	             {408, "REQUEST_TIMEOUT"},       {409, "CONFLICT"},           {429, "TOO_MANY_REQUESTS"},
	             {500, "INTERNAL_SERVER_ERROR"}, {503, "SERVICE_UNAVAILABLE"}};
	const char *code = "BAD_REQUEST";
	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
		if (codes[i].status == status)
			code = codes[i].code;
	put_json(json, "detail", text);
	buf_printf(json, ",\"error\":{\"code\":\"%s\"", code);
	put_json(json, "message", text);
	buf_append_char(json, '}');
}

void problem_put_detail(struct buf *json, int status, const char *text)
{
	msgpack_object o = {.type = MSGPACK_OBJECT_STR, .via.str = {(uint32_t)strlen(text), text}};
	put_detail(json, status, &o);
}

void problem_begin(struct buf *json, int status, const char *code, size_t n)
{
	buf_init(json, 0);
	buf_printf(json, "{\"type\":\"urn:taskerd:error:%.*s\",\"title\":\"%s\",\"status\":%d,\"code\":\"%.*s\"",
	           (int)n, code, http_phrase_of(status), status, (int)n, code);
}

static void begin_problem(struct exchange *x, struct buf *json, int status, const char *code, size_t n)
{
	problem_begin(json, status, code, n);
	if (status == 503 || status == 429) {
		add_header(x, "Retry-After", "1");
		buf_append_str(json, ",\"retry_after_seconds\":1");
	}
	if (status == 403)
		add_header(x, "X-Auth-Failure-Reason", "forbidden");
}

static void end_problem(struct exchange *x, struct buf *json, int status)
{
	buf_append_char(json, '}');
	add_header(x, "Cache-Control", "no-store");
	reply_bytes(x, status, "application/problem+json", json);
}

/* A quota of this user is his affair, not the daemon's. */
static int status_of_error(const msgpack_object *error, const char *code, size_t n)
{
	const msgpack_object *details = mp_get(error, "details"),
			     *limit = details && details->type == MSGPACK_OBJECT_MAP ? mp_get(details, "limit") : NULL;
	int status = http_status_of(code, n);
	return status == 503 && limit ? 429 : status;
}

void reply_problem(struct exchange *x, const msgpack_object *error)
{
	const char *code = "internal";
	size_t n = strlen(code);
	struct buf json;
	(void)!mp_get_str(error, "code", &code, &n);
	int status = status_of_error(error, code, n);
	begin_problem(x, &json, status, code, n);
	put_detail(&json, status, mp_get(error, "message"));
	put_json(&json, "path", mp_get(error, "path"));
	put_json(&json, "retry_after_ms", mp_get(error, "retry_after_ms"));
	put_json(&json, "details", mp_get(error, "details"));
	end_problem(x, &json, status);
}

void reply_refusal(struct exchange *x, int status, const char *code, const char *path, const char *fmt, ...)
{
	struct buf json;
	struct err e = {0};
	va_list ap;
	va_start(ap, fmt);
	err_vset(&e, 0, code, fmt, ap);
	va_end(ap);
	begin_problem(x, &json, status, code, strlen(code));
	problem_put_detail(&json, status, e.text);
	if (path && path[0])
		put_text(&json, "path", path);
	end_problem(x, &json, status);
}

void reply_err(struct exchange *x, const struct err *e)
{
	/* What came in the wrong type of media has a status of its own; so has a quota. */
	int status = strcmp(e->path, "Content-Type") == 0 ? 415
	             : e->limit                           ? 429
	                                                  : http_status_of(e->code, strlen(e->code));
	struct buf json;
	begin_problem(x, &json, status, e->code, strlen(e->code));
	problem_put_detail(&json, status, e->text);
	if (e->path[0])
		put_text(&json, "path", e->path);
	if (e->limit)
		buf_printf(&json, ",\"details\":{\"limit\":\"%s\",\"max\":%llu}", e->limit, (unsigned long long)e->max);
	end_problem(x, &json, status);
}

/* Results ---------------------------------------------------------------------------------------------------------- */

static void put_location(struct exchange *x, const msgpack_object *result)
{
	static const char *const paths[][4] = {{"/v1/tasks/", "task_uuid", NULL, NULL},
	                                       {"/v1/templates/", "namespace", "name", "version"}};
	const char *const *p = paths[x->route->msg == MSG_TEMPLATE_APPLY];
	struct buf b;
	buf_init(&b, 2048);
	buf_append_str(&b, p[0]);
	for (int i = 1; i < 4 && p[i]; i++) {
		const char *text = "";
		size_t n = 0;
		if (mp_get_str(result, p[i], &text, &n) == 1)
			/* of names and versions, which need no escape */
			buf_printf(&b, "%s%.*s", i > 1 ? "/" : "", (int)n, text);
	}
	if (buf_text(&b))
		add_header(x, "Location", buf_text(&b));
	buf_done(&b);
}

static void reply_text(struct exchange *x, const msgpack_object *result)
{
	const char *type, *text;
	size_t type_len, len;
	char media[128];
	struct buf body;
	if (mp_get_str(result, "content_type", &type, &type_len) != 1 || mp_get_str(result, "text", &text, &len) != 1) {
		reply_refusal(x, HTTP_INTERNAL, "internal", NULL, "the answer is not text");
		return;
	}
	snprintf(media, sizeof media, "%.*s", (int)(type_len < sizeof media ? type_len : 0), type);
	buf_init(&body, 0);
	buf_append(&body, text, len);
	if (no_room(x, &body))
		return;
	add_header(x, "Cache-Control", "no-store");
	reply_bytes(x, HTTP_OK, media, &body);
}

/* Where the next page of a list is. Of the query all stays but where this page began; cursors need no escape. */
static void put_next(struct exchange *x, const msgpack_object *result)
{
	static const char *const begins[] = {"cursor=", "offset="};
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(x->req);
	const char *cursor, *at = evhttp_uri_get_query(uri);
	size_t n;
	struct buf b;
	if (mp_get_str(result, "next_cursor", &cursor, &n) != 1)
		return;
	/* no URI has them, and the header would mean something else */
	if ((at && strpbrk(at, "<>\"")) || strpbrk(evhttp_uri_get_path(uri), "<>\""))
		return;
	buf_init(&b, 0);
	buf_printf(&b, "<%s?", evhttp_uri_get_path(uri));
	for (size_t len; at && *at; at += len + (at[len] == '&')) {
		len = strcspn(at, "&");
		if (strncmp(at, begins[0], 7) != 0 && strncmp(at, begins[1], 7) != 0)
			buf_printf(&b, "%.*s&", (int)len, at);
	}
	buf_printf(&b, "cursor=%.*s>; rel=\"next\"", (int)n, cursor);
	if (buf_text(&b))
		add_header(x, "Link", buf_text(&b));
	buf_done(&b);
}

/* The answer: what is picked of the result, in its shape. */
static int put_result(struct exchange *x, const msgpack_object *result, struct buf *json)
{
	const msgpack_object *what = x->route->pick ? mp_get(result, x->route->pick) : result;
	struct mp_value v;
	struct buf b;
	if (!what)
		return buf_append_str(json, "[]"), 0;
	if (!x->route->shape)
		return mp_to_json(what, "", json, NULL);
	buf_init(&b, 0);
	shape_put(x->route->shape, what, &b);
	int rc = b.failed ? -ENOMEM : mp_decode(b.data, b.len, &v);
	if (rc == 0) {
		rc = mp_to_json(&v.root, "", json, NULL);
		mp_value_done(&v);
	}
	buf_done(&b);
	if (rc == 0 && x->made.len > 0 && x->route->flags & ROUTE_CREATES) { /* it was asked how it is now */
		json->len--;
		buf_printf(json, ",\"created\":%s}", x->created ? "true" : "false");
	}
	return rc;
}

void reply_result(struct exchange *x, const msgpack_object *result)
{
	if (x->route->flags & ROUTE_TEXT) {
		reply_text(x, result);
		return;
	}
	struct buf json;
	buf_init(&json, 0);
	(void)!mp_get_bool(result, "created", &x->created);
	if (put_result(x, result, &json) < 0) {
		buf_done(&json);
		reply_refusal(x, HTTP_INTERNAL, "internal", NULL, "the answer is not JSON");
		return;
	}
	if (x->route->flags & ROUTE_CREATES)
		put_location(x, result);
	if (x->route->pick)
		put_next(x, result);
	reply_json(x, x->created && x->route->flags & ROUTE_CREATES ? 201 : HTTP_OK, &json);
}

bool reply_made(struct exchange *x)
{
	struct mp_value v;
	struct buf made = x->made;
	if (made.len == 0 || mp_decode(made.data, made.len, &v) < 0)
		return false;
	buf_init(&x->made, 0);
	reply_result(x, &v.root);
	mp_value_done(&v);
	buf_done(&made);
	return true;
}

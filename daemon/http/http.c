/* The life of a request: whose it is, which row of the table answers it, and its end. What it asks for is done by a
 * session without a socket, so that HTTP has no word of its own in anything. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/queue.h>
#include <event2/keyvalq_struct.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include "daemon/http/broken.h"
#include "daemon/http/conns.h"
#include "daemon/http/http.h"
#include "daemon/http/reply.h"
#include "daemon/http/stream.h"
#include "protocol/envelope.h"
#include "protocol/frame.h"

#define STEPS_SHOWN 1000 /* of a task, after something was done to it */
#define ALL_VERBS                                                                              \
	(EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD | EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE | \
	 EVHTTP_REQ_OPTIONS | EVHTTP_REQ_TRACE | EVHTTP_REQ_PATCH)
#define THE_REQUEST 1u /* id of the first one of a session, and mostly the only one */
#define HOW_IT_IS 2u

/* Sessions --------------------------------------------------------------------------------------------------------- */

/* How what was done to is now, as task.get and step.get tell it: what clients expect of an answer. */
static void on_asking(evutil_socket_t fd, short what, void *arg)
{
	struct exchange *x = arg;
	struct server *srv = x->http->srv;
	struct mp_value made, v;
	struct buf b;
	const char *key = x->route->then == MSG_STEP_GET ? "step_uuid" : "task_uuid", *uuid;
	size_t n;
	(void)fd, (void)what;
	buf_init(&b, 0);
	if (mp_decode(x->made.data, x->made.len, &made) < 0) {
		exchange_drop(x, "out of memory");
		return;
	}
	if (x->session && mp_get_str(&made.root, key, &uuid, &n) == 1) {
		mp_map(&b, 3);
		mp_str(&b, key);
		mp_strn(&b, uuid, n);
		mp_str(&b, "readiness");
		mp_bool(&b, true);
		mp_str(&b, "limit");
		mp_int(&b, STEPS_SHOWN);
	}
	mp_value_done(&made);
	if (b.len == 0 || b.failed || mp_decode(b.data, b.len, &v) < 0) {
		(void)!reply_made(x);
	} else {
		session_ask(x->session, HOW_IT_IS, x->route->then, &v.root);
		mp_value_done(&v);
	}
	buf_done(&b);
	server_flush(srv);
}

/* Not from here: nothing may be asked while answers are handed out. */
static void ask_how_it_is(struct exchange *x, const msgpack_object *done)
{
	(void)!mp_get_bool(done, "created", &x->created);
	mp_object(&x->made, done);
	if (x->made.failed || evtimer_assign(&x->asking, x->http->base, on_asking, x) < 0) {
		buf_reset(&x->made);
		reply_result(x, done);
		return;
	}
	event_active(&x->asking, EV_TIMEOUT, 0);
}

/* RFC 7240: the client does not need to be told. */
static bool wants_little(const struct exchange *x)
{
	const char *prefer = evhttp_find_header(evhttp_request_get_input_headers(x->req), "Prefer");
	return prefer && strstr(prefer, "return=minimal");
}

static void on_frame(void *arg, const unsigned char *payload, size_t len)
{
	struct exchange *x = arg;
	struct mp_value v;
	struct envelope env;
	const char *why;
	if (mp_decode(payload, len, &v) < 0) {
		exchange_drop(x, "out of memory");
		return;
	}
	if (envelope_read(&v.root, &env, &why) == 0 && env.kind == ENV_NOTIFICATION)
		stream_notified(x, env.method, env.method_len, env.params);
	else if (env.kind == ENV_RESPONSE && env.error && x->made.len > 0)
		(void)reply_made(x);
	else if (env.kind == ENV_RESPONSE && env.error)
		reply_problem(x, env.error);
	else if (env.kind == ENV_RESPONSE && x->route->then && x->made.len == 0 && !wants_little(x))
		ask_how_it_is(x, env.result);
	else if (env.kind == ENV_RESPONSE && x->route->flags & ROUTE_STREAM)
		stream_begin(x, env.result);
	else if (env.kind == ENV_RESPONSE)
		reply_result(x, env.result);
	mp_value_done(&v);
}

static void on_session_closed(void *arg, const char *why)
{
	struct exchange *x = arg;
	x->session = NULL;
	if (x->answered)
		exchange_drop(x, why);
	else if (!reply_made(x))
		reply_refusal(x, HTTP_SERVUNAVAIL, "overloaded", NULL, "%s", why);
}

static const struct local local = {on_frame, on_session_closed};

static void ask(struct exchange *x, const msgpack_object *params)
{
	if (x->route->flags & ROUTE_WAITS)
		exchange_watch_client(x);
	session_ask(x->session, THE_REQUEST, x->route->msg, params);
}

/* The client is known: do what it asks for. */
static void exchange_run(struct exchange *x)
{
	struct http *h = x->http;
	struct buf params;
	struct mp_value v;
	struct err e = {0};
	bool stream = x->route->flags & ROUTE_STREAM;
	if (stream && stream_is_over(x))
		return;
	if (stream && h->n_streams >= (unsigned)h->opt->http_max_streams) {
		reply_refusal(x, HTTP_SERVUNAVAIL, "overloaded", NULL,
		              "there are as many streams as may be: %d (http_max_streams)", h->opt->http_max_streams);
		return;
	}
	buf_init(&params, 0);
	if (exchange_params(x, &params, &e) < 0) {
		reply_err(x, &e);
	} else if (mp_decode(params.data, params.len, &v) < 0) {
		reply_refusal(x, HTTP_SERVUNAVAIL, "overloaded", NULL, "out of memory");
	} else {
		x->session = session_open_local(h->srv, &x->who, stream, &local, x, &e);
		if (!x->session)
			reply_err(x, &e);
		else
			ask(x, &v.root);
		mp_value_done(&v);
	}
	buf_done(&params);
}

/* Who asks --------------------------------------------------------------------------------------------------------- */

static int fd_of(const struct exchange *x)
{
	return bufferevent_getfd(evhttp_connection_get_bufferevent(evhttp_request_get_connection(x->req)));
}

static bool exchange_over_unix(const struct exchange *x)
{
	struct sockaddr_storage a = {0};
	socklen_t len = sizeof a;
	return getsockname(fd_of(x), (struct sockaddr *)&a, &len) == 0 && a.ss_family == AF_UNIX;
}

static void challenge(struct exchange *x, enum auth_verdict v, const struct err *e)
{
	add_header(x, "X-Auth-Failure-Reason", v == AUTH_MISSING ? "missing" : "invalid");
	add_header(x, "WWW-Authenticate",
	           v == AUTH_MISSING ? "Bearer realm=\"taskerd\""
	                             : "Bearer realm=\"taskerd\", error=\"invalid_token\"");
	reply_refusal(x, 401, "permission_denied", "Authorization", "%s", e->text);
}

static void on_authenticated(struct exchange *x, enum auth_verdict v, const struct err *e)
{
	if (v != AUTH_OK && strcmp(e->code, "permission_denied") != 0)
		reply_err(x, e);
	else if (v != AUTH_OK)
		challenge(x, v, e);
	else
		exchange_run(x);
}

static void identify(struct exchange *x)
{
	struct err e = {0};
	char *peer = NULL;
	ev_uint16_t port;
	const char *shown = evhttp_find_header(evhttp_request_get_input_headers(x->req), "Authorization");
	if (!shown && exchange_over_unix(x)) {
		principal_of_peer(x->http->srv, fd_of(x), &x->who);
		exchange_run(x);
		return;
	}
	evhttp_connection_get_peer(evhttp_request_get_connection(x->req), &peer, &port);
	struct auth_question q = {shown, peer};
	on_authenticated(x, http_authenticate(server_auth(x->http->srv), &q, &x->who, &e), &e);
}

/* Requests --------------------------------------------------------------------------------------------------------- */

static void on_client_gone(struct evhttp_connection *evcon, void *arg)
{
	struct exchange *x = arg;
	struct evhttp_request *req = x->req;
	(void)evcon;
	x->req = NULL;
	x->conn = NULL;
	if (!evhttp_request_get_connection(req)) /* else it goes with the connection */
		evhttp_request_free(req);
	struct http *h = x->http;
	exchange_end(x);
	server_flush(h->srv);
}

void exchange_watch_client(struct exchange *x)
{
	/* As evhttp does while it writes: what is read is of no interest, the end of file is. */
	struct bufferevent *bev = evhttp_connection_get_bufferevent(evhttp_request_get_connection(x->req));
	bufferevent_data_cb read, write;
	bufferevent_event_cb event;
	void *arg;
	bufferevent_getcb(bev, &read, &write, &event, &arg);
	bufferevent_setcb(bev, NULL, write, event, arg);
	struct timeval patience = http_patience(x->http);
	bufferevent_set_timeouts(bev, NULL, &patience);
	bufferevent_enable(bev, EV_READ);
}

void exchange_drop(struct exchange *x, const char *why)
{
	char left_out[LEFT_OUT_MAX] = "";
	if (ratelimit_ok(&x->http->log, now_mono(), left_out))
		log_info("HTTP: a connection is closed: %s%s", why, left_out);
	if (x->conn)
		shutdown(bufferevent_getfd(x->conn->bev), SHUT_RDWR);
	if (x->answered)
		exchange_end(x);
	else if (!reply_made(x))
		reply_refusal(x, HTTP_SERVUNAVAIL, "overloaded", NULL, "%s", why);
}

void exchange_end(struct exchange *x)
{
	struct http *h = x->http;
	if (x->session)
		session_close_local(TAKE_PTR(x->session));
	if (x->stream)
		stream_free(x);
	if (x->req)
		evhttp_connection_set_closecb(evhttp_request_get_connection(x->req), NULL, NULL);
	if (x->req && x->answered) /* a stream */
		evhttp_send_reply_end(x->req);
	principal_done(&x->who);
	buf_done(&x->made);
	if (event_initialized(&x->asking))
		event_del(&x->asking);
	HASH_DEL(h->exchanges, x);
	free(x);
}

/* evhttp takes any bytes before a colon, so that "Content-Length : 5" is none to it and is one to others. */
static bool is_token(const char *name)
{
	static const char more[] = "!#$%&'*+-.^_`|~";
	const char *p = name;
	while ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') ||
	       (*p && strchr(more, *p)))
		p++;
	return p > name && !*p;
}

/* evhttp does not read a body there, and would take it for the next request; a proxy before us would not. */
static const char *framing_fault(struct evhttp_request *req)
{
	const struct evkeyvalq *in = evhttp_request_get_input_headers(req);
	const char *coding = evhttp_find_header(in, "Transfer-Encoding"),
		   *length = evhttp_find_header(in, "Content-Length");
	const struct evkeyval *kv;
	unsigned n = 0, hosts = 0;
	bool may = evhttp_request_get_command(req) & (EVHTTP_REQ_POST | EVHTTP_REQ_PUT | EVHTTP_REQ_PATCH);
	TAILQ_FOREACH(kv, in, next)
		hosts += evutil_ascii_strcasecmp(kv->key, "Host") == 0;
	TAILQ_FOREACH(kv, in, next)
		n += evutil_ascii_strcasecmp(kv->key, "Content-Length") == 0 ||
		     evutil_ascii_strcasecmp(kv->key, "Transfer-Encoding") == 0;
	TAILQ_FOREACH(kv, in, next)
		if (!is_token(kv->key))
			return "the name of a header is none";
	if (hosts > 1 || (hosts == 0 && (req->major > 1 || req->minor > 0)))
		return "one Host is expected";
	if (n > 1)
		return "one Content-Length or Transfer-Encoding is expected";
	if (coding && (!may || evutil_ascii_strcasecmp(coding, "chunked") != 0))
		return may ? "the only Transfer-Encoding is chunked" : "a body is not expected with this method";
	return length && !may && strcmp(length, "0") != 0 ? "a body is not expected with this method" : NULL;
}

static void put_allow(struct exchange *x, unsigned verbs)
{
	char text[128] = "OPTIONS";
	for (unsigned v = 1; v <= EVHTTP_REQ_PATCH; v <<= 1)
		if (verbs & v)
			snprintf(text + strlen(text), sizeof text - strlen(text), ", %s", verb_name(v));
	add_header(x, "Allow", text);
}

static void dispatch(struct exchange *x)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(x->req);
	const char *path = uri ? evhttp_uri_get_path(uri) : NULL, *fault = framing_fault(x->req);
	enum evhttp_cmd_type verb = evhttp_request_get_command(x->req);
	unsigned verbs = 0;
	if (fault)
		add_header(x, "Connection", "close");
	x->route = route_find(verb == EVHTTP_REQ_HEAD ? EVHTTP_REQ_GET : verb, path ? path : "", &x->match, &verbs);
	if (!verbs) {
		reply_refusal(x, HTTP_NOTFOUND, "not_found", NULL,
		              "there is no resource of this path; /openapi.json lists them");
	} else if (!x->route) {
		put_allow(x, verbs);
		if (verb == EVHTTP_REQ_OPTIONS)
			reply_empty(x, HTTP_NOCONTENT);
		else
			reply_refusal(x, HTTP_BADMETHOD, "unknown_method", NULL,
			              "the method is not for this resource; those are in the header Allow");
	} else if (fault) {
		reply_refusal(x, HTTP_BADREQUEST, "bad_request", NULL, "%s", fault);
	} else if (x->route->fn) {
		x->route->fn(x);
	} else {
		identify(x);
	}
}

static void on_request(struct evhttp_request *req, void *arg)
{
	struct http *h = arg;
	struct exchange *x = calloc(1, sizeof *x);
	if (!x) {
		evhttp_send_error(req, HTTP_SERVUNAVAIL, NULL);
		return;
	}
	x->ticket = ++h->next_ticket;
	x->http = h;
	x->req = req;
	x->conn = conn_find(h, req);
	x->began = now_mono();
	buf_init(&x->made, 0);
	HASH_ADD(hh, h->exchanges, ticket, sizeof x->ticket, x);
	if (x->conn)
		conn_busy(x->conn, true);
	evhttp_connection_set_closecb(evhttp_request_get_connection(req), on_client_gone, x);
	dispatch(x);
	server_flush(h->srv);
}

static void tick_exchange(struct exchange *x)
{
	const struct http *h = x->http;
	bool late = now_mono() - x->began > (usec_t)h->opt->http_timeout_ms * USEC_PER_MSEC;
	if (x->stream)
		stream_tick(x);
	else if (late && !(x->route && x->route->flags & (ROUTE_WAITS | ROUTE_STREAM)) && !reply_made(x))
		reply_refusal(
			x, HTTP_SERVUNAVAIL, "database_unavailable", NULL,
			"there was no answer within %d ms (http_timeout_ms); what was asked for may still be done",
			h->opt->http_timeout_ms);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct http *h = arg;
	struct exchange *x, *tmp;
	(void)fd, (void)what;
	conns_tick(h);
	HASH_ITER(hh, h->exchanges, x, tmp)
		tick_exchange(x);
	server_flush(h->srv);
}

/* Begin and end ---------------------------------------------------------------------------------------------------- */

static void on_library_word(int severity, const char *text)
{
	if (severity >= EVENT_LOG_WARN)
		log_warn("libevent: %s", text);
}

static int begin(struct http *h, struct err *e)
{
	h->evhttp = evhttp_new(h->base);
	h->ev_tick = event_new(h->base, -1, EV_PERSIST, on_tick, h);
	if (!h->evhttp || !h->ev_tick)
		return err_set(e, -ENOMEM, "internal", "HTTP: out of memory");
	event_set_log_callback(on_library_word);
	evhttp_set_allowed_methods(h->evhttp, ALL_VERBS);
	evhttp_set_max_headers_size(h->evhttp, (ev_ssize_t)h->opt->http_max_header);
	evhttp_set_max_body_size(h->evhttp, (ev_ssize_t)h->opt->http_max_body);
	struct timeval patience = http_patience_reading(h);
	evhttp_set_timeout_tv(h->evhttp, &patience);
	evhttp_set_gencb(h->evhttp, on_request, h);
	event_add(h->ev_tick, &(struct timeval){.tv_sec = 1});
	return conns_begin(h, e);
}

static void http_stop(void *front)
{
	struct http *h = front;
	struct exchange *x, *tmp;
	HASH_ITER(hh, h->exchanges, x, tmp)
		exchange_end(x);
	if (h->evhttp)
		evhttp_free(h->evhttp);
	conns_end(h);
	if (h->ev_tick)
		event_free(h->ev_tick);
	buf_done(&h->openapi);
	free(h);
}

static void *http_start(struct server *srv, struct err *e)
{
	struct http *h = calloc(1, sizeof *h);
	if (!h) {
		err_set(e, -ENOMEM, "internal", "out of memory");
		return NULL;
	}
	h->srv = srv;
	h->opt = server_options(srv);
	h->base = server_base(srv);
	h->log = (struct ratelimit){.window_us = 10 * USEC_PER_SEC, .burst = 20};
	buf_init(&h->openapi, 0);
	TAILQ_INIT(&h->idle);
	if (begin(h, e) == 0)
		return h;
	http_stop(h);
	return NULL;
}

static void http_drain(void *front)
{
	struct http *h = front;
	h->draining = true;
}

const struct front http_front = {http_start, http_drain, http_stop};

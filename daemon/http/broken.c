/* What is no request at all, or too much of one, evhttp answers by itself, with a page of HTML that nothing can be put
 * in the place of. So its words are taken back before they are sent, and the status of them is given as a problem like
 * every other. Nothing of what was received is in it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <event2/buffer.h>
#include "daemon/http/broken.h"
#include "daemon/http/conns.h"
#include "daemon/http/exchange.h"
#include "daemon/http/reply.h"
#include "daemon/server/reply.h"
#include "protocol/envelope.h"

#define WORDS_MAX 1023 /* bytes of them, which are short */

static const struct word {
	int status;
	const char *code, *detail;
} words[] = {
	{400, "bad_request",
         "that is not a request of HTTP/1.1: a request line, headers and an empty line are expected, and a body as its header says"},
	{408, "bad_request", "the request did not come to its end in time (http_timeout_ms)"},
	{413, "too_large",
         "the body is larger than it may be (http_max_body), or is in chunks that cannot be read: each begins with its length in hexadecimal digits, without extensions"},
	{417, "bad_request", "the only expectation that is met is 100-continue"},
	{431, "too_large", "the request line and the headers are larger than they may be (http_max_header)"},
	{501, "unknown_method", "there is no such method; /openapi.json lists those of each resource"},
	{503, "overloaded", "out of memory: come again in a moment"},
};

/* The whole answer. */
static void put_answer(struct buf *out, int status, bool with_body)
{
	const struct word *w = words;
	struct buf json;
	while (w->status != status && w < words + sizeof words / sizeof *words - 1)
		w++;
	problem_begin(&json, w->status, w->code, strlen(w->code));
	problem_put_detail(&json, w->status, w->detail);
	buf_append_char(&json, '}');
	buf_printf(
		out,
		"HTTP/1.1 %d %s\r\nContent-Type: application/problem+json\r\nContent-Length: %zu\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n%s\r\n",
		w->status, http_phrase_of(w->status), json.len, w->status == 503 ? "Retry-After: 1\r\n" : "");
	if (with_body)
		buf_append(out, json.data, json.len);
	buf_done(&json);
}

/* The status of what evhttp says, and whether there is a body; 0: nothing but that it goes on reading (100). */
static int read_words(struct evbuffer *out, bool *ret_body)
{
	char text[WORDS_MAX + 1], *at = text, *end;
	ev_ssize_t n = evbuffer_copyout(out, text, WORDS_MAX);
	text[n > 0 ? n : 0] = '\0';
	while ((end = strstr(at, "\r\n\r\n")) && strncmp(at, "HTTP/1.1 100", 12) == 0)
		at = end + 4;
	*ret_body = end && end[4];
	return strncmp(at, "HTTP/1.", 7) == 0 && at[7] ? (int)strtol(at + 8, NULL, 10) : 0;
}

static void replace_words(struct conn *c, struct evbuffer *out)
{
	bool body = false;
	struct buf answer;
	int status = read_words(out, &body);
	if (status == 0)
		return;
	c->refused = true;
	buf_init(&answer, 0);
	put_answer(&answer, c->header > c->http->opt->http_max_header ? 431 : status, body);
	if (!answer.failed && evbuffer_drain(out, evbuffer_get_length(out)) == 0)
		evbuffer_add(out, answer.data, answer.len);
	buf_done(&answer);
}

static void on_words(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;
	struct evbuffer *out = bufferevent_get_output(c->bev);
	(void)fd, (void)what;
	if (c->refused && conn_is_gone(c))
		broken_linger(c);
	if (c->busy || c->refused || c->leftover)
		return;
	evbuffer_unfreeze(out, 1); /* the bufferevent keeps its front to itself */
	replace_words(c, out);
	evbuffer_freeze(out, 1);
	if (c->refused)
		/* it is sent by then, or conns_tick sees that it is */
		event_add(&c->words, &(struct timeval){.tv_usec = 20000});
}

/* Not at once: the answer comes in pieces. Before the loop looks at sockets again it is all there. */
static void on_output(struct evbuffer *out, const struct evbuffer_cb_info *info, void *arg)
{
	struct conn *c = arg;
	(void)out;
	if (!c->busy && !c->refused && info->n_added > 0 && info->orig_size == 0)
		event_active(&c->words, EV_TIMEOUT, 0);
}

void broken_watch(struct conn *c)
{
	event_assign(&c->words, c->http->base, -1, 0, on_words, c);
	evbuffer_add_cb(bufferevent_get_output(c->bev), on_output, c);
}

void broken_unwatch(struct conn *c)
{
	event_del(&c->words);
	evbuffer_remove_cb(bufferevent_get_output(c->bev), on_output, c);
}

/* Where the header ends in what is not yet taken from the buffer, of which everything before `from` was looked at; -1:
 * it does not. The end may come by itself, when evhttp has taken the line before. */
static ev_ssize_t header_end(struct evbuffer *in, size_t from, bool goes_on)
{
	char first[2] = "";
	struct evbuffer_ptr at, end;
	evbuffer_copyout(in, first, sizeof first);
	if (goes_on && (first[0] == '\n' || (first[0] == '\r' && first[1] == '\n')))
		return first[0] == '\n' ? 1 : 2;
	evbuffer_ptr_set(in, &at, from, EVBUFFER_PTR_SET);
	end = evbuffer_search(in, "\n\r\n", 3, &at);
	return end.pos >= 0 ? end.pos + 3 : -1;
}

/* A worker, or a client like it, that was given the wrong address is told so in its own words. Its first frame, hello,
 * has less than 16 MiB and is a request: an array of four. */
static bool speaks_frames(struct conn *c, struct evbuffer *in)
{
	unsigned char first[6] = "";
	struct err e;
	struct buf answer;
	if (c->header >= sizeof first || c->refused || evbuffer_copyout(in, first, sizeof first) != sizeof first)
		return false;
	if (first[0] != 0 || first[4] != 0x94 || first[5] != ENV_REQUEST)
		return false;
	err_set(&e, -EPROTO, "bad_request",
	        "HTTP is spoken here (http_listen): workers and clients connect to taskerd's socket, %s",
	        c->http->opt->socket);
	buf_init(&answer, 0);
	write_farewell(&answer, &e);
	if (!answer.failed)
		(void)!send(bufferevent_getfd(c->bev), answer.data, answer.len, MSG_DONTWAIT | MSG_NOSIGNAL);
	buf_done(&answer);
	return true;
}

bool broken_look(struct conn *c, size_t added)
{
	struct evbuffer *in = bufferevent_get_input(c->bev);
	size_t len = evbuffer_get_length(in);
	if (added == 0 || c->whole)
		return true;
	if (speaks_frames(c, in))
		return false;
	ev_ssize_t end = header_end(in, len > added + 2 ? len - added - 2 : 0, c->header > 0);
	c->whole = end >= 0;
	c->header += added - (end >= 0 ? len - (size_t)end : 0);
	return true;
}

void broken_late(struct conn *c)
{
	struct buf answer;
	if (c->header == 0 || c->refused)
		return;
	buf_init(&answer, 0);
	put_answer(&answer, 408, true);
	if (!answer.failed) /* nothing else is being sent; what does not go at once goes nowhere */
		(void)!send(bufferevent_getfd(c->bev), answer.data, answer.len, MSG_DONTWAIT | MSG_NOSIGNAL);
	buf_done(&answer);
}

static void on_leftover(struct bufferevent *bev, void *arg)
{
	static char away[65536];
	struct evbuffer *in = bufferevent_get_input(bev);
	(void)arg;
	evbuffer_drain(in, evbuffer_get_length(in));
	for (int i = 0; i < 16 && recv(bufferevent_getfd(bev), away, sizeof away, MSG_DONTWAIT) == sizeof away; i++)
		;
}

static void on_leftover_end(struct bufferevent *bev, short what, void *arg)
{
	(void)bev, (void)what;
	conn_free(arg);
}

void broken_linger(struct conn *c)
{
	c->refused = false;
	c->leftover = true;
	c->since = now_mono();
	on_leftover(c->bev, c);
	bufferevent_setcb(c->bev, on_leftover, NULL, on_leftover_end, c);
	bufferevent_enable(c->bev, EV_READ);
}

/* Connections: how many, how long they may be idle or take for a request, how much of them is kept in memory. evhttp
 * knows only one timeout, between two bytes; here is what holds a client that sends a byte now and then. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <event2/keyvalq_struct.h>
#include "daemon/http/broken.h"
#include "daemon/http/conns.h"
#include "daemon/http/exchange.h"
#include "daemon/http/http.h"
#include "daemon/http/reply.h"
#include "daemon/server/front.h"

#define UNREAD_US USEC_PER_SEC /* how long an answer may be left unread while others wait for a connection */

static usec_t patience(const struct http *h)
{
	return (usec_t)h->opt->http_timeout_ms * USEC_PER_MSEC;
}

struct timeval http_patience(const struct http *h)
{
	return (struct timeval){.tv_sec = h->opt->http_timeout_ms / 1000,
	                        .tv_usec = h->opt->http_timeout_ms % 1000 * 1000};
}

struct timeval http_patience_reading(const struct http *h)
{
	struct timeval tv = http_patience(h);
	tv.tv_sec += 2;
	return tv;
}

/* evhttp closes it when it sees the end of file. */
static void hang_up(struct conn *c)
{
	if (c->closing)
		return;
	c->closing = true;
	c->http->n_closing++;
	shutdown(bufferevent_getfd(c->bev), SHUT_RDWR);
}

static void forget_answer(struct conn *c)
{
	if (c->unread > 0)
		unread_end(c->http->srv, c->user, c->unread);
	c->unread = 0;
	c->answered = false;
}

void conn_free(struct conn *c)
{
	struct http *h = c->http;
	forget_answer(c);
	h->n_closing -= c->closing;
	h->input -= c->input;
	TAILQ_REMOVE(&h->idle, c, link);
	HASH_DEL(h->conns, c);
	broken_unwatch(c);
	if (c->leftover)
		bufferevent_setcb(c->bev, NULL, NULL, NULL, NULL);
	bufferevent_decref(c->bev);
	free(c);
}

bool conn_is_gone(const struct conn *c)
{
	bufferevent_data_cb read, write;
	bufferevent_event_cb event = NULL;
	void *arg;
	bufferevent_getcb(c->bev, &read, &write, &event, &arg);
	return !event;
}

static void sweep(struct http *h)
{
	struct conn *c, *tmp;
	HASH_ITER(hh, h->conns, c, tmp)
		if (conn_is_gone(c) && c->refused && !c->closing)
			broken_linger(c);
		else if (conn_is_gone(c))
			conn_free(c);
}

static void set_doors(struct http *h, bool open)
{
	h->paused = !open;
	for (size_t i = 0; i < h->n_doors; i++)
		(void)(open ? evconnlistener_enable(h->doors[i].listener)
		            : evconnlistener_disable(h->doors[i].listener));
}

/* At once, with its descriptor: connections can come faster than ends of file are seen. Not for callbacks of its
 * own. */
static void let_go(struct conn *c)
{
	bufferevent_data_cb read, write;
	bufferevent_event_cb event = NULL;
	void *evcon;
	bufferevent_getcb(c->bev, &read, &write, &event, &evcon);
	if (event && !c->leftover) /* evhttp still has it, and is the argument's owner */
		evhttp_connection_free(evcon);
	conn_free(c);
}

/* Who can make room: the longest idle, else whoever has left an answer unread for longest. */
static struct conn *dispensable(struct http *h)
{
	struct conn *c;
	usec_t now = now_mono();
	TAILQ_FOREACH(c, &h->idle, link)
		if (!c->busy && !c->closing)
			return c;
	TAILQ_FOREACH(c, &h->idle, link)
		if (c->answered && !c->closing && now - c->since > UNREAD_US)
			return c;
	return NULL;
}

/* Room for one more. With every connection at work, whoever comes waits in the socket's queue. */
static void make_room(struct http *h)
{
	struct conn *c;
	size_t max = (size_t)h->opt->http_max_connections;
	if (HASH_COUNT(h->conns) - h->n_closing < max)
		return;
	sweep(h);
	if (HASH_COUNT(h->conns) - h->n_closing < max)
		return;
	if ((c = dispensable(h)))
		let_go(c);
	else
		set_doors(h, false);
}

static void on_input(struct evbuffer *in, const struct evbuffer_cb_info *info, void *arg)
{
	struct conn *c = arg;
	struct http *h = c->http;
	size_t max = h->opt->http_max_body * 2 > INPUT_MAX ? h->opt->http_max_body * 2 : INPUT_MAX;
	(void)in;
	c->input += info->n_added - info->n_deleted;
	h->input += info->n_added - info->n_deleted;
	if (info->n_added > 0 && h->input > max)
		hang_up(c);
	if (!c->busy && !broken_look(c, info->n_added))
		hang_up(c);
}

static struct bufferevent *on_accepted(struct event_base *base, void *arg)
{
	struct http *h = arg;
	make_room(h);
	/* The last reference closes the descriptor, after its events are gone: or the next connection with its number
	 * would lose bytes to them. */
	struct bufferevent *bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	struct conn *c = bev ? calloc(1, sizeof *c) : NULL;
	if (!c) {
		if (bev)
			bufferevent_free(bev);
		return NULL; /* evhttp makes one of its own, and will fail in its own way */
	}
	c->http = h;
	c->bev = bev;
	c->since = now_mono();
	bufferevent_incref(bev);
	bufferevent_setwatermark(bev, EV_READ, 0, h->opt->http_max_header + h->opt->http_max_body + 65536);
	evbuffer_add_cb(bufferevent_get_input(bev), on_input, c);
	broken_watch(c);
	HASH_ADD_PTR(h->conns, bev, c);
	TAILQ_INSERT_TAIL(&h->idle, c, link);
	return bev;
}

struct conn *conn_find(struct http *h, struct evhttp_request *req)
{
	struct evhttp_connection *evcon = evhttp_request_get_connection(req);
	struct bufferevent *bev = evcon ? evhttp_connection_get_bufferevent(evcon) : NULL;
	struct conn *c;
	HASH_FIND_PTR(h->conns, &bev, c);
	return c;
}

static void move_to_end(struct conn *c)
{
	c->since = now_mono();
	TAILQ_REMOVE(&c->http->idle, c, link);
	TAILQ_INSERT_TAIL(&c->http->idle, c, link);
}

void conn_answered(struct conn *c, struct session *s, size_t n)
{
	c->answered = true;
	c->unread = s ? n : 0;
	c->user = c->unread > 0 ? unread_begin(s, n) : 0;
	move_to_end(c);
}

void conn_busy(struct conn *c, bool busy)
{
	struct timeval writing = http_patience(c->http), reading = http_patience_reading(c->http);
	bufferevent_set_timeouts(c->bev, &reading, &writing); /* a request that waited had none for reading */
	forget_answer(c);
	c->busy = busy;
	c->header = 0;
	c->whole = false;
	if (!busy && !broken_look(c, evbuffer_get_length(bufferevent_get_input(c->bev))))
		hang_up(c);
	move_to_end(c);
}

void conns_tick(struct http *h)
{
	struct conn *c, *tmp;
	usec_t now = now_mono();
	sweep(h);
	HASH_ITER(hh, h->conns, c, tmp)
		if (c->leftover && now - c->since > patience(h))
			conn_free(c);
	TAILQ_FOREACH(c, &h->idle, link)
		if (!c->busy && !c->closing && now - c->since > patience(h)) {
			broken_late(c);
			hang_up(c);
		}
	if (h->paused && (HASH_COUNT(h->conns) < (size_t)h->opt->http_max_connections || dispensable(h)))
		set_doors(h, true);
}

/* Doors ------------------------------------------------------------------------------------------------------------ */

static void on_accept_error(struct evconnlistener *l, void *arg)
{
	struct http *h = arg;
	(void)l;
	log_error("HTTP: cannot accept: %s; trying again in a second", strerror(EVUTIL_SOCKET_ERROR()));
	set_doors(h, false);
}

static int open_fd(struct http *h, const struct listen_address *a, int *ret, struct err *e)
{
	if (a->path[0])
		return listen_unix(a->path, h->opt->socket_mode, h->opt->socket_gid, "http_listen", ret, e);
	return listen_tcp(a, "http_listen", ret, e);
}

static void say_open(const struct listen_address *given, int fd)
{
	struct listen_address a = *given;
	char text[LISTEN_TEXT];
	socklen_t len = sizeof a.ip;
	if (!a.path[0])
		getsockname(fd, (struct sockaddr *)&a.ip, &len); /* a free port was asked for */
	listen_format(&a, text);
	log_info("HTTP on %s", text);
	if (!listen_is_loopback(&a))
		log_warn("HTTP on %s is open to other hosts and not encrypted: put a reverse proxy with TLS before it",
		         text);
}

/* `fd` is its own from here on. */
static int open_door(struct http *h, const struct listen_address *a, int fd, struct err *e)
{
	struct door *d = &h->doors[h->n_doors];
	d->listener = evconnlistener_new(h->base, NULL, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
	if (!d->listener || !evhttp_bind_listener(h->evhttp, d->listener)) {
		close(fd);
		return err_set(e, -ENOMEM, "internal", "HTTP: out of memory");
	}
	evconnlistener_set_error_cb(d->listener, on_accept_error);
	memcpy(d->path, a->path, sizeof d->path);
	h->n_doors++;
	return 0;
}

static int open_own(struct http *h, const struct listen_address *a, struct err *e)
{
	int fd = -1, rc = open_fd(h, a, &fd, e);
	if (rc < 0 || (rc = open_door(h, a, fd, e)) < 0)
		return rc;
	say_open(a, fd);
	return 0;
}

/* They stay when the daemon goes, and their files with them. */
static int open_passed(struct http *h, int fd, struct err *e)
{
	static const struct listen_address nowhere;
	if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0)
		return err_set(e, -EINVAL, "internal", "what systemd passed as http is not a listening stream socket");
	evutil_make_socket_nonblocking(fd);
	log_info("HTTP on a socket of the service manager");
	return open_door(h, &nowhere, fd, e);
}

int conns_begin(struct http *h, struct err *e)
{
	struct listen_address at[LISTEN_MAX];
	const int *passed;
	size_t n_passed = server_http_sockets(h->srv, &passed);
	TAILQ_INIT(&h->idle);
	evhttp_set_bevcb(h->evhttp, on_accepted, h);
	for (size_t i = 0; i < n_passed; i++)
		if (open_passed(h, passed[i], e) < 0)
			return -EINVAL;
	int n = n_passed ? 0 : listen_parse(h->opt->http_listen, at);
	for (int i = 0; i < n; i++) {
		int rc = open_own(h, &at[i], e);
		if (rc < 0 && !h->opt->http_listen_derived)
			return rc;
		if (rc < 0) /* nobody asked for it */
			log_warn("there is no HTTP: %s", e->text);
	}
	return 0;
}

void conns_end(struct http *h)
{
	struct conn *c, *tmp;
	HASH_ITER(hh, h->conns, c, tmp)
		conn_free(c);
	for (size_t i = 0; i < h->n_doors; i++)
		if (h->doors[i].path[0])
			unlink(h->doors[i].path);
}

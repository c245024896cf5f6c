/* The listening socket: opening it, taking connections or saying why not, closing it. */
#include "daemon/server/doors.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>
#include "daemon/base/clock.h"
#include "daemon/base/err.h"
#include "daemon/base/listen.h"
#include "daemon/base/log.h"
#include "daemon/base/service.h"
#include "daemon/server/front.h"
#include "daemon/server/handoff.h"
#include "daemon/server/quota.h"
#include "daemon/server/reply.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "protocol/buf.h"
#include "protocol/frame.h"
#include "protocol/mp.h"
#include "protocol/msg.h"

static void make_parent(const char *path)
{
	char dir[4096];
	snprintf(dir, sizeof dir, "%s", path);
	char *slash = strrchr(dir, '/');
	if (!slash || slash == dir)
		return;
	*slash = '\0';
	mkdir(dir, 0755); /* bind says what is wrong if this did not help */
}

int doors_listen(struct server *srv, struct err *e)
{
	int r = takeover(srv, &srv->listen_fd, e);
	if (r < 0)
		return r;
	if (srv->listen_fd >= 0) {
		if (sd_is_socket_unix(srv->listen_fd, SOCK_STREAM, 1, NULL, 0) <= 0)
			return err_set(e, -EINVAL, "internal",
			               "systemd passed something that is not a listening Unix stream socket");
		evutil_make_socket_nonblocking(srv->listen_fd);
		return 0;
	}
	make_parent(srv->opt->socket);
	srv->own_socket = true;
	return listen_unix(srv->opt->socket, srv->opt->socket_mode, srv->opt->socket_gid, "--socket", &srv->listen_fd,
	                   e);
}

/* Who connects while the database comes up waits in the socket's queue, instead of being told to come again. */
void doors_open(struct server *srv)
{
	if (srv->open || srv->draining)
		return;
	srv->open = true;
	event_add(srv->ev_listen, NULL);
	service_tell("READY=1");
	server_status(srv);
}

void on_open(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	doors_open(arg);
}

/* Who comes now is refused at once and finds the next daemon; systemd's own socket keeps them for it. */
void doors_close(struct server *srv)
{
	event_del(srv->ev_listen);
	event_del(srv->ev_accept_again);
	if (!srv->own_socket)
		return;
	unlink(srv->opt->socket);
	close(srv->listen_fd);
	srv->listen_fd = -1;
}

/* Who comes in ----------------------------------------------------------------------------------------------------- */

static void pause_accepting(struct server *srv)
{
	event_del(srv->ev_listen);
	event_add(srv->ev_accept_again, &(struct timeval){.tv_sec = 1});
}

void on_accept_again(evutil_socket_t fd, short what, void *arg)
{
	struct server *srv = arg;
	(void)fd, (void)what;
	if (!srv->draining)
		event_add(srv->ev_listen, NULL);
}

/* One try: whoever comes to a full house is told so. */
static void say_full(int fd, const struct err *full)
{
	struct buf b;
	buf_init(&b, 4096);
	write_farewell(&b, full);
	if (!b.failed)
		(void)!send(fd, b.data, b.len, MSG_NOSIGNAL | MSG_DONTWAIT);
	buf_done(&b);
}

static void turn_away(struct server *srv, int fd, const struct err *why)
{
	char left_out[LEFT_OUT_MAX] = "";
	if (ratelimit_ok(&srv->peer_log, now_mono(), left_out))
		log_event(LOG_CONNECTION_REFUSED, NULL, "a connection is refused: %s%s", why->text, left_out);
	srv->c_rejected_sessions++;
	say_full(fd, why);
	close(fd);
}

void on_accept(evutil_socket_t lfd, short what, void *arg)
{
	struct server *srv = arg;
	(void)what;
	for (int i = 0; i < 64; i++) {
		int fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0) {
			if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
				log_event(LOG_OUT_OF_DESCRIPTORS, NULL, "cannot accept: %s; trying again in a second",
				          strerror(errno));
				pause_accepting(srv);
			}
			break;
		}
		struct err full = {.code = "overloaded", .text = "out of memory"};
		if (quota_connect(srv, fd, &full) < 0 || !session_new(srv, fd))
			turn_away(srv, fd, &full);
	}
	server_flush(srv);
}

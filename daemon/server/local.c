/* Sessions without a socket, for another front end in this process: what would be written to the socket is handed over
 * instead. */
#include "daemon/server/local.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "daemon/auth/auth.h"
#include "daemon/base/cleanup.h"
#include "daemon/base/clock.h"
#include "daemon/base/err.h"
#include "daemon/base/hash.h"
#include "daemon/config/options.h"
#include "daemon/server/admit.h"
#include "daemon/server/front.h"
#include "daemon/server/info.h"
#include "daemon/server/message.h"
#include "daemon/server/quota.h"
#include "daemon/server/reply.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/store/store.h"
#include "protocol/buf.h"
#include "protocol/frame.h"
#include "protocol/msg.h"

struct event_base *server_base(struct server *srv)
{
	return srv->base;
}

struct auth *server_auth(struct server *srv)
{
	return srv->auth;
}

size_t server_http_sockets(const struct server *srv, const int **ret)
{
	*ret = srv->http_fds;
	return srv->n_http_fds;
}

const struct options *server_options(const struct server *srv)
{
	return srv->opt;
}

const char *server_version(void)
{
	return TASKERD_VERSION;
}

void principal_of_peer(const struct server *srv, int fd, struct principal *who)
{
	struct ucred cred = {.uid = (uid_t)-1, .gid = (gid_t)-1};
	socklen_t len = sizeof cred;
	(void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
	*who = (struct principal){.uid = cred.uid,
	                          .gid = cred.gid,
	                          .pid = cred.pid,
	                          .access = peer_access(srv, fd, cred.uid, cred.gid)};
}

static struct session *out_of_memory(struct err *e)
{
	err_set(e, -ENOMEM, "overloaded", "out of memory");
	return NULL;
}

struct session *session_open_local(struct server *srv, struct principal *who, bool stream, const struct local *local,
                                   void *arg, struct err *e)
{
	if (quota_may_begin(srv, who, stream, e) < 0)
		return NULL;
	struct session *s = session_alloc(srv);
	if (!s)
		return out_of_memory(e);
	s->who.pid = who->pid;
	s->who.uid = who->uid;
	s->who.gid = who->gid;
	s->who.access = who->access;
	s->who.own_rules = TAKE_PTR(who->own);
	snprintf(s->who.principal, sizeof s->who.principal, "%s", who->name);
	snprintf(s->client, sizeof s->client, "http");
	s->local = local;
	s->local_arg = arg;
	s->streams = stream;
	s->state = SESSION_OPEN;
	return session_begin(s) < 0 ? out_of_memory(e) : s;
}

void session_ask(struct session *s, uint32_t id, enum msg_id m, const msgpack_object *params)
{
	struct err e = {.code = "overloaded",
	                .text = "earlier requests of this user took much time: come again in a moment"};
	if (quota_rests(s)) {
		reply_error(s, id, &e);
		return;
	}
	usec_t began = quota_work_begin(s);
	message_call(s, m, true, id, params);
	quota_work_end(s, began);
}

void session_close_local(struct session *s)
{
	s->local = NULL;
	session_close(s, "done");
}

void local_ended(struct session *s, const char *why)
{
	const struct local *l = s->local;
	s->local = NULL;
	if (l)
		l->closed(s->local_arg, why);
}

void local_flush(struct session *s)
{
	struct buf out = s->wire.out;
	size_t done = 0, off, len;
	buf_init(&s->wire.out, 0);
	while (s->local && done < out.len && frame_peek(out.data + done, out.len - done, UINT32_MAX, &off, &len) == 1) {
		s->local->frame(s->local_arg, out.data + done + off, len);
		done += off + len;
	}
	buf_done(&out);
	if (s->local && s->wire.closing)
		session_close(s, "done");
}

void server_get_health(const struct server *srv, struct server_health *ret)
{
	const struct session *s, *tmp;
	*ret = (struct server_health){
		.database = database_state(srv),
		.calls_hanging = srv->n_hangs,
		.draining = srv->draining,
		.sessions = srv->n_sessions,
		.steps_running = HASH_COUNT(srv->steps),
		.store_requests = store_depth(srv->store),
		.store_bytes = store_bytes(srv->store),
		.uptime_ms = (now_mono() - srv->started) / USEC_PER_MSEC,
	};
	HASH_ITER(hh, srv->sessions, s, tmp)
		ret->workers += s->is_worker && s->state == SESSION_OPEN;
	ret->ready = strcmp(ret->database, "up") == 0 && !srv->draining;
}

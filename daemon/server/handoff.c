/* A stop for a restart: sessions are left with the service manager, and the daemon after this one goes on with them
 * (takeover.c). No peer notices.
 *
 * The node keeps its lease, so that what runs stays claimed. Reading stops; when all that was begun is answered, each
 * session's socket goes to the manager, and then one sealed file that says what must be known of them: who they are,
 * what they run, bytes half read and half written. It names the sockets, and comes last: whatever is missing or does
 * not fit, its sockets are closed, and their workers resume as after a crash. */
#include "daemon/server/handoff.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <unistd.h>
#include "daemon/base/cleanup.h"
#include "daemon/base/clock.h"
#include "daemon/base/hash.h"
#include "daemon/base/log.h"
#include "daemon/base/service.h"
#include "daemon/config/options.h"
#include "daemon/server/bounds.h"
#include "daemon/server/consume.h"
#include "daemon/server/front.h"
#include "daemon/server/pool.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/server/steps.h"
#include "daemon/server/tasks.h"
#include "daemon/store/store.h"
#include "protocol/buf.h"
#include "protocol/mp.h"
#include "protocol/msg.h"

#define HANDOFF_MS 5000        /* for what is under way to be answered */
#define KEPT_BYTES_MAX (8u << 20) /* half read, and half written, of one session */

void handoff_put_terms(struct buf *b, const struct options *o)
{
	const uint64_t terms[] = {PROTOCOL_MAJOR, PROTOCOL_MINOR, (uint64_t)o->heartbeat_ms,
	                          o->max_frame,   ITEMS_MAX,      DEPTH_MAX,
	                          bulk_max(o),    o->max_context, o->max_result};
	mp_array(b, sizeof terms / sizeof *terms + 1);
	mp_str(b, o->node_name);
	for (size_t i = 0; i < sizeof terms / sizeof *terms; i++)
		mp_uint(b, terms[i]);
}

/* What a session has asked for and still waits for is not carried over. */
static bool can_be_kept(const struct session *s)
{
	bool waits = s->asked > 0 || s->n_watches > 0 || s->n_waits > 0 || s->n_consumers > 0 || s->subscriber;
	return s->state == SESSION_OPEN && s->wire.fd >= 0 && !s->wire.closing && !s->said_goodbye &&
	       s->work.held == 0 && !waits && s->wire.in.len <= KEPT_BYTES_MAX &&
	       s->wire.out.len - s->wire.out_off <= KEPT_BYTES_MAX;
}

static void put_bytes(struct buf *b, const char *key, const unsigned char *p, size_t n)
{
	mp_str(b, key);
	mp_bin(b, n ? p : (const unsigned char *)"", n);
}

static void put_text(struct buf *b, const char *key, const char *text)
{
	mp_str(b, key);
	mp_str(b, text);
}

static void put_uint(struct buf *b, const char *key, uint64_t v)
{
	mp_str(b, key);
	mp_uint(b, v);
}

static void put_list(struct buf *b, const char *key, char *const *list, size_t n)
{
	mp_str(b, key);
	mp_array(b, n);
	for (size_t i = 0; i < n; i++)
		mp_str(b, list[i]);
}

/* In the shape in which its hello had it. */
static void put_worker(struct buf *b, const struct session *s)
{
	mp_str(b, "worker");
	if (!s->is_worker) {
		mp_nil(b);
		return;
	}
	mp_map(b, 6);
	put_text(b, "name", s->work.name);
	put_uint(b, "max_concurrency", s->work.max_concurrency);
	put_list(b, "namespaces", s->work.namespaces, s->work.n_namespaces);
	put_list(b, "handlers", s->work.handlers, s->work.n_handlers);
	mp_str(b, "open_ended");
	mp_bool(b, s->work.open_ended);
	mp_str(b, "broken");
	mp_array(b, s->work.n_broken);
	buf_join(b, &s->work.broken);
}

static void put_steps(struct buf *b, const struct session *s)
{
	const struct open_step *o;
	mp_str(b, "steps");
	mp_array(b, s->work.open);
	TAILQ_FOREACH(o, &s->work.steps, link) {
		mp_array(b, 4);
		mp_bin(b, &o->key.uuid, sizeof o->key.uuid);
		mp_uint(b, o->key.fence);
		mp_int(b, o->claim->attempt);
		mp_bool(b, o->ended);
	}
}

static void put_session(struct buf *b, const struct session *s)
{
	mp_map(b, 13);
	put_uint(b, "socket", s->id);
	put_uint(b, "pid", (uint64_t)s->who.pid);
	put_uint(b, "uid", s->who.uid);
	put_text(b, "token", s->work.token);
	put_bytes(b, "worker_uuid", s->work.uuid.b, sizeof s->work.uuid.b);
	put_text(b, "client", s->client);
	put_text(b, "language", s->work.language);
	put_uint(b, "done", s->work.rate.done);
	mp_str(b, "draining");
	mp_bool(b, s->draining);
	put_bytes(b, "in", s->wire.in.data, s->wire.in.len);
	put_bytes(b, "out", s->wire.out.len > 0 ? s->wire.out.data + s->wire.out_off : NULL,
	          s->wire.out.len - s->wire.out_off);
	put_worker(b, s);
	put_steps(b, s);
}

static int store_fd(const char *name, int fd)
{
	char text[96];
	snprintf(text, sizeof text, "FDSTORE=1\nFDNAME=%s", name);
	return service_give(text, fd, HANDOFF_MS * USEC_PER_MSEC);
}

static int write_all(int fd, const unsigned char *p, size_t n)
{
	while (n > 0) {
		ssize_t w = write(fd, p, n);
		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return -errno;
		p += w;
		n -= (size_t)w;
	}
	return 0;
}

static int store_state(const struct buf *b)
{
	cleanup_(cleanup_close) int fd = memfd_create(HANDOFF_STATE, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int r = fd < 0 ? -errno : write_all(fd, b->data, b->len);
	if (r == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		r = -errno;
	return r < 0 ? r : store_fd(HANDOFF_STATE, fd);
}

/* Sockets first, what is known of them last. Negative: none is kept, unless the manager closes what it has been given
 * by itself. */
static int leave_sessions(struct server *srv, unsigned *ret_kept)
{
	struct session *s, *tmp;
	struct buf b;
	int r = 0;
	buf_init(&b, 0);
	mp_map(&b, 3);
	put_uint(&b, "schema", HANDOFF_SCHEMA);
	mp_str(&b, "terms");
	handoff_put_terms(&b, srv->opt);
	mp_str(&b, "sessions");
	size_t mark = mp_array_open(&b);
	HASH_ITER(hh, srv->sessions, s, tmp) {
		char name[48];
		if (!can_be_kept(s))
			continue;
		snprintf(name, sizeof name, HANDOFF_SOCKET "%llu", (unsigned long long)s->id);
		if ((r = store_fd(name, s->wire.fd)) < 0)
			break;
		put_session(&b, s);
		++*ret_kept;
	}
	mp_array_close(&b, mark, *ret_kept);
	if (r == 0)
		r = b.failed ? -ENOMEM : *ret_kept > 0 ? store_state(&b) : 0;
	buf_done(&b);
	/* Only when the manager has read it all may the process that it comes from be gone. */
	return r < 0 ? r : *ret_kept > 0 ? service_barrier(HANDOFF_MS * USEC_PER_MSEC) : 0;
}

static bool handoff_quiet(struct server *srv)
{
	return store_unanswered(srv->store) == 0;
}

static void finish_handoff(struct server *srv)
{
	unsigned kept = 0;
	server_flush(srv);
	int r = leave_sessions(srv, &kept);
	if (r < 0)
		log_event(LOG_SESSIONS_NOT_KEPT, NULL,
		          "sessions cannot be left with the service manager: %s; their workers resume by themselves",
		          strerror(-r));
	else
		log_info("%u of %zu sessions are left with the service manager", kept, srv->n_sessions);
}

bool handoff_check(struct server *srv)
{
	if (!srv->ever_up)
		return true;
	if (handoff_quiet(srv)) {
		finish_handoff(srv);
		return true;
	}
	if (now_mono() < srv->drain_until)
		return false;
	log_event(
		LOG_SESSIONS_NOT_KEPT, NULL,
		"requests are still under way after %d ms, so that no session is left with the service manager; workers resume by themselves",
		HANDOFF_MS);
	return true;
}

bool handoff_possible(void)
{
	const char *manager = getenv("NOTIFY_SOCKET");
	return manager && manager[0];
}

void handoff_begin(struct server *srv)
{
	struct session *s, *tmp;
	log_event(LOG_STOPPING, NULL,
	          "stopping for a restart: %zu sessions and %u running steps are left to the next daemon",
	          srv->n_sessions, HASH_COUNT(srv->steps));
	srv->handing = true;
	srv->drain_until = now_mono() + HANDOFF_MS * USEC_PER_MSEC;
	HASH_ITER(hh, srv->sessions, s, tmp)
		session_hold(s);
	pool_release_backlogs(srv);
	consumers_drain(srv);
	store_keep_lease(srv->store);
}

void handoff_forget(struct server *srv)
{
	struct session *s, *tmp;
	HASH_ITER(hh, srv->sessions, s, tmp)
		steps_forget(s);
}

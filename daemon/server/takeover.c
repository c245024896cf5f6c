/* A start after a restart: what the daemon before this one has left with the service manager (handoff.c) becomes
 * sessions again.
 *
 * The manager would pass it all to the next start too, so it is made to forget it before the first byte is read or
 * written: a daemon that dies from then on leaves closed sockets, whose workers resume. Nothing that was left is taken
 * on trust: the kernel says who the peer is, rules and quotas are asked as for a new session, and a step is a session's
 * only if the database says that this node still holds it. What does not pass is shut down, for closing it here is not
 * enough while the manager has it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>
#include "daemon/base/clock.h"
#include "daemon/base/err.h"
#include "daemon/base/hash.h"
#include "daemon/base/listen.h"
#include "daemon/base/log.h"
#include "daemon/base/need.h"
#include "daemon/base/service.h"
#include "daemon/core/uuid.h"
#include "daemon/server/admit.h"
#include "daemon/server/handoff.h"
#include "daemon/server/hello.h"
#include "daemon/server/pool.h"
#include "daemon/server/quota.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/server/step_ends.h"
#include "daemon/server/steps.h"
#include "daemon/server/unit.h"
#include "daemon/store/request.h"
#include "protocol/buf.h"
#include "protocol/mp.h"

#define STATE_MAX (1u << 30)
#define FORGET_MS 5000

struct left { /* by the daemon before */
	int state; /* the file, or -1 */
	struct left_socket {
		uint64_t id;
		int fd; /* -1: taken */
	} *sockets;
	size_t n;
};

/* Receiving -------------------------------------------------------------------------------------------------------- */

static bool take_passed(struct left *left, const char *name, int fd)
{
	size_t n = strlen(HANDOFF_SOCKET);
	char *end = NULL;
	if (strcmp(name, HANDOFF_STATE) == 0) {
		if (left->state >= 0)
			close(left->state);
		left->state = fd;
		return true;
	}
	if (strncmp(name, HANDOFF_SOCKET, n) != 0)
		return false;
	left->sockets[left->n++] = (struct left_socket){strtoull(name + n, &end, 10), fd};
	return true;
}

static void free_names(char **names)
{
	for (size_t i = 0; names && names[i]; i++)
		free(names[i]);
	free(names);
}

/* By its FileDescriptorName= it is for HTTP. */
static bool take_http(struct server *srv, const char *name, int fd)
{
	if (strcmp(name, "http") != 0 || srv->n_http_fds == LISTEN_MAX)
		return false;
	srv->http_fds[srv->n_http_fds++] = fd;
	return true;
}

static int receive(struct server *srv, struct left *left, int *ret_listen, struct err *e)
{
	char **names = NULL;
	int n = sd_listen_fds_with_names(1, &names), listeners = 0;
	left->sockets = calloc(n > 0 ? (size_t)n : 1, sizeof *left->sockets);
	if (!left->sockets || n < 0) {
		free_names(names);
		return err_set(e, n < 0 ? n : -ENOMEM, "internal", "what the service manager passes cannot be read");
	}
	for (int i = 0; i < n; i++)
		if (!take_passed(left, names[i], SD_LISTEN_FDS_START + i) &&
		    !take_http(srv, names[i], SD_LISTEN_FDS_START + i)) {
			*ret_listen = SD_LISTEN_FDS_START + i;
			listeners++;
		}
	free_names(names);
	return listeners > 1
	               ? err_set(e, -EINVAL, "internal",
	                         "systemd passed %d sockets, one is expected, and those for HTTP with FileDescriptorName=http",
	                         listeners)
	               : 0;
}

static void forget_one(const char *name)
{
	char text[96];
	snprintf(text, sizeof text, "FDSTOREREMOVE=1\nFDNAME=%s", name);
	service_tell(text);
}

/* Negative: nobody knows whether it has. */
static int make_manager_forget(const struct left *left)
{
	char name[48];
	forget_one(HANDOFF_STATE);
	for (size_t i = 0; i < left->n; i++) {
		snprintf(name, sizeof name, HANDOFF_SOCKET "%llu", (unsigned long long)left->sockets[i].id);
		forget_one(name);
	}
	return service_barrier(FORGET_MS * USEC_PER_MSEC);
}

static void shut(int fd)
{
	shutdown(fd, SHUT_RDWR);
	close(fd);
}

static void left_done(struct left *left)
{
	for (size_t i = 0; i < left->n; i++)
		if (left->sockets[i].fd >= 0)
			shut(left->sockets[i].fd);
	if (left->state >= 0)
		close(left->state);
	free(left->sockets);
}

static int take_socket(struct left *left, uint64_t id)
{
	for (size_t i = 0; i < left->n; i++)
		if (left->sockets[i].id == id) {
			int fd = left->sockets[i].fd;
			left->sockets[i].fd = -1;
			return fd;
		}
	return -1;
}

/* Reading what is known of them ------------------------------------------------------------------------------------ */

static int slurp(int fd, struct buf *out)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size <= 0 || st.st_size > STATE_MAX)
		return -EINVAL;
	for (off_t at = 0; at < st.st_size;) {
		void *to = buf_reserve(out, 65536);
		ssize_t n = to ? pread(fd, to, 65536, at) : -1;
		if (n <= 0)
			return to ? -EIO : -ENOMEM;
		buf_added(out, (size_t)n);
		at += n;
	}
	return 0;
}

static bool same_terms(const struct server *srv, const msgpack_object *root)
{
	struct buf then, now;
	const msgpack_object *terms;
	if (mp_get_array(root, "terms", &terms) != 1)
		return false;
	buf_init(&then, 0);
	buf_init(&now, 0);
	mp_object(&then, terms);
	handoff_put_terms(&now, srv->opt);
	bool same = !then.failed && !now.failed && then.len == now.len && memcmp(then.data, now.data, now.len) == 0;
	buf_done(&then);
	buf_done(&now);
	return same;
}

static bool copy_fixed(const msgpack_object *m, const char *key, char *out, size_t size)
{
	const char *p;
	size_t n;
	if (mp_get_str(m, key, &p, &n) != 1 || n >= size)
		return false;
	memcpy(out, p, n);
	out[n] = '\0';
	return true;
}

static bool append_bytes(const msgpack_object *m, const char *key, struct buf *out)
{
	const void *p;
	size_t n;
	if (mp_get_bin(m, key, &p, &n) != 1)
		return false;
	buf_append(out, p, n);
	return !out->failed;
}

/* A step of a session that was kept over a restart. */
struct kept_step {
	struct step_key key;
	int attempt;
	bool ended;
};

static bool read_step(const msgpack_object *o, struct kept_step *k)
{
	const msgpack_object *f = o->via.array.ptr;
	if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size != 4 || f[0].type != MSGPACK_OBJECT_BIN ||
	    f[0].via.bin.size != sizeof k->key.uuid || f[1].type != MSGPACK_OBJECT_POSITIVE_INTEGER ||
	    f[2].type != MSGPACK_OBJECT_POSITIVE_INTEGER || f[3].type != MSGPACK_OBJECT_BOOLEAN)
		return false;
	memcpy(&k->key.uuid, f[0].via.bin.ptr, sizeof k->key.uuid);
	k->key.fence = (uint32_t)f[1].via.u64;
	k->attempt = (int)f[2].via.u64;
	k->ended = f[3].via.boolean;
	return true;
}

static bool read_steps(struct session *s, const msgpack_object *m)
{
	const msgpack_object *list;
	if (mp_get_array(m, "steps", &list) != 1)
		return false;
	s->work.kept_steps = calloc(list->via.array.size + 1u, sizeof *s->work.kept_steps);
	for (uint32_t i = 0; s->work.kept_steps && i < list->via.array.size; i++, s->work.n_kept_steps++)
		if (!read_step(&list->via.array.ptr[i], &s->work.kept_steps[i]))
			return false;
	return s->work.kept_steps != NULL;
}

static bool read_session(struct session *s, const msgpack_object *m)
{
	const msgpack_object *worker;
	const void *uuid;
	size_t n;
	int64_t done = 0, pid = 0, uid = 0;
	struct err e = {0};
	bool known = mp_get_int(m, "pid", 0, INT32_MAX, &pid) == 1 && mp_get_int(m, "uid", 0, UINT32_MAX, &uid) == 1 &&
	             (pid_t)pid == s->who.pid && (uid_t)uid == s->who.uid;
	if (!known || mp_get_bin(m, "worker_uuid", &uuid, &n) != 1 || n != sizeof s->work.uuid.b)
		return false;
	memcpy(s->work.uuid.b, uuid, n);
	if (mp_get_map(m, "worker", &worker) == 1 && session_read_worker(s, worker, &e) < 0)
		return false;
	if (mp_get_int(m, "done", 0, INT64_MAX, &done) != 1 || mp_get_bool(m, "draining", &s->draining) != 1)
		return false;
	s->work.rate.done = s->work.rate.before = (uint64_t)done;
	s->work.told_to_finish = s->draining; /* whoever has begun to leave goes on with it */
	unit_of(s->who.pid, s->work.unit, sizeof s->work.unit);
	return copy_fixed(m, "token", s->work.token, sizeof s->work.token) &&
	       copy_fixed(m, "client", s->client, sizeof s->client) &&
	       copy_fixed(m, "language", s->work.language, sizeof s->work.language) &&
	       append_bytes(m, "in", &s->wire.in) && append_bytes(m, "out", &s->wire.out) && read_steps(s, m);
}

static bool restore(struct server *srv, struct left *left, const msgpack_object *m)
{
	int64_t id;
	struct err e = {0};
	int fd = m->type == MSGPACK_OBJECT_MAP && mp_get_int(m, "socket", 0, INT64_MAX, &id) == 1
	                 ? take_socket(left, (uint64_t)id)
	                 : -1;
	if (fd < 0)
		return false; /* the peer has gone meanwhile, and the manager has dropped it */
	struct session *s = quota_connect(srv, fd, &e) == 0 ? session_new(srv, fd) : NULL;
	if (!s) {
		shut(fd);
		return false;
	}
	session_hold(s);
	if (read_session(s, m) && admit_session(s, &e) == 0 &&
	    (!s->is_worker || quota_may_have_slots(s, s->work.max_concurrency, &e) == 0)) {
		s->state = SESSION_OPEN;
		s->work.held = 1; /* nothing is given to it before it has back what it had */
		if (s->is_worker)
			quota_slots(s, s->work.max_concurrency);
		return true;
	}
	shutdown(fd, SHUT_RDWR);
	s->is_worker = false;
	session_close(s, "what was kept of it does not fit");
	return false;
}

/* Returns why nothing is taken over, or NULL. */
static const char *restore_all(struct server *srv, struct left *left, unsigned *ret_n)
{
	struct buf text;
	struct mp_value v = {0};
	const msgpack_object *list = NULL;
	int64_t schema = 0;
	const char *why = NULL;
	buf_init(&text, STATE_MAX);
	if (left->state < 0)
		why = "it is not known whose they are";
	else if (slurp(left->state, &text) < 0 || mp_decode(text.data, text.len, &v) < 0 ||
	         v.root.type != MSGPACK_OBJECT_MAP)
		why = "what is known of them cannot be read";
	else if (mp_get_int(&v.root, "schema", 0, INT32_MAX, &schema) != 1 || schema != HANDOFF_SCHEMA ||
	         mp_get_array(&v.root, "sessions", &list) != 1)
		why = "another version of taskerd has left them";
	else if (!same_terms(srv, &v.root))
		why = "limits that they were told have been changed";
	for (uint32_t i = 0; !why && i < list->via.array.size; i++)
		*ret_n += restore(srv, left, &list->via.array.ptr[i]);
	mp_value_done(&v);
	buf_done(&text);
	return why;
}

int takeover(struct server *srv, int *ret_listen, struct err *e)
{
	struct left left = {.state = -1};
	unsigned n = 0;
	*ret_listen = -1;
	int r = receive(srv, &left, ret_listen, e);
	if (r == 0 && (left.n > 0 || left.state >= 0)) {
		const char *why = make_manager_forget(&left) < 0
		                          ? "the service manager does not say that it has let go of them"
		                          : restore_all(srv, &left, &n);
		if (why)
			log_event(LOG_SESSIONS_NOT_KEPT, NULL,
			          "%zu sessions that were left before the restart are closed: %s; their workers resume",
			          left.n, why);
		else
			log_event(LOG_SESSIONS_KEPT, NULL, "%u of %zu sessions from before the restart are still open",
			          n, left.n);
	}
	left_done(&left);
	return r;
}

/* Going on --------------------------------------------------------------------------------------------------------- */

/* Its attempt is over, ended meanwhile or before: the place is taken until the worker says something. */
static void take_ended(struct session *s, const struct kept_step *k)
{
	unsigned no;
	struct claim *c = need(calloc(1, sizeof *c));
	if (!uuid_split_step(&k->key.uuid, &c->task, &no)) {
		claim_free(c);
		return;
	}
	c->step_no = (int)no;
	c->fence = (int)k->key.fence;
	c->attempt = k->attempt;
	buf_init(&c->body, 0);
	struct open_step *o = step_new(s->srv, c);
	o->ended = true;
	step_resume(s, o);
	if (!k->ended)
		step_send_cancel(o, "stale");
}

static void go_on(struct session *s)
{
	for (size_t i = 0; i < s->work.n_kept_steps; i++)
		if (!step_held(s, &s->work.kept_steps[i].key))
			take_ended(s, &s->work.kept_steps[i]);
	free(s->work.kept_steps);
	s->work.kept_steps = NULL;
	s->work.n_kept_steps = 0;
	s->work.held = 0;
	if (s->is_worker) {
		s->work.announced = true; /* by the daemon before */
		worker_announce(s);
		pool_join(s);
	}
	session_release_hold(s);
}

void takeover_finish(struct server *srv)
{
	struct session *s, *tmp;
	HASH_ITER(hh, srv->sessions, s, tmp)
		if (s->wire.kept && s->state == SESSION_OPEN)
			go_on(s);
}

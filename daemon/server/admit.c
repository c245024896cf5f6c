/* Who may do what. Each message names the role it needs and how it tells its namespace (the message table); here that
 * is held against what the rules of the option `access` grant the peer. What a request names by its uuid is looked up
 * first, and of what the peer may not see it is said that it is not there. Without rules nothing here happens. */
#include "daemon/server/admit.h"

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
#include "daemon/base/log.h"
#include "daemon/config/access.h"
#include "daemon/core/uuid.h"
#include "daemon/server/hello.h"
#include "daemon/server/message.h"
#include "daemon/server/pool.h"
#include "daemon/server/reply.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/server/step_ends.h"
#include "daemon/server/submit.h"
#include "daemon/store/request.h"
#include "protocol/buf.h"
#include "protocol/mp.h"
#include "protocol/mpjson.h"
#include "protocol/msg.h"

const char API_NAMESPACES_OF[] = "tasker.api_namespaces_of";

#define GROUPS_MAX 65536 /* of a process, as Linux has it */

/* Root and the daemon's own user could read its memory: rules for them would be a pretence, and a mistake in them would
 * lock everybody out. */
static bool is_above_rules(uid_t uid)
{
	return uid == 0 || uid == geteuid();
}

struct access peer_access(const struct server *srv, int fd, uid_t uid, gid_t gid)
{
	cleanup_(cleanup_free) gid_t *gids = NULL;
	socklen_t len = 0;
	if (!srv->opt->access || is_above_rules(uid))
		return access_of(NULL, uid, NULL, 0);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &len) < 0 && errno != ERANGE)
		len = 0;
	gids = calloc(GROUPS_MAX + 1u, sizeof *gids); /* untouched pages cost nothing */
	if (!gids)
		return access_of(srv->opt->access, uid, &gid, 1);
	gids[0] = gid;
	len = len > GROUPS_MAX * sizeof *gids ? (socklen_t)(GROUPS_MAX * sizeof *gids) : len;
	if (len > 0 && getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, gids + 1, &len) < 0)
		len = 0;
	return access_of(srv->opt->access, uid, gids, 1 + len / sizeof *gids);
}

/* Refusing --------------------------------------------------------------------------------------------------------- */

struct name {
	char text[PRINCIPAL_NAME_MAX + 8];
};

static struct name name_of(const struct session *s)
{
	struct name n;
	if (s->who.principal[0])
		snprintf(n.text, sizeof n.text, "%s", s->who.principal);
	else
		snprintf(n.text, sizeof n.text, "uid %u", (unsigned)s->who.uid);
	return n;
}

/* `ns` NULL: in no namespace, or (with `all`) not in every one. */
static void set_denied(const struct session *s, enum role role, const char *ns, size_t n, bool all, struct err *e)
{
	if (role == ROLE_NONE)
		err_set(e, -EACCES, "permission_denied", "%s is granted nothing by the daemon's configuration (access)",
		        name_of(s).text);
	else if (ns)
		err_set(e, -EACCES, "permission_denied", "%s lacks the role %s in namespace %.*s", name_of(s).text,
		        role_names[role], (int)(n < 64 ? n : 64), ns);
	else
		err_set(e, -EACCES, "permission_denied", "%s lacks the role %s%s", name_of(s).text, role_names[role],
		        all ? " in all namespaces, which this asks about" : "");
}

static void note_denied(struct session *s, const char *what, const struct err *e)
{
	char left_out[LEFT_OUT_MAX] = "";
	s->srv->c_denied++;
	if (ratelimit_ok(&s->srv->peer_log, now_mono(), left_out))
		log_event(LOG_ACCESS_DENIED, NULL, "session %llu (pid %d, uid %u): %s refused: %s%s",
		          (unsigned long long)s->id, (int)s->who.pid, (unsigned)s->who.uid, what, e->text, left_out);
}

static void put_details(struct buf *b, enum role role, const char *ns, size_t n)
{
	mp_map(b, ns ? 2 : 1);
	mp_str(b, "role");
	mp_str(b, role_names[role]);
	if (!ns)
		return;
	mp_str(b, "namespace");
	mp_strn(b, ns, n);
}

/* Answer a request, or tell the sender of a notification. */
static void deny(struct session *s, const char *what, bool request, uint32_t id, enum role role, const char *ns,
                 size_t n, bool all)
{
	struct err e = {0};
	struct buf details;
	set_denied(s, role, ns, n, all, &e);
	note_denied(s, what, &e);
	buf_init(&details, 0);
	put_details(&details, role, ns, n);
	if (ns)
		snprintf(e.path, sizeof e.path, "namespace");
	size_t mark = request ? error_begin(s, id) : notify_begin(s, "error");
	write_error_details(&s->wire.out, &e, &details);
	if (request)
		error_end(s, mark);
	else
		notify_end(s, mark);
	buf_done(&details);
}

int admit_namespace(struct session *s, enum msg_id m, const char *ns, size_t n, struct err *e)
{
	if (access_allows(&s->who.access, msg_infos[m].role, ns, n))
		return 0;
	set_denied(s, msg_infos[m].role, ns, n, false, e);
	note_denied(s, msg_infos[m].name, e);
	return -EACCES;
}

int admit_everywhere(struct session *s, enum msg_id m, struct err *e)
{
	if (access_everywhere(&s->who.access, msg_infos[m].role))
		return 0;
	set_denied(s, msg_infos[m].role, NULL, 0, true, e);
	note_denied(s, msg_infos[m].name, e);
	return -EACCES;
}

int admit_session(struct session *s, struct err *e)
{
	enum role role = s->is_worker ? ROLE_WORK : ROLE_NONE;
	if (!access_has(&s->who.access, role))
		set_denied(s, role, NULL, 0, false, e);
	for (size_t i = 0; s->is_worker && i < s->work.n_namespaces && !e->code[0]; i++)
		if (strcmp(s->work.namespaces[i], "*") != 0 &&
		    !access_allows(&s->who.access, ROLE_WORK, s->work.namespaces[i], strlen(s->work.namespaces[i]))) {
			set_denied(s, ROLE_WORK, s->work.namespaces[i], strlen(s->work.namespaces[i]), false, e);
			snprintf(e->path, sizeof e->path, "worker.namespaces[%zu]", i);
		}
	if (!e->code[0])
		return 0;
	note_denied(s, "hello", e);
	return -EACCES;
}

/* The namespaces a peer may see ------------------------------------------------------------------------------------ */

static void put_quoted(const char *ns, void *arg)
{
	struct buf *json = arg;
	/* letters, digits and underscores */
	buf_printf(json, "%s\"%s\"", json->len > 0 && json->data[json->len - 1] != '[' ? "," : "", ns);
}

void admit_put_within(const struct session *s, enum msg_id m, struct buf *json)
{
	if (msg_infos[m].scope != SCOPE_LIST || access_everywhere(&s->who.access, msg_infos[m].role))
		return;
	json->len--; /* the closing bracket */
	buf_append_str(json, json->len > 1 ? ",\"within\":[" : "\"within\":[");
	access_each_namespace(&s->who.access, msg_infos[m].role, put_quoted, json);
	buf_append_str(json, "]}");
}

/* What a request names by its uuid --------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	bool step, entry;
} items[] = {{"task_uuid", false, false}, {"step_uuid", true, false}, {"entry", false, true}};
#define N_ITEMS (sizeof items / sizeof *items)

/* {"tasks": [...], "entries": [...]}. Returns how many, or -ENOENT: one of them cannot be anything. */
static int put_items(const msgpack_object *params, char *out, size_t size)
{
	char tasks[128] = "", entries[64] = "";
	int n = 0;
	for (size_t i = 0; i < N_ITEMS; i++) {
		const char *p = "";
		size_t len = 0;
		struct uuid u, task;
		unsigned no;
		char text[UUID_TEXT];
		if (mp_get_str(params, items[i].name, &p, &len) != 1)
			continue;
		if (uuid_parse(p, len, &u) < 0 || (items[i].step && !uuid_split_step(&u, &task, &no)))
			return -ENOENT;
		uuid_format(items[i].step ? &task : &u, text);
		char *to = items[i].entry ? entries : tasks;
		size_t at = strlen(to), room = items[i].entry ? sizeof entries : sizeof tasks;
		snprintf(to + at, room - at, "%s\"%s\"", at ? "," : "", text);
		n++;
	}
	snprintf(out, size, "{\"tasks\":[%s],\"entries\":[%s]}", tasks, entries);
	return n;
}

static void reply_not_there(struct session *s, uint32_t id, const msgpack_object *params)
{
	const char *path = "task_uuid";
	for (size_t i = 0; i < N_ITEMS; i++)
		if (mp_get(params, items[i].name))
			path = items[i].name;
	reply_errorf(s, id, "not_found", path, "there is no such %s",
	             strcmp(path, "task_uuid") == 0 ? "task"
	             : strcmp(path, "entry") == 0   ? "dead-letter entry"
	                                            : "step");
}

/* False: nothing is named, which the message's function will complain about. */
static bool ask_namespaces(struct session *s, enum msg_id m, uint32_t id, const msgpack_object *params)
{
	char args[320];
	int n = put_items(params, args, sizeof args);
	if (n == 0)
		return false;
	if (n < 0) {
		reply_not_there(s, id, params);
		return true;
	}
	struct req *r = req_for(s, id, REQ_API);
	if (!r)
		return true;
	buf_init(&r->api.kept, 0);
	mp_object(&r->api.kept, params);
	text_set(&r->api.args, args, strlen(args));
	r->api.message = (int)m;
	r->api.function = API_NAMESPACES_OF;
	r->api.mode = API_READ;
	submit_call(s, r);
	return true;
}

static bool may_see_all(struct session *s, enum msg_id m, const struct buf *answer)
{
	struct mp_value v;
	const msgpack_object *names = NULL;
	if (mp_decode(answer->data, answer->len, &v) < 0)
		return false;
	bool ok = mp_get_array(&v.root, "namespaces", &names) == 1 && names->via.array.size > 0;
	for (uint32_t i = 0; ok && i < names->via.array.size; i++) {
		const msgpack_object *o = &names->via.array.ptr[i];
		ok = o->type == MSGPACK_OBJECT_STR &&
		     access_allows(&s->who.access, msg_infos[m].role, o->via.str.ptr, o->via.str.size);
	}
	mp_value_done(&v);
	return ok;
}

void namespaces_answered(struct server *srv, struct req *r)
{
	struct session *s = session_find(srv, r->origin.session);
	enum msg_id m = (enum msg_id)r->api.message;
	struct mp_value v;
	if (!s || !session_speaks(s))
		return;
	if (r->failed) {
		reply_error(s, r->origin.request, &r->err);
	} else if (r->api.kept.failed || mp_decode(r->api.kept.data, r->api.kept.len, &v) < 0) {
		reply_errorf(s, r->origin.request, "overloaded", NULL, "out of memory");
	} else {
		if (may_see_all(s, m, &r->answer))
			message_run(s, m, r->origin.request, &v.root);
		else
			reply_not_there(s, r->origin.request, &v.root);
		mp_value_done(&v);
	}
}

/* Admitting -------------------------------------------------------------------------------------------------------- */

/* The namespace that is named, or the default one if `fallback`. False: none. */
static bool named(const msgpack_object *params, bool fallback, const char **ret, size_t *ret_n)
{
	if (mp_get_str(params, "namespace", ret, ret_n) == 1)
		return true;
	*ret = "default";
	*ret_n = strlen(*ret);
	return fallback;
}

bool admitted(struct session *s, enum msg_id m, bool request, uint32_t id, const msgpack_object *params)
{
	const struct msg_info *info = &msg_infos[m];
	const char *ns;
	size_t n;
	if (!s->who.access.rules || m == MSG_HELLO) /* which is for admit_session */
		return true;
	if (!access_has(&s->who.access, info->role)) {
		deny(s, info->name, request, id, info->role, NULL, 0, false);
		return false;
	}
	switch (info->scope) {
	case SCOPE_NONE:
	case SCOPE_OWN:
		return true;
	case SCOPE_NAMED:
	case SCOPE_LIST:
		if (!named(params, info->scope == SCOPE_NAMED, &ns, &n) ||
		    access_allows(&s->who.access, info->role, ns, n))
			return true;
		deny(s, info->name, request, id, info->role, ns, n, false);
		return false;
	case SCOPE_ITEM:
		return access_everywhere(&s->who.access, info->role) || !ask_namespaces(s, m, id, params);
	case SCOPE_ALL:
		if (access_everywhere(&s->who.access, info->role))
			return true;
		deny(s, info->name, request, id, info->role, NULL, 0, true);
		return false;
	}
	return false;
}

/* Other rules ------------------------------------------------------------------------------------------------------ */

/* What is pushed to it, or waits on its behalf, was granted when it was asked for. */
static bool is_served(const struct session *s)
{
	return s->n_watches > 0 || s->n_waits > 0 || s->n_consumers > 0 || s->subscriber;
}

/* Told, and closed; what it runs goes to others and costs no attempt. */
static void expel(struct session *s)
{
	struct err e = {0};
	err_set(&e, -EACCES, "permission_denied",
	        "the daemon's configuration (access) no longer grants uid %u what this session was opened for",
	        (unsigned)s->who.uid);
	log_event(LOG_ACCESS_WITHDRAWN, NULL, "session %llu (pid %d, uid %u) is closed: %s", (unsigned long long)s->id,
	          (int)s->who.pid, (unsigned)s->who.uid, e.text);
	s->said_goodbye = true;
	notify_error(s, &e);
	session_close_after_flush(s);
}

static void readmit(struct session *s)
{
	struct access before = s->who.access;
	struct err e = {0};
	if (s->who.own_rules)
		return; /* of a token, not of the configuration */
	if (s->local) {
		session_close(s, "the rules of access have changed");
		return;
	}
	s->who.access = peer_access(s->srv, s->wire.fd, s->who.uid, s->who.gid);
	if (s->state != SESSION_OPEN || s->wire.closing)
		return; /* it has yet to say what it wants, or goes anyway */
	bool less = !access_covers(&s->who.access, &before);
	if (less && (is_served(s) || admit_session(s, &e) < 0)) {
		expel(s);
	} else if (s->is_worker) {
		steps_withdraw(s);
		if (s->work.pool) { /* which handlers it may run depends on its namespaces */
			pool_leave(s);
			pool_join(s);
		}
		worker_announce(s);
	}
}

void sessions_readmit(struct server *srv)
{
	struct session *s, *tmp;
	HASH_ITER(hh, srv->sessions, s, tmp) {
		if (s->state == SESSION_DETACHED)
			session_release(s); /* of a peer that is away nothing can be asked */
		else if (s->state != SESSION_DEAD)
			readmit(s);
	}
}

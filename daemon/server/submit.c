/* Requests of clients on their way to the store: whether they can be taken on, and their values as JSON. */
#include "daemon/server/submit.h"

#include <errno.h>
#include <stdio.h>
#include "daemon/base/err.h"
#include "daemon/server/bounds.h"
#include "daemon/server/quota.h"
#include "daemon/server/reply.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/store/request.h"
#include "daemon/store/store.h"
#include "protocol/buf.h"
#include "protocol/mpjson.h"

int may_submit(struct server *srv, enum req_kind kind, struct err *e)
{
	if (srv->draining && kind == REQ_CREATE)
		return err_set(e, -EAGAIN, "shutting_down", "the daemon is stopping");
	/* Creations would wait without a bound; other calls find out by themselves whether it is back. */
	if (!srv->db_up && (kind == REQ_CREATE || !srv->ever_up))
		return err_set(e, -EAGAIN, "database_unavailable", "the database cannot be reached%s%s",
		               srv->db_error[0] ? ": " : "", srv->db_error);
	if (srv->db_stuck[0] && kind == REQ_CREATE)
		return err_set(e, -EAGAIN, "database_unavailable", "the database writes nothing: %.400s",
		               srv->db_stuck);
	if (store_bytes(srv->store) > STORE_BYTES_MAX)
		return err_set(e, -EAGAIN, "overloaded", "more than %u MiB wait for the database",
		               STORE_BYTES_MAX >> 20);
	if (store_depth(srv->store) > QUEUE_OVERLOAD)
		return err_set(e, -EAGAIN, "overloaded", "more than %u requests wait for the database", QUEUE_OVERLOAD);
	return 0;
}

struct req *req_for(struct session *s, uint32_t id, enum req_kind kind)
{
	struct err e = {0};
	struct req *r = NULL;
	if (may_submit(s->srv, kind, &e) == 0 && quota_may_ask(s, &e) == 0 &&
	    !(r = req_new(kind, (struct origin){.session = s->id, .request = id})))
		err_set(&e, 0, "overloaded", "out of memory");
	if (!r)
		reply_error(s, id, &e);
	return r;
}

void submit_call(struct session *s, struct req *r)
{
	r->counted = true;
	s->asked++;
	quota_submit(s, r);
}

/* How deep containers are nested in `o`; frames are at most DEPTH_MAX deep, so is the recursion. */
static unsigned depth_of(const msgpack_object *o)
{
	unsigned deepest = 0;
	if (o->type == MSGPACK_OBJECT_ARRAY)
		for (uint32_t i = 0; i < o->via.array.size; i++) {
			unsigned d = depth_of(&o->via.array.ptr[i]);
			deepest = d > deepest ? d : deepest;
		}
	else if (o->type == MSGPACK_OBJECT_MAP)
		for (uint32_t i = 0; i < o->via.map.size; i++) {
			unsigned d = depth_of(&o->via.map.ptr[i].val);
			deepest = d > deepest ? d : deepest;
		}
	else
		return 0;
	return deepest + 1;
}

int value_to_json(const msgpack_object *o, const char *name, size_t max, struct buf *out, struct err *e)
{
	struct mpjson_error je = {0};
	max = max ? max : out->max;
	if (depth_of(o) > VALUE_DEPTH_MAX) {
		err_set(e, -EINVAL, "invalid_value", "%s is nested more than %u deep", name, VALUE_DEPTH_MAX);
		snprintf(e->path, sizeof e->path, "%s", name);
		return -EINVAL;
	}
	int r = mp_to_json_max(o, name, max, out, &je);
	if (r == -EMSGSIZE) {
		err_set(e, r, "too_large", "%s is larger than %zu bytes as JSON", name, max);
		e->max = max;
		snprintf(e->path, sizeof e->path, "%s", name);
	} else if (r < 0) {
		err_set(e, r, r == -ENOMEM ? "overloaded" : "invalid_value", "%s: %s", je.path, je.what);
		snprintf(e->path, sizeof e->path, "%s", je.path);
	}
	return r;
}

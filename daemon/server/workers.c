/* Workers, found by what the database calls them, and sent home. */
#include "daemon/server/workers.h"

#include <string.h>
#include "daemon/base/hash.h"
#include "daemon/base/log.h"
#include "daemon/core/uuid.h"
#include "daemon/server/pool.h"
#include "daemon/server/reply.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/store/request.h"
#include "protocol/buf.h"
#include "protocol/mp.h"

const char API_WORKER_DRAIN[] = "tasker.api_worker_drain";

static struct session *worker_find(struct server *srv, const char *text, size_t n)
{
	struct uuid u;
	struct session *s, *tmp;
	if (uuid_parse(text, n, &u) < 0)
		return NULL;
	HASH_ITER(hh, srv->sessions, s, tmp)
		if (s->is_worker && s->state != SESSION_DEAD && !s->moved && uuid_eq(&s->work.uuid, &u))
			return s;
	return NULL;
}

struct session *worker_of(struct server *srv, const msgpack_object *w)
{
	const char *p;
	size_t n;
	return mp_get_str(w, "worker_uuid", &p, &n) == 1 ? worker_find(srv, p, n) : NULL;
}

/* It is to finish what it runs, and to end. */
static void worker_drain(struct session *s)
{
	if (s->work.told_to_finish)
		return;
	s->work.told_to_finish = true;
	s->draining = true;
	pool_leave(s);
	if (s->wire.fd >= 0) {
		size_t mark = notify_begin(s, "worker.finish");
		mp_map(&s->wire.out, 0);
		notify_end(s, mark);
	}
	log_info("worker %s (pid %d) is to finish what it runs, and to end",
	         s->work.name[0] ? s->work.name : "without a name", (int)s->who.pid);
	pool_run_backlog(s->srv);
	pool_claim(s->srv);
}

void worker_drain_answered(struct server *srv, const struct buf *answer)
{
	struct mp_value v;
	if (mp_decode(answer->data, answer->len, &v) < 0)
		return;
	struct session *s = worker_of(srv, &v.root);
	if (s)
		worker_drain(s);
	mp_value_done(&v);
}

void workers_drain(struct server *srv, struct done *d)
{
	char text[UUID_TEXT];
	for (struct settled *t = d->settled; t; t = t->next) {
		uuid_format(&t->task, text);
		struct session *s = worker_find(srv, text, strlen(text));
		if (s)
			worker_drain(s);
	}
}

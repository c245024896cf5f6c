/* What the log is told of steps and workers: the fields by which a task's story is found (journalctl TASKER_TASK=...),
 * for the daemon's own lines and those that workers send. */
#include "daemon/server/notes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include "daemon/base/clock.h"
#include "daemon/base/hash.h"
#include "daemon/base/log.h"
#include "daemon/config/access.h"
#include "daemon/core/uuid.h"
#include "daemon/server/pool.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/server/steps.h"
#include "daemon/server/traces.h"
#include "daemon/store/request.h"
#include "daemon/template/template.h"
#include "protocol/buf.h"
#include "protocol/mp.h"
#include "protocol/utf8.h"

/* A template's name by its id: claims carry it only among what they hand to workers. */
struct template_name {
	int id;
	UT_hash_handle hh;
	char name[256];
};

static const char *template_known(struct server *srv, int id)
{
	struct template_name *t;
	HASH_FIND_INT(srv->template_names, &id, t);
	return t ? t->name : NULL;
}

void note_template(struct server *srv, const struct claim *c)
{
	struct buf item;
	struct mp_value v;
	const char *name;
	size_t n;
	if (c->body.len == 0 || template_known(srv, c->template_id))
		return;
	buf_init(&item, 0);
	mp_map(&item, c->fields);
	buf_join(&item, &c->body);
	if (!item.failed && mp_decode(item.data, item.len, &v) == 0) {
		struct template_name *t = mp_get_str(&v.root, "template", &name, &n) == 1 ? calloc(1, sizeof *t) : NULL;
		if (t) {
			t->id = c->template_id;
			utf8_copy(t->name, sizeof t->name, name, n);
			HASH_ADD_INT(srv->template_names, id, t);
		}
		mp_value_done(&v);
	}
	buf_done(&item);
}

void notes_free(struct server *srv)
{
	struct template_name *t, *tmp;
	HASH_ITER(hh, srv->template_names, t, tmp) {
		HASH_DEL(srv->template_names, t);
		free(t);
	}
}

static const char *or_null(const char *text)
{
	return text && text[0] ? text : NULL;
}

static void put_all(struct note *n, struct server *srv, const struct session *s, int handler_id, int template_id)
{
	const struct handler *h = handler_find(srv, handler_id);
	if (s)
		uuid_format(&s->work.uuid, n->worker);
	const char *const list[] = {"TASKER_TASK",
	                            or_null(n->task),
	                            "TASKER_STEP",
	                            or_null(n->step),
	                            "TASKER_NAMESPACE",
	                            h ? h->ns : NULL,
	                            "TASKER_TEMPLATE",
	                            template_known(srv, template_id),
	                            "TASKER_HANDLER",
	                            h ? h->callable : NULL,
	                            "TASKER_ATTEMPT",
	                            or_null(n->attempt),
	                            "TASKER_WORKER",
	                            or_null(n->worker),
	                            "TASKER_WORKER_NAME",
	                            s ? or_null(s->work.name) : NULL,
	                            "TASKER_TRACE_ID",
	                            or_null(n->trace),
	                            "TASKER_SPAN_ID",
	                            or_null(n->span),
	                            NULL};
	_Static_assert(sizeof list == sizeof n->fields, "a note has room for all");
	memcpy(n->fields, list, sizeof list);
}

const char *const *note_result(struct note *n, struct server *srv, const struct req *r)
{
	const struct session *s = r->origin.session ? session_find(srv, r->origin.session) : NULL;
	*n = (struct note){0};
	uuid_format(&r->task, n->task);
	uuid_format(&r->result.step, n->step);
	snprintf(n->attempt, sizeof n->attempt, "%d", r->result.attempt);
	note_trace(n, srv, &r->result.trace, &r->task, &r->result.step, r->result.fence);
	put_all(n, srv, s, r->result.handler_id, r->result.template_id);
	return n->fields;
}

const char *const *note_step(struct note *n, const struct session *s, const struct uuid *step)
{
	const struct open_step *o = NULL;
	struct uuid task;
	unsigned no;
	*n = (struct note){0};
	if (step && uuid_split_step(step, &task, &no)) {
		TAILQ_FOREACH(o, &s->work.steps, link)
			if (uuid_eq(&o->key.uuid, step) && !o->ended)
				break;
		/* What was said late counts, but not of whoever may not work in every namespace: the step may be
		 * another's. */
		if (o || access_everywhere(&s->who.access, ROLE_WORK)) {
			uuid_format(step, n->step);
			uuid_format(&task, n->task);
		}
	}
	if (o) {
		note_template(s->srv, o->claim);
		snprintf(n->attempt, sizeof n->attempt, "%d", o->claim->attempt);
		note_trace(n, s->srv, &o->claim->trace, &task, step, o->claim->fence);
	}
	put_all(n, s->srv, s, o ? o->claim->handler_id : -1, o ? o->claim->template_id : -1);
	return n->fields;
}

/* An attempt that failed: loud if it was the last or the daemon ended it, so that nobody needs to ask the database why
 * a task stands still. */
void note_failure(struct server *srv, const struct req *r)
{
	struct note n;
	char left_out[LEFT_OUT_MAX] = "";
	bool last = strcmp(r->status, "failed") == 0,
	     ended_here = r->result.outcome == OUTCOME_TIMEOUT || r->result.outcome == OUTCOME_WORKER_LOST;
	if (r->result.outcome == OUTCOME_SUCCESS || r->result.outcome == OUTCOME_RELEASED)
		return;
	enum log_level lv = last || ended_here ? LOG_LV_WARN : LOG_LV_DEBUG;
	if (!log_wants(lv) || !ratelimit_ok(&srv->step_log, now_mono(), left_out))
		return;
	const char *const *fields = note_result(&n, srv, r);
	const char *how = outcome_names[r->result.outcome];
	if (last)
		log_event(LOG_STEP_FAILED, fields,
		          "step %s has failed: attempt %d ended as %s, and there is no other%s", n.step,
		          r->result.attempt, how, left_out);
	else if (ended_here)
		log_event(LOG_STEP_RETRIED, fields, "attempt %d of step %s ended as %s; it is tried again%s",
		          r->result.attempt, n.step, how, left_out);
	else
		log_fields(lv, fields, "attempt %d of step %s ended as %s; it is tried again", r->result.attempt,
		           n.step, how);
}

void note_refused_events(struct server *srv, const struct req *r)
{
	struct note n;
	char left_out[LEFT_OUT_MAX] = "";
	srv->c_events_refused += r->result.events_refused;
	if (!ratelimit_ok(&srv->peer_log, now_mono(), left_out))
		return;
	log_event(LOG_EVENTS_REFUSED, note_result(&n, srv, r),
	          "%u domain events of step %s (attempt %d) are not published: the attempt's event_errors say why%s",
	          r->result.events_refused, n.step, r->result.attempt, left_out);
}

void note_worker_gone(struct session *s, const char *why)
{
	struct note n;
	char left_out[LEFT_OUT_MAX] = "";
	if (!s->is_worker || s->said_goodbye || s->srv->stop || !ratelimit_ok(&s->srv->peer_log, now_mono(), left_out))
		return;
	log_event(LOG_WORKER_LOST, note_step(&n, s, NULL), "worker %s (pid %d, uid %u) is gone with %u steps: %s%s",
	          s->work.name[0] ? s->work.name : "without a name", (int)s->who.pid, (unsigned)s->who.uid,
	          s->work.open, why, left_out);
}

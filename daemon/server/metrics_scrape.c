/* Scrapes: what only the database knows is asked when somebody wants to know it, at most every METRICS_FRESH_US, and
 * server.metrics. */
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include "daemon/base/cleanup.h"
#include "daemon/base/clock.h"
#include "daemon/base/err.h"
#include "daemon/base/log.h"
#include "daemon/config/access.h"
#include "daemon/metrics/expo.h"
#include "daemon/server/api.h"
#include "daemon/server/front.h"
#include "daemon/server/metrics.h"
#include "daemon/server/metrics_kinds.h"
#include "daemon/server/reply.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/store/request.h"
#include "daemon/store/store.h"
#include "protocol/buf.h"
#include "protocol/mp.h"
#include "protocol/msg.h"

const char API_METRICS[] = "tasker.api_metrics";

typedef void scrape_fn(struct server *srv, void *arg);

struct scrape {
	TAILQ_ENTRY(scrape) link;
	scrape_fn *fn;
	void *arg;
};

static void call_all(struct server *srv)
{
	struct metrics *m = &srv->metrics;
	struct scrape *s;
	if (m->timer)
		event_del(m->timer);
	while ((s = TAILQ_FIRST(&m->waiting))) {
		TAILQ_REMOVE(&m->waiting, s, link);
		s->fn(srv, s->arg);
		free(s);
	}
}

static void on_patience_over(evutil_socket_t fd, short what, void *arg)
{
	struct server *srv = arg;
	(void)fd, (void)what;
	call_all(srv);
	server_flush(srv);
}

void metrics_stop_waiting(struct server *srv)
{
	call_all(srv);
	if (srv->metrics.timer)
		event_free(TAKE_PTR(srv->metrics.timer));
}

/* Whether the answer is on its way. */
static bool ask(struct server *srv)
{
	struct metrics *m = &srv->metrics;
	if (m->asking)
		return true;
	struct req *r = req_new(REQ_API, (struct origin){0});
	if (!r)
		return false;
	char args[48];
	int n = snprintf(args, sizeof args, "{\"namespaces\":%d}", srv->opt->metrics_templates);
	text_set(&r->api.args, args, (size_t)n);
	r->api.function = API_METRICS;
	r->api.mode = API_READ;
	store_submit(srv->store, r);
	return m->asking = true;
}

static bool is_fresh(const struct server *srv)
{
	return srv->metrics.db_at && now_mono() - srv->metrics.db_at < METRICS_FRESH_US;
}

/* Call `fn` as soon as what is asked of the database is fresh, or cannot be had soon: at once, or from the loop later.
 * Who waits when the daemon stops is called then. */
static void scrape(struct server *srv, scrape_fn *fn, void *arg)
{
	struct metrics *m = &srv->metrics;
	if (!m->timer)
		m->timer = event_new(srv->base, -1, 0, on_patience_over, srv);
	struct scrape *s = is_fresh(srv) || !srv->db_up || !srv->adopted || !m->timer ? NULL : calloc(1, sizeof *s);
	if (!s || !ask(srv)) {
		free(s);
		fn(srv, arg);
		return;
	}
	*s = (struct scrape){.fn = fn, .arg = arg};
	if (TAILQ_EMPTY(&m->waiting))
		event_add(m->timer, &(struct timeval){.tv_sec = METRICS_PATIENCE_MS / 1000,
		                                      .tv_usec = METRICS_PATIENCE_MS % 1000 * 1000});
	TAILQ_INSERT_TAIL(&m->waiting, s, link);
}

void metrics_answered(struct server *srv, struct req *r)
{
	struct metrics *m = &srv->metrics;
	m->asking = false;
	if (r->failed) {
		log_warn("%s: %s", r->api.function, r->err.text);
	} else {
		buf_done(&m->db);
		m->db = r->answer;
		buf_init(&r->answer, 0);
		m->db_at = now_mono();
	}
	call_all(srv);
}

/* server.metrics --------------------------------------------------------------------------------------------------- */

struct asker {
	uint64_t session;
	uint32_t request;
	enum expo_format format;
};

static void write_answer(struct server *srv, struct session *s, enum expo_format format, struct buf *out)
{
	const struct access *access = access_everywhere(&s->who.access, ROLE_READ) ? NULL : &s->who.access;
	if (format == EXPO_VALUES) {
		mp_map(out, 1);
		mp_str(out, "metrics");
		metrics_render(srv, format, access, out);
		return;
	}
	struct buf text;
	buf_init(&text, 0);
	metrics_render(srv, format, access, &text);
	mp_map(out, 2);
	mp_str(out, "content_type");
	mp_str(out, expo_content_types[format]);
	mp_str(out, "text");
	mp_strn(out, buf_text(&text), text.failed ? 0 : text.len);
	if (text.failed)
		out->failed = text.failed;
	buf_done(&text);
}

static void answer(struct server *srv, void *arg)
{
	struct asker *a = arg;
	struct session *s = session_find(srv, a->session);
	struct buf out;
	if (s)
		session_answered(s);
	if (s && session_speaks(s)) {
		buf_init(&out, 0);
		write_answer(srv, s, a->format, &out);
		reply_answer(s, a->request, &out);
		buf_done(&out);
	}
	free(a);
}

static int read_format(const msgpack_object *params, enum expo_format *ret, struct err *e)
{
	const msgpack_object *o = mp_get(params, "format");
	*ret = EXPO_VALUES;
	for (unsigned i = 0; o && i < EXPO_COUNT; i++)
		if (mp_str_eq(o, expo_format_names[i])) {
			*ret = (enum expo_format)i;
			return 0;
		}
	if (!o)
		return 0;
	err_set(e, -EINVAL, "bad_request", "format must be values, prometheus or openmetrics");
	snprintf(e->path, sizeof e->path, "format");
	return -EINVAL;
}

void on_server_metrics(struct session *s, uint32_t id, const msgpack_object *params)
{
	struct err e = {0};
	struct asker *a = calloc(1, sizeof *a);
	if (!a || read_format(params, &a->format, &e) < 0) {
		if (!a)
			err_set(&e, 0, "overloaded", "out of memory");
		reply_error(s, id, &e);
		free(a);
		return;
	}
	a->session = s->id;
	a->request = id;
	s->asked++;
	scrape(s->srv, answer, a);
}

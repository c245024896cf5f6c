/* Templates: read and checked by a thread, because a large one takes a second of it; the loop goes on meanwhile. One at
 * a time and in the order of their coming, so that what a session sends one after the other is read and registered in
 * that order. The thread is started by the first template. It gets copies, and shares nothing. */
#include "daemon/server/templates.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/base/cleanup.h"
#include "daemon/base/err.h"
#include "daemon/base/mailbox.h"
#include "daemon/server/admit.h"
#include "daemon/server/front.h"
#include "daemon/server/known_here.h"
#include "daemon/server/operate.h"
#include "daemon/server/quota.h"
#include "daemon/server/reply.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/server/submit.h"
#include "daemon/store/request.h"
#include "daemon/template/template.h"
#include "protocol/buf.h"
#include "protocol/mp.h"
#include "protocol/mpjson.h"
#include "protocol/utf8.h"

const char API_TEMPLATE_REGISTER[] = "tasker.register_template";

struct reading {
	struct mail mail; /* first */
	struct req *r;	  /* its text is the source; counted and charged like a call to the store */
	bool apply, strict, replace;
	char *environment; /* owned, or NULL */
	char filename[512];
	size_t max_findings; /* bytes */
	/* What has been found. */
	int rc; /* of template_parse or template_to_json */
	size_t errors;
	char ns[64];
	struct buf json;     /* what the database registers, without the closing bracket */
	struct buf findings; /* MessagePack: key and value */
};

struct template_reader {
	struct mailbox asked, read;
	struct event *ev;
	pthread_t thread;
	bool started;
	unsigned under_way;
	size_t bytes; /* of their texts */
};

#define TEXTS_MAX (64u << 20) /* bytes that may wait for the thread; one text always may */

static struct reading *reading_free(struct reading *g)
{
	if (!g)
		return NULL;
	req_free(g->r);
	free(g->environment);
	buf_done(&g->json);
	buf_done(&g->findings);
	free(g);
	return NULL;
}

/* The thread ------------------------------------------------------------------------------------------------------- */

/* As many findings as go into `max` bytes: what comes first is read first. */
static void copy_findings(struct buf *out, const msgpack_object *findings, size_t max)
{
	size_t mark = mp_array_open(out), n = 0;
	for (; n < findings->via.array.size; n++) {
		size_t before = out->len;
		mp_object(out, &findings->via.array.ptr[n]);
		if (out->len - mark > max) {
			out->len = before;
			break;
		}
	}
	mp_array_close(out, mark, n);
}

static void write_findings(struct buf *out, const struct findings *f, const char *filename, size_t max)
{
	struct buf json, all;
	struct mp_value v;
	buf_init(&json, 0);
	buf_init(&all, 0);
	mp_str(out, "findings");
	if (findings_to_json(f, filename, &json) == 0 && buf_text(&json) &&
	    json_to_mp(buf_text(&json), json.len, &all, NULL) == 0 && mp_decode(all.data, all.len, &v) == 0) {
		copy_findings(out, &v.root, max);
		mp_value_done(&v);
	} else {
		mp_array(out, 0); /* out of memory */
	}
	buf_done(&json);
	buf_done(&all);
}

static void read_one(struct reading *g)
{
	struct findings f = {0};
	struct template *t = NULL;
	struct template_opts opts = {.environment = g->environment, .strict = g->strict};
	g->rc = template_parse(g->r->api.args.s, g->r->api.args.n, &opts, &t, &f);
	g->errors = f.errors;
	if (g->rc == 0)
		snprintf(g->ns, sizeof g->ns, "%s", template_namespace(t));
	if (g->rc == 0 && g->apply)
		g->rc = template_to_json(t, &g->json);
	if (g->json.len > 0)
		g->json.len--; /* the closing bracket */
	write_findings(&g->findings, &f, g->filename, g->max_findings);
	template_free(t);
	findings_done(&f);
}

static void *reader_main(void *arg)
{
	struct template_reader *t = arg;
	for (struct mail *m, *next; (m = mailbox_wait(&t->asked, -1));)
		for (; m; m = next) {
			next = m->next;
			if (!mailbox_is_closed(&t->asked))
				read_one((struct reading *)m);
			mailbox_push(&t->read, m);
		}
	return NULL;
}

/* Answers ---------------------------------------------------------------------------------------------------------- */

static void answer_validated(struct session *s, const struct reading *g)
{
	size_t mark = reply_begin(s, g->r->origin.request);
	mp_map(&s->wire.out, 2);
	mp_str(&s->wire.out, "ok");
	mp_bool(&s->wire.out, g->rc == 0);
	buf_join(&s->wire.out, &g->findings);
	reply_end(s, mark);
}

static void refuse_template(struct session *s, const struct reading *g)
{
	char text[160];
	snprintf(text, sizeof text, "the template has %zu error%s; see details.findings", g->errors,
	         g->errors == 1 ? "" : "s");
	size_t mark = error_begin(s, g->r->origin.request);
	mp_map(&s->wire.out, 3);
	mp_str(&s->wire.out, "code");
	mp_str(&s->wire.out, "invalid_template");
	mp_str(&s->wire.out, "message");
	mp_str(&s->wire.out, text);
	mp_str(&s->wire.out, "details");
	mp_map(&s->wire.out, 1);
	buf_join(&s->wire.out, &g->findings);
	error_end(s, mark);
}

/* The answer of the database, with the findings (warnings) that go with it. */
struct applied {
	struct buf findings; /* MessagePack: key and value */
};

static void applied_free(void *arg)
{
	struct applied *a = arg;
	buf_done(&a->findings);
	free(a);
}

/* What is to be registered goes to the database. */
static void submit_template(struct session *s, struct reading *g)
{
	struct err e = {0};
	struct applied *a = NULL;
	struct req *r = NULL;
	buf_printf(&g->json, ",\"replace_unused\":%s,", g->replace ? "true" : "false");
	int rc = operate_put_by(s, &g->json, NULL);
	buf_append_char(&g->json, '}');
	if (rc < 0 || !buf_text(&g->json) || !(a = calloc(1, sizeof *a))) {
		err_set(&e, 0, "overloaded", "out of memory");
		reply_error(s, g->r->origin.request, &e);
	} else if ((r = req_for(s, g->r->origin.request, REQ_API))) {
		a->findings = g->findings;
		buf_init(&g->findings, 0);
		r->api.args.n = g->json.len;
		r->api.args.s = buf_take_text(&g->json);
		r->api.function = API_TEMPLATE_REGISTER;
		r->api.mode = API_WRITE;
		r->user = TAKE_PTR(a);
		r->user_free = applied_free;
		submit_call(s, r);
	}
	free(a);
}

static void answer_reading(struct session *s, struct reading *g)
{
	struct err e = {0};
	if (!g->apply && g->rc != -ENOMEM)
		answer_validated(s, g);
	else if (g->rc == -EINVAL)
		refuse_template(s, g);
	else if (g->rc == 0 && admit_namespace(s, MSG_TEMPLATE_APPLY, g->ns, strlen(g->ns), &e) < 0)
		reply_error(s, g->r->origin.request, &e);
	else if (g->rc < 0)
		reply_errorf(s, g->r->origin.request, "overloaded", NULL, "out of memory");
	else
		submit_template(s, g);
}

static void on_read(evutil_socket_t fd, short what, void *arg)
{
	struct server *srv = arg;
	(void)fd, (void)what;
	for (struct mail *m = mailbox_take(&srv->templates->read), *next; m; m = next) {
		struct reading *g = (struct reading *)m;
		struct session *s = session_find(srv, g->r->origin.session);
		next = m->next;
		srv->templates->under_way--;
		srv->templates->bytes -= g->r->api.args.n;
		quota_answered(srv, g->r);
		if (s && session_speaks(s))
			answer_reading(s, g);
		if (s)
			session_answered(s);
		reading_free(g);
	}
	server_flush(srv);
}

void template_applied(struct server *srv, struct req *r)
{
	struct applied *a = r->user;
	struct session *s = session_find(srv, r->origin.session);
	struct mp_value v;
	if (s && session_speaks(s) && r->failed) {
		reply_error(s, r->origin.request, &r->err);
	} else if (s && session_speaks(s) && mp_decode(r->answer.data, r->answer.len, &v) == 0) {
		size_t mark = reply_begin(s, r->origin.request);
		copy_map(&s->wire.out, &v.root, 1);
		buf_join(&s->wire.out, &a->findings);
		reply_end(s, mark);
		mp_value_done(&v);
	}
	applied_free(a);
}

/* Requests --------------------------------------------------------------------------------------------------------- */

static int start_reader(struct server *srv)
{
	struct template_reader *t = calloc(1, sizeof *t);
	sigset_t all, old;
	if (!t || mailbox_init(&t->asked) < 0) {
		free(t);
		return -ENOMEM;
	}
	srv->templates = t;
	t->read.fd = -1;
	if (mailbox_init(&t->read) < 0 ||
	    !(t->ev = event_new(srv->base, t->read.fd, EV_READ | EV_PERSIST, on_read, srv)) ||
	    event_add(t->ev, NULL) < 0)
		return -ENOMEM;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	t->started = pthread_create(&t->thread, NULL, reader_main, t) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return t->started ? 0 : -EAGAIN;
}

static struct reading *reading_new(const struct session *s, const msgpack_object *params)
{
	const char *name = "template";
	size_t n = strlen(name);
	struct reading *g = calloc(1, sizeof *g);
	if (!g)
		return NULL;
	buf_init(&g->json, 0);
	buf_init(&g->findings, 0);
	(void)!mp_get_bool(params, "strict", &g->strict);
	(void)!mp_get_bool(params, "replace_unused", &g->replace);
	(void)!mp_get_str(params, "filename", &name, &n);
	utf8_copy(g->filename, sizeof g->filename, name, n);
	g->max_findings = s->srv->opt->max_frame / 2;
	g->environment = s->srv->opt->environment ? strdup(s->srv->opt->environment) : NULL;
	return s->srv->opt->environment && !g->environment ? reading_free(g) : g;
}

static int may_read(const struct server *srv, size_t n, struct err *e)
{
	const struct template_reader *t = srv->templates;
	return t && t->under_way > 0 && t->bytes + n > TEXTS_MAX
	               ? err_set(e, -EAGAIN, "overloaded", "templates of more than %u MiB wait to be read",
	                         TEXTS_MAX >> 20)
	               : 0;
}

static void read_template(struct session *s, uint32_t id, const msgpack_object *params, bool apply)
{
	struct server *srv = s->srv;
	const char *source = "";
	size_t n = 0;
	struct err e = {0};
	(void)!mp_get_str(params, "source", &source, &n);
	if (quota_may_ask(s, &e) < 0 || may_read(srv, n, &e) < 0) {
		reply_error(s, id, &e);
		return;
	}
	int rc = srv->templates ? 0 : start_reader(srv);
	if (rc < 0)
		templates_stop(srv);
	struct reading *g = rc == 0 ? reading_new(s, params) : NULL;
	if (g && (g->r = req_new(REQ_API, (struct origin){.session = s->id, .request = id})))
		text_set(&g->r->api.args, source, n);
	if (!g || !g->r || !g->r->api.args.s) {
		reply_errorf(s, id, "overloaded", NULL, "out of memory");
		reading_free(g);
		return;
	}
	g->apply = apply;
	s->asked++;
	quota_charge(s, g->r);
	srv->templates->under_way++;
	srv->templates->bytes += n;
	mailbox_push(&srv->templates->asked, &g->mail);
}

void on_template_validate(struct session *s, uint32_t id, const msgpack_object *params)
{
	read_template(s, id, params, false);
}

void on_template_apply(struct session *s, uint32_t id, const msgpack_object *params)
{
	read_template(s, id, params, true);
}

unsigned templates_under_way(const struct server *srv)
{
	return srv->templates ? srv->templates->under_way : 0;
}

static void free_all(struct mailbox *box)
{
	for (struct mail *m = mailbox_take(box), *next; m; m = next) {
		next = m->next;
		reading_free((struct reading *)m);
	}
	mailbox_done(box);
}

void templates_stop(struct server *srv)
{
	struct template_reader *t = TAKE_PTR(srv->templates);
	if (!t)
		return;
	mailbox_close(&t->asked);
	if (t->started)
		pthread_join(t->thread, NULL);
	if (t->ev)
		event_free(t->ev);
	free_all(&t->asked);
	if (t->read.fd >= 0)
		free_all(&t->read);
	free(t);
}

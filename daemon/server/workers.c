/* What this process knows of its workers besides what the database has, and sending workers home. */
#include "daemon/server/impl.h"

#include <stdio.h>
#include <string.h>

const char API_WORKER_DRAIN[] = "tasker.api_worker_drain";

/* Rates --------------------------------------------------------------------------------------------------------------------- */

#define RATE_MEMORY_S 10.0

static void rate_tick(struct rate *r, double seconds)
{
	double now = (double)(r->done - r->before) / seconds;
	r->per_s += (now - r->per_s) * (seconds / (seconds + RATE_MEMORY_S));
	r->before = r->done;
}

void rates_tick(struct server *srv, usec_t now)
{
	double seconds = (double)(now - srv->rates_at) / (double)USEC_PER_SEC;
	struct session *s, *ts;
	struct handler *h, *th;
	if (seconds < 0.5)
		return;
	srv->rates_at = now;
	HASH_ITER(hh, srv->sessions, s, ts)
		if (s->worker)
			rate_tick(&s->rate, seconds);
	HASH_ITER(hh, srv->handlers, h, th)
		rate_tick(&h->rate, seconds);
}

void handler_did(struct server *srv, int id)
{
	struct handler *h;
	HASH_FIND_INT(srv->handlers, &id, h);
	if (h)
		h->rate.done++;
}

double rate_rounded(const struct rate *r)
{
	return (double)(int64_t)(r->per_s * 100 + 0.5) / 100;
}

/* The service manager's unit ------------------------------------------------------------------------------------------------ */

/* "0::/system.slice/taskerd-worker@shop.service/sub" belongs to taskerd-worker@shop.service: the last part that is a unit which processes are started in. */
static void unit_in(const char *path, char *out, size_t size)
{
	static const char *const kinds[] = {".service", ".scope"};
	for (const char *p = path; *p; p += strcspn(p, "/\n")) {
		p += strspn(p, "/");
		size_t n = strcspn(p, "/\n");
		for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
			size_t k = strlen(kinds[i]);
			if (n > k && n < size && memcmp(p + n - k, kinds[i], k) == 0)
				snprintf(out, size, "%.*s", (int)n, p);
		}
		if (p[n] != '/')
			break;
	}
}

void unit_of(pid_t pid, char *out, size_t size)
{
	char path[64], line[1024];
	snprintf(path, sizeof path, "/proc/%d/cgroup", (int)pid);
	FILE *f = fopen(path, "re");
	out[0] = '\0';
	while (f && fgets(line, sizeof line, f))
		if (strncmp(line, "0::", 3) == 0 || strstr(line, ":name=systemd:"))
			unit_in(strchr(line, '/') ? strchr(line, '/') : "", out, size);
	if (f)
		fclose(f);
}

/* Looking ------------------------------------------------------------------------------------------------------------------- */

static struct session *worker_find(struct server *srv, const char *text, size_t n)
{
	struct uuid u;
	struct session *s, *tmp;
	if (uuid_parse(text, n, &u) < 0)
		return NULL;
	HASH_ITER(hh, srv->sessions, s, tmp)
		if (s->worker && s->state != SESSION_DEAD && !s->moved && uuid_eq(&s->worker_uuid, &u))
			return s;
	return NULL;
}

static struct session *worker_of(struct server *srv, const msgpack_object *w)
{
	const char *p;
	size_t n;
	return mp_get_str(w, "worker_uuid", &p, &n) == 1 ? worker_find(srv, p, n) : NULL;
}

/* Its own numbers stand for what the database remembers. Leaves room for `more` pairs. */
static void put_worker(const msgpack_object *w, const struct session *s, struct buf *out, uint32_t more)
{
	uint32_t own = 0;
	for (uint32_t i = 0; i < w->via.map.size; i++)
		own += mp_str_eq(&w->via.map.ptr[i].key, "max_concurrency") || mp_str_eq(&w->via.map.ptr[i].key, "draining");
	mp_map(out, w->via.map.size - own + 5 + more);
	for (uint32_t i = 0; i < w->via.map.size; i++) {
		const msgpack_object_kv *kv = &w->via.map.ptr[i];
		if (mp_str_eq(&kv->key, "max_concurrency") || mp_str_eq(&kv->key, "draining"))
			continue;
		mp_object(out, &kv->key);
		mp_object(out, &kv->val);
	}
	mp_str(out, "max_concurrency");
	mp_uint(out, s->max_concurrency);
	mp_str(out, "open");
	mp_uint(out, s->open);
	mp_str(out, "done");
	mp_uint(out, s->rate.done);
	mp_str(out, "rate");
	mp_double(out, rate_rounded(&s->rate));
	mp_str(out, "draining");
	mp_bool(out, s->draining);
}

static void one_worker(struct server *srv, const msgpack_object *w, struct buf *out)
{
	const struct session *s = worker_of(srv, w);
	if (s)
		put_worker(w, s, out, 0);
	else
		mp_object(out, w);
}

void add_worker_load(struct server *srv, const msgpack_object *answer, struct buf *out)
{
	each_item(srv, answer, "workers", out, one_worker);
}

static void put_step(struct server *srv, const struct open_step *o, struct buf *out)
{
	char text[UUID_TEXT];
	struct handler *h = NULL;
	int id = o->claim ? o->claim->handler_id : 0;
	HASH_FIND_INT(srv->handlers, &id, h);
	mp_map(out, 5);
	uuid_format(&o->key.uuid, text);
	mp_str(out, "step_uuid");
	mp_str(out, text);
	mp_str(out, "task_uuid");
	if (o->claim)
		uuid_format(&o->claim->task, text);
	mp_str(out, o->claim ? text : NULL);
	mp_str(out, "attempt");
	mp_int(out, o->claim ? o->claim->attempt : 0);
	mp_str(out, "handler");
	mp_str(out, h ? h->callable : NULL);
	mp_str(out, "ended");
	mp_bool(out, o->ended);
}

/* A worker, and what it runs. */
void add_worker_steps(struct server *srv, const msgpack_object *answer, struct buf *out)
{
	const struct session *s = worker_of(srv, answer);
	const struct open_step *o;
	size_t n = 0;
	if (!s) {
		mp_object(out, answer);
		return;
	}
	put_worker(answer, s, out, 1);
	mp_str(out, "running");
	size_t mark = mp_array_open(out);
	TAILQ_FOREACH(o, &s->steps, link) {
		if (n == RUNNING_SHOWN_MAX)
			break;
		put_step(srv, o, out);
		n++;
	}
	mp_array_close(out, mark, n);
}

/* Sending home ---------------------------------------------------------------------------------------------------------------- */

void worker_drain(struct session *s)
{
	if (s->told_to_finish)
		return;
	s->told_to_finish = true;
	s->draining = true;
	pool_leave(s);
	if (s->fd >= 0) {
		size_t mark = notify_begin(s, "worker.finish");
		mp_map(&s->out, 0);
		notify_end(s, mark);
	}
	log_info("worker %s (pid %d) is to finish what it runs, and to end", s->name[0] ? s->name : "without a name", (int)s->pid);
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

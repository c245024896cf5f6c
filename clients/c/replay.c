/* Replay: a recorded step is run again here, with what the daemon has of it, and nothing is recorded. */
#include "clients/c/worker.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UUID_LEN 36u
#define STEP_DIGITS 6u /* at the end of a step's uuid: its number in the task, whose uuid has zeros there */

struct recording {
	tasker_answer *task, *template;
	const tasker_value *row;        /* the step, in the task */
	const tasker_value *definition; /* its step in the template */
	const tasker_value *steps;      /* of the template */
	bool *ancestors;                /* which of those it depends on */
};

static bool same_text(const tasker_value *a, const tasker_value *b)
{
	size_t na, nb;
	const char *ta = tasker_text(a, &na), *tb = tasker_text(b, &nb);
	return ta && tb && na == nb && memcmp(ta, tb, na) == 0;
}

static const tasker_value *template_name(const tasker_value *row)
{
	const tasker_value *named = tasker_get(row, "template_step");
	return named ? named : tasker_get(row, "name");
}

/* The place of a step in the template, or the number of its steps. */
static size_t place_of(const struct recording *r, const tasker_value *name)
{
	size_t i = 0, n = tasker_count(r->steps);
	while (i < n && !same_text(tasker_get(tasker_item(r->steps, i), "name"), name))
		i++;
	return i;
}

/* Recursion ends where a step was marked before; a template has no cycles. */
static void mark_ancestors(struct recording *r, const tasker_value *definition)
{
	const tasker_value *parents = tasker_get(definition, "depends_on");
	for (size_t i = 0; i < tasker_count(parents); i++) {
		size_t at = place_of(r, tasker_item(parents, i));
		if (at == tasker_count(r->steps) || r->ancestors[at])
			continue;
		r->ancestors[at] = true;
		mark_ancestors(r, tasker_item(r->steps, at));
	}
}

static int find_row(struct recording *r, const char *step_uuid, struct tasker_error *err)
{
	const tasker_value *rows = tasker_get(tasker_answer_value(r->task), "steps");
	char uuid[40];
	for (size_t i = 0; i < tasker_count(rows); i++) {
		tasker_copy(tasker_get(tasker_item(rows, i), "step_uuid"), uuid, sizeof uuid);
		if (strcmp(uuid, step_uuid) == 0)
			r->row = tasker_item(rows, i);
	}
	return r->row ? 0 : tasker_fail_(err, -ENOENT, "not_found", "there is no step %s", step_uuid);
}

static int fetch_template(tasker *t, struct recording *r, struct tasker_error *err)
{
	const tasker_value *task = tasker_answer_value(r->task);
	char *params =
	    tasker_jsonf("{\"namespace\":%v,\"name\":%v,\"version\":%v}", tasker_get(task, "namespace"),
	                 tasker_get(task, "name"), tasker_get(task, "version"));
	if (!params)
		return tasker_fail_(err, -ENOMEM, "out_of_memory", "out of memory");
	int rc = tasker_call(t, "template.get", params, t->call_timeout_ms, &r->template, err);
	free(params);
	if (rc < 0)
		return rc;
	r->steps = tasker_get(tasker_answer_value(r->template), "steps");
	size_t at = place_of(r, template_name(r->row));
	r->definition = tasker_item(r->steps, at);
	r->ancestors = calloc(tasker_count(r->steps) + 1, sizeof *r->ancestors);
	if (!r->definition || !r->ancestors)
		return tasker_fail_(err, -ENOENT, "not_found", "the template has no such step");
	mark_ancestors(r, r->definition);
	return 0;
}

static int fetch(tasker *t, const char *step_uuid, struct recording *r, struct tasker_error *err)
{
	char task_uuid[UUID_LEN + 1];
	if (strlen(step_uuid) != UUID_LEN)
		return tasker_fail_(err, -EINVAL, "bad_call", "%.64s is no uuid of a step", step_uuid);
	memcpy(task_uuid, step_uuid, sizeof task_uuid);
	memset(task_uuid + UUID_LEN - STEP_DIGITS, '0', STEP_DIGITS);
	int rc = tasker_task_get(t, task_uuid, true, &r->task, err);
	if (rc == 0)
		rc = find_row(r, step_uuid, err);
	return rc < 0 ? rc : fetch_template(t, r, err);
}

/* ---- the step as step.execute brings it ---- */

static void put(struct buf *b, const char *key, const tasker_value *v, size_t *n)
{
	if (!v)
		return;
	mp_str(b, key);
	mp_object(b, as_object(v));
	(*n)++;
}

static bool is_done(const tasker_value *row)
{
	const msgpack_object *state = as_object(tasker_get(row, "state"));
	return state && (mp_str_eq(state, "complete") || mp_str_eq(state, "resolved_manually"));
}

static void put_dependencies(struct buf *b, const struct recording *r)
{
	const tasker_value *rows = tasker_get(tasker_answer_value(r->task), "steps");
	mp_str(b, "dependencies");
	size_t mark = mp_map_open(b), n = 0;
	for (size_t i = 0; i < tasker_count(rows); i++) {
		const tasker_value *row = tasker_item(rows, i), *result = tasker_get(row, "result");
		if (!is_done(row) || !r->ancestors[place_of(r, template_name(row))])
			continue;
		mp_object(b, as_object(tasker_get(row, "name")));
		if (result)
			mp_object(b, as_object(result));
		else
			mp_nil(b);
		n++;
	}
	mp_map_close(b, mark, n);
}

static void put_step(struct buf *b, const struct recording *r)
{
	const tasker_value *task = tasker_answer_value(r->task), *row = r->row;
	static const char *const of_task[] = {"task_uuid", "namespace", "version",
	                                      "context",   "priority",  "correlation_id"};
	static const char *const of_row[] = {"step_uuid", "max_attempts", "inputs", "checkpoint"};
	size_t mark = mp_map_open(b), n = 0;
	int64_t attempts = tasker_int(tasker_get(row, "attempts"), 1);
	for (size_t i = 0; i < sizeof of_task / sizeof *of_task; i++)
		put(b, of_task[i], tasker_get(task, of_task[i]), &n);
	for (size_t i = 0; i < sizeof of_row / sizeof *of_row; i++)
		put(b, of_row[i], tasker_get(row, of_row[i]), &n);
	put(b, "template", tasker_get(task, "name"), &n);
	put(b, "step", tasker_get(row, "name"), &n);
	put(b, "template_step", tasker_get(r->definition, "name"), &n);
	put(b, "handler", tasker_get(r->definition, "handler"), &n);
	mp_str(b, "attempt");
	mp_int(b, attempts > 0 ? attempts : 1);
	put_dependencies(b, r);
	mp_map_close(b, mark, n + 2);
}

/* ---- comparing ---- */

static bool same(const msgpack_object *a, const msgpack_object *b);

/* Keys may stand in another order: the database keeps none. */
static bool same_maps(const msgpack_object *a, const msgpack_object *b)
{
	if (a->via.map.size != b->via.map.size)
		return false;
	for (uint32_t i = 0; i < a->via.map.size; i++) {
		const msgpack_object_kv *kv = &a->via.map.ptr[i], *other = NULL;
		for (uint32_t k = 0; k < b->via.map.size && !other; k++)
			if (same_text(as_value(&kv->key), as_value(&b->via.map.ptr[k].key)))
				other = &b->via.map.ptr[k];
		if (!other || !same(&kv->val, &other->val))
			return false;
	}
	return true;
}

static bool same_arrays(const msgpack_object *a, const msgpack_object *b)
{
	if (a->via.array.size != b->via.array.size)
		return false;
	for (uint32_t i = 0; i < a->via.array.size; i++)
		if (!same(&a->via.array.ptr[i], &b->via.array.ptr[i]))
			return false;
	return true;
}

static bool same_numbers(const tasker_value *a, const tasker_value *b)
{
	if (tasker_type(a) == TASKER_INT && tasker_type(b) == TASKER_INT)
		return tasker_int(a, 0) == tasker_int(b, 0);
	double x = tasker_double(a, 0), y = tasker_double(b, 0);
	return x <= y && x >= y;
}

static bool same(const msgpack_object *a, const msgpack_object *b)
{
	enum tasker_type ta = tasker_type(as_value(a)), tb = tasker_type(as_value(b));
	if ((ta == TASKER_INT || ta == TASKER_DOUBLE) && (tb == TASKER_INT || tb == TASKER_DOUBLE))
		return same_numbers(as_value(a), as_value(b));
	if (ta != tb)
		return false;
	switch (ta) {
	case TASKER_MAP:
		return same_maps(a, b);
	case TASKER_ARRAY:
		return same_arrays(a, b);
	case TASKER_STRING:
		return same_text(as_value(a), as_value(b));
	case TASKER_BOOL:
		return a->via.boolean == b->via.boolean;
	case TASKER_NIL:
	case TASKER_INT:
	case TASKER_DOUBLE:
	case TASKER_BYTES:
		break;
	}
	return ta == TASKER_NIL;
}

/* ---- running ---- */

/* A deferred step is finished by some thread of the program. */
static void wait_until_finished(struct tasker_worker *w)
{
	struct pollfd p = {.fd = w->shared->wake_fd, .events = POLLIN};
	struct tasker_step *done = NULL;
	struct post *posts;
	while (!done) {
		poll(&p, 1, -1);
		shared_awake(w->shared);
		shared_sweep(w->shared, &done, &posts);
	}
}

void worker_run_here(struct tasker_worker *w, struct tasker_step *s, const struct handler *h)
{
	s->in_handler = true;
	s->state = STEP_RUNNING;
	if (h->fn(h->arg, s) == TASKER_DEFERRED && !shared_returned(s)) {
		s->state = STEP_DEFERRED;
		wait_until_finished(w);
	}
}

static int print(const struct recording *r, const struct tasker_step *s, const char *callable,
                 struct tasker_error *err)
{
	static const unsigned char empty[] = {0x80};
	const tasker_value *recorded = tasker_get(r->row, "result");
	struct mp_value v;
	bool has = s->value.len > 0;
	if (mp_decode(has ? s->value.data : empty, has ? s->value.len : sizeof empty, &v) < 0)
		return tasker_fail_(err, -ENOMEM, "out_of_memory", "out of memory");
	bool equal = !s->failed && recorded && same(&v.root, as_object(recorded));
	char *text =
	    tasker_jsonf("{\"step\":%v,\"handler\":%s,\n"
	                 " \"recorded\":{\"state\":%v,\"attempts\":%v,\"result\":%v,\"error\":%v},\n"
	                 " \"replayed\":{\"success\":%b,\"result\":%v,\"error\":%v},\n"
	                 " \"same\":%b}",
	                 tasker_get(r->row, "name"), callable, tasker_get(r->row, "state"),
	                 tasker_get(r->row, "attempts"), recorded, tasker_get(r->row, "error"), !s->failed,
	                 s->failed ? NULL : as_value(&v.root), s->failed ? as_value(&v.root) : NULL, equal);
	if (text)
		puts(text);
	free(text);
	mp_value_done(&v);
	return text ? 0
	            : tasker_fail_(err, -EINVAL, "invalid_value", "the handler's result has no form as JSON");
}

static int replay_step(struct tasker_worker *w, const struct recording *r, struct tasker_error *err)
{
	const tasker_value *callable = tasker_get(tasker_get(r->definition, "handler"), "callable");
	const struct handler *h = worker_find_handler(w, callable);
	char name[256];
	struct buf b;
	tasker_copy(callable, name, sizeof name);
	if (!h)
		return tasker_fail_(err, -ENOENT, "not_found", "this program has no handler %s", name);
	buf_init(&b, 0);
	put_step(&b, r);
	struct msg_frame *f = msg_frame_of(&b);
	buf_done(&b);
	struct tasker_step *s = f ? step_new(w, f, &f->v.root) : NULL;
	msg_frame_unref(f);
	if (!s)
		return tasker_fail_(err, -ENOMEM, "out_of_memory", "out of memory");
	worker_run_here(w, s, h);
	int rc = print(r, s, name, err);
	step_free(s);
	return rc;
}

int worker_replay(struct tasker_worker *w, const char *step_uuid, struct tasker_error *err)
{
	const struct tasker_options o = {.socket_path = w->socket_path, .client = w->client};
	struct recording r = {0};
	tasker *t = NULL;
	int rc = tasker_connect(&t, &o, err);
	if (rc == 0)
		rc = fetch(t, step_uuid, &r, err);
	tasker_close(t);
	w->shared->replay = stderr;
	if (rc == 0)
		rc = replay_step(w, &r, err);
	tasker_answer_free(r.task);
	tasker_answer_free(r.template);
	free(r.ancestors);
	return rc;
}

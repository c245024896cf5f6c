#include "daemon/store/schemas.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/schema/schema.h"
#include "protocol/mpjson.h"

#define NAMES 64u

struct schema_names {
	size_t n, next; /* the oldest makes room */
	struct {
		char *name; /* namespace, name and version, or an empty one */
		int template_id;
	} rows[NAMES];
};

struct schema_names *schema_names_new(void)
{
	return calloc(1, sizeof(struct schema_names));
}

struct schema_names *schema_names_free(struct schema_names *s)
{
	for (size_t i = 0; s && i < s->n; i++)
		free(s->rows[i].name);
	free(s);
	return NULL;
}

static char *full_name(const struct req_create *q)
{
	char *name = NULL;
	return asprintf(&name, "%s\x1f%s\x1f%s", q->ns.s, q->name.s, q->version.s ? q->version.s : "") < 0 ? NULL
	                                                                                                   : name;
}

/* Its row, or NAMES. */
static size_t find_name(const struct schema_names *s, const char *name)
{
	for (size_t i = 0; name && i < s->n; i++)
		if (strcmp(s->rows[i].name, name) == 0)
			return i;
	return NAMES;
}

static void remember(struct schema_names *s, const struct req_create *q)
{
	char *name = full_name(q);
	size_t i = find_name(s, name);
	if (!name)
		return; /* it is found out again */
	if (i < NAMES) {
		free(name);
	} else {
		i = s->n < NAMES ? s->n++ : s->next++ % NAMES;
		free(s->rows[i].name);
		s->rows[i].name = name;
	}
	s->rows[i].template_id = q->template_id;
}

static void forget(struct schema_names *s, size_t i)
{
	free(s->rows[i].name);
	s->rows[i] = s->rows[--s->n];
	s->rows[s->n].name = NULL;
}

/* ---- what is said ---- */

static void put_violations(struct buf *b, const struct violations *v)
{
	mp_map(b, 2);
	mp_str(b, "violations");
	mp_array(b, v->n);
	for (size_t i = 0; i < v->n; i++) {
		mp_map(b, 3);
		mp_str(b, "instance");
		mp_str(b, v->items[i].instance);
		mp_str(b, "keyword");
		mp_str(b, v->items[i].keyword);
		mp_str(b, "message");
		mp_str(b, v->items[i].message);
	}
	mp_str(b, "total");
	mp_uint(b, v->total);
}

/* "the context does not fit the template's input_schema: /a: is an integer, expected string (and 2 more)". */
static void put_summary(const char *what, const struct violations *v, struct err *e)
{
	char more[40] = "";
	const struct violation *first = &v->items[0];
	if (v->total > 1)
		snprintf(more, sizeof more, " (and %zu more)", v->total - 1);
	err_set(e, 0, "invalid_context", "%s: %.200s%s%.200s%s", what, v->n ? first->instance : "",
	        v->n && first->instance[0] ? ": " : "", v->n ? first->message : "", more);
}

/* ---- contexts ---- */

static int check_context(const struct tcache_template *t, struct req *q, enum db_failure *why, struct err *e)
{
	struct violations v = {.n = 0};
	int rc = t->input_schema ? schema_validate(t->input_schema, q->create.context.s, q->create.context.n, &v) : 0;
	q->create.checked = rc == 0 ? t->id : -t->id;
	buf_reset(&q->answer);
	if (rc == 1) {
		put_violations(&q->answer, &v);
		put_summary("the context does not fit the template's input_schema", &v, &q->err);
	} else if (rc == -EINVAL) {
		err_set(&q->err, 0, "invalid_context", "the context is nested too deeply to be checked");
	}
	violations_done(&v);
	if (rc != -ENOMEM)
		return 0;
	*why = DB_FULL;
	return err_set(e, rc, "internal", "out of memory");
}

static int check_one(struct schema_names *s, struct tcache *t, PGconn *c, struct req *q, enum db_failure *why,
                     struct err *e)
{
	cleanup_(cleanup_free) char *name = full_name(&q->create);
	size_t i = find_name(s, name);
	if (i == NAMES || abs(q->create.checked) == s->rows[i].template_id)
		return 0;
	const struct tcache_template *found = tcache_get(t, c, s->rows[i].template_id, why, e);
	if (!found && *why == DB_REFUSED) { /* replaced meanwhile: the call will say by what */
		forget(s, i);
		return 0;
	}
	return found ? check_context(found, q, why, e) : -EIO;
}

int schemas_check_contexts(struct schema_names *s, struct tcache *t, PGconn *c, struct req **reqs, size_t n,
                           enum db_failure *why, struct err *e)
{
	int rc = 0;
	for (size_t i = 0; rc == 0 && s->n > 0 && i < n; i++)
		rc = check_one(s, t, c, reqs[i], why, e);
	return rc;
}

static bool is_unchecked(const struct req *q)
{
	return !q->failed && strcmp(q->status, "unchecked") == 0;
}

void schemas_note_answers(struct schema_names *s, struct req **reqs, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct req *q = reqs[i];
		if (!is_unchecked(q))
			continue;
		remember(s, &q->create);
		if (q->create.checked == -q->create.template_id)
			q->failed = true; /* and q->err says why */
	}
}

size_t schemas_unchecked(struct req **reqs, size_t n, struct req **again)
{
	size_t found = 0;
	for (size_t i = 0; i < n; i++)
		if (is_unchecked(reqs[i])) {
			reqs[i]->spent = true; /* what its credits can do, the first call has done */
			again[found++] = reqs[i];
		}
	return found;
}

/* ---- results ---- */

/* The MessagePack in `b` as JSON text. */
static int to_json(const struct buf *b, struct text *ret)
{
	struct buf json;
	struct mp_value value;
	struct mpjson_error je;
	int rc = b->failed ? b->failed : mp_decode(b->data, b->len, &value);
	buf_init(&json, 0);
	if (rc == 0) {
		rc = mp_to_json(&value.root, "error", &json, &je);
		mp_value_done(&value);
	}
	if (rc == 0 && buf_text(&json))
		text_set(ret, buf_text(&json), json.len);
	buf_done(&json);
	return ret->s ? 0 : -ENOMEM;
}

static int set_error(struct req *q, const struct violations *v)
{
	struct buf b;
	buf_init(&b, 0);
	mp_map(&b, 4);
	mp_str(&b, "message");
	mp_str(&b, q->err.text);
	mp_str(&b, "error_type");
	mp_str(&b, "SchemaViolation");
	mp_str(&b, "retryable");
	mp_bool(&b, false);
	mp_str(&b, "context");
	put_violations(&b, v);
	int rc = to_json(&b, &q->result.error);
	buf_done(&b);
	return rc;
}

/* The result itself is not kept: nobody could rely on it. */
static int reject(struct req *q, const struct violations *v)
{
	put_summary("the result does not fit the step's result_schema", v, &q->err);
	snprintf(q->err.code, sizeof q->err.code, "invalid_result");
	int rc = set_error(q, v);
	if (rc < 0)
		return rc;
	free(q->result.result.s);
	q->result.result = (struct text){0};
	q->result.outcome = OUTCOME_INVALID_RESULT;
	q->result.retry = false;
	return 0;
}

static int check_result(const struct schema *s, struct req *q)
{
	struct violations v = {.n = 0};
	int rc = schema_validate(s, q->result.result.s, q->result.result.n, &v);
	if (rc == 1 || rc == -EINVAL)
		rc = reject(q, &v);
	violations_done(&v);
	return rc;
}

int schemas_check_results(struct tcache *cache, PGconn *c, struct req **reqs, size_t n, enum db_failure *why,
                          struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		struct req_result *q = &reqs[i]->result;
		const struct tcache_template *t =
			q->outcome == OUTCOME_SUCCESS ? tcache_get(cache, c, q->template_id, why, e) : NULL;
		if (q->outcome == OUTCOME_SUCCESS && !t)
			return -EIO;
		const struct schema *s = t ? tcache_step_of(t, q->step_no)->result_schema : NULL;
		if (s && check_result(s, reqs[i]) < 0) {
			*why = DB_FULL;
			return err_set(e, -ENOMEM, "internal", "out of memory");
		}
	}
	return 0;
}

/* ---- contexts of tasks that are there already ---- */

int schemas_check_start(const struct tcache_template *t, const char *context, size_t len, struct text *ret_error)
{
	struct violations v = {.n = 0};
	struct err e = {.text = "the context is nested too deeply to be checked"};
	struct buf b;
	int rc = t->input_schema ? schema_validate(t->input_schema, context, len, &v) : 0;
	if (rc == 0 || rc == -ENOMEM)
		return rc;
	if (rc == 1)
		put_summary("the context does not fit the template's input_schema", &v, &e);
	buf_init(&b, 0);
	mp_map(&b, 2);
	mp_str(&b, "message");
	mp_str(&b, e.text);
	mp_str(&b, "details");
	put_violations(&b, &v);
	rc = to_json(&b, ret_error);
	buf_done(&b);
	violations_done(&v);
	return rc;
}

bool schemas_concern(struct schema_names *s, struct tcache *cache, const struct req *q)
{
	if (q->kind == REQ_RESULT) {
		const struct tcache_template *t = tcache_find(cache, q->result.template_id);
		return t && tcache_step_of(t, q->result.step_no)->result_schema;
	}
	if (q->kind != REQ_CREATE || s->n == 0)
		return false;
	cleanup_(cleanup_free) char *name = full_name(&q->create);
	return find_name(s, name) != NAMES;
}

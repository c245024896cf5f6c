/* A small hash of templates by id. When it is full it starts over: simple, and a host rarely runs that many at a
 * time. */
#include "daemon/store/tcache.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/metrics/series.h"
#include "protocol/mpjson.h"

#define SLOTS 1024u /* power of two */
#define MAX_USED (SLOTS / 2)

struct tcache {
	struct tcache_template *slots[SLOTS];
	size_t used;
	struct series *series;
};

struct tcache *tcache_new(struct series *series)
{
	struct tcache *t = calloc(1, sizeof *t);
	if (t)
		t->series = series;
	return t;
}

static void template_free(struct tcache_template *t)
{
	if (!t)
		return;
	for (int i = 0; i < t->n_steps; i++) {
		free(t->steps[i].name);
		free(t->steps[i].children);
		schema_free(t->steps[i].result_schema);
		buf_done(&t->steps[i].handler);
		declared_done(&t->steps[i].events);
	}
	schema_free(t->input_schema);
	free(t->steps);
	free(t->ns);
	free(t->name);
	free(t->version);
	free(t);
}
DEFINE_CLEANUP(struct tcache_template, cleanup_template, template_free)

static void clear(struct tcache *t)
{
	for (size_t i = 0; i < SLOTS; i++) {
		template_free(t->slots[i]);
		t->slots[i] = NULL;
	}
	t->used = 0;
}

struct tcache *tcache_free(struct tcache *t)
{
	if (t) {
		clear(t);
		free(t);
	}
	return NULL;
}

static struct tcache_template **find(struct tcache *t, int id)
{
	size_t i = ((unsigned)id * 2654435761u) & (SLOTS - 1);
	while (t->slots[i] && t->slots[i]->id != id)
		i = (i + 1) & (SLOTS - 1);
	return &t->slots[i];
}

static long long field_int(const PGresult *r, int row, int col)
{
	return PQgetisnull(r, row, col) ? 0 : strtoll(PQgetvalue(r, row, col), NULL, 10);
}

/* PostgreSQL's text of an int[] without NULLs. 0 or -ENOMEM. */
static int parse_ints(const char *text, int **ret, int *ret_n)
{
	int n = text[1] != '}';
	for (const char *p = text; *p; p++)
		n += *p == ',';
	int *v = malloc((n ? (size_t)n : 1) * sizeof *v);
	if (!v)
		return -ENOMEM;
	const char *p = text + 1;
	for (int i = 0; i < n; i++) {
		char *end;
		v[i] = (int)strtol(p, &end, 10);
		p = end + 1;
	}
	*ret = v;
	*ret_n = n;
	return 0;
}

/* Templates with schemas that cannot be used are not registered, so it can. */
static int fill_schema(struct schema **ret, const PGresult *r, int row, int col, struct err *e)
{
	struct schema_problems p = {.n = 0};
	if (PQgetisnull(r, row, col))
		return 0;
	int rc = schema_compile(PQgetvalue(r, row, col), (size_t)PQgetlength(r, row, col), ret, &p);
	if (rc < 0)
		err_set(e, rc, "internal", "a schema of the template cannot be used: %s",
		        p.n ? p.items[0].message : "out of memory");
	schema_problems_done(&p);
	return rc;
}

static int fill_step(struct tcache_step *s, const PGresult *r, int row, struct err *e)
{
	struct mpjson_error je;
	buf_init(&s->handler, 0);
	s->name = strdup(PQgetvalue(r, row, 3));
	if (!s->name)
		return err_set(e, -ENOMEM, "internal", "out of memory");
	int rc = json_to_mp(PQgetvalue(r, row, 4), (size_t)PQgetlength(r, row, 4), &s->handler, &je);
	if (rc < 0)
		return err_set(e, rc, "internal", "handler of step %s: %s", s->name, je.what);
	s->retryable = PQgetvalue(r, row, 5)[0] == 't';
	s->max_attempts = (int)field_int(r, row, 6);
	int kind = backoff_parse(PQgetvalue(r, row, 7));
	s->policy = (struct retry_policy){kind < 0 ? BACKOFF_EXPONENTIAL : (enum backoff_kind)kind,
	                                  (uint32_t)field_int(r, row, 8), (uint32_t)field_int(r, row, 9)};
	s->timeout_ms = (uint64_t)field_int(r, row, 10);
	s->ancestors_cut = PQgetvalue(r, row, 11)[0] == 't';
	s->plain = PQgetvalue(r, row, 16)[0] == 't';
	s->handler_id = (int)field_int(r, row, 12);
	s->n_parents = (int)field_int(r, row, 13);
	s->n_ancestors = (int)field_int(r, row, 14);
	s->last_ancestor = (int)field_int(r, row, 20);
	if (parse_ints(PQgetvalue(r, row, 15), &s->children, &s->n_children) < 0)
		return err_set(e, -ENOMEM, "internal", "out of memory");
	rc = fill_schema(&s->result_schema, r, row, 18, e);
	if (rc < 0)
		return rc;
	return PQgetisnull(r, row, 17)
	               ? 0
	               : declared_read(&s->events, PQgetvalue(r, row, 17), (size_t)PQgetlength(r, row, 17), e);
}

static struct tcache_template *load(PGconn *c, int id, enum db_failure *why, struct err *e)
{
	static const char sql[] =
		"SELECT n.name, t.name, t.version, s.name, s.handler, s.retryable, s.max_attempts, s.backoff, s.backoff_base_ms, s.max_backoff_ms, s.timeout_ms, s.ancestors_cut,"
		" s.handler_id, cardinality(s.parents), cardinality(s.ancestors), s.children, NOT t.dynamic AND s.events IS NULL, s.events, s.result_schema, CASE WHEN s.step_no = 0 THEN t.input_schema END,"
		" coalesce(s.ancestors[cardinality(s.ancestors)], -1)"
		" FROM tasker.templates t JOIN tasker.namespaces n USING (namespace_id) JOIN tasker.template_steps s USING (template_id)"
		" WHERE t.template_id = $1::int ORDER BY s.step_no";
	char text[16];
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	snprintf(text, sizeof text, "%d", id);
	if (db_query(c, sql, 1, (const char *[]){text}, &r, why, e) < 0)
		return NULL;
	*why = DB_REFUSED;
	int n = PQntuples(r);
	if (n == 0) {
		err_set(e, -ENOENT, "internal", "template %d is not in the database", id);
		return NULL;
	}
	cleanup_(cleanup_template) struct tcache_template *t = calloc(1, sizeof *t);
	if (!t) {
		*why = DB_FULL;
		err_set(e, -ENOMEM, "internal", "out of memory");
		return NULL;
	}
	t->id = id;
	t->ns = strdup(PQgetvalue(r, 0, 0));
	t->name = strdup(PQgetvalue(r, 0, 1));
	t->version = strdup(PQgetvalue(r, 0, 2));
	t->steps = calloc((size_t)n, sizeof *t->steps);
	if (!t->ns || !t->name || !t->version || !t->steps) {
		*why = DB_FULL;
		err_set(e, -ENOMEM, "internal", "out of memory");
		return NULL;
	}
	int rc = 0;
	for (; rc == 0 && t->n_steps < n; t->n_steps++)
		rc = fill_step(&t->steps[t->n_steps], r, t->n_steps, e);
	if (rc == 0)
		rc = fill_schema(&t->input_schema, r, 0, 19, e);
	if (rc < 0) {
		*why = rc == -ENOMEM ? DB_FULL : DB_REFUSED;
		return NULL;
	}
	return TAKE_PTR(t);
}

const struct tcache_template *tcache_get(struct tcache *t, PGconn *c, int template_id, enum db_failure *why,
                                         struct err *e)
{
	struct tcache_template **slot = find(t, template_id);
	if (*slot)
		return *slot;
	struct tcache_template *fresh = load(c, template_id, why, e);
	if (!fresh)
		return NULL;
	if (t->used >= MAX_USED) {
		clear(t);
		slot = find(t, template_id);
	}
	fresh->series = series_of(t->series, fresh->ns, fresh->name);
	*slot = fresh;
	t->used++;
	return fresh;
}

const struct tcache_template *tcache_find(struct tcache *t, int template_id)
{
	return *find(t, template_id);
}

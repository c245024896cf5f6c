/* A template: the checked tree, the graph of its steps, and its normalised text. Read-only once made, so any
 * thread may use it; no I/O. */
#include "daemon/template/template.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/template/json_out.h"
#include "daemon/template/model.h"
#include "daemon/template/normal.h"
#include "daemon/template/suggest.h"

#define DEFINITION_MAX ((size_t)32 << 20) /* an environment can repeat a large value in every step */

_Static_assert(TEMPLATE_MAX_ANCESTORS <= DAG_ANCESTORS_MAX, "dag_ancestors must be able to give that many");

struct template *template_free(struct template *t)
{
	if (!t)
		return NULL;
	yaml_tree_free(t->tree);
	dag_done(&t->dag);
	free(t->definition);
	free(t);
	return NULL;
}

static int digest_definition(struct template *t)
{
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	static const char hex[] = "0123456789abcdef";
	if (EVP_Digest(t->definition, t->definition_len, md, &n, EVP_sha256(), NULL) != 1 ||
	    n * 2 + 1 != sizeof t->digest)
		return -ENOMEM;
	for (unsigned i = 0; i < n; i++) {
		t->digest[2 * i] = hex[md[i] >> 4];
		t->digest[2 * i + 1] = hex[md[i] & 15];
	}
	t->digest[2 * n] = '\0';
	return 0;
}

/* 0, 1 if it is too long, -ENOMEM. */
static int write_definition(struct template *t)
{
	struct buf out;
	buf_init(&out, DEFINITION_MAX);
	normal_put_map(&out, t->root, task_fields, true);
	int r = out.failed == -EMSGSIZE ? 1 : out.failed;
	t->definition_len = out.len;
	t->definition = r == 0 ? buf_take_text(&out) : NULL;
	buf_done(&out);
	if (r == 0)
		r = t->definition ? digest_definition(t) : -ENOMEM;
	return r;
}

/* Everything that comes after a check without errors. */
static int complete(struct template *t, const struct ynode *root, const struct steps *s,
                    const char *environment, struct findings *f)
{
	int r = normal_apply(t->tree, root, s, environment, &t->root);
	if (r == 0) {
		t->steps = field_get(t->root, task_fields, "steps");
		r = write_definition(t);
	}
	if (r > 0) {
		findings_add(f, FINDING_ERROR, 0, 0, "environments",
		             "with its environment applied the template has more than %d values or %zu bytes",
		             NORMAL_MAX_PAIRS, DEFINITION_MAX);
		r = -EINVAL;
	}
	return r;
}

/* `before` is the number of errors before the file was read: the reader may have added some. */
static int check_and_complete(struct template *t, const struct template_opts *opts, struct findings *f,
                              size_t before)
{
	struct check c = {.f = f, .draft = opts->draft, .suggest_budget = SUGGEST_BUDGET};
	const struct ynode *root = yaml_tree_root(t->tree);
	check_map(&c, NULL, root, task_fields);
	struct steps s;
	int r = steps_check(&c, root, &s, &t->dag);
	if (r == 0 && f->errors == before)
		r = complete(t, root, &s, opts->environment, f);
	steps_done(&s);
	return r;
}

static int parse(struct template *t, const char *source, size_t len, const struct template_opts *opts,
                 struct findings *f)
{
	size_t before = f->errors;
	int r = yaml_tree_parse(source, len, NULL, &t->tree, f);
	if (r == 0)
		r = check_and_complete(t, opts, f, before);
	if (r == 0 && f->errors > before)
		r = -EINVAL;
	return r;
}

int template_parse(const char *source, size_t len, const struct template_opts *opts, struct template **ret,
                   struct findings *f)
{
	static const struct template_opts defaults = {.environment = NULL};
	size_t from = f->n;
	*ret = NULL;
	if (!opts)
		opts = &defaults;
	cleanup_(cleanup_template) struct template *t = calloc(1, sizeof *t);
	if (!t)
		return -ENOMEM;
	f->strict = opts->strict;
	int r = parse(t, source, len, opts, f);
	f->strict = false;
	findings_finish(f, from);
	if (f->failed)
		return -ENOMEM;
	if (r == 0)
		*ret = TAKE_PTR(t);
	return r;
}

static const char *text_of(const struct template *t, const char *key)
{
	return ynode_str(field_get(t->root, task_fields, key));
}

const char *template_namespace(const struct template *t)
{
	return text_of(t, "namespace_name");
}

const char *template_name(const struct template *t)
{
	return text_of(t, "name");
}

const char *template_version(const struct template *t)
{
	return text_of(t, "version");
}

size_t template_step_count(const struct template *t)
{
	return t->dag.n;
}

const struct ynode *template_step(const struct template *t, uint32_t no)
{
	return t->steps->u.items[t->dag.order[no]];
}

const char *template_step_name(const struct template *t, size_t no)
{
	return no < t->dag.n ? ynode_str(field_get(template_step(t, (uint32_t)no), step_fields, "name"))
	                     : NULL;
}

/* ---- for the database ---- */

static void put_key(struct buf *out, const char *key)
{
	buf_append_char(out, ',');
	json_put_cstr(out, key);
	buf_append_char(out, ':');
}

static void put_numbers(struct buf *out, const char *key, const uint32_t *from, const uint32_t *to)
{
	put_key(out, key);
	buf_append_char(out, '[');
	for (const uint32_t *p = from; p < to; p++) {
		if (p > from)
			buf_append_char(out, ',');
		json_put_int(out, *p);
	}
	buf_append_char(out, ']');
}

static void put_field(struct buf *out, const struct ynode *map, const struct field *table, const char *key)
{
	put_key(out, key);
	normal_put_field(out, map, field_find(table, key));
}

/* A key only where something was given. */
static void put_given(struct buf *out, const struct ynode *map, const struct field *table, const char *key)
{
	if (field_get(map, table, key))
		put_field(out, map, table, key);
}

static void put_graph(struct buf *out, const struct dag *d, uint32_t no, uint32_t *stamp)
{
	uint32_t near[TEMPLATE_MAX_ANCESTORS];
	bool cut = false;
	put_numbers(out, "parents", d->parents + d->parent_start[no], d->parents + d->parent_start[no + 1]);
	put_numbers(out, "children", d->children + d->child_start[no], d->children + d->child_start[no + 1]);
	size_t n = dag_ancestors(d, no, stamp, near, TEMPLATE_MAX_ANCESTORS, &cut);
	put_numbers(out, "ancestors", near, near + n);
	buf_append_str(out, cut ? ",\"ancestors_cut\":true" : ",\"ancestors_cut\":false");
}

static void put_step(struct buf *out, const struct template *t, uint32_t no, uint32_t *stamp)
{
	const struct ynode *step = template_step(t, no);
	const struct ynode *handler = field_get(step, step_fields, "handler");
	const struct ynode *retry = field_get(step, step_fields, "retry");
	buf_append_str(out, no > 0 ? ",{\"no\":" : "{\"no\":");
	json_put_int(out, no);
	put_field(out, step, step_fields, "name");
	put_field(out, step, step_fields, "type");
	put_field(out, handler, handler_fields, "callable");
	put_key(out, "handler");
	normal_put_map(out, handler, handler_fields, false);
	for (const struct field *f = retry_fields; f->name; f++)
		put_field(out, retry, retry_fields, f->name);
	put_field(out, step, step_fields, "timeout_seconds");
	const struct ynode *events = field_get(step, step_fields, "publishes_events");
	if (events && events->n > 0)
		put_field(out, step, step_fields, "publishes_events");
	put_given(out, step, step_fields, "batch_config");
	put_given(out, step, step_fields, "result_schema");
	put_graph(out, &t->dag, no, stamp);
	buf_append_char(out, '}');
}

int template_to_json(const struct template *t, struct buf *out)
{
	cleanup_(cleanup_free) uint32_t *stamp = calloc(t->dag.n + (size_t)1, sizeof *stamp);
	if (!stamp)
		return -ENOMEM;
	buf_append_str(out, "{\"namespace\":");
	json_put_cstr(out, template_namespace(t));
	put_field(out, t->root, task_fields, "name");
	put_field(out, t->root, task_fields, "version");
	put_key(out, "digest");
	json_put_cstr(out, t->digest);
	put_key(out, "definition");
	buf_append(out, t->definition, t->definition_len);
	put_field(out, t->root, task_fields, "identity_strategy");
	put_given(out, t->root, task_fields, "input_schema");
	put_key(out, "steps");
	buf_append_char(out, '[');
	for (uint32_t no = 0; no < t->dag.n; no++)
		put_step(out, t, no, stamp);
	buf_append_str(out, "]}");
	return out->failed;
}

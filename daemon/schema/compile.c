/* A schema's text to its compiled form. Problems are collected, so that all of a schema are found in one go. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/schema/schema_impl.h"
#include "daemon/schema/uri.h"

#define NESTED_IN_PLACE_MAX 100u

static bool is_metaschema(const struct jdoc *d, uint32_t node)
{
	return jdoc_is(d, node, "https://json-schema.org/draft/2020-12/schema") ||
	       jdoc_is(d, node, "https://json-schema.org/draft/2020-12/schema#");
}

/* ---- problems ---- */

int schema_problem(struct compiler *c, uint32_t node, bool warning, const char *fmt, ...)
{
	struct schema_problems *p = c->problems;
	struct buf pointer;
	va_list ap;
	p->errors += !warning;
	if (p->n == SCHEMA_MAX_PROBLEMS)
		return 0;
	struct schema_problem item = {.warning = warning};
	buf_init(&pointer, 0);
	jdoc_pointer(&c->s->doc, node, &pointer);
	item.pointer = buf_take_text(&pointer);
	buf_done(&pointer);
	va_start(ap, fmt);
	if (vasprintf(&item.message, fmt, ap) < 0)
		item.message = NULL;
	va_end(ap);
	if (!item.pointer || !item.message) {
		free(item.pointer);
		free(item.message);
		return -ENOMEM;
	}
	p->items[p->n++] = item;
	return 0;
}

void schema_problems_done(struct schema_problems *p)
{
	for (size_t i = 0; i < p->n; i++) {
		free(p->items[i].pointer);
		free(p->items[i].message);
	}
	p->n = p->errors = 0;
}

/* ---- resources and anchors ---- */

static int add_resource(struct compiler *c, uint32_t node, const char *id, size_t len)
{
	struct schema *s = c->s;
	const char *fragment;
	if (s->n_resources == SCHEMA_MAX_NAMED)
		return schema_error(c, node, "more than %u schemas with an $id", SCHEMA_MAX_NAMED);
	struct resource *p = reallocarray(s->resources, s->n_resources + (size_t)1, sizeof *p);
	if (!p)
		return -ENOMEM;
	s->resources = p;
	char *uri = uri_resolve(s->n_resources > 0 ? s->resources[c->resource].uri : "", id, len, &fragment);
	if (!uri)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->n_resources; i++)
		if (strcmp(p[i].uri, uri) == 0 && p[i].root != node) {
			int rc = schema_error(c, node, "the $id %s is taken by another schema of this document",
			                      SHOW(uri, strlen(uri)));
			free(uri);
			return rc;
		}
	c->resource = s->n_resources;
	p[s->n_resources++] = (struct resource){uri, node};
	return 0;
}

int add_anchor(struct compiler *c, uint32_t node, const char *name, uint32_t len, bool dynamic)
{
	struct schema *s = c->s;
	if (s->n_anchors == SCHEMA_MAX_NAMED)
		return schema_error(c, node, "more than %u anchors", SCHEMA_MAX_NAMED);
	struct anchor *p = reallocarray(s->anchors, s->n_anchors + (size_t)1, sizeof *p);
	if (!p)
		return -ENOMEM;
	s->anchors = p;
	p[s->n_anchors++] = (struct anchor){c->resource, node, name, len, dynamic};
	return 0;
}

/* $id counts for the whole schema, so it is read before the other keywords. */
static int read_id(struct compiler *c, uint32_t node)
{
	const struct jdoc *d = &c->s->doc;
	uint32_t id = jdoc_member(d, node, "$id");
	if (id == JNONE)
		return node == 0 ? add_resource(c, node, "", 0) : 0;
	const struct jnode *n = jnode(d, id);
	const char *hash = n->type == J_STRING ? memchr(n->u.text, '#', n->n) : NULL;
	if (n->type != J_STRING || (hash && hash + 1 < n->u.text + n->n)) {
		int rc = schema_error(c, id, "expected a URI without a fragment");
		return rc < 0 || node > 0 ? rc : add_resource(c, node, "", 0);
	}
	return add_resource(c, node, n->u.text, n->n);
}

/* ---- schemas ---- */

/* Keywords of older drafts that would be taken for notes although they are meant to check something. */
static const struct {
	const char *name, *instead;
} refused[] = {
    {"$recursiveRef", "$dynamicRef"},
    {"additionalItems", "items, with the list that was in items in prefixItems"},
    {"divisibleBy", "multipleOf"},
    {"disallow", "not"},
    {"extends", "allOf"},
};

static int unknown_keyword(struct compiler *c, uint32_t value)
{
	const struct jnode *n = jnode(&c->s->doc, value);
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
		if (strlen(refused[i].name) == n->key_len && memcmp(refused[i].name, n->key, n->key_len) == 0)
			return schema_error(c, value, "is not supported; use %s", refused[i].instead);
	if (n->key_len > 2 && memcmp(n->key, "x-", 2) == 0)
		return 0;
	size_t before = c->problems->n;
	int rc = schema_problem(c, value, true, "unknown keyword: it checks nothing");
	if (c->problems->n > before)
		c->problems->items[before].unknown = true;
	return rc;
}

static void insert_by_phase(struct snode *s, struct kw *k)
{
	struct kw **at = &s->kws;
	while (*at && (*at)->def->phase <= k->def->phase)
		at = &(*at)->next;
	k->next = *at;
	*at = k;
}

static int compile_keyword(struct compiler *c, struct snode *s, uint32_t value)
{
	const struct jnode *n = jnode(&c->s->doc, value);
	const struct keyword *def = keyword_find(n->key, n->key_len);
	if (!def)
		return unknown_keyword(c, value);
	struct kw *k = calloc(1, sizeof *k);
	if (!k)
		return -ENOMEM;
	k->def = def;
	k->node = value;
	insert_by_phase(s, k);
	return def->parse ? def->parse(c, s, k) : 0;
}

static struct snode *new_snode(struct compiler *c, uint32_t node)
{
	struct snode *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	s->node = node;
	s->made = c->s->made;
	c->s->made = s;
	c->s->by_node[node] = s;
	return s;
}

int compile_node(struct compiler *c, uint32_t node, struct snode **ret)
{
	const struct jdoc *d = &c->s->doc;
	const struct jnode *n = jnode(d, node);
	uint32_t outer = c->resource;
	*ret = c->s->by_node[node];
	if (*ret)
		return 0;
	if (n->type != J_OBJECT && n->type != J_BOOL)
		return schema_error(c, node, "expected a schema: a map, or true or false");
	struct snode *s = *ret = new_snode(c, node);
	if (!s)
		return -ENOMEM;
	int rc = n->type == J_OBJECT || node == 0 ? read_id(c, node) : 0;
	s->resource = c->resource;
	if (n->type == J_BOOL) {
		s->always = n->u.boolean;
		s->never = !n->u.boolean;
	}
	for (uint32_t i = 0; rc == 0 && n->type == J_OBJECT && i < n->n; i++)
		rc = compile_keyword(c, s, jdoc_child(d, node, i));
	c->resource = outer;
	return rc;
}

/* ---- circles ---- */

enum { UNSEEN, UNDER_WAY, SEEN };

static void visit(struct compiler *c, struct snode *s, unsigned depth)
{
	if (s->visit == SEEN)
		return;
	if (s->visit == UNDER_WAY || depth > NESTED_IN_PLACE_MAX) {
		(void)!schema_error(
			c, s->node, "%s",
			s->visit == UNDER_WAY
				? "leads back to itself without going into the value: checking would never end"
				: "references and combinations are nested too deeply");
		return;
	}
	s->visit = UNDER_WAY;
	for (const struct kw *k = s->kws; k; k = k->next)
		for (uint32_t i = 0; k->def->in_place && i < k->n_subs; i++)
			if (k->subs[i])
				visit(c, k->subs[i], depth + 1);
	s->visit = SEEN;
}

/* Refuse schemas that lead to themselves without going into the value. */
static void find_circles(struct compiler *c)
{
	for (struct snode *s = c->s->made; s; s = s->made)
		visit(c, s, 0);
}

/* ---- all of it ---- */

static void kw_free(struct kw *k)
{
	for (uint32_t i = 0; k->regexes && i < k->n_subs; i++)
		regex_free(k->regexes[i]);
	free(k->regexes);
	free(k->subs);
	free(k->order);
	free(k);
}

struct schema *schema_free(struct schema *s)
{
	if (!s)
		return NULL;
	while (s->made) {
		struct snode *n = s->made;
		s->made = n->made;
		while (n->kws) {
			struct kw *k = n->kws;
			n->kws = k->next;
			kw_free(k);
		}
		free(n);
	}
	for (uint32_t i = 0; i < s->n_resources; i++)
		free(s->resources[i].uri);
	free(s->resources);
	free(s->anchors);
	free(s->by_node);
	jdoc_done(&s->doc);
	free(s->text);
	free(s);
	return NULL;
}

static int check_metaschema(struct compiler *c)
{
	const struct jdoc *d = &c->s->doc;
	uint32_t node = jdoc_member(d, 0, "$schema");
	static const char others[] = "://json-schema.org/";
	if (node == JNONE || is_metaschema(d, node))
		return 0;
	const struct jnode *n = jnode(d, node);
	bool draft = n->type == J_STRING && memmem(n->u.text, n->n, others, sizeof others - 1);
	if (draft)
		return schema_problem(c, node, true, "read as https://json-schema.org/draft/2020-12/schema");
	return schema_error(c, node, "unknown dialect; expected https://json-schema.org/draft/2020-12/schema");
}

static void free_pending(struct pending *p)
{
	while (p) {
		struct pending *next = p->next;
		free(p);
		p = next;
	}
}

static int compile_all(struct compiler *c)
{
	int rc = compile_node(c, 0, &c->s->root);
	if (rc == 0)
		rc = check_metaschema(c);
	if (rc == 0)
		rc = resolve_references(c);
	if (rc == 0 && c->problems->errors == 0)
		find_circles(c);
	free_pending(c->pending);
	free_pending(c->dynamic);
	return rc;
}

int schema_compile(const char *json, size_t len, struct schema **ret, struct schema_problems *p)
{
	cleanup_(cleanup_schema) struct schema *s = calloc(1, sizeof *s);
	struct compiler c = {.s = s, .problems = p};
	if (!s)
		return -ENOMEM;
	s->text = malloc(len + 1);
	if (!s->text)
		return -ENOMEM;
	memcpy(s->text, json, len);
	s->text[len] = '\0';
	int rc = jdoc_parse(&s->doc, s->text, len);
	if (rc == 0 && s->doc.n > SCHEMA_MAX_VALUES)
		rc = -E2BIG;
	if (rc == -EINVAL || rc == -E2BIG) {
		s->doc.n = s->doc.n ? s->doc.n : 1;
		rc = schema_error(&c, 0, rc == -EINVAL ? "is not JSON" : "is nested too deeply or too large");
		return rc < 0 ? rc : -EINVAL;
	}
	s->by_node = rc == 0 ? calloc(s->doc.n, sizeof(struct snode *)) : NULL;
	if (!s->by_node)
		return -ENOMEM;
	rc = compile_all(&c);
	if (rc < 0 || p->errors > 0)
		return rc < 0 ? rc : -EINVAL;
	*ret = TAKE_PTR(s);
	return 0;
}

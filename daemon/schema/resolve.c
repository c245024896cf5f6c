/* References: where a $ref leads, within the one document. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/schema/schema_impl.h"
#include "daemon/schema/uri.h"
#include "protocol/mp.h"

/* One part of a JSON pointer, "~1" and "~0" undone, in place. */
static size_t unescape_token(char *token, size_t len)
{
	char *out = token;
	for (size_t i = 0; i < len; i++) {
		bool escape = token[i] == '~' && i + 1 < len && (token[i + 1] == '0' || token[i + 1] == '1');
		*out++ = !escape ? token[i] : token[++i] == '0' ? '~' : '/';
	}
	return (size_t)(out - token);
}

static uint32_t array_item(const struct jdoc *d, uint32_t array, const char *token, size_t len)
{
	uint32_t i = 0;
	if (len == 0 || len > 8 || (len > 1 && *token == '0'))
		return JNONE;
	for (size_t k = 0; k < len; k++) {
		if (token[k] < '0' || token[k] > '9')
			return JNONE;
		i = i * 10 + (uint32_t)(token[k] - '0');
	}
	return i < jnode(d, array)->n ? jdoc_child(d, array, i) : JNONE;
}

/* `pointer` begins with '/' or is empty; it is changed. */
static uint32_t follow(const struct jdoc *d, uint32_t node, char *pointer)
{
	while (*pointer && node != JNONE) {
		char *token = pointer + 1;
		size_t len = strcspn(token, "/");
		pointer = token + len;
		len = unescape_token(token, len);
		if (jnode(d, node)->type == J_ARRAY) {
			node = array_item(d, node, token, len);
		} else {
			uint32_t i = jdoc_find(d, node, token, len);
			node = i == JNONE ? JNONE : jdoc_child(d, node, i);
		}
	}
	return node;
}

static uint32_t find_resource(const struct schema *s, const char *uri)
{
	for (uint32_t i = 0; i < s->n_resources; i++)
		if (strcmp(s->resources[i].uri, uri) == 0)
			return i;
	return JNONE;
}

/* Its number, or JNONE. */
static uint32_t find_anchor(const struct schema *s, uint32_t resource, const char *name, size_t len)
{
	for (uint32_t i = 0; i < s->n_anchors; i++) {
		const struct anchor *a = &s->anchors[i];
		if (a->resource == resource && a->len == len && memcmp(a->name, name, len) == 0)
			return i;
	}
	return JNONE;
}

static uint32_t follow_anchor(const struct schema *s, struct pending *p, uint32_t resource, const char *name,
                              size_t len)
{
	uint32_t i = find_anchor(s, resource, name, len);
	if (i == JNONE)
		return JNONE;
	p->anchor = p->dynamic && s->anchors[i].dynamic ? i : JNONE;
	return s->anchors[i].node;
}

/* The resource that a node belongs to which no known keyword leads to. */
static uint32_t resource_around(const struct schema *s, uint32_t node)
{
	while (node > 0 && !s->by_node[node])
		node = jnode(&s->doc, node)->parent;
	return s->by_node[node] ? s->by_node[node]->resource : 0;
}

static int find_target(struct compiler *c, struct pending *p, uint32_t *ret)
{
	const struct schema *s = c->s;
	const struct jnode *ref = jnode(&s->doc, p->kw->node);
	const char *rest;
	cleanup_(cleanup_free) char *uri = uri_resolve(s->resources[p->from->resource].uri, ref->u.text, ref->n, &rest);
	cleanup_(cleanup_free) char *fragment =
		mp_str_copy(rest ? rest : "", rest ? (size_t)(ref->u.text + ref->n - rest) : 0);
	if (!uri || !fragment)
		return -ENOMEM;
	uint32_t resource = find_resource(s, uri);
	if (resource == JNONE)
		return schema_error(c, p->kw->node,
		                    "refers to another document, %s: only references within this schema are supported",
		                    SHOW(uri, strlen(uri)));
	size_t len = uri_unescape(fragment);
	if (*fragment == '\0' || *fragment == '/')
		*ret = follow(&s->doc, s->resources[resource].root, fragment);
	else
		*ret = follow_anchor(s, p, resource, fragment, len);
	return *ret == JNONE ? schema_error(c, p->kw->node, "refers to nothing: %s is not in this schema",
	                                    SHOW(ref->u.text, ref->n))
	                     : 0;
}

static int resolve_one(struct compiler *c, struct pending *p)
{
	uint32_t target = JNONE;
	int rc = find_target(c, p, &target);
	if (rc < 0 || target == JNONE)
		return rc;
	c->resource = resource_around(c->s, target);
	return compile_node(c, target, &p->kw->subs[0]);
}

/* A dynamic reference may come to mean every dynamic anchor of the same name, in whatever resource. */
static int add_candidates(struct schema *s, struct kw *k, const struct anchor *named)
{
	struct snode *first = k->subs[0], **subs = calloc(s->n_anchors + (size_t)1, sizeof(struct snode *));
	uint32_t *resources = calloc(s->n_anchors + (size_t)1, sizeof *resources);
	free(k->subs);
	k->subs = subs;
	k->order = resources;
	k->n_subs = 0;
	if (!subs || !resources)
		return -ENOMEM;
	subs[k->n_subs++] = first;
	for (uint32_t i = 0; i < s->n_anchors; i++) {
		const struct anchor *a = &s->anchors[i];
		if (!a->dynamic || a->len != named->len || memcmp(a->name, named->name, a->len) != 0)
			continue;
		resources[k->n_subs - 1] = a->resource;
		subs[k->n_subs++] = s->by_node[a->node];
	}
	return 0;
}

int resolve_references(struct compiler *c)
{
	int rc = 0;
	while (rc == 0 && c->pending) { /* more may come */
		struct pending *p = c->pending;
		c->pending = p->next;
		rc = resolve_one(c, p);
		p->next = c->dynamic;
		c->dynamic = p;
	}
	for (struct pending *p = c->dynamic; rc == 0 && p; p = p->next)
		if (p->anchor != JNONE)
			rc = add_candidates(c->s, p->kw, &c->s->anchors[p->anchor]);
	return rc;
}

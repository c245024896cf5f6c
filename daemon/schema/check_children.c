/* The keywords of arrays and objects. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/schema/schema_impl.h"

static uint32_t size_of(const struct run *r, uint32_t value)
{
	return jnode(&r->doc, value)->n;
}

/* Whether to go on after a violation. */
static bool done(const struct run *r, bool ok)
{
	return r->gave_up || r->failed || (!ok && (r->quiet || !r->out));
}

#define AT_MOST(name, what)                                                                                            \
	bool name(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)           \
	{                                                                                                              \
		uint32_t n = size_of(r, value);                                                                        \
		(void)s, (void)m;                                                                                      \
		return n <= k->limit || violate(r, value, k->node, "has %u " what ", at most %llu are allowed", n,     \
						(unsigned long long)k->limit);                                         \
	}
#define AT_LEAST(name, what)                                                                                           \
	bool name(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)           \
	{                                                                                                              \
		uint32_t n = size_of(r, value);                                                                        \
		(void)s, (void)m;                                                                                      \
		return n >= k->limit || violate(r, value, k->node, "has %u " what ", at least %llu are needed", n,     \
						(unsigned long long)k->limit);                                         \
	}
AT_MOST(check_max_items, "items")
AT_LEAST(check_min_items, "items")
AT_MOST(check_max_properties, "properties")
AT_LEAST(check_min_properties, "properties")

/* ---- arrays ---- */

static int by_value(const void *va, const void *vb, void *arg)
{
	struct run *r = arg;
	return jdoc_compare(&r->doc, *(const uint32_t *)va, &r->doc, *(const uint32_t *)vb, &r->work);
}

bool check_unique(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	uint32_t n = size_of(r, value);
	(void)s, (void)m;
	if (!k->limit || n < 2)
		return true;
	cleanup_(cleanup_free) uint32_t *items = calloc(n, sizeof *items);
	if (!items) {
		r->failed = -ENOMEM;
		return false;
	}
	for (uint32_t i = 0; i < n; i++)
		items[i] = jdoc_child(&r->doc, value, i);
	qsort_r(items, n, sizeof *items, by_value, r);
	for (uint32_t i = 1; run_spend(r, value, 0) && i < n; i++)
		if (by_value(&items[i - 1], &items[i], r) == 0)
			return violate(r, value, k->node, "holds the same value twice: items %u and %u",
			               jnode(&r->doc, items[i - 1])->index, jnode(&r->doc, items[i])->index);
	return !r->gave_up;
}

bool check_prefix(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	bool ok = true;
	(void)s;
	for (uint32_t i = 0; i < k->n_subs && i < size_of(r, value) && !done(r, ok); i++) {
		ok = check_schema(r, k->subs[i], jdoc_child(&r->doc, value, i), NULL) && ok;
		mark(m, i);
	}
	return ok;
}

bool check_items(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	bool ok = true;
	for (uint32_t i = s->prefix ? s->prefix->n_subs : 0; i < size_of(r, value) && !done(r, ok); i++) {
		ok = check_schema(r, k->subs[0], jdoc_child(&r->doc, value, i), NULL) && ok;
		mark(m, i);
	}
	return ok;
}

bool check_contains(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	uint64_t found = 0, least = s->min_contains ? s->min_contains->limit : 1;
	r->quiet++;
	for (uint32_t i = 0; i < size_of(r, value) && !r->gave_up; i++)
		if (check_schema(r, k->subs[0], jdoc_child(&r->doc, value, i), NULL)) {
			mark(m, i);
			found++;
		}
	r->quiet--;
	if (found < least)
		return violate(r, value, s->min_contains ? s->min_contains->node : k->node,
		               "has %llu items of the kind it must contain, at least %llu are needed",
		               (unsigned long long)found, (unsigned long long)least);
	return !s->max_contains || found <= s->max_contains->limit ||
	       violate(r, value, s->max_contains->node,
	               "has %llu items of the kind it must contain, at most %llu are allowed",
	               (unsigned long long)found, (unsigned long long)s->max_contains->limit);
}

static bool check_unseen(struct run *r, const struct kw *k, uint32_t value, struct marks *m)
{
	bool ok = true;
	for (uint32_t i = 0; m && i < m->n && !done(r, ok); i++) {
		if (m->seen[i])
			continue;
		ok = check_schema(r, k->subs[0], jdoc_child(&r->doc, value, i), NULL) && ok;
		mark(m, i);
	}
	return ok;
}

bool check_unevaluated_items(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	(void)s;
	return check_unseen(r, k, value, m);
}

/* ---- objects ---- */

bool check_unevaluated_properties(struct run *r, const struct snode *s, const struct kw *k, uint32_t value,
                                  struct marks *m)
{
	(void)s;
	return check_unseen(r, k, value, m);
}

/* All names in a list of the schema must be there. */
static bool check_names_in(struct run *r, uint32_t list, uint32_t value, const struct jnode *because)
{
	bool ok = true;
	for (uint32_t i = 0; i < jnode(&r->s->doc, list)->n && !done(r, ok) && run_spend(r, value, 1); i++) {
		const struct jnode *name = jnode(&r->s->doc, jdoc_child(&r->s->doc, list, i));
		if (jdoc_find(&r->doc, value, name->u.text, name->n) != JNONE)
			continue;
		ok = because ? violate(r, value, list, "lacks the property %s, which %s asks for",
		                       SHOW(name->u.text, name->n), SHOW(because->key, because->key_len))
		             : violate(r, value, list, "lacks the property %s", SHOW(name->u.text, name->n));
	}
	return ok;
}

bool check_required(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	(void)s, (void)m;
	return check_names_in(r, k->node, value, NULL);
}

static bool has_member(struct run *r, uint32_t value, const struct jnode *name)
{
	return jdoc_find(&r->doc, value, name->key, name->key_len) != JNONE;
}

bool check_dependent_required(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	const struct jdoc *d = &r->s->doc;
	bool ok = true;
	(void)s, (void)m;
	for (uint32_t i = 0; i < jnode(d, k->node)->n && !done(r, ok); i++) {
		uint32_t list = jdoc_child(d, k->node, i);
		if (has_member(r, value, jnode(d, list)))
			ok = check_names_in(r, list, value, jnode(d, list)) && ok;
	}
	return ok;
}

bool check_dependent_schemas(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	const struct jdoc *d = &r->s->doc;
	bool ok = true;
	(void)s;
	for (uint32_t i = 0; i < k->n_subs && !done(r, ok); i++) {
		uint32_t what = jdoc_child(d, k->node, i);
		if (!has_member(r, value, jnode(d, what)))
			continue;
		ok = (k->subs[i] ? check_schema(r, k->subs[i], value, m)
		                 : check_names_in(r, what, value, jnode(d, what))) &&
		     ok;
	}
	return ok;
}

/* Place of the member's schema in `properties`, or JNONE. */
static uint32_t named_schema(const struct run *r, const struct kw *properties, const struct jnode *member)
{
	return properties ? jdoc_find(&r->s->doc, properties->node, member->key, member->key_len) : JNONE;
}

bool check_properties(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	bool ok = true;
	(void)s;
	for (uint32_t i = 0; i < size_of(r, value) && !done(r, ok); i++) {
		uint32_t member = jdoc_child(&r->doc, value, i);
		uint32_t at = named_schema(r, k, jnode(&r->doc, member));
		if (at == JNONE)
			continue;
		ok = check_schema(r, k->subs[at], member, NULL) && ok;
		mark(m, i);
	}
	return ok;
}

bool check_patterns(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	bool ok = true;
	(void)s;
	for (uint32_t i = 0; i < size_of(r, value); i++)
		for (uint32_t p = 0; p < k->n_subs && !done(r, ok); p++) {
			uint32_t member = jdoc_child(&r->doc, value, i);
			const struct jnode *n = jnode(&r->doc, member);
			if (run_regex(r, k->regexes[p], member, n->key, n->key_len) <= 0)
				continue;
			ok = check_schema(r, k->subs[p], member, NULL) && ok;
			mark(m, i);
		}
	return ok;
}

static bool matches_any(struct run *r, const struct kw *patterns, uint32_t member)
{
	const struct jnode *n = jnode(&r->doc, member);
	for (uint32_t p = 0; patterns && p < patterns->n_subs; p++)
		if (run_regex(r, patterns->regexes[p], member, n->key, n->key_len) > 0)
			return true;
	return false;
}

bool check_additional(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	bool ok = true;
	for (uint32_t i = 0; i < size_of(r, value) && !done(r, ok); i++) {
		uint32_t member = jdoc_child(&r->doc, value, i);
		if (named_schema(r, s->properties, jnode(&r->doc, member)) != JNONE ||
		    matches_any(r, s->patterns, member))
			continue;
		ok = check_schema(r, k->subs[0], member, NULL) && ok;
		mark(m, i);
	}
	return ok;
}

/* A name is checked as a text that stands in the place of its member. */
bool check_names(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	bool ok = true;
	(void)s, (void)m;
	for (uint32_t i = 0; i < size_of(r, value) && !done(r, ok); i++) {
		struct jnode *n = &r->doc.nodes[jdoc_child(&r->doc, value, i)];
		struct jnode member = *n;
		n->type = J_STRING;
		n->n = member.key_len;
		n->u.text = member.key;
		r->quiet++;
		bool fine = check_schema(r, k->subs[0], jdoc_child(&r->doc, value, i), NULL);
		r->quiet--;
		*n = member;
		if (!fine)
			ok = violate(r, value, k->node, "has a property whose name does not fit: %s",
			             SHOW(member.key, member.key_len));
	}
	return ok;
}

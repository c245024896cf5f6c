/* Normalising: environments are merged in, and the result is written by the field tables. Maps are merged key
 * by key, one level deep: what an environment gives under a key replaces what the step gave there. */
#include "daemon/template/normal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/template/json_out.h"

/* ---- merging ---- */

struct merger {
	struct yaml_tree *tree;
	size_t pairs;
	int trouble; /* 0, 1 too much, -ENOMEM */
};

static int by_key(const void *va, const void *vb)
{
	const struct ypair *a = *(const struct ypair *const *)va, *b = *(const struct ypair *const *)vb;
	int c = strcmp(a->key, b->key);
	return c ? c : (a < b ? -1 : a > b);
}

static const struct ynode *fail(struct merger *m, int trouble)
{
	m->trouble = m->trouble ? m->trouble : trouble;
	return NULL;
}

/* Keep the last of each key. `sorted` has room for the pointers. */
static size_t unite(struct ypair *pairs, size_t n, const struct ypair **sorted, struct ypair *ret)
{
	size_t kept = 0;
	for (size_t i = 0; i < n; i++)
		sorted[i] = &pairs[i];
	qsort(sorted, n, sizeof *sorted, by_key);
	for (size_t i = 0; i < n; i++)
		if (i + 1 == n || strcmp(sorted[i]->key, sorted[i + 1]->key) != 0)
			ret[kept++] = *sorted[i];
	return kept;
}

/* A new map with the pairs of both, `over` winning; `base` may be NULL. Nulls of `over` count only if
 * `nulls`. */
static const struct ynode *merge(struct merger *m, const struct ynode *base, const struct ynode *over,
                                 bool nulls)
{
	size_t room = (base ? base->n : 0) + over->n, n = base ? base->n : 0;
	m->pairs += room;
	if (m->trouble || m->pairs > NORMAL_MAX_PAIRS)
		return fail(m, 1);
	cleanup_(cleanup_free) struct ypair *both = calloc(room + 1, sizeof *both);
	cleanup_(cleanup_free) const struct ypair **sorted = calloc(room + 1, sizeof *sorted);
	struct ynode *map = yaml_tree_alloc(m->tree, sizeof *map);
	struct ypair *pairs = yaml_tree_alloc(m->tree, room * sizeof *pairs);
	if (!both || !sorted || !map || !pairs)
		return fail(m, -ENOMEM);
	for (size_t i = 0; i < n; i++)
		both[i] = base->u.pairs[i];
	for (size_t i = 0; i < over->n; i++)
		if (nulls || over->u.pairs[i].value->kind != YNODE_NULL)
			both[n++] = over->u.pairs[i];
	*map = *(base ? base : over);
	map->u.pairs = pairs;
	map->n = unite(both, n, sorted, pairs);
	return map;
}

/* The few pairs of a step that change. */
struct changes {
	struct ynode map;
	struct ypair pairs[4];
};

static void change(struct changes *ch, const char *key, const struct ynode *value)
{
	struct ynode *copy = NULL;
	if (!value)
		return;
	/* Pairs hold mutable nodes because the reader fills them in; nothing changes them here. */
	memcpy(&copy, &value, sizeof copy);
	ch->map.kind = YNODE_MAP;
	ch->map.u.pairs = ch->pairs;
	ch->pairs[ch->map.n++] = (struct ypair){.key = key, .value = copy};
}

static const struct ynode *override_handler(struct merger *m, const struct ynode *step,
                                            const struct ynode *entry)
{
	const struct ynode *over =
	    field_get(field_get(entry, step_fields, "handler"), handler_fields, "initialization");
	const struct ynode *handler = field_get(step, step_fields, "handler");
	if (!over)
		return NULL;
	struct changes ch = {0};
	change(&ch, "initialization",
	       merge(m, field_get(handler, handler_fields, "initialization"), over, true));
	return ch.map.n > 0 ? merge(m, handler, &ch.map, true) : NULL;
}

static const struct ynode *override_retry(struct merger *m, const struct ynode *step,
                                          const struct ynode *entry)
{
	const struct ynode *over = field_get(entry, step_fields, "retry");
	return over ? merge(m, field_get(step, step_fields, "retry"), over, false) : NULL;
}

static const struct ynode * override(struct merger *m, const struct ynode *step, const struct ynode *entry)
{
	if (!entry || !step)
		return step;
	struct changes ch = {0};
	change(&ch, "timeout_seconds", field_get(entry, step_fields, "timeout_seconds"));
	change(&ch, "retry", override_retry(m, step, entry));
	change(&ch, "handler", override_handler(m, step, entry));
	return ch.map.n > 0 ? merge(m, step, &ch.map, true) : step;
}

/* The same step with each dependency once; `edges` are its own. */
static const struct ynode *unique_dependencies(struct merger *m, const struct ynode *step,
                                               const struct dag_edge *edges, size_t n)
{
	const struct ynode *deps = field_get(step, step_fields, "dependencies");
	if (!deps || deps->n == n)
		return step;
	struct ynode *list = yaml_tree_alloc(m->tree, sizeof *list);
	struct ynode **items = yaml_tree_alloc(m->tree, n * sizeof *items);
	if (!list || !items)
		return fail(m, -ENOMEM);
	for (size_t i = 0; i < n; i++)
		items[i] = deps->u.items[edges[i].item];
	*list = *deps;
	list->u.items = items;
	list->n = n;
	struct changes ch = {0};
	change(&ch, "dependencies", list);
	return merge(m, step, &ch.map, true);
}

/* Which entry of the environment is meant for every step, which for each single one (`own`, by place). */
static const struct ynode *sort_entries(const struct ynode *root, const struct steps *s, const char *name,
                                        const struct ynode **own)
{
	const struct ynode *env = name ? ynode_get(field_get(root, task_fields, "environments"), name) : NULL;
	const struct ynode *list = ynode_get(env, "steps"), *all = NULL;
	for (size_t i = 0; ynode_is(list, YNODE_SEQ) && i < list->n; i++) {
		const char *step = ynode_str(ynode_get(list->u.items[i], "name"));
		uint32_t place = steps_find(s, step);
		if (strcmp(step, "ALL") == 0)
			all = list->u.items[i];
		else
			own[place] = list->u.items[i];
	}
	return all;
}

static const struct ynode *make_steps(struct merger *m, const struct ynode *root, const struct steps *s,
                                      const char *name)
{
	cleanup_(cleanup_free) const struct ynode **own = calloc(s->n + (size_t)1, sizeof *own);
	struct ynode *list = yaml_tree_alloc(m->tree, sizeof *list);
	struct ynode **items = yaml_tree_alloc(m->tree, s->n * sizeof *items);
	if (!own || !list || !items)
		return fail(m, -ENOMEM);
	const struct ynode *all = sort_entries(root, s, name, own);
	size_t edge = 0;
	for (uint32_t i = 0; i < s->n; i++) {
		size_t first = edge;
		while (edge < s->n_edges && s->edges[edge].child == i)
			edge++;
		const struct ynode *step = s->list->u.items[i];
		step = unique_dependencies(m, step, s->edges + first, edge - first);
		step = override(m, step, all);
		step = override(m, step, own[i]);
		memcpy(&items[i], &step, sizeof step);
	}
	*list = *s->list;
	list->u.items = items;
	return list;
}

int normal_apply(struct yaml_tree *tree, const struct ynode *root, const struct steps *s, const char *name,
                 const struct ynode **ret)
{
	struct merger m = {.tree = tree};
	struct changes ch = {0};
	change(&ch, "steps", make_steps(&m, root, s, name));
	*ret = m.trouble ? NULL : merge(&m, root, &ch.map, true);
	return m.trouble;
}

/* ---- writing ---- */

static void put_anything(struct buf *out, const struct ynode *n);

static void put_pairs(struct buf *out, const struct ynode *map, const char *prefix, bool first)
{
	cleanup_(cleanup_free) const struct ypair **sorted = calloc(map->n + 1, sizeof *sorted);
	size_t n = 0;
	if (!sorted) {
		out->failed = out->failed ? out->failed : -ENOMEM;
		return;
	}
	for (size_t i = 0; i < map->n; i++)
		if (strncmp(map->u.pairs[i].key, prefix, strlen(prefix)) == 0)
			sorted[n++] = &map->u.pairs[i];
	qsort(sorted, n, sizeof *sorted, by_key);
	for (size_t i = 0; i < n && !out->failed; i++, first = false) {
		if (!first)
			buf_append_char(out, ',');
		json_put_cstr(out, sorted[i]->key);
		buf_append_char(out, ':');
		put_anything(out, sorted[i]->value);
	}
}

static void put_free_map(struct buf *out, const struct ynode *n)
{
	buf_append_char(out, '{');
	put_pairs(out, n, "", true);
	buf_append_char(out, '}');
}

static void put_list(struct buf *out, const struct ynode *n)
{
	buf_append_char(out, '[');
	for (size_t i = 0; i < n->n && !out->failed; i++) {
		if (i > 0)
			buf_append_char(out, ',');
		put_anything(out, n->u.items[i]);
	}
	buf_append_char(out, ']');
}

static void put_anything(struct buf *out, const struct ynode *n)
{
	switch (n->kind) {
	case YNODE_INVALID:
	case YNODE_NULL:
		buf_append_str(out, "null");
		break;
	case YNODE_BOOL:
		buf_append_str(out, n->u.boolean ? "true" : "false");
		break;
	case YNODE_INT:
		json_put_int(out, n->u.integer);
		break;
	case YNODE_FLOAT:
		json_put_double(out, n->u.real);
		break;
	case YNODE_STR:
		json_put_str(out, n->text, n->n);
		break;
	case YNODE_SEQ:
		put_list(out, n);
		break;
	case YNODE_MAP:
		put_free_map(out, n);
		break;
	}
}

void normal_put_value(struct buf *out, const struct ynode *n)
{
	put_anything(out, n);
}

static void put_maps(struct buf *out, const struct ynode *list, const struct field *table)
{
	buf_append_char(out, '[');
	for (size_t i = 0; i < list->n && !out->failed; i++) {
		if (i > 0)
			buf_append_char(out, ',');
		normal_put_map(out, list->u.items[i], table, true);
	}
	buf_append_char(out, ']');
}

void normal_put_field(struct buf *out, const struct ynode *map, const struct field *f)
{
	const struct ynode *n = field_value(map, f);
	if (!n && !f->fill)
		buf_append_str(out, f->fallback ? f->fallback : "null");
	else if (f->type == FIELD_MAP)
		normal_put_map(out, n, f->sub, true);
	else if (f->type == FIELD_MAPS)
		put_maps(out, n, f->sub);
	else if (f->type == FIELD_INT)
		json_put_int(out, n->u.integer < f->floor ? f->floor : n->u.integer);
	else
		put_anything(out, n);
}

void normal_put_map(struct buf *out, const struct ynode *map, const struct field *table, bool extras)
{
	bool first = true;
	buf_append_char(out, '{');
	for (const struct field *f = table; f->name; f++) {
		if (f->applied || (!field_value(map, f) && !f->fallback && !f->fill))
			continue;
		if (!first)
			buf_append_char(out, ',');
		first = false;
		json_put_cstr(out, f->name);
		buf_append_char(out, ':');
		normal_put_field(out, map, f);
	}
	if (map && extras)
		put_pairs(out, map, "x-", first);
	buf_append_char(out, '}');
}

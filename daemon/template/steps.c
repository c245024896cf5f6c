/* Checks across steps: names, dependencies, cycles, types, environments. Works on trees that have errors
 * elsewhere, so that everything is found in one go: whatever is not of the right type is passed over, because
 * check_map() has reported it. */
#include "daemon/template/steps.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/template/events.h"
#include "daemon/template/unsupported.h"
#include "daemon/template/fields.h"
#include "daemon/template/suggest.h"

#define STEPS_PATH PATH_KEY(NULL, "steps")
#define STEP_PATH(i) PATH_INDEX(STEPS_PATH, (i))

static const struct ynode *step_at(const struct steps *s, uint32_t i)
{
	return s->list->u.items[i];
}

static const char *name_of(const struct steps *s, uint32_t i)
{
	return ynode_str(field_get(step_at(s, i), step_fields, "name"));
}

static const char *type_of(const struct steps *s, uint32_t i)
{
	const char *type = ynode_str(field_get(step_at(s, i), step_fields, "type"));
	return type ? type : "standard";
}

static bool has_type(const struct steps *s, uint32_t i, const char *type)
{
	return strcmp(type_of(s, i), type) == 0;
}

/* ---- names ---- */

struct named {
	const char *name;
	uint32_t place;
};

static int by_name(const void *va, const void *vb)
{
	const struct named *a = va, *b = vb;
	int c = strcmp(a->name, b->name);
	return c ? c : (a->place < b->place ? -1 : a->place > b->place);
}

static void repeated_name(struct check *c, const struct steps *s, const struct named *first, uint32_t again)
{
	const struct ynode *n = field_get(step_at(s, again), step_fields, "name");
	check_error(c, PATH_KEY(STEP_PATH(again), "name"), n,
	            "the step name %s is already taken by steps[%u] at line %u", QUOTE(first->name),
	            first->place, field_get(step_at(s, first->place), step_fields, "name")->line);
}

static int index_names(struct check *c, struct steps *s)
{
	cleanup_(cleanup_free) struct named *all = calloc(s->n + (size_t)1, sizeof *all);
	s->by_name = calloc(s->n + (size_t)1, sizeof *s->by_name);
	s->places = calloc(s->n + (size_t)1, sizeof *s->places);
	if (!all || !s->by_name || !s->places)
		return -ENOMEM;
	size_t n = 0;
	for (uint32_t i = 0; i < s->n; i++) {
		const char *name = name_of(s, i);
		if (name)
			all[n++] = (struct named){name, i};
	}
	qsort(all, n, sizeof *all, by_name);
	const struct named *first = NULL;
	for (size_t i = 0; i < n; i++) {
		if (first && strcmp(first->name, all[i].name) == 0) {
			repeated_name(c, s, first, all[i].place);
			continue;
		}
		first = &all[i];
		s->by_name[s->n_names] = first->name;
		s->places[s->n_names++] = first->place;
	}
	return 0;
}

uint32_t steps_find(const struct steps *s, const char *name)
{
	uint32_t lo = 0, hi = s->n_names;
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		int c = strcmp(name, s->by_name[mid]);
		if (c == 0)
			return s->places[mid];
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return DAG_NONE;
}

static void unknown_step(struct check *c, const struct steps *s, const struct path *p, const struct ynode *n)
{
	const char *near = suggest_nearest(n->text, s->by_name, s->n_names, &c->suggest_budget);
	struct quoted q;
	check_error(c, p, n, "found %s, but no step has this name%s%s%s", DESCRIBE(n),
	            near ? "; did you mean " : "", near ? quote_text(&q, near, strlen(near)) : "",
	            near ? "?" : "");
}

/* ---- dependencies ---- */

/* `stamp` holds for each step the last child that named it, plus one. */
static void add_dependency(struct check *c, struct steps *s, uint32_t child, const struct ypair *deps,
                           uint32_t item, uint32_t *stamp)
{
	const struct ynode *n = deps->value->u.items[item];
	const struct path *p = PATH_INDEX(PATH_KEY(STEP_PATH(child), deps->key), item);
	const char *name = ynode_str(n);
	if (!name)
		return;
	uint32_t parent = steps_find(s, name);
	if (parent == DAG_NONE) {
		unknown_step(c, s, p, n);
	} else if (stamp[parent] == child + 1) {
		check_warning(c, p, n, "%s is named twice; once is enough", DESCRIBE(n));
	} else {
		stamp[parent] = child + 1;
		s->edges[s->n_edges++] = (struct dag_edge){.parent = parent, .child = child, .item = item};
	}
}

static const struct ypair *dependencies_of(const struct steps *s, uint32_t i)
{
	const struct ypair *p = field_pair(step_at(s, i), field_find(step_fields, "dependencies"));
	return p && p->value->kind == YNODE_SEQ ? p : NULL;
}

static int read_dependencies(struct check *c, struct steps *s)
{
	size_t room = 1;
	for (uint32_t i = 0; i < s->n; i++) {
		const struct ypair *deps = dependencies_of(s, i);
		room += deps ? deps->value->n : 0;
	}
	cleanup_(cleanup_free) uint32_t *stamp = calloc(s->n + (size_t)1, sizeof *stamp);
	s->edges = calloc(room, sizeof *s->edges);
	if (!s->edges || !stamp)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->n; i++) {
		const struct ypair *deps = dependencies_of(s, i);
		for (uint32_t k = 0; deps && k < deps->value->n; k++)
			add_dependency(c, s, i, deps, k, stamp);
	}
	return 0;
}

/* ---- cycles ---- */

#define CYCLE_SHOWN 12

struct cycle_report {
	struct check *c;
	const struct steps *s;
};

static void report_cycle(void *arg, const uint32_t *steps, size_t n, const struct dag_edge *closing)
{
	const struct cycle_report *r = arg;
	struct quoted q;
	struct buf names;
	buf_init(&names, 0);
	for (size_t i = 0; i < n; i++) {
		if (i == CYCLE_SHOWN - 2 && n > CYCLE_SHOWN) {
			buf_printf(&names, "(%zu more) -> ", n - CYCLE_SHOWN + 1);
			i = n - 1;
		}
		buf_printf(&names, "%s -> ", show_name(&q, name_of(r->s, steps[i])));
	}
	buf_append_str(&names, show_name(&q, name_of(r->s, steps[0])));
	const struct ypair *deps = dependencies_of(r->s, closing->child);
	const char *text = buf_text(&names);
	if (text && deps)
		check_error(r->c, PATH_INDEX(PATH_KEY(STEP_PATH(closing->child), deps->key), closing->item),
		            deps->value->u.items[closing->item], "the steps wait for each other: %s", text);
	else
		r->c->f->failed = true;
	buf_done(&names);
}

static int check_graph(struct check *c, const struct steps *s, struct dag *d)
{
	int r = dag_build(d, s->n, s->edges, s->n_edges);
	if (r > 0)
		r = dag_cycles(d, s->edges, s->n_edges, report_cycle, &(struct cycle_report){c, s});
	return r;
}

/* ---- types ---- */

/* Per step: is there a parent, a parent of type batchable, a child of type batch_worker? */
struct surroundings {
	bool parent, batchable_parent, worker_child;
};

static const struct ynode *type_mark(const struct steps *s, uint32_t i)
{
	return field_get(step_at(s, i), step_fields, "type");
}

static void check_worker_name(struct check *c, const struct steps *s, const struct path *p,
                              const struct ynode *n)
{
	if (!ynode_is(n, YNODE_STR))
		return;
	uint32_t worker = steps_find(s, n->text);
	if (worker == DAG_NONE)
		unknown_step(c, s, p, n);
	else if (!has_type(s, worker, "batch_worker"))
		check_error(c, p, n,
		            "found %s, which is a step of type %s, expected one of type batch_worker",
		            DESCRIBE(n), type_of(s, worker));
}

static void check_batch_config(struct check *c, const struct steps *s, uint32_t i)
{
	const struct ypair *config = field_pair(step_at(s, i), field_find(step_fields, "batch_config"));
	if (config && !has_type(s, i, "batchable") && !has_type(s, i, "batch_worker"))
		check_warning(c, PATH_KEY(STEP_PATH(i), config->key), config,
		              "has no meaning in a step of type %s: it belongs in one of type batchable or "
		              "batch_worker",
		              type_of(s, i));
	if (config)
		check_worker_name(c, s, PATH_KEY(PATH_KEY(STEP_PATH(i), config->key), "worker_template"),
		                  ynode_get(config->value, "worker_template"));
}

static void check_decision(struct check *c, const struct steps *s, uint32_t i,
                           const struct surroundings *around)
{
	if (!around->parent)
		check_error(c, PATH_KEY(STEP_PATH(i), "dependencies"), type_mark(s, i),
		            "a decision needs at least one dependency");
}

static void check_convergence(struct check *c, const struct steps *s, uint32_t i,
                              const struct surroundings *around)
{
	if (!around->parent)
		check_warning(c, PATH_KEY(STEP_PATH(i), "dependencies"), type_mark(s, i),
		              "a deferred_convergence without dependencies has nothing to wait for");
}

static void check_batchable(struct check *c, const struct steps *s, uint32_t i,
                            const struct surroundings *around)
{
	if (!around->worker_child)
		check_error(c, PATH_KEY(STEP_PATH(i), "type"), type_mark(s, i),
		            "a batchable step needs a step of type batch_worker that depends on it");
	const struct ynode *handler = field_get(step_at(s, i), step_fields, "handler");
	const struct ynode *init = field_get(handler, handler_fields, "initialization");
	const struct path *p = PATH_KEY(PATH_KEY(STEP_PATH(i), "handler"), "initialization");
	check_worker_name(c, s, PATH_KEY(p, "worker_template_name"), ynode_get(init, "worker_template_name"));
}

static void check_worker(struct check *c, const struct steps *s, uint32_t i,
                         const struct surroundings *around)
{
	if (!around->batchable_parent)
		check_error(c, PATH_KEY(STEP_PATH(i), "dependencies"), type_mark(s, i),
		            "a batch_worker needs a step of type batchable among its dependencies");
}

static const struct {
	const char *type;
	void (*check)(struct check *c, const struct steps *s, uint32_t i, const struct surroundings *around);
} type_checks[] = {
    {"decision", check_decision},
    {"deferred_convergence", check_convergence},
    {"batchable", check_batchable},
    {"batch_worker", check_worker},
};

static int check_types(struct check *c, const struct steps *s)
{
	cleanup_(cleanup_free) struct surroundings *around = calloc(s->n + (size_t)1, sizeof *around);
	if (!around)
		return -ENOMEM;
	for (size_t i = 0; i < s->n_edges; i++) {
		uint32_t parent = s->edges[i].parent, child = s->edges[i].child;
		around[child].parent = true;
		around[child].batchable_parent |= has_type(s, parent, "batchable");
		around[parent].worker_child |= has_type(s, child, "batch_worker");
	}
	for (uint32_t i = 0; i < s->n; i++) {
		check_batch_config(c, s, i);
		for (size_t k = 0; k < sizeof type_checks / sizeof type_checks[0]; k++)
			if (has_type(s, i, type_checks[k].type))
				type_checks[k].check(c, s, i, &around[i]);
	}
	return 0;
}

/* ---- environments ---- */

static void check_override(struct check *c, const struct steps *s, const struct path *p,
                           const struct ynode *n, uint32_t *stamp, uint32_t mark)
{
	if (!ynode_is(n, YNODE_STR))
		return;
	bool all = strcmp(n->text, "ALL") == 0;
	uint32_t place = all ? s->n : steps_find(s, n->text);
	if (place == DAG_NONE) {
		unknown_step(c, s, p, n);
	} else if (stamp[place] == mark) {
		check_error(c, p, n, "%s has an entry in this environment already", DESCRIBE(n));
	} else {
		stamp[place] = mark;
	}
}

static int check_environments(struct check *c, const struct steps *s, const struct ynode *root)
{
	const struct ynode *envs = field_get(root, task_fields, "environments");
	cleanup_(cleanup_free) uint32_t *stamp = calloc(s->n + (size_t)1, sizeof *stamp);
	if (!stamp)
		return -ENOMEM;
	for (uint32_t e = 0; ynode_is(envs, YNODE_MAP) && e < envs->n; e++) {
		const struct ypair *env = &envs->u.pairs[e];
		const struct ynode *list = ynode_get(env->value, "steps");
		const struct path *p = PATH_KEY(PATH_KEY(PATH_KEY(NULL, "environments"), env->key), "steps");
		for (size_t i = 0; ynode_is(list, YNODE_SEQ) && i < list->n; i++)
			check_override(c, s, PATH_KEY(PATH_INDEX(p, i), "name"),
			               ynode_get(list->u.items[i], "name"), stamp, e + 1);
	}
	return 0;
}

/* ---- all of it ---- */

static void check_reserved_name(struct check *c, const struct steps *s)
{
	uint32_t i = steps_find(s, "ALL");
	if (i != DAG_NONE)
		check_warning(c, PATH_KEY(STEP_PATH(i), "name"),
		              field_get(step_at(s, i), step_fields, "name"),
		              "a step named ALL cannot be meant in environments, where ALL is every step");
}

int steps_check(struct check *c, const struct ynode *root, struct steps *s, struct dag *d)
{
	*s = (struct steps){.list = field_get(root, task_fields, "steps")};
	*d = (struct dag){0};
	check_features(c, root);
	check_events(c, root);
	if (!ynode_is(s->list, YNODE_SEQ))
		return 0;
	s->n = (uint32_t)s->list->n;
	int r = index_names(c, s);
	if (r < 0)
		return r;
	check_reserved_name(c, s);
	r = read_dependencies(c, s);
	if (r == 0)
		r = check_graph(c, s, d);
	if (r == 0)
		r = check_types(c, s);
	if (r == 0)
		r = check_environments(c, s, root);
	return r;
}

void steps_done(struct steps *s)
{
	free(s->by_name);
	free(s->places);
	free(s->edges);
	*s = (struct steps){0};
}

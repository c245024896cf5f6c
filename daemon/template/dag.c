/* Graph algorithms on compressed adjacency arrays: linear in steps and edges, but for a heap that breaks
 * ties. Pure; one thread. */
#include "daemon/template/dag.h"

#include <errno.h>
#include <string.h>

struct heap {
	uint32_t *items;
	size_t n;
};

static void swap(uint32_t *a, uint32_t *b)
{
	uint32_t t = *a;
	*a = *b;
	*b = t;
}

static void heap_push(struct heap *h, uint32_t v)
{
	size_t i = h->n++;
	h->items[i] = v;
	for (; i > 0 && h->items[(i - 1) / 2] > h->items[i]; i = (i - 1) / 2)
		swap(&h->items[i], &h->items[(i - 1) / 2]);
}

static uint32_t heap_pop(struct heap *h)
{
	uint32_t top = h->items[0];
	h->items[0] = h->items[--h->n];
	for (size_t i = 0;;) {
		size_t l = 2 * i + 1, least = i;
		for (size_t k = l; k < l + 2 && k < h->n; k++)
			if (h->items[k] < h->items[least])
				least = k;
		if (least == i)
			return top;
		swap(&h->items[i], &h->items[least]);
		i = least;
	}
}

static uint32_t *array(size_t n)
{
	return calloc(n ? n : 1, sizeof(uint32_t));
}

/* By place in the file: where the edges of each child begin, and the edges of each parent. */
struct by_place {
	uint32_t *child_edges, *parent_start, *parent_edges;
};

static void by_place_done(struct by_place *b)
{
	free(b->child_edges);
	free(b->parent_start);
	free(b->parent_edges);
}

static int by_place_init(struct by_place *b, uint32_t n, const struct dag_edge *edges, size_t n_edges)
{
	b->child_edges = array((size_t)n + 1);
	b->parent_start = array((size_t)n + 2);
	b->parent_edges = array(n_edges);
	if (!b->child_edges || !b->parent_start || !b->parent_edges)
		return -ENOMEM;
	for (size_t i = 0; i < n_edges; i++) {
		b->child_edges[edges[i].child + 1]++;
		b->parent_start[edges[i].parent + 2]++;
	}
	for (size_t i = 0; i < n; i++) {
		b->child_edges[i + 1] += b->child_edges[i];
		b->parent_start[i + 2] += b->parent_start[i + 1];
	}
	for (size_t i = 0; i < n_edges; i++)
		b->parent_edges[b->parent_start[edges[i].parent + 1]++] = (uint32_t)i;
	return 0;
}

static int sort_steps(struct dag *d, const struct by_place *b, const struct dag_edge *edges)
{
	cleanup_(cleanup_free) uint32_t *waits_for = array(d->n);
	cleanup_(cleanup_free) uint32_t *room = array(d->n);
	if (!waits_for || !room)
		return -ENOMEM;
	struct heap ready = {.items = room};
	for (uint32_t i = 0; i < d->n; i++) {
		d->no_of[i] = DAG_NONE;
		waits_for[i] = b->child_edges[i + 1] - b->child_edges[i];
		if (waits_for[i] == 0)
			heap_push(&ready, i);
	}
	uint32_t no = 0;
	while (ready.n > 0) {
		uint32_t step = heap_pop(&ready);
		d->order[no] = step;
		d->no_of[step] = no++;
		for (uint32_t e = b->parent_start[step]; e < b->parent_start[step + 1]; e++) {
			uint32_t child = edges[b->parent_edges[e]].child;
			if (--waits_for[child] == 0)
				heap_push(&ready, child);
		}
	}
	return no < d->n;
}

/* Adjacency by number. Going through children in ascending order leaves each list of children ascending, and
 * then the same for parents. */
static void renumber(struct dag *d, const struct by_place *b, const struct dag_edge *edges, size_t n_edges)
{
	for (size_t i = 0; i < n_edges; i++) {
		d->child_start[d->no_of[edges[i].parent] + 2]++;
		d->parent_start[d->no_of[edges[i].child] + 2]++;
	}
	for (size_t i = 0; i < d->n; i++) {
		d->child_start[i + 2] += d->child_start[i + 1];
		d->parent_start[i + 2] += d->parent_start[i + 1];
	}
	for (uint32_t no = 0; no < d->n; no++) {
		uint32_t place = d->order[no];
		for (uint32_t e = b->child_edges[place]; e < b->child_edges[place + 1]; e++)
			d->children[d->child_start[d->no_of[edges[e].parent] + 1]++] = no;
	}
	for (uint32_t no = 0; no < d->n; no++)
		for (uint32_t k = d->child_start[no]; k < d->child_start[no + 1]; k++)
			d->parents[d->parent_start[d->children[k] + 1]++] = no;
}

static int build(struct dag *d, const struct by_place *b, const struct dag_edge *edges, size_t n_edges)
{
	d->order = array(d->n);
	d->no_of = array(d->n);
	d->parent_start = array((size_t)d->n + 2);
	d->child_start = array((size_t)d->n + 2);
	d->parents = array(n_edges);
	d->children = array(n_edges);
	if (!d->order || !d->no_of || !d->parent_start || !d->child_start || !d->parents || !d->children)
		return -ENOMEM;
	int r = sort_steps(d, b, edges);
	if (r == 0)
		renumber(d, b, edges, n_edges);
	return r;
}

int dag_build(struct dag *d, uint32_t n, const struct dag_edge *edges, size_t n_edges)
{
	*d = (struct dag){.n = n};
	struct by_place b = {NULL, NULL, NULL};
	int r = by_place_init(&b, n, edges, n_edges);
	if (r == 0)
		r = build(d, &b, edges, n_edges);
	by_place_done(&b);
	return r;
}

void dag_done(struct dag *d)
{
	free(d->order);
	free(d->no_of);
	free(d->parent_start);
	free(d->child_start);
	free(d->parents);
	free(d->children);
	*d = (struct dag){0};
}

/* ---- cycles ---- */

/* Tarjan's strongly connected components, child to parent, with a stack of its own: a chain may be 100,000
 * long. */
struct knots {
	const struct dag_edge *edges;
	size_t n_edges;
	uint32_t *first;       /* first edge of each step */
	uint32_t *next;        /* edge to follow next */
	uint32_t *seen, *low;  /* order of discovery, from 1 */
	uint32_t *knot;        /* component of each step, from 1; 0: not yet known */
	uint32_t *path, *open; /* the walk, and the steps without a component */
	uint32_t n_path, n_open, clock, n_knots;
};

static void enter(struct knots *k, uint32_t step)
{
	k->seen[step] = k->low[step] = ++k->clock;
	k->next[step] = k->first[step];
	k->path[k->n_path++] = step;
	k->open[k->n_open++] = step;
}

static void leave(struct knots *k, uint32_t step)
{
	k->n_path--;
	if (k->low[step] == k->seen[step]) {
		k->n_knots++;
		do
			k->knot[k->open[--k->n_open]] = k->n_knots;
		while (k->open[k->n_open] != step);
	}
	if (k->n_path > 0) {
		uint32_t below = k->path[k->n_path - 1];
		if (k->low[step] < k->low[below])
			k->low[below] = k->low[step];
	}
}

static void walk_from(struct knots *k, uint32_t start)
{
	enter(k, start);
	while (k->n_path > 0) {
		uint32_t step = k->path[k->n_path - 1], e = k->next[step];
		if (e >= k->n_edges || k->edges[e].child != step) {
			leave(k, step);
			continue;
		}
		k->next[step]++;
		uint32_t parent = k->edges[e].parent;
		if (!k->seen[parent])
			enter(k, parent);
		else if (!k->knot[parent] && k->seen[parent] < k->low[step])
			k->low[step] = k->seen[parent];
	}
}

/* For each step, its first edge from a step of the same knot, or DAG_NONE: following these always ends in a
 * cycle. */
static void edges_in_knots(const struct knots *k, uint32_t n, uint32_t *ret)
{
	memset(ret, 0xff, n * sizeof *ret);
	for (size_t i = k->n_edges; i-- > 0;)
		if (k->knot[k->edges[i].parent] == k->knot[k->edges[i].child])
			ret[k->edges[i].child] = (uint32_t)i;
}

static int find_knots(uint32_t n, const struct dag_edge *edges, size_t n_edges, uint32_t *ret)
{
	uint32_t *room = array((size_t)n * 7);
	if (!room)
		return -ENOMEM;
	struct knots k = {.edges = edges,
	                  .n_edges = n_edges,
	                  .first = room,
	                  .next = room + n,
	                  .seen = room + 2 * (size_t)n,
	                  .low = room + 3 * (size_t)n,
	                  .knot = room + 4 * (size_t)n,
	                  .path = room + 5 * (size_t)n,
	                  .open = room + 6 * (size_t)n};
	memset(k.first, 0xff, n * sizeof *k.first);
	for (size_t i = n_edges; i-- > 0;)
		k.first[edges[i].child] = (uint32_t)i;
	for (uint32_t i = 0; i < n; i++)
		if (!k.seen[i])
			walk_from(&k, i);
	edges_in_knots(&k, n, ret);
	free(room);
	return 0;
}

/* `start` is on a cycle of via[] edges, the first of its steps in the file. */
static void tell_cycle(uint32_t start, const struct dag_edge *edges, const uint32_t *via, uint32_t *steps,
                       dag_cycle_fn *found, void *arg)
{
	size_t n = 0;
	steps[n++] = start;
	for (uint32_t at = edges[via[start]].parent; at != start; at = edges[via[at]].parent)
		steps[n++] = at;
	for (size_t i = 1; i < n - i; i++) /* from child-to-parent to running order; the first stays */
		swap(&steps[i], &steps[n - i]);
	found(arg, steps, n, &edges[via[start]]);
}

int dag_cycles(const struct dag *d, const struct dag_edge *edges, size_t n_edges, dag_cycle_fn *found,
               void *arg)
{
	cleanup_(cleanup_free) uint32_t *via = array(d->n);
	cleanup_(cleanup_free) uint32_t *walk = array(d->n); /* which walk has been here, from 1 */
	cleanup_(cleanup_free) uint32_t *steps = array(d->n);
	if (!via || !walk || !steps)
		return -ENOMEM;
	int r = find_knots(d->n, edges, n_edges, via);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < d->n; i++) {
		if (via[i] == DAG_NONE || walk[i])
			continue;
		uint32_t at = i;
		for (; !walk[at]; at = edges[via[at]].parent)
			walk[at] = i + 1;
		if (walk[at] != i + 1)
			continue; /* ran into a cycle that has been told */
		uint32_t first = at;
		for (uint32_t s = edges[via[at]].parent; s != at; s = edges[via[s]].parent)
			if (s < first)
				first = s;
		tell_cycle(first, edges, via, steps, found, arg);
	}
	return 0;
}

/* ---- ancestors ---- */

struct nearest {
	uint32_t *items; /* ascending */
	size_t n, room;
	bool more;
};

/* False if `v`, and with it everything above, has no place. */
static bool nearest_add(struct nearest *c, uint32_t v)
{
	if (c->n == c->room) {
		c->more = true;
		if (c->n == 0 || v > c->items[c->n - 1])
			return false;
		c->n--;
	}
	size_t i = c->n++;
	for (; i > 0 && c->items[i - 1] > v; i--)
		c->items[i] = c->items[i - 1];
	c->items[i] = v;
	return true;
}

static void add_parents(const struct dag *d, uint32_t no, uint32_t *stamp, uint32_t mark, struct nearest *c)
{
	for (uint32_t k = d->parent_start[no]; k < d->parent_start[no + 1]; k++) {
		uint32_t parent = d->parents[k];
		if (stamp[parent] == mark)
			continue;
		if (!nearest_add(c, parent))
			return;
		stamp[parent] = mark;
	}
}

size_t dag_ancestors(const struct dag *d, uint32_t no, uint32_t *stamp, uint32_t *ret, size_t max,
                     bool *ret_cut)
{
	uint32_t mark = no + 1;
	size_t from = 0, n = 0; /* the last level is ret[from..n) */
	struct nearest level = {.items = ret, .room = max};
	add_parents(d, no, stamp, mark, &level);
	n = level.n;
	while (from < n && !level.more) {
		level = (struct nearest){.items = ret + n, .room = max - n};
		for (size_t i = from; i < n; i++)
			add_parents(d, ret[i], stamp, mark, &level);
		from = n;
		n += level.n;
	}
	*ret_cut = level.more;
	return n;
}

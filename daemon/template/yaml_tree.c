/* The tree of values, the memory it lives in, and the builder that both front ends (yaml_events.c,
 * yaml_json.c) drive. Bounds are held here: depth and the number of nodes when something is added, the size
 * before anything is read. Nothing recurses on the input's nesting, and each container costs time in
 * proportion to its entries (times a logarithm for maps, whose keys are compared by sorting). Used from one
 * thread at a time; no I/O. */
#include "daemon/template/yaml_build.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- memory ---- */

#define CHUNK_SIZE ((size_t)64 << 10)
#define ALIGNMENT sizeof(void *)

struct chunk {
	struct chunk *next;
	size_t used, size;
	_Alignas(void *) unsigned char data[];
};

static struct chunk *add_chunk(struct yaml_tree *t, size_t size)
{
	struct chunk *c = calloc(1, sizeof *c + size);
	if (!c)
		return NULL;
	c->size = size;
	if (t->chunks && size > CHUNK_SIZE) { /* a big one of its own: go on filling the current chunk */
		c->next = t->chunks->next;
		t->chunks->next = c;
	} else {
		c->next = t->chunks;
		t->chunks = c;
	}
	return c;
}

void *yaml_tree_alloc(struct yaml_tree *t, size_t size)
{
	size = (size + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
	struct chunk *c = t->chunks;
	if (!c || c->size - c->used < size)
		c = add_chunk(t, size > CHUNK_SIZE ? size : CHUNK_SIZE);
	if (!c)
		return NULL;
	void *p = c->data + c->used;
	c->used += size;
	return p;
}

static char *yaml_tree_strndup(struct yaml_tree *t, const char *text, size_t len)
{
	char *copy = yaml_tree_alloc(t, len + 1);
	if (copy && len > 0)
		memcpy(copy, text, len);
	return copy;
}

struct yaml_tree *yaml_tree_free(struct yaml_tree *t)
{
	if (!t)
		return NULL;
	for (struct chunk *c = t->chunks; c;) {
		struct chunk *next = c->next;
		free(c);
		c = next;
	}
	free(t);
	return NULL;
}

const struct ynode *yaml_tree_root(const struct yaml_tree *t)
{
	return t->root;
}

/* ---- looking at nodes ---- */

const struct ypair *ynode_pair(const struct ynode *map, const char *key)
{
	if (!ynode_is(map, YNODE_MAP))
		return NULL;
	for (size_t i = 0; i < map->n; i++)
		if (strcmp(map->u.pairs[i].key, key) == 0)
			return &map->u.pairs[i];
	return NULL;
}

const struct ynode *ynode_get(const struct ynode *map, const char *key)
{
	const struct ypair *p = ynode_pair(map, key);
	return p ? p->value : NULL;
}

const char *ynode_str(const struct ynode *n)
{
	return ynode_is(n, YNODE_STR) ? n->text : NULL;
}

const char *ynode_describe(struct quoted *q, const struct ynode *n)
{
	static const struct {
		const char *before;
		bool show;
	} words[] = {
	    [YNODE_INVALID] = {"something invalid", false},
	    [YNODE_NULL] = {"nothing", false},
	    [YNODE_BOOL] = {"", true},
	    [YNODE_INT] = {"the number ", true},
	    [YNODE_FLOAT] = {"the number ", true},
	    [YNODE_STR] = {"the text ", true},
	    [YNODE_SEQ] = {"a list", false},
	    [YNODE_MAP] = {"a map", false},
	};
	enum ynode_kind kind = n ? n->kind : YNODE_NULL;
	struct quoted value = {.text = ""};
	if (n && words[kind].show) {
		if (kind == YNODE_STR)
			quote_text(&value, n->text, n->n);
		else
			snprintf(value.text, sizeof value.text, "%.40s", n->text);
	}
	snprintf(q->text, sizeof q->text, "%s%.*s", words[kind].before, 80, value.text);
	return q->text;
}

/* ---- building ---- */

/* One open container. The arrays are kept for the next container of the same depth. */
struct frame {
	struct ynode *node;
	struct ynode **items;
	struct ypair *pairs; /* a NULL key: refused, its value is to be dropped */
	size_t n, items_cap, pairs_cap;
	bool have_key; /* the last pair still lacks its value */
};

int builder_init(struct builder *b, const struct yaml_limits *limits, struct findings *f)
{
	*b = (struct builder){.limits = *limits, .f = f};
	b->tree = calloc(1, sizeof *b->tree);
	b->stack = calloc(limits->max_depth + (size_t)1, sizeof *b->stack);
	return b->tree && b->stack ? 0 : -ENOMEM;
}

void builder_done(struct builder *b)
{
	for (unsigned i = 0; b->stack && i <= b->limits.max_depth; i++) {
		free(b->stack[i].items);
		free(b->stack[i].pairs);
	}
	free(b->stack);
	b->stack = NULL;
	b->tree = yaml_tree_free(b->tree);
}

static void put_path(const struct builder *b, struct buf *path)
{
	for (unsigned i = 0; i < b->depth; i++) {
		const struct frame *fr = &b->stack[i];
		if (fr->n == 0)
			continue;
		if (fr->node->kind == YNODE_SEQ)
			path_put_index(path, fr->n - 1);
		else if (fr->pairs[fr->n - 1].key)
			path_put_key(path, fr->pairs[fr->n - 1].key);
	}
}

void builder_report(struct builder *b, enum severity severity, struct mark at, const char *fmt, ...)
{
	if (b->f->n >= FINDINGS_MAX) { /* only to be counted */
		findings_add(b->f, severity, at.line, at.column, NULL, "more");
		return;
	}
	struct buf path;
	char *message = NULL;
	buf_init(&path, 0);
	put_path(b, &path);
	va_list ap;
	va_start(ap, fmt);
	if (vasprintf(&message, fmt, ap) < 0)
		message = NULL;
	va_end(ap);
	const char *key = buf_text(&path);
	findings_add(b->f, severity, at.line, at.column, key, "%s", message ? message : "out of memory");
	if (!message || !key)
		b->f->failed = true;
	free(message);
	buf_done(&path);
}

static int count_node(struct builder *b, struct mark at)
{
	if (b->tree->nodes++ < b->limits.max_nodes)
		return 0;
	builder_report(b, FINDING_ERROR, at, "more than %zu values in one file", b->limits.max_nodes);
	return -EINVAL;
}

static int grow(void **array, size_t *cap, size_t n, size_t size)
{
	if (n < *cap)
		return 0;
	size_t bigger = *cap ? *cap * 2 : 16;
	void *p = reallocarray(*array, bigger, size);
	if (!p)
		return -ENOMEM;
	*array = p;
	*cap = bigger;
	return 0;
}

static bool wants_key(const struct builder *b)
{
	const struct frame *top = b->depth ? &b->stack[b->depth - 1] : NULL;
	return top && top->node->kind == YNODE_MAP && !top->have_key;
}

/* A new node where the builder stands, INVALID until its kind is known. */
static int place_node(struct builder *b, struct mark at, struct ynode **ret)
{
	int r = count_node(b, at);
	if (r < 0)
		return r;
	struct ynode *n = yaml_tree_alloc(b->tree, sizeof *n);
	if (!n)
		return -ENOMEM;
	n->line = at.line;
	n->column = at.column;
	n->text = "";
	*ret = n;
	if (b->depth == 0) {
		b->tree->root = n;
		return 0;
	}
	struct frame *top = &b->stack[b->depth - 1];
	if (top->node->kind == YNODE_MAP) {
		top->pairs[top->n - 1].value = n;
		top->have_key = false;
		return 0;
	}
	r = grow((void **)&top->items, &top->items_cap, top->n, sizeof(struct ynode *));
	if (r == 0)
		top->items[top->n++] = n;
	return r;
}

/* `text` NULL: the key was refused, and what follows is dropped. */
static int place_key(struct builder *b, const char *text, size_t len, struct mark at)
{
	struct frame *top = &b->stack[b->depth - 1];
	int r = count_node(b, at);
	if (r == 0)
		r = grow((void **)&top->pairs, &top->pairs_cap, top->n, sizeof(struct ypair));
	if (r < 0)
		return r;
	struct ypair pair = {.line = at.line, .column = at.column};
	if (text) {
		pair.key = yaml_tree_strndup(b->tree, text, len);
		if (!pair.key)
			return -ENOMEM;
	}
	top->pairs[top->n++] = pair;
	top->have_key = true;
	return 0;
}

static int refuse_key(struct builder *b, struct mark at, const char *why)
{
	int r = place_key(b, NULL, 0, at);
	if (r == 0)
		builder_report(b, FINDING_ERROR, at, "%s", why);
	return r;
}

static int add_key(struct builder *b, const char *text, size_t len, bool plain, struct mark at)
{
	if (memchr(text, 0, len))
		return refuse_key(b, at, "a key contains U+0000");
	if (plain && len == 2 && memcmp(text, "<<", 2) == 0)
		return refuse_key(b, at, "merge keys (<<) are not supported: write the values out");
	int r = place_key(b, text, len, at);
	if (r < 0 || !plain)
		return r;
	struct frame *top = &b->stack[b->depth - 1];
	struct ynode as_value = {.text = top->pairs[top->n - 1].key, .n = len};
	const char *trouble = yaml_resolve_plain(&as_value);
	if (trouble || as_value.kind == YNODE_STR)
		return 0;
	if (as_value.kind == YNODE_NULL) {
		top->pairs[top->n - 1].key = NULL;
		builder_report(b, FINDING_ERROR, at, "found nothing where a key should be, expected a text");
	} else {
		builder_report(b, FINDING_WARNING, at, "the key %s is read as text: put it in quotes",
		               as_value.text);
	}
	return 0;
}

int builder_scalar(struct builder *b, const char *text, size_t len, bool plain, struct mark at)
{
	if (wants_key(b))
		return add_key(b, text, len, plain, at);
	struct ynode *n = NULL;
	int r = place_node(b, at, &n);
	if (r < 0)
		return r;
	if (memchr(text, 0, len)) {
		builder_report(b, FINDING_ERROR, at, "the text contains U+0000, which cannot be stored");
		return 0;
	}
	n->text = yaml_tree_strndup(b->tree, text, len);
	n->n = len;
	if (!n->text)
		return -ENOMEM;
	if (!plain) {
		n->kind = YNODE_STR;
		return 0;
	}
	const char *trouble = yaml_resolve_plain(n);
	if (trouble)
		builder_report(b, FINDING_ERROR, at, "found %.40s: %s", n->text, trouble);
	else if (yaml_leading_zero(n))
		builder_report(b, FINDING_WARNING, at,
		               "found %.40s, which is the decimal number %" PRId64
		               ": write it without the zero, as 0o... if octal is meant, or in quotes",
		               n->text, n->u.integer);
	return 0;
}

int builder_invalid(struct builder *b, struct mark at)
{
	struct ynode *n = NULL;
	return wants_key(b) ? place_key(b, NULL, 0, at) : place_node(b, at, &n);
}

int builder_open(struct builder *b, enum ynode_kind kind, struct mark at)
{
	if (wants_key(b)) {
		b->stack[b->depth - 1].n = 0; /* the path is that of the map */
		builder_report(b, FINDING_ERROR, at, "found %s as a key, expected a text",
		               kind == YNODE_SEQ ? "a list" : "a map");
		return -EINVAL;
	}
	if (b->depth >= b->limits.max_depth) {
		builder_report(b, FINDING_ERROR, at, "nested more than %u deep", b->limits.max_depth);
		return -EINVAL;
	}
	struct ynode *n = NULL;
	int r = place_node(b, at, &n);
	if (r < 0)
		return r;
	n->kind = kind;
	struct frame *top = &b->stack[b->depth++];
	top->node = n;
	top->n = 0;
	top->have_key = false;
	return 0;
}

static int by_key(const void *va, const void *vb)
{
	const struct ypair *const *a = va, *const *b = vb;
	int c = strcmp((*a)->key, (*b)->key);
	return c ? c : (*a < *b ? -1 : *a > *b);
}

/* Report each key that occurs again and take its key away, so that the first one counts. */
static int refuse_repeated_keys(struct builder *b, struct frame *top)
{
	cleanup_(cleanup_free) struct ypair **sorted = calloc(top->n, sizeof *sorted);
	if (!sorted)
		return -ENOMEM;
	size_t n = 0;
	for (size_t i = 0; i < top->n; i++)
		if (top->pairs[i].key)
			sorted[n++] = &top->pairs[i];
	qsort(sorted, n, sizeof *sorted, by_key);
	size_t all = top->n;
	for (size_t i = 1, first = 0; i < n; i++) {
		if (strcmp(sorted[i]->key, sorted[first]->key) != 0) {
			first = i;
			continue;
		}
		struct mark at = {sorted[i]->line, sorted[i]->column};
		top->n = (size_t)(sorted[i] - top->pairs) + 1; /* where the path of the finding ends */
		builder_report(b, FINDING_ERROR, at, "the key occurs twice: it is already given at line %u",
		               sorted[first]->line);
		top->n = all;
		sorted[i]->key = NULL;
	}
	return 0;
}

static int close_map(struct builder *b, struct frame *top)
{
	int r = top->n > 1 ? refuse_repeated_keys(b, top) : 0;
	if (r < 0)
		return r;
	size_t n = 0;
	for (size_t i = 0; i < top->n; i++)
		if (top->pairs[i].key)
			top->pairs[n++] = top->pairs[i];
	top->node->u.pairs = yaml_tree_alloc(b->tree, n * sizeof(struct ypair));
	if (!top->node->u.pairs)
		return -ENOMEM;
	if (n > 0)
		memcpy(top->node->u.pairs, top->pairs, n * sizeof(struct ypair));
	top->node->n = n;
	return 0;
}

static int close_seq(struct builder *b, struct frame *top)
{
	top->node->u.items = yaml_tree_alloc(b->tree, top->n * sizeof(struct ynode *));
	if (!top->node->u.items)
		return -ENOMEM;
	if (top->n > 0)
		memcpy(top->node->u.items, top->items, top->n * sizeof(struct ynode *));
	top->node->n = top->n;
	return 0;
}

int builder_close(struct builder *b)
{
	struct frame *top = &b->stack[b->depth - 1];
	int r = top->node->kind == YNODE_MAP ? close_map(b, top) : close_seq(b, top);
	if (r == 0)
		b->depth--;
	return r;
}

/* A walk over MessagePack that is afraid of it. It keeps one number, `promised`: how many items the headers
 * seen so far have announced and have not delivered. Every item takes at least one byte, so a header that
 * raises it above the bytes left is a lie and is refused before anything believes it; that bounds what
 * msgpack-c reserves afterwards to a constant times the frame. The open containers are on a small fixed
 * stack, there is no recursion.
 *
 * Keys of the maps that are open lie on a second stack, as (hash, pointer, length). When a map ends, its keys
 * are compared: few of them pairwise, more by heapsort. The order is hash, then length, then bytes, so that
 * keys made to collide cost no more than comparing their bytes n log n times: no secret seed is needed and no
 * input is quadratic.
 *
 * No state outlives a call; any thread. Nothing here knows what a message is. */
#include "protocol/scan.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/utf8.h"

#define KEYS_INLINE 256u  /* open map keys held without allocating */
#define KEYS_PAIRWISE 16u /* maps up to this size are checked pair by pair */

enum kind { K_SCALAR, K_STR, K_BIN, K_ARRAY, K_MAP, K_EXT, K_RESERVED };

/* `width`: for scalars the bytes after the tag, otherwise the bytes of the length field. */
struct tag {
	uint8_t kind, width;
};
// clang-format off
static const struct tag tags[32] = {
	/* 0xc0 nil, -, false, true */
	{K_SCALAR, 0}, {K_RESERVED, 0}, {K_SCALAR, 0}, {K_SCALAR, 0},
	/* 0xc4 bin 8, 16, 32; 0xc7 ext 8, 16, 32 */
	{K_BIN, 1}, {K_BIN, 2}, {K_BIN, 4}, {K_EXT, 1}, {K_EXT, 2}, {K_EXT, 4},
	/* 0xca float 32, 64; 0xcc uint 8 to 64; 0xd0 int 8 to 64 */
	{K_SCALAR, 4}, {K_SCALAR, 8}, {K_SCALAR, 1}, {K_SCALAR, 2}, {K_SCALAR, 4}, {K_SCALAR, 8},
	{K_SCALAR, 1}, {K_SCALAR, 2}, {K_SCALAR, 4}, {K_SCALAR, 8},
	/* 0xd4 fixext; 0xd9 str 8, 16, 32; 0xdc array 16, 32; 0xde map 16, 32 */
	{K_EXT, 0}, {K_EXT, 0}, {K_EXT, 0}, {K_EXT, 0}, {K_EXT, 0}, {K_STR, 1}, {K_STR, 2}, {K_STR, 4},
	{K_ARRAY, 2}, {K_ARRAY, 4}, {K_MAP, 2}, {K_MAP, 4},
};
// clang-format on

struct key {
	const unsigned char *p;
	uint32_t len, hash;
};

struct level {
	uint64_t left;    /* items still to come; keys and values count separately */
	size_t keys_from; /* where this map's keys start on the key stack */
	bool map;
};

struct walk {
	const unsigned char *data;
	size_t len, pos;
	uint64_t promised, items, max_items;
	unsigned depth, max_depth;
	struct scan_error *err;
	struct key *keys;
	size_t nkeys, cap_keys;
	struct level levels[SCAN_MAX_DEPTH];
	struct key inline_keys[KEYS_INLINE];
};

/* What a header says: `n` is payload bytes, or elements or pairs for containers. */
struct item {
	enum kind kind;
	size_t head;
	uint64_t n;
};

static int fail(struct walk *w, const char *what, size_t offset)
{
	w->err->what = what;
	w->err->offset = offset;
	return -EBADMSG;
}

static uint32_t hash_bytes(const unsigned char *p, size_t n)
{
	uint64_t h = n, w;
	for (; n >= sizeof w; p += sizeof w, n -= sizeof w) {
		memcpy(&w, p, sizeof w);
		h = (h ^ w) * 0x9E3779B97F4A7C15ULL;
		h ^= h >> 32;
	}
	w = 0;
	memcpy(&w, p, n);
	h = (h ^ w) * 0x9E3779B97F4A7C15ULL;
	return (uint32_t)(h >> 32);
}

static int compare_keys(const struct key *a, const struct key *b)
{
	if (a->hash != b->hash)
		return a->hash < b->hash ? -1 : 1;
	if (a->len != b->len)
		return a->len < b->len ? -1 : 1;
	return memcmp(a->p, b->p, a->len);
}

static void sift_down(struct key *k, size_t at, size_t n)
{
	struct key moving = k[at];
	for (size_t child; (child = 2 * at + 1) < n; at = child) {
		if (child + 1 < n && compare_keys(&k[child], &k[child + 1]) < 0)
			child++;
		if (compare_keys(&moving, &k[child]) >= 0)
			break;
		k[at] = k[child];
	}
	k[at] = moving;
}

static void sort_keys(struct key *k, size_t n)
{
	for (size_t i = n / 2; i-- > 0;)
		sift_down(k, i, n);
	while (n-- > 1) {
		struct key top = k[0];
		k[0] = k[n];
		k[n] = top;
		sift_down(k, 0, n);
	}
}

/* The later one of two equal keys among the `n`, or NULL. May reorder them. */
static const unsigned char *find_duplicate(struct key *k, size_t n)
{
	if (n > KEYS_PAIRWISE)
		sort_keys(k, n);
	for (size_t i = 1; i < n; i++)
		for (size_t j = n > KEYS_PAIRWISE ? i - 1 : 0; j < i; j++)
			if (compare_keys(&k[i], &k[j]) == 0)
				return k[i].p > k[j].p ? k[i].p : k[j].p;
	return NULL;
}

static int grow_keys(struct walk *w)
{
	size_t cap = w->cap_keys * 2;
	bool first = w->keys == w->inline_keys;
	struct key *k = realloc(first ? NULL : w->keys, cap * sizeof *k);
	if (!k) {
		fail(w, "out of memory", w->pos);
		return -ENOMEM;
	}
	if (first)
		memcpy(k, w->inline_keys, sizeof w->inline_keys);
	w->keys = k;
	w->cap_keys = cap;
	return 0;
}

static int push_key(struct walk *w, const unsigned char *p, size_t n)
{
	if (w->nkeys == w->cap_keys) {
		int r = grow_keys(w);
		if (r < 0)
			return r;
	}
	w->keys[w->nkeys++] = (struct key){.p = p, .len = (uint32_t)n, .hash = hash_bytes(p, n)};
	return 0;
}

static int close_level(struct walk *w)
{
	const struct level *l = &w->levels[--w->depth];
	if (!l->map)
		return 0;
	const unsigned char *dup = find_duplicate(w->keys + l->keys_from, w->nkeys - l->keys_from);
	if (dup)
		return fail(w, "duplicate map key", (size_t)(dup - w->data));
	w->nkeys = l->keys_from;
	return 0;
}

/* Read the header at pos. 0, or a failure if it is cut off. */
static int read_header(struct walk *w, struct item *it)
{
	const unsigned char *p = w->data + w->pos;
	if (w->pos == w->len)
		return fail(w, "truncated", w->pos);
	it->head = 1;
	it->n = 0;
	if (p[0] < 0x80 || p[0] >= 0xe0) {
		it->kind = K_SCALAR;
	} else if (p[0] < 0xc0) {
		it->kind = p[0] < 0x90 ? K_MAP : p[0] < 0xa0 ? K_ARRAY : K_STR;
		it->n = p[0] & (it->kind == K_STR ? 0x1f : 0x0f);
	} else {
		struct tag t = tags[p[0] - 0xc0];
		it->kind = (enum kind)t.kind;
		if (t.kind == K_SCALAR) {
			it->n = t.width;
			return 0;
		}
		if (w->len - w->pos - 1 < t.width)
			return fail(w, "truncated", w->pos);
		it->head += t.width;
		for (unsigned i = 1; i <= t.width; i++)
			it->n = it->n << 8 | p[i];
	}
	return 0;
}

static int enter_container(struct walk *w, const struct item *it)
{
	uint64_t children = it->kind == K_MAP ? 2 * it->n : it->n;
	w->promised += children;
	if (w->promised > w->len - w->pos - it->head)
		return fail(w, "truncated", w->pos);
	w->items += children;
	if (w->items > w->max_items)
		return fail(w, "too many items", w->pos);
	if (w->depth == w->max_depth)
		return fail(w, "nested too deeply", w->pos);
	w->levels[w->depth++] =
	    (struct level){.left = children, .keys_from = w->nkeys, .map = it->kind == K_MAP};
	w->pos += it->head;
	return 0;
}

/* A scalar, string or bin. */
static int pass_leaf(struct walk *w, const struct item *it, bool is_key)
{
	if (it->n > w->len - w->pos - it->head)
		return fail(w, "truncated", w->pos);
	w->pos += it->head;
	const unsigned char *p = w->data + w->pos;
	size_t n = (size_t)it->n;
	if (it->kind == K_STR) {
		size_t good = utf8_span(p, n);
		if (good < n)
			return fail(w, "invalid UTF-8", w->pos + good);
	}
	w->pos += n;
	return is_key ? push_key(w, p, n) : 0;
}

static int one_item(struct walk *w, bool is_key)
{
	struct item it;
	int r = read_header(w, &it);
	if (r < 0)
		return r;
	w->promised--;
	if (it.kind == K_RESERVED)
		return fail(w, "reserved byte", w->pos);
	if (it.kind == K_EXT)
		return fail(w, "ext type", w->pos);
	if (is_key && it.kind != K_STR)
		return fail(w, "map key is not a string", w->pos);
	if (it.kind == K_ARRAY || it.kind == K_MAP)
		return enter_container(w, &it);
	return pass_leaf(w, &it, is_key);
}

static int walk_all(struct walk *w)
{
	if (w->max_items < 1)
		return fail(w, "too many items", 0);
	int r = one_item(w, false);
	while (r == 0 && w->depth > 0) {
		struct level *l = &w->levels[w->depth - 1];
		if (l->left == 0) {
			r = close_level(w);
		} else {
			bool is_key = l->map && l->left % 2 == 0;
			l->left--;
			r = one_item(w, is_key);
		}
	}
	if (r == 0 && w->pos < w->len)
		r = fail(w, "trailing bytes", w->pos);
	return r;
}

int scan_value(const void *data, size_t len, const struct scan_limits *limits, struct scan_error *ret_err)
{
	struct walk w; /* not initialised as a whole: the inline keys are 4 KiB */
	w.data = data;
	w.len = len;
	w.pos = 0;
	w.promised = w.items = 1;
	w.max_items = limits->max_items;
	w.depth = 0;
	w.max_depth = limits->max_depth < SCAN_MAX_DEPTH ? limits->max_depth : SCAN_MAX_DEPTH;
	w.err = ret_err;
	w.keys = w.inline_keys;
	w.nkeys = 0;
	w.cap_keys = KEYS_INLINE;
	int r = walk_all(&w);
	if (w.keys != w.inline_keys)
		free(w.keys);
	return r;
}

size_t scan_count(const void *data, size_t len)
{
	struct scan_error why;
	struct walk w; /* only what read_header looks at */
	size_t n = 0;
	w.data = data;
	w.len = len;
	w.pos = 0;
	w.err = &why;
	for (struct item it; w.pos < len && read_header(&w, &it) == 0; n++) {
		size_t body = it.kind == K_ARRAY || it.kind == K_MAP ? 0 : (size_t)it.n;
		if (len - w.pos - it.head < body)
			break;
		w.pos += it.head + body;
	}
	return n;
}

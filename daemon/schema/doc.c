#include "daemon/schema/doc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct reader {
	struct jdoc *d;
	const char *p, *end;
	size_t len;
};

static void skip_blanks(struct reader *r)
{
	while (r->p < r->end && (*r->p == ' ' || *r->p == '\n' || *r->p == '\t' || *r->p == '\r'))
		r->p++;
}

static bool next_is(struct reader *r, char c)
{
	skip_blanks(r);
	if (r->p == r->end || *r->p != c)
		return false;
	r->p++;
	return true;
}

static int grow(void *items, uint32_t *cap, uint32_t need, size_t size)
{
	void *old;
	if (need <= *cap)
		return 0;
	uint64_t more = *cap ? (uint64_t)*cap * 2 : 32;
	while (more < need)
		more *= 2;
	if (more > UINT32_MAX / 2)
		return -E2BIG;
	memcpy(&old, items, sizeof old);
	void *p = reallocarray(old, (size_t)more, size);
	if (!p)
		return -ENOMEM;
	memcpy(items, &p, sizeof p);
	*cap = (uint32_t)more;
	return 0;
}

/* ---- strings ---- */

static int hex4(const char *p, const char *end)
{
	int v = 0;
	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		char c = p[i];
		int d = c >= '0' && c <= '9'   ? c - '0'
		        : c >= 'a' && c <= 'f' ? c - 'a' + 10
		        : c >= 'A' && c <= 'F' ? c - 'A' + 10
		                               : -1;
		if (d < 0)
			return -1;
		v = v * 16 + d;
	}
	return v;
}

static char *put_utf8(char *out, uint32_t c)
{
	if (c < 0x80) {
		*out++ = (char)c;
	} else if (c < 0x800) {
		*out++ = (char)(0xc0 | c >> 6);
		*out++ = (char)(0x80 | (c & 63));
	} else if (c < 0x10000) {
		*out++ = (char)(0xe0 | c >> 12);
		*out++ = (char)(0x80 | (c >> 6 & 63));
		*out++ = (char)(0x80 | (c & 63));
	} else {
		*out++ = (char)(0xf0 | c >> 18);
		*out++ = (char)(0x80 | (c >> 12 & 63));
		*out++ = (char)(0x80 | (c >> 6 & 63));
		*out++ = (char)(0x80 | (c & 63));
	}
	return out;
}

/* After "\u"; NULL if it is no character. */
static const char *read_unicode(const char *p, const char *end, char **out)
{
	int hi = hex4(p, end);
	if (hi < 0 || (hi >= 0xdc00 && hi < 0xe000))
		return NULL;
	p += 4;
	if (hi < 0xd800 || hi >= 0xe000) {
		*out = put_utf8(*out, (uint32_t)hi);
		return p;
	}
	int lo = end - p > 2 && p[0] == '\\' && p[1] == 'u' ? hex4(p + 2, end) : -1;
	if (lo < 0xdc00 || lo >= 0xe000)
		return NULL;
	*out = put_utf8(*out, 0x10000u + ((uint32_t)(hi - 0xd800) << 10) + (uint32_t)(lo - 0xdc00));
	return p + 6;
}

static const char *read_escape(const char *p, const char *end, char **out)
{
	static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
	if (p == end)
		return NULL;
	if (*p == 'u')
		return read_unicode(p + 1, end, out);
	const char *l = *p ? strchr(letters, *p) : NULL;
	if (!l)
		return NULL;
	*(*out)++ = meant[l - letters];
	return p + 1;
}

/* A string with escapes, from its first character on, into d->strings. */
static int read_escaped(struct reader *r, const char **ret, uint32_t *ret_n)
{
	struct jdoc *d = r->d;
	if (!d->strings)
		d->strings = malloc(r->len + 1); /* no string is longer than its spelling */
	if (!d->strings)
		return -ENOMEM;
	char *start = d->strings + d->used, *out = start;
	for (const char *p = r->p; p && p < r->end;) {
		if (*p == '"') {
			r->p = p + 1;
			*ret = start;
			*ret_n = (uint32_t)(out - start);
			d->used += *ret_n;
			return 0;
		}
		if (*p == '\\')
			p = read_escape(p + 1, r->end, &out);
		else if ((unsigned char)*p < 0x20)
			return -EINVAL;
		else
			*out++ = *p++;
	}
	return -EINVAL;
}

/* After the opening quote. */
static int read_string(struct reader *r, const char **ret, uint32_t *ret_n)
{
	const char *p = r->p;
	while (p < r->end && *p != '"' && *p != '\\' && (unsigned char)*p >= 0x20)
		p++;
	if (p == r->end || (unsigned char)*p < 0x20)
		return -EINVAL;
	if (*p == '\\')
		return read_escaped(r, ret, ret_n);
	*ret = r->p;
	*ret_n = (uint32_t)(p - r->p);
	r->p = p + 1;
	return 0;
}

/* ---- values ---- */

static int read_value(struct reader *r, uint32_t parent, unsigned depth, uint32_t *ret);

static int compare_text(const char *a, size_t na, const char *b, size_t nb)
{
	int c = memcmp(a, b, na < nb ? na : nb);
	return c ? c : (na > nb) - (na < nb);
}

static int by_key(const void *va, const void *vb, void *arg)
{
	const struct jdoc *d = arg;
	const struct jnode *a = jnode(d, *(const uint32_t *)va), *b = jnode(d, *(const uint32_t *)vb);
	return compare_text(a->key, a->key_len, b->key, b->key_len);
}

/* The chain of children becomes a list; members are sorted. */
static int close_container(struct jdoc *d, uint32_t no, uint32_t first)
{
	uint32_t n = d->nodes[no].n, at = d->n_children;
	int rc = grow(&d->children, &d->cap_children, at + n, sizeof *d->children);
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < n; i++, first = d->nodes[first].next)
		d->children[at + i] = first;
	d->n_children += n;
	d->nodes[no].u.first = at;
	if (d->nodes[no].type != J_OBJECT || n < 2)
		return 0;
	qsort_r(d->children + at, n, sizeof *d->children, by_key, d);
	for (uint32_t i = 1; i < n; i++)
		if (by_key(&d->children[at + i - 1], &d->children[at + i], d) == 0)
			return -EINVAL;
	return 0;
}

static int read_member_key(struct reader *r, const char **key, uint32_t *len)
{
	int rc = next_is(r, '"') ? read_string(r, key, len) : -EINVAL;
	return rc < 0 ? rc : next_is(r, ':') ? 0 : -EINVAL;
}

/* After the opening bracket. */
static int read_children(struct reader *r, uint32_t no, char close, unsigned depth)
{
	struct jdoc *d = r->d;
	uint32_t first = JNONE, last = JNONE, count = 0, child = JNONE;
	if (depth >= JDOC_MAX_DEPTH)
		return -E2BIG;
	if (next_is(r, close))
		return close_container(d, no, JNONE);
	do {
		const char *key = NULL;
		uint32_t len = 0;
		int rc = close == '}' ? read_member_key(r, &key, &len) : 0;
		if (rc == 0)
			rc = read_value(r, no, depth + 1, &child);
		if (rc < 0)
			return rc;
		d->nodes[child].key = key;
		d->nodes[child].key_len = len;
		d->nodes[child].index = count++;
		if (last == JNONE)
			first = child;
		else
			d->nodes[last].next = child;
		last = child;
	} while (next_is(r, ','));
	d->nodes[no].n = count;
	return next_is(r, close) ? close_container(d, no, first) : -EINVAL;
}

static int read_word(struct reader *r, const char *word)
{
	size_t n = strlen(word);
	if ((size_t)(r->end - r->p) < n || memcmp(r->p, word, n) != 0)
		return -EINVAL;
	r->p += n;
	return 0;
}

static int read_literal(struct reader *r, struct jnode *n)
{
	n->type = *r->p == 'n' ? J_NULL : J_BOOL;
	n->u.boolean = *r->p == 't';
	return read_word(r, *r->p == 'n' ? "null" : *r->p == 't' ? "true" : "false");
}

static int read_number(struct reader *r, struct jnode *n)
{
	const char *p = number_read(r->p, r->end, &n->u.number);
	n->type = J_NUMBER;
	if (!p)
		return -EINVAL;
	r->p = p;
	return 0;
}

static int read_value(struct reader *r, uint32_t parent, unsigned depth, uint32_t *ret)
{
	struct jdoc *d = r->d;
	skip_blanks(r);
	if (r->p == r->end)
		return -EINVAL;
	int rc = grow(&d->nodes, &d->cap, d->n + 1, sizeof *d->nodes);
	if (rc < 0)
		return rc;
	uint32_t no = *ret = d->n++;
	struct jnode *n = &d->nodes[no];
	*n = (struct jnode){.parent = parent};
	switch (*r->p) {
	case '{':
	case '[':
		n->type = *r->p == '{' ? J_OBJECT : J_ARRAY;
		return r->p++, read_children(r, no, n->type == J_OBJECT ? '}' : ']', depth);
	case '"':
		n->type = J_STRING;
		r->p++;
		return read_string(r, &n->u.text, &n->n);
	case 't':
	case 'f':
	case 'n':
		return read_literal(r, n);
	default:
		return read_number(r, n);
	}
}

int jdoc_parse(struct jdoc *d, const char *text, size_t len)
{
	struct reader r = {.d = d, .p = text, .end = text + len, .len = len};
	uint32_t root;
	if (len > UINT32_MAX / 2)
		return -E2BIG;
	int rc = read_value(&r, 0, 0, &root);
	skip_blanks(&r);
	return rc < 0 ? rc : r.p == r.end ? 0 : -EINVAL;
}

void jdoc_done(struct jdoc *d)
{
	free(d->nodes);
	free(d->children);
	free(d->strings);
	*d = (struct jdoc){0};
}

/* ---- asking ---- */

uint32_t jdoc_find(const struct jdoc *d, uint32_t object, const char *key, size_t len)
{
	uint32_t lo = 0, hi = d->nodes[object].type == J_OBJECT ? d->nodes[object].n : 0;
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		const struct jnode *n = jnode(d, jdoc_child(d, object, mid));
		int c = compare_text(key, len, n->key, n->key_len);
		if (c == 0)
			return mid;
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return JNONE;
}

uint32_t jdoc_member(const struct jdoc *d, uint32_t object, const char *key)
{
	uint32_t i = jdoc_find(d, object, key, strlen(key));
	return i == JNONE ? JNONE : jdoc_child(d, object, i);
}

bool jdoc_is(const struct jdoc *d, uint32_t no, const char *text)
{
	const struct jnode *n = jnode(d, no);
	return n->type == J_STRING && n->n == strlen(text) && memcmp(n->u.text, text, n->n) == 0;
}

static void spend(uint64_t *work, uint64_t cost)
{
	*work = *work > cost ? *work - cost : 0;
}

static int compare_children(const struct jdoc *a, uint32_t x, const struct jdoc *b, uint32_t y, uint64_t *work)
{
	const struct jnode *m = jnode(a, x), *n = jnode(b, y);
	if (m->n != n->n)
		return m->n < n->n ? -1 : 1;
	for (uint32_t i = 0; i < m->n && *work > 0; i++) {
		uint32_t p = jdoc_child(a, x, i), q = jdoc_child(b, y, i);
		const struct jnode *s = jnode(a, p), *t = jnode(b, q);
		int c = m->type == J_OBJECT ? compare_text(s->key, s->key_len, t->key, t->key_len) : 0;
		if (c == 0)
			c = jdoc_compare(a, p, b, q, work);
		if (c)
			return c;
	}
	return 0;
}

int jdoc_compare(const struct jdoc *a, uint32_t x, const struct jdoc *b, uint32_t y, uint64_t *work)
{
	const struct jnode *m = jnode(a, x), *n = jnode(b, y);
	if (m->type != n->type)
		return m->type < n->type ? -1 : 1;
	spend(work, 1);
	switch (m->type) {
	case J_NULL:
		return 0;
	case J_BOOL:
		return m->u.boolean - n->u.boolean;
	case J_NUMBER:
		return number_compare(&m->u.number, &n->u.number);
	case J_STRING:
		spend(work, (m->n < n->n ? m->n : n->n) / 16);
		return compare_text(m->u.text, m->n, n->u.text, n->n);
	case J_ARRAY:
	case J_OBJECT:
		break;
	}
	return compare_children(a, x, b, y, work);
}

void jdoc_pointer(const struct jdoc *d, uint32_t no, struct buf *out)
{
	if (no == 0)
		return;
	const struct jnode *n = jnode(d, no);
	jdoc_pointer(d, n->parent, out);
	if (jnode(d, n->parent)->type == J_ARRAY) {
		buf_printf(out, "/%u", n->index);
		return;
	}
	buf_append_char(out, '/');
	for (uint32_t i = 0; i < n->key_len; i++) {
		if (n->key[i] == '~')
			buf_append_str(out, "~0");
		else if (n->key[i] == '/')
			buf_append_str(out, "~1");
		else
			buf_append_char(out, n->key[i]);
	}
}

/* MessagePack to JSON; json_read.c is the way back. It is on the way of every step, so it allocates nothing but
 * the buffer's growth and keeps printf for the odd double.
 * The path of an error is not built unless there is one: the recursion (at most MPJSON_MAX_DEPTH deep) leaves
 * a chain of nodes on the stack. No state, any thread. The text is UTF-8; only what JSON must have escaped is
 * escaped. */
#include "protocol/mpjson.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/utf8.h"

#define DOUBLE_MAX 320 /* characters of a double: a sign, 309 digits, ".0" */

/* One step of the way down to the value at hand. `key` NULL: an array element. */
struct node {
	const struct node *up;
	const msgpack_object *key;
	uint32_t index;
};

struct writer {
	struct buf *out;
	const char *root_name;
	struct mpjson_error *err; /* may be NULL */
	int64_t extra; /* bytes that jsonb prints and this text does not have */
};

static int write_value(struct writer *w, const msgpack_object *o, const struct node *at, unsigned depth);

/* ---- errors ---- */

static bool is_plain_key(const msgpack_object_str *s)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
	for (uint32_t i = 0; i < s->size; i++)
		if (!memchr(plain, s->ptr[i], sizeof plain - 1))
			return false;
	return s->size > 0;
}

static void write_string(struct buf *out, const char *p, size_t n);

static void append_path(struct buf *path, const struct node *at)
{
	if (!at)
		return;
	append_path(path, at->up);
	if (!at->key) {
		buf_printf(path, "[%u]", (unsigned)at->index);
	} else if (is_plain_key(&at->key->via.str)) {
		if (path->len > 0)
			buf_append_char(path, '.');
		buf_append(path, at->key->via.str.ptr, at->key->via.str.size);
	} else {
		buf_append_char(path, '[');
		write_string(path, at->key->via.str.ptr, at->key->via.str.size);
		buf_append_char(path, ']');
	}
}

static int refuse(struct writer *w, const struct node *at, const char *what)
{
	if (!w->err)
		return -EINVAL;
	struct buf path;
	buf_init(&path, 0);
	if (w->root_name)
		buf_append_str(&path, w->root_name);
	append_path(&path, at);
	const char *text = buf_text(&path);
	utf8_copy(w->err->path, sizeof w->err->path, text ? text : "", text ? path.len : 0);
	utf8_copy(w->err->what, sizeof w->err->what, what, strlen(what));
	buf_done(&path);
	return -EINVAL;
}

/* ---- numbers ---- */

/* Decimal digits of `v` ending just before `end`; returns where they start. */
static char *digits_before(char *end, uint64_t v)
{
	do {
		*--end = (char)('0' + v % 10);
		v /= 10;
	} while (v > 0);
	return end;
}

static void write_uint(struct buf *out, uint64_t v, bool negative)
{
	char text[24], *end = text + sizeof text, *s = digits_before(end, v);
	if (negative)
		*--s = '-';
	buf_append(out, s, (size_t)(end - s));
}

/* Doubles of at most 14 digits before and 8 after the point, which are nearly all that are ever sent, go
 * without printf: digits and power of ten are exact and division rounds correctly, so that if the quotient is
 * `v` again, a reader gets `v` too. Returns the length, or 0 if `v` (finite, not negative) is not of that
 * kind. */
static size_t format_short(char *text, double v)
{
	static const double pow10[] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8};
	for (size_t k = 1; k < sizeof pow10 / sizeof *pow10; k++) {
		double scaled = v * pow10[k];
		if (scaled >= 1e15)
			return 0;
		uint64_t whole = (uint64_t)(scaled + 0.5);
		if ((double)whole / pow10[k] != v)
			continue;
		char tmp[32], *end = tmp + sizeof tmp, *s = digits_before(end, whole);
		while ((size_t)(end - s) <= k)
			*--s = '0';
		size_t n = (size_t)(end - s) - k;
		memcpy(text, s, n);
		text[n] = '.';
		memcpy(text + n + 1, s + n, k);
		return n + 1 + k;
	}
	return 0;
}

/* printf writes the decimal point of the process's locale; JSON knows only one. */
static size_t without_locale(char *text)
{
	size_t n = 0;
	for (const char *s = text; *s; s++) {
		if (strchr("0123456789+-e", *s))
			text[n++] = *s;
		else if (n == 0 || text[n - 1] != '.')
			text[n++] = '.';
	}
	text[n] = '\0';
	return n;
}

/* The exponent of "1.25e-07", whose `e` is given: how far the point moves. */
static size_t read_exponent(const char *e)
{
	size_t exponent = 0;
	for (const char *p = e + 2; *p; p++)
		exponent = exponent * 10 + (size_t)(*p - '0');
	return exponent;
}

/* "1.25e+15" to "1250000000000000.0": jsonb keeps all digits of a number, but not whether it had an exponent;
 * without the point the float would come back as an integer. There are never more digits than places. */
static size_t spell_out(char *text, const char *e)
{
	size_t exponent = read_exponent(e), digits = 1;
	if (text[1] == '.') {
		digits = (size_t)(e - text) - 1;
		memmove(text + 1, text + 2, digits - 1);
	}
	memset(text + digits, '0', exponent + 1 - digits);
	memcpy(text + exponent + 1, ".0", 2);
	return exponent + 3;
}

/* What jsonb prints for "1.25e-07": 0.000000125. */
static size_t plain_length(const char *text, const char *e)
{
	size_t fraction = text[1] == '.' ? (size_t)(e - text) - 2 : 0;
	return 2 + read_exponent(e) + fraction;
}

/* `v` is finite and not negative. Adds what jsonb prints more to *extra. */
static size_t format_long(char *text, size_t cap, double v, int64_t *extra)
{
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, cap, "%.*g", digits, v);
		if (strtod(text, NULL) == v)
			break;
	}
	size_t n = without_locale(text);
	const char *e = memchr(text, 'e', n);
	if (e && e[1] == '+')
		return spell_out(text, e);
	if (e) {
		*extra += (int64_t)(plain_length(text, e) - n);
	} else if (!memchr(text, '.', n)) {
		memcpy(text + n, ".0", 2);
		n += 2;
	}
	return n;
}

static void write_finite(struct writer *w, double v)
{
	char text[DOUBLE_MAX];
	size_t n = 0;
	if (signbit(v)) {
		text[n++] = '-';
		w->extra -= v == 0; /* jsonb has one zero */
		v = -v;
	}
	size_t m = format_short(text + n, v);
	if (m == 0)
		m = format_long(text + n, sizeof text - n - 2, v, &w->extra);
	buf_append(w->out, text, n + m);
}

/* ---- strings ---- */

/* What stands after the backslash: 0 nothing to escape, 'u' four hex digits. */
// clang-format off
static const unsigned char escapes[256] = {
	['\0'] = 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'b', 't', 'n', 'u', 'f', 'r', 'u', 'u',
	'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u',
	['"'] = '"', ['\\'] = '\\',
};
// clang-format on

static void write_escape(struct buf *out, unsigned char c)
{
	static const char hex[] = "0123456789abcdef";
	char text[6] = {'\\', (char)escapes[c], '0', '0', hex[c >> 4], hex[c & 15]};
	buf_append(out, text, escapes[c] == 'u' ? 6 : 2);
}

/* buf_append_char without the calls where there is room. */
static void put_char(struct buf *out, char c)
{
	if (!out->failed && out->len < out->max && out->cap - out->len > 1)
		out->data[out->len++] = (unsigned char)c;
	else
		buf_append_char(out, c);
}

static size_t plain_span(const char *p, size_t n)
{
	size_t i = 0;
	while (i < n && !escapes[(unsigned char)p[i]])
		i++;
	return i;
}

/* `run`: the plain bytes at the start. */
static void write_string_from(struct buf *out, const char *p, size_t n, size_t run)
{
	put_char(out, '"');
	for (;;) {
		buf_append(out, p, run);
		if (run == n)
			break;
		write_escape(out, (unsigned char)p[run]);
		p += run + 1;
		n -= run + 1;
		run = plain_span(p, n);
	}
	put_char(out, '"');
}

static void write_string(struct buf *out, const char *p, size_t n)
{
	write_string_from(out, p, n, plain_span(p, n));
}

static int write_checked_string(struct writer *w, const msgpack_object_str *s, const struct node *at)
{
	size_t run = plain_span(s->ptr, s->size);
	if (run < s->size && memchr(s->ptr + run, '\0', s->size - run))
		return refuse(w, at, "U+0000 in a string");
	write_string_from(w->out, s->ptr, s->size, run);
	return w->out->failed;
}

/* ---- containers ---- */

static int write_array(struct writer *w, const msgpack_object_array *a, const struct node *up, unsigned depth)
{
	struct node at = {.up = up};
	w->extra += a->size > 0 ? a->size - 1 : 0; /* a space after each comma */
	put_char(w->out, '[');
	for (; at.index < a->size; at.index++) {
		if (at.index > 0)
			put_char(w->out, ',');
		int r = write_value(w, &a->ptr[at.index], &at, depth);
		if (r < 0)
			return r;
	}
	put_char(w->out, ']');
	return w->out->failed;
}

static int write_map(struct writer *w, const msgpack_object_map *m, const struct node *up, unsigned depth)
{
	struct node at = {.up = up};
	w->extra += m->size > 0 ? 2 * (int64_t)m->size - 1 : 0; /* and each colon */
	put_char(w->out, '{');
	for (uint32_t i = 0; i < m->size; i++) {
		const msgpack_object_kv *kv = &m->ptr[i];
		if (kv->key.type != MSGPACK_OBJECT_STR)
			return refuse(w, up, "map key is not a string");
		at.key = &kv->key;
		if (i > 0)
			put_char(w->out, ',');
		int r = write_checked_string(w, &kv->key.via.str, &at);
		if (r < 0)
			return r;
		put_char(w->out, ':');
		r = write_value(w, &kv->val, &at, depth);
		if (r < 0)
			return r;
	}
	put_char(w->out, '}');
	return w->out->failed;
}

static int write_double(struct writer *w, double v, const struct node *at)
{
	if (isnan(v))
		return refuse(w, at, "NaN");
	if (isinf(v))
		return refuse(w, at, "infinity");
	write_finite(w, v);
	return w->out->failed;
}

static int write_container(struct writer *w, const msgpack_object *o, const struct node *at, unsigned depth)
{
	if (depth == MPJSON_MAX_DEPTH)
		return refuse(w, at, "nested too deeply");
	if (o->type == MSGPACK_OBJECT_ARRAY)
		return write_array(w, &o->via.array, at, depth + 1);
	return write_map(w, &o->via.map, at, depth + 1);
}

static int write_value(struct writer *w, const msgpack_object *o, const struct node *at, unsigned depth)
{
	switch (o->type) {
	case MSGPACK_OBJECT_NIL:
		buf_append(w->out, "null", 4);
		return w->out->failed;
	case MSGPACK_OBJECT_BOOLEAN:
		buf_append_str(w->out, o->via.boolean ? "true" : "false");
		return w->out->failed;
	case MSGPACK_OBJECT_POSITIVE_INTEGER:
		if (o->via.u64 > INT64_MAX)
			return refuse(w, at, "integer outside -2^63..2^63-1");
		write_uint(w->out, o->via.u64, false);
		return w->out->failed;
	case MSGPACK_OBJECT_NEGATIVE_INTEGER:
		write_uint(w->out, -(uint64_t)o->via.i64, true);
		return w->out->failed;
	case MSGPACK_OBJECT_FLOAT32:
	case MSGPACK_OBJECT_FLOAT64:
		return write_double(w, o->via.f64, at);
	case MSGPACK_OBJECT_STR:
		return write_checked_string(w, &o->via.str, at);
	case MSGPACK_OBJECT_ARRAY:
	case MSGPACK_OBJECT_MAP:
		return write_container(w, o, at, depth);
	case MSGPACK_OBJECT_BIN:
		return refuse(w, at, "bin value");
	case MSGPACK_OBJECT_EXT:
		break;
	}
	return refuse(w, at, "ext value");
}

int mp_to_json_max(const msgpack_object *o, const char *root_name, size_t max, struct buf *out,
                   struct mpjson_error *ret_err)
{
	struct writer w = {.out = out, .root_name = root_name, .err = ret_err};
	size_t start = out->len;
	int r = write_value(&w, o, NULL, 0);
	if (r == 0 && (uint64_t)((int64_t)(out->len - start) + w.extra) > max)
		r = -EMSGSIZE;
	if (r == -EINVAL || r == -EMSGSIZE)
		out->len = start;
	return r;
}

int mp_to_json(const msgpack_object *o, const char *root_name, struct buf *out, struct mpjson_error *ret_err)
{
	return mp_to_json_max(o, root_name, SIZE_MAX, out, ret_err);
}

/* JSON text to MessagePack in one pass, for the way of every step: nothing is allocated but the growth of the
 * output, and of a scratch buffer for strings with escapes. Containers are written with a header of one byte,
 * which is widened when they are closed with more than it can say. Keys are compared at the end, by the same
 * scan that frames go through. No state, any thread, any locale. */
#include "protocol/mpjson.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/scan.h"
#include "protocol/utf8.h"

#define SMALL_CONTAINER 16u /* elements that a header of one byte can say, plus one */
#define EXACT_DIGITS 15     /* decimal digits that a double always holds */
#define NUMBER_TEXT 64      /* longer numbers are copied to the heap */

struct reader {
	const char *start, *p, *end;
	struct buf *out;
	struct buf scratch;
	struct mpjson_error *err; /* may be NULL */
	bool has_maps;            /* with two keys or more */
};

static int read_value(struct reader *r, unsigned depth);

/* ---- errors ---- */

static int refuse_text(struct mpjson_error *err, const char *what)
{
	if (err) {
		err->path[0] = '\0';
		err->offset = 0;
		utf8_copy(err->what, sizeof err->what, what, strlen(what));
	}
	return -EINVAL;
}

static int refuse_at(const struct reader *r, const char *at, const char *what)
{
	char text[96];
	snprintf(text, sizeof text, "%s at byte %zu", what, (size_t)(at - r->start));
	refuse_text(r->err, text);
	if (r->err)
		r->err->offset = (size_t)(at - r->start);
	return -EINVAL;
}

static int not_json(const struct reader *r)
{
	return refuse_at(r, r->p, "not JSON");
}

/* ---- parts ---- */

static void skip_blanks(struct reader *r)
{
	while (r->p < r->end && (*r->p == ' ' || *r->p == '\n' || *r->p == '\t' || *r->p == '\r'))
		r->p++;
}

/* The next byte after blanks, or 0 at the end. */
static char next_char(struct reader *r)
{
	skip_blanks(r);
	return r->p < r->end ? *r->p : '\0';
}

static int read_word(struct reader *r, const char *word)
{
	size_t n = strlen(word);
	if ((size_t)(r->end - r->p) < n || memcmp(r->p, word, n) != 0)
		return not_json(r);
	r->p += n;
	if (*word == 'n')
		mp_nil(r->out);
	else
		mp_bool(r->out, *word == 't');
	return r->out->failed;
}

/* ---- numbers ---- */

static const char *digits(const char *p, const char *end)
{
	while (p < end && *p >= '0' && *p <= '9')
		p++;
	return p;
}

/* The end of the number at `p`, or NULL if there is none. *ret_integer: it has neither point nor exponent. */
static const char *number_end(const char *p, const char *end, bool *ret_integer)
{
	const char *q;
	*ret_integer = true;
	p += p < end && *p == '-';
	q = digits(p, end);
	if (q == p || (*p == '0' && q > p + 1))
		return NULL;
	if (q < end && *q == '.') {
		*ret_integer = false;
		p = q + 1;
		q = digits(p, end);
		if (q == p)
			return NULL;
	}
	if (q < end && (*q == 'e' || *q == 'E')) {
		*ret_integer = false;
		p = q + 1;
		p += p < end && (*p == '+' || *p == '-');
		q = digits(p, end);
		if (q == p)
			return NULL;
	}
	return q;
}

/* False if it does not fit. */
static bool to_int64(const char *p, const char *end, int64_t *ret)
{
	bool negative = *p == '-';
	uint64_t v = 0;
	for (p += negative; p < end; p++)
		if (__builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
			return false;
	if (v > (uint64_t)INT64_MAX + negative)
		return false;
	*ret = negative ? (int64_t)(0 - v) : (int64_t)v;
	return true;
}

/* "-12.375": at most 15 digits and no exponent. Both parts are exact then, and division rounds correctly. */
static bool to_short_double(const char *p, const char *end, double *ret)
{
	static const double pow10[] = {1,   1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
	                               1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
	bool negative = *p == '-';
	const char *point = NULL;
	uint64_t v = 0;
	p += negative;
	if (end - p > EXACT_DIGITS + 1)
		return false;
	for (; p < end; p++) {
		if (*p == '.')
			point = p;
		else if (*p >= '0' && *p <= '9')
			v = v * 10 + (uint64_t)(*p - '0');
		else
			return false;
	}
	if (!point)
		return false;
	*ret = (double)v / pow10[end - point - 1];
	if (negative)
		*ret = -*ret;
	return true;
}

/* The C locale is always there, and neither made nor freed by these calls. */
static double to_double(const char *text)
{
	locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	double v = c ? strtod_l(text, NULL, c) : NAN;
	freelocale(c);
	return v;
}

static int read_long_double(struct reader *r, const char *end)
{
	size_t n = (size_t)(end - r->p);
	char small[NUMBER_TEXT], *text = n < sizeof small ? small : malloc(n + 1);
	if (!text)
		return -ENOMEM;
	memcpy(text, r->p, n);
	text[n] = '\0';
	double v = to_double(text);
	if (text != small)
		free(text);
	if (!isfinite(v))
		return refuse_at(r, r->p, "number outside the range of a double");
	mp_double(r->out, v);
	return 0;
}

static int read_number(struct reader *r)
{
	bool integer;
	int64_t i;
	double d;
	int rc = 0;
	const char *end = number_end(r->p, r->end, &integer);
	if (!end)
		return not_json(r);
	if (integer && to_int64(r->p, end, &i))
		mp_int(r->out, i);
	else if (!integer && to_short_double(r->p, end, &d))
		mp_double(r->out, d);
	else
		rc = read_long_double(r, end);
	r->p = end;
	return rc < 0 ? rc : r->out->failed;
}

/* ---- strings ---- */

/* What `\` and this byte stand for; 0: something else. */
// clang-format off
static const char unescaped[256] = {
	['"'] = '"', ['\\'] = '\\', ['/'] = '/', ['b'] = '\b', ['f'] = '\f', ['n'] = '\n', ['r'] = '\r', ['t'] = '\t',
};
// clang-format on

/* Four hex digits, or -1. */
static int32_t hex4(const char *p, const char *end)
{
	/* Both cases: the value is the place, modulo 16. */
	static const char digits16[] = "0123456789abcdef0123456789ABCDEF";
	int32_t v = 0;
	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		const char *at = p[i] ? strchr(digits16, p[i]) : NULL;
		if (!at)
			return -1;
		v = v * 16 + (int32_t)(at - digits16) % 16;
	}
	return v;
}

static void put_utf8(struct buf *b, uint32_t c)
{
	char t[4];
	size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
	for (size_t i = n - 1; i > 0; i--, c >>= 6)
		t[i] = (char)(0x80 | (c & 0x3F));
	t[0] = (char)(lead[n] | c);
	buf_append(b, t, n);
}

/* r->p is at the hex digits of \uXXXX. */
static int read_unicode(struct reader *r)
{
	int32_t high = hex4(r->p, r->end), low;
	if (high == 0)
		return refuse_at(r, r->p, "U+0000 in a string");
	if (high < 0 || (high >= 0xDC00 && high < 0xE000))
		return not_json(r);
	r->p += 4;
	if (high < 0xD800 || high >= 0xE000) {
		put_utf8(&r->scratch, (uint32_t)high);
		return 0;
	}
	if (r->end - r->p < 6 || r->p[0] != '\\' || r->p[1] != 'u')
		return not_json(r);
	low = hex4(r->p + 2, r->end);
	if (low < 0xDC00 || low >= 0xE000)
		return not_json(r);
	r->p += 6;
	put_utf8(&r->scratch, 0x10000u + ((uint32_t)(high - 0xD800) << 10) + (uint32_t)(low - 0xDC00));
	return 0;
}

static int read_escape(struct reader *r)
{
	r->p++;
	if (r->p == r->end)
		return not_json(r);
	unsigned char c = (unsigned char)*r->p;
	if (c == 'u') {
		r->p++;
		return read_unicode(r);
	}
	if (!unescaped[c])
		return not_json(r);
	buf_append_char(&r->scratch, unescaped[c]);
	r->p++;
	return 0;
}

/* The end of the bytes at r->p that stand for themselves. */
static const char *plain_end(const struct reader *r)
{
	const char *q = r->p;
	while (q < r->end && *q != '"' && *q != '\\' && (unsigned char)*q >= 0x20)
		q++;
	return q;
}

static int check_utf8(const struct reader *r, const char *end)
{
	size_t n = (size_t)(end - r->p), good = utf8_span(r->p, n);
	return good == n ? 0 : refuse_at(r, r->p + good, "invalid UTF-8");
}

/* The rest of a string that has an escape; r->p is at its first plain byte or escape. */
static int read_escaped(struct reader *r)
{
	buf_reset(&r->scratch);
	for (;;) {
		const char *q = plain_end(r);
		int rc = check_utf8(r, q);
		if (rc < 0)
			return rc;
		buf_append(&r->scratch, r->p, (size_t)(q - r->p));
		r->p = q;
		if (q < r->end && *q == '"')
			break;
		if (q == r->end || *q != '\\')
			return not_json(r);
		rc = read_escape(r);
		if (rc < 0)
			return rc;
	}
	r->p++;
	if (r->scratch.failed)
		return r->scratch.failed;
	mp_strn(r->out, (const char *)r->scratch.data, r->scratch.len);
	return r->out->failed;
}

static int read_string(struct reader *r)
{
	r->p++;
	const char *q = plain_end(r);
	if (q == r->end || *q != '"')
		return read_escaped(r);
	int rc = check_utf8(r, q);
	if (rc < 0)
		return rc;
	mp_strn(r->out, r->p, (size_t)(q - r->p));
	r->p = q + 1;
	return r->out->failed;
}

/* ---- containers ---- */

/* Write the header of the container at `mark`, now that it is known to have `n` elements. */
static int close_container(struct buf *out, size_t mark, size_t n, bool map)
{
	if (out->failed)
		return out->failed;
	if (n < SMALL_CONTAINER) {
		out->data[mark] = (unsigned char)((map ? 0x80u : 0x90u) | n);
		return 0;
	}
	size_t more = n <= UINT16_MAX ? 2 : 4, content = out->len - mark - 1;
	if (n > UINT32_MAX)
		return -EMSGSIZE;
	if (!buf_reserve(out, more))
		return out->failed;
	unsigned char *h = out->data + mark;
	memmove(h + 1 + more, h + 1, content);
	h[0] = (unsigned char)((map ? 0xDEu : 0xDCu) + (more == 4));
	for (size_t i = 0; i < more; i++)
		h[1 + i] = (unsigned char)(n >> 8 * (more - 1 - i));
	buf_added(out, more);
	return 0;
}

static int read_entry(struct reader *r, bool map, unsigned depth)
{
	if (map) {
		if (next_char(r) != '"')
			return not_json(r);
		int rc = read_string(r);
		if (rc < 0)
			return rc;
		if (next_char(r) != ':')
			return not_json(r);
		r->p++;
	}
	return read_value(r, depth + 1);
}

static int read_container(struct reader *r, bool map, unsigned depth)
{
	const char close = map ? '}' : ']';
	size_t mark = r->out->len, n = 0;
	if (depth == MPJSON_MAX_DEPTH)
		return refuse_text(r->err, "nested too deeply");
	buf_append_char(r->out, '\0');
	r->p++;
	if (next_char(r) == close) {
		r->p++;
		return close_container(r->out, mark, 0, map);
	}
	for (;;) {
		int rc = read_entry(r, map, depth);
		if (rc < 0)
			return rc;
		n++;
		char c = next_char(r);
		if (c != close && c != ',')
			return not_json(r);
		r->p++;
		if (c == close)
			break;
	}
	r->has_maps = r->has_maps || (map && n > 1);
	return close_container(r->out, mark, n, map);
}

static int read_value(struct reader *r, unsigned depth)
{
	switch (next_char(r)) {
	case '{':
		return read_container(r, true, depth);
	case '[':
		return read_container(r, false, depth);
	case '"':
		return read_string(r);
	case 't':
		return read_word(r, "true");
	case 'f':
		return read_word(r, "false");
	case 'n':
		return read_word(r, "null");
	default:
		return read_number(r);
	}
}

/* ---- the whole ---- */

static int check_keys(const struct reader *r, size_t start)
{
	const struct scan_limits limits = {.max_items = SIZE_MAX, .max_depth = SCAN_MAX_DEPTH};
	struct scan_error why;
	int rc = scan_value(r->out->data + start, r->out->len - start, &limits, &why);
	return rc == -EBADMSG ? refuse_text(r->err, "duplicate key") : rc;
}

static int read_all(struct reader *r, size_t start)
{
	int rc = read_value(r, 0);
	if (rc < 0)
		return rc;
	skip_blanks(r);
	if (r->p < r->end)
		return refuse_at(r, r->p, "text after the value");
	return r->has_maps ? check_keys(r, start) : 0;
}

int json_to_mp(const char *text, size_t len, struct buf *out, struct mpjson_error *ret_err)
{
	struct reader r = {.start = text, .p = text, .end = text + len, .out = out, .err = ret_err};
	size_t start = out->len;
	if (len > 0 && memchr(text, '\0', len))
		return refuse_text(ret_err, "NUL byte");
	buf_init(&r.scratch, 0);
	int rc = read_all(&r, start);
	buf_done(&r.scratch);
	if (rc == -EINVAL)
		out->len = start;
	return rc;
}

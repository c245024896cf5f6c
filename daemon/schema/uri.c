#include "daemon/schema/uri.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/buf.h"

struct part {
	const char *s;
	size_t n;
	bool there;
};

struct uri {
	/* the scheme with its ':', the authority with its "//", the query with its '?' */
	struct part scheme, authority, path, query;
};

static struct part cut(const char **p, const char *end, size_t n)
{
	struct part r = {*p, n, n > 0};
	*p = n <= (size_t)(end - *p) ? *p + n : end;
	return r;
}

static size_t span_until(const char *p, const char *end, const char *stops)
{
	size_t n = 0;
	while (p + n < end && !(p[n] && strchr(stops, p[n])))
		n++;
	return n;
}

static struct uri split(const char *p, const char *end)
{
	struct uri u = {0};
	size_t n = span_until(p, end, ":/?#");
	if (n > 0 && p + n < end && p[n] == ':' && isalpha((unsigned char)*p))
		u.scheme = cut(&p, end, n + 1);
	if (end - p >= 2 && p[0] == '/' && p[1] == '/')
		u.authority = cut(&p, end, 2 + span_until(p + 2, end, "/?#"));
	u.path = cut(&p, end, span_until(p, end, "?#"));
	u.query = cut(&p, end, span_until(p, end, "#"));
	return u;
}

static void put(struct buf *out, const struct part *p)
{
	buf_append(out, p->s, p->there ? p->n : 0);
}

/* Append a path without its "." and ".." parts. */
static void put_clean(struct buf *out, const char *p, size_t len)
{
	size_t start = out->len;
	const char *end = p + len;
	while (p < end) {
		const char *slash = memchr(p + 1, '/', (size_t)(end - p - 1));
		size_t n = slash ? (size_t)(slash - p) : (size_t)(end - p);
		bool one = n == 2 && memcmp(p, "/.", 2) == 0, two = n == 3 && memcmp(p, "/..", 3) == 0;
		while (two && out->len > start && out->data[--out->len] != '/')
			;
		if (!one && !two)
			buf_append(out, p, n);
		else if (!slash)
			buf_append_char(out, '/');
		p += n;
	}
}

static void put_merged(struct buf *out, const struct uri *base, const struct uri *ref)
{
	struct buf path;
	size_t n = base->path.there ? base->path.n : 0;
	while (n > 0 && base->path.s[n - 1] != '/')
		n--;
	buf_init(&path, 0);
	buf_append(&path, base->path.s, n);
	if (n == 0 && base->authority.there)
		buf_append_char(&path, '/');
	put(&path, &ref->path);
	put_clean(out, path.data ? (const char *)path.data : "", path.len);
	if (path.failed)
		out->failed = path.failed;
	buf_done(&path);
}

static void put_resolved(struct buf *out, const struct uri *base, const struct uri *ref)
{
	bool own = ref->scheme.there || ref->authority.there;
	put(out, ref->scheme.there ? &ref->scheme : &base->scheme);
	put(out, own ? &ref->authority : &base->authority);
	if (!own && !ref->path.there)
		put(out, &base->path);
	else if (own || ref->path.s[0] == '/')
		put_clean(out, ref->path.there ? ref->path.s : "", ref->path.n);
	else
		put_merged(out, base, ref);
	put(out, own || ref->path.there || ref->query.there ? &ref->query : &base->query);
}

char *uri_resolve(const char *base, const char *ref, size_t len, const char **ret_fragment)
{
	const char *hash = memchr(ref, '#', len);
	struct uri b = split(base, base + strlen(base)), r = split(ref, hash ? hash : ref + len);
	struct buf out;
	*ret_fragment = hash ? hash + 1 : NULL;
	buf_init(&out, 0);
	put_resolved(&out, &b, &r);
	char *text = buf_take_text(&out);
	buf_done(&out);
	return text;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
	                              : -1;
}

size_t uri_unescape(char *text)
{
	char *out = text;
	for (const char *p = text; *p; p++) {
		int hi = *p == '%' ? hex_digit(p[1]) : -1, lo = hi >= 0 ? hex_digit(p[2]) : -1;
		if (lo >= 0) {
			*out++ = (char)(hi * 16 + lo);
			p += 2;
		} else {
			*out++ = *p;
		}
	}
	*out = '\0';
	return (size_t)(out - text);
}
